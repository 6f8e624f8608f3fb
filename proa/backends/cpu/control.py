"""Control flow on `cpu`: the graphs of a step are programs of their own, run in turn on buffers.

Nothing is copied but rows into stacked results: a row of xs is a view, and a carry is handed from
one round to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from proa.backends.cpu.memory import allocate
from proa.backends.rounds import Rows, rounds
from proa.compile.program import Program
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.spec import Spec
from proa.ops.control import row_of

_MADE: Final[WeakValueDictionary[tuple[int, str], Any]] = WeakValueDictionary()


def controlled(
    entry: Entry, program: Program, buffer: Any, compiled: Callable[[Program], Any]
) -> Callable[[list[Any]], list[Any]]:
    """A function from arrays in C order to buffers. The programs are made once for each entry."""

    def made(graph: Graph) -> Any:
        # An entry for other sizes may run the same graph, which the program keeps alive.
        key = id(graph), program.numerics
        found = _MADE.get(key)
        if found is None:
            inner = Program(graph, program.device, numerics=program.numerics)
            found = _MADE[key] = compiled(inner)
        return found

    def fresh(of: Spec) -> Any:
        array, address = allocate(of.shape, of.dtype.numpy, of.nbytes)
        return buffer(array, of, address)

    def row(stack: Any, i: int) -> Any:
        of = row_of(stack.spec)
        return buffer(stack.array[i, ...], of, stack.address + i * of.nbytes)

    def write(stack: Any, i: int, y: Any) -> None:
        stack.array[i, ...] = y.array

    on = Rows(lambda b: bool(b.array), lambda b: int(b.array), fresh, row, write)
    run = entry.once(("cpu rounds", program.numerics), lambda e: rounds(e, made, on))

    def on_arrays(arrays: list[Any]) -> list[Any]:
        given = [buffer(a, s) for a, s in zip(arrays, entry.ins, strict=True)]
        found = run(*given)
        return [found] if entry.single else found

    return on_arrays
