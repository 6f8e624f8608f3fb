"""`cpu`: programs as tables of kernels, with host calls of NumPy where nothing is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from sys import getrefcount
from typing import Any, Final, final

import numpy as np

from proa.backends.cpu import pipeline
from proa.backends.cpu.claims import claimed, generated
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.cpu.memory import LARGE, Piece, address_of, allocate
from proa.backends.cpu.product_copy import Copied, Copy, copied
from proa.backends.cpu.target import target
from proa.compile.backend import API, Device, Donation, lost
from proa.compile.program import Program
from proa.errors import Overwritten
from proa.graph.entry import Entry
from proa.graph.spec import Spec
from proa.ops.control import is_control

PACKED_AT: Final = 8  # the use of a buffer at which it is packed: packing takes as long as so many
FOLDED: Final = frozenset({"broadcast", "reshape"})


@cache
def device() -> Device:
    return Device("cpu", 0, "cpu", None, str(target()))


@final
class _Found:
    """The device of every buffer, found out once: from then on it is an attribute of the class,
    which a dispatch reads for each of its inputs."""

    def __get__(self, buffer: Any, owner: Any) -> Device:
        owner.device = found = device()
        return found


@final
class CpuBuffer:
    """A read-only array in C order, and where it lies. While `donated` is set a result may take
    its memory. `copy`: how it would be packed for products of few rows, and after some such uses
    (`uses`) its packed copy, which lives as long as the buffer."""

    __slots__ = ("array", "spec", "address", "exported", "donated", "copy", "uses")

    device: Any = _Found()

    def __init__(self, array: Any, spec: Spec, address: int | None = None) -> None:
        self.array = array
        self.spec = spec
        self.address: Any = address_of(array) if address is None else address
        self.exported = False
        self.donated: Any = None
        self.copy: Copied | Copy | None = None
        self.uses = 0

    def take(self, donation: Donation) -> Any:
        """The array, for a result that lies in its memory from now on; this buffer has no contents
        any more. None if another array shows that memory.

        It is taken first and counted then: another thread that comes in between waits for the
        step, and one that came before is counted."""
        array, copy, address = self.array, self.copy, self.address
        self.array, self.address, self.copy = None, donation, None
        if array is not None and not self.exported and getrefcount(array) == 2 and _owns(array):
            donation.count += 1
            return array
        self.array, self.address, self.copy = array, address, copy
        return None

    def put_back(self, array: Any, address: int) -> None:
        """What was taken: nothing was written to it, or what this buffer holds from now on."""
        self.array, self.address = array, address

    def follow(self, other: CpuBuffer) -> None:
        """If its memory was taken, it is from now on another name for the one that came after."""
        if self.array is None:
            self.array, self.address = other.array, other.address

    def lost(self) -> Overwritten:
        """What reading it raises after that."""
        return lost(self.spec, self.address)  # a number if the step is done by now

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes + (self.copy.nbytes if type(self.copy) is Copy else 0)

    def packed(self, of: Copied, address: int) -> Copy | None:
        """The packed copy of what lies there, made when the buffer has been used so as often as
        packing costs."""
        found = self.copy
        if type(found) is Copy:
            return found if found.of == of else None
        if found != of:
            self.copy, self.uses = of, 0
        self.uses += 1
        if self.uses < PACKED_AT:
            return None
        self.copy = made = copied(address, of)
        return made

    def wait(self) -> None:
        """Nothing is asynchronous here."""

    def host(self) -> Any:
        array = self.array  # once: another thread may take it
        if array is None:
            raise self.lost()
        view = array.view()
        view.flags.writeable = False
        self.exported = True
        return view


def _owns(array: Any) -> bool:
    """Whether nothing else shows the memory of an array that its caller alone holds."""
    owner = array.base
    return owner is None or type(owner) is Piece or (
        type(owner) is np.ndarray and getrefcount(owner) == 3
        and isinstance(owner.base, Piece | None)
    )  # fmt: skip


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

    def adopt(self, array: Any, spec: Spec, device: Device) -> CpuBuffer:
        """A buffer in memory that nobody will write to: no copy is made."""
        return CpuBuffer(array, spec)
