"""The meaning of every primitive, in NumPy. Slow and obvious: it judges the other backends."""

from __future__ import annotations

from proa.backends.numpy.backend import NumpyBackend


def make() -> NumpyBackend:
    return NumpyBackend()
