"""Segments: a Program's steps as units, before any of them are united.

A *unit* is what runs at once: one step by itself (a host call, a product), or a group of
elementwise steps and reductions with one space of iteration. Views (reshape, permute, broadcast,
slice, flip) only change how memory is addressed. Those that repeat an operand, or add and drop
axes of size 1, are seen through and are no units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, final

from proa.backends.cpu.claims import claimed, generated
from proa.backends.cpu.kernel import is_across, is_reduction
from proa.backends.cpu.sums import claimed_sum
from proa.compile.program import Program
from proa.graph.entry import Entry
from proa.graph.graph import Step

VIEWS: Final = frozenset({"reshape", "permute", "broadcast", "slice", "flip", "keep"})
Map = tuple[Any, ...]  # for each axis of a value: the axis of another that it runs along, or None


@final
class Unit:
    """`members`: slot of each step's result -> for each axis of the unit's shape its own, or None.
    `frames`: step -> for each axis of the unit's shape the axis of the space that the step runs
    over (a reduction: its operand's). `reduced`: the axes that reductions run along, the last of
    them the last; `across`: those that reductions from row to row run along. What is no loop has
    no shape."""

    __slots__ = ("number", "steps", "shape", "members", "frames", "reduced", "across", "cost")

    def __init__(self, number: int, step: int, entry: Entry, slot: int, is_loop: bool) -> None:
        self.number = number
        self.steps = [step]
        self.members: dict[int, Map] = {}
        self.frames: dict[int, Map] = {}
        self.reduced: frozenset[int] = frozenset()
        self.across: frozenset[int] = frozenset()
        self.shape: tuple[int, ...] | None = None
        self.cost = entry.primitive.cost
        if not is_loop:
            return
        self.shape = (entry.ins if is_reduction(entry) else entry.outs)[0].shape
        axes, gone = range(len(self.shape)), frozenset[int]()
        if is_reduction(entry):
            gone = frozenset(entry.params[0])
            if is_across(entry):
                self.across = gone
            else:
                self.reduced = gone
        kept = iter(range(len(axes)))
        self.members[slot] = tuple([None if a in gone else next(kept) for a in axes])
        self.frames[step] = tuple(axes)

    @property
    def is_partial(self) -> bool:
        """Whether everything is reduced. A matter of axes, not sizes, so that a batch of one has
        the kernels of any other."""
        return self.shape is not None and 0 < len(self.shape) == len(self.reduced)

    @property
    def is_apart(self) -> bool:
        """Whether its reduced axes do not stand together: its operand is laid out first."""
        return not all(_is_run(axes) for axes in (self.reduced, self.across))


def _is_run(axes: frozenset[int]) -> bool:
    return not axes or max(axes) - min(axes) == len(axes) - 1


@final
class Draft:
    """A Program on its way to being units: who makes each slot, who reads it, what runs when."""

    def __init__(self, program: Program) -> None:
        graph = program.graph
        self.program = program
        self.specs = list(graph.slot_specs())
        self.steps: list[Step] = list(graph.steps)
        self.first: list[int] = []  # of each step: its first slot
        self.maker: list[int | None] = [None] * len(self.specs)  # of each slot: its step
        slot = graph.first_step_slot
        for number, step in enumerate(graph.steps):
            self.first.append(slot)
            for _ in step.entry.outs:
                self.maker[slot] = number
                slot += 1
        self.units: dict[int, Unit] = {}
        self.unit_of: dict[int, int] = {}  # step -> number of its unit
        self.origins: list[tuple[int, Map]] = []
        self.readers: list[list[int]] = [[] for _ in self.specs]  # of each slot: steps
        self.order: list[Unit] = []
        self.outputs = frozenset(graph.outputs)

    def entry(self, step: int) -> Entry:
        return self.steps[step].entry

    def is_view(self, step: int) -> bool:
        return self.entry(step).primitive.name in VIEWS

    def unit(self, slot: int) -> Unit | None:
        """The unit whose step makes a slot; None for inputs and views."""
        maker = self.maker[slot]
        number = self.unit_of.get(maker) if maker is not None else None
        return self.units[number] if number is not None else None

    def readers_of(self, slot: int) -> Iterator[int]:
        """Steps that read a slot, views seen through; -1 for a result of the program."""
        stack = [slot]
        while stack:
            one = stack.pop()
            if one in self.outputs:
                yield -1
            for step in self.readers[one]:
                if self.is_view(step) and step not in self.unit_of:
                    stack.append(self.first[step])
                else:
                    yield step

    def is_shared(self, unit: Unit, slot: int) -> bool:
        """Whether a member's result is read by anything but its unit."""
        return any(self.unit_of.get(step) != unit.number for step in self.readers_of(slot))

    def show(self) -> str:
        lines = []
        for unit in self.order or self.units.values():
            names = " ".join(self.entry(s).primitive.name for s in unit.steps)
            kind = f"loop over {unit.shape}" if unit.shape is not None else "by itself"
            kind = "view" if self.is_view(unit.steps[0]) else kind
            lines.append(f"{unit.number:4d} {kind}: {names}")
        return "\n".join(lines)


def segments(program: Program) -> Draft:
    """Every step is a unit of its own, but for views that are seen through."""
    draft = Draft(program)
    for slot in range(program.graph.first_step_slot):
        draft.origins.append((slot, tuple(range(draft.specs[slot].ndim))))
    for number, step in enumerate(draft.steps):
        for s in dict.fromkeys(step.slots):
            draft.readers[s].append(number)
        first, entry = draft.first[number], step.entry
        draft.origins += [(first + i, tuple(range(s.ndim))) for i, s in enumerate(entry.outs)]
        if draft.is_view(number):
            through = _map_of(entry)
            if through is not None:
                source, inner = draft.origins[step.slots[0]]
                found = tuple([inner[a] if a is not None else None for a in through])
                draft.origins[first] = (source, found)
                continue
        draft.units[number] = Unit(number, number, entry, first, is_loop(entry))
        draft.unit_of[number] = number
    draft.order = list(draft.units.values())
    return draft


def is_loop(entry: Entry) -> bool:
    """Whether a step is part of a loop: element by element, a reduction, or made of positions."""
    return claimed(entry) or claimed_sum(entry) or generated(entry)


def _map_of(entry: Entry) -> Map | None:
    """For each result axis the operand's axis that it runs along; None if it is no such view."""
    source, goal = entry.ins[0].shape, entry.outs[0].shape
    if entry.primitive.name == "broadcast":
        axes = entry.params[1]
        found: list[Any] = [None] * len(goal)
        for i, a in enumerate(axes):
            if source[i] == goal[a]:
                found[a] = i
        return tuple(found)
    if entry.primitive.name == "keep":
        return tuple(range(len(goal)))
    if entry.primitive.name == "reshape":
        long = [i for i, n in enumerate(source) if n != 1]
        if [source[i] for i in long] != [n for n in goal if n != 1]:
            return None
        rest = iter(long)
        return tuple([next(rest) if n != 1 else None for n in goal])
    return None


def operand_maps(draft: Draft, step: int) -> list[Map]:
    """For each operand: of each axis that a step runs over the operand's, or None."""
    found: list[Map] = draft.entry(step).once("operand maps", _operand_maps)
    return found


def _operand_maps(entry: Entry) -> list[Map]:
    if is_reduction(entry):
        return [tuple(range(entry.ins[0].ndim))]
    shape, found = entry.outs[0].shape, []
    for s in entry.ins:
        lead = len(shape) - s.ndim
        found.append(tuple([
            i - lead if i >= lead and s.shape[i - lead] == n else None for i, n in enumerate(shape)
        ]))  # fmt: skip
    return found
