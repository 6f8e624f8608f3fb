"""`jit`: a signature is recorded twice, compared, and then replayed without its Python.

The first call runs dynamic, so that what is made lazily exists; the second and third are recorded
and run; from the fourth on the recorded program is given its inputs and nothing else happens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from enum import Enum
from functools import update_wrapper
from typing import Any, final

import numpy as np

from proa import dtypes, tree
from proa.capture.skeleton import Skeleton, roots
from proa.capture.trace import Recording, StaticNumber, record
from proa.compile.find import default_device
from proa.dtypes import Dtype, weak_dtype
from proa.errors import DtypeError, JitError, message
from proa.graph.entry import intern_entry
from proa.graph.node import SCALAR_TYPES, Value, line_of
from proa.graph.spec import Spec, spec
from proa.ops.structure import call
from proa.record.boundary import compute, find_plan
from proa.record.live import CAPTURE, DEBUG, NO_GRAD, SPENT, Leaf, thread
from proa.tensor import Tensor, handle, put

SIGNATURE_WARNING = 8


def jit(function: Callable[..., Any] | None = None, *, check: bool = False) -> Any:
    """A function whose Python runs three times and is replayed from then on, with equal bits.

    State is found by itself: a tensor that existed before the call and is assigned during it
    (parameters, slots of optimisers, running statistics, generators). Numbers given as arguments
    are inputs; `bool`, `None`, strings and enums, and numbers that reach a shape or a Python
    `if`, are static: another value is another signature. What a replay could not repeat raises.

    `check=True` records every call anew and compares it with the first recording.

    >>> import proa as pa
    >>> f = pa.jit(lambda x, s: x * s)
    >>> [f(pa.asarray([1.0, 2.0]), 0.5 * i).tolist() for i in range(5)][4]
    [2.0, 4.0]
    """
    if function is None:
        return lambda f: Jitted(f, check)
    if not callable(function):
        raise DtypeError(message("jit", f"{function!r:.60}", "a function, method or module"))
    return Jitted(function, check)


@final
class Jitted:
    """A function with its recordings. `calls` and `python_calls` count."""

    def __init__(self, function: Callable[..., Any], check: bool) -> None:
        self.function = function
        self.check = check
        self.name = f"jit {getattr(function, '__name__', type(function).__name__)}"
        self.cases: dict[Any, _Case] = {}
        self.static: set[int] = set()
        self.skeleton = Skeleton(self._reached)
        self.others: list[Any] = []
        self.calls = 0
        self.python_calls = 0
        self.attribute = self.name
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if thread.state.mode & (CAPTURE | DEBUG):
            return self.function(*args, **kwargs)
        self.calls += 1
        given = _Arguments(args, kwargs, self.static)
        self.others = given.others
        key = self._key(given)
        case = self.cases.get(key)
        if case is None:
            case = self.cases[key] = _Case()
            self._warn_if_many(key)
            self.python_calls += 1
            try:
                return self.function(*args, **kwargs)
            finally:
                self._follow(key, given, case)
        return self._run(case, given)

    def _follow(self, key: Any, given: _Arguments, case: _Case) -> None:
        """What the body itself changes (a counter, a list that it appends to) leads the case on to
        the signature that it left; the one before is no longer it."""
        after = self._key(given)
        if after != key:
            self.cases.pop(key, None)
            self.cases.setdefault(after, case)

    def _key(self, given: _Arguments) -> tuple[Any, ...]:
        """The signature: arguments, static skeleton, ambient modes."""
        modes = (thread.state.mode, dtypes.default_float(), default_device())
        return given.key, self.skeleton.token(), modes

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        """As a method: one jitted function for each object."""
        if owner is None:
            return self
        found = Jitted(self.function.__get__(owner, kind), self.check)
        space = getattr(owner, "__dict__", None)
        if space is not None:  # found there from now on; it goes with the object
            space[self.attribute] = found
        return found

    def __set_name__(self, owner: Any, name: str) -> None:
        self.attribute = name

    def _reached(self) -> list[Any]:
        return [*roots(self.function), *self.others]

    def _run(self, case: _Case, given: _Arguments) -> Any:
        for plan in case.plans:
            if plan.holds() and plan.confirmed and not self.check:
                return plan.replay(given)
        recorded = self._record(case, given)
        if recorded is None:  # an argument turned out to be static
            return self(*given.args, **given.kwargs)
        for number, plan in enumerate(case.plans):
            if plan.same_case(recorded):
                plan.compare(recorded)
                recorded.confirmed = True
                case.plans[number] = recorded
                return recorded.replay(given)
        case.plans.append(recorded)
        return recorded.replay(given)

    def _record(self, case: _Case, given: _Arguments) -> _Plan | None:
        compute(())
        self.python_calls += 1
        key = self._key(given)
        args, kwargs, sources, numbers = given.copies()
        try:
            recording = record(self.name, lambda: self.function(*args, **kwargs), list(numbers))
        except StaticNumber as signal:
            self.static.add(numbers[signal.value])
            return None
        self._follow(key, given, case)
        return _Plan(self.name, recording, sources)

    def _warn_if_many(self, key: Any) -> None:
        many = len(set(map(id, self.cases.values())))
        if many == SIGNATURE_WARNING + 1:
            warnings.warn(
                f"[{self.name}] given {many} signatures, the last with {key[0]!r:.200}, "
                "expected a few, try passing tensors, or numbers that reach no shape",
                RuntimeWarning,
                stacklevel=3,
            )


@final
class _Case:
    """One signature: its recordings, more than one where gradients are full or empty by turns."""

    __slots__ = ("plans",)

    def __init__(self) -> None:
        self.plans: list[_Plan] = []


@final
class _Arguments:
    """The leaves of a call's arguments: tensors, traced numbers, statics, other objects."""

    __slots__ = ("args", "kwargs", "leaves", "structure", "key", "others")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], static: set[int]) -> None:
        self.args, self.kwargs = args, kwargs
        found: tuple[list[Any], Any] = tree.flatten((args, kwargs)) if kwargs else _flat(args)
        self.leaves, self.structure = found
        self.others: list[Any] = []
        key: list[Any] = [self.structure]
        seen: dict[int, int] = {}
        for i, leaf in enumerate(self.leaves):
            kind = type(leaf)
            if kind is Tensor:
                key.append(leaf.value.spec)
                key.append(seen.setdefault(id(leaf), i))
            elif kind is float or kind is int:
                key.append((kind, repr(leaf)) if i in static else kind)
            elif kind is np.ndarray:
                key.append((leaf.shape, leaf.dtype))
            elif kind in (bool, str, type(None), bytes, Dtype) or isinstance(leaf, Enum):
                key.append((kind, leaf))
            else:
                key.append(id(leaf))
                self.others.append(leaf)
        self.key = tuple(key)

    def copies(self) -> tuple[Any, Any, dict[Value, int], dict[Value, int]]:
        """Arguments for a recording: tensors with handles of their own, numbers as 0-d tensors.

        Returns them with the leaf that each value stands for, and which of them are numbers.
        """
        sources: dict[Value, int] = {}
        numbers: dict[Value, int] = {}
        made: dict[int, Tensor] = {}
        leaves = []
        traced = self.key[1:]
        position = 0
        for i, leaf in enumerate(self.leaves):
            kind = type(leaf)
            if kind is Tensor:
                position += 1
                if id(leaf) not in made:
                    made[id(leaf)] = _own_handle(leaf)
                    sources[made[id(leaf)].value] = i
                leaf = made[id(leaf)]
            elif (kind is float or kind is int) and traced[position] is kind:
                value = Value(None, 0, spec((), weak_dtype(leaf), weak=True), leaf)
                sources[value] = numbers[value] = i
                leaf = Tensor(value)
            elif kind is np.ndarray:
                leaf = _tensor_of(leaf)
                sources[leaf.value] = i
            position += 1
            leaves.append(leaf)
        found = tree.unflatten(self.structure, leaves)
        args, kwargs = found if self.kwargs else (found, {})
        return args, kwargs, sources, numbers

    def buffer(self, i: int) -> Any:
        leaf = self.leaves[i]
        if type(leaf) is Tensor:
            return leaf.value.buffer
        if type(leaf) is np.ndarray:
            return _tensor_of(leaf).value.buffer
        return leaf


