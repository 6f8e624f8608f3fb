"""`pa.profile`: rows sum to the time of the block, name what ran, and leave no trace behind.
`jit(f).show` and the lines of `proa doctor` about the compiler stand here too."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import proa as pa
from proa import nn, optim
from proa.cli.doctor import examine
from proa.compile.watch import watch
from proa.config import config
from proa.errors import ArgumentError, ProaError
from proa.explain import forget_programs
from proa.nn import functional as F  # noqa: N812
from proa.profile import VIEWS

HERE = Path(__file__).name


def training(device: str) -> Any:
    """A step of a small network, warm."""
    with pa.device(device):
        pa.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        opt = optim.AdamW(model.parameters(), lr=1e-3)
        x = pa.randn(32, 64)
        target = pa.argmax(x[:, :10], axis=1)

    def step() -> float:
        loss = F.cross_entropy(model(x), target)  # forward
        opt.zero_grad()
        loss.backward()
        opt.step()
        return float(loss.item())

    for _ in range(4):
        step()
    return step


def chain(device: str) -> Any:
    """Six operations on 4 M elements, warm."""
    x = pa.ones((1 << 22,), device=device)
    y = pa.full((1 << 22,), 0.5, device=device)

    def run() -> Any:
        z = pa.tanh(pa.exp(x * 0.25) + y) * y - x
        pa.sync()
        return z

    for _ in range(3):
        run()
    return run


@pytest.mark.parametrize("device", ["numpy", "cpu", "xla", "null"])
@pytest.mark.parametrize(("make", "times"), [(training, 20), (chain, 3)])
def test_rows_sum_to_the_time_of_the_block(device: str, make: Any, times: int) -> None:
    if device == "xla":
        pytest.importorskip("jax")
    run = make(device)
    for _ in range(5):  # a neighbour may take the processor outside of the block
        start = time.perf_counter()
        with pa.profile() as p:
            for _ in range(times):
                run()
        wall = time.perf_counter() - start
        if wall < 1.05 * p.seconds:
            break
    assert p.seconds <= wall < 1.05 * p.seconds + 1e-3
    for view in VIEWS:
        rows = p.by(view)
        assert sum(r.seconds for r in rows) == pytest.approx(p.seconds, abs=1e-6)
        assert sum(r.share for r in rows) == pytest.approx(1, abs=0.01)
        assert all(r.seconds >= 0 and r.calls > 0 for r in rows)
        assert rows == sorted(rows, key=lambda r: -r.seconds)
        assert len({r.name for r in rows}) == len(rows)


@pytest.mark.parametrize("device", ["numpy", "cpu", "xla", "null"])
def test_rows_name_operations_modules_and_lines(device: str) -> None:
    if device == "xla":
        pytest.importorskip("jax")
    step = training(device)
    with pa.profile() as p:
        for _ in range(3):
            step()
    names = {view: {r.name: r for r in p.by(view)} for view in VIEWS}
    assert names["operation"].keys() >= {"dot", "exp", "sqrt", "Python"}
    assert ("around kernels" in names["operation"]) is (device != "xla")
    assert sum(r.nbytes or 0 for r in p.rows) > 3 * 4 * 64 * 128, "the weights were read"
    assert sum(r.operations or 0 for r in p.rows) > 3 * 32 * 128 * (4 * 64 + 6 * 10)
    assert names["module"].keys() >= {"0", "1", "2", "(no module)"}
    lines = Path(__file__).read_text().splitlines()
    forward = next(i for i, line in enumerate(lines, 1) if line.endswith("# forward"))
    here = {int(n.rpartition(":")[2]) for n in names["line"] if HERE in n}
    assert here <= {forward, forward + 2, forward + 3}, "backward work stands at its forward line"
    products = names["operation"]["dot"]
    at = next(r for n, r in names["line"].items() if n.endswith(f"{HERE}:{forward}"))
    assert at.seconds >= products.seconds


def test_bytes_and_operations_are_those_of_the_work() -> None:
    run = chain("cpu")
    with pa.profile() as p:
        run()
    (row,) = [r for r in p.rows if r.name.startswith("loop")]
    assert row.nbytes == pytest.approx(3 * 4 << 22, rel=0.01)
    a = pa.ones((64, 96), device="cpu")
    b = pa.ones((96, 128), device="cpu")
    for _ in range(3):
        with pa.profile() as p:
            (a @ b).numpy()
    done = sum(r.operations or 0 for r in p.rows if "dot" in r.name)
    assert done == 2 * 64 * 96 * 128
    small = pa.ones((1 << 20,), device="cpu")
    for _ in range(3):
        with pa.profile() as p:
            (small[:1024] + 1.0).numpy()
    (row,) = [r for r in p.rows if r.name.startswith("loop")]
    assert row.nbytes is not None and row.nbytes < 10_000, "a view counts as what it shows"


def test_a_structure_seen_for_the_first_time_has_the_lines_of_this_time() -> None:
    pa.explain()
    x = pa.ones((3, 5, 7), device="cpu")
    with pa.profile() as p:
        pa.exp(pa.exp(x)).numpy()
        pa.sync()
        pa.exp(pa.exp(pa.exp(x))).numpy()
    lines = {r.name.rpartition(":")[2] for r in p.by("line") if HERE in r.name}
    assert len(lines) == 2


def test_bits_are_the_same() -> None:
    x = pa.asarray([0.1 * i for i in range(1000)], device="cpu")

    def work() -> bytes:
        return bytes(pa.cumulative_sum(pa.softmax(pa.sin(x) * x)).numpy().tobytes())

    found = {work() for _ in range(3)}
    with pa.profile():
        found |= {work() for _ in range(3)}
    assert len(found) == 1


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_trace_is_what_perfetto_reads(device: str, tmp_path: Path) -> None:
    step = training(device)
    with pa.profile() as p:
        step()
        step()
    p.save(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = trace["traceEvents"]
    assert all({"name", "ph", "ts", "pid", "tid"} <= e.keys() for e in events)
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) > 20 and all(e["dur"] >= 0 for e in spans)
    assert all(e["ts"] >= 0 and e["ts"] + e["dur"] <= 1e6 * p.seconds + 1 for e in spans)
    programs = [e for e in spans if e["name"] == "program"]
    inner = [e for e in spans if e["cat"] in ("kernel", "operation", "host call")]
    assert programs and inner
    for e in inner:
        assert any(o["ts"] <= e["ts"] + 0.01 and e["ts"] + e["dur"] <= o["ts"] + o["dur"] + 0.01
                   for o in programs)  # fmt: skip


def test_printing_shows_tables_and_peaks() -> None:
    run = chain("cpu")
    with pa.profile() as p:
        assert repr(p) == "Profile(open)"
        run()
    text = str(p)
    assert all(f"by {view}" in text for view in VIEWS)
    assert "copies" in text and "% copy" in text and "loop: " in text and "tanh" in text
    assert max(map(len, p.table("kernel").splitlines())) < 160
    assert p.table("operation", 1).splitlines()[-1].endswith("more rows")


def test_a_second_profile_is_refused() -> None:
    with pa.profile() as p:
        with pytest.raises(ProaError, match="one at a time"), pa.profile():
            pass
        found: list[BaseException] = []

        def other() -> None:
            try:
                with pa.profile():
                    pass
            except ProaError as error:
                found.append(error)

        worker = threading.Thread(target=other)
        worker.start()
        worker.join()
        assert len(found) == 1
        with pytest.raises(ArgumentError, match="open"):
            p.by("kernel")
    with pytest.raises(ProaError, match="a new one"), p:
        pass
    with pytest.raises(ArgumentError, match="one of kernel, operation, module, line"):
        p.by("colour")
    with pytest.raises(ArgumentError):
        pa.profile().save("x.json")


def test_work_of_other_threads_is_not_noted() -> None:
    x = pa.ones((100,), device="cpu")
    with pa.profile() as p:
        worker = threading.Thread(target=lambda: pa.exp(x).sum().item())
        worker.start()
        worker.join()
    assert {r.name for r in p.rows} == {"Python"}


def test_an_error_in_the_block_leaves_things_right() -> None:
    x = pa.ones((4,), device="cpu")
    with pytest.raises(KeyError), pa.profile() as p:
        y = pa.exp(x)
        raise KeyError
    assert watch.by is None
    assert y.value.buffer is None, "what was pending stays so"
    assert p.rows and p.seconds > 0
    with pytest.raises(pa.errors.ExecutionError), pa.profile() as p, pa.debug():
        pa.log(x - 1.0)
    assert watch.by is None
    assert y.numpy().shape == (4,)
    with pa.profile() as p:
        pa.exp(x).numpy()
    assert p.rows


def test_it_is_refused_while_a_function_is_recorded() -> None:
    def inside(x: Any) -> Any:
        with pa.profile():
            return x + 1

    f = pa.jit(inside)
    x = pa.ones((2,))
    f(x)
    with pytest.raises(ProaError, match="outside of jit"):
        f(x)
    with pa.profile():
        pass


def test_jitted_calls_are_seen() -> None:
    step = pa.jit(lambda x: pa.exp(x).sum())
    x = pa.ones((100,), device="cpu")
    for _ in range(4):
        step(x)
    with pa.profile() as p:
        for _ in range(5):
            step(x)
    assert {r.name: r.calls for r in p.by("operation")}["exp"] == 5


def test_programs_of_a_backend_that_shows_nothing() -> None:
    pytest.importorskip("jax")
    x = pa.ones((16, 16), device="xla")
    pa.sync()
    start = time.perf_counter()
    with pa.profile() as p:
        for _ in range(4):
            (pa.exp(x) @ x).sum().item()
    wall = time.perf_counter() - start
    assert sum(r.seconds for r in p.rows) == pytest.approx(wall, rel=0.05)
    assert any(r.name.startswith("program of 3") for r in p.rows)
    assert {"dot", "exp", "sum", "compile"} <= {r.name for r in p.by("operation")}


def test_peaks_are_measured_within_bounds() -> None:
    from proa.backends.cpu.peak import measured

    start = time.perf_counter()
    copied, done = measured()
    assert time.perf_counter() - start < 5  # 0.3 s on a quiet machine
    assert 1e8 < copied < 1e13 and 1e8 < done < 1e14


# jit(f).show and doctor.


def test_show_prints_passes(capsys: Any) -> None:
    x = pa.ones((4, 8), device="cpu")
    f = pa.jit(lambda x: (pa.exp(x) + 1.0).sum())
    with pytest.raises(ArgumentError, match="no call recorded"):
        f.show("fuse")
    f.show("fuse", x)
    assert "exp add sum" in capsys.readouterr().out
    for _ in range(4):
        f(x)
    for name, word in [("expand", "def graph"), ("simplify", "exp(x0)"), ("segments", "loop over"),
                       ("fuse", "exp add sum"), ("nest", "tiles"), ("ir", "define void @kernel"),
                       ("object", ".text")]:  # fmt: skip
        f.show(name)
        assert word in capsys.readouterr().out, name
    f.show("fuse", pa.ones((3,), device="cpu"))
    assert "loop over (3,)" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="expand, simplify, segments, fuse"):
        f.show("fuze")
    g = pa.jit(lambda x, n: pa.reshape(x, (n, -1)) + 1.0)
    with pytest.raises(ArgumentError, match="one of expand, simplify$"):
        g.show("fuse", pa.ones((4,), device="numpy"), 2)


@pytest.mark.parametrize("device", ["numpy", "cpu", "xla", "null"])
def test_show_on_every_backend(device: str, capsys: Any, monkeypatch: Any) -> None:
    if device == "xla":
        pytest.importorskip("jax")
    own = {"cpu": {"nest": "tiles"}, "xla": {"stablehlo": "stablehlo.exp", "hlo": "HloModule"}}
    words = {"expand": "exp(x0)", "simplify": "sum(", **own.get(device, {})}
    f = pa.jit(lambda x: pa.exp(x).sum())
    x = pa.ones((4, 8), device=device)
    for name, word in words.items():
        f.show(name, x)
        assert word in capsys.readouterr().out, name
        monkeypatch.setattr(config, "show", (name,))
        forget_programs()
        float(pa.exp(x).sum())
        float(pa.exp(x).sum())
        shown = capsys.readouterr().out
        assert f"# {name}" in shown and word in shown, name
        monkeypatch.undo()
    absent = "nest" if device != "cpu" else "hlo"
    with pytest.raises(ArgumentError, match=rf"\[show\] given '{absent}', expected one of expand"):
        f.show(absent, x)
    monkeypatch.setattr(config, "show", (absent,))
    forget_programs()
    with pytest.raises(ArgumentError, match=f"PROA_SHOW={absent} on {device}, expected one of"):
        float(pa.exp(x).sum())
    monkeypatch.undo()
    float(pa.exp(x).sum())


def test_doctor_describes_the_compiler() -> None:
    found = {f.name: f.text for f in examine()}
    assert "registers" in found["target of cpu"]
    assert int(found["threads of cpu"]) >= 1
    assert "MB" in found["kernel cache"]
