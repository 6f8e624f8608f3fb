"""Sums on `cpu`: the one order of RULES 3.3 b on every axis, layout and processor; loops that go
on with the same row; what becomes one kernel."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import dtypes
from proa.backends.cpu import few
from proa.backends.cpu.ahead import fetched, met
from proa.backends.cpu.emit import lanes_of
from proa.backends.cpu.engine import engine
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.loop import Loop
from proa.backends.cpu.nest import Nests
from proa.backends.cpu.sums import Join
from proa.backends.cpu.target import target
from proa.backends.cpu.threads import threads
from proa.graph.build import use_sink
from proa.graph.graph import Graph
from proa.nn import functional
from proa.ops.functions import exp
from proa.ops.movement import broadcast, flip, permute, reshape, slice_
from proa.ops.primitive import REGISTRY, apply
from tests.helpers_cpu import printed_for
from tests.test_cpu import compiled, of_floats, on, same

SPACES = (  # shape, reduced axes
    ((5,), (0,)), ((300,), (0,)), ((4, 1000), (1,)), ((4, 1000), (0,)), ((1000, 4), (0,)),
    ((1000, 70), (0,)), ((3, 700, 33), (1,)), ((3, 70, 33), (0, 2)), ((3, 7, 5, 6), (1, 2)),
    ((3, 7, 5, 6), (0, 1)), ((2, 3, 4), (0, 1, 2)), ((70000,), (0,)), ((2, 300, 400), (1, 2)),
    ((0, 3), (0,)), ((3, 0), (1,)), ((0, 3), (1,)), ((1, 300), (1,)), ((300, 1), (0,)),
    ((1, 1), (0,)), ((513, 300), (0,)), ((2, 9, 257), (0, 1)), ((2, 5000), (0,)),
    ((3, 5, 70), (1,)), ((16, 33), (0,)), ((17, 33), (0,)), ((1, 9), (0,)),
)  # fmt: skip
NUMBERS = ("float32", "float64", "float16", "bfloat16", "int32", "int8", "uint8", "int64")


def in_order(x: Any, axes: tuple[int, ...], join: Any = np.add) -> Any:
    """The sum (or product) as RULES 3.3 b writes it down, in NumPy."""
    narrow = x.dtype.itemsize == 2 and x.dtype.kind not in "iu"
    wide = x.astype(np.float32) if narrow else x
    kept = [i for i in range(x.ndim) if i not in axes]
    n = int(np.prod([x.shape[a] for a in axes]))
    rows = np.transpose(wide, [*kept, *axes]).reshape([*[x.shape[i] for i in kept], n])
    blocks = max(1, -(-n // 256))
    padded = np.full((*rows.shape[:-1], blocks * 256), join.identity, wide.dtype)
    padded[..., :n] = rows
    steps = padded.reshape(*rows.shape[:-1], blocks, 16, 16)
    lanes = np.full((*rows.shape[:-1], blocks, 16), join.identity, wide.dtype)
    for step in range(16):
        lanes = join(lanes, steps[..., step, :])
    parts = [lanes[..., i, :] for i in range(blocks)]
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [join(*p) if len(p) == 2 else p[0] for p in pairs]
    (found,) = parts
    for half in (8, 4, 2, 1):
        found = join(found[..., :half], found[..., half : 2 * half])
    return found[..., 0].astype(x.dtype)


def of(name: str, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(len(shape) + sum(shape))
    numpy = dtypes.dtype(name).numpy
    if dtypes.dtype(name).is_float:
        return rng.standard_normal(shape).astype(numpy)
    return rng.integers(0, 100, shape).astype(numpy)


@pytest.mark.parametrize("name", NUMBERS)
def test_sums_in_the_written_order(name: str) -> None:
    for shape, axes in SPACES:
        x = of(name, shape)
        builder, (value,) = of_floats(shape, dtype=name)
        with use_sink(builder):
            made = apply(REGISTRY["sum"], [value], axes=axes)
        exe = compiled(builder.graph([made]))
        assert exe.report["host_calls"] == 0
        (found,) = on(builder.graph([made]), [x], exe)
        assert same(found, in_order(x, axes)), (shape, axes)


@pytest.mark.parametrize("name", NUMBERS)
def test_products_in_the_written_order(name: str) -> None:
    for shape, axes in SPACES:
        x = of(name, shape)
        if dtypes.dtype(name).is_float:
            x = (1.0 + 0.01 * x.astype(np.float32)).astype(x.dtype)
        builder, (value,) = of_floats(shape, dtype=name)
        with use_sink(builder):
            made = apply(REGISTRY["prod"], [value], axes=axes)
        exe = compiled(builder.graph([made]))
        assert exe.report["host_calls"] == 0
        (found,) = on(builder.graph([made]), [x], exe)
        assert same(found, in_order(x, axes, np.multiply)), (shape, axes)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int8", "uint32", "bool"])
@pytest.mark.parametrize("which", ["max", "min"])
def test_largest_and_smallest(which: str, name: str) -> None:
    for shape, axes in SPACES:
        if any(shape[a] == 0 for a in axes):
            continue
        x = of("float32", shape).astype(dtypes.dtype(name).numpy)
        if x.dtype.kind == "f" and x.size > 3:
            x.reshape(-1)[x.size // 2] = np.nan
        builder, (value,) = of_floats(shape, dtype=name)
        with use_sink(builder):
            made = apply(REGISTRY[which], [value], axes=axes)
        (found,) = on(builder.graph([made]), [x])
        expected = getattr(np, which)(x, axis=axes)
        assert same(found, np.asarray(expected)), (shape, axes)


def seen(name: str, x: Any, value: Any) -> tuple[Any, Any]:
    """A view of a (40, 600) operand, in NumPy and in the graph."""
    if name == "turned":
        return x.T, apply(permute, [value], axes=(1, 0))
    if name == "every third":
        view = apply(slice_, [value], starts=(1, 2), stops=(40, 600), strides=(1, 3))
        return x[1:, 2::3], view
    if name == "backwards":
        return x[:, ::-1], apply(flip, [value], axes=(1,))
    wide = apply(broadcast, [value], shape=(40, 3, 600), axes=(0, 2))
    return np.broadcast_to(x[:, None, :], (40, 3, 600)), wide


@pytest.mark.parametrize("view", ["turned", "every third", "backwards", "repeated"])
def test_layouts_change_no_bit(view: str) -> None:
    x = of("float32", (40, 600))
    for axes in ((0,), (1,), (0, 1)):
        builder, (value,) = of_floats((40, 600))
        with use_sink(builder):
            array, operand = seen(view, x, value)
            plain = apply(REGISTRY["sum"], [operand], axes=axes)
            fused = apply(REGISTRY["sum"], [operand * 3.0], axes=axes)
        found = on(builder.graph([plain, fused]), [x])
        assert same(found[0], in_order(np.ascontiguousarray(array), axes))
        assert same(found[1], in_order(np.ascontiguousarray(array) * np.float32(3), axes))


def test_appended_zeros_change_no_bit() -> None:
    x = of("float32", (3, 700))
    for more in (1, 15, 16, 68, 324, 5000):
        long = np.concatenate([x, np.zeros((3, more), np.float32)], 1)
        sums = []
        for array, axis in ((x, 1), (long, 1), (x.T.copy(), 0), (long.T.copy(), 0)):
            builder, (value,) = of_floats(array.shape)
            with use_sink(builder):
                made = apply(REGISTRY["sum"], [value], axes=(axis,))
            sums += on(builder.graph([made]), [array])
        assert all(same(sums[0], s) for s in sums[1:]), more


def softmax_and_back(x: Any, ct: Any) -> list[Any]:
    a, c = (pa.asarray(v, device="cpu") for v in (x, ct))
    a.requires_grad = True
    y = functional.softmax(functional.layer_norm(a, (x.shape[1],)), -1)
    y.backward(c)
    return [y.numpy(), a.grad.numpy()]


def test_a_row_alone_and_in_a_batch() -> None:
    x, ct = of("float32", (9, 777)), of("float32", (10, 777))[1:]
    whole = softmax_and_back(x, ct)
    for i in (0, 4, 8):
        alone = softmax_and_back(x[i : i + 1], ct[i : i + 1])
        assert all(same(a[0], w[i]) for a, w in zip(alone, whole, strict=True))


def rows(count: int, n: int, dtype: str = "float32") -> tuple[Any, list[Any]]:
    builder, values = of_floats((count, n), (count, n), (n,), dtype=dtype)
    x, ct, w = values
    with use_sink(builder):
        total = apply(REGISTRY["sum"], [x], axes=(1,))
        mean = apply(reshape, [total], shape=(count, 1)) / float(n)
        d = x - mean
        e = apply(exp, [d])
        second = apply(REGISTRY["sum"], [e * w], axes=(1,))
        out = e / apply(reshape, [second], shape=(count, 1))
        made = [out, apply(REGISTRY["sum"], [ct * out], axes=(0,)), second,
                apply(REGISTRY["sum"], [ct], axes=(0,))]  # fmt: skip
    return builder.graph(made), [of(dtype, (count, n)), of(dtype, (count, n)), of(dtype, (n,))]


def kernels(graph: Graph) -> list[Any]:
    nests: Nests = compiled(graph).nests
    return [a.kernel for a in nests.actions if type(a) is Call]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_one_by_one_gives_the_bits_of_one_kernel(dtype: str) -> None:
    from proa.backends.cpu.backend import CpuBackend
    from proa.compile.stages import lower
    from proa.compile.tiers import OneByOne

    backend = CpuBackend()
    for count, n in ((1, 1), (3, 16), (300, 257), (513, 40), (2, 3000), (700, 5)):
        graph, arrays = rows(count, n, dtype)
        found = kernels(graph)
        assert sum(type(k) is Loop for k in found) == 1
        assert sum(type(k) is Join for k in found) == 2
        program = lower(graph, backend, backend.devices()[0])
        whole = on(graph, arrays, backend.compile(program))
        single = on(graph, arrays, OneByOne(program, backend))
        for a, b in zip(whole, single, strict=True):
            assert same(a, b), (count, n)


def test_threads_change_no_bit() -> None:
    graphs = [rows(700, 900), rows(3, 70001)]
    before, found = threads().count, []
    try:
        for count in (1, 2, 3):
            threads().set(count)
            found.append([r for graph, arrays in graphs for r in on(graph, arrays)])
    finally:
        threads().set(before)
    for other in found[1:]:
        assert all(same(a, b) for a, b in zip(found[0], other, strict=True))


DIGEST = """
import hashlib
from tests.test_cpu_rows import digest
print(digest())
"""


def digest() -> str:
    """Of sums in many spaces and of whole rows, on this processor."""
    found = sha256()
    for name in ("float32", "float64", "bfloat16", "int8"):
        for shape, axes in SPACES:
            builder, (value,) = of_floats(shape, dtype=name)
            with use_sink(builder):
                made = apply(REGISTRY["sum"], [value], axes=axes)
            found.update(on(builder.graph([made]), [of(name, shape)])[0].tobytes())
    for name in ("float32", "float64"):
        for part in on(*rows(300, 333, name)):
            found.update(part.tobytes())
    return found.hexdigest()


def test_numbers_that_stand_still_leave_vectors_whole() -> None:
    """A number in float64, rounded for the row, takes no lanes from the float32 along it."""
    kernels = []
    for name in (dtypes.float64, dtypes.float32):
        x, k = pa.asarray(np.ones(100, np.float32)), pa.asarray(1.5, dtype=name)
        program = pa.jit(lambda x, k: x * k.astype(dtypes.float32) + x)
        for _ in range(5):
            program(x, k)
        plan = next(p for case in program.cases.values() for p in case.plans)
        kernels.append(plan.plan.run.nests.actions[-1].kernel)
    machine = target()
    assert [lanes_of(k, machine) for k in kernels] == [max(2, machine.vector_bytes // 4)] * 2


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v2"])
def test_the_same_bits_on_narrower_processors(level: str, tmp_path: Path) -> None:
    if not target().is_x86 or "avx2" not in target().features.split("+", 1)[-1]:
        pytest.skip("for x86-64")
    found, errors = printed_for(level, DIGEST, tmp_path)
    assert found == digest(), errors


def loops_of(run: Any) -> list[str]:
    """The families of the kernels of the largest program that a function runs as one."""
    from proa.backends.cpu import pipeline

    seen: list[Any] = []
    original = pipeline.CpuExecutable

    def noted(state: Any, buffer: Any, inner: Any) -> Any:
        seen.append(state)
        return original(state, buffer, inner)

    pipeline.CpuExecutable = noted  # type: ignore[misc,assignment]
    try:
        for _ in range(3):
            run()
    finally:
        pipeline.CpuExecutable = original  # type: ignore[misc]
    largest = max(seen, key=lambda nests: len(nests.draft.steps))
    return sorted(a.kernel.key.split()[0] if type(a) is Call else "host" for a in largest.actions)


def test_what_is_one_kernel() -> None:
    """Softmax, layer norm, forward and backward; everything that an update of AdamW needs."""
    x, ct = of("float32", (37, 91)), of("float32", (37, 91))
    w = pa.asarray(np.ones(91, np.float32), device="cpu")
    b = pa.asarray(np.zeros(91, np.float32), device="cpu")
    a, c = pa.asarray(x, device="cpu"), pa.asarray(ct, device="cpu")
    for value in (a, b, w):
        value.requires_grad = True

    def softmax() -> None:
        a.grad = None
        functional.softmax(a, -1).backward(c)
        pa.sync()

    def norm() -> None:
        a.grad = w.grad = b.grad = None
        functional.layer_norm(a, (91,), w, b).backward(c)
        pa.sync()

    assert loops_of(softmax) == ["loop"]
    assert loops_of(norm) == ["join", "join", "loop"]


@pytest.mark.parametrize("n", [255, 256, 1000, 5000])
def test_counts_beside_floats(n: int) -> None:
    """Sums of wide integers in a loop of floats: their lanes take two registers."""
    x = of("float32", (3, n))
    a = pa.asarray(x, device="cpu")
    for _ in range(3):
        assert int(pa.sum(a > 0)) == int((x > 0).sum())
        assert pa.sum((a * 2.0).astype(pa.int64), axis=1).tolist() == (
            (x * np.float32(2)).astype(np.int64).sum(1).tolist()
        )


def test_a_sum_across_numbers_that_are_one_a_row() -> None:
    x = of("float32", (40, 300))
    a = pa.asarray(x, device="cpu")
    for _ in range(3):
        found = pa.max(pa.sum(a, axis=1, keepdims=True), axis=0)
        assert same(found.numpy(), in_order(x, (1,)).max(0, keepdims=True))


def test_no_register_is_spilled_in_rows() -> None:
    graph, _ = rows(8, 500)
    for kernel in kernels(graph):
        if type(kernel) is Loop:
            text = engine().assembly(kernel)
            wide = [line for line in text.splitlines() if "zmm" in line or "ymm" in line]
            assert not [line for line in wide if "rsp" in line and "mov" in line]


@pytest.mark.parametrize("n", [256, 511, 512, 513, 768, 769, 1024, 1279, 1280, 1300, 4096, 4353])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_pairs_of_blocks(name: str, n: int) -> None:
    """One block, two, pairs in memory with and without a block behind them; two sums beside."""
    graph, arrays = rows(3, n, name)
    ct, second = on(graph, arrays)[3], on(graph, arrays)[2]
    x, _, w = arrays
    mean = in_order(x, (1,))[:, None] / x.dtype.type(n)
    (e,) = on_numpy(exp, x - mean)
    assert same(second, in_order(e * w, (1,)))
    assert same(ct, in_order(arrays[1], (0,)))


def on_numpy(primitive: Any, x: Any) -> list[Any]:
    """What `cpu` gives for one elementwise operation alone."""
    builder, (value,) = of_floats(x.shape, dtype=x.dtype.name)
    with use_sink(builder):
        made = apply(primitive, [value])
    return on(builder.graph([made]), [x])


@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_largest_with_zeros_and_nan(name: str) -> None:
    """NaN is the largest and the smallest wherever it stands; of a zero of each sign the last one
    counts, in float16 the first, lane by lane."""
    for n in (16, 64, 100, 300, 700):
        x = of(name, (n, n))
        np.fill_diagonal(x, np.nan)
        a = pa.asarray(x, device="cpu")
        assert np.isnan(pa.max(a, axis=1).numpy()).all()
        assert np.isnan(pa.min(a, axis=1).numpy()).all()
    sign = np.where(np.arange(64 * 16).reshape(64, 16) % 3, -0.0, 0.0).astype(name)
    x = np.full((64, 256), -1.0, name)
    x[:, 5::16] = sign
    found = pa.max(pa.asarray(x, device="cpu"), axis=1).numpy()
    assert same(found, sign[:, 0] if name == "float16" else sign[:, -1])


def test_results_past_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of calls that move much are not kept in the caches: no bit changes, whether rows
    begin on lines of the cache or between them."""
    from proa.backends.cpu import rows as planner

    def every() -> list[Any]:
        graphs = [rows(count, n, d) for d in ("float32", "bfloat16") for count, n in SIZES]
        runs = [compiled(graph) for graph, _ in graphs]
        asked = [a.table[8] for r in runs for a in r.nests.actions if type(a) is Call
                 and type(a.kernel) is Loop]  # fmt: skip
        found = [on(graph, given, run) for (graph, given), run in zip(graphs, runs, strict=True)]
        return [asked, [a for f in found for a in f]]

    monkeypatch.setattr(planner, "STREAM", 1e9)
    none, plain = every()
    monkeypatch.setattr(planner, "STREAM", 0.0)
    all_, streamed = every()
    assert not any(none)
    assert all(all_)
    assert all(same(a, b) for a, b in zip(plain, streamed, strict=True))


