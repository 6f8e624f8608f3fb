"""`proa show PATH`: the graph of an exported function, as text or as a drawing."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Final

from proa.cli.inspect import add_size, opened, sizes_of
from proa.errors import ArgumentError, ProaError, message
from proa.graph.dot import dot
from proa.graph.show import show

EXAMPLES: Final = """examples:
  proa show my-model                         as text
  proa show my-model --output graph.svg      as a drawing (needs graphviz)
  proa show my-model --size batch=32 --output graph.dot"""
SECONDS: Final = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proa show`."""
    parser.epilog = EXAMPLES
    parser.add_argument("path", type=Path, metavar="PATH", help="the folder that pa.export wrote")
    add_size(parser)
    text = "a file to draw into: .svg, .pdf or .png by graphviz, .dot, or .txt"
    parser.add_argument("--output", type=Path, metavar="FILE", help=text)


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print or draw the graph; the exit status."""
    function = opened("show", options.path)
    graph = function.graph(**sizes_of("show", function, options.size))
    names = [*function.inputs, *function.weights]
    output = options.output
    if output is None or output.suffix == ".txt":
        text = f"# {function.signature}\n# inputs: {', '.join(names)}\n{show(graph)}\n"
        if output is None:
            print(text, end="")
        else:
            output.write_text(text, encoding="utf-8")
        return 0
    text = dot(graph, names)
    if output.suffix == ".dot":
        output.write_text(text, encoding="utf-8")
    elif output.suffix in (".svg", ".pdf", ".png"):
        _drawn(text, output)
    else:
        given = f"--output {output}"
        raise ArgumentError(message("show", given, "a name in .svg, .pdf, .png, .dot or .txt"))
    return 0


def _drawn(text: str, output: Path) -> None:
    """The drawing by graphviz, which lays it out."""
    program = shutil.which("dot")
    if program is None:
        hint = "installing graphviz, --output graph.dot, or no --output for text"
        raise ProaError(message("show", f"--output {output} without `dot`", "graphviz", hint))
    done = subprocess.run(
        [program, f"-T{output.suffix[1:]}"], input=text.encode(), capture_output=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ProaError(message("show", done.stderr.decode(errors="replace")[:300], "a drawing"))
    output.write_bytes(done.stdout)
