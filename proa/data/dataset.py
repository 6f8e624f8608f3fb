"""What a loader reads from: anything with a length and an index; here those that come along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from proa.data.order import permutation, words_of
from proa.errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from proa.ops.primitive import number_of
from proa.shapes import as_int, as_list
from proa.tensor import Tensor


@final
class TensorDataset:
    """Tensors or NumPy arrays of one length: item i is the tuple of their rows i.

    >>> import proa as pa
    >>> from proa.data import TensorDataset
    >>> len(TensorDataset(pa.zeros((3, 2)), pa.arange(3)))
    3
    """

    def __init__(self, *columns: Any) -> None:
        if not columns:
            raise ArgumentError(message("TensorDataset", "no tensors", "at least one"))
        for c in columns:
            if not is_array(c):
                given = f"a column of type {type(c).__name__}"
                raise DtypeError(
                    message("TensorDataset", given, "tensors or NumPy arrays", "pa.asarray")
                )
            if c.ndim == 0:
                raise ShapeError(message("TensorDataset", "a column of 0 axes", "at least 1"))
        lengths = [c.shape[0] for c in columns]
        if len(set(lengths)) > 1:
            raise ShapeError(
                message("TensorDataset", f"columns of lengths {lengths}", "one length")
            )
        self.columns = columns

    def __len__(self) -> int:
        return int(self.columns[0].shape[0])

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        i = _inside("TensorDataset", index, len(self))
        return tuple([c[i] for c in self.columns])

    def take(self, indices: Any) -> tuple[Any, ...]:
        """Rows of all columns at once, as NumPy arrays."""
        return tuple([host(c)[indices] for c in self.columns])


@final
class Subset:
    """The items of a dataset at these indices, in this order."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = indexed("Subset", "a dataset", dataset)
        count = len(dataset)
        self.indices = np.array([_inside("Subset", i, count) for i in indices], np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[int(self.indices[_inside("Subset", index, len(self))])]


def random_split(
    dataset: Any, lengths: Sequence[float], generator: Any = None, seed: int | None = None
) -> list[Subset]:
    """The dataset in random parts of these lengths (ints, or fractions that add up to 1).

    The order comes from `generator`, from `seed`, or from the default generator.
    """
    total = len(indexed("random_split", "a dataset", dataset))
    counts = _counts(as_list("random_split", "lengths", lengths), total)
    order = permutation(words_of("random_split", generator, seed), total)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - n : end]) for n, end in zip(counts, ends, strict=True)]


def _counts(lengths: list[Any], total: int) -> list[int]:
    numbers = [number_of(n) for n in lengths]
    if any(n is None or isinstance(n, (bool, complex)) or not n >= 0 for n in numbers):
        raise ArgumentError(
            message("random_split", f"lengths {lengths!r:.60}", "numbers of at least 0")
        )
    if any(type(n) is float for n in numbers):
        if abs(sum(numbers) - 1.0) > 1e-9:
            raise ArgumentError(message("random_split", f"fractions {lengths!r:.60}", "a sum of 1"))
        counts = [int(total * n) for n in numbers]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
        return counts
    if sum(numbers) != total:
        given = f"lengths {lengths!r:.60} of {total} items"
        raise ArgumentError(message("random_split", given, "lengths that add up"))
    return numbers


def _inside(op: str, index: Any, count: int) -> int:
    i = as_int(op, "index", index)
    if not -count <= i < count:
        raise IndexingError(
            message(op, f"index {i} of {count} items", f"-{count} <= index < {count}")
        )
    return i % count


def indexed(op: str, what: str, given: Any) -> Any:
    """An argument that has a length n and takes the ints below n as an index."""
    kind = type(given)
    if not hasattr(kind, "__len__") or not hasattr(kind, "__getitem__"):
        text = f"{what} of type {kind.__name__}"
        raise DtypeError(message(op, text, "one with len and an index"))
    if is_array(given) and given.ndim == 0:
        raise ShapeError(message(op, f"{what} of 0 axes", "at least 1"))
    if isinstance(given, Mapping) and any(i not in given for i in range(len(given))):
        text = f"{what} with the keys {list(given)!r:.60}"
        raise ArgumentError(message(op, text, "the keys 0, 1, 2, ..."))
    return given


def is_array(thing: Any) -> bool:
    return type(thing) is Tensor or isinstance(thing, np.ndarray)


def host(thing: Any) -> Any:
    """A column as a NumPy array."""
    return thing.numpy() if type(thing) is Tensor else thing
