"""The GPT of the table in each framework: 6 layers, width 384, 6 heads, 4 x 512 tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from harness import Case, Jit, Made

ADAMW: Final[dict[str, Any]] = {
    "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2,
}  # fmt: skip
SEED: Final = 3
EPS: Final = 1e-5


@final
@dataclass(frozen=True)
class Sizes:
    layers: int = 6
    width: int = 384
    heads: int = 6
    batch: int = 4
    length: int = 512
    vocabulary: int = 8192

    @property
    def flops(self) -> float:
        """Of the products of a step, forward and twice as many backward; half of the scores."""
        tokens, w = self.batch * self.length, self.width
        dense = 2.0 * tokens * (12 * self.layers * w * w + w * self.vocabulary)
        attention = 4.0 * self.layers * tokens * self.length * w / 2
        return 3 * (dense + attention)


SIZES: Final = Sizes()


def weights(sizes: Sizes) -> dict[str, Any]:
    """The parameters by PyTorch's names; the head's weight is the table of tokens."""
    draw = np.random.default_rng(SEED)
    w = sizes.width

    def normal(*shape: int) -> Any:
        return (0.05 * draw.standard_normal(shape, np.float32)).astype(np.float32)

    def ones(name: str) -> dict[str, Any]:
        return {f"{name}.weight": np.ones(w, np.float32), f"{name}.bias": np.zeros(w, np.float32)}

    found = {
        "token.weight": normal(sizes.vocabulary, w),
        "position.weight": normal(sizes.length, w),
    }
    for i in range(sizes.layers):
        at = f"blocks.{i}"
        found |= ones(f"{at}.norm1")
        for name, outs, ins in (("qkv", 3 * w, w), ("project", w, w)):
            found[f"{at}.{name}.weight"] = normal(outs, ins)
            found[f"{at}.{name}.bias"] = normal(outs)
        found |= ones(f"{at}.norm2")
        for name, outs, ins in (("widen", 4 * w, w), ("narrow", w, 4 * w)):
            found[f"{at}.{name}.weight"] = normal(outs, ins)
            found[f"{at}.{name}.bias"] = normal(outs)
    return found | ones("norm")


def tokens(sizes: Sizes) -> tuple[Any, Any]:
    ids = np.random.default_rng(1).integers(0, sizes.vocabulary, (sizes.batch, sizes.length + 1))
    return ids[:, :-1].copy(), ids[:, 1:].copy()


# PyTorch.


def torch_model(sizes: Sizes) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    w = sizes.width

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(w)
            self.qkv = nn.Linear(w, 3 * w)
            self.project = nn.Linear(w, w)
            self.norm2 = nn.LayerNorm(w)
            self.widen = nn.Linear(w, 4 * w)
            self.narrow = nn.Linear(4 * w, w)

        def attend(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = self.qkv(x).reshape(b, t, 3, sizes.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.project(mixed.permute(0, 2, 1, 3).reshape(b, t, w))

        def forward(self, x: Any) -> Any:
            x = x + self.attend(self.norm1(x))
            return x + self.narrow(functional.gelu(self.widen(self.norm2(x)), approximate="tanh"))

    class Model(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(sizes.vocabulary, w)
            self.position = nn.Embedding(sizes.length, w)
            self.blocks = nn.ModuleList([Block() for _ in range(sizes.layers)])
            self.norm = nn.LayerNorm(w)
            self.head = nn.Linear(w, sizes.vocabulary, bias=False)
            self.head.weight = self.token.weight

        def forward(self, x: Any, y: Any) -> Any:
            h = self.token(x) + self.position(torch.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h)
            return functional.cross_entropy(self.head(self.norm(h)).flatten(0, 1), y.flatten())

    return Model()


# JAX: functions on a dictionary of the same names.


def jax_layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    import jax

    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + EPS) * weight + bias


def jax_cross_entropy(scores: Any, labels: Any) -> Any:
    import jax
    import jax.numpy as jnp

    picked = jnp.take_along_axis(scores, labels[:, None], 1)[:, 0]
    return (jax.nn.logsumexp(scores, -1) - picked).mean()


def jax_loss(sizes: Sizes) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    w = sizes.width

    def linear(p: Any, name: str, x: Any) -> Any:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(p: Any, name: str, x: Any) -> Any:
        return jax_layer_norm(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def attend(p: Any, at: str, x: Any) -> Any:
        b, t, _ = x.shape
        qkv = linear(p, f"{at}.qkv", x).reshape(b, t, 3, sizes.heads, w // sizes.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return linear(p, f"{at}.project", mixed.reshape(b, t, w))

    def loss(p: Any, x: Any, y: Any) -> Any:
        h = jnp.take(p["token.weight"], x, axis=0) + p["position.weight"][: x.shape[1]]
        for i in range(sizes.layers):
            at = f"blocks.{i}"
            h = h + attend(p, at, norm(p, f"{at}.norm1", h))
            inner = jax.nn.gelu(linear(p, f"{at}.widen", norm(p, f"{at}.norm2", h)))
            h = h + linear(p, f"{at}.narrow", inner)
        scores = norm(p, "norm", h) @ p["token.weight"].T
        return jax_cross_entropy(scores.reshape(-1, sizes.vocabulary), y.reshape(-1))

    return loss


def jax_state(params: Any) -> tuple[Any, Any, Any, Any]:
    """(parameters, averages, averages of squares, count of steps)."""
    import jax

    zeros = jax.tree.map(jax.numpy.zeros_like, params)
    more = jax.tree.map(jax.numpy.zeros_like, params)
    return params, zeros, more, jax.numpy.zeros((), "float32")


def jax_adamw(state: Any, gradients: Any) -> Any:
    import jax
    import jax.numpy as jnp

    lr, (b1, b2), eps, decay = (ADAMW[k] for k in ("lr", "betas", "eps", "weight_decay"))
    params, m, v, count = state
    count = count + 1
    m = jax.tree.map(lambda m, g: m + (1 - b1) * (g - m), m, gradients)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, gradients)
    size, root = lr / (1 - b1**count), jnp.sqrt(1 - b2**count)
    params = jax.tree.map(
        lambda p, m, v: p * (1 - lr * decay) - size * m / (jnp.sqrt(v) / root + eps), params, m, v
    )
    return params, m, v, count


def jax_training(loss: Callable[..., Any], params: Any, *data: Any) -> Callable[[], Any]:
    """A step of AdamW whose state is donated."""
    import jax

    held = [jax_state(params)]

    def whole(state: Any, *data: Any) -> Any:
        found, gradients = jax.value_and_grad(loss)(state[0], *data)
        return jax_adamw(state, gradients), found

    jitted = jax.jit(whole, donate_argnums=0)

    def step() -> Any:
        held[0], found = jitted(held[0], *data)
        return found

    return step


def training(forward: Callable[[], Any], opt: Any) -> Callable[[], Any]:
    """A step of Proa or PyTorch: the same lines."""

    def step() -> Any:
        loss = forward()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.detach()

    return step


@final
class Gpt(Case):
    """A training step of the GPT with AdamW; its loss is read."""

    name = "6 layers, width 384, 4 x 512 tokens, AdamW"
    scalar = True
    compared = 3

    def __init__(self, sizes: Sizes = SIZES) -> None:
        self.sizes = sizes
        self.weights = weights(sizes)
        self.x, self.y = tokens(sizes)
        self.flops = sizes.flops

    def proa(self, jit: Jit) -> Made:
        import proa as pa
        from proa import optim
        from proa.examples.gpt import GPT, Config
        from proa.nn import functional

        s = self.sizes
        model = GPT(
            Config(vocabulary=s.vocabulary, context=s.length, width=s.width, layers=s.layers,
                   heads=s.heads)
        )  # fmt: skip
        model.load_state_dict(self.weights | {"head.weight": self.weights["token.weight"]})
        x, y = pa.asarray(self.x), pa.asarray(self.y)

        def forward() -> Any:
            return functional.cross_entropy(model(x).reshape(-1, s.vocabulary), y.reshape(-1))

        step = training(forward, optim.AdamW(model.parameters(), **ADAMW))
        return Made(jit(step))

    def torch(self, compiled: bool) -> Made:
        import torch

        model = torch_model(self.sizes)
        given = self.weights | {"head.weight": self.weights["token.weight"]}
        model.load_state_dict({k: torch.tensor(v) for k, v in given.items()})
        x, y = torch.tensor(self.x), torch.tensor(self.y)
        opt = torch.optim.AdamW(model.parameters(), **ADAMW, fused=True)
        run = torch.compile(model) if compiled else model
        return Made(training(lambda: run(x, y), opt))

    def jax(self) -> Made:
        import jax.numpy as jnp

        params = {k: jnp.asarray(v) for k, v in self.weights.items()}
        x, y = jnp.asarray(self.x), jnp.asarray(self.y)
        return Made(jax_training(jax_loss(self.sizes), params, x, y))
