"""Modules seen from outside: registration, states, hooks, ties, modes, errors, `repr`."""

from __future__ import annotations

import copy
import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.errors import ArgumentError, DtypeError, ShapeError
from proa.nn import functional as F  # noqa: N812
from proa.random import Generator, manual_seed
from proa.record.live import epoch, thread


class Net(nn.Module):
    def __init__(self, tie=True):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.body = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6, bias=False)
        if tie:
            self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.norm(self.body(self.embed(x))))


def advanced(change):
    """Whether a jitted function is told of a change."""
    before = epoch.count
    change()
    return epoch.count > before


def bits(module):
    return {n: t.numpy().tobytes() for n, t in module.state_dict().items()}


# Registration.


def test_attributes_are_registered_by_kind():
    m = nn.Module()
    m.weight = nn.Parameter(pa.ones((2,)))
    m.part = nn.Linear(2, 3)
    m.register_buffer("count", pa.zeros((1,)))
    m.register_buffer("scratch", pa.zeros((1,)), persistent=False)
    m.register_parameter("bias", None)
    m.plain, m.note = pa.ones((1,)), "text"
    assert [n for n, _ in m.named_parameters()] == ["weight", "part.weight", "part.bias"]
    assert [n for n, _ in m.named_buffers()] == ["count", "scratch"]
    assert list(m.state_dict()) == ["weight", "count", "part.weight", "part.bias"]
    assert [n for n, _ in m.named_modules()] == ["", "part"]
    assert m.bias is None
    assert set(m.__dict__) >= {"plain", "note", "training"}
    assert "weight" not in m.__dict__
    assert {"weight", "part", "count"} <= set(dir(m))


def test_a_name_is_of_one_kind_only():
    m = nn.Module()
    m.x = 3
    m.x = nn.Parameter(pa.ones((2,)))
    assert "x" not in m.__dict__
    m.x = None
    assert m.x is None
    assert list(m.parameters()) == []
    m.y = nn.Linear(1, 1)
    m.y = 5
    assert m.y == 5
    assert list(m.children()) == []
    m.z = nn.Linear(1, 1)
    del m.z
    with pytest.raises(AttributeError, match="'z'"):
        m.z  # noqa: B018


def test_registering_refuses_what_does_not_fit():
    m = nn.Linear(2, 2)
    with pytest.raises(DtypeError, match="no_grad"):
        m.weight = pa.ones((2, 2))
    with pytest.raises(DtypeError, match="Parameter"):
        m.weight = 3.0
    with pytest.raises(ArgumentError, match="dot"):
        m.register_buffer("a.b", pa.ones((1,)))
    with pytest.raises(ArgumentError, match="forward"):
        m.register_parameter("forward", nn.Parameter(pa.ones((1,))))
    with pytest.raises(DtypeError, match="Module"):
        m.add_module("part", 3)
    with pytest.raises(DtypeError, match="tensor"):
        nn.Parameter([1.0])
    with pytest.raises(AttributeError, match="weight, bias"):
        m.wieght  # noqa: B018
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_a_parameter_is_a_handle_of_its_own():
    data = pa.ones((2,))
    p = nn.Parameter(data)
    assert p is not data
    assert not data.requires_grad
    frozen = nn.Parameter(data, requires_grad=False)
    assert isinstance(p, nn.Parameter)
    assert isinstance(frozen, nn.Parameter)
    assert not isinstance(data, nn.Parameter)
    m = nn.Module()
    m.p = frozen
    assert [id(p) for p in m.parameters()] == [id(frozen)]


