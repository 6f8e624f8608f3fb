"""`Program`: what a backend compiles: a graph of entries that it claims, for one device."""

from __future__ import annotations

from typing import final

from proa.compile.backend import Device
from proa.graph.graph import Graph
from proa.graph.template import Template


@final
class Program:
    """`graph` after all passes; `donated` inputs may be overwritten. `numerics` is "strict", or
    "fast": then products and sums may be contracted. `template`: the graph is that of its sample,
    and the program may be asked to run at other sizes."""

    __slots__ = ("graph", "device", "donated", "numerics", "template")

    def __init__(
        self, graph: Graph, device: Device, donated: frozenset[int] = frozenset(),
        numerics: str = "strict", template: Template | None = None,
    ) -> None:  # fmt: skip
        self.graph = graph
        self.device = device
        self.donated = donated
        self.numerics = numerics
        self.template = template

    def last_uses(self) -> list[tuple[int, ...]]:
        """For each step the slots that nothing reads after it."""
        kept = set(self.graph.outputs)
        seen = set(kept)
        frees: list[tuple[int, ...]] = []
        slot = len(self.graph.slot_specs())
        for step in reversed(self.graph.steps):
            slot -= len(step.entry.outs)
            mine = [s for s in dict.fromkeys(step.slots) if s not in seen]
            mine += [s for s in range(slot, slot + len(step.entry.outs)) if s not in seen]
            frees.append(tuple(mine))
            seen.update(mine)
        return frees[::-1]