def _flat(args: tuple[Any, ...]) -> tuple[list[Any], Any]:
    """Positional arguments that are all leaves need no walk through a tree."""
    for a in args:
        if type(a) is not Tensor and type(a) is not float:
            return tree.flatten(args)
    return list(args), _POSITIONAL.setdefault(len(args), tree.flatten(tuple([0] * len(args)))[1])


_POSITIONAL: dict[int, Any] = {}


def _tensor_of(array: Any) -> Tensor:
    """An array given as an argument, copied in."""
    of = spec(array.shape, dtypes.dtype(array.dtype))
    return put(array, of, thread.state.device or default_device())


def _own_handle(tensor: Tensor) -> Tensor:
    """A leaf that requires a gradient is itself (its gradient is state); others get a copy, so
    that a closure over the same tensor is told apart from the argument."""
    v = tensor.value
    if tensor.leaf is not None:
        return tensor
    return Tensor(Value(v.node, v.index, v.spec, v.buffer))


@final
class _Plan:
    """A recording with its inputs and outputs bound to arguments, handles and numbers."""

    __slots__ = (
        "name", "plan", "specs", "from_args", "from_handles", "from_numbers", "constants", "width",
        "results", "structure", "writes", "fills", "confirmed", "key", "wants_grad", "lines",
        "fixed", "single", "slow_writes", "fast_writes", "kept",
    )  # fmt: skip

    def __init__(self, name: str, recording: Recording, sources: dict[Value, int]) -> None:
        self.name = name
        self.confirmed = False
        work, capture = recording.work, recording.capture
        self.key = work.key
        self._bind_inputs(recording, sources)
        self._bind_outputs(recording, sources)
        device = _device_of([v.buffer for v in work.leaves])
        self.plan = find_plan(work, recording.outputs, device) if recording.outputs else None
        self.wants_grad = any(
            type(t) is Tensor and t.value.spec.grad and t.value.node is not None and not t.value.node.spent
            for t in recording.result
        )
        self.lines = {v: n.where for n in reversed(work.nodes) for v in n.inputs if v.node is None}
        self.kept = capture

    def _bind_inputs(self, recording: Recording, sources: dict[Value, int]) -> None:
        self.from_args: list[tuple[int, int]] = []
        self.from_handles: list[tuple[int, Tensor, Spec]] = []
        self.from_numbers: list[tuple[int, Any, Value]] = []
        self.constants: list[tuple[int, Any]] = []
        capture, leaves = recording.capture, recording.work.leaves
        self.width = len(leaves)
        self.fixed: list[Any] = [None] * self.width
        for i, leaf in enumerate(leaves):
            v = capture.source(leaf)
            if v in sources:
                self.from_args.append((i, sources[v]))
            elif v in capture.readers and (h := capture.readers[v]()) is not None:
                self.from_handles.append((i, h, v.spec))
            elif type(v.buffer) in SCALAR_TYPES:
                self.from_numbers.append((i, v.buffer, v))
            else:
                self.constants.append((i, v.buffer))
        for i, b in [*[n[:2] for n in self.from_numbers], *self.constants]:
            self.fixed[i] = b

    def _bind_outputs(self, recording: Recording, sources: dict[Value, int]) -> None:
        slot = {(v.node, v.index): i for i, v in enumerate(recording.outputs)}
        capture = recording.capture

        def place(v: Value) -> tuple[str, Any]:
            if v.buffer is None and v.node is not None:
                return "slot", slot[v.node, v.index]
            source = capture.source(v)
            if source in sources:
                return "arg", sources[source]
            h = capture.readers.get(source)
            return ("handle", h()) if h is not None and h() is not None else ("value", source)

        self.structure = recording.structure
        self.results: list[tuple[str, Any, Any]] = []
        for leaf in recording.result:
            if type(leaf) is Tensor:
                self.results.append((*place(leaf.value), leaf.value.spec))
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
        self.fast_writes = [
            (t, at, of.with_grad() if _stops(t) else of.plain, t.leaf if _stops(t) else None)
            for t, kind, at, of in self.writes
            if kind == "slot" and not isinstance(t, int)
        ]

    # Whether it fits.

    def holds(self) -> bool:
        """Whether gradients are as full as when this was recorded, and state has its specs."""
        for leaf, before, _ in self.fills:
            if leaf.full is not before:
                return False
        for _, h, of in self.from_handles:
            if h.value.spec is not of:
                return False
        return True

    def same_case(self, other: _Plan) -> bool:
        mine = [(id(leaf), before) for leaf, before, _ in self.fills]
        theirs = [(id(leaf), before) for leaf, before, _ in other.fills]
        specs = [of for _, _, of in self.from_handles]
        return mine == theirs and specs == [of for _, _, of in other.from_handles]

    def compare(self, other: _Plan) -> None:
        """The second recording must be the first again; else the first difference is named."""
        for (i, a, _), (j, b, v) in zip(self.from_numbers, other.from_numbers, strict=False):
            if i == j and repr(a) != repr(b):
                where = line_of(other.lines.get(v))
                given = f"a Python number that changed between two calls: {a!r} then {b!r} at {where}"
                raise JitError(message(self.name, given, "a constant", "an argument or a 0-d tensor"))
        if self.key != other.key:
            raise JitError(message(self.name, self._difference(other), "the same operations in each call"))
        if [x[0] for x in self.from_numbers] != [x[0] for x in other.from_numbers]:
            raise JitError(message(self.name, "other inputs in two calls", "the same inputs"))
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
            same = a is b or (type(a) is type(b) and not isinstance(a, Tensor) and repr(a) == repr(b))
            if not same:
                given = f"the result {a!r:.60} then {b!r:.60}"
                raise JitError(message(self.name, given, "results that do not change", "a tensor"))

    def _difference(self, other: _Plan) -> str:
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

    def replay(self, given: _Arguments) -> Any:
        buffers = self.fixed.copy()
        for i, a in self.from_args:
            buffers[i] = given.buffer(a)
        for i, h, _ in self.from_handles:
            buffers[i] = h.value.buffer
        for b in buffers:
            if b is None:
                compute(self._waiting(given))
                return self.replay(given)
        if self.wants_grad and not thread.state.mode & NO_GRAD:
            return self._record_call(given, buffers)
        found = self.plan(buffers) if self.plan is not None else []
        return self._finish_computed(given, found)

    def _out_specs(self) -> Sequence[Spec]:
        return self.plan.graph.output_specs() if self.plan is not None else ()

    def _waiting(self, given: _Arguments) -> list[Value]:
        values = [given.leaves[a].value for _, a in self.from_args if type(given.leaves[a]) is Tensor]
        values += [h.value for _, h, _ in self.from_handles]
        return [v for v in values if v.buffer is None]

    def _record_call(self, given: _Arguments, buffers: list[Any]) -> Any:
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

    def _finish_computed(self, given: _Arguments, found: list[Any]) -> Any:
        """The hot path of `_finish`: state that the program wrote, results that it computed."""
        if self.slow_writes:
            specs = self._out_specs()
            values = [Value(None, 0, s, b) for s, b in zip(specs, found, strict=True)]
            return self._finish(given, values)
        outs = [self._computed(given, kind, at, of, found) for kind, at, of in self.results]
        for tensor, at, of, leaf in self.fast_writes:
            tensor.value = Value(None, 0, of, found[at], leaf)
        for leaf, _, after in self.fills:
            leaf.full = after
        if self.single:
            return outs[0]
        return self._unpacked(outs)

    def _computed(self, given: _Arguments, kind: str, at: Any, of: Spec, found: list[Any]) -> Any:
        if kind == "slot":
            return Tensor(Value(None, 0, of, found[at], SPENT if of.grad else None))
        if kind == "arg":
            return given.leaves[at]
        return at if kind in ("static", "handle") else Tensor(at)

    def _unpacked(self, outs: list[Any]) -> Any:
        result, printed = tree.unflatten(self.structure, outs)
        for values, sep, end in printed:
            print(*values, sep=sep, end=end)
        return result

    def _finish(self, given: _Arguments, values: list[Value]) -> Any:
        """Assigns state, sets which gradients are full, and builds the result."""
        news = [self._value(given, kind, at, values) for _, kind, at, _ in self.writes]
        outs = [self._result(given, kind, at, of, values) for kind, at, of in self.results]
        for (target, _, _, of), v in zip(self.writes, news, strict=True):
            tensor = given.leaves[target] if isinstance(target, int) else target
            _set(tensor, v, of)
        for leaf, _, after in self.fills:
            leaf.full = after
        return self._unpacked(outs)

    def _value(self, given: _Arguments, kind: str, at: Any, values: list[Value]) -> Value:
        if kind == "slot":
            return values[at]
        if kind == "arg":
            return given.leaves[at].value  # type: ignore[no-any-return]
        value: Value = at.value
        return value

    def _result(self, given: _Arguments, kind: str, at: Any, of: Spec, values: list[Value]) -> Any:
        if kind == "slot":
            v = values[at]
            if v.buffer is None:
                return handle(v)
            return Tensor(Value(None, 0, of, v.buffer, SPENT if of.grad else None))
        if kind == "arg":
            return given.leaves[at]
        return at if kind in ("static", "handle") else Tensor(at)


def _set(tensor: Tensor, v: Value, of: Spec) -> None:
    leaf: Leaf | None = tensor.leaf
    if leaf is not None and leaf.stops:
        tensor.value = Value(v.node, v.index, of.with_grad(), v.buffer, leaf)
    else:
        tensor.value = Value(v.node, v.index, v.spec, v.buffer)
    if v.buffer is None:
        from weakref import ref

        thread.state.handles.append(ref(tensor))


def _stops(tensor: Tensor) -> bool:
    return tensor.leaf is not None and tensor.leaf.stops


_ALONE = tree.flatten((0, []))[1]


def _device_of(buffers: Sequence[Any]) -> Any:
    for b in buffers:
        found = getattr(b, "device", None)
        if found is not None:
            return found
    return thread.state.device or default_device()
