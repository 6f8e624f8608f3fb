"""The sums of a row while it is walked: lanes of the block at hand, blocks that wait for a right
neighbour, and what they all come to.

Blocks join in pairs in registers; only of 512 elements and more do pairs wait in memory.
"""

from __future__ import annotations

from typing import Final, final

from proa.backends.cpu.claims import register_type, signed
from proa.backends.cpu.kernel import BLOCK, LANES, lane_dtype
from proa.backends.cpu.sums import identity, joined, lengthened
from proa.backends.cpu.vector import Body, Vector, select
from proa.graph.entry import Entry

LEVELS: Final = 48
SLOT: Final = 128  # bytes of a vector in memory: at most 16 lanes of 8 bytes
Op = tuple[Entry, int]  # a reduction, and how many registers hold its lanes


@final
class Blocks:
    """The sums of one phase `p` of a row, beside each other. The labels are those of the phase: a
    loop over `groups` of vectors, then one over the `rest`."""

    def __init__(self, body: Body, waiting: Waiting, p: int, entries: list[Entry]) -> None:
        self.body = body
        self.waiting = waiting
        self.p = p
        self.entries = entries
        self.step = LANES // body.lanes  # registers that hold the lanes of a sum
        self.types = [register_type(lane_dtype(e.ins[0].dtype)) for e in entries]
        self.lanes = [[f"%acc{p}_{i}_{v}" for v in range(self.step)] for i in range(len(entries))]

    def _vectors(self, lanes: list[list[str]], suffix: str = "") -> list[Vector]:
        return [
            Vector(self.body, kind, [n + suffix for n in names], signed(entry.ins[0].dtype))
            for entry, names, kind in zip(self.entries, lanes, self.types, strict=True)
        ]

    def _nothing(self, i: int) -> str:
        return self.body.constant(identity(self.entries[i]), self.types[i])

    def begin(self, before: str) -> None:
        """The lanes where the loop over groups begins; a sum's `held` block waits for its right
        neighbour while the number of blocks is odd."""
        p, body = self.p, self.body
        body.line(f"  %blocks{p} = phi i64 [ 0, %{before} ], [ %blocks{p}.n, %groups{p}.end ]")
        for i, names in enumerate(self.lanes):
            for name in [n + s for n in names for s in ("", ".held")]:
                begin, later = f"[ {self._nothing(i)}, %{before} ]", f"[ {name}.n, %groups{p}.end ]"
                body.line(f"  {name} = phi {body.wide(self.types[i])} {begin}, {later}")

    def added(self, new: list[Vector], count: int, masks: list[str]) -> list[list[str]]:
        """The lanes with `count` vectors for each sum added, ascending; of the rest those that the
        masks leave."""
        bits = [Vector(self.body, "i1", [m], False) for m in masks]
        found = []
        for lanes, x, entry in zip(
            self._vectors(self.lanes, ".r" if masks else ""), new, self.entries, strict=True
        ):
            ones = [x.like([n]) for n in x.names * (count if len(x.names) == 1 else 1)]
            if masks:
                ones = [select(b, o, identity(entry)) for b, o in zip(bits, ones, strict=True)]
            made = [
                lengthened(entry, x.like([lane]), ones[v :: self.step])
                for v, lane in enumerate(lanes.names)
            ]
            found.append([m.names[0] for m in made])
        return found

    def end(self, added: list[list[str]]) -> None:
        """After a block of 256 its lanes wait for the next block, or are joined to those that
        wait; the next begins anew."""
        p, body, here = self.p, self.body, self.body.here
        rest = body.set(f"and i64 {body.set(f'sub i64 %i{p}.next, %begin')}, {BLOCK - 1}")
        body.line(f"  %full{p} = icmp eq i64 {rest}, 0")
        body.line(f"  br i1 %full{p}, label %block{p}, label %groups{p}.end")
        body.label(f"block{p}")
        body.line(f"  %more{p} = add i64 %blocks{p}, 1")
        body.line(f"  %right{p} = trunc i64 %blocks{p} to i1")
        body.line(f"  br i1 %right{p}, label %pair{p}, label %groups{p}.end")
        body.label(f"pair{p}")
        self.waiting.lay(self._pairs(self._vectors(added)))
        self.waiting.push(self._helper(), body.set(f"lshr i64 %blocks{p}, 1"))
        body.line(f"  br label %groups{p}.end")
        body.label(f"groups{p}.end")

        def phi(name: str, kind: str, *values: str) -> None:
            pairs = zip(values, (here, f"block{p}", f"pair{p}"), strict=True)
            body.line(f"  {name} = phi {kind} " + ", ".join(f"[ {v}, %{at} ]" for v, at in pairs))

        phi(f"%blocks{p}.n", "i64", f"%blocks{p}", f"%more{p}", f"%more{p}")
        for i, (names, new, kind) in enumerate(zip(self.lanes, added, self.types, strict=True)):
            for name, one in zip(names, new, strict=True):
                phi(f"{name}.n", body.wide(kind), one, self._nothing(i), self._nothing(i))
                phi(f"{name}.held.n", body.wide(kind), f"{name}.held", one, f"{name}.held")

    def carried(self, added: list[list[str]]) -> list[str]:
        """The lanes where the loop over the rest begins; `added` is what it makes of them."""
        p, wides = self.p, [self.body.wide(t) for t in self.types]
        return [
            f"  {name}.r = phi {wide} [ {name}, %groups{p} ], [ {one}, %rest{p}.end ]"
            for names, new, wide in zip(self.lanes, added, wides, strict=True)
            for name, one in zip(names, new, strict=True)
        ]

    def complete(self) -> list[Vector]:
        """The 16 lanes of every sum, all blocks joined. Of one block and of two without memory."""
        p, body = self.p, self.body
        last, held = self._vectors(self.lanes, ".r"), self._vectors(self.lanes, ".held")
        body.line(f"  %some{p} = icmp ne i64 %blocks{p}, 0")
        body.line(f"  br i1 %some{p}, label %several{p}, label %done{p}")
        body.label(f"several{p}")
        rest = body.set(f"and i64 {body.set('sub i64 %end, %begin')}, {BLOCK - 1}")
        body.line(f"  %open{p} = icmp ne i64 {rest}, 0")
        body.line(f"  %odd{p} = trunc i64 %blocks{p} to i1")
        pairs = self._pairs(last)
        two = [self._either(f"%open{p}", x, y) for x, y in zip(pairs, held, strict=True)]
        single = [self._either(f"%odd{p}", x, y) for x, y in zip(held, last, strict=True)]
        body.line(f"  %memory{p} = icmp ne i64 %blocks{p}, 1")
        body.line(f"  br i1 %memory{p}, label %many{p}, label %done{p}")
        body.label(f"many{p}")
        count = body.set(f"lshr i64 %blocks{p}, 1")
        body.line(f"  %both{p} = and i1 %odd{p}, %open{p}")
        body.line(f"  br i1 %both{p}, label %last{p}, label %found{p}")
        body.label(f"last{p}")
        self.waiting.lay(pairs)
        self.waiting.push(self._helper(), count)
        body.line(f"  %count{p} = add i64 {count}, 1")
        body.line(f"  br label %found{p}")
        body.label(f"found{p}")
        body.line(f"  %pairs{p} = phi i64 [ {count}, %many{p} ], [ %count{p}, %last{p} ]")
        self.waiting.lay(single)
        alone = body.set(f"xor i1 %odd{p}, %open{p}")
        many = self.waiting.finish(self._helper(), f"%pairs{p}", alone, last)
        body.line(f"  br label %done{p}")
        body.label(f"done{p}")
        return [
            x.like([
                body.set(
                    f"phi {x.wide} [ {a}, %after{p} ], [ {b}, %several{p} ], [ {c}, %found{p} ]"
                )
                for a, b, c in zip(x.names, y.names, z.names, strict=True)
            ])
            for x, y, z in zip(last, two, many, strict=True)
        ]  # fmt: skip

    def _pairs(self, right: list[Vector]) -> list[Vector]:
        """The blocks that wait, joined with their right neighbours."""
        held = self._vectors(self.lanes, ".held")
        return [joined(e, x, y) for e, x, y in zip(self.entries, held, right, strict=True)]

    def _either(self, condition: str, x: Vector, y: Vector) -> Vector:
        """One of two, for all lanes alike."""
        names = [
            self.body.set(f"select i1 {condition}, {x.wide} {a}, {x.wide} {b}")
            for a, b in zip(x.names, y.names, strict=True)
        ]
        return x.like(names)

    def _helper(self) -> str:
        """The functions that join pairs, written when first asked for."""
        ops = [(e, self.step) for e in self.entries]
        return join_helpers(self.body, f"join{self.p}", ops, self.waiting.registers)


