"""Taking the values of a state: checked first, told in one message, assigned last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.spec import spec
from proa.tensor import Tensor, host_of, moved, no_grad, put, rebind

SHOWN: Final = 20


class Loaded(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(owner: str, handles: Sequence[tuple[str, Tensor]], state: Any, strict: bool) -> Loaded:
    """Every handle takes the value of its name in `state`; all or none."""
    if not isinstance(state, Mapping):
        given = f"a state of type {type(state).__name__}"
        raise DtypeError(message("load_state_dict", given, "a mapping of names to tensors"))
    check = _Check(handles, state)
    wrong = check.misfits()
    if strict:
        wrong = check.missing_lines() + check.unexpected_lines() + wrong
    if wrong:
        cut = [f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        given = f"a state that does not fit {owner}:\n  " + "\n  ".join(wrong[:SHOWN] + cut) + "\n"
        hint = "strict=False for missing and unexpected names" if strict else ""
        raise ArgumentError(message("load_state_dict", given, f"the state of {owner}", hint))
    with no_grad():
        new = [(handle, _placed(state[name], handle)) for name, handle in handles if name in state]
        for handle, tensor in new:
            rebind(handle, tensor.value)
    return Loaded(check.missing, check.unexpected)


@final
class _Check:
    """What does not fit between the names and handles of a module and a state."""

    __slots__ = ("handles", "state", "missing", "unexpected")

    def __init__(self, handles: Sequence[tuple[str, Tensor]], state: Mapping[str, Any]) -> None:
        self.handles = dict(handles)
        self.state = state
        there = {id(handle) for name, handle in handles if name in state}
        self.missing = [n for n, handle in handles if n not in state and id(handle) not in there]
        self.unexpected = [n for n in state if n not in self.handles]

    def missing_lines(self) -> list[str]:
        return [
            f"missing: {n}, {_described(self.handles[n])}{_near(n, self.unexpected)}"
            for n in self.missing
        ]

    def unexpected_lines(self) -> list[str]:
        known = self.missing or list(self.handles)
        return [f"unexpected: {n}{_near(str(n), known)}" for n in self.unexpected]

    def misfits(self) -> list[str]:
        found = [self._misfit(n, h) for n, h in self.handles.items() if n in self.state]
        return [line for line in [*found, *self._untied()] if line]

    def _misfit(self, name: str, handle: Tensor) -> str:
        given = self.state[name]
        if type(given) is not Tensor and not isinstance(given, (np.ndarray, np.generic)):
            return f"type: {name} is {type(given).__name__}, expected a tensor or a NumPy array"
        shape, dtype = tuple(given.shape), as_dtype(given.dtype)
        if shape != handle.shape:
            return f"shape: {name} has {shape}, expected {handle.shape}"
        if not holds(handle.dtype, dtype):
            way = f"module.to(pa.{dtype.name}) or astype(pa.{handle.dtype.name})"
            return f"dtype: {name} has {dtype.name}, expected {handle.dtype.name} ({way})"
        return ""

    def _untied(self) -> list[str]:
        """Names of one parameter that are given different values."""
        first: dict[int, str] = {}
        found = []
        for name, handle in self.handles.items():
            if name in self.state:
                other = first.setdefault(id(handle), name)
                if other != name and not _equal(self.state[other], self.state[name]):
                    found.append(f"tied: {other} and {name} are one parameter, given two values")
        return found


def holds(wide: Dtype, narrow: Dtype) -> bool:
    """Whether every number of one dtype is one of the other."""
    if wide is narrow:
        return True
    if wide.kind != narrow.kind or narrow.is_storage or wide.is_storage:
        return False
    if wide.kind == "int":
        signs = wide.signed == narrow.signed or wide.signed
        return signs and wide.bits > narrow.bits
    return wide.bits > narrow.bits


def _equal(a: Any, b: Any) -> bool:
    if a is b or (
        type(a) is Tensor and type(b) is Tensor and a.value.buffer is b.value.buffer is not None
    ):
        return True
    x, y = (np.ascontiguousarray(host_of(t) if type(t) is Tensor else t) for t in (a, b))
    return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()


def _placed(given: Any, handle: Tensor) -> Tensor:
    """The value as the handle will hold it: its dtype, on its device; arrays are copied."""
    if type(given) is not Tensor:
        array = np.asarray(given)
        given = put(array, spec(array.shape, dtypes.dtype(array.dtype)), handle.device)
    found: Tensor = moved(given.detach(), handle.device).astype(handle.dtype)
    return found


def _described(handle: Tensor) -> str:
    return f"{handle.dtype.name} {handle.shape}"


def _near(name: str, names: Sequence[Any]) -> str:
    near = get_close_matches(name, [str(n) for n in names], n=1, cutoff=0.6)
    return f" (near: {near[0]})" if near else ""
