"""A Python function as a template: recorded at several sizes, which are compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple, final

from proa.capture.convert import converted
from proa.capture.trace import Traced, trace
from proa.errors import ArgumentError, DtypeError, ExportError, message
from proa.exports.names import Names
from proa.exports.operations import stable
from proa.exports.signature import Form, Signature, dims_of, form_of
from proa.exports.sizes import fitted, limits
from proa.graph.build import Builder
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph, Input, Role
from proa.graph.node import SCALAR_TYPES, Value
from proa.graph.rewrite import rebuild, splice
from proa.graph.spec import Spec
from proa.graph.spec import spec as interned
from proa.graph.template import Sizes, Template
from proa.ops.control import scan
from proa.shapes import Dim
from proa.substitution import Holder
from proa.tensor import Tensor


@final
class Weight(NamedTuple):
    """A tensor that the function reads: its name, its value, and what it is."""

    name: str
    value: Value
    role: Role


@final
class Recorded(NamedTuple):
    """All that is stored of a function."""

    signature: Signature
    template: Template
    weights: list[Weight]
    points: tuple[Sizes, ...]


def recorded(function: Callable[..., Any], specs: Any, sizes: Mapping[str, Any]) -> Recorded:
    """The function's template. `sizes`: examples of the sizes of some dims, three or more."""
    if not callable(function):
        raise DtypeError(message("export", f"{function!r:.60}", "a function or a module"))
    recorder = _Recorder(function, *_arguments(function, specs))
    dims = recorder.dims
    unknown = [n for n in sizes if n not in dims]
    if unknown:
        given = f"sizes of {', '.join(map(repr, unknown))}"
        raise ArgumentError(message("export", given, f"of the dims {list(dims)}"))
    template, points = fitted(recorder, sizes)
    bounds = {d: limits(recorder, template, points, i) for i, d in enumerate(dims)}
    last = recorder.last
    signature = Signature(recorder.name, recorder.positional, recorder.arguments, last.form, bounds)
    return Recorded(signature, template, last.weights, points)


# The arguments.


def _arguments(
    function: Callable[..., Any], specs: Any
) -> tuple[str, int, tuple[tuple[str, Form], ...], bool]:  # fmt: skip
    """The function's name, how many of its arguments may be given by position, their names and
    forms, and whether they are to be given by name."""
    names, positional = _names(function)
    by_name = isinstance(specs, Mapping)
    rows: list[tuple[str, Any]]
    if by_name:
        order = [n for n in names if n in specs] + [n for n in specs if n not in names]
        rows = [(name, specs[name]) for name in order]
        several = 0
        while several < len(order) and names[several : several + 1] == [order[several]]:
            several += 1
        positional = min(positional, several)
    elif isinstance(specs, (list, tuple)) and not hasattr(specs, "_fields"):
        more = [f"argument_{i}" for i in range(len(names), len(specs))]
        rows = list(zip([*names, *more], specs, strict=False))
        positional = len(rows)
    else:
        given, hint = f"specs of type {type(specs).__name__}", "[pa.spec(...)]"
        raise DtypeError(message("export", given, "a list with one for each argument", hint))
    leaves: list[Any] = []
    forms = tuple([(name, form_of("export", name, tree, leaves)) for name, tree in rows])
    kind = function if hasattr(function, "__name__") else type(function)
    return str(getattr(kind, "__name__", "function")), positional, forms, by_name


