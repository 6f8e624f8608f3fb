"""Programs of a template at any sizes: planned once with sizes that remember (`graph/size.py`), and
from then on a function of the sizes.

The passes run on a graph of its own, whose shapes and parameters are `Size`s. Every word of every
call and every place in the arena comes out as an int or a `Size`; and what the passes asked of
sizes comes out as guards. A *variant* is one such run: at sizes for which its guards hold, it is
what planning anew would give, or as good. At others there is a new variant.
"""

from __future__ import annotations

import threading
from array import array as numbers
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa.backends.cpu.executable import CpuExecutable, Laid
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.layout import Layout
from proa.backends.cpu.loop import Loop
from proa.backends.cpu.nest import Nests
from proa.backends.cpu.plan import Plan
from proa.compile.program import Program
from proa.errors import ProaError
from proa.graph.entry import Entry
from proa.graph.graph import Graph, Input, Step
from proa.graph.guards import Trace
from proa.graph.size import Size
from proa.graph.spec import Spec, apart
from proa.graph.template import Polynomial, Sizes, Template, polynomials

POINTS: Final = 3  # at which shapes are compared, and one for each dim
TRIES: Final = 24  # of sizes, some of which a step may refuse
MOST_VARIANTS: Final = 16
MOST_KEPT: Final = 16  # sizes
Build = Callable[[Program], CpuExecutable]


class Read(NamedTuple):
    """A number that is read from the graph of the sizes that are asked for."""

    number: int


@final
class Shapes:
    """How the shapes of a template's slots follow from its dims: found from graphs at several
    sizes, and looked at in every one. What is no polynomial is read from it."""

    def __init__(self, template: Template) -> None:
        points = _points(template)
        every = [template.bind(p).slot_specs() for p in points]
        found = polynomials(template.dims, points)
        self.kinds: list[tuple[int, tuple[Any, ...]]] = []  # a slot of each, and its shape
        self.kind: list[int] = []  # of each slot
        self.reads: list[tuple[int, int]] = []  # (slot, axis)
        kinds: dict[tuple[Spec, ...], int] = {}
        forms: dict[tuple[int, ...], Any] = {}
        for slot, specs in enumerate(zip(*every, strict=True)):
            if specs not in kinds:
                kinds[specs] = len(self.kinds)
                shape = []
                for axis, values in enumerate(zip(*[s.shape for s in specs], strict=True)):
                    if values not in forms:
                        forms[values] = values[0] if len(set(values)) == 1 else found(values)
                        if forms[values] is None:
                            forms[values] = Read(len(self.reads))
                            self.reads.append((slot, axis))
                    shape.append(forms[values])
                self.kinds.append((slot, tuple(shape)))
            self.kind.append(kinds[specs])
        self.firsts = [self.kinds[kind][0] for kind in self.kind]  # of each slot: that of its kind
        self.sized = [k for k in self.kinds if any(type(n) is not int for n in k[1])]

    def read(self, graph: Graph, sizes: Sizes) -> list[int] | None:
        """The numbers that are read; None if some slot is not as it should be at these sizes."""
        specs = graph.slot_specs()
        read = [specs[slot].shape[axis] for slot, axis in self.reads]
        if specs != [specs[slot] for slot in self.firsts]:
            return None
        for slot, shape in self.sized:
            if specs[slot].shape != shaped(shape, sizes, read):
                return None
        return read


def _points(template: Template) -> list[Sizes]:
    """The sample, and sizes about it at which the graph can be bound."""
    count, found = POINTS + len(template.dims), [template.sample]
    for k in range(1, TRIES):
        sizes = tuple([n + k + (3 + 2 * d) * k % 7 for d, n in enumerate(template.sample)])
        try:
            template.bind(sizes)
        except ProaError:
            continue
        found.append(sizes)
        if len(found) == count:
            break
    return found


def shaped(shape: tuple[Any, ...], sizes: Sequence[int], read: Sequence[int]) -> tuple[int, ...]:
    return tuple([_number(n, sizes, read) for n in shape])


def _number(form: Any, sizes: Sequence[int], read: Sequence[int]) -> Any:
    kind = type(form)
    if kind is Polynomial:
        return form.at(sizes)
    return read[form.number] if kind is Read else form


