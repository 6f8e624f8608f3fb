"""exp, log, tanh, ... in float64: at most 2 units in the last place.

Coefficients without another source are minimax fits by Remez' exchange (180 bits, then rounded).
"""

from __future__ import annotations

import math
from typing import Final

from proa.backends.cpu.functions import LOG2E, at_least, at_most, log_edges
from proa.backends.cpu.functions_flow import outlined, rarely
from proa.backends.cpu.vector import Vector, absolute, copysign, fma, horner, select


def numbers(text: str) -> tuple[float, ...]:
    """Hexadecimal floats, the highest power first."""
    return tuple(map(float.fromhex, text.split()))


ROUND: Final = 1.5 * 2.0**52  # added and taken away again, it rounds to an integer
LN2_HIGH: Final = float.fromhex("0x1.62e42fefa4000p-1")  # 41 bits: exact times an exponent
LN2_LOW: Final = float.fromhex("-0x1.8432a1b0e2634p-43")

# (e^r - 1 - r) / r^2 for |r| <= log 2 / 2, to 2^-64 of 1.
EXP: Final = numbers(
    "0x1.1faec6c43f567p-29 0x1.af6d47d25af20p-26 0x1.27e4b47d41843p-22 0x1.71ddef4e77139p-19 "
    "0x1.a01a01b94d92ap-16 0x1.a01a01b3d6555p-13 0x1.6c16c16c12539p-10 0x1.111111110eb6ep-7 "
    "0x1.5555555555560p-5 0x1.555555555555cp-3 0x1p-1"
)


def integer_bits(shifted: Vector) -> Vector:
    """The integer n of n + ROUND."""
    return shifted.to("bitcast", "i64") - 0x4338000000000000


def power_of_two(n: Vector) -> Vector:
    """2^n for -1022 <= n <= 1023, n an integer."""
    return ((n + 1023) << 52).to("bitcast", "double")


def scaled(y: Vector, n: Vector) -> Vector:
    """y 2^n, in two steps so that the ends of the range come out right."""
    half = n >> 1
    return y * power_of_two(half) * power_of_two(n - half)


def exp_parts(x: Vector) -> tuple[Vector, Vector]:
    """(the bits of n, r) with x = n log 2 + r, |r| <= log 2 / 2."""
    shifted = fma(x, LOG2E, ROUND)
    n = shifted - ROUND
    return integer_bits(shifted), fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))


def exp(x: Vector) -> Vector:
    n, r = exp_parts(at_least(at_most(x, 710.0), -746.0))
    return scaled(fma(r * r, horner(r, EXP), r) + 1.0, n)


def _exp_inside(x: Vector) -> Vector:
    """exp where the result is a normal number."""
    n, r = exp_parts(x)
    return (fma(r * r, horner(r, EXP), r) + 1.0) * power_of_two(n)


def expm1(x: Vector) -> Vector:
    """2^n (e^r - 1) + (2^n - 1)."""
    n, r = exp_parts(at_least(at_most(x, 710.0), -40.0))
    y = fma(r * r, horner(r, EXP), r)
    half = power_of_two(n - 1)
    found = fma(y, half, half - 0.5)
    return select(absolute(x) < 2.0**-60, x, found + found)


# log(1 + f) = 2 s + s z P(z), s = f / (2 + f), z = s^2.
LOG: Final = (
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
    2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
    6.666666666666735130e-01,
)  # fmt: skip
LOG2_HIGH: Final = 6.93147180369123816490e-01
LOG2_LOW: Final = 1.90821492927058770002e-10


def log_parts(x: Vector) -> tuple[Vector, Vector]:
    """(exponent, f) with x = 2^exponent (1 + f), 1 + f from sqrt(1/2) to sqrt(2)."""
    tiny = x < 2.0**-1022
    bits = select(tiny, x * 2.0**54, x).to("bitcast", "i64")
    raised = (bits - 0x3FE6A09E667F3BCD) >> 52
    f = (bits - (raised << 52)).to("bitcast", "double") - 1.0
    exponent = raised.to("trunc", "i32").to("sitofp", "double")
    return select(tiny, exponent - 54.0, exponent), f


def _log_of(x: Vector, more: Vector | None) -> Vector:
    """log(x), and `more` added where it is still small."""
    k, f = log_parts(x)
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    low = k * LOG2_LOW
    low = low if more is None else low + more
    found = fma(k, LOG2_HIGH, f - (half - fma(s, half + z * horner(z, LOG), low)))
    return log_edges(x, found)


def log(x: Vector) -> Vector:
    return _log_of(x, None)


def log1p(x: Vector) -> Vector:
    """log(u) with u = 1 + x rounded, and what the rounding lost put back."""
    u = x + 1.0
    lost = select(x > 1.0, 1.0 - (u - x), x - (u - 1.0))
    return select(absolute(x) < 2.0**-60, x, _log_of(u, lost / u))


TANH_TOP: Final = (
    -9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3,
)  # fmt: skip
TANH_BOTTOM: Final = (
    1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3,
)  # fmt: skip


