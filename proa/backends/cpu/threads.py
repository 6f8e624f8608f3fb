"""The threads of `cpu`: one pool for the process, started when first used.

How they work together stands in `walk.py`.
"""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
from collections.abc import Callable
from typing import Final, final

from proa.backends.cpu import cache
from proa.backends.cpu.objects import generator
from proa.backends.cpu.target import Target, binding, cores, target
from proa.backends.cpu.walk import MOST, POOL, can_share
from proa.backends.cpu.workers import module
from proa.errors import ArgumentError, message


@final
class _Library:
    """The module linked into this process, for ever: workers run in it until the process ends."""

    def __init__(self, machine: Target) -> None:
        llvm, code = binding(), generator(machine)
        version = ".".join(map(str, llvm.llvm_version_info))
        name = cache.name_of("threads", machine.triple, machine.cpu, machine.features, version)
        object_ = cache.load(name)
        if object_ is None:
            object_ = code.emit_object(llvm.parse_assembly(module(machine)))
            cache.save(name, object_)
        linker = llvm.create_lljit_compiler(code)
        builder = llvm.JITLibraryBuilder().add_object_img(object_).add_current_process()
        names = ["walk"] + ["share", "hire", "resize", "work"] * can_share(machine)
        for symbol in names:
            builder.export_symbol(symbol)
        tracker = builder.link(linker, "threads")
        for kept in (code, linker, tracker):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        at = {symbol: tracker[symbol] for symbol in names}
        word = ctypes.c_ssize_t
        self.held: Callable[..., None] = ctypes.PYFUNCTYPE(None, *[word] * 5)(at["walk"])
        self.walk: Callable[..., None] = ctypes.CFUNCTYPE(None, *[word] * 5)(at["walk"])
        self.work = at.get("work", 0)
        if self.work:
            self.share: Callable[..., None] = ctypes.CFUNCTYPE(None, *[word] * 8)(at["share"])
            self.hire: Callable[..., int] = ctypes.PYFUNCTYPE(word, word, word)(at["hire"])
            self.resize: Callable[..., None] = ctypes.PYFUNCTYPE(None, word, word)(at["resize"])


@final
class Threads:
    """The threads of this process. Workers start at the first `run` that has a use for them, and
    end with the process; a forked child starts its own.

    Nothing here can be left half done by an interruption: the pool is taken and given back within
    one foreign call.
    """

    __slots__ = ("count", "lock", "library", "pool", "started")

    def __init__(self, machine: Target, count: int = 0) -> None:
        self.library = _Library(machine)
        self.count = count or min(cores(), MOST)
        self.renew()

    def renew(self) -> None:
        """A pool without workers; the one before is forgotten, never freed. No pool where there is
        no memory for it, or no workers can be: everything is done by the calling thread."""
        self.lock = threading.Lock()
        self.started = 0
        self.pool = 0
        if self.library.work:
            get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
            found = get(("calloc", ctypes.CDLL(None)))(1, POOL + 64)
            if found:
                self.pool = -(-found // 64) * 64
                self.library.resize(self.pool, self.count)

    def set(self, count: int) -> None:
        """So many threads from now on, the calling one among them."""
        with self.lock:
            self.count = count
            if self.pool:
                self.library.resize(self.pool, count)

    def run(
        self, rows: int, first: int, last: int, bases: int, scratch: int, stride: int,
        held: bool, places: int = MOST, done: list[None] | None = None,
    ) -> None:  # fmt: skip
        """Does rows first to last of a table. `held` work is little: this thread does it and keeps
        the interpreter's lock. `scratch` has `places` pieces, `stride` bytes apart, each for one
        thread: no more threads take part. Then `done` has one element more, also where a signal
        that came meanwhile raises an error here."""
        if held:
            self.library.held(rows, first, last, bases, scratch)
            return
        threads = min(self.count, places)
        if threads == 1 or not self.pool:
            self._once(done, self.library.walk, rows, first, last, bases, scratch)
            return
        if self.started < self.count - 1:
            self._start()
        given = self.pool, rows, first, last, bases, scratch, stride, threads
        self._once(done, self.library.share, *given)

    def _once(self, done: list[None] | None, function: Callable[..., None], *given: int) -> None:
        """A call; with `done` the interpreter does not look for signals until it is noted there."""
        if done is None:
            function(*given)
        else:
            done.extend(map(function, *[(word,) for word in given]))

    def _start(self) -> None:
        """Workers up to the count. A number is used up before its thread starts, so that never two
        have the same, wherever an interruption falls."""
        libc = ctypes.CDLL(None)
        with self.lock:
            while self.started < self.count - 1:
                self.started += 1
                slot = self.library.hire(self.pool, self.started)
                handle = ctypes.c_size_t()
                failed = libc.pthread_create(
                    ctypes.byref(handle), None,
                    ctypes.c_void_p(self.library.work), ctypes.c_void_p(slot),
                )  # fmt: skip
                if failed:
                    given = f"no more than {self.started} threads: {os.strerror(failed)}"
                    self.count = self.started
                    text = message("cpu", given, f"{self.count}", "pa.set_num_threads")
                    warnings.warn(text, RuntimeWarning, stacklevel=3)
                    return
                libc.pthread_detach(handle)


_THREADS: Final[list[Threads]] = []
_LOCK: Final = [threading.Lock()]
_ASKED: Final = [0]  # threads, 0 for the default


def threads() -> Threads:
    """The threads of this process, made when first asked for; workers come later."""
    if not _THREADS:
        with _LOCK[0]:
            if not _THREADS:
                _THREADS.append(Threads(target(), _ASKED[0]))
    return _THREADS[0]


def set_num_threads(count: int) -> None:
    """Sets how many threads a computation on `cpu` may use, the calling one among them.

    Results do not depend on it, bit for bit.

    >>> import proa as pa
    >>> pa.set_num_threads(2)
    >>> pa.get_num_threads()
    2
    """
    if type(count) is not int or not 1 <= count <= MOST:
        expected = f"an int from 1 to {MOST}"
        given = f"{count!r:.60}"
        raise ArgumentError(message("set_num_threads", given, expected, "pa.set_num_threads(2)"))
    with _LOCK[0]:
        _ASKED[0] = count
        for made in _THREADS:
            made.set(count)


def get_num_threads() -> int:
    """How many threads a computation on `cpu` may use: as many as there are processors for this
    process (affinity, control group), unless `set_num_threads` has said otherwise.

    >>> import proa as pa
    >>> pa.get_num_threads() >= 1
    True
    """
    return _THREADS[0].count if _THREADS else _ASKED[0] or min(cores(), MOST)


def _after_fork() -> None:
    """A child has none of its parent's workers, and another thread may have held a lock."""
    _LOCK[0] = threading.Lock()
    for made in _THREADS:
        made.renew()


os.register_at_fork(after_in_child=_after_fork)
