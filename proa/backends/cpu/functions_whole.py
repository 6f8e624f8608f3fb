"""Remainders, integer division and powers, and random bits: exact, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proa.backends.cpu.functions_flow import outlined, repeated
from proa.backends.cpu.vector import Vector, absolute, copysign, floor, fma, select

# Fractional bits, exponent bias and exponent mask of the two float types; the integer of that size.
FORMATS: Final = {"float": (23, 127, 0xFF, "i32"), "double": (52, 1023, 0x7FF, "i64")}


def remainder(x: Vector, y: Vector) -> Vector:
    """x - y floor(x / y) with the sign of y: of floats as C's fmod, then moved to y's side."""
    found = outlined("remainder", lambda a, b: [_modulus(a, b)], absolute(x), absolute(y))[0]
    found = copysign(found, x)
    found = select(y.equals(0.0) | absolute(x).equals(float("inf")), float("nan"), found)
    other = (y < 0.0) ^ (found < 0.0)
    moved = select(other & found.differs(0.0), found + y, found)
    return select(found.equals(0.0), copysign(found, y), moved)


def _modulus(x: Vector, y: Vector) -> Vector:
    """fmod of x >= 0 and y >= 0, by long division: each step takes off a multiple of y 2^k. Its
    quotient has fewer bits than the format, so it is right or one too large, and the difference is
    exact."""
    fraction, bias, _, _ = FORMATS[x.type]
    tiny = 2.0 ** (1 - bias)  # the smallest normal number
    usable = (x < float("inf")) & (y > 0.0) & (y < float("inf"))
    low = y < tiny
    normal = select(low, y * 2.0**fraction, y)
    least = _exponent(normal) - select(low, _exponent(normal).full(fraction), 0)

    def goes_on(r: Vector) -> Vector:
        return usable & (r >= y)

    def step(r: Vector) -> list[Vector]:
        k = _exponent(r) - least - (fraction - 2)
        k = select((k > 0) & (r >= tiny), k, 0)  # below, no exponent is to be read
        half = k >> 1
        multiple = y * _power_of_two(half, x.type) * _power_of_two(k - half, x.type)
        rest = fma(-floor(r / multiple), multiple, r)
        return [select(rest < 0.0, rest + multiple, rest)]

    (found,) = repeated([x], goes_on, step)
    return select(x.is_nan() | y.is_nan(), x + y, found)


def _exponent(x: Vector) -> Vector:
    fraction, bias, mask, integer = FORMATS[x.type]
    return (x.to("bitcast", integer).logical_shift(fraction) & mask) - bias


def _power_of_two(n: Vector, type_: str) -> Vector:
    fraction, bias, _, _ = FORMATS[type_]
    return ((n + bias) << fraction).to("bitcast", type_)


# Integers.


def divided(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """(x / y rounded down, the remainder with the sign of y); 0 where y is 0."""
    zero = y.equals(0)
    y = select(zero, 1, y)
    quotient = _quotient_long(x, y) if x.type == "i64" else _quotient(x, y)
    rest = x - quotient * y
    return select(zero, 0, quotient), select(zero, 0, rest)


def _quotient(x: Vector, y: Vector) -> Vector:
    """By a float of more than twice the bits: what is not whole is told from what is."""
    kind = "sitofp" if x.signed else "uitofp"
    float_, integer, magic = ("double", "i64", 1.5 * 2.0**52)
    if x.type != "i32":
        float_, integer, magic = ("float", "i32", 1.5 * 2.0**23)
    quotient = floor(x.to(kind, float_) / y.to(kind, float_))
    bits = (quotient + magic).to("bitcast", integer)  # its last bits are those of the integer
    return Vector(x.body, x.type, bits.to("trunc", x.type).names, x.signed)


def _quotient_long(x: Vector, y: Vector) -> Vector:
    if not x.signed:
        return x.binary("udiv", y)
    minus = y.equals(-1)  # the smallest integer divided by -1 is itself
    y = select(minus, 1, y)
    quotient = x.binary("sdiv", y)
    rest = x - quotient * y
    down = rest.differs(0) & ((rest < 0) ^ (y < 0))
    return select(minus, -x, select(down, quotient - 1, quotient))


def integer_power(x: Vector, y: Vector) -> Vector:
    """By squaring, with the width's wrapping; to a negative power 0 unless x is 1 or -1."""
    return outlined("integer_power" + "us"[x.signed], _power, x, y)[0]


def _power(x: Vector, y: Vector) -> list[Vector]:
    def step(base: Vector, exponent: Vector, found: Vector) -> list[Vector]:
        odd = (exponent & 1).differs(0)
        return [base * base, exponent.logical_shift(1), select(odd, found * base, found)]

    one = select(y.equals(y), 1, y)
    start = select(y > 0, y, 0)
    _, _, found = repeated([x, start, one], lambda b, e, f: e.differs(0), step)
    if not x.signed:
        return [found]
    odd = (y & 1).differs(0)
    kept = select(x.equals(1) | (x.equals(-1) & ~odd), 1, select(x.equals(-1), -1, x.full(0)))
    return [select(y < 0, kept, found)]


# Threefry-2x32 in 20 rounds (Salmon et al. 2011).

ROTATIONS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY: Final = 0x1BD11BDA


def threefry(key0: Vector, key1: Vector, counter0: Vector, counter1: Vector) -> Sequence[Vector]:
    """Two words of 32 bits for each counter."""
    keys = (key0, key1, (key0 ^ key1) ^ PARITY)
    a, b = counter0 + keys[0], counter1 + keys[1]
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            a = a + b
            b = b.call("fshl", b, turn) ^ a
        a = a + keys[(group + 1) % 3]
        b = b + (keys[(group + 2) % 3] + (group + 1))
    return a, b
