"""The tape: what was recorded with a gradient, read back as one `backward` operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from proa.errors import GradientError, message
from proa.graph.entry import intern_entry
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.node import Node, Value, line_of
from proa.graph.spec import Spec
from proa.record.key import by_serial
from proa.record.live import SPENT, thread
from proa.transforms.reverse import backward

_FOUND: dict[tuple[Any, ...], Graph] = {}
_LIMIT = 2048


@final
class Tape:
    """Nodes between `targets` and `roots` in recording order, and the values of every slot."""

    __slots__ = ("nodes", "inputs", "graph", "values", "roots")

    def __init__(self, roots: Sequence[Value], targets: Sequence[Value] | None) -> None:
        self.roots = roots
        self.nodes = _walk(roots, targets)
        self.inputs, self.values, self.graph = _read(self.nodes, roots)


def stops(value: Value) -> bool:
    return value.leaf is not None and value.leaf.stops


def _walk(roots: Sequence[Value], targets: Sequence[Value] | None) -> list[Node]:
    """Nodes that carry a gradient from the targets (all leaves if None) to the roots."""
    ends = set(targets) if targets is not None else None
    for v in roots:
        if v.leaf is SPENT:
            raise GradientError(message("backward", "a result differentiated before",
                                        "a tape that was not consumed",
                                        "retain_graph=True in the first call"))  # fmt: skip
    seen: set[Node] = {v.node for v in roots if _continues(v, ends)}
    nodes = list(seen)
    for node in nodes:  # it grows meanwhile
        if node.spent:
            raise GradientError(
                message(
                    "backward",
                    f"a result recorded at {line_of(node.where)}, differentiated before",
                    "a tape that was not consumed", "retain_graph=True in the first call",
                )
            )  # fmt: skip
        for v in node.inputs:
            if v.spec.grad and v.node not in seen and _continues(v, ends):
                seen.add(v.node)
                nodes.append(v.node)
    nodes.sort(key=by_serial)
    return nodes if ends is None else _between(nodes, ends)


def _continues(value: Value, ends: set[Value] | None) -> bool:
    if not value.spec.grad or value.node is None:
        return False
    if ends is not None:
        return value not in ends and not (stops(value))
    return not stops(value)


def _between(nodes: list[Node], ends: set[Value]) -> list[Node]:
    """Only nodes that depend on the targets."""
    reached: set[Node] = set()
    kept = []
    for n in nodes:
        if any(v in ends or (v.node in reached and not stops(v)) for v in n.inputs):
            reached.add(n)
            kept.append(n)
    return kept


def _read(nodes: list[Node], roots: Sequence[Value]) -> tuple[list[Value], list[Value], Graph]:
    """The tape as a Graph, found again by its structure, and the value of each of its slots.

    In the key results of the tape are numbered from 0, what it reads from outside from -1 down.
    """
    leaf: dict[Value, int] = {}
    first: dict[Node, int] = {}
    made: list[Value | None] = []
    flat: list[Any] = []
    append = flat.append
    for n in nodes:
        append(n.entry)
        for v in n.inputs:
            start = first.get(v.node) if v.node is not None and v.spec.grad else None
            if start is None or (v.leaf is not None and v.leaf.stops):
                append(leaf.setdefault(v, ~len(leaf)))
            else:
                append(start + v.index)
                made[start + v.index] = v
        first[n] = len(made)
        made += [None] * (len(n.entry.outs) - len(n.saved))
        made += n.saved
    for v in roots:
        if v.node in first:
            append(first[v.node] + v.index)
            made[first[v.node] + v.index] = v
        else:
            append(leaf.setdefault(v, ~len(leaf)))
    leaves = list(leaf)
    flat += [v.spec.plain for v in leaves]
    graph = _FOUND.get(key := tuple(flat))
    if graph is None:
        graph = _make(nodes, leaves, flat, len(roots))
        if len(_FOUND) >= _LIMIT:
            _FOUND.clear()
        _FOUND[key] = graph
    return leaves, [*leaves, *_filled(first, made)], graph


def _filled(first: dict[Node, int], made: list[Value | None]) -> list[Value]:
    """Results that nothing on the tape reads get a value of their own, on the tape too: a
    derivative may read it, and be differentiated again. A node is on the tape because one of its
    results is read: one that has no other needs no look."""
    for n, start in first.items():
        if not n.entry.single:
            specs = None
            for i in range(len(n.entry.outs)):
                if made[start + i] is None:
                    specs = taped(n) if specs is None else specs
                    made[start + i] = Value(n, i, specs[i])
    return made  # type: ignore[return-value]


def taped(node: Node) -> tuple[Spec, ...]:
    """The specs of a node's results as they were recorded: the node keeps the plain entry."""
    if not any(v.spec.grad for v in node.inputs):
        return node.entry.outs
    primitive, specs = node.entry.primitive, tuple([v.spec for v in node.inputs])
    return intern_entry(primitive.table, primitive, node.entry.params, specs).outs


def _make(nodes: list[Node], leaves: list[Value], flat: list[Any], roots: int) -> Graph:
    """The Graph of a key: its inputs come first, so results are moved up by their number."""
    count = len(leaves)
    inputs = tuple([Input(v.spec.plain, Role.DATA) for v in leaves])
    numbers = iter([x for x in flat if type(x) is int])

    def slots(n: int) -> tuple[int, ...]:
        found = [next(numbers) for _ in range(n)]
        return tuple([~x if x < 0 else count + x for x in found])

    steps = tuple([Step(n.entry, slots(len(n.inputs)), n.scope, n.where) for n in nodes])
    return Graph(inputs, steps, slots(roots))


def record_backward(tape: Tape, cts: Sequence[Value], wanted: tuple[int, ...]) -> Sequence[Value]:
    """The cotangents of some inputs of the tape, recorded as one operation: values without
    handles."""
    if not wanted:
        return ()
    operands = (*tape.values, *cts)
    specs = tuple([v.spec for v in operands])
    entry = intern_entry(backward.table, backward, (tape.graph, wanted), specs)
    return thread.state.record(entry, operands)
