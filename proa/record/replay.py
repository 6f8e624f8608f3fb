"""Programs found again by their structure: the cache holds structure only, never a buffer."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, Final, final

from proa.compile.backend import Device, Donation
from proa.compile.find import backend
from proa.compile.program import Program
from proa.compile.stages import lower, shown
from proa.compile.tiers import OneByOne, counts
from proa.compile.watch import timed, watch
from proa.config import config
from proa.graph.graph import Graph
from proa.graph.node import Where, line_of
from proa.graph.template import Sizes
from proa.record.sized import Sized, contractions_of

MOST_BOUND: Final = 256


@final
class Plan:
    """One structure: its recorded graph, the program after all passes, what runs it now.

    A plan may be that of some `sizes` of a program for many: then its graph and its program are
    made when somebody asks.
    """

    __slots__ = ("_graph", "_program", "run", "sights", "whole", "reason", "where", "number",
                 "contractions", "donated", "sized", "sizes")  # fmt: skip

    def __init__(
        self, graph: Graph, device: Device, reason: str, where: Where, numerics: str = "strict",
        donated: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self._graph: Graph | None = graph
        chip = backend(device.backend)
        self._program: Program | None = timed(
            "compile", lower, graph, chip, device, numerics, donated
        )
        self.run: Any = None
        self.sights = 0
        self.whole = False
        self.reason = reason
        self.where = where
        self.number = 0
        self.donated = 0
        self.contractions = contractions_of(self.program.graph)
        self.sized: Sized | None = None
        self.sizes: Sizes = ()

    @classmethod
    def at(cls, sized: Sized, sizes: Sizes) -> Plan:
        """The plan of a program for many sizes at these."""
        new = cls.__new__(cls)
        new._graph = new._program = new.run = new.where = None
        new.sights, new.whole, new.donated = 0, False, 0
        new.number, new.reason = sized.number, "other sizes"
        new.contractions = sized.contractions
        new.join(sized, sizes)
        return new

    def join(self, sized: Sized, sizes: Sizes) -> None:
        """From now on this plan is that of a program for many sizes at these."""
        self.sized, self.sizes = sized, sizes

    def prepare(self) -> None:
        """What runs is at hand from now on."""
        if not self.whole:
            self._choose()

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            assert self.sized is not None
            self._graph = self.sized.recorded.bind(self.sizes)
        return self._graph

    @property
    def program(self) -> Program:
        if self._program is None:
            assert self.sized is not None
            self._program = self.sized.program_at(self.sizes)
        return self._program

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        """The first sight runs operation by operation, the second compiles the whole."""
        self.sights += 1
        if not self.whole:
            self._choose()
        counts.dispatches += 1
        counts.contractions += self.contractions
        by = watch.by
        found: list[Any] = (
            self.run(buffers) if by is None else by.run(self.run, self.program, buffers)
        )
        return found

    @property
    def overwrites(self) -> frozenset[int]:
        """Inputs in whose memory results can lie, if they are donated."""
        found: frozenset[int] = getattr(self.run, "overwrites", frozenset())
        return found

    def note(self, donation: Donation) -> int:
        """Counts the inputs whose memory a run gave to results."""
        counts.donated += donation.count
        self.donated = donation.count
        return donation.count

    @property
    def report(self) -> dict[str, Any]:
        """What is known of it: operations, the peak of live results, the device, inputs whose
        memory the last run gave to results; kernels, once there are any."""
        found = dict(self.run.report) if self.whole else {}
        found.setdefault("peak_bytes", self.program.peak_bytes())
        found["operations"] = len(self.program.graph.steps)
        found["device"], found["donated"] = str(self.program.device), self.donated
        return found

    def shown(self, name: str) -> str:
        """What a pass makes of the recorded graph, as text."""
        device = self.program.device
        chip, numerics = backend(device.backend), self.program.numerics
        return shown(name, self.graph, chip, device, numerics)

    def _choose(self) -> None:
        if self.sized is not None:
            self.run, self.whole = self.sized.executable(self.sizes), True
            return
        chip = backend(self.program.device.backend)
        if self.sights == 1 and not (chip.eager_compile and not self._mostly_ready(chip.name)):
            self.run = OneByOne(self.program, chip)
            return
        self.run = timed("compile", chip.compile, self.program)
        self.whole = True
        counts.programs_compiled += 1

    def _mostly_ready(self, name: str) -> bool:
        """Whether at least half of the entries have an executable of their own already."""
        steps = self.program.graph.steps
        key = (name, self.program.device)
        ready = sum(key in s.entry.memo for s in steps)
        return 2 * ready >= len(steps)


@final
class Cache:
    """Plans by key, the oldest dropped first. Keys are compared in full; no hash is trusted.

    `bound` are those of programs for many sizes, apart, so that many sizes push out no program;
    the one that was used longest ago goes first.
    """

    __slots__ = ("plans", "bound", "families", "lock", "made")

    def __init__(self) -> None:
        self.plans: dict[tuple[Any, ...], Plan] = {}
        self.bound: dict[tuple[Any, ...], Plan] = {}
        self.families: dict[tuple[Any, ...], Any] = {}
        self.lock = threading.Lock()
        self.made = 0

    def find(self, key: tuple[Any, ...]) -> Plan | None:
        found = self.plans.get(key)
        if found is None and self.bound:
            with self.lock:
                found = self.bound.pop(key, None)
                if found is not None:
                    self.bound[key] = found
        return found

    def bind(self, key: tuple[Any, ...], plan: Plan) -> Plan:
        """One more plan of a program for many sizes."""
        with self.lock:
            found = self.bound.setdefault(key, plan)
            while len(self.bound) > min(MOST_BOUND, config.program_limit):
                del self.bound[next(iter(self.bound))]
        return found

    def add(self, key: tuple[Any, ...], plan: Plan) -> Plan:
        with self.lock:
            found = self.plans.setdefault(key, plan)
            if found is plan:
                self.made += 1
                plan.number = self.made
            while len(self.plans) > config.program_limit:
                del self.plans[next(iter(self.plans))]
        return found

    def clear(self) -> None:
        with self.lock:
            self.plans.clear()
            self.bound.clear()
            self.families.clear()


cache: Final = Cache()


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    cache.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def why_new(nodes: Sequence[Any], plans: Sequence[Plan]) -> tuple[str, Where]:
    """Why no plan fits: the first node that differs from the plan that agrees longest."""
    best = -1
    for plan in plans:
        steps = plan.graph.steps
        same = 0
        while same < min(len(steps), len(nodes)) and steps[same].entry is nodes[same].entry:
            same += 1
        best = max(best, same)
    if best < 0:
        return "the first program", nodes[0].where if nodes else None
    if best >= len(nodes):
        last = nodes[-1] if nodes else None
        where = last.where if last is not None else None
        return "other results are alive, or operands are connected otherwise", where
    node = nodes[best]
    return f"operation {best} is {node.entry!r:.120}", node.where


def _written(plan: Plan) -> list[str]:
    """The operation and line of each result."""
    names: dict[int, str] = {}
    slot = plan.graph.first_step_slot
    for step in plan.graph.steps:
        for i in range(len(step.entry.outs)):
            names[slot + i] = f"{step.entry.primitive.name} at {line_of(step.where)}"
        slot += len(step.entry.outs)
    return [names.get(o, "an input") for o in plan.graph.outputs]


def programs() -> list[dict[str, Any]]:
    """One row for each program: number, operations, sights, tier, reason, line."""
    rows = []
    bound: dict[int, list[Plan]] = {}
    plans = list(cache.plans.values())
    for plan in [*plans, *list(cache.bound.values())]:
        if plan.sized is not None:
            bound.setdefault(id(plan.sized), []).append(plan)
    for plan in plans:
        report = plan.report
        of, same = plan.sized, bound.get(id(plan.sized), [])
        is_sized = of is not None and of.number == plan.number
        rows.append(
            {
                "number": plan.number,
                "recorded": len(plan.graph.steps),
                "operations": len(plan.program.graph.steps),
                "outputs": len(plan.graph.outputs),
                "sights": sum(p.sights for p in same) if is_sized else plan.sights,
                "compiled": plan.whole,
                "kernels": report.get("kernels"),
                "peak_bytes": report["peak_bytes"],
                "donated": plan.donated,
                "device": str(plan.program.device),
                "numerics": plan.program.numerics,
                "reason": plan.reason,
                "line": line_of(plan.where),
                "written": _written(plan),
                "dims": of.text() if is_sized and of is not None else "",
                "sizes": [p.sizes for p in same] if is_sized else [],
            }
        )
    return rows
