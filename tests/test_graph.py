"""The graph: interning, building, printing as Python that runs, storing, verifying, simplifying."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.dtypes import float32, int64
from proa.errors import FileError, ProaError
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.show import parse, show
from proa.graph.spec import spec
from proa.graph.store import dump, load
from proa.graph.verify import verify
from proa.ops import reduce
from proa.ops.functions import neg, sin
from proa.ops.movement import reshape
from proa.ops.primitive import REGISTRY, apply
from proa.ops.structure import keep
from proa.record.replay import cache
from proa.shapes import Dim
from proa.transforms.simplify import simplify
from tests.training import MODELS, train


def built(function: Any, *shapes: tuple[int, ...]) -> Graph:
    builder = Builder()
    with use_sink(builder):
        outs = function(*[builder.input(spec(s, float32)) for s in shapes])
    return builder.graph(outs if isinstance(outs, tuple) else (outs,))


def test_specs_and_entries_are_interned() -> None:
    assert spec((2, 3), float32) is spec((2, 3), float32)
    assert spec((2, 3), float32).with_grad() is spec((2, 3), float32, grad=True)
    a, b = (built(lambda x: sin(x), (3,)).steps[0].entry for _ in range(2))
    assert a is b


@pytest.mark.parametrize("name", list(MODELS))
def test_recorded_programs_print_as_python_that_runs(name: str) -> None:
    train(MODELS[name], 3, read=lambda step, loss: float(loss) if step else None)
    for plan in list(cache.plans.values()):
        for graph in (plan.graph, plan.program.graph):
            again = parse(show(graph), REGISTRY)
            assert again == graph
            compile(show(graph), "graph", "exec")


def test_a_named_dim_is_held_printed_and_stored() -> None:
    batch: Any = Dim("batch")
    of = spec((batch, 3), float32)
    assert of.is_named and repr(of) == "float32[batch, 3]"
    entry = built(lambda x: sin(x), (2, 3)).steps[0].entry
    graph = Graph((Input(of, Role.DATA),), (), (0,))
    assert parse(show(graph), REGISTRY) == graph
    assert load(dump(graph), REGISTRY).inputs[0].spec is of
    assert entry.out.shape == (2, 3)


def test_storing_round_trip_with_constants() -> None:
    graph = built(lambda x: (x * 2.5 + 1.0) @ x, (3, 3))
    again = load(dump(graph), REGISTRY)
    assert again == graph and hash(again) == hash(graph)


def test_damaged_stored_graphs_are_refused_or_equal() -> None:
    graph = built(lambda x: reduce.sum(sin(x) * 2.0, axis=0), (3, 2))
    text = dump(graph)
    rng = np.random.default_rng(0)
    for _ in range(300):
        raw = bytearray(text.encode())
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(7)
        try:
            verify(load(raw.decode("latin-1"), REGISTRY))
        except FileError:
            continue
    for hostile in (
        "",
        "[]",
        "{}",
        '{"proa_graph": 1}',
        '{"proa_graph": 1, "function": "import os"}',
        '{"proa_graph": 1, "function": "def g():\\n    __import__(\'os\')"}',
    ):
        with pytest.raises(FileError):
            load(hostile, REGISTRY)


def test_the_verifier_finds_what_is_wrong() -> None:
    graph = built(lambda x: sin(neg(x)), (3,))
    verify(graph)
    first, second = graph.steps
    for broken in (
        Graph(graph.inputs, (second, first), graph.outputs),
        Graph(graph.inputs, (Step(first.entry, (7,)), second), graph.outputs),
        Graph(graph.inputs, (Step(first.entry, (0, 0)), second), graph.outputs),
        Graph((Input(spec((4,), float32), Role.DATA),), graph.steps, graph.outputs),
        Graph((Input(spec((3,), int64), Role.DATA),), graph.steps, graph.outputs),
        Graph(graph.inputs, graph.steps, (9,)),
    ):
        with pytest.raises(ProaError, match="verify"):
            verify(broken)


def test_dead_steps_are_dropped_and_equal_ones_merged() -> None:
    graph = built(lambda x: (neg(x), sin(x) + sin(x))[1], (3,))
    assert [s.entry.primitive.name for s in graph.steps] == ["sin", "sin", "add"]
    assert [s.entry.primitive.name for s in simplify(graph).steps] == ["sin", "add"]


def test_keep_is_neither_merged_nor_folded_across() -> None:
    graph = built(
        lambda x: apply(keep, (sin(x),), number=0) + apply(keep, (sin(x),), number=1), (3,)
    )
    names = [s.entry.primitive.name for s in simplify(graph).steps]
    assert names == ["sin", "keep", "keep", "add"]


def test_identities_disappear_and_nothing_else() -> None:
    graph = built(
        lambda x: apply(reshape, (apply(reshape, (x,), shape=(2, 3)),), shape=(3, 2)) + 0.0, (2, 3)
    )
    names = [s.entry.primitive.name for s in simplify(graph).steps]
    assert names == ["reshape", "add"], "x + 0 is not exact for -0 and stays"


def test_numbers_are_never_merged_by_value() -> None:
    pa.explain()
    x = pa.ones((2,))
    y = x * 2.0 + 2.0
    work = y.value.node
    numbers = [v for n in (work, work.inputs[0].node) for v in n.inputs if type(v.buffer) is float]
    assert len({id(v) for v in numbers}) == 2
    assert y.tolist() == [4.0, 4.0]
