"""Batches, boundaries, and resuming in the middle of an epoch."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

import proa as pa
from proa.data import DataLoader, Subset, TensorDataset, collate, random_split
from proa.errors import ArgumentError, DtypeError, IndexingError, JitError, ShapeError
from proa.random import Generator
from proa.record.live import thread
from proa.tensor import Tensor


def listed(batches):
    return [b.tolist() if type(b) is Tensor else [t.tolist() for t in b] for b in batches]


def test_batches_in_order():
    x, y = np.arange(14.0).reshape(7, 2), np.arange(7)
    for given in ((x, y), TensorDataset(pa.asarray(x), y), [(x[i], int(y[i])) for i in range(7)]):
        loader = DataLoader(given, batch_size=3)
        found = list(loader)
        assert len(loader) == len(found) == 3
        assert [b[0].shape for b in found] == [(3, 2), (3, 2), (1, 2)]
        assert sum(listed([b[1] for b in found]), []) == list(range(7))
        assert found[0][0].dtype is pa.float64 and found[0][1].dtype is pa.int64
        assert len(list(DataLoader(given, 3, drop_last=True))) == 2
    assert list(DataLoader([], 4)) == [] and list(DataLoader([], 4, shuffle=True, seed=1)) == []


def test_batches_are_fresh():
    data = pa.arange(4)
    first, _ = DataLoader(data, 2)
    first += 1
    assert data.tolist() == [0, 1, 2, 3] and listed(DataLoader(data, 2)) == [[0, 1], [2, 3]]


def test_shuffling_is_a_permutation_that_changes_with_the_epoch():
    loader = DataLoader(np.arange(50), 7, shuffle=True, seed=3)
    first, second = (sum(listed(loader), []) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(50)) != first != second
    again = DataLoader(np.arange(50), 7, shuffle=True, seed=3)
    assert [sum(listed(again), []) for _ in range(2)] == [first, second]
    assert sum(listed(DataLoader(np.arange(50), 7, shuffle=True, seed=4)), []) != first


def test_the_order_is_written_down():
    """A change of the order is a change of every run that was shuffled."""
    assert sum(listed(DataLoader(np.arange(10), 10, shuffle=True, seed=0)), []) == ORDER


ORDER = [7, 8, 9, 1, 5, 2, 0, 6, 4, 3]


def test_shuffling_from_generators():
    def run(make):
        return [listed(make) for _ in range(2)]

    orders = [
        run(DataLoader(np.arange(20), 6, shuffle=True, generator=Generator(1))) for _ in range(2)
    ]
    assert orders[0] == orders[1]
    found = []
    for _ in range(2):
        pa.random.manual_seed(5)
        found.append(run(DataLoader(np.arange(20), 6, shuffle=True)))
    assert found[0] == found[1] and found[0][0] != found[0][1]


SOURCES = {
    "plain": lambda: {}, "seed": lambda: {"shuffle": True, "seed": 9},
    "generator": lambda: {"shuffle": True, "generator": Generator(9)},
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stop", range(10))
def test_resumed_is_not_resumed(source, stop):
    def batches(loader):
        while True:
            yield from loader
            yield "end"

    def make():
        return DataLoader((np.arange(10), np.arange(10.0)), 3, **SOURCES[source]())

    def show(b):
        return b if b == "end" else [t.tolist() for t in b]

    first = make()
    stream = batches(first)
    for _ in range(stop):
        next(stream)
    state = first.state_dict()
    want = [show(next(stream)) for _ in range(14)]
    second = make()
    if source == "generator":
        list(second)  # whatever it did before
    second.load_state_dict(state)
    assert second.state_dict() == state
    stream = batches(second)
    assert [show(next(stream)) for _ in range(14)] == want


def test_an_epoch_left_early_is_over():
    loader = DataLoader(np.arange(6), 2, shuffle=True, seed=0)
    next(iter(loader))
    second = listed(loader)
    other = DataLoader(np.arange(6), 2, shuffle=True, seed=0)
    list(other)
    assert second == listed(other)


def test_the_next_batch_is_a_boundary():
    stream = iter(DataLoader(np.arange(4.0), 2))
    next(stream)
    pending = pa.ones((3,)) + 1.0
    next(stream)
    assert pending.value.buffer is not None
    pending = pa.ones((3,)) + 2.0
    assert list(stream) == [] and pending.value.buffer is not None
    assert not thread.state.handles


def test_loading_while_recording_is_an_error():
    loader = DataLoader(np.arange(4.0), 2)
    f = pa.jit(lambda: next(iter(loader)))
    f()
    with pytest.raises(JitError):
        f()


def test_collate():
    Pair = namedtuple("Pair", "a b")
    made = collate([{"x": (1, 2.5), "y": Pair(True, "s")}, {"x": (2, 3.5), "y": Pair(False, "t")}])
    a, b = made["x"]
    assert (a.tolist(), a.dtype, b.tolist(), b.dtype) == ([1, 2], pa.int64, [2.5, 3.5], pa.float32)
    assert type(made["y"]) is Pair and made["y"].a.dtype is pa.bool and made["y"].b == ["s", "t"]
    stacked = collate([pa.ones((2,)), np.zeros(2, "float32")])
    assert stacked.tolist() == [[1, 1], [0, 0]] and not stacked.requires_grad
    assert collate([pa.ones((2,)).requires_grad_()]).requires_grad is False
    assert collate([np.float16(1)]).dtype is pa.float16
    assert collate([[1, 2], [3, 4]])[1].tolist() == [2, 4]
    assert DataLoader([1, 2, 3], 2, collate_fn=sum).__iter__().__next__() == 3


def test_subsets_and_splits():
    data = TensorDataset(np.arange(10))
    assert [
        int(t[0])
        for t in DataLoader(Subset(data, [3, -1]), 2).__iter__().__next__()[0].reshape((2, 1))
    ] == [3, 9]
    parts = random_split(data, [7, 3], seed=1)
    assert sorted(int(i) for p in parts for i in p.indices) == list(range(10))
    again = random_split(data, [7, 3], seed=1)
    assert [p.indices.tolist() for p in parts] == [p.indices.tolist() for p in again]
    assert [len(p) for p in random_split(data, [0.55, 0.45], generator=Generator(0))] == [6, 4]


@pytest.mark.parametrize("make, kind", [
    (lambda: DataLoader(3), DtypeError),
    (lambda: DataLoader(iter([1])), DtypeError),
    (lambda: DataLoader(np.ones(())), ShapeError),
    (lambda: DataLoader([1], 0), ArgumentError),
    (lambda: DataLoader([1], 1.5), DtypeError),
    (lambda: DataLoader([1], None), DtypeError),
    (lambda: DataLoader([1], shuffle=1), DtypeError),
    (lambda: DataLoader([1], drop_last="no"), DtypeError),
    (lambda: DataLoader([1], shuffle=True, seed=-1), ArgumentError),
    (lambda: DataLoader([1], shuffle=True, seed="a"), DtypeError),
    (lambda: DataLoader([1], shuffle=True, generator=3), DtypeError),
    (lambda: DataLoader([1], shuffle=True, generator=Generator(0), seed=1), ArgumentError),
    (lambda: DataLoader([1], collate_fn=3), DtypeError),
    (lambda: DataLoader((np.ones(2), np.ones(3))), ShapeError),
    (lambda: TensorDataset(), ArgumentError),
    (lambda: TensorDataset([1, 2]), DtypeError),
    (lambda: TensorDataset(np.ones(2))[2], IndexingError),
    (lambda: TensorDataset(np.ones(2))[1.5], DtypeError),
    (lambda: Subset([1, 2], [2]), IndexingError),
    (lambda: random_split([1, 2], [1, 2]), ArgumentError),
    (lambda: random_split([1, 2], [0.5, 0.4]), ArgumentError),
    (lambda: random_split([1, 2], [-1, 3]), ArgumentError),
    (lambda: collate([np.ones(2), np.ones(3)]), ShapeError),
    (lambda: collate([np.ones(2), np.ones(2, "float32")]), DtypeError),
    (lambda: collate([np.ones(2), 1]), DtypeError),
    (lambda: collate([1, "a"]), DtypeError),
    (lambda: collate([2**70]), ArgumentError),
    (lambda: collate([object()]), DtypeError),
    (lambda: collate([{"a": 1}, {"b": 1}]), ArgumentError),
    (lambda: collate([(1, 2), (1,)]), ArgumentError),
    (lambda: collate([np.array(["a"])]), DtypeError),
])  # fmt: skip
def test_errors_are_typed(make, kind):
    with pytest.raises(kind):
        make()


def test_a_state_of_another_loader_changes_nothing():
    loader = DataLoader(np.arange(10), 3, shuffle=True, seed=1)
    next(iter(loader))
    state = loader.state_dict()
    for change in (
        {"length": 11}, {"batch_size": 4}, {"shuffle": False}, {"seed": 2}, {"position": 5}, {"position": -1},
        {"order": None}, {"order": [1, 2, 3]}, {"order": [1, 2, 3, 2**32]}, {"epoch": -1}, {"epoch": "x"},
        {"generator": [0, 0, 0, 0]}, {"drop_last": True},
    ):  # fmt: skip
        with pytest.raises((ArgumentError, DtypeError)):
            loader.load_state_dict({**state, **change})
        assert loader.state_dict() == state
    with pytest.raises(ArgumentError):
        loader.load_state_dict({})
