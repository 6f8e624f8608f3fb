"""Blocks of K apart: the product of two vectors, and the joining of blocks in their order."""

from __future__ import annotations

from typing import NamedTuple, final

from proa import dtypes
from proa.backends.cpu.claims import memory_type
from proa.backends.cpu.product_code import Code
from proa.backends.cpu.product_micro import BLOCK, loaded, shape_of, transposed
from proa.backends.cpu.product_walk import FIRST, columns_from, module, operand, stored
from proa.backends.cpu.target import Target
from proa.dtypes import Dtype


@final
class Pair(NamedTuple):
    """The kernel of whole blocks of the product of two vectors: each lane takes another block.

    Its table: blocks, blocks of a tile. The result has one number for each block."""

    dtype: Dtype
    result: Dtype

    @property
    def key(self) -> str:
        return f"product pair {self.dtype.name} {self.result.name}"

    def ir(self, name: str, machine: Target) -> str:
        shape = shape_of(self.dtype, machine)
        code, kind, size, dtype = Code(shape.lanes), shape.kind, shape.itemsize, self.dtype
        wide = code.body.wide(kind)
        step = BLOCK * dtype.itemsize
        a, b, c = (operand(code, k) for k in range(3))
        blocks, share = (code.load("i64", code.at("%call", 8 * (FIRST + i)), 8) for i in (0, 1))
        start = code.mul("%tile", share)
        mine = code.minimum(share, code.sub(blocks, start))
        a, b = (code.at(p, code.mul(start, step)) for p in (a, b))
        with code.loop(mine, shape.lanes) as group:
            rows = [columns_from(code, p, group.index, mine, str(step)) for p in (a, b)]
            with code.loop(str(BLOCK), shape.lanes, [(wide, "zeroinitializer")]) as some:
                shift = code.mul(some.index, dtype.itemsize)
                shift = code.set(f"freeze i64 {shift}")  # one address of 32 at once: LLVM would ask
                found = [[loaded(code, dtype, code.at(r, shift), "") for r in of] for of in rows]
                pairs = zip(*[transposed(code, kind, of) for of in found], strict=True)
                for x, y in pairs:
                    some.next = [code.fma(kind, x, y, some.next[0])]
            goal = code.at(c, code.mul(code.add(start, group.index), size))
            mask = code.lanes_below(code.sub(mine, group.index))
            code.masked_store(kind, some.values[0], goal, mask, size)
        return module(code, name, machine)


@final
class Join(NamedTuple):
    """The kernel that adds the blocks of K, each a whole C of its own, in their order.

    Its table: elements, blocks, bytes from one block to the next, elements of a tile."""

    dtype: Dtype
    result: Dtype

    @property
    def key(self) -> str:
        return f"product join {self.dtype.name} {self.result.name}"

    def ir(self, name: str, machine: Target) -> str:
        double = self.dtype is dtypes.float64
        kind, size = ("double", 8) if double else ("float", 4)
        lanes = machine.vector_bytes // size
        code = Code(lanes)
        wide = code.body.wide(kind)
        source, goal = operand(code, 0), operand(code, 1)
        count, blocks, slab, share = (
            code.load("i64", code.at("%call", 8 * (4 + i)), 8) for i in range(4)
        )
        start = code.mul("%tile", share)
        mine = code.minimum(share, code.sub(count, start))
        with code.loop(mine, lanes) as some:
            at = code.add(start, some.index)
            mask = code.lanes_below(code.sub(mine, some.index))
            first = code.at(source, code.mul(at, size))
            value = code.masked_load(kind, first, mask, size)
            carried = [("ptr", code.at(first, slab)), (wide, value)]
            with code.loop(code.sub(blocks, 1), carried=carried) as block:
                place, total = block.values
                other = code.masked_load(kind, place, mask, size)
                block.next = [code.at(place, slab), code.set(f"fadd {wide} {total}, {other}")]
            held = stored(code, kind, self.result, block.values[1])
            place = code.at(goal, code.mul(at, self.result.itemsize))
            code.masked_store(memory_type(self.result), held, place, mask, self.result.itemsize)
        return module(code, name, machine)