def test_walks_meet_everything_once():
    m = Net()
    assert [n for n, _ in m.named_parameters()] == [
        "embed.weight", "body.weight", "body.bias", "norm.weight", "norm.bias",
    ]  # fmt: skip
    both = [n for n, _ in m.named_parameters(remove_duplicate=False)]
    assert "head.weight" in both
    assert len(list(m.buffers())) == 3
    assert [n for n, _ in m.named_children()] == ["embed", "body", "norm", "head"]
    part = nn.Linear(1, 1)
    twice = nn.Sequential(part, part)
    assert len(list(twice.modules())) == 2
    assert len(list(twice.named_modules(remove_duplicate=False))) == 3
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    order = []
    m.apply(lambda part: order.append(type(part).__name__))
    assert order == ["Embedding", "Linear", "BatchNorm1d", "Linear", "Net"]
    assert m.get_submodule("norm") is m.norm
    assert m.get_parameter("body.weight") is m.body.weight
    assert m.get_buffer("norm.running_var") is m.norm.running_var
    with pytest.raises(AttributeError, match="nothing"):
        m.get_submodule("nothing.here")
    with pytest.raises(AttributeError, match=r"body\.running"):
        m.get_buffer("body.running")


# Epoch: what a jitted function is told.


def test_changes_advance_the_epoch():
    m = Net()
    hook = m.register_forward_hook(lambda *a: None)
    changes = [
        lambda: setattr(m, "scale", 2.0), lambda: setattr(m, "scale", 3.0),
        lambda: delattr(m, "scale"),
        lambda: m.eval(), lambda: m.train(), lambda: hook.remove(),
        lambda: m.register_forward_pre_hook(lambda *a: None), lambda: m.requires_grad_(False),
        lambda: m.body.weight.requires_grad_(True),
        lambda: setattr(m, "body", nn.Linear(4, 4)), lambda: m.register_buffer("b", pa.ones((1,))),
        lambda: setattr(m, "b", pa.ones((1,))), lambda: m.to(pa.float64),
        lambda: setattr(m, "part", None),
        lambda: setattr(m.body, "bias", None),
    ]  # fmt: skip
    for i, change in enumerate(changes):
        assert advanced(change), i


def test_calls_and_values_do_not_advance_the_epoch():
    m = Net()
    x = pa.asarray([1, 2, 3])
    state = m.state_dict()

    def steps():
        m(x).sum().backward()
        m.zero_grad()
        m.load_state_dict(state)
        m.train()
        m.scale = 1

    m.scale = 1
    assert not advanced(steps)


# Modes.


def test_train_and_eval_reach_all_parts():
    m = Net()
    assert m.eval() is m
    assert not any(part.training for part in m.modules())
    m.train()
    assert all(part.training for part in m.modules())
    with pytest.raises(DtypeError, match="mode"):
        m.train("yes")


def test_dropout_drops_in_training_only():
    drop = nn.Dropout(0.25)
    manual_seed(1)
    y = drop(pa.ones((4000,))).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert 0.2 < (y == 0).mean() < 0.3
    x = pa.ones((3,))
    assert drop.eval()(x) is x
    assert not np.array_equal(
        nn.Dropout(0.5)(pa.ones((99,))).numpy(), nn.Dropout(0.5)(pa.ones((99,))).numpy()
    )
    one, other = (nn.Dropout(0.5, Generator(3))(pa.ones((99,))).numpy() for _ in range(2))
    assert np.array_equal(one, other)
    with pytest.raises(ArgumentError, match="0 to 1"):
        nn.Dropout(1.5)
    with pytest.raises(DtypeError, match="Generator"):
        nn.Dropout(0.5, 7)(x)


def test_batch_norm_learns_running_values_through_its_handles():
    norm = nn.BatchNorm1d(2, momentum=0.5)
    mean, count = norm.running_mean, norm.num_batches_tracked
    x = pa.asarray([[1.0, 0.0], [3.0, 4.0]])
    norm(x)
    assert norm.running_mean is mean
    assert not mean.requires_grad
    np.testing.assert_allclose(mean.numpy(), [1.0, 1.0])
    np.testing.assert_allclose(norm.running_var.numpy(), [1.5, 4.5])
    assert count.item() == 1
    norm.eval()(x)
    assert count.item() == 1
    with pytest.raises(ShapeError, match="2 in training"):
        norm.train()(x[:1])
    assert count.item() == 1
    average = nn.BatchNorm1d(1, momentum=None)
    for i in range(3):
        average(pa.asarray([[float(i)], [float(i) + 2.0]]))
    np.testing.assert_allclose(average.running_mean.numpy(), [2.0])


