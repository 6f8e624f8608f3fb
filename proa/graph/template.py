"""`Template`: one graph for many sizes. Integers that sizes decide are polynomials of dims.

A template is not made by giving passes symbols: it is found by comparing graphs that were recorded
(or lowered) at several sizes. Their structures must be equal; an integer that differs must be a
polynomial of the dims, solved from the first graphs and verified by the last. Specs of results are
nobody's guess: `bind` runs the spec rule of every step again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement
from math import prod
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Constant, Graph, Input, Step
from proa.graph.node import Where
from proa.graph.spec import Spec, spec

MOST_DEGREE: Final = 3
Sizes = tuple[int, ...]  # of the dims, in their order


@final
class Unlike(Exception):
    """Graphs that are no template of one another: what differs first, and its line."""

    def __init__(self, what: str, where: Where = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where


@final
class Polynomial(NamedTuple):
    """The sum of coefficient * product(dim ** power): terms are (coefficient, powers)."""

    terms: tuple[tuple[int, tuple[int, ...]], ...]

    def at(self, sizes: Sequence[int]) -> int:
        return sum(c * _monomial(powers, sizes) for c, powers in self.terms)

    def text(self, dims: Sequence[str]) -> str:
        """`2*batch*length + 1`."""
        parts = []
        for c, powers in self.terms:
            factors = [d if p == 1 else f"{d}**{p}" for d, p in zip(dims, powers, strict=True) if p]
            lead = [] if c == 1 and factors else [str(c)]
            parts.append("*".join([*lead, *factors]))
        return " + ".join(parts) or "0"


def _monomial(powers: Sequence[int], sizes: Sequence[int]) -> int:
    return prod([n**p for n, p in zip(sizes, powers, strict=True)])


@final
class Number(NamedTuple):
    """A 0-d constant that counts something, in its own dtype: the n of a mean."""

    spec: Spec
    value: Polynomial

    def at(self, sizes: Sequence[int]) -> Constant:
        return Constant(np.asarray(self.value.at(sizes)).astype(self.spec.dtype.numpy), self.spec)


# A *form* is a parameter, a shape or a constant in which Polynomials, Numbers and Templates may
# stand for what sizes decide.


@final
class Template:
    """`graph` is that of the sizes `sample`; forms stand beside it where it depends on the dims:
    of input shapes and parameters of steps by their number, and of constants."""

    __slots__ = ("graph", "dims", "sample", "inputs", "params", "constants", "bound")

    def __init__(
        self, graph: Graph, dims: tuple[str, ...], sample: Sizes, inputs: dict[int, Any],
        params: dict[int, Any], constants: dict[int, Number],
    ) -> None:  # fmt: skip
        self.graph = graph
        self.dims = dims
        self.sample = sample
        self.inputs = inputs
        self.params = params
        self.constants = constants
        self.bound: dict[Sizes, Graph] = {sample: graph}

    def bind(self, sizes: Sizes) -> Graph:
        """The graph at these sizes. What the spec rule of a step refuses raises its error."""
        found = self.bound.get(sizes)
        if found is None:
            if len(self.bound) >= MOST_BOUND:
                self.bound.clear()
            found = self.bound[sizes] = self._bound(sizes)
        return found

    def _bound(self, sizes: Sizes) -> Graph:
        graph = self.graph
        inputs = list(graph.inputs)
        for i, shape in self.inputs.items():
            inputs[i] = Input(_shaped(inputs[i].spec, at(shape, sizes)), inputs[i].role)
        constants = list(graph.constants)
        for i, constant in self.constants.items():
            constants[i] = constant.at(sizes)
        specs: list[Spec] = [*[i.spec for i in inputs], *[c.spec for c in constants]]
        steps = []
        for number, step in enumerate(graph.steps):
            ins = tuple([specs[s] for s in step.slots])
            form = self.params.get(number)
            entry = step.entry
            if form is not None or ins != entry.ins:
                params = entry.params if form is None else at(form, sizes)
                entry = intern_entry(entry.primitive.table, entry.primitive, params, ins)
            steps.append(Step(entry, step.slots, step.scope, step.where))
            specs += entry.outs
        return Graph(tuple(inputs), tuple(steps), graph.outputs, tuple(constants))

    def gives(self, graph: Graph, sizes: Sizes) -> bool:
        """Whether this is the graph at these sizes; equal constants may be one or several."""
        of = self.graph
        if of.constants or graph.constants:
            of, graph = _apart(self.bind(sizes)), _apart(graph)
        if of.constants != graph.constants:
            return False
        if len(of.steps) != len(graph.steps) or of.outputs != graph.outputs:
            return False
        if [i.role for i in of.inputs] != [i.role for i in graph.inputs]:
            return False
        return self.takes(graph.input_specs(), sizes) and all(
            [
                s.slots == mine.slots and self.gives_step(n, s.entry, sizes)
                for n, (s, mine) in enumerate(zip(graph.steps, of.steps, strict=True))
            ]
        )

    def gives_step(self, number: int, entry: Entry, sizes: Sizes) -> bool:
        """Whether a step on the same operands is this at these sizes. For what is computed follows
        from the primitive, its parameters and its operands."""
        mine = self.graph.steps[number]
        if mine.entry is entry:
            return True
        form = self.params.get(number, mine.entry.params)
        same = mine.entry.primitive is entry.primitive
        return same and self.gives_params(form, entry.params, sizes)

    def gives_params(self, form: Any, params: Any, sizes: Sizes) -> bool:
        """The same of parameters, whose form is one of this template's."""
        if type(form) is Template:
            return type(params) is Graph and form.gives(params, sizes)
        if type(form) is tuple:
            return len(form) == len(params) and all(
                [self.gives_params(f, p, sizes) for f, p in zip(form, params, strict=True)]
            )
        return bool(at(form, sizes) == params)

    def takes(self, specs: Sequence[Spec], sizes: Sizes) -> bool:
        """Whether inputs at these sizes have these specs."""
        for i, given in enumerate(self.graph.inputs):
            shape = self.inputs.get(i)
            of = given.spec if shape is None else _shaped(given.spec, at(shape, sizes))
            if specs[i] is not of:
                return False
        return True

    def sizes_of(self, specs: Sequence[Spec]) -> Sizes | None:
        """The sizes at which inputs have these specs, if there are any."""
        found: dict[int, int] = {}
        for i, shape in self.inputs.items():
            if len(specs[i].shape) != len(shape):
                return None
            for form, n in zip(shape, specs[i].shape, strict=True):
                known = _solved(form, n)
                if known is not None:
                    found.setdefault(*known)
        if len(found) != len(self.dims):
            return None
        sizes = tuple([found[d] for d in range(len(self.dims))])
        return sizes if self.takes(specs, sizes) else None

    def reads_sizes(self) -> bool:
        """Whether every dim can be found from the shapes of inputs."""
        axes = [form for shape in self.inputs.values() for form in shape]
        known = [_solved(form, 0) for form in axes]
        return len({k[0] for k in known if k is not None}) == len(self.dims)


