"""Forged exports: a good one is changed in one place, and its digests are made right again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np

import proa as pa
from proa import nn
from proa.exports.folder import head_of
from proa.nn import functional as F  # noqa: N812

Change = Callable[["Forge"], None]
DEEP = "[" * 100_000 + "]" * 100_000


@pa.custom_vjp
def tripled(x: Any) -> Any:
    return x * x


tripled.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))


def export_all(path: Path) -> None:
    """An export in which everything stands that can be forged."""
    layer = nn.Linear(4, 4)
    table, mask = np.linspace(0, 1, 20, dtype=np.float32), pa.asarray([True, False, True, True])

    def function(x: Any, more: Any, *, flag: bool) -> Any:
        batch, length = x.shape[:2]
        y = layer(x) * pa.asarray(table)[:4] + pa.where(mask, 1.0, 0.5)
        y = y.reshape(batch * length, 4) + pa.arange(batch * length)[:, None]
        y = pa.cond(y.sum() > 0, lambda y: y * 2.0, lambda y: -y, y)
        y = pa.while_loop(lambda z: pa.abs(z).max() > 10.0, lambda z: z * 0.5, y)
        last, rows = pa.scan(lambda h, r: (h + r, h), pa.zeros(4), y)
        pooled = F.max_pool1d(pa.sin(y)[None], 2)
        return {"last": tripled(last), "rest": (rows, pooled.sum(axis=(0,)), more["k"], None, 3)}

    specs = {
        "x": pa.spec(("batch", "length", 4)), "more": {"k": pa.spec((2,), pa.float64)}, "flag": True,
    }  # fmt: skip
    pa.export(function, specs, path)


@final
class Forge:
    """A folder whose parts are changed; `write` makes it one that only its contents betray."""

    def __init__(self, good: Path, folder: Path) -> None:
        self.folder = folder
        raw = (good / "graph.json").read_bytes()
        self.head, _, self.rest = raw.partition(b"\n")
        self.body = json.loads(raw)
        for key in ("format", "version", "sha256", "weights_sha256"):
            del self.body[key]
        self.weights = (good / "weights.safetensors").read_bytes()
        length = int.from_bytes(self.weights[:8], "little")
        self.header = json.loads(self.weights[8 : 8 + length])
        self.data = self.weights[8 + length :]
        self.raw: bytes | None = None
        self.texts: list[tuple[str, str]] = []
        self.raw_weights: bytes | None = None
        self.line: Callable[[str], bytes] = head_of
        self.after: list[Callable[[Path], None]] = []

    @property
    def main(self) -> Any:
        return self.body["graphs"][-1]

    def step(self, operation: str) -> Any:
        """The first step of an operation, wherever it stands."""
        for graph in reversed(self.body["graphs"]):
            for step in graph["steps"]:
                if step["operation"] == operation:
                    return step
        raise LookupError(operation)

    def packed(self) -> bytes:
        text = json.dumps(self.header).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + self.data

    def write(self) -> None:
        self.folder.mkdir()
        weights = self.packed() if self.raw_weights is None else self.raw_weights
        (self.folder / "weights.safetensors").write_bytes(weights)
        raw = self.raw
        if raw is None:
            body = {**self.body, "weights_sha256": hashlib.sha256(weights).hexdigest()}
            text = json.dumps(body, allow_nan=True)[1:]
            for old, new in self.texts:
                assert old in text, old
                text = text.replace(old, new, 1)
            raw = text.encode("utf-8", "surrogateescape")
        line = self.line(hashlib.sha256(raw).hexdigest())
        (self.folder / "graph.json").write_bytes(line + raw)
        for change in self.after:
            change(self.folder)


def put(path: str, value: Any) -> Change:
    """Sets what stands at `steps.0.operands` of the main graph, or at `/dims.batch` of the body."""

    def change(forge: Forge) -> None:
        here = forge.body if path.startswith("/") else forge.main
        *way, last = path.lstrip("/").split(".")
        for key in way:
            here = here[int(key) if isinstance(here, list) else key]
        here[int(last) if isinstance(here, list) else last] = value

    return change


def drop(path: str) -> Change:
    def change(forge: Forge) -> None:
        here = forge.body if path.startswith("/") else forge.main
        *way, last = path.lstrip("/").split(".")
        for key in way:
            here = here[int(key) if isinstance(here, list) else key]
        del here[int(last) if isinstance(here, list) else last]

    return change


def of(operation: str, field: str, value: Any) -> Change:
    """Sets a field of the first step of an operation; `parameters.axis` is one inside."""

    def change(forge: Forge) -> None:
        here = forge.step(operation)
        *way, last = field.split(".")
        for key in way:
            here = here[key]
        here[last] = value

    return change


def text(old: str, new: str) -> Change:
    """Changes the JSON as text; bytes that are no UTF-8 stand as surrogates."""
    return lambda forge: forge.texts.append((old, new))


def tensor(name: str, **fields: Any) -> Change:
    """Changes a row of the weights' header."""
    return lambda forge: forge.header[name].update(fields)


