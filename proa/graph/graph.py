"""`Graph`: a pure function as integers. Printable, storable, hashable; holds no Value.

Slots are numbered: inputs first, then constants, then the outputs of each step in order.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, final

from proa.graph.entry import Entry
from proa.graph.node import Where
from proa.graph.spec import Spec


class Role(Enum):
    """What an input is to the program: it decides donation, printing and placement."""

    PARAMETER = "parameter"
    SLOT = "slot"
    STATE = "state"
    DATA = "data"
    KEY = "key"
    SCALAR = "scalar"
    CONSTANT = "constant"


class Input(NamedTuple):
    spec: Spec
    role: Role


class Step(NamedTuple):
    entry: Entry
    slots: tuple[int, ...]
    scope: str = ""
    where: Where = None


@final
class Graph:
    """inputs (spec, role), steps (entry, slots, scope, where), outputs, constants (arrays)."""

    __slots__ = ("inputs", "steps", "outputs", "constants", "memo", "_hash")

    def __init__(
        self,
        inputs: tuple[Input, ...],
        steps: tuple[Step, ...],
        outputs: tuple[int, ...],
        constants: tuple[Any, ...] = (),
    ) -> None:
        self.inputs = inputs
        self.steps = steps
        self.outputs = outputs
        self.constants = constants
        self.memo: dict[Any, Any] = {}
        self._hash: int | None = None

    @property
    def first_step_slot(self) -> int:
        return len(self.inputs) + len(self.constants)

    def input_specs(self) -> tuple[Spec, ...]:
        return tuple([i.spec for i in self.inputs])

    def slot_specs(self) -> list[Spec]:
        """The spec of every slot, in order."""
        specs = [*self.input_specs()]
        specs += [c.spec for c in self.constants]
        for step in self.steps:
            specs += step.entry.outs
        return specs

    def output_specs(self) -> tuple[Spec, ...]:
        specs = self.memo.get("output_specs")
        if specs is None:
            all_specs = self.slot_specs()
            specs = self.memo["output_specs"] = tuple([all_specs[o] for o in self.outputs])
        return specs

    def structure(self) -> tuple[Any, ...]:
        """What makes two graphs the same function; lines and module paths do not."""
        steps = tuple([(s.entry, s.slots) for s in self.steps])
        return self.inputs, steps, self.outputs, self.constants

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.structure())
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not Graph or hash(self) != hash(other):
            return False
        return self.structure() == other.structure()

    def __repr__(self) -> str:
        counts = f"{len(self.inputs)} inputs, {len(self.steps)} steps, {len(self.outputs)} outputs"
        return f"Graph({counts})"


def graphs_in(value: Any) -> list[Graph]:
    """The graphs among parameters."""
    if type(value) is Graph:
        return [value]
    if isinstance(value, tuple):
        return [g for v in value for g in graphs_in(v)]
    return []


@final
class Constant:
    """An array that is part of a graph; equal by content."""

    __slots__ = ("array", "spec", "_key")

    def __init__(self, array: Any, spec: Spec) -> None:
        self.array = array
        self.spec = spec
        self._key = (spec, array.tobytes())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return type(other) is Constant and self._key == other._key
