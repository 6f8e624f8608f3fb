"""Products: linear layers, einsum, tensordot, vecdot, outer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.errors import ArgumentError, ShapeError, message
from proa.ops.composite.common import batch_first, floating, matched, optional, shaped, wide
from proa.ops.contraction import LETTERS, dot
from proa.ops.expand import composite
from proa.ops.movement import permute
from proa.ops.moves import reshape
from proa.ops.primitive import apply, checked_once, promoted, value_of
from proa.ops.reductions import sum_
from proa.shapes import as_axis, as_int, broadcast_shapes

# Linear.


def _project(x: Any, weight: Any) -> Any:
    lead = LETTERS[: x.spec.ndim - 1]
    return dot(x, weight, a=lead + "Y", b="ZY", out=lead + "Z")


def _linear_expand(x: Any, weight: Any, *rest: Any, given: tuple[str, ...]) -> Any:
    """Without a bias the product itself rounds once."""
    if not given:
        return _project(x, weight)
    return wide(lambda x, w, bias: _project(x, w) + bias)(x, weight, *rest)


_linear = composite(
    "linear", _linear_expand, params=("given",), batch=batch_first,
    shape=lambda x, weight, *rest, given: (*x.shape[:-1], weight.shape[0]),
    doc="x weight^T + bias, for weight [out, in].",
)  # fmt: skip


@checked_once(_linear)
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x weight^T + bias, added before the one rounding.

    x: (..., in); weight: (out, in); bias: (out,) or None; all of one float dtype.

    >>> import proa as pa
    >>> from proa.ops.composite import linear
    >>> linear(pa.asarray([1.0, 2.0]), pa.asarray([[3.0, 4.0]]), pa.asarray([1.0])).tolist()
    [12.0]
    """
    op = "linear"
    x = floating(op, "x", x)
    weight = matched(op, "weight", weight, x.spec.dtype)
    a, b = x.spec.shape, weight.spec.shape
    if len(b) != 2:
        raise ShapeError(message(op, f"`weight` of shape {b}", "axes (out, in)"))
    if not a or a[-1] != b[1]:
        raise ShapeError(
            message(op, f"`x` of shape {a} with `weight` of shape {b}", f"a last axis of {b[1]}")
        )
    if bias is not None:
        bias = shaped(op, "bias", matched(op, "bias", bias, x.spec.dtype), b[:1])
    given, rest = optional(bias=bias)
    return apply(_linear, (x, weight, *rest), given=given)


# Einsum: pairs from left to right, each one dot.


def _einsum_expand(*operands: Any, equation: str) -> Any:
    """A product of two rounds once by itself."""
    join = _joined if len(operands) == 2 else wide(_joined)
    return join(*operands, equation=equation)


def _joined(*operands: Any, equation: str) -> Any:
    left, out = equation.split("->")
    terms = left.split(",")
    sizes = _sizes(terms, [o.spec.shape for o in operands])
    parts = [_without_ones(o, t, sizes) for o, t in zip(operands, terms, strict=True)]
    x, letters = parts[0]
    for i in range(1, len(parts)):
        y, other = parts[i]
        later = set(out).union(*[t for _, t in parts[i + 1 :]])
        x, letters = _summed(x, letters, later | set(other))
        y, other = _summed(y, other, later | set(letters))
        both = [c for c in dict.fromkeys(letters + other) if c in later]
        if i == len(parts) - 1:
            both = [c for c in out if c in both]
        new = "".join(both)
        x, letters = dot(x, y, a=letters, b=other, out=new), new
    x, letters = _summed(x, letters, set(out))
    order = tuple([letters.index(c) for c in out])
    return x if order == tuple(range(len(order))) else apply(permute, (x,), axes=order)


def _sizes(terms: Sequence[str], shapes: Sequence[Any]) -> dict[str, int]:
    """The size of each letter; an axis of size 1 gives way."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, n in zip(term, shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = n
    return sizes


def _without_ones(x: Any, letters: str, sizes: dict[str, int]) -> tuple[Any, str]:
    """x without the axes of size 1 that are repeated along another operand's."""
    shape = x.spec.shape
    held = [i for i, c in enumerate(letters) if shape[i] == sizes[c]]
    return reshape(x, tuple([shape[i] for i in held])), "".join([letters[i] for i in held])


