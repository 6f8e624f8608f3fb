"""Control flow: operations whose parameters are graphs, which a backend runs itself.

| primitive | operands | results |
| --- | --- | --- |
| branch | index (int32, of 0 axes), what every graph takes | those of the graph at the index |
| loop | constants, carry | carry, when the condition gives False |
| scan | constants, carry, xs (each with the steps in front) | carry, ys stacked likewise |

A graph's inputs stand in the same order; of xs it takes one row. What the graphs read from outside
are operands, so that nothing is hidden in a parameter. Derivatives and batching are in
`transforms/control.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from proa.dtypes import bool_, int32
from proa.errors import ArgumentError, message
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph, graphs_in
from proa.graph.spec import Spec, spec
from proa.ops.factors import FactorMap, whole
from proa.ops.primitive import ANY, Family, Primitive


def _factors(op: str, ins: tuple[Spec, ...], **params: Any) -> FactorMap:
    """Nothing is known from outside: the graphs' own maps tell."""
    return whole(ins)


CONTROL: Final = Family("control", _factors, None)


def _need(op: str, what: str, given: Sequence[Spec], expected: Sequence[Spec]) -> None:
    if tuple(given) != tuple(expected):
        raise ArgumentError(message(op, f"{what} {tuple(given)}", f"{tuple(expected)}"))


def row_of(stack: Spec) -> Spec:
    """What one step of a scan sees of xs."""
    return spec(stack.shape[1:], stack.dtype, stack.weak, stack.grad)


def _branch_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    graphs: tuple[Graph, ...] = params["graphs"]
    if not graphs or not ins:
        raise ArgumentError(message("branch", "no graphs, or no index", "at least one of each"))
    _need("branch", "an index", ins[:1], (spec((), int32),))
    for graph in graphs:
        _need("branch", "operands", ins[1:], graph.input_specs())
        _need("branch", "results", graph.output_specs(), graphs[0].output_specs())
    return graphs[0].output_specs()


branch: Final = Primitive(
    "branch", CONTROL, params=("graphs",), accepts=ANY, core=True, rule=_branch_rule, retained=True,
    doc="One of several graphs, chosen by an index; one that lies outside is moved to the nearest.",
)  # fmt: skip


def _loop_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    condition, body = params["condition"], params["body"]
    _need("loop", "operands", ins, body.input_specs())
    _need("loop", "operands", ins, condition.input_specs())
    _need("loop", "a condition", condition.output_specs(), (spec((), bool_),))
    outs: tuple[Spec, ...] = body.output_specs()
    _need("loop", "a carry", outs, ins[len(ins) - len(outs) :])
    return outs


loop: Final = Primitive(
    "loop", CONTROL, params=("condition", "body"), accepts=ANY, core=True, rule=_loop_rule,
    retained=True,
    doc="A carry to which a graph is applied for as long as another gives True of it.",
)  # fmt: skip


def _scan_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    body, length, constants, carry = [params[k] for k in ("body", "length", "constants", "carry")]
    first = constants + carry
    if not 0 <= constants <= first <= len(ins) or carry > len(body.outputs):
        raise ArgumentError(message("scan", f"{constants} constants, {carry} of a carry", f"{ins}"))
    if any(s.ndim == 0 or s.shape[0] != length for s in ins[first:]):
        raise ArgumentError(message("scan", f"xs {ins[first:]}", f"{length} rows in front"))
    _need("scan", "operands", [*ins[:first], *map(row_of, ins[first:])], body.input_specs())
    outs = body.output_specs()
    _need("scan", "a carry", outs[:carry], ins[constants:first])
    return outs[:carry] + tuple([spec((length, *s.shape), s.dtype, s.weak) for s in outs[carry:]])


scan: Final = Primitive(
    "scan", CONTROL, params=("body", "length", "reverse", "constants", "carry"), accepts=ANY,
    core=True, rule=_scan_rule, retained=True,
    doc="A carry to which a graph is applied once for each row of xs, from the first row on or "
    "from the last; it gives the carry and a row of each of ys. `constants` and `carry` count "
    "the operands.",
)  # fmt: skip


def is_control(entry: Entry) -> bool:
    return entry.primitive.family is CONTROL


def graphs_of(entry: Entry) -> list[Graph]:
    """The graphs that an entry of control flow runs."""
    return graphs_in(entry.params)


def with_graphs(entry: Entry, change: Callable[[Graph], Graph]) -> Entry:
    """The entry with its graphs changed: the same inputs, results of the same specs."""
    if entry.primitive is branch:
        params: tuple[Any, ...] = (tuple([change(g) for g in entry.params[0]]),)
    else:
        params = tuple([change(p) if type(p) is Graph else p for p in entry.params])
    return intern_entry(entry.primitive.table, entry.primitive, params, entry.ins)


def inside(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """The graph with what its control flow runs changed; itself if it has none."""
    if not any(is_control(s.entry) for s in graph.steps):
        return graph
    steps = [
        s._replace(entry=with_graphs(s.entry, change)) if is_control(s.entry) else s
        for s in graph.steps
    ]
    return Graph(graph.inputs, tuple(steps), graph.outputs, graph.constants)
