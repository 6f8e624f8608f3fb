"""`keep` and `call`: operations about the graph itself."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, message
from proa.graph.graph import Graph
from proa.graph.spec import Spec
from proa.ops.factors import FactorMap, passing, whole
from proa.ops.primitive import ANY, Family, Primitive, Sample, apply


def _keep_factors(op: str, ins: tuple[Spec, ...], number: int) -> FactorMap:
    return passing(ins[0].shape)


def _keep_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    return apply(primitive, operands, **params)


keep: Primitive = Primitive(
    "keep", Family("opaque", _keep_factors, _keep_batch), params=("number",), core=True,
    meaning=lambda x, number: x, linear=(0,), cost=0,
    transpose=lambda entry, cts, operands, index: apply(keep, cts, number=entry.params[0]),
    samples=[Sample(((2, 3),), {"number": 0})],
    doc="x itself. Each application has a number of its own: two are never merged, nothing is "
    "folded or merged across one.",
)  # fmt: skip


def _call_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    graph: Graph = params["graph"]
    expected = graph.input_specs()
    if tuple([s.plain for s in ins]) != expected:
        raise ArgumentError(message("call", f"operands {ins}", f"{expected}"))
    return graph.output_specs()


def _call_factors(op: str, ins: tuple[Spec, ...], graph: Graph) -> FactorMap:
    return whole(ins, graph.output_specs())


call = Primitive(
    "call", Family("opaque", _call_factors, None), params=("graph",), accepts=ANY,
    core=True, rule=_call_rule, expand="graph",
    doc="A graph applied to operands; inlined before a backend is asked, unless it claims it.",
)  # fmt: skip
