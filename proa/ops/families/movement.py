"""Movement: elements are placed anew, none is computed. All of it is linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proa.ops.primitive import REGISTRY, Family, Primitive, apply


def all_batched(operands: Any, flags: Any) -> list[Any]:
    """Operands that lack the batch axis are repeated along it."""
    count = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    return [
        o if f else repeated(o, count) for o, f in zip(operands, flags, strict=True)
    ]  # fmt: skip


def repeated(operand: Any, count: int) -> Any:
    """The operand with a new first axis of length `count`."""
    shape = operand.value.spec.shape
    axes = tuple(range(1, len(shape) + 1))
    return apply(REGISTRY["broadcast"], (operand,), shape=(count, *shape), axes=axes)


def movement(
    name: str, factors: Callable[..., Any], lift: Callable[..., dict[str, Any]], **fields: Any
) -> Primitive:
    """Declares a movement; `lift(params, count)` are the parameters with one more first axis."""

    def batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
        operands = all_batched(operands, flags)
        return apply(primitive, operands, **lift(params, operands[0].value.spec.shape[0]))

    fields.setdefault("cost", 0)
    return Primitive(name, Family("movement", factors, batch), **fields)


def shifted(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Axes after one more axis was put in front."""
    return tuple([a + 1 for a in axes])
