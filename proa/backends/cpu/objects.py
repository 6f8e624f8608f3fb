"""Object code from LLVM, for one kernel, or for many by several threads at once.

llvmlite lets one thread at a time into LLVM. LLVM needs that only where threads share a context or
a code generator; so here each thread has its own, and the functions of llvmlite's library that make
an object are called beside its lock. The other threads never ask for that lock: an interruption may
have left it taken.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from typing import Any, Final

from proa.backends.cpu.kernel import Kernel
from proa.backends.cpu.target import Target, binding, cores

SYMBOL: Final = "kernel"
MOST: Final = 8  # threads


def generator(machine: Target) -> Any:
    """LLVM's code generator for a machine, this one or another."""
    llvm = binding()
    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=2, reloc="pic", codemodel="default"
    )


def emitted(kernel: Kernel, machine: Target, code: Any) -> bytes:
    """The object code of a kernel."""
    object_: bytes = code.emit_object(binding().parse_assembly(kernel.ir(SYMBOL, machine)))
    return object_


def together(kernels: Sequence[Kernel], machine: Target, code: Any) -> dict[str, bytes]:
    """Objects by key. This thread takes part, with the generator given; after an interruption the
    others end with the kernel at hand. What fails is not among the results."""
    if _library() is None:
        return {}
    rest = [(k.key, k.ir(SYMBOL, machine)) for k in kernels]
    found: dict[str, bytes] = {}

    def work(code: Any) -> None:
        with suppress(IndexError):
            while True:
                key, text = rest.pop()
                with suppress(Exception):
                    object_ = _beside(text, code)
                    if object_ is not None:
                        found[key] = object_

    codes = [generator(machine) for _ in range(min(cores(), MOST, len(kernels)) - 1)]
    others = [threading.Thread(target=work, args=(c,), daemon=True) for c in codes]
    try:
        for other in others:
            other.start()
        work(code)
        for other in others:
            other.join()
    finally:
        rest.clear()
    return found


@cache
def _library() -> Any:
    """llvmlite's library beside its lock; None if it is not the one that is known here."""
    try:
        found = ctypes.CDLL(binding().ffi.lib._name)
        for name, ins, out in (
            ("ContextCreate", (), c_void_p),
            ("ContextDispose", (c_void_p,), None),
            ("ParseAssembly", (c_void_p, c_char_p, POINTER(c_char_p)), c_void_p),
            ("TargetMachineEmitToMemory", (c_void_p, c_void_p, c_int, POINTER(c_char_p)), c_void_p),
            ("GetBufferStart", (c_void_p,), c_void_p),
            ("GetBufferSize", (c_void_p,), c_size_t),
            ("DisposeMemoryBuffer", (c_void_p,), None),
            ("DisposeModule", (c_void_p,), None),
        ):
            function = getattr(found, f"LLVMPY_{name}")
            function.argtypes, function.restype = ins, out
    except (AttributeError, OSError):
        return None
    return found


def _beside(text: str, code: Any) -> bytes | None:
    """The object of a module, in a context of its own; None if LLVM refuses it."""
    library, error = _library(), c_char_p()
    context = library.LLVMPY_ContextCreate()
    module = library.LLVMPY_ParseAssembly(context, text.encode(), byref(error))
    try:
        if not module:
            return None
        buffer = library.LLVMPY_TargetMachineEmitToMemory(code, module, 1, byref(error))
        if not buffer:
            return None
        size = library.LLVMPY_GetBufferSize(buffer)
        object_ = ctypes.string_at(library.LLVMPY_GetBufferStart(buffer), size)
        library.LLVMPY_DisposeMemoryBuffer(buffer)
        return object_
    finally:
        if module:
            library.LLVMPY_DisposeModule(module)
        library.LLVMPY_ContextDispose(context)
