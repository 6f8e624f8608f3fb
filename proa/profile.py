"""`profile`: where time goes, by kernel, operation, module and user line."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Final, NamedTuple, Self, final

from proa.compile.program import Program
from proa.compile.watch import (
    Work,
    nanoseconds_of,
    operations_of,
    parts_of,
    step_work,
    watch,
)
from proa.errors import ArgumentError, ProaError, message
from proa.graph.node import line_of
from proa.record.boundary import compute
from proa.record.live import CAPTURE, thread

MOST_EVENTS: Final = 500_000  # kept for the trace; sums go on
SHOWN: Final = 12  # rows of a printed table
VIEWS: Final = ("kernel", "operation", "module", "line")
_OPEN: Final = threading.Lock()  # held by the profile that is open


@final
class Row(NamedTuple):
    """One row of a table.

    Arguments:
        name: the kernel, operation, module path or line; or what is none of these: `Python` (all
            that is outside of programs), `around kernels` (memory, launching), `compile`,
            `profile` (what the profile itself took to describe new programs).
        calls: how many pieces of work it was part of.
        seconds: its time. Where a kernel computes several operations, they share its time by
            their declared cost. The rows of each table sum to the time of the whole block.
        share: of the whole time.
        nbytes: read and written; None in tables where it cannot be told apart.
        operations: elementary ones, in those of float32; None likewise.
    """

    name: str
    calls: int
    seconds: float
    share: float
    nbytes: int | None = None
    operations: float | None = None


@final
class Peaks(NamedTuple):
    """What this machine can do at most with all threads of `cpu`, measured: bytes copied (read
    and written) a second, operations a second of float32, a multiply-add being two."""

    bytes_per_second: float
    operations_per_second: float


def profile() -> Profile:
    """Measures where time goes while a block runs.

    Inside the block what the backend `cpu` does runs call by call and each call is timed; on other
    backends a program (or, where a structure is seen for the first time, an operation) is timed as
    a whole, until its results are there. What is pending is computed before the block begins and
    when it ends. Only the thread that opened the block is watched.

    `print(p)` shows the tables, with bytes moved and shares of the machine's measured peaks;
    `p.rows` and `p.by(...)` give them as records, `p.save(path)` writes a trace.

    Errors:
        ProaError: another profile is open in this process, or a function is being recorded.

    >>> import proa as pa
    >>> x = pa.ones((1000,))
    >>> with pa.profile() as p:
    ...     y = pa.exp(x).sum().item()
    >>> {"exp", "sum"} <= {row.name for row in p.by("operation")}
    True
    >>> abs(sum(row.seconds for row in p.rows) - p.seconds) < 1e-6
    True
    """
    return Profile()


@final
class Profile:
    """A block of code under measurement, and what was measured. `seconds` is the time of the
    block, 0 until it has ended."""

    __slots__ = ("seconds", "begin", "works", "kept", "noted", "events", "state", "own")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.begin = 0
        self.works: list[Work] = []
        self.kept: dict[tuple[str, int], tuple[Any, Any]] = {}
        self.noted = 0  # nanoseconds that some piece of work has
        self.events: list[tuple[Work, int, int]] = []
        self.state = "new"
        self.own = self.work(Work("profile", "profile"))

    def __enter__(self) -> Self:
        if self.state != "new":
            raise ProaError(message("profile", "a profile that was used", "a new one"))
        if thread.state.mode & CAPTURE:
            raise ProaError(message("profile", "a function that is recorded", "it outside of jit"))
        compute(())
        if not _OPEN.acquire(blocking=False):
            given = "a second profile while one is open"
            raise ProaError(message("profile", given, "one at a time", "closing the first"))
        self.state = "open"
        watch.by = self
        self.begin = perf_counter_ns()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """After an error in the block what is pending stays so."""
        try:
            if kind is None:
                compute(())
        finally:
            self.seconds = (perf_counter_ns() - self.begin) / 1e9
            watch.by = None
            self.state = "ended"
            self.kept.clear()
            _OPEN.release()

    # What the room of backends tells.

    def run(self, executable: Any, program: Program, buffers: Sequence[Any]) -> list[Any]:
        """Runs an executable, and notes what it does, or itself as a whole."""
        watched = getattr(executable, "watched", None)
        make = _whole if watched is None else _around
        work = self.once("program", program, lambda: self.work(make(program)))
        before, begin = self.noted, perf_counter_ns()
        found: list[Any]
        if watched is None:
            found = executable(buffers)
            for buffer in found:
                buffer.wait()
        else:
            found = watched(buffers, self, program)
        end = perf_counter_ns()
        self._log(work, begin, end)
        work.ns += end - begin - (self.noted - before)  # what has been noted inside is not its own
        self.noted = before + end - begin
        return found

    def once(self, name: str, owner: Any, make: Callable[[], Any]) -> Any:
        """`make()`, made once for each owner. That is work of the profile itself."""
        row = self.kept.get((name, id(owner)))
        if row is None:
            begin = perf_counter_ns()
            row = self.kept[name, id(owner)] = (owner, make())
            self.note(self.own, begin, perf_counter_ns())
        return row[1]

    def work(self, work: Work) -> Work:
        """The same work, known from now on."""
        self.works.append(work)
        return work

    def note(self, work: Work, begin: int, end: int) -> None:
        """A piece of work has run."""
        self.noted += end - begin
        work.ns += end - begin
        self._log(work, begin, end)

    def _log(self, work: Work, begin: int, end: int) -> None:
        work.calls += 1
        if len(self.events) < MOST_EVENTS:
            self.events.append((work, begin, end))

    def timed(self, name: str, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """A call of a function, noted under a name."""
        begin = perf_counter_ns()
        try:
            return function(*given)
        finally:
            end = perf_counter_ns()
            work = self.once(name, None, lambda: self.work(Work(name, name)))
            self.note(work, begin, end)

    # What is asked for.

    @property
    def rows(self) -> list[Row]:
        """The table by kernel."""
        return self.by("kernel")

    def by(self, view: str) -> list[Row]:
        """The rows of a table, the longest time first.

        Arguments:
            view: `kernel`, `operation`, `module` or `line`.

        Errors:
            ArgumentError: another view; or the block has not ended.
        """
        if view not in VIEWS:
            raise ArgumentError(message("profile", f"{view!r:.60}", "one of " + ", ".join(VIEWS)))
        if self.state != "ended":
            raise ArgumentError(message("profile", f"a block that is {self.state}", "its end"))
        found: dict[str, list[Any]] = {}
        names = _names(self.works) if view == "kernel" else {}
        for work in [w for w in self.works if w.calls]:
            for name, share in _split(work, view, names):
                row = found.setdefault(name, [0, 0.0, 0, 0.0])
                row[0] += work.calls
                row[1] += work.ns * share
                row[2] += work.nbytes * work.calls
                row[3] += work.operations * work.calls
        wall = round(1e9 * self.seconds)
        found["Python"] = [1, float(wall - self.noted), 0, 0.0]
        is_whole = view == "kernel"
        rows = [
            Row(name, calls, ns / 1e9, ns / max(wall, 1), *((m, o) if is_whole else (None, None)))
            for name, (calls, ns, m, o) in found.items()
        ]
        return sorted(rows, key=lambda r: -r.seconds)

    def __repr__(self) -> str:
        if self.state != "ended":
            return f"Profile({self.state})"
        return "\n\n".join([self._head(), *[self.table(view) for view in VIEWS]])

    def table(self, view: str, most: int = SHOWN) -> str:
        """A table as text, at most so many rows of it, then the rest as one."""
        rows = self.by(view)
        peaks = _peaks() if view == "kernel" and any(r.nbytes for r in rows) else None
        head = f"{'ms':>10} {'%':>5} {'calls':>7}"
        head += f" {'MB':>9} {'% copy':>6} {'% madd':>6}" if peaks else ""
        lines = [f"{head}  by {view}"]
        shown = rows if len(rows) <= most + 1 else rows[:most]
        for r in shown:
            text = f"{1e3 * r.seconds:10.3f} {100 * r.share:5.1f} {r.calls:7d}"
            lines.append(f"{text}{_rates(r, peaks)}  {_short(r.name)}")
        rest = rows[len(shown) :]
        if rest:
            seconds, share = sum(r.seconds for r in rest), sum(r.share for r in rest)
            text = f"{1e3 * seconds:10.3f} {100 * share:5.1f} {sum(r.calls for r in rest):7d}"
            lines.append(f"{text}{' ' * 24 if peaks else ''}  {len(rest)} more rows")
        return "\n".join(lines)

    def _head(self) -> str:
        text = f"profile of {1e3 * self.seconds:.3f} ms"
        if not any(w.nbytes for w in self.works):
            return text
        peaks = _peaks()
        if peaks is None:
            return text
        return (
            f"{text}; this machine copies {peaks.bytes_per_second / 1e9:.1f} GB/s and does "
            f"{peaks.operations_per_second / 1e9:.0f} G operations/s (multiply-adds of float32)"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trace as JSON for chrome://tracing or https://ui.perfetto.dev. At most
        500,000 pieces of work are in it.

        Errors:
            ArgumentError: the block has not ended, or the path is none.
        """
        from proa.io.atomic import replaced, target_of

        if self.state != "ended":
            raise ArgumentError(message("profile", f"a block that is {self.state}", "its end"))
        with replaced(target_of("profile", path)) as temporary:
            temporary.write_text(json.dumps(self._trace()), encoding="utf-8")

    def _trace(self) -> dict[str, Any]:
        place = {"pid": os.getpid(), "tid": threading.get_native_id()}
        head = {"name": "process_name", "ph": "M", "ts": 0, "args": {"name": "Proa"}, **place}
        rows: list[dict[str, Any]] = [head]
        for work, begin, end in self.events:
            args: dict[str, Any] = {"operations": work.operations, "bytes": work.nbytes}
            if work.parts:
                args["lines"] = ", ".join(dict.fromkeys(line_of(p.where) for p in work.parts[:8]))
                args["modules"] = ", ".join(dict.fromkeys(p.scope for p in work.parts[:8]))
            rows.append({
                "name": _AROUND.get(work.kind, work.name), "cat": work.kind, "ph": "X",
                "ts": (begin - self.begin) / 1e3, "dur": (end - begin) / 1e3, "args": args, **place,
            })  # fmt: skip
        return {"traceEvents": rows, "displayTimeUnit": "ms"}


