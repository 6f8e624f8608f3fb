"""Packed copies on `cpu`: made when an input is used so again, without a bit of difference, and gone
with the buffer that they are copies of."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.backends.cpu import product_copy
from proa.backends.cpu.backend import PACKED_AT
from proa.backends.cpu.engine import counts
from proa.backends.cpu.product_copy import Copied, Copy
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.config import config
from proa.dtypes import dtype
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Input, Role
from proa.graph.spec import spec
from proa.ops.primitive import REGISTRY, apply

CPU: Any = backend("cpu")
DEVICE = CPU.devices()[0]
N, K = 330, 500


def products(*letters: str, kind: str = "float32") -> tuple[Any, list[Any]]:
    """Products of a weight [N, K] with a row, each with its letters, and buffers for both."""
    shapes = ((N, K), (1, K))
    builder = Builder([Input(spec(s, dtype(kind)), Role.DATA) for s in shapes])
    weight, row = builder.input_values()
    with use_sink(builder):
        made = [apply(REGISTRY["dot"], [row, weight], **letters_of(x)) for x in letters]
    graph = builder.graph(made)
    draw = np.random.default_rng(3)
    arrays = [draw.standard_normal(s).astype(dtype(kind).numpy) for s in shapes]
    buffers = [CPU.put(a, i.spec, DEVICE) for a, i in zip(arrays, graph.inputs, strict=True)]
    return CPU.compile(lower(graph, CPU, DEVICE)), buffers


def letters_of(text: str) -> dict[str, str]:
    return dict(zip(("a", "b", "out"), text.split(), strict=True))


def bits(found: list[Any]) -> list[bytes]:
    return [b.host().tobytes() for b in found]


@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16"])
def test_a_few_uses_pack_and_all_are_alike(kind: str) -> None:
    run, buffers = products("mk nk mn", kind=kind)
    weight, row = buffers
    assert run.report["packed_inputs"] == 1
    first, plain = bits(run(buffers)), weight.nbytes
    assert type(weight.copy) is Copied and weight.nbytes == plain
    for _ in range(PACKED_AT - 2):
        assert bits(run(buffers)) == first and type(weight.copy) is Copied
    second, made = bits(run(buffers)), weight.copy
    assert type(made) is Copy and weight.nbytes >= 2 * plain
    assert bits(run(buffers)) == second == first
    assert weight.copy is made and row.copy is None
    count = pa.get_num_threads()
    try:
        for threads in (1, 2):
            pa.set_num_threads(threads)
            assert bits(run(buffers)) == first
            assert bits(run([CPU.put(weight.host(), weight.spec, DEVICE), row])) == first
    finally:
        pa.set_num_threads(count)


def test_the_copy_serves_every_program() -> None:
    """One copy for all uses in a program, and for other programs, wherever the input stands."""
    run, buffers = products("mk nk mn", "mk nk nm")
    assert run.report["packed_inputs"] == 1
    found = [bits(run(buffers)) for _ in range(PACKED_AT + 1)]
    made, emitted = buffers[0].copy, counts.objects_emitted
    other, _ = products("mk nk mn")
    assert bits(other(buffers)) == found[0][:1] and buffers[0].copy is made
    assert len({*map(tuple, found)}) == 1 and counts.objects_emitted == emitted


def test_it_goes_with_the_buffer() -> None:
    run, buffers = products("mk nk mn")
    for _ in range(PACKED_AT):
        run(buffers)
    gone = weakref.ref(buffers[0].copy.array)
    buffers.clear()
    gc.collect()
    assert gone() is None


def test_what_is_written_anew_is_never_packed() -> None:
    run, buffers = products("mk nk mn")
    for _ in range(PACKED_AT + 1):
        fresh = [CPU.put(b.host(), b.spec, DEVICE) for b in buffers]
        run(fresh)
        assert type(fresh[0].copy) is Copied


def test_no_copy_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_copy, "free_bytes", lambda: N * K * 4)
    run, buffers = products("mk nk mn")
    found = [bits(run(buffers)) for _ in range(PACKED_AT + 1)]
    assert type(buffers[0].copy) is not Copy and found == found[:1] * len(found)


def test_none_in_the_checked_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, buffers = products("mk nk mn")
    wanted = bits(plain(buffers))
    monkeypatch.setattr(config, "cpu_checked", True)
    run, buffers = products("mk nk mn")
    assert [bits(run(buffers)) for _ in range(PACKED_AT)] == [wanted] * PACKED_AT
    assert type(buffers[0].copy) is not Copy


def test_only_whole_inputs_along_k_are_packed() -> None:
    """Not a weight [K, N], which is read as it lies, nor an operand that is computed."""
    for row, letters, plus in ((N, "mk kn mn", 0.0), (K, "mk nk mn", 1.0)):
        builder = Builder([Input(spec(s, dtype("float32")), Role.DATA) for s in ((N, K), (1, row))])
        weight, x = builder.input_values()
        with use_sink(builder):
            weight = weight + plus if plus else weight
            made = apply(REGISTRY["dot"], [x, weight], **letters_of(letters))
        run = CPU.compile(lower(builder.graph([made]), CPU, DEVICE))
        assert run.report["packed_inputs"] == 0


def test_tensors_one_by_one_and_whole() -> None:
    draw = np.random.default_rng(1)
    w, x = (pa.asarray(draw.standard_normal(s).astype(np.float32), device="cpu")
            for s in ((N, K), (K, 1)))  # fmt: skip
    found = [(w @ x).numpy().tobytes() for _ in range(4)]
    jitted = pa.jit(lambda w, x: w @ x)
    found += [jitted(w, x).numpy().tobytes() for _ in range(PACKED_AT)]
    assert type(w.value.buffer.copy) is Copy and len(set(found)) == 1
    assert (w @ pa.concat([x] * 9, axis=1)).numpy()[:, :1].tobytes() == found[0]
