"""The threads of `cpu`: every tile once, every row after the last, whatever happens around them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proa.backends.cpu.target import binding, find, foreign, target
from proa.backends.cpu.threads import Threads, get_num_threads, set_num_threads, threads
from proa.backends.cpu.walk import BUSY, MOST, ROWS, SLEEPERS, can_share
from proa.backends.cpu.workers import module
from proa.errors import ArgumentError

# Adds tile + 1 to a sum. Counts an error where the sum of the row before is not what it must be in
# the end, and where another thread has written to this scratch. call: sum, sum before, its value.
CHECK = """
define void @kernel(ptr %call, ptr %bases, i64 %tile, ptr %scratch) {
entry:
  %base = load ptr, ptr %bases
  store volatile i64 %tile, ptr %scratch
  %sum.from = load i64, ptr %call
  %sum = getelementptr i8, ptr %base, i64 %sum.from
  %before.at = getelementptr i64, ptr %call, i64 1
  %before.from = load i64, ptr %before.at
  %before = getelementptr i8, ptr %base, i64 %before.from
  %expected.at = getelementptr i64, ptr %call, i64 2
  %expected = load i64, ptr %expected.at
  %found = load i64, ptr %before
  %early = icmp ne i64 %found, %expected
  %more = add i64 %tile, 1
  %old = atomicrmw add ptr %sum, i64 %more monotonic
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %next = add i64 %i, 1
  %kept = load volatile i64, ptr %scratch
  %going = icmp slt i64 %next, WORK
  br i1 %going, label %loop, label %judge
judge:
  %mixed = icmp ne i64 %kept, %tile
  %bad = or i1 %early, %mixed
  %error = zext i1 %bad to i64
  %errors = atomicrmw add ptr %base, i64 %error monotonic
  ret void
}
"""

# Multiplies a number below the normal range by one and stores the product: flushed or not.
DENORMAL = """
define void @kernel(ptr %call, ptr %bases, i64 %tile, ptr %scratch) {
  %base = load ptr, ptr %bases
  %from = load double, ptr %base
  %product = fmul double %from, 1.0
  %number = add i64 %tile, 1
  %at = getelementptr double, ptr %base, i64 %number
  store double %product, ptr %at
  ret void
}
"""

MODES = """
define i32 @kernel(i32 %new) {
  %word = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %old = load i32, ptr %word
  store i32 %new, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret i32 %old
}
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
"""

KEPT: list[Any] = []


@cache
def function(text: str) -> int:
    """The address of a kernel written by hand."""
    llvm, machine = binding(), target()
    code = llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=2, reloc="pic", codemodel="default"
    )
    object_ = code.emit_object(llvm.parse_assembly(f'target triple = "{machine.triple}"\n{text}'))
    linker = llvm.create_lljit_compiler(code)
    builder = llvm.JITLibraryBuilder().add_object_img(object_).export_symbol("kernel")
    tracker = builder.link(linker, f"toy{len(KEPT)}")
    KEPT.append((code, linker, tracker))
    return tracker["kernel"]


class Toy:
    """A table of checked rows, with so many tiles each, and places for scratch. A row needs the one
    that stands `apart` rows before it, and all before that."""

    def __init__(
        self, tiles: list[int], work: int = 8, places: int = 8, apart: int = 1
    ) -> None:  # fmt: skip
        kernel = function(CHECK.replace("WORK", str(work)))
        self.tiles = tiles
        self.places = places
        self.expected = np.array([0] + [t * (t + 1) // 2 for t in tiles], np.int64)
        self.data = np.zeros(1 + len(tiles), np.int64)  # errors, then a sum for each row
        self.bases = array("q", [self.data.ctypes.data])
        self.calls = array("q")
        for r in range(len(tiles)):
            before = max(0, r + 1 - apart)
            self.calls.extend([8 * (r + 1), 8 * before, int(self.expected[before]), 0])
        at = self.calls.buffer_info()[0]
        self.rows = array("q")
        for r, count in enumerate(tiles):
            self.rows.extend([kernel, count, at + 32 * r, max(0, r + 1 - apart)])
        self.scratch = np.zeros(64 * places, np.uint8)

    def run(self, pool: Threads, held: bool = False) -> None:
        """Once, then looks at every sum."""
        self.data[:] = 0
        self.launch(pool, held)
        assert self.data[0] == 0
        assert np.array_equal(self.data, self.expected)

    def launch(self, pool: Threads, held: bool = False) -> None:
        pool.run(
            self.rows.buffer_info()[0], 0, len(self.tiles), self.bases.buffer_info()[0],
            self.scratch.ctypes.data, 64, held, self.places,
        )  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Threads:
    return Threads(target(), 2)


@pytest.fixture(params=[1, 2, 3, 4])
def some(request: pytest.FixtureRequest, pool: Threads) -> Iterator[Threads]:
    pool.set(request.param)
    yield pool
    pool.set(2)


TABLES = {
    "none": [],
    "one": [1],
    "empty": [0, 0, 3, 0],
    "single": [1] * 40,
    "mixed": [1, 2, 7, 1, 1, 33, 0, 4] * 5,
    "long": [3, 1, 2] * ROWS,
    "exact": [2] * ROWS,
    "wide": [5000],
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_every_tile_once_and_rows_in_order(some: Threads, name: str, held: bool) -> None:
    toy = Toy(TABLES[name])
    for _ in range(20):
        toy.run(some, held)


@pytest.mark.parametrize("apart", [2, 3, 70])
@pytest.mark.parametrize("name", TABLES)
def test_rows_that_need_only_some_of_those_before(some: Threads, name: str, apart: int) -> None:
    toy = Toy(TABLES[name], apart=apart)
    for _ in range(20):
        toy.run(some)


# Says that its row has begun, then waits for the other row to begin; for long, but not for ever.
MEETING = """
define void @kernel(ptr %call, ptr %bases, i64 %tile, ptr %scratch) {
entry:
  %base = load ptr, ptr %bases
  %mine.from = load i64, ptr %call
  %mine = getelementptr i8, ptr %base, i64 %mine.from
  %theirs.at = getelementptr i64, ptr %call, i64 1
  %theirs.from = load i64, ptr %theirs.at
  %theirs = getelementptr i8, ptr %base, i64 %theirs.from
  store atomic i64 1, ptr %mine seq_cst, align 8
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %next = add i64 %i, 1
  %there = load atomic i64, ptr %theirs seq_cst, align 8
  %alone = icmp eq i64 %there, 0
  %patient = icmp slt i64 %next, 2000000000
  %going = and i1 %alone, %patient
  br i1 %going, label %loop, label %end
end:
  %met = sub i64 %there, 1
  %error = atomicrmw add ptr %base, i64 %met monotonic
  ret void
}
"""


def test_independent_rows_run_side_by_side() -> None:
    pool, kernel = Threads(target(), 2), function(MEETING)
    data = np.zeros(3, np.int64)
    calls = array("q", [8, 16, 16, 8])
    at = calls.buffer_info()[0]
    rows = array("q", [kernel, 1, at, 0, kernel, 1, at + 16, 0, kernel, 2, at, 2])
    bases, scratch = array("q", [data.ctypes.data]), np.zeros(128, np.uint8)
    pool.run(rows.buffer_info()[0], 0, 3, bases.buffer_info()[0], scratch.ctypes.data, 64, False)
    assert list(data) == [0, 1, 1]


def test_a_part_of_a_table(some: Threads) -> None:
    toy = Toy([4] * 9)
    toy.data[:] = 0
    where = toy.rows.buffer_info()[0], toy.bases.buffer_info()[0], toy.scratch.ctypes.data
    some.run(where[0], 0, 3, where[1], where[2], 64, False)
    assert list(toy.data) == [0] + [10] * 3 + [0] * 6
    some.run(where[0], 3, 9, where[1], where[2], 64, False)
    assert np.array_equal(toy.data, toy.expected)


def test_a_hundred_thousand_runs(some: Threads) -> None:
    """Blocks are used again at once, while workers are still on their way out of them."""
    toy = Toy([2, 3, 2], work=1)
    for _ in range(1000):
        for _ in range(25):
            toy.data[:] = 0
            toy.launch(some)
            assert not toy.data[0]
        assert np.array_equal(toy.data, toy.expected)


def test_no_more_threads_than_places_for_scratch(pool: Threads) -> None:
    pool.set(4)
    narrow = Toy([64] * 8, work=200, places=2)
    narrow.scratch = np.zeros(64 * 8, np.uint8)
    for _ in range(200):
        narrow.run(pool)
    assert not narrow.scratch[64 * 2 :].any()
    pool.set(2)


def test_two_threads_share_and_a_sleeper_wakes(pool: Threads) -> None:
    """The second thread takes part, also after it has gone to sleep."""
    pool.set(2)
    deadline = time.monotonic() + 20
    for pause in (0.0, 0.02):
        used = False
        while not used and time.monotonic() < deadline:
            toy = Toy([8] * 4, work=20_000)
            time.sleep(pause)
            toy.run(pool)
            used = bool(toy.scratch[64:72].any())
        assert used


def test_the_number_may_change_at_any_time(pool: Threads) -> None:
    toy, stop = Toy([3] * 12, work=50), threading.Event()

    def change() -> None:
        number = 0
        while not stop.wait(0.0002):
            number += 1
            pool.set(1 + number % 4)

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(3000):
            toy.run(pool)
    finally:
        stop.set()
        other.join()
        pool.set(2)


def test_several_python_threads_at_once(some: Threads) -> None:
    """One has the pool; the others walk alone and do not wait."""
    failed: list[BaseException] = []

    def compute(number: int) -> None:
        try:
            toy = Toy([1 + number, 4, 1] * 6, work=30)
            for _ in range(400):
                toy.run(some)
        except BaseException as error:
            failed.append(error)

    crowd = [threading.Thread(target=compute, args=(n,)) for n in range(4)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert not failed


def test_beside_a_busy_process(pool: Threads) -> None:
    code = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    try:
        toy = Toy([8, 1, 8], work=2000)
        for _ in range(100):
            toy.run(pool)
    finally:
        for one in busy:
            one.kill()
            one.wait()


@pytest.mark.skipif(not target().is_x86, reason="the control word of x86")
@pytest.mark.parametrize("held", [False, True])
def test_flushing_in_the_caller_is_not_seen_and_put_back(some: Threads, held: bool) -> None:
    swap = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int)(function(MODES))
    tiles = 40
    data = np.zeros(1 + tiles, np.float64)
    data[0] = 5e-324
    bases, call = array("q", [data.ctypes.data]), array("q", [0])
    rows = array("q", [function(DENORMAL), tiles, call.buffer_info()[0], 0])
    flushing = 0x9FC0 | 0x6000  # denormals to zero, rounded towards zero
    at, base = rows.buffer_info()[0], bases.buffer_info()[0]
    before = swap(flushing)
    try:
        # As the pool's workers start, too: they begin with the word of who starts them.
        some.run(at, 0, 1, base, data.ctypes.data, 0, held)
    finally:
        after = swap(before)
    assert after == flushing
    assert list(data) == [5e-324] * (1 + tiles)


def test_an_interruption_leaves_the_pool_free(pool: Threads) -> None:
    toy, caught = Toy([4, 4, 4], work=300), 0

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    pool.set(3)
    old = signal.signal(signal.SIGALRM, interrupt)
    end = time.monotonic() + 20
    try:
        while caught < 200 and time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0004 + caught * 1e-6)
                while True:
                    toy.launch(pool)
            except KeyboardInterrupt:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert caught == 200
    if can_share(target()):
        assert ctypes.c_int64.from_address(pool.pool + BUSY).value == 0
    toy.run(pool)
    pool.set(2)


@pytest.mark.skipif(not can_share(target()), reason="no workers here")
def test_workers_sleep_when_there_is_nothing_to_do(pool: Threads) -> None:
    """Also those that fewer threads have left over."""
    pool.set(4)
    Toy([8] * 4).run(pool)
    pool.set(2)
    Toy([8] * 4).run(pool)
    word = ctypes.c_int32.from_address(pool.pool + SLEEPERS)
    end, states = time.monotonic() + 20, "R"
    while (word.value != 1 or set(states) != {"S"}) and time.monotonic() < end:
        time.sleep(0.01)
        states = "".join(
            Path(f"/proc/self/task/{task}/stat").read_text().rpartition(") ")[2][0]
            for task in os.listdir("/proc/self/task")
            if int(task) != threading.get_native_id()
        )
    assert word.value == 1  # of three workers one waits for a job, two wait to be wanted
    assert set(states) == {"S"}


@pytest.mark.skipif(not can_share(target()), reason="no workers here")
def test_workers_take_no_signals(pool: Threads) -> None:
    pool.set(3)
    Toy([4] * 4).run(pool)
    blocked = []
    for task in os.listdir("/proc/self/task"):
        status = Path(f"/proc/self/task/{task}/status").read_text()
        rows = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        blocked.append(int(rows["SigBlk"], 16) >> (signal.SIGINT - 1) & 1)
    assert sum(blocked) >= 2
    pool.set(2)


# The protocol of blocks, in every order of its steps.


def judged(workers: int, runs: int, without: str = "") -> str:
    """Walks through all states of a caller and its workers: whether a worker ever reads a block
    while it is filled again. `without` leaves one of the rules out."""
    none, blocks = -1, workers + 1
    # (step, block, worker asked, run) of the caller; JOB; contents; (step, block, seen); HOLDS
    start: Any = ((0, 0, 0, 1), none, (0,) * blocks, ((0, none, 0),) * workers, (none,) * workers)
    seen, todo = {start}, [start]

    def put(row: tuple[Any, ...], i: int, value: Any) -> tuple[Any, ...]:
        return (*row[:i], value, *row[i + 1 :])

    while todo:
        (step, block, asked, run), job, contents, others, holds = todo.pop()
        after = []
        if step == 0 and run <= runs:
            after.append(((1, 0, 0, run), job, contents, others, holds))
        elif step == 1 and (asked == workers or without == "asking"):
            after.append(((2, block, 0, run), job, put(contents, block, none), others, holds))
        elif step == 1 and holds[asked] == block:
            after.append(((1, block + 1, 0, run), job, contents, others, holds))
        elif step == 1:
            after.append(((1, block, asked + 1, run), job, contents, others, holds))
        elif step == 2:
            after.append(((3, block, 0, run), job, put(contents, block, run), others, holds))
        elif step == 3:
            after.append(((4, block, 0, run), block, contents, others, holds))
        elif step == 4:
            cleared = job if without == "clearing" else none
            after.append(((0, 0, 0, run + 1), cleared, contents, others, holds))
        if step == 1 and block == blocks:
            return "no block is free"
        mine = step, block, asked, run
        for i, (at, b, found) in enumerate(others):
            now, held = None, holds
            if at == 0 and job != none:
                now = (1, job, 0)
            elif at == 1:
                now, held = (2, b, 0), put(holds, i, b)
            elif at == 2:
                now = (3, b, 0) if job == b or without == "looking again" else (5, b, 0)
            elif at == 3:
                now = (4, b, contents[b])
            elif at == 4:
                if found == none or contents[b] != found:
                    return "a block changed"
                now = (5, none, 0)
            elif at == 5:
                now, held = (0, none, 0), put(holds, i, none)
            if now:
                after.append((mine, job, contents, put(others, i, now), held))
        for state in after:
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return "sound"


@pytest.mark.parametrize(("workers", "runs"), [(1, 4), (2, 3)])
def test_no_worker_reads_a_block_that_is_filled_again(workers: int, runs: int) -> None:
    assert judged(workers, runs) == "sound"
    for rule in ("asking", "looking again", "clearing"):
        assert judged(workers, runs, without=rule) == "a block changed"


# Processes: their start, their forks, their end.

HEAD = """
import os, sys, threading, time
sys.path.insert(0, {tests!r})
from test_cpu_threads import Toy, Threads, threads, target
"""


def process(body: str) -> str:
    """What a fresh process prints; it must end well."""
    tests = os.path.dirname(os.path.abspath(__file__))
    code = HEAD.format(tests=tests) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_workers_start_when_first_needed() -> None:
    out = process("""
        tasks = lambda: len(os.listdir("/proc/self/task"))
        first = tasks()
        pool = Threads(target(), 3)
        toy = Toy([4] * 4)
        toy.run(pool, held=True)
        same = tasks() == first
        toy.run(pool)
        print(same, tasks() - first)
    """)
    assert out == f"True {2 if can_share(target()) else 0}"


def test_a_fork_computes_in_child_and_parent() -> None:
    process("""
        import warnings
        warnings.simplefilter("ignore")
        from proa.backends.cpu import threads as module
        module.set_num_threads(3)
        toy = Toy([4, 1, 4] * 4, work=100)
        pool = threads()
        for _ in range(100): toy.run(pool)
        for number in range(20):
            child = os.fork()
            if not child:
                fine = pool.started == 0
                for _ in range(50): toy.run(pool)
                os._exit(0 if fine and pool.started == 2 else 1)
            for _ in range(50): toy.run(pool)
            assert os.waitpid(child, 0)[1] == 0
        assert pool.started == 2
    """)


def test_a_fork_while_another_thread_computes() -> None:
    process("""
        import warnings
        warnings.simplefilter("ignore")
        from proa.backends.cpu import threads as module
        module.set_num_threads(2)
        pool, stop = threads(), []
        def compute():
            mine = Toy([4, 1, 4] * 50, work=100)
            while not stop: mine.run(pool)
        other = threading.Thread(target=compute)
        other.start()
        toy = Toy([4, 1, 4] * 4, work=100)
        for number in range(20):
            child = os.fork()
            if not child:
                for _ in range(50): toy.run(pool)
                os._exit(0)
            for _ in range(20): toy.run(pool)
            assert os.waitpid(child, 0)[1] == 0
        stop.append(1)
        other.join()
    """)


def test_a_process_ends_while_workers_spin() -> None:
    for _ in range(3):
        process("""
            pool = Threads(target(), 4)
            toy = Toy([4] * 20)
            for _ in range(200): toy.run(pool)
        """)


def test_a_process_ends_while_another_thread_computes() -> None:
    for _ in range(3):
        process("""
            pool = Threads(target(), 3)
            toy = Toy([40] * 200, work=1000)
            def compute():
                while True: toy.launch(pool)
            threading.Thread(target=compute, daemon=True).start()
            time.sleep(0.1)
        """)


def test_the_system_gives_no_more_threads() -> None:
    """The work is done by those that there are; one warning says so."""
    out = process("""
        import resource, warnings
        pool = Threads(target(), 200)
        toy = Toy([40] * 5, places=200)
        import ctypes
        class Refusing:
            @staticmethod
            def pthread_create(*_): return 11
        real, ctypes.CDLL = ctypes.CDLL, lambda _: Refusing
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(3): toy.run(pool)
        print(len(told), pool.count, "unavailable" in str(told[0].message))
    """)
    assert out == ("1 1 True" if can_share(target()) else "")


# The public functions, and other machines.


def test_the_number_of_threads() -> None:
    before = get_num_threads()
    assert before >= 1
    set_num_threads(3)
    assert get_num_threads() == 3 == threads().count
    set_num_threads(1)
    Toy([4] * 3).run(threads())
    set_num_threads(before)
    assert threads().count == before


@pytest.mark.parametrize("given", [0, -1, MOST + 1, 2.0, "2", None, True])
def test_a_number_of_threads_that_cannot_be(given: Any) -> None:
    before = get_num_threads()
    with pytest.raises(ArgumentError, match=r"^\[set_num_threads\] given .*, expected .*, try "):
        set_num_threads(given)
    assert get_num_threads() == before


MACHINES = ["aarch64-unknown-linux-gnu", "riscv64-unknown-linux-gnu",
            "loongarch64-unknown-linux-gnu", "aarch64-apple-darwin"]  # fmt: skip


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", *MACHINES])
def test_the_module_is_made_for_other_machines(name: str) -> None:
    if name.startswith("x86") and not target().is_x86:
        pytest.skip("another family")
    machine = find(name) if name.startswith("x86") else foreign(name)
    llvm = binding()
    code = llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=2, reloc="pic", codemodel="default"
    )
    text = module(machine)
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    assert code.emit_object(parsed)
    assert ("@work" in text) == ("@share" in text) == ("linux" in machine.triple)
    assert ("mxcsr" in text) == machine.is_x86
