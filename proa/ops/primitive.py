"""`Primitive`: the declaration of one operation, and `apply`, which records it.

All that is mathematical stands in the declaration; what belongs to a machine stands with that
backend. A family (`ops/families/`) supplies what is common: the factor map, how parameters shift
when one more letter is batched, how a linear operation is transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from math import inf
from operator import is_
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype, meet, promote, weak_dtype
from proa.errors import ArgumentError, DtypeError, ShapeError, UnmadeError, message
from proa.graph.build import current_sink
from proa.graph.entry import ENTRY_LIMIT, Entry, intern_entry
from proa.graph.node import SCALAR_TYPES, Node, Value
from proa.graph.spec import UNMADE, Spec, spec
from proa.shapes import MAX_NDIM

FLOAT: Final = frozenset(d for d in dtypes.ALL if d.kind == "float" and not d.is_storage)
INT: Final = frozenset(d for d in dtypes.ALL if d.kind == "int")
BOOL: Final = frozenset({dtypes.bool_})
NUMERIC: Final = FLOAT | INT
REAL: Final = FLOAT | INT | BOOL
ANY: Final = frozenset(dtypes.ALL)
LARGEST: Final = 2**1000  # of Python ints that are taken for numbers

REGISTRY: Final[dict[str, Primitive]] = {}


class Accuracy(NamedTuple):
    """Largest error in units in the last place of the result, by dtype; 0 is exact or correctly
    rounded. `sums` says that the error grows with the number of terms."""

    f32: float
    f64: float
    sums: bool = False


EXACT: Final = Accuracy(0.5, 0.5)


def ulp(f32: float, f64: float) -> Accuracy:
    return Accuracy(f32, f64)


class Domain(NamedTuple):
    """Where an operand is drawn from in the laws."""

    low: float
    high: float


class Sample(NamedTuple):
    """One case of the laws: operands as shapes or (shape, dtype name), and parameters."""

    operands: tuple[Any, ...]
    params: dict[str, Any] = {}


class Family(NamedTuple):
    """What operations with one kind of factor map have in common."""

    name: str
    factors: Callable[..., Any]
    batch: Callable[..., Any] | None
    transpose: Callable[..., Any] | None = None
    samples: Callable[..., Any] | None = None


@final
class Primitive:
    """One operation. Callable: `cos(x)` applies it to tensors or values.

    | field | meaning |
    | --- | --- |
    | meaning | the function on NumPy arrays that defines it |
    | jvp | rule(s) `(operands..., result, tangent) -> tangent of the result`, one per operand |
    | linear | operands in which it is linear (tangents pass through the primitive itself) |
    | transpose | of the linear operands: `(entry, cts, operands, index) -> ct` |
    | saves | what reverse mode needs: names of operands, `y` for the result |
    | retained | kept when the forward pass was read before `backward()` (RULES 1.5) |
    | push | what holds graphs: `(entry, operands, results, tangents) -> tangents of results` |
    | forward | what holds graphs: `(entry, operands, tangents) -> (results, their tangents)` |
    | reverse | what holds graphs: `(entry, operands, results, cts, wanted) -> cts of operands` |
    | expand | composites only: the definition in other operations |
    | whole | composites only: kept until a backend is asked, which may claim it |
    """

    params: tuple[str, ...]
    accepts: Any
    core: bool
    meaning: Any
    rule: Any
    jvp: Any
    linear: Any
    transpose: Any
    saves: str
    retained: bool
    expand: Any
    pullback: Any
    push: Any
    forward: Any
    reverse: Any
    accuracy: Accuracy
    cost: int
    domain: Domain
    edges: Any
    samples: Any
    errors: Any
    doc: str
    batch: Any
    differentiable: Any
    promotes: bool
    whole: bool

    def __init__(self, name: str, family: Family, **fields: Any) -> None:
        self.name = name
        self.family = family
        for field, default in _DEFAULTS.items():
            setattr(self, field, fields.pop(field, default))
        if fields:
            raise TypeError(f"[primitive] given fields {sorted(fields)} for {name!r}")
        self.__doc__ = self.doc  # what help(pa.sin) shows
        self.__name__ = name
        self.table: dict[Any, Entry] = {}
        self.pairs: dict[Any, Entry] = {}
        self.expansions: dict[Any, Any] = {}
        self.met: set[Any] = set()
        self.arity: Any = None
        self.singles: dict[Spec, Entry] = {}
        REGISTRY[name] = self

    def output_specs(self, ins: tuple[Spec, ...], params: tuple[Any, ...]) -> tuple[Spec, ...]:
        """The spec rule: dtypes are checked, shapes come from the factor map."""
        if UNMADE in [of.placement for of in ins]:
            what = "a tensor that lazy_init described"
            raise UnmadeError(message(self.name, what, "a made one", "pa.materialize(model)"))
        if self.meaning is not None:
            if self.arity is None:
                self.arity = arity(self)
            if not self.arity[0] <= len(ins) <= self.arity[1]:
                raise ArgumentError(message(self.name, f"{len(ins)} operands", f"{self.arity[0]}"))
        for i, given in enumerate(ins):
            accepts = self.accepts[i] if isinstance(self.accepts, tuple) else self.accepts
            if given.dtype not in accepts:
                raise DtypeError(_refused(self, i, given.dtype, accepts))
        outs = self.rule(self, ins, dict(zip(self.params, params, strict=True)))
        outs = outs if isinstance(outs, tuple) else (outs,)
        if any(s.ndim > MAX_NDIM or any(type(n) is int and n < 0 for n in s.shape) for s in outs):
            text = f"results of shapes {[s.shape for s in outs]!r:.200}"
            expected = f"sizes of at least 0, at most {MAX_NDIM} axes"
            raise ShapeError(message(self.name, text, expected))
        return outs

    def differentiable_outputs(self, entry: Entry) -> list[bool]:
        """Which outputs carry a gradient: float ones, if a float operand that counts does."""
        counted = self.differentiable
        reached = any(
            s.grad and s.dtype.is_inexact and (counted is True or (counted and i in counted))
            for i, s in enumerate(entry.ins)
        )
        return [reached and s.dtype.is_inexact for s in entry.outs]

    def __call__(self, *operands: Any, **params: Any) -> Any:
        if len(operands) == 1 and not params:  # the hot path of unary functions
            value = getattr(operands[0], "value", None)
            entry = self.singles.get(value.spec) if type(value) is Value else None
            if entry is not None:
                sink = current_sink()
                if sink.watching:
                    sink.watch(operands[0])
                return sink.emit(entry, (value,))[0]
        if self.promotes:
            operands = promoted(self, operands)
        return apply(self, operands, **params)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __deepcopy__(self, memo: Any) -> Primitive:
        return self


def _same(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    """Default spec rule: shapes from the factor map, dtype and weakness of the operands."""
    one_dtype(primitive.name, ins)
    shapes = primitive.family.factors(primitive.name, ins, **params).result_shapes()
    weak = bool(ins) and all(s.weak for s in ins)
    return tuple([spec(s, ins[0].dtype, weak) for s in shapes])


def one_dtype(op: str, ins: Sequence[Spec]) -> None:
    """Operands have been promoted: a mixture here would be announced wrongly."""
    if any(s.dtype is not ins[0].dtype for s in ins):
        names = " and ".join(s.dtype.name for s in ins)
        raise DtypeError(message(op, f"operands of {names}", "one dtype", "x.astype(...)"))


def arity(primitive: Primitive) -> tuple[int, float]:
    """The least and the largest number of operands that the meaning takes."""
    if isinstance(primitive.meaning, np.ufunc):
        return primitive.meaning.nin, primitive.meaning.nin
    rows = signature(primitive.meaning).parameters.values()
    own = [p for p in rows if p.name not in primitive.params]
    least = len([p for p in own if p.kind is not p.VAR_POSITIONAL and p.default is p.empty])
    return least, inf if any(p.kind is p.VAR_POSITIONAL for p in own) else len(own)


_DEFAULTS: Final[dict[str, Any]] = {
    "params": (), "accepts": ANY, "core": False, "meaning": None, "rule": _same, "jvp": None,
    "linear": (), "transpose": None, "saves": "", "retained": False, "expand": None,
    "pullback": None, "push": None, "forward": None, "reverse": None, "accuracy": EXACT, "cost": 1,
    "domain": Domain(-3.0, 3.0), "edges": {}, "samples": (), "errors": (), "doc": "", "batch": None,
    "differentiable": True, "promotes": False, "whole": False,
}  # fmt: skip


def apply(primitive: Primitive, operands: Sequence[Any], **params: Any) -> Any:
    """Records `primitive` on the current sink; one result, or a tuple if it has several."""
    sink = current_sink()
    try:
        values = tuple([o if type(o) is Value else o.value for o in operands])
        specs = tuple([v.spec for v in values])
    except AttributeError:  # an array, or something wrong
        values = tuple([value_of(primitive.name, o) for o in operands])
        specs = tuple([v.spec for v in values])
    if sink.watching:
        for o in operands:
            if type(o) is not Value and hasattr(o, "value"):
                sink.watch(o)
    given = tuple([params[p] for p in primitive.params]) if params else ()
    entry = primitive.table.get((given, specs))
    if entry is None:
        refuse_unmade(primitive.name, values)
        entry = intern_entry(primitive.table, primitive, given, specs)
    outs = sink.emit(entry, values)
    return outs[0] if entry.single else outs


def refuse_unmade(op: str, values: Sequence[Value]) -> None:
    """No entry is ever made of a tensor that is only described, so this is asked before one is."""
    for v in values:
        refuse = getattr(v.buffer, "refuse", None)
        if v.spec.placement is UNMADE and refuse is not None:
            refuse(op)


def checked_once(primitive: Primitive) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a function that checks its operands and applies `primitive` to them.

    Where it was given operands alone (None as the last is as good as nothing) and applied the
    primitive to them as they are, perhaps with numbers of its own behind them, operands of the same
    specs need no checks again: all that it asks is of specs.
    """
    known: dict[tuple[Spec, ...], tuple[Entry, list[tuple[Any, Spec]]]] = {}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def quick(*operands: Any, **options: Any) -> Any:
            if options:
                return function(*operands, **options)
            given = operands if operands and operands[-1] is not None else operands[:-1]
            try:
                values = tuple([o.value for o in given])
                specs = tuple([v.spec for v in values])
            except AttributeError:  # a number, or something wrong
                return function(*operands)
            found = known.get(specs)
            if found is None:
                made = function(*operands)
                seen = _as_they_are(primitive, made, values)
                if seen is not None:
                    if len(known) >= ENTRY_LIMIT:
                        known.clear()
                    known[specs] = seen
                return made
            entry, numbers = found
            sink = current_sink()
            if sink.watching:
                for operand, value in zip(given, values, strict=True):
                    if value is not operand:
                        sink.watch(operand)
            if numbers:
                values += tuple([sink.number(n, of) for n, of in numbers])
            return sink.emit(entry, values)[0]

        return quick

    return decorate


