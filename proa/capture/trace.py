"""Recording a Python function once, apart from the thread's queue.

A `Capture` logs what the function reads and writes: every handle from outside that is an operand,
every handle that is assigned, every gradient that is filled or emptied. What it cannot account
for is an error at its line, never stale.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from sys import getrefcount
from types import CellType, FrameType
from typing import Any, final
from weakref import ref

from proa import tree
from proa.errors import JitError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.graph import Graph
from proa.graph.node import SCALAR_TYPES, Node, Value, line_of, next_serial
from proa.graph.spec import Spec
from proa.ops.functions import bitcast
from proa.ops.primitive import apply
from proa.record.key import Pending, graph_of, pending, role_of
from proa.record.live import CAPTURE, NO_GRAD, Leaf, State, caller, live_handles, thread, use_state
from proa.record.tape import taped
from proa.tensor import Tensor, off_tape, rebind


@final
class StaticNumber(Exception):
    """A traced number argument was needed as a Python number: record again with it static."""

    def __init__(self, value: Value) -> None:
        self.value = value


@final
class PendingOutside(Exception):
    """A tensor from outside is still pending: compute it, and record again."""

    def __init__(self, value: Value) -> None:
        self.value = value


@final
class Capture:
    """What a recording read and wrote beside its own results."""

    __slots__ = (
        "name",
        "readers",
        "origin",
        "before",
        "fills",
        "inside",
        "numbers",
        "printed",
        "bounds",
        "start",
        "settled",
        "splits",
        "computed",
        "kept",
        "pure",
    )

    def __init__(
        self, name: str, settled: bool = False, splits: Any = None, pure: bool = False
    ) -> None:  # fmt: skip
        self.name = name
        self.pure = pure
        self.splits = splits
        self.computed: dict[Value, tuple[int, int]] = {}  # by a part: its number, which result
        self.kept: list[ref[Any]] = []  # handles on what parts were to compute
        self.start = next_serial()
        self.settled = settled
        self.bounds: list[tuple[Value, int, int]] = []
        self.readers: dict[Value, Any] = {}
        self.origin: dict[Value, Value] = {}
        self.before: dict[int, tuple[Any, Value]] = {}
        self.fills: dict[Leaf, bool] = {}
        self.inside: set[Value] = set()
        self.numbers: set[Value] = set()
        self.printed: list[tuple[tuple[Any, ...], str, str]] = []

    # Called by the recording itself.

    def saw(self, handle: Tensor) -> None:
        v = handle.value
        if v.buffer is None:
            if v.node is not None and v.node.serial < self.start:
                if self.settled:
                    raise PendingOutside(v)
                self.readers.setdefault(v, ref(handle))
            return
        if v in self.readers or v in self.inside or self.source(v) in self.computed:
            return
        written = self.before.get(id(handle))
        if written is None or written[1] is v:  # else it holds what the recording put there
            self.readers[v] = ref(handle)

    def is_outside(self, v: Value) -> bool:
        """Whether a value is pending from before: it is an input of what is recorded."""
        return v.buffer is None and v.node is not None and v.node.serial < self.first

    @property
    def first(self) -> int:
        """The serial of the first node that belongs to this recording."""
        return -1 if self.settled else self.start

    def derived(self, made: Value, source: Tensor) -> None:
        """`made` is the value of `source`, seen on or off the tape."""
        self.saw(source)
        self.copied(made, source.value)

    def copied(self, made: Value, source: Value) -> None:
        if source in self.inside:
            self.inside.add(made)
        elif made.buffer is not None:
            self.origin[made] = source

    def wrote(self, handle: Tensor) -> None:
        v = handle.value
        if self.source(v) in self.computed:
            return
        if (v.buffer is not None or self.is_outside(v)) and v not in self.inside:
            self.before.setdefault(id(handle), (ref(handle), v))

    def filled(self, leaf: Leaf) -> None:
        self.fills.setdefault(leaf, leaf.full)

    def bound(self, number: Value, low: int, high: int) -> None:
        """A traced int is used where only low..high is good: checked at each replay."""
        if number in self.numbers:
            self.bounds.append((number, low, high))

    def needs_number(self, handle: Tensor) -> None:
        """A number argument is used as a Python object (hashed, printed): it becomes static."""
        number = self._number_behind(handle.value)
        if number is not None:
            raise StaticNumber(number)

    def _number_behind(self, value: Value) -> Value | None:
        """A number argument, if the value is made of number arguments and constants alone."""
        found: Value | None = None
        stack, seen = [value], {value}
        while stack:
            v = stack.pop()
            if v in self.numbers:
                found = v
            elif v.node is not None and v.buffer is None:
                fresh = [w for w in v.node.inputs if w not in seen]
                seen.update(fresh)
                stack += fresh
            elif type(v.buffer) not in SCALAR_TYPES:
                return None
        return found

    def born(self, handle: Tensor) -> None:
        self.inside.add(handle.value)

    def truth(self, handle: Tensor) -> bool:
        """A test of a tensor: where a recording can be split, it is split there."""
        if self.splits is None:
            self.refuse(handle, "bool")
        self.needs_number(handle)
        return self.splits.truth(self, handle)  # type: ignore[no-any-return]

    def refuse(self, handle: Tensor, what: str) -> None:
        """A read while recording: of a number argument it makes the argument static."""
        self.needs_number(handle)
        hint = {
            "bool": "pa.where(condition, a, b) or pa.cond",
            "format": "pa.print, or returning the value",
        }.get(what, "returning the value, or splitting the function there")
        where = line_of(caller(3))
        given = f"{what} of a recorded tensor {handle.value.spec} at {where}"
        raise JitError(message(self.name, given, "no reading while recording", hint))

    def refuse_read(self, wanted: Sequence[Value]) -> None:
        hint = "leaving pa.sync(), optimiser boundaries and data loading outside"
        raise JitError(message(self.name, f"a read at {line_of(caller(3))}", "no reading", hint))

    # Called when it is over.

    def source(self, leaf: Value) -> Value:
        while leaf in self.origin:
            leaf = self.origin[leaf]
        return leaf

    def written(self) -> list[tuple[Tensor, Value]]:
        """Handles from outside that were assigned and still live, with the value they had."""
        rows = [(r(), old) for r, old in self.before.values()]
        return [(t, old) for t, old in rows if t is not None]

    def restore(self) -> None:
        """Every handle as it was before the recording."""
        for handle, old in self.written():
            handle.value = old
        for leaf, full in self.fills.items():
            leaf.full = full


@final
class Recording:
    """One recording: the pending work, its outputs, and where each leaf comes from."""

    __slots__ = ("capture", "work", "outputs", "result", "structure", "writes", "fills")

    # `result` holds the leaves of (what the function returned, what it printed).

    def __init__(self, capture: Capture, result: Any, state: State) -> None:
        self.capture = capture
        self.result, self.structure = tree.flatten((result, capture.printed))
        self.writes = [(t, t.value) for t, _ in capture.written()]
        self.fills = [(leaf, before, leaf.full) for leaf, before in capture.fills.items()]
        state.handles = [*capture.kept, *state.handles]
        _refuse_escapes(capture, self.result, [t for t, _ in self.writes], state)
        values = [t.value for t in self.result if type(t) is Tensor]
        values += [v for _, v in self.writes]
        made = {
            (v.node, v.index): v for v in values
            if v.buffer is None and v.node is not None and not capture.is_outside(v)
        }  # fmt: skip
        self.outputs = list(made.values())
        self.work: Pending = pending(self.outputs, capture.first)

    def leaves_tape(self) -> bool:
        """Whether a value that carries a gradient is read without it (`detach`, `no_grad`)."""
        made: dict[Node, tuple[Spec, ...]] = {}
        for n in self.work.nodes:
            if any(self.made_as(v, made).grad and not v.spec.grad for v in n.inputs):
                return True
            made[n] = taped(n)
        return False

    def made_as(self, v: Value, made: dict[Node, tuple[Spec, ...]]) -> Spec:
        """The spec of a value where it comes from: `made` has those of the nodes before."""
        specs = made.get(v.node) if v.buffer is None else None
        return self.capture.source(v).spec if specs is None else specs[v.index]

    def graph(self) -> Graph:
        return graph_of(self.work, [role_of(v) for v in self.work.leaves])


@final
class Cut:
    """What was recorded up to a test, bound like a recording that has no results of its own."""

    __slots__ = ("capture", "work", "outputs", "result", "structure", "writes", "fills")

    def __init__(self, capture: Capture, work: Pending, outputs: list[Value]) -> None:
        self.capture = capture
        self.work = work
        self.outputs = outputs
        self.result, self.structure = tree.flatten(())
        self.writes: list[tuple[Tensor, Value]] = []
        self.fills = [(leaf, before, before) for leaf, before in capture.fills.items()]

    def leaves_tape(self) -> bool:
        return False


def record(
    name: str, function: Callable[[], Any], numbers: Sequence[Value] = (), settled: bool = False,
    splits: Any = None, pure: bool = False,
) -> Recording:  # fmt: skip
    """Runs `function` apart from the thread's queue; handles are as before when it returns.

    With `settled` everything from outside must have been computed, or `PendingOutside` is raised.
    With `splits` a test of a tensor computes what is recorded so far, and goes on from there.
    A `pure` one is traced anew at each call of what it is for, so what it was given may move.
    """
    outer = thread.state
    capture = Capture(name, settled, splits, pure)
    capture.numbers.update(numbers)
    state = State(outer.mode | CAPTURE, capture, outer)
    try:
        with use_state(state):
            return Recording(capture, function(), state)
    finally:
        capture.restore()


def _refuse_escapes(
    capture: Capture, result: list[Any], written: list[Tensor], state: State
) -> None:
    """A new tensor that somebody holds, and that is no result, could not be replayed."""
    known = {id(t) for t in result if type(t) is Tensor} | {id(t) for t in written}
    known |= {id(leaf.grad) for leaf in capture.fills}

    def escaped() -> list[Tensor]:
        new = [t for t in live_handles(state) if id(t) not in known]
        new = [t for t in new if t.value.node is not None or t.value in capture.computed]
        return new + [t for t in _copies(capture) if id(t) not in known]

    if not escaped():
        return
    gc.collect()
    found = escaped()
    if found:
        node = found[0].value.node
        made = f" made at {line_of(node.where)}" if node is not None else ""
        refuse_escape(capture.name, f"{_holder(found[0], [found, state])} with a new tensor{made}")


def _copies(capture: Capture) -> list[Tensor]:
    """Handles on copies of what was computed at a test: nobody was told of them."""
    found: list[Tensor] = []
    for made in [v for v in capture.origin if capture.source(v) in capture.computed]:
        if getrefcount(made) > 4:  # the key, two lists, the argument
            found += [t for t in gc.get_referrers(made) if type(t) is Tensor and t.value is made]
    return found


def refuse_escape(name: str, given: str) -> None:
    hint = "assigning into an existing tensor (`self.x[...] = ...`), or returning it"
    raise JitError(message(name, given, "no tensor that escapes the call", hint))


def refuse_kept_arguments(name: str, kept: list[Tensor]) -> None:
    """An argument that somebody still holds after the call would be the one of this call."""
    gc.collect()
    if kept:
        refuse_escape(name, f"{_holder(kept[0], [kept])} with an argument of the call")


def _holder(tensor: Tensor, known: list[Any]) -> str:
    """Who holds a tensor, in words: an attribute, a list, a dictionary's key."""
    ignored = {id(k) for k in known}
    words = [_in_words(h, tensor) for h in gc.get_referrers(tensor) if id(h) not in ignored]
    named = [w for w in words if w]
    return named[0] if named else "a variable of a closure"


