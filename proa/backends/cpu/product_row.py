"""The kernel of products with one row, which are as slow as memory.

A tile is a strip of columns. Where rows of B are contiguous, eight of them stream past the strip,
which lies in the first cache. Where columns are, squares of B are transposed in registers. Each
column is one chain for each block of K, as in the micro-kernels.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from proa.backends.cpu.claims import memory_type, widened
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.product_micro import BLOCK, Shape, loaded, shape_of, transposed
from proa.backends.cpu.product_walk import Part, Walk, module
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Vector
from proa.dtypes import Dtype

STREAMS: Final = 8  # rows of B at once
CHAINS: Final = 4  # vectors of columns at once, where squares are transposed
RUN: Final = 4  # squares along k, one after the other


@final
class Row(NamedTuple):
    """The kernel of one row, by dtype of the operands and of the result."""

    dtype: Dtype
    result: Dtype

    @property
    def key(self) -> str:
        return f"product row {self.dtype.name} {self.result.name}"

    def ir(self, name: str, machine: Target) -> str:
        code = _Driver(self.dtype, self.result, shape_of(self.dtype, machine)).code
        return module(code, name, machine)


def strip_bytes(columns: int, shape: Shape) -> int:
    """Scratch of a tile: its sums, the sums of a block, and transposed squares."""
    whole = -(-columns // shape.lanes) + CHAINS + 1
    return (2 * whole + CHAINS * RUN * shape.lanes) * shape.lanes * shape.itemsize


def columns_from(code: Code, b: str, first: str, count: str, step: str) -> list[str]:
    """Where as many columns as there are lanes begin; what is not there repeats the last one."""
    found = [code.at(b, code.mul(first, step))]
    left = code.sub(count, first)
    for i in range(1, code.body.lanes):
        more = code.select(code.compare("sgt", left, i), step, 0)
        found.append(code.at(found[-1], more))
    return found


@final
class _Driver:
    """The walk of one tile of a call."""

    def __init__(self, dtype: Dtype, result: Dtype, shape: Shape) -> None:
        self.dtype = dtype
        self.shape = shape
        self.code = code = Code(shape.lanes)
        self.wide = code.body.wide(shape.kind)
        self.bytes = shape.lanes * shape.itemsize
        self.walk = Walk(code)
        self.word = self.walk.word
        with self.walk.parts() as part:
            self._part(part)
            self.walk.finish(shape.kind, result, "%scratch", "0", part)

    def _part(self, part: Part) -> None:
        code, word, size = self.code, self.word, self.shape.itemsize
        # Sums of the whole, of one block, and squares; sums are longer than the columns are.
        room = code.add(code.mul(part.columns, size), (CHAINS + 1) * self.bytes)
        room = code.set(f"and i64 {room}, {-self.bytes}")
        block = code.at("%scratch", room)
        squares = code.at(block, room)
        along = code.compare("ne", word["along_b"], 0)
        least = code.select(code.compare("sgt", part.depth, 0), part.depth, 1)
        with code.loop(least, BLOCK, [("ptr", part.a), ("ptr", part.b)]) as loop:
            a, b = loop.values
            depth = code.minimum(BLOCK, code.sub(part.depth, loop.index))
            is_first = code.compare("eq", loop.index, 0)
            here = code.select(is_first, "%scratch", block, "ptr")
            with code.when(along):
                self._transposing(a, b, here, squares, part.columns, depth)
            with code.unless(along):
                self._streaming(a, b, here, part.columns, depth)
            with code.unless(is_first), code.loop(part.columns, self.shape.lanes) as column:
                shift = code.mul(column.index, size)
                goal = code.at("%scratch", shift)
                x = code.load(self.wide, goal, size)
                y = code.load(self.wide, code.at(block, shift), size)
                code.store(self.wide, code.set(f"fadd {self.wide} {x}, {y}"), goal, size)
            loop.next = [
                code.at(a, code.mul(word["a_depth"], BLOCK)),
                code.at(b, code.mul(word["b_depth"], BLOCK)),
            ]

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

    def _transposing(
        self, a: str, b: str, goal: str, squares: str, columns: str, depth: str
    ) -> None:
        """A few vectors of columns: some steps of each are transposed into scratch, then added to
        the chains."""
        code, word, lanes = self.code, self.word, self.shape.lanes
        with code.loop(columns, CHAINS * lanes) as column:
            width = code.minimum(CHAINS * lanes, code.sub(columns, column.index))
            start = code.at(b, code.mul(column.index, word["b_column"]))
            sums = [(self.wide, "zeroinitializer")] * CHAINS
            with code.loop(depth, RUN * lanes, [("ptr", a), ("ptr", start), *sums]) as some:
                left, right, *values = some.values
                steps = code.minimum(RUN * lanes, code.sub(depth, some.index))
                with code.loop(width, lanes) as square:
                    rows = columns_from(code, right, square.index, width, word["b_column"])
                    place = code.at(squares, code.mul(square.index, self.shape.itemsize))
                    with code.loop(steps, lanes) as run:
                        self._square(rows, place, run.index, code.sub(steps, run.index))
                carried = [("ptr", left), *[(self.wide, v) for v in values]]
                with code.loop(steps, carried=carried) as one:
                    place = code.at(squares, code.mul(one.index, CHAINS * self.bytes))
                    x = self._number(one.values[0])
                    one.next = [code.at(one.values[0], word["a_depth"])]
                    for c, value in enumerate(one.values[1:]):
                        y = code.load(self.wide, code.at(place, c * self.bytes), self.bytes)
                        one.next.append(code.fma(self.shape.kind, x, y, value))
                right = code.at(right, RUN * lanes * self.dtype.itemsize)
                some.next = [one.values[0], right, *one.values[1:]]
            for c, value in enumerate(some.values[2:]):
                place = code.at(goal, code.mul(column.index, self.shape.itemsize), c * self.bytes)
                code.store(self.wide, value, place, self.shape.itemsize)

    def _square(self, rows: list[str], goal: str, k: str, left: str) -> None:
        code, shape = self.code, self.shape
        shift = code.mul(k, self.dtype.itemsize)
        place = code.at(goal, code.mul(k, CHAINS * self.bytes))
        whole = code.compare("sge", left, shape.lanes)
        for choice, mask in ((code.when, ""), (code.unless, code.lanes_below(left))):
            with choice(whole):
                found = [loaded(code, self.dtype, code.at(r, shift), mask) for r in rows]
                for i, value in enumerate(transposed(code, shape.kind, found)):
                    here = code.at(place, i * CHAINS * self.bytes)
                    code.store(self.wide, value, here, self.bytes)
