"""The Array API standard 2024.12 as data: signatures, dtypes, and calls whose answers NumPy knows.

`problems(name)` says what does not hold of one function, in words; special cases of floats stand in
`helpers_array_special.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

import proa as pa
from proa.errors import ProaError
from tests.helpers_array_special import Special, special_cases

# As the text has them; `*` stands before what is given by name only.
SIGNATURES: Final = """
e inf nan newaxis pi
__array_namespace_info__()
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
asarray(obj, /, *, dtype=None, device=None, copy=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
meshgrid(*arrays, indexing='xy')
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
astype(x, dtype, /, *, copy=True, device=None)
can_cast(from_, to, /)
finfo(type, /)
iinfo(type, /)
isdtype(dtype, kind)
result_type(*arrays_and_dtypes)
abs(x, /) acos(x, /) acosh(x, /) add(x1, x2, /) asin(x, /) asinh(x, /) atan(x, /) atan2(x1, x2, /)
atanh(x, /) bitwise_and(x1, x2, /) bitwise_left_shift(x1, x2, /) bitwise_invert(x, /)
bitwise_or(x1, x2, /) bitwise_right_shift(x1, x2, /) bitwise_xor(x1, x2, /) ceil(x, /)
clip(x, /, min=None, max=None)
conj(x, /) copysign(x1, x2, /) cos(x, /) cosh(x, /) divide(x1, x2, /) equal(x1, x2, /) exp(x, /)
expm1(x, /) floor(x, /) floor_divide(x1, x2, /) greater(x1, x2, /) greater_equal(x1, x2, /)
hypot(x1, x2, /) imag(x, /) isfinite(x, /) isinf(x, /) isnan(x, /) less(x1, x2, /)
less_equal(x1, x2, /) log(x, /) log1p(x, /) log2(x, /) log10(x, /) logaddexp(x1, x2, /)
logical_and(x1, x2, /) logical_not(x, /) logical_or(x1, x2, /) logical_xor(x1, x2, /)
maximum(x1, x2, /) minimum(x1, x2, /) multiply(x1, x2, /) negative(x, /) nextafter(x1, x2, /)
not_equal(x1, x2, /) positive(x, /) pow(x1, x2, /) real(x, /) reciprocal(x, /) remainder(x1, x2, /)
round(x, /) sign(x, /) signbit(x, /) sin(x, /) sinh(x, /) square(x, /) sqrt(x, /)
subtract(x1, x2, /) tan(x, /) tanh(x, /) trunc(x, /)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
matmul(x1, x2, /) matrix_transpose(x, /)
tensordot(x1, x2, /, *, axes=2)
vecdot(x1, x2, /, *, axis=-1)
broadcast_arrays(*arrays)
broadcast_to(x, /, shape)
concat(arrays, /, *, axis=0)
expand_dims(x, /, *, axis=0)
flip(x, /, *, axis=None)
moveaxis(x, source, destination, /)
permute_dims(x, /, axes)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
roll(x, /, shift, *, axis=None)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
tile(x, repetitions, /)
unstack(x, /, *, axis=0)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False)
nonzero(x, /)
searchsorted(x1, x2, /, *, side='left', sorter=None)
where(condition, x1, x2, /)
unique_all(x, /) unique_counts(x, /) unique_inverse(x, /) unique_values(x, /)
argsort(x, /, *, axis=-1, descending=False, stable=True)
sort(x, /, *, axis=-1, descending=False, stable=True)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
min(x, /, *, axis=None, keepdims=False)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
"""
FLOATS: Final = ("float32", "float64")
SIGNED: Final = ("int8", "int16", "int32", "int64")
INTS: Final = (*SIGNED, "uint8", "uint16", "uint32", "uint64")
REAL: Final = (*INTS, *FLOATS)
ALL: Final = ("bool", *REAL)
COMPLEX: Final = ("complex64", "complex128")
SHAPES: Final = ((), (5,), (3, 4), (0,), (2, 0, 3), (2, 3, 2))


@cache
def signatures() -> dict[str, str]:
    """The parameters of every function, by name; of constants None."""
    found: dict[str, str] = {}
    for line in SIGNATURES.strip().splitlines():
        if "(" not in line:
            found |= dict.fromkeys(line.split(), "")
            continue
        for part in line.replace(") ", ")\n").splitlines():
            name, _, rest = part.partition("(")
            found[name] = rest.removesuffix(")")
    return found


# Which dtypes, and whether complex ones are among them.
DTYPES: Final = {
    **dict.fromkeys(
        ["acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "sinh", "sqrt", "tan", "tanh", "reciprocal"], FLOATS),
    **dict.fromkeys(["atan2", "copysign", "hypot", "logaddexp", "nextafter", "signbit", "divide", "mean", "std", "var"],
                    FLOATS),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert"], ("bool", *INTS)),
    **dict.fromkeys(["bitwise_left_shift", "bitwise_right_shift"], INTS),
    **dict.fromkeys(["logical_and", "logical_or", "logical_not", "logical_xor"], ("bool",)),
    **dict.fromkeys(
        ["abs", "add", "ceil", "clip", "conj", "floor", "floor_divide", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "maximum", "minimum", "multiply", "negative", "positive", "pow", "real", "remainder", "round", "sign", "square", "subtract", "trunc", "argmax", "argmin", "searchsorted", "argsort", "sort", "cumulative_prod", "cumulative_sum", "max", "min", "prod", "sum", "diff", "matmul", "tensordot", "vecdot"], REAL),
}  # fmt: skip
TAKES_COMPLEX: Final = frozenset(
    ["abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atanh", "conj", "cos", "cosh", "divide", "exp", "expm1", "imag", "isfinite", "isinf", "isnan", "log", "log1p", "log2", "log10", "multiply", "negative", "pow", "real", "reciprocal", "round", "sign", "sin", "sinh", "square", "sqrt", "subtract", "tan", "tanh", "matmul", "tensordot", "vecdot", "cumulative_prod", "cumulative_sum", "mean", "prod", "sum", "unique_all", "unique_counts", "unique_inverse", "unique_values", "linspace", "equal", "not_equal", "positive", "diff", "all", "any", "count_nonzero", "nonzero", "where"]
)  # fmt: skip


# Signatures.


def wrong_signature(name: str) -> list[str]:
    """Whether the standard's ways to call it bind."""
    text = signatures()[name]
    function = getattr(pa, name)
    bindable = inspect.signature(function)
    space: dict[str, Any] = {}
    exec(f"def stub({text}): pass", space)  # noqa: S102
    rows = list(inspect.signature(space["stub"]).parameters.values())
    found = []
    by_place = [p for p in rows if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    alone = [p for p in by_place if p.kind is p.POSITIONAL_ONLY]
    named = [p for p in rows if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    calls: list[tuple[list[Any], dict[str, Any]]] = [
        ([0] * len(by_place), {p.name: 0 for p in named if p.kind is p.KEYWORD_ONLY}),
        ([0] * len(alone), {p.name: 0 for p in named}),
    ]
    for args, options in calls:
        try:
            bindable.bind(*args, **options)
        except TypeError as error:
            found.append(f"signature ({text}): {error}")
    for p in rows:
        mine = bindable.parameters.get(p.name)
        if p.default is p.empty or mine is None or (name, p.name) in OTHER_DEFAULTS:
            continue
        if mine.default != p.default:
            found.append(f"`{p.name}` defaults to {mine.default!r}, not {p.default!r}")
    return found


OTHER_DEFAULTS: Final = {("arange", "step")}  # None means 1: the same


# Values.


class Call(NamedTuple):
    """Operands as arrays, what is given by name, and what the result must be."""

    operands: tuple[Any, ...]
    named: dict[str, Any]
    expected: Any


def drawn(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, len(shape), sum(shape)])
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape) > 0)
    if dtype in INTS:
        return np.asarray(rng.integers(-4 if dtype[0] == "i" else 0, 5, shape)).astype(dtype)
    if dtype in COMPLEX:
        return np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return np.asarray(np.round(rng.normal(size=shape) * 2, 2)).astype(dtype)


