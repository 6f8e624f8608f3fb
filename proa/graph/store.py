"""Graphs as JSON that people can read, and back: what is read is hostile until proven good.

A table of graphs, each of which may hold those before it as parameters; the last one is meant. A
size that dims decide is written as its polynomial: `float32[2*batch, 784]`, `{"size": "batch"}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from math import isfinite, prod
from os.path import basename
from typing import Any, Final, NoReturn, final

import numpy as np

from proa.dtypes import ALL, Dtype
from proa.errors import FileError, ProaError, message
from proa.graph.entry import intern_entry
from proa.graph.graph import Constant, Graph, Input, Role, Step
from proa.graph.node import Where, line_of
from proa.graph.spec import Spec, spec
from proa.graph.template import Number, Polynomial, Template, at, solved
from proa.shapes import MAX_NDIM

MOST_STEPS: Final = 200_000  # of all graphs of a file
MOST_GRAPHS: Final = 10_000
MOST_INSIDE: Final = 1_000_000  # of a graph with all that stands inside it, each time that it does
MOST_PARTS: Final = 100_000  # of one parameter
MOST_TERMS: Final = 32
MOST_INLINE: Final = 16  # elements of a constant that is written as numbers
LARGEST: Final = 2**62
Names = Mapping[str, tuple[str, ...]]
Check = Callable[[Any, tuple[Any, ...], tuple[Spec, ...]], None]
_DTYPES: Final = {d.name: d for d in ALL}
_ROLES: Final = {r.value: r for r in Role}
_FLOATS: Final = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_SPEC: Final = re.compile(r"([a-z0-9_]{1,16})\[([^\[\]]{0,4000})\]( weak)?")
_TERM: Final = re.compile(r"-?[0-9]{1,19}|(?:-?[0-9]{1,19}\*)?[^\W\d]\w*(?:\*\*[0-9])?"
                          r"(?:\*[^\W\d]\w*(?:\*\*[0-9])?){0,7}")  # fmt: skip
_LINE: Final = re.compile(r"(.{0,200}):([0-9]{1,9})", re.DOTALL)
_NOWHERE: Final = compile("", "", "exec")


def _refused(given: str, expected: str) -> NoReturn:
    raise FileError(message("load graph", given[:300], expected))


# Writing.


def dump(
    graph: Graph | Template, arrays: dict[str, Any], points: Sequence[Any] = (),
    names: Names | None = None,
) -> list[Any]:  # fmt: skip
    """The table of graphs as JSON. Constants that are too long to be read go into `arrays`, by
    name. `points`: sizes of the dims, at which the shapes of results are looked at. `names`: those
    of parameters, in their order, for operations that call them otherwise by now."""
    return _Writer(arrays, points, names or {}).graphs_of(graph)


@final
class _Writer:
    __slots__ = ("arrays", "points", "names", "table", "known", "dims")

    def __init__(self, arrays: dict[str, Any], points: Sequence[Any], names: Names) -> None:
        self.arrays = arrays
        self.points = points
        self.names = names
        self.table: list[Any] = []
        self.known: dict[Any, int] = {}
        self.dims: tuple[str, ...] = ()

    def graphs_of(self, graph: Graph | Template) -> list[Any]:
        self.add(graph)
        return self.table

    def add(self, form: Graph | Template) -> int:
        """The number of a graph in the table. (Graphs that are equal may differ in their lines.)"""
        key = form if type(form) is Graph else id(form)
        if key in self.known:
            return self.known[key]
        template = form if type(form) is Template else Template(form, (), (), {}, {}, {})
        self.dims = template.dims or self.dims
        graph = template.graph
        shapes = _shapes(template, self.points)
        steps, slot = [], graph.first_step_slot
        for number, step in enumerate(graph.steps):
            params = template.params.get(number, step.entry.params)
            row: dict[str, Any] = {"operation": step.entry.primitive.name}
            row["operands"] = list(step.slots)
            if params:
                primitive = step.entry.primitive
                names = self.names.get(primitive.name, primitive.params)
                row["parameters"] = {k: self.param(v) for k, v in zip(names, params, strict=True)}
            row["results"] = [
                self.spec(of, shapes[slot + i]) for i, of in enumerate(step.entry.outs)
            ]
            if step.scope:
                row["module"] = step.scope
            if step.where is not None:
                row["line"] = basename(line_of(step.where))
            steps.append(row)
            slot += len(step.entry.outs)
        found = {
            "inputs": [
                {"spec": self.spec(i.spec, template.inputs.get(k, i.spec.shape)),
                 "role": i.role.value}
                for k, i in enumerate(graph.inputs)
            ],
            "constants": [
                self.constant(template.constants.get(k, c)) for k, c in enumerate(graph.constants)
            ],
            "steps": steps,
            "outputs": list(graph.outputs),
        }  # fmt: skip
        self.table.append(found)
        self.known[key] = len(self.table) - 1
        return len(self.table) - 1

    def spec(self, of: Spec, shape: Any) -> str:
        sizes = ", ".join([self.size(n) for n in shape])
        return f"{of.dtype.name}[{sizes}]" + (" weak" if of.weak else "")

    def size(self, n: Any) -> str:
        if n is None:
            return "?"
        return n.text(self.dims) if type(n) is Polynomial else str(n)

    def param(self, value: Any) -> Any:
        """A parameter: what JSON has not stands in an object of one field."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if isfinite(value) else {"float": repr(value)}
        if kind is complex:
            return {"complex": [self.param(value.real), self.param(value.imag)]}
        if kind is tuple:
            return [self.param(v) for v in value]
        if kind is Dtype:
            return {"dtype": value.name}
        if kind is Spec:
            return {"spec": self.spec(value, value.shape)}
        if kind is Polynomial:
            return {"size": value.text(self.dims)}
        if kind in (Graph, Template):
            return {"graph": self.add(value)}
        raise ProaError(message("dump graph", f"a parameter {value!r:.60}", "numbers, names, ..."))

    def constant(self, of: Any) -> dict[str, Any]:
        if type(of) is Number:
            return {"spec": self.spec(of.spec, ()), "value": {"size": of.value.text(self.dims)}}
        text = self.spec(of.spec, of.spec.shape)
        if of.spec.size > MOST_INLINE:
            name = f"constant:{len(self.arrays)}"
            self.arrays[name] = of.array
            return {"spec": text, "tensor": name}
        return {"spec": text, "value": [self.param(v) for v in _items(of.array)]}


