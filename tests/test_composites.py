"""Composites against float64 oracles, PyTorch's results, finite differences and themselves."""

# ruff: noqa: B023 (closures in loops are called at once)

import json
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import scipy.special as sp
from safetensors.numpy import load_file
from scipy.stats import kstest

from proa import dtypes
from proa.errors import ArgumentError, DtypeError, ProaError, ShapeError
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.show import parse, show
from proa.graph.spec import spec
from proa.ops import composite as c
from proa.ops.composite.random import normal_from_bits, uniform_from_bits
from proa.ops.expand import flat, nothing
from proa.ops.primitive import REGISTRY
from proa.transforms.reverse import gradient_graph
from proa.transforms.vmap import batched_graph
from tests.helpers_graph import call, grads, mapped, record, run, tangents

GOLDEN = Path(__file__).parent / "golden"
TENSORS = load_file(GOLDEN / "modules.safetensors")
CASES = json.loads((GOLDEN / "modules.json").read_text())
STATE = np.array([3, 5, 0, 0], np.uint32)
BF16 = np.dtype(ml_dtypes.bfloat16)


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(*shape, seed=0, scale=1.0):
    return rng(seed + 7 * len(shape) + sum(shape)).normal(size=shape) * scale


# PyTorch


def _sdpa(q, k, v, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    return c.attention(q, k, v, attn_mask, causal=is_causal, scale=scale)


FUNCTIONS = {
    "F.scaled_dot_product_attention": _sdpa,
    "F.max_pool2d": c.max_pool,
    "F.embedding": lambda i, w, padding_idx=None: c.embedding(w, i, padding_idx),
    "F.one_hot": lambda i, num_classes=5: c.one_hot(i, num_classes),
}
for _name in (
    "gelu",
    "layer_norm",
    "relu",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "smooth_l1_loss",
    "binary_cross_entropy_with_logits",
):
    FUNCTIONS["F." + _name] = getattr(c, _name)
GOLDEN_CASES = [
    (section[0], case)
    for section in (("loss", "losses"), ("functional", "functional"))
    for case in CASES[section[1]]
    if case["function"] in FUNCTIONS
]


def golden(prefix, case, dtype):
    """The function of all tensors, the tensors, and their keys."""
    keys = [f"input/{i}" for i in range(len(case["inputs"]))]
    keys += [f"kwarg/{t}" for t in case["tensors"]]
    arrays = [TENSORS[f"{prefix}/{k}"] for k in keys]
    arrays = [a.astype(dtype) if a.dtype == np.float32 else a for a in arrays]
    count = len(case["inputs"])

    def function(*values):
        named = dict(zip(case["tensors"], values[count:], strict=True))
        return FUNCTIONS[case["function"]](*values[:count], **named, **case["options"])

    return function, arrays, keys


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "section,case", GOLDEN_CASES, ids=lambda x: x["name"] if isinstance(x, dict) else x
)
def test_functions_equal_pytorch(section, case, dtype):
    prefix = f"{section}/{case['name']}"
    function, arrays, keys = golden(prefix, case, dtype)
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-12} if dtype is np.float64 else {"rtol": 2e-5, "atol": 2e-6}
    )
    if "extreme" in case["name"]:
        tolerance["atol"] *= 10
    expected = TENSORS[f"{prefix}/output/0"]
    np.testing.assert_allclose(call(function, *arrays), expected, **tolerance)
    if case["gradients"]:
        ct = TENSORS.get(f"{prefix}/cotangent/0", np.ones(())).astype(dtype)
        wanted = [keys.index(g) for g in case["gradients"]]
        for found, key in zip(
            grads(function, arrays, wanted, [ct]), case["gradients"], strict=True
        ):
            np.testing.assert_allclose(found, TENSORS[f"{prefix}/grad/{key}"], **tolerance)


def _norm(mode, s, x, momentum=0.1, eps=1e-5, track_running_stats=True, **rest):
    training = mode == "train" or not track_running_stats
    if momentum is None:
        momentum = 1.0 / 4.0
    known = s.get("running_mean"), s.get("running_var")
    out = c.batch_norm(x, *known, s.get("weight"), s.get("bias"), training, momentum, eps)
    return out if training else (out,)


def _ints(given):
    return tuple(given) if isinstance(given, list) else given


def _pool(function, length):
    def inner(mode, s, x, kernel_size, stride=None, **rest):
        def whole(n):
            return _ints(n) if isinstance(n, list) else (n,) * length

        return function(
            x, whole(kernel_size), _ints(stride), **{k: _ints(v) for k, v in rest.items()}
        )

    return inner


def _layer_norm(mode, s, x, normalized_shape, eps=1e-5, **rest):
    return c.layer_norm(x, _ints(normalized_shape), s.get("weight"), s.get("bias"), eps)


MODULES = {
    "Linear": lambda mode, s, x, **k: c.linear(x, s["weight"], s.get("bias")),
    "Embedding": lambda mode, s, x, padding_idx=None, **k: c.embedding(s["weight"], x, padding_idx),
    "LayerNorm": _layer_norm,
    "RMSNorm": lambda mode, s, x, normalized_shape, eps=None, **k: c.rms_norm(
        x, _ints(normalized_shape), s.get("weight"), eps
    ),
    "BatchNorm1d": lambda mode, s, x, num_features, **k: _norm(mode, s, x, **k),
    "BatchNorm2d": lambda mode, s, x, num_features, **k: _norm(mode, s, x, **k),
    "MaxPool1d": _pool(c.max_pool, 1),
    "MaxPool2d": _pool(c.max_pool, 2),
    "AvgPool1d": _pool(c.avg_pool, 1),
    "AvgPool2d": _pool(c.avg_pool, 2),
    "AdaptiveAvgPool2d": lambda mode, s, x, output_size: c.adaptive_avg_pool(x, _ints(output_size)),
    "GELU": lambda mode, s, x, **k: c.gelu(x, **k),
    "SiLU": lambda mode, s, x: c.silu(x),
    "ReLU": lambda mode, s, x: c.relu(x),
    "Sigmoid": lambda mode, s, x: c.sigmoid(x),
    "Softmax": lambda mode, s, x, dim: c.softmax(x, dim),
    "LogSoftmax": lambda mode, s, x, dim: c.log_softmax(x, dim),
}
MODULE_CASES = [
    (m, case) for case in CASES["modules"] if case["constructor"] in MODULES for m in case["modes"]
]