PAIRS: Final = [((3, 4),) * 2, ((), ()), ((4,), (3, 4)), ((3, 1), (4,)), ((0,), (0,)), ((2, 0), (1,)),
                ((), (3, 2))]  # fmt: skip
INSIDE: Final = {"acos": 0.2, "asin": 0.2, "atanh": 0.2}


def _one(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    x = drawn(shape, dtype)
    if name in INSIDE:
        return np.asarray(np.clip(x * INSIDE[name], -1, 1)).astype(dtype)
    if name == "acosh":
        return np.asarray(np.abs(x) + 1).astype(dtype)
    if name in ("log", "log2", "log10", "log1p", "sqrt"):
        return np.asarray(np.abs(x))
    return x


def _two(name: str, dtype: str, shapes: Any) -> tuple[Any, Any]:
    a, b = (drawn(s, dtype, i) for i, s in enumerate(shapes))
    if name == "pow" or "shift" in name:
        b = np.abs(b) if name == "pow" or dtype in INTS else b
        a = np.abs(a) if name == "pow" and dtype in FLOATS else a
    if dtype in INTS and name in ("floor_divide", "remainder"):
        b = np.where(b == 0, np.ones_like(b), b)
    return np.asarray(a), np.asarray(b)


def _as_numpy(name: str, *operands: Any, **named: Any) -> Any:
    if name == "unique_values":  # of NumPy's in no order
        return np.unique_all(*operands).values
    return getattr(np, name)(*operands, **named)


def elementwise_calls(name: str) -> Iterator[Call]:
    dtypes = DTYPES.get(name, ALL)
    count = signatures()[name].count("x")
    for dtype in dtypes:
        if count == 1:
            for shape in SHAPES:
                x = _one(name, dtype, shape)
                yield Call((x,), {}, _as_numpy(name, x))
            continue
        for shapes in PAIRS:
            a, b = _two(name, dtype, shapes)
            yield Call((a, b), {}, _as_numpy(name, a, b))
        a, b = _two(name, dtype, ((3, 4), ()))
        number = True if dtype == "bool" else int(b) or 1 if dtype in INTS else float(b)
        yield Call((a, number), {}, _as_numpy(name, a, np.asarray(number).astype(dtype)))
        if name not in ("pow", "bitwise_left_shift", "bitwise_right_shift"):
            safe = np.where(a == 0, np.ones_like(a), a) if dtype in INTS else a
            yield Call((number, safe), {}, _as_numpy(name, np.asarray(number).astype(dtype), safe))


def _axes(ndim: int) -> list[Any]:
    return [None, *range(-ndim, ndim), *([tuple(range(ndim)), (0, -1)] if ndim > 1 else [])]


def reduction_calls(name: str) -> Iterator[Call]:
    for dtype in DTYPES.get(name, ALL):
        for shape in SHAPES:
            x = drawn(shape, dtype)
            for axis in _axes(len(shape)):
                for keepdims in (False, True):
                    if name.startswith("arg") and isinstance(axis, tuple):
                        continue
                    named = {"axis": axis, "keepdims": keepdims}
                    try:
                        with np.errstate(all="ignore"):
                            yield Call((x,), named, _as_numpy(name, x, **named))
                    except ValueError:
                        continue  # nothing to choose from
    if name in ("std", "var"):
        x = drawn((3, 4), "float64")
        yield Call((x,), {"correction": 1}, _as_numpy(name, x, correction=1))
        yield Call((x,), {"correction": 0.5}, _as_numpy(name, x, correction=0.5))
    if name in ("sum", "prod"):
        x = drawn((3, 4), "int8")
        yield Call((x,), {"dtype": "float64"}, _as_numpy(name, x, dtype="float64"))


def scan_calls(name: str) -> Iterator[Call]:
    for dtype in DTYPES[name]:
        for shape in ((5,), (3, 4), (0,), (2, 0, 3)):
            x = drawn(shape, dtype)
            for axis in [*([None] if len(shape) == 1 else []), *range(-len(shape), len(shape))]:
                for initial in (False, True):
                    named = {"axis": axis, "include_initial": initial}
                    yield Call((x,), named, _as_numpy(name, x, **named))
    x = drawn((3, 4), "int8")
    yield Call((x,), {"axis": 0, "dtype": "float32"}, _as_numpy(name, x, axis=0, dtype="float32"))


def sorting_calls(name: str) -> Iterator[Call]:
    for dtype in DTYPES[name]:
        for shape in ((5,), (3, 4), (0,), (2, 0, 3), (40,)):
            x = np.round(drawn(shape, dtype))
            for axis in range(-len(shape), len(shape)):
                order = np.argsort(x, axis=axis, kind="stable")
                down = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
                down = x.shape[axis] - 1 - down
                for descending, places in ((False, order), (True, down)):
                    named = {"axis": axis, "descending": descending, "stable": True}
                    values = np.take_along_axis(x, places, axis)
                    yield Call((x,), named, values if name == "sort" else places)


def other_calls(name: str) -> Iterator[Call]:
    """Functions with operands of their own."""
    for dtype in (*DTYPES.get(name, ALL),):
        x, y, z = (drawn(s, dtype, i) for i, s in enumerate(((3, 4), (4, 2), (2, 3, 4))))
        rows: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
            "take": [((x, np.array([2, 0])), {"axis": 0}), ((x[0], np.array([1, -1])), {}),
                     ((x, np.array([], np.int64)), {"axis": 1})],
            "take_along_axis": [((x, np.array([[0], [3], [1]])), {}),
                                ((x, np.array([[0, 1, 2, 1]])), {"axis": 0})],
            "matmul": [((x, y), {}), ((z, y), {}), ((x[0], y), {}), ((x, y[:, 0]), {}),
                       ((x[:0], y), {}), ((x[:, :0], y[:0]), {})],
            "matrix_transpose": [((x,), {}), ((z,), {})],
            "tensordot": [((x, y), {"axes": 1}), ((z, x), {"axes": ((1, 2), (0, 1))}),
                          ((z, x), {}), ((x, y), {"axes": 0})],
            "vecdot": [((x, x), {}), ((x, x[0]), {}), ((x, x), {"axis": -2})],
            "broadcast_to": [((x,), {"shape": (2, 3, 4)}), ((x[:1],), {"shape": (0, 4)})],
            "concat": [(([x, x],), {}), (([x, x[:, :1]],), {"axis": 1}), (([x, z],), {"axis": None})],
            "expand_dims": [((x,), {"axis": a}) for a in (0, 1, -1)],
            "flip": [((x,), {}), ((x,), {"axis": 0}), ((z,), {"axis": (0, -1)})],
            "moveaxis": [((z, 0, -1), {}), ((z, (0, 1), (2, 0)), {})],
            "permute_dims": [((z,), {"axes": (2, 0, 1)})],
            "repeat": [((x, 2), {}), ((x, 2), {"axis": 0}), ((x, np.array([1, 0, 2])), {"axis": 0})],
            "reshape": [((x,), {"shape": (2, -1)}), ((x,), {"shape": (12,)}),
                        ((x[0, :1].reshape(()),), {"shape": (1, 1)})],
            "roll": [((x,), {"shift": 1}), ((x,), {"shift": -5, "axis": 1}),
                     ((z,), {"shift": (1, 2), "axis": (0, 2)})],
            "squeeze": [((x[:1],), {"axis": 0}), ((x[None, :, :1],), {"axis": (0, -1)})],
            "stack": [(([x, x],), {}), (([x, x],), {"axis": -1})],
            "tile": [((x, (2, 1)), {}), ((x, (2, 1, 3)), {}), ((x, (2,)), {})],
            "unstack": [((x,), {}), ((z,), {"axis": -1})],
            "nonzero": [((x,), {}), ((z,), {}), ((x[:0],), {})],
            "searchsorted": [
                ((np.sort(x[0]), y), {"side": s}) for s in ("left", "right")
            ] + [((x[1], y), {"sorter": np.argsort(x[1])}), ((x[0, :0], y), {})],
            "where": [((x > 1, x, x[::-1]), {}), ((x[0] > 1, x, x), {})],
            **{f"unique_{k}": [((v,), {}) for v in (x, z, x[0, :1].reshape(()), x[:0])]
               for k in ("all", "counts", "inverse", "values")},
            "diff": [((x,), {}), ((x,), {"axis": 0, "n": 2}),
                     ((x,), {"prepend": x[:, :1], "append": x[:, :2]})],
            "clip": [((x,), {"min": x[::-1], "max": np.maximum(x[::-1], x[:1])}), ((x,), {}),
                     ((x,), {"min": x[0]}), ((x,), {"max": x[0]})],
            "tril": [((x,), {}), ((z,), {"k": 1})], "triu": [((x,), {}), ((z,), {"k": -1})],
            "broadcast_arrays": [((x, z), {}), ((x[0], x), {})],
            "meshgrid": [((x[0], y[:, 0]), {}), ((x[0], y[:, 0]), {"indexing": "ij"}), ((x[0],), {})],
            "zeros_like": [((x,), {}), ((x,), {"dtype": "float32"})],
            "ones_like": [((x,), {}), ((x,), {"dtype": "float32"})],
            "full_like": [((x, True), {}), ((x, 1), {"dtype": "float32"})],
            "asarray": [((x,), {}), ((x.tolist(),), {"dtype": dtype})],
            "from_dlpack": [((x,), {})] if dtype != "bool" else [],
            "astype": [((x, to), {}) for to in ALL if dtype in ("int8", "uint8", "bool") or to == dtype],
            "isdtype": [],
        }  # fmt: skip
        for operands, named in rows.get(name, []):
            yield Call(operands, named, _as_numpy(name, *operands, **named))


