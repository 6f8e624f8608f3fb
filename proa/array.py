"""The array namespace: making tensors, and functions of them, as the Array API standard has them.

Functions take `axis` and `keepdims`; a result is always a handle of its own. A NumPy array stands
for a tensor wherever one is expected; a Python number only beside a tensor.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from math import ceil as _ceil
from math import e, inf, nan, pi
from sys import getrefcount
from typing import Any, Final, TypeVar, final

import numpy as np

from proa import dtypes, dunders  # noqa: F401  (operators stand before methods)
from proa.compile.backend import Device
from proa.compile.find import backend, backend_names, default_device
from proa.compile.find import device as as_device
from proa.compile.find import set_default_device as _set_default_device
from proa.dtypes import Dtype, bool_, int64
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DeviceError, DtypeError, MissingExtra, ShapeError, message
from proa.graph.build import current_sink
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.indexing import counts_of_temporary, getitem, is_part, warn_if_part
from proa.ops import arithmetic as ar
from proa.ops import composite as cp
from proa.ops import functions as fn
from proa.ops import movement as mv
from proa.ops import operators as op
from proa.ops import scans
from proa.ops.creation import iota
from proa.ops.indexing import dynamic_slice, take_along
from proa.ops.primitive import apply, as_number, number_of, promoted, value_of
from proa.record.live import thread
from proa.shapes import as_axis, as_int, as_shape
from proa.shapes import broadcast_shapes as _meet
from proa.tensor import Tensor, assign, copy_of, moved

__all__ = [
    "abs", "add", "all", "any", "arange", "argmax", "argmin", "argsort", "asarray", "astype",
    "atanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "broadcast_arrays", "broadcast_shapes", "broadcast_to",
    "can_cast", "ceil", "clip", "concat", "copysign", "cos", "cosh", "count_nonzero",
    "cumulative_sum", "device", "devices", "diff", "divide", "e", "einsum", "empty", "empty_like",
    "equal", "erf", "exp", "expand_dims", "expm1", "eye", "flatten", "flip", "floor",
    "floor_divide", "from_dlpack", "from_numpy", "full", "full_like", "get_default_device",
    "get_default_dtype", "greater", "greater_equal", "hypot", "inf", "isfinite", "isinf", "isnan",
    "less", "less_equal", "linspace", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp", "matmul",
    "matrix_transpose", "max", "maximum", "mean", "meshgrid", "min", "minimum", "moveaxis",
    "multiply", "nan", "negative", "newaxis", "not_equal", "ones", "ones_like", "outer",
    "permute_dims", "pi", "positive", "pow", "reciprocal", "relu", "remainder", "repeat", "reshape",
    "result_type", "roll", "round", "rsqrt", "set_default_device", "set_default_dtype", "sigmoid",
    "sign", "signbit", "sin", "sinh", "softmax", "sort", "sqrt", "square", "squeeze", "stack",
    "std", "subtract", "sum", "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensor",
    "tensordot", "tile", "tril", "triu", "trunc", "unstack", "var", "vecdot", "where", "zeros",
    "zeros_like",
]  # fmt: skip

newaxis: Final = None
Call = TypeVar("Call", bound=Callable[..., Any])


def _public(function: Call, example: str = "", result: str = "") -> Call:
    """What every function here does: a result that would be the argument itself becomes a handle
    of its own, and `out=` is answered. An example may be added to the documentation."""

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if "out" in options:
            hint = f"x[...] = pa.{function.__name__}(...)"
            raise ArgumentError(
                message(function.__name__, "`out`", "no `out`: values are never shared", hint)
            )
        if args and isinstance(args[0], np.ndarray):
            args = (_tensor_of(args[0]), *args[1:])
        result = function(*args, **options)
        return _again(result) if args and result is args[0] and type(result) is Tensor else result

    if example:
        call.__doc__ = f"{call.__doc__}{_example(example, result)}"
    return call  # type: ignore[return-value]


def _example(code: str, result: str) -> str:
    return f"\n\n    >>> import proa as pa\n    >>> {code}\n    {result}\n    "


def _again(x: Tensor) -> Tensor:
    """A handle of its own on the same value, on the tape if x is."""
    return apply(mv.reshape, (x,), shape=x.shape)  # type: ignore[no-any-return]


def _need_tensor(name: str, *operands: Any) -> None:
    """Numbers alone have no dtype and no device: at least one operand is a tensor."""
    alone = True
    for o in operands:
        if number_of(o) is None:
            alone = False
            if not isinstance(o, (Tensor, Value, np.ndarray)):
                value_of(name, o)
    if alone:
        given = "only " + " and ".join(f"{o!r:.40}" for o in operands)
        raise DtypeError(message(name, given, "a tensor", "pa.asarray(...)"))


def _tensor_of(x: Any) -> Any:
    """A NumPy array stands for a tensor."""
    return asarray(x) if isinstance(x, np.ndarray) else x


# Making tensors.


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
    array = _host(obj)
    python = kinds <= _PYTHON
    natural = _natural(array) if python else as_dtype(array.dtype)
    return _constant(_held(array, target or natural, python), target or natural, device)


tensor = asarray
_PYTHON: Final = frozenset({bool, int, float, complex})


def _of_tensor(x: Tensor, dtype: Dtype | None, where: Any, copy: bool | None) -> Tensor:
    home = None if where is None else as_device(where)
    found = x if dtype is None else op.astype(x, dtype)
    if home is not None:
        found = moved(found, home)
    if found is not x and copy is False:
        given = f"copy=False of {x.value.spec.plain} on {x.device}"
        raise ArgumentError(message("asarray", given, "its own dtype and device", "copy=None"))
    return _clone(x) if copy and found is x else found


def _clone(x: Tensor) -> Tensor:
    """The same value under a new handle, on the tape if x is."""
    return _again(x) if x.requires_grad else copy_of(x)


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
    if not kinds <= _PYTHON:
        return None
    return [k for k in (bool, int, float, complex) if k in kinds or k is bool][-1]


def _stacked(obj: Any) -> Any:
    """Nested lists with tensors among their leaves; numbers take the tensors' dtype."""
    parts = [_stacked(o) if isinstance(o, (list, tuple)) else o for o in obj]
    strong = [p for p in parts if number_of(p) is None]
    if not strong:
        return parts if not parts else asarray(parts)
    common = result_type(*parts)
    parts = [full((), p, dtype=common) if number_of(p) is not None else p for p in parts]
    return op.stack([p if type(p) is Tensor else asarray(p) for p in parts])