@pytest.mark.parametrize(
    "mode,case", MODULE_CASES, ids=lambda x: x["name"] if isinstance(x, dict) else x
)
def test_layers_equal_pytorch(mode, case):
    prefix = f"module/{case['name']}"
    names = [s["name"] for s in case["state"] if s["dtype"] == "float32"]
    state = [TENSORS[f"{prefix}/state/{n}"].astype(np.float64) for n in names]
    x = TENSORS[f"{prefix}/input/0"]
    x = x.astype(np.float64) if x.dtype == np.float32 else x

    def function(value, *rest):
        s = dict(zip(names, rest, strict=True))
        return MODULES[case["constructor"]](mode, s, value, **case["kwargs"])

    outs = run(record(function, x, *state), x, *state)
    close = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(outs[0], TENSORS[f"{prefix}/output/{mode}/0"], **close)
    cts = [TENSORS[f"{prefix}/cotangent/0"].astype(np.float64)] + [
        np.zeros_like(o) for o in outs[1:]
    ]
    keys = ["input/0"] * (x.dtype == np.float64) + [
        f"state/{n}" for n in names if n in case["parameters"]
    ]
    wanted = [0 if k == "input/0" else 1 + names.index(k[6:]) for k in keys]
    for key, found in zip(keys, grads(function, [x, *state], wanted, cts), strict=True):
        np.testing.assert_allclose(found, TENSORS[f"{prefix}/grad/{mode}/{key}"], **close)
    if len(outs) == 3:
        for name, found in zip(("running_mean", "running_var"), outs[1:], strict=True):
            np.testing.assert_allclose(found, TENSORS[f"{prefix}/state_after/{name}"], rtol=1e-6)


# Laws


SEAM = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0])
X, W = draw(3, 4), draw(2, 4, seed=5)
Q, K, V = draw(2, 4, 3, 5), draw(2, 2, 6, 5, seed=1), draw(2, 2, 6, 3, seed=2)
MASK = rng(4).random((4, 3, 6)) > 0.4
T = np.array([1, -100, 3])
IMAGE = rng(8).permutation(2 * 2 * 5 * 6).reshape(2, 2, 5, 6) / 7.0
PROBS = sp.softmax(draw(3, 4, seed=9), 1)

# name: function of arrays, the arrays, which are differentiated, which are mapped over
LAWS = {
    "relu": (c.relu, [X], [0]),
    "sigmoid": (c.sigmoid, [SEAM], [0]),
    "silu": (c.silu, [SEAM], [0]),
    "gelu": (c.gelu, [SEAM], [0]),
    "gelu_tanh": (lambda x: c.gelu(x, "tanh"), [SEAM], [0]),
    "leaky_relu": (lambda x: c.leaky_relu(x, 0.2), [X], [0]),
    "elu": (lambda x: c.elu(x, 1.3), [SEAM[SEAM != 0]], [0]),
    "softplus": (lambda x: c.softplus(x, 2.0), [SEAM], [0]),
    "log_sigmoid": (c.log_sigmoid, [SEAM], [0]),
    "mean": (lambda x: c.mean(x, (0, -1)), [draw(2, 3, 4)], [0]),
    "mean_keepdims": (lambda x: c.mean(x, 1, True), [draw(2, 3, 4)], [0]),
    "var": (lambda x: c.var(x, -1, 1.0), [X], [0]),
    "var_keepdims": (lambda x: c.var(x, 0, keepdims=True), [X], [0]),
    "std": (lambda x: c.std(x, 1, 1.0), [X], [0]),
    "logsumexp": (lambda x: c.logsumexp(x, 1), [X], [0]),
    "logsumexp_keepdims": (lambda x: c.logsumexp(x, (0, 1), True), [X], [0]),
    "softmax": (c.softmax, [X], [0]),
    "softmax_first": (lambda x: c.softmax(x, 0), [X], [0]),
    "log_softmax": (lambda x: c.log_softmax(x, -2), [X], [0]),
    "layer_norm": (
        lambda x, w, b: c.layer_norm(x, 4, w, b),
        [X, draw(4), draw(4, seed=3)],
        [0, 1, 2],
    ),
    "layer_norm_plain": (lambda x: c.layer_norm(x, (3, 4), eps=0.1), [draw(2, 3, 4)], [0]),
    "rms_norm": (lambda x, w: c.rms_norm(x, 4, w), [X, draw(4)], [0, 1]),
    "batch_norm": (
        lambda x, w, b: c.batch_norm(x, None, None, w, b, True)[0],
        [draw(3, 2, 4), draw(2), draw(2, seed=1)],
        [0, 1, 2],
    ),
    "batch_norm_fixed": (
        lambda x, w, b: c.batch_norm(x, w * 0.5, b * b + 0.5, w, b),
        [draw(3, 2, 4), draw(2), draw(2, seed=1)],
        [0, 1, 2],
    ),
    "group_norm": (
        lambda x, w, b: c.group_norm(x, 2, w, b),
        [draw(2, 4, 3), draw(4), draw(4)],
        [0, 1, 2],
    ),
    "linear": (c.linear, [X, W, draw(2)], [0, 1, 2]),
    "linear_lead": (c.linear, [draw(2, 3, 4), W], [0, 1]),
    "einsum": (lambda *v: c.einsum("ij,jk,kl->li", *v), [X, draw(4, 2), draw(2, 5)], [0, 1, 2]),
    "einsum_dots": (
        lambda *v: c.einsum("...ij,...jk->...ik", *v),
        [draw(2, 1, 3, 4), draw(5, 4, 2)],
        [0, 1],
    ),
    "tensordot": (
        lambda x, y: c.tensordot(x, y, ((0, 2), (1, 0))),
        [draw(2, 3, 4), draw(4, 2, 5)],
        [0, 1],
    ),
    "vecdot": (c.vecdot, [draw(2, 1, 4), draw(3, 4)], [0, 1]),
    "outer": (c.outer, [draw(3), draw(4)], [0, 1]),
    "attention": (c.attention, [Q, draw(2, 4, 6, 5), draw(2, 4, 6, 3)], [0, 1, 2]),
    "attention_flat": (c.attention, [Q[0, 0], K[0, 0], V[0, 0]], [0, 1, 2]),
    "attention_groups": (lambda *v: c.attention(*v, causal=True, scale=0.3), [Q, K, V], [0, 1, 2]),
    "attention_mask": (lambda q, k, v: c.attention(q, k, v, MASK), [Q, K, V], [0, 1, 2]),
    "attention_bias": (c.attention, [Q, K, V, draw(4, 3, 6)], [0, 1, 2, 3]),
    "attention_empty": (
        lambda q, k, v: c.attention(q, k, v, np.array([[False] * 6, [True] * 6, [False] * 6])),
        [Q, K, V],
        [0, 1, 2],
    ),
    "attention_dropout": (
        lambda q, k, v: c.attention(q, k, v, dropout_p=0.4, state=STATE, causal=True),
        [Q, K, V],
        [0, 1, 2],
    ),
    "cross_entropy": (lambda x: c.cross_entropy(x, T), [X], [0]),
    "cross_entropy_all": (
        lambda x: c.cross_entropy(x, T, np.array([1.0, 2.0, 3.0, 0.5]), label_smoothing=0.2),
        [X],
        [0],
    ),
    "cross_entropy_none": (
        lambda x: c.cross_entropy(
            x, np.array([[1, 0], [2, 2]]), reduction="none", label_smoothing=0.1
        ),
        [draw(2, 3, 2)],
        [0],
    ),
    "cross_entropy_one": (
        lambda x: c.cross_entropy(x, np.array(2), reduction="sum"),
        [draw(4)],
        [0],
    ),
    "cross_entropy_probabilities": (
        lambda x, t: c.cross_entropy(x, t, np.array([1.0, 2.0, 3.0, 0.5]), label_smoothing=0.1),
        [X, PROBS],
        [0, 1],
    ),
    "nll_loss": (lambda x: c.nll_loss(x, T, np.array([1.0, 2.0, 3.0, 0.5])), [X], [0]),
    "bce_logits": (
        lambda x, t: c.binary_cross_entropy_with_logits(
            x, t, pos_weight=np.array([1.0, 2.0, 3.0, 0.5])
        ),
        [np.concatenate([X, np.zeros((1, 4))]), rng().random((4, 4))],
        [0, 1],
    ),
    "bce": (
        c.binary_cross_entropy,
        [rng().random((3, 4)) * 0.7, rng(1).random((3, 4)), rng(2).random(4)],
        [0, 1, 2],
    ),
    "mse_loss": (c.mse_loss, [X, draw(3, 4, seed=2)], [0, 1]),
    "l1_loss": (c.l1_loss, [X, draw(3, 4, seed=2)], [0, 1]),
    "huber_loss": (lambda x, t: c.huber_loss(x, t, delta=0.7), [X, draw(3, 4, seed=2)], [0, 1]),
    "smooth_l1_loss": (
        lambda x, t: c.smooth_l1_loss(x, t, "sum", 0.7),
        [X, draw(3, 4, seed=2)],
        [0, 1],
    ),
    "kl_div": (lambda x, t: c.kl_div(x, t, "batchmean"), [np.log(PROBS), PROBS[::-1]], [0, 1]),
    "kl_div_log": (
        lambda x, t: c.kl_div(x, t, log_target=True),
        [np.log(PROBS), np.log(PROBS[::-1])],
        [0, 1],
    ),
    "dropout": (lambda x: c.dropout(x, STATE, 0.3), [X], [0]),
    "uniform": (
        lambda a, b: c.uniform(STATE, (5,), "float64", a, b),
        [np.array(-1.0), np.array(2.0)],
        [0, 1],
    ),
    "embedding": (lambda w: c.embedding(w, np.array([[1, 0], [2, 1]])), [X], [0]),
    "take": (lambda x: c.take(x, np.array([[1, -1], [0, 1]]), 1), [draw(2, 3, 4)], [0]),
    "take_along_axis": (
        lambda x: c.take_along_axis(x, np.array([[[1], [-1]]]), 1),
        [draw(2, 3, 4)],
        [0],
    ),
    "max_pool": (lambda x: c.max_pool(x, 3, 2, 1), [IMAGE], [0]),
    "max_pool_dilation": (lambda x: c.max_pool(x, (2, 3), 1, (1, 0), (2, 1)), [IMAGE[0]], [0]),
    "avg_pool": (lambda x: c.avg_pool(x, 3, 2, 1, True, False), [IMAGE], [0]),
    "adaptive_avg_pool": (lambda x: c.adaptive_avg_pool(x, (3, 4)), [IMAGE], [0]),
    "adaptive_max_pool": (lambda x: c.adaptive_max_pool(x, (3, None)), [IMAGE], [0]),
}
law = pytest.mark.parametrize("name", LAWS)


