"""The checked mode of `cpu`: what leaves its memory is caught, in every family; all else is as ever."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import proa as pa
from proa import dtypes
from proa.backends.cpu import checked
from proa.backends.cpu.engine import Engine, engine
from proa.backends.cpu.kernel import Call, entered
from proa.backends.cpu.memory import address_of
from proa.backends.cpu.objects import emitted, generator
from proa.backends.cpu.product_row import Row
from proa.backends.cpu.product_walk import TABLE
from proa.backends.cpu.target import find, foreign
from proa.config import config
from proa.conformance.cases import cases_of, run_on
from proa.errors import ExecutionError
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Input, Role
from proa.graph.spec import spec
from proa.ops.functions import exp
from proa.ops.movement import permute, reshape, slice_
from proa.ops.primitive import REGISTRY, apply
from proa.ops.window import geometry
from tests import test_cpu_indexed as moves
from tests import test_cpu_product as products
from tests.test_cpu import CPU, PRIMITIVES, compiled, on

ROOT = Path(__file__).parents[1]
# Of kernels in general: other keys, other processes; what is measured at length elsewhere; and
# packed weights, which this mode does not make.
OTHERS = ["test_cpu_checked.py", "test_cpu_threads.py", "test_cpu_accuracy.py",
          "test_cpu_objects.py", "test_cpu_packed.py"]  # fmt: skip
FILES = sorted(p.name for p in (ROOT / "tests").glob("test_cpu*.py") if p.name not in OTHERS)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = config.cache_dir
    config.cache_dir = tmp_path_factory.mktemp("kernels")
    yield
    config.cache_dir = before


@pytest.fixture(autouse=True)
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cpu_checked", True)


# One real call of every family.


class Made(NamedTuple):
    graph: Graph
    arrays: list[Any]


def made(body: Callable[..., Any], *arrays: Any) -> Made:
    builder = Builder([Input(spec(a.shape, dtypes.dtype(a.dtype)), Role.DATA) for a in arrays])
    with use_sink(builder):
        found = body(*builder.input_values())
    return Made(builder.graph([found]), list(arrays))


def named(name: str, **params: Any) -> Callable[..., Any]:
    return lambda *values: apply(REGISTRY[name], list(values), **params)


def floats(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtypes.dtype(dtype).numpy)


def ints(*shape: int, below: int) -> Any:
    """All numbers from 0; where one of them is no index, the kernel must not use it."""
    count = int(np.prod(shape))
    return (5 * np.arange(count) % below).reshape(shape).astype(np.int64)


def softmax(x: Any) -> Any:
    """Two phases, and a value that is kept in scratch between them."""
    powers = exp(x)
    return powers / reshape(named("sum", axes=(1,))(powers), shape=(x.shape[0], 1))


def dot(a: str, b: str, out: str) -> Callable[..., Any]:
    return named("dot", a=tuple(a), b=tuple(b), out=tuple(out))


CASES: dict[str, Callable[[], Made]] = {
    "loop unit": lambda: made(lambda x, y: x * 2.0 + y, floats(7, 53), floats(7, 53)),
    "loop strided": lambda: made(
        lambda x: exp(slice_(x, starts=(0, 0), stops=(5, 59), strides=(1, 2))), floats(5, 59)
    ),
    "loop gather": lambda: made(lambda x: permute(x, axes=(1, 0)) + 1.0, floats(70, 45)),
    "rows": lambda: made(named("sum", axes=(1,)), floats(9, 300)),
    "rows kept": lambda: made(softmax, floats(9, 300)),
    "partial": lambda: made(named("sum", axes=(0, 1)), floats(300, 2000)),
    "columns": lambda: made(named("max", axes=(0,)), floats(700, 41)),
    "product": lambda: made(dot("ik", "kj", "ij"), floats(130, 390), floats(390, 70)),
    "product double": lambda: made(
        dot("ki", "jk", "ij"), floats(400, 130, dtype="float64"), floats(50, 400, dtype="float64")
    ),
    "product small": lambda: made(dot("ik", "kj", "ij"), floats(5, 7), floats(7, 9)),
    "product batched": lambda: made(
        dot("bik", "bkj", "bij"), floats(3, 9, 20), floats(3, 20, 33)
    ),
    "product half": lambda: made(
        dot("ik", "kj", "ij"), floats(33, 50, dtype="bfloat16"), floats(50, 20, dtype="bfloat16")
    ),
    "gemv": lambda: made(dot("k", "kj", "j"), floats(500), floats(500, 130)),
    "gemv turned": lambda: made(dot("jk", "k", "j"), floats(130, 500), floats(500)),
    "gather": lambda: made(
        named("gather", axes=(0,), batch=0), floats(11, 40), ints(24, below=12)
    ),
    "gather elements": lambda: made(
        named("gather", axes=(1,), batch=0), floats(11, 40), ints(82, below=41)
    ),
    "scatter": lambda: made(
        named("scatter", axes=(0,), batch=0, mode="add"), floats(11, 40), floats(24, 40),
        ints(24, below=12),
    ),
    "scatter set": lambda: made(
        named("scatter", axes=(0,), batch=0, mode="set"), floats(11), floats(24), ints(24, below=12)
    ),
    "dynamic slice": lambda: made(
        named("dynamic_slice", axes=(0,), sizes=(5,), strides=(2,)), floats(9, 30),
        np.array(1, np.int64),
    ),
    "dynamic update": lambda: made(
        named("dynamic_update", axes=(0,), strides=(1,)), floats(9, 30), floats(4, 30),
        np.array(9, np.int64),
    ),
    "concatenate": lambda: made(named("concatenate", axis=1), floats(6, 30), floats(6, 11)),
    "pad": lambda: made(
        named("pad", low=(1, 2), high=(2, 3), interior=(0, 0)), floats(6, 30), floats()
    ),
    "convolution": lambda: made(
        named("conv", **geometry(2, padding=(1, 1))), floats(2, 3, 17, 18), floats(7, 3, 3, 3)
    ),
    "convolution, few places": lambda: made(
        named("conv", **geometry(2)), floats(4, 3, 7, 8), floats(7, 3, 3, 3)
    ),
    "product of integers": lambda: made(
        dot("ik", "kj", "ij"), ints(13, 50, below=99), ints(50, 7, below=99)
    ),
    "argmax rows": lambda: made(named("argmax", axes=(1,)), floats(9, 300)),
    "argmax columns": lambda: made(named("argmax", axes=(0,)), floats(30, 41)),
    "cumsum": lambda: made(named("cumsum", axis=0, reverse=False), floats(20, 40)),
    "cumsum chains": lambda: made(named("cumsum", axis=1, reverse=False), floats(20, 40)),
    "cumsum half": lambda: made(
        named("cumsum", axis=0, reverse=False), floats(20, 40, dtype="bfloat16")
    ),
}  # fmt: skip


def product(*sizes: str, **steps: int) -> list[tuple[int, tuple[int, ...], int]]:
    """One more of a size, in all and in a tile; of the batch its only axis too. Longer steps."""
    word = TABLE.index
    found = [
        (0, (word(n), word(f"tile_{n}"), *[len(TABLE)] * (n == "batch")), 1) for n in sizes
    ]  # fmt: skip
    return found + [(0, (word(name),), more) for name, more in steps.items()]


# By case: the number of a call, words of its table, and what is added to them.
DAMAGES: dict[str, list[tuple[int, tuple[int, ...], int]]] = {
    "loop unit": [(0, (1, 3), 1)],
    "loop strided": [(0, (1, 3), 1), (0, (9,), 4)],
    "loop gather": [(0, (1, 3), 1), (0, (9,), 4), (0, (12,), 4), (0, (14,), 4)],
    "rows": [(0, (1, 3), 1), (0, (11,), 4), (0, (12,), 4)],
    "rows kept": [(0, (1, 3), 1), (0, (11,), 4), (0, (12,), 4)],
    "partial": [(0, (1,), 1), (1, (0,), 1), (1, (1,), 1)],
    "columns": [(0, (1,), 1), (0, (2, 6), 1), (0, (11,), 4), (1, (0,), 1), (1, (1,), 1)],
    "product": product("rows", "columns", "depth", a_row=4, b_depth=4, c_row=4),
    "product double": product("rows", "columns", "depth", a_depth=8, b_column=8, c_row=8),
    "product small": product("rows", "columns", "depth", a_row=4, b_depth=4, c_row=4),
    "product batched": [*product("batch", b_depth=4), (0, (len(TABLE) + 1,), 4),
                        (0, (len(TABLE) + 2,), 4), (0, (len(TABLE) + 3,), 4)],
    "product half": product("rows", "depth", through=2, c_row=2),
    "gemv": product("columns", "depth", b_depth=4),
    "gemv turned": product("columns", "depth", b_column=4),
    "gather": [(0, (6,), 1), (0, (7,), 4), (0, (2, 3), 1)],
    "gather elements": [(0, (6,), 1), (0, (8,), 4), (0, (2, 3), 1)],
    "scatter": [(1, (6, 7), 1), (1, (8,), 4), (1, (11,), 1)],
    "scatter set": [(1, (6, 7), 1), (1, (8,), 4), (1, (11,), 1)],
    "dynamic slice": [(0, (8,), 1), (0, (2, 3), 1)],
    "dynamic update": [(1, (8,), 1), (1, (9,), 4), (1, (2, 3), 1)],
    "concatenate": [(0, (2, 3), 1), (1, (10,), 4), (1, (11,), 4)],
    "pad": [(1, (2, 3), 1), (4, (10,), 4)],
    "convolution": [(-2, (2, 3), 1), *[(-1, *d[1:]) for d in product("columns", b_depth=4)]],
    "convolution, few places": [
        *[(-2, *d[1:]) for d in product("columns", b_depth=4)], (-1, (2, 3), 1)
    ],
    "product of integers": [(-1, (1, 3), 1)],
    "argmax rows": [(0, (7,), 1), (0, (5,), 4)],
    "argmax columns": [(0, (7,), 1), (0, (8,), 4), (0, (2, 3), 1)],
    "cumsum": [(0, (7,), 1), (0, (8,), 4), (0, (9,), 4)],
    "cumsum chains": [(0, (7,), 1), (0, (8,), 4), (0, (9,), 4)],
    "cumsum half": [(0, (7,), 1), (0, (9,), 2), (0, (2, 3), 1)],
}  # fmt: skip


def calls_of(executable: Any) -> list[tuple[Call, int]]:
    """Every call, and where its words begin."""
    found, at = [], 0
    for call in executable.nests.actions:
        if type(call) is Call:
            found.append((call, at))
            at += 2 * (len(call.operands) + len(call.results)) + len(call.table)
    return found


def fault(case: Made, executable: Any, words: list[int], more: int) -> str:
    """What is said of a run where `more` is added to some words, which are mended after it."""
    for word in words:
        executable.words[word] += more
    try:
        on(case.graph, case.arrays, executable)
    except ExecutionError as error:
        return str(error)
    finally:
        for word in words:
            executable.words[word] -= more
    return ""


@pytest.mark.parametrize("name", CASES)
def test_family(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of a call that stays in its memory are as ever. One element before an operand or
    result, and one beyond its end, is caught; so are sizes and strides that reach too far."""
    case = CASES[name]()
    executable = compiled(case.graph)
    found = on(case.graph, case.arrays, executable)
    with monkeypatch.context() as unchecked:
        unchecked.setattr(config, "cpu_checked", False)
        plain = on(case.graph, case.arrays)
    for a, b in zip(found, plain, strict=True):
        assert a.tobytes() == b.tobytes()

    calls, reached = calls_of(executable), {}
    assert executable.report["host_calls"] == 0
    for call, at in calls:
        # The packed copy of a row's second operand has no bytes here; if there may be none, that
        # operand stands in its place.
        count, packed = len(call.operands), 2 if type(call.kernel) is Row else -1
        for k, (memory, _) in enumerate((*call.operands, *call.results)):
            if k == packed:
                continue
            shown = 2 if packed == 2 and k == 1 and call.operands[1] == call.operands[2] else k
            which = f"operand {shown}" if k < count else f"result {k - count}"
            size = (
                executable.nests.specs[memory].dtype.itemsize
                if memory < len(executable.nests.specs)
                else 4
            )
            for more, where in ((size, "beyond the end of"), (-size, "before")):
                text = fault(case, executable, [at + 2 * k + 1], more)
                assert not text or f"{size} {where} {which} (" in text, text
                reached[memory, where] = reached.get((memory, where)) or bool(text)
    assert all(reached.values()), reached
    for number, words, more in DAMAGES[name]:
        call, at = calls[number]
        first = at + 2 * (len(call.operands) + len(call.results))
        text = fault(case, executable, [first + w for w in words], more)
        assert "beyond the end" in text or "before" in text, (number, words)
    for a, b in zip(on(case.graph, case.arrays, executable), plain, strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operation, the user's line, the kernel, the operand, by how many bytes."""
    from proa.backends.cpu import rows

    real = rows.contiguous
    monkeypatch.setattr(config, "device", "cpu")

    def damaged(shape: Any, itemsize: int) -> Any:
        return tuple([s + 4 for s in real(shape, itemsize)])

    x = pa.asarray(np.ones((40, 30), np.float32), device="cpu")
    y = pa.asarray(np.ones((30, 1), np.float32), device="cpu")
    monkeypatch.setattr(rows, "contiguous", damaged)
    with pytest.raises(ExecutionError) as error:
        pa.exp(x + y.T).numpy()
    text = str(error.value)
    assert text.startswith(("[exp] given a kernel [loop", "[add] given a kernel [loop"))
    assert "recorded at " in text and "test_cpu_checked.py:" in text
    assert "beyond the end of result 0 (4800 bytes), expected" in text


# The pass itself, on text that no family writes today.


class Text:
    """A kernel as it stands; its operand is %p0, its result %p1."""

    def __init__(self, body: str, head: str = "", foot: str = "") -> None:
        self.body, self.head, self.foot = body, head, foot
        self.key = f"text {head} {body}"

    def ir(self, name: str, machine: Any) -> str:
        lines = [*entered(name, 2), self.body, "  ret void", "}", self.foot]
        return "\n".join([f'target triple = "{machine.triple}"', self.head, *lines])


def run(kernel: Any, *table: int) -> tuple[str, Any]:
    """What is said of a run on 16 floats, and the result, which lies among zeros."""
    source, room = np.arange(1, 17, dtype=np.float32), np.zeros(48, np.float32)
    call = Call(kernel, ((0, 0),), ((1, 0),), table, 1, 0, 0)
    words = np.array([0, 0, 1, 0, *table], np.int64)
    bases = np.array([address_of(source), address_of(room) + 64], np.int64)
    at = engine().find(kernel)
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(at)
    memories = [(int(b), 64) for b in bases]
    ranges = checked.ranges(call, address_of(words), address_of(bases), 2, 0, memories)
    given = (address_of(words), address_of(bases), 0, 0)
    found = checked.guard.run(ranges, lambda: function(*given))
    assert not room[:16].any() and not room[32:].any()
    return found.told(ranges) if found else "", room[16:32]


MASKED = Text("""
  %at = load i64, ptr %table
  %bits.at = getelementptr i64, ptr %table, i64 1
  %bits = load i64, ptr %bits.at
  %short = trunc i64 %bits to i8
  %mask = bitcast i8 %short to <8 x i1>
  %from = getelementptr float, ptr %p0, i64 %at
  %to = getelementptr float, ptr %p1, i64 %at
  %x = call <8 x float> @llvm.masked.load.v8f32.p0(ptr align 4 %from, <8 x i1> %mask, <8 x float> zeroinitializer)
  call void @llvm.masked.store.v8f32.p0(<8 x float> %x, ptr align 4 %to, <8 x i1> %mask)
""", foot="""
declare <8 x float> @llvm.masked.load.v8f32.p0(ptr, <8 x i1>, <8 x float>)
declare void @llvm.masked.store.v8f32.p0(<8 x float>, ptr, <8 x i1>)
""")  # fmt: skip

SCATTERED = Text("""
  %at = load i64, ptr %table
  %bits.at = getelementptr i64, ptr %table, i64 1
  %bits = load i64, ptr %bits.at
  %short = trunc i64 %bits to i4
  %mask = bitcast i4 %short to <4 x i1>
  %from = getelementptr float, ptr %p0, <4 x i64> <i64 0, i64 15, i64 -1, i64 16>
  %to = getelementptr float, ptr %p1, <4 x i64> <i64 15, i64 0, i64 1, i64 2>
  %moved = getelementptr float, <4 x ptr> %to, i64 %at
  %x = call <4 x float> @llvm.masked.gather.v4f32.v4p0(<4 x ptr> align 4 %from, <4 x i1> %mask, <4 x float> zeroinitializer)
  call void @llvm.masked.scatter.v4f32.v4p0(<4 x float> %x, <4 x ptr> align 4 %moved, <4 x i1> %mask)
""", foot="""
declare <4 x float> @llvm.masked.gather.v4f32.v4p0(<4 x ptr>, <4 x i1>, <4 x float>)
declare void @llvm.masked.scatter.v4f32.v4p0(<4 x float>, <4 x ptr>, <4 x i1>)
""")  # fmt: skip

BLOCK = Text(
    """
  %size = load i64, ptr %table
  call void @llvm.prefetch.p0(ptr null, i32 0, i32 3, i32 1)
  call void @llvm.memcpy.p0.p0.i64(ptr align 4 %p1, ptr %p0, i64 %size, i1 false)
  %half = getelementptr i8, ptr %p1, i64 32
  call void @llvm.memset.p0.i64(ptr %half, i8 0, i64 32, i1 false)
""",
    foot="""
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
""",
)

OWN = Text(
    """
  %at = load i64, ptr %table
  %stack = alloca [4 x float], align 16
  store [4 x float] zeroinitializer, ptr %stack
  %constant = getelementptr float, ptr @numbers, i64 %at
  %x = load float, ptr %constant
  %beside.at = getelementptr i64, ptr %table, i64 1
  %beside = load i64, ptr %beside.at
  %place = getelementptr float, ptr %stack, i64 %beside
  store float %x, ptr %place
  %again = call float @first(ptr %place)
  store float %again, ptr %p1, align 4, !nontemporal !0
""",
    "@numbers = internal constant [2 x float] [float 5.0, float 6.0]",
    """
define internal float @first(ptr %place) {
  %own = alloca i8, i64 4
  %x = load float, ptr %place
  store float %x, ptr %own
  %y = load float, ptr %own
  ret float %y
}
!0 = !{i32 1}
""",
)


def test_lanes_that_are_off_do_not_count() -> None:
    text, result = run(MASKED, 12, 0b00001111)
    assert not text and (result[12:] == [13, 14, 15, 16]).all()
    assert not run(MASKED, -3, 0b11111000)[0] and not run(MASKED, 1 << 40, 0)[0]
    assert (
        run(MASKED, 12, 0b00011010)[0]
        == "reads 16 bytes, as far as 4 beyond the end of operand 0 (64 bytes)"
    )
    assert (
        run(MASKED, -3, 0b00001100)[0] == "reads 8 bytes, as far as 4 before operand 0 (64 bytes)"
    )
    text, result = run(SCATTERED, 0, 0b0011)
    assert not text and (result[[15, 0]] == [1, 16]).all()
    assert "reads 4 bytes, as far as 4 before operand 0" in run(SCATTERED, 0, 0b0111)[0]
    assert "reads 4 bytes, as far as 4 beyond the end of operand 0" in run(SCATTERED, 0, 0b1000)[0]
    text, result = run(SCATTERED, 1, 0b0011)
    assert "writes 4 bytes, as far as 4 beyond the end of result 0" in text and result[1] == 16


def test_blocks() -> None:
    """All bytes or none."""
    text, result = run(BLOCK, 64)
    assert not text and (result[:8] == np.arange(1, 9)).all() and not result[8:].any()
    text, result = run(BLOCK, 65)
    assert text.startswith(("reads 65 bytes, as far as 1 ", "writes 65 bytes, as far as 1 "))
    assert not result.any()


def test_stack_and_constants() -> None:
    assert run(OWN, 1, 3)[0] == "" and run(OWN, 1, 3)[1][0] == 6
    assert run(OWN, 2, 3)[0].startswith("reads 4 bytes")
    assert run(OWN, 0, 4)[0].startswith("writes 4 bytes")
    assert checked.guard.state[0] == 4  # what a kernel noted is forgotten: words, bases, p0, p1


def test_what_cannot_be_checked_is_refused() -> None:
    for line in ("%x = atomicrmw add ptr %p1, i64 1 monotonic", "store volatile i8 0, ptr %p1",
                 "%x = load atomic i64, ptr %p1 acquire, align 8", "call void @unknown(ptr %p1)",
                 'call void asm sideeffect "", "r,~{memory}"(ptr %p1)'):  # fmt: skip
        with pytest.raises(ExecutionError, match="an access that can be checked"):
            run(Text(f"  {line}", foot="declare void @unknown(ptr)"))
    reads = Text("  store i8 0, ptr %p0")
    assert run(reads)[0] == "writes 1 bytes of operand 0, which it may only read"


def test_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine().find(OWN) == engine().table[f"checked {OWN.key}"]
    monkeypatch.setattr(config, "cpu_checked", False)
    assert engine().find(OWN) != engine().table[f"checked {OWN.key}"]


def test_other_processors() -> None:
    """The pass reads what is written for any target."""
    for machine in (find("x86-64-v2"), foreign("aarch64-unknown-linux-gnu")):
        for name in ("rows kept", "product", "gather"):
            kernel = calls_of(compiled(CASES[name]().graph))[0][0].kernel
            assert emitted(checked.Checked(kernel), machine, generator(machine))


# The laws of the families.

ENGINES: dict[Any, Engine] = {}
FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


def guarded(call: Call, machine: Any, bases: Any, sizes: Any, tiles: Any) -> None:
    """A call of the laws that run kernels themselves. `sizes` are the bytes of each memory."""
    if machine not in ENGINES:
        ENGINES[machine] = Engine(machine)
    places = (*call.operands, *call.results)
    words = np.array([*[w for p in places for w in p], *call.table], np.int64)
    scratch = np.full(call.scratch + 64, 0x5A, np.uint8)
    at = address_of(scratch) + -address_of(scratch) % 64
    function = FUNCTION(ENGINES[machine].find(call.kernel))
    where = address_of(words), address_of(bases)
    memories = [(int(bases[m]), sizes[m]) for m, _ in places]
    ranges = checked.ranges(call, *where, len(bases), at, memories)
    found = checked.guard.run(ranges, lambda: [function(*where, int(t), at) for t in tiles])
    assert found is None, (call, found.told(ranges))


def run_moves(nests: Any, machine: Any, rng: Any) -> list[Any]:
    """`Nests.run` of the laws of moves."""
    memory: dict[int, Any] = {}
    for slot, array in enumerate(nests.operands):
        memory[slot] = array if array.base is None else array.base
    for number, nbytes in nests.sizes.items():
        memory[number] = np.full(nbytes, 0xA5, np.uint8)
    bases = np.zeros(len(nests.specs) + len(nests.sizes), np.int64)
    for number, array in memory.items():
        bases[number] = address_of(array)
    sizes = {number: array.nbytes for number, array in memory.items()}
    for action in nests.actions:
        if type(action) is Call:
            guarded(action, machine, bases, sizes, rng.permutation(action.tiles))
        else:
            action(memory)
    results = [(n, nests.specs[n]) for n in nests.sizes if n < len(nests.specs)]
    return [memory[n].view(of.dtype.numpy).reshape(of.shape) for n, of in results]


class Products(products.Nests):
    """What the laws of products plan in, where the size of every memory is known."""

    def __init__(self, operands: list[Any], params: Any, shape: Any) -> None:
        self.sizes: list[int] = []
        for array in operands:
            while isinstance(array.base, np.ndarray):
                array = array.base
            self.sizes.append(array.nbytes)
        super().__init__(operands, params, shape)

    def temporary(self, nbytes: int) -> int:
        self.sizes.append(nbytes)
        return super().temporary(nbytes)

    def run(self, machine: Any, is_backward: bool = False) -> Any:
        actions, self.actions = self.actions, []
        for action in actions:
            if type(action) is Call:
                tiles = range(action.tiles)[:: -1 if is_backward else 1]
                bases = np.array(self.memories, np.int64)
                guarded(action, machine, bases, self.sizes, tiles)
            else:
                self.actions = [action]
                super().run(machine)
        self.actions = actions
        return self.result


@pytest.mark.parametrize("way", ["strided", "repeated"])
def test_moves(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves.Nests, "run", run_moves)
    for law in (moves.test_concatenate, moves.test_pad, moves.test_gather):
        law("float32", way)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitive(name: str) -> None:
    for case in cases_of(REGISTRY[name], dtypes.float32):
        run_on(CPU, case.graph, case.arrays)


GUARDED = """
import pytest, sys
class Plugin:
    def pytest_collection_finish(self, session):
        from tests import test_cpu_checked, test_cpu_indexed, test_cpu_product
        test_cpu_indexed.Nests.run = test_cpu_checked.run_moves
        test_cpu_product.Nests = test_cpu_checked.Products
sys.exit(pytest.main(["tests/{}"], plugins=[Plugin()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_laws(file: str, tmp_path: Path) -> None:
    """Every law of every family, in a process of its own."""
    before = time.perf_counter()
    done = in_checked_process(GUARDED.format(file), tmp_path)
    print(f"{file}: {time.perf_counter() - before:.0f} s")
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_trainings(tmp_path: Path) -> None:
    """Whole models: the bits of every step are as ever."""
    text = """
from hashlib import sha256
from tests.training import MODELS, train
for name, make in MODELS.items():
    found = train(make, 5, device="cpu")
    parts = [p.tobytes() for k in ("gradients", "parameters", "buffers") for p in found[k]]
    print(name, found["losses"], sha256(b"".join(parts)).hexdigest())
"""
    done = in_checked_process(text, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n") == 3
    assert done.stdout == in_checked_process(text, tmp_path, "0").stdout


def in_checked_process(text: str, folder: Path, flag: str = "1") -> Any:
    environment = {**os.environ, "PROA_CPU_CHECKED": flag, "PROA_CACHE_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, env=environment
    )  # fmt: skip
