"""Programs of a template on `cpu`: at other sizes of its dims nothing is planned anew, and every bit
is that of a program made for these sizes alone."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.backends.cpu.engine import counts
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.seen import works
from proa.capture.trace import record
from proa.compile.find import backend
from proa.compile.program import Program
from proa.compile.stages import lower
from proa.config import config
from proa.errors import ProaError
from proa.graph.graph import Graph
from proa.graph.template import fit
from proa.nn import functional
from tests.test_cpu import same

CPU = backend("cpu")
DEVICE = CPU.devices()[0]
SIZES = (2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 64, 100, 255, 256, 257, 1000)
FEW = (2, 3, 7, 8, 9, 16, 17, 40)
Shapes = tuple[tuple[Any, ...], ...]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kernels are kept in a folder of these tests."""
    before = config.cache_dir
    config.cache_dir = tmp_path_factory.mktemp("kernels")
    yield
    config.cache_dir = before


def graph_of(f: Callable[..., Any], shapes: Shapes, names: tuple[str, ...]) -> Graph:
    given = [pa.asarray(np.ones(s, n), device="cpu") for s, n in zip(shapes, names, strict=True)]
    pa.sync()
    return lower(record("test", lambda: f(*given), settled=True).graph(), CPU, DEVICE).graph


def filled(shapes: Shapes, sizes: dict[str, int]) -> Shapes:
    return tuple([tuple([sizes.get(n, n) if type(n) is str else n for n in s]) for s in shapes])


def program(
    f: Callable[..., Any], shapes: Shapes, dims: tuple[str, ...], points: Any,
    names: tuple[str, ...] = (),
) -> Program:  # fmt: skip
    names = names or ("float32",) * len(shapes)
    graphs = [graph_of(f, filled(shapes, dict(zip(dims, p, strict=True))), names) for p in points]
    found = fit(graphs, dims, points)
    return Program(found.graph, DEVICE, template=found)


def values(graph: Graph) -> list[Any]:
    """Numbers for the inputs of a graph; of integers small ones."""
    draw = np.random.default_rng(3)
    made = []
    for given in graph.inputs:
        of = given.spec
        if of.dtype.kind == "int":
            made.append(draw.integers(0, 6, of.shape).astype(of.dtype.numpy))
        else:
            made.append(draw.standard_normal(of.shape).astype(of.dtype.numpy))
    return made


def run(executable: Any, graph: Graph) -> list[Any]:
    pairs = zip(values(graph), graph.inputs, strict=True)
    return [b.host() for b in executable([CPU.put(a, i.spec, DEVICE) for a, i in pairs])]


def planned(executable: Any) -> list[Any]:
    """What a program does, without the places of its memories."""
    return [
        (a.kernel.key, a.operands, a.results, a.table, a.tiles, a.scratch, a.alike)
        if type(a) is Call else (a.entry, a.operands, a.results)
        for a in executable.nests.actions
    ]  # fmt: skip


def checked(made: Program, every: Any) -> Any:
    """The executable of a program, after it gave what others give at all these sizes."""
    executable = CPU.compile(made)
    template: Any = made.template
    for sizes in every:
        graph = template.bind(sizes)
        alone = CPU.compile(Program(graph, DEVICE))
        found = executable.at(sizes)
        for a, b in zip(run(found, graph), run(alone, graph), strict=True):
            assert same(a, b), (sizes, a.shape)
        assert planned(found) == planned(alone), sizes
        assert found.peak_bytes <= 1.25 * alone.peak_bytes + 1000
    assert not executable.report["planned_alone"]
    return executable


