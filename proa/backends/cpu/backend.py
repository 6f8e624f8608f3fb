"""`cpu`: programs as tables of kernels, with host calls of NumPy where nothing is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, final

import numpy as np

from proa.backends.cpu import pipeline
from proa.backends.cpu.claims import claimed, generated
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.cpu.memory import LARGE, address_of, allocate
from proa.backends.cpu.target import target
from proa.compile.backend import API, Device
from proa.compile.program import Program
from proa.graph.entry import Entry
from proa.graph.spec import Spec

FOLDED: Final = frozenset({"broadcast", "reshape"})


@cache
def device() -> Device:
    return Device("cpu", 0, "cpu", None, str(target()))


@final
class CpuBuffer:
    """A read-only array in C order, and where it lies."""

    __slots__ = ("array", "spec", "address", "exported")

    def __init__(self, array: Any, spec: Spec, address: int | None = None) -> None:
        self.array = array
        self.spec = spec
        self.address = address_of(array) if address is None else address
        self.exported = False

    @property
    def device(self) -> Device:
        return device()

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    def wait(self) -> None:
        """Nothing is asynchronous here."""

    def host(self) -> Any:
        view = self.array.view()
        view.flags.writeable = False
        self.exported = True
        return view


@final
class CpuBackend:
    name = "cpu"
    api = API
    eager_compile = False
    passes = tuple([name for name, _ in pipeline.PASSES])

    def devices(self) -> list[Device]:
        return [device()]

    def claims(self, entry: Entry) -> bool:
        """All that has a meaning: what is not compiled is a host call. A few composites."""
        return entry.primitive.meaning is not None or claimed(entry)

    def folds(self, entry: Entry) -> bool:
        """What only changes how memory is addressed, or is made of positions: in memory of its own
        it may be far larger than what it is made of."""
        return entry.primitive.name in FOLDED or generated(entry)

    def compile(self, program: Program) -> CpuExecutable:
        return pipeline.compiled(program, CpuBuffer)

    def compile_all(self, programs: Sequence[Program]) -> list[CpuExecutable]:
        return pipeline.compiled_all(programs, CpuBuffer)

    def shown(self, name: str, program: Program) -> str:
        """What one of the passes gives for a program, as text."""
        return pipeline.passed(name, program)

    def put(self, array: Any, spec: Spec, device: Device) -> CpuBuffer:
        if spec.nbytes < LARGE:
            return CpuBuffer(np.array(array, dtype=spec.dtype.numpy, order="C", copy=True), spec)
        held, address = allocate(spec.shape, spec.dtype.numpy, spec.nbytes)
        held[...] = array
        return CpuBuffer(held, spec, address)
