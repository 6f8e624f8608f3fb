"""Which units become one kernel: producers with consumers, and reductions with what reads the same.

Reductions of a unit run along the same last axes, and what needs their results goes on in the
unit, row by row; or they run from row to row, along all the axes before: then what needs their
results is another unit.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import prod
from typing import Any, Final, final

from proa.backends.cpu.draft import Draft, Map, Unit, operand_maps
from proa.backends.cpu.kernel import is_across, is_reduction

MOST_STEPS: Final = 48
MOST_OPERANDS: Final = 20
CHEAP: Final = 8  # what may be computed again for every row
HOISTED: Final = 64  # what may be computed once a row
LONGEST_SEARCH: Final = 200
LONGEST_ROW: Final = 4096  # that others are added to, 16 lanes of it in the cache


@final
class _Order:
    """Which unit needs which, and whether two may run at once. A search that would take long is
    given up: the units stay apart."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.needs: dict[int, set[int]] = {}
        self.became: dict[int, int] = {}
        of_slot: list[set[int]] = [set() for _ in range(draft.program.graph.first_step_slot)]
        for number, step in enumerate(draft.steps):
            found = set().union(*[of_slot[s] for s in step.slots])
            if number in draft.units:
                self.needs[number] = found
                found = {number}
            of_slot += [found] * len(step.entry.outs)
        # In a line in which each unit is behind all that it needs. Places that begin with another
        # lie right behind it, before all others.
        self.place: dict[int, tuple[int, ...]] = {n: (i,) for i, n in enumerate(self.needs)}

    def find(self, number: int) -> int:
        """The unit that one has become part of."""
        while number in self.became:
            number = self.became[number]
        return number

    def below(self, number: int) -> set[int]:
        """The units that one reads from directly."""
        found = self.needs[number] = {self.find(n) for n in self.needs[number]} - {number}
        return found

    def apart(self, a: int, b: int) -> bool:
        """Whether something stands between two units, so that they cannot run at once."""
        return self._between(*sorted((a, b), key=self.place.__getitem__)) is None

    def _between(self, a: int, b: int) -> set[int] | None:
        """Units behind a in the line that b needs, directly or not; None if one of them needs a."""
        first, place = self.place[a], self.place
        found = {n for n in self.below(b) if place[n] > first}
        stack = list(found)
        while stack:
            for n in self.below(stack.pop()):
                if n == a or len(found) > LONGEST_SEARCH:
                    return None
                if n not in found and place[n] > first:
                    found.add(n)
                    stack.append(n)
        return found

    def unite(self, a: int, b: int) -> None:
        """b becomes part of a, at the earlier place of the two, behind all that they need."""
        early, late = sorted((a, b), key=self.place.__getitem__)
        start = self.place[early]
        moved = sorted(self._between(early, late) or (), key=self.place.__getitem__)
        del self.place[b]
        for i, n in enumerate([*moved, a]):
            self.place[n] = (*start, i) if moved else start
        self.needs[a] |= self.needs.pop(b)
        self.became[b] = a


def fuse(draft: Draft) -> Draft:
    """Unites producers with consumers: first over equal shapes, then what is repeated cheaply."""
    order = _Order(draft)
    for same in (True, False):
        for number, step in enumerate(draft.steps):
            if number not in draft.unit_of:
                continue
            for slot in dict.fromkeys(step.slots):
                consumer = draft.units[draft.unit_of[number]]
                producer = draft.unit(draft.origins[slot][0])
                if producer is not None and producer is not consumer:
                    _try(draft, order, producer, consumer, same)
        if same:
            _unite_siblings(draft, order)
    draft.order = _sorted(draft, order)
    return draft


def _try(draft: Draft, order: _Order, producer: Unit, consumer: Unit, same: bool) -> None:
    if producer.shape is None or consumer.shape is None:
        return
    if len(producer.steps) + len(consumer.steps) > MOST_STEPS:
        return
    if producer.is_apart or consumer.is_apart:
        return
    through = edge(draft, producer, consumer)
    if through is None:
        return
    outer = consumer  # whose space holds that of the other
    if not _reductions_fit(producer, consumer):
        return
    late = _reads_reduced(draft, producer, consumer)
    if late:
        if late == "across" or producer.is_partial or not same:
            return
        if _is_row_level(producer, consumer, through):
            outer = producer
            through = tuple([
                through.index(a) if a in through else None for a in range(len(producer.shape))
            ])  # fmt: skip
        elif not is_same(producer, consumer, _along(producer, through)):
            return
        else:
            through = tuple(range(len(consumer.shape)))
    elif (
        is_same(producer, consumer, through) is not same
        or not same
        and (
            producer.reduced or producer.across or not _is_cheap(draft, producer, consumer, through)
        )
    ):
        return
    if _operand_count(draft, producer, consumer) > MOST_OPERANDS:
        return
    if order.apart(producer.number, consumer.number):
        return
    _unite(draft, order, producer, consumer, outer, through)


