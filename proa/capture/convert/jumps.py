"""`return`, `break` and `continue` become flags, so that only `if`, `while` and `for` are left.

    while a:                      broken = False
        if b:                     while not broken and a:
            break          ->         if b:
        c                                 broken = True
                                      else:
                                          c

What follows an `if` of which one side always leaves goes into its other side; what follows any
other statement that may leave is guarded by the flags. A flag that nobody reads is not set.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Final, final

RESULT: Final = "_proa_result"
RETURNED: Final = "_proa_returned"
_BROKEN: Final = "_proa_broken_"
_SKIPPED: Final = "_proa_skipped_"
_LEAVE: Final = (ast.Return, ast.Break, ast.Continue)
_OWN: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def in_words(name: str) -> str:
    """A name as its user knows it."""
    for flag, words in ((_BROKEN, "whether the loop is left"), (_SKIPPED, "what `continue` skips"),
                        (RETURNED, "whether it has returned"), (RESULT, "the result")):  # fmt: skip
        if name.startswith(flag):
            return words
    return f"`{name}`"


def lowered(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """A function's body with one `return`, its last statement; the body itself if it has none."""
    if not any(jumps([s]) for s in body) and not _has_loop_jumps(body):
        return list(body)
    lower = _Lower()
    returns = "return" in _kinds(body)
    rest = list(body)
    if returns and not _always(rest):
        rest.append(ast.copy_location(ast.Return(None), rest[-1]))
    found = lower.block(rest)
    if returns:
        first = _at(_set(RETURNED, False), body[0])
        last = ast.Return(ast.Name(RESULT, ast.Load()))
        found = [first, *found, _at(last, body[-1])]
    return _without_unread(found)


def jumps(stmts: Sequence[ast.stmt]) -> frozenset[str]:
    """How these statements may leave: by return, or by break or continue of a loop around."""
    return _kinds(stmts)


def _kinds(nodes: Sequence[Any], loop: bool = False) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for node in nodes:
        if isinstance(node, ast.Return):
            found |= {"return"}
        elif isinstance(node, (ast.Break, ast.Continue)) and not loop:
            found |= {type(node).__name__.lower()}
        elif isinstance(node, (ast.While, ast.For, ast.AsyncFor)):
            found |= _kinds(node.body, True) | _kinds(node.orelse, loop)
        elif not isinstance(node, (*_OWN, ast.expr)):
            found |= _kinds(list(ast.iter_child_nodes(node)), loop)
    return found


def _has_loop_jumps(body: Sequence[ast.stmt]) -> bool:
    stack: list[Any] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.While, ast.For)) and (node.orelse or _binds(node)):
            return True
        if isinstance(node, _LEAVE):
            return True
        if not isinstance(node, (*_OWN, ast.expr)):
            stack += ast.iter_child_nodes(node)
    return False


def _binds(node: Any) -> bool:
    """Whether the test of a `while` assigns names, which it does once more than the body runs."""
    test = getattr(node, "test", None)
    return test is not None and any(isinstance(p, ast.NamedExpr) for p in ast.walk(test))


def _always(stmts: Sequence[ast.stmt], kinds: tuple[type, ...] = (*_LEAVE, ast.Raise)) -> bool:
    """Whether these statements never reach their end."""
    for s in stmts:
        if isinstance(s, kinds):
            return True
        if isinstance(s, ast.If) and _always(s.body, kinds) and _always(s.orelse, kinds):
            return True
        if isinstance(s, ast.While) and isinstance(s.test, ast.Constant):
            return bool(s.test.value) and "break" not in _kinds(s.body)
    return False


def _gone(s: ast.If) -> str:
    """The side of an `if` that always returns or raises: what it leaves undefined nobody reads."""
    kinds = (ast.Return, ast.Raise)
    if _always(s.body, kinds):
        return "body"
    return "orelse" if s.orelse and _always(s.orelse, kinds) else ""


def _at(node: Any, like: ast.AST) -> Any:
    for part in ast.walk(node):
        if isinstance(part, (ast.stmt, ast.expr)) and not hasattr(part, "lineno"):
            ast.copy_location(part, like)
    return node


def _set(name: str, value: Any) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], ast.Constant(value))


def _not_any(flags: Sequence[str]) -> ast.expr:
    tests: list[ast.expr] = [ast.UnaryOp(ast.Not(), ast.Name(f, ast.Load())) for f in flags]
    return tests[0] if len(tests) == 1 else ast.BoolOp(ast.And(), tests)


