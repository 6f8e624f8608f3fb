"""Gather and scatter by index tensors; slices whose start is data."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.dtypes import int64
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.spec import Spec, spec
from proa.ops.arithmetic import and_, eq, le, lt, maximum, minimum, select
from proa.ops.creation import iota
from proa.ops.families.indexing import (
    GATHER,
    SCATTER,
    batched_rows,
    moved_axis,
    slice_factors,
    update_factors,
    window_span,
)  # fmt: skip
from proa.ops.families.movement import shifted
from proa.ops.functions import cast
from proa.ops.movement import broadcast, permute, reshape, zeros
from proa.ops.primitive import (
    ANY,
    NUMERIC,
    REAL,
    Accuracy,
    Domain,
    Family,
    Primitive,
    Sample,
    apply,
    cast_to,
)  # fmt: skip

INDICES: Final = Domain(0.0, 3.0)


def _of_first(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    """Spec rule: the dtype of x, whatever the dtype of what addresses it."""
    (shape,) = primitive.family.factors(primitive.name, ins, **params).result_shapes()
    return spec(shape, ins[0].dtype, ins[0].weak)


def _of_both(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    """Spec rule: x and updates have one dtype."""
    if ins[0].dtype is not ins[1].dtype:
        given = f"updates of {ins[1].dtype.name} for {ins[0].dtype.name}"
        raise DtypeError(message(primitive.name, given, "one dtype", "updates.astype(x.dtype)"))
    (shape,) = primitive.family.factors(primitive.name, ins, **params).result_shapes()
    return spec(shape, ins[0].dtype, ins[0].weak and ins[1].weak)


def _rows(x: Any, indices: Any, axes: tuple[int, ...], batch: int) -> tuple[Any, Any, Any]:
    """x as a table with one row for each place that can be addressed; for each element of the
    index tensors the row it means; and whether it lies inside."""
    rest = [i for i in range(batch, x.ndim) if i not in axes]
    shape = indices[0].shape
    inside, row = np.ones(shape, bool), np.zeros(shape, np.int64)
    for axis in range(batch):
        column = [1] * len(shape)
        column[axis] = shape[axis]
        row = row * shape[axis] + np.arange(shape[axis]).reshape(column)
    for index, axis in zip(indices, axes, strict=True):
        found = (index >= 0) & (index < x.shape[axis])
        row = row * x.shape[axis] + np.where(found, index, np.zeros_like(index)).astype(np.int64)
        inside &= found
    order = [*range(batch), *axes, *rest]
    height = prod(x.shape[i] for i in order[: batch + len(axes)])
    table = np.transpose(x, order).reshape(height, prod(x.shape[i] for i in rest))
    return table, row.reshape(-1), inside.reshape(-1)


def _gather(x: Any, *indices: Any, axes: tuple[int, ...], batch: int) -> Any:
    table, row, inside = _rows(x, indices, axes, batch)
    fill = np.nan if dtypes.dtype(x.dtype).is_float else 0
    out = np.full((row.size, table.shape[1]), fill, x.dtype)
    out[inside] = table[row[inside]]
    rest = [n for i, n in enumerate(x.shape) if i >= batch and i not in axes]
    return out.reshape((*indices[0].shape, *rest))


def _gather_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    x = zeros(entry.ins[0].shape, entry.ins[0])
    return apply(scatter, (x, cts[0], *operands[1:]), **entry.named_params, mode="add")


gather = Primitive(
    "gather", GATHER, params=("axes", "batch"), core=True, rule=_of_first, meaning=_gather,
    linear=(0,), differentiable=(0,), transpose=_gather_back, saves="indices", retained=True,
    domain=INDICES,
    samples=[
        Sample(((5, 3), ((4,), "int64")), {"axes": (0,), "batch": 0}),
        Sample(((4, 2, 5), ((3, 2), "int32"), ((3, 2), "int64")), {"axes": (0, 2), "batch": 0}),
        Sample(((2, 4), ((2, 3), "int64")), {"axes": (1,), "batch": 1}),
        Sample(((2, 3, 4, 2), ((2, 1, 3), "uint8")), {"axes": (2,), "batch": 1}),
        Sample(((4,), ((), "int64")), {"axes": (0,), "batch": 0}),
        Sample(((0, 2), ((3,), "int64")), {"axes": (0,), "batch": 0}),
        Sample((((5,), "int32"), ((0, 2), "int64")), {"axes": (0,), "batch": 0}),
        Sample((((2, 3, 4), "bfloat16"), ((2, 3), "int64")), {"axes": (2,), "batch": 2}),
    ],
    errors=[
        (Sample(((5,), (4,)), {"axes": (0,), "batch": 0}), DtypeError),
        (Sample(((5,), ((4,), "bool")), {"axes": (0,), "batch": 0}), DtypeError),
        (Sample(((5,),), {"axes": (), "batch": 0}), ArgumentError),
        (Sample(((5,), ((4,), "int64")), {"axes": (1,), "batch": 0}), ArgumentError),
        (Sample(((5, 2), ((5,), "int64")), {"axes": (0,), "batch": 1}), ArgumentError),
        (Sample(((5, 2), ((4,), "int64")), {"axes": (0, 1), "batch": 0}), ArgumentError),
        (Sample(((5, 2), ((4,), "int64"), ((4,), "int64")), {"axes": (1, 0), "batch": 0}),
         ArgumentError),
        (Sample(((5, 2), ((4,), "int64"), ((3,), "int64")), {"axes": (0, 1), "batch": 0}),
         ShapeError),
        (Sample(((5, 2), ((4,), "int64")), {"axes": (1,), "batch": 1}), ShapeError),
        (Sample(((5, 2), ((), "int64")), {"axes": (1,), "batch": 1}), ShapeError),
    ],
    doc="The elements of x that index tensors address along `axes`; the first `batch` axes of x "
    "and of the index tensors are shared. Where an index is outside 0 <= i < n: NaN in a float "
    "dtype, 0 in others.",
)  # fmt: skip


def take_along(x: Any, indices: Any, axis: int) -> Any:
    """Element j along `axis` is x's element indices[j] there; all other axes are shared."""
    last = x.value.spec.ndim - 1
    operands = (moved_axis(x, axis, last), moved_axis(indices, axis, last))
    return moved_axis(apply(gather, operands, axes=(last,), batch=last), last, axis)


