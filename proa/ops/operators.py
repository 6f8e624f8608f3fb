"""Functions and Python operators on values and tensors alike.

Axes may be negative, shapes may be inferred; what reaches a primitive is exact. The array
namespace re-exports these; composites and derivative rules call them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype, bool_, int64
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.node import Value
from proa.ops import arithmetic as ar
from proa.ops import functions as fn
from proa.ops import movement as mv
from proa.ops import reductions as rd
from proa.ops.contraction import LETTERS, dot
from proa.ops.primitive import (
    FLOAT,
    NUMERIC,
    Primitive,
    apply,
    as_number,
    number_of,
    promoted,
    value_of,
)
from proa.shapes import Shape, as_axes, as_axis, as_int, as_shape, broadcast_shapes, size


def spec_of(op: str, x: Any) -> Any:
    return value_of(op, x).spec


def astype(x: Any, dtype: Any) -> Any:
    """x in another dtype; x itself if it has it.

    >>> import proa as pa
    >>> pa.astype(pa.asarray([1.7, -1.7]), pa.int32).tolist()
    [1, -1]
    """
    target = as_dtype(dtype)
    given = spec_of("astype", x)
    if given.dtype is target and not given.weak:
        return x
    if given.dtype.kind == "complex" and target.kind != "complex":
        raise DtypeError(message("astype", f"{given.dtype.name} to {target.name}", "a complex dtype"))
    return apply(fn.cast, (x,), dtype=target, weak=False)


# Arithmetic whose meaning depends on the kind of its operands.


def divide(x: Any, y: Any) -> Any:
    """True division x / y; integers are divided as floats.

    >>> import proa as pa
    >>> (pa.asarray([1, 2]) / 2).tolist()
    [0.5, 1.0]
    """
    x, y = promoted(ar.div, (x, y))
    if not x.value.spec.dtype.is_inexact:
        x, y = (astype(v, dtypes.default_float()) for v in (x, y))
    return ar.div(x, y)


def floor_divide(x: Any, y: Any) -> Any:
    """x / y rounded down. Integers by zero give 0, floats infinity or NaN."""
    x, y = promoted(ar.div, (x, y))
    quotient = ar.div(x, y)
    if not x.value.spec.dtype.is_inexact:
        return quotient
    exact = fn.floor(ar.div(x - ar.rem(x, y), y) + 0.5)
    return ar.select(fn.is_finite(exact), exact, fn.floor(quotient))


def power(x: Any, y: Any) -> Any:
    """x to the power y. A Python integer 1, 2 or 3 is repeated multiplication.

    >>> import proa as pa
    >>> (pa.asarray([2.0, 3.0]) ** 2).tolist()
    [4.0, 9.0]
    """
    number = number_of(y)
    if type(number) is int and not isinstance(x, (int, float)):
        if number == 2:
            return x * x
        if number == 3:
            return x * x * x
        if number == 1:
            return +x
    return ar.pow(x, y)


def positive(x: Any) -> Any:
    """+x: a value of its own that equals x."""
    given = spec_of("positive", x)
    if given.dtype not in NUMERIC:
        raise DtypeError(message("positive", given.dtype.name, "a numeric dtype"))
    return apply(mv.reshape, (x,), shape=given.shape)


def not_equal(x: Any, y: Any) -> Any:
    """x differs from y; true where either is NaN."""
    return fn.not_(ar.eq(x, y))


def greater(x: Any, y: Any) -> Any:
    """x > y."""
    return ar.lt(y, x)


def greater_equal(x: Any, y: Any) -> Any:
    """x >= y."""
    return ar.le(y, x)


def square(x: Any) -> Any:
    """x x."""
    return x * x


def reciprocal(x: Any) -> Any:
    """1 / x."""
    return divide(1.0, x)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y.

    >>> import proa as pa
    >>> pa.where(pa.asarray([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    if number_of(condition) is not None:
        condition = np.asarray(bool(condition))
    if spec_of("where", condition).dtype is not bool_:
        given = f"a condition of {spec_of('where', condition).dtype.name}"
        raise DtypeError(message("where", given, "bool", "condition != 0"))
    return ar.select(condition, x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x limited to min <= x <= max; the gradient passes at the bounds.

    >>> import proa as pa
    >>> pa.clip(pa.asarray([-2.0, 0.5, 2.0]), -1.0, 1.0).tolist()
    [-1.0, 0.5, 1.0]
    """
    given = spec_of("clip", x)
    for bound in (min, max):
        if bound is not None and number_of(bound) is None:
            value_of("clip", bound)
    if min is not None:
        x = ar.select(ar.lt(x, min), _bound(min, given), x)
    if max is not None:
        x = ar.select(ar.lt(max, x), _bound(max, given), x)
    return x


