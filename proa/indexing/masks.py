"""Shapes that depend on values (RULES 1.11): counted at once, or given as `size=`."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.convert import asarray
from proa.dtypes import bool_, int64
from proa.errors import ArgumentError, IndexingError, JitError, message
from proa.graph.node import line_of
from proa.ops import moves, reduce
from proa.ops.composite.searching import places_by_axis, true_places
from proa.ops.primitive import cast_to, value_of
from proa.record.live import CAPTURE, caller, thread
from proa.shapes import as_int
from proa.tensor import Tensor


def counted(name: str, flags: Any, size: Any, hint: str) -> int:
    """How many elements are true: read now, unless `size` says how many places there are."""
    if size is not None:
        n = as_int(name, "size", size)
        if n < 0:
            raise ArgumentError(message(name, f"size {n}", "at least 0"))
        return n
    refuse_recorded(name, flags, hint)
    return int(reduce.sum(cast_to(flags, int64)).item())


def refuse_recorded(name: str, x: Any, hint: str, expected: str = "`size=`") -> None:
    """While a function is recorded no shape is known that depends on values."""
    if thread.state.mode & CAPTURE or type(x) is not Tensor:
        given = f"a result whose shape depends on values, recorded at {line_of(caller(2))}"
        raise JitError(message(name, given, f"a shape that is known: {expected}", hint))


def places_of(name: str, mask: Any, size: Any = None, hint: str = "") -> tuple[Any, ...]:
    """An index tensor for each axis of a mask: where it is true, row by row."""
    shape = value_of(name, mask).spec.shape
    flat = moves.reshape(mask, (-1,)) if len(shape) != 1 else mask
    count = counted(name, flat, size, hint or f"pa.{name}(x, size=n)")
    return places_by_axis(true_places(flat, count), shape)


def is_mask(item: Any) -> bool:
    """Whether an item of an index is a bool tensor or array, or nested lists of bools."""
    of = getattr(item, "value", None)
    dtype = getattr(getattr(of, "spec", None), "dtype", None) or getattr(item, "dtype", None)
    if dtype is None and isinstance(item, list):
        return _holds_bools(item)
    return dtype is bool_ or getattr(dtype, "kind", "") == "b"


def _holds_bools(item: list[Any]) -> bool:
    first: Any = item
    for _ in range(65):
        if not isinstance(first, list) or not first:
            break
        first = first[0]
    if not isinstance(first, (bool, np.bool_)):
        return False
    try:
        return np.asarray(item).dtype.kind == "b"
    except (ValueError, TypeError):
        return False  # said elsewhere, in words


def masked_places(item: Any, shape: tuple[int, ...], first: int) -> tuple[Any, ...]:
    """An index tensor for each axis that a mask stands for, from axis `first` on."""
    mask = asarray(item)
    if not mask.ndim:
        raise IndexingError(
            message("index", "a mask of 0 axes", "one with axes", "x[None][m[None]]")
        )
    own = shape[first : first + mask.ndim]
    if mask.shape != own:
        given = f"a mask of shape {mask.shape} for axes of sizes {own}"
        raise IndexingError(message("index", given, "a mask with the sizes of these axes"))
    return places_of("nonzero", mask, hint="pa.where, or x[pa.nonzero(mask, size=n)]")
