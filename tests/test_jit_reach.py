"""What a jitted function reaches through others is never stale: warmed, changed, compared."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import sys
import types
from array import array
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.config import config
from proa.nn import functional as F  # noqa: N812

SCALE: Any = 2.0


def follows(f: Callable[..., Any], change: Callable[[], Any]) -> None:
    """Six calls, a change, six calls: each as plain Python, and the last ones replayed."""
    jitted = pa.jit(f)
    plain = before = None
    for number in range(12):
        if number == 6:
            before = plain
            change()
        x = pa.asarray(1.0)
        plain = f(x).item()
        assert jitted(x).item() == plain, number
    assert plain != before, "the change has no effect in plain Python"
    assert jitted.python_calls == 6 or config.jit_check


def scaled(x: Any) -> Any:
    return x * SCALE


def through(x: Any) -> Any:
    return scaled(x)


@pytest.fixture
def restore() -> Any:
    space = dict(globals())
    yield
    globals().update(space)


def test_a_global_of_a_function_called(restore: None) -> None:
    follows(lambda x: through(x), lambda: globals().update(SCALE=5.0))


def test_a_global_function_rebound(restore: None) -> None:
    follows(lambda x: through(x), lambda: globals().update(scaled=lambda x: x * 9.0))


def test_a_global_that_appears_and_hides_a_builtin() -> None:
    space: dict[str, Any] = {"__name__": "user"}
    exec("def f(x): return x * abs(-2.0)", space)  # noqa: S102
    follows(space["f"], lambda: space.update(abs=lambda x: 7.0))


def test_code_replaced() -> None:
    def h(x: Any) -> Any:
        return x * 2.0

    def other(x: Any) -> Any:
        return x * 3.0

    follows(lambda x: h(x), lambda: setattr(h, "__code__", other.__code__))


def test_defaults() -> None:
    def h(x: Any, d: float = 2.0) -> Any:
        return x * d

    follows(lambda x: h(x), lambda: setattr(h, "__defaults__", (3.0,)))
    follows(h, lambda: setattr(h, "__defaults__", (5.0,)))


def test_content_of_a_default() -> None:
    rate = [2.0]

    def f(x: Any, d: Any = rate) -> Any:
        return x * d[0]

    follows(f, lambda: rate.__setitem__(0, 7.0))


def test_keyword_defaults() -> None:
    def h(x: Any, *, d: float = 2.0) -> Any:
        return x * d

    follows(lambda x: h(x), lambda: h.__kwdefaults__.update(d=3.0))
    follows(lambda x: h(x), lambda: setattr(h, "__kwdefaults__", {"d": 4.0}))


def test_closure_cells() -> None:
    rate, held = 2.0, [2.0]

    def change() -> None:
        nonlocal rate
        rate = 3.0

    def h(x: Any) -> Any:
        def inner(y: Any) -> Any:
            return y * rate * held[0]

        return inner(x)

    follows(lambda x: h(x), change)
    follows(lambda x: h(x), lambda: held.__setitem__(0, 7.0))


def test_a_variable_bound_late() -> None:
    def f(x: Any) -> Any:
        try:
            return x * late
        except NameError:
            return x * 2.0

    def change() -> None:
        nonlocal late
        late = 3.0

    if len(sys.argv) < 0:
        late = 1.0
    follows(f, change)


def test_function_attributes() -> None:
    def h(x: Any) -> Any:
        return x * h.rate  # type: ignore[attr-defined]

    h.rate = 2.0  # type: ignore[attr-defined]
    follows(lambda x: h(x), lambda: setattr(h, "rate", 3.0))


def test_mutual_recursion_and_depth() -> None:
    rate = [2.0]

    def even(x: Any, n: int) -> Any:
        return x * rate[0] if n == 0 else odd(x, n - 1)

    def odd(x: Any, n: int) -> Any:
        return even(x, n - 1)

    deep: Any = rate
    for _ in range(5000):
        deep = [deep]
    rate.append(deep)  # a cycle, too
    follows(lambda x: even(x, 4) * (deep is not None), lambda: rate.__setitem__(0, 3.0))
    rate.pop()


class Holder:
    rate = 2.0

    def __init__(self) -> None:
        self.own = 2.0

    def go(self, x: Any) -> Any:
        return x * self.own * self.rate

    @property
    def given(self) -> Any:
        return OUTSIDE[0]

    @staticmethod
    def fixed(x: Any) -> Any:
        return x * OUTSIDE[0]


class Heir(Holder):
    pass


OUTSIDE = [2.0]


@pytest.fixture
def outside() -> Any:
    yield
    OUTSIDE[0] = 2.0


def test_bound_methods(monkeypatch: Any) -> None:
    o = Holder()
    follows(lambda x: o.go(x), lambda: setattr(o, "own", 3.0))
    go = o.go
    follows(lambda x: go(x), lambda: setattr(o, "own", 5.0))
    follows(o.go, lambda: setattr(o, "own", 7.0))
    follows(o.go, lambda: monkeypatch.setattr(Holder, "rate", 9.0))


def test_class_attributes(monkeypatch: Any) -> None:
    o = Heir()
    follows(lambda x: x * Holder.rate, lambda: monkeypatch.setattr(Holder, "rate", 3.0))
    follows(lambda x: x * o.rate, lambda: monkeypatch.setattr(Holder, "rate", 5.0))
    follows(lambda x: x * Heir.rate, lambda: monkeypatch.setattr(Heir, "rate", 7.0, raising=False))


def test_methods_replaced(monkeypatch: Any) -> None:
    o = Heir()
    follows(lambda x: o.go(x), lambda: monkeypatch.setattr(Holder, "go", lambda self, x: x * 3.0))


def test_what_a_method_or_property_reads(outside: None) -> None:
    o = Heir()
    follows(lambda x: x * o.given, lambda: OUTSIDE.__setitem__(0, 3.0))
    follows(lambda x: o.fixed(x), lambda: OUTSIDE.__setitem__(0, 5.0))
    follows(
        lambda x: getattr(o, "fixed")(x),  # noqa: B009
        lambda: OUTSIDE.__setitem__(0, 7.0),
    )


def test_a_method_that_is_not_named_is_not_walked() -> None:
    history: list[float] = []

    class Trainer:
        @pa.jit
        def step(self, x: Any) -> Any:
            return x * 2.0

        def fit(self) -> None:
            for _ in range(10):
                history.append(self.step(pa.asarray(1.0)).item())

    trainer = Trainer()
    trainer.fit()
    assert history == [2.0] * 10
    assert trainer.step.python_calls == 3 or config.jit_check


def test_partial() -> None:
    held = {"s": 2.0}

    def g(d: Any, x: Any, *, by: Any) -> Any:
        return x * d["s"] * by[0]

    by = [1.0]
    f = functools.partial(g, held, by=by)
    follows(f, lambda: held.update(s=3.0))
    follows(lambda x: f(x), lambda: by.__setitem__(0, 4.0))
    follows(lambda x: f(x), lambda: f.keywords.update(by=[6.0]))


def test_wrapped_functions() -> None:
    rate = [2.0]

    def plain(x: Any) -> Any:
        return x * rate[0]

    graded = pa.grad(plain)
    follows(lambda x: graded(x), lambda: rate.__setitem__(0, 3.0))
    quiet = pa.no_grad()(plain) if callable(pa.no_grad()) else plain
    follows(lambda x: quiet(x), lambda: rate.__setitem__(0, 5.0))


def test_slots() -> None:
    class Slotted:
        __slots__ = ("a", "b")

    s = Slotted()
    s.a = 2.0
    follows(lambda x: x * s.a, lambda: setattr(s, "a", 3.0))
    follows(lambda x: x * getattr(s, "b", 1.0), lambda: setattr(s, "b", 3.0))


def test_dataclasses() -> None:
    @dataclasses.dataclass(slots=True)
    class Slotted:
        a: float = 2.0

    @dataclasses.dataclass
    class Plain:
        a: float = 2.0

    for o in (Slotted(), Plain()):
        follows(lambda x, o=o: x * o.a, lambda o=o: setattr(o, "a", 3.0))


def test_the_dictionary_of_an_object_replaced() -> None:
    o = Holder()
    follows(lambda x: x * o.own, lambda: setattr(o, "__dict__", {"own": 3.0}))


class Items(list):  # type: ignore[type-arg]
    pass


class Table(dict):  # type: ignore[type-arg]
    pass


class Pair(tuple):  # type: ignore[type-arg]
    pass


class Real(float):
    pass


CONTAINERS: dict[str, Callable[[], Any]] = {
    "list": lambda: [2.0],
    "dict": lambda: {0: 2.0},
    "list subclass": lambda: Items([2.0]),
    "dict subclass": lambda: Table({0: 2.0}),
    "deque": lambda: collections.deque([2.0]),
    "defaultdict": lambda: collections.defaultdict(float, {0: 2.0}),
    "OrderedDict": lambda: collections.OrderedDict({0: 2.0}),
    "Counter": lambda: collections.Counter({0: 2}),
    "UserDict": lambda: collections.UserDict({0: 2.0}),
    "UserList": lambda: collections.UserList([2.0]),
    "ChainMap": lambda: collections.ChainMap({0: 2.0}),
    "array": lambda: array("d", [2.0]),
    "bytearray": lambda: bytearray([2]),
    "NumPy": lambda: np.array([2.0]),
    "NumPy, strided": lambda: np.array([2.0, 0.0, 0.0])[::2],
    "NumPy, objects": lambda: np.array([2.0], dtype=object),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(name: str) -> None:
    held = CONTAINERS[name]()

    def h(x: Any) -> Any:
        return x * float(held[0])

    follows(lambda x: h(x), lambda: held.__setitem__(0, 7))


def test_attributes_of_a_container_subclass() -> None:
    held = Items([2.0])
    held.rate = 2.0  # type: ignore[attr-defined]
    follows(lambda x: x * held.rate, lambda: setattr(held, "rate", 3.0))  # type: ignore[attr-defined]


def test_sets_and_tuples() -> None:
    names = {"a"}
    pair = Pair(([2.0], Real(3.0)))
    follows(lambda x: x * len(names), lambda: names.add("b"))
    follows(lambda x: x * pair[0][0] * pair[1], lambda: pair[0].__setitem__(0, 7.0))


def test_the_order_of_an_ordered_dict() -> None:
    held = collections.OrderedDict(a=2.0, b=3.0)
    follows(lambda x: x * next(iter(held.values())), lambda: held.move_to_end("a"))


def test_a_default_factory() -> None:
    held: Any = collections.defaultdict(lambda: 2.0)
    follows(lambda x: x * held.default_factory(), lambda: setattr(held, "default_factory", int))


def test_the_class_of_an_object() -> None:
    class Other(Heir):
        rate = 5.0

    o = Heir()
    follows(o.go, lambda: setattr(o, "__class__", Other))


def test_parsed_arguments_and_views_of_dictionaries() -> None:
    args = argparse.Namespace(rate=2.0)
    follows(lambda x: x * args.rate, lambda: setattr(args, "rate", 3.0))
    table = {"a": 2.0}
    view = types.MappingProxyType(table)
    follows(lambda x: x * view["a"], lambda: table.update(a=3.0))


def test_namespaces_and_bound_builtins() -> None:
    space = types.SimpleNamespace(a=2.0)
    follows(lambda x: x * space.a, lambda: setattr(space, "a", 3.0))
    table = {"a": 2.0}
    get = table.get
    follows(lambda x: x * get("a"), lambda: table.update(a=3.0))


def test_an_array_in_place() -> None:
    held = types.SimpleNamespace(a=np.ones(3, np.float32))

    def change() -> None:
        held.a[:] = 5.0

    follows(lambda x: (x * pa.asarray(held.a)).sum(), change)


def test_modules_of_the_user() -> None:
    outer, inner = types.ModuleType("user_outer"), types.ModuleType("user_inner")
    outer.inner, inner.rate, inner.unused = inner, 2.0, 1.0  # type: ignore[attr-defined]
    exec("def go(x): return x * rate", inner.__dict__)  # noqa: S102
    follows(lambda x: x * outer.inner.rate, lambda: setattr(inner, "rate", 3.0))
    follows(lambda x: outer.inner.go(x), lambda: setattr(inner, "rate", 5.0))
    box = types.SimpleNamespace(module=inner)
    follows(lambda x: x * box.module.rate, lambda: setattr(inner, "rate", 7.0))


def test_a_module_imported_in_the_body(monkeypatch: Any) -> None:
    made = types.ModuleType("user_body")
    made.rate = 2.0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "user_body", made)

    def f(x: Any) -> Any:
        import user_body

        return x * user_body.rate

    follows(f, lambda: setattr(made, "rate", 3.0))


def test_jitted_functions() -> None:
    rate = [2.0]
    inner = pa.jit(lambda x: x * rate[0])
    follows(lambda x: inner(x) + 0.0, lambda: rate.__setitem__(0, 3.0))


def test_callable_objects(outside: None) -> None:
    class Call:
        def __init__(self) -> None:
            self.rate = 2.0

        def __call__(self, x: Any) -> Any:
            return x * self.rate * OUTSIDE[0]

    call = Call()
    follows(call, lambda: setattr(call, "rate", 3.0))
    follows(lambda x: call(x), lambda: OUTSIDE.append(OUTSIDE.pop() * 2.0))


class Kind(Enum):
    A = 2.0
    B = 3.0


def test_enums() -> None:
    held = types.SimpleNamespace(kind=Kind.A)
    follows(lambda x: x * held.kind.value, lambda: setattr(held, "kind", Kind.B))


class Scaled(nn.Module):
    rate = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.table = {"a": [1.0]}

    def by(self, x: Any) -> Any:
        return x * self.rate

    def forward(self, x: Any) -> Any:
        return self.by(x) * self.table["a"][0] * OUTSIDE[0]


def test_modules_of_networks(monkeypatch: Any, outside: None) -> None:
    model = Scaled()
    follows(model, lambda: monkeypatch.setattr(Scaled, "rate", 3.0))
    follows(lambda x: model(x), lambda: model.table["a"].__setitem__(0, 4.0))
    follows(lambda x: model(x), lambda: OUTSIDE.__setitem__(0, 5.0))
    follows(model, lambda: monkeypatch.setattr(Scaled, "by", lambda self, x: x * 11.0))
    follows(model, lambda: setattr(model, "forward", lambda x: x * 13.0))


def test_a_module_behind_a_function_obeys_eval() -> None:
    model = nn.Sequential(nn.Dropout(0.5))

    def forward(x: Any) -> Any:
        return model(x)

    f = pa.jit(lambda x: forward(x))
    for _ in range(6):
        assert 0.0 in f(pa.ones(64)).tolist()
    model.eval()
    for _ in range(6):
        assert f(pa.ones(64)).tolist() == [1.0] * 64


def test_gradient_hooks() -> None:
    w = pa.asarray([1.0]).requires_grad_()
    x = pa.asarray([3.0])

    @pa.jit
    def f(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad * 1.0

    for _ in range(6):
        assert f(x).tolist() == [3.0]
    hook = w.register_hook(lambda g: g * 10.0)
    for _ in range(6):
        assert f(x).tolist() == [30.0]
    hook.remove()
    for _ in range(6):
        assert f(x).tolist() == [3.0]


def test_an_optimizer_behind_a_function() -> None:
    def run(jit: bool) -> list[float]:
        pa.manual_seed(0)
        model = nn.Linear(3, 2)
        held = types.SimpleNamespace(opt=optim.SGD(model.parameters(), lr=0.1))

        def update(loss: Any) -> None:
            held.opt.zero_grad()
            loss.backward()
            held.opt.step()

        def step(x: Any, t: Any) -> Any:
            loss = F.cross_entropy(model(x), t)
            update(loss)
            return loss

        f = pa.jit(step) if jit else step
        x, t = pa.asarray([[1.0, 2.0, 3.0]]), pa.asarray([1])
        found = []
        for number in range(12):
            if number == 6:
                held.opt = optim.AdamW(model.parameters(), lr=0.1)
            found.append(f(x, t).item())
        return found

    assert run(True) == run(False)


def test_an_address_used_again() -> None:
    held: list[Any] = [None]
    f = pa.jit(lambda x: held[0](x))
    for number in range(60):
        rate = float(number % 7)
        held[0] = eval(f"lambda x: x * {rate}")
        with pytest.warns(RuntimeWarning) if number == 8 else pytest.MonkeyPatch.context():
            assert f(pa.asarray(1.0)).item() == rate


def test_nothing_changed_is_one_token() -> None:
    model, optimiser = Scaled(), optim.SGD([pa.ones(2).requires_grad_()], lr=0.1)
    f = pa.jit(lambda x: model(x) * len(optimiser.param_groups))
    tokens = set()
    for _ in range(8):
        f(pa.asarray(1.0))
        tokens.add(f.skeleton.token())
        model.eval(), model.train()
    assert len(tokens) == 1 and (f.python_calls == 3 or config.jit_check)


def test_a_method_that_the_library_calls_counts() -> None:
    rate = [2.0]

    class Own(optim.SGD):
        def formula(self, group: Any, p: Any, g: Any, slots: Any, k: Any) -> Any:
            return p - g * rate[0]

    w = pa.asarray([0.0]).requires_grad_()
    optimiser = Own([w], lr=0.1)

    @pa.jit
    def step(x: Any) -> Any:
        optimiser.zero_grad()
        (w * x).sum().backward()
        optimiser.step()
        return x * 1.0

    for number in range(12):
        rate[0] = 2.0 if number < 6 else 3.0
        step(pa.asarray([1.0]))
    assert step.python_calls == 6 or config.jit_check


def test_a_large_array_counts_by_identity() -> None:
    """Its content would be read at every call."""

    class Holder:
        def __init__(self) -> None:
            self.data = np.zeros(1 << 20, np.float32)

        def step(self, x: pa.Tensor) -> pa.Tensor:
            return x + len(self.data)

    holder = Holder()
    step = pa.jit(holder.step)
    for _ in range(4):
        step(pa.ones((2,)))
    holder.data[0] = 1.0
    step(pa.ones((2,)))
    assert step.python_calls == 3 or config.jit_check
    holder.data = np.zeros(3, np.float32)
    assert step(pa.ones((2,))).tolist() == [4.0, 4.0]