def tanh(x: Vector) -> Vector:
    """A quotient of polynomials near 0, else by way of e^(2|x|)."""
    size, s = absolute(x), x * x
    ratio = horner(s, TANH_TOP) / horner(s, TANH_BOTTOM)
    near = fma(fma(x, s, 0.0), ratio, x)
    far = 1.0 - 2.0 / (_exp_inside(at_most(size + size, 700.0)) + 1.0)
    return select(size < 0.625, near, copysign(far, x))


# erf(x) / x - 1 in x^2 for |x| <= 0.9, to 2^-54.
ERF_NEAR: Final = numbers(
    "0x1.60e0749166040p-27 -0x1.4ded10ca7b6abp-23 0x1.b7999b9e1ae4bp-20 -0x1.f4a1aea8af56dp-17 "
    "0x1.f9a08d3eea6b4p-14 -0x1.c02d9d13e8dc5p-11 0x1.565bcc902c543p-8 -0x1.b82ce30f5c7c7p-6 "
    "0x1.ce2f21a038441p-4 -0x1.812746b03790fp-2 0x1.06eba8214db67p-3"
)
# log(1 - erf(x)) + x^2 for 0.89 <= x <= 6, to 2^-55 of what 1 - erf(x) becomes.
ERF_FAR: Final = numbers(
    "-0x1.f13838c120930p-38 0x1.3acab9b03fcddp-32 -0x1.72192fca11103p-28 0x1.0b778b1b9603dp-24 "
    "-0x1.087eed00db5e2p-21 0x1.76e61a54de570p-19 -0x1.7ee6ec3eac73ep-17 0x1.09cb34480efe4p-15 "
    "-0x1.661e23449b79ap-15 -0x1.7aeb51702c08cp-14 0x1.6f359a91fccd8p-11 -0x1.df9433da6b9a1p-10 "
    "0x1.581e490604f63p-12 0x1.381c7c0299481p-6 -0x1.a4cd6b1dbd519p-4 0x1.7416b5def5287p-2 "
    "-0x1.20dd4b4ade2c2p+0 -0x1.f2af72405923ep-23"
)


def erf(x: Vector) -> Vector:
    """Two branches: x + x P(x^2), and 1 - e^(Q(|x|) - x^2)."""
    size = absolute(x)
    near = fma(x, horner(x * x, ERF_NEAR), x)
    held = at_most(size, 6.0)
    far = 1.0 - _exp_inside(fma(-held, held, horner(held, ERF_FAR)))
    return select(size > 0.8984375, copysign(far, x), near)


# sin and cos of x = n pi / 2 + r, r in two floats.

# (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 in r^2 for |r| <= pi / 4, to 2^-58 and 2^-64.
SIN: Final = numbers(
    "0x1.5d93321bd4d14p-33 -0x1.ae5e66f788f41p-26 0x1.71de3578c659dp-19 -0x1.a01a019c12fb7p-13 "
    "0x1.111111110f887p-7 -0x1.5555555555549p-3"
)
COS: Final = numbers(
    "-0x1.8faebc9bc8a77p-37 0x1.1ee9ec276c961p-29 -0x1.27e4f80a4d874p-22 0x1.a01a019cb2426p-16 "
    "-0x1.6c16c16c15183p-10 0x1.555555555554cp-5"
)
HALF_PI: Final = numbers("0x1.921fb54442d18p+0 0x1.1a62633145c07p-54 -0x1.f1976b7ed8fbcp-110")
NEAR: Final = 2.0**27
# 2 / pi to 1216 bits, the first after the point.
TWO_OVER_PI: Final = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424d"
    "d2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639"
    "835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f46"
    "3f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)
DIGITS: Final = 1216


def sin(x: Vector) -> Vector:
    return select(absolute(x) < 2.0**-27, x, _circular(x, 0))


def cos(x: Vector) -> Vector:
    return _circular(x, 1)


def _circular(x: Vector, turn: int) -> Vector:
    """sin of x + turn quarter turns."""
    (sine, less), (cosine, rest), quadrant = _both(x)
    quadrant = quadrant + turn
    found = select((quadrant & 1).differs(0), cosine + rest, sine + less)
    return select((quadrant & 2).differs(0), -found, found)


def tan(x: Vector) -> Vector:
    """The quotient of both in two floats each."""
    sine, cosine, quadrant = _both(x)
    is_turned = (quadrant & 1).differs(0)
    parts = [fast_two_sum(*sine), fast_two_sum(*cosine)]
    top, more = [select(is_turned, b, a) for a, b in zip(*parts, strict=True)]
    bottom, less = [select(is_turned, -a, b) for a, b in zip(*parts, strict=True)]
    found = top / bottom
    rest = (fma(-found, bottom, top) + more) - found * less
    return select(absolute(x) < 2.0**-27, x, found + rest / bottom)


