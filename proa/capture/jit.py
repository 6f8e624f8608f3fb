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
from weakref import ref

from proa import dtypes, tree
from proa.capture.arguments import Arguments, has_state
from proa.capture.convert import converted, of
from proa.capture.plan import Plan
from proa.capture.skeleton import Skeleton, roots
from proa.capture.trace import (
    PendingOutside,
    Recording,
    StaticNumber,
    record,
    refuse_kept_arguments,
)
from proa.compile.find import default_device
from proa.errors import ArgumentError, DtypeError, message
from proa.record.boundary import compute
from proa.record.live import CAPTURE, CONVERT, DEBUG, thread
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
        self.check = check
        self.numerics = numerics
        self.name = f"jit {getattr(function, '__name__', type(function).__name__)}"
        self.cases: dict[Any, _Case] = {}
        self.static: set[int] = set()
        self.skeleton = Skeleton(self._reached)
        self.others: list[Any] = []
        self.lock = RLock()
        self.calls = 0
        self.python_calls = 0
        self.attribute = self.name
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
            case = self.cases[key] = _Case()
            if len(self.cases) > MOST_SIGNATURES:
                del self.cases[next(iter(self.cases))]
            self._warn_if_many(key)
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
                of each kernel), `object` (its assembly) and others.
            args, kwargs: those of a call.

        Errors:
            ArgumentError: no pass has this name (the message lists them), or nothing is recorded.

        >>> import proa as pa
        >>> pa.jit(lambda x: x + x).show("simplify", pa.ones((2,)))
        def graph(x0: 'float32[2]' = 'data'):
            x1 = add(x0, x0)  # ...
            return (x1, )
        """
        plan: Any = None
        if args or kwargs:
            plan = self._recorded(args, kwargs)
        else:
            plan = next((p for c in reversed(self.cases.values()) for p in c.plans[-1:]), None)
        if plan is None:
            hint = f'f.show("{name:.20}", *arguments)'
            raise ArgumentError(message(self.name, "no call recorded yet", "two calls", hint))
        print("nothing is computed" if plan.plan is None else plan.plan.shown(name))

    def _recorded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        """A recording for these arguments that no call will use."""
        plan: Plan | None = None
        while plan is None:  # None: an argument turned out to be static
            plan = self._record(_Case(), Arguments(args, kwargs, self.static))
        return plan

    def _follow(self, key: Any, given: Arguments, case: _Case) -> None:
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

    def _run(self, case: _Case, given: Arguments) -> Any:
        for plan in case.plans:
            if plan.holds() and plan.confirmed and not self.check:
                return plan.replay(given) if plan.fits(given) else self._dynamic(given)
        recorded = self._record(case, given)
        if recorded is None:  # an argument turned out to be static
            return self(*given.args, **given.kwargs)
        if not recorded.fits(given):
            return self._dynamic(given)
        for number, plan in enumerate(case.plans):
            if plan.same_case(recorded):
                plan.compare(recorded)
                recorded.confirmed = True
                case.plans[number] = recorded
                return recorded.replay(given)
        case.plans.append(recorded)
        return recorded.replay(given)

    def _dynamic(self, given: Arguments) -> Any:
        """A call that no replay can stand for: an argument is also written state, an int is
        outside what was recorded (the body then raises what it raises without `jit`), or its
        result may be differentiated and a part of it is off the tape."""
        self.python_calls += 1
        return self.body(*given.args, **given.kwargs)

    def _record(self, case: _Case, given: Arguments) -> Plan | None:
        compute([t.value for t in given.leaves if type(t) is Tensor])
        self.python_calls += 1
        key = self._key(given)
        args, kwargs, sources, numbers = given.copies()
        own = [t for t in tree.flatten((args, kwargs))[0] if type(t) is Tensor]
        lent = [ref(t) for t in own if t.value in sources and not has_state(t)]
        del own
        try:
            recording = record(
                self.name, lambda: self.body(*args, **kwargs), list(numbers), settled=True
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
            return Plan(self.name, recording, sources, self.numerics)
        compute([outside])
        return self._record(case, given)

    def _refuse_kept(self, recording: Recording, lent: list[Any]) -> None:
        known = {id(t) for t in recording.result} | {id(t) for t, _ in recording.writes}
        if [t for r in lent if (t := r()) is not None and id(t) not in known]:
            gc.collect()
            kept = [t for r in lent if (t := r()) is not None and id(t) not in known]
            refuse_kept_arguments(self.name, kept)

    def _warn_if_many(self, key: Any) -> None:
        many = len(set(map(id, self.cases.values())))
        if many == SIGNATURE_WARNING + 1:
            warnings.warn(
                f"[{self.name}] given {many} signatures, the last with {key[0]!r:.200}, "
                "expected a few, try passing tensors, or numbers that reach no shape",
                RuntimeWarning,
                stacklevel=3,
            )


@final
class _Case:
    """One signature: its recordings, more than one where gradients are full or empty by turns."""

    __slots__ = ("plans",)

    def __init__(self) -> None:
        self.plans: list[Plan] = []
