"""Products of integers: sums that wrap round are exact in any order, so these are plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.backends.cpu.layout import Layout, contiguous
from proa.backends.cpu.rows import Operand, Result, collapsed, loop_call
from proa.dtypes import Dtype
from proa.graph.entry import intern_entry
from proa.graph.spec import spec
from proa.ops.arithmetic import mul
from proa.ops.reductions import sum_


def multiply(
    nests: Any, pair: Sequence[tuple[Layout, Sequence[int]]], letters: Sequence[str], dtype: Dtype,
    goal: Layout, step: int,
) -> None:  # fmt: skip
    """`product.multiply` for a dtype of integers: one row of the loop is one sum."""
    a, b, out = letters
    sizes: dict[str, int] = {}
    for (_, shape), names in zip(pair, letters[:2], strict=True):
        sizes |= zip(names, shape, strict=True)
    summed = "".join(x for x in a if x not in out)
    summed = next((x for x in summed if not sizes[x]), summed)  # the sum of nothing is one axis
    space = (*[sizes[x] for x in (*out, *summed)], 1)  # the last: a row where nothing is summed
    operands = []
    for (layout, _), names in zip(pair, (a, b), strict=True):
        held = [x for x in out if x in names]
        found = dict(zip(names, layout.strides, strict=True))
        inner = collapsed([sizes[x] for x in summed], [tuple([found[x] for x in summed])],
                          range(len(summed)))  # fmt: skip
        is_walked = not inner or (len(inner) == 1 and inner[0][1] == [dtype.itemsize])
        if not is_walked and 0 not in space:
            order = [*held, *summed]
            shape = tuple([sizes[x] for x in order])
            turned = layout._replace(strides=tuple([found[x] for x in order]))
            layout = Layout(nests.packed(turned, shape, dtype), 0, ())
            found = dict(zip(order, contiguous(shape, dtype.itemsize), strict=True))
        strides = tuple([found.get(x, 0) for x in (*out, *summed)])
        operands.append(Operand(dtype, layout.root, layout.offset, (*strides, 0)))
    one = spec((1,), dtype)
    nodes = [
        (intern_entry(mul.table, mul, (), (one, one)), (0, 1)),
        (intern_entry(sum_.table, sum_, ((0,),), (one,)), (2,)),
    ]
    reduced = range(len(out), len(space))
    strides = (*goal.strides, *[0] * len(reduced))
    result = Result(3, dtype, goal.root, strides, "s", goal.offset)
    nests.actions.append(loop_call(operands, nodes, [result], space, step, reduced))
