"""`pa.checkpoint`: what is computed again under each policy, counted; bits that do not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.compile.tiers import counts
from proa.errors import ArgumentError, DtypeError, ProaError
from proa.record import replay

P = pa.checkpoint_policies
POLICIES: dict[str, Any] = {
    "plain": None,
    "no policy": None,
    "nothing": P.save_nothing,
    "everything": P.save_everything,
    "products": P.save_products,
    "only hidden": P.save_only("hidden"),
    "only others": P.save_only("others"),
    "tanh": lambda operation, name: operation == "tanh",
}
# Products of one step: 3 forward, 6 backward; again: both of the inside (the last one's result is
# read by nothing), one of them, or none.
PRODUCTS = {
    "plain": 9, "no policy": 11, "nothing": 11, "everything": 9, "products": 9, "only hidden": 10,
    "only others": 11, "tanh": 9,
}  # fmt: skip


@pytest.fixture(params=["numpy", "cpu"])
def device(request: Any) -> Iterator[str]:
    with pa.device(request.param):
        yield request.param


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [pa.asarray(rng.normal(size=s).astype(np.float32) * 0.5) for s in shapes]


def saved(name: str, function: Any) -> Any:
    return function if name == "plain" else pa.checkpoint(function, policy=POLICIES[name])


def layers(w: Any, v: Any, x: Any) -> Any:
    hidden = pa.checkpoint_name(pa.tanh(x @ w), "hidden")
    return pa.tanh(hidden @ v) @ w


def loss_of(function: Any) -> Any:
    return lambda *given: (function(*given) ** 2).sum()


def bits(found: Any) -> list[bytes]:
    return [t.numpy().tobytes() for t in pa.tree.flatten(found)[0]]


def products(run: Any) -> tuple[int, list[bytes]]:
    """How many ran in the last of four calls, and its results."""
    for _ in range(4):
        before = counts.contractions
        found = bits(run())
    return counts.contractions - before, found


@pytest.mark.parametrize("name", POLICIES)
def test_products_of_each_policy(name: str, device: str) -> None:
    given = arrays((4, 4), (4, 4), (3, 4))
    expected = bits(pa.value_and_grad(loss_of(layers), (0, 1, 2))(*given))
    step = pa.value_and_grad(loss_of(saved(name, layers)), (0, 1, 2))
    for run in (step, pa.jit(step)):
        count, found = products(lambda run=run: run(*given))
        assert count == PRODUCTS[name]
        assert found == expected


@pytest.mark.parametrize("name", POLICIES)
def test_products_after_an_early_read(name: str, device: str) -> None:
    given = [t.requires_grad_() for t in arrays((4, 4), (4, 4), (3, 4))]
    expected = bits(pa.value_and_grad(loss_of(layers), (0, 1, 2))(*given))
    loss = loss_of(saved(name, layers))(*given)
    before = counts.contractions
    found = bits(loss)
    assert counts.contractions - before == 3
    loss.backward()
    assert found + bits([t.grad for t in given]) == expected
    assert counts.contractions - before == PRODUCTS[name]


def test_products_inside_composites_are_kept(device: str) -> None:
    q = arrays((2, 2, 5, 4))[0]
    attention = nn.functional.scaled_dot_product_attention
    run = [
        products(lambda f=f: pa.grad(loss_of(lambda x: f(x, x, x)))(q))
        for f in (
            attention, pa.checkpoint(attention), pa.checkpoint(attention, policy=P.save_products)
        )
    ]  # fmt: skip
    plain, again, kept = [count for count, _ in run]
    assert plain == kept < again
    assert run[0][1] == run[1][1] == run[2][1]


def model() -> Any:
    pa.manual_seed(1)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4)
    )


def trained(wrap: Any, jit: bool) -> list[Any]:
    """Losses, parameters and buffers; a module is used twice, checkpoints lie in each other."""
    net = model()
    opt = optim.SGD(net.parameters(), lr=0.1)
    part = wrap(net)
    whole = wrap(lambda x, scale, kind=None: part(x) + part(x) * scale)
    x = pa.randn(16, 4)

    def step() -> Any:
        loss = (whole(x, 2.0, kind="any") ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    run = pa.jit(step) if jit else step
    losses = [run().item() for _ in range(5)]
    return [losses, bits([*net.parameters(), *net.buffers()])]


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", ["nothing", "everything", "products"])
def test_modules_with_state(name: str, jit: bool, device: str) -> None:
    """The mask of dropout is the same in both passes; running statistics move once."""
    plain = trained(lambda f: f, False)
    assert trained(lambda f: saved(name, f), jit) == plain


def test_state_does_not_stay_on_the_tape(device: str) -> None:
    net = model()
    x = pa.randn(16, 4).requires_grad_()
    for _ in range(3):
        pa.checkpoint(net)(x)
    assert not any(b.requires_grad for b in net.buffers())
    assert net[1].num_batches_tracked.item() == 3


@pytest.mark.parametrize("name", ["nothing", "everything", "products", "only hidden"])
def test_batches_and_second_derivatives(name: str, device: str) -> None:
    w, v, x = arrays((4, 4), (4, 4), (3, 4))

    def twice(function: Any) -> Any:
        slope = pa.grad(lambda row: loss_of(function)(w, v, row[None]))
        return pa.vmap(pa.grad(lambda row: (slope(row) ** 2).sum()))(x)

    for found, expected in zip(twice(saved(name, layers)), twice(layers), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-5, atol=1e-6)
    pushed = [pa.jvp(f, (w, v, x), (v, w, x)) for f in (saved(name, layers), layers)]
    assert bits(pushed[0]) == bits(pushed[1])


def test_policies_are_asked_of_operations_not_of_steps() -> None:
    asked = []

    def policy(operation: str, name: str | None) -> bool:
        asked.append((operation, name))
        return False

    w, v, x = arrays((4, 4), (4, 4), (3, 4))
    pa.checkpoint(layers, policy=policy)(w, v, x)
    assert set(asked) == {("dot", None), ("tanh", None), ("checkpoint_name", "hidden")}


def test_a_policy_made_anew_makes_no_program(device: str) -> None:
    given = arrays((4, 4), (4, 4), (3, 4))
    made = []
    for _ in range(6):
        f = pa.checkpoint(layers, policy=P.save_only("hidden"))
        pa.grad(loss_of(f))(*given).numpy()
        made.append(len(replay.cache.plans))
    assert made[1] == made[-1]


def test_errors() -> None:
    x = pa.ones((3,))
    with pytest.raises(DtypeError, match=r"\[checkpoint\] given 3, expected a function"):
        pa.checkpoint(3)
    with pytest.raises(DtypeError, match="a policy 'dot'.*save_products"):
        pa.checkpoint(pa.sin, policy="dot")
    with pytest.raises(ProaError, match=r"\[checkpoint\] given offload"):
        P.offload("hidden")
    with pytest.raises(ArgumentError, match=r"\[save_only\] given 3"):
        P.save_only("a", 3)
    with pytest.raises(ArgumentError, match="a name"):
        pa.checkpoint_name(x, "")
    with pytest.raises(DtypeError, match=r"\[checkpoint_name\] given list"):
        pa.checkpoint_name([1.0], "a")
    with pytest.raises(ZeroDivisionError):
        pa.checkpoint(lambda x: x / (1 // 0))(x)
    assert pa.checkpoint(lambda x: None)(x) is None


def test_what_is_cheap_is_computed_again_from_what_is_kept() -> None:
    """Steps after a kept result are not merged with those of the forward pass: memory is saved."""
    w = arrays((8, 8))[0]
    x = pa.asarray(np.ones((64, 8), np.float32))
    peaks, sines = {}, {}

    def layer(x: Any) -> Any:
        return pa.tanh(pa.sin(x @ w) * pa.exp(x @ w)) + x

    with pa.device("numpy"):
        w, x = w.to("numpy"), x.to("numpy")
        for name in ("plain", "nothing", "products", "everything"):
            one = saved(name, layer)
            f = pa.jit(pa.grad(lambda x, one=one: (one(one(one(one(x)))) ** 2).sum()))
            for _ in range(3):
                f(x).numpy()
            plan = next(iter(f.cases.values())).plans[-1].plan
            peaks[name] = plan.run.peak_bytes
            names = [step.entry.primitive.name for step in plan.program.graph.steps]
            sines[name] = names.count("sin")
    assert sines == {"plain": 4, "nothing": 8, "products": 8, "everything": 4}
    assert peaks["nothing"] < peaks["products"] < peaks["everything"] == peaks["plain"]