def _summed(x: Any, letters: str, wanted: set[str]) -> tuple[Any, str]:
    """x summed over the letters that nobody wants."""
    gone = tuple([i for i, c in enumerate(letters) if c not in wanted])
    x = apply(sum_, (x,), axes=gone) if gone else x
    return x, "".join([c for c in letters if c in wanted])


_einsum = composite(
    "einsum", _einsum_expand, params=("equation",),
    doc="The sum over the letters that are not in the result of the product of the operands.",
)  # fmt: skip


def einsum(equation: str, *operands: Any) -> Any:
    """Sums of products by letters: `einsum("ij,jk->ik", a, b)` is a @ b. Operands are taken in
    pairs from left to right. Without `->` the result has the letters that occur once, sorted.

    Operands: numeric, promoted to one dtype; `...` stands for axes that are broadcast. A letter
    twice in one operand (a diagonal) is an ArgumentError.

    >>> import proa as pa
    >>> pa.einsum("i,j->ij", pa.asarray([1.0, 2.0]), pa.asarray([3.0])).tolist()
    [[3.0], [6.0]]
    """
    if not isinstance(equation, str) or not operands:
        given = f"equation {equation!r:.60} and {len(operands)} operands"
        raise ArgumentError(message("einsum", given, "a str and its operands"))
    values = [v.value for v in promoted(dot, operands)]
    shapes = [v.spec.shape for v in values]
    return apply(_einsum, values, equation=_canonical(equation, shapes))


def _canonical(equation: str, shapes: Sequence[Any]) -> str:
    """The equation with a result and with letters for `...`; sizes are checked."""
    text = equation.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        given = f"{equation!r} for {len(shapes)} operands"
        raise ArgumentError(message("einsum", given, "one term for each operand"))
    free = [c for c in LETTERS if c not in text]
    found = [_term(equation, t, len(s), free) for t, s in zip(terms, shapes, strict=True)]
    depth = max(d for _, d in found)
    dots = "".join(free[:depth])
    named = [t.replace("\0" * d, dots[depth - d :]) if d else t for t, d in found]
    if not arrow:
        once = sorted(c for c in set("".join(named)) - set(dots) if left.count(c) == 1)
        out = dots + "".join(once)
    else:
        out = out.replace("...", dots, 1)
    if len(set(out)) != len(out) or not set(out) <= set("".join(named)):
        given = f"{equation!r} with result {out!r}"
        raise ArgumentError(
            message("einsum", given, "each letter of the result once, from the operands")
        )
    _check_sizes(equation, named, shapes, dots)
    return ",".join(named) + "->" + out


def _term(equation: str, term: str, ndim: int, free: list[str]) -> tuple[str, int]:
    """One operand's letters, and how many axes its `...` stands for; those align at the last."""
    plain = term.replace("...", "", 1)
    depth = ndim - len(plain) if "..." in term else 0
    if not all(c in LETTERS for c in plain) or len(plain) + depth != ndim or depth < 0:
        given = f"term {term!r} of {equation!r} for {ndim} axes"
        raise ArgumentError(message("einsum", given, "one letter for each axis"))
    if len(set(plain)) != len(plain):
        given = f"a letter twice in {term!r} of {equation!r}"
        raise ArgumentError(
            message("einsum", given, "distinct letters in an operand", "a mask or a gather")
        )
    return term.replace("...", "\0" * depth, 1), depth


def _check_sizes(equation: str, terms: Sequence[str], shapes: Sequence[Any], dots: str) -> None:
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, n in zip(term, shape, strict=True):
            if letter in dots and (n == 1 or sizes.get(letter, 1) == 1):
                sizes[letter] = n if n != 1 else sizes.get(letter, 1)
            elif sizes.setdefault(letter, n) != n:
                given = f"{equation!r} for shapes {' and '.join(map(str, shapes))}"
                raise ShapeError(message("einsum", given, f"one size for {letter!r}"))


