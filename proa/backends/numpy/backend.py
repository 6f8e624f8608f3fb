"""`numpy`: runs the declarations' own meanings through the table."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, final

import numpy as np

from proa.backends.numpy.kernels import TABLE, solid
from proa.backends.rounds import Rows, rounds
from proa.backends.table import TableExecutable
from proa.compile.backend import API, Device, Donation
from proa.compile.memory import free_bytes
from proa.compile.program import Program
from proa.errors import OutOfMemory, message
from proa.graph.entry import Entry
from proa.graph.graph import Graph
from proa.graph.node import line_of
from proa.graph.spec import Spec
from proa.ops.control import is_control

DEVICE = Device("numpy", 0, "cpu", None, "NumPy on this machine's processor")
SMALL = 1 << 22


@final
class NumpyBuffer:
    """A read-only array. `exported` says that somebody outside shares its memory; while `donated`
    is set nobody will read it after the program that runs."""

    __slots__ = ("array", "spec", "exported", "donated")

    device = DEVICE

    def __init__(self, array: Any, spec: Spec) -> None:
        self.array = array
        self.spec = spec
        self.exported = False
        self.donated: Donation | None = None

    def follow(self, other: NumpyBuffer) -> None:
        """Nothing was written over: the old value is there until its buffer goes."""

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    def wait(self) -> None:
        """Nothing is asynchronous here."""

    def host(self) -> Any:
        view = self.array.view()
        view.flags.writeable = False
        self.exported = True
        return view


@final
class NumpyBackend:
    name = "numpy"
    api = API
    eager_compile = False

    def devices(self) -> list[Device]:
        return [DEVICE]

    def claims(self, entry: Entry) -> bool:
        return entry.primitive.meaning is not None or is_control(entry)

    def compile(self, program: Program) -> TableExecutable:
        return TableExecutable(program, kernel, load, store, guard, quiet, donates=True)

    def put(self, array: Any, spec: Spec, device: Device) -> NumpyBuffer:
        return NumpyBuffer(np.array(array, dtype=spec.dtype.numpy, order="C", copy=True), spec)

    def adopt(self, array: Any, spec: Spec, device: Device) -> NumpyBuffer:
        """A buffer in memory that nobody will write to: no copy is made."""
        return NumpyBuffer(array, spec)


def kernel(entry: Entry) -> Callable[..., Any]:
    """The prepared kernel of an entry, or the meaning with its parameters bound.

    NumPy takes other routines for views, with other bits: what is not exact in itself gets
    contiguous operands (RULES 3.0).
    """
    return entry.once("numpy", _kernel)  # type: ignore[no-any-return]


def _kernel(entry: Entry) -> Callable[..., Any]:
    if is_control(entry):
        return rounds(entry, _inner, ARRAYS)
    prepare = TABLE.get(entry.primitive.name)
    if prepare is not None:
        return prepare(entry)
    meaning, params = entry.primitive.meaning, entry.named_params
    exact = entry.primitive.family.name in ("elementwise", "movement") and entry.primitive.cost <= 4
    bound = partial(meaning, **params) if params else meaning
    if exact:
        return bound

    def run(*arrays: Any) -> Any:
        return bound(*[solid(a) for a in arrays])

    return run


def _inner(graph: Graph) -> Callable[..., Any]:
    """A graph that control flow runs, on raw arrays."""
    return TableExecutable(Program(graph, DEVICE), kernel, _same, _same, _free)


def _same(array: Any, spec: Spec) -> Any:
    return array


def _free(peak: int, program: Program) -> None:
    """What control flow needs was asked for by the program that it is part of."""


ARRAYS = Rows(
    bool, int, lambda spec: np.empty(spec.shape, spec.dtype.numpy),
    lambda x, i: x[i, ...], operator.setitem,
)  # fmt: skip


def quiet() -> Any:
    """NumPy's warnings are off while a program runs: infinities and NaN are answers."""
    return np.errstate(all="ignore")


def load(buffer: Any, spec: Spec) -> Any:
    """The array of a buffer, or of a Python number for a scalar input."""
    if type(buffer) is NumpyBuffer:
        return buffer.array
    return np.asarray(buffer).astype(spec.dtype.numpy)


def store(array: Any, spec: Spec) -> NumpyBuffer:
    """An output owns its memory: a view of an input or of a larger result is copied."""
    array = np.asarray(array)
    if array.base is not None or not array.flags.c_contiguous or not array.flags.owndata:
        array = np.array(array, order="C", copy=True)
    return NumpyBuffer(array, spec)


def guard(peak: int, program: Program) -> None:
    """Refuses a program whose results do not fit, before anything has run."""
    if peak < SMALL:
        return
    free = free_bytes()
    if peak > free:
        largest = sorted(program.graph.steps, key=lambda s: -sum(o.nbytes for o in s.entry.outs))[
            :5
        ]
        lines = "; ".join(
            f"{sum(o.nbytes for o in s.entry.outs):,} bytes by {s.entry.primitive.name} "
            f"at {line_of(s.where)}"
            for s in largest
        )
        given = f"results of {peak:,} bytes (largest: {lines})"
        raise OutOfMemory(message("memory", given, f"at most the {free:,} bytes that are free"))
