"""`Size`: an int that remembers how it was made of the dims of a program.

Code that plans with ints runs with Sizes unchanged. What it computes comes out as a Size: a
polynomial of *atoms*, which are dims, quotients, least and largest ones. What it asks of a Size is
answered by its value, and written down as a *guard*: at other sizes for which all guards hold, the
code would have gone the same way, and each number is its polynomial. `Trace.function` makes one
Python function of all that.

Polynomials are in normal form, so that equal ones are known to be equal without a guard; and what
follows from the ranges of dims, as guards have narrowed them, costs none either.

What an int becomes without this class being asked is not seen: `range(n)`, `[0] * n`, an index.
Such places take `exact(n)`, which is a plain int, guarded.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Final, final

from proa.graph.terms import Terms, added, multiplied, whole

if TYPE_CHECKING:
    from proa.graph.guards import Trace

MOST_POWER: Final = 8


@final
class Size(int):
    """See the module. What has no polynomial takes the plain int, and a guard says that it is
    that."""

    terms: Terms
    trace: Trace

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) + other
        return self.trace._size(int.__add__(self, other), added(self.terms, terms_of(other)))

    def __radd__(self, other: Any) -> Any:
        return self + other if isinstance(other, int) else other + exact(self)

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) - other
        return self.trace._size(int.__sub__(self, other), added(self.terms, terms_of(other), -1))

    def __rsub__(self, other: Any) -> Any:
        return -self + other if isinstance(other, int) else other - exact(self)

    def __neg__(self) -> Any:
        return self.trace._size(int.__neg__(self), tuple([(m, -c) for m, c in self.terms]))

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) * other
        return self.trace._size(int.__mul__(self, other), multiplied(self.terms, terms_of(other)))

    def __rmul__(self, other: Any) -> Any:
        return self * other if isinstance(other, int) else other * exact(self)

    def __floordiv__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) // other
        value = int.__floordiv__(self, other)
        _known_nonzero(other)
        return self.trace.quotient(value, self.terms, terms_of(other))

    def __rfloordiv__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return other // exact(self)
        value = int.__floordiv__(int(other), self)
        _known_nonzero(self)
        return self.trace.quotient(value, terms_of(other), self.terms)

    def __mod__(self, other: Any) -> Any:
        return self - self // other * other if isinstance(other, int) else exact(self) % other

    def __rmod__(self, other: Any) -> Any:
        return other - other // self * self if isinstance(other, int) else other % exact(self)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if modulo is not None or type(other) is not int or not 0 <= other <= MOST_POWER:
            return pow(exact(self), exact(other), modulo)
        return prod([self] * other)

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __pos__(self) -> Any:
        return self

    # Questions.

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, int):
            return NotImplemented if not isinstance(other, float) else exact(self) == other
        holds = int.__eq__(self, other)
        trace = self.trace
        if trace.is_open and trace.is_new("==", self, other):
            trace.is_zero(added(self.terms, terms_of(other), -1), holds)
        return holds

    def __ne__(self, other: object) -> bool:
        found = self.__eq__(other)
        return found if found is NotImplemented else not found

    def __lt__(self, other: Any) -> bool:
        return not self >= other

    def __gt__(self, other: Any) -> bool:
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        if not isinstance(other, int):
            return bool(exact(self) >= other)
        holds = int.__ge__(self, other)
        trace = self.trace
        if trace.is_open and trace.is_new(">=", self, other):
            trace.at_least(added(self.terms, terms_of(other), -1), holds)
        return holds

    def __le__(self, other: Any) -> bool:
        if not isinstance(other, int):
            return bool(exact(self) <= other)
        holds = int.__le__(self, other)
        trace = self.trace
        if trace.is_open and trace.is_new("<=", self, other):
            trace.at_least(added(terms_of(other), self.terms, -1), holds)
        return holds

    # Equal sizes have one hash. What is told apart by it alone stays apart at other sizes too, so
    # a dict of Sizes may hold twice what would be equal there, and never mixes what is not.
    __hash__ = int.__hash__


def _pinned(name: str) -> Any:
    """An operation of int that a Size has no polynomial for."""
    of_int = getattr(int, name)

    def run(self: Size, *others: Any) -> Any:
        return of_int(exact(self), *[exact(o) for o in others])

    return run


_OTHERS: Final = (
    "divmod rdivmod rpow lshift rlshift rshift rrshift and rand or ror xor rxor truediv "
    "rtruediv invert int float round trunc floor ceil format repr"
)
for _name in _OTHERS.split():
    setattr(Size, f"__{_name}__", _pinned(f"__{_name}__"))
for _name in ("bit_length", "bit_count", "to_bytes"):
    setattr(Size, _name, _pinned(_name))


def terms_of(n: int) -> Terms:
    if type(n) is Size:
        return n.terms
    return whole(int(n))


def exact(n: Any) -> Any:
    """A plain int; a guard says that the Size is that."""
    if type(n) is not Size:
        return n
    value = int.__int__(n)
    if n.trace.is_open:
        n.trace.is_zero(added(n.terms, terms_of(value), -1), True)
    return value


def plain(n: int) -> int:
    """The value without a guard: for what is right at any sizes."""
    return int.__int__(n) if type(n) is Size else n


def _known_nonzero(n: int) -> None:
    if type(n) is Size:
        bool(n)


def least(*ns: int) -> int:
    """The least of several, whichever it is at other sizes."""
    found = next((n for n in ns if type(n) is Size), None)
    return min(ns) if found is None else found.trace.extreme("min", ns)


def most(*ns: int) -> int:
    """The largest."""
    found = next((n for n in ns if type(n) is Size), None)
    return max(ns) if found is None else found.trace.extreme("max", ns)


def reaches(n: int, least: int) -> int:
    """1 where n is `least` or more, else 0: for what is a number and no other way to go."""
    difference = n - least
    if type(difference) is not Size:
        return int(difference >= 0)
    return difference.trace.test(int(plain(difference) >= 0), difference.terms)


def either(test: int, a: int, b: int) -> int:
    """a where a test is 1, b where it is 0."""
    if type(test) is not Size:
        return a if test else b
    return test.trace.choice(test, a, b)


def named(n: int) -> int:
    """The same number as one atom: what is made of it stays short."""
    return n.trace.named(n) if type(n) is Size else n
