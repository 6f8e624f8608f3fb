"""`cpu`: kernels against the meanings, bit by bit where these are exact; whole trainings."""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import proa as pa
import proa.ops.composite
from proa import dtypes
from proa.backends.cpu import cache as disk
from proa.backends.cpu import target as targets
from proa.backends.cpu.claims import RULES, claimed
from proa.backends.cpu.draft import segments
from proa.backends.cpu.engine import Engine, counts, engine
from proa.backends.cpu.fuse import fuse
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.memory import pool
from proa.backends.cpu.nest import nest
from proa.backends.cpu.objects import emitted, generator
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.compile.tiers import OneByOne
from proa.config import config
from proa.conformance.cases import Case, cases_of, evaluate, hard_cases_of, run_on
from proa.conformance.judge import judge, verdict
from proa.errors import DeviceError
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Input, Role
from proa.graph.spec import spec
from proa.ops.functions import cast
from proa.ops.movement import broadcast, flip, permute, reshape, slice_
from proa.ops.primitive import EXACT, REGISTRY, apply
from tests.helpers_cpu import printed_for
from tests.training import MODELS, same_bits, train

CPU, NUMPY = backend("cpu"), backend("numpy")
DEVICE = CPU.devices()[0]
PRIMITIVES = sorted(n for n, p in REGISTRY.items() if p.expand is None and p.meaning is not None)
DTYPES = [dtypes.dtype(n) for n in (
    "bool", "uint8", "int8", "uint32", "int32", "int64", "float16", "bfloat16", "float32", "float64"
)]  # fmt: skip
FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos")


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kernels are kept in a folder of these tests."""
    before = config.cache_dir
    config.cache_dir = tmp_path_factory.mktemp("kernels")
    yield
    config.cache_dir = before


def same(a: Any, b: Any) -> bool:
    """Equal bits, signs of zeros included; only what a NaN carries is free."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind in "biuc":
        return bool(np.array_equal(a, b))
    nan = np.isnan(a.astype(np.float64))
    if not np.array_equal(nan, np.isnan(b.astype(np.float64))):
        return False
    return (
        np.where(nan, 0, a).astype(a.dtype).tobytes()
        == np.where(nan, 0, b).astype(a.dtype).tobytes()
    )


def compiled(graph: Graph) -> Any:
    return CPU.compile(lower(graph, CPU, DEVICE))


def on(graph: Graph, arrays: Any, executable: Any = None) -> list[Any]:
    buffers = [CPU.put(a, i.spec, DEVICE) for a, i in zip(arrays, graph.inputs, strict=True)]
    return [b.host() for b in (executable or compiled(graph))(buffers)]


def of_floats(*shapes: Any, dtype: str = "float32") -> tuple[Builder, list[Any]]:
    builder = Builder([Input(spec(s, dtypes.dtype(dtype)), Role.DATA) for s in shapes])
    return builder, builder.input_values()


# Every primitive.


def wrong(case: Case) -> list[str]:
    """What differs from the meaning; within the declared accuracy where it is not exact."""
    found = run_on(CPU, case.graph, case.arrays)
    is_exact = case.entry.primitive.accuracy is EXACT or compiled(case.graph).report["host_calls"]
    if is_exact:
        rows = zip(found, evaluate(case.graph, case.arrays), strict=True)
        return [f"{case.name}: {a} but {b} from {case.arrays}" for a, b in rows if not same(a, b)]
    rows = zip(found, judge(case.graph, case.arrays), strict=True)
    return [f"{case.name}: {text}" for a, j in rows if (text := verdict(a, j))]


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitive(name: str) -> None:
    primitive = REGISTRY[name]
    found = [t for d in DTYPES for case in cases_of(primitive, d) for t in wrong(case)]
    found += [t for d in DTYPES for case in hard_cases_of(primitive, d) for t in wrong(case)]
    assert not found, found[:3]


def test_what_is_compiled() -> None:
    """Each rule is used for some dtype; nothing else is claimed to be compiled."""
    for name in PRIMITIVES:
        cases = [c for d in DTYPES for c in cases_of(REGISTRY[name], d)]
        assert any(claimed(c.entry) for c in cases) is (name in RULES), name


CASTS = [d for d in DTYPES if d.kind != "bool"]


