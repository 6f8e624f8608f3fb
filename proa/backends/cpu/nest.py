"""Loop nests: units become calls of kernels, with sizes and strides; what is no loop is planned
by its own module, or stays a host call."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, final

from proa import dtypes
from proa.backends.cpu.draft import Draft
from proa.backends.cpu.joined import move
from proa.backends.cpu.kernel import Call, Kernel
from proa.backends.cpu.layout import Layout, contiguous, fresh, is_contiguous, viewed
from proa.backends.cpu.planners import planned
from proa.backends.cpu.product_copy import LEAST as LEAST_COPIED
from proa.backends.cpu.product_copy import Copied
from proa.backends.cpu.rows import Operand, Result, loop_call, loops
from proa.dtypes import Dtype
from proa.graph.entry import Entry, intern_entry
from proa.graph.spec import spec
from proa.ops.control import is_control
from proa.ops.functions import cast


class Host(NamedTuple):
    """A call of the prepared NumPy kernel of one step."""

    entry: Entry
    operands: tuple[int, ...]
    results: tuple[int, ...]
    step: int


class Control(NamedTuple):
    """A step of control flow: its graphs are programs of their own, run in turn."""

    entry: Entry
    operands: tuple[int, ...]
    results: tuple[int, ...]
    step: int


@final
class Nests:
    """The actions of a Program in order, the layout of every slot, and memory for what has no
    slot: memory `len(specs) + i` is temporary i."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.specs = draft.specs
        self.actions: list[Any] = []
        self.layouts: dict[int, Layout] = {}
        self.temporaries: list[int] = []
        self.laid: dict[int, int] = {}  # results that are views -> memory of their own
        self.beside: list[Kernel] = []  # kernels that other sizes would need
        self.copies: dict[tuple[int, Copied], int] = {}  # input, how it is packed -> the memory
        self.step = 0

    def layout(self, slot: int) -> Layout:
        """Of a view: worked out from its operand's when first asked for."""
        found = self.layouts.get(slot)
        if found is None:
            found = self.layouts[slot] = self._find(slot)
        return found

    def _find(self, slot: int) -> Layout:
        maker = self.draft.maker[slot]
        if maker is None or not self.draft.is_view(maker):
            return fresh(slot, self.specs[slot])
        step = self.draft.steps[maker]
        found = viewed(step.entry, self.layout(step.slots[0]))
        return fresh(slot, self.specs[slot]) if found is None else found

    # What planners ask for.

    def temporary(self, nbytes: int) -> int:
        """Fresh memory that lives until its last use."""
        self.temporaries.append(nbytes)
        return len(self.specs) + len(self.temporaries) - 1

    def bytes_of(self, memory: int) -> int:
        count = len(self.specs)
        return self.specs[memory].nbytes if memory < count else self.temporaries[memory - count]

    def packed(self, layout: Layout, shape: tuple[int, ...], dtype: Dtype) -> int:
        """A temporary with the elements of a strided region in C order."""
        memory = self.temporary(dtype.itemsize * prod(shape))
        self._copied(layout, shape, dtype, memory)
        return memory

    def copy(self, layout: Layout, columns: int, depth: int, dtype: Dtype) -> int | None:
        """Memory that is a packed copy of an operand, if at a run there is one: the operand is a
        whole input, [columns, depth] as it lies."""
        slot, size = layout.root, columns * depth * dtype.itemsize
        is_input = slot < len(self.draft.program.graph.inputs)
        if not is_input or layout.offset or size < LEAST_COPIED or size != self.specs[slot].nbytes:
            return None
        key = slot, Copied(columns, depth, dtype)
        if key not in self.copies:
            self.copies[key] = self.temporary(0)  # it is nobody's but the buffer's
        return self.copies[key]

    def indices(self, strides: Sequence[int], shape: tuple[int, ...]) -> int:
        """A temporary of int64 with the position that strides, in elements, give."""
        memory = self.temporary(8 * prod(shape))
        operand = Operand(dtypes.int64, 0, 0, tuple(strides), True)
        self._whole(operand, (), shape, dtypes.int64, memory)
        return memory

    def cast_into(self, memory: int, dtype: Dtype, slot: int) -> None:
        """A slot's elements from a temporary of as many of another dtype, in C order."""
        of = self.specs[slot]
        entry = _cast(dtype, of.dtype)
        strides = contiguous(of.shape, dtype.itemsize)
        operand = Operand(dtype, memory, 0, strides)
        self._whole(operand, ((entry, (0,)),), of.shape, of.dtype, slot)

    def cast_from(self, layout: Layout, shape: tuple[int, ...], dtype: Dtype) -> int:
        """A temporary in C order with the elements of a strided region as float32."""
        memory = self.temporary(4 * prod(shape))
        operand = Operand(dtype, *layout)
        node = ((_cast(dtype, dtypes.float32), (0,)),)
        self._whole(operand, node, shape, dtypes.float32, memory)
        return memory

    def _copied(self, layout: Layout, shape: tuple[int, ...], dtype: Dtype, memory: int) -> None:
        width = dtype.itemsize
        source, goal = (layout.root, layout.offset), (memory, 0)
        strides = contiguous(shape, width)
        move(self, self.step, shape, width, source, layout.strides, goal, strides)

    def _whole(
        self, operand: Operand, nodes: Any, shape: tuple[int, ...], dtype: Dtype, memory: int
    ) -> None:
        """Every element of a region, one result in C order."""
        result = Result(len(nodes), dtype, memory, contiguous(shape, dtype.itemsize))
        self.actions.append(loop_call([operand], nodes, [result], shape, self.step))

    def lay_out(self, slot: int, source: int) -> None:
        """A view in memory of its own."""
        of = self.specs[source]
        self._copied(self.layout(source), of.shape, of.dtype, slot)

    def own(self, slot: int) -> None:
        """A result owns its memory: a view of an input or of something larger is laid out."""
        layout, of = self.layout(slot), self.specs[slot]
        whole = is_contiguous(layout, of) and of.nbytes == self.bytes_of(layout.root)
        is_input = layout.root < self.draft.program.graph.first_step_slot
        if layout.root == slot or (whole and not is_input):
            return
        self.laid[slot] = self.packed(layout, of.shape, of.dtype)

    def owner(self, slot: int) -> int:
        """The memory of a result."""
        return self.laid.get(slot, self.layout(slot).root)

    def show(self) -> str:
        lines = []
        for action in self.actions:
            if type(action) is Call:
                text = action.kernel.key.replace("\n", "; ")
                lines.append(
                    f"{action.tiles} tiles of [{text}] {action.operands} -> {action.results}, "
                    f"table {action.table}"
                )
            else:
                lines.append(f"{type(action).__name__.lower()} {action[0]} -> {action[2]}")
        return "\n".join(lines)


def _cast(source: Dtype, goal: Dtype) -> Entry:
    return intern_entry(cast.table, cast, (goal, False), (spec((), source),))


def nest(draft: Draft) -> Nests:
    """Every unit as calls of kernels, a host call, or nothing but a layout."""
    nests = Nests(draft)
    for number, first in enumerate(draft.first):
        if draft.is_view(number):
            nests.layout(first)  # in order, so that nothing is recursive in the depth of a graph
    for unit in draft.order:
        step = nests.step = unit.steps[0]
        entry, slots, first = draft.entry(step), draft.steps[step].slots, draft.first[step]
        if unit.shape is not None:
            nests.step = unit.steps[-1]
            loops(nests, unit)
        elif draft.is_view(step):
            if nests.layout(first).root == first:
                nests.lay_out(first, slots[0])
        elif not planned(nests, step):
            outs = tuple(range(first, first + len(entry.outs)))
            kind = Control if is_control(entry) else Host
            nests.actions.append(kind(entry, slots, outs, step))
    for slot in dict.fromkeys(draft.program.graph.outputs):
        nests.own(slot)
    return nests
