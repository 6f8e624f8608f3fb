"""Scaled dot-product attention, as torch.nn.functional.scaled_dot_product_attention."""

from __future__ import annotations

from math import sqrt
from typing import Any

from proa.dtypes import bool_, int64
from proa.errors import ArgumentError, ShapeError, message
from proa.graph.node import Value
from proa.ops.arithmetic import eq, inf, le, select
from proa.ops.composite.common import (
    batch_inside,
    flag,
    floating,
    interior,
    kept,
    matched,
    number,
    optional,
    random_state,
    stopped,
    wide,
    wide_pullback,
)
from proa.ops.composite.dropout import keep_factor
from proa.ops.contraction import LETTERS, dot
from proa.ops.creation import iota
from proa.ops.expand import composite
from proa.ops.families.elementwise import unbroadcast
from proa.ops.functions import exp
from proa.ops.movement import zeros
from proa.ops.moves import reshape
from proa.ops.primitive import apply, number_of, value_of
from proa.ops.reductions import max_, spread, sum_
from proa.shapes import broadcast_shapes

Names = tuple[str, ...]


class _Heads:
    """Letters for products in which a head of k and v serves a group of heads of q."""

    def __init__(self, q: Any, k: Any) -> None:
        self.lead, self.shared = q.spec.shape[:-2], k.spec.shape[:-2]
        same = self.lead == self.shared
        self.groups = 1 if same else self.lead[-1] // self.shared[-1]
        self.one = LETTERS[: len(self.shared)]
        self.many = self.one + "G" if self.groups > 1 else self.one

    def split(self, x: Any) -> Any:
        """(..., heads of q, m, n) as (..., heads of k, group, m, n)."""
        if self.groups == 1:
            return x
        return reshape(x, (*self.shared, self.groups, *x.spec.shape[-2:]))

    def merge(self, x: Any) -> Any:
        return x if self.groups == 1 else reshape(x, (*self.lead, *x.spec.shape[-2:]))

    def of_many(self, x: Any, y: Any, a: str, b: str, out: str) -> Any:
        """A product of many heads with few, that has many."""
        many = self.split(x)
        return self.merge(dot(many, y, a=self.many + a, b=self.one + b, out=self.many + out))

    def of_one(self, x: Any, y: Any, a: str, b: str, out: str) -> Any:
        """A product of many heads with many, summed over groups."""
        x, y = self.split(x), self.split(y)
        return dot(x, y, a=self.many + a, b=self.many + b, out=self.one + out)


def _last(x: Any) -> tuple[int, ...]:
    return (x.spec.ndim - 1,)


def _exponentials(q: Any, k: Any, scale: Any, mask: Any, causal: bool) -> tuple[Any, Any]:
    """e^(score - maximum), 0 where attention is barred, and its sum over keys, 1 if that is 0."""
    scores = _Heads(q, k).of_many(q, k, "LE", "SE", "LS") * scale
    if mask is not None:
        scores = select(mask, scores, -inf) if mask.spec.dtype is bool_ else scores + mask
    if causal:
        grid = scores.spec.shape[-2:]
        row, column = (apply(iota, (), shape=grid, axis=a, dtype=int64) for a in (0, 1))
        scores = select(le(column, row), scores, -inf)
    top = apply(max_, (scores,), axes=_last(scores))
    top = stopped(select(eq(top, -inf), 0.0, top))
    small = exp(scores - spread(top, scores.spec.shape, _last(scores)))
    total = kept(apply(sum_, (small,), axes=_last(small)), small.spec.shape, _last(small))
    return small, select(eq(total, 0.0), 1.0, total)


def _factor(named: dict[str, Any], like: Any) -> Any:
    """What dropout multiplies the weights by: 0 or 1 / (1 - p)."""
    return keep_factor(named["state"], named["p"], like.spec.shape, like.spec.dtype)


def _attention_expand(
    q: Any, k: Any, v: Any, scale: Any, *rest: Any, causal: bool, given: Names
) -> Any:
    if not k.spec.shape[-2]:
        return zeros((*q.spec.shape[:-1], v.spec.shape[-1]), q.spec)
    named = dict(zip(given, rest, strict=True))
    small, total = _exponentials(q, k, scale, named.get("mask"), causal)
    if "state" in named:
        small = small * _factor(named, small)
    return _Heads(q, k).of_many(small, v, "LS", "SE", "LE") / total


