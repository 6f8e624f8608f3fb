"""Indexing: data says which elements are read or written. Addressed letters are `gathered`.

Two forms. By index tensors (`gather`, `scatter`): the first `batch` axes of the tensor and of
every index tensor are shared, the index tensors address `axes`, and what is read is laid out as
shared axes + other index axes + other axes of the tensor. By starts (`dynamic_slice`,
`dynamic_update`): a strided window of the tensor at positions that are data.
"""

from __future__ import annotations

from typing import Any

from proa.dtypes import int64
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.spec import Spec
from proa.ops.factors import FactorMap, passing
from proa.ops.families.movement import all_batched, repeated, shifted
from proa.ops.primitive import INT, REGISTRY, Family, Primitive, apply


def index_factors(
    op: str, x: Spec, indices: tuple[Spec, ...], axes: tuple[int, ...], batch: int
) -> FactorMap:
    """The map of `gather`: x's axes are 0, 1, ...; the index tensors' own are ("index", i)."""
    _check_axes(op, x, len(indices), axes, batch)
    for s in indices:
        if s.dtype not in INT:
            raise DtypeError(message(op, f"an index of {s.dtype.name}", "an integer dtype"))
        if s.shape != indices[0].shape:
            given = f"indices of shapes {indices[0].shape} and {s.shape}"
            raise ShapeError(message(op, given, "index tensors of one shape"))
    shared, shape = tuple(range(batch)), indices[0].shape
    if len(shape) < batch or shape[:batch] != x.shape[:batch]:
        given = f"indices of shape {shape} for shape {x.shape}"
        raise ShapeError(message(op, given, f"{batch} shared first axes of equal sizes"))
    own = tuple([("index", i) for i in range(batch, len(shape))])
    rest = tuple([i for i in range(batch, x.ndim) if i not in axes])
    same = passing(x.shape)
    roles = same.roles | dict.fromkeys(axes, "gathered") | dict.fromkeys(own, "pass")
    sizes = same.sizes | dict(zip(own, shape[batch:], strict=True))
    operands = (*same.operands, *[shared + own] * len(indices))
    return FactorMap(operands, (shared + own + rest,), roles, sizes)


def _check_axes(op: str, x: Spec, count: int, axes: tuple[int, ...], batch: int) -> None:
    fits = all(batch <= a < x.ndim for a in axes) and sorted(set(axes)) == list(axes)
    if not fits or not 0 <= batch <= x.ndim or not axes:
        given = f"axes {axes} and {batch} shared axes of shape {x.shape}"
        raise ArgumentError(message(op, given, "ascending axes behind the shared ones"))
    if count != len(axes):
        given = f"{count} index tensors for axes {axes}"
        raise ArgumentError(message(op, given, "one for each axis"))


def gather_factors(op: str, ins: tuple[Spec, ...], axes: tuple[int, ...], batch: int) -> FactorMap:
    return index_factors(op, ins[0], ins[1:], axes, batch)


def scatter_factors(
    op: str, ins: tuple[Spec, ...], axes: tuple[int, ...], batch: int, mode: str
) -> FactorMap:
    read = index_factors(op, ins[0], ins[2:], axes, batch)
    (shape,) = read.result_shapes()
    if ins[1].shape != shape:
        given = f"updates of shape {ins[1].shape} for shape {ins[0].shape}"
        raise ShapeError(message(op, given, f"updates of shape {shape}"))
    x, *indices = read.operands
    return read._replace(operands=(x, *read.results, *indices), results=(x,))


def gather_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """A batched x shares one more axis with its indices. Where only indices are batched, the
    batch is one more axis of theirs, right behind the shared ones."""
    axes, batch = params["axes"], params["batch"]
    if flags[0]:
        operands = all_batched(operands, flags)
        return apply(primitive, operands, axes=shifted(axes), batch=batch + 1)
    indices = all_batched(operands[1:], flags[1:])
    indices = [moved_axis(i, 0, batch) for i in indices]
    out = apply(primitive, (operands[0], *indices), axes=axes, batch=batch)
    return moved_axis(out, batch, 0)