def storable(array: Any) -> Any:
    """complex128, which safetensors files have not, as pairs of float64."""
    array = np.asarray(array)
    if array.dtype != np.complex128:
        return array
    return np.ascontiguousarray(array).view(np.float64).reshape(*array.shape, 2)


def restored(array: Any, of: Spec) -> Any:
    """An array of this spec from what `storable` gave; None if it is another."""
    if array is not None and of.dtype.numpy == np.complex128 and array.dtype == np.float64:
        pairs = array.shape[-1:] == (2,) and array.flags.c_contiguous
        array = array.reshape(-1).view(np.complex128).reshape(array.shape[:-1]) if pairs else array
    fits = array is not None and array.shape == of.shape and array.dtype == of.dtype.numpy
    return array if fits else None


def _items(array: Any) -> list[Any]:
    """The elements as Python numbers."""
    flat = np.asarray(array).reshape(-1)
    if flat.dtype.kind not in "biufc":  # what ml_dtypes adds
        flat = flat.astype(np.float32)
    found: list[Any] = flat.tolist()
    return found


def _shapes(template: Template, points: Sequence[Any]) -> list[Any]:
    """The shape of every slot, with polynomials where sizes are such, and None else."""
    if not points or not template.dims:
        return [s.shape for s in template.graph.slot_specs()]
    known: dict[tuple[int, ...], Any] = {}
    found = []
    for every in zip(*[template.bind(p).slot_specs() for p in points], strict=True):
        columns = list(zip(*[s.shape for s in every], strict=True))
        for column in columns:
            if column not in known:
                known[column] = _counted(column, points)
        found.append(tuple([known[c] for c in columns]))
    return found


def _counted(column: tuple[int, ...], points: Sequence[Any]) -> Any:
    """A size that is a constant or a simple polynomial; None if it is neither."""
    if len(set(column)) == 1:
        return column[0]
    powers = [p for p in product(range(4), repeat=len(points[0])) if 0 < sum(p) <= 3]
    one = (0,) * len(points[0])
    sets = [*[(p,) for p in powers], *[(p, one) for p in powers], *combinations(powers, 2)]
    for some in sets:
        rows = [[prod([n**e for n, e in zip(at, p, strict=True)]) for p in some] for at in points]
        solution = solved(rows, column)
        if solution is not None and all(c.denominator == 1 and c for c in solution):
            return Polynomial(tuple([(int(c), p) for c, p in zip(solution, some, strict=True)]))
    return None


