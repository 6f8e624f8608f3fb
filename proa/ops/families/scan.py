"""Scan: one axis is run through in order, so it is needed `whole`; all other letters pass."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, message
from proa.graph.spec import Spec
from proa.ops.factors import FactorMap, passing
from proa.ops.primitive import Family, Primitive, apply


def factors(op: str, ins: tuple[Spec, ...], axis: int, **rest: Any) -> FactorMap:
    if not 0 <= axis < ins[0].ndim:
        given = f"axis {axis} of shape {ins[0].shape}"
        raise ArgumentError(message(op, given, "one of its axes"))
    same = passing(ins[0].shape)
    return same._replace(roles=same.roles | {axis: "whole"})


def batch(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    return apply(primitive, operands, **params | {"axis": params["axis"] + 1})


SCAN = Family("scan", factors, batch)


def scan(name: str, **fields: Any) -> Primitive:
    """Declares an operation along the parameter `axis`."""
    return Primitive(name, SCAN, retained=True, **fields)
