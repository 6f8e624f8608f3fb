"""A language model from text to saved file, on this machine: what `proa demo` does.

`run` is the whole story, and reads in one screen; each of its nouns stands below, in order.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from codecs import getincrementaldecoder
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

import proa as pa
from proa import nn, optim
from proa.cli import curves
from proa.cli.show import Show, interruptible
from proa.errors import ArgumentError, FileError, message
from proa.examples.gpt import GPT, Config, generate
from proa.examples.text import bpe, corpus, ngram

MODEL: Final = "model.json"
STATE: Final = "checkpoint"
PICTURE: Final = "curves.png"
JSON_LIMIT: Final = 16 << 20
PROMPTS: Final = ("def ", "import ", "class ")
PROBE: Final = 8


# The story.


def run(settings: Settings, out: Path, show: Show, *, resume: bool = False) -> dict[str, Any]:
    """Train a model on text, judge it, let it write, save it and load it again.

    Arguments:
        settings: what to train, and for how long; with `resume`, those of the run to go on with.
        out: the folder that the model is written to.
        show: where to write what is being done.
        resume: go on with the run saved in `out`.

    Returns:
        Every figure of the run, of plain numbers, strings, lists and dicts.
    """
    clock = Clock()
    text = Text.of(settings)
    show.say(f"text      {text.corpus.source}: {len(text.corpus.train):,} bytes in {text.corpus.files} files,")
    show.say(f"          {len(text.corpus.held_out):,} more held out; {text.tokenizer.size} tokens")
    clock.lap("prepare")

    learner = Learner(settings, text)
    if resume:
        learner.restore(out)
    show.say(f"model     {learner.size:,} parameters on {settings.device}, {settings.dtype}")
    if not learner.losses:
        learner.judge(text.exam)
    clock.lap("judge")

    interrupted = learner.train(text, show)
    clock.lap("train")
    learner.judge(text.exam)
    clock.lap("judge")

    prompts = PROMPTS if settings.text is None else ("",)
    samples = {prompt: write(learner.model, text.tokenizer, prompt) for prompt in prompts}
    clock.lap("sample")
    probe = learner.save(out, text)
    clock.lap("save")
    reloaded = probe_elsewhere(out, settings.device)
    clock.lap("reload")
    drawn = curves.picture(out / PICTURE, *learner.curves(text))
    report = {
        **text.figures(),
        **learner.figures(text),
        "interrupted": interrupted,
        "seconds": clock.laps,
        "samples": samples,
        "path": str(out),
        "loss": {"here": probe, "in a new process": reloaded, "equal": probe == reloaded},
        "picture": str(out / PICTURE) if drawn else None,
    }
    tell(report, learner, show)
    return report


# What is asked for.


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

    steps: int = 1000
    stop_after: int | None = None
    seed: int = 0
    text: str | None = None
    vocabulary: int = 1024
    context: int = 64
    width: int = 128
    layers: int = 3
    heads: int = 4
    batch: int = 16
    rate: float = 3e-3
    dtype: str = "float32"
    windows: int = 512
    device: str = "numpy"
    jit: bool = True

    @property
    def model(self) -> Config:
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
            DeviceError: there is no such device.
        """
        _ = self.model
        for name in ("steps", "batch", "windows"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise _refusal(f"{name} {getattr(self, name)!r:.40}", "a whole number from 1 on")
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 63:
            raise _refusal(f"seed {self.seed!r:.40}", "a whole number from 0 on")
        if not bpe.BYTES <= self.vocabulary <= bpe.LARGEST:
            raise _refusal(f"vocabulary {self.vocabulary}", f"{bpe.BYTES} to {bpe.LARGEST}")
        if not isinstance(self.rate, (int, float)) or not 0 < self.rate < 1:
            raise _refusal(f"rate {self.rate!r:.40}", "a number between 0 and 1")
        if self.dtype not in ("float32", "float64"):
            raise _refusal(f"dtype {self.dtype!r:.40}", "float32 or float64")
        if self.text is not None and not os.path.exists(self.text):
            raise _refusal(f"text {self.text!r:.200}, where there is nothing", "a file or a folder")
        return self


# What of these may differ when a run goes on.
FREE: Final = frozenset({"stop_after", "device", "jit"})


def _refusal(given: str, expected: str, hint: str = "") -> ArgumentError:
    return ArgumentError(message("demo", given, expected, hint))


# The text.


@final
@dataclass(frozen=True)
class Exam:
    """Windows spread evenly over the held-out text: every model is judged on the same bytes.

    The first token of a window is only seen, and the other `context` are to be told.
    """

    ids: Any
    bytes: int
    trigram: float

    @classmethod
    def of(cls, data: bytes, tokenizer: bpe.Tokenizer, trigram: ngram.Ngram, settings: Settings) -> Exam:
        """Cut the windows, which do not overlap, and judge a 3-gram model on the same bytes."""
        ids, context = tokenizer.encode(data), settings.context
        room = len(ids) - context - 1
        if room < 0:
            hint = f"a longer text, or a context below {len(ids)}"
            raise _refusal(f"{len(ids)} tokens of held-out text", f"more than {context}", hint)
        count = min(settings.windows, room // context + 1)
        starts = np.arange(count) * room // max(1, count - 1)
        ends = np.cumsum(tokenizer.lengths[ids])
        first, last = ends[starts], ends[starts + context]
        # log P(b | a) = log P(a b) - log P(a), and a 3-gram model sees two bytes back.
        bits = sum(
            _bits(trigram, data[max(0, a - 2) : b]) - _bits(trigram, data[max(0, a - 2) : a])
            for a, b in zip(first, last, strict=True)
        )
        windows = ids[starts[:, None] + np.arange(context + 1)].astype(np.int64)
        return cls(windows, int((last - first).sum()), bits / int((last - first).sum()))

    def bits_per_byte(self, model: GPT, batch: int = 32) -> float:
        """The mean of -log2 P, by byte: the size of the text when the model compresses it."""
        nats = 0.0
        with pa.no_grad():
            for start in range(0, len(self.ids), batch):
                rows = self.ids[start : start + batch]
                nats += model.loss(pa.asarray(rows)).item() * rows[:, 1:].size
        return nats / math.log(2) / self.bytes


def _bits(trigram: ngram.Ngram, data: bytes) -> float:
    return trigram.bits_per_byte(data) * len(data)


@final
@dataclass(frozen=True)
class Text:
    """The text as numbers: a tokenizer, the tokens to learn from, the windows to be judged on."""

    corpus: corpus.Corpus
    tokenizer: bpe.Tokenizer
    ids: Any
    exam: Exam
    trigram: float

    @classmethod
    def of(cls, settings: Settings) -> Text:
        """Read the text, learn byte pairs on the part to learn from, and fit the 3-gram model."""
        try:
            found = corpus.collect(settings.text)
        except ValueError as error:
            raise ArgumentError(str(error)) from error
        tokenizer = bpe.train(found.train, settings.vocabulary)
        ids = tokenizer.encode(found.train).astype(np.int64)
        if len(ids) <= settings.context:
            raise _refusal(f"{len(ids)} tokens", f"more than {settings.context}", "a longer text")
        trigram = ngram.fit(found.train)
        exam = Exam.of(found.held_out, tokenizer, trigram, settings)
        return cls(found, tokenizer, ids, exam, trigram.bits_per_byte(found.held_out))

    @property
    def bytes_per_token(self) -> float:
        """How long a token is, on the average."""
        return len(self.corpus.train) / len(self.ids)

    @property
    def digest(self) -> str:
        """A number that tells whether this is the same text, cut into the same tokens."""
        return hashlib.sha256(self.ids.tobytes() + self.exam.ids.tobytes()).hexdigest()

    def figures(self) -> dict[str, Any]:
        """What a report says of the text."""
        return {
            "source": self.corpus.source,
            "files": self.corpus.files,
            "bytes_to_learn": len(self.corpus.train),
            "bytes_held_out": len(self.corpus.held_out),
            "bytes_judged": self.exam.bytes,
            "vocabulary": self.tokenizer.size,
            "bytes_per_token": self.bytes_per_token,
        }


# The learner.


@final
class Learner:
    """A model and all that changes while it learns; what `save` writes, `restore` reads.

    Attributes:
        losses: the loss of every step so far, a token's mean in nats.
        held_out: bits per byte of held-out text, by the number of steps done.
    """

    def __init__(self, settings: Settings, text: Text) -> None:
        self.settings = settings
        pa.manual_seed(settings.seed)
        config = replace(settings.model, vocabulary=text.tokenizer.size)
        self.model = GPT(config).to(settings.dtype)
        tables = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": tables, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
        self.schedule = _schedule(self.optimizer, settings.steps)
        self.generator = pa.Generator(settings.seed)
        self.losses: list[float] = []
        self.held_out: dict[int, float] = {}

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(p.size for p in self.model.parameters())

    def train(self, text: Text, show: Show) -> bool:
        """Do the steps that are left; True where the user ended it by Ctrl-C."""
        tokens, offsets = pa.asarray(text.ids), pa.arange(self.settings.context + 1)
        starts = len(text.ids) - self.settings.context
        each = self.settings.batch * self.settings.context

        def step() -> Any:
            begin = pa.randint(0, starts, (self.settings.batch, 1), generator=self.generator)
            loss = self.model.loss(pa.take(tokens, begin + offsets, axis=0))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            return loss

        advance = pa.jit(step) if self.settings.jit else step
        self.model.train()
        done, last = len(self.losses), self.settings.last
        with interruptible(show) as stop, show.steps("training ", last, done) as progress:
            while len(self.losses) < last and not stop:
                loss = advance()
                self.schedule.step()
                self.losses.append(loss.item())
                progress.update(len(self.losses), self.losses[-1], each)
        return bool(stop)

    def judge(self, exam: Exam) -> None:
        """Note the bits per byte of held-out text at this step."""
        self.model.eval()
        self.held_out[len(self.losses)] = exam.bits_per_byte(self.model)

    def state(self) -> dict[str, Any]:
        """What changes from step to step."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "generator": self.generator,
        }

    def save(self, out: Path, text: Text) -> str:
        """Write all to a folder; returns the loss on a few windows, as exact text."""
        self.model.eval()
        ids = text.exam.ids[:PROBE]
        probe = _probe(self.model, ids)
        out.mkdir(parents=True, exist_ok=True)
        pa.save(out / STATE, **self.state())
        document = {
            "settings": asdict(self.settings),
            "config": asdict(self.model.config),
            "tokenizer": text.tokenizer.to_json(),
            "text": text.digest,
            "probe": {"ids": ids.tolist(), "loss": probe},
            "losses": [x.hex() for x in self.losses],
            "held_out": {str(k): v for k, v in self.held_out.items()},
        }
        _write(out / MODEL, json.dumps(document))
        return probe

    def restore(self, out: Path, text: Text) -> None:
        """Take over the state of the run saved in a folder, to the last bit."""
        document = _read(out)
        if document.get("text") != text.digest:
            raise FileError(message("demo", f"a text that has changed since {out}", "the same text"))
        pa.load(out / STATE, **self.state())
        self.losses = [float.fromhex(x) for x in document["losses"]]
        self.held_out = {int(k): float(v) for k, v in document["held_out"].items()}

    def curves(self, text: Text) -> tuple[Any, ...]:
        """What `curves.picture` draws: bits per byte in training and of held-out text."""
        scale = 1 / math.log(2) / text.bytes_per_token
        title = f"{self.size:,} parameters on {text.corpus.source}"
        return title, [x * scale for x in self.losses], self.held_out, {"3-gram": text.exam.trigram}

    def figures(self, text: Text) -> dict[str, Any]:
        """What a report says of the training."""
        return {}
