"""Dropout of elements."""

from __future__ import annotations

from typing import Any

from proa.nn import functional as F  # noqa: N812
from proa.nn.functional.tables import probability
from proa.nn.module import Module


class Dropout(Module):
    """In training each element is 0 with probability p, else divided by 1 - p; in evaluation x
    itself (Srivastava et al. 2014).

    Arguments: p; generator: where the numbers come from, else the default generator (that
    `pa.manual_seed` sets). Shapes: any -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> drop = nn.Dropout(0.5)
    >>> sorted(set(drop(pa.ones((99,))).tolist())), drop.eval()(pa.ones((2,))).tolist()
    ([0.0, 2.0], [1.0, 1.0])
    """

    def __init__(self, p: float = 0.5, generator: Any = None) -> None:
        super().__init__()
        probability("Dropout", p)
        self.p = p
        self.generator = generator

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"
