"""The kernel of products with one row, and of a few where columns of B are contiguous: as slow as
memory.

A tile is a strip of columns. Where rows of B are contiguous, eight of them stream past the strip,
which lies in the first cache. Where columns are, squares of B are transposed in registers; or a
packed copy is read from one end to the other, if there is one (`product_copy.py`). Each column is
one chain for each block of K, as in the micro-kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, final

from proa.backends.cpu.claims import memory_type, widened
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.product_micro import (
    BLOCK,
    LINE,
    PACK_ARGUMENTS,
    Shape,
    loaded,
    packer,
    shape_of,
    transposed_from,
)
from proa.backends.cpu.product_walk import Part, Walk, given, module, operand
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Vector
from proa.dtypes import Dtype

STREAMS: Final = 8  # rows of B at once
AT_ONCE: Final = 2  # vectors of columns, where squares are transposed
NEAR: Final = 8  # columns that are reached from one pointer
AHEAD: Final = 256  # bytes of a column that are asked for before they are needed
FAR: Final = 2048  # and of a packed copy, where it lies beyond the second cache
PIECE: Final = 4  # vectors of columns of a packed copy


@final
class Row(NamedTuple):
    """The kernel of a few rows, by dtype of the operands and of the result."""

    dtype: Dtype
    result: Dtype

    @property
    def key(self) -> str:
        return f"product row {self.dtype.name} {self.result.name}"

    def ir(self, name: str, machine: Target) -> str:
        shape = shape_of(self.dtype, machine)
        packing, declared = packer(shape, self.dtype, shape.lanes, "k", "pack")
        code = _Driver(self.dtype, self.result, shape).code
        code.body.declared |= declared
        return "\n".join([module(code, name, machine), *packing])


def height_of(shape: Shape) -> int:
    """Rows at once, if there is more than one: sums of a piece must fit into the registers."""
    return 4 if shape.rows > 12 else 2


def strip_bytes(rows: int, columns: int, shape: Shape) -> int:
    """Scratch of a tile: sums of each row, sums of a block, a block of the rows, and one of a
    vector of columns."""
    height = 1 if rows == 1 else height_of(shape)
    whole = (-(-columns // shape.lanes) + 1) * shape.lanes
    strips = -(-rows // height) * height + 1
    return (strips * whole + (height + shape.lanes) * BLOCK) * shape.itemsize


@final
class Goal(NamedTuple):
    """Where sums of a block are added, for each row, and whether it is the first block."""

    sums: list[str]
    is_first: str


@final
class _Driver:
    """The walk of one tile of a call."""

    def __init__(self, dtype: Dtype, result: Dtype, shape: Shape) -> None:
        self.dtype = dtype
        self.shape = shape
        self.code = code = Code(shape.lanes)
        self.wide = code.body.wide(shape.kind)
        self.bytes = shape.lanes * shape.itemsize
        self.walk = Walk(code, 3)
        self.word = self.walk.word
        self.room = ""  # where a vector of columns is packed
        with self.walk.parts() as part:
            # Sums may be longer than columns are.
            room = code.add(code.mul(part.columns, shape.itemsize), 2 * self.bytes - 1)
            room = code.set(f"and i64 {room}, {-self.bytes}")
            self._part(part, room)
            self.walk.finish(shape.kind, result, "%scratch", room, part)

    def _part(self, part: Part, room: str) -> None:
        code, word, height = self.code, self.word, height_of(self.shape)
        along = code.compare("ne", word["along_b"], 0)
        is_one = code.compare("eq", part.rows, 1)
        copy = code.select(code.compare("ne", word["copied"], 0), operand(code, 2), "null", "ptr")
        # Of the copy: bytes of one k of all columns.
        wide = code.add(word["columns"], self.shape.lanes - 1)
        wide = code.mul(code.set(f"and i64 {wide}, {-self.shape.lanes}"), self.dtype.itemsize)
        least = code.select(code.compare("sgt", part.depth, 0), part.depth, 1)
        with code.loop(least, BLOCK, [("ptr", part.a), ("ptr", part.b)]) as loop:
            a, b = loop.values
            depth = code.minimum(BLOCK, code.sub(part.depth, loop.index))
            is_first = code.compare("eq", loop.index, 0)
            start = code.at(copy, code.mul(code.add(part.k, loop.index), wide))
            start = code.at(start, code.mul(code.mul(part.column, depth), self.dtype.itemsize))
            packed = code.select(code.set(f"icmp eq ptr {copy}, null"), "null", start, "ptr")
            with code.when(along):
                with code.when(is_one):
                    self._some(a, b, packed, Goal(["%scratch"], is_first), part, room, depth)
                with code.unless(is_one), code.loop(part.rows, height) as row:
                    sums = [code.at("%scratch", code.mul(room, code.add(row.index, i)))
                            for i in range(height)]  # fmt: skip
                    first = code.at(a, code.mul(word["a_row"], row.index))
                    goal = Goal(sums, is_first)
                    self._some(first, b, packed, goal, part, room, depth, row.index)
            with code.unless(along):
                block = code.at("%scratch", room)
                self._streaming(
                    a, b, code.select(is_first, "%scratch", block, "ptr"), part.columns, depth
                )
                with code.unless(is_first), code.loop(part.columns, self.shape.lanes) as column:
                    place = code.at(block, code.mul(column.index, self.shape.itemsize))
                    value = code.load(self.wide, place, self.shape.itemsize)
                    self._keep(Goal(["%scratch"], is_first), column.index, [value])
            loop.next = [
                code.at(a, code.mul(word["a_depth"], BLOCK)),
                code.at(b, code.mul(word["b_depth"], BLOCK)),
            ]

    def _some(
        self, a: str, b: str, packed: str, goal: Goal, part: Part, room: str, depth: str,
        row: str = "0",
    ) -> None:  # fmt: skip
        """A block of K for as many rows as there are sums; what is not there repeats the last row,
        and is not stored."""
        code, word, height = self.code, self.word, len(goal.sums)
        unit = BLOCK * self.shape.itemsize
        last = code.set(f"and i64 {code.add(part.rows, height - 1)}, {-height}")
        behind = code.at("%scratch", code.mul(room, last))  # the sums of all rows
        goals = [code.at(behind, i * unit) for i in range(height)]
        self.room = code.at(behind, height * unit)
        end, left = code.sub(code.sub(part.rows, row), 1), []
        for i, place in enumerate(goals):
            start = code.at(a, code.mul(word["a_row"], code.minimum(end, i))) if i else a
            left.append(self._row(start, place, depth))
        none = code.set(f"icmp eq ptr {packed}, null")
        with code.when(none):
            self._transposing(left, b, goal, part.columns, depth)
        with code.unless(none):
            self._packed(left, packed, goal, part.columns, depth)

    def _row(self, a: str, goal: str, depth: str) -> str:
        """A block of a row side by side and as it is computed with: where it lies, if it does."""
        code, kind, size = self.code, memory_type(self.dtype), self.shape.itemsize
        step = self.word["a_depth"]
        lies = code.compare("eq", step, size) if kind == self.shape.kind else "false"
        left = code.set(f"select i1 {lies}, i64 0, i64 {depth}")
        with code.loop(left) as one:
            number = self._number(code.at(a, code.mul(one.index, step)))
            number = code.set(f"extractelement {self.wide} {number}, i32 0")
            code.store(self.shape.kind, number, code.at(goal, code.mul(one.index, size)), size)
        return code.select(lies, a, goal, "ptr")

    def _number(self, pointer: str) -> str:
        """A number of A, in all lanes."""
        code, kind = self.code, memory_type(self.dtype)
        one = code.splat(kind, code.load(kind, pointer, self.dtype.itemsize))
        return widened(Vector(code.body, kind, [one]), self.dtype).names[0]

    # Rows of B are contiguous.

    def _streaming(self, a: str, b: str, goal: str, columns: str, depth: str) -> None:
        code = self.code
        with code.loop(columns, self.shape.lanes) as column:
            place = code.at(goal, code.mul(column.index, self.shape.itemsize))
            code.store(self.wide, "zeroinitializer", place, self.shape.itemsize)
        with code.loop(code.sub(depth, STREAMS - 1), STREAMS) as some:
            self._streams(a, b, goal, columns, some.index, STREAMS)
        rest = code.sub(depth, some.index)
        with code.loop(rest) as one:
            self._streams(a, b, goal, columns, code.add(some.index, one.index), 1)

    def _streams(self, a: str, b: str, goal: str, columns: str, k: str, count: int) -> None:
        """`count` steps of every column's chain."""
        code, word, lanes = self.code, self.word, self.shape.lanes
        left, rows = [], []
        for i in range(count):
            at = code.add(k, i)
            left.append(self._number(code.at(a, code.mul(at, word["a_depth"]))))
            rows.append(code.at(b, code.mul(at, word["b_depth"])))

        def step(column: str, mask: str) -> None:
            place = code.at(goal, code.mul(column, self.shape.itemsize))
            shift = code.mul(column, self.dtype.itemsize)
            value = code.load(self.wide, place, self.shape.itemsize)
            for x, row in zip(left, rows, strict=True):
                y = loaded(code, self.dtype, code.at(row, shift), mask)
                value = code.fma(self.shape.kind, x, y, value)
            code.store(self.wide, value, place, self.shape.itemsize)

        with code.loop(code.sub(columns, lanes - 1), lanes) as column:
            step(column.index, "")
        rest = code.sub(columns, column.index)
        with code.when(code.compare("sgt", rest, 0)):
            step(column.index, code.lanes_below(rest))

    # Columns of B are contiguous.

    def _transposing(self, left: list[str], b: str, goal: Goal, columns: str, depth: str) -> None:
        """A few vectors of columns at once, at the end one by one."""
        code, lanes, step = self.code, self.shape.lanes, self.word["b_column"]
        offsets = _offsets(code, step)
        far = code.set(f"freeze i64 {code.mul(step, NEAR)}")

        def whole(start: str) -> list[list[str]]:
            found: list[str] = []
            for i in range(AT_ONCE * lanes):
                if i and i % NEAR == 0:
                    start = code.at(start, far)
                found.append(code.at(start, offsets[i % NEAR]))
            return [found[i : i + lanes] for i in range(0, len(found), lanes)]

        with code.loop(code.sub(columns, AT_ONCE * lanes - 1), AT_ONCE * lanes) as some:
            self._squares(
                left, code.at(b, code.mul(some.index, step)), whole, goal, some.index, depth
            )
        rest = code.sub(columns, some.index)
        with code.loop(rest, lanes) as one:
            column = code.add(some.index, one.index)
            count = code.minimum(lanes, code.sub(columns, column))
            start = code.at(b, code.mul(column, step))
            sums = ["zeroinitializer"] * len(left)
            self._keep(goal, column, self._packing(left, start, count, depth, sums))

    def _squares(
        self, left: list[str], start: str, places: Callable[[str], list[list[str]]], goal: Goal,
        column: str, depth: str,
    ) -> None:  # fmt: skip
        """A few vectors of columns: squares are transposed in registers and go into the chains at
        once; what is left of k is not whole squares."""
        code, shape, height = self.code, self.shape, len(left)
        lanes, size, kind = shape.lanes, shape.itemsize, shape.kind
        sums = [(self.wide, "zeroinitializer")] * (AT_ONCE * height)
        with code.loop(code.sub(depth, lanes - 1), lanes, sums) as some:
            rows = [code.at(x, code.mul(some.index, size)) for x in left]
            some.next = []
            found = places(code.at(start, code.mul(some.index, self.dtype.itemsize)))
            for i, columns in enumerate(found):
                for place in columns:
                    code.fetch(code.at(place, AHEAD), writes=False, near=True)
                values = some.values[i * height : (i + 1) * height]
                for k, y in enumerate(transposed_from(code, shape, self.dtype, columns)):
                    for r, row in enumerate(rows):
                        x = self._splat(code.at(row, k * size))
                        values[r] = code.fma(kind, x, y, values[r])
                some.next += values
        rest = code.sub(depth, some.index)
        carried = [(self.wide, v) for v in some.values]
        with code.loop(code.minimum(rest, 1), carried=carried) as last:
            rows = [code.at(x, code.mul(some.index, size)) for x in left]
            last.next = []
            for i in range(AT_ONCE):
                first = code.at(start, code.mul(self.word["b_column"], i * lanes))
                first = code.at(first, code.mul(some.index, self.dtype.itemsize))
                values = last.values[i * height : (i + 1) * height]
                last.next += self._packing(rows, first, str(lanes), rest, values)
        self._keep(goal, column, last.values)

    def _packing(
        self, left: list[str], b: str, count: str, depth: str, sums: list[str]
    ) -> list[str]:
        """What a vector of columns, or as many as are there, makes of sums: packed in scratch."""
        code, size, height = self.code, self.shape.itemsize, len(left)
        stride = self.word["b_column"]
        values = given(PACK_ARGUMENTS, (self.room, b, stride, count, depth))
        code.line(f"call void @pack({values})")
        pointers = [("ptr", p) for p in (*left, self.room)]
        with code.loop(depth, carried=[*pointers, *[(self.wide, v) for v in sums]]) as one:
            *rows, y = one.values[: height + 1]
            held = code.load(self.wide, y, size)
            made = [
                code.fma(self.shape.kind, self._splat(x), held, value)
                for x, value in zip(rows, one.values[height + 1 :], strict=True)
            ]
            rows = [code.at(x, size) for x in rows]
            one.next = [*rows, code.at(y, self.bytes), *made]
        return one.values[height + 1 :]

    # A packed copy of B.

    def _packed(self, left: list[str], b: str, goal: Goal, columns: str, depth: str) -> None:
        """Pieces one after the other; the last may be narrower, and is two or one vectors."""
        code, lanes = self.code, self.shape.lanes
        is_far = code.compare("ne", self.word["far"], 0)
        end = code.set(f"and i64 {code.add(columns, lanes - 1)}, {-lanes}")
        done = "0"
        for count in (PIECE, 2, 1):
            width = count * lanes
            with code.loop(code.sub(code.sub(end, done), width - 1), width) as one:
                column = code.add(done, one.index)
                with code.when(is_far):
                    self._piece(left, b, goal, column, count, depth, FAR)
                with code.unless(is_far):
                    self._piece(left, b, goal, column, count, depth)
            done = code.add(done, one.index)

    def _piece(
        self, left: list[str], b: str, goal: Goal, column: str, count: int, depth: str,
        ahead: int = 0,
    ) -> None:  # fmt: skip
        code, size, kind, height = self.code, self.dtype.itemsize, self.shape.kind, len(left)
        width = self.shape.lanes * size
        start = code.at(b, code.mul(code.mul(column, depth), size))
        pointers = [("ptr", p) for p in (*left, start)]
        sums = [(self.wide, "zeroinitializer")] * (count * height)
        with code.loop(depth, carried=[*pointers, *sums]) as one:
            rows, y, values = one.values[:height], one.values[height], one.values[height + 1 :]
            for shift in range(0, count * width, LINE) if ahead else ():
                code.fetch(code.at(y, ahead + shift), writes=False, near=True)
            numbers, made = [self._splat(x) for x in rows], []
            for i in range(count):
                held = loaded(code, self.dtype, code.at(y, i * width), "")
                for r, x in enumerate(numbers):
                    made.append(code.fma(kind, x, held, values[i * height + r]))
            rows = [code.at(x, self.shape.itemsize) for x in rows]
            one.next = [*rows, code.at(y, count * width), *made]
        self._keep(goal, column, one.values[height + 1 :])

    # Sums of a block of K.

    def _splat(self, pointer: str) -> str:
        """A number of the row, as it is computed with."""
        kind = self.shape.kind
        return self.code.splat(kind, self.code.load(kind, pointer, self.shape.itemsize))

    def _keep(self, goal: Goal, column: str, values: Sequence[str]) -> None:
        """Sums become, or are added to, those of the blocks before: of each vector of columns, all
        rows."""
        code, size, height = self.code, self.shape.itemsize, len(goal.sums)
        shift = code.mul(column, size)
        for n, value in enumerate(values):
            place = code.at(goal.sums[n % height], shift, n // height * self.bytes)
            old = code.load(self.wide, place, size)
            both = code.set(f"fadd {self.wide} {old}, {value}")
            code.store(self.wide, code.select(goal.is_first, value, both, self.wide), place, size)


def _offsets(code: Code, step: str) -> list[str]:
    """Steps that an address may hold: one, two and four times a register. Of odd ones LLVM is not
    told that they are multiples: it would go from place to place, each waiting for the last."""
    odd = {i: code.set(f"freeze i64 {code.mul(step, i)}") for i in range(3, NEAR, 2)}
    odd[1] = step
    found = ["0"]
    for i in range(1, NEAR):
        times = i & -i
        found.append(odd[i // times] if times == 1 else code.mul(odd[i // times], times))
    return found
