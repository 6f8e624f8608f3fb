"""What a signature of `jit` is, and how two of them differ, in words.

The skeleton compares in a flat row of parts that have no names. Here the same things are walked
with the names that a reader knows them by, once for each new signature.
"""

from __future__ import annotations

import inspect
from enum import Enum
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

import numpy as np

from proa import tree
from proa.capture.arguments import Arguments
from proa.capture.skeleton import global_names, is_foreign
from proa.dtypes import Dtype
from proa.graph.node import Where, line_of
from proa.record.live import NO_GRAD, caller
from proa.tensor import Tensor

_PLAIN: Final = (bool, int, float, complex, str, bytes, type(None), Dtype, range, Enum, np.generic)
_MOST: Final = 20_000  # names; of a larger model only so many are told apart
_SHOWN: Final = 8  # differences in a text


class Fact(NamedTuple):
    """What two signatures are compared by, and its words."""

    key: Any
    text: str


Facts = dict[str, Fact]


class Told(NamedTuple):
    """A signature in words: its arguments, the modes, and what the function reaches; the line of
    the call that brought it, and how it differs from the one before."""

    arguments: Facts
    modes: Facts
    reached: Facts
    where: Where
    changes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The arguments on one line, and a mode that is not the usual one."""
        shown = [f"{name}: {fact.text}" for name, fact in self.arguments.items()]
        without = [] if self.modes["gradients"].key else ["no_grad"]
        return ", ".join([*shown, *without])[:400]


def told(
    function: Any, given: Arguments, modes: tuple[Any, ...], before: Told | None
) -> Told:  # fmt: skip
    """A new signature, and what differs from that of the call before."""
    mode, dtype, device = modes
    arguments, ids = arguments_of(function, given), set(map(id, given.others))
    rows = zip(arguments, given.leaves, strict=True)
    now = Told(
        arguments,
        {
            "gradients": Fact(not mode & NO_GRAD, "off" if mode & NO_GRAD else "on"),
            "the default dtype": Fact(dtype, dtype.name),
            "the default device": Fact(device, str(device)),
        },
        reached(function, [row for row in rows if id(row[1]) in ids]), caller(), (),
    )  # fmt: skip
    if before is None:
        return now
    shared = before.reached if before.reached == now.reached else now.reached
    return now._replace(reached=shared, changes=tuple(changes(before, now)))


def changes(before: Told, now: Told) -> list[str]:
    """Each difference as a sentence."""
    found = [
        *_changed("argument `{}`", before.arguments, now.arguments),
        *_changed("{}", before.modes, now.modes),
        *_changed("`{}`", before.reached, now.reached),
    ]
    if len(found) > _SHOWN:
        found = [*found[:_SHOWN], f"and {len(found) - _SHOWN} more"]
    return found or ["something that the function reaches, but that has no name here"]


def _changed(form: str, old: Facts, new: Facts) -> list[str]:
    lines = []
    for name in [*old, *[n for n in new if n not in old]]:
        a, b, shown = old.get(name), new.get(name), form.format(name)
        if a is None and b is not None:
            lines.append(f"{shown} is new: {b.text}")
        elif b is None and a is not None:
            lines.append(f"{shown} is gone; it was {a.text}")
        elif a is not None and b is not None and a.key != b.key:
            what = "is another" if a.text == b.text else f"changed from {a.text} to"
            lines.append(f"{shown} {what} {b.text}")
    return lines


# Arguments.


def arguments_of(function: Any, given: Arguments) -> Facts:
    """Each leaf of the arguments by name."""
    structure = given.structure
    positional, named = structure.children if given.kwargs else (structure, tree.LEAF)
    names = _parameter_names(function)
    heads = [*names[: len(positional.children)]]
    heads += [f"argument {i}" for i in range(len(heads), len(positional.children))]
    rows = [*zip(heads, positional.children, strict=True)]
    if given.kwargs:
        rows += zip([str(k) for k in named.keys], named.children, strict=True)
    paths = [head + path for head, child in rows for path in tree.paths(child)]
    kinds = _kinds(given)
    return {
        path: _leaf(leaf, kind)
        for path, leaf, kind in zip(paths, given.leaves, kinds, strict=True)
    }  # fmt: skip


def _parameter_names(function: Any) -> list[str]:
    target = getattr(function, "forward", function)
    try:
        found = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _kinds(given: Arguments) -> list[Any]:
    """The part of the key that belongs to each leaf: a tensor has two."""
    rest, found = iter(given.key[1:]), []
    for leaf in given.leaves:
        found.append((next(rest), next(rest)) if type(leaf) is Tensor else next(rest))
    return found


def _leaf(leaf: Any, kind: Any) -> Fact:
    if type(leaf) is Tensor:
        return Fact(kind, _tensor(leaf))
    if isinstance(kind, type):
        return Fact(kind, "an int" if kind is int else "a float")
    return Fact(kind, _short(leaf) if isinstance(leaf, _PLAIN) else _object(leaf))


# What a function reaches.


def reached(function: Any, others: list[tuple[str, Any]]) -> Facts:
    """Everything static by name, as far as it has one."""
    walk = _Names()
    inner = function
    if type(inner) is MethodType:
        walk.visit("self", inner.__self__)
        inner = inner.__func__
    walk.visit("" if type(inner) is FunctionType else "self", inner)
    for name, other in others:
        walk.visit(name, other)
    walk.run()
    return walk.found


class _Names:
    """A walk by names, first things first."""

    __slots__ = ("found", "seen", "queue", "kept", "words", "methods")

    def __init__(self) -> None:
        self.found: Facts = {}
        self.seen: set[int] = set()
        self.queue: list[tuple[str, Any]] = []
        self.words: set[str] = {"forward", "__call__"}  # names in code that was reached
        self.methods: list[tuple[str, FunctionType]] = []
        self.kept: list[Any] = []  # what is made for the walk must not be taken for what follows

    def visit(self, name: str, o: Any) -> None:
        self.queue.append((name, o))

    def run(self) -> None:
        for name, o in self.queue:  # it grows meanwhile
            if len(self.found) < _MOST:
                self._look(name, o)
            if o is self.queue[-1][1]:
                self._methods_by_name()

    def _methods_by_name(self) -> None:
        """Methods count once code that was reached has their name."""
        known = [(name, f) for name, f in self.methods if name in self.words]
        self.methods = [row for row in self.methods if row not in known]
        self.queue += [(f.__qualname__, f) for _, f in known]

    def _look(self, name: str, o: Any) -> None:
        if isinstance(o, _PLAIN):
            self.found[name] = Fact((type(o), repr(o)), _short(o))
            return
        if type(o) is Tensor:
            stops = o.leaf is not None and o.leaf.stops
            self.found[name] = Fact((id(o), stops), _tensor(o))
            return
        if id(o) in self.seen:
            return
        self.seen.add(id(o))
        self.kept.append(o)
        if type(o) is FunctionType:
            self._function(name, o)
        elif type(o) is MethodType:
            self.visit(name, o.__func__)
            self.visit(f"{name}.__self__", o.__self__)
        elif isinstance(o, (list, tuple, set, frozenset)):
            self.found[f"len({name})"] = Fact(len(o), str(len(o)))
            for i, item in enumerate(o):
                self.visit(f"{name}[{i}]", item)
        elif isinstance(o, dict):
            self.found[f"len({name})"] = Fact(len(o), str(len(o)))
            for key, item in o.items():
                self.visit(f"{name}[{key!r:.40}]", item)
        elif hasattr(type(o), "jit_fields") and not isinstance(o, type):
            self.found[name] = Fact((id(o), type(o)), _object(o))
            for key, item in o.jit_fields().items():
                self.visit(f"{name}.{key}" if name else key, item)
            self._class(type(o))
        elif isinstance(o, np.ndarray):
            self.found[name] = Fact((o.shape, o.dtype, o.tobytes() if o.nbytes <= 4096 else id(o)),
                                    f"an array {o.dtype}{list(o.shape)}")  # fmt: skip
        elif not isinstance(o, ModuleType):
            self._object(name, o)

    def _object(self, name: str, o: Any) -> None:
        kind = o if isinstance(o, type) else type(o)
        self.found[name] = Fact(id(o), _object(o))
        function = getattr(o, "__wrapped__", None)  # of a jitted or decorated function
        if function is not None:
            self.visit(name, function)
        if is_foreign(kind.__module__):
            return
        for key, item in _fields(o).items() if kind is not o else ():
            if not key.startswith("__") and not isinstance(item, (FunctionType, property)):
                self.visit(f"{name}.{key}", item)
        self._class(kind)

    def _class(self, kind: type) -> None:
        """Fields of a class of the user's, and its methods, should they be called."""
        for of in kind.__mro__:
            if is_foreign(of.__module__) or id(of) in self.seen:
                continue
            self.seen.add(id(of))
            for key, item in vars(of).items():
                if isinstance(item, FunctionType):
                    self.methods.append((key, item))
                elif isinstance(item, _PLAIN) and not key.startswith("__"):
                    self.visit(f"{of.__name__}.{key}", item)

    def _function(self, name: str, o: Any) -> None:
        if name:
            self.found[name] = Fact(id(o.__code__), f"the function {o.__name__}")
        for free, cell in zip(o.__code__.co_freevars, o.__closure__ or (), strict=True):
            try:
                self.visit(free, cell.cell_contents)
            except ValueError:  # not bound yet
                continue
        for i, item in enumerate(o.__defaults__ or ()):
            self.visit(f"default {i} of {o.__name__}", item)
        for key, item in (o.__kwdefaults__ or {}).items():
            self.visit(f"default {key} of {o.__name__}", item)
        if is_foreign(o.__module__):
            return
        names, words = global_names(o.__code__)
        self.words |= words
        for key in names:
            item = o.__globals__.get(key)
            if isinstance(item, ModuleType) and not is_foreign(item.__name__):
                for word in sorted(words & vars(item).keys()):
                    self.visit(f"{key}.{word}", vars(item)[word])
            elif key in o.__globals__:
                self.visit(key, item)


def _fields(o: Any) -> dict[str, Any]:
    try:
        found = dict(vars(o))
    except TypeError:
        found = {}
    for kind in type(o).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if isinstance(name, str) and hasattr(o, name):
                found.setdefault(name, getattr(o, name))
    return found


# Words.


def _short(o: Any) -> str:
    text = repr(o)
    return text if len(text) <= 60 else text[:57] + "..."


def _tensor(t: Tensor) -> str:
    if t.leaf is not None and t.leaf.stops:
        return f"{t.value.spec.plain} that requires a gradient"
    return f"{t.value.spec.plain} on the tape" if t.value.spec.grad else f"{t.value.spec}"


def _object(o: Any) -> str:
    return f"class {o.__name__}" if isinstance(o, type) else f"{type(o).__name__} object"


def why_text(name: str, number: int, now: Told) -> str:
    """What brought a new signature, in a few lines."""
    head = f"[{name}] signature {number}, first met at {line_of(now.where)}: ({now.text})"
    return "\n".join([head, *[f"  {line}" for line in now.changes or ["it is the first"]]])
