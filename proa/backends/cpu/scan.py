"""Cumulative sums and products: ascending from the first element, one chain for each place beside
the axis.

Rows that lie side by side in memory go as vectors, the sums so far in memory; others as single
elements, a few chains at a time. Narrow floats are added in float32, each result rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final, NamedTuple, final

from proa import dtypes
from proa.backends.cpu.claims import (
    FLOATS,
    INTS,
    NARROW,
    memory_type,
    narrowed,
    register_type,
    rounded,
    signed,
    widened,
)  # fmt: skip
from proa.backends.cpu.joined import (
    PART_WORDS,
    TILE_BYTES,
    Axis,
    Code,
    parted,
    rows_table,
    spaced,
    strides_of,
)  # fmt: skip
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.vector import Vector
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.size import most

CHAINS: Final = 4  # go side by side: an addition takes about four cycles
COLUMNS: Final = 512  # places beside each other in a tile
LEAST_COLUMNS: Final = 4


@final
class Cumulative(NamedTuple):
    """`u`: places beside the axis have unit strides. `g`: any strides."""

    op: str
    dtype: Dtype
    pattern: str

    @property
    def key(self) -> str:
        return f"{self.op} {self.dtype.name} {self.pattern}"

    def _joined(self, before: Vector, new: Vector) -> Vector:
        return before + new if self.op == "cumsum" else before * new

    def ir(self, name: str, machine: Target) -> str:
        """Words: part (rows, places beside), steps of operand and result along these, length of
        the axis and steps along it, rows."""
        width = 4 if self.dtype in NARROW else self.dtype.itemsize
        code = Code(2, max(2, machine.vector_bytes // width))
        source, goal = code.pointer(0), code.pointer(1)
        beside = code.words(PART_WORDS, 2)
        size, *steps = code.words(PART_WORDS + 2, 3)
        first, last, left, right = code.part(0)
        with code.walk(PART_WORDS + 5, 2, first, last) as offsets:
            from_, to = code.moved(source, offsets[0]), code.moved(goal, offsets[1])
            if self.pattern == "u":
                self._columns(code, from_, to, size, steps, left, right)
            else:
                self._chains(code, from_, to, size, [*steps, *beside], left, right)
        return code.module(name, machine)

    # Values.

    @property
    def held(self) -> str:
        return register_type(self.dtype)

    def _load(self, code: Code, pointer: str, positions: Sequence[str]) -> Vector:
        raw = code.load(
            memory_type(self.dtype), pointer, positions, self.dtype.itemsize, signed(self.dtype)
        )
        return widened(raw, self.dtype)

    def _store(self, code: Code, value: Vector, pointer: str, positions: Sequence[str]) -> None:
        if self.dtype in NARROW:
            value = narrowed(rounded(value, self.dtype), self.dtype)
        code.store(value, pointer, positions, self.dtype.itemsize)

    # Vectors.

    def _columns(
        self, code: Code, from_: str, to: str, size: str, steps: Sequence[str],
        left: str, right: str,
    ) -> None:  # fmt: skip
        """Row by row, each added to the sums before it: the row of results before, or float32
        numbers in scratch where results are rounded."""
        is_kept = self.dtype in NARROW
        sums = code.moved("%scratch", code.mul(left, -4))

        def store(value: Vector, goal: str, positions: Sequence[str]) -> None:
            self._store(code, value, goal, positions)
            if is_kept:
                code.store(value, sums, positions, 4)

        code.along(left, right, lambda at: store(self._load(code, from_, at), to, at))
        with code.loop(1, size) as k:
            given, goal = (
                code.moved(p, code.mul(k.at, s)) for p, s in zip((from_, to), steps, strict=True)
            )
            before = code.moved(goal, code.sub(0, steps[1]))

            def add(positions: list[str]) -> None:
                if is_kept:
                    total = code.load("float", sums, positions, 4)
                else:
                    total = self._load(code, before, positions)
                store(self._joined(total, self._load(code, given, positions)), goal, positions)

            code.along(left, right, add)

    # Single elements.

    def _chains(
        self, code: Code, from_: str, to: str, size: str, steps: Sequence[str],
        left: str, right: str,
    ) -> None:  # fmt: skip
        """A group of chains, then what is left one by one. Narrow ones share a vector, so that
        they are rounded together."""
        at = left
        for count in (CHAINS, 1):
            code.body.lanes = count if self.dtype in NARROW else 1
            with code.loop(at, code.sub(right, count - 1), count) as i:
                places = [code.add(i.at, c) for c in range(count)]
                given = [code.moved(from_, code.mul(p, steps[2])) for p in places]
                goals = [code.moved(to, code.mul(p, steps[3])) for p in places]
                total = self._taken(code, given)
                self._put(code, total, goals)
                wide = code.body.wide(self.held)
                with code.loop(1, size, carried=total.names, type_=wide) as k:
                    along = [code.mul(k.at, s) for s in steps[:2]]
                    new = self._taken(code, [code.moved(p, along[0]) for p in given])
                    total = self._joined(new.like(k.values), new)
                    self._put(code, total, [code.moved(p, along[1]) for p in goals])
                    k.next = list(total.names)
            at = i.at

    def _taken(self, code: Code, places: Sequence[str]) -> Vector:
        """Elements from anywhere: one a lane, or registers of one lane."""
        kind, width, body = memory_type(self.dtype), self.dtype.itemsize, code.body
        wide, names = body.wide(kind), []
        if body.lanes == 1:
            names = [code.set(f"load {wide}, ptr {p}, align {width}") for p in places]
        else:
            found = "poison"
            for lane, place in enumerate(places):
                one = code.set(f"load {kind}, ptr {place}, align {width}")
                found = code.set(f"insertelement {wide} {found}, {kind} {one}, i32 {lane}")
            names = [found]
        return widened(Vector(body, kind, names, signed(self.dtype)), self.dtype)

    def _put(self, code: Code, value: Vector, places: Sequence[str]) -> None:
        if self.dtype in NARROW:
            value = narrowed(rounded(value, self.dtype), self.dtype)
        names, kind = list(value.names), value.wide
        if code.body.lanes > 1:
            names = [
                code.set(f"extractelement {kind} {names[0]}, i32 {lane}")
                for lane in range(code.body.lanes)
            ]
            kind = value.type
        for name, place in zip(names, places, strict=True):
            code.body.line(f"  store {kind} {name}, ptr {place}, align {self.dtype.itemsize}")


def claims(entry: Entry) -> bool:
    """Real numbers."""
    dtype = entry.out.dtype
    if entry.primitive.name not in ("cumsum", "cumprod") or dtype not in FLOATS | INTS:
        return False
    if any(s.is_named for s in entry.ins):
        return False
    return dtype is not dtypes.float16 or target().has_half


def plan(nests: Any, step: int) -> None:
    draft = nests.draft
    entry, result = draft.steps[step].entry, draft.first[step]
    along, reverse = entry.params
    layout = nests.layout(draft.steps[step].slots[0])
    shape, dtype = entry.out.shape, entry.out.dtype
    width, size = dtype.itemsize, shape[along]
    to = strides_of(shape, width)
    steps = [layout.strides[along], to[along]]
    start, end = layout.offset, 0
    if reverse and size:
        start, end = start + (size - 1) * steps[0], (size - 1) * steps[1]
        steps = [-s for s in steps]
    rest = [a for a in range(len(shape)) if a != along]
    axes = spaced(
        [shape[a] for a in rest], [layout.strides[a] for a in rest], [to[a] for a in rest]
    ) or [Axis(1, (width, width))]
    pattern, across = "u", COLUMNS
    if axes[0].strides != (width, width) or axes[0].size < LEAST_COLUMNS:
        pattern, across = "g", most(1, TILE_BYTES // most(1, width * size) // CHAINS) * CHAINS
        longest = max(range(len(axes)), key=lambda i: axes[i].size)
        axes.insert(0, axes.pop(longest))
    beside, rows = axes[0], axes[1:]
    part, tiles = parted(
        prod(a.size for a in rows), beside.size, most(1, width * size), across=across
    )
    table = [*part, *beside.strides, size, *steps, *rows_table(rows, 2)]
    scratch = 4 * part[3] if pattern == "u" and dtype in NARROW else 0
    operands, results = ((layout.root, start),), ((result, end),)
    tiles = tiles if prod(shape) else 0
    kernel = Cumulative(entry.primitive.name, dtype, pattern)
    nests.actions.append(Call(kernel, operands, results, tuple(table), tiles, scratch, step))
