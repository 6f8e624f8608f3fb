"""`jit`: a signature is recorded twice, compared, and then replayed without its Python.

The first call runs dynamic, so that what is made lazily exists; the second and third are recorded
and run; from the fourth on the recorded program is given its inputs and nothing else happens.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import update_wrapper
from threading import RLock
from typing import Any, Final, final
from weakref import WeakSet, ref

from proa import dtypes, tree
from proa.capture.arguments import Arguments, has_state
from proa.capture.convert import converted, of
from proa.capture.paths import Case, Changed, Fork, Path, Splits, TooMany
from proa.capture.plan import Plan
from proa.capture.seen import Programs, graph_of, rows_of
from proa.capture.sizes import Group, Groups, recorded_once
from proa.capture.skeleton import Skeleton, roots
from proa.capture.told import told, why_text
from proa.capture.trace import (
    PendingOutside,
    Recording,
    StaticNumber,
    record,
    refuse_kept_arguments,
)
from proa.compile.find import default_device
from proa.config import config
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.graph import Graph
from proa.graph.node import line_of
from proa.record.boundary import compute
from proa.record.live import CAPTURE, CONVERT, DEBUG, caller, thread
from proa.tensor import Tensor

SIGNATURE_WARNING = 8
MOST_SIGNATURES = 256


NUMERICS: Final = ("strict", "fast")


def jit(
    function: Callable[..., Any] | None = None, *, check: bool = False, numerics: str = "strict",
    convert: bool = False,
) -> Any:  # fmt: skip
    """A function whose Python runs three times and is replayed from then on, with equal bits.

    State is found by itself: a tensor that existed before the call and is assigned during it
    (parameters, slots of optimisers, running statistics, generators). Numbers given as arguments
    are inputs; `bool`, `None`, strings and enums, and numbers that reach a shape or a Python
    `if`, are static: another value is another signature. What a replay could not repeat raises.

    Effects on plain Python objects (a counter, a list, `print`) happen while the body runs, that
    is in the first three calls: a Python count that decides something later (`if n % 4 == 0:
    opt.step()`) stands still in a replay. Keep it in a tensor or an argument, or leave that
    decision outside; `check=True` finds it.

    `check=True` records every call anew and compares it with the first recording.

    `numerics="fast"` gives up equal bits for speed, in replays of this function (not where another
    recording takes it in): identities of real numbers are used, chains of narrow floats are
    rounded once, and on `cpu` a product and a sum that follows round together. What it brings
    stands in `docs/numerics.md`: little.

    `convert=True` reads the source of the function and of the user's functions that it calls:
    `if`, `while` and `for` that depend on a tensor become operations of the program
    (docs/tour/11-conversion.md has the subset).

    Errors:
        DtypeError: `function` cannot be called.
        ArgumentError: `numerics` is another word.
        JitError: with `convert`, the source cannot be read.

    >>> import proa as pa
    >>> f = pa.jit(lambda x, s: x * s)
    >>> [f(pa.asarray([1.0, 2.0]), 0.5 * i).tolist() for i in range(5)][4]
    [2.0, 4.0]
    """
    if numerics not in NUMERICS:
        expected = " or ".join(map(repr, NUMERICS))
        raise ArgumentError(message("jit", f"numerics={numerics!r:.60}", expected))
    if function is None:
        return lambda f: jit(f, check=check, numerics=numerics, convert=convert)
    if not callable(function):
        raise DtypeError(message("jit", f"{function!r:.60}", "a function, method or module"))
    return Jitted(function, check, numerics, convert)


made: Final[WeakSet[Jitted]] = WeakSet()  # every jitted function that is alive


@final
class Jitted:
    """A function with its recordings. `calls` and `python_calls` count."""

    def __init__(
        self, function: Callable[..., Any], check: bool, numerics: str = "strict",
        convert: bool = False,
    ) -> None:  # fmt: skip
        self.function = function
        self.convert = convert
        self.body = converted(function) if convert else function  # what is recorded
        self.check = check or config.jit_check
        self.numerics = numerics
        self.name = f"jit {getattr(function, '__name__', type(function).__name__)}"
        self.cases: dict[Any, Case] = {}
        self.static: set[int] = set()
        self.groups = Groups()
        self.skeleton = Skeleton(self._reached)
        self.others: list[Any] = []
        self.lock = RLock()
        self.calls = 0
        self.python_calls = 0
        self.attribute = self.name
        self.signatures = 0
        self.news = ""
        self.latest: Case | None = None
        self.last: Path | None = None
        made.add(self)
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = Arguments(args, kwargs, self.static)
        if (mode := thread.state.mode) & (CAPTURE | DEBUG):
            body = of(self.body) if mode & CONVERT else self.body
            return body(*given.args, **given.kwargs)
        self.calls += 1
        key = self._key(given)
        case = self.cases.get(key)
        if case is None:
            case = self.cases[key] = Case(self.groups.of(key, MOST_SIGNATURES))
            case.calls = 1
            self._tell(case, given, key[2])
            if len(self.cases) > MOST_SIGNATURES:
                del self.cases[next(iter(self.cases))]
            self._warn_if_many(case)
            path = recorded_once(self, case, given)
            if path is not None:
                case.steps.append(path.plan)
                self.last = path
                return path.plan.replay(given)
            self.python_calls += 1
            try:
                return self.body(*given.args, **given.kwargs)
            finally:
                self._follow(key, given, case)
        return self._run(case, given)

    def show(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Prints what a pass of the compiler makes of this function.

        With arguments the function is recorded for them, and nothing is computed; without, its
        last recording is shown.

        Arguments:
            name: `expand` or `simplify`; on the device `cpu` also `fuse`, `nest`, `ir` (the text
                of each kernel), `object` (its assembly) and others; on `xla` `stablehlo` (what it
                is given) and `hlo` (what it made of it).
            args, kwargs: those of a call.

        Errors:
            ArgumentError: no pass has this name (the message lists them), or nothing is recorded.

        >>> import proa as pa
        >>> pa.jit(lambda x: x + x).show("simplify", pa.ones((2,)))
        def graph(x0: 'float32[2]' = 'data'):
            x1 = add(x0, x0)  # ...
            return (x1, )
        """
        path = self._recorded(args, kwargs) if args or kwargs else self.last
        if path is None:
            hint = f'f.show("{name:.20}", *arguments)'
            raise ArgumentError(message(self.name, "no call recorded yet", "two calls", hint))
        for part in path.parts:
            print("nothing is computed" if part.bound.plan is None else part.bound.plan.shown(name))
            print(f"# {line_of(part.where)} is {part.outcome}")
        plan = path.plan.plan
        print("nothing is computed" if plan is None else plan.shown(name))

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """What was recorded, as a graph: for these arguments, or of the last recording.

        Its inputs are those of the program: arguments, state and numbers in the order of their
        first use. With tests of tensors it is that of the path that these arguments take, and what
        is tested stands among the results, behind those of the function. `str` of it is Python
        that can be read.

        Errors:
            ArgumentError: no arguments are given, and nothing is recorded.

        >>> import proa as pa
        >>> len(pa.jit(lambda x: x * 2 + 1).graph(pa.ones((2,))).steps)
        2
        """
        path = self._recorded(args, kwargs) if args or kwargs else self.last
        if path is None:
            hint = "f.graph(*arguments)"
            raise ArgumentError(message(self.name, "no call recorded yet", "two calls", hint))
        return graph_of(path)

    def programs(self) -> Programs:
        """One row for each path of each signature: tests, calls, operations, kernels, peak bytes,
        donated state. It prints as a table.

        >>> import proa as pa
        >>> f = pa.jit(lambda x: x * 2)
        >>> for _ in range(5):
        ...     y = f(pa.ones((2,)))
        >>> [(row.signature, row.state, row.calls) for row in f.programs()]
        [('x: float32[2]', 'replayed', 4)]
        """
        with self.lock:
            cases = {id(case): case for case in self.cases.values()}.values()
            rows = [row for i, case in enumerate(cases, 1) for row in rows_of(i, case)]
        return Programs(self.name, rows)

    def why(self) -> str:
        """Why the newest signature or recording was made: what differed from the call before.

        >>> import proa as pa
        >>> f = pa.jit(lambda x, s: x * s)
        >>> y, z = f(pa.ones((2,)), 1.0), f(pa.ones((3,)), 2.0)
        >>> print(f.why().splitlines()[1].strip())
        argument `x` changed from float32[2] to float32[3]
        """
        return self.news or f"[{self.name}] was not called yet"

    def _tell(self, case: Case, given: Arguments, modes: tuple[Any, ...]) -> None:
        """Notes what brought a new signature."""
        before = self.latest.told if self.latest is not None else None
        case.told = told(self.function, given, modes, before)
        self.latest = case
        self.signatures += 1
        self.news = why_text(self.name, self.signatures, case.told)

    def _tell_recording(self, path: Path, lapsed: str) -> None:
        """Notes what brought another recording of a signature."""
        if path.parts and not lapsed:
            test = path.parts[-1]
            lapsed = f"a path of its own: the test at {line_of(test.where)} is {test.outcome}"
        if lapsed:
            self.news = f"[{self.name}] a recording more, at {line_of(caller())}\n  {lapsed}"

    def _recorded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Path:
        """A recording for these arguments that no call will use."""
        path: Path | None = None
        while path is None:  # None: an argument turned out to be static
            path = self._record(Case(Group()), Arguments(args, kwargs, self.static))
        path.done = []
        return path

    def _follow(self, key: Any, given: Arguments, case: Case) -> None:
        """What the body itself changes (a counter, a list that it appends to) leads the case on to
        the signature that it left; the one before is no longer it."""
        after = self._key(given)
        if after != key:
            self.cases.pop(key, None)
            self.cases.setdefault(after, case)

    def _key(self, given: Arguments) -> tuple[Any, ...]:
        """The signature: arguments, static skeleton, ambient modes."""
        modes = (thread.state.mode, dtypes.default_float(), default_device())
        with self.lock:  # the skeleton is one for all threads
            self.others = given.others
            return given.key, self.skeleton.token(), modes

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        """As a method: one jitted function for each object."""
        if owner is None:
            return self
        space = getattr(owner, "__dict__", {})
        found = space.get(self.attribute)
        if found is None or found.function.__self__ is not owner:  # a copy brings its model's
            bound = self.function.__get__(owner, kind)
            found = space[self.attribute] = Jitted(bound, self.check, self.numerics, self.convert)
        return found

    def __deepcopy__(self, memo: Any) -> Jitted:
        """The copied function, with no recordings yet."""
        return Jitted(deepcopy(self.function, memo), self.check, self.numerics, self.convert)

    def __set_name__(self, owner: Any, name: str) -> None:
        self.attribute = f"_jitted_{name}"

    def _reached(self) -> list[Any]:
        return [*roots(self.function), *self.others]

    def _run(self, case: Case, given: Arguments) -> Any:
        case.calls += 1
        self.latest = case
        if case.dynamic:
            return self._dynamic(given)
        for step in case.steps:
            if step.holds() and step.confirmed and not self.check:
                if type(step) is Plan:
                    return step.replay(given) if step.fits(given) else self._dynamic(given)
                assert type(step) is Fork
                plan, done = step.follow(given)
                if plan is not None:
                    return plan.replay(given, done) if plan.fits(given) else self._dynamic(given)
        try:
            path = self._record(case, given)
            if path is None:  # an argument turned out to be static
                return self(*given.args, **given.kwargs)
            with self.lock:
                lapsed = case.lapsed()
                if case.add(path):
                    self._tell_recording(path, lapsed)
                    if not path.parts:
                        case.group.add(path.plan)
        except TooMany as signal:
            return self._without_paths(case, given, signal)
        except Changed:  # perhaps garbage was alive: it is collected from now on
            case.is_careful, case.steps = True, []
            return self._run(case, given)
        done, path.done = path.done, []
        self.last = path
        if path.fits(given):
            return path.plan.replay(given, done)
        if path.parts and path.plan.wants_grad:
            where = line_of(path.parts[-1].where)
            case.give_up(f"a result may be differentiated through the test at {where}")
        return self._dynamic(given)

    def _without_paths(self, case: Case, given: Arguments, signal: TooMany) -> Any:
        """From now on the body runs at every call of this signature."""
        what = f"{signal.what}, the last at {line_of(signal.where)}"
        case.give_up(what)
        text = message(self.name, what, "a few", "pa.while_loop, pa.cond, or jit(convert=True)")
        text += "; these arguments run without jit from now on"
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        return self._dynamic(given)

    def _dynamic(self, given: Arguments) -> Any:
        """A call that no replay can stand for: an argument is also written state, an int is
        outside what was recorded (the body then raises what it raises without `jit`), or its
        result may be differentiated and a part of it is off the tape."""
        self.python_calls += 1
        return self.body(*given.args, **given.kwargs)

    def _record(self, case: Case, given: Arguments) -> Path | None:
        compute([t.value for t in given.leaves if type(t) is Tensor])
        self.python_calls += 1
        key = self._key(given)
        args, kwargs, sources, numbers = given.copies()
        own = [t for t in tree.flatten((args, kwargs))[0] if type(t) is Tensor]
        lent = [ref(t) for t in own if t.value in sources and not has_state(t)]
        del own
        splits = Splits(sources, self.numerics, case.is_careful)
        try:
            recording = record(
                self.name, lambda: self.body(*args, **kwargs), list(numbers), True, splits
            )
        except StaticNumber as signal:
            self.static.add(numbers[signal.value])
            return None
        except PendingOutside as signal:
            outside = signal.value
        else:
            del args, kwargs
            self._refuse_kept(recording, lent)
            self._follow(key, given, case)
            plan = Plan(self.name, recording, sources, self.numerics)
            return Path(splits.parts, plan, splits.done)
        compute([outside])
        return self._record(case, given)

    def _refuse_kept(self, recording: Recording, lent: list[Any]) -> None:
        known = {id(t) for t in recording.result} | {id(t) for t, _ in recording.writes}
        if [t for r in lent if (t := r()) is not None and id(t) not in known]:
            gc.collect()
            kept = [t for r in lent if (t := r()) is not None and id(t) not in known]
            refuse_kept_arguments(self.name, kept)

    def _warn_if_many(self, case: Case) -> None:
        each = [c.group if c.group.is_one else c for c in self.cases.values()]
        many = len(set(map(id, each)))
        if many == SIGNATURE_WARNING + 1:
            changes = "; ".join(case.told.changes) if case.told is not None else ""
            warnings.warn(
                f"[{self.name}] given {many} signatures, the last because {changes}, "
                "expected a few, try passing tensors, or numbers that reach no shape",
                RuntimeWarning,
                stacklevel=3,
            )
