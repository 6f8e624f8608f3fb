"""Write the PyTorch reference data under tests/golden.

Run by hand, in an environment with torch==2.13.0, numpy and safetensors:

    OMP_NUM_THREADS=1 python tools/golden_torch.py

The tests only read the files it writes, so they need no PyTorch.
tests/golden/README.md describes the layout. Two runs give equal files.

Inputs and states are float32 numbers. Results are worked out from them in float64, so that a test
in either precision compares with the accurate value. Each case is also run in float32 here, as a
check that it does not hang on a rounding error.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
import zlib
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS = 6
SCHEDULE_STEPS = 20
INF = float("inf")


# Storage and random numbers.


class Store:
    """The tensors of the safetensors file, by key."""

    def __init__(self):
        self.tensors = {}

    def put(self, key, tensor):
        if key in self.tensors:
            raise ValueError(f"{key} is stored twice")
        # A clone, since safetensors refuses tensors that share memory.
        self.tensors[key] = tensor.detach().clone().contiguous()


def generator(name):
    """A generator of its own for each name: a new case leaves the others as they were."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def normal(name, shape):
    return torch.randn(shape, generator=generator(name))


def uniform(name, shape):
    return torch.rand(shape, generator=generator(name))


def as_input(name, value):
    """A tensor stands for itself, a tuple for normal numbers of that shape."""
    return value if isinstance(value, torch.Tensor) else normal(name, value)


def cast(tensor, dtype):
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def dtype_name(tensor):
    return str(tensor.dtype).removeprefix("torch.")


def describe(tensor):
    return {"dtype": dtype_name(tensor), "shape": list(tensor.shape)}


def check_close(name, single, double):
    """Compare the float32 run of a case with its float64 run."""
    torch.testing.assert_close(
        single.detach().double(),
        double.detach().double(),
        rtol=1e-4,
        atol=1e-4,
        equal_nan=True,
        msg=lambda text: f"{name}: float32 and float64 differ\n{text}",
    )


def check_same(name, single, double):
    if single.keys() != double.keys():
        raise ValueError(f"{name}: float32 and float64 give different results")
    for key in double:
        check_close(f"{name}/{key}", single[key], double[key])


# One differentiated call, the common part of modules, losses and functional cases.


def as_outputs(result):
    results = result if isinstance(result, tuple) else (result,)
    return {i: value for i, value in enumerate(results) if value is not None}


def differentiate(prefix, outputs, leaves):
    """Gradients of the sum of (output * cotangent) over the float outputs."""
    total = 0
    cotangents = {}
    for i, value in outputs.items():
        if not value.requires_grad:
            continue
        single = normal(f"{prefix}/cotangent/{i}", value.shape)
        # A scalar is its own sum: the plain gradient is the one that everyone expects.
        if value.dim() == 0:
            single = torch.ones(())
        cotangents[f"cotangent/{i}"] = single
        total = total + (value * single.to(value.dtype)).sum()
    if not cotangents:
        return {}, {}
    gradients = torch.autograd.grad(total, list(leaves.values()))
    return cotangents, dict(zip(leaves, gradients, strict=True))


# Modules.


def spec(constructor, *args, **kwargs):
    """A module as JSON can hold it."""
    result = {"constructor": constructor, "kwargs": kwargs}
    if args:
        result["args"] = list(args)
    return result


def named(constructor, **children):
    return {"constructor": constructor, "kwargs": {}, "named": list(children.items())}


def chain(children, forward, own=(), tie=()):
    """A model written by hand, that calls its parts in turn.

    own: the names and shapes of its own parameters.
    tie: pairs of names, where the first becomes the parameter of the second.
    """
    return {
        "constructor": "chain",
        "kwargs": {},
        "children": list(children.items()),
        "forward": list(forward),
        "own": list(own),
        "tie": list(tie),
    }


class Chain(nn.Module):
    def __init__(self, children, forward, own, tie):
        super().__init__()
        for name, shape in own:
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        for name, child in children:
            self.add_module(name, build(child))
        for alias, name in tie:
            owner, _, last = alias.rpartition(".")
            setattr(self.get_submodule(owner), last, self.get_parameter(name))
        self.path = forward

    def forward(self, x):
        for step in self.path:
            kind, _, name = step.rpartition(":")
            x = x @ self.get_parameter(name) if kind == "matmul" else self.get_submodule(name)(x)
        return x


def build(description):
    constructor = description["constructor"]
    if constructor == "chain":
        keys = ("children", "forward", "own", "tie")
        return Chain(**{key: description[key] for key in keys})
    make = getattr(nn, constructor)
    if "named" in description:
        return make(OrderedDict((name, build(child)) for name, child in description["named"]))
    args = [build(child) for child in description.get("args", [])]
    # nn.ModuleList takes one list, nn.Sequential its parts one by one.
    if constructor == "ModuleList":
        args = [args]
    kwargs = {
        key: build(value) if isinstance(value, dict) else value
        for key, value in description["kwargs"].items()
    }
    return make(*args, **kwargs)


