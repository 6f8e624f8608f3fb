"""Values made from nothing but parameters, and random bits made from a key and a counter."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.dtypes import dtype as as_dtype
from proa.dtypes import float32, int64, uint32
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.spec import Spec, spec
from proa.ops.factors import FactorMap
from proa.ops.primitive import NUMERIC, Family, Primitive, Sample, apply
from proa.shapes import as_shape


def _iota_factors(
    op: str, ins: tuple[Spec, ...], shape: tuple[int, ...], axis: int, dtype: Any
) -> FactorMap:
    letters = tuple(range(len(shape)))
    return FactorMap((), (letters,), dict.fromkeys(letters, "pass"), dict(enumerate(shape)))


def _iota_rule(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    shape, axis, dtype = (
        as_shape("iota", params["shape"]),
        params["axis"],
        as_dtype(params["dtype"]),
    )
    if dtype not in NUMERIC:
        raise DtypeError(message("iota", dtype.name, "an integer or float dtype"))
    if not 0 <= axis < len(shape):
        raise ArgumentError(message("iota", f"axis {axis} of shape {shape}", "one of its axes"))
    if dtype.kind == "int" and shape[axis] - 1 > dtypes.iinfo(dtype).max:
        given = f"{shape[axis]} numbers of {dtype.name}"
        raise ArgumentError(message("iota", given, "numbers that the dtype holds", "pa.int64"))
    return spec(shape, dtype)


def _iota(*, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    column = [1] * len(shape)
    column[axis] = shape[axis]
    numbers = np.arange(shape[axis]).astype(dtype.numpy).reshape(column)
    return np.broadcast_to(numbers, shape)


def _never(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """What has no operand is never batched."""
    return apply(primitive, operands, **params)


iota = Primitive(
    "iota", Family("opaque", _iota_factors, _never), params=("shape", "axis", "dtype"), core=True,
    rule=_iota_rule, meaning=_iota, differentiable=False, cost=0,
    samples=[Sample((), {"shape": (5,), "axis": 0, "dtype": int64}),
             Sample((), {"shape": (2, 3), "axis": 1, "dtype": float32}),
             Sample((), {"shape": (2, 0, 3), "axis": 0, "dtype": uint32})],
    errors=[(Sample((), {"shape": (5,), "axis": 1, "dtype": int64}), ArgumentError),
            (Sample((), {"shape": (), "axis": 0, "dtype": int64}), ArgumentError),
            (Sample((), {"shape": (129,), "axis": 0, "dtype": dtypes.int8}), ArgumentError),
            (Sample((), {"shape": (5,), "axis": 0, "dtype": dtypes.bool_}), DtypeError)],
    doc="0, 1, 2, ... along one axis, the same along all others; floats are rounded once.",
)  # fmt: skip


_ROTATIONS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY: Final = np.uint32(0x1BD11BDA)


def threefry(key0: Any, key1: Any, counter0: Any, counter1: Any) -> tuple[Any, Any]:
    """Threefry-2x32 in 20 rounds (Salmon et al. 2011) on uint32 arrays that broadcast together."""
    keys = (key0, key1, key0 ^ key1 ^ _PARITY)
    a, b = counter0 + keys[0], counter1 + keys[1]
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            a = a + b
            b = (b << np.uint32(turn)) | (b >> np.uint32(32 - turn))
            b = b ^ a
        a = a + keys[(group + 1) % 3]
        b = b + keys[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def _random_factors(op: str, ins: tuple[Spec, ...], shape: tuple[int, ...]) -> FactorMap:
    state = ins[0]
    if not state.ndim or state.shape[-1] != 4:
        given = f"a state of shape {state.shape}"
        raise ShapeError(message(op, given, "4 words (key, key, draw, 0) on the last axis"))
    if prod(shape) > 2**33:
        raise ArgumentError(message(op, f"{prod(shape)} elements", "at most 2**33 of one state"))
    lead = tuple(range(state.ndim - 1))
    own = tuple([("out", i) for i in range(len(shape))])
    roles = dict.fromkeys(lead + own, "pass") | {"word": "whole"}
    sizes = dict(zip(lead + own, state.shape[:-1] + shape, strict=True)) | {"word": 4}
    return FactorMap(((*lead, "word"),), (lead + own,), roles, sizes)


def _random_batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    return apply(primitive, operands, **params)


def _random_bits(state: Any, shape: tuple[int, ...]) -> Any:
    """Word e % 2 of the block with counter (e // 2, draw), for each element e."""
    count = prod(shape)
    key0, key1, draw, _ = np.moveaxis(np.asarray(state)[..., None, :], -1, 0)
    block = np.arange((count + 1) // 2, dtype=np.uint64).astype(np.uint32)
    words = np.stack(threefry(key0, key1, block, draw), axis=-1)
    lead = state.shape[:-1]
    return words.reshape(*lead, 2 * block.size)[..., :count].reshape(lead + shape)


random_bits = Primitive(
    "random_bits", Family("opaque", _random_factors, _random_batch), params=("shape",),
    accepts=frozenset({uint32}), meaning=_random_bits, differentiable=False, retained=True,
    cost=60,
    samples=[Sample((((4,), "uint32"),), {"shape": (5,)}),
             Sample((((4,), "uint32"),), {"shape": ()}),
             Sample((((3, 4), "uint32"),), {"shape": (2, 3)}),
             Sample((((2, 1, 4), "uint32"),), {"shape": (0,)})],
    errors=[(Sample((((3,), "uint32"),), {"shape": (5,)}), ShapeError),
            (Sample((((), "uint32"),), {"shape": (5,)}), ShapeError),
            (Sample((((4,), "int64"),), {"shape": (5,)}), DtypeError),
            (Sample((((4,), "uint32"),), {"shape": (2**17, 2**17)}), ArgumentError)],
    doc="Uniform bits, uint32[lead + shape], from a state uint32[lead + (4,)] of words (key0, "
    "key1, draw, 0): element e of a state, row by row, is word e % 2 of Threefry-2x32-20 with "
    "that key and counter (e // 2, draw).",
)  # fmt: skip
