"""Modules under transforms: substituted parameters, ensembles, copies, hooks, lazy models, summary."""

from __future__ import annotations

import copy
import tracemalloc
from time import perf_counter
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.config import config
from proa.errors import ArgumentError, DtypeError, JitError, ShapeError, UnmadeError


def mlp(seed: int = 0) -> Any:
    pa.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def rows(*shape: int) -> Any:
    values = np.random.default_rng(1).standard_normal(shape)
    return pa.asarray(values.astype(np.float32))


def bits(tree_: Any) -> list[bytes]:
    return [t.numpy().tobytes() for t in pa.tree.flatten(tree_)[0]]


def alike(found: Any, expected: Any) -> None:
    """Equal bits on `cpu`; other backends promise them between equal shapes only (RULES 3.0)."""
    if str(pa.ones(()).device) == "cpu":
        assert bits(found) == bits(expected)
    for a, b in zip(pa.tree.flatten(found)[0], pa.tree.flatten(expected)[0], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


def doubled(module: Any) -> dict[str, Any]:
    return {name: p.detach() * 2 for name, p in module.named_parameters()}


def held(module: Any) -> list[Any]:
    return [*module.parameters(), *module.buffers()]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False)
        self.b = nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x))


# functional_call.


def test_functional_call_is_the_module_with_those_parameters() -> None:
    module, x = mlp(), rows(5, 3)
    before = [id(t) for t in held(module)], bits(held(module))
    given = doubled(module)
    other = copy.deepcopy(module)
    other.load_state_dict(given)
    assert bits(nn.functional_call(module, given, x)) == bits(other(x))
    assert bits(nn.functional_call(module, given, (x,))) == bits(other(x))
    linear = {"weight": pa.ones((4, 3)), "bias": pa.zeros((4,))}
    assert nn.functional_call(module[0], linear, (), {"x": pa.ones((1, 3))}).tolist() == [[3.0] * 4]
    assert before == ([id(t) for t in held(module)], bits(held(module)))


def test_functional_call_under_transforms() -> None:
    module, x = mlp(), rows(5, 3)
    given = doubled(module)

    def loss(p: Any, x: Any) -> Any:
        return (nn.functional_call(module, p, x) ** 2).sum()

    other = copy.deepcopy(module)
    other.load_state_dict(given)
    (other(x) ** 2).sum().backward()
    expected = bits([p.grad for p in other.parameters()])
    found = pa.grad(loss)(given, x)
    assert list(found) == list(given)
    assert bits(found) == expected
    assert all(p.grad is None for p in module.parameters())

    jitted = pa.jit(pa.grad(loss))
    for i in range(6):
        scaled = {name: p * float(i) for name, p in given.items()}
        assert bits(jitted(scaled, x)) == bits(pa.grad(loss)(scaled, x))

    tangent = {name: pa.ones(p.shape) for name, p in given.items()}
    _, moved = pa.jvp(lambda p: loss(p, x), (given,), (tangent,))
    along = sum(float(g.sum()) for g in found.values())
    assert moved.item() == pytest.approx(along, rel=1e-4)

    each = pa.vmap(pa.grad(loss), in_axes=(None, 0))(given, x)
    alike(each["0.weight"][2], pa.grad(loss)(given, x[2])["0.weight"])


def test_functional_call_fills_gradients_of_what_is_given() -> None:
    module, x = mlp(), rows(5, 3)
    given = {name: nn.Parameter(p) for name, p in doubled(module).items()}
    nn.functional_call(module, given, x).sum().backward()
    assert all(p.grad is not None for p in given.values())
    assert all(p.grad is None for p in module.parameters())


def test_functional_call_names_what_does_not_fit() -> None:
    module, x = mlp(), rows(5, 3)
    given = doubled(module)
    with pytest.raises(ArgumentError, match=r"missing: 0\.bias"):
        nn.functional_call(module, {k: v for k, v in given.items() if k != "0.bias"}, x)
    with pytest.raises(ArgumentError, match=r"unknown: 0\.wieght \(near: 0\.weight\)"):
        nn.functional_call(module, {**given, "0.wieght": x}, x)
    with pytest.raises(ShapeError, match=r"`0\.bias` of shape \(5,\).*\(4,\)"):
        nn.functional_call(module, {**given, "0.bias": pa.ones((5,))}, x)
    with pytest.raises(DtypeError, match=r"`0\.bias` of int64.*float32"):
        nn.functional_call(module, {**given, "0.bias": pa.ones((4,), dtype=pa.int64)}, x)
    with pytest.raises(DtypeError, match="a tensor"):
        nn.functional_call(module, {**given, "0.bias": 3.0}, x)
    with pytest.raises(ArgumentError, match="two dicts"):
        nn.functional_call(module, [given, given], x)
    half = nn.functional_call(module, {"0.bias": pa.ones((4,))}, x, strict=False)
    assert half.shape == (5, 1)


