"""`TableExecutable`: a chip with kernels and no compiler gets everything else from here.

A backend gives one function for each entry; liveness, freeing, numbers for scalar inputs, memory
checks and errors with the line that recorded the operation are done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, final

from proa.compile.program import Program
from proa.compile.watch import Watcher, noted, step_work
from proa.errors import ExecutionError, OutOfMemory, ProaError, message
from proa.graph.entry import Entry
from proa.graph.node import line_of
from proa.graph.spec import Spec
from proa.graph.template import Sizes

LARGE = 256 << 10  # bytes from which a donation counts
Kernel = Callable[..., Any]


@final
class TableExecutable:
    """Runs a Program as a table of (kernel, operand slots, result slots, slots to free).

    With `donates` donated inputs are counted. They are not written over, since a table can fail
    half-way: they go when the handles are assigned.

    `kernel(entry)` gives the function of an entry on raw arrays; `load(buffer_or_number, spec)`
    takes an input apart, `store(array, spec)` makes an output buffer.
    """

    __slots__ = (
        "program",
        "kernel",
        "table",
        "constants",
        "load",
        "store",
        "slots",
        "guard",
        "quiet",
        "peak_bytes",
        "overwrites",
    )

    def __init__(
        self,
        program: Program,
        kernel: Callable[[Entry], Kernel],
        load: Callable[[Any, Spec], Any],
        store: Callable[[Any, Spec], Any],
        guard: Callable[[int, Program], None],
        quiet: Callable[[], Any] = nullcontext,
        donates: bool = False,
    ) -> None:
        graph = program.graph
        self.program = program
        self.kernel = kernel
        self.load = load
        self.store = store
        self.guard = guard
        self.quiet = quiet
        self.constants = [c.array for c in graph.constants]
        self.slots = len(graph.slot_specs())
        self.table = []
        slot = graph.first_step_slot
        for step, frees in zip(graph.steps, program.last_uses(), strict=True):
            count = len(step.entry.outs)
            single = slot if step.entry.single else None
            outs = range(slot, slot + count)
            first, second = _pair(step.slots)
            self.table.append((kernel(step.entry), first, second, step.slots, single, outs, frees))
            slot += count
        self.peak_bytes = program.peak_bytes()
        inputs = enumerate(graph.input_specs())
        large = [i for i, s in inputs if s.nbytes >= LARGE]
        self.overwrites = frozenset(large if donates else ())

    def __call__(self, buffers: Sequence[Any], table: list[Any] | None = None) -> list[Any]:
        graph = self.program.graph
        self.guard(self.peak_bytes, self.program)
        load = self.load
        for i in self.overwrites:
            donation = buffers[i].donated
            if donation is not None and donation.is_mine:
                donation.count += 1
        slots = [load(b, i.spec) for b, i in zip(buffers, graph.inputs, strict=True)]
        slots += self.constants
        slots += [None] * (self.slots - len(slots))
        with self.quiet():
            self._run(slots, table or self.table)
        specs = graph.output_specs()
        return [self.store(slots[o], s) for o, s in zip(graph.outputs, specs, strict=True)]

    def at(self, sizes: Sizes) -> TableExecutable:
        """The same program at other sizes of its dims."""
        of = self.program
        assert of.template is not None
        bound = Program(of.template.bind(sizes), of.device, of.donated, of.numerics)
        given = self.kernel, self.load, self.store, self.guard, self.quiet
        return TableExecutable(bound, *given)

    def watched(self, buffers: Sequence[Any], by: Watcher, program: Program) -> list[Any]:
        """The same, each kernel noted."""

        def seen() -> list[Any]:
            rows = zip(self.table, program.graph.steps, strict=True)
            return [(noted(row[0], by, step_work(step)), *row[1:]) for row, step in rows]

        return self(buffers, by.once("table", program, seen))

    def _run(self, slots: list[Any], table: list[Any]) -> None:
        number = 0
        try:
            for kernel, first, second, operands, single, outs, frees in table:
                if second >= 0:
                    found = kernel(slots[first], slots[second])
                elif first >= 0:
                    found = kernel(slots[first])
                else:
                    found = kernel(*[slots[s] for s in operands])
                if single is not None:
                    slots[single] = found
                else:
                    for s, array in zip(outs, found, strict=True):
                        slots[s] = array
                for s in frees:
                    slots[s] = None
                number += 1
        except ProaError:
            raise
        except MemoryError as error:
            raise OutOfMemory(_failed(self.program, number, error)) from error
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise ExecutionError(_failed(self.program, number, error)) from error

    @property
    def report(self) -> dict[str, Any]:
        return {"operations": len(self.table), "peak_bytes": self.peak_bytes}


def _pair(slots: tuple[int, ...]) -> tuple[int, int]:
    """One or two operands are passed without a list, for speed; -1 says that there are others."""
    if len(slots) == 2:
        return slots[0], slots[1]
    return (slots[0], -1) if len(slots) == 1 else (-1, -1)


def _failed(program: Program, number: int, error: Exception) -> str:
    step = program.graph.steps[number]
    where = line_of(step.where)
    given = f"{step.entry!r:.300} recorded at {where}"
    return message(step.entry.primitive.name, given, f"a result, but: {error}")
