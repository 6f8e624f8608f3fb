"""Algebraic simplification: right for real numbers, not bit for bit. Only under `numerics="fast"`.

| written | computed |
| --- | --- |
| x / y, where y is repeated along x | x * (1 / y) |
| log(exp(x)), exp(log(x)), sqrt(x) * sqrt(x) | x |
| a chain of bfloat16 or float16 | the same in float32, rounded where it leaves the chain |

Beside these a backend may contract products and sums (`Program.numerics`).
"""

from __future__ import annotations

from typing import Final, final

from proa.dtypes import Dtype, bfloat16, float16, float32
from proa.graph.build import Builder
from proa.graph.entry import Entry
from proa.graph.graph import Graph, Step
from proa.graph.node import Value
from proa.graph.rewrite import rebuild
from proa.graph.spec import spec
from proa.ops.arithmetic import div, mul
from proa.ops.functions import cast
from proa.ops.primitive import Primitive, apply

INVERSES: Final = {"log": "exp", "exp": "log"}
NARROW: Final = (bfloat16, float16)
REPEATED: Final = 8  # how often a divisor is used at least
Makers = dict[int, tuple[Primitive, tuple[Value, ...]]]  # of each value: what made it, and of what


def relax(graph: Graph) -> Graph:
    """The graph with the rules above applied once, in one sweep."""
    return rebuild(graph, _Relaxed(), merge=True)


@final
class _Relaxed:
    """The rule of a sweep, which remembers what made each value of the new graph."""

    def __init__(self) -> None:
        self.makers: Makers = {}

    def __call__(
        self, builder: Builder, step: Step, operands: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        entry = step.entry
        found = _shorter(builder, entry, operands, self.makers)
        if found is not None:
            return (found,)
        if _is_narrow(entry):
            wide = [self._cast(o, float32) if o.spec.dtype in NARROW else o for o in operands]
            made: Value = apply(entry.primitive, wide, **entry.named_params)
            return (self._cast(made, entry.out.dtype),)
        outs = builder.emit(entry, operands)
        for out in outs:
            self.makers[out.index] = (entry.primitive, operands)
        return outs

    def _cast(self, x: Value, dtype: Dtype) -> Value:
        """x in another dtype; what was rounded to a narrow one is taken as it was before."""
        maker, inside = self.makers.get(x.index, (None, ()))
        if maker is cast and inside[0].spec.dtype is dtype:
            return inside[0]
        made: Value = apply(cast, (x,), dtype=dtype, weak=False)
        self.makers[made.index] = (cast, (x,))
        return made


def _shorter(
    builder: Builder, entry: Entry, operands: tuple[Value, ...], makers: Makers
) -> Value | None:
    """A value that stands for the result of an entry, if a rule has one."""
    if not operands or not entry.single or not entry.out.dtype.is_float:
        return None
    name = entry.primitive.name
    maker, inside = makers.get(operands[0].index, (None, ()))
    if maker is not None and inside[0].spec is entry.out:
        before = maker.name
        if INVERSES.get(name, "") == before:
            return inside[0]
        if name == "mul" and before == "sqrt" and operands[0].index == operands[1].index:
            return inside[0]
        if name == before == "cast" and operands[0].spec.dtype in NARROW:
            return inside[0]
    if name == "div" and operands[1].spec.size * REPEATED <= entry.out.size:
        one = builder.number(1.0, spec((), entry.out.dtype))
        inverse = apply(div, (one, operands[1]))
        found: Value = apply(mul, (operands[0], inverse))
        return found
    return None


def _is_narrow(entry: Entry) -> bool:
    """Whether an entry computes element by element in a narrow dtype."""
    return (
        entry.primitive.family.name == "elementwise" and entry.primitive is not cast
        and entry.single and entry.out.dtype in NARROW
    )  # fmt: skip
