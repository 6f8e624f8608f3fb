"""The laws: what must hold of every operation, said once and tried on every sample and dtype.

A *case* is one operation as a graph with operands drawn from its domain. A *law* is a function of
a case that returns sentences: what does not hold. Nothing here names an operation.

| law | says |
| --- | --- |
| specs | shapes and dtypes of results are those of the meaning |
| accuracy | a backend's results lie within the declared accuracy of the float64 judge |
| forward | forward mode agrees with central differences |
| reverse | <ct, J v> = <J^T ct, v> |
| second | derivatives of derivatives, forward over reverse and reverse over reverse |
| ties | where f(x + c) = f(x) + c, shares of a gradient add up to one at ties |
| batching | vmap(f) = stack(map(f)) for every choice of mapped operands |
| factors | every letter has a role and a size, shapes follow, costs are positive |
| jit | recorded, replayed and read early: the bits of the dynamic run |
| saves | the derived pullback reads what `saves` says |
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from proa import dtypes
from proa.capture.jit import jit
from proa.compile.backend import Backend
from proa.compile.find import default_device
from proa.compile.stages import lower
from proa.conformance.judge import STRICT, Widen, judge, verdict
from proa.dtypes import Dtype
from proa.errors import DtypeError
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.entry import Entry, intern_entry
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.rewrite import splice
from proa.graph.spec import Spec, spec
from proa.ops.expand import flat
from proa.ops.movement import zeros
from proa.ops.primitive import Primitive, Sample
from proa.tensor import Tensor, put
from proa.transforms.jvp import push
from proa.transforms.reverse import gradient_graph, pullback
from proa.transforms.vmap import batched_graph

Array = Any
BATCH: Final = 3
STEP: Final = 1e-6


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
        if not _accepted(primitive, sample, dtype):
            continue
        try:
            entry = entry_of(primitive, sample, dtype)
        except DtypeError:
            continue  # a mode that this dtype has not
        rng = np.random.default_rng([seed, number])
        arrays = tuple([draw(s, i, primitive, rng) for i, s in enumerate(entry.ins)])
        yield Case(f"{entry!r}", graph_of(entry), arrays)


def _accepted(primitive: Primitive, sample: Sample, dtype: Dtype) -> bool:
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


# Running.


def evaluate(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs by the meanings themselves."""
    graph = flat(graph)
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


def tangent_graph(graph: Graph, wanted: Sequence[int]) -> Graph:
    """(inputs, tangents of the wanted ones) -> tangents of the float outputs."""
    builder = Builder(graph.inputs)
    with use_sink(builder):
        inputs = builder.input_values()
        moved: list[Any] = [None] * len(inputs)
        for i in wanted:
            moved[i] = builder.input(graph.inputs[i].spec)
        outs, found = push(graph, inputs, moved)
        kept = [
            _or_zeros(t, o)
            for o, t in zip(outs, found, strict=True)
            if o.value.spec.dtype.is_inexact
        ]
    return builder.graph(kept)


def _or_zeros(tangent: Any, like: Any) -> Any:
    return zeros(like.value.spec.shape, like.value.spec) if tangent is None else tangent


def float_results(case: Case) -> Graph:
    """The case's graph with its float outputs only."""
    graph = case.graph
    outs = tuple([graph.outputs[i] for i in case.results])
    return Graph(graph.inputs, graph.steps, outs, graph.constants)


# The laws.


def specs_hold(case: Case) -> list[str]:
    graph = flat(case.graph)
    slots = [np.asarray(a) for a in case.arrays] + [c.array for c in graph.constants]
    found = []
    with np.errstate(all="ignore"):
        for step in graph.steps:
            entry = step.entry
            outs = entry.primitive.meaning(*[slots[s] for s in step.slots], **entry.named_params)
            outs = outs if isinstance(outs, tuple) else (outs,)
            if len(outs) != len(entry.outs):
                return [f"{len(outs)} results, declared {len(entry.outs)}"]
            for out, of in zip(outs, entry.outs, strict=True):
                if not isinstance(out, (np.ndarray, np.generic)):
                    return [f"{entry}: a result of type {type(out).__name__}"]
                if (out.shape, out.dtype) != (of.shape, of.dtype.numpy):
                    found.append(f"{entry}: {out.dtype}{out.shape}, declared {of}")
            slots += outs
    return found


def accuracy_holds(case: Case, backend: Backend, wider: Widen = STRICT) -> list[str]:
    results = run_on(backend, case.graph, case.arrays)
    verdicts = [
        verdict(r, j) for r, j in zip(results, judge(case.graph, case.arrays, wider), strict=True)
    ]
    return [v for v in verdicts if v]


