"""How much memory is free: of the machine and of the control group that the process is in."""

from __future__ import annotations

from pathlib import Path

ENOUGH = 1 << 62


def free_bytes() -> int:
    """Bytes that may still be allocated; very many where the system does not tell."""
    return min(_machine(), _group())


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
