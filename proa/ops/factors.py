"""Factor maps: how letters run through the operands and results of an operation.

A letter stands for one index of the loop nest. Its role says what the operation does with it:

| role | meaning | example |
| --- | --- | --- |
| pass | each result element depends on the same index of the operand | `i` of `neg` |
| sum, max, min | reduced away | `k` of `dot` |
| whole | the operation needs the whole extent at once | the axis of `sort` |
| window | an affine window of the operand's axis | the image axes of `conv` |
| gathered | addressed by data | the rows of `gather` |

From the map come result shapes, flops and bytes, placement propagation and the loop nest;
`None` for an axis says that the operand is repeated along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from proa.graph.spec import Spec
from proa.shapes import Dim

Letters = tuple[Any, ...]


class FactorMap(NamedTuple):
    """Letters of each operand's axes and of each result's axes; role and size of each letter."""

    operands: tuple[Letters, ...]
    results: tuple[Letters, ...]
    roles: dict[Any, str]
    sizes: dict[Any, int]

    def result_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple([tuple([self.sizes[c] for c in r]) for r in self.results])

    def iterations(self) -> int:
        """The size of the loop nest: every letter once, but for addressed axes of operands."""
        total = 1
        for letter, n in self.sizes.items():
            addressed = self.roles[letter] in ("window", "gathered")
            total *= 1 if addressed or isinstance(n, Dim) else n
        return total


def passing(shape: tuple[int, ...], count: int = 1) -> FactorMap:
    """`count` operands and one result of the same shape, every letter passed."""
    letters = tuple(range(len(shape)))
    roles = dict.fromkeys(letters, "pass")
    return FactorMap((letters,) * count, (letters,), roles, dict(enumerate(shape)))


def whole(ins: Sequence[Spec], outs: Sequence[Spec] = ()) -> FactorMap:
    """Every axis a letter of its own, needed whole: from outside nothing more is known."""
    operands = tuple([tuple([(i, j) for j in range(s.ndim)]) for i, s in enumerate(ins)])
    results = tuple([tuple([("out", i, j) for j in range(s.ndim)]) for i, s in enumerate(outs)])
    sizes: dict[Any, int] = {}
    for letters, s in zip(operands + results, (*ins, *outs), strict=True):
        sizes.update(zip(letters, s.shape, strict=True))
    return FactorMap(operands, results, dict.fromkeys(sizes, "whole"), sizes)
