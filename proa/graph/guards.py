"""`Trace`: what is known of Sizes while code runs with them, and the guards that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any, Final, NamedTuple, final

from proa.graph.size import Size, plain, terms_of
from proa.graph.terms import (
    Atom,
    Terms,
    added,
    between,
    constant,
    divided,
    expression,
    multiplied,
    whole,
    written,
)

DEPTH: Final = 2  # of atoms inside atoms that are looked through for what is known
Range = tuple[int | None, int | None]  # the least and the largest; None where there is no end


@final
class Guard(NamedTuple):
    """`terms` compared with 0: `>=`, `==` or `!=`."""

    terms: Terms
    relation: str


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
        """a // b; what is divisible stands outside, what is left is positive where it can be."""
        if constant(b) is None:
            a, b = self._reduced(a, b)
        d, outside = constant(b), whole(0)
        ratio = divided(a, b) if d is None else None
        if ratio is not None:
            return self._size(value, ratio)
        if d:
            outside = tuple([(m, c // d) for m, c in a if c // d and (c % d == 0 or not m)])
            a = tuple([(m, c if m else c % d) for m, c in a if c % d])
            if constant(a) is not None:
                return self._size(value, outside)
        rest = value - self._value(outside)
        if all(c < 0 for m, c in a if m) and all(c > 0 for m, c in b if m) and self._sign(b) == 1:
            turned = self.quotient(-rest, added(added(b, whole(1), -1), a, -1), b)
            return self._size(value, added(outside, terms_of(turned), -1))
        low, high = self._range(a)
        if d is None or d < 0:
            known = low is not None and low >= 0 and self._sign(b) == 1
            low, high = self._small(a, b) if known else (None, None)
        else:
            low, high = low and low // d, high and high // d
        if low == high and low is not None:
            return self._size(value, added(outside, whole(low)))
        number = self._atom(Atom("//", (a, b)), (low, high), rest)
        return self._size(value, added(outside, (((number,), 1),)))

    def choice(self, test: Size, a: int, b: int) -> int:
        """a where a test is not 0, else b, without a guard."""
        if terms_of(a) == terms_of(b):
            return a
        (low, high), (bottom, top) = self._range(terms_of(a)), self._range(terms_of(b))
        low = None if low is None or bottom is None else min(low, bottom)
        high = None if high is None or top is None else max(high, top)
        value = plain(a) if int.__int__(test) else plain(b)
        return self._of(value, Atom("if", (test.terms, terms_of(a), terms_of(b))), (low, high))

    def _small(self, a: Terms, b: Terms) -> Range:
        """Whether a // b of positive ones is 0, or 1."""
        low, high = self._range(added(a, b, -1))
        if high is not None and high < 0:
            return 0, 0
        if low is None or low < 0:
            return 0, None
        high = self._range(added(a, b, -2))[1]
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
        return divided(a, one) or (), divided(b, one) or ()

    def extreme(self, kind: str, ns: Sequence[int]) -> int:
        """The least (`min`) or the largest (`max`) of several, without a guard."""
        value = (min if kind == "min" else max)([int.__int__(n) for n in ns])
        of: list[Terms] = []
        for terms in dict.fromkeys(map(terms_of, ns)):
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
        low, high = self._range(added(a, b, -1))
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
                bottom, top = self._range(added(rest, bound), depth - 1)
                if lower and bottom is not None:
                    low = bottom if low is None else max(low, bottom)
                if upper and top is not None:
                    high = top if high is None else min(high, top)
        return low, high

    def _bounds(self, atom: Atom, c: int) -> list[tuple[bool, bool, Terms]]:
        """What c times an atom is never below, never above: (below, above, terms)."""
        times = whole(c)
        if atom.kind == "=":
            return [(True, True, multiplied(atom.of[0], times))]
        if atom.kind in ("min", "max"):
            is_below = (atom.kind == "max") == (c > 0)
            return [(is_below, not is_below, multiplied(of, times)) for of in atom.of]
        a, d = atom.of[0], constant(atom.of[1])
        if d is None or d <= 0 or c % d:
            return []
        end = tuple([(m, n * (c // d)) for m, n in a])
        other = added(end, whole((d - 1) * (c // d)), -1)
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
                terms = added(whole(-1), terms, -1)
            self._narrow(terms)

    def is_zero(self, terms: Terms, holds: bool) -> None:
        """The same of being 0."""
        terms = self._reduced(terms, ())[0]
        if self._sign(terms) is not None:
            return
        rest = [c for monomial, c in terms if monomial]
        fixed = sum(c for monomial, c in terms if not monomial)
        if fixed % gcd(*rest):
            return
        if holds:
            self._narrow(terms)
            self._narrow(multiplied(terms, whole(-1)))
        else:
            low, high = self._range(terms)
            if low == 0:
                self._narrow(added(terms, whole(-1)))
            elif high == 0:
                self._narrow(added(whole(-1), terms, -1))
            else:
                self._note(Guard(terms, "!="))

    def _narrow(self, terms: Terms) -> None:
        """Terms are at least 0: as the range of an atom where it is about one alone."""
        low = self._range(terms)[0]
        if low is not None and low >= 0:
            return
        parts = [(m, c) for m, c in terms if m]
        fixed = sum(c for m, c in terms if not m)
        if len(parts) != 1 or len(parts[0][0]) != 1:
            self._note(Guard(terms, ">="))
            return
        ((number,), c), atom = parts[0], self.atoms[parts[0][0][0]]
        end = -(fixed // c) if c > 0 else fixed // -c  # at least, at most
        divisor = constant(atom.of[1]) if atom.kind == "//" else None
        if divisor is not None and divisor > 0:
            (of, _), n = atom.of, end * divisor
            self._narrow(added(of, whole(-n)) if c > 0 else added(whole(n + divisor - 1), of, -1))
        elif (atom.kind, c > 0) in (("min", True), ("max", False)):
            for of in atom.of:
                self._narrow(added(of, whole(-end)) if c > 0 else added(whole(end), of, -1))
        elif atom.kind == "=":
            (of,) = atom.of
            self._narrow(added(of, whole(-end)) if c > 0 else added(whole(end), of, -1))
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
            (between(texts[i], low, high), self.lines.get(i))
            for i, (low, high) in enumerate(self.asked) if (low, high) != (None, None)
        ]  # fmt: skip
        return found + [
            (f"{written(t, texts)} {r} 0", line) for (t, r), line in self.guards.items()
        ]

    def _texts(self, names: Sequence[str]) -> list[str]:
        texts: list[str] = []
        for atom in self.atoms:
            if atom.kind == "dim":
                texts.append(names[self.dims.index(len(texts))])
            else:
                texts.append(f"({expression(atom, texts)})")
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
                        lines.append(f"{names[i]} = {expression(self.atoms[i], names)}")
            return written(terms, names)

        for i, (low, high) in enumerate(self.asked):
            if (low, high) != (None, None):
                text = between(need((((i,), 1),)), low, high)
                lines.append(f"if not {text}: return None")
        for terms, relation in self.guards:
            lines.append(f"if not {need(terms)} {relation} 0: return None")
        found = ", ".join([need(terms_of(n)) for n in numbers])
        head = f"def numbers({', '.join([names[i] for i in self.dims])}):\n try:"
        text = "\n  ".join([head, *lines, f"return [{found}]"])
        text += "\n except ZeroDivisionError: return None"  # guarded later in the text
        space: dict[str, Any] = {"__builtins__": {
            "min": min, "max": max, "ZeroDivisionError": ZeroDivisionError,
        }}  # fmt: skip
        exec(compile(text, "<sizes>", "exec"), space)  # noqa: S102, sums of our own writing
        made_function: Callable[..., list[int] | None] = space["numbers"]
        return made_function
