"""What a worker does, as LLVM code: waits for a job, takes part, waits again.

How it and its callers keep memory right stands in `walk.py`.
"""

from __future__ import annotations

from typing import Final

from proa.backends.cpu.engine import CONTROL
from proa.backends.cpu.target import Target
from proa.backends.cpu.walk import (
    COUNT,
    GENERATION,
    SLEEPERS,
    SLOT,
    SLOTS,
    STARTED,
    WAIT,
    WAKE,
    can_share,
    each,
    futex,
    item,
    pause,
    places,
    read,
    relax,
    share,
    together,
    walk,
    write,
)

# A wait for the next job: nanoseconds of spinning, then of yielding, then sleep.
SPIN: Final = 40_000
YIELD: Final = 150_000
MOVES: Final = 1_000_000  # nanoseconds between two moves of a worker

ALL: Final = 0x7FFFFFFF
MASKED: Final = ~(1 << 3 | 1 << 6 | 1 << 7 | 1 << 10)  # signals, but SIGILL, BUS, FPE and SEGV


def module(machine: Target) -> str:
    """The LLVM module: `walk`; `share`, `hire`, `resize` and `work` where there can be workers."""
    parts = [f'target triple = "{machine.triple}"', each(), walk(machine)]
    if can_share(machine):
        parts += [share(machine), together(), _hire(), _resize(machine), _work(machine)]
        parts += [relax(machine), _idle(machine), _PART, _LIBRARY]
    if machine.is_x86:
        parts += [_X86]
    elif "aarch64" in machine.triple:
        parts += ["declare void @llvm.aarch64.hint(i32)"]
    return "\n".join(parts)


def _hire() -> str:
    """The slot of a worker, before it starts; it may run beside any job."""
    return f"""
define ptr @hire(ptr %pool, i64 %index) nounwind {{
{places(started=STARTED)}
{item("slot", "%index", SLOT, SLOTS)}
{write("%slot", "i64 index 1 %index", "ptr pool 2 %pool")}
  store atomic i64 %index, ptr %started seq_cst, align 8
  ret ptr %slot
}}
"""


def _resize(machine: Target) -> str:
    """So many threads from now on: all workers look again whether they are among them."""
    return f"""
define void @resize(ptr %pool, i64 %threads) nounwind {{
{places(count=COUNT, generation=GENERATION)}
  %short = trunc i64 %threads to i32
  store atomic i32 %short, ptr %count seq_cst, align 4
  %before = atomicrmw add ptr %generation, i32 1 seq_cst, align 4
  %more = {futex(machine, "%count", WAKE, ALL)}
  %less = {futex(machine, "%generation", WAKE, ALL)}
  ret void
}}
"""


def _work(machine: Target) -> str:
    """A worker's life. It takes no signals: those belong to threads that wait for them."""
    control = f"""  %word = alloca i32
  store i32 {CONTROL}, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)"""
    return f"""
define ptr @work(ptr %slot) nounwind {{
entry:
{control if machine.is_x86 else ""}
  %signals = alloca [16 x i64]
  call void @llvm.memset.p0.i64(ptr %signals, i8 -1, i64 128, i1 false)
  store i64 {MASKED}, ptr %signals
  %masked = call i32 @pthread_sigmask(i32 0, ptr %signals, ptr null)
{read("%slot", "i64 index 1", "ptr pool 2")}
{places(generation=GENERATION, count=COUNT)}
  br label %look
look:
  %seen = load atomic i32, ptr %generation seq_cst, align 4
  %short = load atomic i32, ptr %count seq_cst, align 4
  %threads = zext i32 %short to i64
  %wanted = icmp slt i64 %index, %threads
  br i1 %wanted, label %ready, label %surplus
surplus:
  %changed = {futex(machine, "%count", WAIT, "%threads")}
  br label %look
ready:
  %job = load atomic ptr, ptr %pool seq_cst, align 8
  %none = icmp eq ptr %job, null
  br i1 %none, label %rest, label %hold
hold:
  store atomic ptr %job, ptr %slot seq_cst, align 8
  %again = load atomic ptr, ptr %pool seq_cst, align 8
  %valid = icmp eq ptr %again, %job
  br i1 %valid, label %join, label %drop
join:
{read("%job", "i64 places 5", "i32 theirs 6")}
  %place = icmp slt i64 %index, %places
  br i1 %place, label %compare, label %drop
compare:
  %mine = call i32 @sched_getcpu()
  %crowded = icmp eq i32 %mine, %theirs
  br i1 %crowded, label %move, label %go
move:
  call void @part(ptr %slot, i32 %mine)
  br label %go
go:
  call void @together(ptr %job, i64 %index)
  br label %drop
drop:
  store atomic ptr null, ptr %slot release, align 8
  br i1 %valid, label %rest, label %look
rest:
  call void @idle(ptr %pool, i32 %seen)
  br label %look
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


def _idle(machine: Target) -> str:
    """Until the generation is another than the one seen, or for no reason."""
    return f"""
