"""Who plans an operation that is no loop: a table from primitives to modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proa.backends.cpu import extremes, indexed, joined, product, scan, window

if TYPE_CHECKING:
    from proa.backends.cpu.nest import Nests

PLANNERS: Final[dict[str, Any]] = {
    "dot": product, "cumsum": scan, "cumprod": scan, "concatenate": joined, "pad": joined,
    "gather": indexed, "scatter": indexed, "dynamic_slice": indexed, "dynamic_update": indexed,
    "conv": window, "argmax": extremes,
}  # fmt: skip


def planned(nests: Nests, step: int) -> bool:
    """Whether a module of the compiler has appended the calls of a step."""
    entry = nests.draft.entry(step)
    module = PLANNERS.get(entry.primitive.name)
    if module is None or any(s.is_named for s in (*entry.ins, *entry.outs)):
        return False
    if not module.claims(entry):
        return False
    module.plan(nests, step)
    return True
