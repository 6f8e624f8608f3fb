"""Optimizers, clipping and schedules: PyTorch's numbers, one node a step, no program for a rate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import proa as pa
from proa import optim
from proa.config import config
from proa.errors import ArgumentError, DtypeError, GradientError, JitError
from proa.optim.optimizer import Optimizer
from proa.record.live import live_handles, thread
from proa.record.replay import cache, programs
from proa.tensor import Tensor, assign, set_grad

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = load_file(GOLDEN / "modules.safetensors")
CASES = json.loads((GOLDEN / "modules.json").read_text())


def leaf(array, dtype=None):
    array = np.asarray(array, dtype) if dtype or isinstance(array, np.ndarray) else array
    return pa.asarray(array).requires_grad_()


def ids(rows):
    return [r["name"] for r in rows]


# PyTorch's numbers.


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("case", CASES["optimizers"], ids=ids(CASES["optimizers"]))
def test_steps_are_pytorchs(case, dtype, bound):
    params = [leaf(ARRAYS[f"optimizer/start/{i}"], dtype) for i in range(2)]
    given = (
        [{"params": [p], **g} for p, g in zip(params, case["groups"], strict=True)]
        if case["groups"]
        else params
    )
    opt = getattr(optim, case["constructor"])(given, **case["kwargs"])
    for step in range(6):
        for group in opt.param_groups:
            if case["rates"]:
                group["lr"] = case["rates"][step]
        for i, p in enumerate(params):
            missing = [step, i] in case["missing"]
            set_grad(
                p,
                None if missing else pa.asarray(ARRAYS[f"optimizer/grad/{i}"][step].astype(dtype)),
            )
        opt.step()
        for i, p in enumerate(params):
            want = ARRAYS[f"optimizer/{case['name']}/param/{i}"][step]
            np.testing.assert_allclose(p.numpy(), want, rtol=bound * 10, atol=bound)
    state = opt.state_dict()
    shown = sorted(f"{i}/{n}" for i, row in state["state"].items() for n in row)
    assert shown == case["state"]
    for key in case["state"]:
        i, name = key.split("/")
        found = np.asarray(state["state"][int(i)][name])
        np.testing.assert_allclose(
            found, ARRAYS[f"optimizer/{case['name']}/state/{key}"], rtol=bound * 100, atol=bound
        )
    for mine, want in zip(state["param_groups"], case["param_groups"], strict=True):
        for name, value in mine.items():
            assert want[name] == (list(value) if name == "betas" else pytest.approx(value))
    pytorch = {"state": {}, "param_groups": case["param_groups"]}
    for key in case["state"]:
        i, name = key.split("/")
        pytorch["state"].setdefault(int(i), {})[name] = ARRAYS[
            f"optimizer/{case['name']}/state/{key}"
        ]
    opt.load_state_dict(pytorch)  # PyTorch's own layout, its extra options and 0-d float counts


@pytest.mark.parametrize("case", CASES["clip"], ids=ids(CASES["clip"]))
def test_clipping_is_pytorchs(case):
    count = len([k for k in ARRAYS if k.startswith("clip/grad/")])
    params = []
    for i in range(count):
        g = ARRAYS[f"clip/grad/{i}"].astype("float64")
        params.append(leaf(np.zeros_like(g)))
        set_grad(params[-1], pa.asarray(g))
    total = getattr(optim, case["function"])(params, **case["kwargs"])
    assert len({p.grad.value.node for p in params}) == 1  # all of it is one node
    if total is not None:
        np.testing.assert_allclose(
            total.item(), ARRAYS[f"clip/{case['name']}/total_norm"], rtol=1e-12
        )
    for i, p in enumerate(params):
        np.testing.assert_allclose(
            p.grad.numpy(), ARRAYS[f"clip/{case['name']}/after/{i}"], rtol=1e-12
        )


@pytest.mark.parametrize("case", CASES["schedules"], ids=ids(CASES["schedules"]))
def test_schedules_are_pytorchs(case):
    opt = optim.SGD([leaf([1.0])], lr=case["lr"])
    schedule = getattr(optim, case["constructor"])(opt, **case["kwargs"])
    found = [opt.param_groups[0]["lr"]]
    for _ in range(len(case["rates"]) - 1):
        schedule.step()
        found.append(opt.param_groups[0]["lr"])
    np.testing.assert_allclose(found, case["rates"], rtol=1e-12, atol=1e-17)
    other = getattr(optim, case["constructor"])(optim.SGD([leaf([1.0])], lr=9.0), **case["kwargs"])
    other.load_state_dict(schedule.state_dict())
    assert other.get_last_lr() == schedule.get_last_lr() == [opt.param_groups[0]["lr"]]


def test_a_sequence_of_schedules():
    opt = optim.SGD([leaf([1.0])], lr=1.0)
    parts = [optim.LinearLR(opt, 0.25, total_iters=3), optim.CosineAnnealingLR(opt, 4, eta_min=0.5)]
    schedule = optim.SequentialLR(opt, parts, [3])
    rates = []
    for _ in range(8):
        rates.append(opt.param_groups[0]["lr"])
        schedule.step()
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1.0, 0.9267766953, 0.75, 0.5732233047, 0.5])


# Dynamic and jit.


MAKERS = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.05),
    "momentum": lambda ps: optim.SGD(ps, lr=0.02, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "nesterov": lambda ps: optim.SGD(ps, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda ps: optim.Adam(ps, lr=0.01, amsgrad=True),
    "adamw": lambda ps: optim.AdamW(
        [{"params": ps[:1], "weight_decay": 0.0}, {"params": ps[1:], "lr": 0.02}]
    ),
}


def train(make, decorate, steps=30, schedule=True, dtype="float32", zero=True):
    rng = np.random.default_rng(0)
    x = pa.asarray(rng.standard_normal((16, 5)).astype(dtype))
    y = pa.asarray(rng.standard_normal((16, 2)).astype(dtype))
    w = leaf(rng.standard_normal((5, 2)) * 0.1, dtype)
    b = leaf(np.zeros(2), dtype)
    opt = make([w, b])
    rates = optim.CosineAnnealingLR(opt, steps) if schedule else None

    def step(x, y):
        loss = ((x @ w + b - y) ** 2).sum()
        if zero:
            opt.zero_grad()
        loss.backward()
        optim.clip_grad_norm_([w, b], 5.0)
        opt.step()
        return loss

    f = decorate(step)
    losses = []
    for _ in range(steps):
        losses.append(f(x, y))
        if rates is not None:
            rates.step()
    return [loss.item() for loss in losses], w.numpy(), b.numpy(), f, opt


@pytest.mark.parametrize("name", MAKERS)
def test_dynamic_is_jit_bitwise(name):
    dynamic = train(MAKERS[name], lambda f: f)
    jitted = train(MAKERS[name], pa.jit)
    assert dynamic[0] == jitted[0]
    assert dynamic[1].tobytes() == jitted[1].tobytes()
    assert dynamic[2].tobytes() == jitted[2].tobytes()
    assert jitted[3].python_calls == 3 or config.jit_check
    assert dynamic[0][-1] < dynamic[0][0]
    for a, b in zip(flat(dynamic[4]), flat(jitted[4]), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def flat(opt):
    return [v for row in opt.state_dict()["state"].values() for v in row.values()]


@pytest.mark.parametrize("name", MAKERS)
def test_a_schedule_makes_no_new_program(name):
    counts = []
    for steps in (5, 25):
        cache.clear()
        train(MAKERS[name], lambda f: f, steps)
        counts.append(len(programs()))
    assert counts[0] == counts[1] <= 3


def test_a_rate_that_equals_eps_makes_no_new_program():
    cache.clear()
    w = leaf([1.0, 2.0])
    opt = optim.AdamW([w], lr=1e-3, eps=1e-8, weight_decay=1e-8)
    for i in range(10):
        opt.param_groups[0]["lr"] = [1e-3, 1e-8, 0.0][i % 3]
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
    assert len(programs()) <= 2


@pytest.mark.parametrize("name", MAKERS)
def test_one_node_a_step(name, monkeypatch):
    w, b = leaf(np.ones((3, 2), "float32")), leaf(np.ones(2, "float32"))
    opt = MAKERS[name]([w, b])
    for p in (w, b):
        set_grad(p, pa.ones(p.shape))
    entries = []
    kind = type(thread.state)
    for method in ("emit", "record"):
        original = getattr(kind, method)

        def noted(self, entry, inputs, original=original):
            entries.append(entry.primitive.name)
            return original(self, entry, inputs)

        monkeypatch.setattr(kind, method, noted)
    opt.step()
    opt.step()
    assert entries == ["call", "call"]
    monkeypatch.undo()
    assert not [
        t for t in live_handles(thread.state) if t.value.is_pending
    ]  # the step was a boundary


def test_rates_inside_jit():
    w = leaf([1.0])
    opt = optim.SGD([w], lr=0.5)

    @pa.jit
    def step(factor):
        group = opt.param_groups[0]
        assert type(group["lr"]) is Tensor or step.python_calls == 1
        group["lr"] = group["lr"] * factor
        opt.zero_grad()
        w.sum().backward()
        opt.step()

    want, rate = np.float32(1.0), 0.5
    for _ in range(6):
        step(0.5)
        rate *= 0.5
        want = np.float32(want - np.float32(rate))
        assert opt.param_groups[0]["lr"] == rate
        assert w.item() == want


def test_a_constant_rate_written_inside_jit_stays_that():
    w = leaf([1.0])
    opt = optim.SGD([w], lr=0.5)

    @pa.jit
    def step():
        opt.param_groups[0]["lr"] = 0.25
        opt.zero_grad()
        w.sum().backward()
        opt.step()

    for i in range(6):
        opt.param_groups[0]["lr"] = 100.0
        step()
        assert w.item() == 1.0 - 0.25 * (i + 1)
        assert opt.param_groups[0]["lr"] == 0.25


def test_a_number_that_changes_inside_jit_is_an_error():
    w = leaf([1.0])
    opt = optim.SGD([w], lr=0.5)
    rates = iter([0.4, 0.3, 0.2, 0.1])

    @pa.jit
    def step():
        opt.param_groups[0]["lr"] = next(rates)
        w.sum().backward()
        opt.step()

    with pytest.raises(JitError, match="number that changed"):
        for _ in range(4):
            step()


def test_a_schedule_inside_jit_is_an_error():
    opt = optim.SGD([leaf([1.0])], lr=0.5)
    schedule = optim.StepLR(opt, 1)
    f = pa.jit(lambda: schedule.step())
    f()
    with pytest.raises(JitError, match="schedule"):
        f()


def test_flags_changed_between_calls_are_obeyed():
    def run(decorate):
        w = leaf([1.0, -2.0])
        opt = optim.SGD([w], lr=0.125)

        def step():
            opt.zero_grad()
            (w * w).sum().backward()
            opt.step()

        f = decorate(step)
        for i in range(20):
            group = opt.param_groups[0]
            if i == 6:
                group["maximize"] = True
            if i == 12:
                group["weight_decay"] = 0.5
            if i == 16:
                group["momentum"] = 0.25
            f()
        return w.tolist()

    assert run(lambda f: f) == run(pa.jit)


def test_a_subset_of_gradients_between_jitted_steps():
    """Counts that were shared are split; what was recorded before is not used with a stale one."""

    def run(decorate):
        a, b = leaf([1.0, 2.0]), leaf([3.0])
        opt = optim.Adam([a, b], lr=0.1)

        def step():
            opt.zero_grad()
            ((a * a).sum() + (b * b).sum()).backward()
            opt.step()

        f = decorate(step)
        for i in range(14):
            f()
            if i in (5, 9):
                opt.zero_grad()
                (a * 2.0).sum().backward()
                opt.step()
        state = opt.state_dict()["state"]
        return a.tolist(), b.tolist(), state[0]["step"], state[1]["step"]

    dynamic = run(lambda f: f)
    assert dynamic[2:] == (16, 14)
    assert run(pa.jit) == dynamic


def test_a_jitted_step_that_meets_a_new_gradient():
    def run(decorate):
        a, b = leaf([1.0, 2.0]), leaf([3.0])
        opt = optim.Adam([a, b], lr=0.1)
        f = decorate(lambda: opt.step())
        for i in range(16):
            set_grad(a, pa.asarray([0.5, -0.5]) * float(i))
            set_grad(b, pa.asarray([1.0]) if i > 8 else None)
            f()
        state = opt.state_dict()["state"]
        return a.tolist(), b.tolist(), state[0]["step"], state[1]["step"]

    dynamic = run(lambda f: f)
    assert dynamic[2:] == (16, 7)
    assert run(pa.jit) == dynamic


def test_state_loaded_between_jitted_calls():
    def run(decorate):
        a, b = leaf([1.0, 2.0]), leaf([3.0])
        opt = optim.AdamW([a, b], lr=0.1)

        def step():
            opt.zero_grad()
            ((a * a).sum() + (b * b).sum()).backward()
            opt.step()

        f = decorate(step)
        saved = None
        for i in range(18):
            f()
            if i == 5:
                saved = opt.state_dict()
            if i == 10:
                opt.load_state_dict(saved)
            if i == 14:
                opt.load_state_dict({"state": {}, "param_groups": saved["param_groups"]})
        return a.tolist(), b.tolist(), opt.state_dict()["state"][0]["step"]

    dynamic = run(lambda f: f)
    assert dynamic[2] == 3
    assert run(pa.jit) == dynamic


# State, groups, gradients.


@pytest.mark.parametrize("name", MAKERS)
def test_resumed_is_not_resumed(name):
    def advance(ws, opt, count):
        for _ in range(count):
            opt.zero_grad()
            sum((w * w * w).sum() for w in ws).backward()
            opt.step()

    def fresh():
        ws = [leaf(np.array([0.3, -0.2], "float32")), leaf(np.array([0.1], "float32"))]
        return ws, MAKERS[name](ws)

    ws, opt = fresh()
    advance(ws, opt, 4)
    state, values = opt.state_dict(), [w.numpy() for w in ws]
    advance(ws, opt, 4)
    others, other = fresh()
    with pa.no_grad():
        for w, v in zip(others, values, strict=True):
            assign(w, pa.asarray(v))
    other.load_state_dict(state)
    advance(others, other, 4)
    for a, b in zip(ws, others, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_a_state_dict_keeps_its_values():
    w = leaf([1.0])
    opt = optim.Adam([w], lr=0.1)
    set_grad(w, pa.ones((1,)))
    opt.step()
    state = opt.state_dict()
    before = state["state"][0]["exp_avg"].item()
    opt.step()
    assert state["state"][0]["exp_avg"].item() == before and state["state"][0]["step"] == 1


def test_a_wrong_state_dict_changes_nothing_and_names_all():
    w, b = leaf([1.0, 2.0]), leaf([1.0])
    opt = optim.Adam([w, b], lr=0.1)
    for p in (w, b):
        set_grad(p, pa.ones(p.shape))
    opt.step()
    good = opt.state_dict()
    bad = opt.state_dict()
    bad["state"][0]["exp_avg"] = pa.zeros((3,))
    bad["state"][1]["surprise"] = pa.zeros((1,))
    bad["state"][7] = {}
    bad["param_groups"][0]["lr"] = 5.0
    with pytest.raises(ArgumentError) as error:
        opt.load_state_dict(bad)
    for part in ("exp_avg of shape (3,)", "'surprise'", "parameter 7"):
        assert part in str(error.value)
    assert str(opt.state_dict()) == str(good)
    for wrong in (
        None, {}, {"state": {}, "param_groups": []}, {"state": [], "param_groups": good["param_groups"]},
        {"state": {}, "param_groups": [{**good["param_groups"][0], "betas": (0.9, 1.0)}]},
        {"state": {}, "param_groups": [{**good["param_groups"][0], "lr": "fast"}]},
        {"state": {}, "param_groups": [{**good["param_groups"][0], "params": [0]}]},
        {"state": {0: {"step": -1}}, "param_groups": good["param_groups"]},
    ):  # fmt: skip
        with pytest.raises((ArgumentError, DtypeError)):
            opt.load_state_dict(wrong)
        assert str(opt.state_dict()) == str(good)


def test_groups_read_and_write_like_dicts():
    w, b = leaf([1.0]), leaf([1.0])
    opt = optim.AdamW([w], lr=0.1, betas=(0.5, 0.6))
    opt.add_param_group({"params": b, "lr": 0.2})
    first, second = opt.param_groups
    assert (first["lr"], second["lr"], first["betas"]) == (0.1, 0.2, (0.5, 0.6))
    assert first["params"][0] is w and "lr" in first and first.get("nothing") is None
    second["betas"] = (0.7, 0.8)
    second["lr"] *= 0.5
    first.update(lr=pa.asarray(0.25))
    assert (first["lr"], second["lr"], second["betas"]) == (0.25, 0.1, (0.7, 0.8))
    first["note"] = "mine"
    assert dict(first)["note"] == "mine" and opt.state_dict()["param_groups"][0]["note"] == "mine"
    for name, value, kind in (
        ("lr", -1.0, ArgumentError), ("lr", float("nan"), ArgumentError), ("lr", "x", DtypeError),
        ("lr", True, DtypeError), ("betas", (0.5,), ArgumentError), ("betas", (0.5, 1.5), ArgumentError),
        ("amsgrad", 1, DtypeError), ("params", [], ArgumentError), ("other", object(), ArgumentError),
    ):  # fmt: skip
        with pytest.raises(kind):
            first[name] = value
    assert first["lr"] == 0.25


def test_gradients_are_emptied_or_filled():
    w, b = leaf([1.0, 2.0]), leaf(3.0)
    opt = optim.SGD([w, b], lr=0.1)
    (w.sum() * b).backward()
    opt.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0] and b.grad.item() == 0.0
    opt.zero_grad()
    assert w.grad is None and b.grad is None
    opt.zero_grad(set_to_none=False)
    assert w.grad is None
    assert opt.step() is None and w.tolist() == [1.0, 2.0]
    assert opt.step(lambda: 7) == 7


def test_parameters_of_several_dtypes():
    ws = [leaf([1.0, 2.0], d) for d in ("float64", "float32", "float16")]
    ws.append(pa.asarray([1.0, 2.0]).astype(pa.bfloat16).requires_grad_())
    opt = optim.Adam(ws, lr=0.125)
    for _ in range(3):
        opt.zero_grad()
        sum((w.astype(pa.float64) ** 2).sum() for w in ws).backward()
        opt.step()
    for w in ws:
        np.testing.assert_allclose(w.astype(pa.float64).numpy(), ws[0].numpy(), rtol=1e-2)
    assert [str(r["exp_avg"].dtype) for r in opt.state_dict()["state"].values()] == [
        "proa.float64", "proa.float32", "proa.float32", "proa.float32",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_small_parameters_joined_are_small_parameters_alone(name, monkeypatch):
    joined = train(MAKERS[name], lambda f: f, 10)
    monkeypatch.setattr("proa.optim.optimizer.SMALL", 0)
    alone = train(MAKERS[name], lambda f: f, 10)
    assert joined[0] == alone[0] and joined[1].tobytes() == alone[1].tobytes()
    assert joined[2].tobytes() == alone[2].tobytes()


def test_live_objects_do_not_grow():
    w = leaf(np.ones(3, "float32"))
    opt = optim.AdamW([w], lr=0.01)
    for i in range(30):
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
        if i == 10:
            before = len(thread.state.handles), len(opt._updates)
    assert (len(thread.state.handles), len(opt._updates)) == before


@pytest.mark.parametrize("make, kind", [
    (lambda: optim.SGD([], lr=0.1), ArgumentError),
    (lambda: optim.SGD(leaf([1.0]), lr=0.1), DtypeError),
    (lambda: optim.SGD(3, lr=0.1), DtypeError),
    (lambda: optim.SGD("w", lr=0.1), DtypeError),
    (lambda: optim.SGD([np.ones(2)], lr=0.1), DtypeError),
    (lambda: optim.SGD([("w", leaf([1.0]))], lr=0.1), DtypeError),
    (lambda: optim.SGD([leaf([1.0]) * 2.0], lr=0.1), ArgumentError),
    (lambda: optim.SGD([pa.asarray([1, 2])], lr=0.1), DtypeError),
    (lambda: optim.SGD([leaf([1.0])] * 2, lr=0.1), ArgumentError),
    (lambda: optim.SGD([{"params": [leaf([1.0])], "speed": 1.0}], lr=0.1), ArgumentError),
    (lambda: optim.SGD([{"parameters": [leaf([1.0])]}], lr=0.1), DtypeError),
    (lambda: optim.SGD([leaf([1.0])], lr=-0.1), ArgumentError),
    (lambda: optim.SGD([leaf([1.0])], lr=None), DtypeError),
    (lambda: optim.SGD([leaf([1.0])], nesterov=True), ArgumentError),
    (lambda: optim.SGD([leaf([1.0])], nesterov=1, momentum=0.9), DtypeError),
    (lambda: optim.Adam([leaf([1.0])], betas=(0.9, 1.0)), ArgumentError),
    (lambda: optim.Adam([leaf([1.0])], betas=0.9), ArgumentError),
    (lambda: optim.Adam([leaf([1.0])], eps=-1e-8), ArgumentError),
    (lambda: optim.StepLR(3, 1), DtypeError),
    (lambda: optim.StepLR(optim.SGD([leaf([1.0])]), 0), ArgumentError),
    (lambda: optim.StepLR(optim.SGD([leaf([1.0])]), 1.5), DtypeError),
    (lambda: optim.CosineAnnealingLR(optim.SGD([leaf([1.0])]), 5, last_epoch=3), ArgumentError),
    (lambda: optim.LinearLR(optim.SGD([leaf([1.0])]), 0.0), ArgumentError),
    (lambda: optim.SequentialLR(optim.SGD([leaf([1.0])]), [], []), ArgumentError),
    (lambda: optim.clip_grad_norm_(3, 1.0), DtypeError),
    (lambda: optim.clip_grad_norm_([3], 1.0), DtypeError),
    (lambda: optim.clip_grad_norm_([leaf([1.0])], -1.0), ArgumentError),
    (lambda: optim.clip_grad_norm_([leaf([1.0])], "x"), DtypeError),
    (lambda: optim.clip_grad_norm_([leaf([1.0])], 1.0, 0), ArgumentError),
    (lambda: optim.clip_grad_value_([leaf([1.0])], float("nan")), ArgumentError),
    (lambda: Optimizer([leaf([1.0])], {}), TypeError),
])  # fmt: skip
def test_errors_are_typed(make, kind):
    with pytest.raises(kind):
        make()


def test_clipping_leaves_out_what_is_empty_and_may_refuse_what_is_not_finite():
    w, b = leaf([1.0]), leaf([1.0])
    assert optim.clip_grad_norm_([w, b], 1.0).item() == 0.0
    set_grad(w, pa.asarray([float("inf")]))
    with pytest.raises(GradientError, match="finite"):
        optim.clip_grad_norm_([w, b], 1.0, error_if_nonfinite=True)
    assert w.grad.tolist() == [float("inf")]
    set_grad(w, pa.asarray([3.0]))
    assert optim.clip_grad_norm_(w, 1.0, 3.0).item() == pytest.approx(3.0)
    assert w.grad.item() == pytest.approx(1.0)
