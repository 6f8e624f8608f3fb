"""`xla` against the meaning of every primitive, and whole programs against `numpy`."""

from __future__ import annotations

import builtins
import inspect
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import proa.ops.composite.activations
import proa.ops.creation
import proa.ops.scans
import proa.ops.window  # noqa: F401 (fills the registry)
from proa import dtypes
from proa.backends.xla.backend import EMITTERS, XlaBackend, XlaExecutable
from proa.backends.xla.elementwise import WIDER
from proa.compile.find import _load, backend, device
from proa.compile.program import Program
from proa.dtypes import Dtype, bool_, float32, float64
from proa.dtypes import dtype as as_dtype
from proa.errors import DtypeError, ExecutionError, MissingExtra, OutOfMemory
from proa.graph.build import Builder, use_sink
from proa.graph.entry import intern_entry
from proa.graph.graph import Graph, Input, Role, Step
from proa.graph.spec import Spec, spec
from proa.ops import products, reduce
from proa.ops.families.elementwise import ELEMENTWISE
from proa.ops.functions import cast, tanh
from proa.ops.primitive import EXACT, REGISTRY, Primitive, Sample, cast_to
from proa.record.donation import donated
from proa.tensor import assign, no_grad, put

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
    if isinstance(allowed, tuple):
        allowed = allowed[min(index, len(allowed) - 1)]
    return dtype in allowed


def cases(primitive: Primitive, name: str) -> list[tuple[Any, list[Any]]]:
    """(entry, operands) for every sample in this dtype, and for hard values."""
    rng = np.random.default_rng(0)
    samples = list(primitive.samples)
    if primitive.family is ELEMENTWISE and not samples:
        samples = primitive.family.samples(primitive, arity(primitive))
        if name not in ("float32", "int32"):  # shapes do not depend on dtypes: fewer kernels
            samples = samples[::3]
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
    if expected.dtype.kind in "iubc":
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
            wide = [o if o.dtype.kind in "iub" else np.abs(o.astype("d")) for o in operands]
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


@pytest.mark.parametrize("name", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("primitive", [n for n in PRIMITIVES if REGISTRY[n].edges])
def test_edges(primitive: str, name: str) -> None:
    declared = REGISTRY[primitive].edges
    rows = [k if isinstance(k, tuple) else (k,) for k in declared]
    columns = [np.array(c).astype(as_dtype(name).numpy) for c in zip(*rows, strict=True)]
    found = single(REGISTRY[primitive], columns).astype(np.float64)
    expected = np.array([float(v) for v in declared.values()])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found)[found == 0], np.signbit(expected)[found == 0])


