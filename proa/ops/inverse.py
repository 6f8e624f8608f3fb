"""Inverse circular and hyperbolic functions, and the hyperbolic sine and cosine."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.ops.arithmetic import inf, nan
from proa.ops.families.elementwise import elementwise
from proa.ops.functions import sqrt
from proa.ops.primitive import FLOAT, Domain, Primitive, ulp

HALF_PI, INSIDE = float(np.pi / 2), Domain(-0.9, 0.9)


def _beside_one(x: Any) -> Any:
    """1 - x^2, without loss near 1."""
    return (1.0 - x) * (1.0 + x)


asin = elementwise(
    "asin", accepts=FLOAT, meaning=np.arcsin, jvp=lambda x, y, dx: dx / sqrt(_beside_one(x)),
    saves="x", accuracy=ulp(4, 2), cost=16, domain=INSIDE,
    edges={-0.0: -0.0, 2.0: nan, -2.0: nan, inf: nan}, doc="The inverse of sin, -pi/2 to pi/2.",
)  # fmt: skip

acos = elementwise(
    "acos", accepts=FLOAT, meaning=np.arccos, jvp=lambda x, y, dx: -dx / sqrt(_beside_one(x)),
    saves="x", accuracy=ulp(4, 2), cost=16, domain=INSIDE,
    edges={1.0: 0.0, 2.0: nan, -2.0: nan, inf: nan}, doc="The inverse of cos, 0 to pi.",
)  # fmt: skip

atan = elementwise(
    "atan", accepts=FLOAT, meaning=np.arctan, jvp=lambda x, y, dx: dx / (x * x + 1.0),
    saves="x", accuracy=ulp(4, 2), cost=16, edges={-0.0: -0.0},
    doc="The inverse of tan, -pi/2 to pi/2.",
)  # fmt: skip


def _turned(part: Any, y: Any, x: Any, tangent: Any) -> Any:
    """tangent part / (x^2 + y^2)."""
    return tangent * (part / (x * x + y * y))


atan2 = elementwise(
    "atan2", accepts=FLOAT, meaning=np.arctan2, saves="y x", accuracy=ulp(4, 2), cost=20,
    jvp=(
        lambda y, x, z, dy: _turned(x, y, x, dy),
        lambda y, x, z, dx: _turned(-y, y, x, dx),
    ),
    edges={(0.0, 0.0): 0.0, (-0.0, 1.0): -0.0, (1.0, inf): 0.0, (-1.0, inf): -0.0},
    doc="The angle of the point (x, y), -pi to pi: atan(y / x) in the right quadrant. The first "
    "operand is y.",
)  # fmt: skip

sinh: Primitive = elementwise(
    "sinh", accepts=FLOAT, meaning=np.sinh, jvp=lambda x, y, dx: cosh(x) * dx, saves="x",
    accuracy=ulp(4, 2), cost=16, edges={-0.0: -0.0, inf: inf, -inf: -inf},
    doc="The hyperbolic sine, (e^x - e^-x) / 2.",
)  # fmt: skip

cosh: Primitive = elementwise(
    "cosh", accepts=FLOAT, meaning=np.cosh, jvp=lambda x, y, dx: sinh(x) * dx, saves="x",
    accuracy=ulp(4, 2), cost=16, edges={0.0: 1.0, inf: inf, -inf: inf},
    doc="The hyperbolic cosine, (e^x + e^-x) / 2.",
)  # fmt: skip

asinh = elementwise(
    "asinh", accepts=FLOAT, meaning=np.arcsinh, jvp=lambda x, y, dx: dx / sqrt(x * x + 1.0),
    saves="x", accuracy=ulp(4, 2), cost=20, edges={-0.0: -0.0, inf: inf, -inf: -inf},
    doc="The inverse of sinh.",
)  # fmt: skip

acosh = elementwise(
    "acosh", accepts=FLOAT, meaning=np.arccosh,
    jvp=lambda x, y, dx: dx / sqrt((x - 1.0) * (x + 1.0)),
    saves="x", accuracy=ulp(4, 2), cost=20, domain=Domain(1.1, 4.0),
    edges={1.0: 0.0, 0.5: nan, inf: inf, -inf: nan}, doc="The inverse of cosh, from 0 on.",
)  # fmt: skip

atanh = elementwise(
    "atanh", accepts=FLOAT, meaning=np.arctanh, jvp=lambda x, y, dx: dx / _beside_one(x),
    saves="x", accuracy=ulp(4, 2), cost=20, domain=INSIDE,
    edges={-0.0: -0.0, 1.0: inf, -1.0: -inf, 2.0: nan}, doc="The inverse of tanh.",
)  # fmt: skip
