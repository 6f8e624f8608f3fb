"""Objects on the disk: found by what they were made from, verified by checksum, never trusted.

A file is a line of two digests (of the name it stands for, of the object) and the object. What
does not fit is made anew. A folder that cannot be written is used as far as it goes, with one
warning.
"""

from __future__ import annotations

import secrets
import warnings
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from proa.config import config

LIMIT_BYTES: Final = 256 << 20
_WARNED: Final[list[str]] = []


@cache
def version() -> str:
    """A digest of the compiler's own source: another compiler, other objects."""
    found = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def name_of(*parts: str) -> str:
    """The name of an object: a digest of all that it depends on."""
    return sha256("\0".join((version(), *parts)).encode()).hexdigest()


def folder() -> Path:
    return config.cache_dir / "cpu"


def load(name: str) -> bytes | None:
    """The object of this name, if one is there and whole."""
    try:
        path = folder() / name
        if not path.is_file():
            return None  # nothing, or what would be waited for
        head, _, object_ = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return object_ if head == _head(name, object_) else None


def save(name: str, object_: bytes) -> None:
    """Writes beside and renames: a reader sees all of it or nothing."""
    target = folder() / name
    temporary = target.with_name(f".{name[:16]}.{secrets.token_hex(8)}.tmp")
    try:
        folder().mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_head(name, object_) + b"\n" + object_)
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        _warn(error)


def _head(name: str, object_: bytes) -> bytes:
    return f"{name} {sha256(object_).hexdigest()}".encode()


def _warn(error: OSError) -> None:
    if not _WARNED:
        _WARNED.append(str(error))
        text = f"[cpu] kernels are not kept in {folder()}: {error}; try PROA_CACHE_DIR=..."
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _rows() -> list[tuple[float, int, Path]]:
    """Time, bytes and path of each object; none where the folder cannot be read."""
    try:
        return [(p.stat().st_mtime, p.stat().st_size, p) for p in folder().iterdir()]
    except OSError:
        return []


def held() -> tuple[int, int]:
    """How many objects the folder holds, and their bytes."""
    rows = _rows()
    return len(rows), sum(size for _, size, _ in rows)


def trim(limit: int = LIMIT_BYTES) -> None:
    """Drops the oldest objects where the folder holds more than `limit` bytes."""
    rows = _rows()
    total = sum(size for _, size, _ in rows)
    for _, size, path in sorted(rows):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink()
        total -= size
