"""A case of the table: the same step in each framework, checked to agree, timed by turns."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple, final

import machine
import numpy as np
from common import rounds_of

DYNAMIC: Final = "proa dynamic"
JIT: Final = "proa jit"
EAGER: Final = "torch eager"
COMPILED: Final = "torch compile"
JAX: Final = "jax"
FAST: Final = "proa fast"  # what strict numerics cost; only where it is asked for
CONTESTANTS: Final = (DYNAMIC, JIT, FAST, EAGER, COMPILED, JAX)
Jit = Callable[[Any], Any]  # what a step is wrapped in: `pa.jit`, or nothing
REST: Final = 5.0  # seconds in which the machine may come to rest before a turn
TURN: Final = 0.06  # seconds of work in a turn, for small steps
QUIET: Final = 3  # turns without neighbours are enough to leave the others out
NOISY: Final = 1.3  # a median this far above the least time tells of other work
PATIENCE: Final = 60.0  # seconds for the rounds of one case


class Made(NamedTuple):
    """A step, and what to compare once a few were made; without `read`, the last result is."""

    step: Callable[[], Any]
    read: Callable[[], Any] | None = None


class Case(ABC):
    """One line of the table.

    `flops` counts multiply-adds of products (each 2), `moved` the bytes that must be read and
    written at least; one of them is held against the machine. `scalar` says that the result is a
    loss, which is read at each step, `inference` that nothing is differentiated. `tolerance`
    bounds the largest difference, in units of the largest value.
    """

    name: str
    tolerance: float = 1e-4
    flops: float = 0.0
    moved: float = 0.0
    double: bool = False
    scalar: bool = False
    compared: int = 1
    inference: bool = False

    @abstractmethod
    def proa(self, jit: Jit) -> Made: ...

    @abstractmethod
    def torch(self, compiled: bool) -> Made: ...

    @abstractmethod
    def jax(self) -> Made: ...

    def make(self, contestant: str) -> Made:
        if contestant == JAX:
            import jax

            config: Any = jax.config
            config.update("jax_enable_x64", self.double)
            return self._finished(self.jax(), jax.block_until_ready)
        if contestant in (EAGER, COMPILED):
            return self._finished(self.torch(contestant == COMPILED), lambda out: out)
        import proa as pa

        def wait(out: Any) -> Any:
            pa.sync()
            return out

        ways: dict[str, Jit] = {
            DYNAMIC: lambda step: step, JIT: pa.jit, FAST: pa.jit(numerics="fast"),
        }  # fmt: skip
        return self._finished(self.proa(ways[contestant]), wait)

    def _finished(self, made: Made, wait: Callable[[Any], Any]) -> Made:
        """A step whose work is done when it returns."""
        step, read = made
        if self.scalar:
            return Made(lambda: float(step()), read)
        return Made(lambda: wait(step()), read)


@final
@dataclass
class Line:
    """What was measured of one case; times are seconds, medians."""

    row: str
    case: str
    threads: int
    rounds: int = 0
    times: dict[str, float] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    host: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ideal: float = 0.0
    peak: str = ""

    def peer(self) -> tuple[str, float] | None:
        """The fastest peer; alone in a process it counts if it is more than 10 % faster there."""
        found = {k: t for k, t in self.times.items() if not k.startswith("proa")}
        for name, taken in self.alone.items():
            if name in found and taken < found[name] / 1.1:
                found[name] = taken
        return min(found.items(), key=lambda item: item[1]) if found else None

    def ratio(self, contestant: str) -> float | None:
        peer = self.peer()
        return None if peer is None or contestant not in self.times else (
            peer[1] / self.times[contestant]
        )  # fmt: skip

    def share(self, contestant: str) -> float | None:
        """The part of the machine's peak that was reached."""
        taken = self.times.get(contestant)
        return self.ideal / taken if taken and self.ideal else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def arrays(result: Any) -> list[Any]:
    """Results of any framework as NumPy arrays, in order."""
    if isinstance(result, dict):
        return [a for k in sorted(result) for a in arrays(result[k])]
    if isinstance(result, list | tuple):
        return [a for r in result for a in arrays(r)]
    if hasattr(result, "detach") and hasattr(result, "numpy"):
        result = result.detach()
    return [np.array(result)]  # a copy: the next step may write into it


def difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference, in units of the largest value of each array."""
    if [a.shape for a in found] != [a.shape for a in expected]:
        return float("inf")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        scale = float(np.abs(b).max(initial=0.0)) or 1.0
        error = float(np.abs(a - b).max(initial=0.0)) / scale
        worst = error if not error <= worst else worst
    return worst


@final
class Measured:
    """One case at work: made, checked, timed."""

    def __init__(self, row: str, case: Case, names: Sequence[str], threads: int, rounds: int):
        self.case = case
        self.rounds = rounds
        self.names = list(names)
        self.line = Line(row, case.name, threads)
        self.steps: dict[str, Callable[[], Any]] = {}

    def __call__(self) -> Line:
        with self._mode():
            self._measure()
        return self.line

    def _mode(self) -> AbstractContextManager[Any]:
        """PyTorch's inference mode for the whole case; entering it in a step would cost 1 us."""
        if not self.case.inference or not {EAGER, COMPILED} & set(self.names):
            return nullcontext()
        import torch

        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode

    def _measure(self) -> None:
        self._make()
        if self.steps:
            self._peaks()
            self._host_calls()
            self._time()
            if self.case.flops or self.case.moved:
                self._peaks()

    def _make(self) -> None:
        """Builds each contestant and compares what it computes with the first that did."""
        first: tuple[str, list[Any]] | None = None
        own: list[Any] | None = None
        order = [n for n in CONTESTANTS if not n.startswith("proa")] + [DYNAMIC, JIT, FAST]
        for name in [n for n in order if n in self.names]:
            try:
                step, read = self.case.make(name)
                out = [step() for _ in range(self.case.compared)]
                found = arrays(out if self.case.scalar else out[-1] if read is None else read())
                for _ in range(4):  # replays and compiled programs are there after these
                    step()
            except Exception as error:  # a peer that cannot do it is reported, not judged
                self.line.failed[name] = f"{type(error).__name__}: {error!s:.300}"
                continue
            if first is None:
                first = name, found
            else:
                error_ = difference(found, first[1])
                if not error_ <= self.case.tolerance:
                    self.line.failed[name] = f"differs from {first[0]} by {error_:.1e}"
                    continue
            if name in (DYNAMIC, JIT):
                if own is not None and any(
                    a.tobytes() != b.tobytes() for a, b in zip(own, found, strict=True)
                ):
                    self.line.notes.append("dynamic and jit differ in bits")
                own = found
            self.steps[name] = step
        self.steps = {n: self.steps[n] for n in CONTESTANTS if n in self.steps}

    def _time(self) -> None:
        took = {n: min(_once(s) for _ in range(3)) for n, s in self.steps.items()}
        often = {n: max(1, min(5000, int(TURN / max(t, 1e-7)))) for n, t in took.items()}
        gc.collect()
        watch, alone = machine.Neighbours(), list[bool]()
        times = rounds_of(
            self.steps, often, self.rounds, before=lambda: watch.begin(REST),
            between=lambda: alone.append(watch.end()), patience=PATIENCE,
        )  # fmt: skip
        for i, (name, found) in enumerate(times.items(), len(times)):
            quiet = [t for t, ok in zip(found, alone[i :: len(times)], strict=True) if ok]
            if len(quiet) < min(QUIET, len(found)):
                self.line.notes.append(f"{name}: {len(quiet)} of {len(found)} turns were quiet")
            else:
                times[name] = quiet
        self.line.rounds = min(map(len, times.values()))
        self.line.times = {n: statistics.median(t) for n, t in times.items()}
        self.line.least = {n: min(t) for n, t in times.items()}
        noisy = [n for n, t in self.line.times.items() if t > NOISY * self.line.least[n]]
        if noisy:
            least = ", ".join(f"{n} {shown(self.line.least[n])}" for n in noisy)
            self.line.notes.append(f"noisy; the least times: {least}")

    def _peaks(self) -> None:
        """The least time that the machine could take; measured before and after, the best holds."""
        case, threads = self.case, self.line.threads
        if case.flops:
            dtype = "float64" if case.double else "float32"
            speed = machine.multiply_add_peak(dtype, threads)
            found, name = case.flops / speed, f"{speed / 1e9:.0f} GFLOP/s"
        elif case.moved:
            speed = machine.copy_speed(int(case.moved), threads)
            found, name = case.moved / speed, f"copy {speed / 1e9:.0f} GB/s"
        else:
            return
        if not self.line.ideal or found < self.line.ideal:
            self.line.ideal, self.line.peak = found, name

    def _host_calls(self) -> None:
        for name in (DYNAMIC, JIT):
            if name in self.steps:
                self.line.host[name] = host_calls(self.steps[name])