MOST_BOUND: Final = 64


def _shaped(of: Spec, shape: tuple[int, ...]) -> Spec:
    return spec(shape, of.dtype, of.weak, False, of.placement)


def _solved(form: Any, n: int) -> tuple[int, int] | None:
    """(number of a dim, its size) from a size that is that dim itself."""
    if type(form) is not Polynomial or len(form.terms) != 1:
        return None
    ((c, powers),) = form.terms
    return (powers.index(1), n) if c == 1 and sum(powers) == 1 else None


def at(form: Any, sizes: Sizes) -> Any:
    """A form at given sizes."""
    if type(form) is Polynomial:
        return form.at(sizes)
    if type(form) is Template:
        return form.bind(sizes)
    if type(form) is tuple:
        return tuple([at(f, sizes) for f in form])
    return form


# Finding a template.


def fit(graphs: Sequence[Graph], dims: Sequence[str], points: Sequence[Sizes]) -> Template:
    """The template of graphs that were recorded at these sizes of the dims, three points or more;
    raises `Unlike` where there is none."""
    graphs = [_apart(g) for g in graphs]
    first = graphs[0]
    columns = list(zip(*points, strict=True))
    if len(set(columns)) < len(columns):
        raise Unlike(f"sizes {columns!r:.100} that do not tell dims apart")
    counts = [(len(g.inputs), len(g.constants), len(g.steps), g.outputs) for g in graphs]
    if any(c != counts[0] for c in counts):
        raise _unlike_steps(graphs)
    basis = _Basis(tuple(dims), tuple(points))
    inputs: dict[int, Any] = {}
    for i, every in enumerate(zip(*[g.inputs for g in graphs], strict=True)):
        of = every[0].spec
        if any((g.role, g.spec.dtype, g.spec.weak) != (every[0].role, of.dtype, of.weak)
               for g in every):  # fmt: skip
            raise Unlike(f"input {i} is of different kinds")
        form = _form([g.spec.shape for g in every], basis, None, f"shape of input {i}")
        if form != of.shape:
            inputs[i] = form
    params: dict[int, Any] = {}
    for number, steps in enumerate(zip(*[g.steps for g in graphs], strict=True)):
        step = steps[0]
        if any((s.entry.primitive, s.slots) != (step.entry.primitive, step.slots) for s in steps):
            raise _unlike_steps(graphs)
        if any(s.entry is not step.entry for s in steps):
            name = f"parameters of {step.entry.primitive.name}"
            form = _form([s.entry.params for s in steps], basis, step.where, name)
            if form != step.entry.params:
                params[number] = form
    constants: dict[int, Number] = {}
    for i, values in enumerate(zip(*[g.constants for g in graphs], strict=True)):
        if any(c != values[0] for c in values):
            constants[i] = _number(values, basis)
    first, constants = _together(first, constants)
    return Template(first, basis.dims, basis.points[0], inputs, params, constants)


