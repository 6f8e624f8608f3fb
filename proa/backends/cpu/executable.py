"""`CpuExecutable`: a Program as a table of calls that all threads walk, with host calls between."""

from __future__ import annotations

from array import array as numbers
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np

from proa.backends.cpu import checked
from proa.backends.cpu.control import controlled
from proa.backends.cpu.engine import engine
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.layout import Layout
from proa.backends.cpu.memory import ALIGNMENT, LARGE, Arena, address_of, allocate, pool
from proa.backends.cpu.nest import Control, Host, Nests
from proa.backends.cpu.plan import Plan, barriers, plan
from proa.backends.cpu.product_copy import Copied
from proa.backends.cpu.seen import works
from proa.backends.cpu.target import cores
from proa.backends.cpu.threads import threads
from proa.backends.numpy.backend import guard
from proa.backends.numpy.backend import kernel as host_kernel
from proa.compile.program import Program
from proa.compile.watch import Watcher, noted
from proa.config import config
from proa.errors import ExecutionError, OutOfMemory, ProaError, message
from proa.graph.node import line_of
from proa.graph.size import most, named, plain
from proa.graph.spec import Spec
from proa.graph.template import Sizes

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
Spans = list[tuple[int, int, int]]


@final
class Laid(NamedTuple):
    """What sizes decide of a program. `row`: the words of all calls, then of each its tiles, then
    of each the bytes that it writes. `made`: results in memory of their own (base, shape, dtype,
    bytes); `reused`: those that may lie where an input does (base, inputs, bytes)."""

    row: Any
    made: list[tuple[int, tuple[int, ...], Any, int]]
    copies: list[tuple[int, Copied, int]]
    reused: list[tuple[int, list[int], int]]
    arena: int
    scratch: int
    peak: int

    def at(self, value: Callable[[int], int], row: Any) -> Laid:
        """With numbers as they are at some sizes."""
        return Laid(
            row, [(b, tuple([value(n) for n in s]), d, value(n)) for b, s, d, n in self.made],
            [(i, of._replace(columns=value(of.columns), depth=value(of.depth)), b)
             for i, of, b in self.copies],
            [(b, sources, value(n)) for b, sources, n in self.reused],
            value(self.arena), value(self.scratch), value(self.peak),
        )  # fmt: skip