def slope(function, arrays, moved, h=1e-5):
    """The derivative along `moved`, by central differences of fourth order."""

    def at(t):
        shifted = [a + t * m if m is not None else a for a, m in zip(arrays, moved, strict=True)]
        return np.asarray(function(shifted), np.float64)

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def directions(arrays, wanted, seed=3):
    return [draw(*a.shape, seed=seed + i) if i in wanted else None for i, a in enumerate(arrays)]


def inner(found, moved):
    return sum(
        np.sum(f * m) for f, m in zip(found, [m for m in moved if m is not None], strict=True)
    )


@law
def test_first_derivatives_equal_finite_differences_in_both_modes(name):
    function, arrays, wanted = LAWS[name]
    graph = record(function, *arrays)
    y = run(graph, *arrays)[0]
    ct, moved = draw(*y.shape, seed=11), directions(arrays, wanted)
    expected = slope(lambda shifted: np.sum(run(graph, *shifted)[0] * ct), arrays, moved)
    found = inner(grads(function, arrays, wanted, [ct]), moved)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    forward = tangents(function, arrays, moved)[0]
    np.testing.assert_allclose(np.sum(forward * ct), found, rtol=1e-9, atol=1e-11)


@law
def test_second_derivatives_equal_finite_differences(name):
    function, arrays, wanted = LAWS[name]
    y = call(function, *arrays)
    ct, moved = draw(*y.shape, seed=11), directions(arrays, wanted)
    first = gradient_graph(record(function, *arrays), tuple(wanted))
    weights = directions(arrays, wanted, seed=20)

    def weighted(shifted):
        return inner(run(first, *shifted, ct), weights)

    expected = slope(weighted, arrays, moved)
    again = gradient_graph(first, tuple(wanted))
    found = inner(run(again, *arrays, ct, *[w for w in weights if w is not None]), moved)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@law
def test_vmap_equals_stacking(name):
    function, arrays, wanted = LAWS[name]
    count = 3
    for flags in ([i in wanted for i in range(len(arrays))], [i == 0 for i in range(len(arrays))]):
        rows = [
            np.stack([a, a * 0.5, a + 0.25]) if f else a for a, f in zip(arrays, flags, strict=True)
        ]
        found = mapped(function, rows, flags, count)[0]
        for i in range(count):
            one = [a[i] if f else a for a, f in zip(rows, flags, strict=True)]
            np.testing.assert_allclose(found[i], call(function, *one), rtol=1e-12, atol=1e-13)
        gradient_of_mapped(function, rows, flags, wanted, count)


def gradient_of_mapped(function, rows, flags, wanted, count):
    """The gradient of the mapped function is the gradients' stack."""
    inner_rows = [a[0] if f else a for a, f in zip(rows, flags, strict=True)]
    graph = batched_graph(record(function, *inner_rows), tuple(flags), count)
    ct = draw(*graph.output_specs()[0].shape, seed=13)
    found = run(gradient_graph(graph, (0,)), *rows, ct)[0]
    for i in range(count):
        one = [a[i] if f else a for a, f in zip(rows, flags, strict=True)]
        expected = grads(function, one, [0], [ct[i]])[0]
        np.testing.assert_allclose(found[i], expected, rtol=1e-9, atol=1e-11)


