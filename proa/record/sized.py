"""`Sized`: one program for many sizes, and what runs at some of them."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any, Final, final

from proa.compile.backend import Device
from proa.compile.find import backend
from proa.compile.program import Program
from proa.compile.tiers import counts
from proa.compile.watch import timed
from proa.graph.graph import Graph
from proa.graph.template import Polynomial, Sizes, Template

SHOWN: Final = 5  # sizes that `explain` names
NAMES: Final = ascii_lowercase  # of dims that were found


@final
class Sized:
    """A template of what is recorded, one of what it is lowered to, and the executable of that.

    A backend whose executables have `at` compiles once; for another each size is compiled, and
    counted, as the whole program of that size.
    """

    __slots__ = ("recorded", "lowered", "program", "run", "contractions", "number", "met")

    def __init__(
        self, recorded: Template, lowered: Template, device: Device, numerics: str
    ) -> None:
        self.recorded = recorded
        self.lowered = lowered
        self.program = Program(lowered.graph, device, numerics=numerics, template=lowered)
        self.run: Any = None
        self.contractions = contractions_of(lowered.graph)
        self.number = 0
        self.met = 0

    def executable(self, sizes: Sizes) -> Any:
        """What runs at these sizes."""
        if self.run is None:
            self.run = self._compiled(self.program)
        if sizes == self.lowered.sample:
            return self.run
        at = getattr(self.run, "at", None)
        return self._compiled(self.program_at(sizes)) if at is None else timed("sizes", at, sizes)

    def _compiled(self, program: Program) -> Any:
        chip = backend(program.device.backend)
        counts.programs_compiled += 1
        return timed("compile", chip.compile, program)

    def program_at(self, sizes: Sizes) -> Program:
        of = self.program
        return Program(self.lowered.bind(sizes), of.device, of.donated, of.numerics)

    def text(self) -> str:
        """The inputs whose shapes depend on dims: `float32[a, 8], int64[a]`."""
        graph, found = self.recorded.graph, []
        for i, shape in sorted(self.recorded.inputs.items()):
            of = graph.inputs[i].spec
            sizes = [n.text(self.recorded.dims) if type(n) is Polynomial else str(n) for n in shape]
            found.append(f"{of.dtype.name}[{', '.join(sizes)}]")
        return ", ".join(dict.fromkeys(found))


def contractions_of(graph: Graph) -> int:
    families = [s.entry.primitive.family.name for s in graph.steps]
    return families.count("contraction") + families.count("window")


def shown_sizes(sizes: Sequence[Sizes]) -> str:
    """`a=3, b=5; a=4, b=5 and 4 more`."""
    each = [", ".join(f"{d}={n}" for d, n in zip(NAMES, s, strict=False)) for s in sizes[:SHOWN]]
    more = f" and {len(sizes) - SHOWN} more" if len(sizes) > SHOWN else ""
    return "; ".join(each) + more
