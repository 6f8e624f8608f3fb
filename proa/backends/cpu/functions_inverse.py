"""asin, acos, atan, atan2, sinh, cosh and their inverses, tan, log2 and log10: at most 2 units in
the last place.

In float64; float32 is widened, so that its results are all but rounded right. Coefficients are
minimax fits by Remez' exchange (220 bits, then rounded), as (f(x) / x - 1) / x^2 in x^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from proa.backends.cpu.functions import at_most, log_edges
from proa.backends.cpu.functions_64 import (
    EXP,
    HALF_PI,
    LOG,
    LOG2_HIGH,
    LOG2_LOW,
    exp_parts,
    fast_two_sum,
    log_parts,
    numbers,
    scaled,
    tan,
    two_sum,
)
from proa.backends.cpu.functions_flow import outlined
from proa.backends.cpu.vector import Vector, absolute, copysign, fma, horner, select, square_root

# |x| <= 1/2, to 2^-57, 2^-58 and 2^-55.
ASIN: Final = numbers(
    "0x1.e7511f9b4ece7p-6 -0x1.3ebeed8cf81dep-6 0x1.42e1e516afca9p-6 0x1.86c0603c467d1p-9 "
    "0x1.31f1d0ee914d0p-7 0x1.3b2fccae79fbep-7 0x1.7b05bd9a56642p-7 0x1.c990668580050p-7 "
    "0x1.1c4efee61ec3bp-6 0x1.6e8ba11108c17p-6 0x1.f1c71c7abba65p-6 0x1.6db6db6dab868p-5 "
    "0x1.333333333338dp-4 0x1.5555555555555p-3"
)
ASINH: Final = numbers(
    "-0x1.89e27e37b6f2fp-10 0x1.0f93d751c9c83p-8 -0x1.a88f6edbdb1fep-8 0x1.0c2a544661be1p-7 "
    "-0x1.3eb403e0fc03bp-7 0x1.7a63b118c6403p-7 -0x1.c9969f93d2f7fp-7 0x1.1c4eaf941b911p-6 "
    "-0x1.6e8ba2235d51ap-6 0x1.f1c71c6d8598dp-6 -0x1.6db6db6db0bd5p-5 0x1.33333333332fcp-4 "
    "-0x1.5555555555555p-3"
)
ATANH: Final = numbers(
    "0x1.b1901dd01303cp-3 -0x1.2a5554160286ap-3 0x1.17602894f40b4p-3 0x1.87652ff2808e9p-7 "
    "0x1.be9161d90d4e3p-5 0x1.a6a1a083849b1p-5 0x1.e2c7ae4908cf6p-5 0x1.1108b247bbac1p-4 "
    "0x1.3b141aa4aa2f7p-4 0x1.745d13ed1a14ap-4 0x1.c71c71d75abdfp-4 0x1.249249247dc3cp-3 "
    "0x1.9999999999ae0p-3 0x1.5555555555555p-2"
)
# |x| <= 7/16, to 2^-56.
ATAN: Final = numbers(
    "0x1.e46bc6fa31e22p-7 -0x1.0f79f0f72b5f1p-5 0x1.700c670fa4d8dp-5 -0x1.ab5c97dd1b95ap-5 "
    "0x1.e170f9cbeebf1p-5 -0x1.110ca356d6bd2p-4 0x1.3b13763e22030p-4 -0x1.745d15513f6f8p-4 "
    "0x1.c71c71bd496d5p-4 -0x1.249249248580bp-3 0x1.99999999998c9p-3 -0x1.5555555555555p-2"
)
# |x| <= 1, to 2^-58.
SINH: Final = numbers(
    "0x1.b40fcb44ba60cp-41 0x1.611cba661e93ap-33 0x1.ae6460eaaf57ap-26 0x1.71de3a4e25bbdp-19 "
    "0x1.a01a01a01ed75p-13 0x1.11111111110fep-7 0x1.5555555555555p-3"
)
# Where atan turns to another centre, the centre, and its arc in two floats.
ARCS: Final = (
    (7 / 16, 0.5, *numbers("0x1.dac670561bb4fp-2 0x1.a2b7f222f65e2p-56")),
    (11 / 16, 1.0, *numbers("0x1.921fb54442d18p-1 0x1.1a62633145c07p-55")),
    (19 / 16, 1.5, *numbers("0x1.f730bd281f69bp-1 0x1.007887af0cbbdp-56")),
    (39 / 16, math.inf, *HALF_PI[:2]),
)
FAR: Final = 2.0**28  # from here on x^2 + 1 and x^2 - 1 are x^2
TINY: Final = 2.0**-600


def _near(x: Vector, z: Vector, coefficients: tuple[float, ...]) -> Vector:
    """x + x z P(z), z = x^2."""
    return fma(x * z, horner(z, coefficients), x)


def _odd(x: Vector, near: Vector, far: Vector, limit: float) -> Vector:
    """`near` below a limit, else `far`, with the sign of x: that of a zero too."""
    return copysign(select(absolute(x) < limit, near, far), x)


def _root(z: Vector, low: Vector | None = None) -> tuple[Vector, Vector]:
    """The square root of z + low in two floats."""
    root = square_root(z)
    rest = fma(-root, root, z)
    rest = rest if low is None else rest + low
    return root, rest / ((root + root) + TINY)


def _chord(size: Vector) -> tuple[Vector, Vector, Vector]:
    """(z, s, more): asin(sqrt(z)) = s + more, for z = (1 - size) / 2."""
    z = (1.0 - size) * 0.5
    s, low = _root(z)
    return z, s, fma(s * z, horner(z, ASIN), low)


def _from(turns: int, less: Vector, more: Vector) -> Vector:
    """Quarter turns less two numbers, the first not larger than they are."""
    found, lost = fast_two_sum(less.full(turns * HALF_PI[0]), -less)
    return found + (lost + (turns * HALF_PI[1] - more))


def asin(x: Vector) -> Vector:
    """Near 0 as it is; else pi / 2 - 2 asin(sqrt((1 - |x|) / 2))."""
    size = absolute(x)
    _, s, more = _chord(size)
    far = _from(1, s + s, more + more)
    return _odd(x, _near(size, x * x, ASIN), far, 0.5)


def acos(x: Vector) -> Vector:
    size, square = absolute(x), x * x
    _, s, more = _chord(size)
    middle = _from(1, x, (x * square) * horner(square, ASIN))
    right = (s + more) * 2.0
    left = _from(2, s + s, more + more)
    return select(size < 0.5, middle, select(x < 0.0, left, right))


def atan(x: Vector) -> Vector:
    """The arc of the nearest centre c, and atan((|x| - c) / (1 + c |x|))."""
    size = absolute(x)
    top, bottom = size, size.full(1.0)
    high, low = size.full(0.0), size.full(0.0)
    for limit, centre, *arc in ARCS:
        past = size >= limit
        is_last = centre == math.inf
        top = select(past, -1.0 if is_last else size - centre, top)
        bottom = select(past, size if is_last else fma(size, centre, 1.0), bottom)
        high, low = select(past, arc[0], high), select(past, arc[1], low)
    t = top / bottom
    z = t * t
    more = fma(t * z, horner(z, ATAN), low)
    return _odd(x, _near(size, z, ATAN), high + (more + t), ARCS[0][0])


def atan2(y: Vector, x: Vector) -> Vector:
    """atan(|y| / |x|), in the quadrant that the signs tell."""
    size_y, size_x = absolute(y), absolute(x)
    ratio = select(size_y.equals(size_x), 1.0, size_y / size_x)  # of infinities, too
    ratio = select(size_y.equals(0.0), 0.0, ratio)
    ratio = select(x.is_nan(), x, select(y.is_nan(), y, ratio))
    angle = atan(ratio)
    minus = x.to("bitcast", "i64") < 0
    turned = 2 * HALF_PI[0] - (angle - 2 * HALF_PI[1])
    return copysign(select(minus, turned, angle), y)


def _exp_halves(size: Vector) -> tuple[Vector, Vector, Vector]:
    """(high, low, e^-size / 2) with e^size / 2 = high + low."""
    n, r = exp_parts(at_most(size, 712.0))
    p = fma(r * r, horner(r, EXP), r)
    high, low = fast_two_sum(p.full(1.0), p)
    high, low = scaled(high, n - 1), scaled(low, n - 1)
    return high, low, 0.25 / high


def sinh(x: Vector) -> Vector:
    size = absolute(x)
    high, low, less = _exp_halves(size)
    far = high + (low - less)
    far = select(high < math.inf, far, high)
    return _odd(x, _near(size, x * x, SINH), far, 1.0)


def cosh(x: Vector) -> Vector:
    high, low, more = _exp_halves(absolute(x))
    return select(high < math.inf, high + (low + more), high)


def _log(x: Vector, more: Vector, doubled: Vector | None = None) -> Vector:
    """log(x + x more), `more` small; twice that x where `doubled`."""
    k, f = log_parts(x)
    if doubled is not None:
        k = select(doubled, k + 1.0, k)
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    low = fma(k, LOG2_LOW, more)
    found = fma(k, LOG2_HIGH, f - (half - fma(s, half + z * horner(z, LOG), low)))
    return log_edges(x, found)


def _log_of_sum(size: Vector, one: float) -> Vector:
    """log(size + sqrt(size^2 + one)), size >= 1/2."""
    far = size > FAR
    held = select(far, 1.0, size)
    square = held * held
    total, lost = two_sum(square, square.full(one))
    root, low = _root(total, lost + fma(held, held, -square))
    y, lost = two_sum(held, root)
    y = select(far, size, y)
    return _log(y, select(far, 0.0, (lost + low) / y), far)


def asinh(x: Vector) -> Vector:
    size = absolute(x)
    return _odd(x, _near(size, x * x, ASINH), _log_of_sum(size, 1.0), 0.5)


def acosh(x: Vector) -> Vector:
    """Near 1 by way of 2 asinh(sqrt((x - 1) / 2))."""
    t = x - 1.0
    root, low = _root(t + t)
    z = t * 0.5
    near = root + fma(root * z, horner(z, ASINH), low)
    return select(x < 1.5, near, _log_of_sum(x, -1.0))


def atanh(x: Vector) -> Vector:
    """Near 0 as it is; else half of log((1 + |x|) / (1 - |x|))."""
    size = absolute(x)
    top, low = fast_two_sum(size.full(1.0), size)
    bottom = 1.0 - size
    q = top / bottom
    rest = (fma(-q, bottom, top) + low) / bottom
    far = _log(q, rest / q) * 0.5
    return _odd(x, _near(size, x * x, ATANH), far, 0.5)


# 1 / log 2, 1 / log 10, and log10(2), the first part of 40 bits: exact times an exponent.
PER_TWO: Final = numbers("0x1.71547652b82fep+0 0x1.777d0ffda0d24p-56")
PER_TEN: Final = numbers("0x1.bcb7b1526e50ep-2 0x1.95355baaafad3p-57")
TWO_IN_TENS: Final = numbers("0x1.34413509f6000p-2 0x1.9fef311f12b36p-42")


def _log_by(x: Vector, per: tuple[float, ...], two: tuple[float, ...]) -> Vector:
    """The logarithm to another base, rounded once: it is exact where the result is whole."""
    k, f = log_parts(x)
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    high, lost = fast_two_sum(f, -half)
    low = lost + fma(s, half + z * horner(z, LOG), fma(f * f, -0.5, half))
    product = high * per[0]
    rest = fma(high, per[0], -product) + fma(low, per[0], high * per[1])
    found, lost = two_sum(k * two[0], product)
    return log_edges(x, found + (lost + fma(k, two[1], rest)))


def log2(x: Vector) -> Vector:
    return _log_by(x, PER_TWO, (1.0, 0.0))


def log10(x: Vector) -> Vector:
    return _log_by(x, PER_TEN, TWO_IN_TENS)


FUNCTIONS: Final[dict[str, Callable[..., Vector]]] = {
    "asin": asin, "acos": acos, "atan": atan, "atan2": atan2, "sinh": sinh, "cosh": cosh,
    "asinh": asinh, "acosh": acosh, "atanh": atanh, "tan": tan,
    "log2": log2, "log10": log10,
}  # fmt: skip


def rule(name: str) -> Callable[..., Vector]:
    """In float32 or float64; a function of its own, one register after another: it is long."""
    function = FUNCTIONS[name]

    def inner(*operands: Vector) -> list[Vector]:
        if operands[0].type == "double":
            return [function(*operands)]
        found = function(*[x.to("fpext", "double") for x in operands])
        return [found.to("fptrunc", "float")]

    return lambda *operands: outlined(name, inner, *operands[:-1])[0]
