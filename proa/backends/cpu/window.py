"""Convolutions: `conv` as patches of a padded operand, and products of these with the kernels.

Patches are no more than a strided view: an example, a group, a channel, a place in the kernel, a
place in the result. They are laid out for a part of the examples at a time, and multiplied while
they are still in the cache. Sums run over channels and then places in the kernel, in the order of
every product (RULES 3.3 a).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Final, NamedTuple, final

from proa.backends.cpu import product
from proa.backends.cpu.joined import Move, move, padded
from proa.backends.cpu.layout import Layout, contiguous
from proa.backends.cpu.target import target
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.size import exact, least, most
from proa.ops.families.window import spread_size

# Letters: n examples, g groups, o and c their channels, then places in the kernel and the result.
KERNEL: Final = "xyz"
PLACES: Final = "pqr"
MOST_BYTES: Final = 64 << 20  # of patches laid out at once
FEW: Final = 256  # places of a result that are too few to be the columns of a product
Steps = dict[str, int]


@final
class Part(NamedTuple):
    """Examples, and places along the first spatial axis: the first, and how many."""

    example: int
    examples: int
    place: int
    places: int


def claims(entry: Entry) -> bool:
    """Real numbers."""
    if entry.primitive.name != "conv" or any(s.is_named for s in entry.ins):
        return False
    return product.can(entry.out.dtype)


def plan(nests: Any, step: int) -> None:
    """Append the calls of one convolution."""
    _Plan(nests, step).calls()


@final
class _Plan:
    """A convolution in letters: sizes, and steps in bytes of patches, kernels and results."""

    def __init__(self, nests: Any, step: int) -> None:
        made = nests.draft.steps[step]
        entry: Entry = made.entry
        self.nests = nests
        self.step = step
        self.dtype: Dtype = entry.out.dtype
        strides, _, _, dilation, groups = entry.params
        count, (out, channels, *kernel) = entry.ins[0].shape[0], entry.ins[1].shape
        places = entry.out.shape[2:]
        self.k, self.p = KERNEL[: len(kernel)], PLACES[: len(kernel)]
        names = "ngoc" + self.k + self.p
        numbers = (count, groups, out // groups, channels, *kernel, *places)
        self.sizes = dict(zip(names, numbers, strict=True))
        # Examples of few places stand side by side, innermost where that makes long rows.
        self.is_shared = prod(places) < FEW
        self.along_kernel = kernel[-1] > places[-1]
        self.is_inner = self.is_shared and not self.along_kernel and prod(kernel) > 1
        self.source, steps = self._source(entry, nests.layout(made.slots[0]))
        along = [s * d for s, d in zip(steps[2:], dilation, strict=True)]
        across = [s * t for s, t in zip(steps[2:], strides, strict=True)]
        self.patches = self._steps("ngc" + self.k + self.p, [
            steps[0], channels * steps[1], steps[1], *along, *across,
        ])  # fmt: skip
        self.kernel = nests.layout(made.slots[1])
        first, *others = self.kernel.strides
        self.weights = [out // groups * first, first, *others]
        self.result = nests.draft.first[step]
        first, second, *others = contiguous(entry.out.shape, self.dtype.itemsize)
        self.goal = self._steps("ngo" + self.p, [first, out // groups * second, second, *others])

    def _steps(self, letters: str, steps: Sequence[int]) -> Steps:
        return dict(zip(letters, steps, strict=True))

    def _source(self, entry: Entry, x: Layout) -> tuple[Layout, tuple[int, ...]]:
        """The operand, in memory of its own if there are zeros between or around its elements, or
        if examples are to be the innermost axis."""
        _, padding, gaps, _, _ = entry.params
        is_turned = self.is_inner and self.sizes["n"] > 1
        is_wider = any(pair != (0, 0) for pair in padding) or any(g > 1 for g in gaps)
        if not is_turned and not is_wider:
            return x, x.strides
        of, size = entry.ins[0].shape, self.dtype.itemsize
        rows = zip(of[2:], padding, gaps, strict=True)
        shape = (*of[:2], *[spread_size(n, g) + sum(pair) for n, pair, g in rows])
        memory = self.nests.temporary(prod(shape) * size)
        strides = contiguous(shape, size)
        if is_turned:
            *others, last = contiguous((*shape[1:], shape[0]), size)
            strides = (last, *others)
        goal = Layout(memory, 0, strides)
        if prod(shape):
            zero = self.nests.indices((0,), (1,)), 0  # eight bytes: a zero of any dtype
            low, high = [(0, 0, *[pair[i] for pair in padding]) for i in (0, 1)]
            params = (low, high, (0, 0, *[g - 1 for g in gaps]))
            padded(self.nests, self.step, x, of, zero, params, goal, shape, size)
        return goal, goal.strides

    # Calls.

    def calls(self) -> None:
        """One product; or several, each with patches and results of its own."""
        width, sizes = self.dtype.itemsize, self.sizes
        self.nests.beside += [Move(width, pattern) for pattern in "ugs"]
        letters = "ngo" + self.p
        depth, places = prod(sizes[x] for x in "c" + self.k), prod(sizes[x] for x in self.p)
        if not depth or not prod(sizes[x] for x in letters) or self._is_plain():
            whole = Part(0, sizes["n"], 0, sizes["p"])
            patches = self.source._replace(strides=tuple(self.patches.values()))
            self._multiply(patches, "".join(self.patches), letters, whole)
            return
        if self.is_shared:
            letters = f"go{self.p}n" if self.is_inner else f"gon{self.p}"
        head, rest = letters.split("o")
        order = head + rest + "c" + self.k if self.along_kernel else head + "c" + self.k + rest
        for part in self._parts(depth * places * sizes["g"] * width):
            shape = tuple([self._sizes(part)[x] for x in order])
            offset = part.example * self.patches["n"] + part.place * self.patches["p"]
            strides = tuple([self.patches[x] for x in order])
            view = self.source._replace(offset=self.source.offset + offset, strides=strides)
            memory = self.nests.packed(view, shape, self.dtype)
            patches = Layout(memory, 0, contiguous(shape, width))
            self._multiply(patches, order, letters, part)

    def _is_plain(self) -> bool:
        """Whether kernels are single places, and what they read is columns as it lies."""
        if prod(self.sizes[x] for x in self.k) > 1 or self.is_shared:
            return False
        wanted = contiguous(tuple([self.sizes[x] for x in self.p]), self.dtype.itemsize)
        return wanted == tuple([self.patches[x] for x in self.p])

    def _sizes(self, part: Part) -> dict[str, int]:
        return self.sizes | {"n": part.examples, "p": part.places}

    def _parts(self, nbytes: int) -> Iterator[Part]:
        """Patches of one example have so many bytes. Examples that are innermost stay together."""
        count, places = self.sizes["n"], self.sizes["p"]
        share_bytes = min(MOST_BYTES, target().l3_bytes // 4)
        rows = share_bytes * places // (count * nbytes) if self.is_inner else 0
        share = count
        if not rows:
            rows, share = places, most(1, share_bytes // nbytes)
            if nbytes > MOST_BYTES:
                rows = most(1, share_bytes * places // nbytes)
        for i, examples in _even(count, share):
            for first, some in _even(places, rows):
                yield Part(i, examples, first, some)

    def _multiply(self, patches: Layout, names: str, letters: str, part: Part) -> None:
        """The product of a part, by way of memory of its own if its results do not lie together."""
        sizes, width = self._sizes(part), self.dtype.itemsize
        shape = [sizes[x] for x in letters]
        steps = [self.goal[x] for x in letters]
        place = (self.result, part.example * self.goal["n"] + part.place * self.goal["p"])
        goal = Layout(*place, tuple(steps))
        is_apart = part.places < self.sizes["p"] or (letters[0] == "g" and part.examples > 1)
        if is_apart:
            memory = self.nests.temporary(prod(shape) * width)
            goal = Layout(memory, 0, contiguous(tuple(shape), width))
        weights = "goc" + self.k
        kernel = self.kernel._replace(strides=tuple(self.weights))
        product.multiply(
            self.nests,
            [(kernel, [sizes[x] for x in weights]), (patches, [sizes[x] for x in names])],
            (weights, names, letters), self.dtype, goal, self.step,
        )  # fmt: skip
        if is_apart:
            move(self.nests, self.step, shape, width, (goal.root, 0), goal.strides, place, steps)


def _even(size: int, longest: int) -> Iterator[tuple[int, int]]:
    """Parts of at most so many, about alike: the first of each, and how many."""
    share = -(-size // -(-size // longest))
    for i in range(exact(-(-size // share))):
        yield i * share, least(share, size - i * share)