@final
class _Lower:
    """One function. `loops` are the numbers of the loops around a statement."""

    def __init__(self) -> None:
        self.loops: list[int] = []
        self.count = 0

    def block(self, stmts: Sequence[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for i, s in enumerate(stmts):
            rest = list(stmts[i + 1 :])
            if isinstance(s, ast.Return):
                value = s.value if s.value is not None else ast.Constant(None)
                found += [
                    _at(ast.Assign([ast.Name(RESULT, ast.Store())], value), s),
                    _at(_set(RETURNED, True), s),
                ]
                return found
            if isinstance(s, (ast.Break, ast.Continue)):
                flag = _BROKEN if isinstance(s, ast.Break) else _SKIPPED
                return [*found, _at(_set(f"{flag}{self.loops[-1]}", True), s)]
            kinds = _kinds([s])
            if isinstance(s, ast.If) and kinds:
                gone = _gone(s)
                if _always(s.body):
                    return [*found, self._if(s, s.body, [*s.orelse, *rest], gone)]
                if s.orelse and _always(s.orelse):
                    return [*found, self._if(s, [*s.body, *rest], s.orelse, gone)]
            found += self._statement(s)
            if kinds and rest:
                guard = ast.If(_not_any(self._flags(kinds)), self.block(rest), [])
                guard.gone = "orelse" if kinds == {"return"} else ""  # type: ignore[attr-defined]
                return [*found, _at(guard, rest[0])]
        return found

    def _flags(self, kinds: frozenset[str]) -> list[str]:
        names = {"return": RETURNED}
        if self.loops:
            names["break"] = f"{_BROKEN}{self.loops[-1]}"
            names["continue"] = f"{_SKIPPED}{self.loops[-1]}"
        return [names[k] for k in sorted(kinds)]

    def _if(self, s: ast.If, body: Any, orelse: Any, gone: str) -> ast.stmt:
        made = ast.copy_location(ast.If(s.test, self.block(body), self.block(orelse)), s)
        made.gone = gone  # type: ignore[attr-defined]
        return made

    def _statement(self, s: Any) -> list[ast.stmt]:
        if isinstance(s, ast.If):
            return [self._if(s, s.body, s.orelse, "")]
        if isinstance(s, (ast.While, ast.For)):
            return self._loop(s)
        if isinstance(s, ast.With):
            return [ast.copy_location(ast.With(s.items, self.block(s.body)), s)]
        if isinstance(s, (ast.Try, ast.TryStar)):
            return [self._try(s)]
        if isinstance(s, ast.Match):
            cases = [ast.match_case(c.pattern, c.guard, self.block(c.body)) for c in s.cases]
            return [ast.copy_location(ast.Match(s.subject, cases), s)]
        return [s]

    def _loop(self, s: Any) -> list[ast.stmt]:
        if _binds(s) and not _kinds(s.orelse) & {"break", "continue"}:
            leave = _at(ast.If(s.test, [ast.Pass()], [*s.orelse, ast.Break()]), s)
            always = ast.copy_location(ast.Constant(True), s.test)
            s = ast.copy_location(ast.While(always, [leave, *s.body], []), s)
        self.count += 1
        number = self.count
        self.loops.append(number)
        body = [_at(_set(f"{_SKIPPED}{number}", False), s), *self.block(s.body)]
        kinds = _kinds(s.body) - {"continue"}
        flags = self._flags(kinds)
        self.loops.pop()
        goes = _at(_not_any(flags), s) if flags else None
        made: Any
        if isinstance(s, ast.For):
            made = ast.For(s.target, s.iter, body, [])
            made.keep = goes
        else:
            test = s.test if goes is None else _at(ast.BoolOp(ast.And(), [goes, s.test]), s)
            made = ast.While(test, body, [])
        found: list[ast.stmt] = [ast.copy_location(made, s)]
        if "break" in kinds:
            found.insert(0, _at(_set(f"{_BROKEN}{number}", False), s))
        if s.orelse and flags:
            guard = ast.If(_not_any(flags), self.block(s.orelse), [])
            found.append(_at(guard, s.orelse[0]))
        elif s.orelse:
            found += self.block(s.orelse)
        return found

    def _try(self, s: Any) -> ast.stmt:
        kinds = _kinds(s.body)
        orelse = self.block(s.orelse)
        if kinds and orelse:
            orelse = [_at(ast.If(_not_any(self._flags(kinds)), orelse, []), s.orelse[0])]
        handlers = []
        for h in s.handlers:
            made = ast.ExceptHandler(h.type, h.name, self.block(h.body))
            handlers.append(ast.copy_location(made, h))
        return ast.copy_location(  # type: ignore[no-any-return]
            type(s)(self.block(s.body), handlers, orelse, self.block(s.finalbody)), s
        )


def _without_unread(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without the setting of flags that nobody reads."""
    nodes = [n for s in body for n in ast.walk(s)]
    tests = [n.keep for n in nodes if getattr(n, "keep", None) is not None]  # type: ignore[attr-defined]
    nodes += [n for test in tests for n in ast.walk(test)]
    seen = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return _Sweep(seen).block(body)


@final
class _Sweep:
    def __init__(self, seen: set[str]) -> None:
        self.seen = seen

    def block(self, body: list[Any]) -> list[Any]:
        kept = [s for s in body if not self._unread(s)]
        for s in kept:
            for field in ("body", "orelse", "finalbody"):
                inner = getattr(s, field, None)
                if isinstance(inner, list) and not isinstance(s, _OWN):
                    setattr(s, field, self.block(inner))
                    if not getattr(s, field) and field == "body":
                        s.body = [ast.copy_location(ast.Pass(), s)]
            for part in [*getattr(s, "handlers", []), *getattr(s, "cases", [])]:
                like = part if hasattr(part, "lineno") else s
                part.body = self.block(part.body) or [ast.copy_location(ast.Pass(), like)]
        return kept

    def _unread(self, s: Any) -> bool:
        if not isinstance(s, ast.Assign) or not isinstance(s.targets[0], ast.Name):
            return False
        name = s.targets[0].id
        flag = name.startswith((_BROKEN, _SKIPPED, RETURNED))
        return flag and name not in self.seen
