"""Every example in the documentation runs: docstrings of all modules, README.md and docs/."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import proa as pa
import proa.array

ROOT = Path(__file__).parent.parent
OPTIONAL = {"jax", "jaxlib", "matplotlib", "sklearn"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if p.exists()]
BLOCK = re.compile(r"^```(?:python|py|pycon)[ \t]*\n(.*?)^```", re.M | re.S)


def modules() -> list[str]:
    found = [
        m.name for m in pkgutil.walk_packages(proa.__path__, "proa.", onerror=lambda name: None)
    ]
    return ["proa", *sorted(n for n in found if not n.endswith("__main__"))]


def imported(name: str) -> Any:
    """The module; skipped if an optional package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in OPTIONAL:
            pytest.skip(f"{name} needs {error.name}")
        raise


def run(tests: list[Any]) -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    told: list[str] = []
    for test in tests:
        runner.run(test, out=told.append, clear_globs=True)
    assert not runner.failures, "".join(told)


@pytest.mark.parametrize("name", modules())
def test_examples_of_modules(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = imported(name)
    run([t for t in doctest.DocTestFinder().find(module) if t.examples])


def test_examples_of_the_array_namespace() -> None:
    """Functions that are handed on from other rooms have their examples run here."""
    finder = doctest.DocTestFinder(recurse=False)
    found = []
    for name in proa.array.__all__:
        item = getattr(pa, name)
        if callable(item):
            tests = [t for t in finder.find(item, f"pa.{name}", module=False) if t.examples]
            assert tests, name
            found += tests
    run(found)


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_examples_of_pages(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The Python blocks of a page, from top to bottom in one namespace. A block that begins with
    `# not run` is shown only."""
    monkeypatch.chdir(tmp_path)  # some write files
    parser, space = doctest.DocTestParser(), {"__name__": "__page__"}
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        block, line = match[1], text[: match.start(1)].count("\n")
        if block.startswith("# not run"):
            continue
        if ">>>" in block:
            test = parser.get_doctest(block, space, page.name, str(page), line)
            runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
            told: list[str] = []
            runner.run(test, out=told.append, clear_globs=False)
            space.update(test.globs)
            assert not runner.failures, "".join(told)
        else:
            code = compile("\n" * line + block, str(page), "exec")
            exec(code, space)  # noqa: S102  (the documentation's own code)
