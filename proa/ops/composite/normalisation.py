"""Layer, root-mean-square, batch and group normalisation."""

from __future__ import annotations

from typing import Any

from proa import dtypes
from proa.errors import ArgumentError, ShapeError, message
from proa.graph.node import Value
from proa.ops.composite.common import (
    batch_first,
    count,
    deviation,
    flag,
    floating,
    interior,
    matched,
    mean_of,
    number,
    optional,
    shaped,
    stopped,
    wide,
    wide_pullback,
)
from proa.ops.expand import composite
from proa.ops.families.elementwise import unbroadcast
from proa.ops.functions import rsqrt
from proa.ops.moves import reshape
from proa.ops.primitive import apply, cast_to
from proa.ops.reductions import spread, sum_
from proa.shapes import Shape, as_int, as_shape

Names = tuple[str, ...]


def _last(ndim: int, length: int) -> tuple[int, ...]:
    return tuple(range(ndim - length, ndim))


def _affine(y: Any, given: Names, rest: Any, view: Any = lambda v: v) -> Any:
    """y weight + bias, of those that are given."""
    named = dict(zip(given, rest, strict=True))
    if "weight" in named:
        y = y * view(named["weight"])
    return y + view(named["bias"]) if "bias" in named else y


def _standard(x: Any, eps: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """(x - mean) / sqrt(var + eps) over axes, and 1 / sqrt(var + eps), both in full shape."""
    d = deviation(x, axes)
    scale = rsqrt(mean_of(d * d, axes) + eps)
    return d * scale, scale


def _standard_back(ct: Any, hat: Any, scale: Any, axes: tuple[int, ...]) -> Any:
    """The cotangent of x from that of the standardised x."""
    return scale * (ct - mean_of(ct, axes) - hat * mean_of(ct * hat, axes))


# Layer norm.


def _layer_norm_expand(x: Any, eps: Any, *rest: Any, length: int, given: Names) -> Any:
    hat, _ = _standard(x, eps, _last(x.spec.ndim, length))
    return _affine(hat, given, rest)


def _layer_norm_back(operands: Any, results: Any, cts: Any, length: int, given: Names) -> list[Any]:
    x, eps, *rest = operands
    axes, (ct,) = _last(x.spec.ndim, length), cts
    named = dict(zip(given, rest, strict=True))
    hat, scale = _standard(x, eps, axes)
    inner = ct * named["weight"] if "weight" in named else ct
    found = [_standard_back(inner, hat, scale, axes), None]
    for name in given:
        found.append(unbroadcast(ct * hat if name == "weight" else ct, named[name].spec.shape))
    return found


_layer_norm = composite(
    "layer_norm", wide(_layer_norm_expand), params=("length", "given"), batch=batch_first,
    shape=lambda x, *rest, length, given: x.shape,
    pullback=wide_pullback(_layer_norm_back),
    doc="(x - mean) / sqrt(var + eps) weight + bias over the last `length` axes.",
)  # fmt: skip


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: Any = 1e-5
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias; mean and variance (divided by n) over the last
    axes, whose sizes are `normalized_shape` (Ba et al. 2016).

    x: (..., *normalized_shape), float; weight and bias: normalized_shape, of x's dtype (float32
    is good beside a narrow x).

    >>> import proa as pa
    >>> from proa.ops.composite import layer_norm
    >>> layer_norm(pa.asarray([1.0, 1.0]), 2).tolist()
    [0.0, 0.0]
    """
    x, shape = _normalised("layer_norm", x, normalized_shape)
    given, rest = _parameters("layer_norm", x, shape, weight=weight, bias=bias)
    scale = number("layer_norm", "eps", eps, interior(x.spec.dtype), 0.0)
    return apply(_layer_norm, (x, scale, *rest), length=len(shape), given=given)


def _normalised(op: str, x: Any, normalized_shape: Any) -> tuple[Value, Shape]:
    x = floating(op, "x", x)
    shape = as_shape(op, normalized_shape)
    if not shape:
        raise ArgumentError(message(op, "an empty `normalized_shape`", "at least one size"))
    if x.spec.shape[-len(shape) :] != shape:
        raise ShapeError(message(op, f"shape {x.spec.shape}", f"last axes of sizes {shape}"))
    return x, shape


def _parameters(op: str, x: Value, shape: Shape, **named: Any) -> tuple[Names, list[Any]]:
    """Weight and bias, checked, of those that are given."""
    given, values = optional(**named)
    dtype = x.spec.dtype
    pairs = zip(given, values, strict=True)
    return given, [shaped(op, n, matched(op, n, v, dtype, wide=True), shape) for n, v in pairs]


# RMS norm.


def _rms_standard(x: Any, eps: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    scale = rsqrt(mean_of(x * x, axes) + eps)
    return x * scale, scale


def _rms_norm_expand(x: Any, eps: Any, *rest: Any, length: int, given: Names) -> Any:
    return _affine(_rms_standard(x, eps, _last(x.spec.ndim, length))[0], given, rest)


def _rms_norm_back(operands: Any, results: Any, cts: Any, length: int, given: Names) -> list[Any]:
    x, eps, *rest = operands
    axes, (ct,) = _last(x.spec.ndim, length), cts
    hat, scale = _rms_standard(x, eps, axes)
    inner = ct * rest[0] if rest else ct
    found = [scale * (inner - hat * mean_of(inner * hat, axes)), None]
    return found + [unbroadcast(ct * hat, w.spec.shape) for w in rest]


_rms_norm = composite(
    "rms_norm", wide(_rms_norm_expand), params=("length", "given"), batch=batch_first,
    shape=lambda x, *rest, length, given: x.shape,
    pullback=wide_pullback(_rms_norm_back),
    doc="x / sqrt(mean(x^2) + eps) weight over the last `length` axes.",
)  # fmt: skip


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: Any = None) -> Any:
    """x / sqrt(mean(x^2) + eps) weight over the last axes, whose sizes are `normalized_shape`
    (Zhang and Sennrich 2019). `eps` None is the machine epsilon of the dtype computed in.

    x: (..., *normalized_shape), float; weight: normalized_shape, of x's dtype (float32 is good
    beside a narrow x).

    >>> import proa as pa
    >>> from proa.ops.composite import rms_norm
    >>> rms_norm(pa.asarray([2.0, -2.0]), 2, eps=0.0).tolist()
    [1.0, -1.0]
    """
    x, shape = _normalised("rms_norm", x, normalized_shape)
    given, rest = _parameters("rms_norm", x, shape, weight=weight)
    inner = interior(x.spec.dtype)
    scale = number("rms_norm", "eps", dtypes.finfo(inner).eps if eps is None else eps, inner, 0.0)
    return apply(_rms_norm, (x, scale, *rest), length=len(shape), given=given)


# Batch norm.


def _others(ndim: int) -> tuple[int, ...]:
    """All axes but the channels'."""
    return tuple([i for i in range(ndim) if i != 1])


