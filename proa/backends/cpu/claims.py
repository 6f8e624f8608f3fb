"""What the compiler claims: a table from primitives to vector code, and the dtypes it holds for.

A rule gets the operands as vectors, and the entry. What is not here is a host call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proa import dtypes
from proa.backends.cpu import functions, functions_64, functions_gelu, functions_inverse
from proa.backends.cpu.functions_pow import power
from proa.backends.cpu.functions_whole import divided, integer_power, remainder, threefry
from proa.backends.cpu.target import target
from proa.backends.cpu.vector import Vector, absolute, floor, select, square_root
from proa.dtypes import Dtype
from proa.graph.entry import Entry

Rule = Callable[..., Vector]
FLOATS: Final = frozenset({dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.float16})
INTS: Final = frozenset(d for d in dtypes.ALL if d.kind == "int")
HELD: Final = FLOATS | INTS | {dtypes.bool_}
NARROW: Final = frozenset({dtypes.bfloat16, dtypes.float16})


def register_type(dtype: Dtype) -> str:
    """How a dtype is held in registers: narrow floats as float32, bool as bits."""
    if dtype is dtypes.bool_:
        return "i1"
    if dtype.is_float:
        return "double" if dtype is dtypes.float64 else "float"
    return f"i{dtype.bits}"


def memory_type(dtype: Dtype) -> str:
    return (
        register_type(dtype)
        if dtype in (dtypes.float32, dtypes.float64)
        else f"i{8 * dtype.itemsize}"
    )


# Rules.


def _add(x: Vector, y: Vector, entry: Entry) -> Vector:
    return x | y if x.type == "i1" else x + y


def _mul(x: Vector, y: Vector, entry: Entry) -> Vector:
    return x & y if x.type == "i1" else x * y


def _div(x: Vector, y: Vector, entry: Entry) -> Vector:
    return x / y if x.is_float else divided(x, y)[0]


def _rem(x: Vector, y: Vector, entry: Entry) -> Vector:
    return remainder(x, y) if x.is_float else divided(x, y)[1]


def _pow(x: Vector, y: Vector, entry: Entry) -> Vector:
    return power(x, y) if x.is_float else integer_power(x, y)


def _maximum(x: Vector, y: Vector, entry: Entry) -> Vector:
    """NaN if either is. Of two zeros y, in float16 x, as NumPy has it."""
    if x.type == "i1":
        return x | y
    found = select(x >= y if entry.ins[0].dtype is dtypes.float16 else x > y, x, y)
    return select(x.is_nan(), x, found) if x.is_float else found


def _minimum(x: Vector, y: Vector, entry: Entry) -> Vector:
    if x.type == "i1":
        return x & y
    found = select(x <= y if entry.ins[0].dtype is dtypes.float16 else x < y, x, y)
    return select(x.is_nan(), x, found) if x.is_float else found


def _lt(x: Vector, y: Vector, entry: Entry) -> Vector:
    return ~x & y if x.type == "i1" else x < y


def _le(x: Vector, y: Vector, entry: Entry) -> Vector:
    return ~x | y if x.type == "i1" else x <= y


def _sign(x: Vector, entry: Entry) -> Vector:
    """+0 of both zeros; NaN of NaN."""
    above = select(x > 0, 1, x.full(0))
    found = select(x < 0, -1, above) if x.signed else above
    return select(x.is_nan(), x, found) if x.is_float else found


def _floor(x: Vector, entry: Entry) -> Vector:
    return floor(x) if x.is_float else x


def _is_finite(x: Vector, entry: Entry) -> Vector:
    if x.is_float:
        return absolute(x) < float("inf")
    return Vector(x.body, "i1", [x.body.constant(True, "i1")] * len(x.names), False)


def _cast(x: Vector, entry: Entry) -> Vector:
    source, goal = entry.ins[0].dtype, entry.out.dtype
    kind = register_type(goal)
    if goal is dtypes.bool_:
        return x if x.type == "i1" else x.differs(0)
    if x.is_float and goal.kind == "int":
        return x.saturated(kind, goal.signed)
    if x.is_float:
        if kind == x.type:
            return x
        if kind == "double":
            return x.to("fpext", kind)
        return _to_odd(x) if goal is dtypes.float16 else x.to("fptrunc", kind)
    if goal.is_float:
        return x.to("sitofp" if source.signed else "uitofp", kind)
    if kind == x.type:
        return Vector(x.body, kind, x.names, goal.signed)
    if source.bits > goal.bits:
        return x.to("trunc", kind, goal.signed)
    return x.to("sext" if source.signed else "zext", kind, goal.signed)


def _to_odd(x: Vector) -> Vector:
    """A float64 cut to a float32 whose last bit says whether something was lost: rounded again, to
    a float16, it is as if rounded once."""
    near = x.to("fptrunc", "float")
    back = near.to("fpext", "double")
    bits = near.to("bitcast", "i32")
    bits = select(absolute(back) > absolute(x), bits - 1, bits)
    return select(back.differs(x), bits | 1, bits).to("bitcast", "float")


def _bitcast(x: Vector, entry: Entry) -> Vector:
    goal = entry.outs[0].dtype
    kind = register_type(goal)
    if kind == x.type:
        return Vector(x.body, kind, x.names, goal.signed)
    return x.to("bitcast", kind, goal.signed)


def _shifted(code: str) -> Rule:
    """0, or all sign, where n is negative or at least the width."""

    def rule(x: Vector, n: Vector, entry: Entry) -> Vector:
        bits = entry.ins[0].dtype.bits
        inside = (n >= 0) & (n < bits)
        n = select(inside, n, 0)
        if code == "left":
            return select(inside, x << n, 0)
        return select(inside, x >> n, x >> (bits - 1) if x.signed else x.full(0))

    return rule


def _plain(function: Callable[..., Vector]) -> Rule:
    return lambda *operands: function(*operands[:-1])


FUNCTIONS: Final = ("exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos")


def _function(name: str) -> Rule:
    """The polynomial of float32, or that of float64."""

    def rule(x: Vector, entry: Entry) -> Vector:
        table = functions_64 if x.type == "double" else functions
        found: Vector = getattr(table, name)(x)
        return found

    return rule


RULES: Final[dict[str, Rule]] = {
    "add": _add, "mul": _mul, "maximum": _maximum, "minimum": _minimum,
    "sub": _plain(lambda x, y: x - y), "div": _div, "rem": _rem, "pow": _pow,
    "neg": _plain(lambda x: -x), "abs": _plain(absolute), "sign": _sign, "floor": _floor,
    "sqrt": _plain(square_root), "rsqrt": _plain(lambda x: 1.0 / square_root(x)),
    "and": _plain(lambda x, y: x & y), "or": _plain(lambda x, y: x | y),
    "xor": _plain(lambda x, y: x ^ y), "not": _plain(lambda x: ~x),
    "eq": _plain(lambda x, y: (~(x ^ y) if x.type == "i1" else x.equals(y))), "lt": _lt, "le": _le,
    "select": _plain(select), "is_finite": _is_finite, "cast": _cast, "bitcast": _bitcast,
    "shift_left": _shifted("left"), "shift_right": _shifted("right"),
    **{name: _function(name) for name in FUNCTIONS},
    **{name: functions_inverse.rule(name) for name in functions_inverse.FUNCTIONS},
    # Composites, whole: what they stand for loses digits.
    "gelu": functions_gelu.gelu, "gelu_slope": functions_gelu.slope,
}  # fmt: skip


def claimed(entry: Entry) -> bool:
    """Whether an entry becomes vector code."""
    return entry.once("cpu claims", _claimed)  # type: ignore[no-any-return]


def _claimed(entry: Entry) -> bool:
    name = entry.primitive.name
    if name not in RULES or not entry.ins:
        return False
    held = {s.dtype for s in (*entry.ins, *entry.outs)}
    if not held <= HELD:
        return False
    if any(s.is_named for s in entry.ins):
        return False
    if name == "bitcast":
        return not held & NARROW  # a NaN's payload would not survive in float32
    return True


def code_of(entry: Entry) -> str:
    """What names an entry's vector code, beside its dtypes: composites have forms."""
    forms = entry.params if entry.primitive.expand is not None else ()
    return " ".join([entry.primitive.name, *map(str, forms)])


