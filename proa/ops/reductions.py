"""Sum, product, max, min, argmax."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from proa.dtypes import int64
from proa.errors import ArgumentError, ShapeError, message
from proa.graph.spec import Spec, spec
from proa.ops.arithmetic import eq, select
from proa.ops.families.reduction import reduction
from proa.ops.movement import broadcast, flip, permute, reshape
from proa.ops.primitive import NUMERIC, REAL, Accuracy, Primitive, Sample, apply


def spread(x: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """What was reduced over `axes`, repeated to the full shape again."""
    kept = tuple([i for i in range(len(shape)) if i not in axes])
    return apply(broadcast, (x,), shape=shape, axes=kept)


def _sum(x: Any, axes: tuple[int, ...]) -> Any:
    """Narrow floats are added in float32 and rounded once."""
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
    return np.asarray(np.sum(x, axis=axes, dtype=wide)).astype(x.dtype)


def _sum_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return spread(cts[0], entry.ins[0].shape, entry.params[0])


def _extreme_tangent(x: Any, y: Any, dx: Any, axes: tuple[int, ...]) -> Any:
    """The tangents of all elements that reach the extreme, in equal shares."""
    shape = x.value.spec.shape
    chosen = eq(x, spread(y, shape, axes))
    ones = select(chosen, 1.0, 0.0 * dx.value.spec.dtype.rank).astype(dx.value.spec.dtype)
    count = apply(sum_, (ones,), axes=axes)
    return apply(sum_, (ones * dx,), axes=axes) / count


def _extreme_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    (out,) = primitive.family.factors(primitive.name, ins, **params).result_shapes()
    shape = ins[0].shape
    if any(shape[a] == 0 for a in params["axes"]):
        given = f"axes {params['axes']} of shape {shape}"
        raise ShapeError(message(primitive.name, given, "at least one element to choose from"))
    return spec(out, ins[0].dtype, ins[0].weak)


sum_ = reduction(
    "sum", "sum", accepts=NUMERIC, core=True, meaning=_sum, linear=(0,), transpose=_sum_back,
    accuracy=Accuracy(1, 1, sums=True), doc="The sum over axes; 0 of nothing.",
)  # fmt: skip


def _prod(x: Any, axes: tuple[int, ...]) -> Any:
    """Narrow floats are multiplied in float32 and rounded once."""
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
    return np.asarray(np.prod(x, axis=axes, dtype=wide)).astype(x.dtype)


def _prod_tangent(x: Any, y: Any, dx: Any, axes: tuple[int, ...]) -> Any:
    """Each tangent times the product of all other elements: of those before it and those after it.
    Nothing is divided, so it is right where elements are 0."""
    shape = x.value.spec.shape
    kept = [i for i in range(len(shape)) if i not in axes]
    sizes = tuple([shape[i] for i in kept])
    order, count = (*kept, *axes), prod(shape[a] for a in axes)
    rows = apply(permute, (x,), axes=order)
    rows = apply(reshape, (rows,), shape=(*sizes, count))
    before, after = (_others(rows, turned) for turned in (False, True))
    steps = apply(permute, (dx,), axes=order)
    steps = apply(reshape, (steps,), shape=(*sizes, count))
    return apply(sum_, (before * after * steps,), axes=(len(sizes),))


def _others(x: Any, turned: bool) -> Any:
    """Products along the last axis of all elements before each (after each)."""
    from proa.ops.scans import cumprod, earlier

    axis = x.value.spec.ndim - 1
    x = apply(flip, (x,), axes=(axis,)) if turned else x
    x = earlier(apply(cumprod, (x,), axis=axis, reverse=False), axis, 1, 1.0)
    return apply(flip, (x,), axes=(axis,)) if turned else x


prod_ = reduction(
    "prod", "sum", accepts=NUMERIC, meaning=_prod, jvp=_prod_tangent, saves="x",
    accuracy=Accuracy(1, 1, sums=True),
    doc="The product over axes; 1 of nothing. The derivative is right at zeros.",
)  # fmt: skip

max_ = reduction(
    "max", "max", accepts=REAL, core=True, rule=_extreme_rule, saves="x y",
    meaning=lambda x, axes: np.asarray(np.max(x, axis=axes)), jvp=_extreme_tangent,
    doc="The largest over axes; NaN if one is. Ties share the gradient equally.",
)  # fmt: skip

min_ = reduction(
    "min", "min", accepts=REAL, core=True, rule=_extreme_rule, saves="x y",
    meaning=lambda x, axes: np.asarray(np.min(x, axis=axes)), jvp=_extreme_tangent,
    doc="The smallest over axes; NaN if one is. Ties share the gradient equally.",
)  # fmt: skip


def _argmax_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    if len(params["axes"]) != 1:
        raise ArgumentError(message("argmax", f"axes {params['axes']!r:.60}", "one axis"))
    return spec(_extreme_rule(primitive, ins, params).shape, int64)


argmax = reduction(
    "argmax", "max", accepts=REAL, core=True, rule=_argmax_rule, differentiable=False,
    meaning=lambda x, axes: np.asarray(np.argmax(x, axis=axes[0])),
    samples=[Sample(((2, 3),), {"axes": (1,)}), Sample(((4,),), {"axes": (0,)})],
    doc="The index of the first largest element along one axis; a NaN counts as the largest.",
)  # fmt: skip