_MODES: Final = {"set": ANY, "add": NUMERIC, "max": REAL, "min": REAL}
_JOIN: Final = {"add": np.add, "max": np.maximum, "min": np.minimum}


def _scatter_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    mode, dtype = params["mode"], ins[0].dtype
    if mode not in _MODES:
        raise ArgumentError(message("scatter", f"mode {mode!r}", "one of " + ", ".join(_MODES)))
    if dtype not in _MODES[mode]:
        names = ", ".join(d.name for d in dtypes.ALL if d in _MODES[mode])
        raise DtypeError(message("scatter", f"{dtype.name} in mode {mode!r}", f"one of {names}"))
    return _of_both(primitive, ins, params)


def _scatter(
    x: Any, updates: Any, *indices: Any, axes: tuple[int, ...], batch: int, mode: str
) -> Any:
    """Narrow floats are joined in float32 and rounded once."""
    narrow = x.dtype.itemsize == 2 and x.dtype.kind not in "iu" and mode != "set"
    table, row, inside = _rows(x, indices, axes, batch)
    table = np.array(table, dtype=np.float32 if narrow else x.dtype, order="C", copy=True)
    new = np.reshape(updates, (row.size, table.shape[1]))[inside].astype(table.dtype)
    if mode == "set":
        table[row[inside]] = new
    else:
        _JOIN[mode].at(table, row[inside], new)
    rest = [i for i in range(batch, x.ndim) if i not in axes]
    order = [*range(batch), *axes, *rest]
    table = table.astype(x.dtype, copy=False).reshape([x.shape[i] for i in order])
    return np.transpose(table, np.argsort(order))


def _widened(mask: Any, shape: tuple[int, ...]) -> Any:
    """A mask over index tensors, repeated along the axes that follow them."""
    axes = tuple(range(mask.value.spec.ndim))
    return apply(broadcast, (mask,), shape=shape, axes=axes)


def _inside(x: Spec, indices: Any, axes: tuple[int, ...]) -> Any:
    """Which elements of the index tensors address an element of x."""
    found: Any = None
    for index, axis in zip(indices, axes, strict=True):
        place = cast_to(index, int64)
        here = and_(le(0, place), lt(place, x.shape[axis]))
        found = here if found is None else and_(found, here)
    return found


def _last(x: Spec, indices: Any, axes: tuple[int, ...], batch: int) -> Any:
    """Which elements of the index tensors are inside and the last, row by row, at their place."""
    shape = indices[0].value.spec.shape
    count = apply(iota, (), shape=(prod(shape),), axis=0, dtype=int64)
    number = apply(reshape, (count,), shape=shape) + 1
    places = x.shape[:batch] + tuple([x.shape[a] for a in axes])
    table = zeros(places, number.value.spec)
    where = {"axes": tuple(range(batch, len(places))), "batch": batch}
    table = apply(scatter, (table, number, *indices), **where, mode="max")
    return eq(apply(gather, (table, *indices), **where), number)


