"""The walk over a table of kernel calls, as LLVM code: by one thread, and by all together.

A row is four words: address of the kernel, tiles, address of its call, AFTER: a tile of it begins
when every tile of all rows before row AFTER is done; AFTER never falls from row to row. `walk` does
it on one thread, in order, `share` on all; scratch of thread t lies t strides behind that of thread
0, the caller.

How `share` keeps memory right (the pool is one piece of memory, zero at first, never freed):

- A caller owns the pool while BUSY is 1. A second caller does not wait: it walks alone.
- It fills a *block*: the job, and for each row NEXT tile, DONE tiles, TILES, AFTER. Then it stores
  the block's address in JOB, and walks as thread 0. Workers take tiles meanwhile. The caller could
  do all of it alone, so no worker is ever waited for but one that is inside a tile.
- A tile is taken by an atomic add on NEXT. A thread that finds no more adds what it did to DONE
  (release) and goes on to the next row, where it waits until DONE is TILES (acquire) in all rows
  before AFTER: so it sees what all others wrote in these. At the end it waits for all rows.
- Tables, bases and scratch are read only between taking a tile and adding to DONE. The caller
  cannot return meanwhile. A late worker finds every counter exhausted and reads the block alone.
- A block is filled again only when nobody reads it. A worker stores the block's address in its
  HOLDS, then looks whether JOB is still that block; a caller clears JOB, then looks at every HOLDS.
  All four are sequentially consistent, so one of the two sees the other. If the same block was
  published again in between, the worker has found that job, whole: no harm in A-B-A.
  Each worker holds at most one block, so one block more than workers is enough.
- A worker sleeps on GENERATION. It raises SLEEPERS, then the kernel compares GENERATION; a caller
  raises GENERATION, then looks at SLEEPERS: no wake-up is lost, and without sleepers none is paid.
- Workers with a number of COUNT or above sleep on COUNT, so that fewer threads cost nothing.
- A worker that was woken on its caller's processor is moved off it once. Left alone the two take
  turns there for many milliseconds beside an idle processor (measured): to the scheduler threads
  that yield to each other are too fresh in the cache to part.
"""

from __future__ import annotations

from typing import Final

from proa.backends.cpu.engine import CONTROL
from proa.backends.cpu.target import Target

MOST: Final = 256  # threads
ROWS: Final = 256  # of a block; a longer program is walked in pieces

# Offsets in the pool: words that different threads write lie on cache lines of their own.
JOB: Final = 0
GENERATION: Final = 8
BUSY: Final = 64
SLEEPERS: Final = 128
COUNT: Final = 192
STARTED: Final = 200  # workers
SLOTS: Final = 256
SLOT: Final = 64  # bytes of a worker's words: HOLDS, number, pool, when it was moved
BLOCKS: Final = SLOTS + SLOT * MOST
# A job: rows, how many, bases, scratch, stride, threads, processor. Then each row's four words.
BLOCK: Final = 64 + 32 * ROWS
POOL: Final = BLOCKS + BLOCK * MOST  # bytes; hardly any are ever touched

# A wait within a row: so many pauses, then yields up to this many rounds, then naps.
PAUSES: Final = 200
ROUNDS: Final = 5000
NAP_MICROSECONDS: Final = 50

