"""`cpu` on random graphs: whole = one by one, bitwise; what they mean; gradients; threads."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import proa as pa
from proa import dtypes
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.compile.tiers import OneByOne
from proa.config import config
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Input, Role
from proa.graph.spec import spec
from proa.ops.primitive import REGISTRY, apply
from tests.helpers_random import Drawn, first_difference, graphs, meant, same, unlike

CPU = backend("cpu")
DEVICE = CPU.devices()[0]
EXAMPLES = 1000
MINUTES, LEAST = 30, 5000  # of the slow lane
CALM = settings(
    derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
COUNTS: Counter[Any] = Counter()


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kernels are kept in a folder of these tests."""
    before = config.cache_dir
    config.cache_dir = tmp_path_factory.mktemp("kernels")
    yield
    config.cache_dir = before


def results(executable: Any, case: Drawn) -> list[Any]:
    rows = zip(case.arrays, case.graph.inputs, strict=True)
    return [b.host() for b in executable([CPU.put(a, i.spec, DEVICE) for a, i in rows])]


def check(case: Drawn, threads: bool) -> None:
    program = lower(case.graph, CPU, DEVICE)
    executable = CPU.compile(program)
    whole = results(executable, case)
    agree(results(OneByOne(program, CPU), case), whole, "one by one")
    if threads:
        before = pa.get_num_threads()
        try:
            for count in (1, 2):
                pa.set_num_threads(count)
                agree(results(executable, case), whole, f"{count} threads")
        finally:
            pa.set_num_threads(before)
    for i, (found, right) in enumerate(zip(whole, meant(case.graph, case.arrays, not case.is_large),
                                           strict=True)):  # fmt: skip
        text = unlike(found, right)
        assert not text, f"result {i} of {len(whole)}: {text}"
        tally(right)
    COUNTS["graphs"] += 1
    COUNTS["steps"] += len(program.graph.steps)
    COUNTS["host calls"] += executable.report["host_calls"]


def agree(found: list[Any], whole: list[Any], what: str) -> None:
    for i, (a, b) in enumerate(zip(found, whole, strict=True)):
        assert same(a, b), f"result {i} of {len(whole)}, {what}: {first_difference(a, b)}"


def tally(right: Any) -> None:
    """Results that are exact; others, and the shares of them of which no bound says anything."""
    if right.array is not None:
        COUNTS["exact"] += 1
    elif right.judged is not None and right.judged.error.size:
        COUNTS["bounded"] += 1
        COUNTS["open"] += float(np.mean(np.isinf(right.judged.error)))


def test_random_graphs() -> None:
    """So many that differ, every tenth on one thread and on two. Most results have bounds."""
    COUNTS.clear()
    seen: set[Any] = set()

    @settings(CALM, max_examples=3 * EXAMPLES)
    @given(graphs())
    def some(case: Drawn) -> None:
        if case.graph not in seen and len(seen) < EXAMPLES:
            check(case, len(seen) % 10 == 0)
            seen.add(case.graph)

    some()
    assert COUNTS["graphs"] == EXAMPLES
    assert COUNTS["open"] <= COUNTS["bounded"] / 4, COUNTS


@pytest.mark.slow
def test_many_more_graphs() -> None:
    """Drawn anew each time: as many as half an hour allows, and no fewer than LEAST."""
    COUNTS.clear()
    end = time.monotonic() + 60 * MINUTES

    @settings(CALM, max_examples=200, derandomize=False)
    @given(graphs())
    def some(case: Drawn) -> None:
        check(case, COUNTS["graphs"] % 10 == 0)

    while time.monotonic() < end or COUNTS["graphs"] < LEAST:
        some()
    print(dict(COUNTS))


# Graphs that were wrong once, made small.


def op(name: str, *xs: Any, **params: Any) -> Any:
    return apply(REGISTRY[name], xs, **params)


def view_of_a_place_used_again(x: Any, y: Any, i: Any) -> list[Any]:
    """The result was copied after the last call, when its memory held something else."""
    v = op("scatter", x, op("slice", y, starts=(0, 0), stops=(1, 2), strides=(1, 1)), i,
           axes=(1,), batch=0, mode="max")  # fmt: skip
    w = op("dot", x, op("mul", y, y), a="ab", b="cb", out="ca")
    return [op("broadcast", v, shape=(3, 2, 2), axes=(1, 2)), op("exp", op("mul", w, w)), w]


