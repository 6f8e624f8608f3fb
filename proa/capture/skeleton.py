"""The static skeleton of what a function can reach: everything but the contents of tensors.

Numbers, strings, enums and tuples of them count by value, containers and small arrays by content,
functions by their code and what it can name, plain objects by identity and by their fields and
classes, anything else by identity (also arrays above 4 KiB: they would be read at every call).
Tensors count by identity, by whether they require a gradient and by their hooks. What belongs to
Proa, NumPy, the standard library or an installed package is not walked, but for what its closures
hold. A method counts once its name occurs in code that was reached or a foreign base class has it
too, an attribute of a module once it is named.

Not seen: `threading.local`, context variables, the variables of the shell, `globals()[name]`,
`getattr` and imports by a computed name, what a weak reference or an iterator leads to, what a
property, `__getattr__` or a function reads from outside (files, the clock, caches, `random`),
fields of objects of foreign types that are no containers, replaced builtins, other base classes.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dis import get_instructions
from enum import Enum
from functools import cached_property, partial, partialmethod
from itertools import chain
from operator import attrgetter, is_, itemgetter
from types import (
    BuiltinMethodType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, Final, final

import numpy as np

from proa.dtypes import Dtype
from proa.record.live import epoch
from proa.tensor import Tensor

_BY_VALUE: Final = frozenset({bool, int, str, bytes, type(None), Dtype, range})
_SCALARS: Final = (int, str, float, complex, bytes)
_ITEMS: Final = (list, set, frozenset, deque)
_OPEN: Final = frozenset({
    "types.SimpleNamespace", "argparse.Namespace", "collections.UserDict", "collections.UserList",
    "collections.UserString", "collections.ChainMap",
})  # fmt: skip
_UNWALKED: Final = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__",
    "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__firstlineno__",
    "__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__abstractmethods__", "_abc_impl", "__slots__", "__parameters__", "__orig_bases__",
})  # fmt: skip
_OPTIMIZER: Final = frozenset({"name", "defaults", "param_groups", "params"})
_ABSENT: Final = object()
_COMPARED: Final = 4 << 10  # bytes of an array up to which its content counts


def roots(function: Any) -> list[Any]:
    """Where the walk of a function begins: a method's object and function, else itself."""
    if type(function) is MethodType:  # made anew at each look
        return [function.__func__, function.__self__]
    return [function]


# What code names.


