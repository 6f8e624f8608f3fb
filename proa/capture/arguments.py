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
from proa.tensor import READ_ONLY, Tensor, put


@final
class Arguments:
    """The leaves of a call's arguments: tensors, traced numbers, statics, other objects."""

    __slots__ = ("args", "kwargs", "leaves", "structure", "key", "others")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], static: set[int]) -> None:
        self.args, self.kwargs = args, kwargs
        found: tuple[list[Any], Any] = tree.flatten((args, kwargs)) if kwargs else _flat(args)
        self.leaves, self.structure = found
        self.others: list[Any] = []
        if np.ndarray in map(type, self.leaves):
            self._take_arrays()
        key: list[Any] = [self.structure]
        seen: dict[int, int] = {}
        for i, leaf in enumerate(self.leaves):
            kind = type(leaf)
            if kind is Tensor:
                key.append(leaf.value.spec)
                if has_state(leaf):  # its gradient and its writes are those of this very tensor
                    key.append(id(leaf))
                    self.others.append(leaf)
                else:
                    key.append(seen.setdefault(id(leaf), i))
            elif kind is float or kind is int:
                fixed = i in static or (kind is int and not -(2**63) <= leaf < 2**63)
                key.append((kind, repr(leaf)) if fixed else kind)
            elif kind in (bool, str, type(None), bytes, Dtype) or isinstance(leaf, Enum):
                key.append((kind, leaf))
            else:
                key.append(id(leaf))
                self.others.append(leaf)
        self.key = tuple(key)

    def _take_arrays(self) -> None:
        """Arrays become tensors before the first call: the body always sees the same kind."""
        self.leaves = [_tensor_of(x) if type(x) is np.ndarray else x for x in self.leaves]
        found = tree.unflatten(self.structure, self.leaves)
        self.args, self.kwargs = found if self.kwargs else (found, {})

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
            position += 1
            leaves.append(leaf)
        found = tree.unflatten(self.structure, leaves)
        args, kwargs = found if self.kwargs else (found, {})
        return args, kwargs, sources, numbers

    def plain_ids(self) -> list[int]:
        """The tensors that a recording sees by handles of its own."""
        return [id(x) for x in self.leaves if type(x) is Tensor and not has_state(x)]

    def buffer(self, i: int) -> Any:
        leaf = self.leaves[i]
        if type(leaf) is Tensor:
            return leaf.value.buffer
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


def has_state(tensor: Tensor) -> bool:
    """Whether a handle carries more than its value: a gradient, hooks."""
    return tensor.leaf is not None and tensor.leaf is not READ_ONLY


def _own_handle(tensor: Tensor) -> Tensor:
    """A leaf that requires a gradient is itself (its gradient is state); others get a copy, so
    that a closure over the same tensor is told apart from the argument."""
    v = tensor.value
    if has_state(tensor):
        return tensor
    return Tensor(Value(v.node, v.index, v.spec, v.buffer))
