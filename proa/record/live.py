"""A thread's recording state: which handles are alive, which modes hold."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, Final, final
from weakref import ref

from proa.errors import ProaError, message
from proa.graph.build import set_default_sink
from proa.graph.entry import Entry
from proa.graph.node import Node, Value, Where
from proa.graph.spec import Spec

NO_GRAD: Final = 1
CAPTURE: Final = 2
DEBUG: Final = 4
CONVERT: Final = 8  # the functions of users are called with their control flow converted
CHECK_EVERY: Final = 1024  # handles recorded between two looks at the budget

_LIBRARY: Final = str(Path(__file__).parent.parent)
inside_table: Final[dict[str, bool]] = {}
_EXAMPLES: Final = str(Path(__file__).parent.parent / "examples")


@final
class Leaf:
    """What a handle has beside its value: its gradient's handle, and hooks.

    `stops` says that the tape ends here (the user asked for a gradient of this very tensor).
    """

    __slots__ = ("grad", "full", "hooks", "stops", "name")

    def __init__(self, stops: bool) -> None:
        self.grad: Any = None
        self.full = False
        self.hooks: list[Any] = []
        self.stops = stops
        self.name = ""


@final
class State:
    """One per thread, and one for each capture. A sink: `emit` records on it.

    Only weak references to handles are kept. What is pending hangs on the handles themselves:
    handle -> value -> node -> values; so what nobody can read is freed at once.
    """

    __slots__ = (
        "handles", "mode", "scope", "capture", "spent", "limit", "device", "outer",
        "watching",
    )  # fmt: skip

    scope: str

    def __init__(self, mode: int = 0, capture: Any = None, outer: State | None = None) -> None:
        self.handles: list[ref[Any]] = []
        self.mode = mode
        self.watching = mode & CAPTURE != 0
        self.scope = outer.scope if outer is not None else ""
        self.capture = capture
        self.spent: list[Node] = []
        self.limit = CHECK_EVERY
        self.device: Any = outer.device if outer is not None else None
        self.outer = outer

    def emit(self, entry: Entry, inputs: tuple[Value, ...]) -> tuple[Any, ...]:
        mode = self.mode
        if mode & NO_GRAD:
            entry = entry.plain
        node = Node(entry.plain, inputs, caller(3), self.scope)
        make, handles = _hooks.handle, self.handles
        if entry.single:
            made = make(Value(node, 0, entry.outs[0]))
            handles.append(ref(made))
            outs = (made,)
        else:
            outs = tuple([make(Value(node, i, s)) for i, s in enumerate(entry.outs)])
            handles += [ref(t) for t in outs]
        if len(handles) > self.limit:
            _hooks.overflow(self)
        if mode & DEBUG:
            _hooks.check(self, node, outs)
        return outs

    def record(self, entry: Entry, inputs: tuple[Value, ...]) -> list[Value]:
        """`emit` without handles: for results that existing handles will hold."""
        if self.mode & DEBUG:
            return [t.value for t in self.emit(entry, inputs)]
        if self.mode & NO_GRAD:
            entry = entry.plain
        node = Node(entry.plain, inputs, caller(3), self.scope)
        return [Value(node, i, s) for i, s in enumerate(entry.outs)]

    def watch(self, handle: Any) -> None:
        """While a function is recorded, what it reads from outside is noted."""
        self.capture.saw(handle)

    def place(self, scope: str, where: Where) -> None:
        """Where an operation comes from is found out when it is recorded."""

    def lift(self, value: Value) -> Value:
        return value

    def number(self, number: Any, of: Spec) -> Value:
        """A number is an input of the program: it is kept as it is, and never merged."""
        return Value(None, 0, of, number)

    def constant(self, array: Any, of: Spec) -> Any:
        return _hooks.put(array, of, self)


@final
class _Hooks:
    """What the rooms above supply: the class of handles, and what happens at the edges."""

    __slots__ = ("handle", "overflow", "check", "put")
    handle: Any
    overflow: Any
    check: Any
    put: Any


_hooks: Final = _Hooks()


def supply(**functions: Any) -> None:
    """Called once by the module that defines each."""
    for name, function in functions.items():
        setattr(_hooks, name, function)


@final
class Thread(threading.local):
    """The thread's current state."""

    def __init__(self) -> None:
        self.state = State()


thread: Final = Thread()
SPENT: Final = Leaf(False)


def _state() -> State:
    return thread.state


set_default_sink(_state)


@contextmanager
def use_state(state: State) -> Iterator[State]:
    """The thread records on `state` inside the block."""
    from proa.graph.build import use_sink

    before = thread.state
    thread.state = state
    try:
        with use_sink(state):
            yield state
    finally:
        thread.state = before


@final
class use_mode:  # noqa: N801  (it is called like a function)
    """Sets or clears mode bits of the thread's state inside the block, or inside the calls of a
    function that it decorates. A class, because it stands in every training step."""

    __slots__ = ("bits", "on", "before")

    def __init__(self, bits: int, on: bool) -> None:
        self.bits = bits
        self.on = on
        self.before: tuple[State, int] | None = None

    def __enter__(self) -> None:
        if self.before is not None:
            given = "a block that has not ended"
            raise ProaError(message("mode", given, "one for each block", "with pa.no_grad(): ..."))
        state = thread.state
        mode = state.mode
        self.before = state, mode
        state.mode = mode | self.bits if self.on else mode & ~self.bits

    def __exit__(self, *error: object) -> None:
        assert self.before is not None
        state, mode = self.before
        self.before = None
        state.mode = mode

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        bits, on = self.bits, self.on

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with use_mode(bits, on):
                return function(*args, **kwargs)

        return inside


def inside_library(file: str) -> bool:
    """Whether code of this file is the library's. By file, for a code object is hashed at length
    each time that it is looked up."""
    known = inside_table.get(file)
    if known is None:
        known = file.startswith(_LIBRARY) and not file.startswith(_EXAMPLES)
        inside_table[file] = known
    return known


def caller(depth: int = 2) -> Where:
    """The first place outside the library: code object and offset, never the frame itself."""
    frame: FrameType | None = sys._getframe(depth)
    known = inside_table.get
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        inside = known(file)
        if not (inside_library(file) if inside is None else inside):
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def live_handles(state: State) -> list[Any]:
    """Handles that are still held by somebody, in order of recording."""
    return [t for r in state.handles if (t := r()) is not None]


def pending_values(state: State) -> list[Value]:
    """What live handles hold and is not computed yet, in order of recording."""
    return [
        v for r in state.handles
        if (t := r()) is not None and (v := t.value).buffer is None and v.node is not None
    ]  # fmt: skip


@final
class Epoch:
    """Counts the changes that a jitted function must notice: modes of modules, hooks, flags.

    While the count stands still, what was found out about modules is still true.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def advance(self) -> None:
        self.count += 1


epoch: Final = Epoch()