def cut(file: str, size: int) -> Change:
    return lambda forge: forge.after.append(lambda folder: os.truncate(folder / file, size))


def replaced(file: str, make: Callable[[Path], None]) -> Change:
    """Something else where a file was."""

    def after(folder: Path) -> None:
        os.unlink(folder / file)
        make(folder / file)

    return lambda forge: forge.after.append(after)


def line(make: Callable[[str], bytes]) -> Change:
    return lambda forge: setattr(forge, "line", make)


def raw(make: Callable[[bytes], bytes]) -> Change:
    return lambda forge: setattr(forge, "raw", make(forge.rest))


def raw_weights(make: Callable[[bytes], bytes]) -> Change:
    return lambda forge: setattr(forge, "raw_weights", make(forge.packed()))


def appended(where: str, value: Any) -> Change:
    def change(forge: Forge) -> None:
        here = forge.body if where.startswith("/") else forge.main
        for key in where.lstrip("/").split("."):
            here = here[int(key) if isinstance(here, list) else key]
        here.append(value)

    return change


def laughs(levels: int, operation: str) -> Change:
    """Graphs that hold the one before twice."""

    def change(forge: Forge) -> None:
        spec = "float32[4]"
        inner = {"inputs": [{"spec": spec, "role": "data"}], "constants": [], "steps": [
            {"operation": "sin", "operands": [0], "results": [spec]}], "outputs": [1]}  # fmt: skip
        graphs = [inner]
        for i in range(levels):
            steps = []
            for k in range(2):
                row: dict[str, Any] = {"operation": operation, "operands": [k], "results": [spec]}
                row["parameters"] = {"graph": {"graph": i}}
                if operation == "scan":
                    row["parameters"] = {
                        "body": {"graph": i}, "length": 4, "reverse": False, "constants": 0,
                        "carry": 1,
                    }  # fmt: skip
                steps.append(row)
            graphs.append({**inner, "steps": steps, "outputs": [2]})
        main = forge.main
        row = {"operation": "call", "operands": [], "parameters": {"graph": {"graph": levels}},
               "results": [spec]}  # fmt: skip
        row["operands"] = [next(i for i, x in enumerate(main["inputs"]) if x["spec"] == spec)]
        shift = len(graphs)
        moved = json.loads(json.dumps(forge.body["graphs"]), object_hook=lambda d: (
            {"graph": d["graph"] + shift} if list(d) == ["graph"] and type(d["graph"]) is int else d
        ))  # fmt: skip
        moved[-1]["steps"].append(row)
        forge.body["graphs"] = graphs + moved

    return change


def many(**rows: list[Change]) -> Iterator[tuple[str, Change]]:
    for kind, changes in rows.items():
        for number, change in enumerate(changes):
            yield f"{kind}-{number}", change
