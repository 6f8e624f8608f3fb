"""`x[...]` and `x[...] = v`: which elements are meant, and the operations that read or write them.

Where a slice starts and which element an integer means are inputs of the program; only sizes and
strides are part of it. So `data[i * B : (i + 1) * B]` with a running `i` is one program. Values
have no aliases: writing makes a new value and binds the handle to it.
"""

from __future__ import annotations

import operator
import warnings
from dis import opmap
from functools import cache
from sys import _getframe, getrefcount
from typing import Any, Final, NamedTuple

import numpy as np

from proa.dtypes import int64, promote, weak_dtype
from proa.errors import ArgumentError, DtypeError, GradientError, IndexingError, ShapeError, message
from proa.graph.build import current_sink
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.ops.arithmetic import lt, select
from proa.ops.indexing import dynamic_slice, dynamic_update, gather, scatter
from proa.ops.movement import broadcast, flip, permute, reshape
from proa.ops.primitive import apply, as_number, cast_to, number_of, value_of
from proa.record.live import NO_GRAD, caller, thread
from proa.shapes import Shape
from proa.tensor import Tensor, assign


class Window(NamedTuple):
    """What an index takes of one axis: `size` elements, `stride` apart, from `start`."""

    start: int
    size: int
    stride: int = 1
    turned: bool = False
    dropped: bool = False


class Selection(NamedTuple):
    """An index made exact.

    A window for each axis; index tensors by axis, all of one shape; and the shape of the result,
    with the axes of the index tensors at `place`.
    """

    windows: tuple[Window, ...]
    tensors: dict[int, Any]
    shape: Shape
    place: int

    def cut(self, shape: Shape) -> tuple[int, ...]:
        """The axes of which not everything is taken."""
        rows = enumerate(zip(self.windows, shape, strict=True))
        return tuple([i for i, (w, n) in rows if w.size != n])

    @property
    def turned(self) -> tuple[int, ...]:
        return tuple([i for i, w in enumerate(self.windows) if w.turned])


# Reading.


def getitem(x: Any, index: Any) -> Any:
    """x[index]: ints, slices of any step, `None`, `...`, integer tensors of 0 axes, and one integer
    tensor, array or list with axes.

    Bounds of ints, lists and arrays are checked here; slices are cut as Python cuts them. Elements
    that an integer *tensor* addresses outside an axis are NaN (0 in other dtypes). An int drops
    its axis wherever it stands; the axes of an index tensor take the place of the one it
    addresses.

    >>> import proa as pa
    >>> pa.asarray([[1, 2, 3], [4, 5, 6]])[1, ::-2].tolist()
    [6, 4]
    """
    shape = value_of("getitem", x).spec.shape
    if type(index) is int and shape and -shape[0] <= index < shape[0]:  # x[i], the most frequent
        return _row(x, index % shape[0], shape[1:])
    chosen = select_from(shape, index)
    found = _read(x, chosen)
    done = found is not x and found.value.spec.shape == chosen.shape
    return found if done else apply(reshape, (found,), shape=chosen.shape)


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
    chosen = select_from(x.shape, index)
    assign(x, _written(x, chosen, _update(x, new, chosen.shape)), "setitem")


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
    from proa.array import asarray, python_kind

    kind = python_kind(new)
    if kind is None or weak_dtype(kind()).rank > dtype.rank:
        return asarray(new).value
    return asarray(new, dtype=dtype).value


def _refused(given: str, dtype: Any) -> str:
    return message(
        "setitem", f"{given} for {dtype.name}", "what the dtype holds", f"v.astype(pa.{dtype.name})"
    )


# Which elements are meant.


def select_from(shape: Shape, index: Any) -> Selection:
    """The index made exact for a tensor of this shape; errors name what was given."""
    items = _expanded(shape, index if type(index) is tuple else (index,))
    windows: list[Window] = []
    tensors: dict[int, Any] = {}
    out: list[Any] = []
    for item in items:
        if item is None:
            out.append(1)
            continue
        axis, n = len(windows), shape[len(windows)]
        if isinstance(item, slice):
            windows.append(_sliced(item, n))
            out.append(windows[-1].size)
        elif (found := _tensor_of(item, axis, n)) is not None:
            windows.append(Window(0, n))
            tensors[axis] = found
            out.append(found)
        else:
            windows.append(Window(_place(item, axis, n), 1, dropped=True))
    return _finished(tuple(windows), tensors, out)


def _finished(windows: tuple[Window, ...], tensors: dict[int, Any], out: list[Any]) -> Selection:
    """Index tensors of 0 axes are repeated to the shape of the one that has axes."""
    wide = [a for a, t in tensors.items() if t.value.spec.ndim]
    if len(wide) > 1:
        given = f"{len(wide)} index tensors with axes"
        hint = "pa.take_along_axis, or pa.where with a mask"
        raise IndexingError(message("index", given, "at most one", hint))
    own: Shape = tensors[wide[0]].value.spec.shape if wide else ()
    place = wide[0] if wide else 0
    shape: list[int] = []
    for part in out:
        if type(part) is int:
            shape.append(part)
        elif part.value.spec.ndim:
            shape += own
    spread = {
        a: t if t.value.spec.shape == own else apply(broadcast, (t,), shape=own, axes=())
        for a, t in tensors.items()
    }
    return Selection(windows, spread, tuple(shape), place)


