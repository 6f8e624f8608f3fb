"""`DataLoader`: batches of a dataset, in this process; it can be resumed in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, final

import numpy as np

from proa import dtypes
from proa.compile.find import default_device
from proa.data.dataset import TensorDataset, host, indexed, is_array
from proa.data.order import (
    Words,
    drawn,
    generator_of,
    permutation,
    read_words,
    seed_words,
    write_words,
)
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.spec import spec
from proa.ops.primitive import number_of
from proa.record.boundary import compute
from proa.record.live import thread
from proa.shapes import as_int
from proa.tensor import Tensor, put

DEPTH_LIMIT: Final = 200


@final
class DataLoader:
    """Batches of a dataset. Asking for the next batch computes what is pending.

    dataset: anything with `len` and an int index; a tensor, a NumPy array, or a tuple of them.
    batch_size: an int of at least 1. shuffle: whether each epoch has a random order of its own,
    drawn from `generator`, from `seed` (epoch e then depends on seed and e alone), or from the
    default generator. drop_last: whether a short last batch is left out. collate_fn: makes a
    batch of a list of items; by default `collate`, which stacks.

    `state_dict()` in the middle of an epoch holds what `load_state_dict` needs to give the same
    remaining batches and the same epochs after that.

    >>> import proa as pa
    >>> from proa.data import DataLoader
    >>> [batch.tolist() for batch in DataLoader(pa.arange(5), batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, dataset: Any, batch_size: int = 1, shuffle: bool = False, *, generator: Any = None,
        seed: int | None = None, drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:  # fmt: skip
        name = "DataLoader"
        self.dataset = _dataset(dataset)
        self.batch_size = as_int(name, "batch_size", batch_size)
        if self.batch_size < 1:
            raise ArgumentError(message(name, f"batch_size {batch_size}", "at least 1"))
        for what, flag in (("shuffle", shuffle), ("drop_last", drop_last)):
            if type(flag) is not bool:
                raise DtypeError(message(name, f"`{what}` {flag!r:.40}", "True or False"))
        if generator is not None and seed is not None:
            raise ArgumentError(message(name, "a generator and a seed", "one of both"))
        if collate_fn is not None and not callable(collate_fn):
            raise DtypeError(message(name, f"collate_fn {collate_fn!r:.40}", "a function"))
        if generator is not None:
            generator_of(name, generator)
        if seed is not None:
            seed_words(name, seed, 0)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self.seed = seed
        self.collate_fn = collate_fn
        self.epoch = 0
        self._running: _Epoch | None = None
        self._resumed: _Epoch | None = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        count = len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """A new epoch, or the rest of the one that was loaded."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            self._running = resumed
            return resumed
        if self._running is not None:  # left before its end
            self.epoch += 1
        self._running = _Epoch(self, self._words())
        return self._running

    def _words(self) -> Words | None:
        if not self.shuffle:
            return None
        if self.seed is not None:
            return seed_words("DataLoader", self.seed, self.epoch)
        return drawn("DataLoader", self.generator)

    def _uses_generator(self) -> bool:
        return self.shuffle and self.seed is None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: epoch, batches given, the words of the order."""
        running = self._resumed or self._running
        source = generator_of("DataLoader", self.generator) if self._uses_generator() else None
        return {
            "epoch": self.epoch,
            "position": None if running is None else running.position,
            "order": None if running is None or running.words is None else list(running.words),
            "generator": None if source is None else list(read_words(source)),
            **self._settings(),
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "length": len(self.dataset), "batch_size": self.batch_size, "shuffle": self.shuffle,
            "drop_last": self.drop_last, "seed": self.seed,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The next iteration goes on where `state_dict()` was taken."""
        name = "DataLoader"
        own = self._settings()
        expected = ("epoch", "position", "order", "generator", *own)
        if not isinstance(state_dict, Mapping) or any(k not in state_dict for k in expected):
            raise ArgumentError(
                message(name, f"a state_dict {state_dict!r:.60}", f"one with {expected}")
            )
        wrong = [
            f"{k} {state_dict[k]!r:.40} for {v!r}" for k, v in own.items() if state_dict[k] != v
        ]
        if wrong:
            raise ArgumentError(
                message(name, "a state_dict of another loader: " + ", ".join(wrong), "the same")
            )
        epoch = as_int(name, "epoch", state_dict["epoch"])
        words = _checked_words(name, state_dict["order"])
        source = _checked_words(name, state_dict["generator"])
        position = state_dict["position"]
        begun = position is not None
        if epoch < 0 or (begun and not 0 <= as_int(name, "position", position) <= len(self)):
            given = f"epoch {epoch} and position {position!r:.40}"
            raise ArgumentError(message(name, given, f"a position from 0 to {len(self)}"))
        if (begun and self.shuffle) != (words is not None) or self._uses_generator() != (
            source is not None
        ):
            raise ArgumentError(
                message(name, "an order or generator that does not fit", "its own layout")
            )
        if source is not None:
            write_words(generator_of(name, self.generator), source)
        self.epoch = epoch
        self._running = None
        self._resumed = _Epoch(self, words, position) if begun else None


def _dataset(given: Any) -> Any:
    if isinstance(given, tuple) and given and all(map(is_array, given)):
        return TensorDataset(*given)
    return indexed("DataLoader", "a dataset", given)


def _checked_words(name: str, given: Any) -> Words | None:
    if given is None:
        return None
    is_list = isinstance(given, (list, tuple)) and len(given) == 4
    if not is_list or not all(type(w) is int and 0 <= w < 2**32 for w in given):
        raise ArgumentError(message(name, f"words {given!r:.60}", "4 ints below 2**32"))
    a, b, c, d = given
    return a, b, c, d


@final
class _Epoch:
    """One pass over a dataset; `position` counts the batches given."""

    __slots__ = ("loader", "words", "position", "order")

    def __init__(self, loader: DataLoader, words: Words | None, position: int = 0) -> None:
        self.loader = loader
        self.words = words
        self.position = position
        count = len(loader.dataset)
        self.order = np.arange(count) if words is None else permutation(words, count)

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Any:
        compute(())
        loader = self.loader
        if self.position >= len(loader):
            if loader._running is self:
                loader._running = None
                loader.epoch += 1
            raise StopIteration
        first = self.position * loader.batch_size
        batch = _batch(loader, self.order[first : first + loader.batch_size])
        self.position += 1
        return batch


def _batch(loader: DataLoader, indices: Any) -> Any:
    dataset = loader.dataset
    if loader.collate_fn is None:
        if type(dataset) is TensorDataset:
            return tuple([_tensor(a) for a in dataset.take(indices)])
        if is_array(dataset):
            return _tensor(host(dataset)[indices])
    items = [dataset[int(i)] for i in indices]
    return (loader.collate_fn or collate)(items)


def collate(items: Sequence[Any]) -> Any:
    """Items as one batch: arrays, tensors and numbers are stacked, tuples, lists and dicts are
    taken apart, strings stay a list. Python floats get the default dtype.

    >>> from proa.data import collate
    >>> collate([(1, "a"), (2, "b")])[1]
    ['a', 'b']
    """
    if not len(indexed("collate", "items", items)):
        raise ArgumentError(message("collate", "no items", "at least one"))
    return _collated(items, 0)


def _collated(items: Sequence[Any], depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        given = f"more than {DEPTH_LIMIT} levels"
        raise ArgumentError(message("collate", given, "items without cycles"))
    first = items[0]
    if is_array(first) or isinstance(first, np.generic):
        return _stacked(items)
    if number_of(first) is not None:
        return _numbers(items)
    if isinstance(first, (str, bytes)) or first is None:
        return list(items)
    if isinstance(first, Mapping):
        if any(not isinstance(i, Mapping) or i.keys() != first.keys() for i in items):
            raise ArgumentError(
                message("collate", "dicts with other keys", f"the keys {list(first)!r:.80}")
            )
        return {k: _collated([i[k] for i in items], depth + 1) for k in first}
    if isinstance(first, (tuple, list)):
        if any(not isinstance(i, (tuple, list)) or len(i) != len(first) for i in items):
            raise ArgumentError(
                message("collate", "items of other lengths", f"{len(first)} parts each")
            )
        columns = [_collated([i[k] for i in items], depth + 1) for k in range(len(first))]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    given = f"an item of type {type(first).__name__}"
    raise DtypeError(
        message("collate", given, "arrays, numbers, strings, tuples, dicts", "collate_fn=")
    )


def _stacked(items: Sequence[Any]) -> Tensor:
    arrays = []
    for i in items:
        if not is_array(i) and not isinstance(i, np.generic):
            raise DtypeError(message("collate", f"{type(i).__name__} among arrays", "arrays only"))
        arrays.append(np.asarray(host(i)))
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        hint = "padding, or collate_fn="
        raise ShapeError(
            message("collate", f"items of shapes {sorted(shapes)!r:.100}", "one shape", hint)
        )
    kinds = {a.dtype for a in arrays}
    if len(kinds) > 1:
        raise DtypeError(
            message("collate", f"items of dtypes {sorted(map(str, kinds))}", "one dtype")
        )
    return _tensor(np.stack(arrays))


def _numbers(items: Sequence[Any]) -> Tensor:
    numbers = [number_of(i) for i in items]
    if any(n is None for n in numbers):
        raise DtypeError(message("collate", "numbers and other things", "numbers only"))
    kinds = {type(n) for n in numbers}
    if complex in kinds:
        raise DtypeError(message("collate", "complex numbers", "real numbers"))
    if kinds == {bool}:
        return _tensor(np.array(numbers, np.bool_))
    if float in kinds:
        return _tensor(np.array(numbers, np.float64).astype(dtypes.default_float().numpy))
    try:
        return _tensor(np.array(numbers, np.int64))
    except OverflowError:
        raise ArgumentError(message("collate", "ints beyond int64", "smaller ones")) from None


def _tensor(array: Any) -> Tensor:
    of = spec(array.shape, dtypes.dtype(array.dtype))
    return put(array, of, thread.state.device or default_device())
