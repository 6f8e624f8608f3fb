"""`CpuExecutable`: a Program as a table of calls that all threads walk, with host calls between."""

from __future__ import annotations

from array import array as numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

import numpy as np

from proa.backends.cpu import checked
from proa.backends.cpu.control import controlled
from proa.backends.cpu.engine import engine
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.layout import Layout
from proa.backends.cpu.memory import ALIGNMENT, LARGE, Arena, address_of, allocate, pool
from proa.backends.cpu.nest import Control, Host, Nests
from proa.backends.cpu.plan import barriers, plan
from proa.backends.cpu.seen import works
from proa.backends.cpu.target import cores
from proa.backends.cpu.threads import threads
from proa.backends.numpy.backend import guard
from proa.backends.numpy.backend import kernel as host_kernel
from proa.compile.backend import Donation
from proa.compile.program import Program
from proa.compile.watch import Watcher, noted
from proa.config import config
from proa.errors import ExecutionError, OutOfMemory, ProaError, message
from proa.graph.node import line_of
from proa.graph.spec import Spec

MOST_NUMBERS: Final = 256
FEW: Final = 16 << 10  # bytes written; up to here the interpreter's lock is kept


@final
class Run:
    """One run: the address of each base, and the arrays outside the arena, by base. `done`: a walk
    that writes over inputs is noted there."""

    __slots__ = ("bases", "arrays", "arena", "scratch", "places", "done")

    def __init__(self, bases: Any, arrays: list[Any], raw: Any, scratch: int, places: int) -> None:
        self.bases = bases
        self.arrays = arrays
        self.arena = raw
        self.scratch = scratch
        self.places = places  # threads that scratch is there for
        self.done: list[None] | None = None


Actions = list[tuple[int, Callable[[Run], None]]]


