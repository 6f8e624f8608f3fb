"""`Target`: the machine that kernels are made for, described. Everything is parameterised by it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from proa.config import config
from proa.errors import DeviceError, message

GROUPS: Final = Path("/sys/fs/cgroup")
CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")


@final
class Target(NamedTuple):
    """What LLVM and the operating system say of a processor, or what PROA_CPU_TARGET asks for."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    has_half: bool
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int
    page_bytes: int

    @property
    def has_scale(self) -> bool:
        """Whether one instruction multiplies by powers of two: AVX-512's vscalefps."""
        return self.is_x86 and self.vector_bytes == 64

    @property
    def is_x86(self) -> bool:
        return self.triple.startswith(("x86_64", "amd64"))

    def __str__(self) -> str:
        fma = "fused multiply-add" if self.has_fma else "no fused multiply-add"
        caches = "/".join(f"{n >> 10}K" for n in (self.l1_bytes, self.l2_bytes, self.l3_bytes))
        return (
            f"{self.cpu} ({self.triple}): {self.registers} registers of {self.vector_bytes} bytes, "
            f"{fma}, caches {caches}, {self.cores} cores, pages of {self.page_bytes}"
        )


def binding() -> Any:
    """llvmlite's binding with this machine's code generator; imported when first used."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def target() -> Target:
    """The target of this process: this machine, or less of it where that is asked for."""
    asked = config.cpu_target
    if asked:
        found = find(asked)
        here = {k for k, on in binding().get_host_cpu_features().items() if on}
        missing = sorted(_levels(asked) - here)
        if missing:
            given = f"PROA_CPU_TARGET={asked}"
            raise DeviceError(message("config", given, f"a processor with {', '.join(missing)}"))
        return found
    return find()


def find(asked: str = "") -> Target:
    """This machine, or another processor of the same family by LLVM's name for it."""
    llvm = binding()
    triple = llvm.get_process_triple()
    cpu, features = asked, ""
    if asked:
        _check_name(asked, triple)
        known = _levels(asked)
    else:
        cpu = llvm.get_host_cpu_name()
        found = llvm.get_host_cpu_features()
        features, known = found.flatten(), {k for k, on in found.items() if on}
    size, count = _vectors(triple, known)
    return Target(
        triple, cpu, features, size, count,
        "fma" in known or not triple.startswith("x86"), "f16c" in known,
        _cache(1, 32 << 10), _cache(2, 256 << 10), _cache(3, 4 << 20),
        cores(), os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096,
    )  # fmt: skip


def foreign(triple: str, features: str = "") -> Target:
    """A machine of another family, cautiously: objects are emitted for it and not run."""
    llvm = binding()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    size, count = _vectors(triple, set())
    return Target(
        triple, "", features, size, count, True, True, 32 << 10, 256 << 10, 4 << 20, 1, 4096
    )


def _check_name(asked: str, triple: str) -> None:
    if asked not in LEVELS or not triple.startswith("x86"):
        names = ", ".join(LEVELS) if triple.startswith("x86") else "none but this machine"
        raise DeviceError(message("config", f"PROA_CPU_TARGET={asked!r:.60}", names))


LEVELS: Final[dict[str, tuple[str, ...]]] = {
    "x86-64": (),
    "x86-64-v2": ("sse4.2",),
    "x86-64-v3": ("sse4.2", "avx2", "fma", "f16c"),
    "x86-64-v4": ("sse4.2", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl"),
}


def _levels(asked: str) -> set[str]:
    return set(LEVELS[asked])


def _vectors(triple: str, features: set[str]) -> tuple[int, int]:
    """Bytes of a vector register, and how many there are."""
    if not triple.startswith(("x86_64", "amd64")):
        return 16, 32
    if "avx512f" in features and "avx512bw" in features and "avx512vl" in features:
        return 64, 32
    return (32, 16) if "avx2" in features else (16, 16)


def _cache(level: int, otherwise: int) -> int:
    """Bytes of a cache of data; a cautious guess where the system does not tell."""
    for folder in sorted(CACHES.glob("index*")):
        try:
            kind = (folder / "type").read_text().strip()
            if int((folder / "level").read_text()) == level and kind != "Instruction":
                text = (folder / "size").read_text().strip()
                return int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]]
        except (OSError, ValueError, KeyError):
            continue
    return otherwise


def cores() -> int:
    """Processors that this process may use: affinity, and the control group's share of time."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    try:
        quota, period = (GROUPS / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        return found
    return max(1, min(found, round(int(quota) / int(period)))) if quota.isdigit() else found
