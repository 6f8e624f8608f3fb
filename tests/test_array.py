"""The array namespace against NumPy: making, computing, moving, choosing; methods; errors."""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proa as pa
import proa.array.methods
import proa.attached
from proa.errors import ArgumentError, DeviceError, DtypeError, ProaError, ShapeError
from proa.testing import assert_bitwise, assert_close, check_grads

F = np.array([-2.5, -1.5, -0.5, -0.0, 0.0, 0.3, 0.5, 1.5, 2.5, 3.7], np.float32)
EDGES = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, 1e-40, 3e38, -3e38, 1e20], np.float32)


# Making.


def test_every_name_is_there_and_documented() -> None:
    names = proa.array.__all__
    assert names == sorted(set(names))
    for name in names:
        found = getattr(proa.array, name)
        assert getattr(pa, name) is found
        if callable(found):
            assert found.__doc__ and ">>>" in found.__doc__, name
            assert inspect.signature(found) is not None


def test_numbers_and_lists() -> None:
    for obj, dtype in (
        (True, "bool"),
        (3, "int64"),
        (2.5, "float32"),
        (1j, "complex64"),
        ([1, 2.5], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([True, 2], "int64"),
        ([], "float32"),
        (((1,), (2,)), "int64"),
    ):
        x = pa.asarray(obj)
        assert x.dtype.name == dtype and x.shape == np.shape(obj)
        assert x.tolist() == np.asarray(obj).tolist()
    assert pa.asarray(2**63, dtype=pa.uint64).item() == 2**63
    assert pa.asarray([1.7, -1.7], dtype=pa.int8).tolist() == [1, -1]
    assert pa.asarray(0.1, dtype=pa.float64).item() == 0.1


def test_numpy_keeps_its_dtype_and_is_copied() -> None:
    for dtype in (np.float64, np.float16, np.int8, np.uint64, np.bool_, ml_dtypes.bfloat16, ">f4"):
        a = np.ones(3, dtype)
        x = pa.asarray(a)
        assert x.dtype.numpy == np.dtype(dtype).newbyteorder("=")
        a[0] = 0
        assert x.tolist() == [1, 1, 1]
    assert pa.asarray(np.float64(2.0)).dtype is pa.float64
    assert pa.asarray([np.float64(2.0), 1.0]).dtype is pa.float64
    strided = np.arange(12.0).reshape(3, 4).T[::2]
    assert pa.asarray(strided).tolist() == strided.tolist()


def test_what_exports_an_array() -> None:
    class HasArray:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.arange(3)

    class HasDlpack:
        def __dlpack__(self, **options: Any) -> Any:
            return np.arange(3.0).__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return (1, 0)

    assert pa.asarray(HasArray()).tolist() == [0, 1, 2]
    assert pa.asarray(HasDlpack()).tolist() == [0, 1, 2]
    assert pa.from_dlpack(HasDlpack()).tolist() == [0, 1, 2]
    assert pa.asarray(bytearray(b"ab")).tolist() == [97, 98]
    assert pa.asarray(memoryview(np.arange(2.0))).tolist() == [0, 1]
    assert np.from_dlpack(pa.arange(3)).tolist() == [0, 1, 2]
    assert pa.from_numpy(np.eye(2)).dtype is pa.float64


def test_lists_of_tensors_stay_on_the_tape() -> None:
    a = pa.asarray(2.0).requires_grad_()
    x = pa.asarray([[a, 1], [3, a * a]])
    assert x.dtype is pa.float32 and x.tolist() == [[2, 1], [3, 4]]
    x.sum().backward()
    assert a.grad is not None and a.grad.item() == 5.0


def test_copies() -> None:
    x = pa.ones(2)
    assert pa.asarray(x) is x and pa.asarray(x, copy=False) is x
    assert pa.asarray(x, copy=True) is not x and pa.asarray(x, dtype=pa.float64).dtype is pa.float64
    with pytest.raises(ArgumentError):
        pa.asarray([1.0], copy=False)
    with pytest.raises(ArgumentError):
        pa.asarray(x, dtype=pa.int8, copy=False)


@pytest.mark.parametrize(
    "obj",
    [
        "a",
        b"a",
        None,
        object(),
        [[1, 2], [3]],
        [1, "a"],
        {1: 2},
        np.array(["a"]),
        2**70,
        [2**63],
        np.array([None]),
        [object()],
        lambda: 0,
        np.datetime64("2020-01-01"),
    ],
)
def test_what_is_no_array(obj: Any) -> None:
    with pytest.raises(ProaError, match="given"):
        pa.asarray(obj)
    assert pa.asarray([1]).item() == 1


def test_deep_and_cyclic_lists() -> None:
    deep: Any = 1.0
    for _ in range(70):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    for obj in (deep, cycle):
        with pytest.raises(ShapeError):
            pa.asarray(obj)


def test_filled() -> None:
    assert pa.zeros((2, 3)).tolist() == np.zeros((2, 3)).tolist()
    assert pa.ones(2, dtype=pa.int8).dtype is pa.int8 and pa.empty(3).shape == (3,)
    assert pa.full((2,), 7).dtype is pa.int64 and pa.full((), 2.5).item() == 2.5
    assert pa.full((2,), True).dtype is pa.bool and pa.full((2,), pa.asarray(3)).tolist() == [3, 3]
    x = pa.asarray([[1, 2]], dtype=pa.int16)
    assert (
        pa.zeros_like(x).dtype is pa.int16 and pa.ones_like(x, dtype=pa.float64).dtype is pa.float64
    )
    assert pa.full_like(x, 4).tolist() == [[4, 4]]
    for bad in (lambda: pa.full((2,), 1.5, dtype=pa.int8), lambda: pa.full_like(x, 2.5)):
        with pytest.raises(DtypeError):
            bad()
    for bad in (
        lambda: pa.zeros(-1),
        lambda: pa.full((2,), pa.ones(2)),
        lambda: pa.full((2,), 300, dtype=pa.int8),
    ):
        with pytest.raises(ArgumentError):
            bad()
    with pytest.raises(DtypeError):
        pa.zeros((2.0,))


@settings(max_examples=80, deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-7, 7).filter(bool))
def test_arange(start: int, stop: int, step: int) -> None:
    assert pa.arange(start, stop, step).tolist() == list(range(start, stop, step))
    a = np.arange(start / 4, stop / 4, step / 4, dtype=np.float32)
    assert_close(pa.arange(start / 4, stop / 4, step / 4), a)


