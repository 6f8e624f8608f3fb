"""Proa: deep learning on one lazily recorded graph.

>>> import proa as pa
>>> x = pa.asarray([1.0, 2.0, 3.0])
>>> (x * x).sum().item()
14.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from proa import array as _array
from proa import random, testing, tree
from proa.array import *  # noqa: F403
from proa.autograd import grad, jvp, linearize, value_and_grad, vjp
from proa.capture import policies as checkpoint_policies
from proa.capture.checkpoint import checkpoint
from proa.capture.control import cond, fori_loop, map, scan, switch, while_loop  # noqa: A004
from proa.capture.custom import custom_jvp, custom_vjp
from proa.capture.implicit import linear_call, linear_solve, linear_transpose, root
from proa.capture.jit import jit
from proa.capture.policies import checkpoint_name
from proa.capture.vmap import vmap
from proa.dtypes import (
    Dtype,
    bfloat16,
    complex64,
    complex128,
    finfo,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    uint8,
    uint16,
    uint32,
    uint64,
)  # fmt: skip
from proa.dtypes import bool_ as bool  # noqa: A004
from proa.explain import debug, explain, print  # noqa: A004
from proa.profile import profile
from proa.random import (
    Generator,
    bernoulli,
    categorical,
    manual_seed,
    normal,
    permutation,
    rand,
    randint,
    randn,
    uniform,
)  # fmt: skip
from proa.record.boundary import sync
from proa.tensor import Tensor, enable_grad, is_grad_enabled, no_grad
from proa.version import __version__ as __version__

if _TYPE_CHECKING:
    from proa import nn, optim
    from proa.exports import export, load, spec
    from proa.io import save
    from proa.nn.lazy import lazy_init, materialize

__all__ = [
    "Dtype", "Generator", "Tensor", "bernoulli", "bfloat16", "bool", "categorical", "checkpoint",
    "checkpoint_name", "checkpoint_policies", "complex128", "complex64", "cond", "custom_jvp",
    "custom_vjp", "debug", "enable_grad", "explain", "export", "finfo", "float16", "float32",
    "float64", "float8_e4m3fn", "float8_e5m2", "fori_loop", "grad", "iinfo", "int16", "int32",
    "int64", "int8", "is_grad_enabled", "isdtype", "jit", "jvp", "lazy_init", "linear_call",
    "linear_solve", "linear_transpose", "linearize", "load", "manual_seed", "map", "materialize",
    "nn", "no_grad", "normal", "optim", "permutation", "print", "profile", "rand", "randint",
    "randn", "random", "root", "save", "scan", "spec", "switch", "sync", "testing", "tree",
    "uint16", "uint32", "uint64", "uint8", "uniform", "value_and_grad", "vjp", "vmap", "while_loop",
]  # fmt: skip
__all__ += _array.__all__


def __getattr__(name: str) -> _Any:
    """Rooms that are imported when first used."""
    from importlib import import_module

    found = _LATER.get(name)
    if found is None:
        raise AttributeError(f"module 'proa' has no attribute {name!r}")
    room = import_module(f"proa.{found}")
    made = room if found == name else getattr(room, name)
    globals()[name] = made
    return made


_LATER = {
    "conformance": "conformance", "data": "data", "io": "io", "nn": "nn", "optim": "optim",
    "export": "exports", "load": "exports", "save": "io", "spec": "exports",
    "lazy_init": "nn.lazy", "materialize": "nn.lazy",
    "get_num_threads": "backends.cpu.threads", "set_num_threads": "backends.cpu.threads",
}  # fmt: skip
