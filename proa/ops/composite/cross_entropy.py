"""Cross entropy and negative log likelihood of classes."""

from __future__ import annotations

from typing import Any, NamedTuple

from proa.dtypes import int64
from proa.errors import DtypeError, ShapeError, message
from proa.graph.node import Value
from proa.ops.arithmetic import and_, eq, le, lt, nan, or_, select
from proa.ops.composite.common import (
    REDUCTIONS,
    Names,
    batch_inside,
    choice,
    floating,
    interior,
    matched,
    number,
    optional,
    reduced,
    shaped,
    wide,
)
from proa.ops.composite.statistics import (
    _log_softmax,
    log_probabilities,
    probabilities,
    stable,
)
from proa.ops.creation import iota
from proa.ops.expand import composite
from proa.ops.families.movement import all_batched
from proa.ops.functions import log, not_
from proa.ops.indexing import gather, take_along
from proa.ops.moves import broadcast_to, expand_dims, reshape
from proa.ops.primitive import INT, apply, as_number, cast_to, checked_once, number_of, value_of
from proa.ops.reductions import spread, sum_
from proa.shapes import as_int

# One loss a target, whose derivative is in closed form.


class _Picked(NamedTuple):
    """Of each target: its class (0 where ignored), whether it is ignored, its weight or None."""

    index: Any
    ignored: Any
    weight: Any


def _pick(target: Any, ignore: Any, weight: Any) -> _Picked:
    wide_target = cast_to(target, int64)
    ignored = eq(wide_target, ignore)
    index = select(ignored, 0, wide_target)
    chosen = None if weight is None else apply(gather, (weight, index), axes=(0,), batch=0)
    return _Picked(index, ignored, chosen)


def _at(x: Any, picked: _Picked, axis: int) -> Any:
    """x at each target's class; NaN where there is no such class."""
    found = take_along(x, expand_dims(picked.index, axis), axis)
    return reshape(found, picked.index.spec.shape)


def _share(x: Any, picked: _Picked, ct: Any, axis: int) -> Any:
    """The cotangent of each target's loss: 0 where ignored, NaN where there is no such class."""
    known = and_(le(0, picked.index), lt(picked.index, x.spec.shape[axis]))
    return select(known, select(picked.ignored, 0.0, ct), nan)


def _hits(x: Any, picked: _Picked, axis: int) -> Any:
    """Where an element stands at its target's class."""
    places = apply(iota, (), shape=x.spec.shape, axis=axis, dtype=int64)
    return eq(places, spread(picked.index, x.spec.shape, (axis,)))


def _along_classes(weight: Any, x: Any, axis: int) -> Any:
    """A number for each class, aligned with x."""
    return reshape(weight, (weight.spec.shape[0],) + (1,) * (x.spec.ndim - 1 - axis))


def _class_loss_expand(
    x: Any, target: Any, ignore: Any, *rest: Any, axis: int, given: Names
) -> Any:
    named = dict(zip(given, rest, strict=True))
    weight, smoothing = named.get("weight"), named.get("smoothing")
    picked = _pick(target, ignore, weight)
    of = stable(x, (axis,))
    loss = log(of.total) - (_at(x, picked, axis) - of.top)
    if weight is not None:
        loss = loss * picked.weight
    if smoothing is not None:
        others = log_probabilities(of, (axis,))
        if weight is not None:
            others = others * _along_classes(weight, x, axis)
        part = smoothing / float(x.spec.shape[axis])
        loss = loss * (1.0 - smoothing) - apply(sum_, (others,), axes=(axis,)) * part
    return select(picked.ignored, 0.0, loss)


def _class_loss_back(operands: Any, results: Any, cts: Any, axis: int, given: Names) -> list[Any]:
    """(softmax - onehot) times each target's share, in one go."""
    x, target, ignore, *rest = operands
    named, shape = dict(zip(given, rest, strict=True)), x.spec.shape
    weight, smoothing = named.get("weight"), named.get("smoothing")
    picked = _pick(target, ignore, weight)
    share = _share(x, picked, cts[0], axis)
    p = probabilities(stable(x, (axis,)), (axis,))
    own = share if weight is None else share * picked.weight
    own = own if smoothing is None else own * (1.0 - smoothing)
    slope = spread(own, shape, (axis,)) * select(_hits(x, picked, axis), p - 1.0, p)
    if smoothing is not None:
        classes = float(shape[axis])
        flat = p * classes - 1.0
        if weight is not None:
            total = apply(sum_, (weight,), axes=(0,))
            flat = p * total - _along_classes(weight, x, axis)
        slope = slope + spread(share * (smoothing / classes), shape, (axis,)) * flat
    return [slope] + [None] * (2 + len(rest))