def _in_words(holder: Any, tensor: Tensor) -> str:
    if isinstance(holder, (FrameType, CellType)):
        return ""
    if isinstance(holder, (list, tuple, set)):
        return f"a {type(holder).__name__} of {len(holder)}"
    space = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
    names = _names_of(space, tensor)
    if not isinstance(holder, dict):
        return f"`{type(holder).__name__}.{names[0]}`" if names else ""
    for owner in gc.get_referrers(holder):
        if getattr(owner, "__dict__", None) is holder and names:
            return f"`{type(owner).__name__}.{names[0]}`"
    return f"a dictionary (key {names[0]!r})" if names else "a dictionary"


def _names_of(space: dict[Any, Any], tensor: Tensor) -> list[Any]:
    found = []
    for name, item in space.items():
        if item is tensor:
            found.append(name)
    return found


def refuse_lost_hooks(recording: Recording | Cut) -> None:
    """A gradient hook inside, of a gradient that is computed outside: no replay would run it."""
    stack = [t.value for t in recording.result if type(t) is Tensor and t.value.spec.grad]
    seen: set[Value] = set()
    while stack:
        v = stack.pop()
        if v in seen or v.node is None or v.buffer is not None or v.node.spent:
            continue
        seen.add(v)
        if v.leaf is not None and v.leaf.hooks and not v.leaf.stops:
            given = f"a hook on the gradient of a tensor made inside, at {line_of(v.node.where)}"
            hint = "backward() or pa.grad inside the function, or pa.no_grad()"
            expected = "one whose gradient is computed inside"
            raise JitError(message(recording.capture.name, given, expected, hint))
        stack += [w for w in v.node.inputs if w.spec.grad]


