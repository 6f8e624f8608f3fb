"""Functions of one operand, element by element, and casts."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.dtypes import bool_
from proa.dtypes import dtype as as_dtype
from proa.errors import DtypeError, message
from proa.graph.spec import Spec, spec
from proa.ops.arithmetic import inf, nan
from proa.ops.families.elementwise import ELEMENTWISE, elementwise, to_bool
from proa.ops.primitive import (
    BOOL,
    FLOAT,
    INT,
    NUMERIC,
    REAL,
    Domain,
    Primitive,
    Sample,
    apply,
    ulp,
)  # fmt: skip

TWO_OVER_SQRT_PI = 1.1283791670955126
LOG_2, LOG_10 = 0.6931471805599453, 2.302585092994046


def _flat(x: Any, y: Any, dx: Any) -> None:
    """The derivative is zero wherever it exists."""


def _neg_transpose(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return -cts[0]


def _erf(x: Any) -> Any:
    from scipy.special import erf as special

    if x.dtype in (np.float32, np.float64):
        return special(x)
    return special(x.astype(np.float32)).astype(x.dtype)


def _rsqrt(x: Any) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    return (np.ones((), wide.dtype) / np.sqrt(wide)).astype(x.dtype)


def _sign(x: Any) -> Any:
    """+0 of both zeros, in every dtype."""
    return np.sign(x) + np.zeros((), x.dtype)


neg = elementwise(
    "neg", accepts=NUMERIC, core=True, meaning=np.negative, linear=(0,), transpose=_neg_transpose,
    jvp=lambda x, y, dx: -dx, edges={0.0: -0.0}, doc="-x.",
)  # fmt: skip

abs = elementwise(
    "abs", accepts=NUMERIC, core=True, meaning=np.abs, jvp=lambda x, y, dx: sign(x) * dx,
    saves="x", edges={-inf: inf, -0.0: 0.0}, doc="|x|. The derivative at 0 is 0.",
)  # fmt: skip

sign: Primitive = elementwise(
    "sign", accepts=NUMERIC, core=True, meaning=_sign, jvp=_flat, edges={nan: nan, -0.0: 0.0},
    doc="-1, 0 or 1; NaN of NaN.",
)  # fmt: skip

floor = elementwise(
    "floor", accepts=NUMERIC, core=True, 
    meaning=lambda x: x if x.dtype.kind in "iu" else np.floor(x),
    jvp=_flat, edges={inf: inf}, doc="The largest integer not above x.",
)  # fmt: skip

exp = elementwise(
    "exp", accepts=FLOAT, core=True, meaning=np.exp, jvp=lambda x, y, dx: y * dx, saves="y",
    accuracy=ulp(3, 2), cost=12, edges={-inf: 0.0, inf: inf, nan: nan, 0.0: 1.0}, doc="e^x.",
)  # fmt: skip

expm1 = elementwise(
    "expm1", accepts=FLOAT, meaning=np.expm1, jvp=lambda x, y, dx: (y + 1.0) * dx, saves="y",
    accuracy=ulp(3, 2), cost=16, edges={-inf: -1.0, -0.0: -0.0, inf: inf},
    doc="e^x - 1, exact near 0.",
)  # fmt: skip

log = elementwise(
    "log", accepts=FLOAT, core=True, meaning=np.log, jvp=lambda x, y, dx: dx / x, saves="x",
    accuracy=ulp(4, 2), cost=12, domain=Domain(0.1, 10.0), edges={0.0: -inf, -1.0: nan, inf: inf},
    doc="The natural logarithm.",
)  # fmt: skip

log1p = elementwise(
    "log1p", accepts=FLOAT, meaning=np.log1p, jvp=lambda x, y, dx: dx / (x + 1.0), saves="x",
    accuracy=ulp(3, 2), cost=16, domain=Domain(-0.5, 3.0), edges={-1.0: -inf, -0.0: -0.0},
    doc="log(1 + x), exact near 0.",
)  # fmt: skip

log2 = elementwise(
    "log2", accepts=FLOAT, meaning=np.log2, jvp=lambda x, y, dx: dx / (x * LOG_2), saves="x",
    accuracy=ulp(4, 2), cost=14, domain=Domain(0.1, 10.0), edges={0.0: -inf, -1.0: nan, 1.0: 0.0},
    doc="The logarithm to base 2.",
)  # fmt: skip

log10 = elementwise(
    "log10", accepts=FLOAT, meaning=np.log10, jvp=lambda x, y, dx: dx / (x * LOG_10), saves="x",
    accuracy=ulp(4, 2), cost=14, domain=Domain(0.1, 10.0), edges={0.0: -inf, -1.0: nan, 1.0: 0.0},
    doc="The logarithm to base 10.",
)  # fmt: skip

sqrt = elementwise(
    "sqrt", accepts=FLOAT, core=True, meaning=np.sqrt, jvp=lambda x, y, dx: dx / (y + y),
    saves="y", cost=4, domain=Domain(0.1, 4.0), edges={-1.0: nan, -0.0: -0.0, inf: inf},
    doc="The square root.",
)  # fmt: skip

rsqrt = elementwise(
    "rsqrt", accepts=FLOAT, meaning=_rsqrt, jvp=lambda x, y, dx: (-0.5 * y) * (dx / x),
    saves="x y", accuracy=ulp(2, 2), cost=6, domain=Domain(0.1, 4.0), edges={0.0: inf, inf: 0.0},
    doc="1 / sqrt(x).",
)  # fmt: skip

sin = elementwise(
    "sin", accepts=FLOAT, core=True, meaning=np.sin, jvp=lambda x, y, dx: cos(x) * dx, saves="x",
    accuracy=ulp(2, 2), cost=16, edges={inf: nan, -0.0: -0.0}, doc="sin(x), x in radians.",
)  # fmt: skip

cos: Primitive = elementwise(
    "cos", accepts=FLOAT, core=True, meaning=np.cos, jvp=lambda x, y, dx: -sin(x) * dx, saves="x",
    accuracy=ulp(2, 2), cost=16, edges={inf: nan, 0.0: 1.0}, doc="cos(x), x in radians.",
)  # fmt: skip

tan: Primitive = elementwise(
    "tan", accepts=FLOAT, meaning=np.tan, jvp=lambda x, y, dx: (y * y + 1.0) * dx, saves="y",
    accuracy=ulp(4, 2), cost=20, domain=Domain(-1.3, 1.3), edges={inf: nan, -0.0: -0.0},
    doc="tan(x), x in radians.",
)  # fmt: skip

tanh = elementwise(
    "tanh", accepts=FLOAT, core=True, meaning=np.tanh, jvp=lambda x, y, dx: (1.0 - y * y) * dx,
    saves="y", accuracy=ulp(3, 2), cost=16, edges={inf: 1.0, -inf: -1.0, -0.0: -0.0},
    doc="The hyperbolic tangent.",
)  # fmt: skip

erf = elementwise(
    "erf", accepts=FLOAT, core=True, meaning=_erf,
    jvp=lambda x, y, dx: (TWO_OVER_SQRT_PI * exp(-(x * x))) * dx,
    saves="x", accuracy=ulp(3, 3), cost=16, edges={inf: 1.0, -inf: -1.0, -0.0: -0.0},
    doc="The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.",
)  # fmt: skip

not_ = elementwise("not", accepts=INT | BOOL, core=True, meaning=np.invert, doc="Every bit turned.")

is_finite = elementwise(
    "is_finite", accepts=REAL, core=True, rule=to_bool,
    meaning=lambda x: np.isfinite(x), edges={inf: False, nan: False},
    doc="Neither infinite nor NaN.",
)  # fmt: skip


def _cast_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    new = as_dtype(params["dtype"])
    if ins[0].dtype.kind == "complex" and new.kind != "complex":
        raise DtypeError(message("cast", f"{ins[0].dtype.name} to {new.name}", "a complex dtype"))
    return spec(ins[0].shape, new, params["weak"])


def _cast(x: Any, dtype: Any, weak: bool = False) -> Any:
    """Floats that an integer dtype cannot hold saturate; NaN becomes 0."""
    target = dtype.numpy
    if dtype.kind != "int" or x.dtype.kind in "iub":
        return x.astype(target)
    info = np.iinfo(target)
    wide = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    inside = np.where((wide >= info.min) & (wide < float(info.max)), wide, 0.0).astype(target)
    low = np.where(wide < info.min, np.asarray(info.min, target), inside)
    return np.where(wide >= float(info.max), np.asarray(info.max, target), low).astype(target)


def _cast_transpose(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return apply(cast, cts[:1], dtype=entry.ins[0].dtype, weak=False)


cast = Primitive(
    "cast", ELEMENTWISE, params=("dtype", "weak"), core=True, meaning=_cast, rule=_cast_rule,
    linear=(0,), transpose=_cast_transpose,
    samples=[
        Sample(((2, 3),), {"dtype": d, "weak": False})
        for d in (as_dtype("float16"), as_dtype("bfloat16"), as_dtype("int32"), as_dtype("bool"))
    ],
    doc="x in another dtype. Floats outside an integer's range saturate, NaN gives 0. To bfloat16 "
    "and float8 it goes by way of float32.",
)  # fmt: skip


def _bitcast_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    new = as_dtype(params["dtype"])
    if new.itemsize != ins[0].dtype.itemsize or bool_ in (new, ins[0].dtype):
        given = f"{ins[0].dtype.name} to {new.name}"
        raise DtypeError(message("bitcast", given, "dtypes of the same width, not bool"))
    return spec(ins[0].shape, new)


bitcast = Primitive(
    "bitcast", ELEMENTWISE, params=("dtype",), core=True, rule=_bitcast_rule, differentiable=False,
    meaning=lambda x, dtype: np.ascontiguousarray(x).view(dtype.numpy).reshape(x.shape),
    samples=[Sample((((5,), "float32"),), {"dtype": as_dtype("int32")})],
    doc="The same bits read as another dtype of the same width.",
)  # fmt: skip
