"""`xla` against the meaning of every primitive, and whole programs against `numpy`."""

from __future__ import annotations

import builtins
import inspect
import sys
from typing import Any

import jax
import numpy as np
import pytest

import proa.ops.composite.activations
import proa.ops.creation
import proa.ops.operators as op
import proa.ops.scans
import proa.ops.window  # noqa: F401 (fills the registry)
from proa import dtypes
from proa.tensor import no_grad
from proa.backends.xla.backend import EMITTERS, XlaBackend, XlaExecutable
from proa.backends.xla.elementwise import WIDER
from proa.compile.find import _load, backend, device
from proa.compile.program import Program
from proa.dtypes import Dtype, bool_, float32, float64
from proa.dtypes import dtype as as_dtype
from proa.errors import DtypeError, ExecutionError, MissingExtra, OutOfMemory
from proa.graph.build import Builder
from proa.graph.entry import intern_entry
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.spec import Spec, spec
from proa.ops.families.elementwise import ELEMENTWISE
from proa.ops.functions import cast, tanh
from proa.ops.primitive import EXACT, REGISTRY, Primitive, Sample
from proa.tensor import assign, put

XLA = device("xla")
PRIMITIVES = sorted(n for n, p in REGISTRY.items() if p.expand is None and p.meaning is not None)
DTYPES = ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64")
NARROW = ("float16", "bfloat16")
UNSIGNED_ZERO = {"maximum", "minimum", "max", "min", "sort", "scatter", "sign"}
HARD_FLOATS = [0.0, -0.0, 1.0, -1.0, 2.5, -3.5, 3.0, 1e-3, -1e4, np.inf, -np.inf, np.nan]


@pytest.fixture(autouse=True)
def process_flag_is_left_alone() -> Any:
    before = jax.config.jax_enable_x64
    yield
    assert jax.config.jax_enable_x64 is before is False


def chip() -> XlaBackend:
    return backend("xla")  # type: ignore[return-value]


def compiled(graph: Graph, donated: frozenset[int] = frozenset()) -> XlaExecutable:
    return chip().compile(Program(graph, XLA, donated))


def run(executable: Any, *arrays: Any) -> list[Any]:
    buffers = []
    for a, i in zip(arrays, executable.program.graph.inputs, strict=True):
        is_number = isinstance(a, bool | int | float)
        buffers.append(a if is_number else chip().put(a, i.spec, XLA))
    return [b.host() for b in executable(buffers)]


# Every primitive.


def arity(primitive: Primitive) -> int:
    if isinstance(primitive.meaning, np.ufunc):
        return primitive.meaning.nin
    return len(inspect.signature(primitive.meaning).parameters)


def operand_of(operand: Any, name: str) -> tuple[Any, Dtype]:
    named = len(operand) == 2 and isinstance(operand[1], str)
    shape, given = operand if named else (operand, name)
    return shape, as_dtype(given)


def accepts(primitive: Primitive, index: int, dtype: Dtype) -> bool:
    allowed = primitive.accepts
    return dtype in (allowed[min(index, len(allowed) - 1)] if isinstance(allowed, tuple) else allowed)


def cases(primitive: Primitive, name: str) -> list[tuple[Any, list[Any]]]:
    """(entry, operands) for every sample in this dtype, and for hard values."""
    rng = np.random.default_rng(0)
    samples = list(primitive.samples)
    if primitive.family is ELEMENTWISE and not samples:
        samples = primitive.family.samples(primitive, arity(primitive))
        samples.append(Sample(((12,), (12, 1))[: arity(primitive)]))
        hard = len(samples) - 1
    else:
        hard = -1
    found = []
    for number, sample in enumerate(samples):
        ins = [operand_of(o, name) for o in sample.operands]
        fixed = all(len(o) == 2 and isinstance(o[1], str) for o in sample.operands)
        allowed = all(accepts(primitive, i, d) for i, (_, d) in enumerate(ins))
        if not allowed or (fixed and name != "float32"):
            continue
        specs = tuple([spec(s, d) for s, d in ins])
        params = tuple([sample.params[p] for p in primitive.params])
        try:
            entry = intern_entry(primitive.table, primitive, params, specs)
        except DtypeError:
            continue  # a mode that this dtype has not
        draw = hard_values if number == hard else values
        found.append((entry, [draw(s, primitive, rng) for s in specs]))
    return found