# What is made from nothing but positions: rules of an index, i64, that is never negative.


def iota_rule(index: Vector, entry: Entry) -> Vector:
    """The index along the axis, in the entry's dtype."""
    goal = entry.outs[0].dtype
    if goal.is_float:
        # Below 2^52 the bits are those of a float64, 2^52 taken away.
        found = (index | 0x4330000000000000).to("bitcast", "double") - 2.0**52
        found = found if goal is dtypes.float64 else found.to("fptrunc", "float")
        return rounded(found, goal) if goal in NARROW else found
    if goal.bits == 64:
        return Vector(index.body, "i64", index.names, goal.signed)
    return index.to("trunc", register_type(goal), goal.signed)


def random_rule(index: Vector, key0: Vector, key1: Vector, draw: Vector, entry: Entry) -> Vector:
    """Word e % 2 of the block with counter (e // 2, draw), for element e of a state."""
    block = index.logical_shift(1).to("trunc", "i32", signed=False)
    first, second = threefry(key0, key1, block, draw)
    return select((index & 1).differs(0), second, first)


GENERATED: Final[dict[str, Rule]] = {"iota": iota_rule, "random_bits": random_rule}


def generated(entry: Entry) -> bool:
    """Whether an entry is made of positions here."""
    return entry.primitive.name in GENERATED and entry.out.dtype in HELD


