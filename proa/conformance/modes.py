"""Laws of ways to compute: on a backend, mapped over a batch, recorded and replayed."""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np

from proa.capture.jit import jit
from proa.compile.backend import Backend
from proa.compile.find import default_device
from proa.conformance.cases import Array, Case, draw, evaluate, run_on
from proa.conformance.judge import STRICT, Widen, judge, verdict
from proa.graph.build import current_sink
from proa.graph.rewrite import splice
from proa.tensor import Tensor, put
from proa.transforms.vmap import batched_graph

BATCH: Final = 3


def accuracy_holds(case: Case, backend: Backend, wider: Widen = STRICT) -> list[str]:
    results = run_on(backend, case.graph, case.arrays)
    verdicts = [
        verdict(r, j) for r, j in zip(results, judge(case.graph, case.arrays, wider), strict=True)
    ]
    return [v for v in verdicts if v]


def batching_holds(case: Case) -> list[str]:
    """For every choice of mapped operands. Exact operations agree bitwise, others in the bound."""
    found = []
    count = len(case.graph.inputs)
    stacks = [_stack_of(a, i, case) for i, a in enumerate(case.arrays)]
    for flags in product((False, True), repeat=count):
        if not any(flags):
            continue
        graph = batched_graph(case.graph, flags, BATCH)
        arrays = [s if f else a for s, a, f in zip(stacks, case.arrays, flags, strict=True)]
        together = evaluate(graph, arrays)
        for k in range(BATCH):
            row = [s[k] if f else a for s, a, f in zip(stacks, case.arrays, flags, strict=True)]
            alone = evaluate(case.graph, row)
            bounds = judge(case.graph, row)
            for i, (whole, one, j) in enumerate(zip(together, alone, bounds, strict=True)):
                wrong = (
                    _unlike(whole[k], one, j.error)
                    if whole.shape[:1] == (BATCH,)
                    else "no batch axis"
                )
                if wrong:
                    found.append(f"mapped {flags}, result {i}, row {k}: {wrong}")
    return found


def _stack_of(array: Array, index: int, case: Case) -> Array:
    """Rows drawn anew; the first is the operand itself. Of composites its elements, shuffled."""
    rng = np.random.default_rng([11, index])
    of, primitive = case.graph.inputs[index].spec, case.entry.primitive
    if primitive.meaning is None:
        shuffled = [
            rng.permutation(array.reshape(-1)).reshape(array.shape) for _ in range(BATCH - 1)
        ]
        return np.stack([array, *shuffled])
    return np.stack([array] + [draw(of, index, primitive, rng) for _ in range(BATCH - 1)])


def _unlike(found: Array, expected: Array, error: Array) -> str:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"{found.dtype}{found.shape}, expected {expected.dtype}{expected.shape}"
    if found.tobytes() == np.ascontiguousarray(expected).tobytes():
        return ""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        near = (np.abs(a - b) <= 2 * error) | (a == b) | (np.isnan(a) & np.isnan(b))
    if near.all():
        return ""
    at = tuple(int(k) for k in np.argwhere(~near)[0])
    return f"{found[at]!r} at {at}, expected {expected[at]!r}"


def jit_holds(case: Case) -> list[str]:
    """Recorded and replayed, and read early: the bits of the dynamic run."""
    inputs = [i.spec for i in case.graph.inputs]
    device = default_device()

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(splice(current_sink(), case.graph, [t.value for t in tensors]))

    tensors = [put(a, s, device) for a, s in zip(case.arrays, inputs, strict=True)]
    jitted = jit(function)
    first = [t.numpy() for t in function(*tensors)]
    found = []
    for call in range(4):
        again = [t.numpy() for t in jitted(*tensors)]
        for i, (a, b) in enumerate(zip(first, again, strict=True)):
            if (a.shape, a.dtype, a.tobytes()) != (b.shape, b.dtype, b.tobytes()):
                found.append(f"call {call + 1}, result {i}: {b!r:.80}, dynamic {a!r:.80}")
    return found
