"""`Entry`: a primitive applied to specs. Interned: the unit of keys, of claims, of the
per-operation cache, of the op matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from proa.graph.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY_LIMIT: Final = 50_000


@final
class Entry:
    """Primitive, parameters, input specs, output specs (the spec rule's answer).

    `plain` is the twin without gradients (itself if it has none). `out` is the first output.
    `memo` keeps what passes derive from the entry alone: its expansion, its pullback, the
    executable that runs it by itself.
    """

    __slots__ = ("primitive", "params", "ins", "outs", "out", "plain", "single", "memo")

    def __init__(
        self, primitive: Any, params: tuple[Any, ...], ins: tuple[Spec, ...], outs: tuple[Spec, ...]
    ) -> None:
        self.primitive = primitive
        self.params = params
        self.ins = ins
        self.outs = outs
        self.out = outs[0]
        self.single = len(outs) == 1
        self.plain: Entry = self
        self.memo: dict[Any, Any] = {}

    @property
    def named_params(self) -> dict[str, Any]:
        return dict(zip(self.primitive.params, self.params, strict=True))

    def once(self, key: Any, make: Callable[[Entry], Any]) -> Any:
        """`make(self)`, computed once and kept with the entry."""
        if key not in self.memo:
            self.memo[key] = make(self)
        return self.memo[key]

    def __repr__(self) -> str:
        params = "".join(f", {k}={v!r:.60}" for k, v in self.named_params.items())
        return f"{self.primitive.name}({', '.join(map(repr, self.ins))}{params})"


def intern_entry(
    table: dict[Any, Entry], primitive: Any, params: tuple[Any, ...], ins: tuple[Spec, ...]
) -> Entry:
    """The one entry for these; runs the spec rule, and raises its errors, the first time only."""
    key = (params, ins)
    found = table.get(key)
    if found is not None:
        return found
    plain_ins = tuple([s.plain for s in ins])
    outs = primitive.output_specs(plain_ins, params)
    entry = Entry(primitive, params, ins, outs)
    if plain_ins != ins:
        entry.plain = intern_entry(table, primitive, params, plain_ins)
        wants = primitive.differentiable_outputs(entry)
        outs = tuple([s.with_grad() if w else s for s, w in zip(outs, wants, strict=True)])
        entry.outs, entry.out = outs, outs[0]
    if len(table) >= ENTRY_LIMIT:
        table.clear()
    return table.setdefault(key, entry)
