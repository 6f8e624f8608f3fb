"""The checked mode (PROA_CPU_CHECKED=1): every load and store of every kernel stays in bounds.

A pass over the text of a kernel, whatever its family. Before each access stands a call that
compares the bytes touched with the ranges of the running call, and gives the address to use
instead: the same, or that of a dummy where the access would leave its range. The first such access
is noted, and `Guard.run` tells of it.

The ranges are the memories of the call's operands (to read) and results, its words, the bases and
its scratch, which Python writes before the call; and the kernel's own stack and constants, which
the kernel notes and forgets itself. Prefetches are not checked: they touch nothing.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from ctypes import addressof, c_int64
from typing import Final, NamedTuple, final

from proa.backends.cpu.kernel import Call, Kernel
from proa.backends.cpu.target import Target, binding
from proa.errors import ExecutionError, message

STATE: Final = "checked.state"
REFUSED: Final = ("atomic", "volatile", "atomicrmw", "cmpxchg", "va_arg", "invoke")
MOST: Final = 1 << 14  # ranges
DUMMY: Final = 4096  # bytes of each dummy: more than any access has

# Words of the state: how many ranges, what was noted (0, READS or WRITES, address, bytes), then
# the dummies that are read and written, then begin, end, and whether it may be written, of each.
READS, WRITES = 1, 2
NOTED: Final = 1
DUMMIES: Final = 8
RANGES: Final = DUMMIES + 2 * DUMMY // 8
RANGE_WORDS: Final = 3


@final
class Checked:
    """A kernel whose accesses are checked, with a key of its own."""

    __slots__ = ("kernel", "key")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.key = f"checked {kernel.key}"

    def ir(self, name: str, machine: Target) -> str:
        return checked(self.kernel.ir(name, machine))


# The pass.


def checked(text: str) -> str:
    """A module with every access checked. It is read in LLVM's own spelling."""
    lines = str(binding().parse_assembly(text)).split("\n")
    constants = [found for line in lines if (found := _constant(line))]
    made = _Pass({n for line in lines for n in re.findall(r"^define .*?@([^ (]+)\(", line)})
    for function in _functions(lines):
        made.function(function, constants)
    needed = [f"declare i64 @{n}(i64, i1)" for n in _BITS if f"@{n}(" not in text]
    return "\n".join([*made.lines, _RUNTIME, *needed])


def _functions(lines: Sequence[str]) -> Iterator[list[str]]:
    """Functions whole, everything else line by line."""
    open_: list[str] = []
    for line in lines:
        if open_ or line.startswith("define "):
            open_.append(line)
            if line == "}":
                yield open_
                open_ = []
        else:
            yield [line]


def _constant(line: str) -> tuple[str, str] | None:
    """Name and type of a constant of the module."""
    found = re.match(r"(@\S+) = (?!external).*?\b(?:constant|global) (.*)", line)
    return (found[1], _typed(found[2])[0]) if found else None


