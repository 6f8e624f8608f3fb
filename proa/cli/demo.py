"""`proa demo`: a language model, or a classifier of digits, from data to result."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from proa.cli.doctor import busy_hint
from proa.cli.show import Show
from proa.compile.find import default_device, device
from proa.errors import MissingExtra, ProaError

OUT: Final = "./proa-demo"

EXAMPLES: Final = """examples:
  proa demo                              all of it, in about three minutes on two cores
  proa demo --steps 50 --quiet           a short run, only the results
  proa demo --text book.txt --out book   on your own text
  proa demo --json > report.json         every figure, for a program to read
  proa demo --steps 500 --stop-after 200 && proa demo --resume
  proa demo --task digits                handwritten digits

Ctrl-C ends the training early: what is learned by then is judged and saved.
Where other programs use the cores, OPENBLAS_NUM_THREADS=1 is much faster."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proa demo`."""
    defaults = import_module("proa.examples.settings").Settings()
    parser.epilog = EXAMPLES
    _add_common(parser.add_argument)
    group = parser.add_argument_group("language")
    _add_language(group.add_argument, defaults)
    group = parser.add_argument_group("sizes of the language model")
    for name, what in SIZES.items():
        kind, mark = (rate, "X") if name == "rate" else (whole(1), "N")
        text = f"{what} (default: {getattr(defaults, name)})"
        group.add_argument(f"--{name}", type=kind, metavar=mark, help=text)


def _add_common(add: Callable[..., Any]) -> None:
    add("--task", choices=("language", "digits"), default="language", help="what to learn")
    add("--quiet", action="store_true", help="write only the results")
    add("--json", action="store_true", help="write one JSON object, with every figure, and no more")
    add("--device", metavar="NAME", help="where to compute, such as numpy or xla")
    add("--seed", type=whole(0), metavar="N", help="where random numbers begin")


def _add_language(add: Callable[..., Any], defaults: Any) -> None:
    out = f"folder to save in, where an older model is replaced (default: {OUT})"
    jit = f"record the step once and replay it, with equal numbers (default: {defaults.jit})"
    add("--out", type=Path, metavar="PATH", help=out)
    add("--text", metavar="PATH", help="a file or folder (default: Python's standard library)")
    add("--steps", type=whole(1), metavar="N", help=f"of training (default: {defaults.steps})")
    add("--stop-after", type=whole(1), metavar="N", help="stop early, to go on with --resume")
    add("--resume", action="store_true", default=None, help="go on with the run in --out")
    add("--dtype", choices=("float32", "float64"), help=f"(default: {defaults.dtype})")
    add("--jit", action=argparse.BooleanOptionalAction, default=None, help=jit)


SIZES: Final = {
    "vocabulary": "different tokens, 256 to 4096",
    "context": "tokens that the model sees at once",
    "width": "numbers that stand for a token",
    "layers": "blocks of the transformer",
    "heads": "attention heads, which share the width",
    "batch": "windows of a step",
    "rate": "the highest learning rate",
    "windows": "held-out windows that are judged",
}
LANGUAGE: Final = ("out", "text", "steps", "stop_after", "resume", "dtype", "jit", *SIZES)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run the demo; the exit status."""
    show = Show(options.quiet, options.json)
    if busy_hint():
        show.say(f"note: {busy_hint()}")
    task = _digits if options.task == "digits" else _language
    report, good = task(options, parser, show)
    if options.json:
        print(json.dumps(report))
    return 0 if good else 1


def _language(options: Any, parser: Any, show: Show) -> tuple[dict[str, Any], bool]:
    language = import_module("proa.examples.language")
    out = options.out or Path(OUT)
    settings = _accept(parser, lambda: _settings(options, out))
    if settings.text is not None and not os.path.exists(settings.text):
        parser.error(f"argument --text: there is nothing at {settings.text!r}")
    if not _writable(out):
        parser.error(f"argument --out: {str(out)!r} is no folder that can be written")
    report = language.run(settings, out, show, resume=bool(options.resume))
    return report, report["reload"]["equal"]


def _settings(options: Any, out: Path) -> Any:
    kind = import_module("proa.examples.settings").Settings
    given = {k: v for k, v in vars(options).items() if v is not None}
    chosen = {k: v for k, v in given.items() if hasattr(kind, k)}
    if "text" in chosen:
        chosen["text"] = os.path.abspath(chosen["text"])
    chosen["device"] = str(device(options.device) if options.device else default_device())
    if options.resume:
        return import_module("proa.examples.saved").settings_to_resume(out, chosen)
    return kind(**chosen).check()


def _writable(path: Path) -> bool:
    """Whether a folder can be written, or made: known before the training, not after it."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return there.is_dir() and os.access(there, os.W_OK)


def _digits(options: Any, parser: Any, show: Show) -> tuple[dict[str, Any], bool]:
    for name in LANGUAGE:
        if getattr(options, name) is not None:
            parser.error(f"argument --{name.replace('_', '-')}: not for --task digits")
    if options.device:
        _accept(parser, lambda: device(options.device))
    digits = import_module("proa.examples.digits")
    return digits.run(show, device=options.device, seed=options.seed), True


def _accept(parser: Any, make: Callable[[], Any]) -> Any:
    """What is wrong with the arguments themselves ends with exit status 2."""
    try:
        return make()
    except MissingExtra:
        raise
    except ProaError as error:
        parser.error(str(error))


def whole(least: int) -> Callable[[str], int]:
    """A type for whole numbers from `least` on.

    Example:
        >>> whole(1)("12")
        12
    """

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r:.40} is no whole number from {least} on")
        return int(text)

    return parse


def rate(text: str) -> float:
    """A type for numbers from 0 on.

    Example:
        >>> rate("0.5")
        0.5
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number from 0 on")
    return number