def _as_they_are(
    primitive: Primitive, made: Any, values: tuple[Value, ...]
) -> tuple[Entry, list[tuple[Any, Spec]]] | None:
    """The entry of a recorded result, and the numbers after its operands, if these are `values`."""
    node = getattr(getattr(made, "value", None), "node", None)
    if type(node) is not Node or node.entry.primitive is not primitive:
        return None
    first, numbers = node.inputs[: len(values)], node.inputs[len(values) :]
    if not all(map(is_, first, values)) or any(type(n.buffer) not in SCALAR_TYPES for n in numbers):
        return None
    specs = tuple([v.spec for v in node.inputs])
    entry = intern_entry(primitive.table, primitive, node.entry.params, specs)
    return entry, [(n.buffer, n.spec) for n in numbers]


def value_of(op: str, operand: Any) -> Value:
    """The value behind a tensor; arrays become constants of the sink, numbers are refused."""
    if type(operand) is Value:
        return operand
    found = getattr(operand, "value", None)
    if type(found) is Value:
        sink = current_sink()
        if sink.watching and found is not operand:
            sink.watch(operand)
        return found
    if isinstance(operand, (np.ndarray, np.generic, bool, int, float)):
        array = np.asarray(operand)
        kept = current_sink().constant(array, spec(array.shape, dtypes.dtype(array.dtype)))
        value: Value = kept.value
        return value
    kind = type(operand).__name__
    raise DtypeError(message(op, f"an argument of type {kind}", "a tensor", "pa.asarray(...)"))


