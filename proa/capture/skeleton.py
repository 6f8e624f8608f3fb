"""The static skeleton of what a function can reach: everything but the contents of tensors.

Numbers, strings, enums and tuples of them count by value, lists and dicts by content, anything
else by identity. Tensors count by identity and by whether they require a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from operator import is_
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, final

from proa.dtypes import Dtype
from proa.record.live import epoch
from proa.tensor import Tensor

_BY_VALUE = frozenset({bool, int, str, bytes, type(None), Dtype})


def roots(function: Any) -> list[Any]:
    """What a function can reach without its arguments: self, closure cells, named globals."""
    found: list[Any] = []
    if isinstance(function, MethodType):
        found.append(function.__self__)
        function = function.__func__
    if not isinstance(function, FunctionType):
        found.append(function)
        return found
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # a variable that is not bound yet
            found.append(None)
    space = function.__globals__
    for name in _names(function.__code__):
        if name in space and not isinstance(space[name], ModuleType):
            found.append(space[name])
    return found


def _names(code: CodeType) -> tuple[str, ...]:
    """Global names of a function and of the functions inside it."""
    names = _NAMES.get(code)
    if names is None:
        inner = [c for c in code.co_consts if isinstance(c, CodeType)]
        all_names = dict.fromkeys(code.co_names)
        for c in inner:
            all_names.update(dict.fromkeys(_names(c)))
        names = _NAMES[code] = tuple(all_names)
    return names


_NAMES: dict[CodeType, tuple[str, ...]] = {}


@final
class Walk:
    """The fingerprint of some objects, what it keeps alive, and the containers that may change
    unseen, each with what it held."""

    __slots__ = ("parts", "kept", "plain", "seen")

    def __init__(self, objects: list[Any]) -> None:
        self.parts: list[Any] = []
        self.kept: list[Any] = []
        self.plain: list[tuple[Any, list[Any]]] = []
        self.seen: set[int] = set()
        for o in objects:
            self.add(o, 0)

    def add(self, o: Any, depth: int) -> None:
        kind = type(o)
        if kind in _BY_VALUE:
            self.parts.append((kind, o))
        elif kind is float or kind is complex:
            self.parts.append((kind, repr(o)))
        elif id(o) in self.seen or depth > 50:
            self.parts.append(id(o))
        else:
            self._object(o, kind, depth)

    def _object(self, o: Any, kind: type, depth: int) -> None:
        self.seen.add(id(o))
        self.kept.append(o)
        if kind is Tensor:
            self.parts.append(("tensor", id(o), o.leaf is not None and o.leaf.stops))
        elif kind is tuple:
            self._items("tuple", iter(o), depth)
        elif kind in (list, set, frozenset):
            self.plain.append((o, list(o)))
            self._items(kind.__name__, iter(o), depth)
        elif kind is dict:
            self.plain.append((o, [*o, *o.values()]))
            self._mapping("dict", o, depth)
        elif isinstance(o, Enum):
            self.parts.append((kind, o.name))
        elif hasattr(kind, "jit_fields"):
            self._mapping(kind, o.jit_fields(), depth)
        elif _is_record(o, kind):
            self.plain.append((o.__dict__, [*o.__dict__, *o.__dict__.values()]))
            self.parts.append(id(o))
            self._mapping(kind, o.__dict__, depth)
        elif isinstance(o, MethodType):
            self.parts.append(id(o.__func__))
            self.add(o.__self__, depth + 1)
        else:
            self.parts.append(id(o))

    def _items(self, name: str, items: Iterator[Any], depth: int) -> None:
        self.parts.append(name)
        for item in items:
            self.add(item, depth + 1)
        self.parts.append(")")

    def _mapping(self, name: Any, fields: dict[Any, Any], depth: int) -> None:
        self.parts.append(name)
        for key, item in list(fields.items()):
            self.add(key, depth + 1)
            self.add(item, depth + 1)
        self.parts.append("}")


def _is_record(o: Any, kind: type) -> bool:
    """A plain object of a user's class: its fields count."""
    if isinstance(o, (type, ModuleType, FunctionType)) or not hasattr(o, "__dict__"):
        return False
    return kind.__module__.partition(".")[0] not in _FOREIGN


_FOREIGN = frozenset(
    {"builtins", "numpy", "threading", "_thread", "proa", "collections", "functools"}
)


@final
class Skeleton:
    """Finds out whether anything static has changed since the last call.

    `token()` is the same number as long as nothing has. While the objects are the same and the
    epoch stands still, that is one comparison, and one of each plain container with what it held.
    """

    __slots__ = ("reach", "objects", "count", "number", "tokens", "walk")

    def __init__(self, reach: Callable[[], list[Any]]) -> None:
        self.reach = reach
        self.objects: list[Any] = []
        self.count = -1
        self.number = -1
        self.tokens: dict[tuple[Any, ...], int] = {}
        self.walk: Any = None

    def _unchanged(self) -> bool:
        for container, held in self.walk.plain:
            now = [*container, *container.values()] if type(container) is dict else list(container)
            if not _same(now, held):
                return False
        return True

    def token(self) -> int:
        objects = self.reach()
        if self.count == epoch.count and _same(objects, self.objects) and self._unchanged():
            return self.number
        self.objects, self.count = objects, epoch.count
        walk = Walk(objects)
        self.walk = walk
        self.number = self.tokens.setdefault(tuple(walk.parts), len(self.tokens))
        return self.number


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(is_, a, b))