# Pure traces: functions of tensors alone, for transforms.


@final
class Traced:
    """A function as a graph: inputs are the arguments, then what it captured from outside; results
    are what it returned, then what it put into the handles `written`."""

    __slots__ = ("graph", "captured", "structure", "statics", "written")

    def __init__(
        self, graph: Graph, captured: list[Value], structure: Any, statics: list[Any],
        written: list[tuple[Tensor, bool]],
    ) -> None:  # fmt: skip
        self.graph = graph
        self.captured = captured
        self.structure = structure
        self.statics = statics
        self.written = written

    def write(self, outs: Sequence[Any]) -> list[Any]:
        """The results of the graph without those for handles, which are put there now; what was
        off the tape when it was assigned is so again."""
        count = len(outs) - len(self.written)
        for (handle, is_taped), out in zip(self.written, outs[count:], strict=True):
            value = out if type(out) is Value else out.value
            rebind(handle, value if is_taped else off_tape(Tensor(value)).value)
        return list(outs[:count])


def trace(
    name: str, function: Callable[..., Any], specs: Sequence[Spec], writes: bool = False,
    refuse: Callable[[list[Tensor]], None] | None = None,
) -> Traced:  # fmt: skip
    """The graph of a function of tensors with these specs. It may read nothing, keep nothing, and
    assign nothing unless `writes`. Specs with a gradient say that its result may be
    differentiated. `refuse` may have better words for what is assigned to tensors from outside."""
    if thread.state.mode & NO_GRAD:
        specs = [s.plain for s in specs]
    placeholders = [placeholder(s) for s in specs]
    recording = record(name, lambda: function(*[Tensor(v) for v in placeholders]), pure=True)
    if recording.capture.printed:
        raise JitError(message(name, "pa.print", "a function without effects"))
    if (recording.writes and not writes) or recording.fills:
        if refuse is not None:
            refuse([t for t, _ in recording.writes])
        given = "an assignment to a tensor from outside"
        raise JitError(
            message(name, given, "a function without effects", "returning the new value")
        )
    results = [t.value for t in recording.result if type(t) is Tensor]
    results += [v for _, v in recording.writes]
    graph, captured = laid_out(recording, placeholders, results)
    statics = [None if type(leaf) is Tensor else leaf for leaf in recording.result]
    written = [(handle, v.spec.grad) for handle, v in recording.writes]
    return Traced(graph, captured, recording.structure.children[0], statics, written)


