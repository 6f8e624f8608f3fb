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

from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any, Final, NamedTuple, final

Monomial = tuple[int, ...]  # numbers of atoms, ascending
Terms = tuple[tuple[Monomial, int], ...]  # ascending; no coefficient is 0
MOST_POWER: Final = 8
DEPTH: Final = 2  # of atoms inside atoms that are looked through for what is known
Range = tuple[int | None, int | None]  # the least and the largest; None where there is no end


@final
class Atom(NamedTuple):
    """What is no polynomial of others: `dim`, `//` of two, `min` or `max` of several, `>=`: 1 where
    one is at least 0, else 0; `if` one is not 0, the second, else the third; or `=`, one polynomial
    under a name, so that those it stands in stay short."""

    kind: str
    of: tuple[Terms, ...]


@final
class Guard(NamedTuple):
    """`terms` compared with 0: `>=`, `==` or `!=`."""

    terms: Terms
    relation: str


def constant(terms: Terms) -> int | None:
    """The number that terms are, if they are one."""
    if not terms:
        return 0
    return terms[0][1] if len(terms) == 1 and not terms[0][0] else None


def _terms(n: int) -> Terms:
    if type(n) is Size:
        return n.terms
    return (((), int(n)),) if n else ()


def _sum(a: Terms, b: Terms, times: int = 1) -> Terms:
    found = dict(a)
    for monomial, c in b:
        found[monomial] = found.get(monomial, 0) + times * c
    return tuple(sorted([t for t in found.items() if t[1]]))


def _product(a: Terms, b: Terms) -> Terms:
    found: dict[Monomial, int] = {}
    for x, c in a:
        for y, d in b:
            monomial = tuple(sorted(x + y)) if x and y else x or y
            found[monomial] = found.get(monomial, 0) + c * d
    return tuple(sorted([t for t in found.items() if t[1]]))


