"""Sizes that vary: structures that differ in sizes alone are a family, and share one program.

The first sizes of a family have programs of their own. From three of them a template is found
(`graph/template.py`); what is recorded at another size is compared with it, and run by the
family's executable at that size. Nothing is guessed: primitives and operands are compared by the
family's key, shapes of leaves and parameters with what the template gives for these sizes; so the
entries are the same, for an entry follows from its primitive, its parameters and its operands.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, final

from proa.compile.backend import Device
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.config import config
from proa.errors import OutOfMemory, ProaError
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.template import Sizes, Template, Unlike, fit, polynomials
from proa.record.key import Pending, graph_of, role_of
from proa.record.replay import Plan, cache
from proa.record.sized import NAMES, Sized

FEWEST_POINTS: Final = 3
MOST_POINTS: Final = 5  # where no template fits so many, the family is left alone
MOST_DIMS: Final = 6
MOST_BYTES: Final = 1 << 40


class Point(NamedTuple):
    """A member: its plan, the sizes of its leaves, and the other integers of its parameters."""

    plan: Plan
    leaves: tuple[int, ...]
    params: tuple[int, ...]


@final
class Family:
    """Structures of one key, up to five of them, and the program that stands for all sizes.

    `places` say where the dims are read: of the integers of a member, which. `reason` is why there
    is no template, if one was looked for.
    """

    __slots__ = ("device", "numerics", "points", "sized", "places", "is_checked", "is_closed",
                 "reason", "lock")  # fmt: skip

    def __init__(self, device: Device, numerics: str) -> None:
        self.device = device
        self.numerics = numerics
        self.points: list[Point] = []
        self.sized: Sized | None = None
        self.places: tuple[int, ...] = ()
        self.is_checked = False
        self.is_closed = False
        self.reason: Unlike | None = None
        self.lock = threading.Lock()

    def plan(self, work: Pending) -> Plan | None:
        """The plan of pending work at its own sizes, if the family's program gives it."""
        sized = self.sized
        if sized is None or (self.is_closed and not self.is_checked):
            return None
        sizes = self._sizes(work)
        if min(sizes) < 2 or not _agrees(sized.recorded, work, sizes):
            return None
        try:
            if not self.is_checked and not self._check(sized, work, sizes):
                return None
            plan = Plan.at(sized, sizes)
            plan.prepare()
        except OutOfMemory:
            raise
        except ProaError:  # the rule of a step refuses these sizes: they have their own program
            return None
        sized.met += 1
        return plan

    def _sizes(self, work: Pending) -> Sizes:
        leaves = _leaf_sizes(work)
        if not self.places or self.places[-1] < len(leaves):
            return tuple([leaves[p] for p in self.places])
        every = (*leaves, *_param_sizes(work))
        return tuple([every[p] for p in self.places])

    def _check(self, sized: Sized, work: Pending, sizes: Sizes) -> bool:
        """The passes are asked once more whether they give what the template of theirs says."""
        graph = graph_of(work, [role_of(v) for v in work.leaves])
        chip = backend(self.device.backend)
        lowered = lower(graph, chip, self.device, self.numerics).graph
        self.is_checked = sized.lowered.gives(lowered, sizes)
        return self.is_checked

    def add(self, work: Pending, plan: Plan) -> None:
        """One more member, which had to be made; from three on a template is looked for."""
        if self.is_closed or not self.lock.acquire(blocking=False):  # another thread is at it
            return
        try:
            self._add(Point(plan, _leaf_sizes(work), tuple(_param_sizes(work))))
        except Unlike as reason:
            self.reason = reason.with_traceback(None)  # which would keep handles alive
        finally:
            if self.is_closed:
                self.points.clear()
            self.lock.release()

    def _add(self, new: Point) -> None:
        if new.plan.program.peak_bytes() > MOST_BYTES:  # it was refused
            return
        points = [*[p for p in self.points if p[1:] != new[1:]], new]
        varied = [i for i, c in enumerate(zip(*[p.leaves for p in points], strict=True))
                  if len(set(c)) > 1]  # fmt: skip
        # Where a size is 0 or 1 operands are broadcast, or nothing: another structure.
        self.points = [p for p in points if all(p.leaves[i] > 1 for i in varied)]
        if len(self.points) >= FEWEST_POINTS and new in self.points:
            self.is_closed = len(self.points) >= MOST_POINTS
            self._find()

    def _find(self) -> None:
        points = self.points[::-1]  # the newest is the sample: it is about to run
        places = _dims([(*p.leaves, *p.params) for p in points], len(points[0].leaves))
        if not places or len(places) > MOST_DIMS:
            raise Unlike(f"{len(places)} sizes that vary")
        names = tuple(NAMES[: len(places)])
        sizes = [tuple([(*p.leaves, *p.params)[i] for i in places]) for p in points]
        recorded = fit([p.plan.graph for p in points], names, sizes)
        lowered = fit([p.plan.program.graph for p in points], names, sizes)
        sized = Sized(recorded, lowered, self.device, self.numerics)
        sized.number = points[0].plan.number
        for p, s in zip(points, sizes, strict=True):
            p.plan.join(sized, s)
        self.sized, self.places, self.is_checked, self.reason = sized, places, False, None