def forward_holds(case: Case) -> list[str]:
    """J v against (f(x + h v) - f(x - h v)) / 2 h."""
    wanted = case.floats
    if not wanted or not case.results or not _is_double(case):
        return []
    graph = float_results(case)
    moved = _directions(case, wanted, 1)
    exact = evaluate(tangent_graph(graph, wanted), [*case.arrays, *moved])
    return _compare(exact, differences(graph, case.arrays, wanted, moved), "J v")


def reverse_holds(case: Case) -> list[str]:
    """<ct, J v> = <J^T ct, v>."""
    wanted = case.floats
    if not wanted or not case.results:
        return []
    graph = float_results(case)
    moved, cts = _directions(case, wanted, 1), _cotangents(graph, case.arrays)
    pushed = evaluate(tangent_graph(graph, wanted), [*case.arrays, *moved])
    pulled = evaluate(gradient_graph(graph, wanted), [*case.arrays, *cts])
    for p, i in zip(pulled, wanted, strict=True):
        if p.shape != case.arrays[i].shape:
            return [f"cotangent of operand {i} of shape {p.shape}"]
    eps = max([dtypes.finfo(s.dtype).eps for s in graph.output_specs()])
    room = 1e-11 if eps < 1e-15 else 8 * eps
    return _equal(_inner(cts, pushed), _inner(pulled, moved), "<ct, J v> and <J^T ct, v>", room)


def second_holds(case: Case) -> list[str]:
    """Of g(x) = J(x)^T ct: its tangent H v against differences of g; <w, H v> = <H^T w, v> by
    reverse over reverse; and forward over forward against differences of J v."""
    wanted = case.floats
    if not wanted or not case.results or not _is_double(case):
        return []
    graph = float_results(case)
    gradient = gradient_graph(graph, wanted)
    moved, cts = _directions(case, wanted, 1), _cotangents(graph, case.arrays)
    arrays = [*case.arrays, *cts]
    pushed = evaluate(tangent_graph(gradient, wanted), [*arrays, *moved])
    found = _compare(pushed, differences(gradient, arrays, wanted, moved), "H v")
    weights = [np.random.default_rng([5, i]).normal(size=p.shape) for i, p in enumerate(pushed)]
    pulled = evaluate(gradient_graph(gradient, wanted), [*arrays, *weights])
    found += _equal(_inner(weights, pushed), _inner(pulled, moved), "<w, H v> and <H^T w, v>")
    tangents = tangent_graph(graph, wanted)
    other = _directions(case, wanted, 2)
    twice = evaluate(tangent_graph(tangents, wanted), [*case.arrays, *other, *moved])
    slopes = differences(tangents, [*case.arrays, *other], wanted, moved)
    return found + _compare(twice, slopes, "D(J u) v")


def ties_hold(case: Case) -> list[str]:
    """Where f(x + c) = f(x) + c, the shares of all operands add up to one, at ties too: J 1 = 1."""
    wanted = case.floats
    if not wanted or not case.results or not _is_double(case):
        return []
    graph = float_results(case)
    tied = [np.round(a) if i in wanted else a for i, a in enumerate(case.arrays)]
    here = evaluate(graph, tied)
    for c in (0.37, -2.9, 11.3):
        moved = [a + c if i in wanted else a for i, a in enumerate(tied)]
        pairs = zip(evaluate(graph, moved), here, strict=True)
        if not all(np.allclose(there, y + c, 1e-12, 1e-12, equal_nan=True) for there, y in pairs):
            return []
    ones = [np.ones(case.arrays[i].shape) for i in wanted]
    slopes = evaluate(tangent_graph(graph, wanted), [*tied, *ones])
    sums = [np.where(np.isfinite(y), s, 1.0) for s, y in zip(slopes, here, strict=True)]
    return [f"shares add up to {s} at ties" for s in sums if not np.allclose(s, 1.0)]


def differences(
    graph: Graph, arrays: Sequence[Array], wanted: Sequence[int], moved: Any
) -> list[Array]:
    """Central differences of a graph in a direction."""
    ends = []
    for sign in (1.0, -1.0):
        there = list(arrays)
        for i, v in zip(wanted, moved, strict=True):
            there[i] = there[i] + sign * STEP * v
        ends.append(evaluate(graph, there))
    return [(a - b) / (2 * STEP) for a, b in zip(*ends, strict=True)]


def _directions(case: Case, wanted: Sequence[int], seed: int) -> list[Array]:
    return [np.random.default_rng([seed, i]).normal(size=case.arrays[i].shape) for i in wanted]


