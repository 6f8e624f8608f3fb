"""Writes docs/promotion.md from proa.dtypes: `python tools/promotion_table.py [--check]`.

`--check` writes nothing; the exit status is 1 if the page is not current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

PAGE = ROOT / "docs" / "promotion.md"
SHORT = {
    "bool": "b1", "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "float16": "f16", "bfloat16": "bf16",
    "float32": "f32", "float64": "f64", "complex64": "c64", "complex128": "c128",
}  # fmt: skip
HEAD = """# How dtypes mix

This page is written by `python tools/promotion_table.py` from `proa/dtypes.py`; do not edit it.

The kind that is higher in bool < int < float < complex wins; within a kind the dtype that holds
both. float16 with bfloat16 gives float32. A dash means an error that names the way out: float8 is
for storage, and no integer dtype holds both uint64 and a signed one. Complex dtypes are stored,
moved and cast; arithmetic refuses them by name.
"""
TENSORS = """
## Two tensors

"""
NUMBERS = """
## A tensor and a Python number

A Python number is weak: it takes the dtype of the tensor that it meets, unless its kind is higher.
New floats are `pa.get_default_dtype()`; the table is for float32. An int that the tensor's integer
dtype cannot hold is an error.

"""
NAMES = """
## Names in these tables

"""


def mixed(a: Any, b: Any) -> str:
    """The short name of the dtype in which two dtypes meet."""
    from proa.dtypes import promote
    from proa.errors import DtypeError

    try:
        return SHORT[promote(a, b).name]
    except DtypeError:
        return "-"


def met(strong: Any, number: bool | int | float | complex) -> str:
    """The short name of the dtype in which a tensor meets a Python number."""
    from proa.dtypes import float32, meet, weak_dtype

    if strong.is_storage:
        return "-"
    return SHORT[meet(strong, weak_dtype(number), float32).name]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def page() -> str:
    """The text of the page."""
    from proa.dtypes import ALL

    short = [SHORT[d.name] for d in ALL]
    both = [[SHORT[a.name], *[mixed(a, b) for b in ALL]] for a in ALL]
    numbers: list[Any] = [True, 1, 1.0, 1j]
    weak = [[d.name, *[met(d, n) for n in numbers]] for d in ALL]
    names = [[SHORT[d.name], d.name, str(d.bits)] for d in ALL]
    return (
        HEAD
        + TENSORS
        + table(["", *short], both)
        + NUMBERS
        + table(["tensor", "bool", "int", "float", "complex"], weak)
        + NAMES
        + table(["short", "dtype", "bits"], names)
    )


def main() -> int:
    """Writes the page, or with `--check` compares it."""
    parser = argparse.ArgumentParser(description="docs/promotion.md from proa.dtypes.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/promotion.md is not current: run python tools/promotion_table.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
