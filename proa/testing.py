"""Assertions about tensors: close, equal in every bit, and derivatives against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from proa import tree
from proa.array import asarray
from proa.autograd import jvp, vjp
from proa.dtypes import dtype as as_dtype
from proa.dtypes import float64
from proa.errors import ArgumentError, DtypeError, message
from proa.ops.operators import astype
from proa.tensor import Tensor, no_grad

__all__ = ["assert_bitwise", "assert_close", "check_grads"]

TOLERANCES: Final = {
    "float64": (1e-7, 1e-7), "complex128": (1e-7, 1e-7), "float32": (1.3e-6, 1e-5),
    "complex64": (1.3e-6, 1e-5), "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5),
    "float8_e4m3fn": (0.13, 1e-2), "float8_e5m2": (0.25, 1e-2),
}  # fmt: skip


def assert_close(
    actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None
) -> None:
    """|actual - expected| <= atol + rtol |expected|, element by element; shapes and dtypes equal.

    NaN equals NaN. Tolerances not given follow the dtype: float32 1.3e-6 and 1e-5, float64 1e-7
    twice, integers and bool 0. Python numbers and lists have no dtype to compare.

    >>> import proa as pa
    >>> pa.testing.assert_close(pa.asarray([1.0, 2.0]) * 3, [3.0, 6.0])
    """
    a, b = _arrays("assert_close", actual, expected)
    default = TOLERANCES.get(as_dtype(a.dtype).name, (0.0, 0.0))
    rtol = default[0] if rtol is None else rtol
    atol = default[1] if atol is None else atol
    wide = np.complex128 if "c" in a.dtype.kind + b.dtype.kind else np.float64
    exact = rtol == atol == 0
    x, y = (a, b) if exact else (a.astype(wide), b.astype(wide))
    with np.errstate(all="ignore"):
        same = (x == y) | ((x != x) & (y != y))
        off = np.where(same, 0.0, np.abs(a.astype(wide) - b.astype(wide)))
        allowed = atol + rtol * np.abs(y) if not exact else np.zeros(a.shape)
        bad = ~(same | (np.isfinite(y) & (off <= allowed))) if not exact else ~same
    if not bad.any():
        return
    ranked = np.where(bad, np.where(np.isnan(off), np.inf, off), -1.0)
    where = np.unravel_index(int(np.argmax(ranked)), a.shape)
    raise AssertionError(
        f"[assert_close] {int(bad.sum())} of {a.size} elements differ; the worst at "
        f"{tuple(map(int, where))}: given {a[where]}, expected {b[where]}, "
        f"off by {off[where]:.3g} where rtol={rtol:.3g}, atol={atol:.3g} allow {allowed[where]:.3g}"
    )


def assert_bitwise(actual: Any, expected: Any) -> None:
    """Equal shapes, dtypes and bits: 0.0 is not -0.0, and a NaN equals only its own bits.

    >>> import proa as pa
    >>> pa.testing.assert_bitwise(pa.asarray([1.0]) + 1, pa.asarray([2.0]))
    """
    a, b = _arrays("assert_bitwise", actual, expected)
    if a.dtype != b.dtype:
        b = b.astype(a.dtype)
    width = min(a.dtype.itemsize, 8)
    shape = (a.size, a.dtype.itemsize // width)
    x, y = (np.ascontiguousarray(t).reshape(-1).view(f"u{width}").reshape(shape) for t in (a, b))
    bad = (x != y).any(axis=1)
    if not bad.any():
        return
    first = int(np.argmax(bad))
    where = tuple(map(int, np.unravel_index(first, a.shape)))
    raise AssertionError(
        f"[assert_bitwise] {int(bad.sum())} of {a.size} elements differ; the first at {where}: "
        f"given {a[where]!r} ({_hex(x[first])}), expected {b[where]!r} ({_hex(y[first])})"
    )


def _hex(bits: Any) -> str:
    return "0x" + "".join(f"{int(w):0{2 * w.itemsize}x}" for w in np.atleast_1d(bits)[::-1])


def _arrays(name: str, actual: Any, expected: Any) -> tuple[Any, Any]:
    """Both as NumPy arrays of one shape; dtypes are compared where both have one."""
    a, b = (_array(x) for x in (actual, expected))
    if a.shape != b.shape:
        raise AssertionError(f"[{name}] given shape {a.shape}, expected shape {b.shape}")
    typed = [hasattr(x, "dtype") for x in (actual, expected)]
    if all(typed) and a.dtype != b.dtype:
        given, wanted = as_dtype(a.dtype).name, as_dtype(b.dtype).name
        raise AssertionError(f"[{name}] given dtype {given}, expected dtype {wanted}")
    if not typed[0] and typed[1]:
        a = a.astype(b.dtype)
    elif typed[0] and not typed[1]:
        b = b.astype(a.dtype) if name == "assert_bitwise" else b
    return a, b


def _array(x: Any) -> Any:
    if hasattr(x, "__array__") or hasattr(x, "dtype"):
        return np.asarray(x)
    kinds, _ = tree.flatten(x)
    if any(type(leaf) is Tensor for leaf in kinds):
        return np.asarray(asarray(x))
    return np.asarray(x)


def check_grads(
    function: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("reverse", "forward"),
    eps: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    seed: int = 0,
) -> None:
    """Derivatives of `function(*args)` against central differences in float64, in random
    directions; those of the derivatives too, up to `order`.

    args: float tensors or arrays, away from kinks by more than `eps`; results: tensors, or trees of
    them. `modes`: "reverse" checks `vjp`, "forward" checks `jvp`.

    >>> import proa as pa
    >>> pa.testing.check_grads(lambda x, y: pa.sin(x) * y, [pa.asarray([0.5]), pa.asarray([2.0])])
    """
    unknown = [m for m in modes if m not in ("reverse", "forward")]
    if unknown or not modes:
        raise ArgumentError(
            message("check_grads", f"modes {tuple(modes)}", '"reverse" and "forward"')
        )
    wide = [_wide(a) for a in args]
    _check(function, wide, order, tuple(modes), eps, rtol, atol, np.random.default_rng(seed))


def _wide(x: Any) -> Tensor:
    given = asarray(x)
    if not given.dtype.is_inexact:
        raise DtypeError(
            message("check_grads", f"an argument of {given.dtype.name}", "a float dtype")
        )
    return astype(given.detach(), float64)  # type: ignore[no-any-return]


def _check(
    function: Any, args: list[Any], order: int, modes: tuple[str, ...], eps: float, rtol: float,
    atol: float, rng: Any,
) -> None:  # fmt: skip
    if order == 0:
        return
    tangents = [_direction(a, rng) for a in args]
    slopes = _differences(function, args, tangents, eps)
    cotangents = [_direction(s, rng) for s in slopes]
    for mode in modes:
        if mode == "forward":
            found = _floats(jvp(function, tuple(args), tuple(tangents))[1])
            for dy, slope in zip(found, slopes, strict=True):
                _compare(f"{mode} mode, order {order} from the last", dy, slope, rtol, atol)
            inner: Any = lambda *xs: _floats(jvp(function, xs, tuple(tangents))[1])  # noqa: E731
        else:
            pulled = _pull(function, args, cotangents)
            got: Any = sum((p * t).sum() for p, t in zip(pulled, tangents, strict=True))
            wanted: Any = sum((s * c).sum() for s, c in zip(slopes, cotangents, strict=True))
            _compare(f"{mode} mode, order {order} from the last", got, wanted, rtol, atol)
            inner = lambda *xs: _pull(function, xs, cotangents)  # noqa: E731
        _check(inner, args, order - 1, modes, eps, rtol, atol, rng)


def _direction(like: Any, rng: Any) -> Any:
    return asarray(rng.standard_normal(like.shape).astype(like.dtype.numpy))


def _floats(out: Any) -> list[Any]:
    return [t for t in tree.flatten(out)[0] if type(t) is Tensor and t.dtype.is_inexact]


def _pull(function: Any, args: Any, cotangents: list[Any]) -> list[Any]:
    out, pull = vjp(lambda *xs: _floats(function(*xs)), *args)
    return list(pull([c.astype(o.dtype) for c, o in zip(cotangents, out, strict=True)]))


def _differences(function: Any, args: list[Any], tangents: list[Any], eps: float) -> list[Any]:
    """(f(x + eps t) - f(x - eps t)) / (2 eps)."""
    with no_grad():
        ends = [
            _floats(function(*[a + sign * eps * t for a, t in zip(args, tangents, strict=True)]))
            for sign in (1.0, -1.0)
        ]
        return [(p - m) / (2 * eps) for p, m in zip(*ends, strict=True)]


def _compare(what: str, got: Any, wanted: Any, rtol: float, atol: float) -> None:
    try:
        assert_close(got, wanted, rtol, atol)
    except AssertionError as error:
        raise AssertionError(
            f"[check_grads] {what}, against central differences: {error}"
        ) from None