def _channels(x: Any) -> Any:
    """A view of one number for each channel that is aligned with x."""
    return lambda v: reshape(v, (v.spec.shape[0],) + (1,) * (x.spec.ndim - 2))


def _moments(x: Any) -> tuple[Any, Any]:
    axes = _others(x.spec.ndim)
    n = float(count(x.spec.shape, axes))
    center = apply(sum_, (x,), axes=axes) / n
    d = x - spread(center, x.spec.shape, axes)
    return center, apply(sum_, (d * d,), axes=axes) / n


def _batch_norm_expand(x: Any, eps: Any, *rest: Any, given: Names) -> Any:
    center, variance = _moments(x)
    axes, shape = _others(x.spec.ndim), x.spec.shape
    hat = (x - spread(center, shape, axes)) * spread(rsqrt(variance + eps), shape, axes)
    return _affine(hat, given, rest, _channels(x)), center, variance


def _batch_norm_back(operands: Any, results: Any, cts: Any, given: Names) -> list[Any]:
    x, eps, *rest = operands
    axes, shape = _others(x.spec.ndim), x.spec.shape
    n = float(count(shape, axes))
    ct, ct_center, ct_variance = cts
    named = dict(zip(given, rest, strict=True))
    center, variance = _moments(x)
    d = x - spread(center, shape, axes)
    scale = spread(rsqrt(variance + eps), shape, axes)
    found: list[Any] = [None] * len(operands)
    parts = []
    if ct is not None:
        hat = d * scale
        inner = ct * _channels(x)(named["weight"]) if "weight" in named else ct
        parts.append(_standard_back(inner, hat, scale, axes))
        for i, name in enumerate(given, 2):
            found[i] = apply(sum_, (ct * hat if name == "weight" else ct,), axes=axes)
    if ct_center is not None:
        parts.append(spread(ct_center / n, shape, axes))
    if ct_variance is not None:
        parts.append(spread(ct_variance * 2.0 / n, shape, axes) * d)
    for part in parts:
        found[0] = part if found[0] is None else found[0] + part
    return found


_batch_norm = composite(
    "batch_norm", wide(_batch_norm_expand), params=("given",),
    pullback=wide_pullback(_batch_norm_back),
    doc="Three results: (x - mean) / sqrt(var + eps) weight + bias over all axes but the second, "
    "and that mean and variance (divided by n).",
)  # fmt: skip


def _running_expand(old_mean: Any, old_var: Any, center: Any, variance: Any, m: Any, n: int) -> Any:
    def moved(old: Any, new: Any) -> Any:
        inner = interior(old.spec.dtype)
        a, b, part = (cast_to(v, inner) for v in (old, new, m))
        mixed = a * (1.0 - part) + b * part
        return cast_to(stopped(mixed), old.spec.dtype)

    return moved(old_mean, center), moved(old_var, variance * (n / (n - 1.0)))