@final
class CpuExecutable:
    """Memory outside the arena: inputs, constants, results, and what host calls give, in this
    order; what is viewed is worked out from layouts when a host call needs it.

    What is prepared once stands for all sizes; what `Laid` holds is laid for some (`moved`)."""

    __slots__ = (
        "program", "detail", "kinds", "buffer", "constants", "peak_bytes", "quiet",
        "frees", "outputs", "report_", "actions", "made", "table", "words", "scratch",
        "template", "inputs", "numbers", "reused", "arena", "laid", "tiles",
        "written", "spans", "overwrites", "copies", "inner", "sized", "__weakref__",
    )  # fmt: skip

    def __init__(self, nests: Nests, buffer: Any, inner: Callable[[Program], Any]) -> None:
        graph = nests.draft.program.graph
        self.program = nests.draft.program
        self.buffer = buffer
        self.inner = inner
        self.sized: Any = None  # what gives the same at other sizes
        specs = nests.specs
        self.constants = [_solid(c.array) for c in graph.constants]
        self.inputs = len(graph.inputs)
        self.numbers: dict[Any, tuple[Any, int]] = {}
        given = self.inputs + len(self.constants)
        owners = [(nests.owner(o), specs[o]) for o in graph.outputs]
        whole = {m: of for m, of in owners if m >= given}
        hosts = [s for a in nests.actions if type(a) is not Call for s in a.results]
        planned = plan(nests, [*range(given), *dict.fromkeys([*whole, *hosts]),
                               *nests.copies.values()])  # fmt: skip
        bases = planned.bases
        self.detail: Any = (nests, planned)
        self.kinds = nests.actions
        self.outputs = [(bases[m], of) for m, of in owners]
        self.quiet = any(type(a) is Host for a in nests.actions)
        keep = {base for base, _ in self.outputs}
        self.frees = tuple([tuple([b for b in f if b > given and b not in keep])
                            for f in planned.frees])  # fmt: skip
        self.template = numbers("q", [0] * (1 + len(bases)))
        host = set(hosts)
        made = [
            (bases[s], o.shape, o.dtype.numpy, o.nbytes)
            for s, of in whole.items() if s not in host
            for o in [specs[s] if s < len(specs) else of]
        ]  # fmt: skip
        copies = [(i, of, bases[m]) for (i, of), m in nests.copies.items()]
        reused = [(bases[m], sources, nests.bytes_of(m)) for m, sources in planned.reused.items()]
        self.table, laid = self._tabled(nests, planned)
        self.laid = self._measured(laid._replace(made=made, copies=copies, reused=reused))
        self.spans: dict[bool, Spans] = {}
        self._lay(self.laid.at(plain, numbers("q", self.laid.row)))
        calls = [a for a in nests.actions if type(a) is Call]
        self.report_ = {
            "operations": len(graph.steps), "kernels": len(calls),
            "host_calls": sum(type(a) is Host for a in nests.actions),
            "peak_bytes": self.peak_bytes, "packed_inputs": len(self.copies),
        }  # fmt: skip

    @property
    def nests(self) -> Nests:
        return self._details()[0]

    @property
    def plan(self) -> Plan:
        return self._details()[1]

    def _details(self) -> tuple[Nests, Plan]:
        """At other sizes than it was planned at they are worked out when somebody asks."""
        if type(self.detail) is not tuple:
            self.detail = self.detail()
        found: tuple[Nests, Plan] = self.detail
        return found

    @property
    def report(self) -> dict[str, Any]:
        return self.report_ | (self.sized.report if self.sized is not None else {})

    def at(self, sizes: Sizes) -> CpuExecutable:
        """The same program at other sizes of its template's dims: what is called with buffers."""
        template = self.program.template
        assert template is not None
        found: CpuExecutable = self if sizes == template.sample else self.sized.at(sizes)
        return found

    # Preparing.

    def _tabled(self, nests: Nests, planned: Plan) -> tuple[Any, Laid]:
        """The rows of all calls, but for where their words lie; and what sizes decide of them."""
        rows, scratch, start = numbers("q"), 0, 0
        words: list[int] = []
        calls = [a for a in nests.actions if type(a) is Call]
        for call, begins in zip(calls, barriers(nests, planned), strict=True):
            for memory, offset in (*call.operands, *call.results):
                words += planned.place(memory, offset) if call.tiles else (0, 0)
            words += call.table
            address = engine().find(call.kernel, self.program.numerics) if call.tiles else 0
            rows.extend((address, 0, 8 * start, begins))
            start = len(words)
            scratch = most(scratch, call.scratch)
        words += [c.tiles for c in calls]
        words += [sum(nests.bytes_of(m) for m, _ in c.results) for c in calls]
        scratch = -(-scratch // ALIGNMENT) * ALIGNMENT
        return rows, Laid(words, [], [], [], planned.arena, scratch, 0)

    def _measured(self, laid: Laid) -> Laid:
        """Bytes of the arena, scratch, and what lives beside them at once."""
        nests, planned = self._details()
        own = sum(nbytes for _, _, _, nbytes in laid.made)
        live = peak = 0
        sizes = {b: nests.bytes_of(m) for m, b in planned.bases.items()}
        for action, frees in zip(nests.actions, self.frees, strict=True):
            if type(action) is not Call:
                live = named(live + sum(nests.bytes_of(s) for s in action.results))
                peak = most(peak, live)
            live -= sum(sizes[b] for b in frees)
        return laid._replace(peak=laid.arena + laid.scratch * cores() + own + peak)

    def moved(self, program: Program, laid: Laid, detail: Callable[[], Any]) -> CpuExecutable:
        """The same at other sizes, with a graph of the same steps."""
        new = object.__new__(CpuExecutable)
        for name in CpuExecutable.__slots__[:-1]:
            setattr(new, name, getattr(self, name))
        new.program, new.detail, new.sized = program, detail, None
        graph = program.graph
        pairs = zip(self.outputs, graph.output_specs(), strict=True)
        new.outputs = [(base, of) for (base, _), of in pairs]
        new.constants = [_solid(c.array) for c in graph.constants]
        new.table, new.template = self.table[:], self.template[:]
        new._lay(laid)
        new.report_ = self.report_ | {"peak_bytes": new.peak_bytes}
        return new

    def _lay(self, laid: Laid) -> None:
        """Fills in what sizes decide."""
        self.words = laid.row
        rows, row = [np.frombuffer(a, np.int64) for a in (self.table, laid.row)]
        rows, calls = rows.reshape(-1, 4), len(rows) // 4
        self.tiles, self.written = row[len(row) - 2 * calls : len(row) - calls], row[-calls:]
        if calls:
            rows[:, 1] = self.tiles
            rows[:, 2] += laid.row.buffer_info()[0] - self.table[2]
        self.arena, self.scratch, self.peak_bytes = laid.arena, laid.scratch, laid.peak
        self.made, self.copies = laid.made, laid.copies
        for i, constant in enumerate(self.constants, 1 + self.inputs):
            self.template[i] = address_of(constant)
        self.actions = self._grouped()
        # What runs in several parts could be interrupted when some inputs are overwritten.
        reused = laid.reused if len(self.actions) == 1 else []
        self.reused = {base: sources for base, sources, n in reused if n >= LARGE}
        self.overwrites = frozenset([s for sources in self.reused.values() for s in sources])

    def _grouped(self, is_single: bool = False) -> Actions:
        """Neighbouring calls as one walk: the number of the first action, and what runs."""
        found: Actions = []
        for number, first, last in self._spans(config.cpu_checked or is_single):
            if first < last:
                found.append((number, self._walk(first, last, number)))
                continue
            action = self.nests.actions[number]
            run = self._control(action) if type(action) is Control else self._host(action)
            found.append((number, run))
        return found

    def _spans(self, is_single: bool) -> Spans:
        """Of each walk the number of its first action, and its rows; others have no rows."""
        found = self.spans.get(is_single)
        if found is not None:
            return found
        found, row = [], 0
        for number, action in enumerate(self.kinds):
            is_call = type(action) is Call
            if is_call and found and found[-1][1] < found[-1][2] and not is_single:
                found[-1] = (*found[-1][:2], row + 1)
            else:
                found.append((number, row, row + is_call))
            row += is_call
        self.spans[is_single] = found
        return found

    def _walk(self, first: int, last: int, number: int) -> Callable[[Run], None]:
        if config.cpu_checked:
            return self._checked(first, self.nests.actions[number])
        table, stride = self.table.buffer_info()[0], self.scratch
        shared = bool(self.tiles[first:last].max() > 1)
        held = not shared and bool(self.written[first:last].sum() <= FEW)

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
        layout, specs = self.nests.layout(slot), self.nests.specs
        base, of, root = self.plan.bases.get(layout.root), specs[slot], specs[layout.root]
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

    # Running.

    def __call__(self, buffers: Sequence[Any], actions: Actions | None = None) -> list[Any]:
        self._admit()
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
            found = buffers[i].packed(of, bases[1 + i])
            if found is not None:
                arrays[base], bases[base] = found.array, found.address
        arrays[1 + self.inputs : 1 + self.inputs + len(self.constants)] = self.constants
        given: dict[int, Any] = {}
        raw, scratch, done = None, 0, list[None]()
        size, places = self.arena, threads().count
        total = size + self.scratch * places
        try:
            if self.reused and actions is None:
                self._give(given, buffers, arrays, bases)
            if total:
                piece = Arena(total)
                raw = piece.array
                bases[0], scratch = piece.address, piece.address + size
            for base, shape, dtype, nbytes in self.made:
                if base not in given:
                    arrays[base], bases[base] = allocate(shape, dtype, nbytes)
            run = Run(bases, arrays, raw, scratch, places)
            if given:
                run.done = done
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
        return [self._stored(arrays[base], bases[base], of) for base, of in self.outputs]

    def _give(
        self, found: dict[int, Any], buffers: Sequence[Any], arrays: list[Any], bases: Any
    ) -> None:
        """Finds for bases of results the donated buffer whose memory each takes."""
        for base, sources in self.reused.items():
            for source in sources:
                buffer, array = buffers[source], arrays[1 + source]
                if array is None or type(buffer) is not self.buffer or not buffer.donated:
                    continue
                arrays[1 + source] = None  # references are counted
                del array
                taken = buffer.take()
                if taken is not None:
                    arrays[base], bases[base], found[base] = taken, bases[1 + source], buffer
                    break
                arrays[1 + source] = buffer.array

    def watched(self, buffers: Sequence[Any], by: Watcher, program: Program) -> list[Any]:
        """The same call by call, each noted."""
        return self(buffers, by.once("actions", program, lambda: self._noted(by, program)))

    def _noted(self, by: Watcher, program: Program) -> Actions:
        seen = works(self.nests, program)
        return [(n, noted(run, by, seen[n])) for n, run in self._grouped(is_single=True)]

    def _admit(self) -> None:
        """Results must fit into what is free; what the pool keeps counts as free, and is given up
        where its pieces have other sizes."""
        if self.peak_bytes <= pool.bytes:
            return
        try:
            guard(self.peak_bytes, self.program)
        except OutOfMemory:
            if not pool.bytes:
                raise
            pool.clear()
            guard(self.peak_bytes, self.program)

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
