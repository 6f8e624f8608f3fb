"""Window: each result element sees an affine window of the operand's spatial axes."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, ShapeError, message
from proa.graph.spec import Spec
from proa.ops.factors import FactorMap
from proa.ops.primitive import REGISTRY, Family, Primitive, apply


def spread_size(n: int, dilation: int) -> int:
    """The extent of `n` elements that stand `dilation` apart."""
    return max(0, (n - 1) * dilation + 1)


def factors(op: str, ins: tuple[Spec, ...], **params: Any) -> FactorMap:
    """Letters: n and o pass; c (channels of one group) and the kernel's axes are summed."""
    x, w = ins
    _check_params(op, x, w, **params)
    _check_channels(op, x, w, params["groups"])
    spatial = range(x.ndim - 2)
    read, kernel, out = [tuple([(k, i) for i in spatial]) for k in ("in", "kernel", "out")]
    channels = "c" if params["groups"] == 1 else "channels"
    roles: dict[Any, str] = {"n": "pass", "o": "pass", channels: "window", "c": "sum"}
    roles |= dict.fromkeys(read, "window") | dict.fromkeys(kernel, "sum")
    roles |= dict.fromkeys(out, "pass")
    sizes: dict[Any, int] = dict(zip(("n", channels, *read), x.shape, strict=True))
    sizes |= dict(zip(("o", "c", *kernel), w.shape, strict=True))
    sizes |= dict(zip(out, _out_sizes(op, x, w, **params), strict=True))
    operands = (("n", channels, *read), ("o", "c", *kernel))
    return FactorMap(operands, (("n", "o", *out),), roles, sizes)


def _check_params(op: str, x: Spec, w: Spec, **params: Any) -> None:
    spatial = x.ndim - 2
    if not 1 <= spatial <= 3 or w.ndim != x.ndim:
        given = f"shapes {x.shape} and {w.shape}"
        expected = "[N, C, spatial...] and [O, C / groups, spatial...], 1 to 3 spatial axes"
        raise ShapeError(message(op, given, expected))
    for name in ("strides", "padding", "x_dilation", "w_dilation"):
        found = params[name]
        if len(found) != spatial or (name != "padding" and any(k < 1 for k in found)):
            expected = f"{spatial} of them" + (", each at least 1" if name != "padding" else "")
            raise ArgumentError(message(op, f"{name} {found}", expected))
    if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in params["padding"]):
        given = f"padding {params['padding']}"
        raise ArgumentError(message(op, given, "(low, high) for each axis"))


def _check_channels(op: str, x: Spec, w: Spec, groups: int) -> None:
    if groups < 1 or w.shape[1] * groups != x.shape[1] or w.shape[0] % groups:
        given = f"{x.shape[1]} channels, kernels of shape {w.shape}, {groups} groups"
        raise ShapeError(message(op, given, "kernels [O, C / groups, ...], O a multiple of groups"))


def _out_sizes(
    op: str, x: Spec, w: Spec, strides: Any, padding: Any, x_dilation: Any, w_dilation: Any,
    groups: int,
) -> list[int]:  # fmt: skip
    found = []
    for i, (low, high) in enumerate(padding):
        room = spread_size(x.shape[2 + i], x_dilation[i]) + low + high
        span = spread_size(w.shape[2 + i], w_dilation[i])
        if span < 1 or room < span:
            given = f"a kernel of extent {span} on an extent of {room} along spatial axis {i}"
            raise ShapeError(message(op, given, "a kernel that is not empty and fits", "padding"))
        found.append((room - span) // strides[i] + 1)
    return found


def batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """A batched x alone is more examples; batched kernels are more channels of each group, and
    both together are more groups."""
    x, w = operands
    count = (x if flags[0] else w).value.spec.shape[0]
    out, channels, *kernel = w.value.spec.shape[-(x.value.spec.ndim - flags[0]) :]
    groups = params["groups"]
    if not flags[1]:
        y = apply(primitive, (_merged(x, 0), w), **params)
        return _split(y, 0, count)
    if not flags[0]:
        w = reshaped(w, count, groups, out // groups, channels, *kernel)
        w = reshaped(_swapped(w), count * out, channels, *kernel)
        y = _split(apply(primitive, (x, w), **params), 1, groups, count)
        return _merged(permuted(y, 2, 0, 1, *range(3, y.value.spec.ndim)), 2)
    x = _merged(_swapped(x), 1)
    y = apply(primitive, (x, _merged(w, 0)), **params | {"groups": groups * count})
    return _swapped(_split(y, 1, count))


def reshaped(x: Any, *shape: int) -> Any:
    return apply(REGISTRY["reshape"], (x,), shape=shape)


def permuted(x: Any, *axes: int) -> Any:
    return apply(REGISTRY["permute"], (x,), axes=axes)


def _swapped(x: Any) -> Any:
    """The first two axes exchanged."""
    return permuted(x, 1, 0, *range(2, x.value.spec.ndim))


def _merged(x: Any, axis: int) -> Any:
    """An axis and the next one as one."""
    shape = x.value.spec.shape
    return reshaped(x, *shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])


def _split(x: Any, axis: int, *sizes: int) -> Any:
    """An axis as several: of these sizes, and one of what is left."""
    shape, left = x.value.spec.shape, x.value.spec.shape[axis]
    for n in sizes:
        left //= n
    return reshaped(x, *shape[:axis], *sizes, left, *shape[axis + 1 :])


WINDOW = Family("window", factors, batch)
