"""Names for the tensors that a function reads: those that its module, its object, its closure and
its globals have for them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, final

from proa.graph.node import Value
from proa.random import Generator, default_generator
from proa.substitution import Holder, named
from proa.tensor import Tensor


@final
class Names:
    """Names for tensors that a function can reach: of its module, its object, its closure, its
    globals."""

    __slots__ = ("by_value", "by_handle")

    def __init__(self, function: Any) -> None:
        self.by_value: dict[Value, str] = {}
        self.by_handle: dict[int, str] = {}
        for name, thing in reached(function):
            self._add(name, thing)
        self._add("the default generator", default_generator())

    def of(self, value: Value, handle: Any = None) -> str | None:
        return self.by_handle.get(id(handle)) or self.by_value.get(value)

    def _add(self, name: str, thing: Any) -> None:
        if isinstance(thing, Holder):
            for path, tensor in named(thing).items():
                self._tensor(f"{name}.{path}" if name else path, tensor)
            modules: dict[str, Any] = dict(getattr(thing, "named_modules", dict)())
            for path, module in modules.items():
                for key, field in vars(module).items():
                    if type(field) in (Tensor, Generator):
                        self._add(".".join([n for n in (name, path, key) if n]), field)
        elif type(thing) is Tensor:
            self._tensor(name, thing)
        elif type(thing) is Generator:
            self.by_handle.setdefault(id(thing.state), f"{name} (a generator)")
        elif type(thing) in (list, tuple, dict):
            rows: Iterable[Any] = thing.items() if type(thing) is dict else enumerate(thing)
            for key, item in rows:
                if type(item) in (Tensor, Generator) or isinstance(item, Holder):
                    self._add(f"{name}.{key}" if name else str(key), item)

    def _tensor(self, name: str, tensor: Tensor) -> None:
        self.by_value.setdefault(tensor.value, name)
        self.by_handle.setdefault(id(tensor), name)


def reached(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function names, with the names that it has for it."""
    function = inspect.unwrap(function) if not isinstance(function, Holder) else function
    if isinstance(function, Holder):
        yield "", function
        return
    owner = getattr(function, "__self__", None)
    if owner is not None:
        yield "", owner
        if not isinstance(owner, Holder):
            yield from getattr(owner, "__dict__", {}).items()
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that is not bound yet
            continue
    space = function.__globals__
    for name in code.co_names:
        if name in space:
            yield name, space[name]
