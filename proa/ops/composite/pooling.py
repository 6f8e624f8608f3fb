"""Pooling over one to three spatial axes: the last ones, behind (N, C) or (C).

Axis by axis, the last first: the first maximum of rows of first maxima is the first maximum in
row-major order.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from proa import dtypes
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.node import Value
from proa.ops.arithmetic import eq, inf, lt, or_, select
from proa.ops.composite.common import flag, floating, wide
from proa.ops.expand import composite
from proa.ops.functions import not_
from proa.ops.indexing import gather
from proa.ops.movement import pad, slice_
from proa.ops.moves import moveaxis
from proa.ops.primitive import NUMERIC, apply, as_number, value_of
from proa.shapes import as_int

Sizes = tuple[int, ...]
LONGEST = 2**16  # each element of a window is an operation of the expansion


def _every(x: Any, axis: int, start: int, length: int, stride: int) -> Any:
    """`length` elements of an axis, `stride` apart."""
    shape = x.spec.shape
    starts = tuple([start if i == axis else 0 for i in range(len(shape))])
    stop = start + max(0, (length - 1) * stride + 1)
    stops = tuple([stop if i == axis else n for i, n in enumerate(shape)])
    strides = tuple([stride if i == axis else 1 for i in range(len(shape))])
    return apply(slice_, (x,), starts=starts, stops=stops, strides=strides)


def _larger(best: Any, x: Any) -> Any:
    """x where it is larger than what came before it, or NaN."""
    taken = lt(best, x)
    if x.spec.dtype.is_float:
        taken = or_(taken, not_(eq(x, x)))
    return select(taken, x, best)


def _folded(parts: Any, join: Any) -> Any:
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total = join(total, part)
    return total


def _padded(x: Any, low: Sizes, high: Sizes, fill: Any) -> Any:
    if not any(low) and not any(high):
        return x
    lead = (0,) * (x.spec.ndim - len(low))
    value = as_number("pool", fill, x.spec.dtype)
    return pad(x, value, low=lead + low, high=lead + high, interior=(0,) * x.spec.ndim)


def _windows(
    x: Any,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil: bool,
    fill: Any,
    join: Any,
) -> Any:
    """Every window joined, axis by axis."""
    first, shape = x.spec.ndim - len(kernel), x.spec.shape
    axes = zip(shape[first:], kernel, stride, padding, dilation, strict=True)
    outs = [_count(n, k, s, p, d, ceil) for n, k, s, p, d in axes]
    rows = zip(shape[first:], outs, kernel, stride, padding, dilation, strict=True)
    high = tuple([max(0, (o - 1) * s + (k - 1) * d + 1 - n - p) for n, o, k, s, p, d in rows])
    x = _padded(x, padding, high, fill)
    for i in reversed(range(len(kernel))):
        parts = [
            _every(x, first + i, j * dilation[i], outs[i], stride[i]) for j in range(kernel[i])
        ]
        x = _folded(parts, join)
    return x


def _count(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    """How many windows an axis has; the last starts inside the axis or its low padding."""
    room = n + 2 * p - d * (k - 1) - 1
    if room < 0 and not ceil:
        return 0
    count = (room + (s - 1 if ceil else 0)) // s + 1
    return count - 1 if ceil and (count - 1) * s >= n + p else count


# Windows of one size.


def _max_pool_expand(
    x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool
) -> Any:
    dtype = x.spec.dtype
    least = -inf if dtype.is_float else dtypes.iinfo(dtype).min
    return _windows(x, kernel, stride, padding, dilation, ceil, least, _larger)


_max_pool = composite(
    "max_pool", _max_pool_expand, params=("kernel", "stride", "padding", "dilation", "ceil"),
    doc="The largest of each window; NaN if one is. The first one of a tie has the gradient.",
)  # fmt: skip


def max_pool(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:  # fmt: skip
    """The largest element of each window; NaN if one is. The first of a tie, in row-major order,
    has the gradient. Padding is -inf (the least integer), at most half of what a
    window spans.

    x: (N, C, d1[, d2[, d3]]) or (C, d1, ...), numeric. Sizes: an int for every spatial axis (then
    x has N and C) or one for each; `stride` None is the kernel.

    >>> import proa as pa
    >>> from proa.ops.composite import max_pool
    >>> max_pool(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[3.0, 2.0]]]
    """
    op = "max_pool"
    x = value_of(op, x)
    if x.spec.dtype not in NUMERIC:
        raise DtypeError(message(op, f"`x` of {x.spec.dtype.name}", "a float or integer dtype"))
    params = _geometry(op, x, kernel_size, stride, padding, dilation, ceil_mode)
    return apply(_max_pool, (x,), **params)


def _geometry(
    op: str, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> dict[str, Any]:
    length = len(kernel_size) if isinstance(kernel_size, (tuple, list)) else x.spec.ndim - 2
    if not 1 <= length <= 3 or x.spec.ndim not in (length + 1, length + 2):
        given = f"shape {x.spec.shape} for kernel {kernel_size!r:.40}"
        raise ShapeError(message(op, given, "axes (N, C, ...) or (C, ...) and 1 to 3 spatial ones"))
    kernel = _sizes(op, "kernel_size", kernel_size, length, 1)
    steps = kernel if stride is None else _sizes(op, "stride", stride, length, 1)
    around = _sizes(op, "padding", padding, length, 0)
    apart = _sizes(op, "dilation", dilation, length, 1)
    if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(around, kernel, apart, strict=True)):
        given = f"padding {around} for kernel {kernel} and dilation {apart}"
        raise ArgumentError(message(op, given, "at most half of what a window spans"))
    ceil = flag(op, "ceil_mode", ceil_mode)
    rows = zip(x.spec.shape[-length:], kernel, steps, around, apart, strict=True)
    if any(_count(*row, ceil) < 1 for row in rows):
        given = f"shape {x.spec.shape} for kernel {kernel}, padding {around}, dilation {apart}"
        raise ShapeError(message(op, given, "a window that fits"))
    return {"kernel": kernel, "stride": steps, "padding": around, "dilation": apart, "ceil": ceil}


def _sizes(op: str, name: str, given: Any, length: int, least: int) -> Sizes:
    several = given if isinstance(given, (tuple, list)) else (given,) * length
    sizes = tuple([as_int(op, name, n) for n in several])
    if len(sizes) != length or any(not least <= n < 2**31 for n in sizes):
        expected = f"{length} ints of at least {least} and below 2**31"
        raise ArgumentError(message(op, f"{name} {given!r:.40}", expected))
    return sizes


def _avg_pool_expand(
    x: Any, kernel: Sizes, stride: Sizes, padding: Sizes, ceil: bool, include: bool
) -> Any:
    ones = (1,) * len(kernel)
    spatial = x.spec.shape[-len(kernel) :]
    total = _windows(x, kernel, stride, padding, ones, ceil, 0.0, lambda a, b: a + b)
    if not any(padding) and not ceil:
        return total / float(prod(kernel))
    counts = []
    for n, k, s, p in zip(spatial, kernel, stride, padding, strict=True):
        first = np.arange(_count(n, k, s, p, 1, ceil)) * s - p
        low, high = (-p, n + p) if include else (0, n)
        counts.append(np.minimum(first + k, high) - np.maximum(first, low))
    return _divided(total, counts)


def _divided(total: Any, counts: list[Any]) -> Any:
    """Sums divided by the numbers of elements, which are products over axes."""
    if all(len(set(c.tolist())) == 1 for c in counts):
        return total / float(prod(int(c[0]) for c in counts))
    grid = np.ones((), np.int64)
    for c in counts:
        grid = np.multiply.outer(grid, c)
    return total / value_of("pool", grid.astype(total.spec.dtype.numpy))


_avg_pool = composite(
    "avg_pool", wide(_avg_pool_expand), params=("kernel", "stride", "padding", "ceil", "include"),
    doc="The mean of each window.",
)  # fmt: skip


def avg_pool(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:  # fmt: skip
    """The mean of each window. Padding is 0, at most half the kernel, and is counted unless
    `count_include_pad` is False.

    x: (N, C, d1[, d2[, d3]]) or (C, d1, ...), float. Sizes: as in `max_pool`.

    >>> import proa as pa
    >>> from proa.ops.composite import avg_pool
    >>> avg_pool(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[2.0, 1.0]]]
    """
    x = floating("avg_pool", "x", x)
    params = _geometry("avg_pool", x, kernel_size, stride, padding, 1, ceil_mode)
    del params["dilation"]
    include = flag("avg_pool", "count_include_pad", count_include_pad)
    return apply(_avg_pool, (x,), **params, include=include)


# As many windows as asked for: window i of m over n elements runs from floor(i n / m) to
# ceil((i + 1) n / m), without that.


def _adaptive(x: Any, output: Sizes, join: Any, repeat: bool) -> tuple[Any, list[Any]]:
    """Every window joined, axis by axis, and the windows' lengths. Shorter windows repeat their
    last element where that changes nothing, else zeros are read."""
    first = x.spec.ndim - len(output)
    lengths = []
    for i in reversed(range(len(output))):
        axis, n, m = first + i, x.spec.shape[first + i], output[i]
        start = np.arange(m) * n // m
        end = -(-(np.arange(1, m + 1) * n) // m)
        lengths.append(end - start)
        most = int((end - start).max(initial=0))
        if n % m == 0:
            parts = [_every(x, axis, j, m, n // m) for j in range(most)]
        else:
            parts = [_part(x, axis, start, end, j, repeat) for j in range(most)]
        x = _folded(parts, join)
    return x, lengths[::-1]


def _part(x: Any, axis: int, start: Any, end: Any, j: int, repeat: bool) -> Any:
    """Element j of every window of an axis."""
    index = value_of("pool", np.minimum(start + j, end - 1))
    found = moveaxis(apply(gather, (x, index), axes=(axis,), batch=0), 0, axis)
    inside = start + j < end
    if repeat or inside.all():
        return found
    mask = inside.reshape([-1 if i == axis else 1 for i in range(x.spec.ndim)])
    return select(value_of("pool", mask), found, 0.0)


def _adaptive_avg_expand(x: Any, output: Sizes) -> Any:
    return _divided(*_adaptive(x, output, lambda a, b: a + b, False))


_adaptive_avg_pool = composite(
    "adaptive_avg_pool", wide(_adaptive_avg_expand), params=("output",),
    doc="The means of as many windows as asked for.",
)  # fmt: skip

_adaptive_max_pool = composite(
    "adaptive_max_pool", lambda x, output: _adaptive(x, output, _larger, True)[0],
    params=("output",),
    doc="The largest of as many windows as asked for.",
)  # fmt: skip


def _output(op: str, x: Value, output_size: Any) -> Sizes:
    length = len(output_size) if isinstance(output_size, (tuple, list)) else x.spec.ndim - 2
    if not 1 <= length <= 3 or x.spec.ndim not in (length + 1, length + 2):
        given = f"shape {x.spec.shape} for output {output_size!r:.40}"
        raise ShapeError(message(op, given, "axes (N, C, ...) or (C, ...) and 1 to 3 spatial ones"))
    spatial = x.spec.shape[-length:]
    several = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * length
    chosen = [n if o is None else o for o, n in zip(several, spatial, strict=True)]
    if not all(spatial):
        raise ShapeError(message(op, f"shape {x.spec.shape}", "spatial axes of at least 1"))
    sizes = _sizes(op, "output_size", chosen, length, 1)
    if any(n > m * LONGEST for n, m in zip(spatial, sizes, strict=True)):
        given = f"shape {x.spec.shape} for output {output_size!r:.40}"
        raise ShapeError(message(op, given, f"windows of at most {LONGEST} elements along an axis"))
    return sizes


def adaptive_avg_pool(x: Any, output_size: Any) -> Any:
    """The means of m windows along each spatial axis of n elements: window i is
    floor(i n / m) <= j < ceil((i + 1) n / m).

    x: (N, C, d1[, d2[, d3]]) or (C, d1, ...), float; output_size: an int for every spatial axis
    (then x has N and C) or one for each, None to keep a size.

    >>> import proa as pa
    >>> from proa.ops.composite import adaptive_avg_pool
    >>> adaptive_avg_pool(pa.asarray([[[1.0, 2.0, 3.0]]]), 2).tolist()
    [[[1.5, 2.5]]]
    """
    x = floating("adaptive_avg_pool", "x", x)
    return apply(_adaptive_avg_pool, (x,), output=_output("adaptive_avg_pool", x, output_size))


def adaptive_max_pool(x: Any, output_size: Any) -> Any:
    """The largest elements of the windows of `adaptive_avg_pool`; ties and NaN as in `max_pool`.

    >>> import proa as pa
    >>> from proa.ops.composite import adaptive_max_pool
    >>> adaptive_max_pool(pa.asarray([[[1.0, 2.0, 3.0]]]), 2).tolist()
    [[[2.0, 3.0]]]
    """
    x = floating("adaptive_max_pool", "x", x)
    return apply(_adaptive_max_pool, (x,), output=_output("adaptive_max_pool", x, output_size))
