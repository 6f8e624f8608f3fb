"""Kernels as functions: IR to object code, from LLVM or from the disk, once a process."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final, final

from proa.backends.cpu import cache, checked
from proa.backends.cpu.kernel import Kernel
from proa.backends.cpu.objects import SYMBOL, emitted, generator, together
from proa.backends.cpu.relaxed import Relaxed
from proa.backends.cpu.target import Target, binding, target
from proa.config import config

CONTROL: Final = 0x1F80  # round to nearest, denormals kept, exceptions masked


@final
class Counts:
    """What the compiler did since the process began."""

    __slots__ = ("kernels", "objects_emitted", "objects_loaded", "emit_seconds")

    def __init__(self) -> None:
        self.kernels = 0
        self.objects_emitted = 0
        self.objects_loaded = 0
        self.emit_seconds = 0.0


counts: Final = Counts()


def variant(kernel: Kernel, numerics: str) -> Kernel:
    """The form of a kernel that is asked for."""
    if numerics == "fast":
        kernel = Relaxed(kernel)
    return checked.Checked(kernel) if config.cpu_checked else kernel


@final
class Engine:
    """LLVM's linker in this process, and the address of every kernel that it holds: by structure,
    never by size."""

    def __init__(self, machine: Target) -> None:
        llvm = binding()
        self.machine = machine
        self.table: dict[str, int] = {}
        self.lock = threading.Lock()
        self.code = generator(machine)
        self.linker = llvm.create_lljit_compiler(self.code)
        _forever(self.code)
        _forever(self.linker)
        self.numbers = count()
        self.version = ".".join(map(str, llvm.llvm_version_info))
        self.modes = self._control()

    def find(self, kernel: Kernel, numerics: str = "strict") -> int:
        kernel = variant(kernel, numerics)
        found = self.table.get(kernel.key)
        if found is None:
            with self.lock:
                found = self.table.get(kernel.key)
                if found is None:
                    found = self.table[kernel.key] = self._make(
                        kernel, cache.load(self._name(kernel))
                    )
        return found

    def _control(self) -> tuple[Callable[[], int], Callable[[int], None]] | None:
        """(enter, leave): sets the floating-point control word and gives back the caller's."""
        if not self.machine.is_x86:
            return None
        module = binding().parse_assembly(control_word(self.machine))
        builder = binding().JITLibraryBuilder().add_object_img(self.code.emit_object(module))
        tracker = builder.export_symbol("enter").export_symbol("leave").link(self.linker, "control")
        _forever(tracker)
        enter: Any = ctypes.PYFUNCTYPE(ctypes.c_int)(tracker["enter"])
        leave: Any = ctypes.PYFUNCTYPE(None, ctypes.c_int)(tracker["leave"])
        return enter, leave

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Host calls compute as kernels do: denormals kept, rounded to nearest."""
        if self.modes is None:
            yield
            return
        enter, leave = self.modes
        theirs = enter()
        try:
            yield
        finally:
            leave(theirs)

    def prepare(self, kernels: Iterable[Kernel], numerics: str = "strict") -> None:
        """Finds all of them; what LLVM must make is made by several threads at once."""
        kernels = [variant(k, numerics) for k in kernels]
        with self.lock:
            missing = {k.key: k for k in kernels if k.key not in self.table}
            found = {key: cache.load(self._name(k)) for key, k in missing.items()}
            wanted = [k for key, k in missing.items() if found[key] is None]
            start = time.perf_counter()
            made = together(wanted, self.machine, self.code) if len(wanted) > 1 else {}
            counts.emit_seconds += time.perf_counter() - start
            for key, kernel in missing.items():
                self.table[key] = self._make(kernel, found[key], made.get(key))

    def _name(self, kernel: Kernel) -> str:
        machine = self.machine
        return cache.name_of(
            kernel.key, machine.triple, machine.cpu, machine.features, self.version
        )

    def _make(self, kernel: Kernel, stored: bytes | None, made: bytes | None = None) -> int:
        """A kernel's address; its object is the disk's, or made already, or made now."""
        object_ = stored or made
        if object_ is None:
            start = time.perf_counter()
            object_ = emitted(kernel, self.machine, self.code)
            counts.emit_seconds += time.perf_counter() - start
        if stored is None:
            counts.objects_emitted += 1
            cache.save(self._name(kernel), object_)
        else:
            counts.objects_loaded += 1
        counts.kernels += 1
        return self._linked(object_)

    def assembly(self, kernel: Kernel) -> str:
        module = binding().parse_assembly(kernel.ir(SYMBOL, self.machine))
        return str(self.code.emit_assembly(module))

    def _linked(self, object_: bytes) -> int:
        builder = binding().JITLibraryBuilder().add_object_img(object_).add_current_process()
        if config.cpu_checked:
            builder.import_symbol(checked.STATE, checked.guard.address)
        # A number is used up first: after an interruption LLVM must not see a name again.
        name = f"kernel{next(self.numbers)}"
        tracker = builder.export_symbol(SYMBOL).link(self.linker, name)
        _forever(tracker)
        address: int = tracker[SYMBOL]
        return address


def _forever(thing: Any) -> None:
    """Code stays where it is until the process ends: a thread may be in it when Python goes."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_ENGINE: Final[list[Engine]] = []
_LOCK: Final = [threading.Lock()]


def engine() -> Engine:
    """The engine of this process, made when first asked for."""
    if not _ENGINE:
        with _LOCK[0]:
            if not _ENGINE:
                _ENGINE.append(Engine(target()))
                cache.trim()
    return _ENGINE[0]


def _after_fork() -> None:
    """Another thread may have held a lock when this process was forked."""
    _LOCK[0] = threading.Lock()
    for made in _ENGINE:
        made.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def control_word(machine: Target) -> str:
    """A module with `enter`, which sets the control word and returns what it was, and `leave`."""
    return f"""target triple = "{machine.triple}"
define i32 @enter() {{
  %word = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %theirs = load i32, ptr %word
  store i32 {CONTROL}, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret i32 %theirs
}}
define void @leave(i32 %theirs) {{
  %word = alloca i32
  store i32 %theirs, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}}
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
"""
