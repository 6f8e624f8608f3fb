"""Graphs recorded from functions and run with the meanings of primitives, in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.dtypes import dtype
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.spec import spec
from proa.graph.verify import verify
from proa.ops.expand import flat, nothing
from proa.transforms.jvp import push
from proa.transforms.reverse import gradient_graph
from proa.transforms.vmap import batched_graph


def spec_of(array: Any) -> Any:
    return spec(array.shape, dtype(array.dtype))


def record(function: Any, *arrays: Any) -> Graph:
    """The graph of a function of arrays like these; None results are left out."""
    builder = Builder()
    with use_sink(builder):
        outs = function(*[builder.input(spec_of(np.asarray(a))) for a in arrays])
    outs = outs if isinstance(outs, (tuple, list)) else (outs,)
    return builder.graph([o.value for o in outs if o is not None])


def run(graph: Graph, *arrays: Any) -> list[Any]:
    """A graph's outputs. Specs are held against what the meanings give."""
    graph = flat(graph, keeps=nothing)
    verify(graph)
    slots = [np.asarray(a) for a in arrays] + [c.array for c in graph.constants]
    with np.errstate(all="ignore"):
        for step in graph.steps:
            entry = step.entry
            outs = entry.primitive.meaning(*[slots[s] for s in step.slots], **entry.named_params)
            outs = outs if isinstance(outs, tuple) else (outs,)
            for out, of in zip(outs, entry.outs, strict=True):
                assert (out.shape, out.dtype) == (of.shape, of.dtype.numpy), (
                    entry,
                    out.dtype,
                    out.shape,
                )
            slots += outs
    return [slots[o] for o in graph.outputs]


def call(function: Any, *arrays: Any) -> Any:
    """The function's results on arrays; one is not in a list."""
    outs = run(record(function, *arrays), *arrays)
    return outs[0] if len(outs) == 1 else outs


def grads(function: Any, arrays: Any, wanted: Any, cts: Any) -> list[Any]:
    """Cotangents of the wanted arrays."""
    graph = gradient_graph(record(function, *arrays), tuple(wanted))
    return run(graph, *arrays, *cts)


def tangents(function: Any, arrays: Any, moved: Any) -> list[Any]:
    """Forward mode: tangents of the results; None is zero."""
    graph = record(function, *arrays)
    builder = Builder()
    with use_sink(builder):
        inputs = [builder.input(spec_of(np.asarray(a))) for a in arrays]
        given = [None if t is None else builder.input(spec_of(t)) for t in moved]
        outs = push(graph, inputs, given)[1]
    return run(builder.graph(outs), *arrays, *[t for t in moved if t is not None])


def mapped(function: Any, arrays: Any, flags: Any, count: int) -> list[Any]:
    """vmap over the first axis of the arrays that are flagged."""
    rows = [a[0] if f else a for a, f in zip(arrays, flags, strict=True)]
    graph = batched_graph(record(function, *rows), tuple(flags), count)
    return run(graph, *arrays)
