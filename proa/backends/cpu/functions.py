"""exp, log, tanh, ... in float32, as polynomials: at most 2 units in the last place.

Each is a sequence of operations that every processor with fused multiply-add rounds alike, so the
bits do not depend on the width of its vectors.
"""

from __future__ import annotations

import math
from typing import Final

from proa.backends.cpu.functions_flow import outlined, rarely
from proa.backends.cpu.vector import Vector, absolute, copysign, fma, horner, scaled, select

LOG2E: Final = 1.4426950408889634
LN2_HIGH: Final = float.fromhex("0x1.62e400p-1")
LN2_LOW: Final = float.fromhex("0x1.7f7d1cp-20")
ROUND: Final = 1.5 * 2.0**23  # added and taken away again, it rounds to an integer
SMALLEST_NORMAL: Final = 2.0**-126


def _bits(x: Vector) -> Vector:
    return x.to("bitcast", "i32")


def _float(bits: Vector) -> Vector:
    return bits.to("bitcast", "float")


def _power_of_two(n: Vector) -> Vector:
    """2^n for -126 <= n <= 127, n an integer."""
    return _float((n + 127) << 23)


def at_most(x: Vector, limit: float) -> Vector:
    """The smaller one; NaN stays."""
    return select(x > limit, limit, x)


def at_least(x: Vector, limit: float) -> Vector:
    return select(x < limit, limit, x)


EXP: Final = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)


def _reduced(x: Vector) -> tuple[Vector, Vector, Vector]:
    """(n, n in bits, r) with x = n log 2 + r, |r| <= log 2 / 2. Above the 9 bits that a power of
    two needs of n stand those of `ROUND`: also in half of it, and in the other half."""
    shifted = fma(x, LOG2E, ROUND)
    n = shifted - ROUND
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return n, _bits(shifted), r


def exp(x: Vector) -> Vector:
    """2^n e^r, in two steps so that the ends of the range come out right: the first is exact, so
    one step of a processor that has it gives the same."""
    x = at_least(at_most(x, 89.0), -104.0)
    n, bits, r = _reduced(x)
    y = fma(r * r, horner(r, EXP), r) + 1.0
    if y.can_scale:
        return scaled(y, n)
    half = bits >> 1
    return y * _power_of_two(half) * _power_of_two(bits - half)


def expm1(x: Vector) -> Vector:
    """2^n (e^r - 1) + (2^n - 1)."""
    clamped = at_least(at_most(x, 89.0), -18.0)
    _, n, r = _reduced(clamped)
    y = fma(r * r, horner(r, EXP), r)
    half = _power_of_two(n - 1)
    found = fma(y, half, half - 0.5)
    found = found + found
    return select(absolute(x) < 2.0**-40, x, found)


LOG: Final = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
LOG2_HIGH: Final = 0.693359375
LOG2_LOW: Final = -2.12194440e-4


def _log_parts(x: Vector) -> tuple[Vector, Vector]:
    """(exponent, f) with x = 2^exponent (1 + f), 1 + f from sqrt(1/2) to sqrt(2)."""
    tiny = x < SMALLEST_NORMAL
    x = select(tiny, x * 2.0**25, x)
    bits = _bits(x)
    raised = (bits - 0x3F3504F3) >> 23
    f = _float(bits - (raised << 23)) - 1.0
    exponent = raised.to("sitofp", "float")
    return select(tiny, exponent - 25.0, exponent), f


def log_edges(x: Vector, found: Vector) -> Vector:
    found = select(x.equals(math.inf), math.inf, found)
    found = select(x.equals(0.0), -math.inf, found)
    return select(x < 0.0, math.nan, select(x.is_nan(), x, found))


def log(x: Vector) -> Vector:
    exponent, f = _log_parts(x)
    z = f * f
    y = f * z * horner(f, LOG)
    y = fma(exponent, LOG2_LOW, y)
    y = fma(z, -0.5, y)
    return log_edges(x, fma(exponent, LOG2_HIGH, f + y))


def log1p(x: Vector) -> Vector:
    """log(u) with u = 1 + x rounded, and what the rounding lost put back."""
    u = x + 1.0
    lost = select(x > 1.0, 1.0 - (u - x), x - (u - 1.0))
    exponent, f = _log_parts(u)
    z = f * f
    y = f * z * horner(f, LOG)
    y = fma(exponent, LOG2_LOW, y)
    y = fma(z, -0.5, y) + lost / u
    found = log_edges(u, fma(exponent, LOG2_HIGH, f + y))
    return select(absolute(x) < 2.0**-40, x, found)


TANH: Final = (
    -5.70498872745e-3,
    2.06390887954e-2,
    -5.37397155531e-2,
    1.33314422036e-1,
    -3.33332819422e-1,
)


