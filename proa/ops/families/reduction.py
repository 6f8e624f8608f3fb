"""Reduction: letters of the axes given are summed, or only the largest or smallest is kept."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, message
from proa.graph.spec import Spec
from proa.ops.factors import FactorMap, passing
from proa.ops.families.movement import shifted
from proa.ops.primitive import Family, Primitive, Sample, apply


def factors_with(role: str) -> Any:
    def factors(op: str, ins: tuple[Spec, ...], axes: tuple[int, ...], **rest: Any) -> FactorMap:
        if sorted(set(axes)) != list(axes) or not all(0 <= a < ins[0].ndim for a in axes):
            given = f"axes {axes!r:.60} of shape {ins[0].shape}"
            raise ArgumentError(message(op, given, "ascending axes of it"))
        same = passing(ins[0].shape)
        kept = tuple([i for i in range(ins[0].ndim) if i not in axes])
        return same._replace(results=(kept,), roles=same.roles | dict.fromkeys(axes, role))

    return factors


def batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    return apply(primitive, operands, **params | {"axes": shifted(params["axes"])})


def reduction(name: str, role: str, **fields: Any) -> Primitive:
    """Declares a reduction over the parameter `axes`; the reduced axes are gone."""
    fields.setdefault("params", ("axes",))
    fields.setdefault(
        "samples",
        [Sample(((2, 3),), {"axes": (1,)}), Sample(((2, 3),), {"axes": (0, 1)}),
         Sample(((3, 1, 4),), {"axes": (0, 2)}), Sample(((300,),), {"axes": (0,)})],
    )  # fmt: skip
    return Primitive(name, Family("reduction", factors_with(role), batch), retained=True, **fields)
