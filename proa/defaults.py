"""Dtypes and devices that are not named: the defaults, and the dtype in which operands meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.compile.backend import Device
from proa.compile.find import backend, backend_names, default_device
from proa.compile.find import device as as_device
from proa.compile.find import set_default_device as _set_default_device
from proa.dtypes import Dtype, bool_, int64
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DeviceError, DtypeError, MissingExtra, message
from proa.ops.primitive import number_of
from proa.record.live import thread

PYTHON: Final = frozenset({bool, int, float, complex})


def natural_dtype(array: Any) -> Dtype:
    """The dtype of new tensors from Python numbers."""
    kind = array.dtype.kind
    if kind == "b":
        return bool_
    if kind in "iuO":
        return int64
    if kind == "f":
        return dtypes.default_float()
    return dtypes.complex128 if dtypes.default_float() is dtypes.float64 else dtypes.complex64


def new_dtype(dtype: Any) -> Dtype:
    return dtypes.default_float() if dtype is None else as_dtype(dtype)


def result_type(*arrays_and_dtypes: Any) -> Dtype:
    """The dtype in which tensors, dtypes and Python numbers meet; numbers are weak.

    >>> import proa as pa
    >>> pa.result_type(pa.float32, pa.bfloat16), pa.result_type(pa.int8, 1.5)
    (proa.float32, proa.float32)
    """
    if not arrays_and_dtypes:
        raise ArgumentError(message("result_type", "nothing", "tensors, dtypes or numbers"))
    strong: list[Dtype] = []
    weak: list[Any] = []
    for given in arrays_and_dtypes:
        number = number_of(given) if type(given) in PYTHON else None
        if number is not None:
            weak.append(number)
        else:
            strong.append(_dtype_of(given))
    if not strong:
        return natural_dtype(np.asarray(weak))
    found = strong[0]
    for other in strong[1:]:
        found = dtypes.promote(found, other)
    for number in weak:
        found = dtypes.meet(found, dtypes.weak_dtype(number), dtypes.default_float())
    return found


def _dtype_of(given: Any) -> Dtype:
    """The dtype of a tensor or array, or a dtype itself."""
    return as_dtype(given if isinstance(given, type) else getattr(given, "dtype", given))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether a tensor or dtype promotes to another dtype without loss of kind or range.

    >>> import proa as pa
    >>> pa.can_cast(pa.int8, pa.int32), pa.can_cast(pa.float64, pa.float32)
    (True, False)
    """
    source, target = _dtype_of(from_), as_dtype(to)
    if source.is_storage or target.is_storage:
        return source is target
    if {source.kind, target.kind} == {"int"} and target.bits == 64 and source.bits == 64:
        return source is target
    try:
        return dtypes.promote(source, target) is target
    except DtypeError:
        return False


def get_default_dtype() -> Dtype:
    """The dtype of new floats.

    >>> import proa as pa
    >>> pa.get_default_dtype()
    proa.float32
    """
    return dtypes.default_float()


def set_default_dtype(dtype: Any) -> None:
    """New floats (`pa.zeros`, `pa.asarray([1.5])`) take this dtype from now on.

    >>> import proa as pa
    >>> pa.set_default_dtype(pa.float64)
    >>> pa.zeros(1).dtype
    proa.float64
    >>> pa.set_default_dtype(pa.float32)
    """
    new = as_dtype(dtype)
    if new.kind != "float" or new.is_storage:
        raise DtypeError(message("set_default_dtype", new.name, "a float dtype to compute in"))
    dtypes.set_default_float(new)


def get_default_device() -> Device:
    """Where new tensors are made.

    >>> import proa as pa
    >>> str(pa.get_default_device())
    'cpu'
    """
    return thread.state.device or default_device()


def set_default_device(device: Any) -> None:
    """New tensors are made on this device from now on.

    >>> import proa as pa
    >>> pa.set_default_device("cpu")
    """
    _set_default_device(device)


@contextmanager
def device(name: Any) -> Iterator[Device]:
    """Inside the block new tensors are made on this device.

    >>> import proa as pa
    >>> with pa.device("numpy"):
    ...     str(pa.zeros(2).device)
    'numpy'
    """
    found, state = as_device(name), thread.state
    before, state.device = state.device, found
    try:
        yield found
    finally:
        state.device = before


def devices() -> list[Device]:
    """The devices of all backends that are installed.

    >>> import proa as pa
    >>> "numpy" in [str(d) for d in pa.devices()]
    True
    """
    found: list[Device] = []
    for name in backend_names():
        try:
            found += backend(name).devices()
        except (MissingExtra, DeviceError):
            continue
    return found