def scatter_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """The batch is one more shared axis."""
    lifted = params | {"axes": shifted(params["axes"]), "batch": params["batch"] + 1}
    return apply(primitive, all_batched(operands, flags), **lifted)


def moved_axis(x: Any, source: int, target: int) -> Any:
    """x with one axis taken out and put in at another place."""
    if source == target:
        return x
    axes = [i for i in range(x.value.spec.ndim) if i != source]
    axes.insert(target, source)
    return apply(REGISTRY["permute"], (x,), axes=tuple(axes))


def window_span(size: int, stride: int) -> int:
    """How many elements a strided window reaches over."""
    return max(0, (size - 1) * stride + 1)


def _window_factors(
    op: str, x: Spec, starts: tuple[Spec, ...], axes: tuple[int, ...],
    sizes: tuple[int, ...], strides: tuple[int, ...],
) -> FactorMap:  # fmt: skip
    """The map of `dynamic_slice`: the window's own axes are ("window", axis)."""
    _check_axes(op, x, len(starts), axes, 0)
    for s in starts:
        if s.dtype is not int64:
            raise DtypeError(message(op, f"a start of {s.dtype.name}", "int64"))
        if s.shape:
            raise ShapeError(message(op, f"a start of shape {s.shape}", "starts of 0 axes"))
    if not len(axes) == len(sizes) == len(strides) or any(k < 1 for k in strides):
        given = f"sizes {sizes}, strides {strides} for axes {axes}"
        raise ArgumentError(message(op, given, "one of each for each axis, strides >= 1"))
    for a, m, k in zip(axes, sizes, strides, strict=True):
        if m < 0 or window_span(m, k) > x.shape[a]:
            given = f"{m} elements of stride {k} along axis {a} of shape {x.shape}"
            raise ShapeError(message(op, given, "a window inside the axis"))
    letters = tuple([("window", i) if i in axes else i for i in range(x.ndim)])
    same = passing(x.shape)
    roles = same.roles | dict.fromkeys(axes, "window") | dict.fromkeys(letters, "pass")
    found = same.sizes | {("window", a): m for a, m in zip(axes, sizes, strict=True)}
    return FactorMap((*same.operands, *[()] * len(starts)), (letters,), roles, found)


def slice_factors(op: str, ins: tuple[Spec, ...], **params: Any) -> FactorMap:
    return _window_factors(op, ins[0], ins[1:], **params)


def update_factors(op: str, ins: tuple[Spec, ...], **params: Any) -> FactorMap:
    x, update = ins[:2]
    axes = params["axes"]
    rest = [i for i in range(x.ndim) if i not in axes]
    if update.ndim != x.ndim or any(update.shape[i] != x.shape[i] for i in rest):
        given = f"an update of shape {update.shape} for shape {x.shape} along axes {axes}"
        raise ShapeError(message(op, given, "equal sizes on the other axes"))
    sizes = tuple([update.shape[a] if 0 <= a < x.ndim else 0 for a in axes])
    read = _window_factors(op, x, ins[2:], sizes=sizes, **params)
    letters, *starts = read.operands
    roles = read.roles | dict.fromkeys(axes, "pass") | {("window", a): "window" for a in axes}
    return FactorMap((letters, *read.results, *starts), (letters,), roles, read.sizes)


def batched_rows(operands: Any, flags: Any) -> tuple[list[Any], int]:
    """x and updates with the batch axis, and its length, where any operand is batched."""
    count = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    rows = zip(operands, flags, strict=True)
    return [o if f or not o.value.spec.ndim else repeated(o, count) for o, f in rows], count


GATHER = Family("indexing", gather_factors, gather_batch)
SCATTER = Family("indexing", scatter_factors, scatter_batch)
