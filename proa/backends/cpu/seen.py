"""What a profile shows of the calls of a Program: names, the operations inside, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from proa.backends.cpu.joined import Move
from proa.backends.cpu.kernel import Call
from proa.backends.cpu.loop import Loop
from proa.backends.cpu.nest import Host, Nests
from proa.compile.program import Program
from proa.compile.watch import Part, Work, operations_of, step_work
from proa.graph.graph import Step

PIECES = frozenset({"concatenate", "pad", "scatter", "dynamic_update"})  # written piece by piece


def works(nests: Nests, program: Program) -> list[Work]:
    """What each action does. `program` may be another than the one that was compiled, where both
    are the same operation by itself: then its line and module path count."""
    steps = nests.draft.steps
    if program is not nests.draft.program:
        (only,) = program.graph.steps
        steps = [s._replace(scope=only.scope, where=only.where) for s in steps]
    calls = [a for a in nests.actions if type(a) is Call]
    alike = Counter([(c.step, c.kernel.key) for c in calls])
    return [
        _call(nests, steps, a, alike[a.step, a.kernel.key])
        if type(a) is Call else _other(nests, steps, a)
        for a in nests.actions
    ]  # fmt: skip


def _other(nests: Nests, steps: Sequence[Step], action: Any) -> Work:
    return step_work(steps[action.step], "host call" if type(action) is Host else "control flow")


def _call(nests: Nests, steps: Sequence[Step], call: Call, alike: int) -> Work:
    """`alike` calls of one kernel compute the same step together."""
    kernel = call.kernel
    mine = [steps[s] for s in _steps(nests, call)]
    is_rest = type(kernel) is Move or (type(kernel) is not Loop and " join " in kernel.key)
    costs = [0.0 if is_rest else operations_of(s.entry) / alike for s in mine]
    parts = [
        Part(s.entry.primitive.name, s.scope, s.where, cost)
        for s, cost in zip(mine, costs, strict=True)
    ]
    if not parts:
        parts = [Part("copy", steps[call.step].scope, steps[call.step].where, 1.0)]
    done = Counter(p.operation for p in parts)
    names = ", ".join(f"{n} {k}" if n > 1 else k for k, n in done.items())
    name = f"{kernel.key.split(maxsplit=1)[0]}: {names}"
    return Work("kernel", name, kernel.key, parts, _bytes(nests, call), sum(costs))


def _steps(nests: Nests, call: Call) -> list[int]:
    """The steps that a call computes; none where it only lays something out."""
    kernel: Any = call.kernel
    if type(kernel) is Loop:
        inside = {entry for entry, _ in kernel.nodes}
    elif hasattr(kernel, "entry"):
        inside = {kernel.entry}
    else:
        return [call.step]
    found = [s for s in _unit(nests, call) if nests.draft.entry(s) in inside]
    return found or [call.step] * bool(inside)  # nodes of a planner's own: its step


def _unit(nests: Nests, call: Call) -> Sequence[int]:
    draft = nests.draft
    number = draft.unit_of.get(call.step)
    return [call.step] if number is None else draft.units[number].steps


def _bytes(nests: Nests, call: Call) -> int:
    """Read and written. A view counts as what it shows, at most the memory that it looks at."""
    seen: dict[int, int] = {}
    for step in _unit(nests, call):
        entry = nests.draft.entry(step)
        for slot in nests.draft.steps[step].slots:
            root = nests.layout(slot).root
            size = min(nests.specs[slot].nbytes, nests.specs[root].nbytes)
            if entry.primitive.name in ("gather", "dynamic_slice"):
                size = min(size, entry.outs[0].nbytes)
            seen[root] = max(seen.get(root, 0), size)
    results = {m for m, _ in call.results}
    written = sum(nests.bytes_of(m) for m in results)
    read = 0
    for memory in {m for m, _ in call.operands}:
        whole = nests.bytes_of(memory)
        size = min(whole, seen.get(memory, whole))
        is_moved = type(call.kernel) is Loop and not call.kernel.nodes
        read += min(size, written) if is_moved else size
    if nests.draft.entry(call.step).primitive.name in PIECES and call.operands:
        written = min(written, read)
    return read + written
