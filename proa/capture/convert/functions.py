"""Functions, converted: which are, and how one is built on the cells and globals of its original.

`of(f)` is what a converted function calls in the place of f. What a user wrote is converted when
it is first called, once for each code object; the library, NumPy, the standard library and
installed packages stay as they are.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from copy import deepcopy
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Final

from proa.capture.convert import source
from proa.capture.convert.jumps import jumps
from proa.capture.convert.rewrite import HELPER, rewritten
from proa.capture.convert.source import Unreadable
from proa.capture.skeleton import is_foreign
from proa.errors import DtypeError, JitError, message
from proa.record.live import CAPTURE, CONVERT, inside_library, thread, use_mode
from proa.tensor import Tensor

_MADE: Final[dict[int, tuple[CodeType, CodeType]]] = {}  # by the id of the original, held here
_OURS: Final[dict[int, CodeType]] = {}
_FAILED: Final[dict[int, CodeType]] = {}
replaced: Final[dict[Any, Any]] = {}  # builtins that take recorded tensors, supplied by `builtin`
methods: Final[dict[str, Any]] = {}  # methods of Tensor that read, likewise
_helper: list[Any] = []


def converted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its control flow converted, and that of the functions that it calls.

    Called while something is recorded (`pa.jit`, `pa.export`, `pa.vmap`), an `if`, `while` or
    `for` that depends on a recorded tensor becomes an operation of the graph; with Python values,
    and outside of recording, all runs as the Python that it is.

    Arguments:
        function: a function, a lambda, a method, a module, a partial, or a jitted function.

    Errors:
        DtypeError: it cannot be called.
        JitError: its source cannot be read, or it is a generator or a coroutine.

    >>> import proa as pa
    >>> def small(x):
    ...     while x > 1.0:
    ...         x = 0.5 * x
    ...     return x
    >>> pa.vmap(converted(small))(pa.asarray([8.0, 3.0])).tolist()
    [1.0, 0.75]
    """
    if not callable(function):
        raise DtypeError(message("convert", f"{function!r:.60}", "a function, method or module"))
    own = getattr(function, "__func__", function)
    if type(own) is FunctionType and not _is_foreign(own):
        if own.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | _ASYNC):
            given = f"`{own.__name__}`, a {_kind(own)}"
            raise JitError(
                message("convert", f"{given} at {source.place(own.__code__)}",
                        "a function that returns", "a plain function that returns a list")
            )  # fmt: skip
        _code(own)

    @functools.wraps(function, updated=())
    def run(*args: Any, **kwargs: Any) -> Any:
        with use_mode(CONVERT, True):
            return of(function)(*args, **kwargs)

    return run


_ASYNC: Final = inspect.CO_ASYNC_GENERATOR


def _kind(function: FunctionType) -> str:
    flags = function.__code__.co_flags
    if flags & inspect.CO_COROUTINE:
        return "coroutine"
    return "generator" if flags & (inspect.CO_GENERATOR | _ASYNC) else ""


def of(function: Any) -> Any:
    """What is called in the place of a function."""
    if not thread.state.mode & (CAPTURE | CONVERT):
        return function
    kind = type(function)
    if kind is FunctionType:
        if _is_foreign(function):
            return _lending(function) if inside_library(function.__code__.co_filename) else function
        return _function(function)
    if kind is MethodType:
        owner = function.__self__
        if type(owner) is Tensor:
            found = methods.get(function.__name__)
            return function if found is None else functools.partial(found, owner)
        if type(function.__func__) is FunctionType and not _is_foreign(function.__func__):
            return MethodType(_function(function.__func__), owner)
        return function
    if kind is functools.partial:
        return functools.partial(of(function.func), *function.args, **function.keywords)
    if isinstance(function, type):
        return replaced.get(function, function) if _hashable(function) else function
    if _hashable(function) and function in replaced:
        return replaced[function]
    own = inspect.getattr_static(kind, "__call__", None)
    if type(own) is FunctionType and not _is_foreign(own):
        return MethodType(_function(own), function)
    return touched(function)


