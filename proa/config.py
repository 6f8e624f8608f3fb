"""Every flag of Proa, once. An environment variable is read nowhere else.

| flag | variable | default | meaning |
| --- | --- | --- | --- |
| device | PROA_DEVICE | numpy | the device that new tensors are made on |
| show | PROA_SHOW | (empty) | stages whose result is printed, separated by commas |
| verify | PROA_VERIFY | 0 | check every graph between passes |
| node_limit | PROA_NODE_LIMIT | 100000 | pending operations before a forced dispatch |
| program_limit | PROA_PROGRAM_LIMIT | 512 | programs kept in the cache of structures |
| cache_dir | PROA_CACHE_DIR | ~/.cache/proa | where caches on disk live |
| cpu_target | PROA_CPU_TARGET | (this machine) | the processor to compile for: x86-64-v3 |
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, final


@final
class Config:
    """The flags, read from the environment when first used; attributes may be assigned."""

    __slots__ = ("device", "show", "verify", "node_limit", "program_limit", "cache_dir",
                 "cpu_target")  # fmt: skip

    device: str
    show: tuple[str, ...]
    verify: bool
    node_limit: int
    program_limit: int
    cache_dir: Path
    cpu_target: str

    def __getattr__(self, name: str) -> object:
        if name not in Config.__slots__:
            raise AttributeError(f"[config] given {name!r}, expected one of {Config.__slots__}")
        self._read()
        return getattr(self, name)

    def _read(self) -> None:
        get = os.environ.get
        self.device = get("PROA_DEVICE", "numpy")
        self.show = tuple(s for s in get("PROA_SHOW", "").split(",") if s)
        self.verify = get("PROA_VERIFY", "0") not in ("0", "")
        self.node_limit = _positive("PROA_NODE_LIMIT", 100_000)
        self.program_limit = _positive("PROA_PROGRAM_LIMIT", 512)
        self.cache_dir = Path(get("PROA_CACHE_DIR", str(Path.home() / ".cache" / "proa")))
        self.cpu_target = get("PROA_CPU_TARGET", "")


def _positive(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() and int(text) > 0 else default


config: Final = Config()
