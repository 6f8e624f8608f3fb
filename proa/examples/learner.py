"""The learner: a model and all that changes while it learns, its steps and its figures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, final

import proa as pa
from proa import optim
from proa.cli.show import Show, interruptible
from proa.errors import FileError, message
from proa.examples.data import Exam, Text
from proa.examples.gpt import GPT
from proa.examples.saved import facts_of, loss_of
from proa.examples.settings import Settings
from proa.examples.text import bpe

# Windows whose loss is saved beside the model.
PROBE: Final = 8
# How often in a whole run held-out text is judged.
JUDGED: Final = 8


@final
class Learner:
    """A model and all that changes while it learns: what `save` writes, `restore` reads.

    Attributes:
        losses: the loss of every step so far: the mean of a token, in nats.
        held_out: bits per byte of held-out text, by the number of steps done.
        busy: seconds spent in steps, in this process.
    """

    def __init__(self, settings: Settings, text: Text) -> None:
        self.settings = settings
        self.model = _new_model(settings, text.tokenizer)
        tables = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": tables, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
        self.schedule = _schedule(self.optimizer, settings.steps)
        self.generator = pa.Generator(settings.seed)
        self.losses: list[float] = []
        self.held_out: dict[int, float] = {}
        self.busy = 0.0
        self.steps_here = 0

    def __str__(self) -> str:
        config, settings = self.model.config, self.settings
        sizes = f"{config.layers} layers of width {config.width}, {config.vocabulary} tokens"
        return f"{self.size:,} parameters: {sizes}; {settings.dtype} on {settings.device}"

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(p.size for p in self.model.parameters())

    def train(self, text: Text, show: Show) -> bool:
        """Do the steps that are left; True where the user ended them by Ctrl-C."""
        advance = self.step_on(text)
        last, each = self.settings.last, self.settings.batch * self.settings.context
        with (
            interruptible(show) as stop,
            show.steps("training ", last, len(self.losses)) as progress,
        ):
            while len(self.losses) < last and not stop:
                start = time.perf_counter()
                loss = advance()
                self.schedule.step()
                self.losses.append(loss.item())
                self.busy += time.perf_counter() - start
                self.steps_here += 1
                progress.update(len(self.losses), self.losses[-1], each)
                if len(self.losses) * JUDGED % self.settings.steps < JUDGED:
                    self.judge(text.exam)
        return bool(stop)

    def step_on(self, text: Text) -> Callable[[], Any]:
        """The function that does one step, on windows drawn from the text, and returns its loss."""
        settings, model = self.settings, self.model
        tokens, offsets = pa.asarray(text.ids), pa.arange(settings.context + 1)
        starts = len(text.ids) - settings.context

        def step() -> Any:
            begin = pa.random.randint(0, starts, (settings.batch, 1), generator=self.generator)
            loss = model.loss(pa.take(tokens, begin + offsets, axis=0))
            self.optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            self.optimizer.step()
            return loss

        return pa.jit(step) if settings.jit else step

    def judge(self, exam: Exam) -> None:
        """Note the bits per byte of held-out text at this step, once."""
        if len(self.losses) not in self.held_out:
            self.model.eval()
            self.held_out[len(self.losses)] = exam.bits_per_byte(self.model)
            self.model.train()

    def state(self) -> dict[str, Any]:
        """What changes from step to step."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "generator": self.generator,
        }

    def save(self, out: Path, text: Text) -> str:
        """Write all to a folder, as a checkpoint; returns the loss on a few windows, exactly."""
        ids = text.exam.ids[:PROBE]
        facts = {
            "settings": asdict(self.settings),
            "tokenizer": text.tokenizer.to_json(),
            "text": text.digest,
            "losses": self.losses,
            "held_out": self.held_out,
            "probe": ids,
        }
        pa.save(out, **self.state(), facts=facts)
        return loss_of(self.model, ids)

    def restore(self, out: Path, text: Text) -> None:
        """Take over the run saved in a folder, to the last bit."""
        facts = facts_of(out, pa.load(out))
        if facts["text"] != text.digest:
            given = f"a run in {str(out)!r} on another text"
            raise FileError(message("demo", given, "the very same text", "a new run"))
        pa.load(out, **self.state())
        self.losses, self.held_out = facts["losses"], facts["held_out"]

    def curves(self, text: Text) -> tuple[str, list[float], dict[int, float], dict[str, float]]:
        """What `curves.picture` draws: bits per byte in training, and of held-out text."""
        scale = 1 / math.log(2) / text.bytes_per_token
        title = f"{self.size:,} parameters, {text.corpus.source}"
        return (
            title,
            [loss * scale for loss in self.losses],
            self.held_out,
            {"3-gram": text.exam.trigram},
        )

    def figures(self) -> dict[str, Any]:
        """What a report says of the training."""
        settings, steps = self.settings, sorted(self.held_out)
        each = settings.batch * settings.context
        return {
            **asdict(settings),
            "parameters": self.size,
            "steps_done": len(self.losses),
            "tokens_seen": len(self.losses) * each,
            "tokens_per_second": self.steps_here * each / self.busy if self.busy else None,
            "losses": self.losses,
            "held_out": {str(step): self.held_out[step] for step in steps},
            "bits_per_byte_before": self.held_out[steps[0]],
            "bits_per_byte_after": self.held_out[steps[-1]],
        }


def _new_model(settings: Settings, tokenizer: bpe.Tokenizer) -> GPT:
    """A model on the settings' device, with the same numbers there as on any other."""
    pa.manual_seed(settings.seed)
    with pa.device("numpy"):
        model = GPT(replace(settings.config, vocabulary=tokenizer.size))
    return model.to(settings.dtype).to(settings.device)


def _schedule(optimizer: Any, steps: int) -> Any:
    """The learning rate rises for the first twentieth, and then falls along a cosine."""
    warm = max(1, steps // 20)
    rise = optim.LinearLR(optimizer, start_factor=1 / (warm + 1), total_iters=warm)
    fall = optim.CosineAnnealingLR(optimizer, T_max=max(1, steps - warm))
    return optim.SequentialLR(optimizer, [rise, fall], milestones=[warm])
