"""`Tensor`: a re-bindable handle on a value. What people hold.

Operators, indexing, derivatives and methods are attached by the rooms that define them
(`dunders`, `autograd`, `indexing`, `array`); `attached` declares them for type checkers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, final
from weakref import ref

import numpy as np

from proa import dtypes
from proa.attached import Attached
from proa.compile.backend import Device
from proa.compile.find import backend, default_device
from proa.compile.find import device as as_device
from proa.dtypes import Dtype
from proa.errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    Overwritten,
    ProaError,
    Uncopied,
    message,
)
from proa.exchange import exported
from proa.graph.entry import intern_entry
from proa.graph.node import SCALAR_TYPES, Node, Value
from proa.graph.spec import Spec
from proa.ops import moves, reduce
from proa.ops import operators as op
from proa.record.boundary import read
from proa.record.donation import again
from proa.record.live import (
    CAPTURE,
    NO_GRAD,
    Leaf,
    State,
    epoch,
    supply,
    thread,
    use_mode,
)  # fmt: skip
from proa.record.tape import stops


@final
class Tensor(Attached):
    """An n-dimensional array of one dtype on one device, computed when it is read.

    Made by `pa.asarray`, `pa.zeros`, operations and modules; never by calling the class.
    Values have no aliases: `y = x[0]; y += 1` leaves `x` alone.

    >>> import proa as pa
    >>> x = pa.asarray([1.0, 2.0])
    >>> (x * 2 + 1).tolist()
    [3.0, 5.0]
    """

    __slots__ = ("value", "leaf", "__weakref__")

    value: Value
    leaf: Leaf | None

    def __init__(self, value: Value) -> None:
        if type(value) is not Value:
            given = f"Tensor({type(value).__name__})"
            raise DtypeError(
                message("Tensor", given, "a function that makes one", "pa.asarray(...)")
            )
        self.value = value
        self.leaf = None

    # What is known without computing.

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.value.spec.shape

    @property
    def dtype(self) -> Dtype:
        return self.value.spec.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.value.spec.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.spec.size

    @property
    def nbytes(self) -> int:
        return self.value.spec.nbytes

    @property
    def device(self) -> Device:
        """Where the value is, or will be computed."""
        return device_of(self.value)

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ArgumentError(message("T", f"{self.ndim} axes", "2", "x.mT or pa.permute_dims"))
        return moves.permute_dims(self, (1, 0))  # type: ignore[no-any-return]

    @property
    def mT(self) -> Tensor:  # noqa: N802
        """The last two axes exchanged."""
        return moves.matrix_transpose(self)  # type: ignore[no-any-return]

    # Reading.

    def numpy(self) -> Any:
        """The value as a read-only NumPy array (a view where the device shares memory)."""
        return host_of(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = host_of(self)
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        """A read-only export for consumers of DLPack 1, a copy for older ones."""
        array, version = host_of(self), options.get("max_version")
        if options.get("copy") is False and (version is None or version[0] < 1):
            expected = "max_version of at least (1, 0): older consumers may write"
            raise Uncopied(message("__dlpack__", "copy=False", expected))
        if version is None or version[0] < 1 or options.get("copy"):
            array = array.copy()
        named = {k: v for k, v in options.items() if k != "copy"}
        return exported(array, self.dtype, **named)

    def __dlpack_device__(self) -> tuple[int, int]:
        refuse_in_capture(self, "read")
        return 1, 0  # memory of the processor

    def item(self) -> Any:
        """The one element as a Python number.

        >>> import proa as pa
        >>> pa.asarray([[2.5]]).item()
        2.5
        """
        if self.size != 1:
            raise ArgumentError(message("item", f"shape {self.shape}", "one element", "x.tolist()"))
        return host_of(self).item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return host_of(self).tolist()

    def __bool__(self) -> bool:
        state = thread.state
        if state.mode & CAPTURE and self.size == 1:
            return state.capture.truth(self)  # type: ignore[no-any-return]
        return bool(self._one("bool"))

    def __int__(self) -> int:
        return int(self._one("int"))

    def __float__(self) -> float:
        return float(self._one("float"))

    def __complex__(self) -> complex:
        return complex(self._one("complex"))

    def _one(self, what: str) -> Any:
        if self.size != 1:
            hint = "x.any() or x.all()" if what == "bool" else "x.item() of one element"
            raise ArgumentError(
                message(what, f"shape {self.shape}", "a tensor of one element", hint)
            )
        refuse_in_capture(self, what)
        return host_of(self).item()

    def __index__(self) -> int:
        if self.value.spec.dtype.kind != "int" or self.ndim != 0:
            given = f"{self.dtype.name} of shape {self.shape}"
            raise DtypeError(message("index", given, "an integer tensor of 0 axes", "int(x)"))
        refuse_in_capture(self, "index")
        return int(host_of(self).item())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise DtypeError(message("len", "a tensor of 0 axes", "at least 1"))
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise DtypeError(message("iter", "a tensor of 0 axes", "at least 1"))
        return iter([self[i] for i in range(self.shape[0])])

    def __contains__(self, item: Any) -> bool:
        return bool(reduce.any(self == item))

    def __format__(self, form: str) -> str:
        return format(self._one("format"), form) if form else str(self)

    def __repr__(self) -> str:
        from proa.printing import text_of

        return text_of(self)

    def __deepcopy__(self, memo: Any) -> Tensor:
        return memo.setdefault(id(self), copy_of(self))  # type: ignore[no-any-return]

    def __copy__(self) -> Tensor:
        return copy_of(self)

    def __reduce__(self) -> Any:
        name = type(self).__name__
        raise ProaError(message("pickle", name, "a safe format", "pa.save or x.numpy()"))

    def __hash__(self) -> int:
        if thread.state.mode & CAPTURE:
            thread.state.capture.needs_number(self)
        return object.__hash__(self)

    __array_priority__ = 1000
    __array_ufunc__ = None

    # Derivatives.

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows through this tensor."""
        return self.value.spec.grad

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        self.requires_grad_(on)

    @property
    def is_leaf(self) -> bool:
        """Whether the tape ends here (also true of what carries no gradient)."""
        return not self.value.spec.grad or stops(self.value)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` added up here; None when it is empty."""
        leaf = self.leaf
        if leaf is not None and thread.state.mode & CAPTURE:
            thread.state.capture.filled(leaf)
        return leaf.grad if leaf is not None and leaf.full else None

    @grad.setter
    def grad(self, new: Tensor | None) -> None:
        set_grad(self, new)

    def requires_grad_(self, on: bool = True) -> Tensor:
        """Asks for a gradient of this very tensor, or no longer; returns the tensor."""
        require_grad(self, bool(on))
        return self

    def detach(self) -> Tensor:
        """The same value, off the tape. It cannot be changed in place: that would not be seen by
        the tensor that it was taken from."""
        made = off_tape(self)
        made.leaf = READ_ONLY
        return made

    # Placing.

    def to(self, where: Any) -> Tensor:
        """The value on another device, or in another dtype."""
        if isinstance(where, (Dtype, type)) or (isinstance(where, str) and where in _DTYPE_NAMES):
            return self.astype(where)
        return moved(self, as_device(where))

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """The value on another device."""
        if stream is not None:
            raise ArgumentError(message("to_device", f"stream {stream!r:.60}", "no stream: None"))
        return moved(self, as_device(device))

    def astype(self, dtype: Any, *, copy: bool = True) -> Tensor:
        """The value in another dtype."""
        return op.astype(self, dtype)  # type: ignore[no-any-return]

    def float(self) -> Tensor:
        return self.astype(dtypes.float32)

    def double(self) -> Tensor:
        return self.astype(dtypes.float64)

    def half(self) -> Tensor:
        return self.astype(dtypes.float16)

    def bfloat16(self) -> Tensor:
        return self.astype(dtypes.bfloat16)

    def long(self) -> Tensor:
        return self.astype(dtypes.int64)

    def bool(self) -> Tensor:
        return self.astype(dtypes.bool_)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        import proa

        if api_version is not None and api_version not in API_VERSIONS:
            given, expected = f"api_version {api_version!r:.60}", f"one of {API_VERSIONS}"
            raise ArgumentError(message("__array_namespace__", given, expected))
        return proa


API_VERSIONS: Final = ("2021.12", "2022.12", "2023.12", "2024.12")  # of the Array API standard
READ_ONLY: Final = Leaf(False)
_DTYPE_NAMES: Final = frozenset(d.name for d in dtypes.ALL)


def device_of(value: Value) -> Device:
    """The device of a computed value, or of the first computed one that it is made from."""
    seen: set[Node] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        found = getattr(v.buffer, "device", None)
        if found is not None:
            return found  # type: ignore[no-any-return]
        if v.node is not None and v.buffer is None and v.node not in seen:
            seen.add(v.node)
            stack += v.node.inputs
    return thread.state.device or default_device()


def host_of(tensor: Tensor) -> Any:
    """The read-only array of a tensor; computes what is pending."""
    refuse_in_capture(tensor, "read")
    try:
        return _host_of(tensor)
    except Overwritten as error:
        return again(error, _host_of, tensor)


def _host_of(tensor: Tensor) -> Any:
    buffer = read(tensor.value)
    if type(buffer) in SCALAR_TYPES:
        array = np.asarray(buffer).astype(tensor.dtype.numpy)
        array.flags.writeable = False
        return array
    return buffer.host()


def refuse_in_capture(tensor: Tensor, what: str) -> None:
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.refuse(tensor, what)


def derived(tensor: Tensor, of: Spec, leaf: Leaf | None = None) -> Value:
    """The same result seen with another spec: on or off the tape."""
    v = tensor.value
    made = Value(v.node, v.index, of, v.buffer, leaf)
    if thread.state.mode & CAPTURE:
        thread.state.capture.derived(made, tensor)
    return made


def off_tape(tensor: Tensor) -> Tensor:
    """A new handle on the same value, off the tape."""
    return _known(Tensor(derived(tensor, tensor.value.spec.plain)))


def _known(tensor: Tensor) -> Tensor:
    """Tells the queue of a handle on a pending value."""
    if tensor.value.buffer is None:
        thread.state.handles.append(ref(tensor))
    return tensor


def handle(value: Value) -> Tensor:
    """A new handle on a pending value, known to the thread's queue."""
    tensor = Tensor(value)
    thread.state.handles.append(ref(tensor))
    return tensor


def rebind(tensor: Tensor, value: Value) -> None:
    """The handle holds `value` from now on. Every name of the handle sees it."""
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.wrote(tensor)
    leaf = tensor.leaf
    if leaf is not None and leaf.stops:
        source = value
        value = Value(value.node, value.index, value.spec.with_grad(), value.buffer, leaf)
        if state.mode & CAPTURE:
            state.capture.copied(value, source)
    tensor.value = value
    if value.buffer is None:
        state.handles.append(ref(tensor))


def record_into(
    tensors: Sequence[Tensor], primitive: Any, operands: Sequence[Tensor], **params: Any
) -> None:
    """Records one operation whose results existing tensors hold from now on."""
    state = thread.state
    if state.watching:
        for o in operands:
            state.watch(o)
    values = tuple([o.value for o in operands])
    given = tuple([params[p] for p in primitive.params])
    specs = tuple([v.spec for v in values])
    entry = intern_entry(primitive.table, primitive, given, specs)
    rebind_all(tensors, state.record(entry, values))


def rebind_all(tensors: Sequence[Tensor], values: Sequence[Value]) -> None:
    """`rebind` of many handles to fresh values; the hot path of an optimiser's step."""
    state = thread.state
    if state.mode & CAPTURE:
        for tensor, value in zip(tensors, values, strict=True):
            rebind(tensor, value)
        return
    for tensor, value in zip(tensors, values, strict=True):
        leaf = tensor.leaf
        if leaf is not None and leaf.stops:
            value.spec, value.leaf = value.spec.with_grad(), leaf
    state.handles += map(ref, tensors)
    set_values(tensors, values)


_set_value: Final = Tensor.value.__set__  # type: ignore[attr-defined]


def set_values(tensors: Sequence[Tensor], values: Sequence[Value]) -> None:
    """All or none: one call into C, so that an interruption comes before all of it or after."""
    deque(map(_set_value, tensors, values), maxlen=0)


def assign(tensor: Tensor, new: Any, op_name: str = "assign") -> Tensor:
    """In-place change of a whole tensor: same shape and dtype, or an error."""
    if tensor.leaf is not None and tensor.leaf.stops and not thread.state.mode & NO_GRAD:
        given = "a leaf that requires grad"
        raise GradientError(
            message(op_name, given, "a tensor that is no leaf", "with pa.no_grad(): ...")
        )
    if tensor.leaf is READ_ONLY:
        given = (
            "a tensor that is another's value (of `detach()`, or of a branch that leaves a name as "
            "it was), whose change that one would not see"
        )
        hint = "with pa.no_grad(): x[...] = ... of that one, or d = d + ..."
        raise ArgumentError(message(op_name, given, "a tensor of its own", hint))
    old, fresh = tensor.value.spec, new.value.spec
    if fresh.shape != old.shape:
        hint = f"x = x {op_name} y, or shapes that broadcast to {old.shape}"
        raise ArgumentError(
            message(op_name, f"shape {old.shape} to become {fresh.shape}", "the same shape", hint)
        )
    if fresh.dtype is not old.dtype:
        given = f"{old.dtype.name} to become {fresh.dtype.name}"
        raise DtypeError(message(op_name, given, "the same dtype", "x = x.astype(...)"))
    rebind(tensor, new.value)
    return tensor


def require_grad(tensor: Tensor, on: bool) -> None:
    value = tensor.value
    if on and not value.spec.dtype.is_inexact:
        raise DtypeError(message("requires_grad", value.spec.dtype.name, "a float dtype"))
    if not on and value.spec.grad and not stops(value):
        raise GradientError(
            message("requires_grad", "a tensor on the tape", "a leaf", "x.detach()")
        )
    if on and value.spec.grad:
        return
    epoch.advance()
    if thread.state.mode & CAPTURE:
        thread.state.capture.wrote(tensor)
    if on:
        leaf = Leaf(True) if tensor.leaf in (None, READ_ONLY) else tensor.leaf
        leaf.stops = True
        tensor.leaf = leaf
        tensor.value = derived(tensor, value.spec.with_grad(), leaf)
    else:
        if tensor.leaf is not None:
            tensor.leaf.stops = False
        tensor.value = derived(tensor, value.spec.plain)
    _known(tensor)


def set_grad(tensor: Tensor, new: Tensor | None) -> None:
    """Fills or empties the gradient. Its handle is one for the tensor's whole life."""
    if tensor.leaf is None or tensor.leaf is READ_ONLY:
        tensor.leaf = Leaf(False)
    leaf = tensor.leaf
    if thread.state.mode & CAPTURE:
        thread.state.capture.filled(leaf)
    if new is None:
        leaf.full = False
        return
    if type(new) is not Tensor or new.shape != tensor.shape or new.dtype is not tensor.dtype:
        given = f"{getattr(new, 'value', new)!r:.80}"
        raise ArgumentError(message("grad", given, f"a tensor like {tensor.value.spec.plain}"))
    if leaf.grad is None:
        leaf.grad = Tensor(new.value)
    rebind(leaf.grad, new.value)
    leaf.full = True


def copy_of(tensor: Tensor) -> Tensor:
    """A new handle on the same value; a leaf gets a leaf of its own."""
    v = tensor.value
    made = _known(Tensor(derived(tensor, v.spec.plain if stops(v) else v.spec)))
    if stops(v):
        require_grad(made, True)
    return made


def moved(tensor: Tensor, device: Device) -> Tensor:
    """The value on another device: read here and put there. Refuses to cut a tape silently."""
    if device == tensor.device:
        return tensor
    if tensor.requires_grad and not tensor.is_leaf and not thread.state.mode & NO_GRAD:
        given = "a tensor on the tape"
        raise GradientError(
            message("to", given, "a leaf or a detached tensor", "x.detach().to(...)")
        )
    made = put(host_of(tensor), tensor.value.spec.plain, device)
    if stops(tensor.value):
        require_grad(made, True)
    return made


def put(array: Any, of: Spec, device: Device) -> Tensor:
    """A computed tensor with a copy of the array."""
    return Tensor(Value(None, 0, of, backend(device.backend).put(array, of, device)))


def _put_constant(array: Any, of: Spec, state: State) -> Tensor:
    made = put(array, of, state.device or default_device())
    if state.mode & CAPTURE:
        state.capture.born(made)
    return made


def no_grad() -> Any:
    """Inside the block nothing is put on the tape.

    >>> import proa as pa
    >>> x = pa.ones((2,)).requires_grad_()
    >>> with pa.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return use_mode(NO_GRAD, True)


def enable_grad() -> Any:
    """Inside the block operations are put on the tape again."""
    return use_mode(NO_GRAD, False)


def is_grad_enabled() -> bool:
    return not thread.state.mode & NO_GRAD


supply(handle=Tensor, put=_put_constant)