def creation_calls(name: str) -> Iterator[Call]:
    """Defaults are checked by hand: NumPy's default float is another."""
    default = str(pa.__array_namespace_info__().default_dtypes()["real floating"]).split(".")[1]
    rows: dict[str, list[Call]] = {
        "arange": [Call((5,), {}, np.arange(5)), Call((1, 9, 3), {}, np.arange(1, 9, 3)),
                   Call((5.0,), {}, np.arange(5, dtype=default)), Call((5, 1), {}, np.arange(5, 1)),
                   Call((0, 3), {"dtype": "float64"}, np.arange(0, 3, dtype="float64")),
                   Call((5, 0, -2), {}, np.arange(5, 0, -2))],
        "linspace": [Call((0, 1, 5), {}, np.linspace(0, 1, 5, dtype=default)),
                     Call((0, 1), {"num": 4, "endpoint": False, "dtype": "float64"},
                          np.linspace(0, 1, 4, endpoint=False)),
                     Call((2, 3, 0), {}, np.zeros(0, default)), Call((2, 3, 1), {}, np.full(1, 2, default))],
        "eye": [Call((3,), {}, np.eye(3, dtype=default)), Call((2, 3), {"k": 1}, np.eye(2, 3, 1, default)),
                Call((0,), {"dtype": "int8"}, np.eye(0, dtype="int8"))],
        "full": [Call(((2, 3), 7), {}, np.full((2, 3), 7)), Call((2, 1.5), {}, np.full(2, 1.5, default)),
                 Call(((), True), {}, np.full((), True)), Call((2,), {"fill_value": 1, "dtype": "int8"},
                                                              np.full(2, 1, "int8"))],
        "zeros": [Call(((2, 3),), {}, np.zeros((2, 3), default)), Call((2,), {"dtype": "int8"}, np.zeros(2, "int8"))],
        "ones": [Call(((2, 3),), {}, np.ones((2, 3), default)), Call((2,), {"dtype": "bool"}, np.ones(2, "bool"))],
    }  # fmt: skip
    yield from rows.get(name, [])


