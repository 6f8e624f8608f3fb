"""Adam and AdamW: steps scaled by running averages of the gradient and of its square."""

from __future__ import annotations

from typing import Any, ClassVar, Final, final

from proa.errors import ArgumentError, message
from proa.ops import arithmetic as ar
from proa.ops.functions import sqrt
from proa.optim.group import Group, Limits
from proa.optim.optimizer import Optimizer, Scalars

MEAN: Final = "exp_avg"
SQUARE: Final = "exp_avg_sq"
LARGEST: Final = "max_exp_avg_sq"
_LIMITS: Final = {
    "lr": Limits(),
    "betas": Limits(0.0, 1.0),
    "eps": Limits(),
    "weight_decay": Limits(),
}


class _Adam(Optimizer):
    """What Adam and AdamW share; they differ in what weight decay does."""

    limits = _LIMITS
    always = frozenset({"lr", "betas", "eps"})
    possible_slots: ClassVar[frozenset[str]] = frozenset({MEAN, SQUARE, LARGEST})
    decoupled: ClassVar[bool]

    def slot_names(self, group: Group) -> tuple[str, ...]:
        return (MEAN, SQUARE, LARGEST) if group.flags["amsgrad"] else (MEAN, SQUARE)

    def check(self, group: Group) -> None:
        if len(group.numbers["betas"]) != 2:
            raise ArgumentError(message(self.name, f"`betas` {group['betas']}", "2 numbers"))

    def counts_steps(self, group: Group) -> bool:
        return True

    def scalars(self, group: Group, numbers: Scalars, count: Any) -> Scalars:
        """The corrections multiply the rate and eps, not every element: with c = sqrt(1 - b2^t),
        lr / (1 - b1^t) m / (sqrt(v) / c + eps) = lr c / (1 - b1^t) m / (sqrt(v) + eps c)."""
        lr, b1, b2, eps = (numbers[n] for n in ("lr", "beta1", "beta2", "eps"))
        root = sqrt(1.0 - ar.pow(b2, count))
        found = {
            "mean_rest": 1.0 - b1, "square": b2, "square_rest": 1.0 - b2,
            "rate": lr * root / (1.0 - ar.pow(b1, count)), "eps": eps * root,
        }  # fmt: skip
        if "weight_decay" in numbers:
            decay = numbers["weight_decay"]
            found["decay"] = 1.0 - lr * decay if self.decoupled else decay
        return found

    def formula(self, group: Group, p: Any, g: Any, slots: Scalars, k: Scalars) -> Any:
        if "decay" in k:
            p, g = (p * k["decay"], g) if self.decoupled else (p, g + k["decay"] * p)
        m, v = slots[MEAN], slots[SQUARE]
        slots[MEAN] = m = m + (g - m) * k["mean_rest"]
        slots[SQUARE] = v = v * k["square"] + g * g * k["square_rest"]
        if LARGEST in slots:
            slots[LARGEST] = v = ar.maximum(slots[LARGEST], v)
        return p - m * k["rate"] / (sqrt(v) + k["eps"])


def _defaults(
    lr: Any, betas: Any, eps: Any, weight_decay: Any, amsgrad: Any, maximize: Any
) -> dict[str, Any]:
    return {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "amsgrad": amsgrad, "maximize": maximize}  # fmt: skip


@final
class Adam(_Adam):
    """Adam (Kingma and Ba 2015), with the largest v so far if `amsgrad` (Reddi et al. 2018).

        g = grad + weight_decay p          (grad is negated first if `maximize`)
        m = b1 m + (1 - b1) g
        v = b2 v + (1 - b2) g g
        p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)     in step t

    params: tensors or groups. lr, eps, weight_decay: numbers of at least 0. betas: b1 and b2,
    at least 0 and below 1.

    >>> import proa as pa
    >>> from proa import optim
    >>> w = pa.asarray([1.0, 2.0]).requires_grad_()
    >>> opt = optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.5, 1.5]
    """

    decoupled = False

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: Any = (0.9, 0.999), eps: Any = 1e-8,
        weight_decay: Any = 0.0, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, _defaults(lr, betas, eps, weight_decay, amsgrad, maximize))


@final
class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

        p = p (1 - lr weight_decay)
        then Adam's step without weight decay

    params: tensors or groups. lr, eps, weight_decay: numbers of at least 0. betas: b1 and b2,
    at least 0 and below 1.

    >>> import proa as pa
    >>> from proa import optim
    >>> w = pa.asarray([1.0]).requires_grad_()
    >>> opt = optim.AdamW([w], lr=0.5, weight_decay=0.0)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.5]
    """

    decoupled = True

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: Any = (0.9, 0.999), eps: Any = 1e-8,
        weight_decay: Any = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, _defaults(lr, betas, eps, weight_decay, amsgrad, maximize))
