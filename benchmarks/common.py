"""What benchmark scripts share: interleaved medians, and the machine in words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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


def interleaved(
    functions: dict[str, Callable[[], object]],
    repeats: int,
    rounds: int = 15,
    between: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The median seconds of each function; they take turns, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            taken = seconds(function, repeats)
            between()
            if turn:
                times[name].append(taken)
    return {name: statistics.median(rows) for name, rows in times.items()}
