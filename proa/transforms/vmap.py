"""Batching: one more letter, in front, through a whole graph."""

from __future__ import annotations

from typing import Any

from proa.errors import ProaError, message
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Step
from proa.graph.rewrite import constant_in, sweep
from proa.graph.spec import spec
from proa.ops.expand import expansion
from proa.ops.families.movement import repeated
from proa.ops.primitive import apply
from proa.ops.structure import call


def batched_graph(
    graph: Graph, flags: tuple[bool, ...], count: int, outs: tuple[bool, ...] | None = None
) -> Graph:
    """The graph that maps `graph` over the first axis of the inputs that are flagged; every
    output has that axis, of length `count`. With `outs` those flagged there have it: no others
    may depend on the flagged inputs."""
    outs = (True,) * len(graph.outputs) if outs is None else outs
    key = ("vmap", flags, count, outs)
    if key not in graph.memo:
        graph.memo[key] = _batched(graph, flags, count, outs)
    found: Graph = graph.memo[key]
    return found


def batched_flags(graph: Graph, flags: tuple[bool, ...], count: int) -> tuple[bool, ...]:
    """Which outputs depend on the inputs that are flagged."""
    key = ("vmap flags", flags, count)
    if key not in graph.memo:
        graph.memo[key] = tuple([f for _, f in _mapped(Builder(), graph, flags, count)])
    found: tuple[bool, ...] = graph.memo[key]
    return found


def _batched(graph: Graph, flags: tuple[bool, ...], count: int, outs: Any) -> Graph:
    builder = Builder()
    found = _mapped(builder, graph, flags, count)
    with use_sink(builder):
        return builder.graph(
            [
                repeated(v, count) if wanted and not f else v
                for (v, f), wanted in zip(found, outs, strict=True)
            ]
        )


def _mapped(
    builder: Builder, graph: Graph, flags: tuple[bool, ...], count: int
) -> list[tuple[Any, bool]]:
    """The outputs, and which of them have the axis."""
    with use_sink(builder):
        inputs = []
        for given, flag in zip(graph.inputs, flags, strict=True):
            of = given.spec
            shape = (count, *of.shape) if flag else of.shape
            inputs.append((builder.input(spec(shape, of.dtype, of.weak), given.role), flag))
        constants = [(constant_in(builder, c), False) for c in graph.constants]
        slots = sweep(
            graph, inputs, lambda step, operands: _step(builder, step, operands), constants
        )
    return [slots[o] for o in graph.outputs]


def _expanded(step: Step, values: list[Any], flags: list[bool]) -> Any:
    """A composite without a rule for these operands: its expansion, batched, as one call."""
    graph = expansion(step.entry)
    if graph is None:
        given = step.entry.primitive.name
        raise ProaError(message("vmap", given, "an operation with a batching rule"))
    count = next(v.spec.shape[0] for v, f in zip(values, flags, strict=True) if f)
    return apply(call, values, graph=batched_graph(graph, tuple(flags), count))


def _step(builder: Builder, step: Step, operands: tuple[Any, ...]) -> tuple[Any, ...]:
    builder.scope, builder.where = step.scope, step.where
    values, flags = [o[0] for o in operands], [o[1] for o in operands]
    if not any(flags):
        return tuple([(v, False) for v in builder.emit(step.entry, tuple(values))])
    primitive = step.entry.primitive
    rule = primitive.batch or primitive.family.batch
    outs = rule(primitive, values, flags, step.entry.named_params) if rule is not None else None
    if outs is None:
        outs = _expanded(step, values, flags)
    outs = outs if isinstance(outs, tuple) else (outs,)
    return tuple([(v, True) for v in outs])
