"""Every flag of Proa, once. An environment variable is read nowhere else.

| flag | variable | default | meaning |
| --- | --- | --- | --- |
| device | PROA_DEVICE | cpu | the device that new tensors are made on |
| show | PROA_SHOW | (empty) | passes whose result is printed, separated by commas |
| verify | PROA_VERIFY | 0 | check every graph between passes |
| node_limit | PROA_NODE_LIMIT | 100000 | pending operations before a forced dispatch |
| program_limit | PROA_PROGRAM_LIMIT | 512 | programs kept in the cache of structures |
| cache_dir | PROA_CACHE_DIR | ~/.cache/proa | where caches on disk live |
| null_devices | PROA_NULL_DEVICES | 1 | devices of the backend that computes nothing |
| cpu_target | PROA_CPU_TARGET | (this machine) | the processor to compile for: x86-64-v3 |
| jit_check | PROA_JIT_CHECK | 0 | every `jit` has `check=True` (for tests, slow) |
| cpu_checked | PROA_CPU_CHECKED | 0 | check that kernels stay in their memory (slow) |
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, final


@final
class Config:
    """The flags, read from the environment when first used; attributes may be assigned."""

    __slots__ = ("device", "show", "verify", "node_limit", "program_limit", "cache_dir",
                 "cpu_target", "cpu_checked", "null_devices", "jit_check")  # fmt: skip

    device: str
    show: tuple[str, ...]
    verify: bool
    node_limit: int
    program_limit: int
    cache_dir: Path
    cpu_target: str
    cpu_checked: bool
    null_devices: int
    jit_check: bool

    def __getattr__(self, name: str) -> object:
        """Reached for a flag that nobody has assigned or asked for yet."""
        if name not in Config.__slots__:
            raise AttributeError(f"[config] given {name!r}, expected one of {Config.__slots__}")
        value = _READ[name](os.environ.get(f"PROA_{name.upper()}", ""))
        setattr(self, name, value)
        return value


def _positive(default: int) -> Callable[[str], int]:
    """A positive int, or the default for anything else."""
    return lambda text: int(text) if text.isdigit() and int(text) > 0 else default


_READ: Final[dict[str, Callable[[str], object]]] = {
    "device": lambda text: text or "cpu",
    "show": lambda text: tuple([s for s in text.split(",") if s]),
    "verify": lambda text: text not in ("0", ""),
    "node_limit": _positive(100_000),
    "program_limit": _positive(512),
    "cache_dir": lambda text: Path(text) if text else Path.home() / ".cache" / "proa",
    "cpu_target": lambda text: text,
    "cpu_checked": lambda text: text not in ("0", ""),
    "jit_check": lambda text: text not in ("0", ""),
    "null_devices": _positive(1),
}
config: Final = Config()
