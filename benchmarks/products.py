"""Products on `cpu` beside NumPy's BLAS and PyTorch: GFLOP/s by shape, layout and dtype.

    OPENBLAS_NUM_THREADS=1 python benchmarks/products.py             # one thread, processor time
    OPENBLAS_NUM_THREADS=2 python benchmarks/products.py --threads 2   # all, time on the wall

The kernels alone: memory is there, nothing is recorded. PyTorch takes part where it is installed.
Each row is a median of turns in one process; all compute the same numbers, which is checked first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import processor

import proa as pa
from proa import dtypes
from proa.backends.cpu.target import target
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Input, Role
from proa.graph.spec import spec
from proa.ops.contraction import dot

try:
    import torch
except ImportError:
    torch = None

# Name, letters, and the size of each letter.
LARGE = [
    ("512^3", "mk,kn->mn", {"m": 512, "n": 512, "k": 512}),
    ("1024^3", "mk,kn->mn", {"m": 1024, "n": 1024, "k": 1024}),
    ("2048x1536x384", "mk,kn->mn", {"m": 2048, "n": 1536, "k": 384}),
    ("384x1536x2048, A transposed", "km,kn->mn", {"m": 384, "n": 1536, "k": 2048}),
    ("1024^3, B transposed", "mk,nk->mn", {"m": 1024, "n": 1024, "k": 1024}),
    ("96x96x16384, A transposed", "km,kn->mn", {"m": 96, "n": 96, "k": 16384}),
]
SMALL = [
    *[(f"{n}^3", "mk,kn->mn", {"m": n, "n": n, "k": n}) for n in (16, 32, 64, 100, 128)],
    ("256x10x128", "mk,kn->mn", {"m": 256, "n": 10, "k": 128}),
    ("96 of 128x128x64", "bmk,bkn->bmn", {"b": 96, "m": 128, "n": 128, "k": 64}),
    ("96 of 128x128x64, B transposed", "bmk,bnk->bmn", {"b": 96, "m": 128, "n": 128, "k": 64}),
    ("1x512x512", "k,kn->n", {"n": 512, "k": 512}),
    ("1x2048x512", "k,kn->n", {"n": 2048, "k": 512}),
    ("1x512x512, B transposed", "k,nk->n", {"n": 512, "k": 512}),
    ("1x2048x512, B transposed", "k,nk->n", {"n": 2048, "k": 512}),
    ("4x2048x512", "mk,kn->mn", {"m": 4, "n": 2048, "k": 512}),
    ("4x2048x512, B transposed", "mk,nk->mn", {"m": 4, "n": 2048, "k": 512}),
]


def ours(x: Any, y: Any, letters: str) -> tuple[Callable[[], None], Any]:
    """What runs the calls of a compiled product once more, and its result."""
    ins, out = letters.split("->")
    a, b = ins.split(",")
    kinds = {np.dtype(np.float32): dtypes.float32, np.dtype(np.float64): dtypes.float64}
    builder = Builder([Input(spec(v.shape, kinds[v.dtype]), Role.DATA) for v in (x, y)])
    with use_sink(builder):
        made = dot(*builder.input_values(), a=a, b=b, out=out)
    cpu = backend("cpu")
    device = cpu.devices()[0]
    graph = builder.graph([made])
    executable: Any = cpu.compile(lower(graph, cpu, device))
    runs: list[Any] = []
    buffers = [cpu.put(v, i.spec, device) for v, i in zip((x, y), graph.inputs, strict=True)]
    (result,) = executable(buffers, [(0, runs.append), *executable.actions])
    steps = [run for _, run in executable.actions]

    def again(alive: Any = (executable, buffers)) -> None:
        for step in steps:
            step(runs[0])

    return again, result.host()


def peers(x: Any, y: Any, letters: str, out: Any) -> dict[str, Callable[[], Any]]:
    a, b = letters.split("->")[0].split(",")
    left = np.swapaxes(x, -1, -2) if a[-1] != "k" else x
    right = np.swapaxes(y, -1, -2) if b[-1] == "k" and y.ndim > 1 else y
    found: dict[str, Callable[[], Any]] = {"numpy": lambda: np.matmul(left, right, out=out)}
    if torch is not None:
        s, t, u = torch.from_numpy(left), torch.from_numpy(right), torch.from_numpy(out)
        found["torch"] = lambda: torch.matmul(s, t, out=u)
    return found


def medians(
    functions: dict[str, Callable[[], Any]], clock: Callable[[], float], rounds: int
) -> dict[str, float]:
    """Median seconds of each; they take turns, about 20 ms long."""
    repeats = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        repeats[name] = max(1, int(0.02 / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            for _ in range(repeats[name]):
                function()
            times[name].append((clock() - start) / repeats[name])
    return {name: statistics.median(rows) for name, rows in times.items()}


def table(rows: list[Any], dtype: Any, clock: Callable[[], float], rounds: int) -> None:
    names = ["numpy"] + ["torch"] * (torch is not None)
    head = "".join(f"{n:>9s} {'ratio':>6s}" for n in names)
    print(f"\n{np.dtype(dtype).name:32s} {'Proa us':>10s} {'GFLOP/s':>9s} {head}")
    rng = np.random.default_rng(0)
    for name, letters, size in rows:
        ins, out = letters.split("->")
        x, y = (rng.standard_normal([size[c] for c in w]).astype(dtype) for w in ins.split(","))
        again, result = ours(x, y, letters)
        into = np.empty([size[c] for c in out], dtype)
        functions = peers(x, y, letters, into)
        functions["numpy"]()
        again()
        limit = 1e-5 if dtype == np.float32 else 1e-13
        assert np.abs(result - into).max() <= limit * size["k"], name
        found = medians({"proa": again, **functions}, clock, rounds)
        work = 2e-9 * np.prod([float(n) for n in size.values()])
        mine = found["proa"]
        text = "".join(f"{work / found[n]:9.1f} {found[n] / mine:6.2f}" for n in names)
        print(f"{name:32s} {mine * 1e6:10.2f} {work / mine:9.1f} {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    pa.set_num_threads(given.threads)
    if torch is not None:
        torch.set_num_threads(given.threads)
        torch.set_grad_enabled(False)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    version = torch.__version__ if torch is not None else "none"
    print(f"{processor()}; {target()}")
    print(
        f"Python {sys.version.split()[0]}, NumPy {np.__version__}, torch {version}; "
        f"{given.threads} threads, medians of {given.rounds} interleaved rounds; "
        "ratio above 1: Proa is ahead"
    )
    for dtype in (np.float32, np.float64):
        table(LARGE, dtype, clock, given.rounds)
        table(SMALL, dtype, clock, given.rounds)


if __name__ == "__main__":
    main()
