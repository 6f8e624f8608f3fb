"""Where every memory of a Program lies: in one arena, where pieces are used again as soon as what
they held is needed no more, or outside: inputs, constants, results, and what host calls give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, final

from proa.backends.cpu.kernel import Call
from proa.backends.cpu.nest import Control, Host, Nests

ALIGNMENT: Final = 64


@final
class Plan(NamedTuple):
    """`bases`: of each memory outside the arena the number of its base; the arena is base 0.
    `offsets`: of each memory inside. `frees`: bases that nothing needs after an action.
    `reused`: memories outside that may lie where an input does, with those inputs."""

    bases: dict[int, int]
    offsets: dict[int, int]
    arena: int
    frees: tuple[tuple[int, ...], ...]
    reused: dict[int, list[int]]

    def place(self, memory: int, offset: int) -> tuple[int, int]:
        base = self.bases.get(memory)
        return (base, offset) if base is not None else (0, self.offsets[memory] + offset)


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
    offsets, size = _placed(inside)
    offsets |= {m: offsets[home] for m, home in homes.items()}
    return Plan(bases, offsets, size, tuple([tuple(f) for f in frees]), reused)


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
    spans: list[tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]] = []
    for call in nests.actions:
        if type(call) is not Call:
            continue
        reads, writes = [
            [_span(nests, plan, n) for m, _ in part for n in (m, *plan.reused.get(m, ()))]
            if call.tiles else [] for part in (call.operands, call.results)
        ]  # fmt: skip
        number, after = len(spans), found[-1] if found else 0
        after = max(after, number - WINDOW)
        for other in range(number - 1, after - 1, -1):
            read, written = spans[other]
            if _meet(writes, read) or _meet(written, [*reads, *writes]):
                after = other + 1
                break
        found.append(after)
        spans.append((reads, writes))
    return found


def _span(nests: Nests, plan: Plan, memory: int) -> tuple[int, int, int]:
    """Base, begin and end of a memory."""
    base, begin = plan.place(memory, 0)
    return base, begin, begin + nests.bytes_of(memory)


def _meet(some: list[tuple[int, int, int]], others: list[tuple[int, int, int]]) -> bool:
    return any(a == c and b < y and x < e for a, b, e in some for c, x, y in others)


def _placed(pieces: list[tuple[int, int, int, int]]) -> tuple[dict[int, int], int]:
    """(first use, last use, bytes, name) -> offsets: in order of first use the lowest gap that
    holds a piece; what is free again joins its neighbours."""
    offsets: dict[int, int] = {}
    gaps: list[list[int]] = []  # [begin, end], ascending, apart
    top = size = 0
    busy: list[tuple[int, int, int]] = []  # (last use, begin, end)
    for start, end, nbytes, name in sorted(pieces):
        for row in [b for b in busy if b[0] < start]:
            busy.remove(row)
            _opened(gaps, row[1], row[2])
        while gaps and gaps[-1][1] == top:
            top = gaps.pop()[0]
        need = max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)
        fitting = [g for g in gaps if g[1] - g[0] >= need]
        if fitting:
            gap = min(fitting, key=lambda g: g[1] - g[0])
            begin = gap[0]
            gap[0] += need
            if gap[0] == gap[1]:
                gaps.remove(gap)
        else:
            begin, top = top, top + need
        offsets[name] = begin
        busy.append((end, begin, begin + need))
        size = max(size, top)
    return offsets, size


def _opened(gaps: list[list[int]], begin: int, end: int) -> None:
    """One more gap, joined with those beside it."""
    for gap in list(gaps):
        if gap[1] == begin:
            begin = gap[0]
            gaps.remove(gap)
        elif gap[0] == end:
            end = gap[1]
            gaps.remove(gap)
    gaps.append([begin, end])
    gaps.sort()
