"""The operators of a tensor that are used most, generated from one text.

This is the hot path: recording `x * y` makes one node, one value and one handle, and computes
nothing. The rest of the operators are those of `ops/operators.py`.
"""

from __future__ import annotations

from sys import _getframe
from typing import Any, Final
from weakref import ref

from proa.graph.entry import intern_entry
from proa.graph.node import Node, Value
from proa.ops import arithmetic as ar
from proa.ops import functions as fn
from proa.ops import operators as op
from proa.ops.contraction import dot
from proa.record.boundary import overflow
from proa.record.live import caller, inside_table, thread
from proa.tensor import Tensor

_RECORD: Final = """
    entry = {found}
    state = thread.state
    if entry is None or state.mode:
        return slow({arguments})
    frame = _getframe(1)
    code = frame.f_code
    where = caller(2) if inside.get(code.co_filename, True) else (code, frame.f_lasti)
    made = Tensor(Value(Node(entry.plain, ({values},), where, state.scope), 0, entry.out))
    handles = state.handles
    handles.append(ref(made))
    if len(handles) > state.limit:
        overflow(state)
    return made
"""
_BINARY: Final = """
def {name}(a, b):
    va = a.value
    if type(b) is Tensor:
        vb = b.value
    else:
        of = va.spec.scalars.get(type(b))
        if of is None:
            return slow(a, b)
        vb = Value(None, 0, of, b)
""" + _RECORD.format(found="entries.get((va.spec, vb.spec))", arguments="a, b", values="va, vb")
_REFLECTED: Final = """
def {name}(b, a):
    vb = b.value
    of = vb.spec.scalars.get(type(a))
    if of is None:
        return slow(b, a)
    va = Value(None, 0, of, a)
""" + _RECORD.format(found="entries.get((va.spec, vb.spec))", arguments="b, a", values="va, vb")
_UNARY: Final = """
def {name}(x, /, **options):
    if type(x) is not Tensor or options:
        return slow(x, **options)
    v = x.value
""" + _RECORD.format(found="entries.get(v.spec)", arguments="x", values="v")

_FAST: Final = {
    "add": ar.add, "sub": ar.sub, "mul": ar.mul, "truediv": ar.div, "eq": ar.eq, "lt": ar.lt,
    "le": ar.le, "matmul": dot,
}  # fmt: skip


def _made(text: str, name: str, entries: Any, slow: Any) -> Any:
    """The function of a text; `slow` does everything that is not the plain case."""
    space = {
        "Tensor": Tensor, "Value": Value, "Node": Node, "entries": entries, "slow": slow,
        "thread": thread, "ref": ref, "_getframe": _getframe, "inside": inside_table,
        "caller": caller, "overflow": overflow,
    }  # fmt: skip
    exec(compile(text.format(name=name), __file__, "exec"), space)  # noqa: S102
    return space[name]


def fast_unary(name: str, primitive: Any, slow: Any) -> Any:
    """A function of one tensor that applies a primitive; `slow` checks everything else."""
    return _made(_UNARY, name, primitive.singles, slow)


def _fast(text: str, name: str, primitive: Any, general: Any, flip: bool) -> Any:
    def slow(a: Any, b: Any) -> Any:
        found = general(a, b)
        if type(found) is Tensor and found.value.node is not None:
            first, second = (b, a) if flip else (a, b)
            _remember(primitive, found.value.node, first, second)
        return found

    return _made(text, name, primitive.pairs, slow)


def _remember(primitive: Any, node: Node, a: Any, b: Any) -> None:
    """The entry for these two specs, where the operands went in as they are."""
    if node.entry.primitive is not primitive:
        return
    for operand, value in zip((a, b), node.inputs, strict=True):
        if type(operand) is Tensor and operand.value is not value:
            return
    specs = tuple([v.spec for v in node.inputs])
    primitive.pairs[specs] = intern_entry(primitive.table, primitive, node.entry.params, specs)


op.attach_operators(Tensor)
for _name, _primitive in _FAST.items():
    _function = op.BINARY.get(_name) or op.COMPARE[_name]
    _general = op._forward(_function)
    setattr(Tensor, f"__{_name}__", _fast(_BINARY, f"__{_name}__", _primitive, _general, False))
    if _name in op.BINARY:
        _general = op._backward(_function)
        _own = _fast(_REFLECTED, f"__r{_name}__", _primitive, _general, True)
        setattr(Tensor, f"__r{_name}__", _own)
Tensor.__neg__ = fast_unary("__neg__", fn.neg, fn.neg)  # type: ignore[method-assign]
