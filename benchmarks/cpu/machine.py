"""What this machine can do at most: multiply-adds a second, bytes copied a second, memory held."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np

CHAINS: Final = 12  # independent sums: enough to hide the latency of a multiply-add
TURNS: Final = 1 << 21
STATUS: Final = Path("/proc/self/status")


def use_threads(count: int) -> None:
    """Before any framework is imported: as many processors as threads, and every pool alike."""
    if hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, own[:count])
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = str(count)


def best(function: Callable[[], float], times: int = 5) -> float:
    """The least seconds: a peak is what was reached once."""
    return min(function() for _ in range(times))


def together(functions: Sequence[Callable[[], object]]) -> float:
    """The seconds until all functions, each on a thread, are through; they start as one."""
    gate = threading.Barrier(len(functions) + 1)

    def work(function: Callable[[], object]) -> None:
        gate.wait()
        function()

    workers = [threading.Thread(target=work, args=(f,)) for f in functions]
    for w in workers:
        w.start()
    gate.wait()
    start = time.perf_counter()
    for w in workers:
        w.join()
    return time.perf_counter() - start


# Multiply-adds.


def _vector_bytes(features: dict[str, bool]) -> int:
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def _chains(lanes: int, kind: str) -> str:
    """A loop of independent multiply-adds on registers; their sum is stored, so they are done."""
    vector = f"<{lanes} x {kind}>"
    name = f"llvm.fma.v{lanes}{'f32' if kind == 'float' else 'f64'}"
    heads = [f"  %a{c} = phi {vector} [ %x, %in ], [ %b{c}, %turn ]" for c in range(CHAINS)]
    bodies = [
        f"  %b{c} = call {vector} @{name}({vector} %a{c}, {vector} %x, {vector} %y)"
        for c in range(CHAINS)
    ]
    sums = [
        f"  %s{c} = fadd {vector} %{f's{c - 1}' if c > 1 else 'b0'}, %b{c}"
        for c in range(1, CHAINS)
    ]
    lines = [
        f"declare {vector} @{name}({vector}, {vector}, {vector})",
        "define void @chains(ptr %at, i64 %n) {",
        "in:",
        f"  %x = load {vector}, ptr %at, align {8 if kind == 'double' else 4}",
        f"  %y = fmul {vector} %x, %x",
        "  br label %turn",
        "turn:",
        "  %i = phi i64 [ 0, %in ], [ %j, %turn ]",
        *heads,
        *bodies,
        "  %j = add i64 %i, 1",
        "  %more = icmp ult i64 %j, %n",
        "  br i1 %more, label %turn, label %out",
        "out:",
        *sums,
        f"  store {vector} %s{CHAINS - 1}, ptr %at, align 4",
        "  ret void",
        "}",
    ]
    return "\n".join(lines)


def multiply_add_peak(dtype: str, threads: int) -> float:
    """Operations a second (a multiply-add is two) of registers alone, on all threads at once."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    size = _vector_bytes(dict(features))
    lanes = size // np.dtype(dtype).itemsize
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=f"{features.flatten()},-prefer-256-bit", opt=2
    )
    module = llvm.parse_assembly(_chains(lanes, "double" if dtype == "float64" else "float"))
    with llvm.create_mcjit_compiler(module, machine) as code:
        code.finalize_object()
        function: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(
            code.get_function_address("chains")
        )
        places = [np.full(64, 0.5, dtype) for _ in range(threads)]
        work = [partial(function, p.ctypes.data, TURNS) for p in places]
        taken = best(lambda: together(work))
    return 2.0 * CHAINS * lanes * TURNS * threads / taken


# Quiet.


def _work() -> float:
    """Seconds that all processors worked since the machine began, for anyone."""
    if not Path("/proc/stat").exists():
        return 0.0
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = [int(x) for x in first]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


@final
class Neighbours:
    """Watches what others do while this process works, from `begin` to `end`."""

    def begin(self, patience: float) -> None:
        self.idle = wait_until_idle(patience)
        self.start, self.all, self.own = time.perf_counter(), _work(), _own_work()

    def end(self) -> bool:
        """Whether the turn was this process's alone."""
        taken = time.perf_counter() - self.start
        others = _work() - self.all - (_own_work() - self.own)
        return self.idle and others < max(0.05 * taken, 3 / os.sysconf("SC_CLK_TCK"))


def _own_work() -> float:
    own = os.times()
    return own.user + own.system


def wait_until_idle(patience: float, window: float = 0.05) -> bool:
    """Whether the processors came to rest: pools that spin, this process's own too, distort what
    runs next, and so do neighbours."""
    end = time.perf_counter() + patience
    while True:
        before = _work()
        time.sleep(window)
        if _work() - before < 0.3 * window:
            return True
        if time.perf_counter() > end:
            return False


# Memory.


def copy_speed(nbytes: int, threads: int) -> float:
    """Bytes read and written a second, where `nbytes` are moved in all: half read, half written."""
    part = max(4096, nbytes // 2 // threads // 4096 * 4096)
    pairs = [(np.ones(part, np.uint8), np.ones(part, np.uint8)) for _ in range(threads)]
    often = max(1, (1 << 27) // (part * threads))

    def copy(to: Any, at: Any) -> None:
        for _ in range(often):
            ctypes.memmove(to, at, part)

    work = [partial(copy, b.ctypes.data, a.ctypes.data) for a, b in pairs]
    return 2.0 * part * threads * often / best(lambda: together(work), 7)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return _status("VmRSS")


def most_resident() -> int:
    """The most bytes that this process held, since it began or since `forget_most_resident`."""
    return _status("VmHWM")


def forget_most_resident() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) * 1024 if found else 0


def software(peers: tuple[str, ...]) -> str:
    """The versions, as one line."""
    from importlib.metadata import version

    names = ["numpy", "llvmlite", *peers]
    python = f"Python {platform.python_version()}"
    return ", ".join([python, *[f"{name} {version(name)}" for name in names]])
