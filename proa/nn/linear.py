"""Linear, Embedding, Identity, Flatten, Unflatten."""

from __future__ import annotations

from math import sqrt
from typing import Any

from proa.errors import ArgumentError, message
from proa.nn import functional as F  # noqa: N812
from proa.nn import init
from proa.nn.module import Module
from proa.nn.parameter import check_input, new_parameter
from proa.ops import moves
from proa.ops.primitive import value_of
from proa.shapes import as_axis, as_int, as_list


def positive(name: str, what: str, n: Any, least: int = 1) -> int:
    """A size given to a module."""
    size = as_int(name, what, n)
    if size < least:
        raise ArgumentError(message(name, f"{what} {size}", f"at least {least}"))
    return size


class Linear(Module):
    """y = x weight^T + bias.

    Arguments: in_features, out_features: sizes of the last axis before and after; bias: whether
    there is one; device, dtype: of the parameters. Parameters: weight (out, in) and bias (out,),
    both uniform within 1 / sqrt(in) at first.
    Shapes: (..., in_features) -> (..., out_features).

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Linear(4, 3)(pa.ones((5, 4))).shape
    (5, 3)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features = positive("Linear", "in_features", in_features, 0)
        self.out_features = positive("Linear", "out_features", out_features, 0)
        self.weight = new_parameter((out_features, in_features), dtype, device)
        self.register_parameter(
            "bias", new_parameter((out_features,), dtype, device) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the parameters anew."""
        reset_affine(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        weight = self.weight
        check_input("Linear", "x", x, weight)
        return F.linear(x, weight, self.bias)

    def extra_repr(self) -> str:
        has = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={has}"


def reset_affine(weight: Any, bias: Any) -> None:
    """PyTorch's default of linear and convolution layers: both uniform within 1 / sqrt(fan in)."""
    if not weight.size:
        return
    init.kaiming_uniform_(weight, a=sqrt(5))
    if bias is not None:
        bound = 1 / sqrt(init.fans(weight)[0])
        init.uniform_(bias, -bound, bound)


class Embedding(Module):
    """y = weight[x]: a table of vectors, looked up by integers.

    Arguments: num_embeddings, embedding_dim: rows and columns; padding_idx: a row that is zero at
    first and gets no gradient. Parameter: weight (num_embeddings, embedding_dim), standard normal
    at first. Shapes: integers (...) -> (..., embedding_dim). An index outside gives NaN.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Embedding(10, 3)(pa.asarray([[1, 2], [3, 4]])).shape
    (2, 2, 3)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_embeddings = positive("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = positive("Embedding", "embedding_dim", embedding_dim, 0)
        self.padding_idx = None
        if padding_idx is not None:
            n = as_int("Embedding", "padding_idx", padding_idx)
            if not -num_embeddings <= n < num_embeddings:
                expected = f"one of {num_embeddings} rows"
                raise ArgumentError(message("Embedding", f"padding_idx {n}", expected))
            self.padding_idx = n % num_embeddings
        self.weight = new_parameter((num_embeddings, embedding_dim), dtype, device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init.zero_row_(self.weight, self.padding_idx)

    def forward(self, x: Any) -> Any:
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        row = f", padding_idx={self.padding_idx}" if self.padding_idx is not None else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{row}"


class Identity(Module):
    """y = x. Arguments of any kind are accepted and ignored.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Identity()(pa.ones((2,))).tolist()
    [1.0, 1.0]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes start_dim to end_dim, both included, as one.

    Shapes: (a, b, c, d) -> (a, b c d) with the defaults 1 and -1.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Flatten()(pa.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = as_int("Flatten", "start_dim", start_dim)
        self.end_dim = as_int("Flatten", "end_dim", end_dim)

    def forward(self, x: Any) -> Any:
        return moves.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis as several: the inverse of `Flatten`; one size may be -1.

    >>> import proa as pa
    >>> from proa import nn
    >>> nn.Unflatten(1, (3, -1))(pa.ones((2, 12))).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim = as_int("Unflatten", "dim", dim)
        sizes = as_list("Unflatten", "unflattened_size", unflattened_size)
        self.unflattened_size = tuple([as_int("Unflatten", "size", n) for n in sizes])

    def forward(self, x: Any) -> Any:
        shape = value_of("Unflatten", x).spec.shape
        axis = as_axis("Unflatten", self.dim, len(shape))
        return moves.reshape(x, (*shape[:axis], *self.unflattened_size, *shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
