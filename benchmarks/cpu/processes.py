"""Rows that need a process for each contestant: cold start, peak memory, a busy neighbour."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
sys.path.append(str(HERE.parent.parent))  # `common.py`; names here come first
LIMIT: Final = 300
CACHES: Final = ("PROA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
JAX_CACHE: Final = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
STEPS: Final = 5
SPIN: Final = "while True: pass"


# Inside a process.


def begin(contestant: str, threads: int) -> Any:
    """The case of the GPT, with the framework imported and its threads set."""
    import machine

    machine.use_threads(threads)
    os.environ.setdefault("PROA_DEVICE", "cpu")
    import gpt

    if contestant.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    elif contestant == "jax":
        import jax  # noqa: F401
    else:
        import proa.examples.gpt  # noqa: F401
    return gpt.Gpt()


def cold(contestant: str, threads: int, rounds: int) -> dict[str, float]:
    """Seconds from the definition to the first loss, and of a step once all is warm."""
    case = begin(contestant, threads)
    start = time.perf_counter()
    step = case.make(contestant).step
    step()
    first = time.perf_counter() - start
    for _ in range(4):
        step()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"first": first, "warm": statistics.median(times)}


def memory(contestant: str, threads: int, rounds: int) -> dict[str, float]:
    """The most bytes held: from the beginning, and in warm steps."""
    import machine

    case = begin(contestant, threads)
    before = machine.resident()
    step = case.make(contestant).step
    case.weights.clear()
    for _ in range(STEPS):
        step()
    whole = machine.most_resident()
    machine.forget_most_resident()
    for _ in range(3):
        step()
    return {"before": before, "whole": whole, "steps": machine.most_resident()}


def beside(contestant: str, threads: int, rounds: int) -> dict[str, float]:
    """Seconds of a step alone, and beside a process that never rests; they take turns."""
    case = begin(contestant, threads)
    step = case.make(contestant).step
    for _ in range(STEPS):
        step()
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    for _ in range(min(rounds, 5)):
        for name, found in times.items():
            busy = subprocess.Popen([sys.executable, "-c", SPIN]) if name == "beside" else None
            try:
                time.sleep(0.2)
                start = time.perf_counter()
                for _ in range(2):
                    step()
                found.append((time.perf_counter() - start) / 2)
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
    return {name: statistics.median(found) for name, found in times.items()}


# The parent.


def run(row: str, contestant: str, threads: int, rounds: int, caches: Path) -> dict[str, Any]:
    command = [sys.executable, str(HERE), row, contestant, str(threads), str(rounds)]
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"} | JAX_CACHE
    env |= {name: str(caches / name.lower()) for name in CACHES}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {LIMIT} s"}
    lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
    if done.returncode or not lines:
        return {"failed": (done.stderr.strip().splitlines() or ["no result"])[-1]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def measure(row: str, names: list[str], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Prints the row's table and returns what was found."""
    print(f"\n{TITLES[row]}", flush=True)
    everything = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = [run(row, name, threads, rounds, Path(folder))]
            if row == "cold":
                found.append(run(row, name, threads, rounds, Path(folder)))
        failed = [f["failed"] for f in found if "failed" in f]
        text = f"failed: {failed[0]}" if failed else SHOWN[row](found)
        print(f"| {name} | {text} |", flush=True)
        everything += [{"row": row, "contestant": name, "found": found}]
    return everything


def _cold(found: list[dict[str, float]]) -> str:
    empty, warm = found
    return f"{empty['first']:.2f} s | {warm['first']:.2f} s | {warm['warm']:.2f} s"


def _memory(found: list[dict[str, float]]) -> str:
    f = {k: v / 1e6 for k, v in found[0].items()}
    return f"{f['whole']:.0f} MB | {f['steps']:.0f} MB | {f['before']:.0f} MB"


def _beside(found: list[dict[str, float]]) -> str:
    f = found[0]
    return f"{f['alone']:.2f} s | {f['beside']:.2f} s | {f['beside'] / f['alone']:.2f}"


SHOWN: Final = {"cold": _cold, "memory": _memory, "beside": _beside}
TITLES: Final = {
    "cold": "| GPT, definition to first loss | empty cache | warm cache | a later step |\n"
    "| --- | --- | --- | --- |",
    "memory": "| GPT, most memory | of the process | in warm steps | after imports |\n"
    "| --- | --- | --- | --- |",
    "beside": "| GPT step | alone | beside one busy process | times |\n| --- | --- | --- | --- |",
}
INSIDE: Final = {"cold": cold, "memory": memory, "beside": beside}


def main() -> None:
    row, contestant, threads, rounds = sys.argv[1:]
    print(json.dumps(INSIDE[row](contestant, int(threads), int(rounds))), flush=True)


if __name__ == "__main__":
    main()
