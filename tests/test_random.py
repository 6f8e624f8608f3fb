"""Generators: known answers, statistics, reproducibility, state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import random as pr
from proa.errors import ArgumentError, DtypeError, ProaError
from proa.ops.creation import threefry
from proa.random import Generator, splitmix64
from proa.testing import assert_bitwise, assert_close

N = 40_000


def test_known_answers() -> None:
    """The first number of splitmix64 from seed 0, as published, and Threefry's words."""
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    g = Generator(0)
    key0, key1, draw, last = g.get_state().tolist()
    assert (key0, key1, draw, last) == (0xE220A839, 0x7B1DCDAF, 0, 0)
    words = [np.uint32(w) for w in (key0, key1)]
    with np.errstate(over="ignore"):
        expected = threefry(*words, np.uint32(0), np.uint32(0))[0] >> 8
    assert pr.uniform((2,), generator=g)[0].item() == float(expected) * 2.0**-24
    assert g.get_state().tolist() == [key0, key1, 1, 0]


def test_digest_of_draws() -> None:
    """The same on every machine: integers and uniforms are made of bits alone."""
    g = Generator(12345)
    assert pr.randint(0, 1000, (5,), generator=g).tolist() == EXPECTED_INTEGERS
    assert pr.uniform((3,), generator=g).tolist() == EXPECTED_UNIFORMS
    assert pr.permutation(6, generator=g).tolist() == EXPECTED_PERMUTATION


EXPECTED_INTEGERS = [838, 597, 429, 538, 96]
EXPECTED_UNIFORMS = [0.9389664530754089, 0.5051772594451904, 0.8568751215934753]
EXPECTED_PERMUTATION = [4, 1, 0, 5, 2, 3]


def draws(g: Any) -> list[Any]:
    return [
        pr.uniform((50,), -2.0, 3.0, generator=g),
        pr.normal((50,), generator=g),
        pr.randn(7, 7, generator=g),
        pr.rand(3, generator=g),
        pr.randint(0, 9, (50,), generator=g),
        pr.permutation(50, generator=g),
        pr.bernoulli(0.3, (50,), generator=g),
        pr.categorical(pa.zeros((50, 4)), generator=g),
        pr.uniform((9,), dtype=pa.float64, generator=g),
        pr.normal((9,), dtype=pa.bfloat16, generator=g),
    ]


def test_a_seed_gives_the_same_numbers_read_early_or_late() -> None:
    late = draws(Generator(7))
    early = []
    g = Generator(7)
    for index in range(10):
        early.append(draws(g)[index].numpy() if index == 0 else None)
    g = Generator(7)
    stepwise = []
    for x in draws(g):
        stepwise.append(x.numpy())
    for a, b in zip(late, stepwise, strict=True):
        assert_bitwise(a, b)
    assert_bitwise(late[0], early[0])
    assert any(
        (a != b).any() for a, b in zip(map(np.asarray, draws(Generator(8))), stepwise, strict=True)
    )


def test_draws_differ_from_one_another() -> None:
    g = Generator(1)
    a, b = pr.uniform((1000,), generator=g).numpy(), pr.uniform((1000,), generator=g).numpy()
    assert (a != b).mean() > 0.99 and abs(np.corrcoef(a, b)[0, 1]) < 0.12


def test_uniform() -> None:
    x = pr.uniform((N,), generator=Generator(2)).numpy()
    assert x.dtype == np.float32 and x.min() >= 0 and x.max() < 1
    counts = np.histogram(x, 20, (0, 1))[0]
    assert ((counts - N / 20) ** 2 / (N / 20)).sum() < 45  # chi squared, 19 degrees: p about 0.001
    y = pr.uniform((N,), -3.0, 5.0, dtype=pa.float64, generator=Generator(3)).numpy()
    assert abs(y.mean() - 1) < 0.05 and y.min() >= -3 and y.max() < 5


def test_normal() -> None:
    x = pr.normal((N,), 2.0, 3.0, generator=Generator(4)).numpy().astype(np.float64)
    z = (x - 2) / 3
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02 and abs((z**3).mean()) < 0.06
    assert abs((z**4).mean() - 3) < 0.2 and abs((np.abs(z) < 1).mean() - 0.6827) < 0.01
    assert pr.normal((3,), pa.asarray(1.0), 0.0, generator=Generator(4)).tolist() == [1, 1, 1]


