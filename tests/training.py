"""Three small trainings that tests run in every mode: losses, gradients and parameters come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import proa as pa
from proa import nn, optim
from proa.examples.gpt import GPT, Config
from proa.nn import functional as F  # noqa: N812


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 24),
            nn.ReLU(),
            nn.LayerNorm(24),
            nn.Linear(24, 16),
            nn.GELU(),
            nn.Linear(16, 5),
        )

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class ConvNet(nn.Module):
    """Convolution, batch norm, dropout: everything that has state in training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Any) -> Any:
        x = self.pool(F.relu(self.norm(self.conv(x))))
        return self.head(self.drop(x.reshape(x.shape[0], -1)))


def mlp() -> tuple[Any, Any]:
    pa.manual_seed(3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 12)).astype(np.float32)
    return MLP(), (x, rng.integers(0, 5, 16))


def convnet() -> tuple[Any, Any]:
    pa.manual_seed(4)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 1, 8, 8)).astype(np.float32)
    return ConvNet(), (x, rng.integers(0, 5, 8))


def transformer() -> tuple[Any, Any]:
    pa.manual_seed(5)
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 31, (3, 9))
    config = Config(vocabulary=31, context=8, width=16, layers=2, heads=2)
    return GPT(config), (ids[:, :-1], ids[:, 1:])


MODELS = {"mlp": mlp, "convnet": convnet, "transformer": transformer}


def loss_of(model: Any, x: Any, y: Any) -> Any:
    logits = model(x)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def train(
    make: Callable[[], Any],
    steps: int = 30,
    jit: bool = False,
    read: Callable[[int, Any], Any] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Trains with AdamW; `read(step, loss)` may look at the loss before `backward()`."""
    model, (x, y) = make()
    if device is not None:
        model.to(device)
    x, y = (pa.asarray(a, device=device) for a in (x, y))
    x = x.astype(pa.get_default_dtype()) if x.dtype is pa.float32 else x
    optimiser = optim.AdamW(model.parameters(), lr=1e-2)
    bodies = 0

    def step(x: Any, y: Any) -> Any:
        nonlocal bodies
        bodies += 1
        loss = loss_of(model, x, y)
        if read is not None:
            read(bodies - 1, loss)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    losses: list[Any] = []
    call = pa.jit(step) if jit else step
    for _ in range(steps):
        losses.append(call(x, y))
    return {
        "losses": [float(loss) for loss in losses],
        "gradients": [p.grad.numpy() for p in model.parameters()],
        "parameters": [p.numpy() for p in model.parameters()],
        "buffers": [b.numpy() for b in model.buffers()],
        "bodies": bodies,
        "model": model,
    }


def same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["losses"] == b["losses"]
    for part in ("gradients", "parameters", "buffers"):
        assert len(a[part]) == len(b[part])
        for p, q in zip(a[part], b[part], strict=True):
            assert p.tobytes() == q.tobytes(), part
