"""The special cases of floats in the text of the Array API standard 2024.12: one table.

A line is `function: operands -> result; ...`. Operands and results are numbers, or kinds of them:

| word | stands for |
| --- | --- |
| any, number | every number; all but NaN |
| finite, finite>0, finite<0, nonzero, inf's | finite ones; above and below 0; both; both infinities |
| 0's | both zeros |
| >1, <-1, <1, <0, >0, small, big | numbers there, infinite ones too; small: -1 < x < 1; big: |x| > 1 |
| odd>0, odd<0, even>0, even<0, broken | odd integers; what is no odd integer; not whole |
| integer | whole numbers |
| x1, x2, -x1 | an operand itself, or its negative |
| pi, pi/2, pi/4, 3pi/4 | about |
| true, false | |
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import inf, nan, pi
from typing import Any, Final, NamedTuple

TEXT: Final = """
abs: nan -> nan; -0 -> +0; +0 -> +0; -inf -> inf; inf -> inf
acos: nan -> nan; >1 -> nan; <-1 -> nan; 1 -> +0
acosh: nan -> nan; <1 -> nan; 1 -> +0; inf -> inf
add: nan any -> nan; any nan -> nan; inf -inf -> nan; -inf inf -> nan; inf inf -> inf; -inf -inf -> -inf; inf finite -> inf; -inf finite -> -inf; finite inf -> inf; finite -inf -> -inf; -0 -0 -> -0; -0 +0 -> +0; +0 -0 -> +0; +0 +0 -> +0; 0's nonzero -> x2; nonzero 0's -> x1; nonzero -x1 -> +0
asin: nan -> nan; >1 -> nan; <-1 -> nan; +0 -> +0; -0 -> -0
asinh: nan -> nan; +0 -> +0; -0 -> -0; inf -> inf; -inf -> -inf
atan: nan -> nan; +0 -> +0; -0 -> -0; inf -> pi/2; -inf -> -pi/2
atan2: nan any -> nan; any nan -> nan; >0 +0 -> pi/2; >0 -0 -> pi/2; +0 >0 -> +0; +0 +0 -> +0; +0 -0 -> pi; +0 <0 -> pi; -0 >0 -> -0; -0 +0 -> -0; -0 -0 -> -pi; -0 <0 -> -pi; <0 +0 -> -pi/2; <0 -0 -> -pi/2; finite>0 inf -> +0; finite>0 -inf -> pi; finite<0 inf -> -0; finite<0 -inf -> -pi; inf finite -> pi/2; -inf finite -> -pi/2; inf inf -> pi/4; inf -inf -> 3pi/4; -inf inf -> -pi/4; -inf -inf -> -3pi/4
atanh: nan -> nan; <-1 -> nan; >1 -> nan; -1 -> -inf; 1 -> inf; +0 -> +0; -0 -> -0
ceil: integer -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan
clip: nan number number -> nan; number nan number -> nan; number number nan -> nan
copysign: finite>0 -0 -> -x1; finite>0 +0 -> x1; finite<0 +0 -> -x1; finite<0 -0 -> x1; nan any -> nan; inf <0 -> -inf; -inf >0 -> inf; +0 -0 -> -0; -0 +0 -> +0
cos: nan -> nan; +0 -> 1; -0 -> 1; inf's -> nan
cosh: nan -> nan; +0 -> 1; -0 -> 1; inf -> inf; -inf -> inf
divide: nan any -> nan; any nan -> nan; inf's inf's -> nan; 0's 0's -> nan; +0 >0 -> +0; -0 >0 -> -0; +0 <0 -> -0; -0 <0 -> +0; >0 +0 -> inf; >0 -0 -> -inf; <0 +0 -> -inf; <0 -0 -> inf; inf finite>0 -> inf; inf finite<0 -> -inf; -inf finite>0 -> -inf; -inf finite<0 -> inf; finite>0 inf -> +0; finite>0 -inf -> -0; finite<0 inf -> -0; finite<0 -inf -> +0
equal: nan any -> false; any nan -> false; inf inf -> true; -inf -inf -> true; -0 +0 -> true; +0 -0 -> true; finite inf -> false; inf -inf -> false
exp: nan -> nan; +0 -> 1; -0 -> 1; inf -> inf; -inf -> +0
expm1: nan -> nan; +0 -> +0; -0 -> -0; inf -> inf; -inf -> -1
floor: integer -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan
floor_divide: nan any -> nan; any nan -> nan; inf's inf's -> nan; 0's 0's -> nan; +0 >0 -> +0; -0 >0 -> -0; +0 <0 -> -0; -0 <0 -> +0; >0 +0 -> inf; >0 -0 -> -inf; <0 +0 -> -inf; <0 -0 -> inf; inf finite>0 -> inf; inf finite<0 -> -inf; -inf finite>0 -> -inf; -inf finite<0 -> inf; finite>0 inf -> +0; finite>0 -inf -> -1; finite<0 inf -> -1; finite<0 -inf -> +0
greater: nan any -> false; any nan -> false; inf finite -> true; +0 -0 -> false
greater_equal: nan any -> false; any nan -> false; -0 +0 -> true
hypot: inf any -> inf; -inf any -> inf; any inf -> inf; any -inf -> inf; nan finite -> nan; finite nan -> nan; finite>0 0's -> x1; 0's finite>0 -> x2; 0's 0's -> +0
isfinite: nan -> false; inf's -> false; finite -> true
isinf: inf's -> true; nan -> false; finite -> false
isnan: nan -> true; number -> false
less: nan any -> false; any nan -> false; -inf finite -> true; -0 +0 -> false
less_equal: nan any -> false; any nan -> false; +0 -0 -> true
log: nan -> nan; <0 -> nan; +0 -> -inf; -0 -> -inf; 1 -> +0; inf -> inf
log1p: nan -> nan; <-1 -> nan; -1 -> -inf; -0 -> -0; +0 -> +0; inf -> inf
log2: nan -> nan; <0 -> nan; +0 -> -inf; -0 -> -inf; 1 -> +0; inf -> inf
log10: nan -> nan; <0 -> nan; +0 -> -inf; -0 -> -inf; 1 -> +0; inf -> inf
logaddexp: nan any -> nan; any nan -> nan; inf number -> inf; number inf -> inf; -inf nonzero -> x2; -inf -inf -> -inf
maximum: nan any -> nan; any nan -> nan; inf number -> inf; -inf finite -> x2
minimum: nan any -> nan; any nan -> nan; -inf number -> -inf; inf finite -> x2
multiply: nan any -> nan; any nan -> nan; inf's 0's -> nan; 0's inf's -> nan; inf inf -> inf; -inf -inf -> inf; inf -inf -> -inf; inf finite>0 -> inf; inf finite<0 -> -inf; -inf finite>0 -> -inf; finite<0 -inf -> inf; +0 finite<0 -> -0; -0 finite<0 -> +0; -0 -0 -> +0; -0 +0 -> -0
negative: nan -> nan; +0 -> -0; -0 -> +0; inf -> -inf; finite -> -x1
nextafter: nan any -> nan; any nan -> nan; inf inf -> inf; +0 -0 -> -0; -0 +0 -> +0; nonzero x1 -> x1
not_equal: nan any -> true; any nan -> true; -0 +0 -> false; inf inf -> false
positive: finite -> x1; nan -> nan; -0 -> -0
pow: big nan -> nan; small nan -> nan; any +0 -> 1; any -0 -> 1; nan nonzero -> nan; big inf -> inf; big -inf -> +0; -1 inf's -> 1; 1 number -> 1; small inf -> +0; small -inf -> inf; inf >0 -> inf; inf <0 -> +0; -inf odd>0 -> -inf; -inf even>0 -> inf; -inf odd<0 -> -0; -inf even<0 -> +0; +0 >0 -> +0; +0 <0 -> inf; -0 odd>0 -> -0; -0 even>0 -> +0; -0 odd<0 -> -inf; -0 even<0 -> inf; finite<0 broken -> nan
reciprocal: nan -> nan; +0 -> inf; -0 -> -inf; inf -> +0; -inf -> -0
remainder: nan any -> nan; any nan -> nan; inf's any -> nan; 0's 0's -> nan; +0 >0 -> +0; -0 >0 -> +0; +0 <0 -> -0; -0 <0 -> -0; finite>0 0's -> nan; finite<0 0's -> nan; finite>0 inf -> x1; finite>0 -inf -> x2; finite<0 inf -> x2; finite<0 -inf -> x1
round: integer -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan; 0.5 -> +0; 1.5 -> 2; 2.5 -> 2; -0.5 -> -0; -1.5 -> -2
sign: nan -> nan; >0 -> 1; <0 -> -1; +0 -> 0; -0 -> 0
signbit: +0 -> false; -0 -> true; inf -> false; -inf -> true; >0 -> false; <0 -> true; nan -> false; -nan -> true
sin: nan -> nan; +0 -> +0; -0 -> -0; inf's -> nan
sinh: nan -> nan; +0 -> +0; -0 -> -0; inf -> inf; -inf -> -inf
sqrt: nan -> nan; <0 -> nan; +0 -> +0; -0 -> -0; inf -> inf
square: nan -> nan; inf's -> inf; 0's -> +0
subtract: nan any -> nan; any nan -> nan; inf inf -> nan; -inf -inf -> nan; inf -inf -> inf; -inf inf -> -inf; inf finite -> inf; finite inf -> -inf; finite -inf -> inf; -0 +0 -> -0; -0 -0 -> +0; +0 +0 -> +0; +0 -0 -> +0; nonzero x1 -> +0; nonzero 0's -> x1
tan: nan -> nan; +0 -> +0; -0 -> -0; inf's -> nan
tanh: nan -> nan; +0 -> +0; -0 -> -0; inf -> 1; -inf -> -1
trunc: integer -> x1; inf -> inf; -inf -> -inf; +0 -> +0; -0 -> -0; nan -> nan
"""

FINITE: Final = (1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 1.5, -1e10, 1e30, -1e-30, 3e38, 1e-44)
ABOVE: Final = tuple([v for v in FINITE if v > 0])
BELOW: Final = tuple([v for v in FINITE if v < 0])
KINDS: Final[dict[str, tuple[float, ...]]] = {
    "any": (*FINITE, 0.0, -0.0, inf, -inf, nan), "number": (*FINITE, 0.0, -0.0, inf, -inf),
    "finite": (*FINITE, 0.0, -0.0), "finite>0": ABOVE, "finite<0": BELOW, "nonzero": FINITE,
    "inf's": (inf, -inf), "0's": (0.0, -0.0), ">1": (1.5, 2.0, 1e30, inf), "<-1": (-1.5, -2.0, -inf),
    "<1": (0.5, 0.0, -1.0, -2.0, -inf), "<0": (-0.5, -1.0, -2.0, -inf), ">0": (0.5, 1.0, 2.0, inf),
    "small": (0.5, -0.5, 1e-30, 0.0, -0.0), "big": (1.5, -2.0, 1e30, inf, -inf), "broken": (0.5, -2.5),
    "odd>0": (1.0, 3.0, 5.0), "odd<0": (-1.0, -3.0), "even>0": (2.0, 0.5, 4.0, 1e10),
    "even<0": (-2.0, -0.5, -4.0), "integer": (1.0, -1.0, 2.0, -3.0, 1e10, 1e30), "+0": (0.0,),
    "-0": (-0.0,), "nan": (nan,), "-nan": (-nan,), "inf": (inf,), "-inf": (-inf,),
}  # fmt: skip
ABOUT: Final = {"pi": pi, "pi/2": pi / 2, "pi/4": pi / 4, "3pi/4": 3 * pi / 4}


class Special(NamedTuple):
    """One case: numbers given, what is expected, and whether about suffices."""

    text: str
    operands: tuple[float, ...]
    expected: Any
    about: bool


def _operands(words: list[str]) -> Iterator[tuple[float, ...]]:
    """Every choice of numbers; an operand may be said by the first."""
    for chosen in product(*[KINDS.get(w, ()) or _number(w) for w in words]):
        first = chosen[0]
        said = {"x1": first, "-x1": -first}
        yield tuple([said.get(w, v) for w, v in zip(words, chosen, strict=True)])


def _number(word: str) -> tuple[float, ...]:
    return (0.0,) if word in ("x1", "-x1") else (float(word),)


def _expected(word: str, operands: tuple[float, ...]) -> tuple[Any, bool]:
    if word in ("true", "false"):
        return word == "true", False
    if word in ("x1", "x2"):
        return operands[int(word[1]) - 1], False
    if word == "-x1":
        return -operands[0], False
    if word.lstrip("-") in ABOUT:
        return ABOUT[word.lstrip("-")] * (-1 if word[0] == "-" else 1), True
    return (KINDS[word][0] if word in ("+0", "-0") else float(word)), False


def special_cases() -> dict[str, list[Special]]:
    """Every case, by function."""
    found: dict[str, list[Special]] = {}
    for line in TEXT.strip().splitlines():
        name, _, rest = line.partition(": ")
        for case in rest.split("; "):
            left, _, right = case.partition(" -> ")
            for operands in _operands(left.split()):
                rows = found.setdefault(name, [])
                rows.append(Special(case, operands, *_expected(right, operands)))
    return found
