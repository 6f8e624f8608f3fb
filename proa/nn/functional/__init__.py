"""`nn.functional`: PyTorch's functional names, on Proa's composites.

What a composite takes as it stands is re-exported; the rest adapts arguments. Axes are called
`dim` here, as in PyTorch; sizes are ints or one int for each spatial axis.
"""

from __future__ import annotations

from typing import Final

from proa.nn.functional.pointwise import (
    batch_norm,
    cosine_similarity,
    glu,
    log_softmax,
    normalize,
    relu6,
    softmax,
)
from proa.nn.functional.spatial import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from proa.nn.functional.tables import (
    dropout,
    embedding,
    one_hot,
    pad,
    scaled_dot_product_attention,
)
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
)
from proa.ops.composite import log_sigmoid as logsigmoid
from proa.ops.functions import tanh

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
