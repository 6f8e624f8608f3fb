"""Strided regions copied tile by tile: `concatenate` and `pad`; and the code that all moves share.

A region is a space of axes with byte strides on both sides. Axes that both sides run through
alike are one; the innermost is walked by the code of its pattern, the others are rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Final, NamedTuple, final

from proa.backends.cpu.kernel import Call
from proa.backends.cpu.layout import Layout, fresh
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.vector import Body, Vector
from proa.graph.entry import Entry
from proa.graph.size import least, most, reaches

GROUP: Final = 4  # vectors that go side by side
TILE_BYTES: Final = 1 << 16
LINE_BYTES: Final = 64
PART_WORDS: Final = 5

# Code.


@final
class Counter:
    """What a loop counts, and what it carries from one round to the next: the body sets `next`,
    and `step` where it is not known before."""

    __slots__ = ("at", "values", "next", "step")

    def __init__(self, at: str, values: list[str], step: str) -> None:
        self.at = at
        self.values = values
        self.next = values
        self.step = step


@final
class Code:
    """The function of a kernel while it is written. `pointers` are its operands and results; words
    of the table are counted from 0."""

    __slots__ = ("body", "block", "pointers", "count")

    def __init__(self, pointers: int, lanes: int) -> None:
        self.body = Body(lanes)
        self.pointers = pointers
        self.count = 0
        self.block = ""
        self.label("entry")

    # Words and addresses.

    def set(self, text: str) -> str:
        return self.body.set(text)

    def word(self, at: int | str) -> str:
        """A word of the table."""
        skipped = 2 * self.pointers
        place = at + skipped if isinstance(at, int) else self.add(at, skipped)
        return self.set(f"load i64, ptr {self.set(f'getelementptr i64, ptr %call, i64 {place}')}")

    def words(self, at: int | str, count: int) -> list[str]:
        return [self.word(self.add(at, i)) for i in range(count)]

    def pointer(self, k: int) -> str:
        """Where operand k lies."""
        number, offset = self.word(2 * (k - self.pointers)), self.word(2 * (k - self.pointers) + 1)
        base = self.set(f"load ptr, ptr {self.set(f'getelementptr ptr, ptr %bases, i64 {number}')}")
        return self.moved(base, offset)

    def moved(self, pointer: str, offset: str | int) -> str:
        return self.set(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def add(self, a: str | int, b: str | int) -> str:
        return self.set(f"add i64 {a}, {b}")

    def sub(self, a: str | int, b: str | int) -> str:
        return self.set(f"sub i64 {a}, {b}")

    def mul(self, a: str | int, b: str | int) -> str:
        return self.set(f"mul i64 {a}, {b}")

    def least(self, a: str | int, b: str | int, kind: str = "smin") -> str:
        self.body.declare(f"llvm.{kind}.i64", "i64", ["i64", "i64"])
        return self.set(f"call i64 @llvm.{kind}.i64(i64 {a}, i64 {b})")

    # Blocks.

    def label(self, name: str) -> None:
        self.body.label(name)
        self.block = name

    def fresh(self) -> str:
        self.count += 1
        return f"b{self.count}"

    @contextmanager
    def loop(
        self, start: str | int, stop: str, step: str | int = 1,
        carried: Sequence[str] = (), type_: str | Sequence[str] = "i64",
    ) -> Iterator[Counter]:  # fmt: skip
        """From start to below stop. After the loop the counter's names hold the last values."""
        body, name, before = self.body, self.fresh(), self.block
        body.line(f"  br label %{name}")
        self.label(name)
        counter = Counter(body.fresh(), [body.fresh() for _ in carried], str(step))
        place = len(body.lines)
        more = self.set(f"icmp slt i64 {counter.at}, {stop}")
        body.line(f"  br i1 {more}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        yield counter
        following = [self.add(counter.at, counter.step), *counter.next]
        body.line(f"  br label %{name}")
        names, firsts = [counter.at, *counter.values], [start, *carried]
        types = ["i64", *([type_] * len(carried) if isinstance(type_, str) else type_)]
        body.lines[place:place] = [
            f"  {v} = phi {t} [ {first}, %{before} ], [ {after}, %{self.block} ]"
            for v, t, first, after in zip(names, types, firsts, following, strict=True)
        ]
        self.label(f"{name}.end")

    @contextmanager
    def strided(
        self, first: str | int, last: str, pointers: Sequence[str], steps: Sequence[str]
    ) -> Iterator[list[str]]:
        """Positions from first to below last: where each pointer stands, with its own step."""
        pairs = list(zip(pointers, steps, strict=True))
        starts = [self.moved(p, self.mul(first, s)) for p, s in pairs]
        with self.loop(first, last, carried=starts, type_="ptr") as i:
            yield i.values
            i.next = [self.moved(p, s) for p, s in zip(i.values, steps, strict=True)]

    @contextmanager
    def when(self, condition: str, holds: bool = True) -> Iterator[None]:
        """A part that runs where a condition holds, or where it does not."""
        name = self.fresh()
        ways = f"label %{name}, label %{name}.end"
        if not holds:
            ways = f"label %{name}.end, label %{name}"
        self.body.line(f"  br i1 {condition}, {ways}")
        self.label(name)
        yield
        self.body.line(f"  br label %{name}.end")
        self.label(f"{name}.end")

    @contextmanager
    def walk(
        self, at: int | str, pointers: int, first: str | int, last: str
    ) -> Iterator[list[str]]:
        """Rows from first to below last: the byte offset of each pointer. The words at `at` are
        the number of axes, then for each from the inside its size and strides (`rows_table`).
        A row's place is worked out once for each run along the innermost axis."""
        axes, table = self.word(at), self.add(at, 1)
        size, *steps = self.words(table, 1 + pointers)
        with self.loop(first, last) as run:
            inner = self.set(f"urem i64 {run.at}, {size}")
            starts = [run.at, *["0"] * pointers]
            with self.loop(0, axes, carried=starts) as axis:
                left, *offsets = axis.values
                place = self.add(self.mul(axis.at, 1 + pointers), table)
                extent, *strides = self.words(place, 1 + pointers)
                digit = self.set(f"urem i64 {left}, {extent}")
                axis.next = [self.set(f"udiv i64 {left}, {extent}")]
                for offset, stride in zip(offsets, strides, strict=True):
                    axis.next.append(self.add(offset, self.mul(digit, stride)))
            rows = self.least(self.sub(size, inner), self.sub(last, run.at))
            with self.loop(0, rows, carried=axis.values[1:]) as row:
                yield row.values
                row.next = [self.add(o, s) for o, s in zip(row.values, steps, strict=True)]
            run.step = rows

    def part(self, at: int, tile: str = "%tile") -> tuple[str, str, str, str]:
        """First and last row, first and last element of a tile, by the words of `parted`."""
        rows, height, size, width, across = self.words(at, PART_WORDS)
        row = self.mul(self.set(f"udiv i64 {tile}, {across}"), height)
        column = self.mul(self.set(f"urem i64 {tile}, {across}"), width)
        last = self.least(self.add(row, height), rows)
        return row, last, column, self.least(self.add(column, width), size)

    # Elements.

    def along(
        self, first: str | int, last: str, each: Callable[[list[str]], None], group: int = GROUP
    ) -> None:
        """`each` with the positions of a group of vectors, then of single vectors, then of single
        elements: vectors of one lane."""
        body, lanes = self.body, self.body.lanes
        at: str | int = first
        for count in dict.fromkeys((group, 1)):
            with self.loop(at, self.sub(last, count * lanes - 1), count * lanes) as one:
                each([one.at, *[self.add(one.at, u * lanes) for u in range(1, count)]])
            at = one.at
        body.lanes = 1
        with self.loop(at, last) as one:
            each([one.at])
        body.lanes = lanes

    def load(
        self, type_: str, pointer: str, positions: Sequence[str], align: int, signed: bool = True
    ) -> Vector:
        """Vectors at positions counted in elements."""
        body, names = self.body, []
        for position in positions:
            at = self.set(f"getelementptr {type_}, ptr {pointer}, i64 {position}")
            names.append(self.set(f"load {body.wide(type_)}, ptr {at}, align {align}"))
        return Vector(body, type_, names, signed)

    def store(
        self, value: Vector, pointer: str, positions: Sequence[str], align: int, tail: str = ""
    ) -> None:
        names = value.names * (len(positions) if len(value.names) == 1 else 1)
        for name, position in zip(names, positions, strict=True):
            at = self.set(f"getelementptr {value.type}, ptr {pointer}, i64 {position}")
            self.body.line(f"  store {value.wide} {name}, ptr {at}, align {align}{tail}")

    def spread(self, type_: str, one: str) -> Vector:
        """A number in all lanes."""
        wide, body = self.body.wide(type_), self.body
        first = self.set(f"insertelement {wide} poison, {type_} {one}, i32 0")
        mask = f"{body.wide('i32')} zeroinitializer"
        name = self.set(f"shufflevector {wide} {first}, {wide} poison, {mask}")
        return Vector(body, type_, [name])

    def copy(self, pattern: str, width: int, goal: str, source: str, first: str, last: str,
             steps: Sequence[str]) -> None:  # fmt: skip
        """Elements of one row: `u` unit strides on both sides, `s` one element repeated, `g` any
        strides, which are (source, goal)."""
        type_ = f"i{8 * width}"
        if pattern == "u":
            self.along(first, last, lambda positions: self.store(
                self.load(type_, source, positions, width), goal, positions, width
            ))  # fmt: skip
        elif pattern == "s":
            one = self.set(f"load {type_}, ptr {source}, align {width}")
            self.fill(type_, one, goal, first, last)
        else:
            with self.strided(first, last, (source, goal), steps) as (at, to):
                one = self.set(f"load {type_}, ptr {at}, align {width}")
                self.body.line(f"  store {type_} {one}, ptr {to}, align {width}")

    def fill(self, type_: str, one: str, goal: str, first: str, last: str) -> None:
        """One element all along a row of unit stride."""
        width = int(type_[1:]) // 8
        self.along(first, last, lambda positions: self.store(
            self.spread(type_, one), goal, positions, width
        ))  # fmt: skip

    def module(self, name: str, machine: Target) -> str:
        arguments = "ptr %call, ptr %bases, i64 %tile, ptr %scratch"
        return "\n".join([
            f'target triple = "{machine.triple}"', f"define void @{name}({arguments}) nounwind {{",
            *self.body.lines, "  ret void", "}", *self.body.declared.values(), "!0 = !{i32 1}",
        ])  # fmt: skip


# Tables.


class Axis(NamedTuple):
    """Its size, and the byte stride of each pointer along it."""

    size: int
    strides: tuple[int, ...]


def spaced(shape: Sequence[int], *strides: Sequence[int]) -> list[Axis]:
    """The axes of a space from the inside; those that every pointer runs through alike are one."""
    found: list[Axis] = []
    for n, *steps in reversed(list(zip(shape, *strides, strict=True))):
        if n == 1:
            continue
        if found and all(
            s == t * found[-1].size for s, t in zip(steps, found[-1].strides, strict=True)
        ):
            found[-1] = Axis(n * found[-1].size, found[-1].strides)
        else:
            found.append(Axis(n, tuple(steps)))
    return found


def rows_table(axes: Sequence[Axis], pointers: int) -> list[int]:
    """The words that `Code.walk` reads."""
    axes = axes or [Axis(1, (0,) * pointers)]
    return [len(axes), *[w for axis in axes for w in (axis.size, *axis.strides)]]


def parted(
    rows: int, size: int, width: int, bytes_: int = TILE_BYTES, across: int = 0
) -> tuple[tuple[int, ...], int]:
    """Rows of `size` elements as tiles of about so many bytes, `across` elements wide where there
    are rows enough: the words that `Code.part` reads, and how many tiles there are."""
    share = most(1, bytes_ // width)
    columns = most(1, least(size, most(across, share // most(1, rows)) if across else share))
    height = most(1, least(rows, share // columns))
    count = -(-size // columns)
    return (rows, height, size, columns, count), -(-rows // height) * count


def strides_of(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Of memory in C order."""
    return tuple([itemsize * prod(shape[i + 1 :]) for i in range(len(shape))])


# Moves.


@final
class Move(NamedTuple):
    """Copies a region: `u`, `s` or `g` along its rows. With `starts`, numbers of int64 move the
    region's place on one side: each is clamped and counts in strides of its own."""

    width: int
    pattern: str
    starts: int = 0
    moves_goal: bool = False

    @property
    def key(self) -> str:
        side = "goal" if self.moves_goal else "source"
        return f"move {self.width} {self.pattern}" + (f" {side} {self.starts}" * (self.starts > 0))

    def ir(self, name: str, machine: Target) -> str:
        """Words: part, step of source and goal, whether the result passes the caches by, for each
        start the most it may be and its stride, rows."""
        count = 1 + self.starts
        code = Code(1 + count, max(2, machine.vector_bytes // self.width))
        source, goal = code.pointer(0), code.pointer(count)
        at = PART_WORDS
        steps, stream = code.words(at, 2), code.word(at + 2)
        at += 3
        for k in range(1, count):
            most, stride = code.words(at, 2)
            start = code.set(f"load i64, ptr {code.pointer(k)}, align 8")
            start = code.least(code.least(start, 0, "smax"), most)
            offset = code.mul(start, stride)
            if self.moves_goal:
                goal = code.moved(goal, offset)
            else:
                source = code.moved(source, offset)
            at += 2
        first, last, left, right = code.part(0)
        with code.walk(at, 2, first, last) as offsets:
            from_, to = code.moved(source, offsets[0]), code.moved(goal, offsets[1])
            if self.pattern == "g":
                code.copy("g", self.width, to, from_, left, right, steps)
            else:
                self._rows(code, machine, stream, to, from_, left, right)
        return code.module(name, machine)

    def _rows(
        self, code: Code, machine: Target, stream: str, to: str, from_: str, left: str, right: str
    ) -> None:
        """Whole vectors past the caches where that is asked for, and what is left as ever. Stores
        that pass the caches by are aligned, and in order before the tile is done."""
        past = code.set(f"icmp ne i64 {stream}, 0")
        vector = machine.vector_bytes
        address = code.set(f"ptrtoint ptr {to} to i64")
        address = code.add(address, code.mul(left, self.width))
        missing = code.set(f"and i64 {code.sub(0, address)}, {vector - 1}")
        head = code.least(code.add(left, code.set(f"udiv i64 {missing}, {self.width}")), right)
        head = code.set(f"select i1 {past}, i64 {head}, i64 {left}")
        end = code.set(f"select i1 {past}, i64 {right}, i64 {left}")
        code.copy(self.pattern, self.width, to, from_, left, head, ())
        lanes, type_ = code.body.lanes, f"i{8 * self.width}"
        with code.loop(head, code.sub(end, GROUP * lanes - 1), GROUP * lanes) as i:
            positions = [i.at, *[code.add(i.at, u * lanes) for u in range(1, GROUP)]]
            if self.pattern == "u":
                value = code.load(type_, from_, positions, self.width)
            else:
                one = code.set(f"load {type_}, ptr {from_}, align {self.width}")
                value = code.spread(type_, one)
            code.store(value, to, positions, vector, ", !nontemporal !0")
        code.copy(self.pattern, self.width, to, from_, i.at, right, ())
        if machine.is_x86:
            code.body.declare("llvm.x86.sse.sfence", "void", [])
            with code.when(past):
                code.body.line("  call void @llvm.x86.sse.sfence()")


Place = tuple[int, int]  # memory, byte offset


def move(
    nests: Any, step: int, shape: Sequence[int], width: int,
    source: Place, from_: Sequence[int], goal: Place, to: Sequence[int],
    starts: Sequence[tuple[Place, int, int]] = (), moves_goal: bool = False,
) -> None:  # fmt: skip
    """Appends the copy of a region of this shape. `starts` are (where, the most, stride)."""
    axes = spaced(shape, from_, to)
    if width == 16:
        axes = spaced([*shape, 2], [*from_, 8], [*to, 8])
        width = 8
    axes = axes or [Axis(1, (width, width))]
    axes.sort(key=lambda a: abs(a.strides[1]))
    pattern, across = "g", 0
    if axes[0].strides == (width, width):
        pattern = "u"
    elif axes[0].strides == (0, width):
        pattern = "s"
    if len(axes) > 1 and axes[0].size < 8 and axes[1].size > axes[0].size:
        axes[:2] = axes[1::-1]  # many short rows: walked across
        pattern = "g"
    if pattern == "g" and len(axes) > 1:
        # Where the source runs across the rows, a tile is a band of lines of both.
        best = min(range(1, len(axes)), key=lambda i: abs(axes[i].strides[0]) or 1 << 62)
        if 0 < abs(axes[best].strides[0]) < abs(axes[0].strides[0]):
            axes.insert(1, axes.pop(best))
            across = LINE_BYTES // width
    inner, rows = axes[0], axes[1:]
    part, tiles = parted(prod(a.size for a in rows), inner.size, width, across=across)
    past = reaches(prod(shape) * width, target().l3_bytes // 2)
    table = [*part, *inner.strides, past]
    for _, last, stride in starts:
        table += [last, stride]
    table += rows_table(rows, 2)
    kernel = Move(width, pattern, len(starts), moves_goal)
    operands = (source, *[place for place, _, _ in starts])
    tiles = tiles if prod(shape) else 0
    nests.actions.append(Call(kernel, operands, (goal,), tuple(table), tiles, 0, step))


def _concatenate(nests: Any, step: int) -> None:
    draft = nests.draft
    entry, result = draft.steps[step].entry, draft.first[step]
    (axis,) = entry.params
    width = entry.out.dtype.itemsize
    to = strides_of(entry.out.shape, width)
    offset = 0
    for slot, of in zip(draft.steps[step].slots, entry.ins, strict=True):
        layout = nests.layout(slot)
        place = (layout.root, layout.offset)
        if of.size or not entry.out.size:
            move(nests, step, of.shape, width, place, layout.strides, (result, offset), to)
        offset += of.shape[axis] * to[axis]


def _pad(nests: Any, step: int) -> None:
    entry, slots = nests.draft.steps[step].entry, nests.draft.steps[step].slots
    x, value = [nests.layout(s) for s in slots]
    goal, of, out = fresh(nests.draft.first[step], entry.out), entry.ins[0].shape, entry.out
    place, width = (value.root, value.offset), out.dtype.itemsize
    padded(nests, step, x, of, place, entry.params, goal, out.shape, width)


def padded(
    nests: Any, step: int, x: Layout, of: Sequence[int], value: Place, params: Sequence[Any],
    goal: Layout, shape: Sequence[int], width: int,
) -> None:  # fmt: skip
    """The frame, then what is inside; where elements are spread, the value everywhere first."""
    result, to, still = goal.root, goal.strides, (0,) * len(shape)
    inside = [_kept(n, *row) for n, *row in zip(of, shape, *params, strict=True)]
    kept = tuple([last - first for first, last, _, _ in inside])

    def fill(starts: Sequence[int], sizes: Sequence[int]) -> None:
        offset = sum(a * s for a, s in zip(starts, to, strict=True))
        move(nests, step, sizes, width, value, still, (result, offset), to)

    spread = any(gap > 1 and n > 1 for n, (_, _, _, gap) in zip(kept, inside, strict=True))
    if spread or not prod(kept):
        fill((0,) * len(shape), shape)
    else:
        begin, sizes = [0] * len(shape), list(shape)
        for axis, (n, (_, _, start, _)) in enumerate(zip(kept, inside, strict=True)):
            for first, count in ((0, start), (start + n, shape[axis] - start - n)):
                if count:
                    fill([*begin[:axis], first, *begin[axis + 1 :]],
                         [*sizes[:axis], count, *sizes[axis + 1 :]])  # fmt: skip
            begin[axis], sizes[axis] = start, n
    if not prod(kept):
        return
    place = x.offset + sum(row[0] * s for row, s in zip(inside, x.strides, strict=True))
    offset = sum(row[2] * s for row, s in zip(inside, to, strict=True))
    steps = [row[3] * s for row, s in zip(inside, to, strict=True)]
    move(nests, step, kept, width, (x.root, place), x.strides, (result, offset), steps)


def _kept(n: int, size: int, low: int, high: int, interior: int) -> tuple[int, int, int, int]:
    """Of an axis: the first element that lands inside, the last, where, and how far apart."""
    gap = interior + 1
    first = max(0, -(low // gap)) if low < 0 else 0
    last = min(n, max(first, -(-(size - low) // gap)))
    first = min(first, last)
    return first, last, low + first * gap if last > first else 0, gap


def claims(entry: Entry) -> bool:
    """Any dtype: elements are moved by their width."""
    return entry.primitive.name in _PLANS and not any(s.is_named for s in entry.ins)


def plan(nests: Any, step: int) -> None:
    _PLANS[nests.draft.steps[step].entry.primitive.name](nests, step)


_PLANS: Final[dict[str, Callable[[Any, int], None]]] = {"concatenate": _concatenate, "pad": _pad}
