"""Polynomials of atoms with integer coefficients, in normal form: what a `Size` is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

Monomial = tuple[int, ...]  # numbers of atoms, ascending
Terms = tuple[tuple[Monomial, int], ...]  # ascending; no coefficient is 0


@final
class Atom(NamedTuple):
    """What is no polynomial of others: `dim`, `//` of two, `min` or `max` of several, `>=`: 1 where
    one is at least 0, else 0; `if` one is not 0, the second, else the third; or `=`, one polynomial
    under a name, so that those it stands in stay short."""

    kind: str
    of: tuple[Terms, ...]


def constant(terms: Terms) -> int | None:
    """The number that terms are, if they are one."""
    if not terms:
        return 0
    return terms[0][1] if len(terms) == 1 and not terms[0][0] else None


def whole(n: int) -> Terms:
    """A number as terms."""
    return (((), n),) if n else ()


def added(a: Terms, b: Terms, times: int = 1) -> Terms:
    found = dict(a)
    for monomial, c in b:
        found[monomial] = found.get(monomial, 0) + times * c
    return tuple(sorted([t for t in found.items() if t[1]]))


def multiplied(a: Terms, b: Terms) -> Terms:
    found: dict[Monomial, int] = {}
    for x, c in a:
        for y, d in b:
            monomial = tuple(sorted(x + y)) if x and y else x or y
            found[monomial] = found.get(monomial, 0) + c * d
    return tuple(sorted([t for t in found.items() if t[1]]))


def divided(a: Terms, b: Terms) -> Terms | None:
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


def between(text: str, low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f"{low} <= {text} <= {high}" if low != high else f"{text} == {low}"
    return f"{text} >= {low}" if high is None else f"{text} <= {high}"


def expression(atom: Atom, names: Sequence[str]) -> str:
    if atom.kind == "//":
        return "({}) // ({})".format(*[written(of, names) for of in atom.of])
    if atom.kind == "=":
        return written(atom.of[0], names)
    if atom.kind == "if":
        test, a, b = [written(of, names) for of in atom.of]
        return f"{a} if {test} else {b}"
    if atom.kind == ">=":
        return f"1 if {written(atom.of[0], names)} >= 0 else 0"
    return f"{atom.kind}({', '.join([written(of, names) for of in atom.of])})"


def written(terms: Terms, names: Sequence[str]) -> str:
    parts = []
    for monomial, c in terms:
        factors = [names[i] for i in monomial]
        parts.append("*".join(factors if c == 1 and factors else [str(c), *factors]))
    return " + ".join(parts) or "0"
