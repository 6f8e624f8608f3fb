"""A small language of vectors: what is written in it becomes LLVM IR, one instruction a line.

A `Vector` is a group of registers that go through the same instructions side by side, so that the
processor finds independent work at hand. Operators round as IEEE 754 says; nothing is contracted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, final

FLOATS: Final = ("float", "double")


@final
class Body:
    """The instructions of a function, in order, and the intrinsics that they need. `scales`: the
    processor has an instruction that multiplies by powers of two."""

    __slots__ = ("lines", "lanes", "scales", "declared", "count", "helpers", "here")

    def __init__(self, lanes: int, scales: bool = False) -> None:
        self.lines: list[str] = []
        self.lanes = lanes
        self.scales = scales
        self.declared: dict[str, str] = {}
        self.count = 0
        self.helpers: dict[str, list[str]] = {}
        self.here = ""  # the label of the block that is being written

    def fresh(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def line(self, text: str) -> None:
        self.lines.append(text)

    def set(self, text: str) -> str:
        """A new name for what `text` computes."""
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.here = name

    def wide(self, type_: str) -> str:
        return f"<{self.lanes} x {type_}>"

    def declare(self, name: str, result: str, operands: Sequence[str]) -> None:
        self.declared[name] = f"declare {result} @{name}({', '.join(operands)})"

    def constant(self, number: Any, type_: str) -> str:
        return f"splat ({type_} {literal(number, type_)})"


def literal(number: Any, type_: str) -> str:
    """A number as LLVM writes it; float32 constants are rounded to float32 first."""
    if type_ in FLOATS:
        number = float(number)
        if type_ == "float":
            number = struct.unpack("f", struct.pack("f", number))[0]
        return "0x" + struct.pack(">d", number).hex().upper()
    if type_ == "i1":
        return "true" if number else "false"
    return str(int(number))


@final
class Vector:
    """A group of registers of one element type (`float`, `double`, `i1`, `i8` ... `i64`)."""

    __slots__ = ("body", "type", "names", "signed")

    def __init__(self, body: Body, type_: str, names: Sequence[str], signed: bool = True) -> None:
        self.body = body
        self.type = type_
        self.names = tuple(names)
        self.signed = signed

    @property
    def is_float(self) -> bool:
        return self.type in FLOATS

    @property
    def wide(self) -> str:
        return self.body.wide(self.type)

    @property
    def can_scale(self) -> bool:
        """Whether `scaled` is there: of AVX-512, for 16 floats."""
        return self.body.scales and self.body.lanes == 16 and self.type == "float"

    def like(self, names: Sequence[str], type_: str | None = None) -> Vector:
        return Vector(self.body, type_ or self.type, names, self.signed)

    def other(self, operand: Any) -> tuple[str, ...]:
        """The names of the other operand: a vector of as many registers, or a number."""
        if type(operand) is Vector:
            if len(operand.names) == 1:
                return operand.names * len(self.names)
            return operand.names
        return (self.body.constant(operand, self.type),) * len(self.names)

    def binary(self, code: str, operand: Any) -> Vector:
        if type(operand) is Vector and len(operand.names) > len(self.names):
            return operand.like(self.names * len(operand.names), self.type).binary(code, operand)
        pairs = zip(self.names, self.other(operand), strict=True)
        return self.like([self.body.set(f"{code} {self.wide} {a}, {b}") for a, b in pairs])

    def __add__(self, other: Any) -> Vector:
        return self.binary("fadd" if self.is_float else "add", other)

    def __sub__(self, other: Any) -> Vector:
        return self.binary("fsub" if self.is_float else "sub", other)

    def __mul__(self, other: Any) -> Vector:
        return self.binary("fmul" if self.is_float else "mul", other)

    def __truediv__(self, other: Any) -> Vector:
        return self.binary("fdiv", other)

    def __rsub__(self, other: Any) -> Vector:
        return self.full(other) - self

    def __rtruediv__(self, other: Any) -> Vector:
        return self.full(other) / self

    def __and__(self, other: Any) -> Vector:
        return self.binary("and", other)

    def __or__(self, other: Any) -> Vector:
        return self.binary("or", other)

    def __xor__(self, other: Any) -> Vector:
        return self.binary("xor", other)

    def __lshift__(self, other: Any) -> Vector:
        return self.binary("shl", other)

    def __rshift__(self, other: Any) -> Vector:
        return self.binary("ashr" if self.signed else "lshr", other)

    def logical_shift(self, other: Any) -> Vector:
        return self.binary("lshr", other)

    def __invert__(self) -> Vector:
        return self ^ (1 if self.type == "i1" else -1)

    def __neg__(self) -> Vector:
        if not self.is_float:
            return self.full(0) - self
        return self.like([self.body.set(f"fneg {self.wide} {a}") for a in self.names])

    def full(self, number: Any) -> Vector:
        return self.like([self.body.constant(number, self.type)])

    def compare(self, code: str, other: Any) -> Vector:
        """`code` is LLVM's: eq, lt, le, gt, ge, ne, uno; ordered but for `ne` and `uno`."""
        if self.is_float:
            prefix = {"ne": "une", "uno": "uno"}.get(code, "o" + code)
            return self.like(self.binary(f"fcmp {prefix}", other).names, "i1")
        if code not in ("eq", "ne"):
            code = ("s" if self.signed else "u") + code
        return self.like(self.binary(f"icmp {code}", other).names, "i1")

    def __lt__(self, other: Any) -> Vector:
        return self.compare("lt", other)

    def __le__(self, other: Any) -> Vector:
        return self.compare("le", other)

    def __gt__(self, other: Any) -> Vector:
        return self.compare("gt", other)

    def __ge__(self, other: Any) -> Vector:
        return self.compare("ge", other)

    def equals(self, other: Any) -> Vector:
        return self.compare("eq", other)

    def differs(self, other: Any) -> Vector:
        return self.compare("ne", other)

    def is_nan(self) -> Vector:
        return self.compare("uno", self)

    def call(self, name: str, *others: Any, tail: str = "") -> Vector:
        """An intrinsic on vectors of this type."""
        suffix = f"v{self.body.lanes}{SUFFIX.get(self.type, self.type)}"
        full = f"llvm.{name}.{suffix}"
        count = max([len(self.names)] + [len(o.names) for o in others if type(o) is Vector])
        lists = [self.names * (count if len(self.names) == 1 else 1)]
        like = self.like(lists[0])
        lists += [like.other(o) for o in others]
        self.body.declare(full, self.wide, [self.wide] * len(lists) + (["i1"] if tail else []))
        made = []
        for row in zip(*lists, strict=True):
            operands = ", ".join(f"{self.wide} {n}" for n in row)
            made.append(self.body.set(f"call {self.wide} @{full}({operands}{tail})"))
        return self.like(made)

    def to(self, code: str, type_: str, signed: bool = True) -> Vector:
        """A conversion by its LLVM name."""
        goal = self.body.wide(type_)
        names = [self.body.set(f"{code} {self.wide} {a} to {goal}") for a in self.names]
        return Vector(self.body, type_, names, signed)

    def saturated(self, type_: str, signed: bool) -> Vector:
        """A float as an integer: rounded toward zero, held at the ends, 0 of NaN."""
        goal = self.body.wide(type_)
        kind = "fptosi" if signed else "fptoui"
        lanes = self.body.lanes
        name = f"llvm.{kind}.sat.v{lanes}{type_}.v{lanes}{SUFFIX[self.type]}"
        self.body.declare(name, goal, [self.wide])
        names = [self.body.set(f"call {goal} @{name}({self.wide} {a})") for a in self.names]
        return Vector(self.body, type_, names, signed)


