"""Losses of two tensors of one shape, with PyTorch's names and conventions."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, ShapeError, message
from proa.graph.node import Value
from proa.ops.arithmetic import eq, lt, maximum, select
from proa.ops.composite.activations import folded
from proa.ops.composite.common import (
    REDUCTIONS,
    Names,
    choice,
    flag,
    floating,
    interior,
    matched,
    number,
    optional,
    reduced,
    wide,
)
from proa.ops.expand import composite
from proa.ops.families.movement import all_batched
from proa.ops.functions import abs as absolute
from proa.ops.functions import exp, log, log1p
from proa.ops.primitive import apply, number_of
from proa.shapes import broadcast_shapes

# Two classes.


def _bce_logits_expand(x: Any, target: Any, *rest: Any, reduction: str, given: Names) -> Any:
    """softplus(-x) and softplus(x) share one exponential and one logarithm; nothing cancels."""
    named = dict(zip(given, rest, strict=True))
    negative, small = folded(x)
    tail = log1p(small)
    yes = select(negative, -x, 0.0) + tail
    no = select(negative, 0.0, x) + tail
    if "pos_weight" in named:
        yes = yes * named["pos_weight"]
    loss = target * yes + (1.0 - target) * no
    return reduced(loss * named["weight"] if "weight" in named else loss, reduction)


_bce_logits = composite(
    "binary_cross_entropy_with_logits", wide(_bce_logits_expand), params=("reduction", "given"),
    doc="-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)).",
)  # fmt: skip


def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """weight (-pos_weight t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))), accurate in both tails.

    x and target: one shape and float dtype; weight, pos_weight: of that dtype, broadcast to it.

    >>> import proa as pa
    >>> from proa.ops.composite import binary_cross_entropy_with_logits
    >>> binary_cross_entropy_with_logits(pa.asarray([-100.0]), pa.asarray([1.0])).item()
    100.0
    """
    op = "binary_cross_entropy_with_logits"
    x, target = _pair(op, x, target, reduction)
    named = {
        n: _broadcastable(op, n, v, x) for n, v in (("weight", weight), ("pos_weight", pos_weight))
    }
    given, rest = optional(**named)
    return apply(_bce_logits, (x, target, *rest), reduction=reduction, given=given)


def _pair(
    op: str, x: Any, target: Any, reduction: str, allowed: Names = REDUCTIONS
) -> tuple[Value, Value]:
    x = floating(op, "x", x)
    target = matched(op, "target", target, x.spec.dtype)
    if target.spec.shape != x.spec.shape:
        given, hint = f"shapes {x.spec.shape} and {target.spec.shape}", "target.reshape(x.shape)"
        raise ShapeError(message(op, given, "equal shapes", hint))
    choice(op, "reduction", reduction, allowed)
    return x, target


def _broadcastable(op: str, name: str, v: Any, x: Value) -> Any:
    if v is None:
        return None
    value = matched(op, name, v, x.spec.dtype, wide=True)
    if broadcast_shapes(op, [value.spec.shape, x.spec.shape]) != x.spec.shape:
        given = f"`{name}` of shape {value.spec.shape}"
        raise ShapeError(message(op, given, f"one that is broadcast to {x.spec.shape}"))
    return value


def _limited_logs(x: Any) -> tuple[Any, Any]:
    """log(x) and log(1 - x), at least -100."""
    return maximum(log(x), -100.0), maximum(log1p(-x), -100.0)


def _two_classes_expand(x: Any, target: Any) -> Any:
    yes, no = _limited_logs(x)
    return (target - 1.0) * no - target * yes


def _two_classes_back(operands: Any, results: Any, cts: Any) -> list[Any]:
    """(x - t) / max(x (1 - x), 1e-12), as PyTorch has it: finite at 0 and 1."""
    (x, target), (ct,) = operands, cts
    yes, no = _limited_logs(x)
    return [ct * ((x - target) / maximum(x * (1.0 - x), 1e-12)), ct * (no - yes)]


_two_classes = composite(
    "two_class_loss", _two_classes_expand, pullback=_two_classes_back,
    batch=lambda primitive, operands, flags, params: apply(primitive, all_batched(operands, flags)),
    doc="-t log(x) - (1 - t) log(1 - x) element by element, the logarithms at least -100.",
)  # fmt: skip


def _bce_expand(x: Any, target: Any, *rest: Any, reduction: str) -> Any:
    loss = apply(_two_classes, (x, target))
    return reduced(loss * rest[0] if rest else loss, reduction)


_bce = composite(
    "binary_cross_entropy", wide(_bce_expand), params=("reduction",),
    doc="-t log(x) - (1 - t) log(1 - x), the logarithms at least -100.",
)  # fmt: skip


def binary_cross_entropy(x: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """weight (-t log(x) - (1 - t) log(1 - x)) for probabilities x; the logarithms are limited to
    at least -100, as in PyTorch. NaN for x outside 0..1.

    x and target: one shape and float dtype; weight: of that dtype, broadcast to it.

    >>> import proa as pa
    >>> from proa.ops.composite import binary_cross_entropy
    >>> binary_cross_entropy(pa.asarray([1.0]), pa.asarray([1.0])).item()
    0.0
    """
    op = "binary_cross_entropy"
    x, target = _pair(op, x, target, reduction)
    _, rest = optional(weight=_broadcastable(op, "weight", weight, x))
    return apply(_bce, (x, target, *rest), reduction=reduction)


# Regression.


def _mse_expand(x: Any, target: Any, reduction: str) -> Any:
    d = x - target
    return reduced(d * d, reduction)


_mse = composite("mse_loss", wide(_mse_expand), params=("reduction",), doc="(x - target)^2.")


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """(x - target)^2. x and target: one shape and float dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import mse_loss
    >>> mse_loss(pa.asarray([1.0, 2.0]), pa.asarray([1.0, 4.0])).item()
    2.0
    """
    return apply(_mse, _pair("mse_loss", x, target, reduction), reduction=reduction)


_l1 = composite(
    "l1_loss", wide(lambda x, target, reduction: reduced(absolute(x - target), reduction)),
    params=("reduction",), doc="|x - target|. The derivative at 0 is 0.",
)  # fmt: skip


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """|x - target|. The derivative at 0 is 0. x and target: one shape and float dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import l1_loss
    >>> l1_loss(pa.asarray([1.0, 2.0]), pa.asarray([1.0, 4.0])).item()
    1.0
    """
    return apply(_l1, _pair("l1_loss", x, target, reduction), reduction=reduction)


def _huber_expand(x: Any, target: Any, delta: Any, reduction: str) -> Any:
    d = x - target
    size = absolute(d)
    return reduced(select(lt(size, delta), d * d * 0.5, delta * (size - delta * 0.5)), reduction)


_huber = composite(
    "huber_loss", wide(_huber_expand), params=("reduction",), differentiable=(0, 1),
    doc="d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), for d = x - target.",
)  # fmt: skip


def huber_loss(x: Any, target: Any, reduction: str = "mean", delta: Any = 1.0) -> Any:
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), for d = x - target (Huber 1964).

    x and target: one shape and float dtype; delta: above 0.

    >>> import proa as pa
    >>> from proa.ops.composite import huber_loss
    >>> huber_loss(pa.asarray([3.0]), pa.asarray([0.0])).item()
    2.5
    """
    op = "huber_loss"
    x, target = _pair(op, x, target, reduction)
    if number_of(delta) == 0:
        raise ArgumentError(message(op, "`delta` 0", "a number above 0"))
    d = number(op, "delta", delta, interior(x.spec.dtype), 0.0)
    return apply(_huber, (x, target, d), reduction=reduction)


