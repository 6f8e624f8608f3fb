"""A physics-informed network: the gradient of a squared Laplacian by nested derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
from harness import Case, Jit, Made
from networks import linears

SIZES: Final = (2, 128, 128, 128, 128, 1)
POINTS: Final = 1024


def network(kit: Any) -> Callable[..., Any]:
    """u(params, points) of shape (points, 1), in the operations of any of the libraries."""

    def u(params: Any, x: Any) -> Any:
        for i, (w, b) in enumerate(params):
            x = (kit.tanh(x) if i else x) @ w.T + b
        return x

    return u


@final
class Pinn(Case):
    """The gradient by all parameters of the mean of (u_xx + u_yy - 1)^2."""

    def __init__(self, dtype: str) -> None:
        self.name = f"2-128x4-1, {POINTS} points, {dtype}"
        self.double = dtype == "float64"
        self.tolerance = 1e-9 if self.double else 1e-3
        self.given = [(w.astype(dtype), b.astype(dtype)) for w, b in linears(SIZES)]
        self.points = np.random.default_rng(0).uniform(-1, 1, (POINTS, 2)).astype(dtype)

    def proa(self, jit: Jit) -> Made:
        import proa as pa

        params = [(pa.asarray(w), pa.asarray(b)) for w, b in self.given]
        points, f = pa.asarray(self.points), nested(pa, pa.grad, pa.sum)
        step = jit(pa.value_and_grad(f))
        return Made(lambda: step(params, points))

    def torch(self, compiled: bool) -> Made:
        import torch

        if compiled:
            return self._torch_functional()
        params = [
            (torch.tensor(w, requires_grad=True), torch.tensor(b, requires_grad=True))
            for w, b in self.given
        ]
        flat = [t for layer in params for t in layer]
        points, u = torch.tensor(self.points, requires_grad=True), network(torch)

        def step() -> Any:
            (slope,) = torch.autograd.grad(u(params, points).sum(), points, create_graph=True)
            parts = [
                torch.autograd.grad(slope[:, i].sum(), points, create_graph=True)[0][:, i]
                for i in range(2)
            ]
            loss = ((parts[0] + parts[1] - 1.0) ** 2).mean()
            found = torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True)
            return loss.detach(), list(found)

        return Made(step)

    def _torch_functional(self) -> Made:
        import torch

        params = [(torch.tensor(w), torch.tensor(b)) for w, b in self.given]
        points, f = torch.tensor(self.points), nested(torch, torch.func.grad, torch.sum)
        step = torch.compile(torch.func.grad_and_value(f))

        def swapped() -> Any:
            gradients, loss = step(params, points)
            return loss, gradients

        return Made(swapped)

    def jax(self) -> Made:
        import jax
        import jax.numpy as jnp

        params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in self.given]
        points, u = jnp.asarray(self.points), network(jnp)

        def loss(params: Any, points: Any) -> Any:
            slope = jax.grad(lambda p: u(params, p).sum())
            parts = [
                jax.jvp(slope, (points,), (jnp.zeros_like(points).at[:, i].set(1.0),))[1][:, i]
                for i in range(2)
            ]
            return jnp.mean((parts[0] + parts[1] - 1.0) ** 2)

        step = jax.jit(jax.value_and_grad(loss))
        return Made(lambda: step(params, points))


def nested(kit: Any, grad: Any, total: Any) -> Callable[..., Any]:
    """The loss, by reverse mode in reverse mode; points do not meet, so sums give each its own."""
    u = network(kit)

    def loss(params: Any, points: Any) -> Any:
        slope = grad(lambda p: total(u(params, p)))
        parts = [grad(lambda p, i=i: total(slope(p)[:, i]))(points)[:, i] for i in range(2)]
        return kit.mean((parts[0] + parts[1] - 1.0) ** 2)

    return loss


def pinns() -> list[Callable[[], Case]]:
    return [lambda: Pinn("float32"), lambda: Pinn("float64")]
