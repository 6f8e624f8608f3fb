"""`cpu`: programs as tables of kernels, with host calls of NumPy where nothing is claimed."""

from __future__ import annotations

from functools import cache
from sys import getrefcount
from typing import Any, final

import numpy as np

from proa.backends.cpu import pipeline
from proa.backends.cpu.claims import claimed
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.cpu.memory import Piece, address_of
from proa.backends.cpu.target import target
from proa.compile.backend import API, Device
from proa.compile.program import Program
from proa.errors import Overwritten, message
from proa.graph.entry import Entry
from proa.graph.spec import Spec
from proa.ops.control import is_control


@cache
def device() -> Device:
    return Device("cpu", 0, "cpu", None, str(target()))


@final
class CpuBuffer:
    """A read-only array in C order, and where it lies. While `donated` is set a result may take
    its memory."""

    __slots__ = ("array", "spec", "address", "exported", "donated")

    def __init__(self, array: Any, spec: Spec, address: int | None = None) -> None:
        self.array = array
        self.spec = spec
        self.address = address_of(array) if address is None else address
        self.exported = False
        self.donated: Any = None

    def is_given(self) -> bool:
        """Whether a result may take its memory: it is donated, and no other array shows it."""
        if not self.donated or self.exported or getrefcount(self.array) != 2:
            return False
        owner = self.array.base
        return owner is None or (
            type(owner) is np.ndarray and getrefcount(owner) == 3
            and isinstance(owner.base, Piece | None)
        )  # fmt: skip

    def take(self) -> tuple[Any, int]:
        """The array and where it lies, for a result; this buffer has no contents any more."""
        found = self.array, self.address
        self.array, self.address = None, self.donated
        return found

    def follow(self, other: CpuBuffer) -> None:
        """If its memory was taken, it is from now on another name for the one that came after."""
        if self.array is None:
            self.array, self.address = other.array, other.address

    def lost(self) -> Overwritten:
        """What reading it raises after that."""
        error = Overwritten(message(
            "read", f"{self.spec} that a step wrote over before it was interrupted",
            "a value that is there", "loading the last checkpoint",
        ))  # fmt: skip
        error.busy = self.address
        return error

    @property
    def device(self) -> Device:
        return device()

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    def wait(self) -> None:
        """Nothing is asynchronous here."""

    def host(self) -> Any:
        if self.array is None:
            raise self.lost()
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
        return entry.primitive.meaning is not None or claimed(entry) or is_control(entry)

    def compile(self, program: Program) -> CpuExecutable:
        return pipeline.compiled(program, CpuBuffer)

    def shown(self, name: str, program: Program) -> str:
        """What one of the passes gives for a program, as text."""
        return pipeline.passed(name, program)

    def put(self, array: Any, spec: Spec, device: Device) -> CpuBuffer:
        return CpuBuffer(np.array(array, dtype=spec.dtype.numpy, order="C", copy=True), spec)
