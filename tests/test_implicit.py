"""Linear equations, roots and transposes of one's own: derivatives by what a result means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.compile.tiers import counts
from proa.errors import ArgumentError, DtypeError, GradientError

RNG = np.random.default_rng(0)
M = RNG.normal(size=(4, 4))
A = M @ M.T + 4 * np.eye(4)  # symmetric and positive
N = M + 6 * np.eye(4)  # neither
B = RNG.normal(size=4)


@pytest.fixture(params=["numpy", "cpu", "xla"])
def device(request: Any) -> Iterator[str]:
    if request.param == "xla":
        pytest.importorskip("jax")
    with pa.device(request.param):
        yield request.param


def t(array: Any) -> Any:
    return pa.asarray(np.asarray(array, np.float64))


def near(found: Any, expected: Any, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)


def cg(matvec: Any, b: Any) -> Any:
    def step(state: Any) -> Any:
        x, r, p, rr = state
        q = matvec(p)
        alpha = rr / (p * q).sum()
        r = r - alpha * q
        new = (r * r).sum()
        return x + alpha * p, r, r + (new / rr) * p, new

    start = (pa.zeros_like(b), b, b, (b * b).sum())
    return pa.while_loop(lambda s: s[3] > 1e-24, step, start)[0]


def richardson(matvec: Any, b: Any) -> Any:
    """x + (b - A x) / 8 until it stands still: for any matrix that is close to a number."""

    def step(x: Any) -> Any:
        return x + (b - matvec(x)) * 0.15

    return pa.while_loop(lambda x: pa.abs(b - matvec(x)).max() > 1e-13, step, b * 0.1)


SOLVERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "symmetric": (A, {"solve": cg, "symmetric": True}),
    "transposed": (N, {"solve": richardson, "transpose_solve": richardson}),
}


@pytest.fixture(params=SOLVERS)
def system(request: Any) -> tuple[Any, Any]:
    matrix, options = SOLVERS[request.param]
    return matrix, lambda a, b: pa.linear_solve(lambda v: a @ v, b, **options)


def test_linear_solve_and_both_first_derivatives(system: Any, device: str) -> None:
    matrix, solve = system
    a, b, x = t(matrix), t(B), np.linalg.solve(matrix, B)
    near(solve(a, b), x)
    left = np.linalg.solve(matrix.T, 2 * x)
    for grad in (pa.grad, lambda f, n: pa.jit(pa.grad(f, n))):
        da, db = grad(lambda a, b: (solve(a, b) ** 2).sum(), (0, 1))(a, b)
        near(da, -np.outer(left, x))
        near(db, left)
    moved = pa.jvp(solve, (a, b), (t(M), t(2 * B)))[1]
    near(moved, np.linalg.solve(matrix, 2 * B - M @ x))


def test_linear_solve_second_derivatives(system: Any) -> None:
    matrix, solve = system
    a, b, direction = t(matrix), t(B), t((M + M.T) * 0.1)

    def f(s: Any) -> Any:
        return (solve(a + s * direction, b) ** 2).sum()

    def truth(s: float) -> Any:
        return (np.linalg.solve(matrix + s * (M + M.T) * 0.1, B) ** 2).sum()

    h = 1e-4
    expected = (truth(h) - 2 * truth(0) + truth(-h)) / h**2
    zero, one = t(0.0), t(1.0)
    slope = pa.grad(f)

    def pushed(s: Any) -> Any:
        return pa.jvp(f, (s,), (one,))[1]

    for second in (
        pa.grad(slope)(zero), pa.jvp(slope, (zero,), (one,))[1],
        pa.grad(pushed)(zero), pa.jvp(pushed, (zero,), (one,))[1], pa.jit(pa.grad(slope))(zero),
    ):  # fmt: skip
        near(second, expected, 1e-5)


def test_linear_solve_in_batches(system: Any, device: str) -> None:
    matrix, solve = system
    many, b = t(np.stack([matrix, matrix + 0.5 * np.eye(4)])), t(np.stack([B, 2 * B]))

    def slope(a: Any, b: Any) -> Any:
        return pa.grad(lambda a, b: (solve(a, b) ** 3).sum(), (0, 1))(a, b)

    for axes in ((0, 0), (0, None), (None, 0)):
        given = [x if n == 0 else x[0] for x, n in zip((many, b), axes, strict=True)]
        for function in (solve, slope):
            together = pa.tree.flatten(pa.vmap(function, axes)(*given))[0]
            alone = [
                pa.tree.flatten(function(*[
                    x[i] if n == 0 else x for x, n in zip(given, axes, strict=True)
                ]))[0] for i in range(2)
            ]  # fmt: skip
            for k, found in enumerate(together):
                near(found, np.stack([row[k].numpy() for row in alone]), 1e-7)


def test_trees_and_what_is_read_from_outside() -> None:
    scale = t([2.0, 4.0])

    def matvec(v: Any) -> Any:
        return {"a": v["a"] * scale, "b": (v["b"][0] * 3.0,)}

    def solve(_: Any, b: Any) -> Any:
        return {"a": b["a"] / scale, "b": (b["b"][0] / 3.0,)}

    def f(b: Any) -> Any:
        x = pa.linear_solve(matvec, b, solve, symmetric=True)
        return x["a"].sum() * x["b"][0]

    found = pa.grad(f)({"a": t([1.0, 1.0]), "b": (t(6.0),)})
    near(found["a"], [1.0, 0.5])
    near(found["b"][0], 0.25)
    slope = pa.grad(lambda s: pa.linear_solve(lambda v: v * s, t(6.0), lambda _, b: b / s,
                                              symmetric=True))  # fmt: skip
    near(slope(t(2.0)), -1.5)


def test_the_solver_is_not_differentiated() -> None:
    """A number that only the solver uses has no derivative; a bad start changes nothing."""
    a, b = t(A), t(B)

    def f(start: Any) -> Any:
        found = pa.linear_solve(lambda v: a @ v, b, lambda m, b: cg(m, b) + start * 0.0,
                                symmetric=True)  # fmt: skip
        return found.sum()

    assert pa.grad(f)(t(1.0)).item() == 0.0


def test_a_loss_that_is_read_solves_once() -> None:
    with pa.device("numpy"):
        a, b = t(A), t(B).requires_grad_()
        before = counts.contractions
        loss = (pa.linear_solve(lambda v: a @ v, b, lambda m, b: m(m(b)), symmetric=True)).sum()
        loss.item()
        first = counts.contractions - before
        loss.backward()
        b.grad.numpy()
        assert (first, counts.contractions - before) == (2, 4)


def test_errors_of_linear_solve() -> None:
    b = t(B)

    def solve(matvec: Any, b: Any) -> Any:
        return b

    with pytest.raises(GradientError, match=r"given mul at .*test_implicit.py:\d+, expected a fun"):
        pa.linear_solve(lambda v: v * v, b, solve)
    with pytest.raises(GradientError, match="given add at"):
        pa.linear_solve(lambda v: v + 1.0, b, solve, transpose_solve=solve)
    with pytest.raises(GradientError, match="given exp at"):
        pa.linear_solve(pa.exp, b, solve)
    with pytest.raises(GradientError, match="transpose_solve=..., symmetric=True"):
        pa.grad(lambda b: pa.linear_solve(lambda v: v * 2.0, b, solve).sum())(b).numpy()
    with pytest.raises(ArgumentError, match="a solution"):
        pa.linear_solve(lambda v: v * 2.0, b, lambda m, b: b[:2])
    with pytest.raises(ArgumentError, match="a product"):
        pa.linear_solve(lambda v: (v,), b, solve)
    with pytest.raises(DtypeError, match="a float dtype"):
        pa.linear_solve(lambda v: v, pa.asarray([1, 2]), solve)
    with pytest.raises(DtypeError, match="expected a function"):
        pa.linear_solve(3, b, solve)


# Roots.


def newton(f: Any, x: Any) -> Any:
    return pa.fori_loop(0, 30, lambda _, x: x - f(x) / pa.grad(f)(x), x)


def divided(g: Any, y: Any) -> Any:
    return y / g(pa.ones_like(y))


def sqrt(a: Any) -> Any:
    return pa.root(lambda x: x * x - a, t(1.0), newton, divided)


def test_a_root_has_derivatives_of_any_order(device: str) -> None:
    f = sqrt
    for expected in (2.0, 1 / 4, -1 / 32, 3 / 256, -15 / 2048):
        near(f(t(4.0)), expected)
        f = pa.grad(f)
    one = t(1.0)
    near(pa.jvp(sqrt, (t(4.0),), (one,))[1], 1 / 4)
    near(pa.jvp(pa.grad(sqrt), (t(4.0),), (one,))[1], -1 / 32)
    jitted = pa.jit(pa.grad(sqrt))
    for a in (4.0, 9.0, 16.0, 25.0, 36.0):
        near(jitted(t(a)), 0.5 / np.sqrt(a))
    near(pa.vmap(pa.grad(sqrt))(t([4.0, 9.0])), [1 / 4, 1 / 6])


def test_a_fixed_point_of_a_tree() -> None:
    w, u = t(RNG.normal(size=(3, 3)) * 0.2), t(RNG.normal(size=3))

    def fixed(w: Any, u: Any) -> Any:
        def f(z: Any) -> Any:
            return (pa.tanh(w @ z[0] + z[1] * u) - z[0], 0.5 * pa.sin(z[0].sum()) - z[1])

        def iterate(f: Any, z: Any) -> Any:
            def goes(z: Any) -> Any:
                return pa.abs(f(z)[0]).max() + pa.abs(f(z)[1]) > 1e-14

            return pa.while_loop(goes, lambda z: pa.tree.map(lambda a, b: a + b, z, f(z)), z)

        def solved(g: Any, y: Any) -> Any:
            def step(v: Any) -> Any:
                return pa.tree.map(lambda a, b, c: a - 0.5 * (b - c), v, g_minus(v), y)

            def g_minus(v: Any) -> Any:
                return pa.tree.map(lambda a: -a, g(v))

            minus = pa.fori_loop(0, 200, lambda _, v: step(v), pa.tree.map(lambda a: a * 0.0, y))
            return pa.tree.map(lambda a: -a, minus)

        return pa.root(f, (u * 0.0, t(0.0)), iterate, solved)

    def loss(w: Any, u: Any) -> Any:
        z = fixed(w, u)
        return (z[0] ** 2).sum() + z[1]

    dw, du = pa.grad(loss, (0, 1))(w, u)
    h = 1e-5
    for i in range(3):
        e = np.zeros(3)
        e[i] = h
        slope = (loss(w, u + t(e)) - loss(w, u - t(e))).item() / (2 * h)
        assert du[i].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)
    e = RNG.normal(size=(3, 3))
    slope = (loss(w + t(h * e), u) - loss(w - t(h * e), u)).item() / (2 * h)
    assert (dw * t(e)).sum().item() == pytest.approx(slope, rel=1e-5)


def test_errors_of_root() -> None:
    with pytest.raises(ArgumentError, match=r"\[root\] given a value"):
        pa.root(lambda x: (x, x), t(1.0), newton, divided)
    with pytest.raises(ArgumentError, match=r"\[root\] given a root"):
        pa.root(lambda x: x, t(1.0), lambda f, x: x[None], divided)
    with pytest.raises(ArgumentError, match=r"\[root\] given a tangent"):
        pa.root(lambda x: x, t(1.0), newton, lambda g, y: y[None])
    with pytest.raises(DtypeError, match="a float dtype"):
        pa.root(lambda x: x, pa.asarray(1), newton, divided)


# Linear functions.


def scaled(a: Any, x: Any) -> Any:
    """a x, whose transpose is wrong by a factor, so that its use shows."""
    return pa.linear_call(lambda r, x: r[0] * x, lambda r, ct: 100.0 * r[0] * ct, (a,), x)


def test_linear_call(device: str) -> None:
    a, x = t(3.0), t(2.0)
    near(scaled(a, x), 6.0)
    near(pa.jvp(scaled, (a, x), (t(1.0), t(1.0)))[1], 5.0)
    for found, expected in zip(pa.grad(scaled, (0, 1))(a, x), (2.0, 300.0), strict=True):
        near(found, expected)
    near(pa.grad(lambda a: pa.grad(scaled, 1)(a, x))(a), 100.0)
    rows = t([1.0, 2.0])
    mapped = pa.grad(lambda a, x: pa.vmap(scaled, (None, 0))(a, x).sum(), (0, 1))(a, rows)
    near(mapped[0], 3.0)
    near(mapped[1], [300.0, 300.0])
    back = pa.linear_transpose(lambda x: scaled(a, x), x)
    again = pa.linear_transpose(lambda ct: back(ct)[0], x)
    near(back(x)[0], 600.0)
    near(again(x)[0], 6.0)
    with pytest.raises(GradientError, match="given mul at"):
        pa.linear_call(lambda r, x: x * x, lambda r, ct: ct, (), x)
    with pytest.raises(ArgumentError, match="a transpose that gives"):
        pa.linear_call(lambda r, x: x.sum(), lambda r, ct: ct, (), rows)


def test_linear_transpose() -> None:
    w, x = t(M), t(B)
    turned = pa.linear_transpose(lambda x, y: (w @ x - y["a"][::-1], y["a"].sum()), x, {"a": x})
    ct, one = t(RNG.normal(size=4)), t(2.0)
    found = turned((ct, one))
    near(found[0], M.T @ ct.numpy())
    near(found[1]["a"], 2.0 - ct.numpy()[::-1])
    only_shape = pa.linear_transpose(lambda x: x.sum(), np.zeros((3,)))
    near(only_shape(one)[0], [2.0, 2.0, 2.0])
    near(pa.jit(lambda ct: turned((ct, one))[0])(ct), found[0].numpy())
    for function, name in (
        (pa.sin, "sin"), (lambda x: x + 1.0, "add"), (lambda x: x * x, "mul"),
        (lambda x: pa.where(x > 0, x, 0.0), "select"), (lambda x: 1.0 / x, "div"),
    ):  # fmt: skip
        with pytest.raises(GradientError, match=rf"\[linear_transpose\] given {name} at"):
            pa.linear_transpose(function, x)
    with pytest.raises(ArgumentError, match="a cotangent"):
        turned((ct, ct))


def test_linearize() -> None:
    calls = []

    def f(x: Any, y: Any) -> Any:
        calls.append(1)
        return {"out": pa.sin(x) * y}

    x, y = t(0.5), t(2.0)
    value, push = pa.linearize(f, x, y)
    near(value["out"], 2 * np.sin(0.5))
    for s in (1.0, 2.0):
        near(push(t(s), t(0.0))["out"], 2 * s * np.cos(0.5))
    assert len(calls) == 1
    near(pa.grad(lambda x: pa.linearize(pa.sin, x)[1](t(1.0)))(x), -np.sin(0.5))
    with pytest.raises(ArgumentError, match=r"\[linearize\] given tangents"):
        push(t(1.0))
