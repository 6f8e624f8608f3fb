"""How parameters begin: PyTorch's `nn.init`.

Each function assigns the tensor's handle and returns the tensor. Numbers come from `generator`,
or the default one. Work is recorded: what a checkpoint overwrites is never computed.
"""

from __future__ import annotations

from math import erf, inf, prod, sqrt
from typing import Any, Final

import numpy as np

from proa import random
from proa.compile.memory import need
from proa.convert import filled
from proa.dtypes import float32, int64
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.spec import spec
from proa.ops import functions as fn
from proa.ops import moves
from proa.ops import operators as op
from proa.ops.composite.common import choice, real
from proa.ops.creation import iota
from proa.ops.primitive import apply, check_number, number_of
from proa.ops.scans import sort
from proa.record.live import CAPTURE, thread
from proa.shapes import as_int
from proa.tensor import Tensor, moved, no_grad, put, rebind

_GAINS: Final = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3,
    "relu": sqrt(2.0), "selu": 3.0 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """By how much to scale the standard deviation of weights before a nonlinearity: 1 for
    "linear", "conv1d" .. "conv3d" and "sigmoid", 5/3 for "tanh", sqrt(2) for "relu", 3/4 for
    "selu", sqrt(2 / (1 + a^2)) for "leaky_relu" of slope a (`param`, 0.01 if None).

    >>> from proa import nn
    >>> nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    choice("calculate_gain", "nonlinearity", nonlinearity, (*_GAINS, "leaky_relu"))
    if nonlinearity == "leaky_relu":
        slope = real("calculate_gain", "param", 0.01 if param is None else param, -1e150, 1e150)
        return sqrt(2.0 / (1 + slope**2))
    return _GAINS[nonlinearity]


def fans(tensor: Any) -> tuple[int, int]:
    """How many numbers an output is made of, and how many outputs a number reaches.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.init.fans(pa.zeros((8, 4, 3, 3)))
    (36, 72)
    """
    shape = _float("fans", tensor).shape
    if len(shape) < 2:
        raise ShapeError(message("fans", f"shape {shape}", "at least 2 axes"))
    window = prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _float(name: str, tensor: Any) -> Tensor:
    if type(tensor) is not Tensor:
        given = f"an argument of type {type(tensor).__name__}"
        raise DtypeError(message(name, given, "a tensor, or a Parameter"))
    if not tensor.dtype.is_float:
        raise DtypeError(message(name, tensor.dtype.name, "a float dtype"))
    return tensor


def _drawn(function: Any, like: Tensor, generator: Any, *bounds: float, dtype: Any = None) -> Any:
    """Random numbers of a tensor's shape, in its dtype (or another), where it is."""
    of = like.dtype if dtype is None else dtype
    return function(like.shape, *bounds, generator=generator, dtype=of, device=like.device)


def _set(tensor: Tensor, new: Any) -> Tensor:
    """The handle holds `new`, in its own dtype and on its own device."""
    with no_grad():
        found = moves.broadcast_to(op.astype(new, tensor.dtype), tensor.shape)
        rebind(tensor, moved(found.detach(), tensor.device).value)
    return tensor


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Uniform from a to b.

    >>> import proa as pa
    >>> from proa import nn
    >>> bool((nn.init.uniform_(pa.zeros((3,)), 2.0, 3.0) >= 2.0).all())
    True
    """
    _float("uniform_", tensor)
    a, b = real("uniform_", "a", a), real("uniform_", "b", b)
    if not a <= b:
        raise ArgumentError(message("uniform_", f"a {a!r:.40} and b {b!r:.40}", "a <= b"))
    return _set(tensor, _drawn(random.uniform, tensor, generator, a, b))


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Normal with this mean and standard deviation.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.init.normal_(pa.zeros((2, 3)), std=0.02).shape
    (2, 3)
    """
    _float("normal_", tensor)
    std = real("normal_", "std", std, 0.0)
    return _set(tensor, _drawn(random.normal, tensor, generator, mean, std))


