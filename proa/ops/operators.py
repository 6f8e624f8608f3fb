"""Arithmetic whose meaning depends on the kind of its operands, and the Python operators.

Functions of values and tensors alike. The array namespace re-exports these; composites and
derivative rules call them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from proa import dtypes
from proa.dtypes import bool_
from proa.dtypes import dtype as as_dtype
from proa.errors import DtypeError, message
from proa.graph.node import Value
from proa.ops import arithmetic as ar
from proa.ops import functions as fn
from proa.ops import movement as mv
from proa.ops.primitive import NUMERIC, apply, as_number, number_of, promoted, value_of
from proa.ops.products import matmul


def astype(x: Any, dtype: Any) -> Any:
    """x in another dtype; x itself if it has it.

    >>> import proa as pa
    >>> pa.astype(pa.asarray([1.7, -1.7]), pa.int32).tolist()
    [1, -1]
    """
    target = as_dtype(dtype)
    given = value_of("astype", x).spec
    if given.dtype is target and not given.weak:
        return x
    if given.dtype.kind == "complex" and target.kind != "complex":
        raise DtypeError(
            message("astype", f"{given.dtype.name} to {target.name}", "a complex dtype")
        )
    return apply(fn.cast, (x,), dtype=target, weak=False)


def divide(x: Any, y: Any) -> Any:
    """True division x / y; integers are divided as floats.

    >>> import proa as pa
    >>> (pa.asarray([1, 2]) / 2).tolist()
    [0.5, 1.0]
    """
    x, y = promoted(ar.div, (x, y))
    if not x.value.spec.dtype.is_inexact:
        if x.value.spec.weak and y.value.spec.weak:  # Python numbers: as Python divides them
            x, y = (apply(fn.cast, (v,), dtype=dtypes.float64, weak=True) for v in (x, y))
        else:
            x, y = (astype(v, dtypes.default_float()) for v in (x, y))
    return ar.div(x, y)


def floor_divide(x: Any, y: Any) -> Any:
    """x / y rounded down. Integers by zero give 0, floats infinity or NaN."""
    x, y = promoted(ar.div, (x, y))
    quotient = ar.div(x, y)
    if not x.value.spec.dtype.is_inexact:
        return quotient
    exact = fn.floor(ar.div(x - ar.rem(x, y), y) + 0.5)
    is_some = not_equal(x, 0.0)  # the quotient of a zero knows its sign
    below = is_some & ar.eq(quotient, 0.0) & ar.xor(ar.lt(x, 0.0), ar.lt(y, 0.0))  # y is infinite
    rounded = ar.select(below, -1.0, fn.floor(quotient))
    return ar.select(fn.is_finite(exact) & is_some, exact, rounded)


def power(x: Any, y: Any) -> Any:
    """x to the power y. A Python integer 1, 2 or 3 is repeated multiplication.

    >>> import proa as pa
    >>> (pa.asarray([2.0, 3.0]) ** 2).tolist()
    [4.0, 9.0]
    """
    number = number_of(y)
    if type(number) is int and not isinstance(x, (int, float)):
        if number == 2:
            return x * x
        if number == 3:
            return x * x * x
        if number == 1:
            return +x
    return ar.pow(x, y)


def positive(x: Any) -> Any:
    """+x: a value of its own that equals x."""
    given = value_of("positive", x).spec
    if given.dtype not in NUMERIC:
        raise DtypeError(message("positive", given.dtype.name, "a numeric dtype"))
    return apply(mv.reshape, (x,), shape=given.shape)


def not_equal(x: Any, y: Any) -> Any:
    """x differs from y; true where either is NaN."""
    return fn.not_(ar.eq(x, y))


def greater(x: Any, y: Any) -> Any:
    """x > y."""
    return ar.lt(y, x)


def greater_equal(x: Any, y: Any) -> Any:
    """x >= y."""
    return ar.le(y, x)


def square(x: Any) -> Any:
    """x x."""
    return x * x


def reciprocal(x: Any) -> Any:
    """1 / x."""
    return divide(1.0, x)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y.

    >>> import proa as pa
    >>> pa.where(pa.asarray([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    if number_of(condition) is not None:
        condition = np.asarray(bool(condition))
    if value_of("where", condition).spec.dtype is not bool_:
        given = f"a condition of {value_of('where', condition).spec.dtype.name}"
        raise DtypeError(message("where", given, "bool", "condition != 0"))
    return ar.select(condition, x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x limited to min <= x <= max; NaN where a bound is. The gradient passes at the bounds.

    >>> import proa as pa
    >>> pa.clip(pa.asarray([-2.0, 0.5, 2.0]), -1.0, 1.0).tolist()
    [-1.0, 0.5, 1.0]
    """
    given = value_of("clip", x).spec
    for bound in (min, max):
        if bound is not None and number_of(bound) is None:
            value_of("clip", bound)
    if min is not None:
        x = ar.select(_beyond(ar.lt(x, min), min), _bound(min, given), x)
    if max is not None:
        x = ar.select(_beyond(ar.lt(max, x), max), _bound(max, given), x)
    return x


