"""What a long-running command shows: lines, and the progress of its steps.

In a terminal there is a bar (rich); elsewhere one line every few seconds.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO, final

EVERY = 5.0
MEMORY = 20


@final
class Show:
    """Where a command writes.

    Arguments:
        quiet: only results are written.
        json: standard output is left to one JSON object, and all else goes to standard error.

    Example:
        >>> Show(quiet=True).say("not shown")
    """

    def __init__(self, quiet: bool = False, json: bool = False) -> None:
        self.quiet = quiet
        self.json = json
        self.stream: TextIO = sys.stderr if json else sys.stdout

    def say(self, text: str = "") -> None:
        """Write a line, unless quiet."""
        if not self.quiet:
            print(text, file=self.stream, flush=True)

    def result(self, text: str) -> None:
        """Write a line, also when quiet; not where JSON is wanted."""
        if not (self.json and self.quiet):
            print(text, file=self.stream, flush=True)

    def steps(self, name: str, total: int, done: int = 0) -> Steps:
        """The progress of `total` steps, of which `done` are done, for a `with` statement."""
        return Steps(self, name, total, done)


@final
class Steps:
    """The progress of steps; made by `Show.steps`."""

    def __init__(self, show: Show, name: str, total: int, done: int) -> None:
        self.show = show
        self.name = name
        self.total = total
        self.recent: list[tuple[float, int]] = [(time.perf_counter(), done)]
        self.said = self.recent[0][0]
        self.bar: Any = None

    def __enter__(self) -> Steps:
        if not self.show.quiet and self.show.stream.isatty():
            self.bar = _bar(self.show.stream)
        if self.bar is not None:
            start = self.recent[0][1]
            self.task = self.bar.add_task(self.name, total=self.total, completed=start, note="")
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, done: int, loss: float, each: int = 0) -> None:
        """Say that `done` steps are done, with the last loss, at `each` tokens a step."""
        now = time.perf_counter()
        self.recent = [*self.recent[-MEMORY:], (now, done)]
        rate = _rate(self.recent)
        note = f"loss {loss:.3f}"
        if each:
            note += f"  {each * rate:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, note=note)
        elif not self.show.quiet and (now - self.said >= EVERY or done == self.total):
            self.said = now
            left = (self.total - done) / rate if rate else 0.0
            self.show.say(f"{self.name} {done}/{self.total}  {note}  {left:.0f} s left")


def _rate(recent: list[tuple[float, int]]) -> float:
    (start, first), (end, last) = recent[0], recent[-1]
    return (last - first) / (end - start) if end > start else 0.0


def _bar(stream: TextIO) -> Any:
    """A bar of rich, which is slow to import."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    return Progress(*columns, console=Console(file=stream))


@final
class Stop:
    """Whether the user has asked to end; made by `interruptible`.

    Example:
        >>> bool(Stop())
        False
    """

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def interruptible(show: Show) -> Iterator[Stop]:
    """Inside the block the first Ctrl-C only asks to end; a second one interrupts as usual.

    So a step is never cut in two. Where somebody else handles or ignores Ctrl-C, or in another
    thread than the main one, nothing changes.
    """
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before is not signal.default_int_handler:
        yield stop
        return

    def ask(number: int, frame: Any) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)
        show.say("stopping after this step (Ctrl-C again: at once)")

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
