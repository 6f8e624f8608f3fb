"""Entries prepared for NumPy: what can be found out from specs alone is found out once.

A primitive that is not in the table runs its meaning as it stands. What is in it computes the
same; laws compare the two. A kernel's bits depend on its entry and on its operands' bits, never
on their memory layout: products get operands in an order of axes that the entry fixes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from proa.graph.entry import Entry

Kernel = Callable[..., Any]
SMALL: Final = 4096


def solid(array: Any) -> Any:
    """The array in C order; itself if it is."""
    return array if array.flags.c_contiguous else np.array(array, order="C")


def narrow(entry: Entry) -> bool:
    """Whether an entry computes in float16 or bfloat16: these go through float32."""
    dtype = entry.ins[0].dtype
    return dtype.is_float and dtype.bits == 16


# Products.


def dot(entry: Entry) -> Kernel:
    """One matmul: batch letters, rows, summed letters, columns; NumPy transposes by view."""
    a, b, out = entry.params
    both = [c for c in a if c in b and c in out]
    summed = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    n = dict(zip(a + b, entry.ins[0].shape + entry.ins[1].shape, strict=True))
    left = _operand(a, both, rows, summed, n)
    right = _operand(b, both, summed, columns, n)
    order = [*both, *rows, *columns]
    shape = tuple([n[c] for c in order])
    axes = tuple([order.index(c) for c in out])
    same = axes == tuple(range(len(axes)))
    wide = narrow(entry)
    target = entry.out.dtype.numpy

    def run(x: Any, y: Any) -> Any:
        if x is y or (x.base is not None and x.base is y.base) or x.base is y or y.base is x:
            y = y.copy()  # for a @ a.T NumPy takes another routine, with other bits
        x, y = left(x), right(y)
        if wide:
            x, y = x.astype(np.float32), y.astype(np.float32)
        product = np.matmul(x, y).reshape(shape)
        if wide:
            product = product.astype(target)
        return product if same else product.transpose(axes)

    return run


def _operand(letters: str, both: list[str], first: list[str], second: list[str], n: Any) -> Kernel:
    """An operand as (batch, first, second); groups that stand the other way round are a view."""
    sizes = [[n[c] for c in group] for group in (both, first, second)]
    lead, rows, columns = (int(np.prod(s, dtype=np.int64)) for s in sizes)
    shape = (rows, columns) if not both else (lead, rows, columns)
    given = list(letters)
    if given == [*both, *first, *second]:
        return lambda x: solid(x).reshape(shape)
    if given == [*both, *second, *first]:
        turned = (*shape[:-2], columns, rows)
        return lambda x: solid(x).reshape(turned).swapaxes(-1, -2)
    axes = tuple([given.index(c) for c in (*both, *first, *second)])
    return lambda x: np.array(x.transpose(axes), order="C").reshape(shape)


# Reductions.


def total(ufunc: Any) -> Callable[[Entry], Kernel]:
    def prepare(entry: Entry) -> Kernel:
        (axes,) = entry.params
        target = entry.out.dtype.numpy
        if narrow(entry):
            return lambda x: np.asarray(ufunc.reduce(solid(x), axis=axes, dtype=np.float32)).astype(
                target
            )
        return lambda x: ufunc.reduce(solid(x), axis=axes, dtype=target)

    return prepare


def extreme(ufunc: Any) -> Callable[[Entry], Kernel]:
    def prepare(entry: Entry) -> Kernel:
        (axes,) = entry.params
        return lambda x: ufunc.reduce(x, axis=axes)

    return prepare


# Movement.


def reshape(entry: Entry) -> Kernel:
    (shape,) = entry.params
    return lambda x: x.reshape(shape)


def permute(entry: Entry) -> Kernel:
    (axes,) = entry.params
    return lambda x: x.transpose(axes)


def broadcast(entry: Entry) -> Kernel:
    shape, axes = entry.params
    given = entry.ins[0].shape
    aligned = [1] * len(shape)
    steps = [0] * len(shape)
    step = entry.ins[0].dtype.itemsize
    for a, size in reversed(list(zip(axes, given, strict=True))):
        aligned[a] = size
        steps[a] = step if size == shape[a] else 0
        step *= size
    view, strides = tuple(aligned), tuple(steps)
    plain = entry.ins[0].dtype.numpy.kind in "biuf" and 0 not in shape

    def run(x: Any) -> Any:
        if plain and x.flags.c_contiguous:
            made = np.ndarray(shape, x.dtype, x, 0, strides)
            made.flags.writeable = False
            return made
        return np.broadcast_to(x.reshape(view), shape)

    return run


def slice_(entry: Entry) -> Kernel:
    index = tuple(map(slice, *entry.params))
    return lambda x: x[index]


def iota(entry: Entry) -> Kernel:
    """Small ones are made once."""
    make = partial(entry.primitive.meaning, **entry.named_params)
    if entry.out.size > SMALL:
        return make
    made = np.array(make(), order="C")
    made.flags.writeable = False
    return lambda: made


# Addressing.


def gather(entry: Entry) -> Kernel:
    """Rows of the first axis are taken at once where every index is inside."""
    axes, batch = entry.params
    general = partial(entry.primitive.meaning, **entry.named_params)
    if axes != (0,) or batch:
        return general
    size = entry.ins[0].shape[0]

    def run(x: Any, index: Any) -> Any:
        if index.size and (index.min() < 0 or index.max() >= size):
            return general(x, index)
        return x.take(index, axis=0)

    return run if size else general


def dynamic_slice(entry: Entry) -> Kernel:
    axes, sizes, strides = entry.params
    shape = entry.ins[0].shape
    rows = []
    for a, size, stride in zip(axes, sizes, strides, strict=True):
        extent = (size - 1) * stride + 1 if size else 0
        rows.append((a, shape[a] - extent, extent, stride))
    full = [slice(None)] * len(shape)

    def run(x: Any, *starts: Any) -> Any:
        index = list(full)
        for (a, last, extent, stride), start in zip(rows, starts, strict=True):
            first = min(max(int(start), 0), last)
            index[a] = slice(first, first + extent, stride)
        return x[tuple(index)]

    return run


# Elementwise operations whose meaning asks for the dtype.


def float_ufunc(ufunc: Any) -> Callable[[Entry], Kernel]:
    def prepare(entry: Entry) -> Kernel:
        if entry.ins[0].dtype.is_float:
            return ufunc  # type: ignore[no-any-return]
        return entry.primitive.meaning  # type: ignore[no-any-return]

    return prepare


def cast(entry: Entry) -> Kernel:
    source, target = entry.ins[0].dtype, entry.out.dtype
    if target.kind == "int" and source.is_float:
        return partial(entry.primitive.meaning, **entry.named_params)
    return lambda x: x.astype(target.numpy)


TABLE: Final[dict[str, Callable[[Entry], Kernel]]] = {
    "dot": dot, "sum": total(np.add), "prod": total(np.multiply), "max": extreme(np.maximum),
    "min": extreme(np.minimum),
    "reshape": reshape, "permute": permute, "broadcast": broadcast, "slice": slice_, "iota": iota,
    "gather": gather, "dynamic_slice": dynamic_slice, "cast": cast,
    "div": float_ufunc(np.divide), "rem": float_ufunc(np.remainder), "floor": float_ufunc(np.floor),
}  # fmt: skip