def test_integers() -> None:
    x = pr.randint(-2, 5, (N,), generator=Generator(5)).numpy()
    assert x.dtype == np.int64 and set(np.unique(x)) == set(range(-2, 5))
    assert np.abs(np.bincount(x + 2) / N - 1 / 7).max() < 0.01
    assert pr.randint(3, shape=(5,), dtype=pa.uint8, generator=Generator(5)).dtype is pa.uint8
    assert pr.randint(0, 2**63, (4,), dtype=pa.uint64, generator=Generator(5)).shape == (4,)


def test_permutations() -> None:
    g = Generator(6)
    places = np.array([pr.permutation(5, generator=g).tolist() for _ in range(300)])
    assert (np.sort(places, 1) == np.arange(5)).all()
    assert np.abs(np.bincount(places[:, 0], minlength=5) / 300 - 0.2).max() < 0.09
    x = pa.asarray(np.arange(12).reshape(6, 2))
    found = pr.permutation(x, generator=g).numpy()
    assert sorted(map(tuple, found)) == sorted(map(tuple, x.numpy())) and pr.permutation(
        0
    ).shape == (0,)


def test_choices() -> None:
    g = Generator(9)
    b = pr.bernoulli(0.3, (N,), generator=g)
    assert b.dtype is pa.bool and abs(b.numpy().mean() - 0.3) < 0.01
    p = pa.asarray([0.0, 0.5, 1.0])
    assert pr.bernoulli(p, generator=g, dtype=pa.float32).numpy()[[0, 2]].tolist() == [0, 1]
    logits = pa.asarray(np.log([0.1, 0.2, 0.7]).astype(np.float32))
    c = pr.categorical(pa.broadcast_to(logits, (N, 3)), generator=g).numpy()
    assert np.abs(np.bincount(c, minlength=3) / N - [0.1, 0.2, 0.7]).max() < 0.012


def test_state() -> None:
    g = Generator(1)
    state = g.get_state()
    a = pr.rand(4, generator=g)
    assert state.tolist()[2] == 0 and g.get_state().tolist()[2] == 1
    g.set_state(state)
    assert_bitwise(pr.rand(4, generator=g), a)
    g.set_state(np.asarray(state))
    assert_bitwise(pr.rand(4, generator=g), a)
    handle = g.state
    assert g.manual_seed(1) is g and g.state is handle
    assert_bitwise(pr.rand(4, generator=g), a)
    s = g.next_state()
    assert s is not g.state and s.tolist()[2] == 1 and g.get_state().tolist()[2] == 2
    assert "Generator" in repr(g)


def test_default_generator() -> None:
    pr.manual_seed(3)
    a = pr.rand(4)
    state = pr.get_state()
    b = pr.rand(4)
    pr.set_state(state)
    assert_bitwise(pr.rand(4), b)
    handle = pr.default_generator().state
    pr.manual_seed(3)
    assert pr.default_generator().state is handle
    assert_bitwise(pr.rand(4), a)
    assert_bitwise(pr.uniform((4,), generator=Generator(3)), a)


def test_a_failed_draw_leaves_the_state() -> None:
    g = Generator(2)
    for bad in (
        lambda: pr.uniform((-1,), generator=g),
        lambda: pr.uniform((2,), dtype=pa.int64, generator=g),
        lambda: pr.randint(5, 5, generator=g),
        lambda: pr.bernoulli(1.5, (2,), generator=g),
        lambda: pr.permutation(-1, generator=g),
        lambda: pr.permutation(1.5, generator=g),
        lambda: pr.categorical(pa.zeros(()), generator=g),
        lambda: pr.uniform("x", generator=g),
        lambda: pr.randint(0, 300, dtype=pa.uint8, generator=g),
        lambda: pr.normal((2,), device="nowhere", generator=g),
    ):
        with pytest.raises(ProaError):
            bad()
    assert g.get_state().tolist()[2] == 0


def test_bad_seeds_and_states() -> None:
    for seed in (1.5, "a", None, True):
        with pytest.raises(DtypeError):
            Generator(seed)  # type: ignore[arg-type]
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ArgumentError):
            Generator(seed)
    assert Generator(-1).get_state().tolist() == Generator(2**64 - 1).get_state().tolist()
    for state in ([1, 2, 3, 4], np.zeros(3, np.uint32)):
        with pytest.raises(ArgumentError):
            Generator(0).set_state(state)
    with pytest.raises(DtypeError):
        pr.rand(2, generator=np.random.default_rng())  # type: ignore[arg-type]


def test_a_draw_goes_where_it_is_asked_for() -> None:
    g = Generator(1)
    assert pr.rand(3, generator=g, device="null").device.backend == "null"
    g = Generator(1)
    with pa.device("numpy"):
        assert_close(pr.rand(3, generator=g), pr.rand(3, generator=Generator(1)))
