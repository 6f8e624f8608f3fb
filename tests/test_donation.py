"""Results take the memory of what nobody reads any more, and of nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import optim
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.cpu.threads import Threads
from proa.capture.plan import Plan
from proa.compile.find import default_device
from proa.errors import ExecutionError

ROWS = 300  # of 512 numbers: more than what is worth it


@pytest.fixture(autouse=True)
def on_cpu() -> Any:
    if default_device().backend != "cpu":
        pytest.skip("the memory of `cpu`")


class Training:
    """AdamW on two parameters, with gradients that stay."""

    def __init__(self, jit: bool) -> None:
        draw = np.random.default_rng(0)

        def numbers() -> pa.Tensor:
            return pa.asarray(draw.standard_normal((ROWS, 512)).astype(np.float32))

        self.params = [numbers().requires_grad_() for _ in range(2)]
        for p in self.params:
            p.grad = numbers()
        self.optimizer = optim.AdamW(self.params, lr=0.01)
        self.step: Callable[[], Any] = pa.jit(self._step) if jit else self._step
        for _ in range(5):
            self.step()

    def _step(self) -> None:
        self.optimizer.step()

    def state(self) -> list[pa.Tensor]:
        slots = [s[n] for s in self.optimizer._slots for n in ("exp_avg", "exp_avg_sq")]
        return [*self.params, *slots]

    def addresses(self) -> list[int]:
        pa.sync()
        return [t.value.buffer.address for t in self.state()]

    def bits(self) -> bytes:
        return b"".join([t.detach().numpy().tobytes() for t in self.state()])


BOTH = pytest.mark.parametrize("jit", [False, True], ids=["dynamic", "jit"])


@BOTH
def test_state_stays_where_it_is(jit: bool) -> None:
    training = Training(jit)
    before = training.addresses()
    training.step()
    assert sorted(training.addresses()) == sorted(before)


def test_a_jitted_step_makes_no_handle_new() -> None:
    """Small ones too: bias and weight are updated by calls of their own."""
    draw = np.random.default_rng(3)
    params = [pa.asarray(draw.standard_normal(n).astype(np.float32)).requires_grad_()
              for n in (7, 40_000, 33, 70_000)]  # fmt: skip
    for p in params:
        p.grad = pa.asarray(np.ones(p.shape, np.float32))
    optimizer = optim.AdamW(params, lr=0.1)
    step = pa.jit(optimizer.step)
    for _ in range(5):
        step()
    before = [(id(p.value), id(p.value.buffer), float(p.detach()[0])) for p in params]
    step()
    after = [(id(p.value), id(p.value.buffer), float(p.detach()[0])) for p in params]
    assert [row[:2] for row in before] == [row[:2] for row in after]
    assert all(new[2] < old[2] for old, new in zip(before, after, strict=True))


@BOTH
def test_two_states_that_take_each_others_place(jit: bool) -> None:
    a, b = (pa.asarray(np.full((ROWS, 512), x, np.float32)) for x in (1.0, 2.0))

    def step() -> None:
        old = a + 0.0
        a[...] = b * 1.0
        b[...] = old

    run = pa.jit(step) if jit else step
    for i in range(8):
        held = a.detach() if i == 6 else None
        before = float(a[3, 3])
        run()
        pa.sync()
        assert (float(a[3, 3]), float(b[3, 3])) == (3.0 - before, before)
        assert held is None or float(held[3, 3]) == before


@BOTH
def test_one_result_for_two_handles(jit: bool) -> None:
    a, b = (pa.asarray(np.full((ROWS, 512), x, np.float32)) for x in (1.0, 2.0))

    def step() -> None:
        new = a + b
        a[...] = new
        b[...] = new

    run = pa.jit(step) if jit else step
    expected = 3.0
    for _ in range(7):
        run()
        pa.sync()
        assert float(a[3, 3]) == float(b[3, 3]) == expected
        expected *= 2.0


@BOTH
def test_what_is_held_is_not_overwritten(jit: bool) -> None:
    training, other = Training(jit), Training(jit)
    held = [t.detach() for t in other.state()]
    before = training.bits()
    assert b"".join([t.numpy().tobytes() for t in held]) == before
    for _ in range(3):
        training.step()
        other.step()
        assert b"".join([t.numpy().tobytes() for t in held]) == before
    assert training.bits() == other.bits()


@BOTH
def test_an_exported_buffer_is_never_overwritten(jit: bool) -> None:
    training = Training(jit)
    views = [p.detach().numpy() for p in training.params]
    copies = [v.copy() for v in views]
    capsule = np.from_dlpack(training.state()[2])
    kept = capsule.copy()
    for _ in range(3):
        training.step()
    assert all((v == c).all() for v, c in zip(views, copies, strict=True))
    assert (capsule == kept).all()


@BOTH
def test_a_checkpoint_keeps_its_numbers(jit: bool) -> None:
    training = Training(jit)
    saved = training.optimizer.state_dict()
    first = saved["state"][0]["exp_avg"].numpy().copy()
    training.step()
    training.step()
    assert (saved["state"][0]["exp_avg"].numpy() == first).all()


@BOTH
def test_one_array_under_two_names(jit: bool) -> None:
    shared = pa.asarray(np.ones((ROWS, 512), np.float32))
    a, b = pa.asarray(shared, copy=True), pa.asarray(shared, copy=True)

    def step() -> None:
        a[...] = a * 2.0
        b[...] = b * 3.0

    run = pa.jit(step) if jit else step
    for _ in range(5):
        run()
        pa.sync()
    assert (float(a[0, 0]), float(b[0, 0]), float(shared[0, 0])) == (2.0**5, 3.0**5, 1.0)


@BOTH
def test_an_operand_that_is_read_elsewhere_too(jit: bool) -> None:
    """Transposed, or by a later kernel: its memory is no place for a result."""
    start = np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32)
    x = pa.asarray(start)

    def step() -> pa.Tensor:
        old = x + 0.0
        x[...] = x + x.T
        return old @ old

    run = pa.jit(step) if jit else step
    expected = start
    for _ in range(5):
        run()
        pa.sync()
        expected = expected + expected.T
    assert (x.numpy() == expected).all()


@BOTH
def test_a_failed_step_changes_nothing(jit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(jit)
    before = training.bits()  # exports, so that the next step moves
    training.step()
    training.step()
    after = training.bits()

    other = Training(jit)
    other.step()

    def fails(self: Any, *given: Any) -> Any:
        raise MemoryError("planted")

    other.addresses()
    with monkeypatch.context() as planted:
        planted.setattr("proa.backends.cpu.executable.Arena", fails)
        planted.setattr("proa.backends.cpu.executable.allocate", fails)
        with pytest.raises(pa.errors.OutOfMemory):
            other.step()
            pa.sync()
    if jit:
        other.step()
    pa.sync()
    assert other.bits() == after != before


def test_an_interruption_after_the_writing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(True)

    def interrupted(self: Any, *given: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as planted:
        planted.setattr(Plan, "_finish_computed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.step()
    with pytest.raises(ExecutionError, match="wrote over"):
        training.params[0].detach().numpy()
    with pytest.raises(ExecutionError, match="checkpoint"):
        training.step()


def test_another_thread_reads_parameters_meanwhile() -> None:
    training = Training(True)
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        infer = pa.jit(lambda: (training.params[0] * 1.0).sum())
        try:
            while not done.is_set():
                assert np.isfinite(float(infer()))
                assert np.isfinite(float((training.params[1].detach() * 1.0).sum()))
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    for _ in range(300):
        training.step()
    done.set()
    for r in readers:
        r.join()
    assert not failures


@pytest.mark.parametrize("how", ["detach", "copy"])
def test_the_old_value_of_state_may_be_a_result(how: str) -> None:
    """No operation made it: the program knows nothing of it."""
    s = pa.asarray(np.ones((ROWS, 512), np.float32))

    @pa.jit
    def step() -> pa.Tensor:
        old = s.detach() if how == "detach" else pa.asarray(s, copy=True)
        s[...] = s + 1.0
        return old

    for i in range(6):
        assert float(step()[3, 3]) == 1.0 + i


def test_another_thread_takes_no_memory_that_was_donated_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It meets the buffer between the donation and the walk, with a use for its memory."""
    s = pa.asarray(np.ones((ROWS, 512), np.float32))

    def training() -> None:
        s[...] = s + 1.0

    step, infer = pa.jit(training), pa.jit(lambda: s * 1.0)
    found: list[float] = []
    for _ in range(5):
        step()
        infer()
    give, owner, readers = CpuExecutable._give, threading.get_ident(), list[threading.Thread]()

    def given(self: CpuExecutable, *rest: Any) -> None:
        if threading.get_ident() == owner:
            for use in (lambda: infer(), lambda: s * 1.0, lambda: s):
                readers.append(
                    threading.Thread(target=lambda u=use: found.append(float(u()[5, 5])))
                )
                readers[-1].start()
                readers[-1].join(0.2)
        give(self, *rest)

    with monkeypatch.context() as planted:
        planted.setattr(CpuExecutable, "_give", given)
        step()
    for reader in readers:
        reader.join()
    assert float(s[5, 5]) == 7.0
    assert len(found) == 3 and set(found) <= {6.0, 7.0}


