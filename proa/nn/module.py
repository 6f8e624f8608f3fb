"""`Module`: named parameters, buffers and parts, and a `forward`.

A change that a jitted function must notice advances `proa.record.live.epoch`: an attribute, a
mode, a hook, a part, whether a parameter asks for a gradient. What a parameter or buffer *holds*
is state of its handle, and is no such change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

import numpy as np

from proa import dtypes
from proa.capture.convert import of
from proa.compile.find import device as as_device
from proa.dtypes import Dtype, bfloat16, float16, float32, float64
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, message
from proa.nn.hooks import HookHandle, add_hook, call_with_hooks
from proa.nn.loading import Loaded, load
from proa.nn.parameter import is_parameter, marked
from proa.record.live import CONVERT, epoch, thread
from proa.substitution import Holder, Place
from proa.tensor import Tensor, moved, no_grad, rebind, require_grad

_TABLES: Final = ("_parameters", "_buffers", "_modules")
_HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks")
_KEPT: Final = frozenset({*_TABLES, *_HOOKS, "_not_saved", "_keyword_hooks"})
_DTYPE_NAMES: Final = frozenset(d.name for d in dtypes.ALL)


class Module(Holder):
    """A function with parameters. Subclass it, assign parts in `__init__`, write `forward`.

    What is assigned is registered by its kind: a `Parameter`, another module, or (by
    `register_buffer`) a tensor that is state but not learned. Names are those of the attributes,
    joined by dots; `state_dict` has PyTorch's names and order. One parameter under two names is
    *tied*: loading, `to` and `deepcopy` keep the tie.

    >>> import proa as pa
    >>> from proa import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(pa.asarray([2.0]))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> scale = Scale()
    >>> scale(pa.asarray([3.0])).tolist(), list(scale.state_dict())
    ([6.0], ['factor'])
    """

    __slots__ = ("_name", "__dict__", "__weakref__")

    _name: str
    training: bool
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _not_saved: frozenset[str]
    _forward_hooks: dict[int, Any]
    _forward_pre_hooks: dict[int, Any]
    _backward_hooks: dict[int, Any]
    _keyword_hooks: frozenset[int]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = object.__new__(cls)
        object.__setattr__(made, "_name", "")
        made.__dict__.update(
            training=True, _parameters={}, _buffers={}, _modules={}, _not_saved=frozenset(),
            _forward_hooks={}, _forward_pre_hooks={}, _backward_hooks={},
            _keyword_hooks=frozenset(),
        )  # fmt: skip
        return made

    def __init__(self) -> None:
        """Nothing is left to do: a module is set up before its `__init__` runs."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a call of the module computes; a subclass defines it."""
        name = type(self).__name__
        raise NotImplementedError(message(name, "no `forward`", "a method forward(self, ...)"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__
        state = thread.state
        outer = state.scope
        if self._name:
            state.scope = f"{outer}.{self._name}" if outer else self._name
        try:
            if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"]:
                return call_with_hooks(self, args, kwargs)
            if state.mode & CONVERT:
                return of(self.forward)(*args, **kwargs)
            return self.forward(*args, **kwargs)
        finally:
            state.scope = outer

    # Attributes.

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if name in own["_parameters"] or is_parameter(value):
            self._set_parameter(name, value)
        elif isinstance(value, Module) or (value is None and name in own["_modules"]):
            self._put("_modules", name, value)
        elif name in own["_buffers"]:
            self._set_buffer(name, value)
        elif own.get(name, _ABSENT) is not value:
            own["_modules"].pop(name, None)
            object.__setattr__(self, name, value)
            epoch.advance()

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if name in own["_parameters"]:
            return own["_parameters"][name]
        if name in own["_modules"]:
            return own["_modules"][name]
        if name in own["_buffers"]:
            return own["_buffers"][name]
        known = [n for t in _TABLES for n in own[t]]
        hint = f"; it has {', '.join(known[:8])}" if known else ""
        raise AttributeError(f"[{type(self).__name__}] given no attribute {name!r}{hint}")

    def __delattr__(self, name: str) -> None:
        for table in _TABLES:
            if name in self.__dict__[table]:
                del self.__dict__[table][name]
                break
        else:
            object.__delattr__(self, name)
        self.__dict__["_not_saved"] -= {name}
        epoch.advance()

    def __dir__(self) -> list[str]:
        names = [*object.__dir__(self), *[n for t in _TABLES for n in self.__dict__[t]]]
        return sorted(names)

    def _put(self, table: str, name: str, value: Any) -> None:
        """Registers under a name, which is then of this kind only."""
        own = self.__dict__
        if own[table].get(name, _ABSENT) is value:
            return
        own.pop(name, None)
        for other in _TABLES:
            if other != table:
                own[other].pop(name, None)
        own[table][name] = value
        if isinstance(value, Module):
            value._rename(self._path_of(name))
        epoch.advance()

    def _rename(self, name: str) -> None:
        """The name under which recorded work shows (the last one that it was given)."""
        object.__setattr__(self, "_name", name)

    def _path_of(self, name: str) -> str:
        """What a part adds to the scope of this module's calls."""
        return name

    def _set_parameter(self, name: str, value: Any) -> None:
        if value is not None and not is_parameter(value):
            hint = f"with pa.no_grad(): module.{name}[...] = ..., or nn.Parameter(...)"
            given = f"{type(value).__name__} for the parameter `{name}`"
            raise DtypeError(message(type(self).__name__, given, "a Parameter or None", hint))
        self._put("_parameters", name, value)

    def _set_buffer(self, name: str, value: Any) -> None:
        if value is not None and type(value) is not Tensor:
            given = f"{type(value).__name__} for the buffer `{name}`"
            raise DtypeError(message(type(self).__name__, given, "a tensor or None"))
        self._put("_buffers", name, value)

    def _check_name(self, name: str) -> None:
        taken = isinstance(name, str) and name not in self.__dict__ and hasattr(type(self), name)
        if not isinstance(name, str) or not name or "." in name or taken:
            expected = "a free name without a dot"
            raise ArgumentError(message(type(self).__name__, f"the name {name!r}", expected))

    def register_parameter(self, name: str, parameter: Any) -> None:
        """Adds a parameter by name; None keeps the name for one that is not there."""
        self._check_name(name)
        self._set_parameter(name, parameter)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Adds a tensor that is state but not learned; saved only if `persistent`."""
        self._check_name(name)
        self._set_buffer(name, tensor)
        changed = {name} if not persistent else set()
        self.__dict__["_not_saved"] = (self._not_saved - {name}) | changed

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a part by name."""
        self._check_name(name)
        if module is not None and not isinstance(module, Module):
            given = f"{type(module).__name__} for the part `{name}`"
            raise DtypeError(message(type(self).__name__, given, "a Module or None"))
        self._put("_modules", name, module)

    def get_submodule(self, path: str) -> Module:
        """The part with this name, such as `"layers.0.norm"`; itself for `""`."""
        found: Any = self
        for name in path.split(".") if path else ():
            part = found._modules.get(name) if isinstance(found, Module) else None
            if part is None:
                raise AttributeError(
                    f"[{type(self).__name__}] given no part {path!r} (at {name!r})"
                )
            found = part
        return found  # type: ignore[no-any-return]

    def get_parameter(self, path: str) -> Tensor:
        """The parameter with this name, such as `"layers.0.weight"`."""
        return self._get("_parameters", path)

    def get_buffer(self, path: str) -> Tensor:
        """The buffer with this name."""
        return self._get("_buffers", path)

    def _get(self, table: str, path: str) -> Tensor:
        owner, _, name = path.rpartition(".")
        found = self.get_submodule(owner).__dict__[table].get(name)
        if found is None:
            raise AttributeError(f"[{type(self).__name__}] given no {table[1:-1]} {path!r}")
        return found  # type: ignore[no-any-return]

    # Walking.

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(name, module) of itself and all parts, outer before inner; each module once."""
        seen = set() if memo is None else memo
        if id(self) in seen:
            return
        if remove_duplicate:
            seen.add(id(self))
        yield prefix, self
        for name, part in self._modules.items():
            if part is not None:
                yield from part.named_modules(seen, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Itself and all parts, each once."""
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct parts, each once."""
        seen: set[int] = set()
        for name, part in self._modules.items():
            if part is not None and id(part) not in seen:
                seen.add(id(part))
                yield name, part

    def children(self) -> Iterator[Module]:
        """The direct parts, each once."""
        return (m for _, m in self.named_children())

    def _named(
        self, table: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        walk = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for path, module in walk if recurse else [(prefix, self)]:
            for name, tensor in module.__dict__[table].items():
                if tensor is None or (remove_duplicate and id(tensor) in seen):
                    continue
                seen.add(id(tensor))
                yield _join(path, name), tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, parameter), outer before inner; a tied one once, under its first name."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """The parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, buffer), each buffer once."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def num_parameters(self) -> int:
        """How many numbers the parameters hold; a tied one counts once.

        >>> from proa import nn
        >>> nn.Linear(4, 3).num_parameters()
        15
        """
        return sum(p.size for p in self.parameters())

    def places(self) -> Iterator[Place]:
        """Where parameters and buffers are held, under every name."""
        for path, module in self.named_modules(remove_duplicate=False):
            for table in ("_parameters", "_buffers"):
                held = module.__dict__[table]
                for key, tensor in held.items():
                    if tensor is not None:
                        yield Place(_join(path, key), held, key, table == "_buffers")

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Calls `function(module)` for every part, inner before outer; returns the module."""
        for part in self.children():
            part.apply(function)
        function(self)
        return self

    # Modes and placing.

    def train(self, mode: bool = True) -> Self:
        """Training mode for itself and all parts (dropout drops, batch norm learns its running
        values); `train(False)` is `eval()`."""
        if type(mode) is not bool:
            raise DtypeError(message("train", f"mode {mode!r:.40}", "True or False"))
        changed = [m for m in self.modules() if m.training is not mode]
        for module in changed:
            module.__dict__["training"] = mode
        if changed:
            epoch.advance()
        return self

    def eval(self) -> Self:
        """Evaluation mode for itself and all parts."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether the parameters ask for a gradient: `requires_grad_(False)` freezes them."""
        for parameter in self.parameters():
            marked(parameter)
            require_grad(parameter, bool(requires_grad))
        epoch.advance()
        return self

    def zero_grad(self) -> None:
        """Empties the gradient of every parameter."""
        for parameter in self.parameters():
            if parameter.leaf is not None:
                parameter.grad = None

    def to(self, *where: Any, device: Any = None, dtype: Any = None) -> Self:
        """Moves parameters and buffers to a device, and floats among them to a float dtype.

        The handles stay the same, so optimisers and ties keep working.

        >>> import proa as pa
        >>> from proa import nn
        >>> nn.Linear(2, 1).to(pa.float64).weight.dtype
        proa.float64
        """
        for given in where:
            if _is_dtype(given):
                dtype = given
            else:
                device = given
        of = None if dtype is None else as_dtype(dtype)
        if of is not None and not of.is_inexact:
            raise DtypeError(message("to", f"dtype {of.name}", "a float dtype"))
        place = None if device is None else as_device(device)
        with no_grad():
            for tensor in list(self._tensors()):
                _convert(tensor, of, place)
                if tensor.grad is not None:
                    _convert(tensor.grad, of, place)
        epoch.advance()
        return self

    def float(self) -> Self:
        """Floats in float32."""
        return self.to(float32)

    def double(self) -> Self:
        """Floats in float64."""
        return self.to(float64)

    def half(self) -> Self:
        """Floats in float16."""
        return self.to(float16)

    def bfloat16(self) -> Self:
        """Floats in bfloat16."""
        return self.to(bfloat16)

    # Saving and loading.

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(name, handle) of all that is saved, tied names included, in PyTorch's order."""
        for name, parameter in self._parameters.items():
            if parameter is not None:
                yield prefix + name, parameter
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._not_saved:
                yield prefix + name, buffer
        for name, part in self._modules.items():
            if part is not None:
                yield from part._named_state(f"{prefix}{name}.")

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Name -> value of parameters and persistent buffers, with PyTorch's names and order.

        The values are of this moment: training goes on without changing them.
        """
        return {name: tensor.detach() for name, tensor in self._named_state(prefix)}

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> Loaded:
        """Takes the values of a `state_dict`: tensors or NumPy arrays by name.

        Everything is checked first, and all that does not fit is told in one error; then nothing
        has changed. Handles stay the same, so optimisers, ties and jitted functions keep working.
        A dtype must be the module's or one that it holds exactly (bfloat16 in float32). The name
        of a tied parameter may be missing if another of its names is there. Without `strict`,
        missing and unexpected names are returned instead.
        """
        return load(type(self).__name__, list(self._named_state()), state_dict, strict)

    # Hooks.

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """`hook(module, args)` runs before `forward`, and may return other arguments;
        `hook(module, args, kwargs)` and (args, kwargs) with `with_kwargs`."""
        return add_hook(self, self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """`hook(module, args, output)` runs after `forward`, and may return another output;
        `hook(module, args, kwargs, output)` with `with_kwargs`."""
        return add_hook(self, self._forward_hooks, hook, prepend, with_kwargs)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False
    ) -> HookHandle:
        """`hook(module, grad_input, grad_output)` runs once for each backward pass through a call.

        Both are tuples with a gradient for each tensor among the positional arguments and in the
        result, None where there is none. The hook may return a tuple of other gradients of the
        arguments. In a jitted function it runs while `backward()` is recorded.

        >>> import proa as pa
        >>> from proa import nn
        >>> layer = nn.Linear(2, 1)
        >>> handle = layer.register_full_backward_hook(
        ...     lambda module, grad_input, grad_output: print(grad_output[0].tolist()))
        >>> layer(pa.ones((1, 2))).sum().backward()
        [[1.0]]
        >>> handle.remove()
        """
        return add_hook(self, self._backward_hooks, hook, prepend, False)

    # What `jit` compares, copying, and showing.

    def jit_fields(self) -> dict[str, Any]:
        """All that a jitted function must notice: fields, parameters, buffers, parts, hooks."""
        own = self.__dict__
        found = {name: own[name] for name in own if name not in _KEPT}
        for table in _TABLES:
            found.update(own[table])
        for table in _HOOKS:
            keyed = self._keyword_hooks
            found.update(
                {f"{table}.{key}.{key in keyed}": hook for key, hook in own[table].items()}
            )
        return found

    def clone(self) -> Self:
        """A copy apart from this module: parameters, buffers, parts and generators of its own,
        the same ties, hooks and modes, gradients empty. `copy.deepcopy` does the same.

        >>> import proa as pa
        >>> from proa import nn
        >>> one = nn.Linear(2, 2)
        >>> two = one.clone()
        >>> bool((two.weight == one.weight).all()), two.weight is one.weight
        (True, False)
        """
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: Any) -> Self:
        made = object.__new__(type(self))
        memo[id(self)] = made
        object.__setattr__(made, "_name", self._name)
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for parameter in made._parameters.values():
            if parameter is not None:
                marked(parameter)
        return made

    def _rows(self) -> list[tuple[str, str]]:
        """Name and text of each part."""
        return [(name, repr(part)) for name, part in self._modules.items()]

    def extra_repr(self) -> str:
        """What stands between the parentheses of the `repr`."""
        return ""

    def __repr__(self) -> str:
        count = self.num_parameters()
        size = f"  # {count:,} parameter{'s' * (count != 1)}" if count else ""
        rows = self._rows()
        extra = self.extra_repr()
        name = type(self).__name__
        if not rows:
            return f"{name}({extra}){size}"
        inner = [extra] if extra else []
        inner += [f"({n}): {text}" for n, text in rows]
        body = "\n".join("  " + line for text in inner for line in text.split("\n"))
        return f"{name}({size}\n{body}\n)"


_ABSENT: Final = object()


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _is_dtype(spelling: Any) -> bool:
    named = isinstance(spelling, str) and spelling in _DTYPE_NAMES
    return named or isinstance(spelling, (Dtype, type, np.dtype))


def _convert(tensor: Tensor, dtype: Dtype | None, device: Any) -> None:
    """A parameter or buffer in another dtype and place, by way of its handle."""
    new = tensor.detach()
    if device is not None:
        new = moved(new, device)
    if dtype is not None and tensor.dtype.is_inexact:
        new = new.astype(dtype)
    if new.value.spec is not tensor.value.spec.plain or device is not None:
        rebind(tensor, new.value)
