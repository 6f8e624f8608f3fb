"""What a kernel is: machine code described by structure, and what it is called with.

A kernel is a function `void (ptr call, ptr bases, i64 tile, ptr scratch)`.

| argument | meaning |
| --- | --- |
| call | i64 words: for each operand, then each result, (number of its base, byte offset); then the table, which the kernel's family defines: sizes, byte strides |
| bases | addresses of the memories of one run; operand k lies at `bases[call[2k]] + call[2k + 1]` |
| tile | which part of the work: 0 <= tile < tiles, in any order, on any thread, each once |
| scratch | memory of this thread, 64-byte aligned, as much as the call asks for, with any content |

The floating-point control word is right when a kernel is entered (`threads.py`).
"""  # noqa: E501

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from proa import dtypes
from proa.backends.cpu.target import Target
from proa.dtypes import Dtype
from proa.graph.entry import Entry

LANES: Final = 16  # of every sum (RULES 3.3 b)
BLOCK: Final = 256


def is_reduction(entry: Entry) -> bool:
    return bool(entry.primitive.family.name == "reduction")


def is_across(entry: Entry) -> bool:
    """Whether a reduction leaves the last axis, and so runs from row to row."""
    return is_reduction(entry) and entry.ins[0].ndim - 1 not in entry.params[0]


def lane_dtype(dtype: Dtype) -> Dtype:
    """What sums of a dtype are held in: narrow floats in float32, bool in a byte."""
    if dtype in (dtypes.bfloat16, dtypes.float16):
        return dtypes.float32
    return dtypes.uint8 if dtype is dtypes.bool_ else dtype


class Kernel(Protocol):
    """`key` names the structure, beginning with the family: dtypes and what else changes the
    code, never a size. Equal keys mean equal code."""

    @property
    def key(self) -> str: ...

    def ir(self, name: str, machine: Target) -> str:
        """An LLVM module that defines the function under this name."""
        ...


class Call(NamedTuple):
    """A kernel at work: operands and results are (memory, byte offset), where memory is a slot of
    the program that owns memory, or a temporary. No tiles: there is nothing to do. `alike`: pairs
    (operand, result) that are walked alike, so that the result may lie where the operand did."""

    kernel: Kernel
    operands: tuple[tuple[int, int], ...]
    results: tuple[tuple[int, int], ...]
    table: tuple[int, ...]
    tiles: int
    scratch: int
    step: int
    alike: tuple[tuple[int, int], ...] = ()


def entered(name: str, pointers: int) -> list[str]:
    """The beginning of a kernel: `%p0` ... are where its operands and results lie, `%table` its
    table."""
    lines = [f"define void @{name}(ptr %call, ptr %bases, i64 %tile, ptr %scratch) nounwind {{"]
    for k in range(pointers):
        lines += [
            f"  %n{k}.at = getelementptr i64, ptr %call, i64 {2 * k}",
            f"  %n{k} = load i64, ptr %n{k}.at",
            f"  %b{k}.at = getelementptr i64, ptr %bases, i64 %n{k}",
            f"  %b{k} = load i64, ptr %b{k}.at",
            f"  %d{k}.at = getelementptr i64, ptr %call, i64 {2 * k + 1}",
            f"  %d{k} = load i64, ptr %d{k}.at",
            f"  %b{k}.p = inttoptr i64 %b{k} to ptr",
            f"  %p{k} = getelementptr i8, ptr %b{k}.p, i64 %d{k}",
        ]
    lines.append(f"  %table = getelementptr i64, ptr %call, i64 {2 * pointers}")
    return lines
