"""`cpu` on random graphs: whole = one by one, bitwise; what they mean; gradients; threads."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import proa as pa
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.compile.tiers import OneByOne
from proa.config import config
from tests.helpers_random import Drawn, first_difference, graphs, meant, same, unlike

CPU = backend("cpu")
DEVICE = CPU.devices()[0]
EXAMPLES = 1000
MINUTES, LEAST = 30, 5000  # of the slow lane
CALM = settings(
    derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
COUNTS: Counter[str] = Counter()


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
        count_elements(found, right)
    COUNTS["graphs"] += 1
    COUNTS["steps"] += len(program.graph.steps)
    COUNTS["host calls"] += executable.report["host_calls"]


def agree(found: list[Any], whole: list[Any], what: str) -> None:
    for i, (a, b) in enumerate(zip(found, whole, strict=True)):
        assert same(a, b), f"result {i} of {len(whole)}, {what}: {first_difference(a, b)}"


def count_elements(found: Any, right: Any) -> None:
    if right.array is not None:
        COUNTS["exact"] += found.size
    elif right.judged is not None:
        sure = int(np.sum(np.isfinite(right.judged.error)))
        COUNTS["bounded"] += sure
        COUNTS["open"] += found.size - sure


def test_random_graphs() -> None:
    """So many that differ, every tenth on one thread and on two. What bounds leave open is little."""
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
    assert 9 * COUNTS["open"] <= COUNTS["bounded"], COUNTS


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
