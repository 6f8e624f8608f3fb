"""`dot`: the product of two tensors, as an einsum of letters."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.errors import ArgumentError, ShapeError, message
from proa.graph.spec import Spec
from proa.ops.factors import FactorMap
from proa.ops.primitive import NUMERIC, Accuracy, Family, Primitive, Sample, apply

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _factors(op: str, ins: tuple[Spec, ...], a: str, b: str, out: str) -> FactorMap:
    sizes: dict[Any, int] = {}
    for letters, s in zip((a, b), ins, strict=True):
        if len(letters) != s.ndim or len(set(letters)) != len(letters):
            given = f"letters {letters!r} for shape {s.shape}"
            raise ArgumentError(message("dot", given, "one distinct letter for each axis"))
        for letter, n in zip(letters, s.shape, strict=True):
            if sizes.setdefault(letter, n) != n:
                given = f"shapes {ins[0].shape} and {ins[1].shape} ({a},{b}->{out})"
                raise ShapeError(message("dot", given, f"one size for {letter!r}"))
    lone = (set(a) ^ set(b)) - set(out)
    if lone or not set(out) <= set(sizes) or len(set(out)) != len(out):
        given = f"{a},{b}->{out}"
        raise ArgumentError(message("dot", given, "summed letters in both, result letters once"))
    roles = {c: "pass" if c in out else "sum" for c in sizes}
    return FactorMap((tuple(a), tuple(b)), (tuple(out),), roles, sizes)


def _batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """One more letter, on the operands that are batched and on the result."""
    a, b, out = params["a"], params["b"], params["out"]
    new = next(c for c in LETTERS if c not in a + b + out)
    a, b = (new + a if flags[0] else a), (new + b if flags[1] else b)
    return apply(primitive, operands, a=a, b=b, out=new + out)


def _transpose(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    """Letters swapped: the cotangent takes the operand's place."""
    a, b, out = entry.params
    mine, other = (a, b) if index == 0 else (b, a)
    if index == 0:
        return dot(cts[0], operands[1], a=out, b=other, out=mine)
    return dot(operands[0], cts[0], a=other, b=out, out=mine)


def _meaning(x: Any, y: Any, a: str, b: str, out: str) -> Any:
    """Batch letters first, then the rows of x, the summed letters, the columns of y: one matmul.

    Both operands are made fresh and contiguous, so that the routine that BLAS chooses, and its
    bits, depend on shapes alone (RULES 3.0).
    """
    shared = [c for c in a if c in b]
    both = [c for c in shared if c in out]
    summed = [c for c in shared if c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    n = dict(zip(a + b, x.shape + y.shape, strict=True))

    def total(letters: list[str]) -> int:
        return int(np.prod([n[c] for c in letters], dtype=np.int64))

    left = _fresh(x, [a.index(c) for c in both + rows + summed])
    right = _fresh(y, [b.index(c) for c in both + summed + columns])
    left = left.reshape(total(both), total(rows), total(summed))
    right = right.reshape(total(both), total(summed), total(columns))
    if np.may_share_memory(left, right):
        right = right.copy()
    product = _matmul(left, right).astype(x.dtype, copy=False)
    order = both + rows + columns
    product = product.reshape([n[c] for c in order])
    return np.transpose(product, [order.index(c) for c in out])


def _fresh(x: Any, axes: list[int]) -> Any:
    return np.ascontiguousarray(np.transpose(x, axes))


def _matmul(left: Any, right: Any) -> Any:
    """Narrow floats are multiplied in float32 and rounded once."""
    if left.dtype.itemsize == 2 and left.dtype.kind not in "iu":
        left, right = left.astype(np.float32), right.astype(np.float32)
    if left.shape[0] == 1:
        return np.matmul(left[0], right[0])[None]
    return np.matmul(left, right)


dot: Primitive = Primitive(
    "dot", Family("contraction", _factors, _batch), params=("a", "b", "out"), accepts=NUMERIC,
    core=True, meaning=_meaning, linear=(0, 1), transpose=_transpose, saves="x y", retained=True,
    accuracy=Accuracy(1, 1, sums=True), cost=2,
    jvp=(
        lambda x, y, z, dx, a, b, out: dot(dx, y, a=a, b=b, out=out),
        lambda x, y, z, dy, a, b, out: dot(x, dy, a=a, b=b, out=out),
    ),
    samples=[
        Sample(((2, 3), (3, 4)), {"a": "mk", "b": "kn", "out": "mn"}),
        Sample(((2, 3), (4, 3)), {"a": "mk", "b": "nk", "out": "nm"}),
        Sample(((5, 2, 3), (5, 3, 4)), {"a": "bmk", "b": "bkn", "out": "bmn"}),
        Sample(((3,), (3,)), {"a": "k", "b": "k", "out": ""}),
        Sample(((2,), (3,)), {"a": "i", "b": "j", "out": "ij"}),
        Sample(((2, 0), (0, 3)), {"a": "mk", "b": "kn", "out": "mn"}),
        Sample(((2, 3, 4), (4, 2, 5)), {"a": "ijk", "b": "kil", "out": "lj"}),
    ],
    doc="The sum over the letters that are not in `out` of the product of two tensors.",
)  # fmt: skip
