"""Packed copies: a weight stored [N, K] and used with a few rows is packed once (RULES 3.3).

A copy holds one block of K after the other; in each, pieces of `PIECE` vectors of columns, and in a
piece its columns side by side for each k. The last piece is as wide as it must be in whole vectors:
so the piece of a column begins at `column * k of the block` elements of the block.

It belongs to the buffer that it is a copy of, which never changes, and goes with it. It is made
when the buffer was used so as often as packing costs: what is written anew at each step never is.
"""

from __future__ import annotations

from array import array as numbers
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa.backends.cpu.engine import engine
from proa.backends.cpu.memory import allocate
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.product_micro import BLOCK, shape_of
from proa.backends.cpu.product_row import PIECE
from proa.backends.cpu.product_walk import columns_from, module, operand
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.threads import threads
from proa.compile.memory import free_bytes
from proa.config import config
from proa.dtypes import Dtype

LEAST: Final = 16 << 10  # bytes of an operand; what is smaller lies in the first cache
TOGETHER: Final = 16  # columns that are packed at once
SPARE: Final = 4  # times as many bytes as a copy has must be free


@final
class Copied(NamedTuple):
    """What is packed: a [columns, depth] matrix."""

    columns: int
    depth: int
    dtype: Dtype


@final
class Copy:
    """A packed copy, and where it lies."""

    __slots__ = ("of", "array", "address")

    def __init__(self, of: Copied, array: Any, address: int) -> None:
        self.of = of
        self.array = array
        self.address = address

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)


def copied(address: int, of: Copied) -> Copy | None:
    """A packed copy of what lies there, made by all threads; None where memory is short."""
    shape = shape_of(of.dtype, target())
    nbytes = -(-of.columns // shape.lanes) * shape.lanes * of.depth * of.dtype.itemsize
    # In the checked mode a kernel may touch what a call names as its memory, and nothing else.
    if config.cpu_checked or SPARE * nbytes > free_bytes():
        return None
    try:
        array, goal = allocate((nbytes,), np.dtype(np.uint8), nbytes)
    except MemoryError:
        return None
    words = numbers("q", [1, 0, 2, 0, of.columns, of.depth])
    bases = numbers("q", [0, address, goal])
    tiles = -(-of.columns // (PIECE * shape.lanes))
    kernel = Packing(of.dtype.itemsize, shape.lanes)
    row = numbers("q", [engine().find(kernel), tiles, words.buffer_info()[0], 0])
    threads().run(row.buffer_info()[0], 0, 1, bases.buffer_info()[0], 0, 0, False)
    return Copy(of, array, goal)


@final
class Packing(NamedTuple):
    """The kernel that packs elements of so many bytes. A tile is a piece of all blocks of K."""

    itemsize: int
    lanes: int

    @property
    def key(self) -> str:
        return f"product packing {self.itemsize} {self.lanes}"

    def ir(self, name: str, machine: Target) -> str:
        code = Code(min(self.lanes, TOGETHER))
        self._pieces(code)
        return module(code, name, machine)

    def _pieces(self, code: Code) -> None:
        """Pieces of four, two and one vectors of columns, as they are read."""
        lanes, size = self.lanes, self.itemsize
        source, goal = operand(code, 0), operand(code, 1)
        columns, depth = (code.load("i64", code.at("%call", 8 * (4 + i)), 8) for i in (0, 1))
        whole = code.set(f"and i64 {code.add(columns, lanes - 1)}, {-lanes}")
        first = code.mul("%tile", PIECE * lanes)
        left = code.minimum(code.sub(whole, first), PIECE * lanes)
        with code.loop(depth, BLOCK) as block:
            ks = code.minimum(code.sub(depth, block.index), BLOCK)
            start = code.at(goal, code.mul(code.mul(block.index, whole), size))
            b = code.at(source, code.mul(block.index, size))
            with code.loop(left) as piece:
                rest = code.sub(left, piece.index)
                width = code.select(code.compare("sge", rest, 2 * lanes), 2 * lanes, lanes)
                width = code.select(code.compare("sge", rest, 4 * lanes), 4 * lanes, width)
                piece.step = width
                column = code.add(first, piece.index)
                place = code.at(start, code.mul(code.mul(column, ks), size))
                with code.loop(width, code.body.lanes) as part:
                    few = code.add(column, part.index)
                    rows = columns_from(code, b, few, columns, code.mul(depth, size))
                    self._columns(code, rows, code.at(place, code.mul(part.index, size)), ks, width)

    def _columns(self, code: Code, rows: list[str], goal: str, ks: str, width: str) -> None:
        """A few columns, element by element: it is done once, and LLVM takes long to compile what
        transposes in registers."""
        size, type_ = self.itemsize, f"i{8 * self.itemsize}"
        with code.loop(ks, carried=[("ptr", goal)]) as k:
            shift = code.mul(k.index, size)
            for i, row in enumerate(rows):
                element = code.load(type_, code.at(row, shift), size)
                code.store(type_, element, code.at(k.values[0], i * size), size)
            k.next = [code.at(k.values[0], code.mul(width, size))]
