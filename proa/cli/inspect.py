"""`proa inspect PATH`: what an exported function takes, gives, holds and costs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from proa.errors import ArgumentError, FileError, message
from proa.exports import Exported, load
from proa.exports.report import report, short

EXAMPLES: Final = """examples:
  proa inspect my-model
  proa inspect my-model --size batch=32 --size length=128"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proa inspect`."""
    parser.epilog = EXAMPLES
    parser.add_argument("path", type=Path, metavar="PATH", help="the folder that pa.export wrote")
    add_size(parser)
    parser.add_argument("--weights", action="store_true", help="list every weight")


def add_size(parser: argparse.ArgumentParser) -> None:
    """The option `--size`, of all commands that need sizes."""
    text = "a size, where a dim has none (default: the first that it was recorded at)"
    parser.add_argument("--size", action="append", default=[], metavar="NAME=N", help=text)


def opened(op: str, path: Path, device: Any = None) -> Exported:
    """The exported function of a folder."""
    found = load(path, device)
    if type(found) is not Exported:
        raise FileError(message(op, f"{path}, a checkpoint", "a folder that pa.export wrote"))
    return found


def sizes_of(op: str, function: Exported, given: list[str]) -> dict[str, int]:
    """The size of each dim: as given, else as recorded."""
    template = function.template
    sizes = dict(zip(template.dims, template.sample, strict=True))
    for text in given:
        name, _, number = text.partition("=")
        if name not in sizes or not number.isdecimal() or len(number) > 12:
            expected = f"a size of {', '.join(sizes) or 'none: there are no dims'}"
            raise ArgumentError(message(op, f"--size {text:.60}", expected, "--size batch=32"))
        sizes[name] = int(number)
    return sizes


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print what is known; the exit status."""
    function = opened("inspect", options.path)
    sizes = sizes_of("inspect", function, options.size)
    found = report(function.graph(**sizes))
    weights = function.weights
    numbers = sum([t.size for t in weights.values()])
    nbytes = sum([t.nbytes for t in weights.values()])
    print(f"{function.signature}")
    print(f"written by Proa {function.version}")
    print(f"weights     {len(weights)} tensors, {numbers:,} numbers, {short(nbytes, 'B')}")
    if options.weights:
        width = max([len(n) for n in weights], default=0)
        for name, tensor in weights.items():
            print(f"  {name:{width}}  {tensor.value.spec}  {short(tensor.nbytes, 'B')}")
    if sizes:
        print("at          " + ", ".join([f"{n} = {size}" for n, size in sizes.items()]))
    names = ", ".join([f"{name} {count}" for name, count in found.operations.items()])
    print(f"operations  {sum(found.operations.values())}: {names}")
    loops = " (loops that data ends count as one round)" if found.has_loops else ""
    print(f"flops       {short(found.flops)}{loops}")
    whole, live = short(found.result_bytes, "B"), short(found.live_bytes, "B")
    print(f"memory      results of {whole}, at one time at most {live}")
    return 0
