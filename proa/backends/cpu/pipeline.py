"""The compiler as data: an ordered list of named passes from a Program to what runs it.

| pass | gives |
| --- | --- |
| segments | units: host calls, views, single elementwise steps |
| fuse | units of many steps |
| again | the same units, some with what others compute as well |
| nest | kernels, described by structure, and what each is called with |
| ir | the text of kernels (only written where somebody asks to see it) |
| object | kernels as functions: from this process, from the disk, or from LLVM |

`PROA_SHOW=fuse` prints what a pass gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from proa.backends.cpu.again import again
from proa.backends.cpu.draft import segments
from proa.backends.cpu.engine import engine
from proa.backends.cpu.executable import CpuExecutable
from proa.backends.cpu.fuse import fuse
from proa.backends.cpu.kernel import Call, Kernel
from proa.backends.cpu.nest import Nests, nest
from proa.backends.cpu.sized import Sized
from proa.backends.numpy.backend import guard
from proa.compile.program import Program
from proa.config import config
from proa.graph.size import plain


def ir(nests: Nests) -> Nests:
    """Nothing changes: text is made of a kernel when it is asked for."""
    return nests


def objects(nests: Nests) -> Nests:
    """Every kernel is there when the program is."""
    engine().prepare(_kernels(nests), nests.draft.program.numerics)
    return nests


def _kernels(nests: Nests) -> list[Kernel]:
    called = [a.kernel for a in nests.actions if type(a) is Call and a.tiles]
    return [*called, *nests.beside]


LARGE: Final = 1 << 28  # bytes; whether such a result fits is asked before it is planned
Pass = tuple[str, Callable[[Any], Any]]
PASSES: Final[list[Pass]] = [
    ("segments", segments), ("fuse", fuse), ("again", again), ("nest", nest), ("ir", ir),
    ("object", objects),
]  # fmt: skip


def compiled(program: Program, buffer: Any) -> CpuExecutable:
    """All passes in order; what no machine can hold is refused before any."""
    made = _executable(_passed(program, PASSES), buffer)
    if program.template is not None:
        made.sized = Sized(program, lambda other: _executable(_passed(other, PASSES), buffer))
    return made


def compiled_all(programs: Sequence[Program], buffer: Any) -> list[CpuExecutable]:
    """The same for each of many; their kernels are made together."""
    found = [_passed(program, PASSES[:-1]) for program in programs]
    engine().prepare([k for nests in found for k in _kernels(nests)])
    return [_executable(nests, buffer) for nests in found]


def _executable(nests: Nests, buffer: Any) -> CpuExecutable:
    return CpuExecutable(nests, buffer, lambda inner: compiled(inner, buffer))


def _passed(program: Program, passes: Sequence[Pass]) -> Any:
    largest = max([plain(s.nbytes) for s in program.graph.slot_specs()], default=0)
    if largest > LARGE and program.template is None:  # at other sizes it may fit
        guard(largest, program)
    for name, state in states(program, passes):
        if name in config.show:
            print(f"# {name}\n{shown(name, state)}")
    return state


def states(program: Program, passes: Sequence[Pass]) -> Iterator[tuple[str, Any]]:
    """What each pass gives, by its name."""
    state: Any = program
    for name, one in passes:
        state = one(state)
        yield name, state


def passed(name: str, program: Program) -> str:
    """What a pass gives for a program, as text."""
    state = next(state for one, state in states(program, PASSES) if one == name)
    return shown(name, state)


def shown(name: str, state: Any) -> str:
    if name not in ("ir", "object"):
        return str(state.show())
    kernels = {a.kernel.key: a.kernel for a in state.actions if type(a) is Call}
    if name == "ir":
        return "\n".join(k.ir("kernel", engine().machine) for k in kernels.values())
    return "\n".join(engine().assembly(k) for k in kernels.values())
