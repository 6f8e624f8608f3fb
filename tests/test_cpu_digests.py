"""`cpu`: a fixed set of results has the digests that are stored, on every machine (RULES 3.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proa.backends.cpu.target import target
from proa.config import config
from tests.helpers_digests import FILE, digest, jobs


def test_digests(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    if not target().has_fma:
        pytest.skip("promised to processors with fused multiply-add")
    monkeypatch.setattr(config, "cache_dir", tmp_path_factory.mktemp("kernels"))
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    names: list[str] = []
    other: list[str] = []
    for job in jobs():
        names.append(job[0])
        if digest(job) != stored["digests"].get(job[0]):
            other.append(job[0])
    assert len(names) == len(set(names)) >= 450
    gone = sorted(set(stored["digests"]) - set(names))
    assert not other and not gone, (
        f"{len(other)} of {len(names)} results have other bits than on {stored['processor']} "
        f"(LLVM {stored['llvm']}, {stored['date']}), or are new: {', '.join(other[:20])}; gone: "
        f"{gone[:20]}. Bits change only together with a kernel: if one was changed on purpose, run "
        "`python tools/digests.py` and say so in the same commit"
    )
