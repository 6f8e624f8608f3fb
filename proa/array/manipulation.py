"""The same elements in another shape, order or number."""

from __future__ import annotations

from typing import Any

from proa.array.public import public
from proa.convert import asarray
from proa.dtypes import int64
from proa.errors import ArgumentError, ShapeError, message
from proa.indexing import getitem
from proa.indexing.masks import refuse_recorded
from proa.ops import composite as cp
from proa.ops import functions as fn
from proa.ops import movement as mv
from proa.ops import moves, reduce, scans
from proa.ops.composite.common import flag, integers
from proa.ops.creation import iota
from proa.ops.indexing import dynamic_slice, take_along
from proa.ops.primitive import apply, as_number, cast_to, value_of
from proa.shapes import as_axis, as_int, as_shape
from proa.shapes import broadcast_shapes as _meet
from proa.tensor import Tensor

# Shapes.

matrix_transpose = public(
    moves.matrix_transpose,
    "pa.matrix_transpose(pa.asarray([[1, 2], [3, 4]])).tolist()",
    "[[1, 3], [2, 4]]",
)
broadcast_to = public(moves.broadcast_to)
concat = public(moves.concat)
expand_dims = public(moves.expand_dims)
flatten = public(moves.flatten)
flip = public(moves.flip, "pa.flip(pa.asarray([1, 2, 3])).tolist()", "[3, 2, 1]")
moveaxis = public(moves.moveaxis)
permute_dims = public(moves.permute_dims)
squeeze = public(moves.squeeze)
stack = public(moves.stack)
swapaxes = public(moves.swapaxes, "pa.swapaxes(pa.zeros((2, 3, 4)), 0, 2).shape", "(4, 3, 2)")


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape in which shapes meet: aligned at the last axis, sizes equal or 1.

    >>> import proa as pa
    >>> pa.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    given = [as_shape("broadcast_shapes", s) for s in shapes]
    return _meet("broadcast_shapes", given) if given else ()


def broadcast_arrays(*xs: Any) -> list[Tensor]:
    """All operands repeated to the shape in which they meet.

    >>> import proa as pa
    >>> [x.shape for x in pa.broadcast_arrays(pa.zeros((2, 1)), pa.zeros(3))]
    [(2, 3), (2, 3)]
    """
    shape = _meet(
        "broadcast_arrays", [value_of("broadcast_arrays", x).spec.shape for x in xs] or [()]
    )
    return [broadcast_to(x, shape) for x in xs]


@public
def reshape(x: Any, shape: Any, copy: bool | None = None) -> Tensor:
    """The same elements, row by row, in another shape; one size may be -1. A value of its own in
    any case: writing to it does not change x, so `copy=False` is an error.

    >>> import proa as pa
    >>> pa.reshape(pa.arange(6), (2, -1)).shape
    (2, 3)
    """
    if copy is False:
        raise ArgumentError(
            message("reshape", "copy=False", "None or True: values are never shared")
        )
    return moves.reshape(x, shape)  # type: ignore[no-any-return]


