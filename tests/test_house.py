"""The house stands: imports point one way, no cycles, nothing reads the environment."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "proa"

# A room may import from rooms that stand before it, and from itself.
ORDER = [
    "version", "errors", "dtypes", "shapes", "config", "tree", "exchange",
    "graph.spec", "graph.entry", "graph.node", "graph.graph", "graph.build", "graph.rewrite",
    "graph.verify", "graph.template", "graph.dot", "graph.show", "graph.store", "graph",
    "ops.primitive", "ops.factors", "ops.families", "ops", "transforms",
    "compile", "backends", "record", "printing", "attached", "tensor", "dunders",
    "substitution", "autograd", "capture", "defaults", "convert", "indexing", "array",
    "random", "explain", "testing", "conformance", "nn", "optim", "data",
    "io", "exports", "profile", "train", "cli.curves", "cli.show", "examples", "cli",
]  # fmt: skip
# Folders whose files may import each other in any order.
FILES = sorted(ROOT.rglob("*.py"))


def room(module: str) -> str:
    """The longest name of ORDER that a module lies in."""
    names = [r for r in ORDER if module == r or module.startswith(r + ".")]
    return max(names, key=len) if names else ""


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "proa":
            base = (node.module or "").removeprefix("proa").lstrip(".")
            for name in node.names:
                inner = f"{base}.{name.name}".lstrip(".")
                found.append((inner if room(inner) else base, node.lineno))
        if isinstance(node, ast.Import):
            found += [
                (n.name.removeprefix("proa."), node.lineno)
                for n in node.names
                if n.name.startswith("proa.")
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if name == "__init__":
        return
    mine = room(name)
    assert mine, f"{name} lies in no room of ORDER"
    for target, line in imports(path):
        if target == "":  # the whole namespace, as users see it
            assert ORDER.index(mine) >= ORDER.index("cli.curves"), f"{name}:{line} imports proa"
            continue
        assert room(target), f"{name}:{line} imports {target}, which lies in no room"
        assert ORDER.index(room(target)) <= ORDER.index(mine), f"{name}:{line} imports {target}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_config_reads_the_environment(path: Path) -> None:
    text = path.read_text()
    assert path.name == "config.py" or "environ" not in text or "cli" in path.parts
