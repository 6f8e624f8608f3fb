"""Memory for results: aligned, and large pieces used again when nobody looks at them any more.

Fresh pages cost as much as computing what is written to them. A piece returns when the last array
on it is gone, so nothing that anybody can read is ever overwritten.
"""

from __future__ import annotations

import os
import threading
from ctypes import addressof, c_char
from typing import Any, Final, final

import numpy as np

ALIGNMENT: Final = 64
LARGE: Final = 256 << 10  # what is smaller comes from the system, quicker than from the pool
GRAIN: Final = 64 << 10
KEPT_BYTES: Final = 1 << 30

_shared: Final = c_char.from_buffer
_UNLIKE_C: Final = (TypeError, ValueError, BufferError)


@final
class Pool:
    """Pieces that are free, by size; the sizes in the order in which they were last used. The lock
    may be taken again by a piece that goes meanwhile."""

    __slots__ = ("free", "bytes", "lock")

    def __init__(self) -> None:
        self.free: dict[int, list[Any]] = {}
        self.bytes = 0
        self.lock = threading.RLock()

    def take(self, nbytes: int) -> Any:
        size = rounded(nbytes)
        with self.lock:
            rows = self.free.get(size)
            if rows:
                self.bytes -= size
                return rows.pop()
        try:
            return np.empty(size + ALIGNMENT, np.uint8)
        except MemoryError:
            self.clear()
            return np.empty(size + ALIGNMENT, np.uint8)

    def give(self, raw: Any) -> None:
        size = raw.nbytes - ALIGNMENT
        if size > KEPT_BYTES:
            return
        with self.lock:
            rows = self.free.pop(size, [])
            rows.append(raw)
            self.free[size] = rows
            self.bytes += size
            while self.bytes > KEPT_BYTES:
                self._drop()

    def _drop(self) -> None:
        """A piece of the size that nobody has used for the longest."""
        oldest = next(iter(self.free))
        if self.free[oldest]:
            self.free[oldest].pop()
            self.bytes -= oldest
        if not self.free[oldest]:
            del self.free[oldest]

    def clear(self) -> None:
        with self.lock:
            self.free.clear()
            self.bytes = 0


def rounded(nbytes: int) -> int:
    """Sizes that lie close together are one: an eighth of a power of two apart."""
    step = max(GRAIN, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step


pool: Final = Pool()


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    pool.lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


@final
class Piece:
    """Memory that goes back to the pool with the last array on it."""

    __slots__ = ("raw", "address", "__array_interface__")

    def __init__(self, nbytes: int) -> None:
        self.raw = pool.take(nbytes)
        self.address = -(-address_of(self.raw) // ALIGNMENT) * ALIGNMENT
        self.__array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
        }

    def __del__(self) -> None:
        if hasattr(self, "raw"):
            pool.give(self.raw)


def allocate(shape: tuple[int, ...], dtype: Any, nbytes: int) -> tuple[Any, int]:
    """An array in C order that owns its memory, and its address."""
    if nbytes < LARGE:
        array: Any = np.empty(shape, dtype)
        try:  # as in `address_of`; a step asks for dozens
            return array, addressof(_shared(array))
        except _UNLIKE_C:
            return array, address_of(array)
    piece = Piece(nbytes)
    return np.asarray(piece).view(dtype).reshape(shape), piece.address


@final
class Arena:
    """Memory of one run; it goes back to the pool at its end."""

    __slots__ = ("raw", "address", "array")

    def __init__(self, nbytes: int) -> None:
        self.raw = pool.take(nbytes)
        begin = address_of(self.raw)
        self.address = -(-begin // ALIGNMENT) * ALIGNMENT
        self.array = self.raw[self.address - begin :]

    def __del__(self) -> None:
        if hasattr(self, "raw"):
            pool.give(self.raw)


def address_of(array: Any) -> int:
    """Where an array lies; the quick way needs one that is writable, not empty, and of a dtype
    that Python knows."""
    try:
        return addressof(_shared(array))
    except _UNLIKE_C:
        found: int = array.__array_interface__["data"][0]
        return found
