"""A recording bound to arguments, state and numbers, so that it can be compared and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final
from weakref import ref

import numpy as np

from proa import tree
from proa.capture.arguments import Arguments
from proa.capture.trace import Cut, Recording, refuse_lost_hooks
from proa.compile.find import default_device
from proa.errors import JitError, Overwritten, message
from proa.graph.entry import intern_entry
from proa.graph.node import SCALAR_TYPES, Value, line_of
from proa.graph.spec import Spec
from proa.ops.structure import call
from proa.record.boundary import compute, find_plan
from proa.record.donation import again, donated, last_states
from proa.record.live import NO_GRAD, SPENT, Leaf, thread
from proa.tensor import Tensor, handle, set_values


@final
class Plan:
    """A recording with its inputs and outputs bound to arguments, handles and numbers."""

    __slots__ = (
        "name", "plan", "from_args", "from_handles", "from_numbers", "constants", "width",
        "results", "structure", "writes", "fills", "confirmed", "key", "wants_grad", "lines",
        "fixed", "single", "slow_writes", "fast_writes", "bounds", "handles",
        "assigned", "is_partial", "heirs", "states", "from_parts", "carried", "calls", "donated",
    )  # fmt: skip

    def __init__(
        self, name: str, recording: Recording | Cut, sources: dict[Value, int], numerics: str
    ) -> None:  # fmt: skip
        self.name = name
        self.confirmed = False
        self.calls = 0
        self.donated = 0
        work, capture = recording.work, recording.capture
        self.key = work.key
        self._bind_inputs(recording, sources)
        self._bind_outputs(recording, sources)
        device = _device_of([v.buffer for v in work.leaves])
        own = frozenset([i for i, h, _ in self.from_handles if id(h) in self.assigned])
        self.plan = find_plan(work, device, numerics, own) if recording.outputs else None
        self.wants_grad = any(
            type(t) is Tensor
            and t.value.spec.grad
            and t.value.node is not None
            and not t.value.node.spent
            for t in recording.result
        )
        if self.wants_grad:
            refuse_lost_hooks(recording)
        # A graph has no tape: where a gradient may pass, but not everywhere, Python says where.
        self.is_partial = self.wants_grad and recording.leaves_tape()
        numbers = {v for _, _, v in self.from_numbers}  # other values would keep buffers alive
        self.lines = {v: n.where for n in reversed(work.nodes) for v in n.inputs if v in numbers}
        self.bounds = [(sources[v], low, high) for v, low, high in capture.bounds]
        self.handles = {id(h) for _, h, _ in self.from_handles}
        self.handles |= {id(t) for t, *_ in self.writes if not isinstance(t, int)}

    def _bind_inputs(self, recording: Recording | Cut, sources: dict[Value, int]) -> None:
        self.from_args: list[tuple[int, int]] = []
        self.from_handles: list[tuple[int, Tensor, Spec]] = []
        self.from_numbers: list[tuple[int, Any, Value]] = []
        self.from_parts: list[tuple[int, tuple[int, int]]] = []
        self.constants: list[tuple[int, Any]] = []
        capture, leaves = recording.capture, recording.work.leaves
        self.width = len(leaves)
        self.fixed: list[Any] = [None] * self.width
        for i, leaf in enumerate(leaves):
            v = capture.source(leaf)
            if v in sources:
                self.from_args.append((i, sources[v]))
            elif v in capture.computed:
                self.from_parts.append((i, capture.computed[v]))
            elif v in capture.readers and (h := capture.readers[v]()) is not None:
                self.from_handles.append((i, h, v.spec))
            elif type(v.buffer) in SCALAR_TYPES:
                self.from_numbers.append((i, v.buffer, v))
            else:
                self.constants.append((i, v.buffer))
        for i, b in [*[n[:2] for n in self.from_numbers], *self.constants]:
            self.fixed[i] = b

    def _bind_outputs(self, recording: Recording | Cut, sources: dict[Value, int]) -> None:
        slot = {(v.node, v.index): i for i, v in enumerate(recording.outputs)}
        capture = recording.capture
        self.carried: list[tuple[tuple[int, int], Spec]] = []  # results of parts before, as ours

        def place(v: Value) -> tuple[str, Any]:
            if v.buffer is None and v.node is not None:
                return "slot", slot[v.node, v.index]
            source = capture.source(v)
            if source in sources:
                return "arg", sources[source]
            if source in capture.computed:
                self.carried.append((capture.computed[source], source.spec.plain))
                return "slot", len(slot) + len(self.carried) - 1
            h = capture.readers.get(source)
            return ("handle", h()) if h is not None and h() is not None else ("value", source)

        self.structure = recording.structure
        self.results: list[tuple[str, Any, Any]] = []
        for leaf in recording.result:
            if type(leaf) is Tensor:
                v = leaf.value
                kind, at = place(v)
                if kind in ("arg", "handle") and v in capture.origin:  # a copy made inside
                    kind, at = "again", (kind, at, leaf.leaf)
                elif (
                    kind == "value" and v not in capture.inside and not _is_number(v)
                ):  # from outside, never an operand
                    kind, at = "handle", leaf
                self.results.append((kind, at, v.spec))
            else:
                self.results.append(("static", leaf, None))
        self.writes: list[tuple[Any, str, Any, Spec]] = []
        for t, v in recording.writes:
            old = recording.capture.before[id(t)][1]
            target: Any = sources[old] if old in sources and t.leaf is None else t
            self.writes.append((target, *place(v), v.spec))
        self.fills = recording.fills
        self.single = len(self.results) == 1 and self.structure == _ALONE
        self.slow_writes = [w for w in self.writes if w[1] != "slot" or isinstance(w[0], int)]
        kept = {id(at[1]) for kind, at, _ in self.results if kind == "again"}  # old values
        self.assigned = {id(t) for t, kind, *_ in self.writes if kind == "slot"} - kept
        held = {id(h): (i, before) for i, h, before in self.from_handles}
        self.fast_writes = [
            (t, at, of.with_grad() if _stops(t) else of.plain, _leaf(t), held.get(id(t), (-1,))[0])
            for t, kind, at, of in self.writes
            if kind == "slot" and not isinstance(t, int)
        ]
        self.heirs = {
            at: i for t, at, after, _, i in self.fast_writes
            if i >= 0 and held[id(t)][1] is after
        }  # fmt: skip
        self.states = [
            (i, h, _leaf(h)) for i, h, _ in self.from_handles if id(h) in self.assigned
        ]  # fmt: skip

    # Whether it fits.

    def holds(self) -> bool:
        """Whether gradients are as full as when this was recorded, and state has its specs."""
        for leaf, before, _ in self.fills:
            if leaf.full is not before:
                return False
        for _, h, of in self.from_handles:  # noqa: SIM110  (the hot path of a replay)
            if h.value.spec is not of:
                return False
        return True

    def lapsed(self) -> str:
        """Why it does not hold, in words."""
        for leaf, before, _ in self.fills:
            if leaf.full is not before:
                was, now = ("full", "empty") if before else ("empty", "full")
                of = leaf.grad.value.spec if leaf.grad is not None else "a tensor"
                return f"the gradient of {of} was {was} and is {now}"
        for _, h, of in self.from_handles:
            if h.value.spec is not of:
                return f"a tensor that the function reaches was {of} and is {h.value.spec}"
        return ""

    def origins(self, number: int) -> list[tuple[Any, ...]]:
        """Where each input comes from; `number` tells constants of several parts apart."""
        found: list[tuple[Any, ...]] = [("constant", number, i) for i in range(self.width)]
        for i, a in self.from_args:
            found[i] = "arg", a
        for i, h, _ in self.from_handles:
            found[i] = "handle", id(h)
        for i, at in self.from_parts:
            found[i] = ("part", *at)
        return found

    def fits(self, given: Arguments) -> bool:
        """Whether traced ints are where the recording may use them, no argument is also state of
        the function where one of the two is written, and a derivative would be right."""
        if self.is_partial and not thread.state.mode & NO_GRAD:
            return False
        for i, low, high in self.bounds:
            if not low <= given.leaves[i] <= high:
                return False
        return not self.writes or self.handles.isdisjoint(given.plain_ids())

    def compare(self, other: Plan) -> None:
        """The second recording must be the first again; else the first difference is named."""
        for (i, a, _), (j, b, v) in zip(self.from_numbers, other.from_numbers, strict=False):
            if i == j and repr(a) != repr(b):
                where = line_of(other.lines.get(v))
                given = (
                    f"a Python number that changed between two calls: {a!r} then {b!r} at {where}"
                )
                raise JitError(
                    message(self.name, given, "a constant", "an argument or a 0-d tensor")
                )
        if self.key != other.key:
            raise JitError(
                message(self.name, self._difference(other), "the same operations in each call")
            )
        if self._bindings() != other._bindings():
            given = "the same operations on other arguments or for other results in two calls"
            raise JitError(message(self.name, given, "the same in each call"))
        for (_, a, _), (_, b, _) in zip(self.from_handles, other.from_handles, strict=True):
            if a is not b:
                given = f"another tensor {b.value.spec} in each call"
                hint = "assigning into one tensor (`x[...] = ...`)"
                raise JitError(message(self.name, given, "the same state tensors", hint))
        for (_, a), (_, b) in zip(self.constants, other.constants, strict=True):
            if a is not b and not np.array_equal(a.host(), b.host()):
                given = "an array made inside that differs between two calls"
                raise JitError(message(self.name, given, "a constant", "passing it as an argument"))
        for (_, a, _), (_, b, _) in zip(self.results, other.results, strict=False):
            if type(a) is Value and type(b) is Value:  # numbers that became results
                a, b = a.buffer, b.buffer
            same = a is b or (
                type(a) is type(b) and not isinstance(a, Tensor) and repr(a) == repr(b)
            )
            if not same:
                given = f"the result {a!r:.60} then {b!r:.60}"
                raise JitError(message(self.name, given, "results that do not change", "a tensor"))

    def _bindings(self) -> tuple[Any, ...]:
        """Where inputs come from and results go to, without what is compared by itself."""
        results = [(kind, at if kind in ("slot", "arg") else None) for kind, at, _ in self.results]
        writes = [(t if isinstance(t, int) else id(t), kind) for t, kind, *_ in self.writes]
        numbers, constants = ([x[0] for x in row] for row in (self.from_numbers, self.constants))
        handles = len(self.from_handles)
        return self.from_args, self.from_parts, numbers, constants, handles, results, writes

    def _difference(self, other: Plan) -> str:
        mine, theirs = self.plan, other.plan
        a = mine.graph.steps if mine is not None else ()
        b = theirs.graph.steps if theirs is not None else ()
        for x, y in zip(a, b, strict=False):
            if x.entry is not y.entry or x.slots != y.slots:
                return f"{x.entry!r:.100} then {y.entry!r:.100} at {line_of(y.where)}"
        longer = (b if len(b) > len(a) else a)[min(len(a), len(b)) :]
        more = f"; the first one more is at {line_of(longer[0].where)}" if longer else ""
        return f"{len(a)} operations then {len(b)}{more}"

    # Replaying.

    def replay(self, given: Arguments, done: Sequence[list[Any]] = ()) -> Any:
        """`done` holds the results of the parts before, if tests have split the recording."""
        self.calls += 1
        try:
            return self._replay(given, done)
        except Overwritten as error:
            return again(error, self._replay, given, done)

    def results_of(self, given: Arguments, done: Sequence[list[Any]]) -> list[Any]:
        """What a part of a recording computes. Nothing is donated: the call is not over."""
        if self.plan is None:
            return []
        try:
            return self.plan(self._buffers(given, done))
        except Overwritten as error:
            return again(error, self.results_of, given, done)  # type: ignore[no-any-return]

    def _buffers(self, given: Arguments, done: Sequence[list[Any]]) -> list[Any]:
        buffers = self.fixed.copy()
        for i, a in self.from_args:
            buffers[i] = given.buffer(a)
        for i, h, _ in self.from_handles:
            buffers[i] = h.value.buffer
        for i, (part, slot) in self.from_parts:
            buffers[i] = done[part][slot]
        if None in buffers:
            compute(self._waiting(given))
            return self._buffers(given, done)
        return buffers

    def _replay(self, given: Arguments, done: Sequence[list[Any]]) -> Any:
        buffers = self._buffers(given, done)
        if self.wants_grad and not thread.state.mode & NO_GRAD:
            return self._record_call(given, buffers)
        if self.plan is None:
            return self._finish_computed(given, [], done)
        if not self.plan.overwrites or self.slow_writes:
            return self._finish_computed(given, self.plan(buffers), done)
        if len(self.states) > len(self.plan.overwrites):
            self.states = [s for s in self.states if s[0] in self.plan.overwrites]
        last = last_states(buffers, self.states)
        self.donated = 0
        if not last:
            return self._finish_computed(given, self.plan(buffers), done)
        with donated(buffers, last, self.heirs) as donation:
            result = self._finish_computed(given, self.plan(buffers), done, buffers)
            self.donated = self.plan.note(donation)
            return result

    def _out_specs(self) -> Sequence[Spec]:
        own = self.plan.graph.output_specs() if self.plan is not None else ()
        return [*own, *[of for _, of in self.carried]]

    def _waiting(self, given: Arguments) -> list[Value]:
        values = [
            given.leaves[a].value for _, a in self.from_args if type(given.leaves[a]) is Tensor
        ]
        values += [h.value for _, h, _ in self.from_handles]
        return [v for v in values if v.buffer is None]

    def _record_call(self, given: Arguments, buffers: list[Any]) -> Any:
        """Where a gradient is wanted the call is one node on the tape."""
        inputs: list[Any] = [None] * self.width
        for i, a in self.from_args:
            leaf = given.leaves[a]
            inputs[i] = leaf.value if type(leaf) is Tensor else None
        for i, h, _ in self.from_handles:
            inputs[i] = h.value
        assert self.plan is not None
        graph = self.plan.graph
        for i, v in enumerate(inputs):
            if v is None:
                inputs[i] = Value(None, 0, graph.inputs[i].spec, buffers[i])
        entry = intern_entry(call.table, call, (graph,), tuple([v.spec for v in inputs]))
        outs = thread.state.emit(entry, tuple(inputs))
        return self._finish(given, [t.value for t in outs])

    def _finish_computed(
        self, given: Arguments, found: list[Any], done: Sequence[list[Any]],
        before: list[Any] | None = None,
    ) -> Any:  # fmt: skip
        """The hot path of `_finish`: state that the program wrote, results that it computed. A
        handle whose buffer (`before`: the inputs) is its result needs no new value."""
        for (part, slot), _ in self.carried:
            found.append(done[part][slot])
        if self.slow_writes:
            specs = self._out_specs()
            values = [Value(None, 0, s, b) for s, b in zip(specs, found, strict=True)]
            return self._finish(given, values)
        outs = [self._computed(given, kind, at, of, found) for kind, at, of in self.results]
        writes = self.fast_writes
        if before is not None:
            writes = [w for w in writes if w[4] < 0 or found[w[1]] is not before[w[4]]]
        news = [Value(None, 0, of, found[at], leaf) for _, at, of, leaf, _ in writes]
        set_values([w[0] for w in writes], news)
        if before is not None:
            for t, _, _, _, i in writes:  # another thread may have found the old one meanwhile
                if i >= 0:
                    before[i].follow(t.value.buffer)
        for leaf, _, after in self.fills:
            leaf.full = after
        if self.single:
            return outs[0]
        return self._unpacked(outs)

    def _computed(self, given: Arguments, kind: str, at: Any, of: Spec, found: list[Any]) -> Any:
        if kind == "slot":
            return Tensor(Value(None, 0, of, found[at], SPENT if of.grad else None))
        return self._passed(given, kind, at, of)

    def _passed(self, given: Arguments, kind: str, at: Any, of: Spec) -> Any:
        """A result that no operation made: an argument, state, a copy of one, a constant."""
        if kind == "arg":
            return given.leaves[at]
        if kind == "again":
            of_what, which, leaf = at
            source = given.leaves[which] if of_what == "arg" else which
            if type(source) is not Tensor:
                return source
            v = source.value
            made = Tensor(Value(v.node, v.index, of, v.buffer, leaf))
            if v.buffer is None:
                thread.state.handles.append(ref(made))
            return made
        return at if kind in ("static", "handle") else Tensor(at)

    def _unpacked(self, outs: list[Any]) -> Any:
        result, printed = tree.unflatten(self.structure, outs)
        for values, sep, end in printed:
            if callable(sep):  # a check of what the call has computed
                sep(*values)
            else:
                print(*values, sep=sep, end=end)
        return result

    def _finish(self, given: Arguments, values: list[Value]) -> Any:
        """Assigns state, sets which gradients are full, and builds the result."""
        news = [self._value(given, kind, at, values) for _, kind, at, _ in self.writes]
        outs = [self._result(given, kind, at, of, values) for kind, at, of in self.results]
        for (target, _, _, of), v in zip(self.writes, news, strict=True):
            tensor = given.leaves[target] if isinstance(target, int) else target
            _set(tensor, v, of)
        for leaf, _, after in self.fills:
            leaf.full = after
        return self._unpacked(outs)

    def _value(self, given: Arguments, kind: str, at: Any, values: list[Value]) -> Value:
        if kind == "slot":
            made: Value = values[at]
            return made
        value: Value = given.leaves[at].value if kind == "arg" else at.value
        return value

    def _result(self, given: Arguments, kind: str, at: Any, of: Spec, values: list[Value]) -> Any:
        if kind == "slot":
            v = values[at]
            if v.buffer is None:
                return handle(v)
            return Tensor(Value(None, 0, of, v.buffer, SPENT if of.grad else None))
        return self._passed(given, kind, at, of)


def _set(tensor: Tensor, v: Value, of: Spec) -> None:
    leaf: Leaf | None = tensor.leaf
    if leaf is not None and leaf.stops:
        tensor.value = Value(v.node, v.index, of.with_grad(), v.buffer, leaf)
    else:
        tensor.value = Value(v.node, v.index, v.spec, v.buffer)
    if v.buffer is None:
        thread.state.handles.append(ref(tensor))


def _is_number(value: Value) -> bool:
    """A Python number that became a result, such as a gradient that is 0 everywhere."""
    return type(value.buffer) in SCALAR_TYPES


def _stops(tensor: Tensor) -> bool:
    return tensor.leaf is not None and tensor.leaf.stops


def _leaf(tensor: Tensor) -> Leaf | None:
    """What the values have that a handle is assigned."""
    return tensor.leaf if _stops(tensor) else None


_ALONE = tree.flatten((0, []))[1]


def _device_of(buffers: Sequence[Any]) -> Any:
    for b in buffers:
        found = getattr(b, "device", None)
        if found is not None:
            return found
    return thread.state.device or default_device()
