"""`Parameter`: a tensor that a module registers; how parameters and buffers are made and held."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from proa import dtypes
from proa.compile.find import default_device
from proa.compile.find import device as as_device
from proa.compile.memory import need
from proa.convert import filled
from proa.dtypes import bfloat16, float16, float32
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.spec import spec
from proa.ops.primitive import value_of
from proa.record.live import CAPTURE, Leaf, thread
from proa.shapes import as_shape
from proa.tensor import Tensor, copy_of, put, rebind, require_grad

NARROW: Final = frozenset({float16, bfloat16})


class _ParameterType(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return is_parameter(instance)


class Parameter(metaclass=_ParameterType):
    """A tensor that a module registers when it is assigned: `Parameter(tensor)` is a `Tensor`.

    Its value is that of `data`; it is a handle of its own, and asks for a gradient unless
    `requires_grad=False`. `isinstance(t, nn.Parameter)` holds for it, and for every other tensor
    that was asked for a gradient by `requires_grad_()`.

    >>> import proa as pa
    >>> from proa import nn
    >>> w = nn.Parameter(pa.zeros((2, 3)))
    >>> w.requires_grad, isinstance(w, nn.Parameter), isinstance(pa.zeros((2,)), nn.Parameter)
    (True, True, False)
    """

    def __new__(cls, data: Any, requires_grad: bool = True) -> Any:
        if type(data) is not Tensor:
            given = f"data of type {type(data).__name__}"
            raise DtypeError(message("Parameter", given, "a tensor", "pa.asarray(...)"))
        made = copy_of(data.detach())
        marked(made)
        if requires_grad:
            require_grad(made, True)
        return made


def marked(tensor: Tensor) -> None:
    """Says of a tensor that it is a parameter, also while it asks for no gradient."""
    if tensor.leaf is None:
        tensor.leaf = Leaf(False)
    tensor.leaf.name = "parameter"


def is_parameter(thing: object) -> bool:
    """Whether a module registers this as a parameter."""
    leaf = thing.leaf if type(thing) is Tensor else None
    return leaf is not None and (leaf.stops or leaf.name == "parameter")


def new_parameter(shape: tuple[int, ...], dtype: Any = None, device: Any = None) -> Any:
    """A parameter of zeros; of the default float dtype, on the default device."""
    return Parameter(new_zeros(shape, dtype, device))


def new_zeros(shape: tuple[int, ...], dtype: Any = None, device: Any = None) -> Tensor:
    """A computed tensor of zeros, that `nn.init` or a checkpoint fills."""
    of = dtypes.default_float() if dtype is None else as_dtype(dtype)
    where = thread.state.device or default_device() if device is None else as_device(device)
    if thread.state.mode & CAPTURE:  # such as `lazy_init`, where nothing is allocated
        return filled("zeros", shape, 0, of, where)
    made = spec(as_shape("zeros", shape), of)
    need("zeros", made.nbytes)
    return put(np.zeros(shape, of.numpy), made, where)


def hold(handle: Tensor, new: Tensor) -> None:
    """The handle of a buffer or parameter holds another value from now on: same shape and dtype."""
    old, fresh = handle.value.spec, new.value.spec
    if old.shape != fresh.shape or old.dtype is not fresh.dtype:
        raise ArgumentError(message("assign", f"{fresh.plain}", f"{old.plain}"))
    rebind(handle, new.detach().value)


def check_input(op: str, name: str, x: Any, parameter: Tensor, wide: bool = False) -> None:
    """An input has the dtype of the parameters it meets, or the error says how to get there.

    With `wide`, a float16 or bfloat16 input may meet float32 parameters.
    """
    found = x.value.spec if type(x) is Tensor else value_of(op, x).spec
    wanted = parameter.value.spec.dtype
    if (
        found.dtype is wanted
        or found.weak
        or (wide and found.dtype in NARROW and wanted is float32)
    ):
        return
    given = f"input `{name}` of {found.dtype.name}"
    hint = f"{name}.astype(pa.{wanted.name})"
    if found.dtype.is_float:
        hint += f", or module.to(pa.{found.dtype.name})"
    raise DtypeError(message(op, given, f"{wanted.name}, as its parameters", hint))
