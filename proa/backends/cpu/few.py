"""Sums of a few elements that lie in rows: every row is an operand of its own, and their sum one
more operation on elements, without lanes in memory.

A lane of the order of RULES 3.3 b then holds one element, so that only the halving of the lanes is
left. The number of rows is part of the kernel: there is one for each number from 2 to `MOST`. So
that a new batch size compiles nothing, sums of fewer than `LEAST` columns, as gradients of biases
are, and of more rows stay with the lanes, whose kernels serve any number; the price is a kernel
for each batch of 2 to 8 where something as large as `LEAST` is summed over examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Final

from proa.graph.entry import Entry
from proa.graph.size import exact

if TYPE_CHECKING:
    from proa.backends.cpu.rows import Operand, Result

MOST: Final = 8
LEAST: Final = 1 << 14  # sums, so that a kernel of their own pays
LARGEST: Final = 64  # operations of such a kernel, of all rows
OPERANDS: Final = 24
Node = tuple[Entry, tuple[int, ...]]
Nodes = Sequence[Node]


def fits(
    operands: Sequence[Operand], nodes: Nodes, shape: Sequence[int], across: Sequence[int]
) -> bool:
    """Whether sums over the axes `across` are made so. Positions along these have no memory that
    could begin elsewhere."""
    count = prod([shape[a] for a in across])
    if prod(shape) < LEAST * count or not 2 <= count <= MOST:
        return False
    moving = [o for o in operands if any(o.strides[a] for a in across)]
    if any(o.is_index for o in moving) or len(operands) + (count - 1) * len(moving) > OPERANDS:
        return False
    return count * len(nodes) <= LARGEST


def unrolled(
    operands: Sequence[Operand], nodes: Nodes, results: Sequence[Result],
    sums: Sequence[Result], shape: Sequence[int], across: Sequence[int],
) -> tuple[list[Operand], list[Node], list[Result], tuple[int, ...]]:  # fmt: skip
    """A loop over all other axes: its operands, nodes, results and shape. The node of a sum reads
    an element of each row; what is alike for all rows is read and computed once."""
    is_sum = {r.number for r in sums}
    places = list(product(*[range(exact(shape[a])) for a in across]))
    read: dict[Operand, int] = {}
    found: list[list[int]] = []  # of each row: an operand's number for each number before
    for place in places:
        row = []
        for o in operands:
            moved = o._replace(offset=o.offset + _far(o.strides, across, place),
                               strides=_without(o.strides, across))  # fmt: skip
            row.append(read.setdefault(moved, len(read)))
        found.append(row)
    made: dict[Node, int] = {}
    for number, (entry, sources) in enumerate(nodes, len(operands)):
        if number in is_sum:
            keys = [(entry, tuple([row[sources[0]] for row in found]))] * len(found)
        else:
            keys = [(entry, tuple([row[s] for s in sources])) for row in found]
        for row, key in zip(found, keys, strict=True):
            row.append(made.setdefault(key, len(read) + len(made)))
    stored: dict[Result, None] = {}
    for row, place in zip(found, places, strict=True):
        for r in [*results, *sums]:
            stored[r._replace(number=row[r.number], offset=_far(r.strides, across, place),
                              strides=_without(r.strides, across))] = None  # fmt: skip
    rest = tuple([1 if a in across else n for a, n in enumerate(shape)])
    return list(read), list(made), list(stored), rest


def _far(strides: Sequence[int], across: Sequence[int], place: Sequence[int]) -> int:
    return sum(strides[a] * i for a, i in zip(across, place, strict=True))


def _without(strides: Sequence[int], across: Any) -> tuple[int, ...]:
    return tuple([0 if a in across else s for a, s in enumerate(strides)])
