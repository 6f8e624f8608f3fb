"""Products on `cpu`: the order of every sum, bit by bit, whatever the layout, tile or processor."""

from __future__ import annotations

import ctypes
import re
from math import prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from proa import dtypes
from proa.backends.cpu import product
from proa.backends.cpu.product import claims, plan
from proa.backends.cpu.product_block import Product
from proa.backends.cpu.product_copy import Packing
from proa.backends.cpu.product_micro import shape_of
from proa.backends.cpu.product_pair import Join, Pair
from proa.backends.cpu.product_row import PIECE, Row
from proa.backends.cpu.product_walk import TABLE
from proa.backends.cpu.target import Target, binding, find, foreign
from proa.graph.spec import spec

HERE = find()
FEATURES = {k for k, on in binding().get_host_cpu_features().items() if on}
LEVELS = ["", "x86-64-v2"] if HERE.is_x86 else [""]
LEVELS += ["x86-64-v3"] if {"avx2", "fma", "f16c"} <= FEATURES else []
LEVELS += ["x86-64-v4"] if {"avx512f", "avx512bw", "avx512vl"} <= FEATURES else []
NUMPY = {d.numpy: d for d in (dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.float16)}
F32, F64, F16, BF16 = (np.dtype(t) for t in ("f4", "f8", "f2", ml_dtypes.bfloat16))
ALL = [F32, F64, BF16, F16]

# What runs kernels: objects linked by themselves, memories as arrays, tiles called one by one.

LINKED: dict[Any, Any] = {}
KEPT: list[Any] = []
FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


def generator(machine: Target) -> Any:
    return (
        binding()
        .Target.from_triple(machine.triple)
        .create_target_machine(
            cpu=machine.cpu, features=machine.features, opt=2, reloc="pic", codemodel="default"
        )
    )


def linked(kernel: Any, machine: Target) -> Any:
    key = (kernel.key, machine.cpu, machine.triple)  # what objects are cached by
    if key not in LINKED:
        if not KEPT:
            KEPT.extend([generator(HERE), None])
            KEPT[1] = binding().create_lljit_compiler(KEPT[0])
        module = binding().parse_assembly(kernel.ir("kernel", machine))
        module.verify()
        builder = binding().JITLibraryBuilder()
        builder.add_object_img(generator(machine).emit_object(module)).add_current_process()
        tracker = builder.export_symbol("kernel").link(KEPT[1], f"product{len(KEPT)}")
        KEPT.append(tracker)
        LINKED[key] = FUNCTION(tracker["kernel"])
    return LINKED[key]


class Layout(NamedTuple):
    root: int
    offset: int
    strides: tuple[int, ...]


def contiguous(shape: Any, size: int) -> tuple[int, ...]:
    return tuple([size * prod(shape[i + 1 :]) for i in range(len(shape))])


GUARD = 4096


