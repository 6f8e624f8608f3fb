"""Modules as functions of their parameters: `functional_call`, and ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.nn.module import Module
from proa.ops import moves
from proa.shapes import as_list
from proa.substitution import Place, Substitution, named
from proa.tensor import Tensor, no_grad

SHOWN = 20


def functional_call(
    module: Module, parameters: Any, args: Any = (), kwargs: Any = None, *, strict: bool = True,
    mutable: bool = False,
) -> Any:  # fmt: skip
    """`module(*args, **kwargs)` with other tensors in the place of its parameters and buffers.

    The module is unchanged afterwards, and the tensors given are never assigned to. Derivatives
    are those of the tensors given. To be used under `grad`, `jvp`, `vmap` and `jit`; while it runs
    no other thread may use the module.

    Arguments:
        module: what is called.
        parameters: tensors by name, as `named_parameters` and `named_buffers` name them, or a
            list of such dicts. A tied tensor is given under one of its names, and stands under
            all. Shapes are the module's own; another float dtype is allowed.
        args, kwargs: of the call; what is no tuple is the one argument.
        strict: every parameter must be given. Buffers that are not given, and without `strict`
            also parameters, are the module's own.
        mutable: the result is (result, buffers), with the new value of every buffer given.
            Without it a call that assigns to one (batch normalisation in training) is refused.

    Errors:
        ArgumentError: unknown or missing names, two values for tied ones (all of it in one
            message); an assignment that nobody would see.
        ShapeError, DtypeError: a tensor does not fit its name.

    >>> import proa as pa
    >>> from proa import nn
    >>> layer = nn.Linear(2, 1)
    >>> zero = {name: pa.zeros(p.shape) for name, p in layer.named_parameters()}
    >>> nn.functional_call(layer, zero, pa.ones((1, 2))).tolist()
    [[0.0]]
    """
    op = "functional_call"
    if not isinstance(module, Module):
        raise DtypeError(message(op, f"{module!r:.60}", "a Module"))
    places = {place.path: place for place in module.places()}
    given = _one_dict(op, parameters)
    standing = _checked(op, places, given, strict)
    args = args if isinstance(args, tuple) else (args,)
    hint = "mutable=True, module.eval(), or returning the new value"
    substitution = Substitution(op, module, standing, hint)
    with substitution:
        result = module(*args, **(kwargs or {}))
    if not mutable:
        substitution.refuse_changes()
        return result
    changed = {}
    for path, (place, now) in substitution.changed.items():
        if not place.is_buffer or type(now) is not Tensor:
            substitution.refuse_changes()
        changed[path] = now
    buffers = {path: t for path, t in given.items() if places[path].is_buffer}
    return result, {path: changed.get(path, t) for path, t in buffers.items()}


def _one_dict(op: str, parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    parts = [parameters] if isinstance(parameters, Mapping) else as_list(op, "dicts", parameters)
    for part in parts:
        if not isinstance(part, Mapping):
            raise DtypeError(message(op, f"parameters {part!r:.60}", "a dict of tensors by name"))
        twice = [name for name in part if name in found]
        if twice:
            raise ArgumentError(message(op, f"{twice[0]!r} in two dicts", "each name once"))
        found.update(part)
    return found


def _checked(op: str, places: dict[str, Place], given: dict[str, Any], strict: bool) -> Any:
    """What stands in for each tensor, by its `id`."""
    wrong = []
    for name in given:
        if name not in places:
            near = get_close_matches(str(name), places, n=1, cutoff=0.6)
            wrong.append(f"unknown: {name}" + (f" (near: {near[0]})" if near else ""))
    standing: dict[int, Any] = {}
    for name, place in places.items():
        if name in given:
            old, new = place.table[place.key], given[name]
            _fits(op, name, old, new)
            if standing.setdefault(id(old), new) is not new:
                wrong.append(f"tied: {name} has another name here, with another tensor")
    if strict:
        missing = [
            name for name, place in places.items()
            if not place.is_buffer and id(place.table[place.key]) not in standing
        ]  # fmt: skip
        wrong = [f"missing: {name}" for name in missing] + wrong
    if wrong:
        more = [f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        lines = "\n  ".join(wrong[:SHOWN] + more)
        hint = "strict=False for missing names" if strict else ""
        expected = "the module's names"
        raise ArgumentError(message(op, f"names that do not fit:\n  {lines}\n", expected, hint))
    return standing


def _fits(op: str, name: str, old: Tensor, new: Any) -> None:
    if type(new) is not Tensor:
        hint = "pa.asarray(...)"
        raise DtypeError(message(op, f"`{name}` of type {type(new).__name__}", "a tensor", hint))
    if new.shape != old.shape:
        raise ShapeError(message(op, f"`{name}` of shape {new.shape}", f"{old.shape}"))
    if new.dtype is not old.dtype and not (new.dtype.is_float and old.dtype.is_float):
        raise DtypeError(message(op, f"`{name}` of {new.dtype.name}", f"{old.dtype.name}"))


def stack_modules(modules: Sequence[Module]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and buffers of modules of one architecture, each stacked along a new first axis.

    For ensembles: `vmap` of a `functional_call` of any of the modules runs them all at once, and
    on `cpu` gives the bits of running them one by one. The parameters are leaves of their own
    that ask for a gradient where all of the modules' do.

    Errors:
        ArgumentError: no modules, or modules of different classes, names, shapes or modes.

    >>> import proa as pa
    >>> from proa import nn
    >>> layers = [nn.Linear(2, 3) for _ in range(4)]
    >>> parameters, buffers = nn.stack_modules(layers)
    >>> one = lambda p, x: nn.functional_call(layers[0], p, x)
    >>> pa.vmap(one, in_axes=(0, None))(parameters, pa.ones((5, 2))).shape
    (4, 5, 3)
    """
    op = "stack_modules"
    listed: list[Any] = as_list(op, "modules", modules)
    if not listed or not all(isinstance(m, Module) for m in listed):
        raise ArgumentError(message(op, f"{modules!r:.60}", "modules, at least one"))
    first = listed[0]
    rows = [_described(m) for m in listed]
    for m, row in zip(listed, rows, strict=True):
        if row != rows[0]:
            other = [str(b) for a, b in zip(rows[0], row, strict=False) if a != b]
            given = f"a {type(m).__name__} that differs at {(other or ['its names'])[0]}"
            raise ArgumentError(message(op, given, f"{type(first).__name__}s alike"))
    kinds = {place.path: place.is_buffer for place in first.places()}
    columns = {name: [named(m)[name] for m in listed] for name in named(first)}
    parameters: dict[str, Any] = {}
    buffers: dict[str, Any] = {}
    for name, column in columns.items():
        with no_grad():
            stacked = moves.stack(column)
        if not kinds[name] and all(t.requires_grad for t in column):
            stacked.requires_grad_()
        (buffers if kinds[name] else parameters)[name] = stacked
    return parameters, buffers


def _described(module: Module) -> list[Any]:
    """What modules that are stacked have in common."""
    tied = {id(t): name for name, t in reversed(named(module).items())}
    tensors = [
        (place.path, tied[id(t := place.table[place.key])], t.value.spec.plain)
        for place in module.places()
    ]
    modes = [(name, type(m).__name__, m.training) for name, m in module.named_modules()]
    return [*modes, *tensors]
