"""What a phase of a row fetches into the cache for later: what the next phases read and write, and
the next row.

A phase that computes much leaves the memory idle, the one after it waits for memory. So each
memory is asked for while another phase computes: in the one that has the most time for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    for memory, first in sorted(_first(kernel).items(), key=lambda item: item[1]):
        may = range(first) if first else phases
        best = min(may, key=lambda p: ((len(found[p]) + 1) / time[p], p))
        found[best].append(Ahead(memory, not first))
    return found


def _first(kernel: Loop) -> dict[int, int]:
    """The phase that first meets each memory which runs along the row."""
    analysis, count = kernel.analysis, len(kernel.operands)
    met: dict[int, int] = {}

    def meet(number: int, phase: int) -> None:
        if number < count and kernel.operands[number][1] == "u":
            met[number] = min(phase, met.get(number, phase))

    for phase, numbers in enumerate(analysis.needed):
        for number in numbers:
            for s in kernel.nodes[number - count][1]:
                meet(s, phase)
    for number, (_, sources) in enumerate(kernel.nodes, count):
        if kernel.reduction(number) is not None:
            meet(sources[0], analysis.phase[number] - (analysis.kind[number] == "row"))
    for i, (result, pattern) in enumerate(kernel.results):
        if pattern == "u":
            met[count + i] = analysis.phase[result]
            meet(result, analysis.phase[result])
    return met
