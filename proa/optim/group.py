"""Parameter groups, and the handles in which their numbers live."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final, NamedTuple, final

from proa.dtypes import float64, int64
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.node import Value
from proa.graph.spec import Spec, spec
from proa.ops import operators as op
from proa.ops.composite.common import real
from proa.ops.movement import reshape
from proa.ops.primitive import apply, number_of
from proa.record.live import CAPTURE, NO_GRAD, epoch, thread, use_mode
from proa.tensor import Tensor, derived, rebind

NUMBER: Final = spec((), float64)
COUNT: Final = spec((), int64)
_PLAIN: Final = (bool, int, float, str, type(None))


class Limits(NamedTuple):
    """What a number may be: low <= number < high (<= if `closed`)."""

    low: float = 0.0
    high: float = float("inf")
    closed: bool = False

    def allows(self, number: float) -> bool:
        below = number <= self.high if self.closed else number < self.high
        return self.low <= number and below

    def __str__(self) -> str:
        return f"{self.low:g} <= number {'<=' if self.closed else '<'} {self.high:g}"


# Numbers in handles.


def number_handle(number: float | int, of: Spec) -> Tensor:
    """A handle whose buffer is the Python number itself: at home on every device."""
    return Tensor(Value(None, 0, of, number))


def read_number(held: Tensor) -> Any:
    """Outside a recording the Python number, inside it the handle."""
    if thread.state.mode & CAPTURE:
        return held
    buffer = held.value.buffer
    return buffer if type(buffer) in (float, int) else held.item()


def _write(op_name: str, name: str, held: Tensor, new: Any, limits: Limits) -> None:
    number = number_of(new)
    if number is not None:
        value = Value(None, 0, NUMBER, _checked(op_name, name, number, limits))
        if thread.state.mode & CAPTURE:
            value = apply(reshape, (value,), shape=()).value
    elif type(new) is Tensor and new.shape == () and new.dtype.kind in ("int", "float"):
        with use_mode(NO_GRAD, True):
            fresh = op.astype(new, float64)
        value = derived(fresh, NUMBER)
    else:
        given = f"`{name}` {new!r:.60}"
        raise DtypeError(message(op_name, given, "a real number or a tensor of 0 axes"))
    rebind(held, value)


def _checked(op_name: str, name: str, number: Any, limits: Limits) -> float:
    found = real(op_name, name, number)
    if not limits.allows(found):
        raise ArgumentError(message(op_name, f"`{name}` {number!r}", str(limits)))
    return found


# Groups.


@final
class Group(MutableMapping[str, Any]):
    """Parameters with their own numbers and flags; reads and writes like PyTorch's dict.

    `group["lr"]` is a Python float outside `jit` and a 0-d tensor inside; writing assigns into
    the handle. `active` says which numbers take part: those that were ever not 0. `version`
    counts changes of what is static.
    """

    __slots__ = ("op", "params", "numbers", "limits", "flags", "others", "active", "version")

    def __init__(self, op_name: str, params: list[Tensor], options: dict[str, Any],
                 limits: dict[str, Limits], always: frozenset[str]) -> None:  # fmt: skip
        self.op = op_name
        self.params = params
        self.limits = limits
        self.numbers: dict[str, tuple[Tensor, ...]] = {}
        self.flags: dict[str, bool] = {}
        self.others: dict[str, Any] = {}
        self.active = dict.fromkeys(limits, False) | dict.fromkeys(always, True)
        self.version = 0
        for name, given in options.items():
            if name in limits:
                count = len(given) if isinstance(given, (tuple, list)) else 1
                self.numbers[name] = tuple([number_handle(0.0, NUMBER) for _ in range(count)])
            elif name != "initial_lr":
                self.flags[name] = _flag(op_name, name, given)
            self[name] = given

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return list(self.params)
        held = self.numbers.get(name)
        if held is None:
            return self.flags[name] if name in self.flags else self.others[name]
        return read_number(held[0]) if name != "betas" else tuple([read_number(h) for h in held])

    def __setitem__(self, name: str, new: Any) -> None:
        if name in self.numbers:
            self._set_numbers(name, new)
        elif name in self.flags:
            self._set_static(self.flags, name, _flag(self.op, name, new))
        elif name == "params":
            raise ArgumentError(
                message(self.op, "new `params`", "another option", "opt.add_param_group")
            )
        elif isinstance(name, str) and isinstance(new, _PLAIN):
            self._set_static(self.others, name, new)
        else:
            given = f"option {name!r:.40} of type {type(new).__name__}"
            known = ", ".join([*self.numbers, *self.flags])
            raise ArgumentError(message(self.op, given, f"one of {known}, or a plain value"))

    def _set_numbers(self, name: str, new: Any) -> None:
        held = self.numbers[name]
        news = new if name == "betas" else (new,)
        if not isinstance(news, (tuple, list)) or len(news) != len(held):
            raise ArgumentError(message(self.op, f"`{name}` {new!r:.60}", f"{len(held)} numbers"))
        for n in news:
            if number_of(n) is not None:
                _checked(self.op, name, number_of(n), self.limits[name])
        for h, n in zip(held, news, strict=True):
            _write(self.op, name, h, n, self.limits[name])
        if not self.active[name] and any(number_of(n) != 0 for n in news):
            self._set_static(self.active, name, True)

    def _set_static(self, table: dict[str, Any], name: str, new: Any) -> None:
        if name in table and table[name] == new and type(table[name]) is type(new):
            return
        table[name] = new
        self.version += 1
        epoch.advance()

    def __delitem__(self, name: str) -> None:
        if name not in self.others:
            raise ArgumentError(message(self.op, f"deleting {name!r:.40}", "an option of your own"))
        del self.others[name]
        self.version += 1
        epoch.advance()

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self.numbers, *self.flags, *self.others])

    def __len__(self) -> int:
        return 1 + len(self.numbers) + len(self.flags) + len(self.others)

    def __repr__(self) -> str:
        return repr({k: v for k, v in self.items() if k != "params"} | {"params": len(self.params)})

    def handles(self) -> dict[str, Tensor]:
        """The handles of the numbers that take part; those of a pair are called beta1, beta2."""
        rows: dict[str, Tensor] = {}
        for name, held in self.numbers.items():
            if not self.active[name]:
                continue
            if len(held) == 1:
                rows[name] = held[0]
            else:
                rows.update({f"{name[:-1]}{i + 1}": h for i, h in enumerate(held)})
        return rows

    def static(self) -> tuple[Any, ...]:
        """What shapes the program, beside the parameters."""
        parts = (self.flags, self.active, self.others)
        return tuple([tuple(part.items()) for part in parts])


def _flag(op_name: str, name: str, given: Any) -> bool:
    if type(given) is not bool:
        raise DtypeError(message(op_name, f"`{name}` {given!r:.60}", "True or False"))
    return given