def laid_out(
    recording: Recording, placeholders: Sequence[Value], results: Sequence[Value]
) -> tuple[Graph, list[Value]]:
    """The recorded graph from placeholders, then what it captured from outside, to results."""
    refuse_lost_hooks(recording)
    number = {v: i for i, v in enumerate(placeholders)}
    capture = recording.capture
    passed = [v for v in results if _passes(capture, v)]
    for v in (*recording.work.leaves, *passed):
        number.setdefault(capture.source(v), len(number))
    captured = list(number)[len(placeholders) :]
    graph = _arranged(recording, number, results)
    sink = current_sink()
    if sink.watching:  # what this recording reads from outside, the one around it reads too
        handles = [capture.readers[v]() for v in captured if v in capture.readers]
        for h in [h for h in handles if h is not None]:
            sink.watch(h)
    return graph, captured


def _passes(capture: Capture, v: Value) -> bool:
    """Whether a result was not computed by the function."""
    return v.buffer is not None or capture.is_outside(v)


@final
class _Placeholder:
    """Stands where a buffer will be."""

    __slots__ = ()


def placeholder(of: Spec, leaf: Leaf | None = None) -> Value:
    """An argument of what is being recorded."""
    return Value(None, 0, of, _Placeholder(), leaf)


def _arranged(recording: Recording, number: dict[Value, int], results: Sequence[Value]) -> Graph:
    """The recorded graph with its inputs and its results in these orders."""
    builder = Builder()
    with use_sink(builder):
        laid = _Laid(builder, recording, number)
        return builder.graph([laid.value(v) for v in results])


@final
class _Laid:
    """Recorded nodes in a Builder. A graph has no tape, so where a value was taken off it
    (`detach`, `no_grad`) the graph gets a step that has no derivative."""

    __slots__ = ("recording", "inputs", "made", "specs", "stopped", "rows")

    def __init__(self, builder: Builder, recording: Recording, number: dict[Value, int]) -> None:
        self.recording = recording
        self.rows = number
        self.inputs = [builder.input(v.spec.plain, role_of(v)) for v in number]
        self.made: dict[Node, tuple[Value, ...]] = {}
        self.specs: dict[Node, tuple[Spec, ...]] = {}
        self.stopped: dict[Value, Value] = {}
        for n in recording.work.nodes:
            operands = tuple([self.value(v) for v in n.inputs])
            builder.place(n.scope, n.where)
            self.made[n], self.specs[n] = builder.emit(n.entry, operands), taped(n)

    def value(self, v: Value) -> Value:
        """What stands for a recorded value."""
        made = self.made.get(v.node) if v.buffer is None else None
        if made is not None:
            found = made[v.index]
        else:
            found = self.inputs[self.rows[self.recording.capture.source(v)]]
        of = self.recording.made_as(v, self.specs)
        if v.spec.grad or not of.grad:
            return found
        if found not in self.stopped:
            self.stopped[found] = apply(bitcast, (found,), dtype=of.dtype)
        return self.stopped[found]
