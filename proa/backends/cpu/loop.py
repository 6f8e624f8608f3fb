"""`Loop`: a kernel that walks rows, and along each row computes elements and sums of them.

A reduction runs along the row, and is complete at its end: what needs it goes on with the same
row. Or it runs from row to row (its result's pattern is `+`): of each block of 256 rows 16 lanes
are left, which `Join` adds. In a `partial` loop, which is one long row cut into pieces, 16 lanes
of each piece are left.

A row is walked once for each *phase*: what needs no sum, then what needs the first sums, and so
on. A value of an earlier phase is computed again where that is cheap, else kept in scratch.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from proa.backends.cpu.claims import code_of, memory_type, register_type
from proa.backends.cpu.emit import emit
from proa.backends.cpu.kernel import is_reduction, lane_dtype
from proa.backends.cpu.target import Target
from proa.dtypes import Dtype
from proa.graph.entry import Entry

AGAIN: Final = 3  # what a value may cost that is computed again in a later phase
STILL: Final = ("s", "i0")


class Analysis(NamedTuple):
    """Of each operand and node: `kind` (still, row, full) and the phase from which it is there;
    the number of phases; full nodes kept in scratch; nodes computed along the row, by phase."""

    kind: tuple[str, ...]
    phase: tuple[int, ...]
    phases: int
    kept: tuple[int, ...]
    needed: tuple[tuple[int, ...], ...]


def is_plain(dtype: Dtype) -> bool:
    """Whether registers hold elements as memory does."""
    return memory_type(dtype) == register_type(dtype)


def _is_sum(entry: Entry, sources: tuple[int, ...]) -> bool:
    """Whether a node adds up what it walks over; one of several sources adds up these."""
    return is_reduction(entry) and len(sources) == 1


@final
class Loop:
    """Operands (dtype, pattern), nodes (entry, operands), results (number, pattern). Operand i is
    i; node j stands behind them. A pattern says how memory runs along the row: `u` unit stride,
    `s` standing still (a result: one a row), `g` any stride, `+` a result that rows are added
    to; `i1` and `i0` are an operand's own position, moving and standing, without memory."""

    __slots__ = ("operands", "nodes", "results", "is_partial", "key", "analysis")

    def __init__(
        self, operands: tuple[tuple[Dtype, str], ...],
        nodes: tuple[tuple[Entry, tuple[int, ...]], ...], results: tuple[tuple[int, str], ...],
        is_partial: bool = False,
    ) -> None:  # fmt: skip
        self.operands = operands
        self.nodes = nodes
        self.results = results
        self.is_partial = is_partial
        self.analysis = self._analysed()
        self.key = self._text()

    def _text(self) -> str:
        lines = [
            "loop partial" if self.is_partial else "loop",
            *[f"{d.name} {p}" for d, p in self.operands],
        ]
        for entry, sources in self.nodes:
            ins = " ".join(map(str, sources))
            types = " ".join(i.dtype.name for i in entry.ins)
            lines.append(f"{code_of(entry)} {ins} : {types} -> {entry.outs[0].dtype.name}")
        return "\n".join([*lines, "results " + " ".join(f"{r}{p}" for r, p in self.results)])

    def ir(self, name: str, machine: Target) -> str:
        return emit(self, name, machine)

    def node(self, number: int) -> tuple[Entry, tuple[int, ...]] | None:
        at = number - len(self.operands)
        return self.nodes[at] if at >= 0 else None

    def dtype(self, number: int) -> Dtype:
        node = self.node(number)
        return self.operands[number][0] if node is None else node[0].outs[0].dtype

    def reduction(self, number: int) -> Entry | None:
        """The entry of a node that is a sum, a largest or a smallest."""
        node = self.node(number)
        return node[0] if node is not None and _is_sum(*node) else None

    def result_dtype(self, number: int) -> Dtype:
        """What is stored for a result: of an incomplete sum its lanes."""
        dtype = self.dtype(number)
        incomplete = self.is_partial and self.reduction(number) is not None
        return lane_dtype(dtype) if incomplete or number in self.across else dtype

    def written(self, result: int) -> int:
        """The phase that stores a result of the row."""
        return self.analysis.phase[self.results[result][0]]

    def last_read(self, operand: int) -> int:
        """The last phase that loads an operand along the row."""
        found = [p for p, numbers in enumerate(self.analysis.needed)
                 if any(operand in self._sources(n) for n in numbers)]  # fmt: skip
        found += [self.written(i) for i, (r, _) in enumerate(self.results) if r == operand]
        sums = [n for n in range(len(self.operands), len(self.analysis.kind))
                if self.reduction(n) is not None and operand in self._sources(n)]  # fmt: skip
        return max([*found, *[self.analysis.phase[n] for n in sums]], default=0)

    def subject(self, number: int) -> int:
        """The operand that a node is made of by operations on it: its first operand's first."""
        while sources := self._sources(number):
            number = sources[0]
        return number

    def _sources(self, number: int) -> tuple[int, ...]:
        node = self.node(number)
        return node[1] if node is not None else ()

    @property
    def across(self) -> frozenset[int]:
        """Reductions from row to row."""
        return frozenset([r for r, pattern in self.results if pattern == "+"])

    @property
    def stored(self) -> frozenset[int]:
        """Kept nodes that are results in the same form: they can be read from there."""
        found = [r for r, p in self.results if p == "u" and is_plain(self.dtype(r))]
        return frozenset(found) & frozenset(self.analysis.kept)

    def _analysed(self) -> Analysis:
        kind = ["still" if p in STILL else "full" for _, p in self.operands]
        phase = [0] * len(kind)
        count = len(kind)
        for entry, sources in self.nodes:
            at = max([phase[s] for s in sources], default=0)
            if len(kind) in self.across:
                kind.append("across")
            elif _is_sum(entry, sources):
                kind.append("row")
                at += 1
            else:
                kinds = {kind[s] for s in sources}
                kind.append("full" if "full" in kinds else "row" if "row" in kinds else "still")
            phase.append(at)
        # What runs along a row of one element is one number a row as well.
        self.results = tuple([(r, "u" if kind[r] == "full" else p) for r, p in self.results])
        last = [phase[r] for r, pattern in self.results if pattern in "u+"]
        last += [phase[n] - 1 for n in range(count, len(phase)) if kind[n] == "row"
                 and self.reduction(n) is not None]  # fmt: skip
        phases = max(last, default=0)
        kept, needed = self._needed(kind, phase, phases + 1)
        return Analysis(tuple(kind), tuple(phase), phases + 1, kept, needed)

    def _needed(
        self, kind: list[str], phase: list[int], phases: int
    ) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Full nodes that are kept for later phases, and those that each phase computes."""
        count = len(self.operands)
        cost = [0] * count  # to compute a full node again, from memory
        for number, (entry, sources) in enumerate(self.nodes, count):
            full = [s for s in sources if kind[s] == "full"]
            again = entry.primitive.cost + sum(cost[s] for s in full)
            cost.append(again if kind[number] == "full" else 0)
        wanted: list[set[int]] = [set() for _ in range(phases)]
        for number, (entry, sources) in enumerate(self.nodes, count):
            if _is_sum(entry, sources) and sources[0] >= count and kind[sources[0]] == "full":
                wanted[phase[number] - (kind[number] == "row")].add(sources[0])
        for r, _ in self.results:
            if r >= count and kind[r] == "full":
                wanted[phase[r]].add(r)
        kept: set[int] = set()
        for p in reversed(range(phases)):
            stack = list(wanted[p])
            while stack:
                number = stack.pop()
                if phase[number] < p and cost[number] > AGAIN:
                    kept.add(number)
                    wanted[phase[number]].add(number)
                    continue
                wanted[p].add(number)
                node = self.node(number)
                sources = node[1] if node is not None else ()
                stack += [s for s in sources if kind[s] == "full" and s >= count]
        return tuple(sorted(kept)), tuple([tuple(sorted(w)) for w in wanted])
