"""SGD: gradient descent with momentum."""

from __future__ import annotations

from typing import Any, ClassVar, Final, final

from proa.errors import ArgumentError, message
from proa.ops import operators as op
from proa.optim.group import Group, Limits
from proa.optim.optimizer import Optimizer, Scalars

BUFFER: Final = "momentum_buffer"


@final
class SGD(Optimizer):
    """Gradient descent with momentum (Sutskever et al. 2013, in PyTorch's form).

        g = grad + weight_decay p          (grad is negated first if `maximize`)
        b = momentum b + (1 - dampening) g (the first time b = g)
        p = p - lr b                       (lr (g + momentum b) if `nesterov`)

    params: tensors or groups. lr, momentum, dampening, weight_decay: numbers of at least 0.
    nesterov: needs a momentum and no dampening.

    >>> import proa as pa
    >>> from proa import optim
    >>> w = pa.asarray([1.0, 2.0]).requires_grad_()
    >>> opt = optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.0, 0.0]
    """

    limits: ClassVar[dict[str, Limits]] = {
        "lr": Limits(), "momentum": Limits(), "dampening": Limits(float("-inf")),
        "weight_decay": Limits(),
    }  # fmt: skip
    possible_slots: ClassVar[frozenset[str]] = frozenset({BUFFER})

    def __init__(
        self, params: Any, lr: Any = 1e-3, momentum: Any = 0.0, dampening: Any = 0.0,
        weight_decay: Any = 0.0, nesterov: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        if group.flags["nesterov"] and (not group.active["momentum"] or group.active["dampening"]):
            given = "nesterov without a momentum, or with a dampening"
            raise ArgumentError(message("SGD", given, "momentum > 0 and dampening = 0"))

    def slot_names(self, group: Group) -> tuple[str, ...]:
        return (BUFFER,) if group.active["momentum"] else ()

    def counts_steps(self, group: Group) -> bool:
        return group.active["momentum"] and group.active["dampening"]

    def _shows_step(self) -> bool:
        return False

    def scalars(self, group: Group, numbers: Scalars, count: Any) -> Scalars:
        found = dict(numbers)
        rest = found.pop("dampening", None)
        if rest is not None and count is not None:
            found["rest"] = op.where(count == 1.0, 1.0, 1.0 - rest)
        return found

    def formula(self, group: Group, p: Any, g: Any, slots: Scalars, k: Scalars) -> Any:
        if "weight_decay" in k:
            g = g + k["weight_decay"] * p
        if BUFFER in slots:
            fresh = g * k["rest"] if "rest" in k else g
            slots[BUFFER] = b = k["momentum"] * slots[BUFFER] + fresh
            g = g + k["momentum"] * b if group.flags["nesterov"] else b
        return p - k["lr"] * g
