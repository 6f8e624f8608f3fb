"""Branches: both sides are recorded, joined, and become one `branch` of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import ref

from proa import tree
from proa.capture.convert import forms
from proa.capture.convert.forms import Fixed, Form
from proa.capture.convert.state import (
    UNBOUND,
    Cell,
    Outcome,
    Place,
    Region,
    leave_unbound,
    run_apart,
    stack,
)
from proa.capture.trace import laid_out
from proa.dtypes import bool_, int32
from proa.errors import JitError, message
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.node import Value, line_of
from proa.graph.rewrite import splice
from proa.graph.spec import Spec
from proa.ops import control
from proa.ops.functions import cast
from proa.ops.movement import reshape
from proa.ops.primitive import apply
from proa.record.live import caller
from proa.tensor import READ_ONLY, Tensor, handle, off_tape, rebind
from proa.transforms.control import rewired


class Slot(NamedTuple):
    """A place whose leaves are joined: each is a spec, or the same on both sides."""

    place: Place
    structure: Any
    targets: tuple[Any, ...]

    @property
    def specs(self) -> list[Spec]:
        return [t for t in self.targets if isinstance(t, Spec)]


def condition(test: Any) -> Any:
    """A tensor of one element as a bool of 0 axes."""
    of = test.value.spec
    if of.size != 1:
        test.__bool__()  # the error that it is without conversion
    if of.shape:
        test = apply(reshape, (test,), shape=())
    return test if of.dtype is bool_ else apply(cast, (test,), dtype=bool_, weak=False)


def branched(
    test: Any, sides: Sequence[Callable[[], Any]], places: Sequence[Place],
    functions: Sequence[Any], what: str, gone: Sequence[bool] = (False, False),
    peeled: bool = False,
) -> list[tuple[Place, list[ref[Tensor]]]]:  # fmt: skip
    """Runs `sides[0]` if the test is true, else `sides[1]`, decided where it is computed. A side
    that is `gone` leaves the function: what it does not define is never read. `peeled`: it is the
    first round of a loop, in whose other rounds what it leaves may be changed in place; it returns
    what `refuse_lost_changes` of the places is to be asked after the loop."""
    line = line_of(caller(2))
    goes = condition(test)
    outcomes = [run_apart(Region(places, functions, what), places, side, tuple) for side in sides]
    _same_places(outcomes)
    slots = [s for key in outcomes[0].ends if (s := _slot(key, outcomes, gone, line)) is not None]
    written = _written(outcomes)
    if not slots and not written:
        return []
    outs: list[Any] = []
    if written or any(s.specs for s in slots):
        outs = apply_branch(goes, [_graph(o, slots, written) for o in outcomes])
    olds = [_olds(s, outcomes) for s in slots]
    made = put(slots, outs)
    for tensor, value in zip(written, outs[len(outs) - len(written) :], strict=True):
        rebind(tensor, value.value)
    del outcomes, written
    if peeled:
        return [(s.place, [t for r in row for t in r]) for s, row in zip(slots, olds, strict=True)]
    refuse_lost_changes(made, [t for row in olds for t in row])
    return []


def _olds(slot: Slot, outcomes: Sequence[Outcome]) -> list[list[ref[Tensor]]]:
    """For each result of a slot: the tensors of before that it is, on one side."""
    rows: list[list[ref[Tensor]]] = [[] for _ in slot.targets]
    for o in outcomes:
        leaves = tree.flatten(o.ends[slot.place.key()][1])[0]
        for row, t in zip(rows, leaves, strict=False):
            if type(t) is Tensor and o.is_old(t):
                row.append(ref(t))
    return [r for r, target in zip(rows, slot.targets, strict=True) if isinstance(target, Spec)]


def refuse_lost_changes(made: Sequence[Tensor], olds: Sequence[Sequence[ref[Tensor]]]) -> None:
    """A result that may be a tensor of before, which somebody holds still, is not changed in
    place: without conversion that one would change with it, sometimes."""
    if stack.regions:
        return  # what a region will put back is held by it
    for tensor, row in zip(made, olds, strict=True):
        if any(r() is not None for r in row):
            tensor.leaf = READ_ONLY


def _same_places(outcomes: Sequence[Outcome]) -> None:
    """What only one side touches is on the other what it was before."""
    for a, b in (outcomes, outcomes[::-1]):
        for key, (place, _) in a.ends.items():
            if key not in b.ends:
                b.ends[key] = place, a.befores[key]
                b.befores[key] = a.befores[key]


def _slot(key: Any, outcomes: Sequence[Outcome], gone: Sequence[bool], line: str) -> Slot | None:
    place, before = outcomes[0].ends[key][0], outcomes[0].befores[key]
    ends = [o.ends[key][1] for o in outcomes]
    if place.dead:
        return None
    if ends[0] is ends[1]:
        if ends[0] is not before:
            place.set(ends[0])
        return None
    missing = [e is UNBOUND for e in ends]
    if any(missing):
        side = missing.index(True)
        if not all(missing) and not isinstance(place, Cell) and not gone[side]:
            rows = ["nothing" if e is UNBOUND else f"{e!r:.40}" for e in ends]
            _refuse(place, outcomes[0].what, rows[0], rows[1], line)
        if all(missing) or not (place.guarded or gone[side]):
            reason = (
                f"{place.words()}, which one side of {outcomes[0].what} at {line} leaves undefined"
            )
            leave_unbound(place, reason)
            return None
        form = forms.form_of(ends[1 - side], outcomes[1 - side].values)
        targets = [_alone(leaf) for leaf in form.leaves]
        return Slot(place, form.structure, tuple(targets))
    a, b = [forms.form_of(e, o.values) for e, o in zip(ends, outcomes, strict=True)]
    if a.structure != b.structure:
        _refuse(place, outcomes[0].what, _kind(ends[0], a), _kind(ends[1], b), line)
    targets = []
    for x, y in zip(a.leaves, b.leaves, strict=True):
        target = forms.joined(x, y)
        if target is None:
            _refuse(place, outcomes[0].what, forms.in_words(x), forms.in_words(y), line)
        targets.append(target)
    return Slot(place, a.structure, tuple(targets))


def _alone(leaf: Any) -> Any:
    return leaf.spec.plain if type(leaf) is Value else Fixed(leaf)


def _kind(end: Any, form: Form) -> str:
    leaf = form.leaves[0] if len(form.leaves) == 1 and form.structure.kind is None else None
    return forms.in_words(leaf) if leaf is not None else f"{form.structure!r:.80}"


def _refuse(place: Place, what: str, a: str, b: str, line: str) -> None:
    given = f"{place.words()} that is {a} on one side and {b} on the other of {what} at {line}"
    hint = "x.astype(...), a value of the same shape on both sides, or pa.where"
    raise JitError(message("convert", given, "the same on both sides", hint))


def _written(outcomes: Sequence[Outcome]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for o in outcomes:
        for tensor, _ in o.writes:
            found.setdefault(id(tensor), tensor)
    return list(found.values())


def _graph(
    outcome: Outcome, slots: Sequence[Slot], written: Sequence[Tensor]
) -> tuple[Graph, list[Value]]:
    """The graph of one side, with its results in their joined specs, and what it captured."""
    leaves: list[Any] = []
    for slot in slots:
        place, end = outcome.ends[slot.place.key()]
        if end is UNBOUND:
            leaves += [t for t in slot.targets if isinstance(t, Spec)]
            continue
        form = forms.form_of(end, outcome.values)
        leaves += [x for x, t in zip(form.leaves, slot.targets, strict=True) if isinstance(t, Spec)]
    ends = {id(t): v for t, v in outcome.writes}
    leaves += [ends.get(id(t), t.value) for t in written]
    targets = [*[s for slot in slots for s in slot.specs], *[t.value.spec.plain for t in written]]
    return cast_graph(outcome, (), leaves, targets)


def cast_graph(
    outcome: Outcome, placeholders: Sequence[Value], leaves: Sequence[Any], targets: Sequence[Spec]
) -> tuple[Graph, list[Value]]:
    """A recording as a graph whose results have these specs. A leaf that is a spec is nothing."""
    values = [forms.as_value(x) for x in leaves if not isinstance(x, Spec)]
    graph, captured = laid_out(outcome.recording, placeholders, values)
    builder = Builder(graph.inputs)
    with use_sink(builder):
        rest = iter(splice(builder, graph, builder.input_values()))
        outs = [
            forms.nothing(x) if isinstance(x, Spec) else forms.cast_leaf(next(rest), t)
            for x, t in zip(leaves, targets, strict=True)
        ]
        return builder.graph([o.value for o in outs]), captured


def joined_inputs(
    rows: Sequence[tuple[Graph, list[Value]]], count: int = 0
) -> tuple[list[Graph], list[Value]]:  # fmt: skip
    """Graphs that take all that any of them captured, in front of their first `count` inputs."""
    number: dict[Value, int] = {}
    for _, captured in rows:
        for v in captured:
            number.setdefault(v, len(number))
    made = []
    for graph, captured in rows:
        specs = [*[v.spec.plain for v in number], *[i.spec for i in graph.inputs[:count]]]
        at = [-1] * len(number) + list(range(count))
        for i, v in enumerate(captured, count):
            at[number[v]] = i
        made.append(rewired(graph, specs, at))
    return made, list(number)


def apply_branch(goes: Any, rows: Sequence[tuple[Graph, list[Value]]]) -> list[Any]:
    """One `branch`; the first graph is the one for true."""
    index = apply(cast, (goes,), dtype=int32, weak=False)
    graphs, captured = joined_inputs(rows)
    outs = apply(control.branch, [index, *captured], graphs=tuple(graphs[::-1]))
    return list(outs) if isinstance(outs, tuple) else [outs]


def put(slots: Sequence[Slot], outs: Sequence[Any]) -> list[Tensor]:
    """Results into their places; returns those that are tensors."""
    found = [_as_tensor(o) for o in outs[: sum(len(s.specs) for s in slots)]]
    rest = iter(found)
    for slot in slots:
        leaves = [next(rest) if isinstance(t, Spec) else _fixed(t.what) for t in slot.targets]
        slot.place.set(forms.filled(slot.structure, leaves))
    return found


def _fixed(what: Any) -> Any:
    return handle(what) if type(what) is Value else what


def _as_tensor(out: Any) -> Any:
    """A result; what stands for a Python number is off the tape, as one is."""
    made = out if type(out) is Tensor else handle(out.value)
    of = made.value.spec
    return off_tape(made) if of.weak and of.grad else made
