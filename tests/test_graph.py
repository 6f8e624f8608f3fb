"""The graph: interning, building, printing as Python that runs, storing, verifying, simplifying."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.dtypes import float32, int64
from proa.errors import FileError, ProaError
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.node import line_of
from proa.graph.show import parse, show
from proa.graph.spec import spec
from proa.graph.store import dump, load
from proa.graph.template import fit
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


def test_a_named_dim_is_held_and_printed() -> None:
    batch: Any = Dim("batch")
    of = spec((batch, 3), float32)
    assert of.is_named and repr(of) == "float32[batch, 3]"
    entry = built(lambda x: sin(x), (2, 3)).steps[0].entry
    graph = Graph((Input(of, Role.DATA),), (), (0,))
    assert parse(show(graph), REGISTRY) == graph
    assert entry.out.shape == (2, 3)


def stored(graph: Graph) -> Any:
    """What a graph is after it was written as text and read again."""
    arrays: dict[str, Any] = {}
    text = json.dumps(dump(graph, arrays), allow_nan=False)
    return load(json.loads(text), REGISTRY, arrays)


def test_storing_round_trip_with_constants() -> None:
    graph = built(lambda x: (x * 2.5 + 1.0) @ x, (3, 3))
    again = stored(graph)
    assert again == graph and hash(again) == hash(graph)
    assert again.constants[0].array.item() == 2.5


def test_every_recorded_program_is_stored_and_read_again() -> None:
    for name in MODELS:
        train(MODELS[name], 3, read=lambda step, loss: float(loss) if step else None)
    for plan in list(cache.plans.values()):
        for graph in (plan.graph, plan.program.graph):
            assert stored(graph) == graph


def test_lines_and_module_paths_are_stored() -> None:
    step = built(lambda x: sin(x), (3,)).steps[0]
    where = (test_lines_and_module_paths_are_stored.__code__, 0)
    graph = Graph(
        (Input(step.entry.ins[0], Role.DATA),), (step._replace(where=where, scope="a.b"),), (1,)
    )
    again = stored(graph).steps[0]
    line = test_lines_and_module_paths_are_stored.__code__.co_firstlineno
    assert again.scope == "a.b" and line_of(again.where) == f"test_graph.py:{line}"


def test_sizes_are_stored_as_polynomials() -> None:
    def one(n: int) -> Graph:
        return built(lambda x: apply(reshape, (x * 2.0,), shape=(6 * n,)) * float(n), (n, 2, 3))

    points = ((3,), (5,), (7,))
    template = fit([one(*p) for p in points], ("n",), points)
    table = json.loads(json.dumps(dump(template, {}, points)))
    assert table[0]["inputs"][0]["spec"] == "float32[n, 2, 3]"
    assert table[0]["steps"][1]["parameters"] == {"shape": [{"size": "6*n"}]}
    assert table[0]["steps"][2]["results"] == ["float32[6*n]"]
    again = load(table, REGISTRY, {}, ("n",), (3,))
    for n in (1, 3, 11):
        assert again.bind((n,)) == one(n) == template.bind((n,))


def test_damaged_stored_graphs_are_refused_or_graphs() -> None:
    graph = built(lambda x: reduce.sum(sin(x) * 2.0, axis=0), (3, 2))
    text = json.dumps(dump(graph, {}))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        raw = bytearray(text.encode())
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(7)
        try:
            table = json.loads(raw.decode("latin-1"))
        except ValueError:
            continue
        try:
            verify(load(table, REGISTRY))
        except FileError:
            continue
    for hostile in (None, "", [], {}, [[]], [{}], [{"inputs": [], "outputs": [0]}], [1], {"0": 1}):
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
