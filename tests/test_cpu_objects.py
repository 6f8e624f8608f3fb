"""Objects made by several threads at once, and what the first tier does not run by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proa import dtypes
from proa.backends.cpu import objects
from proa.backends.cpu import target as targets
from proa.backends.cpu.engine import Engine, counts
from proa.backends.cpu.objects import emitted, generator, together
from proa.compile.find import backend
from proa.compile.stages import lower
from proa.compile.tiers import OneByOne
from proa.config import config
from proa.graph.build import Builder, use_sink
from proa.graph.spec import spec
from proa.ops.movement import broadcast, reshape
from proa.ops.primitive import REGISTRY, apply
from tests.test_cpu import kernels_of, on

CPU = backend("cpu")


def some_kernels() -> list[Any]:
    found = {}
    for name in ("exp", "tanh", "sqrt", "abs", "neg", "log"):
        builder = Builder()
        x = builder.input(spec((70, 9), dtypes.float32))
        with use_sink(builder):
            made = apply(REGISTRY[name], [x])
        found |= {k.key: k for k in kernels_of(builder.graph([made]))}
    return list(found.values())


class Broken:
    key = "broken"

    def ir(self, name: str, machine: Any) -> str:
        return "this is no module"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_many_threads_make_what_one_makes(monkeypatch: Any, count: int) -> None:
    monkeypatch.setattr(objects, "cores", lambda: count)
    kernels, machine = some_kernels(), targets.target()
    code = generator(machine)
    alone = {k.key: emitted(k, machine, code) for k in kernels}
    for _ in range(3):
        assert together([*kernels, Broken()], machine, code) == alone


def test_without_the_library_one_thread_makes_them(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    monkeypatch.setattr(objects, "_library", lambda: None)
    kernels, before = some_kernels(), counts.objects_emitted
    engine = Engine(targets.target())
    engine.prepare(kernels)
    assert counts.objects_emitted == before + len(kernels)
    assert all(engine.table[k.key] for k in kernels)


def test_prepared_once_and_found_on_the_disk(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    kernels, before = some_kernels(), counts.objects_emitted
    engine = Engine(targets.target())
    engine.prepare([*kernels, *kernels])
    engine.prepare(kernels)
    assert counts.objects_emitted == before + len(kernels)
    table = dict(engine.table)
    assert [engine.find(k) for k in kernels] == [table[k.key] for k in kernels]
    Engine(targets.target()).prepare(kernels)
    assert counts.objects_emitted == before + len(kernels)


def test_a_kernel_that_fails_says_why_and_the_others_can_be_made(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    kernels, engine = some_kernels(), Engine(targets.target())
    with pytest.raises(RuntimeError, match="parsing"):
        engine.prepare([*kernels, Broken()])
    engine.prepare(kernels)
    assert all(engine.table[k.key] for k in kernels)


def test_an_interruption_leaves_nothing_half_made(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    monkeypatch.setattr(objects, "cores", lambda: 2)
    kernels, engine, main = some_kernels(), Engine(targets.target()), threading.get_ident()

    class Interrupting:
        key = "interrupting"

        def ir(self, name: str, machine: Any) -> str:
            if threading.get_ident() == main:
                raise KeyboardInterrupt
            raise ValueError

    beside = objects._beside

    def slow(text: str, code: Any) -> Any:  # so that this thread gets one of the interruptions
        if threading.get_ident() != main:
            threading.Event().wait(0.05)
        return beside(text, code)

    monkeypatch.setattr(objects, "_beside", slow)
    with pytest.raises(KeyboardInterrupt):
        engine.prepare(
            [*kernels[:2], *[_numbered(Interrupting(), i) for i in range(20)], kernels[2]]
        )
    engine.prepare(kernels)
    assert all(engine.table[k.key] for k in kernels)


def _numbered(kernel: Any, number: int) -> Any:
    kernel.key = f"{kernel.key} {number}"
    return kernel


def test_the_first_tier_stores_nothing_that_only_repeats() -> None:
    builder = Builder()
    x, s = builder.input(spec((40, 33), dtypes.float32)), builder.input(spec((40,), dtypes.float32))
    with use_sink(builder):
        wide = apply(broadcast, [s], shape=(40, 33), axes=(0,))
        flat = apply(reshape, [x + wide], shape=(1320,))
        last = apply(reshape, [flat * flat], shape=(33, 40))
    graph = builder.graph([last])
    program = lower(graph, CPU, CPU.devices()[0])
    tier = OneByOne(program, CPU)
    names = [[s.entry.primitive.name for s in p.steps] for _, p in tier.pieces]
    assert names == [["broadcast", "add"], ["reshape", "mul"], ["reshape"]]
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(i.spec.shape).astype(np.float32) for i in graph.inputs]
    (found,), (whole,) = on(graph, arrays, tier), on(graph, arrays, CPU.compile(program))
    assert found.tobytes() == whole.tobytes()
    assert found.tobytes() == ((arrays[0] + arrays[1][:, None]) ** 2).reshape(33, 40).tobytes()


def test_interruptions_while_kernels_are_made(tmp_path: Path) -> None:
    """Wherever one falls, the next attempt works: no name is used twice, no lock is waited for."""
    program = """
        import itertools, signal
        import numpy as np
        import proa as pa

        class Interrupted(Exception):
            pass

        def interrupt(*given):
            raise Interrupted

        signal.signal(signal.SIGALRM, interrupt)
        x = pa.asarray(np.ones((3, 5), np.float32))
        functions = [pa.exp, pa.log1p, pa.sin, pa.tanh]
        for number, (f, g, h) in enumerate(itertools.product(functions, repeat=3)):
            step = pa.jit(lambda x: f(g(h(x))) + g(x))
            expected = f(g(h(x))) + g(x)
            for attempt in range(3):
                try:
                    after = 1e-4 * (1 + 37 * (3 * number + attempt) % 150)
                    signal.setitimer(signal.ITIMER_REAL, after)
                    step(x).numpy()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert (step(x).numpy() == expected.numpy()).all()
    """
    text = textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=100, check=False,
        env=os.environ | {"PROA_DEVICE": "cpu", "PROA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
