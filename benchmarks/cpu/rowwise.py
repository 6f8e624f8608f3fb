"""What memory bounds: rows forward and backward, an elementwise chain, the optimiser's update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import gpt
import numpy as np
from harness import Case, Jit, Made

SEED: Final = 11


@final
class Rows(Case):
    """y = f(x, ...) and the gradients of all operands for a given cotangent. `f` is given as a
    function for each framework."""

    def __init__(
        self, name: str, shapes: list[tuple[int, ...]], proa: Any, torch: Any, jax: Any
    ) -> None:
        self.name = name
        self.f_proa, self.f_torch, self.f_jax = proa, torch, jax
        draw = np.random.default_rng(SEED)
        self.given = [draw.standard_normal(s).astype(np.float32) for s in shapes]
        self.ct = draw.standard_normal(shapes[0]).astype(np.float32)
        self.moved = 4.0 * self.ct.nbytes  # x and the cotangent in, y and the gradient of x out

    def proa(self, jit: Jit) -> Made:
        import proa as pa

        given = [pa.asarray(g).requires_grad_() for g in self.given]
        ct, f = pa.asarray(self.ct), self.f_proa()

        def step() -> Any:
            for g in given:
                g.grad = None
            y = f(*given)
            y.backward(ct)
            return y, *[g.grad for g in given]

        return Made(jit(step))

    def torch(self, compiled: bool) -> Made:
        import torch

        given = [torch.tensor(g, requires_grad=True) for g in self.given]
        ct, f = torch.tensor(self.ct), self.f_torch()
        f = torch.compile(f) if compiled else f

        def step() -> Any:
            y = f(*given)
            return y, *torch.autograd.grad(y, given, ct)

        return Made(step)

    def jax(self) -> Made:
        import jax

        given = [jax.numpy.asarray(g) for g in self.given]
        ct, f = jax.numpy.asarray(self.ct), self.f_jax()

        @jax.jit
        def both(given: Any, ct: Any) -> Any:
            y, pull = jax.vjp(f, *given)
            return y, *pull(ct)

        return Made(lambda: both(given, ct))


def softmax(rows: int, width: int) -> Case:
    def proa() -> Any:
        from proa.nn import functional

        return lambda x: functional.softmax(x, dim=-1)

    def torch() -> Any:
        from torch.nn import functional

        return lambda x: functional.softmax(x, dim=-1)

    def jax() -> Any:
        from jax.nn import softmax as f

        return f

    return Rows(f"softmax {rows}x{width}", [(rows, width)], proa, torch, jax)


def layer_norm(rows: int, width: int) -> Case:
    def proa() -> Any:
        from proa.nn import functional

        return lambda x, w, b: functional.layer_norm(x, (width,), w, b)

    def torch() -> Any:
        from torch.nn import functional

        return lambda x, w, b: functional.layer_norm(x, (width,), w, b)

    shapes: list[tuple[int, ...]] = [(rows, width), (width,), (width,)]
    return Rows(f"layer norm {rows}x{width}", shapes, proa, torch, lambda: gpt.jax_layer_norm)


def gelu(rows: int, width: int) -> Case:
    def proa() -> Any:
        from proa.nn import functional

        return functional.gelu

    def torch() -> Any:
        from torch.nn import functional

        return lambda x: functional.gelu(x)

    def jax() -> Any:
        from jax.nn import gelu as f

        return lambda x: f(x, approximate=False)

    return Rows(f"gelu {rows}x{width}", [(rows, width)], proa, torch, jax)


@final
class CrossEntropy(Case):
    """The mean loss of scores against labels, and the gradient of the scores."""

    scalar = True

    def __init__(self, rows: int, width: int) -> None:
        self.name = f"cross-entropy {rows}x{width}"
        draw = np.random.default_rng(SEED)
        self.x = draw.standard_normal((rows, width)).astype(np.float32)
        self.labels = draw.integers(0, width, rows)
        self.moved = 2.0 * self.x.nbytes

    def proa(self, jit: Jit) -> Made:
        import proa as pa
        from proa.nn import functional

        x, labels = pa.asarray(self.x).requires_grad_(), pa.asarray(self.labels)

        def step() -> Any:
            x.grad = None
            loss = functional.cross_entropy(x, labels)
            loss.backward()
            return loss

        return Made(jit(step))

    def torch(self, compiled: bool) -> Made:
        import torch

        x, labels = torch.tensor(self.x, requires_grad=True), torch.tensor(self.labels)
        f: Any = torch.nn.functional.cross_entropy
        f = torch.compile(lambda x, t: torch.nn.functional.cross_entropy(x, t)) if compiled else f

        def step() -> Any:
            x.grad = None
            loss = f(x, labels)
            loss.backward()
            return loss.detach()

        return Made(step)

    def jax(self) -> Made:
        import jax

        x, labels = jax.numpy.asarray(self.x), jax.numpy.asarray(self.labels)
        both = jax.jit(jax.value_and_grad(gpt.jax_cross_entropy))
        held: list[Any] = [None]

        def step() -> Any:
            held[0] = None
            loss, held[0] = both(x, labels)
            held[0].block_until_ready()
            return loss

        return Made(step)


@final
class Elementwise(Case):
    """Twelve cheap operations on 2048 x 2048 numbers, with a row, a column and numbers."""

    name = "12 operations on 4 M"
    inference = True

    def __init__(self) -> None:
        draw = np.random.default_rng(SEED)
        shapes = [(2048, 2048), (2048,), (2048,), (2048, 1), (2048, 1)]
        self.given = [draw.standard_normal(s).astype(np.float32) for s in shapes]
        self.moved = 2.0 * self.given[0].nbytes

    @staticmethod
    def chain(kit: Any) -> Callable[..., Any]:
        def f(x: Any, w: Any, b: Any, c: Any, d: Any) -> Any:
            t = x * w + b
            t = kit.maximum(t, c) - d
            t = kit.abs(t * 0.5) + x
            t = kit.minimum(t, w) * c
            t = 1.0 - t
            return (t + d) * t

        return f

    def proa(self, jit: Jit) -> Made:
        import proa as pa

        given, f = [pa.asarray(g) for g in self.given], self.chain(pa)
        f = jit(f)
        return Made(lambda: f(*given))

    def torch(self, compiled: bool) -> Made:
        import torch

        given, f = [torch.tensor(g) for g in self.given], self.chain(torch)
        f = torch.compile(f) if compiled else f
        return Made(lambda: f(*given))

    def jax(self) -> Made:
        import jax

        given = [jax.numpy.asarray(g) for g in self.given]
        f = jax.jit(self.chain(jax.numpy))
        return Made(lambda: f(*given))


@final
class Update(Case):
    """AdamW's update of the parameters of the GPT, with gradients that stay."""

    name = "AdamW of 14 M parameters"
    compared = 3
    tolerance = 1e-5

    def __init__(self) -> None:
        self.given = list(gpt.weights(gpt.SIZES).values())
        draw = np.random.default_rng(SEED)
        self.gradients = [draw.standard_normal(g.shape).astype(np.float32) for g in self.given]
        self.moved = 7.0 * sum(g.nbytes for g in self.given)

    def proa(self, jit: Jit) -> Made:
        import proa as pa
        from proa import optim

        params = [pa.asarray(g).requires_grad_() for g in self.given]
        for p, g in zip(params, self.gradients, strict=True):
            p.grad = pa.asarray(g)
        opt = optim.AdamW(params, **gpt.ADAMW)

        def step() -> None:
            opt.step()

        return Made(jit(step), lambda: params[:4])

    def torch(self, compiled: bool) -> Made:
        import torch

        params = [torch.tensor(g, requires_grad=True) for g in self.given]
        for p, g in zip(params, self.gradients, strict=True):
            p.grad = torch.tensor(g)
        opt = torch.optim.AdamW(params, **gpt.ADAMW, fused=not compiled)
        step = torch.compile(opt.step) if compiled else opt.step
        return Made(step, lambda: params[:4])

    def jax(self) -> Made:
        import jax

        params = [jax.numpy.asarray(g) for g in self.given]
        gradients = [jax.numpy.asarray(g) for g in self.gradients]
        held = [gpt.jax_state(params)]
        update = jax.jit(gpt.jax_adamw, donate_argnums=0)

        def step() -> Any:
            held[0] = update(held[0], gradients)
            return held[0]

        return Made(step, lambda: held[0][0][:4])


def rows() -> list[Callable[[], Case]]:
    return [
        lambda: softmax(2048, 2048),
        lambda: layer_norm(2048, 384),
        lambda: layer_norm(8192, 768),
        lambda: gelu(2048, 1536),
    ]
