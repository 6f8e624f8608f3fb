"""Control flow under transforms: each rule gives the same primitive on transformed graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from proa.errors import GradientError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph
from proa.graph.rewrite import splice
from proa.graph.spec import Spec, spec
from proa.ops.arithmetic import select_
from proa.ops.control import branch, loop, scan
from proa.ops.families.movement import repeated
from proa.ops.movement import permute, reshape, zeros
from proa.ops.primitive import REGISTRY, Primitive, apply
from proa.transforms.jvp import add_tangents, push
from proa.transforms.reverse import reverse
from proa.transforms.vmap import batched_flags, batched_graph

Groups = tuple[range, ...]


def _applied(primitive: Primitive, operands: Sequence[Any], **params: Any) -> list[Any]:
    outs = apply(primitive, operands, **params)
    return list(outs) if isinstance(outs, tuple) else [outs]


def _or_zeros(found: Any, of: Spec) -> Any:
    return zeros(of.shape, of) if found is None else found


def _moves(of: Spec) -> bool:
    """Whether a value has a tangent: what is made of Python numbers alone has none."""
    return of.dtype.is_inexact and not of.weak


def _groups(entry: Entry) -> tuple[Groups, Groups]:
    """Inputs of the graphs by kind (constants, carry, xs), and their results (carry, ys)."""
    if entry.primitive is branch:
        return (range(len(entry.ins) - 1),), (range(len(entry.outs)),)
    if entry.primitive is loop:
        carry = len(entry.outs)
        first = len(entry.ins) - carry
        return (range(first), range(first, first + carry)), (range(carry),)
    _, _, _, first, carry = entry.params
    last = first + carry
    ins = range(first), range(first, last), range(last, len(entry.ins))
    return ins, (range(carry), range(carry, len(entry.outs)))


# Forward mode: tangents stand behind the values of their kind.


def _forward(
    entry: Entry, operands: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    index = operands[:1] if entry.primitive is branch else []
    values, moved = list(operands[len(index) :]), list(tangents[len(index) :])
    ins, outs = _groups(entry)
    if entry.primitive is not branch:
        for i in ins[1]:  # a carry that has no tangent yet may get one on its way
            of = values[i].value.spec
            if _moves(of):
                moved[i] = _or_zeros(moved[i], of)
    given = tuple([i for i, t in enumerate(moved) if t is not None])
    inexact = [_moves(s) for s in entry.outs]
    params = dict(entry.named_params)
    if entry.primitive is branch:
        params["graphs"] = tuple([_pushed(g, ins, given, outs) for g in params["graphs"]])
    else:
        params["body"] = _pushed(params["body"], ins, given, outs)
    if entry.primitive is loop:
        params["condition"] = _pushed(params["condition"], ins, given, (range(1),))
    if entry.primitive is scan:
        params["constants"] += len([i for i in ins[0] if i in given])
        params["carry"] += len([i for i in ins[1] if i in given])
    found = iter(_applied(entry.primitive, [*index, *_beside(ins, values, moved)], **params))
    results, pushed = [None] * len(inexact), [None] * len(inexact)
    for group in outs:
        for o in group:
            results[o] = next(found)
        for o in [o for o in group if inexact[o]]:
            pushed[o] = next(found)
    return results, pushed


def _beside(groups: Groups, values: Sequence[Any], moved: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for group in groups:
        found += [values[i] for i in group]
        found += [moved[i] for i in group if moved[i] is not None]
    return found


def _pushed(graph: Graph, ins: Groups, given: tuple[int, ...], outs: Groups) -> Graph:
    """The graph on values and the tangents that are given; a tangent for each float result."""
    builder = Builder()
    with use_sink(builder):
        values: list[Any] = [None] * len(graph.inputs)
        moved: list[Any] = [None] * len(graph.inputs)
        for group in ins:
            for i in group:
                values[i] = builder.input(graph.inputs[i].spec)
            for i in [i for i in group if i in given]:
                moved[i] = builder.input(graph.inputs[i].spec)
        results, pushed = push(graph, values, moved)
        specs = graph.output_specs()
        tangents = [
            _or_zeros(t, s) if _moves(s) else None for t, s in zip(pushed, specs, strict=True)
        ]
        return builder.graph([v.value for v in _beside(outs, results, tangents)])


# Reverse mode.


def _reverse_branch(
    entry: Entry, operands: Any, results: Any, cts: Any, wanted: tuple[int, ...]
) -> list[Any]:
    """The branch of gradients at the same index; each computes its forward pass again."""
    given = [ct for ct in cts if ct is not None]

    def gradient(graph: Graph) -> Graph:
        builder = Builder(graph.inputs)
        with use_sink(builder):
            values = builder.input_values()
            theirs = [None if ct is None else builder.input(ct.value.spec) for ct in cts]
            found = reverse(graph, values, theirs, [i - 1 for i in wanted])
            return builder.graph(
                [_or_zeros(found[i - 1], entry.ins[i]).value for i in wanted]
            )  # fmt: skip

    graphs = tuple([gradient(g) for g in entry.params[0]])
    return _spread(entry, wanted, _applied(branch, [*operands, *given], graphs=graphs))


def _spread(entry: Entry, wanted: Iterable[int], found: Iterable[Any]) -> list[Any]:
    spread: list[Any] = [None] * len(entry.ins)
    for i, ct in zip(wanted, found, strict=True):
        spread[i] = ct
    return spread


def _reverse_loop(entry: Entry, *rest: Any) -> list[Any]:
    hint = "max_steps=..., pa.scan, pa.fori_loop with Python numbers, or forward mode (pa.jvp)"
    given = "a loop of a length that is not known"
    raise GradientError(message("while_loop", given, "a bound for reverse mode", hint))


def _reverse_scan(
    entry: Entry, operands: Any, results: Any, cts: Any, wanted: tuple[int, ...]
) -> list[Any]:
    """A scan from the other end. It carries the cotangents of constants, to which each step adds,
    and those of the carry; it reads the carry of every step, and computes the step again."""
    body, length, backwards, first, carry = entry.params
    last = first + carry
    sums = [i for i in wanted if i < first]
    moving = [i for i in range(first, last) if _moves(entry.ins[i])]
    rows = [i for i in wanted if i >= last]
    given = [o for o, ct in enumerate(cts) if o >= carry and ct is not None]
    graph, used = entry.once(
        ("backwards", tuple(sums), tuple(rows), tuple(given)),
        lambda e: _backwards(body, first, last, sums, moving, rows, given),
    )
    stacks = _stacks(entry, operands, results, [i for i in used if first <= i < last])
    constants = [operands[i] for i in used if i < first]
    start = [zeros(entry.ins[i].shape, entry.ins[i]) for i in sums]
    start += [_or_zeros(cts[i - first], entry.ins[i]) for i in moving]
    xs = [stacks[i] if i < last else operands[i] for i in used if i >= first]
    xs += [cts[o] for o in given]
    found = _applied(
        scan, [*constants, *start, *xs], body=graph, length=length, reverse=not backwards,
        constants=len(constants), carry=len(start),
    )  # fmt: skip
    return _spread(entry, [*sums, *moving, *rows], found)


def _backwards(
    body: Graph, first: int, last: int, sums: list[int], moving: list[int], rows: list[int],
    given: list[int],
) -> tuple[Graph, list[int]]:  # fmt: skip
    """One step of the scan from the other end, and which inputs of the body it reads. Inputs:
    those, with the cotangents that are carried in their middle, then the cotangents of ys."""
    builder = Builder()
    with use_sink(builder):
        values = [builder.input(i.spec) for i in body.inputs]
        carried = [builder.input(body.inputs[i].spec) for i in (*sums, *moving)]
        specs = body.output_specs()
        cts: list[Any] = [None] * len(specs)
        for i, ct in zip(moving, carried[len(sums) :], strict=True):
            cts[i - first] = ct
        for o in given:
            cts[o] = builder.input(specs[o])
        found = reverse(body, values, cts, [*sums, *moving, *rows])
        outs = [add_tangents(c, found[i]) for i, c in zip(sums, carried, strict=False)]
        outs += [_or_zeros(found[i], body.inputs[i].spec) for i in (*moving, *rows)]
        whole = builder.graph([v.value for v in outs])
    slots = {s for step in whole.steps for s in step.slots} | set(whole.outputs)
    count = len(body.inputs)
    used = [i for i in range(count) if i in slots]
    order = [i for i in used if i < first]
    order += range(count, count + len(carried))
    order += [i for i in used if i >= first]
    order += range(count + len(carried), len(whole.inputs))
    return rewired(whole, [whole.inputs[i].spec for i in order], order), used


def rewired(graph: Graph, specs: Sequence[Spec], at: Sequence[int]) -> Graph:
    """The graph with inputs of these specs, of which number k is the graph's input `at[k]`; what
    is not among them must not be read."""
    builder = Builder()
    inputs: list[Any] = [None] * len(graph.inputs)
    for of, i in zip(specs, at, strict=True):
        made = builder.input(of)
        if i >= 0:
            inputs[i] = made
    with use_sink(builder):
        return builder.graph(splice(builder, graph, inputs))


def _stacks(entry: Entry, operands: Any, results: Any, wanted: list[int]) -> dict[int, Any]:
    """The carry of every step, by input of the body: from the results where the body gives it,
    else by running once more."""
    body, length, backwards, first, carry = entry.params
    places = [body.outputs.index(i, carry) if i in body.outputs[carry:] else -1 for i in wanted]
    if -1 in places:
        kept = keeping(entry, tuple(wanted))
        results = _applied(scan, operands, **kept.named_params)
        outs = kept.params[0].outputs
        places = [outs.index(i, carry) for i in wanted]
    return {i: results[o] for i, o in zip(wanted, places, strict=True)}


def keeping(entry: Entry, wanted: tuple[int, ...] | None = None) -> Entry:
    """The scan with further ys: the carry of every step, where its backward pass reads it."""
    body, *rest = entry.params
    first, carry = rest[2:]
    if wanted is None:
        floats = [i for i, s in enumerate(entry.ins) if _moves(s)]
        sums, rows = [i for i in floats if i < first], [i for i in floats if i >= first + carry]
        moving = [i for i in floats if first <= i < first + carry]
        outs = [o for o, s in enumerate(entry.outs) if o >= carry and _moves(s)]
        used = _backwards(body, first, first + carry, sums, moving, rows, outs)[1]
        wanted = tuple([i for i in used if first <= i < first + carry])
    outputs = body.outputs + tuple([i for i in wanted if i not in body.outputs[carry:]])
    full = Graph(body.inputs, body.steps, outputs, body.constants)
    return intern_entry(scan.table, scan, (full, *rest), entry.ins)


# Batching.


def _batch_branch(primitive: Primitive, operands: Any, flags: Any, params: Any) -> Any:
    """At one index the branch of mapped graphs; at several all are computed, and one is taken."""
    count = _count(operands, flags)
    graphs = [batched_graph(g, tuple(flags[1:]), count) for g in params["graphs"]]
    if not flags[0]:
        return apply(branch, operands, graphs=tuple(graphs))
    index = operands[0]
    if not any(flags[1:]):
        graphs = params["graphs"]
    rows = [_graph_outs(g, operands[1:]) for g in graphs]
    if not any(flags[1:]):
        rows = [[repeated(v, count) for v in row] for row in rows]
    found = rows[-1]
    for i in range(len(rows) - 2, -1, -1):
        is_before = REGISTRY["le"](index, _number(i, index))
        found = [_selected(is_before, a, b) for a, b in zip(rows[i], found, strict=True)]
    return tuple(found)


def _graph_outs(graph: Graph, operands: Sequence[Any]) -> list[Any]:
    """The results of a graph as those of one call."""
    return _applied(REGISTRY["call"], operands, graph=graph)


def _number(number: int, like: Any) -> Any:
    return current_sink().number(number, spec((), like.value.spec.dtype))


def _selected(condition: Any, a: Any, b: Any) -> Any:
    """a where a condition on the first axis holds, else b."""
    shape = condition.value.spec.shape + (1,) * (a.value.spec.ndim - 1)
    return apply(select_, [apply(reshape, [condition], shape=shape), a, b])


def _count(operands: Any, flags: Any) -> int:
    count: int = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    return count


def _settled(body: Graph, flags: list[bool], carry: range, count: int) -> list[bool]:
    """Flags of the body's inputs when a carry that some step makes depend on the batch is flagged
    from the start."""
    while True:
        outs = batched_flags(body, tuple(flags), count)[: len(carry)]
        grown = [f or o for f, o in zip(flags[carry.start : carry.stop], outs, strict=True)]
        if grown == flags[carry.start : carry.stop]:
            return flags
        flags = [*flags[: carry.start], *grown, *flags[carry.stop :]]


def _all(operands: Sequence[Any], flags: Sequence[bool], now: Sequence[bool], count: int) -> Any:
    return [
        repeated(o, count) if n and not f else o
        for o, f, n in zip(operands, flags, now, strict=True)
    ]


def _batch_loop(primitive: Primitive, operands: Any, flags: Any, params: Any) -> Any:
    """Runs while any example does; those that are done stand still."""
    condition, body = params["condition"], params["body"]
    count = _count(operands, flags)
    first = len(operands) - len(body.outputs)
    carry = range(first, len(operands))
    now = _settled(body, list(flags), carry, count)
    if batched_flags(condition, tuple(now), count)[0]:
        now[first:] = [True] * len(carry)
        goes = batched_graph(condition, tuple(now), count)
        condition = _any_of(goes)
        body = _still(batched_graph(body, tuple(now), count), goes, first)
    else:
        condition = batched_graph(condition, tuple(now), count, (False,))
        body = batched_graph(body, tuple(now), count, tuple(now[first:]))
    outs = _applied(loop, _all(operands, flags, now, count), condition=condition, body=body)
    return tuple([o if f else repeated(o, count) for o, f in zip(outs, now[first:], strict=True)])


def _any_of(goes: Graph) -> Graph:
    builder = Builder(goes.inputs)
    with use_sink(builder):
        (found,) = splice(builder, goes, builder.input_values())
        return builder.graph([apply(REGISTRY["max"], [found], axes=(0,)).value])


def _still(body: Graph, goes: Graph, first: int) -> Graph:
    builder = Builder(body.inputs)
    with use_sink(builder):
        inputs = builder.input_values()
        (go,) = splice(builder, goes, inputs)
        new = splice(builder, body, inputs)
        outs = [_selected(go, a, b) for a, b in zip(new, inputs[first:], strict=True)]
        return builder.graph([v.value for v in outs])


def _batch_scan(primitive: Primitive, operands: Any, flags: Any, params: Any) -> Any:
    body, first, carry = params["body"], params["constants"], params["carry"]
    count, last = _count(operands, flags), first + carry
    now = _settled(body, list(flags), range(first, last), count)
    outs = batched_flags(body, tuple(now), count)
    outs = tuple(now[first:last]) + outs[carry:]
    mapped = batched_graph(body, tuple(now), count, outs)
    given = _all(operands, flags, now, count)
    given = [
        _swapped(o) if f and i >= last else o
        for i, (o, f) in enumerate(zip(given, now, strict=True))
    ]
    found = _applied(scan, given, **{**params, "body": mapped})
    return tuple([
        repeated(v, count) if not f else _swapped(v) if o >= carry else v
        for o, (v, f) in enumerate(zip(found, outs, strict=True))
    ])  # fmt: skip


def _swapped(x: Any) -> Any:
    """The first two axes exchanged: steps in front of examples, or the other way."""
    return apply(permute, [x], axes=(1, 0, *range(2, x.value.spec.ndim)))


for _primitive, _reverse, _batch in (
    (branch, _reverse_branch, _batch_branch),
    (loop, _reverse_loop, _batch_loop),
    (scan, _reverse_scan, _batch_scan),
):
    _primitive.forward, _primitive.reverse, _primitive.batch = _forward, _reverse, _batch