def _expanded(shape: Shape, items: tuple[Any, ...]) -> list[Any]:
    """One item for each axis, and the Nones: `...` becomes the whole slices it stands for."""
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexingError(message("index", f"{len(dots)} times `...`", "at most one"))
    used = sum(1 for item in items if item is not None and item is not Ellipsis)
    if used > len(shape):
        given = f"{used} indices for shape {shape}"
        raise IndexingError(message("index", given, f"at most {len(shape)}"))
    whole = [slice(None)] * (len(shape) - used)
    at = dots[0] if dots else len(items)
    return [*items[:at], *whole, *items[at + 1 :]]


def _sliced(item: slice, n: int) -> Window:
    """The window of a slice, cut as Python cuts it; a negative step is one that is turned."""
    try:
        places = range(*slice(*map(_bound, (item.start, item.stop, item.step))).indices(n))
    except ValueError:
        raise IndexingError(message("index", f"{item}", "a step other than 0")) from None
    size, step = len(places), places.step
    if size <= 1:
        return Window(places.start if size else 0, size)
    return Window(min(places[0], places[-1]), size, abs(step), step < 0)


def _bound(n: Any) -> int | None:
    if n is None:
        return None
    if isinstance(n, (bool, np.bool_)):
        raise IndexingError(message("index", f"{n} in a slice", "an int or None"))
    try:
        return operator.index(n)
    except TypeError:
        given = f"{type(n).__name__} {n!r:.40} in a slice"
        raise IndexingError(message("index", given, "an int or None")) from None


def _place(item: Any, axis: int, n: int) -> int:
    try:
        given = operator.index(item)
    except TypeError:
        kind = f"an index of type {type(item).__name__}"
        raise IndexingError(
            message("index", kind, "ints, slices, None, `...` or integer tensors")
        ) from None
    if not -n <= given < n:
        raise IndexingError(
            message("index", f"{given} for axis {axis} of size {n}", f"-{n} <= i < {n}")
        )
    return given % n


def _tensor_of(item: Any, axis: int, n: int) -> Any:
    """The index tensor that an item stands for, negative indices counted from the end; None for
    an int."""
    if isinstance(item, (bool, np.bool_)):
        raise IndexingError(_mask())
    if isinstance(item, (int, np.integer)):
        return None
    if isinstance(item, (list, tuple, range, np.ndarray)):
        array = _array_of(item)
        return None if array.ndim == 0 else _checked(array, axis, n)
    found = getattr(item, "value", None)
    if type(found) is not Value:
        return None
    if found.spec.dtype.kind == "bool":
        raise IndexingError(_mask())
    if found.spec.dtype.kind != "int":
        given = f"an index of {found.spec.dtype.name}"
        raise IndexingError(message("index", given, "an integer dtype", "i.astype(pa.int64)"))
    value_of("index", item)
    if not found.spec.dtype.signed:
        return item
    wide = cast_to(item, int64)
    return select(lt(wide, 0), wide + n, wide)


def _array_of(item: Any) -> Any:
    if isinstance(item, (list, tuple)) and any(hasattr(i, "value") for i in item):
        item = [operator.index(i) for i in item]
    try:
        array = np.asarray(item)
    except ValueError:
        raise IndexingError(message("index", "a ragged list", "ints in a regular shape")) from None
    if array.dtype.kind == "b":
        raise IndexingError(_mask())
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        given = f"an index of {array.dtype}"
        raise IndexingError(message("index", given, "integers", "i.astype(pa.int64)"))
    return array


def _checked(array: Any, axis: int, n: int) -> Any:
    """A host array of indices as a tensor; its bounds are known now."""
    if array.size and not (-n <= array.min() and array.max() < n):
        bad = array.min() if array.min() < -n else array.max()
        raise IndexingError(
            message("index", f"{bad} for axis {axis} of size {n}", f"-{n} <= i < {n}")
        )
    array = array.astype(np.int64)
    array = np.where(array < 0, array + n, array)
    return current_sink().constant(array, spec(array.shape, int64))


def _mask() -> str:
    hint = "pa.where(mask, x, 0.0), or x = pa.where(mask, v, x)"
    return message("index", "a boolean mask", "integers: the shape must not depend on values", hint)


# Writes that would be lost: nothing but the expression itself holds the tensor that is changed.


