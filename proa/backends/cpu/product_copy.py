"""Packed copies: a weight stored [N, K] and used with one row is packed once (RULES 3.3).

A copy holds one block of K after the other; in each, pieces of `PIECE` vectors of columns, and in a
piece its columns side by side for each k. The last piece is as wide as it must be in whole vectors:
so the piece of a column begins at `column * k of the block` elements of the block.

It belongs to the buffer that it is a copy of, which never changes, and goes with it. What is
written anew at each step is used so once, and never packed.
"""

from __future__ import annotations

from array import array as numbers
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa.backends.cpu.claims import memory_type
from proa.backends.cpu.engine import engine
from proa.backends.cpu.memory import allocate
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.product_micro import BLOCK, Shape, loaded, shape_of, transposed
from proa.backends.cpu.product_row import PIECE, columns_from
from proa.backends.cpu.product_walk import module, operand, stored
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.threads import threads
from proa.compile.memory import free_bytes
from proa.config import config
from proa.dtypes import Dtype

LEAST: Final = 16 << 10  # bytes of an operand; what is smaller lies in the first cache
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
        array, goal = allocate((nbytes,), np.uint8, nbytes)
    except MemoryError:
        return None
    words = numbers("q", [1, 0, 2, 0, of.columns, of.depth])
    bases = numbers("q", [0, address, goal])
    tiles = -(-of.columns // (PIECE * shape.lanes))
    row = numbers("q", [engine().find(Packing(of.dtype)), tiles, words.buffer_info()[0], 0])
    threads().run(row.buffer_info()[0], 0, 1, bases.buffer_info()[0], 0, 0, False)
    return Copy(of, array, goal)


@final
class Packing(NamedTuple):
    """The kernel that packs. A tile is a piece of all blocks of K."""

    dtype: Dtype

    @property
    def key(self) -> str:
        return f"product packing {self.dtype.name}"

    def ir(self, name: str, machine: Target) -> str:
        shape = shape_of(self.dtype, machine)
        code = Code(shape.lanes)
        _packing(code, self.dtype, shape)
        return module(code, name, machine)


def _packing(code: Code, dtype: Dtype, shape: Shape) -> None:
    lanes, size = shape.lanes, dtype.itemsize
    source, goal = operand(code, 0), operand(code, 1)
    columns, depth = (code.load("i64", code.at("%call", 8 * (4 + i)), 8) for i in (0, 1))
    step = code.mul(depth, size)
    whole = code.set(f"and i64 {code.add(columns, lanes - 1)}, {-lanes}")
    first = code.mul("%tile", PIECE * lanes)
    left = code.minimum(code.sub(whole, first), PIECE * lanes)
    with code.loop(depth, BLOCK) as block:
        ks = code.minimum(code.sub(depth, block.index), BLOCK)
        start = code.at(goal, code.mul(code.mul(block.index, whole), size))
        start = code.at(start, code.mul(code.mul(first, ks), size))
        b = code.at(source, code.mul(block.index, size))
        # Pieces of four, two and one vectors of columns, as they are read.
        with code.loop(left) as piece:
            rest = code.sub(left, piece.index)
            width = code.select(code.compare("sge", rest, 2 * lanes), 2 * lanes, lanes)
            width = code.select(code.compare("sge", rest, 4 * lanes), 4 * lanes, width)
            piece.step = width
            there = code.at(start, code.mul(code.mul(piece.index, ks), size))
            with code.loop(width, lanes) as part:
                column = code.add(first, code.add(piece.index, part.index))
                rows = columns_from(code, b, column, columns, step)
                place = code.at(there, code.mul(part.index, size))
                with code.loop(ks, lanes) as k:
                    _square(code, dtype, shape, rows, place, k.index, code.sub(ks, k.index), width)


def _square(
    code: Code, dtype: Dtype, shape: Shape, rows: list[str], goal: str, k: str, left: str,
    width: str,
) -> None:  # fmt: skip
    """As many steps along k as a vector has lanes, or as are left: each goes to its place."""
    shift, step = code.mul(k, dtype.itemsize), code.mul(width, dtype.itemsize)
    place = code.at(goal, code.mul(k, step))
    mask = code.lanes_below(left)
    found = [loaded(code, dtype, code.at(r, shift), mask) for r in rows]
    for i, value in enumerate(transposed(code, shape.kind, found)):
        with code.when(code.compare("slt", i, left)):
            here = code.at(place, code.mul(step, i))
            held = stored(code, shape.kind, dtype, value)
            code.store(code.body.wide(memory_type(dtype)), held, here, dtype.itemsize)
