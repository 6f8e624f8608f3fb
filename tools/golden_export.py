"""Writes exported functions to tests/golden/export; only new ones: what is there is read for ever.

    python tools/golden_export.py

Prints the digests that `tests/test_export_golden.py` holds.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import proa as pa  # noqa: E402
from proa import nn  # noqa: E402
from proa.conformance.cases import cases_of  # noqa: E402
from proa.dtypes import bool_, complex64, float32, int32, int64  # noqa: E402
from proa.exports.operations import OPERATIONS  # noqa: E402
from proa.graph.build import current_sink  # noqa: E402
from proa.graph.rewrite import splice  # noqa: E402
from proa.io import save_file  # noqa: E402
from proa.nn import functional as F  # noqa: E402, N812
from proa.ops.primitive import REGISTRY  # noqa: E402
from tests.helpers_laws import composite_cases  # noqa: E402

FOLDER = ROOT / "tests" / "golden" / "export"
RNG = np.random.default_rng(20261124)


def draw(*shape: int, dtype: Any = float32) -> Any:
    return pa.asarray(RNG.standard_normal(shape), dtype=dtype)


def control(x: Any, steps: Any) -> Any:
    """A loop with a branch inside, then a scan in both directions."""

    def body(c: Any) -> Any:
        i, y = c
        return i + 1, pa.cond(i % 2 == 0, lambda y: y * 0.5, lambda y: y + 1.0, y)

    _, y = pa.while_loop(lambda c: c[0] < steps, body, (pa.asarray(0), x))
    last, sums = pa.scan(lambda h, row: (h * 0.5 + row, h.sum()), pa.zeros(x.shape[1:]), y)
    back, _ = pa.scan(lambda h, row: (pa.maximum(h, row), None), y[0], y, reverse=True)
    turned = pa.switch(steps, [lambda z: z, lambda z: -z, lambda z: z * z], last)
    return {"last": last, "sums": sums, "back": back, "turned": turned}


def random(key: Any) -> Any:
    generator = pa.Generator()
    generator.set_state(key)
    return (
        pa.random.uniform((3,), generator=generator), pa.random.normal((3,), generator=generator),
        pa.random.randint(0, 10, (4,), generator=generator),
        pa.random.permutation(5, generator=generator), generator.get_state(),
    )  # fmt: skip


def half(x: Any) -> Any:
    return F.softmax(x.half() @ x.half().mT, -1), F.layer_norm(x.bfloat16(), (8,))


@pa.custom_vjp
def tripled(x: Any) -> Any:
    return x * x


tripled.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))


SECOND: Final = (  # what version 2 of the list added
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "conj", "cosh", "cumprod", "imag",
    "log10", "log2", "prod", "real", "sinh", "tan",
)  # fmt: skip


def operations(names: Sequence[str]) -> tuple[Any, Any]:
    """A function that applies each of these operations, and its arguments."""
    cases: dict[str, Any] = {}
    for name in names:
        of = REGISTRY[name]
        for dtype in (float32, int64, bool_, complex64):
            plain = of.expand is None and of.meaning is not None
            found = list(cases_of(of, dtype) if plain else composite_cases(name, dtype))[:2]
            if found:
                cases[name] = found
                break
    arrays = {
        name: [[pa.asarray(a) for a in case.arrays] for case in rows]
        for name, rows in cases.items()
    }

    def function(arrays: Any) -> Any:
        results = {}
        for name, rows in cases.items():
            found = []
            for case, operands in zip(rows, arrays[name], strict=True):
                outs = splice(current_sink(), case.graph, [t.value for t in operands])
                found.append([pa.Tensor(o.value) for o in outs])
            results[name] = found
        return results

    print("operations without a case:", sorted(set(names) - set(cases)), file=sys.stderr)
    assert all(name in REGISTRY for name in cases)
    return function, [arrays]


def cases() -> dict[str, Any]:
    """Functions, specs, and arguments at which their results are stored."""
    pa.manual_seed(1)
    mlp = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3), nn.Softmax(-1))
    conv = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    scale, every = draw(4), operations([n for n in OPERATIONS if n not in SECOND])
    second = operations(SECOND)
    return {
        "mlp": (mlp, [pa.spec(("batch", 6))], [draw(3, 6)]),
        "conv": (conv, [pa.spec(("batch", 2, "height", "width"))], [draw(2, 2, 9, 11)]),
        "transformer": (block, [pa.spec(("batch", "length", 8))], [draw(2, 5, 8)]),
        "control": (control, [pa.spec(("n", 4)), pa.spec((), int32)],
                    [draw(5, 4), pa.asarray(3, dtype=int32)]),
        "half": (half, [pa.spec(("n", 8))], [draw(3, 8)]),
        "random": (random, [pa.spec((4,), pa.uint32)], [pa.Generator(5).get_state()]),
        "gradient": (lambda x: pa.value_and_grad(lambda y: (tripled(pa.sin(y)) * scale).sum())(x),
                     [pa.spec(("n", 4))], [draw(3, 4)]),
        "tree": (lambda a, flag, *, k: {"sum": a[0]["x"] + k, "rest": (a[1], None, "text", 2.5)},
                 {"a": [{"x": pa.spec((2,))}, pa.spec(("n",), int64)], "flag": True,
                  "k": pa.spec(())},
                 {"a": [{"x": draw(2)}, pa.arange(3)], "flag": True, "k": draw()}),
        "custom": (lambda x: tripled(x) + 1.0, [pa.spec(("n",))], [draw(3)]),
        "operations": (every[0], every[1], every[1]),
        "operations_2": (second[0], second[1], second[1]),
    }  # fmt: skip


def main() -> None:
    for name, (function, specs, args) in cases().items():
        folder = FOLDER / name
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        pa.export(function, specs, folder / "function")
        found = function(**args) if isinstance(args, dict) else function(*args)
        tensors = {}
        for kind, what in (("given", args), ("found", found)):
            leaves = [t for t in pa.tree.flatten(what)[0] if isinstance(t, pa.Tensor)]
            tensors.update({f"{kind}.{i}": t for i, t in enumerate(leaves)})
        save_file(tensors, folder / "expected.safetensors")
    for file in sorted(FOLDER.rglob("*.*")):
        if file.is_file():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            print(f'    "{file.relative_to(FOLDER)}": "{digest}",')


if __name__ == "__main__":
    main()
