"""Reverse mode: the pushforward, transposed.

`pullback(entry, ...)` is made once for each entry and kept with it: its tangent rule is recorded,
the part that is linear in the tangents is walked backwards, each linear step replaced by its
transpose. `reverse` strings pullbacks together over a whole graph.

The cotangents of a value that is used more than once are added in the reverse order of recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from proa.errors import GradientError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph, Step
from proa.graph.rewrite import constant_in, splice, sweep
from proa.graph.spec import Spec
from proa.ops.expand import COMPOSITE, Flattener, composite, expansion, flat
from proa.ops.movement import zeros
from proa.ops.primitive import REGISTRY, Primitive
from proa.transforms.jvp import add_tangents, pushforward


class Pullback(NamedTuple):
    """The graph (operands, results, cotangents given) -> cotangents, and whose they are."""

    graph: Graph
    operands: tuple[int, ...]
    residuals: tuple[int, ...]


def pullback(entry: Entry, wanted: tuple[int, ...], given: tuple[bool, ...]) -> Pullback:
    """Cotangents of the operands `wanted` from those of the results that are `given`."""
    return entry.once((wanted, given), lambda e: _pullback(e, wanted, given))  # type: ignore[no-any-return]


def _pullback(entry: Entry, wanted: tuple[int, ...], given: tuple[bool, ...]) -> Pullback:
    builder = Builder(merge=True)
    sink = Flattener(builder)
    with use_sink(sink):
        operands = [builder.input(s) for s in entry.ins]
        results = [builder.input(s) for s in entry.outs]
        cts = [builder.input(s) if g else None for s, g in zip(entry.outs, given, strict=True)]
        base, slots = without_saving(entry)
        forward = _seed(builder, sink, base, slots, operands, results)
        count = len(base.outs)
        found = _cotangents(base, operands, results[:count], cts[:count], wanted)
    kept = tuple([i for i in wanted if found[i] is not None])
    graph = builder.graph([found[i] for i in kept])
    return Pullback(graph, kept, _residuals(builder, graph, forward))


def _cotangents(entry: Entry, operands: Any, results: Any, cts: Any, wanted: Any) -> list[Any]:
    primitive = entry.primitive
    if all(ct is None for ct in cts):
        return [None] * len(operands)
    if primitive.pullback is not None:
        return list(primitive.pullback(operands, results, cts, **entry.named_params))
    if primitive.reverse is not None:
        return list(primitive.reverse(entry, operands, results, cts, wanted))
    graph = expansion(entry)
    if graph is not None and primitive.jvp is None and primitive.push is None:
        return reverse(graph, operands, cts, wanted, results)
    return _transposed(entry, operands, results, cts, wanted)


def _transposed(entry: Entry, operands: Any, results: Any, cts: Any, wanted: Any) -> list[Any]:
    """The pushforward's linear part, walked backwards."""
    graph, present = pushforward(entry, wanted)
    graph = flat(graph)
    cts = [ct for ct, p in zip(cts, present, strict=True) if p]
    fixed = len(operands) + len(results)
    inputs = [*operands, *results, *([None] * len(wanted))]
    found = transpose(graph, inputs, cts, range(fixed, fixed + len(wanted)))
    spread: list[Any] = [None] * len(operands)
    for i, ct in zip(wanted, found, strict=True):
        spread[i] = ct
    return spread


