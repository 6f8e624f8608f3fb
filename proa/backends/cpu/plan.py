"""Where every memory of a Program lies: in a place of one arena, which is used again as soon as
what it held is needed no more, or outside: inputs, constants, results, what host calls give.

Which memories share a place is a matter of when they are needed. A place is as large as the largest
of them and lies behind the one before, whatever the sizes; so at other sizes nothing is planned
anew, and what must wait for what stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, final

from proa.backends.cpu.kernel import Call
from proa.backends.cpu.nest import Control, Host, Nests
from proa.graph.size import most, named, plain

ALIGNMENT: Final = 64


@final
class Plan(NamedTuple):
    """`bases`: of each memory outside the arena the number of its base; the arena is base 0.
    `places`, `offsets`: of each memory inside. `frees`: bases that nothing needs after an action.
    `reused`: memories outside that may lie where an input does, with those inputs."""

    bases: dict[int, int]
    places: dict[int, int]
    offsets: dict[int, int]
    arena: int
    frees: tuple[tuple[int, ...], ...]
    reused: dict[int, list[int]]

    def place(self, memory: int, offset: int) -> tuple[int, int]:
        base = self.bases.get(memory)
        return (base, offset) if base is not None else (0, self.offsets[memory] + offset)

    def where(self, memory: int) -> tuple[int, int]:
        """Its base, and its place in the arena: what is equal for memories that lie together."""
        base = self.bases.get(memory)
        return (base, 0) if base is not None else (0, self.places[memory])


def used(nests: Nests, action: Any) -> tuple[list[int], list[int]]:
    """Memories that an action reads, and that it writes."""
    if type(action) is Call:
        return [m for m, _ in action.operands], [m for m, _ in action.results]
    assert isinstance(action, Host | Control)
    return [nests.layout(s).root for s in action.operands], list(action.results)


def plan(nests: Nests, outside: Iterable[int]) -> Plan:
    """`outside` are the memories that do not lie in the arena, in the order of their bases."""
    bases = {memory: 1 + i for i, memory in enumerate(outside)}
    last: dict[int, int] = {}
    first: dict[int, int] = {}
    for number, action in enumerate(nests.actions):
        for memory in [m for part in used(nests, action) for m in part]:
            first.setdefault(memory, number)
            last[memory] = number
    frees: list[list[int]] = [[] for _ in nests.actions]
    for memory, number in last.items():
        if memory in bases:
            frees[number].append(bases[memory])
    homes, reused = _in_place(nests, bases, first, last)
    inside = [
        (first[m], last[m], nests.bytes_of(m), m) for m in first
        if m not in bases and m not in homes
    ]  # fmt: skip
    places = _placed([(start, end, plain(nbytes), m) for start, end, nbytes, m in inside])
    starts, size = _ends(places, {m: nbytes for _, _, nbytes, m in inside})
    places |= {m: places[home] for m, home in homes.items()}
    offsets = {m: starts[place] for m, place in places.items()}
    return Plan(bases, places, offsets, size, tuple([tuple(f) for f in frees]), reused)


def _in_place(
    nests: Nests, bases: dict[int, int], first: dict[int, int], last: dict[int, int]
) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Results that lie where an operand did that nothing reads afterwards: in the arena, with the
    memory whose place they share, which then lasts as long as they do; and outside, with an input
    of the program."""
    inputs, outputs = nests.draft.program.graph.first_step_slot, nests.draft.outputs
    homes: dict[int, int] = {}
    reused: dict[int, list[int]] = {}
    for number, action in enumerate(nests.actions):
        if type(action) is not Call:
            continue
        for k, i in action.alike:
            old, new = action.operands[k][0], action.results[i][0]
            home = homes.get(old, old)
            if last[home] != number or first[new] != number or new in homes:
                continue
            if nests.bytes_of(old) != nests.bytes_of(new):
                continue
            if home not in bases and new not in bases:
                homes[new], last[home] = home, last[new]
            elif home < inputs and home not in outputs and new in bases:
                reused.setdefault(new, []).append(home)
    return homes, reused


WINDOW: Final = 64  # calls that may be under way at once


def barriers(nests: Nests, plan: Plan) -> list[int]:
    """For each call how many of those before it must be done: it reads or writes over what they
    write, or writes over what they read (where results may lie). Never less than for the call
    before."""
    found: list[int] = []
    seen: list[tuple[set[Any], set[Any]]] = []
    for call in nests.actions:
        if type(call) is not Call:
            continue
        reads, writes = [
            {plan.where(n) for m, _ in part for n in (m, *plan.reused.get(m, ()))}
            if call.tiles else set() for part in (call.operands, call.results)
        ]  # fmt: skip
        number, after = len(seen), found[-1] if found else 0
        after = max(after, number - WINDOW)
        for other in range(number - 1, after - 1, -1):
            read, written = seen[other]
            if not (writes.isdisjoint(read) and written.isdisjoint(reads | writes)):
                after = other + 1
                break
        found.append(after)
        seen.append((reads, writes))
    return found


def _placed(pieces: Sequence[tuple[int, int, int, int]]) -> dict[int, int]:
    """(first use, last use, bytes, name) -> numbers of places. The largest first, each where it
    fits best of those that are free while it is needed."""
    found: dict[int, int] = {}
    places: list[tuple[int, list[tuple[int, int]]]] = []  # bytes, when needed
    for start, end, nbytes, name in sorted(pieces, key=lambda p: (-p[2], p)):
        fitting = [
            i for i, (_, spans) in enumerate(places)
            if all(end < first or last < start for first, last in spans)
        ]  # fmt: skip
        if fitting:
            number = min(fitting, key=lambda i: places[i][0])
        else:
            number = len(places)
            places.append((nbytes, []))
        places[number][1].append((start, end))
        found[name] = number
    return found


def _ends(places: dict[int, int], sizes: dict[int, int]) -> tuple[list[int], int]:
    """Where each place begins, and where the last one ends."""
    held: list[list[int]] = [[] for _ in range(max(places.values(), default=-1) + 1)]
    for memory, place in places.items():
        held[place].append(sizes[memory])
    starts, top = [], 0
    for some in held:
        starts.append(top)
        need = most(*[-(-n // ALIGNMENT) * ALIGNMENT for n in some], ALIGNMENT)
        top = named(top + need)
    return starts, top
