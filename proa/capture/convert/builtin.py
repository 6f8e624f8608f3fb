"""Builtins and reading methods that take recorded tensors where a converted function calls them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, final

from proa.capture.convert import functions
from proa.capture.convert.tensors import recorded
from proa.dtypes import bool_, float64, int64, weak_dtype
from proa.errors import ArgumentError, JitError, message
from proa.graph.node import Value, line_of
from proa.graph.spec import spec
from proa.ops.functions import cast
from proa.ops.movement import reshape
from proa.ops.operators import where
from proa.ops.primitive import apply
from proa.record.live import caller, thread
from proa.tensor import Tensor, off_tape


def weak_number(number: Any) -> Any:
    """A Python number as a tensor that is one still."""
    return Tensor(Value(None, 0, spec((), weak_dtype(number), True), number))


@final
class TensorRange:
    """A range of which a bound is a recorded tensor. Only `for` statements run over it."""

    def __init__(self, start: Any, stop: Any, step: Any) -> None:
        self.start = start
        self.stop = stop
        self.step = step

    def __iter__(self) -> Any:
        given = f"a range with a recorded bound at {line_of(caller(1))}"
        hint = "a `for` statement"
        raise JitError(message("convert", given, "Python numbers in a comprehension", hint))

    __len__ = __getitem__ = __reversed__ = __contains__ = __iter__


def _range(*bounds: Any) -> Any:
    if not any([recorded(b) for b in bounds]):
        return range(*bounds)
    for b in bounds:
        if recorded(b) and (b.dtype.kind != "int" or b.ndim):
            return range(*bounds)  # the error that it is without conversion
    start, stop, step = [(0, *bounds, 1), (*bounds, 1), bounds][len(bounds) - 1]
    return TensorRange(*[_int(b) if recorded(b) else b for b in (start, stop, step)])


def _scalar(x: Any, dtype: Any) -> Any:
    """A tensor of one element as a number of Python's."""
    if x.size != 1:
        raise ArgumentError(
            message(dtype.kind, f"shape {x.shape}", "a tensor of one element", "x.item() of one")
        )
    x = off_tape(x) if x.value.spec.grad else x
    x = apply(reshape, (x,), shape=()) if x.shape else x
    return apply(cast, (x,), dtype=dtype, weak=True)


def _int(x: Any = 0, *rest: Any) -> Any:
    return int(x, *rest) if rest or not recorded(x) else _scalar(x, int64)


def _float(x: Any = 0.0) -> Any:
    return _scalar(x, float64) if recorded(x) else float(x)


def _bool(x: Any = False) -> Any:
    return _scalar(x, bool_) if recorded(x) else bool(x)


def _item(x: Any) -> Any:
    if not recorded(x):
        return x.item()
    kind = x.dtype.kind
    if kind not in ("bool", "int", "float"):
        return x.item()
    return _scalar(x, {"bool": bool_, "int": int64, "float": float64}[kind])


def _folded(name: str, plain: Callable[..., Any], better: Callable[[Any, Any], Any]) -> Any:
    """`max` or `min`: the first that no later one beats, as Python finds it."""

    def fold(*args: Any, **options: Any) -> Any:
        rows = (
            list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) else list(args)
        )
        if options or len(rows) < 2 or not any([recorded(r) for r in rows]):
            return plain(*args, **options)
        if any(isinstance(r, Tensor) and r.size != 1 for r in rows):
            return plain(*args)  # the error that it is without conversion
        found, *rest = rows
        for r in rest:
            beats = better(r, found)
            found = where(beats, r, found) if isinstance(beats, Tensor) else (r if beats else found)
        return found

    return fold


def _print(*values: Any, **options: Any) -> None:
    if not any([recorded(v) for v in values]):
        builtins.print(*values, **options)
        return
    if options.keys() - {"sep", "end", "flush"}:
        given = f"print of a recorded tensor to a file at {line_of(caller(1))}"
        raise JitError(message("convert", given, "print without file=", "pa.print"))
    sep, end = options.get("sep"), options.get("end")
    row = values, " " if sep is None else sep, "\n" if end is None else end
    thread.state.capture.printed.append(row)


def asserted(test: Any, text: Callable[[], Any] | None, inside: bool) -> Any:
    """An assertion about a recorded tensor is checked when the call has run."""
    if not recorded(test):
        return test
    line = line_of(caller(2))
    if inside:
        given = f"an assertion about a recorded tensor in a branch or loop at {line}"
        hint = "an assertion after it, of a flag that it carries (`good = good and ...`)"
        raise JitError(message("convert", given, "one outside of branches", hint))
    words = "" if text is None else f"{text()}"
    thread.state.capture.printed.append(((test,), Check(words, line), ""))
    return True


@final
class Check:
    """Stands where a separator does among what is printed after a call: raises if it was false."""

    def __init__(self, words: str, line: str) -> None:
        self.words = words
        self.line = line

    def __repr__(self) -> str:
        return f"assert at {self.line} {self.words}"

    def __call__(self, found: Any) -> None:
        if not found:
            raise AssertionError(self.words or f"at {self.line}")


functions.replaced.update({
    range: _range, int: _int, float: _float, bool: _bool, builtins.print: _print,
    max: _folded("max", max, lambda a, b: a > b), min: _folded("min", min, lambda a, b: a < b),
})  # fmt: skip
functions.methods["item"] = _item