def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
    generator: Any = None,
) -> Any:  # fmt: skip
    """Normal with this mean and standard deviation, of what lies between a and b: a uniform
    number put through the inverse of the distribution function.

    >>> import proa as pa
    >>> from proa import nn
    >>> bool((abs(nn.init.trunc_normal_(pa.zeros((99,)))) <= 2.0).all())
    True
    """
    _float("trunc_normal_", tensor)
    mean, std, a, b = (
        real("trunc_normal_", name, given)
        for name, given in (("mean", mean), ("std", std), ("a", a), ("b", b))
    )
    if not (std > 0 and a < b):
        given = f"std {std!r:.40}, a {a!r:.40}, b {b!r:.40}"
        raise ArgumentError(message("trunc_normal_", given, "std > 0 and a < b"))
    low, high = (erf((bound - mean) / std / sqrt(2.0)) for bound in (a, b))
    wide = float32 if tensor.dtype.bits < 32 else tensor.dtype
    inside = _drawn(random.uniform, tensor, generator, low, high, dtype=wide)
    found = inverse_erf(inside) * (std * sqrt(2.0)) + mean
    return _set(tensor, op.clip(found, a, b))


_NEAR: Final = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_FAR: Final = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
    0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def inverse_erf(y: Any) -> Any:
    """x with erf(x) = y: two polynomials in log(1 - y^2) (Giles 2010), and a step of Newton's."""
    y = op.clip(y, -1 + 2.0**-24, 1 - 2.0**-24)
    w = -fn.log((1.0 - y) * (1.0 + y))
    near, far = _polynomial(_NEAR, w - 2.5), _polynomial(_FAR, fn.sqrt(op.clip(w, 5.0, inf)) - 3.0)
    x = op.where(w < 5.0, near, far) * y
    return x - (fn.erf(x) - y) * fn.exp(x * x) * (sqrt(np.pi) / 2)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = x * total + c
    return total


def constant_(tensor: Any, val: float) -> Any:
    """The same number everywhere.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.init.constant_(pa.zeros((2,)), 0.5).tolist()
    [0.5, 0.5]
    """
    if type(tensor) is not Tensor:
        _float("constant_", tensor)
    number = number_of(val)
    if number is None:
        raise DtypeError(message("constant_", f"`val` {val!r:.60}", "a number"))
    check_number("constant_", number, tensor.dtype)
    if thread.state.mode & CAPTURE:  # such as `lazy_init`, where nothing is allocated
        return _set(tensor, filled("constant_", tensor.shape, number, tensor.dtype, tensor.device))
    need("constant_", tensor.nbytes)
    with np.errstate(over="ignore"):
        array = np.full(tensor.shape, number, tensor.dtype.numpy)
    rebind(tensor, put(array, spec(tensor.shape, tensor.dtype), tensor.device).value)
    return tensor


def ones_(tensor: Any) -> Any:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Any) -> Any:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def _fixed(tensor: Tensor, array: Any) -> Tensor:
    """The handle holds this array."""
    with np.errstate(over="ignore"):
        array = array.astype(tensor.dtype.numpy)
    rebind(tensor, put(array, spec(tensor.shape, tensor.dtype), tensor.device).value)
    return tensor


