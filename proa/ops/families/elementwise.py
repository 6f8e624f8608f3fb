"""Elementwise: every letter passes; operands are aligned at their last axis and repeated."""

from __future__ import annotations

from typing import Any

from proa.dtypes import bool_
from proa.graph.spec import Spec, spec
from proa.ops.factors import FactorMap
from proa.ops.primitive import REGISTRY, Family, Primitive, Sample, apply, one_dtype
from proa.shapes import broadcast_shapes


def factors(op: str, ins: tuple[Spec, ...], **params: Any) -> FactorMap:
    shape = broadcast_shapes(op, [s.shape for s in ins])
    ndim = len(shape)
    operands = []
    for s in ins:
        first = ndim - s.ndim
        letters = [first + i if s.shape[i] == shape[first + i] else None for i in range(s.ndim)]
        operands.append(tuple(letters))
    out = tuple(range(ndim))
    return FactorMap(tuple(operands), (out,), dict.fromkeys(out, "pass"), dict(enumerate(shape)))


def batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    """A batched operand gets ones after its batch axis, so that the other axes stay aligned."""
    specs = [o.value.spec for o in operands]
    ndim = max(s.ndim - f for s, f in zip(specs, flags, strict=True))
    aligned = []
    for operand, s, batched in zip(operands, specs, flags, strict=True):
        missing = ndim - (s.ndim - 1)
        if batched and missing:
            shape = s.shape[:1] + (1,) * missing + s.shape[1:]
            operand = apply(REGISTRY["reshape"], (operand,), shape=shape)
        aligned.append(operand)
    return apply(primitive, aligned, **params)


def samples(primitive: Primitive, arity: int) -> list[Sample]:
    """Shapes that every elementwise operation is tried on."""
    cases = [Sample((s,) * arity) for s in [(), (3,), (2, 3), (0,), (2, 0, 3), (17,)]]
    if arity == 2:
        cases += [Sample(((2, 1), (3,))), Sample(((), (2, 3))), Sample(((4, 1, 2), (3, 1)))]
    if arity == 3:
        cases += [Sample(((2, 1), (3,), ())), Sample(((2, 3), (), (3,)))]
    return cases


ELEMENTWISE = Family("elementwise", factors, batch, samples=samples)


def elementwise(name: str, **fields: Any) -> Primitive:
    """Declares an operation of this family; its operands are promoted to one dtype."""
    fields.setdefault("promotes", True)
    return Primitive(name, ELEMENTWISE, **fields)


def to_bool(primitive: Primitive, ins: tuple[Spec, ...], params: dict[str, Any]) -> Spec:
    """Spec rule of comparisons and tests."""
    one_dtype(primitive.name, ins)
    (shape,) = factors(primitive.name, ins).result_shapes()
    return spec(shape, bool_)


def unbroadcast(ct: Any, shape: tuple[int, ...]) -> Any:
    """The cotangent of an operand of `shape` that was repeated to the shape of `ct`."""
    full = ct.value.spec.shape
    if full == shape:
        return ct
    lead = len(full) - len(shape)
    axes = [i for i in range(len(full)) if i < lead or shape[i - lead] != full[i]]
    if axes:
        ct = apply(REGISTRY["sum"], (ct,), axes=tuple(axes))
    if ct.value.spec.shape != shape:
        ct = apply(REGISTRY["reshape"], (ct,), shape=shape)
    return ct
