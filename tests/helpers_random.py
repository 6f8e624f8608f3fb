"""Random graphs for backends: any operation on any shapes and dtypes, with operands; and what they
mean, bit by bit where all operations are exact, else within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, final

import numpy as np
from hypothesis import strategies as st

import proa.ops.composite as cp
from proa import dtypes
from proa.conformance.cases import arity, hard_numbers
from proa.conformance.judge import SLACK, STRICT, Judged, exactly, judge_step, verdict
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.rewrite import splice
from proa.graph.spec import spec
from proa.ops.expand import flat, nothing
from proa.ops.movement import pad
from proa.ops.primitive import EXACT, FLOAT, REAL, REGISTRY, apply
from proa.transforms.reverse import gradient_graph

FLOATS = ("float32", "float32", "float64", "bfloat16", "float16")
INTS = ("int64", "int32", "int32", "uint8", "int8", "uint32", "int16", "uint16", "uint64")
STORED = ("float8_e4m3fn", "float8_e5m2", "complex64", "complex128")  # moved and cast only
SIZES = (1, 2, 3, 5, 7, 16, 17, 33, 130)
NDIMS = (0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8)
AXES = 8
MOST, MANY = 3_000, 60_000  # elements of a result; in a large graph
ELEMENTWISE = {
    n: tuple(p for p in REGISTRY.values() if p.family.name == "elementwise" and not p.params
             and p.meaning is not None and arity(p) == n)
    for n in (1, 2)
}  # fmt: skip


class Drawn(NamedTuple):
    """A graph with operands. Its first results are the forward pass, the others gradients."""

    graph: Graph
    arrays: list[Any]
    is_large: bool

    def __repr__(self) -> str:
        slots = [f"{s!r}" for s in self.graph.slot_specs()]
        lines, slot = [f"v{i}: {s}" for i, s in enumerate(slots[: self.graph.first_step_slot])], 0
        slot = self.graph.first_step_slot
        for step in self.graph.steps:
            operands = ", ".join(f"v{s}" for s in step.slots)
            lines.append(f"v{slot} = {step.entry.primitive.name}({operands}) {step.entry!r:.200}")
            slot += len(step.entry.outs)
        return "\n".join(["", *lines, f"return {self.graph.outputs}"])


@final
class Drawing:
    """A graph in the making: what hypothesis decides, values so far, arrays of the inputs."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.float = dtypes.dtype(self.pick(FLOATS))
        self.int = dtypes.dtype(self.pick(INTS))
        self.is_large = self.chance(12)
        self.most = MANY if self.is_large else MOST
        self.is_hard = self.chance(4)
        self.has_zero = self.chance(10)
        self.rng = np.random.default_rng(self.number(0, 999))
        self.builder = Builder()
        self.values: list[Any] = []
        self.arrays: list[Any] = []

    # Decisions; the simplest comes first.

    def pick(self, among: Sequence[Any]) -> Any:
        return among[self.draw(st.integers(0, len(among) - 1))]

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self, one_in: int) -> bool:
        return self.number(0, one_in - 1) == one_in - 1

    def some(self, n: int) -> tuple[int, ...]:
        """Some of the numbers below n, ascending."""
        bits = self.number(0, 2**n - 1)
        return tuple(i for i in range(n) if bits >> i & 1)

    def order(self, n: int) -> tuple[int, ...]:
        return tuple(self.draw(st.permutations(range(n))))

    # Inputs.

    def shape(self, ndim: int) -> tuple[int, ...]:
        sizes: list[int] = []
        for _ in range(ndim):
            n = self.pick(SIZES if ndim < 5 else SIZES[:3])
            sizes.append(n if prod(sizes) * n <= self.most else 1)
        if self.is_large and ndim and prod(sizes) < 300:
            sizes[self.number(0, ndim - 1)] = self.pick((151, 4099, 30011)) if ndim < 3 else 151
            sizes = sizes if prod(sizes) <= self.most else [1] * (ndim - 1) + [4099]
        if self.has_zero and ndim and self.chance(2):
            sizes[self.number(0, ndim - 1)] = 0
        return tuple(sizes)

    def input(self, shape: Any, dtype: Any, low: Any = None, high: Any = None) -> Any:
        if low is not None:
            array = np.asarray(self.rng.integers(low, high, shape))
        elif dtype.kind == "bool":
            array = self.rng.integers(0, 2, shape) > 0
        elif dtype.kind == "int":
            info = dtypes.iinfo(dtype)
            ends = (info.min, info.max) if self.is_hard else (max(info.min, -9), 9)
            array = self.rng.integers(*ends, shape, dtype.numpy, endpoint=True)
        else:
            array = np.asarray(self.rng.uniform(-3, 3, shape))
            if self.is_hard and dtype in FLOAT:
                numbers = hard_numbers(dtype).astype(np.float64)
                array = np.where(
                    self.rng.random(shape) < 0.1, self.rng.choice(numbers, shape), array
                )
        with np.errstate(all="ignore"):
            self.arrays.append(np.asarray(array).astype(dtype.numpy))
        return self.builder.input(spec(tuple(shape), dtype))

    def inputs(self) -> None:
        base = self.shape(self.pick(NDIMS))
        for _ in range(self.number(1, 4)):
            ones = self.some(len(base)) if self.chance(2) else ()
            shape = [1 if i in ones else n for i, n in enumerate(base)]
            shape = shape[self.number(0, len(shape)) if self.chance(3) else 0 :]
            if self.chance(5):
                shape = list(self.shape(self.pick(NDIMS)))
            dtype = self.float if not self.chance(3) else self.int
            if self.chance(8):
                dtype = self.pick([dtypes.bool_, *map(dtypes.dtype, ("float32", *STORED))])
            self.values.append(self.input(shape, dtype))

    # Steps.

    def operand(self) -> Any:
        return self.values[-1 - min(self.number(0, 5), len(self.values) - 1)]

    def beside(self, x: Any) -> Any:
        """A value of the same dtype that broadcasts with it."""
        found = [v for v in self.values if v.spec.dtype is x.spec.dtype and self.meets(v, x)]
        return self.pick(found)

    def meets(self, a: Any, b: Any) -> bool:
        try:
            return prod(np.broadcast_shapes(a.spec.shape, b.spec.shape)) <= self.most
        except ValueError:
            return False

    def fits(self, *shape: int) -> bool:
        return len(shape) <= AXES and prod(shape) <= self.most

    def step(self) -> None:
        kind = self.pick(KINDS)
        found = kind(self, self.operand())
        found = found if isinstance(found, (tuple, list)) else (found,)
        self.values += [v.value for v in found if v is not None]


