"""Dtypes, and the one table of how they mix.

A `Dtype` is interned: compare with `is`. Mixing follows PyTorch: the kind that is higher in
bool < int < float < complex wins, and within a kind the dtype that holds both. float16 with
bfloat16 gives float32. float8 never mixes silently. A Python number is *weak*: it takes the
dtype of the tensor it meets, unless its kind is higher.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, final

import ml_dtypes
import numpy as np

from proa.errors import ArgumentError, DtypeError, message

KINDS: Final = ("bool", "int", "float", "complex")


@final
class Dtype:
    """An element type: `name`, `kind` (one of KINDS), `bits`, `signed`, `numpy` (its dtype)."""

    __slots__ = ("name", "kind", "bits", "signed", "numpy", "rank")

    def __init__(self, name: str, kind: str, numpy: Any, signed: bool = True) -> None:
        self.name = name
        self.kind = kind
        self.numpy = np.dtype(numpy)
        self.bits = 1 if kind == "bool" else self.numpy.itemsize * 8
        self.signed = signed
        self.rank = KINDS.index(kind)

    @property
    def itemsize(self) -> int:
        return int(self.numpy.itemsize)

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_inexact(self) -> bool:
        return self.rank >= 2

    @property
    def is_storage(self) -> bool:
        """float8 is stored and cast, never computed with."""
        return self.kind == "float" and self.bits == 8

    def __repr__(self) -> str:
        return f"proa.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype, (self.name,)

    def __deepcopy__(self, memo: Any) -> Dtype:
        return self


bool_: Final = Dtype("bool", "bool", np.bool_, signed=False)
uint8: Final = Dtype("uint8", "int", np.uint8, signed=False)
uint16: Final = Dtype("uint16", "int", np.uint16, signed=False)
uint32: Final = Dtype("uint32", "int", np.uint32, signed=False)
uint64: Final = Dtype("uint64", "int", np.uint64, signed=False)
int8: Final = Dtype("int8", "int", np.int8)
int16: Final = Dtype("int16", "int", np.int16)
int32: Final = Dtype("int32", "int", np.int32)
int64: Final = Dtype("int64", "int", np.int64)
float8_e4m3fn: Final = Dtype("float8_e4m3fn", "float", ml_dtypes.float8_e4m3fn)
float8_e5m2: Final = Dtype("float8_e5m2", "float", ml_dtypes.float8_e5m2)
float16: Final = Dtype("float16", "float", np.float16)
bfloat16: Final = Dtype("bfloat16", "float", ml_dtypes.bfloat16)
float32: Final = Dtype("float32", "float", np.float32)
float64: Final = Dtype("float64", "float", np.float64)
complex64: Final = Dtype("complex64", "complex", np.complex64)
complex128: Final = Dtype("complex128", "complex", np.complex128)

ALL: Final = (
    bool_, uint8, uint16, uint32, uint64, int8, int16, int32, int64,
    float8_e4m3fn, float8_e5m2, float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip
_BY_NAME: Final = {d.name: d for d in ALL}
_BY_NUMPY: Final = {d.numpy: d for d in ALL}
_PYTHON: Final = {bool: bool_, int: int64, float: float32, complex: complex64}


def dtype(spelling: Any) -> Dtype:
    """The Dtype for a Dtype, a name, a NumPy dtype or a Python number type.

    >>> dtype("float32") is float32
    True
    """
    if type(spelling) is Dtype:
        return spelling
    if isinstance(spelling, str) and spelling in _BY_NAME:
        return _BY_NAME[spelling]
    if isinstance(spelling, type) and spelling in _PYTHON:
        return _PYTHON[spelling]
    try:
        return _BY_NUMPY[np.dtype(spelling).newbyteorder("=")]
    except (TypeError, KeyError, ValueError):
        given = f"dtype {spelling!r:.80}"
        raise DtypeError(message("dtype", given, "one of " + ", ".join(_BY_NAME))) from None


_DEFAULT: Final = [float32]


def default_float() -> Dtype:
    """The dtype of new floats: float32 unless `set_default_dtype` says otherwise."""
    return _DEFAULT[0]


def set_default_float(new: Dtype) -> None:
    _DEFAULT[0] = new


@cache
def promote(a: Dtype, b: Dtype) -> Dtype:
    """The dtype in which `a` and `b` meet; raises DtypeError where none is sensible."""
    if a is b:
        return a
    if a.is_storage or b.is_storage:
        raise DtypeError(_unmixed(a, b, "float8 is for storage", "x.astype(pa.float32)"))
    if a.rank != b.rank:
        low, high = (a, b) if a.rank < b.rank else (b, a)
        if high.kind == "complex" and low is float64:
            return complex128
        return high
    if a.kind == "int":
        return _promote_ints(a, b)
    if a.bits == b.bits:  # float16 with bfloat16
        return float32
    return a if a.bits > b.bits else b


def _promote_ints(a: Dtype, b: Dtype) -> Dtype:
    if a.signed == b.signed:
        return a if a.bits > b.bits else b
    signed, unsigned = (a, b) if a.signed else (b, a)
    bits = max(signed.bits, unsigned.bits * 2)
    if bits > 64:
        raise DtypeError(_unmixed(a, b, "no integer holds both", "x.astype(pa.int64)"))
    return _BY_NAME[f"int{bits}"]


def _unmixed(a: Dtype, b: Dtype, why: str, hint: str) -> str:
    return message("promote", f"{a.name} and {b.name}", f"dtypes that mix ({why})", hint)


def weak_dtype(number: bool | int | float | complex) -> Dtype:
    """The dtype in which a lone Python number is held: it is rounded once, on meeting a tensor."""
    kind = type(number)
    if kind is bool:
        return bool_
    if kind is int:
        return int64
    return float64 if kind is float else complex128


@cache
def meet(strong: Dtype, weak: Dtype, default_float: Dtype) -> Dtype:
    """The dtype in which a tensor of dtype `strong` meets a weak scalar of dtype `weak`."""
    if weak.rank <= strong.rank:
        return strong
    if weak.kind == "int":
        return int64
    if weak.kind == "float":
        return default_float
    return complex128 if strong is float64 or default_float is float64 else complex64


@final
class FloatInfo:
    """Limits of a float dtype: `bits eps max min smallest_normal dtype` (the standard's finfo)."""

    __slots__ = ("bits", "eps", "max", "min", "smallest_normal", "dtype")

    def __init__(self, of: Dtype) -> None:
        info: Any = ml_dtypes.finfo(of.numpy)  # type: ignore[no-untyped-call]
        self.bits, self.eps, self.max, self.min, self.smallest_normal, self.dtype = (
            of.bits, float(info.eps), float(info.max), float(info.min),
            float(info.smallest_normal), of,
        )  # fmt: skip


@final
class IntInfo:
    """Limits of an integer dtype: `bits max min dtype` (the standard's iinfo)."""

    __slots__ = ("bits", "max", "min", "dtype")

    def __init__(self, of: Dtype) -> None:
        info = np.iinfo(of.numpy)
        self.bits, self.max, self.min, self.dtype = of.bits, int(info.max), int(info.min), of


_dtype: Final = dtype


def finfo(type_: Any) -> FloatInfo:
    """Limits of a float dtype.

    >>> finfo(float32).bits
    32
    """
    of = dtype(type_)
    if of.kind != "float":
        raise DtypeError(message("finfo", of.name, "a float dtype", "pa.iinfo for integers"))
    return FloatInfo(of)


def iinfo(type_: Any) -> IntInfo:
    """Limits of an integer dtype.

    >>> iinfo("int8").max
    127
    """
    of = dtype(type_)
    if of.kind != "int":
        raise DtypeError(message("iinfo", of.name, "an integer dtype", "pa.finfo for floats"))
    return IntInfo(of)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind of the Array API standard ("bool", "integral", ...).

    >>> isdtype(float32, ("integral", "real floating"))
    True
    """
    of = _dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(of, k) for k in kind)
    if isinstance(kind, str) and kind in _KIND_TESTS:
        return bool(_KIND_TESTS[kind](of))
    if isinstance(kind, str) and kind not in _BY_NAME:
        raise ArgumentError(
            message("isdtype", f"kind {kind!r}", "one of " + ", ".join(_KIND_TESTS))
        )
    return of is _dtype(kind)


_KIND_TESTS: Final[dict[str, Any]] = {
    "bool": lambda d: d.kind == "bool",
    "signed integer": lambda d: d.kind == "int" and d.signed,
    "unsigned integer": lambda d: d.kind == "int" and not d.signed,
    "integral": lambda d: d.kind == "int",
    "real floating": lambda d: d.kind == "float",
    "complex floating": lambda d: d.kind == "complex",
    "numeric": lambda d: d.kind != "bool",
}
