"""Every module, loss and functional of the golden file against PyTorch 2.13.0 (tests/golden)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import proa as pa
from proa import nn
from proa.nn import functional as F  # noqa: N812
from proa.random import manual_seed

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "modules.json").read_text())
DTYPES = ["float64", "float32"]


@pytest.fixture(scope="module")
def stored():
    with safe_open(GOLDEN / "modules.safetensors", "numpy") as file:
        yield file


def names(cases):
    return [c["name"] for c in cases]


def as_tuples(value):
    """JSON lists stand for tuples."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, list) else value


class Chain(nn.Module):
    """A model written by hand, that calls its parts in turn."""

    def __init__(self, children, forward, own, tie):
        super().__init__()
        for name, shape in own:
            self.register_parameter(name, nn.Parameter(pa.zeros(tuple(shape))))
        for name, child in children:
            self.add_module(name, build(child))
        for alias, name in tie:
            owner, _, last = alias.rpartition(".")
            setattr(self.get_submodule(owner), last, self.get_parameter(name))
        self.path = tuple(forward)

    def forward(self, x):
        for step in self.path:
            kind, _, name = step.rpartition(":")
            x = x @ self.get_parameter(name) if kind == "matmul" else self.get_submodule(name)(x)
        return x


def build(description):
    constructor = description["constructor"]
    if constructor == "chain":
        return Chain(*[description[k] for k in ("children", "forward", "own", "tie")])
    make = getattr(nn, constructor)
    if "named" in description:
        return make({name: build(child) for name, child in description["named"]})
    args = [build(child) for child in description.get("args", [])]
    args = [args] if constructor == "ModuleList" else args
    kwargs = {
        key: build(value) if isinstance(value, dict) else as_tuples(value)
        for key, value in description["kwargs"].items()
    }
    return make(*args, **kwargs)


def tensor(array, dtype):
    """Floats in the dtype of the run; all else as it is."""
    return pa.asarray(array.astype(dtype) if array.dtype.kind == "f" else array)


def close(found, expected, dtype, what):
    assert isinstance(found, pa.Tensor), what
    assert found.shape == expected.shape, what
    array = found.numpy()
    if expected.dtype.kind != "f":
        assert array.dtype == expected.dtype, what
        np.testing.assert_array_equal(array, expected, err_msg=what)
        return
    assert array.dtype == dtype, what
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    bound = (1e-12 if dtype == "float64" else 2e-5) * scale
    np.testing.assert_allclose(array, expected, rtol=bound, atol=bound, err_msg=what)


def backward(outputs, cotangents):
    total = None
    for i, ct in cotangents.items():
        part = (outputs[i] * ct).sum()
        total = part if total is None else total + part
    total.backward()


def grad_of(leaf):
    return leaf.grad if leaf.grad is not None else pa.zeros(leaf.shape, dtype=leaf.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES["modules"], ids=names(CASES["modules"]))
def test_module(case, dtype, stored):
    prefix = f"module/{case['name']}/"

    def get(key):
        return stored.get_tensor(prefix + key)

    for mode in case["modes"]:
        module = build(case)
        rows = [(n, str(t.dtype)[5:], list(t.shape)) for n, t in module.state_dict().items()]
        assert rows == [(s["name"], s["dtype"], s["shape"]) for s in case["state"]]
        assert [n for n, _ in module.named_parameters()] == case["parameters"]
        assert [n for n, _ in module.named_buffers()] == case["buffers"]
        found = module.load_state_dict(
            {s["name"]: get(f"state/{s['name']}") for s in case["state"]}
        )
        assert found == ([], [])
        module.to(dtype).train(mode == "train")
        inputs = [tensor(get(f"input/{i}"), dtype) for i in range(len(case["inputs"]))]
        for x in inputs:
            if x.dtype.is_float:
                x.requires_grad_()
        keywords = {k: tensor(get(f"kwarg/{k}"), dtype) for k in case["tensors"]}
        result = module(*[inputs[i] for i in case["call"]], **keywords, **case["options"])
        outputs = result if isinstance(result, tuple) else (result,)
        assert [i for i, y in enumerate(outputs) if y is not None] == case["outputs"]
        for i in case["outputs"]:
            close(outputs[i], get(f"output/{mode}/{i}"), dtype, f"output {i} {mode}")
        if not any(y.requires_grad for y in outputs if y is not None):
            continue
        backward(outputs, {i: tensor(get(f"cotangent/{i}"), dtype) for i in case["outputs"]})
        for name, p in module.named_parameters():
            close(grad_of(p), get(f"grad/{mode}/state/{name}"), dtype, f"grad {name} {mode}")
        for i, x in enumerate(inputs):
            if x.dtype.is_float:
                close(grad_of(x), get(f"grad/{mode}/input/{i}"), dtype, f"grad input {i} {mode}")
        if mode == "train":
            for name, b in module.named_buffers():
                close(b, get(f"state_after/{name}"), dtype, f"buffer {name}")


def dims(options):
    """PyTorch's `dim` and `keepdim` in the Array API's words."""
    words = {"dim": "axis", "keepdim": "keepdims"}
    return {words.get(k, k): as_tuples(v) for k, v in options.items()}


def extreme(values, places):
    """`torch.max`: along an axis with the indices, and then the gradient goes to the first."""

    def run(x, axis=None, keepdims=False):
        if axis is None:
            return values(x)
        index = places(x, axis=axis, keepdims=True)
        found = pa.take_along_axis(x, index, axis=axis)
        if not keepdims:
            found, index = pa.squeeze(found, axis=axis), pa.squeeze(index, axis=axis)
        return found, index

    return run


