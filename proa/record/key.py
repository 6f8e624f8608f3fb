"""The structure of pending work as a tuple that is found again, and its Graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from proa.errors import ExecutionError, message
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.node import SCALAR_TYPES, Node, Value, line_of


class Pending(NamedTuple):
    """Nodes in recording order, the leaves that they read, the key, the first slot of each node;
    the slots of the values asked for, and each of these slots once: the outputs."""

    nodes: list[Node]
    leaves: list[Value]
    key: tuple[Any, ...]
    first: dict[Node, int]
    slots: list[int]
    outs: list[int]

    def slot(self, value: Value) -> int:
        return self.first[value.node] + value.index


def reach(values: Iterable[Value], start: int = -1) -> list[Node]:
    """The nodes that must run for these values, in recording order; those recorded before `start`
    count as done. No recursion."""
    seen: set[Node] = {v.node for v in values if v.node.serial >= start}
    nodes = list(seen)
    for node in nodes:  # it grows meanwhile
        for v in node.inputs:
            made = v.node
            if v.buffer is None and made is not None and made not in seen and made.serial >= start:
                seen.add(made)
                nodes.append(made)
    nodes.sort(key=by_serial)
    return nodes


by_serial: Final = attrgetter("serial")


def pending(values: Sequence[Value], start: int = -1) -> Pending:
    """Key and leaves of everything that `values` need: one pass in recording order. What was
    recorded before `start` is a leaf."""
    nodes = reach(values, start)
    first: dict[Node, int] = {}
    leaf: dict[Value, int] = {}
    flat: list[Any] = []
    append = flat.append
    slot = 0
    for n in nodes:
        append(n.entry)
        for v in n.inputs:
            if v.buffer is None and v.node is not None and v.node.serial >= start:
                append(first[v.node] + v.index)
            else:
                append(leaf.setdefault(v, ~len(leaf)))
        first[n] = slot
        slot += len(n.entry.outs)
    append(None)
    slots = [first[v.node] + v.index for v in values]
    outs = list(dict.fromkeys(slots))
    flat += outs
    return Pending(nodes, list(leaf), tuple(flat), first, slots, outs)


def graph_of(work: Pending, roles: Sequence[Role]) -> Graph:
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
    outs = tuple([shift + slot for slot in work.outs])
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
