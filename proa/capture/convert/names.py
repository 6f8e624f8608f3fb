"""Names: what a piece of code assigns and reads, and what is read after it.

All is asked of structured code, in which no `break`, `continue` or early `return` is left.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any, Final, final

Names = frozenset[str]
NONE: Final[Names] = frozenset()
SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@final
class _Assigned(ast.NodeVisitor):
    """The names that some statements bind in the function that they stand in."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.inside = 0  # comprehensions have a scope of their own, but for `:=`

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load) and not self.inside:
            self.found.add(node.id)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.found.add(node.target.id)
        self.visit(node.value)

    def _scope(self, node: Any) -> None:
        if not isinstance(node, ast.Lambda):
            self.found.add(node.name)
        for d in getattr(node, "decorator_list", []):
            self.visit(d)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _scope  # noqa: N815

    def _comprehension(self, node: Any) -> None:
        self.inside += 1
        self.generic_visit(node)
        self.inside -= 1

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _import(self, node: Any) -> None:
        for row in node.names:
            self.found.add(row.asname or row.name.partition(".")[0])

    visit_Import = visit_ImportFrom = _import  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.found.add(node.name)
        self.generic_visit(node)

    def _pattern(self, node: Any) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name:
            self.found.add(name)
        self.generic_visit(node)

    visit_MatchAs = visit_MatchStar = visit_MatchMapping = _pattern  # noqa: N815


def assigned(nodes: Iterable[ast.AST]) -> set[str]:
    visitor = _Assigned()
    for node in nodes:
        visitor.visit(node)
    return visitor.found


def read(*nodes: ast.AST | None) -> Names:
    """Every name that is read, also by functions that are made there."""
    found = set()
    for node in nodes:
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                found.add(part.id)
            elif isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
                found.add(part.target.id)
            elif isinstance(part, ast.Nonlocal):
                found.update(part.names)
    return frozenset(found)


def captured(nodes: Iterable[ast.AST]) -> Names:
    """What functions, classes and generators that are made there may read or write later."""
    found: Names = NONE
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, (*SCOPES, ast.GeneratorExp)):
                found |= read(part)
    return found


def declared(nodes: Iterable[ast.AST], kind: type) -> Names:
    """The names in `global` or `nonlocal` statements, those of inner functions left out."""
    found: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, kind):
            found.update(node.names)  # type: ignore[attr-defined]
        elif not isinstance(node, SCOPES):
            stack += ast.iter_child_nodes(node)
    return frozenset(found)


def living(body: Sequence[ast.stmt], after: Names) -> Names:
    """The names that are read at the start of some statements or later, where `after` are read
    after them. Every `if`, `while` and `for` is told which names its state is (`node.state`), and
    an `if` which it reads and assigns but nobody reads after it (`node.dead`)."""
    for node in reversed(body):
        after = _statement(node, after)
    return after


def _statement(node: Any, after: Names) -> Names:
    rule = _RULES.get(type(node))
    if rule is not None:
        found: Names = rule(node, after)
        return found
    return (after - frozenset(assigned([node]))) | read(node)


def _if(node: Any, after: Names) -> Names:
    bound = frozenset(assigned([*node.body, *node.orelse]))
    before = living(node.body, after) | living(node.orelse, after)
    node.state, node.dead = bound & after, (bound & before) - after
    return read(node.test) | before


def _while(node: Any, after: Names) -> Names:
    head = after | read(node.test)
    while True:
        found = head | living(node.body, head)
        if found == head:
            node.state = frozenset(assigned([*node.body, node.test])) & head
            return head
        head = found


def _for(node: Any, after: Names) -> Names:
    head = after | read(getattr(node, "keep", None))
    bound = frozenset(assigned([node.target]))
    while True:
        found = head | (living(node.body, head) - bound) | read(node.target)
        if found == head:
            node.state = frozenset(assigned([*node.body, node.target])) & head
            return read(node.iter) | head
        head = found


def _with(node: Any, after: Names) -> Names:
    inside = after | living(node.body, after)  # it may swallow an exception
    for item in reversed(node.items):
        if item.optional_vars is not None:
            inside = (inside - frozenset(assigned([item.optional_vars]))) | read(item.optional_vars)
        inside |= read(item.context_expr)
    return inside


def _try(node: Any, after: Names) -> Names:
    """An exception may come from anywhere inside: nothing that is read later is let go there."""
    after = after | living(node.finalbody, after)
    for handler in node.handlers:
        after = after | living(handler.body, after) | read(handler.type)
    return after | living(node.body, after | living(node.orelse, after))


def _match(node: Any, after: Names) -> Names:
    found = after
    for case in node.cases:
        found = found | living(case.body, after) | read(case.guard) | read(case.pattern)
    return found | read(node.subject)


def _leave(node: Any, after: Names) -> Names:
    """What is read after the function is read by others."""
    return read(node) | after


_RULES: Final[dict[type, Any]] = {
    ast.If: _if, ast.While: _while, ast.For: _for, ast.With: _with, ast.Try: _try,
    ast.TryStar: _try, ast.Match: _match, ast.Return: _leave,
}  # fmt: skip