@public
def repeat(x: Any, repeats: Any, axis: int | None = None, *, size: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along an axis (of the flattened tensor if None).

    repeats: an int, or integers for each element along the axis (one for all); then `size` is how
    many there are together, needed under `jit`.

    PyTorch's `x.repeat(...)` is `tile`.

    >>> import proa as pa
    >>> pa.repeat(pa.asarray([1, 2]), 2).tolist()
    [1, 1, 2, 2]
    """
    x = moves.reshape(x, (-1,)) if axis is None else x
    shape = value_of("repeat", x).spec.shape
    a = as_axis("repeat", 0 if axis is None else axis, len(shape))
    if size is not None:
        (size,) = as_shape("repeat", as_int("repeat", "size", size))
    if isinstance(repeats, (list, tuple)) or hasattr(repeats, "shape"):
        return _repeated(x, asarray(repeats), a, size)
    (times,) = as_shape("repeat", as_int("repeat", "repeats", repeats))
    wide = (*shape[: a + 1], times, *shape[a + 1 :])
    axes = tuple([i for i in range(len(wide)) if i != a + 1])
    found = apply(mv.broadcast, (x,), shape=wide, axes=axes)
    return moves.reshape(found, (*shape[:a], shape[a] * times, *shape[a + 1 :]))  # type: ignore[no-any-return]


def _repeated(x: Any, repeats: Tensor, axis: int, size: int | None) -> Tensor:
    """By the last element whose repetitions begin at or before each place."""
    n = value_of("repeat", x).spec.shape[axis]
    integers("repeat", "repeats", repeats)
    if repeats.ndim > 1 or (repeats.size != 1 and repeats.shape != (n,)):
        given = f"repeats of shape {repeats.shape} for {n} elements"
        raise ShapeError(message("repeat", given, "one int, or one for each element"))
    times = moves.broadcast_to(cast_to(moves.reshape(repeats, (-1,)), int64), (n,))
    if size is None:
        refuse_recorded("repeat", times, "pa.repeat(x, repeats, size=n)")
        low = int(reduce.min(times).item()) if n else 0
        if low < 0:
            raise ArgumentError(message("repeat", f"{low} repetitions", "at least 0"))
        size = int(reduce.sum(times).item())
    (count,) = as_shape("repeat", size)
    ends = apply(scans.cumsum, (times,), axis=0, reverse=False)
    places = cp.searchsorted(ends, apply(iota, (), shape=(count,), axis=0, dtype=int64), "right")
    return cp.take(x, places, axis)  # type: ignore[no-any-return]


@public
def tile(x: Any, repetitions: Any) -> Tensor:
    """The whole of x repeated along each axis; missing axes and repetitions count as 1.

    >>> import proa as pa
    >>> pa.tile(pa.asarray([1, 2]), (2, 2)).tolist()
    [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    times = as_shape("tile", repetitions)
    shape = value_of("tile", x).spec.shape
    ndim = max(len(times), len(shape))
    times, shape = (1,) * (ndim - len(times)) + times, (1,) * (ndim - len(shape)) + shape
    x = moves.reshape(x, shape)
    wide = tuple([n for pair in zip(times, shape, strict=True) for n in pair])
    found = apply(mv.broadcast, (x,), shape=wide, axes=tuple(range(1, 2 * ndim, 2)))
    return moves.reshape(found, tuple([t * n for t, n in zip(times, shape, strict=True)]))  # type: ignore[no-any-return]


@public
def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Elements moved up by `shift` along axes, those that leave at the end coming in at the front
    (of the flattened tensor if axis is None). How far is an input of the program.

    >>> import proa as pa
    >>> pa.roll(pa.asarray([1, 2, 3]), 1).tolist()
    [3, 1, 2]
    """
    given = value_of("roll", x).spec
    if axis is None:
        return moves.reshape(roll(moves.reshape(x, (-1,)), shift, 0), given.shape)  # type: ignore[no-any-return]
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ArgumentError(
            message("roll", f"{len(shifts)} shifts for {len(axes)} axes", "one for each")
        )
    for s, a in zip(shifts, axes, strict=True):
        x = _rolled(x, as_int("roll", "shift", s), as_axis("roll", a, given.ndim))
    return x  # type: ignore[no-any-return]


def _rolled(x: Any, shift: int, axis: int) -> Any:
    """A window of x beside itself."""
    n = value_of("roll", x).spec.shape[axis]
    if n < 2:
        return x
    twice = moves.concat([x, x], axis)
    start = as_number("roll", -shift % n, int64)
    return apply(dynamic_slice, (twice, start), axes=(axis,), sizes=(n,), strides=(1,))


@public
def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis, which they lack.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.unstack(pa.asarray([[1, 2], [3, 4]]))]
    [[1, 2], [3, 4]]
    """
    shape = value_of("unstack", x).spec.shape
    a = as_axis("unstack", axis, len(shape))
    return tuple([getitem(x, ((slice(None),) * a + (i,))) for i in range(shape[a])])


# Sorting and choosing.

take = public(cp.take)
take_along_axis = public(cp.take_along_axis)


def sorted_along(name: str, x: Any, axis: int, descending: bool, stable: bool) -> tuple[Any, Any]:
    """Values and indices. What is sorted the other way round is -x or its turned bits, so that
    equal elements stay in order and NaN comes last."""
    given = value_of(name, x).spec
    a = as_axis(name, axis, given.ndim)
    flag(name, "stable", stable)
    if not flag(name, "descending", descending):
        return apply(scans.sort, (x,), axis=a)  # type: ignore[no-any-return]
    key = fn.neg(x) if given.dtype.is_inexact else fn.not_(x)
    _, places = apply(scans.sort, (key,), axis=a)
    return take_along(x, places, a), places


@public
def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Elements in order along an axis. Always stable; NaN comes last.

    >>> import proa as pa
    >>> pa.sort(pa.asarray([3, 1, 2]), descending=True).tolist()
    [3, 2, 1]
    """
    return sorted_along("sort", x, axis, descending, stable)[0]  # type: ignore[no-any-return]


@public
def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The places from which `sort` takes its elements, int64.

    >>> import proa as pa
    >>> pa.argsort(pa.asarray([3, 1, 2])).tolist()
    [1, 2, 0]
    """
    return sorted_along("argsort", x, axis, descending, stable)[1]  # type: ignore[no-any-return]
