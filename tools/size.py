"""Size of the code, for orientation: `python tools/size.py [FOLDER]`.

A line of code is one with a token on it: blanks, comments and docstrings do not count, and the
tokens a line has are those of Python's own tokeniser (an f-string is one). A room is a file or a
folder right below FOLDER (default: proa).
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Measure(NamedTuple):
    """What one file holds; `longest` is the longest function as (lines, name)."""

    path: Path
    lines: int
    tokens: int
    longest: tuple[int, str]
    public: int
    documented: int


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines that docstrings stand on."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            found.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def code_tokens(text: str, skipped: set[int]) -> dict[int, int]:
    """Tokens of each line of code. A token of several lines counts on its first, and makes the
    others lines of code too."""
    found: dict[int, int] = defaultdict(int)
    inside = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        first, last = token.start[0], token.end[0]
        kind = tokenize.tok_name[token.type]
        if token.type in SILENT or first in skipped:
            continue
        inside -= kind == "FSTRING_END"
        found[first] += inside == 0 and kind != "FSTRING_END"
        inside += kind == "FSTRING_START"
        for line in range(first + 1, last + 1):
            found[line] += 0
    return found


def public_names(tree: ast.Module) -> list[ast.AST]:
    """The module, its public functions and classes, and their public methods."""
    found: list[ast.AST] = [tree]

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.append(node)
                visit(node.body)
            elif isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
                setters = [d for d in node.decorator_list if isinstance(d, ast.Attribute)]
                if not any(d.attr in ("setter", "deleter") for d in setters):
                    found.append(node)

    visit(tree.body)
    return found


def measure(path: Path) -> Measure:
    """Lines, tokens, the longest function and the docstrings of one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    tokens = code_tokens(text, docstring_lines(tree))
    longest = (0, "-")
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            longest = max(longest, (sum(n in tokens for n in span), node.name))
    public = public_names(tree)
    documented = sum(ast.get_docstring(n) is not None for n in public)  # type: ignore[arg-type]
    return Measure(path, len(tokens), sum(tokens.values()), longest, len(public), documented)


def rooms(folder: Path) -> dict[str, list[Measure]]:
    """Measures of all files, by the name right below the folder."""
    found: dict[str, list[Measure]] = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        below = path.relative_to(folder).parts
        found[below[0] + ("/" if len(below) > 1 else "")].append(measure(path))
    return dict(found)


def row(name: str, files: list[Measure], folder: Path) -> str:
    """One line of the table."""
    lines = sum(m.lines for m in files)
    tokens = sum(m.tokens for m in files)
    public, documented = sum(m.public for m in files), sum(m.documented for m in files)
    length, function = max(m.longest for m in files)
    largest = max(files, key=lambda m: m.lines)
    return (
        f"{name:16} {len(files):5d} {lines:7d} {tokens / max(lines, 1):7.2f} "
        f"{documented:4d}/{public:<4d} {100 * documented // max(public, 1):3d}%  "
        f"{length:4d} {function:26.26} {largest.lines:5d} {largest.path.relative_to(folder)}"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Lines, tokens, longest functions, docstrings.")
    parser.add_argument("folder", nargs="?", default=str(ROOT / "proa"))
    folder = Path(parser.parse_args().folder).resolve()
    found = rooms(folder)
    head = f"{'room':16} {'files':>5} {'lines':>7} {'tokens':>7} {'docstrings':>14}"
    print(f"{head}  {'longest function':31} {'longest file'}")
    for name, files in found.items():
        print(row(name, files, folder))
    print(row("total", [m for files in found.values() for m in files], folder))


if __name__ == "__main__":
    main()
