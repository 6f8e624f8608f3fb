"""Places found by values, and what differs: shapes that depend on values are counted at once, or
given as `size=` (RULES 1.11)."""

from __future__ import annotations

from typing import Any, NamedTuple

from proa.array.elementwise import truth
from proa.array.public import need_tensor, public
from proa.dtypes import int64
from proa.errors import DtypeError, ShapeError, message
from proa.indexing.masks import counted, places_of
from proa.ops import composite as cp
from proa.ops import moves
from proa.ops.composite.searching import ONE_AXIS, Groups, groups_of, true_places
from proa.ops.indexing import gather, scatter
from proa.ops.movement import concatenate, slice_, zeros
from proa.ops.primitive import REAL, apply, as_number, value_of
from proa.tensor import Tensor

searchsorted = public(cp.searchsorted)


@public
def nonzero(x: Any, /, *, size: int | None = None) -> tuple[Tensor, ...]:
    """An index tensor (int64) for each axis: where x differs from 0, row by row.

    size: how many places, needed under `jit`; where there are fewer, indices outside x follow, at
    which reading gives NaN (0 in other dtypes) and writing does nothing.

    >>> import proa as pa
    >>> [i.tolist() for i in pa.nonzero(pa.asarray([[0, 3], [4, 0]]))]
    [[0, 1], [1, 0]]
    """
    need_tensor("nonzero", x)
    if not value_of("nonzero", x).spec.ndim:
        hint = "x.reshape((1,))"
        raise ShapeError(message("nonzero", "a tensor of 0 axes", "at least 1", hint))
    return places_of("nonzero", truth(x), size)


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


def _groups(name: str, x: Any, size: Any) -> tuple[Groups, Any, int]:
    """The groups of equal elements, where each begins in sorted order, and how many elements."""
    need_tensor(name, x)
    of = value_of(name, x).spec
    if of.dtype not in REAL:
        raise DtypeError(message(name, of.dtype.name, "a real dtype"))
    groups = groups_of(moves.reshape(x, (-1,)))
    count = counted(name, groups.is_first, size, f"pa.{name}(x, size=n)")
    return groups, true_places(groups.is_first, count), of.size


def _counts(starts: Any, size: int) -> Any:
    """From each beginning to the next."""
    n = starts.value.spec.shape[0]
    if not n:
        return starts
    end = moves.reshape(as_number("unique", size, int64), (1,))
    later = apply(slice_, (starts,), starts=(1,), stops=(n,), strides=(1,))
    return apply(concatenate, (later, end), axis=0) - starts


def _inverse(groups: Groups, shape: tuple[int, ...]) -> Any:
    flat = zeros(groups.number.value.spec.shape, groups.number.value.spec)
    found = apply(scatter, (flat, groups.number, groups.order), **ONE_AXIS, mode="set")
    return moves.reshape(found, shape)


def _read(x: Any, places: Any) -> Any:
    return apply(gather, (x, places), **ONE_AXIS)


@public
def unique_all(x: Any, /, *, size: int | None = None) -> UniqueAll:
    """The distinct elements of x, ascending: (values, indices of the first of each, for every
    element of x the place of its value, counts). Every NaN is distinct.

    size: how many values, needed under `jit`; where there are fewer, NaN (0 in other dtypes) with
    count 0 follow.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.unique_all(pa.asarray([3, 1, 3]))]
    [[1, 3], [1, 0], [1, 0, 1], [1, 2]]
    """
    groups, starts, n = _groups("unique_all", x, size)
    inverse = _inverse(groups, value_of("unique_all", x).spec.shape)
    values, indices = _read(groups.values, starts), _read(groups.order, starts)
    return UniqueAll(values, indices, inverse, _counts(starts, n))


@public
def unique_counts(x: Any, /, *, size: int | None = None) -> UniqueCounts:
    """The distinct elements of x, ascending, and how often each occurs. See `unique_all`.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.unique_counts(pa.asarray([3, 1, 3]))]
    [[1, 3], [1, 2]]
    """
    groups, starts, n = _groups("unique_counts", x, size)
    return UniqueCounts(_read(groups.values, starts), _counts(starts, n))


@public
def unique_inverse(x: Any, /, *, size: int | None = None) -> UniqueInverse:
    """The distinct elements of x, ascending, and for each element the place of its value. See
    `unique_all`.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.unique_inverse(pa.asarray([3, 1, 3]))]
    [[1, 3], [1, 0, 1]]
    """
    groups, starts, _ = _groups("unique_inverse", x, size)
    inverse = _inverse(groups, value_of("unique_inverse", x).spec.shape)
    return UniqueInverse(_read(groups.values, starts), inverse)


@public
def unique_values(x: Any, /, *, size: int | None = None) -> Tensor:
    """The distinct elements of x, ascending. See `unique_all`.

    >>> import proa as pa
    >>> pa.unique_values(pa.asarray([3, 1, 3])).tolist()
    [1, 3]
    """
    groups, starts, _ = _groups("unique_values", x, size)
    return _read(groups.values, starts)  # type: ignore[no-any-return]
