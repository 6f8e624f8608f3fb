"""What a backend is: the whole contract of a chip.

A backend compiles Programs, holds Buffers and says what it claims. Its package registers under
the entry-point group `proa.backends`; the ones that come along are found by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import RLock, get_ident
from typing import Any, Final, NamedTuple, Protocol, final

from proa.errors import Overwritten, message
from proa.graph.entry import Entry
from proa.graph.spec import Spec

API = 1


class Device(NamedTuple):
    """One chip: the backend's name, its number, and what the planner prices with."""

    backend: str
    index: int = 0  # type: ignore[assignment]
    kind: str = "cpu"
    memory: int | None = None
    description: str = ""

    def __str__(self) -> str:
        return self.backend if self.index == 0 else f"{self.backend}:{self.index}"


class Buffer(Protocol):
    """A computed value on a device."""

    spec: Spec
    device: Device

    @property
    def nbytes(self) -> int: ...

    def wait(self) -> None:
        """Returns when the value is there; raises what went wrong in computing it."""
        ...

    def host(self) -> Any:
        """The value as a read-only NumPy array."""
        ...


NOBODY: Final[Mapping[int, int]] = {}


@final
class Donation:
    """What one thread gives to one dispatch. Only that thread may take it: another may meet the
    same buffers meanwhile, with a use for their memory of its own.

    `heirs`: outputs of the program, and the input that each replaces under its own handle. In the
    memory of that input it is the same buffer, which stands in `taken` and has contents again when
    all handles are assigned. `count`: buffers whose memory results have."""

    __slots__ = ("lock", "thread", "late", "heirs", "taken", "count")

    def __init__(self, heirs: Mapping[int, int] = NOBODY) -> None:
        self.heirs = heirs
        self.lock = RLock()
        self.late: BaseException | None = None  # raised when handles are assigned
        self.count = 0
        self.thread = get_ident()
        self.taken: list[tuple[Any, Any, int]] = []  # buffer, array, address

    @property
    def is_mine(self) -> bool:
        return self.thread == get_ident()


def lost(spec: Spec, by: Any) -> Overwritten:
    """What reading a buffer raises that a step wrote over before it was interrupted; `by` is its
    donation while the step goes on."""
    error = Overwritten(message(
        "read", f"{spec} that a step wrote over before it was interrupted",
        "a value that is there", "loading the last checkpoint",
    ))  # fmt: skip
    error.busy = by if type(by) is Donation else Donation()
    return error


class Executable(Protocol):
    """A compiled Program. Numbers may stand among the buffers for scalar inputs.

    One that can tell a profile what it does has a method `watched(buffers, by, program)` beside;
    `by` is a `Watcher` of `proa/compile/watch.py`. One that can write results into the memory of
    inputs lists these in `overwrites`; it may do so where a buffer's `donated` is set, and is of
    the same thread (`is_mine`). One whose Program has a template may have `at(sizes)`: what runs at
    these sizes of its dims, with nothing compiled; without it each size is compiled for itself.
    """

    def __call__(self, buffers: Sequence[Any]) -> list[Any]: ...

    @property
    def report(self) -> dict[str, Any]:
        """What is known of it: operations, peak bytes."""
        ...


class Backend(Protocol):
    """A kind of device.

    A compiler that can show its work has two things more: `passes`, the names of its passes in
    order, and `shown(name, program)`, the text of what one gives. One that must know before it
    compiles which inputs may be donated has `donates` set, and finds them in `Program.donated`: it
    copies those that are not, when it is called. One for which operations cost
    nothing inside of what reads them has `folds(entry)`. One that
    compiles many Programs sooner together than one by one has `compile_all(programs)`.
    """

    name: str
    api: int
    eager_compile: bool

    def devices(self) -> list[Device]: ...

    def claims(self, entry: Entry) -> bool:
        """Whether an entry can be part of a Program; composites may be claimed whole."""
        ...

    def compile(self, program: Any) -> Executable: ...

    def put(self, array: Any, spec: Spec, device: Device) -> Any:
        """A buffer with a copy of the array."""
        ...
