"""Products: large ones one by one, small ones in a chain, so that calls do not hide them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import numpy as np
from harness import Case, Jit, Made

SEED: Final = 7


@final
class Product(Case):
    """One product, of operands that may be transposed: a as [K, M], b as [N, K]."""

    inference = True

    def __init__(self, m: int, n: int, k: int, how: str, dtype: str) -> None:
        self.name = f"{m}x{n}x{k} {how} {dtype}"
        self.how = how
        self.double = dtype == "float64"
        self.tolerance = 1e-12 if self.double else 1e-5
        self.flops = 2.0 * m * n * k
        draw = np.random.default_rng(SEED)
        self.a = draw.standard_normal((k, m) if how[0] == "T" else (m, k)).astype(dtype)
        self.b = draw.standard_normal((n, k) if how[1] == "T" else (k, n)).astype(dtype)

    def multiply(self, a: Any, b: Any) -> Any:
        return (a.T if self.how[0] == "T" else a) @ (b.T if self.how[1] == "T" else b)

    def proa(self, jit: Jit) -> Made:
        import proa as pa

        a, b = pa.asarray(self.a), pa.asarray(self.b)
        multiply = jit(self.multiply)
        return Made(lambda: multiply(a, b))

    def torch(self, compiled: bool) -> Made:
        import torch

        a, b = torch.tensor(self.a), torch.tensor(self.b)
        if compiled:
            multiply = torch.compile(self.multiply)
            return Made(lambda: multiply(a, b))
        a, b = (a.T if self.how[0] == "T" else a), (b.T if self.how[1] == "T" else b)
        out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype)
        return Made(lambda: torch.mm(a, b, out=out))

    def jax(self) -> Made:
        import jax

        a, b = jax.numpy.asarray(self.a), jax.numpy.asarray(self.b)
        multiply = jax.jit(self.multiply)
        return Made(lambda: multiply(a, b))


@final
class Chain(Case):
    """x = m @ x again and again, over matrices in turn, in one call. Matrices are scaled so that
    sizes stay; in eager PyTorch each product writes into memory that is there."""

    inference = True

    def __init__(
        self, name: str, shapes: list[tuple[int, ...]], columns: tuple[int, ...], length: int
    ) -> None:
        self.name = f"{name}, {length} in a chain" if length > 1 else name
        self.tolerance = 1e-3
        self.length = length
        draw = np.random.default_rng(SEED)
        self.matrices = [
            (draw.standard_normal(s) / np.sqrt(s[-1])).astype(np.float32) for s in shapes
        ]
        self.x = draw.standard_normal(columns).astype(np.float32)
        count = [2.0 * np.prod(s) * columns[-1] for s in shapes]
        self.flops = float(sum(count[i % len(count)] for i in range(length)))

    def steps(self, matrices: list[Any], x: Any) -> Any:
        for i in range(self.length):
            x = matrices[i % len(matrices)] @ x
        return x

    def proa(self, jit: Jit) -> Made:
        import proa as pa

        x, matrices = pa.asarray(self.x), [pa.asarray(m) for m in self.matrices]
        steps: Callable[..., Any] = jit(self.steps)
        return Made(lambda: steps(matrices, x))

    def torch(self, compiled: bool) -> Made:
        import torch

        x, matrices = torch.tensor(self.x), [torch.tensor(m) for m in self.matrices]
        if compiled:
            steps = torch.compile(self.steps)
            return Made(lambda: steps(matrices, x))
        outs = [[m @ x for m in matrices[:1]] for _ in range(2)]
        while len(outs[0]) < len(matrices):
            for way in outs:
                way.append(matrices[len(way)] @ way[-1])

        def into() -> Any:
            y = x
            for i in range(self.length):
                which = i % len(matrices)
                y = torch.matmul(matrices[which], y, out=outs[i // len(matrices) % 2][which])
            return y

        return Made(into)

    def jax(self) -> Made:
        import jax

        x = jax.numpy.asarray(self.x)
        matrices = [jax.numpy.asarray(m) for m in self.matrices]
        steps = jax.jit(self.steps)
        return Made(lambda: steps(matrices, x))


LARGE: Final = (
    (512, 512, 512, "NN"),
    (1024, 1024, 1024, "NN"),
    (2048, 1536, 384, "NN"),
    (384, 1536, 2048, "TN"),
    (1024, 1024, 1024, "NT"),
)


def products() -> list[Callable[[], Case]]:
    return [partial(Product, *s, d) for d in ("float32", "float64") for s in LARGE]


def small_products() -> list[Callable[[], Case]]:
    square = [(32, 200), (64, 200), (128, 50), (32, 1), (64, 1), (128, 1)]
    return [
        *[partial(Chain, f"{n}^3", [(n, n)], (n, n), length) for n, length in square],
        partial(Chain, "96 x (128x64 @ 64x128)", [(96, 128, 64)], (96, 64, 128), 1),
        partial(Chain, "vector 512", [(512, 512)], (512, 1), 50),
        partial(Chain, "vector 2048x512 and back", [(2048, 512), (512, 2048)], (512, 1), 20),
        partial(Chain, "vector 4096 from memory", [(4096, 4096)], (4096, 1), 2),
    ]
