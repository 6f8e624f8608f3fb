"""The state of a branch or loop: places that Python code assigns, and tensors that it writes into.

A place is a variable, an attribute, or an item of a list or dict. While a branch is recorded every
change of one that existed before is noted, and taken back when the recording ends; what the
branches leave there is joined afterwards (`branches.py`, `loops.py`).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import CellType, TracebackType
from typing import Any, Final, final

from proa import tree
from proa.capture.convert.jumps import RESULT, in_words
from proa.capture.trace import Recording, record
from proa.errors import JitError, message
from proa.graph.node import Value, line_of
from proa.record.live import caller
from proa.tensor import Tensor

CONTAINERS: Final = (list, dict, set, bytearray)
_WALKED: Final = 20_000  # objects that are looked at to tell old containers from new ones


@final
class _Unbound:
    def __repr__(self) -> str:
        return "nothing"


UNBOUND: Final = _Unbound()


class Place(ABC):
    """Where Python code may put something else. `guarded`: it is read only where it was set;
    `dead`: nobody reads it afterwards."""

    guarded = False
    dead = False

    @abstractmethod
    def get(self) -> Any: ...

    @abstractmethod
    def set(self, found: Any) -> None: ...

    @abstractmethod
    def words(self) -> str: ...

    @abstractmethod
    def key(self) -> Any: ...


@final
class Cell(Place):
    """A variable."""

    def __init__(self, name: str, cell: CellType, dead: bool = False) -> None:
        self.name = name
        self.cell = cell
        self.dead = dead
        self.guarded = name == RESULT

    def get(self) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return UNBOUND

    def set(self, found: Any) -> None:
        if found is not UNBOUND:
            self.cell.cell_contents = found
        elif self.get() is not UNBOUND:
            del self.cell.cell_contents

    def words(self) -> str:
        return in_words(self.name)

    def key(self) -> Any:
        return id(self.cell)


@final
class Box(Place):
    """A value that has no name: of a conditional expression, the counter of a loop."""

    def __init__(self, held: Any = UNBOUND, called: str = "the value") -> None:
        self.held = held
        self.called = called

    def get(self) -> Any:
        return self.held

    def set(self, found: Any) -> None:
        self.held = found

    def words(self) -> str:
        return self.called

    def key(self) -> Any:
        return id(self)


@final
class Attribute(Place):
    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name

    def get(self) -> Any:
        return getattr(self.owner, self.name, UNBOUND)

    def set(self, found: Any) -> None:
        if found is not UNBOUND:
            setattr(self.owner, self.name, found)
        elif self.get() is not UNBOUND:
            delattr(self.owner, self.name)

    def words(self) -> str:
        return f"`{type(self.owner).__name__}.{self.name}`"

    def key(self) -> Any:
        return id(self.owner), self.name


@final
class Item(Place):
    """An item of a list or dict, or a global variable."""

    def __init__(self, owner: Any, index: Any, words: str = "") -> None:
        self.owner = owner
        self.index = index
        self.text = words or f"item {index!r:.40} of a {type(owner).__name__}"

    def get(self) -> Any:
        try:
            return self.owner[self.index]
        except LookupError:
            return UNBOUND

    def set(self, found: Any) -> None:
        if found is not UNBOUND:
            self.owner[self.index] = found
        elif self.get() is not UNBOUND:
            del self.owner[self.index]

    def words(self) -> str:
        return self.text

    def key(self) -> Any:
        return id(self.owner), self.index


def places_of(names: Sequence[str], functions: Sequence[Any], dead: bool = False) -> list[Place]:
    """The variables of some functions by name."""
    found: list[Place] = []
    for name in names:
        for f in functions:
            if f is not None and name in f.__code__.co_freevars:
                at = f.__code__.co_freevars.index(name)
                found.append(Cell(name, f.__closure__[at], dead))
                break
        else:
            space = next(f.__globals__ for f in functions if f is not None)
            found.append(Item(space, name, f"the global `{name}`"))
    return found


@final
class Region:
    """A branch or body while it is recorded: which attributes and containers it touches."""

    def __init__(self, places: Sequence[Place], functions: Sequence[Any], what: str) -> None:
        self.what = what
        self.line = line_of(caller(1))
        cells = [c for f in functions if f is not None for c in f.__closure__ or ()]
        self.before = [*[p.get() for p in places], *[_contents(c) for c in cells]]
        self.cells = {id(c) for c in cells}
        self.old: set[int] | None = None
        self.containers: dict[int, tuple[Any, Any, str]] = {}
        self.places: dict[Any, tuple[Place, Any]] = {}

    def __enter__(self) -> Region:
        stack.regions.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:  # fmt: skip
        stack.regions.pop()

    def note_attribute(self, owner: Any, name: str) -> None:
        self.note(Attribute(owner, name), owner)

    def note(self, place: Place, owner: Any) -> None:
        if place.key() not in self.places and self._is_old(owner):
            self.places[place.key()] = place, place.get()

    def note_container(self, owner: Any) -> None:
        if id(owner) not in self.containers and self._is_old(owner):
            self.containers[id(owner)] = owner, owner.copy(), line_of(caller(3))

    def _is_old(self, owner: Any) -> bool:
        """Whether an object was there when the region began: reachable from what it could read."""
        if self.old is None:
            self.old = _reachable(self.before) | self.cells
        return id(owner) in self.old

    def changed(self) -> list[tuple[Place, Any]]:
        """Attributes and items that are not what they were, with what they were."""
        found: list[tuple[Place, Any]] = list(self.places.values())
        for owner, copy, line in self.containers.values():
            if isinstance(owner, dict):
                keys = [*owner, *[k for k in copy if k not in owner]]
                found += [(Item(owner, k), copy.get(k, UNBOUND)) for k in keys
                          if owner.get(k, UNBOUND) is not copy.get(k, UNBOUND)]  # fmt: skip
            elif isinstance(owner, list) and len(owner) == len(copy):
                rows = enumerate(zip(owner, copy, strict=True))
                found += [(Item(owner, i), b) for i, (a, b) in rows if a is not b]
            elif owner != copy:
                self._grown(owner, copy, line)
        return found

    def _grown(self, owner: Any, copy: Any, line: str) -> None:
        kind = type(owner).__name__
        given = f"a {kind} of {len(copy)} that has {len(owner)} at {line}, in {self.what}"
        hint = "a tensor made before (`xs[i] = x`), pa.scan, or a loop over a Python range"
        raise Grown(message("convert", given, f"a {kind} that keeps its length", hint))

    def restore(self) -> None:
        for owner, copy, _ in self.containers.values():
            if isinstance(owner, dict):
                owner.clear()
                owner.update(copy)
            elif isinstance(owner, set):
                owner.intersection_update(copy)
                owner.update(copy)
            else:
                owner[:] = copy
        for place, old in self.places.values():
            place.set(old)


class Unfixed(JitError):
    """State that does not keep its form: a loop over a Python range or rows is unrolled then."""


@final
class Grown(Unfixed):
    """A container that grows."""


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _reachable(roots: Sequence[Any]) -> set[int]:
    found: set[int] = set()
    todo = list(roots)
    while todo and len(found) < _WALKED:
        o = todo.pop()
        if id(o) in found or isinstance(o, (str, bytes, int, float, type, Tensor)):
            continue
        found.add(id(o))
        if isinstance(o, dict):
            todo += o.values()
        elif isinstance(o, (list, tuple, set, frozenset)):
            todo += o
        else:
            cells = getattr(o, "__closure__", None) or ()
            found.update(map(id, cells))
            todo += [_contents(c) for c in cells]
            todo.append(getattr(o, "__self__", None))
            space = getattr(o, "__dict__", None)
            if isinstance(space, dict) and not isinstance(o, type(threading)):
                todo += space.values()
    return found


@final
class _Stack(threading.local):
    """Of a thread: the regions that are being recorded, and why names are not defined."""

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self.reasons: dict[tuple[str, str], str] = {}  # by file and name


stack: Final = _Stack()


def note_attribute(owner: Any, name: str) -> None:
    for region in stack.regions:
        region.note_attribute(owner, name)


def note_container(owner: Any) -> None:
    for region in stack.regions:
        region.note_container(owner)


def leave_unbound(place: Place, reason: str) -> None:
    """A name that only one branch defines: reading it is an error that gives the reason."""
    place.set(UNBOUND)
    where = caller(1)
    if isinstance(place, Cell) and where is not None:
        stack.reasons[where[0].co_filename, place.name] = reason


@final
class Outcome:
    """A recorded run: what stands in its places in the end, and which tensors it wrote into."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.recording: Recording
        self.ends: dict[Any, tuple[Place, Any]] = {}
        self.befores: dict[Any, Any] = {}
        self.values: dict[int, tuple[Tensor, Value]] = {}
        self.writes: list[tuple[Tensor, Value]] = []

    def is_old(self, tensor: Tensor) -> bool:
        """Whether a tensor at the end was there before the run."""
        if id(tensor) not in self.values or any(t is tensor for t, _ in self.writes):
            return True
        capture, value = self.recording.capture, self.values[id(tensor)][1]
        return value not in capture.inside and (
            value.buffer is not None or capture.is_outside(value)
        )