@final
class Waiting:
    """Pairs of blocks that wait for a right neighbour, one a level of the tree, in memory; there is
    room for so many registers a level."""

    def __init__(self, body: Body, registers: int) -> None:
        self.body = body
        self.registers = registers
        size = SLOT * registers
        body.line(f"  %fresh = alloca [{size} x i8], align 64")
        body.line(f"  %stack = alloca [{LEVELS * size} x i8], align 64")

    def lay(self, vectors: list[Vector]) -> None:
        """Registers where the helpers find them."""
        for i, (name, wide) in enumerate([(n, v.wide) for v in vectors for n in v.names]):
            at = self.body.set(f"getelementptr i8, ptr %fresh, i64 {SLOT * i}")
            self.body.line(f"  store {wide} {name}, ptr {at}, align 64")

    def push(self, helper: str, number: str) -> None:
        """One more pair of blocks, its number counted from 0."""
        self.body.line(f"  call void @{helper}.push(ptr %stack, ptr %fresh, i64 {number})")

    def finish(self, helper: str, count: str, alone: str, like: list[Vector]) -> list[Vector]:
        """So many pairs as one, with a block laid behind them if there is one."""
        body = self.body
        body.line(f"  call void @{helper}.finish(ptr %stack, ptr %fresh, i64 {count}, i1 {alone})")
        found, i = [], 0
        for v in like:
            names = []
            for _ in v.names:
                at = body.set(f"getelementptr i8, ptr %fresh, i64 {SLOT * i}")
                names.append(body.set(f"load {v.wide}, ptr {at}, align 64"))
                i += 1
            found.append(v.like(names))
        return found


