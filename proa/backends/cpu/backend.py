"""`cpu`: programs as tables of kernels, with host calls of NumPy where nothing is claimed."""

from __future__ import annotations

from functools import cache
from typing import Any, final

import numpy as np

from proa.backends.cpu import pipeline
from proa.backends.cpu.claims import claimed
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.cpu.memory import address_of
from proa.backends.cpu.product_copy import Copied, Copy, copied
from proa.backends.cpu.target import target
from proa.compile.backend import API, Device
from proa.compile.program import Program
from proa.graph.entry import Entry
from proa.graph.spec import Spec


@cache
def device() -> Device:
    return Device("cpu", 0, "cpu", None, str(target()))


@final
class CpuBuffer:
    """A read-only array in C order, and where it lies. `copy`: it has been used once as what is
    packed if it is used again, or its packed copy, which lives as long as the buffer."""

    __slots__ = ("array", "spec", "address", "exported", "copy")

    def __init__(self, array: Any, spec: Spec, address: int | None = None) -> None:
        self.array = array
        self.spec = spec
        self.address = address_of(array) if address is None else address
        self.exported = False
        self.copy: Copied | Copy | None = None

    @property
    def device(self) -> Device:
        return device()

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes) + (self.copy.nbytes if type(self.copy) is Copy else 0)

    def packed(self, of: Copied) -> Copy | None:
        """The packed copy, made when the buffer is used so for the second time."""
        found = self.copy
        if type(found) is Copy:
            return found if found.of == of else None
        if found == of:
            self.copy = made = copied(self.address, of)
            return made
        self.copy = of
        return None

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

    def compile(self, program: Program) -> CpuExecutable:
        return pipeline.compiled(program, CpuBuffer)

    def shown(self, name: str, program: Program) -> str:
        """What one of the passes gives for a program, as text."""
        return pipeline.passed(name, program)

    def put(self, array: Any, spec: Spec, device: Device) -> CpuBuffer:
        return CpuBuffer(np.array(array, dtype=spec.dtype.numpy, order="C", copy=True), spec)
