"""What all functions of the array namespace do with their arguments, result and documentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from proa.convert import again, asarray
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.node import Value
from proa.ops.primitive import number_of, value_of
from proa.tensor import Tensor

Call = TypeVar("Call", bound=Callable[..., Any])


def public(function: Call, example: str = "", result: str = "") -> Call:
    """What every function here does: a result that would be the argument itself becomes a handle
    of its own, and `out=` is answered. An example may be added to the documentation."""

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if "out" in options:
            hint = f"x[...] = pa.{function.__name__}(...)"
            raise ArgumentError(
                message(function.__name__, "`out`", "no `out`: values are never shared", hint)
            )
        if args and isinstance(args[0], np.ndarray):
            args = (tensor_of(args[0]), *args[1:])
        result = function(*args, **options)
        return again(result) if args and result is args[0] and type(result) is Tensor else result

    if example:
        call.__doc__ = f"{call.__doc__}{example_of(example, result)}"
    return call  # type: ignore[return-value]


def over_axes(name: str, function: Call, example: str = "", result: str = "") -> Call:
    """A function along axes: a number alone is refused."""

    @wraps(function)
    def call(x: Any, /, *args: Any, **options: Any) -> Any:
        need_tensor(name, x)
        return function(x, *args, **options)

    return public(call, example, result)  # type: ignore[return-value]


def example_of(code: str, result: str) -> str:
    return f"\n\n    >>> import proa as pa\n    >>> {code}\n    {result}\n    "


def need_tensor(name: str, *operands: Any) -> None:
    """Numbers alone have no dtype and no device: at least one operand is a tensor."""
    if type(operands[0]) is Tensor and len(operands) == 1:
        return
    alone = True
    for o in operands:
        if number_of(o) is None:
            alone = False
            if not isinstance(o, (Tensor, Value, np.ndarray)):
                value_of(name, o)
    if alone:
        given = "only " + " and ".join(f"{o!r:.40}" for o in operands)
        raise DtypeError(message(name, given, "a tensor", "pa.asarray(...)"))


def tensor_of(x: Any) -> Any:
    """A NumPy array stands for a tensor."""
    return asarray(x) if isinstance(x, np.ndarray) else x
