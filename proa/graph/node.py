"""`Node` and `Value`: the recorded graph, before it is a Graph of integers.

A node knows its inputs and not its results; a value knows its node. So there is no cycle, and
what no handle and no pending node needs is freed at once.
"""

from __future__ import annotations

from itertools import count
from types import CodeType
from typing import Any, Final, final

from proa.graph.entry import Entry
from proa.graph.spec import Spec

Where = tuple[CodeType, int] | None
next_serial: Final = count().__next__


@final
class Node:
    """An entry applied to values. Pure structure: no buffer, no device.

    `serial` is the order of recording. `saved` holds the residuals that a computed composite kept
    for its derivative; `spent` says that a backward pass has consumed the node.
    """

    __slots__ = ("entry", "inputs", "where", "scope", "serial", "saved", "spent")

    def __init__(self, entry: Entry, inputs: tuple[Value, ...], where: Where, scope: str) -> None:
        self.entry = entry
        self.inputs = inputs
        self.where = where
        self.scope = scope
        self.serial = next_serial()
        self.saved: tuple[Value, ...] = ()
        self.spent = False


@final
class Value:
    """Result `index` of `node`. Computed when `buffer` is not None; then a node that is still
    there is the tape. `leaf` carries the gradient handle and hooks of what users see.

    Inside a Builder `node` is that Builder and `index` the slot.
    """

    __slots__ = ("node", "index", "spec", "buffer", "leaf")

    def __init__(
        self, node: Any, index: int, spec: Spec, buffer: Any = None, leaf: Any = None
    ) -> None:
        self.node = node
        self.index = index
        self.spec = spec
        self.buffer = buffer
        self.leaf = leaf

    @property
    def value(self) -> Value:
        """Itself: a value and a handle on one are read alike."""
        return self

    @property
    def is_pending(self) -> bool:
        return self.buffer is None and self.node is not None

    def __repr__(self) -> str:
        return f"Value({self.spec})"


def line_of(where: Where) -> str:
    """`file.py:12` for a recorded place; computed only when somebody asks."""
    if where is None:
        return "an unknown line"
    code, offset = where
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= offset < end and number is not None:
            line = number
            break
    return f"{code.co_filename}:{line}"


SCALAR_TYPES: Final = frozenset({bool, int, float, complex})