def _scatter_x(x: Any, updates: Any, *rest: Any, mode: str, **where: Any) -> Any:
    *indices, y, dx = rest
    if mode == "add":
        return dx
    if mode == "set":
        nothing = zeros(updates.value.spec.shape, dx.value.spec)
        return apply(scatter, (dx, nothing, *indices), **where, mode="set")
    won, _, count = _winners(x, updates, indices, y, dx, **where)
    return select(won, dx / count, 0.0)


def _scatter_updates(x: Any, updates: Any, *rest: Any, mode: str, **where: Any) -> Any:
    *indices, y, du = rest
    nothing = zeros(x.value.spec.shape, du.value.spec)
    if mode in ("add", "set"):
        return apply(scatter, (nothing, du, *indices), **where, mode=mode)
    _, won, count = _winners(x, updates, indices, y, du, **where)
    kept = select(won, du, 0.0)
    return apply(scatter, (nothing, kept, *indices), **where, mode="add") / count


def _winners(
    x: Any, updates: Any, indices: Any, y: Any, tangent: Any, axes: tuple[int, ...], batch: int
) -> tuple[Any, Any, Any]:
    """Which elements of x and of updates reach the extreme y, and how many do at each place."""
    reached = apply(gather, (y, *indices), axes=axes, batch=batch)
    inside = _widened(_inside(x.value.spec, indices, axes), updates.value.spec.shape)
    of_x, of_updates = eq(x, y), and_(eq(updates, reached), inside)
    dtype = tangent.value.spec.dtype
    ones = [apply(cast, (m,), dtype=dtype, weak=False) for m in (of_x, of_updates)]
    return of_x, of_updates, apply(scatter, (*ones, *indices), axes=axes, batch=batch, mode="add")


def _scatter_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    """Of modes "add" and "set"; the others' tangents are made of those."""
    (ct,), indices = cts, operands[2:]
    axes, batch, mode = entry.params
    if index == 0:
        if mode == "add":
            return ct
        nothing = zeros(entry.ins[1].shape, entry.ins[1])
        return apply(scatter, (ct, nothing, *indices), axes=axes, batch=batch, mode="set")
    x = entry.ins[0]
    counts = _inside(x, indices, axes) if mode == "add" else _last(x, indices, axes, batch)
    read = apply(gather, (ct, *indices), axes=axes, batch=batch)
    return select(_widened(counts, entry.ins[1].shape), read, 0.0)


def _scatter_samples() -> list[Sample]:
    index = ((4,), "int64")
    cases = [Sample(((5, 3), (4, 3), index), {"axes": (0,), "batch": 0, "mode": m}) for m in _MODES]
    three = ((3, 2), "int64")
    return cases + [
        Sample(((4, 2, 5), (3, 2, 2), three, three), {"axes": (0, 2), "batch": 0, "mode": "add"}),
        Sample(((2, 4), (2, 3), ((2, 3), "int64")), {"axes": (1,), "batch": 1, "mode": "set"}),
        Sample(((4,), (), ((), "int64")), {"axes": (0,), "batch": 0, "mode": "add"}),
        Sample(((0, 2), (3, 2), ((3,), "int64")), {"axes": (0,), "batch": 0, "mode": "set"}),
        Sample((((5,), "int32"), ((4,), "int32"), index),
               {"axes": (0,), "batch": 0, "mode": "max"}),
        Sample((((5,), "bfloat16"), ((4,), "bfloat16"), index),
               {"axes": (0,), "batch": 0, "mode": "add"}),
        Sample((((2, 3, 4), "float16"), ((2, 2, 3), "float16"), ((2, 2), "uint8")),
               {"axes": (2,), "batch": 1, "mode": "min"}),
    ]  # fmt: skip


