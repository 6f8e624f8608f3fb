"""`conv`: convolution over 1 to 3 spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.spec import Spec, spec
from proa.ops.contraction import dot
from proa.ops.families.window import WINDOW, permuted, reshaped, spread_size
from proa.ops.movement import flip, zeros
from proa.ops.primitive import NUMERIC, Accuracy, Primitive, Sample, apply


def _conv_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    if ins[0].dtype is not ins[1].dtype:
        given = f"kernels of {ins[1].dtype.name} for {ins[0].dtype.name}"
        raise DtypeError(message("conv", given, "one dtype", "w.astype(x.dtype)"))
    (shape,) = primitive.family.factors(primitive.name, ins, **params).result_shapes()
    return spec(shape, ins[0].dtype, ins[0].weak and ins[1].weak)


def _spread(x: Any, padding: Any, dilation: Any) -> Any:
    """x with `dilation` - 1 zeros between neighbours and zeros around; negative padding crops."""
    shape, source, target = list(x.shape[:2]), [slice(None)] * 2, [slice(None)] * 2
    for n, (low, high), step in zip(x.shape[2:], padding, dilation, strict=True):
        extent = spread_size(n, step) + low + high
        first = max(0, -(low // step))
        stop = max(first, min(n, (extent - 1 - low) // step + 1))
        shape.append(extent)
        source.append(slice(first, stop))
        start = low + first * step
        target.append(slice(start, start + spread_size(stop - first, step), step))
    out = np.zeros(shape, x.dtype)
    out[tuple(target)] = x[tuple(source)]
    return out


def _conv(
    x: Any, w: Any, strides: Any, padding: Any, x_dilation: Any, w_dilation: Any, groups: int
) -> Any:
    """Patches of the padded operand times kernels: one matrix product for each group."""
    full = _spread(x, padding, x_dilation)
    spans = [spread_size(k, d) for k, d in zip(w.shape[2:], w_dilation, strict=True)]
    axes = tuple(range(2, x.ndim))
    patches = np.lib.stride_tricks.sliding_window_view(full, spans, axis=axes)
    steps = [slice(None, None, s) for s in (*strides, *w_dilation)]
    patches = patches[(slice(None), slice(None), *steps)]
    out = patches.shape[2 : x.ndim]
    channels, kernel = w.shape[1], int(np.prod(w.shape[2:]))
    left = patches.reshape(x.shape[0], groups, channels, int(np.prod(out)), kernel)
    right = w.reshape(groups, w.shape[0] // groups, channels, kernel)
    y = dot.meaning(left, right, a="ngcpk", b="gock", out="ngop")
    return y.reshape(x.shape[0], w.shape[0], *out)


def _conv_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    """y[p] sums x[j] w[k] over s p + d k = low + e j (strides s, dilations d of w and e of x).

    Read for j, this is a convolution of the cotangent with the flipped kernel; read for k, one of
    x with the cotangent as its kernel. Strides and dilations change places; the padding is what
    makes the result as long as the operand.
    """
    if 0 in entry.ins[index].shape or 0 in entry.out.shape:
        return zeros(entry.ins[index].shape, entry.ins[index])
    if index == 0:
        return _x_back(entry, cts[0], operands[1])
    return _w_back(entry, cts[0], operands[0])


def _x_back(entry: Any, ct: Any, w: Any) -> Any:
    p, groups = entry.named_params, entry.named_params["groups"]
    x, (out, channels, *kernel) = entry.ins[0].shape, entry.ins[1].shape
    padding = []
    for i, (low, _) in enumerate(p["padding"]):
        span = spread_size(kernel[i], p["w_dilation"][i])
        given = spread_size(entry.out.shape[2 + i], p["strides"][i])
        needed = span + (x[2 + i] - 1) * p["x_dilation"][i]
        padding.append((span - 1 - low, needed - given - (span - 1 - low)))
    w = reshaped(w, groups, out // groups, channels, *kernel)
    w = permuted(w, 0, 2, 1, *range(3, w.value.spec.ndim))
    w = reshaped(w, groups * channels, out // groups, *kernel)
    w = apply(flip, (w,), axes=tuple(range(2, len(x))))
    return apply(
        conv, (ct, w), strides=p["x_dilation"], padding=tuple(padding),
        x_dilation=p["strides"], w_dilation=p["w_dilation"], groups=groups,
    )  # fmt: skip


def _w_back(entry: Any, ct: Any, x: Any) -> Any:
    """Examples are summed like channels, and channels of a group go like examples."""
    p, groups = entry.named_params, entry.named_params["groups"]
    (count, _, *sizes), (out, channels, *kernel) = entry.ins[0].shape, entry.ins[1].shape
    padding = []
    for i, (low, _) in enumerate(p["padding"]):
        span = spread_size(entry.out.shape[2 + i], p["strides"][i])
        needed = span + (kernel[i] - 1) * p["w_dilation"][i]
        padding.append((low, needed - spread_size(sizes[i], p["x_dilation"][i]) - low))
    x = reshaped(x, count, groups, channels, *sizes)
    x = permuted(x, 2, 1, 0, *range(3, x.value.spec.ndim))
    x = reshaped(x, channels, groups * count, *sizes)
    ct = reshaped(ct, count, groups, out // groups, *entry.out.shape[2:])
    ct = permuted(ct, 1, 2, 0, *range(3, ct.value.spec.ndim))
    ct = reshaped(ct, out, count, *entry.out.shape[2:])
    found = apply(
        conv, (x, ct), strides=p["w_dilation"], padding=tuple(padding),
        x_dilation=p["x_dilation"], w_dilation=p["strides"], groups=groups,
    )  # fmt: skip
    return permuted(found, 1, 0, *range(2, len(sizes) + 2))


def geometry(
    spatial: int, strides: int = 1, padding: Any = (0, 0), x_dilation: int = 1,
    w_dilation: int = 1, groups: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Parameters of `conv` that are alike on every spatial axis."""
    return {
        "strides": (strides,) * spatial, "padding": (tuple(padding),) * spatial,
        "x_dilation": (x_dilation,) * spatial, "w_dilation": (w_dilation,) * spatial,
        "groups": groups,
    }  # fmt: skip


