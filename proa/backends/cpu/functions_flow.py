"""Branches, loops and functions of their own in vector code: for what is rare, or long.

What a lane gets never depends on its neighbours: these only decide whether work is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proa.backends.cpu.vector import Body, Vector, select

Lanes = Sequence[Vector]


def _any(condition: Vector) -> str:
    """One bit: whether the condition holds in some lane of some register."""
    body = condition.body
    found = condition.names[0]
    for name in condition.names[1:]:
        found = body.set(f"or {condition.wide} {found}, {name}")
    name = f"llvm.vector.reduce.or.v{body.lanes}i1"
    body.declare(name, "i1", [condition.wide])
    return body.set(f"call i1 @{name}({condition.wide} {found})")


def _tag(body: Body, name: str) -> str:
    body.count += 1
    return f"{name}{body.count}"


def rarely(where: Vector, plain: Lanes, slow: Callable[[], Lanes]) -> list[Vector]:
    """`plain`, and in lanes where it is asked for what `slow` computes: a branch, rarely taken."""
    body, tag = where.body, _tag(where.body, "rare")
    taken = _any(where)
    body.line(f"  br label %{tag}.before")
    body.label(f"{tag}.before")
    body.line(f"  br i1 {taken}, label %{tag}.slow, label %{tag}.done")
    body.label(f"{tag}.slow")
    chosen = [select(where, new, old) for new, old in zip(slow(), plain, strict=True)]
    body.line(f"  br label %{tag}.after")
    body.label(f"{tag}.after")
    body.line(f"  br label %{tag}.done")
    body.label(f"{tag}.done")
    return [
        old.like([
            body.set(f"phi {old.wide} [ {b}, %{tag}.after ], [ {a}, %{tag}.before ]")
            for a, b in zip(old.names, new.names, strict=True)
        ])
        for old, new in zip(plain, chosen, strict=True)
    ]  # fmt: skip


def repeated(
    state: Lanes, goes_on: Callable[..., Vector], step: Callable[..., Lanes]
) -> list[Vector]:
    """`step` from state to state as long as some lane goes on; the others keep theirs."""
    body = state[0].body
    tag = _tag(body, "loop")
    here = [v.like([body.fresh() for _ in v.names]) for v in state]
    body.line(f"  br label %{tag}.before")
    body.label(f"{tag}.before")
    body.line(f"  br label %{tag}.head")
    body.label(f"{tag}.head")
    start = len(body.lines)
    going = goes_on(*here)
    body.line(f"  br i1 {_any(going)}, label %{tag}.body, label %{tag}.done")
    body.label(f"{tag}.body")
    there = [select(going, new, old) for new, old in zip(step(*here), here, strict=True)]
    body.line(f"  br label %{tag}.end")
    body.label(f"{tag}.end")
    body.line(f"  br label %{tag}.head")
    body.label(f"{tag}.done")
    body.lines[start:start] = [
        f"  {name} = phi {h.wide} [ {a}, %{tag}.before ], [ {b}, %{tag}.end ]"
        for s, h, t in zip(state, here, there, strict=True)
        for a, name, b in zip(s.names, h.names, t.names, strict=True)
    ]
    return here


def outlined(name: str, function: Callable[..., Lanes], *operands: Vector) -> list[Vector]:
    """`function` as a function of its own, called for one register after another."""
    body = operands[0].body
    name = "_".join([name, *[v.type for v in operands]])
    inner = Body(body.lanes, body.scales)
    inner.declared, inner.helpers = body.declared, body.helpers
    given = [Vector(inner, v.type, [f"%x{i}"], v.signed) for i, v in enumerate(operands)]
    found = function(*given)
    wides = [v.wide for v in found]
    result = wides[0] if len(found) == 1 else "{ " + ", ".join(wides) + " }"
    whole = found[0].names[0]
    if len(found) > 1:
        whole = "poison"
        for i, v in enumerate(found):
            whole = inner.set(f"insertvalue {result} {whole}, {v.wide} {v.names[0]}, {i}")
    parameters = ", ".join(f"{v.wide} {v.names[0]}" for v in given)
    body.helpers[name] = [
        f"define internal {result} @{name}({parameters}) noinline nounwind {{",
        *inner.lines, f"  ret {result} {whole}", "}",
    ]  # fmt: skip
    count = max(len(v.names) for v in operands)
    lists = [v.names * (count if len(v.names) == 1 else 1) for v in operands]
    made: list[list[str]] = [[] for _ in found]
    for row in zip(*lists, strict=True):
        arguments = ", ".join(f"{v.wide} {n}" for v, n in zip(operands, row, strict=True))
        one = body.set(f"call {result} @{name}({arguments})")
        for i, results in enumerate(made):
            results.append(
                one if len(found) == 1 else body.set(f"extractvalue {result} {one}, {i}")
            )
    return [Vector(body, v.type, names, v.signed) for v, names in zip(found, made, strict=True)]