def test_functional_call_restores_after_an_error() -> None:
    module = mlp()
    before = [id(p) for p in module.parameters()]
    with pytest.raises(ShapeError):
        nn.functional_call(module, doubled(module), rows(5, 7))
    assert before == [id(p) for p in module.parameters()]


def test_functional_call_of_tied_parameters() -> None:
    module, x = Tied(), rows(1, 2)
    new = pa.asarray([[2.0, 0.0], [0.0, 2.0]])
    for name in ("a.weight", "b.weight"):
        found = nn.functional_call(module, {name: new}, x)
        assert bits(found) == bits(x * 4)
    with pytest.raises(ArgumentError, match="tied"):
        nn.functional_call(module, {"a.weight": new, "b.weight": new * 1}, x)
    assert module.a.weight is module.b.weight


def test_functional_call_of_a_module_that_is_jitted_itself() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(pa.ones((2,)))

        @pa.jit
        def forward(self, x: Any) -> Any:
            return x * self.w

    module, x = Scaled(), pa.ones((2,))
    for i in range(7):
        assert module(x).tolist() == [1.0, 1.0]
        found = nn.functional_call(module, {"w": pa.full((2,), float(i))}, x)
        assert found.tolist() == [float(i)] * 2


def test_buffers_are_returned_or_refused() -> None:
    norm, x = nn.BatchNorm1d(3), rows(5, 3)
    parameters = dict(norm.named_parameters())
    buffers = {name: b * 1 for name, b in norm.named_buffers()}
    first = bits([*buffers.values()])
    with pytest.raises(ArgumentError, match=r"buffer `running_mean`.*mutable=True"):
        nn.functional_call(norm, [parameters, buffers], x)
    _, new = nn.functional_call(norm, [parameters, buffers], x, mutable=True)
    assert list(new) == list(buffers)
    assert bits([*buffers.values()]) == first == bits([*norm.buffers()])
    norm(x)
    assert bits([*new.values()]) == bits([*norm.buffers()])
    norm.eval()
    nn.functional_call(norm, [parameters, buffers], x)

    jitted = pa.jit(lambda p, b, x: nn.functional_call(norm, [p, b], x, mutable=True))
    norm.train()
    for _ in range(6):
        expected = nn.functional_call(norm, [parameters, new], x, mutable=True)
        found = jitted(parameters, new, x)
        assert bits(found) == bits(expected)
        new = found[1]


# Ensembles.


@pytest.mark.parametrize(
    "make",
    [
        mlp,
        lambda seed: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)),
        lambda seed: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        lambda seed: nn.Sequential(nn.Conv1d(3, 2, 2), nn.ReLU()),
    ],
)
def test_an_ensemble_equals_its_modules(make: Any) -> None:
    models = [make(i) for i in range(3)]
    shape = (2, 5, 4) if isinstance(models[0], nn.TransformerEncoderLayer) else (2, 3)
    shape = (2, 3, 6) if isinstance(list(models[0].children())[0], nn.Conv1d) else shape
    x = rows(*shape)
    parameters, buffers = nn.stack_modules(models)
    assert all(p.requires_grad and p.shape[0] == 3 for p in parameters.values())

    def one(p: Any, b: Any, x: Any) -> Any:
        return nn.functional_call(models[0], [p, b], x)

    together = pa.vmap(one, in_axes=(0, 0, None))(parameters, buffers, x)
    for i, m in enumerate(models):
        alike(together[i], m(x))
    together.sum().backward()
    models[1](x).sum().backward()
    for name, p in models[1].named_parameters():
        np.testing.assert_allclose(
            parameters[name].grad[1].numpy(), p.grad.numpy(), rtol=1e-4, atol=1e-5
        )