# Reading.


def load(
    table: Any, primitives: Mapping[str, Any], arrays: Mapping[str, Any] | None = None,
    dims: tuple[str, ...] = (), sample: tuple[int, ...] = (), check: Check | None = None,
    names: Names | None = None,
) -> Graph | Template:  # fmt: skip
    """The graph (with dims a template) that `dump` wrote; whatever is wrong raises FileError.

    primitives: what a step may be. arrays: the long constants, of which all must be used. check:
    sees the operation, parameters and operands of each step before its spec rule runs. names: as
    they were given to `dump`.
    """
    reader = _Reader(primitives, arrays or {}, dims, sample, check, names or {})
    try:
        return reader.all(table)
    except FileError:
        raise
    except RecursionError:
        _refused("graphs that are nested too deep", "a stored graph")
    except Exception as error:  # a spec rule on parameters that nobody would give
        _refused(f"a step that does not go together: {error}", "a stored graph")


@final
class _Reader:
    __slots__ = ("primitives", "arrays", "dims", "sample", "check", "names", "graphs", "costs",
                 "steps", "used", "unused")  # fmt: skip

    def __init__(
        self, primitives: Mapping[str, Any], arrays: Mapping[str, Any], dims: tuple[str, ...],
        sample: tuple[int, ...], check: Check | None, names: Names,
    ) -> None:  # fmt: skip
        self.primitives = primitives
        self.arrays = arrays
        self.dims = dims
        self.sample = sample
        self.check = check
        self.names = names
        self.graphs: list[Graph | Template] = []
        self.costs: list[int] = []  # steps of each graph, those of the graphs inside counted again
        self.steps = 0
        self.used: set[str] = set()
        self.unused: set[int] = set()

    def all(self, table: Any) -> Graph | Template:
        for row in listed("graphs", table, MOST_GRAPHS):
            self.graphs.append(self.graph(row))
            self.unused.add(len(self.graphs) - 1)
        if not self.graphs:
            _refused("no graph", "a stored graph")
        self.unused.discard(len(self.graphs) - 1)
        if self.unused:
            _refused(f"graph {min(self.unused)}, which nothing uses", "graphs that are used")
        if self.used != set(self.arrays):
            _refused("constants that no graph names", "a stored graph")
        return self.graphs[-1]

    def graph(self, row: Any) -> Graph | Template:
        fields(row, "graph", {"inputs", "constants", "steps", "outputs"})
        self.costs.append(1)
        forms: list[Any] = []
        inputs = []
        for given in listed("inputs", row["inputs"], MOST_STEPS):
            fields(given, "input", {"spec", "role"})
            of, shape = self.spec(given["spec"])
            role = _ROLES.get(given["role"]) if type(given["role"]) is str else None
            if role is None:
                _refused(f"the role {given['role']!r:.60}", "one of " + ", ".join(_ROLES))
            inputs.append(Input(of, role))
            forms.append(shape)
        shaped = {i: f for i, f in enumerate(forms) if f != inputs[i].spec.shape}
        constants, counted = [], {}
        for i, given in enumerate(listed("constants", row["constants"], MOST_STEPS)):
            found = self.constant(given)
            if type(found) is Number:
                counted[i] = found
                found = found.at(self.sample)
            constants.append(found)
        specs = [*[i.spec for i in inputs], *[c.spec for c in constants]]
        steps, params = [], {}
        for i, given in enumerate(listed("steps", row["steps"], MOST_STEPS)):
            step, form = self.step(given, specs)
            if form is not None:
                params[i] = form
            steps.append(step)
            specs += step.entry.outs
        outputs = tuple([_slot(s, len(specs)) for s in listed("outputs", row["outputs"], 100_000)])
        made = Graph(tuple(inputs), tuple(steps), outputs, tuple(constants))
        if not (shaped or counted or params):
            return made
        return Template(made, self.dims, self.sample, shaped, params, counted)

    def step(self, row: Any, specs: list[Spec]) -> tuple[Step, Any]:
        self.steps += 1
        if self.steps > MOST_STEPS:
            _refused(f"more than {MOST_STEPS:,} steps", "a smaller graph")
        fields(row, "step", {"operation", "operands", "results"}, {"parameters", "module", "line"})
        name = row["operation"]
        primitive = self.primitives.get(name) if type(name) is str else None
        if primitive is None:
            _refused(f"the operation {name!r:.60}", "one that this Proa knows")
        slots = tuple([_slot(s, len(specs)) for s in listed("operands", row["operands"], 100_000)])
        given = row.get("parameters", {})
        names = self.names.get(name, primitive.params)
        fields(given, f"parameters of {name}", set(names))
        count = [0]
        form = tuple([self.param(given[p], count, 0) for p in names])
        self.costs[-1] += 1
        if self.costs[-1] > MOST_INSIDE:
            _refused(f"graphs inside graphs of more than {MOST_INSIDE:,} steps", "fewer")
        params = at(form, self.sample)
        ins = tuple([specs[s] for s in slots])
        if self.check is not None:
            self.check(primitive, params, ins)
        entry = intern_entry(primitive.table, primitive, params, ins)
        self._check_results(name, row["results"], entry.outs)
        scope = row.get("module", "")
        if type(scope) is not str or len(scope) > 1000:
            _refused(f"a module {scope!r:.60}", "its path")
        return Step(entry, slots, scope, _where(row.get("line"))), None if form == params else form

    def _check_results(self, name: str, given: Any, outs: Sequence[Spec]) -> None:
        rows = listed("results", given, len(outs))
        for text, of in zip(rows, outs, strict=len(rows) != len(outs)):
            if type(text) is str and "?" in text:
                dtype, shape, weak = self.parts(text)
                known = tuple([n if f is None else f for n, f in zip(of.shape, shape, strict=True)])
                found = spec(at(known, self.sample), dtype, weak)
            else:
                found = self.spec(text)[0]
            if found is not of or of.nbytes >= LARGEST:
                _refused(f"a result {text!r:.80} of {name}", f"{of}")

    def spec(self, text: Any) -> tuple[Spec, Any]:
        """A spec at the sample, and its shape as it is written."""
        dtype, form, weak = self.parts(text)
        if None in form:
            _refused(f"the spec {text!r:.80}", "sizes that are known")
        shape = at(form, self.sample)
        if any(not 0 <= n < LARGEST for n in shape) or prod(shape) * dtype.itemsize >= LARGEST:
            _refused(f"the spec {text!r:.80}", "sizes that memory can hold")
        return spec(shape, dtype, weak), form

    def parts(self, text: Any) -> tuple[Dtype, tuple[Any, ...], bool]:
        found = _SPEC.fullmatch(text) if type(text) is str else None
        if found is None or found[1] not in _DTYPES:
            _refused(f"the spec {text!r:.80}", "such as float32[2, 3]")
        sizes = found[2].split(", ") if found[2] else []
        if len(sizes) > MAX_NDIM:
            _refused(f"a spec of {len(sizes)} axes", f"at most {MAX_NDIM}")
        form = tuple([None if n == "?" else polynomial(n, self.dims) for n in sizes])
        return _DTYPES[found[1]], form, found[3] is not None

    def param(self, given: Any, count: list[int], depth: int) -> Any:
        count[0] += 1
        if depth > 20 or count[0] > MOST_PARTS:
            _refused("a parameter of too many parts", "a shorter one")
        kind = type(given)
        if given is None or kind in (bool, float):
            return given
        if kind is int and -LARGEST < given < LARGEST:
            return given
        if kind is str and len(given) < 10_000:
            return given
        if kind is list:
            return tuple([self.param(v, count, depth + 1) for v in given])
        if kind is dict and len(given) == 1:
            ((tag, body),) = given.items()
            return self.tagged(tag, body, count, depth)
        _refused(f"a parameter {given!r:.60}", "numbers, names, lists")

    def tagged(self, tag: str, body: Any, count: list[int], depth: int) -> Any:
        if tag == "float" and type(body) is str and body in _FLOATS:
            return _FLOATS[body]
        if tag == "complex" and type(body) is list and len(body) == 2:
            parts = [self.param(p, count, depth + 1) for p in body]
            if type(parts[0]) is float and type(parts[1]) is float:
                return complex(*parts)
        if tag == "dtype" and type(body) is str and body in _DTYPES:
            return _DTYPES[body]
        if tag == "spec" and type(body) is str:
            return self.spec(body)[0]
        if tag == "size" and type(body) is str:
            return polynomial(body, self.dims)
        if tag == "graph" and type(body) is int and 0 <= body < len(self.graphs):
            self.unused.discard(body)
            self.costs[-1] += self.costs[body]
            return self.graphs[body]
        _refused(f"a parameter {tag!r:.40}: {body!r:.60}", "one that `dump` wrote")

    def constant(self, row: Any) -> Constant | Number:
        fields(row, "constant", {"spec"}, {"value", "tensor"})
        of = self.spec(row["spec"])[0]
        if len(row) != 2:
            _refused("a constant without one value", "value or tensor")
        if "tensor" in row:
            return self._stored(row["tensor"], of)
        given = row["value"]
        if type(given) is dict:
            fields(given, "constant", {"size"})
            found = polynomial(given["size"], self.dims)
            if of.shape or type(found) is not Polynomial or of.dtype.kind not in ("int", "float"):
                _refused(f"a constant {given!r:.60} of {of}", "a size, in a number of 0 axes")
            return Number(of, found)
        count = [0]
        values = [self.param(v, count, 0) for v in listed("values", given, MOST_INLINE)]
        kinds = {"bool": bool, "int": int, "float": float, "complex": complex}
        if len(values) != of.size or any(type(v) is not kinds[of.dtype.kind] for v in values):
            _refused(f"{len(values)} values {values!r:.60}", f"those of {of}")
        with np.errstate(all="ignore"):
            wide = np.array(values, np.float64) if of.dtype.kind == "float" else values
            return Constant(np.asarray(wide, dtype=of.dtype.numpy).reshape(of.shape), of)

    def _stored(self, name: Any, of: Spec) -> Constant:
        array = restored(self.arrays.get(name) if type(name) is str else None, of)
        if array is None:
            _refused(f"the constant {name!r:.60}", f"a tensor {of}")
        self.used.add(name)
        return Constant(array, of)