scatter = Primitive(
    "scatter", SCATTER, params=("axes", "batch", "mode"), core=True, rule=_scatter_rule,
    meaning=_scatter, linear=(0, 1), differentiable=(0, 1), transpose=_scatter_back,
    jvp=(_scatter_x, _scatter_updates), saves="x updates indices y", retained=True, domain=INDICES,
    accuracy=Accuracy(1, 1, sums=True), samples=_scatter_samples(),
    errors=[
        (Sample(((5,), (4,), ((4,), "int64")), {"axes": (0,), "batch": 0, "mode": "mul"}),
         ArgumentError),
        (Sample((((5,), "bool"), ((4,), "bool"), ((4,), "int64")),
                {"axes": (0,), "batch": 0, "mode": "add"}), DtypeError),
        (Sample(((5,), ((4,), "float64"), ((4,), "int64")),
                {"axes": (0,), "batch": 0, "mode": "add"}), DtypeError),
        (Sample(((5,), (4,), (4,)), {"axes": (0,), "batch": 0, "mode": "add"}), DtypeError),
        (Sample(((5,), (3,), ((4,), "int64")), {"axes": (0,), "batch": 0, "mode": "add"}),
         ShapeError),
        (Sample(((5,), (4,)), {"axes": (0,), "batch": 0, "mode": "set"}), ArgumentError),
    ],
    doc="x with `updates`, shaped as `gather` would give them, written where the index tensors "
    "say: 'set' (of several the last in row-major order stays), 'add' (ascending), 'max' or "
    "'min'. Updates whose index is outside are dropped. Ties of 'max' and 'min' share the "
    "gradient equally.",
)  # fmt: skip


def _window(x: Any, starts: Any, axes: Any, sizes: Any, strides: Any) -> tuple[slice, ...]:
    """The part of x that a window takes; each start is clamped so that the window fits."""
    where = [slice(None)] * x.ndim
    for axis, start, size, stride in zip(axes, starts, sizes, strides, strict=True):
        span = window_span(size, stride)
        first = min(max(int(start), 0), x.shape[axis] - span)
        where[axis] = slice(first, first + span, stride)
    return tuple(where)


def _dynamic_update(x: Any, update: Any, *starts: Any, axes: Any, strides: Any) -> Any:
    out = np.array(x, order="C", copy=True)
    out[_window(x, starts, axes, [update.shape[a] for a in axes], strides)] = update
    return out


def _positions(
    x: tuple[int, ...], starts: Any, axes: Any, sizes: Any, strides: Any, count: int
) -> list[Any]:
    """Index tensors of shape (count, *sizes) for windows with batched starts."""
    shape = (count, *sizes)
    found = []
    for i, (axis, start) in enumerate(zip(axes, starts, strict=True)):
        room = x[axis] - window_span(sizes[i], strides[i])
        first = minimum(maximum(start, 0), room)
        letters = tuple(range(first.value.spec.ndim))
        first = apply(broadcast, (first,), shape=shape, axes=letters)
        steps = apply(iota, (), shape=shape, axis=i + 1, dtype=int64)
        found.append(first + steps * strides[i])
    return found