def _dims(members: Sequence[tuple[int, ...]], leaves: int) -> tuple[int, ...]:
    """Places of integers that vary and are no polynomial of those before; small ones come first,
    and sizes of leaves before parameters."""
    columns: dict[tuple[int, ...], int] = {}
    for place, column in enumerate(zip(*members, strict=True)):
        if len(set(column)) > 1:
            columns.setdefault(column, place)
    found: list[tuple[int, ...]] = []
    known: Any = {}.get
    for column in sorted(columns, key=lambda c: (columns[c] >= leaves, sum(c))):
        if known(column) is None:
            found.append(column)
            known = polynomials([str(i) for i in range(len(found))], list(zip(*found, strict=True)))
    return tuple(sorted([columns[c] for c in found]))


def _leaf_sizes(work: Pending) -> tuple[int, ...]:
    return tuple([n for v in work.leaves for n in v.spec.shape])


def _param_sizes(work: Pending) -> list[int]:
    found: list[int] = []
    for node in work.nodes:
        if node.entry.params:
            found += _integers(node.entry.params)
    return found


def _integers(form: Any) -> Iterator[int]:
    if type(form) is int:
        yield form
    elif type(form) is tuple:
        for part in form:
            yield from _integers(part)


def _agrees(template: Template, work: Pending, sizes: Sizes) -> bool:
    """Whether pending work of the family's key is what the template gives at these sizes."""
    specs = [v.spec.plain for v in work.leaves]
    if not template.takes(specs, sizes):
        return False
    # Which operands they have is compared by the key.
    return all([template.gives_step(i, n.entry, sizes) for i, n in enumerate(work.nodes)])


# The key of a family: all of a structure but its sizes.


def family_key(work: Pending, device: Device, numerics: str) -> tuple[Any, ...]:
    flat: list[Any] = [device, numerics]
    for item in work.key:
        flat += (item.primitive, _kind(item.params)) if type(item) is Entry else (item,)
    for v in work.leaves:
        of = v.spec
        flat.append((of.dtype, of.ndim, of.weak, of.placement, role_of(v)))
    return tuple(flat)


def _kind(form: Any) -> Any:
    """A parameter without its sizes. What is no size (-1, 0, 1, an order of axes) stays."""
    kind = type(form)
    if kind is int:
        return form if -1 <= form <= 1 else int
    if kind is tuple:
        if len(form) > 1 and set(form) == set(range(len(form))):
            return form
        return tuple([_kind(f) for f in form])
    if kind is Graph:
        found = form.memo.get("kind")
        if found is None:
            found = form.memo["kind"] = _graph_kind(form)
        return found
    return form


def _graph_kind(graph: Graph) -> Any:
    inputs = tuple([(i.role, i.spec.dtype, i.spec.ndim, i.spec.weak) for i in graph.inputs])
    if graph.constants:  # which of them are equal is a matter of sizes
        return inputs, tuple([(s.entry.primitive, _kind(s.entry.params)) for s in graph.steps])
    steps = tuple([(s.entry.primitive, _kind(s.entry.params), s.slots) for s in graph.steps])
    return inputs, steps, graph.outputs


def family_of(work: Pending, device: Device, numerics: str) -> Family:
    key = family_key(work, device, numerics)
    found: Family | None = cache.families.get(key)
    if found is None:
        with cache.lock:
            found = cache.families.setdefault(key, Family(device, numerics))
            while len(cache.families) > config.program_limit:
                del cache.families[next(iter(cache.families))]
    return found
