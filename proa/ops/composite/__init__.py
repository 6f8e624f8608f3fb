"""Composites: named graphs of other operations, one recorded node each."""

from proa.ops.composite.activations import (
    elu,
    gelu,
    leaky_relu,
    log_sigmoid,
    relu,
    sigmoid,
    silu,
    softplus,
)
from proa.ops.composite.attention import attention
from proa.ops.composite.cross_entropy import cross_entropy, nll_loss
from proa.ops.composite.dropout import dropout
from proa.ops.composite.embedding import embedding, one_hot, take, take_along_axis
from proa.ops.composite.linear import einsum, linear, outer, tensordot, vecdot
from proa.ops.composite.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from proa.ops.composite.neighbours import nextafter
from proa.ops.composite.normalisation import batch_norm, group_norm, layer_norm, rms_norm
from proa.ops.composite.pooling import adaptive_avg_pool, adaptive_max_pool, avg_pool, max_pool
from proa.ops.composite.random import (
    bernoulli,
    categorical,
    normal,
    permutation,
    randint,
    uniform,
)
from proa.ops.composite.running import cummax, cummin, logcumsumexp
from proa.ops.composite.searching import searchsorted
from proa.ops.composite.statistics import log_softmax, logsumexp, mean, softmax, std, var

__all__ = [
    "adaptive_avg_pool", "adaptive_max_pool", "attention", "avg_pool", "batch_norm",
    "bernoulli", "binary_cross_entropy", "binary_cross_entropy_with_logits", "categorical",
    "cross_entropy", "cummax", "cummin", "dropout", "einsum", "elu", "embedding", "gelu",
    "group_norm", "huber_loss", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear",
    "log_sigmoid", "log_softmax", "logcumsumexp", "logsumexp", "max_pool", "mean", "mse_loss",
    "nextafter", "nll_loss", "normal", "one_hot", "outer", "permutation", "randint", "relu",
    "rms_norm", "searchsorted", "sigmoid", "silu", "smooth_l1_loss", "softmax", "softplus",
    "std", "take", "take_along_axis", "tensordot", "uniform", "var", "vecdot",
]  # fmt: skip
