"""`docs/from_scratch.py`: it is short, it learns, and replaying changes no bit."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "from_scratch.py"


@pytest.fixture(scope="module")
def s() -> Any:
    spec = importlib.util.spec_from_file_location("from_scratch", PAGE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short_and_needs_numpy_alone() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert "proa" not in [
        line.split()[1] for line in text.splitlines() if line.startswith("import")
    ]
    assert "from proa" not in text


def test_it_learns_and_replays_with_the_same_bits(s: Any, capsys: Any) -> None:
    found = s.main(400)
    assert found["equal"] and found["right"] > 0.95
    assert "equal in every bit: True" in capsys.readouterr().out


def test_derivatives_of_any_order(s: Any) -> None:
    f = lambda x: x * x * x  # noqa: E731
    for expected in (8.0, 12.0, 12.0, 6.0):
        assert f(s.tensor(2.0)).numpy() == expected
        f = s.grad(f)
    rng = np.random.default_rng(0)
    x = s.tensor(rng.normal(size=(3, 2)))
    w = s.tensor(rng.normal(size=(2, 4)))
    b = s.tensor(rng.normal(size=(4,)))

    def loss(w: Any) -> Any:
        y = s.tanh(x @ w + b)
        return (s.log(s.exp(y).sum(3, 1) / 2.0) + y).sum()

    slope = s.grad(loss)(w).numpy()
    for i in np.ndindex(2, 4):
        e = np.zeros((2, 4))
        e[i] = 1e-2
        near = (loss(w + s.tensor(e)).numpy() - loss(w - s.tensor(e)).numpy()) / 2e-2
        assert abs(slope[i] - near) < 2e-3


def test_one_program_for_a_structure_and_nothing_leaks(s: Any) -> None:
    p = s.tensor(2.0, taped=2)
    made, alive = [], []
    for i in range(30):
        loss = p * p * float(i)
        if i % 2:
            loss.numpy()  # read before backward: the tape is still there
        s.backward(loss, [p])
        p.assign(p - p.grad * 0.01)
        s.compute()
        del loss
        made.append(s.program.cache_info().misses)
        gc.collect()
        alive.append(sum(type(o) is s.Value for o in gc.get_objects()))
    assert made[3] == made[-1] and alive[5] == alive[-1]


def test_replay_is_never_stale_and_refuses_what_escapes(s: Any) -> None:
    state, scale, other = s.tensor(0.0), s.tensor(2.0), s.tensor(5.0)

    def add(x: Any) -> Any:
        state.assign(state + x * scale)
        return state * 1.0

    f = s.Replayed(add)
    assert [float(f(s.tensor(1.0)).numpy()) for _ in range(4)] == [2.0, 4.0, 6.0, 8.0]
    scale.assign(other)
    state.assign(s.tensor(0.0))
    assert float(f(s.tensor(1.0)).numpy()) == float(state.numpy()) == 5.0
    kept = []
    g = s.Replayed(lambda x: (kept.append(x + 1.0), x * 2.0)[1])
    g(s.tensor(1.0))
    with pytest.raises(AssertionError, match="neither assigned nor returned"):
        g(s.tensor(1.0))
    kept.clear()
    h = s.Replayed(lambda x: x * float((x * x).numpy()))
    h(s.tensor(1.0))
    with pytest.raises(AssertionError, match="while a function is recorded"):
        h(s.tensor(1.0))
