"""Where elements lie: strided views of memory, and how views of views are worked out."""

from __future__ import annotations

from typing import NamedTuple

from proa.graph.entry import Entry
from proa.graph.spec import Spec


class Layout(NamedTuple):
    """Where the elements of a slot lie: in the memory of slot `root`, bytes."""

    root: int
    offset: int
    strides: tuple[int, ...]


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
    if name == "keep":
        return of
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
