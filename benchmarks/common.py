"""What benchmark scripts share: interleaved medians, and the machine in words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "unknown"
    )


def seconds(function: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def rounds_of(
    functions: Mapping[str, Callable[[], object]],
    repeats: int | Mapping[str, int],
    rounds: int = 15,
    before: Callable[[], object] = lambda: None,
    between: Callable[[], object] = lambda: None,
    patience: float = float("inf"),
) -> dict[str, list[float]]:
    """The seconds of each function in each round; they take turns, after one round that is not
    counted. A function that is repeated is called once more before its clock starts. No round
    begins after `patience` seconds, but one is always counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + patience
    for turn in range(rounds + 1):
        if turn > 1 and time.perf_counter() > end:
            break
        for name, function in functions.items():
            often = repeats if isinstance(repeats, int) else repeats[name]
            before()
            if often > 1:
                function()
            taken = seconds(function, often)
            between()
            if turn:
                times[name].append(taken)
    return times


def interleaved(
    functions: dict[str, Callable[[], object]],
    repeats: int,
    rounds: int = 15,
    between: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The median seconds of each function."""
    found = rounds_of(functions, repeats, rounds, between=between)
    return {name: statistics.median(rows) for name, rows in found.items()}
