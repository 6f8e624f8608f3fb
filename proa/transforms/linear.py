"""Functions whose derivative is given, or follows from what they mean: composites of graphs.

| composite | operands | its derivative |
| --- | --- | --- |
| linear_call | residuals, linear operands | itself; transposed it is the other graph |
| linear_solve | constants, b | another solve: of db - dA x; transposed one with A transposed |
| root | constants, x0 | a linear solve with the derivative of the function at the root |
| custom | arguments, what function and rule captured | the rule, which pulls cotangents |
| custom_jvp | arguments, what function and rule captured | the rule, which pushes tangents |

All stay whole until a backend is asked: what differentiates them once more still finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from proa.errors import GradientError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.node import line_of
from proa.graph.rewrite import splice
from proa.ops.control import is_control
from proa.ops.expand import composite, flat
from proa.ops.families.movement import repeated
from proa.ops.functions import neg
from proa.ops.movement import zeros
from proa.ops.primitive import REGISTRY, Primitive, apply
from proa.transforms.jvp import add_tangents, push
from proa.transforms.reverse import reverse
from proa.transforms.vmap import batched_graph

_TOGETHER: Final = ("add", "sub", "select", "scatter", "dynamic_update")  # linear in both at once
_WHOLLY: Final = ("add", "sub")  # what is added may not be a constant


def applied(primitive: Primitive, operands: Sequence[Any], **params: Any) -> list[Any]:
    outs = apply(primitive, operands, **params)
    return list(outs) if isinstance(outs, tuple) else [outs]


def filled(found: Sequence[Any], like: Sequence[Any]) -> list[Any]:
    """Zeros where there is nothing, in the place of values of these specs."""
    return [zeros(o.shape, o) if f is None else f for f, o in zip(found, like, strict=True)]


def none_of(found: Sequence[Any]) -> bool:
    return all(f is None for f in found)


# Linear functions.


def transposed(graph: Graph, first: int) -> Graph:
    """(inputs before `first`, cotangents) -> cotangents of the others, in which it is linear."""
    key = ("transposed", first)
    if key not in graph.memo:
        graph.memo[key] = _transposed(graph, first)
    found: Graph = graph.memo[key]
    return found


def _transposed(graph: Graph, first: int) -> Graph:
    """The pullback at zero: of a linear function it is the same everywhere."""
    builder = Builder()
    specs = graph.input_specs()
    with use_sink(builder):
        constants = [builder.input(s) for s in specs[:first]]
        cts = [builder.input(s) for s in graph.output_specs()]
        at = filled([None] * (len(specs) - first), specs[first:])
        found = reverse(graph, [*constants, *at], cts, range(first, len(specs)))[first:]
        return builder.graph([v.value for v in filled(found, specs[first:])])


def need_linear(op: str, graph: Graph, first: int, hint: str = "") -> None:
    """An error that names the step at which a graph is not linear in its inputs from `first` on.
    What loops run inside is not looked at."""
    graph = flat(graph)
    moved = [i >= first for i in range(len(graph.inputs))] + [False] * len(graph.constants)
    for step in graph.steps:
        flags = [moved[s] for s in step.slots]
        if any(flags) and not _keeps_linear(step.entry, flags):
            given = f"{step.entry.primitive.name} at {line_of(step.where)}"
            raise GradientError(message(op, given, "a function that is linear", hint))
        moved += [any(flags)] * len(step.entry.outs)


def _keeps_linear(entry: Entry, flags: Sequence[bool]) -> bool:
    """Whether results are linear in the operands that are flagged."""
    primitive = entry.primitive
    if primitive.linear == "all" or is_control(entry):
        return True
    if primitive is linear_call:
        return not any(flags[: entry.named_params["count"]])
    if primitive is linear_solve:
        return not any(flags[: len(flags) - len(entry.outs)])
    if not any(s.dtype.is_inexact for s in entry.outs):
        return True  # it says what it is used for where it is used
    if any(f and i not in primitive.linear for i, f in enumerate(flags)):
        return False
    if primitive.name in _WHOLLY:
        return all(flags)
    return primitive.name in _TOGETHER or sum(flags) == 1


# A linear function with a transpose of its own.


def _expand_first(*operands: Any, **params: Any) -> tuple[Any, ...]:
    """The first of the graphs, applied to as many operands as it takes."""
    graph = next(iter(params.values()))
    return tuple(splice(current_sink(), graph, operands[: len(graph.inputs)]))


def _push_call(entry: Entry, operands: Any, results: Any, tangents: Any) -> list[Any]:
    """Through itself where it is linear, through its definition where it need not be."""
    count = entry.named_params["count"]
    rest = tangents[count:]
    moved: list[Any] = [None] * len(results)
    if not none_of(rest):
        given = [*operands[:count], *filled(rest, entry.ins[count:])]
        moved = applied(linear_call, given, **entry.named_params)
    if not none_of(tangents[:count]):
        given = [*tangents[:count], *[None] * len(rest)]
        through = push(entry.named_params["graph"], operands, given, results)[1]
        moved = [add_tangents(a, b) for a, b in zip(through, moved, strict=True)]
    return moved


def _transpose_call(entry: Entry, cts: Any, operands: Any, index: int) -> Any:
    graph, back, count = entry.params
    given = [*operands[:count], *filled(cts, entry.outs)]
    return applied(linear_call, given, graph=back, back=graph, count=count)[index - count]


def _batch_call(primitive: Primitive, operands: Any, flags: Any, params: Any) -> Any:
    count = params["count"]
    size, given, now = _all_from(count, operands, flags)
    back = params["back"]
    theirs = (*now[:count], *[True] * (len(back.inputs) - count))
    graphs = batched_graph(params["graph"], now, size), batched_graph(back, theirs, size)
    return tuple(applied(primitive, given, graph=graphs[0], back=graphs[1], count=count))


def _all_from(
    first: int, operands: Sequence[Any], flags: Sequence[bool]
) -> tuple[int, list[Any], tuple[bool, ...]]:
    """Operands of which all from `first` on have the axis of the batch; its size, and flags."""
    pairs = list(zip(operands, flags, strict=True))
    size = next(o.value.spec.shape[0] for o, f in pairs if f)
    given = [
        repeated(o, size) if i >= first and not f else o for i, (o, f) in enumerate(pairs)
    ]  # fmt: skip
    return size, given, (*flags[:first], *[True] * (len(pairs) - first))


linear_call = composite(
    "linear_call", _expand_first, params=("graph", "back", "count"), whole=True,
    push=_push_call, transpose=_transpose_call, batch=_batch_call,
    doc="A linear function with a transpose of its own, behind `count` residuals.",
)  # fmt: skip


# Linear equations, and roots of functions: derivatives by the implicit function theorem.


def _push_solve(entry: Entry, operands: Any, results: Any, tangents: Any) -> list[Any]:
    """A x = b gives A dx = db - dA x."""
    matvec = entry.named_params["matvec"]
    first = len(operands) - len(results)
    rest = list(tangents[first:])
    if not none_of(tangents[:first]):
        given = [*tangents[:first], *[None] * len(results)]
        moved = push(matvec, [*operands[:first], *results], given)[1]
        minus = [None if m is None else apply(neg, (m,)) for m in moved]
        rest = [add_tangents(t, m) for t, m in zip(rest, minus, strict=True)]
    if none_of(rest):
        return [None] * len(results)
    given = [*operands[:first], *filled(rest, entry.outs)]
    return applied(linear_solve, given, **entry.named_params)


def _transpose_solve(entry: Entry, cts: Any, operands: Any, index: int) -> Any:
    matvec, solve, vecmat, back = entry.params
    if back is None:
        text, hint = "reverse mode without a solver for it", "transpose_solve=..., symmetric=True"
        raise GradientError(message("linear_solve", text, "a transpose_solve", hint))
    first = len(operands) - len(cts)
    given = [*operands[:first], *filled(cts, entry.outs)]
    params = {"matvec": vecmat, "solve": back, "vecmat": matvec, "back": solve}
    return applied(linear_solve, given, **params)[index - first]


def _batch_graphs(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """Each graph batched, of constants as they are and all else with the axis of the batch."""
    constants = len(operands) - len(next(iter(params.values())).outputs)
    size, given, now = _all_from(constants, operands, flags)

    def mapped(graph: Graph | None) -> Graph | None:
        if graph is None:
            return None
        more = [True] * (len(graph.inputs) - constants)
        return batched_graph(graph, (*now[:constants], *more), size)

    return tuple(applied(primitive, given, **{k: mapped(g) for k, g in params.items()}))


def _expand_solve(*operands: Any, solve: Graph, **others: Any) -> tuple[Any, ...]:
    return tuple(splice(current_sink(), solve, operands))


linear_solve = composite(
    "linear_solve", _expand_solve, params=("matvec", "solve", "vecmat", "back"), whole=True,
    push=_push_solve, transpose=_transpose_solve, batch=_batch_graphs,
    doc="x for which matvec(constants, x) = b, found by `solve`; `vecmat` and `back` are the same "
    "for the transpose, None where that was not given.",
)  # fmt: skip


def _push_root(entry: Entry, operands: Any, results: Any, tangents: Any) -> list[Any]:
    """f(c, x) = 0 gives (df/dx) dx = -(df/dc) dc at the root."""
    function, _, matvec, tangent, vecmat, back = entry.params
    first = len(operands) - len(results)
    if none_of(tangents[:first]):
        return [None] * len(results)
    constants = operands[:first]
    given = [*tangents[:first], *[None] * len(results)]
    moved = push(function, [*constants, *results], given)[1]
    if none_of(moved):
        return [None] * len(results)
    right = [apply(neg, (m,)) for m in filled(moved, entry.outs)]
    params = {"matvec": matvec, "solve": tangent, "vecmat": vecmat, "back": back}
    return applied(linear_solve, [*constants, *results, *right], **params)


root = composite(
    "root", _expand_solve, params=("function", "solve", "matvec", "tangent", "vecmat", "back"),
    whole=True, push=_push_root, batch=_batch_graphs,
    doc="x for which function(constants, x) = 0, found by `solve` from x0; `matvec` multiplies by "
    "the derivative there, `tangent` solves with it, `vecmat` and `back` are the same transposed.",
)  # fmt: skip


# Functions with a rule.


def _known(op: str, rule: Graph | None) -> Graph:
    if rule is None:
        given = "a derivative of high order, of a rule that calls its own function"
        hint = "writing the rule without it"
        raise GradientError(message(op, given, "derivatives up to the fourth", hint))
    return rule


def _pull_custom(operands: Any, results: Any, cts: Any, graph: Graph, rule: Graph | None,
                 count: int) -> list[Any]:  # fmt: skip
    """Cotangents of the first `count` operands; what was captured from outside gets none."""
    own = len(graph.inputs)
    given = filled(cts, [r.value.spec for r in results])
    found = splice(
        current_sink(), _known("custom_vjp", rule), [*operands[:own], *given, *operands[own:]]
    )
    return [*found, *[None] * (len(operands) - count)]


def _push_custom(entry: Entry, operands: Any, results: Any, tangents: Any) -> list[Any]:
    """Forward mode: the rule, which is linear in cotangents, transposed."""
    graph, rule, count = entry.params
    own, outs = len(graph.inputs), len(results)
    if none_of(tangents[:count]):
        return [None] * outs
    pull = _known("custom_vjp", rule)
    at = [*range(own), *range(own + outs, len(pull.inputs)), *range(own, own + outs)]
    builder = Builder()
    with use_sink(builder):
        inputs: list[Any] = [None] * len(pull.inputs)
        for i in at:
            inputs[i] = builder.input(pull.inputs[i].spec)
        turned = builder.graph(splice(builder, pull, inputs))
    first = len(pull.inputs) - outs
    hint = "pa.custom_jvp, or reverse mode"
    need_linear("custom_vjp", turned, first, hint)
    given = filled(tangents[:count], entry.ins[:count])
    moved = transposed(turned, first)
    return splice(current_sink(), moved, [*operands, *[g.value for g in given]])


def _batch_custom(primitive: Primitive, operands: Any, flags: Any, params: Any) -> Any:
    """Both graphs batched; the cotangents of an operand that all examples share are added up."""
    graph, pull, count = params["graph"], params["rule"], params["count"]
    size = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    own = len(graph.inputs)
    main = batched_graph(graph, tuple(flags[:own]), size)
    if pull is None:
        return tuple(applied(primitive, operands, graph=main, rule=None, count=count))
    theirs = (*flags[:own], *[True] * len(graph.outputs), *flags[own:])
    mapped = batched_graph(pull, tuple(theirs), size)
    builder = Builder()
    with use_sink(builder):
        found = splice(builder, mapped, [builder.input(i.spec) for i in mapped.inputs])
        summed = builder.graph([
            v if f or not v.spec.dtype.is_inexact else apply(REGISTRY["sum"], (v,), axes=(0,)).value
            for v, f in zip(found, flags, strict=False)
        ])  # fmt: skip
    return tuple(applied(primitive, operands, graph=main, rule=summed, count=count))


custom = composite(
    "custom", _expand_first, params=("graph", "rule", "count"), pullback=_pull_custom,
    push=_push_custom, batch=_batch_custom, whole=True,
    doc="A function with a derivative of its own, for reverse mode.",
)  # fmt: skip


def _push_jvp(entry: Entry, operands: Any, results: Any, tangents: Any) -> list[Any]:
    """The rule, of operands and the tangents of float ones."""
    graph, rule, count = entry.params
    own = len(graph.inputs)
    if none_of(tangents[:count]):
        return [None] * len(results)
    floats = [i for i in range(count) if entry.ins[i].dtype.is_inexact]
    moving = filled([tangents[i] for i in floats], [entry.ins[i] for i in floats])
    given = [*operands[:count], *[t.value for t in moving], *operands[own:]]
    found = iter(splice(current_sink(), _known("custom_jvp", rule), given))
    return [next(found) if s.dtype.is_inexact else None for s in entry.outs]


def _batch_jvp(primitive: Primitive, operands: Any, flags: Any, params: Any) -> Any:
    graph, rule, count = params["graph"], params["rule"], params["count"]
    size = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    own = len(graph.inputs)
    moving = [f for o, f in zip(operands, flags[:count], strict=False) if o.spec.dtype.is_inexact]
    theirs = (*flags[:count], *moving, *flags[own:])
    mapped = None if rule is None else batched_graph(rule, theirs, size)
    main = batched_graph(graph, tuple(flags[:own]), size)
    return tuple(applied(primitive, operands, graph=main, rule=mapped, count=count))


custom_jvp = composite(
    "custom_jvp", _expand_first, params=("graph", "rule", "count"), push=_push_jvp,
    batch=_batch_jvp, whole=True,
    doc="A function with a derivative of its own, in forward mode; reverse mode transposes it.",
)  # fmt: skip
