"""Emitters of control flow: XLA has it whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from proa.backends.xla.elementwise import Function
from proa.graph.entry import Entry
from proa.graph.graph import Graph

Walk = Callable[[Graph, Sequence[Any]], list[Any]]


def table(walk: Walk) -> dict[str, Function]:
    """Emitters by name; `walk` emits a graph on arrays and gives its results."""

    def branch(entry: Entry, index: Any, *operands: Any) -> Any:
        runs = [lambda *given, g=g: walk(g, given) for g in entry.params[0]]
        return _given(entry, lax.switch(index, runs, *operands))

    def loop(entry: Entry, *operands: Any) -> Any:
        condition, body = entry.params
        first = len(operands) - len(entry.outs)
        constants = operands[:first]
        found = lax.while_loop(
            lambda carry: walk(condition, [*constants, *carry])[0],
            lambda carry: walk(body, [*constants, *carry]), list(operands[first:]),
        )  # fmt: skip
        return _given(entry, found)

    def scan(entry: Entry, *operands: Any) -> Any:
        body, length, backwards, first, carry = entry.params
        last, constants = first + carry, operands[:first]

        def step(now: Any, rows: Any) -> Any:
            found = walk(body, [*constants, *now, *rows])
            return found[:carry], found[carry:]

        xs = list(operands[last:])
        now, ys = lax.scan(step, list(operands[first:last]), xs, length, backwards)
        return _given(entry, [*now, *ys])

    return {"branch": branch, "loop": loop, "scan": scan}


def _given(entry: Entry, found: Sequence[Any]) -> Any:
    return jnp.asarray(found[0]) if entry.single else list(found)
