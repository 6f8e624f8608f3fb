"""`Program`: what a backend compiles: a graph of entries that it claims, for one device."""

from __future__ import annotations

from typing import final

from proa.compile.backend import Device
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.template import Template
from proa.ops.control import graphs_of, is_control


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

    def peak_bytes(self) -> int:
        """The largest sum of live results, constants and inputs not counted."""
        specs = self.graph.slot_specs()
        live = peak = 0
        inputs = self.graph.first_step_slot
        for step, frees in zip(self.graph.steps, self.last_uses(), strict=True):
            live += sum(s.nbytes for s in step.entry.outs)
            peak = max(peak, live + self._inside(step.entry))
            live -= sum(specs[s].nbytes for s in frees if s >= inputs)
        return peak

    def _inside(self, entry: Entry) -> int:
        """The same of one round of control flow: the graph that needs most, and its results."""
        if not is_control(entry):
            return 0
        return max([Program(g, self.device).peak_bytes() for g in graphs_of(entry)])
