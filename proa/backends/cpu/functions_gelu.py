"""gelu and its slope in float32 and float64, both forms: at most 8 units in the last place.

Left of 0 gelu is a small tail, x Phi(x). The sum 1 + erf loses it; here it is a product, with
a = |x|: Phi(-a) = e^(-a^2 / 2) N(a) / D(a), where the coefficients of N and D have one sign. Right
of 0 it is x minus the tail. The exponent is kept in two floats. Its power of two is multiplied in
last, and raised by as much as the other factor is lowered: no step underflows before the last one.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from proa.backends.cpu import functions, functions_64
from proa.backends.cpu.functions import LOG2E, at_most
from proa.backends.cpu.functions_64 import numbers
from proa.backends.cpu.vector import Vector, absolute, fma, horner, select
from proa.graph.entry import Entry

Pair = tuple[float, ...]
Quotient = tuple[tuple[float, ...], tuple[float, ...]]  # top and bottom, the highest power first


class _Kind(NamedTuple):
    """What differs between the two float types. Results are 0, x or 1 beyond `far`, in the tanh
    form beyond `far_tanh`. Pairs are a number in two floats: log 2; where the slope is 0; and
    sqrt(8 / pi) and 0.044715 times it, of the tanh form."""

    integer: str
    digits: int
    bias: int  # of an exponent
    raised: int
    round: float  # its bits are `round_bits`
    round_bits: int
    log2: Pair
    exp: tuple[float, ...]
    tail: Quotient
    slope: Quotient
    far: float
    zero: Pair
    far_tanh: float
    linear: Pair
    cubic: Pair


# Minimax fits of the relative error by Remez' exchange (200 bits, then rounded).
# tail: Phi(-a) e^(a^2 / 2). slope: (Phi(-a) - a phi(a)) e^(a^2 / 2) / (a - zero).
SHORT: Final = _Kind(
    integer="i32", digits=23, bias=127, raised=36,
    round=functions.ROUND, round_bits=0x4B400000,
    log2=(functions.LN2_HIGH, functions.LN2_LOW),
    exp=numbers("0x1.6db478p-10 0x1.123baap-7 0x1.55545ep-5 0x1.55548ep-3 0x1p-1"),
    tail=(
        numbers("0x1.0f5764p-8 0x1.4e30a8p-5 0x1.783eb8p-3 0x1.c1794cp-2 0x1p-1"),
        numbers("0x1.54127ep-7 0x1.a2dee4p-4 0x1.e207ecp-2 0x1.34594ep+0 0x1.acfed8p+0 0x1p+0"),
    ),
    slope=(
        numbers("-0x1.5651c6p-7 -0x1.881bd8p-4 -0x1.833212p-2 -0x1.81f23p-1 -0x1.54851ap-1"),
        numbers("0x1.ad0806p-6 0x1.c321ep-3 0x1.963e58p-1 0x1.6625d6p+0 0x1p+0"),
    ),
    far=14.8, zero=numbers("0x1.80ead2p-1 -0x1.a03fd4p-27"),
    far_tanh=10.95, linear=numbers("0x1.98844p+0 0x1.33d436p-20"),
    cubic=numbers("0x1.2444f2p-4 0x1.49b16ap-29"),
)  # fmt: skip
LONG: Final = _Kind(
    integer="i64", digits=52, bias=1023, raised=70,
    round=functions_64.ROUND, round_bits=0x4338000000000000,
    log2=(functions_64.LN2_HIGH, functions_64.LN2_LOW),
    exp=functions_64.EXP,
    tail=(
        numbers(
            "0x1.7376f16516d85p-20 0x1.38276be69d1e8p-15 0x1.00dfc1a2f19ccp-11 "
            "0x1.0bc8c721401cap-8 0x1.82c7574b97183p-6 0x1.8ff87cade37afp-4 0x1.282967401be79p-2 "
            "0x1.301235051484ep-1 0x1.8cae031381d10p-1 0x1p-1"
        ),
        numbers(
            "0x1.d18fd61d57cf0p-19 0x1.873a1d4186d3bp-14 0x1.42da69cdd89c8p-10 "
            "0x1.52ac9e9b3a431p-7 0x1.eec2546cd30dep-5 0x1.04f103112797ap-2 0x1.903dbdbc9c21ep-1 "
            "0x1.b6c061224973fp+0 0x1.47c67420b3068p+1 0x1.2c78165911c06p+1 0x1p+0"
        ),
    ),
    slope=(
        numbers(
            "-0x1.3f08d84d50b99p-18 -0x1.0309c384fedbep-13 -0x1.948b7d799f9f2p-10 "
            "-0x1.8a1609d5b5783p-7 -0x1.05fc110de21fap-4 -0x1.eae3e3d9b2f60p-3 "
            "-0x1.4377a5f21026bp-1 -0x1.216d6b1cf7466p+0 -0x1.40d280f40ef1dp+0 "
            "-0x1.54851a5cc1ec8p-1"
        ),
        numbers(
            "0x1.8fd9bb2ef6109p-17 0x1.3b4324cf92226p-12 0x1.de1313a75b499p-9 "
            "0x1.c3315b4b7308ap-6 0x1.216129c993c17p-3 0x1.03da672a3a4bep-1 0x1.45056a5f3cc72p+0 "
            "0x1.0fe80b86d41fap+1 0x1.1330a0b15d9fcp+1 0x1p+0"
        ),
    ),
    far=38.8, zero=numbers("0x1.80ead197f00b4p-1 -0x1.13e74c58cada8p-56"),
    far_tanh=21.62, linear=numbers("0x1.9884533d43640p+0 0x1.08d0fcb3c500cp-48"),
    cubic=numbers("0x1.2444f2a4d8b4bp-4 -0x1.6c843a29d1c70p-61"),
)  # fmt: skip
KINDS: Final = {"float": SHORT, "double": LONG}


def gelu(x: Vector, entry: Entry) -> Vector:
    """max(x, 0) - a Phi(-a), or with the tanh form's Phi."""
    kind = KINDS[x.type]
    if entry.named_params["approximate"] == "tanh":
        a, _, e, power = _folded(x, kind)
        e = e * -(2.0**-kind.raised)
        below = e / fma(-e, power, 1.0)
    else:
        a, e, power = _bell(x, kind)
        top, bottom = kind.tail
        below = horner(a, [-c * 2.0**-kind.raised for c in top]) * e / horner(a, bottom)
    above = select(x < 0.0, x * 0.0, x)  # NaN of -infinity: infinity times 0, as it is defined
    return fma(a * power, below, above)


