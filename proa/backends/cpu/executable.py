"""`CpuExecutable`: a Program as a table of calls, run in order on slots."""

from __future__ import annotations

from array import array as numbers
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import numpy as np

from proa.backends.cpu.engine import engine
from proa.backends.cpu.memory import address_of, allocate, pool
from proa.backends.cpu.nest import Call, Host, Layout, Nests, is_contiguous
from proa.backends.numpy.backend import guard
from proa.backends.numpy.backend import kernel as host_kernel
from proa.errors import ExecutionError, OutOfMemory, ProaError, message
from proa.graph.node import line_of
from proa.graph.spec import Spec

FEW: Final = 2048  # elements; up to here the interpreter's lock is kept


@final
class CpuExecutable:
    """`slots` of a run hold (array in C order, address) for memory of its own; views are worked
    out from layouts when a host call needs them."""

    __slots__ = ("program", "nests", "buffer", "rows", "constants", "count", "peak_bytes", "roots",
                 "specs", "quiet", "outputs", "report_", "frees")  # fmt: skip

    def __init__(self, nests: Nests, buffer: Any) -> None:
        graph = nests.draft.program.graph
        self.program = nests.draft.program
        self.nests = nests
        self.buffer = buffer
        self.specs = nests.draft.specs
        self.count = len(self.specs)
        self.constants = [_solid(c.array) for c in graph.constants]
        self.rows = [self._row(a) for a in nests.actions]
        self.outputs = [self._output(o) for o in graph.outputs]
        self.frees = self._frees()
        self.peak_bytes = self._peak()
        hosts = sum(type(a) is Host for a in nests.actions)
        self.quiet = hosts > 0
        kernels = sum(type(a) is Call for a in nests.actions)
        self.report_ = {
            "operations": len(graph.steps), "kernels": kernels, "host_calls": hosts,
            "copies": len(nests.actions) - kernels - hosts, "peak_bytes": self.peak_bytes,
        }  # fmt: skip

    @property
    def report(self) -> dict[str, Any]:
        return dict(self.report_)

    # Preparing.

    def _row(self, action: Any) -> Callable[[list[Any]], None]:
        if type(action) is Call:
            return self._kernel_row(action)
        if type(action) is Host:
            return self._host_row(action)
        return self._copy_row(action.source, action.result)

    def _kernel_row(self, call: Call) -> Callable[[list[Any]], None]:
        made = [
            (s, o.shape, o.dtype.numpy, o.nbytes) for s in call.results for o in [self.specs[s]]
        ]
        if call.is_empty:

            def nothing(slots: list[Any]) -> None:
                for slot, shape, dtype, nbytes in made:
                    slots[slot] = allocate(shape, dtype, nbytes)

            return nothing
        table = numbers("q", call.table)
        at, _ = table.buffer_info()
        free, held = engine().find(call.kernel)
        size = max(self.specs[s].size for s in call.results)
        function = held if size <= FEW else free
        operands = call.operands

        def run(slots: list[Any], table: Any = table) -> None:
            given = [slots[s][1] + offset for s, offset in operands]
            for slot, shape, dtype, nbytes in made:
                slots[slot] = found = allocate(shape, dtype, nbytes)
                given.append(found[1])
            function(at, *given)

        return run

    def _host_row(self, host: Host) -> Callable[[list[Any]], None]:
        kernel = host_kernel(host.entry)
        operands = [self._reader(s) for s in host.operands]
        results, single = host.results, host.entry.single

        def run(slots: list[Any]) -> None:
            found = kernel(*[read(slots) for read in operands])
            for slot, array in zip(results, (found,) if single else found, strict=True):
                array = _solid(array)
                slots[slot] = (array, address_of(array))

        return run

    def _copy_row(self, source: int, result: int) -> Callable[[list[Any]], None]:
        read, shape = self._reader(source), self.specs[result].shape

        def run(slots: list[Any]) -> None:
            array = np.array(read(slots), order="C", copy=True).reshape(shape)
            slots[result] = (array, address_of(array))

        return run

    def _reader(self, slot: int) -> Callable[[list[Any]], Any]:
        """A slot as an array: a view of its memory where it is one."""
        layout, of = self.nests.layout(slot), self.specs[slot]
        root = layout.root
        if root == slot:
            return lambda slots: slots[root][0]
        return lambda slots: viewed(slots[root][0], layout, of)

    def _frees(self) -> list[tuple[int, ...]]:
        """For each row the memory that nothing needs after it."""
        kept = {layout.root for _, layout, _, _ in self.outputs}
        found = []
        for action in reversed(self.nests.actions):
            if type(action) is Call:
                used = [s for s, _ in action.operands] + list(action.results)
            elif type(action) is Host:
                used = [self.nests.layout(s).root for s in action.operands] + list(action.results)
            else:
                used = [self.nests.layout(action.source).root, action.result]
            found.append(tuple([s for s in dict.fromkeys(used) if s not in kept]))
            kept.update(used)
        return found[::-1]

    def _peak(self) -> int:
        live = peak = 0
        first = self.program.graph.first_step_slot
        for action, frees in zip(self.nests.actions, self.frees, strict=True):
            results = (action.result,) if type(action) not in (Call, Host) else action.results
            live += sum(self.specs[s].nbytes for s in results)
            peak = max(peak, live)
            live -= sum(self.specs[s].nbytes for s in frees if s >= first)
        copied = sum(of.nbytes for _, _, of, is_copied in self.outputs if is_copied)
        return max(peak, live + copied)

    def _output(self, slot: int) -> tuple[int, Layout, Spec, bool]:
        """Slot, layout, spec, and whether it is a view of an input or of a part of a result."""
        layout, of = self.nests.layout(slot), self.specs[slot]
        whole = is_contiguous(layout, of) and of.nbytes == self.specs[layout.root].nbytes
        is_input = layout.root < self.program.graph.first_step_slot
        return slot, layout, of, layout.root != slot and (not whole or is_input)

    # Running.

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        self._admit()
        graph = self.program.graph
        slots: list[Any] = [_loaded(b, i.spec) for b, i in zip(buffers, graph.inputs, strict=True)]
        slots += [(c, address_of(c)) for c in self.constants]
        slots += [None] * (self.count - len(slots))
        if self.quiet:
            with np.errstate(all="ignore"), engine().strict():
                self._run(slots)
        else:
            self._run(slots)
        return [self._stored(slots, *row) for row in self.outputs]

    def _admit(self) -> None:
        """Results must fit into what is free; what the pool keeps is given up first."""
        try:
            guard(self.peak_bytes, self.program)
        except OutOfMemory:
            if not pool.bytes:
                raise
            pool.clear()
            guard(self.peak_bytes, self.program)

    def _run(self, slots: list[Any]) -> None:
        number = 0
        try:
            for row, frees in zip(self.rows, self.frees, strict=True):
                row(slots)
                for s in frees:
                    slots[s] = None
                number += 1
        except ProaError:
            raise
        except MemoryError as error:
            raise OutOfMemory(self._failed(number, error)) from error
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise ExecutionError(self._failed(number, error)) from error

    def _failed(self, number: int, error: Exception) -> str:
        step = self.program.graph.steps[self.nests.actions[number].step]
        given = f"{step.entry!r:.300} recorded at {line_of(step.where)}"
        return message(step.entry.primitive.name, given, f"a result, but: {error}")

    def _stored(
        self, slots: list[Any], slot: int, layout: Layout, of: Spec, is_copied: bool
    ) -> Any:
        """An output owns its memory: a view, or a part of something larger, is copied."""
        array, address = slots[layout.root]
        if layout.root != slot:
            array = viewed(array, layout, of)
        if is_copied:
            array = np.array(array, order="C", copy=True)
            address = address_of(array)
        return self.buffer(array, of, address)


def _solid(array: Any) -> Any:
    array = np.asarray(array)
    return array if array.flags.c_contiguous else np.array(array, order="C")


def _loaded(buffer: Any, spec: Spec) -> tuple[Any, int]:
    """The array and address of a buffer, or of a Python number for a scalar input."""
    address = getattr(buffer, "address", None)
    if address is not None:
        return buffer.array, address
    array = np.asarray(buffer).astype(spec.dtype.numpy)
    return array, address_of(array)


def viewed(root: Any, layout: Layout, of: Spec) -> Any:
    """A layout on the memory of an array in C order, read-only."""
    if of.size == 0:
        return np.empty(of.shape, of.dtype.numpy)
    if of.dtype.numpy.kind in "biuf":
        found = np.ndarray(of.shape, of.dtype.numpy, root, layout.offset, layout.strides)
    else:
        flat = root.reshape(-1).view(np.uint8)[layout.offset :]
        flat = flat[: len(flat) // of.dtype.itemsize * of.dtype.itemsize].view(of.dtype.numpy)
        found = np.lib.stride_tricks.as_strided(flat, of.shape, layout.strides)
    found.flags.writeable = False
    return found
