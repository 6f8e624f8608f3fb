"""Forty control-flow programs, exported and loaded: equal bits and equal gradients, or a named error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import proa as pa
from proa.compile.find import default_device, set_default_device
from proa.errors import JitError
from tests.helpers_forty import PROGRAMS
from tests.test_forty import arguments, gradients, same

# Cells that are errors by design, each with its reason; one that begins to work fails its test.
ERRORS = {"python_and_tensor_tests": "pa.print is an effect, and a file has none"}


@pytest.fixture(params=("numpy", "cpu"), autouse=True)
def device(request: Any) -> Any:
    before = default_device()
    set_default_device(request.param)
    yield
    set_default_device(before)


@pytest.mark.parametrize("name", PROGRAMS)
def test_exported(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]
    loaded: dict[Any, Any] = {}
    for call in program.calls:
        args = arguments(call)
        key = tuple([(a.shape, a.dtype) if isinstance(a, pa.Tensor) else a for a in args])
        if name in ERRORS:
            with pytest.raises(JitError):
                pa.export(program.function, args, tmp_path / "f")
            continue
        if key not in loaded:
            pa.export(program.function, args, tmp_path / "f")
            loaded[key] = pa.load(tmp_path / "f")
        same(loaded[key](*args), program.function(*arguments(call)))
        if program.by and not program.endless:
            expected = gradients(program, program.function, call)
            same(gradients(program, loaded[key], call), expected, "gradient")


def test_a_loop_that_data_ends_is_one_operation(tmp_path: Path) -> None:
    def halved(x: Any) -> Any:
        while x.sum() > 1.0:
            x = x * 0.5
        return x if x.sum() > 0.25 else -x

    pa.export(halved, [pa.spec(("n",))], tmp_path / "f")
    loaded = pa.load(tmp_path / "f")
    names = [s.entry.primitive.name for s in loaded.graph(n=4).steps]
    assert names.count("loop") == 1 and names.count("branch") == 1
    for n in (1, 3, 8):
        assert loaded(pa.ones(n)).tolist() == halved(pa.ones(n)).tolist()
