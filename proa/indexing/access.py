"""Reading and writing: the operations that an index stands for, and the tensor's methods."""

from __future__ import annotations

from sys import getrefcount
from typing import Any, Final

from proa.convert import asarray, python_kind
from proa.dtypes import int64, promote, weak_dtype
from proa.errors import DtypeError, GradientError, ShapeError, message
from proa.graph.build import current_sink
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.indexing.masks import is_mask
from proa.indexing.selection import Selection, Window, select_from
from proa.indexing.temporaries import refuse_temporary, warn_if_part
from proa.ops.arithmetic import select
from proa.ops.indexing import dynamic_slice, dynamic_update, gather, scatter
from proa.ops.movement import broadcast, flip, permute, reshape
from proa.ops.primitive import apply, as_number, cast_to, number_of, value_of
from proa.record.live import NO_GRAD, thread
from proa.shapes import Shape
from proa.tensor import Tensor, assign

# Reading.


def getitem(x: Any, index: Any) -> Any:
    """x[index]: ints, slices of any step, `None`, `...`, and integer tensors, arrays or lists,
    which are broadcast; a mask (bool) stands for the places where it is true, which are counted at
    once: under `jit` say `x[pa.nonzero(mask, size=n)]`.

    Bounds of ints, lists and arrays are checked here; slices are cut as Python cuts them. Elements
    that an integer *tensor* addresses outside an axis are NaN (0 in other dtypes). An int drops
    its axis wherever it stands; the axes of an index tensor take the place of the one it
    addresses; those of several the place of the first, or stand in front where a slice lies
    between.

    >>> import proa as pa
    >>> pa.asarray([[1, 2, 3], [4, 5, 6]])[1, ::-2].tolist()
    [6, 4]
    """
    shape = value_of("getitem", x).spec.shape
    if type(index) is int and shape and -shape[0] <= index < shape[0]:  # x[i], the most frequent
        return _row(x, index % shape[0], shape[1:])
    if not shape or type(index) is not tuple:
        x, index = _with_axis(x, index)
        shape = x.value.spec.shape
    chosen = select_from(shape, index)
    found = _read(x, chosen)
    done = found is not x and found.value.spec.shape == chosen.shape
    return found if done else apply(reshape, (found,), shape=chosen.shape)


def _with_axis(x: Any, index: Any) -> tuple[Any, Any]:
    """A mask of 0 axes keeps or drops all of x: as one of a new first axis."""
    only = index[0] if type(index) is tuple and len(index) == 1 else index
    if isinstance(only, (slice, list)) or not is_mask(only) or len(only.shape):
        return x, index
    row = apply(reshape, (x,), shape=(1, *x.value.spec.shape))
    return row, asarray(only).reshape((1,))


def _row(x: Any, i: int, shape: Shape) -> Any:
    start = current_sink().number(i, _INDEX)
    found = apply(dynamic_slice, (x, start), axes=(0,), sizes=(1,), strides=(1,))
    return apply(reshape, (found,), shape=shape)


_INDEX: Final = spec((), int64)


def _read(x: Any, chosen: Selection) -> Any:
    """What is chosen, axes that an int drops still there."""
    x = _window(x, chosen)
    if chosen.turned:
        x = apply(flip, (x,), axes=chosen.turned)
    if chosen.tensors:
        x = apply(gather, (x, *chosen.tensors.values()), axes=tuple(chosen.tensors), batch=0)
        x = _permuted(x, _places(chosen))
    return x


def _window(x: Any, chosen: Selection) -> Any:
    axes = chosen.cut(x.value.spec.shape)
    if not axes:
        return x
    windows = [chosen.windows[a] for a in axes]
    sizes, strides = (tuple([w[i] for w in windows]) for i in (1, 2))
    return apply(dynamic_slice, (x, *_starts(windows)), axes=axes, sizes=sizes, strides=strides)


def _starts(windows: list[Window]) -> list[Value]:
    sink = current_sink()
    return [sink.number(w.start, spec((), int64)) for w in windows]


def _places(chosen: Selection) -> tuple[int, ...]:
    """The axes of a gathered result, which begins with those of the index tensors, in order."""
    own = next(iter(chosen.tensors.values())).value.spec.ndim
    rest = len(chosen.windows) - len(chosen.tensors)
    before = sum(1 for a in range(chosen.place) if a not in chosen.tensors)
    axes = range(own, own + rest)
    return (*axes[:before], *range(own), *axes[before:])


def _permuted(x: Any, axes: tuple[int, ...]) -> Any:
    return x if axes == tuple(range(len(axes))) else apply(permute, (x,), axes=axes)


# Writing.


