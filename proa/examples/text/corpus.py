"""The demo's text: Python's own standard library, or a file or folder of the user's.

Every tenth piece of the text, from the first on, is held out: a model is judged on text that it
has not seen.
A piece is a whole file; where there are fewer than ten files, it is a run of lines.
"""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

EVERY = 10
LEAST = 4096
CAP = 64 << 20
RUN = 64
SNIFF = 8192

LEFT_OUT = frozenset(
    {
        "test",
        "tests",
        "encodings",
        "lib2to3",
        "idlelib",
        "ensurepip",
        "site-packages",
        "dist-packages",
        "__pycache__",
    }
)


@final
@dataclass(frozen=True, slots=True)
class Corpus:
    """Text for training and text held out.

    Arguments:
        train: the text to learn from.
        held_out: the text to be judged on, every tenth piece of the whole.
        source: where the text comes from, in words.
        files: how many files were read.
        skipped: how many were passed over (binary, unreadable, a link, not a regular file).

    Example:
        >>> Corpus(b"to learn", b"to judge", "two strings", 2).files
        2
    """

    train: bytes
    held_out: bytes
    source: str
    files: int
    skipped: int = 0


def collect(text: str | os.PathLike[str] | None = None, cap: int = CAP) -> Corpus:
    """Collect the text of the demo.

    Arguments:
        text: a file, a folder, or None for the `*.py` files of the standard library.
            Of a folder, every file in UTF-8 is taken, in the order of its relative path.
            Hidden files are left out, and links are not followed.
            A single file is cut into runs of at most 64 lines.
        cap: the most bytes to take.

    Errors:
        FileNotFoundError: there is nothing at `text`.
        ValueError: no text in UTF-8 there, less than 4096 bytes or more than `cap`.

    Example:
        >>> text = collect()
        >>> len(text.train) > len(text.held_out) > 0
        True
    """
    if text is None:
        return _library(cap)
    path = Path(text)
    # Unlike Path.exists, this is no error for a name with a zero byte, or too long.
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"[corpus] given {str(path)!r}, where there is nothing, expected a file or a folder, "
            "try a path that exists"
        )
    if path.is_dir():
        names = _names(path, suffix="", left_out=frozenset())
        return _folder(path, names, f"folder {path}", cap)
    return _folder(path.parent, [path.name], f"file {path}", cap, links=True)


def split(pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Part pieces of text into those to learn from and every tenth one, held out.

    Arguments:
        pieces: files, in a fixed order; fewer than ten are joined and cut into runs of lines.

    Errors:
        ValueError: less than 4096 bytes in all, or nothing to hold out.

    Example:
        >>> train, held_out = split([b"%d" % (i % 10) * 500 for i in range(20)])
        >>> set(held_out) == set(b"0"), len(train)
        (True, 9000)
    """
    parts = pieces if len(pieces) >= EVERY else _runs(b"".join(pieces))
    held_out = b"".join(parts[::EVERY])
    train = b"".join(part for i, part in enumerate(parts) if i % EVERY)
    size = len(train) + len(held_out)
    if size < LEAST or not train or not held_out:
        raise ValueError(
            f"[corpus] given {size} bytes in {len(parts)} pieces, expected at least {LEAST} bytes "
            f"in at least {EVERY} files or lines, try a longer text"
        )
    return train, held_out


def _library(cap: int) -> Corpus:
    root = Path(sysconfig.get_paths()["stdlib"])
    names = _names(root, suffix=".py", left_out=LEFT_OUT)
    source = f"standard library of Python {platform.python_version()}"
    return _folder(root, names, source, cap)


def _folder(root: Path, names: list[str], source: str, cap: int, links: bool = False) -> Corpus:
    texts = []
    room = cap
    for name in names:
        data = _read(root / name, room, cap, links)
        if data is not None:
            texts.append(data)
            room -= len(data)
    if not texts:
        raise ValueError(
            f"[corpus] given {source}, without any text in it, expected files in UTF-8, "
            "try another path"
        )
    train, held_out = split(texts)
    return Corpus(train, held_out, source, len(texts), len(names) - len(texts))


def _names(root: Path, suffix: str, left_out: frozenset[str]) -> list[str]:
    """Relative paths, sorted: the order of a folder's own listing differs between machines."""
    return sorted(_walk(root, suffix, left_out))


def _walk(root: Path, suffix: str, left_out: frozenset[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if not _hidden(name) and name not in left_out]
        for name in files + links:
            if name.endswith(suffix) and not _hidden(name):
                yield Path(folder, name).relative_to(root).as_posix()


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _read(path: Path, room: int, cap: int, links: bool) -> bytes | None:
    """The file's bytes, or None where it is not text of this folder."""
    # A link may leave the folder, or show one file twice: on both sides of the split.
    # A pipe or a device may never end.
    if not os.path.isfile(path) or (os.path.islink(path) and not links):
        return None
    try:
        data = _at_most(path, room + 1)
    except OSError:
        return None
    if len(data) > room:
        raise ValueError(
            f"[corpus] given more than {cap} bytes (reached at {str(path)!r}), "
            f"expected at most {cap}, try a smaller text or a larger cap"
        )
    return data if _is_text(data) else None


def _at_most(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        head = file.read(min(size, SNIFF))
        # A binary file is known by its start: a large one must not count against the cap.
        return b"\0" if b"\0" in head else head + file.read(size - len(head))


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _runs(data: bytes) -> list[bytes]:
    """Runs of up to 64 lines, shorter where the text would not fill ten of them."""
    lines = data.splitlines(keepends=True)
    size = max(1, min(RUN, len(lines) // EVERY))
    return [b"".join(lines[i : i + size]) for i in range(0, len(lines), size)]
