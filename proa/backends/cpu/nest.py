"""Loop nests: units become kernels, described by structure, and the sizes for each call.

A `Kernel` says nothing of sizes. It knows for each operand how it runs along the innermost axis:
`u` unit stride, `s` standing still, `g` any stride. What it is called with, sizes and strides, is
a `Call`. Adjacent axes that every operand runs through alike are one.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, final

from proa.backends.cpu.fuse import Draft, Unit, operand_maps
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.spec import Spec


class Layout(NamedTuple):
    """Where the elements of a slot lie: in the memory of slot `root`, bytes."""

    root: int
    offset: int
    strides: tuple[int, ...]


@final
class Kernel:
    """Operands (dtype, pattern), nodes (entry, operands), results. Operand i is i; node j stands
    behind them. Equal by `key`, which sizes are no part of."""

    __slots__ = ("operands", "nodes", "results", "key")

    def __init__(
        self, operands: tuple[tuple[Dtype, str], ...],
        nodes: tuple[tuple[Entry, tuple[int, ...]], ...], results: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.operands = operands
        self.nodes = nodes
        self.results = results
        self.key = self._text()

    def _text(self) -> str:
        lines = [f"{d.name} {p}" for d, p in self.operands]
        for entry, sources in self.nodes:
            ins = " ".join(f"{s}:{i.dtype.name}" for s, i in zip(sources, entry.ins, strict=True))
            lines.append(f"{entry.primitive.name} {ins} -> {entry.outs[0].dtype.name}")
        return "\n".join([*lines, "results " + " ".join(map(str, self.results))])

    def dtype(self, number: int) -> Dtype:
        count = len(self.operands)
        return (
            self.operands[number][0]
            if number < count
            else self.nodes[number - count][0].outs[0].dtype
        )


class Call(NamedTuple):
    """A kernel, the table of sizes and strides, operands (slot of the memory, offset), results."""

    kernel: Kernel
    table: tuple[int, ...]
    operands: tuple[tuple[int, int], ...]
    results: tuple[int, ...]
    step: int
    is_empty: bool


class Host(NamedTuple):
    """A call of the prepared NumPy kernel of one step."""

    entry: Entry
    operands: tuple[int, ...]
    results: tuple[int, ...]
    step: int


class Copy(NamedTuple):
    """A view laid out in order, where a reshape needs it so."""

    source: int
    result: int
    step: int


@final
class Nests:
    """The actions of a Program in order, and the layout of every slot."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.actions: list[Any] = []
        self.layouts: dict[int, Layout] = {}

    def layout(self, slot: int) -> Layout:
        """Of a view: worked out from its operand's when first asked for."""
        found = self.layouts.get(slot)
        if found is None:
            found = self.layouts[slot] = self._find(slot)
        return found

    def _find(self, slot: int) -> Layout:
        maker = self.draft.maker[slot]
        if maker is None or not self.draft.is_view(maker):
            return fresh(slot, self.draft.specs[slot])
        step = self.draft.steps[maker]
        found = viewed(step.entry, self.layout(step.slots[0]))
        return fresh(slot, self.draft.specs[slot]) if found is None else found

    def show(self) -> str:
        lines = []
        for action in self.actions:
            if type(action) is Call:
                text = action.kernel.key.replace("\n", "; ")
                lines.append(f"kernel [{text}] table {action.table} -> {action.results}")
            else:
                lines.append(f"{type(action).__name__.lower()} {action[0]} -> {action[2]}")
        return "\n".join(lines)


def fresh(slot: int, of: Spec) -> Layout:
    return Layout(slot, 0, contiguous(of.shape, of.dtype.itemsize))


def contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def is_contiguous(layout: Layout, of: Spec) -> bool:
    rows = zip(of.shape, layout.strides, contiguous(of.shape, of.dtype.itemsize), strict=True)
    return of.size == 0 or all(n == 1 or a == b for n, a, b in rows)


def viewed(entry: Entry, of: Layout) -> Layout | None:
    """The layout of a view's result; None where the elements must be laid out anew."""
    source, goal = entry.ins[0], entry.outs[0]
    root, offset, strides = of
    name, params = entry.primitive.name, entry.params
    if name == "permute":
        return Layout(root, offset, tuple([strides[a] for a in params[0]]))
    if name == "broadcast":
        found = [0] * goal.ndim
        for i, a in enumerate(params[1]):
            found[a] = strides[i] if source.shape[i] == goal.shape[a] else 0
        return Layout(root, offset, tuple(found))
    if name == "slice":
        starts, _, steps = params
        offset += sum(a * s for a, s in zip(starts, strides, strict=True)) if goal.size else 0
        return Layout(root, offset, tuple([a * s for a, s in zip(steps, strides, strict=True)]))
    if name == "flip":
        turned = list(strides)
        for a in params[0]:
            offset += max(source.shape[a] - 1, 0) * strides[a] if goal.size else 0
            turned[a] = -strides[a]
        return Layout(root, offset, tuple(turned))
    if is_contiguous(of, source):
        return Layout(root, offset, contiguous(goal.shape, goal.dtype.itemsize))
    rows = zip(source.shape, strides, strict=True)
    long = [(n, s) for n, s in rows if n != 1]
    if [n for n, _ in long] != [n for n in goal.shape if n != 1]:
        return None
    rest = iter(long)
    return Layout(root, offset, tuple([next(rest)[1] if n != 1 else 0 for n in goal.shape]))