def _bound(bound: Any, given: Any) -> Any:
    number = number_of(bound)
    return bound if number is None else as_number("clip", number, given.dtype)


# Movement.


def reshape(x: Any, shape: Any) -> Any:
    """The same elements, row by row, in another shape; one size may be -1.

    >>> import proa as pa
    >>> pa.reshape(pa.arange(6), (2, -1)).shape
    (2, 3)
    """
    given = spec_of("reshape", x).shape
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
    ndim = spec_of("permute_dims", x).ndim
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    order = tuple([as_axis("permute_dims", a, ndim) for a in given])
    return x if order == tuple(range(ndim)) else apply(mv.permute, (x,), axes=order)


def matrix_transpose(x: Any) -> Any:
    """The last two axes exchanged."""
    ndim = spec_of("matrix_transpose", x).ndim
    if ndim < 2:
        raise ShapeError(message("matrix_transpose", f"{ndim} axes", "at least 2"))
    return permute_dims(x, (*range(ndim - 2), ndim - 1, ndim - 2))


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes `source` moved to `destination`, the others in their order.

    >>> import proa as pa
    >>> pa.moveaxis(pa.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    ndim = spec_of("moveaxis", x).ndim
    sources = source if isinstance(source, (tuple, list)) else (source,)
    targets = destination if isinstance(destination, (tuple, list)) else (destination,)
    sources = [as_axis("moveaxis", a, ndim) for a in sources]
    targets = [as_axis("moveaxis", a, ndim) for a in targets]
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        given = f"source {source!r:.40} and destination {destination!r:.40}"
        raise ArgumentError(message("moveaxis", given, "as many distinct axes in both"))
    order = [a for a in range(ndim) if a not in sources]
    for target, moved in sorted(zip(targets, sources, strict=True)):
        order.insert(target, moved)
    return permute_dims(x, tuple(order))


def swapaxes(x: Any, axis0: int, axis1: int) -> Any:
    """Two axes exchanged."""
    ndim = spec_of("swapaxes", x).ndim
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
    given = spec_of("broadcast_to", x).shape
    new = as_shape("broadcast_to", shape)
    if given == new:
        return x
    if len(given) > len(new):
        raise ShapeError(message("broadcast_to", f"shape {given} to {new}", "at least as many axes"))
    axes = tuple(range(len(new) - len(given), len(new)))
    return apply(mv.broadcast, (x,), shape=new, axes=axes)


def broadcast_arrays(*xs: Any) -> list[Any]:
    """All operands repeated to the shape in which they meet."""
    shape = broadcast_shapes("broadcast_arrays", [spec_of("broadcast_arrays", x).shape for x in xs])
    return [broadcast_to(x, shape) for x in xs]


def expand_dims(x: Any, axis: Any = 0) -> Any:
    """x with a new axis of size 1 before position `axis` of the result.

    >>> import proa as pa
    >>> pa.expand_dims(pa.zeros((2, 3)), axis=1).shape
    (2, 1, 3)
    """
    given = spec_of("expand_dims", x).shape
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
    given = spec_of("squeeze", x).shape
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
    given = spec_of("flatten", x).shape
    if not given:
        return reshape(x, (1,))
    a, b = (as_axis("flatten", i, len(given)) for i in (start_axis, end_axis))
    if a > b:
        raise ArgumentError(message("flatten", f"axes {a} to {b}", "the first not behind the last"))
    return reshape(x, given[:a] + (size(given[a : b + 1]),) + given[b + 1 :])


def flip(x: Any, axis: Any = None) -> Any:
    """The order along the axes turned round (all axes if None)."""
    axes = as_axes("flip", axis, spec_of("flip", x).ndim)
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
    shapes = {spec_of("stack", x).shape for x in xs}
    if len(shapes) > 1:
        raise ShapeError(message("stack", f"shapes {sorted(shapes)}", "one shape", "pa.concat"))
    where_ = as_axis("stack", axis, len(shapes.pop()) + 1)
    return concat([expand_dims(x, where_) for x in xs], where_)


def unstack(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The slices of x along an axis."""
    ndim = spec_of("unstack", x).ndim
    a = as_axis("unstack", axis, ndim)
    x = moveaxis(x, a, 0)
    return tuple([x[i] for i in range(x.value.spec.shape[0])])


# Reductions.


def _reduce(op: str, primitive: Primitive, x: Any, axis: Any, keepdims: bool) -> Any:
    shape = spec_of(op, x).shape
    axes = as_axes(op, axis, len(shape))
    _check_flag(op, "keepdims", keepdims)
    out = apply(primitive, (x,), axes=axes)
    return _kept(out, shape, axes) if keepdims else out


def _check_flag(op: str, name: str, given: Any) -> None:
    if type(given) is not bool:
        raise DtypeError(message(op, f"`{name}` {given!r:.60}", "True or False"))


def _kept(x: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
    return reshape(x, tuple([1 if i in axes else n for i, n in enumerate(shape)]))


def sum(x: Any, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Any:
    """The sum over axes (all if None). Small integers and bool are added as int64 (uint64).

    >>> import proa as pa
    >>> pa.sum(pa.asarray([[1.0, 2.0], [3.0, 4.0]]), axis=1).tolist()
    [3.0, 7.0]
    """
    given = spec_of("sum", x).dtype
    if dtype is not None:
        x = astype(x, dtype)
    elif not given.is_inexact:
        x = astype(x, int64 if given.signed or given is bool_ else dtypes.uint64)
    return _reduce("sum", rd.sum_, x, axis, keepdims)


def max(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The largest over axes (all if None)."""
    return _reduce("max", rd.max_, x, axis, keepdims)


def min(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """The smallest over axes (all if None)."""
    return _reduce("min", rd.min_, x, axis, keepdims)


def all(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Whether every element is true (not 0); true of nothing."""
    return fn.not_(any(ar.eq(astype(x, bool_), False), axis, keepdims=keepdims))


def any(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Whether an element is true (not 0); false of nothing."""
    counted = sum(astype(astype(x, bool_), int64), axis, keepdims=keepdims)
    return ar.lt(0, counted)


def argmax(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the first largest element along an axis (of the flattened tensor if None)."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the first smallest element along an axis (of the flattened tensor if None)."""
    given = spec_of("argmin", x).dtype
    turned = fn.not_(x) if not given.is_inexact else -x
    return _arg("argmin", turned, axis, keepdims)


def _arg(op: str, x: Any, axis: int | None, keepdims: bool) -> Any:
    shape = spec_of(op, x).shape
    _check_flag(op, "keepdims", keepdims)
    if axis is None:
        flat = apply(rd.argmax, (reshape(x, (-1,)),), axes=(0,))
        return _kept(flat, shape, tuple(range(len(shape)))) if keepdims else flat
    axes = (as_axis(op, axis, len(shape)),)
    out = apply(rd.argmax, (x,), axes=axes)
    return _kept(out, shape, axes) if keepdims else out


# Products.


def matmul(x: Any, y: Any) -> Any:
    """The matrix product; leading axes are broadcast, a 1-d operand is a row or a column.

    >>> import proa as pa
    >>> (pa.asarray([[1.0, 2.0]]) @ pa.asarray([3.0, 4.0])).tolist()
    [11.0]
    """
    x, y = promoted(dot, (x, y))
    shape_x, shape_y, letters, full = _matmul_plan(x.value.spec.shape, y.value.spec.shape)
    a, b, out = letters
    product = apply(dot, (reshape(x, shape_x), reshape(y, shape_y)), a=a, b=b, out=out)
    return reshape(product, full)


@lru_cache(maxsize=1024)
def _matmul_plan(a: Shape, b: Shape) -> tuple[Shape, Shape, tuple[str, str, str], Shape]:
    """Shapes without repeated axes, letters, and the shape of the product."""
    if not a or not b:
        raise ShapeError(message("matmul", f"shapes {a} and {b}", "at least one axis in both", "*"))
    inner = (a[-1], b[-2] if len(b) > 1 else b[-1])
    if inner[0] != inner[1]:
        given = f"shapes {a} and {b}"
        raise ShapeError(message("matmul", given, f"equal inner sizes, not {inner[0]} and {inner[1]}"))
    lead = broadcast_shapes("matmul", [a[:-2], b[:-2]])
    mine, drop_a = _lead_letters(a, lead)
    other, drop_b = _lead_letters(b, lead)
    rows, columns = "Y" if len(a) > 1 else "", "Z" if len(b) > 1 else ""
    kept = "".join([c for c in LETTERS[: len(lead)] if c in mine + other])
    letters = (mine + rows + "X", other + "X" + columns, kept + rows + columns)
    full = lead + (a[-2:-1] if rows else ()) + (b[-1:] if columns else ())
    return drop_a, drop_b, letters, full


def _lead_letters(shape: Shape, lead: Shape) -> tuple[str, Shape]:
    """Letters of the leading axes, those that are repeated left out, and the shape without them."""
    first = len(lead) - len(shape[:-2])
    kept = [i for i, n in enumerate(shape[:-2]) if n != 1 or lead[first + i] == 1]
    letters = "".join([LETTERS[first + i] for i in kept])
    return letters, tuple([shape[i] for i in kept]) + shape[-2:]


# Python operators for values; the tensor has the same, generated for speed.

BINARY = {
    "add": ar.add, "sub": ar.sub, "mul": ar.mul, "truediv": divide, "floordiv": floor_divide,
    "mod": ar.rem, "pow": power, "matmul": matmul, "and": ar.and_, "or": ar.or_, "xor": ar.xor,
    "lshift": ar.shift_left, "rshift": ar.shift_right,
}  # fmt: skip
COMPARE = {
    "eq": ar.eq, "ne": not_equal, "lt": ar.lt, "le": ar.le, "gt": greater, "ge": greater_equal,
}  # fmt: skip
UNARY = {"neg": fn.neg, "pos": positive, "abs": fn.abs, "invert": fn.not_}
OPERANDS = (Value, bool, int, float, complex, np.ndarray, np.generic)


def _is_operand(x: Any) -> bool:
    return isinstance(x, OPERANDS) or type(getattr(x, "value", None)) is Value


def attach_operators(cls: type) -> None:
    """Gives a class the Python operators, by way of the functions above."""
    for name, function in BINARY.items():
        setattr(cls, f"__{name}__", _forward(function))
        setattr(cls, f"__r{name}__", _backward(function))
    for name, function in COMPARE.items():
        setattr(cls, f"__{name}__", _forward(function))
    for name, unary in UNARY.items():
        setattr(cls, f"__{name}__", _alone(unary))
    setattr(cls, "__hash__", object.__hash__)  # noqa: B010


def _forward(function: Any) -> Any:
    return lambda x, y: function(x, y) if _is_operand(y) else NotImplemented


def _backward(function: Any) -> Any:
    return lambda x, y: function(y, x) if _is_operand(y) else NotImplemented


def _alone(function: Any) -> Any:
    return lambda x: function(x)


def _attach_to_values() -> None:
    attach_operators(Value)
    Value.astype = astype  # type: ignore[attr-defined]
    Value.shape = property(lambda v: v.spec.shape)  # type: ignore[attr-defined]
    Value.dtype = property(lambda v: v.spec.dtype)  # type: ignore[attr-defined]
    Value.ndim = property(lambda v: v.spec.ndim)  # type: ignore[attr-defined]


_attach_to_values()
__all__ = ["FLOAT", "Dtype"]
