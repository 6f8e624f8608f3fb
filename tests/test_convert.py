"""Source conversion: the table of constructs, and what an enemy would try."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import proa as pa
from proa.capture.convert import converted
from proa.errors import JitError
from tests.helpers_conversion import ERROR, TABLE, Row
from tests.test_forty import arguments, same

ROOT = Path(__file__).parent.parent


def made(source: str, folder: Path, name: str = "f") -> Any:
    """A function of a module that is written to a file, so that its source can be read."""
    file = folder / "module.py"
    file.write_text(source)
    spec: Any = spec_from_file_location("a_module_of_a_test", file)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def shown(jitted: Any, capsys: Any) -> str:
    capsys.readouterr()
    jitted.show("expand")
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("row", TABLE, ids=lambda r: r.construct)
def test_a_construct(row: Row, tmp_path: Path, capsys: Any) -> None:
    f = made(row.source, tmp_path)
    if row.becomes == ERROR:
        with pytest.raises(JitError) as caught:
            jitted = pa.jit(f, convert=True)
            for _ in range(3):
                for call in row.calls:
                    try:
                        jitted(*arguments(call))
                    except (UnboundLocalError, KeyError, ValueError):
                        pass  # the first call is dynamic, and has Python's own error
        text = str(caught.value)
        assert row.error in text and ", expected " in text and ", try " in text
        assert "module.py:" in text
        return
    jitted = pa.jit(f, convert=True)
    for call in row.calls:
        expected = f(*arguments(call))
        for _ in range(4):
            same(jitted(*arguments(call)), expected)
    if row.node:
        assert f" {row.node}(" in shown(jitted, capsys)


def test_the_chapter_has_the_table() -> None:
    text = (ROOT / "docs" / "tour" / "11-conversion.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for row in TABLE:
        starts = f"| {row.construct} | {row.becomes}"
        assert any(line.startswith(starts) for line in lines), starts
    assert len(
        [x for x in lines if x.split(" | ")[1].startswith(("graph", "Python", "error"))]
    ) == len(TABLE)


def test_a_lambda_is_found_among_others() -> None:
    rows = [lambda x: x if x > 0 else -x, lambda x: x * 2 if x > 0 else -x * 3]
    for f in rows:
        jitted = pa.jit(f, convert=True)
        for given in (1.0, -2.0):
            for _ in range(4):
                same(jitted(pa.asarray(given)), f(pa.asarray(given)))


def test_without_source_it_says_so() -> None:
    space: dict[str, Any] = {}
    exec("def f(x):\n    return x if x > 0 else -x", space)  # noqa: S102
    with pytest.raises(JitError, match=r"`f` without source .* try a file or a notebook's cell"):
        pa.jit(space["f"], convert=True)


def test_cells_are_the_real_ones() -> None:
    scale = 2.0

    def f(x: Any) -> Any:
        return x * scale if x > 0 else x

    jitted = pa.jit(f, convert=True)
    assert [jitted(pa.asarray(1.0)).item() for _ in range(4)] == [2.0] * 4
    scale = 5.0
    assert [jitted(pa.asarray(1.0)).item() for _ in range(4)] == [5.0] * 4


def test_a_change_in_place_that_another_name_would_miss_is_refused() -> None:
    def f(x: Any) -> Any:
        y = z = x * 1
        if x > 0:
            y = y * 2
        y += 1
        return y, z

    jitted = pa.jit(f, convert=True)
    with pytest.raises(pa.errors.ArgumentError, match="would not see"):
        for _ in range(2):
            jitted(pa.asarray(1.0))


def test_vmap_of_a_converted_function() -> None:
    f = converted(lambda x: x if x > 0 else -2 * x)
    assert pa.vmap(f)(pa.asarray([1.0, -1.0])).tolist() == [1.0, 2.0]


def test_numbers_that_meet_numbers_stay_numbers() -> None:
    jitted = pa.jit(lambda x, s: (x * (s + 1.0), x * (s / 3)))
    for i in range(5):
        a, b = jitted(pa.asarray([1.0, 2.0]), i)
        same([a, b], [pa.asarray([1.0, 2.0]) * (i + 1.0), pa.asarray([1.0, 2.0]) * (i / 3)])
        assert a.dtype is b.dtype is pa.float32