SIZES = ((5, 1024), (300, 257), (40, 640), (3, 16), (20, 70))


def test_what_a_phase_fetches() -> None:
    """Each memory once, before the phase that meets it; what the first phase reads, for the next
    row. Kernels of one phase leave it to the processor."""
    graph, _ = rows(8, 500)
    (kernel,) = [k for k in kernels(graph) if type(k) is Loop]
    first, ahead = met(kernel), fetched(kernel)
    asked = {a.memory: (p, a.is_next) for p, every in enumerate(ahead) for a in every}
    assert sum(map(len, ahead)) == len(asked) == len(first) == 4  # x, ct, w; the quotient
    assert {0, 1} <= set(first.values())
    for k, phase in first.items():
        assert asked[k][1] == (phase == 0)
        assert asked[k][0] < phase or not phase
    builder, (x,) = of_floats((40, 30))
    with use_sink(builder):
        graph = builder.graph([x * 2.0 + x])
    (single,) = kernels(graph)
    assert fetched(single) == [[]]


def test_large_work_is_cut_into_few_tiles() -> None:
    """Enough for every processor to come out even, and no more: memory likes long pieces."""
    builder, (x,) = of_floats((4096, 4096))
    with use_sink(builder):
        graph = builder.graph([x * 2.0 + x])
    (call,) = [a for a in compiled(graph).nests.actions if type(a) is Call]
    assert 8 * target().cores <= call.tiles
    assert call.tiles <= 8 * max(target().cores, 8) + 1


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_whole_wherever_it_is_called(approximate: str) -> None:
    """In a jitted call that can be differentiated, and mapped: the bits of the plain one."""
    x = pa.asarray(of("float32", (16, 16)), device="cpu")
    w = pa.asarray(of("float32", (16, 16)), device="cpu")
    w.requires_grad = True

    def run(rows: Any) -> Any:
        return functional.gelu(rows @ w, approximate=approximate)

    plain, jitted = run(x).numpy(), pa.jit(run)
    assert all(same(jitted(x).numpy(), plain) for _ in range(5))
    y = run(x)
    mapped = pa.vmap(lambda v: functional.gelu(v, approximate=approximate))(x @ w)
    assert same(mapped.numpy(), y.numpy())


