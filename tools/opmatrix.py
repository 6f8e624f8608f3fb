"""Every operation and what is there for it: `python tools/opmatrix.py [--markdown]`.

A hole is a cell that is empty. Each has its reason in `opmatrix_reasons.json`; a hole without a
reason, and a reason without a hole, make the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

REASONS = Path(__file__).with_name("opmatrix_reasons.json")
COLUMNS = (
    "family", "kind", "factor map", "derivative", "transpose", "batch", "numpy", "xla", "dtypes",
)  # fmt: skip
HOLE = ""
NONE = "-"  # what the operation cannot have, by what it is


def load_operations() -> dict[str, Any]:
    """The registry after every module that declares operations was imported."""
    for package in ("proa.ops", "proa.transforms", "proa.capture", "proa.nn", "proa.optim"):
        folder = ROOT.joinpath(*package.split("."))
        import_module(package)
        for module in pkgutil.walk_packages([str(folder)], f"{package}."):
            import_module(module.name)
    from proa.ops.primitive import REGISTRY

    return REGISTRY


def xla_names() -> set[str]:
    """What the backend `xla` emits."""
    from proa.backends.xla.backend import EMITTERS

    return set(EMITTERS)


def kernels() -> set[str]:
    """What the backend `numpy` runs on kernels prepared from specs."""
    from proa.backends.numpy.kernels import TABLE

    return set(TABLE)


def derivative_of(op: Any) -> str:
    """Where the derivative comes from."""
    if op.differentiable is False:
        return HOLE
    if op.pullback is not None:
        return "own pullback"
    if op.reverse is not None:
        return "of its graphs"
    if op.push is not None:
        return "of its graphs"
    if op.jvp is not None:
        return "rule, linear" if op.linear else "rule"
    if op.linear:
        return "linear"
    return "expansion" if op.expand is not None else HOLE


def transpose_of(op: Any) -> str:
    """How cotangents pass where the operation is linear."""
    if not op.linear:
        return NONE
    return "rule" if op.transpose is not None else HOLE


def batch_of(op: Any) -> str:
    """How one more letter is put in front."""
    if op.batch is not None:
        return "rule"
    if op.family.batch is not None:
        return op.family.name
    return "expansion" if op.expand is not None else HOLE


def numpy_of(op: Any) -> str:
    """What runs on `numpy`."""
    if op.name in kernels():
        return "prepared"
    if op.meaning is not None:
        return "meaning"
    if op.family.name == "control":
        return "rounds"
    return "expansion" if op.expand is not None else HOLE


def dtypes_of(op: Any) -> str:
    """The kinds of dtype that operands may have."""
    accepts = op.accepts if isinstance(op.accepts, tuple) else (op.accepts,)
    return ", ".join(dict.fromkeys(_kinds(a) for a in accepts))


def _kinds(accepted: Any) -> str:
    from proa import dtypes

    if len(accepted) == 1:
        return str(next(iter(accepted)).name)
    if len(accepted) == len(dtypes.ALL):
        return "any"
    return " ".join(k for k in dtypes.KINDS if any(d.kind == k for d in accepted))


def cells(op: Any, xla: set[str]) -> dict[str, str]:
    """One row of the matrix."""
    composite = op.expand is not None
    kind = "composite" if composite else "core" if op.core else "named"
    emitted = "claimed" if op.name in xla else "expansion" if composite else HOLE
    return {
        "family": op.family.name,
        "kind": kind,
        "factor map": "of the expansion" if composite else "own",
        "derivative": derivative_of(op),
        "transpose": transpose_of(op),
        "batch": batch_of(op),
        "numpy": numpy_of(op),
        "xla": emitted,
        "dtypes": dtypes_of(op),
    }


def matrix() -> dict[str, dict[str, str]]:
    """All rows, by the name of the operation."""
    operations, xla = load_operations(), xla_names()
    order = {"core": 0, "named": 1, "composite": 2}
    rows = {name: cells(op, xla) for name, op in operations.items()}
    return dict(sorted(rows.items(), key=lambda r: (order[r[1]["kind"]], r[1]["family"], r[0])))


def reasons() -> dict[tuple[str, str], str]:
    """(operation, column) -> why the cell is empty."""
    found: dict[tuple[str, str], str] = {}
    for item in json.loads(REASONS.read_text(encoding="utf-8")):
        for name in item["ops"]:
            key = (name, item["column"])
            if key in found:
                raise SystemExit(f"two reasons for {name}, {item['column']}")
            found[key] = item["reason"]
    return found


def problems(rows: dict[str, dict[str, str]], known: dict[tuple[str, str], str]) -> list[str]:
    """Holes without a reason and reasons without a hole, in words."""
    holes = {(n, c) for n, row in rows.items() for c, cell in row.items() if cell == HOLE}
    found = [f"no reason for the hole: {n}, {c}" for n, c in sorted(holes - set(known))]
    return found + [f"a reason but no hole: {n}, {c}" for n, c in sorted(set(known) - holes)]


def print_text(rows: dict[str, dict[str, str]]) -> None:
    """The matrix in columns."""
    table = [("operation", *COLUMNS)]
    table += [(n, *[row[c] or "HOLE" for c in COLUMNS]) for n, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def print_markdown(rows: dict[str, dict[str, str]], known: dict[tuple[str, str], str]) -> None:
    """The matrix and the reasons as Markdown."""
    print("| operation | " + " | ".join(COLUMNS) + " |")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(row[c] or "**hole**" for c in COLUMNS) + " |")
    print("\n| hole | reason |\n| --- | --- |")
    for (name, column), reason in sorted(known.items()):
        print(f"| {name}, {column} | {reason} |")


def main() -> int:
    """Prints the matrix; 1 if a hole and the reasons do not agree."""
    parser = argparse.ArgumentParser(description="Operations and what is there for each.")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    rows, known = matrix(), reasons()
    if parser.parse_args().markdown:
        print_markdown(rows, known)
    else:
        print_text(rows)
    kinds = [row["kind"] for row in rows.values()]
    counts = ", ".join(f"{kinds.count(k)} {k}" for k in ("core", "named", "composite"))
    print(f"\n{len(rows)} operations ({counts}), {len(known)} holes with a reason")
    found = problems(rows, known)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
