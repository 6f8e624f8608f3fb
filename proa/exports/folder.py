"""The folder of an exported function: `graph.json` and `weights.safetensors`, written whole or not
at all, and taken for hostile until proven good.

The first line of `graph.json` holds the digest of all that follows, which holds the digest of the
weights. That is against damage: whoever can write the folder can write digests too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, final

import numpy as np

from proa.errors import ArgumentError, FileError, MissingFile, message
from proa.graph.store import storable
from proa.io.atomic import sync, sync_folder, target_of
from proa.io.safetensors import METADATA, read_header, save_file, strict_json

FORMAT: Final = "proa export"
VERSION: Final = 1
GRAPH: Final = "graph.json"
WEIGHTS: Final = "weights.safetensors"
PATIENCE: Final = 4  # times that a missing file is looked for again
SIZE_LIMIT: Final = 24_000_000  # of graph.json
MEMORY: Final = 44_000_000  # that what is read from JSON may take
_HEAD: Final = re.compile(
    rb'\{"format": "proa export", "version": ([0-9]{1,9}), "sha256": "([0-9a-f]{64})",\n'
)
TRIES: Final = 20
_WIDTH: Final = 96


@final
class Contents(NamedTuple):
    """What a folder holds: the JSON, and read-only arrays by name."""

    body: dict[str, Any]
    arrays: dict[str, Any]


def head_of(digest: str) -> bytes:
    """The first line of `graph.json`."""
    return f'{{"format": "{FORMAT}", "version": {VERSION}, "sha256": "{digest}",\n'.encode()


# Writing.


def write(path: Any, body: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
    """Writes the folder. An export that is there is replaced; anything else is not touched."""
    target = target_of("export", path)
    refuse_others(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        save_file({n: storable(a) for n, a in arrays.items()}, temporary / WEIGHTS)
        with open(temporary / WEIGHTS, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        text = pretty({**body, "weights_sha256": digest})[2:] + "\n"
        if len(text) >= SIZE_LIMIT:
            given = f"a graph of {len(text):,} bytes of text"
            raise ArgumentError(message("export", given, f"less than {SIZE_LIMIT:,}", "pa.scan"))
        raw = text.encode("ascii")
        (temporary / GRAPH).write_bytes(head_of(hashlib.sha256(raw).hexdigest()) + raw)
        sync(temporary / GRAPH)
        sync_folder(temporary)
        _take_place(temporary, target)
    except BaseException:
        _remove(temporary)
        raise
    sync_folder(target.parent)
    return target


def refuse_others(target: Path) -> None:
    """An error where something stands that is no export. One that is replaced meanwhile may be
    seen half."""
    for _ in range(PATIENCE):
        if _may_be_replaced(target):
            return
        time.sleep(0.005)
    given = f"{target}, where something else is"
    raise ArgumentError(message("export", given, "a path that is free, or an older export"))


def _may_be_replaced(target: Path) -> bool:
    try:
        names = sorted(os.listdir(target))
    except FileNotFoundError:
        return not target.is_symlink()
    except NotADirectoryError:
        return False
    if names == sorted([GRAPH, WEIGHTS]):
        with suppress(OSError, FileError), open_inside(target, GRAPH) as file:
            return bool(file.read(len(FORMAT) + 20).startswith(f'{{"format": "{FORMAT}"'.encode()))
    return not names


def _take_place(new: Path, target: Path) -> None:
    """Renames; what stands there goes out of the way first, and comes back if that fails. Another
    process may be doing the same, so it is tried again."""
    for _ in range(TRIES):
        old = target.with_name(f".{target.name[:80]}.{secrets.token_hex(8)}.old")
        with suppress(FileNotFoundError):
            os.rename(target, old)
        try:
            os.rename(new, target)
        except OSError as error:
            _come_back(old, target)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        except BaseException:
            _come_back(old, target)
            raise
        else:
            _remove(old)
            return
    given = f"{target}, which others write at the same time"
    raise ArgumentError(message("export", given, "a path of its own"))


def _come_back(old: Path, target: Path) -> None:
    try:
        os.rename(old, target)
    except OSError:  # nothing was there, or somebody else has put something newer there
        _remove(old)


def _remove(folder: Path) -> None:
    for name in (GRAPH, WEIGHTS):
        with suppress(OSError):
            os.unlink(folder / name)
    with suppress(OSError):
        os.rmdir(folder)


def pretty(value: Any, indent: str = "") -> str:
    """JSON for people: what fits stands in one line."""
    flat = json.dumps(value, allow_nan=False)
    if len(flat) + len(indent) <= _WIDTH or not isinstance(value, (dict, list)) or not value:
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        rows = [f"{json.dumps(k)}: {pretty(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join([inner + r for r in rows]) + "}"
    return "[\n" + ",\n".join([inner + pretty(v, inner) for v in value]) + "]"


# Reading.


def is_export(folder: Path) -> bool:
    """Whether somebody may have meant the folder as an export."""
    return os.path.lexists(folder / GRAPH)


def read(path: Any, check: bool = True) -> Contents:
    """All of the folder, mapped into memory rather than copied. Without `check` the digest of the
    weights is not compared, so that they are read only where they are used."""
    folder = target_of("load", path)
    if not folder.is_dir():
        raise MissingFile(message("load", f"{folder}", "the folder of an export"))
    with open_inside(folder, GRAPH) as file:
        body = _body(folder, file)
    digest = body.pop("weights_sha256", None)
    with open_inside(folder, WEIGHTS) as file:
        if check and hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise refused(folder, f"{WEIGHTS} with another digest: it is damaged")
        return Contents(body, _arrays(folder, file))


def refused(folder: Path, what: str) -> FileError:
    return FileError(message("load", f"{folder}: {what}"[:400], "a folder that pa.export wrote"))


def open_inside(folder: Path, name: str) -> Any:
    """A regular file of this folder itself: links, pipes and devices are refused."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        number = _opened(folder / name, flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        what = "a link" if error.errno in (errno.ELOOP, errno.EMLINK) else error.strerror
        raise refused(folder, f"{name}: {what}") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise refused(folder, f"{name}, which is no regular file")
    return os.fdopen(number, "rb")


