"""`export` and `load`: a folder without Python is the function again, and says what does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.errors import (
    ArgumentError,
    DtypeError,
    ExportError,
    FileError,
    JitError,
    MissingFile,
    ProaError,
    ShapeError,
)
from proa.examples.gpt import GPT, Config
from proa.exports.operations import NAMES, OPERATIONS
from proa.nn import functional as F  # noqa: N812
from proa.ops.primitive import REGISTRY

ROOT = Path(__file__).parent.parent
Pair = namedtuple("Pair", ["left", "right"])


def bits(tree: Any) -> list[Any]:
    """Every leaf as what can be compared bit by bit."""
    leaves = pa.tree.flatten(tree)[0]
    return [
        (t.shape, t.dtype, t.numpy().tobytes()) if isinstance(t, pa.Tensor) else t for t in leaves
    ]


def draw(*shape: int, dtype: Any = pa.float32, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    return pa.asarray(rng.standard_normal(shape), dtype=dtype)


def again(function: Any, specs: Any, path: Path, **options: Any) -> Any:
    pa.export(function, specs, path / "f", **options)
    assert sorted(os.listdir(path / "f")) == ["graph.json", "weights.safetensors"]
    return pa.load(path / "f")


# Functions, with specs and the sizes at which they are called.

POSITIONS = draw(16, 4, seed=9)
ERROR_WEIGHT = draw(4, 4, seed=8)


def recurrent(xs: Any, h: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = (h @ ERROR_WEIGHT + x).tanh()
        return h, h.sum(axis=-1)

    return pa.scan(step, h, xs)


def newton(a: Any) -> Any:
    return pa.while_loop(lambda x: pa.abs(x * x - a).max() > 1e-5, lambda x: 0.5 * (x + a / x), a)


def collatz(n: Any) -> Any:
    return pa.while_loop(
        lambda c: c[0] > 1,
        lambda c: (pa.cond(c[0] % 2 == 0, lambda x: x // 2, lambda x: 3 * x + 1, c[0]), c[1] + 1),
        (n, pa.asarray(0)),
    )


def drawn(key: Any) -> Any:
    generator = pa.Generator()
    generator.set_state(key)
    shape = (3, 2)
    return pa.random.normal(shape, generator=generator), generator.get_state()


@pa.custom_vjp
def tripled(x: Any) -> Any:
    return x * x


tripled.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))

CASES: dict[str, Any] = {
    "sum and sizes": (
        lambda x: x.sum() / x.shape[0] + x.shape[0] * x.shape[1],
        [pa.spec(("n", "m"))],
        lambda k: [draw(k, k + 2)],
    ),
    "mean": (lambda x: x.mean(axis=0), [pa.spec(("n", 3))], lambda k: [draw(k, 3)]),
    "reshape": (
        lambda x: x.reshape(x.shape[0] * x.shape[1], -1).mT,
        [pa.spec(("n", "m", 4))],
        lambda k: [draw(k, 3, 4)],
    ),
    "window": (
        lambda x: x[:, 1:-1] - x[:, :-2], [pa.spec(("n", "m"))], lambda k: [draw(k, k + 3)]
    ),
    "positions": (
        lambda x: x + POSITIONS[: x.shape[0]], [pa.spec(("n", 4))], lambda k: [draw(k, 4)]
    ),
    "triangle": (
        lambda x: x * pa.tril(pa.ones(x.shape)), [pa.spec(("n", "n"))], lambda k: [draw(k, k)]
    ),
    "gather": (
        lambda x, i: x[i].sum(axis=0),
        [pa.spec(("n", 4)), pa.spec(("k",), pa.int64)],
        lambda k: [draw(k, 4), pa.arange(k) % 2],
    ),
    "scan": (
        recurrent,
        [pa.spec(("t", "b", 4)), pa.spec(("b", 4))],
        lambda k: [draw(k, 2, 4), draw(2, 4)],
    ),
    "while": (newton, [pa.spec(("n",))], lambda k: [pa.arange(k, dtype=pa.float32) + 1.0]),
    "cond in a loop": (collatz, [pa.spec((), pa.int64)], lambda k: [pa.asarray(k)]),
    "half": (
        lambda x: F.softmax(x.half() @ x.half().mT, -1), [pa.spec(("n", 8))], lambda k: [draw(k, 8)]
    ),
    "bfloat16": (
        lambda x: F.layer_norm(x.bfloat16(), (8,)), [pa.spec(("n", 8))], lambda k: [draw(k, 8)]
    ),
    "random": (
        drawn, [pa.spec((4,), pa.uint32)], lambda k: [pa.Generator(k).get_state()]
    ),
    "gradient": (
        lambda x: pa.grad(lambda y: (pa.sin(y) ** 2).sum())(x),
        [pa.spec(("n", 3))],
        lambda k: [draw(k, 3)],
    ),
    "custom": (lambda x: tripled(x).sum(), [pa.spec(("n",))], lambda k: [draw(k)]),
    "checkpoint": (
        lambda x: pa.checkpoint(lambda y: pa.sin(pa.sin(y)))(x), [pa.spec(("n",))],
        lambda k: [draw(k)],
    ),
    "einsum": (
        lambda x, y: pa.einsum("bij,bjk->bik", x, y),
        [pa.spec(("b", "i", "j")), pa.spec(("b", "j", 2))],
        lambda k: [draw(k, 3, 4), draw(k, 4, 2)],
    ),
    "sort": (
        lambda x: (pa.sort(x), pa.argmax(x), pa.cumulative_sum(x)),
        [pa.spec(("n",))],
        lambda k: [draw(k)],
    ),
    "transformer": (
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(),
        [pa.spec(("batch", "length", 16))],
        lambda k: [draw(k, k + 1, 16)],
    ),
    "images": (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 2),
        ).eval(),
        [pa.spec(("batch", 3, "height", "width"))],
        lambda k: [draw(k, 3, k + 6, k + 7)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_a_loaded_function_is_the_function(name: str, tmp_path: Path) -> None:
    function, specs, make = CASES[name]
    loaded = again(function, specs, tmp_path)
    for k in (3, 1, 6, 11):
        args = make(k)
        assert bits(loaded(*args)) == bits(function(*args)), (name, k)


@pytest.mark.parametrize("name", ["scan", "transformer", "images", "cond in a loop", "custom"])
@pytest.mark.parametrize("device", ["numpy", "xla"])
def test_it_runs_on_another_backend(name: str, device: str, tmp_path: Path) -> None:
    function, specs, make = CASES[name]
    pa.export(function, specs, tmp_path / "f")
    loaded = pa.load(tmp_path / "f", device=device)
    args = make(4)
    found = loaded(*[a.to(device) for a in args])
    for x, y in zip(pa.tree.flatten(found)[0], pa.tree.flatten(function(*args))[0], strict=True):
        assert x.device.backend == device
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=2e-5, atol=2e-5)


def test_the_model_of_the_demo(tmp_path: Path) -> None:
    """Dims for batch and length, in a process that has neither its code nor `proa.nn`."""
    pa.manual_seed(0)
    model = GPT(Config(vocabulary=64, context=24, width=16, layers=2, heads=2)).eval()
    pa.export(model, [pa.spec(("batch", "length"), pa.int64)], tmp_path / "gpt")
    for i, (batch, length) in enumerate([(1, 24), (3, 7), (2, 1)]):
        ids = pa.asarray(np.random.default_rng(i).integers(0, 64, (batch, length)))
        np.save(tmp_path / f"x{i}.npy", ids.numpy())
        np.save(tmp_path / f"y{i}.npy", model(ids).numpy())
    run(f"""
        import sys
        import numpy as np
        import proa as pa
        f = pa.load({str(tmp_path / "gpt")!r})
        for i in range(3):
            y = f(pa.asarray(np.load({str(tmp_path)!r} + f"/x{{i}}.npy"))).numpy()
            assert y.tobytes() == np.load({str(tmp_path)!r} + f"/y{{i}}.npy").tobytes()
        rooms = ("proa.nn", "proa.optim", "proa.examples")
        assert not [m for m in sys.modules if m.startswith(rooms)], sys.modules
    """)


def test_it_runs_when_the_code_is_gone(tmp_path: Path) -> None:
    module = tmp_path / "private_model.py"
    module.write_text(
        textwrap.dedent("""
        import proa as pa
        from proa import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(3, 2)

            def forward(self, x, scale):
                return {"y": self.inner(x) * scale["by"]}

        net = Net()
    """)
    )
    run(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np, proa as pa
        from private_model import net
        specs = [pa.spec(("n", 3)), {{"by": pa.spec(())}}]
        pa.export(net, specs, {str(tmp_path / "f")!r})
        x = pa.ones((4, 3))
        np.save({str(tmp_path / "y.npy")!r}, net(x, {{"by": pa.asarray(2.0)}})["y"].numpy())
    """)
    module.unlink()
    for file in (tmp_path / "f").iterdir():
        text = file.read_bytes()
        assert b"import" not in text and b"lambda" not in text and b"def " not in text
    run(f"""
        import sys
        import numpy as np, proa as pa
        f = pa.load({str(tmp_path / "f")!r})
        y = f(pa.ones((4, 3)), scale={{"by": pa.asarray(2.0)}})["y"].numpy()
        assert y.tobytes() == np.load({str(tmp_path / "y.npy")!r}).tobytes()
        assert sorted(f.weights) == ["inner.bias", "inner.weight"] and "private_model" not in sys.modules
    """)


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