@pytest.mark.parametrize("fails", [MemoryError, KeyboardInterrupt])
def test_what_was_taken_is_put_back(fails: type, monkeypatch: pytest.MonkeyPatch) -> None:
    s = pa.asarray(np.ones((ROWS, 512), np.float32))

    @pa.jit
    def step() -> pa.Tensor:
        s[...] = s + 1.0
        return s * 2.0

    for _ in range(5):
        step()

    def failing(*given: Any) -> Any:
        raise fails

    with monkeypatch.context() as planted:
        planted.setattr("proa.backends.cpu.executable.allocate", failing)
        with pytest.raises(fails):
            step()
    assert float(s[5, 5]) == 6.0
    assert float(step()[5, 5]) == 14.0


def test_a_reader_waits_for_as_many_steps_as_it_takes() -> None:
    s = pa.asarray(np.ones((ROWS, 512), np.float32))

    @pa.jit
    def step() -> None:
        s[...] = s + 1.0

    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                s.detach()[3, 3].item()
                float(s.numpy()[3, 3])
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for r in readers:
        r.start()
    for _ in range(1000):
        step()
    done.set()
    for r in readers:
        r.join()
    assert not failures
    assert float(s[3, 3]) == 1001.0


@BOTH
def test_a_signal_during_a_walk_comes_when_the_handles_are_assigned(
    jit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, other = Training(jit), Training(jit)
    training.step()
    pa.sync()
    walks = list[Any]()
    run = Threads.run

    def interrupted(self: Threads, *given: Any) -> None:
        run(self, *given)
        walks.append(given[-1])
        raise KeyboardInterrupt

    with monkeypatch.context() as planted:
        planted.setattr(Threads, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            other.step()
            pa.sync()
    assert walks == [[None]]
    assert other.bits() == training.bits()
    other.step()
    training.step()
    assert other.bits() == training.bits()


@BOTH
def test_a_signal_before_a_walk_changes_nothing(jit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(jit)
    other = Training(jit)
    if jit:
        training.bits()

    def interrupted(self: Threads, *given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as planted:
        planted.setattr(Threads, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            other.step()
            pa.sync()
    if not jit:
        training.step()  # what waits is computed when it is read
    assert other.bits() == training.bits()