def test_ranges() -> None:
    assert pa.arange(5).tolist() == [0, 1, 2, 3, 4] and pa.arange(5).dtype is pa.int64
    assert pa.arange(3, dtype=pa.float64).dtype is pa.float64 and pa.arange(3.0).dtype is pa.float32
    assert pa.arange(200, 203, dtype=pa.uint8).tolist() == [200, 201, 202]
    assert pa.arange(pa.asarray(3)).tolist() == [0, 1, 2]
    assert_close(pa.linspace(1, 2, 7), np.linspace(1, 2, 7, dtype=np.float32))
    assert_close(pa.linspace(0, 1, 4, endpoint=False), [0, 0.25, 0.5, 0.75])
    for k in (-2, -1, 0, 1, 5):
        assert_bitwise(pa.eye(3, 4, k=k), np.eye(3, 4, k=k, dtype=np.float32))
        x = np.arange(24).reshape(2, 3, 4)
        assert_bitwise(pa.tril(pa.asarray(x), k), np.tril(x, k))
        assert_bitwise(pa.triu(pa.asarray(x), k), np.triu(x, k))
    for indexing in ("xy", "ij"):
        parts = [np.arange(2), np.arange(3), np.arange(4)]
        found = pa.meshgrid(*map(pa.asarray, parts), indexing=indexing)
        for got, want in zip(found, np.meshgrid(*parts, indexing=indexing), strict=True):
            assert_bitwise(got, want)
    for bad in (
        lambda: pa.arange(0, 5, 0),
        lambda: pa.arange(float("inf")),
        lambda: pa.arange(300, dtype=pa.int8),
        lambda: pa.linspace(0, 1, -1),
        lambda: pa.meshgrid(pa.zeros(2), indexing="x"),
    ):
        with pytest.raises(ArgumentError):
            bad()


