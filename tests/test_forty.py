"""Forty control-flow programs in four modes: equal bits and equal gradients."""

from __future__ import annotations

from typing import Any

import pytest

import proa as pa
from proa.compile.find import default_device, set_default_device
from proa.errors import JitError
from tests.helpers_forty import PROGRAMS, Program

DEVICES = ("numpy", "cpu")
# Cells that say so and run without `jit`: each with what the warning says.
FAILS = {("triangle", "jit"): "index of a recorded tensor"}  # range() of a tensor needs convert
WARNS: dict[tuple[str, str], str] = {
    ("collatz", "jit"): "more than 64 tests of tensors in one call",
    ("count_primes", "jit"): "more than 64 tests of tensors in one call",
}


@pytest.fixture(params=DEVICES, autouse=True)
def device(request: Any) -> Any:
    before = default_device()
    set_default_device(request.param)
    yield
    set_default_device(before)


def arguments(call: tuple[Any, ...]) -> list[Any]:
    """Fresh tensors; bools and strings stay what they are."""
    return [a if isinstance(a, (bool, str)) else pa.asarray(a) for a in call]


def same(found: Any, expected: Any, where: str = "result") -> None:
    """Equal bits. A Python number of dynamic mode may be a tensor that stands for one."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for k in expected:
            same(found[k], expected[k], f"{where}[{k!r}]")
    elif isinstance(expected, (tuple, list)):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            same(a, b, f"{where}[{i}]")
    elif type(expected) is pa.Tensor and type(found) is pa.Tensor:
        a, b = found.numpy(), expected.numpy()
        assert a.shape == b.shape, f"{where}: {a} is not {b}"
        if not found.value.spec.weak:
            assert a.dtype == b.dtype, f"{where}: {a.dtype} is not {b.dtype}"
        assert a.astype(b.dtype).tobytes() == b.tobytes(), f"{where}: {a} is not {b}"
    else:
        a, b = number(found), number(expected)
        assert a == b, f"{where}: {a} is not {b}"


def number(x: Any) -> Any:
    return x.item() if type(x) is pa.Tensor else x


def total(result: Any) -> Any:
    """One number of all float results, by which a program is differentiated."""
    rows = [t for t in pa.tree.flatten(result)[0] if type(t) is pa.Tensor and t.dtype.is_float]
    found = pa.zeros(())
    for t in rows:
        found = found + (t.astype(pa.float32) * 0.5).sum()
    return found


def gradients(program: Program, function: Any, call: tuple[Any, ...]) -> Any:
    return pa.grad(lambda *a: total(function(*a)), argnums=program.by)(*arguments(call))


def agrees(program: Program, function: Any, calls: int) -> None:
    for call in program.calls:
        expected = program.function(*arguments(call))
        for _ in range(calls):
            same(function(*arguments(call)), expected)
    if program.by and not program.endless:
        for call in program.calls:
            expected = gradients(program, program.function, call)
            for _ in range(calls):
                same(gradients(program, function, call), expected, "gradient")


def cell(name: str, mode: str, run: Any) -> None:
    """A cell of the table: it works, or it is listed as one that says why not."""
    if (name, mode) in FAILS:
        with pytest.raises(JitError, match=FAILS[name, mode]):
            run()
        return
    if (name, mode) not in WARNS:
        run()
        return
    with pytest.warns(RuntimeWarning, match=WARNS[name, mode]):
        run()


@pytest.mark.parametrize("name", PROGRAMS)
def test_dynamic(name: str) -> None:
    program = PROGRAMS[name]
    for call in program.calls:
        same(program.function(*arguments(call)), program.function(*arguments(call)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_convert(name: str) -> None:
    program = PROGRAMS[name]
    jitted = pa.jit(program.function, convert=True)
    cell(name, "convert", lambda: agrees(program, jitted, 4))


@pytest.mark.parametrize("name", PROGRAMS)
def test_jit(name: str) -> None:
    program = PROGRAMS[name]
    cell(name, "jit", lambda: agrees(program, pa.jit(program.function), 4))


def test_there_are_forty() -> None:
    assert len(PROGRAMS) == 40
    assert len(FAILS) + len(WARNS) <= 6