def _both(x: Vector) -> tuple[tuple[Vector, Vector], tuple[Vector, Vector], Vector]:
    """sin and cos of what is left of x beyond quarter turns, in two floats each, and how many."""
    shifted = fma(x, 2.0 / math.pi, ROUND)
    j = shifted - ROUND
    first = fma(j, -HALF_PI[0], x)  # exact: the product's low bits are those of the difference
    second = j * HALF_PI[1]
    lost = fma(j, HALF_PI[1], -second)
    high, low = two_sum(first, -second)
    high, low = fast_two_sum(high, fma(j, -HALF_PI[2], low - lost))
    quadrant = shifted.to("bitcast", "i64")
    high, low, quadrant = rarely(
        absolute(x) > NEAR, [high, low, quadrant], lambda: outlined("reduced", _far, x)
    )
    z = high * high
    sine = fma(fma(z, -0.5, 1.0), low, (high * z) * horner(z, SIN))
    half = z * 0.5
    most = 1.0 - half
    cosine = fma(z * z, horner(z, COS), fma(-high, low, (1.0 - most) - half))
    return (high, sine), (most, cosine), quadrant


def two_sum(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """(a + b rounded, what was lost)."""
    total = a + b
    mine = total - a
    return total, (a - (total - mine)) + (b - mine)


def fast_two_sum(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """`two_sum` where |a| >= |b|."""
    total = a + b
    return total, (a - total) + b


def _far(x: Vector) -> tuple[Vector, Vector, Vector]:
    """(high, low, quadrant) of a large x: Payne's and Hanek's reduction, on integers.

    x = m 2^(e - 52). Bits of 2 / pi before number e - 53 make whole turns; the 192 bits from there
    on, W, make x (2 / pi) = m W 2^-190 mod 4, to 2^-137.
    """
    bits = x.to("bitcast", "i64")
    bits = Vector(x.body, "i64", bits.names, False)
    e = ((bits >> 52) & 0x7FF) - 1023
    e = select((e > 26) & (e < 2048), e, 27)  # other lanes are not asked for
    position = e - 22  # of the first bit: 32 zeros lie before the point
    words = _words(position)
    mantissa = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000
    low, high = mantissa & 0xFFFFFFFF, mantissa >> 32
    limbs, carry = [], low.full(0)
    for word in words:
        total = word * low + carry
        limbs.append(total & 0xFFFFFFFF)
        carry = total >> 32
    carry = low.full(0)
    for i, word in enumerate(words[:-1], 1):
        total = word * high + limbs[i] + carry
        limbs[i] = total & 0xFFFFFFFF
        carry = total >> 32
    top = limbs[5]
    past = (top >> 29) & 1  # the fraction is at least a half: count from the next quarter turn
    quadrant = (top >> 30) + past
    rest = ((top & 0x3FFFFFFF) - (past << 30)) + (1 << 31)
    turns, lost = two_sum(_whole(rest, 2.0**52 + 2.0**31) * 2.0**-30, _whole(limbs[4]) * 2.0**-62)
    turns, more = two_sum(turns, _whole(limbs[3]) * 2.0**-94)
    turns, lost = fast_two_sum(turns, (lost + more) + _whole(limbs[2]) * 2.0**-126)
    product = turns * HALF_PI[0]
    error = fma(turns, HALF_PI[1], fma(lost, HALF_PI[0], fma(turns, HALF_PI[0], -product)))
    found, error = fast_two_sum(product, error)
    minus = x < 0.0
    quadrant = Vector(x.body, "i64", quadrant.names)
    return (
        select(absolute(x) < math.inf, select(minus, -found, found), math.nan),
        select(minus, -error, error),
        select(minus, -quadrant, quadrant),
    )


def _whole(n: Vector, less: float = 2.0**52) -> Vector:
    """An integer of 32 bits as a float."""
    return (n | 0x4330000000000000).to("bitcast", "double") - less


def _words(position: Vector) -> list[Vector]:
    """Six numbers of 32 bits, the last first, from a bit of 2 / pi on."""
    body, wide, pointers = position.body, position.wide, position.body.wide("ptr")
    count = DIGITS // 32  # each behind the next by 32 bits, the first begins with 32 zeros
    entries = [(TWO_OVER_PI >> (32 * (count - i - 1))) % 2**64 for i in range(count)]
    text = ", ".join(f"i64 {n - (n >> 63 << 64)}" for n in entries)
    body.helpers["two_over_pi"] = [
        f"@two_over_pi = internal constant [{count} x i64] [{text}], align 64"
    ]
    index, shift = position >> 5, position & 31
    name = f"llvm.masked.gather.v{body.lanes}i64.v{body.lanes}p0"
    body.declare(name, wide, [pointers, body.wide("i1"), wide])
    found = []
    for i in range(6):
        at = (index + i).names[0]
        places = body.set(f"getelementptr i64, ptr @two_over_pi, {wide} {at}")
        got = body.set(
            f"call {wide} @{name}({pointers} align 8 {places}, {body.wide('i1')} splat (i1 true), "
            f"{wide} zeroinitializer)"
        )
        found.append((index.like([got]) << shift) >> 32)
    return found[::-1]
