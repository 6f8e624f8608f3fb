"""Where a function is written: its definition in the syntax tree of its file.

The whole file is parsed once. A definition is found by the line on which its code begins and its
name; a lambda, of which a line may hold many, by the columns that its instructions stand at.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
import tokenize
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Final, final

from proa.errors import JitError, message

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FILES: Final[dict[str, tuple[tuple[str, ...], ast.Module | None]]] = {}


@final
class Unreadable(JitError):
    """A function without source."""


def definition(function: FunctionType) -> Definition:
    """The definition of a function, with the line numbers of its file."""
    code = function.__code__
    tree = _parsed(function)
    found = [d for d in _definitions(tree) if _begins(d) == code.co_firstlineno]
    if code.co_name == "<lambda>":
        around = [d for d in found if isinstance(d, ast.Lambda) and _holds(d, code)]
        found = [min(around, key=_extent)] if around else []
    else:
        found = [d for d in found if getattr(d, "name", "") == code.co_name]
    if len(found) != 1 or _arguments(found[0]) != _given(code):
        given = f"`{code.co_name}` whose source has changed at {place(code)}"
        raise Unreadable(
            message("convert", given, "the source that was run", "importing the module again")
        )
    return found[0]


def place(code: CodeType) -> str:
    return f"{code.co_filename}:{code.co_firstlineno}"


def _parsed(function: FunctionType) -> ast.Module:
    code = function.__code__
    file = code.co_filename
    linecache.checkcache(file)
    written = [] if file == "<string>" else linecache.getlines(file, function.__globals__)
    lines = tuple(written)  # "<string>" is everybody's: whatever lies there is another's
    known = _FILES.get(file)
    if known is None or known[0] != lines:
        known = _FILES[file] = (lines, _tree(lines))
    if known[1] is None:
        block = _block(lines, code.co_firstlineno) if lines else None
        if block is not None:
            return block
        given = f"`{code.co_name}` without source ({place(code)})"
        hint = "a file or a notebook's cell, or pa.cond and pa.while_loop, which need none"
        raise Unreadable(
            message("convert", given, "a function whose source can be read", hint)
        )  # fmt: skip
    return known[1]


def _tree(lines: tuple[str, ...]) -> ast.Module | None:
    try:
        return ast.parse("".join(lines)) if lines else None
    except SyntaxError:  # a notebook's magic, a template
        return None


def _block(lines: tuple[str, ...], first: int) -> ast.Module | None:
    """The definition that begins on a line, where the rest of the file is not Python: a page of
    documentation, a cell with magic."""
    try:
        block = inspect.getblock(lines[first - 1 :])
        return ast.increment_lineno(ast.parse(textwrap.dedent("".join(block))), first - 1)
    except (SyntaxError, IndexError, tokenize.TokenError):
        return None


def _definitions(tree: ast.AST) -> Iterator[Definition]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node


def _begins(node: Definition) -> int:
    """The line at which its code begins: that of the first decorator."""
    lines: list[int] = [d.lineno for d in getattr(node, "decorator_list", [])]
    return min([*lines, node.lineno])


def _extent(node: Any) -> tuple[int, int]:
    return node.body.end_lineno - node.body.lineno, node.body.end_col_offset


def _holds(node: Any, code: CodeType) -> bool:
    """Whether the instructions of a code object stand inside the body of a lambda, and not inside
    a smaller one: that one's code has instructions for its own body alone."""
    body = node.body
    first, last = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    for line, end, column, stop in code.co_positions():
        if line is None or end is None or column is None or stop is None:
            continue
        if (line, end, column, stop) == (code.co_firstlineno, code.co_firstlineno, 0, 0):
            continue  # what begins every function
        if not first <= (line, column) <= (end, stop) <= last:
            return False
    return True


def _arguments(node: Definition) -> tuple[str, ...]:
    a = node.args
    rows = [*a.posonlyargs, *a.args, *a.kwonlyargs]
    rows += [r for r in (a.vararg, a.kwarg) if r is not None]
    return tuple([r.arg for r in rows])


def _given(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 4) + bool(code.co_flags & 8)
    return code.co_varnames[:count]
