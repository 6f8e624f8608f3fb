"""Normalisations: over features (layer, RMS), over the batch, over groups of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.dtypes import int64
from proa.errors import ArgumentError, ShapeError, message
from proa.graph.spec import spec
from proa.nn import functional as F  # noqa: N812
from proa.nn import init
from proa.nn.linear import positive
from proa.nn.module import Module
from proa.nn.parameter import check_input, hold, new_parameter, new_zeros
from proa.ops.composite.common import flag, real
from proa.ops.primitive import value_of
from proa.shapes import Shape, as_shape
from proa.tensor import put


def _normalized(name: str, given: Any) -> Shape:
    shape = as_shape(name, given)
    if not shape:
        raise ArgumentError(message(name, "an empty normalized_shape", "at least one size"))
    return shape


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) weight + bias, mean and variance (divided by n) over the
    last axes, whose sizes are `normalized_shape` (Ba et al. 2016, arXiv:1607.06450).

    Arguments: normalized_shape: an int or sizes; eps; elementwise_affine: whether there are
    weight and bias; bias: whether there is a bias. Parameters: weight (ones) and bias (zeros), of
    shape normalized_shape. Shapes: (..., *normalized_shape) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.LayerNorm(4)(pa.ones((2, 4))).tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = self.normalized_shape = _normalized("LayerNorm", normalized_shape)
        self.eps = real("LayerNorm", "eps", eps, 0.0)
        self.elementwise_affine = flag("LayerNorm", "elementwise_affine", elementwise_affine)
        there = self.elementwise_affine
        self.register_parameter("weight", new_parameter(shape, dtype, device) if there else None)
        self.register_parameter(
            "bias", new_parameter(shape, dtype, device) if there and bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self)

    def forward(self, x: Any) -> Any:
        if self.weight is not None:
            check_input("LayerNorm", "x", x, self.weight, wide=True)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = self.elementwise_affine
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}"


def _reset(module: Any) -> None:
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)


class RMSNorm(Module):
    """y = x / sqrt(mean(x^2) + eps) weight over the last axes, whose sizes are
    `normalized_shape` (Zhang and Sennrich 2019, arXiv:1910.07467).

    Arguments: normalized_shape; eps: None is the machine epsilon of the dtype computed in;
    elementwise_affine: whether there is a weight. Parameter: weight (ones).
    Shapes: (..., *normalized_shape) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.RMSNorm(2, eps=0.0)(pa.asarray([2.0, -2.0])).tolist()
    [1.0, -1.0]
    """

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = self.normalized_shape = _normalized("RMSNorm", normalized_shape)
        self.eps = None if eps is None else real("RMSNorm", "eps", eps, 0.0)
        self.elementwise_affine = flag("RMSNorm", "elementwise_affine", elementwise_affine)
        there = self.elementwise_affine
        self.register_parameter("weight", new_parameter(shape, dtype, device) if there else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Any) -> Any:
        if self.weight is not None:
            check_input("RMSNorm", "x", x, self.weight, wide=True)
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        affine = self.elementwise_affine
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}"


class _BatchNorm(Module):
    """What BatchNorm1d to BatchNorm3d share; `AXES` that an input may have."""

    AXES: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        self.num_features = positive(name, "num_features", num_features)
        self.eps = real(name, "eps", eps, 0.0)
        self.momentum = None if momentum is None else real(name, "momentum", momentum, 0.0)
        self.affine = flag(name, "affine", affine)
        self.track_running_stats = flag(name, "track_running_stats", track_running_stats)
        shape = (num_features,)
        self.register_parameter("weight", new_parameter(shape, dtype, device) if affine else None)
        self.register_parameter("bias", new_parameter(shape, dtype, device) if affine else None)
        there = self.track_running_stats
        self.register_buffer("running_mean", new_zeros(shape, dtype, device) if there else None)
        self.register_buffer("running_var", new_zeros(shape, dtype, device) if there else None)
        self.register_buffer("num_batches_tracked", new_zeros((), int64, device) if there else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Running mean 0, running variance 1, no batches counted."""
        if self.running_mean is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            count = put(np.zeros((), np.int64), spec((), int64), self.num_batches_tracked.device)
            hold(self.num_batches_tracked, count)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and the running values as at first."""
        self.reset_running_stats()
        _reset(self)

    def forward(self, x: Any) -> Any:
        name = type(self).__name__
        shape = value_of(name, x).spec.shape
        if len(shape) not in self.AXES or shape[1] != self.num_features:
            axes = " or ".join(map(str, self.AXES))
            expected = f"{axes} axes (N, C, ...) with C = {self.num_features}"
            raise ShapeError(message(name, f"shape {shape}", expected))
        held = self.weight if self.weight is not None else self.running_mean
        if held is not None:
            check_input(name, "x", x, held, wide=True)
        mean, var, momentum = self.running_mean, self.running_var, self.momentum
        learns = self.training and mean is not None
        count = self.num_batches_tracked + 1 if learns else None
        if momentum is None:
            momentum = 1.0 / count.astype(mean.dtype) if count is not None else 0.0
        whole = self.training or mean is None
        y = F.batch_norm(x, mean, var, self.weight, self.bias, whole, momentum, self.eps)
        if count is not None:
            hold(self.num_batches_tracked, count)
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) weight + bias by channel (Ioffe and Szegedy 2015,
    arXiv:1502.03167).

    In training mean and variance (divided by n) are those of the batch, and the running values
    become running (1 - momentum) + batch momentum, with the variance divided by n - 1; in
    evaluation they are the running ones. `momentum` None: the average of all batches.
    Arguments: num_features: C; eps; momentum; affine: whether there are weight and bias;
    track_running_stats: without it the batch's own are used in evaluation too.
    Parameters: weight (ones), bias (zeros), (C,). Buffers: running_mean, running_var, (C,), and
    num_batches_tracked. Shapes: (N, C) or (N, C, L) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> norm = nn.BatchNorm1d(1)
    >>> y = norm(pa.asarray([[1.0], [3.0]]))
    >>> f"{y[1, 0].item():.2f}", norm.num_batches_tracked.item()
    ('1.00', 1)
    """

    AXES = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`BatchNorm1d` for images. Shapes: (N, C, H, W) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.BatchNorm2d(3)(pa.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    AXES = (4,)


class BatchNorm3d(_BatchNorm):
    """`BatchNorm1d` for volumes. Shapes: (N, C, D, H, W) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.BatchNorm3d(3)(pa.ones((2, 3, 2, 2, 2))).shape
    (2, 3, 2, 2, 2)
    """

    AXES = (5,)


class GroupNorm(Module):
    """y = (x - mean) / sqrt(var + eps) weight + bias, mean and variance over the elements of a
    group of num_channels / num_groups channels (Wu and He 2018, arXiv:1803.08494).

    Arguments: num_groups, num_channels, eps, affine. Parameters: weight (ones) and bias (zeros),
    (num_channels,). Shapes: (N, num_channels, ...) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.GroupNorm(2, 4)(pa.ones((1, 4, 3))).shape
    (1, 4, 3)
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_groups = positive("GroupNorm", "num_groups", num_groups)
        self.num_channels = positive("GroupNorm", "num_channels", num_channels)
        if num_channels % num_groups:
            given = f"{num_groups} groups of {num_channels} channels"
            raise ArgumentError(message("GroupNorm", given, "a divisor"))
        self.eps = real("GroupNorm", "eps", eps, 0.0)
        self.affine = flag("GroupNorm", "affine", affine)
        shape = (num_channels,)
        self.register_parameter("weight", new_parameter(shape, dtype, device) if affine else None)
        self.register_parameter("bias", new_parameter(shape, dtype, device) if affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self)

    def forward(self, x: Any) -> Any:
        if self.weight is not None:
            check_input("GroupNorm", "x", x, self.weight, wide=True)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
