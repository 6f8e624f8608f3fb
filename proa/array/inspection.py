"""What this namespace can do, as the Array API standard asks for it."""

from __future__ import annotations

from typing import Any, Final, final

from proa import dtypes
from proa.compile.backend import Device
from proa.compile.find import device as as_device
from proa.defaults import devices, get_default_device
from proa.dtypes import Dtype, isdtype
from proa.shapes import MAX_NDIM
from proa.tensor import API_VERSIONS

API_VERSION: Final = API_VERSIONS[-1]
# The standard's, of those that can be computed with; complex numbers are only held and read.
NAMES: Final = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32",
    "float64",
)  # fmt: skip


@final
class Info:
    """What `__array_namespace_info__` gives."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and shapes that depend on values work, but need `size=` under `jit`."""
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": MAX_NDIM,
        }

    def default_device(self) -> Device:
        """Where new tensors are made."""
        return get_default_device()

    def default_dtypes(self, *, device: Any = None) -> dict[str, Dtype]:
        """The dtypes of new tensors, by kind."""
        if device is not None:
            as_device(device)
        found = dtypes.default_float()
        of_complex = dtypes.complex128 if found is dtypes.float64 else dtypes.complex64
        return {
            "real floating": found,
            "complex floating": of_complex,
            "integral": dtypes.int64,
            "indexing": dtypes.int64,
        }

    def devices(self) -> list[Device]:
        """The devices of all backends that are installed."""
        return devices()

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Dtype]:
        """The standard's dtypes by name, of one kind or of all."""
        if device is not None:
            as_device(device)
        found = {name: dtypes.dtype(name) for name in NAMES}
        return {n: d for n, d in found.items() if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807
    """What this namespace can do: capabilities, devices, dtypes, and the defaults.

    >>> import proa as pa
    >>> pa.__array_namespace_info__().default_dtypes()["integral"]
    proa.int64
    """
    return Info()
