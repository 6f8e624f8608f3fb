"""The table of equalities: modes that must give the same bits (RULES 3.6). It only grows.

| row | backends |
| --- | --- |
| dynamic = jit | numpy, cpu |
| dynamic = loss read before backward | numpy, cpu |
| dynamic = read at random places inside the forward pass | numpy, cpu |
| cold = warm cache of programs | numpy, cpu |
| first tier (one by one) = second tier (whole) | numpy, cpu |
| resumed = uninterrupted | cpu (test_demo.py, test_io.py) |
| 1 = 2 = 3 threads | cpu |
| a row alone = in a batch | cpu (test_cpu_rows.py, test_cpu_product.py) |
| this processor = x86-64-v3 = x86-64-v2 | cpu (test_cpu.py, test_cpu_rows.py, test_cpu_product.py) |
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.table import TableExecutable
from proa.compile.tiers import counts
from proa.config import config
from proa.explain import forget_programs
from proa.record import replay
from tests.training import MODELS, same_bits, train

NAMES = list(MODELS)


@pytest.fixture(scope="module", params=["numpy", "cpu"], autouse=True)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every row on every backend that it holds for."""
    with pa.device(request.param):
        yield request.param


@pytest.fixture(scope="module")
def dynamic(place: str) -> dict[str, Any]:
    return {name: train(MODELS[name], 100) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_jit_gives_the_bits_of_the_plain_loop(name: str, dynamic: Any) -> None:
    jitted = train(MODELS[name], 100, jit=True)
    same_bits(dynamic[name], jitted)
    assert jitted["bodies"] == 3 or config.jit_check, (
        "the Python body runs three times, then never again"
    )


@pytest.mark.parametrize("name", NAMES)
def test_reading_before_backward_changes_no_bit(name: str, dynamic: Any) -> None:
    same_bits(dynamic[name], train(MODELS[name], 100, read=lambda step, loss: float(loss)))


@pytest.mark.parametrize("name", NAMES)
def test_reading_now_and_then_changes_no_bit(name: str, dynamic: Any) -> None:
    rng = random.Random(7)

    def read(step: int, loss: Any) -> None:
        if rng.random() < 0.3:
            float(loss)

    same_bits(dynamic[name], train(MODELS[name], 100, read=read))


@pytest.mark.parametrize("name", NAMES)
def test_a_cold_cache_changes_no_bit(name: str, dynamic: Any) -> None:
    forget_programs()
    same_bits(dynamic[name], train(MODELS[name], 100))


@pytest.mark.parametrize("name", NAMES)
def test_one_by_one_gives_the_bits_of_the_whole(
    name: str, dynamic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_programs()

    def first_tier_always(self: Any, buffers: Any) -> Any:
        self.sights = 1
        self.whole = False
        self._choose()
        return self.run(buffers)

    monkeypatch.setattr(replay.Plan, "__call__", first_tier_always)
    found = train(MODELS[name], 20)
    assert found["losses"] == dynamic[name]["losses"][:20]
    forget_programs()


EXECUTABLES = {"numpy": TableExecutable, "cpu": CpuExecutable}


def contractions(monkeypatch: pytest.MonkeyPatch, place: str) -> list[int]:
    """Counts how many products and convolutions run, whichever the tier."""
    ran, executable = [0], EXECUTABLES[place]
    run = executable.__call__

    def counted(self: Any, buffers: Any) -> Any:
        steps = self.program.graph.steps
        ran[0] += sum(s.entry.primitive.name in ("dot", "conv") for s in steps)
        return run(self, buffers)

    monkeypatch.setattr(executable, "__call__", counted)
    return ran


@pytest.mark.parametrize("name", NAMES)
def test_no_contraction_runs_twice_after_an_early_read(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = contractions(monkeypatch, place)
    totals = []
    forget_programs()
    for read in (None, lambda step, loss: float(loss)):
        before = ran[0]
        train(MODELS[name], 6, read=read)
        totals.append(ran[0] - before)
    assert totals[0] == totals[1] > 0


@pytest.mark.parametrize("name", NAMES)
def test_threads_change_no_bit(name: str, place: str, dynamic: Any) -> None:
    if place != "cpu":
        pytest.skip("NumPy's products depend on the threads of its BLAS")
    before = pa.get_num_threads()
    try:
        for count in (1, 3):
            pa.set_num_threads(count)
            found = train(MODELS[name], 20)
            assert found["losses"] == dynamic[name]["losses"][:20]
    finally:
        pa.set_num_threads(before)


def test_from_the_tenth_step_one_dispatch_a_step_and_nothing_one_by_one() -> None:
    forget_programs()
    marks: list[tuple[int, int]] = []

    def read(step: int, loss: Any) -> None:
        marks.append((counts.dispatches, counts.single_operations))

    train(MODELS["mlp"], 40, read=read)
    steps = np.diff([d for d, _ in marks[10:]])
    assert set(steps) == {1}
    assert len({s for _, s in marks[10:]}) == 1
    assert len(pa.explain().programs) == 2
    forget_programs()
