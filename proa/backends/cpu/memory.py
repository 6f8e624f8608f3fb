"""Memory for results: in huge pages where offered, used again when nobody looks at it any more.

Fresh pages cost as much as computing what is written to them. A piece returns when the last array
on it is gone, so nothing that anybody can read is ever overwritten. It waits for the next that asks
for its size. Where none of that size waits, all that wait are joined with their neighbours, and
what is asked for is cut from the smallest range that holds it.
"""

from __future__ import annotations

import mmap
import os
import threading
from ctypes import CDLL, addressof, c_char, c_int, c_long, c_size_t, c_void_p
from functools import cache
from typing import Any, Final, final

import numpy as np

ALIGNMENT: Final = 64
LARGE: Final = 256 << 10  # what is smaller comes from the system, quicker than from the pool
GRAIN: Final = 64 << 10
HUGE: Final = 2 << 20
CHUNK: Final = 32 << 20  # what the system is asked for at least
KEPT_BYTES: Final = 1 << 30
FAILED: Final = c_void_p(-1).value  # an address that is none

_shared: Final = c_char.from_buffer
_UNLIKE_C: Final = (TypeError, ValueError, BufferError)


@final
class Pool:
    """Memory that is free. `waiting`: size -> where pieces of it begin, the last given last;
    `ends`: begin -> end of ranges; `begins` the other way, to look up, not to trust: an
    interruption, or a piece that goes meanwhile (the lock may be taken again), leaves at worst
    some memory unused."""

    __slots__ = ("waiting", "ends", "begins", "bytes", "lock")

    def __init__(self) -> None:
        self.waiting: dict[int, list[int]] = {}
        self.ends: dict[int, int] = {}
        self.begins: dict[int, int] = {}
        self.bytes = 0
        self.lock = threading.RLock()

    def take(self, size: int) -> int:
        """Where so many bytes begin, a multiple of GRAIN."""
        with self.lock:
            rows = self.waiting.get(size)
            if rows:
                begin = rows.pop()
                self.bytes -= size
                return begin
            self._join()
            return self._cut(size) or self._mapped(size)

    def give(self, begin: int, size: int) -> None:
        with self.lock:
            self.waiting.setdefault(size, []).append(begin)
            self.bytes += size
            if self.bytes > KEPT_BYTES:
                self._shrink(KEPT_BYTES)

    def clear(self) -> None:
        """Gives all that is free to the system."""
        with self.lock:
            self._shrink(0)

    def _join(self) -> None:
        """What waits becomes ranges."""
        for size in list(self.waiting):
            rows = self.waiting.get(size, [])
            while rows:
                begin = rows.pop()
                self._put(begin, begin + size)
            if not rows:
                self.waiting.pop(size, None)

    def _put(self, begin: int, end: int) -> None:
        """One more range, joined with those beside it."""
        before, behind = self.begins.get(begin), self.ends.get(end)
        if before is not None and self._claim(before, begin):
            begin = before
        if behind is not None and self._claim(end, behind):
            end = behind
        self.begins[end] = begin
        self.ends[begin] = end

    def _claim(self, begin: int, end: int) -> bool:
        """Whether a range was free; now it is not."""
        if self.ends.get(begin) != end:
            return False
        del self.ends[begin]
        self.begins.pop(end, None)
        return True

    def _cut(self, size: int) -> int:
        """From the smallest range that holds so much; 0 if none does."""
        while fitting := [row for row in self._ranges() if row[0] >= size]:
            held, begin = min(fitting)
            if self._claim(begin, begin + held):
                self.bytes -= size
                if held > size:
                    self._put(begin + size, begin + held)
                return begin
        return 0

    def _ranges(self) -> list[tuple[int, int]]:
        """Bytes and begin of each range."""
        return [(end - begin, begin) for begin, end in list(self.ends.items())]

    def _mapped(self, size: int) -> int:
        """From fresh memory; for much of it goes as much that is kept, but lies in pieces, and if
        there is none, all that is kept."""
        if size >= CHUNK:
            self._shrink(max(0, self.bytes - size))
        for asked in (max(size, CHUNK), size):
            nbytes = -(-asked // HUGE) * HUGE
            begin = _map(nbytes)
            if begin:
                if nbytes > size:
                    self.bytes += nbytes - size
                    self._put(begin + size, begin + nbytes)
                return begin
            self._shrink(0)
        raise MemoryError(f"{size} bytes")

    def _shrink(self, kept: int) -> None:
        """Gives ranges to the system, the largest first, until no more than so much is kept."""
        self._join()
        while self.bytes > kept and (ranges := self._ranges()):
            held, begin = max(ranges)
            end = begin + held
            cut = max(begin, (end - self.bytes + kept) // HUGE * HUGE)
            if not self._claim(begin, end):
                continue
            self.bytes -= end - cut
            if cut > begin:
                self._put(begin, cut)
            _system()[2](cut, end - cut)


@cache
def _system() -> tuple[Any, Any, Any]:
    """mmap, madvise, munmap."""
    library = CDLL(None)
    found: list[Any] = []
    for name, ins, out in (
        ("mmap", (c_void_p, c_size_t, c_int, c_int, c_int, c_long), c_void_p),
        ("madvise", (c_void_p, c_size_t, c_int), c_int),
        ("munmap", (c_void_p, c_size_t), c_int),
    ):
        function = library[name]
        function.argtypes, function.restype = ins, out
        found.append(function)
    return found[0], found[1], found[2]


def _map(nbytes: int) -> int:
    """Where fresh memory begins, in huge pages where offered; 0 if there is none."""
    get, advise, _ = _system()
    mode, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    begin = get(None, nbytes, mode, kind, -1, 0)
    if begin is None or begin == FAILED:
        return 0
    if hasattr(mmap, "MADV_HUGEPAGE"):
        advise(begin, nbytes, mmap.MADV_HUGEPAGE)
    return int(begin)


def rounded(nbytes: int) -> int:
    return -(-nbytes // GRAIN) * GRAIN


pool: Final = Pool()


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    pool.lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


@final
class Piece:
    """Memory that goes back to the pool with the last array on it."""

    __slots__ = ("address", "size", "shape", "typestr")

    def __init__(
        self, nbytes: int, shape: tuple[int, ...] | None = None, typestr: str = "|u1"
    ) -> None:  # fmt: skip
        size = rounded(nbytes)
        self.address = pool.take(size)
        self.size = size
        self.shape = (nbytes,) if shape is None else shape
        self.typestr = typestr

    @property
    def __array_interface__(self) -> dict[str, Any]:
        data = self.address, False
        return {"shape": self.shape, "typestr": self.typestr, "data": data, "version": 3}

    def __del__(self) -> None:
        if hasattr(self, "size"):
            pool.give(self.address, self.size)


def allocate(shape: tuple[int, ...], dtype: Any, nbytes: int) -> tuple[Any, int]:
    """An array in C order that owns its memory, and its address."""
    if nbytes < LARGE:
        array: Any = np.empty(shape, dtype)
        try:  # as in `address_of`; a step asks for dozens
            return array, addressof(_shared(array))
        except _UNLIKE_C:
            return array, address_of(array)
    plain = dtype.kind in "biufc"  # of others NumPy's words for memory know no more than the size
    piece = Piece(nbytes, shape, dtype.str) if plain else Piece(nbytes)
    array = np.asarray(piece)
    return array if plain else array.view(dtype).reshape(shape), piece.address


@final
class Arena:
    """Memory of one run; it goes back to the pool with the last array on it. Kernels need none."""

    __slots__ = ("address", "piece")

    def __init__(self, nbytes: int) -> None:
        self.piece = Piece(nbytes)
        self.address = self.piece.address

    @property
    def array(self) -> Any:
        return np.asarray(self.piece)


def address_of(array: Any) -> int:
    """Where an array lies; the quick way needs one that is writable, not empty, and of a dtype
    that Python knows."""
    try:
        return addressof(_shared(array))
    except _UNLIKE_C:
        found: int = array.__array_interface__["data"][0]
        return found
