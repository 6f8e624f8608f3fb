"""Functions as LLVM IR with loops and branches, for kernels that are more than one walk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from proa.backends.cpu.vector import SUFFIX, Body


@final
class Loop:
    """A loop being written: its counter, the values it carries, and what these become next."""

    __slots__ = ("index", "values", "next", "step")

    def __init__(self, index: str, values: list[str], step: str) -> None:
        self.index = index
        self.values = values
        self.next = values
        self.step = step


@final
class Code:
    """The instructions of one function. Numbers are i64; what has no type given is one."""

    __slots__ = ("body", "block", "labels")

    def __init__(self, lanes: int) -> None:
        self.body = Body(lanes)
        self.block = "entry"
        self.labels = 0
        self.body.label("entry")

    def label(self, name: str) -> None:
        self.block = name
        self.body.label(name)

    def fresh(self, name: str) -> str:
        self.labels += 1
        return f"{name}{self.labels}"

    def line(self, text: str) -> None:
        self.body.line("  " + text)

    def set(self, text: str) -> str:
        return self.body.set(text)

    # Numbers.

    def add(self, x: str | int, y: str | int) -> str:
        return self.set(f"add i64 {x}, {y}")

    def sub(self, x: str | int, y: str | int) -> str:
        return self.set(f"sub i64 {x}, {y}")

    def mul(self, x: str | int, y: str | int) -> str:
        return self.set(f"mul i64 {x}, {y}")

    def divided(self, x: str, y: str | int) -> tuple[str, str]:
        """Quotient and remainder."""
        return self.set(f"udiv i64 {x}, {y}"), self.set(f"urem i64 {x}, {y}")

    def minimum(self, x: str | int, y: str | int) -> str:
        self.body.declare("llvm.smin.i64", "i64", ["i64", "i64"])
        return self.set(f"call i64 @llvm.smin.i64(i64 {x}, i64 {y})")

    def compare(self, code: str, x: str | int, y: str | int) -> str:
        return self.set(f"icmp {code} i64 {x}, {y}")

    def select(self, condition: str, x: str | int, y: str | int, type_: str = "i64") -> str:
        return self.set(f"select i1 {condition}, {type_} {x}, {type_} {y}")

    # Memory: pointers move by bytes.

    def at(self, pointer: str, *offsets: str | int) -> str:
        for o in offsets:
            if o not in (0, "0"):
                pointer = self.set(f"getelementptr i8, ptr {pointer}, i64 {o}")
        return pointer

    def load(self, type_: str, pointer: str, align: int) -> str:
        return self.set(f"load {type_}, ptr {pointer}, align {align}")

    def store(self, type_: str, value: str, pointer: str, align: int) -> None:
        self.line(f"store {type_} {value}, ptr {pointer}, align {align}")

    def masked_load(self, kind: str, pointer: str, mask: str, align: int) -> str:
        """A vector, 0 where the mask is not set."""
        wide, bits = self.body.wide(kind), self.body.wide("i1")
        name = f"llvm.masked.load.v{self.body.lanes}{SUFFIX.get(kind, kind)}.p0"
        self.body.declare(name, wide, ["ptr", bits, wide])
        return self.set(
            f"call {wide} @{name}(ptr align {align} {pointer}, {bits} {mask}, "
            f"{wide} zeroinitializer)"
        )

    def masked_store(self, kind: str, value: str, pointer: str, mask: str, align: int) -> None:
        wide, bits = self.body.wide(kind), self.body.wide("i1")
        name = f"llvm.masked.store.v{self.body.lanes}{SUFFIX.get(kind, kind)}.p0"
        self.body.declare(name, "void", [wide, "ptr", bits])
        self.line(f"call void @{name}({wide} {value}, ptr align {align} {pointer}, {bits} {mask})")

    def masked_scatter(self, kind: str, value: str, pointers: str, mask: str, align: int) -> None:
        lanes = self.body.lanes
        wide, bits, places = (self.body.wide(t) for t in (kind, "i1", "ptr"))
        name = f"llvm.masked.scatter.v{lanes}{SUFFIX.get(kind, kind)}.v{lanes}p0"
        self.body.declare(name, "void", [wide, places, bits])
        self.line(
            f"call void @{name}({wide} {value}, {places} align {align} {pointers}, {bits} {mask})"
        )

    def fetch(self, pointer: str, writes: bool, near: bool = False) -> None:
        """What is there will be needed soon: in the first cache to be written, or if it is near,
        else in the next."""
        self.body.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
        kind = f"i32 {int(writes)}, i32 {3 if writes or near else 2}"
        self.line(f"call void @llvm.prefetch.p0(ptr {pointer}, {kind}, i32 1)")

    # Vectors.

    def splat(self, kind: str, value: str) -> str:
        wide, order = self.body.wide(kind), self.body.wide("i32")
        first = self.set(f"insertelement {wide} poison, {kind} {value}, i32 0")
        return self.set(f"shufflevector {wide} {first}, {wide} poison, {order} zeroinitializer")

    def lanes_below(self, count: str) -> str:
        """A mask: lanes whose number is below `count`, which may be negative or large."""
        lanes = self.body.lanes
        bounded = self.set(f"trunc i64 {self.minimum(count, lanes)} to i32")
        ends, wide = self.splat("i32", bounded), self.body.wide("i32")
        numbers = "<" + ", ".join(f"i32 {i}" for i in range(lanes)) + ">"
        return self.set(f"icmp slt {wide} {numbers}, {ends}")

    def fma(self, kind: str, x: str, y: str, z: str) -> str:
        wide = self.body.wide(kind)
        name = f"llvm.fma.v{self.body.lanes}{SUFFIX[kind]}"
        self.body.declare(name, wide, [wide] * 3)
        return self.set(f"call {wide} @{name}({wide} {x}, {wide} {y}, {wide} {z})")

    def shuffle(self, kind: str, x: str, y: str, order: Sequence[int]) -> str:
        wide = self.body.wide(kind)
        numbers = ", ".join(f"i32 {i}" for i in order)
        return self.set(f"shufflevector {wide} {x}, {wide} {y}, <{len(order)} x i32> <{numbers}>")

    # Control.

    @contextmanager
    def loop(
        self, stop: str, step: str | int = 1, carried: Sequence[tuple[str, str]] = (),
        start: str = "0",
    ) -> Iterator[Loop]:  # fmt: skip
        """From `start` while below `stop`. `carried`: (type, first value); the body may set `next`
        of the values and `step`. After the loop `values` are the last ones."""
        body, before = self.body, self.block
        head, inside, done = (self.fresh(n) for n in ("head", "body", "done"))
        loop = Loop(body.fresh(), [body.fresh() for _ in carried], str(step))
        self.line(f"br label %{head}")
        self.label(head)
        place = len(body.lines)
        more = self.compare("slt", loop.index, stop)
        self.line(f"br i1 {more}, label %{inside}, label %{done}")
        self.label(inside)
        yield loop
        following = self.add(loop.index, loop.step)
        self.line(f"br label %{head}")
        rows = [("i64", loop.index, start, following)]
        rows += [
            (type_, value, first, new)
            for (type_, first), value, new in zip(carried, loop.values, loop.next, strict=True)
        ]
        body.lines[place:place] = [
            f"  {value} = phi {type_} [ {first}, %{before} ], [ {new}, %{self.block} ]"
            for type_, value, first, new in rows
        ]
        self.label(done)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        inside, done = self.fresh("when"), self.fresh("after")
        self.line(f"br i1 {condition}, label %{inside}, label %{done}")
        self.label(inside)
        yield
        self.line(f"br label %{done}")
        self.label(done)

    @contextmanager
    def unless(self, condition: str) -> Iterator[None]:
        with self.when(self.set(f"xor i1 {condition}, true")):
            yield

    def function(self, name: str, arguments: Sequence[str], linkage: str) -> list[str]:
        """The function's text, when its instructions are written. Its result is nothing."""
        head = f"define {linkage}void @{name}({', '.join(arguments)}) noinline nounwind {{"
        return [head, *self.body.lines, "  ret void", "}", ""]