def _attention_back(operands: Any, results: Any, cts: Any, causal: bool, given: Names) -> list[Any]:
    """With weights P, factors D of dropout and dP = D (ct v^T): dS = P (dP - ct . y)."""
    q, k, v, scale, *rest = operands
    (y,), (ct,) = results, cts
    if not k.spec.shape[-2]:
        return [zeros(o.spec.shape, o.spec) for o in (q, k, v)] + [None] * (1 + len(rest))
    named, heads = dict(zip(given, rest, strict=True)), _Heads(q, k)
    small, total = _exponentials(q, k, scale, named.get("mask"), causal)
    weights = used = small / total
    d_weights = heads.of_many(ct, v, "LE", "SE", "LS")
    if "state" in named:
        factor = _factor(named, small)
        used, d_weights = weights * factor, d_weights * factor
    own = kept(apply(sum_, (ct * y,), axes=_last(y)), y.spec.shape, _last(y))
    d_scores = weights * (d_weights - own)
    inner = d_scores * scale
    found = [
        heads.of_many(inner, k, "LS", "SE", "LE"),
        heads.of_one(inner, q, "LS", "LE", "SE"),
        heads.of_one(used, ct, "LS", "LE", "SE"),
    ]
    mask = named.get("mask")
    if mask is not None and mask.spec.dtype is not bool_:
        masked = unbroadcast(d_scores, mask.spec.shape)
        return [*found, None, masked] + [None] * (len(rest) - 1)
    return found + [None] * (1 + len(rest))


def _attention_batch(primitive: Any, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """Where q, k and v are batched the batch is one more leading axis; a mask stays aligned."""
    if all(flags[:3]) and not any(flags[3:]) and "state" not in params["given"]:
        return apply(primitive, operands, **params)
    return batch_inside(primitive, operands, flags, params)


_attention = composite(
    "attention", wide(_attention_expand), params=("causal", "given"), batch=_attention_batch,
    shape=lambda q, k, v, *rest, causal, given: (*q.shape[:-1], v.shape[-1]),
    pullback=wide_pullback(_attention_back),
    doc="softmax(q k^T scale + mask) v over the last two axes.",
)  # fmt: skip


def attention(
    q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: Any = None,
    dropout_p: Any = 0.0, state: Any = None,
) -> Any:  # fmt: skip
    """softmax(q k^T scale + mask) v (Vaswani et al. 2017). `scale` None is 1 / sqrt(E).

    q: (..., H, L, E); k: (..., K, S, E); v: (..., K, S, V); of one float dtype; the result is
    (..., H, L, V). Where K divides H, each head of k and v serves H / K heads of q.
    mask: broadcast to (..., H, L, S): True where a query may attend, or a float that is added, of
    q's dtype. `causal`: query i sees keys 0..i. A query that may attend to nothing gives 0.
    dropout_p with state (uint32[4]): weights are dropped and the others scaled by 1 / (1 - p).

    >>> import proa as pa
    >>> from proa.ops.composite import attention
    >>> attention(pa.zeros((1, 2)), pa.zeros((2, 2)), pa.asarray([[1.0], [3.0]])).tolist()
    [[2.0]]
    """
    op = "attention"
    q = floating(op, "q", q)
    dtype = q.spec.dtype
    k, v = matched(op, "k", k, dtype), matched(op, "v", v, dtype)
    scores = _check_shapes(q, k, v)
    if mask is not None:
        mask = value_of(op, mask)
        if mask.spec.dtype is not bool_:
            mask = matched(op, "mask", mask, dtype, wide=True)
        if broadcast_shapes(op, [mask.spec.shape, scores]) != scores:
            given_text = f"`mask` of shape {mask.spec.shape}"
            raise ShapeError(message(op, given_text, f"one that is broadcast to {scores}"))
    inner = interior(dtype)
    root = 1.0 / sqrt(q.spec.shape[-1]) if q.spec.shape[-1] else 1.0
    factor = number(op, "scale", root if scale is None else scale, inner)
    p = None
    if state is not None:
        p, state = number(op, "dropout_p", dropout_p, inner, 0.0, 1.0), random_state(op, state)
    elif number_of(dropout_p) != 0:
        hint = "state=..., or dropout_p=0.0"
        raise ArgumentError(
            message(op, f"dropout_p {dropout_p!r:.40} without a state", "both", hint)
        )
    given, rest = optional(mask=mask, state=state, p=p)
    return apply(
        _attention, (q, k, v, factor, *rest), causal=flag(op, "causal", causal), given=given
    )


def _check_shapes(q: Value, k: Value, v: Value) -> tuple[int, ...]:
    """The shape of the scores; q, k and v go together."""
    a, b, c = (x.spec.shape for x in (q, k, v))
    fits = len(a) == len(b) == len(c) >= 2 and b[:-1] == c[:-1] and a[-1] == b[-1]
    if fits and a[:-2] != b[:-2]:
        fits = a[:-3] == b[:-3] and b[-3] > 0 and a[-3] % b[-3] == 0
    if not fits:
        given = f"q {a}, k {b}, v {c}"
        expected = "q (..., H, L, E), k (..., K, S, E) and v (..., K, S, V), K dividing H"
        raise ShapeError(message("attention", given, expected))
    return a[:-1] + b[-2:-1]
