"""Composites: named graphs, and the expansion of an entry into the operations it stands for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

from proa.graph.build import Builder, use_sink
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.rewrite import splice, sweep
from proa.graph.spec import Spec, spec
from proa.ops.factors import FactorMap, whole
from proa.ops.primitive import Family, Primitive
from proa.shapes import Shape


def expansion(entry: Entry) -> Graph | None:
    """The graph that a composite or a call stands for; None for a primitive."""
    expand = entry.primitive.expand
    if expand is None:
        return None
    if expand == "graph":
        graph: Graph = entry.params[0]
        return graph
    return _expanded(entry.primitive, tuple([s.plain for s in entry.ins]), entry.named_params)


def _expanded(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Graph:
    key = (tuple(params.values()), ins)
    cached: Graph | None = primitive.expansions.get(key)
    if cached is not None:
        return cached
    builder = Builder()
    with use_sink(builder):
        operands = [builder.input(s) for s in ins]
        outs = primitive.expand(*operands, **params)
    outs = outs if isinstance(outs, tuple) else (outs,)
    graph = builder.graph(outs)
    primitive.expansions[key] = graph
    return graph


def expanded_specs(
    primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]
) -> Any:  # fmt: skip
    """What the expansion gives; its errors where operands or parameters are not those it takes."""
    return _expanded(primitive, ins, params).output_specs()


def _factors(op: str, ins: tuple[Spec, ...], **params: Any) -> FactorMap:
    """Nothing is known from outside: the expansion's own maps tell."""
    return whole(ins)


COMPOSITE = Family("composite", _factors, None)


def composite(
    name: str, expand: Callable[..., Any], shape: Callable[..., Shape] | None = None, **fields: Any
) -> Primitive:  # fmt: skip
    """Declares a composite: `expand(operands..., **params)` is its definition.

    `pullback(operands, results, cts, **params)`, if given, is its derivative: the cotangents of
    its operands (None where there is none). Without it the expansion is differentiated.
    `shape(specs..., **params)`, if given, tells the shape of its one result, which has the dtype
    of the first operand: sooner than by expanding it, which a new size needs for nothing else.
    """
    rule = expanded_specs if shape is None else partial(_told, shape)
    return Primitive(name, COMPOSITE, expand=expand, rule=rule, **fields)


def _told(
    shape: Callable[..., Shape], primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]
) -> Any:  # fmt: skip
    first = ins[0]
    if first.weak or not first.dtype.is_float:
        return expanded_specs(primitive, ins, params)
    return spec(shape(*ins, **params), first.dtype)


@final
class Flattener:
    """A sink that inlines composites and calls into a Builder: only primitives reach it, and what
    `keeps` wants whole."""

    watching = False
    __slots__ = ("builder", "keeps")

    def __init__(
        self, builder: Builder, keeps: Callable[[Entry], bool] = lambda entry: entry.primitive.whole
    ) -> None:
        self.builder = builder
        self.keeps = keeps

    def emit(self, entry: Entry, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        graph = None if self.keeps(entry) else expansion(entry)
        if graph is None:
            return self.builder.emit(entry, inputs)
        return tuple(splice(self, graph, inputs))

    def place(self, scope: str, where: Any) -> None:
        self.builder.place(scope, where)

    def lift(self, value: Any) -> Any:
        return self.builder.lift(value)

    def watch(self, handle: Any) -> None:
        """Handles are of no interest to a graph."""

    def number(self, number: Any, of: Spec) -> Any:
        return self.builder.number(number, of)

    def constant(self, array: Any, of: Spec) -> Any:
        return self.builder.constant(array, of)


def nothing(entry: Entry) -> bool:
    """Keeps no composite whole."""
    return False


def flat(
    graph: Graph, merge: bool = True,
    keeps: Callable[[Entry], bool] = lambda entry: entry.primitive.whole,
) -> Graph:  # fmt: skip
    """The same function in primitives only, and in what `keeps` wants whole: unless a backend is
    asked, what any of them may claim."""
    builder = Builder(graph.inputs, merge)
    sink = Flattener(builder, keeps)

    def again(step: Any, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        builder.scope, builder.where = step.scope, step.where
        return sink.emit(step.entry, operands)

    with use_sink(sink):
        constants = [builder.constant(c.array, c.spec) for c in graph.constants]
        slots = sweep(graph, builder.input_values(), again, constants)
    return builder.graph([slots[o] for o in graph.outputs])
