"""Sizes that vary: programs are counted, results compared with programs of these sizes alone."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.compile.find import default_device, set_default_device
from proa.errors import JitError
from proa.explain import forget_programs
from proa.nn import functional as F  # noqa: N812
from proa.ops.expand import _expanded, _told
from proa.ops.primitive import REGISTRY
from proa.record.replay import cache

SIZES = [5, 7, 12, 33, 8, 9, 33, 2, 64, 31, 16, 5, 40]


@pytest.fixture(params=["numpy", "cpu"], autouse=True)
def device(request: Any) -> Any:
    before = default_device()
    set_default_device(request.param)
    forget_programs()
    yield request.param
    set_default_device(before)


def training(jitted: bool) -> Any:
    pa.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))
    optimiser = optim.AdamW(net.parameters(), lr=1e-2)

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return pa.jit(step) if jitted else step


def batch(n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(n)
    x = pa.asarray(rng.standard_normal((n, 6)).astype("float32"))
    return x, pa.asarray(rng.integers(0, 3, n))


def counts() -> dict[str, int]:
    return {"made": cache.made, **pa.explain().counts}


def trained(sizes: list[int], jitted: bool, alone: bool = False) -> list[float]:
    step, losses = training(jitted), []
    for n in sizes:
        if alone:
            forget_programs()
        losses.append(step(*batch(n)).item())
    return losses


@pytest.mark.parametrize("jitted", [False, True])
def test_many_sizes_make_no_more_programs_than_three(jitted: bool) -> None:
    expected = trained(SIZES, False, alone=True)
    forget_programs()
    step, before = training(jitted), counts()
    losses = [step(*batch(n)).item() for n in [5, *SIZES[:9]]]
    after = counts()
    losses += [step(*batch(n)).item() for n in SIZES[9:]]
    for n in range(41, 60):
        step(*batch(n)).item()
    end = counts()
    assert after["made"] - before["made"] <= 4  # the first step is another: it makes the slots
    for name in ("made", "programs_compiled", "single_operations"):
        assert end[name] == after[name], name
    forget_programs()
    assert losses == trained([5, *SIZES], False, alone=True)
    assert len(expected) == len(SIZES)


def test_explain_names_dims_and_sizes() -> None:
    trained([5, 7, 12, 33, 8], False)
    (row,) = [p for p in pa.explain().programs if p["sizes"]]
    assert row["dims"] == "float32[a, 6], int64[a]"
    assert {(8,), (12,), (33,)} <= set(row["sizes"])
    assert "for all sizes of float32[a, 6]" in repr(pa.explain())


def test_two_dims_and_sizes_that_are_equal_by_chance() -> None:
    def attend(x: Any) -> Any:
        b, n, w = x.shape
        h = x.reshape((b, n, 2, w // 2)).permute((0, 2, 1, 3))
        p = pa.softmax(h @ h.permute((0, 1, 3, 2)), axis=-1)
        return (p @ h).permute((0, 2, 1, 3)).reshape((b * n, w)).mean()

    shapes = [(3, 5), (4, 7), (6, 2), (9, 4), (5, 5), (2, 8), (7, 3), (8, 8)]
    given = [np.random.default_rng(i).standard_normal((*s, 8)) for i, s in enumerate(shapes)]
    found = [attend(pa.asarray(a.astype("float32"))).item() for a in given]
    made = cache.made
    again = [attend(pa.asarray(a.astype("float32"))).item() for a in given]
    assert cache.made == made and again == found
    forget_programs()
    assert found == [attend(pa.asarray(a.astype("float32"))).item() for a in given]


def test_a_scan_over_rows() -> None:
    w = pa.asarray(np.linspace(0.1, 0.9, 16, dtype="float32").reshape(4, 4)).requires_grad_()

    def run(n: int, b: int) -> list[Any]:
        x = np.random.default_rng(n).standard_normal((n, b, 4)).astype("float32")

        def cell(h: Any, now: Any) -> Any:
            h = pa.tanh(now @ w) * 0.5 + h
            return h, h

        loss = (pa.scan(cell, pa.zeros((b, 4)), pa.asarray(x))[1] ** 2).mean()
        return [loss.item(), pa.grad(lambda v: (pa.asarray(x[0]) @ v).mean())(w).tolist()]

    sizes = [(3, 5), (5, 4), (6, 9), (9, 3), (4, 7), (12, 6)]
    found = [run(*s) for s in sizes[:4]]
    before = counts()
    found += [run(*s) for s in sizes[4:]]
    after = counts()
    assert all(before[k] == after[k] for k in ("made", "single_operations"))
    forget_programs()
    assert found == [run(*s) for s in sizes]


def test_zero_and_one_have_programs_of_their_own() -> None:
    w = pa.asarray(np.arange(4.0, dtype="float32"))

    def f(n: int) -> Any:
        x = pa.asarray(np.arange(4.0 * n, dtype="float32").reshape(n, 4))
        return (x * w).sum(0) + x.mean() if n else (x * w).sum(0)

    for n in (1, 0, 5, 1, 6, 7, 8, 9, 1, 0, 10):
        a = np.arange(4.0 * n, dtype="float32").reshape(n, 4)
        expected = (a * np.arange(4)).sum(0) + (a.mean() if n else 0)
        np.testing.assert_allclose(f(n).numpy(), expected, rtol=1e-6)
    sizes = [s for p in pa.explain().programs for s in p["sizes"]]
    assert sizes and all(s[0] > 1 for s in sizes)


def test_a_size_in_parameters_alone() -> None:
    for n in (3, 5, 8, 13, 4, 21):
        assert (pa.zeros((n,)) + 1.0).sum().item() == n
    assert cache.made and any(p["sizes"] for p in pa.explain().programs)


def test_a_branch_on_a_size_is_never_stale() -> None:
    for f in (lambda x: x.sum() if x.shape[0] % 3 else x.max(), lambda x: x[: x.shape[0] // 2] * 2):
        for g in (f, pa.jit(f)):
            for n in (5, 5, 7, 8, 6, 9, 10, 11, 12, 13, 6, 14, 15, 16, 9, 9):
                a = np.arange(float(n), dtype="float32")
                expected = f(a) if f(a).shape == () else a[: n // 2] * 2
                np.testing.assert_array_equal(g(pa.asarray(a)).numpy(), expected)


def test_sizes_at_hand_are_bounded() -> None:
    for n in range(2, 400):
        (pa.asarray(np.ones(n, "float32")) * 2.0).sum().item()
    assert len(cache.bound) <= 256 and cache.made
    assert all(f.sized is None or len(f.sized.lowered.bound) <= 64 for f in cache.families.values())


# Under jit.


def test_a_new_size_runs_python_once() -> None:
    f = pa.jit(lambda x: (x * 2.0).sum() / x.shape[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (5, 5, 7, 8, 9, *range(20, 40)):
            assert f(pa.asarray(np.ones(n, "float32"))).item() == 2.0
    calls = f.python_calls
    assert calls == 25
    for n in (9, *range(20, 40)):
        assert f(pa.asarray(np.ones(n, "float32"))).item() == 2.0
    assert f.python_calls == calls


def test_a_number_that_no_size_explains_is_found() -> None:
    rates = iter(np.linspace(0.1, 0.9, 50).tolist())
    f = pa.jit(lambda x: x * next(rates))
    x = {n: pa.asarray(np.ones(n, "float32")) for n in range(5, 12)}
    f(x[5]), f(x[5])
    found = [f(x[n]).numpy()[0] for n in range(6, 12)]
    assert len(set(found)) == 6
    with pytest.raises(JitError, match="number that changed"):
        f(x[8])


def test_what_is_made_for_each_size_inside() -> None:
    masks: dict[int, Any] = {}

    def f(x: Any) -> Any:
        n = x.shape[0]
        if n not in masks:
            masks[n] = pa.arange(n) % 2
        return (x * masks[n]).sum()

    g = pa.jit(f)
    for n in (5, 5, 5, 7, 8, 9, 7, 8, 9, 7, 8, 10, 12, 10, 12, 5):
        assert g(pa.asarray(np.ones(n, "float32"))).item() == n // 2


def test_other_state_is_not_taken_for_the_same() -> None:
    totals = [pa.zeros(()), pa.zeros(())]

    def f(x: Any) -> Any:
        totals[x.shape[0] % 2][...] = totals[x.shape[0] % 2] + x.sum()
        return x.sum()

    g, expected = pa.jit(f), [0.0, 0.0]
    for n in (5, 5, 7, 9, 11, 6, 8, 13, 6, 10, 12, 6, 8):
        g(pa.asarray(np.ones(n, "float32")))
        expected[n % 2] += n
    assert [t.item() for t in totals] == expected


# Composites say the shape of their result.


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_told_shapes_are_those_of_the_expansion(dtype: str) -> None:
    def t(*shape: int) -> Any:
        return pa.ones(shape, dtype=dtype)

    F.linear(t(2, 3, 4), t(5, 4), t(5)), F.linear(t(4), t(5, 4))
    for reduction in ("none", "mean", "sum"):
        F.cross_entropy(t(3, 4), pa.zeros((3,), dtype="int64"), reduction=reduction)
        F.cross_entropy(t(3, 4, 2), pa.zeros((3, 2), dtype="int64"), reduction=reduction)
    F.scaled_dot_product_attention(t(2, 4, 3, 5), t(2, 2, 6, 5), t(2, 2, 6, 7), enable_gqa=True)
    F.layer_norm(t(2, 3, 4), (3, 4)), F.rms_norm(t(2, 3), (3,))
    F.relu(t(2, 3)), F.gelu(t(2)), F.sigmoid(t(2))
    told = [p for p in REGISTRY.values() if type(p.rule) is partial and p.rule.func is _told]
    assert len(told) >= 8
    for primitive in told:
        assert primitive.table
        for entry in list(primitive.table.values()):
            plain = entry.plain
            graph = _expanded(primitive, plain.ins, plain.named_params)
            assert graph.output_specs() == plain.outs, entry
