"""Donation on every backend: counted, and never of what somebody can still read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import optim
from proa.compile.tiers import counts

SHAPE = (300, 512)  # more than what is worth it


@pytest.fixture(params=["numpy", "cpu", "xla"], autouse=True)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "xla":
        pytest.importorskip("jax")
    with pa.device(request.param):
        yield request.param


def array(value: float = 1.0) -> Any:
    return pa.asarray(np.full(SHAPE, value, np.float32))


class Training:
    """AdamW on two parameters with a gradient of their own."""

    def __init__(self, jit: bool = True) -> None:
        self.params = [array(i + 1.0).requires_grad_() for i in range(2)]
        self.optimizer = optim.AdamW(self.params, lr=0.01)
        self.step = pa.jit(self._step) if jit else self._step
        for _ in range(6):
            self.step(pa.asarray(1.0))
            pa.sync()

    def _step(self, x: Any) -> Any:
        loss = sum([((p * x) ** 2).sum() for p in self.params])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def state(self) -> list[Any]:
        slots = [s[n] for s in self.optimizer._slots for n in ("exp_avg", "exp_avg_sq")]
        return [*self.params, *slots]

    def bits(self) -> list[bytes]:
        return [t.detach().numpy().tobytes() for t in self.state()]


def test_state_is_donated_and_counted() -> None:
    training = Training()
    before = counts.donated
    training.step(pa.asarray(1.0))
    (row,) = training.step.programs()
    assert row.donated >= 6 and row.peak_bytes > 0  # parameters and slots
    assert counts.donated - before == row.donated
    assert any(p["donated"] >= 6 for p in pa.explain().programs)


def test_what_is_held_is_not_donated_and_keeps_its_numbers() -> None:
    training, other = Training(), Training()
    held = [t.detach() for t in other.state()[:3]]
    copies = [h.clone().numpy().copy() for h in held]
    for _ in range(3):
        training.step(pa.asarray(1.0))
        other.step(pa.asarray(1.0))
        for h, c in zip(held, copies, strict=True):
            assert (h.numpy() == c).all()
    assert training.bits() == other.bits()


def test_what_was_read_or_exported_is_never_overwritten() -> None:
    training = Training()
    state = training.state()
    view, capsule = state[0].detach().numpy(), np.from_dlpack(state[3])
    kept = [view.copy(), capsule.copy()]
    for _ in range(3):
        training.step(pa.asarray(1.0))
    pa.sync()
    assert (view == kept[0]).all() and (capsule == kept[1]).all()
    saved = training.optimizer.state_dict()
    first = saved["state"][0]["exp_avg"].numpy().copy()
    training.step(pa.asarray(1.0))
    assert (saved["state"][0]["exp_avg"].numpy() == first).all()


def test_jit_with_donation_gives_the_bits_of_the_plain_loop(place: str) -> None:
    plain, jitted = Training(jit=False), Training()
    for i in range(4):
        for t in (plain, jitted):
            t.step(pa.asarray(0.5 * i))
    if place == "xla":
        for a, b in zip(plain.state(), jitted.state(), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5)
    else:
        assert plain.bits() == jitted.bits()


def test_a_handle_may_get_the_value_of_another() -> None:
    """Two handles on one buffer: the first to be written must not take it from the second."""
    a = array()
    b = array(5.0)
    b[...] = a + 0.0

    @pa.jit
    def step() -> None:
        a[...] = b * 2.0
        b[...] = a + 1.0

    expected = [1.0, 1.0]
    for _ in range(6):
        step()
        expected[0] = expected[1] * 2.0
        expected[1] = expected[0] + 1.0
    assert [float(a[3, 3]), float(b[3, 3])] == expected


def test_arguments_are_never_donated() -> None:
    s = array()

    @pa.jit
    def step(x: Any) -> Any:
        s[...] = s + x
        return x * 2.0

    x = array(3.0)
    for i in range(6):
        step(x)
        assert float(s[0, 0]) == 1.0 + 3.0 * (i + 1)
    assert (x.numpy() == 3.0).all()


def test_a_test_donates_in_the_last_part_alone() -> None:
    s, t = array(), array()

    @pa.jit
    def step(x: Any) -> Any:
        t[...] = t + x
        if t[0, 0] > 0:
            s[...] = s + x
        return s[0, 0] * 1.0

    for i in range(6):
        assert float(step(pa.asarray(1.0))) == 2.0 + i
    (row,) = step.programs()
    assert row.donated == 1 and len(row.tests) == 1


def test_readers_in_other_threads_see_whole_values() -> None:
    s = array()

    @pa.jit
    def step() -> None:
        s[...] = s + 1.0

    for _ in range(5):
        step()
    failures: list[BaseException] = []
    done = threading.Event()
    device = s.device.backend

    def read() -> None:
        try:
            with pa.device(device):
                infer = pa.jit(lambda: (s * 1.0)[0, 0])
                while not done.is_set():
                    assert float(infer()) >= 6.0
                    assert float(s.detach()[3, 3]) >= 6.0
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    for _ in range(100):
        step()
    done.set()
    for r in readers:
        r.join()
    assert not failures, failures
    assert float(s[3, 3]) == 106.0
