"""The table of the CPU compiler: Proa, PyTorch and JAX by turns on the same work.

    python benchmarks/cpu/run.py [row ...] [--threads 2] [--rounds 9] [--peers torch,jax]
                                 [--alone] [--fast]

Runs in an environment with proa, torch==2.13.0, jax and llvmlite. Each row has a process of its own
for each number of threads; in it the contestants take turns, warm, on the same weights, after it
was checked that they compute the same numbers. Ratio: the fastest peer's median / Proa's. With
`--alone` each peer also has a process of its own, and counts from there if more than 10 % faster.
With `--fast` Proa runs under `numerics="fast"` too: the price of strictness.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
sys.path.append(str(HERE.parent.parent))  # `common.py`; names here come first
LIMIT: Final = 900  # seconds of a process
BOTH: Final = ("products", "small")  # rows that are measured on 1 thread too


def registry() -> dict[str, Callable[[], list[Callable[[], Any]]]]:
    """Rows by name: each gives the cases, made one by one when their turn comes."""
    import gpt
    import networks
    import pinn
    import products
    import rowwise

    return {
        "products": products.products,
        "small": products.small_products,
        "rows": rowwise.rows,
        "cross-entropy": lambda: [lambda: rowwise.CrossEntropy(2048, 8192)],
        "elementwise": lambda: [rowwise.Elementwise],
        "adamw": lambda: [rowwise.Update],
        "mlp": lambda: [lambda: networks.Mlp((784, 1024, 1024, 10), 128, False)],
        "overhead": lambda: [lambda: networks.Mlp((64, 128, 128, 10), 32, True)],
        "gpt": lambda: [gpt.Gpt],
        "pinn": pinn.pinns,
        "resnet": lambda: [networks.Resnet],
    }


PROCESSES: Final = ("cold", "memory", "beside")  # rows of `processes.py`


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="names of rows, or row:part-of-a-case's-name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", default="torch,jax", help="torch, jax, torch,jax or none")
    parser.add_argument("--alone", action="store_true", help="peers also in their own processes")
    parser.add_argument("--fast", action="store_true", help='also Proa under numerics="fast"')
    parser.add_argument("--only", help="these contestants, separated by commas")
    parser.add_argument("--json", type=Path, help="where all that was measured is written")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def contestants(given: argparse.Namespace) -> list[str]:
    from harness import CONTESTANTS, FAST

    if given.only:
        wanted: list[str] = given.only.split(",")
        if not set(wanted) <= set(CONTESTANTS):
            raise SystemExit(f"--only {given.only}: expected some of {', '.join(CONTESTANTS)}")
        return wanted
    peers = given.peers.split(",")
    return [
        n for n in CONTESTANTS if n.split()[0] in ("proa", *peers) and (given.fast or n != FAST)
    ]


# Inside the process of one row.


def inside(given: argparse.Namespace) -> None:
    import machine

    machine.use_threads(given.threads)
    os.environ.setdefault("PROA_DEVICE", "cpu")
    from harness import Measured

    names = contestants(given)
    if any(n.startswith("torch") for n in names):
        import torch

        torch.set_num_threads(given.threads)
    row, _, part = given.rows[0].partition(":")
    for make in registry()[row]():
        case = make()
        if part in case.name:
            line = Measured(row, case, names, given.threads, given.rounds)()
            print(json.dumps(line.as_dict()), flush=True)


# The parent.


def process(given: argparse.Namespace, row: str, threads: int, only: str | None) -> Iterator[Any]:
    """The lines of one row, each as soon as a process of its own has measured it."""
    from harness import Line

    command = [sys.executable, str(HERE), row, "--inside", "--threads", str(threads)]
    command += ["--rounds", str(given.rounds), "--peers", given.peers]
    command += ["--only", only] if only else []
    command += ["--fast"] * given.fast
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    limit = threading.Timer(LIMIT, child.kill)
    limit.start()
    try:
        for text in child.stdout or ():
            if text.startswith("{"):
                yield Line(**json.loads(text))
        if child.wait():
            print(f"    {row}: its process ended with {child.returncode}", file=sys.stderr)
    finally:
        limit.cancel()
        child.kill()
        child.wait()


def alone(given: argparse.Namespace, row: str, threads: int, lines: list[Any]) -> None:
    """Adds what each peer takes where nobody else is in its process."""
    for name in [n for n in contestants(given) if not n.startswith("proa")]:
        for line in process(given, row, threads, name):
            for shared in lines:
                if shared.case == line.case and name in line.times:
                    shared.alone[name] = line.times[name]


def heading(given: argparse.Namespace) -> None:
    import machine
    from common import processor

    peers = tuple(p for p in given.peers.split(",") if p in ("torch", "jax"))
    print(f"{processor()}; {given.threads} threads unless said; {machine.software(peers)}")
    print("medians, by turns in one process; ratio: fastest peer / Proa, above 1 Proa is ahead\n")


def main() -> None:
    given = options()
    if given.inside:
        inside(given)
        return
    import processes
    from harness import HEAD, print_line

    heading(given)
    known = [*registry(), *PROCESSES]
    wanted = given.rows or known
    if unknown := [r for r in wanted if r.partition(":")[0] not in known]:
        raise SystemExit(f"rows {unknown}: expected some of {known}")
    everything: list[dict[str, Any]] = []
    tables = [r for r in wanted if r not in PROCESSES]
    if tables:
        print(HEAD, flush=True)
    for row in tables:
        both = row.partition(":")[0] in BOTH
        for threads in sorted({1, given.threads} if both else {given.threads}):
            lines: Iterable[Any] = process(given, row, threads, given.only)
            if given.alone:
                lines = list(lines)
                alone(given, row, threads, lines)
            for line in lines:
                print_line(line)
                everything.append(line.as_dict())
    for row in [r for r in wanted if r in PROCESSES]:
        everything += processes.measure(row, contestants(given), given.threads, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
