"""Units as calls of `Loop`s: which axes are rows, how they are cut into tiles."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proa import dtypes
from proa.backends.cpu import few
from proa.backends.cpu.draft import Unit, operand_maps
from proa.backends.cpu.kernel import BLOCK, LANES, Call, is_across, is_reduction, lane_dtype
from proa.backends.cpu.layout import Layout, contiguous
from proa.backends.cpu.loop import Loop
from proa.backends.cpu.sums import Join
from proa.backends.cpu.target import target
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.size import either, least, most, reaches

if TYPE_CHECKING:
    from proa.backends.cpu.nest import Nests

TILE_NS: Final = 40_000.0  # what a tile should take
BYTES_NS: Final = 16.0  # moved in a nanosecond
COST_NS: Final = 0.02  # of one elementary operation
MOST: Final = 8  # times the size that would take this long, where there are tiles enough:
TILES: Final = 8  # for each processor; memory likes to be walked in long pieces
STREAM: Final = 1.25  # times the L3 cache: what moves more leaves its results out of the caches
JOIN_BYTES: Final = 64 << 10  # of lanes that a tile joins
COLUMN_BYTES: Final = 1024  # of a tile's columns, so that 16 lanes of them stay in the L1 cache


class Operand(NamedTuple):
    """Strides are those of every axis of the space. `is_index`: its own position, no memory.
    `moves`: whether it would run along the last axis if there were more than one element."""

    dtype: Dtype
    memory: int
    offset: int
    strides: tuple[int, ...]
    is_index: bool = False
    moves: bool = True


class Result(NamedTuple):
    """A node's number, where its elements go, and how they run along the row (see `Loop`)."""

    number: int
    dtype: Dtype
    memory: int
    strides: tuple[int, ...]
    pattern: str = "u"
    offset: int = 0


Axes = list[tuple[int, list[int]]]  # size and strides of every memory, the innermost first


def collapsed(shape: Sequence[int], strides: list[tuple[int, ...]], axes: Sequence[int]) -> Axes:
    """Axes of the space, the last first; those that every memory runs through alike are one."""
    found: Axes = []
    for a in reversed(axes):
        if shape[a] == 1:
            continue
        steps = [s[a] for s in strides]
        if found and steps == [t * found[-1][0] for t in found[-1][1]]:
            found[-1] = (shape[a] * found[-1][0], found[-1][1])
        else:
            found.append((shape[a], steps))
    return found