def test_an_ensemble_in_training_keeps_statistics_apart() -> None:
    models = [nn.BatchNorm1d(2) for _ in range(3)]
    x = rows(3, 5, 2)
    parameters, buffers = nn.stack_modules(models)

    def one(p: Any, b: Any, x: Any) -> Any:
        return nn.functional_call(models[0], [p, b], x, mutable=True)

    _, new = pa.vmap(one)(parameters, buffers, x)
    for i, m in enumerate(models):
        m(x[i])
        for name, b in m.named_buffers():
            alike(new[name][i], b)


def test_stack_modules_refuses_what_differs() -> None:
    with pytest.raises(ArgumentError, match=r"differs at .*weight"):
        nn.stack_modules([nn.Linear(2, 2), nn.Linear(2, 3)])
    with pytest.raises(ArgumentError, match="differs"):
        nn.stack_modules([nn.Dropout(), nn.Dropout().eval()])
    with pytest.raises(ArgumentError, match="at least one"):
        nn.stack_modules([])


# Modules as arguments of transforms.


def test_gradient_of_a_module_is_a_dict_by_name() -> None:
    module, x = mlp(), rows(5, 3)
    value, found = pa.value_and_grad(lambda m, x: (m(x) ** 2).sum())(module, x)
    loss = (module(x) ** 2).sum()
    loss.backward()
    assert bits(value) == bits(loss)
    assert list(found) == [name for name, _ in module.named_parameters()]
    assert bits(found) == bits([p.grad for p in module.parameters()])
    assert not any(g.requires_grad for g in found.values())
    module.requires_grad_(False)
    assert list(pa.grad(lambda m: m(x).sum())(module)) == list(found)
    inside = pa.grad(lambda both: both["m"](both["x"]).sum())({"m": module, "x": x})
    assert list(inside["m"]) == list(found)
    assert inside["x"].shape == x.shape


def test_gradient_of_a_gradient_of_a_module() -> None:
    module, x = nn.Linear(2, 1, bias=False), pa.asarray([[1.0, 2.0]])

    def cubed(m: Any) -> Any:
        return (m(x) ** 3).sum()

    def slope(m: Any) -> Any:
        return pa.grad(cubed)(m)["weight"].sum()

    y = module(x).item()
    expected = [6 * y * 3.0 * 1.0, 6 * y * 3.0 * 2.0]
    np.testing.assert_allclose(pa.grad(slope)(module)["weight"].numpy()[0], expected, rtol=1e-4)


def test_statistics_of_a_module_in_training_change_as_in_any_call() -> None:
    norm, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = rows(5, 3)
    pa.grad(lambda m: (m(x) ** 2).sum())(norm)
    other(x)
    assert bits([*norm.buffers()]) == bits([*other.buffers()])


def test_jvp_and_vjp_of_a_module() -> None:
    module, x = mlp(), rows(5, 3)
    tangent = {name: pa.ones(p.shape) for name, p in module.named_parameters()}
    y, moved = pa.jvp(lambda m: m(x), (module,), (tangent,))
    assert bits(y) == bits(module(x))
    _, pull = pa.vjp(lambda m: m(x), module)
    (pulled,) = pull(pa.ones((5, 1)))
    dotted = sum(float(g.sum()) for g in pulled.values())
    assert moved.sum().item() == pytest.approx(dotted, rel=1e-4)
    for wrong in ({"0.weight": tangent["0.weight"]}, dict(reversed(tangent.items()))):
        with pytest.raises(ArgumentError, match="by name"):
            pa.jvp(lambda m: m(x), (module,), (wrong,))


def test_vmap_over_examples_and_over_modules() -> None:
    module, x = mlp(), rows(5, 3)

    def loss(m: Any, x: Any) -> Any:
        return m(x).sum()

    each = pa.vmap(pa.grad(loss), in_axes=(None, 0))(module, x)
    for i in range(5):
        alone = pa.grad(loss)(module, x[i])
        alike({k: v[i] for k, v in each.items()}, alone)
    models = [nn.Linear(3, 2) for _ in range(4)]
    stacked = nn.Linear(3, 2)
    parameters, _ = nn.stack_modules(models)
    for name, p in parameters.items():
        setattr(stacked, name, p)
    found = pa.vmap(lambda m, x: m(x), in_axes=(0, None))(stacked, x)
    alike(found, pa.stack([m(x) for m in models]))
    with pytest.raises(ArgumentError, match="running_mean"):
        pa.vmap(lambda m, x: m(x), in_axes=(None, 0))(nn.BatchNorm1d(3), rows(2, 5, 3))
    with pytest.raises(ArgumentError, match="two arguments"):
        pa.vmap(lambda m, n: m(x) + n(x))(stacked, stacked)


