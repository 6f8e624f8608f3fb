"""The methods of tensors: the table of functions that are methods too, and those in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any, Final, final

from proa import dunders  # noqa: F401  (operators stand before methods)
from proa.array import counting as ct
from proa.array import creation as cr
from proa.array import elementwise as ew
from proa.array import manipulation as mp
from proa.array import matrices as mx
from proa.array import reductions as rs
from proa.array import statistics as st
from proa.convert import asarray, clone
from proa.errors import ArgumentError, message
from proa.indexing import counts_of_temporary, is_part, warn_if_part
from proa.ops import movement as mv
from proa.ops import operators as op
from proa.ops.primitive import apply
from proa.tensor import Tensor, assign


@final
class NoViews(ArgumentError, AttributeError):
    """What PyTorch does by sharing memory was asked for."""


def _data(x: Tensor) -> Any:
    hint = "x.detach() to read, with pa.no_grad(): x[...] = v to write"
    raise NoViews(message("data", "x.data", "no view: values are never shared", hint))


def _sizes(sizes: Sequence[Any]) -> Any:
    """`f(2, 3)` and `f((2, 3))` alike."""
    return sizes[0] if len(sizes) == 1 else tuple(sizes)


def _method_reshape(x: Tensor, *shape: Any, copy: bool | None = None) -> Tensor:
    """The same elements in another shape, `x.reshape(2, -1)` or `x.reshape((2, -1))`. A value of
    its own: writing to it leaves x alone. `view` is another name for it."""
    return mp.reshape(x, _sizes(shape), copy)


def _method_permute(x: Tensor, *axes: Any) -> Tensor:
    """Axes in another order: result axis i is x's axis axes[i]."""
    return mp.permute_dims(x, _sizes(axes))  # type: ignore[no-any-return]


def _method_expand(x: Tensor, *shape: Any) -> Tensor:
    """x repeated to a larger shape; -1 keeps a size."""
    given = _sizes(shape)
    sizes = list(given) if isinstance(given, (tuple, list)) else [given]
    first = len(sizes) - x.ndim
    kept = [x.shape[i - first] if n == -1 and i >= first >= 0 else n for i, n in enumerate(sizes)]
    return mp.broadcast_to(x, tuple(kept))  # type: ignore[no-any-return]


