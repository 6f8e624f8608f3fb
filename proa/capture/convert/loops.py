"""Loops: one round is recorded on placeholders until the state keeps its form; then the loop is
one `loop` or `scan` of the graph.

What is carried from round to round: places whose contents change, and tensors that are written
into. A tensor that no round replaces or writes is read from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final
from weakref import ref

from proa import tree
from proa.capture.control import kept
from proa.capture.convert import forms
from proa.capture.convert.branches import (
    Slot,
    apply_branch,
    cast_graph,
    condition,
    joined_inputs,
    put,
    refuse_lost_changes,
)
from proa.capture.convert.forms import Fixed
from proa.capture.convert.state import (
    UNBOUND,
    Box,
    Outcome,
    Place,
    Region,
    Unfixed,
    leave_unbound,
    run_apart,
)
from proa.capture.trace import placeholder
from proa.dtypes import bool_
from proa.errors import JitError, message
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.node import Value, line_of
from proa.graph.rewrite import splice
from proa.graph.spec import Spec, spec
from proa.ops import control
from proa.ops.primitive import apply
from proa.record.live import NO_GRAD, caller, thread
from proa.tensor import Tensor, rebind

_ROUNDS = 12
Test = Callable[[], Any]


class Peel(Exception):
    """The first round changes a tensor in place and then replaces it: it differs from the rest."""


@final
class _Carry:
    """What is carried: slots with the specs of their leaves, and tensors that are written into."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
        self.slots: dict[Any, Slot] = {}
        self.first: dict[Any, Any] = {p.key(): p.get() for p in places}
        self.written: list[Tensor] = []
        for p in places:
            self._numbers(p)

    def _numbers(self, place: Place) -> None:
        """Numbers are carried from the start; tensors once a round replaces them."""
        first = self.first[place.key()]
        if forms.is_number(first) or (type(first) is Tensor and first.value.spec.weak):
            self.carry(place, first)

    def add(self, place: Place, first: Any) -> None:
        self.places.append(place)
        self.first[place.key()] = first
        self._numbers(place)

    def carry(self, place: Place, found: Any) -> None:
        form = forms.form_of(found, {})
        targets = [forms.spec_of(x) or Fixed(x) for x in form.leaves]
        self.slots[place.key()] = Slot(place, form.structure, tuple(targets))

    @property
    def specs(self) -> list[Spec]:
        found = [s for slot in self.slots.values() for s in slot.specs]
        return found + [t.value.spec.plain for t in self.written]

    def start(self) -> list[Any]:
        """The values before the first round, in their specs."""
        found: list[Any] = []
        for key, slot in self.slots.items():
            first = self.first[key]
            if first is UNBOUND:
                found += [forms.nothing(s) for s in slot.specs]
                continue
            leaves = forms.form_of(first, {}).leaves
            rows = zip(leaves, slot.targets, strict=True)
            found += [_started(x, t) for x, t in rows if isinstance(t, Spec)]
        return found + list(self.written)


def _started(leaf: Any, target: Spec) -> Any:
    if forms.is_number(leaf):
        return Value(None, 0, target, leaf)
    return forms.cast_leaf(leaf, target)


@final
class _Round:
    """A run on placeholders. `set` puts them where they belong, inside of the recording."""

    def __init__(self, carry: _Carry, extra: Sequence[Spec] = ()) -> None:
        graded = not thread.state.mode & NO_GRAD
        self.extra = [placeholder(_on_tape(s, graded)) for s in extra]
        self.held: dict[Any, Any] = {}
        self.values: list[Value] = []
        self.old = [(t, t.value) for t in carry.written]
        self.tensors: list[Tensor] = []
        for key, slot in carry.slots.items():
            made = [placeholder(_on_tape(s, graded)) for s in slot.specs]
            handles = [Tensor(v) for v in made]
            rest = iter(handles)
            leaves = [next(rest) if isinstance(t, Spec) else _plain(t.what) for t in slot.targets]
            self.held[key] = slot.place, forms.filled(slot.structure, leaves)
            self.values += made
            self.tensors += handles
        self.own = [placeholder(_like(t, graded), t.leaf) for t in carry.written]
        self.carry = carry

    def set(self) -> None:
        for place, held in self.held.values():
            place.set(held)
        for t, v in zip(self.carry.written, self.own, strict=True):
            t.value = v

    def run(self, what: str, functions: Any, body: Callable[[], Any], result: Any) -> Outcome:
        region = Region(self.carry.places, functions, what)

        def inside() -> None:
            self.set()
            body()

        try:
            return run_apart(region, self.carry.places, inside, result)
        finally:
            for t, v in self.old:
                t.value = v

    @property
    def inputs(self) -> list[Value]:
        return [*self.values, *self.own, *self.extra]


