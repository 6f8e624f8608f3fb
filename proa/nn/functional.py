"""`nn.functional`: PyTorch's functional names, on Proa's composites.

What a composite takes as it stands is re-exported; the rest adapts arguments. Axes are called
`dim` here, as in PyTorch; sizes are ints or one int for each spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final

from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.nn.module import hold
from proa.ops import composite as co
from proa.ops import operators as op
from proa.ops.arithmetic import maximum
from proa.ops.composite import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    elu,
    gelu,
    group_norm,
    huber_loss,
    kl_div,
    l1_loss,
    layer_norm,
    leaky_relu,
    linear,
    mse_loss,
    nll_loss,
    relu,
    rms_norm,
    sigmoid,
    silu,
    smooth_l1_loss,
    softplus,
)  # fmt: skip
from proa.ops.composite.common import choice, flag, floating, integers, matched, shaped
from proa.ops.functions import abs as absolute
from proa.ops.functions import sqrt, tanh
from proa.ops.movement import pad as pad_primitive
from proa.ops.primitive import apply, as_number, number_of, value_of
from proa.ops.window import conv
from proa.random import Generator, default_generator
from proa.shapes import as_axis, as_int
from proa.tensor import Tensor

logsigmoid = co.log_sigmoid
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


# Activations that have another name or argument here.


def softmax(x: Any, dim: int = -1) -> Any:
    """e^x / sum(e^x) along `dim`, without overflow. x: at least one axis, float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.softmax(pa.asarray([[1.0, 1.0]]), dim=1).tolist()
    [[0.5, 0.5]]
    """
    return co.softmax(x, dim)


def log_softmax(x: Any, dim: int = -1) -> Any:
    """x - log(sum(e^x)) along `dim`, without overflow. x: at least one axis, float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.log_softmax(pa.asarray([0.0]), dim=0).tolist()
    [0.0]
    """
    return co.log_softmax(x, dim)


def relu6(x: Any) -> Any:
    """min(max(x, 0), 6) (Howard et al. 2017). x: any shape, float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.relu6(pa.asarray([-1.0, 3.0, 9.0])).tolist()
    [0.0, 3.0, 6.0]
    """
    return op.clip(x, 0, 6)


def glu(x: Any, dim: int = -1) -> Any:
    """a sigmoid(b), where a and b are the halves of x along `dim` (Dauphin et al. 2016).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.glu(pa.asarray([4.0, 0.0])).tolist()
    [2.0]
    """
    shape = floating("glu", "x", x).spec.shape
    axis = as_axis("glu", dim, len(shape))
    if shape[axis] % 2:
        raise ShapeError(message("glu", f"size {shape[axis]} of axis {axis}", "an even size"))
    half = shape[axis] // 2
    a, b = (x[(slice(None),) * axis + (part,)] for part in (slice(0, half), slice(half, None)))
    return a * sigmoid(b)


# Convolution.


def _conv(name: str, length: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any,
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
        conv, (x if whole else op.reshape(x, (1, *shape)), weight), strides=steps, padding=around,
        x_dilation=(1,) * length, w_dilation=apart, groups=groups,
    )  # fmt: skip
    if bias is not None:
        bias = shaped(name, "bias", matched(name, "bias", bias, x.spec.dtype), kernel[:1])
        y = y + op.reshape(bias, (kernel[0], *(1,) * length))
    return y if whole else op.reshape(y, y.value.spec.shape[1:])


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
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    """`conv1d` over two spatial axes. x: (N, C, H, W) or (C, H, W); weight: (O, C / groups, K, L).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.conv2d(pa.ones((1, 2, 4, 4)), pa.ones((3, 2, 3, 3)), padding=1).shape
    (1, 3, 4, 4)
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    """`conv1d` over three spatial axes. x: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.conv3d(pa.ones((1, 1, 3, 3, 3)), pa.ones((2, 1, 2, 2, 2))).shape
    (1, 2, 2, 2, 2)
    """
    return _conv("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


# Pooling.


def max_pool1d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Any:  # fmt: skip
    """The largest of each window; the first of a tie has the gradient. x: (N, C, L) or (C, L).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.max_pool1d(pa.asarray([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[3.0, 2.0]]]
    """
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Any:  # fmt: skip
    """`max_pool1d` over two spatial axes. x: (N, C, H, W) or (C, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.max_pool2d(pa.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False) -> Any:  # fmt: skip
    """`max_pool1d` over three spatial axes. x: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.max_pool3d(pa.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(name: str, length: int, x: Any, kernel: Any, stride: Any, padding: Any,
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
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Any:  # fmt: skip
    """`avg_pool1d` over two spatial axes. x: (N, C, H, W) or (C, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.avg_pool2d(pa.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool3d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Any:  # fmt: skip
    """`avg_pool1d` over three spatial axes. x: (N, C, D, H, W) or (C, D, H, W).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.avg_pool3d(pa.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    return _avg_pool("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _avg_pool(name: str, length: int, x: Any, kernel: Any, stride: Any, padding: Any,
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


# Norms.


def batch_norm(
    x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: Any = 0.1, eps: Any = 1e-5,
) -> Any:  # fmt: skip
    """(x - mean) / sqrt(var + eps) weight + bias by channel (Ioffe and Szegedy 2015).

    In training mean and variance are those of the batch, and the handles `running_mean` and
    `running_var`, if given, are assigned running (1 - momentum) + batch momentum; in evaluation
    they are the running ones. x: (N, C, ...), float; all others: (C,).

    >>> import proa as pa
    >>> from proa import nn
    >>> mean, var = pa.zeros((1,)), pa.ones((1,))
    >>> _ = nn.functional.batch_norm(pa.asarray([[1.0], [3.0]]), mean, var, training=True)
    >>> f"{mean.item():.2f}"
    '0.20'
    """
    found = co.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training:
        return found
    y, new_mean, new_var = found
    if new_mean is not None:
        hold(running_mean, new_mean)
        hold(running_var, new_var)
    return y


def normalize(x: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """x / max(norm, eps), for the norm of order p (1, 2, another number, or infinity) along `dim`.

    x: float. The derivative of the norm at 0 is taken as 0.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.normalize(pa.asarray([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    x = floating("normalize", "x", x)
    axis = as_axis("normalize", dim, x.spec.ndim)
    return x / maximum(_norm(x, p, axis), eps)


def _norm(x: Any, p: float, axis: int) -> Any:
    if p == inf:
        return op.max(absolute(x), axis, keepdims=True)
    if p == 1:
        return op.sum(absolute(x), axis, keepdims=True)
    powers = x * x if p == 2 else op.power(absolute(x), float(p))
    total = op.sum(powers, axis, keepdims=True)
    none = total == 0
    safe = op.where(none, 1.0, total)
    return op.where(none, 0.0, sqrt(safe) if p == 2 else op.power(safe, 1.0 / p))


def cosine_similarity(x: Any, y: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x . y / (max(|x|, eps) max(|y|, eps)) along `dim`. x and y: float, broadcast.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.cosine_similarity(pa.asarray([[2.0, 0.0]]), pa.asarray([[1.0, 0.0]])).tolist()
    [1.0]
    """
    return op.sum(normalize(x, 2.0, dim, eps) * normalize(y, 2.0, dim, eps), dim)


# Dropout, tables, attention.


def dropout(x: Any, p: Any = 0.5, training: bool = True, generator: Any = None) -> Any:
    """In training x / (1 - p) with probability 1 - p, else 0 (Srivastava et al. 2014); x itself
    in evaluation. Numbers come from `generator`, or the default one.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.dropout(pa.ones((2,)), 0.5, training=False).tolist()
    [1.0, 1.0]
    """
    probability("dropout", p)
    if not flag("dropout", "training", training) or number_of(p) == 0:
        floating("dropout", "x", x)
        return x
    return drawn("dropout", generator, x, lambda state: co.dropout(x, state, p))


def drawn(name: str, generator: Any, x: Any, function: Any) -> Any:
    """`function(state)` for the state of a generator, where x is; the state is advanced."""
    source = default_generator() if generator is None else generator
    if type(source) is not Generator:
        given = f"a generator of type {type(source).__name__}"
        raise DtypeError(message(name, given, "a Generator or None", "pa.Generator(seed)"))
    return source.draw(function, device=x.device if type(x) is Tensor else None)


def probability(name: str, p: Any) -> None:
    """An error unless p is a tensor or a number from 0 to 1."""
    number = number_of(p)
    if number is None:
        value_of(name, p)
    elif isinstance(number, (bool, complex)) or not 0 <= number <= 1:
        raise ArgumentError(message(name, f"p {p!r:.40}", "a number from 0 to 1"))


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """weight[indices]: rows of a table; no gradient reaches row `padding_idx`.

    indices: any shape, integers 0 <= i < V (outside, NaN); weight: (V, D), float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.embedding(pa.asarray([1, 0]), pa.asarray([[1.0], [2.0]])).tolist()
    [[2.0], [1.0]]
    """
    return co.embedding(weight, indices, padding_idx)


def one_hot(indices: Any, num_classes: int = -1) -> Any:
    """1 at position i along a new last axis, 0 elsewhere, int64. Without `num_classes` the
    largest index is read. indices: any shape, an integer dtype.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.one_hot(pa.asarray([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    if num_classes == -1:
        given = integers("one_hot", "indices", indices)
        if not given.spec.size:
            raise ArgumentError(message("one_hot", "no indices", "num_classes"))
        num_classes = int(op.max(indices)) + 1
    return co.one_hot(indices, num_classes)


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: Any = 0.0) -> Any:
    """x with `value` around it: (before, after) of the last axis, then of the one before it, and
    so on; negative numbers crop. Only mode "constant" is there.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.pad(pa.asarray([[1.0, 2.0]]), (1, 0, 0, 1)).tolist()
    [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    """
    choice("pad", "mode", mode, ("constant",))
    given = value_of("pad", x)
    ndim = given.spec.ndim
    if not isinstance(pad, (tuple, list)) or len(pad) % 2 or len(pad) > 2 * ndim:
        expected = f"an even number of ints, at most {2 * ndim}"
        raise ArgumentError(message("pad", f"pad {pad!r:.60}", expected))
    around = [as_int("pad", "pad", n) for n in pad]
    rest = (0,) * (ndim - len(around) // 2)
    low, high = rest + tuple(around[0::2][::-1]), rest + tuple(around[1::2][::-1])
    number = number_of(value)
    fill = value if number is None else as_number("pad", number, given.spec.dtype)
    return pad_primitive(given, fill, low=low, high=high, interior=(0,) * ndim)


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: Any = 0.0,
    is_causal: bool = False, scale: Any = None, enable_gqa: bool = False, *, generator: Any = None,
) -> Any:  # fmt: skip
    """softmax(q k^T scale + mask) v over the last two axes (Vaswani et al. 2017).

    query: (..., H, L, E); key: (..., K, S, E); value: (..., K, S, V). attn_mask is broadcast to
    (..., H, L, S): True where a query may attend, or a float that is added. `is_causal`: query i
    sees keys 0..i. `scale` None is 1 / sqrt(E). With `enable_gqa` K may divide H.
    A query that may attend to nothing gives 0.

    >>> import proa as pa
    >>> from proa import nn
    >>> q = pa.ones((2, 3, 4))
    >>> nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).shape
    (2, 3, 4)
    """
    name = "scaled_dot_product_attention"
    heads = [value_of(name, t).spec.shape[:-2] for t in (query, key)]
    if heads[0] != heads[1] and not flag(name, "enable_gqa", enable_gqa):
        given = f"heads {heads[0]} of query and {heads[1]} of key"
        raise ShapeError(message(name, given, "equal ones", "enable_gqa=True"))
    probability(name, dropout_p)
    options: dict[str, Any] = {"causal": is_causal, "scale": scale}
    if number_of(dropout_p) == 0:
        return co.attention(query, key, value, attn_mask, **options)
    options["dropout_p"] = dropout_p
    return drawn(
        name, generator, query,
        lambda state: co.attention(query, key, value, attn_mask, state=state, **options),
    )  # fmt: skip


__all__: Final = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d", "cosine_similarity",
    "cross_entropy", "dropout", "elu", "embedding", "gelu", "glu", "group_norm", "huber_loss",
    "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear", "log_softmax", "logsigmoid",
    "max_pool1d", "max_pool2d", "max_pool3d", "mse_loss", "nll_loss", "normalize", "one_hot",
    "pad", "relu", "relu6", "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu",
    "smooth_l1_loss", "softmax", "softplus", "tanh",
]  # fmt: skip
