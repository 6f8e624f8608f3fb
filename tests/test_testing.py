"""The assertions themselves: what passes, what fails, and what the message says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.errors import ArgumentError, DtypeError
from proa.testing import assert_bitwise, assert_close, check_grads


def test_close_passes() -> None:
    x = pa.asarray([1.0, math.nan, math.inf, -math.inf, 0.0])
    assert_close(x, x)
    assert_close(x, x.numpy())
    assert_close(pa.asarray([1.0, 2.0]) / 3, [1 / 3, 2 / 3])
    assert_close(pa.asarray([1, 2]), [1, 2])
    assert_close(1.0, 1.0 + 1e-9)
    assert_close(pa.asarray([1.0], dtype=pa.bfloat16), pa.asarray([1.01], dtype=pa.bfloat16))
    assert_close(pa.zeros((0, 2)), pa.zeros((0, 2)))
    assert_close(pa.asarray([1 + 1j]), np.array([1 + 1j], np.complex64))
    assert_close([pa.asarray(1.0), pa.asarray(2.0)], [1.0, 2.0])


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        (
            pa.asarray([[1.0, 2.0], [3.0, 5.0]]),
            [[1.0, 2.5], [3.0, 4.0]],
            "(1, 1): given 5.0, expected 4.0",
        ),
        (
            pa.asarray([1.0]),
            pa.asarray([1.0], dtype=pa.float64),
            "dtype float32, expected dtype float64",
        ),
        (pa.asarray([1.0]), [[1.0]], "shape (1,), expected shape (1, 1)"),
        (pa.asarray([1.0, math.nan]), [1.0, 2.0], "1 of 2"),
        (pa.asarray([math.inf]), [1.0], "1 of 1"),
        (pa.asarray([1.0]), [math.inf], "1 of 1"),
        (pa.asarray([math.inf]), [-math.inf], "1 of 1"),
        (pa.asarray([2**60 + 1]), [2**60], "off by"),
        (pa.asarray([True]), [False], "1 of 1"),
        (pa.asarray([1.0, 1.1]), [1.0, 1.0], "allow"),
    ],
)
def test_close_fails_and_says_where(actual: Any, expected: Any, words: str) -> None:
    with pytest.raises(AssertionError) as error:
        assert_close(actual, expected)
    assert words in str(error.value)


def test_tolerances() -> None:
    assert_close(pa.asarray([1.05]), [1.0], rtol=0.1)
    assert_close(pa.asarray([1.05]), [1.0], rtol=0, atol=0.1)
    for tight in ({"rtol": 0.0, "atol": 0.0}, {"rtol": 1e-3, "atol": 0.0}):
        with pytest.raises(AssertionError):
            assert_close(pa.asarray([1.05]), [1.0], **tight)


def test_bitwise() -> None:
    for dtype in ("float32", "float64", "bfloat16", "int8", "bool", "float8_e5m2"):
        x = pa.asarray([1.0, 0.0]).astype(dtype)
        assert_bitwise(x, x.numpy().copy())
    assert_bitwise(pa.asarray([1j], dtype=pa.complex128), pa.asarray([1j], dtype=pa.complex128))
    assert_bitwise(pa.zeros((0, 3)), pa.zeros((0, 3)))
    nan = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    assert_bitwise(nan, nan.copy())
    for a, b in (
        (nan[:1], nan[1:]),
        (np.float32([0.0]), np.float32([-0.0])),
        (np.float32([1.0]), np.float64([1.0])),
    ):
        with pytest.raises(AssertionError):
            assert_bitwise(pa.asarray(a), pa.asarray(b))
    with pytest.raises(AssertionError, match="0x3f800001"):
        assert_bitwise(
            pa.asarray(np.array([0, 0x3F800001], np.uint32).view(np.float32)), np.float32([0, 1])
        )


def test_gradients_pass() -> None:
    check_grads(lambda x, y: (pa.exp(x) @ y).sum() ** 2, [np.ones((2, 3)) / 3, np.ones((3, 2)) / 5])
    check_grads(lambda x: {"a": pa.sin(x), "b": (x * x, x > 0)}, [pa.asarray([0.3, 0.4])])
    check_grads(lambda x: x, [np.zeros((0, 3))])


def test_a_wrong_derivative_is_found() -> None:
    def cut(x: Any) -> Any:
        return x * x.detach()

    for mode in ("reverse", "forward"):
        with pytest.raises(AssertionError, match=f"{mode} mode"):
            check_grads(cut, [np.array([0.5])], order=1, modes=(mode,))

    def second(x: Any) -> Any:
        return x.detach() * x * 2.0 - x.detach() * x.detach()

    with pytest.raises(AssertionError):
        check_grads(second, [np.array([0.5])], order=2)
    check_grads(second, [np.array([0.5])], order=1)


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError):
        check_grads(lambda x: x, [np.ones(2)], modes=("sideways",))
    with pytest.raises(DtypeError):
        check_grads(lambda x: x, [np.arange(2)])
