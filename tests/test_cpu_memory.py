"""Memory of `cpu`: nothing is handed out twice, and pieces of one size serve another."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from proa.backends.cpu import memory
from proa.backends.cpu.memory import CHUNK, GRAIN, LARGE, Arena, Pool, allocate, pool, rounded


def free(of: Pool) -> list[tuple[int, int]]:
    waiting = [(b, b + size) for size, rows in of.waiting.items() for b in rows]
    return sorted([*of.ends.items(), *waiting])


def test_what_is_given_back_serves_other_sizes() -> None:
    own = Pool()
    sizes = [3 * GRAIN, 5 * GRAIN, 2 * GRAIN, 7 * GRAIN]
    begins = [own.take(s) for s in sizes]
    assert sum(sizes) + own.bytes == CHUNK
    kept = own.bytes
    for begin, size in zip(begins, sizes, strict=True):
        own.give(begin, size)
    assert own.take(sum(sizes)) == min(begins)  # the four stood side by side
    assert own.bytes == kept


def test_the_size_that_waits_is_taken_first() -> None:
    own = Pool()
    one, other = own.take(GRAIN), own.take(GRAIN)
    own.give(one, GRAIN)
    own.give(other, GRAIN)
    assert [own.take(GRAIN), own.take(GRAIN)] == [other, one]


@pytest.mark.parametrize("kept", [0, 8 << 20, 1 << 30])
def test_random_pieces_never_overlap(monkeypatch: Any, kept: int) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", kept)
    draw, own = random.Random(7), Pool()
    held: list[tuple[int, int]] = []
    for _ in range(2000):
        if held and draw.random() < 0.5:
            begin, end = held.pop(draw.randrange(len(held)))
            own.give(begin, end - begin)
            assert own.bytes <= max(kept, 0)
        else:
            size = GRAIN * draw.choice([1, 1, 2, 3, 50, 700])
            begin = own.take(size)
            held.append((begin, begin + size))
    rows = sorted([*held, *free(own)])
    assert all(a[1] <= b[0] for a, b in zip(rows, rows[1:], strict=False))
    assert own.bytes == sum(end - begin for begin, end in free(own))
    for begin, end in held:
        own.give(begin, end - begin)
    own.clear()
    assert own.bytes == 0 and not free(own)


def test_a_size_that_does_not_fit_what_lies_in_pieces_takes_its_place() -> None:
    """Much memory that is free, but not in one piece, goes to the system for a large one."""
    own = Pool()
    begins = [own.take(CHUNK // 2) for _ in range(8)]
    for begin in begins[::2]:
        own.give(begin, CHUNK // 2)
    before = own.bytes
    own.take(CHUNK)
    assert own.bytes <= max(0, before - CHUNK) + memory.HUGE


def test_no_memory_is_an_error_and_the_next_works(monkeypatch: Any) -> None:
    own = Pool()
    with pytest.raises(MemoryError):
        own.take(1 << 60)
    monkeypatch.setattr(memory, "_map", lambda nbytes: 0)
    with pytest.raises(MemoryError):
        own.take(GRAIN)
    monkeypatch.undo()
    assert own.take(GRAIN)


def test_a_view_keeps_its_memory() -> None:
    array, address = allocate((LARGE,), np.dtype(np.uint8), LARGE)
    array[:] = 7
    part = array[10:20]
    del array
    others = [allocate((LARGE,), np.dtype(np.uint8), LARGE) for _ in range(4)]
    assert all(a != address for _, a in others)
    for other, _ in others:
        other[:] = 1
    assert part.tolist() == [7] * 10
    before = pool.bytes
    del part
    assert pool.bytes == before + rounded(LARGE)


def test_an_arena_goes_with_the_last_array_on_it() -> None:
    arena = Arena(3 * GRAIN + 1)
    assert arena.array.nbytes == 3 * GRAIN + 1 and arena.address % memory.ALIGNMENT == 0
    before = pool.bytes
    part = arena.array[5:9]
    del arena
    assert pool.bytes == before
    del part
    assert pool.bytes == before + 4 * GRAIN
