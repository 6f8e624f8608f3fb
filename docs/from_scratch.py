"""Proa from scratch: record, backward and replay, rebuilt from nothing but NumPy.

1. Operations: what each computes, its derivative, its transpose.
2. Values and handles: an operation is recorded, not run. A tensor is a handle on a value.
3. Programs: pending work is a graph of integers, which is its own key in a cache of programs.
4. Derivatives: forward mode is one rule an operation, reverse mode is its transposition.
5. Replay: a function is recorded once, then run without its Python; what it assigned is state.
6. A network that tells two spirals apart: the same bits, recorded at each step or replayed.

The package is this, with all that makes it fast, safe and complete.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from itertools import count
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]

# 1. Operations. Rules are written with tensors: a derivative is made of operations again.


class Op(NamedTuple):
    """One operation: all that is mathematical about it."""

    name: str
    compute: Callable[..., Any]  # on arrays
    shape: Callable[..., Shape]  # of the result, from those of the operands
    jvp: Any  # (operands, result, tangents) -> tangent; None: it is linear in each operand alone
    transpose: Any = None  # (ct, operands, i) -> ct of operand i, where it is linear


def plus(a: Any, b: Any) -> Any:
    """a + b where None is zero."""
    return a + b if a is not None and b is not None else b if a is None else a


def summed(x: Any, shape: Shape) -> Any:
    """x added up over the axes along which `shape` would be repeated."""
    lead = x.ndim - len(shape)
    axes = [i for i, n in enumerate(x.shape) if i < lead or n != shape[i - lead]]
    return x.sum(axis=tuple(axes)).reshape(shape)


OPS = {op.name: op for op in (
    Op("add", np.add, lambda a, b: a, lambda xs, y, dxs: plus(*dxs), lambda ct, xs, i: ct),
    Op("mul", np.multiply, lambda a, b: a, None, lambda ct, xs, i: ct * xs[1 - i]),
    Op("matmul", np.matmul, lambda a, b: (a[0], b[1]), None,
       lambda ct, xs, i: ct @ xs[1].T if i == 0 else xs[0].T @ ct),
    Op("turn", np.transpose, lambda a: a[::-1], None, lambda ct, xs, i: ct.T),
    Op("repeat", np.broadcast_to, lambda a, shape: shape, None,
       lambda ct, xs, i, shape: apply("sum", ct, shape=xs[0].shape)),
    Op("sum", summed, lambda a, shape: shape, None,
       lambda ct, xs, i, shape: apply("repeat", ct, shape=xs[0].shape)),
    Op("exp", np.exp, lambda a: a, lambda xs, y, dxs: dxs[0] * y),
    Op("log", np.log, lambda a: a, lambda xs, y, dxs: dxs[0] / xs[0]),
    Op("tanh", np.tanh, lambda a: a, lambda xs, y, dxs: dxs[0] - dxs[0] * y * y),
    Op("inverse", np.reciprocal, lambda a: a, lambda xs, y, dxs: dxs[0] * y * y * -1.0),
)}  # fmt: skip


# 2. Values and handles.

SERIAL = count()  # the order of recording


class Value:
    """A result: computed (it has an array), pending (it has an operation), or a placeholder
    (neither). `taped`: 1 where a derivative may pass through it, 2 where the tape begins."""

    def __init__(self, shape: Shape, array: Any = None, op: str = "", inputs: Any = (),
                 params: Any = (), taped: int = 0) -> None:  # fmt: skip
        self.op, self.inputs, self.params = op, inputs, params
        self.shape, self.array, self.taped = shape, array, taped
        self.serial = next(SERIAL)


class Tensor:
    """A handle on a value. Assigning puts another value into the handle; values never change."""

    def __init__(self, value: Value) -> None:
        self.value, self.grad, self.serial = value, None, next(SERIAL)
        LIVE.add(self)

    def assign(self, new: Tensor) -> None:
        """The handle holds another value; a tape that begins at it begins there again."""
        if RECORDING:
            RECORDING[-1].wrote(self, new)
        self.value = begun(new.value) if self.value.taped == 2 else new.value

    def numpy(self) -> Any:
        """Reading is what makes pending work run."""
        if self.value.array is None:
            compute()
        return self.value.array


for _name, _rule in {
    "shape": property(lambda x: x.value.shape),
    "T": property(lambda x: apply("turn", x)),
    "sum": lambda x, *shape: apply("sum", x, shape=shape),
    "__add__": lambda x, y: apply("add", *aligned(x, y)),
    "__mul__": lambda x, y: apply("mul", *aligned(x, y)),
    "__sub__": lambda x, y: x + tensor(y) * -1.0,
    "__truediv__": lambda x, y: x * apply("inverse", tensor(y)),
    "__matmul__": lambda x, y: apply("matmul", x, y),
}.items():
    setattr(Tensor, _name, _rule)

LIVE: weakref.WeakSet[Tensor] = weakref.WeakSet()  # the one queue: handles that somebody holds
RECORDING: list[Recording] = []


def tensor(given: Any, taped: int = 0) -> Tensor:
    """A number is an input of a program like any array: another number makes no new program."""
    if isinstance(given, Tensor):
        return given
    array = np.asarray(given, np.float32)
    return Tensor(Value(array.shape, array, taped=taped))


def aligned(*given: Any) -> list[Tensor]:
    """Operands in one shape: broadcasting is an operation of its own."""
    xs = [tensor(x) for x in given]
    shape = np.broadcast_shapes(*[x.shape for x in xs])
    return [x if x.shape == shape else apply("repeat", x, shape=shape) for x in xs]


def apply(name: str, *operands: Tensor, **params: Any) -> Tensor:
    """Records one operation."""
    if RECORDING:
        RECORDING[-1].read(*operands)
    inputs = tuple([o.value for o in operands])
    shape = OPS[name].shape(*[v.shape for v in inputs], **params)
    taped = any(v.taped for v in inputs)
    return Tensor(Value(shape, None, name, inputs, tuple(params.items()), int(taped)))


exp, log, tanh = [partial(apply, name) for name in ("exp", "log", "tanh")]


def begun(v: Value) -> Value:
    """The same value where a tape begins."""
    return Value(v.shape, None, "repeat", (v,), (("shape", v.shape),), taped=2)


# 3. Programs.


class Graph(NamedTuple):
    """A pure function as integers: slots are inputs, then one a step. Equal by structure."""

    inputs: tuple[Shape, ...]
    steps: tuple[tuple[str, tuple[int, ...], Any], ...]  # operation, slots, parameters
    outputs: tuple[int, ...]


def graph_of(outputs: Sequence[Value], inputs: Sequence[Value] = ()) -> tuple[Graph, list[Value]]:
    """The graph that computes `outputs`, and the values of its inputs: those that are given, then
    all that is read beside them. No recursion: it may be a million steps deep."""
    found, stack = set(), list(outputs)
    while stack:
        v = stack.pop()
        if v not in found and v not in inputs and v.op and v.array is None:
            found.add(v)
            stack += v.inputs
    steps = sorted(found, key=lambda v: v.serial)
    read = [v for v in (*[x for s in steps for x in s.inputs], *outputs) if v not in found]
    leaves = list(dict.fromkeys([*inputs, *read]))
    number = {v: i for i, v in enumerate([*leaves, *steps])}
    rows = tuple([(v.op, tuple([number[x] for x in v.inputs]), v.params) for v in steps])
    shapes = tuple([v.shape for v in leaves])
    return Graph(shapes, rows, tuple([number[v] for v in outputs])), leaves


@lru_cache(maxsize=512)
def program(graph: Graph) -> Callable[[Sequence[Any]], list[Any]]:
    """What runs a graph: found again by its structure. (Proa compiles machine code here.)"""
    table = [(OPS[op].compute, slots, dict(params)) for op, slots, params in graph.steps]

    def run(arrays: Sequence[Any]) -> list[Any]:
        slots = list(arrays)
        for function, operands, params in table:
            slots.append(function(*[slots[s] for s in operands], **params))
        return [slots[o] for o in graph.outputs]

    return run


def compute() -> None:
    """Runs all pending work that somebody can still see, as one program."""
    assert not RECORDING, "[read] given a tensor while a function is recorded"
    pending = {t.value for t in LIVE if t.value.op and t.value.array is None}
    values = sorted(pending, key=lambda v: v.serial)
    if not values:
        return
    graph, leaves = graph_of(values)
    for v, v.array in zip(values, program(graph)([x.array for x in leaves]), strict=True):
        if v.taped != 1:  # no derivative passes: it forgets what it was made from
            v.op, v.inputs = "", ()


# 4. Derivatives.


def backwards(out: Value, ends: Sequence[Value], ct: Any, rule: Callable[..., Any]) -> list[Any]:
    """Cotangents of `ends`. `rule(v, ct, places)` gives those of the operands of v at `places`;
    several uses of a value are added in the reverse order of recording."""
    seen, stack = {out}, [out]
    while stack:
        fresh = [x for x in stack.pop().inputs if x not in seen and x not in ends]
        seen.update(fresh)
        stack += fresh
    reached = dict.fromkeys(ends)
    for v in sorted(seen, key=lambda v: v.serial):
        if any(x in reached for x in v.inputs):
            reached[v] = None
    total = {out: ct}
    for v in list(reached)[: len(ends) - 1 : -1]:
        places = tuple([i for i, x in enumerate(v.inputs) if x in reached])
        for i, found in zip(places, rule(v, total.pop(v), places), strict=True):
            total[v.inputs[i]] = plus(total.get(v.inputs[i]), found)
    return [total[v] for v in ends]


@lru_cache(maxsize=512)
def pullback(name: str, params: Any, shapes: tuple[Shape, ...], places: tuple[int, ...]) -> Any:
    """The graph (operands, result, cotangent) -> cotangents of the operands at `places`: the rule
    for tangents is recorded; what is linear in them is walked backwards, each step transposed."""
    op, xs = OPS[name], [Tensor(Value(s)) for s in shapes]
    y, ct = [Tensor(Value(op.shape(*shapes, **dict(params)))) for _ in range(2)]
    dxs = [Tensor(Value(s)) if i in places else None for i, s in enumerate(shapes)]
    if op.jvp is None:  # of a b it is da b + a db
        ways = [apply(name, *xs[:i], dxs[i], *xs[i + 1 :], **dict(params)) for i in places]
    moved = reduce(plus, ways) if op.jvp is None else op.jvp(xs, y, dxs)

    def turned(v: Value, ct: Tensor, places: tuple[int, ...]) -> list[Any]:
        operands = [Tensor(x) for x in v.inputs]
        return [OPS[v.op].transpose(ct, operands, i, **dict(v.params)) for i in places]

    found = backwards(moved.value, [dxs[i].value for i in places], ct, turned)
    given = [t.value for t in (*xs, y, ct)]
    graph, leaves = graph_of([t.value for t in found], given)
    return graph, leaves[len(given) :]  # the numbers in it


def gradients(out: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of a number by each leaf, recorded like anything else."""

    def pulled(v: Value, ct: Tensor, places: tuple[int, ...]) -> list[Any]:
        graph, numbers = pullback(v.op, v.params, tuple([x.shape for x in v.inputs]), places)
        slots = [*[Tensor(x) for x in (*v.inputs, v)], ct, *[Tensor(n) for n in numbers]]
        for op, operands, params in graph.steps:
            slots.append(apply(op, *[slots[s] for s in operands], **dict(params)))
        return [slots[o] for o in graph.outputs]

    return backwards(out.value, [t.value for t in leaves], tensor(1.0), pulled)


