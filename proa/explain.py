"""What was made and why: `explain`, `debug`, `print`."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from proa.capture.jit import made
from proa.compile.tiers import counts
from proa.errors import ExecutionError, message
from proa.graph.node import Node, line_of
from proa.record.boundary import compute
from proa.record.live import CAPTURE, DEBUG, State, supply, thread
from proa.record.replay import cache, programs
from proa.record.sized import shown_sizes
from proa.tensor import Tensor, host_of


@final
class Explanation:
    """The programs of this process: why each was made, how often it ran, what it writes.

    `programs` is a list of dictionaries (number, recorded, operations, outputs, sights, compiled,
    kernels, peak_bytes, donated, device, reason, line, written); one that stands for many sizes has
    `dims` (the inputs whose shapes depend on them) and `sizes` (those at hand). `jitted` has the
    table of each jitted function that is alive and was called; `counts` what was done since the
    process began.
    """

    __slots__ = ("programs", "jitted", "counts")

    def __init__(self) -> None:
        self.programs = programs()
        self.jitted = [f.programs() for f in list(made) if f.calls]
        self.counts = {name: getattr(counts, name) for name in counts.__slots__}

    def __repr__(self) -> str:
        lines = [f"{len(self.programs)} programs, {self.counts['dispatches']} dispatches, "
                 f"{self.counts['single_operations']} operations run one by one"]  # fmt: skip
        for p in self.programs:
            tier = "compiled" if p["compiled"] else "one by one"
            lines.append(
                f"{p['number']:4d}  {p['operations']} operations, {p['outputs']} results, seen "
                f"{p['sights']} times, {tier}, on {p['device']}, at most {p['peak_bytes']:,} "
                f"bytes, {p['donated']} donated; made because {p['reason']} ({p['line']})"
            )
            if p["sizes"]:
                lines.append(f"      for all sizes of {p['dims']}; at {shown_sizes(p['sizes'])}")
            lines += [f"      written because it is alive: {w}" for w in p["written"]]
        return "\n".join([*lines, *map(repr, self.jitted)])


def explain() -> Explanation:
    """Lists the programs that were made, each with its reason: the first operation that differed.

    >>> import proa as pa
    >>> (pa.ones((2,)) + 1).tolist()
    [2.0, 2.0]
    >>> len(pa.explain().programs) >= 1
    True
    """
    return Explanation()


def forget_programs() -> None:
    """Empties the cache of programs; a structure is then seen for the first time again."""
    cache.clear()


@contextmanager
def debug() -> Iterator[None]:
    """Inside the block every operation is computed at once, and the first NaN or infinity raises
    at the line that made it.

    >>> import proa as pa
    >>> with pa.debug():
    ...     y = pa.ones((2,)) * 2
    """
    state = thread.state
    compute(())
    before = state.mode
    state.mode = before | DEBUG
    try:
        yield
    finally:
        state.mode = before


def _check(state: State, node: Node, outs: tuple[Tensor, ...]) -> None:
    if state.mode & CAPTURE:
        return
    import numpy as np

    state.mode &= ~DEBUG
    try:
        for i, t in enumerate(outs):
            array = host_of(t)
            if t.dtype.is_inexact and not np.isfinite(array.astype(np.float64)).all():
                bad = "NaN" if np.isnan(array.astype(np.float64)).any() else "infinity"
                given = f"{bad} in result {i} of {node.entry!r:.200} at {line_of(node.where)}"
                raise ExecutionError(message(node.entry.primitive.name, given, "finite numbers"))
    finally:
        state.mode |= DEBUG


def print(*values: Any, sep: str = " ", end: str = "\n") -> None:
    """Prints tensors and anything else; in a jitted function at every call, replays included.

    >>> import proa as pa
    >>> pa.print("loss", pa.asarray(2.0).item())
    loss 2.0
    """
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.printed.append((values, sep, end))
    else:
        builtins.print(*values, sep=sep, end=end)


supply(check=_check)