def run_apart(
    region: Region, places: Sequence[Place], run: Callable[[], Any], result: Callable[[], Any]
) -> Outcome:
    """Records `run` apart; afterwards every place, container and tensor is as it was before.

    `result` is asked inside for tensors that the run must not lose, beside those in places.
    """
    outcome = Outcome(region.what)
    before = [(p, p.get()) for p in places]

    def inside() -> Any:
        try:
            with region:
                run()
            rows = [(p, b) for p, b in before]
            rows += [r for r in region.changed() if r[0].key() not in {p.key() for p in places}]
            for place, old in rows:
                outcome.ends[place.key()] = place, place.get()
                outcome.befores[place.key()] = old
            kept = [*[t for _, end in outcome.ends.values() for t in tensors_in(end)], *result()]
            outcome.values = {id(t): (t, t.value) for t in kept}
            return kept
        except Exception as error:
            _explain_raise(error, region)
            raise
        finally:
            region.restore()
            for place, old in before:
                place.set(old)

    outcome.recording = record("convert", inside)
    outcome.writes = outcome.recording.writes
    _refuse_effects(outcome, region)
    return outcome


def tensors_in(found: Any) -> list[Tensor]:
    return [t for t in tree.flatten(found)[0] if type(t) is Tensor]


def _explain_raise(error: Exception, region: Region) -> None:
    if getattr(error, "_proa_raised", False):
        given = f"`raise {type(error).__name__}` in {region.what} at {region.line}"
        hint = "a check outside, or a result that says what went wrong"
        text = message("convert", given, "no exception that depends on a tensor", hint)
        raise JitError(text) from error


def _refuse_effects(outcome: Outcome, region: Region) -> None:
    if any(before is not after for _, before, after in outcome.recording.fills):
        given = f"a gradient that is filled or emptied in {region.what} at {region.line}"
        hint = "pa.grad inside, or backward() outside"
        raise JitError(message("convert", given, "a branch without .grad", hint))
    if outcome.recording.capture.printed:
        given = f"pa.print in {region.what} at {region.line}"
        hint = "printing after it, or collecting what is to be printed"
        raise JitError(message("convert", given, "a branch without printing", hint))


def note_variables(
    cells: Sequence[tuple[str, CellType]], space: dict[str, Any], names: Any
) -> None:
    """Variables of enclosing functions, and global ones, that a function assigns."""
    for region in stack.regions:
        for name, cell in cells:
            region.note(Cell(name, cell), cell)
        for name in names:
            place = Item(space, name, f"the global `{name}`")
            region.places.setdefault(place.key(), (place, place.get()))