def _on_tape(of: Spec, graded: bool) -> Spec:
    return of.with_grad() if graded and of.dtype.is_inexact and not of.weak else of


def _like(tensor: Tensor, graded: bool) -> Spec:
    if tensor.leaf is not None and tensor.leaf.stops:
        return tensor.value.spec
    return _on_tape(tensor.value.spec.plain, graded)


def _plain(what: Any) -> Any:
    return Tensor(what) if type(what) is Value else what


class _Settled(NamedTuple):
    """A body that keeps its form, recorded: its graph, what it captured, and names it leaves."""

    carry: _Carry
    graph: Graph
    captured: list[Value]
    unbound: list[Place]


def _settled(
    places: Sequence[Place], functions: Any, body: Callable[..., Any], what: str, line: str,
    extra: Sequence[Spec] = (), sure: bool = False, again: bool = False,
) -> _Settled:  # fmt: skip
    """Records the body until what it leaves has the form of what it was given.

    `extra` are specs of what each round is given beside its state; `sure`: there is a first round,
    so that what only rounds define is defined; `again`: the first round was peeled off.
    """
    carry = _Carry(places)
    for _ in range(_ROUNDS):
        turn = _Round(carry, extra)
        given = [Tensor(v) for v in turn.extra]
        outcome = turn.run(what, functions, lambda g=given: body(*g), tuple)  # type: ignore[misc]
        unbound: list[Place] = []
        if _fits(carry, turn, outcome, unbound, line, sure, again):
            leaves = _leaves(carry, turn, outcome)
            graph, captured = cast_graph(outcome, turn.inputs, leaves, carry.specs)
            return _Settled(carry, graph, captured, unbound)
    given_ = f"state that takes another form in each round of {what} at {line}"
    raise Unfixed(message("convert", given_, "one form", "a value of that form before the loop"))


def _fits(
    carry: _Carry, turn: _Round, outcome: Outcome, unbound: list[Place], line: str, sure: bool,
    again: bool,
) -> bool:  # fmt: skip
    """Whether the state came out as it went in; else what is carried is changed."""
    same = True
    fresh = {id(t) for t in turn.tensors}
    replaced: set[int] = set()
    for key, (place, end) in outcome.ends.items():
        if key not in carry.first:
            carry.add(place, outcome.befores[key])
            same = False
            continue
        first = carry.first[key]
        held = turn.held[key][1] if key in turn.held else first
        if end is held:
            continue
        if end is UNBOUND or (first is UNBOUND and not (place.guarded or sure)):
            unbound.append(place)
            continue
        if type(held) is Tensor:
            replaced.add(id(held))
        same = _meets(carry, place, end, outcome, line) and same
    known = {id(t) for t in carry.written}
    for tensor, _ in outcome.writes:
        if id(tensor) in fresh or id(tensor) in known:
            if id(tensor) in fresh and not again:
                raise Peel
            continue
        if id(tensor) in replaced:
            if not again:
                raise Peel
            continue
        carry.written.append(tensor)
        same = False
    if replaced & known and not again:
        raise Peel
    return same


