"""The structure of pending work as a tuple that is found again, and its Graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from proa.errors import ExecutionError, message
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.node import SCALAR_TYPES, Node, Value, line_of


class Pending(NamedTuple):
    """Nodes in recording order, the leaves that they read, the key, the outputs' slots."""

    nodes: list[Node]
    leaves: list[Value]
    key: tuple[Any, ...]
    first: dict[Node, int]

    def slot(self, value: Value) -> int:
        return self.first[value.node] + value.index


def reach(values: Iterable[Value], start: int = -1) -> list[Node]:
    """The nodes that must run for these values, in recording order; those recorded before `start`
    count as done. No recursion."""
    seen: set[Node] = set()
    stack = [v.node for v in values]
    while stack:
        node = stack.pop()
        if node in seen or node.serial < start:
            continue
        seen.add(node)
        for v in node.inputs:
            if v.buffer is None and v.node is not None and v.node not in seen:
                stack.append(v.node)
    return sorted(seen, key=_serial)


def _serial(node: Node) -> int:
    return node.serial


def pending(outputs: Sequence[Value], start: int = -1) -> Pending:
    """Key and leaves of everything that `outputs` need: one pass in recording order. What was
    recorded before `start` is a leaf."""
    nodes = reach(outputs, start)
    first: dict[Node, int] = {}
    leaf: dict[Value, int] = {}
    leaves: list[Value] = []
    flat: list[Any] = []
    append = flat.append
    slot = 0
    for n in nodes:
        append(n.entry)
        for v in n.inputs:
            at = first.get(v.node) if v.buffer is None else None
            if at is not None:
                append(at + v.index)
                continue
            i = leaf.get(v)
            if i is None:
                leaves.append(v)
                i = leaf[v] = -len(leaves)
            append(i)
        first[n] = slot
        slot += len(n.entry.outs)
    append(None)
    flat += [first[v.node] + v.index for v in outputs]
    return Pending(nodes, leaves, tuple(flat), first)


def graph_of(work: Pending, outputs: Sequence[Value], roles: Sequence[Role]) -> Graph:
    """The recorded Graph: made once for each key."""
    inputs = [Input(v.spec.plain, role) for v, role in zip(work.leaves, roles, strict=True)]
    number = {v: i for i, v in enumerate(work.leaves)}
    shift = len(inputs)
    steps = []
    for n in work.nodes:
        slots = tuple(
            [
                shift + work.slot(v) if v.buffer is None and v.node in work.first else number[v]
                for v in n.inputs
            ]
        )
        steps.append(Step(n.entry, slots, n.scope, n.where))
    outs = tuple([shift + work.slot(v) for v in outputs])
    return Graph(tuple(inputs), tuple(steps), outs)


def role_of(leaf: Value) -> Role:
    if type(leaf.buffer) in SCALAR_TYPES:
        return Role.SCALAR
    if leaf.leaf is not None and leaf.leaf.stops:
        return Role.PARAMETER
    return Role.DATA


def check_there(work: Pending) -> None:
    """Every leaf has contents; names the line that uses one which has none."""
    for n in work.nodes:
        for v in n.inputs:
            if v.buffer is None and v.node is None:
                given = f"a value without contents used at {line_of(n.where)}"
                raise ExecutionError(message(n.entry.primitive.name, given, "a computed tensor"))
