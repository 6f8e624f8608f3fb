"""Policies of `checkpoint`: which results of the forward pass are kept for the backward pass.

A policy is a function of (operation, name): the name of a primitive and None, or
`"checkpoint_name"` and a name that `checkpoint_name` gave. It is asked once for each operation that
a function has, not for each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from proa.errors import ArgumentError, DtypeError, ProaError, message
from proa.ops.expand import composite
from proa.ops.factors import passing
from proa.ops.primitive import Family, Primitive, apply
from proa.tensor import Tensor

__all__ = ["offload", "save_everything", "save_nothing", "save_only", "save_products"]

NAME: Final = "="  # stands before the names that users give, among those of operations
PRODUCTS: Final = frozenset({"dot", "conv"})
Policy = Callable[[str, str | None], bool]


def save_nothing(operation: str, name: str | None) -> bool:
    """Keeps nothing: all is computed again, as without a policy.

    >>> import proa as pa
    >>> f = pa.checkpoint(pa.sin, policy=pa.checkpoint_policies.save_nothing)
    """
    return False


def save_everything(operation: str, name: str | None) -> bool:
    """Keeps every result: nothing is computed again, as without `checkpoint`.

    >>> import proa as pa
    >>> f = pa.checkpoint(pa.sin, policy=pa.checkpoint_policies.save_everything)
    """
    return True


def save_products(operation: str, name: str | None) -> bool:
    """Keeps what contractions and convolutions give: all that is cheap is computed again.

    >>> import proa as pa
    >>> f = pa.checkpoint(lambda x: pa.sin(x @ x), policy=pa.checkpoint_policies.save_products)
    """
    return operation in PRODUCTS


def save_only(*names: str) -> Policy:
    """A policy that keeps the values that `pa.checkpoint_name` gave one of these names.

    >>> import proa as pa
    >>> f = lambda x: pa.sin(pa.checkpoint_name(x @ x, "square"))
    >>> f = pa.checkpoint(f, policy=pa.checkpoint_policies.save_only("square"))
    """
    wanted = frozenset([_name("save_only", n) for n in names])

    def policy(operation: str, name: str | None) -> bool:
        return name in wanted

    return policy


def offload(*names: str) -> NoReturn:
    """Will keep values in the memory of the host; there is no such policy yet.

    Errors:
        ProaError: always.

    >>> import proa as pa
    >>> pa.checkpoint_policies.offload("square")
    Traceback (most recent call last):
    ...
    proa.errors.ProaError: [checkpoint] given offload, expected a policy that exists, ...
    """
    hint = 'save_only("a name") or save_nothing'
    raise ProaError(message("checkpoint", "offload", "a policy that exists", hint))


def need_policy(policy: Any) -> None:
    if policy is not None and not callable(policy):
        expected = "a function of (operation, name)"
        hint = "pa.checkpoint_policies.save_products"
        raise DtypeError(message("checkpoint", f"a policy {policy!r:.60}", expected, hint))


def _name(op: str, given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ArgumentError(message(op, f"{given!r:.60}", "a name"))
    return given


def _itself(primitive: Primitive, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    return apply(primitive, operands, **params)


named_value: Final = composite(
    "checkpoint_name", lambda x, name: x, params=("name",), batch=_itself,
    doc="x itself, under a name for the policies of `checkpoint`.",
)  # fmt: skip
named_value.family = Family("composite", lambda op, ins, name: passing(ins[0].shape), _itself)


def checkpoint_name(x: Any, name: str) -> Any:
    """x itself, under a name that policies of `checkpoint` know (`save_only`).

    Arguments:
        x: a tensor.
        name: any text.

    Errors:
        DtypeError: x is no tensor.
        ArgumentError: the name is no text, or empty.

    >>> import proa as pa
    >>> pa.checkpoint_name(pa.asarray(1.0), "one").item()
    1.0
    """
    if type(x) is not Tensor:
        raise DtypeError(message("checkpoint_name", f"{type(x).__name__}", "a tensor"))
    return apply(named_value, (x,), name=_name("checkpoint_name", name))