def _apart(graph: Graph) -> Graph:
    """Each use of a 0-d constant has one of its own: which of them are equal is a matter of
    sizes."""
    if not graph.constants:
        return graph
    begin, end = len(graph.inputs), graph.first_step_slot
    constants: list[Any] = [c for c in graph.constants if c.spec.shape]
    place = {begin + graph.constants.index(c): begin + i for i, c in enumerate(constants)}
    uses = [s for step in graph.steps for s in step.slots] + list(graph.outputs)
    shift = len(constants) - (end - begin)
    shift += sum(begin <= s < end and s not in place for s in uses)

    def moved(slot: int) -> int:
        if not begin <= slot < end:
            return slot if slot < begin else slot + shift
        if slot in place:
            return place[slot]
        constants.append(graph.constants[slot - begin])
        return begin + len(constants) - 1

    return _renumbered(graph, moved, constants)


def _together(graph: Graph, numbers: dict[int, Number]) -> tuple[Graph, dict[int, Number]]:
    """Constants that are equal at all sizes are one, and those without a use are none."""
    begin, end = len(graph.inputs), graph.first_step_slot
    used = {s for step in graph.steps for s in step.slots} | set(graph.outputs)
    place: dict[Any, int] = {}
    goal: dict[int, int] = {}
    for i, constant in enumerate(graph.constants):
        if begin + i in used:
            goal[begin + i] = begin + place.setdefault(numbers.get(i, constant), len(place))
    forms = list(place)
    shift = len(forms) - (end - begin)

    def moved(slot: int) -> int:
        return goal[slot] if begin <= slot < end else slot + (shift if slot >= end else 0)

    first = {goal[begin + i] - begin: c for i, c in reversed(list(enumerate(graph.constants)))
             if begin + i in goal}  # fmt: skip
    constants = [first[i] for i in range(len(forms))]
    kept = {i: f for i, f in enumerate(forms) if type(f) is Number}
    return _renumbered(graph, moved, constants), kept


def _renumbered(graph: Graph, moved: Callable[[int], int], constants: list[Any]) -> Graph:
    steps = [s._replace(slots=tuple([moved(x) for x in s.slots])) for s in graph.steps]
    outputs = tuple([moved(o) for o in graph.outputs])
    return Graph(graph.inputs, tuple(steps), outputs, tuple(constants))


def _unlike_steps(graphs: Sequence[Graph]) -> Unlike:
    """The first step in which graphs differ."""
    for steps in zip(*[g.steps for g in graphs], strict=False):
        if any((s.entry.primitive, s.slots) != (steps[0].entry.primitive, steps[0].slots)
               for s in steps):  # fmt: skip
            names = " or ".join(dict.fromkeys(s.entry.primitive.name for s in steps))
            return Unlike(f"an operation that is {names}", steps[0].where)
    longest = max(graphs, key=lambda g: len(g.steps))
    count = min(len(g.steps) for g in graphs)
    where = longest.steps[count].where if count < len(longest.steps) else None
    return Unlike(f"{[len(g.steps) for g in graphs]} operations", where)