@pytest.mark.parametrize("source", DTYPES, ids=lambda d: d.name)
def test_casts(source: Any) -> None:
    """Saturation, NaN, signs, and every goal."""
    if source.is_float:
        numbers = np.array([0.0, -0.0, 0.4, -0.6, 1.5, 2.5, -1.0, 127.5, 128.0, 255.9, -129.0, 3e4,
                            7e4, 2.0**31, -(2.0**31), 2.0**31 - 1, 2.0**32, 2.0**63, -(2.0**63),
                            1e30, -1e30, np.inf, -np.inf, np.nan, 1e-40, 1.0009765])  # fmt: skip
        with np.errstate(all="ignore"):
            numbers = numbers.astype(source.numpy)
    else:
        numbers = np.arange(-9, 60).astype(source.numpy)
        if source.kind == "int":
            info = dtypes.iinfo(source)
            more = [info.min, info.max, info.max // 2, info.max // 3, min(info.max, 2**24 + 1)]
            numbers = np.concatenate([numbers, np.array(more, source.numpy)])
    for goal in DTYPES:
        builder = Builder([Input(spec(numbers.shape, source), Role.DATA)])
        with use_sink(builder):
            made = apply(cast, builder.input_values(), dtype=goal, weak=False)
        graph = builder.graph([made])
        assert same(on(graph, [numbers])[0], evaluate(graph, [numbers])[0]), goal


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_to_two_units(name: str) -> None:
    """float32 over bit patterns of every binade, against float64."""
    from scipy.special import erf

    n = 1 << 18
    x = (np.arange(n, dtype=np.uint64) * 16381 + 77).astype(np.uint32).view(np.float32)
    primitive = REGISTRY[name]
    builder, (given_x,) = of_floats((n,))
    with use_sink(builder):
        made = apply(primitive, [given_x])
    y = on(builder.graph([made]), [x])[0]
    with np.errstate(all="ignore"):
        exact = (erf if name == "erf" else getattr(np, name))(x.astype(np.float64))
        size = np.maximum(np.abs(np.where(np.isfinite(exact), exact, 1.0)), 2.0**-126)
        units = np.abs(y - exact) / 2.0 ** (np.frexp(size)[1] - 24)
        rounded = exact.astype(np.float32)
    units = np.where((y == rounded) | (np.isnan(y) & np.isnan(exact)), 0.0, units)
    assert np.max(units) <= 2, (x[np.argmax(units)], np.max(units))
    zero = (rounded == 0) & (y == 0)
    assert np.array_equal(np.signbit(y[zero]), np.signbit(rounded[zero]))


# Where an element stands makes no difference.


def chain(x: Any, w: Any) -> Any:
    """Every function of float32, with comparisons and choices between."""
    y = x * w + 0.5
    for name in FUNCTIONS:
        z = apply(REGISTRY[name], [y])
        y = apply(REGISTRY["select"], [apply(REGISTRY["is_finite"], [z]), z, y * 0.25]) - x
    return y


def results(sizes: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    x, w = (
        rng.standard_normal(5000).astype(np.float32) * 9,
        rng.standard_normal(5000).astype(np.float32),
    )
    found = []
    for first, n in sizes:
        builder, (a, b) = of_floats((n,), (n,))
        with use_sink(builder):
            made = chain(a, b)
        found.append(on(builder.graph([made]), [x[first : first + n], w[first : first + n]])[0])
    return found


def test_sizes_offsets_and_tails() -> None:
    (whole,) = results([(0, 5000)])
    before = counts.objects_emitted
    cases = [(3 * n, n) for n in range(70)] + [(1, 4999), (7, 1000), (11, 257)]
    for (first, n), part in zip(cases, results(cases), strict=True):
        assert part.tobytes() == whole[first : first + n].tobytes(), (first, n)
    assert counts.objects_emitted == before


DIGEST = """
import numpy as np, hashlib
from tests.test_cpu import results, mixed
found = hashlib.sha256()
for part in [*results([(0, 5000), (13, 77)]), *mixed()]:
    found.update(part.tobytes())
print(found.hexdigest())
"""


def mixed() -> list[Any]:
    """Rows, columns, turned and strided operands, in several dtypes."""
    rng = np.random.default_rng(1)
    found = []
    for name in ("float32", "float64", "int32"):
        dtype = dtypes.dtype(name)
        x, y = ((rng.standard_normal((37, 53)) * 100).astype(dtype.numpy) for _ in range(2))
        b, c = ((rng.standard_normal(n) * 100).astype(dtype.numpy) for n in (53, 37))
        builder, (p, q, r, s) = of_floats((37, 53), (53, 37), (53,), (37, 1), dtype=name)
        with use_sink(builder):
            turned = apply(permute, [q], axes=(1, 0))
            z = apply(REGISTRY["maximum"], [p * r - s, turned]) * p
            every = apply(slice_, [z], starts=(1, 2), stops=(37, 53), strides=(3, 2))
            made = [z, every + every, apply(cast, [z], dtype=dtypes.int64, weak=False)]
        found += on(builder.graph(made), [x, y.T.copy(), b, c.reshape(37, 1)])
    return found


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v2"])
def test_the_same_bits_on_narrower_processors(level: str, tmp_path: Path) -> None:
    if not targets.target().is_x86 or "avx2" not in targets.target().features.split("+", 1)[-1]:
        pytest.skip("for x86-64")
    mine = sha256()
    for part in [*results([(0, 5000), (13, 77)]), *mixed()]:
        mine.update(part.tobytes())
    found, errors = printed_for(level, DIGEST, tmp_path)
    assert found == mine.hexdigest(), errors


def test_targets_are_described() -> None:
    wide, narrow = targets.find("x86-64-v4"), targets.find("x86-64-v2")
    assert (wide.vector_bytes, wide.registers, wide.has_fma) == (64, 32, True)
    assert (narrow.vector_bytes, narrow.registers, narrow.has_fma) == (16, 16, False)
    assert targets.target().cores >= 1 and "bytes" in str(targets.target())
    with pytest.raises(DeviceError, match="PROA_CPU_TARGET"):
        targets.find("pentium")


def kernels_of_every_kind() -> list[Any]:
    """All functions, casts, rows, columns and turned operands."""
    found = []
    for name in ("float32", "float64", "bfloat16", "int32"):
        dtype = dtypes.dtype(name)
        builder, (x, y, row, column) = of_floats((7, 5), (5, 7), (5,), (7, 1), dtype=name)
        with use_sink(builder):
            z = (x * row + column) - apply(permute, [y], axes=(1, 0))
            made = [z, apply(REGISTRY["maximum"], [z, x]), apply(REGISTRY["le"], [z, row])]
            made.append(apply(cast, [z], dtype=dtypes.int64, weak=False))
            if dtype.is_float:
                made += [apply(REGISTRY[f], [z]) for f in FUNCTIONS]
        found += kernels_of(builder.graph(made))
    return found


def kernels_of(graph: Graph) -> list[Any]:
    actions = nest(fuse(segments(lower(graph, CPU, DEVICE)))).actions
    return [a.kernel for a in actions if type(a) is Call]


FOREIGN = {
    "aarch64-unknown-linux-gnu": "+neon",
    "riscv64-unknown-linux-gnu": "+m,+a,+f,+d,+v",
    "loongarch64-unknown-linux-gnu": "+f,+d,+lsx",
}


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v4", *FOREIGN])
def test_objects_for_other_processors(name: str) -> None:
    """Emitted, not run."""
    if name in FOREIGN:
        machine = targets.foreign(name, FOREIGN[name])
    else:
        machine = targets.find(name)
    code = generator(machine)
    for kernel in kernels_of_every_kind():
        assert len(emitted(kernel, machine, code)) > 500


# Random chains.

UNARY = ("neg", "abs", "sign", "floor", "sqrt", "rsqrt", "cast")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "select")
KINDS = ("binary",) * 6 + ("unary",) * 2 + ("function",) * 2 + ("view",) * 2 + ("sum",)
VIEWS = ("permute", "slice", "flip", "reshape", "broadcast", "rows")
SHAPES = (  # of one chain: shapes that meet
    ((5, 67), (67,), (5, 1), (1, 67), (2, 5, 67), (2, 1, 1), (), (1,)),
    ((4, 1, 3), (4, 2, 3), (3,), (1, 2, 1), (), (2, 3)),
    ((0, 3), (3,), (), (2, 0, 3)),
    ((130,), (130,), (), (1,)),
)


@st.composite
def chains(draw: Any) -> tuple[Graph, list[Any], bool]:
    """A graph, operands for it, and whether all of its operations are exact."""
    floats = draw(st.sampled_from(["float32", "float32", "float64", "bfloat16", "float16"]))
    dtype = dtypes.dtype(floats)
    shapes = draw(st.lists(st.sampled_from(draw(st.sampled_from(SHAPES))), min_size=1, max_size=4))
    builder, values = of_floats(*shapes, dtype=floats)
    exact = True
    with use_sink(builder):
        for _ in range(draw(st.integers(4, 24))):
            x = draw(st.sampled_from(values[-5:]))
            kind = draw(st.sampled_from(KINDS))
            if kind == "binary":
                y = draw(st.sampled_from([v for v in values if fits(x.spec.shape, v.spec.shape)]))
                values.append(pair(draw(st.sampled_from(BINARY)), x, y))
            elif kind == "unary":
                values.append(one(draw(st.sampled_from(UNARY)), x, dtype))
            elif kind == "view":
                values.append(seen(draw, x))
            elif kind == "sum":
                exact = False  # in another order than the meaning's
                if x.spec.shape:
                    total = apply(REGISTRY["sum"], [x], axes=(len(x.spec.shape) - 1,))
                    values.append(apply(reshape, [total], shape=(*x.spec.shape[:-1], 1)))
            elif floats != "float64":
                values.append(apply(REGISTRY[draw(st.sampled_from(FUNCTIONS))], [x]))
                exact = False
        outputs = [values[-1], *draw(st.lists(st.sampled_from(values), max_size=3))]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    hard = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, -1.0])
    arrays = []
    for s in shapes:
        array = np.asarray(rng.standard_normal(s) * 4)
        if draw(st.booleans()):
            array = np.where(rng.random(s) < 0.1, rng.choice(hard, s), array)
        with np.errstate(all="ignore"):
            arrays.append(np.asarray(array).astype(dtype.numpy))
    return builder.graph(outputs), arrays, exact


