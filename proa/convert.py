"""What is given becomes a tensor: numbers, nested lists, NumPy arrays, what other libraries export.

Everything but a tensor is copied now.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.compile.find import default_device
from proa.compile.find import device as as_device
from proa.defaults import PYTHON, device, natural_dtype, result_type
from proa.dtypes import Dtype, int64
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, ShapeError, Uncopied, message
from proa.exchange import imported
from proa.graph.build import current_sink
from proa.graph.spec import spec
from proa.ops import functions as fn
from proa.ops import movement as mv
from proa.ops import moves
from proa.ops import operators as op
from proa.ops.primitive import apply, as_number, check_number, number_of
from proa.record.live import thread
from proa.shapes import as_shape
from proa.tensor import Tensor, copy_of, moved


def asarray(obj: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor of what is given; everything but a tensor is copied now.

    Python numbers and nested lists of them: floats take the default dtype (float32), ints int64,
    bool bool. NumPy arrays, and what exports one (`__array__`, DLPack, a buffer), keep their
    dtype. Lists of tensors are stacked. A tensor is returned as it is unless dtype, device or
    `copy=True` ask for more; `copy=False` is an error where a copy is needed.

    >>> import proa as pa
    >>> pa.asarray([[1, 2], [3, 4]]).dtype
    proa.int64
    >>> pa.asarray(2.5, dtype=pa.float64).item()
    2.5
    """
    target = None if dtype is None else as_dtype(dtype)
    if type(obj) is Tensor:
        return _of_tensor(obj, target, device, copy)
    if copy is False:
        given = f"copy=False of {type(obj).__name__}"
        raise ArgumentError(message("asarray", given, "a tensor: all else is copied", "copy=None"))
    kinds = _kinds(obj)
    if Tensor in kinds:
        return _of_tensor(_stacked(obj), target, device, None)
    if any(issubclass(k, np.ma.MaskedArray) for k in kinds):
        _refuse_mask("asarray", obj)
    array = _host(obj)
    python = kinds <= PYTHON
    if array.dtype.kind == "f" and python and kinds <= _INTEGERS and array.size:
        array = np.asarray(obj, dtype=object)  # ints that no NumPy dtype holds in common
    natural = natural_dtype(array) if python else as_dtype(array.dtype)
    return constant(held(array, target or natural, python), target or natural, device)


tensor = asarray
_INTEGERS: Final = frozenset({bool, int})


def _of_tensor(x: Tensor, dtype: Dtype | None, where: Any, copy: bool | None) -> Tensor:
    home = None if where is None else as_device(where)
    found = x if dtype is None else op.astype(x, dtype)
    if home is not None:
        found = moved(found, home)
    if found is not x and copy is False:
        given = f"copy=False of {x.value.spec.plain} on {x.device}"
        raise ArgumentError(message("asarray", given, "its own dtype and device", "copy=None"))
    return clone(x) if copy and found is x else found


def clone(x: Tensor) -> Tensor:
    """The same value under a new handle, on the tape if x is."""
    return again(x) if x.requires_grad else copy_of(x)


def again(x: Tensor) -> Tensor:
    """A handle of its own on the same value, on the tape if x is."""
    return apply(mv.reshape, (x,), shape=x.shape)  # type: ignore[no-any-return]


def _kinds(obj: Any) -> set[type]:
    """The types of the leaves of nested lists."""
    if not isinstance(obj, (list, tuple)):
        return {type(obj)}
    found: set[type] = set()
    level = [obj]
    for _ in range(65):
        here: set[type] = set()
        for part in level:
            here |= set(map(type, part))
        inner = {k for k in here if issubclass(k, (list, tuple))}
        found |= here - inner
        if not inner:
            return found
        level = [p for part in level for p in part if isinstance(p, (list, tuple))]
    raise ShapeError(message("asarray", "lists nested deeper than 64", "at most 64 axes"))


def python_kind(obj: Any) -> type | None:
    """The highest type among nested lists of Python numbers (bool of none); None if another
    type is among them."""
    kinds = _kinds(obj)
    if not kinds <= PYTHON:
        return None
    return [k for k in (bool, int, float, complex) if k in kinds or k is bool][-1]


def _stacked(obj: Any) -> Any:
    """Nested lists with tensors among their leaves; numbers take the tensors' dtype."""
    parts = [_stacked(o) if isinstance(o, (list, tuple)) else o for o in obj]
    strong = [p for p in parts if number_of(p) is None]
    if not strong:
        return parts if not parts else asarray(parts)
    common = result_type(*parts)
    parts = [
        filled("full", (), fitting("full", p, common), common, None)
        if number_of(p) is not None
        else p
        for p in parts
    ]
    return moves.stack([p if type(p) is Tensor else asarray(p) for p in parts])


