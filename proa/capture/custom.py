"""Derivatives of one's own: `custom_vjp` for reverse mode, `custom_jvp` for both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any, Final, NamedTuple, final

from proa import dtypes
from proa.capture.control import Form, need_function, need_same, specs_of, taken, traced
from proa.capture.skeleton import Skeleton, roots
from proa.capture.trace import Traced
from proa.errors import ArgumentError, GradientError, message
from proa.graph.node import Value
from proa.graph.spec import Spec
from proa.ops.functions import bitcast
from proa.ops.movement import zeros
from proa.ops.primitive import Primitive, apply
from proa.record.live import NO_GRAD, thread
from proa.shapes import as_list
from proa.tensor import Tensor
from proa.transforms import linear

MOST_ORDERS: Final = 4  # of derivatives, where a rule calls the function that it is for
_BY_VALUE: Final = (int, str, bytes, float, complex, type(None))


class _Kept(NamedTuple):
    """What was traced for arguments of some structure: the function, its rule, its result."""

    main: Traced
    rule: Traced | None
    result: Form

    @property
    def captured(self) -> list[Value]:
        return [*self.main.captured, *(self.rule.captured if self.rule is not None else ())]


@final
class _Inside(threading.local):
    """The functions whose rules this thread is tracing, each in the rule of the one before."""

    def __init__(self) -> None:
        self.of: list[Any] = []


_inside: Final = _Inside()


class _Custom:
    """A function of tensors with a rule. Abstract."""

    name = ""
    primitive: Primitive

    def __init__(self, function: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        need_function(self.name, "the function", function)
        self.function = function
        self.nondiff = tuple(as_list(self.name, "nondiff_argnums", nondiff_argnums))
        if any(type(i) is not int or i < 0 for i in self.nondiff):
            expected = "positions of arguments, from 0"
            given = f"nondiff_argnums {nondiff_argnums!r:.60}"
            raise ArgumentError(message(self.name, given, expected))
        self.rules: tuple[Callable[..., Any], ...] = ()
        self.traces: dict[Any, _Kept] = {}
        self.skeleton = Skeleton(self._reached)
        update_wrapper(self, function, updated=())

    def _rule_for(self, statics: tuple[Any, ...], form: Form, specs: list[Spec],
                  main: Traced, result: Form) -> Traced:  # fmt: skip
        """The rule, traced for arguments of these specs."""
        raise NotImplementedError

    def _missing(self) -> str:
        raise NotImplementedError

    def _give(self, *rules: Callable[..., Any]) -> None:
        for rule in rules:
            need_function(self.name, "a rule", rule)
        self.rules = rules
        self.traces.clear()

    def _reached(self) -> list[Any]:
        return [r for f in (self.function, *self.rules) for r in roots(f)]

    def __call__(self, *args: Any) -> Any:
        if not self.rules:
            raise GradientError(message(self.name, "a function without a rule", self._missing()))
        if any(i >= len(args) for i in self.nondiff):
            given = f"nondiff_argnums {self.nondiff} and {len(args)} arguments"
            raise ArgumentError(message(self.name, given, "so many arguments"))
        statics = tuple([args[i] for i in self.nondiff])
        values, form = taken(self.name, [a for i, a in enumerate(args) if i not in self.nondiff])
        kept = self._traced(statics, values, form)
        if not thread.state.mode & NO_GRAD and _reads_tape(kept.main):
            given = "a function that reads a tensor on the tape from outside"
            expected = "all that is differentiated as arguments"
            hint = "giving it as an argument, or .detach()"
            raise GradientError(message(self.name, given, expected, hint))
        graph, rule = kept.main.graph, None if kept.rule is None else kept.rule.graph
        params = {"graph": graph, "rule": rule, "count": len(values)}
        outs = apply(self.primitive, [*values, *kept.captured], **params) if graph.outputs else ()
        return kept.result.filled(outs if isinstance(outs, tuple) else (outs,))

    def _traced(self, statics: tuple[Any, ...], values: list[Any], form: Form) -> _Kept:
        specs = [s.plain for s in specs_of(values)]
        known = all(isinstance(s, _BY_VALUE) for s in statics)
        fixed = tuple([(type(s), s) for s in statics]) if known else None
        depth = _inside.of.count(self)
        key = (fixed, form, tuple(specs), self.skeleton.token(), dtypes.default_float(), depth)
        found = self.traces.get(key) if known else None
        # What was captured, numbers too, may be another at the next call: then trace again.
        if found is None or found.captured:

            def run(*given: Any) -> Any:
                return self.function(*self._arguments(statics, form.filled(given)))

            main, result = traced(self.name, run, specs)
            rule = None
            if depth < MOST_ORDERS:
                _inside.of.append(self)
                try:
                    rule = self._rule_for(statics, form, specs, main, result)
                finally:
                    _inside.of.pop()
            found = _Kept(main, rule, result)
            if known:
                self.traces[key] = found
        return found

    def _arguments(self, statics: Sequence[Any], others: Sequence[Any]) -> list[Any]:
        """All arguments in their places."""
        fixed, rest = dict(zip(self.nondiff, statics, strict=True)), iter(others)
        count = len(statics) + len(others)
        return [fixed[i] if i in fixed else next(rest) for i in range(count)]


@final
class custom_vjp(_Custom):  # noqa: N801  (a decorator)
    """A function of tensors whose reverse-mode derivative is given.

    `forward(*args)` returns (result, residuals); `backward(residuals, cotangent)` returns one
    cotangent for each argument, a tree like it, or None for zero. Both run where a new structure
    is met, or where what they can reach has changed, not at each call. Forward mode transposes
    `backward`, so that must be linear in the cotangent there. A rule may call the function itself:
    then there are derivatives up to the fourth.

    Arguments:
        function: of trees of tensors. A tensor on the tape that it reads from outside is an error.
        nondiff_argnums: positions of arguments that are given as they are (functions, ints);
            `backward` gets them first: `backward(*nondiff, residuals, cotangent)`.

    >>> import proa as pa
    >>> @pa.custom_vjp
    ... def f(x):
    ...     return x * x
    >>> f.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))
    >>> pa.grad(f)(pa.asarray(2.0)).item()
    6.0
    """

    name = "custom_vjp"
    primitive = linear.custom

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Gives the rule, before the function is used; given again, the new one holds."""
        self._give(forward, backward)

    def _missing(self) -> str:
        return "f.defvjp(forward, backward)"

    def _rule_for(self, statics: tuple[Any, ...], form: Form, specs: list[Spec],
                  main: Traced, result: Form) -> Traced:  # fmt: skip
        forward, backward = self.rules
        count, outs = len(specs), list(main.graph.output_specs())
        captured = [v.spec.plain for v in main.captured]

        def pull(*given: Any) -> list[Any]:
            made = forward(*self._arguments(statics, form.filled(given[:count])))
            if not isinstance(made, (tuple, list)) or len(made) != 2:
                text = f"a forward rule that returns {type(made).__name__}"
                raise GradientError(message(self.name, text, "(result, residuals)"))
            primal, same = taken(self.name, made[0])
            need_same(self.name, "a forward rule's result", specs_of_plain(primal), outs,
                      (same, result), "")  # fmt: skip
            ct = result.filled(given[count + len(captured) :])
            found = backward(*statics, made[1], ct)
            return self._cotangents(found, form, given[:count])

        return traced(self.name, pull, [*specs, *captured, *outs])[0]

    def _cotangents(self, found: Any, form: Form, of: Sequence[Any]) -> list[Any]:
        parts = form.parts()
        rows = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(rows) != len(parts):
            raise GradientError(message(self.name, f"{len(rows)} cotangents", f"{len(parts)}"))
        flat: list[Any] = []
        for row, part in zip(rows, parts, strict=True):
            mine = of[len(flat) : len(flat) + part.size]
            cts = part.leaves_of(row) if row is not None else [None] * part.size
            if cts is None:
                text = f"a cotangent {type(row).__name__} for an argument"
                raise GradientError(message(self.name, text, f"{part.structure}"))
            flat += [self._checked(ct, t) for ct, t in zip(cts, mine, strict=True)]
        return flat

    def _checked(self, ct: Any, of: Tensor) -> Any:
        if ct is None or not of.dtype.is_inexact:
            return zeros(of.shape, of.value.spec)
        if type(ct) is not Tensor or ct.shape != of.shape or ct.dtype is not of.dtype:
            given = repr(ct.value.spec) if type(ct) is Tensor else type(ct).__name__
            expected = f"{of.value.spec.plain}"
            raise GradientError(message(self.name, f"a cotangent {given}", expected))
        return ct