def test_places() -> None:
    with pa.device("numpy") as home:
        assert pa.zeros(2).device == home and pa.arange(3).device == home
    with pa.device("null"):
        made = [
            pa.zeros(2),
            pa.arange(3),
            pa.arange(1, 5, 2),
            pa.eye(2),
            pa.asarray(1.0),
            pa.full((2,), 3.0),
        ]
        assert pa.get_default_device().backend == "null"
    assert all(x.device.backend == "null" for x in made)
    x = pa.zeros(2, device="null")
    assert pa.ones_like(x).device == x.device and pa.ones(2).device == pa.get_default_device()
    assert pa.asarray(pa.ones(2), device="null").device.backend == "null"
    with pytest.raises(DeviceError), pa.device("nowhere"):
        pass
    with pytest.raises(DeviceError):
        (pa.asarray([1.0, 2.0]) + x).tolist()


def test_default_dtype() -> None:
    try:
        pa.set_default_dtype("float64")
        assert pa.zeros(1).dtype is pa.float64 and pa.asarray([1.5]).dtype is pa.float64
        assert pa.asarray(1j).dtype is pa.complex128 and pa.get_default_dtype() is pa.float64
    finally:
        pa.set_default_dtype(pa.float32)
    for bad in (pa.int8, pa.float8_e5m2, "nothing"):
        with pytest.raises(DtypeError):
            pa.set_default_dtype(bad)


# Element by element.

UNARY = [
    "abs",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "negative",
    "positive",
    "reciprocal",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]
BINARY = [
    "add",
    "copysign",
    "divide",
    "equal",
    "greater",
    "greater_equal",
    "hypot",
    "less",
    "less_equal",
    "logaddexp",
    "maximum",
    "minimum",
    "multiply",
    "not_equal",
    "remainder",
    "subtract",
]


def judged(name: str, *operands: Any) -> Any:
    """NumPy's answer in float64, rounded."""
    with np.errstate(all="ignore"):
        found = getattr(np, name)(*[o.astype(np.float64) for o in operands])
        return found.astype(np.float32) if found.dtype == np.float64 else found


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize(
    "x", [F, EDGES, np.linspace(-85, 85, 201, dtype=np.float32)], ids=["plain", "edges", "wide"]
)
def test_unary(name: str, x: Any) -> None:
    if name in ("sin", "cos", "tan"):
        x = x[~(np.abs(x) > 1e6)]
    if name in ("sinh", "cosh", "square", "exp", "expm1", "reciprocal") and x is EDGES:
        x = x[np.abs(x) != np.float32(1e-40)]
    assert_close(
        getattr(pa, name)(pa.asarray(x)),
        judged(name, x),
        rtol=2e-6,
        atol=2e-6 if name == "tan" else 1e-37,
    )