def _host(obj: Any) -> Any:
    """The NumPy array of anything that has one."""
    if isinstance(obj, (str, bytes)) or obj is None:
        raise DtypeError(message("asarray", f"{type(obj).__name__} {obj!r:.40}", "numbers"))
    try:
        if isinstance(obj, (np.ndarray, np.generic, list, tuple)) or number_of(obj) is not None:
            return np.asarray(obj)
        if hasattr(obj, "__array__"):
            return _array_of(obj)
        if hasattr(obj, "__dlpack__"):
            return imported(obj)
        return np.asarray(memoryview(obj))
    except (ValueError, TypeError, BufferError, RuntimeError, OverflowError) as error:
        given = f"{type(obj).__name__} ({error})"
        hint = "a list whose rows are equally long" if isinstance(obj, (list, tuple)) else ""
        raise ArgumentError(message("asarray", given, "numbers in a regular shape", hint)) from None


def _array_of(obj: Any) -> Any:
    """By `__array__`; by DLPack where NumPy lacks the dtype."""
    try:
        return np.asarray(obj)
    except TypeError:
        if not hasattr(obj, "__dlpack__"):
            raise
        return imported(obj)


def _refuse_mask(name: str, obj: Any) -> None:
    """An array whose mask hides elements, or nested lists of such."""
    parts = [obj]
    while parts:
        part = parts.pop()
        if isinstance(part, (list, tuple)):
            parts += part
        elif isinstance(part, np.ma.MaskedArray) and bool(np.any(np.ma.getmaskarray(part))):
            given, hint = "a masked array that hides elements", "array.filled(...)"
            raise ArgumentError(message(name, given, "an array with every element", hint))


def held(array: Any, target: Dtype, python: bool) -> Any:
    """The array in a dtype; ints must fit."""
    if python and array.dtype.kind == "O":
        for number in array.flat:
            check_number("asarray", number, target)
    if target.kind == "int" and python and array.dtype.kind in "iu" and array.size:
        low, high, info = array.min(), array.max(), dtypes.iinfo(target)
        if low < info.min or high > info.max:
            given = f"the int {low if low < info.min else high}"
            hint = "dtype=pa.uint64" if target is int64 else ""
            raise ArgumentError(message("asarray", given, f"one that {target.name} holds", hint))
    if array.dtype.kind == "c" and target.kind != "complex":
        raise DtypeError(message("asarray", f"complex numbers as {target.name}", "a complex dtype"))
    with np.errstate(all="ignore"):
        return np.asarray(fn.cast.meaning(array, dtype=target, weak=False))


def constant(array: Any, dtype: Dtype, where: Any) -> Tensor:
    """A tensor of an array at hand, which is copied."""
    of = spec(array.shape, dtype)
    if where is None:
        return current_sink().constant(array, of)  # type: ignore[no-any-return]
    with device(where):
        return current_sink().constant(array, of)  # type: ignore[no-any-return]


def number_on(name: str, number: Any, dtype: Dtype, where: Any) -> Any:
    """A 0-d operand for a number: an input of the program, or a tensor on a named device."""
    home = thread.state.device if where is None else as_device(where)
    if home is None or home == default_device():
        return as_number(name, number, dtype)
    return constant(
        np.asarray(as_number(name, number, dtype).buffer).astype(dtype.numpy), dtype, home
    )


def filled(name: str, shape: Any, number: Any, dtype: Dtype, where: Any) -> Tensor:
    sizes = as_shape(name, shape)
    return apply(mv.broadcast, (number_on(name, number, dtype, where),), shape=sizes, axes=())  # type: ignore[no-any-return]


def fitting(name: str, number: Any, dtype: Dtype) -> Any:
    """The number, if its kind is not above the dtype's."""
    if dtypes.weak_dtype(number).rank > dtype.rank:
        given = f"the number {number!r} as {dtype.name}"
        raise DtypeError(message(name, given, "a number of that kind", "x.astype(pa.float32)"))
    return number


def from_numpy(array: Any) -> Tensor:
    """A tensor with a copy of a NumPy array, in its dtype.

    >>> import numpy, proa as pa
    >>> pa.from_numpy(numpy.arange(3.0)).dtype
    proa.float64
    """
    if not isinstance(array, np.ndarray):
        raise DtypeError(message("from_numpy", type(array).__name__, "a NumPy array", "pa.asarray"))
    return asarray(array)


def from_dlpack(x: Any, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor with a copy of what another library exports by DLPack.

    >>> import numpy, proa as pa
    >>> pa.from_dlpack(numpy.arange(3)).tolist()
    [0, 1, 2]
    """
    if not hasattr(x, "__dlpack__"):
        raise DtypeError(message("from_dlpack", type(x).__name__, "an object with __dlpack__"))
    if type(x) is Tensor:
        return asarray(x, device=device, copy=copy)
    _refuse_mask("from_dlpack", x)
    if copy is False:
        given = f"copy=False of {type(x).__name__}"
        raise Uncopied(message("from_dlpack", given, "None or True: what comes in is copied"))
    try:
        array = imported(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        given = f"{type(x).__name__} ({error})"
        raise ArgumentError(
            message("from_dlpack", given, "memory that the processor can read")
        ) from None
    return asarray(array, device=device, copy=copy)
