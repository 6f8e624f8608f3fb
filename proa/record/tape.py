"""The tape: what was recorded with a gradient, read back as one `backward` operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from proa.errors import GradientError, message
from proa.graph.build import current_sink
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.node import Node, Value, line_of
from proa.record.key import _serial
from proa.record.live import SPENT
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
    seen: set[Node] = set()
    stack = [v for v in roots if _continues(v, ends)]
    while stack:
        node = stack.pop().node
        if node in seen:
            continue
        if node.spent:
            raise GradientError(
                message(
                    "backward",
                    f"a result recorded at {line_of(node.where)}, differentiated before",
                    "a tape that was not consumed", "retain_graph=True in the first call",
                )
            )  # fmt: skip
        seen.add(node)
        stack += [v for v in node.inputs if v.node not in seen and _continues(v, ends)]
    nodes = sorted(seen, key=_serial)
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
    """The tape as a Graph, found again by its structure, and the value of each of its slots."""
    inside = set(nodes)
    outs: dict[tuple[Node, int], Value] = {}
    leaf: dict[Value, int] = {}
    for n in nodes:
        for v in n.inputs:
            if v.node in inside and not _outside(v):
                outs.setdefault((v.node, v.index), v)
            elif v not in leaf:
                leaf[v] = len(leaf)
    for v in roots:
        if v.node in inside:
            outs.setdefault((v.node, v.index), v)
        elif v not in leaf:
            leaf[v] = len(leaf)
    first: dict[Node, int] = {}
    flat: list[Any] = [v.spec.plain for v in leaf]
    slot = len(leaf)
    values = list(leaf)
    for n in nodes:
        flat.append(n.entry)
        flat += [
            first[v.node] + v.index if v.node in inside and not _outside(v) else leaf[v]
            for v in n.inputs
        ]
        first[n] = slot
        slot += len(n.entry.outs)
        values += _slots_of(n, outs)
    flat += [first[v.node] + v.index if v.node in inside else leaf[v] for v in roots]
    key = tuple(flat)
    graph = _FOUND.get(key)
    if graph is None:
        graph = _make(nodes, roots, inside, leaf, first)
        if len(_FOUND) >= _LIMIT:
            _FOUND.clear()
        _FOUND[key] = graph
    return list(leaf), values, graph


def _outside(value: Value) -> bool:
    """A leaf, or an operand that carries no gradient: its own node is no part of the tape."""
    return not value.spec.grad or stops(value)


def _slots_of(node: Node, outs: dict[tuple[Node, int], Value]) -> list[Value]:
    entry = node.entry
    saved = node.saved
    base = len(entry.outs) - len(saved)
    slots = [outs.get((node, i)) or Value(node, i, entry.outs[i]) for i in range(base)]
    return [*slots, *saved]


def _make(nodes: Any, roots: Any, inside: Any, leaf: Any, first: Any) -> Graph:
    inputs = tuple([Input(v.spec.plain, Role.DATA) for v in leaf])

    def number(v: Value) -> int:
        inner = v.node in inside and not _outside(v)
        return int(first[v.node] + v.index if inner else leaf[v])

    steps = [Step(n.entry, tuple([number(v) for v in n.inputs]), n.scope, n.where) for n in nodes]
    outs = [first[v.node] + v.index if v.node in inside else leaf[v] for v in roots]
    return Graph(inputs, tuple(steps), tuple(outs))


def record_backward(tape: Tape, cts: Sequence[Value], targets: Sequence[Value]) -> list[Any]:
    """The cotangents of `targets`, recorded as one operation on the current sink."""
    number = {v: i for i, v in enumerate(tape.inputs)}
    known = [v for v in targets if v in number]
    if not known:
        return [None] * len(targets)
    wanted = tuple([number[v] for v in known])
    operands = (*tape.values, *cts)
    entry = _entry(tape.graph, wanted, operands)
    found = dict(zip(known, current_sink().emit(entry, operands), strict=True))
    return [found.get(v) for v in targets]


def _entry(graph: Graph, wanted: tuple[int, ...], operands: Sequence[Value]) -> Entry:
    specs = tuple([v.spec for v in operands])
    return intern_entry(backward.table, backward, (graph, wanted), specs)
