"""Tests of tensors inside `jit`: the recording is split, and each outcome has a path of its own.

At a test the work recorded so far is computed, as a read would compute it in dynamic mode, and its
outcome decides how the body goes on. What lies between two tests is a `Part`; a `Fork` is a test
with what follows each outcome. A replay runs parts until it meets a whole recording, which alone
assigns state: so a call that fails on its way has changed nothing.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final, final

from proa.capture.arguments import Arguments
from proa.capture.plan import Plan
from proa.capture.told import Told
from proa.capture.trace import Capture, Cut
from proa.errors import JitError, message
from proa.graph.node import SCALAR_TYPES, Value, Where, line_of
from proa.record.boundary import attach, forget_spent, with_residuals
from proa.record.key import pending
from proa.record.live import caller, pending_values, thread
from proa.tensor import Tensor, host_of

if TYPE_CHECKING:
    from proa.capture.sizes import Group

MOST_PATHS: Final = 16  # of a signature
MOST_TESTS: Final = 64  # of a path


@final
class TooMany(Exception):
    """A signature with more paths, or a path with more tests, than are recorded."""

    def __init__(self, what: str, where: Where) -> None:
        self.what = what
        self.where = where


@final
class Changed(Exception):
    """Work before a test that differs from what was recorded: perhaps garbage was alive."""


@final
class Part:
    """The work between two tests, bound to what it reads; where what is tested lies: a result of a
    part, an argument, a handle; its outcome when it was recorded."""

    __slots__ = ("bound", "kind", "at", "outcome", "where")

    def __init__(self, bound: Plan, kind: str, at: Any, where: Where) -> None:
        self.bound = bound
        self.kind = kind
        self.at = at
        self.outcome = False
        self.where = where

    def read(self, given: Arguments, done: list[list[Any]]) -> bool:
        """The outcome of a call whose parts are done up to here."""
        if self.kind == "part":
            part, slot = self.at
            buffer = done[part][slot]
            return bool(buffer if type(buffer) in SCALAR_TYPES else buffer.host().item())
        handle = given.leaves[self.at] if self.kind == "arg" else self.at
        return bool(host_of(handle).item())

    def compare(self, other: Part) -> None:
        """What is recorded before a test must be the same each time."""
        self.bound.compare(other.bound)
        same = self.at is other.at or (self.kind != "handle" and self.at == other.at)
        if self.kind != other.kind or not same:
            raise _differs(self.bound.name, "a test of one tensor and of another", other.where)


@final
class Splits:
    """The tests of one recording, in order, and the results of the parts before them."""

    __slots__ = ("sources", "numerics", "is_careful", "parts", "done", "known")

    def __init__(self, sources: dict[Value, int], numerics: str, is_careful: bool) -> None:
        self.sources = sources
        self.numerics = numerics
        self.is_careful = is_careful
        self.parts: list[Part] = []
        self.done: list[list[Any]] = []
        self.known: dict[tuple[str, Any], bool] = {}

    def truth(self, capture: Capture, handle: Tensor) -> bool:
        """Whether a tensor of one element is true in the call that is recorded. What no call can
        change, and what was tested before, is no test."""
        capture.saw(handle)
        v = handle.value
        if v.buffer is not None:
            source = capture.source(v)
            if source in capture.inside or type(source.buffer) in SCALAR_TYPES:
                return _is_true(v.buffer)
            place = self._place(capture, source, handle)
            if place in self.known:
                return self.known[place]
        if len(self.parts) == MOST_TESTS:
            raise TooMany(f"more than {MOST_TESTS} tests of tensors in one call", caller(3))
        bound = self._compute(capture, v)
        kind, at = place = self._place(capture, capture.source(v), handle)
        part = Part(bound, kind, handle if kind == "handle" else at, caller(3))
        self.parts.append(part)
        part.outcome = self.known[place] = _is_true(v.buffer)
        return part.outcome

    def _place(self, capture: Capture, source: Value, handle: Tensor) -> tuple[str, Any]:
        if source in capture.computed:
            return "part", capture.computed[source]
        if source in self.sources:
            return "arg", self.sources[source]
        return "handle", id(handle)

    def _compute(self, capture: Capture, tested: Value) -> Plan:
        """Computes what is tested and all that is alive, and notes what the rest may read."""
        if self.is_careful:
            gc.collect()
        state, number = thread.state, len(self.done)
        asked = [tested, *pending_values(state)] if tested.buffer is None else []
        values, extra, _ = with_residuals(asked) if asked else ([], [], False)
        work = pending([*values, *extra], capture.first)
        order = {slot: i for i, slot in enumerate(work.outs)}
        firsts = {slot: v for v, slot in zip([*values, *extra], work.slots, strict=True)}
        cut = Cut(capture, work, [firsts[slot] for slot in work.outs])
        bound = Plan(capture.name, cut, self.sources, self.numerics)
        found = [] if bound.plan is None else bound.plan([leaf.buffer for leaf in work.leaves])
        self.done.append(found)
        if found:
            for v, slot in zip([*values, *extra], work.slots, strict=True):
                capture.computed[v] = number, order[slot]
            capture.kept += state.handles
            attach(values, extra, work, found)
            state.handles = []
            forget_spent(state)
        return bound


def _is_true(buffer: Any) -> bool:
    return bool(buffer if type(buffer) in SCALAR_TYPES else buffer.host().item())


@final
class Fork:
    """A test: the part before it, and what follows each outcome."""

    __slots__ = ("part", "after")

    confirmed = True  # it decides nothing by itself

    def __init__(self, part: Part) -> None:
        self.part = part
        self.after: dict[bool, list[Fork | Plan]] = {}

    def holds(self) -> bool:
        return self.part.bound.holds()

    def lapsed(self) -> str:
        return self.part.bound.lapsed()

    def follow(self, given: Arguments) -> tuple[Plan | None, list[list[Any]]]:
        """Runs parts up to a confirmed recording; None where an outcome has none yet."""
        done: list[list[Any]] = []
        step: Fork | Plan | None = self
        while type(step) is Fork:
            part = step.part
            if not part.bound.fits(given):
                return None, done
            done.append(part.bound.results_of(given, done))
            outcome = part.read(given, done)
            step = next((s for s in step.after.get(outcome, ()) if s.holds()), None)
        found = step if type(step) is Plan and step.confirmed else None
        return found, done


@final
class Path:
    """A recording from the first to the last operation of a call."""

    __slots__ = ("parts", "plan", "done")

    def __init__(self, parts: list[Part], plan: Plan, done: list[list[Any]]) -> None:
        self.parts = parts
        self.plan = plan
        self.done = done
        for part in parts:
            plan.handles |= part.bound.handles

    def fits(self, given: Arguments) -> bool:
        """Whether it may stand for this call; a derivative of its result it has not."""
        if self.parts and self.plan.wants_grad:
            return False
        return self.plan.fits(given) and all(p.bound.fits(given) for p in self.parts)


@final
class Case:
    """One signature: its recordings. Several begin it where gradients are full or empty by turns;
    those with tests form a tree."""

    __slots__ = ("steps", "dynamic", "is_careful", "calls", "told", "group")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.steps: list[Fork | Plan] = []
        self.dynamic = ""  # why the body runs at every call, if it does
        self.told: Told | None = None
        self.is_careful = False  # garbage is collected before each part is computed
        self.calls = 0

    @property
    def plans(self) -> list[Plan]:
        """Every recording, in the order of the tree."""
        return [plan for _, plan in self.paths()]

    def paths(self) -> list[tuple[list[tuple[Part, bool]], Plan]]:
        """Every recording with the tests and outcomes that lead to it."""
        found: list[tuple[list[tuple[Part, bool]], Plan]] = []
        stack: list[tuple[list[tuple[Part, bool]], Fork | Plan]] = [
            ([], s) for s in reversed(self.steps)
        ]
        while stack:
            tests, step = stack.pop()
            if type(step) is Plan:
                found.append((tests, step))
                continue
            assert type(step) is Fork
            for outcome, after in reversed(step.after.items()):
                stack += [([*tests, (step.part, outcome)], s) for s in reversed(after)]
        return found

    def give_up(self, why: str) -> None:
        """The body runs at every call from now on."""
        self.dynamic, self.steps = why, []

    def lapsed(self) -> str:
        """Why none of several recordings fits the state as it is; empty if one does."""
        found = [step.lapsed() for step in self.steps]
        return found[-1] if found and all(found) else ""

    def add(self, path: Path) -> bool:
        """Compares a recording with what is there of its path, and adds the rest; whether there
        was a rest."""
        options = self.steps
        for part in path.parts:
            step = next((s for s in options if s.holds()), None)
            if type(step) is Plan:
                raise _differs(step.name, "a test in one call that another has not", part.where)
            if step is None:
                step = Fork(part)
                options.append(step)
            else:
                assert type(step) is Fork
                if step.part.bound.key != part.bound.key and not self.is_careful:
                    raise Changed
                step.part.compare(part)
            options = step.after.setdefault(part.outcome, [])
        found = next((s for s in options if s.holds()), None)
        if type(found) is Fork:
            given = "a test in one call that another has not"
            raise _differs(path.plan.name, given, found.part.where)
        if found is None:
            if len(self.paths()) == MOST_PATHS and path.parts:
                where = path.parts[-1].where
                raise TooMany(f"more than {MOST_PATHS} paths through its tests of tensors", where)
            options.append(path.plan)
            return True
        assert type(found) is Plan
        if path.parts and found.key != path.plan.key and not self.is_careful:
            raise Changed
        found.compare(path.plan)
        path.plan.confirmed = True
        path.plan.calls = found.calls
        options[options.index(found)] = path.plan
        return False


def _differs(name: str, given: str, where: Where) -> JitError:
    return JitError(message(name, f"{given}, at {line_of(where)}", "the same tests in each call"))
