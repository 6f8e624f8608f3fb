"""A function's definition with its control flow as calls of helpers (`run.py`).

    if a:                         def body():
        x = f(b)                      nonlocal x
                          ->          x = proa.of(f)(b)
                                  proa.if_(a, body, None, ("x",), "")

The bodies are functions inside the function: they run as they are, or are recorded. The names in
the tuple are the state, which helpers find in the cells of the bodies. Line numbers stay.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Final, final

from proa.capture.convert import names
from proa.capture.convert.jumps import lowered

HELPER: Final = "_proa"
FUNCTION: Final = "_proa_function"  # not its own name, by which it may call itself
_ITEM: Final = "_proa_item"
_FRAME: Final = frozenset({"super", "locals", "globals", "vars", "dir", "eval", "exec"})
_OPS: Final[dict[type, str]] = {
    ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne",
    ast.Is: "is_", ast.IsNot: "is_not", ast.In: "in_", ast.NotIn: "not_in",
    ast.Add: "iadd", ast.Sub: "isub", ast.Mult: "imul", ast.Div: "itruediv",
    ast.FloorDiv: "ifloordiv", ast.Mod: "imod", ast.Pow: "ipow", ast.MatMult: "imatmul",
    ast.BitAnd: "iand", ast.BitOr: "ior", ast.BitXor: "ixor", ast.LShift: "ilshift",
    ast.RShift: "irshift",
}  # fmt: skip


def rewritten(node: Any, owner: str, why: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The definition as a function without decorators, defaults and annotations.

    Arguments:
        node: a definition that nobody else holds.
        owner: the class whose private names it uses, or nothing.
        why: what keeps its control flow in Python (it is a generator, ...), or nothing.
    """
    if isinstance(node, ast.Lambda):
        value = ast.copy_location(ast.Return(node.body), node.body)
        body: list[ast.stmt] = [value]
    else:
        body = _without_docstring(node.body)
    _Mangled(owner).visit(ast.Module(body, []))
    if not why:
        body = lowered(body)
    arguments = _bare(node.args)
    own = {a.arg for a in ast.walk(arguments) if isinstance(a, ast.arg)}
    scope = _Function(body, own, why, next(iter(own), ""), arguments)
    made = scope.statements(body)
    body = [*scope.bindings(made, own), *scope.noted(node), *made] or [ast.Pass()]
    body = [_guarded(body)]
    kind = ast.AsyncFunctionDef if isinstance(node, ast.AsyncFunctionDef) else ast.FunctionDef
    found = kind(FUNCTION, arguments, body, [], None)
    return ast.fix_missing_locations(ast.copy_location(found, node))


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] or [ast.copy_location(ast.Pass(), first)] if text else list(body)


def _bare(a: ast.arguments) -> ast.arguments:
    for row in ast.walk(a):
        if isinstance(row, ast.arg):
            row.annotation = None
    a.defaults = [ast.Constant(None) for _ in a.defaults]
    a.kw_defaults = [None if d is None else ast.Constant(None) for d in a.kw_defaults]
    return a


def _guarded(body: list[ast.stmt]) -> ast.stmt:
    """Reading a name that only one branch defines is explained."""
    again = ast.Raise(_call("explained", ast.Name("_proa_error", ast.Load())), None)
    handler = ast.ExceptHandler(ast.Name("NameError", ast.Load()), "_proa_error", [again])
    handler.type = _helper("unbound")
    return ast.copy_location(ast.Try(body, [handler], [], []), body[0])


def _helper(name: str) -> ast.expr:
    return ast.Attribute(ast.Name(HELPER, ast.Load()), name, ast.Load())


def _call(name: str, *args: ast.expr) -> ast.expr:
    return ast.Call(_helper(name), list(args), [])


def _at_start(made: Any, like: Any) -> Any:
    """A call of a helper stands on the first line of what it stands for, and there alone: of a call
    that spans lines Python takes the last for its place."""
    for part in (made, made.func, made.func.value):
        part.lineno = part.end_lineno = like.lineno
        part.col_offset = part.end_col_offset = like.col_offset
    return made


def _thunk(value: ast.expr) -> ast.expr:
    empty = ast.arguments([], [], None, [], [], None, [])
    return ast.Lambda(empty, value)


def _strings(found: Any) -> ast.expr:
    return ast.Tuple([ast.Constant(n) for n in sorted(found)], ast.Load())


@final
class _Mangled(ast.NodeTransformer):
    """`__name` inside a class is `_Class__name`."""

    def __init__(self, owner: str) -> None:
        self.owner = owner.lstrip("_")

    def _name(self, name: str) -> str:
        private = name.startswith("__") and not name.endswith("__") and self.owner
        return f"_{self.owner}{name}" if private else name

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = self._name(node.attr)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._name(node.id)
        return node