_AROUND: Final = {"around kernels": "program"}


def _around(program: Program) -> Work:
    """What is left of a program beside its kernels."""
    return Work("around kernels", "around kernels")


def _whole(program: Program) -> Work:
    """A program that shows nothing of its inside: its bytes are those that go in and out."""
    graph = program.graph
    steps = graph.steps
    if len(steps) == 1:
        return step_work(steps[0])
    parts = parts_of(steps, nanoseconds_of)
    where = line_of(steps[0].where) if steps else "nowhere"
    nbytes = sum(s.nbytes for s in (*graph.input_specs(), *graph.output_specs()))
    done = sum(operations_of(s.entry) for s in steps)
    name = f"program of {len(steps)} from {where}"
    return Work("program", name, str(id(program)), parts, nbytes, done)


def _names(works: Sequence[Work]) -> dict[tuple[str, str], str]:
    """Of each kernel; those that only their structure tells apart are numbered."""
    count: Counter[str] = Counter()
    found: dict[tuple[str, str], str] = {}
    for w in works:
        if (w.name, w.key) not in found:
            count[w.name] += 1
            again = f" #{count[w.name]}" if count[w.name] > 1 else ""
            found[w.name, w.key] = f"{w.name}{again}"
    return found


def _split(work: Work, view: str, names: dict[tuple[str, str], str]) -> list[tuple[str, float]]:
    """The rows that a piece of work belongs to, and the share of each."""
    if view == "kernel":
        return [(names[work.name, work.key], 1.0)]
    if not work.parts:
        return [(work.name, 1.0)]
    total = sum(p.weight for p in work.parts)
    shares: dict[str, float] = {}
    for p in work.parts:
        if view == "operation":
            name = p.operation
        elif view == "module":
            name = p.scope or "(no module)"
        else:
            name = line_of(p.where)
        share = p.weight / total if total else 1 / len(work.parts)
        shares[name] = shares.get(name, 0.0) + share
    return list(shares.items())


def _rates(row: Row, peaks: Peaks | None) -> str:
    """Bytes, and the shares of the peaks, as text."""
    if peaks is None:
        return ""
    if not row.nbytes or not row.seconds:
        return " " * 24
    copied = 100 * row.nbytes / row.seconds / peaks.bytes_per_second
    done = 100 * (row.operations or 0.0) / row.seconds / peaks.operations_per_second
    return f" {row.nbytes / 1e6:9.2f} {copied:6.0f} {done:6.0f}"


def _short(name: str) -> str:
    """A path under this folder without the folder."""
    here = os.getcwd() + os.sep
    return name.replace(here, "")


def _peaks() -> Peaks | None:
    """Measured once a process, when first shown; None where nothing can be compiled."""
    if not _MEASURED:
        try:
            from proa.backends.cpu.peak import measured
        except ImportError:
            return None
        _MEASURED.append(Peaks(*measured()))
    return _MEASURED[0]


_MEASURED: Final[list[Peaks]] = []