class Probe:
    """Stands for a tensor when reference counts are learned: its methods are entered alike."""

    def __init__(self) -> None:
        self.kept: Any = None

    def __setitem__(self, seen: list[int], new: Any) -> None:
        count = getrefcount(self)
        seen.append(count)

    def __iadd__(self, seen: list[int]) -> Any:
        count = getrefcount(self)
        seen.append(count)
        return self

    def change_(self, seen: list[int]) -> Any:
        count = getrefcount(self)
        seen.append(count)
        return self


class Counts(NamedTuple):
    """References that a method sees to its tensor where only the expression holds it; 0 where
    that cannot be told from a tensor that somebody holds."""

    setitem: int
    in_place: int
    method: int


_held: Any = None


@cache
def counts_of_temporary() -> Counts:
    """Learned from probes when first asked, for versions of Python differ."""
    global _held
    made: tuple[list[int], ...] = ([], [], [])
    held: tuple[list[int], ...] = ([], [], [])
    Probe()[made[0]] = 1
    box = [Probe()]
    made[1].append(_count_in_place(Probe()))
    Probe().change_(made[2])
    name = Probe()
    name.kept = Probe()
    _held = Probe()
    for each in box:
        each[held[0]] = 1
        each += held[1]
        each.change_(held[2])
    name[held[0]] = box[0][held[0]] = name.kept[held[0]] = _held[held[0]] = 1
    name += held[1]
    box[0] += held[1]
    name.kept += held[1]
    _held += held[1]
    _ = name.change_(held[2]), box[0].change_(held[2])
    _ = name.kept.change_(held[2]), _held.change_(held[2])
    _held = None
    return Counts(*[m[0] if m[0] < min(h) else 0 for m, h in zip(made, held, strict=True)])


class _Made:
    """`_Made()[0] += ...` changes a temporary in place, as `x[0:2] += 1` does."""

    def __getitem__(self, index: Any) -> Any:
        return Probe()

    def __setitem__(self, index: Any, new: Any) -> None:
        """Nothing is kept."""


def _count_in_place(probe: Any) -> int:
    seen: list[int] = []
    box = _Made()
    box[0] += seen
    return seen[0]


def is_stored_by_caller(depth: int) -> bool:
    """Whether the caller's instruction is `...[...] = v`, and not a call of the method by name."""
    frame = _getframe(depth)
    return frame.f_code.co_code[frame.f_lasti] in _STORES


_STORES: Final = frozenset(opmap[n] for n in ("STORE_SUBSCR", "STORE_SLICE") if n in opmap)


def refuse_temporary(x: Any, count: int) -> None:
    """`f()[0] = v` and `x[i][j] = v` change a tensor that nobody can read afterwards.

    Called by `Tensor.__setitem__` with the references that it sees.
    """
    if count <= counts_of_temporary().setitem and is_stored_by_caller(3):
        given = "a tensor that only this expression holds"
        hint = "x[i, j] = v for x[i][j] = v, or a name for it"
        raise ArgumentError(message("setitem", given, "one that can be read afterwards", hint))


def _trace(x: Any) -> tuple[bool, Value | None]:
    """Whether x was just made, by movements alone, from a value that somebody else still holds; and
    the value of the last of these that is a part or a permutation."""
    value, view = x.value, None
    while value.node is not None and value.node.entry.primitive.name in _MOVES:
        node = value.node
        if node.entry.primitive.name == "reshape" and node.entry.out is node.entry.ins[0]:
            break
        if node.entry.primitive.name in _PARTS:
            view = value
        if _references(node.inputs) > _ALONE:
            return True, view
        value = node.inputs[0]
    return False, view


def _references(inputs: tuple[Any, ...]) -> int:
    return getrefcount(inputs[0])


_PARTS: Final = frozenset({"dynamic_slice", "slice", "permute"})
_MOVES: Final = _PARTS | {"reshape", "flip", "broadcast"}
_ALONE: Final = _references((Value(None, 0, spec((), int64)),))


def is_part(x: Any) -> bool:
    """Whether x is a part or another view of a tensor that somebody still holds."""
    return _trace(x)[0]


def warn_if_part(x: Any) -> None:
    """`y = x[0]; y += 1` leaves x alone, which is said once at the line."""
    held, view = _trace(x)
    where = caller(1)
    if not held or view is None or where in _WARNED:
        return
    _WARNED.add(where)
    warnings.warn(
        "[in place] given a part or another view of a tensor, which is a value of its own here; "
        "the tensor it was taken from keeps its value, try x[i] += ...",
        UserWarning,
        stacklevel=3,
    )


_WARNED: Final[set[Any]] = set()


def _setitem(self: Any, index: Any, new: Any) -> None:
    """x[index] = new: the handle x holds the changed value from now on."""
    count = getrefcount(self)
    refuse_temporary(self, count)
    warn_if_part(self)
    setitem(self, index, new)


Tensor.__getitem__ = getitem  # type: ignore[method-assign]
Tensor.__setitem__ = _setitem  # type: ignore[method-assign]
