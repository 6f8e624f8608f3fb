"""Multi-head attention, with PyTorch's parameters."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

from proa.dtypes import bool_, int64
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.nn import functional as F  # noqa: N812
from proa.nn import init
from proa.nn.functional.tables import probability
from proa.nn.linear import Linear, positive
from proa.nn.module import Module
from proa.nn.parameter import check_input, new_parameter
from proa.ops import moves, products, reduce
from proa.ops import operators as op
from proa.ops.composite.common import flag
from proa.ops.creation import iota
from proa.ops.functions import not_
from proa.ops.primitive import apply, number_of, value_of


class MultiheadAttention(Module):
    """softmax(q k^T / sqrt(E / heads) + mask) v by head, between projections of query, key and
    value and one of the result (Vaswani et al. 2017, arXiv:1706.03762).

    Arguments: embed_dim: E; num_heads, which divides E; dropout: of the weights, in training;
    bias; kdim, vdim: sizes of key and value (E if None); batch_first: axes (N, L, E), else
    (L, N, E). Parameters: in_proj_weight (3 E, E) (with kdim or vdim q_proj_weight, k_proj_weight,
    v_proj_weight), in_proj_bias (3 E,), out_proj.weight (E, E), out_proj.bias (E,).

    >>> import proa as pa
    >>> from proa import nn
    >>> x = pa.ones((2, 5, 8))
    >>> y, weights = nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> y.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *,
        kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = "MultiheadAttention"
        e = self.embed_dim = positive(name, "embed_dim", embed_dim)
        self.num_heads = positive(name, "num_heads", num_heads)
        if embed_dim % num_heads:
            given = f"embed_dim {embed_dim} and num_heads {num_heads}"
            raise ArgumentError(message(name, given, "a number of heads that divides it"))
        probability(name, dropout)
        self.dropout = dropout
        self.head_dim = embed_dim // num_heads
        self.batch_first = bool(batch_first)
        self.kdim = e if kdim is None else positive(name, "kdim", kdim)
        self.vdim = e if vdim is None else positive(name, "vdim", vdim)
        if self.kdim == self.vdim == e:
            self.in_proj_weight = new_parameter((3 * e, e), dtype, device)
            for letter in "qkv":
                self.register_parameter(f"{letter}_proj_weight", None)
        else:
            self.q_proj_weight = new_parameter((e, e), dtype, device)
            self.k_proj_weight = new_parameter((e, self.kdim), dtype, device)
            self.v_proj_weight = new_parameter((e, self.vdim), dtype, device)
            self.register_parameter("in_proj_weight", None)
        self.register_parameter(
            "in_proj_bias", new_parameter((3 * e,), dtype, device) if bias else None
        )
        self.out_proj = Linear(e, e, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the input projections anew (Xavier), and makes the biases 0."""
        for letter in ("in", "q", "k", "v"):
            weight = getattr(self, f"{letter}_proj_weight")
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None,
        need_weights: bool = True, attn_mask: Any = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """(result, weights or None).

        query: (N, L, E), key: (N, S, kdim), value: (N, S, vdim) if batch_first, else (L, N, E) ...;
        or without N. key_padding_mask: (N, S); attn_mask: (L, S) or (N heads, L, S); both bool,
        *True where attention is barred*, or a float that is added. `is_causal`: query i sees keys
        0..i (beside attn_mask, which may be left out). The weights are (N, L, S), averaged over
        heads, or (N, heads, L, S). A query that may attend to nothing gives zeros.
        """
        name = "MultiheadAttention"
        first = self.out_proj.weight
        for what, x in (("query", query), ("key", key), ("value", value)):
            check_input(name, what, x, first)
        shapes = [value_of(name, x).spec.shape for x in (query, key, value)]
        if len({len(s) for s in shapes}) != 1 or len(shapes[0]) not in (2, 3):
            given = "query {}, key {}, value {}".format(*shapes)
            raise ShapeError(message(name, given, "3 axes each, or 2 without a batch"))
        batched = len(shapes[0]) == 3
        q, k, v = self._projected(*[self._batch_first(x, batched) for x in (query, key, value)])
        mask = self._mask(q, k, key_padding_mask, attn_mask)
        p = self.dropout if self.training else 0.0
        if need_weights:
            y, weights = _weighed(q, k, v, mask, is_causal, p)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal)
            weights = None
        n, _, length, _ = q.shape
        y = moves.reshape(moves.permute_dims(y, (0, 2, 1, 3)), (n, length, self.embed_dim))
        y = self.out_proj(y)
        if weights is not None and average_attn_weights:
            weights = reduce.sum(weights, 1) / float(self.num_heads)
        if not batched:
            return y[0], None if weights is None else weights[0]
        return y if self.batch_first else moves.swapaxes(y, 0, 1), weights

    def _batch_first(self, x: Any, batched: bool) -> Any:
        """(N, L, E), whatever the order given."""
        if not batched:
            return moves.expand_dims(x, 0)
        return x if self.batch_first else moves.swapaxes(x, 0, 1)

    def _projected(self, query: Any, key: Any, value: Any) -> list[Any]:
        """(N, heads, L, E / heads) each. One product where all three are one tensor."""
        e, bias = self.embed_dim, self.in_proj_bias
        weight = self.in_proj_weight
        if weight is not None and query is key is value:
            whole = F.linear(query, weight, bias)
            return [self._heads(whole[..., i * e : (i + 1) * e]) for i in range(3)]
        parts = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        if weight is not None:
            parts = [weight[i * e : (i + 1) * e] for i in range(3)]
        biases = [None if bias is None else bias[i * e : (i + 1) * e] for i in range(3)]
        rows = zip((query, key, value), parts, biases, strict=True)
        return [self._heads(F.linear(x, w, b)) for x, w, b in rows]

    def _heads(self, x: Any) -> Any:
        n, length, _ = x.shape
        x = moves.reshape(x, (n, length, self.num_heads, self.head_dim))
        return moves.permute_dims(x, (0, 2, 1, 3))

    def _mask(self, q: Any, k: Any, padding: Any, attn: Any) -> Any:
        """One mask for all heads, of what may attend (bool) or is added (float); None if none."""
        n, heads, length, _ = q.shape
        keys = k.shape[2]
        masks = []
        if attn is not None:
            shape = value_of("MultiheadAttention", attn).spec.shape
            if shape not in ((length, keys), (n * heads, length, keys)):
                expected = f"{(length, keys)} or {(n * heads, length, keys)}"
                raise ShapeError(
                    message("MultiheadAttention", f"attn_mask of shape {shape}", expected)
                )
            whole = (1, 1, length, keys) if len(shape) == 2 else (n, heads, length, keys)
            masks.append(moves.reshape(attn, whole))
        if padding is not None:
            shape = value_of("MultiheadAttention", padding).spec.shape
            if shape not in ((n, keys), *([(keys,)] if n == 1 else [])):
                given = f"key_padding_mask of shape {shape}"
                raise ShapeError(message("MultiheadAttention", given, f"{(n, keys)}"))
            masks.append(moves.reshape(padding, (n, 1, 1, keys)))
        return _joined(masks, q.dtype)

    def extra_repr(self) -> str:
        text = f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"
        return f"{text}, batch_first={self.batch_first}"


def _joined(masks: list[Any], dtype: Any) -> Any:
    """Masks that bar (bool) or are added (float), as one for `scaled_dot_product_attention`."""
    kinds = [value_of("mask", m).spec.dtype for m in masks]
    for of in kinds:
        if of is not bool_ and of is not dtype:
            hint = f"mask.astype(pa.{dtype.name})"
            raise DtypeError(
                message("MultiheadAttention", f"a mask of {of.name}", f"bool or {dtype.name}", hint)
            )
    if not masks:
        return None
    if all(of is bool_ for of in kinds):
        return not_(masks[0] if len(masks) == 1 else masks[0] | masks[1])
    added = [_added(m, dtype) if of is bool_ else m for m, of in zip(masks, kinds, strict=True)]
    return added[0] if len(added) == 1 else added[0] + added[1]


def _added(barred: Any, dtype: Any) -> Any:
    return op.astype(op.where(barred, -inf, 0.0), dtype)


def _weighed(q: Any, k: Any, v: Any, mask: Any, causal: bool, p: Any) -> tuple[Any, Any]:
    """The result and the weights, written out; rows that may attend to nothing are zeros."""
    scores = products.matmul(q, moves.matrix_transpose(k)) / sqrt(q.shape[-1])
    if mask is not None:
        bars = value_of("mask", mask).spec.dtype is bool_
        scores = op.where(mask, scores, -inf) if bars else scores + mask
    if flag("MultiheadAttention", "is_causal", causal):
        grid = scores.shape[-2:]
        row, column = (apply(iota, (), shape=grid, axis=a, dtype=int64) for a in (0, 1))
        scores = op.where(column <= row, scores, -inf)
    if mask is None and not causal:
        weights = F.softmax(scores, -1)
    else:
        alive = reduce.max(scores, -1, keepdims=True) != -inf
        weights = op.where(alive, F.softmax(op.where(alive, scores, 0.0), -1), 0.0)
    if number_of(p) != 0:
        weights = F.dropout(weights, p)
    return products.matmul(weights, v), weights