def unary(d: Drawing, x: Any) -> Any:
    fits = [p for p in ELEMENTWISE[1] if x.spec.dtype in p.accepts]
    if not fits:
        return None
    primitive = d.pick(fits)
    if primitive.accuracy is not EXACT and d.chance(2):
        x = apply(REGISTRY["tanh"], [x])
    return apply(primitive, [x])


def binary(d: Drawing, x: Any) -> Any:
    fits = [p for p in ELEMENTWISE[2] if x.spec.dtype in p.accepts]
    return apply(d.pick(fits), [x, d.beside(x)]) if fits else None


def keep(d: Drawing, x: Any) -> Any:
    return apply(REGISTRY["keep"], [x], number=0)


def number(d: Drawing, x: Any) -> Any:
    """With a Python number, which becomes a 0-d input or constant."""
    if x.spec.dtype not in FLOAT:
        return None
    one = d.builder.number(d.pick((0.5, 2.0, -1.0, 0.3)), spec((), x.spec.dtype))
    return apply(REGISTRY[d.pick(("add", "mul", "sub", "div", "maximum"))], [x, one])


def choice(d: Drawing, x: Any) -> Any:
    masks = [v for v in d.values if v.spec.dtype is dtypes.bool_ and d.meets(v, x)]
    y = d.beside(x)
    if masks and d.chance(2):
        mask = d.pick(masks)
    elif x.spec.dtype.name in STORED:
        return None
    else:
        mask = apply(REGISTRY[d.pick(("lt", "le", "eq"))], [x, y])
    return apply(REGISTRY["select"], [mask, x, y]) if d.meets(mask, y) else None