def _front(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Behind a batch axis: the addressed axes first, then the others."""
    rest = tuple([i for i in range(ndim) if i not in axes])
    return (0, *shifted(axes), *shifted(rest))


def _slice_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """A batched x has one more axis. Batched starts make it a gather."""
    axes = params["axes"]
    if not any(flags[1:]):
        return apply(primitive, operands, **params | {"axes": shifted(axes)})
    x, *starts = operands
    starts, count = batched_rows(starts, flags[1:])
    shape = x.value.spec.shape[1:] if flags[0] else x.value.spec.shape
    indices = _positions(shape, starts, axes, params["sizes"], params["strides"], count)
    where = {"axes": shifted(axes), "batch": 1} if flags[0] else {"axes": axes, "batch": 0}
    back = np.argsort(_front(len(shape), axes))
    return apply(permute, (apply(gather, (x, *indices), **where),), axes=tuple(map(int, back)))


def _update_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """Batched x and update have one more axis. Batched starts make it a scatter."""
    axes = params["axes"]
    (x, update, *starts), count = batched_rows(operands, flags)
    if not any(flags[2:]):
        return apply(primitive, (x, update, *starts), **params | {"axes": shifted(axes)})
    shape = x.value.spec.shape[1:]
    sizes = [update.value.spec.shape[1:][a] for a in axes]
    indices = _positions(shape, starts, axes, sizes, params["strides"], count)
    update = apply(permute, (update,), axes=_front(len(shape), axes))
    return apply(scatter, (x, update, *indices), axes=shifted(axes), batch=1, mode="set")


def _slice_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    axes, _, strides = entry.params
    x = zeros(entry.ins[0].shape, entry.ins[0])
    return apply(dynamic_update, (x, cts[0], *operands[1:]), axes=axes, strides=strides)


def _update_x(x: Any, update: Any, *rest: Any, axes: Any, strides: Any) -> Any:
    *starts, _, dx = rest
    nothing = zeros(update.value.spec.shape, dx.value.spec)
    return apply(dynamic_update, (dx, nothing, *starts), axes=axes, strides=strides)


def _update_update(x: Any, update: Any, *rest: Any, axes: Any, strides: Any) -> Any:
    *starts, _, du = rest
    nothing = zeros(x.value.spec.shape, du.value.spec)
    return apply(dynamic_update, (nothing, du, *starts), axes=axes, strides=strides)


def _update_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    axes, strides = entry.params
    starts, update = operands[2:], entry.ins[1]
    if index == 0:
        nothing = zeros(update.shape, update)
        return apply(dynamic_update, (cts[0], nothing, *starts), axes=axes, strides=strides)
    sizes = tuple([update.shape[a] for a in axes])
    return apply(dynamic_slice, (cts[0], *starts), axes=axes, sizes=sizes, strides=strides)


_START: Final = ((), "int64")

dynamic_slice = Primitive(
    "dynamic_slice", Family("indexing", slice_factors, _slice_batch),
    params=("axes", "sizes", "strides"), rule=_of_first, linear=(0,), differentiable=(0,),
    meaning=lambda x, *starts, axes, sizes, strides: x[_window(x, starts, axes, sizes, strides)],
    transpose=_slice_back, saves="starts", domain=INDICES,
    samples=[
        Sample(((5,), _START), {"axes": (0,), "sizes": (2,), "strides": (1,)}),
        Sample(((4, 7, 3), _START), {"axes": (1,), "sizes": (3,), "strides": (2,)}),
        Sample(((4, 3, 6), _START, _START), {"axes": (0, 2), "sizes": (1, 6), "strides": (3, 1)}),
        Sample(((4, 0), _START), {"axes": (1,), "sizes": (0,), "strides": (1,)}),
        Sample((((4, 2), "bool"), _START), {"axes": (0,), "sizes": (4,), "strides": (1,)}),
    ],
    errors=[
        (Sample(((5,), ((), "int32")), {"axes": (0,), "sizes": (2,), "strides": (1,)}), DtypeError),
        (Sample(((5,), ((1,), "int64")), {"axes": (0,), "sizes": (2,), "strides": (1,)}),
         ShapeError),
        (Sample(((5,), _START), {"axes": (0,), "sizes": (6,), "strides": (1,)}), ShapeError),
        (Sample(((5,), _START), {"axes": (0,), "sizes": (3,), "strides": (3,)}), ShapeError),
        (Sample(((5,), _START), {"axes": (1,), "sizes": (3,), "strides": (1,)}), ArgumentError),
        (Sample(((5,), _START), {"axes": (0,), "sizes": (3,), "strides": (0,)}), ArgumentError),
        (Sample(((5,), _START), {"axes": (0,), "sizes": (3, 1), "strides": (1,)}), ArgumentError),
        (Sample(((5,),), {"axes": (0,), "sizes": (3,), "strides": (1,)}), ArgumentError),
    ],
    doc="`sizes` elements, `strides` apart, along `axes` from starts that are data. A start is "
    "clamped so that the window fits.",
)  # fmt: skip

dynamic_update = Primitive(
    "dynamic_update", Family("indexing", update_factors, _update_batch),
    params=("axes", "strides"), rule=_of_both, meaning=_dynamic_update, linear=(0, 1),
    differentiable=(0, 1), transpose=_update_back, jvp=(_update_x, _update_update),
    saves="starts", domain=INDICES,
    samples=[
        Sample(((5,), (2,), _START), {"axes": (0,), "strides": (1,)}),
        Sample(((4, 7, 3), (4, 3, 3), _START), {"axes": (1,), "strides": (2,)}),
        Sample(((4, 3, 6), (1, 3, 6), _START, _START), {"axes": (0, 2), "strides": (3, 1)}),
        Sample(((4, 2), (4, 0), _START), {"axes": (1,), "strides": (1,)}),
        Sample((((4,), "int8"), ((2,), "int8"), _START), {"axes": (0,), "strides": (1,)}),
    ],
    errors=[
        (Sample(((5,), (2,), ((), "int32")), {"axes": (0,), "strides": (1,)}), DtypeError),
        (Sample(((5,), ((2,), "float64"), _START), {"axes": (0,), "strides": (1,)}), DtypeError),
        (Sample(((5, 2), (2, 3), _START), {"axes": (0,), "strides": (1,)}), ShapeError),
        (Sample(((5, 2), (2,), _START), {"axes": (0,), "strides": (1,)}), ShapeError),
        (Sample(((5,), (6,), _START), {"axes": (0,), "strides": (1,)}), ShapeError),
        (Sample(((5,), (5,), _START), {"axes": (1,), "strides": (1,)}), ArgumentError),
        (Sample(((5,), (2,)), {"axes": (0,), "strides": (1,)}), ArgumentError),
    ],
    doc="x with `update` written from starts that are data, `strides` apart along `axes`. A start "
    "is clamped so that the window fits.",
)  # fmt: skip
