"""The arguments of a jitted call: tensors, numbers that are traced, statics, other objects."""

from __future__ import annotations

from enum import Enum
from typing import Any, final

import numpy as np

from proa import dtypes, tree
from proa.compile.find import default_device
from proa.dtypes import Dtype, weak_dtype
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.record.live import thread
from proa.tensor import Tensor, put


@final
class Arguments:
    """The leaves of a call's arguments: tensors, traced numbers, statics, other objects."""

    __slots__ = ("args", "kwargs", "leaves", "structure", "key", "others")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], static: set[int]) -> None:
        self.args, self.kwargs = args, kwargs
        found: tuple[list[Any], Any] = tree.flatten((args, kwargs)) if kwargs else _flat(args)
        self.leaves, self.structure = found
        self.others: list[Any] = []
        key: list[Any] = [self.structure]
        seen: dict[int, int] = {}
        for i, leaf in enumerate(self.leaves):
            kind = type(leaf)
            if kind is Tensor:
                key.append(leaf.value.spec)
                key.append(seen.setdefault(id(leaf), i))
            elif kind is float or kind is int:
                key.append((kind, repr(leaf)) if i in static else kind)
            elif kind is np.ndarray:
                key.append((leaf.shape, leaf.dtype))
            elif kind in (bool, str, type(None), bytes, Dtype) or isinstance(leaf, Enum):
                key.append((kind, leaf))
            else:
                key.append(id(leaf))
                self.others.append(leaf)
        self.key = tuple(key)

    def copies(self) -> tuple[Any, Any, dict[Value, int], dict[Value, int]]:
        """Arguments for a recording: tensors with handles of their own, numbers as 0-d tensors.

        Returns them with the leaf that each value stands for, and which of them are numbers.
        """
        sources: dict[Value, int] = {}
        numbers: dict[Value, int] = {}
        made: dict[int, Tensor] = {}
        leaves = []
        traced = self.key[1:]
        position = 0
        for i, leaf in enumerate(self.leaves):
            kind = type(leaf)
            if kind is Tensor:
                position += 1
                if id(leaf) not in made:
                    made[id(leaf)] = _own_handle(leaf)
                    sources[made[id(leaf)].value] = i
                leaf = made[id(leaf)]
            elif (kind is float or kind is int) and traced[position] is kind:
                value = Value(None, 0, spec((), weak_dtype(leaf), weak=True), leaf)
                sources[value] = numbers[value] = i
                leaf = Tensor(value)
            elif kind is np.ndarray:
                leaf = _tensor_of(leaf)
                sources[leaf.value] = i
            position += 1
            leaves.append(leaf)
        found = tree.unflatten(self.structure, leaves)
        args, kwargs = found if self.kwargs else (found, {})
        return args, kwargs, sources, numbers

    def buffer(self, i: int) -> Any:
        leaf = self.leaves[i]
        if type(leaf) is Tensor:
            return leaf.value.buffer
        if type(leaf) is np.ndarray:
            return _tensor_of(leaf).value.buffer
        return leaf


def _flat(args: tuple[Any, ...]) -> tuple[list[Any], Any]:
    """Positional arguments that are all leaves need no walk through a tree."""
    for a in args:
        if type(a) is not Tensor and type(a) is not float:
            return tree.flatten(args)
    return list(args), _POSITIONAL.setdefault(len(args), tree.flatten(tuple([0] * len(args)))[1])


_POSITIONAL: dict[int, Any] = {}


def _tensor_of(array: Any) -> Tensor:
    """An array given as an argument, copied in."""
    of = spec(array.shape, dtypes.dtype(array.dtype))
    return put(array, of, thread.state.device or default_device())


def _own_handle(tensor: Tensor) -> Tensor:
    """A leaf that requires a gradient is itself (its gradient is state); others get a copy, so
    that a closure over the same tensor is told apart from the argument."""
    v = tensor.value
    if tensor.leaf is not None:
        return tensor
    return Tensor(Value(v.node, v.index, v.spec, v.buffer))
