"""How vectors meet memory: whole or masked, side by side or far apart."""

from __future__ import annotations

from typing import final

from proa.backends.cpu.vector import Body, Vector

SIZES = {"float": 4, "double": 8}


def suffix(kind: str) -> str:
    """How LLVM spells a type in the names of intrinsics."""
    return {"float": "f32", "double": "f64"}.get(kind, kind)


@final
class Access:
    """Loads and stores of a function. Positions are elements counted from an address; a mask of
    no name is all lanes."""

    def __init__(self, body: Body) -> None:
        self.body = body

    @property
    def lanes(self) -> int:
        return self.body.lanes

    def lower(self, a: str, b: str) -> str:
        self.body.declare("llvm.smin.i64", "i64", ["i64", "i64"])
        return self.body.set(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def splat(self, kind: str, one: str) -> str:
        body = self.body
        wide, mask = body.wide(kind), body.wide("i32")
        first = body.set(f"insertelement {wide} poison, {kind} {one}, i32 0")
        return body.set(f"shufflevector {wide} {first}, {wide} poison, {mask} zeroinitializer")

    def read(
        self, at: str, kind: str, positions: list[str], masks: list[str], align: int
    ) -> list[str]:
        body, wide, names = self.body, self.body.wide(kind), []
        for position, mask in zip(positions, masks, strict=True):
            place = body.set(f"getelementptr {kind}, ptr {at}, i64 {position}")
            if not mask:
                names.append(body.set(f"load {wide}, ptr {place}, align {align}"))
                continue
            name = f"llvm.masked.load.v{self.lanes}{suffix(kind)}.p0"
            body.declare(name, wide, ["ptr", body.wide("i1"), wide])
            names.append(body.set(
                f"call {wide} @{name}(ptr align {align} {place}, "
                f"{body.wide('i1')} {mask}, {wide} zeroinitializer)"
            ))  # fmt: skip
        return names

    def write(
        self,
        at: str,
        value: Vector,
        positions: list[str],
        masks: list[str],
        is_stream: bool = False,
    ) -> None:
        """`is_stream`: past the caches; each vector lies on a multiple of its size."""
        body, kind = self.body, value.type
        names = value.names * (len(positions) if len(value.names) == 1 else 1)
        align = max(1, int(kind[1:]) // 8) if kind[0] == "i" else {"float": 4, "double": 8}[kind]
        for name, position, mask in zip(names, positions, masks, strict=True):
            place = body.set(f"getelementptr {kind}, ptr {at}, i64 {position}")
            if is_stream:
                whole = f"align {align * self.lanes}, !nontemporal !{{i32 1}}"
                body.line(f"  store {value.wide} {name}, ptr {place}, {whole}")
                continue
            if not mask:
                body.line(f"  store {value.wide} {name}, ptr {place}, align {align}")
                continue
            function = f"llvm.masked.store.v{self.lanes}{suffix(kind)}.p0"
            body.declare(function, "void", [value.wide, "ptr", body.wide("i1")])
            body.line(
                f"  call void @{function}({value.wide} {name}, ptr align {align} {place}, "
                f"{body.wide('i1')} {mask})"
            )

    def gather(self, base: str, kind: str, position: str, mask: str, step: str, align: int) -> str:
        """Elements that lie `step` bytes apart."""
        body, wide = self.body, self.body.wide(kind)
        index, bits = body.wide("i64"), body.wide("i1")
        start = body.set(f"mul i64 {position}, {step}")
        at = body.set(f"getelementptr i8, ptr {base}, i64 {start}")
        steps = self.splat("i64", step)
        offsets = body.set(f"mul {index} {steps}, {self.numbers()}")
        places = body.set(f"getelementptr i8, ptr {at}, {index} {offsets}")
        name = f"llvm.masked.gather.v{self.lanes}{suffix(kind)}.v{self.lanes}p0"
        body.declare(name, wide, [body.wide("ptr"), bits, wide])
        return body.set(
            f"call {wide} @{name}({body.wide('ptr')} align {align} {places}, "
            f"{bits} {mask or 'splat (i1 true)'}, {wide} zeroinitializer)"
        )

    def numbers(self) -> str:
        return "<" + ", ".join(f"i64 {i}" for i in range(self.lanes)) + ">"

    def masks(self, position: str, count: int, end: str = "%end") -> list[str]:
        """For each of `count` vectors from a position: the lanes before the end."""
        body, ints = self.body, self.body.wide("i32")
        missing = body.set(f"sub i64 {end}, {position}")
        short = body.set(f"trunc i64 {self.lower(missing, str(count * self.lanes))} to i32")
        ends = self.splat("i32", short)
        masks = []
        for v in range(count):
            numbers = [f"i32 {v * self.lanes + i}" for i in range(self.lanes)]
            masks.append(body.set(f"icmp ult {ints} <{', '.join(numbers)}>, {ends}"))
        return masks
