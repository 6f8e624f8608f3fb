"""What became of a jitted function can be seen: its graph, its programs, and why it has them."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.errors import ArgumentError
from proa.graph.graph import Graph

SCALE = 3.0


@pytest.fixture(params=["numpy", "cpu"], autouse=True)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with pa.device(request.param):
        yield request.param


def names(graph: Graph) -> list[str]:
    return [s.entry.primitive.name for s in graph.steps]


def choice(x: Any) -> Any:
    y = pa.sin(x)
    if y.sum() > 0:
        return pa.exp(y)
    return pa.cos(y)


# The graph.


def test_the_graph_for_arguments_and_of_the_last_recording() -> None:
    f = pa.jit(lambda x, s: pa.sin(x) * s)
    with pytest.raises(ArgumentError, match="no call recorded"):
        f.graph()
    asked = f.graph(pa.ones((3,)), 2.0)
    assert names(asked) == ["sin", "cast", "mul"] and f.calls == 0
    assert [i.spec.shape for i in asked.inputs] == [(3,), ()]
    for _ in range(4):
        f(pa.ones((2,)), 1.0)
    assert [i.spec.shape for i in f.graph().inputs] == [(2,), ()]
    assert "sin(x0)" in str(f.graph())


def test_the_graph_of_a_path_has_its_tests_among_the_results() -> None:
    f = pa.jit(choice)
    up, down = pa.asarray([1.0, 2.0]), pa.asarray([-1.0, -2.0])
    assert names(f.graph(up)) == ["sin", "sum", "lt", "exp"]
    assert names(f.graph(down)) == ["sin", "sum", "lt", "cos"]
    graph = f.graph(up)
    assert [str(s) for s in graph.output_specs()] == ["float32[2]", "bool[]"]
    assert len(graph.inputs) == 2  # x, and the number 0


def test_the_graph_of_what_computes_nothing() -> None:
    graph = pa.jit(lambda x: x).graph(pa.ones((2,)))
    assert (graph.inputs, graph.steps) == ((), ())


def test_show_prints_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    pa.jit(choice).show("simplify", pa.asarray([1.0, 2.0]))
    out = capsys.readouterr().out
    assert out.index("sin(") < out.index("is True") < out.index("exp(")


# The programs.


def test_a_row_for_each_path_of_each_signature() -> None:
    f = pa.jit(choice)
    for _ in range(5):
        f(pa.asarray([1.0, 2.0]))
        f(pa.asarray([-1.0, -2.0]))
    f(pa.ones((3,)))
    rows = list(f.programs())
    assert [(r.number, r.signature) for r in rows] == [
        (1, "x: float32[2]"), (1, "x: float32[2]"), (2, "x: float32[3]"),
    ]  # fmt: skip
    assert [r.state for r in rows] == ["replayed", "replayed", "not recorded yet"]
    assert sorted(r.tests[0].split()[-1] for r in rows[:2]) == ["False", "True"]
    assert all("test_jit_seen.py:" in r.tests[0] for r in rows[:2])
    assert sum(r.calls for r in rows) == f.calls - 1  # the first call took no path
    assert all(r.operations == 4 for r in rows[:2])
    text = repr(f.programs())
    assert "2 signatures" in text and "is True" in text and "replayed" in text


def test_kernels_and_peak_bytes(place: str) -> None:
    f = pa.jit(lambda x: (pa.exp(x) + 1.0).sum())
    for _ in range(5):
        f(pa.ones((64, 64)))
    (row,) = f.programs()
    assert row.device == place and row.operations == 3
    assert (row.kernels is not None) == (place == "cpu")
    assert 0 < row.peak_bytes <= 3 * 64 * 64 * 4 + (1 << 17)


def test_rows_say_why_a_signature_runs_without_jit() -> None:
    w = pa.asarray([1.0, 2.0]).requires_grad_()
    f = pa.jit(lambda x: choice(x * w).sum())
    for _ in range(3):
        f(pa.ones((2,)))
    (row,) = f.programs()
    assert "without jit" in row.state and "differentiated" in row.state
    assert "test_jit_seen.py:" in row.state and row.calls == 3


def test_explain_lists_jitted_functions_that_are_alive() -> None:
    f = pa.jit(choice)
    for _ in range(3):
        f(pa.ones((2,)))
    mine = [p for p in pa.explain().jitted if p.name == "jit choice"]
    assert mine and "[jit choice]" in repr(pa.explain())
    assert {"peak_bytes", "donated", "kernels"} <= pa.explain().programs[0].keys()
    gone = weakref.ref(f)
    del f, mine
    gc.collect()
    assert gone() is None


# Why.


def reason(f: Any) -> list[str]:
    head, *lines = f.why().splitlines()
    assert "test_jit_seen.py:" in head
    return [line.strip() for line in lines]


def test_why_names_the_argument() -> None:
    f = pa.jit(lambda x, s=1.0, *, flag=True, tree=None: x * s)
    assert "not called" in f.why()
    f(pa.ones((2,)))
    assert reason(f) == ["it is the first"]
    f(pa.ones((2, 3)))
    assert reason(f) == ["argument `x` changed from float32[2] to float32[2, 3]"]
    f(pa.ones((2, 3), dtype=pa.float64))
    assert reason(f) == ["argument `x` changed from float32[2, 3] to float64[2, 3]"]
    f(pa.ones((2, 3), dtype=pa.float64), 2.0)
    assert reason(f) == ["argument `s` is new: a float"]
    f(pa.ones((2, 3), dtype=pa.float64), 2.0, flag=False)
    assert reason(f) == ["argument `flag` is new: False"]
    f(pa.ones((2, 3), dtype=pa.float64), 2.0, flag=True)
    assert reason(f) == ["argument `flag` changed from False to True"]
    f(pa.ones((2, 3), dtype=pa.float64), 2.0, flag=True, tree={"a": [pa.ones((1,)), 2]})
    assert reason(f) == [
        "argument `tree['a'][0]` is new: float32[1]", "argument `tree['a'][1]` is new: an int",
    ]  # fmt: skip
    with pa.no_grad():
        f(pa.ones((2, 3), dtype=pa.float64), 2.0, flag=True, tree={"a": [pa.ones((1,)), 2]})
    assert reason(f) == ["gradients changed from on to off"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        self.k = 1.0

    def forward(self, x: Any) -> Any:
        return self.part(x) * self.k * SCALE


def test_why_names_what_the_function_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    net, extra, options = Net(), 2.0, {"mode": "a"}

    @pa.jit
    def f(x: Any) -> Any:
        y = net(x) * extra
        return y + 1.0 if options["mode"] == "b" else y

    x = pa.ones((2,))
    f(x)
    net.part.eval()
    f(x)
    assert "`net.part.1.training` changed from True to False" in reason(f)
    net.k = 2.0
    f(x)
    assert reason(f) == ["`net.k` changed from 1.0 to 2.0"]
    extra = 4.0
    f(x)
    assert reason(f) == ["`extra` changed from 2.0 to 4.0"]
    options["mode"] = "b"
    f(x)
    assert reason(f) == ["`options['mode']` changed from 'a' to 'b'"]
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    f(x)
    assert reason(f) == ["`SCALE` changed from 3.0 to 5.0"]
    net.part[0].weight.requires_grad_(False)
    f(x)
    (line,) = reason(f)
    assert "`net.part.0.weight` changed" in line and "requires a gradient" in line


def test_why_of_a_method_a_default_and_an_optimiser() -> None:
    class Box:
        width = 2

        def __init__(self) -> None:
            self.rate = 0.5
            self.w = pa.ones((2,)).requires_grad_()
            self.optimizer = optim.SGD([self.w], lr=0.1)

        @pa.jit
        def run(self, x: Any) -> Any:
            return x * self.rate * self.width * (self.optimizer.param_groups[0]["momentum"] + 1.0)

    box = Box()
    box.run(pa.ones((2,)))
    box.rate = 0.25
    box.run(pa.ones((2,)))
    assert reason(box.run) == ["`self.rate` changed from 0.5 to 0.25"]
    Box.width = 3
    box.run(pa.ones((2,)))
    assert reason(box.run) == ["`Box.width` changed from 2 to 3"]


def test_why_of_a_gradient_that_is_full_and_of_a_path() -> None:
    w = pa.asarray([1.0, 2.0]).requires_grad_()

    @pa.jit
    def f(x: Any) -> Any:
        (w * x).sum().backward()

    for _ in range(3):
        w.grad = None
        f(pa.ones((2,)))
    f(pa.ones((2,)))
    assert reason(f) == ["the gradient of float32[2] was empty and is full"]
    g = pa.jit(choice)
    for s in (1.0, 1.0, -1.0):
        g(pa.ones((2,)) * s)
    (line,) = reason(g)
    assert "a path of its own" in line and "is False" in line


def test_many_changes_are_cut_short_and_a_warning_says_what_changed() -> None:
    f = pa.jit(lambda x: x["a0"])
    f({"a0": pa.ones((1,))})
    f({f"a{i}": pa.ones((i,)) for i in range(20)})
    assert len(reason(f)) == 9 and reason(f)[-1] == "and 12 more"
    g = pa.jit(lambda x: x + 1)
    with pytest.warns(RuntimeWarning, match=r"argument `x` changed from float32\[1, "):
        for n in range(12):  # sizes alone would be one program
            g(pa.zeros((1,) * n))


class Odd:
    """What cannot be looked at must not stand in the way."""

    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1

    @property
    def c(self) -> Any:
        raise RuntimeError("looked at")

    def __repr__(self) -> str:
        raise RuntimeError("shown")


def test_odd_things_that_a_function_reaches() -> None:
    odd, cycle, array = Odd(), [1], np.ones(3)
    cycle.append(cycle)  # type: ignore[arg-type]
    space = {"odd": odd, 3: cycle, (1, 2): array, None: {1, 2}, "x": range(3)}

    @pa.jit
    def f(x: Any, *rest: Any, **more: Any) -> Any:
        return x * len(space) * odd.a * array[0] + sum(rest)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(pa.ones((2,)), 1, 2.0, other=odd)
        odd.a = 2
        f(pa.ones((2,)), 1, 2.0, other=odd)
        assert any("`other.a` changed from 1 to 2" in line for line in reason(f))
        array[1] = 5.0
        f(pa.ones((2,)), 1, 2.0, other=odd)
        assert any("array" in line for line in reason(f))
        f(pa.ones((2,)), 1, other=odd)
        assert reason(f) == ["argument `argument 2` is gone; it was a float"]
