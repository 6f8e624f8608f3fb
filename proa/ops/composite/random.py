"""Numbers drawn from a random state: uint32[4] of words (key, key, draw, 0).

The same state and shape give the same bits everywhere. Nothing here advances a state.
"""

from __future__ import annotations

from math import pi
from typing import Any, Final

from proa import dtypes
from proa.dtypes import Dtype, bfloat16, float16, float32, float64, int64, uint64
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, message
from proa.ops.arithmetic import eq, lt, minimum, or_, rem, select, shift_left, shift_right
from proa.ops.composite.common import floating, interior, number, random_state
from proa.ops.creation import random_bits
from proa.ops.expand import composite
from proa.ops.functions import cos, log, log1p, sqrt
from proa.ops.movement import slice_
from proa.ops.moves import reshape
from proa.ops.primitive import FLOAT, INT, apply, as_number, cast_to, number_of, value_of
from proa.ops.reductions import argmax
from proa.ops.scans import sort
from proa.shapes import Shape, as_axis, as_int, as_shape

DIGITS: Final = {float16: 11, bfloat16: 8, float32: 24}
BELOW_ONE: Final = 1.0 - 2.0**-24


# From bits to floats.


def _word(bits: Any, index: int) -> Any:
    """Word `index` of those on the last axis."""
    shape = bits.spec.shape
    low = (0,) * (len(shape) - 1)
    one = apply(
        slice_,
        (bits,),
        starts=(*low, index),
        stops=(*shape[:-1], index + 1),
        strides=(1,) * len(shape),
    )
    return reshape(one, shape[:-1])


def uniform_from_bits(bits: Any, dtype: Dtype) -> Any:
    """k / 2^d in [0, 1), as many binary digits d as the dtype holds: 24 in float32, 11 in
    float16, 8 in bfloat16, the highest of uint32 bits; 53 in float64, of two words on a last
    axis (27 of the first, 26 of the second)."""
    if dtype is not float64:
        digits = DIGITS[dtype]
        return cast_to(shift_right(bits, 32 - digits), dtype) * 2.0**-digits
    high = cast_to(shift_right(_word(bits, 0), 5), float64)
    low = cast_to(shift_right(_word(bits, 1), 6), float64)
    return (high * 2.0**26 + low) * 2.0**-53


def normal_from_bits(bits: Any, dtype: Dtype) -> Any:
    """Standard normals sqrt(-2 log u) cos(2 pi v), the first half of the method of Box and Muller.

    float32: u = (k + 1/2) / 2^32 from the first of two words on the last axis, so |z| < 6.8, and
    v of 24 digits from the second. float64: u = (k + 1/2) / 2^53 and v of 53 digits, of four
    words. Narrow floats are drawn in float32 and rounded.
    """
    if dtype is not float64:
        u = (cast_to(_word(bits, 0), float32) + 0.5) * 2.0**-32
        v = uniform_from_bits(_word(bits, 1), float32)
    else:
        halves = reshape(bits, (*bits.spec.shape[:-1], 2, 2))
        both = uniform_from_bits(halves, float64)
        u, v = _word(both, 0) + 2.0**-54, _word(both, 1)
    return cast_to(sqrt(log(u) * -2.0) * cos(v * (2.0 * pi)), dtype)


def _words(state: Any, shape: Shape, dtype: Dtype, each: int) -> Any:
    """`each` words for a number, twice as many in float64; one has no axis of its own."""
    each *= 2 if dtype is float64 else 1
    return apply(random_bits, (state,), shape=shape if each == 1 else (*shape, each))


def _float_dtype(op: str, dtype: Any) -> Dtype:
    found = dtypes.default_float() if dtype is None else as_dtype(dtype)
    if found not in FLOAT:
        raise DtypeError(message(op, f"dtype {found.name}", "a float dtype"))
    return found


# Floats.


def _uniform_expand(state: Any, low: Any, high: Any, shape: Shape, dtype: Dtype) -> Any:
    unit = uniform_from_bits(_words(state, shape, dtype, 1), dtype)
    return cast_to(low + cast_to(unit, interior(dtype)) * (high - low), dtype)


_uniform = composite(
    "random_uniform", _uniform_expand, params=("shape", "dtype"),
    doc="low + (high - low) u, for u uniform in [0, 1).",
)  # fmt: skip