def number_of(operand: Any) -> Any:
    """The Python number behind a number or NumPy scalar, else None."""
    if type(operand) in _NUMBERS:
        return operand
    if isinstance(operand, np.generic) and operand.dtype.kind in "biufc":
        return operand.item()
    if isinstance(operand, (bool, int, float, complex)):
        return type(operand).__mro__[1](operand)
    return None


_NUMBERS: Final = frozenset({bool, int, float, complex})


def promoted(primitive: Primitive, operands: Sequence[Any]) -> tuple[Any, ...]:
    """Operands in the one dtype in which they meet. This is where promotion lives."""
    specs = tuple([o.value.spec if hasattr(o, "value") else None for o in operands])
    if specs in primitive.met:
        return tuple(operands)
    found = _promoted(primitive, operands)
    if None not in specs and all(a is b for a, b in zip(operands, found, strict=True)):
        primitive.met.add(specs)
        if len(specs) == 1 and primitive.promotes and not primitive.params:
            of: Any = specs[0]
            primitive.singles[of] = intern_entry(primitive.table, primitive, (), (of,))
    return found


def _promoted(primitive: Primitive, operands: Sequence[Any]) -> tuple[Any, ...]:
    numbers = [number_of(o) for o in operands]
    values = [
        None if n is not None else value_of(primitive.name, o)
        for n, o in zip(numbers, operands, strict=True)
    ]
    target = common_dtype(primitive, numbers, values)
    weak = any(v is not None for v in values) and all(v is None or v.spec.weak for v in values)
    return tuple(
        [
            as_number(primitive.name, n, target, weak)
            if n is not None
            else cast_to(o, target, weak)
            for n, o in zip(numbers, operands, strict=True)
        ]
    )


