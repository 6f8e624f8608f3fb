"""One graph for many sizes: found by comparing, bound by the spec rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.capture.trace import record
from proa.compile.find import backend, default_device
from proa.compile.stages import lower
from proa.errors import ProaError
from proa.graph.graph import Graph
from proa.graph.spec import spec
from proa.graph.template import Polynomial, Template, Unlike, _apart, fit


def graph_of(f: Any, *shapes: tuple[int, ...]) -> Graph:
    given = [pa.asarray(np.ones(s, "float32")) for s in shapes]
    pa.sync()
    return record("test", lambda: f(*given), settled=True).graph()


def lowered(graph: Graph) -> Graph:
    device = default_device()
    return lower(graph, backend(device.backend), device).graph


def model() -> Any:
    pa.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3))


def trained(net: Any) -> Any:
    def f(x: Any) -> Any:
        loss = net(x).square().mean()
        return [loss, *pa.grad(lambda w: (x @ w).square().mean())(net[0].weight.T)]

    return f


def attention(x: Any) -> Any:
    b, n, w = x.shape
    h = x.reshape((b, n, 2, w // 2)).permute((0, 2, 1, 3))
    mask = pa.arange(n)[:, None] >= pa.arange(n)[None, :]
    p = pa.softmax(pa.where(mask, h @ h.permute((0, 1, 3, 2)), -1e9), axis=-1)
    y = (p @ h).permute((0, 2, 1, 3)).reshape((b * n, w))
    return pa.concat([y, x.reshape((b * n, w))]).mean(), y[: n - 1]


def scanned(x: Any) -> Any:
    return pa.scan(lambda c, row: (c + row.sum(), c * row), pa.zeros(()), x)


CASES = {
    "model": (lambda: trained(model()), ((8,),), ("n",)),
    "attention": (lambda: attention, ((4,),), ("b", "n")),
    "scan": (lambda: scanned, ((3,),), ("n",)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("stage", [lambda g: g, lowered], ids=["recorded", "lowered"])
def test_bound_is_recorded(name: str, stage: Any) -> None:
    make, (tail,), dims = CASES[name]
    f = make()
    points = [(5, 7), (11, 13), (17, 9), (6, 21)]
    points = [p[: len(dims)] for p in points]
    found = fit([stage(graph_of(f, (*p, *tail))) for p in points], dims, points)
    for sizes in [(2, 3), (23, 4), (3, 31)]:
        sizes = sizes[: len(dims)]
        expected = stage(graph_of(f, (*sizes, *tail)))
        assert _apart(found.bind(sizes)) == _apart(expected)
        assert found.sizes_of(expected.input_specs()) == sizes


def test_what_differs_is_named() -> None:
    def branching(x: Any) -> Any:
        return x.sum() if x.shape[0] > 6 else x.max()

    with pytest.raises(Unlike, match="max or sum") as caught:
        fit([graph_of(branching, (n,)) for n in (5, 7, 9)], ["n"], [(5,), (7,), (9,)])
    assert caught.value.where is not None
    with pytest.raises(Unlike, match="slice"):
        graphs = [graph_of(lambda x: x[: x.shape[0] // 2], (n,)) for n in (5, 8, 11)]
        fit(graphs, ["n"], [(5,), (8,), (11,)])


def test_binding_runs_the_rules() -> None:
    def f(x: Any, y: Any) -> Any:
        return x.reshape((x.shape[0] // 4 * 4,)) + y

    points = [(8,), (12,), (20,)]
    found = fit([graph_of(f, p, p) for p in points], ["n"], points)
    assert found.bind((40,)).output_specs() == (spec((40,), pa.float32),)
    twice = fit([graph_of(lambda x: x[2:] + x[:-2], p) for p in points], ["n"], points)
    with pytest.raises(ProaError):
        twice.bind((1,))
    assert found.sizes_of([spec((4,), pa.float32), spec((8,), pa.float32)]) is None


def test_polynomials_are_readable() -> None:
    p = Polynomial(((2, (1, 1)), (1, (0, 2)), (-3, (0, 0))))
    assert p.text(["a", "b"]) == "2*a*b + b**2 + -3"
    assert p.at((2, 5)) == 42


def test_equal_dims_are_not_told_apart() -> None:
    """Where dims were equal at every point nothing is guessed."""
    points = [(5, 5), (7, 7), (9, 9)]
    with pytest.raises(Unlike):
        fit([graph_of(lambda x: x.reshape((-1,)), (a, b)) for a, b in points], ["a", "b"], points)


def test_templates_are_kept_small() -> None:
    points = [(5,), (7,), (9,)]
    found: Template = fit([graph_of(lambda x: x + 1, p) for p in points], ["n"], points)
    for n in range(2, 200):
        found.bind((n,))
    assert len(found.bound) <= 64