def touched(function: Any) -> Any:
    """A method of a list, dict or set: what it changes is state of the branch that it is in."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, (list, dict, set, bytearray)):
        _helper[0].container(owner)
    return function


def _hashable(function: Any) -> bool:
    return type(function).__hash__ is not None


def _lending(function: FunctionType) -> Any:
    """A function of the library that may call what it is given: it is given converted functions."""

    @functools.wraps(function)
    def lend(*args: Any, **kwargs: Any) -> Any:
        given = [_lent(a) for a in args]
        return function(*given, **{k: _lent(v) for k, v in kwargs.items()})

    return lend


def _lent(argument: Any) -> Any:
    if type(argument) is FunctionType and not _is_foreign(argument):
        return _function(argument)
    if type(argument) is MethodType and type(argument.__func__) is FunctionType:
        return of(argument)
    if type(argument) in (list, tuple):
        return type(argument)([_lent(a) for a in argument])
    return argument


def _is_foreign(function: FunctionType) -> bool:
    """Whether somebody else wrote it: by its file, then by its module. Examples are users' code."""
    file = function.__code__.co_filename
    if inside_library(file):
        return True
    module = function.__module__
    own = module == "__main__" or (isinstance(module, str) and module.partition(".")[0] == "proa")
    return "site-packages" in file or (not own and is_foreign(module))


def _function(function: FunctionType) -> FunctionType:
    """The function converted; itself where there is no source (its control flow is Python's)."""
    code = function.__code__
    if id(code) in _OURS or id(code) in _FAILED:
        return function
    try:
        made = _code(function)
    except Unreadable:
        _FAILED[id(code)] = code
        return function
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    cells[HELPER] = CellType(_helper[0])
    closure = tuple([cells[name] for name in made.co_freevars])
    new = FunctionType(made, function.__globals__, code.co_name, function.__defaults__, closure)
    new.__kwdefaults__ = function.__kwdefaults__
    new.__annotations__ = function.__annotations__
    new.__dict__.update(function.__dict__)
    new.__qualname__, new.__doc__ = function.__qualname__, function.__doc__
    new.__module__ = function.__module__
    return new


def _code(function: FunctionType) -> CodeType:
    """The converted code, made once for each original."""
    code = function.__code__
    found = _MADE.get(id(code))
    if found is None:
        made = _made(function)
        _OURS[id(made)] = made
        found = _MADE[id(code)] = (code, made)
    return found[1]


def _made(function: FunctionType) -> CodeType:
    code = function.__code__
    node = deepcopy(source.definition(function))
    kept = _kind(function)
    _refuse_finally(node, code)
    why = f"a {kept}" if kept else ""
    new = rewritten(node, _owner(function), why)
    free = [HELPER, *code.co_freevars]
    arguments = ast.arguments([], [ast.arg(n) for n in free], None, [], [], None, [])
    factory = ast.FunctionDef("factory", arguments, [new], [], None)
    module = ast.fix_missing_locations(ast.Module([ast.copy_location(factory, new)], []))
    flags = code.co_flags & _FUTURE
    whole = compile(module, code.co_filename, "exec", flags=flags, dont_inherit=True)
    (outer,) = [c for c in whole.co_consts if type(c) is CodeType]
    (made,) = [c for c in outer.co_consts if type(c) is CodeType]
    return made.replace(co_firstlineno=code.co_firstlineno, co_name=code.co_name,
                        co_qualname=code.co_qualname)  # fmt: skip


_FUTURE: Final = 0x1000000  # annotations are text


def _owner(function: FunctionType) -> str:
    """The class that a method was written in."""
    path = function.__qualname__.split(".")
    return path[-2] if len(path) > 1 and path[-2] != "<locals>" else ""


def _refuse_finally(node: Any, code: CodeType) -> None:
    """A `return` in `finally` throws errors away, also those of what cannot be converted."""
    for part in ast.walk(node):
        if isinstance(part, (ast.Try, ast.TryStar)) and jumps(part.finalbody):
            line = part.finalbody[0].lineno
            given = f"`{code.co_name}`, which leaves from `finally` at {code.co_filename}:{line}"
            hint = "a `return` after the `try` statement"
            raise JitError(
                message(
                    "convert", f"{given}{part.finalbody[0].lineno}", "a `finally` that ends", hint
                )
            )


def supply(helper: Any) -> None:
    """The module of helpers, given by `run`."""
    _helper[:] = [helper]
