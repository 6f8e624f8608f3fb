"""Saved runs: the folder read with care, what a run may go on with, a look from a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

import proa as pa
from proa.errors import ArgumentError, FileError, ProaError, message
from proa.examples.gpt import GPT
from proa.examples.settings import FREE, Settings, refusal
from proa.examples.text import bpe


def load(path: Path, device: str = "cpu") -> tuple[GPT, bpe.Tokenizer]:
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
    return _settings(path, facts_of(path, _checkpoint(path)))


def _load(path: Path, device: str) -> tuple[GPT, bpe.Tokenizer, Any]:
    with pa.device(device):
        tree = _checkpoint(path)
        facts = facts_of(path, tree)
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


def facts_of(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
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
            raise refusal(given, "what it was begun with", f"leaving out --{name}")
    return replace(stored, **{"stop_after": None, **{k: v for k, v in asked.items() if k in FREE}})


# Another process.


def loss_of(model: GPT, ids: Any) -> str:
    """The model's loss on a few windows, to the last bit."""
    model.eval()
    with pa.no_grad():
        return float(model.loss(pa.asarray(ids)).item()).hex()


def tell_probe(path: str, device: str) -> None:
    """Load a model and print its loss on the windows that were saved with it."""
    model, _, ids = _load(Path(path), device)
    with pa.device(device):
        print(loss_of(model, ids))


def probe_elsewhere(path: Path, device: str) -> str:
    """The loss of a saved model, as a new process finds it.

    Errors:
        ProaError: the process failed.
    """
    root = str(Path(pa.__file__).parents[1])
    code = (
        "import sys; sys.path.append(sys.argv[1]); "
        "from proa.examples.saved import tell_probe; tell_probe(*sys.argv[2:])"
    )
    command = [sys.executable, "-c", code, root, str(path), device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProaError(
            f"[demo] the new process ended with status {done.returncode}:\n{done.stderr.strip()}"
        )
    return done.stdout.strip()
