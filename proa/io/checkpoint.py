"""`save` and `load`: a checkpoint is a folder with the structure in `checkpoint.json` and the
numbers in one safetensors file beside it.

The JSON file names the tensors' file and its digest, and is replaced last, by one rename: at every
moment the folder holds one whole checkpoint, the old or the new.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype
from proa.errors import ArgumentError, DtypeError, FileError, MissingFile, message
from proa.io.atomic import replaced, sync_folder, target_of
from proa.io.safetensors import METADATA, load_file, open_regular, save_file, strict_json
from proa.tensor import Tensor

FORMAT: Final = "proa checkpoint"
VERSION: Final = 1
NAME: Final = "checkpoint.json"
TENSORS: Final = re.compile(r"tensors-[0-9a-f]{32}\.safetensors")
SIZE_LIMIT: Final = 64_000_000
DEPTH_LIMIT: Final = 100
INT_LIMIT: Final = 2**1024
_FLOATS: Final = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def save(path: Any, tree: Any = None, /, **objects: Any) -> None:
    """Writes a checkpoint folder: whole, or not at all (then what was there before is intact).

    Either one tree of tensors, NumPy arrays, numbers, strings, None, tuples, lists and dicts, or
    such trees by keyword. What has `state_dict()` (modules, optimizers, schedules, loaders) or
    `get_state()` (generators) stands for its state.

    >>> import proa as pa, tempfile
    >>> path = tempfile.mkdtemp() + "/run"
    >>> pa.save(path, step=3, weights={"w": pa.asarray([1.0, 2.0])})
    >>> pa.load(path)["weights"]["w"].tolist()
    [1.0, 2.0]
    """
    if tree is not None and objects:
        raise ArgumentError(message("save", "a tree and keywords", "one of both"))
    target = target_of("save", path)
    if target.exists() and not target.is_dir():
        raise ArgumentError(
            message("save", f"the file {target}", "a folder, or a path that is free")
        )
    writer = _Encoder()
    body = writer.encode(objects if objects or tree is None else tree, (), 0)
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        _write(target, body, writer.tensors)
    except BaseException:
        if is_new:
            with suppress(OSError):
                target.rmdir()
        raise


def load(path: Any, /, **objects: Any) -> Any:
    """What `save` wrote. An object given by keyword takes the state of that name.

    Returns the whole tree, in which objects are their state. A damaged or hostile folder raises
    FileError; nothing in it is executed, and nothing outside it is read.
    """
    target = target_of("load", path)
    for name, thing in objects.items():
        if _method(thing, "load_state_dict") is None and _method(thing, "set_state") is None:
            given = f"{name} of type {type(thing).__name__}"
            raise DtypeError(
                message("load", given, "an object with load_state_dict", "load(path)[name]")
            )
    tree = _read(target)
    missing = [n for n in objects if not isinstance(tree, dict) or n not in tree]
    if missing:
        there = list(tree) if isinstance(tree, dict) else f"a {type(tree).__name__}"
        raise ArgumentError(
            message("load", f"the names {missing}", f"names of the checkpoint: {there}")
        )
    for name, thing in objects.items():
        (_method(thing, "load_state_dict") or _method(thing, "set_state"))(tree[name])
    return tree


def _method(thing: Any, name: str) -> Any:
    found = getattr(thing, name, None)
    return found if callable(found) and not isinstance(thing, type) else None


# Writing.


@final
class _Encoder:
    """A tree as JSON, and its tensors by name. JSON objects are tags: `{"tensor": name}`."""

    __slots__ = ("tensors", "names", "kept")

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.kept: list[Any] = []

    def encode(self, thing: Any, path: tuple[Any, ...], depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise ArgumentError(
                message("save", f"more than {DEPTH_LIMIT} levels", "a tree without cycles")
            )
        kind = type(thing)
        if thing is None or kind is bool or kind is str:
            return thing
        if kind in (int, float, complex) or isinstance(thing, np.generic):
            return self._number(thing.item() if isinstance(thing, np.generic) else thing, path)
        if kind is Tensor or isinstance(thing, np.ndarray):
            return {"tensor" if kind is Tensor else "array": self._named(thing, path)}
        if kind is Dtype:
            return {"dtype": thing.name}
        return self._container(thing, path, depth)

    def _container(self, thing: Any, path: tuple[Any, ...], depth: int) -> Any:
        if isinstance(thing, (tuple, list)):
            items = [self.encode(t, (*path, i), depth + 1) for i, t in enumerate(thing)]
            return items if isinstance(thing, list) else {"tuple": items}
        if isinstance(thing, Mapping):
            rows = [
                [_key(k, path), self.encode(v, (*path, k), depth + 1)] for k, v in thing.items()
            ]
            return {"dict": rows}
        for name in ("state_dict", "get_state"):
            if (method := _method(thing, name)) is not None:
                return self.encode(method(), path, depth + 1)
        given = f"{_dotted(path)} of type {type(thing).__name__}"
        raise DtypeError(
            message("save", given, "tensors, numbers, strings, None, tuples, lists, dicts")
        )

    def _number(self, number: Any, path: tuple[Any, ...]) -> Any:
        if type(number) is complex:
            return {"complex": [self._number(number.real, path), self._number(number.imag, path)]}
        if type(number) is float and not isfinite(number):
            return {"float": repr(number)}
        if type(number) is int and abs(number) >= INT_LIMIT:
            raise ArgumentError(message("save", f"{_dotted(path)} beyond 2**1024", "a smaller int"))
        return number

    def _named(self, thing: Any, path: tuple[Any, ...]) -> str:
        """One tensor that stands in two places is stored once, and is one tensor again."""
        found = self.names.get(id(thing))
        if found is None:
            base = _dotted(path)
            found = base
            while found in self.tensors or found == METADATA:
                found = f"{base}#{len(self.tensors)}"
            self.names[id(thing)] = found
            self.tensors[found] = thing
            self.kept.append(thing)
        return found


def _key(key: Any, path: tuple[Any, ...]) -> Any:
    if type(key) not in (str, int) or (type(key) is int and abs(key) >= INT_LIMIT):
        given = f"the key {key!r:.40} in {_dotted(path)}"
        raise DtypeError(message("save", given, "keys that are strings or ints"))
    return key


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or "tree"


def _write(folder: Path, body: Any, tensors: dict[str, Any]) -> None:
    """The tensors under a name of their own, then the JSON file, which makes them current."""
    before = _current(folder)
    temporary = folder / f".tensors.{secrets.token_hex(8)}.tmp"
    name = digest = made = None
    try:
        if tensors:
            save_file(tensors, temporary)
            digest = _digest(temporary)
            name = f"tensors-{digest[:32]}.safetensors"
            made = folder / name if name != before else None
            os.replace(temporary, folder / name)
            sync_folder(folder)
        head = {"format": FORMAT, "version": VERSION, "tensors": name, "tensors_sha256": digest}
        text = json.dumps(
            {**head, "tree_sha256": _text_digest(body), "tree": body}, allow_nan=False
        )
        if len(text) >= SIZE_LIMIT:
            given = f"a tree of {len(text):,} bytes of text"
            raise ArgumentError(
                message("save", given, f"less than {SIZE_LIMIT:,}", "tensors for long lists")
            )
        with replaced(folder / NAME) as inner:
            inner.write_text(text + "\n", encoding="ascii")
    except BaseException:
        for left in (temporary, made):
            if left is not None and (left is temporary or _current(folder) != name):
                with suppress(FileNotFoundError):
                    os.unlink(left)
        raise
    if before is not None and before != name:
        with suppress(OSError):
            os.unlink(folder / before)


def _current(folder: Path) -> str | None:
    """The tensors' file of the checkpoint that is there."""
    try:
        name = _head(folder)["tensors"]
    except (OSError, FileError):
        return None
    return name if isinstance(name, str) else None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, allow_nan=False).encode()).hexdigest()