def _opened(path: Path, flags: int) -> int:
    """What is replaced meanwhile is missing for a moment, between two renames."""
    for _ in range(PATIENCE):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            time.sleep(0.005)
    return os.open(path, flags)


def _body(folder: Path, file: BinaryIO) -> dict[str, Any]:
    size = os.fstat(file.fileno()).st_size
    if size > SIZE_LIMIT:
        raise refused(folder, f"{GRAPH} of {size:,} bytes")
    text = file.read(size)
    head = _HEAD.match(text)
    if head is None:
        raise refused(folder, f"{GRAPH} that does not begin as an export does")
    if int(head[1]) != VERSION:
        raise refused(folder, f"version {int(head[1])}; this Proa reads {VERSION}")
    if hashlib.sha256(memoryview(text)[head.end() :]).hexdigest() != head[2].decode():
        raise refused(folder, f"{GRAPH} with another digest: it is damaged")
    try:
        found = strict_json(text, MEMORY)
    except (ValueError, RecursionError) as error:
        raise refused(folder, f"{GRAPH} is no JSON that is read: {error}") from None
    if type(found) is not dict:
        raise refused(folder, f"{GRAPH} that holds no object")
    for key in ("format", "version", "sha256"):
        found.pop(key)
    return found


def _arrays(folder: Path, file: BinaryIO) -> dict[str, Any]:
    """The tensors of the weights' file, in memory that is the file's own until it is written to."""
    file.seek(0)
    places, _, start, _ = read_header(file, folder / WEIGHTS, MEMORY)
    raw = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    found = {}
    for name, place in places.items():
        part = raw[start + place.start : start + place.end]
        if place.dtype.kind == "bool" and part.size and part.max() > 1:
            raise refused(folder, f"{name!r:.60} of bool with a byte that is neither 0 nor 1")
        if part.ctypes.data % place.dtype.itemsize or not part.size:
            part = part.copy()
        array = part.view(place.dtype.numpy).reshape(place.shape)
        array.flags.writeable = False
        found[name] = array
    return found


def reserved(name: str) -> bool:
    """Whether no weight may have this name."""
    return name == METADATA or name.startswith("constant:")
