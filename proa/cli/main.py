"""The entry point of the command `proa`: which command, and how errors are told."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import proa

COMMANDS: Final = {
    "demo": "train, evaluate, sample, save and reload a model on this machine",
    "sample": "let a model that the demo saved go on with a text",
    "inspect": "tell what an exported function takes, gives, holds and costs",
    "run": "call an exported function with arrays from files",
    "show": "print or draw the graph of an exported function",
    "doctor": "check this installation, and say how to mend what is broken",
}
MODULES: Final = {"show": "draw"}  # where a command has another name than its module

EXAMPLES: Final = """examples:
  proa demo                                  a language model on Python's own source files
  proa demo --text ~/notes --out my-model    on your own texts
  proa demo --task digits                    a convolutional net on handwritten digits
  proa sample my-model --prompt "def "       what the model writes
  proa inspect my-function                   what pa.export wrote
  proa run my-function --input x.npy         its results
  proa doctor                                is everything in order?

`proa COMMAND --help` shows the options of a command. Nothing is downloaded."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0: done; 1: something failed, and a line on standard error says what; 2: the arguments are
    not acceptable; 130: ended by Ctrl-C.

    Arguments:
        arguments: the words after `proa`; those of the process by default.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone; Python would complain when it closes the stream at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--traceback" in words or not _is_ours(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(words: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # What a model writes must not fail for a terminal that cannot show it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser, commands = _parser(words)
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return 0
    # A command is a module of its own, with `add_arguments(parser)` and `run(options, parser)`.
    module = _module(options.command)
    return int(module.run(options, commands[options.command]))


def _module(command: str) -> Any:
    return import_module(f"proa.cli.{MODULES.get(command, command)}")


def _is_ours(error: Exception) -> bool:
    """Errors that Proa raises on purpose, and those of files and folders."""
    from proa.errors import ProaError

    return isinstance(error, (ProaError, OSError))


def _parser(words: Sequence[str]) -> tuple[Parser, dict[str, Any]]:
    parser = Parser(
        prog="proa",
        description="Proa: deep learning on one lazily recorded graph.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"proa {proa.__version__}")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands = {}
    for name, what in COMMANDS.items():
        command = choices.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "--traceback", action="store_true", help="show where an error comes from"
        )
        # Only the command in question is imported.
        if name in words:
            _module(name).add_arguments(command)
        commands[name] = command
    return parser, commands


if __name__ == "__main__":
    sys.exit(main())