NOT_NARROW = {"uniform", "batch_norm_fixed", "tensordot", "outer"}


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16], ids=str)
@law
def test_narrow_interiors_are_wide(name, dtype):
    """The result is the float32 result of the same numbers, rounded once; a gradient is near it."""
    function, arrays, wanted = LAWS[name]
    if name in NOT_NARROW:
        return
    few = [a.astype(dtype) if a.dtype == np.float64 else a for a in arrays]
    many = [a.astype(np.float32) if a.dtype == dtype else a for a in few]

    def converted(target):
        return narrowed_constants(function, target)

    found, expected = call(converted(dtype), *few), call(converted(np.dtype(np.float32)), *many)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.astype(dtype))
    ct = draw(*found.shape, seed=11).astype(dtype)
    near = grads(converted(dtype), few, wanted, [ct])
    exact = grads(converted(np.dtype(np.float32)), many, wanted, [ct.astype(np.float32)])
    eps = float(ml_dtypes.finfo(dtype).eps)
    for a, b in zip(near, exact, strict=True):
        assert a.dtype == dtype
        scale = max(1e-3, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(a.astype(np.float32), b, rtol=2 * eps, atol=2 * eps * scale)


def narrowed_constants(function, target):
    """The function with float64 arrays inside it in another dtype: weights of a loss, say."""
    plain = Builder.constant

    def constant(self, array, of):
        if of.dtype is dtypes.float64:
            array, of = np.asarray(array, target), spec(of.shape, dtypes.dtype(target))
        return plain(self, array, of)

    def inner_function(*values):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Builder, "constant", constant)
            return function(*values)

    return inner_function


@law
def test_one_node_each(name):
    function, arrays, _ = LAWS[name]
    if name != "batch_norm_fixed":  # its test case computes a variance first
        assert len(record(function, *arrays).steps) == 1


@law
def test_float32_stays_float32(name):
    function, arrays, wanted = LAWS[name]
    if name in ("uniform", "bce_logits"):
        return
    one = [a.astype(np.float32) if a.dtype == np.float64 else a for a in arrays]
    graph = record(narrowed_constants(function, np.dtype(np.float32)), *one)
    assert {s.dtype for s in graph.output_specs()} == {dtypes.float32}
    assert all(s.dtype is not dtypes.float64 for s in flat(graph, keeps=nothing).slot_specs())


def test_no_contraction_runs_twice():
    def contractions(function, arrays, wanted):
        graph = flat(gradient_graph(record(function, *arrays), tuple(wanted)), keeps=nothing)
        return Counter(s.entry.primitive.name for s in graph.steps)

    assert contractions(c.attention, [Q, K, V], [0, 1, 2])["dot"] == 6
    assert contractions(c.attention, [Q, K, V], [0, 1, 2])["exp"] == 1
    assert contractions(c.linear, [X, W, draw(2)], [0, 1, 2])["dot"] == 2
    assert contractions(c.softmax, [X], [0])["exp"] == 1
    assert contractions(c.sigmoid, [X], [0])["exp"] == 1
    assert contractions(lambda x: c.layer_norm(x, 4), [X], [0])["rsqrt"] == 1
    assert contractions(c.log_softmax, [X], [0])["max"] == 1
    found = contractions(lambda x: c.cross_entropy(x, T), [X], [0])
    assert (found["scatter"], found["max"], found["exp"]) == (0, 1, 1)


def test_numbers_are_operands():
    """Another eps, slope, scale or probability makes no other entry."""
    pairs = [
        (lambda n: lambda x: c.layer_norm(x, 4, eps=n)),
        (lambda n: lambda x: c.leaky_relu(x, n)),
        (lambda n: lambda x: c.huber_loss(x, x, delta=n)),
        (lambda n: lambda x: c.dropout(x, STATE, n)),
        (lambda n: lambda x: c.cross_entropy(x, T, label_smoothing=n)),
        (lambda n: lambda x: c.cross_entropy(x, T, ignore_index=int(100 * n))),
        (lambda n: lambda x: c.attention(x, x, x, scale=n)),
        (lambda n: lambda x: c.var(x, 1, n)),
        (lambda n: lambda x: c.embedding(x, T, int(3 * n))),
    ]
    for make in pairs:
        one, two = (record(make(n), X).steps[0].entry for n in (0.1, 0.7))
        assert one is two


# Values


def ulps(found, expected):
    """The largest error in units of the last place."""
    unit = np.spacing(np.abs(expected).astype(found.dtype)).astype(np.longdouble)
    return np.max(np.abs(found.astype(np.longdouble) - expected) / unit)


