"""What composites share: the checks of their arguments, and the wide interior.

*Wide interior*: where the first operand is float16 or bfloat16, narrow operands are widened to
float32, the expansion runs there, and its first result is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import inf, prod
from typing import Any, Final

from proa import dtypes
from proa.dtypes import Dtype, bfloat16, float16, float32, uint32
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.node import Value
from proa.ops.families.movement import shifted
from proa.ops.functions import bitcast, cast
from proa.ops.moves import reshape
from proa.ops.primitive import (
    FLOAT,
    INT,
    LARGEST,
    Primitive,
    apply,
    as_number,
    cast_to,
    number_of,
    value_of,
)
from proa.ops.reductions import spread, sum_
from proa.shapes import Shape

NARROW: Final = frozenset({float16, bfloat16})
REDUCTIONS: Final = ("mean", "sum", "none")
Names = tuple[str, ...]


# Arguments.


def floating(op: str, name: str, x: Any) -> Value:
    """The value of an argument that must have a float dtype; weak ones take the default dtype."""
    value = value_of(op, x)
    if value.spec.dtype not in FLOAT:
        given = f"`{name}` of {value.spec.dtype.name}"
        raise DtypeError(message(op, given, "a float dtype", f"{name}.astype(pa.float32)"))
    return strong(value, dtypes.default_float())


def matched(op: str, name: str, x: Any, like: Dtype, wide: bool = False) -> Value:
    """The value of an argument that must have the dtype `like` (with `wide`, float32 beside a
    narrow one too)."""
    value = strong(value_of(op, x), like)
    dtype = value.spec.dtype
    if dtype is like or (wide and like in NARROW and dtype is float32):
        return value
    given = f"`{name}` of {dtype.name} beside {like.name}"
    raise DtypeError(message(op, given, "one dtype", f"{name}.astype(pa.{like.name})"))


def strong(value: Value, dtype: Dtype) -> Value:
    """A value made of Python numbers only takes `dtype`."""
    if not value.spec.weak:
        return value
    found: Value = apply(cast, (value,), dtype=dtype, weak=False).value
    return found


def integers(op: str, name: str, x: Any) -> Value:
    """The value of an argument that must have an integer dtype."""
    value = value_of(op, x)
    if value.spec.dtype not in INT:
        given = f"`{name}` of {value.spec.dtype.name}"
        raise DtypeError(message(op, given, "an integer dtype", f"{name}.astype(pa.int64)"))
    return value


def number(
    op: str, name: str, given: Any, dtype: Dtype, low: float = -inf, high: float = inf
) -> Value:
    """A float attribute as a 0-d operand: a Python number in low..high, or a 0-d tensor."""
    plain = number_of(given)
    if plain is None:
        value = value_of(op, given)
        if value.spec.shape != () or value.spec.dtype.kind not in ("int", "float"):
            text = f"`{name}` of {value.spec}"
            raise ShapeError(message(op, text, "a number or a tensor of 0 axes"))
        found: Value = cast_to(value, dtype).value
        return found
    real(op, name, plain, low, high)
    return as_number(op, plain, dtype)


def real(op: str, name: str, given: Any, low: float | None = None, high: float = inf) -> float:
    """A Python float from a real number, in low..high if `low` is given; else NaN may be too."""
    plain = number_of(given)
    if plain is None or isinstance(plain, (bool, complex)):
        raise DtypeError(message(op, f"`{name}` {given!r:.60}", "a real number"))
    if type(plain) is int and abs(plain) > LARGEST:
        raise ArgumentError(message(op, f"`{name}` beyond 2**1000", "a number that float64 holds"))
    if low is not None and not low <= plain <= high:
        raise ArgumentError(message(op, f"`{name}` {plain!r}", f"a number from {low} to {high}"))
    return float(plain)


def flag(op: str, name: str, given: Any) -> bool:
    """An argument that must be True or False."""
    if type(given) is not bool:
        raise DtypeError(message(op, f"`{name}` {given!r:.60}", "True or False"))
    return given


def choice(op: str, name: str, given: Any, allowed: Sequence[str]) -> str:
    """An argument that must be one of some words."""
    if not isinstance(given, str) or given not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ArgumentError(message(op, f"`{name}` {given!r:.60}", f"one of {words}"))
    return given


def shaped(op: str, name: str, value: Value, shape: Shape) -> Value:
    """An argument that must have this shape."""
    if value.spec.shape != shape:
        raise ShapeError(message(op, f"`{name}` of shape {value.spec.shape}", f"shape {shape}"))
    return value


def random_state(op: str, state: Any) -> Value:
    """The state of a random draw: uint32[4] (key, key, draw, 0)."""
    value = value_of(op, state)
    if value.spec.dtype is not uint32:
        given = f"`state` of {value.spec.dtype.name}"
        raise DtypeError(message(op, given, "uint32", "the state of a generator"))
    return shaped(op, "state", value, (4,))


def optional(**named: Any) -> tuple[Names, list[Any]]:
    """The names and the values of the operands that are there, in order."""
    present = {name: value for name, value in named.items() if value is not None}
    return tuple(present), list(present.values())


# The wide interior.


def interior(dtype: Dtype) -> Dtype:
    """The dtype in which a composite computes."""
    return float32 if dtype in NARROW else dtype


def widened(values: Sequence[Any]) -> list[Any]:
    """Narrow floats in float32; None and all else as it is."""
    return [v if v is None or v.spec.dtype not in NARROW else cast_to(v, float32) for v in values]


def wide(expand: Callable[..., Any]) -> Callable[..., Any]:
    """The expansion with a wide interior; only its first result is rounded."""

    @wraps(expand)
    def inner(*operands: Any, **params: Any) -> Any:
        outs = expand(*widened(operands), **params)
        several = isinstance(outs, tuple)
        first = cast_to(outs[0] if several else outs, operands[0].spec.dtype)
        return (first, *outs[1:]) if several else first

    return inner


def wide_pullback(
    pullback: Callable[..., list[Any]], again: Callable[..., Any] | None = None
) -> Callable[..., list[Any]]:
    """A derivative with a wide interior. `again`, the expansion without its rounding, gives
    results that were not rounded where that matters: its steps are the forward pass's own."""

    @wraps(pullback)
    def inner(operands: Any, results: Any, cts: Any, **params: Any) -> list[Any]:
        inside = widened(operands)
        if again is not None and operands[0].spec.dtype in NARROW:
            outs = again(*inside, **params)
            results = outs if isinstance(outs, tuple) else (outs,)
        found = pullback(inside, widened(results), widened(cts), **params)
        pairs = zip(found, operands, strict=True)
        return [None if ct is None else cast_to(ct, o.spec.dtype) for ct, o in pairs]

    return inner


