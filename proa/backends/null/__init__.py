"""Shapes flow, nothing computes: programs of thousands of devices in a test (PROA_NULL_DEVICES)."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from proa.backends.table import TableExecutable
from proa.compile.backend import API, Device
from proa.compile.program import Program
from proa.config import config
from proa.graph.entry import Entry
from proa.graph.spec import Spec


@final
class NullBuffer:
    """A spec without contents; read as zeros."""

    __slots__ = ("spec", "device")

    def __init__(self, spec: Spec, device: Device) -> None:
        self.spec = spec
        self.device = device

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    def wait(self) -> None:
        """Nothing runs."""

    def host(self) -> Any:
        zero = np.zeros((), self.spec.dtype.numpy)
        return np.broadcast_to(zero, self.spec.shape)


@final
class NullBackend:
    name = "null"
    api = API
    eager_compile = True

    def devices(self) -> list[Device]:
        count = config.null_devices
        return [Device("null", i, "null", None, "computes nothing") for i in range(count)]

    def claims(self, entry: Entry) -> bool:
        return entry.primitive.expand is None

    def compile(self, program: Program) -> TableExecutable:
        device = program.device
        return TableExecutable(
            program, _kernel, lambda buffer, spec: None,
            lambda array, spec: NullBuffer(spec, device), lambda peak, program: None,
        )  # fmt: skip

    def put(self, array: Any, spec: Spec, device: Device) -> NullBuffer:
        return NullBuffer(spec, device)


def _kernel(entry: Entry) -> Any:
    none = None if entry.single else (None,) * len(entry.outs)
    return lambda *arrays: none


def make() -> NullBackend:
    return NullBackend()
