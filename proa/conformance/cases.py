"""Cases: operations as graphs with operands from their domains, drawn or hard; running them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from proa import dtypes
from proa.compile.backend import Backend
from proa.compile.stages import lower
from proa.dtypes import Dtype
from proa.errors import DtypeError
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.spec import Spec, spec
from proa.ops.expand import flat, nothing
from proa.ops.primitive import Primitive, Sample

Array = Any


class Case(NamedTuple):
    """An operation as a graph, with its operands, and a name for messages."""

    name: str
    graph: Graph
    arrays: tuple[Array, ...]

    @property
    def entry(self) -> Entry:
        return self.graph.steps[-1].entry

    @property
    def floats(self) -> tuple[int, ...]:
        """Operands that a derivative is taken by."""
        counted = self.entry.primitive.differentiable
        if counted is False or len(self.graph.steps) > 1:
            counted = () if counted is False else True
        return tuple(
            [
                i
                for i, given in enumerate(self.graph.inputs)
                if given.spec.dtype.is_inexact and (counted is True or i in counted)
            ]
        )

    @property
    def results(self) -> tuple[int, ...]:
        """Results that a derivative is taken of."""
        return tuple([i for i, s in enumerate(self.graph.output_specs()) if s.dtype.is_inexact])


# Samples.


def arity(primitive: Primitive) -> int:
    """How many operands the meaning of an elementwise operation takes."""
    meaning = primitive.meaning
    if isinstance(meaning, np.ufunc):
        return int(meaning.nin)
    rules = inspect.signature(meaning).parameters.values()
    return len([p for p in rules if p.name not in primitive.params and p.default is p.empty])


def samples_of(primitive: Primitive) -> list[Sample]:
    """The declared samples, else those of the family."""
    if primitive.samples:
        return list(primitive.samples)
    if primitive.family.samples is not None and primitive.meaning is not None:
        return list(primitive.family.samples(primitive, arity(primitive)))
    return []


def entry_of(primitive: Primitive, sample: Sample, dtype: Dtype) -> Entry:
    """The entry of a sample; `dtype` for the operands that name none."""
    specs = tuple([_spec_of(o, dtype) for o in sample.operands])
    params = tuple([sample.params[p] for p in primitive.params])
    return intern_entry(primitive.table, primitive, params, specs)


def _spec_of(operand: Any, dtype: Dtype) -> Spec:
    named = len(operand) == 2 and isinstance(operand[1], str)
    return spec(operand[0], dtypes.dtype(operand[1])) if named else spec(operand, dtype)


def is_fixed(sample: Sample) -> bool:
    """Whether the sample itself names every dtype."""
    return all(len(o) == 2 and isinstance(o[1], str) for o in sample.operands)


def cases_of(primitive: Primitive, dtype: Dtype, seed: int = 0) -> Iterator[Case]:
    """Every sample in a dtype that the primitive accepts there. Samples that name every dtype
    come with float32 only."""
    for number, sample in enumerate(samples_of(primitive)):
        if is_fixed(sample) and dtype is not dtypes.float32:
            continue
        if not accepted(primitive, sample, dtype):
            continue
        try:
            entry = entry_of(primitive, sample, dtype)
        except DtypeError:
            continue  # a mode that this dtype has not
        rng = np.random.default_rng([seed, number])
        arrays = tuple([draw(s, i, primitive, rng) for i, s in enumerate(entry.ins)])
        yield Case(f"{entry!r}", graph_of(entry), arrays)


def accepted(primitive: Primitive, sample: Sample, dtype: Dtype) -> bool:
    """Whether the primitive takes a sample's operands; `dtype` for those that name none."""
    allowed = primitive.accepts
    for i, operand in enumerate(sample.operands):
        mine = allowed[min(i, len(allowed) - 1)] if isinstance(allowed, tuple) else allowed
        if _spec_of(operand, dtype).dtype not in mine:
            return False
    return True


