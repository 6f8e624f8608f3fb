"""x to the power y, in float32 and float64: at most 2 units in the last place.

|x|^y = e^(y log |x|), the logarithm with more digits than the result has: in float64 for float32,
in two floats for float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from proa.backends.cpu.functions import LOG2E, at_least, at_most
from proa.backends.cpu.functions_64 import (
    EXP,
    LN2_HIGH,
    LN2_LOW,
    ROUND,
    fast_two_sum,
    integer_bits,
    log_parts,
    numbers,
    power_of_two,
    scaled,
)
from proa.backends.cpu.functions_flow import outlined
from proa.backends.cpu.vector import Vector, absolute, floor, fma, horner, select

# Minimax fits by Remez' exchange: (log((1 + s) / (1 - s)) / s - 2) / z in z = s^2, to 2^-45, and
# (e^r - 1 - r) / r^2, to 2^-46.
LOG_SHORT: Final = numbers(
    "0x1.9124f481427abp-3 0x1.c62a182c7d15ep-3 0x1.249414ace6742p-2 0x1.999996a3604e6p-2 "
    "0x1.5555555620352p-1"
)
EXP_SHORT: Final = numbers(
    "0x1.731cb206b7a94p-19 0x1.a17512d677d1cp-16 0x1.a0195b428e894p-13 0x1.6c16355caf123p-10 "
    "0x1.11111134f741cp-7 0x1.55555581ca416p-5 0x1.555555554ac7cp-3 0x1.ffffffffee889p-2"
)
# (log((1 + s) / (1 - s)) / s - 2 - 2 z / 3) / z^2, to 2^-73.
LOG_LONG: Final = numbers(
    "0x1.eb3224cdec0f7p-4 0x1.de2f84cb00702p-4 0x1.1120ce08ceb25p-3 0x1.3b13621642b5fp-3 "
    "0x1.745d18349e971p-3 0x1.c71c71c57bbabp-3 0x1.249249249305bp-2 0x1.9999999999995p-2"
)
THIRDS: Final = numbers("0x1.5555555555555p-1 0x1.5555555555555p-55")  # 2 / 3


def power(x: Vector, y: Vector) -> Vector:
    """In float32 or float64. A function of its own, one register after another: it is long."""
    return outlined("power", lambda x, y: [_power(x, y)], x, y)[0]


def _power(x: Vector, y: Vector) -> Vector:
    if x.type == "double":
        return _signed(x, y, _size)
    found = _signed(x.to("fpext", "double"), y.to("fpext", "double"), _size_short)
    return found.to("fptrunc", "float")


def _signed(x: Vector, y: Vector, of: Callable[[Vector, Vector], Vector]) -> Vector:
    """The size, its sign, and what IEEE 754 says of NaN, 0 and 1."""
    size = of(absolute(x), at_least(at_most(y, 2.0**64), -(2.0**64)))  # beyond, nothing changes
    half = y * 0.5
    whole = floor(y).equals(y)
    odd = whole & floor(half).differs(half)
    minus = (x.to("bitcast", "i64") < 0) & ~x.is_nan()
    found = select(minus & odd, -size, size)
    strange = (x < 0.0) & (x > -math.inf) & ~whole
    found = select(strange, math.nan, found)
    found = select(x.is_nan() | y.is_nan(), x + y, found)
    return select(y.equals(0.0) | x.equals(1.0), 1.0, found)


def _edges(x: Vector, log: Vector) -> Vector:
    """log(x) of |x|, with 0 and infinity."""
    log = select(x.equals(0.0), -math.inf, log)
    return select(x.equals(math.inf), math.inf, log)


def _size_short(x: Vector, y: Vector) -> Vector:
    k, f = log_parts(x)
    s = f / (f + 2.0)
    z = s * s
    log = fma(k, math.log(2.0), fma(s * z, horner(z, LOG_SHORT), s + s))
    v = at_least(at_most(y * _edges(x, log), 200.0), -200.0)
    shifted = fma(v, LOG2E, ROUND)
    r = fma(shifted - ROUND, -math.log(2.0), v)
    e = fma(r * r, horner(r, EXP_SHORT), r) + 1.0
    return e * power_of_two(integer_bits(shifted))


def _size(x: Vector, y: Vector) -> Vector:
    high, low = _log_pair(x)
    product = y * _edges(x, high)
    rest = fma(y, low, fma(y, high, -product))
    v = at_least(at_most(product, 710.0), -746.0)
    rest = select(v.equals(product), rest, 0.0)
    shifted = fma(v, LOG2E, ROUND)
    n = shifted - ROUND
    first, second = fma(n, -LN2_HIGH, v), n * LN2_LOW
    r, lost = fast_two_sum(first, -second)
    r, rest = fast_two_sum(r, lost + rest)
    e = (r + fma(r * r, horner(r, EXP), fma(rest, r, rest))) + 1.0
    return scaled(e, integer_bits(shifted))


def _log_pair(x: Vector) -> tuple[Vector, Vector]:
    """log(x) as a sum of two floats, to 2^-64 of it: 2 s + s^3 (2 / 3 + z P(z))."""
    k, f = log_parts(x)
    below = f + 2.0
    cut = f - (below - 2.0)
    inverse = 1.0 / below
    s = f * inverse
    s_low = fma(-s, cut, fma(-s, below, f)) * inverse
    z = s * s
    z_low = fma(s + s, s_low, fma(s, s, -z))
    tail = z * horner(z, LOG_LONG)
    c, c_low = fast_two_sum(z.full(THIRDS[0]), tail)
    c_low = fma(z_low, 0.4, c_low + THIRDS[1])
    cube = s * z
    cube_low = fma(s_low, z, fma(s, z_low, fma(s, z, -cube)))
    u = cube * c
    u_low = fma(cube_low, c, fma(cube, c_low, fma(cube, c, -u)))
    m, m_low = fast_two_sum(s + s, u)
    m_low = m_low + (s_low + s_low + u_low)
    high, low = fast_two_sum(k * LN2_HIGH, m)
    return fast_two_sum(high, low + fma(k, LN2_LOW, m_low))