@final
class Sized:
    """A program at the sizes that were asked for, and the variants of it."""

    __slots__ = ("program", "build", "shapes", "variants", "kept", "lock", "made", "why")

    def __init__(self, program: Program, build: Build) -> None:
        self.program = program
        self.build = build
        self.shapes: Shapes | None = None
        self.variants: list[Variant] = []  # the one that was used last stands last
        self.kept: dict[Sizes, CpuExecutable] = {}
        self.lock = threading.RLock()
        self.made = 0
        self.why = ""  # the last program that was planned for its sizes alone

    @property
    def report(self) -> dict[str, Any]:
        return {"variants": self.made, "planned_alone": self.why}

    def at(self, sizes: Sizes) -> CpuExecutable:
        found = self.kept.get(sizes)
        if found is None:
            with self.lock:
                found = self.kept.get(sizes) or self._found(sizes)
                while len(self.kept) >= MOST_KEPT:
                    del self.kept[next(iter(self.kept))]
                self.kept[sizes] = found
        return found

    def _found(self, sizes: Sizes) -> CpuExecutable:
        template, program = self.program.template, self.program
        assert template is not None
        graph = template.bind(sizes)
        bound = Program(graph, program.device, program.donated, program.numerics)
        if self.shapes is None:
            self.shapes = Shapes(template)
        read = self.shapes.read(graph, sizes)
        if read is None:
            return self._alone(bound, f"shapes at {sizes} that do not follow from the template")
        for variant in reversed(self.variants):
            found = variant.at(bound, sizes, read)
            if found is not None:
                self.variants.remove(variant)
                self.variants.append(variant)
                return found
        variant = Variant(self.shapes, bound, template, sizes, read, self.build)
        found = variant.at(bound, sizes, read)
        if found is None:
            return self._alone(bound, f"guards that do not hold at {sizes}, where they were made")
        self.made += 1
        self.variants = [*self.variants, variant][-MOST_VARIANTS:]
        return found

    def _alone(self, bound: Program, why: str) -> CpuExecutable:
        self.why = why
        return self.build(bound)