def draw(of: Spec, index: int, primitive: Primitive, rng: Any) -> Array:
    """An operand from the primitive's domain. Integers stay small; those that address go a little
    beyond both ends."""
    low, high = primitive.domain
    kind = of.dtype.kind
    if kind == "bool":
        return np.asarray(rng.integers(0, 2, of.shape)).astype(bool)
    if kind == "int":
        if primitive.family.name == "indexing" and index > 0:
            low, high = -1, 5
        elif primitive.params == ("shape",) and of.dtype is dtypes.uint32:
            low, high = 0, 2**32 - 1
        low = low if of.dtype.signed else max(low, 0)
        return np.asarray(rng.integers(int(low), int(high) + 1, of.shape)).astype(of.dtype.numpy)
    found = rng.uniform(low, high, of.shape)
    if kind == "complex":
        found = found + 1j * rng.uniform(low, high, of.shape)
    return np.asarray(found).astype(of.dtype.numpy)


def graph_of(entry: Entry) -> Graph:
    """One operation as a graph."""
    entry = entry.plain
    count = len(entry.ins)
    inputs = tuple([Input(s, Role.DATA) for s in entry.ins])
    outs = tuple(range(count, count + len(entry.outs)))
    return Graph(inputs, (Step(entry, tuple(range(count))),), outs)


# Hard numbers.


def hard_cases_of(primitive: Primitive, dtype: Dtype) -> Iterator[Case]:
    """Elementwise operations over the whole range: infinities, NaN, signed zeros, denormals, every
    magnitude; integers at both ends. Each operand meets each of another's in two-operand ones."""
    if primitive.family.name != "elementwise" or primitive.samples or primitive.meaning is None:
        return
    count = arity(primitive)
    numbers = hard_numbers(dtype)
    n = numbers.size
    shapes = [(n,), (n, 1)][:count] if count <= 2 else []
    sample = Sample(tuple(shapes))
    if shapes and accepted(primitive, sample, dtype):
        entry = entry_of(primitive, sample, dtype)
        arrays = tuple([numbers.reshape(s) for s in shapes])
        yield Case(f"{entry!r} of hard numbers", graph_of(entry), arrays)


def hard_numbers(dtype: Dtype) -> Array:
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.kind == "int":
        info = dtypes.iinfo(dtype)
        numbers = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, 8, 31, 33, 100]
        numbers += [-1, -2, -3, -7] if dtype.signed else []
        return np.array(numbers, dtype.numpy)
    info_ = dtypes.finfo(dtype)
    tiny, rng = info_.smallest_normal, np.random.default_rng(2)
    powers = rng.uniform(np.log2(tiny), np.log2(info_.max), 40)
    numbers_ = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        3.0,
        -3.0,
        10.0,
        -20.5,
        info_.max,
        -info_.max,
        tiny,
        -tiny,
        tiny / 2,
        1 + info_.eps,
        1 - info_.eps / 2,
    ]
    numbers_ += [*(2.0**powers), *(-(2.0 ** powers[:20]))]
    with np.errstate(all="ignore"):
        return np.array(numbers_).astype(dtype.numpy)


# Running.


def evaluate(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs by the meanings themselves."""
    graph = flat(graph, keeps=nothing)
    slots = [np.asarray(a) for a in arrays] + [c.array for c in graph.constants]
    with np.errstate(all="ignore"):
        for step in graph.steps:
            meaning, params = step.entry.primitive.meaning, step.entry.named_params
            outs = meaning(*[slots[s] for s in step.slots], **params)
            slots += outs if isinstance(outs, tuple) else (outs,)
    return [np.asarray(slots[o]) for o in graph.outputs]


def run_on(backend: Backend, graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs on a backend's first device."""
    device = backend.devices()[0]
    executable = backend.compile(lower(graph, backend, device))
    specs = [i.spec for i in graph.inputs]
    buffers = [backend.put(a, s, device) for a, s in zip(arrays, specs, strict=True)]
    return [np.asarray(b.host()) for b in executable(buffers)]


def float_results(case: Case) -> Graph:
    """The case's graph with its float outputs only."""
    graph = case.graph
    outs = tuple([graph.outputs[i] for i in case.results])
    return Graph(graph.inputs, graph.steps, outs, graph.constants)
