"""Files: whole or not at all, and hostile until proven good."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import proa as pa
from proa import optim
from proa.data import DataLoader
from proa.errors import ArgumentError, DtypeError, FileError
from proa.io import checkpoint, load, load_file, load_metadata, save, save_file
from proa.io import safetensors as st
from proa.random import Generator
from proa.tensor import Tensor

GOLDEN = Path(__file__).parent / "golden"
DTYPES = [
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32",
    "float64", "complex64", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
]  # fmt: skip


def bits(x):
    return np.ascontiguousarray(x.numpy()).tobytes()


def arrays():
    rng = np.random.default_rng(0)
    found = {np.dtype(d).name: (rng.standard_normal((2, 3)) * 3).astype(d) for d in DTYPES}
    found["scalar"], found["none"] = np.array(2.5), np.zeros((0, 4), "float32")
    found["turned"] = np.arange(6.0).reshape(2, 3).T
    found["näme/with spaces\n"] = np.arange(3)
    return found


@pytest.mark.filterwarnings(
    "ignore::numpy.exceptions.ComplexWarning", "ignore:invalid value:RuntimeWarning"
)
def test_round_trip_of_every_dtype(tmp_path):
    given = arrays()
    save_file({k: pa.asarray(v) for k, v in given.items()}, tmp_path / "a", {"by": "test"})
    found = load_file(str(tmp_path / "a"))
    assert found.keys() == given.keys()
    for name, x in found.items():
        assert x.numpy().dtype == given[name].dtype and x.shape == given[name].shape
        assert bits(x) == np.ascontiguousarray(given[name]).tobytes()
    assert load_metadata(tmp_path / "a") == {"by": "test"}
    save_file(given, tmp_path / "b", {"by": "test"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    save_file({}, tmp_path / "empty")
    assert load_file(tmp_path / "empty") == {}


def test_a_file_written_by_pytorch():
    rows = json.loads((GOLDEN / "torch_written.json").read_text())
    rows = rows["tensors"] if isinstance(rows, dict) else rows
    found = load_file(GOLDEN / "torch_written.safetensors")
    assert {r["name"] for r in rows} == found.keys()
    for r in rows:
        x = found[r["name"]]
        assert (
            x.shape == tuple(r["shape"])
            and x.numpy().astype("float64").reshape(-1).tolist() == r["values"]
        )


def test_what_pytorch_would_read(tmp_path):
    from safetensors.numpy import load_file as theirs

    save_file({"w": pa.asarray(np.arange(6.0).reshape(2, 3))}, tmp_path / "a")
    assert theirs(tmp_path / "a")["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


# Hostile files.


def made(tmp_path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "hostile.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def row(start, end, shape=(1,), dtype="U8"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HOSTILE = {
    "empty": (b"", b"", 0),
    "huge header": (b"{}", b"", 2**63),
    "longer header": (b"{}", b"", 3),
    "no json": (b"{]", b"", None),
    "no utf-8": (b'{"\xff": 1}', b"", None),
    "a list": ([], b"", None),
    "deep": (b"[" * 100_000 + b"]" * 100_000, b"", None),
    "deep dict": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"", None),
    "twice": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x", None),
    "overlap": ({"a": row(0, 2, (2,)), "b": row(1, 3, (2,))}, b"xyz", None),
    "same bytes": ({"a": row(0, 1), "b": row(0, 1)}, b"x", None),
    "hole": ({"a": row(0, 1), "b": row(2, 3)}, b"xyz", None),
    "late start": ({"a": row(1, 2)}, b"xy", None),
    "left over": ({"a": row(0, 1)}, b"xy", None),
    "cut off": ({"a": row(0, 2, (2,))}, b"x", None),
    "wrong size": ({"a": row(0, 2, (1,))}, b"xy", None),
    "backwards": ({"a": row(1, 0, (0,))}, b"x", None),
    "negative": ({"a": row(-1, 0)}, b"x", None),
    "negative shape": ({"a": row(0, 1, (-1, -1))}, b"x", None),
    "float shape": ({"a": row(0, 1, (1.0,))}, b"x", None),
    "bool shape": ({"a": row(0, 1, (True,))}, b"x", None),
    "big shape": ({"a": row(0, 0, (0, 2**70))}, b"", None),
    "overflow": ({"a": row(0, 0, (2**32, 2**32))}, b"", None),
    "65 axes": ({"a": row(0, 1, (1,) * 65)}, b"x", None),
    "huge digits": (b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', b"x", None),
    "dtype": ({"a": row(0, 1, (1,), "I7")}, b"x", None),
    "no dtype": ({"a": {"shape": [1], "data_offsets": [0, 1]}}, b"x", None),
    "more fields": ({"a": {**row(0, 1), "code": "x"}}, b"x", None),
    "metadata": ({"__metadata__": {"a": 1}, "a": row(0, 1)}, b"x", None),
    "metadata list": ({"__metadata__": [], "a": row(0, 1)}, b"x", None),
    "bool of 2": ({"a": row(0, 1, (1,), "BOOL")}, b"\x02", None),
    "nan": (b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x", None),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, tmp_path):
    with pytest.raises(FileError):
        load_file(made(tmp_path, *HOSTILE[name]))


def test_every_truncation_is_refused(tmp_path):
    save_file({"a": pa.arange(3), "b": pa.ones((2, 2))}, tmp_path / "a", {"k": "v"})
    whole = (tmp_path / "a").read_bytes()
    for n in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:n])
        with pytest.raises(FileError):
            load_file(tmp_path / "a")


def test_flipped_bits_are_refused_or_seen_only_where_they_are(tmp_path):
    """The format has no checksum: a flip in the data changes one element, one in the header a
    name, or something that is refused."""
    given = {"a": np.arange(5.0), "b": np.ones((2, 2), "float32")}
    save_file(given, tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(0)
    for _ in range(600):
        at, flipped = rng.randrange(len(whole)), bytearray(whole)
        flipped[at] ^= 1 << rng.randrange(8)
        (tmp_path / "a").write_bytes(flipped)
        try:
            found = load_file(tmp_path / "a")
        except FileError:
            assert at < start
            continue
        assert len(found) == 2
        assert sum(x.nbytes for x in found.values()) == 56
        if at >= start:
            assert found.keys() == given.keys()
        else:
            assert b"".join(bits(x) for x in found.values()) in (
                whole[start:],
                whole[start + 40 :] + whole[start : start + 40],
            )


def test_pipes_and_folders_are_refused_and_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError):
        load_file(tmp_path / "pipe")
    with pytest.raises((FileError, OSError)):
        load_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "nothing")


@pytest.mark.parametrize("tensors, metadata, kind", [
    ([1], None, DtypeError), ({"a": 1}, None, DtypeError), ({1: np.ones(2)}, None, ArgumentError),
    ({"__metadata__": np.ones(2)}, None, ArgumentError), ({"a": np.ones(2, "complex128")}, None, DtypeError),
    ({"a": np.array(["x"])}, None, DtypeError), ({}, {"a": 1}, DtypeError), ({}, ["a"], DtypeError),
])  # fmt: skip
def test_what_cannot_be_saved(tensors, metadata, kind, tmp_path):
    with pytest.raises(kind):
        save_file(tensors, tmp_path / "a", metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [3, None, "", "a\0b", b"bytes"])
def test_paths_are_checked(path):
    for function in (
        lambda: save_file({}, path),
        lambda: load_file(path),
        lambda: save(path),
        lambda: load(path),
    ):
        with pytest.raises(ArgumentError):
            function()


# Atomic writes.


def tree_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Stop(BaseException):
    """What no handler of the library expects: Ctrl-C, say."""


def failing(monkeypatch, owner, name, at):
    """The `at`-th call of a function raises."""
    real, calls = getattr(owner, name), []

    def function(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise Stop if at % 2 else OSError(28, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, function)
    return calls


STEPS = [
    (os, "replace"),
    (os, "fsync"),
    (Path, "write_text"),
    (checkpoint, "_digest"),
    (json, "dumps"),
]


@pytest.mark.parametrize("owner, name", STEPS, ids=lambda o: getattr(o, "__name__", o))
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_a_failed_save_leaves_the_old_checkpoint(owner, name, at, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    save(folder, step=1, w=pa.ones((3,)))
    before = tree_of(tmp_path)
    with monkeypatch.context() as patch:
        calls = failing(patch, owner, name, at)
        try:
            save(folder, step=2, w=pa.zeros((4,)))
            failed = False
        except (Stop, OSError):
            failed = True
    if failed and (name, at) != ("fsync", 5):
        assert tree_of(tmp_path) == before and load(folder)["step"] == 1
    else:  # fewer calls than that, a folder that cannot be synchronised, or the new one is whole
        assert len(calls) < at or name == "fsync"
        assert load(folder)["step"] == 2 and not [p for p in tree_of(tmp_path) if "tmp" in p]


@pytest.mark.parametrize("owner, name", STEPS[:2], ids=lambda o: getattr(o, "__name__", o))
def test_a_failed_file_leaves_the_old_one(owner, name, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_file({"w": pa.ones((3,))}, path)
    before = tree_of(tmp_path)
    failing(monkeypatch, owner, name, 1)
    with pytest.raises(Stop):
        save_file({"w": pa.zeros((4,))}, path)
    assert tree_of(tmp_path) == before


def test_a_failed_first_save_leaves_nothing(tmp_path, monkeypatch):
    failing(monkeypatch, os, "replace", 3)
    with pytest.raises(Stop):
        save(tmp_path / "run", w=pa.ones((3,)))
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_when_saving(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    save_file({"w": pa.ones((3,))}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and load_file(tmp_path / "real" / "a")[
        "w"
    ].tolist() == [1, 1, 1]


# Checkpoints.


def test_any_tree_comes_back(tmp_path):
    shared = pa.arange(3)
    tree = {
        "a": [1, -2.5, float("inf"), float("-inf"), None, True, "ü\ud800", 2**900, 1 + 2j, (), [], {}, ((1,),)],
        3: {"x": shared, "y": shared}, "n": np.arange(4).astype("float16"), "d": pa.bfloat16,
        "s": np.float32(0.5), "": pa.asarray(True), "__metadata__": pa.zeros((0, 2)), "w.b": pa.asarray(1.0),
        "w": {"b": pa.asarray(2.0)}, "zero": -0.0,
    }  # fmt: skip
    save(tmp_path / "t", tree)
    found = load(tmp_path / "t")
    assert found["a"] == tree["a"] and [type(v) for v in found["a"]] == [type(v) for v in tree["a"]]
    assert found[3]["x"] is found[3]["y"] and found[3]["x"].tolist() == [0, 1, 2]
    assert (
        type(found["n"]) is np.ndarray
        and found["n"].dtype == np.float16
        and found["n"].flags.writeable
    )
    assert found["d"] is pa.bfloat16 and found["s"] == 0.5 and found[""].item() is True
    assert found["__metadata__"].shape == (0, 2) and (
        found["w.b"].item(),
        found["w"]["b"].item(),
    ) == (1, 2)
    assert str(found["zero"]) == "-0.0" and list(found) == list(tree)
    save(tmp_path / "nan", float("nan"))
    assert str(load(tmp_path / "nan")) == "nan"


class Net:
    """What a module looks like from here."""

    def __init__(self):
        self.w = pa.asarray(np.array([0.5, -0.25], "float32")).requires_grad_()

    def state_dict(self):
        return {"w": self.w}

    def load_state_dict(self, state):
        with pa.no_grad():
            self.w[...] = state["w"]


def parts():
    net = Net()
    opt = optim.AdamW([net.w], lr=0.1)
    return {
        "model": net, "optimizer": opt, "schedule": optim.CosineAnnealingLR(opt, 20),
        "generator": Generator(4), "loader": DataLoader(np.arange(8.0, dtype="float32"), 3, shuffle=True, seed=2),
    }  # fmt: skip


def train(parts, steps, stream):
    for _ in range(steps):
        x = next(stream)
        noise = pa.random.normal((2,), generator=parts["generator"])
        parts["optimizer"].zero_grad()
        ((parts["model"].w + noise * 0.1) ** 2 * x.sum()).sum().backward()
        parts["optimizer"].step()
        parts["schedule"].step()


def forever(loader):
    while True:
        yield from loader


def test_a_resumed_run_is_the_run_bitwise(tmp_path):
    one = parts()
    stream = forever(one["loader"])
    train(one, 7, stream)
    save(tmp_path / "run", **one, step=7)
    save(tmp_path / "run", **one, step=7)  # over an existing one
    assert sorted(p.suffix for p in (tmp_path / "run").iterdir()) == [".json", ".safetensors"]
    train(one, 9, stream)
    two = parts()
    assert load(tmp_path / "run", **two)["step"] == 7
    train(two, 9, forever(two["loader"]))
    assert bits(one["model"].w) == bits(two["model"].w)
    assert one["schedule"].get_last_lr() == two["schedule"].get_last_lr()
    assert str(one["optimizer"].state_dict()) == str(two["optimizer"].state_dict())


def test_what_cannot_be_saved_or_loaded(tmp_path):
    loop: list = []
    loop.append(loop)
    for tree in (
        object(),
        {"a": {1, 2}},
        {1.5: 1},
        {None: 1},
        {True: 1},
        b"x",
        loop,
        2**2000,
        lambda: 1,
        Net,
    ):
        with pytest.raises((ArgumentError, DtypeError)):
            save(tmp_path / "run", tree)
        assert not (tmp_path / "run").exists()
    with pytest.raises(DtypeError, match="model.head.name"):
        save(tmp_path / "run", model={"head": {"name": object()}})
    with pytest.raises(ArgumentError):
        save(tmp_path / "run", {"a": 1}, b=2)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArgumentError):
        save(tmp_path / "file", a=1)
    save(tmp_path / "run", a=1)
    with pytest.raises(ArgumentError, match="model"):
        load(tmp_path / "run", model=Net())
    with pytest.raises(DtypeError):
        load(tmp_path / "run", a=3)
    for path in (tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises((FileError, OSError)):
            load(path)


def change(folder, **fields):
    """The JSON file with other fields and, unless given, a digest that fits."""
    path = folder / "checkpoint.json"
    found = json.loads(path.read_text()) | fields
    if "tree" in fields and "tree_sha256" not in fields:
        found["tree_sha256"] = checkpoint._text_digest(found["tree"])
    path.write_text(json.dumps(found))


BAD = [
    {"format": "other"}, {"version": 2}, {"version": None}, {"more": 1}, {"tensors": "../../etc/passwd"},
    {"tensors": "/etc/passwd"}, {"tensors": "tensors-" + "0" * 32 + ".safetensors"}, {"tensors": 3},
    {"tensors": None}, {"tensors": ["a"]}, {"tensors_sha256": "0" * 64}, {"tensors_sha256": None},
    {"tree_sha256": "0" * 64}, {"tree_sha256": 3}, {"tree": {"tensor": "nothing"}}, {"tree": {"tensor": ["w"]}},
    {"tree": {"pickle": "x"}}, {"tree": {"tuple": {}}}, {"tree": {"dict": {}}}, {"tree": {}}, {"tree": 1},
    {"tree": {"dict": [["a", 1], ["a", 2]]}}, {"tree": {"dict": [["a"]]}}, {"tree": {"dict": [[[], 1]]}},
    {"tree": {"dict": [[True, 1]]}}, {"tree": {"float": "1e9"}}, {"tree": {"dtype": "object"}},
    {"tree": {"complex": [1, "x"]}}, {"tree": {"tensor": "w", "tuple": []}},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids=lambda f: str(f)[:40])
def test_hostile_checkpoints_are_refused(fields, tmp_path):
    save(tmp_path / "run", w=pa.ones((3,)))
    change(tmp_path / "run", **fields)
    with pytest.raises(FileError):
        load(tmp_path / "run")


def test_hostile_texts_are_refused(tmp_path):
    save(tmp_path / "run", w=pa.ones((3,)))
    path = tmp_path / "run" / "checkpoint.json"
    good = path.read_bytes()
    deep: list = []
    for _ in range(150):
        deep = [deep]
    change(tmp_path / "run", tree=deep, tensors=None, tensors_sha256=None)
    with pytest.raises(FileError, match="levels"):
        load(tmp_path / "run")
    head = b'{"format": "proa checkpoint", "version": 1, "tensors": null, "tensors_sha256": null, "tree_sha256": "", "tree": '
    for text in (
        b"", b"[]", b"\xff", b"[" * 200_000, head + b"[" * 2000 + b"]" * 2000 + b"}", head + b"NaN}", head + b"1e999}",
        head + b"9" * 9000 + b"}", head[:-9] + b'"version": 1, "tree": 1}', good[:-5],
    ):  # fmt: skip
        path.write_bytes(text)
        with pytest.raises(FileError):
            load(tmp_path / "run")
    path.unlink()
    path.symlink_to(GOLDEN / "modules.json")
    with pytest.raises(FileError, match="regular"):
        load(tmp_path / "run")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileError, match="regular"):
        load(tmp_path / "run")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(checkpoint.SIZE_LIMIT + 1)
    with pytest.raises(FileError, match="more than"):
        load(tmp_path / "run")
    path.write_bytes(good)
    (name,) = [p for p in (tmp_path / "run").iterdir() if p != path]
    name.rename(tmp_path / "outside")
    name.symlink_to(tmp_path / "outside")
    with pytest.raises(FileError, match="regular"):
        load(tmp_path / "run")


def test_flipped_bits_of_a_checkpoint_are_refused_or_harmless(tmp_path):
    folder = tmp_path / "run"
    save(folder, w=pa.arange(4), names=["a", "b"], rate=0.1)
    want = text(load(folder))
    whole = {p: p.read_bytes() for p in folder.iterdir()}
    rng = random.Random(1)
    refused = 0
    for _ in range(800):
        path = rng.choice(list(whole))
        flipped = bytearray(whole[path])
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert text(load(folder)) == want
        except FileError:
            refused += 1
        path.write_bytes(whole[path])
    assert refused > 700


def text(tree):
    return repr(pa.tree.map(lambda t: t.tolist() if type(t) is Tensor else t, tree))


def test_sizes_are_checked_before_memory_is_taken(tmp_path, monkeypatch):
    save_file({"w": pa.ones((1000,))}, tmp_path / "a")
    monkeypatch.setattr(st, "free_bytes", lambda: 3999)
    with pytest.raises(FileError, match="memory"):
        load_file(tmp_path / "a")