def sums_of_empty_rows(x: Any) -> list[Any]:
    """Beside sums of no column the sums of rows were not written."""
    y = op("add", x, x)
    return [op("sum", y, axes=(0,)), op("sum", y, axes=(1,))]


def sums_down_a_column_of_sums(x: Any, y: Any) -> list[Any]:
    """A column of one number a row was summed into as many as the row is long."""
    z = op("mul", x, y)
    rows = op("reshape", op("sum", z, axes=(1,)), shape=(y.spec.shape[0], 1))
    return [op("sum", op("mul", rows, y), axes=(0,)), z]


def one_element_beside_its_sum(x: Any, y: Any, n: Any) -> list[Any]:
    """By its place a number a row, which a sum of everything has none of: it was not written."""
    r = op("sqrt", x)
    q = op("reshape", op("add", r, n), shape=(1,))
    z, k = op("mul", q, r), op("mul", y, n)
    total = op("sum", op("mul", y, z), axes=(0, 1))
    return [op("mul", z, n), total, op("mul", k, q), op("mul", k, r)]


def units_that_wait_for_each_other(x: Any, y: Any, none: Any, pad: Any) -> list[Any]:
    """Two sums of nothing, united, closed a circle by way of a unit with an early and a late step."""
    zero, one = none.spec.shape, x.spec.shape
    u = op("neg", op("add", x, x))
    v = op("mul", u, x)
    w = op("add", op("dot", x, v, a="ab", b="ab", out="a"), x)
    empty = op("slice", u, starts=zero, stops=zero, strides=one)
    less = op("mul", none, op("floor", op("div", w, empty)))
    total = op("add", y, op("reshape", op("sum", none, axes=(0, 1)), shape=one))
    column = op("sum", total, axes=(0,))
    left = op("dot", x, column, a="ab", b="a", out="ab")
    right = op("dot", column, v, a="a", b="ab", out="ab")
    more = op("pad", less, pad, low=zero, high=one, interior=zero)
    a = op("add", op("add", total, right), op("mul", left, u))
    b = op("add", op("mul", left, x), more)
    return [op("add", w, x), op("rem", w, empty), op("sub", a, b)]


def row_numbers_beside_sums_both_ways(x: Any, n: Any) -> list[Any]:
    """What stands still along a row was laid out over the whole space: no number a row any more."""
    a, b = x.spec.shape[:2]
    rows = op("reshape", op("sum", x, axes=(2, 3)), shape=(a, b, 1, 1))
    every = op("broadcast", n, shape=(a, b, 1, 1), axes=(1, 2, 3))
    return [op("sum", x, axes=(0, 1)), op("add", rows, every)]


ONCE: list[tuple[Any, list[tuple[int, ...]]]] = [
    (view_of_a_place_used_again, [(2, 2), (3, 2)]), (sums_of_empty_rows, [(16, 0)]),
    *[(sums_down_a_column_of_sums, [(3, n), (3, 1)]) for n in (0, 5, 4000)],
    (one_element_beside_its_sum, [(1, 1), (1, 1), ()]),
    (units_that_wait_for_each_other, [(1, 1), (1, 1), (0, 0), ()]),
    (row_numbers_beside_sums_both_ways, [(2, 5, 40, 50), (5, 1, 1)]),
]  # fmt: skip


@pytest.mark.parametrize("function, shapes", ONCE, ids=lambda v: getattr(v, "__name__", f"{v}"))
def test_wrong_once(function: Any, shapes: Any) -> None:
    builder = Builder([Input(spec(s, dtypes.float32), Role.DATA) for s in shapes])
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.uniform(1, 2, s)).astype(np.float32) for s in shapes]
    values = builder.input_values()
    if function is view_of_a_place_used_again:
        values.append(builder.input(spec((1,), dtypes.int64)))
        arrays.append(np.array([1]))
    with use_sink(builder):
        graph = builder.graph(function(*values))
    for _ in range(3):
        check(Drawn(graph, arrays, False), True)
