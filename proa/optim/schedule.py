"""Learning-rate schedules: closed forms in Python's float64, written through `group["lr"]`.

The rate lives in a handle, so a schedule makes no new program, and a jitted step follows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from math import cos, isfinite, pi
from typing import Any, ClassVar, final

from proa.errors import ArgumentError, DtypeError, JitError, message
from proa.ops.composite.common import real
from proa.optim.optimizer import Optimizer
from proa.record.live import CAPTURE, thread
from proa.shapes import as_int


class LRScheduler(ABC):
    """What all schedules share: `rate(base, epoch)` is the rule, `step()` goes one on.

    optimizer: whose groups are set. last_epoch: -1 for a new run; the epoch reached, to go on
    with a run whose groups hold `initial_lr`. The rate for epoch 0 is set at once.
    """

    stored: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(message(self.name, f"{type(optimizer).__name__}", "an optimizer"))
        self.optimizer = optimizer
        self.last_epoch = as_int(self.name, "last_epoch", last_epoch) + 1
        for group in optimizer.param_groups:
            if "initial_lr" not in group:
                if last_epoch != -1:
                    given = f"last_epoch {last_epoch} and a group without initial_lr"
                    raise ArgumentError(message(self.name, given, "one", "last_epoch=-1"))
                group["initial_lr"] = float(group["lr"])
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self._write()

    @abstractmethod
    def rate(self, base: float, epoch: int) -> float:
        """The learning rate in `epoch`, counted from 0, of a group whose first rate is `base`."""

    def step(self) -> None:
        """Sets the rates of the next epoch (or step: whatever is counted)."""
        if thread.state.mode & CAPTURE:
            given = "a schedule's step while a function is recorded"
            raise JitError(
                message(self.name, given, "one outside", "schedule.step() after the call")
            )
        self.last_epoch += 1
        self._write()

    def _write(self) -> None:
        rates = self.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        """The rate of each group now."""
        return [float(self.rate(base, self.last_epoch)) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Epoch, first rates and the numbers of the rule."""
        own = {name: getattr(self, name) for name in self.stored}
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict()` was taken: the rates are set at once."""
        if not isinstance(state_dict, dict):
            raise DtypeError(message(self.name, f"a {type(state_dict).__name__}", "a dict"))
        missing = [k for k in ("last_epoch", "base_lrs", *self.stored) if k not in state_dict]
        if missing:
            raise ArgumentError(
                message(self.name, f"a state_dict without {missing}", "its own layout")
            )
        epoch = as_int(self.name, "last_epoch", state_dict["last_epoch"])
        bases = state_dict["base_lrs"]
        if not isinstance(bases, (list, tuple)) or len(bases) != len(self.base_lrs):
            expected = f"{len(self.base_lrs)} numbers"
            raise ArgumentError(message(self.name, f"base_lrs {bases!r:.60}", expected))
        news = [_number(self.name, "base_lrs", b) for b in bases]
        own = {k: self._loaded(k, state_dict[k]) for k in self.stored}
        self.last_epoch, self.base_lrs = epoch, news
        for name, value in own.items():
            setattr(self, name, value)
        self._write()

    def _loaded(self, name: str, value: Any) -> Any:
        """A stored number of the same kind as the present one."""
        if isinstance(getattr(self, name), int):
            return as_int(self.name, name, value)
        return _number(self.name, name, value)


def _number(op_name: str, name: str, given: Any) -> float:
    number = real(op_name, name, given)
    if not isfinite(number):
        raise ArgumentError(message(op_name, f"`{name}` {given!r:.40}", "a finite number"))
    return number


def _positive(op_name: str, name: str, given: Any) -> int:
    number = as_int(op_name, name, given)
    real(op_name, name, number)  # an epoch is divided by it
    if number < 1:
        raise ArgumentError(message(op_name, f"`{name}` {number}", "at least 1"))
    return number


@final
class StepLR(LRScheduler):
    """base gamma^(epoch // step_size).

    step_size: epochs between drops, an int of at least 1. gamma: the factor of each.
    """

    stored = ("step_size", "gamma")

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = _positive("StepLR", "step_size", step_size)
        self.gamma = _number("StepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int) -> float:
        return float(base * self.gamma ** (epoch // self.step_size))


@final
class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2 (Loshchilov and Hutter 2017).

    T_max: epochs until eta_min is reached; beyond, the rate rises again as the cosine does.
    """

    stored = ("T_max", "eta_min")

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,  # noqa: N803  (PyTorch's name)
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_max = _positive("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = _number("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1.0 + cos(pi * epoch / self.T_max)) / 2.0


@final
class LinearLR(LRScheduler):
    """base times a factor that goes in a line from start_factor to end_factor (a warm-up).

    start_factor: of epoch 0, above 0 and at most 1. end_factor: from epoch total_iters on.
    """

    stored = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3.0, end_factor: float = 1.0,
        total_iters: int = 5, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.start_factor = _number("LinearLR", "start_factor", start_factor)
        self.end_factor = _number("LinearLR", "end_factor", end_factor)
        self.total_iters = _positive("LinearLR", "total_iters", total_iters)
        if not 0.0 < self.start_factor <= 1.0:
            raise ArgumentError(
                message("LinearLR", f"start_factor {start_factor}", "0 < number <= 1")
            )
        if not 0.0 <= self.end_factor <= 1.0:
            raise ArgumentError(message("LinearLR", f"end_factor {end_factor}", "0 <= number <= 1"))
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int) -> float:
        part = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * part)


@final
class SequentialLR(LRScheduler):
    """One schedule after the other; each counts its epochs from 0.

    schedulers: schedules of the same optimizer. milestones: the epoch in which each but the
    first begins, ascending.

    >>> from proa import optim
    >>> import proa as pa
    >>> opt = optim.SGD([pa.zeros((2,)).requires_grad_()], lr=1.0)
    >>> warm, decay = optim.LinearLR(opt, 0.5, total_iters=2), optim.CosineAnnealingLR(opt, 2)
    >>> schedule = optim.SequentialLR(opt, [warm, decay], [2])
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(opt.param_groups[0]["lr"], 3))
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        name = "SequentialLR"
        self.schedulers = list(schedulers)
        self.milestones = [_positive(name, "milestones", m) for m in milestones]
        for s in self.schedulers:
            if not isinstance(s, LRScheduler) or s.optimizer is not optimizer:
                raise ArgumentError(
                    message(name, f"{type(s).__name__}", "schedules of this optimizer")
                )
        if len(self.schedulers) != len(self.milestones) + 1:
            given = f"{len(self.schedulers)} schedules and {len(self.milestones)} milestones"
            raise ArgumentError(message(name, given, "one milestone less than schedules"))
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ArgumentError(message(name, f"milestones {self.milestones}", "ascending ones"))
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int) -> float:
        number = bisect_right(self.milestones, epoch)
        start = self.milestones[number - 1] if number else 0
        return self.schedulers[number].rate(base, epoch - start)