TORCH = {
    "max": extreme(pa.max, pa.argmax), "min": extreme(pa.min, pa.argmin), "amax": pa.max,
    "amin": pa.min, "maximum": pa.maximum, "minimum": pa.minimum, "argmax": pa.argmax,
    "abs": pa.abs, "clamp": pa.clip,
}  # fmt: skip


FUNCTIONS = [("loss", c) for c in CASES["losses"]] + [
    ("functional", c) for c in CASES["functional"]
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("section", "case"), FUNCTIONS, ids=[f"{s}-{c['name']}" for s, c in FUNCTIONS]
)
def test_function(section, case, dtype, stored):
    prefix = f"{section}/{case['name']}/"

    def get(key):
        return stored.get_tensor(prefix + key)

    library, _, name = case["function"].rpartition(".")
    function = getattr(F, name) if library == "F" else TORCH[name]
    options = case["options"] if library == "F" else dims(case["options"])
    options = {k: as_tuples(v) for k, v in options.items()}
    inputs = [tensor(get(f"input/{i}"), dtype) for i in range(len(case["inputs"]))]
    keywords = {k: tensor(get(f"kwarg/{k}"), dtype) for k in case["tensors"]}
    leaves = {f"input/{i}": x for i, x in enumerate(inputs)}
    leaves |= {f"kwarg/{k}": x for k, x in keywords.items()}
    for key in case["gradients"]:
        leaves[key].requires_grad_()
    result = function(*inputs, **keywords, **options)
    outputs = result if isinstance(result, tuple) else (result,)
    for i in case["outputs"]:
        close(outputs[i], get(f"output/{i}"), dtype, f"output {i}")
    if not case["gradients"]:
        return
    keys = set(stored.keys())
    cts = {
        i: tensor(get(f"cotangent/{i}"), dtype)
        for i in case["outputs"]
        if f"{prefix}cotangent/{i}" in keys
    }
    backward(outputs, cts)
    for key in case["gradients"]:
        close(grad_of(leaves[key]), get(f"grad/{key}"), dtype, f"grad {key}")


# How parameters begin.


def looks_like(array, expected):
    """Whether numbers look drawn from a distribution: bounds, mean and deviation."""
    kind = expected["distribution"]
    if kind == "constant":
        assert (array == expected["value"]).all()
    elif kind == "identity":
        np.testing.assert_array_equal(array, np.eye(*array.shape))
    elif kind == "orthogonal":
        flat = array.reshape(len(array), -1).astype(np.float64)
        flat = flat if expected["side"] == "rows" else flat.T
        np.testing.assert_allclose(
            flat @ flat.T, expected["norm"] ** 2 * np.eye(len(flat)), atol=1e-5
        )
    else:
        rows = expected.get("zero_rows", [])
        assert (array[rows] == 0).all()
        drawn = (
            np.delete(array, rows, axis=0).astype(np.float64) if rows else array.astype(np.float64)
        )
        if "low" in expected:
            slack = 1e-6 * (expected["high"] - expected["low"])
            assert drawn.min() >= expected["low"] - slack
            assert drawn.max() <= expected["high"] + slack
        error = expected["std"] / np.sqrt(drawn.size)
        assert abs(drawn.mean() - expected["mean"]) < 5 * error
        assert abs(drawn.std() - expected["std"]) < 5 * error


INIT = CASES["init"]


@pytest.mark.parametrize("case", INIT["functions"], ids=lambda c: c["function"])
def test_init_function(case):
    manual_seed(0)
    given = pa.zeros(tuple(case["shape"]))
    assert getattr(nn.init, case["function"])(given, **case["kwargs"]) is given
    looks_like(given.numpy(), case["expected"])


@pytest.mark.parametrize("case", INIT["gains"], ids=lambda c: c["nonlinearity"])
def test_init_gain(case):
    gain = nn.init.calculate_gain(case["nonlinearity"], case["param"])
    assert gain == pytest.approx(case["gain"], rel=1e-15)


@pytest.mark.parametrize("case", INIT["modules"], ids=lambda c: c["constructor"])
def test_init_module(case):
    manual_seed(0)
    state = build(case).state_dict()
    assert set(state) == set(case["state"])
    for name, expected in case["state"].items():
        looks_like(state[name].numpy(), expected)


# A file written by PyTorch.


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4).bfloat16()
        self.body = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2, bias=False).half()


def test_a_file_written_by_torch_loads():
    described = json.loads((GOLDEN / "torch_written.json").read_text())["tensors"]
    net = Net()
    net.load_state_dict(load_file(GOLDEN / "torch_written.safetensors"))
    state = net.state_dict()
    assert sorted(state) == sorted(d["name"] for d in described)
    for d in described:
        held = state[d["name"]]
        assert str(held.dtype) == f"proa.{d['dtype']}"
        assert held.shape == tuple(d["shape"])
        expected = np.array(d["values"], np.float64).reshape(d["shape"])
        np.testing.assert_array_equal(held.numpy().astype(np.float64), expected)


def test_a_file_written_by_torch_loads_into_wider_floats():
    net = Net().float()
    net.load_state_dict(load_file(GOLDEN / "torch_written.safetensors"))
    assert {str(p.dtype) for p in net.parameters()} == {"proa.float32"}
