"""The two tiers of running a Program: operation by operation, or compiled whole.

A structure that is seen for the first time runs on executables of single entries, which exist
already or are made one by one; seen again it is compiled as one. Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from proa.compile.backend import Backend, Device
from proa.compile.program import Program
from proa.compile.watch import Watcher, timed
from proa.graph.graph import Graph, Input, Role, Step


@final
class Counts:
    """What was done since the process began; tests compare differences."""

    __slots__ = ("dispatches", "single_operations", "programs_compiled", "contractions")

    def __init__(self) -> None:
        self.dispatches = 0
        self.single_operations = 0
        self.programs_compiled = 0
        self.contractions = 0


counts = Counts()


@final
class OneByOne:
    """Runs a Program through executables of its single entries."""

    __slots__ = ("program", "backend", "frees")

    def __init__(self, program: Program, backend: Backend) -> None:
        self.program = program
        self.backend = backend
        self.frees = program.last_uses()

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        return self.watched(buffers, None, self.program)

    def watched(
        self, buffers: Sequence[Any], by: Watcher | None, program: Program
    ) -> list[Any]:  # fmt: skip
        """The same, seen by a watcher."""
        graph, device = self.program.graph, self.program.device
        slots = list(buffers)
        slots += [self.backend.put(c.array, c.spec, device) for c in graph.constants]
        for step, frees in zip(graph.steps, self.frees, strict=True):
            run, given = _single(step, self.backend, self.program), [slots[s] for s in step.slots]
            slots += run(given) if by is None else by.run(run, alone(step, device), given)
            for s in frees:
                slots[s] = None
        counts.single_operations += len(graph.steps)
        return [slots[o] for o in graph.outputs]


def _single(step: Step, backend: Backend, program: Program) -> Any:
    """The executable of one entry, kept with the entry; the line is of its first use."""

    def make(entry: Any) -> Any:
        return timed("compile", backend.compile, alone(step, program.device))

    return step.entry.once((backend.name, program.device), make)


def alone(step: Step, device: Device) -> Program:
    """A step as a program of its own."""
    entry, count = step.entry, len(step.entry.ins)
    inputs = tuple([Input(s, Role.DATA) for s in entry.ins])
    outs = tuple(range(count, count + len(entry.outs)))
    graph = Graph(inputs, (Step(entry, tuple(range(count)), step.scope, step.where),), outs)
    return Program(graph, device)