@pytest.mark.parametrize("name", ["ceil", "floor", "round", "trunc", "copysign", "negative"])
def test_signs_of_zero(name: str) -> None:
    if name == "copysign":
        assert_bitwise(pa.copysign(pa.asarray(F), pa.asarray(F[::-1])), np.copysign(F, F[::-1]))
        return
    for x in (
        F,
        EDGES[:2],
        np.array([0.49999997, -0.49999997, 8388607.5, 4194303.5, -1e-30], np.float32),
    ):
        assert_bitwise(getattr(pa, name)(pa.asarray(x)), getattr(np, name)(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_rounding_in_other_dtypes(dtype: str) -> None:
    x = pa.asarray(np.linspace(-6, 6, 97)).astype(dtype)
    for name in ("round", "trunc", "ceil"):
        assert_bitwise(
            getattr(pa, name)(x),
            getattr(np, name)(x.numpy().astype(np.float64)).astype(x.dtype.numpy),
        )
    assert pa.signbit(x).tolist() == np.signbit(x.numpy().astype(np.float64)).tolist()


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    for x in (F, EDGES):
        a, b = x[:, None], x[None, :]
        if name == "remainder":
            a, b = F[:, None], F[None, F != 0]
        found = getattr(pa, name)(pa.asarray(a), pa.asarray(b))
        want = judged(name, a, b)
        if name in ("add", "subtract", "multiply", "divide", "remainder"):
            with np.errstate(all="ignore"):
                want = getattr(np, name)(a, b)
        assert_close(found, want, rtol=2e-6, atol=1e-37)


def test_logaddexp_far_and_hypot_huge() -> None:
    assert_close(
        pa.logaddexp(pa.asarray(0.0), pa.asarray(-20.0)),
        np.float32(np.logaddexp(0, -20.0)),
        rtol=1e-5,
        atol=0,
    )
    assert_close(pa.hypot(pa.asarray(3e38), pa.asarray(1.0)), [3e38][0], rtol=1e-6)
    check_grads(pa.logaddexp, [np.array([0.5, 30.0, 1.0]), np.array([0.7, -3.0, 2.0])])
    check_grads(pa.hypot, [np.array([0.5, 3.0]), np.array([0.7, -4.0])])
    x = pa.asarray(1.0).requires_grad_()
    (pa.logaddexp(x, x) + pa.logaddexp(x, -math.inf)).backward()
    assert x.grad is not None and x.grad.item() == 2.0


@pytest.mark.parametrize(
    "name", ["tan", "sinh", "cosh", "atanh", "log2", "log10", "square", "reciprocal"]
)
def test_derivatives(name: str) -> None:
    check_grads(getattr(pa, name), [np.array([0.2, 0.5, 0.9])])


def test_sinh_and_cosh_to_the_edge() -> None:
    x = np.array([0.0, 1e-6, 1e-3, 44.0, 88.9, 89.3, 89.5, -89.3, -90.0], np.float32)
    for name in ("sinh", "cosh"):
        assert_close(getattr(pa, name)(pa.asarray(x)), judged(name, x), rtol=3e-6, atol=0)
    assert pa.grad(pa.grad(pa.cosh))(pa.asarray(0.0)).item() == 1.0
    assert pa.grad(lambda t: pa.sinh(t))(pa.asarray(0.0)).item() == 1.0


def test_integers_and_bits() -> None:
    a, b = np.array([[7, -7, 0, 6]]), np.array([[3], [-2], [0]])
    x, y = pa.asarray(a), pa.asarray(b)
    for name in (
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "add",
        "subtract",
        "multiply",
        "maximum",
    ):
        assert_bitwise(getattr(pa, name)(x, y), getattr(np, name)(a, b))
    with np.errstate(all="ignore"):
        for name in ("floor_divide", "remainder"):
            assert_bitwise(getattr(pa, name)(x, y), getattr(np, name)(a, b))
    assert pa.bitwise_invert(x).tolist() == (~a).tolist()
    assert pa.bitwise_left_shift(x, 2).tolist() == (a << 2).tolist()
    assert pa.divide(x, 2).dtype is pa.float32
    for name in ("ceil", "round", "trunc", "floor", "isnan", "isinf", "isfinite", "signbit"):
        assert_bitwise(
            getattr(pa, name)(x),
            getattr(np, name)(a.astype(float)).astype(getattr(pa, name)(x).dtype.numpy),
        )
    for name in ("logical_and", "logical_or", "logical_xor"):
        assert_bitwise(getattr(pa, name)(x, y), getattr(np, name)(a, b))
        assert_bitwise(getattr(pa, name)(x, True), getattr(np, name)(a, True))
    assert pa.logical_not(x).tolist() == np.logical_not(a).tolist()
    assert pa.hypot(pa.asarray([3]), 4).tolist() == [5.0]


def test_where_and_clip() -> None:
    c = pa.asarray([True, False])
    assert pa.where(c, 1.0, 2.0).dtype is pa.float32 and pa.where(c, 1, 2).dtype is pa.int64
    assert pa.where(c, 1, 2.5).dtype is pa.float32 and pa.where(c, True, False).dtype is pa.bool
    assert pa.where(c, pa.asarray([1.0, 2.0]), 0).tolist() == [1, 0]
    x = pa.asarray([-2.0, 0.5, 2.0])
    assert pa.clip(x, -1, 1).tolist() == [-1, 0.5, 1] and pa.clip(x) is not x
    assert pa.clip(x, min=pa.asarray([0.0, 1.0, 1.0])).tolist() == [0, 1, 2]
    with pytest.raises(DtypeError):
        pa.where(pa.asarray([1, 0]), 1.0, 2.0)


@pytest.mark.parametrize(
    "name",
    [*UNARY, "sigmoid", "relu", "rsqrt", "erf", "sum", "mean", "max", "softmax", "clip", "astype"],
)
def test_a_number_alone_is_refused(name: str) -> None:
    with pytest.raises(DtypeError, match="pa.asarray"):
        getattr(pa, name)(1.0, *(["float32"] if name == "astype" else []))
    with pytest.raises(DtypeError):
        getattr(pa, name)("x", *(["float32"] if name == "astype" else []))


@pytest.mark.parametrize("name", BINARY)
def test_two_numbers_are_refused(name: str) -> None:
    with pytest.raises(DtypeError, match="pa.asarray"):
        getattr(pa, name)(1.0, 2)
    assert getattr(pa, name)(pa.asarray([1.0]), 2).shape == (1,)
    assert getattr(pa, name)(2, pa.asarray([1.0])).shape == (1,)
    assert getattr(pa, name)(np.ones((2, 1), "f"), pa.asarray([1.0])).shape == (2, 1)


# Over axes.


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(axis: Any, keepdims: bool) -> None:
    a = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    x = pa.asarray(a)
    for name in ("sum", "mean", "max", "min", "all", "any", "std", "var"):
        want = getattr(np, name)(a, axis=axis, keepdims=keepdims)
        assert_close(getattr(pa, name)(x, axis=axis, keepdims=keepdims), want, rtol=1e-5)
        assert_close(getattr(x, name)(axis, keepdims=keepdims), want, rtol=1e-5)
    want = np.count_nonzero(a > 0, axis=axis, keepdims=keepdims)
    assert_bitwise(pa.count_nonzero(x > 0, axis=axis, keepdims=keepdims), np.asarray(want))
    assert_close(
        pa.var(x, axis, correction=1), np.var(a, axis, ddof=1), rtol=1e-5
    ) if axis != () else None


def test_sums_and_differences() -> None:
    a = np.random.default_rng(0).integers(-5, 5, (3, 4)).astype(np.int32)
    x = pa.asarray(a)
    for axis in (0, 1, -1):
        assert_bitwise(
            pa.cumulative_sum(x, axis=axis), np.cumulative_sum(a, axis=axis, dtype=np.int64)
        )
        assert_bitwise(
            pa.cumulative_sum(x, axis=axis, include_initial=True),
            np.cumulative_sum(a, axis=axis, dtype=np.int64, include_initial=True),
        )
        for n in (0, 1, 2):
            assert_bitwise(pa.diff(x, axis=axis, n=n), np.diff(a, axis=axis, n=n))
    assert_bitwise(pa.diff(x, prepend=x[:, :1], append=x), np.diff(a, prepend=a[:, :1], append=a))
    assert (
        pa.sum(pa.asarray([True, True])).item() == 2
        and pa.sum(x, dtype=pa.float32).dtype is pa.float32
    )
    for bad in (lambda: pa.cumulative_sum(x), lambda: pa.diff(x, n=-1), lambda: pa.sum(x, axis=2)):
        with pytest.raises(ArgumentError):
            bad()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, -1, 5]), min_size=1, max_size=12),
    st.sampled_from(["int64", "uint8", "float32", "bool"]),
    st.booleans(),
)
def test_sorting(numbers: list[int], dtype: str, descending: bool) -> None:
    a = np.array(numbers).astype(dtype)
    x = pa.asarray(a)
    order = np.argsort(a, stable=True)
    if descending:
        order = np.array(sorted(range(len(a)), key=lambda i: (-int(a[i]), i)))
    assert pa.argsort(x, descending=descending).tolist() == order.tolist()
    assert_bitwise(pa.sort(x, descending=descending), a[order])
    assert pa.argmax(x).item() == np.argmax(a) and pa.argmin(x).item() == np.argmin(a)