def mlp(*widths: int) -> Callable[..., Any]:
    pa.manual_seed(0)
    layers = [m for a, b in zip(widths, widths[1:], strict=False) for m in
              (nn.Linear(a, b), nn.ReLU())]  # fmt: skip
    net = nn.Sequential(*layers[:-1]).to("cpu")
    opt = pa.optim.AdamW(net.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return [loss, *net.parameters()]

    return step


def attention(x: Any) -> Any:
    b, n, w = x.shape
    h = x.reshape((b, n, 2, w // 2)).permute((0, 2, 1, 3))
    mask = pa.arange(n, device="cpu")[:, None] >= pa.arange(n, device="cpu")[None, :]
    p = pa.softmax(pa.where(mask, h @ h.permute((0, 1, 3, 2)), -1e9), axis=-1)
    y = (p @ h).permute((0, 2, 1, 3)).reshape((b * n, w))
    return pa.concat([y, x.reshape((b * n, w))]).mean(), y[: n - 1]


W = np.random.default_rng(1).standard_normal((96, 70)).astype("float32")

ROWS: dict[str, tuple[Callable[..., Any], Shapes]] = {
    "chain": (lambda x, y: (pa.exp(x) * y + 1.5, pa.where(x > y, x, -y)), (("n", 33), (33,))),
    "turned": (lambda x: pa.sin(x.T) + x.T * 2, (("n", 20),)),
    "flipped": (lambda x: pa.flip(x, 0) - x[:, None, ::2].sum(-1), (("n", 12),)),
    "along": (lambda x: (x.sum(1), x.max(1), pa.softmax(x, -1)), (("n", 40),)),
    "across": (lambda x: (x.sum(0), x.max(0), x.mean(0)), (("n", 40),)),
    "across_wide": (lambda x: (x * 2).sum(0), (("n", 20000),)),
    "all": (lambda x: (x.sum(), x.min()), (("n", 600),)),
    "norm": (lambda x, w: (functional.layer_norm(x, (64,), w)), (("n", 64), (64,))),
    "batch_norm": (lambda x: (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt(), (("n", 24),)),
    "along_dim": (lambda x: pa.softmax(x, -1) + x.cumsum(1), ((6, "n"),)),
    "product": (lambda x, w: x @ w, (("n", 70), (70, 90))),
    "product_turned": (lambda x, w: x @ w.T, (("n", 70), (96, 70))),
    "product_wide": (lambda x, w: x @ w.T, (("n", 700), (400, 700))),
    "product_inner": (lambda x, y: x.T @ y, (("n", 30), ("n", 50))),
    "product_columns": (lambda w, x: w @ x, ((40, 70), (70, "n"))),
    "product_both": (lambda x: x @ x.T, (("n", 24),)),
    "product_batch": (lambda x, y: x @ y, (("n", 10, 20), ("n", 20, 30))),
    "pair": (lambda x, y: pa.tensordot(x, y, 1), (("n",), ("n",))),
    "vector": (lambda x, w: w @ x, (("n",), (50, "n"))),
    "concatenate": (lambda x, y: pa.concat([x, y, x]), (("n", 9), (5, 9))),
    "pad": (lambda x: functional.pad(x, (0, 3, 2, 1)), (("n", 9),)),
    "slice": (lambda x: x[1:, ::3] + 1, (("n", 9),)),
    "cumsum": (lambda x: (x.cumsum(0), x.cumsum(1)), (("n", 9),)),
    "argmax": (lambda x: (x.argmax(0), x.argmax(1)), (("n", 9),)),
    "scan": (lambda x: pa.scan(lambda c, r: (c + r.sum(), c * r), pa.zeros((), device="cpu"), x),
             (("n", 5),)),
    "positions": (lambda x: x + pa.arange(x.shape[0], device="cpu")[:, None], (("n", 7),)),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_bits_are_those_of_a_program_for_these_sizes(name: str) -> None:
    f, shapes = ROWS[name]
    made = program(f, shapes, ("n",), [(12,), (21,), (35,)])
    sizes = FEW if name in ("across_wide", "scan") else SIZES
    checked(made, [(n,) for n in sizes])


def test_rows_by_index() -> None:
    def f(x: Any, i: Any) -> Any:
        gradient = pa.grad(lambda w: (functional.embedding(i, w) * w[:1]).square().sum())(x)
        return functional.embedding(i, x), gradient, x[i] * 2, x[1:, i % 8]

    shapes = ((11, 8), ("n",))
    made = program(f, shapes, ("n",), [(12,), (21,), (35,)], ("float32", "int64"))
    checked(made, [(n,) for n in SIZES])


def test_patches() -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1).to("cpu")
    made = program(lambda x: conv(x), (("n", 3, 10, 10),), ("n",), [(4,), (7,), (9,)])
    checked(made, [(n,) for n in (2, 3, 4, 8, 9, 17, 40)])
    made = program(lambda x: conv(x), ((2, 3, "n", 8),), ("n",), [(4,), (7,), (9,)])
    checked(made, [(n,) for n in (3, 4, 8, 9, 17, 40)])


@pytest.mark.parametrize("sizes", [(3, 4), (2, 2), (5, 5), (1, 9), (9, 1), (8, 64), (17, 33)])
def test_two_dims(sizes: Any) -> None:
    made = program(attention, (("b", "n", 4),), ("b", "n"), [(5, 7), (11, 13), (17, 9), (6, 21)])
    checked(made, [sizes, (6, 8), sizes])


def test_training() -> None:
    points = [(12,), (21,), (35,)]
    made = program(mlp(20, 32, 32, 5), (("n", 20), ("n",)), ("n",), points, ("float32", "int64"))
    executable = checked(made, [(n,) for n in SIZES])
    assert executable.report["variants"] <= 10


def test_nothing_is_made_anew() -> None:
    """Other sizes of one variant: no plan, no kernel, no object."""
    points = [(40,), (50,), (70,)]
    made = program(mlp(20, 32, 32, 5), (("n", 20), ("n",)), ("n",), points, ("float32", "int64"))
    executable = CPU.compile(made)
    assert executable.at((40,)) is executable
    executable.at((41,))
    before, variants = counts.kernels, executable.report["variants"]
    tables = {tuple(executable.at((n,)).words) for n in range(41, 60)}
    assert len(tables) == 19
    assert (counts.kernels, executable.report["variants"]) == (before, variants)
    assert executable.at((41,)) is not executable.at((42,))
    assert executable.at((41,)) is executable.at((41,))


def test_what_is_told_is_of_these_sizes() -> None:
    """Nests, bytes and the graph as they are at the sizes, not at those of the plan."""
    made = program(lambda x: pa.softmax(x, -1).sum(0), (("n", 40),), ("n",), [(6,), (9,), (20,)])
    executable = CPU.compile(made)
    for n in (100, 101, 300):
        found, template = executable.at((n,)), made.template
        assert template is not None
        alone = CPU.compile(Program(template.bind((n,)), DEVICE))
        assert found.peak_bytes == alone.peak_bytes
        assert found.program.graph.input_specs()[0].shape == (n, 40)
        assert works(found.nests, found.program) == works(alone.nests, alone.program)


def test_sizes_that_a_step_refuses() -> None:
    made = program(lambda x: x[2:] + x[:-2], (("n", 3),), ("n",), [(5,), (7,), (9,)])
    executable = CPU.compile(made)
    with pytest.raises(ProaError, match="window inside"):
        executable.at((1,))
    checked(made, [(2,), (3,), (4,)])


def test_sizes_of_nothing_and_of_one() -> None:
    made = program(lambda x: (pa.exp(x).sum(0), x * 2), (("n", 30),), ("n",), [(6,), (9,), (20,)])
    checked(made, [(0,), (1,), (2,), (1,), (0,)])


def test_several_threads_ask_at_once() -> None:
    made = program(mlp(6, 8, 3), (("n", 6), ("n",)), ("n",), [(6,), (9,), (20,)],
                   ("float32", "int64"))  # fmt: skip
    executable, template, wrong = CPU.compile(made), made.template, []
    assert template is not None
    every = list(range(2, 60))
    graphs = {n: template.bind((n,)) for n in every}
    right = {n: run(CPU.compile(Program(g, DEVICE)), g) for n, g in graphs.items()}

    def ask(first: int) -> None:
        for n in every[first:] + every[:first]:
            found = run(executable.at((n,)), graphs[n])
            wrong.extend([n for a, b in zip(found, right[n], strict=True) if not same(a, b)])

    threads = [threading.Thread(target=ask, args=(7 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_lie_where_donated_inputs_did() -> None:
    """Also at other sizes, and only where it pays there."""
    made = program(lambda x: pa.exp(x) * x.sum(0), (("n", 300),), ("n",), [(400,), (500,), (700,)])
    executable = CPU.compile(made)
    assert [executable.at((n,)).overwrites for n in (5, 450)] == [frozenset(), frozenset({0})]


def test_nothing_is_kept_forever() -> None:
    made = program(lambda x: x * 2 + x.T.sum(), (("n", 3),), ("n",), [(5,), (7,), (9,)])
    executable = CPU.compile(made)
    for n in range(2, 80):
        executable.at((n,))
    assert len(executable.sized.kept) <= 16 and len(executable.sized.variants) <= 16
    gc.collect()
    gc.disable()
    try:
        one, whole = ref(executable.at((79,))), ref(executable)
        del executable
        assert one() is None and whole() is None
    finally:
        gc.enable()
