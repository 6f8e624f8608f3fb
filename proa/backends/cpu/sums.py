"""Sums in the one order of RULES 3.3 b, and so products, the largest and smallest: 16 lanes a
block of 256 elements, blocks joined lane by lane in the aligned binary tree, lanes by halves."""

from __future__ import annotations

from typing import Any, Final, final

from proa import dtypes
from proa.backends.cpu.access import Access
from proa.backends.cpu.claims import (
    HELD,
    NARROW,
    RULES,
    applied,
    narrowed,
    register_type,
    rounded,
    signed,
)
from proa.backends.cpu.kernel import LANES, entered, is_reduction, lane_dtype
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.vector import Body, Vector, select
from proa.dtypes import Dtype
from proa.graph.entry import Entry

RULE: Final = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}


def claimed_sum(entry: Entry) -> bool:
    """Whether a reduction is added up here."""
    if not is_reduction(entry) or entry.primitive.name not in RULE or not entry.params[0]:
        return False
    dtype = entry.ins[0].dtype
    if dtype not in HELD or (dtype is dtypes.float16 and not target().has_half):
        return False
    return not entry.ins[0].is_named


def identity(entry: Entry) -> Any:
    """What changes nothing: +0, 1, or the end of the dtype's range."""
    name, dtype = entry.primitive.name, lane_dtype(entry.ins[0].dtype)
    if name in ("sum", "prod"):
        return int(name == "prod")
    if dtype.is_float:
        return float("-inf") if name == "max" else float("inf")
    info = dtypes.iinfo(dtype)
    return info.min if name == "max" else info.max


def joined(entry: Entry, x: Vector, y: Vector) -> Vector:
    """Two partial results as one; x comes from elements before those of y."""
    return RULES[RULE[entry.primitive.name]](x, y, entry)


def lengthened(entry: Entry, lanes: Vector, new: list[Vector]) -> Vector:
    """Lanes with vectors of one block added, ascending. NaN stays: of the largest or smallest of
    several that is looked at once, beside the chain of comparisons, which so is half as long."""
    name, is_half = entry.primitive.name, entry.ins[0].dtype is dtypes.float16
    if name in ("sum", "prod") or not lanes.is_float or is_half or len(new) == 1:
        for x in new:
            lanes = joined(entry, lanes, x)
        return lanes
    found, lost, bad = lanes, new[0], lanes.compare("uno", new[0])
    for x in new:
        found = select(found > x if name == "max" else found < x, found, x)
    for i, x in enumerate(new[1:], 1):
        lost = lost + x
        if i % 2:
            bad = bad | x.compare("uno", new[min(i + 1, len(new) - 1)])
    return select(bad, lanes + lost, found)


def taken(x: Vector, entry: Entry) -> Vector:
    """An operand as its lanes are held."""
    return x.to("zext", "i8", False) if x.type == "i1" else x


def completed(entry: Entry, x: Vector) -> Vector:
    """The result for what its lanes came to."""
    if entry.out.dtype is dtypes.bool_:
        return x.differs(0)
    return rounded(x, entry.out.dtype) if entry.out.dtype in NARROW else x


def computed(entry: Entry, operands: list[Vector]) -> Vector:
    """One node on elements; a reduction has at most 16, one for each lane. Absent lanes change
    nothing but the sign of a zero: there is no sum -0."""
    if not is_reduction(entry):
        return applied(entry, operands)
    rows = [taken(x, entry) for x in operands]
    half = LANES // 2
    while half:
        rows = [
            joined(entry, rows[i], rows[i + half]) if i + half < len(rows) else rows[i]
            for i in range(min(half, len(rows)))
        ]
        half //= 2
    return completed(entry, joined(entry, rows[0], rows[0].full(identity(entry))))


def halved(entry: Entry, lanes: Vector) -> Vector:
    """16 lanes to one: 8 and 8, 4 and 4, ... ; the result stands in every lane."""
    body, names = lanes.body, list(lanes.names)
    while len(names) > 1:
        half = len(names) // 2
        pairs = zip(names[:half], names[half:], strict=True)
        names = [joined(entry, lanes.like([a]), lanes.like([b])).names[0] for a, b in pairs]
    found, width = lanes.like(names), body.lanes
    while width > 1:
        width //= 2
        order = ", ".join(f"i32 {(i + width) % body.lanes}" for i in range(body.lanes))
        other = body.set(
            f"shufflevector {found.wide} {found.names[0]}, {found.wide} poison, "
            f"{body.wide('i32')} <{order}>"
        )
        found = joined(entry, found, found.like([other]))
    first = body.set(
        f"shufflevector {found.wide} {found.names[0]}, {found.wide} poison, "
        f"{body.wide('i32')} zeroinitializer"
    )
    return completed(entry, found.like([first]))


@final
class Join:
    """Completes sums of which 16 lanes a block (or piece) are there.

    Results: the lanes (outer, blocks, lanes, columns), which are used up, and (outer, columns).
    Of sums of fewer than 16 elements only a power of two of lanes is there. Table:
    blocks, columns, columns a tile, tiles along the columns, lanes.
    """

    __slots__ = ("entry", "key")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        of = entry.ins[0].dtype.name
        self.key = f"join {entry.primitive.name} {of} -> {entry.out.dtype.name}"

    def ir(self, name: str, machine: Target) -> str:
        return _join_ir(self.entry, name, machine)


