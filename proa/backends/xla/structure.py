"""Emitters of movement, reductions, contractions, and of values made from nothing."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import jax.numpy as jnp
from jax import lax

from proa.backends.xla.elementwise import Function, widened
from proa.graph.entry import Entry
from proa.ops.creation import threefry


def _pad(entry: Entry, x: Any, value: Any) -> Any:
    return lax.pad(x, value, list(zip(*entry.params, strict=True)))


def _sum(entry: Entry, x: Any) -> Any:
    wide = widened(x)
    return jnp.sum(wide, axis=entry.params[0], dtype=wide.dtype).astype(x.dtype)


def _argmax(entry: Entry, x: Any) -> Any:
    return lax.argmax(x.astype(jnp.uint8) if x.dtype == bool else x, entry.params[0][0], jnp.int64)


def _dot(entry: Entry, x: Any, y: Any) -> Any:
    """XLA lays the result out as batch letters, letters of x, letters of y."""
    a, b, out = entry.params
    both = [c for c in a if c in b and c in out]
    summed = [c for c in a if c in b and c not in out]
    letters = tuple([([a.index(c) for c in cs], [b.index(c) for c in cs]) for cs in (summed, both)])
    found = lax.dot_general(
        x, y, letters, precision=lax.Precision.HIGHEST, preferred_element_type=widened(x).dtype
    ).astype(x.dtype)
    order = both + [c for c in a if c not in b] + [c for c in b if c not in a]
    return lax.transpose(found, [order.index(c) for c in out])


def _conv(entry: Entry, x: Any, w: Any) -> Any:
    *geometry, groups = entry.params
    if 0 in (*x.shape[:2], *entry.out.shape):
        return jnp.zeros(entry.out.shape, x.dtype)
    return lax.conv_general_dilated(
        widened(x), widened(w), *geometry, feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    ).astype(x.dtype)  # fmt: skip


def _iota(entry: Entry) -> Any:
    """Counted in int64 and rounded once."""
    shape, axis, _ = entry.params
    return lax.broadcasted_iota(jnp.int64, shape, axis).astype(entry.out.dtype.numpy)


def _random_bits(entry: Entry, state: Any) -> Any:
    """The declaration's own rounds, on arrays of jax."""
    (shape,) = entry.params
    lead, count = state.shape[:-1], prod(shape)
    key0, key1, draw, _ = [state[..., i, None] for i in range(4)]
    block = lax.iota(jnp.uint32, (count + 1) // 2)
    words = jnp.stack(threefry(key0, key1, block, draw), axis=-1)
    return words.reshape(*lead, 2 * block.size)[..., :count].reshape(lead + shape)


TABLE: Final[dict[str, Function]] = {
    "reshape": lambda entry, x: lax.reshape(x, entry.params[0]),
    "permute": lambda entry, x: lax.transpose(x, entry.params[0]),
    "broadcast": lambda entry, x: lax.broadcast_in_dim(x, *entry.params),
    "slice": lambda entry, x: lax.slice(x, *entry.params),
    "pad": _pad,
    "concatenate": lambda entry, *xs: lax.concatenate(xs, entry.params[0]),
    "flip": lambda entry, x: lax.rev(x, entry.params[0]),
    "sum": _sum,
    "max": lambda entry, x: jnp.max(x, axis=entry.params[0]),
    "min": lambda entry, x: jnp.min(x, axis=entry.params[0]),
    "argmax": _argmax,
    "dot": _dot,
    "conv": _conv,
    "iota": _iota,
    "random_bits": _random_bits,
    "keep": lambda entry, x: lax.optimization_barrier(x),
}
