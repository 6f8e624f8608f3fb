"""Small networks and ResNet-18: one definition for Proa and PyTorch, one for JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import gpt
import numpy as np
from harness import Case, Jit, Made

SEED: Final = 5


def linears(sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """(weight [out, in], bias) of each layer."""
    draw = np.random.default_rng(SEED)
    return [
        (
            (draw.standard_normal((n, m)) / np.sqrt(m)).astype(np.float32),
            (0.1 * draw.standard_normal(n)).astype(np.float32),
        )
        for m, n in zip(sizes, sizes[1:], strict=False)
    ]


@final
class Mlp(Case):
    """A step of AdamW. The same inputs stand twice with other labels, so that the loss keeps away
    from 0 in however many steps."""

    scalar = True
    compared = 3

    def __init__(self, sizes: tuple[int, ...], batch: int, overhead: bool) -> None:
        self.sizes = sizes
        self.name = f"{'-'.join(map(str, sizes))}, batch {batch}, AdamW"
        self.given = linears(sizes)
        draw = np.random.default_rng(SEED)
        half = draw.standard_normal((batch // 2, sizes[0])).astype(np.float32)
        self.x = np.concatenate([half, half])
        self.y = draw.integers(0, sizes[-1], batch)
        if not overhead:  # there the machine is not what bounds
            self.flops = 6.0 * batch * sum(w.size for w, _ in self.given)

    def network(self, nn: Any) -> Any:
        layers: list[Any] = []
        for m, n in zip(self.sizes, self.sizes[1:], strict=False):
            layers += [nn.Linear(m, n), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def state(self, make: Callable[[Any], Any]) -> dict[str, Any]:
        return {
            f"{2 * i}.{name}": make(array)
            for i, layer in enumerate(self.given)
            for name, array in zip(("weight", "bias"), layer, strict=True)
        }

    def proa(self, jit: Jit) -> Made:
        import proa as pa
        from proa import nn, optim
        from proa.nn import functional

        model = self.network(nn)
        model.load_state_dict(self.state(lambda a: a))
        x, y = pa.asarray(self.x), pa.asarray(self.y)
        opt = optim.AdamW(model.parameters(), **gpt.ADAMW)
        step = gpt.training(lambda: functional.cross_entropy(model(x), y), opt)
        return Made(jit(step))

    def torch(self, compiled: bool) -> Made:
        import torch
        from torch.nn import functional

        model = self.network(torch.nn)
        model.load_state_dict(self.state(torch.tensor))
        x, y = torch.tensor(self.x), torch.tensor(self.y)
        opt = torch.optim.AdamW(model.parameters(), **gpt.ADAMW, fused=True)

        def forward() -> Any:
            return functional.cross_entropy(model(x), y)

        return Made(gpt.training(torch.compile(forward) if compiled else forward, opt))

    def jax(self) -> Made:
        import jax
        import jax.numpy as jnp

        params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in self.given]

        def loss(params: Any, x: Any, y: Any) -> Any:
            for i, (w, b) in enumerate(params):
                x = (jax.nn.relu(x) if i else x) @ w.T + b
            return gpt.jax_cross_entropy(x, y)

        return Made(gpt.jax_training(loss, params, jnp.asarray(self.x), jnp.asarray(self.y)))


# ResNet-18 for small images (He et al. 2015), as the names of both libraries write it.

STAGES: Final = ((64, 1), (128, 2), (256, 2), (512, 2))
SGD: Final[dict[str, Any]] = {"lr": 0.01, "momentum": 0.9}


def resnet(nn: Any, relu: Callable[[Any], Any]) -> Any:
    """The network, of Proa's layers or of PyTorch's."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, ins: int, outs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outs)
            self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outs)
            self.short = nn.Sequential()
            if ins != outs:
                self.short = nn.Sequential(
                    nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs)
                )

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            return relu(y + self.short(x))

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.bn = nn.BatchNorm2d(64)
            blocks, ins = [], 64
            for outs, stride in STAGES:
                blocks += [Block(ins, outs, stride), Block(outs, outs, 1)]
                ins = outs
            self.blocks = nn.Sequential(*blocks)
            self.head = nn.Linear(512, 10)

        def forward(self, x: Any) -> Any:
            x = self.blocks(relu(self.bn(self.conv(x))))
            return self.head(x.mean((2, 3)))

    return Network()


