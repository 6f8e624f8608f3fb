"""What a phase of a row fetches into the cache for later: what the next phases read and write, and
the next row.

A phase that computes much leaves the memory idle, the one after it waits for memory. So each
memory is asked for while another phase computes: in the one that has the most time for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

from proa.backends.cpu.odometer import Odometer
from proa.backends.cpu.vector import Body

LINE: Final = 64  # bytes that memory gives at a time
IN_L2: Final = 2  # where what will be read waits

if TYPE_CHECKING:
    from proa.backends.cpu.loop import Loop


class Ahead(NamedTuple):
    """A memory (operands, then results), and whether it is the next row's part of it."""

    memory: int
    is_next: bool


def fetched(kernel: Loop) -> list[list[Ahead]]:
    """For each phase what it asks for; nothing where there is one phase: memory that is walked
    straight on the processor fetches by itself."""
    analysis, count = kernel.analysis, len(kernel.operands)
    phases = range(analysis.phases)
    found: list[list[Ahead]] = [[] for _ in phases]
    if len(phases) == 1:
        return found
    time = [
        1 + sum(kernel.nodes[n - count][0].primitive.cost for n in analysis.needed[p])
        for p in phases
    ]
    for memory, first in sorted(met(kernel).items(), key=lambda item: item[1]):
        may = range(first) if first else phases
        best = min(may, key=lambda p: ((len(found[p]) + 1) / time[p], p))
        found[best].append(Ahead(memory, not first))
    return found


def met(kernel: Loop) -> dict[int, int]:
    """The phase that first meets each memory which runs along the row."""
    analysis, count = kernel.analysis, len(kernel.operands)
    found: dict[int, int] = {}

    def meet(number: int, phase: int) -> None:
        if number < count and kernel.operands[number][1] == "u":
            found[number] = min(phase, found.get(number, phase))

    for phase, numbers in enumerate(analysis.needed):
        for number in numbers:
            for s in kernel.nodes[number - count][1]:
                meet(s, phase)
    for number, (_, sources) in enumerate(kernel.nodes, count):
        if kernel.reduction(number) is not None:
            meet(sources[0], analysis.phase[number] - (analysis.kind[number] == "row"))
    for i, (result, pattern) in enumerate(kernel.results):
        if pattern == "u":
            found[count + i] = analysis.phase[result]
            meet(result, analysis.phase[result])
    return found


@final
class Fetch:
    """The code that asks. `sizes`: bytes of an element of each memory, of which the first `count`
    are read. A row must leave room for the others in a cache of `room` bytes; of a longer one
    each phase asks for the same place again and again."""

    def __init__(
        self, body: Body, ahead: list[list[Ahead]], sizes: list[int], count: int, room: int
    ) -> None:
        self.body = body
        self.ahead = ahead
        self.sizes = sizes
        self.count = count
        self.most = room // (4 * sum(sizes))

    def far(self, walk: Odometer) -> None:
        """Before the rows: how far the next one lies in each memory."""
        wanted = [a.memory for ahead in self.ahead for a in ahead if a.is_next]
        if wanted:
            _, strides = walk.axis("0")
            for k in wanted:
                self.body.line(f"  %far{k} = add i64 {strides[k]}, 0")

    def begin(self, stream: str) -> None:
        """Before the phases of a row: where it is asked for. What goes past the caches is not."""
        if not any(self.ahead):
            return
        body = self.body
        body.line(f"  %ahead.short = icmp sle i64 %end, {self.most}")
        body.line(f"  %ahead.write = icmp ugt i1 %ahead.short, {stream}")
        body.line("  %ahead.mask0 = sext i1 %ahead.short to i64")
        body.line("  %ahead.mask1 = sext i1 %ahead.write to i64")
        for k, is_next in [a for ahead in self.ahead for a in ahead]:
            far = f"%far{k}" if is_next else "0"
            body.line(f"  %ahead{k} = getelementptr i8, ptr %at{k}, i64 {far}")

    def ask(self, phase: int, position: str, vectors: int) -> None:
        """Beside a group of vectors from a position."""
        if not self.ahead[phase]:
            return
        body, elements = self.body, vectors * self.body.lanes
        places = [body.set(f"and i64 {position}, %ahead.mask{w}") for w in (0, 1)]
        types = ["ptr", "i32", "i32", "i32"]
        body.declare("llvm.prefetch.p0", "void", types)
        for k, _ in self.ahead[phase]:
            write = int(k >= self.count)
            begin = body.set(f"mul i64 {places[write]}, {self.sizes[k]}")
            for line in range(0, elements * self.sizes[k], LINE):
                at = body.set(f"add i64 {begin}, {line}")
                at = body.set(f"getelementptr i8, ptr %ahead{k}, i64 {at}")
                body.line(
                    f"  call void @llvm.prefetch.p0(ptr {at}, i32 {write}, i32 {IN_L2}, i32 1)"
                )
