"""A small causal transformer, written with the public API only. `proa demo` trains it.

Read from top to bottom: its sizes, one block, the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, final

import proa as pa
from proa import nn
from proa.errors import ArgumentError, message
from proa.nn import functional as F  # noqa: N812

LARGEST = 1 << 16
STD = 0.05


@final
@dataclass(frozen=True)
class Config:
    """The sizes of a model.

    Arguments:
        vocabulary: the number of different tokens.
        context: the most tokens that it sees at once.
        width: the size of the vector that stands for a token.
        layers: the number of blocks.
        heads: the number of attention heads; they share the width.
        tied: whether the table that reads tokens also writes them.

    Errors:
        ArgumentError: a size out of range, or heads that do not divide the width.

    Example:
        >>> Config(vocabulary=512, width=64).heads
        4
    """

    vocabulary: int = 1024
    context: int = 64
    width: int = 128
    layers: int = 3
    heads: int = 4
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "width", "layers", "heads"):
            size = getattr(self, name)
            if type(size) is not int or not 1 <= size <= LARGEST:
                raise ArgumentError(message("gpt", f"{name} {size!r:.40}", f"1 to {LARGEST}"))
        if self.width % self.heads:
            given = f"{self.heads} heads for a width of {self.width}"
            raise ArgumentError(message("gpt", given, "heads that divide the width"))

    @property
    def least_parameters(self) -> int:
        """A bound from below on the number of parameters.

        Example:
            >>> Config(vocabulary=2, context=3, width=4, layers=1).least_parameters
            212
        """
        return self.width * (self.vocabulary + self.context + 12 * self.layers * self.width)


class Block(nn.Module):
    """Attention, then a small network for each token; each adds to what runs through.

    x = x + attend(norm(x))
    x = x + narrow(gelu(widen(norm(x))))
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = x + self.attend(self.norm1(x))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x)), approximate="tanh"))

    def attend(self, x: Any) -> Any:
        """Each token gathers from itself and those before it."""
        batch, length, width = x.shape
        parts = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = pa.permute_dims(parts, (2, 0, 3, 1, 4))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(pa.permute_dims(mixed, (0, 2, 1, 3)).reshape(batch, length, width))


class GPT(nn.Module):
    """Tokens in, for each the scores of the token that comes next.

    Arguments:
        config: its sizes.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

    Example:
        >>> model = GPT(Config(vocabulary=256, context=8, width=16, layers=1, heads=2))
        >>> model(pa.zeros((1, 8), dtype=pa.int64)).shape
        (1, 8, 256)
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.token.weight
        self.initialise()

    def initialise(self) -> None:
        """Small normal weights; smaller still where a block adds to what runs through."""
        depth = sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            adds = name.endswith(("project.weight", "narrow.weight"))
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=STD / depth if adds else STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Any) -> Any:
        """Scores (batch, length, vocabulary) of the next token, from ids (batch, length)."""
        x = self.token(ids) + self.position(pa.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, ids: Any) -> Any:
        """The mean of -log P(token | those before it), over all tokens but each row's first."""
        scores = self(ids[:, :-1])
        return F.cross_entropy(scores.reshape(-1, self.config.vocabulary), ids[:, 1:].reshape(-1))