def slope(x: Vector, entry: Entry) -> Vector:
    """t(a) left of 0, 1 - t(a) right of it, with t(a) = Phi(-a) - a phi(a)."""
    kind = KINDS[x.type]
    nothing = x * 0.0  # but NaN of infinity
    if entry.named_params["approximate"] == "tanh":
        a, s, e, power = _folded(x, kind)
        e = e * 2.0**-kind.raised
        below = fma(e, power, 1.0)
        rest = 1.0 / below
        rise = fma(s, 3.0 * kind.cubic[0], math.sqrt(8.0 / math.pi))
        t = (fma(-a, rise, below + nothing) * power) * (e * rest * rest)
    else:
        a, e, power = _bell(x, kind)
        top, bottom = kind.slope
        far = (a - kind.zero[0]) + (nothing - kind.zero[1])
        t = (far * power) * (
            horner(a, [c * 2.0**-kind.raised for c in top]) * e / horner(a, bottom)
        )
    return select(x < 0.0, t, 1.0 - t)


def _bell(x: Vector, kind: _Kind) -> tuple[Vector, Vector, Vector]:
    """(a, e, power): e^(-a^2 / 2) = e power 2^-raised."""
    a = at_most(absolute(x), kind.far)
    h = a * -0.5
    v = h * a
    return a, *_raised(v, fma(h, a, -v), kind)


def _folded(x: Vector, kind: _Kind) -> tuple[Vector, Vector, Vector, Vector]:
    """(a, a^2, e, power): e^(-a (linear + cubic a^2)) = e power 2^-raised."""
    a = at_most(absolute(x), kind.far_tanh)
    (c1, c1_low), (c3, c3_low) = kind.linear, kind.cubic
    s = a * a
    s_low = fma(a, a, -s)
    q = fma(s, -c3, -c1)
    low = fma(s, -c3, -c1 - q)  # -c1 - q is exact: the first part of c1 has few digits
    low = low + fma(s, -c3_low, fma(s_low, -c3, -c1_low))
    v = a * q
    return a, s, *_raised(v, fma(a, low, fma(a, q, -v)), kind)


def _raised(x: Vector, more: Vector, kind: _Kind) -> tuple[Vector, Vector]:
    """e^(x + more), x <= 0, as e power 2^-raised, where `power` is a power of two."""
    shifted = fma(x, LOG2E, kind.round)
    n = shifted - kind.round
    r = fma(n, -kind.log2[1], fma(n, -kind.log2[0], x)) + more
    e = fma(r * r, horner(r, kind.exp), r) + 1.0
    bits = shifted.to("bitcast", kind.integer) + (kind.bias + kind.raised - kind.round_bits)
    return e, (bits << kind.digits).to("bitcast", x.type)