def _meets(carry: _Carry, place: Place, end: Any, outcome: Outcome, line: str) -> bool:
    """Joins what a round leaves in a place with what it was given there."""
    key = place.key()
    form = forms.form_of(end, outcome.values)
    slot = carry.slots.get(key)
    if slot is None:
        first = carry.first[key]
        carry.carry(place, end if first is UNBOUND else first)
        if first is UNBOUND:
            targets = [x.spec.plain if type(x) is Value else forms.spec_of(x) or Fixed(x)
                       for x in form.leaves]  # fmt: skip
            carry.slots[key] = Slot(place, form.structure, tuple(targets))
            return False
        slot = carry.slots[key]
        _join(carry, slot, form, outcome, line)
        return False
    return _join(carry, slot, form, outcome, line)


def _join(carry: _Carry, slot: Slot, form: Any, outcome: Outcome, line: str) -> bool:
    place = slot.place
    if slot.structure != form.structure:
        _refuse(place, outcome.what, f"{slot.structure!r:.60}", f"{form.structure!r:.60}", line)
    targets = []
    for had, leaf in zip(slot.targets, form.leaves, strict=True):
        start = had.what if isinstance(had, Fixed) else had
        target = forms.joined(start, leaf)
        if target is None:
            _refuse(place, outcome.what, forms.in_words(start), forms.in_words(leaf), line)
        targets.append(target)
    carry.slots[place.key()] = Slot(place, slot.structure, tuple(targets))
    return tuple(targets) == slot.targets


def _refuse(place: Place, what: str, a: str, b: str, line: str) -> None:
    given = f"{place.words()} that is {a} before a round and {b} after it, in {what} at {line}"
    hint = "a tensor of that shape and dtype before the loop, x.astype(...), or a Python range"
    raise Unfixed(message("convert", given, "the same in every round", hint))


def _leaves(carry: _Carry, turn: _Round, outcome: Outcome) -> list[Any]:
    """What a round leaves, leaf by leaf, in the order of the carry."""
    found: list[Any] = []
    for key, slot in carry.slots.items():
        end = outcome.ends[key][1] if key in outcome.ends else turn.held[key][1]
        leaves = forms.form_of(end, outcome.values).leaves
        rows = zip(leaves, slot.targets, strict=True)
        found += [x for x, t in rows if isinstance(t, Spec)]
    ends = {id(t): v for t, v in outcome.writes}
    rest = zip(carry.written, turn.own, strict=True)
    return found + [ends.get(id(t), v) for t, v in rest]


def _tested(carry: _Carry, test: Test, functions: Any, what: str, line: str) -> Any:
    """The graph of a test on the carry, and what it captured."""
    turn = _Round(carry)
    box = Box()

    def run() -> None:
        found = test()
        box.set(condition(found) if type(found) is Tensor else bool(found))

    outcome = turn.run(what, functions, run, lambda: tree_of(box))
    if outcome.writes:
        given = f"a test that changes a tensor, of {what} at {line}"
        hint = "while True: with `if ...: break` inside"
        raise JitError(message("convert", given, "a test without effects", hint))
    leaf = forms.form_of(box.get(), outcome.values).leaves[0]
    return cast_graph(outcome, turn.inputs, [leaf], [spec((), bool_)])


def tree_of(box: Box) -> list[Tensor]:
    found = box.get()
    return [found] if type(found) is Tensor else []


# Loops in the graph.


def looped(
    test: Test, body: Callable[[], Any], places: Sequence[Place], functions: Any, what: str,
    most: int | None = None, again: bool = False, line: str = "",
) -> None:  # fmt: skip
    """Runs `body` while the test is true, decided where it is computed. `most`: there are at most
    so many rounds, which is enough for reverse mode."""
    line = line or line_of(caller(2))
    settled = _settled(places, functions, body, what, line, again=again)
    carry = settled.carry
    if not carry.specs:
        given = f"{what} at {line} whose test never changes"
        raise JitError(message("convert", given, "state that changes in the loop"))
    goes = _tested(carry, test, functions, what, line)
    rows = [goes, (settled.graph, settled.captured)]
    start = carry.start()
    count = len(carry.specs)
    (decides, step), captured = joined_inputs(rows, count)
    if most is not None and _wants_gradient([*captured, *start]):
        step = _guarded(decides, step, len(captured))
        outs = _scan(step, captured, start, [], most)
    else:
        outs = _many(apply(control.loop, [*captured, *start], condition=decides, body=step))
    _finish(settled, outs, what, line)