def test_freezing_and_emptying_gradients():
    m = Net()
    m(pa.asarray([1, 2, 3])).sum().backward()
    g = m.body.weight.grad
    assert g is not None
    m.zero_grad()
    assert m.body.weight.grad is None
    m(pa.asarray([1, 2, 3])).sum().backward()
    assert m.body.weight.grad is g
    m.requires_grad_(False)
    assert not m(pa.asarray([1, 2, 3])).requires_grad
    assert [n for n, _ in m.named_parameters()][:2] == ["embed.weight", "body.weight"]
    m.requires_grad_()
    assert all(p.requires_grad for p in m.parameters())


# States.


def test_a_state_is_of_its_moment_and_off_the_tape():
    m = nn.Linear(2, 2)
    state = m.state_dict()
    before = state["weight"].tolist()
    assert not state["weight"].requires_grad
    with pa.no_grad():
        m.weight[...] = 0.0
    assert state["weight"].tolist() == before
    m.load_state_dict(state)
    assert m.weight.tolist() == before


def test_loading_assigns_through_the_handles():
    a, b = Net(), Net()
    handles = {n: id(t) for n, t in b._named_state()}
    b.load_state_dict(a.state_dict())
    assert handles == {n: id(t) for n, t in b._named_state()}
    assert bits(a) == bits(b)
    assert all(p.requires_grad for p in b.parameters())
    b(pa.asarray([1, 2])).sum().backward()
    assert b.body.weight.grad is not None
    b.load_state_dict({n: t.numpy() for n, t in a.state_dict().items()})
    assert bits(b)["embed.weight"] == bits(a)["embed.weight"]


def test_arrays_are_copied_at_the_door():
    m = nn.Linear(2, 1, bias=False)
    array = np.ones((1, 2), np.float32)
    m.load_state_dict({"weight": array})
    array[:] = 5.0
    assert m.weight.tolist() == [[1.0, 1.0]]


def test_all_that_does_not_fit_is_told_in_one_error():
    m = Net(tie=False)
    before = bits(m)
    state = {n: t.numpy() for n, t in m.state_dict().items()}
    state["body.wieght"] = state.pop("body.weight")
    state["extra"] = np.ones(2, np.float32)
    state["body.bias"] = np.ones((5,), np.float32)
    state["norm.weight"] = np.ones(4, np.float64)
    state["norm.num_batches_tracked"] = np.float32(1)
    state["norm.bias"] = [0.0] * 4
    state["embed.weight"] = np.zeros((6, 4), np.float32)
    with pytest.raises(ArgumentError) as caught:
        m.load_state_dict(state)
    text = str(caught.value)
    for part in [
        "Net", "missing: body.weight, float32 (4, 4) (near: body.wieght)",
        "unexpected: body.wieght (near: body.weight)", "unexpected: extra",
        "shape: body.bias has (5,), expected (4,)",
        "dtype: norm.weight has float64, expected float32", "astype(pa.float32)",
        "dtype: norm.num_batches_tracked has float32", "type: norm.bias is list",
        "strict=False",
    ]:  # fmt: skip
        assert part in text, part
    assert bits(m) == before
    with pytest.raises(DtypeError, match="mapping"):
        m.load_state_dict([1])


def test_loading_without_strict_returns_names():
    m = nn.Linear(2, 2)
    found = m.load_state_dict({"weight": np.ones((2, 2), np.float32), "other": 1}, strict=False)
    assert found.missing_keys == ["bias"]
    assert found.unexpected_keys == ["other"]
    assert m.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    with pytest.raises(ArgumentError, match="shape"):
        m.load_state_dict({"weight": np.ones((2,), np.float32)}, strict=False)


def test_a_dtype_is_held_exactly_or_refused():
    m = nn.Linear(1, 1, bias=False)
    m.load_state_dict({"weight": np.array([[0.5]], np.float16)})
    assert m.weight.dtype is pa.float32
    assert m.weight.item() == 0.5
    with pytest.raises(ArgumentError, match="float64"):
        m.load_state_dict({"weight": np.array([[0.5]], np.float64)})
    with pytest.raises(ArgumentError, match="float32"):
        m.half().load_state_dict({"weight": np.array([[0.5]], np.float32)})


# Ties.