# Signatures.


def test_trees_and_constants_go_in_and_out(tmp_path: Path) -> None:
    def function(pair: Any, flag: bool, rows: Any, *, scale: Any) -> Any:
        total = pair.left + rows[0]["x"] * scale
        return Pair([total, None], {"n": 3, 7: (pair.right if flag else total, "text")})

    specs = {
        "pair": Pair(pa.spec((2,)), pa.spec(("n",))), "flag": True,
        "rows": [{"x": pa.spec((2,))}], "scale": pa.spec(()),
    }  # fmt: skip
    loaded = again(function, specs, tmp_path)
    args = (Pair(pa.ones(2), pa.zeros(5)), True, [{"x": pa.ones(2)}])
    expected = function(*args, scale=pa.asarray(2.0))
    found = loaded(*args, scale=2.0)
    assert bits(found) == bits(expected)
    assert found.left[1] is None and found.right["n"] == 3 and found.right[7][1] == "text"
    assert type(found).__name__ == "Pair" and type(found.left) is list
    assert list(loaded.inputs) == ["pair.left", "pair.right", "rows[0]['x']", "scale"]
    assert list(loaded.outputs) == ["result.left[0]", "result.right[7][0]"]
    assert "n >= 0" in repr(loaded)
    with pytest.raises(ArgumentError, match="flag = False"):
        loaded(args[0], False, args[2], scale=2.0)
    with pytest.raises(ArgumentError, match="at most 3"):
        loaded(*args, pa.asarray(2.0))


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    def function(x: Any, rows: Any) -> Any:
        return x @ rows["w"]

    loaded = again(function, [pa.spec(("batch", 3)), {"w": pa.spec((3, "out"))}], tmp_path)
    w = pa.ones((3, 2))
    for args, kind, words in [
        ((pa.ones((2, 3), dtype=pa.float64), {"w": w}), DtypeError, r"given x of float64\[2, 3\]"),
        ((pa.ones((2, 4)), {"w": w}), ShapeError, r"x of float32\[2, 4\], expected float32\[batch"),
        ((pa.ones((3,)), {"w": w}), ShapeError, r"given x of float32\[3\]"),
        ((pa.ones((2, 3)), {"w": pa.ones((4, 2))}), ShapeError, r"given rows\['w'\] of"),
        ((pa.ones((2, 3)), {"v": w}), ArgumentError, r"rows = a dict with the keys \['v'\]"),
        ((pa.ones((2, 3)), [w]), ArgumentError, "rows = a list of 1"),
        ((pa.ones((2, 3)), {"w": "w"}), DtypeError, r"rows\['w'\] = 'w'"),
        ((pa.ones((2, 3)), {"w": None}), DtypeError, r"rows\['w'\] = None"),
        ((pa.ones((2, 3)),), ArgumentError, "no rows"),
        ((), ArgumentError, "no x and no rows"),
        ((1, 2, 3), ArgumentError, "3 arguments"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=words) as caught:  # type: ignore[call-overload]
            loaded(*args)
        assert str(caught.value).startswith("[function] given ")
    with pytest.raises(ArgumentError, match="'y'"):
        loaded(pa.ones((2, 3)), {"w": w}, y=1)
    with pytest.raises(ArgumentError, match="'x' twice"):
        loaded(pa.ones((2, 3)), x=pa.ones((2, 3)), rows={"w": w})


def test_one_name_is_one_size(tmp_path: Path) -> None:
    loaded = again(lambda x, y: x + y, [pa.spec(("n", 2)), pa.spec(("n", 2))], tmp_path)
    with pytest.raises(
        ShapeError, match=r"y.shape\[0\] = 4, expected n = 3, which is x.shape\[0\]"
    ):
        loaded(pa.ones((3, 2)), pa.ones((4, 2)))


def test_sizes_that_python_asked_for_are_bounds(tmp_path: Path) -> None:
    loaded = again(lambda x: x * 2.0 if x.shape[0] <= 100 else x, [pa.spec(("n",))], tmp_path)
    assert loaded.signature.dims == {"n": (0, 100)}
    assert loaded(pa.ones(100)).tolist() == [2.0] * 100
    with pytest.raises(ShapeError, match=r"x.shape\[0\] = 101, expected 0 <= n <= 100"):
        loaded(pa.ones(101))
    loaded = again(lambda x: x[: x.shape[0] - 2].sum(), [pa.spec(("n",))], tmp_path)
    assert loaded.signature.dims["n"][0] in (2, 3) and loaded(pa.ones(5)).item() == 3.0


def test_examples_of_sizes(tmp_path: Path) -> None:
    def long(x: Any) -> Any:
        if x.shape[0] < 30:
            raise ValueError("at least thirty")
        return x.sum()

    with pytest.raises(ValueError, match="thirty"):
        pa.export(long, [pa.spec(("n",))], tmp_path / "g")
    loaded = again(long, [pa.spec(("n",))], tmp_path, sizes={"n": (40, 50, 70)})
    assert loaded.signature.dims == {"n": (30, None)} and loaded(pa.ones(90)).item() == 90.0
    wide = nn.Conv1d(1, 1, 20)  # where small sizes are no good larger ones are tried
    loaded = again(wide, [pa.spec(("n", 1, "length"))], tmp_path)
    assert bits(loaded(pa.ones((2, 1, 20)))) == bits(wide(pa.ones((2, 1, 20))))
    with pytest.raises(ShapeError, match=r"shape\[2\] = 5, expected 20 <= length"):
        loaded(pa.ones((2, 1, 5)))
    for wrong in ((1, 2), (0, 1, 2), (3, 3, 3)):
        with pytest.raises(ArgumentError, match="three or more"):
            pa.export(long, [pa.spec(("n",))], tmp_path / "g", sizes={"n": wrong})
    with pytest.raises(ArgumentError, match="'m'"):
        pa.export(long, [pa.spec(("n",))], tmp_path / "g", sizes={"m": (1, 2, 3)})


# What cannot be exported.


def here(line: int) -> str:
    return rf"test_export\.py:{line}"


def test_state_is_refused_by_name(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ExportError, match=r"1\.running_mean and 2 more.*model\.eval\(\)"):
        pa.export(model, [pa.spec(("n", 2))], tmp_path / "f")
    with pytest.raises(ExportError, match="generator"):
        pa.export(nn.Dropout(0.5), [pa.spec(("n", 2))], tmp_path / "f")
    total = pa.zeros(())

    def count(x: Any) -> Any:
        total[...] = total + x.sum()
        return total

    with pytest.raises(ExportError, match="assignment to total"):
        pa.export(count, [pa.spec((2,))], tmp_path / "f")
    layer = nn.Linear(2, 2)

    def learn(x: Any) -> Any:
        layer(x).sum().backward()

    with pytest.raises(ExportError, match="gradient"):
        pa.export(learn, [pa.spec((1, 2))], tmp_path / "f")
    assert not os.listdir(tmp_path) and total.item() == 0.0 and layer.weight.grad is None


def test_other_operations_at_other_sizes_are_refused_with_their_line(tmp_path: Path) -> None:
    line = test_other_operations_at_other_sizes_are_refused_with_their_line.__code__.co_firstlineno
    for function, offset in [
        (lambda x: sum([pa.sin(row) for row in x]), 3),
        (lambda x: pa.sin(x) if x.shape[0] > 4 else pa.cos(x), 4),
        (lambda x: x * x.shape[0] ** -0.5, 5),
    ]:
        with pytest.raises(ExportError, match=here(line + offset)):
            pa.export(function, [pa.spec(("n", 2))], tmp_path / "f")
    with pytest.raises(ExportError, match="tensors from outside that depend on the sizes"):
        pa.export(
            lambda x: x * pa.asarray(np.ones(x.shape, np.float32)), [pa.spec(("n",))],
            tmp_path / "f",
        )  # fmt: skip
    numbers = iter(range(100))
    with pytest.raises(ExportError, match="other numbers"):
        pa.export(
            lambda x: x * pa.asarray(np.full(3, next(numbers), np.float32)),
            [pa.spec(("n", 3))], tmp_path / "f",
        )  # fmt: skip
    assert not os.listdir(tmp_path)


def test_reads_and_odd_arguments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with pytest.raises(JitError, match=r"\[export\] given .*test_export"):
        pa.export(lambda x: x * np.float32(float(x.sum())), [pa.spec((2,))], path)
    with pytest.raises(JitError, match="print"):
        pa.export(lambda x: pa.print(x), [pa.spec((2,))], path)
    for function, specs, kind in [
        (None, [], DtypeError),
        (lambda x: x, pa.spec((2,)), DtypeError),
        (lambda x: x, [object()], DtypeError),
        (lambda x: x, [{1.5: pa.spec((2,))}], DtypeError),
        (lambda x: x, [float("nan")], ArgumentError),
        (lambda x: object(), [pa.spec((2,))], DtypeError),
        (lambda x: {(1, 2): x}, [pa.spec((2,))], DtypeError),
        (lambda x, y: x, [pa.spec((2,))], TypeError),
        (lambda x: x.nothing, [pa.spec((2,))], AttributeError),
    ]:
        with pytest.raises(kind):
            pa.export(function, specs, path)  # type: ignore[arg-type]
    for shape, dtype in [((-1,), None), ((1.5,), None), (("1x",), None), ((True,), None),
                         ((2,), "float33"), ((2**64,), None)]:  # fmt: skip
        with pytest.raises(ProaError):
            pa.spec(shape, dtype)
    assert pa.spec(3).shape == (3,) and pa.spec("n").is_named
    assert not os.listdir(tmp_path)


def test_only_an_older_export_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f"
    pa.export(lambda x: x, [pa.spec((2,))], path)
    pa.export(lambda x: -x, [pa.spec((2,))], path)
    assert pa.load(path)(pa.ones(2)).tolist() == [-1.0, -1.0]
    (path / "mine.txt").write_text("mine")
    other, plain = tmp_path / "other", tmp_path / "plain"
    pa.save(other, x=pa.ones(2))
    plain.write_text("text")
    for there in (path, other, plain):
        with pytest.raises(ArgumentError, match="something else"):
            pa.export(lambda x: x, [pa.spec((2,))], there)
    assert (path / "mine.txt").read_text() == "mine" and plain.read_text() == "text"
    assert sorted(os.listdir(tmp_path)) == ["f", "other", "plain"]
    (tmp_path / "empty").mkdir()
    pa.export(lambda x: x, [pa.spec((2,))], tmp_path / "empty")
    assert pa.load(other)["x"].tolist() == [1.0, 1.0]
    with pytest.raises(MissingFile):
        pa.load(tmp_path / "nothing")
    with pytest.raises(ArgumentError, match="model"):
        pa.load(tmp_path / "empty", model=nn.Linear(2, 2))


def test_an_interrupted_write_leaves_the_old_export(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "f"
    pa.export(lambda x: x, [pa.spec((2,))], path)
    for name in ("rename", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pa.export(lambda x: -x, [pa.spec((2,))], path)
        assert os.listdir(tmp_path) == ["f"]
        assert pa.load(path)(pa.ones(2)).tolist() == [1.0, 1.0]


def test_several_may_write_one_path(tmp_path: Path) -> None:
    errors: list[Any] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                pa.export(lambda x: x * float(number), [pa.spec((2,))], tmp_path / "f")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors and os.listdir(tmp_path) == ["f"]
    assert pa.load(tmp_path / "f")(pa.ones(2)).tolist()[0] in (1.0, 2.0, 3.0)


# The loaded function under transforms.


def test_it_is_differentiated_mapped_and_jitted(tmp_path: Path) -> None:
    w = draw(3, 3).requires_grad_()
    loaded = again(lambda x: pa.sin(x @ w).sum(axis=-1), [pa.spec(("n", 3))], tmp_path)
    assert list(loaded.weights) == ["w"] and not loaded.weights["w"].requires_grad
    plain = lambda x: pa.sin(x @ w.detach()).sum(axis=-1)  # noqa: E731
    x, rows = draw(4, 3), draw(5, 4, 3)
    assert bits(pa.vmap(loaded)(rows)) == bits(pa.vmap(plain)(rows))
    total = lambda f: pa.grad(lambda y: f(y).sum())(x)  # noqa: E731
    assert bits(total(loaded)) == bits(total(plain))
    second = lambda f: pa.grad(lambda z: (pa.grad(lambda y: f(y).sum())(z) ** 2).sum())(x)  # noqa: E731
    np.testing.assert_allclose(second(loaded).numpy(), second(plain).numpy(), rtol=1e-5)
    jitted = pa.jit(lambda x: loaded(x) * 2.0)
    for k in (4, 4, 4, 4, 6, 6, 6, 4):
        assert bits(jitted(draw(k, 3))) == bits(plain(draw(k, 3)) * 2.0)
    weight = loaded.weights["w"].requires_grad_()
    loaded(x).sum().backward()
    pa.sin(x @ w).sum().backward()
    assert bits(weight.grad) == bits(w.grad)
    doubled = again(lambda x: loaded(x) * 2.0, [pa.spec(("m", 3))], tmp_path)
    assert bits(doubled(x)) == bits(plain(x) * 2.0)


def test_no_gradient_passes_where_none_did(tmp_path: Path) -> None:
    function = lambda x: (x * x.detach()).sum()  # noqa: E731
    loaded = again(function, [pa.spec(("n",))], tmp_path)
    x = draw(3)
    assert bits(pa.grad(loaded)(x)) == bits(pa.grad(function)(x)) == bits(x)


def test_scans_of_an_export_stack_what_is_read(tmp_path: Path) -> None:
    cell = nn.Linear(4, 4)
    again(lambda xs: pa.scan(lambda h, x: (cell(h) + x, None), pa.zeros(4), xs)[0],
          [pa.spec(("t", 4))], tmp_path)  # fmt: skip
    table = json.loads((tmp_path / "f" / "graph.json").read_text())["graphs"]
    (step,) = [s for s in table[-1]["steps"] if s["operation"] == "scan"]
    assert step["results"] == ["float32[4]"]


def test_a_new_size_makes_no_new_operations(tmp_path: Path) -> None:
    loaded = again(lambda x: pa.sin(x) + 1.0, [pa.spec(("n",))], tmp_path)
    assert loaded.graph(n=5) is loaded.graph(n=5)
    assert [s.entry.primitive.name for s in loaded.graph(n=9).steps] == ["sin", "add"]
    with pytest.raises(ArgumentError, match="sizes"):
        loaded.graph(m=5)


def test_threads_share_a_loaded_function(tmp_path: Path) -> None:
    loaded = again(lambda x: pa.sin(x).sum(), [pa.spec(("n",))], tmp_path)
    expected = [pa.sin(pa.ones(n + 1)).sum().item() for n in range(40)]
    found: list[Any] = []

    def work() -> None:
        found.append([loaded(pa.ones(n + 1)).item() for n in range(40)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert found == [expected] * 4


def test_weights_are_named_stored_once_and_mapped(tmp_path: Path) -> None:
    table = draw(6, 2)
    lists = [draw(2, seed=1), {"inner": draw(2, seed=2)}]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(2, 2)
            self.second = self.first
            self.plain = draw(2, seed=3)

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x)) * self.plain + table[0] + lists[0]

    loaded = again(Model(), [pa.spec(("n", 2))], tmp_path)
    assert sorted(loaded.weights) == [
        "captured.0",
        "captured.1",
        "first.bias",
        "first.weight",
        "plain",
    ]
    loaded = again(lambda x: x + table[0] + lists[0] + draw(2), [pa.spec(("n", 2))], tmp_path)
    assert {"table", "lists.0"} <= set(loaded.weights)
    before = loaded.weights["table"].numpy()
    pa.export(lambda x: x, [pa.spec((2,))], tmp_path / "f")
    assert before.tobytes() == table.numpy().tobytes(), "what was mapped stays when it is replaced"
    held = loaded.weights["table"].value.buffer.array
    assert not held.flags.owndata and not held.flags.writeable, "mapped, not copied"
    loaded.weights["table"][0] = 7.0
    assert before.tobytes() == table.numpy().tobytes()


def test_weights_of_every_dtype(tmp_path: Path) -> None:
    for dtype in (pa.bool, pa.uint8, pa.int16, pa.uint64, pa.float8_e5m2, pa.bfloat16, pa.float64,
                  pa.complex64, pa.complex128):  # fmt: skip
        held = pa.asarray(np.arange(6) % 2 == 0, dtype=pa.bool).astype(dtype)
        loaded = again(lambda h=held: pa.reshape(h, (2, 3)), [], tmp_path)
        assert bits(loaded()) == bits(pa.reshape(held, (2, 3))), dtype


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    numbers = (float("inf"), -float("inf"), float("nan"), -0.0, 5e-324, 1.7976931348623157e308)
    loaded = again(
        lambda x: [x * n for n in numbers], [pa.spec((2,), pa.float64)], tmp_path
    )  # fmt: skip
    x = pa.ones(2, dtype=pa.float64)
    assert bits(loaded(x)) == bits([x * n for n in numbers])


# The list of operations.


def test_every_operation_stands_in_the_list_or_expands() -> None:
    code = "import proa; from proa.ops.primitive import REGISTRY; print(*REGISTRY)"
    own = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    missing = set(own.stdout.split()) - set(OPERATIONS)  # other tests may declare some here
    assert own.stdout and all(REGISTRY[n].expand is not None for n in missing), missing
    for name, names in NAMES.items():
        text = f"{name} has other parameters now: see proa/exports/operations.py"
        assert len(REGISTRY[name].params) == len(names), text


def test_a_damaged_weight_is_found_unless_nobody_looks(tmp_path: Path) -> None:
    w = pa.zeros(4)
    again(lambda x: x + w, [pa.spec((4,))], tmp_path)
    file = tmp_path / "f" / "weights.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 0x3F
    file.write_bytes(raw)
    with pytest.raises(FileError, match="damaged"):
        pa.load(tmp_path / "f")
    assert pa.load(tmp_path / "f", check=False)(pa.ones(4)).tolist()[:3] == [1.0] * 3
