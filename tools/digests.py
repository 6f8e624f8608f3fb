"""Writes tests/golden/cpu_digests.json: digests of a fixed set of results of `cpu`, and what made
them. Run it only together with a change of a kernel (RULES 3.6): it prints what has changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def made() -> dict[str, Any]:
    """The digests of this machine, and its name."""
    from proa.backends.cpu.target import binding, target
    from tests.helpers_digests import digest, jobs

    return {
        "processor": target().cpu,
        "features": "AVX-512" if target().vector_bytes == 64 else f"{target().vector_bytes} bytes",
        "llvm": ".".join(map(str, binding().llvm_version_info)),
        "date": date.today().isoformat(),
        "digests": {job[0]: digest(job) for job in jobs()},
    }


def main() -> int:
    """Writes the file, or with `--check` compares it."""
    from tests.helpers_digests import FILE

    parser = argparse.ArgumentParser(description="digests of results of cpu")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    is_check = parser.parse_args().check
    found = made()
    old = json.loads(FILE.read_text(encoding="utf-8"))["digests"] if FILE.is_file() else {}
    new = found["digests"]
    changed = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    for name in changed:
        print(f"{name}: {old.get(name, 'none')} -> {new.get(name, 'none')}")
    print(f"{len(new)} digests, {len(changed)} changed")
    if is_check:
        return 1 if changed else 0
    if changed:
        FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