_running = composite(
    "batch_norm_running", _running_expand, params=("n",), differentiable=False,
    doc="The running mean and variance of batch norm after one more batch of n elements a channel; "
    "the variance is divided by n - 1. It has no derivative.",
)  # fmt: skip


def _fixed_expand(x: Any, center: Any, variance: Any, eps: Any, *rest: Any, given: Names) -> Any:
    view = _channels(x)
    return _affine((x - view(center)) * view(rsqrt(variance + eps)), given, rest, view)


_batch_norm_fixed = composite(
    "batch_norm_fixed", wide(_fixed_expand), params=("given",),
    doc="(x - mean) / sqrt(var + eps) weight + bias with a mean and a variance for each channel.",
)  # fmt: skip


def batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: Any = 0.1, eps: Any = 1e-5,
) -> Any:  # fmt: skip
    """(x - mean) / sqrt(var + eps) weight + bias for each channel (Ioffe and Szegedy 2015).

    In training mean and variance (divided by n) are those of the batch, and the result is
    (y, new running mean, new running variance): running (1 - momentum) + batch momentum, with the
    variance divided by n - 1; they have no derivative, and are None where none were given. In
    evaluation they are the running ones, and the result is y.

    x: (N, C, ...), float; all others: (C,), of x's dtype (float32 is good beside a narrow x).
    ShapeError if there is one element a channel in training.

    >>> import proa as pa
    >>> from proa.ops.composite import batch_norm
    >>> batch_norm(pa.ones((2, 1)), pa.ones((1,)), pa.ones((1,))).tolist()
    [[0.0], [0.0]]
    """
    op = "batch_norm"
    x = floating(op, "x", x)
    if x.spec.ndim < 2:
        raise ShapeError(message(op, f"shape {x.spec.shape}", "axes (N, C, ...)"))
    shape, inner = x.spec.shape[1:2], interior(x.spec.dtype)
    given, rest = _parameters(op, x, shape, weight=weight, bias=bias)
    known, running = _parameters(op, x, shape, running_mean=running_mean, running_var=running_var)
    scale = number(op, "eps", eps, inner, 0.0)
    if len(known) == 1:
        raise ArgumentError(message(op, f"`{known[0]}` alone", "both running values or none"))
    if not flag(op, "training", training):
        if not known:
            hint = "training=True"
            raise ArgumentError(message(op, "no running values", "both in evaluation", hint))
        return apply(_batch_norm_fixed, (x, *running, scale, *rest), given=given)
    n = count(x.spec.shape, _others(x.spec.ndim))
    if n == 1:
        given_text = f"one element a channel (shape {x.spec.shape})"
        raise ShapeError(message(op, given_text, "at least 2 in training", "training=False"))
    y, center, variance = apply(_batch_norm, (x, scale, *rest), given=given)
    if not known:
        return y, None, None
    m = number(op, "momentum", momentum, inner)
    new = apply(_running, (*running, center, variance, m), n=n)
    return y, *new


# Group norm.


def _group_norm_expand(x: Any, eps: Any, *rest: Any, groups: int, given: Names) -> Any:
    n, shape = x.spec.shape[0], x.spec.shape
    size = count(shape, tuple(range(1, len(shape)))) // groups
    hat = apply(_layer_norm, (reshape(x, (n, groups, size)), eps), length=1, given=())
    return _affine(reshape(hat, shape), given, rest, _channels(x))


_group_norm = composite(
    "group_norm", wide(_group_norm_expand), params=("groups", "given"),
    doc="(x - mean) / sqrt(var + eps) weight + bias over groups of channels.",
)  # fmt: skip


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: Any = 1e-5
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias; mean and variance over the elements of a group
    of C / num_groups channels (Wu and He 2018).

    x: (N, C, ...), float; weight and bias: (C,), of x's dtype (float32 is good beside a narrow x).

    >>> import proa as pa
    >>> from proa.ops.composite import group_norm
    >>> group_norm(pa.ones((1, 2)), 2).tolist()
    [[0.0, 0.0]]
    """
    op = "group_norm"
    x = floating(op, "x", x)
    if x.spec.ndim < 2:
        raise ShapeError(message(op, f"shape {x.spec.shape}", "axes (N, C, ...)"))
    groups, channels = as_int(op, "num_groups", num_groups), x.spec.shape[1]
    if groups < 1 or channels % groups:
        raise ArgumentError(message(op, f"{groups} groups of {channels} channels", "a divisor"))
    given, rest = _parameters(op, x, (channels,), weight=weight, bias=bias)
    scale = number(op, "eps", eps, interior(x.spec.dtype), 0.0)
    return apply(_group_norm, (x, scale, *rest), groups=groups, given=given)