@final
class Variant:
    """One run of the passes with Sizes. Sizes of 0 and 1, which passes treat as they treat no
    other, are plain ints: then it is a variant for these alone."""

    __slots__ = ("trace", "base", "small", "row", "function", "where", "which", "place", "entries",
                 "specs")  # fmt: skip

    def __init__(
        self, shapes: Shapes, bound: Program, template: Template, sizes: Sizes,
        read: Sequence[int], build: Build,
    ) -> None:  # fmt: skip
        self.trace = trace = Trace()
        self.small = {i: n for i, n in enumerate((*sizes, *read)) if n < 2}
        every = [n if n < 2 else trace.dim(n) for n in (*sizes, *read)]
        graph = self._graph(shapes, bound.graph, template, every)
        traced = Program(graph, bound.device, bound.donated, bound.numerics)
        try:
            self.base = build(traced)
        finally:
            trace.is_open = False
        self.place: dict[Any, int] = {}  # of each distinct Size, by its terms
        found: list[Size] = []

        def collect(n: int) -> int:
            if type(n) is Size and n.terms not in self.place:
                self.place[n.terms] = len(found)
                found.append(n)
            return n

        laid: Laid = self.base.laid
        places = [i for i, n in enumerate(laid.row) if type(n) is Size]
        for i in places:
            collect(laid.row[i])
        laid.at(collect, None)
        self.where = np.array(places, np.int64)
        self.which = np.array([self.place[laid.row[i].terms] for i in places], np.int64)
        self.row = numbers("q", laid.row)
        self.function = trace.function(found)

    def _graph(
        self, shapes: Shapes, bound: Graph, template: Template, every: Sequence[int]
    ) -> Graph:
        """The graph with Sizes. What is one spec, or one entry, at all sizes, is one in it."""
        count = len(template.dims)
        sizes, read = every[:count], every[count:]
        specs, mine = bound.slot_specs(), []
        for slot, shape in shapes.kinds:
            new = shaped(shape, sizes, read)
            is_sized = any(type(n) is Size for n in new)
            mine.append(apart(specs[slot], new) if is_sized else specs[slot])
        self.specs = {id(mine[kind]): slot for slot, kind in enumerate(shapes.kind)}
        of = [mine[kind] for kind in shapes.kind]
        inputs = tuple([Input(of[i], x.role) for i, x in enumerate(bound.inputs)])
        self.entries: dict[int, int] = {}  # an entry of this graph -> one of its steps
        known: dict[Any, Entry] = {}
        steps, slot = [], bound.first_step_slot
        for number, step in enumerate(bound.steps):
            entry, form = step.entry, template.params.get(number)
            outs = tuple(of[slot : slot + len(entry.outs)])
            slot += len(entry.outs)
            ins = tuple([of[s] for s in step.slots])
            key = (entry, form, *map(id, ins), *map(id, outs))
            if key not in known:
                known[key] = _entry(entry, form, ins, outs, sizes)
            made = known[key]
            self.entries[id(made)] = number
            steps.append(step._replace(entry=made))
        return Graph(inputs, tuple(steps), bound.outputs, bound.constants)

    def at(self, bound: Program, sizes: Sizes, read: Sequence[int]) -> CpuExecutable | None:
        """The program at these sizes, if the guards hold."""
        every = (*sizes, *read)
        if any(every[i] != n for i, n in self.small.items()):
            return None
        given = [n for i, n in enumerate(every) if i not in self.small]
        found = self.function(*given)
        if found is None:
            return None
        row, place, base = self.row[:], self.place, self.base
        np.frombuffer(row, np.int64)[self.where] = np.array(found, np.int64)[self.which]
        laid = base.laid.at(lambda n: found[place[n.terms]] if type(n) is Size else n, row)
        return base.moved(bound, laid, lambda: self._detail(bound, given))

    def _detail(self, bound: Program, given: Sequence[int]) -> tuple[Nests, Plan]:
        """Nests and plan as they are at some sizes."""
        value = self.trace.evaluated(given)
        nests, plan = self.base.detail
        draft, new = copy(nests.draft), copy(nests)
        slots, steps = bound.graph.slot_specs(), bound.graph.steps

        def entry(of: Entry) -> Entry:
            number = self.entries.get(id(of))
            return of if number is None else steps[number].entry

        def layout(of: Layout) -> Layout:
            return Layout(of.root, value(of.offset), tuple([value(n) for n in of.strides]))

        draft.program = bound
        draft.steps = [
            Step(entry(s.entry), s.slots, s.scope, s.where) for s in nests.draft.steps
        ]  # fmt: skip
        draft.specs = [slots[self.specs[id(s)]] for s in nests.specs]
        new.draft, new.specs = draft, draft.specs
        new.layouts = {s: layout(of) for s, of in nests.layouts.items()}
        new.temporaries = [value(n) for n in nests.temporaries]
        kernels: dict[int, Any] = {}
        new.actions = [_action(a, value, entry, kernels) for a in nests.actions]
        offsets = {m: value(n) for m, n in plan.offsets.items()}
        return new, plan._replace(offsets=offsets, arena=value(plan.arena))


def _entry(
    of: Entry, form: Any, ins: tuple[Spec, ...], outs: tuple[Spec, ...], sizes: Sequence[int]
) -> Entry:
    params = of.params if form is None else _params(form, of.params, sizes)
    if params is of.params and ins == of.ins and outs == of.outs:
        return of
    return Entry(of.primitive, params, ins, outs)


def _params(form: Any, actual: Any, sizes: Sequence[int]) -> Any:
    """Parameters with Sizes; graphs of control flow stay as they are."""
    if type(form) is Polynomial:
        return form.at(sizes)
    if type(form) is not tuple:
        return actual
    return tuple([_params(f, a, sizes) for f, a in zip(form, actual, strict=True)])


def _action(
    of: Any, value: Callable[[Any], Any], entry: Callable[[Entry], Entry], kernels: dict[int, Any]
) -> Any:
    if type(of) is not Call:
        return of._replace(entry=entry(of.entry))
    kernel = kernels.get(id(of.kernel))
    if kernel is None:
        kernel = kernels[id(of.kernel)] = _kernel(of.kernel, entry)
    return of._replace(
        kernel=kernel,
        operands=tuple([(m, value(n)) for m, n in of.operands]),
        results=tuple([(m, value(n)) for m, n in of.results]),
        table=tuple([value(n) for n in of.table]), tiles=value(of.tiles), scratch=value(of.scratch),
    )  # fmt: skip


def _kernel(of: Any, entry: Callable[[Entry], Entry]) -> Any:
    """The same kernel with the entries of the graph, by which a profile knows its steps."""
    if type(of) is Loop:
        nodes = tuple([(entry(e), sources) for e, sources in of.nodes])
        return Loop(of.operands, nodes, of.results, of.is_partial)
    return type(of)(entry(of.entry)) if hasattr(of, "entry") else of