def fits(a: Any, b: Any) -> bool:
    try:
        return len(np.broadcast_shapes(a, b)) <= 4
    except ValueError:
        return False


def pair(name: str, x: Any, y: Any) -> Any:
    if name == "select":
        return apply(REGISTRY["select"], [apply(REGISTRY["lt"], [x, y]), x, y])
    return apply(REGISTRY[name], [x, y])


def one(name: str, x: Any, dtype: Any) -> Any:
    if name == "cast":
        there = apply(cast, [x], dtype=dtypes.int32, weak=False)
        return apply(cast, [there], dtype=dtype, weak=False) if dtype.bits > 16 else x
    return apply(REGISTRY[name], [x])


def seen(draw: Any, x: Any) -> Any:
    shape, name = x.spec.shape, draw(st.sampled_from(VIEWS))
    if name == "permute":
        return apply(permute, [x], axes=tuple(reversed(range(len(shape)))))
    if name == "flip" and shape:
        return apply(flip, [x], axes=(len(shape) - 1,))
    if name == "slice":
        starts = tuple(min(1, n) for n in shape)
        return apply(slice_, [x], starts=starts, stops=shape, strides=(2,) * len(shape))
    if name == "reshape":
        goal = draw(st.sampled_from([(x.spec.size,), (1, *shape), (*shape, 1)]))
        return apply(reshape, [x], shape=goal) if len(goal) <= 4 else x
    if name == "broadcast" and len(shape) < 4:
        axes = tuple(range(1, 1 + len(shape)))
        return apply(broadcast, [x], shape=(2, *shape), axes=axes)
    if name == "rows" and len(shape) < 3:
        return apply(broadcast, [x], shape=(*shape, 3), axes=tuple(range(len(shape))))
    return x