def eye_(tensor: Any) -> Any:
    """The identity matrix: 1 on the diagonal, 0 elsewhere.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.init.eye_(pa.zeros((2, 3))).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if _float("eye_", tensor).ndim != 2:
        raise ShapeError(message("eye_", f"shape {tensor.shape}", "2 axes"))
    need("eye_", 8 * tensor.size)
    return _fixed(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Kernels of a convolution that changes nothing: 1 at the centre, from each input channel to
    the output channel of the same number in its group.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.init.dirac_(pa.zeros((1, 1, 3))).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    shape = _float("dirac_", tensor).shape
    if not 3 <= len(shape) <= 5:
        raise ShapeError(message("dirac_", f"shape {shape}", "3 to 5 axes"))
    groups = as_int("dirac_", "groups", groups)
    if groups < 1 or shape[0] % groups:
        raise ArgumentError(
            message("dirac_", f"{groups} groups of {shape[0]} outputs", "a divisor")
        )
    need("dirac_", 8 * tensor.size)
    array, each = np.zeros(shape), shape[0] // groups
    centre = tuple([n // 2 for n in shape[2:]])
    for group in range(groups):
        for i in range(min(each, shape[1])):
            array[(group * each + i, i, *centre)] = 1.0
    return _fixed(tensor, array)


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Uniform within gain sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010).

    >>> import proa as pa
    >>> from proa import nn
    >>> bool((abs(nn.init.xavier_uniform_(pa.zeros((3, 3)))) <= 1.0).all())
    True
    """
    bound = real("xavier_uniform_", "gain", gain) * sqrt(6.0 / _both_fans(tensor))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Normal with deviation gain sqrt(2 / (fan in + fan out)) (Glorot and Bengio 2010)."""
    std = real("xavier_normal_", "gain", gain) * sqrt(2.0 / _both_fans(tensor))
    return normal_(tensor, 0.0, std, generator)


def _both_fans(tensor: Any) -> int:
    total = sum(fans(tensor))
    if not total:
        raise ShapeError(message("xavier", f"shape {tensor.shape}", "a fan of at least 1"))
    return total


def kaiming_uniform_(
    tensor: Any, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Any:  # fmt: skip
    """Uniform within gain sqrt(3 / fan) (He et al. 2015), `gain` that of the nonlinearity (`a` is
    the slope of a leaky ReLU), `fan` fan in or fan out as `mode` says.

    >>> import proa as pa
    >>> from proa import nn
    >>> bool((abs(nn.init.kaiming_uniform_(pa.zeros((3, 6)))) <= 1.0).all())
    True
    """
    bound = sqrt(3.0) * _kaiming(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Any:  # fmt: skip
    """Normal with deviation gain / sqrt(fan) (He et al. 2015), as in `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming(tensor, a, mode, nonlinearity), generator)


def _kaiming(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    choice("kaiming", "mode", mode, ("fan_in", "fan_out"))
    real("kaiming", "a", a)
    fan = fans(tensor)[mode == "fan_out"]
    if not fan:
        raise ShapeError(message("kaiming", f"shape {tensor.shape}", f"a {mode} of at least 1"))
    return calculate_gain(nonlinearity, a) / sqrt(fan)


def orthogonal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Orthogonal rows or columns (the fewer) of length `gain`, of the tensor flattened to a
    matrix (Saxe et al. 2013): Q of a QR decomposition of normal numbers, computed at once.

    >>> import proa as pa
    >>> from proa import nn
    >>> w = nn.init.orthogonal_(pa.zeros((2, 2)))
    >>> f"{(w @ w.T)[0, 0].item():.3f}"
    '1.000'
    """
    shape = _float("orthogonal_", tensor).shape
    gain = real("orthogonal_", "gain", gain)
    if len(shape) < 2:
        raise ShapeError(message("orthogonal_", f"shape {shape}", "at least 2 axes"))
    rows, columns = shape[0], prod(shape[1:])
    drawn = random.normal((max(rows, columns), min(rows, columns)), generator=generator)
    q, r = np.linalg.qr(drawn.numpy().astype(np.float64))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return _fixed(tensor, gain * (q if rows >= columns else q.T).reshape(shape))


def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: Any = None) -> Any:
    """Normal with this deviation, and in each column a share `sparsity` of zeros (Martens 2010).

    >>> import proa as pa
    >>> from proa import nn
    >>> (nn.init.sparse_(pa.zeros((10, 3)), 0.3) == 0).sum(0).tolist()
    [3, 3, 3]
    """
    shape = _float("sparse_", tensor).shape
    if len(shape) != 2:
        raise ShapeError(message("sparse_", f"shape {shape}", "2 axes"))
    sparsity = real("sparse_", "sparsity", sparsity, 0.0, 1.0)
    keys = _drawn(random.uniform, tensor, generator, dtype=float32)
    order = apply(sort, (keys,), axis=0)[1]
    place = apply(sort, (order,), axis=0)[1]
    drawn = _drawn(random.normal, tensor, generator, 0.0, std)
    return _set(tensor, op.where(place < int(np.ceil(sparsity * shape[0])), 0.0, drawn))


def zero_row_(tensor: Tensor, row: int) -> Tensor:
    """The tensor with one row of zeros."""
    rows = apply(iota, (), shape=(tensor.shape[0], 1), axis=0, dtype=int64)
    with no_grad():
        return _set(tensor, op.where(rows == row, 0.0, tensor))
