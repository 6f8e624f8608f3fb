"""Values computed again where that is cheaper than to keep them.

A loop of the backward pass reads what one of the forward pass has computed on its way. If all that
it reads there follows from fewer values, element by element, these are kept instead, and the loop
computes the rest for itself: the same operations, and so the same bits.
"""

from __future__ import annotations

from typing import Final

from proa.backends.cpu.draft import Draft, Unit
from proa.backends.cpu.fuse import MOST_OPERANDS, MOST_STEPS, edge, is_same
from proa.backends.cpu.kernel import is_reduction
from proa.graph.entry import Entry
from proa.graph.graph import Step

KEPT: Final = 25  # elementary operations that take as long as to write an element and read it


def again(draft: Draft) -> Draft:
    """Each loop takes over what it reads of earlier ones, where that saves memory and time."""
    for unit in draft.order:
        if unit.shape is None:
            continue
        makers: dict[int, list[int]] = {}
        for step in unit.steps:
            for slot in draft.steps[step].slots:
                source = draft.origins[slot][0]
                maker = draft.unit(source)
                if maker is not None and maker is not unit and maker.shape is not None:
                    makers.setdefault(maker.number, []).append(source)
        for number, sources in makers.items():
            _take_over(draft, unit, draft.units[number], list(dict.fromkeys(sources)))
    return draft


def _take_over(draft: Draft, unit: Unit, maker: Unit, sources: list[int]) -> None:
    wanted = [s for s in sources if _is_full(maker, s) and s not in draft.outputs]
    wanted = [s for s in wanted if not _is_whole(draft.entry(_step(draft, s)))]
    if not wanted or maker.shape != unit.shape:
        return
    through = edge(draft, maker, unit)
    if through is None or not is_same(maker, unit, through):
        return
    cone, leaves = _cone(draft, maker, wanted)
    mine = {draft.origins[s][0] for n in unit.steps for s in draft.steps[n].slots}
    mine -= set(unit.members)
    kept = [s for s in leaves if s not in mine and draft.specs[s].shape == unit.shape]
    cost = sum(draft.entry(n).primitive.cost for n in cone)
    if cost > KEPT * (len(wanted) - len(kept)) or len(cone) + len(unit.steps) > MOST_STEPS:
        return
    if len(mine) + len(leaves) - len(wanted) > MOST_OPERANDS:
        return
    _clone(draft, unit, maker, cone)


def _is_whole(entry: Entry) -> bool:
    """Whether a value is never computed again: it needs more than the elements of its place."""
    return is_reduction(entry) or entry.primitive.name == "random_bits"


def _step(draft: Draft, slot: int) -> int:
    maker = draft.maker[slot]
    assert maker is not None
    return maker


def _is_full(unit: Unit, slot: int) -> bool:
    """Whether a member has an element for each of the unit's space."""
    shape = unit.shape or ()
    return all(a is not None or n == 1 for a, n in zip(unit.members[slot], shape, strict=True))


def _cone(draft: Draft, maker: Unit, wanted: list[int]) -> tuple[list[int], set[int]]:
    """Steps of a unit that values follow from, and what these read from elsewhere; sums are
    read."""
    cone: set[int] = set()
    leaves: set[int] = set()
    stack = list(wanted)
    while stack:
        slot = stack.pop()
        if slot not in maker.members or _is_whole(draft.entry(_step(draft, slot))):
            leaves.add(slot)
            continue
        step = _step(draft, slot)
        if step not in cone:
            cone.add(step)
            stack += [draft.origins[s][0] for s in draft.steps[step].slots]
    return [n for n in maker.steps if n in cone], leaves


def _clone(draft: Draft, unit: Unit, maker: Unit, cone: list[int]) -> None:
    """The steps once more, as the unit's own, and its reads turned to them."""
    mine: dict[int, int] = {}  # slot of a step -> that of its clone
    clones = []
    for step in cone:
        old = draft.steps[step]
        slots = [_turned(draft, mine, s, len(draft.steps)) for s in old.slots]
        number, slot = len(draft.steps), draft.first[step]
        clones.append(number)
        draft.steps.append(Step(old.entry, tuple(slots), old.scope, old.where))
        new = _slot(draft, slot, number)
        draft.first.append(new)
        draft.origins[new] = (new, draft.origins[slot][1])
        draft.unit_of[number] = unit.number
        unit.frames[number] = maker.frames[step]
        unit.members[new] = maker.members[slot]
        mine[slot] = new
    for number in unit.steps:
        old = draft.steps[number]
        slots = [_turned(draft, mine, s, number) for s in old.slots]
        if tuple(slots) != old.slots:
            draft.steps[number] = Step(old.entry, tuple(slots), old.scope, old.where)
            for s in set(old.slots) - set(slots):
                draft.readers[s].remove(number)
    unit.steps = clones + unit.steps


def _turned(draft: Draft, mine: dict[int, int], slot: int, reader: int) -> int:
    """What a step reads: of a cloned value the clone, seen as the value was."""
    source, inner = draft.origins[slot]
    if source not in mine:
        if reader not in draft.readers[slot]:
            draft.readers[slot].append(reader)
        return slot
    clone = mine[source]
    draft.readers[clone].append(reader)
    if slot == source:
        return clone
    new = _slot(draft, slot, None)
    draft.origins[new] = (clone, inner)
    return new


def _slot(draft: Draft, like: int, maker: int | None) -> int:
    draft.specs.append(draft.specs[like])
    draft.maker.append(maker)
    draft.readers.append([])
    draft.origins.append(draft.origins[like])
    return len(draft.specs) - 1
