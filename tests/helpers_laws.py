"""Samples of composites, and how a law's sentences become a test's verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import proa.ops.composite as cp
from proa import dtypes
from proa.conformance.cases import Case, cases_of
from proa.dtypes import Dtype
from proa.graph.build import Builder, use_sink
from proa.graph.spec import spec
from proa.ops.primitive import REGISTRY, apply
from tests.known_gaps import GAPS

DTYPES = [
    dtypes.bool_,
    dtypes.int8,
    dtypes.uint8,
    dtypes.int32,
    dtypes.uint32,
    dtypes.int64,
    dtypes.float16,
    dtypes.bfloat16,
    dtypes.float32,
    dtypes.float64,
]
FLOATS = [d for d in DTYPES if d.is_float]
# What holds a graph of its own has no samples: it is tried wherever derivatives are.
HOLDERS = {
    "call", "forward", "backward", "saving", "custom", "checkpoint", "checkpoint_name", "custom_jvp",
    "linear_call", "linear_solve", "root",
}  # fmt: skip
PRIMITIVES = sorted(n for n, p in REGISTRY.items() if p.meaning is not None)
COMPOSITES = sorted(n for n, p in REGISTRY.items() if p.expand is not None and n not in HOLDERS)

Draw = Callable[[Any, Dtype], Any]


def x(*shape: int, low: float = -2.0, high: float = 2.0) -> Draw:
    return lambda rng, d: np.asarray(rng.uniform(low, high, shape)).astype(d.numpy)


def wide(*shape: int) -> Draw:
    """float32 whatever the dtype."""
    return lambda rng, d: np.asarray(rng.uniform(-2, 2, shape)).astype(
        np.float64 if d.bits == 64 else np.float32
    )


def n(high: int, *shape: int) -> Draw:
    return lambda rng, d: np.asarray(rng.integers(0, high, shape))


def mask(*shape: int) -> Draw:
    return lambda rng, d: np.asarray(rng.integers(0, 3, shape) > 0)


def state() -> Draw:
    return lambda rng, d: np.array([*rng.integers(0, 2**32, 2), 5, 0], np.uint32)


def share(*shape: int) -> Draw:
    """Probabilities."""
    return x(*shape, low=0.1, high=0.9)


def many(function: Any, *rows: tuple[Any, ...], **options: Any) -> list[Any]:
    return [((lambda *a: function(*a, **options)), row) for row in rows]


def _losses(f: Any, *rows: Any) -> list[Any]:
    return [s for r in ("mean", "sum", "none") for s in many(f, *rows, reduction=r)]


PAIR = (x(3, 4), x(3, 4))
QKV = (x(2, 3, 4), x(2, 5, 4), x(2, 5, 6))
# name of the composite -> (function, operands), more than one where it has forms.
SAMPLES: dict[str, list[tuple[Any, tuple[Draw, ...]]]] = {
    **{
        k: many(getattr(cp, k), (x(2, 3),), (x(),), (x(0, 2),))
        for k in ("relu", "sigmoid", "silu", "leaky_relu", "elu", "softplus", "log_sigmoid")
    },
    "gelu": many(cp.gelu, (x(2, 3),)) + many(cp.gelu, (x(4),), approximate="tanh"),
    "gelu_slope": many(REGISTRY["gelu_slope"], (x(2, 3),), approximate="none")
    + many(REGISTRY["gelu_slope"], (x(4),), approximate="tanh"),
    **{
        k: many(getattr(cp, k), (x(2, 3, 4),), (x(5),), axis=-1)
        + many(getattr(cp, k), (x(2, 3, 4),), axis=(0, 2), keepdims=True)
        for k in ("mean", "var", "std", "logsumexp")
    },
    **{
        k: many(getattr(cp, k), (x(2, 3),), (x(4),)) + many(getattr(cp, k), (x(2, 3, 4),), axis=1)
        for k in ("softmax", "log_softmax")
    },
    "linear": many(
        cp.linear, (x(2, 3), x(4, 3)), (x(2, 2, 3), x(4, 3), x(4)), (x(3), x(2, 3), x(2))
    ),
    "einsum": many(lambda a, b: cp.einsum("ij,jk->ik", a, b), (x(2, 3), x(3, 4)))
    + many(lambda a, b, c: cp.einsum("bi,ij,bj->b", a, b, c), (x(2, 3), x(3, 4), x(2, 4)))
    + many(lambda a: cp.einsum("ijk->kj", a), (x(2, 3, 4),))
    + many(lambda a, b: cp.vecdot(a, b), (x(2, 3), x(1, 3))),
    "attention": many(cp.attention, QKV)
    + many(cp.attention, QKV, causal=True)
    + many(cp.attention, (*QKV, mask(3, 5)), (*QKV, x(2, 3, 5)))
    + many(cp.attention, (x(4, 3, 2), x(2, 3, 2), x(2, 3, 2)), causal=True),
    "dropout": many(cp.dropout, (x(2, 3), state()), (x(0, 2), state())),
    "embedding": many(cp.embedding, (x(5, 2), n(5, 2, 3)), (x(3), n(3)))
    + many(
        cp.embedding, (x(5, 2), n(4, 6)), padding_idx=4
    ),  # a padding row that is used has no slope
    "one_hot": many(lambda i: cp.one_hot(i, 5), (n(5, 2, 3),), (n(5),)),
    "take": many(cp.take, (x(4, 3), n(4, 2)), axis=0)
    + many(cp.take, (x(4, 3), n(3, 2, 2)), axis=1),
    "take_along_axis": many(cp.take_along_axis, (x(4, 3), n(3, 4, 2)))
    + many(cp.take_along_axis, (x(4, 3), n(4, 2, 3)), axis=0),
    "mse_loss": _losses(cp.mse_loss, PAIR),
    "l1_loss": _losses(cp.l1_loss, PAIR),
    "huber_loss": _losses(cp.huber_loss, PAIR),
    "smooth_l1_loss": _losses(cp.smooth_l1_loss, PAIR),
    "kl_div": _losses(cp.kl_div, (x(3, 4), share(3, 4))) + many(cp.kl_div, PAIR, log_target=True),
    "binary_cross_entropy": _losses(cp.binary_cross_entropy, (share(3, 2), share(3, 2))),
    "binary_cross_entropy_with_logits": _losses(
        cp.binary_cross_entropy_with_logits, (x(3, 2), share(3, 2))
    )
    + many(
        lambda a, b, w, p: cp.binary_cross_entropy_with_logits(a, b, w, "sum", p),
        (x(3, 2), share(3, 2), share(2), share(2)),
    ),
    "cross_entropy": _losses(
        cp.cross_entropy, (x(3, 4), n(4, 3)), (x(4), n(4)), (x(2, 4, 3), n(4, 2, 3))
    )
    + many(cp.cross_entropy, (x(3, 4), n(4, 3), share(4)), label_smoothing=0.1),
    "cross_entropy_probabilities": _losses(cp.cross_entropy, (x(3, 4), share(3, 4))),
    "nll_loss": _losses(cp.nll_loss, (x(3, 4), n(4, 3)), (x(3, 4), n(4, 3), share(4))),
    "layer_norm": many(
        lambda a, *w: cp.layer_norm(a, (4,), *w),
        (x(3, 4),),
        (x(2, 3, 4), x(4)),
        (x(3, 4), x(4), x(4)),
    )
    + many(lambda a, w: cp.layer_norm(a, (3, 4), w), (x(2, 3, 4), x(3, 4))),
    "rms_norm": many(lambda a, *w: cp.rms_norm(a, (4,), *w), (x(3, 4),), (x(2, 3, 4), x(4))),
    "batch_norm": many(
        lambda a, w, b: cp.batch_norm(a, None, None, w, b, True)[0],
        (x(4, 3), x(3), x(3)),
        (x(2, 3, 4), x(3), x(3)),
    ),
    "batch_norm_running": many(
        lambda a, m, v: cp.batch_norm(a, m, v, None, None, True)[1:], (x(4, 3), wide(3), wide(3))
    ),
    "batch_norm_fixed": many(
        lambda a, m, v, w: cp.batch_norm(a, m, v, w, None, False),
        (x(4, 3), share(3), share(3), x(3)),
    ),
    "group_norm": many(
        lambda a, *w: cp.group_norm(a, 2, *w), (x(2, 4, 3),), (x(2, 4, 3), x(4), x(4))
    ),
    "max_pool": many(cp.max_pool, (x(1, 2, 7),), kernel_size=(3,), stride=2, padding=1)
    + many(cp.max_pool, (x(1, 2, 5, 4),), kernel_size=(2, 2))
    + many(cp.max_pool, (x(1, 6, 5),), kernel_size=(2, 2), dilation=2, ceil_mode=True),
    "avg_pool": many(cp.avg_pool, (x(1, 2, 7),), kernel_size=(3,), stride=2, padding=1)
    + many(cp.avg_pool, (x(1, 2, 5, 4),), kernel_size=(2, 2), padding=1, count_include_pad=False),
    "adaptive_avg_pool": many(lambda a: cp.adaptive_avg_pool(a, (3,)), (x(1, 2, 7),))
    + many(lambda a: cp.adaptive_avg_pool(a, (2, 3)), (x(1, 5, 4),)),
    "adaptive_max_pool": many(lambda a: cp.adaptive_max_pool(a, (3,)), (x(1, 2, 7),))
    + many(lambda a: cp.adaptive_max_pool(a, (2, 3)), (x(1, 5, 4),)),
    "random_uniform": many(lambda s: cp.uniform(s, (5,), dtypes.float32), (state(),))
    + many(lambda s: cp.uniform(s, (2, 0), dtypes.float64), (state(),)),
    "random_normal": many(lambda s: cp.normal(s, (5,), dtypes.float32), (state(),))
    + many(lambda s: cp.normal(s, (2, 3), dtypes.float64), (state(),)),
    "random_integers": many(lambda s: cp.randint(s, (5,), -3, 9), (state(),)),
    "random_permutation": many(lambda s: cp.permutation(s, 6), (state(),)),
    "random_bernoulli": many(lambda s: cp.bernoulli(s, 0.3, (5,)), (state(),))
    + many(cp.bernoulli, (state(), share(2, 3))),
    "random_advance": many(lambda s: apply(REGISTRY["random_advance"], (s,)), (state(),)),
    "random_categorical": many(cp.categorical, (state(), x(3, 4))),
    "class_loss": [],
    "class_score": [],
    "two_class_loss": [],  # inside the losses
}


def composite_cases(name: str, dtype: Dtype, seed: int = 0) -> Iterator[Case]:
    """The graphs of a composite's samples in a dtype, declared or from the table here."""
    if REGISTRY[name].samples:
        yield from cases_of(REGISTRY[name], dtype, seed)
    for number, (function, operands) in enumerate(SAMPLES.get(name, ())):
        rng = np.random.default_rng([seed, number])
        arrays = tuple([o(rng, dtype) for o in operands])
        builder = Builder()
        with use_sink(builder):
            inputs = [builder.input(spec(a.shape, dtypes.dtype(a.dtype))) for a in arrays]
            outs = function(*inputs)
        outs = outs if isinstance(outs, (tuple, list)) else (outs,)
        graph = builder.graph([o.value for o in outs if o is not None])
        yield Case(f"{name} {number} {dtype.name}", graph, arrays)


def settle(law: str, name: str, found: list[str]) -> None:
    """A known gap must still fail, all else must hold."""
    gap = GAPS.get((law, name))
    text = "\n".join(found[:5]) + (f"\n... and {len(found) - 5} more" if len(found) > 5 else "")
    if gap is None:
        assert not found, f"{law} of {name}:\n{text}"
    else:
        assert found, f"{law} of {name} holds now: take {gap!r} out of known_gaps.py"
