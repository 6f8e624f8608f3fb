"""A language model from text to saved file, on this machine: what `proa demo` does.

`run` is the whole story, and reads in one screen; each of its nouns stands below, in order.
"""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

import proa as pa
from proa import optim
from proa.cli import curves
from proa.cli.show import Show, interruptible
from proa.errors import ArgumentError, FileError, ProaError, message
from proa.examples.gpt import GPT, Config, generate
from proa.examples.text import bpe, corpus, ngram

PICTURE: Final = "curves.png"
PROMPTS: Final = ("def ", "import ", "class ")
PROBE: Final = 8
JUDGED: Final = 8


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
    with pa.device(settings.device):
        clock = Clock()
        show.say("reading the text and learning byte pairs")
        text = Text.of(settings)
        show.say(f"text      {text}")
        clock.lap("prepare")

        learner = Learner(settings, text)
        if resume:
            learner.restore(out, text)
        show.say(f"model     {learner}")
        learner.judge(text.exam)
        clock.lap("judge")
        interrupted = learner.train(text, show)
        learner.judge(text.exam)
        clock.lap("train")

        prompts = PROMPTS if settings.text is None else ("",)
        samples = {
            p: write(learner.model, text.tokenizer, p, seed=i) for i, p in enumerate(prompts)
        }
        clock.lap("sample")
        probe = learner.save(out, text)
        clock.lap("save")
        reloaded = probe_elsewhere(out, settings.device)
        clock.lap("reload")
        drawn = curves.picture(out / PICTURE, *learner.curves(text))
        report = {
            **text.figures(),
            **learner.figures(),
            "interrupted": interrupted,
            "seconds": clock.laps,
            "samples": samples,
            "path": str(out),
            "reload": {"loss": probe, "in_a_new_process": reloaded, "equal": probe == reloaded},
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
    device: str = "numpy"
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
                raise _refusal(f"{name} {getattr(self, name)!r:.40}", "a whole number from 1 on")
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 63:
            raise _refusal(f"seed {self.seed!r:.40}", "a whole number from 0 on")
        if not bpe.BYTES <= self.vocabulary <= bpe.LARGEST:
            raise _refusal(f"vocabulary {self.vocabulary}", f"{bpe.BYTES} to {bpe.LARGEST}")
        if not isinstance(self.rate, (int, float)) or not 0 < self.rate < 1:
            raise _refusal(f"rate {self.rate!r:.40}", "a number between 0 and 1")
        if self.text is not None and not isinstance(self.text, str):
            raise _refusal(f"text of type {type(self.text).__name__}", "a path")
        if self.dtype not in ("float32", "float64"):
            raise _refusal(f"dtype {self.dtype!r:.40}", "float32 or float64")
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
    size: int
    trigram: float

    @classmethod
    def of(
        cls, data: bytes, tokenizer: bpe.Tokenizer, trigram: ngram.Ngram, settings: Settings
    ) -> Exam:
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
        return nats / math.log(2) / self.size


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

    def __str__(self) -> str:
        learn, held = len(self.corpus.train), len(self.corpus.held_out)
        return f"{self.corpus.source}, {learn:,} bytes to learn from, {held:,} held out"

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
            "bytes_judged": self.exam.size,
            "tokens": self.tokenizer.size,
            "bytes_per_token": self.bytes_per_token,
            "bits_per_byte_trigram": self.exam.trigram,
            "bits_per_byte_trigram_on_all": self.trigram,
        }


# The learner.


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
        return _loss_of(self.model, ids)

    def restore(self, out: Path, text: Text) -> None:
        """Take over the run saved in a folder, to the last bit."""
        facts = _facts(out, pa.load(out))
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


# Writing.


def write(
    model: GPT,
    tokenizer: bpe.Tokenizer,
    prompt: str,
    *,
    tokens: int = 80,
    temperature: float = 0.8,
    top_k: int = 40,
    seed: int = 0,
) -> str:
    """What the model writes after a prompt, without the prompt; the whole of `stream`."""
    return "".join(stream(model, tokenizer, prompt, tokens, temperature, top_k, seed))


def stream(
    model: GPT,
    tokenizer: bpe.Tokenizer,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
) -> Iterator[str]:
    """What the model writes after a prompt, piece by piece.

    The prompt's last token is taken back, and the first new one has to begin with its bytes:
    "def " ends in a space, but in the text that the model knows a space belongs to the next word.

    Arguments:
        model, tokenizer: as `load` gives them.
        prompt: any text; none at all is the start of a line.
        tokens, temperature, top_k, seed: see `gpt.generate`.
    """
    before = b"\n" + prompt.encode("utf-8", "replace")
    *ids, last = [int(i) for i in tokenizer.encode(before)]
    taken = tokenizer.tokens[last] if ids else b""
    if not ids:
        ids = [last]
    first = [i for i, token in enumerate(tokenizer.tokens) if token.startswith(taken)]
    decoder = getincrementaldecoder("utf-8")("replace")
    skip = len(taken)
    for new in generate(
        model, ids, tokens, temperature=temperature, top_k=top_k, seed=seed, first=first
    ):
        yield _printable(decoder.decode(tokenizer.tokens[new][skip:]))
        skip = 0
    yield _printable(decoder.decode(b"", final=True))


