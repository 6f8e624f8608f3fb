"""Hooks: functions that run before or after a module's `forward`, and with its gradients."""

from __future__ import annotations

from typing import Any, final

from proa import tree
from proa.autograd import add_hook as add_gradient_hook
from proa.capture.convert import of
from proa.convert import again
from proa.errors import ArgumentError, DtypeError, message
from proa.record.live import CONVERT, epoch, thread
from proa.tensor import Tensor, is_grad_enabled


@final
class HookHandle:
    """What `register_forward_hook` returns: `remove()` takes the hook away."""

    __slots__ = ("table", "key", "hook")

    def __init__(self, table: dict[int, Any], key: int, hook: Any) -> None:
        self.table = table
        self.key = key
        self.hook = hook

    def remove(self) -> None:
        if self.table.get(self.key) is self.hook:
            del self.table[self.key]
            epoch.advance()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def call_with_hooks(module: Any, args: Any, kwargs: Any) -> Any:
    """What `module(*args, **kwargs)` computes where it has hooks."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if key in module._keyword_hooks:
            args, kwargs = hook(module, args, kwargs) or (args, kwargs)
            continue
        found = hook(module, args)
        if found is not None:
            args = found if isinstance(found, tuple) else (found,)
    watched = _Backward(module) if module._backward_hooks and is_grad_enabled() else None
    if watched is not None:
        args = watched.arguments(args)
    forward = of(module.forward) if thread.state.mode & CONVERT else module.forward
    result = forward(*args, **kwargs)
    for key, hook in list(module._forward_hooks.items()):
        named = (kwargs,) if key in module._keyword_hooks else ()
        found = hook(module, args, *named, result)
        result = result if found is None else found
    return result if watched is None else watched.result(result)


def add_hook(module: Any, table: Any, hook: Any, prepend: bool, with_kwargs: bool) -> HookHandle:
    """Adds to one of a module's tables of hooks, at its end or (`prepend`) its beginning."""
    if not callable(hook):
        raise DtypeError(message("register_hook", f"{hook!r:.60}", "a function"))
    tables = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    key = 1 + max([key for t in tables for key in t], default=-1)
    rest = dict(table)
    table[key] = hook
    if prepend:
        table.clear()
        table.update({key: hook, **rest})
    keyed = module._keyword_hooks - {key}
    module.__dict__["_keyword_hooks"] = keyed | {key} if with_kwargs else keyed
    epoch.advance()
    return HookHandle(table, key, hook)


@final
class _Backward:
    """The gradients of one call of a module, on their way to its backward hooks.

    Arguments and results pass through two copies each. In a backward pass the copies next to
    `forward` are reached first, and note their gradient; when the first of the others is reached
    all gradients are known, the hooks run, and each of these copies takes what they gave.
    """

    __slots__ = ("module", "sizes", "has_inputs", "grad_output", "grad_input", "replaced")

    def __init__(self, module: Any) -> None:
        self.module = module
        self.sizes = [0, 0]  # tensors in the arguments, and in the result
        self.has_inputs = False
        # Nothing is held beyond a backward pass: the tape holds this object.
        self.grad_output: dict[int, Any] = {}
        self.grad_input: dict[int, Any] = {}
        self.replaced: dict[int, Any] | None = None

    def arguments(self, args: Any) -> Any:
        """The arguments as `forward` gets them."""
        leaves, structure = tree.flatten(args)
        self.sizes[0] = len(leaves)
        tracked = [i for i, t in enumerate(leaves) if type(t) is Tensor and t.requires_grad]
        self.has_inputs = bool(tracked)
        for turn in (self.run_for, self.note_input):
            for i in tracked:
                leaves[i] = again(leaves[i])
                add_gradient_hook(leaves[i], _numbered(turn, i))
        return tree.unflatten(structure, leaves)

    def result(self, result: Any) -> Any:
        """The result as the caller gets it."""
        leaves, structure = tree.flatten(result)
        self.sizes[1] = len(leaves)
        tracked = [i for i, t in enumerate(leaves) if type(t) is Tensor and t.requires_grad]
        turns = [self.note_output] if self.has_inputs else [self.run_without, self.note_output]
        for turn in turns:
            for i in tracked:
                leaves[i] = again(leaves[i])
                add_gradient_hook(leaves[i], _numbered(turn, i))
        return tree.unflatten(structure, leaves)

    def note_output(self, i: int, gradient: Any) -> None:
        self.replaced = None  # a backward pass begins
        self.grad_output[i] = gradient

    def note_input(self, i: int, gradient: Any) -> None:
        self.grad_input[i] = gradient

    def run_for(self, i: int, gradient: Any) -> Any:
        """The gradient of an argument after the hooks, which run once."""
        if self.replaced is None:
            self.replaced = self._run()
        return self.replaced.pop(i)

    def run_without(self, i: int, gradient: Any) -> None:
        """No argument is on the tape: the hooks only see."""
        if self.replaced is None:
            self.replaced = self._run()

    def _run(self) -> dict[int, Any]:
        noted, given = self.grad_input, self.grad_output
        self.grad_input, self.grad_output = {}, {}
        gradients = [noted.get(i) for i in range(self.sizes[0])]
        outer = tuple([given.get(i) for i in range(self.sizes[1])])
        for hook in list(self.module._backward_hooks.values()):
            found = hook(self.module, tuple(gradients), outer)
            if found is None:
                continue
            found = found if isinstance(found, tuple) else (found,)
            if len(found) != len(gradients):
                given_text = f"{len(found)} gradients from a backward hook"
                expected = f"{len(gradients)}, one for each argument"
                raise ArgumentError(message(type(self.module).__name__, given_text, expected))
            pairs = zip(gradients, found, strict=True)
            gradients = [old if new is None else new for old, new in pairs]
        return {i: gradients[i] for i in noted}


def _numbered(function: Any, i: int) -> Any:
    return lambda gradient: function(i, gradient)
