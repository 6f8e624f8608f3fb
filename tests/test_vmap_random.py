"""Random numbers under `vmap`: refused, or different or the same for all examples, as asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.errors import ArgumentError, JitError


@pytest.fixture(params=["numpy", "cpu"], autouse=True)
def device(request: Any) -> Iterator[str]:
    with pa.device(request.param):
        pa.manual_seed(0)
        yield request.param


def draw(x: Any) -> Any:
    return nn.functional.dropout(x, 0.5) + pa.rand(x.shape[0])


def draws() -> int:
    return int(pa.random.get_state().tolist()[2])


def test_it_is_refused_unless_asked_for() -> None:
    x = pa.ones((3, 8))
    with pytest.raises(JitError, match=r'a draw of random numbers.*randomness="different"'):
        pa.vmap(draw)(x)
    with pytest.raises(ArgumentError, match="one of error, different, same"):
        pa.vmap(draw, randomness="any")
    norm = nn.BatchNorm1d(4)
    for how in ("error", "different", "same"):
        with pytest.raises(JitError, match="an assignment to a tensor from outside"):
            pa.vmap(norm, randomness=how)(pa.ones((2, 3, 4)))
    assert draws() == 0, "what failed has drawn nothing"


def test_the_same_for_all() -> None:
    x = pa.ones((3, 8))
    found = pa.vmap(draw, randomness="same")(x).numpy()
    assert draws() == 2
    pa.manual_seed(0)
    np.testing.assert_array_equal(found, np.stack([draw(x[0]).numpy()] * 3))


def test_different_for_each() -> None:
    many = pa.ones((500, 8))
    found = pa.vmap(lambda x: pa.rand(8) + 0 * x, randomness="different")(many).numpy()
    again = pa.vmap(lambda x: pa.rand(8) + 0 * x, randomness="different")(many).numpy()
    after = pa.rand(500, 8).numpy()
    assert draws() == 3
    numbers = np.concatenate([found, again, after]).ravel()
    assert len(np.unique(numbers)) > 0.999 * numbers.size
    assert abs(numbers.mean() - 0.5) < 0.01 and abs(numbers.var() - 1 / 12) < 0.005
    for a, b in (
        (found[:-1], found[1:]),
        (found, again),
        (found, after),
        (found.T[1:], found.T[:-1]),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.06


def test_jit_and_seeds_give_the_same_numbers() -> None:
    x = pa.ones((3, 8))
    mapped = pa.vmap(draw, randomness="different")
    expected = [mapped(x).numpy() for _ in range(5)]
    pa.manual_seed(0)
    jitted = pa.jit(lambda x: mapped(x))
    for row in expected:
        np.testing.assert_array_equal(jitted(x).numpy(), row)
    assert draws() == 10


def test_nested() -> None:
    def pairs(inner: str, outer: str) -> Any:
        one = pa.vmap(lambda e: pa.rand() + 0 * e, randomness=inner)
        return pa.vmap(one, randomness=outer)(pa.ones((4, 5))).numpy()

    assert len(np.unique(pairs("different", "different"))) == 20
    found = pairs("same", "different")
    assert len(np.unique(found)) == 4 and (found == found[:, :1]).all()
    found = pairs("different", "same")
    assert len(np.unique(found)) == 5 and (found == found[:1]).all()
    assert len(np.unique(pairs("same", "same"))) == 1
    with pytest.raises(JitError, match="a draw of random numbers"):
        pairs("different", "error")


def test_gradients_see_the_mask_of_the_forward_pass() -> None:
    x, module = pa.ones((3, 8)), nn.Dropout(0.5)
    for f in (module, pa.checkpoint(module)):
        pa.manual_seed(0)
        mapped = pa.vmap(
            pa.value_and_grad(lambda x, f=f: (f(x) ** 2).sum()), randomness="different"
        )
        value, slope = mapped(x)
        np.testing.assert_array_equal(value.numpy() * 2, slope.numpy().sum(1))
        assert len({row.tobytes() for row in slope.numpy()}) == 3
    x = x.requires_grad_()
    (pa.vmap(module, randomness="different")(x) ** 2).sum().backward()
    assert set(np.unique(x.grad.numpy())) == {0.0, 8.0}


def test_a_generator_of_ones_own() -> None:
    g = pa.Generator(3)
    one = lambda x: pa.random.uniform((2,), generator=g) + 0 * x  # noqa: E731
    found = pa.vmap(one, randomness="different")(pa.ones((3, 2)))
    assert len(np.unique(found.numpy())) == 6
    assert (g.state.tolist()[2], draws()) == (1, 0)


def test_a_generator_that_comes_from_another_device() -> None:
    g = pa.Generator(3, device="numpy" if pa.zeros(()).device.backend == "cpu" else "cpu")
    x = pa.ones((4,))
    f = pa.checkpoint(lambda x: x * pa.random.uniform((4,), generator=g))
    found = [f(x).tolist(), f(x).tolist()]
    h = pa.Generator(3)
    assert found == [pa.random.uniform((4,), generator=h).tolist() for _ in range(2)]