def fields(row: Any, what: str, needed: set[str], more: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """An object with these fields and no others."""
    if type(row) is not dict or not needed <= row.keys() or not row.keys() <= needed | more:
        given = sorted(row) if type(row) is dict else row
        _refused(f"a {what} {given!r:.100}", f"the fields {sorted(needed | more)}")


def listed(what: str, given: Any, most: int) -> list[Any]:
    if type(given) is not list or len(given) > most:
        given = f"{len(given):,}" if type(given) is list else f"{given!r:.60}"
        _refused(f"{what} {given}", f"a list of at most {most:,}")
    return given


def _slot(given: Any, made: int) -> int:
    if type(given) is not int or not 0 <= given < made:
        _refused(f"slot {given!r:.30}", f"one of the {made} that are made before")
    return given


def polynomial(text: Any, dims: Sequence[str]) -> int | Polynomial:
    """What `Polynomial.text` wrote: `2*batch*length + 1`."""
    terms = text.split(" + ") if type(text) is str else [""]
    if len(terms) > MOST_TERMS or not all(map(_TERM.fullmatch, terms)):
        _refused(f"the size {text!r:.80}", "such as 2*batch + 1")
    found = []
    for term in terms:
        coefficient, powers = 1, [0] * len(dims)
        for factor in term.split("*") if "**" not in term else re.split(r"(?<!\*)\*(?!\*)", term):
            name, _, power = factor.partition("**")
            if name.lstrip("-").isdigit():
                coefficient = int(name)
            elif name in dims:
                powers[dims.index(name)] += int(power or 1)
            else:
                _refused(f"the dim {name!r:.60}", f"one of {list(dims)}")
        found.append((coefficient, tuple(powers)))
    if len({p for _, p in found}) != len(found) or any(sum(p) > 9 for _, p in found):
        _refused(f"the size {text!r:.80}", "each product once")
    if len(found) == 1 and not any(found[0][1]):
        return found[0][0]
    return Polynomial(tuple(found))


def _where(text: Any) -> Where:
    """A place in a file that need not be there."""
    if text is None:
        return None
    found = _LINE.fullmatch(text) if type(text) is str else None
    if found is None:
        _refused(f"the line {text!r:.60}", "such as model.py:12")
    name, number = found[1], min(int(found[2]), 2**31 - 1)
    return _NOWHERE.replace(co_filename=name, co_firstlineno=number), -1
