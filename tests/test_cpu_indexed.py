"""Moves of the CPU compiler: kernels against the meanings, bit by bit, for every layout."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from proa import dtypes
from proa.backends.cpu import indexed, joined, scan
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.memory import address_of
from proa.backends.cpu.target import Target, binding, find, foreign, target
from proa.graph.entry import intern_entry
from proa.graph.spec import spec
from proa.ops.primitive import REGISTRY

PLANNERS = (indexed, joined, scan)
NARROW = ("bfloat16", "float16")


# A planner of one step, and a linker, that know nothing of programs.


class Layout(NamedTuple):
    root: int
    offset: int
    strides: tuple[int, ...]


def code_for(machine: Target) -> Any:
    llvm = binding()
    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=2, reloc="pic", codemodel="default"
    )


class Linked:
    """Kernels as functions, by target and key."""

    def __init__(self) -> None:
        self.found: dict[Any, Any] = {}
        self.kept: list[Any] = []
        self.linkers: dict[Any, Any] = {}

    def __call__(self, kernel: Any, machine: Target) -> Any:
        key = (machine, kernel.key)
        if key not in self.found:
            llvm = binding()
            if machine not in self.linkers:
                code = code_for(machine)
                self.linkers[machine] = (code, llvm.create_lljit_compiler(code))
            code, linker = self.linkers[machine]
            module = llvm.parse_assembly(kernel.ir("kernel", machine))
            module.verify()
            builder = llvm.JITLibraryBuilder().add_object_img(code.emit_object(module))
            builder = builder.add_current_process().export_symbol("kernel")
            tracker = builder.link(linker, f"kernel{len(self.kept)}")
            self.kept.append(tracker)
            types = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
            self.found[key] = ctypes.CFUNCTYPE(None, *types)(tracker["kernel"])
        return self.found[key]


LINKED = Linked()


class Nests:
    """One step on operands that lie as their arrays do; fresh memory has any content."""

    def __init__(self, entry: Any, operands: list[Any]) -> None:
        count = len(operands)
        self.operands = operands
        self.specs = [*entry.ins, *entry.outs]
        step = SimpleNamespace(entry=entry, slots=tuple(range(count)))
        self.draft = SimpleNamespace(steps=[step], first=[count])
        self.actions: list[Any] = []
        self.sizes: dict[int, int] = {}
        for i, out in enumerate(entry.outs):
            self.sizes[count + i] = out.nbytes

    def layout(self, slot: int) -> Layout:
        """Memory is what the array's base is, so that offsets and strides are any."""
        array = self.operands[slot]
        base = array if array.base is None else array.base
        offset = address_of(array) - address_of(base) if array.size else 0
        return Layout(slot, offset, array.strides)

    def temporary(self, nbytes: int) -> int:
        number = len(self.specs) + len(self.sizes)
        self.sizes[number] = nbytes
        return number

    def cast_from(self, layout: Layout, shape: Any, dtype: Any) -> int:
        assert dtype is self.specs[layout.root].dtype and shape == self.specs[layout.root].shape
        made = self.temporary(4 * int(np.prod(shape)))
        self.actions.append(lambda memory: self._widen(memory, layout, dtype, made))
        return made

    def _widen(self, memory: Any, layout: Layout, dtype: Any, made: int) -> None:
        wide = np.array(self.operands[layout.root], dtype=np.float32, order="C")
        memory[made][: wide.nbytes] = wide.reshape(-1).view(np.uint8)

    def cast_into(self, memory: int, dtype: Any, slot: int) -> None:
        assert dtype is dtypes.float32
        self.actions.append(lambda held: self._narrow(held, memory, slot))

    def _narrow(self, held: Any, memory: int, slot: int) -> None:
        of = self.specs[slot]
        narrow = held[memory][: 4 * of.size].view(np.float32).astype(of.dtype.numpy)
        held[slot][: of.nbytes] = narrow.view(np.uint8)

    def run(self, machine: Target, rng: Any) -> list[Any]:
        """Tiles in any order. Nothing is written beside a result."""
        memory: dict[int, Any] = {}
        rooms: dict[int, Any] = {}
        addresses = np.zeros(len(self.specs) + len(self.sizes), np.int64)
        for slot, array in enumerate(self.operands):
            base = array if array.base is None else array.base
            memory[slot], addresses[slot] = base, address_of(base)
        for number, nbytes in self.sizes.items():
            room = np.full(nbytes + 192, 0xA5, np.uint8)
            start = 64 - address_of(room) % 64
            rooms[number] = room, start
            memory[number] = room[start : start + nbytes]
            addresses[number] = address_of(room) + start
        for action in self.actions:
            if type(action) is not Call:
                action(memory)
                continue
            words = [w for place in (*action.operands, *action.results) for w in place]
            call = np.array([*words, *action.table], np.int64)
            scratch = np.full(action.scratch + 64, 0x5A, np.uint8)
            at = address_of(scratch)
            function = LINKED(action.kernel, machine)
            for tile in rng.permutation(action.tiles):
                function(address_of(call), address_of(addresses), int(tile), at + -at % 64)
        found = []
        for number, nbytes in self.sizes.items():
            room, start = rooms[number]
            assert (room[:start] == 0xA5).all() and (room[start + nbytes :] == 0xA5).all()
            if number < len(self.specs):
                of = self.specs[number]
                found.append(memory[number].view(of.dtype.numpy).reshape(of.shape))
        return found


