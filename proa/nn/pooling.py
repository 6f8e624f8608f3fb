"""Pooling as modules, without parameters."""

from __future__ import annotations

from typing import Any

from proa.nn import functional as F  # noqa: N812
from proa.nn.functional import spatial
from proa.nn.module import Module
from proa.ops.composite.common import flag


def _checked(module: Module, what: str, given: Any, length: int, least: int) -> Any:
    """The size as given, after a check of it."""
    spatial.sizes(type(module).__name__, what, given, length, least)
    return tuple(given) if isinstance(given, list) else given


class _MaxPool(Module):
    LENGTH = 0

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        n = self.LENGTH
        self.kernel_size = _checked(self, "kernel_size", kernel_size, n, 1)
        self.stride = self.kernel_size if stride is None else _checked(self, "stride", stride, n, 1)
        self.padding = _checked(self, "padding", padding, n, 0)
        self.dilation = _checked(self, "dilation", dilation, n, 1)
        self.ceil_mode = flag(type(self).__name__, "ceil_mode", ceil_mode)

    def forward(self, x: Any) -> Any:
        return spatial.max_pooled(
            type(self).__name__, self.LENGTH, x, self.kernel_size, self.stride, self.padding,
            self.dilation, self.ceil_mode,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest of each window; NaN if one is; the first of a tie has the gradient.

    Arguments: kernel_size; stride: None is kernel_size; padding: with -inf, at most half the
    kernel; dilation: between elements of a window; ceil_mode: whether a last window may reach out.
    Shapes: (N, C, L) or (C, L) -> (..., (L + 2 padding - dilation (K - 1) - 1) // stride + 1).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.MaxPool1d(2)(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]])).tolist()
    [[[3.0, 2.0]]]
    """

    LENGTH = 1


class MaxPool2d(_MaxPool):
    """`MaxPool1d` over two spatial axes. Shapes: (N, C, H, W) or (C, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.MaxPool2d(3, stride=2, padding=1)(pa.ones((1, 2, 8, 8))).shape
    (1, 2, 4, 4)
    """

    LENGTH = 2


class MaxPool3d(_MaxPool):
    """`MaxPool1d` over three spatial axes. Shapes: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.MaxPool3d(2)(pa.ones((1, 2, 4, 4, 4))).shape
    (1, 2, 2, 2, 2)
    """

    LENGTH = 3


class _AvgPool(Module):
    LENGTH = 0

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        n, name = self.LENGTH, type(self).__name__
        self.kernel_size = _checked(self, "kernel_size", kernel_size, n, 1)
        self.stride = self.kernel_size if stride is None else _checked(self, "stride", stride, n, 1)
        self.padding = _checked(self, "padding", padding, n, 0)
        self.ceil_mode = flag(name, "ceil_mode", ceil_mode)
        self.count_include_pad = flag(name, "count_include_pad", count_include_pad)

    def forward(self, x: Any) -> Any:
        return spatial.avg_pooled(
            type(self).__name__, self.LENGTH, x, self.kernel_size, self.stride, self.padding,
            self.ceil_mode, self.count_include_pad,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window.

    Arguments: as in `MaxPool1d` without dilation; padding is 0, and counts unless
    `count_include_pad` is False. Shapes: (N, C, L) or (C, L).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AvgPool1d(2)(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]])).tolist()
    [[[2.0, 1.0]]]
    """

    LENGTH = 1


class AvgPool2d(_AvgPool):
    """`AvgPool1d` over two spatial axes. Shapes: (N, C, H, W) or (C, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AvgPool2d(2)(pa.ones((1, 2, 4, 4))).shape
    (1, 2, 2, 2)
    """

    LENGTH = 2


class AvgPool3d(_AvgPool):
    """`AvgPool1d` over three spatial axes. Shapes: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AvgPool3d(2)(pa.ones((1, 2, 4, 4, 4))).shape
    (1, 2, 2, 2, 2)
    """

    LENGTH = 3


class _Adaptive(Module):
    POOL: Any = None

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size

    def forward(self, x: Any) -> Any:
        return type(self).POOL(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """The means of `output_size` windows: window i of m over n elements is
    floor(i n / m) <= j < ceil((i + 1) n / m). Shapes: (N, C, L) or (C, L) -> (..., output_size).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AdaptiveAvgPool1d(1)(pa.asarray([[[1.0, 2.0, 3.0]]])).tolist()
    [[[2.0]]]
    """

    POOL = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_Adaptive):
    """`AdaptiveAvgPool1d` over two spatial axes; a size None keeps that axis.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AdaptiveAvgPool2d((1, None))(pa.ones((1, 3, 5, 7))).shape
    (1, 3, 1, 7)
    """

    POOL = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveMaxPool1d(_Adaptive):
    """The largest of the windows of `AdaptiveAvgPool1d`.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AdaptiveMaxPool1d(1)(pa.asarray([[[1.0, 2.0, 3.0]]])).tolist()
    [[[3.0]]]
    """

    POOL = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_Adaptive):
    """`AdaptiveMaxPool1d` over two spatial axes; a size None keeps that axis.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.AdaptiveMaxPool2d(1)(pa.ones((1, 3, 5, 7))).shape
    (1, 3, 1, 1)
    """

    POOL = staticmethod(F.adaptive_max_pool2d)