def _host(obj: Any) -> Any:
    """The NumPy array of anything that has one."""
    if isinstance(obj, (str, bytes)) or obj is None:
        raise DtypeError(message("asarray", f"{type(obj).__name__} {obj!r:.40}", "numbers"))
    try:
        if isinstance(obj, (np.ndarray, np.generic, list, tuple)) or number_of(obj) is not None:
            return np.asarray(obj)
        if hasattr(obj, "__array__"):
            return np.asarray(obj)
        if hasattr(obj, "__dlpack__"):
            return np.from_dlpack(obj)
        return np.asarray(memoryview(obj))
    except (ValueError, TypeError, BufferError, RuntimeError, OverflowError) as error:
        given = f"{type(obj).__name__} ({error})"
        hint = "a list whose rows are equally long" if isinstance(obj, (list, tuple)) else ""
        raise ArgumentError(message("asarray", given, "numbers in a regular shape", hint)) from None


def _natural(array: Any) -> Dtype:
    """The dtype of new tensors from Python numbers."""
    kind = array.dtype.kind
    if kind == "b":
        return bool_
    if kind in "iuO":
        return int64
    if kind == "f":
        return dtypes.default_float()
    return dtypes.complex128 if dtypes.default_float() is dtypes.float64 else dtypes.complex64


def _held(array: Any, target: Dtype, python: bool) -> Any:
    """The array in a dtype; ints must fit."""
    if target.kind == "int" and python and array.dtype.kind in "iuO" and array.size:
        low, high, info = array.min(), array.max(), dtypes.iinfo(target)
        if low < info.min or high > info.max:
            given = f"the int {low if low < info.min else high}"
            hint = "dtype=pa.uint64" if target is int64 else ""
            raise ArgumentError(message("asarray", given, f"one that {target.name} holds", hint))
    if array.dtype.kind == "c" and target.kind != "complex":
        raise DtypeError(message("asarray", f"complex numbers as {target.name}", "a complex dtype"))
    with np.errstate(all="ignore"):
        return np.asarray(fn.cast.meaning(array, dtype=target, weak=False))


def _constant(array: Any, dtype: Dtype, where: Any) -> Tensor:
    """A tensor of an array at hand, which is copied."""
    of = spec(array.shape, dtype)
    if where is None:
        return current_sink().constant(array, of)  # type: ignore[no-any-return]
    with device(where):
        return current_sink().constant(array, of)  # type: ignore[no-any-return]


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
    try:
        array = np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        given = f"{type(x).__name__} ({error})"
        raise ArgumentError(
            message("from_dlpack", given, "memory that the processor can read")
        ) from None
    return asarray(array, device=device, copy=copy)


def _number(name: str, number: Any, dtype: Dtype, where: Any) -> Any:
    """A 0-d operand for a number: an input of the program, or a tensor on a named device."""
    home = thread.state.device if where is None else as_device(where)
    if home is None or home == default_device():
        return as_number(name, number, dtype)
    return _constant(
        np.asarray(as_number(name, number, dtype).buffer).astype(dtype.numpy), dtype, home
    )


def _filled(name: str, shape: Any, number: Any, dtype: Dtype, where: Any) -> Tensor:
    sizes = as_shape(name, shape)
    return apply(mv.broadcast, (_number(name, number, dtype, where),), shape=sizes, axes=())  # type: ignore[no-any-return]


def _new_dtype(dtype: Any) -> Dtype:
    return dtypes.default_float() if dtype is None else as_dtype(dtype)


