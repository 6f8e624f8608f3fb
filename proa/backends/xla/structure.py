"""Emitters of movement, reductions, contractions, indexing, scans, and of values from nothing."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from jax import lax

from proa.backends.xla.elementwise import Function, hindered, widened
from proa.graph.entry import Entry
from proa.ops.creation import threefry

DROP: Final[dict[str, Any]] = {"mode": "drop", "wrap_negative_indices": False}
FILL: Final[dict[str, Any]] = {"mode": "fill", "wrap_negative_indices": False}


def _dot(entry: Entry, x: Any, y: Any) -> Any:
    """XLA lays the result out as batch letters, letters of x, letters of y."""
    a, b, out = entry.params
    both = [c for c in a if c in b and c in out]
    summed = [c for c in a if c in b and c not in out]
    letters = [([a.index(c) for c in cs], [b.index(c) for c in cs]) for cs in (summed, both)]
    found = lax.dot_general(
        x, y, (letters[0], letters[1]), precision=lax.Precision.HIGHEST,
        preferred_element_type=widened(x).dtype,
    ).astype(x.dtype)  # fmt: skip
    order = both + [c for c in a if c not in b] + [c for c in b if c not in a]
    return lax.transpose(found, [order.index(c) for c in out])


def _conv(entry: Entry, x: Any, w: Any) -> Any:
    *geometry, groups = entry.params
    if 0 in (*x.shape[:2], *entry.outs[0].shape):
        return jnp.zeros(entry.outs[0].shape, x.dtype)
    precise: dict[str, Any] = {"feature_group_count": groups, "precision": lax.Precision.HIGHEST}
    return lax.conv_general_dilated(widened(x), widened(w), *geometry, **precise).astype(x.dtype)


def _random_bits(entry: Entry, state: Any) -> Any:
    """The declaration's own rounds, on arrays of jax."""
    (shape,) = entry.params
    lead, count = state.shape[:-1], prod(shape)
    key0, key1, draw, _ = [state[..., i, None] for i in range(4)]
    block = lax.iota(jnp.uint32, (count + 1) // 2)
    words = jnp.stack(threefry(key0, key1, block, draw), axis=-1)
    return words.reshape(*lead, 2 * block.size)[..., :count].reshape(lead + shape)


def _addressed(x: Any, indices: Any, axes: Any, batch: int) -> tuple[Any, Any, list[int]]:
    """x with what is addressed in front, an index for each of those axes, the axes' order. What
    uint64 holds beyond int64 turns negative; jax cuts indices to int32, so they are clamped."""
    order = [*range(batch), *axes, *[i for i in range(batch, x.ndim) if i not in axes]]
    shared = jnp.indices(indices[0].shape, sparse=True)[:batch]
    rows = zip(indices, axes, strict=True)
    own = [jnp.clip(i.astype(jnp.int64), -1, x.shape[a]) for i, a in rows]
    return lax.transpose(x, order), (*shared, *own), order


def _gather(entry: Entry, x: Any, *indices: Any) -> Any:
    fill = np.nan if entry.outs[0].dtype.is_float else 0
    if x.size == 0:
        return jnp.full(entry.outs[0].shape, fill, x.dtype)
    table, where, _ = _addressed(x, indices, *entry.params)
    return table.at[where].get(fill_value=fill, **FILL)


def _scatter(entry: Entry, x: Any, updates: Any, *indices: Any) -> Any:
    axes, batch, mode = entry.params
    if x.size == 0:
        return x
    table, where, order = _addressed(x, indices, axes, batch)
    if mode == "set":
        where = _last_only(table.shape, where)
    if mode == "add":
        table, updates = widened(table), widened(updates)
    found = getattr(table.at[where], mode)(updates, **DROP).astype(x.dtype)
    return lax.transpose(found, [order.index(i) for i in range(x.ndim)])


def _last_only(shape: tuple[int, ...], where: Any) -> Any:
    """Of several at one place all but the last are sent outside: XLA promises no order."""
    own = where[-1].shape
    numbers = lax.iota(jnp.int64, prod(own)).reshape(own)
    table = jnp.full(shape[: len(where)], -1, jnp.int64).at[where].max(numbers, **DROP)
    last = table.at[where].get(fill_value=-1, **FILL) == numbers
    return (*where[:-1], jnp.where(last, where[-1], -1))


def _windows(x: Any, starts: Any, axes: Any, sizes: Any, strides: Any) -> list[Any]:
    """(start, size, stride) for every axis of x; starts are clamped so that the window fits."""
    found = [(jnp.int64(0), n, 1) for n in x.shape]
    for axis, start, size, stride in zip(axes, starts, sizes, strides, strict=True):
        span = max(0, (size - 1) * stride + 1)
        found[axis] = (jnp.clip(start, 0, x.shape[axis] - span), size, stride)
    return found


def _dynamic_slice(entry: Entry, x: Any, *starts: Any) -> Any:
    rows = _windows(x, starts, *entry.params)
    spans = [max(0, (size - 1) * stride + 1) for _, size, stride in rows]
    found = lax.dynamic_slice(x, [start for start, _, _ in rows], spans)
    return lax.slice(found, (0,) * x.ndim, spans, [stride for _, _, stride in rows])


def _dynamic_update(entry: Entry, x: Any, update: Any, *starts: Any) -> Any:
    axes, strides = entry.params
    rows = _windows(x, starts, axes, [update.shape[a] for a in axes], strides)
    if set(strides) <= {1}:
        return lax.dynamic_update_slice(x, update, [start for start, _, _ in rows])
    where = jnp.ix_(*[start + stride * lax.iota(jnp.int64, size) for start, size, stride in rows])
    return x.at[where].set(update, unique_indices=True)


def _sort(entry: Entry, x: Any) -> tuple[Any, Any]:
    """By integers in the order of x: every NaN is last, both zeros are equal, denormals count."""
    (axis,) = entry.params
    keys = x
    if entry.outs[0].dtype.is_float:
        signed = np.dtype(f"int{entry.outs[0].dtype.bits}")
        bits, top = lax.bitcast_convert_type(x, signed), np.iinfo(signed).max
        keys = jnp.where(jnp.isnan(x), top, jnp.where(bits < 0, -(bits & top), bits))
    numbers = lax.broadcasted_iota(jnp.int64, x.shape, axis)
    _, values, order = lax.sort((keys, x, numbers), axis, is_stable=True, num_keys=1)
    return values, order


TABLE: Final[dict[str, Function]] = {
    "reshape": lambda entry, x: lax.reshape(x, entry.params[0]),
    "permute": lambda entry, x: lax.transpose(x, entry.params[0]),
    "broadcast": lambda entry, x: lax.broadcast_in_dim(x, *entry.params),
    "slice": lambda entry, x: lax.slice(x, *entry.params),
    "pad": lambda entry, x, value: lax.pad(x, value, list(zip(*entry.params, strict=True))),
    "concatenate": lambda entry, *xs: lax.concatenate(xs, entry.params[0]),
    "flip": lambda entry, x: lax.rev(x, entry.params[0]),
    "sum": lambda entry, x: jnp.sum(
        widened(x), axis=entry.params[0], dtype=widened(x).dtype
    ).astype(x.dtype),
    "prod": lambda entry, x: jnp.prod(
        widened(x), axis=entry.params[0], dtype=widened(x).dtype
    ).astype(x.dtype),
    "max": lambda entry, x: jnp.max(x, axis=entry.params[0]),
    "min": lambda entry, x: jnp.min(x, axis=entry.params[0]),
    "argmax": lambda entry, x: lax.argmax(
        x.astype(jnp.uint8) if x.dtype == bool else x, entry.params[0][0], jnp.int64
    ),
    "dot": _dot,
    "conv": _conv,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update": _dynamic_update,
    "cumsum": lambda entry, x: lax.cumsum(widened(x), *entry.params).astype(x.dtype),
    "cumprod": lambda entry, x: lax.cumprod(widened(x), *entry.params).astype(x.dtype),
    "sort": _sort,
    "iota": lambda entry: lax.broadcasted_iota(  # counted in int64, rounded once
        jnp.int64, *entry.params[:2]
    ).astype(entry.outs[0].dtype.numpy),
    "random_bits": _random_bits,
    "keep": lambda entry, x: hindered(x),
}