def values(of: Spec, primitive: Primitive, rng: Any) -> Any:
    low, high = primitive.domain
    if of.dtype is bool_:
        return rng.integers(0, 2, of.shape).astype(bool)
    if of.dtype.kind == "int":
        if primitive.family.name == "indexing":
            low, high = -2, 7
        low = low if of.dtype.signed else max(low, 0)
        return np.asarray(rng.integers(int(low), int(high) + 1, of.shape)).astype(of.dtype.numpy)
    return np.asarray(rng.uniform(low, high, of.shape)).astype(of.dtype.numpy)


def hard_values(of: Spec, primitive: Primitive, rng: Any) -> Any:
    if of.dtype is bool_:
        found: Any = np.arange(12) % 2 == 0
    elif of.dtype.kind == "int":
        low, high = dtypes.iinfo(of.dtype).min, dtypes.iinfo(of.dtype).max
        numbers = [0, 1, 2, 3, 7, 8, 31, 32, high, high - 1, low, low + 1 if low == 0 else -1]
        found = np.array(numbers, of.dtype.numpy)
    else:
        found = np.array(HARD_FLOATS).astype(of.dtype.numpy)
    return found.reshape(of.shape)


def check(entry: Any, operands: Any, found: Any) -> None:
    with np.errstate(all="ignore"):
        expected = entry.primitive.meaning(*operands, **entry.named_params)
    expected = (expected,) if entry.single else expected
    for i, (e, f, s) in enumerate(zip(expected, found, entry.outs, strict=True)):
        e = np.asarray(e)
        assert (f.shape, f.dtype) == (s.shape, s.dtype.numpy) == (e.shape, e.dtype), entry
        bound = bound_of(entry, operands, s, i)
        agree(e, f, bound, entry.primitive.name not in UNSIGNED_ZERO, f"{entry} of {operands}")


def agree(expected: Any, found: Any, bound: Any, zeros: bool, what: str) -> None:
    """Equal; or, where finite, within `bound` of it. NaN equals NaN; zeros have one sign."""
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    e, f = expected.astype(np.float64), found.astype(np.float64)
    special = ~np.isfinite(e) | ~np.isfinite(f)
    np.testing.assert_array_equal(f[special], e[special], err_msg=what)
    with np.errstate(all="ignore"):
        error = np.where(special, 0.0, np.abs(f - e))
    worst = np.max(error - bound, initial=0.0)
    assert worst <= 0.0, f"{what}: {found} for {expected}, off by {error} of {bound}"
    if zeros:
        both = (e == 0) & (f == 0)
        np.testing.assert_array_equal(np.signbit(f[both]), np.signbit(e[both]), err_msg=what)


def bound_of(entry: Any, operands: Any, of: Spec, index: int) -> Any:
    """How far a result may be from the meaning: both err by the stated accuracy."""
    primitive, name = entry.primitive, entry.primitive.name
    if not of.dtype.is_float or (primitive.accuracy is EXACT and name not in WIDER) or index:
        return 0.0
    with np.errstate(all="ignore"):
        eps = float(dtypes.finfo(of.dtype).eps)
        if primitive.accuracy.sums:
            if entry.named_params.get("mode", "add") != "add":
                return 0.0
            wide = [np.abs(o.astype(np.float64)) if o.dtype.kind not in "iub" else o for o in operands]
            size = max([o.size for o in operands])
            terms = eps + size * (2.0**-23 if of.dtype.name in NARROW else eps)
            return terms * np.asarray(primitive.meaning(*wide, **entry.named_params))
        f32, f64 = WIDER.get(name, primitive.accuracy[:2])
        units = f64 if of.dtype is float64 else f32 if of.dtype is float32 else 1.0
        exact = primitive.meaning(*[o.astype(np.float64) for o in operands], **entry.named_params)
    unit = np.maximum(np.abs(exact), float(dtypes.finfo(of.dtype).smallest_normal)) * eps
    return np.where(np.isfinite(unit), (units + max(primitive.accuracy[:2])) * unit, 0.0)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_every_primitive_has_its_meaning(primitive: str, name: str) -> None:
    assert primitive in EMITTERS
    rows = cases(REGISTRY[primitive], name)
    if not rows:
        return
    inputs, steps, outs, arrays = [], [], [], []
    slot = sum(len(e.ins) for e, _ in rows)
    for entry, operands in rows:
        first = len(inputs)
        inputs += [Input(s, Role.DATA) for s in entry.ins]
        arrays += operands
        steps.append(Step(entry, tuple(range(first, len(inputs)))))
        outs += range(slot, slot + len(entry.outs))
        slot += len(entry.outs)
    found = iter(run(compiled(Graph(tuple(inputs), tuple(steps), tuple(outs))), *arrays))
    for entry, operands in rows:
        check(entry, operands, [next(found) for _ in entry.outs])


