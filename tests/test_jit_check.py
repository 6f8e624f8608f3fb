"""The suite with `jit(check=True)` everywhere: every call is recorded anew and compared.

Nothing is left out. Where a test counts how often Python ran, that count alone does not hold
(`or config.jit_check` stands behind it): the body runs at every call.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LANES = {
    "jit": "jit jit_reach jit_paths jit_seen donation",
    "models": "optim nn modules control custom",
    "modes": "equalities programs recording random memory devices fast data",
    "cpu": "cpu cpu_threads cpu_rows cpu_product cpu_indexed cpu_packed profile",
    "programs": "random_programs laws hostile",
}


def test_the_switch_is_the_argument() -> None:
    """In a process of its own: the flag is read when a function is decorated."""
    text = (
        "import proa as pa\n"
        "f = pa.jit(lambda x: x * 2.0)\n"
        "for _ in range(6):\n    f(pa.ones((2,)))\n"
        "print(f.check, f.python_calls)"
    )
    found = _run(["-c", text])
    assert found.stdout.split() == ["True", "6"], found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("lane", LANES)
def test_the_suite_passes_with_every_call_compared(lane: str) -> None:
    files = [ROOT / "tests" / f"test_{name}.py" for name in LANES[lane].split()]
    found = _run(["-m", "pytest", "-x", *[str(f) for f in files]])
    assert found.returncode == 0, found.stdout[-4000:]


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PROA_JIT_CHECK": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
