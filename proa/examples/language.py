"""A language model from text to saved file, on this machine: what `proa demo` does.

`run` is the whole story, and reads in one screen; each of its nouns stands in a file beside this
one: `settings`, `data`, `learner`, `writing`, `saved`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import proa as pa
from proa.cli import curves
from proa.cli.show import Show
from proa.examples.data import Text
from proa.examples.learner import Learner
from proa.examples.saved import probe_elsewhere
from proa.examples.settings import Settings
from proa.examples.writing import write

PICTURE: Final = "curves.png"
PROMPTS: Final = ("def ", "import ", "class ")


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