def _cotangents(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """Drawn; zero where the result itself is no number, so that its slope is of no interest."""
    results = evaluate(graph, arrays)
    return [
        np.where(np.isfinite(y), np.random.default_rng([3, i]).normal(size=y.shape), 0.0).astype(
            y.dtype
        )
        for i, y in enumerate(results)
    ]


def _is_double(case: Case) -> bool:
    """Differences need float64 throughout."""
    specs = [i.spec for i in case.graph.inputs] + list(case.graph.output_specs())
    return all(s.dtype is dtypes.float64 for s in specs if s.dtype.is_float)


def _inner(xs: Sequence[Array], ys: Sequence[Array]) -> tuple[float, float]:
    """The inner product, and that of absolute values."""
    pairs = [
        np.where(np.equal(x, 0) | np.equal(y, 0), 0.0, np.multiply(x, y))
        for x, y in zip(xs, ys, strict=True)
    ]
    return float(sum(p.sum() for p in pairs)), float(sum(np.abs(p).sum() for p in pairs))


def _equal(
    a: tuple[float, float], b: tuple[float, float], what: str, room: float = 1e-11
) -> list[str]:
    room = room * (a[1] + b[1]) + 1e-14
    if abs(a[0] - b[0]) <= room or (np.isnan(a[0]) and np.isnan(b[0])):
        return []
    return [f"{what}: {a[0]!r} and {b[0]!r}"]


def _compare(exact: Sequence[Array], slopes: Sequence[Array], what: str) -> list[str]:
    found = []
    for i, (a, b) in enumerate(zip(exact, slopes, strict=True)):
        if a.shape != b.shape:
            found.append(f"{what} {i}: shape {a.shape}, expected {b.shape}")
            continue
        known = np.isfinite(b)
        largest = float(np.max(np.abs(b), initial=0.0, where=known))
        bad = known & ~(np.abs(a - b) <= 1e-6 * (1.0 + largest))
        if bad.any():
            at = tuple(int(k) for k in np.argwhere(bad)[0])
            found.append(f"{what} {i}: {a[at]!r} at {at}, differences give {b[at]!r}")
    return found


def batching_holds(case: Case) -> list[str]:
    """For every choice of mapped operands. Exact operations agree bitwise, others in the bound."""
    found = []
    count = len(case.graph.inputs)
    stacks = [_stack_of(a, i, case) for i, a in enumerate(case.arrays)]
    for flags in product((False, True), repeat=count):
        if not any(flags):
            continue
        graph = batched_graph(case.graph, flags, BATCH)
        arrays = [s if f else a for s, a, f in zip(stacks, case.arrays, flags, strict=True)]
        together = evaluate(graph, arrays)
        for k in range(BATCH):
            row = [s[k] if f else a for s, a, f in zip(stacks, case.arrays, flags, strict=True)]
            alone = evaluate(case.graph, row)
            bounds = judge(case.graph, row)
            for i, (whole, one, j) in enumerate(zip(together, alone, bounds, strict=True)):
                wrong = (
                    _unlike(whole[k], one, j.error)
                    if whole.shape[:1] == (BATCH,)
                    else "no batch axis"
                )
                if wrong:
                    found.append(f"mapped {flags}, result {i}, row {k}: {wrong}")
    return found


def _stack_of(array: Array, index: int, case: Case) -> Array:
    """Rows drawn anew; the first is the operand itself. Of composites its elements, shuffled."""
    rng = np.random.default_rng([11, index])
    of, primitive = case.graph.inputs[index].spec, case.entry.primitive
    if primitive.meaning is None:
        shuffled = [
            rng.permutation(array.reshape(-1)).reshape(array.shape) for _ in range(BATCH - 1)
        ]
        return np.stack([array, *shuffled])
    return np.stack([array] + [draw(of, index, primitive, rng) for _ in range(BATCH - 1)])


def _unlike(found: Array, expected: Array, error: Array) -> str:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"{found.dtype}{found.shape}, expected {expected.dtype}{expected.shape}"
    if found.tobytes() == np.ascontiguousarray(expected).tobytes():
        return ""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        near = (np.abs(a - b) <= 2 * error) | (a == b) | (np.isnan(a) & np.isnan(b))
    if near.all():
        return ""
    at = tuple(int(k) for k in np.argwhere(~near)[0])
    return f"{found[at]!r} at {at}, expected {expected[at]!r}"


def factors_hold(case: Case) -> list[str]:
    entry = case.entry
    primitive, name = entry.primitive, entry.primitive.name
    found = []
    given = primitive.family.factors(name, entry.ins, **entry.named_params)
    letters = {c for axes in (*given.operands, *given.results) for c in axes if c is not None}
    if lost := [c for c in letters if c not in given.roles or c not in given.sizes]:
        found.append(f"letters {lost} without a role or a size")
    roles = {"pass", "sum", "max", "min", "whole", "window", "gathered"}
    if strange := set(given.roles.values()) - roles:
        found.append(f"roles {strange}")
    if len(given.operands) != len(entry.ins):
        found.append(f"{len(given.operands)} operands, given {len(entry.ins)}")
    for i, (axes, s) in enumerate(zip(given.operands, entry.ins, strict=False)):
        if len(axes) != s.ndim:
            found.append(f"operand {i}: {len(axes)} letters for {s.ndim} axes")
    shapes = [s.shape for s in entry.outs]
    if given.results and any(s not in shapes for s in given.result_shapes()):
        found.append(f"result shapes {given.result_shapes()}, declared {shapes}")
    reduced = {c for c, role in given.roles.items() if role in ("sum", "max", "min")}
    if hidden := reduced & {c for axes in given.results for c in axes}:
        found.append(f"reduced letters {hidden} in a result")
    if primitive.cost < 0 or given.iterations() < 0:
        found.append(f"cost {primitive.cost} of {given.iterations()} iterations")
    if all(s.size for s in (*entry.ins, *entry.outs)) and given.results:
        largest = max([s.size for s in entry.outs])
        addressed = any(
            given.roles[c] in ("gathered", "window") for axes in given.results for c in axes
        )
        if given.iterations() < largest and not addressed:
            found.append(f"{given.iterations()} iterations for {largest} results")
        if sum(s.nbytes for s in (*entry.ins, *entry.outs)) <= 0:
            found.append("no bytes")
    return found


def declared_names(entry: Entry) -> dict[str, tuple[int, ...]]:
    """Names that `saves` may use -> inputs of the pullback (operands, then results)."""
    primitive, n_in = entry.primitive, len(entry.ins)
    results = tuple(range(n_in, n_in + len(entry.outs)))
    rules = primitive.jvp if isinstance(primitive.jvp, tuple) else (primitive.jvp,)
    rule = next((r for r in rules if r is not None), None)
    if rule is not None:
        names = [
            p for p in inspect.signature(rule).parameters.values() if p.name not in primitive.params
        ]
        if (
            all(p.kind is not p.VAR_POSITIONAL for p in names)
            and len(names) == n_in + len(entry.outs) + 1
        ):
            return {p.name: (i,) for i, p in enumerate(names[:-1])}
    if isinstance(primitive.meaning, np.ufunc):
        return dict(zip("xyz"[:n_in], [(i,) for i in range(n_in)], strict=True)) | {"y": results}
    found: dict[str, tuple[int, ...]] = {}
    for i, p in enumerate(inspect.signature(primitive.meaning).parameters.values()):
        if p.kind is p.VAR_POSITIONAL:
            found[p.name] = tuple(range(i, n_in))
        elif p.name not in primitive.params and i < n_in:
            found[p.name] = (i,)
    return {"y": results} | found


def jit_holds(case: Case) -> list[str]:
    """Recorded and replayed, and read early: the bits of the dynamic run."""
    inputs = [i.spec for i in case.graph.inputs]
    device = default_device()

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(splice(current_sink(), case.graph, [t.value for t in tensors]))

    tensors = [put(a, s, device) for a, s in zip(case.arrays, inputs, strict=True)]
    jitted = jit(function)
    first = [t.numpy() for t in function(*tensors)]
    found = []
    for call in range(4):
        again = [t.numpy() for t in jitted(*tensors)]
        for i, (a, b) in enumerate(zip(first, again, strict=True)):
            if (a.shape, a.dtype, a.tobytes()) != (b.shape, b.dtype, b.tobytes()):
                found.append(f"call {call + 1}, result {i}: {b!r:.80}, dynamic {a!r:.80}")
    return found


def saved_by_rule(case: Case) -> tuple[set[str], set[str]]:
    """(names that the derived pullback reads, names that `saves` gives)."""
    entry, wanted = case.entry, case.floats
    given = tuple([s.dtype.is_inexact for s in entry.outs])
    rule = pullback(entry, wanted, given)
    used = set(rule.graph.outputs)
    for step in rule.graph.steps:
        used.update(step.slots)
    names = declared_names(entry)
    fixed = len(entry.ins) + len(entry.outs)
    read = {name for name, slots in names.items() if any(s in used for s in slots if s < fixed)}
    return read, set(entry.primitive.saves.split())


def saves_hold(cases: Sequence[Case]) -> list[str]:
    """Over all cases of a primitive that have elements: what is read is what is declared."""
    read: set[str] = set()
    declared: set[str] = set()
    for case in cases:
        if (
            case.floats
            and case.results
            and all(s.size for s in (*case.entry.ins, *case.entry.outs))
        ):
            mine, declared = saved_by_rule(case)
            read |= mine
    if read == declared:
        return []
    return [f"the pullback reads {sorted(read)}, `saves` says {sorted(declared)}"]


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
    if shapes and _accepted(primitive, sample, dtype):
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


LAWS: Final[dict[str, Callable[[Case], list[str]]]] = {
    "specs": specs_hold,
    "forward": forward_holds,
    "reverse": reverse_holds,
    "second": second_holds,
    "ties": ties_hold,
    "batching": batching_holds,
    "factors": factors_hold,
    "jit": jit_holds,
}
