"""Who plans an operation that is no loop: a table from primitives to modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from proa.backends.cpu.nest import Nests

PLANNERS: Final[dict[str, tuple[Callable[[Any], bool], Callable[[Any, int], None]]]] = {}


def planned(nests: Nests, step: int) -> bool:
    """Whether a module of the compiler has appended the calls of a step."""
    entry = nests.draft.entry(step)
    found = PLANNERS.get(entry.primitive.name)
    if found is None or any(s.is_named for s in (*entry.ins, *entry.outs)):
        return False
    claims, plan = found
    if not claims(entry):
        return False
    plan(nests, step)
    return True