def test_axes_of_vmap_may_be_trees() -> None:
    tree_ = {"a": rows(2, 3), "b": (rows(3, 2), rows(4))}

    def f(t: Any) -> Any:
        return t["a"].sum() + t["b"][0].sum() + t["b"][1].sum()

    found = pa.vmap(f, in_axes=({"a": 0, "b": (1, None)},))(tree_)
    a, (b, c) = tree_["a"], tree_["b"]
    for i in range(2):
        alike(found[i], f({"a": a[i], "b": (b[:, i], c)}))
    for wrong in ({"a": 0}, (0, 0, 0), {"a": 0, "b": (0, 0, 0)}):
        with pytest.raises(ArgumentError, match="in_axes"):
            pa.vmap(f, in_axes=(wrong,))(tree_)


# Copies.


def test_clone_is_apart_and_keeps_ties_hooks_and_generators() -> None:
    class Whole(Tied):
        def __init__(self) -> None:
            super().__init__()
            self.noise = pa.Generator(3)
            self.calls = 0
            self.register_buffer("scale", pa.ones((2,)), persistent=False)
            self.frozen = nn.Parameter(pa.ones((2,)), requires_grad=False)
            self.handle = self.a.register_forward_hook(self.count)

        def count(self, module: Any, args: Any, result: Any) -> None:
            self.calls += 1

        def forward(self, x: Any) -> Any:
            return super().forward(x) * self.scale + pa.randn(2, generator=self.noise)

    one = Whole().eval()
    one(rows(1, 2)).sum().backward()
    two = one.clone()
    x = rows(1, 2)
    assert bits(one(x)) == bits(two(x))  # generators go on alike, and apart
    assert bits(one(x)) == bits(two(x))
    assert two.a.weight is two.b.weight
    assert two.a.weight is not one.a.weight
    assert two.a.weight.grad is None
    assert (one.calls, two.calls) == (3, 3)
    assert not two.training
    assert not two.frozen.requires_grad
    assert "scale" not in two.state_dict()
    assert [n for n, _ in two.named_parameters()] == [n for n, _ in one.named_parameters()]
    two.handle.remove()
    two(x)
    one(x)
    assert (one.calls, two.calls) == (4, 3)
    with pa.no_grad():
        two.a.weight[...] = 0.0
    assert bits(one.a.weight) != bits(two.a.weight)
    again = copy.deepcopy([one, one.a])
    assert again[0].a is again[1]


# Hooks.


def test_a_backward_hook_sees_and_replaces() -> None:
    module, x = mlp(), rows(5, 3)
    seen: list[Any] = []
    handle = module[2].register_full_backward_hook(
        lambda m, grad_input, grad_output: seen.append((m, grad_input, grad_output))
    )
    plain = pa.grad(lambda m: m(x).sum())(module)
    (m, (inner,), (outer,)), *rest = seen
    assert (m, rest) == (module[2], [])
    assert outer.tolist() == [[1.0]] * 5
    assert inner.tolist() == [module[2].weight.tolist()[0]] * 5
    handle.remove()

    def tripled(m: Any, grad_input: Any, grad_output: Any) -> Any:
        return (grad_input[0] * 3.0,)

    with module[2].register_full_backward_hook(tripled):
        module(x).sum().backward()
        found = {name: p.grad for name, p in module.named_parameters()}
    for name, g in plain.items():
        scale = 3.0 if name.startswith("0.") else 1.0
        np.testing.assert_allclose(found[name].numpy(), scale * g.numpy(), rtol=1e-6)


def test_backward_hooks_run_once_a_pass_in_order() -> None:
    module, x = mlp(), rows(5, 3)
    seen: list[str] = []
    for name, part in module.named_children():
        part.register_full_backward_hook(lambda m, i, o, n=name: seen.append(n))
    loss = module(x).sum()
    loss.item()
    loss.backward(retain_graph=True)
    assert seen == ["2", "1", "0"]
    loss.backward()
    assert seen == ["2", "1", "0"] * 2


