"""Laws of derivatives: forward, reverse, second and at ties, against differences and each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.conformance.cases import Array, Case, evaluate, float_results
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.ops.movement import zeros
from proa.transforms.jvp import push
from proa.transforms.reverse import gradient_graph

STEP: Final = 1e-6


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