SUFFIX: Final = {"float": "f32", "double": "f64", "half": "f16"}


def select(condition: Vector, x: Any, y: Any) -> Vector:
    """x where the condition holds, else y; one of them may be a number."""
    like = x if type(x) is Vector else y
    parts = [o if type(o) is Vector else like.full(o) for o in (x, y)]
    count = max(len(o.names) for o in (condition, *parts))
    lists = [o.names * (count if len(o.names) == 1 else 1) for o in (condition, *parts)]
    body, wide = like.body, like.wide
    kind = condition.wide
    names = [
        body.set(f"select {kind} {c}, {wide} {a}, {wide} {b}")
        for c, a, b in zip(*lists, strict=True)
    ]
    return like.like(names)


def fma(x: Vector, y: Any, z: Any) -> Vector:
    """x y + z, rounded once."""
    return x.call("fma", y, z)


def horner(x: Vector, coefficients: Sequence[float], start: Vector | None = None) -> Vector:
    """A polynomial, the highest power first."""
    found: Any = start
    for c in coefficients:
        found = x.full(c) if found is None else fma(x, found, c)
    return found  # type: ignore[no-any-return]


def scaled(x: Vector, n: Vector) -> Vector:
    """x 2^n for integers n, rounded once."""
    body, wide, name = x.body, x.wide, "llvm.x86.avx512.mask.scalef.ps.512"
    body.declare(name, wide, [wide, wide, wide, "i16", "i32"])
    made = []
    for a, b in zip(x.names, n.names, strict=True):
        operands = f"{wide} {a}, {wide} {b}, {wide} zeroinitializer, i16 -1, i32 4"
        made.append(body.set(f"call {wide} @{name}({operands})"))
    return x.like(made)


def floor(x: Vector) -> Vector:
    return x.call("floor")


def absolute(x: Vector) -> Vector:
    if x.is_float:
        return x.call("fabs")
    return x.call("abs", tail=", i1 false") if x.signed else x


def copysign(x: Vector, sign: Vector) -> Vector:
    return x.call("copysign", sign)


def square_root(x: Vector) -> Vector:
    return x.call("sqrt")


Function = Callable[..., Vector]
