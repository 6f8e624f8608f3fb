"""A `Loop` as LLVM IR: rows, and along each row whole groups of vectors, then a masked rest. Sizes
and strides come from the table that it is called with.

The same instructions run for every element, wherever it stands: so a result's bits do not depend
on sizes, offsets or tails. What stands still along a row is computed once for the row. Sums are
added in the order of RULES 3.3 b: 16 lanes a block of 256, blocks joined two by two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from proa.backends.cpu.access import Access
from proa.backends.cpu.ahead import Fetch, fetched
from proa.backends.cpu.blocks import Blocks, Waiting
from proa.backends.cpu.claims import (
    memory_type,
    narrowed,
    register_type,
    signed,
    widened,
)
from proa.backends.cpu.kernel import LANES, entered, lane_dtype
from proa.backends.cpu.odometer import Odometer
from proa.backends.cpu.sums import computed, halved, identity, joined, taken
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Body, Vector
from proa.dtypes import Dtype
from proa.graph.entry import Entry

if TYPE_CHECKING:
    from proa.backends.cpu.loop import Loop

WORDS: Final = 9  # of a loop's table before the strides along the row


def lanes_of(kernel: Loop, machine: Target) -> int:
    """Elements a vector: as many as fill a register with the widest dtype that takes part along
    the row; what stands still is computed once. Wide integers beside floats are indices: these
    take two registers, rather than floats half of one."""
    kinds = enumerate(kernel.analysis.kind)
    along = [i for i, kind in kinds if kind == "full" or kernel.reduction(i) is not None]
    types = [kernel.dtype(i) for i in along or range(len(kernel.analysis.kind))]
    floats = [d for d in types if d.is_float]
    widest = max(4, *[d.itemsize for d in floats or types])
    return max(2, machine.vector_bytes // widest)


def group_of(kernel: Loop, machine: Target) -> int:
    """Vectors that go side by side: as many as the registers hold; with sums whole steps of 16."""
    count, last = len(kernel.operands), dict[int, int]()
    for position, (_, sources) in enumerate(kernel.nodes):
        for s in sources:
            last[s] = position
    live = most = 0
    for position, (_, sources) in enumerate(kernel.nodes):
        live += 1
        most = max(most, live)
        live -= sum(last[s] == position for s in set(sources) if s >= count)
    group = next((g for g in (4, 2) if (most + 2) * g <= machine.registers), 1)
    if any(kernel.reduction(count + i) for i in range(len(kernel.nodes))):
        return max(group, LANES // lanes_of(kernel, machine))
    return group


@final
class _Emitter:
    def __init__(self, kernel: Loop, machine: Target) -> None:
        self.kernel = kernel
        self.body = Body(lanes_of(kernel, machine), machine.has_scale)
        self.access = Access(self.body)
        self.group = group_of(kernel, machine)
        self.count = len(kernel.operands)
        self.memory = [kernel.dtype(i) for i in range(self.count)]
        self.memory += [kernel.result_dtype(r) for r, _ in kernel.results]
        self.still: dict[int, Vector] = {}
        self.kept = {number: i for i, number in enumerate(kernel.analysis.kept)}
        self.along = [
            self.count + i for i, (_, pattern) in enumerate(kernel.results) if pattern == "u"
        ]
        self.is_x86 = machine.is_x86
        self.steps: list[str] = []
        sizes = [d.itemsize for d in self.memory]
        self.fetch = Fetch(self.body, fetched(kernel), sizes, self.count, machine.l2_bytes)

    @property
    def lanes(self) -> int:
        return self.body.lanes

    def word(self, index: int | str) -> str:
        at = self.body.set(f"getelementptr i64, ptr %table, i64 {index}")
        return self.body.set(f"load i64, ptr {at}")

    def function(self) -> list[str]:
        body, pointers = self.body, len(self.memory)
        body.label("entry")
        axes, size, rows, chunk, pieces, period, extent, lanes, stream = map(
            self.word, range(WORDS)
        )
        self.steps = [self.word(WORDS + k) for k in range(self.count)]
        piece = body.set(f"urem i64 %tile, {pieces}")
        block = body.set(f"udiv i64 %tile, {pieces}")
        begin = body.set(f"mul i64 {piece}, {chunk}")
        end = self.access.lower(body.set(f"add i64 {begin}, {chunk}"), size)
        first = body.set(f"mul i64 {block}, {rows}")
        inside = body.set(f"urem i64 {first}, {period}")
        whole = body.set(f"sub i64 {first}, {inside}")
        last = self.access.lower(
            body.set(f"add i64 {first}, {rows}"), body.set(f"add i64 {whole}, {extent}")
        )
        padded = body.set(f"add i64 {size}, 63")
        body.line(f"  %span = and i64 {padded}, -64")
        body.line(f"  %begin = add i64 {begin}, 0")
        body.line(f"  %end = add i64 {end}, 0")
        body.line(f"  %piece = add i64 {piece}, 0")
        body.line(f"  %lanes = add i64 {lanes}, 0")
        body.line(f"  %streams = and i1 {body.set(f'trunc i64 {stream} to i1')}, {self._apart()}")
        self.waiting = Waiting(self.body, self._most_sums()) if self._most_sums() else None
        walk = Odometer(body, pointers, WORDS + self.count, axes)
        starts = walk.begin(first)
        if self.kernel.across:
            self._fill(walk, starts)
        self.fetch.far(walk)
        some = body.set(f"icmp slt i64 {first}, {last}")
        body.line(f"  br i1 {some}, label %row, label %end.tile")
        before = body.here
        walk.rows(first, starts, before)
        self._stream()
        self.fetch.begin("%stream")
        self._still()
        for phase in range(self.kernel.analysis.phases):
            self._phase(phase)
        self._row_results()
        walk.advance(last)
        if self.along and self.is_x86:  # elsewhere what is released next waits for them anyway
            body.declare("llvm.x86.sse.sfence", "void", [])
            body.line("  call void @llvm.x86.sse.sfence()")
        body.line("  ret void")
        arguments = ", ".join(
            ["ptr %table", "i64 %tile", "ptr %scratch", *[f"ptr %p{k}" for k in range(pointers)]]
        )
        helpers = [line for lines in body.helpers.values() for line in [*lines, ""]]
        head = f"define internal void @body({arguments}) noinline nounwind {{"
        return [*helpers, head, *body.lines, "}"]

    # Where a tile begins.

    def _fill(self, walk: Odometer, starts: list[str]) -> None:
        """The lanes of each sum from row to row begin with what changes nothing."""
        body = self.body
        _, strides = walk.axis("0")
        for i, (result, pattern) in enumerate(self.kernel.results):
            entry = self.kernel.reduction(result)
            if entry is None or pattern != "+":
                continue
            k = self.count + i
            kind = memory_type(self.memory[k])
            base = body.set(f"getelementptr i8, ptr %p{k}, i64 {starts[k]}")
            value = Vector(body, kind, [body.constant(identity(entry), kind)])
            before = body.here
            body.line(f"  br label %fill{k}")
            body.label(f"fill{k}")
            body.line(f"  %lane{k} = phi i64 [ 0, %{before} ], [ %lane{k}.next, %fill{k}.next ]")
            body.line(f"  %lane{k}.open = icmp slt i64 %lane{k}, %lanes")
            body.line(f"  br i1 %lane{k}.open, label %fill{k}.lane, label %fill{k}.end")
            body.label(f"fill{k}.lane")
            far = body.set(f"mul i64 %lane{k}, {strides[k]}")
            body.line(f"  %line{k} = getelementptr i8, ptr {base}, i64 {far}")
            body.line(f"  br label %fill{k}.vector")
            body.label(f"fill{k}.vector")
            body.line(
                f"  %f{k} = phi i64 [ %begin, %fill{k}.lane ], [ %f{k}.next, %fill{k}.store ]"
            )
            body.line(f"  %f{k}.open = icmp slt i64 %f{k}, %end")
            body.line(f"  br i1 %f{k}.open, label %fill{k}.store, label %fill{k}.next")
            body.label(f"fill{k}.store")
            self.access.write(f"%line{k}", value, [f"%f{k}"], self.access.masks(f"%f{k}", 1))
            body.line(f"  %f{k}.next = add i64 %f{k}, {self.lanes}")
            body.line(f"  br label %fill{k}.vector")
            body.label(f"fill{k}.next")
            body.line(f"  %lane{k}.next = add i64 %lane{k}, 1")
            body.line(f"  br label %fill{k}")
            body.label(f"fill{k}.end")

    # Loads and stores.

    def _apart(self) -> str:
        """Whether no result lies where an operand does: that is in the cache when it is written."""
        body, found = self.body, "true"
        for k in self.along:
            for o, (_, pattern) in enumerate(self.kernel.operands):
                if pattern == "u":
                    here = body.set(f"icmp ne ptr %p{k}, %p{o}")
                    found = body.set(f"and i1 {found}, {here}")
        return found

    def _stream(self) -> None:
        """Whether results of this row go past the caches; where values that are kept lie."""
        body = self.body
        places = [body.set(f"ptrtoint ptr %at{k} to i64") for k in self.along]
        low = "0"
        for place in places:
            low = body.set(f"or i64 {low}, {place}")
        apart = body.set(f"icmp eq i64 {body.set(f'and i64 {low}, 63')}, 0")
        body.line(f"  %stream = and i1 {apart}, %streams")
        for number, i in self.kept.items():
            far = body.set(f"mul i64 %span, {8 * i}")
            at = body.set(f"getelementptr i8, ptr %scratch, i64 {far}")
            other = self._result(number) if number in self.kernel.stored else at
            body.line(f"  %kept{number} = select i1 %stream, ptr {at}, ptr {other}")

    def _result(self, number: int) -> str:
        """Where the row of a node that is a result lies."""
        return f"%at{self.count + [r for r, _ in self.kernel.results].index(number)}"

    def _store(
        self, made: list[tuple[int, int, Vector]], positions: list[str], masks: list[str]
    ) -> None:
        """Results (memory, node, vectors) of a group; whole groups past the caches if asked for."""
        body, tag = self.body, self.body.fresh()[1:]
        if not masks[0]:
            body.line(f"  br i1 %stream, label %{tag}.stream, label %{tag}.plain")
            body.label(f"{tag}.stream")
            for k, number, vectors in made:
                self.access.write(f"%at{k}", vectors, positions, masks, True)
                if number in self.kernel.stored:
                    self.access.write(f"%kept{number}", vectors, positions, masks)
            body.line(f"  br label %{tag}.after")
            body.label(f"{tag}.plain")
        for k, number, vectors in made:
            self.access.write(f"%at{k}", vectors, positions, masks)
            if number in self.kernel.stored and masks[0]:
                self.access.write(f"%kept{number}", vectors, positions, masks)
        if not masks[0]:
            body.line(f"  br label %{tag}.after")
            body.label(f"{tag}.after")

    def _value(self, dtype: Dtype, names: list[str]) -> Vector:
        return widened(Vector(self.body, memory_type(dtype), names, signed(dtype)), dtype)

    def _still(self) -> None:
        """What stands still along a row: once for the row."""
        body = self.body
        for k, (dtype, pattern) in enumerate(self.kernel.operands):
            if pattern == "s":
                kind = memory_type(dtype)
                one = body.set(f"load {kind}, ptr %at{k}, align {dtype.itemsize}")
                self.still[k] = self._value(dtype, [self.access.splat(kind, one)])
            elif pattern == "i0":
                self.still[k] = Vector(body, "i64", [self.access.splat("i64", f"%off{k}")])
        self._once(0)

    def _once(self, phase: int) -> None:
        """Nodes that are the same along the whole row and can be computed by now."""
        analysis = self.kernel.analysis
        for number, (entry, sources) in enumerate(self.kernel.nodes, self.count):
            if (
                number not in self.still
                and analysis.kind[number] != "full"
                and self.kernel.reduction(number) is None
                and analysis.phase[number] <= phase
            ):
                self.still[number] = computed(entry, [self.still[s] for s in sources])

    def _load(self, k: int, positions: list[str], masks: list[str]) -> Vector:
        dtype, pattern = self.kernel.operands[k]
        if pattern == "i1":
            return self._places(k, positions)
        if pattern == "g":
            rows = [
                self.access.gather(
                    f"%at{k}", memory_type(dtype), p, m, self.steps[k], dtype.itemsize
                )
                for p, m in zip(positions, masks, strict=True)
            ]
            return self._value(dtype, rows)
        return self._value(dtype, self.access.read(f"%at{k}", memory_type(dtype), positions, masks,
                                             dtype.itemsize))  # fmt: skip

    def _places(self, k: int, positions: list[str]) -> Vector:
        """An operand's own positions, as int64."""
        body, wide = self.body, self.body.wide("i64")
        names = []
        for position in positions:
            start = body.set(f"add i64 %off{k}, {position}")
            names.append(
                body.set(f"add {wide} {self.access.splat('i64', start)}, {self.access.numbers()}")
            )
        return Vector(body, "i64", names)

    # One phase: a walk along the row.

    def _sums(self, phase: int) -> list[tuple[int, Entry]]:
        """Reductions that this phase completes: number and entry."""
        found = []
        for number, (entry, _) in enumerate(self.kernel.nodes, self.count):
            is_row = self.kernel.reduction(number) and self.kernel.analysis.kind[number] == "row"
            if is_row and self.kernel.analysis.phase[number] == phase + 1:
                found.append((number, entry))
        return found

    def _most_sums(self) -> int:
        phases = range(self.kernel.analysis.phases)
        return max(len(self._sums(p)) for p in phases) * (LANES // min(LANES, self.lanes))

    def _compute(self, phase: int, positions: list[str], masks: list[str]) -> dict[int, Vector]:
        """Loads, nodes and stores of a group of vectors; gives every value."""
        analysis, values = self.kernel.analysis, dict(self.still)

        def value(number: int) -> Vector:
            if number not in values:
                if number < self.count:
                    values[number] = self._load(number, positions, masks)
                else:
                    values[number] = self._again(number, positions, masks)
            return values[number]

        for number in analysis.needed[phase]:
            entry, sources = self.kernel.nodes[number - self.count]
            values[number] = computed(entry, [value(s) for s in sources])
            is_stored = number in self.kernel.stored
            if number in self.kept and analysis.phase[number] == phase and not is_stored:
                self._keep(number, values[number], positions)
        for result, pattern in self.kernel.results:
            if phase == analysis.phase[result] and pattern == "u":
                value(result)  # all loads come before a store: a result may lie where operands do
        made = []
        for i, (result, pattern) in enumerate(self.kernel.results):
            k, sum_ = self.count + i, self.kernel.reduction(result)
            if phase != analysis.phase[result]:
                continue
            if pattern == "u":
                made.append((k, result, narrowed(value(result), self.memory[k])))
            elif sum_ is not None and pattern == "+":
                new = taken(value(self.kernel.nodes[result - self.count][1][0]), sum_)
                names = self.access.read(
                    f"%at{k}", new.type, positions, masks, self.memory[k].itemsize
                )
                old = Vector(self.body, new.type, names, new.signed)
                self.access.write(f"%at{k}", joined(sum_, old, new), positions, masks)
        if made:
            self._store(made, positions, masks)
        for number, _ in self._sums(phase):
            value(self.kernel.nodes[number - self.count][1][0])
        return values

    def _keep(self, number: int, value: Vector, positions: list[str]) -> None:
        if value.type == "i1":
            value = value.to("zext", "i8")
        self.access.write(f"%kept{number}", value, positions, [""] * len(positions))

    def _again(self, number: int, positions: list[str], masks: list[str]) -> Vector:
        """A kept value: from scratch, or its result if it is one; this ends where the row does."""
        dtype = self.kernel.dtype(number)
        masks = masks if number in self.kernel.stored else [""] * len(positions)
        kind = register_type(dtype)
        stored = "i8" if kind == "i1" else kind
        align = lane_dtype(dtype).itemsize
        names = self.access.read(f"%kept{number}", stored, positions, masks, align)
        found = Vector(self.body, stored, names, signed(dtype))
        return found.differs(0) if kind == "i1" else found

    def _phase(self, phase: int) -> None:
        """Whole groups, then single vectors (with sums: steps of 16), their lanes beyond the end
        masked."""
        body, p = self.body, phase
        sums, blocks = self._sums(p), None
        if sums:
            assert self.waiting is not None
            blocks = Blocks(body, self.waiting, p, [e for _, e in sums])
        width, before = self.group * self.lanes, body.here
        body.line(f"  br label %groups{p}")
        body.label(f"groups{p}")
        body.line(f"  %i{p} = phi i64 [ %begin, %{before} ], [ %i{p}.next, %groups{p}.end ]")
        if blocks is not None:
            blocks.begin(before)
        body.line(f"  %i{p}.next = add i64 %i{p}, {width}")
        body.line(f"  %i{p}.more = icmp sle i64 %i{p}.next, %end")
        body.line(f"  br i1 %i{p}.more, label %groups{p}.body, label %rest{p}")
        body.label(f"groups{p}.body")
        self.fetch.ask(p, f"%i{p}", self.group)
        positions = self._positions(f"%i{p}", self.group)
        values = self._compute(p, positions, [""] * self.group)
        if blocks is not None:
            blocks.end(blocks.added(self._summed(sums, values), self.group, []))
        else:
            body.line(f"  br label %groups{p}.end")
            body.label(f"groups{p}.end")
        body.line(f"  br label %groups{p}")
        self._rest(p, sums, blocks)
        if blocks is not None:
            self._complete(sums, blocks.complete())
        self._once(p + 1)

    def _positions(self, first: str, count: int) -> list[str]:
        step = self.lanes
        return [first] + [self.body.set(f"add i64 {first}, {v * step}") for v in range(1, count)]

    def _summed(self, sums: list[tuple[int, Entry]], values: dict[int, Vector]) -> list[Vector]:
        """What is added to each sum."""
        return [taken(values[self.kernel.nodes[n - self.count][1][0]], e) for n, e in sums]

    def _rest(self, p: int, sums: list[tuple[int, Entry]], blocks: Blocks | None) -> None:
        body, step = self.body, 1 if blocks is None else blocks.step
        body.label(f"rest{p}")
        body.line(f"  %j{p} = phi i64 [ %i{p}, %groups{p} ], [ %j{p}.next, %rest{p}.end ]")
        begun = len(body.lines)
        body.line(f"  %left{p} = icmp slt i64 %j{p}, %end")
        body.line(f"  br i1 %left{p}, label %rest{p}.body, label %after{p}")
        body.label(f"rest{p}.body")
        masks = self.access.masks(f"%j{p}", step)
        values = self._compute(p, self._positions(f"%j{p}", step), masks)
        if blocks is not None:
            added = blocks.added(self._summed(sums, values), step, masks)
            body.lines[begun:begun] = blocks.carried(added)
        body.line(f"  br label %rest{p}.end")
        body.label(f"rest{p}.end")
        body.line(f"  %j{p}.next = add i64 %j{p}, {step * self.lanes}")
        body.line(f"  br label %rest{p}")
        body.label(f"after{p}")

    def _complete(self, sums: list[tuple[int, Entry]], found: list[Vector]) -> None:
        """Lanes by halves; of an incomplete sum the lanes are stored."""
        for (number, entry), lanes in zip(sums, found, strict=True):
            if self.kernel.is_partial:
                k = self.count + [r for r, _ in self.kernel.results].index(number)
                start, step = self.body.set(f"mul i64 %piece, {LANES}"), len(lanes.names)
                self.access.write(f"%at{k}", lanes, self._positions(start, step), [""] * step)
            else:
                self.still[number] = halved(entry, lanes)

    def _row_results(self) -> None:
        """What is one number a row is stored once."""
        body = self.body
        for i, (result, pattern) in enumerate(self.kernel.results):
            if self.kernel.is_partial or pattern != "s":
                continue
            k = self.count + i
            value = narrowed(self.still[result], self.memory[k])
            one = body.set(f"extractelement {value.wide} {value.names[0]}, i32 0")
            body.line(f"  store {value.type} {one}, ptr %at{k}, align {self.memory[k].itemsize}")


def emit(kernel: Loop, name: str, machine: Target) -> str:
    """The module of one kernel; `name` is what it is called by."""
    emitter = _Emitter(kernel, machine)
    function = emitter.function()
    pointers = len(emitter.memory)
    lines = entered(name, pointers)
    arguments = ["ptr %table", "i64 %tile", "ptr %scratch"]
    arguments += [f"ptr %p{k}" for k in range(pointers)]
    lines += [f"  call void @body({', '.join(arguments)})", "  ret void", "}"]
    declared = list(emitter.body.declared.values())
    return "\n".join([f'target triple = "{machine.triple}"', *function, "", *lines, "", *declared])
