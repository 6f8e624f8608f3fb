"""A kernel as LLVM IR: a walk over rows, and along each row whole groups of vectors, then a masked
rest. Sizes and strides come from the table that it is called with.

The same instructions run for every element, wherever it stands: so a result's bits do not depend
on sizes, offsets or tails. What stands still along a row is computed once for the row.
"""

from __future__ import annotations

from typing import Final, final

from proa.backends.cpu.claims import applied, memory_type, narrowed, signed, widened
from proa.backends.cpu.nest import Kernel
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Body, Vector
from proa.dtypes import Dtype

MOST_AXES: Final = 64
CONTROL: Final = 0x1F80  # round to nearest, denormals kept, exceptions masked
STATUS: Final = 0x3F


def lanes_of(kernel: Kernel, machine: Target) -> int:
    """Elements a vector: as many as fill a register with the widest dtype that takes part."""
    count = len(kernel.operands) + len(kernel.nodes)
    widest = max(4, *[kernel.dtype(i).itemsize for i in range(count)])
    return max(2, machine.vector_bytes // widest)


def group_of(kernel: Kernel, machine: Target) -> int:
    """Vectors that go side by side: as many as the registers hold."""
    last: dict[int, int] = {}
    for position, (_, sources) in enumerate(kernel.nodes):
        for s in sources:
            last[s] = position
    live = most = 0
    for position, (_, sources) in enumerate(kernel.nodes):
        live += 1
        most = max(most, live)
        live -= sum(last[s] == position for s in set(sources) if s >= len(kernel.operands))
    for group in (4, 2):
        if (most + 2) * group <= machine.registers:
            return group
    return 1


@final
class _Emitter:
    def __init__(self, kernel: Kernel, machine: Target) -> None:
        self.kernel = kernel
        self.body = Body(lanes_of(kernel, machine))
        self.group = group_of(kernel, machine)
        self.count = len(kernel.operands)
        self.memory = [kernel.dtype(i) for i in range(self.count)]
        self.memory += [kernel.dtype(r) for r in kernel.results]
        self.still: dict[int, Vector] = {}

    @property
    def lanes(self) -> int:
        return self.body.lanes

    def load_table(self, index: str) -> str:
        at = self.body.set(f"getelementptr i64, ptr %table, i64 {index}")
        return self.body.set(f"load i64, ptr {at}")

    def function(self) -> list[str]:
        body, pointers = self.body, len(self.memory)
        body.label("entry")
        axes, size = self.load_table("0"), self.load_table("1")
        steps = [self.load_table(str(2 + k)) for k in range(self.count)]
        body.line(f"  %counters = alloca [{MOST_AXES} x i64]")
        body.declare("llvm.memset.p0.i64", "void", ["ptr", "i8", "i64", "i1"])
        body.line(
            f"  call void @llvm.memset.p0.i64(ptr %counters, i8 0, i64 {8 * MOST_AXES}, i1 false)"
        )
        body.line("  br label %row")
        body.label("row")
        for k in range(pointers):
            body.line(f"  %off{k} = phi i64 [ 0, %entry ], [ %next{k}, %again ]")
        for k in range(pointers):
            body.line(f"  %at{k} = getelementptr i8, ptr %p{k}, i64 %off{k}")
        self._still()
        self._groups(size, steps)
        self._rest(size, steps)
        self._advance(axes)
        arguments = ", ".join(["ptr %table"] + [
            f"ptr noalias %p{k}" if k >= self.count else f"ptr %p{k}" for k in range(pointers)
        ])  # fmt: skip
        helpers = [line for lines in body.helpers.values() for line in [*lines, ""]]
        head = f"define internal void @body({arguments}) noinline nounwind {{"
        return [*helpers, head, *body.lines, "}"]

    # One element type at a time.

    def _value(self, dtype: Dtype, names: list[str]) -> Vector:
        raw = Vector(self.body, memory_type(dtype), names, signed(dtype))
        return widened(raw, dtype)

    def _still(self) -> None:
        """What stands still along a row: once for the row."""
        body = self.body
        for k, (dtype, pattern) in enumerate(self.kernel.operands):
            if pattern == "s":
                kind = memory_type(dtype)
                one = body.set(f"load {kind}, ptr %at{k}, align {dtype.itemsize}")
                wide = body.wide(kind)
                first = body.set(f"insertelement {wide} poison, {kind} {one}, i32 0")
                mask = body.wide("i32")
                all_ = body.set(
                    f"shufflevector {wide} {first}, {wide} poison, {mask} zeroinitializer"
                )
                self.still[k] = self._value(dtype, [all_])
        for number, (entry, sources) in enumerate(self.kernel.nodes):
            if all(s in self.still for s in sources):
                self.still[self.count + number] = applied(entry, [self.still[s] for s in sources])
        body.line("  br label %row.body")
        body.label("row.body")

    def _load(self, k: int, positions: list[str], step: str, mask: str) -> Vector:
        dtype, pattern = self.kernel.operands[k]
        body, kind = self.body, memory_type(dtype)
        wide, names = body.wide(kind), []
        for position in positions:
            if pattern == "g":
                names.append(self._gather(k, position, step, mask))
                continue
            at = body.set(f"getelementptr {kind}, ptr %at{k}, i64 {position}")
            if not mask:
                names.append(body.set(f"load {wide}, ptr {at}, align {dtype.itemsize}"))
                continue
            name = f"llvm.masked.load.v{self.lanes}{_suffix(kind)}.p0"
            body.declare(name, wide, ["ptr", body.wide("i1"), wide])
            names.append(body.set(
                f"call {wide} @{name}(ptr align {dtype.itemsize} {at}, "
                f"{body.wide('i1')} {mask}, {wide} zeroinitializer)"
            ))  # fmt: skip
        return self._value(dtype, names)

    def _gather(self, k: int, position: str, step: str, mask: str) -> str:
        dtype, body = self.kernel.operands[k][0], self.body
        kind, wide = memory_type(dtype), body.wide(memory_type(dtype))
        index, bits = body.wide("i64"), body.wide("i1")
        start = body.set(f"mul i64 {position}, {step}")
        at = body.set(f"getelementptr i8, ptr %at{k}, i64 {start}")
        first = body.set(f"insertelement {index} poison, i64 {step}, i32 0")
        steps = body.set(
            f"shufflevector {index} {first}, {index} poison, {body.wide('i32')} zeroinitializer"
        )
        offsets = body.set(f"mul {index} {steps}, {self._lane_numbers()}")
        places = body.set(f"getelementptr i8, ptr {at}, {index} {offsets}")
        name = f"llvm.masked.gather.v{self.lanes}{_suffix(kind)}.v{self.lanes}p0"
        body.declare(name, wide, [body.wide("ptr"), bits, wide])
        chosen = mask or "splat (i1 true)"
        return body.set(
            f"call {wide} @{name}({body.wide('ptr')} align {dtype.itemsize} {places}, "
            f"{bits} {chosen}, {wide} zeroinitializer)"
        )

    def _lane_numbers(self) -> str:
        return "<" + ", ".join(f"i64 {i}" for i in range(self.lanes)) + ">"

    def _compute(self, positions: list[str], steps: list[str], mask: str = "") -> None:
        """Loads, nodes and stores of a group of vectors."""
        values = dict(self.still)
        for number, (entry, sources) in enumerate(self.kernel.nodes):
            for s in sources:
                if s not in values:
                    values[s] = self._load(s, positions, steps[s], mask)
            if self.count + number not in values:
                values[self.count + number] = applied(entry, [values[s] for s in sources])
        for i, result in enumerate(self.kernel.results):
            self._store(self.count + i, self.kernel.dtype(result), values[result], positions, mask)

    def _store(self, k: int, dtype: Dtype, value: Vector, positions: list[str], mask: str) -> None:
        body = self.body
        stored = narrowed(value, dtype)
        names = stored.names * (len(positions) if len(stored.names) == 1 else 1)
        kind = stored.type
        for name, position in zip(names, positions, strict=True):
            at = body.set(f"getelementptr {kind}, ptr %at{k}, i64 {position}")
            if not mask:
                body.line(f"  store {stored.wide} {name}, ptr {at}, align {dtype.itemsize}")
                continue
            function = f"llvm.masked.store.v{self.lanes}{_suffix(kind)}.p0"
            body.declare(function, "void", [stored.wide, "ptr", body.wide("i1")])
            body.line(
                f"  call void @{function}({stored.wide} {name}, ptr align {dtype.itemsize} {at}, "
                f"{body.wide('i1')} {mask})"
            )

    # The walk.

    def _groups(self, size: str, steps: list[str]) -> None:
        body, width = self.body, self.group * self.lanes
        whole = body.set(f"sub i64 {size}, {width - 1}")
        body.line("  br label %groups")
        body.label("groups")
        body.line("  %i = phi i64 [ 0, %row.body ], [ %i.next, %groups.end ]")
        body.line(f"  %more = icmp slt i64 %i, {whole}")
        body.line("  br i1 %more, label %groups.body, label %rest")
        body.label("groups.body")
        positions = ["%i"] + [
            body.set(f"add i64 %i, {u * self.lanes}") for u in range(1, self.group)
        ]
        self._compute(positions, steps)
        body.line("  br label %groups.end")
        body.label("groups.end")
        body.line(f"  %i.next = add i64 %i, {width}")
        body.line("  br label %groups")

    def _rest(self, size: str, steps: list[str]) -> None:
        """Single vectors, their lanes beyond the end masked."""
        body = self.body
        body.label("rest")
        body.line("  %j = phi i64 [ %i, %groups ], [ %j.next, %rest.end ]")
        body.line(f"  %left = icmp slt i64 %j, {size}")
        body.line("  br i1 %left, label %rest.body, label %advance")
        body.label("rest.body")
        missing = body.set(f"sub i64 {size}, %j")
        narrow = body.set(f"call i64 @llvm.umin.i64(i64 {missing}, i64 {self.lanes})")
        body.declare("llvm.umin.i64", "i64", ["i64", "i64"])
        short = body.set(f"trunc i64 {narrow} to i32")
        ints = body.wide("i32")
        first = body.set(f"insertelement {ints} poison, i32 {short}, i32 0")
        ends = body.set(f"shufflevector {ints} {first}, {ints} poison, {ints} zeroinitializer")
        numbers = self._lane_numbers().replace("i64", "i32")
        mask = body.set(f"icmp ult {ints} {numbers}, {ends}")
        self._compute(["%j"], steps, mask)
        body.line("  br label %rest.end")
        body.label("rest.end")
        body.line(f"  %j.next = add i64 %j, {self.lanes}")
        body.line("  br label %rest")

    def _advance(self, axes: str) -> None:
        """The next row: the innermost outer axis first, carried over like digits."""
        body, pointers = self.body, len(self.memory)
        body.label("advance")
        body.line("  br label %carry")
        body.label("carry")
        body.line("  %axis = phi i64 [ 0, %advance ], [ %axis.next, %wrap ]")
        for k in range(pointers):
            body.line(f"  %from{k} = phi i64 [ %off{k}, %advance ], [ %back{k}, %wrap ]")
        body.line(f"  %open = icmp slt i64 %axis, {axes}")
        body.line("  br i1 %open, label %step, label %end")
        body.label("step")
        row = body.set(f"mul i64 %axis, {1 + pointers}")
        start = body.set(f"add i64 {row}, {2 + pointers}")
        at = body.set(f"getelementptr i64, ptr %table, i64 {start}")
        extent = body.set(f"load i64, ptr {at}")
        strides = []
        for k in range(pointers):
            place = body.set(f"getelementptr i64, ptr {at}, i64 {1 + k}")
            strides.append(body.set(f"load i64, ptr {place}"))
            body.line(f"  %next{k} = add i64 %from{k}, {strides[-1]}")
        counter = body.set("getelementptr i64, ptr %counters, i64 %axis")
        old = body.set(f"load i64, ptr {counter}")
        new = body.set(f"add i64 {old}, 1")
        inside = body.set(f"icmp slt i64 {new}, {extent}")
        body.line(f"  br i1 {inside}, label %again, label %wrap")
        body.label("again")
        body.line(f"  store i64 {new}, ptr {counter}")
        body.line("  br label %row")
        body.label("wrap")
        body.line(f"  store i64 0, ptr {counter}")
        body.line("  %axis.next = add i64 %axis, 1")
        for k in range(pointers):
            span = body.set(f"mul i64 {extent}, {strides[k]}")
            body.line(f"  %back{k} = sub i64 %next{k}, {span}")
        body.line("  br label %carry")
        body.label("end")
        body.line("  ret void")


def _suffix(kind: str) -> str:
    return {"float": "f32", "double": "f64"}.get(kind, kind)


def emit(kernel: Kernel, name: str, machine: Target) -> str:
    """The module of one kernel; `name` is what it is called by."""
    emitter = _Emitter(kernel, machine)
    function = emitter.function()
    pointers = len(emitter.memory)
    arguments = ["ptr %table"] + [f"ptr %p{k}" for k in range(pointers)]
    call = f"  call void @body({', '.join(arguments)})"
    entry = [
        f"define void @{name}({', '.join(arguments)}) nounwind {{",
        *guarded(call, machine),
        "}",
    ]
    declared = list(emitter.body.declared.values())
    if machine.is_x86:
        declared += [
            "declare void @llvm.x86.sse.stmxcsr(ptr)",
            "declare void @llvm.x86.sse.ldmxcsr(ptr)",
        ]
    return "\n".join([f'target triple = "{machine.triple}"', *function, "", *entry, "", *declared])


def guarded(call: str, machine: Target) -> list[str]:
    """A call under the floating-point control word that bits are promised for; the caller's is put
    back. The body is a function of its own, so that nothing moves across."""
    if not machine.is_x86:
        return [call, "  ret void"]
    keep = 0xFFFF & ~STATUS
    return [
        "  %theirs = alloca i32", "  %ours = alloca i32",
        "  call void @llvm.x86.sse.stmxcsr(ptr %theirs)",
        "  %word = load i32, ptr %theirs", f"  %modes = and i32 %word, {keep}",
        f"  %good = icmp eq i32 %modes, {CONTROL}",
        "  br i1 %good, label %plain, label %strange",
        "plain:", call, "  ret void",
        "strange:", f"  store i32 {CONTROL}, ptr %ours",
        "  call void @llvm.x86.sse.ldmxcsr(ptr %ours)", call,
        "  call void @llvm.x86.sse.ldmxcsr(ptr %theirs)", "  ret void",
    ]  # fmt: skip


def control_word(machine: Target) -> str:
    """A module with `enter`, which sets the control word and returns what it was, and `leave`."""
    return f"""target triple = "{machine.triple}"
define i32 @enter() {{
  %word = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %theirs = load i32, ptr %word
  store i32 {CONTROL}, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret i32 %theirs
}}
define void @leave(i32 %theirs) {{
  %word = alloca i32
  store i32 %theirs, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}}
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
"""
