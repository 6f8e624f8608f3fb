'''The operators of a tensor that are used most, generated from one text.

This is the hot path: recording `x * y` makes one node, one value and one handle, and computes
nothing. The rest of the operators are those of `ops/operators.py`.
'''

from __future__ import annotations

from sys import _getframe
from typing import Any, Final
from weakref import ref

from proa.graph.entry import intern_entry
from proa.graph.node import Node, Value
from proa.ops import arithmetic as ar
from proa.ops import operators as op
from proa.ops.contraction import dot
from proa.record.boundary import overflow
from proa.record.live import caller, inside_table, thread
from proa.tensor import Tensor

_TEXT: Final = """
def {name}(a, b):
    va = a.value
    if type(b) is Tensor:
        vb = b.value
    else:
        of = va.spec.scalars.get(type(b))
        if of is None:
            return slow(a, b)
        vb = Value(None, 0, of, b)
    entry = pairs.get((va.spec, vb.spec))
    state = thread.state
    if entry is None or state.mode:
        return slow(a, b)
    frame = _getframe(1)
    code = frame.f_code
    where = caller(2) if inside.get(code, True) else (code, frame.f_lasti)
    made = Tensor(Value(Node(entry.plain, (va, vb), where, state.scope), 0, entry.out))
    handles = state.handles
    handles.append(ref(made))
    if len(handles) > state.limit:
        overflow(state)
    return made
"""

_FAST: Final = {
    "add": ar.add, "sub": ar.sub, "mul": ar.mul, "truediv": ar.div, "eq": ar.eq, "lt": ar.lt,
    "le": ar.le, "matmul": dot,
}  # fmt: skip


def _fast(name: str, primitive: Any, function: Any) -> Any:
    forward = op._forward(function)

    def slow(a: Any, b: Any) -> Any:
        found = forward(a, b)
        if type(found) is Tensor and found.value.node is not None:
            _remember(primitive, found.value.node, a, b)
        return found

    space = {
        "Tensor": Tensor, "Value": Value, "Node": Node, "pairs": primitive.pairs, "slow": slow,
        "thread": thread, "ref": ref, "_getframe": _getframe, "inside": inside_table,
        "caller": caller, "overflow": overflow,
    }  # fmt: skip
    exec(compile(_TEXT.format(name=name), __file__, "exec"), space)  # noqa: S102
    return space[name]


def _remember(primitive: Any, node: Node, a: Any, b: Any) -> None:
    """The entry for these two specs, where the operands went in as they are."""
    if node.entry.primitive is not primitive or node.inputs[0] is not a.value:
        return
    if type(b) is Tensor and node.inputs[1] is not b.value:
        return
    specs = tuple([v.spec for v in node.inputs])
    primitive.pairs[specs] = intern_entry(primitive.table, primitive, node.entry.params, specs)


op.attach_operators(Tensor)
for _name, _primitive in _FAST.items():
    _function = op.BINARY.get(_name) or op.COMPARE[_name]
    setattr(Tensor, f"__{_name}__", _fast(f"__{_name}__", _primitive, _function))
