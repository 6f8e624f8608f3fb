"""How much memory is free: of the machine and of the control group that the process is in."""

from __future__ import annotations

from pathlib import Path

from proa.errors import OutOfMemory, message

ENOUGH = 1 << 62
SMALL = 1 << 22


def free_bytes() -> int:
    """Bytes that may still be allocated; very many where the system does not tell."""
    return min(_machine(), _group())


def need(op: str, nbytes: float) -> None:
    """Refuses an array on the host that does not fit, before it is asked for."""
    if nbytes > SMALL and nbytes > (free := free_bytes()):
        given = f"a result of {nbytes:,} bytes"
        raise OutOfMemory(message(op, given, f"at most the {free:,} bytes that are free"))


def _machine() -> int:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return ENOUGH
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return ENOUGH


def _group() -> int:
    """cgroup version 2, then version 1."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most = Path("/sys/fs/cgroup", limit).read_text().strip()
            now = Path("/sys/fs/cgroup", used).read_text().strip()
        except OSError:
            continue
        if most.isdigit() and now.isdigit():
            return max(0, int(most) - int(now))
    return ENOUGH