def setitem(x: Any, index: Any, new: Any) -> None:
    """x[index] = new: a new value, to which the handle x is bound.

    `new` is broadcast to the shape of x[index]. Its dtype must be one that x's can hold, as in
    `x += y`. Of several writes to one place the last stays; those outside an axis are dropped.

    >>> import proa as pa
    >>> x = pa.zeros((2, 2))
    >>> x[0] = 1.0
    >>> x[:, 1] += 1
    >>> x.tolist()
    [[1.0, 2.0], [0.0, 1.0]]
    """
    if x.leaf is not None and x.leaf.stops and not thread.state.mode & NO_GRAD:
        given = "a leaf that requires grad"
        raise GradientError(
            message("setitem", given, "a tensor that is no leaf", "with pa.no_grad(): ...")
        )
    mask = _whole_mask(x, index, new)
    if mask is not None:
        assign(x, select(mask, _update(x, new, ()), x), "setitem")
        return
    chosen = select_from(x.shape, index)
    assign(x, _written(x, chosen, _update(x, new, chosen.shape)), "setitem")


def _whole_mask(x: Any, index: Any, new: Any) -> Any:
    """A mask over the first axes of x that one number is written to, shaped to meet x: then no
    shape depends on values."""
    only = index[0] if type(index) is tuple and len(index) == 1 else index
    if isinstance(only, (int, slice)) or not is_mask(only):
        return None
    if number_of(new) is None and getattr(new, "shape", None) != ():
        return None
    mask = asarray(only)
    if mask.shape != x.shape[: mask.ndim]:
        return None
    return mask.reshape((*mask.shape, *[1] * (x.ndim - mask.ndim)))


def _written(x: Any, chosen: Selection, update: Any) -> Any:
    """x with `update`, of the shape of the result, in the place of what is chosen."""
    axes, shape = chosen.cut(x.shape), tuple([w.size for w in chosen.windows])
    if chosen.tensors:
        update = _scattered(x, chosen, update)
    elif not axes or update.value.spec.shape != shape:
        update = apply(reshape, (update,), shape=shape)
    if chosen.turned:
        update = apply(flip, (update,), axes=chosen.turned)
    if not axes:
        return update
    windows = [chosen.windows[a] for a in axes]
    strides = tuple([w.stride for w in windows])
    return apply(dynamic_update, (x, update, *_starts(windows)), axes=axes, strides=strides)


def _scattered(x: Any, chosen: Selection, update: Any) -> Any:
    """The window of x with the update at the index tensors."""
    window = _window(x, chosen)
    if chosen.turned:
        window = apply(flip, (window,), axes=chosen.turned)
    places = _places(chosen)
    index = next(iter(chosen.tensors.values())).value.spec
    rest = [w.size for a, w in enumerate(chosen.windows) if a not in chosen.tensors]
    gathered = (*index.shape, *rest)
    update = apply(reshape, (update,), shape=tuple([gathered[p] for p in places]))
    update = _permuted(update, tuple([places.index(i) for i in range(len(places))]))
    operands = (window, update, *chosen.tensors.values())
    return apply(scatter, operands, axes=tuple(chosen.tensors), batch=0, mode="set")


def _update(x: Any, new: Any, shape: Shape) -> Any:
    """What is written, in x's dtype and the shape of the result."""
    dtype = x.dtype
    number = number_of(new)
    if number is not None:
        if weak_dtype(number).rank > dtype.rank:
            raise DtypeError(_refused(repr(number), dtype))
        value = as_number("setitem", number, dtype)
    else:
        value = _of_list(new, dtype) if isinstance(new, (list, tuple)) else value_of("setitem", new)
        given = value.spec.dtype
        if not (given.rank <= dtype.rank if value.spec.weak else promote(dtype, given) is dtype):
            raise DtypeError(_refused(given.name, dtype))
        value = cast_to(value, dtype).value
    given = value.spec.shape
    while len(given) > len(shape) and given[0] == 1:
        given = given[1:]
    if given != value.spec.shape:
        value = apply(reshape, (value,), shape=given).value
    fits = len(given) <= len(shape) and all(
        n in (1, m) for n, m in zip(given[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            message("setitem", f"a value of shape {given}", f"one that broadcasts to {shape}")
        )
    axes = tuple(range(len(shape) - len(given), len(shape)))
    return value if given == shape else apply(broadcast, (value,), shape=shape, axes=axes)


def _of_list(new: Any, dtype: Any) -> Any:
    """The value of nested lists; numbers take x's dtype as a lone number would."""
    kind = python_kind(new)
    if kind is None or weak_dtype(kind()).rank > dtype.rank:
        return asarray(new).value
    return asarray(new, dtype=dtype).value


def _refused(given: str, dtype: Any) -> str:
    return message(
        "setitem", f"{given} for {dtype.name}", "what the dtype holds", f"v.astype(pa.{dtype.name})"
    )


def _setitem(self: Any, index: Any, new: Any) -> None:
    """x[index] = new: the handle x holds the changed value from now on."""
    count = getrefcount(self)
    refuse_temporary(self, count)
    warn_if_part(self)
    setitem(self, index, new)


Tensor.__getitem__ = getitem  # type: ignore[method-assign]
Tensor.__setitem__ = _setitem  # type: ignore[method-assign]
