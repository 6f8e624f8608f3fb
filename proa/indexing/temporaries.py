"""Writes that would be lost, told by reference counts and by what a value was made from.

`f()[0] = v` changes a tensor that nothing but the expression itself holds: an error. `y = x[0];
y += 1` leaves x alone: a warning, once at the line.
"""

from __future__ import annotations

import warnings
from dis import opmap
from functools import cache
from sys import _getframe, getrefcount
from typing import Any, Final, NamedTuple

from proa.dtypes import int64
from proa.errors import ArgumentError, message
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.record.live import caller


class Probe:
    """Stands for a tensor when reference counts are learned: its methods are entered alike."""

    def __init__(self) -> None:
        self.kept: Any = None

    def __setitem__(self, seen: list[int], new: Any) -> None:
        count = getrefcount(self)
        seen.append(count)

    def __iadd__(self, seen: list[int]) -> Any:
        count = getrefcount(self)
        seen.append(count)
        return self

    def change_(self, seen: list[int]) -> Any:
        count = getrefcount(self)
        seen.append(count)
        return self


class Counts(NamedTuple):
    """References that a method sees to its tensor where only the expression holds it; 0 where
    that cannot be told from a tensor that somebody holds."""

    setitem: int
    in_place: int
    method: int


_held: Any = None


@cache
def counts_of_temporary() -> Counts:
    """Learned from probes when first asked, for versions of Python differ."""
    global _held
    made: tuple[list[int], ...] = ([], [], [])
    held: tuple[list[int], ...] = ([], [], [])
    Probe()[made[0]] = 1
    box = [Probe()]
    made[1].append(_count_in_place(Probe()))
    Probe().change_(made[2])
    name = Probe()
    name.kept = Probe()
    _held = Probe()
    for each in box:
        each[held[0]] = 1
        each += held[1]
        each.change_(held[2])
    name[held[0]] = box[0][held[0]] = name.kept[held[0]] = _held[held[0]] = 1
    name += held[1]
    box[0] += held[1]
    name.kept += held[1]
    _held += held[1]
    _ = name.change_(held[2]), box[0].change_(held[2])
    _ = name.kept.change_(held[2]), _held.change_(held[2])
    _held = None
    return Counts(*[m[0] if m[0] < min(h) else 0 for m, h in zip(made, held, strict=True)])


class _Made:
    """`_Made()[0] += ...` changes a temporary in place, as `x[0:2] += 1` does."""

    def __getitem__(self, index: Any) -> Any:
        return Probe()

    def __setitem__(self, index: Any, new: Any) -> None:
        """Nothing is kept."""


def _count_in_place(probe: Any) -> int:
    seen: list[int] = []
    box = _Made()
    box[0] += seen
    return seen[0]


def is_stored_by_caller(depth: int) -> bool:
    """Whether the caller's instruction is `...[...] = v`, and not a call of the method by name."""
    frame = _getframe(depth)
    return frame.f_code.co_code[frame.f_lasti] in _STORES


_STORES: Final = frozenset(opmap[n] for n in ("STORE_SUBSCR", "STORE_SLICE") if n in opmap)


def refuse_temporary(x: Any, count: int) -> None:
    """`f()[0] = v` and `x[i][j] = v` change a tensor that nobody can read afterwards.

    Called by `Tensor.__setitem__` with the references that it sees.
    """
    if count <= counts_of_temporary().setitem and is_stored_by_caller(3):
        given = "a tensor that only this expression holds"
        hint = "x[i, j] = v for x[i][j] = v, or a name for it"
        raise ArgumentError(message("setitem", given, "one that can be read afterwards", hint))


def _trace(x: Any) -> tuple[bool, Value | None]:
    """Whether x was just made, by movements alone, from a value that somebody else still holds; and
    the value of the last of these that is a part or a permutation."""
    value, view = x.value, None
    while value.node is not None and value.node.entry.primitive.name in _MOVES:
        node = value.node
        if node.entry.primitive.name == "reshape" and node.entry.out is node.entry.ins[0]:
            break
        if node.entry.primitive.name in _PARTS:
            view = value
        if _references(node.inputs) > _ALONE:
            return True, view
        value = node.inputs[0]
    return False, view


def _references(inputs: tuple[Any, ...]) -> int:
    return getrefcount(inputs[0])


_PARTS: Final = frozenset({"dynamic_slice", "slice", "permute"})


_MOVES: Final = _PARTS | {"reshape", "flip", "broadcast"}


_ALONE: Final = _references((Value(None, 0, spec((), int64)),))


def is_part(x: Any) -> bool:
    """Whether x is a part or another view of a tensor that somebody still holds."""
    return _trace(x)[0]


def warn_if_part(x: Any) -> None:
    """`y = x[0]; y += 1` leaves x alone, which is said once at the line."""
    held, view = _trace(x)
    where = caller(1)
    if not held or view is None or where in _WARNED:
        return
    _WARNED.add(where)
    warnings.warn(
        "[in place] given a part or another view of a tensor, which is a value of its own here; "
        "the tensor it was taken from keeps its value, try x[i] += ...",
        UserWarning,
        stacklevel=3,
    )


_WARNED: Final[set[Any]] = set()
