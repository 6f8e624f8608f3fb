"""Shapes: tuples of sizes, and the few questions that every operation asks about them.

A size is a non-negative int, or a `Dim`: a named size that is known later.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final, final

from proa.errors import ArgumentError, DtypeError, ShapeError, message

MAX_NDIM: Final = 64
MAX_SIZE: Final = 2**63 - 1


@final
class Dim:
    """A named size, interned by its name. `Dim("batch") is Dim("batch")`."""

    __slots__ = ("name",)
    _all: dict[str, Dim] = {}

    name: str

    def __new__(cls, name: str) -> Dim:
        if not isinstance(name, str) or not name.isidentifier():
            raise ArgumentError(message("Dim", repr(name), "an identifier", 'Dim("batch")'))
        if name not in cls._all:
            cls._all[name] = object.__new__(cls)
            cls._all[name].name = name
        return cls._all[name]

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return Dim, (self.name,)

    def __deepcopy__(self, memo: Any) -> Dim:
        return self


Shape = tuple[int, ...]


def as_shape(op: str, given: Any, dims: bool = False) -> Shape:
    """A shape from an int or a sequence of ints; sizes are checked.

    >>> as_shape("zeros", [2, 3])
    (2, 3)
    """
    sizes = given if isinstance(given, (tuple, list)) else (given,)
    shape = tuple(_as_size(op, n, given, dims) for n in sizes)
    if len(shape) > MAX_NDIM:
        raise ShapeError(message(op, f"{len(shape)} axes", f"at most {MAX_NDIM}"))
    return shape


def _as_size(op: str, n: Any, given: Any, dims: bool) -> Any:
    if dims and type(n) is Dim:
        return n
    size = as_int(op, "size", n)
    if size > MAX_SIZE:
        raise ShapeError(message(op, "a size of 2**63 or more", "a smaller one"))
    if size < 0:
        raise ShapeError(message(op, f"shape {given!r:.80}", "sizes of at least 0"))
    return size


def as_int(op: str, what: str, n: Any) -> int:
    """A Python int from anything that is one (`__index__`), never from a float or a bool."""
    if isinstance(n, bool):
        raise DtypeError(message(op, f"{what} {n!r}", "an int"))
    try:
        return operator.index(n)
    except TypeError:
        raise DtypeError(message(op, f"{what} {n!r:.60} ({type(n).__name__})", "an int")) from None


def as_list(op: str, what: str, given: Any) -> list[Any]:
    """A list of anything that can be iterated over."""
    try:
        rows = iter(given)
    except TypeError:
        given = f"{what} {given!r:.60} ({type(given).__name__})"
        raise DtypeError(message(op, given, "a sequence")) from None
    return list(rows)


def as_axis(op: str, axis: Any, ndim: int) -> int:
    """A non-negative axis; negative ones count from the end."""
    n = as_int(op, "axis", axis)
    if not -ndim <= n < ndim:
        raise ArgumentError(message(op, f"axis {n} of {ndim} axes", f"-{ndim} <= axis < {ndim}"))
    return n % ndim


def as_axes(op: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """Sorted, distinct, non-negative axes from None (all), an int or a sequence of ints."""
    if axes is None:
        return tuple(range(ndim))
    if type(axes) is int and 0 <= axes < ndim:
        return (axes,)
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    found = sorted(as_axis(op, a, ndim) for a in given)
    if len(set(found)) != len(found):
        raise ArgumentError(message(op, f"axes {axes!r:.60}", "distinct axes"))
    return tuple(found)


def broadcast_shapes(op: str, shapes: Sequence[Shape]) -> Shape:
    """The shape in which shapes meet: aligned at the last axis, sizes equal or 1.

    >>> broadcast_shapes("add", [(3, 1), (4,)])
    (3, 4)
    """
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    ndim = max(len(s) for s in shapes)
    out = []
    for i in range(-ndim, 0):
        sizes = {s[i] for s in shapes if len(s) >= -i} - {1}
        if len(sizes) > 1:
            given = "shapes " + " and ".join(map(str, shapes))
            raise ShapeError(
                message(op, given, "sizes that are equal or 1, axis by axis from the last")
            )
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


def size(shape: Iterable[Any]) -> int:
    """Number of elements; a named dim counts as 1."""
    return prod(n if type(n) is not Dim else 1 for n in shape)