# Products that are one dot.


def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    """The sum over pairs of axes: the last `axes` of x with the first of y, or the axes of x and
    of y given as two sequences. The result has the other axes of x, then those of y.

    >>> import proa as pa
    >>> pa.tensordot(pa.ones((2, 3)), pa.ones((3, 4)), axes=1).shape
    (2, 4)
    """
    op = "tensordot"
    x, y = promoted(dot, (x, y))
    a, b = x.value.spec, y.value.spec
    if isinstance(axes, (tuple, list)):
        if len(axes) != 2:
            raise ArgumentError(message(op, f"axes {axes!r:.60}", "an int or two sequences"))
        first, second = (s if isinstance(s, (tuple, list)) else (s,) for s in axes)
        mine = [as_axis(op, i, a.ndim) for i in first]
        other = [as_axis(op, i, b.ndim) for i in second]
    else:
        n = as_int(op, "axes", axes)
        if not 0 <= n <= min(a.ndim, b.ndim):
            raise ArgumentError(
                message(op, f"axes {n} of {a.ndim} and {b.ndim} axes", "at most both")
            )
        mine, other = list(range(a.ndim - n, a.ndim)), list(range(n))
    if len(mine) != len(other) or len(set(mine)) != len(mine) or len(set(other)) != len(other):
        raise ArgumentError(
            message(op, f"axes {mine} and {other}", "as many distinct axes in both")
        )
    if any(a.shape[i] != b.shape[j] for i, j in zip(mine, other, strict=True)):
        given = f"shapes {a.shape} and {b.shape} along {mine} and {other}"
        raise ShapeError(message(op, given, "equal sizes"))
    left, free = LETTERS[: a.ndim], LETTERS[a.ndim :]
    right = [left[mine[other.index(j)]] if j in other else free[j] for j in range(b.ndim)]
    out = [left[i] for i in range(a.ndim) if i not in mine]
    out += [c for j, c in enumerate(right) if j not in other]
    return dot(x, y, a=left, b="".join(right), out="".join(out))


def vecdot(x: Any, y: Any, axis: int = -1) -> Any:
    """sum(x y) along an axis, counted from the end; the other axes are broadcast.

    >>> import proa as pa
    >>> pa.vecdot(pa.asarray([1.0, 2.0]), pa.asarray([3.0, 4.0])).item()
    11.0
    """
    op = "vecdot"
    values = [v.value for v in promoted(dot, (x, y))]
    n, least = as_int(op, "axis", axis), min(v.spec.ndim for v in values)
    if n >= 0 and all(v.spec.ndim == least for v in values):
        n -= least
    if not -least <= n <= -1:
        raise ArgumentError(message(op, f"axis {axis}", f"-{least} <= axis <= -1"))
    shapes = [v.spec.shape for v in values]
    if shapes[0][n] != shapes[1][n]:
        raise ShapeError(
            message(op, f"shapes {shapes[0]} and {shapes[1]}", f"equal sizes along axis {n}")
        )
    full = broadcast_shapes(op, shapes)
    letters = LETTERS[: len(full)]
    terms = [letters[len(full) - len(s) :] for s in shapes]
    out = letters[: len(full) + n] + letters[len(full) + n + 1 :]
    return apply(_einsum, values, equation=f"{terms[0]},{terms[1]}->{out}")


def outer(x: Any, y: Any) -> Any:
    """x_i y_j of two vectors.

    >>> import proa as pa
    >>> pa.outer(pa.asarray([1.0, 2.0]), pa.asarray([3.0])).tolist()
    [[3.0], [6.0]]
    """
    x, y = promoted(dot, (x, y))
    shapes = [value_of("outer", v).spec.shape for v in (x, y)]
    if any(len(s) != 1 for s in shapes):
        raise ShapeError(message("outer", f"shapes {shapes[0]} and {shapes[1]}", "two vectors"))
    return dot(x, y, a="a", b="b", out="ab")