@settings(max_examples=200, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(chains())
def test_random_chains(case: Any) -> None:
    """Whole = one by one, bitwise; and the meaning's bits where all is exact."""
    graph, arrays, exact = case
    program = lower(graph, CPU, DEVICE)
    whole = on(graph, arrays, CPU.compile(program))
    single = on(graph, arrays, OneByOne(program, CPU))
    for a, b in zip(whole, single, strict=True):
        assert same(a, b)
    if exact:
        for a, b in zip(whole, evaluate(graph, arrays), strict=True):
            assert same(a, b), (a, b)


# What is fused, counted, kept.


def test_a_chain_is_one_kernel() -> None:
    """Rows, columns, scalars and what is computed of them; views are looked through."""
    builder, (x, b, c, s) = of_floats((40, 33), (33,), (40,), ())
    with use_sink(builder):
        column = apply(broadcast, [apply(REGISTRY["exp"], [c])], shape=(40, 33), axes=(0,))
        y = (x + b) * column
        made = [y, apply(REGISTRY["tanh"], [y * (s + 1.0)])]
    graph = builder.graph(made)
    executable = compiled(graph)
    assert executable.report["kernels"] == 1 and executable.report["host_calls"] == 0
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(i.spec.shape).astype(np.float32) for i in graph.inputs]
    for a, b_ in zip(on(graph, arrays, executable), evaluate(graph, arrays), strict=True):
        np.testing.assert_allclose(a, b_, rtol=1e-5, atol=1e-6)


