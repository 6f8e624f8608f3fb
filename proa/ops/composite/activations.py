"""Activations, element by element.

Where a formula has two branches, both are the same analytic function, so that derivatives of any
order are right at the seam too.
"""

from __future__ import annotations

from typing import Any, Final

from proa.errors import DtypeError, message
from proa.ops.arithmetic import le, lt, select
from proa.ops.composite.common import (
    batch_first,
    choice,
    floating,
    interior,
    number,
    wide,
    wide_pullback,
)
from proa.ops.expand import composite
from proa.ops.functions import erf, exp, expm1, log1p, tanh
from proa.ops.primitive import NUMERIC, apply, checked_once, value_of

SQRT_HALF: Final = 0.7071067811865476
SQRT_TWO_OVER_PI: Final = 0.7978845608028654
CUBIC: Final = 0.044715


_relu = composite(
    "relu", lambda x: select(le(x, 0), 0, x), batch=batch_first, shape=lambda x: x.shape,
    pullback=lambda operands, results, cts: [select(le(results[0], 0), 0, cts[0])],
    doc="max(x, 0); NaN of NaN. The derivative at 0 is 0.",
)  # fmt: skip


@checked_once(_relu)
def relu(x: Any) -> Any:
    """max(x, 0); NaN of NaN. The derivative at 0 is 0. x: any shape, a float or integer dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import relu
    >>> relu(pa.asarray([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    value = value_of("relu", x)
    if value.spec.dtype not in NUMERIC:
        given = f"`x` of {value.spec.dtype.name}"
        raise DtypeError(message("relu", given, "a float or integer dtype", "x.astype(pa.float32)"))
    return apply(_relu, (value,))


def folded(x: Any) -> tuple[Any, Any]:
    """Where x is negative, and e^-|x|, which never overflows."""
    negative = lt(x, 0.0)
    return negative, exp(select(negative, x, -x))


def logistic(x: Any) -> Any:
    """1 / (1 + e^-x), accurate in both tails."""
    negative, small = folded(x)
    return select(negative, small, 1.0) / (small + 1.0)


def softplus_of(x: Any) -> Any:
    """log(1 + e^x), accurate in both tails."""
    negative, small = folded(x)
    return select(negative, 0.0, x) + log1p(small)


def _sigmoid_back(operands: Any, results: Any, cts: Any) -> list[Any]:
    (y,), (ct,) = results, cts
    return [ct * (y * (1.0 - y))]


_sigmoid = composite(
    "sigmoid", wide(logistic), pullback=wide_pullback(_sigmoid_back), batch=batch_first,
    shape=lambda x: x.shape,
    doc="1 / (1 + e^-x), accurate in both tails.",
)  # fmt: skip


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), accurate in both tails: e^x / (1 + e^x) where x < 0. x: any shape, float.

    >>> import proa as pa
    >>> from proa.ops.composite import sigmoid
    >>> sigmoid(pa.asarray([0.0])).tolist()
    [0.5]
    """
    return apply(_sigmoid, (floating("sigmoid", "x", x),))


def _swish(x: Any) -> Any:
    return x * logistic(x)


def _silu_back(operands: Any, results: Any, cts: Any) -> list[Any]:
    """s + y (1 - s), where s is the sigmoid and y = x s."""
    s = logistic(operands[0])
    return [cts[0] * (s + results[0] * (1.0 - s))]


_silu = composite(
    "silu", wide(_swish), pullback=wide_pullback(_silu_back, _swish), batch=batch_first,
    doc="x sigmoid(x).",
)  # fmt: skip


def silu(x: Any) -> Any:
    """x sigmoid(x), also called swish (Elfwing et al. 2017). x: any shape, float.

    >>> import proa as pa
    >>> from proa.ops.composite import silu
    >>> silu(pa.asarray([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """
    return apply(_silu, (floating("silu", "x", x),))


def _gelu_expand(x: Any, approximate: str) -> Any:
    if approximate == "none":
        return x * 0.5 * (erf(x * SQRT_HALF) + 1.0)
    inner = (x + x * x * x * CUBIC) * SQRT_TWO_OVER_PI
    return x * 0.5 * (tanh(inner) + 1.0)


def _gelu_slope_expand(x: Any, approximate: str) -> Any:
    """Phi(x) + x phi(x); in the other form Phi is (1 + tanh(u)) / 2, and phi what follows."""
    if approximate == "none":
        bell = exp(x * x * -0.5) * (0.5 * SQRT_TWO_OVER_PI)
        return (erf(x * SQRT_HALF) + 1.0) * 0.5 + x * bell
    y = tanh((x + x * x * x * CUBIC) * SQRT_TWO_OVER_PI)
    rise = (x * x * (3.0 * CUBIC) + 1.0) * (0.5 * SQRT_TWO_OVER_PI)
    return (y + 1.0) * 0.5 + x * ((1.0 - y * y) * rise)