def _join_ir(entry: Entry, name: str, machine: Target) -> str:
    dtype: Dtype = lane_dtype(entry.ins[0].dtype)
    kind, size = register_type(dtype), dtype.itemsize
    body = Body(machine.vector_bytes // max(size, 4))
    access, lanes, bits = Access(body), body.lanes, body.wide("i1")
    body.label("entry")
    words = []
    for i in range(5):
        at = body.set(f"getelementptr i64, ptr %table, i64 {i}")
        words.append(body.set(f"load i64, ptr {at}"))
    blocks, columns, chunk, pieces, present = words
    outer = body.set(f"udiv i64 %tile, {pieces}")
    piece = body.set(f"urem i64 %tile, {pieces}")
    begin = body.set(f"mul i64 {piece}, {chunk}")
    end = access.lower(body.set(f"add i64 {begin}, {chunk}"), columns)
    width = body.set(f"sub i64 {end}, {begin}")
    block_size = body.set(f"mul i64 {body.set(f'mul i64 {columns}, {present}')}, {size}")
    all_ = body.set(f"mul i64 {block_size}, {blocks}")
    far = body.set(f"mul i64 {outer}, {all_}")
    base = body.set(f"getelementptr i8, ptr %p0, i64 {far}")
    shift = body.set(f"mul i64 {begin}, {size}")
    body.line(f"  %base = getelementptr i8, ptr {base}, i64 {shift}")
    # A tile of all columns takes the 16 lanes of a block in one go.
    body.line(f"  %whole = icmp eq i64 {width}, {columns}")
    body.line(f"  %lines = select i1 %whole, i64 1, i64 {present}")
    long = body.set(f"mul i64 {columns}, {present}")
    body.line(f"  %length = select i1 %whole, i64 {long}, i64 {width}")
    line_size = body.set(f"mul i64 {columns}, {size}")

    def read(at: str, position: str, mask: str) -> Vector:
        names = access.read(at, kind, [position], [mask], size)
        return Vector(body, kind, names, signed(dtype))

    def loop(label: str, before: str, limit: str, step: str, start: str = "0") -> None:
        body.line(f"  br label %{label}")
        body.label(label)
        body.line(f"  %{label}.i = phi i64 [ {start}, %{before} ], [ %{label}.n, %{label}.end ]")
        body.line(f"  %{label}.more = icmp slt i64 %{label}.i, {limit}")
        body.line(f"  br i1 %{label}.more, label %{label}.body, label %{label}.after")
        body.label(f"{label}.body")
        if step:
            body.line(f"  %{label}.n = add i64 %{label}.i, {step}")

    def close(label: str) -> None:
        body.line(f"  br label %{label}.end")
        body.label(f"{label}.end")
        body.line(f"  br label %{label}")
        body.label(f"{label}.after")

    loop("tree", "entry", blocks, "%tree.i", "1")  # the distance of neighbours: 1, 2, 4, ...
    double = body.set("mul i64 %tree.i, 2")
    last = body.set(f"sub i64 {blocks}, %tree.i")
    loop("pair", "tree.body", last, double)
    far = body.set(f"mul i64 %pair.i, {block_size}")
    left = body.set(f"getelementptr i8, ptr %base, i64 {far}")
    gap = body.set(f"mul i64 %tree.i, {block_size}")
    loop("line", "pair.body", "%lines", "1")
    far = body.set(f"mul i64 %line.i, {line_size}")
    mine = body.set(f"getelementptr i8, ptr {left}, i64 {far}")
    loop("piece", "line.body", "%length", str(lanes))
    other = body.set(f"getelementptr i8, ptr {mine}, i64 {gap}")
    (mask,) = access.masks("%piece.i", 1, "%length")
    new = joined(entry, *[read(at, "%piece.i", mask) for at in (mine, other)])
    access.write(mine, new, ["%piece.i"], [mask])
    for label in ("piece", "line", "pair", "tree"):
        close(label)
    loop("column", "tree.after", width, str(lanes))
    (mask,) = access.masks("%column.i", 1, width)
    rows, nothing = [], Vector(body, kind, [body.constant(identity(entry), kind)], signed(dtype))
    for lane in range(LANES):
        there = body.set(f"icmp ugt i64 {present}, {lane}")
        lit = body.set(f"select i1 {there}, {bits} {mask}, {bits} zeroinitializer")
        # An absent lane is looked for where there is memory: a mask that hides a page that is not
        # there costs a trap inside the processor.
        far = body.set(f"select i1 {there}, i64 {body.set(f'mul i64 {line_size}, {lane}')}, i64 0")
        at = body.set(f"getelementptr i8, ptr %base, i64 {far}")
        rows.append(select(Vector(body, "i1", [lit], False), read(at, "%column.i", lit), nothing))
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [joined(entry, x, y) for x, y in pairs]
    out = narrowed(completed(entry, rows[0]), entry.out.dtype)
    row = body.set(f"mul i64 {outer}, {columns}")
    first = body.set(f"add i64 {row}, {begin}")
    place = body.set(f"add i64 {first}, %column.i")
    access.write("%p1", out, [place], [mask])
    close("column")
    body.line("  ret void")
    helpers = [line for lines in body.helpers.values() for line in lines]
    head = entered(name, 2)
    return "\n".join([
        f'target triple = "{machine.triple}"', *helpers, *_enter(head), *body.lines, "}",
        *body.declared.values(),
    ])  # fmt: skip


def _enter(head: list[str]) -> list[str]:
    """The entry block that finds the operands leads into the body's own."""
    return [head[0], "find:", *head[1:], "  br label %entry"]