def _names(function: Any) -> tuple[list[str], int]:
    """Names of the arguments that may be given by position, and how many they are."""
    try:
        called: Any = getattr(function, "forward", None) if isinstance(function, Holder) else None
        rows = list(inspect.signature(called or function).parameters.values())
    except (TypeError, ValueError):
        return [], 0
    own = [p.name for p in rows if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return own + [p.name for p in rows if p.kind is p.KEYWORD_ONLY], len(own)


# Recording.


@final
class _Once(NamedTuple):
    """One recording: its graph in operations that files may hold, its result, what it read."""

    graph: Graph
    form: Form
    weights: list[Weight]


@final
class _Recorder:
    """Records the function at given sizes. What it reads from outside must be the same always."""

    __slots__ = ("function", "called", "name", "positional", "arguments", "by_name", "dims",
                 "known", "last", "first")  # fmt: skip

    def __init__(
        self, function: Any, name: str, positional: int,
        arguments: tuple[tuple[str, Form], ...], by_name: bool,
    ) -> None:  # fmt: skip
        self.function = function
        self.called = converted(function)
        self.name = name
        self.positional = positional
        self.arguments = arguments
        self.by_name = by_name
        self.dims = tuple(dims_of([form for _, form in arguments]))
        self.known: dict[Sizes, _Once] = {}
        self.first: _Once | None = None

    def graph(self, sizes: Sizes) -> Graph:
        return self.at(sizes).graph

    def at(self, sizes: Sizes) -> _Once:
        if sizes not in self.known:
            self.known[sizes] = self._recorded(dict(zip(self.dims, sizes, strict=True)))
            self.last = self.known[sizes]
        return self.known[sizes]

    def _recorded(self, sizes: dict[str, int]) -> _Once:
        specs = [_sized(of, sizes) for _, form in self.arguments for of in form.specs()]
        graded = [s.with_grad() if s.dtype.is_inexact else s for s in specs]
        results: list[Form] = []

        def run(*given: Tensor) -> Any:
            rest = iter(given)
            trees = {name: form.filled(rest) for name, form in self.arguments}
            if self.by_name:
                found = self.called(**trees)
            else:
                found = self.called(*trees.values())
            leaves: list[Any] = []
            results.append(form_of("export", "the result", found, leaves))
            return leaves

        traced = trace("export", run, graded, refuse=self._refuse)
        weights = self._weights(traced)
        once = _Once(stable(_pruned(_laid(traced, len(specs), weights))), results[-1], weights)
        self._compare(once, sizes)
        return once

    def _refuse(self, written: list[Tensor]) -> None:
        """Names the state that a call would change."""
        names = Names(self.function)
        found = [names.of(t.value, t) or "a tensor from outside" for t in written]
        kinds = f"{found[0]} and {len(found) - 1} more" if len(found) > 1 else "".join(found)
        hint = "model.eval(), or a function that takes the state and returns it"
        given = f"an assignment to {kinds or 'a gradient'}"
        raise ExportError(message("export", given, "a function that changes no state", hint))

    def _weights(self, traced: Traced) -> list[Weight]:
        """What was read from outside, with names; numbers are none, they become constants."""
        names, used = Names(self.function), count()
        found: list[Weight] = []
        taken: set[str] = set()
        for v in traced.captured:
            if type(v.buffer) in SCALAR_TYPES:
                continue
            name = names.of(v) or f"captured.{next(used)}"
            while name in taken:
                name = f"captured.{next(used)}"
            taken.add(name)
            is_parameter = v.leaf is not None and v.leaf.stops
            found.append(Weight(name, v, Role.PARAMETER if is_parameter else Role.STATE))
        return found

    def _compare(self, once: _Once, sizes: dict[str, int]) -> None:
        """Nothing but sizes may differ from the first recording."""
        if self.first is None:
            self.first = once
            return
        first = self.first
        kept = [w.name for w in first.weights], [v.value.spec for v in first.weights]
        if ([w.name for w in once.weights], [v.value.spec for v in once.weights]) != kept:
            given = f"tensors from outside that depend on the sizes {sizes}"
            hint = "making them with pa.arange, pa.zeros, ... of x.shape"
            raise ExportError(message("export", given, "the same at all sizes", hint))
        for a, b in zip(first.weights, once.weights, strict=True):
            if a.value is not b.value and not _equal(a.value, b.value):
                given = f"the tensor {a.name} with other numbers at the sizes {sizes}"
                hint = "making it with pa.arange, pa.zeros, ... of x.shape"
                raise ExportError(message("export", given, "the same at all sizes", hint))
        if _flat(once.form) != _flat(first.form):
            given = f"a result {once.form!r:.200} at the sizes {sizes}"
            raise ExportError(message("export", given, f"one such as {first.form!r:.200}"))


def _flat(form: Form) -> Any:
    """A form without the specs of its tensors."""
    held = None if form.kind == "tensor" else (type(form.held), form.held)
    return form.kind, form.keys, held, [_flat(p) for p in form.parts]


def _equal(a: Value, b: Value) -> bool:
    x, y = Tensor(a).numpy(), Tensor(b).numpy()
    return bool(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes())


def _sized(of: Spec, sizes: dict[str, int]) -> Spec:
    shape: tuple[Any, ...] = of.shape
    return interned(tuple([sizes[n.name] if type(n) is Dim else n for n in shape]), of.dtype)


def _laid(traced: Traced, given: int, weights: list[Weight]) -> Graph:
    """The graph with the weights behind the arguments, and numbers as constants."""
    graph = traced.graph
    roles = [*[Role.DATA] * given, *[w.role for w in weights]]
    specs = [*graph.input_specs()[:given], *[w.value.spec.plain for w in weights]]
    builder = Builder([Input(s, r) for s, r in zip(specs, roles, strict=True)])
    values = builder.input_values()
    place = {w.value: values[given + i] for i, w in enumerate(weights)}
    inputs = values[:given] + [
        builder.number(v.buffer, v.spec.plain) if v not in place else place[v]
        for v in traced.captured
    ]
    return builder.graph(splice(builder, graph, inputs))


def _pruned(graph: Graph) -> Graph:
    """Scans stack only what is read of them. (Where a gradient was possible they stack more.)"""
    used = {s for step in graph.steps for s in step.slots} | set(graph.outputs)
    rows: dict[int, int] = {}
    slot = graph.first_step_slot
    for step in graph.steps:
        outs = len(step.entry.outs)
        if step.entry.primitive is scan:
            carry = step.entry.params[4]
            rows[slot] = max([carry, *[i + 1 for i in range(carry, outs) if slot + i in used]])
        slot += outs
    if not rows:
        return graph
    place = iter(rows.values())

    def rule(builder: Builder, step: Any, operands: tuple[Value, ...]) -> Any:
        if step.entry.primitive is not scan:
            return None
        kept, (body, *rest) = next(place), step.entry.params
        if kept == len(step.entry.outs):
            return None
        inner = rebuild(
            Graph(body.inputs, body.steps, body.outputs[:kept], body.constants), lambda *_: None
        )
        again = builder.emit(_entry(step.entry, (inner, *rest)), operands)
        return (*again, *[None] * (len(step.entry.outs) - kept))

    return rebuild(graph, rule)


def _entry(of: Entry, params: tuple[Any, ...]) -> Entry:
    return intern_entry(of.primitive.table, of.primitive, params, of.ins)
