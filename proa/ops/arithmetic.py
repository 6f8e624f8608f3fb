"""Arithmetic of two operands, bits, comparison, and choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.errors import ArgumentError, message
from proa.graph.spec import Spec, spec
from proa.ops.families.elementwise import ELEMENTWISE, elementwise, factors, to_bool, unbroadcast
from proa.ops.primitive import (
    ANY,
    BOOL,
    INT,
    NUMERIC,
    REAL,
    Accuracy,
    Domain,
    Primitive,
    Sample,
    apply,
    one_dtype,
    promoted,
)  # fmt: skip

inf, nan = float("inf"), float("nan")


def fill_like(tangent: Any, result: Any) -> Any:
    """A tangent repeated to the shape of the result."""
    shape = result.value.spec.shape
    given = tangent.value.spec.shape
    if given == shape:
        return tangent
    axes = tuple(range(len(shape) - len(given), len(shape)))
    return apply(_broadcast(), (tangent,), shape=shape, axes=axes)


def _broadcast() -> Primitive:
    from proa.ops.primitive import REGISTRY

    return REGISTRY["broadcast"]


def _int_floor_div(a: Any, b: Any) -> Any:
    """Integer division rounds down; by zero it is zero."""
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    safe = np.where(b == 0, np.ones_like(b), b)
    return np.where(b == 0, np.zeros_like(a), np.floor_divide(a, safe))


def _rem(a: Any, b: Any) -> Any:
    """The remainder has the divisor's sign; an integer's by zero is zero."""
    if a.dtype.kind not in "iu":
        return np.remainder(a, b)
    safe = np.where(b == 0, np.ones_like(b), b)
    return np.where(b == 0, np.zeros_like(a), np.remainder(a, safe))


def _int_pow(a: Any, b: Any) -> Any:
    """Integers to negative powers are 0 except for bases 1 and -1."""
    if a.dtype.kind not in "iu":
        return np.power(a, b)
    positive = np.power(a, np.maximum(b, np.zeros_like(b)))
    odd = (b & np.ones_like(b)).astype(bool)
    minus = np.where(odd, a, np.ones_like(a))
    kept = np.where(a == 1, a, np.where(np.abs(a) == 1, minus, np.zeros_like(a)))
    return np.where(b < 0, kept, positive)


def _transpose_add(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return unbroadcast(cts[0], entry.ins[index].shape)


def _transpose_sub(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    ct = unbroadcast(cts[0], entry.ins[index].shape)
    return -ct if index else ct


def _transpose_mul(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return unbroadcast(cts[0] * operands[1 - index], entry.ins[index].shape)


def _transpose_div(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return unbroadcast(cts[0] / operands[1], entry.ins[0].shape)


def _max_rule(mine: Any, other: Any, result: Any, tangent: Any) -> Any:
    """All of the tangent where this operand won, half of it at a tie."""
    half = select(eq(mine, other), 0.5 * tangent, tangent)
    return select(eq(mine, result), half, 0.0 * fill_like(tangent, result))


def _pow_base(x: Any, n: Any, y: Any, dx: Any) -> Any:
    """n x^(n - 1) dx; zero where n is zero, also at x = 0."""
    slope = n * pow(x, select(eq(n, 0.0), 1.0, n - 1.0))
    return dx * slope


def _pow_exponent(x: Any, n: Any, y: Any, dn: Any) -> Any:
    """log(x) x^n dn; zero where x is zero and n is not negative."""
    from proa.ops.functions import log

    flat = eq(x, 0.0) & le(0.0, n)
    return dn * select(flat, 0.0, y * log(select(flat, 1.0, x)))


add = elementwise(
    "add", accepts=REAL, core=True, meaning=np.add, linear=(0, 1), transpose=_transpose_add,
    jvp=(lambda x, y, z, dx: fill_like(dx, z), lambda x, y, z, dy: fill_like(dy, z)),
    edges={(inf, -inf): nan},
    doc="x + y. For bool operands: either.",
)  # fmt: skip

sub = elementwise(
    "sub", accepts=NUMERIC, core=True, meaning=np.subtract, linear=(0, 1), transpose=_transpose_sub,
    jvp=(lambda x, y, z, dx: fill_like(dx, z), lambda x, y, z, dy: fill_like(-dy, z)),
    edges={(inf, inf): nan},
    doc="x - y.",
)  # fmt: skip

mul = elementwise(
    "mul", accepts=REAL, core=True, meaning=np.multiply, linear=(0, 1), transpose=_transpose_mul,
    jvp=(lambda x, y, z, dx: dx * y, lambda x, y, z, dy: x * dy),
    saves="x y", edges={(0.0, inf): nan},
    doc="x y. For bool operands: both.",
)  # fmt: skip

div = elementwise(
    "div", accepts=NUMERIC, core=True, meaning=_int_floor_div, linear=(0,),
    transpose=_transpose_div,
    jvp=(lambda x, y, z, dx: dx / y, lambda x, y, z, dy: -(z / y) * dy),
    saves="y z", cost=4, edges={(1.0, 0.0): inf, (0.0, 0.0): nan, (-1.0, 0.0): -inf},
    doc="x / y. Of integers: rounded down, and 0 where y is 0; `pa.divide` is true division.",
)  # fmt: skip

rem = elementwise(
    "rem", accepts=NUMERIC, meaning=_rem, cost=8, saves="x y",
    jvp=(
        lambda x, y, z, dx: fill_like(dx, z),
        lambda x, y, z, dy: -dy * _floor(x / y),
    ),
    edges={(1.0, 0.0): nan, (inf, 1.0): nan},
    doc="x - y floor(x / y): the remainder with the sign of y. Of integers: 0 where y is 0.",
)  # fmt: skip


def _floor(x: Any) -> Any:
    from proa.ops.functions import floor

    return floor(x)


pow = elementwise(
    "pow", accepts=NUMERIC, core=True, meaning=_int_pow, cost=30,
    jvp=(_pow_base, _pow_exponent), saves="x n y", domain=Domain(0.2, 3.0),
    accuracy=Accuracy(2, 2), edges={(0.0, 0.0): 1.0, (nan, 0.0): 1.0, (0.0, -1.0): inf},
    doc="x to the power y. Integers to a negative power: 0, unless the base is 1 or -1.",
)  # fmt: skip

maximum = elementwise(
    "maximum", accepts=REAL, core=True, meaning=np.maximum, saves="x y z",
    jvp=(lambda x, y, z, dx: _max_rule(x, y, z, dx), lambda x, y, z, dy: _max_rule(y, x, z, dy)),
    edges={(nan, 1.0): nan},
    doc="The larger of x and y; NaN if either is. The gradient is halved at a tie.",
)  # fmt: skip

minimum = elementwise(
    "minimum", accepts=REAL, core=True, meaning=np.minimum, saves="x y z",
    jvp=(lambda x, y, z, dx: _max_rule(x, y, z, dx), lambda x, y, z, dy: _max_rule(y, x, z, dy)),
    edges={(nan, 1.0): nan},
    doc="The smaller of x and y; NaN if either is. The gradient is halved at a tie.",
)  # fmt: skip

and_ = elementwise(
    "and", accepts=INT | BOOL, core=True, meaning=np.bitwise_and, doc="Bits of both."
)
or_ = elementwise("or", accepts=INT | BOOL, core=True, meaning=np.bitwise_or, doc="Bits of either.")
xor = elementwise("xor", accepts=INT | BOOL, core=True, meaning=np.bitwise_xor, doc="Bits of one.")


def _shift(move: Any, past: Any) -> Any:
    def meaning(x: Any, n: Any) -> Any:
        bits = x.dtype.itemsize * 8
        inside = (n >= 0) & (n < bits)
        moved = move(x, np.where(inside, n, np.zeros_like(n)))
        return np.where(inside, moved, past(x, bits)).astype(x.dtype)

    return meaning


shift_left = elementwise(
    "shift_left", accepts=INT, core=True,
    meaning=_shift(np.left_shift, lambda x, bits: np.zeros_like(x)),
    domain=Domain(0, 6),
    doc="Bits of x moved up by n; 0 where n is negative or at least the width.",
)  # fmt: skip

shift_right = elementwise(
    "shift_right", accepts=INT, core=True,
    meaning=_shift(np.right_shift, lambda x, bits: np.where(x < 0, ~np.zeros_like(x), 0)),
    domain=Domain(0, 6),
    doc="Bits of x moved down by n, the sign kept; all sign where n is outside the width.",
)  # fmt: skip

eq = elementwise("eq", accepts=REAL, core=True, meaning=np.equal, rule=to_bool,
                 edges={(nan, nan): False, (0.0, -0.0): True}, doc="x = y.")  # fmt: skip
lt = elementwise("lt", accepts=REAL, core=True, meaning=np.less, rule=to_bool,
                 edges={(nan, 1.0): False}, doc="x < y.")  # fmt: skip
le = elementwise("le", accepts=REAL, core=True, meaning=np.less_equal, rule=to_bool,
                 edges={(nan, 1.0): False}, doc="x <= y.")  # fmt: skip


def _select_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    if len(ins) != 3:  # NumPy's `where` takes one as well
        raise ArgumentError(message("select", f"{len(ins)} operands", "3"))
    one_dtype("select", ins[1:])
    (shape,) = factors("select", ins).result_shapes()
    return spec(shape, ins[1].dtype, ins[1].weak and ins[2].weak)


def _select_transpose(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    chosen, ct = operands[0], cts[0]
    zero = 0.0 * ct if not ct.value.spec.dtype.is_inexact else _zero(ct)
    kept = select(chosen, ct, zero) if index == 1 else select(chosen, zero, ct)
    return unbroadcast(kept, entry.ins[index].shape)


def _zero(like: Any) -> Any:
    from proa.graph.build import current_sink

    return current_sink().number(0.0, spec((), like.value.spec.dtype))


select_: Primitive = Primitive(
    "select", ELEMENTWISE, accepts=(BOOL, ANY, ANY), core=True, rule=_select_rule,
    meaning=np.where, linear=(1, 2), transpose=_select_transpose, differentiable=(1, 2),
    jvp=(
        None,
        lambda c, x, y, z, dx: fill_like(select_(c, dx, _zero(dx)), z),
        lambda c, x, y, z, dy: fill_like(select_(c, _zero(dy), dy), z),
    ),
    saves="c",
    samples=[Sample((((2, 3), "bool"), (2, 3), (2, 3))), Sample((((3,), "bool"), (2, 1), ()))],
    doc="x where the condition holds, else y.",
)  # fmt: skip


def select(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; x and y are promoted to one dtype.

    >>> import proa as pa
    >>> pa.where(pa.asarray([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    x, y = promoted(select_, (x, y))
    return select_(condition, x, y)
