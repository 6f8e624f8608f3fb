"""Rows and elements addressed by data."""

from __future__ import annotations

from typing import Any

from proa.dtypes import dtype as as_dtype
from proa.dtypes import int64
from proa.errors import ArgumentError, ShapeError, message
from proa.ops.arithmetic import eq, lt, select
from proa.ops.composite.common import batch_inside, floating, integers, optional, stopped
from proa.ops.creation import iota
from proa.ops.expand import composite
from proa.ops.indexing import gather, take_along
from proa.ops.movement import broadcast
from proa.ops.moves import broadcast_to, moveaxis
from proa.ops.primitive import apply, as_number, cast_to, value_of
from proa.shapes import Shape, as_axis, as_int, broadcast_shapes


def _embedding_expand(weight: Any, indices: Any, *rest: Any) -> Any:
    rows = apply(gather, (weight, indices), axes=(0,), batch=0)
    if not rest:
        return rows
    padding = eq(cast_to(indices, int64), rest[0])
    shape = rows.spec.shape
    padding = apply(broadcast, (padding,), shape=shape, axes=tuple(range(len(shape) - 1)))
    return select(padding, stopped(rows), rows)


def _embedding_batch(primitive: Any, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """Batched indices are indices of one more axis."""
    if flags[0] or any(flags[2:]):
        return batch_inside(primitive, operands, flags, params)
    return apply(primitive, operands, **params)


_embedding = composite(
    "embedding", _embedding_expand, differentiable=(0,), batch=_embedding_batch,
    doc="Rows of a table; no gradient reaches the row of the third operand, if there is one.",
)  # fmt: skip


def embedding(weight: Any, indices: Any, padding_idx: Any = None) -> Any:
    """weight[indices]: rows of a table. No gradient reaches row `padding_idx`.

    weight: (V, ...), float; indices: any shape, integers 0 <= i < V; outside, NaN.

    >>> import proa as pa
    >>> from proa.ops.composite import embedding
    >>> embedding(pa.asarray([[1.0], [2.0]]), pa.asarray([1, 0, 1])).tolist()
    [[2.0], [1.0], [2.0]]
    """
    op = "embedding"
    weight, indices = floating(op, "weight", weight), integers(op, "indices", indices)
    if not weight.spec.ndim:
        raise ShapeError(message(op, "`weight` of 0 axes", "axes (rows, ...)"))
    padding = None
    if padding_idx is not None:
        n, rows = as_int(op, "padding_idx", padding_idx), weight.spec.shape[0]
        if not -rows <= n < rows:
            expected = f"-{rows} <= padding_idx < {rows}"
            raise ArgumentError(message(op, f"padding_idx {n} of {rows} rows", expected))
        padding = as_number(op, n % rows, int64)
    _, rest = optional(padding=padding)
    return apply(_embedding, (weight, indices, *rest))


def _one_hot_expand(indices: Any, classes: int, dtype: Any) -> Any:
    shape = (*indices.spec.shape, classes)
    last = len(shape) - 1
    row = apply(broadcast, (cast_to(indices, int64),), shape=shape, axes=tuple(range(last)))
    return cast_to(eq(row, apply(iota, (), shape=shape, axis=last, dtype=int64)), dtype)


_one_hot = composite(
    "one_hot", _one_hot_expand, params=("classes", "dtype"), differentiable=False,
    doc="1 at the index along a new last axis, 0 elsewhere.",
)  # fmt: skip


def one_hot(indices: Any, num_classes: int, dtype: Any = int64) -> Any:
    """1 at position i along a new last axis of length num_classes, 0 elsewhere; an index outside
    gives zeros only. indices: any shape, an integer dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import one_hot
    >>> one_hot(pa.asarray([1, 0]), 2).tolist()
    [[0, 1], [1, 0]]
    """
    op = "one_hot"
    indices = integers(op, "indices", indices)
    n = as_int(op, "num_classes", num_classes)
    if n < 0:
        hint = "int(indices.max()) + 1"
        raise ArgumentError(message(op, f"num_classes {n}", "the number of classes", hint))
    return apply(_one_hot, (indices,), classes=n, dtype=as_dtype(dtype))


def _from_end(indices: Any, n: int) -> Any:
    """Negative indices count from the end."""
    wide = cast_to(indices, int64)
    return select(lt(wide, 0), wide + n, wide) if indices.spec.dtype.signed else wide


def _take_expand(x: Any, indices: Any, axis: int) -> Any:
    found = apply(gather, (x, _from_end(indices, x.spec.shape[axis])), axes=(axis,), batch=0)
    k = indices.spec.ndim
    return moveaxis(found, tuple(range(k)), tuple(range(axis, axis + k)))


_take = composite(
    "take", _take_expand, params=("axis",), differentiable=(0,),
    doc="Elements along one axis; their places are those of the indices.",
)  # fmt: skip


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """x[..., indices, ...] along an axis, which may be left out where x has one only. Negative
    indices count from the end; outside -n <= i < n: NaN in a float dtype, 0 in others.

    x: any dtype; indices: any shape, an integer dtype.

    >>> import proa as pa
    >>> pa.take(pa.asarray([10, 20, 30]), pa.asarray([-1, 0])).tolist()
    [30, 10]
    """
    x, indices = value_of("take", x), integers("take", "indices", indices)
    if axis is None and x.spec.ndim != 1:
        raise ArgumentError(message("take", f"no axis for {x.spec.ndim} axes", "an axis"))
    return apply(
        _take, (x, indices), axis=as_axis("take", 0 if axis is None else axis, x.spec.ndim)
    )


def _take_along_expand(x: Any, indices: Any, axis: int) -> Any:
    a, b = x.spec.shape, indices.spec.shape
    rest = _shared_shape("take_along_axis", a, b, axis)
    x = broadcast_to(x, rest[:axis] + a[axis : axis + 1] + rest[axis + 1 :])
    indices = broadcast_to(indices, rest[:axis] + b[axis : axis + 1] + rest[axis + 1 :])
    return take_along(x, _from_end(indices, a[axis]), axis)


def _shared_shape(op: str, a: Shape, b: Shape, axis: int) -> Shape:
    """The shape in which two meet on all axes but one, which is 1."""
    return broadcast_shapes(op, [s[:axis] + (1,) + s[axis + 1 :] for s in (a, b)])


_take_along_axis = composite(
    "take_along_axis", _take_along_expand, params=("axis",), differentiable=(0,),
    doc="Elements along one axis; the other axes are shared.",
)  # fmt: skip


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
    """y[..., j, ...] = x[..., indices[..., j, ...], ...] along an axis; the other axes of x and
    of indices are broadcast. Negative indices count from the end; outside -n <= i < n: NaN in a
    float dtype, 0 in others.

    >>> import proa as pa
    >>> pa.take_along_axis(pa.asarray([[1, 2], [3, 4]]), pa.asarray([[1], [0]])).tolist()
    [[2], [3]]
    """
    op = "take_along_axis"
    x, indices = value_of(op, x), integers(op, "indices", indices)
    a, b = x.spec.shape, indices.spec.shape
    if len(a) != len(b):
        raise ShapeError(message(op, f"shapes {a} and {b}", "as many axes in both"))
    axis = as_axis(op, axis, len(a))
    _shared_shape(op, a, b, axis)
    return apply(_take_along_axis, (x, indices), axis=axis)