def entry_for(name: str, operands: list[Any], **params: Any) -> Any:
    primitive = REGISTRY[name]
    specs = tuple([spec(a.shape, dtypes.dtype(a.dtype)) for a in operands])
    given = tuple([params[p] for p in primitive.params])
    return intern_entry(primitive.table, primitive, given, specs)


def planned(name: str, operands: list[Any], **params: Any) -> Nests:
    entry = entry_for(name, operands, **params)
    (planner,) = [p for p in PLANNERS if p.claims(entry)]
    nests = Nests(entry, operands)
    planner.plan(nests, 0)
    written = {place[0] for a in nests.actions if type(a) is Call for place in a.results}
    assert len(operands) in written or any(type(a) is not Call for a in nests.actions)
    return nests


def same(a: Any, b: Any) -> bool:
    """Equal bits, signs of zeros included; only what a NaN carries is free."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind in "biu":
        return bool(np.array_equal(a, b))
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    nan = np.isnan(a.astype(wide))
    if not np.array_equal(nan, np.isnan(b.astype(wide))):
        return False
    zero = np.zeros((), a.dtype)
    return np.where(nan, zero, a).tobytes() == np.where(nan, zero, b).tobytes()


def check(name: str, operands: list[Any], machine: Target | None = None, **params: Any) -> None:
    nests = planned(name, operands, **params)
    (found,) = nests.run(machine or target(), np.random.default_rng(0))
    with np.errstate(all="ignore"):
        meant = np.asarray(REGISTRY[name].meaning(*operands, **params))
    meant = meant.astype(found.dtype, copy=False)
    shapes = [(a.shape, a.strides, a.dtype) for a in operands]
    assert same(found, meant), (name, params, shapes, found, meant)


def numbers(rng: Any, shape: Any, name: str) -> Any:
    """Any numbers of a dtype; floats with zeros of both signs, infinities and NaN."""
    dtype = dtypes.dtype(name)
    if dtype.kind == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if dtype.kind == "int":
        info = np.iinfo(dtype.numpy)
        return np.asarray(rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True))
    found = np.asarray(rng.standard_normal(shape)) * 3
    if dtype.kind == "complex":
        return np.asarray(found + 1j * rng.standard_normal(shape)).astype(dtype.numpy)
    hard = rng.choice([0.0, -0.0, np.inf, np.nan, 1e-3], found.shape)
    return np.asarray(np.where(rng.random(found.shape) < 0.1, hard, found)).astype(dtype.numpy)


def laid(rng: Any, array: Any, way: str) -> Any:
    """The same elements in another layout."""
    if way == "turned" and array.ndim > 1:
        return np.array(array.T, order="C").T
    if way == "strided" and array.ndim:
        room = np.zeros(tuple([3 * n + 1 for n in array.shape]), array.dtype)
        view = room[tuple([slice(1, None, 3)] * array.ndim)]
        view[...] = array
        return view
    if way == "flipped" and array.ndim:
        every = tuple([slice(None, None, -1)] * array.ndim)
        return np.array(array[every], order="C")[every]
    if way == "repeated" and array.ndim:
        axis = int(rng.integers(array.ndim))
        one = np.array(np.take(array, [0] if array.shape[axis] else [], axis), order="C")
        return np.broadcast_to(one, array.shape)
    return array


WAYS = ("plain", "turned", "strided", "flipped", "repeated")
MOVED = ("bool", "uint16", "float8_e4m3fn", "bfloat16", "float32", "int64", "complex64",
         "complex128")  # fmt: skip


# Joined.


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("way", WAYS)
def test_concatenate(name: str, way: str) -> None:
    rng = np.random.default_rng(1)
    cases = [((2, 3), (1, 3), 0), ((4, 1), (4, 7), 1), ((0, 3), (5, 3), 0), ((2, 0, 3), (2, 0, 1), 2),
             ((3, 40, 5), (3, 9, 5), 1), ((131,), (77,), 0), ((90, 100), (90, 101), 1),
             ((70, 3), (70, 2), 1)]  # fmt: skip
    for first, second, axis in cases:
        arrays = [laid(rng, numbers(rng, s, name), way) for s in (first, second, first)]
        check("concatenate", arrays, axis=axis)


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("way", WAYS)
def test_pad(name: str, way: str) -> None:
    rng = np.random.default_rng(2)
    cases: list[Any] = [
        ((3,), (1,), (2,), (0,)), ((4, 2), (-1, 0), (2, -1), (1, 0)), ((0,), (2,), (1,), (3,)),
        ((5, 6), (-2, 3), (-1, 4), (0, 2)), ((4,), (-9,), (7,), (1,)), ((4,), (5,), (-6,), (0,)),
        ((2, 3, 9, 11), (0, 0, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0)), ((300, 90), (3, 5), (0, 1), (0, 0)),
        ((3, 0), (0, 0), (0, 0), (0, 0)), ((), (), (), ()), ((4, 1), (0, -1), (0, 0), (0, 0)),
        ((7,), (-3,), (-3,), (2,)), ((2, 3), (-1, -1), (-1, -1), (3, 3)),
    ]  # fmt: skip
    for shape, low, high, interior in cases:
        operands = [laid(rng, numbers(rng, shape, name), way), numbers(rng, (), name)]
        check("pad", operands, low=low, high=high, interior=interior)


@pytest.mark.parametrize("l3_bytes", [64, 1 << 40])
def test_large_copies(l3_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles; past the caches, or not."""
    small = target()._replace(l3_bytes=l3_bytes)
    monkeypatch.setattr(joined, "target", lambda: small)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1500, 700)).astype(np.float32)
    check("concatenate", [x, x.T.copy().T, x[::-1]], axis=0)
    check("concatenate", [x, x[:, :3]], axis=1)
    check("concatenate", [np.broadcast_to(x[:1], (9000, 700)), x[:, ::-1]], axis=0)
    check("pad", [x, np.array(7, np.float32)], low=(1, 3), high=(0, 2), interior=(0, 0))
    for name in ("int8", "float64", "complex128"):
        long = numbers(rng, (3, 90001), name)
        check("concatenate", [long, long[:, 1:8], long[:, 5:]], axis=1)
        check("pad", [long[0], numbers(rng, (), name)], low=(70001,), high=(13,), interior=(0,))


