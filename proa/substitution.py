"""Other tensors in the place of a module's own, for the length of one call.

Transforms see a module as the dict of its tensors by name. They trace or differentiate with
tensors of their own, and while the function runs these stand in the module's tables. What is put
there is a handle of its own on the given value: an assignment to it never reaches the giver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple, final

from proa import tree
from proa.errors import ArgumentError, message
from proa.record.live import CAPTURE, epoch, thread
from proa.tensor import Tensor


class Place(NamedTuple):
    """Where a module holds a parameter or buffer: `table[key]`; `path` is its whole name."""

    path: str
    table: dict[str, Any]
    key: str
    is_buffer: bool


class Holder:
    """What holds tensors by name: a module. Abstract."""

    __slots__ = ()

    def places(self) -> Iterator[Place]:
        """Every place that holds a tensor, names of tied and shared ones included."""
        raise NotImplementedError


@final
class Substitution:
    """`with Substitution(...)`: the holder's tensors whose `id` is in `given` are replaced, under
    all of their names. While the block runs no other thread may use the holder."""

    __slots__ = ("name", "rows", "changed", "hint")

    def __init__(self, name: str, holder: Holder, given: Mapping[int, Any], hint: str = "") -> None:
        self.name = name
        self.hint = hint
        self.changed: dict[str, tuple[Place, Any]] = {}
        made = {key: _stand_in(t) for key, t in given.items()}
        places = {(id(p.table), p.key): p for p in reversed([*holder.places()])}
        rows = [(p, p.table[p.key]) for p in reversed(places.values())]
        self.rows: Final = [
            (p, old, (new := made[id(old)]), new.value) for p, old in rows if id(old) in made
        ]

    def __enter__(self) -> Substitution:
        for place, _, new, _ in self.rows:
            place.table[place.key] = new
        _notice()
        return self

    def __exit__(self, *error: object) -> None:
        for place, old, new, first in self.rows:
            now = place.table.get(place.key)
            place.table[place.key] = old
            if now is not new or new.value is not first:
                self.changed[place.path] = (place, now)
            _forget(new)
        _notice()

    def refuse_changes(self) -> None:
        """An error if the call assigned to what stood in a place: nobody would see it."""
        for path, (place, _) in self.changed.items():
            kind = "buffer" if place.is_buffer else "parameter"
            given = f"an assignment to the substituted {kind} `{path}`"
            raise ArgumentError(message(self.name, given, "a call that makes none", self.hint))


def _stand_in(tensor: Tensor) -> Tensor:
    """A handle of its own on the same value; a recording knows whose value it is."""
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.saw(tensor)
    return Tensor(tensor.value)


def _forget(stand_in: Tensor) -> None:
    """A recording need not restore it."""
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.before.pop(id(stand_in), None)


def _notice() -> None:
    """Functions that are jitted by themselves see other tensors now. (A recording runs them as
    they stand.)"""
    if not thread.state.mode & CAPTURE:
        epoch.advance()


def floats_of(holder: Holder) -> dict[str, Any]:
    """Float parameters by name, a tied one once: what is differentiated."""
    found = named(holder, buffers=False)
    return {name: t for name, t in found.items() if t.dtype.is_inexact}


def named(holder: Holder, buffers: bool = True) -> dict[str, Any]:
    """Parameters and buffers by name, a tied one once, under its first name."""
    first: dict[int, tuple[str, Any]] = {}
    for place in holder.places():
        if buffers or not place.is_buffer:
            tensor = place.table[place.key]
            first.setdefault(id(tensor), (place.path, tensor))
    return dict(first.values())


@final
class Opened:
    """An argument in which each module counts as the dict of its tensors by name: only its float
    parameters, or (`whole`) all parameters and buffers."""

    __slots__ = ("name", "leaves", "outer", "tensors", "structure", "modules")

    def __init__(self, name: str, argument: Any, whole: bool = False) -> None:
        self.name = name
        self.leaves, self.outer = tree.flatten(argument)
        self.tensors: list[Any] = self.leaves
        self.structure = self.outer
        self.modules: list[dict[str, Any] | None] = []
        if any([isinstance(leaf, Holder) for leaf in self.leaves]):
            open_ = named if whole else floats_of
            self.modules = [open_(x) if isinstance(x, Holder) else None for x in self.leaves]
            parts = [
                leaf if m is None else m for leaf, m in zip(self.leaves, self.modules, strict=True)
            ]
            self.tensors, self.structure = tree.flatten(tree.unflatten(self.outer, parts))

    def closed(self, tensors: Sequence[Any]) -> tuple[Any, list[Substitution]]:
        """The argument with other tensors; modules are themselves, and what is to stand in them."""
        if not self.modules:
            return tree.unflatten(self.outer, tensors), []
        rest = iter(tensors)
        leaves: list[Any] = []
        found = []
        for leaf, module in zip(self.leaves, self.modules, strict=True):
            if module is None:
                leaves.append(next(rest))
                continue
            leaves.append(leaf)
            given = {id(old): next(rest) for old in module.values()}
            found.append(Substitution(self.name, leaf, given, "returning the new value"))
        return tree.unflatten(self.outer, leaves), found


@contextmanager
def substituted(name: str, substitutions: Sequence[Substitution]) -> Iterator[None]:
    """All of them hold in the block; what it assigned to them is refused."""
    seen: set[tuple[int, str]] = set()
    for each in substitutions:
        places = {(id(place.table), place.key) for place, *_ in each.rows}
        if seen & places:
            raise ArgumentError(message(name, "a module in two arguments", "each module once"))
        seen |= places
    with ExitStack() as stack:
        for each in substitutions:
            stack.enter_context(each)
        yield
    for each in substitutions:
        each.refuse_changes()
