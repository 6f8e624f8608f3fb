"""The tools run, and what they watch over is in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(tool: str, *arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    return found.stdout


def test_size_measures_every_room() -> None:
    lines = run("size.py").splitlines()
    rooms = {p.name + ("/" if p.is_dir() else "") for p in (ROOT / "proa").iterdir()}
    shown = {line.split()[0] for line in lines[1:]}
    assert shown - {"total"} <= rooms and {"graph/", "ops/", "total"} <= shown


def test_every_hole_of_the_matrix_has_a_reason() -> None:
    text = run("opmatrix.py")
    assert "HOLE" in text and "holes with a reason" in text


def test_the_matrix_as_markdown() -> None:
    text = run("opmatrix.py", "--markdown")
    assert text.startswith("| operation |") and "| sin | elementwise |" in text


def test_the_promotion_table_is_current() -> None:
    run("promotion_table.py", "--check")


def test_no_mutation_is_stale() -> None:
    """Each text that is to be replaced occurs exactly once; the tests that must catch it exist."""
    lines = run("mutate.py", "--list").splitlines()
    assert len([line for line in lines if line[:2].strip().isdigit()]) >= 20
