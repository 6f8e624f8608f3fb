"""Places found by values: in a sorted tensor, of what is true, of what differs."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from proa.dtypes import bool_, int64
from proa.errors import DtypeError, ShapeError, message
from proa.graph.spec import spec
from proa.ops.arithmetic import eq, le, lt, select
from proa.ops.composite.common import choice, integers
from proa.ops.creation import iota
from proa.ops.expand import composite
from proa.ops.functions import not_
from proa.ops.indexing import gather, scatter
from proa.ops.movement import broadcast, concatenate, slice_, zeros
from proa.ops.primitive import NUMERIC, Sample, apply, as_number, cast_to, promoted, value_of
from proa.ops.scans import cumsum, sort

ONE_AXIS = {"axes": (0,), "batch": 0}


def count_up(size: int) -> Any:
    """0, 1, 2, ..., int64."""
    return apply(iota, (), shape=(size,), axis=0, dtype=int64)


def is_nan(x: Any) -> Any:
    return not_(eq(x, x))


# searchsorted.


def _before(a: Any, v: Any, side: str) -> Any:
    """Whether v belongs behind a: NaN is larger than every number."""
    if side == "left":
        found = lt(a, v)
        return found | (is_nan(v) & not_(is_nan(a))) if v.value.spec.dtype.is_float else found
    found = le(a, v)
    return found | is_nan(v) if v.value.spec.dtype.is_float else found


def _searchsorted_expand(a: Any, v: Any, side: str) -> Any:
    """Every place at once, from the highest bit of its number to the lowest."""
    size = a.value.spec.shape[0]
    found = zeros(v.value.spec.shape, spec((), int64))
    for bit in reversed(range(size.bit_length())):
        there = found + 2**bit
        read = apply(gather, (a, there - 1), **ONE_AXIS)
        goes_on = le(there, size) & _before(read, v, side)
        found = select(goes_on, there, found)
    return found


_searchsorted = composite(
    "searchsorted", _searchsorted_expand, params=("side",), differentiable=False,
    samples=[Sample(((5,), (2, 3)), {"side": "left"}), Sample(((4,), ()), {"side": "right"}),
             Sample(((0,), (3,)), {"side": "left"}),
             Sample((((3,), "int32"), ((2,), "int32")), {"side": "right"})],
    doc="For each v the place in a sorted tensor where it belongs, by halving.",
)  # fmt: skip


def searchsorted(x1: Any, x2: Any, side: str = "left", sorter: Any = None) -> Any:
    """For each element of x2 the place in x1 where it would be put to keep x1 sorted, int64: before
    equal ones ("left") or behind them ("right"). NaN is larger than every number.

    x1: one axis, ascending, or with `sorter` (from `argsort`) in that order; x2: any shape.

    >>> import proa as pa
    >>> pa.searchsorted(pa.asarray([1, 3, 3, 7]), pa.asarray([3, 9])).tolist()
    [1, 4]
    """
    op = "searchsorted"
    for name, x in (("x1", x1), ("x2", x2)):
        of = value_of(op, x).spec
        if of.dtype not in NUMERIC:
            raise DtypeError(message(op, f"`{name}` of {of.dtype.name}", "a real numeric dtype"))
    shape = value_of(op, x1).spec.shape
    if len(shape) != 1:
        raise ShapeError(message(op, f"`x1` of shape {shape}", "one axis", "x1.reshape((-1,))"))
    if sorter is not None:
        order = integers(op, "sorter", sorter)
        if order.spec.shape != shape:
            raise ShapeError(message(op, f"`sorter` of shape {order.spec.shape}", f"{shape}"))
        x1 = apply(gather, (x1, order), **ONE_AXIS)
    a, v = promoted(lt, (x1, x2))
    return apply(_searchsorted, (a, v), side=choice(op, "side", side, ("left", "right")))


# Where something is true.


def _true_places_expand(mask: Any, size: int) -> Any:
    """Each true element writes its number where the count of those before it says."""
    count = mask.value.spec.shape[0]
    ranks = apply(cumsum, (cast_to(mask, int64),), axis=0, reverse=False)
    goal = select(mask, ranks - 1, size)
    none = apply(broadcast, (as_number("size", count, int64),), shape=(size,), axes=())
    return apply(scatter, (none, count_up(count), goal), **ONE_AXIS, mode="set")


_true_places = composite(
    "true_places", _true_places_expand, params=("size",), differentiable=False,
    samples=[Sample((((7,), "bool"),), {"size": 3}), Sample((((4,), "bool"),), {"size": 6}),
             Sample((((0,), "bool"),), {"size": 2})],
    doc="The places of the first `size` true elements, ascending; behind them the length.",
)  # fmt: skip


def true_places(mask: Any, size: int) -> Any:
    """The places of the first `size` true elements of a tensor of one axis; its length where there
    are fewer."""
    return apply(_true_places, (mask,), size=size)


def places_by_axis(flat: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Row-major numbers of elements as one index tensor for each axis. A number past the last gives
    an index past the first axis."""
    found, rest = [], flat
    for axis in range(len(shape)):
        below = max(1, prod(shape[axis + 1 :]))
        found.append(rest // below if below > 1 else rest)
        rest = rest - found[-1] * below if below > 1 else rest
    return tuple(found)


# What differs.


class Groups(NamedTuple):
    """Equal elements of a tensor of one axis: sorted values, where each stood, which of them are
    the first of their group, and the number of the group of each."""

    values: Any
    order: Any
    is_first: Any
    number: Any


def groups_of(x: Any) -> Groups:
    """Every NaN is a group of its own."""
    values, order = apply(sort, (x,), axis=0)
    size = x.value.spec.shape[0]
    later, earlier = [
        apply(slice_, (values,), starts=(a,), stops=(b,), strides=(1,))
        for a, b in ((min(1, size), size), (0, max(0, size - 1)))
    ]
    first = apply(broadcast, (as_number("unique", True, bool_),), shape=(min(1, size),), axes=())
    is_first = apply(concatenate, (first, not_(eq(later, earlier))), axis=0)
    ranks = apply(cumsum, (cast_to(is_first, int64),), axis=0, reverse=False)
    return Groups(values, order, is_first, ranks - 1)