def grad(function: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """The derivative of a function of one tensor; `grad(grad(f))` is the second one."""

    def slope(x: Tensor) -> Tensor:
        outer = x.value.taped  # then the derivative around this one goes through it
        inner = apply("repeat", x, shape=x.shape) if outer else Tensor(begun(x.value))
        return gradients(function(inner), [inner])[0]

    return slope


def backward(loss: Tensor, leaves: Sequence[Tensor]) -> None:
    """Puts the gradient into `.grad` of each leaf, one handle for its whole life. The tape is let
    go: what was recorded forgets what it was made from, once it is computed."""
    found = gradients(loss, leaves)
    stack = [t.value for t in (loss, *found)]
    while stack:
        v = stack.pop()
        if v.taped == 1:
            stack += v.inputs
            v.taped, v.inputs = 0, v.inputs if v.array is None else ()
    for leaf, g in zip(leaves, found, strict=True):
        leaf.grad = leaf.grad or Tensor(g.value)
        leaf.grad.assign(g)


# 5. Replay.


class Recording:
    """What a function read and wrote beside its own results, logged while it runs."""

    def __init__(self) -> None:
        self.start = next(SERIAL)
        self.handles: dict[Value, Tensor] = {}  # of values that were read: who holds them
        self.before: dict[Tensor, Value] = {}  # what handles held that were assigned

    def read(self, *handles: Tensor) -> None:
        for t in handles:
            if t.serial < self.start or not t.value.op:
                self.handles.setdefault(t.value, t)

    def wrote(self, handle: Tensor, new: Tensor) -> None:
        self.read(handle, new)
        if handle.serial < self.start:
            self.before.setdefault(handle, handle.value)


class Replayed:
    """A function whose first call runs as it is (state that is made lazily settles), whose second
    is recorded. Inputs of the program are handles, not arrays: never stale."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 1:
            return self.function(*args)
        compute()
        if self.calls == 2:
            self.record(args)
        result, *states = self.run([t.value.array for t in (*args, *self.captured)])
        for handle, array in zip(self.state, states, strict=True):
            handle.value = Value(array.shape, array, taped=handle.value.taped)
        return tensor(result)

    def record(self, args: Sequence[Tensor]) -> None:
        places, recording = [Tensor(Value(t.shape)) for t in args], Recording()
        RECORDING.append(recording)
        try:
            result = self.function(*places)
            self.state = list(recording.before)
            outputs = [t.value for t in (result, *self.state)]
        finally:
            RECORDING.pop()
            for handle, value in recording.before.items():
                handle.value = value
        lost = [t for t in LIVE if t.serial > recording.start and t.value.op and t is not result]
        assert not lost, "[replay] given a new tensor that is neither assigned nor returned"
        graph, leaves = graph_of(outputs, [t.value for t in places])
        self.captured = [recording.handles[v] for v in leaves[len(places) :]]
        self.run = program(graph)


# 6. A network that learns.


class Net:
    """Layers with tanh between them, and a momentum for each parameter."""

    def __init__(self, *sizes: int) -> None:
        rng = np.random.default_rng(1)
        normal = [rng.normal(size=s) for s in zip(sizes, sizes[1:], strict=False)]
        weights = [tensor(w / np.sqrt(len(w)), taped=2) for w in normal]
        self.layers = [(w, tensor(np.zeros(w.shape[1]), taped=2)) for w in weights]
        self.parameters = [p for layer in self.layers for p in layer]
        self.momenta = [tensor(np.zeros(p.shape)) for p in self.parameters]

    def __call__(self, x: Tensor) -> Tensor:
        for i, (w, b) in enumerate(self.layers):
            x = (tanh(x) if i else x) @ w + b
        return x

    def step(self, x: Tensor, target: Tensor) -> Tensor:
        """One step of training on the cross entropy; its value before."""
        scores, number = self(x), x.shape[0]
        loss = (log(exp(scores).sum(number, 1)).sum() - (scores * target).sum()) / number
        backward(loss, self.parameters)
        for p, m in zip(self.parameters, self.momenta, strict=True):
            m.assign(m * 0.9 + p.grad)
            p.assign(p - m * 0.1)
        return loss


def main(steps: int = 1000) -> dict[str, Any]:
    """Learns to tell two spirals apart, twice, and compares every loss and parameter."""
    side, turn = np.arange(200) % 2, np.linspace(0.3, 1.0, 200) * 7
    angle = turn + np.pi * side
    x = tensor(np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / 3)
    target, found = tensor(np.eye(2)[side]), []
    for replayed in (False, True):
        net = Net(2, 24, 24, 2)
        step = Replayed(net.step) if replayed else net.step
        losses = [step(x, target).numpy().item() for _ in range(steps)]
        found.append((losses, [p.numpy().tobytes() for p in net.parameters]))
    right = (net(x).numpy().argmax(axis=1) == side).mean()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.4f}, {right:.1%} of the points are told apart")
    print("recorded and replayed, equal in every bit:", found[0] == found[1])
    return {"right": right, "equal": found[0] == found[1]}


if __name__ == "__main__":
    main()