def test_sort_puts_nan_last() -> None:
    x = pa.asarray([[2.0, math.nan, -1.0], [0.0, 1.0, 3.0]])
    for descending in (False, True):
        assert math.isnan(pa.sort(x, descending=descending)[0, -1].item())
    assert pa.sort(x, axis=0).numpy()[:, 0].tolist() == [0, 2]
    check_grads(
        lambda t: pa.sort(t, descending=True) * pa.asarray([1.0, 2.0, 3.0]),
        [np.array([0.3, -1.0, 2.0])],
    )


# Products and shapes.


def test_products() -> None:
    rng = np.random.default_rng(1)
    a, b, v = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 4), (4, 5), (4,)))
    x, y, w = map(pa.asarray, (a, b, v))
    for got, want in (
        (pa.matmul(x, y), a @ b),
        (x.matmul(w), a @ v),
        (pa.matrix_transpose(x), a.swapaxes(-1, -2)),
        (pa.tensordot(x, y, axes=1), np.tensordot(a, b, 1)),
        (pa.vecdot(x, w), np.vecdot(a, v)),
        (pa.einsum("bij,jk->bik", x, y), np.einsum("bij,jk->bik", a, b)),
        (pa.outer(w, w), np.outer(v, v)),
    ):
        assert_close(got, want, rtol=1e-5)