LONG = np.concatenate([np.linspace(-80, 80, 4001), [0.0, -0.0, 1e-8, -1e-8]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tails_are_accurate(dtype):
    x = LONG.astype(dtype)
    wide = x.astype(np.longdouble)
    small = np.exp(-np.abs(wide))
    logistic = np.where(wide < 0, small, 1) / (1 + small)
    plus = np.maximum(wide, 0) + np.log1p(small)
    assert ulps(call(c.sigmoid, x), logistic) <= 4
    assert ulps(call(c.silu, x[x != 0]), (wide * logistic)[x != 0]) <= 5
    assert ulps(call(c.softplus, x), plus) <= 4
    assert ulps(call(c.log_sigmoid, x), -(np.maximum(-wide, 0) + np.log1p(small))) <= 4


def test_infinities_and_nan():
    x = np.array([np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(call(c.sigmoid, x), [1, 0, np.nan])
    np.testing.assert_array_equal(call(c.relu, x), [np.inf, 0, np.nan])
    np.testing.assert_array_equal(call(c.softplus, x), [np.inf, 0, np.nan])
    np.testing.assert_array_equal(call(c.elu, x), [np.inf, -1, np.nan])
    np.testing.assert_array_equal(
        grads(c.elu, [np.array([800.0, -800.0])], [0], [np.ones(2)])[0], [1, 0]
    )
    rows = np.array([[-np.inf, -np.inf], [0, -np.inf], [np.inf, 0], [np.nan, 0]])
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(
        call(c.softmax, rows), [[nan, nan], [1, 0], [nan, nan], [nan, nan]]
    )
    np.testing.assert_array_equal(call(lambda v: c.logsumexp(v, 1), rows), [-inf, 0, inf, nan])
    back = grads(lambda v: c.logsumexp(v, 1), [rows[:2]], [0], [np.ones(2)])[0]
    np.testing.assert_array_equal(back, [[0, 0], [1, 0]])
    large = np.array([[1e4, 1e4 - 1, -1e4]], np.float32)
    np.testing.assert_allclose(
        call(c.softmax, large), sp.softmax(large.astype(float), 1), rtol=1e-6
    )
    np.testing.assert_allclose(
        call(c.log_softmax, large), sp.log_softmax(large.astype(float), 1), rtol=1e-6
    )


def test_moments_equal_numpy():
    x = draw(3, 4, 5)
    for axis in (None, 0, -1, (0, 2), (-1, 1), ()):
        for keepdims in (False, True):
            np.testing.assert_allclose(
                call(lambda v: c.mean(v, axis, keepdims), x), x.mean(axis, keepdims=keepdims)
            )
            for f in (0.0, 1.0, 0.5):
                found = call(lambda v: c.var(v, axis, f, keepdims), x)
                n = x.size / max(1, x.mean(axis).size)
                with np.errstate(all="ignore"):
                    expected = x.var(axis, keepdims=keepdims) * n / max(n - f, 0.0)
                np.testing.assert_allclose(found, expected, atol=1e-15)
            np.testing.assert_allclose(
                call(lambda v: c.std(v, axis, keepdims=keepdims), x),
                x.std(axis, keepdims=keepdims),
                atol=1e-15,
            )
    assert np.isnan(call(c.mean, np.zeros((0,))))
    np.testing.assert_array_equal(
        grads(lambda v: c.std(v), [np.ones(3)], [0], [np.ones(())])[0], np.zeros(3)
    )
    big = (1e4 + draw(1000)).astype(np.float32)
    np.testing.assert_allclose(call(c.var, big), big.astype(float).var(), rtol=1e-4)
    assert call(lambda v: c.softmax(v), np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize(
    "equation,shapes",
    [
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ij,kj->ikj", [(2, 3), (4, 3)]),
        ("i,j,k->kji", [(2,), (3,), (4,)]),
        ("bij,bjk,bk->bi", [(2, 3, 4), (2, 4, 5), (2, 5)]),
        ("ij,ij->", [(2, 3), (2, 3)]),
        ("ij,kl->ki", [(2, 3), (4, 5)]),
        ("ijk->ki", [(2, 3, 4)]),
        ("ba", [(2, 3)]),
        ("ij,jk->ik", [(2, 0), (0, 3)]),
        ("...ij,...jk", [(5, 2, 3), (3, 4)]),
        ("i...,...->...i", [(2, 1, 3), (4, 3)]),
        ("...,...->...", [(2, 1), (3,)]),
        ("a...b,b...->a...", [(2, 3, 4), (4, 5, 1)]),
        ("i,->i", [(3,), ()]),
    ],
)
def test_einsum_equals_numpy(equation, shapes):
    arrays = [draw(*s, seed=i) for i, s in enumerate(shapes)]
    np.testing.assert_allclose(
        call(lambda *v: c.einsum(equation, *v), *arrays), np.einsum(equation, *arrays)
    )


def test_products_equal_numpy():
    a, b = draw(2, 3, 4), draw(4, 3, 2)
    for axes in (0, 1, ((2, 0), (0, 2)), ((-1,), (0,)), (1, 1), ((), ())):
        np.testing.assert_allclose(
            call(lambda x, y: c.tensordot(x, y, axes), a, b), np.tensordot(a, b, axes)
        )
    np.testing.assert_allclose(call(c.vecdot, a, draw(4)), a @ draw(4))
    np.testing.assert_allclose(
        call(lambda x, y: c.vecdot(x, y, -2), a, draw(3, 1)), (a * draw(3, 1)).sum(-2)
    )
    assert call(c.outer, np.array([1, 2]), np.array([3.0])).tolist() == [[3.0], [6.0]]


def _attend(q, k, v, mask, scale):
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ np.swapaxes(k, -1, -2) * scale
    scores = np.where(mask, scores, -np.inf)
    with np.errstate(all="ignore"):
        p = np.nan_to_num(sp.softmax(scores, -1))
    return p @ v


def test_attention_against_numpy():
    mask = MASK.copy()
    mask[1, 2] = False
    found = call(lambda q, k, v: c.attention(q, k, v, mask), Q, K, V)
    np.testing.assert_allclose(found, _attend(Q, K, V, mask, 5**-0.5), rtol=1e-10)
    assert not found[:, 1, 2].any()
    bias = np.where(mask, 0.0, -np.inf)
    np.testing.assert_array_equal(call(c.attention, Q, K, V, bias), found)
    for g in grads(c.attention, [Q, K, V, bias], [0, 1, 2, 3], [np.ones_like(found)]):
        assert np.isfinite(g).all()
    grid = np.arange(6) <= np.arange(3)[:, None]
    causal = call(lambda q, k, v: c.attention(q, k, v, mask, causal=True), Q, K, V)
    np.testing.assert_allclose(causal, _attend(Q, K, V, mask & grid, 5**-0.5), rtol=1e-10)
    huge = call(
        c.attention,
        (Q * 1e3).astype(np.float32),
        (K * 1e3).astype(np.float32),
        V.astype(np.float32),
    )
    assert np.isfinite(huge).all()
    assert (
        call(c.attention, Q, K[:, :, :0], V[:, :, :0]).tolist() == np.zeros((2, 4, 3, 3)).tolist()
    )
    many = record(c.attention, Q, K, V)
    assert all(s.size <= 2 * 4 * 3 * 6 for s in flat(many).slot_specs()), "heads are not repeated"
    nothing = call(lambda q, k, v: c.attention(q, k, v, dropout_p=1.0, state=STATE), Q, K, V)
    assert not nothing.any()
    all_kept = call(lambda q, k, v: c.attention(q, k, v, dropout_p=0.0, state=STATE), Q, K, V)
    np.testing.assert_array_equal(all_kept, call(c.attention, Q, K, V))


def test_bad_targets_show():
    for t in (4, -1, -99):
        target = np.array([1, t, 3])
        loss = call(lambda x: c.cross_entropy(x, target, reduction="none"), X)
        assert np.isnan(loss).tolist() == [False, True, False]
        for function in (c.cross_entropy, c.nll_loss):
            for weight in (None, np.ones(4)):
                g = grads(lambda x: function(x, target, weight), [X], [0], [np.ones(())])[0]
                assert np.isnan(g[1]).all(), (function, weight)
                if weight is None:
                    assert np.isfinite(g[[0, 2]]).all()
    ignored = np.full(3, 7)
    assert np.isnan(call(lambda x: c.cross_entropy(x, ignored, ignore_index=7), X))
    offset = (X + 1e4).astype(np.float32)
    target = np.array([1, 2, 3])
    exact = -sp.log_softmax(offset.astype(float), 1)[range(3), target].mean()
    np.testing.assert_allclose(call(lambda x: c.cross_entropy(x, target), offset), exact, rtol=1e-6)
    small = target.astype(np.uint8)
    np.testing.assert_allclose(
        call(lambda x: c.cross_entropy(x, small), X), -sp.log_softmax(X, 1)[range(3), small].mean()
    )


def test_binary_losses_at_the_edges():
    x, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])

    def none(a, b):
        return c.binary_cross_entropy(a, b, reduction="none")

    np.testing.assert_array_equal(call(none, x, t), [0, 0, 100, 100])
    np.testing.assert_allclose(grads(none, [x, t], [0], [np.ones(4)])[0], [0, 0, -1e12, 1e12])
    logits = np.array([-90.0, 90.0, -90.0, 90.0], np.float32)
    found = call(
        lambda a, b: c.binary_cross_entropy_with_logits(a, b, reduction="none"),
        logits,
        t.astype(np.float32),
    )
    np.testing.assert_allclose(found, [np.exp(-90.0), np.exp(-90.0), 90, 90], rtol=1e-5)
    assert (
        call(lambda a, b: c.kl_div(a, b), np.log([0.5, 0.5]), np.array([0.0, 1.0])) == np.log(2) / 2
    )


def test_batch_norm_running_values_have_no_derivative():
    x, s = draw(3, 2, 4), np.abs(draw(2)) + 1

    def function(v, m, r):
        return c.batch_norm(v, m, r, training=True)[1:]

    graph = record(function, x, s, s)
    assert [g.any() for g in run(gradient_graph(graph, (0, 1, 2)), x, s, s, s, s)] == [False] * 3
    assert graph.steps[-1].entry.primitive.differentiable is False
    narrow = [x.astype(BF16), s.astype(np.float32), s.astype(np.float32)]
    y, m, v = call(lambda *a: c.batch_norm(*a, training=True), *narrow)
    assert (y.dtype, m.dtype, v.dtype) == (BF16, np.float32, np.float32)


# Pooling


def _windows_of(x, k, s, p, d, fill):
    x = np.pad(x, [(0, 0)] * (x.ndim - len(k)) + [(q, q) for q in p], constant_values=fill)
    n = x.shape[-len(k) :]
    outs = [(m - e * (w - 1) - 1) // t + 1 for m, w, t, e in zip(n, k, s, d, strict=True)]
    rows = []
    for at in np.ndindex(*outs):
        cut = tuple(
            slice(i * t, i * t + e * (w - 1) + 1, e) for i, w, t, e in zip(at, k, s, d, strict=True)
        )
        rows.append(x[(..., *cut)].reshape(*x.shape[: -len(k)], -1))
    return np.stack(rows, -2).reshape(*x.shape[: -len(k)], *outs, -1)


@pytest.mark.parametrize(
    "k,s,p,d",
    [
        ((2,), (2,), (0,), (1,)),
        ((3,), (1,), (1,), (2,)),
        ((2, 3), (1, 2), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((2, 2, 2), (2, 1, 1), (1, 0, 1), (1, 2, 1)),
    ],
)
def test_pools_equal_numpy(k, s, p, d):
    x = np.round(draw(2, 3, *[7, 6, 5][: len(k)]), 1)
    windows = _windows_of(x, k, s, p, d, -np.inf)
    np.testing.assert_array_equal(call(lambda v: c.max_pool(v, k, s, p, d), x), windows.max(-1))
    np.testing.assert_array_equal(
        call(lambda v: c.max_pool(v, k, s, p, d), (x * 10).astype(np.int32)),
        (windows * 10).max(-1).astype(np.int32),
    )
    zeros = _windows_of(x, k, s, p, (1,) * len(k), 0.0)
    np.testing.assert_allclose(
        call(lambda v: c.avg_pool(v, k, s, p), x), zeros.mean(-1), atol=1e-14
    )
    inside = _windows_of(np.ones_like(x), k, s, p, (1,) * len(k), 0.0).sum(-1)
    found = call(lambda v: c.avg_pool(v, k, s, p, count_include_pad=False), x)
    np.testing.assert_allclose(found, zeros.sum(-1) / inside, atol=1e-14)


def test_pool_ties_and_nan():
    """The first maximum in row-major order has the gradient."""
    x = np.array([[1.0, 2.0, 0.0], [2.0, 2.0, 1.0], [0.0, 2.0, 2.0]])[None, None]
    g = grads(lambda v: c.max_pool(v, 2, 1), [x], [0], [np.ones((1, 1, 2, 2))])[0][0, 0]
    np.testing.assert_array_equal(g, [[0, 2, 0], [1, 1, 0], [0, 0, 0]])
    x[0, 0, 2, 0] = np.nan
    assert np.isnan(call(lambda v: c.max_pool(v, 2, 1), x)).tolist() == [
        [[[False, False], [True, False]]]
    ]
    negative = -np.ones((1, 1, 3))
    assert call(lambda v: c.max_pool(v, 3, 1, 1), negative).tolist() == [[[-1.0] * 3]]


def test_pool_ceil_mode():
    """Sizes and divisors as in PyTorch: a last window starts inside the axis or its low padding."""
    x = np.arange(1.0, 8.0)[None, None]
    assert call(lambda v: c.max_pool(v, 3, 3, 0, ceil_mode=True), x).tolist() == [[[3, 6, 7]]]
    assert call(lambda v: c.max_pool(v, 2, 3, 1, ceil_mode=True), x).tolist() == [[[1, 4, 7]]]
    assert call(lambda v: c.avg_pool(v, 3, 3, 0, True), x).tolist() == [[[2, 5, 7]]]
    assert call(lambda v: c.avg_pool(v, 3, 2, 1, True), x).tolist() == [[[1, 3, 5, 13 / 3]]]


@pytest.mark.parametrize("n", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("m", [1, 2, 3, 5, 9])
def test_adaptive_pools_equal_numpy(n, m):
    x = draw(2, n, 4)
    cuts = [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
    mean = np.stack([x[:, k].mean(1) for k in cuts], 1)
    top = np.stack([x[:, k].max(1) for k in cuts], 1)
    np.testing.assert_allclose(
        call(lambda v: c.adaptive_avg_pool(v, (m, None)), x), mean, atol=1e-14
    )
    np.testing.assert_array_equal(call(lambda v: c.adaptive_max_pool(v, (m, 4)), x), top)


# Indexing


def test_rows_and_elements():
    w = draw(5, 3)
    i = np.array([[4, 0], [5, -1]])
    found = call(lambda v: c.embedding(v, i), w)
    np.testing.assert_array_equal(found[0], w[[4, 0]])
    assert np.isnan(found[1]).all()
    rows = np.array([[1, 4, 4], [0, 1, 2]])
    graph = record(lambda v, j: c.embedding(v, j, -1), w, rows[0])
    graph = gradient_graph(batched_graph(graph, (False, True), 2), (0,))
    g = run(graph, w, rows, draw(2, 3, 3))[0]
    assert not g[4].any() and g[1].any()
    x = draw(3, 4)
    for axis in (0, 1, -1):
        j = np.array([[0, -1], [2, 1]], np.int8)
        np.testing.assert_array_equal(call(lambda v: c.take(v, j, axis), x), np.take(x, j, axis))
    j = np.array([[-1, 0, 2, 1]])
    np.testing.assert_array_equal(
        call(lambda v: c.take_along_axis(v, j, 0), x), np.take_along_axis(x, j, 0)
    )
    long = np.arange(300)
    assert call(lambda v: c.take(v, np.array([255], np.uint8)), long).tolist() == [255]
    assert call(lambda v: c.take(v, np.array([-1], np.int8)), long).tolist() == [299]
    assert call(lambda v: c.one_hot(v, 3, "float32"), np.array([2, 3, -1])).tolist() == [
        [0, 0, 1],
        [0] * 3,
        [0] * 3,
    ]


# Random


def test_uniforms():
    bits = np.array([0, 2**32 - 1], np.uint32)
    for name, digits in (("float32", 24), ("float16", 11), ("bfloat16", 8)):
        found = call(lambda b: uniform_from_bits(b, dtypes.dtype(name)), bits)
        assert found.astype(float).tolist() == [0.0, 1.0 - 2.0**-digits]
    found = call(lambda b: uniform_from_bits(b, dtypes.float64), np.stack([bits, bits], -1))
    assert found.tolist() == [0.0, 1.0 - 2.0**-53]
    for name in ("float32", "float64", "float16", "bfloat16"):
        found = call(lambda s: c.uniform(s, (20000,), name, -1.0, 3.0), STATE).astype(float)
        assert -1 <= found.min() < -0.99 and 2.98 < found.max() <= 3
        assert abs(found.mean() - 1) < 0.04
    with pytest.raises(DtypeError):
        call(lambda s: c.uniform(s, (2,), "int32"), STATE)


def test_normals():
    for name in ("float32", "float64"):
        found = call(lambda s: c.normal(s, (20000,), name), STATE).astype(float)
        assert kstest(found, "norm").pvalue > 1e-3
    for pattern in (0, 2**32 - 1):
        bits = np.full((2, 4), pattern, np.uint32)
        assert np.isfinite(call(lambda b: normal_from_bits(b, dtypes.float64), bits)).all()
        assert np.isfinite(call(lambda b: normal_from_bits(b, dtypes.float32), bits[:, :2])).all()
    assert call(lambda s: c.normal(s, (3,), "bfloat16"), STATE).dtype == BF16


def test_integers():
    found = call(lambda s: c.randint(s, (30000,), -3, 4), STATE)
    assert found.dtype == np.int64
    counts = np.bincount(found + 3, minlength=7)
    assert len(counts) == 7 and abs(counts - 30000 / 7).max() < 400
    edges = call(lambda s: c.randint(s, (1000,), -(2**63), 2**63), STATE)
    assert edges.min() < -(2**62) and edges.max() > 2**62
    assert set(call(lambda s: c.randint(s, (99,), 0, 256, "uint8"), STATE).tolist()) <= set(
        range(256)
    )
    order = call(lambda s: c.permutation(s, 1000), STATE)
    assert sorted(order) == list(range(1000)) and order.tolist() != list(range(1000))
    assert call(lambda s: c.permutation(s, 0), STATE).shape == (0,)
    firsts = [
        call(lambda s: c.permutation(s, 3), np.array([k, 1, 0, 0], np.uint32))[0]
        for k in range(600)
    ]
    assert np.abs(np.bincount(firsts) - 200).max() < 50


def test_choices():
    p = np.array([0.0, 0.25, 1.0], np.float32)
    found = mapped(
        c.bernoulli,
        [np.stack([np.array([k, 1, 0, 0], np.uint32) for k in range(4000)]), p],
        [True, False],
        4000,
    )[0]
    rate = found.mean(0)
    assert rate[0] == 0 and rate[2] == 1 and abs(rate[1] - 0.25) < 0.03
    logits = np.tile([np.log(0.1), -np.inf, np.log(0.6), np.log(0.3)], (20000, 1))
    for dtype in (np.float32, np.float64, BF16):
        with np.errstate(all="ignore"):
            drawn = call(c.categorical, STATE, logits.astype(dtype))
        assert np.abs(np.bincount(drawn, minlength=4) / 20000 - [0.1, 0.0, 0.6, 0.3]).max() < 0.015
    assert call(c.categorical, STATE, np.zeros((3, 1))).tolist() == [0, 0, 0]


def test_dropout():
    x = np.ones((100, 100), np.float32)
    y = call(lambda v: c.dropout(v, STATE, 0.25), x)
    assert (
        set(np.unique(y).tolist()) == {0.0, float(np.float32(1 / 0.75))}
        and abs(y.mean() - 1) < 0.02
    )
    wide = call(lambda v: c.dropout(v, STATE, 0.25), x.astype(np.float64))
    np.testing.assert_array_equal(wide != 0, y != 0)
    odd = np.array([np.nan, np.inf, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(call(lambda v: c.dropout(v, STATE, 0.0), odd), odd)
    assert call(lambda v: c.dropout(v, STATE, 1.0), odd).tolist() == [0, 0, 0, 0]
    assert not grads(lambda v: c.dropout(v, STATE, 1.0), [x], [0], [x])[0].any()
    np.testing.assert_array_equal(grads(lambda v: c.dropout(v, STATE, 0.25), [x], [0], [x])[0], y)
    other = call(lambda v: c.dropout(v, np.array([3, 5, 1, 0], np.uint32), 0.25), x)
    assert (other != y).any()


# Hostile arguments


F32, F64, I64 = np.ones((3, 4), np.float32), np.ones((3, 4)), np.ones((3, 4), np.int64)
HOSTILE = [
    (lambda: c.sigmoid(I64), DtypeError, "astype"),
    (lambda: c.relu(F32 > 0), DtypeError, "relu"),
    (lambda: c.relu("x"), DtypeError, "relu"),
    (lambda: c.gelu(F32, "exact"), ArgumentError, "tanh"),
    (lambda: c.leaky_relu(F32, F32), ShapeError, "negative_slope"),
    (lambda: c.leaky_relu(F32, "1"), DtypeError, ""),
    (lambda: c.mean(F32, 2), ArgumentError, "axis"),
    (lambda: c.mean(F32, (0, 0)), ArgumentError, "distinct"),
    (lambda: c.mean(F32, 1.0), DtypeError, "axis"),
    (lambda: c.mean(F32, 0, 1), DtypeError, "keepdims"),
    (lambda: c.var(F32, correction=True), DtypeError, "correction"),
    (lambda: c.softmax(np.float32(1)), ArgumentError, "axes"),
    (lambda: c.softmax(F32, 5), ArgumentError, "axis"),
    (lambda: c.logsumexp(F32[:0], 0), ShapeError, "element"),
    (lambda: c.layer_norm(F32, 3), ShapeError, "last axes"),
    (lambda: c.layer_norm(F32, ()), ArgumentError, ""),
    (lambda: c.layer_norm(F64, 4, F32[0]), DtypeError, "weight.astype(pa.float64)"),
    (lambda: c.layer_norm(F32, 4, F32), ShapeError, "`weight`"),
    (lambda: c.layer_norm(F32, 4, eps=-1), ArgumentError, "eps"),
    (lambda: c.rms_norm(F32, 4, eps=float("nan")), ArgumentError, "eps"),
    (lambda: c.batch_norm(F32[0], None, None), ShapeError, "(N, C"),
    (lambda: c.batch_norm(F32, None, None), ArgumentError, "training"),
    (lambda: c.batch_norm(F32[:1], None, None, training=True), ShapeError, "2 in training"),
    (lambda: c.batch_norm(F32, F32[0], None, training=True), ArgumentError, "running"),
    (lambda: c.batch_norm(F32, F32[0], F32[0], training=1), DtypeError, "training"),
    (lambda: c.group_norm(F32, 3), ArgumentError, "divisor"),
    (lambda: c.group_norm(F32, 0), ArgumentError, ""),
    (lambda: c.linear(F64, F32), DtypeError, "weight.astype(pa.float64)"),
    (lambda: c.linear(F32, F32.T), ShapeError, "linear"),
    (lambda: c.linear(F32, F32[0]), ShapeError, "(out, in)"),
    (lambda: c.linear(F32, F32, F32), ShapeError, "bias"),
    (lambda: c.linear(np.float32(1), F32), ShapeError, "linear"),
    (lambda: c.linear(I64, I64), DtypeError, "astype"),
    (lambda: c.einsum("ii,ij", F32, F32), ArgumentError, "twice"),
    (lambda: c.einsum("ij,jk", F32, F32), ShapeError, "'j'"),
    (lambda: c.einsum("ij,jk", F32), ArgumentError, "term"),
    (lambda: c.einsum("ij,ij->k", F32, F32), ArgumentError, "result"),
    (lambda: c.einsum("i?,ij", F32, F32), ArgumentError, "letter"),
    (lambda: c.einsum("ij,ij->ii", F32, F32), ArgumentError, ""),
    (lambda: c.einsum("ijk,ij", F32, F32), ArgumentError, ""),
    (lambda: c.einsum(3, F32), ArgumentError, "str"),
    (lambda: c.einsum("...i...,ij", F32, F32), ArgumentError, ""),
    (lambda: c.einsum("ij,ij->->", F32, F32), ArgumentError, ""),
    (lambda: c.tensordot(F32, F32, 3), ArgumentError, ""),
    (lambda: c.tensordot(F32, F32, 1), ShapeError, ""),
    (lambda: c.tensordot(F32, F32, ((0, 0), (0, 1))), ArgumentError, "distinct"),
    (lambda: c.vecdot(F32, F32, -3), ArgumentError, "axis"),
    (lambda: c.vecdot(F32, F32[:, :3]), ShapeError, ""),
    (lambda: c.outer(F32, F32), ShapeError, "vectors"),
    (lambda: c.attention(F32, F32, F32[:2]), ShapeError, "attention"),
    (lambda: c.attention(F64, F32, F32), DtypeError, "k.astype"),
    (lambda: c.attention(F32[0], F32[0], F32[0]), ShapeError, ""),
    (lambda: c.attention(F32, F32, F32, F64[:, :3]), DtypeError, "mask"),
    (lambda: c.attention(F32, F32, F32, np.ones((2, 3, 3), bool)), ShapeError, "mask"),
    (lambda: c.attention(F32, F32, F32, causal=1), DtypeError, ""),
    (lambda: c.attention(F32, F32, F32, dropout_p=0.5), ArgumentError, "state"),
    (
        lambda: c.attention(np.ones((3, 2, 4)), np.ones((2, 2, 4)), np.ones((2, 2, 4))),
        ShapeError,
        "dividing",
    ),
    (lambda: c.cross_entropy(F32, np.ones(4, int)), ShapeError, "target"),
    (lambda: c.cross_entropy(F32, np.ones(3, bool)), DtypeError, "target"),
    (lambda: c.cross_entropy(F32, F64), DtypeError, "target.astype(pa.float32)"),
    (lambda: c.cross_entropy(F32, np.ones(3, int), reduction="avg"), ArgumentError, "mean"),
    (lambda: c.cross_entropy(F32, np.ones(3, int), F32[0, :3]), ShapeError, "weight"),
    (
        lambda: c.cross_entropy(F32, np.ones(3, int), label_smoothing=2),
        ArgumentError,
        "label_smoothing",
    ),
    (lambda: c.cross_entropy(F32, np.ones(3, int), ignore_index=1.5), DtypeError, "ignore_index"),
    (lambda: c.cross_entropy(F32[:, :0], np.ones(3, int)), ShapeError, "class"),
    (lambda: c.nll_loss(I64, np.ones(3, int)), DtypeError, "astype"),
    (lambda: c.mse_loss(F32, F32[:, :1]), ShapeError, "equal shapes"),
    (lambda: c.mse_loss(F32, F64), DtypeError, "target.astype"),
    (lambda: c.huber_loss(F32, F32, delta=0), ArgumentError, "delta"),
    (lambda: c.smooth_l1_loss(F32, F32, beta=-1), ArgumentError, "beta"),
    (lambda: c.binary_cross_entropy_with_logits(F32, F32, pos_weight=F32[:, :3]), ShapeError, ""),
    (lambda: c.kl_div(F32, F32, "mean", 1), DtypeError, "log_target"),
    (lambda: c.mse_loss(F32, F32, "batchmean"), ArgumentError, ""),
    (lambda: c.dropout(F32, STATE, 1.5), ArgumentError, "p"),
    (lambda: c.dropout(F32, STATE[:2], 0.5), ShapeError, "state"),
    (lambda: c.dropout(F32, STATE.astype(np.int64), 0.5), DtypeError, "uint32"),
    (lambda: c.dropout(I64, STATE), DtypeError, "astype"),
    (lambda: c.randint(STATE, (2,), 3, 3), ArgumentError, "low < high"),
    (lambda: c.randint(STATE, (2,), 0, 300, "uint8"), ArgumentError, ""),
    (lambda: c.randint(STATE, (2,), 0.5, 3), DtypeError, ""),
    (lambda: c.permutation(STATE, -1), ShapeError, ""),
    (lambda: c.bernoulli(STATE, 1.5, (2,)), ArgumentError, "p"),
    (lambda: c.bernoulli(STATE, F32, (2,)), ArgumentError, "shape"),
    (lambda: c.categorical(STATE, F32[:, :0]), ShapeError, ""),
    (lambda: c.uniform(STATE, (-1,)), ShapeError, ""),
    (lambda: c.embedding(F32, F32), DtypeError, "integer"),
    (lambda: c.embedding(F32, I64, 3), ArgumentError, "padding_idx"),
    (lambda: c.embedding(np.float32(1), I64), ShapeError, "rows"),
    (lambda: c.one_hot(I64, -1), ArgumentError, "max"),
    (lambda: c.one_hot(F32, 3), DtypeError, "integer"),
    (lambda: c.take(F32, I64), ArgumentError, "axis"),
    (lambda: c.take_along_axis(F32, I64[0], 0), ShapeError, ""),
    (lambda: c.take_along_axis(F32, I64[:, :3], 0), ShapeError, ""),
    (lambda: c.max_pool(F32, 2), ShapeError, "spatial"),
    (lambda: c.max_pool(F32[None], 9), ShapeError, "fits"),
    (lambda: c.max_pool(F32[None], 2, padding=2), ArgumentError, "half"),
    (lambda: c.max_pool(F32[None], (2,), (1, 1)), ArgumentError, "stride"),
    (lambda: c.max_pool(F32[None], 2, 0), ArgumentError, "stride"),
    (lambda: c.max_pool(F32[None] > 0, 2), DtypeError, ""),
    (lambda: c.avg_pool(I64[None], 2), DtypeError, "astype"),
    (lambda: c.avg_pool(F32[None], 2.0), DtypeError, "kernel"),
    (lambda: c.adaptive_avg_pool(F32[None], 0), ArgumentError, "output"),
    (lambda: c.adaptive_avg_pool(F32[None], (2, 2, 2)), ShapeError, ""),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_bad_arguments_are_named(number):
    function, error, text = HOSTILE[number]
    with use_sink(Builder()), pytest.raises(ProaError) as caught:
        function()
    assert isinstance(caught.value, error), (type(caught.value), str(caught.value))
    assert text in str(caught.value) and str(caught.value).startswith("[")


def test_graphs_are_printable():
    """What is recorded can be printed and read back."""
    for function, arrays, _wanted in LAWS.values():
        graph = record(function, *arrays)
        again = parse(show(graph), REGISTRY)
        assert isinstance(again, Graph) and again == graph
