"""Mean, variance, and the functions of the softmax family."""

from __future__ import annotations

from typing import Any, NamedTuple

from proa.errors import ArgumentError, message
from proa.ops.arithmetic import eq, inf, maximum, select
from proa.ops.composite.common import (
    batch_first,
    count,
    deviation,
    flag,
    floating,
    interior,
    kept,
    number,
    stopped,
    wide,
    wide_pullback,
)
from proa.ops.expand import composite
from proa.ops.functions import exp, is_finite, log, sqrt
from proa.ops.moves import reshape
from proa.ops.operators import positive
from proa.ops.primitive import apply
from proa.ops.reductions import max_, spread, sum_
from proa.shapes import as_axes, as_axis

Axes = tuple[int, ...]


def _finish(reduced: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    return kept(reduced, x.spec.shape, axes) if keepdims else reduced


def _reduced(x: Any, like: Any, axes: Axes) -> Any:
    """A result of a reduction of `like`, without the axes that keepdims left."""
    shape = tuple([n for i, n in enumerate(like.spec.shape) if i not in axes])
    return reshape(x, shape)


# Moments.


def _mean_expand(x: Any, axes: Axes, keepdims: bool) -> Any:
    total = apply(sum_, (x,), axes=axes) / float(count(x.spec.shape, axes))
    return _finish(total, x, axes, keepdims)


_mean = composite(
    "mean", wide(_mean_expand), params=("axes", "keepdims"), batch=batch_first,
    doc="The mean over axes; NaN of nothing.",
)  # fmt: skip


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """sum(x) / n over axes (all if None); NaN of nothing. x: any shape, float.

    >>> import proa as pa
    >>> pa.mean(pa.asarray([[1.0, 3.0], [5.0, 7.0]]), axis=1).tolist()
    [2.0, 6.0]
    """
    x = floating("mean", "x", x)
    axes = as_axes("mean", axis, x.spec.ndim)
    return apply(_mean, (x,), axes=axes, keepdims=flag("mean", "keepdims", keepdims))


def _freedom(x: Any, correction: Any, axes: Axes) -> Any:
    return maximum(float(count(x.spec.shape, axes)) - correction, 0.0)


def _spread_of(x: Any, correction: Any, axes: Axes) -> Any:
    """The variance, in two passes."""
    d = deviation(x, axes)
    return apply(sum_, (d * d,), axes=axes) / _freedom(x, correction, axes)


def _var_expand(x: Any, correction: Any, axes: Axes, keepdims: bool) -> Any:
    return _finish(_spread_of(x, correction, axes), x, axes, keepdims)


def _var_back(operands: Any, results: Any, cts: Any, axes: Axes, keepdims: bool) -> list[Any]:
    """2 (x - mean) / (n - correction): the mean's own share is zero."""
    x, correction = operands
    ct = _reduced(cts[0], x, axes) * 2.0 / _freedom(x, correction, axes)
    return [spread(ct, x.spec.shape, axes) * deviation(x, axes), None]


_var = composite(
    "var", wide(_var_expand), params=("axes", "keepdims"), pullback=wide_pullback(_var_back),
    batch=batch_first, doc="The variance over axes, divided by n - correction (at least 0).",
)  # fmt: skip


def var(x: Any, axis: Any = None, correction: Any = 0.0, keepdims: bool = False) -> Any:
    """sum((x - mean)^2) / max(n - correction, 0) over axes (all if None). x: any shape, float.

    >>> import proa as pa
    >>> pa.var(pa.asarray([1.0, 3.0]), correction=1.0).item()
    2.0
    """
    x = floating("var", "x", x)
    axes = as_axes("var", axis, x.spec.ndim)
    c = number("var", "correction", correction, interior(x.spec.dtype))
    return apply(_var, (x, c), axes=axes, keepdims=flag("var", "keepdims", keepdims))


def _std_expand(x: Any, correction: Any, axes: Axes, keepdims: bool) -> Any:
    return _finish(sqrt(_spread_of(x, correction, axes)), x, axes, keepdims)


def _std_back(operands: Any, results: Any, cts: Any, axes: Axes, keepdims: bool) -> list[Any]:
    x, correction = operands
    y = _reduced(results[0], x, axes)
    flat = eq(y, 0.0)
    slope = _reduced(cts[0], x, axes) / (select(flat, 1.0, y) * _freedom(x, correction, axes))
    ct = select(flat, 0.0, slope)
    return [spread(ct, x.spec.shape, axes) * deviation(x, axes), None]


_std = composite(
    "std", wide(_std_expand), params=("axes", "keepdims"), batch=batch_first,
    pullback=wide_pullback(_std_back, _std_expand),
    doc="The square root of the variance. Where it is 0 the derivative is taken as 0.",
)  # fmt: skip


def std(x: Any, axis: Any = None, correction: Any = 0.0, keepdims: bool = False) -> Any:
    """The square root of `var`. Where it is 0 the derivative is taken as 0. x: any shape, float.

    >>> import proa as pa
    >>> pa.std(pa.asarray([1.0, 3.0])).item()
    1.0
    """
    x = floating("std", "x", x)
    axes = as_axes("std", axis, x.spec.ndim)
    c = number("std", "correction", correction, interior(x.spec.dtype))
    return apply(_std, (x, c), axes=axes, keepdims=flag("std", "keepdims", keepdims))


# The softmax family. The exact maximum comes first, so that no exponential overflows.


class Stable(NamedTuple):
    """Of x over axes: the exact maximum m (reduced), x - m, e^(x - m), and its sum (reduced)."""

    top: Any
    shifted: Any
    small: Any
    total: Any


def stable(x: Any, axes: Axes) -> Stable:
    """What softmax and log softmax are made of. NaN where every x is -inf or one is inf."""
    top = stopped(apply(max_, (x,), axes=axes))
    shifted = x - spread(top, x.spec.shape, axes)
    small = exp(shifted)
    return Stable(top, shifted, small, apply(sum_, (small,), axes=axes))


def probabilities(of: Stable, axes: Axes) -> Any:
    """Softmax."""
    return of.small / spread(of.total, of.small.spec.shape, axes)


def log_probabilities(of: Stable, axes: Axes) -> Any:
    """Log softmax."""
    return of.shifted - spread(log(of.total), of.small.spec.shape, axes)


def _logsumexp_expand(x: Any, axes: Axes, keepdims: bool) -> Any:
    m = apply(max_, (x,), axes=axes)
    m = stopped(select(is_finite(m), m, 0.0))
    small = exp(x - spread(m, x.spec.shape, axes))
    total = log(apply(sum_, (small,), axes=axes)) + m
    return _finish(total, x, axes, keepdims)


def _logsumexp_back(operands: Any, results: Any, cts: Any, axes: Axes, keepdims: bool) -> list[Any]:
    (x,), shape = operands, operands[0].spec.shape
    y = _reduced(results[0], x, axes)
    y = select(eq(y, -inf), 0.0, y)
    ct = _reduced(cts[0], x, axes)
    return [spread(ct, shape, axes) * exp(x - spread(y, shape, axes))]


_logsumexp = composite(
    "logsumexp", wide(_logsumexp_expand), params=("axes", "keepdims"), batch=batch_first,
    pullback=wide_pullback(_logsumexp_back, _logsumexp_expand),
    doc="log(sum(e^x)) over axes without overflow; -inf where every x is -inf.",
)  # fmt: skip


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log(sum(e^x)) over axes (all if None) without overflow; -inf where every x is -inf.

    x: any shape, float, at least one element along the axes (ShapeError).

    >>> import proa as pa
    >>> from proa.ops.composite import logsumexp
    >>> logsumexp(pa.asarray([1000.0])).item()
    1000.0
    """
    x = floating("logsumexp", "x", x)
    axes = as_axes("logsumexp", axis, x.spec.ndim)
    return apply(_logsumexp, (x,), axes=axes, keepdims=flag("logsumexp", "keepdims", keepdims))


def _softmax_expand(x: Any, axes: Axes) -> Any:
    return probabilities(stable(x, axes), axes) if x.spec.size else positive(x)


def _softmax_back(operands: Any, results: Any, cts: Any, axes: Axes) -> list[Any]:
    """y (ct - sum(ct y))."""
    (y,), (ct,) = results, cts
    total = apply(sum_, (ct * y,), axes=axes)
    return [y * (ct - spread(total, y.spec.shape, axes))]


_softmax = composite(
    "softmax", wide(_softmax_expand), params=("axes",), pullback=wide_pullback(_softmax_back),
    batch=batch_first, doc="e^x / sum(e^x) along one axis.",
)  # fmt: skip


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x / sum(e^x) along an axis, without overflow. NaN in a row where every x is -inf or one
    is inf, as in PyTorch. x: at least one axis, float.

    >>> import proa as pa
    >>> from proa.ops.composite import softmax
    >>> softmax(pa.asarray([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    x = floating("softmax", "x", x)
    return apply(_softmax, (x,), axes=_one_axis("softmax", axis, x.spec.ndim))


def _log_softmax_expand(x: Any, axes: Axes) -> Any:
    return log_probabilities(stable(x, axes), axes) if x.spec.size else positive(x)


def _log_softmax_back(operands: Any, results: Any, cts: Any, axes: Axes) -> list[Any]:
    """ct - softmax sum(ct)."""
    (y,), (ct,) = results, cts
    total = spread(apply(sum_, (ct,), axes=axes), y.spec.shape, axes)
    return [ct - exp(y) * total]


_log_softmax = composite(
    "log_softmax", wide(_log_softmax_expand), params=("axes",), batch=batch_first,
    pullback=wide_pullback(_log_softmax_back, _log_softmax_expand),
    doc="x - log(sum(e^x)) along one axis.",
)  # fmt: skip


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - log(sum(e^x)) along an axis, without overflow. NaN in a row where every x is -inf or
    one is inf, as in PyTorch. x: at least one axis, float.

    >>> import proa as pa
    >>> from proa.ops.composite import log_softmax
    >>> log_softmax(pa.asarray([[1000.0], [0.0]])).tolist()
    [[0.0], [0.0]]
    """
    x = floating("log_softmax", "x", x)
    return apply(_log_softmax, (x,), axes=_one_axis("log_softmax", axis, x.spec.ndim))


def _one_axis(op: str, axis: Any, ndim: int) -> Axes:
    if not ndim:
        raise ArgumentError(message(op, "a tensor of 0 axes", "at least 1", "x.reshape((1,))"))
    return (as_axis(op, axis, ndim),)
