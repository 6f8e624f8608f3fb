"""Emitters of what works element by element: `emit(entry, *arrays)` gives the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from jax import lax

from proa.graph.entry import Entry

Function = Callable[..., Any]

# Where XLA errs more than the declarations say, in units of the last place of float32 and float64
# (measured on a processor). There denormal numbers may count as zero, too.
WIDER: Final = {
    "div": (1.5, 1.5),  # by a repeated divisor: times its reciprocal
    "erf": (6, 3), "expm1": (6, 5), "log1p": (3, 150), "tanh": (5, 7),
}  # fmt: skip


def hindered(x: Any) -> Any:
    return lax.optimization_barrier(x)  # type: ignore[no-untyped-call]


def widened(x: Any) -> Any:
    """float16 and bfloat16 are computed with in float32, and rounded once."""
    return x.astype(jnp.float32) if x.dtype in (jnp.float16, jnp.bfloat16) else x


def _emitter(floats: Function, ints: Any = None, bools: Any = None) -> Function:
    """Functions by kind of the operands, which are repeated to the result's shape."""
    by_kind = {"float": floats, "int": ints or floats, "bool": bools or ints or floats}

    def emit(entry: Entry, *xs: Any) -> Any:
        kind = entry.ins[0].dtype.kind
        xs = tuple([jnp.broadcast_to(x, entry.outs[0].shape) for x in xs])
        if kind == "float":
            return floats(*map(widened, xs)).astype(entry.outs[0].dtype.numpy)
        return by_kind[kind](*xs)

    return emit


def _unless_zero(function: Function) -> Function:
    return lambda a, b: jnp.where(b == 0, 0, function(a, jnp.where(b == 0, 1, b)))


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


def _cast(entry: Entry, x: Any) -> Any:
    """Floats saturate in integers and NaN gives 0; all but zero is True, by the bits, since a chip
    may take denormals for zero. XLA may leave out a pair of conversions, unless it is hindered."""
    old, new = entry.ins[0].dtype, entry.outs[0].dtype
    if new.kind == "bool" and old.is_float:
        return lax.bitcast_convert_type(x, np.dtype(f"uint{old.bits}")) << 1 != 0
    if new.kind == "bool":
        return x if old is new else x != 0
    if new.kind == "int" and old.is_float:
        return _saturated(widened(x), new.numpy)
    if new.is_storage or new.name == "bfloat16":  # by way of float32, as ml_dtypes
        x = x.astype(jnp.float32)
    if new.name == "bfloat16":
        x = lax.reduce_precision(x, 8, 7)
    if new.name == "float16" and old.name == "float64":  # XLA goes by way of float32
        x = jnp.where(jnp.abs(x) < 2.0**-14, x, lax.reduce_precision(x, 11, 10))
    found = x.astype(new.numpy)
    return hindered(found) if old.bits > 16 and new.name == "float16" else found


def _saturated(x: Any, target: Any) -> Any:
    """The largest integer may round up as a float; no float lies between."""
    info = np.iinfo(target)
    below, above = x < float(info.min), x >= float(info.max)
    found = jnp.where(below | above | jnp.isnan(x), 0, x).astype(target)
    found = jnp.where(below, np.asarray(info.min, target), found)
    return jnp.where(above, np.asarray(info.max, target), found)


_FLOAT: Final = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "tanh",
    "erf",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "atan2",
)

TABLE: Final[dict[str, Function]] = {
    **{name: _emitter(getattr(lax, name)) for name in _FLOAT},
    "log2": _emitter(jnp.log2),
    "log10": _emitter(jnp.log10),
    "neg": _emitter(lax.neg),
    "abs": _emitter(jnp.abs),
    "sign": _emitter(lambda x: jnp.where(x == 0, jnp.zeros_like(x), lax.sign(x))),  # +0 of both
    "floor": _emitter(lax.floor, lambda x: x),
    "not": _emitter(lax.bitwise_not),
    "is_finite": _emitter(lax.is_finite, jnp.isfinite),
    "add": _emitter(lax.add, bools=lax.bitwise_or),
    "sub": _emitter(lax.sub),
    "mul": _emitter(lax.mul, bools=lax.bitwise_and),
    "div": _emitter(lax.div, _unless_zero(jnp.floor_divide)),
    "rem": _emitter(_rem, _unless_zero(jnp.remainder)),
    "pow": _emitter(lax.pow, _int_pow),
    "maximum": _emitter(lax.max, bools=lax.bitwise_or),
    "minimum": _emitter(lax.min, bools=lax.bitwise_and),
    "and": _emitter(lax.bitwise_and),
    "or": _emitter(lax.bitwise_or),
    "xor": _emitter(lax.bitwise_xor),
    "shift_left": _emitter(lax.shift_left),  # XLA means the same by a shift past the width
    "shift_right": _emitter(jnp.right_shift),
    "eq": _emitter(lax.eq),
    "lt": _emitter(lax.lt),
    "le": _emitter(lax.le),
    "select": _emitter(lax.select),
    "cast": _cast,
    "conj": lambda entry, x: lax.conj(x),
    "real": lambda entry, x: lax.real(x),
    "imag": lambda entry, x: lax.imag(x),
    "bitcast": lambda entry, x: lax.bitcast_convert_type(x, entry.outs[0].dtype.numpy),
}