def scanned(
    keep: Test | None, body: Callable[[Any], Any], rows: Any, places: Sequence[Place],
    functions: Any, what: str, again: bool = False,
) -> None:  # fmt: skip
    """Runs `body` for each row of a tensor, for as long as `keep` is true."""
    line = line_of(caller(2))
    of = rows.value.spec
    extra = [control.row_of(of.plain)]
    settled = _settled(places, functions, body, what, line, extra, sure=of.shape[0] > 0,
                       again=again)  # fmt: skip
    carry, count = settled.carry, len(settled.carry.specs)
    step, captured = settled.graph, settled.captured
    if keep is None:
        (step,), captured = joined_inputs([(step, captured)], count + 1)
    else:
        goes, more = _tested(carry, keep, functions, what, line)
        goes = _with_input(goes, extra[0], count)
        (decides, step), captured = joined_inputs([(goes, more), (step, captured)], count + 1)
        step = _guarded(decides, step, len(captured))
    outs = _scan(step, captured, carry.start(), [rows], of.shape[0]) if count else []
    _finish(settled, outs, what, line)


def _with_input(graph: Graph, of: Spec, at: int) -> Graph:
    """The graph with one more input, which it does not read."""
    builder = Builder()
    specs = [i.spec for i in graph.inputs]
    inputs = [builder.input(s) for s in [*specs[:at], of, *specs[at:]]]
    with use_sink(builder):
        return builder.graph(splice(builder, graph, [*inputs[:at], *inputs[at + 1 :]]))


def _guarded(decides: Graph, step: Graph, first: int) -> Graph:
    """A round that leaves the carry as it is where the test is false."""
    builder = Builder(step.inputs)
    with use_sink(builder):
        inputs = builder.input_values()
        (goes,) = splice(builder, decides, inputs)
        same = Builder(step.inputs)
        carried = same.input_values()[first : first + len(step.outputs)]
        rows = [(step, inputs), (same.graph(carried), inputs)]
        outs = apply_branch(goes, rows)
        return builder.graph([o.value for o in outs])


def _scan(step: Graph, captured: Any, start: Any, xs: Any, length: int) -> list[Any]:
    operands = [*captured, *start, *xs]
    params = (step, length, False, len(captured), len(start))
    outs = _many(apply(control.scan, operands, **kept(params, operands)))
    return outs[: len(start)]


def _wants_gradient(operands: Sequence[Any]) -> bool:
    graded = any(o.value.spec.grad for o in operands)
    return graded and not thread.state.mode & NO_GRAD


def _many(outs: Any) -> list[Any]:
    return list(outs) if isinstance(outs, tuple) else [outs]


def _finish(settled: _Settled, outs: Sequence[Any], what: str, line: str) -> None:
    carry = settled.carry
    slots = list(carry.slots.values())
    olds = [row for slot in slots for row in _olds(slot, carry.first[slot.place.key()])]
    made = put(slots, outs)
    values = outs[len(outs) - len(carry.written) :] if carry.written else []
    for tensor, out in zip(carry.written, values, strict=True):
        rebind(tensor, out.value)
    carry.first.clear()
    refuse_lost_changes(made, olds)
    for place in settled.unbound:
        reason = f"{place.words()}, which only a round of {what} at {line} defines"
        leave_unbound(place, reason)


def _olds(slot: Slot, first: Any) -> list[list[ref[Tensor]]]:
    """For each result of a slot, the tensor that it is where no round runs."""
    rows = zip(tree.flatten(first)[0], slot.targets, strict=False)
    found = [[ref(t)] if type(t) is Tensor else [] for t, of in rows if isinstance(of, Spec)]
    return found or [[] for _ in slot.specs]