def uniform(state: Any, shape: Any, dtype: Any = None, low: Any = 0.0, high: Any = 1.0) -> Any:
    """low + (high - low) u, for u in [0, 1) with 24 binary digits (53 in float64, 11 in float16,
    8 in bfloat16). Rounding may give `high` itself where low is not 0.

    state: uint32[4]; low and high: numbers, or tensors of 0 axes.

    >>> import proa as pa
    >>> from proa.ops.composite import uniform
    >>> state = pa.asarray([1, 2, 0, 0], dtype=pa.uint32)
    >>> uniform(state, (2, 3)).shape
    (2, 3)
    """
    op, of = "uniform", _float_dtype("uniform", dtype)
    inner = interior(of)
    bounds = [number(op, n, v, inner) for n, v in (("low", low), ("high", high))]
    return apply(_uniform, (random_state(op, state), *bounds), shape=as_shape(op, shape), dtype=of)


_normal = composite(
    "random_normal",
    lambda state, shape, dtype: normal_from_bits(_words(state, shape, dtype, 2), dtype),
    params=("shape", "dtype"), differentiable=False, doc="Standard normal numbers.",
)  # fmt: skip


def normal(state: Any, shape: Any, dtype: Any = None) -> Any:
    """Standard normal numbers, by the method of Box and Muller (`normal_from_bits`).

    >>> import proa as pa
    >>> from proa.ops.composite import normal
    >>> state = pa.asarray([1, 2, 0, 0], dtype=pa.uint32)
    >>> normal(state, (2, 3)).shape
    (2, 3)
    """
    of = _float_dtype("normal", dtype)
    return apply(
        _normal, (random_state("normal", state),), shape=as_shape("normal", shape), dtype=of
    )


# Integers.


def _long(state: Any, shape: Shape) -> Any:
    """64 random bits for each element."""
    bits = apply(random_bits, (state,), shape=(*shape, 2))
    high, low = (cast_to(_word(bits, i), uint64) for i in (0, 1))
    return or_(shift_left(high, 32), low)


def _randint_expand(state: Any, low: Any, high: Any, shape: Shape, dtype: Dtype) -> Any:
    """Modulo 2^64; a width of 0 means all 2^64."""
    first, bits = cast_to(low, uint64), _long(state, shape)
    width = cast_to(high, uint64) - first
    found = first + select(eq(width, 0), bits, rem(bits, width))
    return cast_to(cast_to(found, int64), dtype)


_randint = composite(
    "random_integers", _randint_expand, params=("shape", "dtype"), differentiable=False,
    doc="Integers low, low + 1, ..., high - 1: 64 random bits modulo high - low.",
)  # fmt: skip


def randint(state: Any, shape: Any, low: Any, high: Any, dtype: Any = int64) -> Any:
    """Integers low <= i < high: 64 random bits modulo high - low. The probability of a number is
    off by at most (high - low) / 2^64 of itself.

    state: uint32[4]; low and high: ints, or int64 tensors of 0 axes.

    >>> import proa as pa
    >>> from proa.ops.composite import randint
    >>> randint(pa.asarray([1, 2, 0, 0], dtype=pa.uint32), (2,), 5, 6).tolist()
    [5, 5]
    """
    op, of = "randint", as_dtype(dtype)
    if of not in INT:
        raise DtypeError(message(op, f"dtype {of.name}", "an integer dtype"))
    numbers = [number_of(b) for b in (low, high)]
    if all(n is not None for n in numbers):
        a, b = (as_int(op, "bound", n) for n in numbers)
        info = dtypes.iinfo(of)
        if not (info.min <= a < b <= info.max + 1):
            given = f"low {a} and high {b} in {of.name}"
            raise ArgumentError(message(op, given, "low < high, both held by the dtype"))
        bounds = [_whole(op, a), _whole(op, b)]
    else:
        bounds = [_bound(op, b) for b in (low, high)]
    shape = as_shape(op, shape)
    return apply(_randint, (random_state(op, state), *bounds), shape=shape, dtype=of)


def _whole(op: str, n: int) -> Any:
    """An int as a 0-d operand; one beyond int64 as uint64, modulo 2^64."""
    return as_number(op, n, int64) if n < 2**63 else as_number(op, n % 2**64, uint64)