# Narrow floats: computed in float32, rounded at each node.


def rounded(x: Vector, dtype: Dtype) -> Vector:
    """A float32 as the nearest narrow float, still held in float32."""
    if dtype is dtypes.float16:
        return _from_half(_to_half(x))
    bits = x.to("bitcast", "i32")
    odd = bits.logical_shift(16) & 1
    near = ((bits + 0x7FFF) + odd) & -0x10000
    return select(x.is_nan(), x, near.to("bitcast", "float"))


def widened(x: Vector, dtype: Dtype) -> Vector:
    """What was loaded, as it is held in registers."""
    if dtype is dtypes.bool_:
        return x.differs(0)
    if dtype is dtypes.bfloat16:
        return (x.to("zext", "i32") << 16).to("bitcast", "float")
    return _from_half(x) if dtype is dtypes.float16 else x


def narrowed(x: Vector, dtype: Dtype) -> Vector:
    """What is stored for a vector."""
    if dtype is dtypes.bool_:
        return x.to("zext", "i8")
    if dtype is dtypes.bfloat16:
        upper = x.to("bitcast", "i32").logical_shift(16)
        quiet = upper | 0x40  # a NaN stays one when its low bits are cut off
        return select(x.is_nan(), quiet, upper).to("trunc", "i16")
    return _to_half(x) if dtype is dtypes.float16 else x


# float16 by instructions, or, where the processor has none, by integers: the same bits.


def _to_half(x: Vector) -> Vector:
    """The bits of the nearest float16."""
    if target().has_half:
        return x.to("fptrunc", "half").to("bitcast", "i16")
    bits = x.to("bitcast", "i32")
    size = bits & 0x7FFFFFFF
    normal = (size + ((size >> 13) & 1) + (0xFFF - (112 << 23))) >> 13
    # The last bit of a float32 from 0.5 to 1 is the smallest float16.
    small = (absolute(x) + 0.5).to("bitcast", "i32") - 0x3F000000
    found = select(size < 0x38800000, small, normal)
    found = select(size >= 0x477FF000, 0x7C00, found)  # 65520 and more
    found = select(size > 0x7F800000, 0x7E00, found)
    return (found | (bits.logical_shift(16) & 0x8000)).to("trunc", "i16")


def _from_half(x: Vector) -> Vector:
    if target().has_half:
        return x.to("bitcast", "half").to("fpext", "float")
    bits = x.to("zext", "i32")
    size = (bits & 0x7FFF) << 13
    found = size.to("bitcast", "float") * 2.0**112
    found = select(size >= 0x7C00 << 13, (size | 0x7F800000).to("bitcast", "float"), found)
    sign = (bits & 0x8000) << 16
    return (found.to("bitcast", "i32") | sign).to("bitcast", "float")


def applied(entry: Entry, operands: list[Vector]) -> Vector:
    """One node: its rule, and the rounding of its result."""
    name = entry.primitive.name
    found = (RULES.get(name) or GENERATED[name])(*operands, entry)
    return (
        rounded(found, entry.out.dtype) if entry.out.dtype in NARROW and _rounds(entry) else found
    )


def _rounds(entry: Entry) -> bool:
    """Whether the result may not be a narrow float already."""
    return entry.primitive.name not in (
        "neg",
        "abs",
        "sign",
        "floor",
        "maximum",
        "minimum",
        "select",
    )


def signed(dtype: Dtype) -> bool:
    return dtype.signed and dtype is not dtypes.bool_
