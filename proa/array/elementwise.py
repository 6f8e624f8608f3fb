"""Functions element by element: of one or two tensors, which are broadcast."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from proa import dtypes
from proa.array.public import example_of, need_tensor, public, tensor_of
from proa.compile.find import device as as_device
from proa.convert import asarray, fitting
from proa.defaults import natural_dtype
from proa.dtypes import bool_
from proa.dtypes import dtype as as_dtype
from proa.dunders import fast_unary
from proa.ops import arithmetic as ar
from proa.ops import composite as cp
from proa.ops import functions as fn
from proa.ops import inverse as iv
from proa.ops import movement as mv
from proa.ops import operators as op
from proa.ops import parts
from proa.ops.primitive import Primitive, apply, as_number, number_of, promoted, value_of
from proa.tensor import Tensor, moved


def _function(
    name: str, arity: int, does: Callable[..., Any], formula: str, given: str, gives: str
) -> Any:
    """A function of this namespace: checks, then `does`; its documentation is written here."""

    def one(x: Any, /) -> Tensor:
        need_tensor(name, x)
        return does(x)  # type: ignore[no-any-return]

    def two(x1: Any, x2: Any, /) -> Tensor:
        need_tensor(name, x1, x2)
        return does(tensor_of(x1), tensor_of(x2))  # type: ignore[no-any-return]

    function = public(one if arity == 1 else two)
    if type(does) is Primitive and arity == 1:
        function = fast_unary(name, does, function)
    function.__name__ = function.__qualname__ = name
    operands = "x: a tensor." if arity == 1 else "x1, x2: tensors or arrays; one may be a number."
    arguments = ", ".join(f"pa.asarray({part})" for part in given.split("; "))
    function.__doc__ = (
        f"{formula}\n\n    {operands}{example_of(f'pa.{name}({arguments}).tolist()', gives)}"
    )
    return function


def _ceil_of(x: Any) -> Any:
    return -fn.floor(-x) if value_of("ceil", x).spec.dtype.is_inexact else op.positive(x)


def _trunc(x: Any) -> Any:
    if not value_of("trunc", x).spec.dtype.is_inexact:
        return op.positive(x)
    return ar.select(ar.lt(x, 0.0), -fn.floor(-x), fn.floor(x))


def _round(x: Any) -> Any:
    """|x| is rounded and the sign put back: |x| - floor(|x|) is exact."""
    if not value_of("round", x).spec.dtype.is_inexact:
        return op.positive(x)
    size = fn.abs(x)
    low = fn.floor(size)
    rest = size - low
    odd = ar.eq(low - fn.floor(low * 0.5) * 2.0, 1.0)
    up = ar.lt(0.5, rest) | (ar.eq(rest, 0.5) & odd)
    return _copysign(ar.select(up, low + 1.0, low), x)


def _signbit(x: Any) -> Any:
    of = value_of("signbit", x).spec.dtype
    if not of.is_inexact:
        return ar.lt(x, 0)
    return ar.lt(apply(fn.bitcast, (x,), dtype=as_dtype(f"int{of.bits}")), 0)


def _copysign(x: Any, y: Any) -> Any:
    x, y = _floats(x, y)
    return ar.select(ar.eq(_signbit(x), _signbit(y)), x, -x)


def _isnan(x: Any) -> Any:
    return fn.not_(ar.eq(x, x))


def _isinf(x: Any) -> Any:
    return fn.not_(fn.is_finite(x)) & ar.eq(x, x)


def _float(x: Any) -> Any:
    return x if value_of("float", x).spec.dtype.is_inexact else op.astype(x, dtypes.default_float())


def _logaddexp(x: Any, y: Any) -> Any:
    apart = x - y
    apart = ar.select(fn.is_finite(apart), -fn.abs(apart), -inf)
    tie = ar.eq(x, y) & fn.is_finite(x)
    return ar.maximum(x, y) + fn.log1p(fn.exp(ar.select(tie, 0.0, apart)))


def _hypot(x: Any, y: Any) -> Any:
    """The larger times sqrt(1 + r^2), r the ratio: no overflow before the result's own."""
    x, y = _floats(x, y)
    a, b = fn.abs(x), fn.abs(y)
    big, small = ar.maximum(a, b), ar.minimum(a, b)
    ratio = small / ar.select(ar.eq(big, 0.0), 1.0, big)
    length = big * fn.sqrt(ratio * ratio + 1.0)
    return ar.select(_isinf(x) | _isinf(y), inf, length)


