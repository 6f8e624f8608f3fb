"""`Spec`: what is known of a value before it is computed. Interned, compared by identity."""

from __future__ import annotations

from typing import Any, Final, final

from proa.dtypes import ALL, Dtype
from proa.shapes import Dim, Shape, size

UNMADE: Final = "unmade"  # the placement of what is described and lies nowhere yet
_INTERNED: Final[dict[tuple[Any, ...], Spec]] = {}


@final
class Spec:
    """Shape, dtype, and three facts: weak (made of Python numbers only), grad, placement.

    `grad` is for recorded values only: a Graph's specs never carry it. `scalars` maps a Python
    number's type to the spec in which such a number meets this value without changing its dtype.
    """

    __slots__ = ("shape", "dtype", "weak", "grad", "placement", "ndim", "size", "plain", "scalars",
                 "graded")  # fmt: skip

    shape: Shape
    dtype: Dtype
    weak: bool
    grad: bool
    placement: Any
    ndim: int
    size: int
    plain: Spec
    scalars: dict[type, Spec]
    graded: Spec | None

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def is_named(self) -> bool:
        """Whether a named dim stands in the shape."""
        return any(isinstance(n, Dim) for n in self.shape)

    def with_grad(self) -> Spec:
        """The same spec on the tape."""
        found = self.graded
        if found is None:
            found = self.graded = spec(self.shape, self.dtype, self.weak, True, self.placement)
        return found

    def __repr__(self) -> str:
        sizes = ", ".join(str(n) for n in self.shape)
        marks = (" weak" if self.weak else "") + (" grad" if self.grad else "")
        placed = f" {self.placement}" if self.placement is not None else ""
        return f"{self.dtype.name}[{sizes}]{marks}{placed}"

    def __reduce__(self) -> tuple[Any, ...]:
        return spec, (self.shape, self.dtype, self.weak, self.grad, self.placement)


def spec(
    shape: Shape, dtype: Dtype, weak: bool = False, grad: bool = False, placement: Any = None
) -> Spec:
    """The one Spec with these fields.

    >>> from proa.dtypes import float32
    >>> spec((2, 3), float32) is spec((2, 3), float32)
    True
    """
    key = (shape, dtype, weak, grad, placement)
    found = _INTERNED.get(key)
    if found is None:
        found = _INTERNED.setdefault(key, _make(*key))
    return found


def _make(shape: Shape, dtype: Dtype, weak: bool, grad: bool, placement: Any) -> Spec:
    new = Spec()
    new.shape, new.dtype, new.weak, new.grad, new.placement = shape, dtype, weak, grad, placement
    new.ndim = len(shape)
    new.size = size(shape)
    new.plain = spec(shape, dtype, weak, False, placement) if grad else new
    new.graded = new if grad else None
    new.scalars = _SCALARS.get(dtype, {}) if not weak else {}
    return new


def apart(of: Spec, shape: Shape) -> Spec:
    """One of another shape that is nobody else's: its sizes may remember where they are from."""
    return _make(shape, of.dtype, of.weak, False, of.placement)


def _scalars(dtype: Dtype) -> dict[type, Spec]:
    """Numbers whose kind is at most that of `dtype` are held in `dtype` itself.

    An int that meets an integer dtype is left out: whether it fits must be checked.
    """
    kinds = [bool, int, float, complex][: dtype.rank + 1]
    if dtype.kind == "int":
        kinds.remove(int)
    return dict.fromkeys(kinds, spec((), dtype))


_SCALARS: Final[dict[Dtype, dict[type, Spec]]] = {}
for _dtype in ALL:
    if not _dtype.is_storage:
        _SCALARS[_dtype] = {}
        _SCALARS[_dtype].update(_scalars(_dtype))