def _once(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def host_calls(step: Callable[[], Any]) -> int:
    """The calls of NumPy's meaning in the programs that one step runs."""
    from proa.record.replay import cache

    before = {key: plan.sights for key, plan in cache.plans.items()}
    step()
    count = 0
    for key, plan in cache.plans.items():
        ran = plan.sights - before.get(key, 0)
        report = getattr(plan.run, "report", None)
        if ran:
            steps = len(plan.program.graph.steps)
            count += ran * (report.get("host_calls", steps) if report is not None else steps)
    return count


# Printing.

HEAD: Final = (
    "| case | threads | torch eager | torch compile | jax | proa dynamic | proa jit "
    "| ratio dynamic | ratio jit | host calls | share of peak, best peer / dynamic / jit |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def shown(seconds_: float | None) -> str:
    """A time with three digits."""
    if seconds_ is None:
        return "-"
    for scale, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds_ * scale >= 1:
            return f"{seconds_ * scale:.3g} {unit}"
    return f"{seconds_ * 1e6:.3g} us"


def row_of(line: Line) -> str:
    """The line of the Markdown table."""
    cells = [f"{line.row}: {line.case}", str(line.threads)]
    for name in (EAGER, COMPILED, JAX, DYNAMIC, JIT):
        alone = f" (alone {shown(line.alone[name])})" if name in line.alone else ""
        cells.append(shown(line.times.get(name)) + alone)
    for name in (DYNAMIC, JIT):
        ratio = line.ratio(name)
        cells.append("-" if ratio is None else f"{ratio:.2f}")
    cells.append(" / ".join(str(n) for n in line.host.values()) or "-")
    peer = line.peer()
    if line.ideal:
        found = [line.ideal / peer[1] if peer else None, line.share(DYNAMIC), line.share(JIT)]
        shares = " / ".join("-" if s is None else f"{100 * s:.0f}" for s in found)
        cells.append(f"{shares} % of {line.peak}")
    else:
        cells.append("-")
    return "| " + " | ".join(cells) + " |"


def price_of(line: Line) -> str:
    """What strict numerics cost: strict time over fast time, medians and least."""
    strict, fast = line.times.get(JIT), line.times.get(FAST)
    if strict is None or fast is None:
        return ""
    least = line.least[JIT] / line.least[FAST]
    return f"{line.case}: strict / fast {strict / fast:.2f}, of the least {least:.2f}"


def print_line(line: Line) -> None:
    print(row_of(line), flush=True)
    for name, reason in line.failed.items():
        print(f"    {line.case}: {name} left out, {reason}", file=sys.stderr, flush=True)
    if price := price_of(line):
        print(f"    {price}", flush=True)
    for note in line.notes:
        print(f"    {line.case}: {note}", file=sys.stderr, flush=True)
