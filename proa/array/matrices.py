"""Diagonals, triangles, products of vectors and matrices, and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.array import elementwise as ew
from proa.array import reductions as rs
from proa.array.public import need_tensor, public
from proa.compile.memory import need
from proa.convert import asarray
from proa.errors import ArgumentError, ShapeError, message
from proa.indexing import getitem
from proa.ops import composite as cp
from proa.ops import movement as mv
from proa.ops import moves
from proa.ops import operators as op
from proa.ops.composite.common import choice
from proa.ops.primitive import number_of, value_of
from proa.shapes import as_axis, as_int, as_shape, broadcast_shapes
from proa.tensor import Tensor

MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def _matrices(name: str, x: Any) -> tuple[int, ...]:
    need_tensor(name, x)
    shape: tuple[int, ...] = value_of(name, x).spec.shape
    if len(shape) < 2:
        raise ShapeError(message(name, f"shape {shape}", "at least 2 axes"))
    return shape


@public
def diagonal(x: Any, offset: int = 0) -> Tensor:
    """The diagonal of matrices, or the one `offset` above it (below, if negative).

    >>> import proa as pa
    >>> pa.diagonal(pa.asarray([[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    *batch, rows, columns = _matrices("diagonal", x)
    k = as_int("diagonal", "offset", offset)
    first = k if k >= 0 else -k * columns
    size = max(0, min(rows + min(k, 0), columns - max(k, 0)))
    if not size:
        return getitem(moves.reshape(x, (*batch, -1)), (..., slice(0, 0)))  # type: ignore[no-any-return]
    flat = moves.reshape(x, (*batch, rows * columns))
    last = first + (size - 1) * (columns + 1)
    return getitem(flat, (..., slice(first, last + 1, columns + 1)))  # type: ignore[no-any-return]


@public
def diag(x: Any, k: int = 0) -> Tensor:
    """Of one axis the matrix with x on its k-th diagonal, of a matrix that diagonal.

    >>> import proa as pa
    >>> pa.diag(pa.asarray([1, 2])).tolist()
    [[1, 0], [0, 2]]
    """
    need_tensor("diag", x)
    shape = value_of("diag", x).spec.shape
    if len(shape) == 2:
        return diagonal(x, k)
    if len(shape) != 1:
        raise ShapeError(message("diag", f"shape {shape}", "1 or 2 axes", "pa.diagonal"))
    shift = as_int("diag", "k", k)
    n = shape[0] + abs(shift)
    row = moves.reshape(x, (shape[0], 1))
    wide = mv.pad(row, low=(0, 0), high=(0, n), interior=(0, 0))  # n + 1 from one to the next
    flat = moves.reshape(wide, (shape[0] * (n + 1),))
    low = shift if shift >= 0 else -shift * n
    flat = mv.pad(flat, low=(low,), high=(n * n - low - flat.shape[0],), interior=(0,))
    return moves.reshape(flat, (n, n))  # type: ignore[no-any-return]


@public
def trace(x: Any, offset: int = 0, *, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of matrices.

    >>> import proa as pa
    >>> pa.trace(pa.asarray([[1.0, 2.0], [3.0, 4.0]])).item()
    5.0
    """
    return rs.sum(diagonal(x, offset), axis=-1, dtype=dtype)  # type: ignore[no-any-return]


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows and columns of the lower triangle of an n x m matrix, up to the k-th diagonal.

    >>> import proa as pa
    >>> [i.tolist() for i in pa.tril_indices(2)]
    [[0, 1, 1], [0, 0, 1]]
    """
    return _triangle("tril_indices", np.tril_indices, n, k, m)


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows and columns of the upper triangle of an n x m matrix, from the k-th diagonal on.

    >>> import proa as pa
    >>> [i.tolist() for i in pa.triu_indices(2)]
    [[0, 0, 1], [0, 1, 1]]
    """
    return _triangle("triu_indices", np.triu_indices, n, k, m)


def _triangle(name: str, make: Any, n: int, k: int, m: Any) -> tuple[Tensor, Tensor]:
    sizes = [as_int(name, "size", v) for v in (n, n if m is None else m)]
    if min(sizes) < 0 or max(sizes) > 2**20:
        raise ShapeError(message(name, f"sizes {sizes}", "sizes from 0 to 2**20"))
    shift = max(-sizes[0], min(as_int(name, "k", k), sizes[1]))
    need(name, 16 * sizes[0] * sizes[1])
    rows, columns = make(sizes[0], shift, sizes[1])
    return asarray(rows.astype(np.int64)), asarray(columns.astype(np.int64))


@public
def kron(x1: Any, x2: Any) -> Tensor:
    """The Kronecker product: every element of x1 times the whole of x2.

    >>> import proa as pa
    >>> pa.kron(pa.asarray([1, 10]), pa.asarray([1, 2])).tolist()
    [1, 2, 10, 20]
    """
    a, b = asarray(x1), asarray(x2)
    ndim = max(a.ndim, b.ndim)
    sizes = [(1,) * (ndim - t.ndim) + t.shape for t in (a, b)]
    a, b = [
        moves.reshape(t, tuple([n for s in size for n in ((s, 1) if first else (1, s))]))
        for t, size, first in zip((a, b), sizes, (True, False), strict=True)
    ]
    return moves.reshape(a * b, tuple([m * n for m, n in zip(*sizes, strict=True)]))  # type: ignore[no-any-return]


@public
def cross(x1: Any, x2: Any, axis: int = -1) -> Tensor:
    """The cross product of vectors of 3 elements along an axis.

    >>> import proa as pa
    >>> pa.cross(pa.asarray([1, 0, 0]), pa.asarray([0, 1, 0])).tolist()
    [0, 0, 1]
    """
    a, b = asarray(x1), asarray(x2)
    shape = broadcast_shapes("cross", [a.shape, b.shape])
    a, b = (moves.broadcast_to(t, shape) for t in (a, b))
    place = as_axis("cross", axis, a.ndim)
    if a.shape[place] != 3:
        given = f"axis {place} of shape {a.shape}"
        raise ShapeError(message("cross", given, "vectors of 3 elements"))
    u, v = (moves.moveaxis(t, place, 0) for t in (a, b))
    parts = [u[i - 2] * v[i - 1] - u[i - 1] * v[i - 2] for i in range(3)]
    return moves.stack(parts, place)  # type: ignore[no-any-return]


@public
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Tensor:
    """x with more elements before and after its axes.

    pad_width: a number, (before, after), or a pair for each axis. mode: "constant" puts a number
    there, "edge" the last element, "reflect" and "symmetric" what lies on the other side of the
    edge without it and with it, "wrap" what lies at the other end.

    >>> import proa as pa
    >>> pa.pad(pa.asarray([1, 2, 3]), (1, 2), mode="reflect").tolist()
    [2, 1, 2, 3, 2, 1]
    """
    need_tensor("pad", x)
    shape = value_of("pad", x).spec.shape
    widths = _widths(pad_width, len(shape))
    choice("pad", "mode", mode, MODES)
    number = ew.same_dtype(x, constant_values)
    as_shape("pad", tuple([n + sum(w) for n, w in zip(shape, widths, strict=True)]))
    if mode == "constant":
        low, high = (tuple([w[i] for w in widths]) for i in (0, 1))
        none = (0,) * len(shape)
        return mv.pad(x, number, low=low, high=high, interior=none)  # type: ignore[no-any-return]
    for axis, (pair, n) in enumerate(zip(widths, shape, strict=True)):
        if pair == (0, 0):
            continue
        if not n:
            given = f"mode {mode!r} of shape {shape}"
            raise ShapeError(message("pad", given, "elements to repeat along axis " + str(axis)))
        need("pad", 16 * (n + sum(pair)))
        places = np.pad(np.arange(n), pair, mode=mode)  # type: ignore[call-overload]
        x = cp.take(x, asarray(places), axis)
    return asarray(x)


def _widths(given: Any, ndim: int) -> list[tuple[int, int]]:
    """A pair for each axis."""
    if number_of(given) is not None:
        given = [(given, given)] * ndim
    elif isinstance(given, (tuple, list)) and len(given) == 2 and number_of(given[0]) is not None:
        given = [tuple(given)] * ndim
    elif isinstance(given, (tuple, list)) and len(given) == 1 and ndim > 1:
        given = [given[0]] * ndim
    fits = isinstance(given, (tuple, list)) and len(given) == ndim
    if not fits or any(not isinstance(p, (tuple, list)) or len(p) != 2 for p in given):
        text = f"pad_width {given!r:.80} for {ndim} axes"
        raise ArgumentError(message("pad", text, "a number, a pair, or a pair for each axis"))
    pairs = [tuple([as_int("pad", "width", n) for n in pair]) for pair in given]
    if any(n < 0 for pair in pairs for n in pair):
        raise ArgumentError(message("pad", f"pad_width {given!r:.80}", "widths of at least 0"))
    return pairs  # type: ignore[return-value]


@public
def masked_fill(x: Any, mask: Any, value: Any) -> Tensor:
    """`value` where the mask holds, else x, in the dtype of x.

    >>> import proa as pa
    >>> pa.masked_fill(pa.asarray([1.0, 2.0]), pa.asarray([True, False]), 0.0).tolist()
    [0.0, 2.0]
    """
    return op.where(mask, ew.same_dtype(x, value), x)  # type: ignore[no-any-return]