define internal void @idle(ptr %pool, i32 %seen) nounwind {{
entry:
{places(generation=GENERATION, sleepers=SLEEPERS)}
  %since = call i64 @now()
  br label %look
look:
  %current = load atomic i32, ptr %generation acquire, align 4
  %same = icmp eq i32 %current, %seen
  br i1 %same, label %wait, label %end
wait:
  %now = call i64 @now()
  %past = sub i64 %now, %since
  %early = icmp slt i64 %past, {SPIN}
  br i1 %early, label %spin, label %late
spin:
  {pause(machine)}
  br label %look
late:
  %soon = icmp slt i64 %past, {YIELD}
  br i1 %soon, label %yield, label %sleep
yield:
  %yielded = call i32 @sched_yield()
  br label %look
sleep:
  %more = atomicrmw add ptr %sleepers, i32 1 seq_cst, align 4
  %value = zext i32 %seen to i64
  %woken = {futex(machine, "%generation", WAIT, "%value")}
  %less = atomicrmw sub ptr %sleepers, i32 1 seq_cst, align 4
  br label %end
end:
  ret void
}}

define internal i64 @now() nounwind {{
  %time = alloca [2 x i64]
  %failed = call i32 @clock_gettime(i32 1, ptr %time)
{read("%time", "i64 seconds 0", "i64 rest 1")}
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}}
"""


# Moves a worker off a processor: forbidden for a moment, then allowed again.
_PART: Final = f"""
define internal void @part(ptr %slot, i32 %processor) nounwind {{
entry:
  %allowed = alloca [16 x i64]
  %others = alloca [16 x i64]
{read("%slot", "i64 moved 3")}
  %now = call i64 @now()
  %past = sub i64 %now, %moved
  %may = icmp sgt i64 %past, {MOVES}
  br i1 %may, label %ask, label %end
ask:
{write("%slot", "i64 moved 3 %now")}
  %failed = call i32 @sched_getaffinity(i32 0, i64 128, ptr %allowed)
  %known = icmp sge i32 %failed, 0
  %inside = icmp ult i32 %processor, 1024
  %sure = and i1 %known, %inside
  br i1 %sure, label %forbid, label %end
forbid:
  call void @llvm.memcpy.p0.p0.i64(ptr %others, ptr %allowed, i64 128, i1 false)
  %word = lshr i32 %processor, 6
  %word.at = getelementptr i64, ptr %others, i32 %word
  %bit = and i32 %processor, 63
  %wide = zext i32 %bit to i64
  %one = shl i64 1, %wide
  %without = xor i64 %one, -1
  %old = load i64, ptr %word.at
  %new = and i64 %old, %without
  store i64 %new, ptr %word.at
  %left = call i32 @sched_setaffinity(i32 0, i64 128, ptr %others)
  %back = call i32 @sched_setaffinity(i32 0, i64 128, ptr %allowed)
  br label %end
end:
  ret void
}}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""

_LIBRARY: Final = """
declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @usleep(i32)
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)
declare i32 @clock_gettime(i32, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
"""

_X86: Final = """
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
"""
