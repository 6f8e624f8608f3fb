"""Convolutions over one to three spatial axes."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, message
from proa.nn.functional import spatial
from proa.nn.linear import positive, reset_affine
from proa.nn.module import Module
from proa.nn.parameter import check_input, new_parameter


class _Conv(Module):
    """What Conv1d to Conv3d share; `LENGTH` spatial axes."""

    LENGTH = 0

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name, n = type(self).__name__, self.LENGTH
        if padding_mode != "zeros":
            given = f"padding_mode {padding_mode!r:.40}"
            raise ArgumentError(message(name, given, "'zeros'", "padding x before"))
        self.in_channels = positive(name, "in_channels", in_channels)
        self.out_channels = positive(name, "out_channels", out_channels)
        self.groups = positive(name, "groups", groups)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            given = f"{in_channels} to {out_channels} channels in {groups} groups"
            raise ArgumentError(message(name, given, "a number that divides both"))
        self.kernel_size = spatial.sizes(name, "kernel_size", kernel_size, n, 1)
        self.stride = spatial.sizes(name, "stride", stride, n, 1)
        self.dilation = spatial.sizes(name, "dilation", dilation, n, 1)
        spatial.conv_padding(name, padding, self.kernel_size, self.stride, self.dilation)
        self.padding = (
            padding if isinstance(padding, str) else spatial.sizes(name, "padding", padding, n)
        )
        self.padding_mode = padding_mode
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = new_parameter(shape, dtype, device)
        self.register_parameter(
            "bias", new_parameter((out_channels,), dtype, device) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the parameters anew."""
        reset_affine(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        name = type(self).__name__
        check_input(name, "x", x, self.weight)
        return spatial.convolved(
            name, self.LENGTH, x, self.weight, self.bias, self.stride, self.padding, self.dilation,
            self.groups,
        )  # fmt: skip

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        ones = (1,) * self.LENGTH
        if self.padding not in ((0,) * self.LENGTH, "valid"):
            text += f", padding={self.padding}"
        if self.dilation != ones:
            text += f", dilation={self.dilation}"
        text += f", groups={self.groups}" if self.groups != 1 else ""
        return text + (", bias=False" if self.bias is None else "")


class Conv1d(_Conv):
    """Cross-correlation over one spatial axis:
    y[n, o, i] = bias[o] + sum_ck x[n, c, stride i + dilation k - padding] weight[o, c, k].

    Arguments: in_channels, out_channels; kernel_size, stride, padding, dilation: an int, or one
    for each spatial axis; padding also "valid" (none) or "same" (as long as x, at stride 1);
    groups: channels go in so many groups that do not meet; bias; padding_mode: only "zeros".
    Parameters: weight (out, in / groups, K) and bias (out,), uniform within 1 / sqrt(fan in).
    Shapes: (N, in, L) or (in, L) -> (N, out, M) or (out, M), where
    M = (L + 2 padding - dilation (K - 1) - 1) // stride + 1.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Conv1d(3, 8, 3, padding="same")(pa.ones((2, 3, 10))).shape
    (2, 8, 10)
    """

    LENGTH = 1


class Conv2d(_Conv):
    """Cross-correlation over two spatial axes (LeCun et al. 1989). Arguments as in `Conv1d`.

    Parameters: weight (out, in / groups, K, L), bias (out,).
    Shapes: (N, in, H, W) or (in, H, W) -> (N, out, ...) or (out, ...).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Conv2d(1, 4, 3, stride=2, padding=1)(pa.ones((2, 1, 8, 8))).shape
    (2, 4, 4, 4)
    """

    LENGTH = 2


class Conv3d(_Conv):
    """Cross-correlation over three spatial axes. Arguments as in `Conv1d`.

    Parameters: weight (out, in / groups, K, L, M), bias (out,).
    Shapes: (N, in, D, H, W) or (in, D, H, W) -> (N, out, ...) or (out, ...).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Conv3d(1, 2, (1, 3, 3))(pa.ones((1, 1, 4, 4, 4))).shape
    (1, 2, 4, 2, 2)
    """

    LENGTH = 3