@final
class _Function(ast.NodeTransformer):
    """One function's statements and expressions. `own` are its parameters."""

    def __init__(
        self, body: list[ast.stmt], own: set[str], why: str, first: str, args: ast.arguments
    ) -> None:
        self.why = why
        rows = [*args.posonlyargs, *args.args]
        self.first = rows[0].arg if rows else first
        self.globals = names.declared(body, ast.Global)
        self.outside = names.declared(body, ast.Nonlocal)
        self.shared = names.captured(body) | self.globals | self.outside
        self.locals = (names.assigned(body) | own) - self.globals
        self.count = 0
        if not why:
            names.living(body, self.shared)

    # Statements.

    def statements(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for s in body:
            made = self.visit(s)
            found += made if isinstance(made, list) else [made]
        return found

    def bindings(self, body: Sequence[ast.stmt], own: Any) -> list[ast.stmt]:
        """Names that inner bodies assign are bound here, in a statement that never runs."""
        wanted: set[str] = set()
        stack: list[Any] = list(body)
        while stack:
            node = stack.pop()
            if isinstance(node, ast.FunctionDef) and node.name.startswith(f"{HELPER}_"):
                first = node.body[0]
                wanted.update(first.names if isinstance(first, ast.Nonlocal) else ())
            elif not isinstance(node, names.SCOPES):
                stack += ast.iter_child_nodes(node)
        mine = names.declared(body, ast.Nonlocal)
        rest = sorted(wanted - set(own) - mine - self.globals - self.outside)
        if not rest:
            return []
        never = [ast.Assign([ast.Name(n, ast.Store())], ast.Constant(None)) for n in rest]
        made: ast.stmt = ast.If(ast.Constant(False), list(never), [])
        return [ast.copy_location(made, body[0])]

    def noted(self, like: Any) -> list[ast.stmt]:
        """Variables of others that this function assigns are state of the branch that calls it."""
        if self.why or not (self.outside or self.globals):
            return []
        rows: list[ast.expr] = [ast.Name(n, ast.Load()) for n in sorted(self.outside)]
        probe = _thunk(ast.Tuple(rows, ast.Load()))
        return [self._run("assigns", like, probe, _strings(self.globals))]

    def _body(
        self, kind: str, body: Sequence[ast.stmt], state: Any, like: Any, item: str = ""
    ) -> tuple[str, ast.stmt]:  # fmt: skip
        """A body as a function: what is state, or shared with other functions, is not its own."""
        self.count += 1
        name = f"_proa_{kind}_{self.count}"
        bound = names.assigned(body) & (self.locals | self.outside)
        outer = sorted(bound & (state | self.shared))
        made = self.statements(body)
        head: list[ast.stmt] = [ast.Nonlocal(outer)] if outer else []
        globals_ = sorted(names.assigned(body) & self.globals)
        head += [ast.Global(globals_)] if globals_ else []
        # What inner bodies take from here and this one does not take from outside is its own.
        own = self.bindings(made, outer)
        made = made or [ast.Pass()]
        args = [ast.arg(item)] if item else []
        arguments = ast.arguments([], args, None, [], [], None, [])
        function = ast.FunctionDef(name, arguments, [*head, *own, *made], [], None)
        return name, ast.copy_location(function, like)

    def _run(self, helper: str, like: Any, *args: Any) -> ast.stmt:
        given = [a if isinstance(a, ast.expr) else _named(a) for a in args]
        return ast.copy_location(ast.Expr(_at_start(_call(helper, *given), like)), like)

    def visit_If(self, node: Any) -> Any:
        if self.why:
            node.test = self._truth(node.test, "if")
            return self._inside(node)
        test = self.visit(node.test)
        rows = []
        for kind, body in (("then", node.body), ("else", node.orelse)):
            outer = node.state | node.dead
            rows.append(self._body(kind, body, outer, node) if body else ("", None))
        gone = ast.Constant(getattr(node, "gone", ""))
        (then, first), (other, second) = rows
        names_ = _strings(node.state), _strings(node.dead)
        call = self._run("if_", node, test, then, other, *names_, gone)
        return [*[d for d in (first, second) if d is not None], call]

    def visit_While(self, node: Any) -> Any:
        if self.why:
            node.test = self._truth(node.test, "while")
            return self._inside(node)
        returned = ast.copy_location(ast.Return(node.test), node.test)
        test, first = self._body("test", [returned], node.state, node)
        body, second = self._body("body", node.body, node.state, node)
        return [first, second, self._run("while_", node, test, body, _strings(node.state))]

    def visit_For(self, node: Any) -> Any:
        if self.why:
            node.iter = self.visit(node.iter)
            node.target = self.visit(node.target)
            return self._inside(node)
        rows = self.visit(node.iter)
        bind = ast.Assign([node.target], ast.Name(_ITEM, ast.Load()))
        ast.copy_location(bind, node)
        bind.value = ast.copy_location(ast.Name(_ITEM, ast.Load()), node.target)
        body, first = self._body("body", [bind, *node.body], node.state, node, _ITEM)
        keep: ast.stmt | None = None
        goes = ""
        if getattr(node, "keep", None) is not None:
            returned = ast.copy_location(ast.Return(node.keep), node)
            goes, keep = self._body("keep", [returned], node.state, node)
        call = self._run("for_", node, rows, body, goes, _strings(node.state))
        return [d for d in (first, keep, call) if d is not None]

    def _inside(self, node: Any) -> Any:
        """A statement that stays what it is, with what is inside it changed."""
        node.body = self.statements(node.body)
        node.orelse = self.statements(node.orelse)
        return node

    def visit_Assert(self, node: ast.Assert) -> Any:
        text = _thunk(self.visit(node.msg)) if node.msg is not None else ast.Constant(None)
        test = self.visit(node.test)
        checked = _at_start(_call("asserted", test, text), node.test)
        return ast.copy_location(ast.Assert(checked, node.msg), node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        self.generic_visit(node)
        if node.exc is not None:
            node.exc = _at_start(_call("raised", node.exc), node.exc)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        if not isinstance(node.target, ast.Name):
            return node
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        target = node.target
        self.generic_visit(node)
        if not isinstance(target, ast.Name):
            return node
        old = ast.copy_location(ast.Name(target.id, ast.Load()), target)
        made = _call("changed", ast.Constant(_OPS[type(node.op)]), old, node.value)
        value = _at_start(made, node)
        return ast.copy_location(ast.Assign([target], value), node)

    def visit_Match(self, node: ast.Match) -> Any:
        node.subject = _at_start(_call("subject", self.visit(node.subject)), node)
        for case in node.cases:
            if case.guard is not None:
                case.guard = self._truth(case.guard, "match")
            case.body = self.statements(case.body)
        return node

    def _scope(self, node: Any) -> Any:
        """Functions that are made here are converted when they are called."""
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _scope  # noqa: N815

    def visit_Global(self, node: ast.Global) -> Any:
        return node

    # Expressions.

    def _truth(self, test: ast.expr, what: str) -> ast.expr:
        """A test that stays Python: of a recorded tensor it is an error of its own."""
        why = ast.Constant(self.why or what)
        found: ast.expr = _at_start(_call("truth", self.visit(test), why), test)
        return found

    def _lazy(self, *values: ast.expr) -> bool:
        """Whether expressions may become functions of their own."""
        kinds = (ast.NamedExpr, ast.Yield, ast.YieldFrom, ast.Await)
        return not any(isinstance(p, kinds) for v in values for p in ast.walk(v))

    def visit_Call(self, node: ast.Call) -> Any:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _FRAME:
            self.generic_visit(node)
            if function.id == "super" and not node.args and self.first:
                own = [ast.Name("__class__", ast.Load()), ast.Name(self.first, ast.Load())]
                node.args = [ast.copy_location(n, node) for n in own]
            return node
        self.generic_visit(node)
        node.func = _at_start(_call("of", node.func), node.func)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        what = "and" if isinstance(node.op, ast.And) else "or"
        if self.why or not self._lazy(*node.values[1:]):
            rows = [self._truth(v, f"an `{what}` with `:=`") for v in node.values[:-1]]
            node.values = [*rows, self.visit(node.values[-1])]
            return node
        *rows, found = node.values
        simple = _simple(found)
        found = self.visit(found)
        for value in reversed(rows):
            plain = ast.Constant(simple)
            simple = simple and _simple(value)
            made = _call(f"{what}_", self.visit(value), _thunk(found), plain)
            found = _at_start(made, node)
        return found

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Not):
            return node
        return _at_start(_call("not_", node.operand), node)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        if self.why or not self._lazy(node.body, node.orelse):
            node.test = self._truth(node.test, "a conditional expression with `:=`")
            node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
            return node
        self.generic_visit(node)
        made = _call("choose", node.test, _thunk(node.body), _thunk(node.orelse))
        return _at_start(made, node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) == 1 or self.why or not self._lazy(*node.comparators[1:]):
            return self.generic_visit(node)
        self.generic_visit(node)
        ops = ast.Tuple([ast.Constant(_OPS[type(op)]) for op in node.ops], ast.Load())
        first, *rest = node.comparators
        made = _call("compared", ops, node.left, first, *[_thunk(v) for v in rest])
        return _at_start(made, node)

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        tests = [self._truth(t, "a comprehension") for t in node.ifs]
        node.iter, node.target, node.ifs = self.visit(node.iter), node.target, tests
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            made = _call("owner", node.value, ast.Constant(node.attr))
            node.value = _at_start(made, node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = _at_start(_call("container", node.value), node.value)
        return node


def _named(name: str) -> ast.expr:
    return ast.Name(name, ast.Load()) if name else ast.Constant(None)


def _simple(node: ast.expr) -> bool:
    """Whether computing it in vain does no harm: it calls nothing."""
    return not any(isinstance(p, (ast.Call, ast.Await)) for p in ast.walk(node))
