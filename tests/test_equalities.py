"""The table of equalities: modes that must give the same bits (RULES 3.6). It only grows.

| row | backends |
| --- | --- |
| dynamic = jit | numpy |
| dynamic = loss read before backward | numpy |
| dynamic = read at random places inside the forward pass | numpy |
| cold = warm cache of programs | numpy |
| first tier (one by one) = second tier (whole) | numpy |
| resumed = uninterrupted | numpy (test_demo.py, test_io.py) |
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.compile.tiers import counts
from proa.explain import forget_programs
from proa.record import replay
from tests.training import MODELS, same_bits, train

NAMES = list(MODELS)


@pytest.fixture(scope="module")
def dynamic() -> dict[str, Any]:
    return {name: train(MODELS[name], 100) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_jit_gives_the_bits_of_the_plain_loop(name: str, dynamic: Any) -> None:
    jitted = train(MODELS[name], 100, jit=True)
    same_bits(dynamic[name], jitted)
    assert jitted["bodies"] == 3, "the Python body runs three times, then never again"


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


def contractions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often a product or convolution runs on NumPy."""
    from proa.ops.contraction import dot
    from proa.ops.window import conv

    ran = [0]
    for primitive in (dot, conv):
        meaning = primitive.meaning

        def counted(*args: Any, _meaning: Any = meaning, **params: Any) -> Any:
            ran[0] += 1
            return _meaning(*args, **params)

        monkeypatch.setattr(primitive, "meaning", counted)
        for entry in primitive.table.values():
            entry.memo.clear()
    forget_programs()
    return ran


@pytest.mark.parametrize("name", NAMES)
def test_no_contraction_runs_twice_after_an_early_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = contractions(monkeypatch)
    totals = []
    for read in (None, lambda step, loss: float(loss)):
        before = ran[0]
        train(MODELS[name], 6, read=read)
        totals.append(ran[0] - before)
    assert totals[0] == totals[1]
    monkeypatch.undo()
    forget_programs()
    from proa.ops.contraction import dot
    from proa.ops.window import conv

    for primitive in (dot, conv):
        for entry in primitive.table.values():
            entry.memo.clear()


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
