"""DLPack in and out: NumPy, JAX, PyTorch where it is installed; every dtype, views, refusals."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.errors import ArgumentError, Uncopied

NAMES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "bfloat16", "float32", "float64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
X = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
NARROW = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def made(name: str) -> pa.Tensor:
    return pa.asarray(X).astype(getattr(pa, name))


class Foreign:
    """Of another library: what a tensor exports, as it is or as before DLPack 1."""

    def __init__(self, x: pa.Tensor, is_old: bool) -> None:
        self.x = x
        self.is_old = is_old

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        if self.is_old and options:
            raise TypeError("unexpected keyword")
        return self.x.__dlpack__(**options)


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_out_and_in_again(name: str, is_old: bool) -> None:
    x = made(name)
    for read in (pa.from_dlpack, pa.asarray):
        y = read(Foreign(x, is_old))
        assert y.dtype is x.dtype and y.tolist() == x.tolist()
    assert pa.from_dlpack(Foreign(x[:0], is_old)).shape == (0, 3)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NARROW])
def test_numpy(name: str) -> None:
    x = made(name)
    seen = np.from_dlpack(x)
    assert seen.tolist() == x.tolist() and not seen.flags.writeable
    strided = x.numpy().T[::2]
    assert pa.from_dlpack(strided).tolist() == strided.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    with jax.enable_x64(True):
        x = made(name)
        seen = jnp.from_dlpack(x)
        assert seen.dtype.name == name and seen.tolist() == x.tolist()
        for y in (pa.from_dlpack(seen), pa.asarray(seen)):
            assert y.dtype is x.dtype and y.tolist() == x.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = made(name)
    seen = torch.from_dlpack(x)
    assert str(seen.dtype) == f"torch.{name}"
    for given in (seen, seen.T, seen[:, ::2]):
        y = pa.from_dlpack(given)
        wide = given.to(torch.complex64).tolist()
        assert y.dtype is x.dtype and np.array_equal(y.numpy().astype(np.complex64), wide)
    assert pa.asarray(seen).dtype is x.dtype


def test_buffers_and_lists() -> None:
    assert pa.asarray(array.array("d", [1, 2])).dtype is pa.float64
    assert pa.asarray(bytearray(b"ab")).tolist() == [97, 98]
    x = pa.asarray([pa.ones(2), np.zeros(2, np.float32)])
    assert x.shape == (2, 2) and x.dtype is pa.float32


def test_refusals() -> None:
    x = pa.ones(2)
    with pytest.raises(Uncopied, match="copy=False"):
        pa.from_dlpack(np.ones(2), copy=False)
    with pytest.raises(BufferError):
        x.__dlpack__(copy=False)
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(2, 0))
    assert x.__dlpack_device__() == (1, 0)

    class Odd:
        def __dlpack_device__(self) -> Any:
            return (1, 0)

        def __dlpack__(self, **options: Any) -> Any:
            return "no capsule"

    with pytest.raises(ArgumentError, match="from_dlpack"):
        pa.from_dlpack(Odd())
