"""Exact simplification: identities that keep every bit for every input.

A rule sees a step and its operands and returns what stands for its result, or None. Algebraic
identities (x * 0, x + 0) are not exact and are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proa.graph.build import Builder
from proa.graph.graph import Graph, Step
from proa.graph.rewrite import rebuild

Rule = Callable[[Step, tuple[Any, ...]], Any]


def simplify(graph: Graph) -> Graph:
    """Identities removed, equal steps merged, dead steps dropped."""
    return rebuild(graph, _one, merge=True)


def _one(builder: Builder, step: Step, operands: tuple[Any, ...]) -> Any:
    rule = RULES.get(step.entry.primitive.name)
    found = rule(step, operands) if rule is not None else None
    return None if found is None else (found,)


def _same_spec(step: Step, operands: tuple[Any, ...]) -> Any:
    """The operand, where nothing about it changes."""
    return operands[0] if step.entry.out is step.entry.ins[0] else None


def _permute(step: Step, operands: tuple[Any, ...]) -> Any:
    (axes,) = step.entry.params
    return operands[0] if axes == tuple(range(len(axes))) else None


def _slice(step: Step, operands: tuple[Any, ...]) -> Any:
    _, _, strides = step.entry.params
    return _same_spec(step, operands) if all(s == 1 for s in strides) else None


def _pad(step: Step, operands: tuple[Any, ...]) -> Any:
    return operands[0] if not any(map(any, step.entry.params)) else None


def _select(step: Step, operands: tuple[Any, ...]) -> Any:
    same = operands[1] is operands[2] and step.entry.out is step.entry.ins[1]
    return operands[1] if same else None


def _concatenate(step: Step, operands: tuple[Any, ...]) -> Any:
    return operands[0] if len(operands) == 1 else None


def _reduced(step: Step, operands: tuple[Any, ...]) -> Any:
    """max and min over no axes are the operand itself."""
    return operands[0] if step.entry.params == ((),) else None


RULES: Final[dict[str, Rule]] = {
    "reshape": _same_spec, "broadcast": _same_spec, "cast": _same_spec, "permute": _permute,
    "slice": _slice, "pad": _pad, "select": _select, "concatenate": _concatenate,
    "max": _reduced, "min": _reduced,
}  # fmt: skip
