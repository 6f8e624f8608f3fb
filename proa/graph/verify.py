"""A graph is well formed: checked between passes under test."""

from __future__ import annotations

from proa.errors import ProaError, message
from proa.graph.graph import Graph, graphs_in


def verify(graph: Graph) -> None:
    """Slots are defined before use, specs agree with entries, nothing carries a gradient bit; so
    in the graphs among parameters."""
    stack, seen = [graph], {graph}
    while stack:
        one = stack.pop()
        _verify(one)
        inner = [g for step in one.steps for g in graphs_in(step.entry.params)]
        fresh = [g for g in dict.fromkeys(inner) if g not in seen]
        seen.update(fresh)
        stack += fresh


def _verify(graph: Graph) -> None:
    specs = [i.spec for i in graph.inputs] + [c.spec for c in graph.constants]
    for number, step in enumerate(graph.steps):
        if len(step.slots) != len(step.entry.ins):
            raise ProaError(_at(number, f"{len(step.slots)} operands", f"{len(step.entry.ins)}"))
        for slot, expected in zip(step.slots, step.entry.ins, strict=True):
            if not 0 <= slot < len(specs):
                raise ProaError(_at(number, f"slot {slot}", f"one of {len(specs)} made before"))
            if specs[slot] is not expected:
                raise ProaError(_at(number, f"slot {slot} of {specs[slot]}", f"{expected}"))
        fresh = step.entry.primitive.output_specs(step.entry.ins, step.entry.params)
        if fresh != step.entry.outs:
            raise ProaError(_at(number, f"results {step.entry.outs}", f"{fresh}"))
        specs += step.entry.outs
    for slot in graph.outputs:
        if not 0 <= slot < len(specs):
            raise ProaError(message("verify", f"output slot {slot}", f"below {len(specs)}"))
    if any(s.grad for s in specs):
        raise ProaError(message("verify", "a spec with a gradient bit", "plain specs"))


def _at(number: int, given: str, expected: str) -> str:
    return message(f"verify step {number}", given, expected)
