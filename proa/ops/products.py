"""The matrix product, which `@` means."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from proa.errors import ShapeError, message
from proa.ops.contraction import LETTERS, dot
from proa.ops.moves import reshape
from proa.ops.primitive import apply, promoted
from proa.shapes import Shape, broadcast_shapes


def matmul(x: Any, y: Any) -> Any:
    """The matrix product; leading axes are broadcast, a 1-d operand is a row or a column.

    >>> import proa as pa
    >>> (pa.asarray([[1.0, 2.0]]) @ pa.asarray([3.0, 4.0])).tolist()
    [11.0]
    """
    x, y = promoted(dot, (x, y))
    shape_x, shape_y, letters, full = _matmul_plan(x.value.spec.shape, y.value.spec.shape)
    a, b, out = letters
    product = apply(dot, (reshape(x, shape_x), reshape(y, shape_y)), a=a, b=b, out=out)
    return reshape(product, full)


@lru_cache(maxsize=1024)
def _matmul_plan(a: Shape, b: Shape) -> tuple[Shape, Shape, tuple[str, str, str], Shape]:
    """Shapes without repeated axes, letters, and the shape of the product."""
    if not a or not b:
        raise ShapeError(message("matmul", f"shapes {a} and {b}", "at least one axis in both", "*"))
    inner = (a[-1], b[-2] if len(b) > 1 else b[-1])
    if inner[0] != inner[1]:
        given = f"shapes {a} and {b}"
        raise ShapeError(
            message("matmul", given, f"equal inner sizes, not {inner[0]} and {inner[1]}")
        )
    lead = broadcast_shapes("matmul", [a[:-2], b[:-2]])
    mine, drop_a = _lead_letters(a, lead)
    other, drop_b = _lead_letters(b, lead)
    rows, columns = "Y" if len(a) > 1 else "", "Z" if len(b) > 1 else ""
    kept = "".join([c for c in LETTERS[: len(lead)] if c in mine + other])
    letters = (mine + rows + "X", other + "X" + columns, kept + rows + columns)
    full = lead + (a[-2:-1] if rows else ()) + (b[-1:] if columns else ())
    return drop_a, drop_b, letters, full


def _lead_letters(shape: Shape, lead: Shape) -> tuple[str, Shape]:
    """Letters of the leading axes, those that are repeated left out, and the shape without them."""
    first = len(lead) - len(shape[:-2])
    kept = [i for i, n in enumerate(shape[:-2]) if n != 1 or lead[first + i] == 1]
    letters = "".join([LETTERS[first + i] for i in kept])
    return letters, tuple([shape[i] for i in kept]) + shape[-2:]