def _form(values: Sequence[Any], basis: _Basis, where: Where, what: str) -> Any:
    """One form for what stands at one place of every graph."""
    first = values[0]
    if any(type(v) is not type(first) for v in values):
        raise Unlike(what, where)
    if type(first) is tuple:
        if any(len(v) != len(first) for v in values):
            raise Unlike(what, where)
        return tuple([_form(v, basis, where, what) for v in zip(*values, strict=True)])
    if all(v is first or v == first for v in values):
        return first
    if type(first) is Graph:
        return fit(values, basis.dims, basis.points)
    found = basis.polynomial(values) if type(first) is int else None
    if found is None:
        raise Unlike(f"{what} {list(values)!r:.100}", where)
    return found


def _number(values: Sequence[Constant], basis: _Basis) -> Number:
    of = values[0].spec
    if of.shape or any(v.spec is not of for v in values) or of.dtype.kind not in ("int", "float"):
        raise Unlike("a constant")
    exact = [v.array.item() for v in values]
    found = basis.polynomial([int(n) for n in exact]) if all(n % 1 == 0 for n in exact) else None
    if found is None:
        raise Unlike(f"a constant {exact!r:.100}")
    return Number(of, found)


@final
class _Basis:
    """Dims, the points where they were sampled, and polynomials that were found there."""

    __slots__ = ("dims", "points", "found")

    def __init__(self, dims: tuple[str, ...], points: tuple[Sizes, ...]) -> None:
        self.dims = dims
        self.points = points
        self.found: dict[tuple[int, ...], Polynomial | None] = {}

    def polynomial(self, values: Sequence[int]) -> Polynomial | None:
        """The simplest polynomial with these values at the points; None if there is none that at
        least one point verifies."""
        key = tuple(values)
        if key not in self.found:
            self.found[key] = next(self._candidates(key), None)
        return self.found[key]

    def _candidates(self, values: tuple[int, ...]) -> Iterator[Polynomial]:
        for powers in self._terms():
            terms = self._solved(powers, values)
            if terms is not None:
                yield Polynomial(terms)

    def _terms(self) -> Iterator[tuple[tuple[int, ...], ...]]:
        """Sets of monomials, the simplest first; fewer than there are points."""
        count = len(self.dims)
        one = (0,) * count
        monomials = [
            tuple([chosen.count(d) for d in range(count)])
            for degree in range(1, MOST_DEGREE + 1)
            for chosen in combinations_with_replacement(range(count), degree)
        ]
        for some in range(1, len(self.points)):
            yield from combinations(monomials, some)
            if some + 1 < len(self.points):
                yield from [(*chosen, one) for chosen in combinations(monomials, some)]

    def _solved(
        self, powers: tuple[tuple[int, ...], ...], values: tuple[int, ...]
    ) -> tuple[tuple[int, tuple[int, ...]], ...] | None:
        rows = [[_monomial(p, point) for p in powers] for point in self.points]
        found = solved(rows, values)
        if found is None or any(c.denominator != 1 or not c for c in found):
            return None
        return tuple([(int(c), p) for c, p in zip(found, powers, strict=True)])


def polynomials(
    dims: Sequence[str], points: Sequence[Sizes]
) -> Callable[[tuple[int, ...]], Polynomial | None]:
    """A function from the values of a number at these points to its polynomial, if it has one."""
    return _Basis(tuple(dims), tuple(points)).polynomial


def solved(rows: Sequence[Sequence[int]], values: Sequence[int]) -> list[Fraction] | None:
    """The one solution of a system with more equations than unknowns, exactly; None if none."""
    count = len(rows[0])
    table = [[*map(Fraction, row), Fraction(v)] for row, v in zip(rows, values, strict=True)]
    for column in range(count):
        pivot = next((r for r in range(column, len(table)) if table[r][column]), None)
        if pivot is None:
            return None
        table[column], table[pivot] = table[pivot], table[column]
        lead = table[column][column]
        table[column] = [x / lead for x in table[column]]
        for r, row in enumerate(table):
            if r != column and row[column]:
                factor = row[column]
                table[r] = [x - factor * y for x, y in zip(row, table[column], strict=True)]
    if any(row[count] for row in table[count:]):
        return None
    return [row[count] for row in table[:count]]