FEW = (  # shape, axes summed, rows
    ((2, 40, 30), (0,), 2), ((5, 7, 33), (1,), 7), ((8, 129), (0,), 8), ((7, 2, 2, 40), (1, 2), 4),
    ((2, 4, 1, 9), (1,), 4), ((3, 5, 1), (1,), 5),
)  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_few_rows_are_operands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel without lanes in memory, and the bits of many rows."""
    for which in ("sum", "max", "min"):
        for shape, axes, rows in FEW:
            x = of(name, shape)
            x.ravel()[::3] = -0.0  # there is no sum -0
            if which == "max" and dtypes.dtype(name).is_float:
                x.ravel()[5::7] = np.nan
            builder, (a,) = of_floats(shape, dtype=name)
            with use_sink(builder):
                graph = builder.graph([apply(REGISTRY[which], [a], axes=axes)])
            found = []
            for least in (0, 1 << 40):
                monkeypatch.setattr(few, "LEAST", least)
                found += on(graph, [x])
                made = kernels(graph)
                assert any(isinstance(k, Join) for k in made) == bool(least)
                assert least or len(made[0].operands) == rows
            assert same(*found)


def test_few_rows_of_what_is_computed_and_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "LEAST", 0)
    x, y = of("float32", (3, 20, 100)), of("float32", (20, 100))
    builder, (a, b) = of_floats(x.shape, y.shape)
    with use_sink(builder):
        made, still = exp(a) * b, exp(b)
        graph = builder.graph([apply(REGISTRY["sum"], [made], axes=(0,)), made, still])
    total, every, _ = on(graph, [x, y])
    assert total.tobytes() == in_order(every, (0,)).tobytes()