def _beyond(found: Any, bound: Any) -> Any:
    """Where the bound takes the place of x: also where it is NaN, which a number seldom is."""
    number = number_of(bound)
    if number is not None and number == number:
        return found
    dtype = value_of("clip", bound).spec.dtype
    return ar.or_(found, fn.not_(ar.eq(bound, bound))) if dtype.is_float else found


def _bound(bound: Any, given: Any) -> Any:
    number = number_of(bound)
    return bound if number is None else as_number("clip", number, given.dtype)


# Python operators for values; the tensor has the same, generated for speed.

BINARY = {
    "add": ar.add, "sub": ar.sub, "mul": ar.mul, "truediv": divide, "floordiv": floor_divide,
    "mod": ar.rem, "pow": power, "matmul": matmul, "and": ar.and_, "or": ar.or_, "xor": ar.xor,
    "lshift": ar.shift_left, "rshift": ar.shift_right,
}  # fmt: skip
COMPARE = {
    "eq": ar.eq, "ne": not_equal, "lt": ar.lt, "le": ar.le, "gt": greater, "ge": greater_equal,
}  # fmt: skip
UNARY = {"neg": fn.neg, "pos": positive, "abs": fn.abs, "invert": fn.not_}
OPERANDS = (Value, bool, int, float, complex, np.ndarray, np.generic)


def _is_operand(x: Any) -> bool:
    return isinstance(x, OPERANDS) or type(getattr(x, "value", None)) is Value


def attach_operators(cls: type) -> None:
    """Gives a class the Python operators, by way of the functions above."""
    for name, function in BINARY.items():
        setattr(cls, f"__{name}__", _forward(function))
        setattr(cls, f"__r{name}__", _backward(function))
    for name, function in COMPARE.items():
        setattr(cls, f"__{name}__", _forward(function))
    for name, unary in UNARY.items():
        setattr(cls, f"__{name}__", _alone(unary))


def _forward(function: Any) -> Any:
    return lambda x, y: function(x, y) if _is_operand(y) else NotImplemented


def _backward(function: Any) -> Any:
    return lambda x, y: function(y, x) if _is_operand(y) else NotImplemented


def _alone(function: Any) -> Any:
    return lambda x: function(x)


def _attach_to_values() -> None:
    attach_operators(Value)
    Value.astype = astype  # type: ignore[attr-defined]
    Value.shape = property(lambda v: v.spec.shape)  # type: ignore[attr-defined]
    Value.dtype = property(lambda v: v.spec.dtype)  # type: ignore[attr-defined]
    Value.ndim = property(lambda v: v.spec.ndim)  # type: ignore[attr-defined]


_attach_to_values()
