"""Which inputs of a program nobody will read again: their memory may hold its results.

A buffer is donated if all references to it and to its value are known and end with this dispatch.
References are counted, so whatever else holds one (a handle, a tape, an export, pending work of
another thread) prevents it. Only what an executable asks for (`overwrites`) is looked at.

A donated buffer that was overwritten has no contents until the handles are assigned. A thread that
meets one before waits until they are, and looks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from sys import getrefcount
from threading import RLock
from typing import Any

from proa.errors import Overwritten
from proa.graph.node import Node, Value


@contextmanager
def donated(buffers: Sequence[Any], which: Iterable[int]) -> Iterator[None]:
    """Inside the block these buffers may be overwritten."""
    chosen = [buffers[i] for i in which]
    busy = RLock()
    with busy:
        for b in chosen:
            b.donated = busy
        try:
            yield
        finally:
            for b in chosen:
                b.donated = None


def wait_for(error: Overwritten) -> None:
    """Until another thread has replaced the buffer that it was about to replace."""
    with error.busy or nullcontext():
        pass


def last_reads(
    leaves: Sequence[Value], buffers: Sequence[Any], wanted: Iterable[int], nodes: Iterable[Node]
) -> list[int]:
    """Those of the wanted leaves that nothing reads but these nodes, which end with the dispatch.
    `buffers` is one more list that holds the buffers of the leaves."""
    lists = {id(t): t for n in nodes for t in (n.inputs, n.saved)}
    uses = Counter(map(id, chain.from_iterable(lists.values())))
    # Beside those: the list, and the argument of the call; of a buffer its value too.
    return [
        i for i in wanted
        if getrefcount(leaves[i]) == uses[id(leaves[i])] + 2 and getrefcount(buffers[i]) == 3
    ]  # fmt: skip


def is_last_read(buffers: Sequence[Any], i: int, handle: Any) -> bool:
    """The same for the state of a jitted function, which is held by its handle alone."""
    return getrefcount(handle.value) == 2 and getrefcount(buffers[i]) == 3
