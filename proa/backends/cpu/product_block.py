"""The kernel of products in general: a tile is a block of C.

For each block of K strips of columns of B are packed into the thread's scratch, one at a time, and
panels of A with the first of them, where that pays. The micro-kernels of `product_micro` go over
them. What a bit of C is depends on its
row of A, its column of B, and the length of K alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, final

from proa.backends.cpu.product_code import Code, Loop
from proa.backends.cpu.product_micro import (
    AT_ONCE,
    BLOCK,
    KINDS,
    PACK_ARGUMENTS,
    TILE_ARGUMENTS,
    Shape,
    micro_kernels,
    packer,
    shape_of,
)
from proa.backends.cpu.product_walk import ARGUMENTS, Part, Walk, given
from proa.backends.cpu.target import Target
from proa.dtypes import Dtype


@final
class Product(NamedTuple):
    """The kernel of operands of one dtype, and a result of that or of what is computed with."""

    dtype: Dtype
    result: Dtype

    @property
    def key(self) -> str:
        return f"product {self.dtype.name} {self.result.name}"

    def ir(self, name: str, machine: Target) -> str:
        shape = shape_of(self.dtype, machine)
        text, names, declared = micro_kernels(shape)
        for letter, width in (("a", shape.rows), ("b", shape.columns)):
            for along in ("w", "k"):
                found, needed = packer(shape, self.dtype, width, along, f"pack_{letter}_{along}")
                text += found
                declared |= needed
        code = _Driver(self.dtype, self.result, shape).code
        text += code.function(name, ARGUMENTS, "")
        declared |= code.body.declared
        table = ", ".join(f"ptr @{n}" for n in names)
        return "\n".join([
            f'target triple = "{machine.triple}"', "",
            f"@tiles = internal constant [{len(names)} x ptr] [{table}]", "",
            *text, *declared.values(), "",
        ])  # fmt: skip


@final
class _Driver:
    """The walk of one tile of a call."""

    def __init__(self, dtype: Dtype, result: Dtype, shape: Shape) -> None:
        self.dtype = dtype
        self.result = result
        self.shape = shape
        self.code = Code(shape.lanes)
        self.walk = Walk(self.code)
        self.word = self.walk.word
        self.c, self.c_row = "", ""
        with self.walk.parts() as part:
            self._part(part)

    def _part(self, part: Part) -> None:
        """A block of C: every block of K in turn, and of each strips of columns."""
        code, word, size = self.code, self.word, self.shape.itemsize
        through = code.compare("ne", word["through"], 0)
        self.c = code.select(through, code.at("%scratch", word["through"]), part.c, "ptr")
        self.c_row = code.select(through, code.mul(part.columns, size), word["c_row"])
        # A sum of nothing is 0: one block, of no steps.
        least = code.select(code.compare("sgt", part.depth, 0), part.depth, 1)
        with code.loop(least, BLOCK, [("ptr", part.a), ("ptr", part.b)]) as loop:
            depth = code.minimum(BLOCK, code.sub(part.depth, loop.index))
            adds = code.compare("sgt", loop.index, 0)
            a, b = loop.values
            with code.loop(part.columns, word["strip"]) as strip:
                columns = code.minimum(word["strip"], code.sub(part.columns, strip.index))
                right = code.at(b, code.mul(word["b_column"], strip.index))
                goal = code.at(self.c, code.mul(strip.index, size))
                is_first = code.compare("eq", strip.index, 0)
                self._pack_columns(right, columns, depth)
                self._blocks(a, right, goal, part.rows, columns, depth, adds, is_first)
            loop.next = [
                code.at(a, code.mul(word["a_depth"], BLOCK)),
                code.at(b, code.mul(word["b_depth"], BLOCK)),
            ]
        with code.when(through):
            self.walk.finish(self.shape.kind, self.result, self.c, self.c_row, part)

    # Packing.

    def _pack_rows(self, a: str, place: str, rows: str, depth: str) -> None:
        with self._panels(place, rows) as (panel, height, packed), self.code.when(packed):
            self._pack("a", self.shape.rows, a, "0", panel, height, depth)

    def _pack_columns(self, b: str, columns: str, depth: str) -> None:
        """A few k at a time where what lies side by side is of one k: memory is read in order."""
        code, word, width = self.code, self.word, self.shape.columns
        few = code.select(code.compare("eq", word["along_b"], 0), AT_ONCE, BLOCK)
        with (
            code.when(code.compare("ne", word["packs_b"], 0)),
            code.loop(depth, few) as some,
            self._slivers(columns) as sliver,
        ):
            start = code.at(b, code.mul(word["b_depth"], some.index))
            count = code.minimum(width, code.sub(columns, sliver.index))
            depths = code.minimum(few, code.sub(depth, some.index))
            self._pack("b", width, start, some.index, sliver, count, depths)

    def _pack(
        self, letter: str, width: int, source: str, done: str, strip: Loop, count: str, depths: str
    ) -> None:
        """`depths` of k of a panel or a sliver, `done` of which are packed already."""
        code, word = self.code, self.word
        across = "a_row" if letter == "a" else "b_column"
        along = code.compare("ne", word[f"along_{letter}"], 0)
        stride = code.select(along, word[across], word[f"{letter}_depth"])
        function = code.select(along, f"@pack_{letter}_k", f"@pack_{letter}_w", "ptr")
        goal = code.at(strip.values[0], code.mul(done, width * self.shape.itemsize))
        start = code.at(source, code.mul(word[across], strip.index))
        code.line(
            f"call void {function}({given(PACK_ARGUMENTS, (goal, start, stride, count, depths))})"
        )

    # The block of C: panels of rows, slivers of columns.

    def _blocks(
        self, a: str, b: str, c: str, rows: str, columns: str, depth: str, adds: str, is_first: str
    ) -> None:
        """Panels are packed a few at a time; the last such block may have one more. They stay for
        further strips of columns."""
        code, word, shape = self.code, self.word, self.shape
        most = word["block"]
        with code.loop(rows, carried=[("ptr", "%scratch")]) as block:
            left = code.sub(rows, block.index)
            is_last = code.compare("slt", left, code.add(most, shape.rows))
            count = block.step = code.select(is_last, left, most)
            start = code.at(a, code.mul(block.index, word["a_row"]))
            goal = code.at(c, code.mul(block.index, self.c_row))
            place = block.values[0]
            with code.when(is_first):
                self._pack_rows(start, place, count, depth)
            if shape.keeps_sliver:
                with self._slivers(columns) as sliver, self._panels(place, count) as panels:
                    self._call(start, b, goal, sliver, *panels, columns, depth, adds, "0")
            else:
                with self._panels(place, count) as panels, self._slivers(columns) as sliver:
                    panel, height, _ = panels
                    number, _ = code.divided(sliver.index, shape.columns)
                    row = code.add(code.add(panel.index, height), number)
                    there = code.set(f"and i1 {is_first}, {code.compare('slt', row, left)}")
                    row = code.select(there, row, 0)
                    ahead = self._number(code.at(start, code.mul(row, word["a_row"])))
                    self._call(start, b, goal, sliver, *panels, columns, depth, adds, ahead)
            block.next = [code.at(place, word["kept"])]

    def _number(self, pointer: str) -> str:
        return self.code.set(f"ptrtoint ptr {pointer} to i64")

    @contextmanager
    def _panels(self, place: str, rows: str) -> Iterator[tuple[Loop, str, str]]:
        """Each panel of a block, its height, and whether it is packed. The last two share what is
        left. Of an odd height there is no micro-kernel: such a panel is packed."""
        code, shape = self.code, self.shape
        with code.loop(rows, carried=[("ptr", place)]) as panel:
            left = code.sub(rows, panel.index)
            half = code.set(f"lshr i64 {code.add(left, 1)}, 1")
            is_short = code.compare("slt", left, shape.rows + shape.rows // 2)
            shared = code.select(is_short, half, shape.rows)
            is_one = code.compare("sle", left, shape.rows)
            height = panel.step = code.select(is_one, left, shared)
            is_odd = code.set(f"trunc i64 {height} to i1")
            is_odd = code.set(f"and i1 {is_odd}, {code.compare('ne', height, 1)}")
            asked = code.compare("ne", self.word["packs_a"], 0)
            yield panel, height, code.set(f"or i1 {asked}, {is_odd}")
            panel.next = [code.at(panel.values[0], shape.panel_bytes)]

    @contextmanager
    def _slivers(self, columns: str) -> Iterator[Loop]:
        code, shape = self.code, self.shape
        first = code.at("%scratch", self.word["slivers"])
        with code.loop(columns, shape.columns, [("ptr", first)]) as sliver:
            yield sliver
            sliver.next = [code.at(sliver.values[0], shape.sliver_bytes)]

    def _call(
        self, a: str, b: str, c: str, sliver: Loop, panel: Loop, height: str, packed: str,
        columns: str, depth: str, adds: str, ahead: str,
    ) -> None:  # fmt: skip
        code, word, shape = self.code, self.word, self.shape
        size = shape.itemsize
        left = code.at(a, code.mul(panel.index, word["a_row"]))
        left = code.select(packed, panel.values[0], left, "ptr")
        a_row = code.select(packed, size, word["a_row"])
        a_depth = code.select(packed, size * shape.rows, word["a_depth"])
        packs = code.compare("ne", word["packs_b"], 0)
        right = code.at(b, code.mul(sliver.index, size))
        right = code.select(packs, sliver.values[0], right, "ptr")
        b_depth = code.select(packs, size * shape.columns, word["b_depth"])
        goal = code.at(c, code.mul(panel.index, self.c_row), code.mul(sliver.index, size))
        count = code.minimum(shape.columns, code.sub(columns, sliver.index))
        # Of each height, 1, 2, 4, 6 ..., there are three kinds.
        half = code.set(f"lshr i64 {code.add(height, 1)}, 1")
        one = code.compare("eq", height, 1)
        number = code.mul(code.select(one, 0, half), len(KINDS))
        narrow = code.select(code.compare("sle", count, shape.lanes), 2, 1)
        whole = code.compare("eq", count, shape.columns)
        number = code.add(number, code.select(whole, 0, narrow))
        function = code.load("ptr", code.at("@tiles", code.mul(number, 8)), 8)
        values = (
            depth, left, a_row, a_depth, right, b_depth, goal, self.c_row, height, count, adds,
            ahead,
        )  # fmt: skip
        code.line(f"call void {function}({given(TILE_ARGUMENTS, values)})")