def zeros(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of a shape, float32 unless a dtype is given.

    >>> import proa as pa
    >>> pa.zeros((2, 2)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    return _filled("zeros", shape, 0, _new_dtype(dtype), device)


def ones(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of a shape, float32 unless a dtype is given.

    >>> import proa as pa
    >>> pa.ones(2).tolist()
    [1.0, 1.0]
    """
    return _filled("ones", shape, 1, _new_dtype(dtype), device)


def empty(shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor to be written to. It holds zeros, so that no program depends on chance.

    >>> import proa as pa
    >>> pa.empty((2, 3)).shape
    (2, 3)
    """
    return _filled("empty", shape, 0, _new_dtype(dtype), device)


def full(shape: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """One number everywhere. The dtype is that of the number unless given.

    fill_value: a number, or a tensor of 0 axes.

    >>> import proa as pa
    >>> pa.full((2,), 7).tolist()
    [7, 7]
    """
    number = number_of(fill_value)
    if number is None:
        value = asarray(fill_value, dtype=dtype, device=device)
        if value.ndim:
            raise ShapeError(message("full", f"a fill value of shape {value.shape}", "a number"))
        return (
            op.broadcast_to(value, as_shape("full", shape))
            if as_shape("full", shape)
            else _clone(value)
        )
    target = _natural(np.asarray(number)) if dtype is None else as_dtype(dtype)
    return _filled("full", shape, _fitting("full", number, target), target, device)


def _fitting(name: str, number: Any, dtype: Dtype) -> Any:
    """The number, if its kind is not above the dtype's."""
    if dtypes.weak_dtype(number).rank > dtype.rank:
        given = f"the number {number!r} as {dtype.name}"
        raise DtypeError(message(name, given, "a number of that kind", "x.astype(pa.float32)"))
    return number


def _like(name: str, x: Any, number: Any, dtype: Any, where: Any) -> Tensor:
    x = asarray(x)
    target = x.dtype if dtype is None else as_dtype(dtype)
    home = x.device if where is None else where
    return _filled(name, x.shape, _fitting(name, number, target), target, home)


def zeros_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.zeros_like(pa.asarray([1, 2])).tolist()
    [0, 0]
    """
    return _like("zeros_like", x, 0, dtype, device)


def ones_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.ones_like(pa.asarray([1.5, 2.5])).tolist()
    [1.0, 1.0]
    """
    return _like("ones_like", x, 1, dtype, device)


def empty_like(x: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros, to be written to, in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.empty_like(pa.asarray([1.5, 2.5])).shape
    (2,)
    """
    return _like("empty_like", x, 0, dtype, device)


def full_like(x: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """One number everywhere in the shape, dtype and device of x.

    >>> import proa as pa
    >>> pa.full_like(pa.asarray([1.5, 2.5]), 3).tolist()
    [3.0, 3.0]
    """
    number = number_of(fill_value)
    if number is not None:
        return _like("full_like", x, number, dtype, device)
    x = asarray(x)
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype, device)


def arange(
    start: Any, stop: Any = None, step: Any = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """start, start + step, ... below stop (0, 1, ... below start if stop is left out).

    int64 if all are ints, else the default float. Floats are computed in float64 and rounded.

    >>> import proa as pa
    >>> pa.arange(2, 8, 3).tolist()
    [2, 5]
    """
    given = [
        _plain("arange", n)
        for n in (
            0 if stop is None else start,
            start if stop is None else stop,
            1 if step is None else step,
        )
    ]
    first, last, stride = given
    if stride == 0:
        raise ArgumentError(message("arange", "step 0", "a step other than 0"))
    count = builtins.max(0, _ceil((last - first) / stride)) if stride else 0
    whole = builtins.all(type(n) is int for n in given)
    target = (int64 if whole else dtypes.default_float()) if dtype is None else as_dtype(dtype)
    if not whole or target.kind != "int":
        numbers = first + stride * np.arange(count, dtype=np.float64)
        return _constant(_held(numbers, target, False), target, device)
    count = len(range(first, last, stride))
    for n in (first, first + stride * builtins.max(0, count - 1)):
        as_number("arange", n, target)
    found = apply(iota, (), shape=as_shape("arange", count), axis=0, dtype=int64)
    if step is not None:
        found = found * as_number("arange", stride, int64)
    if stop is not None or device is not None or thread.state.device is not None:
        found = found + _number("arange", first, int64, device)
    return op.astype(found, target)  # type: ignore[no-any-return]


def _plain(name: str, given: Any) -> Any:
    """A Python int or float from a real number or a tensor of one."""
    single = isinstance(given, (Tensor, np.ndarray)) and given.size == 1
    number = given.item() if single else number_of(given)
    if (
        number is None
        or isinstance(number, (bool, complex, str, bytes))
        or number_of(number) is None
    ):
        raise DtypeError(message(name, f"{given!r:.60}", "a real number"))
    if number != number or number in (inf, -inf):
        raise ArgumentError(message(name, f"{number}", "a finite number"))
    return number


def linspace(
    start: Any, stop: Any, num: int, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Tensor:
    """`num` numbers evenly from start to stop, stop included if `endpoint`.

    >>> import proa as pa
    >>> pa.linspace(0, 1, 5).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    (count,) = as_shape("linspace", as_int("linspace", "num", num))
    a, b = _plain("linspace", start), _plain("linspace", stop)
    target = _new_dtype(dtype)
    numbers = np.linspace(a, b, count, endpoint=bool(endpoint), dtype=np.float64)
    return _constant(_held(numbers, target, False), target, device)


def eye(
    n_rows: int, n_cols: int | None = None, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere.

    >>> import proa as pa
    >>> pa.eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    shape = as_shape("eye", (n_rows, n_rows if n_cols is None else n_cols))
    rows, columns = (apply(iota, (), shape=shape, axis=i, dtype=int64) for i in (0, 1))
    offset = _number("eye", as_int("eye", "k", k), int64, device)
    return op.astype(ar.eq(columns, rows + offset), _new_dtype(dtype))  # type: ignore[no-any-return]


def _triangle(name: str, x: Any, k: int, lower: bool) -> Any:
    shape = op.spec_of(name, x).shape
    if len(shape) < 2:
        raise ShapeError(message(name, f"shape {shape}", "at least 2 axes"))
    rows, columns = (apply(iota, (), shape=shape[-2:], axis=i, dtype=int64) for i in (0, 1))
    edge = rows + as_int(name, "k", k)
    mask = ar.le(columns, edge) if lower else ar.le(edge, columns)
    return ar.select(mask, x, _zero_of(x))


def _zero_of(x: Any) -> Any:
    return as_number("zeros", 0, x.value.spec.dtype if hasattr(x, "value") else as_dtype(x.dtype))


@_public
def tril(x: Any, k: int = 0) -> Tensor:
    """The lower triangle of matrices: elements above the k-th diagonal become 0.

    >>> import proa as pa
    >>> pa.tril(pa.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _triangle("tril", x, k, True)  # type: ignore[no-any-return]


@_public
def triu(x: Any, k: int = 0) -> Tensor:
    """The upper triangle of matrices: elements below the k-th diagonal become 0.

    >>> import proa as pa
    >>> pa.triu(pa.ones((2, 2))).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    return _triangle("triu", x, k, False)  # type: ignore[no-any-return]


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinates of a grid from the coordinates of its axes; "xy" exchanges the first two.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.meshgrid(pa.arange(2), pa.arange(3), indexing="ij")]
    [[[0, 0, 0], [1, 1, 1]], [[0, 1, 2], [0, 1, 2]]]
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(message("meshgrid", f"indexing {indexing!r:.40}", '"xy" or "ij"'))
    shapes = [op.spec_of("meshgrid", x).shape for x in arrays]
    if builtins.any(len(s) != 1 for s in shapes):
        raise ShapeError(message("meshgrid", f"shapes {shapes}", "tensors of one axis"))
    order = list(range(len(arrays)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = 1, 0
    full_shape = tuple([shapes[i][0] for i in order])
    return [
        apply(mv.broadcast, (x,), shape=full_shape, axes=(order.index(i),))
        for i, x in enumerate(arrays)
    ]


# Element by element.


def _function(
    name: str, arity: int, does: Callable[..., Any], formula: str, given: str, gives: str
) -> Any:
    """A function of this namespace: checks, then `does`; its documentation is written here."""

    def one(x: Any, /) -> Tensor:
        _need_tensor(name, x)
        return does(x)  # type: ignore[no-any-return]

    def two(x1: Any, x2: Any, /) -> Tensor:
        _need_tensor(name, x1, x2)
        return does(_tensor_of(x1), _tensor_of(x2))  # type: ignore[no-any-return]

    function = one if arity == 1 else two
    function.__name__ = function.__qualname__ = name
    operands = "x: a tensor." if arity == 1 else "x1, x2: tensors or arrays; one may be a number."
    arguments = ", ".join(f"pa.asarray({part})" for part in given.split("; "))
    function.__doc__ = (
        f"{formula}\n\n    {operands}{_example(f'pa.{name}({arguments}).tolist()', gives)}"
    )
    return _public(function)


def _ceil_of(x: Any) -> Any:
    return -fn.floor(-x) if op.spec_of("ceil", x).dtype.is_inexact else op.positive(x)


def _trunc(x: Any) -> Any:
    if not op.spec_of("trunc", x).dtype.is_inexact:
        return op.positive(x)
    return ar.select(ar.lt(x, 0.0), -fn.floor(-x), fn.floor(x))


def _round(x: Any) -> Any:
    """|x| is rounded and the sign put back: |x| - floor(|x|) is exact."""
    if not op.spec_of("round", x).dtype.is_inexact:
        return op.positive(x)
    size = fn.abs(x)
    low = fn.floor(size)
    rest = size - low
    odd = ar.eq(low - fn.floor(low * 0.5) * 2.0, 1.0)
    up = ar.lt(0.5, rest) | (ar.eq(rest, 0.5) & odd)
    return _copysign(ar.select(up, low + 1.0, low), x)


def _signbit(x: Any) -> Any:
    of = op.spec_of("signbit", x).dtype
    if not of.is_inexact:
        return ar.lt(x, 0)
    return ar.lt(apply(fn.bitcast, (x,), dtype=as_dtype(f"int{of.bits}")), 0)


def _copysign(x: Any, y: Any) -> Any:
    x, y = _floats(x, y)
    return ar.select(ar.eq(_signbit(x), _signbit(y)), x, -x)


def _isnan(x: Any) -> Any:
    return fn.not_(ar.eq(x, x))


def _isinf(x: Any) -> Any:
    return fn.not_(fn.is_finite(x)) & ar.eq(x, x)


def _tan(x: Any) -> Any:
    return fn.sin(x) / fn.cos(x)


def _sinh(x: Any) -> Any:
    """2 sinh(x / 2) cosh(x / 2): no overflow before the result's own."""
    h = _float(x) * 0.5
    return (fn.expm1(h) - fn.expm1(-h)) * (0.5 * (fn.exp(h) + fn.exp(-h)))


def _cosh(x: Any) -> Any:
    root = fn.exp(_float(x) * 0.5)
    return (0.5 * root) * root + (0.5 / root) / root


def _atanh(x: Any) -> Any:
    x = _float(x)
    return 0.5 * (fn.log1p(x) - fn.log1p(-x))


def _float(x: Any) -> Any:
    return x if op.spec_of("float", x).dtype.is_inexact else op.astype(x, dtypes.default_float())


def _logaddexp(x: Any, y: Any) -> Any:
    apart = x - y
    apart = ar.select(fn.is_finite(apart), -fn.abs(apart), -inf)
    tie = ar.eq(x, y) & fn.is_finite(x)
    return ar.maximum(x, y) + fn.log1p(fn.exp(ar.select(tie, 0.0, apart)))


def _hypot(x: Any, y: Any) -> Any:
    """The larger times sqrt(1 + r^2), r the ratio: no overflow before the result's own."""
    x, y = _floats(x, y)
    a, b = fn.abs(x), fn.abs(y)
    big, small = ar.maximum(a, b), ar.minimum(a, b)
    ratio = small / ar.select(ar.eq(big, 0.0), 1.0, big)
    length = big * fn.sqrt(ratio * ratio + 1.0)
    return ar.select(_isinf(x) | _isinf(y), inf, length)


def _floats(x: Any, y: Any) -> Any:
    """Both in the one float dtype in which they meet."""
    return [_float(v) for v in promoted(ar.pow, (x, y))]


def _truth(x: Any) -> Any:
    """Whether each element differs from 0."""
    return op.astype(x, bool_)


def _logical(function: Any) -> Any:
    return lambda x, y: function(*[_truth(v) if number_of(v) is None else bool(v) for v in (x, y)])


# fmt: off
abs = _function("abs", 1, fn.abs, "|x|. The derivative at 0 is 0.", "[-1.5, 2.0]", "[1.5, 2.0]")
add = _function("add", 2, ar.add, "x1 + x2.", "[1, 2]; [3, 4]", "[4, 6]")
atanh = _function("atanh", 1, _atanh, "The inverse of tanh, (log(1 + x) - log(1 - x)) / 2.",
    "[0.0, 1.0]", "[0.0, inf]")
bitwise_and = _function("bitwise_and", 2, ar.and_, "Bits that are set in both; integers or bool.",
    "[6]; [3]", "[2]")
bitwise_invert = _function("bitwise_invert", 1, fn.not_, "Every bit turned; integers or bool.",
    "[0, 5]", "[-1, -6]")
bitwise_left_shift = _function("bitwise_left_shift", 2, ar.shift_left,
    "Bits of x1 moved up by x2; 0 where x2 is negative or at least the width.",
    "[1, 3]; [4, 1]", "[16, 6]")
bitwise_or = _function("bitwise_or", 2, ar.or_, "Bits that are set in either; integers or bool.",
    "[6]; [3]", "[7]")
bitwise_right_shift = _function("bitwise_right_shift", 2, ar.shift_right,
    "Bits of x1 moved down by x2, the sign kept.",
    "[16, -4]; [4, 1]", "[1, -2]")
bitwise_xor = _function("bitwise_xor", 2, ar.xor,
    "Bits that are set in one only; integers or bool.",
    "[6]; [3]", "[5]")
ceil = _function("ceil", 1, _ceil_of, "The smallest integer not below x.",
    "[1.2, -1.2]", "[2.0, -1.0]")
copysign = _function("copysign", 2, _copysign, "|x1| with the sign of x2, that of -0.0 included.",
    "[1.0, 2.0]; [-0.0, 3.0]", "[-1.0, 2.0]")
cos = _function("cos", 1, fn.cos, "cos(x), x in radians.", "[0.0]", "[1.0]")
cosh = _function("cosh", 1, _cosh, "(e^x + e^-x) / 2.", "[0.0]", "[1.0]")
divide = _function("divide", 2, op.divide, "True division x1 / x2; integers are divided as floats.",
    "[1, 3]; [2, 2]", "[0.5, 1.5]")
equal = _function("equal", 2, ar.eq, "x1 = x2; false where either is NaN.",
    "[1, 2]; [1, 3]", "[True, False]")
erf = _function("erf", 1, fn.erf, "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.",
    "[0.0]", "[0.0]")
exp = _function("exp", 1, fn.exp, "e^x.", "[0.0]", "[1.0]")
expm1 = _function("expm1", 1, fn.expm1, "e^x - 1, exact near 0.", "[0.0]", "[0.0]")
floor = _function("floor", 1, fn.floor, "The largest integer not above x.",
    "[1.7, -1.2]", "[1.0, -2.0]")
floor_divide = _function("floor_divide", 2, op.floor_divide,
    "x1 / x2 rounded down; integers by zero give 0.",
    "[7, -7]; [2, 2]", "[3, -4]")
greater = _function("greater", 2, op.greater, "x1 > x2.", "[1, 3]; [2, 2]", "[False, True]")
greater_equal = _function("greater_equal", 2, op.greater_equal, "x1 >= x2.",
    "[1, 2]; [2, 2]", "[False, True]")
hypot = _function("hypot", 2, _hypot, "sqrt(x1^2 + x2^2), without overflow on the way.",
    "[3.0]; [4.0]", "[5.0]")
isfinite = _function("isfinite", 1, fn.is_finite, "Neither infinite nor NaN.",
    "[1.0, float('inf')]", "[True, False]")
isinf = _function("isinf", 1, _isinf, "Infinite, of either sign.",
    "[1.0, float('inf')]", "[False, True]")
isnan = _function("isnan", 1, _isnan, "Not a number.", "[1.0, float('nan')]", "[False, True]")
less = _function("less", 2, ar.lt, "x1 < x2.", "[1, 3]; [2, 2]", "[True, False]")
less_equal = _function("less_equal", 2, ar.le, "x1 <= x2.", "[2, 3]; [2, 2]", "[True, False]")
log = _function("log", 1, fn.log, "The natural logarithm.", "[1.0]", "[0.0]")
log10 = _function("log10", 1, lambda x: fn.log(x) * 0.4342944819032518,
    "The logarithm to base 10, log(x) / log(10).",
    "[1.0]", "[0.0]")
log1p = _function("log1p", 1, fn.log1p, "log(1 + x), exact near 0.", "[0.0]", "[0.0]")
log2 = _function("log2", 1, lambda x: fn.log(x) * 1.4426950408889634,
    "The logarithm to base 2, log(x) / log(2).",
    "[1.0]", "[0.0]")
logaddexp = _function("logaddexp", 2, _logaddexp, "log(e^x1 + e^x2), without overflow.",
    "[1000.0]; [0.0]", "[1000.0]")
logical_and = _function("logical_and", 2, _logical(ar.and_), "Both differ from 0.",
    "[True, True]; [True, False]", "[True, False]")
logical_not = _function("logical_not", 1, lambda x: fn.not_(_truth(x)), "x is 0.",
    "[True, False]", "[False, True]")
logical_or = _function("logical_or", 2, _logical(ar.or_), "Either differs from 0.",
    "[True, False]; [False, False]", "[True, False]")
logical_xor = _function("logical_xor", 2, _logical(ar.xor), "One of both differs from 0.",
    "[True, True]; [True, False]", "[False, True]")
maximum = _function("maximum", 2, ar.maximum,
    "The larger of both; NaN if either is. The gradient is halved at a tie.",
    "[1, 4]; [3, 2]", "[3, 4]")
minimum = _function("minimum", 2, ar.minimum,
    "The smaller of both; NaN if either is. The gradient is halved at a tie.",
    "[1, 4]; [3, 2]", "[1, 2]")
multiply = _function("multiply", 2, ar.mul, "x1 x2.", "[1, 2]; [3, 4]", "[3, 8]")
negative = _function("negative", 1, fn.neg, "-x.", "[1, -2]", "[-1, 2]")
not_equal = _function("not_equal", 2, op.not_equal, "x1 differs from x2; true where either is NaN.",
    "[1, 2]; [1, 3]", "[False, True]")
positive = _function("positive", 1, op.positive, "+x: a tensor of its own that equals x.",
    "[1, -2]", "[1, -2]")
pow = _function("pow", 2, op.power,
    "x1 to the power x2. Integers to a negative power: 0, unless the base is 1 or -1.",
    "[2.0, 3.0]; [3.0, 2.0]", "[8.0, 9.0]")
reciprocal = _function("reciprocal", 1, op.reciprocal, "1 / x.", "[4.0]", "[0.25]")
relu = _function("relu", 1, cp.relu, "max(x, 0); the derivative at 0 is 0.",
    "[-1.0, 2.0]", "[0.0, 2.0]")
remainder = _function("remainder", 2, ar.rem,
    "x1 - x2 floor(x1 / x2): the remainder with the sign of x2. Of integers: 0 where x2 is 0.",
    "[7, -7]; [3, 3]", "[1, 2]")
round = _function("round", 1, _round, "The nearest integer; of two, the even one.",
    "[0.5, 1.5, -2.5]", "[0.0, 2.0, -2.0]")
rsqrt = _function("rsqrt", 1, fn.rsqrt, "1 / sqrt(x).", "[4.0]", "[0.5]")
sigmoid = _function("sigmoid", 1, cp.sigmoid, "1 / (1 + e^-x).", "[0.0]", "[0.5]")
sign = _function("sign", 1, fn.sign, "-1, 0 or 1; NaN of NaN.", "[-3, 0, 2]", "[-1, 0, 1]")
signbit = _function("signbit", 1, _signbit, "Whether the sign is set, also that of -0.0 and NaN.",
    "[-0.0, 0.0]", "[True, False]")
sin = _function("sin", 1, fn.sin, "sin(x), x in radians.", "[0.0]", "[0.0]")
sinh = _function("sinh", 1, _sinh, "(e^x - e^-x) / 2.", "[0.0]", "[0.0]")
sqrt = _function("sqrt", 1, fn.sqrt, "The square root; NaN of negative numbers.", "[9.0]", "[3.0]")
square = _function("square", 1, op.square, "x x.", "[3, -2]", "[9, 4]")
subtract = _function("subtract", 2, ar.sub, "x1 - x2.", "[5, 2]; [3, 4]", "[2, -2]")
tan = _function("tan", 1, _tan, "sin(x) / cos(x), x in radians.", "[0.0]", "[0.0]")
tanh = _function("tanh", 1, fn.tanh, "The hyperbolic tangent.", "[0.0]", "[0.0]")
trunc = _function("trunc", 1, _trunc, "x without its fraction.", "[1.7, -1.7]", "[1.0, -1.0]")
# fmt: on


@_public
def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition holds, else x2. Two numbers make a tensor of the default dtype.

    >>> import proa as pa
    >>> pa.where(pa.asarray([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    _need_tensor("where", condition, x1, x2)
    numbers = [number_of(x) for x in (x1, x2)]
    if builtins.all(n is not None for n in numbers):
        target = _natural(np.asarray(numbers))
        x1, x2 = (as_number("where", n, target) for n in numbers)
    return op.where(condition, x1, x2)  # type: ignore[no-any-return]


@_public
def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x limited to min <= x <= max, numbers or tensors; the gradient passes at the bounds.

    >>> import proa as pa
    >>> pa.clip(pa.asarray([-2.0, 0.5, 2.0]), -1.0, 1.0).tolist()
    [-1.0, 0.5, 1.0]
    """
    _need_tensor("clip", x)
    return op.clip(x, min, max)  # type: ignore[no-any-return]


@_public
def astype(x: Any, dtype: Any, *, copy: bool = True, device: Any = None) -> Tensor:
    """x in another dtype. Floats that an integer dtype cannot hold saturate, NaN becomes 0.

    >>> import proa as pa
    >>> pa.astype(pa.asarray([1.7, -1.7]), pa.int32).tolist()
    [1, -1]
    """
    _need_tensor("astype", x)
    found = op.astype(x, dtype)
    return found if device is None else moved(asarray(found), as_device(device))


# Over axes.


def _over_axes(name: str, function: Call, example: str = "", result: str = "") -> Call:
    """A function along axes: a number alone is refused."""

    @wraps(function)
    def call(x: Any, /, *args: Any, **options: Any) -> Any:
        _need_tensor(name, x)
        return function(x, *args, **options)

    return _public(call, example, result)  # type: ignore[return-value]


all = _over_axes(
    "all",
    op.all,
    "pa.all(pa.asarray([[True, False], [True, True]]), axis=1).tolist()",
    "[False, True]",
)
any = _over_axes(
    "any",
    op.any,
    "pa.any(pa.asarray([[True, False], [False, False]]), axis=1).tolist()",
    "[True, False]",
)
argmax = _over_axes("argmax", op.argmax, "pa.argmax(pa.asarray([1, 3, 2])).item()", "1")
argmin = _over_axes("argmin", op.argmin, "pa.argmin(pa.asarray([2, 1, 3])).item()", "1")
logsumexp = _over_axes("logsumexp", cp.logsumexp)
log_softmax = _over_axes("log_softmax", cp.log_softmax)
max = _over_axes("max", op.max, "pa.max(pa.asarray([[1, 4], [3, 2]]), axis=0).tolist()", "[3, 4]")
mean = _over_axes("mean", cp.mean)
min = _over_axes("min", op.min, "pa.min(pa.asarray([[1, 4], [3, 2]]), axis=0).tolist()", "[1, 2]")
softmax = _over_axes("softmax", cp.softmax)
std = _over_axes("std", cp.std)
sum = _over_axes("sum", op.sum)
var = _over_axes("var", cp.var)


@_public
def count_nonzero(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """How many elements differ from 0 over axes (all if None), int64.

    >>> import proa as pa
    >>> pa.count_nonzero(pa.asarray([[1, 0], [2, 3]]), axis=0).tolist()
    [2, 1]
    """
    _need_tensor("count_nonzero", x)
    return op.sum(op.astype(_truth(x), int64), axis, keepdims=keepdims)  # type: ignore[no-any-return]


@_public
def cumulative_sum(
    x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Sums of the first 1, 2, 3, ... elements along an axis, which may be left out where x has one
    only; with `include_initial` a 0 comes first. Small integers and bool are added as int64.

    >>> import proa as pa
    >>> pa.cumulative_sum(pa.asarray([1, 2, 3])).tolist()
    [1, 3, 6]
    """
    given = value_of("cumulative_sum", x).spec
    if axis is None and given.ndim != 1:
        hint = "axis=0"
        raise ArgumentError(
            message("cumulative_sum", f"no axis for {given.ndim} axes", "an axis", hint)
        )
    a = as_axis("cumulative_sum", 0 if axis is None else axis, given.ndim)
    if dtype is not None:
        x = op.astype(x, dtype)
    elif not given.dtype.is_inexact:
        x = op.astype(x, int64 if given.dtype.signed or given.dtype is bool_ else dtypes.uint64)
    found = apply(scans.cumsum, (x,), axis=a, reverse=False)
    if not include_initial:
        return found  # type: ignore[no-any-return]
    grow = tuple([int(i == a) for i in range(given.ndim)])
    none = (0,) * given.ndim
    return mv.pad(found, low=grow, high=none, interior=none)  # type: ignore[no-any-return]


@_public
def diff(x: Any, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """The n-th differences of neighbours along an axis.

    >>> import proa as pa
    >>> pa.diff(pa.asarray([1, 4, 9])).tolist()
    [3, 5]
    """
    a = as_axis("diff", axis, value_of("diff", x).spec.ndim)
    if as_int("diff", "n", n) < 0:
        raise ArgumentError(message("diff", f"n {n}", "n >= 0"))
    around = [t for t in (prepend, x, append) if t is not None]
    x = op.concat(around, a) if len(around) > 1 else asarray(x)
    before = (slice(None),) * a
    for _ in range(n):
        later, earlier = (getitem(x, (*before, s)) for s in (slice(1, None), slice(None, -1)))
        x = op.not_equal(later, earlier) if x.dtype is bool_ else later - earlier
    return x  # type: ignore[no-any-return]


# Products.

matmul = _public(op.matmul)
einsum = _public(cp.einsum)
outer = _public(cp.outer)
tensordot = _public(cp.tensordot)
vecdot = _public(cp.vecdot)
matrix_transpose = _public(
    op.matrix_transpose,
    "pa.matrix_transpose(pa.asarray([[1, 2], [3, 4]])).tolist()",
    "[[1, 3], [2, 4]]",
)

# Shapes.

broadcast_to = _public(op.broadcast_to)
concat = _public(op.concat)
expand_dims = _public(op.expand_dims)
flatten = _public(op.flatten)
flip = _public(op.flip, "pa.flip(pa.asarray([1, 2, 3])).tolist()", "[3, 2, 1]")
moveaxis = _public(op.moveaxis)
permute_dims = _public(op.permute_dims)
squeeze = _public(op.squeeze)
stack = _public(op.stack)
swapaxes = _public(op.swapaxes, "pa.swapaxes(pa.zeros((2, 3, 4)), 0, 2).shape", "(4, 3, 2)")


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape in which shapes meet: aligned at the last axis, sizes equal or 1.

    >>> import proa as pa
    >>> pa.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    given = [as_shape("broadcast_shapes", s) for s in shapes]
    return _meet("broadcast_shapes", given) if given else ()


def broadcast_arrays(*xs: Any) -> list[Tensor]:
    """All operands repeated to the shape in which they meet.

    >>> import proa as pa
    >>> [x.shape for x in pa.broadcast_arrays(pa.zeros((2, 1)), pa.zeros(3))]
    [(2, 3), (2, 3)]
    """
    shape = _meet(
        "broadcast_arrays", [value_of("broadcast_arrays", x).spec.shape for x in xs] or [()]
    )
    return [broadcast_to(x, shape) for x in xs]


@_public
def reshape(x: Any, shape: Any, copy: bool | None = None) -> Tensor:
    """The same elements, row by row, in another shape; one size may be -1. A value of its own in
    any case: writing to it does not change x, so `copy=False` is an error.

    >>> import proa as pa
    >>> pa.reshape(pa.arange(6), (2, -1)).shape
    (2, 3)
    """
    if copy is False:
        raise ArgumentError(
            message("reshape", "copy=False", "None or True: values are never shared")
        )
    return op.reshape(x, shape)  # type: ignore[no-any-return]


@_public
def repeat(x: Any, repeats: int, axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along an axis (of the flattened tensor if None).

    PyTorch's `x.repeat(...)` is `tile`.

    >>> import proa as pa
    >>> pa.repeat(pa.asarray([1, 2]), 2).tolist()
    [1, 1, 2, 2]
    """
    (times,) = as_shape("repeat", as_int("repeat", "repeats", repeats))
    x = op.reshape(x, (-1,)) if axis is None else x
    shape = value_of("repeat", x).spec.shape
    a = as_axis("repeat", 0 if axis is None else axis, len(shape))
    wide = (*shape[: a + 1], times, *shape[a + 1 :])
    axes = tuple([i for i in range(len(wide)) if i != a + 1])
    found = apply(mv.broadcast, (x,), shape=wide, axes=axes)
    return op.reshape(found, (*shape[:a], shape[a] * times, *shape[a + 1 :]))  # type: ignore[no-any-return]


@_public
def tile(x: Any, repetitions: Any) -> Tensor:
    """The whole of x repeated along each axis; missing axes and repetitions count as 1.

    >>> import proa as pa
    >>> pa.tile(pa.asarray([1, 2]), (2, 2)).tolist()
    [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    times = as_shape("tile", repetitions)
    shape = value_of("tile", x).spec.shape
    ndim = builtins.max(len(times), len(shape))
    times, shape = (1,) * (ndim - len(times)) + times, (1,) * (ndim - len(shape)) + shape
    x = op.reshape(x, shape)
    wide = tuple([n for pair in zip(times, shape, strict=True) for n in pair])
    found = apply(mv.broadcast, (x,), shape=wide, axes=tuple(range(1, 2 * ndim, 2)))
    return op.reshape(found, tuple([t * n for t, n in zip(times, shape, strict=True)]))  # type: ignore[no-any-return]


@_public
def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Elements moved up by `shift` along axes, those that leave at the end coming in at the front
    (of the flattened tensor if axis is None). How far is an input of the program.

    >>> import proa as pa
    >>> pa.roll(pa.asarray([1, 2, 3]), 1).tolist()
    [3, 1, 2]
    """
    given = value_of("roll", x).spec
    if axis is None:
        return op.reshape(roll(op.reshape(x, (-1,)), shift, 0), given.shape)  # type: ignore[no-any-return]
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ArgumentError(
            message("roll", f"{len(shifts)} shifts for {len(axes)} axes", "one for each")
        )
    for s, a in zip(shifts, axes, strict=True):
        x = _rolled(x, as_int("roll", "shift", s), as_axis("roll", a, given.ndim))
    return x  # type: ignore[no-any-return]


def _rolled(x: Any, shift: int, axis: int) -> Any:
    """A window of x beside itself."""
    n = value_of("roll", x).spec.shape[axis]
    if n < 2:
        return x
    twice = op.concat([x, x], axis)
    start = as_number("roll", -shift % n, int64)
    return apply(dynamic_slice, (twice, start), axes=(axis,), sizes=(n,), strides=(1,))


@_public
def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis, which they lack.

    >>> import proa as pa
    >>> [t.tolist() for t in pa.unstack(pa.asarray([[1, 2], [3, 4]]))]
    [[1, 2], [3, 4]]
    """
    shape = value_of("unstack", x).spec.shape
    a = as_axis("unstack", axis, len(shape))
    return tuple([getitem(x, ((slice(None),) * a + (i,))) for i in range(shape[a])])


# Sorting and choosing.

take = _public(cp.take)
take_along_axis = _public(cp.take_along_axis)


def _sorted(name: str, x: Any, axis: int, descending: bool, stable: bool) -> tuple[Any, Any]:
    """Values and indices. What is sorted the other way round is -x or its turned bits, so that
    equal elements stay in order and NaN comes last."""
    given = value_of(name, x).spec
    a = as_axis(name, axis, given.ndim)
    if not descending:
        return apply(scans.sort, (x,), axis=a)  # type: ignore[no-any-return]
    key = fn.neg(x) if given.dtype.is_inexact else fn.not_(x)
    _, places = apply(scans.sort, (key,), axis=a)
    return take_along(x, places, a), places


@_public
def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Elements in order along an axis. Always stable; NaN comes last.

    >>> import proa as pa
    >>> pa.sort(pa.asarray([3, 1, 2]), descending=True).tolist()
    [3, 2, 1]
    """
    return _sorted("sort", x, axis, descending, stable)[0]  # type: ignore[no-any-return]


@_public
def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The places from which `sort` takes its elements, int64.

    >>> import proa as pa
    >>> pa.argsort(pa.asarray([3, 1, 2])).tolist()
    [1, 2, 0]
    """
    return _sorted("argsort", x, axis, descending, stable)[1]  # type: ignore[no-any-return]


# Dtypes and devices.


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
        number = number_of(given) if type(given) in _PYTHON else None
        if number is not None:
            weak.append(number)
        else:
            strong.append(_dtype_of(given))
    if not strong:
        return _natural(np.asarray(weak))
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
    'numpy'
    """
    return thread.state.device or default_device()


def set_default_device(device: Any) -> None:
    """New tensors are made on this device from now on.

    >>> import proa as pa
    >>> pa.set_default_device("numpy")
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


# Methods.


@final
class NoViews(ArgumentError, AttributeError):
    """What PyTorch does by sharing memory was asked for."""


def _data(x: Tensor) -> Any:
    hint = "x.detach() to read, with pa.no_grad(): x[...] = v to write"
    raise NoViews(message("data", "x.data", "no view: values are never shared", hint))


def _sizes(sizes: Sequence[Any]) -> Any:
    """`f(2, 3)` and `f((2, 3))` alike."""
    return sizes[0] if len(sizes) == 1 else tuple(sizes)


def _method_reshape(x: Tensor, *shape: Any, copy: bool | None = None) -> Tensor:
    """The same elements in another shape, `x.reshape(2, -1)` or `x.reshape((2, -1))`. A value of
    its own: writing to it leaves x alone. `view` is another name for it."""
    return reshape(x, _sizes(shape), copy)


def _method_permute(x: Tensor, *axes: Any) -> Tensor:
    """Axes in another order: result axis i is x's axis axes[i]."""
    return permute_dims(x, _sizes(axes))  # type: ignore[no-any-return]


def _method_expand(x: Tensor, *shape: Any) -> Tensor:
    """x repeated to a larger shape; -1 keeps a size."""
    given = _sizes(shape)
    sizes = list(given) if isinstance(given, (tuple, list)) else [given]
    first = len(sizes) - x.ndim
    kept = [x.shape[i - first] if n == -1 and i >= first >= 0 else n for i, n in enumerate(sizes)]
    return broadcast_to(x, tuple(kept))  # type: ignore[no-any-return]


def _method_repeat(x: Tensor, repeats: int, *more: Any, axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along an axis. PyTorch's `repeat` is `tile`."""
    if more or not isinstance(repeats, int):
        given = f"repeat{(repeats, *more)}"
        raise ArgumentError(message("repeat", given, "one int and axis=", "x.tile(...)"))
    return repeat(x, repeats, axis)


def _method_tile(x: Tensor, *repetitions: Any) -> Tensor:
    """The whole of x repeated along each axis."""
    return tile(x, _sizes(repetitions))


def _method_transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    return swapaxes(x, dim0, dim1)  # type: ignore[no-any-return]


def _method_index_select(x: Tensor, axis: int, index: Any) -> Tensor:
    """Elements at the places `index` along an axis."""
    return take(x, index, axis)  # type: ignore[no-any-return]


def _method_masked_fill(x: Tensor, mask: Any, value: Any) -> Tensor:
    """`value` where the mask holds, else x, in the dtype of x."""
    return where(mask, _same_dtype(x, value), x)


def _method_where(x: Tensor, condition: Any, other: Any) -> Tensor:
    """x where the condition holds, else `other`."""
    return where(condition, x, other)


def _same_dtype(x: Tensor, value: Any) -> Any:
    number = number_of(value)
    if number is not None:
        return as_number("value", _fitting("value", number, x.dtype), x.dtype)
    return op.astype(value, x.dtype)


def _method_clone(x: Tensor) -> Tensor:
    """The same value under a handle of its own, on the tape if x is."""
    return _clone(x)


def _method_numel(x: Tensor) -> int:
    """Number of elements."""
    return x.size


def _method_dim(x: Tensor) -> int:
    """Number of axes."""
    return x.ndim


_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "abs": abs, "all": all, "any": any, "argmax": argmax, "argmin": argmin, "argsort": argsort,
    "broadcast_to": broadcast_to, "ceil": ceil, "clamp": clip, "clip": clip,
    "clone": _method_clone, "cos": cos, "cumsum": cumulative_sum, "diff": diff,
    "dim": _method_dim, "erf": erf, "exp": exp, "expand": _method_expand,
    "expand_dims": expand_dims, "expm1": expm1, "flatten": flatten, "flip": flip, "floor": floor,
    "index_select": _method_index_select, "isfinite": isfinite, "isinf": isinf, "isnan": isnan,
    "log": log, "log10": log10, "log1p": log1p, "log2": log2, "log_softmax": log_softmax,
    "logsumexp": logsumexp, "masked_fill": _method_masked_fill, "matmul": matmul, "max": max,
    "maximum": maximum, "mean": mean, "min": min, "minimum": minimum, "moveaxis": moveaxis,
    "numel": _method_numel, "permute": _method_permute, "pow": pow, "reciprocal": reciprocal,
    "relu": relu, "repeat": _method_repeat, "reshape": _method_reshape, "roll": roll,
    "round": round, "rsqrt": rsqrt, "sigmoid": sigmoid, "sign": sign, "sin": sin,
    "softmax": softmax, "sort": sort, "sqrt": sqrt, "square": square, "squeeze": squeeze,
    "std": std, "sum": sum, "swapaxes": swapaxes, "take": take, "tan": tan, "tanh": tanh,
    "tile": _method_tile, "transpose": _method_transpose, "tril": tril, "triu": triu,
    "trunc": trunc, "unsqueeze": expand_dims, "var": var, "view": _method_reshape,
    "where": _method_where,
}  # fmt: skip


def _scaled(other: Any, alpha: Any) -> Any:
    return other if type(alpha) is int and alpha == 1 else other * alpha


def _fill(x: Tensor, number: Any) -> Any:
    return apply(mv.broadcast, (_same_dtype(x, number),), shape=x.shape, axes=())


# What a method that ends in `_` makes of a tensor: the new value.
_CHANGES: Final[dict[str, Callable[..., Any]]] = {
    "add_": lambda x, other, *, alpha=1: x + _scaled(other, alpha),
    "sub_": lambda x, other, *, alpha=1: x - _scaled(other, alpha),
    "mul_": lambda x, other: x * other,
    "div_": lambda x, other: x / other,
    "pow_": lambda x, exponent: x**exponent,
    "neg_": lambda x: -x,
    "clamp_": lambda x, min=None, max=None: clip(x, min, max),
    "copy_": lambda x, source: broadcast_to(op.astype(asarray(source), x.dtype), x.shape),
    "fill_": lambda x, value: _fill(x, value),
    "zero_": lambda x: zeros_like(x),
}


def _change(name: str, function: Callable[..., Any]) -> Any:
    def change(self: Tensor, *args: Any, **options: Any) -> Tensor:
        count = getrefcount(self)
        if is_part(self):
            if count <= counts_of_temporary().method:
                given = "a part or view of a tensor, which is a value of its own"
                hint = "x[i] = v for a part, or the method of x itself"
                raise ArgumentError(
                    message(name, given, "a tensor that can be read afterwards", hint)
                )
            warn_if_part(self)
        return assign(self, function(self, *args, **options), name)

    change.__name__ = change.__qualname__ = name
    change.__doc__ = f"Changes the tensor in place as `{name[:-1]}` would; returns it."
    return change


def _operator(name: str) -> Any:
    """`x += y`: said once at the line if x is a part of another tensor; `x[0:2] += y` is not."""
    does = getattr(Tensor, f"__{name}__")

    def change(self: Tensor, other: Any) -> Any:
        count = getrefcount(self)
        made = does(self, other)
        if made is NotImplemented:
            return made
        if count > counts_of_temporary().in_place > 0:
            warn_if_part(self)
        return assign(self, made, f"{name} in place")

    return change


def attach() -> None:
    """Gives tensors the methods of the table above. Called once, when this module is imported."""
    for name, function in _METHODS.items():
        setattr(Tensor, name, function)
    for name, function in _CHANGES.items():
        setattr(Tensor, name, _change(name, function))
    for name in op.BINARY:
        setattr(Tensor, f"__i{name}__", _operator(name))
    Tensor.data = property(_data)


attach()
