"""The same training on another chip: `xla` gives the losses of `numpy` within its tolerance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import proa as pa
from tests.training import MODELS, train


@pytest.fixture
def float64() -> Iterator[None]:
    pa.set_default_dtype(pa.float64)
    yield
    pa.set_default_dtype(pa.float32)


@pytest.mark.parametrize("jit", [False, True])
def test_float32_over_twenty_steps(jit: bool) -> None:
    expected = train(MODELS["transformer"], 20)["losses"]
    found = train(MODELS["transformer"], 20, jit=jit, device="xla")["losses"]
    assert np.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_float64_over_fifty_steps(float64: None, name: str) -> None:
    expected = train(MODELS[name], 50)["losses"]
    found = train(MODELS[name], 50, device="xla")["losses"]
    assert np.allclose(found, expected, rtol=0, atol=1e-9)


def test_tensors_travel_and_say_where_they_are() -> None:
    x = pa.asarray([1.0, 2.0])
    y = x.to("xla")
    assert (x.device, str(y.device)) == (pa.get_default_device(), "xla")
    assert (y * 2.0).to("numpy").tolist() == [2.0, 4.0]
    with pa.device("xla"):
        assert str(pa.asarray([1.0]).device) == "xla"
    assert {"numpy", "null", "xla"} <= {d.backend for d in pa.devices()}