# Reading.


def _refused(folder: Path, what: str) -> FileError:
    return FileError(message("load", f"{folder}: {what}"[:400], "a checkpoint that pa.save wrote"))


def _head(folder: Path) -> dict[str, Any]:
    """The JSON file, checked but for the tree."""
    with _open_inside(folder, NAME) as file:
        if os.fstat(file.fileno()).st_size > SIZE_LIMIT:
            raise _refused(folder, f"{NAME} of more than {SIZE_LIMIT:,} bytes")
        text = file.read(SIZE_LIMIT)
    try:
        found = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise _refused(folder, f"{NAME} is no JSON: {error}") from None
    if type(found) is not dict or found.get("format") != FORMAT:
        raise _refused(folder, f"{NAME} of another format")
    if found.get("version") != VERSION:
        raise _refused(folder, f"version {found.get('version')!r:.40}; this Proa reads {VERSION}")
    if found.keys() != {"format", "version", "tensors", "tensors_sha256", "tree_sha256", "tree"}:
        raise _refused(folder, f"{NAME} with other fields")
    name = found["tensors"]
    if name is not None and (type(name) is not str or TENSORS.fullmatch(name) is None):
        raise _refused(folder, f"a tensors' file {name!r:.80}")
    return found


def _open_inside(folder: Path, name: str) -> Any:
    """A regular file of this folder itself: links, which may lead out of it, are refused."""
    path = folder / name
    if not folder.is_dir():
        raise MissingFile(message("load", f"{folder}", "the folder of a checkpoint"))
    if not path.exists() and not path.is_symlink():
        raise _refused(folder, f"no {name} in it")
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise _refused(folder, f"{name}, which is no regular file")
    return open_regular("load", path)


