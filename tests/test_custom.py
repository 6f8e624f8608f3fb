"""Rules of one's own hold in every mode and are never stale; what `asarray` is given is never bent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.errors import ArgumentError, DtypeError, GradientError


def test_a_rule_given_again_holds() -> None:
    @pa.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))
    x = pa.asarray(2.0)
    jitted = pa.jit(lambda x: pa.grad(f)(x) * 1.0)
    for _ in range(6):
        assert pa.grad(f)(x).item() == jitted(x).item() == 6.0
    f.defvjp(lambda x: (x * x, x), lambda x, ct: (5.0 * x * ct,))
    for _ in range(6):
        assert pa.grad(f)(x).item() == jitted(x).item() == 10.0


@pytest.mark.parametrize("which", ["function", "forward", "backward"])
def test_what_a_rule_can_reach_counts(which: str) -> None:
    on = [True]

    def flagged(x: Any) -> Any:
        return x * x if on[0] else x + x

    def plain(x: Any) -> Any:
        return x * x

    @pa.custom_vjp
    def f(x: Any) -> Any:
        return flagged(x) if which == "function" else plain(x)

    f.defvjp(
        lambda x: (x * x, x * x if which != "forward" or on[0] else x),
        lambda r, ct: (r * ct if which != "backward" or on[0] else -r * ct,),
    )
    x = pa.asarray(3.0)
    before = (9.0, 9.0)
    after = {"function": (6.0, 9.0), "forward": (9.0, 3.0), "backward": (9.0, -9.0)}[which]
    jitted = pa.jit(lambda x: (f(x), pa.grad(f)(x)))
    for expected, flag in ((before, True), (after, False), (before, True)):
        on[0] = flag
        for _ in range(6):
            assert (f(x).item(), pa.grad(f)(x).item()) == expected
            assert tuple(t.item() for t in jitted(x)) == expected


def test_rules_are_traced_once_where_nothing_changes() -> None:
    @pa.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, ct: (2.0 * x * ct,))
    for _ in range(5):
        f(pa.asarray(2.0))
    assert len(f.traces) == 1


@pytest.mark.parametrize("given", [[1, 2**63], [-1, 2**63], [[1, 2], [3, 2**64]], [True, 2**63]])
def test_ints_that_int64_does_not_hold(given: Any) -> None:
    with pytest.raises(ArgumentError, match="int64"):
        pa.asarray(given)


def test_ints_with_a_dtype_that_holds_them() -> None:
    assert pa.asarray([1, 2**63], dtype=pa.uint64).tolist() == [1, 2**63]
    assert pa.asarray([-1, 2**63], dtype=pa.float64).tolist() == [-1.0, 2.0**63]
    assert pa.asarray([]).dtype is pa.float32
    with pytest.raises(ArgumentError, match="uint64"):
        pa.asarray([-1, 2**63], dtype=pa.uint64)


def test_masked_arrays() -> None:
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for function in (pa.asarray, pa.from_numpy, pa.from_dlpack):
        with pytest.raises(ArgumentError, match=r"\.filled\("):
            function(masked)
    with pytest.raises(ArgumentError, match=r"\.filled\("):
        pa.asarray([masked, masked])
    assert pa.asarray(np.ma.array([1.0, 2.0])).tolist() == [1.0, 2.0]


# Custom rules under transforms. The rules are wrong on purpose, so that their use shows.


@pa.custom_jvp
def pushed(x: Any) -> Any:
    return x * 1.0


@pushed.defjvp
def _rule(primals: Any, tangents: Any) -> Any:
    y = pushed(primals[0])
    return y, 2.0 * y * tangents[0]


@pa.custom_vjp
def pulled(x: Any) -> Any:
    return x * 1.0


def _forward(x: Any) -> Any:
    y = pulled(x)
    return y, y


pulled.defvjp(_forward, lambda y, ct: (2.0 * y * ct,))


def along(f: Any, direction: Any) -> Any:
    return lambda x: pa.jvp(f, (x,), (direction,))[1]


@pytest.mark.parametrize("device", ["numpy", "cpu", "xla"])
@pytest.mark.parametrize("f", [pushed, pulled], ids=["jvp", "vjp"])
def test_a_rule_holds_in_every_order_mode_and_batch(f: Any, device: str) -> None:
    if device == "xla":
        pytest.importorskip("jax")
    with pa.device(device):
        x, one = pa.asarray(3.0), pa.asarray(1.0)
        g = h = f
        for expected in (3.0, 6.0, 12.0, 24.0, 48.0):
            assert g(x).item() == h(x).item() == expected
            g = pa.grad(g)
            h = along(h, one)
        for k in (g, h):
            with pytest.raises(GradientError, match="derivatives up to the fourth"):
                k(x).item()
        second = pa.grad(pa.grad(f))
        jitted = pa.jit(second)
        assert [jitted(x).item() for _ in range(4)] == [12.0] * 4
        rows = pa.asarray([3.0, 1.0])
        assert pa.vmap(second)(rows).tolist() == [12.0, 4.0]
        assert pa.grad(lambda x: pa.vmap(f)(x).sum())(rows).tolist() == [6.0, 2.0]
        assert pa.grad(lambda x: pa.vmap(pa.grad(f))(x).sum())(rows).tolist() == [12.0, 4.0]
        assert pa.grad(lambda x: pa.checkpoint(f)(x))(x).item() == 6.0
        steps = pa.grad(lambda x: pa.scan(lambda c, _: (f(c), None), x, None, 2)[0])
        assert steps(x).item() == 36.0


def test_an_operand_that_all_examples_share() -> None:
    f = pa.custom_vjp(lambda x, y: x * y)
    f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, ct: (10.0 * ct * r[1], ct * r[0]))
    g = pa.custom_jvp(lambda x, y: x * y)
    g.defjvps(lambda t, ans, x, y: 10.0 * t * y, lambda t, ans, x, y: t * x)
    rows, y = pa.asarray([1.0, 2.0, 3.0]), pa.asarray(2.0)
    for h in (f, g):
        mapped = pa.grad(lambda x, y, h=h: pa.vmap(h, (0, None))(x, y).sum(), (0, 1))
        assert [t.tolist() for t in mapped(rows, y)] == [[20.0, 20.0, 20.0], 6.0]


def test_trees_none_and_what_has_no_derivative() -> None:
    @pa.custom_vjp
    def f(d: Any, n: Any, k: Any) -> Any:
        return {"a": d["a"] * d["b"] * k, "n": n, "none": None}

    f.defvjp(
        lambda d, n, k: (f(d, n, k), d),
        lambda d, ct: ({"a": ct["a"] * d["b"], "b": None}, None, None),
    )
    given = {"a": pa.ones((2,)), "b": pa.ones((2,)) * 3}
    found = pa.grad(lambda d: f(d, pa.asarray(3), 2.0)["a"].sum())(given)
    assert {k: t.tolist() for k, t in found.items()} == {"a": [3.0, 3.0], "b": [0.0, 0.0]}
    assert f(given, pa.asarray(3), 2.0)["n"].item() == 3

    @pa.custom_jvp
    def g(d: Any, n: Any) -> Any:
        return d["a"] * n, n

    @g.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        assert tangents[1] is None, "integers have no tangent"
        return g(*primals), (5.0 * tangents[0]["a"], None)

    assert pa.grad(lambda d: g(d, pa.asarray(2))[0].sum())(given)["a"].tolist() == [5.0, 5.0]


def test_arguments_that_are_given_as_they_are() -> None:
    f = pa.custom_vjp(lambda fn, x, n: fn(x) * n, nondiff_argnums=(0, 2))
    f.defvjp(lambda fn, x, n: (fn(x) * n, x), lambda fn, n, x, ct: (ct * 10.0 * n,))
    g = pa.custom_jvp(lambda n, x: x * n, nondiff_argnums=(0,))
    g.defjvp(lambda n, p, t: (p[0] * n, t[0] * n * 10))
    x = pa.asarray(0.5)
    for n in (2, 3, 2):
        assert pa.grad(lambda x, n=n: f(lambda x: x + n, x, n))(x).item() == 10.0 * n
        assert f(lambda x, n=n: x + n, x, n).item() == (0.5 + n) * n
        assert pa.grad(lambda x, n=n: g(n, x))(x).item() == 10.0 * n


def test_errors_of_rules() -> None:
    x = pa.asarray(2.0)
    with pytest.raises(GradientError, match=r"\[custom_jvp\] given a function without a rule"):
        pa.custom_jvp(pa.sin)(x)
    with pytest.raises(GradientError, match=r"f.defvjp\(forward, backward\)"):
        pa.custom_vjp(pa.sin)(x)

    def jvp(rule: Any) -> Any:
        f = pa.custom_jvp(lambda x: x * 2.0)
        f.defjvp(rule)
        return f(x)

    def vjp(backward: Any, forward: Any = lambda x: (x * 2.0, x)) -> Any:
        f = pa.custom_vjp(lambda x: x * 2.0)
        f.defvjp(forward, backward)
        return f(x)

    for run, text in (
        (lambda: jvp(lambda p, t: p[0]), "a rule that returns Tensor"),
        (lambda: jvp(lambda p, t: (p[0], (t[0], t[0]))), "a tangent tuple for the result"),
        (lambda: jvp(lambda p, t: (p[0], t[0][None])), r"a tangent float32\[1\]"),
        (lambda: vjp(lambda r, ct: (ct, ct)), "2 cotangents, expected 1"),
        (lambda: vjp(lambda r, ct: ((ct,),)), "a cotangent tuple for an argument"),
        (lambda: vjp(lambda r, ct: ct[None]), r"a cotangent float32\[1\]"),
        (lambda: vjp(lambda r, ct: ct, lambda x: x), "a forward rule that returns Tensor"),
    ):
        with pytest.raises(GradientError, match=text):
            run()
    with pytest.raises(ArgumentError, match="a forward rule's result"):
        vjp(lambda r, ct: ct, lambda x: (x[None], x))
    with pytest.raises(ArgumentError, match="nondiff_argnums"):
        pa.custom_jvp(pa.sin, nondiff_argnums=("x",))
    with pytest.raises(DtypeError, match="expected a function"):
        pa.custom_vjp(3)


def test_a_rule_may_not_hide_a_tensor_on_the_tape() -> None:
    w, x = pa.ones(()).requires_grad_(), pa.asarray(2.0)
    f = pa.custom_vjp(lambda x: x * w)
    f.defvjp(lambda x: (x * w, x), lambda r, ct: (ct,))
    with pytest.raises(GradientError, match=r"giving it as an argument, or .detach\(\)"):
        f(x)
    with pa.no_grad():
        assert f(x).item() == 2.0
    g = pa.custom_vjp(lambda x: x * w.detach())
    g.defvjp(lambda x: (x * w.detach(), x), lambda r, ct: (ct * 3.0,))
    assert pa.grad(g)(x).item() == 3.0


def test_forward_mode_of_a_rule_that_is_not_linear() -> None:
    f = pa.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda r, ct: (pa.clip(ct, -1.0, 1.0),))
    x = pa.asarray(2.0)
    assert pa.grad(lambda x: f(x) * 5.0)(x).item() == 1.0
    with pytest.raises(GradientError, match=r"a function that is linear, try pa.custom_jvp"):
        pa.jvp(f, (x,), (x,))[1].item()
