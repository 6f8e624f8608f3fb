"""`proa inspect`, `proa run` and `proa show` from outside, and what they say of bad arguments."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa import nn
from proa.cli.main import main
from proa.exports.report import flops_of, report, short
from proa.graph.dot import dot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("cli")
    pa.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    pa.export(model, [pa.spec(("batch", 784))], path / "mlp")

    def several(x: Any, rows: Any) -> Any:
        y = pa.while_loop(lambda c: c.sum() > 1.0, lambda c: c * 0.5, x)
        last, _ = pa.scan(lambda h, r: (h + r, None), pa.zeros(3), y)
        return {"last": last, "both": (y, rows["k"] + 1)}

    pa.export(several, [pa.spec(("n", 3)), {"k": pa.spec((2,), pa.int64)}], path / "several")
    pa.save(path / "checkpoint", x=pa.ones(2))
    np.save(path / "x.npy", np.ones((4, 784), np.float32))
    np.save(path / "a.npy", np.ones((5, 3), np.float32))
    np.save(path / "k.npy", np.arange(2))
    return path


def proa(capsys: Any, *words: Any) -> tuple[int, str, str]:
    status = main([str(w) for w in words])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_inspect_tells_what_it_is_and_costs(folder: Path, capsys: Any) -> None:
    status, out, _ = proa(capsys, "inspect", folder / "mlp", "--size", "batch=32", "--weights")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == ("Sequential(x: float32[batch, 784]) -> float32[batch, 10] where batch >= 0")
    assert lines[1] == f"written by Proa {pa.__version__}"
    assert lines[2] == "weights     4 tensors, 79,510 numbers, 318 KB"
    assert "  0.weight  float32[100, 784]  314 KB" in lines
    assert "at          batch = 32" in lines
    assert "operations  3: linear 2, relu 1" in lines
    assert lines[-2] == "flops       5.09 M"
    assert lines[-1] == "memory      results of 26.9 KB, at one time at most 25.6 KB"
    status, out, _ = proa(capsys, "inspect", folder / "several")
    assert status == 0 and "loops that data ends" in out and "loop 1" in out and "scan 1" in out


def test_counts_are_those_of_a_hand(folder: Path) -> None:
    graph = pa.load(folder / "mlp").graph(batch=32)
    linear = sum([2 * 32 * n * m + 32 * m for n, m in ((784, 100), (100, 10))])
    assert flops_of(graph) == linear + flops_of(type(graph)(graph.inputs, graph.steps[1:2], (), ()))
    several = pa.load(folder / "several")
    small, large = [report(several.graph(n=n)).flops for n in (10, 20)]
    assert large > 1.5 * small
    assert [short(n) for n in (0, 999, 1000, 5_090_000, 2.5e12)] == [
        "0", "999", "1 K", "5.09 M", "2.5 T",
    ]  # fmt: skip


def test_run_calls_with_files(folder: Path, capsys: Any, tmp_path: Path) -> None:
    status, out, _ = proa(
        capsys, "run", folder / "mlp", "--input", folder / "x.npy", "--output", tmp_path / "y.npy"
    )
    assert status == 0 and out == ""
    expected = pa.load(folder / "mlp")(pa.ones((4, 784))).numpy()
    assert np.load(tmp_path / "y.npy").tobytes() == expected.tobytes()
    words = ["--input", f"rows['k']={folder / 'k.npy'}", "--input", f"x={folder / 'a.npy'}"]
    status, out, _ = proa(
        capsys, "run", folder / "several", *words, "--output", tmp_path / "last.npy", "--device",
        "numpy",
    )  # fmt: skip
    assert status == 0 and "result['both'][1]: Tensor([1, 2]" in out
    assert np.load(tmp_path / "last.npy").shape == (3,)


def test_show_prints_and_draws(folder: Path, capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    status, out, _ = proa(capsys, "show", folder / "mlp")
    assert status == 0 and "# inputs: x, 0.weight" in out and "x5 = linear(x0, x1, x2" in out
    status, _, _ = proa(capsys, "show", folder / "several", "--output", tmp_path / "g.dot")
    text = (tmp_path / "g.dot").read_text()
    assert status == 0 and text.startswith("digraph {") and "cluster_g0" in text
    assert text.count("{") == text.count("}") and "result 2" in text
    status, _, _ = proa(capsys, "show", folder / "mlp", "--output", tmp_path / "g.txt")
    assert status == 0 and "linear" in (tmp_path / "g.txt").read_text()
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = proa(capsys, "show", folder / "mlp", "--output", tmp_path / "g.svg")
    assert status == 1 and "installing graphviz" in err
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "<svg>$1"\n')
    os.chmod(program, os.stat(program).st_mode | stat.S_IXUSR)
    status, _, _ = proa(capsys, "show", folder / "mlp", "--output", tmp_path / "g.svg")
    assert status == 0 and (tmp_path / "g.svg").read_text() == "<svg>-Tsvg\n"
    program.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    status, _, err = proa(capsys, "show", folder / "mlp", "--output", tmp_path / "g.svg")
    assert status == 1 and "broken" in err


def test_names_in_a_drawing_are_quoted(folder: Path) -> None:
    graph = pa.load(folder / "mlp").graph(batch=2)
    text = dot(graph, ['a"] ; evil [label="', "tab\t\x00", "back\\slash"])
    assert '"a\\"] ; evil [label=\\"\\nfloat32[2, 784]"' in text
    assert "\x00" not in text and "\t" not in text and "back\\\\slash" in text


@pytest.mark.parametrize("words", [
    ["inspect", "nothing"], ["inspect", "checkpoint"], ["inspect", "x.npy"],
    ["inspect", "mlp", "--size", "batch"], ["inspect", "mlp", "--size", "batch=-1"],
    ["inspect", "mlp", "--size", "n=3"], ["inspect", "mlp", "--size", "batch=99999999999999"],
    ["show", "mlp", "--output", "x.exe"], ["show", "mlp", "--output", "nowhere/x.dot"],
    ["run", "mlp"], ["run", "mlp", "--input", "nothing.npy"], ["run", "mlp", "--input", "mlp"],
    ["run", "mlp", "--input", "x.npy", "--input", "x.npy"],
    ["run", "mlp", "--input", "x=x.npy", "--input", "x=x.npy"],
    ["run", "mlp", "--input", "a.npy"], ["run", "mlp", "--input", "mlp/graph.json"],
    ["run", "mlp", "--input", "x.npy", "--output", "y", "--output", "z"],
    ["run", "mlp", "--input", "x.npy", "--device", "nothing"],
    ["run", "several", "--input", "k.npy", "--input", "a.npy"],
], ids=" ".join)  # fmt: skip
def test_bad_arguments_are_one_line(
    words: list[str], folder: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder)
    status, _, err = proa(capsys, *words)
    assert status == 1 and err.startswith("error: ") and err.count("\n") == 1
    assert not (folder / "y").exists()


def test_pickles_are_not_read(folder: Path, capsys: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([print], dtype=object), allow_pickle=True)
    status, _, err = proa(capsys, "run", folder / "mlp", "--input", tmp_path / "evil.npy")
    assert status == 1 and "pickle" in err.lower()