def jax_resnet(p: Any, x: Any) -> Any:
    """The same on a dictionary of PyTorch's names; running averages, which a training step does
    not read, are left out. Images are channels last, which XLA prefers."""
    import jax
    import jax.numpy as jnp

    def conv(name: str, x: Any, stride: int = 1) -> Any:
        w = jnp.transpose(p[f"{name}.weight"], (2, 3, 1, 0))
        pad = w.shape[0] // 2
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), ((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def norm(name: str, x: Any) -> Any:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        scale = p[f"{name}.weight"] * jax.lax.rsqrt(variance + gpt.EPS)
        return (x - mean) * scale + p[f"{name}.bias"]

    x = jax.nn.relu(norm("bn", conv("conv", x)))
    number, ins = 0, 64
    for outs, first in STAGES:
        for stride in (first, 1):
            at = f"blocks.{number}"
            y = jax.nn.relu(norm(f"{at}.bn1", conv(f"{at}.conv1", x, stride)))
            y = norm(f"{at}.bn2", conv(f"{at}.conv2", y))
            if ins != outs:
                x = norm(f"{at}.short.1", conv(f"{at}.short.0", x, stride))
            x, ins, number = jax.nn.relu(y + x), outs, number + 1
    return x.mean((1, 2)) @ p["head.weight"].T + p["head.bias"]


@final
class Resnet(Case):
    """A step of SGD with momentum on 32 images of 32 x 32."""

    name = "ResNet-18, 32 images of 32x32, SGD"
    scalar = True
    compared = 2
    tolerance = 1e-3

    def __init__(self) -> None:
        import torch

        torch.manual_seed(SEED)
        model = resnet(torch.nn, torch.relu)
        self.weights = {k: v.detach().numpy().copy() for k, v in model.state_dict().items()}
        draw = np.random.default_rng(SEED)
        self.x = draw.standard_normal((32, 3, 32, 32)).astype(np.float32)
        self.y = draw.integers(0, 10, 32)
        self.flops = 3 * 32 * 2 * 0.5554e9  # multiply-adds of an image, forward

    def proa(self, jit: Jit) -> Made:
        import proa as pa
        from proa import nn, optim
        from proa.nn import functional

        model = resnet(nn, functional.relu)
        model.load_state_dict(self.weights)
        x, y = pa.asarray(self.x), pa.asarray(self.y)
        opt = optim.SGD(model.parameters(), **SGD)
        step = gpt.training(lambda: functional.cross_entropy(model(x), y), opt)
        return Made(jit(step))

    def torch(self, compiled: bool) -> Made:
        import torch
        from torch.nn import functional

        model = resnet(torch.nn, torch.relu)
        model.load_state_dict({k: torch.tensor(v) for k, v in self.weights.items()})
        model = model.to(memory_format=torch.channels_last)
        x = torch.tensor(self.x).to(memory_format=torch.channels_last)
        y = torch.tensor(self.y)
        opt = torch.optim.SGD(model.parameters(), **SGD, fused=True)

        def forward() -> Any:
            return functional.cross_entropy(model(x), y)

        return Made(gpt.training(torch.compile(forward) if compiled else forward, opt))

    def jax(self) -> Made:
        import jax
        import jax.numpy as jnp

        def whole(state: Any, x: Any, y: Any) -> Any:
            params, momenta = state
            loss, gradients = jax.value_and_grad(
                lambda p: gpt.jax_cross_entropy(jax_resnet(p, x), y)
            )(params)
            momenta = jax.tree.map(lambda m, g: SGD["momentum"] * m + g, momenta, gradients)
            params = jax.tree.map(lambda p, m: p - SGD["lr"] * m, params, momenta)
            return (params, momenta), loss

        names = [k for k in self.weights if "running" not in k and "num_batches" not in k]
        params = {k: jnp.asarray(self.weights[k]) for k in names}
        held = [(params, jax.tree.map(jnp.zeros_like, params))]
        jitted = jax.jit(whole, donate_argnums=0)
        x, y = jnp.asarray(self.x.transpose(0, 2, 3, 1)), jnp.asarray(self.y)

        def step() -> Any:
            held[0], loss = jitted(held[0], x, y)
            return loss

        return Made(step)
