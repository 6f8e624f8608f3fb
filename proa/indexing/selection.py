"""Which elements an index means: windows and index tensors by axis, and the shape of the result."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from proa.dtypes import int64
from proa.errors import IndexingError, message
from proa.graph.build import current_sink
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.ops.arithmetic import lt, select
from proa.ops.movement import broadcast
from proa.ops.primitive import apply, cast_to, value_of
from proa.shapes import Shape


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
    sink = current_sink()
    if sink.watching:  # an int argument of a jitted function: checked at each replay
        sink.capture.bound(found, -n, n - 1)
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