def test_every_primitive_is_claimed() -> None:
    for name in PRIMITIVES:
        assert name in EMITTERS


def single(primitive: Primitive, operands: Any, **params: Any) -> Any:
    """One primitive of arrays, through xla."""
    specs = tuple([spec(o.shape, as_dtype(o.dtype)) for o in operands])
    given = tuple([params[p] for p in primitive.params])
    entry = intern_entry(primitive.table, primitive, given, specs)
    slots = tuple(range(len(specs)))
    outs = tuple(range(len(specs), len(specs) + len(entry.outs)))
    inputs = tuple([Input(s, Role.DATA) for s in specs])
    found = run(compiled(Graph(inputs, (Step(entry, slots),), outs)), *operands)
    return found[0] if entry.single else found


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("primitive", [n for n in PRIMITIVES if REGISTRY[n].edges])
def test_edges(primitive: str, name: str) -> None:
    declared = REGISTRY[primitive].edges
    rows = [k if isinstance(k, tuple) else (k,) for k in declared]
    columns = [np.array(c).astype(as_dtype(name).numpy) for c in zip(*rows, strict=True)]
    found = single(REGISTRY[primitive], columns).astype(np.float64)
    expected = np.array([float(v) for v in declared.values()])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found)[found == 0], np.signbit(expected)[found == 0])


HARD = {
    "float": [*HARD_FLOATS, 0.4, -0.6, 127.5, 128.0, 255.9, 256.0, -128.9, 65519.0, 65520.0,
              1.0 + 2**-9 + 2**-40, 1.003, 2.0**31, 2.0**31 - 1, 2.0**32, 2.0**53, 2.0**63, 2.0**64,
              -(2.0**31), -(2.0**63), -1e30, 1e30, 6e-8, 1e-6, 3e-5],
    "int": [0, 1, 2, 127, 128, 255, 256, 2049, 65535, 65536, 2**24 + 1, 2**31 - 1, 2**31, 2**53 + 1,
            2**63 - 1, 2**64 - 1, -1, -2, -128, -(2**31), -(2**53) - 1, -(2**63)],
    "bool": [False, True],
}  # fmt: skip
REAL = [d for d in dtypes.ALL if d.kind != "complex"]


@pytest.mark.parametrize("old", REAL, ids=lambda d: d.name)
def test_casts_between_all_dtypes(old: Dtype) -> None:
    numbers: Any = HARD[old.kind]
    if old.kind == "int":
        info = dtypes.iinfo(old)
        numbers = [n for n in numbers if info.min <= n <= info.max]
    with np.errstate(all="ignore"):
        x = np.array(numbers, dtype=None if old.kind == "float" else old.numpy).astype(old.numpy)
    of = spec(x.shape, old)
    entries = [intern_entry(cast.table, cast, (new, False), (of,)) for new in REAL]
    steps = tuple([Step(e, (0,)) for e in entries])
    found = run(compiled(Graph((Input(of, Role.DATA),), steps, tuple(range(1, len(REAL) + 1)))), x)
    for entry, f in zip(entries, found, strict=True):
        check(entry, [x], [f])
