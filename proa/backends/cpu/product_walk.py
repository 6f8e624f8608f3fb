"""What the kernels of products share: the table of a call, where a tile lies, how C is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, final

from proa import dtypes
from proa.backends.cpu.claims import memory_type, narrowed, rounded
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.target import Target
from proa.backends.cpu.vector import Vector
from proa.dtypes import Dtype

# Steps are in bytes. `slab`: of C from one part of the depth to the next, where each part has a C
# of its own. `packs_a`, `packs_b`: whether an operand is packed; `along_a`, `along_b`: whether its
# unit stride is along k; `copied`: whether there may be a packed copy of B; `far`: whether B lies
# beyond the second cache. `block`: rows of A that are packed at once, `kept`: bytes from one such
# block to the next, 0 where all lie in one place. `strip`: columns of B that are packed at once,
# `slivers`: where in scratch; `through`: where C is made, or 0.
TABLE: Final = (
    "rows", "columns", "depth", "a_row", "a_depth", "b_depth", "b_column", "c_row", "c_column",
    "tile_rows", "tile_columns", "tile_depth", "tile_batch", "row_tiles", "column_tiles",
    "depth_tiles", "batch", "slab", "packs_a", "packs_b", "along_a", "along_b", "copied", "far",
    "block", "kept", "strip", "slivers", "through", "axes",
)  # fmt: skip
AXIS: Final = 4  # words of each axis of the batch, the last first: size, steps of A, B and C
FIRST: Final = 6  # words before a table: where two operands and a result lie
ARGUMENTS: Final = ("ptr %call", "ptr %bases", "i64 %tile", "ptr %scratch")


def given(arguments: Sequence[str], values: Sequence[str | int]) -> str:
    """Values as the arguments of a call."""
    rows = zip(arguments, values, strict=True)
    return ", ".join(f"{argument.split()[0]} {value}" for argument, value in rows)


@final
class Part:
    """A block of C in one product of the batch, and the operands that it is made from: how large
    it is, and at which column and k it begins."""

    __slots__ = ("a", "b", "c", "rows", "columns", "depth", "column", "k")

    def __init__(
        self, pointers: Sequence[str], sizes: Sequence[str], starts: Sequence[str]
    ) -> None:
        self.a, self.b, self.c = pointers
        self.rows, self.columns, self.depth = sizes
        self.column, self.k = starts


@final
class Walk:
    """A call's words, and the walk over what one tile holds. The first two operands are A and B."""

    def __init__(self, code: Code, operands: int = 2) -> None:
        self.code = code
        self.operands = operands
        self.first = 2 * (operands + 1)  # words before the table: where operands and result lie
        self.word = {
            name: code.load("i64", code.at("%call", 8 * (self.first + i)), 8)
            for i, name in enumerate(TABLE)
        }

    @contextmanager
    def parts(self) -> Iterator[Part]:
        """What a tile does for each product of the batch that it holds."""
        code, word = self.code, self.word
        pointers = [operand(code, k) for k in (0, 1, self.operands)]
        rest, i = code.divided("%tile", word["row_tiles"])
        rest, j = code.divided(rest, word["column_tiles"])
        rest, k = code.divided(rest, word["depth_tiles"])
        row, rows = self._span(i, "tile_rows", "rows")
        column, columns = self._span(j, "tile_columns", "columns")
        depth, depths = self._span(k, "tile_depth", "depth")
        first, count = self._span(rest, "tile_batch", "batch")
        with code.loop(count) as one:
            a, b, c = self._batch(code.add(first, one.index), pointers)
            a = code.at(a, code.mul(row, word["a_row"]), code.mul(depth, word["a_depth"]))
            b = code.at(b, code.mul(column, word["b_column"]), code.mul(depth, word["b_depth"]))
            c = code.at(c, code.mul(row, word["c_row"]), code.mul(column, word["c_column"]))
            c = code.at(c, code.mul(k, word["slab"]))
            yield Part((a, b, c), (rows, columns, depths), (column, depth))

    def _span(self, i: str, step: str, end: str) -> tuple[str, str]:
        """Where part i begins, and how long it is."""
        code, word = self.code, self.word
        start = code.mul(i, word[step])
        return start, code.minimum(word[step], code.sub(word[end], start))

    def _batch(self, index: str, pointers: list[str]) -> list[str]:
        """Where the operands of one product of the batch lie; the last axis goes fastest."""
        code = self.code
        carried = [("i64", index), *[("ptr", p) for p in pointers]]
        with code.loop(self.word["axes"], carried=carried) as loop:
            rest, places = loop.values[0], loop.values[1:]
            axis = code.at("%call", code.mul(loop.index, 8 * AXIS), 8 * (self.first + len(TABLE)))
            size, *steps = [code.load("i64", code.at(axis, 8 * i), 8) for i in range(AXIS)]
            rest, i = code.divided(rest, size)
            moved = [code.at(p, code.mul(i, s)) for p, s in zip(places, steps, strict=True)]
            loop.next = [rest, *moved]
        return loop.values[1:]

    def finish(self, kind: str, dtype: Dtype, source: str, step: str, part: Part) -> None:
        """What was made in scratch, rows `step` bytes apart, rounded to its dtype and put where it
        lies."""
        code, word = self.code, self.word
        lanes, size = code.body.lanes, 8 if kind == "double" else 4
        unit = code.compare("eq", word["c_column"], dtype.itemsize)
        numbers = "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"
        wide = code.body.wide("i64")
        strides = code.set(f"mul {wide} {code.splat('i64', word['c_column'])}, {numbers}")
        with code.loop(part.rows) as row, code.loop(part.columns, lanes) as column:
            start = code.at(source, code.mul(row.index, step), code.mul(column.index, size))
            goal = code.at(part.c, code.mul(row.index, word["c_row"]))
            goal = code.at(goal, code.mul(column.index, word["c_column"]))
            mask = code.lanes_below(code.sub(part.columns, column.index))
            value = stored(code, kind, dtype, code.masked_load(kind, start, mask, size))
            held, align = memory_type(dtype), dtype.itemsize
            with code.when(unit):
                code.masked_store(held, value, goal, mask, align)
            with code.unless(unit):
                places = code.set(f"getelementptr i8, ptr {goal}, {wide} {strides}")
                code.masked_scatter(held, value, places, mask, align)


def module(code: Code, name: str, machine: Target) -> str:
    """A module of one kernel, when its instructions are written."""
    text = code.function(name, ARGUMENTS, "")
    head = f'target triple = "{machine.triple}"'
    return "\n".join([head, "", *text, *code.body.declared.values(), ""])


def operand(code: Code, k: int) -> str:
    """Where operand or result k of the call lies."""
    number = code.load("i64", code.at("%call", 16 * k), 8)
    offset = code.load("i64", code.at("%call", 16 * k + 8), 8)
    base = code.load("ptr", code.at("%bases", code.mul(number, 8)), 8)
    return code.at(base, offset)


def columns_from(code: Code, b: str, first: str, count: str, step: str) -> list[str]:
    """Where as many columns as there are lanes begin; what is not there repeats the last one."""
    found = [code.at(b, code.mul(first, step))]
    left = code.sub(count, first)
    for i in range(1, code.body.lanes):
        more = code.select(code.compare("sgt", left, i), step, 0)
        found.append(code.at(found[-1], more))
    return found


def stored(code: Code, kind: str, dtype: Dtype, value: str) -> str:
    """A vector as it lies in memory: rounded, where its dtype is narrow."""
    if dtype in (dtypes.float32, dtypes.float64):
        return value
    return narrowed(rounded(Vector(code.body, kind, [value]), dtype), dtype).names[0]
