"""Which tensors are recorded."""

from __future__ import annotations

from typing import Any

from proa.record.live import CAPTURE, State, thread
from proa.tensor import Tensor


def recorded(found: Any) -> bool:
    """Whether a value is known only when what is recorded runs. A number argument of a jitted
    function is not: where it decides something in Python, it becomes static."""
    if type(found) is not Tensor:
        return False
    state: State | None = thread.state
    if state is None or not state.mode & CAPTURE:
        return False
    while state is not None and state.capture is not None:
        if state.capture.numbers:
            state.capture.needs_number(found)
        state = state.outer
    return True