def _bound(op: str, given: Any) -> Any:
    if number_of(given) is not None:
        return _whole(op, as_int(op, "bound", given))
    value = value_of(op, given)
    if value.spec.shape != () or value.spec.dtype not in INT:
        raise DtypeError(
            message(op, f"a bound of {value.spec}", "an int or an int64 tensor of 0 axes")
        )
    return cast_to(value, int64)


_permutation = composite(
    "random_permutation", lambda state, n: apply(sort, (_long(state, (n,)),), axis=0)[1],
    params=("n",), differentiable=False, doc="0 .. n - 1 in the order of n random keys of 64 bits.",
)  # fmt: skip


def permutation(state: Any, n: int) -> Any:
    """0, 1, ..., n - 1 in a random order, int64: that of n keys of 64 random bits. Equal keys,
    which occur with a probability below n^2 / 2^65, stay in order.

    >>> import proa as pa
    >>> from proa.ops.composite import permutation
    >>> sorted(permutation(pa.asarray([1, 2, 0, 0], dtype=pa.uint32), 3).tolist())
    [0, 1, 2]
    """
    (n,) = as_shape("permutation", as_int("permutation", "n", n))
    return apply(_permutation, (random_state("permutation", state),), n=n)


# Choices.


def _bernoulli_expand(state: Any, p: Any, shape: Shape) -> Any:
    inner = interior(p.spec.dtype)
    return lt(uniform_from_bits(_words(state, shape, inner, 1), inner), cast_to(p, inner))


_bernoulli = composite(
    "random_bernoulli", _bernoulli_expand, params=("shape",), differentiable=False,
    doc="True with probability p.",
)  # fmt: skip


def bernoulli(state: Any, p: Any, shape: Any = None) -> Any:
    """True where a uniform number in [0, 1) is below p: with probability p, always at p = 1.

    state: uint32[4]; p: a number with `shape`, or a float tensor whose shape is the result's.

    >>> import proa as pa
    >>> from proa.ops.composite import bernoulli
    >>> bernoulli(pa.asarray([1, 2, 0, 0], dtype=pa.uint32), 1.0, (2,)).tolist()
    [True, True]
    """
    op = "bernoulli"
    if number_of(p) is not None:
        p = number(op, "p", p, dtypes.default_float(), 0.0, 1.0)
    p = floating(op, "p", p)
    size = p.spec.shape if shape is None else as_shape(op, shape)
    if p.spec.shape not in ((), size):
        raise ArgumentError(
            message(op, f"`p` of shape {p.spec.shape} for shape {size}", "one shape")
        )
    return apply(_bernoulli, (random_state(op, state), p), shape=size)


def _categorical_expand(state: Any, logits: Any, axis: int) -> Any:
    """Exponentials -log(1 - v), fine where they are small, since the smallest wins."""
    shape, inner = logits.spec.shape, interior(logits.spec.dtype)
    if inner is float64:
        unit = uniform_from_bits(_words(state, shape, float64, 1), float64)
        v = minimum(unit + 2.0**-54, 1.0 - 2.0**-53)
    else:
        bits = apply(random_bits, (state,), shape=shape)
        v = minimum((cast_to(bits, float32) + 0.5) * 2.0**-32, BELOW_ONE)
    noise = -log(-log1p(-v))
    return apply(argmax, (cast_to(logits, inner) + noise,), axes=(axis,))


_categorical = composite(
    "random_categorical", _categorical_expand, params=("axis",), differentiable=False,
    doc="The index of the largest of logits plus Gumbel noise.",
)  # fmt: skip


def categorical(state: Any, logits: Any, axis: int = -1) -> Any:
    """An index along `axis`, int64, with probability softmax(logits): that of the largest of
    logits plus Gumbel noise (Gumbel 1954). A logit of -inf is never drawn beside a finite one.

    state: uint32[4]; logits: float, at least one element along the axis (ShapeError).

    >>> import proa as pa
    >>> from proa.ops.composite import categorical
    >>> state = pa.asarray([1, 2, 0, 0], dtype=pa.uint32)
    >>> categorical(state, pa.asarray([-float("inf"), 0.0])).item()
    1
    """
    op = "categorical"
    logits = floating(op, "logits", logits)
    axis = as_axis(op, axis, logits.spec.ndim)
    return apply(_categorical, (random_state(op, state), logits), axis=axis)
