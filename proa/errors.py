"""What Proa raises. Every message reads `[op] given ..., expected ..., try ...`.

Each class also derives from the built-in that a Python user would catch, so `except ValueError`
keeps working. `message` is the one place where the sentence is put together.
"""

from __future__ import annotations

from typing import Any


class ProaError(Exception):
    """Base of every error that Proa raises on purpose."""


class ArgumentError(ProaError, ValueError):
    """An argument's value is not acceptable: `pa.sum(x, axis=7)` of a matrix."""


class Uncopied(ArgumentError, BufferError):
    """Memory was to be shared that can only be copied: `pa.from_dlpack(x, copy=False)`."""


class ShapeError(ArgumentError):
    """Shapes do not go together: `pa.zeros((2, 3)) + pa.zeros((4,))`."""


class DtypeError(ProaError, TypeError):
    """A dtype or a Python type is not acceptable here: `pa.sin(pa.asarray([1, 2]))`."""


class IndexingError(ProaError, IndexError):
    """An index lies outside its axis, or there are more indices than axes."""


class DeviceError(ProaError, RuntimeError):
    """Tensors of different devices meet, or a device is not there."""


class GradientError(ProaError, RuntimeError):
    """A derivative was asked for where there is none."""


class UnmadeError(ProaError, RuntimeError):
    """A tensor that `pa.lazy_init` described was used before `pa.materialize` made it."""


class JitError(ProaError, RuntimeError):
    """A jitted function did what a replay could not repeat."""


class ExportError(ProaError, RuntimeError):
    """A function does what no exported directory can hold, or a call does not fit its signature."""


class ExecutionError(ProaError, RuntimeError):
    """A computation failed after it was recorded; names the line that recorded it."""


class Overwritten(ExecutionError):
    """The memory of a buffer holds something newer: a step was interrupted, or is not done yet.

    `busy`: the donation; its lock is free when the step is done.
    """

    busy: Any


class OutOfMemory(ProaError, MemoryError):
    """The results asked for do not fit into the memory that is free."""


class MissingExtra(ProaError, ImportError):
    """An optional package is needed: `pip install 'proa[xla]'`."""


class FileError(ProaError, ValueError):
    """A file from outside is damaged, hostile or of another kind."""


class MissingFile(FileError, FileNotFoundError):
    """There is nothing at the path to read from."""


def message(op: str, given: str, expected: str, hint: str = "") -> str:
    """The sentence of every error: `[op] given ..., expected ..., try ...`."""
    text = f"[{op}] given {given}, expected {expected}"
    return f"{text}, try {hint}" if hint else text