conv = Primitive(
    "conv", WINDOW, params=("strides", "padding", "x_dilation", "w_dilation", "groups"),
    accepts=NUMERIC, rule=_conv_rule, meaning=_conv, linear=(0, 1),
    transpose=_conv_back, saves="x w", retained=True, accuracy=Accuracy(1, 1, sums=True), cost=2,
    samples=[
        Sample(((2, 3, 5), (4, 3, 2)), geometry(1)),
        Sample(((2, 4, 8), (6, 2, 3)), geometry(1, strides=3, padding=(2, 1), groups=2)),
        Sample(((1, 2, 5, 4), (3, 2, 3, 2)), geometry(2, padding=(1, 1))),
        Sample(((2, 2, 7, 6), (2, 1, 2, 3)),
               geometry(2, strides=2, padding=(1, 2), w_dilation=2, groups=2)),
        Sample(((1, 2, 4, 3), (2, 2, 2, 2)), geometry(2, strides=3, padding=(-1, 3), x_dilation=2)),
        Sample(((1, 2, 5), (2, 2, 3)), geometry(1, strides=2, padding=(-2, 6), w_dilation=2)),
        Sample(((2, 1, 3), (1, 1, 2)), geometry(1, padding=(-5, 8), x_dilation=3)),
        Sample(((1, 2, 3, 4, 3), (2, 2, 2, 2, 2)), geometry(3, padding=(1, 0))),
        Sample(((0, 2, 5), (3, 2, 2)), geometry(1)),
        Sample(((2, 0, 5), (3, 0, 2)), geometry(1)),
        Sample(((2, 1, 0), (3, 1, 2)), geometry(1, padding=(1, 2))),
        Sample((((1, 2, 5), "int32"), ((1, 2, 2), "int32")), geometry(1)),
        Sample((((1, 2, 5), "bfloat16"), ((1, 2, 2), "bfloat16")), geometry(1)),
    ],
    errors=[
        (Sample(((2, 3), (4, 3)), geometry(0)), ShapeError),
        (Sample(((2, 3, 5), (4, 3, 2, 1)), geometry(1)), ShapeError),
        (Sample(((2, 3, 5), (4, 2, 2)), geometry(1)), ShapeError),
        (Sample(((2, 4, 5), (3, 2, 2)), geometry(1, groups=2)), ShapeError),
        (Sample(((2, 3, 5), (4, 3, 2)), geometry(1, groups=0)), ShapeError),
        (Sample(((2, 3, 5), (4, 3, 6)), geometry(1)), ShapeError),
        (Sample(((2, 3, 5), (4, 3, 0)), geometry(1)), ShapeError),
        (Sample(((2, 3, 5), (4, 3, 2)), geometry(1, padding=(-4, -1))), ShapeError),
        (Sample(((2, 3, 5), (4, 3, 2)), geometry(2)), ArgumentError),
        (Sample(((2, 3, 5), (4, 3, 2)), geometry(1, strides=0)), ArgumentError),
        (Sample(((2, 3, 5), (4, 3, 2)), geometry(1, x_dilation=0)), ArgumentError),
        (Sample(((2, 3, 5), (4, 3, 2)), geometry(1, padding=(1, 1, 1))), ArgumentError),
        (Sample(((2, 3, 5), ((4, 3, 2), "float64")), geometry(1)), DtypeError),
        (Sample((((2, 3, 5), "bool"), ((4, 3, 2), "bool")), geometry(1)), DtypeError),
    ],
    doc="A cross-correlation, as PyTorch's: y[n, o, p] sums x[n, c, strides p + w_dilation k] "
    "w[o, c, k] over the channels c of o's group and over k, where x has x_dilation - 1 zeros "
    "between neighbours and `padding` ((low, high), ...) around; negative padding crops.",
)  # fmt: skip