def _ratio(a: Terms, b: Terms) -> Terms | None:
    """a divided by b where b is one term and divides every one of a."""
    if len(b) != 1:
        return None
    (divisor, d), found = b[0], []
    for monomial, c in a:
        rest = list(monomial)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % d:
            return None
        found.append((tuple(rest), c // d))
    return tuple(sorted(found))


@final
class Trace:
    """Dims, atoms and guards of one run. `where`: what gives the line of a comparison, if lines
    are wanted. Once it is closed Sizes are compared as the ints that they are."""

    def __init__(self, where: Callable[[], Any] | None = None) -> None:
        self.where = where
        self.atoms: list[Atom] = []
        self.values: list[int] = []  # of each atom: what it is at the sizes of the run
        self.ranges: list[Range] = []  # of each atom: what is known, or guarded
        self.asked: list[list[int | None]] = []  # of each atom: the part that guards have asked for
        self.numbers: dict[Atom, int] = {}
        self.seen: set[Any] = set()  # comparisons
        self.guards: dict[Guard, Any] = {}  # and where each was first needed
        self.lines: dict[int, Any] = {}  # of each atom: where its range was first narrowed
        self.dims: list[int] = []
        self.is_open = True

    def dim(self, value: int, least: int = 2) -> int:
        """A dim, of which nothing is known but that it is `least` or more."""
        number = self._atom(Atom("dim", ((((len(self.dims),), 1),),)), (least, None), value)
        self.asked[number][0] = least
        self.dims.append(number)
        return self._size(value, (((number,), 1),))

    def named(self, n: int) -> int:
        """The same number as one atom."""
        if type(n) is not Size or (len(n.terms) == 1 and n.terms[0][1] == 1):
            return n
        return self._of(int.__int__(n), Atom("=", (n.terms,)), self._range(n.terms))

    def quotient(self, value: int, a: Terms, b: Terms) -> int:
        """a // b; whole parts stand outside, and what is divided is positive where it can be."""
        if constant(b) is None:
            a, b = self._reduced(a, b)
        d, whole = constant(b), _terms(0)
        ratio = _ratio(a, b) if d is None else None
        if ratio is not None:
            return self._size(value, ratio)
        if d:
            whole = tuple([(m, c // d) for m, c in a if c // d and (c % d == 0 or not m)])
            a = tuple([(m, c if m else c % d) for m, c in a if c % d])
            if constant(a) is not None:
                return self._size(value, whole)
        rest = value - self._value(whole)
        if all(c < 0 for m, c in a if m) and all(c > 0 for m, c in b if m) and self._sign(b) == 1:
            turned = self.quotient(-rest, _sum(_sum(b, (((), 1),), -1), a, -1), b)
            return self._size(value, _sum(whole, _terms(turned), -1))
        low, high = self._range(a)
        if d is None or d < 0:
            known = low is not None and low >= 0 and self._sign(b) == 1
            low, high = self._small(a, b) if known else (None, None)
        else:
            low, high = low and low // d, high and high // d
        if low == high and low is not None:
            return self._size(value, _sum(whole, _terms(low)))
        number = self._atom(Atom("//", (a, b)), (low, high), rest)
        return self._size(value, _sum(whole, (((number,), 1),)))

    def choice(self, test: Size, a: int, b: int) -> int:
        """a where a test is not 0, else b, without a guard."""
        if _terms(a) == _terms(b):
            return a
        (low, high), (bottom, top) = self._range(_terms(a)), self._range(_terms(b))
        low = None if low is None or bottom is None else min(low, bottom)
        high = None if high is None or top is None else max(high, top)
        value = plain(a) if int.__int__(test) else plain(b)
        return self._of(value, Atom("if", (test.terms, _terms(a), _terms(b))), (low, high))

    def _small(self, a: Terms, b: Terms) -> Range:
        """Whether a // b of positive ones is 0, or 1."""
        low, high = self._range(_sum(a, b, -1))
        if high is not None and high < 0:
            return 0, 0
        if low is None or low < 0:
            return 0, None
        high = self._range(_sum(a, b, -2))[1]
        return 1, 1 if high is not None and high < 0 else None

    def test(self, value: int, terms: Terms) -> int:
        """1 where terms are at least 0, else 0, without a guard."""
        low, high = self._range(terms)
        if low is not None and low >= 0:
            return 1
        if high is not None and high < 0:
            return 0
        return self._of(value, Atom(">=", (terms,)), (0, 1))

    def _reduced(self, a: Terms, b: Terms) -> tuple[Terms, Terms]:
        """A fraction without the atoms that all terms are multiples of, where these are positive,
        and without common factors."""
        every = [m for m, _ in (*a, *b)]
        if not every:
            return a, b
        common = [
            i for i in dict.fromkeys(every[0]) if (self.ranges[i][0] or 0) > 0
            for _ in range(min(m.count(i) for m in every))
        ]  # fmt: skip
        one = ((tuple(sorted(common)), gcd(*[c for _, c in (*a, *b)])),)
        return _ratio(a, one) or (), _ratio(b, one) or ()

    def extreme(self, kind: str, ns: Sequence[int]) -> int:
        """The least (`min`) or the largest (`max`) of several, without a guard."""
        value = (min if kind == "min" else max)([int.__int__(n) for n in ns])
        of: list[Terms] = []
        for terms in dict.fromkeys(map(_terms, ns)):
            if any(self._beats(kind, o, terms) for o in of):
                continue
            of = [o for o in of if not self._beats(kind, terms, o)] + [terms]
        if len(of) == 1:
            return self._size(value, of[0])
        ends = [self._range(o) for o in of]
        lows, highs = [e[0] for e in ends], [e[1] for e in ends]
        if kind == "min":
            low = None if None in lows else min(lows)  # type: ignore[type-var]
            high = min([h for h in highs if h is not None], default=None)
        else:
            low = max([n for n in lows if n is not None], default=None)
            high = None if None in highs else max(highs)  # type: ignore[type-var]
        return self._of(value, Atom(kind, tuple(sorted(of))), (low, high))

    def _beats(self, kind: str, a: Terms, b: Terms) -> bool:
        """Whether a is never on the other side of b."""
        low, high = self._range(_sum(a, b, -1))
        return high is not None and high <= 0 if kind == "min" else low is not None and low >= 0

    def _of(self, value: int, atom: Atom, range_: Range) -> Size:
        found = self._size(value, (((self._atom(atom, range_, value),), 1),))
        assert type(found) is Size
        return found

    def _value(self, terms: Terms) -> int:
        return sum([c * prod([self.values[i] for i in monomial]) for monomial, c in terms])

    def _atom(self, atom: Atom, range_: Range, value: int) -> int:
        found = self.numbers.get(atom)
        if found is None:
            found = self.numbers[atom] = len(self.atoms)
            self.atoms.append(atom)
            self.values.append(value)
            self.ranges.append(range_)
            self.asked.append([None, None])
        return found

    def _size(self, value: int, terms: Terms) -> int:
        known = constant(terms)
        if known is not None:
            return known
        found = int.__new__(Size, value)
        found.terms = terms
        found.trace = self
        return found

    # What is known.

    def _range(self, terms: Terms, depth: int = DEPTH) -> Range:
        low, high = self._ends(terms)
        if not depth:
            return low, high
        for place, (monomial, c) in enumerate(terms):
            if len(monomial) != 1 or self.atoms[monomial[0]].kind in ("dim", ">=", "if"):
                continue
            rest = terms[:place] + terms[place + 1 :]
            for lower, upper, bound in self._bounds(self.atoms[monomial[0]], c):
                bottom, top = self._range(_sum(rest, bound), depth - 1)
                if lower and bottom is not None:
                    low = bottom if low is None else max(low, bottom)
                if upper and top is not None:
                    high = top if high is None else min(high, top)
        return low, high

    def _bounds(self, atom: Atom, c: int) -> list[tuple[bool, bool, Terms]]:
        """What c times an atom is never below, never above: (below, above, terms)."""
        times: Terms = (((), c),)
        if atom.kind == "=":
            return [(True, True, _product(atom.of[0], times))]
        if atom.kind in ("min", "max"):
            is_below = (atom.kind == "max") == (c > 0)
            return [(is_below, not is_below, _product(of, times)) for of in atom.of]
        a, d = atom.of[0], constant(atom.of[1])
        if d is None or d <= 0 or c % d:
            return []
        end = tuple([(m, n * (c // d)) for m, n in a])
        other = _sum(end, _terms((d - 1) * (c // d)), -1)
        return [(c > 0, c < 0, other), (c < 0, c > 0, end)]

    def _ends(self, terms: Terms) -> Range:
        """The range of terms that the ranges of their atoms give."""
        low: int | None = 0
        high: int | None = 0
        for monomial, c in terms:
            first: int | None = 1
            last: int | None = 1
            for atom in monomial:
                bottom, top = self.ranges[atom]
                if len(monomial) == 1:
                    first, last = bottom, top
                    break
                if bottom is None or bottom < 0:
                    return None, None  # it takes care to multiply these; nobody needs it
                first = first * bottom if first is not None else None
                last = last * top if last is not None and top is not None else None
            ends = [n * c if n is not None else None for n in (first, last)]
            if c < 0:
                ends.reverse()
            low = low + ends[0] if low is not None and ends[0] is not None else None
            high = high + ends[1] if high is not None and ends[1] is not None else None
        return low, high

    def _sign(self, terms: Terms) -> int | None:
        """1, 0 or -1 if it is known."""
        low, high = self._range(terms)
        if low is not None and low > 0:
            return 1
        if high is not None and high < 0:
            return -1
        return 0 if low == high == 0 else None

    # Guards.

    def is_new(self, relation: str, a: Size, b: int) -> bool:
        """Whether this is asked for the first time."""
        key = relation, a.terms, b.terms if type(b) is Size else int(b)
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def at_least(self, terms: Terms, holds: bool) -> None:
        """Whether terms are at least 0, as they are; a guard if that is not known."""
        terms = self._reduced(terms, ())[0]
        low, high = self._range(terms)
        if not (low is not None and low >= 0) and not (high is not None and high < 0):
            if not holds:
                terms = _sum((((), -1),), terms, -1)
            self._narrow(terms)

    def is_zero(self, terms: Terms, holds: bool) -> None:
        """The same of being 0."""
        terms = self._reduced(terms, ())[0]
        if self._sign(terms) is not None:
            return
        rest = [c for monomial, c in terms if monomial]
        whole = sum(c for monomial, c in terms if not monomial)
        if whole % gcd(*rest):
            return
        if holds:
            self._narrow(terms)
            self._narrow(_product(terms, (((), -1),)))
        else:
            low, high = self._range(terms)
            if low == 0:
                self._narrow(_sum(terms, (((), -1),)))
            elif high == 0:
                self._narrow(_sum((((), -1),), terms, -1))
            else:
                self._note(Guard(terms, "!="))

    def _narrow(self, terms: Terms) -> None:
        """Terms are at least 0: as the range of an atom where it is about one alone."""
        low = self._range(terms)[0]
        if low is not None and low >= 0:
            return
        parts = [(m, c) for m, c in terms if m]
        whole = sum(c for m, c in terms if not m)
        if len(parts) != 1 or len(parts[0][0]) != 1:
            self._note(Guard(terms, ">="))
            return
        ((number,), c), atom = parts[0], self.atoms[parts[0][0][0]]
        end = -(whole // c) if c > 0 else whole // -c  # at least, at most
        divisor = constant(atom.of[1]) if atom.kind == "//" else None
        if divisor is not None and divisor > 0:
            (of, _), n = atom.of, end * divisor
            self._narrow(_sum(of, _terms(-n)) if c > 0 else _sum(_terms(n + divisor - 1), of, -1))
        elif (atom.kind, c > 0) in (("min", True), ("max", False)):
            for of in atom.of:
                self._narrow(_sum(of, _terms(-end)) if c > 0 else _sum(_terms(end), of, -1))
        elif atom.kind == "=":
            (of,) = atom.of
            self._narrow(_sum(of, _terms(-end)) if c > 0 else _sum(_terms(end), of, -1))
        else:
            self.asked[number][c < 0] = end
            self.lines.setdefault(number, self.where() if self.where is not None else None)
        low, high = self.ranges[number]
        self.ranges[number] = (end, high) if c > 0 else (low, end)

    def _note(self, guard: Guard) -> None:
        if guard not in self.guards:
            self.guards[guard] = self.where() if self.where is not None else None

    # Afterwards.

    def conditions(self, names: Sequence[str]) -> list[tuple[str, Any]]:
        """What must hold, as text, each with its line."""
        texts = self._texts(names)
        found = [
            (_between(texts[i], low, high), self.lines.get(i))
            for i, (low, high) in enumerate(self.asked) if (low, high) != (None, None)
        ]  # fmt: skip
        return found + [(f"{_text(t, texts)} {r} 0", line) for (t, r), line in self.guards.items()]

    def _texts(self, names: Sequence[str]) -> list[str]:
        texts: list[str] = []
        for atom in self.atoms:
            if atom.kind == "dim":
                texts.append(names[self.dims.index(len(texts))])
            else:
                texts.append(f"({_expression(atom, texts)})")
        return texts

    def evaluated(self, sizes: Sequence[int]) -> Callable[[Any], Any]:
        """A function from ints that may be Sizes to what they are at other sizes of the dims."""
        values: list[int] = []
        given = iter(sizes)

        def of(terms: Terms) -> int:
            return sum([c * prod([values[i] for i in monomial]) for monomial, c in terms])

        for kind, parts in self.atoms:
            if kind == "dim":
                values.append(next(given))
            elif kind == "//":
                a, b = map(of, parts)
                values.append(a // b)
            elif kind == ">=":
                values.append(int(of(parts[0]) >= 0))
            elif kind == "if":
                values.append(of(parts[1] if of(parts[0]) else parts[2]))
            else:
                values.append((min if kind == "min" else max)([of(p) for p in parts]))
        return lambda n: of(n.terms) if type(n) is Size else n

    def function(self, numbers: Sequence[int]) -> Callable[..., list[int] | None]:
        """From the sizes of the dims to these numbers; None where a guard does not hold."""
        names = [f"a{i}" for i in range(len(self.atoms))]
        lines: list[str] = []
        made = set(self.dims)

        def need(terms: Terms) -> str:
            for monomial, _ in terms:
                for i in monomial:
                    if i not in made:
                        made.add(i)
                        for of in self.atoms[i].of:
                            need(of)
                        lines.append(f"{names[i]} = {_expression(self.atoms[i], names)}")
            return _text(terms, names)

        for i, (low, high) in enumerate(self.asked):
            if (low, high) != (None, None):
                text = _between(need((((i,), 1),)), low, high)
                lines.append(f"if not {text}: return None")
        for terms, relation in self.guards:
            lines.append(f"if not {need(terms)} {relation} 0: return None")
        found = ", ".join([need(_terms(n)) for n in numbers])
        head = f"def numbers({', '.join([names[i] for i in self.dims])}):\n try:"
        text = "\n  ".join([head, *lines, f"return [{found}]"])
        text += "\n except ZeroDivisionError: return None"  # guarded later in the text
        space: dict[str, Any] = {"__builtins__": {
            "min": min, "max": max, "ZeroDivisionError": ZeroDivisionError,
        }}  # fmt: skip
        exec(compile(text, "<sizes>", "exec"), space)  # noqa: S102, sums of our own writing
        made_function: Callable[..., list[int] | None] = space["numbers"]
        return made_function


def _between(text: str, low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f"{low} <= {text} <= {high}" if low != high else f"{text} == {low}"
    return f"{text} >= {low}" if high is None else f"{text} <= {high}"


def _expression(atom: Atom, names: Sequence[str]) -> str:
    if atom.kind == "//":
        return "({}) // ({})".format(*[_text(of, names) for of in atom.of])
    if atom.kind == "=":
        return _text(atom.of[0], names)
    if atom.kind == "if":
        test, a, b = [_text(of, names) for of in atom.of]
        return f"{a} if {test} else {b}"
    if atom.kind == ">=":
        return f"1 if {_text(atom.of[0], names)} >= 0 else 0"
    return f"{atom.kind}({', '.join([_text(of, names) for of in atom.of])})"


def _text(terms: Terms, names: Sequence[str]) -> str:
    parts = []
    for monomial, c in terms:
        factors = [names[i] for i in monomial]
        parts.append("*".join(factors if c == 1 and factors else [str(c), *factors]))
    return " + ".join(parts) or "0"


@final
class Size(int):
    """See the module. What has no polynomial takes the plain int, and a guard says that it is
    that."""

    terms: Terms
    trace: Trace

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) + other
        return self.trace._size(int.__add__(self, other), _sum(self.terms, _terms(other)))

    def __radd__(self, other: Any) -> Any:
        return self + other if isinstance(other, int) else other + exact(self)

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) - other
        return self.trace._size(int.__sub__(self, other), _sum(self.terms, _terms(other), -1))

    def __rsub__(self, other: Any) -> Any:
        return -self + other if isinstance(other, int) else other - exact(self)

    def __neg__(self) -> Any:
        return self.trace._size(int.__neg__(self), tuple([(m, -c) for m, c in self.terms]))

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) * other
        return self.trace._size(int.__mul__(self, other), _product(self.terms, _terms(other)))

    def __rmul__(self, other: Any) -> Any:
        return self * other if isinstance(other, int) else other * exact(self)

    def __floordiv__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return exact(self) // other
        value = int.__floordiv__(self, other)
        _known_nonzero(other)
        return self.trace.quotient(value, self.terms, _terms(other))

    def __rfloordiv__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return other // exact(self)
        value = int.__floordiv__(int(other), self)
        _known_nonzero(self)
        return self.trace.quotient(value, _terms(other), self.terms)

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
            trace.is_zero(_sum(self.terms, _terms(other), -1), holds)
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
            trace.at_least(_sum(self.terms, _terms(other), -1), holds)
        return holds

    def __le__(self, other: Any) -> bool:
        if not isinstance(other, int):
            return bool(exact(self) <= other)
        holds = int.__le__(self, other)
        trace = self.trace
        if trace.is_open and trace.is_new("<=", self, other):
            trace.at_least(_sum(_terms(other), self.terms, -1), holds)
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


def exact(n: Any) -> Any:
    """A plain int; a guard says that the Size is that."""
    if type(n) is not Size:
        return n
    value = int.__int__(n)
    if n.trace.is_open:
        n.trace.is_zero(_sum(n.terms, _terms(value), -1), True)
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
