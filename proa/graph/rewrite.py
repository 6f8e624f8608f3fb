"""Passes are forward sweeps that re-emit a graph into a Builder. The shared loop stands here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Step
from proa.graph.node import Value

StepRule = Callable[[Step, tuple[Any, ...]], tuple[Any, ...]]


def sweep(
    graph: Graph, inputs: Sequence[Any], rule: StepRule, constants: Sequence[Any]
) -> list[Any]:
    """Calls `rule(step, operands)` for each step in order; returns what every slot became."""
    slots: list[Any] = [*inputs, *constants]
    for step in graph.steps:
        slots += rule(step, tuple([slots[s] for s in step.slots]))
    return slots


def splice(sink: Any, graph: Graph, inputs: Sequence[Value]) -> list[Any]:
    """Emits `graph` into `sink` with these inputs; returns its outputs there. Lines and module
    paths that it knows go with it (those of a composite's expansion are its caller's)."""
    constants = [constant_in(sink, c) for c in graph.constants]

    def again(step: Step, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        sink.place(step.scope, step.where)
        outs: tuple[Any, ...] = sink.emit(step.entry, tuple([o.value for o in operands]))
        return outs

    slots = sweep(graph, inputs, again, constants)
    return [slots[o] for o in graph.outputs]


def constant_in(sink: Any, constant: Any) -> Any:
    """A graph's constant as a value of `sink`."""
    return sink.constant(constant.array, constant.spec)


def rebuild(
    graph: Graph, rule: Callable[[Builder, Step, tuple[Value, ...]], Any], merge: bool = False
) -> Graph:
    """A new graph from `rule(builder, step, operands)`, which returns the step's outputs or None
    to emit it as it is. Lines and module paths are carried over."""
    builder = Builder(graph.inputs, merge)

    def one(step: Step, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        builder.scope, builder.where = step.scope, step.where
        found = rule(builder, step, operands)
        return builder.emit(step.entry, operands) if found is None else tuple(found)

    with use_sink(builder):
        constants = [constant_in(builder, c) for c in graph.constants]
        slots = sweep(graph, builder.input_values(), one, constants)
    return builder.graph([slots[o] for o in graph.outputs])
