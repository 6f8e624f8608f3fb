"""Running results along an axis: the largest, the smallest, the logarithm of a sum of powers.

Each takes log2(n) rounds, which join neighbours that are twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proa.dtypes import int64
from proa.ops.arithmetic import eq, inf, le, select
from proa.ops.composite.common import floating, stopped, wide
from proa.ops.creation import iota
from proa.ops.expand import composite
from proa.ops.functions import exp, is_finite, log1p, not_
from proa.ops.indexing import take_along
from proa.ops.movement import concatenate, slice_
from proa.ops.primitive import Primitive, Sample, apply, value_of
from proa.shapes import as_axis

Join = Callable[[Any, Any], Any]


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    shape = x.value.spec.shape
    starts = tuple([start if i == axis else 0 for i in range(len(shape))])
    stops = tuple([stop if i == axis else n for i, n in enumerate(shape)])
    return apply(slice_, (x,), starts=starts, stops=stops, strides=(1,) * len(shape))


def _joined(parts: tuple[Any, ...], axis: int, join: Callable[..., Any]) -> tuple[Any, ...]:
    """`join(earlier, later)` of all that lies before each element and of itself."""
    size, distance = parts[0].value.spec.shape[axis], 1
    while distance < size:
        before = [_part(p, axis, 0, size - distance) for p in parts]
        later = [_part(p, axis, distance, size) for p in parts]
        found = join(before, later)
        first = [_part(p, axis, 0, distance) for p in parts]
        parts = tuple(
            [apply(concatenate, (a, b), axis=axis) for a, b in zip(first, found, strict=True)]
        )
        distance *= 2
    return parts


def _extreme(wins: Join) -> Callable[..., Any]:
    """The places of winners are found first: the derivative is that of reading there."""

    def expand(x: Any, axis: int) -> Any:
        keys = stopped(x) if x.spec.dtype.is_float else x
        places = apply(iota, (), shape=x.spec.shape, axis=axis, dtype=int64)

        def join(before: list[Any], later: list[Any]) -> list[Any]:
            mine = wins(later[0], before[0])
            return [select(mine, b, a) for a, b in zip(before, later, strict=True)]

        _, places = _joined((keys, places), axis, join)
        return take_along(x, places, axis)

    return expand


def _beats(x: Any, y: Any, smaller: Any, larger: Any) -> Any:
    """Whether the later x replaces the earlier y: at ties too; NaN stays once it is there."""
    found = le(smaller, larger)
    if x.value.spec.dtype.is_float:
        found = eq(y, y) & (found | not_(eq(x, x)))
    return found


SAMPLES = [
    Sample(((5,),), {"axis": 0}), Sample(((2, 3, 4),), {"axis": 1}), Sample(((2, 0),), {"axis": 1})
]  # fmt: skip

_cummax = composite(
    "cummax", _extreme(lambda x, y: _beats(x, y, y, x)), params=("axis",), samples=SAMPLES,
    doc="The largest of the first 1, 2, 3, ... elements; NaN from the first NaN on.",
)  # fmt: skip

_cummin = composite(
    "cummin", _extreme(lambda x, y: _beats(x, y, x, y)), params=("axis",), samples=SAMPLES,
    doc="The smallest of the first 1, 2, 3, ... elements; NaN from the first NaN on.",
)  # fmt: skip


def _log_added(before: list[Any], later: list[Any]) -> list[Any]:
    """log(e^a + e^b) by the larger one; of two equal infinities that one."""
    (a,), (b,) = before, later
    is_larger = le(a, b)
    high, low = select(is_larger, b, a), select(is_larger, a, b)
    apart = low - high
    apart = select(is_finite(apart) | not_(eq(high, high)), apart, -inf)
    return [high + log1p(exp(apart))]


def _logcumsumexp_expand(x: Any, axis: int) -> Any:
    return _joined((x,), axis, _log_added)[0]


_logcumsumexp = composite(
    "logcumsumexp", wide(_logcumsumexp_expand), params=("axis",), samples=SAMPLES,
    doc="log(sum(e^x)) of the first 1, 2, 3, ... elements along an axis, without overflow.",
)  # fmt: skip


def _along(op: str, primitive: Primitive, x: Any, axis: int) -> Any:
    return apply(primitive, (x,), axis=as_axis(op, axis, value_of(op, x).spec.ndim))


def cummax(x: Any, axis: int = -1) -> Any:
    """The largest of the first 1, 2, 3, ... elements along an axis; NaN from the first NaN on. The
    gradient goes to the last of equal ones.

    >>> import proa as pa
    >>> pa.cummax(pa.asarray([1, 3, 2])).tolist()
    [1, 3, 3]
    """
    return _along("cummax", _cummax, x, axis)


def cummin(x: Any, axis: int = -1) -> Any:
    """The smallest of the first 1, 2, 3, ... elements along an axis; NaN from the first NaN on. The
    gradient goes to the last of equal ones.

    >>> import proa as pa
    >>> pa.cummin(pa.asarray([3, 1, 2])).tolist()
    [3, 1, 1]
    """
    return _along("cummin", _cummin, x, axis)


def logcumsumexp(x: Any, axis: int = -1) -> Any:
    """log(e^x0), log(e^x0 + e^x1), ... along an axis, without overflow. x: float.

    >>> import proa as pa
    >>> pa.logcumsumexp(pa.asarray([1000.0, -1000.0])).tolist()
    [1000.0, 1000.0]
    """
    return _along("logcumsumexp", _logcumsumexp, floating("logcumsumexp", "x", x), axis)