def _unite(
    draft: Draft, order: _Order, producer: Unit, consumer: Unit, outer: Unit, through: Map
) -> None:
    """The producer becomes part of the consumer, in the space of the outer of the two."""
    order.unite(consumer.number, producer.number)
    inner = consumer if outer is producer else producer
    members, frames = _moved(inner, through)
    consumer.members = {**outer.members, **members}
    consumer.frames = {**outer.frames, **frames}
    consumer.shape = outer.shape
    consumer.reduced = outer.reduced or inner.reduced
    consumer.across = outer.across or inner.across
    consumer.steps += producer.steps
    consumer.steps.sort()
    consumer.cost += producer.cost
    for step in producer.steps:
        draft.unit_of[step] = consumer.number
    del draft.units[producer.number]


def _unite_siblings(draft: Draft, order: _Order) -> None:
    """Reductions that read what another unit reads as well, element by element, join it; so do
    composites, which share what they compute with their derivatives."""
    steps = [(n, s.entry) for n, s in enumerate(draft.steps)]
    for step, entry in [p for p in steps if is_reduction(p[1]) or p[1].primitive.expand]:
        mine = draft.units.get(draft.unit_of.get(step, -1))
        if mine is None or mine.shape is None or len(mine.steps) > 1:
            continue
        for other in draft.readers[draft.steps[step].slots[0]]:
            unit = draft.units.get(draft.unit_of.get(other, -1))
            if unit is None or unit is mine or unit.shape != entry.ins[0].shape:
                continue
            if unit.is_apart or mine.is_apart or not _reductions_fit(unit, mine):
                continue
            if unit.number in order.below(mine.number) or mine.number in order.below(unit.number):
                continue
            if len(unit.steps) >= MOST_STEPS or order.apart(unit.number, mine.number):
                continue
            _unite(draft, order, mine, unit, unit, tuple(range(len(unit.shape))))
            break


def _moved(unit: Unit, through: Map) -> tuple[dict[int, Map], dict[int, Map]]:
    """Members and frames of a unit in the space of another, whose axes run along its own."""

    def along(map_: Map) -> Map:
        return tuple([map_[a] if a is not None else None for a in through])

    return (
        {slot: along(m) for slot, m in unit.members.items()},
        {step: along(m) for step, m in unit.frames.items()},
    )


def _reductions_fit(one: Unit, other: Unit) -> bool:
    """Whether the reductions of two units can run side by side."""
    reduced, across = one.reduced | other.reduced, one.across | other.across
    if any(u.reduced not in (frozenset(), reduced) for u in (one, other)):
        return False
    if any(u.across not in (frozenset(), across) for u in (one, other)):
        return False
    if not reduced or not across:
        return True
    shape: Any = one.shape if one.reduced else other.shape
    row = prod([shape[a] for a in reduced])
    return max(across) < min(reduced) and len(across) == min(reduced) and row <= LONGEST_ROW


def _reads_reduced(draft: Draft, producer: Unit, consumer: Unit) -> str:
    """Whether a consumer reads what depends on the producer's reductions, and on which."""
    if not producer.reduced and not producer.across:
        return ""
    late: dict[int, str] = {}
    for step in producer.steps:
        entry, slot = draft.entry(step), draft.first[step]
        if is_reduction(entry):
            late[slot] = "across" if is_across(entry) else "reduced"
        else:
            found = [late[s] for s in (draft.origins[n][0] for n in draft.steps[step].slots)
                     if s in late]  # fmt: skip
            if found:
                late[slot] = min(found)
    read = {late.get(draft.origins[s][0], "") for n in consumer.steps for s in draft.steps[n].slots}
    return min(read - {""}, default="")


