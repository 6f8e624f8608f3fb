"""Moves to places that are data: `gather`, `scatter`, `dynamic_slice`, `dynamic_update`.

Updates of one place are applied in ascending order of index rows. Tiles split only what no
update shares: axes that stand beside the addressed ones, and ranges of the first addressed axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa import dtypes
from proa.backends.cpu.claims import (
    FLOATS,
    INTS,
    NARROW,
    memory_type,
    signed,
    widened,
)  # fmt: skip
from proa.backends.cpu.joined import (
    LINE_BYTES,
    PART_WORDS,
    TILE_BYTES,
    Axis,
    Code,
    move,
    parted,
    rows_table,
    spaced,
    strides_of,
)  # fmt: skip
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.vector import Vector, select
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.size import least, most
from proa.ops.families.indexing import window_span

LEAST_ROW: Final = 4  # elements; shorter rows are walked across
LEAST_BYTES: Final = 256  # of a row that a tile of a scatter takes
_BY_WIDTH: Final = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}
JOINED: Final = FLOATS | INTS | {dtypes.bool_}

# Indices.


def _number(code: Code, pointer: str, dtype: Dtype) -> str:
    """An index as 64 bits; negative ones are beyond every size when read as unsigned."""
    kind = f"i{dtype.bits}"
    found = code.set(f"load {kind}, ptr {pointer}, align {dtype.itemsize}")
    if dtype.bits == 64:
        return found
    return code.set(f"{'sext' if dtype.signed else 'zext'} {kind} {found} to i64")


def _located(
    code: Code, pointers: Sequence[str], dtypes: Sequence[Dtype], words: Sequence[str],
    low: str | int = 0,
) -> tuple[str, str]:  # fmt: skip
    """The byte offset that indices address, and whether all are inside: `words` are (size, stride)
    for each; the first index counts from `low`."""
    offset, inside = "0", ""
    for k, (pointer, dtype) in enumerate(zip(pointers, dtypes, strict=True)):
        index = _number(code, pointer, dtype)
        distance = index if k else code.sub(index, low)
        here = code.set(f"icmp ult i64 {distance}, {words[2 * k]}")
        inside = code.set(f"and i1 {inside}, {here}") if inside else here
        offset = code.add(offset, code.mul(index, words[2 * k + 1]))
    return offset, inside


def _moved(code: Code, pointers: Sequence[str], offsets: Sequence[str]) -> list[str]:
    return [code.moved(p, o) for p, o in zip(pointers, offsets, strict=True)]


def _names(indices: Sequence[Dtype]) -> str:
    return " ".join(d.name for d in indices)


# Gather.


@final
class Gather(NamedTuple):
    """Rows of a table: `u` contiguous ones, `g` with any strides, or `e`, where an index stands
    for one element and the row runs along the indices."""

    width: int
    pattern: str
    indices: tuple[Dtype, ...]

    @property
    def key(self) -> str:
        return f"gather {self.width} {self.pattern} {_names(self.indices)}"

    def ir(self, name: str, machine: Target) -> str:
        """Words: part, what stands for an element outside, for each index (size, stride), steps
        of table, result and indices along a row, rows."""
        count = len(self.indices)
        code = Code(2 + count, max(2, machine.vector_bytes // self.width))
        type_ = f"i{8 * self.width}"
        table, *indices, result = [code.pointer(k) for k in range(2 + count)]
        fill = code.word(PART_WORDS)
        if self.width < 8:
            fill = code.set(f"trunc i64 {fill} to {type_}")
        sizes = code.words(PART_WORDS + 1, 2 * count)
        steps = code.words(PART_WORDS + 1 + 2 * count, 2 + count)
        first, last, left, right = code.part(0)
        at = PART_WORDS + 3 + 3 * count
        with code.walk(at, 2 + count, first, last) as offsets:
            from_, to, *here = _moved(code, [table, result, *indices], offsets)
            if self.pattern == "e":
                moving = [from_, to, *here]
                with code.strided(left, right, moving, steps) as (start, goal, *mine):
                    offset, inside = _located(code, mine, self.indices, sizes)
                    one = self._element(code, inside, code.moved(start, offset), type_, fill)
                    code.body.line(f"  store {type_} {one}, ptr {goal}, align {self.width}")
            else:
                offset, inside = _located(code, here, self.indices, sizes)
                with code.when(inside):
                    row = code.moved(from_, offset)
                    code.copy(self.pattern, self.width, to, row, left, right, steps[:2])
                with code.when(inside, holds=False):
                    if self.pattern == "u":
                        code.fill(type_, fill, to, left, right)
                    else:
                        with code.strided(left, right, [to], steps[1:2]) as (goal,):
                            code.body.line(
                                f"  store {type_} {fill}, ptr {goal}, align {self.width}"
                            )
        return code.module(name, machine)

    def _element(self, code: Code, inside: str, place: str, type_: str, fill: str) -> str:
        """The element at a place, or the fill; what is outside is not read."""
        before = code.block
        with code.when(inside):
            one = code.set(f"load {type_}, ptr {place}, align {self.width}")
            here = code.block
        return code.set(f"phi {type_} [ {fill}, %{before} ], [ {one}, %{here} ]")


def _gather(nests: Any, step: int) -> None:
    draft = nests.draft
    entry, result = draft.steps[step].entry, draft.first[step]
    addressed, batch = entry.params
    x, *indices = [nests.layout(s) for s in draft.steps[step].slots]
    shape, width = entry.out.shape, entry.out.dtype.itemsize
    own = entry.ins[1].ndim - batch
    rest = [a for a in range(batch, entry.ins[0].ndim) if a not in addressed]
    from_ = (*x.strides[:batch], *[0] * own, *[x.strides[a] for a in rest])
    along = [(*i.strides, *[0] * len(rest)) for i in indices]
    strides = [from_, strides_of(shape, width), *along]
    if width == 16:
        shape, width = (*shape, 2), 8
        strides = [(*s, 8 * (k < 2)) for k, s in enumerate(strides)]
    axes = spaced(shape, *strides) or [Axis(1, (width, width, *[0] * len(indices)))]
    moving = [i for i, a in enumerate(axes) if any(a.strides[2:])]
    pattern = "u" if axes[0].strides[:2] == (width, width) else "g"
    if moving and (moving[0] == 0 or axes[0].size < LEAST_ROW):
        axes.insert(0, axes.pop(moving[0]))
        pattern = "e"
    inner, rows = axes[0], axes[1:]
    cost = 16 if pattern == "e" else width
    part, tiles = parted(prod(a.size for a in rows), inner.size, cost)
    table = [*part, _outside(entry.out.dtype)]
    for axis in addressed:
        table += [entry.ins[0].shape[axis], x.strides[axis]]
    table += [*inner.strides, *rows_table(rows, 2 + len(indices))]
    kernel = Gather(width, pattern, tuple([s.dtype for s in entry.ins[1:]]))
    operands = tuple([(a.root, a.offset) for a in (x, *indices)])
    tiles = tiles if prod(shape) else 0
    nests.actions.append(Call(kernel, operands, ((result, 0),), tuple(table), tiles, 0, step))


def _outside(dtype: Dtype) -> int:
    """The bits of NaN in a float dtype, 0 in others, as a word."""
    if not dtype.is_float:
        return 0
    bits = np.full(8 // dtype.itemsize, np.nan, dtype.numpy)
    return int(bits.view(np.int64)[0])


# Scatter.


@final
class Scatter(NamedTuple):
    """Updates joined to what is there: `u` along contiguous rows, `g` rows of any strides, `1`
    single elements. Narrow floats are joined to float32."""

    mode: str
    dtype: Dtype
    pattern: str
    indices: tuple[Dtype, ...]

    @property
    def key(self) -> str:
        return f"scatter {self.mode} {self.dtype.name} {self.pattern} {_names(self.indices)}"

    def ir(self, name: str, machine: Target) -> str:
        """Words: part, ranges of the first index and their length, for each index (size, stride),
        steps of updates and result along a row; (size, steps of updates and indices) of the
        innermost own axis of the index tensors; how many rows their other axes are, these, and
        the axes that all stand beside."""
        count = len(self.indices)
        width = 4 if self.dtype in NARROW else self.dtype.itemsize
        code = Code(2 + count, max(2, machine.vector_bytes // width))
        updates, *indices, result = [code.pointer(k) for k in range(2 + count)]
        ranges, length = code.words(PART_WORDS, 2)
        at = PART_WORDS + 2
        sizes = code.words(at, 2 * count)
        at += 2 * count
        steps, size = code.words(at, 2), code.word(at + 2)
        inner = code.words(at + 3, 1 + count)
        at += 4 + count
        height, outer = code.word(at), at + 1
        beside = code.add(code.mul(code.word(outer), 2 + count), outer + 1)

        low = code.mul(code.set(f"urem i64 %tile, {ranges}"), length)
        span = code.least(length, code.sub(sizes[0], low))
        limits = [span, *sizes[1:]]
        tile = code.set(f"udiv i64 %tile, {ranges}")
        first, last, left, right = code.part(0, tile)
        with code.walk(beside, 2 + count, first, last) as offsets:
            new, to, *here = _moved(code, [updates, result, *indices], offsets)
            with code.walk(outer, 1 + count, 0, height) as offsets:
                new, *here = _moved(code, [new, *here], offsets)
                with code.strided(0, size, [new, *here], inner) as (row, *mine):
                    offset, inside = _located(code, mine, self.indices, limits, low)
                    with code.when(inside):
                        self._row(code, row, code.moved(to, offset), left, right, steps)
        return code.module(name, machine)

    def _row(
        self, code: Code, new: str, to: str, left: str, right: str, steps: Sequence[str]
    ) -> None:
        if self.pattern == "u":
            code.along(left, right, lambda positions: self._join(code, new, to, positions))
            return
        lanes, code.body.lanes = code.body.lanes, 1
        if self.pattern == "1":
            self._join(code, new, to, ["0"])
        else:
            with code.strided(left, right, [new, to], steps) as (one, goal):
                self._join(code, one, goal, ["0"])
        code.body.lanes = lanes

    def _join(self, code: Code, new: str, to: str, positions: list[str]) -> None:
        kind, sign = memory_type(self.dtype), signed(self.dtype)
        held, align = (kind, self.dtype.itemsize) if self.dtype not in NARROW else ("float", 4)
        update = code.load(kind, new, positions, self.dtype.itemsize, sign)
        if self.mode != "set":
            update = widened(update, self.dtype) if self.dtype in NARROW else update
            old = code.load(held, to, positions, align, sign)
            update = _JOINS[self.mode](old, update)
        code.store(update, to, positions, align)


def _greater(x: Vector, y: Vector) -> Vector:
    """NaN if either is; of two zeros the update."""
    found = select(x > y, x, y)
    return select(x.is_nan(), x, found) if x.is_float else found


def _lesser(x: Vector, y: Vector) -> Vector:
    found = select(x < y, x, y)
    return select(x.is_nan(), x, found) if x.is_float else found


_JOINS: Final[dict[str, Callable[[Vector, Vector], Vector]]] = {
    "add": lambda x, y: x + y, "max": _greater, "min": _lesser,
}  # fmt: skip


def _scatter(nests: Any, step: int) -> None:
    """x, then the updates; narrow floats by way of float32, rounded once."""
    draft = nests.draft
    entry, result = draft.steps[step].entry, draft.first[step]
    x = nests.layout(draft.steps[step].slots[0])
    of = entry.ins[0]
    wide = of.dtype in NARROW and entry.params[2] != "set"
    if wide:
        joined = nests.cast_from(x, of.shape, of.dtype)
    else:
        joined, width = result, of.dtype.itemsize
        goal = strides_of(of.shape, width)
        move(nests, step, of.shape, width, (x.root, x.offset), x.strides, (result, 0), goal)
    if entry.ins[1].size and of.size:
        _update(nests, step, joined)
    if wide:
        nests.cast_into(joined, dtypes.float32, result)


def _update(nests: Any, step: int, joined: int) -> None:
    entry, slots = nests.draft.steps[step].entry, nests.draft.steps[step].slots
    axes, batch, mode = entry.params
    of, dtype = entry.ins[0], entry.out.dtype
    width = 4 if dtype in NARROW and mode != "set" else dtype.itemsize
    to = strides_of(of.shape, width)
    updates, *indices = [nests.layout(s) for s in slots[1:]]
    count, own = len(axes), entry.ins[2].ndim
    rest = [a for a in range(batch, of.ndim) if a not in axes]

    shape = [*of.shape[:batch], *[of.shape[a] for a in rest]]
    strides = [[*updates.strides[:batch], *updates.strides[own:]],
               [*to[:batch], *[to[a] for a in rest]],
               *[[*i.strides[:batch], *[0] * len(rest)] for i in indices]]  # fmt: skip
    if mode == "set":
        dtype = _BY_WIDTH[min(width, 8)]  # only the width counts
    if width == 16:
        shape = [*shape, 2]
        strides = [[*s, 8 * (k < 2)] for k, s in enumerate(strides)]
    beside = spaced(shape, *strides)
    row, pattern = Axis(1, (0,) * (2 + count)), "1"
    if beside and not any(beside[0].strides[2:]):
        row = beside.pop(0)
        pattern = "u" if row.strides[:2] == (dtype.itemsize, min(width, 8)) else "g"

    shape = entry.ins[2].shape[batch:]
    inside = spaced(shape, updates.strides[batch:own], *[i.strides[batch:] for i in indices])
    inner, *outer = inside or [Axis(1, (0,) * (1 + count))]

    # The first index is that of the longest axis: tiles may take ranges of it.
    order = sorted(range(count), key=lambda k: -of.shape[axes[k]])
    turned = [0, *[1 + k for k in order]]
    inner, outer = _ordered(inner, turned), [_ordered(a, turned) for a in outer]
    beside = [_ordered(a, [0, *[1 + k for k in turned]]) for a in beside]

    longest = of.shape[axes[order[0]]]
    work = entry.ins[1].nbytes + 8 * entry.ins[2].size
    part, tiles, length = _split(prod(a.size for a in beside), row.size, width, longest, work)
    table = [*part, -(-longest // length), length]
    for k in order:
        table += [of.shape[axes[k]], to[axes[k]]]
    table += [*row.strides[:2], inner.size, *inner.strides, prod(a.size for a in outer)]
    table += [*rows_table(outer, 1 + count), *rows_table(beside, 2 + count)]
    kernel = Scatter(mode, dtype, pattern, tuple([entry.ins[2 + k].dtype for k in order]))
    operands = [(a.root, a.offset) for a in (updates, *[indices[k] for k in order])]
    call = Call(kernel, tuple(operands), ((joined, 0),), tuple(table), tiles, 0, step)
    nests.actions.append(call)


def _ordered(axis: Axis, order: Sequence[int]) -> Axis:
    return Axis(axis.size, tuple([axis.strides[k] for k in order]))


def _split(
    beside: int, size: int, width: int, longest: int, work: int
) -> tuple[tuple[int, ...], int, int]:
    """The words of `Code.part`, the number of tiles, and the length of a range of the first index.
    Axes beside come first, then parts of a row, last ranges: these read all indices each, so rows
    must be long enough. One tile where one thread does as well."""
    cores = target().cores if work > TILE_BYTES else 1
    wanted = 4 * cores if cores > 1 else 1
    height = -(-beside // wanted)
    tiles = -(-beside // height)
    parts = least(-(-wanted // tiles), most(1, size * width // LEAST_BYTES))
    columns = -(-size // parts)
    tiles *= -(-size // columns)
    ranges = 1 if columns * width < LINE_BYTES else least(-(-cores // tiles), longest)
    length = -(-longest // ranges)
    part = (beside, height, size, columns, -(-size // columns))
    return part, tiles * -(-longest // length), length


# Windows.


def _dynamic_slice(nests: Any, step: int) -> None:
    entry, slots = nests.draft.steps[step].entry, nests.draft.steps[step].slots
    axes, sizes, strides = entry.params
    x, width = nests.layout(slots[0]), entry.out.dtype.itemsize
    starts = _starts(nests, slots[1:], entry.ins[0].shape, x.strides, *entry.params)
    from_ = list(x.strides)
    for a, k in zip(axes, strides, strict=True):
        from_[a] *= k
    goal = strides_of(entry.out.shape, width)
    move(nests, step, entry.out.shape, width, (x.root, x.offset), from_,
         (nests.draft.first[step], 0), goal, starts)  # fmt: skip


def _dynamic_update(nests: Any, step: int) -> None:
    entry, slots = nests.draft.steps[step].entry, nests.draft.steps[step].slots
    axes, strides = entry.params
    x, update = nests.layout(slots[0]), nests.layout(slots[1])
    shape, width, result = entry.out.shape, entry.out.dtype.itemsize, nests.draft.first[step]
    goal = strides_of(shape, width)
    move(nests, step, shape, width, (x.root, x.offset), x.strides, (result, 0), goal)
    if not entry.ins[1].size:
        return
    sizes = tuple([entry.ins[1].shape[a] for a in axes])
    starts = _starts(nests, slots[2:], shape, goal, axes, sizes, strides)
    to = list(goal)
    for a, k in zip(axes, strides, strict=True):
        to[a] *= k
    move(nests, step, entry.ins[1].shape, width, (update.root, update.offset), update.strides,
         (result, 0), to, starts, moves_goal=True)  # fmt: skip


def _starts(
    nests: Any, slots: Sequence[int], shape: Sequence[int], steps: Sequence[int],
    axes: Sequence[int], sizes: Sequence[int], strides: Sequence[int],
) -> list[tuple[tuple[int, int], int, int]]:  # fmt: skip
    """Where each start lies, the most it may be, and its byte stride."""
    found = []
    for slot, a, size, stride in zip(slots, axes, sizes, strides, strict=True):
        start = nests.layout(slot)
        room = shape[a] - window_span(size, stride)
        found.append(((start.root, start.offset), room, steps[a]))
    return found


def claims(entry: Entry) -> bool:
    """Any dtype where elements are moved; joined are real numbers."""
    name = entry.primitive.name
    if name not in _PLANS or any(s.is_named for s in entry.ins):
        return False
    if name != "scatter" or entry.params[2] == "set":
        return True
    dtype = entry.out.dtype
    return dtype in JOINED and (dtype is not dtypes.float16 or target().has_half)


def plan(nests: Any, step: int) -> None:
    _PLANS[nests.draft.steps[step].entry.primitive.name](nests, step)


_PLANS: Final[dict[str, Callable[[Any, int], None]]] = {
    "gather": _gather, "scatter": _scatter, "dynamic_slice": _dynamic_slice,
    "dynamic_update": _dynamic_update,
}  # fmt: skip
