"""Forward mode: tangents pushed through a graph beside its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.errors import GradientError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.entry import Entry
from proa.graph.graph import Graph, Step
from proa.graph.rewrite import constant_in, sweep
from proa.ops.expand import composite, expansion
from proa.ops.movement import zeros
from proa.ops.primitive import apply

Tangents = list[Any]


def tangents_of(
    entry: Entry, operands: Sequence[Any], results: Sequence[Any], tangents: Sequence[Any]
) -> Tangents:
    """The tangents of an operation's results, emitted into the current sink; None is zero."""
    primitive = entry.primitive
    if not any(t is not None for t in tangents):
        return [None] * len(results)
    if primitive.push is not None:
        return list(primitive.push(entry, operands, results, tangents))
    if primitive.forward is not None:
        return list(primitive.forward(entry, operands, tangents)[1])
    if primitive.jvp is not None:
        return _by_rules(entry, operands, results, tangents)
    if primitive.linear == "all":
        filled = [
            zeros(o.value.spec.shape, o.value.spec) if t is None else t
            for o, t in zip(operands, tangents, strict=True)
        ]
        return [apply(primitive, filled, **entry.named_params)]
    if primitive.linear:
        return _by_linearity(entry, operands, tangents)
    graph = expansion(entry)
    if graph is not None:
        return push(graph, operands, tangents, results)[1]
    if primitive.differentiable is False or not any(s.dtype.is_inexact for s in entry.outs):
        return [None] * len(results)
    raise GradientError(message("jvp", primitive.name, "an operation with a derivative"))


def _by_rules(entry: Entry, operands: Any, results: Any, tangents: Any) -> Tangents:
    rules = entry.primitive.jvp
    rules = rules if isinstance(rules, tuple) else (rules,)
    params = entry.named_params
    total: Tangents = [None] * len(results)
    for rule, tangent in zip(rules, tangents, strict=False):
        if rule is None or tangent is None:
            continue
        found = rule(*operands, *results, tangent, **params)
        found = found if isinstance(found, tuple) else (found,)
        found += (None,) * (len(results) - len(found))
        total = [add_tangents(a, b) for a, b in zip(total, found, strict=True)]
    return total


def _by_linearity(entry: Entry, operands: Any, tangents: Any) -> Tangents:
    total = None
    for i in entry.primitive.linear:
        if tangents[i] is not None:
            moved = [tangents[i] if j == i else o for j, o in enumerate(operands)]
            total = add_tangents(total, apply(entry.primitive, moved, **entry.named_params))
    if total is not None and not total.value.spec.dtype.is_inexact:
        total = None
    return [total]


def add_tangents(a: Any, b: Any) -> Any:
    """a + b where None is zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def push(
    graph: Graph, inputs: Sequence[Any], tangents: Sequence[Any], known: Sequence[Any] | None = None
) -> tuple[list[Any], Tangents]:
    """Values and tangents of a graph's outputs, emitted into the current sink."""
    sink = current_sink()

    def one(step: Step, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        values, given = [o[0] for o in operands], [o[1] for o in operands]
        both = step.entry.primitive.forward
        if both is not None and any(t is not None for t in given):
            outs, moved = both(step.entry, values, given)  # it need not run twice
        else:
            outs = sink.emit(step.entry, tuple([v.value for v in values]))
            moved = tangents_of(step.entry, values, outs, given)
        return tuple(zip(outs, moved, strict=True))

    constants = [(constant_in(sink, c), None) for c in graph.constants]
    slots = sweep(graph, list(zip(inputs, tangents, strict=True)), one, constants)
    outs = [slots[o] for o in graph.outputs]
    return [o[0] for o in outs], [o[1] for o in outs]


def _expand_forward(*operands: Any, graph: Graph, given: tuple[int, ...]) -> Any:
    """Operands: every slot of the tape's graph, then the tangents of the inputs `given`."""
    count = len(operands) - len(given)
    slots = operands[:count]
    moved: list[Any] = [None] * count
    for i, t in zip(given, operands[count:], strict=True):
        moved[i] = t
    slot = graph.first_step_slot
    for step in graph.steps:
        end = slot + len(step.entry.outs)
        moved[slot:end] = tangents_of(
            step.entry,
            [slots[s] for s in step.slots],
            slots[slot:end],
            [moved[s] for s in step.slots],
        )
        slot = end
    return tuple(
        [
            zeros(slots[o].spec.shape, slots[o].spec) if moved[o] is None else moved[o]
            for o in graph.outputs
        ]
    )


def _forward_rule(primitive: Any, ins: Any, params: dict[str, Any]) -> Any:
    return params["graph"].output_specs()


forward = composite(
    "forward", _expand_forward, params=("graph", "given"),
    doc="The tangents of a tape's outputs. Expanded once for each structure.",
)  # fmt: skip
forward.rule = _forward_rule


def pushforward(entry: Entry, wanted: tuple[int, ...]) -> tuple[Graph, tuple[bool, ...]]:
    """The graph (operands, results, tangents of `wanted`) -> tangents, linear in the tangents;
    and which results have one."""
    builder = Builder()
    with use_sink(builder):
        operands = [builder.input(s) for s in entry.ins]
        results = [builder.input(s) for s in entry.outs]
        given: list[Any] = [None] * len(operands)
        for i in wanted:
            given[i] = builder.input(entry.ins[i])
        moved = tangents_of(entry, operands, results, given)
    return builder.graph([t for t in moved if t is not None]), tuple([t is not None for t in moved])
