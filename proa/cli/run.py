"""`proa run PATH --input x.npy`: calls an exported function with arrays from files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np

from proa import tree
from proa.cli.inspect import opened
from proa.convert import asarray
from proa.errors import ArgumentError, FileError, MissingFile, message
from proa.exports import Exported
from proa.tensor import Tensor

EXAMPLES: Final = """examples:
  proa run my-model --input x.npy
  proa run my-model --input x=a.npy --input mask=b.npy --output y.npy --device xla"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proa run`."""
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="the folder that pa.export wrote")
    add("--input", action="append", default=[], metavar="[NAME=]FILE",
        help="a .npy file for each tensor that it takes, in order or by name")  # fmt: skip
    add("--output", action="append", default=[], type=Path, metavar="FILE",
        help="where a result goes, in order; those without a file are printed")  # fmt: skip
    add("--device", metavar="NAME", help="where to compute, such as numpy or xla")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Call, then save or print the results; the exit status."""
    function = opened("run", options.path, options.device)
    if len(options.output) > len(function.outputs):
        given = f"{len(options.output)} outputs"
        raise ArgumentError(message("run", given, f"at most {list(function.outputs)}"))
    files = _files(function, options.input)
    device = options.device
    tensors = iter([asarray(_array(files[name]), device=device) for name in function.inputs])
    trees = {name: form.filled(tensors) for name, form in function.signature.arguments}
    leaves = [t for t in tree.flatten(function(**trees))[0] if type(t) is Tensor]
    for i, (name, tensor) in enumerate(zip(function.outputs, leaves, strict=True)):
        if i < len(options.output):
            with open(options.output[i], "wb") as file:
                np.save(file, tensor.numpy(), allow_pickle=False)
        else:
            print(f"{name}: {tensor!r}")
    return 0


def _files(function: Exported, given: list[str]) -> dict[str, Path]:
    """The file of each tensor that the function takes."""
    names = list(function.inputs)
    found: dict[str, Path] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        if not equals or name not in names:
            free = [n for n in names if n not in found]
            name, rest = free[0] if free else "", text
        if not name or name in found:
            what = f"the input {text!r:.80}" + (f" for {name} twice" if name else "")
            raise ArgumentError(message("run", what, f"one for each of {names}"))
        found[name] = Path(rest)
    missing = [n for n in names if n not in found]
    if missing:
        given_text = f"no input for {', '.join(missing)}"
        raise ArgumentError(message("run", given_text, str(function.signature), "--input x.npy"))
    return found


def _array(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise MissingFile(message("run", f"{path}, where nothing is", "a .npy file")) from None
    except (ValueError, OSError, EOFError) as error:
        raise FileError(message("run", f"{path}: {error}"[:300], "a .npy file")) from None
    if not isinstance(found, np.ndarray):
        raise FileError(message("run", f"{path} of several arrays", "a .npy file"))
    return found
