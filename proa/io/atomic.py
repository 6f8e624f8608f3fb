"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proa.errors import ArgumentError, message


def target_of(op: str, path: object) -> Path:
    """The path as a Path; links are followed, so that what they point at is replaced."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        given = f"a path of type {type(path).__name__}"
        raise ArgumentError(message(op, given, "a string or a pathlib.Path"))
    text = os.fspath(path)
    if not text or "\0" in str(text):
        raise ArgumentError(message(op, f"path {text!r:.60}", "the path of a file"))
    return Path(os.path.realpath(text))


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which takes the place of `target` when the block ends
    without an error. Until then, and after an error, `target` is what it was."""
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)


def sync(path: Path) -> None:
    """Returns when the contents of a file are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_folder(path: Path) -> None:
    """Returns when the names in a folder are on the disk, where the system can say so."""
    with suppress(OSError):
        sync(path)
