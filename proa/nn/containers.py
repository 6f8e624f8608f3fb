"""Modules that hold modules: `Sequential`, `ModuleList`, `ModuleDict`, `ParameterList`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from proa.errors import DtypeError, IndexingError, message
from proa.nn.module import Module
from proa.nn.parameter import Parameter, is_parameter
from proa.shapes import as_int, as_list
from proa.tensor import Tensor


class _Numbered(Module):
    """Parts with the names 0, 1, 2, ... (or names of their own in a Sequential)."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def _key(self, index: Any) -> str:
        names = list(self._modules)
        i = as_int(type(self).__name__, "index", index)
        if not -len(names) <= i < len(names):
            raise IndexingError(
                message(type(self).__name__, f"index {i}", f"one of {len(names)} parts")
            )
        return names[i]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._sliced(list(self._modules.items())[index])
        return self._modules[self._key(index)]

    def _sliced(self, rows: list[tuple[str, Any]]) -> Any:
        raise NotImplementedError

    def __setitem__(self, index: Any, module: Module) -> None:
        self.add_module(self._key(index), module)

    def __delitem__(self, index: Any) -> None:
        """Takes parts out; the others are numbered anew."""
        rows = list(self._modules.items())
        gone = rows[index] if isinstance(index, slice) else [(self._key(index), None)]
        names = {name for name, _ in gone}
        self._renumber([(name, part) for name, part in rows if name not in names])

    def _renumber(self, rows: list[tuple[str, Any]]) -> None:
        for name in list(self._modules):
            delattr(self, name)
        for i, (name, part) in enumerate(rows):
            self.add_module(str(i) if name.isdigit() else name, part)

    def append(self, module: Module) -> Self:
        """Adds a part at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds parts at the end."""
        for module in as_list(type(self).__name__, "modules", modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Puts a part before position `index`; the others are numbered anew."""
        rows: list[tuple[str, Any]] = list(self._modules.items())
        rows.insert(as_int(type(self).__name__, "index", index), ("0", module))
        self._renumber(rows)


class Sequential(_Numbered):
    """f_n(... f_2(f_1(x))): each part gets what the one before gave.

    Arguments: the parts one by one, or one dict of named parts.

    >>> import proa as pa
    >>> from proa import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model(pa.ones((3, 4))).shape, list(model.state_dict())[:2]
    ((3, 2), ['0.weight', '0.bias'])
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__()
        if len(parts) == 1 and isinstance(parts[0], Mapping):
            for name, part in parts[0].items():
                self.add_module(name, part)
            return
        for i, part in enumerate(parts):
            self.add_module(str(i), part)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a part by name."""
        if module is None:
            raise DtypeError(message("Sequential", f"None for the part `{name}`", "a Module"))
        super().add_module(name, module)

    def forward(self, x: Any) -> Any:
        for part in self._modules.values():
            x = part(x)
        return x

    def _sliced(self, rows: list[tuple[str, Any]]) -> Any:
        return type(self)(dict(rows))


class _Uncalled(Module):
    """A container that is not called: its parts show in scopes under its own name too."""

    def _path_of(self, name: str) -> str:
        return f"{self._name}.{name}" if self._name else name

    def _rename(self, name: str) -> None:
        super()._rename(name)
        for key, part in self._modules.items():
            if part is not None:
                part._rename(self._path_of(key))


class ModuleList(_Uncalled, _Numbered):
    """A list of modules whose parameters are registered. It has no `forward`.

    >>> from proa import nn
    >>> layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), len(layers[1:]), [n for n, _ in layers.named_parameters()][:2]
    (3, 2, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _sliced(self, rows: list[tuple[str, Any]]) -> Any:
        return type(self)([part for _, part in rows])

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def _rows(self) -> list[tuple[str, str]]:
        """Equal neighbours as one row: `(0-5): 6 x Block(...)`."""
        found: list[tuple[str, str]] = []
        rows = super()._rows()
        i = 0
        while i < len(rows):
            j = i
            while j + 1 < len(rows) and rows[j + 1][1] == rows[i][1]:
                j += 1
            name, text = rows[i]
            found.append(
                (f"{name}-{rows[j][0]}", f"{j - i + 1} x {text}") if j > i else (name, text)
            )
            i = j + 1
        return found


class ModuleDict(_Uncalled):
    """Modules by name, whose parameters are registered. It has no `forward`.

    >>> from proa import nn
    >>> parts = nn.ModuleDict({"up": nn.Linear(2, 4), "act": nn.SiLU()})
    >>> list(parts), "up" in parts, list(parts.state_dict())
    (['up', 'act'], True, ['up.weight', 'up.bias'])
    """

    def __init__(self, modules: Any = ()) -> None:
        super().__init__()
        self.update(modules)

    def update(self, modules: Any) -> None:
        """Adds the parts of a mapping, or of (name, module) pairs."""
        rows = modules.items() if hasattr(type(modules), "items") else modules
        for row in as_list("ModuleDict", "modules", rows):
            if not isinstance(row, (tuple, list)) or len(row) != 2:
                raise DtypeError(message("ModuleDict", f"{row!r:.60}", "pairs (name, module)"))
            self[row[0]] = row[1]

    def __getitem__(self, name: str) -> Any:
        if name not in self._modules:
            raise KeyError(message("ModuleDict", repr(name), f"one of {list(self._modules)}"))
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._modules.items()

    def pop(self, name: str) -> Module:
        """Takes a part out and returns it."""
        found: Module = self[name]
        delattr(self, name)
        return found


class ParameterList(Module):
    """A list of parameters. Other tensors become parameters.

    >>> import proa as pa
    >>> from proa import nn
    >>> weights = nn.ParameterList([pa.zeros((2,)), pa.ones((3,))])
    >>> len(weights), weights[-1].shape, list(weights.state_dict())
    (2, (3,), ['0', '1'])
    """

    def __init__(self, parameters: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int) -> Tensor:
        i, n = as_int("ParameterList", "index", index), len(self)
        if not -n <= i < n:
            raise IndexingError(message("ParameterList", f"index {i}", f"one of {n} parameters"))
        return self._parameters[str(i % n)]  # type: ignore[no-any-return]

    def append(self, parameter: Any) -> Self:
        """Adds a parameter at the end."""
        if type(parameter) is not Tensor:
            given = f"a {type(parameter).__name__}"
            raise DtypeError(message("ParameterList", given, "a Parameter or a tensor"))
        made = parameter if is_parameter(parameter) else Parameter(parameter)
        self.register_parameter(str(len(self)), made)
        return self

    def extend(self, parameters: Iterable[Any]) -> Self:
        """Adds parameters at the end."""
        for parameter in as_list("ParameterList", "parameters", parameters):
            self.append(parameter)
        return self
