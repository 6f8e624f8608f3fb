"""The promises of recording (RULES 1 and 4), seen from outside."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.compile.tiers import counts
from proa.config import config
from proa.errors import (
    DeviceError,
    DtypeError,
    ExecutionError,
    GradientError,
    JitError,
    ProaError,
    ShapeError,
)
from proa.explain import forget_programs
from proa.graph.node import line_of
from proa.nn import functional as F  # noqa: N812
from proa.record.replay import programs


def dispatched(function: Any) -> int:
    before = counts.dispatches
    function()
    return counts.dispatches - before


# When work runs.


def test_nothing_runs_until_somebody_reads() -> None:
    x = pa.ones((3,))
    pa.sync()
    assert dispatched(lambda: (x * 2.0 + 1.0).sum()) == 0
    y = x * 2.0
    z = x + 1.0
    assert dispatched(lambda: y.tolist()) == 1
    assert dispatched(lambda: z.tolist()) == 0, "all live pending values are computed together"


@pytest.mark.parametrize(
    "reader",
    [repr, str, lambda t: t.item(), lambda t: t.numpy(), bool, float, int, lambda t: f"{t:.2f}",
     lambda t: np.from_dlpack(t), lambda t: np.asarray(t), lambda t: pa.sync(), complex],
)  # fmt: skip
def test_each_reader_is_a_boundary(reader: Any) -> None:
    x = pa.asarray([2.0]).sum() * 3.0
    assert dispatched(lambda: reader(x)) == 1


def test_the_end_of_an_optimisers_step_is_a_boundary() -> None:
    w = nn.Parameter(pa.ones((2,)))
    opt = optim.SGD([w], lr=0.1)
    for _ in range(3):
        opt.zero_grad()
        (w * w).sum().backward()
        assert dispatched(opt.step) == 1
    assert dispatched(lambda: w.tolist()) == 0


def test_the_next_batch_is_a_boundary() -> None:
    from proa.data import DataLoader

    kept = []
    for (x,) in DataLoader((np.arange(6.0, dtype=np.float32),), batch_size=2):
        kept.append(x * 2.0)
        assert kept[-1].value.buffer is None
        if len(kept) > 1:
            assert kept[-2].value.buffer is not None


def test_the_budget_warns_once_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from proa.config import config

    monkeypatch.setattr(config, "node_limit", 2000)
    with pytest.warns(RuntimeWarning, match=r"pending at .*test_recording\.py:\d+"):
        x = pa.zeros((2,))
        for _ in range(5000):
            x = x + 1.0
    assert x.tolist() == [5000.0, 5000.0]


def test_the_budget_counts_what_pending_work_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from proa.record import boundary

    monkeypatch.setattr(boundary, "free_bytes", lambda: 1 << 20)
    total = pa.zeros(())
    with pytest.warns(RuntimeWarning, match="pending"):
        for _ in range(3000):
            total = total + pa.asarray(np.ones(1000, np.float32)).sum()
    assert total.item() == 3e6


# Values without aliases.


def test_copies_at_the_door() -> None:
    array = np.zeros(3, np.float32)
    x = pa.asarray(array)
    y = x + 1.0
    array[:] = 9.0
    assert y.tolist() == [1.0, 1.0, 1.0]
    view = x.numpy()
    assert not view.flags.writeable
    x += 5.0
    assert view.tolist() == [0.0, 0.0, 0.0] and x.tolist() == [5.0, 5.0, 5.0]


def test_one_handle_many_names() -> None:
    a = pa.zeros((2,))
    b = a
    a += 1.0
    assert b.tolist() == [1.0, 1.0]
    y = a[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y += 5.0
    assert a.tolist() == [1.0, 1.0] and y.item() == 6.0


def test_a_changed_operand_keeps_its_old_value_for_backward() -> None:
    x = pa.asarray([2.0]).requires_grad_()
    y = x * 3.0
    z = y * y
    y += 100.0
    z.sum().backward()
    assert x.grad.tolist() == [36.0]


# Derivatives.


def test_accumulation_and_one_gradient_handle_for_life() -> None:
    w = pa.asarray([1.0]).requires_grad_()
    (w * 2.0).sum().backward()
    g = w.grad
    (w * 3.0).sum().backward()
    assert g.tolist() == [5.0] and w.grad is g
    w.grad = None
    assert w.grad is None
    (w * 4.0).sum().backward()
    assert w.grad is g and g.tolist() == [4.0]


def test_retain_graph_and_the_second_call() -> None:
    w = pa.asarray([2.0]).requires_grad_()
    y = (w * w).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert w.grad.tolist() == [8.0]
    with pytest.raises(GradientError, match="retain_graph"):
        y.backward()
    other = pa.asarray([2.0])
    with pytest.raises(GradientError, match="requires_grad_"):
        other.sum().backward()


def test_gradients_of_gradients() -> None:
    x = pa.asarray(0.7)
    f = lambda x: pa.sin(x) * pa.exp(x)  # noqa: E731
    third = pa.grad(pa.grad(pa.grad(f)))(x).item()
    assert third == pytest.approx(2 * np.exp(0.7) * (np.cos(0.7) - np.sin(0.7)), rel=1e-5)
    w = pa.asarray([3.0]).requires_grad_()
    (w**3).sum().backward(create_graph=True)
    g = w.grad
    w.grad = None
    g.sum().backward()
    assert w.grad.item() == pytest.approx(18.0)


def test_no_grad_and_detach() -> None:
    w = pa.ones((2,)).requires_grad_()
    with pa.no_grad():
        assert not (w * 2.0).requires_grad
        with pa.enable_grad():
            assert (w * 2.0).requires_grad
    assert not w.detach().requires_grad
    (w * w.detach()).sum().backward()
    assert w.grad.tolist() == [1.0, 1.0]


def test_a_mode_ends_with_its_block() -> None:
    x = pa.ones((2,)).requires_grad_()

    @pa.no_grad()
    def quiet(depth: int) -> bool:
        inside = (x * 2.0).requires_grad
        return inside if depth == 0 else quiet(depth - 1) or (x * 2.0).requires_grad

    assert not quiet(2) and not quiet(0) and (x * 2.0).requires_grad
    block = pa.no_grad()
    with block:
        with pa.enable_grad():
            assert (x * 2.0).requires_grad
        with pytest.raises(ProaError, match="has not ended"), block:
            pass
        assert not (x * 2.0).requires_grad
    with pytest.raises(KeyError), block:
        raise KeyError
    assert (x * 2.0).requires_grad


def test_a_value_that_is_asked_for_twice_is_computed_once() -> None:
    x = pa.ones((2,))
    pa.sync()
    forget_programs()
    y = x * 3.0
    same = y.detach()
    pa.sync()
    assert [row["outputs"] for row in programs()] == [1]
    assert same.value.buffer is y.value.buffer and same.tolist() == [3.0, 3.0]


# Checks that are made once for each specs (`checked_once`).


def recorded(out: pa.Tensor) -> Any:
    return out.value.node.entry, [v.buffer for v in out.value.node.inputs]


def test_what_was_checked_once_is_recorded_alike() -> None:
    x, w, b = pa.ones((2, 3)), pa.ones((4, 3)).requires_grad_(), pa.ones((4,))
    pa.sync()
    target = pa.asarray([1, 2])
    for again in range(3):
        with_bias, without = F.linear(x, w, b), F.linear(x, w, None)
        assert recorded(with_bias) == recorded(F.linear(x, weight=w, bias=b)), again
        assert recorded(without) == recorded(F.linear(x, w)) == recorded(F.linear(x, weight=w))
        assert with_bias.requires_grad and "test_recording.py" in line_of(without.value.node.where)
        with pa.no_grad():
            assert not F.linear(x, w, b).requires_grad
        loss = F.cross_entropy(with_bias, target)
        assert recorded(loss)[1][2] == -100 and loss.shape == ()
        assert recorded(F.cross_entropy(with_bias, target, ignore_index=1))[1][2] == 1
        first, second = (F.cross_entropy(with_bias, target).value.node.inputs[2] for _ in range(2))
        assert first is not second, "a number is an input, never merged"


def test_what_was_checked_once_is_checked_for_other_operands() -> None:
    x, w = pa.ones((2, 3)), pa.ones((4, 3))
    for _ in range(3):
        assert F.linear(x, w).shape == (2, 4) and F.relu(x).shape == (2, 3)
        with pytest.raises(ShapeError, match="last axis of 3"):
            F.linear(pa.ones((2, 4)), w)
        with pytest.raises(DtypeError, match="beside"):
            F.linear(x, w.double())
        with pytest.raises(DtypeError, match="linear"):
            F.linear(x, "w")
        with pytest.raises(DtypeError, match="relu"):
            F.relu(pa.asarray([True]))


def test_what_was_checked_once_is_seen_by_jit() -> None:
    x, w = pa.ones((2, 3)), nn.Parameter(pa.ones((4, 3)))
    F.relu(F.linear(x, w)).tolist()
    f = pa.jit(lambda x: F.relu(F.linear(x, w)).sum())
    for k in range(6):
        with pa.no_grad():
            w[...] = pa.full((4, 3), float(k))
        assert f(x).item() == 24.0 * k


def test_what_was_checked_once_keeps_no_buffer() -> None:
    x, w = pa.ones((2, 5)), pa.ones((7, 5))
    out = F.cross_entropy(F.relu(F.linear(x, w)), pa.asarray([1, 2]))
    out.item()
    gone = [weakref.ref(t) for t in (x, w, out)]
    arrays = [weakref.ref(t.value.buffer.array) for t in (x, w, out)]
    del x, w, out
    assert not any(r() is not None for r in gone + arrays)


@pytest.mark.parametrize("read_first", [False, True])
def test_hooks_run_once_in_each_backward_pass(read_first: bool) -> None:
    w = pa.asarray([1.0, 2.0]).requires_grad_()
    h = w * 3.0
    seen: list[Any] = []
    h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 2.0)
    loss = (h * h).sum()
    if read_first:
        loss.item()
    loss.backward()
    assert seen == [[6.0, 12.0]]
    assert w.grad.tolist() == [36.0, 72.0]


def test_a_hook_under_jit_joins_the_program() -> None:
    w = pa.asarray([1.0]).requires_grad_()
    ran = []

    @pa.jit
    def step(x: Any) -> Any:
        w.grad = None
        h = w * x
        h.register_hook(lambda g: (ran.append(1), g * 10.0)[1])
        h.sum().backward()
        return h

    for _ in range(6):
        step(pa.asarray([2.0]))
        assert w.grad.tolist() == [20.0]
    assert len(ran) == 3 or config.jit_check


def test_a_hook_that_reads_under_jit_raises() -> None:
    w = pa.asarray([1.0]).requires_grad_()

    @pa.jit
    def step(x: Any) -> Any:
        w.grad = None
        h = w * x
        h.register_hook(lambda g: print(g.item()))
        h.sum().backward()
        return h

    step(pa.asarray([2.0]))
    with pytest.raises(JitError):
        step(pa.asarray([2.0]))


# Errors.


def test_an_error_names_operation_given_expected_and_leaves_all_as_it_was() -> None:
    x, y = pa.ones((2, 3)), pa.ones((4,))
    with pytest.raises(ValueError, match=r"\[add\] given shapes \(2, 3\) and \(4,\), expected"):
        x + y
    assert (x + 1.0).sum().item() == 12.0


def test_debug_stops_at_the_first_nan() -> None:
    x = pa.asarray([1.0, 0.0])
    with pa.debug(), pytest.raises(ExecutionError, match=r"(?s)infinity.*test_recording\.py:\d+"):
        1.0 / x
    assert (x + 1.0).tolist() == [2.0, 1.0]


def test_an_interrupted_dispatch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from proa.record import replay

    w = pa.asarray([1.0]).requires_grad_()
    loss = (w * 3.0).sum()
    loss.backward()
    original = replay.Plan.__call__

    def interrupted(self: Any, buffers: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(replay.Plan, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pa.sync()
    assert loss.value.buffer is None
    monkeypatch.setattr(replay.Plan, "__call__", original)
    assert loss.item() == 3.0 and w.grad.tolist() == [3.0]


def test_a_failure_on_values_names_the_line_that_recorded_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from proa.ops.functions import log1p

    def broken(x: Any) -> Any:
        raise ValueError("no such luck")

    monkeypatch.setattr(log1p, "meaning", broken)
    log1p.table.clear()
    log1p.singles.clear()
    forget_programs()
    with pa.device("numpy"):
        good = pa.ones((2,)) + 1.0
        bad = log1p(pa.ones((5,)))
    with pytest.raises(ExecutionError, match=r"test_recording\.py:\d+"):
        bad.tolist()
    assert good.tolist() == [2.0, 2.0]
    monkeypatch.undo()
    log1p.table.clear()
    log1p.singles.clear()
    forget_programs()


def test_devices_do_not_mix() -> None:
    a, b = pa.asarray([1.0, 1.0]), pa.asarray([1.0, 1.0], device="null")
    with pytest.raises(DeviceError, match=r"\w+ and null|null and \w+"):
        (a + b).tolist()
    assert (a + 1.0).tolist() == [2.0, 2.0] and (b + 1.0).shape == (2,)


# Threads and processes.


def test_a_pending_tensor_is_computed_on_another_thread_from_its_inputs() -> None:
    x = pa.asarray([1.0, 2.0])
    y = x * 3.0
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append((y + 1.0).tolist()))
    thread.start()
    thread.join()
    assert found == [[4.0, 7.0]]
    assert y.value.buffer is None, "the owner's queue is not touched"
    assert y.tolist() == [3.0, 6.0]


def test_many_threads_train_at_once_with_the_same_bits() -> None:
    def train() -> list[float]:
        w = pa.asarray(np.ones((4, 4), np.float32)).requires_grad_()
        losses = []
        for _ in range(20):
            loss = (pa.tanh(w @ w) ** 2).sum()
            w.grad = None
            loss.backward()
            with pa.no_grad():
                w -= 0.1 * w.grad
            losses.append(loss.item())
        return losses

    expected = train()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(train())) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [expected] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_use() -> None:
    x = pa.asarray([1.0]) * 2.0
    (pa.ones((2,)) + 1.0).tolist()
    code, result = -1, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        ok = x.tolist() == [2.0] and (pa.ones((3,)) * 3.0).tolist() == [3.0] * 3
        os._exit(0 if ok else 1)
    _, result = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(result)
    assert code == 0 and x.tolist() == [2.0]


# Manners.


def test_import_is_modest() -> None:
    code = """
