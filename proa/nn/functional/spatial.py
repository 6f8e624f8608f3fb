"""Functions of images and their kin: convolution and pooling over spatial axes.

Sizes are ints or one int for each spatial axis.
"""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, ShapeError, message
from proa.ops import composite as co
from proa.ops import moves
from proa.ops.composite.common import choice, floating, matched, shaped
from proa.ops.primitive import apply, value_of
from proa.ops.window import conv
from proa.shapes import as_int

Sizes = tuple[int, ...]


def sizes(name: str, what: str, given: Any, length: int, least: int = 0) -> Sizes:
    """One int for each spatial axis, from an int or as many ints."""
    several = given if isinstance(given, (tuple, list)) else (given,) * length
    found = tuple([as_int(name, what, n) for n in several])
    if len(found) != length or any(n < least for n in found):
        raise ArgumentError(
            message(name, f"{what} {given!r:.60}", f"{length} ints of at least {least}")
        )
    return found


# Convolution.


def convolved(name: str, length: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any,
          dilation: Any, groups: Any) -> Any:  # fmt: skip
    x = floating(name, "x", x)
    weight = matched(name, "weight", weight, x.spec.dtype)
    shape, kernel = x.spec.shape, weight.spec.shape
    if len(kernel) != length + 2 or len(shape) not in (length + 1, length + 2):
        axes = f"{length} spatial axes behind (N, C) or (C)"
        raise ShapeError(
            message(name, f"`x` of shape {shape} and `weight` of shape {kernel}", axes)
        )
    groups = as_int(name, "groups", groups)
    if groups < 1 or kernel[0] % groups or shape[-length - 1] != kernel[1] * groups:
        given = f"`x` of shape {shape} and `weight` of shape {kernel} in {groups} groups"
        channels = f"{kernel[1] * groups} input channels, and outputs that the groups divide"
        raise ShapeError(message(name, given, channels))
    steps = sizes(name, "stride", stride, length, 1)
    apart = sizes(name, "dilation", dilation, length, 1)
    around = conv_padding(name, padding, kernel[2:], steps, apart)
    whole = len(shape) == length + 2
    y = apply(
        conv, (x if whole else moves.reshape(x, (1, *shape)), weight), strides=steps,
        padding=around, x_dilation=(1,) * length, w_dilation=apart, groups=groups,
    )  # fmt: skip
    if bias is not None:
        bias = shaped(name, "bias", matched(name, "bias", bias, x.spec.dtype), kernel[:1])
        y = y + moves.reshape(bias, (kernel[0], *(1,) * length))
    return y if whole else moves.reshape(y, y.value.spec.shape[1:])


