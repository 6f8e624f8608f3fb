"""Batches whose sizes vary, beside batches of one size: what a new size costs.

    python benchmarks/sizes.py [device]      # in an environment with proa; the device is cpu

Each row trains a small model on 200 batches of random sizes and on 200 of one size that are as much
work, in dynamic mode and under `jit`, from an empty cache of programs each time (kernels exist).
No batch is padded. `10 on` leaves out the first ten batches, where programs are made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from common import processor

import proa as pa
from proa import nn, optim
from proa.compile.find import set_default_device
from proa.examples.gpt import GPT, Config
from proa.explain import forget_programs
from proa.nn import functional as F  # noqa: N812

BATCHES, FIRST, ROUNDS = 200, 10, 3
Sizes = tuple[int, ...]
Step = Callable[..., Any]
rng = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return pa.asarray(rng.standard_normal(shape).astype(np.float32))


def trained(model: Any, loss: Callable[..., Any]) -> Step:
    optimiser = optim.AdamW(model.parameters(), lr=1e-3)

    def step(*batch: Any) -> Any:
        value = loss(*batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return value

    return step


def mlp() -> Step:
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
                        nn.Linear(256, 10))  # fmt: skip
    return trained(net, lambda x, y: F.cross_entropy(net(x), y))


def mlp_batch(n: int) -> list[Any]:
    return [floats(n, 784), pa.asarray(rng.integers(0, 10, n))]


VOCABULARY = 128


def gpt() -> Step:
    net = GPT(Config(vocabulary=VOCABULARY, context=64, width=64, layers=2, heads=2))

    def loss(x: Any, y: Any) -> Any:
        return F.cross_entropy(net(x).reshape(-1, VOCABULARY), y.reshape(-1))

    return trained(net, loss)


def gpt_batch(n: int, length: int) -> list[Any]:
    ids = rng.integers(0, VOCABULARY, (n, length + 1))
    return [pa.asarray(ids[:, :-1]), pa.asarray(ids[:, 1:])]


class Recurrent(nn.Module):
    """A gated recurrent network, its steps by `scan`."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.gates, self.new = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Any) -> Any:
        def cell(h: Any, now: Any) -> tuple[Any, Any]:
            both = pa.sigmoid(self.gates(pa.concat([h, now], axis=-1)))
            z, r = both[:, : self.width], both[:, self.width :]
            fresh = pa.tanh(self.new(pa.concat([r * h, now], axis=-1)))
            h = (1 - z) * h + z * fresh
            return h, h

        return pa.scan(cell, pa.zeros((x.shape[1], self.width)), x)[1]


def gru() -> Step:
    net = Recurrent()
    return trained(net, lambda x, y: ((net(x) - y) ** 2).mean())


def gru_batch(n: int, length: int) -> list[Any]:
    return [floats(length, n, 64), floats(length, n, 64)]


# Models, batches of a size, the ranges of sizes, and the one size that is as much work.
CASES: dict[str, tuple[Callable[[], Step], Callable[..., list[Any]], tuple[Sizes, ...], Sizes]] = {
    "mlp": (mlp, mlp_batch, ((16, 129),), (72,)),
    "gpt": (gpt, gpt_batch, ((2, 9), (16, 65)), (5, 40)),
    "gru": (gru, gru_batch, ((2, 17), (8, 33)), (9, 20)),
}


def seconds(make: Callable[[], Step], batches: Sequence[list[Any]], mode: str) -> list[float]:
    """Of each batch."""
    forget_programs()
    pa.manual_seed(0)
    step = make()
    step = pa.jit(step) if mode == "jit" else step
    found = []
    for batch in batches:
        start = perf_counter()
        step(*batch)
        pa.sync()
        found.append(perf_counter() - start)
    return found


def row(name: str, mode: str) -> None:
    make, batch, ranges, fixed = CASES[name]
    sizes = [tuple([int(rng.integers(*r)) for r in ranges]) for _ in range(BATCHES)]
    varied, one = [batch(*s) for s in sizes], [batch(*fixed)] * BATCHES
    pa.sync()
    seconds(make, varied[: 3 * FIRST], mode)  # kernels exist from now on
    rounds = [(seconds(make, varied, mode), seconds(make, one, mode)) for _ in range(ROUNDS)]
    whole = median(sum(a) / sum(b) for a, b in rounds)
    later = median(sum(a[FIRST:]) / sum(b[FIRST:]) for a, b in rounds)
    a, b = rounds[-1]
    times = f"{sum(a) * 1e3:8.0f} ms, one size {sum(b) * 1e3:8.0f} ms"
    text = f"ratio {whole:5.2f}; from batch {FIRST} on {later:5.2f}"
    print(f"{name:4s} {mode:8s} {len(set(sizes)):4d} sizes {times}, {text}")


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    names = sys.argv[2:] or list(CASES)
    set_default_device(device)
    print(f"{processor()}; {device}; {BATCHES} batches, the median of {ROUNDS} turns")
    for name in names:
        for mode in ("dynamic", "jit"):
            row(name, mode)


if __name__ == "__main__":
    main()
