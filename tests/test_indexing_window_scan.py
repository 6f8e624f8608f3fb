"""Indexing, scans, convolution, creation: meanings against naive loops, then laws over samples."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from proa.dtypes import bfloat16, float32, int64
from proa.dtypes import dtype as as_dtype
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.rewrite import sweep
from proa.graph.spec import spec
from proa.ops import operators  # noqa: F401 (gives values their Python operators)
from proa.ops.creation import iota, random_bits, threefry
from proa.ops.expand import flat
from proa.ops.functions import sin
from proa.ops.indexing import dynamic_slice, dynamic_update, gather, scatter
from proa.ops.primitive import Primitive, Sample, apply
from proa.ops.reductions import sum_
from proa.ops.scans import cumsum, sort
from proa.ops.window import conv, geometry
from proa.transforms.jvp import push
from proa.transforms.reverse import gradient_graph
from proa.transforms.vmap import batched_graph

PRIMITIVES = (
    gather, scatter, dynamic_slice, dynamic_update, cumsum, sort, conv, iota, random_bits,
)  # fmt: skip
nan = float("nan")


def cases(keep: Any = lambda primitive, sample: True) -> list[Any]:
    return [
        pytest.param(p, s, id=f"{p.name}-{i}")
        for p in PRIMITIVES for i, s in enumerate(p.samples) if keep(p, s)
    ]  # fmt: skip


def shape_and_dtype(operand: Any, wide: bool = False) -> tuple[Any, Any]:
    named = len(operand) == 2 and isinstance(operand[1], str)
    shape, name = operand if named else (operand, "float32")
    return shape, as_dtype("float64" if wide and as_dtype(name).is_float else name)


def specs_of(sample: Sample, wide: bool = False) -> tuple[Any, ...]:
    return tuple([spec(*shape_and_dtype(o, wide)) for o in sample.operands])


def params_of(primitive: Primitive, sample: Sample) -> tuple[Any, ...]:
    return tuple([sample.params[p] for p in primitive.params])


def draw(specs: Any, seed: int = 0, low: int = -2, high: int = 6) -> list[Any]:
    """Normal floats; integers that also lie outside of the axes."""
    rng = np.random.default_rng(seed)
    found = []
    for s in specs:
        if s.dtype.kind == "float":
            found.append(rng.standard_normal(s.shape).astype(s.dtype.numpy))
        else:
            numbers = rng.integers(low if s.dtype.signed else 0, high, s.shape)
            found.append(np.asarray(numbers).astype(s.dtype.numpy))
    return found


def run(graph: Graph, arrays: Any) -> list[Any]:
    """The graph, one meaning after the other."""

    def one(step: Any, operands: Any) -> Any:
        found = step.entry.primitive.meaning(*operands, **step.entry.named_params)
        return (found,) if step.entry.single else found

    graph = flat(graph)
    slots = sweep(graph, list(arrays), one, [c.array for c in graph.constants])
    return [np.asarray(slots[o]) for o in graph.outputs]


def graph_of(specs: Any, function: Any) -> Graph:
    builder = Builder()
    with use_sink(builder):
        outs = function(*[builder.input(s) for s in specs])
    return builder.graph(outs if isinstance(outs, tuple) else (outs,))


def same(a: Any, b: Any) -> None:
    """Equal dtypes, shapes and elements; NumPy does not know NaN of bfloat16."""
    assert a.dtype == b.dtype
    if a.dtype == bfloat16.numpy:
        a, b = a.astype(np.float32), b.astype(np.float32)
    np.testing.assert_array_equal(a, b, strict=True)


def close(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# Laws over all samples.


@pytest.mark.parametrize(("primitive", "sample"), cases())
def test_spec_rule_tells_what_the_meaning_gives(primitive: Primitive, sample: Sample) -> None:
    ins = specs_of(sample)
    outs = primitive.output_specs(ins, params_of(primitive, sample))
    found = primitive.meaning(*draw(ins), **sample.params)
    found = found if isinstance(found, tuple) else (found,)
    assert [(f.shape, f.dtype) for f in found] == [(s.shape, s.dtype.numpy) for s in outs]


@pytest.mark.parametrize(("primitive", "sample"), cases())
def test_factor_map_names_every_axis(primitive: Primitive, sample: Sample) -> None:
    ins = specs_of(sample)
    found = primitive.family.factors(primitive.name, ins, **sample.params)
    assert len(found.operands) == len(ins)
    for letters, s in zip(found.operands, ins, strict=True):
        assert tuple(found.sizes[c] for c in letters) == s.shape
    assert set(found.roles) == set(found.sizes)


@pytest.mark.parametrize(
    ("primitive", "sample", "error"),
    [pytest.param(p, *e, id=f"{p.name}-{i}") for p in PRIMITIVES for i, e in enumerate(p.errors)],
)
def test_errors(primitive: Primitive, sample: Sample, error: Any) -> None:
    with pytest.raises(error, match=rf"^\[{primitive.name}\] given .*, expected "):
        primitive.output_specs(specs_of(sample), params_of(primitive, sample))


@pytest.mark.parametrize(("primitive", "sample"), cases())
def test_meaning_writes_to_no_operand(primitive: Primitive, sample: Sample) -> None:
    arrays = draw(specs_of(sample))
    before = [a.copy() for a in arrays]
    primitive.meaning(*arrays, **sample.params)
    for a, b in zip(arrays, before, strict=True):
        same(a, b)


# Indexing against loops.


def addressed(x: Any, indices: Any, axes: Any, batch: int) -> Any:
    """(place in the index tensors, place in x, whether it is inside), one after the other."""
    for at in np.ndindex(*indices[0].shape):
        place: list[Any] = [slice(None)] * x.ndim
        place[:batch] = at[:batch]
        inside = True
        for index, axis in zip(indices, axes, strict=True):
            place[axis] = int(index[at])
            inside = inside and 0 <= int(index[at]) < x.shape[axis]
        yield at, tuple(place), inside


def naive_gather(x: Any, *indices: Any, axes: Any, batch: int) -> Any:
    rest = [n for i, n in enumerate(x.shape) if i >= batch and i not in axes]
    out = np.zeros((*indices[0].shape, *rest), x.dtype)
    for at, place, inside in addressed(x, indices, axes, batch):
        out[at] = x[place] if inside else (nan if as_dtype(x.dtype).is_float else 0)
    return out


def naive_scatter(x: Any, updates: Any, *indices: Any, axes: Any, batch: int, mode: str) -> Any:
    join = {"add": np.add, "max": np.maximum, "min": np.minimum, "set": lambda a, b: b}[mode]
    narrow = x.dtype.itemsize == 2 and x.dtype.kind not in "iu" and mode == "add"
    out = x.astype(np.float32 if narrow else x.dtype)
    for at, place, inside in addressed(x, indices, axes, batch):
        if inside:
            out[place] = join(out[place], updates[at].astype(out.dtype))
    return out.astype(x.dtype)


@pytest.mark.parametrize(("primitive", "sample"), cases(lambda p, s: p in (gather, scatter)))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gather_and_scatter_equal_loops(primitive: Primitive, sample: Sample, seed: int) -> None:
    arrays = draw(specs_of(sample), seed)
    naive = naive_gather if primitive is gather else naive_scatter
    same(primitive.meaning(*arrays, **sample.params), naive(*arrays, **sample.params))


def test_out_of_range() -> None:
    far = np.array([0, 3, -1, 2**62, -(2**62), 2], np.int64)
    x = np.array([1.0, 2.0, 3.0], np.float32)
    found = gather.meaning(x, far, axes=(0,), batch=0)
    same(found, np.array([1, nan, nan, nan, nan, 3], np.float32))
    found = gather.meaning(x.astype(bfloat16.numpy), far, axes=(0,), batch=0).astype(np.float32)
    same(found, np.array([1, nan, nan, nan, nan, 3], np.float32))
    same(gather.meaning(x.astype(np.int8), far, axes=(0,), batch=0), np.int8([1, 0, 0, 0, 0, 3]))
    huge = np.array([2**64 - 1, 1], np.uint64)
    same(gather.meaning(x, huge, axes=(0,), batch=0), np.array([nan, 2], np.float32))
    long = np.arange(300, dtype=np.float32)
    same(gather.meaning(long, np.int8([-1, 127]), axes=(0,), batch=0), np.float32([nan, 127]))
    new = np.arange(10, 16, dtype=np.float32)
    found = scatter.meaning(x, new, far, axes=(0,), batch=0, mode="set")
    same(found, np.array([10, 2, 15], np.float32))


def test_scatter_keeps_an_order() -> None:
    """Of several the last stays; sums are added ascending (they round differently otherwise)."""
    at = np.array([1, 1, 1, 0], np.int64)
    new = np.array([1e8, -1e8, 1.0, 5.0], np.float32)
    x = np.zeros(2, np.float32)
    where: dict[str, Any] = {"axes": (0,), "batch": 0}
    same(scatter.meaning(x, new, at, **where, mode="set"), np.float32([5, 1]))
    same(scatter.meaning(x, new, at, **where, mode="add"), np.float32([5, 1]))
    same(scatter.meaning(x, new[[2, 0, 1, 3]], at, **where, mode="add"), np.float32([5, 0]))
    found = scatter.meaning(x, np.float32([nan, 1, 2, 3]), at, **where, mode="max")
    same(found, np.float32([3, nan]))


def naive_starts(n: int, start: Any, size: int, stride: int) -> list[int]:
    span = max(0, (size - 1) * stride + 1)
    start = int(np.clip(int(start), 0, n - span))
    return [start + i * stride for i in range(size)]


@pytest.mark.parametrize(("primitive", "sample"), cases(lambda p, s: p is dynamic_slice))
@pytest.mark.parametrize("seed", range(5))
def test_dynamic_slice_equals_loops(primitive: Primitive, sample: Sample, seed: int) -> None:
    x, *starts = draw(specs_of(sample), seed, -3, 9)
    out = x
    rows = zip(sample.params["axes"], starts, sample.params["sizes"], sample.params["strides"],
               strict=True)  # fmt: skip
    for axis, start, size, stride in rows:
        out = np.take(out, naive_starts(x.shape[axis], start, size, stride), axis)
    same(dynamic_slice.meaning(x, *starts, **sample.params), out)


@pytest.mark.parametrize(("primitive", "sample"), cases(lambda p, s: p is dynamic_update))
@pytest.mark.parametrize("seed", range(5))
def test_dynamic_update_equals_loops(primitive: Primitive, sample: Sample, seed: int) -> None:
    x, update, *starts = draw(specs_of(sample), seed, -3, 9)
    where = [list(range(n)) for n in x.shape]
    for axis, start, stride in zip(sample.params["axes"], starts, sample.params["strides"],
                                   strict=True):  # fmt: skip
        where[axis] = naive_starts(x.shape[axis], start, update.shape[axis], stride)
    out = x.copy()
    for at in np.ndindex(*update.shape):
        out[tuple([w[i] for w, i in zip(where, at, strict=True)])] = update[at]
    same(dynamic_update.meaning(x, update, *starts, **sample.params), out)


# Scans against loops.


@pytest.mark.parametrize(("primitive", "sample"), cases(lambda p, s: p is cumsum))
def test_cumsum_equals_loops(primitive: Primitive, sample: Sample) -> None:
    (x,) = draw(specs_of(sample))
    axis, reverse = sample.params["axis"], sample.params["reverse"]
    out = np.moveaxis(x.copy(), axis, 0)
    order = range(len(out))[::-1] if reverse else range(len(out))
    total = np.zeros(out.shape[1:], x.dtype)
    for i in order:
        total = out[i] = total + out[i]
    same(cumsum.meaning(x, axis, reverse), np.moveaxis(out, 0, axis))


def test_cumsum_of_narrow_floats_is_added_wide() -> None:
    x = np.full(1000, 0.1).astype(bfloat16.numpy)
    found = cumsum.meaning(x, 0, False)
    same(found, np.cumsum(x.astype(np.float32)).astype(bfloat16.numpy))
    same(cumsum.meaning(np.int8([100, 100]), 0, False), np.int8([100, -56]))


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_sort_is_stable_with_nan_last(name: str) -> None:
    x = np.array([2, nan, -0.0, 1, 0.0, -np.inf, nan, 2, np.inf, -0.0]).astype(as_dtype(name).numpy)
    x[6] = -x[6]
    values, indices = sort.meaning(x, 0)
    keys = [(1, 0.0, i) if np.isnan(v) else (0, float(v), i) for i, v in enumerate(x)]
    expected = [i for _, _, i in sorted(keys)]
    assert indices.tolist() == expected == [5, 2, 4, 9, 3, 0, 7, 8, 1, 6]
    same(values.view(np.uint8), x[expected].view(np.uint8))
    values, indices = sort.meaning(np.stack([x, x[::-1]], 1), 0)
    assert indices.dtype == np.int64 and indices[:, 0].tolist() == expected


def test_sort_of_integers() -> None:
    x = np.uint64([2**64 - 1, 0, 2**63, 0])
    values, indices = sort.meaning(x, 0)
    same(values, np.uint64([0, 0, 2**63, 2**64 - 1]))
    assert indices.tolist() == [1, 3, 2, 0]


# Convolution against seven loops.


def naive_conv(x: Any, w: Any, strides: Any, padding: Any, x_dilation: Any, w_dilation: Any,
               groups: int) -> Any:  # fmt: skip
    """In float64, with every spatial axis count filled up to three."""
    missing = 5 - x.ndim
    fill: tuple[Any, ...] = (1,) * missing
    xs = x.astype(np.float64).reshape(x.shape + fill)
    ws = w.astype(np.float64).reshape(w.shape + fill)
    s, e, d = tuple(strides) + fill, tuple(x_dilation) + fill, tuple(w_dilation) + fill
    pads = tuple(padding) + ((0, 0),) * missing
    extent = [max(0, (n - 1) * k + 1) + lo + hi
              for n, k, (lo, hi) in zip(xs.shape[2:], e, pads, strict=True)]  # fmt: skip
    sizes = [(n - (k - 1) * j - 1) // t + 1
             for n, k, j, t in zip(extent, ws.shape[2:], d, s, strict=True)]  # fmt: skip
    out = np.zeros((xs.shape[0], ws.shape[0], *sizes))
    per_x, per_out = ws.shape[1], ws.shape[0] // groups
    for n, o in np.ndindex(*out.shape[:2]):
        for c in range(per_x):
            for p in np.ndindex(*sizes):
                for k in np.ndindex(*ws.shape[2:]):
                    at = [p[i] * s[i] + k[i] * d[i] - pads[i][0] for i in range(3)]
                    if any(q < 0 or q % t or q // t >= m
                           for q, t, m in zip(at, e, xs.shape[2:], strict=True)):  # fmt: skip
                        continue
                    spot = tuple([q // t for q, t in zip(at, e, strict=True)])
                    channel = (o // per_out) * per_x + c
                    out[(n, o, *p)] += xs[(n, channel, *spot)] * ws[(o, c, *k)]
    return out.reshape(out.shape[: x.ndim])


@pytest.mark.parametrize(("primitive", "sample"), cases(lambda p, s: p is conv))
def test_conv_equals_loops(primitive: Primitive, sample: Sample) -> None:
    x, w = draw(specs_of(sample))
    found = conv.meaning(x, w, **sample.params)
    tolerance = 2e-2 if x.dtype == bfloat16.numpy else 1e-5
    close(found.astype(np.float64), naive_conv(x, w, **sample.params), tolerance)


GEOMETRIES = [
    (n, k, geometry(1, stride, pad, a, b, groups))
    for n, k, stride, pad, a, b, groups in product(
        (1, 4, 5), (1, 3), (1, 2, 3), ((0, 0), (2, 1), (-1, 4), (3, -2)), (1, 3), (1, 2), (1, 2)
    )
    if (n - 1) * a + 1 + sum(pad) >= (k - 1) * b + 1
]


def test_conv_of_every_geometry() -> None:
    rng = np.random.default_rng(0)
    assert len(GEOMETRIES) > 300
    for n, k, params in GEOMETRIES:
        x = rng.standard_normal((1, 2, n))
        w = rng.standard_normal((2, 2 // params["groups"], k))
        ins = (spec(x.shape, as_dtype("float64")), spec(w.shape, as_dtype("float64")))
        found = conv.meaning(x, w, **params)
        (out,) = conv.output_specs(ins, tuple([params[p] for p in conv.params]))
        assert found.shape == out.shape
        close(found, naive_conv(x, w, **params))


def test_conv_bits_do_not_depend_on_layout() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 9, 8)).astype(np.float32)
    w = rng.standard_normal((6, 2, 3, 3)).astype(np.float32)
    params = geometry(2, 2, (1, 1), groups=2)
    found = conv.meaning(x, w, **params)
    same(conv.meaning(np.asfortranarray(x), w[::-1].copy()[::-1], **params), found)


# Creation.


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(key: Any, counter: Any, expected: Any) -> None:
    words = [np.array([n], np.uint32) for n in (*key, *counter)]
    assert [int(w[0]) for w in threefry(*words)] == list(expected)


def test_random_bits_are_the_words_of_the_blocks() -> None:
    state = np.uint32([[1, 2, 3, 0], [4, 5, 2**32 - 1, 0]])
    found = random_bits.meaning(state, (3, 3))
    for row, words in zip(state, found.reshape(2, 9), strict=True):
        for e, word in enumerate(words):
            block = threefry(row[:1], row[1:2], np.uint32([e // 2]), row[2:3])
            assert int(block[e % 2][0]) == int(word)
    same(random_bits.meaning(state[0], (3, 3)), found[0])
    same(random_bits.meaning(state[0], (7,)), found[0].reshape(-1)[:7])
    assert int(random_bits.meaning(np.zeros(4, np.uint32), ())) == 0x6B200159


def test_random_bits_are_even() -> None:
    bits = random_bits.meaning(np.uint32([7, 8, 0, 0]), (1 << 16,))
    shares = [float(np.mean((bits >> np.uint32(i)) & np.uint32(1))) for i in range(32)]
    assert max(abs(s - 0.5) for s in shares) < 0.01
    assert len(np.unique(bits)) > (1 << 16) - 5


def test_iota() -> None:
    same(iota.meaning(shape=(2, 3), axis=1, dtype=float32), np.float32([[0, 1, 2], [0, 1, 2]]))
    same(iota.meaning(shape=(2, 2), axis=0, dtype=int64), np.int64([[0, 0], [1, 1]]))


# Derivatives: linear ones by inner products, all of them by differences, to second order.


def differentiable(primitive: Primitive, sample: Sample) -> bool:
    """Samples of float operands; narrow and empty ones add nothing here."""
    specs = specs_of(sample)
    return primitive.differentiable is not False and bool(specs) and specs[0].dtype is float32


def inputs_of(primitive: Primitive, sample: Sample, seed: int = 0) -> tuple[Any, Any, list[int]]:
    """Specs and arrays in float64. Indices of a gather are kept inside (outside gives NaN)."""
    specs = specs_of(sample, wide=True)
    arrays = draw(specs, seed)
    if primitive is gather and 0 not in specs[0].shape:
        axes = sample.params["axes"]
        for i, axis in enumerate(axes):
            arrays[1 + i] %= np.asarray(specs[0].shape[axis]).astype(arrays[1 + i].dtype)
    return specs, arrays, [i for i, s in enumerate(specs) if s.dtype.is_float]


def op_graph(primitive: Primitive, sample: Sample, specs: Any) -> Graph:
    def function(*operands: Any) -> Any:
        found = apply(primitive, operands, **sample.params)
        return found[0] if isinstance(found, tuple) else found

    return graph_of(specs, function)


def tangent_graph(graph: Graph, wanted: Any) -> Graph:
    """(inputs, tangents of the wanted inputs) -> tangents of the outputs."""

    specs = [i.spec for i in graph.inputs]

    def function(*given: Any) -> Any:
        inputs, moved = given[: len(specs)], list(given[len(specs) :])
        tangents = [moved.pop(0) if i in wanted else None for i in range(len(specs))]
        outs = zip(*push(graph, inputs, tangents), strict=True)
        return tuple([0.0 * y if t is None else t for y, t in outs])

    return graph_of(specs + [specs[i] for i in wanted], function)


def differences(graph: Graph, arrays: Any, wanted: Any, tangents: Any) -> list[Any]:
    """Central differences along the tangents."""
    step = 1e-6
    found = []
    for sign in (1, -1):
        moved = list(arrays)
        for i, t in zip(wanted, tangents, strict=True):
            moved[i] = arrays[i] + sign * step * t
        found.append(run(graph, moved))
    return [(a - b) / (2 * step) for a, b in zip(*found, strict=True)]


def directions(arrays: Any, wanted: Any, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(arrays[i].shape) for i in wanted]


@pytest.mark.parametrize(("primitive", "sample"), cases(differentiable))
def test_first_derivatives(primitive: Primitive, sample: Sample) -> None:
    specs, arrays, wanted = inputs_of(primitive, sample)
    graph = op_graph(primitive, sample, specs)
    tangents = directions(arrays, wanted, 1)
    (y,) = run(graph, arrays)
    (forward,) = run(tangent_graph(graph, wanted), [*arrays, *tangents])
    if not (primitive is gather and 0 in specs[0].shape):
        close(forward, differences(graph, arrays, wanted, tangents)[0], 1e-6)
    ct = np.random.default_rng(2).standard_normal(y.shape)
    back = run(gradient_graph(graph, tuple(wanted)), [*arrays, ct])
    for i, b in zip(wanted, back, strict=True):
        assert b.shape == arrays[i].shape
    if not np.isnan(y).any():
        close(np.sum(ct * forward), sum(np.sum(b * t) for b, t in zip(back, tangents, strict=True)))
    for i, t, b in zip(wanted, tangents, back, strict=True):
        (alone,) = run(tangent_graph(graph, [i]), [*arrays, t])
        if not np.isnan(alone).any():
            close(np.sum(ct * alone), np.sum(b * t))


@pytest.mark.parametrize(("primitive", "sample"), cases(differentiable))
def test_second_derivatives(primitive: Primitive, sample: Sample) -> None:
    """Of sum(y^2 sin(y)) at y = f(sin(x), sin(w)): forward over reverse, reverse over reverse."""
    specs, arrays, wanted = inputs_of(primitive, sample, 3)

    def function(*operands: Any) -> Any:
        bent = [sin(o) if i in wanted else o for i, o in enumerate(operands)]
        y = apply(primitive, bent, **sample.params)
        y = y[0] if isinstance(y, tuple) else y
        return apply(sum_, (y * y * sin(y),), axes=tuple(range(y.value.spec.ndim)))

    gradient = gradient_graph(graph_of(specs, function), tuple(wanted))
    given = [*arrays, np.ones(())]
    if np.isnan(run(gradient, given)[0]).any() or primitive is gather and 0 in specs[0].shape:
        return
    v, u = directions(arrays, wanted, 4), directions(arrays, wanted, 5)
    curved = run(tangent_graph(gradient, wanted), [*given, *v])
    for a, b in zip(curved, differences(gradient, given, wanted, v), strict=True):
        close(a, b, 2e-5)
    twice = gradient_graph(gradient, tuple(wanted))
    back = run(twice, [*given, *u])
    close(sum(np.sum(a * b) for a, b in zip(curved, u, strict=True)),
          sum(np.sum(a * b) for a, b in zip(back, v, strict=True)), 1e-8)  # fmt: skip


def test_conv_derivatives_of_every_geometry() -> None:
    rng = np.random.default_rng(0)
    for n, k, params in GEOMETRIES[::3]:
        shapes = ((2, 2, n), (2, 2 // params["groups"], k))
        specs = [spec(s, as_dtype("float64")) for s in shapes]
        graph = op_graph(conv, Sample(shapes, params), specs)
        x, w, dx, dw = (rng.standard_normal(s) for s in shapes * 2)
        y = conv.meaning(x, w, **params)
        ct = rng.standard_normal(y.shape)
        found_x, found_w = run(gradient_graph(graph, (0, 1)), [x, w, ct])
        close(np.sum(found_x * dx), np.sum(ct * conv.meaning(dx, w, **params)))
        close(np.sum(found_w * dw), np.sum(ct * conv.meaning(x, dw, **params)))


def test_cotangents_of_what_is_outside_are_dropped() -> None:
    f64 = as_dtype("float64")
    ins = [spec((3,), f64), spec((2,), int64)]
    sample = Sample((), {"axes": (0,), "batch": 0})
    graph = gradient_graph(op_graph(gather, sample, ins), (0,))
    (ct,) = run(graph, [np.ones(3), np.int64([1, 5]), np.array([2.0, 7.0])])
    same(ct, np.array([0.0, 2.0, 0.0]))
    for mode in ("set", "add", "max"):
        sample = Sample((), {"axes": (0,), "batch": 0, "mode": mode})
        graph = gradient_graph(op_graph(scatter, sample, [ins[0], spec((2,), f64), ins[1]]), (0, 1))
        arrays = [np.zeros(3), np.ones(2), np.int64([1, 5]), np.array([1.0, 2.0, 3.0])]
        x, updates = run(graph, arrays)
        same(updates, np.array([2.0, 0.0]))
        same(x, np.array([1.0, 2.0 if mode == "add" else 0.0, 3.0]))


def test_ties_of_scatter_share_the_gradient() -> None:
    f64 = as_dtype("float64")
    for mode in ("max", "min"):
        sample = Sample((), {"axes": (0,), "batch": 0, "mode": mode})
        ins = [spec((2,), f64), spec((3,), f64), spec((3,), int64)]
        graph = gradient_graph(op_graph(scatter, sample, ins), (0, 1))
        arrays = [np.ones(2), np.ones(3), np.int64([0, 0, 1]), np.array([6.0, 8.0])]
        x, updates = run(graph, arrays)
        same(x, np.array([2.0, 4.0]))
        same(updates, np.array([2.0, 2.0, 4.0]))


def test_only_the_last_of_scatter_set_gets_the_gradient() -> None:
    f64 = as_dtype("float64")
    sample = Sample((), {"axes": (0,), "batch": 0, "mode": "set"})
    ins = [spec((2,), f64), spec((3,), f64), spec((3,), int64)]
    graph = gradient_graph(op_graph(scatter, sample, ins), (0, 1))
    x, updates = run(graph, [np.ones(2), np.ones(3), np.int64([1, 1, 0]), np.array([6.0, 8.0])])
    same(x, np.zeros(2))
    same(updates, np.array([0.0, 8.0, 6.0]))


# Batching: one operation on a batch is the stack of operations on its elements.


def flag_sets(count: int) -> list[tuple[bool, ...]]:
    return [f for f in product((False, True), repeat=count) if any(f)]


def batched_equals_stack(graph: Graph, flags: tuple[bool, ...], exact: bool) -> None:
    count = 3
    plain = [i.spec for i in graph.inputs]
    tall = [spec((count, *s.shape), s.dtype) if f else s for s, f in zip(plain, flags, strict=True)]
    arrays = draw(tall, 6)
    batched = batched_graph(graph, flags, count)
    assert [s.shape for s in batched.output_specs()] == [
        (count, *s.shape) for s in graph.output_specs()
    ]
    found = run(batched, arrays)
    rows = [
        run(graph, [a[i] if f else a for a, f in zip(arrays, flags, strict=True)])
        for i in range(count)
    ]
    for f, row in zip(found, zip(*rows, strict=True), strict=True):
        if exact:
            same(f, np.stack(row))
        else:
            close(f.astype(np.float64), np.stack(row).astype(np.float64), 1e-9)


@pytest.mark.parametrize(("primitive", "sample"), cases(lambda p, s: bool(s.operands)))
def test_batch_rules(primitive: Primitive, sample: Sample) -> None:
    specs = specs_of(sample, wide=True)
    graph = graph_of(specs, lambda *operands: apply(primitive, operands, **sample.params))
    for flags in flag_sets(len(specs)):
        batched_equals_stack(graph, flags, exact=primitive is not conv)


@pytest.mark.parametrize(("primitive", "sample"), cases(differentiable))
def test_batch_rules_of_derivatives(primitive: Primitive, sample: Sample) -> None:
    specs, _, wanted = inputs_of(primitive, sample)
    graph = gradient_graph(op_graph(primitive, sample, specs), tuple(wanted))
    count = len(graph.inputs)
    rest = (False,) * (count - 1)
    for flags in [(True,) * count, (*rest, True), (True, *rest)]:
        batched_equals_stack(graph, flags, exact=False)


def test_conv_batched_twice() -> None:
    """vmap of vmap: kernels in the inner one, images in the outer one, in two groups."""
    params = geometry(2, 2, (1, 0), groups=2)
    f64 = as_dtype("float64")
    specs = [spec((2, 4, 5, 4), f64), spec((6, 2, 2, 3), f64)]
    graph = graph_of(specs, lambda x, w: apply(conv, (x, w), **params))
    inner = batched_graph(graph, (False, True), 2)
    batched_equals_stack(inner, (True, False), exact=False)
    batched_equals_stack(inner, (True, True), exact=False)
