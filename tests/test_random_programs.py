"""Random programs: dynamic = early reads = `jit`, bitwise; `numpy` and `xla` within the bound that
the float64 judge carries through the program; values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import proa.ops.composite as cp
import proa.ops.functions as fn
import proa.ops.moves as mo
import proa.ops.operators as op
import proa.ops.reduce as rd
from proa import dtypes
from proa.autograd import backward, vjp
from proa.backends.xla.elementwise import WIDER
from proa.capture.jit import jit
from proa.capture.trace import trace
from proa.compile.find import backend, default_device
from proa.conformance.cases import run_on
from proa.conformance.judge import STRICT, Widen, decided, judge, verdict
from proa.graph.spec import spec
from proa.ops import scans
from proa.ops.primitive import apply
from proa.tensor import Tensor, put

XLA = Widen(WIDER, flushes=True)
SHAPES = [(), (1,), (3,), (2, 3), (3, 2), (2, 1), (0,), (2, 0), (2, 3, 2), (1, 4), (5,)]
INPUTS = ["float32", "float32", "float64", "bfloat16", "float16", "int32", "bool"]
FLOATS = ["float32", "float64", "bfloat16", "float16"]
MOST = 1000


class Step(NamedTuple):
    """One operation: what to call, on which of the values before."""

    text: str
    call: Callable[..., Any]
    operands: tuple[int, ...]


class Program(NamedTuple):
    inputs: list[tuple[tuple[int, ...], str]]
    steps: list[Step]
    outputs: list[int]
    reads: set[int]
    seed: int

    def __repr__(self) -> str:
        count = len(self.inputs)
        lines = [f"v{i} = {dtype}{list(shape)}" for i, (shape, dtype) in enumerate(self.inputs)]
        lines += [
            f"v{count + i} = {s.text}({', '.join(f'v{j}' for j in s.operands)})"
            for i, s in enumerate(self.steps)
        ]
        return (
            "\n"
            + "\n".join(lines)
            + f"\nreturn {self.outputs}; read {sorted(self.reads)}; seed {self.seed}"
        )

    def arrays(self) -> list[Any]:
        rng = np.random.default_rng(self.seed)
        return [_draw(rng, shape, dtypes.dtype(name)) for shape, name in self.inputs]

    def run(self, xs: Any, reads: Any = ()) -> list[Any]:
        values = list(xs)
        for step in self.steps:
            values.append(step.call(*[values[i] for i in step.operands]))
            if len(values) - 1 in reads:
                values[-1].numpy()
        return [values[o] for o in self.outputs]

    @property
    def floats(self) -> list[int]:
        return [i for i, (_, name) in enumerate(self.inputs) if name in FLOATS]


def _draw(rng: Any, shape: Any, of: Any) -> Any:
    if of.kind == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if of.kind == "int":
        return np.asarray(rng.integers(-4, 5, shape)).astype(of.numpy)
    return np.asarray(rng.uniform(-2, 2, shape)).astype(of.numpy)


# The operations, on tensors of any shape that they accept. Arguments are kept where functions are
# tame: random programs are about composition; the laws try each operation at its edges.

UNARY = {
    "neg": lambda v: -v,
    "abs": fn.abs,
    "sign": fn.sign,
    "floor": fn.floor,
    "sin": fn.sin,
    "cos": fn.cos,
    "tanh": fn.tanh,
    "erf": fn.erf,
    "exp": lambda v: fn.exp(fn.tanh(v)),
    "expm1": lambda v: fn.expm1(fn.tanh(v)),
    "log": lambda v: fn.log(v * v + 1.0),
    "log1p": lambda v: fn.log1p(fn.abs(v)),
    "sqrt": lambda v: fn.sqrt(v * v + 0.5),
    "rsqrt": lambda v: fn.rsqrt(v * v + 1.0),
    "square": lambda v: v**2,
    "cube": lambda v: fn.tanh(v) ** 3,
    "relu": cp.relu,
    "sigmoid": cp.sigmoid,
    "silu": cp.silu,
    "gelu": cp.gelu,
    "softplus": cp.softplus,
    "elu": cp.elu,
    "scaled": lambda v: v * 0.3 + 1.0,
    "clip": lambda v: op.clip(v, -1.0, 1.0),
    "view of a view": lambda v: v.reshape((-1,))[::-1] if v.ndim else v,
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / (b * b + 1.0),
    "maximum": lambda a, b: op.ar.maximum(a, b),
    "minimum": lambda a, b: op.ar.minimum(a, b),
    "where": lambda a, b: op.where(a < b, a, b * 2.0),
    "pow": lambda a, b: (fn.abs(a) + 0.5) ** fn.tanh(b),
    "rem": lambda a, b: op.ar.rem(a, fn.abs(b) + 1.0),
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
}
INTEGER = {
    "and": lambda a: a & 3,
    "xor": lambda a: a ^ 5,
    "or": lambda a: a | 1,
    "shift": lambda a: (a << 2) >> 1,
    "not": lambda a: ~a,
    "times": lambda a: a * 3 - 1,
    "rem": lambda a: a % 3,
    "half": lambda a: a // 2,
}
REDUCE = {"sum": rd.sum, "max": rd.max, "min": rd.min}
MOMENTS = {"mean": cp.mean, "var": cp.var, "logsumexp": cp.logsumexp}
ALONG = {
    "softmax": cp.softmax,
    "log_softmax": cp.log_softmax,
    "cumsum": lambda v, axis: apply(scans.cumsum, (v,), axis=axis, reverse=False),
    "sort": lambda v, axis: apply(scans.sort, (v,), axis=axis)[0],
}


def moves(draw: Any, values: list[Any]) -> Step | None:
    """One more step; None where what was chosen does not fit."""
    i = draw(st.integers(0, len(values) - 1))
    v = values[i]
    kind, ndim = v.dtype.kind, v.ndim
    what = draw(
        st.sampled_from(
            [
                "unary",
                "binary",
                "binary",
                "reduce",
                "move",
                "move",
                "slice",
                "along",
                "product",
                "index",
                "cast",
            ]
        )
    )
    if what == "cast":
        to = draw(st.sampled_from([*FLOATS, "int32"] if kind != "float" else FLOATS))
        return Step(f"astype {to}", lambda a: a.astype(to), (i,))
    if what == "unary":
        table = UNARY if kind == "float" else INTEGER if kind == "int" else {"not": lambda a: ~a}
        name = draw(st.sampled_from(sorted(table)))
        return Step(name, table[name], (i,))
    if what == "binary":
        fits = [
            j
            for j, w in enumerate(values)
            if w.dtype.kind == kind == "float" and _meet(v.shape, w.shape)
        ]
        if not fits:
            return None
        name = draw(st.sampled_from(sorted(BINARY)))
        return Step(name, BINARY[name], (i, draw(st.sampled_from(fits))))
    if what == "move":
        return _movement(draw, values, i)
    if what == "slice" and ndim:
        return _slice(draw, v, i)
    if what == "reduce" and ndim and kind != "bool":
        return _reduction(draw, v, i)
    if what == "along" and ndim and kind == "float" and v.size:
        axis, name = draw(st.integers(0, ndim - 1)), draw(st.sampled_from(sorted(ALONG)))
        return Step(f"{name} {axis}", lambda a: ALONG[name](a, axis=axis), (i,))
    if what == "product" and kind == "float":
        return _product(draw, values, i)
    if what == "index" and ndim and v.shape[0]:
        return _index(draw, v, i)
    return None


def _meet(a: Any, b: Any) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(a, b))) <= MOST
    except ValueError:
        return False


def _movement(draw: Any, values: list[Any], i: int) -> Step | None:
    v, ndim = values[i], values[i].ndim
    name = draw(
        st.sampled_from(["reshape", "permute", "broadcast", "flip", "concat", "expand", "stack"])
    )
    if name == "reshape":
        return Step("reshape -1", lambda a: mo.reshape(a, (-1, 1) if a.size else a.shape), (i,))
    if name == "permute":
        axes = draw(st.permutations(range(ndim)))
        return Step(f"permute {axes}", lambda a: mo.permute_dims(a, tuple(axes)), (i,))
    if name == "broadcast" and v.size * 2 <= MOST and ndim < 4:
        return Step("broadcast", lambda a: mo.broadcast_to(a, (2, *a.shape)), (i,))
    if name == "flip":
        return Step("flip", lambda a: mo.flip(a), (i,))
    if name == "expand" and ndim < 4:
        axis = draw(st.integers(0, ndim))
        return Step(f"expand {axis}", lambda a: mo.expand_dims(a, axis), (i,))
    if name == "stack" and v.size * 2 <= MOST and ndim < 4:
        return Step("stack", lambda a: mo.stack([a, a]), (i,))
    fits = [
        j
        for j, w in enumerate(values)
        if ndim and w.shape[1:] == v.shape[1:] and w.ndim == ndim and w.dtype == v.dtype
    ]
    if name == "concat" and fits and v.size * 2 <= MOST:
        return Step("concat", lambda a, b: mo.concat([a, b]), (i, draw(st.sampled_from(fits))))
    return None


def _slice(draw: Any, v: Any, i: int) -> Step:
    index = []
    for n in v.shape:
        a, b = sorted([draw(st.integers(0, n)), draw(st.integers(0, n))])
        step = draw(st.sampled_from([1, 2, -1]))
        index.append(slice(a, b, step) if step > 0 else slice(None, None, -1))
    return Step(f"{index}", lambda a: a[tuple(index)], (i,))


def _reduction(draw: Any, v: Any, i: int) -> Step | None:
    axis = draw(st.none() | st.integers(-v.ndim, v.ndim - 1))
    keep = draw(st.booleans())
    table = {**REDUCE, **MOMENTS} if v.dtype.kind == "float" else REDUCE
    name = draw(st.sampled_from(sorted(table)))
    if name != "sum" and not v.size:
        return None
    return Step(f"{name} {axis} {keep}", lambda a: table[name](a, axis=axis, keepdims=keep), (i,))


def _product(draw: Any, values: list[Any], i: int) -> Step | None:
    v = values[i]
    if v.ndim < 2:
        return None
    name = draw(st.sampled_from(["gram", "matmul", "linear", "norm", "einsum"]))
    if name == "gram":
        return (
            Step("gram", lambda a: a @ mo.matrix_transpose(a), (i,))
            if v.size * v.shape[-2] <= MOST
            else None
        )
    if name == "norm":
        return (
            Step("layer_norm", lambda a: cp.layer_norm(a, (a.shape[-1],)), (i,)) if v.size else None
        )
    fits = [j for j, w in enumerate(values) if w.ndim == 2 and w.dtype == v.dtype]
    if name == "matmul":
        fits = [j for j in fits if values[j].shape[0] == v.shape[-1]]
        return (
            Step("matmul", lambda a, b: a @ b, (i, draw(st.sampled_from(fits)))) if fits else None
        )
    fits = [j for j in fits if values[j].shape[1] == v.shape[-1]]
    if not fits:
        return None
    j = draw(st.sampled_from(fits))
    if name == "linear":
        return Step("linear", lambda a, b: cp.linear(a, b), (i, j))
    return Step("einsum", lambda a, b: cp.einsum("...i,ki->k...", a, b), (i, j))


def _index(draw: Any, v: Any, i: int) -> Step:
    name = draw(st.sampled_from(["int", "take", "argmax"]))
    n = v.shape[0]
    if name == "argmax" and v.size and v.dtype.kind != "bool":
        return Step("argmax", lambda a: rd.argmax(a, axis=0), (i,))
    if name == "take":
        rows = np.array(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=4)))
        return Step(f"take {rows.tolist()}", lambda a: cp.take(a, rows, axis=0), (i,))
    k = draw(st.integers(-n, n - 1))
    return Step(f"[{k}]", lambda a: a[k], (i,))


@st.composite
def programs(draw: Any) -> Program:
    count = draw(st.integers(1, 3))
    inputs = [(draw(st.sampled_from(SHAPES)), draw(st.sampled_from(INPUTS))) for _ in range(count)]
    program = Program(inputs, [], [], set(), draw(st.integers(0, 99)))
    values = tensors(program.arrays())
    for _ in range(draw(st.integers(4, 14))):
        step = moves(draw, values)
        if step is not None:
            program.steps.append(step)
            values.append(step.call(*[values[k] for k in step.operands]))
    last = range(count, len(values)) if len(values) > count else range(count)
    outputs = sorted(
        set(draw(st.lists(st.sampled_from(last), min_size=1, max_size=3))) | {len(values) - 1}
    )
    reads = draw(st.sets(st.sampled_from(range(len(values)))))
    return program._replace(outputs=outputs, reads=reads)


# Running them.


def tensors(arrays: Any) -> list[Tensor]:
    device = default_device()
    return [put(a, spec(a.shape, dtypes.dtype(a.dtype)), device) for a in arrays]


def bits(xs: Any) -> list[Any]:
    arrays = [x.numpy() for x in xs]
    return [(a.shape, a.dtype, a.tobytes()) for a in arrays]


def with_gradients(program: Program) -> Callable[..., list[Any]]:
    """Results, and the gradient of the sum of all float ones."""

    def function(*xs: Any) -> list[Any]:
        def scored(*floats: Any) -> Any:
            given = list(xs)
            for i, x in zip(program.floats, floats, strict=True):
                given[i] = x
            outs = program.run(given)
            parts = [rd.sum(o.astype("float64")) for o in outs if o.dtype.is_float]
            return [reduce(lambda a, b: a + b, parts)] if parts else [], outs

        outs = program.run(xs)
        if not program.floats or not any(o.dtype.is_float for o in outs):
            return outs
        score, pull = vjp(lambda *f: scored(*f)[0][0], *[xs[i] for i in program.floats])
        return [*outs, score, *pull(one())]

    return function


def one() -> Any:
    return tensors([np.ones(())])[0]


def by_backward(program: Program, reads: Any) -> list[Any]:
    """Results and gradients by `backward()`, with values read on the way."""
    xs = tensors(program.arrays())
    for i in program.floats:
        xs[i].requires_grad_()
    for i in set(range(len(xs))) & set(reads):
        xs[i].numpy()
    outs = program.run(xs, reads)
    parts = [rd.sum(o.astype("float64")) for o in outs if o.dtype.is_float and o.requires_grad]
    if parts:
        backward([reduce(lambda a, b: a + b, parts)], [None])
    grads = [xs[i].grad for i in program.floats]
    return bits(outs) + [bits([g])[0] if g is not None else None for g in grads]


def graph_and_arrays(program: Program, function: Any) -> tuple[Any, list[Any]]:
    """The program as a graph, and its inputs: arguments, then the numbers and tensors inside."""
    arrays = program.arrays()
    specs = [spec(a.shape, dtypes.dtype(a.dtype)) for a in arrays]
    traced = trace("program", function, specs)
    for v in traced.captured:
        held = v.buffer.host() if hasattr(v.buffer, "host") else v.buffer
        arrays.append(np.asarray(held).astype(v.spec.dtype.numpy))
    return traced.graph, arrays


COUNTS = {"programs": 0, "elements": 0, "decided": 0.0}
CALM = settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)


def check_bits(program: Program) -> None:
    function = with_gradients(program)
    expected = bits(function(*tensors(program.arrays())))
    jitted = jit(function)
    for call in range(4):
        assert bits(jitted(*tensors(program.arrays()))) == expected, f"call {call + 1} of jit"
    dynamic = by_backward(program, ())
    assert dynamic[: len(program.outputs)] == expected[: len(program.outputs)]
    assert by_backward(program, program.reads) == dynamic, "after early reads"
    assert by_backward(program, set(range(99))) == dynamic, "after reading everything"


def check_bounds(program: Program, name: str) -> None:
    graph, arrays = graph_and_arrays(program, with_gradients(program))
    judged = judge(graph, arrays, XLA if name == "xla" else STRICT)
    found = run_on(backend(name), graph, arrays)
    for i, (f, j) in enumerate(zip(found, judged, strict=True)):
        text = verdict(f, j)
        assert not text, f"{name}, result {i}: {text}"
        COUNTS["elements"] += f.size
        COUNTS["decided"] += decided(j) * f.size
    COUNTS["programs"] += 1


def in_float64(program: Program) -> Program:
    """The same program with every float, and every cast to one, in float64."""
    inputs = [(shape, "float64" if name in FLOATS else name) for shape, name in program.inputs]
    casts = {f"astype {name}" for name in FLOATS}
    double = lambda a: a.astype("float64")  # noqa: E731
    steps = [s._replace(call=double) if s.text in casts else s for s in program.steps]
    return program._replace(inputs=inputs, steps=steps)


def check_slope(program: Program) -> bool:
    """The gradients, in float64, against differences of the whole program along one direction.
    Where two step sizes disagree a kink or a jump lies between, and nothing is said."""
    if not program.floats:
        return False
    wide = in_float64(program)
    graph, arrays = graph_and_arrays(wide, with_gradients(wide))
    count = len(wide.outputs)
    if len(graph.outputs) == count:
        return False
    rng = np.random.default_rng(1)
    moved = {i: rng.normal(size=arrays[i].shape) for i in wide.floats}

    def values(step: float) -> list[Any]:
        there = [a + step * moved[i] if i in moved else a for i, a in enumerate(arrays)]
        return [j.value for j in judge(graph, there)]

    def slope(step: float) -> float:
        return float((values(step)[count] - values(-step)[count]) / (2 * step))

    middle = values(0.0)
    exact = sum(
        float(np.sum(g * moved[i])) for g, i in zip(middle[count + 1 :], wide.floats, strict=True)
    )
    slopes = [slope(h) for h in (1e-5, 3e-6)]
    room = 1e-4 * (1.0 + abs(slopes[0])) + 1e-10 * abs(float(middle[count])) / 1e-6
    if not np.isfinite(slopes).all() or abs(slopes[0] - slopes[1]) > room:
        return False
    assert abs(exact - slopes[1]) <= 2 * room, f"gradient gives {exact}, differences {slopes}"
    return True


@CALM
@given(programs())
def test_modes_agree_bitwise(program: Program) -> None:
    check_bits(program)


@pytest.mark.parametrize("name", ["numpy", "xla"])
def test_backends_stay_in_the_propagated_bound(name: str) -> None:
    COUNTS.update(programs=0, elements=0, decided=0.0)
    CALM(given(programs())(lambda program: check_bounds(program, name)))()
    assert COUNTS["programs"] >= 200
    assert COUNTS["decided"] >= 0.8 * COUNTS["elements"], "the bounds say too little"


def test_gradients_agree_with_differences() -> None:
    told = []
    CALM(given(programs())(lambda program: told.append(check_slope(program))))()
    assert sum(told) >= 0.6 * len(told) and len(told) >= 200


@pytest.mark.slow
@settings(CALM, max_examples=1500, derandomize=False)
@given(programs())
def test_many_more_programs(program: Program) -> None:
    check_bits(program)
    check_bounds(program, "numpy")
    check_slope(program)
