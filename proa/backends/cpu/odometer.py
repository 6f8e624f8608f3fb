"""The walk over rows: a row's number as digits, one an outer axis, and where it lies in memory."""

from __future__ import annotations

from typing import Final, final

from proa.backends.cpu.vector import Body

MOST_AXES: Final = 64


@final
class Odometer:
    """The innermost outer axis turns first. Its words in the table, from `start`: for each axis
    its size and the stride of every memory. `%at{k}` is where memory k's row lies."""

    def __init__(self, body: Body, pointers: int, start: int, axes: str) -> None:
        self.body = body
        self.pointers = pointers
        self.start = start
        self.axes = axes
        body.line(f"  %counters = alloca [{MOST_AXES} x i64]")

    def begin(self, first: str) -> list[str]:
        """The digits of the first row; gives where it lies in each memory."""
        body, pointers, before = self.body, self.pointers, self.body.here
        body.line("  br label %digits")
        body.label("digits")
        body.line(f"  %digit = phi i64 [ 0, %{before} ], [ %digit.next, %digits.body ]")
        body.line(f"  %rest = phi i64 [ {first}, %{before} ], [ %rest.next, %digits.body ]")
        for k in range(pointers):
            body.line(f"  %start{k} = phi i64 [ 0, %{before} ], [ %start{k}.next, %digits.body ]")
        body.line(f"  %digits.open = icmp slt i64 %digit, {self.axes}")
        body.line("  br i1 %digits.open, label %digits.body, label %begun")
        body.label("digits.body")
        extent, strides = self.axis("%digit")
        mine = body.set(f"urem i64 %rest, {extent}")
        body.line(f"  %rest.next = udiv i64 %rest, {extent}")
        counter = body.set("getelementptr i64, ptr %counters, i64 %digit")
        body.line(f"  store i64 {mine}, ptr {counter}")
        for k in range(pointers):
            moved = body.set(f"mul i64 {mine}, {strides[k]}")
            body.line(f"  %start{k}.next = add i64 %start{k}, {moved}")
        body.line("  %digit.next = add i64 %digit, 1")
        body.line("  br label %digits")
        body.label("begun")
        return [f"%start{k}" for k in range(pointers)]

    def axis(self, axis: str) -> tuple[str, list[str]]:
        """The size of an outer axis, and every memory's stride along it."""
        body, pointers = self.body, self.pointers
        row = body.set(f"mul i64 {axis}, {1 + pointers}")
        start = body.set(f"add i64 {row}, {self.start}")
        at = body.set(f"getelementptr i64, ptr %table, i64 {start}")
        extent, strides = body.set(f"load i64, ptr {at}"), []
        for k in range(pointers):
            place = body.set(f"getelementptr i64, ptr {at}, i64 {1 + k}")
            strides.append(body.set(f"load i64, ptr {place}"))
        return extent, strides

    def rows(self, first: str, starts: list[str], before: str) -> None:
        """The beginning of a row's block."""
        body = self.body
        body.label("row")
        body.line(f"  %number = phi i64 [ {first}, %{before} ], [ %number.next, %again ]")
        for k in range(self.pointers):
            body.line(f"  %off{k} = phi i64 [ {starts[k]}, %{before} ], [ %next{k}, %again ]")
        for k in range(self.pointers):
            body.line(f"  %at{k} = getelementptr i8, ptr %p{k}, i64 %off{k}")

    def advance(self, last: str) -> None:
        """The next row: the innermost outer axis first, carried over like digits."""
        body, pointers, before = self.body, self.pointers, self.body.here
        body.line("  %number.next = add i64 %number, 1")
        body.line(f"  %open = icmp slt i64 %number.next, {last}")
        body.line("  br i1 %open, label %carry, label %end.tile")
        body.label("carry")
        body.line(f"  %axis = phi i64 [ 0, %{before} ], [ %axis.next, %wrap ]")
        for k in range(pointers):
            body.line(f"  %from{k} = phi i64 [ %off{k}, %{before} ], [ %back{k}, %wrap ]")
        extent, strides = self.axis("%axis")
        for k in range(pointers):
            body.line(f"  %next{k} = add i64 %from{k}, {strides[k]}")
        counter = body.set("getelementptr i64, ptr %counters, i64 %axis")
        old = body.set(f"load i64, ptr {counter}")
        new = body.set(f"add i64 {old}, 1")
        inside = body.set(f"icmp slt i64 {new}, {extent}")
        body.line(f"  br i1 {inside}, label %again, label %wrap")
        body.label("again")
        body.line(f"  store i64 {new}, ptr {counter}")
        body.line("  br label %row")
        body.label("wrap")
        body.line(f"  store i64 0, ptr {counter}")
        body.line("  %axis.next = add i64 %axis, 1")
        for k in range(pointers):
            span = body.set(f"mul i64 {extent}, {strides[k]}")
            body.line(f"  %back{k} = sub i64 %next{k}, {span}")
        body.line("  br label %carry")
        body.label("end.tile")