import sys, threading, logging, signal, warnings
import numpy
before = (threading.active_count(), numpy.geterr(), signal.getsignal(signal.SIGINT),
          list(logging.getLogger().handlers), list(warnings.filters))
import proa
after = (threading.active_count(), numpy.geterr(), signal.getsignal(signal.SIGINT),
         list(logging.getLogger().handlers), list(warnings.filters))
assert before == after, (before, after)
heavy = [m for m in ("scipy", "llvmlite", "jax", "rich", "matplotlib", "sklearn") if m in sys.modules]
assert not heavy, heavy
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_numpys_error_state_is_untouched_by_a_program() -> None:
    before = np.geterr()
    (pa.asarray([1.0]) / 0.0).tolist()
    assert np.geterr() == before


def test_a_repr_never_raises() -> None:
    huge = pa.broadcast_to(pa.ones((1,)), (1 << 45,)) * 2.0
    assert "OutOfMemory" in repr(huge)
    del huge
    gc.collect()
    for t in (
        pa.zeros((0,)),
        pa.zeros(()),
        pa.ones((2000,)),
        pa.asarray([1.0], dtype=pa.bfloat16),
        pa.ones((2,)).requires_grad_(),
        pa.asarray([True]),
        pa.ones((2,), device="null"),
    ):
        assert repr(t).startswith("Tensor(") and f"shape={t.shape}" in repr(t)