def transpose(graph: Graph, inputs: Sequence[Any], cts: Sequence[Any], linear: Any) -> list[Any]:
    """For a graph that is linear in the inputs `linear` (given as None): their cotangents."""
    sink = current_sink()
    deferred: list[tuple[Step, tuple[Any, ...], int]] = []
    slot = graph.first_step_slot

    def one(step: Step, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal slot
        first, slot = slot, slot + len(step.entry.outs)
        if all(o is not None for o in operands):
            return tuple(sink.emit(step.entry, tuple([o.value for o in operands])))
        deferred.append((step, operands, first))
        return (None,) * len(step.entry.outs)

    constants = [constant_in(sink, c) for c in graph.constants]
    sweep(graph, inputs, one, constants)
    total: dict[int, Any] = {}
    for o, ct in zip(graph.outputs, cts, strict=True):
        total[o] = add_tangents(total.get(o), ct)
    for step, operands, first in reversed(deferred):
        mine = [total.pop(first + i, None) for i in range(len(step.entry.outs))]
        if all(ct is None for ct in mine):
            continue
        for i, operand in enumerate(operands):
            if operand is None:
                ct = _transpose_step(step.entry, mine, operands, i)
                if ct is not None:
                    total[step.slots[i]] = add_tangents(total.get(step.slots[i]), ct)
    return [total.get(i) for i in linear]


def _transpose_step(entry: Entry, cts: Any, operands: Any, index: int) -> Any:
    rule = entry.primitive.transpose
    if rule is None:
        raise GradientError(message("transpose", entry.primitive.name, "a linear operation"))
    return rule(entry, tuple(cts), operands, index)


def reverse(
    graph: Graph,
    inputs: Sequence[Any],
    cts: Sequence[Any],
    wanted: Sequence[int],
    known: Sequence[Any] | None = None,
    values: Sequence[Any] | None = None,
    watch: Any = None,
) -> list[Any]:
    """Cotangents of a graph's inputs, emitted into the current sink.

    `known` are its results where they exist already; `values` all its slots, where they do.
    `watch(slot, ct)` sees each step result's cotangent when it is complete, and may replace it.
    """
    sink = current_sink()
    slots = list(values) if values is not None else _forward(graph, inputs, known)
    reached = _reached(graph, set(wanted))
    total: dict[int, Any] = {}
    for o, ct in zip(graph.outputs, cts, strict=True):
        if ct is not None and o in reached:
            total[o] = add_tangents(total.get(o), ct)
    end = len(slots)
    for step in reversed(graph.steps):
        first = end - len(step.entry.outs)
        mine = [total.pop(s, None) for s in range(first, end)]
        if watch is not None:
            mine = [ct if ct is None else watch(first + i, ct) for i, ct in enumerate(mine)]
        if any(ct is not None for ct in mine):
            _pull_step(sink, step, slots, slots[first:end], mine, reached, total)
        end = first
    found: list[Any] = [None] * len(graph.inputs)
    for i in wanted:
        found[i] = total.get(i)
    return found


def _pull_step(
    sink: Any, step: Step, slots: Any, outs: Any, cts: Any, reached: Any, total: Any
) -> None:
    entry = step.entry
    sink.place(step.scope, step.where)  # what is computed for a step stands at its line
    wanted = tuple(
        [i for i, s in enumerate(step.slots) if s in reached and entry.ins[i].dtype.is_inexact]
    )
    rule = pullback(entry, wanted, tuple([ct is not None for ct in cts]))
    operands = [slots[s] for s in step.slots]
    found = splice(sink, rule.graph, [*operands, *outs, *[ct for ct in cts if ct is not None]])
    for i, ct in zip(rule.operands, found, strict=True):
        total[step.slots[i]] = add_tangents(total.get(step.slots[i]), ct)


def _forward(graph: Graph, inputs: Sequence[Any], known: Sequence[Any] | None) -> list[Any]:
    """The value of every slot; results that are known already are not emitted again."""
    sink = current_sink()
    have = dict(zip(graph.outputs, known, strict=True)) if known is not None else {}
    slot = graph.first_step_slot

    def one(step: Step, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal slot
        first, slot = slot, slot + len(step.entry.outs)
        mine = [have.get(s) for s in range(first, slot)]
        if all(v is not None for v in mine):
            return tuple(mine)
        return tuple(sink.emit(step.entry, tuple([o.value for o in operands])))

    constants = [constant_in(sink, c) for c in graph.constants]
    return sweep(graph, inputs, one, constants)


def _reached(graph: Graph, wanted: set[int]) -> set[int]:
    """The float slots that depend on the wanted inputs."""
    reached = set(wanted)
    slot = graph.first_step_slot
    for step in graph.steps:
        hit = any(s in reached for s in step.slots)
        for of in step.entry.outs:
            if hit and of.dtype.is_inexact:
                reached.add(slot)
            slot += 1
    return reached


# Residuals: what a composite keeps when its forward pass is computed before its backward pass.


def _saving_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    return params["graph"].output_specs()


saving = Primitive(
    "saving", COMPOSITE, params=("name", "given", "graph", "steps"), rule=_saving_rule,
    expand=lambda *operands, graph, **rest: tuple(splice(current_sink(), graph, operands)),
    retained=True,
    doc="A composite that also returns the interior results which its pullback reads.",
)  # fmt: skip


def saving_entry(entry: Entry, wanted: tuple[int, ...]) -> Entry:
    """The same entry with its residuals as further results; itself if it has none."""
    return entry.once(("saving", wanted), lambda e: _saving_entry(e, wanted))  # type: ignore[no-any-return]


def _saving_entry(entry: Entry, wanted: tuple[int, ...]) -> Entry:
    graph = expansion(entry)
    if graph is None or entry.primitive is saving:
        return entry
    given = tuple([s.dtype.is_inexact for s in entry.outs])
    try:
        steps = pullback(entry, wanted, given).residuals
    except GradientError:  # raised again if somebody asks for the derivative
        return entry
    if not steps:
        return entry
    graph = flat(graph)
    first = graph.first_step_slot
    slots: list[int] = []
    for i, step in enumerate(graph.steps):
        if i in steps:
            slots += range(first, first + len(step.entry.outs))
        first += len(step.entry.outs)
    full = Graph(graph.inputs, graph.steps, graph.outputs + tuple(slots), graph.constants)
    params = (entry.primitive.name, entry.params, full, steps)
    return intern_entry(saving.table, saving, params, entry.ins)


def without_saving(entry: Entry) -> tuple[Entry, tuple[int, ...]]:
    """The entry that a saving one stands for, and the steps whose results it saves."""
    if entry.primitive is not saving:
        return entry, ()
    name, given, _, steps = entry.params
    primitive = REGISTRY[name]
    return intern_entry(primitive.table, primitive, given, entry.ins), steps


def _seed(
    builder: Builder, sink: Any, entry: Entry, saved: tuple[int, ...], operands: Any, results: Any
) -> dict[int, int]:
    """Emits a composite's forward pass first, so that a pullback which computes a part of it
    again finds it; parts that were saved are the saved results. Returns builder step -> step."""
    graph = expansion(entry)
    if graph is None:
        return {}
    graph = flat(graph)
    rest = iter(results[len(entry.outs) :])
    number: dict[int, int] = {}
    index = -1

    def one(step: Step, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal index
        index += 1
        if index in saved:
            outs = tuple([next(rest) for _ in step.entry.outs])
            key = (step.entry, tuple([v.index for v in given]))
            builder.known[key] = outs
            return outs
        before = len(builder.steps)
        outs = builder.emit(step.entry, given)
        if len(builder.steps) > before:
            number[before] = index
        return outs

    constants = [constant_in(builder, c) for c in graph.constants]
    sweep(graph, operands, one, constants)
    return number


def _residuals(builder: Builder, graph: Graph, forward: dict[int, int]) -> tuple[int, ...]:
    """Which steps of the forward pass the pullback reads and that are dear to compute again."""
    if not forward:
        return ()
    kept = builder.kept_steps
    dear = [b for b in forward if kept[b] and builder.steps[b][0].primitive.retained]
    return tuple([forward[b] for b in dear])


# The backward pass as one operation.


def _expand_backward(*operands: Any, graph: Graph, wanted: tuple[int, ...]) -> Any:
    """Operands: every slot of the tape's graph, then the cotangents of its outputs."""
    count = len(operands) - len(graph.outputs)
    slots, cts = operands[:count], operands[count:]
    inputs = slots[: len(graph.inputs)]
    found = reverse(graph, inputs, cts, wanted, values=slots)
    return tuple(
        [
            zeros(inputs[i].spec.shape, inputs[i].spec) if found[i] is None else found[i]
            for i in wanted
        ]
    )


def _backward_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    return tuple([params["graph"].inputs[i].spec for i in params["wanted"]])


backward = composite(
    "backward", _expand_backward, params=("graph", "wanted"),
    doc="The cotangents of a tape's inputs. Expanded once for each structure.",
)  # fmt: skip
backward.rule = _backward_rule


def gradient_graph(graph: Graph, wanted: tuple[int, ...]) -> Graph:
    """(inputs, cotangents of outputs) -> cotangents of the wanted inputs, as one graph."""
    builder = Builder(graph.inputs)
    with use_sink(builder):
        inputs = builder.input_values()
        cts = [builder.input(s) for s in graph.output_specs()]
        found = reverse(graph, inputs, cts, wanted)
        outs = [
            zeros(inputs[i].spec.shape, inputs[i].spec) if found[i] is None else found[i]
            for i in wanted
        ]
    return builder.graph(outs)
