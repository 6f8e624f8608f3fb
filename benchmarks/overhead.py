"""What Proa's own machinery costs beside PyTorch's, where the computation is negligible.

    python benchmarks/overhead.py      # in an environment with proa and torch==2.13.0

Recording an operation, a training step of the demo's model at width 8, a jitted call, import.
Each pair takes turns in one process; both compute the same numbers, which is checked first.
"""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import torch
from common import interleaved, processor

import proa as pa
from proa import optim
from proa.examples.gpt import GPT, Config
from proa.nn import functional as F  # noqa: N812
from proa.record.live import thread

LAYERS, WIDTH, HEADS, BATCH, LENGTH, VOCABULARY = 6, 8, 2, 2, 8, 32


class TorchBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(WIDTH)
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.project = torch.nn.Linear(WIDTH, WIDTH)
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.widen = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.narrow = torch.nn.Linear(4 * WIDTH, WIDTH)

    def attend(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, HEADS, w // HEADS).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(mixed.permute(0, 2, 1, 3).reshape(b, t, w))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        inner = torch.nn.functional.gelu(self.widen(self.norm2(x)), approximate="tanh")
        return x + self.narrow(inner)


class TorchGPT(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.position = torch.nn.Embedding(LENGTH, WIDTH)
        self.blocks = torch.nn.ModuleList([TorchBlock() for _ in range(LAYERS)])
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.token.weight

    def forward(self, ids):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def operations() -> None:
    a = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    x, y = pa.asarray(a), pa.asarray(a)
    tx, ty = torch.tensor(a), torch.tensor(a)
    gx, tgx = pa.asarray(a).requires_grad_(), torch.tensor(a, requires_grad=True)
    rows = {
        "x * y": (lambda: x * y, lambda: tx * ty),
        "x * y with gradient": (lambda: gx * y, lambda: tgx * ty),
        "x * 2.0": (lambda: x * 2.0, lambda: tx * 2.0),
        "tanh(x)": (lambda: pa.tanh(x), lambda: torch.tanh(tx)),
        "tanh(x) with gradient": (lambda: pa.tanh(gx), lambda: torch.tanh(tgx)),
        "x @ y": (lambda: x @ y, lambda: tx @ ty),
        "x.sum(0)": (lambda: x.sum(0), lambda: tx.sum(0)),
    }
    print(f"{'recording one operation':36s} {'Proa us':>9s} {'PyTorch us':>11s} {'ratio':>7s}")
    for name, (ours, theirs) in rows.items():
        assert np.allclose(ours().numpy(), theirs().detach().numpy(), atol=1e-6)
        gc.disable()
        found = interleaved(
            {"proa": ours, "torch": theirs}, 1000, between=lambda: thread.state.handles.clear()
        )
        gc.enable()
        report(name, found["proa"], found["torch"])


def report(name: str, ours: float, theirs: float) -> None:
    print(f"{name:36s} {ours * 1e6:9.2f} {theirs * 1e6:11.2f} {theirs / ours:7.2f}")


def training_step() -> None:
    torch.manual_seed(0)
    theirs = TorchGPT()
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, LENGTH + 1))
    x, y = pa.asarray(ids[:, :-1]), pa.asarray(ids[:, 1:])
    tx, ty = torch.tensor(ids[:, :-1]), torch.tensor(ids[:, 1:])

    def torch_step(optimiser: torch.optim.Optimizer):
        def step():
            loss = torch.nn.functional.cross_entropy(theirs(tx).flatten(0, 1), ty.flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return loss

        return step

    def proa_step():
        model = GPT(
            Config(vocabulary=VOCABULARY, context=LENGTH, width=WIDTH, layers=LAYERS, heads=HEADS)
        )
        model.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
        optimiser = optim.AdamW(model.parameters(), lr=1e-3)

        def step():
            logits = model(x)
            loss = F.cross_entropy(logits.reshape(-1, VOCABULARY), y.reshape(-1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return loss

        return step

    dynamic, jitted = proa_step(), pa.jit(proa_step())
    reference = torch_step(torch.optim.AdamW(theirs.parameters(), lr=1e-3))
    for _ in range(5):
        a, b, c = float(dynamic()), float(jitted()), reference().item()
        assert a == b and abs(a - c) < 1e-4, (a, b, c)
    found = interleaved({"dynamic": dynamic, "jit": jitted, "torch": reference}, 10)
    pa.sync()
    print(f"\n{'training step, width 8':36s} {'Proa us':>9s} {'PyTorch us':>11s} {'ratio':>7s}")
    report("dynamic", found["dynamic"], found["torch"])
    report("jit", found["jit"], found["torch"])
    print(f"dynamic / PyTorch {found['dynamic'] / found['torch']:.2f}, "
          f"jit / PyTorch {found['jit'] / found['torch']:.2f}")  # fmt: skip


def program_of(jitted, *tensors):
    """The computation alone: the compiled program of a jitted call on the same buffers."""
    plan = next(iter(jitted.cases.values())).plans[0]
    buffers = plan.fixed.copy()
    for i, a in plan.from_args:
        buffers[i] = tensors[a].value.buffer
    for i, handle, _ in plan.from_handles:
        buffers[i] = handle.value.buffer
    return lambda: plan.plan.run(buffers)


def jitted_call() -> None:
    x = pa.asarray(np.ones((4, 4), np.float32))
    buffer = x.numpy()
    f = pa.jit(lambda x: x * 2.0)
    states = [pa.asarray(np.ones(4, np.float32)) for _ in range(200)]

    def read_and_write(x):
        for s in states:
            s += x
        return x * 2.0

    g = pa.jit(read_and_write)
    row = pa.asarray(np.ones(4, np.float32))
    for _ in range(5):
        f(x), g(row)
    arrays = [np.ones(4, np.float32) for _ in range(200)]
    rows = {
        "one": lambda: f(x),
        "numpy one": lambda: np.multiply(buffer, np.float32(2.0)),
        "state": lambda: g(row),
        "numpy state": lambda: [np.add(a, arrays[0]) for a in arrays],
        "program one": program_of(f, x),
        "program state": program_of(g, row),
    }
    found = {k: v * 1e6 for k, v in interleaved(rows, 200).items()}
    print(
        f"\na jitted call of one operation: {found['one']:.2f} us, its program alone "
        f"{found['program one']:.2f}, NumPy's operation {found['numpy one']:.2f}"
    )
    each = (found["state"] - found["program state"]) / 200
    print(
        f"200 state tensors read and written: {found['state']:.1f} us, their program alone "
        f"{found['program state']:.1f} ({each:.3f} us each above it), "
        f"200 NumPy additions {found['numpy state']:.1f}"
    )


def import_time() -> None:
    code = (
        "import time, numpy; t = time.perf_counter(); import proa; print(time.perf_counter() - t)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(7)
    ]
    print(f"\nimport proa beyond NumPy: {sorted(times)[3]:.3f} s (median of 7)")


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{processor()}; Python {sys.version.split()[0]}, NumPy {np.__version__}, "
        f"torch {torch.__version__}"
    )
    print("medians of 15 interleaved rounds; ratio above 1: Proa is ahead\n")
    operations()
    training_step()
    jitted_call()
    import_time()


if __name__ == "__main__":
    main()