# Indexed.


def indices(rng: Any, shape: Any, size: int, name: str) -> Any:
    """Some outside on both sides, the largest numbers of the dtype too."""
    info = np.iinfo(name)
    found = rng.integers(max(-2, info.min), min(size + 2, info.max), shape, endpoint=True)
    found = np.where(rng.random(shape) < 0.03, info.max, found).astype(name)
    return np.where(rng.random(shape) < 0.03, info.min, found).astype(name)


GATHERED: list[Any] = [  # shape of x, of indices, axes, batch
    ((5, 3), (4,), (0,), 0), ((4, 2, 5), (3, 2), (0, 2), 0), ((2, 4), (2, 3), (1,), 1),
    ((2, 3, 4, 2), (2, 1, 3), (2,), 1), ((4,), (), (0,), 0), ((0, 2), (3,), (0,), 0),
    ((5,), (0, 2), (0,), 0), ((2, 3, 4), (2, 3), (2,), 2), ((7, 130), (9,), (0,), 0),
    ((6, 5, 67), (2, 3), (1,), 0), ((9, 33), (9, 12), (1,), 1), ((3, 4, 5), (3, 2), (1, 2), 1),
    ((5, 4, 6), (8,), (2,), 0), ((1, 1), (1,), (0,), 0), ((3, 0), (4,), (0,), 0),
    ((40, 3), (300,), (0,), 0), ((4, 5, 3, 3), (7,), (1, 2), 0), ((2, 50), (2, 200), (1,), 1),
]  # fmt: skip
INDEX_DTYPES = ("int64", "int32", "uint8", "int8", "uint64", "int16", "uint16", "uint32")


