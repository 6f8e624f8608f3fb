"""Running a script of the tests of `cpu` for another processor, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def printed_for(level: str, script: str, cache: Path) -> tuple[str, str]:
    """What a script prints where kernels are compiled for x86-64-v3, -v2 ...; and its errors."""
    environment = {**os.environ, "PROA_CPU_TARGET": level, "PROA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT,
                          env=environment, check=False)  # fmt: skip
    return done.stdout.strip(), done.stderr[-2000:]