def _method_repeat(x: Tensor, repeats: int, *more: Any, axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along an axis. PyTorch's `repeat` is `tile`."""
    if more or not isinstance(repeats, int):
        given = f"repeat{(repeats, *more)}"
        raise ArgumentError(message("repeat", given, "one int and axis=", "x.tile(...)"))
    return mp.repeat(x, repeats, axis)


def _method_tile(x: Tensor, *repetitions: Any) -> Tensor:
    """The whole of x repeated along each axis."""
    return mp.tile(x, _sizes(repetitions))


def _method_transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    return mp.swapaxes(x, dim0, dim1)  # type: ignore[no-any-return]


def _method_index_select(x: Tensor, axis: int, index: Any) -> Tensor:
    """Elements at the places `index` along an axis."""
    return mp.take(x, index, axis)  # type: ignore[no-any-return]


def _method_where(x: Tensor, condition: Any, other: Any) -> Tensor:
    """x where the condition holds, else `other`."""
    return ew.where(condition, x, other)


def _method_clone(x: Tensor) -> Tensor:
    """The same value under a handle of its own, on the tape if x is."""
    return clone(x)


def _method_numel(x: Tensor) -> int:
    """Number of elements."""
    return x.size


def _method_dim(x: Tensor) -> int:
    """Number of axes."""
    return x.ndim


METHODS: Final[dict[str, Callable[..., Any]]] = {
    "abs": ew.abs, "acos": ew.acos, "acosh": ew.acosh, "all": rs.all, "any": rs.any,
    "argmax": rs.argmax, "argmin": rs.argmin, "argsort": mp.argsort, "asin": ew.asin,
    "asinh": ew.asinh, "atan": ew.atan, "atan2": ew.atan2, "atanh": ew.atanh,
    "bincount": ct.bincount, "broadcast_to": mp.broadcast_to, "ceil": ew.ceil, "clamp": ew.clip,
    "clip": ew.clip, "clone": _method_clone, "conj": ew.conj, "cos": ew.cos, "cosh": ew.cosh,
    "cummax": rs.cummax, "cummin": rs.cummin, "cumprod": rs.cumulative_prod,
    "cumsum": rs.cumulative_sum, "diagonal": mx.diagonal, "diff": rs.diff, "dim": _method_dim,
    "erf": ew.erf, "exp": ew.exp, "expand": _method_expand, "expand_dims": mp.expand_dims,
    "expm1": ew.expm1, "flatten": mp.flatten, "flip": mp.flip, "floor": ew.floor,
    "index_add": ct.index_add, "index_select": _method_index_select, "isfinite": ew.isfinite,
    "isinf": ew.isinf, "isnan": ew.isnan, "log": ew.log, "log10": ew.log10, "log1p": ew.log1p,
    "log2": ew.log2, "log_softmax": rs.log_softmax, "logcumsumexp": rs.logcumsumexp,
    "logsumexp": rs.logsumexp, "masked_fill": mx.masked_fill, "matmul": rs.matmul, "max": rs.max,
    "maximum": ew.maximum, "mean": rs.mean, "min": rs.min, "minimum": ew.minimum,
    "moveaxis": mp.moveaxis, "nanmean": st.nanmean, "nansum": st.nansum, "nextafter": ew.nextafter,
    "numel": _method_numel, "permute": _method_permute, "pow": ew.pow, "prod": rs.prod,
    "quantile": st.quantile, "reciprocal": ew.reciprocal, "relu": ew.relu,
    "repeat": _method_repeat, "reshape": _method_reshape, "roll": mp.roll, "round": ew.round,
    "rsqrt": ew.rsqrt, "sigmoid": ew.sigmoid, "sign": ew.sign, "sin": ew.sin, "sinh": ew.sinh,
    "softmax": rs.softmax, "sort": mp.sort, "sqrt": ew.sqrt, "square": ew.square,
    "squeeze": mp.squeeze, "std": rs.std, "sum": rs.sum, "swapaxes": mp.swapaxes, "take": mp.take,
    "tan": ew.tan, "tanh": ew.tanh, "tile": _method_tile, "topk": st.topk, "trace": mx.trace,
    "transpose": _method_transpose, "tril": cr.tril, "triu": cr.triu, "trunc": ew.trunc,
    "unsqueeze": mp.expand_dims, "var": rs.var, "view": _method_reshape, "where": _method_where,
}  # fmt: skip


def _scaled(other: Any, alpha: Any) -> Any:
    return other if type(alpha) is int and alpha == 1 else other * alpha


def _fill(x: Tensor, number: Any) -> Any:
    return apply(mv.broadcast, (ew.same_dtype(x, number),), shape=x.shape, axes=())


# What a method that ends in `_` makes of a tensor: the new value.
CHANGES: Final[dict[str, Callable[..., Any]]] = {
    "add_": lambda x, other, *, alpha=1: x + _scaled(other, alpha),
    "sub_": lambda x, other, *, alpha=1: x - _scaled(other, alpha),
    "mul_": lambda x, other: x * other,
    "div_": lambda x, other: x / other,
    "pow_": lambda x, exponent: x**exponent,
    "neg_": lambda x: -x,
    "clamp_": lambda x, min=None, max=None: ew.clip(x, min, max),
    "copy_": lambda x, source: mp.broadcast_to(op.astype(asarray(source), x.dtype), x.shape),
    "fill_": lambda x, value: _fill(x, value),
    "zero_": lambda x: cr.zeros_like(x),
}


def _change(name: str, function: Callable[..., Any]) -> Any:
    def change(self: Tensor, *args: Any, **options: Any) -> Tensor:
        count = getrefcount(self)
        if is_part(self):
            if count <= counts_of_temporary().method:
                given = "a part or view of a tensor, which is a value of its own"
                hint = "x[i] = v for a part, or the method of x itself"
                raise ArgumentError(
                    message(name, given, "a tensor that can be read afterwards", hint)
                )
            warn_if_part(self)
        return assign(self, function(self, *args, **options), name)

    change.__name__ = change.__qualname__ = name
    change.__doc__ = f"Changes the tensor in place as `{name[:-1]}` would; returns it."
    return change


def _operator(name: str) -> Any:
    """`x += y`: said once at the line if x is a part of another tensor; `x[0:2] += y` is not."""
    does = getattr(Tensor, f"__{name}__")

    def change(self: Tensor, other: Any) -> Any:
        count = getrefcount(self)
        made = does(self, other)
        if made is NotImplemented:
            return made
        if count > counts_of_temporary().in_place > 0:
            warn_if_part(self)
        return assign(self, made, f"{name} in place")

    return change


def attach() -> None:
    """Gives tensors the methods of the table above. Called once, when this module is imported."""
    for name, function in METHODS.items():
        setattr(Tensor, name, function)
    for name, function in CHANGES.items():
        setattr(Tensor, name, _change(name, function))
    for name in op.BINARY:
        setattr(Tensor, f"__i{name}__", _operator(name))
    Tensor.data = property(_data)


attach()