def _targets_batch(primitive: Any, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """Batched scores and targets are more targets; the class axis moves by one."""
    if any(flags[2:]):
        return batch_inside(primitive, operands, flags, params)
    both = all_batched(operands[:2], flags[:2])
    return apply(primitive, (*both, *operands[2:]), **params | {"axis": params["axis"] + 1})


_class_loss = composite(
    "class_loss", _class_loss_expand, params=("axis", "given"), pullback=_class_loss_back,
    differentiable=(0,), batch=_targets_batch, doc="-log softmax(x) at each target's class.",
)  # fmt: skip


def _counted(picked: _Picked, like: Any) -> Any:
    """The sum of the weights of the targets that are not ignored."""
    one = as_number("cross_entropy", 1.0, like.spec.dtype)
    weights = broadcast_to(one, picked.index.spec.shape) if picked.weight is None else picked.weight
    counted = select(picked.ignored, 0.0, weights)
    return apply(sum_, (counted,), axes=tuple(range(counted.spec.ndim)))


def _over_targets(loss: Any, target: Any, ignore: Any, weight: Any, reduction: str) -> Any:
    if reduction != "mean":
        return reduced(loss, reduction)
    return reduced(loss, "sum") / _counted(_pick(target, ignore, weight), loss)


def _class_axis(x: Any) -> int:
    """The second, or the only one."""
    return 1 if x.spec.ndim > 1 else 0


def _cross_entropy_expand(
    x: Any, target: Any, ignore: Any, *rest: Any, reduction: str, given: Names
) -> Any:
    operands = (x, target, ignore, *rest)
    loss = apply(_class_loss, operands, axis=_class_axis(x), given=given)
    weight = dict(zip(given, rest, strict=True)).get("weight")
    return _over_targets(loss, target, ignore, weight, reduction)


_cross_entropy = composite(
    "cross_entropy", wide(_cross_entropy_expand), params=("reduction", "given"),
    shape=lambda x, target, *rest, reduction, given: target.shape if reduction == "none" else (),
    differentiable=(0,), doc="-log softmax(x) at the target's class.",
)  # fmt: skip


def _probabilities_expand(x: Any, target: Any, *rest: Any, reduction: str, given: Names) -> Any:
    named = dict(zip(given, rest, strict=True))
    axis = _class_axis(x)
    if "smoothing" in named:
        s = named["smoothing"]
        target = target * (1.0 - s) + s / float(x.spec.shape[axis])
    if "weight" in named:
        target = target * _along_classes(named["weight"], x, axis)
    loss = -apply(sum_, (target * apply(_log_softmax, (x,), axes=(axis,)),), axes=(axis,))
    return reduced(loss, reduction)


_cross_entropy_probabilities = composite(
    "cross_entropy_probabilities", wide(_probabilities_expand), params=("reduction", "given"),
    doc="-sum(target log softmax(x)) over classes.",
)  # fmt: skip


@checked_once(_cross_entropy)
def cross_entropy(
    logits: Any, target: Any, weight: Any = None, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: Any = 0.0,
) -> Any:  # fmt: skip
    """-weight[t] log softmax(logits)[t] for a target class t; for target probabilities
    -sum(weight target log softmax(logits)). With label smoothing s the target is (1 - s) of
    itself and s / C of every class.

    logits: (N, C), (N, C, d1, ...) or (C,), float. target: classes, integers of that shape without
    C, where `ignore_index` does not count and any other one outside 0 <= t < C gives NaN, in the
    loss and in its row of the gradient; or probabilities, of logits' shape and dtype.
    weight: (C,), of logits' dtype (float32 is good beside a narrow one). "mean" divides by the
    sum of the weights of the targets that count, for probabilities by the number of rows.

    >>> import proa as pa
    >>> from proa.ops.composite import cross_entropy
    >>> cross_entropy(pa.asarray([[0.0, -1e9]]), pa.asarray([0])).item()
    0.0
    """
    op = "cross_entropy"
    logits, axis = _logits(op, "logits", logits)
    choice(op, "reduction", reduction, REDUCTIONS)
    smoothing = None
    if number_of(label_smoothing) != 0:
        inner = interior(logits.spec.dtype)
        smoothing = number(op, "label_smoothing", label_smoothing, inner, 0.0, 1.0)
    given, rest = optional(weight=_class_weight(op, logits, axis, weight), smoothing=smoothing)
    target = value_of(op, target)
    if target.spec.dtype.is_float:
        target = matched(op, "target", target, logits.spec.dtype)
        shaped(op, "target", target, logits.spec.shape)
        operands: tuple[Any, ...] = (logits, target, *rest)
        return apply(_cross_entropy_probabilities, operands, reduction=reduction, given=given)
    operands = (logits, _classes(op, logits, axis, target), _ignored(op, ignore_index), *rest)
    return apply(_cross_entropy, operands, reduction=reduction, given=given)


def _logits(op: str, name: str, x: Any) -> tuple[Value, int]:
    x = floating(op, name, x)
    if not x.spec.ndim:
        raise ShapeError(message(op, f"`{name}` of 0 axes", "axes (N, C, ...) or (C,)"))
    axis = _class_axis(x)
    if not x.spec.shape[axis]:
        raise ShapeError(message(op, f"`{name}` of shape {x.spec.shape}", "at least one class"))
    return x, axis


def _classes(op: str, x: Value, axis: int, target: Any) -> Value:
    target = value_of(op, target)
    if target.spec.dtype not in INT:
        hint = "target.astype(pa.int64)"
        raise DtypeError(
            message(op, f"`target` of {target.spec.dtype.name}", "integers or floats", hint)
        )
    shape = x.spec.shape
    return shaped(op, "target", target, shape[:axis] + shape[axis + 1 :])


def _class_weight(op: str, x: Value, axis: int, weight: Any) -> Any:
    if weight is None:
        return None
    weight = matched(op, "weight", weight, x.spec.dtype, wide=True)
    return shaped(op, "weight", weight, x.spec.shape[axis : axis + 1])


def _ignored(op: str, ignore_index: Any) -> Any:
    return as_number(op, as_int(op, "ignore_index", ignore_index), int64)


def _class_score_expand(x: Any, target: Any, ignore: Any, *rest: Any, axis: int) -> Any:
    picked = _pick(target, ignore, rest[0] if rest else None)
    loss = -_at(x, picked, axis)
    return select(picked.ignored, 0.0, loss * picked.weight if rest else loss)


def _class_score_back(operands: Any, results: Any, cts: Any, axis: int) -> list[Any]:
    x, target, ignore, *rest = operands
    picked = _pick(target, ignore, rest[0] if rest else None)
    share = -_share(x, picked, cts[0], axis)
    own = spread(share * picked.weight if rest else share, x.spec.shape, (axis,))
    shown = or_(_hits(x, picked, axis), not_(eq(own, own)))
    return [select(shown, own, 0.0)] + [None] * (2 + len(rest))


_class_score = composite(
    "class_score", _class_score_expand, params=("axis",), pullback=_class_score_back,
    differentiable=(0,), batch=_targets_batch, doc="-x at each target's class.",
)  # fmt: skip


def _nll_expand(x: Any, target: Any, ignore: Any, *rest: Any, reduction: str) -> Any:
    loss = apply(_class_score, (x, target, ignore, *rest), axis=_class_axis(x))
    return _over_targets(loss, target, ignore, rest[0] if rest else None, reduction)


_nll_loss = composite(
    "nll_loss", wide(_nll_expand), params=("reduction",), differentiable=(0,),
    doc="-x at the target's class.",
)  # fmt: skip


def nll_loss(
    log_probabilities: Any, target: Any, weight: Any = None, ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """-weight[t] x[t] for a target class t and log probabilities x: (N, C), (N, C, d1, ...) or
    (C,), float. target, weight, ignore_index, reduction: as in `cross_entropy`.

    >>> import proa as pa
    >>> from proa.ops.composite import nll_loss
    >>> nll_loss(pa.asarray([[-1.0, -2.0]]), pa.asarray([1])).item()
    2.0
    """
    op = "nll_loss"
    x, axis = _logits(op, "log_probabilities", log_probabilities)
    choice(op, "reduction", reduction, REDUCTIONS)
    _, rest = optional(weight=_class_weight(op, x, axis, weight))
    operands = (x, _classes(op, x, axis, target), _ignored(op, ignore_index), *rest)
    return apply(_nll_loss, operands, reduction=reduction)
