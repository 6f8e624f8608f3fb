"""A test of a tensor inside `jit` splits the program: each outcome has a path, with equal bits."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn, optim
from proa.capture.paths import MOST_PATHS, MOST_TESTS
from proa.config import config
from proa.errors import JitError
from proa.record.replay import Plan


@pytest.fixture(params=["numpy", "cpu"], autouse=True)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with pa.device(request.param):
        yield request.param


def bits(found: Any) -> Any:
    if isinstance(found, pa.Tensor):
        array = found.detach().numpy()
        return array.dtype.name, array.shape, array.tobytes()
    if isinstance(found, (tuple, list)):
        return tuple([bits(f) for f in found])
    return found


Program = tuple[Callable[..., Any], Callable[[], Any]]  # a function, and its state afterwards


def stateless(function: Callable[..., Any]) -> Callable[[], Program]:
    return lambda: (function, lambda: None)


def branch(x: Any) -> Any:
    y = pa.sin(x)
    if y.sum() > 0:
        return y * 2.0
    return pa.cos(y) * 3.0


def newton(x: Any) -> Any:
    a = x.sum() ** 2 + 1.0
    y = a
    while pa.abs(y * y - a) > 1e-3 * a:
        y = 0.5 * (y + a / y)
    return y


def words(x: Any) -> Any:
    """and, or, not, max, in, conditional expressions, chained comparisons."""
    a, b = x[0], x[1]
    largest = max(a, b)
    y = a if 0.0 < b < 0.5 else b
    if not (a > 0 and b > 0) or a in (b, largest):
        y = y + largest
    return y, largest, [y * 2.0, None]


def recursive(x: Any, depth: int = 0) -> Any:
    return x if depth == 4 or x.sum() > 3.0 else recursive(x * 2.0 + 1.0, depth + 1)


def early(x: Any) -> Any:
    for i in range(3):
        x = x * 1.5
        if x.max() > 2.0:
            return x, i
    return None


def passed(x: Any) -> Any:
    """Results that a part computed, or nobody; a test of the argument itself."""
    y = x * 2.0
    if x[0] > 0:
        return x, y, y
    if y.any():
        return y.detach(), x.clone()
    return pa.ones((2,))


def training() -> Program:
    pa.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.25), nn.Linear(8, 1))
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    best, bad = pa.asarray(1e9), pa.zeros((), dtype=pa.int64)

    def step(x: Any) -> Any:
        loss = ((model(x.reshape(1, 2)) - x.sum()) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = sum((p.grad**2).sum() for p in model.parameters())
        if norm > 4.0:
            for p in model.parameters():
                p.grad = p.grad / norm
        if loss < best:
            best[...] = loss
        else:
            bad[...] = bad + 1
        optimizer.step()
        return loss

    def state() -> Any:
        slots = [s[n] for s in optimizer._slots for n in ("exp_avg", "exp_avg_sq")]
        return bits([*model.parameters(), *slots, best, bad, *[p.grad for p in model.parameters()]])

    return step, state


def backward_after_a_test() -> Program:
    """The tape is read before it is differentiated: what was computed is not computed again."""
    w = pa.asarray([0.5, -0.25]).requires_grad_()

    def step(x: Any) -> Any:
        h = pa.tanh(w * x)
        loss = (h * h).sum()
        if loss > 0.3:
            loss = loss * 0.5
        if w.grad is not None and (w.grad.sum() > 1.0):
            w.grad = None
        (loss + (h.detach() * h).sum()).backward()
        with pa.no_grad():
            w[...] = w - 0.1 * w.grad
        return loss

    return step, lambda: bits((w, w.grad))


def rejection() -> Program:
    """Random draws until one fits: the generator is state."""
    pa.manual_seed(3)

    def draw(x: Any) -> Any:
        for _ in range(5):
            found = pa.random.uniform((2,))
            if found.sum() > 1.0:
                break
        return found + x

    return draw, lambda: None


def state_twice() -> Program:
    """State that is assigned before a test and after it, and tested itself."""
    s, on = pa.asarray([1.0, 2.0]), pa.asarray(True)

    def step(x: Any) -> Any:
        old = s.clone()
        s[...] = s + x
        if on:
            s[...] = s * 0.5
            on[...] = s.sum() > 1.0
        else:
            on[...] = ~on
        if s[0] > s[1]:
            s[0] = 0.0
        return old

    return step, lambda: bits((s, on))


PROGRAMS: dict[str, Callable[[], Program]] = {
    "branch": stateless(branch),
    "newton": stateless(newton),
    "words": stateless(words),
    "recursive": stateless(recursive),
    "early": stateless(early),
    "passed": stateless(passed),
    "gradient": stateless(pa.grad(lambda x: branch(x).sum())),
    "second": stateless(pa.grad(lambda x: pa.grad(lambda y: branch(y).sum())(x).sum())),
    "inner jit": stateless(lambda x: pa.jit(branch)(x) + pa.jit(newton)(x)),
    "training": training,
    "backward after a test": backward_after_a_test,
    "rejection": rejection,
    "state twice": state_twice,
}


def inputs(count: int = 24) -> list[Any]:
    draw = np.random.default_rng(5)
    return [pa.asarray(draw.standard_normal(2).astype(np.float32)) for _ in range(count)]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("check", [False, True], ids=["", "check"])
def test_jit_with_tests_gives_the_bits_of_the_plain_body(name: str, check: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, state = PROGRAMS[name]()
        expected = [(bits(plain(x)), state()) for x in inputs()]
        function, state = PROGRAMS[name]()
        jitted = pa.jit(function, check=check)
        found = [(bits(jitted(x)), state()) for x in inputs()]
    assert found == expected
    if not check and name != "newton":
        assert jitted.python_calls < jitted.calls or config.jit_check


def test_each_path_is_recorded_twice_and_replayed_from_then_on() -> None:
    bodies = []

    @pa.jit
    def f(x: Any) -> Any:
        bodies.append(1)
        return branch(x)

    rows = [pa.asarray([s * 0.5, s * 1.0]) for s in (1.0, -1.0)]
    counts = []
    for _ in range(5):
        for x in rows:
            f(x)
            counts.append(len(bodies))
    assert counts == [1, 2, 3, 4, 5, 5, 5, 5, 5, 5] or config.jit_check


def test_a_prefix_runs_once_a_call_and_no_contraction_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = pa.asarray(np.eye(4, dtype=np.float32)).requires_grad_()

    @pa.jit
    def step(x: Any) -> Any:
        loss = pa.tanh(x @ w).sum()
        if loss > 0:
            loss = loss * 2.0
        w.grad = None
        loss.backward()
        return loss

    x = pa.ones((3, 4))
    for _ in range(4):
        step(x)
    ran = [0]
    call = Plan.__call__

    def counted(self: Any, buffers: Any) -> Any:
        ran[0] += self.contractions
        return call(self, buffers)

    monkeypatch.setattr(Plan, "__call__", counted)
    step(x)
    assert ran[0] == 2 and (step.python_calls == 3 or config.jit_check)


def test_a_failed_assertion_changes_no_state() -> None:
    total = pa.zeros((2,))

    @pa.jit
    def add(x: Any) -> Any:
        total[...] = total + x
        assert (x > 0).all(), "positive numbers"
        return total * 1.0

    good, bad = pa.ones((2,)), -pa.ones((2,))
    for _ in range(4):
        add(good)
    for _ in range(3):
        with pytest.raises(AssertionError, match="positive"):
            add(bad)
        assert total.tolist() == [4.0, 4.0]
    before = add.python_calls
    assert add(good).tolist() == [5.0, 5.0] and (add.python_calls == before or config.jit_check)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError])
def test_a_later_part_that_fails_changes_no_state(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where state is large enough to be donated."""
    s = pa.asarray(np.ones((300, 512), np.float32))

    @pa.jit
    def step(x: Any) -> Any:
        s[...] = s + x
        if s[0, 0] > 0:
            s[...] = s * 0.5
        return s[0, 0] + 1.0

    x = pa.asarray(1.0)
    for _ in range(5):
        step(x)
    before = s.clone().numpy().copy()
    call, calls = Plan.__call__, [0]

    def fails(self: Any, buffers: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise error("planted")
        return call(self, buffers)

    with monkeypatch.context() as planted:
        planted.setattr(Plan, "__call__", fails)
        with pytest.raises(error):
            step(x)
    assert (s.numpy() == before).all()
    step(x)
    assert (s.numpy() == (before + 1.0) * np.float32(0.5)).all()
    assert step.python_calls == 3 or config.jit_check


def test_state_is_donated_by_the_last_part_alone(place: str) -> None:
    if place != "cpu":
        pytest.skip("the memory of `cpu`")
    s, t = (pa.asarray(np.ones((300, 512), np.float32)) for _ in range(2))

    @pa.jit
    def step() -> None:
        s[...] = s + 1.0
        if t[0, 0] > 0:
            t[...] = t + 1.0

    for _ in range(5):
        step()
    at = t.value.buffer.address
    step()
    assert t.value.buffer.address == at
    assert float(s[3, 3]) == float(t[3, 3]) == 7.0


def test_a_result_can_be_differentiated_from_outside() -> None:
    """The body runs then: the tape leads through what was read."""
    w = pa.asarray([1.0, -2.0]).requires_grad_()
    f = pa.jit(lambda x: branch(w * x).sum())
    for x in inputs(12):
        w.grad = None
        branch(w * x).sum().backward()
        expected = bits(w.grad)
        w.grad = None
        f(x).backward()
        assert bits(w.grad) == expected
    assert f.python_calls == f.calls + 1  # one recording found it out
    with pa.no_grad():
        for x in inputs(12):
            assert bits(f(x)) == bits(branch(w * x).sum())


def counted(x: Any) -> Any:
    n = pa.zeros(())
    while n < x:
        n = n + 1.0
    return n


def test_more_paths_than_the_limit_warn_once_at_the_line() -> None:
    count = pa.jit(counted)
    rows = [float(i) for i in range(MOST_PATHS + 4)] * 2
    told = r"16 paths.*test_jit_paths\.py:\d+.*while_loop.*convert"
    with pytest.warns(RuntimeWarning, match=told) as seen:
        assert [count(pa.asarray(r)).item() for r in rows] == rows
    assert len(seen) == 1


def test_as_many_tests_as_the_limit_work_by_paths() -> None:
    count = pa.jit(counted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            for i in range(MOST_PATHS):
                assert count(pa.asarray(float(i))).item() == i
    before = count.python_calls
    assert [count(pa.asarray(float(i))).item() for i in range(16)] == [float(i) for i in range(16)]
    assert count.python_calls == before or config.jit_check


def test_a_loop_that_is_too_long_for_a_path_runs_without_jit() -> None:
    count = pa.jit(counted)
    x = pa.asarray(MOST_TESTS + 10.0)
    with pytest.warns(RuntimeWarning, match=r"64 tests.*test_jit_paths\.py") as seen:
        assert [count(x).item() for _ in range(4)] == [MOST_TESTS + 10.0] * 4
    assert len(seen) == 1


class Box:
    kept: Any = None

    def keep(self, x: Any) -> Any:
        self.kept = x * 2.0
        return x * 1.0 if x.sum() > 0 else x

    def keep_copy(self, x: Any) -> Any:
        y = x * 2.0
        if y.sum() > 0:
            self.kept = y.detach()
        return x * 1.0

    def keep_listed(self, x: Any) -> Any:
        y = x * 2.0
        if y.sum() > 0:
            self.kept = [y]
        return x * 1.0


@pytest.mark.parametrize("name", ["keep", "keep_copy", "keep_listed"])
def test_what_escapes_is_found_although_it_was_computed(name: str) -> None:
    f = pa.jit(getattr(Box(), name))
    f(pa.ones((2,)))
    with pytest.raises(JitError, match="with a new tensor"):
        for _ in range(3):
            f(pa.ones((2,)))


def test_pure_functions_cannot_be_split() -> None:
    x = pa.asarray([1.0, 2.0])
    pure = [
        lambda x: pa.vmap(lambda y: y if y > 0 else -y)(x),
        lambda x: pa.cond(x[0] > 0, lambda y: y if y.sum() > 0 else -y, lambda y: y, x),
        lambda x: pa.checkpoint(branch)(x),
    ]
    for function in pure:
        jitted = pa.jit(function)
        with pytest.raises(JitError, match=r"bool.*test_jit_paths\.py:\d+.*pa\.where"):
            for _ in range(3):
                jitted(x)


def test_a_python_choice_that_changes_the_tests_raises_at_its_line() -> None:
    for order in ([0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]):
        turns = iter(order)

        def f(x: Any, turns: Any = turns) -> Any:
            if next(turns) and x.sum() > 0:
                return x + 1.0
            return x + 2.0

        jitted = pa.jit(f, check=True)
        with pytest.raises(JitError, match=r"test_jit_paths\.py:\d+.*in each call"):
            for _ in range(5):
                jitted(pa.ones((2,)))


def test_two_tests_that_change_places_raise() -> None:
    turns = iter([0, 0, 1, 1, 1, 1])
    x, y = pa.ones((2,)), -pa.ones((2,))

    @pa.jit
    def f(x: Any, y: Any) -> Any:
        a, b = (x, y) if next(turns) else (y, x)
        return x + 1.0 if (a > 0).all() else y + 1.0

    with pytest.raises(JitError, match="in each call"):
        for _ in range(5):
            f(x, y)


def test_a_number_that_changes_after_a_test_raises_at_its_line() -> None:
    numbers = iter([0.1, 0.1, 0.2, 0.3])
    f = pa.jit(lambda x: x * next(numbers) if x.sum() > 0 else x)
    with pytest.raises(JitError, match=r"0\.1 then 0\.2 at .*test_jit_paths\.py"):
        for _ in range(4):
            f(pa.ones((2,)))


def test_garbage_that_is_alive_at_a_test_is_no_difference() -> None:
    """Cycles hold tensors until the collector runs: now or then."""
    turns = iter([True, True, False, True, False, False, True, False, True])

    def cycle(x: Any) -> Any:
        def inner(n: int) -> Any:
            return x * 3.0 if n == 0 else inner(n - 1)

        held = [x * 2.0, inner]
        held.append(held)
        return inner(2)

    @pa.jit
    def f(x: Any) -> Any:
        y = cycle(x)
        if next(turns):
            gc.collect()
        return y if y.sum() > 0 else -y

    x = pa.ones((2,))
    was = gc.isenabled()
    gc.disable()
    try:
        for _ in range(8):
            assert f(x).tolist() == [3.0, 3.0]
    finally:
        if was:
            gc.enable()
    assert f.python_calls < 7 or config.jit_check


def test_print_comes_once_a_call_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    @pa.jit
    def f(x: Any) -> Any:
        pa.print("sum", x.sum())
        if x.sum() > 0:
            pa.print("positive")
        return x

    for _ in range(5):
        f(pa.ones((2,)))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line for _ in range(5) for line in (lines[0], "positive")]


def test_numbers_given_as_arguments_stay_static_in_tests() -> None:
    f = pa.jit(lambda x, n: x * 2.0 if n > 1 and x.sum() > 0 else x * 3.0)
    x = pa.ones((1,))
    assert [f(x, n).item() for n in (1, 2, 1, 2, 1, 2, 1, 2)] == [3.0, 2.0] * 4
    assert f(-x, 2).item() == -3.0


def test_threads_share_the_paths() -> None:
    f = pa.jit(lambda x: branch(x).sum())
    rows = inputs(30)
    expected = [bits(branch(x).sum()) for x in rows]
    failures: list[Any] = []

    def work() -> None:
        try:
            assert [bits(f(x)) for x in rows] == expected
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_loss_scale_that_skips_steps() -> None:
    """The step of mixed precision: skipped where a gradient overflowed."""

    def made() -> tuple[Any, Any]:
        w, scale = pa.asarray([1.0, 2.0]).requires_grad_(), pa.asarray(2.0**126)
        optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

        def step(x: Any) -> Any:
            loss = ((w * x) ** 2).sum()
            optimizer.zero_grad()
            (loss * scale).backward()
            if pa.isfinite(w.grad).all():
                w.grad = w.grad / scale
                optimizer.step()
            else:
                scale[...] = scale * 0.5
            return loss

        return step, lambda: bits((w, scale))

    plain, state = made()
    expected = [(bits(plain(x)), state()) for x in inputs(12)]
    function, state = made()
    jitted = pa.jit(function)
    assert [(bits(jitted(x)), state()) for x in inputs(12)] == expected
    assert jitted.python_calls < 8 or config.jit_check