def _is_row_level(producer: Unit, consumer: Unit, through: Map) -> bool:
    """Whether a consumer computes one number for each row of a producer."""
    shape: Any = producer.shape
    used = [a for a in through if a is not None]
    if consumer.reduced or consumer.across:
        return False  # its sums have other columns than the producer's rows
    if len(set(used)) != len(used) or producer.reduced.intersection(used):
        return False
    rows = zip(through, consumer.shape or (), strict=True)
    if any(n != (1 if a is None else shape[a]) for a, n in rows):
        return False
    return all(a in used or a in producer.reduced or n == 1 for a, n in enumerate(shape))


def _along(producer: Unit, through: Map) -> Map:
    """A consumer's axes where it reads rows as wholes: along the reduced axes it runs itself."""
    if len(through) != len(producer.shape or ()):
        return through
    return tuple([i if a is None and i in producer.reduced else a for i, a in enumerate(through)])


def edge(draft: Draft, producer: Unit, consumer: Unit) -> Map | None:
    """For each axis of the consumer's shape the producer's, if all edges agree."""
    found = None
    for step in consumer.steps:
        for slot, along in zip(draft.steps[step].slots, operand_maps(draft, step), strict=True):
            source, inner = draft.origins[slot]
            if source not in producer.members:
                continue
            if draft.entry(step).primitive.name == "random_bits":
                return None  # reads its state as a whole
            mine = consumer.frames[step]
            value = [
                inner[along[a]] if a is not None and along[a] is not None else None for a in mine
            ]
            back = {v: a for a, v in enumerate(producer.members[source]) if v is not None}
            through = tuple([back.get(v) if v is not None else None for v in value])
            if found is not None and producer.reduced:
                found, through = _mended(producer, found, through)
            if found is not None and not _agree(found, through, producer):
                return None
            found = through if found is None else found
    return found


def _mended(producer: Unit, one: Map, other: Map) -> tuple[Map, Map]:
    """Two maps, the reduced axes of each completed from the other: a number a row is read beside
    the row itself."""
    both = []
    for a, b in ((one, other), (other, one)):
        both.append(tuple([
            y if x is None and y in producer.reduced else x for x, y in zip(a, b, strict=True)
        ]))  # fmt: skip
    return both[0], both[1]


def _agree(one: Map, other: Map, producer: Unit) -> bool:
    """Whether two maps address the same elements: axes of size 1 do not matter."""
    shape: Any = producer.shape
    long = [[a if a is not None and shape[a] != 1 else None for a in m] for m in (one, other)]
    return long[0] == long[1]


def is_same(producer: Unit, consumer: Unit, through: Map) -> bool:
    if producer.shape != consumer.shape:
        return False
    rows = enumerate(zip(through, consumer.shape or (), strict=True))
    return all(a == i or n == 1 for i, (a, n) in rows)


def _is_cheap(draft: Draft, producer: Unit, consumer: Unit, through: Map) -> bool:
    """Whether a smaller producer may be computed again, and nothing else reads it."""
    shape: Any = consumer.shape
    used = [a for a in through if a is not None]
    if len(set(used)) != len(used):
        return False
    last = max([i for i, n in enumerate(shape) if n != 1], default=-1)
    varies = last >= 0 and through[last] is not None
    if producer.cost > (CHEAP if varies else HOISTED):
        return False
    mine = {*producer.steps, *consumer.steps}
    return all(step in mine for slot in producer.members for step in draft.readers_of(slot))


def _operand_count(draft: Draft, producer: Unit, consumer: Unit) -> int:
    members = {*producer.members, *consumer.members}
    read = {
        s for step in (*producer.steps, *consumer.steps) for s in draft.steps[step].slots
        if draft.origins[s][0] not in members
    }  # fmt: skip
    return len(read) + len(members) // 4


def _sorted(draft: Draft, order: _Order) -> list[Unit]:
    """Units in an order in which each comes after what it needs, early steps first."""
    missing = {n: len(order.below(n)) for n in draft.units}
    feeds: dict[int, list[int]] = {n: [] for n in draft.units}
    for number in draft.units:
        for n in order.below(number):
            feeds[n].append(number)
    ready = [(u.steps[0], u.number) for u in draft.units.values() if not missing[u.number]]
    heapify(ready)
    found = []
    while ready:
        _, number = heappop(ready)
        found.append(draft.units[number])
        for above in feeds[number]:
            missing[above] -= 1
            if not missing[above]:
                heappush(ready, (draft.units[above].steps[0], above))
    assert len(found) == len(draft.units), "units wait for each other"
    return found