def test_a_row_that_meets_itself_as_a_column() -> None:
    builder, (x,) = of_floats((9,))
    with use_sink(builder):
        e = x + 1.0
        row = apply(broadcast, [e], shape=(9, 9), axes=(1,))
        made = row - apply(broadcast, [e], shape=(9, 9), axes=(0,))
    graph = builder.graph([made])
    array = np.arange(9, dtype=np.float32)
    assert same(on(graph, [array])[0], array - array[:, None])


def test_host_calls_are_counted() -> None:
    builder, (x,) = of_floats((7, 5))
    with use_sink(builder):
        order, _ = apply(REGISTRY["sort"], [x * 2.0], axis=0)
        made = order * 3.0
    report = compiled(builder.graph([made])).report
    assert (report["kernels"], report["host_calls"]) == (2, 1)


def test_a_reader_outside_keeps_groups_apart() -> None:
    """exp(x) -> sum -> back to exp(x): the group would wait for itself."""
    builder, (x,) = of_floats((6, 4))
    with use_sink(builder):
        e = apply(REGISTRY["exp"], [x])
        total = apply(reshape, [apply(REGISTRY["sum"], [e], axes=(1,))], shape=(6, 1))
        made = e / total
    graph = builder.graph([made])
    array = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    expected = np.exp(array) / np.exp(array).sum(1, keepdims=True)
    np.testing.assert_allclose(on(graph, [array])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_training(name: str) -> None:
    """dynamic = jit bitwise on cpu; numpy is close, for ten steps."""
    there = train(MODELS[name], steps=10, device="cpu")
    same_bits(there, train(MODELS[name], steps=10, device="cpu", jit=True))
    here = train(MODELS[name], steps=10, device="numpy")
    np.testing.assert_allclose(there["losses"], here["losses"], rtol=2e-3, atol=2e-4)


def test_a_new_batch_size_compiles_nothing() -> None:
    pa.manual_seed(0)
    model = pa.nn.Sequential(
        pa.nn.Linear(6, 8), pa.nn.LayerNorm(8), pa.nn.GELU(), pa.nn.Linear(8, 3)
    )
    model.to("cpu")

    def step(n: int) -> float:
        x = pa.asarray(np.ones((n, 6), np.float32), device="cpu")
        loss = (model(x) ** 2).mean()
        loss.backward()
        return float(loss)

    for _ in range(3):
        step(16)
    before = counts.objects_emitted + counts.objects_loaded
    for n in (16, 17, 33, 5, 2, 1):
        for _ in range(2):
            step(n)
    assert counts.objects_emitted + counts.objects_loaded == before


def test_passes_are_shown(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(config, "show", ("segments", "fuse", "nest", "ir", "object"))
    builder, (x, y) = of_floats((9,), (9,))
    with use_sink(builder):
        made = apply(REGISTRY["tanh"], [x * y])
    compiled(builder.graph([made]))
    text = capsys.readouterr().out
    for part in ("# fuse", "loop over (9,): mul tanh", "define void @kernel", "ret"):
        assert part in text


# The caller's floating-point flags; threads; memory; the disk.


def test_denormals_whatever_the_caller_set() -> None:
    made = engine().modes
    if made is None:
        pytest.skip("for x86")
    enter, leave = made
    x = np.full(100, 1e-38, np.float32)
    builder, (a,) = of_floats((100,))
    with use_sink(builder):
        y = a * 0.01
        z = apply(REGISTRY["sum"], [y], axes=(0,))
    graph = builder.graph([y, z])
    executable = compiled(graph)
    expected = [r.tobytes() for r in on(graph, [x], executable)]
    before = enter()
    flushing = 0x1F80 | 0x8040
    leave(flushing)
    try:
        found = [r.tobytes() for r in on(graph, [x], executable)]
        after = enter()
    finally:
        leave(before)
    assert found == expected and np.frombuffer(found[0], np.float32)[0] > 0
    assert after & ~0x3F == flushing


def test_threads_share_an_executable() -> None:
    builder, (x,) = of_floats((200_001,))
    with use_sink(builder):
        made = apply(REGISTRY["exp"], [x * 0.5]) + x
    graph = builder.graph([made])
    executable = compiled(graph)
    arrays = [
        np.random.default_rng(i).standard_normal(200_001).astype(np.float32) for i in range(4)
    ]
    expected = [on(graph, [a], executable)[0].tobytes() for a in arrays]
    wrong_ones: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if on(graph, [arrays[i]], executable)[0].tobytes() != expected[i]:
                wrong_ones.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong_ones


@pytest.mark.skipif(not hasattr(os, "fork"), reason="for systems with fork")
def test_a_forked_process_computes() -> None:
    builder, (x,) = of_floats((70_000,))
    with use_sink(builder):
        made = apply(REGISTRY["tanh"], [x - 0.75])
    graph = builder.graph([made])
    array = np.linspace(-3, 3, 70_000).astype(np.float32)
    expected = on(graph, [array])[0].tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if on(graph, [array])[0].tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_memory_is_used_again_only_when_nobody_looks() -> None:
    builder, (x,) = of_floats((100_000,))
    with use_sink(builder):
        made = x + 1.0
    graph = builder.graph([made])
    executable = compiled(graph)
    kept = on(graph, [np.zeros(100_000, np.float32)], executable)[0][50:60]
    for i in range(5):
        on(graph, [np.full(100_000, i + 7, np.float32)], executable)
    assert kept.tolist() == [1.0] * 10
    assert pool.bytes > 0


def kernel_of_a_chain() -> Any:
    builder, (x,) = of_floats((9,))
    with use_sink(builder):
        made = (x - 0.125) * x
    return kernels_of(builder.graph([made]))[0]


def test_the_disk_is_not_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    kernel = kernel_of_a_chain()
    made = counts.objects_emitted
    Engine(targets.target()).find(kernel)
    (file,) = (tmp_path / "cpu").iterdir()
    assert counts.objects_emitted == made + 1
    Engine(targets.target()).find(kernel)
    assert counts.objects_emitted == made + 1
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1] + bytes([whole[-1] ^ 1]), b"x" * 64 + whole[64:]):
        file.write_bytes(damaged)
        Engine(targets.target()).find(kernel)
        made += 1
        assert counts.objects_emitted == made + 1
        assert file.read_bytes() == whole
    disk.trim(0)
    assert not list((tmp_path / "cpu").iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(config, "cache_dir", tmp_path / "file")
    monkeypatch.setattr(disk, "_WARNED", [])
    kernel = kernel_of_a_chain()
    with pytest.warns(RuntimeWarning, match="PROA_CACHE_DIR"):
        Engine(targets.target()).find(kernel)
    Engine(targets.target()).find(kernel)  # one warning is enough


def test_no_register_is_spilled_in_a_plain_chain() -> None:
    """And nothing is contracted."""
    text = engine().assembly(kernel_of_a_chain())
    assert "fmadd" not in text and "fmsub" not in text
    assert "fma" not in kernel_of_a_chain().ir("kernel", engine().machine)


def test_out_of_memory_and_errors_name_the_line() -> None:
    builder, (x,) = of_floats((1 << 44,))
    with use_sink(builder):
        made = x + 1.0
    with pytest.raises(pa.errors.OutOfMemory, match="free"):
        compiled(builder.graph([made]))


def test_numbers_are_inputs() -> None:
    builder, (x, s) = of_floats((5,), ())
    with use_sink(builder):
        made = x * s
    executable = compiled(builder.graph([made]))
    x_ = CPU.put(np.arange(5, dtype=np.float32), spec((5,), dtypes.float32), DEVICE)
    assert executable([x_, 0.5])[0].host().tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
