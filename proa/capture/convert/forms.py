"""What stands in a place, as a form and leaves, and how the leaves of two branches are joined.

A leaf is a value of the graph, a Python number, or anything else, which then must be the same on
both sides. A number that meets a tensor takes its dtype, as in `x * 2`; numbers that differ become
a tensor of 0 axes that is still a number (weak), so that what follows has the dtypes and the bits
that it has without conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from proa import tree
from proa.dtypes import default_float, meet, promote, weak_dtype
from proa.errors import message
from proa.graph.build import current_sink
from proa.graph.node import Value
from proa.graph.spec import Spec, spec
from proa.ops.functions import cast
from proa.ops.movement import zeros
from proa.ops.primitive import apply
from proa.tensor import Tensor

_NUMBERS = (bool, int, float, complex)


class Form(NamedTuple):
    """A tree with its leaves: a Value, a Python number, or a static object each."""

    structure: tree.Structure
    leaves: tuple[Any, ...]


class Fixed(NamedTuple):
    """A leaf that is the same on all sides."""

    what: Any


def form_of(found: Any, values: dict[int, tuple[Tensor, Value]]) -> Form:
    """The form of what stood in a place when the recording ended."""
    leaves, structure = tree.flatten(found)
    return Form(structure, tuple([_leaf(x, values) for x in leaves]))


def _leaf(x: Any, values: dict[int, tuple[Tensor, Value]]) -> Any:
    if type(x) is not Tensor:
        return x
    known = values.get(id(x))
    return x.value if known is None else known[1]


def is_number(leaf: Any) -> bool:
    return type(leaf) in _NUMBERS


def spec_of(leaf: Any) -> Spec | None:
    """The spec of a value or a number, None of anything else."""
    if type(leaf) is Value:
        return leaf.spec.plain
    return spec((), weak_dtype(leaf), True) if is_number(leaf) else None


def joined(a: Any, b: Any) -> Any:
    """The spec in which two leaves meet, `Fixed` if they are one, None if they do not go
    together. A leaf may be a Spec itself."""
    if a is b and not isinstance(a, Spec):
        return Fixed(a)
    if not isinstance(a, (Value, Spec)) and type(a) is type(b) and _equal(a, b):
        return Fixed(a)
    x = a if isinstance(a, Spec) else spec_of(a)
    y = b if isinstance(b, Spec) else spec_of(b)
    if x is None or y is None:
        return None
    if x is y:
        return x
    if x.weak and y.weak:
        return spec((), promote(x.dtype, y.dtype), True) if not x.shape and not y.shape else None
    if x.weak or y.weak:
        number, other = (x, y) if x.weak else (y, x)
        fits = meet(other.dtype, number.dtype, default_float()) is other.dtype
        return other if fits and number.shape == other.shape else None
    return None


def _equal(a: Any, b: Any) -> bool:
    """Whether two objects that are no tensors are as good as one."""
    if isinstance(a, (str, bytes, tuple, frozenset)) or a is None or is_number(a):
        return repr(a) == repr(b)
    return isinstance(a, type) and a is b


def as_value(leaf: Any) -> Value:
    """A leaf that goes into a graph or comes out of it: numbers are inputs."""
    if type(leaf) is Value:
        return leaf
    number = spec((), weak_dtype(leaf), True)
    return Value(None, 0, number, leaf)


def cast_leaf(value: Any, target: Spec) -> Any:
    """A value in the spec in which it was joined."""
    of = value.value.spec
    if of.plain is target:
        return value
    return apply(cast, (value,), dtype=target.dtype, weak=target.weak)


def nothing(target: Spec) -> Any:
    """What stands where nobody looks."""
    if target.weak:
        number: Any = weak_zero(target)
        return current_sink().number(number, target)
    return zeros(target.shape, target)


def weak_zero(target: Spec) -> Any:
    return {"bool": False, "int": 0, "float": 0.0}.get(target.dtype.kind, 0j)


def in_words(leaf: Any) -> str:
    of = leaf if isinstance(leaf, Spec) else spec_of(leaf)
    if type(leaf) is Value or isinstance(leaf, Spec):
        return f"{of!r}".removesuffix(" grad")
    return f"{leaf!r:.40}"


def difference(where: str, a: Any, b: Any) -> str:
    return f"{where} that is {in_words(a)} and {in_words(b)}"


def mismatch(what: str, place: str, a: Any, b: Any, line: str, hint: str) -> str:
    given = f"{place} that is {in_words(a)} and then {in_words(b)} in {what} at {line}"
    return message("convert", given, "one shape and dtype", hint)


def filled(structure: tree.Structure, leaves: Sequence[Any]) -> Any:
    return tree.unflatten(structure, list(leaves))
