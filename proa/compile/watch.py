"""Who watches what runs: nobody, or the profile that this thread has opened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from math import prod
from time import perf_counter_ns
from typing import Any, Final, NamedTuple, Protocol, final

from proa.compile.program import Program
from proa.graph.entry import Entry
from proa.graph.graph import Step
from proa.graph.node import Where

BYTE_NS: Final = 1 / 16  # to move a byte, about
OPERATION_NS: Final = 0.02  # of an elementary operation on one element, about


class Part(NamedTuple):
    """An operation that a piece of work computes; time is shared out by weight."""

    operation: str
    scope: str
    where: Where
    weight: float


@final
class Work:
    """A piece of work, and what was seen of it: how often it ran, nanoseconds.

    `key` tells kernels of one name apart. `nbytes` are read and written each time, `operations`
    computed, in those of float32: one of float64 counts as two, a multiply-add as two.
    """

    __slots__ = ("kind", "name", "key", "parts", "nbytes", "operations", "calls", "ns")

    def __init__(
        self, kind: str, name: str, key: str = "", parts: Sequence[Part] = (), nbytes: int = 0,
        operations: float = 0.0,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.name = name
        self.key = key
        self.parts = tuple(parts)
        self.nbytes = nbytes
        self.operations = operations
        self.calls = 0
        self.ns = 0


class Watcher(Protocol):
    """What is told of everything that runs on its thread."""

    def run(self, executable: Any, program: Program, buffers: Sequence[Any]) -> list[Any]:
        """Runs an executable of this program (or of the same operation by itself, recorded
        elsewhere). One that has
        a method `watched(buffers, watcher, program)` is run by it, and notes what it does itself;
        of any other the time as a whole is noted."""
        ...

    def once(self, name: str, owner: Any, make: Callable[[], Any]) -> Any:
        """`make()`, made once for each owner."""
        ...

    def work(self, work: Work) -> Work:
        """The same work, known from now on."""
        ...

    def note(self, work: Work, begin: int, end: int) -> None:
        """A piece of work has run, in nanoseconds of `time.perf_counter_ns`."""
        ...

    def timed(self, name: str, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """A call of a function, noted under a name."""
        ...


@final
class _Watch(threading.local):
    """`by`: the watcher of this thread."""

    by: Watcher | None = None


watch: Final = _Watch()


def timed(name: str, function: Callable[..., Any], *given: Any) -> Any:
    """A call of a function, seen by who watches."""
    return function(*given) if watch.by is None else watch.by.timed(name, function, given)


def noted(run: Callable[..., Any], by: Watcher, work: Work) -> Callable[..., Any]:
    """What runs, with its time noted."""
    by.work(work)

    def one(*given: Any) -> Any:
        begin = perf_counter_ns()
        found = run(*given)
        by.note(work, begin, perf_counter_ns())
        return found

    return one


def parts_of(steps: Iterable[Step], weight: Callable[[Entry], float]) -> list[Part]:
    return [Part(s.entry.primitive.name, s.scope, s.where, weight(s.entry)) for s in steps]


def operations_of(entry: Entry) -> float:
    """Elementary operations by the declared cost, in those of float32."""
    scale = max(1.0, entry.outs[0].dtype.itemsize / 4)
    if entry.primitive.family.name == "contraction":
        a, b = entry.named_params["a"], entry.named_params["b"]
        sizes = dict(zip(a, entry.ins[0].shape, strict=True))
        sizes |= dict(zip(b, entry.ins[1].shape, strict=True))
        return 2.0 * scale * prod(sizes.values())
    if entry.primitive.family.name == "window":
        return 2.0 * scale * entry.outs[0].size * prod(entry.ins[1].shape[1:])
    sizes_of = [s.size for s in (*entry.ins, *entry.outs)]
    if entry.primitive.family.name in ("movement", "indexing"):
        return 0.0
    return scale * float(entry.primitive.cost) * max(sizes_of, default=0)


def step_work(step: Step, kind: str = "operation") -> Work:
    """One operation by itself."""
    entry = step.entry
    nbytes = sum(s.nbytes for s in (*entry.ins, *entry.outs))
    parts = parts_of([step], nanoseconds_of)
    return Work(kind, f"{entry!r:.72}", repr(entry), parts, nbytes, operations_of(entry))


def nanoseconds_of(entry: Entry) -> float:
    """About how long an operation takes by itself: moving and computing, the longer of both."""
    moved = sum(s.nbytes for s in (*entry.ins, *entry.outs))
    if entry.primitive.family.name == "movement" and entry.primitive.cost == 0:
        moved = 0
    return max(moved * BYTE_NS, operations_of(entry) * OPERATION_NS)
