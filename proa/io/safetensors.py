"""safetensors files. What is read is hostile until proven good: the header is checked to the last
byte before anything is allocated."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from proa import dtypes
from proa.compile.find import default_device
from proa.compile.find import device as as_device
from proa.compile.memory import free_bytes
from proa.dtypes import Dtype
from proa.errors import ArgumentError, DtypeError, FileError, MissingFile, message
from proa.graph.spec import spec
from proa.io.atomic import replaced, target_of
from proa.record.live import thread
from proa.shapes import MAX_NDIM, size
from proa.tensor import Tensor, put

HEADER_LIMIT: Final = 100_000_000
COUNT_LIMIT: Final = 1_000_000
METADATA: Final = "__metadata__"
CODES: Final[dict[str, Dtype]] = {
    "BOOL": dtypes.bool_, "U8": dtypes.uint8, "U16": dtypes.uint16, "U32": dtypes.uint32,
    "U64": dtypes.uint64, "I8": dtypes.int8, "I16": dtypes.int16, "I32": dtypes.int32,
    "I64": dtypes.int64, "F8_E4M3": dtypes.float8_e4m3fn, "F8_E5M2": dtypes.float8_e5m2,
    "F16": dtypes.float16, "BF16": dtypes.bfloat16, "F32": dtypes.float32, "F64": dtypes.float64,
    "C64": dtypes.complex64,
}  # fmt: skip
_STORED: Final = frozenset(CODES.values())
_FIELDS: Final = frozenset({"dtype", "shape", "data_offsets"})


class Place(NamedTuple):
    """Where a tensor lies in the file: dtype, shape, and bytes counted from the data's start."""

    dtype: Dtype
    shape: tuple[int, ...]
    start: int
    end: int


# Writing.


