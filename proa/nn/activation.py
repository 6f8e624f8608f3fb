"""Activations as modules, without parameters."""

from __future__ import annotations

from typing import Any

from proa.nn import functional as F  # noqa: N812
from proa.nn.module import Module
from proa.ops.composite.common import choice
from proa.shapes import as_int


class ReLU(Module):
    """y = max(x, 0), element by element; the derivative at 0 is 0 (Nair and Hinton 2010).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.ReLU()(pa.asarray([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class ReLU6(Module):
    """y = min(max(x, 0), 6), element by element (Howard et al. 2017, arXiv:1704.04861).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.ReLU6()(pa.asarray([-1.0, 9.0])).tolist()
    [0.0, 6.0]
    """

    def forward(self, x: Any) -> Any:
        return F.relu6(x)


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope x (Maas et al. 2013).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.LeakyReLU(0.5)(pa.asarray([-2.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """y = x where x > 0, else alpha (e^x - 1) (Clevert et al. 2015, arXiv:1511.07289).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.ELU()(pa.asarray([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """y = x (1 + erf(x / sqrt 2)) / 2, or with approximate="tanh"
    x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.GELU()(pa.asarray([0.0, 10.0])).tolist()
    [0.0, 10.0]
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: Any) -> Any:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """y = x sigmoid(x), also called swish (Elfwing et al. 2017, arXiv:1702.03118).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.SiLU()(pa.asarray([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    def forward(self, x: Any) -> Any:
        return F.silu(x)


class Softplus(Module):
    """y = log(1 + e^(beta x)) / beta, accurate in both tails (Dugas et al. 2000).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Softplus()(pa.asarray([100.0])).tolist()
    [100.0]
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Any) -> Any:
        return F.softplus(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class Tanh(Module):
    """y = tanh(x), element by element.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Tanh()(pa.asarray([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class Sigmoid(Module):
    """y = 1 / (1 + e^-x), element by element.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Sigmoid()(pa.asarray([0.0])).tolist()
    [0.5]
    """

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class LogSigmoid(Module):
    """y = log(1 / (1 + e^-x)), accurate in both tails.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.LogSigmoid()(pa.asarray([-1000.0])).tolist()
    [-1000.0]
    """

    def forward(self, x: Any) -> Any:
        return F.logsigmoid(x)


class GLU(Module):
    """y = a sigmoid(b), where a and b are the halves of x along `dim` (Dauphin et al. 2016,
    arXiv:1612.08083). Shapes: (..., 2 n, ...) -> (..., n, ...).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.GLU()(pa.asarray([4.0, 0.0])).tolist()
    [2.0]
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = as_int("GLU", "dim", dim)

    def forward(self, x: Any) -> Any:
        return F.glu(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(Module):
    """y = e^x / sum(e^x) along `dim`. Shapes: any -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Softmax(dim=1)(pa.asarray([[1.0, 1.0]])).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = as_int("Softmax", "dim", dim)

    def forward(self, x: Any) -> Any:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """y = x - log(sum(e^x)) along `dim`. Shapes: any -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.LogSoftmax(dim=0)(pa.asarray([3.0])).tolist()
    [0.0]
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = as_int("LogSoftmax", "dim", dim)

    def forward(self, x: Any) -> Any:
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
