"""Sizes with names: at which the function is recorded, and for which its template holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from proa.errors import ArgumentError, ExportError, JitError, ProaError, message
from proa.graph.build import Builder
from proa.graph.graph import Graph, Step
from proa.graph.node import Value, Where, line_of
from proa.graph.rewrite import rebuild
from proa.graph.template import Sizes, Template, Unlike, fit
from proa.ops.expand import flat
from proa.ops.indexing import dynamic_slice
from proa.transforms.simplify import simplify

PRIMES: Final = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73)
SCALES: Final = (1, 4, 16)  # small sizes first, for what is bounded; then larger ones
LARGE: Final = (67, 521, 4099, 65537)  # sizes at which what was found is tried once more


class Recorder(Protocol):
    """Records a function of these dims at given sizes, once for each."""

    dims: tuple[str, ...]

    def graph(self, sizes: Sizes) -> Graph: ...


def fitted(recorder: Recorder, sizes: Mapping[str, Any]) -> tuple[Template, tuple[Sizes, ...]]:
    """The template, and the points at which it was found."""
    dims = recorder.dims
    if not dims:
        return Template(recorder.graph(()), (), (), {}, {}, {}), ((),)
    points, graphs = _sampled(recorder, sizes)
    try:
        return fit(graphs, dims, points), points
    except Unlike as error:
        where = _line_of_number(graphs) if error.where is None else error.where
        place = f" at {line_of(where)}" if where is not None else ""
        given = f"{error.what}{place}, at the sizes {_words(dims, points)}"
        hint = "pa.scan or pa.cond, tensors instead of numbers, or examples in sizes={...}"
        expected = "the same operations at all sizes, and numbers that count something"
        raise ExportError(message("export", given, expected, hint)) from None


def _sampled(
    recorder: Recorder, sizes: Mapping[str, Any]
) -> tuple[tuple[Sizes, ...], list[Graph]]:  # fmt: skip
    """Points and the graphs there; where small sizes are refused larger ones are tried."""
    refused: list[Exception] = []
    for scale in SCALES if len(sizes) < len(recorder.dims) else SCALES[:1]:
        points = _points(recorder.dims, sizes, scale)
        try:
            return points, [recorder.graph(p) for p in points]
        except (ExportError, JitError):  # no matter of sizes
            raise
        except ProaError as error:
            refused.append(error)
    raise refused[0]


def _line_of_number(graphs: Sequence[Graph]) -> Where:
    """The first step that reads a number which depends on sizes and counts nothing."""
    begin = len(graphs[0].inputs)
    found: list[Where] = []
    for steps in zip(*[g.steps for g in graphs], strict=False):
        for slots in zip(*[s.slots for s in steps], strict=False):
            arrays = [
                g.constants[s - begin].array for g, s in zip(graphs, slots, strict=True)
                if begin <= s < g.first_step_slot
            ]  # fmt: skip
            numbers = {a.item() for a in arrays if a.shape == ()}
            if len(numbers) > 1:
                found.append(steps[0].where)
                if any(n % 1 for n in numbers):
                    return found[-1]
    return found[0] if len(found) == 1 else None


def _same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same function: perhaps but for steps that change nothing."""
    return a == b or _simple(a) == _simple(b)


def _simple(graph: Graph) -> Graph:
    return _used(simplify(_whole(graph)))


def _used(graph: Graph) -> Graph:
    """Without constants that no step reads."""
    begin, end = len(graph.inputs), graph.first_step_slot
    slots = {s for step in graph.steps for s in step.slots} | set(graph.outputs)
    kept = [s for s in range(begin, end) if s in slots]
    place = {s: begin + i for i, s in enumerate(kept)}
    shift = end - begin - len(kept)

    def moved(slots: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([place[s] if s in place else s if s < begin else s - shift for s in slots])

    steps = tuple([step._replace(slots=moved(step.slots)) for step in graph.steps])
    constants = tuple([graph.constants[s - begin] for s in kept])
    return Graph(graph.inputs, steps, moved(graph.outputs), constants)


def _whole(graph: Graph) -> Graph:
    """Without slices of all that there is: Python does not record them."""
    begin = len(graph.inputs)

    def rule(builder: Builder, step: Step, operands: tuple[Value, ...]) -> Any:
        if step.entry.primitive is not dynamic_slice or step.entry.out is not step.entry.ins[0]:
            return None
        starts = [s - begin for s in step.slots[1:]]
        fixed = all(0 <= s < len(graph.constants) for s in starts)
        is_first = fixed and not any(graph.constants[s].array.any() for s in starts)
        return operands[:1] if is_first else None

    return rebuild(graph, rule)


def _words(dims: Sequence[str], points: Sequence[Sizes]) -> str:
    rows = [f"{d} = {', '.join(map(str, column))}"
            for d, column in zip(dims, zip(*points, strict=True), strict=True)]  # fmt: skip
    return "; ".join(rows)


def _points(dims: Sequence[str], sizes: Mapping[str, Any], scale: int) -> tuple[Sizes, ...]:
    """Sizes of the dims at which the function is recorded: no two dims are alike."""
    many = max([len(dims) + 2, *[len(s) for s in sizes.values()]])
    columns = []
    for i, dim in enumerate(dims):
        given = sizes.get(dim)
        if given is None:
            own = [PRIMES[(i + (len(dims) + 1) * k) % len(PRIMES)] * scale for k in range(many)]
        else:
            own = [int(n) for n in given]
            if len(set(own)) < 3 or min(own) < 1:
                text = f"sizes {given!r:.60} of {dim}"
                raise ArgumentError(message("export", text, "three or more that differ"))
            own = [own[(k + i * (k // len(own))) % len(own)] for k in range(many)]
        columns.append(own)
    return tuple(zip(*columns, strict=True))


def limits(
    recorder: Recorder, template: Template, points: tuple[Sizes, ...], number: int
) -> tuple[int, int | None]:
    """The least and the greatest size of a dim for which Python does what the template does."""

    def holds(n: int) -> bool:
        where = _moved(points[0], number, n)
        try:
            return _same(recorder.graph(where), template.bind(where))
        except Exception:  # whatever it is that Python does there
            return False

    known = sorted({p[number] for p in points})
    least = known[0]
    for n in (1, 0):
        if not holds(n):
            break
        least = n
    if least == known[0]:  # then perhaps two
        least = next((n for n in range(2, known[0]) if holds(n)), known[0])
    good, bad = known[-1], None
    small = _steps(recorder, points[0])
    for n in LARGE:
        if n > good and bad is None:
            if not holds(n):
                bad = n
            else:
                good = n
                if _steps(recorder, _moved(points[0], number, n)) > small:
                    break  # it expands to more the larger it is: what is larger takes too long
    while bad is not None and bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return least, None if bad is None else good


def _moved(point: Sizes, number: int, n: int) -> Sizes:
    return tuple([n if i == number else p for i, p in enumerate(point)])


def _steps(recorder: Recorder, sizes: Sizes) -> int:
    return len(flat(recorder.graph(sizes), merge=False).steps)