def test_a_backward_hook_of_many_arguments() -> None:
    class Pair(nn.Module):
        def forward(self, x: Any, n: int, y: Any) -> Any:
            return x * n + y, y * 2.0

    module = Pair()
    seen: list[Any] = []
    module.register_full_backward_hook(
        lambda m, i, o: seen.append((i, o)) or (None, None, i[2] * 0)
    )
    x, y = (pa.ones((2,)).requires_grad_() for _ in range(2))
    first, _ = module(x, 3, y)
    first.sum().backward()
    (inner, outer) = seen[0]
    assert [None if g is None else g.tolist() for g in inner] == [[3.0, 3.0], None, [1.0, 1.0]]
    assert [None if g is None else g.tolist() for g in outer] == [[1.0, 1.0], None]
    assert (x.grad.tolist(), y.grad.tolist()) == ([3.0, 3.0], [0.0, 0.0])
    module._backward_hooks.clear()
    module.register_full_backward_hook(lambda m, i, o: (i[0],))
    with pytest.raises(ArgumentError, match="1 gradients from a backward hook"):
        module(x, 3, y)[0].sum().backward()


def test_backward_hooks_under_jit_run_while_recording() -> None:
    module, x = mlp(), rows(5, 3)
    calls: list[int] = []
    module[2].register_full_backward_hook(lambda m, i, o: calls.append(1) or (i[0] * 2.0,))

    def step(x: Any) -> Any:
        module.zero_grad()
        module(x).sum().backward()
        return module[0].weight.grad * 1.0

    expected = bits(step(x))
    calls.clear()
    jitted = pa.jit(step)
    for _ in range(6):
        assert bits(jitted(x)) == expected
    assert len(calls) == 3 or config.jit_check
    graded = pa.jit(pa.grad(lambda m: m(x).sum()))
    for _ in range(6):
        assert bits(graded(module)["0.weight"]) == expected


def test_a_backward_hook_that_no_replay_would_run_is_an_error() -> None:
    module, x = mlp(), rows(5, 3)
    module[0].register_full_backward_hook(lambda m, i, o: None)
    jitted = pa.jit(lambda x: module(x))
    jitted(x)
    with pytest.raises(JitError, match=r"hook on the gradient.*backward\(\) or pa.grad inside"):
        jitted(x)
    with pa.no_grad():
        assert bits(jitted(x)) == bits(module(x))
    with pytest.raises(JitError, match="hook on the gradient"):
        pa.vmap(lambda x: module(x))(x)


# Lazy models.


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.up, self.gate = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width)

    def forward(self, x: Any) -> Any:
        x = x + self.o(self.q(self.norm(x)))
        return x + self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Language(nn.Module):
    def __init__(self, layers: int, width: int, inner: int, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.layers = nn.ModuleList([Block(width, inner) for _ in range(layers)])
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, words, bias=False)
        self.register_buffer("scale", pa.rand(width) * 0.5, persistent=False)
        nn.init.trunc_normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x * self.scale)


SMALL = (2, 8, 16, 32)


def test_seventy_billion_parameters_are_described() -> None:
    state = pa.random.get_state().tolist()
    with pa.lazy_init():
        Language(*SMALL)
    tracemalloc.start()
    begin = perf_counter()
    with pa.lazy_init():
        model = Language(80, 8192, 28672, 128256)
    seconds = perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.num_parameters() > 69e9
    assert peak < 8e6
    assert seconds < 20.0  # traced, on a busy machine; 0.06 s otherwise
    assert model.layers[79].down.weight.shape == (8192, 28672)
    assert model.layers[79].down.weight.dtype is pa.float32
    assert pa.random.get_state().tolist() == state
    found = nn.summary(model, ((1, 2048), pa.int64))
    assert found.total.parameters == model.num_parameters()
    assert found.total.operations > 2 * 2048 * 67e9


