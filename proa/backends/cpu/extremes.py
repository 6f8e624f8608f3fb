"""`argmax`: along rows the largest first and then its place, across rows both side by side.

NaN counts as the largest, the first of equals wins, and zeros of either sign are equal. What is
found is exact, so vectors and tiles go in any order.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final, NamedTuple, final

from proa import dtypes
from proa.backends.cpu.claims import HELD, NARROW, memory_type, register_type, signed, widened
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
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Vector, select
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.size import most

GROUP: Final = 2  # vectors that go side by side across rows
CHAINS: Final = 4  # and along one
COLUMNS: Final = 512  # places beside each other in a tile
LEAST_COLUMNS: Final = 4


@final
class Argmax(NamedTuple):
    """`r`: along the axis strides are unit. `u`: beside it they are. `g`: any strides."""

    dtype: Dtype
    pattern: str

    @property
    def key(self) -> str:
        return f"argmax {self.dtype.name} {self.pattern}"

    def ir(self, name: str, machine: Target) -> str:
        """Words: part (rows, places beside), steps of operand and result along these, length of
        the axis and the operand's step along it, rows."""
        # Narrow floats are held in four bytes; and across rows a place stands beside each element.
        is_whole = self.pattern == "r" and self.dtype not in NARROW
        width = self.dtype.itemsize if is_whole else max(4, self.dtype.itemsize)
        code = Code(2, max(2, min(64, machine.vector_bytes // width)))
        source, goal = code.pointer(0), code.pointer(1)
        steps = code.words(PART_WORDS, 2)
        size, along = code.words(PART_WORDS + 2, 2)
        first, last, left, right = code.part(0)
        with code.walk(PART_WORDS + 4, 2, first, last) as offsets:
            from_, to = code.moved(source, offsets[0]), code.moved(goal, offsets[1])
            if self.pattern == "u":
                code.along(
                    left, right, lambda at: self._columns(code, from_, to, size, along, at), GROUP
                )
            else:
                with code.strided(left, right, [from_, to], steps) as (row, place):
                    if self.pattern == "r":
                        self._row(code, row, place, size)
                    else:
                        code.body.lanes, lanes = 1, code.body.lanes
                        self._columns(code, row, place, size, along, ["0"])
                        code.body.lanes = lanes
        return code.module(name, machine)

    # Values: bool as bytes, narrow floats as float32.

    @property
    def held(self) -> str:
        return "i8" if self.dtype is dtypes.bool_ else register_type(self.dtype)

    def _load(self, code: Code, pointer: str, positions: list[str]) -> Vector:
        raw = code.load(
            memory_type(self.dtype), pointer, positions, self.dtype.itemsize, signed(self.dtype)
        )
        return raw if self.dtype is dtypes.bool_ else widened(raw, self.dtype)

    def _beats(self, new: Vector, old: Vector) -> Vector:
        """Whether a value takes the place of one that stands before it."""
        found = new > old
        if not new.is_float:
            return found
        return (found | new.is_nan()) & ~old.is_nan()

    # Across rows.

    def _columns(
        self, code: Code, from_: str, to: str, size: str, along: str, positions: list[str]
    ) -> None:
        """Row by row, a group of columns: the largest so far and where it was."""
        body = code.body
        value = self._load(code, from_, positions)
        count, wide = len(value.names), body.wide("i64")
        kinds = [value.wide] * count + [wide] * count
        start = [*value.names, *["zeroinitializer"] * count]
        with code.loop(1, size, carried=start, type_=kinds) as k:
            row = code.moved(from_, code.mul(k.at, along))
            old, new = value.like(k.values[:count]), self._load(code, row, positions)
            better = self._beats(new, old)
            places = Vector(body, "i64", k.values[count:])
            found = select(better, code.spread("i64", k.at), places)
            k.next = [*select(better, new, old).names, *found.names]
        code.store(Vector(body, "i64", k.values[count:]), to, positions, 8)

    # Along a row.

    def _row(self, code: Code, row: str, to: str, size: str) -> None:
        """The largest, a few vectors side by side; then the first place that holds it."""
        body, lanes = code.body, code.body.lanes
        whole = code.sub(size, code.set(f"urem i64 {size}, {lanes}"))
        body.lanes = 1
        one = self._load(code, row, ["0"])
        body.lanes = lanes
        first = code.set(f"extractelement <1 x {one.type}> {one.names[0]}, i32 0")
        best = one.like(code.spread(one.type, first).names * CHAINS)
        at = "0"
        for count in (CHAINS, 1):
            while len(best.names) > count:
                half = len(best.names) // 2
                best = self._larger(best.like(best.names[:half]), best.like(best.names[half:]))
            step = count * lanes
            stop = code.sub(whole, step - 1)
            kinds = [best.wide] * count
            with code.loop(at, stop, step, carried=best.names, type_=kinds) as i:
                positions = [i.at, *[code.add(i.at, u * lanes) for u in range(1, count)]]
                best = best.like(i.values)
                i.next = list(self._larger(best, self._load(code, row, positions)).names)
            at = i.at
        best = self._halved(best)
        name = code.set(f"shufflevector {best.wide} {best.names[0]}, {best.wide} poison, "
                        "<1 x i32> zeroinitializer")  # fmt: skip
        body.lanes = 1
        best = best.like([name])
        with code.loop(whole, size, carried=best.names, type_=best.wide) as i:
            best = best.like(i.values)
            i.next = list(self._larger(best, self._load(code, row, [i.at])).names)
        largest = code.set(f"extractelement {best.wide} {best.names[0]}, i32 0")
        body.lanes = lanes
        found = self._find(code, row, best.like([code.spread(best.type, largest).names[0]]),
                           "0", whole, "-1")  # fmt: skip
        body.lanes = 1
        is_open = code.set(f"icmp slt i64 {found}, 0")
        start = code.set(f"select i1 {is_open}, i64 {whole}, i64 {size}")
        found = self._find(code, row, best, start, size, found)
        body.lanes = lanes
        body.line(f"  store i64 {found}, ptr {to}, align 8")

    def _larger(self, x: Vector, y: Vector) -> Vector:
        return select(self._beats(y, x), y, x)

    def _halved(self, best: Vector) -> Vector:
        """The largest of all lanes in the first."""
        body, width = best.body, best.body.lanes
        while width > 1:
            width //= 2
            order = ", ".join(f"i32 {(i + width) % body.lanes}" for i in range(body.lanes))
            name = body.set(f"shufflevector {best.wide} {best.names[0]}, {best.wide} poison, "
                            f"{body.wide('i32')} <{order}>")  # fmt: skip
            best = self._larger(best, best.like([name]))
        return best

    def _find(
        self, code: Code, row: str, largest: Vector, first: str, last: str, found: str
    ) -> str:
        """The first place from `first` to below `last` that holds the largest; else `found`."""
        body, lanes, before, name = code.body, code.body.lanes, code.block, code.fresh()
        at, after = body.fresh(), body.fresh()
        body.declare("llvm.cttz.i64", "i64", ["i64", "i1"])
        body.line(f"  br label %{name}")
        code.label(name)
        body.line(f"  {at} = phi i64 [ {first}, %{before} ], [ {after}, %{name}.more ]")
        is_open = code.set(f"icmp slt i64 {at}, {last}")
        body.line(f"  br i1 {is_open}, label %{name}.body, label %{name}.end")
        code.label(f"{name}.body")
        value = self._load(code, row, [at])
        hits = value.equals(largest)
        hits = hits | value.is_nan() if value.is_float else hits
        bits = code.set(f"bitcast {hits.wide} {hits.names[0]} to i{lanes}")
        is_here = code.set(f"icmp ne i{lanes} {bits}, 0")
        body.line(f"  br i1 {is_here}, label %{name}.hit, label %{name}.more")
        code.label(f"{name}.more")
        body.line(f"  {after} = add i64 {at}, {lanes}")
        body.line(f"  br label %{name}")
        code.label(f"{name}.hit")
        bits = code.set(f"zext i{lanes} {bits} to i64") if lanes < 64 else bits
        place = code.add(at, code.set(f"call i64 @llvm.cttz.i64(i64 {bits}, i1 false)"))
        body.line(f"  br label %{name}.end")
        code.label(f"{name}.end")
        return code.set(f"phi i64 [ {found}, %{name} ], [ {place}, %{name}.hit ]")


def claims(entry: Entry) -> bool:
    """Real numbers and bool."""
    if entry.primitive.name != "argmax" or any(s.is_named for s in entry.ins):
        return False
    return entry.ins[0].dtype in HELD


def plan(nests: Any, step: int) -> None:
    """Append the call of one `argmax`."""
    draft = nests.draft
    entry, result = draft.steps[step].entry, draft.first[step]
    ((along,),) = entry.params
    layout, of = nests.layout(draft.steps[step].slots[0]), entry.ins[0]
    width, size = of.dtype.itemsize, of.shape[along]
    rest = [a for a in range(of.ndim) if a != along]
    axes = spaced(
        [of.shape[a] for a in rest], [layout.strides[a] for a in rest],
        strides_of(entry.out.shape, 8),
    ) or [Axis(1, (width, 8))]  # fmt: skip
    is_row = layout.strides[along] == width
    pattern, across = "u", COLUMNS
    if is_row or axes[0].strides[0] != width or axes[0].size < LEAST_COLUMNS:
        pattern = "r" if is_row else "g"
        across = most(1, TILE_BYTES // most(1, width * size))
        longest = max(range(len(axes)), key=lambda i: axes[i].size)
        axes.insert(0, axes.pop(longest))
    beside, rows = axes[0], axes[1:]
    part, tiles = parted(
        prod(a.size for a in rows), beside.size, most(1, width * size), across=across
    )
    table = [*part, *beside.strides, size, layout.strides[along], *rows_table(rows, 2)]
    tiles = tiles if of.size else 0
    place = (layout.root, layout.offset)
    kernel = Argmax(of.dtype, pattern)
    nests.actions.append(Call(kernel, (place,), ((result, 0),), tuple(table), tiles, 0, step))