HALVES = [1.0 + 2.0**-n + 2.0**-40 for n in (4, 8, 11, 24)]  # a little above a tie
HARD = {
    "float": [*HARD_FLOATS, *HALVES, 0.4, -0.6, 127.5, 128.0, 255.9, 256.0, -128.9, 65519.0,
              65520.0, 1.003, 2.0**31, 2.0**31 - 1, 2.0**32, 2.0**53, 2.0**63, 2.0**64,
              -(2.0**31), -(2.0**63), -1e30, 1e30, 6e-8, 1e-6, 3e-5],
    "int": [0, 1, 2, 127, 128, 255, 256, 2049, 65535, 65536, 2**24 + 1, 2**30 + 2**22 + 1,
            2**31 - 1, 2**31, 2**53 + 1, 2**62 + 2**38 + 1, 2**63 - 1, 2**64 - 1, -1, -2, -128,
            -(2**31), -(2**53) - 1, -(2**63)],
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
    targets = [d for d in REAL if not d.kind == old.kind == "int" or d.bits in (8, 64)]
    entries = [intern_entry(cast.table, cast, (new, False), (of,)) for new in targets]
    steps = tuple([Step(e, (0,)) for e in entries])
    outs = tuple(range(1, len(steps) + 1))
    found = run(compiled(Graph((Input(of, Role.DATA),), steps, outs)), x)
    for entry, f in zip(entries, found, strict=True):
        check(entry, [x], [f])


# What the samples do not reach.


def against(name: str, *operands: Any, **params: Any) -> None:
    """xla and the meaning, exactly."""
    primitive = REGISTRY[name]
    found = single(primitive, operands, **params)
    with np.errstate(all="ignore"):
        expected = primitive.meaning(*operands, **params)
    if not isinstance(found, list):
        found, expected = [found], [expected]
    for f, e in zip(found, expected, strict=True):
        agree(np.asarray(e), f, 0.0, True, name)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_nan_and_ties_in_reductions_and_sort(name: str) -> None:
    narrow = as_dtype(name).numpy
    x = np.array([[1, np.nan, 3, -np.nan], [3, 5, -np.inf, 5], [2, 2, -1, 2]]).astype(narrow)
    for reduction in ("max", "min"):
        against(reduction, x, axes=(1,))
        against(reduction, x, axes=())
    against("argmax", x, axes=(1,))
    against("sum", x, axes=())
    small = dtypes.finfo(name).smallest_normal
    hard = [2, np.nan, -0.0, 1, 0.0, -np.inf, -np.nan, 2, np.inf, -0.0, small / 2, -small / 4]
    against("sort", np.array(hard).astype(narrow), axis=0)


def test_long_scans() -> None:
    """Narrow sums are kept in float32; equal elements keep their order."""
    for name in NARROW:
        x = np.full(1000, 0.1).astype(as_dtype(name).numpy)
        found = single(REGISTRY["cumsum"], [x], axis=0, reverse=False).astype("d")
        exact = np.cumsum(x.astype("d"))
        eps = dtypes.finfo(name).eps
        np.testing.assert_allclose(found, exact, rtol=0.51 * eps)
        np.testing.assert_allclose(single(REGISTRY["sum"], [x], axes=(0,)), exact[-1], rtol=eps)
    against("sort", np.random.default_rng(0).integers(0, 5, 5000), axis=0)
    against("sort", np.arange(5000.0) % 3, axis=0)


def test_bool_and_wide_integers_in_reductions_and_sort() -> None:
    flags = np.array([[True, False, True], [False, False, False]])
    for name in ("max", "min", "argmax"):
        against(name, flags, axes=(1,))
        against(name, np.uint64([[1, 2**63, 2**64 - 1, 2**64 - 1]]), axes=(1,))
    against("sort", np.uint64([2**64 - 1, 0, 2**63, 0]), axis=0)
    against("sum", np.int8([100, 100, 100]), axes=(0,))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8", "bool", "float8_e5m2"])
def test_indices_outside(name: str) -> None:
    x = np.arange(3).astype(as_dtype(name).numpy)
    far = np.array([0, 3, -1, 2**62, -(2**62), 2], np.int64)
    where: dict[str, Any] = {"axes": (0,), "batch": 0}
    against("gather", x, far, **where)
    against("gather", x, np.array([2**64 - 1, 1, 2**63 + 1], np.uint64), **where)
    against("scatter", x, np.arange(10, 16).astype(x.dtype), far, **where, mode="set")
    long = np.arange(300).astype(x.dtype)
    against("gather", long, np.int8([-1, 127, -128]), **where)
    against("gather", long, np.uint8([255, 0]), **where)


def test_scatter_keeps_an_order() -> None:
    at = np.array([1, 1, 1, 0, 1, 7, -1], np.int64)
    new = np.arange(14, dtype=np.float32).reshape(7, 2)
    against("scatter", np.zeros((3, 2), np.float32), new, at, axes=(0,), batch=0, mode="set")
    rng = np.random.default_rng(0)
    many = rng.integers(-2, 9, (3, 500))
    x, new = np.zeros((3, 8, 2), np.float32), rng.standard_normal((3, 500, 2)).astype(np.float32)
    against("scatter", x, new, many, axes=(1,), batch=1, mode="set")
    for mode in ("max", "min"):
        against("scatter", x, new, many, axes=(1,), batch=1, mode=mode)


@pytest.mark.parametrize("start", [0, 2, -1, -(2**63), 2**63 - 1, 5])
def test_starts_are_clamped(start: int) -> None:
    x, at = np.arange(7.0), np.array(start)
    against("dynamic_slice", x, at, axes=(0,), sizes=(3,), strides=(2,))
    against("dynamic_slice", x, at, axes=(0,), sizes=(2,), strides=(1,))
    against("dynamic_update", x, np.full(3, -1.0), at, axes=(0,), strides=(2,))
    against("dynamic_update", x, np.full(2, -1.0), at, axes=(0,), strides=(1,))


def test_pad_crops_more_than_there_is() -> None:
    x, nine = np.arange(3.0), np.array(9.0)
    for low, high, interior in ((-5, 8, 0), (8, -5, 0), (-4, 4, 0), (-3, 5, 2), (-2, -1, 1)):
        against("pad", x, nine, low=(low,), high=(high,), interior=(interior,))


def test_casts_round_in_a_program_too() -> None:
    """A pair of conversions is not left out as excess precision."""
    x = np.array([1.003, 1e-6, 70000.0])
    for wide in ("float32", "float64"):
        for narrow in (*NARROW, "float8_e5m2", "float32"):
            builder = Builder()
            with use_sink(builder):
                value = builder.input(spec((3,), as_dtype(wide)))
                value = cast_to(cast_to(value, as_dtype(narrow)), as_dtype(wide))
            (found,) = run(compiled(builder.graph([value])), x)
            with np.errstate(over="ignore"):
                expected = x.astype(wide).astype(as_dtype(narrow).numpy).astype(wide)
            np.testing.assert_array_equal(found, expected)


def test_random_bits_are_the_same_bits() -> None:
    state = np.uint32([[1, 2, 3, 0], [4, 5, 2**32 - 1, 0]])
    for shape in ((33,), (), (3, 5), (1 << 16,)):
        against("random_bits", state, shape=shape)


def test_bits_of_floats() -> None:
    for narrow, wide in (("int16", "bfloat16"), ("uint16", "float16"), ("uint64", "float64")):
        x = np.array([1, 2**14 + 3]).astype(narrow)
        found = single(REGISTRY["bitcast"], [x], dtype=as_dtype(wide))
        assert found.tobytes() == x.tobytes() and found.dtype == as_dtype(wide).numpy


def test_products_are_precise_and_narrow_ones_are_rounded_once() -> None:
    rng = np.random.default_rng(0)
    letters = {"a": "mk", "b": "kn", "out": "mn"}
    x, y = rng.standard_normal((64, 512)), rng.standard_normal((512, 64))
    found = single(REGISTRY["dot"], [x.astype("f"), y.astype("f")], **letters)
    exact = x.astype("f").astype("d") @ y.astype("f").astype("d")
    assert np.abs(found - exact).max() < 1e-4
    for name in NARROW:
        a, b = x.astype(as_dtype(name).numpy), y.astype(as_dtype(name).numpy)
        found = single(REGISTRY["dot"], [a, b], **letters).astype("d")
        exact = a.astype("d") @ b.astype("d")
        ulp = np.spacing(np.abs(exact).astype("f")) * (2.0**13 if name == "float16" else 2.0**16)
        assert np.all(np.abs(found - exact) <= 0.51 * ulp + 1e-4)


# Programs, buffers, errors.


def graph_of(specs: Any, function: Any, roles: Role = Role.DATA) -> Graph:
    builder = Builder()
    with use_sink(builder):
        outs = function(*[builder.input(s, roles) for s in specs])
    return builder.graph(outs if isinstance(outs, tuple) else (outs,))


def train(where: str, name: str) -> tuple[list[float], list[Any]]:
    """20 steps of a small network, recorded; the rate is a Python number that changes."""
    home = device(where)
    rng = np.random.default_rng(0)

    def tensor(array: Any) -> Any:
        array = np.asarray(array).astype(name)
        return put(array, spec(array.shape, as_dtype(name)), home)

    x, y = tensor(rng.standard_normal((32, 6))), tensor(rng.standard_normal((32, 2)))
    sizes = [(6, 16), (16,), (16, 2), (2,)]
    weights = [tensor(0.3 * rng.standard_normal(s)).requires_grad_() for s in sizes]
    losses = []
    for i in range(20):
        w, b, v, c = weights
        hidden = tanh(products.matmul(x, w) + b)
        loss = reduce.sum((products.matmul(hidden, v) + c - y) ** 2) / 32.0
        for p in weights:
            p.grad = None
        loss.backward()
        with no_grad():
            for p in weights:
                assign(p, p - 0.1 / (1 + i) * p.grad)
        losses.append(loss.item())
    return losses, [p.numpy() for p in weights]


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_a_network_trains_as_on_numpy(name: str, tolerance: float) -> None:
    losses, weights = train("xla", name)
    expected, expected_weights = train("numpy", name)
    assert losses[-1] < 0.9 * losses[0]
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    for w, e in zip(weights, expected_weights, strict=True):
        assert w.dtype == name
        np.testing.assert_allclose(w, e, rtol=10 * tolerance, atol=tolerance)


def test_a_new_number_makes_no_program() -> None:
    of = spec((3,), float32)
    graph = graph_of((of, spec((), float32)), lambda x, n: REGISTRY["mul"](x, n), Role.SCALAR)
    executable = compiled(graph)
    for number in (1, 2.5, True, -1e300, float("nan"), 2**70):
        with np.errstate(over="ignore"):
            (found,) = run(executable, np.ones(3, "f"), number)
            np.testing.assert_array_equal(found, np.full(3, number, object).astype("f"))
    assert executable.traces == 1
    assert executable.report["operations"] == 1


@pytest.mark.parametrize("name", ["float64", "int64", "uint32", "uint64", "complex128"])
def test_wide_dtypes_stay_wide(name: str) -> None:
    """A number that the 32-bit dtype would round."""
    of = spec((), as_dtype(name))
    value = np.array(2**31 + 1).astype(name)
    buffer = chip().put(value, of, XLA)
    assert buffer.host().dtype == value.dtype and buffer.host() == value
    assert buffer.nbytes == value.nbytes
    if not name.startswith("complex"):
        (found,) = run(compiled(graph_of((of, of), REGISTRY["add"])), value, 1)
        assert found.dtype == value.dtype and found == value + value.dtype.type(1)


def test_buffers_are_copies_and_read_only() -> None:
    array = np.ones((4, 4), "f")
    buffer = chip().put(array, spec((4, 4), float32), XLA)
    array[:] = 7
    assert not buffer.exported
    view = buffer.host()
    assert view[0, 0] == 1 and buffer.exported and buffer.device == XLA
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 2
    buffer.wait()


def test_constants_are_part_of_a_program() -> None:
    many, one = np.arange(3.0, dtype="f"), np.float32(2.5)

    def function(x: Any) -> Any:
        return REGISTRY["add"](REGISTRY["mul"](x, one), many), x, x

    found = run(compiled(graph_of((spec((3,), float32),), function)), np.ones(3, "f"))
    np.testing.assert_array_equal(found, [[2.5, 3.5, 4.5], [1, 1, 1], [1, 1, 1]])


def test_a_donated_input_is_taken_if_nobody_else_can_read_it() -> None:
    of = spec((1000,), float32)
    give = compiled(graph_of((of,), lambda x: REGISTRY["neg"](x)), frozenset({0}))
    same = compiled(graph_of((of,), lambda x: (x, x)))
    assert give.overwrites == {0}
    x, seen, kept = (chip().put(np.arange(1000), of, XLA) for _ in range(3))
    first, second = same([x])
    view, array = seen.host(), kept.array
    for buffer, taken in ((x, 1), (first, 1), (seen, 0), (kept, 0)):
        assert give([buffer])[0].host()[7] == -7  # not donated: a copy is
        with donated([buffer], [0]) as donation:
            assert give([buffer])[0].host()[7] == -7
        assert donation.count == taken
    assert second.host()[7] == 7 and view[7] == 7 and array[7] == 7
    assert seen.host()[7] == 7 and kept.host()[7] == 7
    with pytest.raises(ExecutionError, match="wrote over"):
        give([first])
    with pytest.raises(ExecutionError, match="wrote over"):
        first.host()


def test_what_was_taken_is_put_back_where_nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    of = spec((1000,), float32)
    give = compiled(graph_of((of,), lambda x: REGISTRY["neg"](x)), frozenset({0}))
    x = chip().put(np.arange(1000), of, XLA)

    def fails(*given: Any) -> Any:
        raise RuntimeError("planted")

    run = give.run
    give.run = fails
    with pytest.raises(ExecutionError, match="planted"), donated([x], [0]):
        give([x])
    give.run = run
    assert x.host()[7] == 7


def test_too_large_results_name_their_line() -> None:
    large: dict[str, Any] = {"shape": (2**20, 2**20), "axes": ()}
    graph = graph_of((spec((), float32),), lambda x: REGISTRY["broadcast"](x, **large))
    here = (test_too_large_results_name_their_line.__code__, 0)
    step = graph.steps[0]._replace(where=here)
    executable = compiled(Graph(graph.inputs, (step,), graph.outputs))
    with pytest.raises(OutOfMemory, match=r"4,398,046,511,104 bytes.*test_xla\.py:\d+"):
        executable([1.0])
    (found,) = run(compiled(graph_of((spec((), float32),), REGISTRY["neg"])), 1.0)
    assert found == -1


def test_devices_tell_what_they_are() -> None:
    assert XLA.backend == "xla" and XLA.kind == jax.devices()[0].platform and XLA.description
    assert len(chip().devices()) == len(jax.devices())
    assert (chip().name, chip().api, chip().eager_compile) == ("xla", 1, True)


SECOND = """
import numpy as np
from proa.array import arange, asarray
from proa.compile.find import backend, device, set_default_device
from proa.dtypes import float32
from proa.graph.spec import spec

second = device("xla:1")
set_default_device(second)
for made in (arange(3) + 1, asarray(np.arange(3)) * 2):
    buffer = made.numpy() is not None and made.value.buffer
    assert buffer.device == second and {d.id for d in buffer.array.devices()} == {1}, buffer.device
first = backend("xla").put(np.ones(3), spec((3,), float32), device("xla"))
assert {d.id for d in first.array.devices()} == {0}
print("good")
"""


def test_results_stay_on_a_second_device() -> None:
    flags = "--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", SECOND]
    done = subprocess.run(run, capture_output=True, text=True, env=env, timeout=120)
    assert done.stdout == "good\n", done.stderr


def test_without_jax_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "jax":
            raise ModuleNotFoundError("No module named 'jax'", name="jax")
        return found(name, *rest)

    for name in [m for m in sys.modules if m.startswith("proa.backends.xla")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'proa\[xla\]'"):
        _load("xla")
