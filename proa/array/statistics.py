"""Order statistics, reductions that leave NaN out, covariance, interpolation."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from proa import dtypes
from proa.array import elementwise as ew
from proa.array import manipulation as mp
from proa.array import reductions as rs
from proa.array.matrices import diagonal
from proa.array.public import need_tensor, public
from proa.convert import asarray
from proa.dtypes import int64
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.indexing import getitem
from proa.ops import composite as cp
from proa.ops import moves, products, scans
from proa.ops import operators as op
from proa.ops.composite.common import flag, number, real
from proa.ops.indexing import take_along
from proa.ops.primitive import apply, number_of, value_of
from proa.shapes import as_axes, as_axis, as_int
from proa.tensor import Tensor

nan = float("nan")


def _floats(name: str, x: Any) -> Tensor:
    """A float tensor; integers in the default float."""
    need_tensor(name, x)
    x = asarray(x)
    if x.dtype.kind == "complex" or x.dtype.is_storage:
        raise DtypeError(message(name, x.dtype.name, "a real dtype"))
    return x if x.dtype.is_float else op.astype(x, dtypes.default_float())  # type: ignore[no-any-return]


# Order statistics.


class TopK(NamedTuple):
    """What `topk` gives."""

    values: Tensor
    indices: Tensor


@public
def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> TopK:
    """The k largest (smallest) elements along an axis in order, and their places; NaN comes last.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.topk(pa.asarray([1.0, 4.0, 2.0]), 2)]
    [[4.0, 2.0], [1, 2]]
    """
    need_tensor("topk", x)
    shape = value_of("topk", x).spec.shape
    a, n = as_axis("topk", axis, len(shape)), as_int("topk", "k", k)
    if not 0 <= n <= shape[a]:
        raise ArgumentError(
            message("topk", f"k {n} of {shape[a]} elements", f"0 <= k <= {shape[a]}")
        )
    found = mp.sorted_along("topk", x, a, flag("topk", "largest", largest), True)
    part = (slice(None),) * a + (slice(n),)
    return TopK(*[getitem(t, part) for t in found])


def _rows(x: Tensor, axis: Any, name: str) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """The axes reduced as one, the last; the axes; the shape that keepdims leaves."""
    axes = as_axes(name, axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    rows = moves.permute_dims(x, (*rest, *axes))
    rows = moves.reshape(rows, (*[x.shape[i] for i in rest], prod(x.shape[a] for a in axes)))
    return rows, axes, tuple([1 if i in axes else n for i, n in enumerate(x.shape)])


def _quantile(name: str, x: Any, q: Any, axis: Any, keepdims: bool, skips: bool) -> Tensor:
    x = _floats(name, x)
    plain = number_of(q)
    if plain is not None:
        real(name, "q", plain, 0.0, 1.0)
    wanted = asarray(q, dtype=x.dtype) if plain is not None else op.astype(asarray(q), x.dtype)
    rows, _, kept = _rows(x, axis, name)
    size = rows.shape[-1]
    if not size:
        raise ShapeError(message(name, f"shape {x.shape}", "at least one element to choose from"))
    values, _ = apply(scans.sort, (rows,), axis=rows.ndim - 1)
    present = rs.sum(op.astype(~ew.isnan(values), int64), axis=-1, keepdims=True)
    count = op.where(present > 0, present, 1) if skips else asarray(size)
    places = moves.reshape(wanted, (1,) * (rows.ndim - 1) + (-1,)) * op.astype(count - 1, x.dtype)
    places = moves.broadcast_to(places, (*rows.shape[:-1], wanted.size))
    low = ew.floor(places)
    share = places - low
    first = op.astype(low, int64)
    second = op.clip(first + 1, max=size - 1)
    a, b = (take_along(values, i, rows.ndim - 1) for i in (first, second))
    found = op.where((share == 0.0) | (a == b), a, a + (b - a) * share)
    if not skips:
        found = op.where(present == size, found, nan)
    found = moves.moveaxis(found, -1, 0)
    rest = kept if flag(name, "keepdims", keepdims) else rows.shape[:-1]
    return moves.reshape(found, (*wanted.shape, *rest))  # type: ignore[no-any-return]


@public
def quantile(x: Any, q: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The number below which a share q (0 to 1, or a tensor of such) of the elements over axes
    lies, interpolated linearly; NaN if one is. Axes of q come first.

    >>> import proa as pa
    >>> pa.quantile(pa.asarray([1.0, 2.0, 4.0]), 0.75).item()
    3.0
    """
    return _quantile("quantile", x, q, axis, keepdims, False)


