"""`proa sample PATH`: a saved model goes on with a text, and what it writes is seen at once."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from proa.cli.demo import rate, whole
from proa.compile.find import default_device

EXAMPLES = """examples:
  proa sample proa-demo --prompt "def "
  proa sample proa-demo --prompt "import " --temperature 0.5 --seed 7
  proa sample proa-demo --temperature 0      always the most probable token"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proa sample`."""
    parser.epilog = EXAMPLES
    add = parser.add_argument
    bold = "1 draws as the model says, less is bolder, 0 takes the most probable (default: 0.8)"
    add("path", type=Path, metavar="PATH", help="the folder that `proa demo` wrote")
    add("--prompt", default="def ", metavar="TEXT", help="to go on with (default: 'def ')")
    add("--tokens", type=whole(1), default=200, metavar="N", help="to write (default: 200)")
    add("--temperature", type=rate, default=0.8, metavar="X", help=bold)
    add("--top-k", type=whole(0), default=40, metavar="K", help="of these, 0: all (default: 40)")
    add("--seed", type=whole(0), default=0, metavar="N", help="another seed, another text")
    add("--device", metavar="NAME", help="where to compute, such as numpy or xla")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Write the text; the exit status."""
    saved = import_module("proa.examples.saved")
    writing = import_module("proa.examples.writing")
    device = options.device or str(default_device())
    model, tokenizer = saved.load(options.path, device)
    out = sys.stdout
    out.write(options.prompt)
    how = {name: getattr(options, name) for name in ("tokens", "temperature", "top_k", "seed")}
    pieces = writing.stream(model, tokenizer, options.prompt, **how)
    for piece in pieces:
        out.write(piece)
        out.flush()
    out.write("\n")
    out.flush()
    return 0
