"""Functions over axes: reductions, running sums, differences, products."""

from __future__ import annotations

from typing import Any

from proa.array.elementwise import truth
from proa.array.public import need_tensor, over_axes, public
from proa.convert import asarray
from proa.dtypes import bool_, int64
from proa.errors import ArgumentError, message
from proa.indexing import getitem
from proa.ops import composite as cp
from proa.ops import movement as mv
from proa.ops import moves, products, reduce, scans
from proa.ops import operators as op
from proa.ops.composite.common import flag
from proa.ops.primitive import Primitive, apply, as_number, value_of
from proa.shapes import as_axis, as_int
from proa.tensor import Tensor

all = over_axes(
    "all",
    reduce.all,
    "pa.all(pa.asarray([[True, False], [True, True]]), axis=1).tolist()",
    "[False, True]",
)
any = over_axes(
    "any",
    reduce.any,
    "pa.any(pa.asarray([[True, False], [False, False]]), axis=1).tolist()",
    "[True, False]",
)
argmax = over_axes("argmax", reduce.argmax, "pa.argmax(pa.asarray([1, 3, 2])).item()", "1")
argmin = over_axes("argmin", reduce.argmin, "pa.argmin(pa.asarray([2, 1, 3])).item()", "1")
logsumexp = over_axes("logsumexp", cp.logsumexp)
log_softmax = over_axes("log_softmax", cp.log_softmax)
max = over_axes(
    "max", reduce.max, "pa.max(pa.asarray([[1, 4], [3, 2]]), axis=0).tolist()", "[3, 4]"
)
mean = over_axes("mean", cp.mean)
min = over_axes(
    "min", reduce.min, "pa.min(pa.asarray([[1, 4], [3, 2]]), axis=0).tolist()", "[1, 2]"
)
prod = over_axes("prod", reduce.prod)
softmax = over_axes("softmax", cp.softmax)
std = over_axes("std", cp.std)
sum = over_axes("sum", reduce.sum)
var = over_axes("var", cp.var)


@public
def count_nonzero(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """How many elements differ from 0 over axes (all if None), int64.

    >>> import proa as pa
    >>> pa.count_nonzero(pa.asarray([[1, 0], [2, 3]]), axis=0).tolist()
    [2, 1]
    """
    need_tensor("count_nonzero", x)
    return reduce.sum(op.astype(truth(x), int64), axis, keepdims=keepdims)  # type: ignore[no-any-return]


def _cumulative(
    name: str, primitive: Primitive, x: Any, axis: Any, dtype: Any, with_initial: Any, first: int
) -> Any:
    given = value_of(name, x).spec
    if axis is None and given.ndim != 1:
        raise ArgumentError(message(name, f"no axis for {given.ndim} axes", "an axis", "axis=0"))
    a = as_axis(name, 0 if axis is None else axis, given.ndim)
    x = reduce.totalled(name, x, dtype)
    found = apply(primitive, (x,), axis=a, reverse=False)
    if not flag(name, "include_initial", with_initial):
        return found
    grow = tuple([int(i == a) for i in range(given.ndim)])
    none = (0,) * given.ndim
    number = as_number(name, first, found.value.spec.dtype)
    return mv.pad(found, number, low=grow, high=none, interior=none)


@public
def cumulative_sum(
    x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Sums of the first 1, 2, 3, ... elements along an axis, which may be left out where x has one
    only; with `include_initial` a 0 comes first. Small integers and bool are added as int64.

    >>> import proa as pa
    >>> pa.cumulative_sum(pa.asarray([1, 2, 3])).tolist()
    [1, 3, 6]
    """
    return _cumulative("cumulative_sum", scans.cumsum, x, axis, dtype, include_initial, 0)  # type: ignore[no-any-return]


@public
def cumulative_prod(
    x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Products of the first 1, 2, 3, ... elements along an axis, which may be left out where x has
    one only; with `include_initial` a 1 comes first. Small integers and bool are multiplied as
    int64. The derivative is right at zeros.

    >>> import proa as pa
    >>> pa.cumulative_prod(pa.asarray([1, 2, 3])).tolist()
    [1, 2, 6]
    """
    return _cumulative("cumulative_prod", scans.cumprod, x, axis, dtype, include_initial, 1)  # type: ignore[no-any-return]


cummax = public(cp.cummax)
cummin = public(cp.cummin)
logcumsumexp = public(cp.logcumsumexp)


@public
def diff(x: Any, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """The n-th differences of neighbours along an axis.

    >>> import proa as pa
    >>> pa.diff(pa.asarray([1, 4, 9])).tolist()
    [3, 5]
    """
    a = as_axis("diff", axis, value_of("diff", x).spec.ndim)
    if as_int("diff", "n", n) < 0:
        raise ArgumentError(message("diff", f"n {n}", "n >= 0"))
    around = [t for t in (prepend, x, append) if t is not None]
    x = moves.concat(around, a) if len(around) > 1 else asarray(x)
    before = (slice(None),) * a
    for _ in range(n):
        if not x.shape[a]:  # and so it stays
            break
        later, earlier = (getitem(x, (*before, s)) for s in (slice(1, None), slice(None, -1)))
        x = op.not_equal(later, earlier) if x.dtype is bool_ else later - earlier
    return x  # type: ignore[no-any-return]


# Products.

matmul = public(products.matmul)
einsum = public(cp.einsum)
outer = public(cp.outer)
tensordot = public(cp.tensordot)
vecdot = public(cp.vecdot)
