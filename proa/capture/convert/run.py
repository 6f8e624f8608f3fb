"""What converted functions call in the place of their control flow.

Each asks first whether its condition is a recorded tensor. If not, Python runs as it was written;
if so, the statement becomes an operation of the graph.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import proa.capture.convert.builtin as _builtin  # builtins that take recorded tensors
from proa.capture.convert import functions, state
from proa.capture.convert.branches import branched, condition, refuse_lost_changes
from proa.capture.convert.builtin import TensorRange, weak_number
from proa.capture.convert.functions import of
from proa.capture.convert.loops import Peel, looped, scanned
from proa.capture.convert.state import CONTAINERS, Box, Unfixed, places_of, stack
from proa.capture.convert.tensors import recorded
from proa.errors import JitError, message
from proa.graph.node import line_of
from proa.ops.functions import not_ as logical_not
from proa.record.live import CAPTURE, caller, thread
from proa.tensor import Tensor

__all__ = ["of"]
unbound: Final = NameError


# Statements.


def if_(
    test: Any, then: Any, other: Any, names: Sequence[str], dead: Sequence[str], gone: str
) -> None:
    if not recorded(test):
        chosen = then if test else other
        if chosen is not None:
            chosen()
        return
    places = [*places_of(names, [then, other]), *places_of(dead, [then, other], True)]
    sides = [f if f is not None else _nothing for f in (then, other)]
    left = (gone == "body", gone == "orelse")
    branched(test, sides, places, [then, other], "an `if`", left)


def _nothing() -> None:
    pass


def while_(test: Any, body: Any, names: Sequence[str]) -> None:
    while True:
        goes = test()
        if recorded(goes):
            break
        if not goes:
            return
        body()
    _loop(test, body, names, "a `while`", [test, body])


def _loop(
    test: Any, body: Any, names: Sequence[str], what: str, functions_: Sequence[Any],
    hidden: Sequence[Any] = (), most: int | None = None,
) -> None:  # fmt: skip
    places = [*places_of(names, functions_), *hidden]
    line = line_of(caller(1))
    try:
        looped(test, body, places, functions_, what, most, line=line)
        return
    except Peel:
        pass  # and what the exception holds is let go
    rows = branched(test(), [body, _nothing], places, functions_, what, peeled=True)
    rest = None if most is None else most - 1
    looped(test, body, places, functions_, what, rest, again=True, line=line)
    for place, olds in rows:
        found = place.get()
        if type(found) is Tensor:
            refuse_lost_changes([found], [olds])


def for_(rows: Any, body: Any, keep: Any, names: Sequence[str]) -> None:
    if type(rows) is TensorRange:
        _counted(rows.start, rows.stop, rows.step, body, keep, names, None)
    elif type(rows) is Tensor and recorded(rows) and rows.ndim and rows.shape[0]:
        try:
            _rows(rows, body, keep, names)
        except Unfixed:
            _each(iter(rows), rows, body, keep, names)
    else:
        _each(iter(rows), rows, body, keep, names)


def _rows(rows: Any, body: Any, keep: Any, names: Sequence[str]) -> None:
    given = [body, keep]
    places = places_of(names, given)
    what = "a `for` over rows"
    try:
        scanned(keep, body, rows, places, given, what)
        return
    except Peel:
        pass
    body(rows[0])
    goes = True if keep is None else keep()
    if rows.shape[0] > 1 and (recorded(goes) or goes):
        scanned(keep, body, rows[1:], places, given, what, again=True)


def _each(items: Any, rows: Any, body: Any, keep: Any, names: Sequence[str]) -> None:
    """Unrolled; from where a recorded tensor decides whether the loop goes on, guarded."""
    done = 0
    for item in items:
        body(item)
        done += 1
        if keep is None:
            continue
        goes = keep()
        if recorded(goes):
            break
        if not goes:
            return
    else:
        return
    if type(rows) is range and done < len(rows):
        rest = rows[done:]
        try:
            _counted(rest.start, rest.stop, rest.step, body, keep, names, len(rest))
            return
        except Unfixed:
            pass
    for item in items:
        _guarded(keep, body, item, names)


def _guarded(keep: Any, body: Any, item: Any, names: Sequence[str]) -> None:
    goes = keep()
    if not recorded(goes):
        if goes:
            body(item)
        return
    places = places_of(names, [body, keep])
    branched(goes, [lambda: body(item), _nothing], places, [body, keep], "a `for`")


def _counted(
    start: Any, stop: Any, step: Any, body: Any, keep: Any, names: Sequence[str], most: int | None
) -> None:
    """A loop over a range of which a bound is recorded, or that a recorded tensor may end."""
    counter = Box(start if recorded(start) else weak_number(start), "the counter")
    if recorded(step):
        given = f"a range with a recorded step at {line_of(caller(2))}"
        raise JitError(
            message("convert", given, "a Python number as its step", "a `while` statement")
        )

    def test() -> Any:
        at = counter.get()
        goes = at < stop if step > 0 else at > stop
        return goes if keep is None else and_(goes, keep, True)

    def turn() -> None:
        at = counter.get()
        body(at)
        counter.set(at + step)

    _loop(test, turn, names, "a `for` over a range", [body, keep], [counter], most)


# Expressions.


def choose(test: Any, then: Callable[[], Any], other: Callable[[], Any]) -> Any:
    if not recorded(test):
        return then() if test else other()
    box = Box()
    sides = [lambda: box.set(then()), lambda: box.set(other())]
    branched(test, sides, [box], [then, other], "a conditional expression")
    return box.get()


def and_(first: Any, second: Callable[[], Any], simple: bool) -> Any:
    if not recorded(first):
        return first and second()
    if simple:
        found = second()
        if type(found) is bool:
            return condition(first) if found else False
        if _is_condition(first) and _is_condition(found):
            return first & found
        return choose(first, lambda: found, lambda: first)
    return choose(first, second, lambda: first)


def or_(first: Any, second: Callable[[], Any], simple: bool) -> Any:
    if not recorded(first):
        return first or second()
    if simple:
        found = second()
        if type(found) is bool:
            return True if found else condition(first)
        if _is_condition(first) and _is_condition(found):
            return first | found
        return choose(first, lambda: first, lambda: found)
    return choose(first, lambda: first, second)


def _is_condition(found: Any) -> bool:
    return type(found) is Tensor and found.dtype.kind == "bool" and not found.shape


def not_(found: Any) -> Any:
    return logical_not(condition(found)) if recorded(found) else not found


def compared(ops: Sequence[str], first: Any, second: Any, *rest: Callable[[], Any]) -> Any:
    """`a < b < c`, in which b is computed once and c only if it matters."""
    found = _compare(ops[0], first, second)
    if not rest:
        return found

    def later() -> Any:
        return compared(ops[1:], second, rest[0](), *rest[1:])

    return and_(found, later, True)


def _compare(op: str, a: Any, b: Any) -> Any:
    if op in ("in_", "not_in"):
        return (a in b) is (op == "in_")
    return getattr(operator, op)(a, b)


def changed(op: str, old: Any, value: Any) -> Any:
    """`old op= value`. What stands for a Python number is never changed in place."""
    if type(old) is Tensor and old.value.spec.weak and recorded(old):
        return getattr(operator, _WITHOUT_I.get(op, op[1:]))(old, value)
    if isinstance(old, CONTAINERS):
        container(old)
    return getattr(operator, op)(old, value)


_WITHOUT_I: Final = {"iand": "and_", "ior": "or_"}


# Python as it is, noted or refused.


def owner(found: Any, name: str) -> Any:
    """An object of which an attribute is assigned next."""
    if stack.regions:
        state.note_attribute(found, name)
    return found


def container(found: Any) -> Any:
    """What an item is assigned to next."""
    if stack.regions and isinstance(found, CONTAINERS):
        state.note_container(found)
    return found


def assigns(probe: Any, names: Sequence[str]) -> None:
    """A function begins that assigns variables of enclosing functions, or global ones."""
    if stack.regions:
        cells = zip(probe.__code__.co_freevars, probe.__closure__ or (), strict=True)
        state.note_variables(list(cells), probe.__globals__, names)


def truth(test: Any, why: str) -> Any:
    """A test that stays Python."""
    if recorded(test):
        given = f"a recorded tensor as the test in {why} at {line_of(caller(1))}"
        hint = "pa.where, a mask, or an `if` statement in a plain function"
        raise JitError(message("convert", given, "a Python value there", hint))
    return test


def subject(found: Any) -> Any:
    if recorded(found):
        given = f"`match` of a recorded tensor at {line_of(caller(1))}"
        raise JitError(message("convert", given, "a Python value", "if and elif"))
    return found


def asserted(test: Any, text: Callable[[], Any] | None) -> Any:
    return _builtin.asserted(test, text, bool(stack.regions))


def raised(error: Any) -> Any:
    """An exception that a branch raises is told apart from one that goes wrong in it."""
    made = error() if isinstance(error, type) and issubclass(error, BaseException) else error
    if stack.regions and isinstance(made, Exception):
        made.__dict__["_proa_raised"] = True
    return made


def explained(error: NameError) -> Exception:
    """A name that only one branch defines has an error that says so."""
    named = re.search(r"'(\w+)'", str(error))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if named is None or trace is None or not thread.state.mode & CAPTURE:
        return error
    file = trace.tb_frame.f_code.co_filename
    reason = stack.reasons.get((file, named.group(1)))
    if reason is None:
        return error
    line = f"{file}:{trace.tb_lineno}"
    hint = "a value before it"
    return JitError(
        message("convert", f"the reading at {line} of {reason}", "a value on both sides", hint)
    )


functions.supply(sys.modules[__name__])
