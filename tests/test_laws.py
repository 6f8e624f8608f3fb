"""Every operation under every law: generated from the registry, so a new one needs no test here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from proa import dtypes
from proa.compile.find import backend
from proa.conformance.cases import (
    Case,
    accepted,
    cases_of,
    entry_of,
    evaluate,
    float_results,
    hard_cases_of,
    is_fixed,
    samples_of,
)
from proa.conformance.declarations import saves_hold
from proa.conformance.derivatives import tangent_graph
from proa.conformance.judge import Judged, decided, judge, ulps, verdict
from proa.conformance.laws import LAWS
from proa.conformance.modes import accuracy_holds
from proa.dtypes import Dtype
from proa.errors import ProaError
from proa.ops.primitive import FLOAT, REGISTRY, Primitive
from proa.transforms.reverse import gradient_graph
from proa.transforms.vmap import batched_graph
from tests.helpers_laws import (
    COMPOSITES,
    DTYPES,
    FLOATS,
    PRIMITIVES,
    SAMPLES,
    composite_cases,
    settle,
)
from tests.known_gaps import GAPS

NUMPY = backend("numpy")
# The dtypes that a law is tried in; of the others every one.
TRIED = {
    "forward": [dtypes.float64],
    "second": [dtypes.float64],
    "reverse": [dtypes.float64],
    "ties": [dtypes.float64],
    "batching": [dtypes.float32, dtypes.int32, dtypes.bool_],
    "jit": [dtypes.float32, dtypes.bfloat16, dtypes.int32],
}
ALL_LAWS = {**LAWS, "accuracy": lambda case: accuracy_holds(case, NUMPY)}


def held(law: str, cases: Iterator[Case]) -> list[str]:
    """What a law finds in these cases, each sentence with the case."""
    return [f"{case.name}: {text}" for case in cases for text in ALL_LAWS[law](case)]


def in_dtypes(primitive: Primitive, tried: list[Dtype], seed: int = 0) -> Iterator[Case]:
    for dtype in tried:
        yield from cases_of(primitive, dtype, seed)


# Primitives.


@pytest.mark.parametrize("law", ALL_LAWS)
@pytest.mark.parametrize("name", PRIMITIVES)
def test_law(name: str, law: str) -> None:
    settle(law, name, held(law, in_dtypes(REGISTRY[name], TRIED.get(law, DTYPES))))


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_has_cases(name: str) -> None:
    primitive = REGISTRY[name]
    cases = list(in_dtypes(primitive, DTYPES))
    assert samples_of(primitive) and cases
    tried = {s.dtype for c in cases for s in c.entry.ins}
    wanted = primitive.accepts if not isinstance(primitive.accepts, tuple) else frozenset()
    named = frozenset(DTYPES) & wanted if primitive.family.name == "elementwise" else frozenset()
    assert primitive.name in ("cast", "bitcast") or named <= tried


@pytest.mark.parametrize("name", PRIMITIVES)
def test_accuracy_over_the_whole_range(name: str) -> None:
    found = [
        f"{case.name}: {text}"
        for dtype in DTYPES
        for case in hard_cases_of(REGISTRY[name], dtype)
        for text in ALL_LAWS["accuracy"](case)
    ]
    settle("hard", name, found)


@pytest.mark.parametrize("name", [n for n in PRIMITIVES if REGISTRY[n].edges])
def test_declared_edges(name: str) -> None:
    primitive, found = REGISTRY[name], []
    for dtype in [d for d in FLOATS if d in primitive.accepts]:
        for given, expected in primitive.edges.items():
            operands = [
                np.array(v).astype(dtype.numpy)
                for v in (given if isinstance(given, tuple) else (given,))
            ]
            with np.errstate(all="ignore"):
                y = np.asarray(primitive.meaning(*operands)).astype(np.float64)
            same = np.array_equal(y, float(expected), equal_nan=True)
            signs = bool(np.signbit(y) == np.signbit(float(expected))) or y != 0
            if not (same and signs):
                found.append(f"{name}{given} in {dtype.name} is {y}, declared {expected}")
    settle("edges", name, found)


@pytest.mark.parametrize("name", [n for n in PRIMITIVES if REGISTRY[n].errors])
def test_error_samples(name: str) -> None:
    for sample, kind in REGISTRY[name].errors:
        with pytest.raises(kind) as caught:
            entry_of(REGISTRY[name], sample, dtypes.float32)
        text = str(caught.value)
        assert (
            isinstance(caught.value, ProaError) and text.startswith("[") and "expected" in text
        ), text


@pytest.mark.parametrize("name", PRIMITIVES)
def test_dtypes_that_are_refused_are_named(name: str) -> None:
    """A dtype that an operation does not accept is a typed error, never a wrong answer."""
    primitive = REGISTRY[name]
    for sample in samples_of(primitive):
        if not sample.operands or is_fixed(sample):
            continue
        for dtype in dtypes.ALL:
            if accepted(primitive, sample, dtype):
                continue
            with pytest.raises(ProaError) as caught:
                entry_of(primitive, sample, dtype)
            assert dtype.name in str(caught.value)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_saves_is_what_the_pullback_reads(name: str) -> None:
    settle("saves", name, saves_hold(list(cases_of(REGISTRY[name], dtypes.float64))))


# Composites.

COMPOSITE_LAWS = ("specs", "accuracy", "forward", "reverse", "second", "batching", "jit")
COMPOSITE_TRIED = {**TRIED, "batching": [dtypes.float32, dtypes.bfloat16], "jit": [dtypes.float32]}


@pytest.mark.parametrize("law", COMPOSITE_LAWS)
@pytest.mark.parametrize("name", COMPOSITES)
def test_law_of_composite(name: str, law: str) -> None:
    cases = [c for d in COMPOSITE_TRIED.get(law, FLOATS) for c in composite_cases(name, d)]
    settle(law, name, held(law, iter(cases)))


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_composite_has_samples(name: str) -> None:
    """Declared with the composite, or in helpers_laws.py; a sample must reach its composite."""
    assert name in SAMPLES or REGISTRY[name].samples, f"give {name} samples=[...]"
    steps = [
        s.entry.primitive.name for c in composite_cases(name, dtypes.float32) for s in c.graph.steps
    ]
    assert name in steps or not SAMPLES.get(name, True)


# The judge judges.


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d in FLOAT], ids=lambda d: d.name)
@pytest.mark.parametrize(
    "name", [n for n in PRIMITIVES if REGISTRY[n].family.name == "elementwise"]
)
def test_the_judge_sees_a_wrong_result(name: str, dtype: Dtype) -> None:
    """A result moved by 16 units in the last place lies outside."""
    for case in cases_of(REGISTRY[name], dtype):
        for found, judged, of in zip(
            evaluate(case.graph, case.arrays),
            judge(case.graph, case.arrays),
            case.graph.output_specs(),
            strict=True,
        ):
            if not of.dtype.is_float or not found.size:
                continue
            moved = np.where(found == 0, 1, found * (1 + 16 * dtypes.finfo(of.dtype).eps)).astype(
                found.dtype
            )
            assert verdict(moved, judged) and decided(judged) == 1.0


def test_the_judge_bounds_chains() -> None:
    """A chain that loses digits gets a wider bound; what is decided by noise is unknown."""
    import proa.ops.functions as fn
    import proa.ops.operators as op
    from proa.ops import reduce
    from tests.helpers_graph import record

    x = np.linspace(0.1, 1.0, 7, dtype=np.float32)
    graph = record(
        lambda v: [(fn.exp(v) - 1.0) / v, fn.floor(op.divide(v, v)), reduce.argmax(fn.exp(v))], x
    )
    slope, one, best = judge(graph, [x])
    found = evaluate(graph, [x])
    assert not verdict(found[0], slope) and 1e-8 < slope.error.max() < 1e-4
    assert np.all(one.error >= 1.0) or np.all(one.error == 0.0)
    assert np.isinf(best.error).all()
    assert verdict(found[0] * np.float32(1.01), slope)


def test_ulps_counts_units() -> None:
    exact = np.array([1.0, 1.5, 0.0, np.inf, np.nan])
    found = np.array([1.0 + 2**-23, 1.5 - 2**-22, 0.0, np.inf, np.nan], np.float32)
    np.testing.assert_allclose(ulps(found, exact, dtypes.float32), [1, 2, 0, 0, 0])
    assert verdict(np.float32(2.0), Judged(np.float64(1.0), np.float64(0.5))).startswith(
        "2.0 at ()"
    )


# The slow lane: more draws, every dtype, derived graphs under the same laws.


@pytest.mark.slow
@pytest.mark.parametrize("law", ALL_LAWS)
@pytest.mark.parametrize("name", PRIMITIVES)
def test_law_with_more_draws(name: str, law: str) -> None:
    tried = TRIED.get(law, DTYPES) if law in ("forward", "second") else DTYPES
    for seed in range(1, 6):
        settle(law, name, held(law, in_dtypes(REGISTRY[name], tried, seed)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIMITIVES + COMPOSITES)
def test_derivatives_batch(name: str) -> None:
    """The pushforward and the pullback, mapped over everything: laws for derived graphs."""
    rows: Any = cases_of if name in PRIMITIVES else (lambda p, d: composite_cases(p.name, d))
    found = []
    for case in rows(REGISTRY[name], dtypes.float64):
        if not case.floats or not case.results:
            continue
        graph = float_results(case)
        for derived in (
            tangent_graph(graph, case.floats),
            gradient_graph(graph, case.floats),
        ):
            rng = np.random.default_rng(4)
            more = [
                rng.normal(size=i.spec.shape).astype(i.spec.dtype.numpy)
                for i in derived.inputs[len(case.arrays) :]
            ]
            arrays = (*case.arrays, *more)
            stacks = [np.stack([a, a[..., ::-1] if a.ndim else a]) for a in arrays]
            together = evaluate(batched_graph(derived, (True,) * len(arrays), 2), stacks)
            for k in range(2):
                alone = evaluate(derived, [s[k] for s in stacks])
                for t, a in zip(together, alone, strict=True):
                    if not np.allclose(t[k], a, rtol=1e-9, atol=1e-12, equal_nan=True):
                        found.append(f"{case.name} row {k}")
    settle("derived batching", name, found)


def test_gaps_name_operations() -> None:
    assert all(name in REGISTRY or law.startswith("hostile") for law, name in GAPS)
