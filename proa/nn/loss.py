"""Losses as modules. `reduction` is "mean", "sum" or "none"."""

from __future__ import annotations

from typing import Any

from proa.nn import functional as F  # noqa: N812
from proa.nn.module import Module
from proa.ops.composite.common import choice

REDUCTIONS = ("none", "mean", "sum")


class _Loss(Module):
    def __init__(self, reduction: str = "mean", **buffers: Any) -> None:
        super().__init__()
        self.reduction = choice(type(self).__name__, "reduction", reduction, REDUCTIONS)
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class CrossEntropyLoss(_Loss):
    """-weight[t] log softmax(x)[t] for a target class t; for target probabilities
    -sum(weight t log softmax(x)). With label smoothing s the target is (1 - s) of itself and
    s / C of every class (Szegedy et al. 2016, arXiv:1512.00567).

    Arguments: weight: (C,), saved as a buffer; ignore_index: a class that does not count;
    reduction: "mean" divides by the weights that count; label_smoothing.
    Shapes: x (N, C), (N, C, d1, ...) or (C,); target: integers of that shape without C, or
    probabilities of x's shape.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.CrossEntropyLoss()(pa.asarray([[0.0, -1e9]]), pa.asarray([0])).item()
    0.0
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, x: Any, target: Any) -> Any:
        return F.cross_entropy(
            x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_Loss):
    """-weight[t] x[t] for log probabilities x and a target class t. Arguments and shapes as in
    `CrossEntropyLoss`.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.NLLLoss()(pa.asarray([[-1.0, -2.0]]), pa.asarray([1])).item()
    2.0
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index

    def forward(self, x: Any, target: Any) -> Any:
        return F.nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """weight (-pos_weight t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))), accurate in both tails.

    Arguments: weight, pos_weight: broadcast to x, saved as buffers; reduction.
    Shapes: x and target alike.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.BCEWithLogitsLoss()(pa.asarray([-100.0]), pa.asarray([1.0])).item()
    100.0
    """

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def forward(self, x: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(
            x, target, self.weight, self.reduction, self.pos_weight
        )


class BCELoss(_Loss):
    """weight (-t log(x) - (1 - t) log(1 - x)) for probabilities x; logarithms are at least -100.

    Arguments: weight: broadcast to x, saved as a buffer; reduction. Shapes: x and target alike.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.BCELoss()(pa.asarray([1.0]), pa.asarray([1.0])).item()
    0.0
    """

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)

    def forward(self, x: Any, target: Any) -> Any:
        return F.binary_cross_entropy(x, target, self.weight, self.reduction)


class MSELoss(_Loss):
    """(x - target)^2. Shapes: x and target alike.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.MSELoss()(pa.asarray([1.0, 2.0]), pa.asarray([1.0, 4.0])).item()
    2.0
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Any, target: Any) -> Any:
        return F.mse_loss(x, target, self.reduction)


class L1Loss(_Loss):
    """|x - target|; the derivative at 0 is 0. Shapes: x and target alike.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.L1Loss()(pa.asarray([1.0, 2.0]), pa.asarray([1.0, 4.0])).item()
    1.0
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Any, target: Any) -> Any:
        return F.l1_loss(x, target, self.reduction)


class HuberLoss(_Loss):
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), for d = x - target (Huber 1964).

    Shapes: x and target alike.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.HuberLoss()(pa.asarray([3.0]), pa.asarray([0.0])).item()
    2.5
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Any, target: Any) -> Any:
        return F.huber_loss(x, target, self.reduction, self.delta)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = x - target (Girshick 2015,
    arXiv:1504.08083). Shapes: x and target alike.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.SmoothL1Loss()(pa.asarray([3.0]), pa.asarray([0.0])).item()
    2.5
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Any:
        return F.smooth_l1_loss(x, target, self.reduction, self.beta)
