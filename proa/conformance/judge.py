"""The float64 judge: the meanings run in float64 on the same inputs, with a bound for each element.

The bound is running error analysis. Beside its float64 value each slot carries a number that the
difference of any right computation from that value stays below. A step gives it

- *local*: what the operation itself may err, from its declared accuracy: units in the last place
  of the result's dtype; for sums a unit for each term, of the sum of absolute values;
- *moved*: what the operands' errors become. Elementwise operations are evaluated at every corner
  of the box operand +- error, at ties and at zero: so a comparison that could turn out otherwise
  and a floor that could jump are seen. What is linear or monotone (products, sums, movement,
  max, sort) is evaluated on absolute values or at both ends. Indices that depend on inexact
  numbers are unknown: infinity.

The corners of a box bound a monotone function; a function that turns inside a box so small differs
by terms of second order, which the final factor 2 covers, with the judge's own rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.spec import Spec
from proa.ops.expand import flat, nothing

Array = Any
SLACK: Final = 2.0
NARROW: Final = ("float16", "bfloat16")
# Families whose results are elements of their operands: nothing is rounded.
PLACING: Final = frozenset({"movement", "opaque"})
PRODUCTS: Final = frozenset({"contraction", "window"})


class Judged(NamedTuple):
    """A float64 value (integers and bool as they are) and the bound of what may differ from it."""

    value: Array
    error: Array


class Widen(NamedTuple):
    """How much wider a backend is than the declarations: name -> (float32, float64) units."""

    units: dict[str, tuple[float, float]] = {}
    flushes: bool = False


STRICT: Final = Widen()


def judge(graph: Graph, arrays: Sequence[Array], wider: Widen = STRICT) -> list[Judged]:
    """The outputs of a graph on exactly these arrays, each with its bound."""
    graph = flat(graph, keeps=nothing)
    slots = [exactly(a) for a in arrays]
    slots += [exactly(c.array) for c in graph.constants]
    origins: dict[int, Judged] = {}
    with np.errstate(all="ignore"):
        for step in graph.steps:
            first, name = len(slots), step.entry.primitive.name
            origin = origins.get(step.slots[0]) if name == "bitcast" else None
            if origin is not None and step.entry.outs[0].dtype.is_float:
                slots.append(origin)
                continue
            if name == "bitcast" and step.entry.ins[0].dtype.is_float:
                origins[first] = slots[step.slots[0]]
            slots += judge_step(step.entry, [slots[s] for s in step.slots], wider)
    return [Judged(slots[o].value, SLACK * slots[o].error) for o in graph.outputs]


def exactly(array: Array) -> Judged:
    """An input: known without error."""
    value = wide(np.asarray(array))
    return Judged(value, np.zeros(value.shape))


def wide(array: Array) -> Array:
    """Floats in float64, all else as it is."""
    return array.astype(np.float64) if dtypes.dtype(array.dtype).is_float else array


def wide_params(entry: Entry) -> dict[str, Any]:
    """Parameters with float dtypes replaced by float64."""
    return {
        k: dtypes.float64 if type(v) is Dtype and v.is_float else v
        for k, v in entry.named_params.items()
    }


def judge_step(entry: Entry, operands: Sequence[Judged], wider: Widen) -> list[Judged]:
    if entry.primitive.name == "bitcast":
        if entry.ins[0].dtype is entry.outs[0].dtype:  # where a value is taken off the tape
            return [operands[0]]
        return _judge_bits(entry, operands[0])
    values = _run(entry, [o.value for o in operands])
    moved = _moved(entry, operands, values)
    exact = not any(np.any(o.error) for o in operands)
    found = []
    for value, error, of in zip(values, moved, entry.outs, strict=True):
        if of.dtype.is_float:
            error = np.asarray(error + _local(entry, operands, value, of, wider, exact))
            limit = float(dtypes.finfo(of.dtype).max)
            beyond = np.isfinite(value) & (np.abs(value) + error > limit)
            error = np.where(beyond | np.isnan(error), np.inf, error)
        found.append(Judged(value, error))
    return found


def _run(entry: Entry, values: Sequence[Array]) -> list[Array]:
    found = entry.primitive.meaning(*values, **wide_params(entry))
    found = found if isinstance(found, tuple) else (found,)
    return [np.asarray(v) for v in found]


def _judge_bits(entry: Entry, operand: Judged) -> list[Judged]:
    """The bits of the rounded value. Of an inexact float they are unknown."""
    narrow = operand.value.astype(entry.ins[0].dtype.numpy)
    value = wide(np.asarray(entry.primitive.meaning(narrow, **entry.named_params)))
    error = np.where(operand.error > 0, np.inf, 0.0)
    return [Judged(value, error)]


# What operands' errors become.


def _moved(entry: Entry, operands: Sequence[Judged], values: list[Array]) -> list[Array]:
    if not any(np.any(o.error) for o in operands):
        return [np.zeros(v.shape) for v in values]
    if entry.primitive.family.name == "elementwise":
        return [_at_corners(entry, operands, values[0])]
    if _only_moves(entry) and entry.primitive.linear:
        return _run(entry, [o.error for o in operands])
    unknown = any(
        np.any(o.error) and not s.dtype.is_float for o, s in zip(operands, entry.ins, strict=True)
    )
    if unknown:
        return [np.full(v.shape, np.inf) for v in values]
    ends = _between_ends(entry, operands, values) if not entry.primitive.linear else None
    if ends is None:
        mode = entry.named_params.get("mode")
        monotone = mode in ("max", "min")
        ends = _between_ends(entry, operands, values) if monotone else _linearly(entry, operands)
    return [
        e if s.dtype.is_float else np.full(e.shape, np.inf)
        for e, s in zip(ends, entry.outs, strict=True)
    ]


def _only_moves(entry: Entry) -> bool:
    return entry.primitive.family.name in PLACING


def _at_corners(entry: Entry, operands: Sequence[Judged], center: Array) -> Array:
    """The largest difference over the box of the operands, ties and zeros included."""
    choices = [
        _points(o, operands[1 - i] if len(operands) == 2 else None) for i, o in enumerate(operands)
    ]
    worst = np.zeros(center.shape)
    for corner in product(*choices):
        (there,) = _run(entry, corner)
        worst = np.maximum(worst, _apart(there, center))
    wraps = not (entry.primitive.name in ORDERED or entry.outs[0].dtype.is_float)
    for o, s in zip(operands, entry.ins, strict=True):
        lost = (o.error > 0) if wraps and s.dtype.kind == "int" else np.isinf(o.error)
        worst = np.where(np.broadcast_to(lost, center.shape), np.inf, worst)
    return worst


# Of integers between two ends, these give what lies between the results there; what wraps round,
# or looks at bits, may give anything.
ORDERED: Final = frozenset({"maximum", "minimum", "select", "sign", "lt", "le", "eq"})


def _points(of: Judged, other: Judged | None) -> list[Array]:
    """Both ends, the middle, zero if between, and what lies nearest to the other operand."""
    value, error = of
    if not np.any(error):
        return [value]
    if value.dtype.kind == "b":
        return [value, value ^ (error > 0)]
    finite = np.where(np.isfinite(error), error, 0.0)
    if value.dtype.kind in "iu":
        step = np.ceil(finite).astype(value.dtype)
        return [value - step, value, value + step]
    low, high = value - finite, value + finite
    points = [low, value, high, np.where((low <= 0) & (high >= 0), 0.0, value)]
    if other is not None and other.value.dtype.kind == "f":
        points.append(np.clip(other.value, low, high))
    return points


def _apart(a: Array, b: Array) -> Array:
    """|a - b|; 0 where both are the same infinity or NaN, infinity where one of them is."""
    if a.dtype.kind == "b":
        return (a ^ b).astype(np.float64)
    if a.dtype.kind == "c":
        return np.maximum(_apart(a.real, b.real), _apart(a.imag, b.imag))
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    gap = np.abs(a - b)
    return np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))


def _linearly(entry: Entry, operands: Sequence[Judged]) -> list[Array]:
    """Of a product: errors with the other's absolute values, and with its errors. What is linear in
    its operands together: of their errors, which never cancel."""
    linear = entry.primitive.linear
    mine = [linear == "all" or i in linear for i in range(len(operands))]
    if any(m and o.value.dtype.kind != "f" for o, m in zip(operands, mine, strict=True)):
        return [np.full(v.shape, np.inf) for v in _run(entry, [o.value for o in operands])]
    if entry.primitive.family.name in PRODUCTS:
        (x, dx), (y, dy) = [(np.abs(o.value), o.error) for o in operands]
        parts = [_run(entry, pair)[0] for pair in ((dx, y), (x, dy), (dx, dy))]
        return [np.asarray(sum(parts))]
    rows = zip(operands, mine, strict=True)
    moved = _run(entry, [o.error if m else o.value for o, m in rows])
    return [np.where(np.isnan(m), 0.0, m) for m in moved]  # what a gather puts in is known


def _between_ends(entry: Entry, operands: Sequence[Judged], values: list[Array]) -> list[Array]:
    """A function that rises with each operand: at both ends of all of them."""
    worst = [np.zeros(v.shape) for v in values]
    for sign in (-1.0, 1.0):
        ends = [
            np.where(np.isinf(o.error), sign * np.inf, o.value + sign * o.error)
            if o.value.dtype.kind == "f"
            else o.value
            for o in operands
        ]
        gaps = [_apart(a, b) for a, b in zip(_run(entry, ends), values, strict=True)]
        worst = [np.maximum(a, b) for a, b in zip(worst, gaps, strict=True)]
    return worst


# What the operation itself may err.


def _local(
    entry: Entry, operands: Sequence[Judged], value: Array, of: Spec, wider: Widen, exact: bool
) -> Array:
    primitive = entry.primitive
    if _only_moves(entry) and primitive.name != "iota":
        return 0.0
    accuracy, name = primitive.accuracy, of.dtype.name
    eps, tiny = float(dtypes.finfo(of.dtype).eps), _tiny(of.dtype, wider)
    if accuracy.sums:
        if entry.named_params.get("mode", "add") != "add":
            return 0.0
        return _sum_error(entry, operands, of) + tiny
    declared = accuracy.f64 if name == "float64" else accuracy.f32
    more = wider.units.get(primitive.name, (0.0, 0.0))
    units = max(declared, more[1] if name == "float64" else more[0])
    if name in NARROW:
        units = max(0.5, min(units, 1.0))
    if exact and units <= 0.5 and not wider.flushes:
        rounded = value.astype(of.dtype.numpy).astype(np.float64)
        return _apart(rounded, value)
    if primitive.family.name == "indexing":
        return 0.0
    judged = units + declared if name == "float64" else units
    size = np.where(np.isfinite(value), np.abs(value), 0.0)
    return judged * eps * size + tiny


def _tiny(dtype: Dtype, wider: Widen) -> float:
    """What is lost below the normal numbers."""
    info = dtypes.finfo(dtype)
    return info.smallest_normal if wider.flushes else info.smallest_normal * info.eps


def _sum_error(entry: Entry, operands: Sequence[Judged], of: Spec) -> Array:
    """A unit for each term that meets in one element, of the sum of absolute values. Narrow floats
    are added in float32 and rounded once. Finite terms whose sum may overflow on the way, in one
    order or another, give nothing to hold on to."""
    eps = float(dtypes.finfo(of.dtype).eps)
    unit = 2.0**-23 if of.dtype.name in NARROW else eps
    (total,) = _run(entry, [_finite_sizes(o.value) for o in operands])
    terms = max([o.value.size for o in operands])
    judged = 2.0 if of.dtype.name == "float64" else 1.0
    limit = float(dtypes.finfo(dtypes.float32 if unit != eps else of.dtype).max)
    error = (terms * unit * judged + (eps if unit != eps else 0.0)) * total
    return np.where(total <= limit, error, np.inf)


def _finite_sizes(value: Array) -> Array:
    """Absolute values, 0 for what is not finite; what addresses as it is."""
    if value.dtype.kind != "f":
        return value
    return np.where(np.isfinite(value), np.abs(value), 0.0)


# Verdicts.


def ulps(found: Array, exact: Array, dtype: Dtype) -> Array:
    """How far `found` is from the float64 value, in units in the last place of `dtype`."""
    info = dtypes.finfo(dtype)
    size = np.where(np.isfinite(exact), np.maximum(np.abs(exact), info.smallest_normal), 1.0)
    spacing = 2.0 ** np.floor(np.log2(size)) * info.eps
    with np.errstate(invalid="ignore"):
        apart = _apart(np.asarray(found), np.asarray(exact))
    return np.where(np.isfinite(exact), apart / spacing, apart)


def verdict(found: Array, judged: Judged) -> str:
    """Empty if a result lies within its bound; else a sentence with the worst element."""
    value, error = judged
    found = np.asarray(found)
    if found.shape != value.shape:
        return f"shape {found.shape}, expected {value.shape}"
    with np.errstate(all="ignore"):
        gap = _apart(wide(found), value)
        excess = np.where(np.isinf(error), 0.0, gap - error)
    if not np.any(excess > 0):
        return ""
    worst = np.unravel_index(
        int(np.argmax(np.where(np.isnan(excess), np.inf, excess))), excess.shape
    )
    at = tuple(int(i) for i in worst)
    return f"{found[at]} at {at}, expected {value[at]} within {error[at]:.3g}, off by {gap[at]:.3g}"


def decided(judged: Judged) -> float:
    """The share of elements whose bound says something."""
    useful = np.isfinite(judged.error)
    return float(np.mean(useful)) if useful.size else 1.0