def test_movement() -> None:
    a = np.arange(24).reshape(2, 3, 4)
    x = pa.asarray(a)
    for got, want in (
        (pa.reshape(x, (4, -1)), a.reshape(4, 6)),
        (x.reshape(6, 4), a.reshape(6, 4)),
        (x.view((24,)), a.reshape(24)),
        (pa.permute_dims(x, (2, 0, 1)), a.transpose(2, 0, 1)),
        (x.permute(2, 0, 1), a.transpose(2, 0, 1)),
        (x.transpose(0, 2), a.swapaxes(0, 2)),
        (x.mT, a.swapaxes(1, 2)),
        (pa.moveaxis(x, 0, -1), np.moveaxis(a, 0, -1)),
        (pa.expand_dims(x, axis=1), a[:, None]),
        (x.unsqueeze(-1), a[..., None]),
        (pa.flip(x), np.flip(a)),
        (pa.flip(x, axis=1), np.flip(a, 1)),
        (pa.concat([x, x], axis=1), np.concatenate([a, a], 1)),
        (pa.concat([x, x], axis=None), np.concatenate([a, a], None)),
        (pa.stack([x, x], axis=-1), np.stack([a, a], -1)),
        (pa.repeat(x, 2, axis=1), np.repeat(a, 2, 1)),
        (pa.repeat(x, 3), np.repeat(a, 3)),
        (x.repeat(2, axis=0), np.repeat(a, 2, 0)),
        (pa.tile(x, (2, 1, 3, 1)), np.tile(a, (2, 1, 3, 1))),
        (x.tile(2), np.tile(a, 2)),
        (x.flatten(), a.reshape(-1)),
        (x.flatten(1), a.reshape(2, 12)),
        (pa.broadcast_to(x, (5, 2, 3, 4)), np.broadcast_to(a, (5, 2, 3, 4))),
        (x[:1].expand(5, -1, -1), np.broadcast_to(a[:1], (5, 3, 4))),
        (pa.unstack(x, axis=1)[2], a[:, 2]),
        (pa.broadcast_arrays(x, x[0])[1], np.broadcast_to(a[0], a.shape)),
        (pa.take(x, pa.asarray([-1, 0]), axis=1), np.take(a, [-1, 0], 1)),
        (x.index_select(2, pa.asarray([1])), a[:, :, [1]]),
        (pa.take_along_axis(x, pa.asarray(a % 3), axis=1), np.take_along_axis(a, a % 3, 1)),
        (x.masked_fill(x > 5, 0), np.where(a > 5, 0, a)),
        (x.where(x > 5, 1), np.where(a > 5, a, 1)),
    ):
        assert_bitwise(got, want)
    assert pa.squeeze(pa.zeros((2, 1, 3, 1)), axis=1).shape == (2, 3, 1) and pa.zeros(
        (1, 2, 1)
    ).squeeze().shape == (2,)