def test_ties_are_kept():
    m = Net()
    assert m.head.weight is m.embed.weight
    for changed in (
        m.to(pa.float64),
        m.float(),
        copy.deepcopy(m),
        m.requires_grad_(False),
        copy.deepcopy(m),
    ):
        assert changed.head.weight is changed.embed.weight
    m.requires_grad_()
    state = {n: t.numpy() for n, t in Net().state_dict().items()}
    m.load_state_dict(state)
    assert m.head.weight is m.embed.weight
    del state["head.weight"]
    m.load_state_dict(state)
    state["head.weight"] = state["embed.weight"] + 1
    with pytest.raises(ArgumentError, match=r"tied: embed\.weight and head\.weight"):
        m.load_state_dict(state)
    m(pa.asarray([1, 2, 2])).sum().backward()
    assert m.head.weight.grad is m.embed.weight.grad


def test_a_frozen_parameter_can_be_tied():
    m = copy.deepcopy(Net(tie=False).requires_grad_(False))
    m.head.weight = m.embed.weight
    assert m.head.weight is m.embed.weight


def test_deepcopy_is_apart():
    m = Net()
    other = copy.deepcopy(m)
    assert bits(m) == bits(other)
    with pa.no_grad():
        other.body.weight[...] = 0.0
    assert bits(m) != bits(other)
    assert other.body.weight.requires_grad
    assert {id(p) for p in m.parameters()}.isdisjoint({id(p) for p in other.parameters()})
    other.eval()
    assert m.training
    assert not other.norm.training


# Dtypes and devices.


def test_to_converts_floats_and_keeps_handles():
    m = Net()
    weight = m.body.weight
    m(pa.asarray([1, 2, 3])).sum().backward()
    m.double()
    assert m.body.weight is weight
    assert weight.dtype is weight.grad.dtype is pa.float64
    assert m.norm.num_batches_tracked.dtype is pa.int64
    assert m(pa.asarray([1, 2, 3])).dtype is pa.float64
    assert m.to(dtype="float16").body.bias.dtype is pa.float16
    assert m.bfloat16().norm.running_mean.dtype is pa.bfloat16
    assert m.to("numpy", pa.float32).body.bias.dtype is pa.float32
    with pytest.raises(DtypeError, match="float"):
        m.to(pa.int32)
    assert nn.Linear(2, 2, dtype=pa.float64).weight.dtype is pa.float64


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(3, 2), (2, 3)), (nn.Conv1d(3, 2, 1), (2, 3, 4)),
        (nn.Conv2d(3, 2, 1), (2, 3, 4, 4)),
        (nn.LayerNorm(3), (2, 3)), (nn.RMSNorm(3), (2, 3)), (nn.BatchNorm1d(3), (2, 3)),
        (nn.GroupNorm(1, 3), (2, 3)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)  # fmt: skip
def test_another_dtype_is_refused_with_the_way_out(module, shape):
    with pytest.raises(DtypeError, match=r"`x` of float64.*float32.*x\.astype\(pa\.float32\)"):
        module(pa.ones(shape, dtype=pa.float64))
    with pytest.raises(DtypeError, match=r"x\.astype\(pa\.float32\)"):
        module(np.ones(shape))
    with pytest.raises(DtypeError, match=r"x\.astype\(pa\.float32\)"):
        module(pa.ones(shape, dtype=pa.int64))
    with pytest.raises(DtypeError, match="asarray"):
        module([1.0])
    assert module.double()(pa.ones(shape, dtype=pa.float64)).dtype is pa.float64
    module.float()


def test_attention_names_the_argument_of_another_dtype():
    m = nn.MultiheadAttention(4, 2, batch_first=True)
    x = pa.ones((1, 3, 4))
    with pytest.raises(DtypeError, match=r"`value` of float64.*value\.astype"):
        m(x, x, x.double())
    with pytest.raises(DtypeError, match="mask of float64"):
        m(x, x, x, attn_mask=pa.zeros((3, 3), dtype=pa.float64))


# Hooks and scopes.


