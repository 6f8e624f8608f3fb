"""`jit(numerics="fast")`: asked for per function, close to the strict numbers, never ambient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.errors import ArgumentError
from proa.nn import functional as F  # noqa: N812
from proa.record.replay import programs

DRAW = np.random.default_rng(3)
X = DRAW.standard_normal((40, 70)).astype(np.float32)
Y = DRAW.uniform(0.5, 2.0, (40, 1)).astype(np.float32)

FUNCTIONS: dict[str, Callable[[pa.Tensor, pa.Tensor], pa.Tensor]] = {
    "a chain": lambda x, y: (x * y + 1.0) * (x - y) / y,
    "inverses": lambda x, y: pa.log(pa.exp(x)) + pa.exp(pa.log(y)) + pa.sqrt(y) * pa.sqrt(y),
    "softmax": lambda x, y: F.softmax(x * y, dim=-1),
    "layer norm": lambda x, y: F.layer_norm(x * y, (70,)),
    "gelu": lambda x, y: F.gelu(x + y),
    "a product": lambda x, y: (x @ x.T) / y + 1.0,
    "sums": lambda x, y: (x * x).sum(axis=0) + (x / y).sum(axis=1, keepdims=True),
    "erf and powers": lambda x, y: pa.tanh(x) ** 3 + y**0.7 + pa.sin(x) * pa.log1p(y),
}


def settled(f: Any, *given: pa.Tensor) -> Any:
    """What a replay gives."""
    for _ in range(4):
        found = f(*given)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_close_to_strict(name: str) -> None:
    f = FUNCTIONS[name]
    x, y = pa.asarray(X), pa.asarray(Y)
    exact = f(pa.asarray(X.astype(np.float64)), pa.asarray(Y.astype(np.float64))).numpy()
    fast = settled(pa.jit(f, numerics="fast"), x, y).numpy()
    scale = max(1.0, float(np.abs(exact).max()))
    assert fast.dtype == np.float32
    assert np.abs(fast - exact).max() < 4e-6 * scale


def test_strict_bits_stay_beside_it() -> None:
    f = FUNCTIONS["a chain"]
    x, y = pa.asarray(X), pa.asarray(Y)
    strict = pa.jit(f)
    before = settled(strict, x, y).numpy().tobytes()
    settled(pa.jit(f, numerics="fast"), x, y)
    assert strict(x, y).numpy().tobytes() == before == f(x, y).numpy().tobytes()


def test_programs_say_so() -> None:
    x = pa.asarray(X[:7, :11])
    settled(pa.jit(lambda x: x * 2.0 + 1.5 - x, numerics="fast"), x)
    assert [p["numerics"] for p in programs()][-1] == "fast"


def test_narrow_chains_are_rounded_once() -> None:
    x = pa.astype(pa.asarray(X), pa.bfloat16)

    def f(x: pa.Tensor) -> pa.Tensor:
        return pa.tanh(x * x + x) * x

    exact = f(pa.astype(x, pa.float64)).numpy()
    errors = []
    for numerics in ("strict", "fast"):
        found = settled(pa.jit(f, numerics=numerics), x)
        assert found.dtype is pa.bfloat16
        errors.append(np.abs(pa.astype(found, pa.float64).numpy() - exact).max())
    assert errors[1] < errors[0]
    assert errors[1] <= 2.0**-8 * np.abs(exact).max()


def test_gradients_and_state() -> None:
    def trained(numerics: str) -> list[float]:
        pa.manual_seed(0)
        model = nn.Sequential(nn.Linear(70, 16), nn.GELU(), nn.Linear(16, 1))
        opt = pa.optim.AdamW(model.parameters(), lr=1e-2)

        @pa.jit(numerics=numerics)
        def step(x: pa.Tensor, y: pa.Tensor) -> pa.Tensor:
            loss = ((model(x) - y) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        return [float(step(pa.asarray(X), pa.asarray(Y))) for _ in range(12)]

    strict, fast = trained("strict"), trained("fast")
    assert np.allclose(strict, fast, rtol=1e-4)
    assert fast[-1] < fast[0]


def test_a_wrong_word() -> None:
    with pytest.raises(ArgumentError, match="'strict' or 'fast'"):
        pa.jit(lambda x: x, numerics="exact")
    with pytest.raises(ArgumentError, match="numerics"):
        pa.jit(numerics="Fast")


def test_the_pass_can_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    f = pa.jit(FUNCTIONS["a chain"], numerics="fast")
    f.show("relax", pa.asarray(X), pa.asarray(Y))
    assert "div" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="relax"):
        pa.jit(FUNCTIONS["a chain"]).show("relax", pa.asarray(X), pa.asarray(Y))