def common_dtype(primitive: Primitive, numbers: Sequence[Any], values: Sequence[Any]) -> Dtype:
    strong = [v.spec.dtype for v in values if v is not None and not v.spec.weak]
    weak = [v.spec.dtype for v in values if v is not None and v.spec.weak]
    weak += [weak_dtype(n) for n in numbers if n is not None]
    target: Dtype = _fold(promote, strong) if strong else _fold(promote, weak)
    if strong:
        for other in weak:
            target = meet(target, other, dtypes.default_float())
    floats_only = primitive.accepts is FLOAT or primitive.accepts == FLOAT
    if floats_only and target.kind in ("bool", "int"):
        return dtypes.default_float()
    return target


def _fold(function: Callable[[Any, Any], Any], items: list[Any]) -> Any:
    found = items[0]
    for item in items[1:]:
        found = function(found, item)
    return found


def as_number(op: str, number: Any, dtype: Dtype, weak: bool = False) -> Value:
    """A Python number as a 0-d value of `dtype`, in which it must fit; `weak` where it meets none
    but numbers, so that what they make is a number still."""
    check_number(op, number, dtype)
    value: Value = current_sink().number(number, spec((), dtype, weak))
    return value


def check_number(op: str, number: Any, dtype: Dtype) -> None:
    """An error for a complex number of a real dtype, and for an int that does not fit."""
    if type(number) is complex and dtype.kind != "complex":
        raise DtypeError(message(op, f"the number {number}", f"one that {dtype.name} holds"))
    if type(number) is int and abs(number) > LARGEST:
        raise ArgumentError(message(op, "an int beyond 2**1000", f"one that {dtype.name} holds"))
    if dtype.kind == "int" and not dtypes.iinfo(dtype).min <= number <= dtypes.iinfo(dtype).max:
        raise ArgumentError(message(op, f"the number {number}", f"one that {dtype.name} holds"))


def cast_to(value: Any, dtype: Dtype, weak: bool = False) -> Any:
    """`value` in `dtype`; itself if it has it already."""
    found = value_of("cast", value)
    sink = current_sink()
    if sink.watching and found.spec.weak and dtype.kind == "int" and found.spec.dtype.kind == "int":
        limits = dtypes.iinfo(dtype)
        sink.capture.bound(found, limits.min, limits.max)
    if found.spec.dtype is dtype:
        return found if not hasattr(value, "value") else value
    return apply(REGISTRY["cast"], (value,), dtype=dtype, weak=weak)


def _refused(primitive: Primitive, index: int, dtype: Dtype, accepts: frozenset[Dtype]) -> str:
    names = ", ".join(d.name for d in dtypes.ALL if d in accepts)
    where = f"{dtype.name} as operand {index}" if index else dtype.name
    return message(primitive.name, where, f"one of {names}", "x.astype(...)")
