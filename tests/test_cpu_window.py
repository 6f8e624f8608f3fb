"""Convolutions, products of integers and argmax on `cpu`: the order of every sum, any layout."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import proa as pa
from proa import dtypes
from proa.backends.cpu import extremes, window
from proa.backends.cpu.engine import counts
from proa.backends.cpu.target import binding, find, foreign
from proa.compile.stages import lower
from proa.compile.tiers import OneByOne
from proa.config import config
from proa.explain import forget_programs
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Input, Role
from proa.graph.spec import spec
from proa.nn import functional as F  # noqa: N812
from proa.ops.movement import flip, permute, slice_
from proa.ops.primitive import REGISTRY, apply
from proa.ops.window import geometry
from tests import test_cpu_indexed as moves
from tests.test_cpu import CPU, DEVICE, on, same
from tests.test_cpu_product import FOREIGN, LEVELS, matmul, random
from tests.training import MODELS, train

F32, F64, BF16 = np.dtype("f4"), np.dtype("f8"), np.dtype(ml_dtypes.bfloat16)
INTS = [d for d in dtypes.ALL if d.kind == "int"]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    before = config.cache_dir
    config.cache_dir = tmp_path_factory.mktemp("kernels")
    yield
    config.cache_dir = before


# Layouts: what is given is turned so that the operation sees the array itself.

Way = tuple[Callable[[Any], Any], Callable[[Any], Any]]  # of the array, of the operand in the graph


def _turned(n: int) -> Way:
    axes = tuple(reversed(range(n)))
    return lambda a: np.ascontiguousarray(a.transpose()), lambda v: apply(permute, [v], axes=axes)


def _flipped(n: int) -> Way:
    axes = tuple(range(n))
    return lambda a: np.ascontiguousarray(np.flip(a)), lambda v: apply(flip, [v], axes=axes)


def _strided(n: int) -> Way:
    def spread(a: Any) -> Any:
        room = np.zeros([2 * k + 1 for k in a.shape], a.dtype)
        room[(slice(1, None, 2),) * n] = a
        return room

    def view(v: Any) -> Any:
        return apply(slice_, [v], starts=(1,) * n, stops=v.spec.shape, strides=(2,) * n)

    return spread, view


WAYS: dict[str, Callable[[int], Way]] = {
    "plain": lambda n: (lambda a: a, lambda v: v), "turned": _turned, "flipped": _flipped,
    "strided": _strided,
}  # fmt: skip


def graph_of(name: str, arrays: list[Any], way: str, params: Any) -> tuple[Graph, list[Any]]:
    ways = [WAYS[way](a.ndim) for a in arrays]
    given = [make(a) for (make, _), a in zip(ways, arrays, strict=True)]
    builder = Builder([Input(spec(a.shape, dtypes.dtype(a.dtype)), Role.DATA) for a in given])
    with use_sink(builder):
        values = [view(v) for (_, view), v in zip(ways, builder.input_values(), strict=True)]
        made = apply(REGISTRY[name], values, **params)
    return builder.graph([made]), given


def run(name: str, arrays: list[Any], way: str = "plain", **params: Any) -> Any:
    """What `cpu` gives, without host calls, whole and one by one."""
    graph, given = graph_of(name, arrays, way, params)
    program = lower(graph, CPU, DEVICE)
    executable = CPU.compile(program)
    assert executable.report["host_calls"] == 0
    (found,) = on(graph, given, executable)
    (single,) = on(graph, given, OneByOne(program, CPU))
    assert same(found, single)
    return found


# Convolutions.


def expected(x: Any, w: Any, p: dict[str, Any]) -> Any:
    """Patches in the plainest way, and chains of scalar fused multiply-adds over channels and then
    places in the kernel."""
    full = window_of(x, p)
    groups, (out, channels, *kernel) = p["groups"], w.shape
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, p["w_dilation"], strict=True)]
    patches = np.lib.stride_tricks.sliding_window_view(full, spans, axis=tuple(range(2, x.ndim)))
    steps = [slice(None, None, s) for s in (*p["strides"], *p["w_dilation"])]
    patches = patches[(slice(None), slice(None), *steps)]
    places = patches.shape[2 : x.ndim]
    wide = F32 if x.dtype.itemsize == 2 else x.dtype
    left = patches.reshape(x.shape[0], groups, channels, prod(places), prod(kernel))
    left = left.transpose(0, 1, 3, 2, 4).reshape(
        x.shape[0], groups, prod(places), channels * prod(kernel)
    )
    left = left.astype(wide)
    right = w.reshape(groups, out // groups, channels * prod(kernel)).astype(wide)
    made = np.zeros((x.shape[0], groups, out // groups, prod(places)), wide)
    for n in range(x.shape[0]):
        for g in range(groups):
            made[n, g] = matmul(left[n, g], right[g].T).T
    return made.reshape(x.shape[0], out, *places).astype(x.dtype)


def window_of(x: Any, p: dict[str, Any]) -> Any:
    """x spread and padded, element by element; what falls outside is dropped."""
    rows = zip(x.shape[2:], p["padding"], p["x_dilation"], strict=True)
    sizes = [max(0, (n - 1) * d + 1) + low + high for n, (low, high), d in rows]
    full = np.zeros((*x.shape[:2], *sizes), x.dtype)
    for place in np.ndindex(*x.shape[2:]):
        rows = zip(place, p["padding"], p["x_dilation"], strict=True)
        goal = [low + i * d for i, (low, _), d in rows]
        if all(0 <= i < n for i, n in zip(goal, sizes, strict=True)):
            full[(slice(None), slice(None), *goal)] = x[(slice(None), slice(None), *place)]
    return full


CONVS: dict[str, Any] = {
    "one axis": ((2, 3, 11), (4, 3, 3), geometry(1)),
    "padded": ((3, 4, 9, 7), (5, 4, 3, 3), geometry(2, padding=(1, 1))),
    "wide": ((2, 3, 18, 20), (7, 3, 3, 3), geometry(2, padding=(1, 1))),
    "long sums": ((2, 50, 5, 6), (9, 50, 3, 3), geometry(2, padding=(1, 2))),
    "groups": ((2, 6, 9, 8), (9, 2, 3, 2), geometry(2, padding=(1, 0), groups=3)),
    "a channel each": ((2, 5, 17, 18), (5, 1, 3, 3), geometry(2, padding=(1, 1), groups=5)),
    "dilated": ((2, 2, 12, 13), (3, 2, 3, 3), geometry(2, padding=(2, 1), w_dilation=2)),
    "spread": ((2, 3, 5, 6), (4, 3, 3, 3), geometry(2, padding=(2, 1), x_dilation=2)),
    "both": ((1, 2, 7), (3, 2, 3), geometry(1, padding=(3, 2), x_dilation=3, w_dilation=2)),
    "cropped": ((2, 3, 9, 8), (4, 3, 2, 2), geometry(2, padding=(-2, 1))),
    "steps": ((2, 3, 13, 11), (4, 3, 3, 3), geometry(2, strides=2, padding=(1, 1))),
    "steps beyond the kernel": ((2, 3, 13, 11), (4, 3, 2, 2), geometry(2, strides=4)),
    "tiles of an image": ((2, 3, 16, 16), (8, 3, 4, 4), geometry(2, strides=4)),
    "single places": ((3, 9, 17, 16), (7, 9, 1, 1), geometry(2)),
    "single places, few": ((3, 9, 4, 4), (7, 9, 1, 1), geometry(2)),
    "single places, steps": ((2, 9, 40, 37), (7, 9, 1, 1), geometry(2, strides=2)),
    "the gradient of kernels": ((5, 6, 14, 14), (8, 6, 12, 12), geometry(2)),
    "one element": ((1, 1, 1), (1, 1, 1), geometry(1)),
    "three axes": ((2, 2, 5, 6, 7), (3, 2, 2, 3, 2), geometry(3, padding=(1, 1))),
    "no examples": ((0, 2, 5), (3, 2, 2), geometry(1, padding=(1, 1))),
    "no channels": ((2, 0, 5), (3, 0, 2), geometry(1)),
    "no elements": ((2, 2, 0), (3, 2, 2), geometry(1, padding=(2, 1))),
    "no results": ((2, 2, 6), (0, 2, 3), geometry(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("dtype", [F32, F64, BF16, np.dtype("f2")], ids=str)
def test_bits_of_convolutions(dtype: Any, name: str) -> None:
    if dtype.itemsize == 2 and not find().has_half:
        pytest.skip("no conversions of float16")
    xs, ws, params = CONVS[name]
    x, w = random(xs, dtype, 1), random(ws, dtype, 2)
    wanted = expected(x, w, params)
    for way in WAYS if dtype != F64 else ["plain"]:
        assert run("conv", [x, w], way, **params).tobytes() == wanted.tobytes(), way


@pytest.mark.parametrize("name", CONVS)
def test_parts_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many patches are laid out at once: examples apart, rows of results apart."""
    xs, ws, params = CONVS[name]
    x, w = random(xs, F32, 1), random(ws, F32, 2)
    wanted = run("conv", [x, w], **params)
    for most in (1, 1000, 6000, 20000):
        monkeypatch.setattr(window, "MOST_BYTES", most)
        assert run("conv", [x, w], **params).tobytes() == wanted.tobytes()
    monkeypatch.setattr(window, "FEW", 1)
    assert run("conv", [x, w], **params).tobytes() == wanted.tobytes()
    monkeypatch.setattr(window, "FEW", 1 << 30)
    assert run("conv", [x, w], **params).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", ["padded", "wide", "groups", "single places, few"])