@final
class CpuExecutable:
    """Memory outside the arena: inputs, constants, results, and what host calls give, in this
    order; what is viewed is worked out from layouts when a host call needs it."""

    __slots__ = ("program", "nests", "buffer", "constants", "peak_bytes", "specs", "quiet", "frees",
                 "outputs", "report_", "plan", "actions", "made", "table", "words", "scratch",
                 "template", "inputs", "numbers", "reused", "alike", "is_alone",
                 "overwrites", "copies", "inner")  # fmt: skip

    def __init__(self, nests: Nests, buffer: Any, inner: Callable[[Program], Any]) -> None:
        graph = nests.draft.program.graph
        self.program = nests.draft.program
        self.nests = nests
        self.buffer = buffer
        self.inner = inner
        self.specs = nests.specs
        self.constants = [_solid(c.array) for c in graph.constants]
        self.inputs = len(graph.inputs)
        self.numbers: dict[Any, tuple[Any, int]] = {}
        given = self.inputs + len(self.constants)
        owners = [(nests.owner(o), self.specs[o]) for o in graph.outputs]
        whole = {m: of for m, of in owners if m >= given}
        hosts = [s for a in nests.actions if type(a) is not Call for s in a.results]
        self.plan = plan(nests, [*range(given), *dict.fromkeys([*whole, *hosts]),
                                 *nests.copies.values()])  # fmt: skip
        self.outputs = [(self.plan.bases[m], of) for m, of in owners]
        host = set(hosts)
        self.alike = all(m in whole and m not in host and self._made_as(m) == of.shape
                         for m, of in owners)  # fmt: skip
        self.made = [
            (self.plan.bases[s], o.shape, o.dtype.numpy, o.nbytes)
            for s, of in whole.items() if s not in host
            for o in [self.specs[s] if s < len(self.specs) else of]
        ]  # fmt: skip
        self.copies = [(i, of, self.plan.bases[m]) for (i, of), m in nests.copies.items()]
        self._lay()
        self.actions = self._grouped()
        # What runs in several parts could be interrupted when some inputs are overwritten.
        reused = self.plan.reused if len(self.actions) == 1 else {}
        if max(map(nests.bytes_of, reused), default=0) < LARGE:  # to look would cost more
            reused = {}
        rows = {self.plan.bases[m]: [s for s in sources if s < self.inputs]
                for m, sources in reused.items()}  # fmt: skip
        self.reused = {base: sources for base, sources in rows.items() if sources}
        self.overwrites = frozenset([s for sources in self.reused.values() for s in sources])
        self.quiet = any(type(a) is Host for a in nests.actions)
        self.is_alone = all(type(a) is Call for a in nests.actions)
        keep = {base for base, _ in self.outputs}
        self.frees = tuple([tuple([b for b in f if b > given and b not in keep])
                            for f in self.plan.frees])  # fmt: skip
        self.peak_bytes = self._peak()
        calls = [a for a in nests.actions if type(a) is Call]
        self.report_ = {
            "operations": len(graph.steps), "kernels": len(calls),
            "host_calls": sum(type(a) is Host for a in nests.actions),
            "peak_bytes": self.peak_bytes, "packed_inputs": len(self.copies),
        }  # fmt: skip

    @property
    def report(self) -> dict[str, Any]:
        return dict(self.report_)

    # Preparing.

    def _made_as(self, memory: int) -> tuple[int, ...]:
        """The shape of the array on the memory of a result."""
        return self.specs[memory].shape if memory < len(self.specs) else ()

    def _lay(self) -> None:
        """The table of calls: for each its kernel, tiles, and words."""
        rows, self.words, self.scratch = numbers("q"), numbers("q"), 0
        starts = []
        calls = [a for a in self.nests.actions if type(a) is Call]
        for call in calls:
            starts.append(len(self.words))
            for memory, offset in (*call.operands, *call.results):
                self.words.extend(self.plan.place(memory, offset) if call.tiles else (0, 0))
            self.words.extend(call.table)
            self.scratch = max(self.scratch, call.scratch)
        at = self.words.buffer_info()[0]
        after = barriers(self.nests, self.plan)
        for call, start, begins in zip(calls, starts, after, strict=True):
            address = engine().find(call.kernel, self.program.numerics) if call.tiles else 0
            rows.extend((address, call.tiles, at + 8 * start, begins))
        self.table = rows
        self.scratch = -(-self.scratch // ALIGNMENT) * ALIGNMENT
        count = 1 + len(self.plan.bases)
        self.template = numbers("q", [0] * count)
        for i, constant in enumerate(self.constants, 1 + self.inputs):
            self.template[i] = address_of(constant)

    def _grouped(self, is_single: bool = False) -> Actions:
        """Neighbouring calls as one walk: the number of the first action, and what runs."""
        found: Actions = []
        actions, number, row = self.nests.actions, 0, 0
        while number < len(actions):
            end = number
            while end < len(actions) and type(actions[end]) is Call:
                end += 1
                if config.cpu_checked or is_single:
                    break
            if end > number:
                found.append((number, self._walk(row, row + end - number, actions[number:end])))
                row, number = row + end - number, end
                continue
            action = actions[number]
            run = self._control(action) if type(action) is Control else self._host(action)
            found.append((number, run))
            number += 1
        return found

    def _walk(self, first: int, last: int, calls: list[Call]) -> Callable[[Run], None]:
        if config.cpu_checked:
            return self._checked(first, calls[0])
        table, stride = self.table.buffer_info()[0], self.scratch
        shared = any(c.tiles > 1 for c in calls)
        written = sum(self.nests.bytes_of(m) for c in calls for m, _ in c.results)
        held = not shared and written <= FEW

        def run(now: Run) -> None:
            bases, places = now.bases.buffer_info()[0], now.places if shared else 1
            threads().run(table, first, last, bases, now.scratch, stride, held, places, now.done)

        return run

    def _checked(self, row: int, call: Call) -> Callable[[Run], None]:
        """One call on one thread; an error if it touches other memory than its own."""
        table, words = self.table.buffer_info()[0], self.table[4 * row + 2]
        placed = [(self.plan.place(m, 0), self.nests.bytes_of(m))
                  for m, _ in (*call.operands, *call.results)]  # fmt: skip

        def run(now: Run) -> None:
            bases, count = now.bases.buffer_info()
            memories = [(now.bases[b] + offset, nbytes) for (b, offset), nbytes in placed]
            ranges = checked.ranges(call, words, bases, count, now.scratch, memories)
            given = (table, row, row + 1, bases, now.scratch, 0, False, 1)
            fault = checked.guard.run(ranges, lambda: threads().run(*given))
            if fault is not None:
                step = self.nests.draft.steps[call.step]
                name, line = step.entry.primitive.name, line_of(step.where)
                raise ExecutionError(checked.told(name, line, call, fault, ranges))

        return run

    def _host(self, host: Host) -> Callable[[Run], None]:
        kernel = host_kernel(host.entry)
        operands = [self._reader(s) for s in host.operands]
        bases = [self.plan.bases[s] for s in host.results]
        single = host.entry.single

        def run(now: Run) -> None:
            given = [read(now) for read in operands]
            found = kernel(*given)
            for base, array in zip(bases, (found,) if single else found, strict=True):
                array = _solid(array)
                if array.base is not None and now.arena is not None:
                    array = array.copy()  # a view of memory that will be used again
                now.arrays[base] = array
                now.bases[base] = address_of(array)

        return run

    def _control(self, control: Control) -> Callable[[Run], None]:
        kernel = controlled(control.entry, self.program, self.buffer, self.inner)
        operands = [self._reader(s) for s in control.operands]
        bases = [self.plan.bases[s] for s in control.results]

        def run(now: Run) -> None:
            found = kernel([_solid(read(now)) for read in operands])
            for base, given in zip(bases, found, strict=True):
                array, address = given.array, given.address
                if now.arena is not None and 0 <= address - now.bases[0] < now.arena.nbytes:
                    array = array.copy()  # an operand in memory that will be used again
                    address = address_of(array)
                now.arrays[base], now.bases[base] = array, address

        return run

    def _reader(self, slot: int) -> Callable[[Run], Any]:
        """A slot as an array: a view of its memory where it is one."""
        layout, of = self.nests.layout(slot), self.specs[slot]
        base = self.plan.bases.get(layout.root)
        root = self.specs[layout.root]
        if base is None:
            start = self.plan.offsets[layout.root]
            stop = start + root.nbytes

            def inside(now: Run) -> Any:
                array = now.arena[start:stop].view(root.dtype.numpy).reshape(root.shape)
                return array if layout.root == slot else viewed(array, layout, of)

            return inside
        if layout.root == slot:
            return lambda now: now.arrays[base]
        return lambda now: viewed(now.arrays[base], layout, of)

    def _peak(self) -> int:
        """Bytes of the arena, scratch, and what lives beside them at once."""
        own = sum(nbytes for _, _, _, nbytes in self.made)
        live = most = 0
        sizes = {b: self.nests.bytes_of(m) for m, b in self.plan.bases.items()}
        for action, frees in zip(self.nests.actions, self.frees, strict=True):
            if type(action) is not Call:
                live += sum(self.nests.bytes_of(s) for s in action.results)
            most = max(most, live)
            live -= sum(sizes[b] for b in frees)
        return self.plan.arena + self.scratch * cores() + own + most

    # Running.

    def __call__(self, buffers: Sequence[Any], actions: Actions | None = None) -> list[Any]:
        bases = self.template[:]
        arrays: list[Any] = [None] * len(bases)
        try:
            for i, buffer in enumerate(buffers, 1):
                if type(buffer) is self.buffer:
                    arrays[i], bases[i] = buffer.array, buffer.address
                else:
                    arrays[i], bases[i] = self._number(i, buffer)
        except TypeError:  # no address
            if type(buffer) is not self.buffer or arrays[i] is not None:
                raise
            raise buffer.lost() from None
        for i, of, base in self.copies:
            copy = buffers[i].packed(of, bases[1 + i])
            if copy is not None:
                arrays[base], bases[base] = copy.array, copy.address
        arrays[1 + self.inputs : 1 + self.inputs + len(self.constants)] = self.constants
        given: dict[int, Any] = {}
        found: list[Any] = []
        raw, scratch, done = None, 0, list[None]()
        size, places = self.plan.arena, threads().count
        total = size + self.scratch * places
        try:
            if self.reused and actions is None:
                self._give(given, buffers, arrays, bases)
            self._admit(given.values())
            if total:
                piece = Arena(total)
                raw = piece if self.is_alone else piece.array
                bases[0], scratch = piece.address, piece.address + size
            for base, shape, dtype, nbytes in self.made:
                if base not in given:
                    arrays[base], bases[base] = allocate(shape, dtype, nbytes)
            run = Run(bases, arrays, raw, scratch, places)
            if given:  # one walk; what the results are is known before it, and in the caches
                run.done = done
                found = self._handed_on(given, buffers, arrays, bases)
            if self.quiet:
                with np.errstate(all="ignore"), engine().strict():
                    self._run(run, actions or self.actions)
            else:
                self._run(run, actions or self.actions)
        except BaseException as error:
            if not done:
                for base, buffer in given.items():
                    buffer.put_back(arrays[base], bases[base])
                if type(error) is MemoryError:
                    raise OutOfMemory(self._failed(0, error)) from error
                raise
            # A signal. All is written: handles are assigned first.
            next(iter(given.values())).donated.late = error
        if given:
            return found
        if self.alike:
            kind = self.buffer
            return [kind(arrays[base], of, bases[base]) for base, of in self.outputs]
        return [self._stored(arrays[base], bases[base], of) for base, of in self.outputs]

    def _give(
        self, found: dict[int, Any], buffers: Sequence[Any], arrays: list[Any], bases: Any
    ) -> None:
        """Finds for bases of results the donated buffer whose memory each takes."""
        mine: Any = None
        for base, sources in self.reused.items():
            for source in sources:
                buffer = buffers[source]
                if arrays[1 + source] is None or type(buffer) is not self.buffer:
                    continue
                donation = buffer.donated
                if donation is None or (donation is not mine and not donation.is_mine):
                    continue
                mine = donation
                arrays[1 + source] = None  # references are counted
                taken = buffer.take(donation)
                if taken is not None:
                    arrays[base], bases[base], found[base] = taken, bases[1 + source], buffer
                    break
                arrays[1 + source] = buffer.array

    def _handed_on(
        self, given: dict[int, Any], buffers: Sequence[Any], arrays: list[Any], bases: Any
    ) -> list[Any]:
        """The results; one in the memory of the buffer that it replaces is that buffer."""
        donation: Donation = next(iter(given.values())).donated
        found = []
        for number, (base, of) in enumerate(self.outputs):
            buffer, heir = given.get(base), donation.heirs.get(number)
            if heir is not None and buffer is buffers[heir] and buffer.spec is of:
                donation.taken.append((buffer, arrays[base], bases[base]))
                found.append(buffer)
            else:
                found.append(self._stored(arrays[base], bases[base], of))
        return found

    def watched(self, buffers: Sequence[Any], by: Watcher, program: Program) -> list[Any]:
        """The same call by call, each noted."""
        return self(buffers, by.once("actions", program, lambda: self._noted(by, program)))

    def _noted(self, by: Watcher, program: Program) -> Actions:
        seen = works(self.nests, program)
        return [(n, noted(run, by, seen[n])) for n, run in self._grouped(is_single=True)]

    def _admit(self, taken: Iterable[Any]) -> None:
        """Results must fit into what is free, but those in the place of buffers; what the pool
        keeps counts as free, and is given up where its pieces have other sizes."""
        if self.peak_bytes <= pool.bytes:
            return
        peak = self.peak_bytes - sum([b.spec.nbytes for b in taken])
        try:
            guard(peak, self.program)
        except OutOfMemory:
            if not pool.bytes:
                raise
            pool.clear()
            guard(peak, self.program)

    def _run(self, run: Run, actions: Actions) -> None:
        number = 0
        try:
            for number, action in actions:
                action(run)
                for base in self.frees[number]:
                    run.arrays[base] = None
        except ProaError:
            raise
        except MemoryError as error:
            raise OutOfMemory(self._failed(number, error)) from error
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise ExecutionError(self._failed(number, error)) from error

    def _failed(self, number: int, error: Exception) -> str:
        step = self.nests.draft.steps[self.nests.actions[number].step]
        given = f"{step.entry!r:.300} recorded at {line_of(step.where)}"
        return message(step.entry.primitive.name, given, f"a result, but: {error}")

    def _number(self, place: int, number: Any) -> tuple[Any, int]:
        """A Python number for a scalar input, as an array; those of the last runs are kept."""
        key = place, type(number), number
        found = self.numbers.get(key) if number else None  # 0.0 equals -0.0
        if found is None:
            dtype = self.program.graph.inputs[place - 1].spec.dtype
            array = np.asarray(number).astype(dtype.numpy)
            found = array, address_of(array)
            if len(self.numbers) >= MOST_NUMBERS:
                self.numbers.clear()
            self.numbers[key] = found
        return found

    def _stored(self, array: Any, address: int, of: Spec) -> Any:
        """A result; its memory may be another's of the same elements, in another shape."""
        if array.shape != of.shape:
            array = array.reshape(of.shape)
            array.flags.writeable = False
        return self.buffer(array, of, address)


def _solid(array: Any) -> Any:
    array = np.asarray(array)
    return array if array.flags.c_contiguous else np.array(array, order="C")


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