def nest(draft: Draft) -> Nests:
    """Every unit as a call of a kernel, a host call, or nothing but a layout."""
    nests = Nests(draft)
    for number, first in enumerate(draft.first):
        if draft.is_view(number):
            nests.layout(first)  # in order, so that nothing is recursive in the depth of a graph
    for unit in draft.order:
        step = unit.steps[0]
        entry, slots, first = draft.entry(step), draft.steps[step].slots, draft.first[step]
        if unit.shape is not None:
            nests.actions.append(_call(nests, unit))
        elif not draft.is_view(step):
            outs = tuple(range(first, first + len(entry.outs)))
            nests.actions.append(Host(entry, slots, outs, step))
        elif nests.layout(first).root == first:
            nests.actions.append(Copy(slots[0], first, step))
    return nests


def _call(nests: Nests, unit: Unit) -> Call:
    draft = nests.draft
    shape: Any = unit.shape
    numbers: dict[Any, int] = {}  # (slot, map) of an operand -> its number
    strides: list[list[int]] = []
    moves: list[bool] = []  # of each operand: whether it would move along a last axis
    where: list[tuple[int, int]] = []
    nodes: list[tuple[Entry, list[Any]]] = []
    for step in unit.steps:
        mine = unit.members[draft.first[step]]
        sources: list[Any] = []
        for slot, along in zip(draft.steps[step].slots, operand_maps(draft, step), strict=True):
            source, inner = draft.origins[slot]
            if source in unit.members:
                sources.append(("node", source))
                continue
            through = [
                inner[along[a]] if a is not None and along[a] is not None else None for a in mine
            ]
            key = (source, tuple(through))
            if key not in numbers:
                numbers[key] = len(numbers)
                layout, of = nests.layout(source), draft.specs[source]
                where.append((layout.root, layout.offset))
                strides.append([
                    layout.strides[a] if a is not None and of.shape[a] != 1 else 0 for a in through
                ])  # fmt: skip
                moves.append(not through or through[-1] is not None)
            sources.append(("operand", numbers[key]))
        nodes.append((draft.entry(step), sources))
    made = {draft.first[s]: len(numbers) + i for i, s in enumerate(unit.steps)}
    results = [s for s in unit.members if draft.is_shared(unit, s)]
    dtypes = [draft.specs[source].dtype for source, _ in numbers]
    widths = [d.itemsize for d in dtypes] + [draft.specs[s].dtype.itemsize for s in results]
    strides += [list(contiguous(shape, w)) for w in widths[len(dtypes) :]]
    table, patterns = _collapsed(
        shape,
        strides,
        [w if m else 0 for w, m in zip(widths, [*moves, *[True] * len(results)], strict=True)],
        widths,
    )
    operands = tuple(zip(dtypes, patterns, strict=False))
    plain = [
        (entry, tuple([made[s] if kind == "node" else s for kind, s in sources]))
        for entry, sources in nodes
    ]
    kernel = Kernel(operands, tuple(plain), tuple([made[s] for s in results]))
    return Call(kernel, table, tuple(where), tuple(results), unit.steps[-1], prod(shape) == 0)


def _collapsed(
    shape: tuple[int, ...], strides: list[list[int]], alone: list[int], widths: list[int]
) -> tuple[tuple[int, ...], list[str]]:
    """The table of a call, (outer axes, inner size, inner strides, then for each outer axis from
    the inside its size and strides), and the pattern of each operand. `alone` are the strides that
    a single element is called with, so that its kernel is that of many."""
    axes = [(n, [s[i] for s in strides]) for i, n in enumerate(shape) if n != 1]
    merged: list[tuple[int, list[int]]] = []
    for n, steps in reversed(axes):
        if merged and all(
            s == t * merged[-1][0] for s, t in zip(steps, merged[-1][1], strict=True)
        ):
            merged[-1] = (n * merged[-1][0], merged[-1][1])
        else:
            merged.append((n, steps))
    if not merged:
        merged = [(1, alone)]
    size, steps = merged[0]
    patterns = [{w: "u", 0: "s"}.get(s, "g") for s, w in zip(steps, widths, strict=True)]
    table = [len(merged) - 1, size, *steps]
    for n, outer in merged[1:]:
        table += [n, *outer]
    return tuple(table), patterns
