"""What a run of the language demo is asked for: sizes, lengths, places, each in its range."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, final

from proa.errors import ArgumentError, message
from proa.examples.gpt import Config
from proa.examples.text import bpe


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train and for how long.

    Arguments:
        steps: the steps of the whole run; the learning rate falls to almost nothing at the end.
        stop_after: end after this many steps, to go on later; None for all.
        seed: where all random numbers begin.
        text: a file or folder to learn from; None for Python's standard library.
        vocabulary: the number of different tokens.
        context, width, layers, heads: the sizes of the model (`gpt.Config`).
        batch: the windows of one step.
        rate: the highest learning rate.
        dtype: of the parameters.
        windows: how many windows of the held-out text are judged; fewer where it is short.
        device: where to compute.
        jit: whether the step is recorded once and replayed; the numbers are the same.
    """

    steps: int = 3600
    stop_after: int | None = None
    seed: int = 0
    text: str | None = None
    vocabulary: int = 1024
    context: int = 64
    width: int = 128
    layers: int = 3
    heads: int = 4
    batch: int = 8
    rate: float = 3e-3
    dtype: str = "float32"
    windows: int = 512
    device: str = "cpu"
    jit: bool = True

    @property
    def config(self) -> Config:
        """The sizes of the model."""
        sizes = {f.name: getattr(self, f.name) for f in fields(Config) if hasattr(self, f.name)}
        return Config(**sizes)

    @property
    def last(self) -> int:
        """The step after which to end."""
        return self.steps if self.stop_after is None else min(self.stop_after, self.steps)

    def check(self) -> Settings:
        """The settings themselves.

        Errors:
            ArgumentError: one is out of range.
        """
        _ = self.config
        for name in ("steps", "batch", "windows"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise refusal(f"{name} {getattr(self, name)!r:.40}", "a whole number from 1 on")
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 63:
            raise refusal(f"seed {self.seed!r:.40}", "a whole number from 0 on")
        if not bpe.BYTES <= self.vocabulary <= bpe.LARGEST:
            raise refusal(f"vocabulary {self.vocabulary}", f"{bpe.BYTES} to {bpe.LARGEST}")
        if not isinstance(self.rate, (int, float)) or not 0 < self.rate < 1:
            raise refusal(f"rate {self.rate!r:.40}", "a number between 0 and 1")
        if self.text is not None and not isinstance(self.text, str):
            raise refusal(f"text of type {type(self.text).__name__}", "a path")
        if self.dtype not in ("float32", "float64"):
            raise refusal(f"dtype {self.dtype!r:.40}", "float32 or float64")
        return self


# What of these may differ when a run goes on.
FREE: Final = frozenset({"stop_after", "device", "jit"})


def refusal(given: str, expected: str, hint: str = "") -> ArgumentError:
    """The error of what is asked for out of range."""
    return ArgumentError(message("demo", given, expected, hint))