def _smooth_l1_expand(x: Any, target: Any, beta: Any, reduction: str) -> Any:
    d = x - target
    size = absolute(d)
    near = lt(size, beta)
    inner = select(near, d, 0.0)
    square = inner * inner * 0.5 / select(eq(beta, 0.0), 1.0, beta)
    return reduced(select(near, square, size - beta * 0.5), reduction)


_smooth_l1 = composite(
    "smooth_l1_loss", wide(_smooth_l1_expand), params=("reduction",), differentiable=(0, 1),
    doc="d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = x - target.",
)  # fmt: skip


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: Any = 1.0) -> Any:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = x - target (Girshick 2015).
    With beta = 0: |d|. x and target: one shape and float dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import smooth_l1_loss
    >>> smooth_l1_loss(pa.asarray([3.0]), pa.asarray([0.0])).item()
    2.5
    """
    op = "smooth_l1_loss"
    x, target = _pair(op, x, target, reduction)
    b = number(op, "beta", beta, interior(x.spec.dtype), 0.0)
    return apply(_smooth_l1, (x, target, b), reduction=reduction)


# Divergence.


def _kl_expand(x: Any, target: Any, reduction: str, log_target: bool) -> Any:
    if log_target:
        loss = exp(target) * (target - x)
    else:
        none = eq(target, 0.0)
        loss = target * log(select(none, 1.0, target)) - target * x
    if reduction != "batchmean":
        return reduced(loss, reduction)
    return reduced(loss, "sum") / float(loss.spec.shape[0] if loss.spec.ndim else 1)


_kl_div = composite(
    "kl_div", wide(_kl_expand), params=("reduction", "log_target"),
    doc="target (log(target) - x) for log probabilities x; 0 where the target is 0.",
)  # fmt: skip


def kl_div(x: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """target (log(target) - x) for log probabilities x; with `log_target` e^t (t - x). "batchmean"
    divides the sum by the first axis, which is what the divergence means.

    x and target: one shape and float dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import kl_div
    >>> kl_div(pa.asarray([0.0]), pa.asarray([1.0])).item()
    0.0
    """
    op = "kl_div"
    operands = _pair(op, x, target, reduction, (*REDUCTIONS, "batchmean"))
    return apply(
        _kl_div, operands, reduction=reduction, log_target=flag(op, "log_target", log_target)
    )
