"""Memory for results: aligned, and large pieces used again when nobody looks at them any more.

Fresh pages cost as much as computing what is written to them. A piece returns when the last array
on it is gone, so nothing that anybody can read is ever overwritten.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, final

import numpy as np

ALIGNMENT: Final = 64
LARGE: Final = 64 << 10
KEPT_BYTES: Final = 1 << 30


@final
class Pool:
    """Pieces that are free, by size. Appending and taking are atomic, so no lock is needed."""

    __slots__ = ("free", "bytes")

    def __init__(self) -> None:
        self.free: dict[int, deque[Any]] = {}
        self.bytes = 0

    def take(self, nbytes: int) -> Any:
        size = -(-nbytes // LARGE) * LARGE
        rows = self.free.get(size)
        if rows:
            try:
                raw = rows.pop()
                self.bytes -= size
                return raw
            except IndexError:  # another thread was faster
                pass
        return np.empty(size + ALIGNMENT, np.uint8)

    def give(self, raw: Any) -> None:
        size = raw.nbytes - ALIGNMENT
        if self.bytes + size <= KEPT_BYTES:
            self.free.setdefault(size, deque()).append(raw)
            self.bytes += size

    def clear(self) -> None:
        self.free.clear()
        self.bytes = 0


pool: Final = Pool()


@final
class Piece:
    """Memory that goes back to the pool with the last array on it."""

    __slots__ = ("raw", "address", "__array_interface__")

    def __init__(self, nbytes: int) -> None:
        self.raw = pool.take(nbytes)
        self.address = -(-address_of(self.raw) // ALIGNMENT) * ALIGNMENT
        self.__array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": (self.address, False), "version": 3,
        }  # fmt: skip

    def __del__(self) -> None:
        pool.give(self.raw)


def allocate(shape: tuple[int, ...], dtype: Any, nbytes: int) -> tuple[Any, int]:
    """An array in C order that owns its memory, and its address."""
    if nbytes < LARGE:
        array = np.empty(shape, dtype)
        return array, address_of(array)
    piece = Piece(nbytes)
    array = np.asarray(piece).view(dtype).reshape(shape)
    return array, piece.address


def address_of(array: Any) -> int:
    found: int = array.__array_interface__["data"][0]
    return found