@pytest.mark.parametrize(
    ("shift", "axis"), [(1, None), (-3, 0), (7, 1), ((1, -1), (0, 1)), (0, 0), (2, (0, 1))]
)
def test_roll(shift: Any, axis: Any) -> None:
    a = np.arange(15).reshape(3, 5)
    assert_bitwise(pa.roll(pa.asarray(a), shift, axis=axis), np.roll(a, shift, axis))
    assert pa.roll(pa.zeros((0, 2)), 1, axis=0).shape == (0, 2)


def test_results_are_handles_of_their_own() -> None:
    x = pa.ones((2, 2))
    made = [
        pa.reshape(x, (2, 2)),
        x.view(2, 2),
        pa.permute_dims(x, (0, 1)),
        pa.broadcast_to(x, (2, 2)),
        pa.flip(x, ()),
        pa.clip(x),
        x.astype(pa.float64).astype(pa.float32),
        pa.astype(x, pa.float32),
        pa.roll(x, 0, ()),
        x.clone(),
        pa.diff(x, n=0),
        pa.tile(x, 1),
        pa.concat([x]),
        pa.positive(x),
        pa.broadcast_arrays(x)[0],
    ]
    assert all(y is not x for y in made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for y in made:
            y += 1
    assert x.tolist() == [[1, 1], [1, 1]]


# Methods, dtypes.


def test_in_place_methods() -> None:
    x = pa.asarray([1.0, 2.0])
    same = x
    x.add_(1).sub_(pa.asarray([0.0, 1.0])).mul_(3).div_(2).clamp_(max=3.5)
    assert same is x and x.tolist() == [3.0, 3.0]
    assert x.add_(x, alpha=0.5).tolist() == [4.5, 4.5] and x.neg_().tolist() == [-4.5, -4.5]
    assert (
        x.fill_(2).tolist() == [2, 2]
        and x.copy_(5).tolist() == [5, 5]
        and x.zero_().tolist() == [0, 0]
    )
    assert x.copy_(pa.asarray([1, 2])).tolist() == [1, 2] and x.pow_(2).tolist() == [1, 4]
    i = pa.asarray([1, 2])
    for bad in (lambda: i.add_(0.5), lambda: i.div_(2), lambda: i.fill_(1.5)):
        with pytest.raises(DtypeError):
            bad()
    with pytest.raises(ArgumentError):
        x.add_(pa.ones((2, 2)))
    i += 1
    i -= 1
    i *= 3
    i //= 2
    i **= 2
    assert i.tolist() == [1, 9] and x.tolist() == [1, 4]
    with pytest.raises(TypeError):
        x += "a"


def test_methods() -> None:
    x = pa.asarray([[1.0, 4.0], [9.0, 16.0]])
    assert x.sqrt().tolist() == [[1, 2], [3, 4]] and x.numel() == 4 and x.dim() == 2
    assert (
        x.softmax().shape == (2, 2)
        and x.log_softmax(0).shape == (2, 2)
        and x.cumsum(1).tolist() == [[1, 5], [9, 25]]
    )
    assert (
        x.pow(0.5).tolist() == [[1, 2], [3, 4]]
        and x.argmax().item() == 3
        and x.sort(0)[0, 0].item() == 1
    )
    with pytest.raises(ArgumentError, match="tile"):
        x.repeat(2, 3)
    w = pa.ones(2).requires_grad_()
    (w.clone() * 2).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [2, 2]
    w.reshape(2).sum().backward()
    assert w.grad.tolist() == [3, 3]


def test_types_know_what_is_attached() -> None:
    """What is given to `Tensor` at import is declared for type checkers."""
    tree = ast.parse(inspect.getsource(proa.attached))
    declared = {f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
    attached = {*proa.array.methods.METHODS, *proa.array.methods.CHANGES}
    assert attached <= declared
    assert all(hasattr(pa.Tensor, name) for name in declared)


def test_result_type_and_can_cast() -> None:
    assert (
        pa.result_type(pa.int8, pa.uint8) is pa.int16
        and pa.result_type(pa.zeros(1), 1) is pa.float32
    )
    assert pa.result_type(1, 2.0) is pa.float32 and pa.result_type(np.float64, 1) is pa.float64
    assert pa.can_cast(pa.int8, "int16") and not pa.can_cast(pa.int64, pa.uint64)
    assert not pa.can_cast(pa.float32, pa.int64) and pa.can_cast(pa.zeros(1), pa.float64)
    assert not pa.can_cast(pa.float8_e5m2, pa.float32)
    with pytest.raises(DtypeError):
        pa.result_type(pa.uint64, pa.int64)
    with pytest.raises(ArgumentError):
        pa.result_type()


@pytest.mark.parametrize(
    "name", [n for n in proa.array.__all__ if callable(getattr(proa.array, n))]
)
def test_bad_arguments_are_typed_errors(name: str) -> None:
    """Whatever is given: an answer, a ProaError or Python's TypeError about the signature."""
    function = getattr(pa, name)
    if name in ("set_default_device", "set_default_dtype", "device", "devices"):
        return
    given: list[tuple[Any, ...]] = [
        (),
        ("x",),
        (None,),
        (object(),),
        ([],),
        (pa.zeros((0, 3)),),
        (pa.zeros(()),),
        (pa.zeros(3), 7),
        (pa.zeros(3), "axis"),
        (pa.zeros(3), 1.5),
        (pa.zeros((1,) * 64),),
        (pa.asarray([1j]),),
        (pa.zeros(3), pa.zeros(4)),
        (pa.asarray([True]), pa.asarray([1])),
        (-1,),
        (2.5, 1),
        ((2, -3),),
        (math.nan,),
        (pa.asarray([1], dtype=pa.uint64), pa.asarray([1], dtype=pa.int64)),
        (pa.zeros(3, dtype=pa.float8_e5m2),),
        ([pa.zeros(2), pa.zeros(3)],),
        (np.array(["a"]),),
        (1, 2, 3, 4, 5, 6, 7),
    ]
    for args in given:
        try:
            function(*args)
        except ProaError as error:
            assert "given" in str(error)
        except TypeError as error:
            assert "argument" in str(error), (name, args, error)
    assert (pa.ones(2) + 1).tolist() == [2, 2]