def index_cases(seed: int, name: str, way: str, index_way: str) -> Any:
    """(x, updates or what a gather gives, index tensors, parameters)."""
    rng = np.random.default_rng(seed)
    for number, (shape, index_shape, axes, batch) in enumerate(GATHERED):
        x = laid(rng, numbers(rng, shape, name), way)
        rest = [n for i, n in enumerate(shape) if i >= batch and i not in axes]
        updates = laid(rng, numbers(rng, (*index_shape, *rest), name), index_way)
        given = [
            laid(
                rng, indices(rng, index_shape, shape[a], INDEX_DTYPES[(number + k) % 8]), index_way
            )
            for k, a in enumerate(axes)
        ]
        yield x, updates, given, {"axes": axes, "batch": batch}


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("way", WAYS)
def test_gather(name: str, way: str) -> None:
    for index_way in WAYS:
        for x, _, given, where in index_cases(4, name, way, index_way):
            check("gather", [x, *given], **where)


@pytest.fixture(params=[1, 4])
def cores(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """As many tiles as for so many cores, also where there is little work."""
    many = target()._replace(cores=request.param)
    monkeypatch.setattr(indexed, "target", lambda: many)
    monkeypatch.setattr(indexed, "TILE_BYTES", -1)
    return int(request.param)


def modes_of(name: str) -> tuple[str, ...]:
    kind = dtypes.dtype(name).kind
    if kind == "complex" or name.startswith("float8"):
        return ("set",)
    return ("set", "max", "min") if kind == "bool" else ("set", "add", "max", "min")


SCATTERED = ("bool", "uint8", "int16", "int64", "float8_e5m2", "bfloat16", "float16", "float32",
             "float64", "complex64", "complex128")  # fmt: skip


@pytest.mark.parametrize("name", SCATTERED)
@pytest.mark.parametrize("way", WAYS)
def test_scatter(name: str, way: str, cores: int) -> None:
    for index_way in WAYS:
        for x, updates, given, where in index_cases(5, name, way, index_way):
            for mode in modes_of(name):
                check("scatter", [x, updates, *given], **where, mode=mode)


@pytest.mark.parametrize("name", INDEX_DTYPES)
def test_index_dtypes(name: str) -> None:
    """Axes that are longer than the dtype's range, or as long; negative numbers are outside."""
    rng = np.random.default_rng(6)
    for size in (3, 127, 128, 256, 300, 70000):
        x, updates = numbers(rng, (size,), "int32"), numbers(rng, (500,), "int32")
        info = np.iinfo(name)
        rows = rng.integers(max(info.min, -size), min(info.max, 2 * size), 500).astype(name)
        check("gather", [x, rows], axes=(0,), batch=0)
        check("scatter", [x, updates, rows], axes=(0,), batch=0, mode="set")


def test_embedding_gradients(cores: int) -> None:
    """Many updates of few rows: the order of every sum."""
    rng = np.random.default_rng(6)
    for shape, count in (((50, 384), 400), ((300, 7), 900), ((1000,), 5000)):
        x = np.broadcast_to(np.float32(0), shape)
        updates = rng.standard_normal((count, *shape[1:])).astype(np.float32)
        rows = (rng.random(count) ** 2 * shape[0]).astype(np.int64)
        check("scatter", [x, updates, rows], axes=(0,), batch=0, mode="add")


def test_large_gathers() -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((900, 384)).astype(np.float32)
    rows = rng.integers(-1, 901, 2048)
    check("gather", [x, rows], axes=(0,), batch=0)
    check("gather", [x[:, ::2], rows], axes=(0,), batch=0)
    check("gather", [x, rng.integers(0, 384, (900, 50))], axes=(1,), batch=1)
    check("gather", [x.reshape(-1), rng.integers(0, x.size, 30000)], axes=(0,), batch=0)
    check("gather", [x.reshape(2, -1), np.array([1, 5, 0])], axes=(0,), batch=0)


WINDOWS: list[Any] = [  # shape, axes, sizes, strides
    ((5,), (0,), (2,), (1,)), ((4, 7, 3), (1,), (3,), (2,)), ((4, 3, 6), (0, 2), (1, 6), (3, 1)),
    ((4, 0), (1,), (0,), (1,)), ((4, 2), (1,), (0,), (1,)), ((300, 200), (0, 1), (250, 90), (1, 2)),
    ((9, 8, 7), (0, 1, 2), (3, 1, 2), (2, 5, 6)),
]  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("way", WAYS)
def test_windows(name: str, way: str) -> None:
    rng = np.random.default_rng(8)
    for shape, axes, sizes, strides in WINDOWS:
        small = list(shape)
        for a, n in zip(axes, sizes, strict=True):
            small[a] = n
        for low, high in ((-3, 9), (-(2**62), 2**62)):
            x, update = (laid(rng, numbers(rng, s, name), way) for s in (shape, small))
            starts = [np.asarray(rng.integers(low, high)) for _ in axes]
            check("dynamic_slice", [x, *starts], axes=axes, sizes=sizes, strides=strides)
            check("dynamic_update", [x, update, *starts], axes=axes, strides=strides)


# Scans.

SUMMED = ("int8", "uint16", "int64", "bfloat16", "float16", "float32", "float64")


@pytest.mark.parametrize("name", SUMMED)
@pytest.mark.parametrize("way", WAYS)
def test_cumulative(name: str, way: str) -> None:
    rng = np.random.default_rng(9)
    shapes: list[Any] = [(5,), (1,), (0,), (2, 3, 4), (2, 0), (0, 3), (37, 70), (9, 1, 130), (3, 2),
                         (100, 11), (4, 300, 5)]  # fmt: skip
    for shape in shapes:
        x = laid(rng, numbers(rng, shape, name), way)
        for axis in range(len(shape)):
            for reverse in (False, True):
                for op in ("cumsum", "cumprod"):
                    check(op, [x], axis=axis, reverse=reverse)


def test_large_scans() -> None:
    rng = np.random.default_rng(10)
    for name in ("float32", "bfloat16"):
        x = numbers(rng, (300, 3000), name)
        for y in (x, x.T, x[::-2]):
            for axis in (0, 1):
                check("cumsum", [y], axis=axis, reverse=False)
                check("cumprod", [y], axis=axis, reverse=False)
    check("cumsum", [rng.standard_normal(200000)], axis=0, reverse=True)


# Keys and claims.


def keys_of(size: int) -> list[str]:
    """Of kernels for some operations on operands of about this size."""
    rng = np.random.default_rng(12)
    x, rows = numbers(rng, (size, 2 * size), "float32"), rng.integers(0, size, size + 3)
    updates = numbers(rng, (size + 3, 2 * size), "float32")
    where: dict[str, Any] = {"axes": (0,), "batch": 0}
    plans = [
        planned("gather", [x, rows], **where),
        planned("scatter", [x, updates, rows], **where, mode="add"),
        planned("concatenate", [x, x.T.copy().T], axis=0),
        planned("pad", [x, np.zeros((), np.float32)], low=(1, 2), high=(3, 0), interior=(0, 0)),
        planned("cumsum", [x], axis=0, reverse=False),
        planned("cumsum", [x], axis=1, reverse=True),
        planned("dynamic_slice", [x, np.asarray(1)], axes=(1,), sizes=(size,), strides=(1,)),
    ]
    return [a.kernel.key for plan in plans for a in plan.actions]


def test_sizes_are_no_part_of_a_kernel() -> None:
    assert keys_of(9) == keys_of(31) == keys_of(400)


def test_what_is_claimed() -> None:
    row = np.zeros(3, np.int64)
    for name, mode in (
        ("complex64", "set"),
        ("float8_e5m2", "set"),
        ("float32", "add"),
        ("bool", "max"),
    ):
        x = np.zeros(3, dtypes.dtype(name).numpy)
        assert indexed.claims(entry_for("scatter", [x, x, row], axes=(0,), batch=0, mode=mode))
    entry = entry_for("cumsum", [row], axis=0, reverse=False)
    assert scan.claims(entry) and not indexed.claims(entry) and not joined.claims(entry)


# Other machines.


def kernels_of_every_kind() -> list[Any]:
    rng = np.random.default_rng(11)
    found: dict[str, Any] = {}

    def collect(name: str, operands: list[Any], **params: Any) -> None:
        for a in planned(name, operands, **params).actions:
            if type(a) is Call:
                found.setdefault(" ".join(map(str, a.kernel[:3])), a.kernel)

    for name in ("uint8", "bfloat16", "float16", "float32", "complex128"):
        for way in ("plain", "strided", "repeated"):
            for x, updates, given, where in index_cases(12, name, way, way):
                collect("gather", [x, *given], **where)
                for mode in modes_of(name):
                    collect("scatter", [x, updates, *given], **where, mode=mode)
            x = laid(rng, numbers(rng, (30, 40), name), way)
            for axis in (0, 1):
                collect("concatenate", [x, x], axis=axis)
                if name != "complex128":
                    collect("cumsum", [x], axis=axis, reverse=False)
            start = np.asarray(3)
            collect("dynamic_slice", [x, start], axes=(0,), sizes=(4,), strides=(2,))
            collect("dynamic_update", [x, x[:4], start], axes=(0,), strides=(2,))
    return list(found.values())


MACHINES: list[Any] = [
    ("x86-64-v2", None), ("x86-64-v3", None), ("x86-64-v4", None), ("", None),
    ("aarch64-unknown-linux-gnu", ""), ("riscv64-unknown-linux-gnu", "+m,+a,+f,+d"),
    ("loongarch64-unknown-linux-gnu", "+d"),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m[0] or "native")
def test_emitted_for(machine: Any) -> None:
    """Every kernel becomes an object of every machine. What code is, its key says."""
    name, features = machine
    if features is None and not target().is_x86:
        pytest.skip("for x86-64")
    made = find(name) if features is None else foreign(name, features)
    code = code_for(made)
    for kernel in kernels_of_every_kind():
        module = binding().parse_assembly(kernel.ir("kernel", made))
        module.verify()
        assert code.emit_object(module), kernel.key


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_the_same_bits_on_other_processors(level: str) -> None:
    if not target().is_x86 or target().vector_bytes < find(level).vector_bytes:
        pytest.skip(f"for {level}")
    rng = np.random.default_rng(13)
    for name in ("float32", "bfloat16"):
        for x, updates, given, where in index_cases(14, name, "plain", "turned"):
            check("gather", [x, *given], find(level), **where)
            for mode in modes_of(name):
                check("scatter", [x, updates, *given], find(level), **where, mode=mode)
        for axis in (0, 1):
            x = numbers(rng, (90, 101), name)
            check("cumsum", [x], find(level), axis=axis, reverse=True)
            check("concatenate", [x, x], find(level), axis=axis)
