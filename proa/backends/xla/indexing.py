"""Emitters of indexing and scans."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from jax import lax

from proa.backends.xla.elementwise import Function, widened
from proa.graph.entry import Entry

DROP: Final[dict[str, Any]] = {"mode": "drop", "wrap_negative_indices": False}
FILL: Final[dict[str, Any]] = {"mode": "fill", "wrap_negative_indices": False}


def _addressed(x: Any, indices: Any, axes: Any, batch: int) -> tuple[Any, Any, list[int]]:
    """x with what is addressed in front, an index for each of those axes, the axes' order.

    What uint64 holds beyond int64 turns negative: outside in any case.
    """
    order = [*range(batch), *axes, *[i for i in range(batch, x.ndim) if i not in axes]]
    shared = jnp.indices(indices[0].shape, sparse=True)[:batch]
    where = (*shared, *[i.astype(jnp.int64) for i in indices])
    return lax.transpose(x, order), where, order


def _gather(entry: Entry, x: Any, *indices: Any) -> Any:
    fill = np.nan if entry.out.dtype.is_float else 0
    if x.size == 0:
        return jnp.full(entry.out.shape, fill, x.dtype)
    table, where, _ = _addressed(x, indices, *entry.params)
    return table.at[where].get(fill_value=fill, **FILL)


def _scatter(entry: Entry, x: Any, updates: Any, *indices: Any) -> Any:
    axes, batch, mode = entry.params
    if x.size == 0:
        return x
    table, where, order = _addressed(x, indices, axes, batch)
    if mode == "set":
        where = _last_only(table.shape, where)
    table, updates = (widened(table), widened(updates)) if mode == "add" else (table, updates)
    found = getattr(table.at[where], mode)(updates, **DROP).astype(x.dtype)
    return lax.transpose(found, [order.index(i) for i in range(x.ndim)])


def _last_only(shape: tuple[int, ...], where: Any) -> Any:
    """Of several at one place all but the last are sent outside: XLA promises no order."""
    own = where[-1].shape
    numbers = lax.iota(jnp.int64, prod(own)).reshape(own)
    table = jnp.full(shape[: len(where)], -1, jnp.int64).at[where].max(numbers, **DROP)
    last = table.at[where].get(fill_value=-1, **FILL) == numbers
    return (*where[:-1], jnp.where(last, where[-1], -1))


def _starts(x: Any, starts: Any, axes: Any, spans: Any) -> list[Any]:
    """One start for each axis of x, clamped so that the window fits."""
    found = [jnp.int64(0)] * x.ndim
    for axis, start, span in zip(axes, starts, spans, strict=True):
        found[axis] = jnp.clip(start, 0, x.shape[axis] - span)
    return found


def _each(ndim: int, axes: Any, values: Any, other: int = 1) -> list[int]:
    at = dict(zip(axes, values, strict=True))
    return [at.get(i, other) for i in range(ndim)]


def _spans(sizes: Any, strides: Any) -> list[int]:
    return [max(0, (n - 1) * k + 1) for n, k in zip(sizes, strides, strict=True)]


def _dynamic_slice(entry: Entry, x: Any, *starts: Any) -> Any:
    axes, sizes, strides = entry.params
    spans = _spans(sizes, strides)
    shape = [s if i in axes else n for i, (n, s) in enumerate(zip(x.shape, _each(x.ndim, axes, spans)))]
    found = lax.dynamic_slice(x, _starts(x, starts, axes, spans), shape)
    return lax.slice(found, (0,) * x.ndim, shape, _each(x.ndim, axes, strides))


def _dynamic_update(entry: Entry, x: Any, update: Any, *starts: Any) -> Any:
    axes, strides = entry.params
    first = _starts(x, starts, axes, _spans([update.shape[a] for a in axes], strides))
    if set(strides) <= {1}:
        return lax.dynamic_update_slice(x, update, first)
    rows = zip(first, update.shape, _each(x.ndim, axes, strides), strict=True)
    where = jnp.ix_(*[a + k * lax.iota(jnp.int64, n) for a, n, k in rows])
    return x.at[where].set(update, unique_indices=True)


def _cumsum(entry: Entry, x: Any) -> Any:
    return lax.cumsum(widened(x), *entry.params).astype(x.dtype)


def _sort(entry: Entry, x: Any) -> tuple[Any, Any]:
    (axis,) = entry.params
    numbers = lax.broadcasted_iota(jnp.int64, x.shape, axis)
    _, values, order = lax.sort((_keys(x), x, numbers), axis, is_stable=True, num_keys=1)
    return values, order


def _keys(x: Any) -> Any:
    """Integers in the order of x: every NaN is last, both zeros are equal, denormals count."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    signed = np.dtype(f"int{x.dtype.itemsize * 8}")
    bits, top = lax.bitcast_convert_type(x, signed), np.iinfo(signed).max
    return jnp.where(jnp.isnan(x), top, jnp.where(bits < 0, -(bits & top), bits))


TABLE: Final[dict[str, Function]] = {
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update": _dynamic_update,
    "cumsum": _cumsum,
    "sort": _sort,
}
