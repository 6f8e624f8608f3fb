"""Dropout, with an explicit random state."""

from __future__ import annotations

from typing import Any

from proa.dtypes import Dtype, float32
from proa.ops.arithmetic import eq, le, select
from proa.ops.composite.common import floating, interior, number, random_state, wide
from proa.ops.composite.random import uniform_from_bits
from proa.ops.creation import random_bits
from proa.ops.expand import composite
from proa.ops.primitive import apply, cast_to


def keep_factor(state: Any, p: Any, shape: tuple[int, ...], dtype: Dtype) -> Any:
    """1 / (1 - p) where a uniform number of 24 bits is at least p, else 0. The same places for
    every dtype; p = 0 keeps all as they are, p = 1 none."""
    bits = apply(random_bits, (state,), shape=shape)
    keep = le(cast_to(p, float32), uniform_from_bits(bits, float32))
    rest = 1.0 - cast_to(p, dtype)
    none = eq(rest, 0.0)
    return select(keep, select(none, 0.0, 1.0 / select(none, 1.0, rest)), 0.0)


def _dropout_expand(x: Any, state: Any, p: Any) -> Any:
    factor = keep_factor(state, p, x.spec.shape, x.spec.dtype)
    return select(eq(factor, 0.0), 0.0, x * factor)


_dropout = composite(
    "dropout", wide(_dropout_expand), differentiable=(0,),
    doc="x / (1 - p) with probability 1 - p, else 0.",
)  # fmt: skip


def dropout(x: Any, state: Any, p: Any = 0.5) -> Any:
    """x / (1 - p) where a uniform number is at least p, else 0 (Srivastava et al. 2014).

    x: any shape, float; state: uint32[4] (key, key, draw, 0); p: from 0 to 1.

    >>> import proa as pa
    >>> from proa.ops.composite import dropout
    >>> state = pa.asarray([1, 2, 0, 0], dtype=pa.uint32)
    >>> dropout(pa.ones((2,)), state, 0.0).tolist(), dropout(pa.ones((2,)), state, 1.0).tolist()
    ([1.0, 1.0], [0.0, 0.0])
    """
    x = floating("dropout", "x", x)
    inner = interior(x.spec.dtype)
    operands = (x, random_state("dropout", state), number("dropout", "p", p, inner, 0.0, 1.0))
    return apply(_dropout, operands)
