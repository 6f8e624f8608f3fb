"""Control flow on a backend that runs it from Python: rounds of executables over its buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.spec import Spec
from proa.ops.control import branch, loop

Run = Callable[[list[Any]], list[Any]]


class Rows(NamedTuple):
    """What control flow does with a backend's buffers: read one that decides, make one for
    stacked results, take a row, write a row."""

    truth: Callable[[Any], bool]
    number: Callable[[Any], int]
    fresh: Callable[[Spec], Any]
    row: Callable[[Any, int], Any]
    write: Callable[[Any, int, Any], Any]


def rounds(entry: Entry, compiled: Callable[[Graph], Run], on: Rows) -> Callable[..., Any]:
    """A function of buffers that does what the entry says; one result stands alone.

    `compiled(graph)` is a function from buffers to a list of buffers.
    """
    if entry.primitive is branch:
        run = _branch(entry, compiled, on)
    elif entry.primitive is loop:
        run = _loop(entry, compiled, on)
    else:
        run = _scan(entry, compiled, on)
    return (lambda *given: run(list(given))[0]) if entry.single else lambda *given: run(list(given))


def _branch(entry: Entry, compiled: Callable[[Graph], Run], on: Rows) -> Run:
    runs = [compiled(g) for g in entry.params[0]]
    last = len(runs) - 1

    def run(given: list[Any]) -> list[Any]:
        return runs[min(max(on.number(given[0]), 0), last)](given[1:])

    return run


def _loop(entry: Entry, compiled: Callable[[Graph], Run], on: Rows) -> Run:
    goes, step = [compiled(g) for g in entry.params]
    first = len(entry.ins) - len(entry.outs)

    def run(given: list[Any]) -> list[Any]:
        constants = given[:first]
        while on.truth(goes(given)[0]):
            given = constants + step(given)
        return given[first:]

    return run


def _scan(entry: Entry, compiled: Callable[[Graph], Run], on: Rows) -> Run:
    body, length, backwards, first, carry = entry.params
    step, last = compiled(body), first + carry
    order = range(length - 1, -1, -1) if backwards else range(length)

    def run(given: list[Any]) -> list[Any]:
        constants, now, xs = given[:first], given[first:last], given[last:]
        stacks = [on.fresh(s) for s in entry.outs[carry:]]
        for i in order:
            found = step([*constants, *now, *[on.row(x, i) for x in xs]])
            now = found[:carry]
            for stack, y in zip(stacks, found[carry:], strict=True):
                on.write(stack, i, y)
        return now + stacks

    return run