def tanh(x: Vector) -> Vector:
    size = absolute(x)
    s = x * x
    near = fma(fma(x, s, 0.0), horner(s, TANH), x)
    far = 1.0 - 2.0 / (exp(size + size) + 1.0)
    return select(size < 0.55, near, copysign(far, x))


ERF_NEAR: Final = (
    -5.96761703e-4,
    4.99119423e-3,
    -2.67681349e-2,
    1.12819925e-1,
    -3.76125336e-1,
    1.28379166e-1,
)
ERF_FAR: Final = (-6.34846687e-1, -1.28717512e-1)


def erf(x: Vector) -> Vector:
    """Two branches: x + x P(x^2), and 1 - e^Q(|x|)."""
    size, s = absolute(x), x * x
    near = fma(x, horner(s, ERF_NEAR), x)
    size = at_most(size, 10.0)
    s = size * size
    high = fma(size, -1.72853470e-5, 3.83197126e-4)
    low = fma(size, -3.88396438e-3, 2.42546219e-2)
    q = fma(fma(high, s, low), size, -1.06777877e-1)
    q = horner(size, ERF_FAR, q)
    far = 1.0 - exp(fma(q, size, -size))
    return select(absolute(x) > 0.927734375, copysign(far, x), near)


SIN: Final = (2.86567956e-6, -1.98559923e-4, 8.33338592e-3, -1.66666672e-1)
COS: Final = (2.44677067e-5, -1.38877297e-3, 4.16666567e-2, -5.0e-1, 1.0)
HALF_PI: Final = tuple(map(float.fromhex, ("0x1.921fb0p+0", "0x1.5110b4p-22", "0x1.846988p-48")))
NEAR: Final = 71476.0
TWO_OVER_PI: Final = (
    0x28BE60DB,
    0x9391054A,
    0x7F09D5F4,
    0x7D4D3770,
    0x36D8A566,
    0x4F10E410,
    0x7F9458EA,
)


def sin(x: Vector) -> Vector:
    return _circular(x, 0)


def cos(x: Vector) -> Vector:
    return _circular(x, 1)


def _circular(x: Vector, turn: int) -> Vector:
    """sin of x + turn quarter turns."""
    shifted = fma(x, 2.0 / math.pi, ROUND)
    j = shifted - ROUND
    r = x
    for part in HALF_PI:
        r = fma(j, -part, r)
    r, quadrant = rarely(
        absolute(x) > NEAR, [r, _bits(shifted)], lambda: outlined("reduced", _far, x)
    )
    quadrant = quadrant + turn
    s = r * r
    sine = fma(horner(s, SIN), fma(r, s, 0.0), r)  # + 0 keeps the sign of a zero
    cosine = horner(s, COS)
    found = select((quadrant & 1).differs(0), cosine, sine)
    return select((quadrant & 2).differs(0), -found, found)


def _far(x: Vector) -> tuple[Vector, Vector]:
    """(remainder, quadrant) of a large x: Payne's and Hanek's reduction, on integers."""
    bits = _bits(x)
    mantissa = ((bits & 0x7FFFFF) << 8) | -0x80000000
    e = (bits.logical_shift(23) & 0xFF) - 126
    index, shift = e >> 5, e & 31
    words = [_word(index, i) for i in range(-1, 3)]
    back = (32 - shift) & 31
    moved = shift.differs(0)
    high, middle, low = [
        select(moved, (a << shift) | b.logical_shift(back), a)
        for a, b in zip(words[:-1], words[1:], strict=True)
    ]
    m = mantissa.to("zext", "i64")
    p = m * low.to("zext", "i64")
    p = m * middle.to("zext", "i64") + p.logical_shift(32)
    p = ((m * high.to("zext", "i64")) << 32) + p
    q = p.logical_shift(62).to("trunc", "i32")
    p = p & 0x3FFFFFFFFFFFFFFF
    past = (p & 0x2000000000000000).differs(0)
    p = select(past, p - 0x4000000000000000, p)
    q = select(past, q + 1, q)
    r = (p.to("sitofp", "double") * float.fromhex("0x1.921fb54442d18p-62")).to("fptrunc", "float")
    minus = bits < 0
    r = select(absolute(x) < math.inf, select(minus, -r, r), math.nan)
    return r, select(minus, -q, q)


def _word(index: Vector, offset: int) -> Vector:
    """Word index + offset of 2 / pi; 0 before the first."""
    found = index.full(0)
    for i in range(5):
        if i + offset >= 0:
            number = TWO_OVER_PI[i + offset]
            number -= (number >> 31) << 32
            found = select(index.equals(i), number, found)
    return found
