"""`checkpoint`: a function whose inside is computed again in the backward pass, not kept.

A policy says what of the inside is kept all the same. What is kept are results of the forward
pass; all else is computed again from them and from the operands, all behind `keep`, so that no pass
merges a step of the second forward pass with its twin in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from proa import tree
from proa.capture.control import traced
from proa.capture.policies import NAME, Policy, named_value, need_policy
from proa.errors import DtypeError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.graph import Graph
from proa.graph.rewrite import constant_in, splice, sweep
from proa.ops.expand import Flattener, composite, flat
from proa.ops.primitive import apply
from proa.ops.structure import keep
from proa.tensor import Tensor
from proa.transforms.reverse import reverse
from proa.transforms.vmap import batched_graph

Saves = tuple[str, ...]  # operations, and names behind `NAME`, whose results are kept


def _expand(*operands: Any, graph: Graph, saves: Saves) -> tuple[Any, ...]:
    return tuple(splice(current_sink(), graph, operands))


def _pull(operands: Any, results: Any, cts: Any, graph: Graph, saves: Saves) -> list[Any]:
    """The graph once more on operands that are kept apart: equal steps are not merged with those
    of the forward pass, but for those that are saved."""
    inside, steps = _flat(graph), _saved(graph, saves)
    known = [*operands, *_results_of(inside, steps, operands)]
    again = [apply(keep, (v,), number=0) for v in known]
    floats = [i for i, o in enumerate(operands) if o.value.spec.dtype.is_inexact]
    builder = Builder(merge=True)
    with use_sink(Flattener(builder)):
        given = [builder.input(o.value.spec) for o in operands]
        _seed(builder, inside, steps, given)
        theirs = [None if ct is None else builder.input(ct.value.spec) for ct in cts]
        found = reverse(graph, given, theirs, floats)
        kept = [i for i in floats if found[i] is not None]
        rule = builder.graph([found[i].value for i in kept])
    pulled = splice(current_sink(), rule, [*again, *[ct for ct in cts if ct is not None]])
    spread: list[Any] = [None] * len(operands)
    for i, ct in zip(kept, pulled, strict=True):
        spread[i] = ct
    return spread


def _flat(graph: Graph) -> Graph:
    """In primitives, without the names."""
    if "flat" not in graph.memo:
        graph.memo["flat"] = flat(graph)
    found: Graph = graph.memo["flat"]
    return found


def _saved(graph: Graph, saves: Saves) -> frozenset[int]:
    """The steps of the flat graph whose results are saved."""
    if not saves:
        return frozenset()
    named = flat(graph, keeps=lambda e: e.primitive.whole or e.primitive is named_value)
    count = named.first_step_slot
    number = dict.fromkeys(range(count), -1)  # of each slot: the step of the flat graph
    found, steps, slot = set(), 0, count
    for step in named.steps:
        name = step.entry.primitive.name
        if step.entry.primitive is named_value:
            mine, name = number[step.slots[0]], NAME + step.entry.params[0]
        else:
            mine, steps = steps, steps + 1
        if name in saves and mine >= 0:
            found.add(mine)
        for _ in step.entry.outs:
            number[slot], slot = mine, slot + 1
    return frozenset(found)


def _results_of(graph: Graph, steps: frozenset[int], operands: Sequence[Any]) -> list[Any]:
    """Results of these steps, as in the forward pass: there they are found, not made again."""
    sink, index = current_sink(), -1
    found: list[Any] = []
    if not steps:
        return []

    def one(step: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal index
        index += 1
        outs: tuple[Any, ...] = sink.emit(step.entry, tuple([v.value for v in given]))
        if index in steps:
            found.extend(outs)
        return outs

    sweep(graph, operands, one, [constant_in(sink, c) for c in graph.constants])
    return found


def _seed(builder: Builder, graph: Graph, steps: frozenset[int], operands: Sequence[Any]) -> None:
    """The forward pass in a builder, where these steps have inputs for results."""
    index = -1

    def one(step: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal index
        index += 1
        if index not in steps:
            return builder.emit(step.entry, given)
        outs = tuple([builder.input(of) for of in step.entry.outs])
        builder.known[step.entry, tuple([v.index for v in given])] = outs
        return outs

    if steps:
        sweep(graph, operands, one, [constant_in(builder, c) for c in graph.constants])


def _batch(primitive: Any, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    count = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    graph = batched_graph(params["graph"], tuple(flags), count)
    return apply(primitive, operands, graph=graph, saves=params["saves"])


again_ = composite(
    "checkpoint", _expand, params=("graph", "saves"), pullback=_pull, batch=_batch,
    doc="A function of which reverse mode keeps the operands, and what `saves` names.",
)  # fmt: skip


def _saves(graph: Graph, policy: Policy | None) -> Saves:
    """What the policy keeps of a graph, by name: the same for the graph of a whole batch."""
    if policy is None:
        return ()
    named = flat(graph, keeps=lambda e: e.primitive.whole or e.primitive is named_value)
    found = set()
    for entry in [step.entry for step in named.steps]:
        if entry.primitive is named_value:
            if policy(entry.primitive.name, entry.params[0]):
                found.add(NAME + entry.params[0])
        elif policy(entry.primitive.name, None):
            found.add(entry.primitive.name)
    return tuple(sorted(found))


def checkpoint(function: Callable[..., Any], policy: Policy | None = None) -> Callable[..., Any]:
    """The same function, of which reverse mode keeps only what it is given, and what a policy says.

    Its inside is computed again in the backward pass: less memory, one more forward pass. Values
    have the same bits; so have gradients, but that those of an operand with several uses inside
    are added up inside first. Tensors among the arguments (trees of them) are operands, all else
    is given as it is; modules and tensors that it reads from outside count as operands too. What it
    draws from a generator is drawn again alike; state that it assigns (running statistics) is
    assigned once. It returns a tree of tensors. The bodies of loops are computed again in any case.

    Arguments:
        function: a function or a module.
        policy: one of `pa.checkpoint_policies`, or any function of (operation, name) that says
            whether a result is kept; `name` is that of `pa.checkpoint_name`, else None. Without
            one nothing is.

    Errors:
        DtypeError: `function` or `policy` cannot be called, or a result is no tensor or number.

    >>> import proa as pa
    >>> f = pa.checkpoint(lambda x: pa.sin(pa.sin(x)))
    >>> f"{pa.grad(f)(pa.asarray(0.5)).item():.4f}"
    '0.7786'
    """
    if not callable(function):
        raise DtypeError(message("checkpoint", f"{function!r:.60}", "a function"))
    need_policy(policy)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        tensors = [x for x in leaves if type(x) is Tensor]

        def inner(*given: Any) -> Any:
            rest = iter(given)
            filled = [next(rest) if type(x) is Tensor else x for x in leaves]
            positional, named = tree.unflatten(structure, filled)
            return function(*positional, **named)

        specs = [t.value.spec for t in tensors]
        whole, result = traced("checkpoint", inner, specs, writes=True)
        graph = whole.graph
        if not graph.outputs:
            return result.filled(())
        outs = apply(again_, [*tensors, *whole.captured], graph=graph, saves=_saves(graph, policy))
        return result.filled(whole.write(outs if isinstance(outs, tuple) else (outs,)))

    return run
