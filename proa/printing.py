"""`repr` of a tensor: values cut as NumPy cuts them, shape, dtype, device, grad. Never raises."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.errors import ProaError


def text_of(tensor: Any) -> str:
    """`Tensor([1., 2.], shape=(2,), dtype=float32, device=numpy)`."""
    of = tensor.value.spec
    try:
        body = _values(tensor)
    except (ProaError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        body = f"<{type(error).__name__}>"
    marks = [f"shape={of.shape}", f"dtype={of.dtype.name}"]
    try:
        marks.append(f"device={tensor.device}")
    except ProaError:
        marks.append("device=?")
    if of.grad:
        marks.append("grad=True")
    return f"Tensor({body}, {', '.join(marks)})"


def _values(tensor: Any) -> str:
    from proa.record.live import CAPTURE, thread

    if thread.state.mode & CAPTURE:
        thread.state.capture.needs_number(tensor)
        return "<recorded>"
    array = tensor.numpy()
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat16", "float8")):
        array = array.astype(np.float32)
    return np.array2string(array, separator=", ", prefix="Tensor(", threshold=1000, edgeitems=3)