def test_using_what_is_described_raises_by_name() -> None:
    with pa.lazy_init():
        model = Language(*SMALL)
    tokens = pa.asarray([[1, 2]])
    cases = [
        (lambda: model(tokens), r"`embedding\.weight`"),
        (lambda: model.layers[1](pa.ones((1, 8))), r"`layers\.1\.norm\.weight`"),
        (lambda: model.head.weight.numpy(), "`weight`"),
        (lambda: model.head.weight * 2, "`weight`"),
        (lambda: (model.head.weight * 2).sum().backward(), "`weight`"),
        (lambda: pa.jit(model)(tokens), r"`embedding\.weight`"),
        (lambda: model.state_dict()["head.weight"].numpy(), "lazy_init"),
        (lambda: model.to(pa.float64), "lazy_init"),
        (lambda: pa.grad(lambda m: m(tokens).sum())(model), "lazy_init"),
        (lambda: pa.vmap(lambda m, x: m(x), (None, 0))(model, tokens), "lazy_init"),
        (lambda: pa.vmap(model)(tokens), "lazy_init"),
    ]
    for case, name in cases:
        with pytest.raises(UnmadeError, match=f"{name}.*materialize"):
            case()
    assert "UnmadeError" in repr(model.head.weight)
    assert "Linear" in repr(model)


def test_materialize_equals_eager() -> None:
    with pa.lazy_init():
        first, second, third = (Language(*SMALL) for _ in range(3))
    generator = pa.Generator(5)
    pa.manual_seed(5)
    eager = [Language(*SMALL) for _ in range(3)]
    after = pa.random.get_state().tolist()
    pa.manual_seed(1)
    handles = [id(t) for t in held(first)]
    assert pa.materialize([first, second, third], generator=generator)[0] is first
    assert handles == [id(t) for t in held(first)]
    assert generator.get_state().tolist() == after
    assert pa.random.get_state().tolist() == pa.manual_seed(1).get_state().tolist()
    for made, model in zip((first, second, third), eager, strict=True):
        assert bits(held(made)) == bits(held(model))
        assert [n for n, _ in made.named_parameters()] == [n for n, _ in model.named_parameters()]
        assert all(p.requires_grad and p.is_leaf for p in made.parameters())
    tokens = pa.asarray([[1, 2]])
    for model in (first, eager[0]):
        model(tokens).sum().backward()
    assert bits([p.grad for p in first.layers.parameters()]) == bits(
        [p.grad for p in eager[0].layers.parameters()]
    )


def test_materialize_with_a_seed_and_with_the_default_generator() -> None:
    pa.manual_seed(11)
    eager = Language(*SMALL)
    after = pa.random.get_state().tolist()
    for way in ("seed", "default"):
        with pa.lazy_init():
            model = Language(*SMALL)
        copied = model.clone()
        if way == "seed":
            pa.materialize(model, seed=11)
            pa.materialize(copied, seed=11)
            assert bits(held(copied)) == bits(held(model))
        else:
            pa.manual_seed(11)
            pa.materialize(model)
            assert pa.random.get_state().tolist() == after
        assert bits(held(model)) == bits(held(eager))
    before = bits(held(model))
    assert bits(held(pa.materialize(model, seed=99))) == before  # made: left alone
    with pytest.raises(ArgumentError, match="one of them"):
        pa.materialize(model, seed=1, generator=pa.Generator(2))
    with pytest.raises(DtypeError, match="modules"):
        pa.materialize("model")


def test_loading_makes_what_was_described() -> None:
    eager = Language(*SMALL)
    with pa.lazy_init():
        model = Language(*SMALL)
    model.load_state_dict(eager.state_dict())
    assert bits([*model.parameters()]) == bits([*eager.parameters()])
    with pytest.raises(UnmadeError, match="scale"):  # not saved
        model(pa.asarray([[1, 2]]))
    pa.materialize(model)
    assert model(pa.asarray([[1, 2]])).shape == (1, 2, 32)
    with pa.lazy_init():
        tied = Tied()
    tied.load_state_dict(Tied().state_dict())
    assert tied.a.weight is tied.b.weight
    assert tied(rows(1, 2)).shape == (1, 2)