def join_helpers(body: Body, name: str, ops: list[Op], most: int) -> str:
    """Functions `name.push` and `name.finish` on a stack of blocks, as helpers of a body; a level
    of the stack has room for `most` registers."""
    if f"{name}.push" not in body.helpers:
        body.helpers[f"{name}.push"] = _push(body, name, ops, most)
        body.helpers[f"{name}.finish"] = _finish(body, name, ops, most)
    return name


def _registers(inner: Body, ops: list[Op], base: str) -> list[Vector]:
    found, at = [], 0
    for entry, count in ops:
        dtype = lane_dtype(entry.ins[0].dtype)
        kind, names = register_type(dtype), []
        for _ in range(count):
            place = inner.set(f"getelementptr i8, ptr {base}, i64 {SLOT * at}")
            names.append(inner.set(f"load {inner.wide(kind)}, ptr {place}, align 64"))
            at += 1
        found.append(Vector(inner, kind, names, signed(dtype)))
    return found


def _stored(inner: Body, vectors: list[Vector], base: str) -> None:
    names = [(n, v.wide) for v in vectors for n in v.names]
    for i, (n, wide) in enumerate(names):
        place = inner.set(f"getelementptr i8, ptr {base}, i64 {SLOT * i}")
        inner.line(f"  store {wide} {n}, ptr {place}, align 64")


def _level(inner: Body, level: str, most: int) -> str:
    far = inner.set(f"mul i64 {level}, {SLOT * most}")
    return inner.set(f"getelementptr i8, ptr %stack, i64 {far}")


def _push(body: Body, name: str, ops: list[Op], most: int) -> list[str]:
    """Joins with the left neighbours, level by level, as long as block `number` is a right one."""
    inner = Body(body.lanes)
    inner.line(f"define internal void @{name}.push(ptr %stack, ptr %fresh, i64 %number) {{")
    inner.label("entry")
    inner.line("  br label %level")
    inner.label("level")
    inner.line("  %l = phi i64 [ 0, %entry ], [ %l.next, %right ]")
    at = _level(inner, "%l", most)
    bit = inner.set(f"and i64 {inner.set('lshr i64 %number, %l')}, 1")
    right = inner.set(f"icmp ne i64 {bit}, 0")
    inner.line(f"  br i1 {right}, label %right, label %left")
    inner.label("right")
    _added(inner, ops, at)
    inner.line("  %l.next = add i64 %l, 1")
    inner.line("  br label %level")
    inner.label("left")
    _stored(inner, _registers(inner, ops, "%fresh"), at)
    inner.line("  ret void")
    inner.line("}")
    _adopted(body, inner)
    return inner.lines


def _added(inner: Body, ops: list[Op], at: str) -> None:
    """What waits at a level joins what is fresh."""
    pairs = zip(_registers(inner, ops, at), _registers(inner, ops, "%fresh"), strict=True)
    _stored(inner, [joined(e, a, b) for (e, _), (a, b) in zip(ops, pairs, strict=True)], "%fresh")


def _finish(body: Body, name: str, ops: list[Op], most: int) -> list[str]:
    """Joins what waits, the lowest level first, to `fresh` if that is a block itself."""
    inner = Body(body.lanes)
    inner.line(
        f"define internal void @{name}.finish(ptr %stack, ptr %fresh, i64 %count, i1 %single) {{"
    )
    inner.label("entry")
    inner.line("  br label %more")
    inner.label("more")
    inner.line("  %left = phi i64 [ %count, %entry ], [ %without, %taken ]")
    inner.line("  %none = icmp eq i64 %left, 0")
    inner.line("  br i1 %none, label %end, label %some")
    inner.label("some")
    inner.declare("llvm.cttz.i64", "i64", ["i64", "i1"])
    inner.line("  %l = call i64 @llvm.cttz.i64(i64 %left, i1 true)")
    at = _level(inner, "%l", most)
    below = inner.set("sub i64 %left, 1")
    inner.line(f"  %without = and i64 %left, {below}")
    inner.line("  %begin = icmp eq i64 %left, %count")
    inner.line("  %first = icmp ugt i1 %begin, %single")
    inner.line("  br i1 %first, label %start, label %add")
    inner.label("start")
    _stored(inner, _registers(inner, ops, at), "%fresh")
    inner.line("  br label %taken")
    inner.label("add")
    _added(inner, ops, at)
    inner.line("  br label %taken")
    inner.label("taken")
    inner.line("  br label %more")
    inner.label("end")
    inner.line("  ret void")
    inner.line("}")
    _adopted(body, inner)
    return inner.lines


def _adopted(body: Body, inner: Body) -> None:
    body.declared.update(inner.declared)
    body.helpers.update(inner.helpers)