def stopped(x: Any) -> Any:
    """x without its derivative, in every mode and order: read as bits, and back. For a quantity
    that the result does not depend on, such as the maximum that keeps an exponential small."""
    dtype = x.spec.dtype
    bits = apply(bitcast, (x,), dtype=dtypes.dtype(f"uint{dtype.bits}"))
    return apply(bitcast, (bits,), dtype=dtype)


# Axes and reductions.


def count(shape: Shape, axes: tuple[int, ...]) -> int:
    """How many elements are reduced."""
    return prod(shape[a] for a in axes)


def kept(x: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
    """What was reduced over `axes` of `shape`, with those axes as ones."""
    return reshape(x, tuple([1 if i in axes else n for i, n in enumerate(shape)]))


def mean_of(x: Any, axes: tuple[int, ...]) -> Any:
    """The mean over axes, repeated to the full shape."""
    total = apply(sum_, (x,), axes=axes)
    return spread(total / float(count(x.spec.shape, axes)), x.spec.shape, axes)


def deviation(x: Any, axes: tuple[int, ...]) -> Any:
    """x minus its mean over axes."""
    return x - mean_of(x, axes)


def reduced(loss: Any, reduction: str) -> Any:
    """A loss as it is, its sum, or its mean over all elements."""
    if reduction == "none":
        return loss
    total = apply(sum_, (loss,), axes=tuple(range(loss.spec.ndim)))
    return total if reduction == "sum" else total / float(loss.spec.size)


def batch_inside(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """No rule of its own for these operands: the expansion is batched."""
    return None


def batch_first(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """Where only the first operand is batched the composite stays whole; its axes move by one."""
    if any(flags[1:]):
        return batch_inside(primitive, operands, flags, params)
    if "axes" in params:
        params = params | {"axes": shifted(params["axes"])}
    return apply(primitive, operands, **params)