def _floats(x: Any, y: Any) -> Any:
    """Both in the one float dtype in which they meet."""
    return [_float(v) for v in promoted(ar.pow, (x, y))]


def _of_complex(primitive: Primitive, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    def of(x: Any) -> Any:
        dtype = value_of(primitive.name, x).spec.dtype
        return apply(primitive, (x,)) if dtype.kind == "complex" else otherwise(x)

    return of


_conj = _of_complex(parts.conj, op.positive)
_real = _of_complex(parts.real, op.positive)
_imag = _of_complex(parts.imag, lambda x: mv.zeros(x.shape, x.value.spec))


def truth(x: Any) -> Any:
    """Whether each element differs from 0."""
    return op.astype(x, bool_)


def _logical(function: Any) -> Any:
    return lambda x, y: function(*[truth(v) if number_of(v) is None else bool(v) for v in (x, y)])


# fmt: off
abs = _function("abs", 1, fn.abs, "|x|. The derivative at 0 is 0.", "[-1.5, 2.0]", "[1.5, 2.0]")
add = _function("add", 2, ar.add, "x1 + x2.", "[1, 2]; [3, 4]", "[4, 6]")
acos = _function("acos", 1, iv.acos, "The inverse of cos, 0 to pi.", "[1.0]", "[0.0]")
acosh = _function("acosh", 1, iv.acosh, "The inverse of cosh, from 0 on.", "[1.0]", "[0.0]")
asin = _function("asin", 1, iv.asin, "The inverse of sin, -pi/2 to pi/2.", "[0.0]", "[0.0]")
asinh = _function("asinh", 1, iv.asinh, "The inverse of sinh.", "[0.0]", "[0.0]")
atan = _function("atan", 1, iv.atan, "The inverse of tan, -pi/2 to pi/2.", "[0.0]", "[0.0]")
atan2 = _function("atan2", 2, iv.atan2,
    "The angle of the point (x2, x1), -pi to pi: atan(x1 / x2) in the right quadrant.",
    "[0.0]; [1.0]", "[0.0]")
atanh = _function("atanh", 1, iv.atanh, "The inverse of tanh.", "[0.0, 1.0]", "[0.0, inf]")
bitwise_and = _function("bitwise_and", 2, ar.and_, "Bits that are set in both; integers or bool.",
    "[6]; [3]", "[2]")
bitwise_invert = _function("bitwise_invert", 1, fn.not_, "Every bit turned; integers or bool.",
    "[0, 5]", "[-1, -6]")
bitwise_left_shift = _function("bitwise_left_shift", 2, ar.shift_left,
    "Bits of x1 moved up by x2; 0 where x2 is negative or at least the width.",
    "[1, 3]; [4, 1]", "[16, 6]")
bitwise_or = _function("bitwise_or", 2, ar.or_, "Bits that are set in either; integers or bool.",
    "[6]; [3]", "[7]")
bitwise_right_shift = _function("bitwise_right_shift", 2, ar.shift_right,
    "Bits of x1 moved down by x2, the sign kept.",
    "[16, -4]; [4, 1]", "[1, -2]")
bitwise_xor = _function("bitwise_xor", 2, ar.xor,
    "Bits that are set in one only; integers or bool.",
    "[6]; [3]", "[5]")
ceil = _function("ceil", 1, _ceil_of, "The smallest integer not below x.",
    "[1.2, -1.2]", "[2.0, -1.0]")
conj = _function("conj", 1, _conj, "a - b i of a + b i; of real numbers x.", "[1.5]", "[1.5]")
copysign = _function("copysign", 2, _copysign, "|x1| with the sign of x2, that of -0.0 included.",
    "[1.0, 2.0]; [-0.0, 3.0]", "[-1.0, 2.0]")
cos = _function("cos", 1, fn.cos, "cos(x), x in radians.", "[0.0]", "[1.0]")
cosh = _function("cosh", 1, iv.cosh, "(e^x + e^-x) / 2.", "[0.0]", "[1.0]")
divide = _function("divide", 2, op.divide, "True division x1 / x2; integers are divided as floats.",
    "[1, 3]; [2, 2]", "[0.5, 1.5]")
equal = _function("equal", 2, ar.eq, "x1 = x2; false where either is NaN.",
    "[1, 2]; [1, 3]", "[True, False]")
erf = _function("erf", 1, fn.erf, "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.",
    "[0.0]", "[0.0]")
exp = _function("exp", 1, fn.exp, "e^x.", "[0.0]", "[1.0]")
expm1 = _function("expm1", 1, fn.expm1, "e^x - 1, exact near 0.", "[0.0]", "[0.0]")
floor = _function("floor", 1, fn.floor, "The largest integer not above x.",
    "[1.7, -1.2]", "[1.0, -2.0]")
floor_divide = _function("floor_divide", 2, op.floor_divide,
    "x1 / x2 rounded down; integers by zero give 0.",
    "[7, -7]; [2, 2]", "[3, -4]")
greater = _function("greater", 2, op.greater, "x1 > x2.", "[1, 3]; [2, 2]", "[False, True]")
greater_equal = _function("greater_equal", 2, op.greater_equal, "x1 >= x2.",
    "[1, 2]; [2, 2]", "[False, True]")
hypot = _function("hypot", 2, _hypot, "sqrt(x1^2 + x2^2), without overflow on the way.",
    "[3.0]; [4.0]", "[5.0]")
imag = _function("imag", 1, _imag, "b of a + b i; of real numbers 0.", "[1.5]", "[0.0]")
isfinite = _function("isfinite", 1, fn.is_finite, "Neither infinite nor NaN.",
    "[1.0, float('inf')]", "[True, False]")
isinf = _function("isinf", 1, _isinf, "Infinite, of either sign.",
    "[1.0, float('inf')]", "[False, True]")
isnan = _function("isnan", 1, _isnan, "Not a number.", "[1.0, float('nan')]", "[False, True]")
less = _function("less", 2, ar.lt, "x1 < x2.", "[1, 3]; [2, 2]", "[True, False]")
less_equal = _function("less_equal", 2, ar.le, "x1 <= x2.", "[2, 3]; [2, 2]", "[True, False]")
log = _function("log", 1, fn.log, "The natural logarithm.", "[1.0]", "[0.0]")
log10 = _function("log10", 1, fn.log10,
    "The logarithm to base 10, log(x) / log(10).",
    "[1.0]", "[0.0]")
log1p = _function("log1p", 1, fn.log1p, "log(1 + x), exact near 0.", "[0.0]", "[0.0]")
log2 = _function("log2", 1, fn.log2,
    "The logarithm to base 2, log(x) / log(2).",
    "[1.0]", "[0.0]")
logaddexp = _function("logaddexp", 2, _logaddexp, "log(e^x1 + e^x2), without overflow.",
    "[1000.0]; [0.0]", "[1000.0]")
logical_and = _function("logical_and", 2, _logical(ar.and_), "Both differ from 0.",
    "[True, True]; [True, False]", "[True, False]")
logical_not = _function("logical_not", 1, lambda x: fn.not_(truth(x)), "x is 0.",
    "[True, False]", "[False, True]")
logical_or = _function("logical_or", 2, _logical(ar.or_), "Either differs from 0.",
    "[True, False]; [False, False]", "[True, False]")
logical_xor = _function("logical_xor", 2, _logical(ar.xor), "One of both differs from 0.",
    "[True, True]; [True, False]", "[False, True]")
maximum = _function("maximum", 2, ar.maximum,
    "The larger of both; NaN if either is. The gradient is halved at a tie.",
    "[1, 4]; [3, 2]", "[3, 4]")
minimum = _function("minimum", 2, ar.minimum,
    "The smaller of both; NaN if either is. The gradient is halved at a tie.",
    "[1, 4]; [3, 2]", "[1, 2]")
multiply = _function("multiply", 2, ar.mul, "x1 x2.", "[1, 2]; [3, 4]", "[3, 8]")
negative = _function("negative", 1, fn.neg, "-x.", "[1, -2]", "[-1, 2]")
nextafter = _function("nextafter", 2, cp.nextafter,
    "The float that follows x1 in the direction of x2; x2 where they are equal.",
    "[0.0]; [0.0]", "[0.0]")
not_equal = _function("not_equal", 2, op.not_equal, "x1 differs from x2; true where either is NaN.",
    "[1, 2]; [1, 3]", "[False, True]")
positive = _function("positive", 1, op.positive, "+x: a tensor of its own that equals x.",
    "[1, -2]", "[1, -2]")
pow = _function("pow", 2, op.power,
    "x1 to the power x2. Integers to a negative power: 0, unless the base is 1 or -1.",
    "[2.0, 3.0]; [3.0, 2.0]", "[8.0, 9.0]")
real = _function("real", 1, _real, "a of a + b i; of real numbers x.", "[1.5, -2.0]", "[1.5, -2.0]")
reciprocal = _function("reciprocal", 1, op.reciprocal, "1 / x.", "[4.0]", "[0.25]")
relu = _function("relu", 1, cp.relu, "max(x, 0); the derivative at 0 is 0.",
    "[-1.0, 2.0]", "[0.0, 2.0]")
remainder = _function("remainder", 2, ar.rem,
    "x1 - x2 floor(x1 / x2): the remainder with the sign of x2. Of integers: 0 where x2 is 0.",
    "[7, -7]; [3, 3]", "[1, 2]")
round = _function("round", 1, _round, "The nearest integer; of two, the even one.",
    "[0.5, 1.5, -2.5]", "[0.0, 2.0, -2.0]")
rsqrt = _function("rsqrt", 1, fn.rsqrt, "1 / sqrt(x).", "[4.0]", "[0.5]")
sigmoid = _function("sigmoid", 1, cp.sigmoid, "1 / (1 + e^-x).", "[0.0]", "[0.5]")
sign = _function("sign", 1, fn.sign, "-1, 0 or 1; NaN of NaN.", "[-3, 0, 2]", "[-1, 0, 1]")
signbit = _function("signbit", 1, _signbit, "Whether the sign is set, also that of -0.0 and NaN.",
    "[-0.0, 0.0]", "[True, False]")
sin = _function("sin", 1, fn.sin, "sin(x), x in radians.", "[0.0]", "[0.0]")
sinh = _function("sinh", 1, iv.sinh, "(e^x - e^-x) / 2.", "[0.0]", "[0.0]")
sqrt = _function("sqrt", 1, fn.sqrt, "The square root; NaN of negative numbers.", "[9.0]", "[3.0]")
square = _function("square", 1, op.square, "x x.", "[3, -2]", "[9, 4]")
subtract = _function("subtract", 2, ar.sub, "x1 - x2.", "[5, 2]; [3, 4]", "[2, -2]")
tan = _function("tan", 1, fn.tan, "sin(x) / cos(x), x in radians.", "[0.0]", "[0.0]")
tanh = _function("tanh", 1, fn.tanh, "The hyperbolic tangent.", "[0.0]", "[0.0]")
trunc = _function("trunc", 1, _trunc, "x without its fraction.", "[1.7, -1.7]", "[1.0, -1.0]")
# fmt: on


@public
def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition holds, else x2. Two numbers make a tensor of the default dtype.

    >>> import proa as pa
    >>> pa.where(pa.asarray([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    need_tensor("where", condition, x1, x2)
    numbers = [number_of(x) for x in (x1, x2)]
    if all(n is not None for n in numbers):
        target = natural_dtype(np.asarray(numbers))
        x1, x2 = (as_number("where", n, target) for n in numbers)
    return op.where(condition, x1, x2)  # type: ignore[no-any-return]


@public
def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x limited to min <= x <= max, numbers or tensors; NaN where a bound is. The gradient passes
    at the bounds.

    >>> import proa as pa
    >>> pa.clip(pa.asarray([-2.0, 0.5, 2.0]), -1.0, 1.0).tolist()
    [-1.0, 0.5, 1.0]
    """
    need_tensor("clip", x)
    return op.clip(x, min, max)  # type: ignore[no-any-return]


@public
def astype(x: Any, dtype: Any, *, copy: bool = True, device: Any = None) -> Tensor:
    """x in another dtype. Floats that an integer dtype cannot hold saturate, NaN becomes 0.

    >>> import proa as pa
    >>> pa.astype(pa.asarray([1.7, -1.7]), pa.int32).tolist()
    [1, -1]
    """
    need_tensor("astype", x)
    found = op.astype(x, dtype)
    return found if device is None else moved(asarray(found), as_device(device))


def same_dtype(x: Any, value: Any) -> Any:
    """A number or tensor in the dtype of x."""
    dtype = value_of("value", x).spec.dtype
    number = number_of(value)
    if number is not None:
        return as_number("value", fitting("value", number, dtype), dtype)
    return op.astype(value, dtype)