def calls(name: str) -> Iterator[Call]:
    reductions = [
        "all",
        "any",
        "argmax",
        "argmin",
        "count_nonzero",
        "max",
        "mean",
        "min",
        "prod",
        "std",
        "sum",
        "var",
    ]
    if name in reductions:
        return reduction_calls(name)
    if name.startswith("cumulative"):
        return scan_calls(name)
    if name in ("sort", "argsort"):
        return sorting_calls(name)
    if signatures()[name] in ("x, /", "x1, x2, /") and name not in OWN:
        return elementwise_calls(name)
    if name in ("arange", "linspace", "eye", "full", "zeros", "ones"):
        return creation_calls(name)
    return other_calls(name)


OWN: Final = {"matmul", "matrix_transpose", "nonzero", "imag"} | {
    f"unique_{k}" for k in ("all", "counts", "inverse", "values")
}


# Judging.


def _given(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return pa.asarray(x)
    if isinstance(x, list) and x and isinstance(x[0], np.ndarray):
        return [pa.asarray(v) for v in x]
    if isinstance(x, str) and x in ALL:
        return getattr(pa, x)
    return x


def unlike(found: Any, expected: Any, where: str) -> str:
    """Empty where a result has the dtype, the shape and about the numbers expected."""
    if isinstance(expected, (tuple, list)):
        if len(found) != len(expected):
            return f"{where}: {len(found)} results, not {len(expected)}"
        rows = zip(found, expected, strict=True)
        return next((text for f, e in rows if (text := unlike(f, e, where))), "")
    expected = np.asarray(expected)
    mine = found.numpy()
    if mine.dtype != expected.dtype or mine.shape != expected.shape:
        return f"{where}: {mine.dtype}{mine.shape}, not {expected.dtype}{expected.shape}"
    if expected.dtype.kind in "fc":
        rtol = 2e-6 if expected.dtype.itemsize in (4,) else 1e-14
        with np.errstate(all="ignore"):
            scale = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
        same = np.allclose(mine, expected, rtol=rtol * 4, atol=rtol * scale, equal_nan=True)
    else:
        same = np.array_equal(mine, expected)
    return "" if same else f"{where}: {mine.tolist()}, not {expected.tolist()}"


def has_calls(name: str) -> bool:
    return next(iter(calls(name)), None) is not None or bool(answers(name))


PROMOTED: Final = (
    ("int8", "int16", "int16"), ("int8", "uint8", "int16"), ("uint8", "int32", "int32"),
    ("uint16", "int8", "int32"), ("uint32", "int8", "int64"), ("uint8", "uint64", "uint64"),
    ("int64", "uint32", "int64"), ("float32", "float64", "float64"), ("bool", "bool", "bool"),
    ("float32", "complex64", "complex64"), ("float64", "complex64", "complex128"),
    ("complex64", "complex128", "complex128"), ("int16", "int16", "int16"),
)  # fmt: skip
OF_NOTHING: Final = {
    "sum": "0.0", "prod": "1.0", "mean": "nan", "std": "nan", "var": "nan", "all": "True",
    "any": "False", "count_nonzero": "0",
}  # fmt: skip
OF_NAN: Final = ("sum", "prod", "mean", "std", "var", "max", "min")


def answers(name: str) -> list[tuple[str, Any, Any]]:
    """(what, our answer, the right one) of what is no array, and of nothing and NaN."""
    nan = pa.asarray([1.0, float("nan")])
    rows = []
    if name in OF_NOTHING:
        rows.append(("of nothing", str(getattr(pa, name)(pa.zeros(0)).item()), OF_NOTHING[name]))
    if name in OF_NAN:
        rows.append(("of NaN", str(getattr(pa, name)(nan).item()), "nan"))
    if name in ("std", "var"):
        few = getattr(pa, name)(pa.ones(1), correction=1)
        rows.append(("of too few", str(few.item()), "nan"))
    if name in ("all", "any"):
        odd = pa.asarray([float("nan"), float("inf")])
        rows.append(("of NaN and infinity", getattr(pa, name)(odd).item(), True))
    if name in ("empty", "empty_like"):
        made = (
            pa.empty((2, 3), dtype=pa.int8) if name == "empty" else pa.empty_like(pa.ones((2, 3)))
        )
        rows.append(("shape", made.shape, (2, 3)))
    if name in ("finfo", "iinfo"):
        fields = ("bits", "max", "min") + (("eps", "smallest_normal") if name == "finfo" else ())
        for dtype in FLOATS if name == "finfo" else INTS:
            mine, right = getattr(pa, name)(getattr(pa, dtype)), getattr(np, name)(dtype)
            rows += [(f"{dtype} {f}", getattr(mine, f), right_of(right, f)) for f in fields]
            rows.append((f"{dtype} dtype", mine.dtype, getattr(pa, dtype)))
    if name == "isdtype":
        kinds = ("bool", "signed integer", "unsigned integer", "integral", "real floating",
                 "complex floating", "numeric")  # fmt: skip
        for dtype in (*ALL, *COMPLEX):
            for kind in (*kinds, ("bool", "integral")):
                mine = pa.isdtype(getattr(pa, dtype), kind)
                rows.append((f"{dtype}, {kind}", mine, bool(np.isdtype(np.dtype(dtype), kind))))
            rows.append((dtype, pa.isdtype(getattr(pa, dtype), getattr(pa, dtype)), True))
    if name == "result_type":
        for a, b, right in PROMOTED:
            x, y = getattr(pa, a), getattr(pa, b)
            rows += [(f"{a} {b}", pa.result_type(x, y).name, right)]
            rows += [(f"{b} {a}", pa.result_type(pa.zeros((), dtype=y), x).name, right)]
    if name == "can_cast":
        for a, _, right in PROMOTED:
            rows.append((f"{a} to {right}", pa.can_cast(getattr(pa, a), getattr(pa, right)), True))
        rows.append(("float64 to float32", pa.can_cast(pa.float64, pa.float32), False))
        rows.append(("float32 to int32", pa.can_cast(pa.float32, pa.int32), False))
    return rows


def right_of(info: Any, field: str) -> Any:
    found = getattr(info, field)
    return found if isinstance(found, int) else float(found)


def wrong_values(name: str) -> list[str]:
    found = [f"{text}: {mine}, not {right}" for text, mine, right in answers(name) if mine != right]
    with np.errstate(all="ignore"):
        for call in calls(name):
            shown = [getattr(o, "shape", o) for o in call.operands]
            kinds = [str(o.dtype) for o in call.operands if hasattr(o, "dtype")]
            where = f"{name}({shown}, {call.named}) of {kinds}"[:200]
            try:
                named = {k: _given(v) for k, v in call.named.items()}
                mine = getattr(pa, name)(*map(_given, call.operands), **named)
            except ProaError as error:
                found.append(f"{where}: {error}")
                continue
            text = unlike(mine, call.expected, where)
            if text:
                found.append(text)
    return found


def wrong_specials(name: str, dtype: str, device: str) -> list[str]:
    """Special cases of one function, all at once in one tensor."""
    cases = special_cases().get(name, [])
    if not cases:
        return []
    kind = np.dtype(dtype)
    with np.errstate(all="ignore"):
        columns = [np.array(c).astype(kind) for c in zip(*[c.operands for c in cases], strict=True)]
    with pa.device(device):
        mine = getattr(pa, name)(*map(pa.asarray, columns)).numpy()
    return [
        f"{name}{c.operands} is {m}, not {c.expected} ({c.text}; {dtype} on {device})"
        for c, m in zip(cases, mine.tolist(), strict=True)
        if not _is(m, c, kind)
    ]


def _is(mine: Any, case: Special, kind: Any) -> bool:
    if isinstance(case.expected, bool):
        return bool(mine is case.expected)
    expected = float(kind.type(case.expected))
    if case.about:
        return abs(mine - expected) <= 1e-6 * abs(expected)
    if np.isnan(expected):
        return bool(np.isnan(mine))
    return bool(mine == expected and (mine != 0 or np.signbit(mine) == np.signbit(expected)))


def wrong_complex(name: str) -> list[str]:
    """The first thing that does not hold of complex operands."""
    if name not in TAKES_COMPLEX:
        return []
    for dtype in COMPLEX:
        count = 2 if "x2" in signatures()[name] else 1
        operands = [drawn((3, 3), dtype, i) for i in range(count)]
        if name == "where":
            operands = [drawn((3, 3), "bool"), *operands]
        named = {"axis": 0} if name.startswith("cumulative") else {}
        if name == "linspace":
            operands, named = [1 + 2j, 3 - 1j, 4], {"dtype": dtype}
        try:
            with np.errstate(all="ignore"):
                expected = _as_numpy(name, *operands, **named)
            mine = getattr(pa, name)(
                *map(_given, operands), **{k: getattr(pa, v, v) if k == "dtype" else v
                                           for k, v in named.items()}
            )  # fmt: skip
        except ProaError as error:
            return [f"{dtype}: {error}"]
        text = unlike(mine, expected, dtype)
        if text:
            return [text]
    return []


# The tensor itself.

ATTRIBUTES: Final = ["dtype", "device", "mT", "ndim", "shape", "size", "T"]
METHODS: Final = [
    "__abs__",
    "__add__",
    "__and__",
    "__array_namespace__",
    "__bool__",
    "__complex__",
    "__dlpack__",
    "__dlpack_device__",
    "__eq__",
    "__float__",
    "__floordiv__",
    "__ge__",
    "__getitem__",
    "__gt__",
    "__index__",
    "__int__",
    "__invert__",
    "__le__",
    "__lshift__",
    "__lt__",
    "__matmul__",
    "__mod__",
    "__mul__",
    "__ne__",
    "__neg__",
    "__or__",
    "__pos__",
    "__pow__",
    "__rshift__",
    "__setitem__",
    "__sub__",
    "__truediv__",
    "__xor__",
    "to_device",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__ifloordiv__",
    "__ipow__",
    "__imod__",
    "__imatmul__",
    "__iand__",
    "__ior__",
    "__ixor__",
    "__ilshift__",
    "__irshift__",
    "__radd__",
    "__rsub__",
    "__rmul__",
    "__rtruediv__",
    "__rfloordiv__",
    "__rpow__",
    "__rmod__",
    "__rmatmul__",
    "__rand__",
    "__ror__",
    "__rxor__",
    "__rlshift__",
    "__rrshift__",
]
LIKE: Final = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "mod": "remainder",
    "floordiv": "floor_divide", "pow": "pow", "matmul": "matmul", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift", "eq": "equal", "ne": "not_equal", "lt": "less",
    "le": "less_equal", "gt": "greater", "ge": "greater_equal", "abs": "abs", "neg": "negative",
    "pos": "positive", "invert": "bitwise_invert",
}  # fmt: skip


def wrong_member(name: str) -> list[str]:
    """What does not hold of an attribute or method: operators are the functions of their names."""
    if not hasattr(pa.Tensor, name):
        return [f"no {name}"]
    plain = name.strip("_")
    reflected, in_place = (
        plain[0] == "r" and plain[1:] in LIKE,
        plain[0] == "i" and plain[1:] in LIKE,
    )
    base = plain[1:] if (reflected or in_place) and plain not in LIKE else plain
    if base not in LIKE:
        return []
    alone = "x2" not in signatures()[LIKE[base]]
    whole = LIKE[base].startswith("bitwise")
    x, y = (drawn((3, 3), "int32" if whole else "float64", i) for i in (0, 1))
    x, y = (np.abs(x) + 1, np.abs(y) + 1) if base in ("pow", "lshift", "rshift") else (x, y)
    function = getattr(np, LIKE[base])
    with np.errstate(all="ignore"):
        if alone:
            return [t for t in [unlike(getattr(pa.asarray(x), name)(), function(x), name)] if t]
        expected = function(y, x) if reflected and base == plain[1:] else function(x, y)
    made = getattr(pa.asarray(x), name)(pa.asarray(y))
    return [t for t in [unlike(made, expected, name)] if t]
