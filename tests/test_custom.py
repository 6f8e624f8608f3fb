"""Rules of one's own are never stale, and what `asarray` is given is never bent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.errors import ArgumentError


def test_a_rule_given_again_holds() -> None:
    @pa.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))
    x = pa.asarray(2.0)
    jitted = pa.jit(lambda x: pa.grad(f)(x) * 1.0)
    for _ in range(6):
        assert pa.grad(f)(x).item() == jitted(x).item() == 6.0
    f.defvjp(lambda x: (x * x, x), lambda x, ct: (5.0 * x * ct,))
    for _ in range(6):
        assert pa.grad(f)(x).item() == jitted(x).item() == 10.0


@pytest.mark.parametrize("which", ["function", "forward", "backward"])
def test_what_a_rule_can_reach_counts(which: str) -> None:
    on = [True]

    def flagged(x: Any) -> Any:
        return x * x if on[0] else x + x

    def plain(x: Any) -> Any:
        return x * x

    @pa.custom_vjp
    def f(x: Any) -> Any:
        return flagged(x) if which == "function" else plain(x)

    f.defvjp(
        lambda x: (x * x, x * x if which != "forward" or on[0] else x),
        lambda r, ct: (r * ct if which != "backward" or on[0] else -r * ct,),
    )
    x = pa.asarray(3.0)
    before = (9.0, 9.0)
    after = {"function": (6.0, 9.0), "forward": (9.0, 3.0), "backward": (9.0, -9.0)}[which]
    jitted = pa.jit(lambda x: (f(x), pa.grad(f)(x)))
    for expected, flag in ((before, True), (after, False), (before, True)):
        on[0] = flag
        for _ in range(6):
            assert (f(x).item(), pa.grad(f)(x).item()) == expected
            assert tuple(t.item() for t in jitted(x)) == expected


def test_rules_are_traced_once_where_nothing_changes() -> None:
    @pa.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, ct: (2.0 * x * ct,))
    for _ in range(5):
        f(pa.asarray(2.0))
    assert len(f.traces) == 1


@pytest.mark.parametrize("given", [[1, 2**63], [-1, 2**63], [[1, 2], [3, 2**64]], [True, 2**63]])
def test_ints_that_int64_does_not_hold(given: Any) -> None:
    with pytest.raises(ArgumentError, match="int64"):
        pa.asarray(given)


def test_ints_with_a_dtype_that_holds_them() -> None:
    assert pa.asarray([1, 2**63], dtype=pa.uint64).tolist() == [1, 2**63]
    assert pa.asarray([-1, 2**63], dtype=pa.float64).tolist() == [-1.0, 2.0**63]
    assert pa.asarray([]).dtype is pa.float32
    with pytest.raises(ArgumentError, match="uint64"):
        pa.asarray([-1, 2**63], dtype=pa.uint64)


def test_masked_arrays() -> None:
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for function in (pa.asarray, pa.from_numpy, pa.from_dlpack):
        with pytest.raises(ArgumentError, match=r"\.filled\("):
            function(masked)
    with pytest.raises(ArgumentError, match=r"\.filled\("):
        pa.asarray([masked, masked])
    assert pa.asarray(np.ma.array([1.0, 2.0])).tolist() == [1.0, 2.0]