def global_names(code: CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """The globals that a function and the functions inside it name, and all words in them."""
    return _names(code)[:2]


def _names(code: CodeType) -> tuple[tuple[str, ...], frozenset[str], tuple[str, ...]]:
    """Of a function and the functions inside it: global names, all names, imported modules."""
    found = _NAMES.get(code)
    if found is None:
        spaces: dict[str, None] = {}
        words = [c for c in code.co_consts if type(c) is str and c.isidentifier()]
        names = {*code.co_names, *words}
        modules: dict[str, None] = {}
        for step in get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
                spaces[step.argval] = None
            elif step.opname == "IMPORT_NAME":
                modules[step.argval] = None
        for inner in code.co_consts:
            if type(inner) is CodeType:
                more = _names(inner)
                spaces.update(dict.fromkeys(more[0]))
                names |= more[1]
                modules.update(dict.fromkeys(more[2]))
        found = _NAMES[code] = (tuple(spaces), frozenset(names), tuple(modules))
    return found


_NAMES: Final[dict[CodeType, tuple[tuple[str, ...], frozenset[str], tuple[str, ...]]]] = {}


def is_foreign(name: Any) -> bool:
    """Whether a module, by its name, is the library's, NumPy's, Python's own or installed."""
    if type(name) is not str:
        return False
    found = _FOREIGN.get(name)
    if found is None:
        top = name.partition(".")[0]
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        found = top in sys.stdlib_module_names or top in ("builtins", "numpy", "proa")
        found = found or "site-packages" in file or "dist-packages" in file
        if found or name in sys.modules:
            _FOREIGN[name] = found
    return found


_FOREIGN: Final[dict[str, bool]] = {"__main__": False}


def _open(kind: type) -> bool:
    """A foreign type whose objects' fields count: a plain one, or one of an installed package."""
    top = kind.__module__.partition(".")[0]
    if top in ("builtins", "numpy", "proa") or top in sys.stdlib_module_names:
        return f"{kind.__module__}.{kind.__qualname__}" in _OPEN
    return True


def _content(o: Any) -> tuple[Any, ...]:
    """An array or buffer, by content."""
    if not isinstance(o, np.ndarray):
        return len(o), getattr(o, "typecode", ""), zlib.crc32(o)
    flat = np.ascontiguousarray(o).reshape(-1)
    return o.shape, o.dtype, zlib.crc32(flat.view(np.uint8).data) if flat.size else 0


class _Objects:
    """The elements of an array of Python objects."""

    def __iter__(self: Any) -> Any:
        return iter([*self.flat])


@final
class Walk:
    """The fingerprint of some objects, and what may change unseen, each with what it held.

    `alive` holds what counts by identity alone, so that no other takes its place.
    """

    __slots__ = (
        "parts", "alive", "kept", "seen", "stack", "names", "methods", "modules",
        "functions", "code", "cells", "contents", "unbound", "spaces", "containers", "lengths",
        "items", "others", "other_items", "records", "dicts", "slots", "slot_items", "arrays",
        "bytes", "fields", "tensors", "globals",
    )  # fmt: skip

    def __init__(self, objects: Iterable[Any]) -> None:
        self.parts: list[Any] = []
        self.alive: list[Any] = []
        self.kept: list[Any] = []
        self.seen: dict[int, int] = {}
        self.names: set[str] = set()
        self.methods: dict[int, tuple[str, Any]] = {}
        self.modules: dict[int, Any] = {}
        self.functions: list[Any] = []
        self.cells: list[Any] = []
        self.unbound: list[Any] = []
        self.globals: dict[int, tuple[dict[str, Any], dict[str, None]]] = {}
        self.containers: list[Any] = []
        self.others: list[tuple[Any, Any]] = []
        self.records: list[Any] = []
        self.slots: list[tuple[Any, Any]] = []
        self.arrays: list[Any] = []
        self.fields: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self.tensors: list[Any] = []
        self.stack: list[Any] = [*reversed([*objects])]
        while self.stack or self._reached_by_name():
            self.add(self.stack.pop())
        self._hold()

    # Walking: each object adds what it is and how many parts follow, so parts need no end.

    def _push(self, *parts: Any) -> None:
        self.parts.append(len(parts))
        self.stack += reversed(parts)

    def _identity(self, o: Any) -> None:
        self.parts.append(id(o))
        self.alive.append(o)

    def add(self, o: Any) -> None:
        kind = type(o)
        if kind in _BY_VALUE:
            self.parts.append((kind, o))
        elif kind is float or kind is complex:
            self.parts.append((kind, repr(o)))
        elif (number := self.seen.get(id(o))) is not None:
            self.parts.append(("again", number))
        else:
            self.seen[id(o)] = len(self.seen)
            self.kept.append(o)
            self._object(o, kind)

    def _object(self, o: Any, kind: type) -> None:
        if kind is Tensor:
            self._tensor(o)
        elif kind is tuple:
            self.parts.append("tuple")
            self._push(*o)
        elif kind is FunctionType:
            self._function(o)
        elif kind is MethodType:
            self.parts.append("method")
            self._push(o.__func__, o.__self__)
        elif issubclass(kind, type):
            self._class(o)
        elif issubclass(kind, ModuleType):
            self._identity(o)
            if not is_foreign(o.__name__):
                self.modules[id(o)] = o
        elif issubclass(kind, Enum):
            self.parts.append((kind, o.name))
        elif hasattr(kind, "jit_fields"):
            self._library(o, kind)
        elif issubclass(kind, np.generic):
            self.parts.append((kind, o.tobytes()))
        elif issubclass(kind, (np.ndarray, bytearray, array)):
            self._array(o, kind)
        elif kind is CellType:
            self._cell(o)
        elif not self._wrapper(o, kind):
            self._plain(o, kind)

    def _tensor(self, o: Any) -> None:
        leaf = o.leaf
        self.parts.append(("tensor", id(o), leaf is not None and leaf.stops))
        if leaf is not None:
            self.containers.append(leaf.hooks)
            self._push(*leaf.hooks)
        elif o.value.spec.grad:
            self.tensors.append(o)

    def _function(self, o: Any) -> None:
        cells, defaults, named = o.__closure__ or (), o.__defaults__ or (), o.__kwdefaults__ or {}
        if is_foreign(o.__module__):
            self._identity(o)
            if cells:  # a wrapper: what it holds may be the user's
                self._push(*cells, *defaults, *named.values())
            return
        code, space = o.__code__, o.__globals__
        self._identity(code)
        self.functions.append(o)
        spaces, names, imported = _names(code)
        self.names |= names
        watched = self.globals.setdefault(id(space), (space, {}))[1]
        watched.update(dict.fromkeys(spaces))
        if named:
            self._dict(named, dict)
        if o.__dict__:
            self._dict(o.__dict__, dict)
        found = [space.get(n, _ABSENT) for n in spaces]
        modules = [sys.modules[n] for n in imported if n in sys.modules]
        own = [*named, *named.values(), *o.__dict__, *o.__dict__.values()]
        self._push(*defaults, *own, *cells, *found, *modules)

    def _cell(self, o: Any) -> None:
        try:
            held = o.cell_contents
        except ValueError:  # a variable that is not bound yet
            self.unbound.append(o)
            self.parts.append("unbound")
            return
        self.cells.append(o)
        self.parts.append("cell")
        self._push(held)

    def _class(self, o: Any) -> None:
        self._identity(o)
        if is_foreign(o.__module__) or issubclass(o, Enum):
            return
        bases = [b for b in o.__mro__[:-1] if is_foreign(b.__module__)]
        for of in o.__mro__:
            if is_foreign(of.__module__) or (of is not o and id(of) in self.seen):
                continue
            if of is not o:
                self.seen[id(of)] = len(self.seen)
                self.kept.append(of)
            space = vars(of)
            self.containers += [space.keys(), space.values()]
            followed = []
            for name, item in space.items():
                if name in _UNWALKED:
                    continue
                if type(item) is FunctionType and not name.startswith("__"):
                    self._identity(item)
                    self.methods[id(item)] = (name, item)
                    if any(hasattr(b, name) for b in bases):  # called from there
                        self.names.add(name)
                elif type(item) is not MemberDescriptorType:
                    followed += [name, item]
            self._push(*followed)

    def _library(self, o: Any, kind: type) -> None:
        """Proa's modules and optimizers, whose changes advance the epoch."""
        fields = o.jit_fields()
        self.parts.append((kind, len(fields)))
        own: list[Any] = []
        if not is_foreign(kind.__module__):
            own.append(kind)
            space = getattr(o, "__dict__", {})
            if "_parameters" not in space:
                self._dict(space, dict)
                for name, item in space.items():
                    if name not in _OPTIMIZER and not name.startswith("_"):
                        own += [name, item]
        self._push(*chain.from_iterable(fields.items()), *own)

    def _array(self, o: Any, kind: type) -> None:
        if issubclass(kind, np.ndarray) and o.dtype.hasobject:
            self.parts.append(("objects", o.shape))
            self.others.append((o, _Objects))
            self._push(*_Objects.__iter__(o))
            return
        size = o.nbytes if issubclass(kind, np.ndarray) else memoryview(o).nbytes
        if size > _COMPARED:
            self._identity(o)
            return
        found = _content(o)
        self.arrays.append((o, found))
        self.parts.append((kind, *found))

    def _wrapper(self, o: Any, kind: type) -> bool:
        """What only leads on to other things."""
        if kind is partial or kind is partialmethod:
            self._dict(o.keywords, dict)
            inner: tuple[Any, ...] = (o.func, *o.args, *o.keywords, *o.keywords.values())
        elif kind in (staticmethod, classmethod):
            inner = (o.__func__,)
        elif kind is property:
            inner = (o.fget, o.fset, o.fdel)
        elif kind is cached_property:
            inner = (o.func,)
        elif kind in (BuiltinMethodType, MethodWrapperType):
            self.parts.append(o.__name__)
            inner = () if isinstance(o.__self__, ModuleType) else (o.__self__,)
        elif hasattr(kind, "defvjp") or hasattr(kind, "defjvp"):
            getter = attrgetter("function", "rules")
            inner = getter(o)
            self.fields.append((o, getter, inner))
        elif is_foreign(kind.__module__) and callable(o):
            space = getattr(o, "__dict__", None) or {}
            if "__wrapped__" not in space:
                return False
            own = space.get("function")  # of a jitted function
            inner = (space["__wrapped__"], own)
        else:
            return False
        self.parts.append(kind)
        self._push(*inner)
        return True

    def _plain(self, o: Any, kind: type) -> None:
        """Containers, numbers of the user's own types, plain objects."""
        parts: list[Any] = []
        foreign = is_foreign(kind.__module__)
        if issubclass(kind, dict):
            self._dict(o, kind)
            base: Any = OrderedDict if issubclass(kind, OrderedDict) else dict
            parts += [*base.keys(o), *base.values(o)]
            if issubclass(kind, defaultdict):
                self.fields.append((o, _factory, _factory(o)))
                parts.append(o.default_factory)
        elif kind is MappingProxyType:
            self.containers += [o.keys(), o.values()]
            parts += [*o.keys(), *o.values()]
        elif issubclass(kind, _ITEMS):
            of = next(b for b in _ITEMS if issubclass(kind, b))
            if kind is of:
                self.containers.append(o)
            else:
                self.others.append((o, of))
            parts += of.__iter__(o)
        elif issubclass(kind, tuple):
            parts += tuple.__iter__(o)
        elif issubclass(kind, _SCALARS):
            base = next(b for b in _SCALARS if issubclass(kind, b))
            self.parts.append(base.__repr__(o))
        elif foreign and not _open(kind):
            self._identity(o)
            return
        else:
            self.parts.append(id(o))
            if any(is_foreign(b.__module__) for b in kind.__mro__[:-1]):  # it may hide something
                self.alive.append(o)
        self.parts.append(kind)
        space = _dict_of(o) if kind.__dictoffset__ else None
        if type(space) is dict:
            self.records.append(o)
            self._dict(space, dict)
            parts += [*space, *space.values()]
        if not foreign:
            parts.append(kind)
            parts += self._slots_of(o, kind)
        self._push(*parts)

    def _dict(self, o: Any, kind: type) -> None:
        base: Any = OrderedDict if issubclass(kind, OrderedDict) else dict
        self.containers += [base.keys(o), base.values(o)]

    def _slots_of(self, o: Any, kind: type) -> list[Any]:
        found: list[Any] = []
        for of in kind.__mro__:
            if not is_foreign(of.__module__):
                for name, slot in vars(of).items():
                    if type(slot) is MemberDescriptorType:
                        self.slots.append((slot, o))
                        found += [name, _slot(slot, o)]
        return found

    def _reached_by_name(self) -> bool:
        """Attributes of modules and methods of classes that code which was reached names."""
        for key, (name, function) in list(self.methods.items()):
            if name in self.names:
                del self.methods[key]
                self.stack.append(function)
        for module in self.modules.values():
            space = vars(module)
            watched = self.globals.setdefault(id(space), (space, {}))[1]
            for name in sorted(self.names - watched.keys()):
                watched[name] = None
                if name in space:
                    self.parts.append((id(module), name))
                    self.stack.append(space[name])
        return bool(self.stack)

    # Holding: what was found, flat, so that comparing it is a few calls.

    def _hold(self) -> None:
        self.code = [*chain.from_iterable(map(_OF_FUNCTION, self.functions))]
        self.contents = [c.cell_contents for c in self.cells]
        self.lengths = [*map(len, self.containers)]
        self.items = [*chain.from_iterable(self.containers)]
        self.other_items = [[*of.__iter__(o)] for o, of in self.others]
        self.dicts = [*chain.from_iterable(map(_OF_RECORD, self.records))]
        self.slot_items = [_slot(s, o) for s, o in self.slots]
        self.spaces: list[Any] = []
        for space, names in self.globals.values():
            there = [n for n in names if n in space]
            absent = frozenset(names).difference(there)
            getter = itemgetter(*there, there[0]) if there else None
            self.spaces.append((space, getter, getter and getter(space), absent))
        self.kept = []
        self.seen = {}

    def holds(self) -> bool:
        """Whether all is as it was found, as far as the epoch does not tell."""
        if not all(map(is_, chain.from_iterable(map(_OF_FUNCTION, self.functions)), self.code)):
            return False
        try:
            if self.cells and not all(map(is_, map(_OF_CELL, self.cells), self.contents)):
                return False
            for space, getter, held, absent in self.spaces:
                if getter is not None and not all(map(is_, getter(space), held)):
                    return False
                if absent and not space.keys().isdisjoint(absent):
                    return False
        except (KeyError, ValueError):  # a name that is gone, a variable that was unbound
            return False
        if self.containers and (
            [*map(len, self.containers)] != self.lengths
            or not all(map(is_, chain.from_iterable(self.containers), self.items))
        ):
            return False
        if self.records and not all(
            map(is_, chain.from_iterable(map(_OF_RECORD, self.records)), self.dicts)
        ):
            return False
        for o, found in self.arrays:
            if _content(o) != found:
                return False
        return self._rare_holds()

    def _rare_holds(self) -> bool:
        for (o, of), held in zip(self.others, self.other_items, strict=True):
            if not _same([*of.__iter__(o)], held):
                return False
        for (slot, o), item in zip(self.slots, self.slot_items, strict=True):
            if _slot(slot, o) is not item:
                return False
        for o, getter, inner in self.fields:
            if not all(map(is_, getter(o), inner)):
                return False
        for tensor in self.tensors:
            if tensor.leaf is not None:
                return False
        return not any(map(_bound, self.unbound))


_OF_FUNCTION: Final = attrgetter("__code__", "__defaults__", "__kwdefaults__")
_OF_CELL: Final = attrgetter("cell_contents")
_OF_RECORD: Final = attrgetter("__dict__", "__class__")


def _factory(o: Any) -> tuple[Any]:
    return (o.default_factory,)


def _slot(slot: Any, o: Any) -> Any:
    try:
        return slot.__get__(o)
    except AttributeError:  # not assigned yet
        return _ABSENT


def _dict_of(o: Any) -> Any:
    try:
        return o.__dict__
    except Exception:  # a property of the user's
        return None


def _bound(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


@final
class Skeleton:
    """Finds out whether anything static has changed since the last call.

    `token()` is the same number as long as nothing has. While the objects are the same and the
    epoch stands still, that is one comparison, and one of each plain thing with what it held.
    """

    __slots__ = ("reach", "objects", "count", "number", "tokens", "walk", "alive")

    def __init__(self, reach: Callable[[], list[Any]]) -> None:
        self.reach = reach
        self.objects: list[Any] = []
        self.count = -1
        self.number = -1
        self.tokens: dict[tuple[Any, ...], int] = {}
        self.alive: list[Any] = []
        self.walk: Any = None

    def token(self) -> int:
        objects = self.reach()
        if self.count == epoch.count and _same(objects, self.objects) and self.walk.holds():
            return self.number
        count, self.count = epoch.count, -1  # an interruption leaves nothing that looks found
        self.walk = walk = Walk(objects)
        key, known = tuple(walk.parts), len(self.tokens)
        self.number = self.tokens.setdefault(key, known)
        if self.number == known:
            self.alive.append(walk.alive)
        walk.parts, walk.alive = [], []
        self.objects, self.count = objects, count
        return self.number


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(is_, a, b))
