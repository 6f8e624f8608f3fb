"""Signatures of `jit` that differ in sizes alone: each new size is recorded once.

The first size is called and recorded as every signature is. Then the function is known, and a new
size runs no dynamic call first: its body is recorded and the recording is run. It is replayed from
then on if it is what the template of the others gives at its sizes (`record/family.py` compares),
reads and writes the same tensors, and has no number or array that nothing explains. Otherwise its
next call records it again and compares, as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np

from proa.capture.arguments import Arguments
from proa.capture.paths import Case, Path, TooMany
from proa.capture.plan import Plan
from proa.errors import JitError
from proa.graph.spec import Spec
from proa.graph.template import polynomials
from proa.record.sized import Sized
from proa.tensor import Tensor

KEPT: Final = 5  # recordings of other sizes that a new one is compared with
EXPECTED: Final = 3  # sizes that were met; what is recorded from then on is compiled at once
ENOUGH: Final = 4  # recordings after which there is a template, or will be none


@final
class Group:
    """Signatures of one function that differ in sizes alone, and the recordings of some."""

    __slots__ = ("plans", "met", "recorded")

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.met = 0
        self.recorded = 0

    @property
    def is_one(self) -> bool:
        """Whether its sizes count as one signature: no more programs come."""
        return self.recorded < ENOUGH or any(_sized(p) is not None for p in self.plans)

    def add(self, plan: Plan) -> None:
        """One more recording; it and those before are confirmed if they are one template's."""
        if plan.plan is None:
            return
        self.recorded += 1
        if self.met >= EXPECTED:
            plan.plan.sights = max(plan.plan.sights, 1)
        others = [p for p in self.plans if p.plan is not plan.plan]
        self.plans = [*others[-KEPT + 1 :], plan]
        for p in self.plans:
            if not p.confirmed:
                p.confirmed = _is_explained(p, self.plans)


@final
class Groups:
    """The groups of a jitted function, by signatures without sizes."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: dict[Any, Group] = {}

    def of(self, key: tuple[Any, ...], most: int) -> Group:
        arguments, *rest = key
        form = (tuple([_without_sizes(x) for x in arguments]), *rest)
        group = self.found.get(form)
        if group is None:
            group = self.found[form] = Group()
            if len(self.found) > most:
                del self.found[next(iter(self.found))]
        group.met += 1
        return group


def _without_sizes(part: Any) -> Any:
    if type(part) is Spec:
        return part.dtype, part.ndim, part.weak, part.grad, part.placement
    if type(part) is tuple and part[0] is int:  # an int that reaches a shape
        return int
    return part


def recorded_once(jitted: Any, case: Case, given: Arguments) -> Path | None:
    """The recording of a signature that is new in its sizes alone, if its call can be that."""
    if not case.group.plans:
        return None
    try:
        path: Path | None = jitted._record(case, given)
    except (JitError, TooMany):  # something is made for each size, perhaps: a dynamic call makes it
        return None
    if path is None or path.parts or not path.fits(given):
        return None
    case.group.add(path.plan)
    return path


def _sized(plan: Plan) -> Sized | None:
    return plan.plan.sized if plan.plan is not None else None


def _is_explained(plan: Plan, others: Sequence[Plan]) -> bool:
    """Whether a recording is what those of other sizes let expect, in all that it holds."""
    sized = _sized(plan)
    same = [p for p in others if p is not plan and _sized(p) is sized]
    if sized is None or len(same) < 2:
        return False
    return all(_alike(p, plan) for p in same) and _numbers_explained([*same, plan])


def _alike(a: Plan, b: Plan) -> bool:
    """Whether two recordings take and give the same, at whatever sizes."""
    return (
        a.structure == b.structure
        and a.from_args == b.from_args
        and a.bounds == b.bounds
        and [(i, id(h)) for i, h, _ in a.from_handles] == [(i, id(h)) for i, h, _ in b.from_handles]
        and a.fills == b.fills
        and (a.wants_grad, a.is_partial) == (b.wants_grad, b.is_partial)
        and len(a.constants) == len(b.constants)
        and all(_same_array(x, y) for x, y in zip(a.constants, b.constants, strict=True))
        and len(a.results) == len(b.results)
        and all(_same_result(x, y) for x, y in zip(a.results, b.results, strict=True))
        and [_target(w) for w in a.writes] == [_target(w) for w in b.writes]
    )


def _same_array(a: tuple[int, Any], b: tuple[int, Any]) -> bool:
    (i, x), (j, y) = a, b
    return i == j and (x is y or np.array_equal(x.host(), y.host()))


def _same_result(a: tuple[str, Any, Any], b: tuple[str, Any, Any]) -> bool:
    (kind, at, _), (other, there, _) = a, b
    if kind != other or type(at) is not type(there):
        return False
    if kind == "handle":
        return at is there
    if kind == "value":
        return repr(at.buffer) == repr(there.buffer)
    if kind == "again":
        return at[0] == there[0] and _is_same(at[1], there[1]) and at[2] is there[2]
    return bool(at == there) if kind in ("slot", "arg") else repr(at) == repr(there)


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is int and a == b)


def _target(write: tuple[Any, str, Any, Any]) -> tuple[Any, ...]:
    target, kind, at, _ = write
    return (
        target if type(target) is int else id(target),
        kind, id(at) if isinstance(at, Tensor) else at,
    )  # fmt: skip


def _numbers_explained(plans: Sequence[Plan]) -> bool:
    """Whether Python numbers are the same at all sizes, or counts that follow from the sizes."""
    places = [[(i, type(n)) for i, n, _ in p.from_numbers] for p in plans]
    if any(p != places[0] for p in places):
        return False
    points = [p.plan.sizes for p in plans if p.plan is not None]
    known = polynomials([str(i) for i in range(len(points[0]))], points)
    for every in zip(*[[n for _, n, _ in p.from_numbers] for p in plans], strict=True):
        if any(repr(n) != repr(every[0]) for n in every):
            counted = _counts(every) or _counts([1 / n if n else 0.5 for n in every])
            if counted is None or known(counted) is None:
                return False
    return True


def _counts(numbers: Sequence[Any]) -> tuple[int, ...] | None:
    """The numbers as ints, if they are; a reciprocal may be off by its rounding."""
    found = [round(n) for n in numbers if type(n) is not complex and abs(n) < 2**53]
    near = [abs(n - k) <= abs(n) * 2**-52 for n, k in zip(numbers, found, strict=False)]
    return tuple(found) if len(found) == len(numbers) and all(near) else None
