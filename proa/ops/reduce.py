"""Reductions over axes, that may be negative or left out: sum, product, max, all, argmax.

What reaches a primitive of `ops/reductions.py` is exact.
"""

from __future__ import annotations

from typing import Any

from proa import dtypes
from proa.dtypes import bool_, int64
from proa.errors import DtypeError, message
from proa.ops import arithmetic as ar
from proa.ops import functions as fn
from proa.ops import reductions as rd
from proa.ops.moves import reshape
from proa.ops.operators import astype
from proa.ops.primitive import Primitive, apply, value_of
from proa.shapes import Shape, as_axes, as_axis


def _reduce(op: str, primitive: Primitive, x: Any, axis: Any, keepdims: bool) -> Any:
    shape = value_of(op, x).spec.shape
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
    return _reduce("sum", rd.sum_, totalled("sum", x, dtype), axis, keepdims)


def totalled(op: str, x: Any, dtype: Any) -> Any:
    """x in the dtype in which its elements are added or multiplied up."""
    given = value_of(op, x).spec.dtype
    if dtype is not None:
        return astype(x, dtype)
    if given.is_inexact:
        return x
    return astype(x, int64 if given.signed or given is bool_ else dtypes.uint64)


def prod(x: Any, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Any:
    """The product over axes (all if None). Small integers and bool are multiplied as int64
    (uint64). The derivative is right at zeros.

    >>> import proa as pa
    >>> pa.prod(pa.asarray([[1.0, 2.0], [3.0, 4.0]]), axis=1).tolist()
    [2.0, 12.0]
    """
    return _reduce("prod", rd.prod_, totalled("prod", x, dtype), axis, keepdims)


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
    given = value_of("argmin", x).spec.dtype
    turned = fn.not_(x) if not given.is_inexact else -x
    return _arg("argmin", turned, axis, keepdims)


def _arg(op: str, x: Any, axis: int | None, keepdims: bool) -> Any:
    shape = value_of(op, x).spec.shape
    _check_flag(op, "keepdims", keepdims)
    if axis is None:
        flat = apply(rd.argmax, (reshape(x, (-1,)),), axes=(0,))
        return _kept(flat, shape, tuple(range(len(shape)))) if keepdims else flat
    axes = (as_axis(op, axis, len(shape)),)
    out = apply(rd.argmax, (x,), axes=axes)
    return _kept(out, shape, axes) if keepdims else out
