"""A fixed set of results of `cpu`, each with a readable name: every family of kernels, odd sizes,
all dtypes. Their digests stand in tests/golden/cpu_digests.json; tools/digests.py writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

import proa.ops.composite as cp
from proa import dtypes
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.conformance.cases import arity
from proa.graph.build import Builder, use_sink
from proa.graph.spec import spec
from proa.ops.movement import pad
from proa.ops.primitive import REGISTRY, apply
from proa.transforms.reverse import gradient_graph

FILE: Final = Path(__file__).parent / "golden" / "cpu_digests.json"
FLOATS: Final = ("float32", "float64", "bfloat16", "float16")
INTS: Final = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
ALL: Final = ("bool", *INTS, *FLOATS)
SOME: Final = ("float32", "float64", "bfloat16", "float16", "int32", "uint8")
Job = tuple[str, Callable[..., Any], tuple[Any, ...]]


def numbers(shape: tuple[int, ...], name: str, seed: int = 0) -> Any:
    """The same on every machine: a counter, mixed by multiplication; floats from -4 to 4."""
    count = prod(shape)
    words = np.arange(1 + 7919 * seed, 1 + 7919 * seed + count, dtype=np.uint64)
    for _ in range(2):
        words = (words ^ (words >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(32)
    dtype = dtypes.dtype(name)
    if dtype.kind == "bool":
        found = words & np.uint64(1) == 1
    elif dtype.kind == "int":
        found = words.astype(dtype.numpy)  # every bit of the dtype
    else:
        found = (words >> np.uint64(11)).astype(np.float64) * 2.0**-50 - 4.0
    return found.astype(dtype.numpy).reshape(shape)


def draw(shape: tuple[int, ...], name: str, seed: int = 0) -> Any:
    return lambda: numbers(shape, name, seed)


def places(count: int, high: int, name: str = "int64") -> Any:
    """Indices, some outside at both ends."""
    return lambda: (numbers((count,), "uint32") % np.uint32(high + 4)).astype(name) - 2


def op(primitive: str, **params: Any) -> Callable[..., Any]:
    return lambda *xs: apply(REGISTRY[primitive], xs, **params)


# The results.


def elementwise() -> Iterator[Job]:
    for name, primitive in sorted(REGISTRY.items()):
        is_plain = primitive.family.name == "elementwise" and not primitive.params
        if name == "select" or not is_plain or primitive.meaning is None:
            continue
        for dtype in SOME:
            if dtypes.dtype(dtype) in primitive.accepts:
                rows = tuple(draw((37, 53), dtype, i) for i in range(arity(primitive)))
                yield f"{name} {dtype}", op(name), rows
    for dtype in SOME:
        rows = (draw((37, 53), "bool"), draw((53,), dtype, 1), draw((37, 1), dtype, 2))
        yield f"select {dtype}", op("select"), rows


def casts() -> Iterator[Job]:
    for source in ALL:
        for goal in ALL if source in SOME else ("float32", "int32"):
            if goal != source:
                there = op("cast", dtype=dtypes.dtype(goal), weak=False)
                yield f"cast {source} to {goal}", there, (draw((1031,), source),)
    for source, goal in (("float32", "int32"), ("int64", "float64"), ("uint32", "int32")):
        there = op("bitcast", dtype=dtypes.dtype(goal))
        yield f"bitcast {source} to {goal}", there, (draw((77,), source),)


SPACES: Final = {
    "of all": ((3, 31, 67), (0, 1, 2)), "of rows": ((61, 1003), (1,)), "of columns": ((1003, 61), (0,)),
    "inside": ((5, 300, 9), (1,)), "outside": ((7, 3, 41), (0, 2)), "of few": ((129, 3), (1,)),
}  # fmt: skip


def reductions() -> Iterator[Job]:
    for text, (shape, axes) in SPACES.items():
        for dtype in (*FLOATS, "int32", "uint8"):
            yield f"sum {text} {dtype}", op("sum", axes=axes), (draw(shape, dtype),)
        for dtype in ("float32", "int64"):
            yield f"max {text} {dtype}", op("max", axes=axes), (draw(shape, dtype),)
            yield f"min {text} {dtype}", op("min", axes=axes), (draw(shape, dtype),)
        for dtype in ("float32", "int32", "bfloat16"):
            yield f"prod {text} {dtype}", op("prod", axes=axes), (draw(shape, dtype),)
    yield "sum of a million float32", op("sum", axes=(0,)), (draw((1_000_003,), "float32"),)
    for dtype in (*FLOATS, "int32"):
        for axis in (0, 1):
            yield f"argmax {axis} {dtype}", op("argmax", axes=(axis,)), (draw((41, 37), dtype),)
    for dtype in (*FLOATS, "int32", "uint8"):
        for axis, reverse in ((1, False), (0, True)):
            there = op("cumsum", axis=axis, reverse=reverse)
            yield f"cumsum {axis} {dtype} {reverse}", there, (draw((300, 37), dtype),)
            there = op("cumprod", axis=axis, reverse=reverse)
            yield f"cumprod {axis} {dtype} {reverse}", there, (draw((30, 37), dtype),)


LAYOUTS: Final = {
    "small": ("mk", "kn", "mn"), "a turned": ("km", "kn", "mn"), "b turned": ("mk", "nk", "mn"),
    "both turned": ("km", "nk", "mn"), "result turned": ("mk", "kn", "nm"),
    "batched": ("bmk", "bkn", "bmn"), "batch inside": ("mbk", "kbn", "bmn"),
    "matrix and vector": ("mk", "k", "m"), "vector and matrix": ("k", "kn", "n"),
    "vector and turned": ("k", "nk", "n"), "inner": ("k", "k", ""), "outer": ("m", "n", "mn"),
    "two sums": ("mkj", "jkn", "mn"),
}  # fmt: skip


def products() -> Iterator[Job]:
    for text, (x, y, out) in LAYOUTS.items():
        for dtype in (*FLOATS, "int32"):
            n = {"m": 37, "k": 61, "n": 43, "b": 3, "j": 5}
            shapes = [tuple(n[c] for c in letters) for letters in (x, y)]
            rows = (draw(shapes[0], dtype), draw(shapes[1], dtype, 1))
            yield f"dot {text} {dtype}", op("dot", a=x, b=y, out=out), rows
    for text, m, k, n_ in (("large", 131, 1000, 257), ("long", 3, 5000, 7), ("flat", 1, 769, 300)):
        for dtype in FLOATS:
            rows = (draw((m, k), dtype), draw((k, n_), dtype, 1))
            yield f"dot {text} {dtype}", op("dot", a="mk", b="kn", out="mn"), rows


def windows() -> Iterator[Job]:
    for text, groups, window, more in (
        ("line", 1, (5,), {"strides": (2,), "padding": ((2, 1),)}),
        ("plane", 1, (3, 3), {"strides": (1, 2), "padding": ((1, 1), (0, 2))}),
        ("plane in groups", 2, (3, 2), {"strides": (1, 1), "padding": ((0, 0), (1, 1))}),
    ):
        ones = (1,) * len(window)
        there = op("conv", x_dilation=ones, w_dilation=ones, groups=groups, **more)
        for dtype in FLOATS:
            shapes = ((3, 8, *[19] * len(window)), (6, 8 // groups, *window))
            rows = (draw(shapes[0], dtype), draw(shapes[1], dtype, 1))
            yield f"conv of a {text} {dtype}", there, rows
            yield f"conv of a {text} {dtype}, gradients", there, rows


def moves() -> Iterator[Job]:
    for dtype in ("bool", "int16", "float32", "float64", "bfloat16"):
        for text, there in (
            ("flip", op("flip", axes=(0, 2))),
            ("permute", op("permute", axes=(2, 0, 1))),
            ("slice", op("slice", starts=(1, 0, 2), stops=(5, 7, 33), strides=(1, 3, 2))),
            ("pad", lambda x: pad(x, low=(1, -1, 0), high=(0, 2, 3), interior=(0, 1, 2))),
            ("concatenate", lambda x: apply(REGISTRY["concatenate"], [x, x, x], axis=1)),
        ):
            yield f"{text} {dtype}", there, (draw((5, 7, 33), dtype),)


def indexed() -> Iterator[Job]:
    for dtype in ("float32", "float64", "bfloat16", "float16", "int32", "uint8"):
        at = {"axes": (0,), "batch": 0}
        rows = (draw((41, 13), dtype), places(99, 41))
        yield f"gather {dtype}", op("gather", **at), rows
        for mode in ("set", "add", "max", "min"):
            every = (rows[0], draw((99, 13), dtype, 1), places(99, 41, "int32"))
            yield f"scatter {mode} {dtype}", op("scatter", mode=mode, **at), every
    start = lambda: np.int64(3)  # noqa: E731
    for dtype in ("float32", "int16"):
        there = op("dynamic_slice", axes=(1,), sizes=(9,), strides=(2,))
        yield f"dynamic slice {dtype}", there, (draw((7, 41), dtype), start)
        there = op("dynamic_update", axes=(1,), strides=(1,))
        every = (draw((7, 41), dtype), draw((7, 9), dtype, 1), start)
        yield f"dynamic update {dtype}", there, every
    words = lambda: np.array([7, 11, 3, 0], np.uint32)  # noqa: E731
    yield "random bits", op("random_bits", shape=(1001,)), (words,)
    yield "uniform", lambda s: cp.uniform(s, (501,), dtypes.float32), (words,)
    yield "normal", lambda s: cp.normal(s, (501,), dtypes.float32), (words,)
    for dtype in ("int64", "float32", "bfloat16"):
        yield f"iota {dtype}", op("iota", shape=(3, 501), axis=1, dtype=dtypes.dtype(dtype)), ()


def composites() -> Iterator[Job]:
    """Forward, and the gradients of all operands."""
    rows: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
        "softmax": (lambda x: cp.softmax(x), ((33, 131),)),
        "log softmax": (lambda x: cp.log_softmax(x), ((33, 131),)),
        "gelu": (lambda x: cp.gelu(x), ((33, 131),)),
        "gelu tanh": (lambda x: cp.gelu(x, approximate="tanh"), ((33, 131),)),
        "silu": (lambda x: cp.silu(x), ((33, 131),)),
        "layer norm": (lambda x, w, b: cp.layer_norm(x, (131,), w, b), ((33, 131), (131,), (131,))),
        "rms norm": (lambda x, w: cp.rms_norm(x, (131,), w), ((33, 131), (131,))),
        "var": (lambda x: cp.var(x, axis=0), ((33, 131),)),
        "linear": (lambda x, w, b: cp.linear(x, w, b), ((33, 47), (29, 47), (29,))),
        "attention": (lambda q, k, v: cp.attention(q, k, v, causal=True), ((2, 3, 37, 8),) * 3),
    }  # fmt: skip
    for text, (function, shapes) in rows.items():
        for dtype in FLOATS:
            given = tuple(draw(s, dtype, i) for i, s in enumerate(shapes))
            yield f"{text} {dtype}", function, given
            yield f"{text} {dtype}, gradients", function, given
    target = lambda: numbers((33,), "uint32").astype(np.int64) % 131  # noqa: E731
    for dtype in FLOATS:
        for more in ("", ", gradients"):
            loss = lambda x, t: cp.cross_entropy(x, t)  # noqa: E731
            yield f"cross entropy {dtype}{more}", loss, (draw((33, 131), dtype), target)


def jobs() -> Iterator[Job]:
    for family in (elementwise, casts, reductions, products, windows, moves, indexed, composites):
        yield from family()


# Their digests.


def digest(job: Job) -> str:
    """A short hash of the bytes of all results; NaN counts as one number, whatever it carries."""
    name, function, given = job
    arrays = [np.asarray(make()) for make in given]
    builder = Builder()
    with use_sink(builder), np.errstate(all="ignore"):
        inputs = [builder.input(spec(x.shape, dtypes.dtype(x.dtype))) for x in arrays]
        outs = function(*inputs)
        outs = outs if isinstance(outs, tuple) else (outs,)
        graph = builder.graph([o.value for o in outs])
    if name.endswith("gradients"):
        wanted = tuple(i for i, x in enumerate(graph.inputs) if x.spec.dtype.is_float)
        arrays += [numbers(s.shape, s.dtype.name, 9) for s in graph.output_specs()]
        graph = gradient_graph(graph, wanted)
    chip = backend("cpu")
    (device,) = chip.devices()
    executable: Any = chip.compile(lower(graph, chip, device))
    assert not executable.report["host_calls"], f"{name}: NumPy's bits are not ours"
    buffers = [chip.put(x, i.spec, device) for x, i in zip(arrays, graph.inputs, strict=True)]
    found = sha256()
    for array in [b.host() for b in executable(buffers)]:
        if dtypes.dtype(array.dtype).is_float:
            with np.errstate(all="ignore"):
                nan = np.isnan(array.astype(np.float64))
            found.update(np.packbits(nan).tobytes())
            array = np.where(nan, np.zeros((), array.dtype), array).astype(array.dtype)
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:12]