@final
class _Pass:
    """The text as it is made; names of its own begin with `checked.`"""

    def __init__(self, defined: set[str]) -> None:
        self.lines: list[str] = []
        self.count = 0
        self.defined = defined

    def set(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %checked.{self.count} = {text}")
        return f"%checked.{self.count}"

    def function(self, lines: list[str], constants: list[tuple[str, str]]) -> None:
        """One function, or a line that belongs to none. What it notes it forgets at its end."""
        self.lines.append(lines[0])
        if len(lines) == 1:
            return
        notes = constants if not re.match(r"define (internal|private) ", lines[0]) else []
        is_noting = bool(notes) or any(" = alloca " in line for line in lines)
        body, mark = lines[1:], ""
        if re.match(r"\S+:", body[0]):
            self.lines.append(body.pop(0))
        if is_noting:
            mark = self.set(f"load i64, ptr @{STATE}")
        for name, type_ in notes:
            self.note(name, type_, "0")
        for line in body:
            if mark and line.startswith("  ret "):
                self.lines.append(f"  store i64 {mark}, ptr @{STATE}")
            self.instruction(line)

    def note(self, name: str, type_: str, writable: str, count: str = "1") -> None:
        size = f"i64 {_size(type_)}, i64 {count}"
        self.lines.append(f"  call void @checked.note(ptr {name}, {size}, i64 {writable})")

    def instruction(self, line: str) -> None:
        found = re.match(r"  (?:(\S+) = )?(?:(?:tail|musttail|notail) )?(\w+) (.*)", line)
        name, opcode, rest = found.groups() if found else ("", "", "")
        if opcode in REFUSED or (opcode in ("load", "store") and rest.split()[0] in REFUSED):
            raise _unknown(line)
        if opcode == "load":
            type_, pointer, *more = _split(rest)
            line = f"  {name} = load {type_}, {self.one(pointer, type_, READS)}"
            self.lines.append(", ".join([line, *more]))
        elif opcode == "store":
            value, pointer, *more = _split(rest)
            line = f"  store {value}, {self.one(pointer, _typed(value)[0], WRITES)}"
            self.lines.append(", ".join([line, *more]))
        elif opcode == "alloca":
            self.lines.append(line)
            type_, *more = _split(rest)
            count = more[0].split()[1] if more and more[0][0] == "i" else "1"
            self.note(name, type_, "1", count)
        elif opcode == "call" and " @llvm." in line:
            self.intrinsic(line)
        else:
            named = re.search(r"@([^ (]+)\(", rest)
            if opcode == "call" and (" asm " in rest or (named and named[1] not in self.defined)):
                raise _unknown(line)
            self.lines.append(line)

    def intrinsic(self, line: str) -> None:
        """Those that reach memory; others have no pointers, or do not follow them."""
        at = line.index(" @llvm.")
        start = line.index("(", at)
        stop = _closing(line, start)
        name, arguments = line[at + 2 : start], _split(line[start + 1 : stop])
        if name.startswith(("llvm.masked.load.", "llvm.masked.gather.")):
            *_, type_ = [_typed(a)[0] for a in arguments]  # that of what stands where it is off
            self.lanes(arguments, 0, type_, READS)
        elif name.startswith(("llvm.masked.store.", "llvm.masked.scatter.")):
            self.lanes(arguments, 1, _typed(arguments[0])[0], WRITES)
        elif name.startswith(("llvm.memcpy.", "llvm.memmove.", "llvm.memset.")):
            self.block(arguments, [WRITES] if "memset" in name else [WRITES, READS])
        elif "ptr" in line[start:stop] and not name.startswith(("llvm.prefetch", "llvm.lifetime")):
            raise _unknown(line)
        self.lines.append(f"{line[: start + 1]}{', '.join(arguments)}{line[stop:]}")

    # Addresses.

    def at(self, pointer: str, size: str, lanes: str, way: int) -> str:
        """What to use instead of an address. Lanes are bits: the first is at the address."""
        given = f"ptr {pointer}, i64 {size}, i64 {lanes}, i64 {way}"
        return self.set(f"call ptr @checked.at({given})")

    def one(self, operand: str, type_: str, way: int) -> str:
        return f"ptr {self.at(operand[4:], _size(type_), '1', way)}"

    def lanes(self, arguments: list[str], at: int, type_: str, way: int) -> None:
        """A masked access, of which the lanes that are on count."""
        head, pointer = _operand(arguments[at])
        mask = next(a for a in arguments[at + 1 :] if re.match(r"<\d+ x i1>", a))
        count, element = re.match(r"<(\d+) x (.*)>", type_).groups()  # type: ignore[union-attr]
        size = _size(element)
        if head.startswith("ptr"):
            bits = self.set(f"bitcast {mask} to i{count}")
            if count != "64":
                bits = self.set(f"zext i{count} {bits} to i64")
            arguments[at] = f"{head} {self.at(pointer, size, bits, way)}"
            return
        places = f"<{count} x ptr>"
        for i in range(int(count)):
            bit = self.set(f"extractelement {mask}, i64 {i}")
            one = self.set(f"extractelement {places} {pointer}, i64 {i}")
            found = self.at(one, size, self.set(f"zext i1 {bit} to i64"), way)
            pointer = self.set(f"insertelement {places} {pointer}, ptr {found}, i64 {i}")
        arguments[at] = f"{head} {pointer}"

    def block(self, arguments: list[str], ways: list[int]) -> None:
        """Bytes of any number: none where one side is outside."""
        size = arguments[2].split()[-1]
        for k, way in enumerate(ways):
            head, pointer = _operand(arguments[k])
            found = self.at(pointer, arguments[2].split()[-1], "1", way)
            same = self.set(f"icmp eq ptr {found}, {pointer}")
            size = self.set(f"select i1 {same}, i64 {size}, i64 0")
            arguments[k] = f"{head} {found}"
        arguments[2] = f"i64 {size}"


# LLVM's spelling.


def _closing(text: str, start: int) -> int:
    """Where the bracket at `start` ends."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{<") - (text[i] in ")]}>")
        if not depth:
            return i
    raise _unknown(text)


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no brackets."""
    found, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and not depth:
            found.append(text[start:i].strip())
            start = i + 1
    return [*found, text[start:].strip()]


def _typed(text: str) -> tuple[str, str]:
    """A type, and what follows it."""
    stop = _closing(text, 0) + 1 if text[0] in "<[{" else (text + " ").index(" ")
    return text[:stop], text[stop:].strip()


def _operand(text: str) -> tuple[str, str]:
    """An argument's type and attributes, and its value."""
    found = re.match(r"(.*?) ((?:[%@<]|null|poison|undef|getelementptr|inttoptr|splat).*)", text)
    if found is None:
        raise _unknown(text)
    return found[1], found[2]


def _size(type_: str) -> str:
    """Bytes of a type, worked out by LLVM."""
    return f"ptrtoint (ptr getelementptr ({type_}, ptr null, i32 1) to i64)"


def _unknown(line: str) -> ExecutionError:
    given = f"`{line.strip():.200}` in a kernel"
    return ExecutionError(message("cpu_checked", given, "an access that can be checked"))


# What checked kernels call. `lanes` are those that are on: from the first to the last of them.
_RUNTIME: Final = f"""
@{STATE} = external global i64

define internal ptr @checked.at(ptr %p, i64 %size, i64 %lanes, i64 %way) noinline nounwind {{
entry:
  %count = load i64, ptr @{STATE}
  %none = icmp eq i64 %lanes, 0
  %empty = icmp eq i64 %size, 0
  %nothing = or i1 %none, %empty
  br i1 %nothing, label %good, label %some
some:
  %address = ptrtoint ptr %p to i64
  %low = call i64 @llvm.cttz.i64(i64 %lanes, i1 true)
  %high = call i64 @llvm.ctlz.i64(i64 %lanes, i1 true)
  %past = sub i64 64, %high
  %first = mul i64 %low, %size
  %last = mul i64 %past, %size
  %begin = add i64 %address, %first
  %end = add i64 %address, %last
  br label %range
range:
  %i = phi i64 [ %count, %some ], [ %left, %next ]
  %over = icmp eq i64 %i, 0
  br i1 %over, label %bad, label %next
next:
  %left = sub i64 %i, 1
  %place = mul i64 %left, {RANGE_WORDS}
  %word = add i64 %place, {RANGES}
  %begin.at = getelementptr i64, ptr @{STATE}, i64 %word
  %end.at = getelementptr i64, ptr %begin.at, i64 1
  %way.at = getelementptr i64, ptr %begin.at, i64 2
  %from = load i64, ptr %begin.at
  %to = load i64, ptr %end.at
  %may = load i64, ptr %way.at
  %above = icmp uge i64 %begin, %from
  %below = icmp ule i64 %end, %to
  %forward = icmp ule i64 %begin, %end
  %allowed = icmp ule i64 %way, %may
  %a = and i1 %above, %below
  %b = and i1 %allowed, %forward
  %inside = and i1 %a, %b
  br i1 %inside, label %good, label %range
good:
  ret ptr %p
bad:
  %noted = getelementptr i64, ptr @{STATE}, i64 {NOTED}
  %before = load i64, ptr %noted
  %is.first = icmp eq i64 %before, 0
  br i1 %is.first, label %tell, label %instead
tell:
  %bytes = sub i64 %end, %begin
  %address.at = getelementptr i64, ptr %noted, i64 1
  %bytes.at = getelementptr i64, ptr %noted, i64 2
  store i64 %way, ptr %noted
  store i64 %begin, ptr %address.at
  store i64 %bytes, ptr %bytes.at
  br label %instead
instead:
  %writes = icmp eq i64 %way, {WRITES}
  %dummy = select i1 %writes, i64 {DUMMIES + DUMMY // 8}, i64 {DUMMIES}
  %found = getelementptr i64, ptr @{STATE}, i64 %dummy
  ret ptr %found
}}

define internal void @checked.note(ptr %p, i64 %size, i64 %n, i64 %writable) noinline nounwind {{
  %count = load i64, ptr @{STATE}
  %place = mul i64 %count, {RANGE_WORDS}
  %word = add i64 %place, {RANGES}
  %begin.at = getelementptr i64, ptr @{STATE}, i64 %word
  %end.at = getelementptr i64, ptr %begin.at, i64 1
  %way.at = getelementptr i64, ptr %begin.at, i64 2
  %begin = ptrtoint ptr %p to i64
  %bytes = mul i64 %size, %n
  %end = add i64 %begin, %bytes
  %way = add i64 %writable, {READS}
  store i64 %begin, ptr %begin.at
  store i64 %end, ptr %end.at
  store i64 %way, ptr %way.at
  %more = add i64 %count, 1
  store i64 %more, ptr @{STATE}
  ret void
}}
"""
_BITS: Final = ("llvm.cttz.i64", "llvm.ctlz.i64")


# Ranges and faults.


@final
class Range(NamedTuple):
    """Memory that a call may read, and perhaps write."""

    name: str
    begin: int
    nbytes: int
    is_written: bool = False


@final
class Fault(NamedTuple):
    """An access that lies in no range."""

    is_write: bool
    address: int
    nbytes: int

    def __str__(self) -> str:
        return f"{'writes' if self.is_write else 'reads'} {self.nbytes} bytes"

    def told(self, ranges: Sequence[Range]) -> str:
        """What it did, and by how many bytes it left the range that is nearest."""
        if not ranges:
            return str(self)
        near = min(reversed(ranges), key=lambda r: (self._beyond(r), r.is_written != self.is_write))
        before = near.begin - self.address
        behind = self.address + self.nbytes - near.begin - near.nbytes
        if max(before, behind) <= 0:
            return f"{self} of {near.name}, which it may only read"
        where = f"{before} before" if before >= behind else f"{behind} beyond the end of"
        return f"{self}, as far as {where} {near.name} ({near.nbytes} bytes)"

    def _beyond(self, of: Range) -> int:
        return max(0, of.begin - self.address, self.address + self.nbytes - of.begin - of.nbytes)


def ranges(
    call: Call, words: int, bases: int, count: int, scratch: int,
    memories: Sequence[tuple[int, int]],
) -> list[Range]:  # fmt: skip
    """What a call may touch. `memories` are the address and bytes of each operand and result."""
    operands = len(call.operands)
    found = [
        Range("its words", words, 8 * (2 * len(memories) + len(call.table))),
        Range("the bases", bases, 8 * count),
    ]
    if call.scratch:
        found.append(Range("its scratch", scratch, call.scratch, True))
    for k, (address, nbytes) in enumerate(memories):
        name = f"operand {k}" if k < operands else f"result {k - operands}"
        found.append(Range(name, address, nbytes, k >= operands))
    return found


def told(op: str, line: str, call: Call, fault: Fault, found: Sequence[Range]) -> str:
    """The message for a call that left its memory."""
    key = call.kernel.key.replace("\n", "; ")
    given = f"a kernel [{key:.200}], recorded at {line}, that {fault.told(found)}"
    expected = "one that touches its own memory"
    return message(op, given, expected, "PROA_SHOW=nest and a report: Proa is at fault")


@final
class Guard:
    """The ranges of the call that runs: one at a time in the process."""

    __slots__ = ("state", "address", "lock")

    def __init__(self) -> None:
        words = RANGES + RANGE_WORDS * MOST
        whole = (c_int64 * (words + 8))()  # the dummies are aligned as any vector
        skipped = -addressof(whole) % 64
        self.state = (c_int64 * words).from_buffer(whole, skipped)
        self.address = addressof(self.state)
        self.lock = threading.RLock()

    def run(self, ranges: Sequence[Range], call: Callable[[], None]) -> Fault | None:
        """Runs a checked kernel: its first access out of these ranges."""
        if len(ranges) > MOST - 64:  # a kernel's own are a few
            given = f"{len(ranges)} memories of one kernel"
            raise ExecutionError(message("cpu_checked", given, f"at most {MOST - 64}"))
        with self.lock:
            state = self.state
            for i, one in enumerate(ranges):
                way = WRITES if one.is_written else READS
                at = RANGES + RANGE_WORDS * i
                state[at : at + RANGE_WORDS] = [one.begin, one.begin + one.nbytes, way]
            state[0], state[NOTED] = len(ranges), 0
            # A size, a step or a divisor of 1 does no harm.
            state[DUMMIES : DUMMIES + DUMMY // 8] = [1] * (DUMMY // 8)
            call()
            way, address, nbytes = state[NOTED : NOTED + 3]
        return Fault(way == WRITES, address & (1 << 64) - 1, nbytes) if way else None


guard: Final = Guard()


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked."""
    guard.lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