def fill(prefix, module):
    """Give each parameter and buffer numbers that show a mistake in its use."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(0.5 * normal(f"{prefix}/{name}", parameter.shape))
        for name, buffer in module.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer.fill_(3)
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + uniform(f"{prefix}/{name}", buffer.shape))
            else:
                buffer.copy_(normal(f"{prefix}/{name}", buffer.shape))
        for part in module.modules():
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx].zero_()


def case(name, description, *inputs, call=None, tensors=None, options=None, modes=None):
    """A module case.

    call: which input is which positional argument, where that is not one after the other.
    tensors, options: the keyword arguments of forward, tensors and plain values.
    """
    return {
        "name": name,
        "description": description,
        "inputs": inputs,
        "call": list(range(len(inputs))) if call is None else call,
        "tensors": tensors or {},
        "options": options or {},
        "modes": modes or ["eval", "train"],
    }


def run_module(prefix, module, item, inputs, tensors, mode, dtype):
    module = copy.deepcopy(module).to(dtype)
    module.train(mode == "train")
    inputs = [cast(value, dtype) for value in inputs]
    leaves = {}
    for name, parameter in module.named_parameters():
        leaves[f"grad/{mode}/state/{name}"] = parameter
    for i, value in enumerate(inputs):
        if value.is_floating_point():
            leaves[f"grad/{mode}/input/{i}"] = value.requires_grad_()
    keywords = {key: cast(value, dtype) for key, value in tensors.items()}
    result = module(*(inputs[i] for i in item["call"]), **keywords, **item["options"])
    outputs = as_outputs(result)
    cotangents, gradients = differentiate(prefix, outputs, leaves)
    results = {f"output/{mode}/{i}": value for i, value in outputs.items()} | gradients
    if mode == "train":
        for name, buffer in module.named_buffers():
            results[f"state_after/{name}"] = buffer
    return cotangents, results


def write_module(store, item):
    prefix = f"module/{item['name']}"
    module = build(item["description"])
    fill(prefix, module)
    inputs = [as_input(f"{prefix}/{i}", value) for i, value in enumerate(item["inputs"])]
    tensors = {key: as_input(f"{prefix}/{key}", value) for key, value in item["tensors"].items()}
    state = module.state_dict()
    for i, value in enumerate(inputs):
        store.put(f"{prefix}/input/{i}", value)
    for name, value in tensors.items():
        store.put(f"{prefix}/kwarg/{name}", value)
    for name, value in state.items():
        store.put(f"{prefix}/state/{name}", value)
    for mode in item["modes"]:
        arguments = (prefix, module, item, inputs, tensors, mode)
        cotangents, double = run_module(*arguments, torch.float64)
        _, single = run_module(*arguments, torch.float32)
        check_same(prefix, single, double)
        if mode == item["modes"][0]:
            for key, value in cotangents.items():
                store.put(f"{prefix}/{key}", value)
        for key, value in double.items():
            store.put(f"{prefix}/{key}", value)
    return item["description"] | {
        "name": item["name"],
        "call": item["call"],
        "options": item["options"],
        "tensors": sorted(tensors),
        "modes": item["modes"],
        "inputs": [describe(value) for value in inputs],
        "outputs": sorted(
            int(key.rpartition("/")[2]) for key in double if key.startswith(f"output/{mode}/")
        ),
        "state": [{"name": name} | describe(value) for name, value in state.items()],
        "parameters": [name for name, _ in module.named_parameters()],
        "buffers": [name for name, _ in module.named_buffers()],
    }


def causal(size):
    """True where attention is not allowed, as the masks of nn.MultiheadAttention."""
    return torch.ones(size, size, dtype=torch.bool).triu(1)


def causal_float(size):
    return torch.zeros(size, size).masked_fill(causal(size), -INF)


def padding(batch, size):
    """True at the padded positions: one at the end of the last sequence."""
    mask = torch.zeros(batch, size, dtype=torch.bool)
    mask[-1, -1] = True
    return mask


def basic_cases():
    tokens = torch.tensor([[1, 0, 4, 1], [2, 5, 0, 3]])
    return [
        case("linear", spec("Linear", in_features=4, out_features=3), (5, 4)),
        case("linear_no_bias", spec("Linear", in_features=4, out_features=3, bias=False), (5, 4)),
        case("linear_3d", spec("Linear", in_features=4, out_features=3), (2, 3, 4)),
        case("linear_1d", spec("Linear", in_features=4, out_features=3), (4,)),
        case("embedding", spec("Embedding", num_embeddings=6, embedding_dim=3), tokens),
        case(
            "embedding_padding",
            spec("Embedding", num_embeddings=6, embedding_dim=3, padding_idx=0),
            tokens,
        ),
        case(
            "embedding_padding_negative",
            spec("Embedding", num_embeddings=6, embedding_dim=3, padding_idx=-1),
            tokens,
        ),
        case("identity", spec("Identity"), (2, 3)),
        case("flatten", spec("Flatten"), (2, 3, 4)),
        case("flatten_range", spec("Flatten", start_dim=1, end_dim=2), (2, 3, 2, 2)),
        case("flatten_all", spec("Flatten", start_dim=0), (2, 3, 2)),
        case("dropout_eval", spec("Dropout", p=0.5), (3, 4), modes=["eval"]),
        case("dropout_zero", spec("Dropout", p=0.0), (3, 4)),
    ]


def convolution_cases():
    def conv(rank, in_channels, out_channels, kernel_size, **kwargs):
        kwargs |= {"in_channels": in_channels, "out_channels": out_channels}
        return spec(f"Conv{rank}d", kernel_size=kernel_size, **kwargs)

    return [
        case("conv1d", conv(1, 3, 4, 3), (2, 3, 8)),
        case("conv1d_stride", conv(1, 3, 4, 3, stride=2, padding=1), (2, 3, 8)),
        case("conv1d_same", conv(1, 3, 4, 3, padding="same"), (2, 3, 7)),
        case("conv1d_same_even", conv(1, 2, 3, 4, padding="same"), (2, 2, 7)),
        case("conv1d_same_dilation", conv(1, 2, 3, 4, padding="same", dilation=3), (2, 2, 11)),
        case("conv1d_valid", conv(1, 2, 3, 3, padding="valid"), (2, 2, 7)),
        case("conv1d_dilation", conv(1, 2, 3, 3, dilation=2, padding=2), (2, 2, 8)),
        case("conv1d_groups", conv(1, 4, 6, 3, groups=2), (2, 4, 6)),
        case("conv1d_depthwise", conv(1, 3, 3, 3, groups=3, padding=1), (2, 3, 6)),
        case("conv1d_no_bias", conv(1, 3, 2, 2, bias=False), (2, 3, 6)),
        case("conv1d_unbatched", conv(1, 3, 2, 3), (3, 6)),
        case("conv2d", conv(2, 2, 3, 3), (2, 2, 6, 5)),
        case("conv2d_uneven", conv(2, 2, 3, (3, 2), stride=(2, 1), padding=(1, 2)), (2, 2, 6, 5)),
        case("conv2d_same", conv(2, 2, 3, 3, padding="same"), (2, 2, 5, 4)),
        case("conv2d_same_even", conv(2, 2, 3, (2, 4), padding="same"), (2, 2, 5, 4)),
        case("conv2d_stride", conv(2, 2, 3, 3, stride=2, padding=1), (2, 2, 6, 6)),
        case("conv2d_dilation", conv(2, 2, 3, 3, dilation=(2, 1), padding=1), (2, 2, 6, 5)),
        case("conv2d_groups", conv(2, 4, 4, 3, groups=2, padding=1), (1, 4, 4, 4)),
        case("conv2d_depthwise", conv(2, 3, 6, 3, groups=3), (1, 3, 4, 4)),
        case("conv2d_no_bias", conv(2, 2, 3, 1, bias=False), (2, 2, 3, 3)),
        case("conv2d_patches", conv(2, 3, 4, 2, stride=2), (2, 3, 4, 4)),
        case("conv2d_unbatched", conv(2, 2, 3, 3), (2, 5, 4)),
        case("conv3d", conv(3, 2, 2, 2), (1, 2, 3, 4, 3)),
        case(
            "conv3d_stride",
            conv(3, 2, 2, (2, 3, 2), stride=(1, 2, 2), padding=(1, 1, 0)),
            (1, 2, 3, 4, 4),
        ),
        case("conv3d_same", conv(3, 1, 2, 3, padding="same", bias=False), (1, 1, 3, 3, 3)),
        case("conv3d_groups", conv(3, 2, 4, 2, groups=2, dilation=2), (1, 2, 4, 3, 4)),
    ]


def norm_cases():
    def layer_norm(shape, **kwargs):
        return spec("LayerNorm", normalized_shape=shape, **kwargs)

    def batch_norm(rank, **kwargs):
        return spec(f"BatchNorm{rank}d", num_features=3, **kwargs)

    return [
        case("layer_norm", layer_norm(5), (2, 3, 5)),
        case("layer_norm_eps", layer_norm(5, eps=0.1), (2, 3, 5)),
        case("layer_norm_no_bias", layer_norm(5, bias=False), (2, 3, 5)),
        case("layer_norm_no_affine", layer_norm(5, elementwise_affine=False), (2, 3, 5)),
        case("layer_norm_2", layer_norm((3, 5)), (2, 3, 5)),
        case("layer_norm_2_no_affine", layer_norm((3, 5), elementwise_affine=False), (2, 3, 5)),
        case("rms_norm", spec("RMSNorm", normalized_shape=5, eps=1e-6), (2, 3, 5)),
        case("rms_norm_2", spec("RMSNorm", normalized_shape=(3, 5), eps=0.1), (2, 3, 5)),
        case(
            "rms_norm_no_affine",
            spec("RMSNorm", normalized_shape=5, eps=1e-5, elementwise_affine=False),
            (2, 3, 5),
        ),
        case("batch_norm1d", batch_norm(1), (6, 3)),
        case("batch_norm1d_3d", batch_norm(1), (4, 3, 5)),
        case("batch_norm1d_momentum", batch_norm(1, momentum=0.4), (6, 3)),
        case("batch_norm1d_cumulative", batch_norm(1, momentum=None), (6, 3)),
        case("batch_norm1d_no_affine", batch_norm(1, affine=False), (6, 3)),
        case("batch_norm1d_no_stats", batch_norm(1, track_running_stats=False), (6, 3)),
        case("batch_norm2d", batch_norm(2), (2, 3, 3, 2)),
        case("batch_norm2d_momentum", batch_norm(2, momentum=0.3, eps=1e-3), (2, 3, 3, 2)),
        case("batch_norm2d_no_affine", batch_norm(2, affine=False), (2, 3, 3, 2)),
        case("batch_norm2d_no_stats", batch_norm(2, track_running_stats=False), (2, 3, 3, 2)),
        case(
            "batch_norm2d_plain",
            batch_norm(2, affine=False, track_running_stats=False),
            (2, 3, 3, 2),
        ),
    ]


def pooling_cases():
    def pool(kind, kernel_size, **kwargs):
        return spec(kind, kernel_size=kernel_size, **kwargs)

    return [
        case("max_pool1d", pool("MaxPool1d", 2), (2, 3, 7)),
        case("max_pool1d_stride", pool("MaxPool1d", 3, stride=2, padding=1), (2, 3, 7)),
        case("max_pool1d_dilation", pool("MaxPool1d", 2, stride=1, dilation=3), (2, 3, 8)),
        case("max_pool2d", pool("MaxPool2d", 2), (2, 2, 5, 6)),
        case("max_pool2d_stride", pool("MaxPool2d", 3, stride=2, padding=1), (2, 2, 6, 5)),
        case("max_pool2d_uneven", pool("MaxPool2d", (2, 3), stride=(1, 2)), (2, 2, 4, 7)),
        case(
            "max_pool2d_dilation",
            pool("MaxPool2d", 3, stride=1, padding=1, dilation=2),
            (1, 2, 6, 5),
        ),
        # Padding counts as -inf, not as 0: only negative numbers show it.
        case(
            "max_pool2d_negative",
            pool("MaxPool2d", 3, stride=2, padding=1),
            -1 - uniform("max_pool2d_negative", (1, 2, 4, 4)),
        ),
        case("avg_pool1d", pool("AvgPool1d", 2), (2, 3, 7)),
        case("avg_pool1d_padding", pool("AvgPool1d", 3, stride=2, padding=1), (2, 3, 8)),
        case(
            "avg_pool1d_exclude",
            pool("AvgPool1d", 3, stride=2, padding=1, count_include_pad=False),
            (2, 3, 8),
        ),
        case("avg_pool2d", pool("AvgPool2d", 2), (2, 2, 5, 6)),
        case("avg_pool2d_padding", pool("AvgPool2d", 3, stride=2, padding=1), (2, 2, 6, 5)),
        case(
            "avg_pool2d_exclude",
            pool("AvgPool2d", 3, stride=2, padding=1, count_include_pad=False),
            (2, 2, 6, 5),
        ),
        case(
            "avg_pool2d_uneven",
            pool("AvgPool2d", (2, 3), stride=(2, 1), padding=(1, 0)),
            (2, 2, 4, 5),
        ),
        case("adaptive_avg_pool2d_1", spec("AdaptiveAvgPool2d", output_size=1), (2, 3, 4, 5)),
        case(
            "adaptive_avg_pool2d_divisor",
            spec("AdaptiveAvgPool2d", output_size=(2, 3)),
            (2, 2, 4, 6),
        ),
        case("adaptive_avg_pool2d_square", spec("AdaptiveAvgPool2d", output_size=2), (1, 2, 4, 6)),
    ]


def activation_cases():
    values = torch.linspace(-6, 6, 25)
    scores = 3 * normal("activation scores", (2, 3, 4))
    return [
        case("gelu", spec("GELU"), values),
        case("gelu_tanh", spec("GELU", approximate="tanh"), values),
        case("silu", spec("SiLU"), values),
        case("relu", spec("ReLU"), values),
        case("tanh", spec("Tanh"), values),
        case("sigmoid", spec("Sigmoid"), values),
        case("softmax_last", spec("Softmax", dim=-1), scores),
        case("softmax_first", spec("Softmax", dim=0), scores),
        case("softmax_middle", spec("Softmax", dim=1), scores),
        case("softmax_large", spec("Softmax", dim=1), torch.tensor([[1000.0, 1001.0, -1000.0]])),
        case("log_softmax_last", spec("LogSoftmax", dim=-1), scores),
        case("log_softmax_middle", spec("LogSoftmax", dim=1), scores),
        case(
            "log_softmax_large",
            spec("LogSoftmax", dim=1),
            torch.tensor([[1000.0, 1001.0, -1000.0]]),
        ),
    ]


def container_cases():
    def linear(inputs, outputs, **kwargs):
        return spec("Linear", in_features=inputs, out_features=outputs, **kwargs)

    block = spec("Sequential", linear(4, 4), spec("ReLU"))
    tokens = torch.tensor([[1, 0, 4], [2, 5, 3]])
    embedding = spec("Embedding", num_embeddings=6, embedding_dim=4)
    return [
        case(
            "sequential",
            spec("Sequential", linear(4, 6), spec("Tanh"), linear(6, 2)),
            (3, 4),
        ),
        case(
            "sequential_named",
            named("Sequential", first=linear(4, 3), act=spec("GELU"), last=linear(3, 2)),
            (3, 4),
        ),
        case(
            "sequential_nested",
            spec("Sequential", block, spec("Sequential", block, linear(4, 2, bias=False))),
            (3, 4),
        ),
        case(
            "sequential_batch_norm",
            spec(
                "Sequential",
                spec("Conv2d", in_channels=1, out_channels=2, kernel_size=3, bias=False),
                spec("BatchNorm2d", num_features=2),
                spec("ReLU"),
                spec("MaxPool2d", kernel_size=2),
                spec("Flatten"),
                linear(8, 3),
            ),
            (2, 1, 6, 6),
        ),
        case(
            "module_list",
            chain(
                {
                    "layers": spec("ModuleList", linear(4, 4), linear(4, 4)),
                    "norm": spec("LayerNorm", normalized_shape=4),
                },
                ["layers.0", "layers.1", "norm"],
            ),
            (3, 4),
        ),
        case(
            "module_dict",
            chain(
                {
                    "parts": named(
                        "ModuleDict", up=linear(4, 6), act=spec("SiLU"), down=linear(6, 4)
                    )
                },
                ["parts.up", "parts.act", "parts.down"],
            ),
            (3, 4),
        ),
        case(
            "module_list_of_dicts",
            chain(
                {
                    "embed": embedding,
                    "blocks": spec(
                        "ModuleList",
                        named("ModuleDict", norm=spec("LayerNorm", normalized_shape=4), mlp=block),
                        named("ModuleDict", norm=spec("LayerNorm", normalized_shape=4), mlp=block),
                    ),
                    "head": linear(4, 6, bias=False),
                },
                [
                    "embed",
                    "blocks.0.norm",
                    "blocks.0.mlp",
                    "blocks.1.norm",
                    "blocks.1.mlp",
                    "head",
                ],
            ),
            tokens,
        ),
        case(
            "tied_embedding",
            chain(
                {"embed": embedding, "body": linear(4, 4), "head": linear(4, 6, bias=False)},
                ["embed", "body", "head"],
                tie=[["head.weight", "embed.weight"]],
            ),
            tokens,
        ),
        case(
            "tied_parameter",
            chain(
                {},
                ["matmul:first", "matmul:second"],
                own=[["first", [4, 4]]],
                tie=[["second", "first"]],
            ),
            (3, 4),
        ),
    ]


def attention_cases():
    def attention(**kwargs):
        return spec("MultiheadAttention", embed_dim=8, num_heads=2, batch_first=True, **kwargs)

    def self_attention(name, tensors=None, description=None, **options):
        return case(
            f"attention_{name}",
            description or attention(),
            (2, 4, 8),
            call=[0, 0, 0],
            tensors=tensors,
            options=options,
        )

    scores = normal("attention mask", (4, 4))
    per_head = normal("attention mask per head", (4, 4, 4))
    return [
        self_attention("self"),
        self_attention("no_weights", need_weights=False),
        self_attention("weights_per_head", average_attn_weights=False),
        self_attention("no_bias", description=attention(bias=False)),
        self_attention("bool_mask", {"attn_mask": causal(4)}),
        self_attention("float_mask", {"attn_mask": scores}),
        self_attention("mask_per_head", {"attn_mask": per_head}, need_weights=False),
        self_attention("causal", {"attn_mask": causal(4)}, is_causal=True, need_weights=False),
        self_attention(
            "causal_float", {"attn_mask": causal_float(4)}, is_causal=True, need_weights=False
        ),
        self_attention("padding", {"key_padding_mask": padding(2, 4)}),
        self_attention(
            "padding_no_weights", {"key_padding_mask": padding(2, 4)}, need_weights=False
        ),
        self_attention(
            "mask_and_padding", {"attn_mask": causal(4), "key_padding_mask": padding(2, 4)}
        ),
        case("attention_cross", attention(), (2, 3, 8), (2, 5, 8), call=[0, 1, 1]),
        case(
            "attention_cross_padding",
            attention(),
            (2, 3, 8),
            (2, 5, 8),
            (2, 5, 8),
            tensors={"key_padding_mask": padding(2, 5)},
        ),
        case("attention_unbatched", attention(), (4, 8), call=[0, 0, 0]),
    ]


def transformer_cases():
    shared = {
        "d_model": 8,
        "nhead": 2,
        "dim_feedforward": 12,
        "dropout": 0.0,
        "batch_first": True,
    }
    results = []
    for order in (False, True):
        for activation in ("relu", "gelu"):
            kwargs = shared | {"norm_first": order, "activation": activation}
            name = f"{'pre' if order else 'post'}_{activation}"
            results.append(
                case(f"encoder_layer_{name}", spec("TransformerEncoderLayer", **kwargs), (2, 4, 8))
            )
            results.append(
                case(
                    f"decoder_layer_{name}",
                    spec("TransformerDecoderLayer", **kwargs),
                    (2, 3, 8),
                    (2, 4, 8),
                )
            )
    encoder = spec("TransformerEncoderLayer", norm_first=True, activation="gelu", **shared)
    decoder = spec("TransformerDecoderLayer", norm_first=True, activation="gelu", **shared)
    norm = spec("LayerNorm", normalized_shape=8)
    stack = {"num_layers": 2, "enable_nested_tensor": False}
    return results + [
        case(
            "encoder_layer_masked",
            encoder,
            (2, 4, 8),
            tensors={"src_mask": causal(4), "src_key_padding_mask": padding(2, 4)},
        ),
        case(
            "encoder_layer_causal",
            encoder,
            (2, 4, 8),
            tensors={"src_mask": causal_float(4)},
            options={"is_causal": True},
        ),
        case(
            "encoder_layer_no_bias",
            spec("TransformerEncoderLayer", bias=False, layer_norm_eps=1e-3, **shared),
            (2, 4, 8),
        ),
        case(
            "decoder_layer_masked",
            decoder,
            (2, 3, 8),
            (2, 4, 8),
            tensors={
                "tgt_mask": causal(3),
                "tgt_key_padding_mask": padding(2, 3),
                "memory_key_padding_mask": padding(2, 4),
            },
        ),
        case(
            "decoder_layer_causal",
            decoder,
            (2, 3, 8),
            (2, 4, 8),
            tensors={"tgt_mask": causal(3)},
            options={"tgt_is_causal": True},
        ),
        case(
            "encoder",
            spec(
                "TransformerEncoder",
                encoder_layer=spec("TransformerEncoderLayer", **shared),
                **stack,
            ),
            (2, 4, 8),
        ),
        case(
            "encoder_norm_masked",
            spec("TransformerEncoder", encoder_layer=encoder, norm=norm, **stack),
            (2, 4, 8),
            tensors={"mask": causal(4), "src_key_padding_mask": padding(2, 4)},
        ),
        case(
            "decoder_norm",
            spec("TransformerDecoder", decoder_layer=decoder, num_layers=2, norm=norm),
            (2, 3, 8),
            (2, 4, 8),
            tensors={"tgt_mask": causal(3)},
        ),
    ]


def module_cases():
    return (
        basic_cases()
        + convolution_cases()
        + norm_cases()
        + pooling_cases()
        + activation_cases()
        + container_cases()
        + attention_cases()
        + transformer_cases()
    )


# Losses and functions.


def function_case(name, function, *inputs, tensors=None, options=None, differentiable=()):
    """A function case.

    tensors, options: keyword arguments, tensors and plain values.
    differentiable: the names in tensors that get a gradient; float inputs always do.
    """
    return {
        "name": name,
        "function": function,
        "inputs": inputs,
        "tensors": tensors or {},
        "options": options or {},
        "differentiable": differentiable,
    }


def run_function(prefix, item, inputs, tensors, dtype):
    # A copy, since a float64 tensor would be the stored one otherwise.
    inputs = [cast(value, dtype).clone() for value in inputs]
    tensors = {key: cast(value, dtype).clone() for key, value in tensors.items()}
    leaves = {}
    for i, value in enumerate(inputs):
        if value.is_floating_point():
            leaves[f"grad/input/{i}"] = value.requires_grad_()
    for name in item["differentiable"]:
        leaves[f"grad/kwarg/{name}"] = tensors[name].requires_grad_()
    package, _, name = item["function"].rpartition(".")
    function = getattr({"torch": torch, "F": functional}[package], name)
    outputs = as_outputs(function(*inputs, **tensors, **item["options"]))
    cotangents, gradients = differentiate(prefix, outputs, leaves)
    return cotangents, {f"output/{i}": value for i, value in outputs.items()} | gradients


def write_function(store, section, item):
    prefix = f"{section}/{item['name']}"
    inputs = [as_input(f"{prefix}/{i}", value) for i, value in enumerate(item["inputs"])]
    tensors = {key: as_input(f"{prefix}/{key}", value) for key, value in item["tensors"].items()}
    cotangents, double = run_function(prefix, item, inputs, tensors, torch.float64)
    _, single = run_function(prefix, item, inputs, tensors, torch.float32)
    check_same(prefix, single, double)
    for i, value in enumerate(inputs):
        store.put(f"{prefix}/input/{i}", value)
    for name, value in tensors.items():
        store.put(f"{prefix}/kwarg/{name}", value)
    for key, value in (cotangents | double).items():
        store.put(f"{prefix}/{key}", value)
    return {
        "name": item["name"],
        "function": item["function"],
        "inputs": [describe(value) for value in inputs],
        "tensors": sorted(tensors),
        "options": item["options"],
        "outputs": sorted(
            int(key.removeprefix("output/")) for key in double if key.startswith("output/")
        ),
        "gradients": sorted(key.removeprefix("grad/") for key in double if key.startswith("grad/")),
    }


def classification_losses():
    classes = torch.tensor([1, 0, 3, 2, 1])
    ignored = torch.tensor([1, -100, 3, 0, -100])
    pixels = torch.tensor([[1, 0, 3], [2, 2, 0]])
    probabilities = torch.softmax(normal("loss probabilities", (5, 4)), 1)
    pixel_probabilities = torch.softmax(normal("loss pixels", (2, 4, 3)), 1)
    weight = torch.tensor([0.5, 2.0, 1.0, 0.25])
    results = []

    def add(name, target, shape=(5, 4), tensors=None, function="F.cross_entropy", **options):
        results.append(
            function_case(name, function, shape, target, tensors=tensors, options=options)
        )

    for reduction in ("mean", "sum", "none"):
        add(f"cross_entropy_{reduction}", classes, reduction=reduction)
        add(
            f"cross_entropy_weight_{reduction}",
            classes,
            tensors={"weight": weight},
            reduction=reduction,
        )
        add(f"cross_entropy_ignore_{reduction}", ignored, reduction=reduction)
        add(
            f"cross_entropy_smooth_{reduction}",
            classes,
            label_smoothing=0.1,
            reduction=reduction,
        )
        add(
            f"cross_entropy_all_{reduction}",
            ignored,
            tensors={"weight": weight},
            label_smoothing=0.2,
            reduction=reduction,
        )
        add(f"cross_entropy_probabilities_{reduction}", probabilities, reduction=reduction)
        add(f"cross_entropy_pixels_{reduction}", pixels, (2, 4, 3), reduction=reduction)
    add("cross_entropy_ignore_index", classes, ignore_index=1)
    add("cross_entropy_all_ignored_sum", torch.full((5,), -100), reduction="sum")
    add("cross_entropy_unbatched", torch.tensor(2), (4,))
    add(
        "cross_entropy_probabilities_weight_smooth",
        probabilities,
        tensors={"weight": weight},
        label_smoothing=0.1,
    )
    add("cross_entropy_pixels_probabilities", pixel_probabilities, (2, 4, 3))
    add(
        "cross_entropy_pixels_weight_smooth",
        pixels,
        (2, 4, 3),
        tensors={"weight": weight},
        label_smoothing=0.1,
    )
    scores = torch.log_softmax(normal("loss scores", (5, 4)), 1)
    pixel_scores = torch.log_softmax(normal("loss pixel scores", (2, 4, 3)), 1)
    for reduction in ("mean", "sum", "none"):
        add(f"nll_{reduction}", classes, scores, function="F.nll_loss", reduction=reduction)
        add(
            f"nll_weight_ignore_{reduction}",
            ignored,
            scores,
            tensors={"weight": weight},
            function="F.nll_loss",
            reduction=reduction,
        )
    add("nll_ignore_index", classes, scores, function="F.nll_loss", ignore_index=1)
    add("nll_pixels", pixels, pixel_scores, function="F.nll_loss")
    return results


def regression_losses():
    results = []
    binary = uniform("loss binary", (3, 4)).round()
    soft = uniform("loss soft", (3, 4))
    logits = 3 * normal("loss logits", (3, 4))
    extreme = torch.tensor([-100.0, -30.0, 0.0, 30.0, 100.0, 100.0])
    extreme_target = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 1.0])
    weight = 0.5 + uniform("loss weight", (3, 4))
    pos_weight = torch.tensor([0.5, 1.0, 2.0, 3.0])

    def add(name, function, *inputs, tensors=None, **options):
        results.append(
            function_case(name, f"F.{function}", *inputs, tensors=tensors, options=options)
        )

    bce = "binary_cross_entropy_with_logits"
    for reduction in ("mean", "sum", "none"):
        add(f"bce_logits_{reduction}", bce, logits, binary, reduction=reduction)
        add(
            f"bce_logits_all_{reduction}",
            bce,
            logits,
            soft,
            tensors={"pos_weight": pos_weight, "weight": weight},
            reduction=reduction,
        )
        add(f"mse_{reduction}", "mse_loss", (3, 4), (3, 4), reduction=reduction)
        add(f"l1_{reduction}", "l1_loss", (3, 4), (3, 4), reduction=reduction)
        add(f"huber_{reduction}", "huber_loss", (3, 4), (3, 4), reduction=reduction)
        add(f"smooth_l1_{reduction}", "smooth_l1_loss", (3, 4), (3, 4), reduction=reduction)
    add("bce_logits_weight", bce, logits, soft, tensors={"weight": weight})
    add("bce_logits_pos_weight", bce, logits, soft, tensors={"pos_weight": pos_weight})
    add("bce_logits_extreme", bce, extreme, extreme_target, reduction="none")
    add("huber_delta", "huber_loss", (3, 4), (3, 4), delta=0.5)
    add("smooth_l1_beta", "smooth_l1_loss", (3, 4), (3, 4), beta=0.5)
    add("smooth_l1_beta_zero", "smooth_l1_loss", (3, 4), (3, 4), beta=0.0)
    # Equal values, where the slope of |x| jumps.
    equal = torch.tensor([1.0, 2.0, 3.0])
    for function in ("l1_loss", "huber_loss", "smooth_l1_loss"):
        name = f"{function.removesuffix('_loss')}_equal"
        add(name, function, equal, torch.tensor([1.0, 3.0, 2.0]), reduction="sum")
    return results


def functional_cases():
    results = []

    def add(name, function, *inputs, tensors=None, differentiable=(), **options):
        results.append(
            function_case(
                name,
                function,
                *inputs,
                tensors=tensors,
                options=options,
                differentiable=differentiable,
            )
        )

    attention = "F.scaled_dot_product_attention"
    query = (2, 2, 3, 4)
    key = (2, 2, 5, 4)
    # True where attention is allowed: the other way round than in nn.MultiheadAttention.
    allowed = ~causal(5)[:3]
    empty_row = allowed.clone()
    empty_row[1] = False
    batch_mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    batch_mask[1, ..., -2:] = False
    add("attention", attention, query, key, key)
    add("attention_3d", attention, (2, 3, 4), (2, 5, 4), (2, 5, 6))
    add("attention_scale", attention, query, key, key, scale=0.3)
    add("attention_causal", attention, query, query, query, is_causal=True)
    add("attention_causal_uneven", attention, query, key, key, is_causal=True)
    add("attention_bool_mask", attention, query, key, key, tensors={"attn_mask": allowed})
    add("attention_batch_mask", attention, query, key, key, tensors={"attn_mask": batch_mask})
    add("attention_empty_row", attention, query, key, key, tensors={"attn_mask": empty_row})
    add(
        "attention_float_mask",
        attention,
        query,
        key,
        key,
        tensors={"attn_mask": (3, 5)},
        differentiable=("attn_mask",),
    )
    grouped = [(2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)]
    add("attention_gqa", attention, *grouped, enable_gqa=True)
    square = [(1, 4, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)]
    add("attention_gqa_causal", attention, *square, enable_gqa=True, is_causal=True)

    values = torch.linspace(-5, 5, 21)
    add("gelu", "F.gelu", values)
    add("gelu_tanh", "F.gelu", values, approximate="tanh")
    add("layer_norm_plain", "F.layer_norm", (2, 3, 4), normalized_shape=(4,))
    add(
        "layer_norm_2",
        "F.layer_norm",
        (2, 3, 4),
        tensors={"weight": (3, 4), "bias": (3, 4)},
        differentiable=("weight", "bias"),
        normalized_shape=(3, 4),
        eps=1e-3,
    )

    # Equal maxima.
    flat = torch.tensor([[1.0, 3.0, 3.0], [3.0, 0.0, 2.0]])
    picture = torch.tensor(
        [[[[1.0, 2.0, 2.0, 0.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 5.0, 1.0]]]]
    )
    add("max_pool2d_ties", "F.max_pool2d", picture, kernel_size=2)
    add("max_pool2d_ties_overlap", "F.max_pool2d", picture, kernel_size=3, stride=1, padding=1)
    for name in ("max", "min"):
        rows = flat if name == "max" else -flat
        add(f"{name}_ties", f"torch.{name}", rows)
        add(f"{name}_dim_ties", f"torch.{name}", rows, dim=1)
        add(f"{name}_keepdim_ties", f"torch.{name}", rows, dim=0, keepdim=True)
        add(f"a{name}_ties", f"torch.a{name}", rows, dim=(0, 1))
        add(f"a{name}_dim_ties", f"torch.a{name}", rows, dim=1)
        other = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, -2.0]])
        add(f"{name}imum_ties", f"torch.{name}imum", flat, other)
    add("argmax_ties", "torch.argmax", flat, dim=1)
    add("relu_zero", "F.relu", torch.tensor([-1.0, 0.0, 1.0]))
    add("abs_zero", "torch.abs", torch.tensor([-1.0, 0.0, 1.0]))
    add("clamp_edges", "torch.clamp", torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.0]), min=-1.0, max=1.0)

    tokens = torch.tensor([[1, 0, 2], [4, 1, 1]])
    table = normal("functional table", (5, 3))
    add("embedding", "F.embedding", tokens, table)
    add("embedding_padding", "F.embedding", tokens, table, padding_idx=1)
    add("one_hot", "F.one_hot", tokens)
    add("one_hot_classes", "F.one_hot", tokens, num_classes=7)
    return results


# Optimizers, clipping and schedules.


def optimizer_cases():
    sgd = {"lr": 0.1}
    momentum = {"lr": 0.1, "momentum": 0.9}
    adam = {"lr": 0.05}
    rates = [0.1, 0.05, 0.2, 0.01, 0.0, 0.1]
    return [
        ("sgd", "SGD", sgd, {}),
        ("sgd_weight_decay", "SGD", sgd | {"weight_decay": 0.1}, {}),
        ("sgd_momentum", "SGD", momentum, {}),
        ("sgd_dampening", "SGD", momentum | {"dampening": 0.3}, {}),
        ("sgd_nesterov", "SGD", momentum | {"nesterov": True}, {}),
        ("sgd_nesterov_decay", "SGD", momentum | {"nesterov": True, "weight_decay": 0.1}, {}),
        ("sgd_maximize", "SGD", momentum | {"maximize": True, "weight_decay": 0.1}, {}),
        ("sgd_rates", "SGD", momentum, {"rates": rates}),
        ("sgd_groups", "SGD", momentum, {"groups": [{}, {"lr": 0.01, "weight_decay": 0.2}]}),
        ("sgd_missing_grad", "SGD", momentum, {"missing": [[0, 1], [3, 1]]}),
        ("adam", "Adam", adam, {}),
        ("adam_betas", "Adam", adam | {"betas": (0.8, 0.95), "eps": 1e-3}, {}),
        ("adam_weight_decay", "Adam", adam | {"weight_decay": 0.1}, {}),
        ("adam_amsgrad", "Adam", adam | {"amsgrad": True, "betas": (0.5, 0.6)}, {}),
        ("adam_maximize", "Adam", adam | {"maximize": True, "weight_decay": 0.1}, {}),
        ("adam_rates", "Adam", adam, {"rates": rates}),
        ("adam_missing_grad", "Adam", adam, {"missing": [[0, 1], [3, 1]]}),
        ("adamw", "AdamW", adam, {}),
        ("adamw_weight_decay", "AdamW", adam | {"weight_decay": 0.3}, {}),
        ("adamw_betas", "AdamW", adam | {"betas": (0.8, 0.95), "eps": 1e-3}, {}),
        (
            "adamw_amsgrad",
            "AdamW",
            adam | {"amsgrad": True, "betas": (0.5, 0.6), "weight_decay": 0.1},
            {},
        ),
        ("adamw_maximize", "AdamW", adam | {"maximize": True, "weight_decay": 0.1}, {}),
        ("adamw_rates", "AdamW", adam | {"weight_decay": 0.1}, {"rates": rates}),
        ("adamw_groups", "AdamW", adam, {"groups": [{"weight_decay": 0.0}, {"lr": 0.01}]}),
    ]


def run_optimizer(item, starts, gradients, dtype):
    _, constructor, kwargs, extra = item
    parameters = [nn.Parameter(value.to(dtype, copy=True)) for value in starts]
    groups = parameters
    if "groups" in extra:
        groups = [
            {"params": [parameter], **group}
            for parameter, group in zip(parameters, extra["groups"], strict=True)
        ]
    optimizer = getattr(torch.optim, constructor)(groups, foreach=False, **kwargs)
    history = [[] for _ in parameters]
    for step in range(STEPS):
        for group in optimizer.param_groups:
            if "rates" in extra:
                group["lr"] = extra["rates"][step]
        for i, parameter in enumerate(parameters):
            missing = [step, i] in extra.get("missing", [])
            parameter.grad = None if missing else gradients[i][step].to(dtype)
        optimizer.step()
        for values, parameter in zip(history, parameters, strict=True):
            values.append(parameter.detach().clone())
    results = {f"param/{i}": torch.stack(values) for i, values in enumerate(history)}
    saved = optimizer.state_dict()
    for i, state in saved["state"].items():
        for name, value in state.items():
            if value is not None:
                results[f"state/{i}/{name}"] = value
    return results, saved["param_groups"]


def write_optimizers(store):
    shapes = [(3, 4), (4,)]
    starts = [normal(f"optimizer/start/{i}", shape) for i, shape in enumerate(shapes)]
    gradients = [normal(f"optimizer/grad/{i}", (STEPS, *shape)) for i, shape in enumerate(shapes)]
    # The sizes differ, so that amsgrad's maximum differs from its running mean.
    scale = torch.tensor([1.0, 4.0, 0.5, 0.1, 2.0, 0.2])
    gradients = [value * scale.reshape(-1, *[1] * (value.dim() - 1)) for value in gradients]
    for i, (start, gradient) in enumerate(zip(starts, gradients, strict=True)):
        store.put(f"optimizer/start/{i}", start)
        store.put(f"optimizer/grad/{i}", gradient)
    results = []
    for item in optimizer_cases():
        name, constructor, kwargs, extra = item
        double, groups = run_optimizer(item, starts, gradients, torch.float64)
        single, _ = run_optimizer(item, starts, gradients, torch.float32)
        check_same(f"optimizer/{name}", single, double)
        for key, value in double.items():
            store.put(f"optimizer/{name}/{key}", value)
        results.append(
            {
                "name": name,
                "constructor": constructor,
                "kwargs": kwargs,
                "rates": extra.get("rates"),
                "groups": extra.get("groups"),
                "missing": extra.get("missing", []),
                "param_groups": groups,
                "state": sorted(
                    key.removeprefix("state/") for key in double if key.startswith("state/")
                ),
            }
        )
    return results


def clip_cases():
    return [
        ("norm_2", "clip_grad_norm_", {"max_norm": 1.0}),
        ("norm_2_below", "clip_grad_norm_", {"max_norm": 100.0}),
        ("norm_inf", "clip_grad_norm_", {"max_norm": 0.5, "norm_type": INF}),
        ("norm_inf_below", "clip_grad_norm_", {"max_norm": 50.0, "norm_type": INF}),
        ("norm_1", "clip_grad_norm_", {"max_norm": 2.0, "norm_type": 1.0}),
        ("value", "clip_grad_value_", {"clip_value": 0.5}),
    ]


def run_clip(function, kwargs, gradients, dtype):
    parameters = [nn.Parameter(torch.zeros_like(value, dtype=dtype)) for value in gradients]
    for parameter, value in zip(parameters, gradients, strict=True):
        parameter.grad = value.to(dtype, copy=True)
    total = getattr(nn.utils, function)(parameters, **kwargs)
    results = {f"after/{i}": parameter.grad for i, parameter in enumerate(parameters)}
    if total is not None:
        results["total_norm"] = total
    return results


def write_clips(store):
    gradients = [normal(f"clip/grad/{i}", shape) for i, shape in enumerate([(3, 4), (4,)])]
    for i, gradient in enumerate(gradients):
        store.put(f"clip/grad/{i}", gradient)
    results = []
    for name, function, kwargs in clip_cases():
        double = run_clip(function, kwargs, gradients, torch.float64)
        check_same(name, run_clip(function, kwargs, gradients, torch.float32), double)
        for key, value in double.items():
            store.put(f"clip/{name}/{key}", value)
        # JSON has no infinity: the string is what float() reads.
        plain = {key: "inf" if value == INF else value for key, value in kwargs.items()}
        results.append({"name": name, "function": function, "kwargs": plain})
    return results


def write_schedules():
    cases = [
        ("cosine", "CosineAnnealingLR", {"T_max": 20}),
        ("cosine_min", "CosineAnnealingLR", {"T_max": 20, "eta_min": 0.01}),
        ("cosine_past_end", "CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
        ("step", "StepLR", {"step_size": 5}),
        ("step_gamma", "StepLR", {"step_size": 3, "gamma": 0.5}),
        ("linear", "LinearLR", {}),
        ("linear_warmup", "LinearLR", {"start_factor": 0.1, "total_iters": 10}),
        (
            "linear_decay",
            "LinearLR",
            {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 15},
        ),
    ]
    rate = 0.1
    results = []
    for name, constructor, kwargs in cases:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
        schedule = getattr(torch.optim.lr_scheduler, constructor)(optimizer, **kwargs)
        rates = [optimizer.param_groups[0]["lr"]]
        for _ in range(SCHEDULE_STEPS):
            optimizer.step()
            schedule.step()
            rates.append(optimizer.param_groups[0]["lr"])
        results.append(
            {
                "name": name,
                "constructor": constructor,
                "kwargs": kwargs,
                "lr": rate,
                "rates": rates,
            }
        )
    return results


# Initialisation: what the numbers should look like, checked against PyTorch's own draws.


def uniform_between(low, high):
    return {
        "distribution": "uniform",
        "low": low,
        "high": high,
        "mean": (low + high) / 2,
        "std": (high - low) / math.sqrt(12),
    }


def uniform_within(bound):
    return uniform_between(-bound, bound)


def normal_with(std, mean=0.0):
    return {"distribution": "normal", "mean": mean, "std": std}


def truncated(mean, std, low, high):
    """The moments of a normal distribution cut off at both ends."""

    def density(x):
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def below(x):
        return (1 + math.erf(x / math.sqrt(2))) / 2

    a = (low - mean) / std
    b = (high - mean) / std
    inside = below(b) - below(a)
    shift = (density(a) - density(b)) / inside
    variance = 1 + (a * density(a) - b * density(b)) / inside - shift**2
    return {
        "distribution": "truncated_normal",
        "low": low,
        "high": high,
        "mean": mean + std * shift,
        "std": std * math.sqrt(variance),
    }


def constant(value):
    return {"distribution": "constant", "value": value}


def fans(shape):
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def init_functions():
    matrix = (60, 40)
    kernel = (24, 16, 3, 5)
    results = []

    def add(function, shape, expected, **kwargs):
        results.append(
            {"function": function, "shape": list(shape), "kwargs": kwargs, "expected": expected}
        )

    for shape in (matrix, kernel):
        fan_in, fan_out = fans(shape)
        for gain in (1.0, 2.0):
            std = gain * math.sqrt(2 / (fan_in + fan_out))
            add("xavier_uniform_", shape, uniform_within(math.sqrt(3) * std), gain=gain)
            add("xavier_normal_", shape, normal_with(std), gain=gain)
        for mode, fan in (("fan_in", fan_in), ("fan_out", fan_out)):
            for slope, kind in ((0.0, "leaky_relu"), (math.sqrt(5), "leaky_relu"), (0.0, "relu")):
                std = math.sqrt(2 / (1 + slope**2) / fan)
                kwargs = {"a": slope, "mode": mode, "nonlinearity": kind}
                add("kaiming_uniform_", shape, uniform_within(math.sqrt(3) * std), **kwargs)
                add("kaiming_normal_", shape, normal_with(std), **kwargs)
            for kind, gain in (("linear", 1.0), ("tanh", 5 / 3)):
                kwargs = {"mode": mode, "nonlinearity": kind}
                std = gain / math.sqrt(fan)
                add("kaiming_uniform_", shape, uniform_within(math.sqrt(3) * std), **kwargs)
                add("kaiming_normal_", shape, normal_with(std), **kwargs)
    add("trunc_normal_", matrix, truncated(0.0, 1.0, -2.0, 2.0))
    add("trunc_normal_", matrix, truncated(0.0, 0.02, -2.0, 2.0), std=0.02)
    add(
        "trunc_normal_",
        matrix,
        truncated(0.5, 2.0, -1.0, 3.0),
        mean=0.5,
        std=2.0,
        a=-1.0,
        b=3.0,
    )
    add("normal_", matrix, normal_with(1.0))
    add("normal_", matrix, normal_with(0.02, 0.5), mean=0.5, std=0.02)
    add("uniform_", matrix, uniform_between(0.0, 1.0))
    add("uniform_", matrix, uniform_between(-0.3, 0.1), a=-0.3, b=0.1)
    add("constant_", (3, 4), constant(0.25), val=0.25)
    add("zeros_", (3, 4), constant(0.0))
    add("ones_", (3, 4), constant(1.0))
    add("eye_", (3, 5), {"distribution": "identity"})
    add("eye_", (5, 3), {"distribution": "identity"})
    for shape in ((8, 8), (4, 6), (6, 4), (4, 2, 3)):
        for gain in (1.0, 2.0):
            # Over the matrix of shape[0] rows: the shorter side is orthogonal, of that length.
            side = "rows" if shape[0] <= math.prod(shape[1:]) else "columns"
            expected = {"distribution": "orthogonal", "side": side, "norm": gain}
            add("orthogonal_", shape, expected, gain=gain)
    return results


def module_defaults():
    results = []

    def add(constructor, kwargs, **parameters):
        results.append(
            {
                "constructor": constructor,
                "kwargs": kwargs,
                "state": {name.replace("__", "."): value for name, value in parameters.items()},
            }
        )

    def both(fan_in):
        bound = uniform_within(1 / math.sqrt(fan_in))
        return {"weight": bound, "bias": bound}

    scale = {"weight": constant(1.0), "bias": constant(0.0)}
    running = {
        "running_mean": constant(0.0),
        "running_var": constant(1.0),
        "num_batches_tracked": constant(0),
    }
    # in_proj_weight is drawn as one (3 * embed_dim, embed_dim) matrix.
    attention = {
        "in_proj_weight": uniform_within(math.sqrt(6 / (32 + 3 * 32))),
        "in_proj_bias": constant(0.0),
        "out_proj__weight": uniform_within(1 / math.sqrt(32)),
        "out_proj__bias": constant(0.0),
    }
    add("Linear", {"in_features": 50, "out_features": 40}, **both(50))
    convolution = {"in_channels": 8, "out_channels": 12, "kernel_size": 3}
    add("Conv1d", convolution, **both(8 * 3))
    add("Conv2d", convolution, **both(8 * 9))
    add("Conv2d", convolution | {"groups": 4}, **both(2 * 9))
    add("Conv3d", convolution, **both(8 * 27))
    table = {"num_embeddings": 60, "embedding_dim": 40}
    add("Embedding", table, weight=normal_with(1.0))
    row = normal_with(1.0) | {"zero_rows": [2]}
    add("Embedding", table | {"padding_idx": 2}, weight=row)
    add("LayerNorm", {"normalized_shape": 6}, **scale)
    add("RMSNorm", {"normalized_shape": 6}, weight=constant(1.0))
    add("BatchNorm1d", {"num_features": 6}, **scale, **running)
    add("BatchNorm2d", {"num_features": 6}, **scale, **running)
    add("MultiheadAttention", {"embed_dim": 32, "num_heads": 4}, **attention)
    layer = {f"self_attn__{name}": value for name, value in attention.items()}
    for name, fan_in in (("linear1", 32), ("linear2", 64)):
        layer |= {f"{name}__{key}": value for key, value in both(fan_in).items()}
    for name in ("norm1", "norm2"):
        layer |= {f"{name}__{key}": value for key, value in scale.items()}
    kwargs = {"d_model": 32, "nhead": 4, "dim_feedforward": 64}
    add("TransformerEncoderLayer", kwargs, **layer)
    return results


def check_draws(name, tensors, expected):
    """Compare many draws of one tensor with what is expected of them."""
    kind = expected["distribution"]
    if kind == "constant":
        good = all((value == expected["value"]).all() for value in tensors)
    elif kind == "identity":
        good = all(torch.equal(value, torch.eye(*value.shape)) for value in tensors)
    elif kind == "orthogonal":
        good = True
        for value in tensors:
            rows = value.flatten(1)
            rows = rows if expected["side"] == "rows" else rows.T
            target = expected["norm"] ** 2 * torch.eye(len(rows))
            good = good and torch.allclose(rows @ rows.T, target, atol=1e-5)
    else:
        zero_rows = expected.get("zero_rows", [])
        good = all((value[row] == 0).all() for value in tensors for row in zero_rows)
        kept = tensors
        if zero_rows:
            others = [i for i in range(len(tensors[0])) if i not in zero_rows]
            kept = [value[others] for value in tensors]
        numbers = torch.cat([value.flatten() for value in kept]).double()
        std = expected["std"]
        good = good and abs(numbers.mean() - expected["mean"]) < 6 * std / math.sqrt(len(numbers))
        good = good and abs(numbers.std() / std - 1) < 0.05
        if "low" in expected:
            # A float32 bound may round outwards.
            slack = 1e-6 * (expected["high"] - expected["low"])
            good = good and numbers.min() >= expected["low"] - slack
            good = good and numbers.max() <= expected["high"] + slack
        if kind == "uniform":
            reach = (numbers.max() - numbers.min()) / (expected["high"] - expected["low"])
            good = good and reach > 0.98
    if not good:
        raise ValueError(f"{name}: PyTorch does not draw {expected}")


def draws_needed(size):
    return max(2, math.ceil(5000 / size))


def write_init():
    torch.manual_seed(0)
    functions = init_functions()
    for item in functions:
        make = getattr(nn.init, item["function"])
        tensors = [
            make(torch.empty(item["shape"]), **item["kwargs"])
            for _ in range(draws_needed(math.prod(item["shape"])))
        ]
        check_draws(f"init {item['function']}", tensors, item["expected"])
    modules = module_defaults()
    for item in modules:
        make = getattr(nn, item["constructor"])
        states = [make(**item["kwargs"]).state_dict() for _ in range(500)]
        if set(states[0]) != set(item["state"]):
            raise ValueError(f"{item['constructor']}: {sorted(states[0])}")
        for name, expected in item["state"].items():
            count = draws_needed(max(1, states[0][name].numel()))
            tensors = [state[name] for state in states[:count]]
            check_draws(f"{item['constructor']} {name}", tensors, expected)
    kinds = ("linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu")
    gains = [
        {"nonlinearity": kind, "param": None, "gain": nn.init.calculate_gain(kind)}
        for kind in kinds
    ]
    gain = nn.init.calculate_gain("leaky_relu", 0.2)
    gains.append({"nonlinearity": "leaky_relu", "param": 0.2, "gain": gain})
    return {"functions": functions, "modules": modules, "gains": gains}


# A file as PyTorch users write it.


def plain_values(tensor):
    exact = tensor.double() if tensor.is_floating_point() else tensor
    return exact.flatten().tolist()


def write_checkpoint():
    model = nn.Sequential(
        OrderedDict(
            embed=nn.Embedding(5, 4),
            body=nn.Linear(4, 3),
            norm=nn.BatchNorm1d(3),
            head=nn.Linear(3, 2, bias=False),
        )
    )
    fill("checkpoint", model)
    state = model.state_dict()
    state["embed.weight"] = state["embed.weight"].bfloat16()
    state["head.weight"] = state["head.weight"].half()
    # The smallest and largest numbers of both types, and the zero with a sign.
    bounds = torch.tensor([2.0**-133, -0.0, torch.finfo(torch.bfloat16).max, 1.0])
    state["embed.weight"][0] = bounds.bfloat16()
    state["head.weight"][0] = torch.tensor([2.0**-24, -0.0, 65504.0]).half()
    path = GOLDEN / "torch_written.safetensors"
    write_tensors(path, state, {"format": "pt"})
    tensors = [
        {"name": name, "values": plain_values(value)} | describe(value)
        for name, value in state.items()
    ]
    write_json(
        GOLDEN / "torch_written.json",
        {"torch": torch_version(), "metadata": {"format": "pt"}, "tensors": tensors},
    )


def torch_version():
    return torch.__version__.partition("+")[0]


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_tensors(path, tensors, metadata):
    save_file(tensors, path, metadata=metadata)
    # save_file keeps its files to the owner.
    path.chmod(0o644)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # PyTorch warns of 'same' padding with even kernels and of prototype features.
    warnings.simplefilter("ignore")
    GOLDEN.mkdir(parents=True, exist_ok=True)
    store = Store()
    data = {
        "torch": torch_version(),
        "modules": [write_module(store, item) for item in module_cases()],
        "losses": [
            write_function(store, "loss", item)
            for item in classification_losses() + regression_losses()
        ],
        "functional": [write_function(store, "functional", item) for item in functional_cases()],
        "optimizers": write_optimizers(store),
        "clip": write_clips(store),
        "schedules": write_schedules(),
        "init": write_init(),
    }
    write_json(GOLDEN / "modules.json", data)
    # One entry only: safetensors writes several in no fixed order.
    write_tensors(GOLDEN / "modules.safetensors", store.tensors, {"torch": torch_version()})
    write_checkpoint()
    for section in ("modules", "losses", "functional", "optimizers", "clip", "schedules"):
        print(section, len(data[section]))


if __name__ == "__main__":
    main()