def test_lazy_init_is_a_decorator_nests_and_ends_with_an_error() -> None:
    @pa.lazy_init()
    def make() -> Any:
        with pa.lazy_init():
            return nn.Linear(2, 2).to(pa.float64)

    layer = make()
    assert layer.weight.dtype is pa.float64
    assert pa.materialize(layer)(rows(1, 2).astype(pa.float64)).shape == (1, 2)
    state = pa.random.get_state().tolist()
    with pytest.raises(JitError, match="lazy_init"), pa.lazy_init():
        nn.Linear(2, 2).weight.numpy()
    with pytest.raises(ZeroDivisionError), pa.lazy_init():
        held_on = nn.Linear(2, 2)
        raise ZeroDivisionError
    with pytest.raises(UnmadeError):
        held_on(rows(1, 2))
    with pytest.raises(UnmadeError):
        make()(rows(1, 2).astype(pa.float64))
    assert pa.random.get_state().tolist() == state
    f = pa.jit(lambda x: x * pa.materialize(make(), seed=0).in_features)
    f(rows(1, 2))
    with pytest.raises(JitError, match="outside of jit"):
        f(rows(1, 2))
    assert bits(pa.ones((2,)) + 1) == bits(pa.asarray([2.0, 2.0]))


def test_a_lazy_model_learns() -> None:
    with pa.lazy_init():
        model = mlp()
    optimizer = pa.optim.AdamW(model.parameters(), lr=0.1)
    pa.materialize(model, seed=0)
    x = rows(5, 3)

    @pa.jit
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x).item() for _ in range(8)]
    assert losses[-1] < losses[0]


# Summary.


def test_summary_counts_and_computes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5))
    model.append(nn.Linear(4, 2))
    state, buffers = pa.random.get_state().tolist(), bits([*model.buffers()])
    found = nn.summary(model, ((5, 3), pa.float32))
    layers = {layer.path: layer for layer in found.layers}
    assert [layer.path for layer in found.layers] == ["", "0", "1", "2", "3", "4"]
    assert (layers["0"].parameters, layers["0"].shapes) == (16, ((5, 4),))
    assert layers["0"].operations == 2 * 5 * 3 * 4 + 5 * 4
    assert layers["4"].parameter_bytes == 4 * 10
    assert layers["4"].result_bytes == 4 * 5 * 2
    assert found.total.parameters == model.num_parameters() == 34
    assert found.total.operations == pytest.approx(
        sum(layer.operations for layer in found.layers[1:])
    )
    assert state == pa.random.get_state().tolist()
    assert buffers == bits([*model.buffers()])
    assert not any(m._forward_hooks for m in model.modules())
    assert str(nn.summary(model, rows(5, 3))) == str(found)
    assert "Linear" not in str(nn.summary(model, np.ones((5, 3), np.float32), depth=0))
    assert "  0: Linear" in str(found)
    with pytest.raises(ShapeError):
        nn.summary(model, ((5, 9), "float32"))
    assert bits(model.eval()(rows(5, 3))) == bits(model(rows(5, 3)))


def products_of(found: Any, path: str = "") -> float:
    """Operations of a layer without those that are not products."""
    return next(x.operations for x in found.layers if x.path == path)


def test_summary_of_layers_that_were_counted_by_hand() -> None:
    with pa.lazy_init():  # nothing is allocated
        linear = nn.Linear(1000, 3000)
        conv = nn.Conv2d(16, 32, (3, 5), stride=2, padding=(1, 2), groups=4)
        attention = nn.MultiheadAttention(64, 4, batch_first=True)
    found = nn.summary(linear, ((7, 1000), pa.float32)).total
    assert found.parameters == 1000 * 3000 + 3000
    assert found.parameter_bytes == 4 * found.parameters
    assert found.operations == 2 * 7 * 1000 * 3000 + 7 * 3000
    assert found.result_bytes == 4 * 7 * 3000
    found = nn.summary(conv, ((2, 16, 20, 30), pa.float32)).total
    places = 2 * 32 * 10 * 15
    assert found.shapes == ((2, 32, 10, 15),)
    assert found.parameters == 32 * (16 // 4) * 3 * 5 + 32
    assert found.operations == 2 * places * (16 // 4) * 3 * 5 + places
    assert found.result_bytes >= 4 * places
    x, b, length, d = ((3, 10, 64), pa.float32), 3, 10, 64
    found = nn.summary(attention, x, x, x, need_weights=False).total
    assert found.parameters == 4 * d * d + 4 * d
    projections = 4 * 2 * b * length * d * d
    scores = 2 * 2 * b * length * length * d
    rest = found.operations - projections - scores
    assert 0 < rest < 50 * b * 4 * length * length + 10 * b * length * d, "softmax, bias, scale"