def _runs(operand: Operand, shape: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether an operand runs through axes as through one."""
    return len(collapsed(shape, [operand.strides], axes)) <= 1


# From a unit to operands, nodes and results.


def loops(nests: Nests, unit: Unit) -> None:
    """Appends the calls of a unit."""
    shape: Any = unit.shape
    operands, nodes, made = _read(nests, unit)
    reduced, across, order = sorted(unit.reduced), sorted(unit.across), list(range(len(shape)))
    if unit.is_apart:
        gone = reduced or across
        order = [a for a in order if a not in gone] + gone
        shape = tuple([shape[a] for a in order])
        operands = [
            _packed(nests, o._replace(strides=tuple([o.strides[a] for a in order])), shape, order)
            for o in operands
        ]
        reduced, across = list(range(len(shape) - len(gone), len(shape))), []
    is_few = bool(across) and not reduced and few.fits(operands, nodes, shape, across)
    for axes in () if is_few else (reduced, across):
        operands = [
            o if _runs(o, shape, axes) else _packed(nests, o, shape, axes) for o in operands
        ]
    results: list[Result] = []
    rows: list[Result] = []  # sums of few rows
    sums = []
    for slot in unit.members:
        if not nests.draft.is_shared(unit, slot):
            continue
        of, number = nests.specs[slot], made[slot]
        entry = nodes[number - len(operands)][0]
        map_ = [unit.members[slot][a] for a in order]
        if is_reduction(entry) and (unit.is_partial or (across and is_across(entry))):
            sums.append((number, entry, slot))
            if not is_few:
                continue
        own = contiguous(of.shape, of.dtype.itemsize)
        strides = tuple([own[a] if a is not None and of.shape[a] != 1 else 0 for a in map_])
        is_of_rows = reduced and not unit.is_partial and all(map_[a] is None for a in reduced)
        pattern = "s" if is_of_rows else "u"
        kind = rows if is_few and is_reduction(entry) else results
        kind.append(Result(number, of.dtype, slot, strides, pattern))
    if unit.is_partial:
        _pieces(nests, operands, nodes, results, sums, shape)
    elif is_few:
        every = few.unrolled(operands, nodes, results, rows, shape, across)
        nests.actions.append(loop_call(*every, nests.step))
    elif across:
        _blocks(nests, operands, nodes, results, sums, shape, reduced, across)
    else:
        nests.actions.append(loop_call(operands, nodes, results, shape, nests.step, reduced))


def _packed(nests: Nests, operand: Operand, shape: tuple[int, ...], axes: Sequence[int]) -> Operand:
    """An operand laid out anew over these axes and all others that it runs along: what stands
    still along a row goes on to."""
    kept = [a in axes or s != 0 for a, s in enumerate(operand.strides)]
    shape = tuple([n if k else 1 for n, k in zip(shape, kept, strict=True)])
    if operand.is_index:
        memory = nests.indices(operand.strides, shape)
    else:
        layout = Layout(operand.memory, operand.offset, operand.strides)
        memory = nests.packed(layout, shape, operand.dtype)
    every = contiguous(shape, operand.dtype.itemsize)
    strides = tuple([s if k else 0 for s, k in zip(every, kept, strict=True)])
    return Operand(operand.dtype, memory, 0, strides, moves=operand.moves or kept[-1])


def _read(
    nests: Nests, unit: Unit
) -> tuple[list[Operand], list[tuple[Entry, tuple[int, ...]]], dict[int, int]]:
    """What a unit reads and computes; the number of each member's node."""
    draft = nests.draft
    numbers: dict[Any, int] = {}  # of operands: (slot, map, offset)
    operands: list[Operand] = []
    nodes: list[tuple[Entry, list[Any]]] = []

    def operand(key: Any, make: Any) -> tuple[str, int]:
        if key not in numbers:
            numbers[key] = len(operands)
            operands.append(make())
        return "operand", numbers[key]

    def element(slot: int, through: list[Any], offset: int = 0) -> tuple[str, int]:
        layout, of = nests.layout(slot), nests.specs[slot]

        def make() -> Operand:
            strides = [
                layout.strides[a] if a is not None and of.shape[a] != 1 else 0 for a in through
            ]
            moves = not through or through[-1] is not None
            return Operand(of.dtype, layout.root, layout.offset + offset, tuple(strides),
                           moves=moves)  # fmt: skip

        return operand((slot, tuple(through), offset), make)

    def position(strides: list[int], moves: bool) -> tuple[str, int]:
        def make() -> Operand:
            return Operand(dtypes.int64, 0, 0, tuple(strides), True, moves)

        return operand(("index", tuple(strides), moves), make)

    for step in unit.steps:
        entry, frame = draft.entry(step), unit.frames[step]
        sources: list[Any] = []
        if entry.primitive.name == "iota":
            along = [a is not None and a == entry.params[1] for a in frame]
            sources.append(position([int(a) for a in along], not frame or along[-1]))
        elif entry.primitive.name == "random_bits":
            lead = entry.ins[0].ndim - 1
            flat = contiguous(entry.out.shape[lead:], 1)
            own = [a - lead if a is not None and a >= lead else None for a in frame]
            sources.append(position(
                [flat[a] if a is not None and entry.out.shape[a + lead] != 1 else 0 for a in own],
                not own or own[-1] is not None,
            ))  # fmt: skip
            for word in range(3):
                source, inner = draft.origins[draft.steps[step].slots[0]]
                through = [inner[a] if a is not None and a < lead else None for a in frame]
                stride = nests.layout(source).strides[inner[lead]] if inner[lead] is not None else 0
                sources.append(element(source, through, word * stride))
        else:
            pairs = zip(draft.steps[step].slots, operand_maps(draft, step), strict=True)
            for slot, runs in pairs:
                source, inner = draft.origins[slot]
                if source in unit.members:
                    sources.append(("node", source))
                    continue
                through = [
                    inner[runs[a]] if a is not None and runs[a] is not None else None for a in frame
                ]
                sources.append(element(source, through))
        nodes.append((entry, sources))
    made = {draft.first[s]: len(operands) + i for i, s in enumerate(unit.steps)}
    plain = [
        (entry, tuple([made[s] if kind == "node" else s for kind, s in sources]))
        for entry, sources in nodes
    ]
    return operands, plain, made


# Calls.


def loop_call(
    operands: Sequence[Operand], nodes: Sequence[tuple[Entry, tuple[int, ...]]],
    results: Sequence[Result], shape: Sequence[int], step: int, reduced: Sequence[int] = (),
) -> Call:  # fmt: skip
    """The call of a loop whose sums, if any, are complete at the end of each row."""
    memories = [*[o.strides for o in operands], *[r.strides for r in results]]
    rest = [a for a in range(len(shape)) if a not in reduced]
    if reduced:
        inner, outer = collapsed(shape, memories, reduced), collapsed(shape, memories, rest)
    else:
        inner, outer = [], collapsed(shape, memories, rest)
        inner, outer = outer[:1], outer[1:]
    n, steps = inner[0] if inner else (1, _alone(operands, results))
    kernel = _loop(operands, nodes, results, steps)
    rows = prod([m for m, _ in outer])
    size = max(1024, int(TILE_NS / _element_ns(kernel, operands, results)))
    # Ways to go that are numbers, so that there is one way for all sizes.
    is_cut = reaches(2 * rows * n, 3 * size + 1)
    size = either(
        is_cut, most(size, least(rows * n // (TILES * target().cores), MOST * size)), size
    )
    is_long = 0 if reduced else is_cut * reaches(n, 2 * size)
    per_tile = either(is_cut, either(is_long, 1, most(1, size // most(n, 16))), rows)
    chunk = either(is_long, -(-size // 1024) * 1024, most(n, 1))
    pieces = most(1, -(-n // chunk))
    walk = _Walk(n, per_tile, chunk, pieces, most(rows, 1), rows)
    tiles = -(-rows // most(per_tile, 1)) * pieces if n or reduced else 0
    return _called(kernel, operands, results, walk, steps, outer, tiles, step)


def _pieces(
    nests: Nests, operands: list[Operand], nodes: Any, results: list[Result],
    sums: list[tuple[int, Entry, int]], shape: Sequence[int],
) -> None:  # fmt: skip
    """Sums over everything: 16 lanes of each piece of the one row, and their `Join`s."""
    memories = [*[o.strides for o in operands], *[r.strides for r in results]]
    inner = collapsed(shape, memories, range(len(shape)))
    n, steps = inner[0] if inner else (1, _alone(operands, results))
    lanes = [lane_dtype(e.ins[0].dtype) for _, e, _ in sums]
    made = [Result(number, d, 0, (), "s") for (number, _, _), d in zip(sums, lanes, strict=True)]
    kernel = _loop(operands, nodes, [*results, *made], steps, is_partial=True)
    size, chunk = TILE_NS / _element_ns(kernel, operands, results), BLOCK
    while chunk < size:
        chunk *= 2
    pieces = most(1, -(-n // chunk))
    made = [
        r._replace(memory=nests.temporary(pieces * LANES * d.itemsize))
        for r, d in zip(made, lanes, strict=True)
    ]
    walk = _Walk(n, 1, chunk, pieces, 1, 1)
    call = _called(kernel, operands, [*results, *made], walk, steps, [], pieces, nests.step)
    nests.actions.append(call)
    _join(nests, sums, made, 1, pieces, 1, LANES)


def _blocks(
    nests: Nests, operands: list[Operand], nodes: Any, results: list[Result],
    sums: list[tuple[int, Entry, int]], shape: Sequence[int], reduced: list[int],
    across: list[int],
) -> None:  # fmt: skip
    """Sums from row to row: 16 lanes of each block of 256 rows, and their `Join`s."""
    memories = [*[o.strides for o in operands], *[r.strides for r in results]]
    (count, strides), *_ = collapsed(shape, memories, across) or [(1, [0] * len(memories))]
    after = list(range(across[-1] + 1, len(shape)))
    inside = collapsed(shape, memories, after)
    n, steps = inside[0] if inside else (1, _alone(operands, results))
    blocks = most(1, -(-count // BLOCK))
    axes = [
        (LANES, strides), (LANES, [s * LANES for s in strides]),
        (blocks, [s * BLOCK for s in strides]), *inside[1:],
        *collapsed(shape, memories, range(across[0])),
    ]  # fmt: skip
    outer = prod([m for m, _ in axes[3:]])
    lanes = next(n for n in (16, 8, 4, 2, 1) if 2 * count > n or n == 1)
    made = []
    for number, entry, _ in sums:
        dtype = lane_dtype(entry.ins[0].dtype)
        memory = nests.temporary(outer * blocks * lanes * n * dtype.itemsize)
        made.append(Result(number, dtype, memory, (), "+"))
        far = _lane_strides(axes, n * dtype.itemsize, lanes)
        axes = [(m, [*s, f]) for (m, s), f in zip(axes, far, strict=True)]
    kernel = _loop(operands, nodes, [*results, *made], steps)
    chunk = most(n, 1) if reduced else COLUMN_BYTES // max([r.dtype.itemsize for r in made])
    pieces = 1 if reduced else -(-n // chunk)  # the sum of a row of nothing is written too
    walk = _Walk(n, BLOCK, chunk, pieces, blocks * BLOCK, count, lanes)
    tiles, every = outer * blocks * pieces, [*results, *made]
    call = _called(kernel, operands, every, walk, steps, axes, tiles, nests.step)
    nests.actions.append(call)
    _join(nests, sums, made, outer, blocks, n, lanes)


def _join(
    nests: Nests, sums: list[tuple[int, Entry, int]], made: list[Result], outer: int, blocks: int,
    columns: int, lanes: int,
) -> None:  # fmt: skip
    for (_, entry, slot), part in zip(sums, made, strict=True):
        width = JOIN_BYTES // (blocks * lanes * part.dtype.itemsize) // LANES * LANES
        width = least(most(LANES, width), most(1, columns), 1 << 12)
        parts = -(-columns // width)
        nests.actions.append(Call(
            Join(entry), (), ((part.memory, 0), (slot, 0)), (blocks, columns, width, parts, lanes),
            outer * parts, 0, nests.step,
        ))  # fmt: skip


def _lane_strides(axes: Axes, line: int, lanes: int) -> list[int]:
    """Of lanes that rows are added to, along (lane, step, block, outer axes)."""
    found, far = [line, 0], lanes * line
    for m, _ in axes[2:]:
        found.append(far)
        far *= m
    return found[: len(axes)]


def _alone(operands: Sequence[Operand], results: Sequence[Result]) -> list[int]:
    """Strides that a single element is called with, so that its kernel is that of many."""
    found = [(1 if o.is_index else o.dtype.itemsize) if o.moves else 0 for o in operands]
    return found + [r.dtype.itemsize if r.pattern == "u" else 0 for r in results]


def _loop(
    operands: Sequence[Operand], nodes: Any, results: Sequence[Result], steps: Sequence[int],
    is_partial: bool = False,
) -> Loop:  # fmt: skip
    patterns = []
    for o, s in zip(operands, steps, strict=False):
        if o.is_index:
            patterns.append((o.dtype, f"i{s}"))
        else:
            patterns.append((o.dtype, {o.dtype.itemsize: "u", 0: "s"}.get(s, "g")))
    made = [(r.number, r.pattern) for r in results]
    return Loop(tuple(patterns), tuple(nodes), tuple(made), is_partial)


def _element_ns(kernel: Loop, operands: Sequence[Operand], results: Sequence[Result]) -> float:
    """About how long an element takes: the longer of moving and computing."""
    pairs = zip(operands, kernel.operands, strict=True)
    moved = sum(o.dtype.itemsize for o, (_, pattern) in pairs if pattern in ("u", "g"))
    moved += sum(r.dtype.itemsize for r in results if r.pattern == "u")
    cost = sum(entry.primitive.cost for entry, _ in kernel.nodes)
    return float(max(moved / BYTES_NS, cost * COST_NS, 0.01))


def _moved(
    walk: _Walk, kernel: Loop, operands: Sequence[Operand], results: Sequence[Result], tiles: int
) -> int:
    """About how many bytes a call reads and writes along its rows."""
    sizes = [o.itemsize for o, pattern in kernel.operands if pattern in ("u", "g")]
    sizes += [r.dtype.itemsize for r in results if r.pattern == "u"]
    return sum(sizes) * tiles * walk.per_tile * least(walk.chunk, walk.n)


class _Walk(NamedTuple):
    """The words of a loop's table that say how rows of n elements are cut: rows a tile, elements
    a piece of a row, pieces a row; of each `period` of rows only `extent` are there, and fewer
    rows than lanes fill so many of them."""

    n: int
    per_tile: int
    chunk: int
    pieces: int
    period: int
    extent: int
    lanes: int = LANES


def _called(
    kernel: Loop, operands: Sequence[Operand], results: Sequence[Result], walk: _Walk,
    steps: Sequence[int], axes: Axes, tiles: int, step: int,
) -> Call:  # fmt: skip
    axes = axes or [(1, [0] * (len(operands) + len(results)))]  # a stride to the next row
    moved = _moved(walk, kernel, operands, results, tiles)
    is_stream = reaches(moved, int(STREAM * target().l3_bytes) + 1)
    table = [len(axes), *walk, is_stream, *steps[: len(operands)]]
    for m, strides in axes:
        table += [m, *strides]
    return Call(
        kernel,
        tuple([(o.memory, o.offset) for o in operands]),
        tuple([(r.memory, r.offset) for r in results]),
        tuple(table),
        tiles,
        len(kernel.analysis.kept) * (-(-walk.n // 64) * 64) * 8,
        step,
        _alike(kernel, operands, results),
    )


def _alike(
    kernel: Loop, operands: Sequence[Operand], results: Sequence[Result]
) -> tuple[tuple[int, int], ...]:
    """Operands and results that run through as large a memory in the same way, where nothing is
    read of the operand's memory, there or later, that the result has been written to."""
    found = []
    for k, o in enumerate(operands):
        beside = [n for n, other in enumerate(operands) if other.memory == o.memory and n != k]
        if o.is_index or o.offset or beside or kernel.operands[k][1] != "u":
            continue
        found += [
            (k, i) for i, r in enumerate(results)
            if (r.strides, r.dtype.itemsize, r.offset) == (o.strides, o.dtype.itemsize, 0)
            and kernel.results[i][1] == "u" and kernel.last_read(k) <= kernel.written(i)
        ]  # fmt: skip
    return tuple(found)