def test_errors_are_of_one_family() -> None:
    from proa import errors

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert all(issubclass(k, ProaError) for k in kinds)


def test_a_detached_tensor_cannot_be_changed_in_place() -> None:
    x = pa.ones((2,)).requires_grad_()
    d = x.detach()
    with pytest.raises(ProaError, match="detach"):
        d += 1.0
    d = d + 1.0
    d += 1.0
    assert d.tolist() == [3.0, 3.0] and x.tolist() == [1.0, 1.0]
    assert (x.detach().requires_grad_() * 2.0).requires_grad


def test_what_is_alive_belongs_to_the_structure() -> None:
    x = pa.asarray([1.0, 2.0])

    def run(keep: bool) -> Any:
        y = x * 2.0
        z = y + 1.0
        return (y, z) if keep else (None, z)

    for keep in (True, False, True, False):
        y, z = run(keep)
        assert z.tolist() == [3.0, 5.0]
        assert not keep or y.tolist() == [2.0, 4.0]


def test_a_failed_step_loses_nothing() -> None:
    pa.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    opt = optim.SGD(model.parameters(), lr=0.1)
    x = pa.ones((2, 3))

    def run(bad: bool) -> list[Any]:
        loss = (model(x) ** 2).sum()
        opt.zero_grad()
        loss.backward()
        huge = pa.ones((1 << 46,)) * 2.0 if bad else None
        try:
            opt.step()
        except MemoryError:
            assert bad
        del huge
        return [p.sum().item() for p in model.parameters()]

    start = {k: v.clone() for k, v in model.state_dict().items()}
    expected = [run(False), run(False)]
    model.load_state_dict(start)
    assert [run(True), run(False)] == expected
