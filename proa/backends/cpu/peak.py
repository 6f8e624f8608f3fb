"""What this machine can do at most: bytes copied and multiply-adds a second, on all threads."""

from __future__ import annotations

from array import array as numbers
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any, Final, final

import numpy as np

from proa import dtypes
from proa.backends.cpu.engine import engine
from proa.backends.cpu.kernel import Call, entered
from proa.backends.cpu.memory import address_of
from proa.backends.cpu.rows import Operand, Result, loop_call
from proa.backends.cpu.target import Target, target
from proa.backends.cpu.threads import threads

CHAINS: Final = 12  # independent sums: enough to hide the latency of a multiply-add
TURNS: Final = 1 << 18
TILES: Final = 4  # for each thread
LEAST: Final = 32 << 20  # bytes that are copied
MOST: Final = 128 << 20
PATIENCE: Final = 0.08  # seconds that a peak is looked for


@final
class MultiplyAdds:
    """Multiply-adds of registers alone. Operand: a vector of factors; result: one for each tile.
    Table: turns."""

    key = "peak of multiply-adds"

    def ir(self, name: str, machine: Target) -> str:
        lanes = machine.vector_bytes // 4
        wide, fma = f"<{lanes} x float>", f"llvm.fma.v{lanes}f32"
        heads = [f"  %r{c} = phi {wide} [ %x, %in ], [ %q{c}, %turn ]" for c in range(CHAINS)]
        bodies = [
            f"  %q{c} = call {wide} @{fma}({wide} %r{c}, {wide} %x, {wide} %x)"
            for c in range(CHAINS)
        ]
        sums = [
            f"  %s{c} = fadd {wide} %{f's{c - 1}' if c > 1 else 'q0'}, %q{c}"
            for c in range(1, CHAINS)
        ]
        return "\n".join([
            f'target triple = "{machine.triple}"',
            f"declare {wide} @{fma}({wide}, {wide}, {wide})",
            *entered(name, 2),
            "  br label %in",
            "in:",
            "  %n = load i64, ptr %table",
            f"  %x = load {wide}, ptr %p0, align 4",
            "  br label %turn",
            "turn:",
            "  %i = phi i64 [ 0, %in ], [ %j, %turn ]",
            *heads, *bodies,
            "  %j = add i64 %i, 1",
            "  %more = icmp ult i64 %j, %n",
            "  br i1 %more, label %turn, label %out",
            "out:",
            *sums,
            f"  %at = getelementptr {wide}, ptr %p1, i64 %tile",
            f"  store {wide} %s{CHAINS - 1}, ptr %at, align 4",
            "  ret void",
            "}",
        ])  # fmt: skip


def measured() -> tuple[float, float]:
    """Bytes copied a second (read and written), operations a second of float32, where a
    multiply-add is two: the best of a few tries."""
    size = min(max(LEAST, 2 * target().l3_bytes), MOST)
    source, goal = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    word = dtypes.uint32
    result = Result(0, word, 1, (4,))
    copy = loop_call([Operand(word, 0, 0, (4,))], (), [result], (size // 4,), 0)
    copied = _best(_ready(copy, [source, goal]))
    tiles, width = TILES * threads().count, target().vector_bytes
    small: list[Any] = [np.full(width // 4, 0.5, np.float32), np.zeros(tiles * width, np.uint8)]
    adds = Call(MultiplyAdds(), ((0, 0),), ((1, 0),), (TURNS,), tiles, 0, 0)
    taken = _best(_ready(adds, small))
    return 2 * size / copied, 2.0 * CHAINS * (width // 4) * TURNS * tiles / taken


def _ready(call: Call, arrays: list[Any]) -> Callable[[], None]:
    """What runs a call on all threads; memory k of the call is array k."""
    words = numbers("q")
    for memory, offset in (*call.operands, *call.results):
        words.extend((memory, offset))
    words.extend(call.table)
    bases = numbers("q", [address_of(a) for a in arrays])
    table = numbers("q", [engine().find(call.kernel), call.tiles, words.buffer_info()[0], 0])

    def run() -> None:
        at, base = table.buffer_info()[0], bases.buffer_info()[0]
        threads().run(at, 0, 1, base, 0, 0, False)
        words.buffer_info()  # kept until then

    return run


def _best(run: Callable[[], None]) -> float:
    """The least seconds: a peak is what was reached once."""
    run()
    least, begin = inf, perf_counter()
    while (start := perf_counter()) < begin + PATIENCE:
        run()
        least = min(least, perf_counter() - start)
    return least
