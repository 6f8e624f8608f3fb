"""`xla`: a Program's graph is walked once under `jax.jit` and compiled whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from sys import getrefcount
from typing import Any, Final, NoReturn, final

import jax
import jax.numpy as jnp
import numpy as np

from proa.backends.xla import control, elementwise, structure
from proa.compile.backend import API, Device, Donation, lost
from proa.compile.memory import free_bytes
from proa.compile.program import Program
from proa.config import config
from proa.errors import ExecutionError, OutOfMemory, message
from proa.graph.entry import Entry
from proa.graph.graph import Graph, Step
from proa.graph.node import line_of
from proa.graph.spec import Spec

SMALL: Final = 1 << 22


def fail(step: Step | None, error: Exception) -> NoReturn:
    """Raises what jax reported as an error of ours, with the operation and its line."""
    op, given = "xla", "a tensor"
    if step is not None:
        op = step.entry.primitive.name
        given = f"{step.entry!r:.300} recorded at {line_of(step.where)}"
    text = message(op, given, f"a result, but: {error!s:.600}")
    raise (OutOfMemory if "RESOURCE_EXHAUSTED" in str(error) else ExecutionError)(text) from error


def walk(graph: Graph, arrays: Sequence[Any], constants: Sequence[Any] | None = None) -> list[Any]:
    """Runs while jax traces: one emitter after the other."""
    if constants is None:
        constants = [jnp.asarray(c.array) for c in graph.constants]
    slots = [*arrays, *constants]
    for step in graph.steps:
        emit, operands = EMITTERS[step.entry.primitive.name], [slots[s] for s in step.slots]
        try:
            found = emit(step.entry, *operands)
        except (ValueError, TypeError, NotImplementedError) as error:
            fail(step, error)
        slots += [found] if step.entry.single else found
    return [slots[o] for o in graph.outputs]


EMITTERS: Final = {**elementwise.TABLE, **structure.TABLE, **control.table(walk)}


@final
class XlaBuffer:
    """An array on a device, perhaps still being computed; `step` is what computes it. While
    `donated` is set a program may take its memory; `taker` is the donation by which one did."""

    __slots__ = ("array", "spec", "device", "step", "exported", "donated", "taker")

    def __init__(self, array: Any, spec: Spec, device: Device, step: Step | None = None) -> None:
        self.array, self.spec, self.device, self.step = array, spec, device, step
        self.exported = False
        self.donated: Donation | None = None
        self.taker: Donation | None = None

    def there(self) -> Any:
        """The array, if no program has taken its memory."""
        array = self.array  # once: another thread may take it
        if array is None or array.is_deleted():
            raise lost(self.spec, self.taker)
        return array

    def take(self) -> Any:
        """The array, for a program that may write over it; None if it is not donated by this
        thread, or somebody else can read it. It is taken first and counted then, as on `cpu`."""
        donation = self.donated
        if donation is None or not donation.is_mine or self.exported:
            return None
        array, self.array, self.taker = self.array, None, donation
        if array is not None and not self.exported and getrefcount(array) == 2:
            donation.count += 1
            return array
        self.array = array
        return None

    def put_back(self, array: Any) -> None:
        """What was taken, if it was not written over."""
        if not array.is_deleted():
            self.array = array

    def follow(self, other: XlaBuffer) -> None:
        """If its memory was taken, it is from now on another name for the one that came after."""
        if self.array is None:
            self.array, self.step = other.array, other.step

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    def wait(self) -> None:
        try:
            self.there().block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            fail(self.step, error)

    def host(self) -> Any:
        self.exported = True  # before it is looked at: it is not taken from now on
        self.wait()
        view = np.asarray(self.there()).view()
        view.flags.writeable = False
        return view


@final
class XlaExecutable:
    """A compiled Program. It is traced once, when it is made: numbers are inputs like any other.
    Constants of 0 axes are literals of the program, larger ones are arguments. Inputs in
    `overwrites` are given away at each run: those that are not donated then are copied before."""

    __slots__ = ("program", "constants", "origins", "largest", "traces", "run", "lowered",
                 "peak_bytes", "overwrites")  # fmt: skip

    def __init__(self, program: Program, chip: Any) -> None:
        graph = program.graph
        self.program, self.traces = program, 0
        steps: list[Step | None] = [None] * graph.first_step_slot
        steps += [s for s in graph.steps for _ in s.entry.outs]
        outs = zip(graph.output_specs(), graph.outputs, strict=True)
        self.origins = [(s, steps[o]) for s, o in outs]
        sizes = {i: sum(s.nbytes for s in step.entry.outs) for i, step in enumerate(graph.steps)}
        self.largest = graph.steps[max(sizes, key=sizes.__getitem__)] if sizes else None
        arrays = [c for c in graph.constants if c.spec.ndim]
        self.constants = [put(c.array, c.spec, chip) for c in arrays]
        specs = [g.spec for g in (*graph.inputs, *arrays)]
        given = _wanted(sorted(program.donated), specs, graph.output_specs())
        self.overwrites = frozenset(given)
        home = jax.sharding.SingleDeviceSharding(chip)
        jitted = jax.jit(self._walk, out_shardings=home, donate_argnums=given)
        try:
            with jax.enable_x64(True):
                shapes = [jax.ShapeDtypeStruct(s.shape, s.dtype.numpy) for s in specs]  # type: ignore[no-untyped-call]
                self.lowered = jitted.lower(*shapes)
                self.run = self.lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            fail(self.largest, error)
        found = self.run.memory_analysis()
        self.peak_bytes = found.temp_size_in_bytes + found.output_size_in_bytes if found else 0

    def _walk(self, *arrays: Any) -> list[Any]:
        """Runs while jax traces."""
        self.traces += 1
        graph = self.program.graph
        count = len(graph.inputs)
        large = iter(arrays[count:])
        rest = [next(large) if c.spec.ndim else jnp.asarray(c.array) for c in graph.constants]
        return walk(graph, arrays[:count], rest)

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        device, inputs = self.program.device, self.program.graph.inputs
        peak = self.peak_bytes
        if peak > SMALL and device.kind == "cpu" and peak > (free := free_bytes()):
            where = line_of(self.largest.where) if self.largest else "an unknown line"
            given = f"results of {peak:,} bytes, the largest at {where}"
            raise OutOfMemory(message("memory", given, f"at most the {free:,} bytes that are free"))
        taken = {i: a for i in self.overwrites if (a := buffers[i].take()) is not None}
        arrays = []
        try:
            for i, (b, of) in enumerate(zip(buffers, inputs, strict=True)):
                if i in taken:
                    arrays.append(taken[i])
                elif type(b) is XlaBuffer:
                    array = b.there()
                    arrays.append(jnp.copy(array) if i in self.overwrites else array)
                else:
                    arrays.append(np.asarray(b).astype(of.spec.dtype.numpy))
            with jax.enable_x64(True):
                found = self.run(*arrays, *self.constants)
        except BaseException as error:
            for i, array in taken.items():
                buffers[i].put_back(array)
            if isinstance(error, RuntimeError | ValueError):
                fail(self.largest, error)
            raise
        return [XlaBuffer(a, s, device, by) for a, (s, by) in zip(found, self.origins, strict=True)]

    def shown(self, name: str) -> str:
        """What one of the passes gave, as text."""
        text = (self.lowered if name == "stablehlo" else self.run).as_text()
        return text or ""

    @property
    def report(self) -> dict[str, Any]:
        return {"operations": len(self.program.graph.steps), "peak_bytes": self.peak_bytes}


def _wanted(donated: Sequence[int], specs: Sequence[Spec], outs: Sequence[Spec]) -> list[int]:
    """Those whose memory a result can have, one for each; jax warns about other gifts."""
    results = Counter([(s.shape, s.dtype) for s in outs])
    found = []
    for i in donated:
        kind = (specs[i].shape, specs[i].dtype)
        if results[kind]:
            results[kind] -= 1
            found.append(i)
    return found


@final
class XlaBackend:
    name = "xla"
    donates = True
    api = API
    eager_compile = True
    passes = ("stablehlo", "hlo")  # what jax hands to XLA, and what XLA made of it

    def devices(self) -> list[Device]:
        return [
            Device("xla", i, d.platform, (d.memory_stats() or {}).get("bytes_limit"), d.device_kind)
            for i, d in enumerate(jax.devices())
        ]

    def claims(self, entry: Entry) -> bool:
        return entry.primitive.name in EMITTERS

    def compile(self, program: Program) -> XlaExecutable:
        made = XlaExecutable(program, jax.devices()[program.device.index])
        for name in self.passes:
            if name in config.show:
                print(f"# {name}\n{made.shown(name)}")
        return made

    def shown(self, name: str, program: Program) -> str:
        """What one of the passes gives for a program, as text."""
        return XlaExecutable(program, jax.devices()[program.device.index]).shown(name)

    def put(self, array: Any, spec: Spec, device: Device) -> XlaBuffer:
        return XlaBuffer(put(array, spec, jax.devices()[device.index]), spec, device)


def put(array: Any, spec: Spec, chip: Any) -> Any:
    """A copy of the array. On the host it is ours alone, so jax may take its memory as it is."""
    own = np.array(array, dtype=spec.dtype.numpy, order="C", copy=True)
    try:
        with jax.enable_x64(True):
            return jax.device_put(own, chip)
    except jax.errors.JaxRuntimeError as error:
        fail(None, error)
