"""The two tiers of running a Program: operation by operation, or compiled whole.

A structure that is seen for the first time runs on executables of single entries, which exist
already or are made one by one; seen again it is compiled as one. Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, final

from proa.compile.backend import Backend, Device
from proa.compile.program import Program
from proa.compile.watch import Watcher, timed
from proa.graph.entry import Entry
from proa.graph.graph import Graph, Input, Role, Step

MOST_FOLDED: Final = 8  # steps inside of another


@final
class Counts:
    """What was done since the process began; tests compare differences."""

    __slots__ = ("dispatches", "single_operations", "programs_compiled", "contractions",
                 "donated")  # fmt: skip

    def __init__(self) -> None:
        self.dispatches = 0
        self.single_operations = 0
        self.programs_compiled = 0
        self.contractions = 0
        self.donated = 0


counts = Counts()


class Piece(NamedTuple):
    """What runs at once: one step, and before it the steps that cost nothing inside of it; the
    slots that it reads; those that nothing reads after it."""

    steps: tuple[Step, ...]
    slots: tuple[int, ...]
    frees: tuple[int, ...]


@final
class OneByOne:
    """Runs a Program through executables of its single entries. What a backend `folds` does not
    run by itself: it is part of each step that reads it."""

    __slots__ = ("program", "backend", "pieces")

    def __init__(self, program: Program, backend: Backend) -> None:
        self.program = program
        self.backend = backend
        self.pieces = _pieces(program, getattr(backend, "folds", lambda entry: False))

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        return self.watched(buffers, None, self.program)

    def watched(
        self, buffers: Sequence[Any], by: Watcher | None, program: Program
    ) -> list[Any]:  # fmt: skip
        """The same, seen by a watcher."""
        graph, device = self.program.graph, self.program.device
        slots = list(buffers)
        slots += [self.backend.put(c.array, c.spec, device) for c in graph.constants]
        slots += [None] * (len(graph.slot_specs()) - len(slots))
        self._prepare()
        for at, piece in self.pieces:
            run, given = self._found(piece), [slots[s] for s in piece.slots]
            made = run(given) if by is None else by.run(run, alone(piece, device), given)
            slots[at : at + len(made)] = made
            for s in piece.frees:
                slots[s] = None
        counts.single_operations += len(graph.steps)
        return [slots[o] for o in graph.outputs]

    def _prepare(self) -> None:
        """What has no executable yet gets one together with all others, where a backend can."""
        together = getattr(self.backend, "compile_all", None)
        if together is None:
            return
        wanted = [(p.steps[-1].entry, self._key(p), p) for _, p in self.pieces]
        missing = {(entry, key): piece for entry, key, piece in wanted if key not in entry.memo}
        programs = [alone(piece, self.program.device) for piece in missing.values()]
        made = timed("compile", together, programs) if programs else []
        for (entry, key), run in zip(missing, made, strict=True):
            entry.memo[key] = run

    def _key(self, piece: Piece) -> tuple[Any, ...]:
        steps, name, device = piece.steps, self.backend.name, self.program.device
        if len(steps) == 1:
            return name, device
        return name, device, tuple([(s.entry, s.slots) for s in steps])

    def _found(self, piece: Piece) -> Any:
        """The executable of a piece, kept with its entry; the line is of its first use."""

        def make(entry: Entry) -> Any:
            return timed("compile", self.backend.compile, alone(piece, self.program.device))

        return piece.steps[-1].entry.once(self._key(piece), make)


def _pieces(program: Program, folds: Callable[[Entry], bool]) -> list[tuple[int, Piece]]:
    """In order, each with the slot of its first result."""
    graph = program.graph
    kept = set(graph.outputs)
    inside: dict[int, tuple[int, ...]] = {}  # slot of a folded step -> slots of all that it needs
    maker: dict[int, Step] = {}
    found: list[tuple[int, Piece]] = []
    slot = graph.first_step_slot
    for step in graph.steps:
        before = tuple(sorted({n for s in step.slots for n in inside.get(s, ())}))
        if len(before) < MOST_FOLDED and slot not in kept and folds(step.entry):
            inside[slot], maker[slot] = (*before, slot), step
        else:
            found.append((slot, _piece([(n, maker[n]) for n in before], step)))
        slot += len(step.entry.outs)
    seen = kept
    for i, (at, piece) in reversed(list(enumerate(found))):
        mine = [*piece.slots, *range(at, at + len(piece.steps[-1].entry.outs))]
        frees = tuple([s for s in dict.fromkeys(mine) if s not in seen])
        seen.update(frees)
        found[i] = at, piece._replace(frees=frees)
    return found


def _piece(folded: list[tuple[int, Step]], last: Step) -> Piece:
    """Steps as a graph of their own: its inputs one for each operand that comes from outside."""
    made = {slot for slot, _ in folded}
    steps = [*[s for _, s in folded], last]
    outer = [s for step in steps for s in step.slots if s not in made]
    place = {slot: len(outer) + i for i, (slot, _) in enumerate(folded)}
    inputs = iter(range(len(outer)))
    moved = [
        Step(s.entry, tuple([place[x] if x in made else next(inputs) for x in s.slots]),
             s.scope, s.where)
        for s in steps
    ]  # fmt: skip
    return Piece(tuple(moved), tuple(outer), ())


def alone(piece: Piece, device: Device) -> Program:
    """A piece as a program of its own."""
    count = len(piece.slots)
    specs: dict[int, Any] = {
        x: spec for step in piece.steps for x, spec in zip(step.slots, step.entry.ins, strict=True)
    }
    last = piece.steps[-1].entry
    first = count + len(piece.steps) - 1
    inputs = tuple([Input(specs[i], Role.DATA) for i in range(count)])
    graph = Graph(inputs, piece.steps, tuple(range(first, first + len(last.outs))))
    return Program(graph, device)
