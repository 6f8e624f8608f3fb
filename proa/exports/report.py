"""What an exported function comes to at given sizes: operations, arithmetic, memory."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple, final

from proa.compile.watch import operations_of
from proa.graph.entry import Entry
from proa.graph.graph import Graph, graphs_in
from proa.ops.control import is_control, scan
from proa.ops.expand import expansion

UNITS: Final = ("", "K", "M", "G", "T", "P", "E")


@final
class Report(NamedTuple):
    """Of one call.

    Arguments:
        operations: how often each is recorded, those of graphs inside included.
        flops: elementary operations, in those of float32, a multiply-add being two; a loop whose
            rounds data decides counts as one round, a branch as the dearest.
        has_loops: whether there are such loops.
        result_bytes: of all results; `live_bytes`: of those that are needed at one time at most,
            if each step runs by itself.
    """

    operations: dict[str, int]
    flops: float
    has_loops: bool
    result_bytes: int
    live_bytes: int


def report(graph: Graph) -> Report:
    """The report of a graph with sizes."""
    names: Counter[str] = Counter()
    stack = [graph]
    while stack:
        one = stack.pop()
        names.update([s.entry.primitive.name for s in one.steps])
        stack += [g for s in one.steps for g in graphs_in(s.entry.params)]
    outs = [of.nbytes for step in graph.steps for of in step.entry.outs]
    ordered = dict(sorted(names.items(), key=lambda row: (-row[1], row[0])))
    return Report(ordered, flops_of(graph), "loop" in names, sum(outs), _live(graph))


def flops_of(graph: Graph) -> float:
    """Those of all steps."""
    found: float | None = graph.memo.get("flops")
    if found is None:
        found = graph.memo["flops"] = sum([_of_entry(step.entry) for step in graph.steps])
    return found


def _of_entry(entry: Entry) -> float:
    inner = expansion(entry)
    if inner is not None:
        return flops_of(inner)
    if not is_control(entry):
        return operations_of(entry)
    each = [flops_of(g) for g in graphs_in(entry.params)]
    if entry.primitive is scan:
        return each[0] * float(entry.named_params["length"])
    return max(each) if entry.primitive.name == "branch" else sum(each)


def _live(graph: Graph) -> int:
    """The most bytes of results that are needed at one time."""
    last = dict.fromkeys(graph.outputs, len(graph.steps))
    for number in range(len(graph.steps) - 1, -1, -1):
        for slot in graph.steps[number].slots:
            last.setdefault(slot, number)
    specs, slot = graph.slot_specs(), graph.first_step_slot
    dying: dict[int, int] = {}
    live = most = 0
    for number, step in enumerate(graph.steps):
        for _ in step.entry.outs:
            end = max(last.get(slot, number), number)
            dying[end] = dying.get(end, 0) + specs[slot].nbytes
            live += specs[slot].nbytes
            slot += 1
        most = max(most, live)
        live -= dying.get(number, 0)
    return most


def short(number: float, unit: str = "") -> str:
    """In thousands, millions, ... with three digits: `5.09 M`, `314 KB`."""
    size, place = float(number), 0
    while size >= 999.5 and place < len(UNITS) - 1:
        size, place = size / 1000, place + 1
    text = f"{size:.3g}" if size < 999.5 else f"{size:.0f}"
    return f"{text} {UNITS[place]}{unit}".rstrip()
