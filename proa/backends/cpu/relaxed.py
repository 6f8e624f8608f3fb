"""A kernel in which products and sums may be contracted: for `numerics="fast"` alone."""

from __future__ import annotations

import re
from typing import Final, final

from proa.backends.cpu.kernel import Kernel
from proa.backends.cpu.target import Target

ARITHMETIC: Final = re.compile(r" = (fadd|fsub|fmul) ")


@final
class Relaxed:
    """A kernel with a key of its own, in whose text LLVM may join a product and a sum."""

    __slots__ = ("kernel", "key")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.key = f"relaxed {kernel.key}"

    def ir(self, name: str, machine: Target) -> str:
        return ARITHMETIC.sub(r" = \1 contract ", self.kernel.ir(name, machine))