def test_hooks_see_and_replace():
    m = nn.Linear(1, 1)
    seen = []
    first = m.register_forward_pre_hook(lambda mod, args: seen.append("pre") or (args[0] * 2,))
    m.register_forward_pre_hook(lambda mod, args: seen.append("earlier"), prepend=True)
    after = m.register_forward_hook(lambda mod, args, out: seen.append("post") or out + 1)
    x = pa.ones((1, 1))
    expected = (m.weight.item() * 2 + m.bias.item()) + 1
    assert m(x).item() == pytest.approx(expected)
    assert seen == ["earlier", "pre", "post"]
    first.remove()
    first.remove()
    with after:
        pass
    assert m(x).item() == pytest.approx(m.weight.item() + m.bias.item())
    named = nn.Identity()
    named.register_forward_pre_hook(lambda mod, a, k: (a, {"x": k["x"] * 3}), with_kwargs=True)
    named.register_forward_hook(lambda mod, a, k, out: out + k["x"], with_kwargs=True)
    assert named(x=x).item() == 6.0
    with pytest.raises(DtypeError, match="function"):
        m.register_forward_hook(3)


def test_calls_put_their_path_on_the_scope():
    scopes = {}

    class Spy(nn.Module):
        def __init__(self, key):
            super().__init__()
            self.key = key

        def forward(self, x):
            scopes[self.key] = thread.state.scope
            return x

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Sequential(Spy(i)) for i in range(2)])
            self.parts = nn.ModuleDict({"a": nn.ModuleList([Spy("in")])})

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.parts["a"][0](x)

    m = Model()
    m(1)
    assert scopes == {0: "blocks.0.0", 1: "blocks.1.0", "in": "parts.a.0"}
    names = {part.key: name for name, part in m.named_modules() if isinstance(part, Spy)}
    assert names == scopes
    assert thread.state.scope == ""
    m.blocks.append(nn.Sequential(Spy(2)))
    m(1)
    assert scopes[2] == "blocks.2.0"

    class Bad(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        nn.Sequential(Bad())(1)
    assert thread.state.scope == ""


# Containers.


def test_sequential_is_a_list_of_named_parts():
    m = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(m) == 3
    assert m[-1] is m[2]
    assert isinstance(m[:2], nn.Sequential)
    assert list(m[1:].state_dict()) == ["2.weight", "2.bias"]
    m.append(nn.Tanh())
    m.insert(0, nn.Identity())
    assert [type(p).__name__ for p in m] == ["Identity", "Linear", "ReLU", "Linear", "Tanh"]
    assert list(m.state_dict())[0] == "1.weight"
    del m[0]
    m[1] = nn.GELU()
    assert m(pa.ones((4, 2))).shape == (4, 1)
    assert [n for n, _ in m.named_children()] == ["0", "1", "2", "3"]
    with pytest.raises(IndexError, match="7"):
        m[7]


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(1, 1)])
    layers += [nn.ReLU(), nn.ReLU()]
    assert len(layers) == 3
    del layers[0]
    assert [n for n, _ in layers.named_children()] == ["0", "1"]
    parts = nn.ModuleDict([("a", nn.ReLU())])
    parts["b"] = nn.Tanh()
    assert list(parts.keys()) == ["a", "b"]
    assert isinstance(parts.pop("a"), nn.ReLU)
    assert len(parts) == 1
    with pytest.raises(KeyError, match="zz"):
        parts["zz"]
    weights = nn.ParameterList([nn.Parameter(pa.ones((2,))), pa.ones((3,))])
    assert all(w.requires_grad for w in weights)
    assert [n for n, _ in weights.named_parameters()] == ["0", "1"]


def test_repr_shows_the_layout_and_sizes():
    m = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
    )
    assert repr(m) == (
        "Sequential(  # 256 parameters\n"
        "  (0): Linear(in_features=4, out_features=8, bias=True)  # 40 parameters\n"
        "  (1): ReLU()\n"
        "  (2): ModuleList(  # 216 parameters\n"
        "    (0-2): 3 x Linear(in_features=8, out_features=8, bias=True)  # 72 parameters\n"
        "  )\n"
        ")"
    )
    assert "# 64 parameters" not in repr(Net())
    assert repr(Net()).startswith("Net(  # 52 parameters")
    conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)
    assert repr(conv) == (
        "Conv2d(2, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=2, bias=False)"
        "  # 36 parameters"
    )


