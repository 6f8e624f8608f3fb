"""How many distinct structures ordinary loops make. Each figure is exact, and none grows with the
number of steps.

The plan allowed one more for the total, the short batch, accumulation, evaluation and the
exception; dead nodes never enter a key here, so these need no program of their own
(docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.explain import forget_programs

STEPS = 50


class Setup:
    """A small classifier with data, and the parts of a step."""

    def __init__(self, batch: int = 8) -> None:
        pa.manual_seed(0)
        rng = np.random.default_rng(0)
        self.model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
        self.optimiser = optim.AdamW(self.model.parameters(), lr=1e-2)
        self.x = pa.asarray(rng.standard_normal((batch, 6)).astype(np.float32))
        self.y = pa.asarray(rng.integers(0, 3, batch))

    def loss(self, x: Any = None, y: Any = None) -> Any:
        x, y = (self.x, self.y) if x is None else (x, y)
        return nn.functional.cross_entropy(self.model(x), y)

    def step(self, x: Any = None, y: Any = None) -> Any:
        loss = self.loss(x, y)
        self.update(loss)
        return loss

    def update(self, loss: Any) -> None:
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def plain(steps: int) -> None:
    s = Setup()
    for _ in range(steps):
        s.step()


def schedule(steps: int) -> None:
    s = Setup()
    for t in range(steps):
        rate = 0.5 * 1e-2 * (1 + math.cos(math.pi * t / steps))
        s.optimiser.param_groups[0]["lr"] = 1e-8 if t == 7 else rate  # equal to eps once
        s.step()


def corrections_in_python(steps: int) -> None:
    """Adam by hand, its corrections Python floats; at one step the rate equals eps."""
    s = Setup()
    parameters = list(s.model.parameters())
    m = [pa.zeros(p.shape) for p in parameters]
    v = [pa.zeros(p.shape) for p in parameters]
    for t in range(1, steps + 1):
        loss = s.loss()
        for p in parameters:
            p.grad = None
        loss.backward()
        rate = 1e-8 if t == 9 else 0.01 * math.cos(t / steps)
        with pa.no_grad():
            for i, p in enumerate(parameters):
                m[i] = 0.9 * m[i] + 0.1 * p.grad
                v[i] = 0.99 * v[i] + 0.01 * p.grad * p.grad
                first, second = m[i] / (1 - 0.9**t), v[i] / (1 - 0.99**t)
                p -= rate * first / (pa.sqrt(second) + 1e-8)
        pa.sync()


def print_every_ten(steps: int) -> None:
    s = Setup()
    for t in range(steps):
        loss = s.loss()
        if t > 2 and t % 10 == 0:
            f"{loss:.3f}"
        s.update(loss)


def total_unread(steps: int) -> None:
    s = Setup()
    total = pa.zeros(())
    for _ in range(steps):
        total += s.step()


def short_last_batch(steps: int) -> None:
    s = Setup(batch=18)
    for _ in range(10):
        for i in range(5):
            s.step(s.x[i * 4 : i * 4 + 4], s.y[i * 4 : i * 4 + 4])


def accumulation(steps: int) -> None:
    s = Setup()
    for _ in range(steps):
        s.optimiser.zero_grad()
        for _ in range(4):
            (s.loss() / 4).backward()
        s.optimiser.step()


def evaluation_between(steps: int) -> None:
    s = Setup()
    for _ in range(5):
        for _ in range(steps // 5):
            s.step()
        s.model.eval()
        with pa.no_grad():
            float(s.loss())
        s.model.train()


def exception_caught(steps: int) -> None:
    s = Setup()
    for t in range(steps):
        try:
            loss = s.loss()
            if t == 20:
                raise KeyError(t)
            s.update(loss)
        except KeyError:
            del loss


def slices(steps: int) -> None:
    s = Setup(batch=40)
    for t in range(steps):
        i = t % 10
        s.step(s.x[i * 4 : (i + 1) * 4], s.y[i * 4 : (i + 1) * 4])


CASES: list[tuple[Callable[[int], None], int]] = [
    (plain, 2),
    (schedule, 2),
    (corrections_in_python, 2),
    (print_every_ten, 4),
    (total_unread, 2),
    (short_last_batch, 3),
    (accumulation, 2),
    (evaluation_between, 3),
    (exception_caught, 2),
    (slices, 2),
]


@pytest.mark.parametrize(("loop", "expected"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_number_of_programs(loop: Callable[[int], None], expected: int) -> None:
    forget_programs()
    loop(STEPS)
    found = len(pa.explain().programs)
    loop(2 * STEPS)
    grown = len(pa.explain().programs)
    assert (found, grown) == (expected, expected), repr(pa.explain())
    forget_programs()