_gelu_slope = composite(
    "gelu_slope", wide(_gelu_slope_expand), params=("approximate",), batch=batch_first, cost=36,
    whole=True,
    doc="The derivative of gelu: Phi(x) + x phi(x), or that of the approximation by tanh.",
)  # fmt: skip


def _gelu_back(operands: Any, results: Any, cts: Any, approximate: str) -> list[Any]:
    return [cts[0] * apply(_gelu_slope, (operands[0],), approximate=approximate)]


_gelu = composite(
    "gelu", wide(_gelu_expand), params=("approximate",), batch=batch_first, cost=36, whole=True,
    shape=lambda x, approximate: x.shape, pullback=wide_pullback(_gelu_back),
    doc="x times the normal distribution function of x, or its approximation by tanh.",
)  # fmt: skip


def gelu(x: Any, approximate: str = "none") -> Any:
    """x (1 + erf(x / sqrt 2)) / 2; with `approximate="tanh"`
    x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel 2016).

    x: any shape, float.

    >>> import proa as pa
    >>> from proa.ops.composite import gelu
    >>> gelu(pa.asarray([0.0, 10.0])).tolist()
    [0.0, 10.0]
    """
    choice("gelu", "approximate", approximate, ("none", "tanh"))
    return apply(_gelu, (floating("gelu", "x", x),), approximate=approximate)


_leaky_relu = composite(
    "leaky_relu", wide(lambda x, slope: select(lt(0.0, x), x, x * slope)), batch=batch_first,
    differentiable=(0,), doc="x where it is positive, else slope x.",
)  # fmt: skip


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """x where x > 0, else negative_slope x. x: any shape, float.

    >>> import proa as pa
    >>> from proa.ops.composite import leaky_relu
    >>> leaky_relu(pa.asarray([-2.0, 2.0]), 0.5).tolist()
    [-1.0, 2.0]
    """
    x = floating("leaky_relu", "x", x)
    slope = number("leaky_relu", "negative_slope", negative_slope, interior(x.spec.dtype))
    return apply(_leaky_relu, (x, slope))


def _elu_expand(x: Any, alpha: Any) -> Any:
    positive = lt(0.0, x)
    return select(positive, x, alpha * expm1(select(positive, 0.0, x)))


_elu = composite(
    "elu", wide(_elu_expand), batch=batch_first, differentiable=(0,),
    doc="x where it is positive, else alpha (e^x - 1).",
)  # fmt: skip


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """x where x > 0, else alpha (e^x - 1) (Clevert et al. 2015). x: any shape, float.

    >>> import proa as pa
    >>> from proa.ops.composite import elu
    >>> elu(pa.asarray([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    x = floating("elu", "x", x)
    return apply(_elu, (x, number("elu", "alpha", alpha, interior(x.spec.dtype))))


_softplus = composite(
    "softplus", wide(lambda x, beta: softplus_of(x * beta) / beta), batch=batch_first,
    differentiable=(0,), doc="log(1 + e^(beta x)) / beta, accurate in both tails.",
)  # fmt: skip


def softplus(x: Any, beta: Any = 1.0) -> Any:
    """log(1 + e^(beta x)) / beta, accurate in both tails. x: any shape, float.

    PyTorch's `threshold` is not needed: nothing overflows.

    >>> import proa as pa
    >>> from proa.ops.composite import softplus
    >>> softplus(pa.asarray([100.0])).tolist()
    [100.0]
    """
    x = floating("softplus", "x", x)
    return apply(_softplus, (x, number("softplus", "beta", beta, interior(x.spec.dtype))))


_log_sigmoid = composite(
    "log_sigmoid", wide(lambda x: -softplus_of(-x)), batch=batch_first,
    doc="log(1 / (1 + e^-x)), accurate in both tails.",
)  # fmt: skip


def log_sigmoid(x: Any) -> Any:
    """log(1 / (1 + e^-x)) = -softplus(-x), accurate in both tails. x: any shape, float.

    >>> import proa as pa
    >>> from proa.ops.composite import log_sigmoid
    >>> log_sigmoid(pa.asarray([-1000.0])).tolist()
    [-1000.0]
    """
    return apply(_log_sigmoid, (floating("log_sigmoid", "x", x),))