class Nests:
    """What a plan is made in: memories by number, and the calls."""

    def __init__(self, operands: list[Any], params: tuple[str, str, str], shape: Any) -> None:
        self.actions: list[Any] = []
        self.beside: list[Any] = []
        self.memories: list[int] = []
        self.guards: list[Any] = []
        self.machine: Target | None = None  # where operands have packed copies: for what
        self.asked = 0
        self.layouts, self.specs = [], []
        for x in operands:
            base = x
            while isinstance(base.base, np.ndarray):
                base = base.base
            self.memories.append(base.ctypes.data)
            offset = x.ctypes.data - base.ctypes.data
            self.layouts.append(Layout(len(self.layouts), offset, x.strides))
            self.specs.append(spec(x.shape, NUMPY[x.dtype]))
        dtype = operands[0].dtype
        number = self.temporary(prod(shape) * dtype.itemsize)
        self.result = self.guards[-1][: prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        self.layouts.append(Layout(number, 0, contiguous(shape, dtype.itemsize)))
        self.specs.append(spec(tuple(shape), NUMPY[dtype]))
        entry = SimpleNamespace(params=params, ins=self.specs[:2], outs=self.specs[2:])
        step = SimpleNamespace(entry=entry, slots=(0, 1))
        self.draft = SimpleNamespace(steps=[step], first=[2])

    def layout(self, slot: int) -> Layout:
        return self.layouts[slot]

    def temporary(self, nbytes: int) -> int:
        room = np.full(nbytes + GUARD + 64, 255, np.uint8)
        start = -room.ctypes.data % 64
        self.guards.append(room[start : start + nbytes + GUARD])
        self.memories.append(self.guards[-1].ctypes.data)
        return len(self.memories) - 1

    def copy(self, layout: Layout, columns: int, depth: int, dtype: Any) -> int | None:
        """A packed copy, as a buffer would have it; none where the operand is no whole memory."""
        self.asked += 1
        if self.machine is None or layout.offset:
            return None
        shape = shape_of(dtype, self.machine)
        whole = -(-columns // shape.lanes) * shape.lanes
        number = self.temporary(whole * depth * dtype.itemsize)
        words = (ctypes.c_int64 * 6)(layout.root, 0, number, 0, columns, depth)
        bases = (ctypes.c_int64 * len(self.memories))(*self.memories)
        for tile in range(-(-columns // (PIECE * shape.lanes))):
            linked(Packing(dtype.itemsize, shape.lanes), self.machine)(words, bases, tile, None)
        return number

    def packed(self, layout: Layout, shape: Any, dtype: Any) -> int:
        number = self.temporary(prod(shape) * dtype.itemsize)
        self.actions.append((layout, shape, dtype.itemsize, number))
        return number

    def run(self, machine: Target, is_backward: bool = False) -> Any:
        bases = (ctypes.c_int64 * len(self.memories))(*self.memories)
        for action in self.actions:
            if type(action) is tuple:
                layout, shape, size, number = action
                kind = np.dtype(f"u{size}")
                source = at(self.memories[layout.root] + layout.offset, kind, 1)
                source = np.lib.stride_tricks.as_strided(source, shape, layout.strides)
                at(self.memories[number], kind, prod(shape))[:] = source.reshape(-1)
                continue
            words = [w for pair in (*action.operands, *action.results) for w in pair]
            call = (ctypes.c_int64 * (len(words) + len(action.table)))(*words, *action.table)
            scratch = self.memories[self.temporary(action.scratch)]
            tiles = range(action.tiles)
            for tile in reversed(tiles) if is_backward else tiles:
                linked(action.kernel, machine)(call, bases, tile, scratch)
        assert all((g[-GUARD:] == 255).all() for g in self.guards), "written past the end"
        return self.result


def at(address: int, dtype: Any, count: int) -> Any:
    raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype)


def prepared(
    x: Any, y: Any, letters: str, machine: Target, patch: Any, packs: bool = False
) -> Nests:
    ins, out = letters.split("->")
    a, b = ins.split(",")
    sizes = dict(zip(a + b, x.shape + y.shape, strict=True))
    nests = Nests([x, y], (a, b, out), [sizes[c] for c in out])
    patch.setattr(product, "target", lambda: machine)
    nests.machine = machine if packs else None
    plan(nests, 0)
    return nests


def dot(x: Any, y: Any, letters: str, patch: Any, machine: Target = HERE) -> Any:
    return prepared(x, y, letters, machine, patch).run(machine)


# What the bits must be: a chain of scalar fused multiply-adds for each block of 384.


class Chain:
    """Products [m, k] @ [k, n] of one block, in the plainest way."""

    def __init__(self, dtype: Any) -> None:
        self.type, self.suffix = ("float", "f32") if dtype == F32 else ("double", "f64")
        self.key = f"chain {self.type}"

    def ir(self, name: str, machine: Target) -> str:
        t, fma = self.type, f"@llvm.fma.{self.suffix}"
        loads = "\n".join(
            f"  %g{i} = getelementptr i64, ptr %call, i64 {i}\n  %w{i} = load i64, ptr %g{i}"
            for i in range(6)
        )
        return f"""target triple = "{machine.triple}"
declare {t} {fma}({t}, {t}, {t})
define void @{name}(ptr %call, ptr %bases, i64 %tile, ptr %scratch) {{
entry:
{loads}
  %a = inttoptr i64 %w0 to ptr
  %b = inttoptr i64 %w1 to ptr
  %c = inttoptr i64 %w2 to ptr
  br label %element
element:
  %e = phi i64 [ 0, %entry ], [ %e1, %end ]
  %i = sdiv i64 %e, %w4
  %j = srem i64 %e, %w4
  %row = mul i64 %i, %w5
  br label %step
step:
  %k = phi i64 [ 0, %element ], [ %k1, %step ]
  %s = phi {t} [ 0.0, %element ], [ %s1, %step ]
  %ai = add i64 %row, %k
  %pa = getelementptr {t}, ptr %a, i64 %ai
  %x = load {t}, ptr %pa
  %bk = mul i64 %k, %w4
  %bi = add i64 %bk, %j
  %pb = getelementptr {t}, ptr %b, i64 %bi
  %y = load {t}, ptr %pb
  %s1 = call {t} {fma}({t} %x, {t} %y, {t} %s)
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %w5
  br i1 %more, label %step, label %end
end:
  %pc = getelementptr {t}, ptr %c, i64 %e
  store {t} %s1, ptr %pc
  %e1 = add i64 %e, 1
  %size = mul i64 %w3, %w4
  %open = icmp slt i64 %e1, %size
  br i1 %open, label %element, label %done
done:
  ret void
}}"""


def chain(x: Any, y: Any) -> Any:
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    (m, k), n = x.shape, y.shape[1]
    made = np.zeros((m, n), x.dtype)
    if made.size and k:
        call = (ctypes.c_int64 * 6)(x.ctypes.data, y.ctypes.data, made.ctypes.data, m, n, k)
        linked(Chain(x.dtype), HERE)(call, None, 0, None)
    return made


def matmul(x: Any, y: Any) -> Any:
    total = chain(x[:, :384], y[:384])
    for k in range(384, x.shape[1], 384):
        total = total + chain(x[:, k : k + 384], y[k : k + 384])
    return total


def expected(x: Any, y: Any, letters: str) -> Any:
    ins, out = letters.split("->")
    a, b = ins.split(",")
    wide = F32 if x.dtype.itemsize == 2 else x.dtype
    both, rows = ([c for c in a if (c in b) == k and c in out] for k in (True, False))
    summed, columns = [c for c in a if c not in out], [c for c in b if c not in a]
    n = dict(zip(a + b, x.shape + y.shape, strict=True))
    sizes = [prod([n[c] for c in group]) for group in (both, rows, summed, columns)]
    left = x.transpose([a.index(c) for c in both + rows + summed]).reshape(sizes[:3])
    right = y.transpose([b.index(c) for c in both + summed + columns])
    right = right.reshape(sizes[0], sizes[2], sizes[3])
    made = np.zeros((sizes[0], sizes[1], sizes[3]), wide)
    for i in range(sizes[0]):
        made[i] = matmul(left[i].astype(wide), right[i].astype(wide))
    order = both + rows + columns
    made = made.reshape([n[c] for c in order]).transpose([order.index(c) for c in out])
    return made.astype(x.dtype)


def random(shape: Any, dtype: Any, seed: int, order: Any = None) -> Any:
    """Numbers whose axes lie in memory in some order."""
    order = range(len(shape)) if order is None else order
    made = np.random.default_rng(seed).standard_normal([shape[i] for i in order]).astype(dtype)
    return made.transpose(np.argsort(order)) if len(shape) else made


def check(x: Any, y: Any, letters: str, patch: Any, machine: Target = HERE) -> None:
    wanted = expected(x, y, letters)
    nests = prepared(x, y, letters, machine, patch)
    for is_backward in (False, True):
        nests.result[...] = np.nan
        found = nests.run(machine, is_backward)
        assert found.tobytes() == wanted.tobytes(), (x.shape, x.strides, y.shape, y.strides)


def skip_if_lacking(dtype: Any, machine: Target) -> None:
    if dtype == F16 and not machine.has_half:
        pytest.skip("no conversions of float16")


SHAPES = [
    (1, 1, 1), (1, 100, 385), (2, 33, 770), (3, 16, 5), (4, 64, 384), (5, 7, 383), (6, 1, 390),
    (7, 31, 17), (8, 10, 1), (15, 65, 64), (29, 130, 100), (43, 15, 777), (57, 48, 400),
]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_bits_of_every_layout(dtype: Any, level: str, monkeypatch: Any) -> None:
    machine = find(level)
    skip_if_lacking(dtype, machine)
    shapes = SHAPES if machine.has_fma else [(m, min(n, 20), k) for m, n, k in SHAPES[:8]]
    for number, (m, n, k) in enumerate(shapes):
        for order in ((0, 1), (1, 0)):
            for other in ((0, 1), (1, 0)):
                x, y = random((m, k), dtype, number, order), random((k, n), dtype, 99, other)
                check(x, y, "mk,kn->mn", monkeypatch, machine)
                check(x, y, "mk,kn->nm", monkeypatch, machine)


LETTERS = [
    "bmk,bkn->bmn", "bmk,bkn->bnm", "bmk,bkn->mbn", "bmk,bkn->mnb", "mbk,kbn->nbm", "abm,abn->mn",
    "abm,nba->mn", "ijm,jkm->kij", "ijm,kjml->lkij", "ij,kl->jlik", "k,k->", "k,kn->n", "mk,k->m",
    "bk,bk->b", "bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", "ijk,kil->lj",
]  # fmt: skip
SIZES = dict(zip("abdhijklmnq", (3, 4, 24, 2, 6, 3, 37, 5, 7, 9, 21), strict=True))


@pytest.mark.parametrize("letters", LETTERS)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_bits_of_any_letters(dtype: Any, letters: str, monkeypatch: Any) -> None:
    skip_if_lacking(dtype, HERE)
    rng = np.random.default_rng(5)
    a, b = letters.split("->")[0].split(",")
    for seed in range(3):
        x, y = (
            random([SIZES[c] for c in names], dtype, seed, rng.permutation(len(names)))
            for names in (a, b)
        )
        check(x, y, letters, monkeypatch)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_views_that_step_turn_and_repeat(dtype: Any, monkeypatch: Any) -> None:
    x, y = random((60, 900), dtype, 1), random((900, 50), dtype, 2)
    check(x[::-1, ::2], y[::-2], "mk,kn->mn", monkeypatch)
    check(x[:, ::-1], y[:, 3:20], "mk,kn->nm", monkeypatch)
    check(np.broadcast_to(x[:1], (40, 900)), y, "mk,kn->mn", monkeypatch)
    check(x, np.broadcast_to(y[:, :1], (900, 33)), "mk,kn->mn", monkeypatch)
    check(x[:, :1][:, [0] * 9], np.broadcast_to(y[:1, :1], (9, 8)), "mk,kn->mn", monkeypatch)


def test_nothing_to_sum_is_zero_and_nothing_to_make_is_nothing(monkeypatch: Any) -> None:
    for dtype in ALL:
        for m, n in ((3, 5), (1, 40), (20, 70)):
            check(np.ones((m, 0), dtype), np.ones((0, n), dtype), "mk,kn->mn", monkeypatch)
        x, y = np.ones((4, 0), dtype), np.ones((3, 4, 5), dtype)
        assert dot(x, y, "km,akn->amn", monkeypatch).shape == (3, 0, 5)
        nests = prepared(x, y, "km,akn->amn", HERE, monkeypatch)
        assert [action.tiles for action in nests.actions] == [0]


LONG = [(1, 1, 9000), (16, 16, 20000), (3, 50, 8001), (1, 40, 9999), (50, 1, 8000), (90, 33, 7000)]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_blocks_of_k_are_dealt_out_with_the_same_bits(dtype: Any, monkeypatch: Any) -> None:
    skip_if_lacking(dtype, HERE)
    machine = HERE._replace(cores=4)
    monkeypatch.setattr(product, "LITTLE", 10)
    for m, n, k in LONG:
        x, y = random((m, k), dtype, m), random((k, n), dtype, n)
        nests = prepared(x, y, "mk,kn->mn", machine, monkeypatch)
        assert type(nests.actions[-1].kernel) is Join
        check(x, y, "mk,kn->mn", monkeypatch, machine)
        check(x, y, "mk,kn->nm", monkeypatch, machine)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_two_vectors(dtype: Any, level: str, monkeypatch: Any) -> None:
    skip_if_lacking(dtype, find(level))
    for cores, k in ((1, 1536), (4, 1537), (3, 20 * 384), (2, 50_001)):
        machine = find(level)._replace(cores=cores)
        monkeypatch.setattr(product, "LITTLE", 10)
        x, y = random((k,), dtype, 1), random((k,), dtype, 2)
        kernels = prepared(x, y, "k,k->", machine, monkeypatch).actions
        assert [type(c.kernel) for c in kernels] == [Pair, *[Row] * bool(k % 384), Join]
        check(x, y, "k,k->", monkeypatch, machine)
        check(x[None, ::-1], y[:, None], "mk,kn->mn", monkeypatch, machine)


@pytest.mark.parametrize("dtype", [F32, F64, BF16], ids=str)
def test_bits_of_any_tiling(dtype: Any, monkeypatch: Any) -> None:
    """Cores and caches choose tiles, packing and order; all give the same."""
    monkeypatch.setattr(product, "LITTLE", 10)
    x, y = random((150, 800), dtype, 1), random((800, 170), dtype, 2)
    x3, y3 = random((7, 30, 100), dtype, 3), random((7, 100, 40), dtype, 4)
    for cores in (1, 2, 5, 16):
        for l1, l2, small in ((8 << 10, 64 << 10, 0), (1 << 20, 128 << 10, 1 << 30)):
            machine = HERE._replace(cores=cores, l1_bytes=l1, l2_bytes=l2, l3_bytes=l2 * 4)
            monkeypatch.setattr(product, "SMALL", small)
            check(x, y, "mk,kn->mn", monkeypatch, machine)
            check(x[:1], y, "mk,kn->nm", monkeypatch, machine)
            check(x3, y3, "bmk,bkn->bmn", monkeypatch, machine)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_panels_are_packed_once_for_all_strips(dtype: Any, level: str, monkeypatch: Any) -> None:
    """One core has one tile: its columns go by in strips, its panels stay; both fit the caches."""
    machine = find(level)._replace(cores=1, l1_bytes=32 << 10, l2_bytes=256 << 10, l3_bytes=8 << 20)
    for rows, small in ((147, 0), (147, 1 << 30), (400, 0)):
        monkeypatch.setattr(product, "SMALL", small)
        x, y = random((rows, 500), dtype, rows), random((500, 1500), dtype, 2)
        (call,) = prepared(x, y, "mk,kn->mn", machine, monkeypatch).actions
        word = dict(zip(TABLE, call.table, strict=False))
        assert call.tiles == 1 and word["tile_rows"] == rows and word["tile_columns"] == 1500
        assert (word["kept"] > 0) == (word["strip"] < 1500)
        assert call.scratch <= machine.l3_bytes // 2 + machine.l2_bytes
        check(x, y, "mk,kn->mn", monkeypatch, machine)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_a_row_alone_is_the_row_of_the_product(dtype: Any, monkeypatch: Any) -> None:
    skip_if_lacking(dtype, HERE)
    for k in (5, 384, 511, 777):
        x, y = random((30, k), dtype, k), random((k, 70), dtype, 1)
        whole = dot(x, y, "mk,kn->mn", monkeypatch).copy()
        for y_ in (y, random((k, 70), dtype, 1, (0, 1)).T.copy().T):
            for m in range(1, 9):
                assert dot(x[:m], y_, "mk,kn->mn", monkeypatch).tobytes() == whole[:m].tobytes()
        assert dot(y.T, x[3], "nk,k->n", monkeypatch).tobytes() == whole[3].tobytes()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_a_packed_copy_changes_no_bit(dtype: Any, level: str, monkeypatch: Any) -> None:
    """Columns up to the end of a vector, of a piece, of a tile; blocks of K and what is left."""
    machine = find(level)
    skip_if_lacking(dtype, machine)
    monkeypatch.setattr(product, "LITTLE", 100)
    sizes = [(2, 9), (40, 384), (64, 16), (100, 800), (129, 385), (333, 31), (2100, 3)]
    for cores in (1, 3):
        machine = machine._replace(cores=cores)
        for n, k in sizes if machine.has_fma else sizes[:4]:
            x, y = random((1, k), dtype, n), random((n, k), dtype, k)
            wanted = expected(x, y.T, "mk,kn->mn")
            for m in (2, 3, 4):
                few = random((m, k), dtype, m)
                nests = prepared(few, y, "mk,nk->mn", machine, monkeypatch, packs=True)
                assert type(nests.actions[0].kernel) is Row and nests.asked == 1
                assert nests.run(machine).tobytes() == expected(few, y.T, "mk,kn->mn").tobytes()
            for is_backward in (False, True):
                nests = prepared(x, y, "mk,nk->mn", machine, monkeypatch, packs=True)
                assert type(nests.actions[0].kernel) is Row and nests.asked == 1
                assert nests.run(machine, is_backward).tobytes() == wanted.tobytes(), (n, k)
            nests = prepared(y, x, "nk,mk->nm", machine, monkeypatch, packs=True)
            assert nests.run(machine).tobytes() == wanted.tobytes() and nests.asked == 1


def test_appended_zeros_change_nothing(monkeypatch: Any) -> None:
    x, y = abs(random((9, 300), F32, 1)), random((300, 40), F32, 2)
    short = dot(x, y, "mk,kn->mn", monkeypatch).copy()
    for more in (1, 84, 85, 500):
        x0, y0 = np.pad(x, ((0, 0), (0, more))), np.pad(y, ((0, more), (0, 0)))
        assert dot(x0, y0, "mk,kn->mn", monkeypatch).tobytes() == short.tobytes()


def test_blocks_are_384_long(monkeypatch: Any) -> None:
    """One that every block restarts: 2^24 + 1 is lost in a chain, not in a block of its own."""
    x, y = np.ones((1, 385), np.float32), np.zeros((385, 1), np.float32)
    y[0], y[383], y[384] = 2.0**24, 1, 1
    assert dot(x, y, "mk,kn->mn", monkeypatch) == np.float32(2.0**24)
    y[0], y[1], y[384] = 2.0**24, 0, 2
    assert dot(x, y, "mk,kn->mn", monkeypatch) == np.float32(2.0**24 + 2)
    y[382:] = [[0], [1], [1]]
    x = np.ones((1, 386), np.float32)
    y = np.concatenate([y, np.ones((1, 1), np.float32)])
    assert dot(x, y, "mk,kn->mn", monkeypatch) == np.float32(2.0**24 + 2)


def test_nan_and_infinity_stay_in_their_row(monkeypatch: Any) -> None:
    x, y = random((20, 50), F32, 1), random((50, 40), F32, 2)
    clean = dot(x, y, "mk,kn->mn", monkeypatch).copy()
    x[3, 7], x[11, 0] = np.nan, np.inf
    found = dot(x, y, "mk,kn->mn", monkeypatch)
    rows = [i for i in range(20) if i not in (3, 11)]
    assert found[rows].tobytes() == clean[rows].tobytes()
    assert np.isnan(found[3]).all() and not np.isfinite(found[11]).any()


KERNELS = [Product(dtypes.float32, dtypes.float32), Product(dtypes.bfloat16, dtypes.float32),
           Row(dtypes.float64, dtypes.float64), Row(dtypes.float16, dtypes.float16),
           Join(dtypes.float32, dtypes.bfloat16), Pair(dtypes.bfloat16, dtypes.float32),
           Packing(4, 8), Packing(2, 4)]  # fmt: skip
FOREIGN = [("aarch64-unknown-linux-gnu", ""), ("riscv64-unknown-linux-gnu", "+m,+a,+f,+d"),
           ("loongarch64-unknown-linux-gnu", "")]  # fmt: skip


@pytest.mark.parametrize("triple, features", FOREIGN)
def test_objects_for_other_machines(triple: str, features: str) -> None:
    machine = foreign(triple, features)
    for kernel in KERNELS:
        module = binding().parse_assembly(kernel.ir("kernel", machine))
        module.verify()
        assert generator(machine).emit_object(module)


def loops(assembly: str) -> dict[str, list[str]]:
    """Of each micro-kernel the instructions of its loop along k."""
    found, function, block = {}, "", ("", [""])
    for line in assembly.splitlines():
        name = re.match(r"([\w.]+):", line)
        if name and name[1].startswith("."):
            block = (name[1], [])
        elif name:
            function = name[1]
        elif line.startswith("\t") and not line.startswith("\t."):
            block[1].append(line)
            jump = re.match(r"\tj\w+\s+(\S+)", line)
            if jump and jump[1] == block[0] and any("fmadd" in x for x in block[1]):
                found[function] = block[1]
    return found


@pytest.mark.skipif(not HERE.is_x86, reason="reads x86 assembly")
@pytest.mark.parametrize("level", ["", "x86-64-v3", "x86-64-v4"])
def test_micro_kernels_keep_everything_in_registers(level: str) -> None:
    machine = find(level)
    for dtype in (dtypes.float32, dtypes.float64):
        module = binding().parse_assembly(Product(dtype, dtype).ir("kernel", machine))
        found = loops(generator(machine).emit_assembly(module))
        tiles = {k: v for k, v in found.items() if k.startswith("tile_")}
        assert len(tiles) == (24 if machine.registers == 32 else 12)
        for name, lines in tiles.items():
            assert not [x for x in lines if "rsp" in x], name


def test_claims() -> None:
    def entry(*held: Any, name: str = "dot") -> Any:
        specs = [spec((2, 2), d) for d in held]
        return SimpleNamespace(
            primitive=SimpleNamespace(name=name), ins=specs[:-1], outs=specs[-1:]
        )

    f32, f64, i32 = dtypes.float32, dtypes.float64, dtypes.int32
    assert claims(entry(f32, f32, f32)) and claims(entry(f64, f64, f64))
    assert claims(entry(*[dtypes.bfloat16] * 3))
    assert claims(entry(i32, i32, i32)) and not claims(entry(f32, f64, f64))
    assert not claims(entry(*[dtypes.bool_] * 3))
    assert not claims(entry(f32, f32, f32, name="add"))