def conv_padding(name: str, padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """(low, high) for each spatial axis, from ints, `"valid"` or `"same"`."""
    if not isinstance(padding, str):
        return tuple([(p, p) for p in sizes(name, "padding", padding, len(kernel))])
    if choice(name, "padding", padding, ("valid", "same")) == "valid":
        return ((0, 0),) * len(kernel)
    if any(s != 1 for s in stride):
        hint = "padding in numbers"
        raise ArgumentError(message(name, f"padding='same' with stride {stride}", "stride 1", hint))
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple([(t // 2, t - t // 2) for t in total])


def conv1d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    """y[n, o, i] = bias[o] + sum over c, k of x[n, c, stride i + dilation k - padding] w[o, c, k].

    x: (N, C, L) or (C, L), float; weight: (O, C / groups, K); bias: (O,) or None. padding: an
    int, `"valid"` (0) or `"same"` (as long as x; the odd element comes behind).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.conv1d(pa.ones((1, 1, 5)), pa.ones((1, 1, 3))).tolist()
    [[[3.0, 3.0, 3.0]]]
    """
    return convolved("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    """`conv1d` over two spatial axes. x: (N, C, H, W) or (C, H, W); weight: (O, C / groups, K, L).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.conv2d(pa.ones((1, 2, 4, 4)), pa.ones((3, 2, 3, 3)), padding=1).shape
    (1, 3, 4, 4)
    """
    return convolved("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    """`conv1d` over three spatial axes. x: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.conv3d(pa.ones((1, 1, 3, 3, 3)), pa.ones((2, 1, 2, 2, 2))).shape
    (1, 2, 2, 2, 2)
    """
    return convolved("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


# Pooling.


def max_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Any:  # fmt: skip
    """The largest of each window; the first of a tie has the gradient. x: (N, C, L) or (C, L).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.max_pool1d(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[3.0, 2.0]]]
    """
    return max_pooled("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Any:  # fmt: skip
    """`max_pool1d` over two spatial axes. x: (N, C, H, W) or (C, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.max_pool2d(pa.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    return max_pooled("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Any:  # fmt: skip
    """`max_pool1d` over three spatial axes. x: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.max_pool3d(pa.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    return max_pooled("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pooled(name: str, length: int, x: Any, kernel: Any, stride: Any, padding: Any,
              dilation: Any, ceil_mode: Any) -> Any:  # fmt: skip
    _spatial(name, length, x)
    window = sizes(name, "kernel_size", kernel, length, 1)
    return co.max_pool(x, window, stride, padding, dilation, ceil_mode)


def _spatial(name: str, length: int, x: Any) -> None:
    shape = value_of(name, x).spec.shape
    if len(shape) not in (length + 1, length + 2):
        axes = f"{length} spatial axes behind (N, C) or (C)"
        raise ShapeError(message(name, f"`x` of shape {shape}", axes))


def avg_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Any:  # fmt: skip
    """The mean of each window; padding counts unless `count_include_pad` is False.

    x: (N, C, L) or (C, L), float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.avg_pool1d(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[2.0, 1.0]]]
    """
    return avg_pooled(
        "avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad
    )


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Any:  # fmt: skip
    """`avg_pool1d` over two spatial axes. x: (N, C, H, W) or (C, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.avg_pool2d(pa.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    return avg_pooled(
        "avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad
    )


def avg_pool3d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Any:  # fmt: skip
    """`avg_pool1d` over three spatial axes. x: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.avg_pool3d(pa.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    return avg_pooled(
        "avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad
    )


def avg_pooled(name: str, length: int, x: Any, kernel: Any, stride: Any, padding: Any,
              ceil_mode: Any, include: Any) -> Any:  # fmt: skip
    _spatial(name, length, x)
    window = sizes(name, "kernel_size", kernel, length, 1)
    return co.avg_pool(x, window, stride, padding, ceil_mode, include)


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Any:
    """The means of `output_size` windows of nearly equal length. x: (N, C, L) or (C, L), float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.adaptive_avg_pool1d(pa.asarray([[[1.0, 2.0, 3.0]]]), 1).tolist()
    [[[2.0]]]
    """
    return _adaptive("adaptive_avg_pool1d", co.adaptive_avg_pool, 1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """`adaptive_avg_pool1d` over two spatial axes; a size None keeps that axis.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.adaptive_avg_pool2d(pa.ones((1, 3, 5, 7)), (1, None)).shape
    (1, 3, 1, 7)
    """
    return _adaptive("adaptive_avg_pool2d", co.adaptive_avg_pool, 2, x, output_size)


def adaptive_max_pool1d(x: Any, output_size: Any) -> Any:
    """The largest of `output_size` windows of nearly equal length. x: (N, C, L) or (C, L).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.adaptive_max_pool1d(pa.asarray([[[1.0, 2.0, 3.0]]]), 1).tolist()
    [[[3.0]]]
    """
    return _adaptive("adaptive_max_pool1d", co.adaptive_max_pool, 1, x, output_size)


def adaptive_max_pool2d(x: Any, output_size: Any) -> Any:
    """`adaptive_max_pool1d` over two spatial axes; a size None keeps that axis.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.adaptive_max_pool2d(pa.ones((1, 3, 5, 7)), 1).shape
    (1, 3, 1, 1)
    """
    return _adaptive("adaptive_max_pool2d", co.adaptive_max_pool, 2, x, output_size)


def _adaptive(name: str, pool: Any, length: int, x: Any, output_size: Any) -> Any:
    _spatial(name, length, x)
    several = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * length
    return pool(x, tuple(several))
