"""The inside of a product: the tile of C that lives in registers, and the packing of operands.

A tile is `rows` by two vectors: each step along k loads two vectors of B and one number of A for
each row. A packed panel holds `rows` numbers for each k, one k after the other; a packed sliver of
B two vectors for each k. What is packed beyond the end of an operand is never stored to C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, final

from proa import dtypes
from proa.backends.cpu.claims import memory_type, widened
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Vector
from proa.dtypes import Dtype

BLOCK: Final = 384  # of every sum of products (RULES 3.3 a)
LINE: Final = 64  # bytes of a line of the caches, about
GROUP: Final = 5  # rows that are reached from one pointer
AT_ONCE: Final = 8  # steps along k that are packed at once, where these are far apart
KINDS: Final = ("full", "two", "one")  # both vectors whole; two, masked; one, masked


@final
class Shape(NamedTuple):
    """What a machine's registers make of a product of one dtype. Caches are no part of it: what
    they choose is told by the call, so that objects are good for any."""

    kind: str  # of what is computed with
    itemsize: int
    lanes: int
    rows: int
    has_masks: bool

    @property
    def columns(self) -> int:
        return 2 * self.lanes

    @property
    def heights(self) -> tuple[int, ...]:
        return (1, *range(2, self.rows + 1, 2))

    @property
    def panel_bytes(self) -> int:
        """The last store of a panel runs over its end."""
        return BLOCK * self.rows * self.itemsize + 64

    @property
    def sliver_bytes(self) -> int:
        return BLOCK * self.columns * self.itemsize

    @property
    def keeps_sliver(self) -> bool:
        """In the first cache, while panels go by; else a panel stays there."""
        return self.sliver_bytes <= 32 << 10


def shape_of(dtype: Dtype, machine: Target) -> Shape:
    """Accumulators, two vectors of B and a number of A must fit into the registers."""
    kind, itemsize = ("double", 8) if dtype is dtypes.float64 else ("float", 4)
    lanes, rows = machine.vector_bytes // itemsize, (machine.registers - 4) // 2
    return Shape(kind, itemsize, lanes, rows, machine.vector_bytes > 16)


def micro_kernels(shape: Shape) -> tuple[list[str], list[str], dict[str, str]]:
    """The text of every variant, their names in the order of the table, and declarations."""
    text: list[str] = []
    names: list[str] = []
    declared: dict[str, str] = {}
    for h, height in enumerate(shape.heights):
        for kind in KINDS:
            name = f"tile_{height}_{kind}"
            code = Code(shape.lanes)
            _tile(code, shape, height, shape.heights[h - 1] if h else 0, kind)
            text += code.function(name, TILE_ARGUMENTS, "internal ")
            names.append(name)
            declared |= code.body.declared
    return text, names, declared


TILE_ARGUMENTS: Final = (
    "i64 %depth", "ptr %a", "i64 %a_row", "i64 %a_depth", "ptr %b", "i64 %b_depth",
    "ptr %c", "i64 %c_row", "i64 %rows", "i64 %columns", "i1 %adds",
    "i64 %ahead",
)  # fmt: skip


def _tile(code: Code, shape: Shape, height: int, below: int, kind: str) -> None:
    """One block of K for a tile of C. Rows from `below` on may be absent from C. Meanwhile what
    lies ahead, a number for each k, is fetched into the second cache."""
    t, size, lanes = shape.kind, shape.itemsize, shape.lanes
    count = 1 if kind == "one" else 2
    masks = [""] * count
    if kind != "full":
        rest = code.sub("%columns", (count - 1) * lanes)
        masks[-1] = code.lanes_below(rest)
    wide = code.body.wide(t)
    # One, two and four rows are steps that an address may hold. Of others LLVM is not told that
    # they are multiples: it would go from row to row, each waiting for the last.
    steps = ["0", *[code.mul("%a_row", i) for i in range(1, min(height, GROUP))]]
    steps[3:4] = [code.set(f"freeze i64 {x}") for x in steps[3:4]]
    bases = ["%a"] + [
        code.at("%a", code.mul("%a_row", i * GROUP)) for i in range(1, -(-height // GROUP))
    ]
    with code.when("%adds"):
        for i in range(height):
            place = code.at("%c", code.mul("%c_row", i))
            for v in range(0, count * lanes * size, LINE):
                code.fetch(code.at(place, v), writes=True)
    carried = [("ptr", p) for p in [*bases, "%b"]]
    first = len(carried)
    carried += [(wide, "zeroinitializer")] * (height * count)
    # What is ahead counts the steps too: there is no register left for another counter.
    end = code.add("%ahead", code.mul("%depth", size))
    with code.loop(end, size, carried, "%ahead") as loop:
        *pointers, b = loop.values[:first]
        sums = loop.values[first:]
        if not shape.keeps_sliver:
            code.fetch(code.set(f"inttoptr i64 {loop.index} to ptr"), writes=False)
        right = []
        for v, mask in enumerate(masks):
            place = code.at(b, v * lanes * size)
            if mask and shape.has_masks:
                right.append(code.masked_load(t, place, mask, size))
            else:
                right.append(code.load(wide, place, size))
        made = []
        for i in range(height):
            place = code.at(pointers[i // GROUP], steps[i % GROUP])
            left = code.splat(t, code.load(t, place, size))
            for v in range(count):
                made.append(code.fma(t, left, right[v], sums[i * count + v]))
        pointers = [code.at(p, "%a_depth") for p in pointers]
        loop.next = [*pointers, code.at(b, "%b_depth"), *made]
    sums = loop.values[first:]
    for i in range(height):
        place = code.at("%c", code.mul("%c_row", i))
        if i <= below:
            _update(code, t, size, place, sums[i * count : (i + 1) * count], masks)
            continue
        with code.when(code.compare("sgt", "%rows", i)):
            _update(code, t, size, place, sums[i * count : (i + 1) * count], masks)


def _update(code: Code, t: str, size: int, place: str, sums: list[str], masks: list[str]) -> None:
    """C becomes the sum of this block, or has it added."""
    lanes, wide = code.body.lanes, code.body.wide(t)
    adding, fresh, done = (code.fresh(n) for n in ("adding", "fresh", "done"))
    code.line(f"br i1 %adds, label %{adding}, label %{fresh}")
    for label in (adding, fresh):
        code.label(label)
        for v, (value, mask) in enumerate(zip(sums, masks, strict=True)):
            here = code.at(place, v * lanes * size)
            if label == adding:
                old = code.masked_load(t, here, mask, size) if mask else code.load(wide, here, size)
                value = code.set(f"fadd {wide} {old}, {value}")
            if mask:
                code.masked_store(t, value, here, mask, size)
            else:
                code.store(wide, value, here, size)
        code.line(f"br label %{done}")
    code.label(done)


# Packing.

PACK_ARGUMENTS: Final = ("ptr %to", "ptr %from", "i64 %stride", "i64 %count", "i64 %depth")


def packer(shape: Shape, dtype: Dtype, width: int, along: str, name: str) -> tuple[
    list[str], dict[str, str]
]:  # fmt: skip
    """A function that packs `width` rows, or columns, of which `count` are there. Unit stride is
    along them (`w`) or along k (`k`); `stride` is the other one."""
    code = Code(shape.lanes)
    (_pack_across if along == "w" else _pack_along)(code, shape, dtype, width)
    return code.function(name, PACK_ARGUMENTS, "internal "), code.body.declared


def loaded(code: Code, dtype: Dtype, pointer: str, mask: str) -> str:
    """A vector of an operand, as it is computed with."""
    kind = memory_type(dtype)
    if mask:
        raw = code.masked_load(kind, pointer, mask, dtype.itemsize)
    else:
        raw = code.load(code.body.wide(kind), pointer, dtype.itemsize)
    return widened(Vector(code.body, kind, [raw]), dtype).names[0]


def _pack_across(code: Code, shape: Shape, dtype: Dtype, width: int) -> None:
    """One k after the other, vectors along the rows. A last store that runs over is overwritten."""
    parts = range(0, width, shape.lanes)
    soon = code.mul("%stride", AT_ONCE)
    wide = code.body.wide(shape.kind)

    def walk(masks: list[str]) -> None:
        with code.loop("%depth", carried=[("ptr", "%from"), ("ptr", "%to")]) as loop:
            source, goal = loop.values
            for n in range(0, width * dtype.itemsize, LINE):
                code.fetch(code.at(source, n, soon), writes=False)
            for first, mask in zip(parts, masks, strict=True):
                value = loaded(code, dtype, code.at(source, first * dtype.itemsize), mask)
                code.store(wide, value, code.at(goal, first * shape.itemsize), shape.itemsize)
            loop.next = [code.at(source, "%stride"), code.at(goal, width * shape.itemsize)]

    whole = code.compare("sge", "%count", width)
    with code.when(whole):
        walk([
            "" if first + shape.lanes <= width else _constant_mask(shape.lanes, width - first)
            for first in parts
        ])  # fmt: skip
    with code.unless(whole):
        walk([code.lanes_below(code.sub("%count", first)) for first in parts])


def _constant_mask(lanes: int, count: int) -> str:
    return "<" + ", ".join(f"i1 {str(i < count).lower()}" for i in range(lanes)) + ">"


def _pack_along(code: Code, shape: Shape, dtype: Dtype, width: int) -> None:
    """Squares are transposed in registers. Rows that are not there repeat the first one."""
    lanes = shape.lanes
    parts = [range(i, min(i + lanes, width)) for i in range(0, width, lanes)]
    # Where a store runs over its k, all of that k must be stored before the next.
    together = [parts] if width % lanes else [[part] for part in parts]
    whole = code.sub("%depth", lanes - 1)
    for group in together:
        rows = {}
        for r in [r for part in group for r in part]:
            there = code.compare("slt", r, "%count")
            rows[r] = code.at("%from", code.select(there, code.mul("%stride", r), 0))
        with code.loop(whole, lanes, [("ptr", "%to")]) as loop:
            goal = loop.values[0]
            _squares(code, shape, dtype, width, group, rows, loop.index, goal, "")
            loop.next = [code.at(goal, lanes * width * shape.itemsize)]
        rest, goal = code.sub("%depth", loop.index), loop.values[0]
        with code.when(code.compare("sgt", rest, 0)):
            mask = code.lanes_below(rest)
            _squares(code, shape, dtype, width, group, rows, loop.index, goal, mask)


def _squares(
    code: Code, shape: Shape, dtype: Dtype, width: int, group: Sequence[range],
    rows: dict[int, str], k: str, goal: str, mask: str,
) -> None:  # fmt: skip
    """As many steps along k as a vector has lanes."""
    lanes, size = shape.lanes, shape.itemsize
    offset = code.mul(k, dtype.itemsize)
    columns = []
    for part in group:
        found = [loaded(code, dtype, code.at(rows[r], offset), mask) for r in part]
        found += ["zeroinitializer"] * (lanes - len(part))
        columns.append(transposed(code, shape.kind, found))
    for i in range(lanes):
        for part, column in zip(group, columns, strict=True):
            place = code.at(goal, (i * width + part[0]) * size)
            code.store(code.body.wide(shape.kind), column[i], place, size)


def transposed(code: Code, kind: str, rows: list[str]) -> list[str]:
    """The columns of a square of vectors: first in blocks of 16 bytes, then the blocks."""
    lanes = len(rows)
    unit = 4 if kind == "float" else 2
    groups = [_zipped(code, kind, rows[i : i + unit]) for i in range(0, lanes, unit)]
    dealt = [_dealt(code, kind, [g[c] for g in groups], unit) for c in range(unit)]
    return [dealt[c][q] for q in range(lanes // unit) for c in range(unit)]


def _zipped(code: Code, kind: str, group: list[str]) -> list[str]:
    """Blocks of 16 bytes transposed, each by itself."""
    if len(group) == 2:
        return [*_zip(code, kind, group[0], group[1], 2, 1)]
    a, b = _zip(code, kind, group[0], group[1], 4, 1)
    c, d = _zip(code, kind, group[2], group[3], 4, 1)
    return [*_zip(code, kind, a, c, 4, 2), *_zip(code, kind, b, d, 4, 2)]


def _zip(code: Code, kind: str, x: str, y: str, unit: int, run: int) -> tuple[str, str]:
    """In each block of 16 bytes: runs of x and y in turn, the lower halves and the upper ones."""
    lanes = code.body.lanes
    found = []
    for half in (0, unit // 2):
        order = []
        for block in range(0, lanes, unit):
            for start in range(block + half, block + half + unit // 2, run):
                order += [*range(start, start + run), *range(lanes + start, lanes + start + run)]
        found.append(code.shuffle(kind, x, y, order))
    return found[0], found[1]


def _dealt(code: Code, kind: str, vectors: list[str], unit: int) -> list[str]:
    """Vectors of blocks transposed: even blocks of each pair, odd blocks, and again."""
    if len(vectors) == 1:
        return vectors
    lanes = code.body.lanes
    halves: list[list[str]] = []
    for parity in (0, 1):
        order = [
            n for block in range(parity, 2 * lanes // unit, 2)
            for n in range(block * unit, (block + 1) * unit)
        ]  # fmt: skip
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        halves.append(_dealt(code, kind, [code.shuffle(kind, x, y, order) for x, y in pairs], unit))
    return [v for pair in zip(*halves, strict=True) for v in pair]


def transposed_from(code: Code, shape: Shape, dtype: Dtype, places: Sequence[str]) -> list[str]:
    """The columns of a square of as many rows as there are lanes. Long vectors are loaded by
    halves, each from a row of its own: putting them together is part of the load, and one turn less
    is left to do in registers."""
    lanes, unit = shape.lanes, 16 // shape.itemsize
    if lanes == unit:
        return transposed(code, shape.kind, [loaded(code, dtype, p, "") for p in places])
    half = lanes // 2
    above = [r for start in range(0, lanes, 2 * unit) for r in range(start, start + unit)]
    vectors: list[list[str]] = [[], []]
    for r in above:  # both halves of a row one after the other: they may lie on one line
        for k, found in enumerate(vectors):
            pair = [code.at(places[x], k * half * dtype.itemsize) for x in (r, r + unit)]
            found.append(_joined(code, dtype, half, pair))
    return [v for found in vectors for v in _halves(code, shape.kind, found, unit)]


def _joined(code: Code, dtype: Dtype, half: int, places: Sequence[str]) -> str:
    """Two halves of a vector, each from its place."""
    kind = memory_type(dtype)
    type_, align = f"<{half} x {kind}>", dtype.itemsize
    x, y = [code.load(type_, place, align) for place in places]
    order = ", ".join(f"i32 {i}" for i in range(2 * half))
    both = code.set(f"shufflevector {type_} {x}, {type_} {y}, <{2 * half} x i32> <{order}>")
    return widened(Vector(code.body, kind, [both]), dtype).names[0]


def _halves(code: Code, kind: str, vectors: list[str], unit: int) -> list[str]:
    """The columns of rows that lie two in a vector: blocks of 16 bytes are transposed, then dealt
    out, the first and the third of two vectors, the second and the fourth."""
    groups = [_zipped(code, kind, vectors[i : i + unit]) for i in range(0, len(vectors), unit)]
    if len(groups) == 1:
        return groups[0]
    lanes, found = code.body.lanes, []
    for block in (0, 1):
        starts = [first + unit * q for first in (0, lanes) for q in (block, block + 2)]
        order = [i for start in starts for i in range(start, start + unit)]
        found += [code.shuffle(kind, x, y, order) for x, y in zip(*groups, strict=True)]
    return found