FUTEX: Final = {"x86_64": 202, "amd64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98}
WAIT: Final = 128  # FUTEX_WAIT | FUTEX_PRIVATE_FLAG
WAKE: Final = 129


def can_share(machine: Target) -> bool:
    """Whether there can be workers; elsewhere there is only `walk`."""
    return "linux" in machine.triple and machine.triple.split("-")[0] in FUTEX


# Short forms of what comes again and again.

_FIVE: Final = "ptr %rows, i64 %first, i64 %last, ptr %bases, ptr %scratch"
_EIGHT: Final = f"ptr %pool, {_FIVE}, i64 %stride, i64 %threads"


def read(at: str, *words: str) -> str:
    """Loads words by number: `read("%block", "ptr rows 0")`."""
    lines = []
    for kind, name, number in map(str.split, words):
        lines += [f"  %{name}.at = getelementptr i64, ptr {at}, i64 {number}"]
        lines += [f"  %{name} = load {kind}, ptr %{name}.at"]
    return "\n".join(lines)


def write(at: str, *words: str) -> str:
    """Stores values in words by number; the name is that of the place."""
    lines = []
    for kind, name, number, value in map(str.split, words):
        lines += [f"  %{name}.to = getelementptr i64, ptr {at}, i64 {number}"]
        lines += [f"  store {kind} {value}, ptr %{name}.to"]
    return "\n".join(lines)


def places(**offsets: int) -> str:
    """Where words of the pool lie."""
    rows = [f"  %{n} = getelementptr i8, ptr %pool, i64 {o}" for n, o in offsets.items()]
    return "\n".join(rows)


def item(name: str, index: str, size: int, start: int) -> str:
    """Where the item of a row of items in the pool lies: a slot or a block."""
    return f"""  %{name}.offset = mul i64 {index}, {size}
  %{name}.from = add i64 %{name}.offset, {start}
  %{name} = getelementptr i8, ptr %pool, i64 %{name}.from"""


def futex(machine: Target, word: str, operation: int, value: str | int) -> str:
    number = FUTEX[machine.triple.split("-")[0]]
    return (
        f"call i64 (i64, ...) @syscall(i64 {number}, ptr {word}, i64 {operation}, i64 {value}, "
        "ptr null, ptr null, i64 0)"
    )


def pause(machine: Target) -> str:
    """Tells the processor that this is a wait; an empty line where there is no word for it."""
    if machine.is_x86:
        return "call void @llvm.x86.sse2.pause()"
    return "call void @llvm.aarch64.hint(i32 1)" if "aarch64" in machine.triple else ""


def guarded(machine: Target, call: str) -> str:
    """Under the floating-point control word that bits are promised for. The caller's is put back
    as it was, so what kernels raise is not seen either."""
    if not machine.is_x86:
        return f"  {call}\n  ret void"
    return f"""  %theirs = alloca i32
  %ours = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %theirs)
  store i32 {CONTROL}, ptr %ours
  call void @llvm.x86.sse.ldmxcsr(ptr %ours)
  {call}
  call void @llvm.x86.sse.ldmxcsr(ptr %theirs)
  ret void"""


# Walking.


def walk(machine: Target) -> str:
    return f"""
define void @walk({_FIVE}) nounwind {{
{guarded(machine, f"call void @each({_FIVE})")}
}}
"""


def each() -> str:
    return f"""
define internal void @each({_FIVE}) nounwind {{
entry:
  br label %row
row:
  %r = phi i64 [ %first, %entry ], [ %r.next, %row.end ]
  %more = icmp slt i64 %r, %last
  br i1 %more, label %read, label %end
read:
  %row.at = getelementptr [4 x i64], ptr %rows, i64 %r
{read("%row.at", "ptr kernel 0", "i64 tiles 1", "ptr call 2")}
  br label %tile
tile:
  %t = phi i64 [ 0, %read ], [ %t.next, %do ]
  %left = icmp slt i64 %t, %tiles
  br i1 %left, label %do, label %row.end
do:
  call void %kernel(ptr %call, ptr %bases, i64 %t, ptr %scratch)
  %t.next = add i64 %t, 1
  br label %tile
row.end:
  %r.next = add i64 %r, 1
  br label %row
end:
  ret void
}}
"""


def together() -> str:
    """Takes part in the job of a block, as thread number %index."""
    job = "ptr rows 0", "i64 count 1", "ptr bases 2", "ptr scratches 3", "i64 stride 4"
    return f"""
define internal void @together(ptr %block, i64 %index) nounwind {{
entry:
{read("%block", *job)}
  %offset = mul i64 %index, %stride
  %scratch = getelementptr i8, ptr %scratches, i64 %offset
  br label %row
row:
  %r = phi i64 [ 0, %entry ], [ %r.next, %row.end ]
  %passed = phi i64 [ 0, %entry ], [ %safe, %row.end ]
  %more = icmp slt i64 %r, %count
  br i1 %more, label %read, label %wait
read:
  %r.behind = add i64 %r, 2
  %mine.at = getelementptr [4 x i64], ptr %block, i64 %r.behind
{read("%mine.at", "i64 begins 3")}
  br label %wait
wait:
  %safe = phi i64 [ %passed, %row ], [ %passed, %read ], [ %safe.next, %passing ]
  %after = phi i64 [ %count, %row ], [ %begins, %read ], [ %after, %passing ]
  %early = icmp slt i64 %safe, %after
  br i1 %early, label %others, label %may
others:
  %safe.behind = add i64 %safe, 2
  %older = getelementptr [4 x i64], ptr %block, i64 %safe.behind
  %older.done = getelementptr i64, ptr %older, i64 1
{read("%older", "i64 older.tiles 2")}
  br label %ask
ask:
  %n = phi i64 [ 0, %others ], [ %n.next, %again ]
  %finished = load atomic i64, ptr %older.done acquire, align 8
  %all = icmp sge i64 %finished, %older.tiles
  br i1 %all, label %passing, label %again
again:
  call void @relax(i64 %n)
  %n.next = add i64 %n, 1
  br label %ask
passing:
  %safe.next = add i64 %safe, 1
  br label %wait
may:
  br i1 %more, label %begin, label %end
begin:
  %r.place = add i64 %r, 2
  %next = getelementptr [4 x i64], ptr %block, i64 %r.place
  %done = getelementptr i64, ptr %next, i64 1
{read("%next", "i64 tiles 2")}
  br label %look
look:
  %mine = phi i64 [ 0, %begin ], [ %mine.next, %do ]
  %seen = load atomic i64, ptr %next monotonic, align 8
  %open = icmp slt i64 %seen, %tiles
  br i1 %open, label %take, label %leave
take:
  %t = atomicrmw add ptr %next, i64 1 monotonic, align 8
  %got = icmp slt i64 %t, %tiles
  br i1 %got, label %do, label %leave
do:
  %row.at = getelementptr [4 x i64], ptr %rows, i64 %r
{read("%row.at", "ptr kernel 0", "ptr call 2")}
  call void %kernel(ptr %call, ptr %bases, i64 %t, ptr %scratch)
  %mine.next = add i64 %mine, 1
  br label %look
leave:
  %any = icmp sgt i64 %mine, 0
  br i1 %any, label %tell, label %row.end
tell:
  %before = atomicrmw add ptr %done, i64 %mine release, align 8
  br label %row.end
row.end:
  %r.next = add i64 %r, 1
  br label %row
end:
  ret void
}}
"""


def share(machine: Target) -> str:
    """Piece by piece: find a block that nobody holds, fill it, publish, walk, take it back."""
    job = [
        "ptr rows 0 %rows.from", "i64 count 1 %count", "ptr bases 2 %bases",
        "ptr scratch 3 %scratch", "i64 stride 4 %stride", "i64 threads 5 %threads",
        "i32 processor 6 %processor",
    ]  # fmt: skip
    words = places(busy=BUSY, generation=GENERATION, sleepers=SLEEPERS, started=STARTED)
    return f"""
define void @share({_EIGHT}) nounwind {{
{guarded(machine, f"call void @shared({_EIGHT})")}
}}

define internal void @shared({_EIGHT}) nounwind {{
entry:
{words}
  %tried = cmpxchg ptr %busy, i64 0, i64 1 acquire monotonic, align 8
  %ours = extractvalue {{ i64, i1 }} %tried, 1
  br i1 %ours, label %piece, label %alone
alone:
  call void @each({_FIVE})
  ret void

piece:
  %from = phi i64 [ %first, %entry ], [ %to, %piece.end ]
  %more = icmp slt i64 %from, %last
  br i1 %more, label %choose, label %end
choose:
  %workers = load atomic i64, ptr %started seq_cst, align 8
  %full = add i64 %from, {ROWS}
  %to = call i64 @llvm.smin.i64(i64 %full, i64 %last)
  %count = sub i64 %to, %from
  %rows.from = getelementptr [4 x i64], ptr %rows, i64 %from
  br label %candidate
candidate:
  %b = phi i64 [ 0, %choose ], [ %b.next, %held ]
{item("block", "%b", BLOCK, BLOCKS)}
  br label %holder
holder:
  %w = phi i64 [ 1, %candidate ], [ %w.next, %not.held ]
  %unasked = icmp sle i64 %w, %workers
  br i1 %unasked, label %ask, label %fill
ask:
{item("slot", "%w", SLOT, SLOTS)}
  %holds = load atomic ptr, ptr %slot seq_cst, align 8
  %same = icmp eq ptr %holds, %block
  br i1 %same, label %held, label %not.held
not.held:
  %w.next = add i64 %w, 1
  br label %holder
held:
  %b.next = add i64 %b, 1
  br label %candidate

fill:
  %r = phi i64 [ 0, %holder ], [ %r.next, %counter ]
  %widest = phi i64 [ 0, %holder ], [ %widest.next, %counter ]
  %unfilled = icmp slt i64 %r, %count
  br i1 %unfilled, label %counter, label %filled
counter:
  %row.at = getelementptr [4 x i64], ptr %rows.from, i64 %r
{read("%row.at", "i64 tiles 1", "i64 begins 3")}
  %after = sub i64 %begins, %from
  %widest.next = call i64 @llvm.smax.i64(i64 %tiles, i64 %widest)
  %r.behind = add i64 %r, 2
  %counter.at = getelementptr [4 x i64], ptr %block, i64 %r.behind
{write("%counter.at", "i64 next 0 0", "i64 done 1 0", "i64 tiles 2 %tiles", "i64 after 3 %after")}
  %r.next = add i64 %r, 1
  br label %fill
filled:
  %useful = call i64 @llvm.smin.i64(i64 %widest, i64 %threads)
  %others = sub i64 %useful, 1
  %divided = icmp sgt i64 %others, 0
  br i1 %divided, label %publish, label %undivided
undivided:
  call void @each(ptr %rows, i64 %from, i64 %to, ptr %bases, ptr %scratch)
  br label %piece.end
publish:
  %processor = call i32 @sched_getcpu()
{write("%block", *job)}
  store atomic ptr %block, ptr %pool seq_cst, align 8
  %last.generation = atomicrmw add ptr %generation, i32 1 seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %call.them = icmp sgt i32 %asleep, 0
  br i1 %call.them, label %wake, label %go
wake:
  %woken = {futex(machine, "%generation", WAKE, "%others")}
  br label %go
go:
  call void @together(ptr %block, i64 0)
  store atomic ptr null, ptr %pool seq_cst, align 8
  br label %piece.end
piece.end:
  br label %piece
end:
  store atomic i64 0, ptr %busy release, align 8
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
"""


def relax(machine: Target) -> str:
    """The wait number %n for others: shorter at first, kinder later."""
    return f"""
define internal void @relax(i64 %n) nounwind {{
  %early = icmp ult i64 %n, {PAUSES}
  br i1 %early, label %spin, label %late
spin:
  {pause(machine)}
  ret void
late:
  %soon = icmp ult i64 %n, {ROUNDS}
  br i1 %soon, label %yield, label %nap
yield:
  %yielded = call i32 @sched_yield()
  ret void
nap:
  %slept = call i32 @usleep(i32 {NAP_MICROSECONDS})
  ret void
}}
"""
