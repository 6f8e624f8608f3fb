"""The Array API standard 2024.12: every function of its main namespace, as docs/array_api.md says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.errors import ArgumentError
from tests import helpers_array_api as api
from tools.array_api import PAGE, Row, _cell, members, row_of

FUNCTIONS = list(api.signatures())
LINE = re.compile(r"^\| `([^`]+)` \| (.*) \|$", re.M)


def told() -> dict[str, str]:
    return dict(LINE.findall(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    """Nothing but complex numbers is missing, and the page says what is."""
    row = row_of(name)
    assert row.is_real, row
    cells = " | ".join(map(_cell, row[1:]))
    assert told()[name] == cells, "run python tools/array_api.py"


def test_the_page_names_every_function() -> None:
    assert set(told()) == set(FUNCTIONS)


def test_members() -> None:
    assert [r for r in members() if not r.is_real] == []
    row = Row("x", "", None, "", "wrong")
    assert row.is_real and not row.is_whole


def test_inspection() -> None:
    info = pa.__array_namespace_info__()
    assert info.capabilities()["data-dependent shapes"] and str(info.default_device()) == "cpu"
    assert info.default_dtypes()["real floating"] is pa.float32
    assert info.dtypes()["bool"] is pa.bool and "float16" not in info.dtypes()
    assert set(info.dtypes(kind=("unsigned integer", "bool"))) == {
        "bool", "uint8", "uint16", "uint32", "uint64",
    }  # fmt: skip
    assert info.default_device() in info.devices() and pa.__array_api_version__ == "2024.12"
    x = pa.ones(2)
    assert x.__array_namespace__(api_version="2024.12") is pa
    with pytest.raises(ArgumentError):
        x.__array_namespace__(api_version="2019.01")
    assert str(x.to_device("numpy").device) == "numpy" and x.to_device(x.device) is x
    with pytest.raises(ArgumentError):
        x.to_device("cpu", stream=1)


def test_size_under_jit() -> None:
    """RULES 1.11: shapes that depend on values are read at once, or given."""
    x = pa.asarray([3.0, 0.0, 3.0, 1.0])
    calls: dict[str, Any] = {
        "nonzero": lambda x, **o: pa.nonzero(x, **o),
        "unique_all": lambda x, **o: tuple(pa.unique_all(x, **o)),
        "unique_values": lambda x, **o: (pa.unique_values(x, **o),),
    }
    for f in calls.values():
        expected = [t.tolist() for t in f(x)]
        jitted = pa.jit(lambda x, f=f: f(x, size=3))
        for _ in range(4):
            assert [t.tolist() for t in jitted(x)] == expected
        with pytest.raises(pa.errors.JitError, match="size="):
            plain = pa.jit(lambda x, f=f: f(x))
            for _ in range(3):
                plain(x)
    found = pa.unique_counts(x, size=5)
    np.testing.assert_array_equal(found.values.numpy(), [0, 1, 3, np.nan, np.nan])
    assert found.counts.tolist() == [1, 1, 2, 0, 0]


def test_unique_values_are_differentiable() -> None:
    x = pa.asarray([3.0, 1.0, 3.0]).requires_grad_()
    (pa.unique_values(x) ** 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [6.0, 2.0, 0.0]
