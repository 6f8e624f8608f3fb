"""How many, and sums of what belongs together: counts of numbers, histograms, segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa import dtypes
from proa.array import creation as cr
from proa.array import elementwise as ew
from proa.array import reductions as rs
from proa.array.public import need_tensor, public
from proa.convert import asarray
from proa.dtypes import int64
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.indexing.masks import refuse_recorded
from proa.ops import composite as cp
from proa.ops import moves
from proa.ops import operators as op
from proa.ops.composite.common import choice, flag, integers
from proa.ops.composite.searching import ONE_AXIS
from proa.ops.families.indexing import moved_axis
from proa.ops.indexing import scatter
from proa.ops.movement import zeros
from proa.ops.primitive import INT, apply, as_number, cast_to, value_of
from proa.shapes import as_axis, as_int, as_shape
from proa.tensor import Tensor

MODES = {"sum": "add", "mean": "add", "amax": "max", "amin": "min"}


@public
def bincount(
    x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None
) -> Tensor:
    """How often each of 0, 1, 2, ... occurs in x, or the sums of their weights.

    x: one axis, integers (negative ones count nothing); length: how many counts, needed under
    `jit`; else up to the largest element, at least `minlength`.

    >>> import proa as pa
    >>> pa.bincount(pa.asarray([1, 3, 1])).tolist()
    [0, 2, 0, 1]
    """
    name = "bincount"
    need_tensor(name, x)
    of = value_of(name, x).spec
    if of.dtype not in INT or of.ndim != 1:
        raise DtypeError(message(name, f"{of}", "integers of one axis"))
    (least,) = as_shape(name, as_int(name, "minlength", minlength))
    if length is None:
        refuse_recorded(name, x, "pa.bincount(x, length=n)", "`length=`")
        length = max(least, int(rs.max(x).item()) + 1 if of.size else 0)
    (n,) = as_shape(name, as_int(name, "length", length))
    ones = cr.ones(of.shape, dtype=int64) if weights is None else asarray(weights)
    if ones.shape != of.shape:
        raise ShapeError(message(name, f"weights of shape {ones.shape} for {of.shape}", "one each"))
    none = zeros((n,), ones.value.spec)
    places = cast_to(x, int64)
    return apply(scatter, (none, ones, places), **ONE_AXIS, mode="add")  # type: ignore[no-any-return]


@public
def histogram(
    x: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool = False
) -> tuple[Tensor, Tensor]:
    """Counts of elements between edges, and the edges. The last part is closed.

    bins: how many equal parts of `range` (low, high), else of what lies between the smallest and
    the largest element; or a tensor of ascending edges. With `density` parts have area 1 together.

    >>> import proa as pa
    >>> counts, edges = pa.histogram(pa.asarray([1.0, 2.0, 1.5, 4.0]), bins=3)
    >>> counts.tolist(), edges.tolist()
    ([2, 1, 1], [1.0, 2.0, 3.0, 4.0])
    """
    name = "histogram"
    need_tensor(name, x)
    x = moves.reshape(asarray(x), (-1,))
    dtype = x.dtype if x.dtype.is_float else dtypes.default_float()
    if isinstance(bins, (list, tuple, Tensor)) or np.ndim(bins):
        edges = asarray(bins)
        if edges.ndim != 1 or edges.shape[0] < 2:
            raise ShapeError(
                message(name, f"edges of shape {edges.shape}", "at least 2 of one axis")
            )
    else:
        edges = _edges(name, x, as_int(name, "bins", bins), range, dtype)
    count = edges.shape[0] - 1
    place = cp.searchsorted(edges, x, side="right") - 1
    place = op.where(x == edges[-1], count - 1, place)
    place = op.where((place < 0) | (place >= count) | ew.isnan(x), count, place)
    found = bincount(place, None if weights is None else moves.reshape(asarray(weights), (-1,)),
                     length=count + 1)[:count]  # fmt: skip
    if flag(name, "density", density):
        found = op.astype(found, dtype)
        found = found / rs.sum(found) / (edges[1:] - edges[:-1])
    return found, edges


def _edges(name: str, x: Tensor, count: int, ends: Any, dtype: Any) -> Tensor:
    if count < 1:
        raise ArgumentError(message(name, f"bins {count}", "at least 1"))
    if ends is None and x.size:
        low, high = (op.astype(f(x), dtype) for f in (rs.min, rs.max))
    else:
        given = (0.0, 1.0) if ends is None else ends
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ArgumentError(message(name, f"range {ends!r:.60}", "(low, high)"))
        low, high = (asarray(v, dtype=dtype) for v in given)
    same = low == high
    low, high = op.where(same, low - 0.5, low), op.where(same, high + 0.5, high)
    steps = op.astype(cr.arange(count + 1), dtype) / count
    inner = low + (high - low) * steps
    return op.where(steps == 1.0, high, inner)  # type: ignore[no-any-return]


# What belongs together.


@public
def index_add(x: Any, axis: int, index: Any, source: Any, *, alpha: Any = 1) -> Tensor:
    """x with alpha times each slice of `source` added to the slice of x that `index` names along an
    axis. Slices outside are dropped.

    >>> import proa as pa
    >>> pa.index_add(pa.zeros(3), 0, pa.asarray([1, 1]), pa.asarray([2.0, 5.0])).tolist()
    [0.0, 7.0, 0.0]
    """
    name = "index_add"
    x, index, source = asarray(x), asarray(index), asarray(source)
    integers(name, "index", index)
    a = as_axis(name, axis, x.ndim)
    source = op.astype(source, x.dtype)
    if type(alpha) is not int or alpha != 1:
        source = source * ew.same_dtype(source, alpha)
    if index.ndim != 1 or source.shape != (*x.shape[:a], index.size, *x.shape[a + 1 :]):
        given = f"index of shape {index.shape} and source of shape {source.shape} for {x.shape}"
        raise ShapeError(message(name, given, "one index for each slice of source along the axis"))
    operands = (x, moved_axis(source, a, 0), _from_end(index, x.shape[a]))
    return apply(scatter, operands, axes=(a,), batch=0, mode="add")  # type: ignore[no-any-return]


def _from_end(index: Any, size: int) -> Any:
    wide = cast_to(index, int64)
    return op.where(wide < 0, wide + size, wide)


@public
def scatter_reduce(
    x: Any, axis: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """x where each element of `source` is joined to the element of x that `index`, of the same
    shape, names along an axis: "sum", "mean", "amax" or "amin", x itself among them if
    `include_self`. All axes but one have the sizes of x.

    >>> import proa as pa
    >>> x, i, y = pa.zeros(3), pa.asarray([1, 1, 0]), pa.asarray([2.0, 4.0, 5.0])
    >>> pa.scatter_reduce(x, 0, i, y, "mean", include_self=False).tolist()
    [5.0, 3.0, 0.0]
    """
    name = "scatter_reduce"
    x, index, source = asarray(x), asarray(index), asarray(source)
    integers(name, "index", index)
    a, last = as_axis(name, axis, x.ndim), x.ndim - 1
    mode = MODES[choice(name, "reduce", reduce, tuple(MODES))]
    rest = [s[:a] + s[a + 1 :] for s in (x.shape, index.shape, source.shape)]
    if index.shape != source.shape or rest[0] != rest[1]:
        given = f"shapes {x.shape}, {index.shape} and {source.shape}"
        raise ShapeError(message(name, given, "equal sizes on all other axes"))
    where = {"axes": (last,), "batch": last}
    index = moved_axis(_from_end(index, x.shape[a]), a, last)
    source = moved_axis(op.astype(source, x.dtype), a, last)
    start = moved_axis(x, a, last)
    count = zeros(start.shape, value_of(name, cr.zeros((), dtype=int64)).spec)
    ones = cr.ones(source.shape, dtype=int64)
    count = apply(scatter, (count, ones, index), **where, mode="add")
    kept = start
    if not flag(name, "include_self", include_self):
        start = op.where(count > 0, _nothing(mode, x.dtype), start)
    found = apply(scatter, (start, source, index), **where, mode=mode)
    if reduce == "mean":
        total = count + 1 if include_self else op.where(count > 0, count, 1)
        found = found / op.astype(total, x.dtype) if x.dtype.is_float else found // total
        found = op.where(count > 0, found, kept)
    return moved_axis(found, last, a)  # type: ignore[no-any-return]


def _nothing(mode: str, dtype: Any) -> Any:
    """What changes nothing when it is joined."""
    if mode == "add":
        return as_number("scatter_reduce", 0, dtype)
    if dtype.is_float:
        return as_number("scatter_reduce", float("-inf" if mode == "max" else "inf"), dtype)
    info = dtypes.iinfo(dtype)
    return as_number("scatter_reduce", info.min if mode == "max" else info.max, dtype)


def _segments(name: str, x: Any, ids: Any, count: Any, mode: str) -> tuple[Any, Any]:
    """The joined slices of x along its first axis, and their numbers."""
    x, ids = asarray(x), asarray(ids)
    integers(name, "segment_ids", ids)
    if ids.ndim != 1 or x.shape[:1] != ids.shape:
        given = f"segment_ids of shape {ids.shape} for {x.shape}"
        raise ShapeError(message(name, given, "one for each slice of the first axis"))
    if count is None:
        refuse_recorded(name, ids, f"pa.{name}(x, ids, num_segments=n)", "`num_segments=`")
        count = int(rs.max(ids).item()) + 1 if ids.size else 0
    (n,) = as_shape(name, as_int(name, "num_segments", count))
    start = moves.broadcast_to(_nothing(mode, x.dtype), (n, *x.shape[1:]))
    ids = cast_to(ids, int64)
    return apply(scatter, (start, x, ids), **ONE_AXIS, mode=mode), bincount(ids, length=n)


@public
def segment_sum(x: Any, segment_ids: Any, num_segments: int | None = None) -> Tensor:
    """Sums of the slices of x along its first axis that have one number; 0 of none.

    segment_ids: one axis, integers in any order; num_segments: needed under `jit`, else up to the
    largest number.

    >>> import proa as pa
    >>> pa.segment_sum(pa.asarray([1.0, 2.0, 4.0]), pa.asarray([0, 2, 0])).tolist()
    [5.0, 0.0, 2.0]
    """
    return _segments("segment_sum", x, segment_ids, num_segments, "add")[0]  # type: ignore[no-any-return]


@public
def segment_mean(x: Any, segment_ids: Any, num_segments: int | None = None) -> Tensor:
    """Means of the slices of x along its first axis that have one number; NaN of none. x: float.

    >>> import proa as pa
    >>> pa.segment_mean(pa.asarray([1.0, 2.0, 4.0]), pa.asarray([0, 1, 0])).tolist()
    [2.5, 2.0]
    """
    total, count = _segments("segment_mean", x, segment_ids, num_segments, "add")
    count = moves.reshape(count, (*count.shape, *[1] * (total.ndim - 1)))
    return total / op.astype(count, total.dtype)  # type: ignore[no-any-return]


@public
def segment_max(x: Any, segment_ids: Any, num_segments: int | None = None) -> Tensor:
    """The largest of the slices of x along its first axis that have one number; of none the least
    number there is.

    >>> import proa as pa
    >>> pa.segment_max(pa.asarray([1.0, 2.0, 4.0]), pa.asarray([0, 1, 0])).tolist()
    [4.0, 2.0]
    """
    return _segments("segment_max", x, segment_ids, num_segments, "max")[0]  # type: ignore[no-any-return]


@public
def segment_min(x: Any, segment_ids: Any, num_segments: int | None = None) -> Tensor:
    """The smallest of the slices of x along its first axis that have one number; of none the
    largest number there is.

    >>> import proa as pa
    >>> pa.segment_min(pa.asarray([1.0, 2.0, 4.0]), pa.asarray([0, 1, 0])).tolist()
    [1.0, 2.0]
    """
    return _segments("segment_min", x, segment_ids, num_segments, "min")[0]  # type: ignore[no-any-return]
