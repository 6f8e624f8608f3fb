"""The laws: what must hold of every operation, said once and tried on every sample and dtype.

A *case* is one operation as a graph with operands drawn from its domain. A *law* is a function of
a case that returns sentences: what does not hold. No law names an operation.

| law | in | says |
| --- | --- | --- |
| specs | `declarations` | shapes and dtypes of results are those of the meaning |
| accuracy | `modes` | a backend's results lie within the declared accuracy of the float64 judge |
| forward | `derivatives` | forward mode agrees with central differences |
| reverse | `derivatives` | <ct, J v> = <J^T ct, v> |
| second | `derivatives` | derivatives of derivatives: forward over reverse, reverse over reverse |
| ties | `derivatives` | where f(x + c) = f(x) + c, shares of a gradient add up to one at ties |
| batching | `modes` | vmap(f) = stack(map(f)) for every choice of mapped operands |
| factors | `declarations` | every letter has a role and a size, shapes follow, costs are positive |
| jit | `modes` | recorded, replayed and read early: the bits of the dynamic run |
| saves | `declarations` | the derived pullback reads what `saves` says |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proa.conformance.cases import Case
from proa.conformance.declarations import factors_hold, specs_hold
from proa.conformance.derivatives import forward_holds, reverse_holds, second_holds, ties_hold
from proa.conformance.modes import batching_holds, jit_holds

# Those that need no more than a case; `accuracy` needs a backend, `saves` all cases at once.
LAWS: Final[dict[str, Callable[[Case], list[str]]]] = {
    "specs": specs_hold,
    "forward": forward_holds,
    "reverse": reverse_holds,
    "second": second_holds,
    "ties": ties_hold,
    "batching": batching_holds,
    "factors": factors_hold,
    "jit": jit_holds,
}
