"""The same elements in another shape, order or number: reshaping, turning, repeating, joining.

Axes may be negative, shapes may be inferred; what reaches a primitive is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from proa.errors import ArgumentError, ShapeError, message
from proa.ops import arithmetic as ar
from proa.ops import movement as mv
from proa.ops.primitive import apply, promoted, value_of
from proa.shapes import Shape, as_axes, as_axis, as_int, as_shape, size


def reshape(x: Any, shape: Any) -> Any:
    """The same elements, row by row, in another shape; one size may be -1.

    >>> import proa as pa
    >>> pa.reshape(pa.arange(6), (2, -1)).shape
    (2, 3)
    """
    given = value_of("reshape", x).spec.shape
    if type(shape) is not tuple or not set(map(type, shape)) <= {int}:
        sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
        shape = tuple([as_int("reshape", "size", n) for n in sizes])
    new = _reshaped(given, shape)
    return x if new == given else apply(mv.reshape, (x,), shape=new)


@lru_cache(maxsize=4096)
def _reshaped(given: Shape, shape: Shape) -> Shape:
    """The shape asked for, -1 replaced by what is left."""
    if shape.count(-1) != 1:
        return as_shape("reshape", shape)
    known, total = size([n for n in shape if n != -1]), size(given)
    if known <= 0 or total % known:
        text = f"shape {given} to {shape}"
        raise ShapeError(message("reshape", text, f"sizes whose product divides {total}"))
    return as_shape("reshape", tuple([total // known if n == -1 else n for n in shape]))


def permute_dims(x: Any, axes: Any) -> Any:
    """Axes in another order: result axis i is x's axis axes[i].

    >>> import proa as pa
    >>> pa.permute_dims(pa.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    ndim = value_of("permute_dims", x).spec.ndim
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    order = tuple([as_axis("permute_dims", a, ndim) for a in given])
    return x if order == tuple(range(ndim)) else apply(mv.permute, (x,), axes=order)


def matrix_transpose(x: Any) -> Any:
    """The last two axes exchanged."""
    ndim = value_of("matrix_transpose", x).spec.ndim
    if ndim < 2:
        raise ShapeError(message("matrix_transpose", f"{ndim} axes", "at least 2"))
    return permute_dims(x, (*range(ndim - 2), ndim - 1, ndim - 2))


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes `source` moved to `destination`, the others in their order.

    >>> import proa as pa
    >>> pa.moveaxis(pa.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    ndim = value_of("moveaxis", x).spec.ndim
    sources = source if isinstance(source, (tuple, list)) else (source,)
    targets = destination if isinstance(destination, (tuple, list)) else (destination,)
    sources = [as_axis("moveaxis", a, ndim) for a in sources]
    targets = [as_axis("moveaxis", a, ndim) for a in targets]
    if (
        len(sources) != len(targets)
        or len(set(sources)) != len(sources)
        or len(set(targets)) != len(targets)
    ):
        given = f"source {source!r:.40} and destination {destination!r:.40}"
        raise ArgumentError(message("moveaxis", given, "as many distinct axes in both"))
    order = [a for a in range(ndim) if a not in sources]
    for target, moved in sorted(zip(targets, sources, strict=True)):
        order.insert(target, moved)
    return permute_dims(x, tuple(order))


def swapaxes(x: Any, axis0: int, axis1: int) -> Any:
    """Two axes exchanged."""
    ndim = value_of("swapaxes", x).spec.ndim
    order = list(range(ndim))
    a, b = as_axis("swapaxes", axis0, ndim), as_axis("swapaxes", axis1, ndim)
    order[a], order[b] = order[b], order[a]
    return permute_dims(x, tuple(order))


def broadcast_to(x: Any, shape: Any) -> Any:
    """x repeated to a larger shape, aligned at the last axis.

    >>> import proa as pa
    >>> pa.broadcast_to(pa.asarray([1, 2]), (2, 2)).tolist()
    [[1, 2], [1, 2]]
    """
    given = value_of("broadcast_to", x).spec.shape
    new = as_shape("broadcast_to", shape)
    if given == new:
        return x
    if len(given) > len(new):
        raise ShapeError(
            message("broadcast_to", f"shape {given} to {new}", "at least as many axes")
        )
    axes = tuple(range(len(new) - len(given), len(new)))
    return apply(mv.broadcast, (x,), shape=new, axes=axes)


def expand_dims(x: Any, axis: Any = 0) -> Any:
    """x with a new axis of size 1 before position `axis` of the result.

    >>> import proa as pa
    >>> pa.expand_dims(pa.zeros((2, 3)), axis=1).shape
    (2, 1, 3)
    """
    given = value_of("expand_dims", x).spec.shape
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    where_ = as_axes("expand_dims", axes, len(given) + len(axes))
    shape = list(given)
    for a in where_:
        shape.insert(a, 1)
    return reshape(x, tuple(shape))


def squeeze(x: Any, axis: Any = None) -> Any:
    """x without the axes given, which must have size 1 (all axes of size 1 if None).

    >>> import proa as pa
    >>> pa.squeeze(pa.zeros((2, 1)), axis=1).shape
    (2,)
    """
    given = value_of("squeeze", x).spec.shape
    axes = as_axes("squeeze", axis, len(given))
    if axis is None:
        axes = tuple([a for a in axes if given[a] == 1])
    if [a for a in axes if given[a] != 1]:
        raise ArgumentError(message("squeeze", f"axes {axes} of shape {given}", "axes of size 1"))
    return reshape(x, tuple([n for i, n in enumerate(given) if i not in axes]))


def flatten(x: Any, start_axis: int = 0, end_axis: int = -1) -> Any:
    """Axes start_axis to end_axis, both included, as one.

    >>> import proa as pa
    >>> pa.flatten(pa.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    given = value_of("flatten", x).spec.shape
    if not given:
        return reshape(x, (1,))
    a, b = (as_axis("flatten", i, len(given)) for i in (start_axis, end_axis))
    if a > b:
        raise ArgumentError(message("flatten", f"axes {a} to {b}", "the first not behind the last"))
    return reshape(x, given[:a] + (size(given[a : b + 1]),) + given[b + 1 :])


def flip(x: Any, axis: Any = None) -> Any:
    """The order along the axes turned round (all axes if None)."""
    axes = as_axes("flip", axis, value_of("flip", x).spec.ndim)
    return apply(mv.flip, (x,), axes=axes) if axes else x


def concat(xs: Sequence[Any], axis: int | None = 0) -> Any:
    """Tensors one after the other along an axis (flattened first if it is None).

    >>> import proa as pa
    >>> pa.concat([pa.asarray([1]), pa.asarray([2, 3])]).tolist()
    [1, 2, 3]
    """
    if not isinstance(xs, (tuple, list)) or not xs:
        raise ArgumentError(message("concat", f"{xs!r:.60}", "a non-empty list of tensors"))
    if axis is None:
        xs, axis = [reshape(x, (-1,)) for x in xs], 0
    common = promoted(ar.select_, xs)
    ndim = common[0].value.spec.ndim
    if ndim == 0:
        raise ShapeError(message("concat", "tensors of 0 axes", "at least 1", "pa.stack"))
    return apply(mv.concatenate, common, axis=as_axis("concat", axis, ndim))


def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """Tensors of one shape along a new axis.

    >>> import proa as pa
    >>> pa.stack([pa.asarray([1, 2]), pa.asarray([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    if not isinstance(xs, (tuple, list)) or not xs:
        raise ArgumentError(message("stack", f"{xs!r:.60}", "a non-empty list of tensors"))
    shapes = {value_of("stack", x).spec.shape for x in xs}
    if len(shapes) > 1:
        raise ShapeError(message("stack", f"shapes {sorted(shapes)}", "one shape", "pa.concat"))
    where_ = as_axis("stack", axis, len(shapes.pop()) + 1)
    return concat([expand_dims(x, where_) for x in xs], where_)