def _printable(text: str) -> str:
    """A text may hold what a terminal would obey."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


# Files.


def load(path: Path, device: str = "numpy") -> tuple[GPT, bpe.Tokenizer]:
    """The model and its tokenizer from the folder that `proa demo` wrote.

    Errors:
        FileError: there is no model, or what is there is damaged.
    """
    model, tokenizer, _ = _load(path, device)
    return model, tokenizer


def settings_of(path: Path) -> Settings:
    """The settings of the run saved in a folder.

    Errors:
        FileError: there is no run, or what is there is damaged.
    """
    return _settings(path, _facts(path, _checkpoint(path)))


def _load(path: Path, device: str) -> tuple[GPT, bpe.Tokenizer, Any]:
    with pa.device(device):
        tree = _checkpoint(path)
        facts = _facts(path, tree)
        settings = _settings(path, facts)
        try:
            tokenizer = bpe.Tokenizer.from_json(facts["tokenizer"])
        except ValueError as error:
            raise _damaged(path) from error
        config = replace(settings.config, vocabulary=tokenizer.size)
        # Nothing is made that is larger than what was read.
        if config.least_parameters > sum(p.size for p in tree["model"].values()):
            raise _damaged(path)
        model = GPT(config).to(settings.dtype)
        model.load_state_dict(tree["model"])
    return model.eval(), tokenizer, facts["probe"]


def _checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        hint = f"proa demo --out {path}"
        raise FileError(
            message("demo", f"{str(path)!r}, where no model was saved", "a folder", hint)
        )
    tree = pa.load(path)
    model = tree.get("model") if isinstance(tree, dict) else None
    if not isinstance(model, dict) or not all(isinstance(p, pa.Tensor) for p in model.values()):
        raise _damaged(path)
    return tree  # type: ignore[no-any-return]


FACTS: Final = {
    "settings": dict,
    "tokenizer": str,
    "text": str,
    "losses": list,
    "held_out": dict,
    "probe": np.ndarray,
}


def _facts(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    """What the demo knows of a run beside its tensors. Another program may have written it."""
    facts: Any = tree.get("facts")
    whole = isinstance(facts, dict) and all(isinstance(facts.get(k), t) for k, t in FACTS.items())
    if not whole:
        raise _damaged(path)
    numbers = (*facts["losses"], *facts["held_out"].values())
    if any(type(number) is not float for number in numbers):
        raise _damaged(path)
    return facts  # type: ignore[no-any-return]


def _settings(path: Path, facts: Mapping[str, Any]) -> Settings:
    stored = facts["settings"]
    try:
        return Settings(**{f.name: stored[f.name] for f in fields(Settings)}).check()
    except (KeyError, ArgumentError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> FileError:
    given = f"{str(path)!r}, which is damaged or holds another kind of model"
    return FileError(message("demo", given, "what `proa demo` saves", "a new run"))


def settings_to_resume(path: Path, asked: Mapping[str, Any]) -> Settings:
    """The settings to go on with: those of the saved run; only what leaves its numbers may change.

    Arguments:
        path: the folder of the run.
        asked: settings that the user gave.

    Errors:
        ArgumentError: a setting differs that the run depends on.
        FileError: there is no run.
    """
    stored = settings_of(path)
    for name, value in asked.items():
        if name not in FREE and value != getattr(stored, name):
            given = f"--{name} {value} for a run of {name} {getattr(stored, name)}"
            raise _refusal(given, "what it was begun with", f"leaving out --{name}")
    return replace(stored, **{"stop_after": None, **{k: v for k, v in asked.items() if k in FREE}})


# Another process.


def _loss_of(model: GPT, ids: Any) -> str:
    """The model's loss on a few windows, to the last bit."""
    model.eval()
    with pa.no_grad():
        return float(model.loss(pa.asarray(ids)).item()).hex()


def tell_probe(path: str, device: str) -> None:
    """Load a model and print its loss on the windows that were saved with it."""
    model, _, ids = _load(Path(path), device)
    with pa.device(device):
        print(_loss_of(model, ids))


def probe_elsewhere(path: Path, device: str) -> str:
    """The loss of a saved model, as a new process finds it.

    Errors:
        ProaError: the process failed.
    """
    root = str(Path(pa.__file__).parents[1])
    code = (
        "import sys; sys.path.append(sys.argv[1]); "
        "from proa.examples.language import tell_probe; tell_probe(*sys.argv[2:])"
    )
    command = [sys.executable, "-c", code, root, str(path), device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProaError(
            f"[demo] the new process ended with status {done.returncode}:\n{done.stderr.strip()}"
        )
    return done.stdout.strip()


# Telling.


@final
class Clock:
    """Seconds, by what they were spent on.

    Example:
        >>> clock = Clock()
        >>> clock.lap("nothing")
        >>> clock.laps["nothing"] < 1
        True
    """

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What was done since the last lap has this name."""
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.last
        self.last = now


def tell(report: Mapping[str, Any], learner: Learner, show: Show) -> None:
    """Write the results for people."""
    for prompt, text in report["samples"].items():
        show.say(f"\n--- {prompt!r} goes on:\n{prompt}{text}")
    if report["picture"] is None:
        show.say("\ntraining loss in nats (pip install 'proa[plot]' saves a picture)")
        show.say(curves.plain(learner.losses))
    before, after, trigram = (report[f"bits_per_byte_{x}"] for x in ("before", "after", "trigram"))
    verdict = "beats" if after < trigram else "does not beat"
    seconds = sum(report["seconds"].values())
    show.say()
    show.result(
        f"held out  {after:.3f} bits per byte after {report['steps_done']} steps, "
        f"{before:.3f} before; 3-gram {trigram:.3f}, which the model {verdict}"
    )
    equal = "the same loss, bit for bit" if report["reload"]["equal"] else "ANOTHER LOSS"
    show.result(f"saved     {report['path']}; loaded again in a new process: {equal}")
    show.say(f"took      {seconds:.0f} s; try: proa sample {report['path']} --prompt 'def '")
    if report["picture"]:
        show.say(f"curves    {report['picture']}")
