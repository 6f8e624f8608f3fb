"""Every function of the Array API standard 2024.12 and whether it passes.

`python tools/array_api.py` writes docs/array_api.md; `tests/test_array_api.py` holds the page
against what is found.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "array_api.md"
DEVICES = ("numpy", "cpu")

HEAD = """\
# The Array API standard 2024.12

What of the standard's main namespace holds, function by function; written by `tools/array_api.py`,
held by `tests/test_array_api.py`. A cell is `passed`, `-` (the standard asks for nothing), or what
does not hold.

| column | what is tried |
| --- | --- |
| signature | every way to call it that the text allows, and its defaults |
| values | all dtypes of the text but complex ones, 0 axes, zero sizes, broadcasting, Python \
numbers, axes; against NumPy, dtype and shape too |
| special cases | every special case of floats in the text, in float32 and float64, on `numpy` \
and `cpu`, signs of zeros too |
| complex | complex64 and complex128 |

Complex numbers can be made, held, read, moved and taken apart; there is no arithmetic of them yet.
So a function that the standard defines for them is not *whole*, and counts as not passed.

"""


class Row(NamedTuple):
    """The cells of a function; empty where nothing is wrong, None where nothing is asked."""

    name: str
    signature: str | None
    values: str | None
    special: str | None
    complex: str | None

    @property
    def is_real(self) -> bool:
        return not (self.signature or self.values or self.special)

    @property
    def is_whole(self) -> bool:
        return self.is_real and not self.complex


def row_of(name: str) -> Row:
    """What is found of one function."""
    import proa as pa
    from tests import helpers_array_api as api
    from tests.helpers_array_special import special_cases

    found = getattr(pa, name, None)
    if not hasattr(pa, name):
        return Row(name, "missing", None, None, None)
    if not callable(found):
        return Row(name, "", None, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = api.wrong_values(name)
        special: list[str] = []
        for dtype in api.FLOATS:
            for device in DEVICES:
                special += api.wrong_specials(name, dtype, device)
        return Row(
            name,
            _said(api.wrong_signature(name)),
            _said(values) if api.has_calls(name) else None,
            _said(special) if name in special_cases() else None,
            _without_complex(api.wrong_complex(name)) if name in api.TAKES_COMPLEX else None,
        )


def _said(wrong: list[str]) -> str:
    """The first of what is wrong, in one line."""
    return "" if not wrong else " ".join(wrong[0].split()).replace("|", "/")[:90]


def _without_complex(wrong: list[str]) -> str:
    """One reason for all of them."""
    refused = all("given complex" in text or "expected a real number" in text for text in wrong)
    return _said(wrong) if wrong and not refused else "not yet" if wrong else ""


def members() -> list[Row]:
    """Attributes and methods of a tensor."""
    from tests import helpers_array_api as api

    names = [*api.ATTRIBUTES, *api.METHODS]
    return [Row(f"Tensor.{n}", _said(api.wrong_member(n)), None, None, None) for n in names]


def page(rows: list[Row]) -> str:
    """The page of these rows."""
    lines = [HEAD]
    functions = [r for r in rows if not r.name.startswith("Tensor.")]
    real, whole = (sum(getattr(r, k) for r in functions) for k in ("is_real", "is_whole"))
    count = f"Of {len(functions)} functions and constants {real} pass with real dtypes"
    lines.append(f"{count}, {whole} whole.\n\n")
    lines.append("| function | signature | values | special cases | complex |\n")
    lines.append("| --- | --- | --- | --- | --- |\n")
    for row in functions:
        lines.append("| `" + row.name + "` | " + " | ".join(map(_cell, row[1:])) + " |\n")
    rest = [r for r in rows if r.name.startswith("Tensor.")]
    bad = [r for r in rest if not r.is_real]
    lines.append("\n## The tensor\n\n")
    lines.append(f"Of {len(rest)} attributes and methods {len(rest) - len(bad)} pass: operators ")
    lines.append("are the functions of their names, reflected and in place too.\n")
    lines += [f"\n- `{r.name}`: {r.signature}" for r in bad]
    return "".join(lines)


def _cell(text: Any) -> str:
    return "-" if text is None else text or "passed"


def main() -> int:
    """Writes the page, or with `--check` compares it."""
    from tests.helpers_array_api import signatures

    parser = argparse.ArgumentParser(description="The Array API standard, function by function.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("names", nargs="*", help="functions to look at, instead of the page")
    given = parser.parse_args()
    if given.names:
        for name in given.names:
            print(row_of(name))
        return 0
    text = page([*map(row_of, signatures()), *members()])
    if given.check:
        return int(text != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
