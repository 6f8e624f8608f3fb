"""The documents are true: files have their line, links lead somewhere, examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("proa", "tools", "benchmarks", "docs", "tests", ".ci")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINE = re.compile(r"- `([^`]+)`: (\S.*)")
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


WHOLE = "tests/golden/export/"  # a folder with one line: only more of the same comes into it


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def git(*arguments: str) -> list[str]:
    found = subprocess.run(
        ["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip("not a git checkout")
    return [name for name in found.stdout.split("\0") if name]


def test_every_file_has_one_line() -> None:
    tracked = git()
    fresh = [n for n in git("--others", "--exclude-standard") if n.split("/")[0] in ROOMS]
    files = {n for n in {*tracked, *fresh} if (ROOT / n).exists()}
    files = {WHOLE if n.startswith(WHOLE) else n for n in files}
    listed = LINE.findall((ROOT / "docs" / "files.md").read_text(encoding="utf-8"))
    names = [name for name, _ in listed]
    assert sorted(names) == sorted(set(names)), "a file has two lines"
    missing, gone = sorted(files - set(names)), sorted(set(names) - files)
    assert not missing, f"docs/files.md has no line `- `name`: what it is` for {missing}"
    assert not gone, f"docs/files.md has lines for files that are not there: {gone}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "```python" in p.read_text("utf-8")], ids=name_of
)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """All examples of a page in order, in a process of their own; warnings are errors."""
    script = tmp_path / "example.py"
    script.write_text(
        "\n".join(EXAMPLE.findall(page.read_text(encoding="utf-8"))), encoding="utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
