"""Which inputs of a program nobody will read again: their memory may hold its results.

A buffer is donated if all references to it and to its value are known and end with this dispatch.
References are counted, so whatever else holds one (a handle, a tape, an export, pending work of
another thread) prevents it. Only what an executable asks for (`overwrites`) is looked at.

A donated buffer that was overwritten has no contents until the handles are assigned; then it is the
result, if its handle keeps it. A thread that meets one before waits until then, and looks again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from sys import getrefcount
from threading import RLock
from typing import Any, Final

from proa.compile.backend import NOBODY, Donation
from proa.errors import Overwritten
from proa.graph.node import Node, Value

_open: Final[set[Donation]] = set()  # those whose dispatch is under way


@contextmanager
def donated(
    buffers: Sequence[Any], which: Iterable[int], heirs: Mapping[int, int] = NOBODY
) -> Iterator[Donation]:  # fmt: skip
    """Inside the block these buffers may be overwritten; handles are assigned when it ends."""
    chosen, donation = [buffers[i] for i in which], Donation(heirs)
    with donation.lock:
        _open.add(donation)
        for b in chosen:
            b.donated = donation
        try:
            yield donation
            for b, array, address in donation.taken:
                b.array, b.address = array, address
        finally:
            for b in chosen:
                b.donated = None
            _open.discard(donation)
    late, donation.late = donation.late, None
    if late is not None:
        raise late


def again(error: Overwritten, attempt: Callable[..., Any], *given: Any) -> Any:
    """What failed because another thread was about to replace a buffer: tried again when that is
    done, after as many steps of that thread as it takes. The error, if it is done for ever."""
    last: Any = None
    try:
        while error.busy is not last:
            last = error.busy
            with last.lock:
                pass
            try:
                return attempt(*given)
            except Overwritten as later:
                error = later
        raise error
    finally:
        del error  # it holds this frame


def _after_fork() -> None:
    """What another thread was about to replace when this process was forked never will be."""
    for donation in list(_open):
        if not donation.is_mine:
            donation.lock = RLock()
            _open.discard(donation)


os.register_at_fork(after_in_child=_after_fork)


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


def last_states(buffers: Sequence[Any], states: Iterable[tuple[int, Any, Any]]) -> list[int]:
    """The same for states of a jitted function (input, handle, what its values have for `leaf`),
    each held by its handle alone."""
    return [
        i for i, h, leaf in states
        if getrefcount(h.value) == 2 and getrefcount(buffers[i]) == 3 and h.value.leaf is leaf
    ]  # fmt: skip
