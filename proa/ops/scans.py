"""Cumulative sum and product, and sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from proa.dtypes import int64
from proa.errors import ArgumentError, DtypeError
from proa.graph.build import current_sink
from proa.graph.spec import Spec, spec
from proa.ops.families.scan import factors, scan
from proa.ops.indexing import take_along
from proa.ops.movement import flip, pad, slice_
from proa.ops.primitive import NUMERIC, REAL, Accuracy, Primitive, Sample, apply

SAMPLES: Final = [
    Sample(((5,),), {"axis": 0, "reverse": False}),
    Sample(((2, 3, 4),), {"axis": 1, "reverse": True}),
    Sample(((2, 0),), {"axis": 1, "reverse": False}),
    Sample((((4, 3), "int8"),), {"axis": 0, "reverse": True}),
]
ERRORS: Final = [
    (Sample(((5,),), {"axis": 1, "reverse": False}), ArgumentError),
    (Sample(((),), {"axis": 0, "reverse": False}), ArgumentError),
    (Sample((((5,), "bool"),), {"axis": 0, "reverse": False}), DtypeError),
]


def _run(along: Callable[..., Any], x: Any, axis: int, reverse: bool) -> Any:
    """Narrow floats are run through in float32; each result is rounded once."""
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
    x = np.flip(x, axis) if reverse else x
    total = along(np.ascontiguousarray(x), axis, dtype=wide).astype(x.dtype)
    return np.flip(total, axis) if reverse else total


def _cumsum(x: Any, axis: int, reverse: bool) -> Any:
    return _run(np.cumsum, x, axis, reverse)


def _cumsum_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    axis, reverse = entry.params
    return apply(cumsum, cts, axis=axis, reverse=not reverse)


cumsum = scan(
    "cumsum", params=("axis", "reverse"), accepts=NUMERIC, meaning=_cumsum, linear=(0,),
    transpose=_cumsum_back, accuracy=Accuracy(1, 1, sums=True),
    samples=SAMPLES, errors=ERRORS,
    doc="Sums of the first 1, 2, 3, ... elements along an axis, added ascending; `reverse`: of "
    "the last, added descending. Integers wrap round.",
)  # fmt: skip


def _cumprod(x: Any, axis: int, reverse: bool) -> Any:
    return _run(np.cumprod, x, axis, reverse)


def _cumprod_tangent(x: Any, y: Any, dx: Any, axis: int, reverse: bool) -> Any:
    """dy_k = x_k dy_(k-1) + y_(k-1) dx_k, right where elements are 0: nothing is divided."""
    if reverse:
        x, y, dx = (apply(flip, (v,), axes=(axis,)) for v in (x, y, dx))
    steps = earlier(y, axis, 1, 1.0) * dx
    found = recurrence(x, steps, axis)
    return apply(flip, (found,), axes=(axis,)) if reverse else found


def earlier(x: Any, axis: int, distance: int, fill: float) -> Any:
    """Each element is the one `distance` before it; the first are `fill`."""
    shape, ndim = x.value.spec.shape, x.value.spec.ndim
    if not shape[axis]:
        return x
    low = tuple([distance * (i == axis) for i in range(ndim)])
    none = (0,) * ndim
    stops = tuple([n - d for n, d in zip(shape, low, strict=True)])
    kept = apply(slice_, (x,), starts=none, stops=stops, strides=(1,) * ndim)
    number = current_sink().number(fill, spec((), x.value.spec.dtype))
    return pad(kept, number, low=low, high=none, interior=none)


def recurrence(a: Any, b: Any, axis: int) -> Any:
    """y_k = a_k y_(k-1) + b_k along an axis, y_(-1) = 0, in log2(n) rounds: each joins neighbours
    that are twice as long."""
    size, distance = a.value.spec.shape[axis], 1
    while distance < size:
        b = b + a * earlier(b, axis, distance, 0.0)
        a = a * earlier(a, axis, distance, 1.0)
        distance *= 2
    return b


cumprod = scan(
    "cumprod", params=("axis", "reverse"), accepts=NUMERIC, meaning=_cumprod,
    jvp=_cumprod_tangent, saves="x y", accuracy=Accuracy(1, 1, sums=True),
    samples=SAMPLES, errors=ERRORS,
    doc="Products of the first 1, 2, 3, ... elements along an axis, ascending; `reverse`: of the "
    "last, descending. Integers wrap round. The derivative is right at zeros.",
)  # fmt: skip


def _sort_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Any:
    (shape,) = factors(primitive.name, ins, **params).result_shapes()
    return spec(shape, ins[0].dtype, ins[0].weak), spec(shape, int64)


def _sort(x: Any, axis: int) -> Any:
    """NumPy's order of bfloat16 leaves NaN where it stands: narrow floats are compared wide."""
    narrow = x.dtype.itemsize == 2 and x.dtype.kind not in "iu"
    keys = x.astype(np.float32) if narrow else x
    order = np.argsort(keys, axis, kind="stable").astype(np.int64)
    return np.take_along_axis(x, order, axis), order


sort = scan(
    "sort", params=("axis",), accepts=REAL, rule=_sort_rule, meaning=_sort,
    jvp=lambda x, values, indices, dx, axis: take_along(dx, indices, axis),
    saves="indices", cost=40,
    samples=[Sample(((7,),), {"axis": 0}), Sample(((3, 4, 2),), {"axis": 1}),
             Sample(((2, 0),), {"axis": 1}), Sample((((6,), "int32"),), {"axis": 0}),
             Sample((((6,), "bfloat16"),), {"axis": 0}), Sample((((6,), "bool"),), {"axis": 0})],
    errors=[(Sample(((7,),), {"axis": 1}), ArgumentError),
            (Sample(((),), {"axis": 0}), ArgumentError),
            (Sample((((5,), "float8_e5m2"),), {"axis": 0}), DtypeError)],
    doc="Two results: the elements along an axis in ascending order, and where each stood "
    "(int64). Stable; every NaN comes last, -0.0 equals 0.0.",
)  # fmt: skip
