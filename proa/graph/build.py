"""Sinks: where an applied operation goes.

`emit(entry, inputs)` writes to the thread's current sink. The live queue is one sink, a `Builder`
another; so `cos(x) * dx` in a rule, in a composite and in user code is one function.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, final

from proa.errors import ArgumentError, message
from proa.graph.entry import Entry
from proa.graph.graph import Constant, Graph, Input, Role, Step
from proa.graph.node import Value, Where
from proa.graph.spec import Spec


class Sink(Protocol):
    """What receives applied operations and returns what stands for their results."""

    watching: bool

    def emit(self, entry: Entry, inputs: tuple[Value, ...]) -> tuple[Any, ...]: ...

    def place(self, scope: str, where: Where) -> None:
        """From where the next operations come, if that is known."""
        ...

    def lift(self, value: Value) -> Value:
        """A value of this sink for one that was made elsewhere."""
        ...

    def number(self, number: Any, spec: Spec) -> Value:
        """A 0-d value for a Python number."""
        ...

    def constant(self, array: Any, spec: Spec) -> Any:
        """What stands for an array that is at hand."""
        ...

    def watch(self, handle: Any) -> None:
        """Sees each handle that is read as an operand."""
        ...


@final
class _Current(threading.local):
    """The thread's sink; the live queue registers how a thread gets its first one."""

    sink: Any = None


_current: Final = _Current()
_default: list[Any] = []


def set_default_sink(make: Any) -> None:
    """`make()` gives the sink of a thread that has none yet."""
    _default[:] = [make]


def current_sink() -> Any:
    sink = _current.sink
    if sink is None:
        sink = _current.sink = _default[0]()
    return sink


@contextmanager
def use_sink(sink: Any) -> Iterator[Any]:
    """Operations of this thread go to `sink` inside the block."""
    before = _current.sink
    _current.sink = sink
    try:
        yield sink
    finally:
        _current.sink = before


@final
class Builder:
    """Builds a Graph. With `merge=True` equal steps become one (common sub-expressions)."""

    watching = False
    __slots__ = (
        "inputs", "constants", "steps", "slots", "merge", "known", "scope", "where", "kept_steps",
    )  # fmt: skip

    def __init__(self, inputs: Sequence[Input] = (), merge: bool = False) -> None:
        self.inputs: list[Input] = []
        self.constants: dict[Constant, int] = {}
        self.steps: list[tuple[Entry, tuple[int, ...], str, Where]] = []
        self.slots = 0
        self.merge = merge
        self.known: dict[Any, tuple[Value, ...]] = {}
        self.scope = ""
        self.where: Where = None
        self.kept_steps: list[bool] = []
        for given in inputs:
            self.input(given.spec, given.role)

    def input(self, of: Spec, role: Role = Role.DATA) -> Value:
        """One more input, which may be made at any time: inputs are sorted at the end."""
        self.inputs.append(Input(of.plain, role))
        return Value(self, -1 - 2 * (len(self.inputs) - 1), of.plain)

    def input_values(self) -> list[Value]:
        return [Value(self, -1 - 2 * i, given.spec) for i, given in enumerate(self.inputs)]

    def constant(self, array: Any, of: Spec) -> Value:
        """An array that becomes part of the graph."""
        number = self.constants.setdefault(Constant(array, of.plain), len(self.constants))
        return Value(self, -2 - 2 * number, of.plain)

    def number(self, number: Any, of: Spec) -> Value:
        import numpy as np

        return self.constant(np.asarray(number).astype(of.dtype.numpy), of)

    def watch(self, handle: Any) -> None:
        """Handles are of no interest to a graph."""

    def place(self, scope: str, where: Where) -> None:
        """Steps from now on carry this module path and line; an unknown line changes nothing."""
        if where is not None:
            self.scope, self.where = scope, where

    def lift(self, value: Value) -> Value:
        if value.node is self:
            return value
        raise ArgumentError(
            message("build", f"a value of another graph ({value.spec})", "values of this graph",
                    "passing it as an argument")
        )  # fmt: skip

    def emit(self, entry: Entry, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        entry = entry.plain
        slots = tuple([(v if v.node is self else self.lift(v)).index for v in inputs])
        if not self.merge:
            return self._append(entry, slots)
        key = (entry, slots)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._append(entry, slots)
        return found

    def _append(self, entry: Entry, slots: tuple[int, ...]) -> tuple[Value, ...]:
        self.steps.append((entry, slots, self.scope, self.where))
        first = self.slots
        self.slots += len(entry.outs)
        return tuple([Value(self, first + i, s) for i, s in enumerate(entry.outs)])

    def graph(self, outputs: Sequence[Value]) -> Graph:
        """The graph that computes `outputs`: dead steps are dropped, slots numbered for good."""
        out_slots = [self.lift(v).index for v in outputs]
        kept = self.kept_steps = _needed(self.steps, out_slots)
        n_inputs, n_constants = len(self.inputs), len(self.constants)
        final: dict[int, int] = {}
        for i in range(n_inputs):
            final[-1 - 2 * i] = i
        for i in range(n_constants):
            final[-2 - 2 * i] = n_inputs + i
        steps, old, new = [], 0, n_inputs + n_constants
        for (entry, slots, scope, where), keep in zip(self.steps, kept, strict=True):
            count = len(entry.outs)
            if keep:
                steps.append(Step(entry, tuple([final[s] for s in slots]), scope, where))
                for i in range(count):
                    final[old + i] = new + i
                new += count
            old += count
        outs = tuple([final[s] for s in out_slots])
        return Graph(tuple(self.inputs), tuple(steps), outs, tuple(self.constants))


def _needed(steps: list[Any], outputs: list[int]) -> list[bool]:
    """Which steps the outputs need: one reverse sweep."""
    live = set(outputs)
    end = sum(len(s[0].outs) for s in steps)
    kept = [False] * len(steps)
    for i in range(len(steps) - 1, -1, -1):
        entry, slots = steps[i][0], steps[i][1]
        start = end - len(entry.outs)
        if any(s in live for s in range(start, end)):
            kept[i] = True
            live.update(slots)
        end = start
    return kept
