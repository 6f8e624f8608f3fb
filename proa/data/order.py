"""Random orders on the host: a pure function of four words (key, key, draw, 0)."""

from __future__ import annotations

from typing import Any

import numpy as np

from proa.compile.find import default_device
from proa.dtypes import uint32
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.spec import spec
from proa.ops.creation import threefry
from proa.record.live import thread
from proa.shapes import as_int
from proa.tensor import Tensor, put

Words = tuple[int, int, int, int]
_MASK = 0xFFFFFFFF


def permutation(words: Words, count: int) -> Any:
    """0 ... count - 1 in random order: sorted by 64 random bits each, ties by number."""
    key0, key1, draw, _ = [np.uint32(w) for w in words]
    with np.errstate(over="ignore"):
        high, low = threefry(key0, key1, np.arange(count, dtype=np.uint32), draw)
    return np.argsort((high.astype(np.uint64) << np.uint64(32)) | low, kind="stable")


def seed_words(op: str, seed: Any, draw: int) -> Words:
    """The words of draw number `draw` of a seed."""
    number = as_int(op, "seed", seed)
    if not 0 <= number < 2**64:
        raise ArgumentError(message(op, f"seed {number}", "0 <= seed < 2**64"))
    return number >> 32, number & _MASK, draw & _MASK, 0


def words_of(op: str, generator: Any, seed: Any) -> Words:
    """Words drawn from a generator (the default one if neither is given), or from a seed."""
    if generator is not None and seed is not None:
        raise ArgumentError(message(op, "a generator and a seed", "one of both"))
    return seed_words(op, seed, 0) if seed is not None else drawn(op, generator)


def drawn(op: str, generator: Any) -> Words:
    """The words of a generator, which goes on by one draw."""
    source = generator_of(op, generator)
    words = read_words(source)
    key0, key1, draw, rest = words
    write_words(source, (key0, key1, (draw + 1) & _MASK, rest))
    return words


def generator_of(op: str, generator: Any) -> Any:
    if generator is None:
        from proa import random

        return random.default_generator()
    if not (hasattr(generator, "get_state") and hasattr(generator, "set_state")):
        given = f"a generator of type {type(generator).__name__}"
        raise DtypeError(message(op, given, "a pa.random.Generator", "seed=0"))
    return generator


def read_words(generator: Any) -> Words:
    state = generator.get_state()
    array = state.numpy() if type(state) is Tensor else np.asarray(state)
    a, b, c, d = [int(w) for w in array.reshape(-1)]
    return a, b, c, d


def write_words(generator: Any, words: Words) -> None:
    device = thread.state.device or default_device()
    generator.set_state(put(np.array(words, np.uint32), spec((4,), uint32), device))