def cast(d: Drawing, x: Any) -> Any:
    goals = [d.float, d.float, d.int, dtypes.float32, dtypes.int32, dtypes.bool_]
    goals += [dtypes.dtype(d.pick(STORED))] if d.chance(8) else []
    goals = goals if x.spec.dtype.kind != "complex" else [dtypes.complex64, dtypes.complex128]
    return apply(REGISTRY["cast"], [x], dtype=d.pick(goals), weak=False)


def bitcast(d: Drawing, x: Any) -> Any:
    bits = x.spec.dtype.bits
    goals = [t for t in dtypes.ALL if t.bits == bits and t in (*FLOAT, d.int, dtypes.int32)]
    goals = [t for t in goals if x.spec.dtype in FLOAT or x.spec.dtype.kind == "int"]
    return apply(REGISTRY["bitcast"], [x], dtype=d.pick(goals)) if goals else None


def reduction(d: Drawing, x: Any) -> Any:
    shape = x.spec.shape
    primitive = REGISTRY[d.pick(("sum", "sum", "max", "min", "argmax"))]
    axes = d.some(len(shape)) or tuple(range(len(shape)))[-1:]
    axes = axes[:1] if primitive.name == "argmax" else axes
    if x.spec.dtype not in primitive.accepts or (primitive.name == "argmax" and not axes):
        return None
    if primitive.name != "sum" and not all(shape[a] for a in axes):
        return None
    total = apply(primitive, [x], axes=axes)
    if not d.chance(2):
        return total
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return apply(REGISTRY["reshape"], [total], shape=kept)  # that meets x again


def along(d: Drawing, x: Any) -> Any:
    primitive = REGISTRY[d.pick(("cumsum", "cumsum", "sort"))]
    if not x.spec.ndim or x.spec.dtype not in primitive.accepts:
        return None
    options = {"axis": d.number(0, x.spec.ndim - 1)}
    if primitive.name == "cumsum":
        options["reverse"] = d.chance(2)
    return apply(primitive, [x], **options)


# Movement.


def move(d: Drawing, x: Any) -> Any:
    return d.pick(MOVES)(d, x, x.spec.shape)


def _permute(d: Drawing, x: Any, shape: Any) -> Any:
    return apply(REGISTRY["permute"], [x], axes=d.order(len(shape)))