def _read(folder: Path) -> Any:
    head = _head(folder)
    if _digest_of_tree(head["tree"], folder) != head["tree_sha256"]:
        raise _refused(folder, f"{NAME} with a wrong digest of its tree")
    tensors = _tensors(folder, head)
    decoder = _Decoder(folder, tensors)
    tree = decoder.decode(head["tree"], 0)
    if decoder.used != set(tensors):
        raise _refused(folder, "tensors that the tree does not name")
    return tree


def _digest_of_tree(tree: Any, folder: Path) -> str:
    try:
        return _text_digest(tree)
    except (ValueError, RecursionError) as error:
        raise _refused(folder, f"a tree that cannot be read: {error}") from None


def _tensors(folder: Path, head: dict[str, Any]) -> dict[str, Tensor]:
    name = head["tensors"]
    if name is None:
        return {}
    with _open_inside(folder, name) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != head["tensors_sha256"]:
            raise _refused(folder, f"{name} with a wrong digest")
    return load_file(folder / name)


@final
class _Decoder:
    """The tree that an encoder wrote."""

    __slots__ = ("folder", "tensors", "used")

    def __init__(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        self.folder = folder
        self.tensors = tensors
        self.used: set[str] = set()

    def decode(self, given: Any, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise _refused(self.folder, f"more than {DEPTH_LIMIT} levels")
        if given is None or type(given) in (bool, int, float, str):
            return given
        if type(given) is list:
            return [self.decode(item, depth + 1) for item in given]
        if type(given) is not dict or len(given) != 1:
            raise _refused(self.folder, f"a node {given!r:.60}")
        ((tag, body),) = given.items()
        return self._tagged(tag, body, depth)

    def _tagged(self, tag: str, body: Any, depth: int) -> Any:
        if tag == "tuple" and type(body) is list:
            return tuple([self.decode(item, depth + 1) for item in body])
        if tag == "dict" and type(body) is list:
            return self._mapping(body, depth)
        if tag in ("tensor", "array") and type(body) is str and body in self.tensors:
            self.used.add(body)
            tensor = self.tensors[body]
            return tensor if tag == "tensor" else np.array(tensor.numpy())
        if tag == "float" and type(body) is str and body in _FLOATS:
            return _FLOATS[body]
        if tag == "complex" and type(body) is list and len(body) == 2:
            parts = [self.decode(part, depth + 1) for part in body]
            if all(type(part) is float for part in parts):
                return complex(*parts)
        if tag == "dtype" and type(body) is str and body in {d.name for d in dtypes.ALL}:
            return dtypes.dtype(body)
        raise _refused(self.folder, f"a node {tag!r:.40}: {body!r:.60}")

    def _mapping(self, rows: list[Any], depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for row in rows:
            if (
                type(row) is not list
                or len(row) != 2
                or type(row[0]) not in (str, int)
                or row[0] in found
            ):
                raise _refused(self.folder, f"an item {row!r:.60}")
            found[row[0]] = self.decode(row[1], depth + 1)
        return found