def save_file(
    tensors: Mapping[str, Any], path: Any, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors (or NumPy arrays) by name. The file is there whole or not at all.

    metadata: strings by name, kept in the header.

    >>> import proa as pa, tempfile, os
    >>> from proa.io import load_file, save_file
    >>> path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> save_file({"x": pa.asarray([1.0, 2.0])}, path)
    >>> load_file(path)["x"].tolist()
    [1.0, 2.0]
    """
    from safetensors import SafetensorError, TensorSpec, serialize_file

    arrays = _arrays(tensors)
    texts = _texts(metadata)
    target = target_of("save_file", path)
    if target.is_dir():
        raise ArgumentError(message("save_file", f"the folder {target}", "the path of a file"))
    rows = {
        name: TensorSpec(
            dtype=a.dtype.name, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes
        )
        for name, a in arrays.items()
    }
    with replaced(target) as temporary:
        try:
            serialize_file(rows, str(temporary), texts)
        except SafetensorError as error:
            raise OSError(
                message("save_file", f"{target}: {error}", "a file that can be written")
            ) from error


def _arrays(tensors: Any) -> dict[str, Any]:
    if not isinstance(tensors, Mapping):
        given = f"tensors of type {type(tensors).__name__}"
        raise DtypeError(message("save_file", given, "a dict of tensors", "model.state_dict()"))
    found = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or name == METADATA:
            raise ArgumentError(
                message("save_file", f"the name {name!r:.60}", "a string of your own")
            )
        if type(value) is not Tensor and not isinstance(value, (np.ndarray, np.generic)):
            given = f"{name!r} of type {type(value).__name__}"
            raise DtypeError(message("save_file", given, "a tensor or a NumPy array"))
        of = dtypes.dtype(value.dtype)
        if of not in _STORED:
            given = f"{name!r} of {of.name}"
            raise DtypeError(
                message("save_file", given, "a dtype that safetensors has", "two parts")
            )
        host = value.numpy() if type(value) is Tensor else value
        found[name] = np.asarray(host, dtype=of.numpy, order="C")
    return found


def _texts(metadata: Any) -> dict[str, str] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        given = f"metadata of type {type(metadata).__name__}"
        raise DtypeError(message("save_file", given, "a dict of strings"))
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            given = f"metadata {key!r:.40}: {value!r:.40}"
            raise DtypeError(message("save_file", given, "strings", "json.dumps(value)"))
    return dict(metadata)


# Reading.


def load_file(path: Any, device: Any = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, in the order of the file.

    device: where they are put; the default one if None. A damaged or hostile file raises
    FileError, and nothing in it is ever executed.
    """
    from safetensors import SafetensorError, safe_open

    where = target_of("load_file", path)
    home = as_device(device) if device is not None else thread.state.device or default_device()
    with open_regular("load_file", where) as file:
        places, _, start, length = read_header(file, where)
        try:
            with safe_open(str(where), framework="np"):
                pass
        except SafetensorError as error:
            raise _refused(where, str(error)) from None
        if length > free_bytes():
            raise FileError(
                message("load_file", f"{where} of {length:,} bytes", "a file that fits into memory")
            )
        return {name: _tensor(file, start, p, home, name, where) for name, p in places.items()}


def load_metadata(path: Any) -> dict[str, str]:
    """The strings in the header of a safetensors file."""
    where = target_of("load_metadata", path)
    with open_regular("load_metadata", where) as file:
        return read_header(file, where)[1]


def open_regular(op: str, path: Path) -> BinaryIO:
    """Opens a regular file for reading; a pipe or device, which could hang, is refused."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        number = os.open(path, flags)
    except FileNotFoundError:
        raise MissingFile(message(op, f"{path}, where nothing is", "a file")) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise FileError(message(op, f"{path}, which is no regular file", "a file"))
    return os.fdopen(number, "rb")


def _refused(path: Path, what: str) -> FileError:
    return FileError(message("load_file", f"{path}: {what}"[:400], "a whole safetensors file"))


def read_header(
    file: BinaryIO, path: Path, memory: int | None = None
) -> tuple[dict[str, Place], dict[str, str], int, int]:
    """Places by name, metadata, where the data starts, and its length. Every byte of the data
    belongs to exactly one tensor. `memory`: bytes that the header may take."""
    total = os.fstat(file.fileno()).st_size
    first = file.read(8)
    if len(first) < 8:
        raise _refused(path, f"{total} bytes")
    length = int.from_bytes(first, "little")
    if length > min(HEADER_LIMIT, total - 8):
        raise _refused(path, f"a header of {length:,} bytes in a file of {total:,}")
    found = _parsed(file.read(length), path, memory)
    texts = _checked_texts(found.pop(METADATA, {}), path)
    if len(found) > COUNT_LIMIT:
        raise _refused(path, f"{len(found):,} tensors")
    data = total - 8 - length
    places = {name: _checked(name, row, path) for name, row in found.items()}
    end = 0
    for name, place in sorted(places.items(), key=lambda row: (row[1].start, row[1].end)):
        if place.start != end:
            raise _refused(path, f"{name!r:.60} at byte {place.start} where {end} is free")
        end = place.end
    if end != data:
        raise _refused(path, f"tensors of {end:,} bytes in data of {data:,}")
    return places, texts, 8 + length, data


def _parsed(header: bytes, path: Path, memory: int | None) -> dict[str, Any]:
    try:
        found = strict_json(header, memory)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"a header that is no JSON: {error}") from None
    if type(found) is not dict:
        raise _refused(path, "a header that is no object")
    return found


def strict_json(text: bytes, memory: int | None = None) -> Any:
    """JSON in UTF-8 without NaN, infinities and repeated keys; ValueError otherwise. `memory`:
    bytes that what is read may take, about."""
    if memory is not None:
        opened, parts = text.count(b"{") + text.count(b"["), text.count(b",") + text.count(b":")
        if len(text) + 100 * opened + 40 * parts + 30 * text.count(b'"') > memory:
            raise ValueError(f"more than fits into {memory:,} bytes")
    return json.loads(
        text.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_constant,
        parse_float=_finite,
    )  # fmt: skip


def _finite(text: str) -> float:
    found = float(text)
    if not isfinite(found):
        raise ValueError(f"the number {text[:40]}")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"the number {name}")


def _checked_texts(given: Any, path: Path) -> dict[str, str]:
    if type(given) is not dict or not all(type(v) is str for v in given.values()):
        raise _refused(path, "metadata that are not strings")
    return given


def _checked(name: str, row: Any, path: Path) -> Place:
    if type(row) is not dict or row.keys() != _FIELDS:
        raise _refused(path, f"{name!r:.60} without dtype, shape and data_offsets")
    dtype = CODES.get(row["dtype"]) if type(row["dtype"]) is str else None
    if dtype is None:
        raise _refused(path, f"{name!r:.60} of dtype {row['dtype']!r:.40}")
    shape, offsets = row["shape"], row["data_offsets"]
    if not _counts(shape) or len(shape) > MAX_NDIM:
        raise _refused(path, f"{name!r:.60} of shape {shape!r:.80}")
    if not _counts(offsets) or len(offsets) != 2:
        raise _refused(path, f"{name!r:.60} at {offsets!r:.80}")
    start, end = offsets
    if end - start != size(shape) * dtype.itemsize:
        raise _refused(path, f"{name!r:.60} of {dtype.name}{shape} in {end - start} bytes")
    return Place(dtype, tuple(shape), start, end)


def _counts(given: Any) -> bool:
    return type(given) is list and all(type(n) is int and 0 <= n < 2**63 for n in given)


def _tensor(file: BinaryIO, start: int, place: Place, device: Any, name: str, path: Path) -> Tensor:
    file.seek(start + place.start)
    raw = np.empty(place.end - place.start, np.uint8)
    if file.readinto(raw.data) != raw.size:  # type: ignore[attr-defined]
        raise _refused(path, f"{name!r:.60} cut off")
    if place.dtype is dtypes.bool_ and raw.size and raw.max() > 1:
        raise _refused(path, f"{name!r:.60} of bool with a byte that is neither 0 nor 1")
    array = raw.view(place.dtype.numpy).reshape(place.shape)
    return put(array, spec(place.shape, place.dtype), device)