@final
class custom_jvp(_Custom):  # noqa: N801  (a decorator)
    """A function of tensors whose derivative is given in forward mode; reverse mode is made of it.

    `rule(primals, tangents)` returns (result, its tangent), in operations that are linear in the
    tangents; so there are derivatives of any order in both modes. The tangent of an argument
    without a derivative is zero, that of integers None. The rule runs where a new structure is
    met, or where what it can reach has changed, not at each call. It may call the function
    itself: then there are derivatives up to the fourth.

    Arguments:
        function: of trees of tensors. A tensor on the tape that it reads from outside is an error.
        nondiff_argnums: positions of arguments that are given as they are (functions, ints); the
            rule gets them first: `rule(*nondiff, primals, tangents)`.

    >>> import proa as pa
    >>> @pa.custom_jvp
    ... def log1pexp(x):
    ...     return pa.log(1.0 + pa.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (dx,) = primals, tangents
    ...     return log1pexp(x), (1.0 - 1.0 / (1.0 + pa.exp(x))) * dx
    >>> pa.grad(log1pexp)(pa.asarray(100.0)).item()
    1.0
    """

    name = "custom_jvp"
    primitive = linear.custom_jvp

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Gives the rule, before the function is used; given again, the new one holds. Returns
        it, so that this is a decorator."""
        self._give(rule)
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """A rule for each argument: `rule(tangent, result, *primals)` gives the tangent of the
        result by this argument; None where there is none. Arguments and result are tensors."""

        def rule(primals: Any, tangents: Any) -> Any:
            result, total = self(*primals), None
            for one, tangent in zip(rules, tangents, strict=True):
                if one is not None and tangent is not None:
                    moved = one(tangent, result, *primals)
                    total = moved if total is None else total + moved
            return result, zeros(result.shape, result.value.spec) if total is None else total

        if self.nondiff:
            given = "rules for each argument and nondiff_argnums"
            raise ArgumentError(message(self.name, given, "one of both", "f.defjvp(rule)"))
        self._give(rule)

    def _missing(self) -> str:
        return "f.defjvp(rule)"

    def _rule_for(self, statics: tuple[Any, ...], form: Form, specs: list[Spec],
                  main: Traced, result: Form) -> Traced:  # fmt: skip
        (rule,) = self.rules
        floats = [i for i, s in enumerate(specs) if s.dtype.is_inexact]
        outs = main.graph.output_specs()

        def push(*given: Any) -> list[Any]:
            moving: list[Any] = [None] * len(specs)
            for i, t in zip(floats, given[len(specs) :], strict=True):
                moving[i] = t
            primals, tangents = form.filled(given[: len(specs)]), form.filled(moving)
            found = rule(*statics, tuple(primals), tuple(tangents))
            if not isinstance(found, (tuple, list)) or len(found) != 2:
                text = f"a rule that returns {type(found).__name__}"
                raise GradientError(message(self.name, text, "(result, tangent)"))
            return self._tangents(found[1], result, outs)

        return traced(self.name, push, [*specs, *[specs[i] for i in floats]])[0]

    def _tangents(self, found: Any, result: Form, outs: Sequence[Spec]) -> list[Any]:
        """Those of float results, each like its result; None is zero."""
        leaves = [None] * len(outs) if found is None else result.leaves_of(found)
        if leaves is None:
            text = f"a tangent {type(found).__name__} for the result"
            raise GradientError(message(self.name, text, f"{result.structure}"))
        moved = []
        for t, of in zip(leaves, outs, strict=True):
            if not of.dtype.is_inexact:
                continue
            if t is not None and (type(t) is not Tensor or t.value.spec.plain is not of):
                given = repr(t.value.spec) if type(t) is Tensor else type(t).__name__
                raise GradientError(message(self.name, f"a tangent {given}", f"{of}"))
            moved.append(zeros(of.shape, of) if t is None else t)
        return moved


def _reads_tape(main: Traced) -> bool:
    """Whether a result may depend on a tensor on the tape that was captured: else all that reads
    it is the step that takes it off."""
    graph = main.graph
    first = len(graph.inputs) - len(main.captured)
    slots = {i for i, v in enumerate(main.captured, first) if v.spec.grad}
    reads = {s for step in graph.steps if step.entry.primitive is not bitcast for s in step.slots}
    return not slots.isdisjoint(reads.union(graph.outputs))


def specs_of_plain(values: Sequence[Any]) -> list[Spec]:
    return [s.plain for s in specs_of(values)]
