"""Products: `dot` planned as calls of kernels that serve every size and layout.

Letters become axes: a batch, rows, columns, and what is summed. The kernels are `product_block`,
`product_row` where there is one row, and `product_pair` where blocks of K are made apart. Bits
depend on nothing that is chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final, NamedTuple, final

from proa import dtypes
from proa.backends.cpu import product_whole
from proa.backends.cpu.claims import FLOATS, INTS
from proa.backends.cpu.joined import Place
from proa.backends.cpu.kernel import Call, Kernel
from proa.backends.cpu.layout import Layout
from proa.backends.cpu.product_block import Product
from proa.backends.cpu.product_copy import Packing
from proa.backends.cpu.product_micro import BLOCK, Shape, shape_of
from proa.backends.cpu.product_pair import Join, Pair
from proa.backends.cpu.product_row import PIECE, Row, strip_bytes
from proa.backends.cpu.product_walk import TABLE
from proa.backends.cpu.target import Target, target
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.size import either, exact, least, most, reaches

PLACES: Final = ((True, True), (True, False), (False, True))  # batch, rows, columns
FEW_ROWS: Final = 4  # that are made like one where B is [N, K]
FEW: Final = 64  # rows, or columns, that an operand with more such axes is not packed for
SMALL: Final = 128 << 10  # bytes of an operand that is read where it lies
LITTLE: Final = 13_000  # vector instructions that one thread does sooner than two
LEAST_WORK: Final = 2000  # multiply-adds that take as long as a product of a few elements
STRIP: Final = 8  # slivers, or panels, that are enough for a tile
MOST_PANELS: Final = 64  # of a tile
LONGEST: Final = 2048  # columns of a strip
FEW_RESULTS: Final = 64 << 10  # for each core


@final
class Axis(NamedTuple):
    """A letter, or letters that every operand runs through alike: size, steps in bytes of the
    first operand, the second, and the result; 0 where the letter is not."""

    size: int
    a: int
    b: int
    c: int


@final
class Problem(NamedTuple):
    """The axes of the batch, of the rows, of the columns, and of what is summed."""

    batch: list[Axis]
    rows: Axis
    columns: Axis
    depth: Axis

    @property
    def products(self) -> int:
        return prod(x.size for x in self.batch)

    @property
    def work(self) -> int:
        return self.products * self.rows.size * self.columns.size * most(1, self.depth.size)


@final
class Tiles(NamedTuple):
    """What one tile holds: of the batch, rows, columns, steps along k; panels, and columns, that
    are packed at once."""

    batch: int
    rows: int
    columns: int
    depth: int
    panels: int
    strip: int


def claims(entry: Entry) -> bool:
    """Whether an entry is a product of real numbers of one dtype."""
    if entry.primitive.name != "dot" or any(s.is_named for s in entry.ins):
        return False
    return len({s.dtype for s in (*entry.ins, *entry.outs)}) == 1 and can(entry.outs[0].dtype)


def can(dtype: Dtype) -> bool:
    """Whether there are kernels for a dtype."""
    if dtype is dtypes.float16:
        return target().has_half
    return dtype in FLOATS | INTS


def family(dtype: Dtype) -> list[Kernel]:
    """Every kernel that products of a dtype may need: which of them it is is a matter of sizes, so
    all are there from the first product on."""
    wide = dtypes.float64 if dtype is dtypes.float64 else dtypes.float32
    packing = Packing(dtype.itemsize, shape_of(dtype, target()).lanes)
    made: list[Kernel] = [k(dtype, d) for d in dict.fromkeys((dtype, wide)) for k in (Product, Row)]
    return [*made, Pair(dtype, wide), Join(wide, dtype), packing]


def plan(nests: Any, step: int) -> None:
    """Append the calls of one product."""
    made = nests.draft.steps[step]
    operands = [(nests.layout(s), nests.specs[s].shape) for s in made.slots]
    goal = nests.layout(nests.draft.first[step])
    multiply(nests, operands, made.entry.params, made.entry.outs[0].dtype, goal, step)


def multiply(
    nests: Any, pair: Sequence[tuple[Layout, Sequence[int]]], letters: Sequence[str], dtype: Dtype,
    goal: Layout, step: int,
) -> None:  # fmt: skip
    """Append the calls of the product of two regions, (layout, shape) each, their letters and those
    of the result, which goes to `goal`: memory without gaps, in any order. What is summed stands
    in the order of the first operand."""
    a, b, out = letters
    if dtype in INTS:
        product_whole.multiply(nests, pair, letters, dtype, goal, step)
        return
    nests.beside += family(dtype)
    operands = _Operands(nests, pair, (a, b), dtype)
    place = (goal.root, goal.offset)
    if not prod(operands.sizes[x] for x in out):
        nests.actions.append(Call(Product(dtype, dtype), (place,) * 2, (place,), (), 0, 0, step))
        return
    last = next((x for x in reversed(out) if operands.sizes[x] != 1), "")
    if last and last not in b:
        operands.swap()
    problem = _problem(operands, dict(zip(out, goal.strides, strict=True)), a)
    nests.actions += _calls(operands, problem, step, place, target())


@final
class _Operands:
    """Two operands, their letters, and where they lie."""

    def __init__(
        self, nests: Any, pair: Sequence[tuple[Layout, Sequence[int]]], letters: tuple[str, str],
        dtype: Dtype,
    ) -> None:  # fmt: skip
        self.nests = nests
        self.letters = list(letters)
        self.dtype = dtype
        self.layouts = [layout for layout, _ in pair]
        self.sizes: dict[str, int] = {}
        for (_, shape), names in zip(pair, letters, strict=True):
            self.sizes |= zip(names, shape, strict=True)

    def swap(self) -> None:
        self.letters.reverse()
        self.layouts.reverse()

    def pack(self, k: int, order: str) -> None:
        """Lay an operand out anew, its letters in this order."""
        old = self.layouts[k]
        strides = dict(zip(self.letters[k], old.strides, strict=True))
        shape = tuple([self.sizes[x] for x in order])
        source = old._replace(strides=tuple([strides[x] for x in order]))
        memory = self.nests.packed(source, shape, self.dtype)
        steps, step = [], self.dtype.itemsize
        for n in reversed(shape):
            steps.append(step)
            step *= n
        self.letters[k] = order
        self.layouts[k] = old._replace(root=memory, offset=0, strides=tuple(reversed(steps)))

    def skip(self, nbytes: int) -> None:
        """Go on so many bytes further in both."""
        self.layouts = [x._replace(offset=x.offset + nbytes) for x in self.layouts]

    def axes(self, letters: str, ends: dict[str, int]) -> list[Axis]:
        """These letters, joined where they go on in each other."""
        rows = [
            dict(zip(names, layout.strides, strict=True))
            for names, layout in zip(self.letters, self.layouts, strict=True)
        ]
        return _merged([
            Axis(self.sizes[x], *[steps.get(x, 0) for steps in (*rows, ends)]) for x in letters
        ])  # fmt: skip


def _merged(axes: Sequence[Axis]) -> list[Axis]:
    """Axes of size 1 dropped, neighbours that go on in each other joined."""
    found: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        if found and all(x == y * axis.size for x, y in zip(found[-1][1:], axis[1:], strict=True)):
            axis = Axis(found[-1].size * axis.size, *axis[1:])
            found.pop()
        found.append(axis)
    return found


def _problem(operands: _Operands, ends: dict[str, int], order: str) -> Problem:
    """Letters as axes; those that are summed stand in `order`. Operands are packed if need be."""
    a, b = operands.letters
    size = operands.dtype.itemsize
    both, rows, columns = ("".join(x for x in ends if (x in a, x in b) == k) for k in PLACES)
    summed = "".join(x for x in order if x in a and x in b and x not in ends)
    if any(operands.sizes[x] == 0 for x in summed):
        depth = Axis(0, size, size, 0)
    else:
        for k, mine in enumerate((rows, columns)):
            axes, inner = operands.axes(mine, ends), operands.axes(summed, ends)
            if not _is_walked(k, axes, inner, size):
                operands.pack(k, both + mine + summed)
        depth = _largest(operands.axes(summed, ends), Axis(1, size, size, 0), 0)[0]
    tall, loops = _largest(operands.axes(rows, ends), Axis(1, size, 0, 0), 0)
    wide, more = _largest(operands.axes(columns, ends), Axis(1, 0, size, size), size)
    return Problem([*operands.axes(both, ends), *loops, *more], tall, wide, depth)


def _is_walked(k: int, axes: list[Axis], inner: list[Axis], size: int) -> bool:
    """Whether operand k is read as it lies: one axis along k, most of the others in one, and unit
    stride along one of these."""
    if len(_merged([Axis(x.size, x[1 + k], 0, 0) for x in inner])) > 1:
        return False
    if not axes:
        return True
    chosen = _largest(axes, axes[0], size if k else 0)[0]
    is_unit = not inner or size in (chosen[1 + k], inner[-1][1 + k])
    return is_unit and (len(axes) == 1 or chosen.size >= FEW)


def _largest(axes: list[Axis], otherwise: Axis, unit: int) -> tuple[Axis, list[Axis]]:
    """The axis that the product runs along, that of unit stride in C if there is one; and those
    that are walked like a batch."""
    if not axes:
        return otherwise, []
    chosen = max(axes, key=lambda x: (x.c == unit, x.size))
    return chosen, [x for x in axes if x is not chosen]


def _caches(shape: Shape, machine: Target) -> tuple[int, int, int]:
    """Panels, and columns, that are packed at once; rows of a tile whose panels are kept. Where a
    sliver stays in the first cache the panels fill part of the second, and the columns part of the
    third; else columns part of the second. What is kept lies in the third."""
    second, third = machine.l2_bytes * 3 // 8, machine.l3_bytes // 4 // machine.cores
    panels, share = 1, second
    if shape.keeps_sliver:
        panels, share = max(1, second // shape.panel_bytes), third
    widest = min(2048, share // (BLOCK * shape.itemsize)) // shape.columns * shape.columns
    tallest = max(MOST_PANELS, third // shape.panel_bytes) * shape.rows
    return panels, max(widest, 4 * shape.columns), tallest


def _calls(
    operands: _Operands, problem: Problem, step: int, result: Place, machine: Target
) -> list[Call]:
    """One call; or, where K is long and C small, one for the blocks of K and one to add them."""
    shape = shape_of(operands.dtype, machine)
    unit, long = operands.dtype.itemsize, problem.depth
    is_pair = problem.work == long.size >= 4 * BLOCK
    if is_pair and long.a == long.b == unit:
        return _pair(operands, problem, shape, step, result, machine)
    tiles = _tiles(problem, operands.dtype, shape, machine)
    if tiles.depth >= problem.depth.size:
        return [_call(operands, problem, tiles, shape, operands.dtype, result, 0, step)]
    # The blocks lie one after the other, each in the order of the result.
    wider = shape.itemsize // unit
    batch, rows, columns, depth = problem
    apart = Problem(
        [x._replace(c=x.c * wider) for x in batch], rows._replace(c=rows.c * wider),
        columns._replace(c=columns.c * wider), depth,
    )  # fmt: skip
    size = problem.products * rows.size * columns.size
    blocks, slab = -(-depth.size // tiles.depth), size * shape.itemsize
    memory, made = operands.nests.temporary(blocks * slab), _made(shape)
    call = _call(operands, apart, tiles, shape, made, (memory, 0), slab, step)
    parts = 2 * machine.cores if size > LITTLE else 1
    return [call, _join(operands, made, memory, result, (size, blocks, slab), parts, step)]


def _made(shape: Shape) -> Dtype:
    return dtypes.float64 if shape.itemsize == 8 else dtypes.float32


def _join(
    operands: _Operands, made: Dtype, memory: int, result: Place, sizes: tuple[int, int, int],
    parts: int, step: int,
) -> Call:  # fmt: skip
    """Adds blocks: how many numbers each has, how many there are, bytes from one to the next."""
    share = -(-sizes[0] // parts)
    kernel, count = Join(made, operands.dtype), -(-sizes[0] // share)
    return Call(kernel, ((memory, 0),), (result,), (*sizes, share), count, 0, step)


def _pair(
    operands: _Operands, problem: Problem, shape: Shape, step: int, result: Place, machine: Target
) -> list[Call]:
    """Two vectors: whole blocks of K side by side, and what is left as a row of one column."""
    depth, made, dtype = problem.depth, _made(shape), operands.dtype
    whole, blocks = depth.size // BLOCK, -(-depth.size // BLOCK)
    memory = operands.nests.temporary(blocks * shape.itemsize)
    places = tuple([(x.root, x.offset) for x in operands.layouts])
    parts = 1 if depth.size < 8 * LITTLE else machine.cores
    share = -(-whole // (parts * shape.lanes)) * shape.lanes
    calls = [
        Call(Pair(dtype, made), places, ((memory, 0),), (whole, share), -(-whole // share), 0, step)
    ]
    if blocks > whole:
        rest = depth.size - whole * BLOCK
        size = made.itemsize
        operands.skip(whole * BLOCK * dtype.itemsize)
        last = Problem(
            [], problem.rows, problem.columns._replace(c=size), depth._replace(size=rest)
        )
        tiles = Tiles(1, 1, 1, rest, 1, 1)
        calls.append(_call(operands, last, tiles, shape, made, (memory, whole * size), 0, step))
    sizes = (1, blocks, shape.itemsize)
    return [*calls, _join(operands, made, memory, result, sizes, 1, step)]


def _call(
    operands: _Operands, problem: Problem, tiles: Tiles, shape: Shape, made: Dtype,
    goal: Place, slab: int, step: int,
) -> Call:  # fmt: skip
    """The call that makes C of dtype `made`; a C for each part of K, where there is a slab."""
    dtype, (batch, rows, columns, depth) = operands.dtype, problem
    size, is_row = dtype.itemsize, _is_row(problem, dtype)
    # An operand may be of unit stride along both, or stand still along one.
    along_a = depth.a == size and not (rows.a == size and rows.size > 1)
    along_b = depth.b == size and not (columns.b == size and columns.size > 1)
    has_tail = not shape.has_masks and columns.size % shape.columns != 0
    # Whether is a number, so that there is one way for all sizes.
    packs_a = packs_b = 1
    if size != 2:
        packs_a = _is_large(rows.size * depth.size * size) * reaches(columns.size, 65)
        if not along_b and not has_tail:
            packs_b = _is_large(columns.size * depth.size * size) * reaches(rows.size, 49)
    through = made.itemsize == 2 or columns.c != made.itemsize
    if through:
        tiles = tiles._replace(rows=least(tiles.rows, MOST_PANELS // 2 * shape.rows))
    row_tiles, column_tiles = -(-rows.size // tiles.rows), -(-columns.size // tiles.columns)
    depth_tiles = -(-depth.size // tiles.depth) if slab else 1
    kept = 0
    if is_row:
        slivers = at = scratch = strip_bytes(rows.size, tiles.columns, shape)
    else:
        slivers = (tiles.panels + 1) * shape.panel_bytes  # the last block may be a panel longer
        kept = reaches(tiles.columns, tiles.strip + 1) * tiles.panels * shape.panel_bytes
        slivers += kept * (tiles.rows // (tiles.panels * shape.rows))
        at = slivers + packs_b * -(-tiles.strip // shape.columns) * shape.sliver_bytes
        scratch = at + (tiles.rows * tiles.columns * shape.itemsize if through else 0)
    places = [(x.root, x.offset) for x in operands.layouts]
    is_far = reaches(columns.size * depth.size * size, target().l2_bytes + 1)
    copy = None
    if is_row:
        if along_b and not batch and columns.b == depth.size * size:
            copy = operands.nests.copy(operands.layouts[1], columns.size, depth.size, dtype)
        places.append(places[1] if copy is None else (copy, 0))
    words = {
        "rows": rows.size, "columns": columns.size, "depth": depth.size,
        "a_row": rows.a, "a_depth": depth.a, "b_depth": depth.b, "b_column": columns.b,
        "c_row": rows.c, "c_column": columns.c,
        "tile_rows": tiles.rows, "tile_columns": tiles.columns, "tile_depth": tiles.depth,
        "tile_batch": tiles.batch, "row_tiles": row_tiles, "column_tiles": column_tiles,
        "depth_tiles": depth_tiles, "batch": problem.products, "slab": slab,
        "packs_a": packs_a, "packs_b": packs_b, "along_a": int(along_a),
        "along_b": int(along_b), "copied": int(copy is not None), "far": is_far,
        "block": tiles.panels * shape.rows, "kept": kept, "strip": tiles.strip,
        "slivers": slivers, "through": at if through else 0,
        "axes": len(batch),
    }  # fmt: skip
    table = [words[name] for name in TABLE]
    for axis in reversed(batch):
        table += axis
    count = row_tiles * column_tiles * depth_tiles * -(-problem.products // tiles.batch)
    kernel = Row(dtype, made) if is_row else Product(dtype, made)
    return Call(kernel, tuple(places), (goal,), tuple(table), count, scratch, step)


def _is_large(nbytes: int) -> int:
    return reaches(nbytes, SMALL + 1)


def _is_row(problem: Problem, dtype: Dtype) -> bool:
    """One row; or so few that transposing B in registers, or reading it, is all the work."""
    if problem.rows.size == 1:
        return True
    size, columns, depth = dtype.itemsize, problem.columns, problem.depth
    return problem.rows.size <= FEW_ROWS and depth.b == size != columns.b and columns.size > 1


def _tiles(problem: Problem, dtype: Dtype, shape: Shape, machine: Target) -> Tiles:
    """Tiles for all cores where there is work for more than one, and few, because each packs what
    it needs; where there is much work a few for each core, so that one may fall behind."""
    rows, columns, depth = problem.rows.size, problem.columns.size, problem.depth.size
    count, cores = problem.products, machine.cores
    is_row = _is_row(problem, dtype)
    unit = PIECE * shape.lanes if is_row else shape.columns
    # A few rows are as slow as memory: a step of all takes about as long as sixteen of a block.
    # They are worth a second thread sooner: what is handed over is read from two second caches.
    little = LITTLE * shape.lanes * (rows if is_row else 32)
    work = problem.work if is_row else most(problem.work, LEAST_WORK * count)
    parts = 2 * work // little
    fewest = exact(max(1, 2 * cores if parts > 32 * cores and cores > 1 else min(cores, parts)))
    panels, widest, tallest = _caches(shape, machine)
    blocks = most(1, -(-depth // BLOCK))
    size = rows * columns * count
    whole = count * -(-columns // (STRIP * shape.columns)) * -(-rows // (STRIP * shape.rows))
    few = least(cores * FEW_RESULTS, machine.l3_bytes // 2 // (blocks * shape.itemsize))
    if whole < fewest <= blocks and size <= few:
        wide = _even(columns, LONGEST if is_row else widest, unit)
        return Tiles(1, rows, wide, BLOCK, panels, wide)
    down, across = 1, -(-columns // LONGEST) if is_row else 1
    if count * across < fewest:
        down, across = _grid(problem, shape, fewest, across, cores)
    wide = _even(columns, most(-(-columns // across), unit), unit)
    tall = _even(rows, most(-(-rows // down), shape.rows), shape.rows)
    strip = wide if is_row else _even(wide, widest, shape.columns)
    is_whole = reaches(tall, rows) * reaches(wide, columns)
    is_whole *= most(reaches(strip, wide), reaches(tallest, rows))
    batch = either(is_whole, most(1, count // fewest), 1)
    tall = either(is_whole, rows, _even(tall, tallest, shape.rows))
    return Tiles(batch, tall, either(is_whole, columns, wide), depth, panels, strip)


def _grid(problem: Problem, shape: Shape, fewest: int, first: int, cores: int) -> tuple[int, int]:
    """How many parts rows and columns are cut into: the cheapest way, where packing one element
    takes about as long as a vector's worth of sums, and cores wait for the last tile."""
    rows, columns, depth = problem.rows.size, problem.columns.size, problem.depth.size

    def cost(grid: tuple[int, int]) -> int:
        down, across = grid
        tiles = problem.products * down * across
        waits = -(-tiles // cores) * cores
        packs = problem.products * shape.lanes * depth * (across * rows + down * columns)
        return packs + problem.work * waits // tiles

    first = exact(first)
    found, chosen, price = 0, (1, first), 0
    for across in range(first, first + fewest):
        down = exact(-(-fewest // (across * problem.products)))
        fits, mine = 1 if down == 1 else reaches(rows, down * shape.rows), cost((down, across))
        is_better = fits * either(found, reaches(price, mine + 1), 1)
        chosen = either(is_better, down, chosen[0]), either(is_better, across, chosen[1])
        found, price = most(found, fits), either(is_better, mine, price)
    return chosen


def _even(size: int, widest: int, unit: int) -> int:
    """Parts of at most about `widest`, as many as needed, alike, in whole units."""
    parts = -(-size // widest)
    return -(-size // (parts * unit)) * unit
