"""Sizes that remember: at other sizes for which the guards hold, code gives what they say."""

from __future__ import annotations

from math import prod
from random import Random
from typing import Any

import pytest

from proa.graph.guards import Trace
from proa.graph.size import Size, either, exact, least, most, named, plain, reaches


def computed(rng: Random, n: int, m: int) -> tuple[list[Any], list[bool]]:
    """Anything that planners do with ints: numbers, and answers to what was asked."""
    xs: list[Any] = [n, m, 3, 16, 7, 1]
    asked: list[bool] = []
    for _ in range(9):
        a, b, c = [rng.choice(xs) for _ in range(3)]
        made = [
            lambda a=a, b=b: a + b, lambda a=a, b=b: a - b, lambda a=a, b=b: a * b,
            lambda a=a, b=b: a // b if b else a, lambda a=a, b=b: -(-a // b) if b else b,
            lambda a=a, b=b: a % b if b else a, lambda a=a, b=b: most(a, b),
            lambda a=a, b=b: least(a, b), lambda a=a, b=b: reaches(a, b),
            lambda a=a, b=b, c=c: either(reaches(a, b), b, c), lambda a=a, b=b: prod([a, b, 2]),
            lambda a=a, b=b: named(a * b + 1), lambda a=a: abs(a),
        ][rng.randrange(13)]()  # fmt: skip
        asked += [
            lambda a=a, b=b: [a < b], lambda a=a, b=b: [a == b], lambda x=made: [bool(x)],
            lambda a=a, b=b: [a <= b], lambda a=a, b=b: [max(a, b) == b], lambda: [], lambda: [],
        ][rng.randrange(7)]()  # fmt: skip
        if abs(made) < 10**6:
            xs.append(made)
    return xs, asked


@pytest.mark.parametrize("part", range(4))
def test_random_code(part: int) -> None:
    held = 0
    for seed in range(1000 * part, 1000 * part + 1000):
        rng = Random(seed)
        n, m = rng.randrange(2, 40), rng.randrange(2, 40)
        trace = Trace()
        xs, asked = computed(Random(seed), trace.dim(n), trace.dim(m))
        trace.is_open = False
        assert ([plain(x) for x in xs], asked) == computed(Random(seed), n, m)
        function = trace.function(xs)
        assert function(n, m) == [plain(x) for x in xs]
        for _ in range(6):
            a, b = rng.randrange(0, 60), rng.randrange(0, 60)
            found = function(a, b)
            if found is None:
                continue
            held += 1
            value = trace.evaluated((a, b))
            assert found == [value(x) for x in xs]
            assert (found, asked) == computed(Random(seed), a, b), (seed, n, m, a, b)
    assert held > 2000


def test_what_is_known_costs_no_guard() -> None:
    trace = Trace()
    n, m = trace.dim(33), trace.dim(5)
    assert n * m == m * n and 4 * n // 4 == n and (n + 1) * (n - 1) == n * n - 1
    assert n != 0 and 2 * n > n and 64 * n * m // (2 * n) == 32 * m and n != 1
    assert 8 * n != 12 and -(-n // 16) >= 1 and most(n, 16) >= n
    assert -(-n // 14) * 14 >= n and (64 * n + 63) % 64 == 63
    assert trace.conditions(["n", "m"]) == [("n >= 2", None), ("m >= 2", None)]


def test_guards_are_ranges_and_have_lines() -> None:
    trace = Trace(lambda: "here")
    n = trace.dim(33)
    assert n > 16 and n > 3 and -(-n // 16) == 3 and 4 * n < 10_000
    assert trace.conditions(["n"]) == [("33 <= n <= 48", "here")]
    function = trace.function([n])
    assert [n for n in range(60) if function(n) is not None] == list(range(33, 49))


def test_what_has_no_polynomial_is_pinned() -> None:
    for ask in (
        lambda n: n << 1, lambda n: f"{n}", lambda n: n / 2, lambda n: n + 0.5, lambda n: 2**n,
        lambda n: int(n), lambda n: n & 3, lambda n: n.bit_length(), lambda n: n == 33.0,
        lambda n: divmod(n, 4), lambda n: [0] * exact(n), lambda n: round(n), repr,
    ):  # fmt: skip
        trace = Trace()
        assert ask(trace.dim(33)) == ask(33)
        assert trace.conditions(["n"]) == [("n == 33", None)]
    assert type(trace.dim(3)) is Size


def test_a_division_that_is_guarded() -> None:
    trace = Trace()
    n = trace.dim(9)
    function = trace.function([100 // (n - 5)])
    assert function(6) == [100] and function(5) is None
