"""Dropout, tables, padding and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.ops import composite as co
from proa.ops import reduce
from proa.ops.composite.common import choice, flag, floating, integers
from proa.ops.movement import pad as pad_primitive
from proa.ops.primitive import as_number, number_of, value_of
from proa.random import Generator, default_generator
from proa.shapes import as_int
from proa.tensor import Tensor


def dropout(x: Any, p: Any = 0.5, training: bool = True, generator: Any = None) -> Any:
    """In training x / (1 - p) with probability 1 - p, else 0 (Srivastava et al. 2014); x itself
    in evaluation. Numbers come from `generator`, or the default one.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.dropout(pa.ones((2,)), 0.5, training=False).tolist()
    [1.0, 1.0]
    """
    probability("dropout", p)
    if not flag("dropout", "training", training) or number_of(p) == 0:
        floating("dropout", "x", x)
        return x
    return drawn("dropout", generator, x, lambda state: co.dropout(x, state, p))


def drawn(name: str, generator: Any, x: Any, function: Any) -> Any:
    """`function(state)` for the state of a generator, where x is; the state is advanced."""
    source = default_generator() if generator is None else generator
    if type(source) is not Generator:
        given = f"a generator of type {type(source).__name__}"
        raise DtypeError(message(name, given, "a Generator or None", "pa.Generator(seed)"))
    return source.draw(function, device=x.device if type(x) is Tensor else None)


def probability(name: str, p: Any) -> None:
    """An error unless p is a tensor or a number from 0 to 1."""
    number = number_of(p)
    if number is None:
        value_of(name, p)
    elif isinstance(number, (bool, complex)) or not 0 <= number <= 1:
        raise ArgumentError(message(name, f"p {p!r:.40}", "a number from 0 to 1"))


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """weight[indices]: rows of a table; no gradient reaches row `padding_idx`.

    indices: any shape, integers 0 <= i < V (outside, NaN); weight: (V, D), float.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.embedding(pa.asarray([1, 0]), pa.asarray([[1.0], [2.0]])).tolist()
    [[2.0], [1.0]]
    """
    return co.embedding(weight, indices, padding_idx)


def one_hot(indices: Any, num_classes: int = -1) -> Any:
    """1 at position i along a new last axis, 0 elsewhere, int64. Without `num_classes` the
    largest index is read. indices: any shape, an integer dtype.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.one_hot(pa.asarray([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    if as_int("one_hot", "num_classes", num_classes) == -1:
        given = integers("one_hot", "indices", indices)
        if not given.spec.size:
            raise ArgumentError(message("one_hot", "no indices", "num_classes"))
        num_classes = int(reduce.max(indices)) + 1
    return co.one_hot(indices, num_classes)


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: Any = 0.0) -> Any:
    """x with `value` around it: (before, after) of the last axis, then of the one before it, and
    so on; negative numbers crop. Only mode "constant" is there.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.functional.pad(pa.asarray([[1.0, 2.0]]), (1, 0, 0, 1)).tolist()
    [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    """
    choice("pad", "mode", mode, ("constant",))
    given = value_of("pad", x)
    ndim = given.spec.ndim
    if not isinstance(pad, (tuple, list)) or len(pad) % 2 or len(pad) > 2 * ndim:
        expected = f"an even number of ints, at most {2 * ndim}"
        raise ArgumentError(message("pad", f"pad {pad!r:.60}", expected))
    around = [as_int("pad", "pad", n) for n in pad]
    rest = (0,) * (ndim - len(around) // 2)
    low, high = rest + tuple(around[0::2][::-1]), rest + tuple(around[1::2][::-1])
    number = number_of(value)
    fill = value if number is None else as_number("pad", number, given.spec.dtype)
    return pad_primitive(given, fill, low=low, high=high, interior=(0,) * ndim)


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: Any = 0.0,
    is_causal: bool = False, scale: Any = None, enable_gqa: bool = False, *, generator: Any = None,
) -> Any:  # fmt: skip
    """softmax(q k^T scale + mask) v over the last two axes (Vaswani et al. 2017).

    query: (..., H, L, E); key: (..., K, S, E); value: (..., K, S, V). attn_mask is broadcast to
    (..., H, L, S): True where a query may attend, or a float that is added. `is_causal`: query i
    sees keys 0..i. `scale` None is 1 / sqrt(E). With `enable_gqa` K may divide H.
    A query that may attend to nothing gives 0.

    >>> import proa as pa
    >>> from proa import nn
    >>> q = pa.ones((2, 3, 4))
    >>> nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).shape
    (2, 3, 4)
    """
    name = "scaled_dot_product_attention"
    heads = [value_of(name, t).spec.shape[:-2] for t in (query, key)]
    if heads[0] != heads[1] and not flag(name, "enable_gqa", enable_gqa):
        given = f"heads {heads[0]} of query and {heads[1]} of key"
        raise ShapeError(message(name, given, "equal ones", "enable_gqa=True"))
    probability(name, dropout_p)
    options: dict[str, Any] = {"causal": is_causal, "scale": scale}
    if number_of(dropout_p) == 0:
        return co.attention(query, key, value, attn_mask, **options)
    options["dropout_p"] = dropout_p
    return drawn(
        name, generator, query,
        lambda state: co.attention(query, key, value, attn_mask, state=state, **options),
    )  # fmt: skip
