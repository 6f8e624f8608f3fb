"""The CPU compiler: pure Python that writes LLVM IR, for a target that is described."""

from __future__ import annotations

from proa.backends.cpu.backend import CpuBackend


def make() -> CpuBackend:
    return CpuBackend()
