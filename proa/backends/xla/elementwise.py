"""Emitters of what works element by element: `emit(entry, *arrays)` gives the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from jax import lax

from proa.graph.entry import Entry

Function = Callable[..., Any]


def widened(x: Any) -> Any:
    """float16 and bfloat16 are computed with in float32, and rounded once."""
    return x.astype(jnp.float32) if x.dtype in (jnp.float16, jnp.bfloat16) else x


def _emitter(floats: Function, ints: Function | None = None, bools: Function | None = None) -> Function:
    """Functions by kind of the operands, which are repeated to the result's shape."""
    ints = ints or floats
    by_kind = {"float": floats, "int": ints, "bool": bools or ints}

    def emit(entry: Entry, *xs: Any) -> Any:
        xs = tuple([jnp.broadcast_to(x, entry.out.shape) for x in xs])
        return by_kind[entry.ins[0].dtype.kind](*xs)

    return emit


def _wide(function: Function, ints: Function | None = None) -> Function:
    return _emitter(lambda *xs: function(*map(widened, xs)).astype(xs[0].dtype), ints)


def _is_signed(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.signedinteger))


def _sign(x: Any) -> Any:
    """+0 of both zeros."""
    return jnp.where(x == 0, jnp.zeros_like(x), lax.sign(x))


def _int_div(a: Any, b: Any) -> Any:
    return jnp.where(b == 0, 0, jnp.floor_divide(a, jnp.where(b == 0, 1, b)))


def _int_rem(a: Any, b: Any) -> Any:
    return jnp.where(b == 0, 0, jnp.remainder(a, jnp.where(b == 0, 1, b)))


def _rem(a: Any, b: Any) -> Any:
    """A zero has the sign of b too."""
    rest = jnp.remainder(a, b)
    return jnp.where(rest == 0, jnp.copysign(rest, b), rest)


def _int_pow(a: Any, b: Any) -> Any:
    """By squaring; products wrap round. Negative powers are 0 of all but 1 and -1."""

    def square(_: Any, now: Any) -> Any:
        found, factor, bits = now
        return jnp.where(bits & 1 == 1, found * factor, found), factor * factor, bits >> 1

    inverse = jnp.where(jnp.abs(a) == 1, jnp.where(b & 1 == 1, a, 1), 0)
    start = (jnp.ones_like(a), a, jnp.maximum(b, 0))
    return jnp.where(b < 0, inverse, lax.fori_loop(0, a.dtype.itemsize * 8, square, start)[0])


def _shift(move: Function, past: Function) -> Function:
    def function(x: Any, n: Any) -> Any:
        inside = (n >= 0) & (n < x.dtype.itemsize * 8)
        return jnp.where(inside, move(x, jnp.where(inside, n, 0)), past(x))

    return function


def _select(entry: Entry, *xs: Any) -> Any:
    return lax.select(*[jnp.broadcast_to(x, entry.out.shape) for x in xs])


def _cast(entry: Entry, x: Any) -> Any:
    """Floats saturate in integers and NaN gives 0; all but zero is True. From integers to narrow
    floats by way of float32."""
    old, new = entry.ins[0].dtype, entry.out.dtype
    if new.kind == "bool":
        return _is_set(x, old)
    if old.kind == "float" and new.kind == "int":
        return _saturated(widened(x), new.numpy)
    if old.kind != new.kind and new.is_float and new.bits < 32:
        x = x.astype(jnp.float32)
    if old.is_float and new.name == "bfloat16" and old.bits > 16:
        x = lax.reduce_precision(x, 8, 7)  # XLA may leave out a pair of conversions
    found = x.astype(new.numpy)
    return lax.optimization_barrier(found) if new.name == "float16" and old.bits > 16 else found


def _is_set(x: Any, old: Any) -> Any:
    """By the bits of a float: a chip may take denormal numbers for zero."""
    if old.kind == "float":
        x = lax.bitcast_convert_type(x, np.dtype(f"uint{old.bits}")) << 1
    return x if old.kind == "bool" else x != 0


def _saturated(x: Any, target: Any) -> Any:
    """The largest integer may round up as a float; no float lies between."""
    info = np.iinfo(target)
    below, above = x < float(info.min), x >= float(info.max)
    found = jnp.where(below | above | jnp.isnan(x), 0, x).astype(target)
    found = jnp.where(below, np.asarray(info.min, target), found)
    return jnp.where(above, np.asarray(info.max, target), found)


_WIDE: Final = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf")

TABLE: Final[dict[str, Function]] = {
    **{name: _wide(getattr(lax, name)) for name in _WIDE},
    "neg": _emitter(lax.neg),
    "abs": _emitter(jnp.abs),
    "sign": _emitter(_sign),
    "floor": _emitter(lax.floor, lambda x: x),
    "not": _emitter(lax.bitwise_not),
    "is_finite": _emitter(lax.is_finite, jnp.isfinite),
    "add": _emitter(lax.add, bools=lax.bitwise_or),
    "sub": _emitter(lax.sub),
    "mul": _emitter(lax.mul, bools=lax.bitwise_and),
    "div": _wide(lax.div, _int_div),
    "rem": _wide(_rem, _int_rem),
    "pow": _wide(lax.pow, _int_pow),
    "maximum": _emitter(lax.max, bools=lax.bitwise_or),
    "minimum": _emitter(lax.min, bools=lax.bitwise_and),
    "and": _emitter(lax.bitwise_and),
    "or": _emitter(lax.bitwise_or),
    "xor": _emitter(lax.bitwise_xor),
    "shift_left": _emitter(_shift(jnp.left_shift, jnp.zeros_like)),
    "shift_right": _emitter(_shift(jnp.right_shift, lambda x: -(x < 0).astype(x.dtype))),
    "eq": _emitter(lax.eq),
    "lt": _emitter(lax.lt),
    "le": _emitter(lax.le),
    "select": _select,
    "cast": _cast,
    "bitcast": lambda entry, x: lax.bitcast_convert_type(x, entry.out.dtype.numpy),
}