def test_an_example_alone_is_that_of_the_batch(name: str) -> None:
    xs, ws, params = CONVS[name]
    x, w = random((8, *xs[1:]), F32, 1), random(ws, F32, 2)
    whole = run("conv", [x, w], **params)
    for n in (1, 3):
        assert run("conv", [x[:n].copy(), w], **params).tobytes() == whole[:n].tobytes()


@pytest.mark.parametrize("dtype", INTS, ids=lambda d: d.name)
def test_convolutions_of_integers(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for name, (xs, ws, params) in CONVS.items():
        arrays = [moves.numbers(rng, s, dtype.name) for s in (xs, ws)]
        meant = REGISTRY["conv"].meaning(*arrays, **params)
        for way in ("plain", "turned"):
            assert same(run("conv", arrays, way, **params), meant), name


def test_a_convolution_is_close_to_its_meaning() -> None:
    x, w = random((8, 32, 24, 24), F32, 1), random((48, 32, 3, 3), F32, 2)
    params = geometry(2, strides=2, padding=(1, 1))
    meant = REGISTRY["conv"].meaning(x.astype(F64), w.astype(F64), **params)
    np.testing.assert_allclose(run("conv", [x, w], **params), meant, rtol=1e-5, atol=1e-4)


def test_threads_make_no_difference() -> None:
    x, w = random((4, 16, 40, 40), F32, 1), random((24, 16, 3, 3), F32, 2)
    params, before = geometry(2, padding=(1, 1)), pa.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            pa.set_num_threads(count)
            found.append(run("conv", [x, w], **params).tobytes())
            found.append(run("argmax", [x.reshape(64, 1600)], axes=(1,)).tobytes())
    finally:
        pa.set_num_threads(before)
    assert found[:2] == found[2:]


class Block(pa.nn.Module):
    """What a residual network is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = pa.nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = pa.nn.BatchNorm2d(8)
        self.second = pa.nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.short = pa.nn.Conv2d(3, 8, 1, 2)
        self.head = pa.nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        y = self.second(F.relu(self.norm(self.first(x))))
        return self.head(F.relu(y + self.short(x)).mean((2, 3)))


def residual() -> tuple[Any, Any]:
    pa.manual_seed(6)
    rng = np.random.default_rng(2)
    return Block(), (rng.standard_normal((6, 3, 9, 9)).astype(np.float32), rng.integers(0, 5, 6))


@pytest.mark.parametrize("make", [MODELS["convnet"], residual], ids=["convnet", "residual"])
def test_training_makes_no_host_call(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []
    compile_ = type(CPU).compile

    def counted(self: Any, program: Any) -> Any:
        made = compile_(self, program)
        reports.append(made.report)
        return made

    monkeypatch.setattr(type(CPU), "compile", counted)
    forget_programs()
    there = train(make, steps=6, device="cpu")
    assert reports and not sum(r["host_calls"] for r in reports)
    here = train(make, steps=6, device="numpy")
    np.testing.assert_allclose(there["losses"], here["losses"], rtol=2e-3, atol=2e-4)


def test_a_new_batch_size_compiles_nothing() -> None:
    pa.manual_seed(0)
    model = Block()
    model.to("cpu")

    def step(n: int) -> None:
        x = pa.asarray(np.ones((n, 3, 9, 9), np.float32), device="cpu")
        (model(x) ** 2).mean().backward()
        pa.sync()
        for p in model.parameters():
            assert p.grad is not None and p.grad.numpy().size

    for _ in range(3):
        step(1)
    before = counts.objects_emitted
    for n in (1, 5, 32):
        for _ in range(3):
            step(n)
    assert counts.objects_emitted == before


# Products of integers.

LETTERS = [
    "mk,kn->mn", "mk,nk->nm", "bmk,bkn->bmn", "abm,nba->mn", "ijm,kjml->lkij", "ij,kl->jlik",
    "k,k->", "k,kn->n", "bk,bk->b",
]  # fmt: skip
SIZES = dict(zip("abijklmn", (3, 4, 2, 6, 5, 7, 9, 21), strict=True))


@pytest.mark.parametrize("dtype", INTS, ids=lambda d: d.name)
def test_products_of_integers_wrap_round(dtype: Any) -> None:
    rng = np.random.default_rng(4)
    for letters in LETTERS:
        ins, out = letters.split("->")
        a, b = ins.split(",")
        for sizes in (SIZES, SIZES | {"k": 300}, SIZES | {"k": 0}, SIZES | {"n": 0, "i": 0}):
            arrays = [moves.numbers(rng, tuple([sizes[x] for x in n]), dtype.name) for n in (a, b)]
            meant = REGISTRY["dot"].meaning(*arrays, a=a, b=b, out=out)
            for way in WAYS:
                found = run("dot", arrays, way, a=a, b=b, out=out)
                assert same(found, np.asarray(meant)), (letters, way)


# The first of the largest.

REAL = [d for d in dtypes.ALL if d in REGISTRY["argmax"].accepts]
ROWS = [(1,), (7,), (130,), (5, 1), (1, 5), (3, 70), (33, 129), (65, 3), (4, 9, 40), (2, 300, 3),
        (2, 3, 4, 5), (3, 1000)]  # fmt: skip


def candidates(rng: Any, shape: Any, dtype: Any) -> list[Any]:
    """Any numbers; few different ones, so that many are equal; all alike."""
    few = np.asarray(rng.integers(0, 3, shape)).astype(dtype.numpy)
    found = [moves.numbers(rng, shape, dtype.name), few, np.zeros(shape, dtype.numpy)]
    if dtype.is_float:
        hard = rng.choice([-np.inf, -0.0, 0.0, np.nan], shape, p=[0.6, 0.18, 0.18, 0.04])
        found += [hard.astype(dtype.numpy), np.full(shape, -np.inf, dtype.numpy)]
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_argmax(dtype: Any, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "PLANNERS", (extremes,))
    machine, rng = find(level), np.random.default_rng(5)
    if dtype is dtypes.float16 and not machine.has_half:
        pytest.skip("no conversions of float16")
    for shape in ROWS:
        for array in candidates(rng, shape, dtype):
            for way in moves.WAYS:
                given = moves.laid(rng, array, way)
                for axis in range(len(shape)):
                    moves.check("argmax", [given], machine, axes=(axis,))


def test_argmax_in_a_program() -> None:
    rng = np.random.default_rng(6)
    for shape, axis in (
        ((40, 300), 1),
        ((300, 40), 0),
        ((0, 4), 1),
        ((3, 0, 5), 2),
        ((70_000,), 0),
    ):
        x = rng.integers(0, 9, shape).astype(np.float32)
        for way in WAYS:
            found = run("argmax", [x], way, axes=(axis,))
            assert same(found, np.argmax(x, axis) if x.size else np.zeros(found.shape, np.int64))
    t = pa.asarray(np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 1.0]]), device="cpu")
    assert pa.argmax(t, axis=1).tolist() == [1, 0] and pa.argmin(t, axis=1).tolist() == [1, 2]


@pytest.mark.parametrize("triple, features", FOREIGN)
def test_objects_for_other_machines(triple: str, features: str) -> None:
    machine = foreign(triple, features)
    for dtype in (dtypes.float32, dtypes.bool_, dtypes.bfloat16, dtypes.uint64):
        for pattern in "rug":
            text = extremes.Argmax(dtype, pattern).ir("kernel", machine)
            module = binding().parse_assembly(text)
            module.verify()
            assert moves.code_for(machine).emit_object(module)
