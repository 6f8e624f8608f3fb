"""What breaks static modes elsewhere: it works, or it raises at its line. Never stale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.config import config
from proa.errors import JitError
from proa.nn import functional as F  # noqa: N812

STATE: dict[str, Any] = {}


def calls(function: Any, *rows: Any) -> list[Any]:
    return [function(*row).tolist() for row in rows]


def test_the_body_runs_three_times() -> None:
    bodies = []

    @pa.jit
    def f(x: Any) -> Any:
        bodies.append(1)
        return pa.sin(x) * 2.0

    x = pa.asarray([0.5, 1.0])
    first = f(x).tolist()
    assert [f(x).tolist() for _ in range(9)] == [first] * 9
    assert len(bodies) == 3 or config.jit_check


def test_eval_after_the_first_call_is_obeyed() -> None:
    pa.manual_seed(0)
    model = nn.Dropout(0.5)
    forward = pa.jit(model)
    x = pa.ones((64,))
    for _ in range(5):
        assert 0.0 in forward(x).tolist()
    model.eval()
    for _ in range(5):
        assert forward(x).tolist() == [1.0] * 64
    model.train()
    assert 0.0 in forward(x).tolist()


def test_dropout_draws_anew_at_each_replay() -> None:
    pa.manual_seed(0)
    forward = pa.jit(nn.Dropout(0.5))
    seen = {tuple(forward(pa.ones((32,))).tolist()) for _ in range(8)}
    assert len(seen) == 8


def training(jit: bool, steps: int = 12) -> list[float]:
    pa.manual_seed(1)
    model = nn.Linear(3, 1)
    optimiser = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rates = optim.StepLR(optimiser, step_size=2, gamma=0.7)
    x = pa.asarray(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))

    def step(x: Any) -> Any:
        loss = (model(x) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    call = pa.jit(step) if jit else step
    losses = []
    for _ in range(steps):
        losses.append(call(x).item())
        rates.step()
    return losses


def test_a_schedule_step_and_lazy_slots() -> None:
    assert training(jit=True) == training(jit=False)


class Average:
    def __init__(self) -> None:
        self.value: Any = pa.zeros(())

    def replace(self, x: Any) -> Any:
        self.value = 0.5 * self.value + x.sum()
        return x * 1.0

    def assign(self, x: Any) -> Any:
        self.value[...] = 0.5 * self.value + x.sum()
        return x * 1.0


def test_a_tensor_stored_on_self_raises() -> None:
    f = pa.jit(Average().replace)
    f(pa.ones((2,)))
    with pytest.raises(JitError, match=r"Average\.value.*test_jit\.py:\d+.*assigning"):
        f(pa.ones((2,)))


def test_state_assigned_on_self_works() -> None:
    average = Average()
    f = pa.jit(average.assign)
    for _ in range(6):
        f(pa.ones((2,)))
    assert average.value.item() == pytest.approx(2.0 * sum(0.5**k for k in range(6)))


def test_a_tensor_appended_to_a_list_raises() -> None:
    kept: list[Any] = []

    @pa.jit
    def f(x: Any) -> Any:
        y = x * 2.0
        kept.append(y)
        return x + 1.0

    f(pa.ones((2,)))
    with pytest.raises(JitError, match="a list"):
        f(pa.ones((2,)))


def test_a_tensor_put_in_a_global_raises() -> None:
    @pa.jit
    def f(x: Any) -> Any:
        STATE["last"] = x * 2.0
        return x + 1.0

    f(pa.ones((2,)))
    with pytest.raises(JitError, match="last"):
        f(pa.ones((2,)))


def test_a_hundred_float_arguments_make_one_program() -> None:
    f = pa.jit(lambda x, s: x * s)
    x = pa.asarray([1.0, 2.0])
    for i in range(4):
        f(x, 0.5 * i)
    before = len(pa.explain().programs)
    for i in range(100):
        assert f(x, 0.25 * i).tolist() == [0.25 * i, 0.5 * i]
    assert len(pa.explain().programs) == before
    assert f.python_calls == 3 or config.jit_check


def test_an_int_used_as_a_shape_is_static() -> None:
    f = pa.jit(lambda x, n: pa.broadcast_to(x, (n, 2)).sum())
    x = pa.asarray([1.0, 2.0])
    for _ in range(2):
        assert [f(x, n).item() for n in (1, 2, 3)] == [3.0, 6.0, 9.0]
    assert [f(x, 3).item() for _ in range(4)] == [9.0] * 4


def test_an_int_that_reaches_no_shape_is_traced() -> None:
    f = pa.jit(lambda x, n: x * n)
    x = pa.asarray([1.0, 2.0])
    assert [f(x, n).tolist()[0] for n in range(8)] == [float(n) for n in range(8)]
    assert f.python_calls == 3 or config.jit_check


def test_a_python_counter_in_a_closure_is_never_stale() -> None:
    count = 0

    @pa.jit
    def f(x: Any) -> Any:
        nonlocal count
        count += 1
        return x * count

    x = pa.asarray([1.0])
    found = []
    try:
        for _ in range(6):
            found.append(f(x).item())
    except JitError as error:
        assert "number" in str(error) and "test_jit.py" in str(error)
    assert found == [float(i + 1) for i in range(len(found))]


class Counter:
    """A plain object that its own method changes."""

    count = 0

    def step(self, x: Any) -> Any:
        self.count += 1
        return x * self.count


def test_a_python_counter_on_self_is_never_stale() -> None:
    f = pa.jit(Counter().step)
    found = []
    with pytest.raises(JitError, match=r"number.*test_jit\.py"):
        for _ in range(6):
            found.append(f(pa.asarray([1.0])).item())
    assert found == [1.0, 2.0]


def test_printing_a_tensor_inside_raises_and_names_the_way_out() -> None:
    @pa.jit
    def f(x: Any) -> Any:
        f"{(x * 2.0).sum():.3f}"
        return x

    f(pa.ones((2,)))
    with pytest.raises(JitError, match=r"test_jit\.py:\d+.*pa\.print"):
        f(pa.ones((2,)))


def test_pa_print_prints_at_every_call(capsys: pytest.CaptureFixture[str]) -> None:
    @pa.jit
    def f(x: Any) -> Any:
        pa.print("sum", x.sum())
        return x * 2.0

    for i in range(5):
        f(pa.ones((2,)) * i)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "8." in lines[4]


def test_a_number_read_from_a_tensor_raises_and_shows_the_way_out() -> None:
    for read in (float, int, lambda t: t.item(), lambda t: t.tolist()):
        f = pa.jit(lambda x, read=read: x * read(x.sum()))
        f(pa.ones((2,)))
        with pytest.raises(JitError, match=r"test_jit\.py:\d+.*returning the value"):
            f(pa.ones((2,)))


def test_an_exception_inside_leaves_everything_as_it_was() -> None:
    average = Average()

    @pa.jit
    def f(x: Any, fail: bool) -> Any:
        average.value[...] = average.value + 1.0
        if fail:
            raise KeyError("inside")
        return x * 2.0

    x = pa.ones((2,))
    for _ in range(4):
        f(x, False)
    for _ in range(3):
        before = average.value.item()
        try:
            f(x, True)
        except KeyError:
            pass
    # the first of the failing calls runs dynamic: what it assigned before raising stays
    assert average.value.item() == before
    assert f(x, False).tolist() == [2.0, 2.0]


def test_a_closure_variable_that_is_bound_again() -> None:
    scale = 2.0

    @pa.jit
    def f(x: Any) -> Any:
        return x * scale

    x = pa.asarray([1.0])
    assert [f(x).item() for _ in range(5)] == [2.0] * 5
    scale = 3.0
    assert [f(x).item() for _ in range(5)] == [3.0] * 5
    scale = pa.asarray([4.0])
    assert [f(x).item() for _ in range(5)] == [4.0] * 5
    scale = pa.asarray([5.0])
    assert [f(x).item() for _ in range(5)] == [5.0] * 5


def test_load_state_dict_between_calls() -> None:
    model = nn.Linear(2, 2)
    f = pa.jit(model)
    x = pa.ones((1, 2))
    for _ in range(5):
        f(x)
    with pa.no_grad():
        new = {k: v * 0.0 + 7.0 for k, v in model.state_dict().items()}
    model.load_state_dict(new)
    assert f(x).tolist() == [[21.0, 21.0]]


def test_a_parameter_frozen_between_calls() -> None:
    model = nn.Linear(2, 1)
    f = pa.jit(lambda x: model(x).sum())
    x = pa.ones((1, 2))
    for _ in range(5):
        model.zero_grad()
        f(x).backward()
    model.bias.requires_grad_(False)
    model.zero_grad()
    f(x).backward()
    assert model.weight.grad is not None and model.bias.grad is None


def test_a_hook_added_between_calls() -> None:
    model = nn.Linear(2, 1)
    f = pa.jit(model)
    x = pa.ones((1, 2))
    plain = f(x).item()
    for _ in range(4):
        f(x)
    model.register_forward_hook(lambda module, args, out: out * 10.0)
    assert f(x).item() == pytest.approx(10 * plain)


def test_forward_of_a_jitted_module_is_differentiated() -> None:
    pa.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = pa.asarray(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))
    model(x).sum().backward()
    expected = [p.grad.numpy().copy() for p in model.parameters()]
    forward = pa.jit(model)
    for _ in range(6):
        model.zero_grad()
        forward(x).sum().backward()
        for p, e in zip(model.parameters(), expected, strict=True):
            assert p.grad.numpy().tobytes() == e.tobytes()


def test_transforms_of_a_jitted_function() -> None:
    f = pa.jit(lambda x: (pa.sin(x) * x).sum())
    x = pa.asarray([0.3, 0.7])
    rows = pa.asarray([[0.3, 0.7], [1.0, 2.0]])
    plain = pa.grad(lambda x: (pa.sin(x) * x).sum())
    for _ in range(5):
        assert pa.grad(f)(x).tolist() == plain(x).tolist()
        assert pa.vmap(f)(rows).shape == (2,)
        assert pa.jit(pa.grad(f))(x).tolist() == plain(x).tolist()


def test_an_argument_changed_in_place_is_changed_for_the_caller() -> None:
    @pa.jit
    def f(x: Any) -> Any:
        x += 1.0
        return x * 2.0

    for _ in range(6):
        a = pa.asarray([1.0])
        assert f(a).tolist() == [4.0] and a.tolist() == [2.0]


def test_modes_are_part_of_the_signature() -> None:
    w = pa.ones((2,)).requires_grad_()
    f = pa.jit(lambda x: x * w)
    x = pa.ones((2,))
    for _ in range(5):
        assert f(x).requires_grad
    with pa.no_grad():
        for _ in range(5):
            assert not f(x).requires_grad


def test_check_mode_finds_what_changed() -> None:
    numbers = iter([1.0, 1.0, 1.0, 1.0, 2.0])
    f = pa.jit(lambda x: x * next(numbers), check=True)
    x = pa.ones((1,))
    for _ in range(4):
        f(x)
    with pytest.raises(JitError, match="1.0 then 2.0"):
        f(x)


def test_more_than_eight_signatures_warn_once() -> None:
    f = pa.jit(lambda x, name: x + 1)
    with pytest.warns(RuntimeWarning, match="signatures") as seen:
        for n in range(12):
            f(pa.zeros((2,)), f"{n}")
    assert len(seen) == 1


def test_results_that_are_arguments_or_state() -> None:
    state = pa.asarray([1.0])
    f = pa.jit(lambda x: (x, state, {"y": x + state}, "text", None, 3))
    for i in range(5):
        x = pa.asarray([float(i)])
        a, b, c, *rest = f(x)
        assert (a.item(), b.item(), c["y"].item(), rest) == (i, 1.0, i + 1.0, ["text", None, 3])


def test_gradients_full_and_empty_by_turns() -> None:
    w = pa.asarray([2.0]).requires_grad_()

    @pa.jit
    def f(x: Any) -> Any:
        loss = (w * x).sum()
        loss.backward()
        return loss

    x = pa.asarray([3.0])
    expected = 0.0
    for i in range(12):
        if i % 3 == 0:
            w.grad = None
            expected = 0.0
        f(x)
        expected += 3.0
        assert w.grad.item() == expected


def test_methods_and_functional_forms() -> None:
    class Box:
        def __init__(self, k: float) -> None:
            self.k = k

        @pa.jit
        def scale(self, x: Any) -> Any:
            return F.relu(x) * self.k

    a, b = Box(2.0), Box(3.0)
    for _ in range(5):
        assert a.scale(pa.asarray([1.0])).item() == 2.0
        assert b.scale(pa.asarray([1.0])).item() == 3.0
    a.k = 5.0
    assert a.scale(pa.asarray([1.0])).item() == 5.0


class Built:
    """Builds what it needs in the first call, as many modules do."""

    def __init__(self) -> None:
        self.built = False

    def run(self, x: Any) -> Any:
        if not self.built:
            self.built = True
            return x * 10.0
        return x * 1.0


def test_a_path_taken_once_is_taken_again_when_asked_for() -> None:
    thing = Built()
    f = pa.jit(thing.run)
    assert [f(pa.asarray([1.0])).item() for _ in range(5)] == [10.0, 1.0, 1.0, 1.0, 1.0]
    thing.built = False
    assert [f(pa.asarray([1.0])).item() for _ in range(5)] == [10.0, 1.0, 1.0, 1.0, 1.0]


def test_owners_of_jitted_methods_are_freed() -> None:
    import gc
    import weakref

    class Box:
        @pa.jit
        def double(self, x: Any) -> Any:
            return x * 2.0

    box = Box()
    for _ in range(5):
        box.double(pa.ones((2,)))
    gone = weakref.ref(box)
    del box
    gc.collect()
    assert gone() is None


# What an independent tester found.


def test_gradients_of_a_jitted_function_of_a_pending_argument() -> None:
    f = pa.jit(lambda x: x * x * x)
    assert [pa.grad(f)(pa.asarray(2.0) * 1).item() for _ in range(6)] == [12.0] * 6
    f = pa.jit(lambda x: x * x * x)
    assert [pa.grad(pa.grad(f))(pa.asarray(2.0)).item() for _ in range(6)] == [12.0] * 6
    assert pa.grad(pa.grad(f))(pa.asarray(3.0)).item() == 18.0


def test_a_leaf_argument_is_written_where_it_was_given() -> None:
    def sgd(p: Any, g: Any) -> Any:
        with pa.no_grad():
            p -= g
        return (p * 1).sum()

    f = pa.jit(sgd)
    a, b = (pa.asarray([v]).requires_grad_() for v in (1.0, 10.0))
    g = pa.asarray([0.5])
    for _ in range(5):
        f(a, g)
    f(b, g)
    assert (a.item(), b.item()) == (-1.5, 9.5)


def test_a_gradient_hook_added_between_calls() -> None:
    w = nn.Parameter(pa.asarray([1.0, 2.0]))
    opt = optim.SGD([w], lr=1.0)

    @pa.jit
    def step(x: Any) -> Any:
        loss = (w * x).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    for _ in range(6):
        step(pa.ones((2,)))
    hook = w.register_hook(lambda g: g * 0.0)
    step(pa.ones((2,)))
    assert w[0].item() == -5.0
    hook.remove()
    step(pa.ones((2,)))
    assert w[0].item() == -6.0


def test_an_argument_that_is_also_a_closure_tensor() -> None:
    w = pa.asarray([1.0, 2.0])

    def f(x: Any) -> Any:
        x += 1
        return (w + 0).sum()

    j = pa.jit(f)
    assert [j(w).item() for _ in range(4)] == [5.0, 7.0, 9.0, 11.0]
    other = pa.asarray([0.0, 0.0])
    assert [j(other).item() for _ in range(5)] == [11.0] * 5
    assert other.tolist() == [5.0, 5.0]
    assert j(w).item() == 13.0


def test_traced_numbers_are_checked_and_python_uses_make_them_static() -> None:
    x = pa.asarray([1.0, 2.0, 3.0])
    j = pa.jit(lambda x, i: x[i])
    assert [j(x, i).item() for i in (0, 1, 2, 0, 1, -1)] == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    with pytest.raises(IndexError):
        j(x, 7)
    small = pa.asarray([1, 2], dtype=pa.uint8)
    j = pa.jit(lambda x, n: x + n)
    for n in (1, 2, 3, 4, 5):
        assert j(small, n).tolist() == [1 + n, 2 + n]
    for n in (-1, 2**40, 2**70):
        with pytest.raises(ValueError):
            j(small, n)
    table = {3: 5.0}
    j = pa.jit(lambda x, n: x * table.get(n, 1.0))
    assert [j(x, 3)[0].item() for _ in range(5)] == [5.0] * 5
    j = pa.jit(lambda x, n: x * 2 if n == 0 else x * 3)
    assert [j(x, n)[0].item() for n in (0, 1, 0, 1, 0, 1, 0)] == [2.0, 3.0, 2.0, 3.0, 2.0, 3.0, 2.0]
    j = pa.jit(lambda x, s: x if s > 0.5 else -x)
    assert [j(x, s)[0].item() for s in (0.1, 0.9, 0.1, 0.9, 0.1)] == [-1.0, 1.0, -1.0, 1.0, -1.0]
    j = pa.jit(lambda x, n: x * len(str(n)))
    assert [j(x, 12)[0].item() for _ in range(5)] == [2.0] * 5


def test_a_copy_of_an_object_has_jitted_methods_of_its_own() -> None:
    import copy

    class Box:
        def __init__(self) -> None:
            self.w = pa.asarray([1.0])

        @pa.jit
        def run(self, x: Any) -> Any:
            return (x * self.w).sum()

    box = Box()
    for _ in range(5):
        box.run(pa.ones((1,)))
    other = copy.copy(box)
    other.w = pa.asarray([5.0])
    assert other.run(pa.ones((1,))).item() == 5.0 and box.run(pa.ones((1,))).item() == 1.0


def test_an_argument_kept_by_somebody_raises() -> None:
    class Box:
        kept: Any = None

        def run(self, x: Any, s: float) -> Any:
            self.kept = x
            return x * s

    f = pa.jit(Box().run)
    f(pa.ones((2,)), 1.0)
    with pytest.raises(JitError, match=r"Box\.kept"):
        f(pa.ones((2,)), 1.0)


def test_an_array_argument_is_a_tensor_from_the_first_call() -> None:
    kinds = []

    def f(n: Any) -> Any:
        kinds.append(type(n).__name__)
        n += 1
        return n * 2.0

    j = pa.jit(f)
    a = np.ones(2, np.float32)
    assert [j(a).tolist() for _ in range(5)] == [[4.0, 4.0]] * 5
    assert set(kinds) == {"Tensor"} and a.tolist() == [1.0, 1.0]


def test_a_deep_copy_of_an_object_with_a_jitted_method() -> None:
    import copy

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(1, 1, bias=False)

        @pa.jit
        def run(self, x: Any) -> Any:
            return self.part(x).sum()

    net = Net()
    before = [net.run(pa.ones((1, 1))).item() for _ in range(5)][-1]
    other = copy.deepcopy(net)
    nn.init.constant_(other.part.weight, 7.0)
    assert [other.run(pa.ones((1, 1))).item() for _ in range(5)] == [7.0] * 5
    assert net.run(pa.ones((1, 1))).item() == before


def test_results_that_no_operation_made_are_values_of_their_own() -> None:
    w = pa.asarray([1.0])
    f = pa.jit(lambda x: (x * 2, w))
    seen = []
    for _ in range(6):
        seen.append(f(pa.ones((1,)))[1].item())
        w[...] = w + 1
    assert seen == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

    c = pa.asarray([1.0])

    @pa.jit
    def count(x: Any) -> Any:
        old = c.clone()
        c[...] = c + x
        return old

    assert [count(pa.ones((1,))).item() for _ in range(6)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    g = pa.jit(lambda x: x.clone())
    for _ in range(6):
        x = pa.asarray([1.0])
        y = g(x)
        y += 1
        assert (x.item(), y.item()) == (1.0, 2.0)


def test_threads_share_a_jitted_function() -> None:
    import sys
    import threading

    scale = pa.asarray([2.0])
    f = pa.jit(lambda x, n: (x * scale * n).sum())
    found: list[Any] = []

    def work(k: int) -> None:
        found.append([f(pa.asarray([float(k)]), n).item() == 2.0 * k * n for n in range(20)])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    assert len(found) == 4 and all(all(row) for row in found)


def test_a_result_that_is_zero_everywhere() -> None:
    f = pa.jit(pa.grad(lambda x: (pa.sign(x) * 1.0).sum()))
    assert [f(pa.asarray(2.0)).item() for _ in range(6)] == [0.0] * 6
    assert [f(pa.asarray([2.0, 3.0])).tolist() for _ in range(6)] == [[0.0, 0.0]] * 6


@pytest.mark.parametrize("way", ["detach", "no_grad"])
def test_what_is_off_the_tape_stays_off_in_replays(way: str) -> None:
    def product(a: pa.Tensor) -> pa.Tensor:
        if way == "detach":
            b = a.detach() * 3.0
        else:
            with pa.no_grad():
                b = a * 3.0
        return (b * a).sum()

    jitted = pa.jit(product)
    x = pa.asarray([1.0, 2.0])
    assert [pa.grad(jitted)(x).tolist() for _ in range(6)] == [[3.0, 6.0]] * 6
    y = pa.asarray([1.0, 2.0]).requires_grad_()
    for _ in range(5):
        y.grad = None
        jitted(y).backward()
        assert y.grad.tolist() == [3.0, 6.0]
    with pa.no_grad():
        assert [jitted(y).item() for _ in range(5)] == [15.0] * 5


def test_a_step_that_detaches_inside_is_replayed() -> None:
    w = pa.asarray([1.0, 2.0]).requires_grad_()

    @pa.jit
    def step() -> pa.Tensor:
        loss = (w.detach() * w).sum()
        w.grad = None
        loss.backward()
        return loss

    for _ in range(6):
        step()
        assert w.grad.tolist() == [1.0, 2.0]
    assert step.python_calls == 3 or config.jit_check
