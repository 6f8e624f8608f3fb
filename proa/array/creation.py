"""Making tensors: filled with a number, counted, on a diagonal, on a grid."""

from __future__ import annotations

from math import ceil, isfinite
from typing import Any

import numpy as np

from proa import dtypes
from proa.array.public import public
from proa.compile.memory import need
from proa.convert import asarray, clone, constant, filled, fitting, held, number_on
from proa.defaults import natural_dtype, new_dtype
from proa.dtypes import dtype as as_dtype
from proa.dtypes import int64
from proa.errors import ArgumentError, ShapeError, message
from proa.ops import arithmetic as ar
from proa.ops import movement as mv
from proa.ops import moves
from proa.ops import operators as op
from proa.ops.composite.common import choice, flag, real
from proa.ops.creation import iota
from proa.ops.primitive import apply, as_number, number_of, value_of
from proa.record.live import thread
from proa.shapes import as_int, as_shape
from proa.tensor import Tensor


def zeros(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of a shape, float32 unless a dtype is given.

    >>> import proa as pa
    >>> pa.zeros((2, 2)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    return filled("zeros", shape, 0, new_dtype(dtype), device)


def ones(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of a shape, float32 unless a dtype is given.

    >>> import proa as pa
    >>> pa.ones(2).tolist()
    [1.0, 1.0]
    """
    return filled("ones", shape, 1, new_dtype(dtype), device)


def empty(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor to be written to. It holds zeros, so that no program depends on chance.

    >>> import proa as pa
    >>> pa.empty((2, 3)).shape
    (2, 3)
    """
    return filled("empty", shape, 0, new_dtype(dtype), device)


def full(shape: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """One number everywhere. The dtype is that of the number unless given.

    fill_value: a number, or a tensor of 0 axes.

    >>> import proa as pa
    >>> pa.full((2,), 7).tolist()
    [7, 7]
    """
    number = number_of(fill_value)
    if number is None:
        value = asarray(fill_value, dtype=dtype, device=device)
        if value.ndim:
            raise ShapeError(message("full", f"a fill value of shape {value.shape}", "a number"))
        return (
            moves.broadcast_to(value, as_shape("full", shape))
            if as_shape("full", shape)
            else clone(value)
        )
    target = natural_dtype(np.asarray(number)) if dtype is None else as_dtype(dtype)
    return filled("full", shape, fitting("full", number, target), target, device)


def _like(name: str, x: Any, number: Any, dtype: Any, where: Any) -> Tensor:
    x = asarray(x)
    target = x.dtype if dtype is None else as_dtype(dtype)
    home = x.device if where is None else where
    if target is dtypes.bool_ and name != "full_like":
        number = bool(number)
    return filled(name, x.shape, fitting(name, number, target), target, home)


def zeros_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.zeros_like(pa.asarray([1, 2])).tolist()
    [0, 0]
    """
    return _like("zeros_like", x, 0, dtype, device)


def ones_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.ones_like(pa.asarray([1.5, 2.5])).tolist()
    [1.0, 1.0]
    """
    return _like("ones_like", x, 1, dtype, device)


def empty_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros, to be written to, in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.empty_like(pa.asarray([1.5, 2.5])).shape
    (2,)
    """
    return _like("empty_like", x, 0, dtype, device)


def full_like(x: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """One number everywhere in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.full_like(pa.asarray([1.5, 2.5]), 3).tolist()
    [3.0, 3.0]
    """
    number = number_of(fill_value)
    if number is not None:
        return _like("full_like", x, number, dtype, device)
    x = asarray(x)
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype, device)


def arange(
    start: Any, stop: Any = None, step: Any = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """start, start + step, ... below stop (0, 1, ... below start if stop is left out).

    int64 if all are ints, else the default float. Floats are computed in float64 and rounded.

    >>> import proa as pa
    >>> pa.arange(2, 8, 3).tolist()
    [2, 5]
    """
    given = [
        _plain("arange", n)
        for n in (
            0 if stop is None else start,
            start if stop is None else stop,
            1 if step is None else step,
        )
    ]
    first, last, stride = given
    if stride == 0:
        raise ArgumentError(message("arange", "step 0", "a step other than 0"))
    whole = all(type(n) is int for n in given)
    target = (int64 if whole else dtypes.default_float()) if dtype is None else as_dtype(dtype)
    if not whole or target.kind != "int":
        steps = (last - first) / stride
        need("arange", 8 * steps)
        numbers = first + stride * np.arange(max(0, ceil(steps)), dtype=np.float64)
        return constant(held(numbers, target, False), target, device)
    count = max(0, -((first - last) // stride))
    for n in (first, first + stride * max(0, count - 1)):
        as_number("arange", n, target)
    found = apply(iota, (), shape=as_shape("arange", count), axis=0, dtype=int64)
    if step is not None:
        found = found * as_number("arange", stride, int64)
    if stop is not None or device is not None or thread.state.device is not None:
        found = found + number_on("arange", first, int64, device)
    return op.astype(found, target)  # type: ignore[no-any-return]


def _plain(name: str, given: Any) -> Any:
    """A Python int or float from a real number or a tensor of one."""
    single = isinstance(given, (Tensor, np.ndarray)) and given.size == 1
    number = given.item() if single else given
    if not isfinite(real(name, "number", number)):
        raise ArgumentError(message(name, f"{number}", "a finite number"))
    return number_of(number)


def linspace(
    start: Any, stop: Any, num: int, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Tensor:
    """`num` numbers evenly from start to stop, stop included if `endpoint`.

    >>> import proa as pa
    >>> pa.linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    (count,) = as_shape("linspace", as_int("linspace", "num", num))
    a, b = float(_plain("linspace", start)), float(_plain("linspace", stop))
    target = new_dtype(dtype)
    need("linspace", 8 * count)
    last = flag("linspace", "endpoint", endpoint)
    with np.errstate(all="ignore"):
        numbers = np.linspace(a, b, count, endpoint=last, dtype=np.float64)
    return constant(held(numbers, target, False), target, device)


def logspace(
    start: Any, stop: Any, num: int = 50, base: float = 10.0, *, endpoint: bool = True,
    dtype: Any = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """`num` powers of a base whose exponents run evenly from start to stop.

    >>> import proa as pa
    >>> pa.logspace(0, 2, 3).tolist()
    [1.0, 10.0, 100.0]
    """
    (count,) = as_shape("logspace", as_int("logspace", "num", num))
    a, b = float(_plain("logspace", start)), float(_plain("logspace", stop))
    target, of = new_dtype(dtype), real("logspace", "base", base)
    need("logspace", 8 * count)
    last = flag("logspace", "endpoint", endpoint)
    with np.errstate(all="ignore"):
        numbers = np.logspace(a, b, count, endpoint=last, base=of, dtype=np.float64)
    return constant(held(numbers, target, False), target, device)


def eye(
    n_rows: int, n_cols: int | None = None, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere.

    >>> import proa as pa
    >>> pa.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    shape = as_shape("eye", (n_rows, n_rows if n_cols is None else n_cols))
    rows, columns = (apply(iota, (), shape=shape, axis=i, dtype=int64) for i in (0, 1))
    offset = number_on("eye", as_int("eye", "k", k), int64, device)
    return op.astype(ar.eq(columns, rows + offset), new_dtype(dtype))  # type: ignore[no-any-return]


def _triangle(name: str, x: Any, k: int, lower: bool) -> Any:
    shape = value_of(name, x).spec.shape
    if len(shape) < 2:
        raise ShapeError(message(name, f"shape {shape}", "at least 2 axes"))
    rows, columns = (apply(iota, (), shape=shape[-2:], axis=i, dtype=int64) for i in (0, 1))
    edge = rows + as_int(name, "k", k)
    mask = ar.le(columns, edge) if lower else ar.le(edge, columns)
    return ar.select(mask, x, _zero_of(x))


def _zero_of(x: Any) -> Any:
    return as_number("zeros", 0, x.value.spec.dtype if hasattr(x, "value") else as_dtype(x.dtype))


@public
def tril(x: Any, k: int = 0) -> Tensor:
    """The lower triangle of matrices: elements above the k-th diagonal become 0.

    >>> import proa as pa
    >>> pa.tril(pa.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _triangle("tril", x, k, True)  # type: ignore[no-any-return]


@public
def triu(x: Any, k: int = 0) -> Tensor:
    """The upper triangle of matrices: elements below the k-th diagonal become 0.

    >>> import proa as pa
    >>> pa.triu(pa.ones((2, 2))).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    return _triangle("triu", x, k, False)  # type: ignore[no-any-return]


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinates of a grid from the coordinates of its axes; "xy" exchanges the first two.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.meshgrid(pa.arange(2), pa.arange(3), indexing="ij")]
    [[[0, 0, 0], [1, 1, 1]], [[0, 1, 2], [0, 1, 2]]]
    """
    choice("meshgrid", "indexing", indexing, ("xy", "ij"))
    shapes = [value_of("meshgrid", x).spec.shape for x in arrays]
    if any(len(s) != 1 for s in shapes):
        raise ShapeError(message("meshgrid", f"shapes {shapes}", "tensors of one axis"))
    order = list(range(len(arrays)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = 1, 0
    full_shape = tuple([shapes[i][0] for i in order])
    return [
        apply(mv.broadcast, (x,), shape=full_shape, axes=(order.index(i),))
        for i, x in enumerate(arrays)
    ]
