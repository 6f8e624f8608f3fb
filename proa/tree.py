"""Trees: nested tuples, lists, dicts and named tuples whose leaves are anything else.

`flatten` gives the leaves and a hashable structure; `unflatten` is its inverse. Dicts keep their
own order of keys, so that two dicts with the same items in another order are two structures only
if their order is seen; here it is: keys are part of the structure as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, final

from proa.errors import ArgumentError, message


@final
class Structure:
    """The shape of a tree without its leaves. Hashable; `leaves` counts them."""

    __slots__ = ("kind", "keys", "children", "leaves", "_hash")

    def __init__(self, kind: Any, keys: tuple[Any, ...], children: tuple[Structure, ...]) -> None:
        self.kind = kind
        self.keys = keys
        self.children = children
        self.leaves: int = 1 if kind is None else sum(c.leaves for c in children)
        self._hash = hash((kind, keys, children))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not Structure or self._hash != other._hash:
            return False
        same = self.kind is other.kind and self.keys == other.keys
        return same and self.children == other.children

    def __repr__(self) -> str:
        return repr(unflatten(self, ["*"] * self.leaves))


LEAF: Final = Structure(None, (), ())


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Leaves from left to right, and the structure.

    >>> flatten({"a": 1, "b": (2, 3)})[0]
    [1, 2, 3]
    """
    found: list[Any] = []
    return found, _flatten(tree, found, 0)


def _flatten(tree: Any, leaves: list[Any], depth: int) -> Structure:
    if depth > 200:
        raise ArgumentError(message("tree", "more than 200 levels", "a tree without cycles"))
    kind = type(tree)
    if kind is tuple or kind is list:
        return Structure(kind, (), tuple([_flatten(t, leaves, depth + 1) for t in tree]))
    if kind is dict:
        children = tuple([_flatten(t, leaves, depth + 1) for t in tree.values()])
        return Structure(dict, tuple(tree), children)
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return Structure(kind, (), tuple([_flatten(t, leaves, depth + 1) for t in tree]))
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The tree of this structure with these leaves."""
    if len(leaves) != structure.leaves:
        given = f"{len(leaves)} leaves"
        raise ArgumentError(message("unflatten", given, f"{structure.leaves}"))
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    kind = structure.kind
    if kind is None:
        return next(leaves)
    children = [_unflatten(c, leaves) for c in structure.children]
    if kind is dict:
        return dict(zip(structure.keys, children, strict=True))
    if kind is list:
        return children
    return tuple(children) if kind is tuple else kind(*children)


def paths(structure: Structure) -> list[str]:
    """Where each leaf stands, as Python writes it.

    >>> paths(flatten({"a": 1, "b": (2, 3)})[1])
    ["['a']", "['b'][0]", "['b'][1]"]
    """
    if structure.kind is None:
        return [""]
    fields = getattr(structure.kind, "_fields", None)
    keys = [f"[{k!r}]" for k in structure.keys or range(len(structure.children))]
    if fields is not None:
        keys = [f".{name}" for name in fields]
    rows = zip(keys, structure.children, strict=True)
    return [key + rest for key, child in rows for rest in paths(child)]


def map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """A tree of the same structure whose leaves are `function(leaf, ...)`.

    >>> map(lambda a, b: a + b, [1, (2,)], [10, (20,)])
    [11, (22,)]
    """
    leaves, structure = flatten(tree)
    columns = [leaves]
    for other in rest:
        more, same = flatten(other)
        if same != structure:
            raise ArgumentError(message("tree.map", f"{same}", f"the structure {structure}"))
        columns.append(more)
    return unflatten(structure, [function(*row) for row in zip(*columns, strict=True)])