@public
def nanquantile(x: Any, q: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """`quantile` of what is not NaN; NaN where all are.

    >>> import proa as pa
    >>> pa.nanquantile(pa.asarray([1.0, float("nan"), 3.0]), 0.5).item()
    2.0
    """
    return _quantile("nanquantile", x, q, axis, keepdims, True)


@public
def median(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The middle element over axes, the mean of both of an even number; NaN if one is.

    >>> import proa as pa
    >>> pa.median(pa.asarray([5.0, 1.0, 2.0, 4.0])).item()
    3.0
    """
    return _quantile("median", x, 0.5, axis, keepdims, False)


@public
def nanmedian(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """`median` of what is not NaN; NaN where all are.

    >>> import proa as pa
    >>> pa.nanmedian(pa.asarray([1.0, float("nan"), 3.0])).item()
    2.0
    """
    return _quantile("nanmedian", x, 0.5, axis, keepdims, True)


# Without NaN.


def _without(x: Any, fill: float) -> Any:
    return op.where(ew.isnan(x), fill, x) if x.dtype.is_inexact else x


@public
def nansum(x: Any, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum of what is not NaN; 0 of nothing.

    >>> import proa as pa
    >>> pa.nansum(pa.asarray([1.0, float("nan"), 3.0])).item()
    4.0
    """
    return rs.sum(_without(asarray(x), 0.0), axis, dtype=dtype, keepdims=keepdims)  # type: ignore[no-any-return]


@public
def nanprod(x: Any, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product of what is not NaN; 1 of nothing.

    >>> import proa as pa
    >>> pa.nanprod(pa.asarray([2.0, float("nan"), 3.0])).item()
    6.0
    """
    return rs.prod(_without(asarray(x), 1.0), axis, dtype=dtype, keepdims=keepdims)  # type: ignore[no-any-return]


def _extreme(
    name: str, reduce: Callable[..., Any], fill: float, x: Any, axis: Any, keep: Any
) -> Any:
    need_tensor(name, x)
    x = asarray(x)
    if not x.dtype.is_inexact:
        return reduce(x, axis, keepdims=keep)
    lost = ew.isnan(x)
    found = reduce(op.where(lost, fill, x), axis, keepdims=keep)
    return op.where(rs.all(lost, axis, keepdims=keep), nan, found)


@public
def nanmax(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The largest of what is not NaN; NaN where all are.

    >>> import proa as pa
    >>> pa.nanmax(pa.asarray([1.0, float("nan"), 3.0])).item()
    3.0
    """
    return _extreme("nanmax", rs.max, float("-inf"), x, axis, keepdims)  # type: ignore[no-any-return]


@public
def nanmin(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The smallest of what is not NaN; NaN where all are.

    >>> import proa as pa
    >>> pa.nanmin(pa.asarray([1.0, float("nan"), 3.0])).item()
    1.0
    """
    return _extreme("nanmin", rs.min, float("inf"), x, axis, keepdims)  # type: ignore[no-any-return]


def _present(x: Tensor, axis: Any, keepdims: bool) -> Any:
    return rs.sum(op.astype(~ew.isnan(x), x.dtype), axis, keepdims=keepdims)


@public
def nanmean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """The mean of what is not NaN; NaN of nothing.

    >>> import proa as pa
    >>> pa.nanmean(pa.asarray([1.0, float("nan"), 3.0])).item()
    2.0
    """
    x = _floats("nanmean", x)
    return rs.sum(_without(x, 0.0), axis, keepdims=keepdims) / _present(x, axis, keepdims)  # type: ignore[no-any-return]


@public
def nanvar(x: Any, axis: Any = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance of what is not NaN, divided by their number less `correction`; NaN
    if that is not positive.

    >>> import proa as pa
    >>> pa.nanvar(pa.asarray([1.0, float("nan"), 3.0])).item()
    1.0
    """
    x = _floats("nanvar", x)
    c = number("nanvar", "correction", correction, x.dtype)
    d = op.where(ew.isnan(x), 0.0, x - nanmean(x, axis, keepdims=True))
    total = rs.sum(d * d, axis, keepdims=keepdims)
    freedom = _present(x, axis, keepdims) - c
    return op.where(freedom > 0.0, total / freedom, nan)  # type: ignore[no-any-return]


@public
def nanstd(x: Any, axis: Any = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of `nanvar`.

    >>> import proa as pa
    >>> pa.nanstd(pa.asarray([1.0, float("nan"), 3.0])).item()
    1.0
    """
    return ew.sqrt(nanvar(x, axis, correction=correction, keepdims=keepdims))  # type: ignore[no-any-return]


# Covariance and interpolation.


@public
def cov(x: Any, *, correction: float = 1.0) -> Tensor:
    """The covariances of the rows of x (variables) over its columns (observations); of one row its
    variance, 0 axes.

    >>> import proa as pa
    >>> pa.cov(pa.asarray([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = _floats("cov", x)
    if x.ndim > 2:
        raise ShapeError(message("cov", f"shape {x.shape}", "at most 2 axes"))
    rows = moves.reshape(x, (1, -1)) if x.ndim < 2 else x
    c = number("cov", "correction", correction, x.dtype)
    d = rows - cp.mean(rows, axis=1, keepdims=True)
    freedom = op.clip(asarray(rows.shape[1], dtype=x.dtype) - c, min=0.0)
    found = products.matmul(d, moves.matrix_transpose(d)) / freedom
    return moves.reshape(found, ()) if rows.shape[0] == 1 else found  # type: ignore[no-any-return]


@public
def corrcoef(x: Any) -> Tensor:
    """The correlations of the rows of x, between -1 and 1.

    >>> import proa as pa
    >>> pa.corrcoef(pa.asarray([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    c = cov(x)
    if not c.ndim:
        return c / c
    deviation = ew.sqrt(diagonal(c))
    found = c / getitem(deviation, (slice(None), None)) / deviation
    return op.clip(found, -1.0, 1.0)  # type: ignore[no-any-return]


@public
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Tensor:
    """The piecewise linear function through the points (xp, fp) at x; outside its first and last
    value, or `left` and `right`.

    xp: one axis, ascending; fp: as many values.

    >>> import proa as pa
    >>> pa.interp(pa.asarray([0.5, 9.0]), pa.asarray([0.0, 1.0]), pa.asarray([2.0, 4.0])).tolist()
    [3.0, 4.0]
    """
    x, xp, fp = (_floats("interp", v) for v in (x, xp, fp))
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        given = f"points of shapes {xp.shape} and {fp.shape}"
        raise ShapeError(message("interp", given, "as many of both, at least one, of one axis"))
    n = xp.shape[0]
    place = op.clip(cp.searchsorted(xp, x, side="right"), 1, max(1, n - 1))
    x0, y0 = (getitem(v, (place - 1,)) for v in (xp, fp))
    x1, y1 = (getitem(v, (op.clip(place, max=n - 1),)) for v in (xp, fp))
    width = x1 - x0
    found = y0 + (y1 - y0) * ((x - x0) / op.where(width == 0.0, 1.0, width))
    low, high = (
        getitem(fp, 0) if left is None else left,
        getitem(fp, -1) if right is None else right,
    )
    found = op.where(x < getitem(xp, 0), low, found)
    found = op.where(x > getitem(xp, -1), high, found)
    return op.where(x == getitem(xp, -1), getitem(fp, -1), found)  # type: ignore[no-any-return]
