"""Hooks: functions that run before or after a module's `forward`."""

from __future__ import annotations

from typing import Any, final

from proa.errors import DtypeError, message
from proa.record.live import epoch


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
    result = module.forward(*args, **kwargs)
    for key, hook in list(module._forward_hooks.items()):
        named = (kwargs,) if key in module._keyword_hooks else ()
        found = hook(module, args, *named, result)
        result = result if found is None else found
    return result


def add_hook(module: Any, table: Any, hook: Any, prepend: bool, with_kwargs: bool) -> HookHandle:
    """Adds to one of a module's tables of hooks, at its end or (`prepend`) its beginning."""
    if not callable(hook):
        raise DtypeError(message("register_hook", f"{hook!r:.60}", "a function"))
    key = 1 + max([*module._forward_hooks, *module._forward_pre_hooks], default=-1)
    rest = dict(table)
    table[key] = hook
    if prepend:
        table.clear()
        table.update({key: hook, **rest})
    keyed = module._keyword_hooks - {key}
    module.__dict__["_keyword_hooks"] = keyed | {key} if with_kwargs else keyed
    epoch.advance()
    return HookHandle(table, key, hook)