def _reshape(d: Drawing, x: Any, shape: Any) -> Any:
    goal = list(shape)
    for _ in range(d.number(1, 3)):
        i = d.number(0, len(goal))
        if i < len(goal) - 1 and d.chance(2):
            goal[i : i + 2] = [goal[i] * goal[i + 1]]
        elif i < len(goal) and len(goal) < AXES and goal[i] > 1:
            n = next(k for k in (2, 3, 5, 7, 11, goal[i]) if goal[i] % k == 0)
            goal[i : i + 1] = [n, goal[i] // n]
        elif len(goal) < AXES:
            goal.insert(i, 1)
    return apply(REGISTRY["reshape"], [x], shape=tuple(goal))


def _broadcast(d: Drawing, x: Any, shape: Any) -> Any:
    goal = [d.pick((1, 2, 3, 17)) if n == 1 and d.chance(2) else n for n in shape]
    axes = list(range(len(goal)))
    for _ in range(d.number(0, 2)):
        i = d.number(0, len(goal))
        goal.insert(i, d.pick((1, 2, 5)))
        axes = [a + (a >= i) for a in axes]
    if not d.fits(*goal):
        return None
    return apply(REGISTRY["broadcast"], [x], shape=tuple(goal), axes=tuple(axes))


def _slice(d: Drawing, x: Any, shape: Any) -> Any:
    rows = []
    for n in shape:
        first = d.number(0, min(n, 3))
        rows.append((first, d.number(max(first, n - 3), n), d.pick((1, 1, 2, 3))))
    starts, stops, strides = zip(*rows, strict=True) if rows else ((), (), ())
    return apply(REGISTRY["slice"], [x], starts=starts, stops=stops, strides=strides)


def _flip(d: Drawing, x: Any, shape: Any) -> Any:
    return apply(REGISTRY["flip"], [x], axes=d.some(len(shape)))


def _pad(d: Drawing, x: Any, shape: Any) -> Any:
    rows = [(d.pick((0, 1, 3, -1)), d.pick((0, 1, 2, -1)), d.pick((0, 0, 0, 1, 2))) for _ in shape]
    sizes = [n + a + b + max(0, n - 1) * k for n, (a, b, k) in zip(shape, rows, strict=True)]
    if not d.fits(*sizes) or any(n < 0 for n in sizes):
        return None
    low, high, interior = zip(*rows, strict=True) if rows else ((), (), ())
    fills = [v for v in d.values if v.spec.dtype is x.spec.dtype and not v.spec.ndim]
    value = d.pick(fills) if fills and d.chance(2) else None
    return pad(x, value, low=low, high=high, interior=interior)


def _concatenate(d: Drawing, x: Any, shape: Any) -> Any:
    if not shape:
        return None
    axis = d.number(0, len(shape) - 1)
    alike = [v for v in d.values if v.spec.dtype is x.spec.dtype and v.spec.ndim == len(shape)
             and all(a == b or i == axis
                     for i, (a, b) in enumerate(zip(v.spec.shape, shape, strict=True)))]  # fmt: skip
    parts = [x] + [d.pick(alike) for _ in range(d.number(1, 3))]
    total = sum(p.spec.shape[axis] for p in parts)
    goal = [total if i == axis else n for i, n in enumerate(shape)]
    return apply(REGISTRY["concatenate"], parts, axis=axis) if d.fits(*goal) else None


MOVES = (_permute, _slice, _reshape, _broadcast, _flip, _pad, _concatenate)


# Products, indices, windows.


def product(d: Drawing, x: Any) -> Any:
    if x.spec.dtype not in REGISTRY["dot"].accepts:
        return None
    y = d.pick([v for v in d.values if v.spec.dtype is x.spec.dtype])
    a, letters = "abcdefgh"[: x.spec.ndim], list("abcdefgh"[: x.spec.ndim])
    b, sizes = "", dict(zip(a, x.spec.shape, strict=True))
    for n, new in zip(y.spec.shape, "pqrstuvw", strict=False):
        shared = [c for c in letters if sizes[c] == n]
        letter = d.pick(shared) if shared and not d.chance(5) else new
        letters = [c for c in letters if c != letter]
        b, sizes[letter] = b + letter, n
    both = [c for c in a if c in b]
    summed = [c for c in both if d.number(0, 3)] if len(both) > 1 else both
    out = "".join(c for c in dict.fromkeys(a + b) if c not in summed)
    out = "".join(out[i] for i in d.order(len(out)))
    if not d.fits(*[sizes[c] for c in out]) or prod(sizes.values()) > 30 * d.most:
        return None
    return apply(REGISTRY["dot"], [x, y], a=a, b=b, out=out)


def conv(d: Drawing, x: Any) -> Any:
    if x.spec.ndim != 3 or x.spec.dtype not in FLOAT or not all(x.spec.shape):
        return None
    n, c, w = x.spec.shape
    k = d.number(1, min(3, w))
    if not d.fits(n, 2, w):
        return None
    weight = d.input((2, c, k), x.spec.dtype)
    return apply(REGISTRY["conv"], [x, weight], strides=(d.number(1, 2),), padding=((0, 1),),
                 x_dilation=(1,), w_dilation=(1,), groups=1)  # fmt: skip


def indexed(d: Drawing, x: Any) -> Any:
    """Elements read or written where indices say, some of them outside."""
    shape = x.spec.shape
    if not shape:
        return None
    batch = d.number(1, len(shape) - 1) if len(shape) > 1 and d.chance(3) else 0
    axes = tuple(batch + i for i in d.some(len(shape) - batch)[:2]) or (batch,)
    lead = [*shape[:batch], *[d.pick((1, 2, 5, 9, 40)) for _ in range(d.number(0, 2))]]
    rest = [n for i, n in enumerate(shape) if i >= batch and i not in axes]
    if not d.fits(*lead, *rest):
        return None
    dtype = dtypes.dtype(d.pick(("int64", "int64", "int32", "uint8", "int16")))
    beyond = 2 if d.chance(3) else 0
    ends = [(-beyond if dtype.signed else 0, min(shape[a] + beyond, 200)) for a in axes]
    places = [d.input(lead, dtype, low, max(high, low + 1)) for low, high in ends]
    read = apply(REGISTRY["gather"], [x, *places], axes=axes, batch=batch)
    if d.chance(2):
        return read
    modes = ["set"] + ["add"] * 2 * (x.spec.dtype in REGISTRY["sum"].accepts)
    modes += ["max", "min"] if x.spec.dtype in REGISTRY["max"].accepts else []
    new = read if d.chance(3) else d.input(read.spec.shape, x.spec.dtype)
    return apply(REGISTRY["scatter"], [x, new, *places], axes=axes, batch=batch, mode=d.pick(modes))


def window(d: Drawing, x: Any) -> Any:
    shape = x.spec.shape
    axes = d.some(len(shape)) or tuple(range(len(shape)))[:1]
    if not axes:
        return None
    strides = tuple(d.pick((1, 1, 2, 3)) for _ in axes)
    sizes = tuple(d.number(0, -(-shape[a] // s)) for a, s in zip(axes, strides, strict=True))
    starts = [d.input((), dtypes.int64, -2, shape[a] + 2) for a in axes]
    part = apply(REGISTRY["dynamic_slice"], [x, *starts], axes=axes, sizes=sizes, strides=strides)
    if d.chance(2):
        return part
    if d.chance(2):
        part = d.input(part.spec.shape, x.spec.dtype)
        starts = [d.input((), dtypes.int64, -2, shape[a] + 2) for a in axes]
    return apply(REGISTRY["dynamic_update"], [x, part, *starts], axes=axes, strides=strides)


def made(d: Drawing, x: Any) -> Any:
    """From nothing but a shape, or from a random state."""
    shape = x.spec.shape
    if d.chance(2):
        lead = (2,) if d.fits(2, *shape) and d.chance(3) else ()
        words = d.input((*lead, 4), dtypes.uint32, 0, 2**32)
        if d.chance(3) and not lead:
            return cp.uniform(words, shape, d.float)
        return apply(REGISTRY["random_bits"], [words], shape=shape)
    dtype = d.pick([d.float, d.int, dtypes.int64])
    if not shape or (dtype.kind == "int" and max(shape) > dtypes.iinfo(dtype).max):
        return None
    return apply(REGISTRY["iota"], [], shape=shape, axis=d.number(0, len(shape) - 1), dtype=dtype)


# Composites.


def _weighted(d: Drawing, x: Any, function: Any, most: int) -> Any:
    n = x.spec.shape[-1]
    weights = [d.input((n,), x.spec.dtype) for _ in range(d.number(0, most))]
    return function(x, (n,), *weights)


def _classes(d: Drawing, x: Any) -> Any:
    if x.spec.ndim != 2:
        return None
    target = d.input(x.spec.shape[:1], dtypes.int64, 0, x.spec.shape[1])
    reduction = d.pick(("mean", "sum", "none"))
    return cp.cross_entropy(x, target, reduction=reduction, label_smoothing=d.pick((0.0, 0.1)))


def _attention(d: Drawing, x: Any) -> Any:
    if x.spec.ndim < 3 or x.spec.size * x.spec.shape[-2] > d.most:
        return None
    alike = [v for v in d.values if v.spec is x.spec]
    return cp.attention(x, d.pick(alike), d.pick(alike), causal=d.chance(2))


def _linear(d: Drawing, x: Any) -> Any:
    k, n = x.spec.shape[-1], d.pick((1, 3, 8))
    if not d.fits(*x.spec.shape[:-1], n):
        return None
    return cp.linear(x, d.input((n, k), x.spec.dtype), d.input((n,), x.spec.dtype))


def _axis(d: Drawing, x: Any, name: str) -> Any:
    return getattr(cp, name)(x, axis=d.number(0, x.spec.ndim - 1))


COMPOSITES: tuple[Callable[[Drawing, Any], Any], ...] = (
    lambda d, x: _axis(d, x, "softmax"),
    lambda d, x: _axis(d, x, "log_softmax"),
    lambda d, x: _axis(d, x, d.pick(("mean", "var", "logsumexp"))),
    lambda d, x: _weighted(d, x, cp.layer_norm, 2),
    lambda d, x: _weighted(d, x, cp.rms_norm, 1),
    lambda d, x: cp.gelu(x, approximate=d.pick(("none", "tanh"))),
    lambda d, x: getattr(cp, d.pick(("relu", "sigmoid", "silu", "softplus", "elu")))(x),
    lambda d, x: cp.dropout(x, d.input((4,), dtypes.uint32, 0, 2**32), 0.3),
    lambda d, x: cp.embedding(x, d.input((d.pick((1, 4, 9)),), dtypes.int64, 0, x.spec.shape[0]))
    if d.fits(9, *x.spec.shape[1:]) else None,
    _classes, _attention, _linear,
)  # fmt: skip


def composite(d: Drawing, x: Any) -> Any:
    if x.spec.dtype not in FLOAT or not x.spec.ndim or not x.spec.size:
        return None
    return d.pick(COMPOSITES)(d, x)


KINDS = (
    *[binary] * 6, *[unary] * 3, *[move] * 6, *[reduction] * 3, *[composite] * 2, number, choice,
    *[cast] * 2, bitcast, *[product] * 2, *[indexed] * 2, window, along, made, conv, keep,
)  # fmt: skip


@st.composite
def graphs(draw: Any) -> Drawn:
    """A graph of up to 16 operations, some of its results, and gradients of a random scalar made
    of the float ones."""
    d = Drawing(draw)
    with use_sink(d.builder):
        d.inputs()
        for _ in range(d.number(3, 16)):
            d.step()
        outs = [d.values[-1], *[d.pick(d.values) for _ in range(d.number(0, 3))]]
    graph = d.builder.graph(outs)
    if d.chance(3):
        return Drawn(graph, d.arrays, d.is_large)
    return Drawn(*with_gradients(graph, d), d.is_large)


def with_gradients(graph: Graph, d: Drawing) -> tuple[Graph, list[Any]]:
    """The results, and the cotangents of all float inputs for random ones of float results."""
    places = [i for i, s in enumerate(graph.output_specs()) if s.dtype in FLOAT]
    wanted = tuple(i for i, one in enumerate(graph.inputs) if one.spec.dtype in FLOAT)
    if not places or not wanted:
        return graph, d.arrays
    scored = Graph(
        graph.inputs, graph.steps, tuple(graph.outputs[i] for i in places), graph.constants
    )
    back = gradient_graph(scored, wanted)
    builder = Builder(back.inputs, merge=True)
    values = builder.input_values()
    with use_sink(builder):
        outs = splice(builder, graph, values[: len(graph.inputs)]) + splice(builder, back, values)
    arrays = list(d.arrays)
    for one in back.inputs[len(arrays) :]:
        cotangent = np.asarray(d.rng.uniform(-1, 1, one.spec.shape))
        arrays.append(cotangent.astype(one.spec.dtype.numpy))
    return builder.graph([o.value for o in outs]), arrays


# What a graph means.


class Meant(NamedTuple):
    """The very bits, where only exact operations lead here; else a float64 value and a bound."""

    array: Any
    judged: Judged | None


def meant(graph: Graph, arrays: Sequence[Any], judges: bool = True) -> list[Meant]:
    """The results of a graph by the meanings. Without `judges` inexact ones are left open."""
    graph = flat(graph, keeps=nothing)
    slots = [Meant(a, exactly(a)) for a in map(np.asarray, arrays)]
    slots += [Meant(c.array, exactly(c.array)) for c in graph.constants]
    with np.errstate(all="ignore"):
        for step in graph.steps:
            entry, operands = step.entry, [slots[s] for s in step.slots]
            known = [o.array for o in operands if o.array is not None]
            if len(known) == len(operands) and _is_exact(entry, known):
                outs = entry.primitive.meaning(*known, **entry.named_params)
                outs = outs if isinstance(outs, tuple) else (outs,)
                slots += [Meant(np.asarray(o), exactly(o)) for o in outs]
            elif judges and _is_judged(entry) and all(o.judged for o in operands):
                judged = [o.judged for o in operands if o.judged]
                found = judge_step(entry, judged, STRICT)
                slots += [Meant(None, _open(entry, known, judged, j)) for j in found]
            else:
                slots += [Meant(None, None)] * len(entry.outs)
    return [slots[o] for o in graph.outputs]


def _is_judged(entry: Any) -> bool:
    return all(s.dtype in REAL for s in (*entry.ins, *entry.outs))


def _extremes(entry: Any) -> bool:
    return entry.named_params.get("mode", entry.primitive.name) in ("max", "min")


def _is_exact(entry: Any, arrays: Sequence[Any]) -> bool:
    """Whether a result has one possible value, bit by bit, signs of zeros included."""
    if not any(s.dtype in FLOAT for s in (*entry.ins, *entry.outs)):
        return True
    if entry.primitive.name == "bitcast":
        return entry.ins[0].dtype.kind == "int" or not np.isnan(arrays[0].astype(np.float64)).any()
    if _extremes(entry):  # which of two zeros is the larger is left open
        zero = [np.signbit(a[a == 0]) for a in arrays if dtypes.dtype(a.dtype) in FLOAT]
        return len({bool(s) for signs in zero for s in signs}) < 2
    sums = entry.primitive.accuracy.sums and entry.named_params.get("mode", "add") == "add"
    return not sums and entry.primitive.accuracy == EXACT or entry.named_params.get("mode") == "set"


def _open(entry: Any, known: Sequence[Any], operands: Sequence[Judged], found: Judged) -> Judged:
    """The sign of an extreme zero, and the bits of a NaN, may be any. Nothing is said where a box
    of operands is so wide that a function turns or jumps inside."""
    value, error = found
    name = entry.primitive.name
    if _extremes(entry) and value.dtype.kind == "f":
        error = np.where(value == 0, np.maximum(error, 5e-324), error)
    elif name == "bitcast" and known:
        error = np.where(np.isnan(known[0].astype(np.float64)), np.inf, error)
    elif name in ("sin", "cos"):
        error = np.where(operands[0].error > 0.5, np.inf, error)
    elif name == "pow" and value.dtype.kind == "f":
        (a, da), (_, db) = operands  # of negative numbers only whole powers are numbers
        error = np.where((a - da < 0) & (db > 0), np.inf, error)
    elif name == "rem" and value.dtype.kind == "f":
        (a, da), (b, db) = operands
        ends = [np.floor((a + i * da) / (b + j * db)) for i in (-1, 1) for j in (-1, 1)]
        settled = np.all([np.equal(e, ends[0]) for e in ends], axis=0) & (np.abs(b) > db)
        error = np.where(settled, error, np.inf)
    return Judged(value, np.asarray(error))


def unlike(found: Any, expected: Meant) -> str:
    """What is wrong with a result; empty if nothing is."""
    if expected.array is not None:
        return "" if same(found, expected.array) else first_difference(found, expected.array)
    if expected.judged is None:
        return ""
    return verdict(found, Judged(expected.judged.value, SLACK * expected.judged.error))


def same(a: Any, b: Any) -> bool:
    """Equal bits, signs of zeros included; only what a NaN carries is free."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    if a.dtype.kind in "biu":
        return bool(np.array_equal(a, b))
    if a.dtype.kind == "c":
        return same(a.real, b.real) and same(a.imag, b.imag)
    with np.errstate(all="ignore"):
        nan, other = (np.isnan(x.astype(np.float64)) for x in (a, b))
        if not np.array_equal(nan, other):
            return False
        return _bits(a, nan) == _bits(b, nan)


def _bits(a: Any, nan: Any) -> bytes:
    return bytes(np.where(nan, np.zeros((), a.dtype), a).astype(a.dtype).tobytes())


def first_difference(a: Any, b: Any) -> str:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype}{a.shape}, expected {b.dtype}{b.shape}"
    for at in np.ndindex(a.shape):
        if not same(np.asarray(a[at]), np.asarray(b[at])):
            return f"{a[at]!r} at {at}, expected {b[at]!r}"
    return "different bits"
