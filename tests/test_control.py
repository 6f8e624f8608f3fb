"""Control flow against Python loops: bits, derivatives, batches, errors, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.compile.find import backend, default_device, set_default_device
from proa.compile.stages import lower
from proa.compile.tiers import counts
from proa.errors import ArgumentError, DtypeError, GradientError, JitError, ShapeError
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.show import parse, show
from proa.graph.spec import spec
from proa.graph.verify import verify
from proa.ops.primitive import REGISTRY, apply

EXACT = ("numpy", "cpu")


@pytest.fixture(params=["numpy", "cpu", "xla"])
def device(request: Any) -> Iterator[str]:
    if request.param == "xla":
        pytest.importorskip("jax")
    before = default_device()
    set_default_device(request.param)
    yield request.param
    set_default_device(before)


def arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [pa.asarray(rng.normal(size=s).astype(np.float32) * 0.5) for s in shapes]


def leaves(found: Any) -> list[Any]:
    return [t.numpy() for t in pa.tree.flatten(found)[0] if t is not None]


def same(a: Any, b: Any, device: str, ulps: int = 0) -> None:
    """Equal bits; on `xla`, and where `ulps` are allowed, close."""
    for x, y in zip(leaves(a), leaves(b), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        if device in EXACT and not ulps:
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)


# Programs: with operations, and the same in Python.


def rnn(w: Any, u: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = pa.tanh(w @ h + u @ x)
        return h, h.sum()

    h, sums = pa.scan(step, pa.zeros((4,)), xs)
    return h.sum() + (sums * sums).sum()


def rnn_python(w: Any, u: Any, xs: Any) -> Any:
    h, sums = pa.zeros((4,)), []
    for i in range(xs.shape[0]):
        h = pa.tanh(w @ h + u @ xs[i])
        sums.append(h.sum())
    stacked = pa.stack(sums)
    return h.sum() + (stacked * stacked).sum()


def newton(a: Any) -> Any:
    """The square root, in as many steps as it takes."""
    return pa.while_loop(
        lambda x: pa.abs(x * x - a) > 1e-5, lambda x: 0.5 * (x + a / x), a, max_steps=40
    )


def newton_python(a: Any) -> Any:
    x = a
    while bool(pa.abs(x * x - a) > 1e-5):
        x = 0.5 * (x + a / x)
    return x


def rk4(f: Callable[[Any], Any], y: Any, h: float) -> Any:
    a = f(y)
    b = f(y + 0.5 * h * a)
    c = f(y + 0.5 * h * b)
    d = f(y + h * c)
    return y + (h / 6) * (a + 2.0 * b + 2.0 * c + d)


def pendulum(y: Any, k: Any) -> Any:
    return pa.stack([y[1], -k * pa.sin(y[0])])


def ode(k: Any, y: Any) -> Any:
    return pa.fori_loop(0, 12, lambda i, y: rk4(lambda z: pendulum(z, k), y, 0.1), y).sum()


def ode_python(k: Any, y: Any) -> Any:
    for _ in range(12):
        y = rk4(lambda z: pendulum(z, k), y, 0.1)
    return y.sum()


def rows(w: Any, xs: Any) -> Any:
    return (pa.map(lambda x: pa.exp(w * x).sum(), xs) ** 2).sum()


def rows_python(w: Any, xs: Any) -> Any:
    return (pa.stack([pa.exp(w * xs[i]).sum() for i in range(xs.shape[0])]) ** 2).sum()


def piecewise(x: Any) -> Any:
    small = lambda x: x * x  # noqa: E731
    return pa.cond(x.sum() > 0, lambda x: pa.sin(x) * x, small, x).sum()


def piecewise_python(x: Any) -> Any:
    return (pa.sin(x) * x if bool(x.sum() > 0) else x * x).sum()


def programs() -> dict[str, tuple[Any, Any, Any]]:
    """name -> (with operations, in Python, arguments)."""
    w, u, xs, k, y, x = arrays((4, 4), (4, 3), (5, 3), (), (2,), (3,))
    return {
        "rnn": (rnn, rnn_python, (w, u, xs)),
        "newton": (newton, newton_python, (pa.asarray(7.0),)),
        "ode": (ode, ode_python, (k, y)),
        "rows": (rows, rows_python, (u[0], xs)),
        "piecewise": (piecewise, piecewise_python, (x,)),
        "piecewise, the other way": (piecewise, piecewise_python, (-x,)),
    }


@pytest.mark.parametrize("name", list(programs()))
def test_a_program_is_its_python_loop(name: str, device: str) -> None:
    ours, python, given = programs()[name]
    same(ours(*given), python(*given), device)
    jitted = pa.jit(ours)
    for _ in range(4):
        same(jitted(*given), python(*given), device)


@pytest.mark.parametrize("name", list(programs()))
def test_gradients_are_those_of_the_python_loop(name: str, device: str) -> None:
    """Each step adds its own contribution first, so sums of several in a step may round apart."""
    ours, python, given = programs()[name]
    wanted = tuple(range(len(given)))
    expected = pa.grad(python, wanted)(*given)
    found = pa.grad(ours, wanted)(*given)
    same(found, expected, device, ulps=2)
    jitted = pa.jit(pa.grad(ours, wanted))
    for _ in range(4):
        same(jitted(*given), found, device)


@pytest.mark.parametrize("name", [n for n in programs() if n != "newton"])
def test_forward_mode_and_batches(name: str, device: str) -> None:
    ours, python, given = programs()[name]
    moved = tuple([pa.ones(t.shape) * 0.5 for t in given])
    same(pa.jvp(ours, given, moved), pa.jvp(python, given, moved), device, ulps=2)
    many = tuple([pa.stack([t, t * 0.5, -t]) for t in given])
    expected = pa.stack([python(*[m[i] for m in many]) for i in range(3)])
    same(pa.vmap(ours)(*many), expected, device, ulps=2)
    one = (many[0], *given[1:])
    axes = (0, *[None] * (len(given) - 1))
    expected = pa.stack([python(many[0][i], *given[1:]) for i in range(3)])
    same(pa.vmap(ours, axes)(*one), expected, device, ulps=2)
    slopes = pa.vmap(pa.grad(ours), axes)(*one)
    same(slopes, pa.stack([pa.grad(python)(many[0][i], *given[1:]) for i in range(3)]), device, 2)


def test_values_and_gradients_have_the_bits_of_the_loop(device: str) -> None:
    """One use of each value in a step: then the order of additions is that of the loop."""
    w, _, xs = arrays((4, 4), (4, 3), (6, 4))

    def ours(w: Any, xs: Any) -> Any:
        return pa.scan(lambda h, x: (pa.tanh(w @ h + x), None), pa.ones((4,)), xs)[0].sum()

    def python(w: Any, xs: Any) -> Any:
        h = pa.ones((4,))
        for i in range(6):
            h = pa.tanh(w @ h + xs[i])
        return h.sum()

    same(pa.grad(ours, (0, 1))(w, xs), pa.grad(python, (0, 1))(w, xs), device)


def test_higher_derivatives(device: str) -> None:
    def power(x: Any) -> Any:
        return pa.scan(lambda c, _: (c * x, None), x, None, 3)[0]

    x = pa.asarray(2.0)
    assert pa.grad(power)(x).item() == 32.0
    assert pa.grad(pa.grad(power))(x).item() == 48.0
    assert pa.grad(pa.grad(pa.grad(power)))(x).item() == 48.0
    slope, curve = pa.jvp(pa.grad(power), (x,), (pa.asarray(1.0),))
    assert (slope.item(), curve.item()) == (32.0, 48.0)
    both = pa.grad(lambda x: pa.jvp(power, (x,), (pa.asarray(1.0),))[1])
    assert both(x).item() == 48.0
    assert pa.grad(pa.grad(piecewise))(pa.asarray([-3.0, 1.0, 0.5])[0:1].sum()).item() == 2.0
    many = pa.vmap(pa.grad(pa.grad(power)))(pa.asarray([1.0, 2.0]))
    assert many.tolist() == [12.0, 48.0]


# Loops of unknown length.


def collatz(n: Any) -> Any:
    def step(c: Any) -> Any:
        n, steps = c
        odd = pa.cond(n % 2 == 1, lambda n: 3 * n + 1, lambda n: n // 2, n)
        return odd, steps + 1

    return pa.while_loop(lambda c: c[0] > 1, step, (n, 0))[1]


def test_a_loop_runs_as_long_as_it_must(device: str) -> None:
    jitted = pa.jit(collatz)
    for n, steps in ((1, 0), (2, 1), (7, 16), (27, 111), (6, 8)):
        assert collatz(pa.asarray(n)).item() == steps
        assert jitted(pa.asarray(n)).item() == steps
    assert pa.vmap(collatz)(pa.asarray([1, 2, 7, 27])).tolist() == [0, 1, 16, 111]


def test_nested_loops_with_lengths_that_depend_on_data(device: str) -> None:
    def total(n: Any) -> Any:
        inner = lambda i, s: s + pa.fori_loop(0, i, lambda j, t: t + j, 0)  # noqa: E731
        return pa.fori_loop(0, n, inner, 0)

    expected = [sum(sum(range(i)) for i in range(n)) for n in range(7)]
    assert [total(pa.asarray(n)).item() for n in range(7)] == expected
    assert [pa.jit(total)(n).item() for n in range(7)] == expected
    assert pa.vmap(total)(pa.asarray([2, 6, 0])).tolist() == [expected[i] for i in (2, 6, 0)]


def test_forward_mode_of_a_loop(device: str) -> None:
    def f(x: Any) -> Any:
        return pa.while_loop(lambda c: c < 100.0, lambda c: c * x, x)

    x, one = pa.asarray(3.0), pa.asarray(1.0)
    found = [t.item() for t in pa.jvp(f, (x,), (one,))]
    assert found == [243.0, 405.0]
    rows = pa.vmap(lambda x: pa.jvp(f, (x,), (one,))[1])(pa.asarray([3.0, 11.0]))
    assert rows.tolist() == [405.0, 22.0]
    with pytest.raises(GradientError, match="max_steps"):
        pa.grad(f)(x).item()


def test_a_bounded_loop_has_reverse_mode(device: str) -> None:
    a = pa.asarray(9.0)
    np.testing.assert_allclose(pa.grad(newton)(a).item(), 1 / 6, rtol=1e-5)
    np.testing.assert_allclose(pa.grad(pa.grad(newton))(a).item(), -1 / 108, rtol=1e-3)
    many = pa.vmap(pa.grad(newton))(pa.asarray([4.0, 16.0]))
    np.testing.assert_allclose(many.numpy(), [0.25, 0.125], rtol=1e-4)
    stopped = pa.while_loop(lambda x: x < 100, lambda x: x + 1, 0, max_steps=5)
    assert stopped.item() == 5


# Edges.


def test_no_steps_at_all(device: str) -> None:
    x = pa.asarray([1.0, 2.0])
    carry, ys = pa.scan(lambda c, r: (c * r, c + r), x, pa.zeros((0, 2)))
    assert carry.tolist() == [1.0, 2.0] and ys.shape == (0, 2)
    assert pa.grad(lambda x: pa.scan(lambda c, _: (c * x, None), x, None, 0)[0].sum())(
        x
    ).tolist() == [1, 1]
    assert pa.fori_loop(5, 3, lambda i, c: c * 2, x).tolist() == [1.0, 2.0]
    assert pa.while_loop(lambda c: c.sum() < 0, lambda c: c * 2, x).tolist() == [1.0, 2.0]
    assert pa.map(lambda r: r.sum(), pa.zeros((0, 3))).shape == (0,)
    same(pa.jit(lambda x: pa.scan(lambda c, r: (c, r), x, x))(x), (x, x), device)


def test_from_the_other_end(device: str) -> None:
    xs = pa.asarray([1.0, 2.0, 3.0])
    carry, ys = pa.scan(lambda c, x: (2 * c + x, c), 0.0, xs, reverse=True)
    assert carry.item() == 17.0 and ys.tolist() == [8.0, 3.0, 0.0]
    weights = pa.grad(lambda xs: pa.scan(lambda c, x: (2 * c + x, c), 0.0, xs, reverse=True)[0])(xs)
    assert weights.tolist() == [1.0, 2.0, 4.0]


def test_trees_numbers_and_none(device: str) -> None:
    init = {"a": pa.ones((2,)), "n": 0, "none": None}
    xs = (pa.asarray([1.0, 2.0]), [pa.asarray([[1, 2], [3, 4]])])

    def step(c: Any, x: Any) -> Any:
        y = {"sum": c["a"] + x[1][0], "none": None}
        return {"a": c["a"] * x[0], "n": c["n"] + 1, "none": None}, y

    carry, ys = pa.scan(step, init, xs)
    assert carry["a"].tolist() == [2.0, 2.0] and carry["n"].item() == 2 and carry["none"] is None
    assert ys["sum"].tolist() == [[2.0, 3.0], [4.0, 5.0]] and ys["none"] is None
    assert carry["n"].dtype is pa.int64


def test_switch_takes_the_nearest(device: str) -> None:
    branches = [lambda x: x + 1, lambda x: x * 10, lambda x: -x]
    x = pa.asarray(3.0)
    for i, expected in ((-5, 4.0), (0, 4.0), (1, 30.0), (2, -3.0), (2**40, -3.0)):
        assert pa.switch(pa.asarray(i), branches, x).item() == expected
        assert pa.switch(i, branches, x).item() == expected
    many = pa.vmap(lambda i, x: pa.switch(i, branches, x))(
        pa.asarray([0, 1, 2, 9]), x + pa.zeros((4,))
    )
    assert many.tolist() == [4.0, 30.0, -3.0, -3.0]
    alone = pa.vmap(lambda i: pa.switch(i, branches, x))(pa.asarray([0, 1, 2]))
    assert alone.tolist() == [4.0, 30.0, -3.0]
    assert pa.vmap(lambda x: pa.switch(1, branches, x))(pa.asarray([1.0, 2.0])).tolist() == [
        10.0,
        20.0,
    ]


def test_what_is_taken_off_the_tape_stays_off(device: str) -> None:
    """`detach` and `no_grad` inside a step, also of a carry that comes onto the tape later."""
    w = pa.asarray([3.0, 4.0])

    def step(w: Any, c: Any) -> Any:
        with pa.no_grad():
            s = w * c
        return s * c * w + w.detach() + c.detach()

    def ours(w: Any) -> Any:
        return pa.scan(lambda c, _: (step(w, c), None), pa.ones((2,)), None, 3)[0].sum()

    def python(w: Any) -> Any:
        c = pa.ones((2,))
        for _ in range(3):
            c = step(w, c)
        return c.sum()

    same(pa.grad(ours)(w), pa.grad(python)(w), device, ulps=2)
    assert pa.grad(lambda x: pa.vmap(lambda a: a.detach() * a)(x).sum())(w).tolist() == [3.0, 4.0]
    assert pa.grad(lambda x: pa.map(lambda a: a.detach() * a, x).sum())(w).tolist() == [3.0, 4.0]


def test_state_that_a_step_reads_is_never_stale(device: str) -> None:
    w = pa.asarray([2.0])
    jitted = pa.jit(lambda x: pa.scan(lambda c, _: (c * w, None), x, None, 3)[0])
    mapped = pa.jit(lambda x: pa.vmap(lambda a: a * w)(x))
    x = pa.asarray([1.0])
    for i in range(6):
        w[...] = pa.asarray([2.0 + i])
        assert jitted(x).tolist() == [(2.0 + i) ** 3]
        assert mapped(x).tolist() == [[2.0 + i]]


def test_training_with_backward(device: str) -> None:
    w, u, xs = arrays((4, 4), (4, 3), (5, 3))
    ours, python = [], []
    for function, found in ((rnn, ours), (rnn_python, python)):
        p, q = w.clone().requires_grad_(), u.clone().requires_grad_()
        for _ in range(2):
            function(p, q, xs).backward()
        found += [p.grad, q.grad]
    same(ours, python, device, ulps=2)


# What is recorded and run.


def test_results_that_are_operands_are_never_written_over(device: str) -> None:
    """No steps at all, and a carry that is a row of xs: what is large is written in place."""
    n = 100_000
    state = pa.zeros((n,))

    @pa.jit
    def step(x: Any, k: Any) -> Any:
        state[...] = pa.fori_loop(0, k, lambda i, c: c + x, state)
        return state.sum()

    kept, total = [], 0
    for k in (1, 2, 0, 0, 3, 1, 0, 2):
        kept.append((total, state + 0.0))
        step(pa.ones((n,)), pa.asarray(k))
        total += k
        assert (state.numpy() == total).all()
    assert all((t.numpy() == was).all() for was, t in kept)
    xs = pa.asarray(np.arange(3.0 * n, dtype=np.float32).reshape(3, n))
    last = pa.scan(lambda c, x: (x, None), xs[0], xs)[0]
    expected = last.numpy().copy()
    del xs
    for _ in range(3):
        (pa.ones((n,)) * 3.0 + 1.0).numpy()
    np.testing.assert_array_equal(last.numpy(), expected)


def test_a_scan_in_a_loop_makes_one_program() -> None:
    def once(i: int) -> None:
        pa.scan(lambda c, x: (c * 0.5 + x * float(i), None), pa.ones((3,)), pa.ones((7, 3)))[
            0
        ].numpy()

    for i in range(3):
        once(i)
    before = counts.programs_compiled
    for i in range(10):
        once(i)
    assert counts.programs_compiled == before


def test_a_loop_is_one_node_and_work_outside_is_done_once() -> None:
    x = pa.ones((3, 3))

    def f(x: Any) -> Any:
        w = x @ x  # outside: an input of the loop
        return pa.fori_loop(0, 10, lambda i, c: c @ w, x)

    text = graph_text(pa.jit(f), x)
    assert text.count("scan(") == 1 and text.count("dot(") == 2
    text = graph_text(pa.jit(lambda x: pa.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x)), x)
    assert text.count("= loop(") == 1
    before = counts.single_operations
    f(x).sum().item()
    assert counts.single_operations - before <= 8


def graph_text(jitted: Any, *args: Any) -> str:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        jitted.show("simplify", *args)
    return out.getvalue()


def test_graphs_with_control_flow_print_and_come_back() -> None:
    graph = recorded()
    again = parse(show(graph), REGISTRY)
    verify(again)
    assert again == graph


def recorded() -> Graph:
    """A scan of a branch, as a graph."""
    of = spec((), pa.float32)
    index = spec((), pa.int32)

    def one(function: Any, *specs: Any) -> Graph:
        builder = Builder()
        with use_sink(builder):
            outs = function(*[builder.input(s) for s in specs])
            return builder.graph([o.value for o in outs])

    graphs = (one(lambda c: [c + c], of), one(lambda c: [c * c], of))

    def body(c: Any, i: Any) -> Any:
        found = apply(REGISTRY["branch"], [i, c], graphs=graphs)
        return found, found

    params = {"length": 4, "reverse": False, "constants": 0, "carry": 1}
    return one(
        lambda c, i: apply(REGISTRY["scan"], [c, i], body=one(body, of, index), **params),
        of, spec((4,), pa.int32),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["numpy", "cpu", "null", "xla"])
def test_backends_run_what_was_recorded(name: str) -> None:
    if name == "xla":
        pytest.importorskip("jax")
    chip = backend(name)
    home = chip.devices()[0]
    graph = recorded()
    run = chip.compile(lower(graph, chip, home))
    given = [np.float32(1.5), np.array([0, 1, 1, 9], np.int32)]
    buffers = [chip.put(a, i.spec, home) for a, i in zip(given, graph.inputs, strict=True)]
    carry, ys = [b.host() for b in run(buffers)]
    assert run.report["peak_bytes"] >= 0
    if name != "null":
        assert carry == 3.0**8 and ys.tolist() == [3.0, 9.0, 81.0, 6561.0]


def test_a_thousand_steps_hold_no_memory() -> None:
    import tracemalloc

    def f(x: Any, n: Any) -> Any:
        return pa.while_loop(lambda c: c[1] < n, lambda c: (pa.tanh(c[0] * 1.5), c[1] + 1), (x, 0))

    jitted = pa.jit(f)
    x = pa.ones((64,))
    for n in (3, 3, 3, 10):
        jitted(x, pa.asarray(n))[0].numpy()
    tracemalloc.start()
    jitted(x, pa.asarray(10))[0].numpy()
    _, short = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    jitted(x, pa.asarray(1000))[0].numpy()
    _, long = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert long < short + 20_000


# Errors.


def test_errors_name_the_function_and_the_leaf() -> None:
    x = pa.ones((3,))
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: pa.scan(lambda c, r: ({"a": c["a"][:2]}, r), {"a": x}, x), ArgumentError,
         r"\[scan\] given a carry .*\['a'\] of float32\[2\], expected float32\[3\]"),
        (lambda: pa.scan(lambda c, r: (c + 0.5, r), 0, x), ArgumentError, "int64"),
        (lambda: pa.scan(lambda c, r: c, x, x), ArgumentError, "pair|carry, y"),
        (lambda: pa.scan(lambda c, r: ((c, c), r), x, x), ArgumentError, "structure"),
        (lambda: pa.scan(lambda c, r: (c, r), x, None), ArgumentError, "length"),
        (lambda: pa.scan(lambda c, r: (c, r), x, x, 4), ShapeError, "4 rows"),
        (lambda: pa.scan(lambda c, r: (c, r), x, (x, pa.ones((2,)))), ShapeError, r"xs\[1\]"),
        (lambda: pa.scan(lambda c, r: (c, r), x, pa.ones(())), ShapeError, "0 axes"),
        (lambda: pa.scan(lambda c, r: (c, r), x, None, -1), ArgumentError, "length=-1"),
        (lambda: pa.scan(3, x, x), DtypeError, "function"),
        (lambda: pa.scan(lambda c, r: (c, "no"), x, x), DtypeError, "str"),
        (lambda: pa.cond(True, lambda x: x, lambda x: x.sum(), x), ArgumentError, "result"),
        (lambda: pa.cond(x > 0, lambda x: x, lambda x: x, x), ShapeError, "pred"),
        (lambda: pa.cond(True, lambda x: x, lambda x: (x, x), x), ArgumentError, "structure"),
        (lambda: pa.switch(0.5, [lambda x: x], x), DtypeError, "integers"),
        (lambda: pa.switch(0, [], x), ArgumentError, "branches"),
        (lambda: pa.switch(0, [3], x), DtypeError, "function"),
        (lambda: pa.while_loop(lambda c: c, lambda c: c, x), ArgumentError, "condition"),
        (lambda: pa.while_loop(lambda c: c.sum(), lambda c: c, x, 3), ArgumentError, "condition"),
        (lambda: pa.while_loop(lambda c: c.sum() > 0, lambda c: c[:1], x), ArgumentError, "carry"),
        (lambda: pa.while_loop(lambda c: True, lambda c: c, ()), ArgumentError, "tensors"),
        (lambda: pa.fori_loop(0, 2.5, lambda i, c: c, x), DtypeError, "integer"),
        (lambda: pa.fori_loop(0, x, lambda i, c: c, x), ShapeError, "bound"),
        (lambda: pa.map(lambda r: r, ()), ArgumentError, "xs without tensors"),
        (lambda: pa.cond(True, lambda x: x if x.sum() > 0 else -x, lambda x: x, x), JitError, "bool"),
    ]  # fmt: skip
    for call, kind, text in cases:
        with pytest.raises(kind, match=text):
            call()


def test_a_step_may_not_assign_what_is_outside() -> None:
    total = pa.zeros((3,))

    def step(c: Any, _: Any) -> Any:
        total[...] = c
        return c, None

    with pytest.raises(JitError, match="assignment"):
        pa.scan(step, pa.ones((3,)), None, 2)
    assert total.tolist() == [0.0, 0.0, 0.0]


# Checkpoint.


def test_a_checkpoint_computes_again_and_changes_no_bit(device: str) -> None:
    w, x = arrays((4, 4), (4,))

    def inner(w: Any, x: Any) -> Any:
        return pa.exp(pa.sin(w @ x)) * 0.5

    def plain(w: Any, x: Any) -> Any:
        return inner(w, inner(w, x)).sum()

    saved = pa.checkpoint(inner)

    def ours(w: Any, x: Any) -> Any:
        return saved(w, saved(w, x)).sum()

    same(ours(w, x), plain(w, x), device)
    same(pa.grad(ours, (0, 1))(w, x), pa.grad(plain, (0, 1))(w, x), device)
    same(pa.jvp(ours, (w, x), (w, x)), pa.jvp(plain, (w, x), (w, x)), device)
    same(pa.grad(pa.grad(lambda a: ours(w, a * x)))(pa.asarray(1.0)),
         pa.grad(pa.grad(lambda a: plain(w, a * x)))(pa.asarray(1.0)), device, ulps=2)  # fmt: skip
    rows = pa.stack([x, x * 2])
    slopes = [pa.vmap(pa.grad(f, 1), (None, 0))(w, rows) for f in (ours, plain)]
    same(*slopes, device, ulps=2)
    if device == "numpy":
        texts = [graph_text(pa.jit(pa.value_and_grad(f)), w, x) for f in (plain, ours)]
        assert [t.count("= sin(") for t in texts] == [2, 4]
    captured = pa.grad(lambda w: pa.checkpoint(lambda a: pa.tanh(w @ a))(x).sum())(w)
    same(captured, pa.grad(lambda w: pa.tanh(w @ x).sum())(w), device)