# Arguments.


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Linear(2.5, 1), "in_features"), (lambda: nn.Linear(-1, 1), "in_features"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups"),
        (lambda: nn.Conv2d(2, 4, (3,)), "kernel_size"),
        (lambda: nn.Conv2d(2, 4, 3, padding_mode="reflect"), "padding_mode"),
        (lambda: nn.Conv1d(2, 4, 3, padding="same", stride=2), "stride"),
        (lambda: nn.Conv1d(2, 4, 3, padding="half"), "padding"),
        (lambda: nn.LayerNorm(()), "normalized_shape"), (lambda: nn.LayerNorm(3, eps=-1.0), "eps"),
        (lambda: nn.LayerNorm(3, eps="x"), "eps"), (lambda: nn.GroupNorm(2, 3), "divisor"),
        (lambda: nn.MultiheadAttention(5, 2), "num_heads"), (lambda: nn.GELU("tan"), "approximate"),
        (lambda: nn.MaxPool2d(0), "kernel_size"), (lambda: nn.MSELoss("average"), "reduction"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="tan"), "activation"),
        (lambda: nn.TransformerEncoder(nn.Identity(), 0), "num_layers"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_when_a_module_is_made(make, text):
    with pytest.raises((ArgumentError, DtypeError), match=text):
        make()


@pytest.mark.parametrize(
    "call",
    [
        lambda: nn.Linear(3, 2)(pa.ones((2, 4))), lambda: nn.Conv2d(3, 2, 3)(pa.ones((2, 4, 5, 5))),
        lambda: nn.Conv2d(3, 2, 3)(pa.ones((3, 5))), lambda: nn.Conv1d(1, 1, 3)(pa.ones((1, 1, 2))),
        lambda: nn.BatchNorm2d(3)(pa.ones((2, 3))), lambda: nn.BatchNorm1d(3)(pa.ones((2, 4))),
        lambda: nn.LayerNorm(3)(pa.ones((2, 4))), lambda: nn.MaxPool2d(2)(pa.ones((4, 4))),
        lambda: nn.MultiheadAttention(4, 2)(pa.ones((4,)), pa.ones((4,)), pa.ones((4,))),
        lambda: nn.MultiheadAttention(4, 2)(*[pa.ones((3, 1, 4))] * 3, attn_mask=pa.zeros((2, 2))),
        lambda: F.scaled_dot_product_attention(pa.ones((1, 4, 2, 2)), *[pa.ones((1, 2, 2, 2))] * 2),
        lambda: F.glu(pa.ones((3,))), lambda: F.pad(pa.ones((3,)), (1, 1, 1)),
        lambda: F.pad(pa.ones((3,)), (1, 1), "reflect"),
        lambda: F.one_hot(pa.zeros((0,), dtype=pa.int64)),
        lambda: F.dropout(pa.ones((3,)), 2.0), lambda: nn.init.kaiming_uniform_(pa.ones((3,))),
        lambda: nn.init.uniform_(pa.ones((3,)), 1.0, 0.0), lambda: nn.init.calculate_gain("tan"),
        lambda: nn.init.eye_(pa.ones((3,))), lambda: nn.init.dirac_(pa.ones((3, 3))),
    ],
)  # fmt: skip
def test_bad_calls_are_refused_with_a_sentence(call):
    with pytest.raises((ArgumentError, DtypeError), match=r"\[\w+\] given .*, expected "):
        call()


# Functions that the golden file has no case of.


def test_pad():
    x = pa.asarray([[1.0, 2.0, 3.0]])
    assert F.pad(x, (1, -1)).tolist() == [[0.0, 1.0, 2.0]]
    assert F.pad(x, (0, 0, 1, 0), value=9).tolist() == [[9.0, 9.0, 9.0], [1.0, 2.0, 3.0]]
    assert F.pad(pa.asarray([1, 2]), (1, 0), value=7).tolist() == [7, 1, 2]


def test_normalize_has_a_gradient_at_zero():
    x = pa.asarray([[3.0, 4.0], [0.0, 0.0]]).requires_grad_()
    y = F.normalize(x)
    np.testing.assert_allclose(y.numpy(), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    for p in (1, 3, float("inf")):
        norms = np.linalg.norm(F.normalize(x.detach(), p=p).numpy()[0], p)
        assert norms == pytest.approx(1.0, rel=1e-6)


def test_attention_with_weights_equals_attention_without():
    m = nn.MultiheadAttention(8, 2, batch_first=True, kdim=3, vdim=5)
    q, k, v = pa.random.normal((2, 4, 8)), pa.random.normal((2, 6, 3)), pa.random.normal((2, 6, 5))
    for options in (
        {}, {"is_causal": True}, {"attn_mask": pa.asarray(np.eye(4, 6) > 0)},
        {"key_padding_mask": pa.asarray([[False] * 6, [True] * 6])},
        {"attn_mask": pa.asarray(np.full((8 // 2, 4, 6), -1.0, np.float32)), "is_causal": True},
    ):  # fmt: skip
        a, weights = m(q, k, v, **options)
        b, none = m(q, k, v, need_weights=False, **options)
        assert none is None
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
        assert weights.shape == (2, 4, 6)
    assert list(m.state_dict())[:3] == ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
    plain = nn.MultiheadAttention(8, 2)
    x = pa.random.normal((4, 2, 8))
    one = plain(x, x, x)[0]
    other = plain(x, x * 1.0, x)[0]
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_attention_dropout_uses_the_generator():
    x = pa.ones((2, 4, 8))
    first = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, generator=Generator(1)).numpy()
    again = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, generator=Generator(1)).numpy()
    assert np.array_equal(first, again)
    assert len(np.unique(first)) > 1
    m = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    assert (m(x, x, x)[1].numpy() == 0).any()
    assert not (m.eval()(x, x, x)[1].numpy() == 0).any()


def test_init_works_in_place_and_from_a_generator():
    w = nn.Parameter(pa.zeros((3, 4)))
    assert nn.init.normal_(w, generator=Generator(1)) is w
    assert w.requires_grad
    first = w.tolist()
    nn.init.normal_(w, generator=Generator(1))
    assert w.tolist() == first
    kernel = nn.init.dirac_(pa.zeros((4, 2, 3)), groups=2)
    x = pa.random.normal((1, 4, 5))
    np.testing.assert_allclose(F.conv1d(x, kernel, padding=1, groups=2).numpy(), x.numpy())
    assert (nn.init.sparse_(pa.zeros((10, 3)), 0.35) == 0).sum(0).tolist() == [4, 4, 4]
    values = nn.init.trunc_normal_(
        pa.zeros((4000,), dtype=pa.float64), std=0.5, a=-0.5, b=0.5
    ).numpy()
    assert abs(values).max() <= 0.5
    assert np.quantile(values, [0.1, 0.9]) == pytest.approx([-0.375, 0.375], abs=0.03)


def test_what_a_checkpoint_overwrites_is_never_computed():
    from proa.compile.tiers import counts

    before = counts.dispatches
    m = nn.Linear(4, 4)
    m.load_state_dict({"weight": np.ones((4, 4), np.float32), "bias": np.zeros(4, np.float32)})
    m.weight.numpy()
    assert counts.dispatches == before


def test_a_small_model_learns():
    manual_seed(0)
    x = pa.random.normal((64, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(pa.int64)
    m = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 2))
    for _ in range(100):
        loss = nn.CrossEntropyLoss()(m(x), y)
        m.zero_grad()
        loss.backward()
        with pa.no_grad():
            for p in m.parameters():
                p -= 0.5 * p.grad
        pa.sync()
    assert loss.item() < 0.2


# Examples.


def modules_of(package):
    yield package.__name__
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        yield info.name


@pytest.mark.parametrize("name", list(modules_of(nn)))
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_every_public_class_and_function_is_explained():
    for name in nn.__all__:
        thing = getattr(nn, name)
        assert thing.__doc__, name
        if isinstance(thing, type) and issubclass(thing, nn.Module):
            assert ">>> " in vars(thing)["__doc__"], name
    for name in F.__all__:
        assert getattr(F, name).__doc__, name
