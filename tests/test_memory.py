"""Nothing leaks and nothing overflows, with the garbage collector off."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.backends.numpy.backend import NumpyBuffer
from proa.graph.node import Node, Value
from tests.test_programs import Setup


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> tuple[int, int, int]:
    kinds = [type(o) for o in gc.get_objects()]
    values = [o for o in gc.get_objects() if type(o) is Value]
    buffers = {id(v.buffer) for v in values if type(v.buffer) is NumpyBuffer}
    return kinds.count(Node), len(values), len(buffers)


def loop(read: bool, kept: list[Any] | None, jit: bool) -> Any:
    s = Setup()
    step = pa.jit(s.step) if jit else s.step

    def run(steps: int) -> None:
        for _ in range(steps):
            if read:
                loss = s.loss()
                float(loss)
                s.update(loss)
            else:
                loss = step()
            if kept is not None:
                kept.append(float(loss))
        pa.sync()

    return run


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_a_thousand_steps_leave_what_ten_left(no_collector: None, read: bool, jit: bool) -> None:
    if read and jit:
        pytest.skip("a jitted step is not read inside")
    run = loop(read, None, jit)
    run(10)
    before = alive()
    run(990)
    assert alive() == before


def test_kept_losses_hold_no_tape(no_collector: None) -> None:
    s = Setup()
    losses = [s.step() for _ in range(10)]
    nodes = alive()[0]
    losses += [s.step() for _ in range(200)]
    assert alive()[0] == nodes
    assert losses[-1].item() < losses[0].item()


def test_a_running_total_does_not_chain(no_collector: None) -> None:
    s = Setup()
    total = pa.zeros(())
    for _ in range(10):
        total += s.step()
    pa.sync()
    nodes = alive()[0]
    for _ in range(200):
        total += s.step()
    pa.sync()
    assert alive()[0] == nodes
    assert np.isfinite(total.item())


def test_a_million_operations_in_a_row() -> None:
    x = pa.zeros((2,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(1_000_000):
            x = x + 1.0
    assert x.tolist() == [1_000_000.0, 1_000_000.0]


def test_a_deep_graph_is_differentiated() -> None:
    x = pa.ones((2,)).requires_grad_()
    y = x
    for _ in range(5000):
        y = y * 1.0001
    y.sum().backward()
    assert np.allclose(x.grad.numpy(), 1.0001**5000, rtol=1e-3)


def test_deep_graphs_are_freed_without_recursion() -> None:
    x = pa.zeros((2,))
    for _ in range(90_000):
        x = x + 1.0
    del x


def test_out_of_memory_names_the_line_and_the_next_step_works() -> None:
    s = Setup()
    first = s.step()
    huge = pa.broadcast_to(pa.ones((1,)), (1 << 40,)) * 2.0
    with pytest.raises(MemoryError, match="test_memory.py"):
        huge.numpy()
    second = s.step()
    assert second.item() < first.item()
    with pytest.raises(MemoryError):
        huge.numpy()


def test_a_recording_keeps_no_buffer_of_the_call_that_made_it() -> None:
    x = pa.zeros((4,))
    state = pa.asarray(np.ones(4, np.float32))

    @pa.jit
    def f(x: Any) -> Any:
        state[...] = state + x
        return state * 2.0

    f(x)
    f(x)
    recorded = state.value.buffer  # what the third call records with
    f(x)
    f(x)
    gc.collect()
    assert sys.getrefcount(recorded) == 2, "only this test still holds it"
