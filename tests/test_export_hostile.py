"""Hostile exports are refused: with FileError, at once, in little memory, whatever is forged.

Each kind stands at three places or more, with digests that are right, so that only the contents can
betray it. The folders are loaded by one process that may take 64 MB more than it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import proa as pa
from proa.errors import FileError
from proa.exports.folder import GRAPH, WEIGHTS
from tests.helpers_forged import (
    DEEP,
    Change,
    Forge,
    appended,
    cut,
    drop,
    export_all,
    laughs,
    line,
    many,
    of,
    put,
    raw,
    raw_weights,
    replaced,
    tensor,
    text,
)

ROOT = Path(__file__).parent.parent
MEMORY = 64_000_000
BIG = "9" * 5000
WRONG = (None, 1, "x", [], {}, True, 1.5, [None], {"a": 1})
FIELDS = ("proa", "operations", "name", "positional", "arguments", "result", "dims", "weights",
          "graphs")  # fmt: skip
FORM = "/arguments.0.form"


def wide(rows: int) -> Change:
    """Very many steps, each of which is right."""
    step = {"operation": "sin", "operands": [0], "results": ["float32[batch, length, 4]"]}
    return lambda forge: forge.main["steps"].extend([step] * rows)


def sparse(file: str, size: int) -> Change:
    return cut(file, size)


def chain(forge: Forge) -> None:
    """A product of a dim with itself, again and again."""
    spec = "float32[batch, length, 4]"
    for _ in range(3):
        forge.main["steps"].append({
            "operation": "concatenate", "operands": [0] * 5000, "parameters": {"axis": 2},
            "results": [spec],
        })  # fmt: skip


def swapped(forge: Forge) -> None:
    forge.header["layer.weight"], forge.header["layer.bias"] = (
        forge.header["layer.bias"], forge.header["layer.weight"],
    )  # fmt: skip


def bad_bool(forge: Forge) -> None:
    start, end = forge.header["mask"]["data_offsets"]
    forge.data = forge.data[:start] + b"\2" * (end - start) + forge.data[end:]


def renamed(name: str) -> Change:
    def change(forge: Forge) -> None:
        forge.header[name] = forge.header.pop("mask")

    return change


KINDS: dict[str, list[Change]] = {
    "cut off": [
        *[cut(GRAPH, n) for n in (0, 1, 60, 111, 3000)],
        *[cut(WEIGHTS, n) for n in (0, 7, 8, 100, 400)],
        raw(lambda b: b[:-2]), raw(lambda b: b[:1000]), raw_weights(lambda b: b[:-4]),
    ],
    "no utf-8": [
        text('"linear"', '"lin\udcffear"'), text('"name": "function"', '"name": "\udcc3("'),
        text("layer.bias", "\udcf0\udc80"), raw_weights(lambda b: b.replace(b"layer", b"\xff\xfeyer")),
    ],
    "keys twice": [
        text('"proa":', '"proa": "0", "proa":'), text('"operation": "linear"',
        '"operation": "sin", "operation": "linear"'), text('"least":', '"least": 0, "least":'),
        text('"given":', '"given": [], "given":'),
        text('"dims": {', '"dims": {"batch": {"least": 0, "most": null, "examples": [3]}, '),
        text('"proa":', '"sha256": "", "proa":'),
        raw_weights(lambda b: b.replace(b'{"dtype"', b'{"dtype":"F32","dtype"', 1)),
    ],
    "too deep": [
        text('"given": ["bias"]', f'"given": {DEEP}'), text('"positional": 2', f'"positional": {DEEP}'),
        put("steps.0.parameters.given", json.loads("[" * 50 + "]" * 50)),
        put(FORM, json.loads('{"list": [' * 90 + '{"value": 1}' + "]}" * 90)),
        put("/result", json.loads('{"dict": [["k", ' * 90 + '{"value": 1}' + "]]}" * 90)),
        text('"dims": {', '"dims": {"a": ' + '{"b":' * 50_000 + "1" + "}" * 50_000 + ", "),
    ],
    "no numbers": [
        put("constants.0.value", [float("nan")]), put("/dims.batch.least", float("inf")),
        of("sum", "parameters.axes", [float("-inf")]), put("/positional", float("nan")),
        text('"positional": 2', '"positional": 1e999'), text('"value": [10.0]', '"value": [-1e999]'),
        text('"value": [0.5]', '"value": [1e400]'),
    ],
    "huge ints": [
        text('"positional": 2', f'"positional": {BIG}'), text('"count": 1', f'"count": {BIG}'),
        put("steps.0.operands", [2**70, 2, 3]), put("outputs", [2**63]),
        put("/dims.batch.most", 2**100), put("/dims.batch.examples", [2**63, 5, 7]),
        of("max_pool", "parameters.kernel", [2**62]), of("sum", "parameters.axes", [2**64]),
        put("inputs.4.spec", f"float32[{2**64}]"), put("constants.0.value", [2**64]),
    ],
    "unknown versions": [
        *[line(lambda d, n=n: f'{{"format": "proa export", "version": {n}, "sha256": "{d}",\n'.encode())
          for n in (0, 2, 99, 999_999_999)],
        *[put("/operations", n) for n in (0, 3, -1, 10**6, "1", True, None)],
    ],
    "another head": [
        line(lambda d: f'{{"format": "proa", "version": 1, "sha256": "{d}",\n'.encode()),
        line(lambda d: f'{{"format": "proa export", "version": 1, "sha256": "{d.upper()}",\n'.encode()),
        line(lambda d: f' {{"format": "proa export", "version": 1, "sha256": "{d}",\n'.encode()),
        line(lambda d: f'\ufeff{{"format": "proa export", "version": 1, "sha256": "{d}",\n'.encode()),
        line(lambda d: f'{{"format": "proa export", "version": 1, "sha256": "{d}", '.encode()),
        line(lambda d: b""), line(lambda d: b"#!/usr/bin/python\n"), line(lambda d: b"\x80\x04\x95"),
    ],
    "another digest": [
        line(lambda d: f'{{"format": "proa export", "version": 1, "sha256": "{d[::-1]}",\n'.encode()),
        lambda forge: forge.after.append(lambda f: (f / WEIGHTS).write_bytes(forge.packed() + b" ")),
        lambda forge: forge.after.append(
            lambda f: (f / GRAPH).write_bytes((f / GRAPH).read_bytes() + b" ")),
        raw(lambda b: b.replace(b'"weights_sha256": "', b'"weights_sha256": "0')),
        raw(lambda b: b.replace(b'"weights_sha256"', b'"weights_sha512"')),
    ],
    "unknown operations": [
        *[of("linear", "operation", n) for n in
          ("os.system", "", "__import__", "backward", "saving", "Linear", None, 1, ["sin"], {})],
        of("add", "operation", "eval"), of("neg", "operation", "exec"),
    ],
    "wrong arity": [
        of("linear", "operands", [0]), of("linear", "operands", [0, 2, 3, 3]),
        of("add", "operands", []), of("add", "operands", [0, 0, 0]), of("sin", "operands", [0, 0]),
        of("branch", "operands", [26]), of("loop", "operands", []), of("scan", "operands", []),
        of("custom", "operands", [30]), of("select", "operands", [5, 7]),
        of("iota", "operands", [0]), of("neg", "operands", []), of("reshape", "operands", []),
    ],
    "slots ahead": [
        put("steps.0.operands", [13, 2, 3]), put("steps.0.operands", [14, 2, 3]),
        put("steps.3.operands", [16, 7, 8]), put("steps.3.operands", [10**9, 7, 8]),
        put("/graphs.0.steps.0.operands", [2]), put("/graphs.2.steps.0.operands", [5]),
    ],
    "slots behind": [
        put("steps.0.operands", [-1, 2, 3]), put("outputs", [-1, 31, 36, 1]),
        put("/graphs.0.steps.0.operands", [-1]), put("/graphs.4.outputs", [2, -3]),
    ],
    "slots that are none": [
        put("steps.0.operands", [0.0, 2, 3]), put("steps.0.operands", [True, 2, 3]),
        put("steps.0.operands", ["0", 2, 3]), put("steps.0.operands", [None, 2, 3]),
        put("steps.0.operands", [[0], 2, 3]), put("outputs", [35.0, 31, 36, 1]),
        put("/graphs.0.outputs", ["2"]),
    ],
    "outputs out of range": [
        put("outputs", [38, 31, 36, 1]), put("outputs", [35, 31, 36, 10**12]), put("outputs", []),
        put("outputs", [35]), put("outputs", [35, 31, 36, 1, 1]), put("/graphs.0.outputs", [3]),
        put("/graphs.4.outputs", [2]),
    ],
    "dims": [
        put("inputs.0.spec", "float32[batch, batch, 4]"), put("inputs.0.spec", "float32[other, length, 4]"),
        put("inputs.0.spec", "float32[3, 5, 4]"), drop("/dims.batch"), put("/dims", {}),
        put("/dims.third", {"least": 0, "most": None, "examples": [3]}),
        put("/dims.class", {"least": 0, "most": None, "examples": [3]}),
        put("/dims.batch", {"least": 0, "most": None}), put("/dims.batch.examples", []),
        put("/dims.batch.examples", ["3"]),
        put("/dims.batch.least", -1), put("/dims.batch.least", 50), put("/dims.batch.most", 0),
        put("/dims.batch.least", True), put("/dims.batch", None), put("/dims.length.most", "x"),
        put("/dims", {f"d{i}": {"least": 0, "most": None, "examples": [3]} for i in range(99)}),
    ],
    "polynomials": [
        *[of("reshape", "parameters.shape", [{"size": t}, 4]) for t in (
            f"{2**62}*batch", "batch**9*length**9", "9223372036854775807*batch*length",
            "-5*batch", "batch*nothing", "batch +", "2batch", "batch*length + batch*length",
            "__import__('os')", "", "batch**99", " + ".join(["batch"] * 40), "batch**-1", "1e9*batch",
            "batch/2", "0x10*batch", "*".join(["batch"] * 200), "\u0661*batch")],
        of("scan", "parameters.length", {"size": "batch"}), of("scan", "parameters.length", {"size": 5}),
        put("inputs.0.spec", "float32[2*batch, length, 4]"), put("inputs.0.spec", "float32[batch**2, length, 4]"),
    ],
    "negative sizes": [
        put("inputs.2.spec", "float32[-4, -4]"), put("inputs.0.spec", "float32[-1*batch, length, 4]"),
        of("reshape", "parameters.shape", [{"size": "batch*length"}, -4]),
        of("iota", "parameters.shape", [-1]), of("broadcast", "parameters.shape", [-4]),
        of("dynamic_slice", "parameters.sizes", [-4]), of("scan", "parameters.length", -1),
        of("scan", "parameters.carry", -1), of("scan", "parameters.constants", -1),
        of("custom", "parameters.count", -1), tensor("mask", shape=[-4]),
    ],
    "weights missing": [
        put("/weights", []), put("/weights", ["layer.weight", "layer.bias", "captured.0"]),
        lambda forge: forge.header.pop("mask") and setattr(forge, "data", forge.data[:-4]),
        renamed("other"), renamed("constant:0"), put("/weights", ["mask", "layer.bias"]),
    ],
    "weights too many": [
        put("/weights", ["layer.weight", "layer.bias", "captured.0", "mask", "more"]),
        put("/weights", ["layer.weight", "layer.bias", "captured.0", "mask", "mask"]),
        lambda forge: forge.header.update(
            {"more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        lambda forge: forge.header.update(
            {"constant:0": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        put("/weights", ["layer.bias", "layer.weight", "captured.0", "mask"]),
    ],
    "weights of another kind": [
        tensor("layer.weight", dtype="I32"), tensor("layer.weight", shape=[16]),
        tensor("layer.weight", shape=[2, 8]), tensor("layer.bias", dtype="U32"),
        tensor("mask", dtype="U8"), tensor("mask", dtype="I32", shape=[1]), swapped,
        tensor("captured.0", shape=[20, 1]), bad_bool, put("/weights", [1, 2, 3, 4]),
        put("/weights", ["layer.weight", "layer.bias", "captured.0", ["mask"]]),
    ],
    "places in the file": [
        tensor("mask", data_offsets=[0, 4]), tensor("mask", data_offsets=[4, 0]),
        tensor("mask", data_offsets=[-4, 0]), tensor("mask", data_offsets=[10**15, 10**15 + 4]),
        tensor("layer.bias", data_offsets=[0, 16]), tensor("layer.weight", data_offsets=[16, 80]),
        tensor("captured.0", data_offsets=[8, 88]), tensor("mask", data_offsets=[160, 164, 168]),
        tensor("mask", data_offsets="0"), lambda forge: setattr(forge, "data", forge.data + b"\0" * 8),
    ],
    "products that overflow": [
        put("inputs.2.spec", "float32[4294967296, 4294967296]"),
        put("inputs.4.spec", "float32[" + ", ".join(["1000000"] * 12) + "]"),
        of("iota", "parameters.shape", [2**40, 2**40]),
        of("broadcast", "parameters.shape", [2**31, 2**31, 4]),
        tensor("layer.weight", shape=[2**32, 2**32]), tensor("layer.weight", shape=[2**63, 2, 0]),
        tensor("mask", shape=[2**62, 4]),
    ],
    "gigantic": [
        wide(60_000), wide(250_000), sparse(GRAPH, 10**10), lambda forge: forge.after.append(
            lambda f: (f / WEIGHTS).write_bytes((10**8).to_bytes(8, "little") + b" " * 10**6)),
        raw(lambda b: b'"x": [' + b"[]," * 4_000_000 + b"[]]}"),
        raw(lambda b: b'"x": "' + b"a" * 30_000_000 + b'"}'),
        raw(lambda b: b'"x": [' + b"{}," * 2_000_000 + b"{}]}"),
        raw(lambda b: b"{" + b",".join([b'"%d":0' % i for i in range(900_000)]) + b"}"),
        raw_weights(lambda b: (12_000_000).to_bytes(8, "little") + b"[" * 12_000_000),
        raw_weights(lambda b: (2**63 - 1).to_bytes(8, "little") + b),
        put("/weights", [str(i) for i in range(100_000)]),
        put(FORM, {"list": [{"value": 1}] * 300_000}), chain,
    ],
    "graphs in a circle": [
        of("scan", "parameters.body", {"graph": 7}), of("scan", "parameters.body", {"graph": 8}),
        of("scan", "parameters.body", {"graph": -1}), of("loop", "parameters.body", {"graph": 10**9}),
        of("branch", "parameters.graphs", [{"graph": 7}, {"graph": 7}]),
        of("custom", "parameters.rule", {"graph": "5"}), of("custom", "parameters.graph", {"graph": 5.0}),
        of("custom", "parameters.graph", {"graph": True}),
        put("/graphs.0.steps.0", {"operation": "call", "operands": [1],
                                  "parameters": {"graph": {"graph": 0}}, "results": ["float32[]"]}),
    ],
    "graphs in graphs in graphs": [laughs(40, "call"), laughs(200, "call"), laughs(60, "scan")],
    "graphs that nobody uses": [
        appended("/graphs", {"inputs": [], "constants": [], "steps": [], "outputs": []}),
        of("branch", "parameters.graphs", [{"graph": 0}, {"graph": 0}]), put("/graphs", []),
        put("/graphs", [None]), put("/graphs", [[]]), put("/graphs", [{}]), put("/graphs.0", {}),
    ],
    "links and pipes": [
        *[replaced(f, make) for f in (GRAPH, WEIGHTS) for make in (
            lambda p: os.mkfifo(p), lambda p: p.symlink_to("/dev/zero"), lambda p: p.mkdir(),
            lambda p: p.symlink_to("/etc/passwd"), lambda p: p.symlink_to(p.name),
            lambda p: p.symlink_to("../good/" + p.name), lambda p: p.symlink_to("nowhere"))],
        replaced(WEIGHTS, lambda p: None),
    ],
    "paths": [
        put("/weights", ["../layer.weight", "layer.bias", "captured.0", "mask"]),
        put("/weights", ["/etc/passwd", "layer.bias", "captured.0", "mask"]),
        put("/weights_file", "../good/weights.safetensors"), put("/path", "/etc/passwd"),
        put("constants.0", {"spec": "int64[]", "tensor": "../good"}),
        put("steps.0.line", "../../etc/passwd"),
    ],
    "fields of another type": [
        put(f"/{name}", value) for name in FIELDS for value in WRONG
        if not (name in ("proa", "name") and value == "x")
        and not (name in ("operations", "positional") and type(value) is int)
    ],
    "fields missing": [
        *[drop(f"/{name}") for name in FIELDS], drop("steps.0.operands"), drop("steps.0.results"),
        drop("steps.0.operation"), drop("steps.0.parameters"), drop("inputs.0.role"),
        drop("inputs.0.spec"), drop("constants.0.value"), drop("constants.0.spec"), drop("outputs"),
        drop("/arguments.0.name"), drop(FORM), drop("/dims.batch.most"),
    ],
    "fields too many": [
        put("/code", "import os"), put("steps.0.code", "1"), put("inputs.0.name", "x"),
        put("constants.0.tensor", "x"), put("/graphs.0.name", "x"), put("/dims.batch.x", 1),
        put("/arguments.0.default", 1), put(f"{FORM}.value", 1),
        tensor("mask", more=1),
    ],
    "results that are others": [
        *[put("steps.0.results", r) for r in (
            [], ["float32[batch, length, 5]"], ["float64[batch, length, 4]"],
            ["float32[length, batch, 4]"], ["float32[batch, length]"], ["float32[3, 5, 5]"], [None],
            ["float32[batch, length, 4]"] * 2, ["float32[?, ?]"], ["float32[?, ?, 5]"],
            ["float32[batch, length, 4] weak"], "float32[batch, length, 4]", ["float32"], [""],
            ["float32[batch,length,4]"], ["float32[batch, length, 4] grad"])],
        put("/graphs.0.steps.0.results", ["float32[]"]), of("scan", "results", ["float32[4]"]),
        of("loop", "results", []),
    ],
    "parameters of another kind": [
        of("cast", "parameters.weak", 0), of("cast", "parameters.dtype", "float32"),
        of("cast", "parameters.dtype", {"dtype": "float33"}), of("cast", "parameters.dtype", None),
        of("sum", "parameters.axes", [0.0, 1.0]), of("sum", "parameters.axes", [True]),
        of("sum", "parameters.axes", 0), of("sum", "parameters.axes", None),
        of("sum", "parameters.axes", ["0"]), of("sum", "parameters.axes", [[0]]),
        of("reshape", "parameters.shape", [15.0, 4.0]), of("iota", "parameters.axis", "0"),
        of("linear", "parameters.given", [0]), of("linear", "parameters.given", "bias"),
        of("scan", "parameters.reverse", 0), of("scan", "parameters.length", 15.0),
        of("scan", "parameters.body", 4), of("custom", "parameters.rule", None),
        of("max_pool", "parameters.ceil", None), of("branch", "parameters.graphs", {"graph": 0}),
        of("branch", "parameters.graphs", []), of("branch", "parameters.graphs", [{"graph": 0}, 1]),
        of("sum", "parameters.axes", {"size": "batch"}), of("sum", "parameters.axes", {"float": "nan"}),
        of("sum", "parameters.axes", {"complex": [1.0, 2.0]}), of("sum", "parameters.axes", {"spec": "float32[2]"}),
        of("sum", "parameters.axes", {"code": "x"}), of("sum", "parameters.axes", {}),
        of("sum", "parameters", {"axes": [0, 1], "more": 1}), of("sum", "parameters", {}),
        of("sum", "parameters", None), of("sum", "parameters", [0]), of("sin", "parameters", {"x": 1}),
    ],
    "parameters out of range": [
        of("sum", "parameters.axes", [7]), of("sum", "parameters.axes", [0, 0]),
        of("sum", "parameters.axes", [-9]), of("reshape", "parameters.shape", [7, 7]),
        of("dynamic_slice", "parameters.axes", [5]), of("dynamic_slice", "parameters.sizes", [21]),
        of("dynamic_slice", "parameters.strides", [0]), of("iota", "parameters.axis", 3),
        of("broadcast", "parameters.axes", [9]), of("linear", "parameters.given", ["bias", "bias"]),
        of("linear", "parameters.given", ["eval"]), of("scan", "parameters.carry", 9),
        of("scan", "parameters.constants", 10**6), of("custom", "parameters.count", 5),
        of("max_pool", "parameters.kernel", [10**9]), of("max_pool", "parameters.kernel", [0]),
        of("max_pool", "parameters.stride", [0]), of("max_pool", "parameters.kernel", [2] * 40),
        of("max_pool", "parameters.padding", [10**12]), of("max_pool", "parameters.dilation", [0]),
    ],
    "graphs that do not fit": [
        of("branch", "parameters.graphs", [{"graph": 0}, {"graph": 4}]),
        of("branch", "parameters.graphs", [{"graph": 2}, {"graph": 2}]),
        of("loop", "parameters.condition", {"graph": 3}), of("loop", "parameters.body", {"graph": 2}),
        of("loop", "parameters.body", {"graph": 0}), of("scan", "parameters.body", {"graph": 5}),
        of("custom", "parameters.graph", {"graph": 6}), of("custom", "parameters.rule", {"graph": 5}),
        put("/graphs.0.inputs.1.spec", "float32[batch, 4]"), put("/graphs.5.inputs.0.spec", "float32[5]"),
    ],
    "roles": [put("inputs.0.role", r) for r in (None, "", "admin", 1, ["data"], "DATA")],
    "specs": [
        put("inputs.4.spec", s) for s in (
            None, 1, "", "float32", "float32[", "float32[20]]", "float33[20]", "object[20]",
            "float32[20", "float32[2 0]", "float32[20.0]", "float32[?]", "float32[20] weak",
            "float32[20] grad", "float32[" + "1, " * 65 + "1]", "float32[0x14]", "<f4[20]",
            "float32[20]\n", "float32[" + "9" * 30 + "]")
    ],
    "trees": [
        put(FORM, {"tensor": "float32[batch, length, 5]"}), put(FORM, {"tensor": "float32[3, 5, 4]"}),
        put(FORM, {"list": []}), put(FORM, {"tuple": [{"tensor": "float32[batch, length, 4]"}] * 2}),
        put(FORM, {"named": "class", "fields": [["x", {"tensor": "float32[batch, length, 4]"}]]}),
        put(FORM, {"named": "P", "fields": [["_x", {"tensor": "float32[batch, length, 4]"}]]}),
        put(FORM, {"named": "__class__", "fields": [["x", {"tensor": "float32[batch, length, 4]"}]]}),
        put(FORM, {"named": "P", "fields": [["def", {"tensor": "float32[batch, length, 4]"}]]}),
        put(FORM, {"named": "P", "fields": []}), put(FORM, {"set": []}), put(FORM, {"value": [1]}),
        put(FORM, {"dict": [["x"]]}), put(FORM, {"dict": {"x": {"value": 1}}}),
        put("/arguments.1.form", {"dict": [["k", {"tensor": "float64[2]"}], ["k", {"value": 1}]]}),
        put("/arguments.1.form", {"dict": [[None, {"tensor": "float64[2]"}]]}),
        put("/arguments.1.form", {"dict": [[1.5, {"tensor": "float64[2]"}]]}),
        put("/result", {"tensor": "float32[4]"}), put("/result.dict.0.1", {"tensor": "float32[5]"}),
        put("/result.dict.0.1", {"value": None}), put("/result", {"value": 1}),
    ],
    "arguments": [
        put("/arguments.1.name", "x"), put("/arguments.0.name", "not a name"),
        put("/arguments.0.name", "class"), put("/arguments.0.name", ""), put("/arguments.0.name", None),
        put("/arguments.0.name", "a" * 300), put("/arguments", []), drop("/arguments.0"),
        put("/positional", -1), put("/positional", 4), put("/positional", "2"), put("/name", ""),
        put("/name", "x" * 1000), put("/name", None), put("/proa", "x" * 1000),
    ],
    "constants": [
        put("constants.0.value", []), put("constants.0.value", [0, 0]), put("constants.0.value", [0.5]),
        put("constants.0.value", ["0"]), put("constants.0.value", [True]), put("constants.0.value", 0),
        put("constants.1.value", [1]), put("constants.1.value", [{"float": "1e5"}]),
        put("constants.1.value", [{"float": "__import__"}]), put("constants.0.spec", "int64[3]"),
        put("constants.0.spec", "int64[1000000000]"), put("constants.0", {"spec": "int64[]"}),
        put("constants.0", {"spec": "int64[]", "tensor": "mask"}),
        put("constants.0", {"spec": "int64[]", "tensor": 1}),
        put("constants.1.value", {"size": 7}), put("constants.1.value", {"size": "3"}),
        put("constants.1", {"spec": "bool[]", "value": {"size": "batch"}}),
        put("constants.1", {"spec": "float32[2]", "value": {"size": "batch"}}), put("constants", {}),
    ],
    "lines and modules": [
        put("steps.0.line", "nothing"), put("steps.0.line", "x:" + "9" * 40), put("steps.0.line", 7),
        put("steps.0.line", "a" * 5000 + ":1"), put("steps.0.line", ["x:1"]),
        put("steps.0.module", 7), put("steps.0.module", "m" * 5000), put("steps.0.module", None),
    ],
    "other json": [
        raw(lambda b: b), raw(lambda b: b""), raw(lambda b: b"}"), raw(lambda b: b'"x": 1}'),
        raw(lambda b: b'"x": 1} {'), raw(lambda b: b"//\n}"), raw(lambda b: b'"x": 1,}'),
        raw(lambda b: b"'x': 1}"), raw(lambda b: b'"x": 01}'), raw(lambda b: b'"x": +1}'),
    ],
    "other headers": [
        raw_weights(lambda b: b[:8] + b"[" + b[9:]), raw_weights(lambda b: b"\0" * 8 + b[8:]),
        raw_weights(lambda b: (2).to_bytes(8, "little") + b"[]"),
        raw_weights(lambda b: (4).to_bytes(8, "little") + b"null"),
        raw_weights(lambda b: b"PK\3\4" + b), raw_weights(lambda b: b"\x80\x02ccollections\n"),
        tensor("mask", dtype="O"), tensor("mask", dtype=None), tensor("mask", dtype=["BOOL"]),
        tensor("mask", shape=[4.0]), tensor("mask", shape="4"), tensor("mask", shape=[1] * 100 + [4]),
        lambda forge: forge.header.update({"__metadata__": {"a": 1}}),
        lambda forge: forge.header.update({"__metadata__": []}),
        lambda forge: forge.header.update({"mask": 1}),
    ],
}  # fmt: skip

SCRIPT = """
import json, os, resource, sys, time
import proa as pa
from proa.errors import FileError
folder, memory = sys.argv[1], int(sys.argv[2])
pa.load(folder + "/good")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sorted(os.listdir(folder)):
    if name == "good":
        continue
    begin = time.perf_counter()
    try:
        pa.load(folder + "/" + name)
        found = "LOADED"
    except FileError as error:
        found = "" if str(error).startswith("[load") else f"words: {error}"
        if len(str(error)) > 1000:
            found = "a long message"
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([name, found, seconds, (now - peak) * 1024]), flush=True)
pa.load(folder + "/good")
print(json.dumps(["good", "", 0, 0]))
"""


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 40 and all(len(changes) >= 3 for changes in KINDS.values())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: Any) -> dict[str, Any]:
    """What loading each forged folder came to."""
    folder = tmp_path_factory.mktemp("forged")
    export_all(folder / "good")
    expected = []
    for name, change in many(**KINDS):
        forge = Forge(folder / "good", folder / name.replace(" ", "_"))
        change(forge)
        forge.write()
        expected.append(name.replace(" ", "_"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder), str(MEMORY)], capture_output=True,
            text=True, timeout=250, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    rows = {row[0]: row[1:] for row in map(json.loads, done.stdout.splitlines())}
    missing = sorted({*expected, "good"} - set(rows))
    assert not missing, (missing[:3], list(rows)[-1:], done.stderr[-2000:])
    return rows


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_refused(kind: str, outcomes: dict[str, Any]) -> None:
    mine = {n: o for n, o in outcomes.items() if n.rpartition("-")[0] == kind.replace(" ", "_")}
    assert len(mine) == len(KINDS[kind])
    wrong = {name: found for name, (found, _, _) in mine.items() if found}
    assert not wrong
    assert max(taken for _, _, taken in mine.values()) <= MEMORY
    assert max(seconds for _, seconds, _ in mine.values()) < 10  # of one, on a busy machine


@pytest.fixture
def memory() -> Any:
    """A folder that lies in memory, where there is such a thing."""
    there = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=there if os.access(there, os.W_OK) else None) as name:
        yield Path(name)


def test_flipped_bits_and_cuts_are_refused_or_change_nothing(memory: Path) -> None:
    """With the digests that were: each of 10,000 damages is found."""
    good, folder = memory / "good", memory / "bad"
    export_all(good)
    raw = {name: (good / name).read_bytes() for name in (GRAPH, WEIGHTS)}
    shutil.copytree(good, folder)
    rng = np.random.default_rng(0)
    for number in range(10_000):
        name = GRAPH if number % 2 else WEIGHTS
        bad = bytearray(raw[name])
        if number % 5 == 0:
            del bad[rng.integers(len(bad)) :]
        else:
            bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(bad)
        with pytest.raises(FileError):
            pa.load(folder)
        (folder / name).write_bytes(raw[name])


def test_flipped_bits_with_right_digests_are_refused_or_a_function(memory: Path) -> None:
    """What nobody can tell from what was written may load; nothing but FileError is raised."""
    good, folder = memory / "good", memory / "bad"
    export_all(good)
    rng = np.random.default_rng(1)
    loaded = 0
    for number in range(1500):
        forge = Forge(good, folder)
        if number % 3:
            bad = bytearray(json.dumps(forge.body)[1:].encode())
            for _ in range(int(rng.integers(1, 3))):
                bad[rng.integers(len(bad) - 1)] ^= 1 << int(rng.integers(8))
            digest = hashlib.sha256(forge.packed()).hexdigest()
            forge.raw = bytes(bad)[:-1] + f', "weights_sha256": "{digest}"}}'.encode()
        else:
            weights = bytearray(forge.packed())
            weights[rng.integers(len(weights))] ^= 1 << int(rng.integers(8))
            forge.raw_weights = bytes(weights)
        forge.write()
        try:
            assert callable(pa.load(folder))
            loaded += 1
        except FileError:
            pass
        shutil.rmtree(folder)
    assert 0 < loaded < 1200


def test_what_is_forged_well_is_a_function(tmp_path: Path) -> None:
    """The forge itself does nothing wrong."""
    export_all(tmp_path / "good")
    forge = Forge(tmp_path / "good", tmp_path / "again")
    forge.write()
    x, k = pa.ones((2, 3, 4)), pa.ones(2, dtype=pa.float64)
    a, b = [pa.load(tmp_path / n)(x, {"k": k}, flag=True) for n in ("good", "again")]
    assert a["last"].tolist() == b["last"].tolist()
