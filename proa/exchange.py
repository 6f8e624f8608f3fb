"""DLPack for dtypes that NumPy's exchange does not know: bfloat16 and float8 travel as integers of
their width, and the capsule's header says what they are."""

from __future__ import annotations

import ctypes
from typing import Any, Final, final

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype

# DLPack's type codes. Of unsigned integers 1.
CODES: Final = {dtypes.bfloat16: 4, dtypes.float8_e4m3fn: 10, dtypes.float8_e5m2: 12}
UNSIGNED: Final = 1
# Where code, bits and lanes of the dtype stand in a capsule of this name.
PLACES: Final = {b"dltensor": 20, b"dltensor_versioned": 52}

_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes, _is_valid.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def _header(capsule: Any) -> Any:
    """Code, bits, and the lanes' two bytes, to read and to write; None of what is no capsule."""
    for name, place in PLACES.items():
        if _is_valid(capsule, name):
            return (ctypes.c_uint8 * 4).from_address(_pointer(capsule, name) + place)
    return None


def exported(array: Any, dtype: Dtype, **options: Any) -> Any:
    """The capsule of an array."""
    if dtype not in CODES:
        return array.__dlpack__(**options)
    capsule = array.view(f"u{dtype.itemsize}").__dlpack__(**options)
    _header(capsule)[0] = CODES[dtype]
    return capsule


@final
class _Given:
    """What NumPy is shown: the capsule, with unsigned integers in the place of what it does not
    know."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.dtype: Dtype | None = None

    def __dlpack_device__(self) -> Any:
        return self.source.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        try:
            capsule = self.source.__dlpack__(**options)
        except TypeError:  # of before DLPack 1
            capsule = self.source.__dlpack__()
        header = _header(capsule)
        for dtype, code in CODES.items():
            if header is not None and tuple(header) == (code, 8 * dtype.itemsize, 1, 0):
                self.dtype = dtype
                header[0] = UNSIGNED
        return capsule


def imported(source: Any) -> Any:
    """The NumPy array of what exports itself by DLPack."""
    given = _Given(source)
    array = np.from_dlpack(given)
    return array if given.dtype is None else array.view(given.dtype.numpy)
