"""Transformer layers and stacks, with PyTorch's parameters."""

from __future__ import annotations

import copy
from inspect import signature
from typing import Any, Final

from proa.errors import ArgumentError, DtypeError, message
from proa.nn import functional as F  # noqa: N812
from proa.nn.attention import MultiheadAttention
from proa.nn.containers import ModuleList
from proa.nn.dropout import Dropout
from proa.nn.linear import Linear, positive
from proa.nn.module import Module
from proa.nn.norm import LayerNorm

MOST_LAYERS: Final = 1 << 16
_ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


def _activation(name: str, given: Any) -> Any:
    if callable(given):
        return given
    if given not in _ACTIVATIONS:
        raise ArgumentError(
            message(name, f"activation {given!r:.40}", "'relu', 'gelu' or a function")
        )
    return _ACTIVATIONS[given]


class _Layer(Module):
    """What both layers share: the feed-forward part, and where the norms stand."""

    def _feed_forward(self, x: Any) -> Any:
        inner = self.dropout(self.activation(self.linear1(x)))
        return self.linear2(inner)

    def _step(self, x: Any, norm: Any, dropout: Any, part: Any) -> Any:
        """A residual step, normed before the part or after the sum."""
        if self.norm_first:
            return x + dropout(part(norm(x)))
        return norm(x + dropout(part(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward part, each with dropout, a residual sum and a layer norm:
    x = norm(x + part(x)), or x = x + part(norm(x)) with norm_first (Vaswani et al. 2017,
    arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745).

    Arguments: d_model: E; nhead: heads; dim_feedforward: width of the inner layer; dropout;
    activation: "relu", "gelu" or a function; layer_norm_eps; batch_first: axes (N, L, E), else
    (L, N, E); norm_first; bias: whether linear layers and norms have one.
    Parameters: self_attn.*, linear1.*, linear2.*, norm1.*, norm2.*.
    Shapes: (N, L, E) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> layer(pa.ones((2, 5, 8)), is_causal=True).shape
    (2, 5, 8)
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: Any = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, **where
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **where)
        self.norm_first = bool(norm_first)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation("TransformerEncoderLayer", activation)

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Any:
        """Masks as in `MultiheadAttention`: True bars."""

        def attend(x: Any) -> Any:
            return self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal
            )[0]

        x = self._step(src, self.norm1, self.dropout1, attend)
        return self._step(x, self.norm2, self.dropout2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to `memory`, and a feed-forward part, each as in
    `TransformerEncoderLayer` (Vaswani et al. 2017, arXiv:1706.03762). Arguments are the same.

    Parameters: self_attn.*, multihead_attn.*, linear1.*, linear2.*, norm1.*, norm2.*, norm3.*.
    Shapes: tgt (N, L, E), memory (N, S, E) -> (N, L, E).

    >>> import proa as pa
    >>> from proa import nn
    >>> layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    >>> layer(pa.ones((2, 5, 8)), pa.ones((2, 3, 8)), tgt_is_causal=True).shape
    (2, 5, 8)
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: Any = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        heads = {"batch_first": batch_first, **where}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, **heads)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, **heads)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **where)
        self.norm_first = bool(norm_first)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, **where)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = _activation("TransformerDecoderLayer", activation)

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """Masks as in `MultiheadAttention`: True bars."""

        def attend(x: Any) -> Any:
            return self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal
            )[0]

        def look(x: Any) -> Any:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal,
            )[0]  # fmt: skip

        x = self._step(tgt, self.norm1, self.dropout1, attend)
        x = self._step(x, self.norm2, self.dropout2, look)
        return self._step(x, self.norm3, self.dropout3, self._feed_forward)


def _copies(name: str, layer: Any, num_layers: Any, arguments: int) -> ModuleList:
    """Copies of a layer whose `forward` takes so many arguments."""
    count = positive(name, "num_layers", num_layers)
    if count > MOST_LAYERS:
        raise ArgumentError(message(name, f"num_layers {count}", f"at most {MOST_LAYERS}"))
    if not isinstance(layer, Module):
        raise DtypeError(message(name, f"a layer of type {type(layer).__name__}", "a Module"))
    try:
        signature(layer.forward).bind(*[None] * arguments)
    except TypeError as error:
        given = f"a {type(layer).__name__} ({error})"
        expected = f"a layer whose forward takes {arguments} arguments"
        raise ArgumentError(message(name, given, expected)) from None
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


class TransformerEncoder(Module):
    """`num_layers` copies of an encoder layer, one after the other, and a norm at the end if given.

    The copies begin with equal numbers, as in PyTorch. `enable_nested_tensor` is accepted and has
    no meaning here. Shapes: (N, L, E) -> the same.

    >>> import proa as pa
    >>> from proa import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))(pa.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None,
        enable_nested_tensor: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = _copies("TransformerEncoder", encoder_layer, num_layers, 4)
        self.num_layers = len(self.layers)
        self.norm = norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Any:
        """Masks as in `MultiheadAttention`: True bars."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """`num_layers` copies of a decoder layer, one after the other, and a norm at the end if given.

    Shapes: tgt (N, L, E), memory (N, S, E) -> (N, L, E).

    >>> import proa as pa
    >>> from proa import nn
    >>> layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    >>> nn.TransformerDecoder(layer, 2)(pa.ones((2, 5, 8)), pa.ones((2, 3, 8))).shape
    (2, 5, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies("TransformerDecoder", decoder_layer, num_layers, 8)
        self.num_layers = len(self.layers)
        self.norm = norm

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """Masks as in `MultiheadAttention`: True bars."""
        for layer in self.layers:
            tgt = layer(
                tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                tgt_is_causal, memory_is_causal,
            )  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)
