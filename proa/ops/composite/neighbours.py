"""The float next to another."""

from __future__ import annotations

from typing import Any

from proa import dtypes
from proa.ops.arithmetic import eq, lt, select
from proa.ops.expand import composite
from proa.ops.functions import bitcast
from proa.ops.inverse import atan2
from proa.ops.primitive import Sample, apply, as_number, promoted


def _nextafter_expand(x: Any, y: Any) -> Any:
    """Bits of floats of one sign are in the order of their sizes."""
    of = x.value.spec.dtype
    ints = dtypes.dtype(f"int{of.bits}")
    bits = apply(bitcast, (x,), dtype=ints)
    # The smallest float above 0, and below it; the same as steps of bits, but for the sign.
    up, first_down, down = [
        as_number("nextafter", n, ints) for n in (1, dtypes.iinfo(ints).min + 1, -1)
    ]
    step = select(eq(lt(x, y), lt(0.0, x)), up, down)
    first = select(lt(x, y), up, first_down)
    moved = select(eq(x, 0.0), first, bits + step)
    found = select(eq(x, y), y, apply(bitcast, (moved,), dtype=of))
    return select(eq(x, x), select(eq(y, y), found, y), x)


_nextafter = composite(
    "nextafter", _nextafter_expand, differentiable=False,
    samples=[Sample(((2, 3), (2, 3))), Sample(((), (3,))), Sample(((2, 1), (3,)))],
    doc="The float that follows x in the direction of y.",
)  # fmt: skip


def nextafter(x1: Any, x2: Any) -> Any:
    """The float that follows x1 in the direction of x2; x2 where they are equal.

    >>> import proa as pa
    >>> float(pa.nextafter(pa.asarray(0.0), pa.asarray(1.0)))
    1.401298464324817e-45
    """
    return apply(_nextafter, promoted(atan2, (x1, x2)))
