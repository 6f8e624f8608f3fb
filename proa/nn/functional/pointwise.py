"""Activations and norms that have another name or argument here than the composites."""

from __future__ import annotations

from math import inf
from typing import Any

from proa.errors import ArgumentError, ShapeError, message
from proa.nn.parameter import hold
from proa.ops import composite as co
from proa.ops import operators as op
from proa.ops import reduce
from proa.ops.arithmetic import maximum
from proa.ops.composite import sigmoid
from proa.ops.composite.common import floating, real
from proa.ops.functions import abs as absolute
from proa.ops.functions import sqrt
from proa.shapes import as_axis

# Activations.


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
    order = real("normalize", "p", p, -inf)
    if not order:
        raise ArgumentError(message("normalize", "`p` 0", "another number"))
    return x / maximum(_norm(x, order, axis), eps)


def _norm(x: Any, p: float, axis: int) -> Any:
    if p == inf:
        return reduce.max(absolute(x), axis, keepdims=True)
    if p == 1:
        return reduce.sum(absolute(x), axis, keepdims=True)
    powers = x * x if p == 2 else op.power(absolute(x), p)
    total = reduce.sum(powers, axis, keepdims=True)
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
    return reduce.sum(normalize(x, 2.0, dim, eps) * normalize(y, 2.0, dim, eps), dim)
