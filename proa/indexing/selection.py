"""Which elements an index means: windows and index tensors by axis, and the shape of the result."""

from __future__ import annotations

import operator
from typing import Any, Final, NamedTuple

import numpy as np

from proa.dtypes import int64
from proa.errors import IndexingError, message
from proa.graph.build import current_sink
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.indexing.masks import is_mask, masked_places
from proa.ops.arithmetic import lt, select
from proa.ops.movement import broadcast
from proa.ops.primitive import apply, cast_to, value_of
from proa.shapes import Shape, broadcast_shapes


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
            continue
        if is_mask(item):
            found = masked_places(item, shape, axis)
        else:
            tensor = _tensor_of(item, axis, n)
            found = () if tensor is None else (tensor,)
        for a, tensor in enumerate(found, axis):
            windows.append(Window(0, shape[a]))
            tensors[a] = tensor
        out += found or [_DROPPED]
        if not found:
            windows.append(Window(_place(item, axis, n), 1, dropped=True))
    return _finished(tuple(windows), tensors, out)


_DROPPED: Final = object()


def _finished(windows: tuple[Window, ...], tensors: dict[int, Any], out: list[Any]) -> Selection:
    """Index tensors are repeated to the shape in which they meet. It stands where the only one
    with axes does; where several are, at the first, or in front if something lies between."""
    wide = [i for i, part in enumerate(out) if _is_wide(part)]
    shapes = [t.value.spec.shape for t in tensors.values()]
    own: Shape = broadcast_shapes("index", shapes) if tensors else ()
    first = wide[0] if wide else -1
    if len(wide) > 1 and any(type(part) is int for part in out[wide[0] : wide[-1]]):
        first = 0
        out = [own, *[part for part in out if type(part) is int]]
    place = next((a for a, t in tensors.items() if t.value.spec.ndim), 0) if first else 0
    shape: list[int] = []
    for i, part in enumerate(out):
        if type(part) is int:
            shape.append(part)
        elif i == first:
            shape += own
    return Selection(windows, {a: _spread(t, own) for a, t in tensors.items()}, tuple(shape), place)


def _is_wide(part: Any) -> bool:
    return type(part) is not int and part is not _DROPPED and part.value.spec.ndim > 0


def _spread(tensor: Any, shape: Shape) -> Any:
    given = tensor.value.spec.shape
    if given == shape:
        return tensor
    axes = tuple(range(len(shape) - len(given), len(shape)))
    return apply(broadcast, (tensor,), shape=shape, axes=axes)


def _expanded(shape: Shape, items: tuple[Any, ...]) -> list[Any]:
    """One item for each axis, and the Nones: `...` becomes the whole slices it stands for."""
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexingError(message("index", f"{len(dots)} times `...`", "at most one"))
    used = sum(_axes_of(item) for item in items if item is not None and item is not Ellipsis)
    if used > len(shape):
        given = f"{used} indices for shape {shape}"
        raise IndexingError(message("index", given, f"at most {len(shape)}"))
    whole = [slice(None)] * (len(shape) - used)
    at = dots[0] if dots else len(items)
    return [*items[:at], *whole, *items[at + 1 :]]


def _axes_of(item: Any) -> int:
    """How many axes an item stands for."""
    if isinstance(item, (int, slice)) or not is_mask(item):
        return 1
    return np.ndim(item) if not hasattr(item, "value") else int(item.value.spec.ndim)


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
    return message("index", "a single bool", "integers, or a mask with the sizes of axes", "int(i)")
