"""Reshape, permute, broadcast, slice, pad, concatenate, flip."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.errors import ArgumentError, ShapeError, message
from proa.graph.build import current_sink
from proa.graph.spec import Spec, spec
from proa.ops.factors import FactorMap, passing
from proa.ops.families.movement import movement, repeated, shifted
from proa.ops.primitive import Primitive, Sample, apply
from proa.shapes import size


def zeros(shape: tuple[int, ...], of: Spec) -> Any:
    """Zeros of this shape in the dtype of `of`, on the current sink."""
    zero = current_sink().number(0, spec((), of.dtype))
    return zero if shape == () else apply(broadcast, (zero,), shape=shape, axes=())


def _renamed(shape: tuple[int, ...], out: tuple[int, ...], role: str = "whole") -> FactorMap:
    """Letters of operand and result are unrelated: all of the operand may be needed."""
    ins = tuple([("in", i) for i in range(len(shape))])
    outs = tuple([("out", i) for i in range(len(out))])
    roles = dict.fromkeys(ins, role) | dict.fromkeys(outs, "pass")
    return FactorMap((ins,), (outs,), roles, dict(zip(ins + outs, shape + out, strict=True)))


def _reshape_factors(op: str, ins: tuple[Spec, ...], shape: tuple[int, ...]) -> FactorMap:
    if size(shape) != size(ins[0].shape):
        given = f"shape {ins[0].shape} to {shape}"
        raise ShapeError(message("reshape", given, f"{size(ins[0].shape)} elements in both"))
    return _renamed(ins[0].shape, shape)


def _reshape_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    return apply(reshape, cts, shape=entry.ins[0].shape)


reshape = movement(
    "reshape", _reshape_factors, lambda p, n: {"shape": (n, *p["shape"])},
    params=("shape",), core=True, meaning=lambda x, shape: np.reshape(x, shape),
    linear=(0,), transpose=_reshape_back,
    samples=[Sample(((2, 3),), {"shape": (3, 2)}), Sample(((1, 4),), {"shape": (2, 1, 2)}),
             Sample(((),), {"shape": (1, 1)}), Sample(((0, 3),), {"shape": (3, 0)})],
    doc="The same elements, row by row, in another shape.",
)  # fmt: skip


def _permute_factors(op: str, ins: tuple[Spec, ...], axes: tuple[int, ...]) -> FactorMap:
    if sorted(axes) != list(range(ins[0].ndim)):
        given = f"axes {axes} of a tensor of {ins[0].ndim} axes"
        raise ArgumentError(message("permute_dims", given, "each axis once"))
    same = passing(ins[0].shape)
    return same._replace(results=(tuple(axes),))


def _permute_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    (axes,) = entry.params
    inverse = tuple(int(i) for i in np.argsort(axes)) if axes else ()
    return apply(permute, cts, axes=inverse)


permute = movement(
    "permute", _permute_factors, lambda p, n: {"axes": (0, *shifted(p["axes"]))},
    params=("axes",), core=True, meaning=lambda x, axes: np.transpose(x, axes),
    linear=(0,), transpose=_permute_back,
    samples=[Sample(((2, 3),), {"axes": (1, 0)}), Sample(((2, 3, 4),), {"axes": (2, 0, 1)}),
             Sample(((),), {"axes": ()}), Sample(((0, 3),), {"axes": (1, 0)})],
    doc="Axes in another order: result axis i is operand axis axes[i].",
)  # fmt: skip


def _broadcast_factors(
    op: str, ins: tuple[Spec, ...], shape: tuple[int, ...], axes: tuple[int, ...]
) -> FactorMap:
    given = ins[0].shape
    fits = len(axes) == len(given) and all(
        0 <= a < len(shape) and n in (1, shape[a]) for a, n in zip(axes, given, strict=False)
    )
    if not fits or sorted(set(axes)) != list(axes):
        raise ShapeError(message("broadcast_to", f"shape {given} to {shape}", "sizes equal or 1"))
    letters = tuple([a if n == shape[a] else None for a, n in zip(axes, given, strict=True)])
    out = tuple(range(len(shape)))
    return FactorMap((letters,), (out,), dict.fromkeys(out, "pass"), dict(enumerate(shape)))


def _broadcast(x: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    aligned = [1] * len(shape)
    for a, n in zip(axes, x.shape, strict=True):
        aligned[a] = n
    return np.broadcast_to(x.reshape(aligned), shape)


def _broadcast_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    from proa.ops.reductions import sum_

    shape, axes = entry.params
    given = entry.ins[0].shape
    kept = {a for a, n in zip(axes, given, strict=True) if n == shape[a]}
    gone = tuple([a for a in range(len(shape)) if a not in kept])
    ct = apply(sum_, cts, axes=gone) if gone else cts[0]
    return ct if ct.value.spec.shape == given else apply(reshape, (ct,), shape=given)


broadcast = movement(
    "broadcast", _broadcast_factors,
    lambda p, n: {"shape": (n, *p["shape"]), "axes": (0, *shifted(p["axes"]))},
    params=("shape", "axes"), core=True, meaning=_broadcast, linear=(0,),
    transpose=_broadcast_back,
    samples=[Sample(((),), {"shape": (2, 3), "axes": ()}),
             Sample(((2, 1),), {"shape": (2, 3), "axes": (0, 1)}),
             Sample(((3,),), {"shape": (2, 3, 2), "axes": (1,)}),
             Sample(((1,),), {"shape": (0,), "axes": (0,)})],
    doc="The operand repeated: operand axis i becomes result axis axes[i].",
)  # fmt: skip


def _one_for_each(op: str, x: Spec, params: dict[str, Any]) -> None:
    """Each parameter has one number for each axis."""
    if any(len(numbers) != x.ndim for numbers in params.values()):
        given = f"{', '.join(f'{k} {v!r:.40}' for k, v in params.items())} of shape {x.shape}"
        raise ArgumentError(message(op, given, "one number for each axis"))


def _slice_factors(op: str, ins: tuple[Spec, ...], **p: Any) -> FactorMap:
    _one_for_each("slice", ins[0], p)
    rows = list(zip(ins[0].shape, p["starts"], p["stops"], p["strides"], strict=True))
    if any(not (0 <= a <= b <= n and s >= 1) for n, a, b, s in rows):
        given = (
            f"starts {p['starts']}, stops {p['stops']}, strides {p['strides']} of {ins[0].shape}"
        )
        raise ArgumentError(message("slice", given, "0 <= start <= stop <= size, stride >= 1"))
    return _renamed(ins[0].shape, tuple([-(-(b - a) // s) for _, a, b, s in rows]), "window")


def _slice_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    starts, _, strides = entry.params
    interior = tuple([s - 1 for s in strides])
    rows = zip(entry.ins[0].shape, entry.out.shape, starts, strides, strict=True)
    high = tuple([n - (a + max(0, (m - 1) * s + 1)) for n, m, a, s in rows])
    return pad(cts[0], low=starts, high=high, interior=interior)


slice_ = movement(
    "slice", _slice_factors,
    lambda p, n: {"starts": (0, *p["starts"]), "stops": (n, *p["stops"]),
                  "strides": (1, *p["strides"])},
    params=("starts", "stops", "strides"), core=True, linear=(0,), transpose=_slice_back,
    meaning=lambda x, starts, stops, strides: x[tuple(map(slice, starts, stops, strides))],
    samples=[Sample(((5, 4),), {"starts": (1, 0), "stops": (5, 3), "strides": (2, 1)}),
             Sample(((7,),), {"starts": (6,), "stops": (6,), "strides": (3,)}),
             Sample(((7,),), {"starts": (1,), "stops": (7,), "strides": (4,)})],
    doc="Elements starts, starts + strides, ... below stops of each axis.",
)  # fmt: skip


def _pad_factors(op: str, ins: tuple[Spec, ...], **p: Any) -> FactorMap:
    _one_for_each("pad", ins[0], p)
    rows = zip(ins[0].shape, p["low"], p["high"], p["interior"], strict=True)
    out = tuple([lo + hi + n + max(0, n - 1) * k for n, lo, hi, k in rows])
    if any(n < 0 for n in out) or any(k < 0 for k in p["interior"]):
        given = f"low {p['low']}, high {p['high']}, interior {p['interior']} of {ins[0].shape}"
        raise ShapeError(message("pad", given, "a result of non-negative sizes"))
    found = _renamed(ins[0].shape, out, "window")
    return found._replace(operands=(*found.operands, ()))


def _pad(x: Any, value: Any, low: Any, high: Any, interior: Any) -> Any:
    """Element i of an axis lands at low + i (interior + 1), if that is inside."""
    rows = list(zip(x.shape, low, high, interior, strict=True))
    shape = tuple([lo + hi + n + max(0, n - 1) * k for n, lo, hi, k in rows])
    result = np.full(shape, value, x.dtype)
    source, target = [], []
    for (n, lo, _, k), size_ in zip(rows, shape, strict=True):
        first = max(0, -(lo // (k + 1))) if lo < 0 else 0
        last = min(n, max(first, -(-(size_ - lo) // (k + 1))))
        source.append(slice(first, last))
        start = lo + first * (k + 1)
        target.append(slice(start, start + (last - first) * (k + 1), k + 1))
    kept = x[tuple(source)]
    if kept.size:
        ends = [
            slice(t.start, t.start + (m - 1) * t.step + 1, t.step)
            for t, m in zip(target, kept.shape, strict=True)
        ]
        result[tuple(ends)] = kept
    return result


def _unpadded(entry: Any, ct: Any) -> Any:
    """The part of a padded tensor that came from the operand."""
    low, high, interior = entry.params
    negative = tuple([-n for n in low])
    cropped = pad(ct, low=negative, high=tuple([-n for n in high]), interior=(0,) * len(low))
    shape = cropped.value.spec.shape
    strides = tuple([k + 1 for k in interior])
    starts = (0,) * len(low)
    return apply(slice_, (cropped,), starts=starts, stops=shape, strides=strides)


def _pad_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    if index == 0:
        return _unpadded(entry, cts[0])
    from proa.ops.reductions import sum_

    inside = apply(
        _pad_primitive, (_unpadded(entry, cts[0]), zeros((), entry.ins[1])), **entry.named_params
    )
    axes = tuple(range(entry.out.ndim))
    return apply(sum_, (cts[0],), axes=axes) - apply(sum_, (inside,), axes=axes)


def _pad_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    x, value = operands
    lifted = {k: (0, *v) for k, v in params.items()}
    if not flags[0]:
        x = repeated(x, value.value.spec.shape[0])
    if not flags[1]:
        return apply(primitive, (x, value), **lifted)
    from proa.ops.arithmetic import select

    number = zeros((), value.value.spec)
    mask = apply(primitive, (_ones_like(x), number), **lifted)
    shape = value.value.spec.shape + (1,) * len(params["low"])
    column = apply(reshape, (value,), shape=shape)
    return select(mask == 1, apply(primitive, (x, number), **lifted), column)


def _ones_like(x: Any) -> Any:
    one = current_sink().number(1, spec((), x.value.spec.dtype))
    return apply(broadcast, (one,), shape=x.value.spec.shape, axes=())


_pad_primitive = movement(
    "pad", _pad_factors, lambda p, n: p,
    params=("low", "high", "interior"), core=True, meaning=_pad, linear="all",
    transpose=_pad_back, batch=_pad_batch,
    samples=[Sample(((3,), ()), {"low": (1,), "high": (2,), "interior": (0,)}),
             Sample(((4, 2), ()), {"low": (-1, 0), "high": (2, -1), "interior": (1, 0)}),
             Sample(((0,), ()), {"low": (2,), "high": (1,), "interior": (3,)})],
    doc="The operand with `low` and `high` elements of a value before and after each axis and "
    "`interior` between neighbours; negative amounts crop, after the interior was put in.",
)  # fmt: skip


def pad(x: Any, value: Any = None, *, low: Any, high: Any, interior: Any) -> Any:
    """`pad` with zeros unless a 0-d value is given."""
    if value is None:
        value = current_sink().number(0, spec((), x.value.spec.dtype))
    return apply(_pad_primitive, (x, value), low=low, high=high, interior=interior)


def _concatenate_factors(op: str, ins: tuple[Spec, ...], axis: int) -> FactorMap:
    first = ins[0].shape
    if not first:
        raise ShapeError(message("concat", "tensors of 0 axes", "at least 1", "pa.stack"))
    for s in ins[1:]:
        rest = s.shape[:axis] + s.shape[axis + 1 :]
        if s.ndim != len(first) or rest != first[:axis] + first[axis + 1 :]:
            given = f"shapes {first} and {s.shape} along axis {axis}"
            raise ShapeError(message("concat", given, "equal sizes on the other axes"))
    total = sum(s.shape[axis] for s in ins)
    shape = first[:axis] + (total,) + first[axis + 1 :]
    letters = tuple([i if i != axis else ("in", i) for i in range(len(first))])
    roles = dict.fromkeys(range(len(first)), "pass") | {("in", axis): "window"}
    sizes = dict(enumerate(shape)) | {("in", axis): total}
    return FactorMap((letters,) * len(ins), (tuple(range(len(first))),), roles, sizes)


def _concatenate_back(entry: Any, cts: Any, operands: Any, index: int) -> Any:
    (axis,) = entry.params
    start = sum(s.shape[axis] for s in entry.ins[:index])
    shape = cts[0].value.spec.shape
    starts = tuple([start if i == axis else 0 for i in range(len(shape))])
    stop = start + entry.ins[index].shape[axis]
    stops = tuple([stop if i == axis else n for i, n in enumerate(shape)])
    return apply(slice_, cts, starts=starts, stops=stops, strides=(1,) * len(shape))


concatenate = movement(
    "concatenate", _concatenate_factors, lambda p, n: {"axis": p["axis"] + 1},
    params=("axis",), core=True, linear="all", transpose=_concatenate_back,
    meaning=lambda *xs, axis: np.concatenate(xs, axis),
    samples=[Sample(((2, 3), (1, 3)), {"axis": 0}), Sample(((2, 3), (2, 0), (2, 1)), {"axis": 1})],
    doc="Operands one after the other along an axis.",
)  # fmt: skip


def _flip_factors(op: str, ins: tuple[Spec, ...], axes: tuple[int, ...]) -> FactorMap:
    if len(set(axes)) != len(axes) or not all(0 <= a < ins[0].ndim for a in axes):
        given = f"axes {axes!r:.60} of shape {ins[0].shape}"
        raise ArgumentError(message(op, given, "distinct axes of it"))
    same = passing(ins[0].shape)
    return same._replace(roles=same.roles | dict.fromkeys(axes, "window"))


flip: Primitive = movement(
    "flip", _flip_factors, lambda p, n: {"axes": shifted(p["axes"])},
    params=("axes",), core=True, meaning=lambda x, axes: np.flip(x, axes), linear=(0,),
    transpose=lambda entry, cts, operands, index: apply(flip, cts, axes=entry.params[0]),
    samples=[Sample(((2, 3),), {"axes": (1,)}), Sample(((2, 3),), {"axes": (0, 1)})],
    doc="The order of elements along the axes turned round.",
)  # fmt: skip
