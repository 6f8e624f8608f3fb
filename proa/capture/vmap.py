"""`vmap`: a function of one example, mapped over an axis of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any, Final

from proa import tree
from proa.capture.trace import Traced, trace
from proa.errors import ArgumentError, DtypeError, JitError, ShapeError, message
from proa.graph.graph import Graph, Step
from proa.graph.spec import spec
from proa.ops import moves
from proa.ops.expand import flat
from proa.ops.movement import zeros
from proa.ops.primitive import REGISTRY, apply
from proa.ops.structure import call
from proa.shapes import as_axis
from proa.substitution import Opened, substituted
from proa.tensor import Tensor, rebind
from proa.transforms.vmap import batched_graph
from proa.tree import Structure

ADVANCE: Final = "random_advance"  # what moves the state of a generator on
RANDOMNESS: Final = ("error", "different", "same")


def vmap(
    function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, randomness: str = "error"
) -> Callable[..., Any]:
    """f of one example as a function of many: `vmap(f)(x)[i]` is `f(x[i])`.

    `in_axes` is an int for all arguments or a tuple with an int or None (not mapped) for each;
    `out_axes` likewise for the results. Arguments may be trees of tensors, and a module counts as
    the dict of its parameters and buffers by name: then a dict, list or tuple in the place of an
    int gives the axis of each part.

    What draws from a generator (dropout, `pa.rand`) is refused, unless `randomness` says what it
    shall do: `"different"` numbers for each example, or the `"same"` for all. The generator moves
    on as in one call; those of `"different"` are another stream than a loop would draw.

    >>> import proa as pa
    >>> f = pa.vmap(lambda a, b: (a * b).sum(), in_axes=(0, None))
    >>> f(pa.ones((3, 2)), pa.ones((2,))).tolist()
    [2.0, 2.0, 2.0]
    """
    if not callable(function):
        raise DtypeError(message("vmap", f"{function!r:.60}", "a function"))
    if randomness not in RANDOMNESS:
        given = f"randomness={randomness!r:.60}"
        raise ArgumentError(message("vmap", given, "one of " + ", ".join(RANDOMNESS)))

    @wraps(function)
    def mapped(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ArgumentError(
                message("vmap", f"in_axes {in_axes!r:.60}", f"{len(args)}, one for each argument")
            )
        opened = [Opened("vmap", a, whole=True) for a in args]
        leaves, flags = _leaves(opened, axes)
        count = _count(leaves, flags)
        specs = [_one(t, f) for t, f in zip(leaves, flags, strict=True)]
        one = lambda *given: _called(function, opened, given)  # noqa: E731
        traced = trace("vmap", one, specs, writes=True)
        states = _states(traced, randomness)
        captured, moved = [*traced.captured], [False] * len(traced.captured)
        if randomness == "different":
            for i in states:
                captured[i], moved[i] = _streams(captured[i], count).value, True
        main = _returned(traced)
        graph = batched_graph(main, (*flags, *moved), count)
        outs = apply(call, [*leaves, *captured], graph=graph) if graph.outputs else ()
        outs = outs if isinstance(outs, tuple) else (outs,)
        for (handle, _), draws in zip(traced.written, states.values(), strict=True):
            for _ in range(draws):
                rebind(handle, apply(REGISTRY[ADVANCE], (handle,)).value)
        rest = iter(outs)
        results = [next(rest) if s is None else s for s in traced.statics]
        return _placed(tree.unflatten(traced.structure, results), out_axes)

    return mapped


def _leaves(opened: list[Opened], axes: Any) -> tuple[list[Tensor], list[bool]]:
    """Tensors with the mapped axis first, and which are mapped."""
    tensors: list[Tensor] = []
    flags: list[bool] = []
    for argument, given in zip(opened, axes, strict=True):
        of_leaves = _spread(given, argument.structure)
        for t, axis in zip(argument.tensors, of_leaves, strict=True):
            if type(t) is not Tensor:
                raise DtypeError(
                    message("vmap", f"an argument of type {type(t).__name__}", "tensors")
                )
            if axis is not None:
                if t.ndim == 0:
                    raise ShapeError(
                        message("vmap", "a tensor of 0 axes", "an axis to map", "in_axes=None")
                    )
                t = moves.moveaxis(t, as_axis("vmap", axis, t.ndim), 0)
            tensors.append(t)
            flags.append(axis is not None)
    return tensors, flags


def _spread(axes: Any, structure: Structure) -> list[Any]:
    """The axis of each leaf, of a tree that may end above the leaves."""
    if not isinstance(axes, (dict, list, tuple)):
        return [axes] * structure.leaves
    if isinstance(axes, dict):
        fits = structure.kind is dict and axes.keys() == set(structure.keys)
        parts = [axes.get(key) for key in structure.keys]
    else:
        fits = structure.kind not in (None, dict) and len(axes) == len(structure.children)
        parts = list(axes)
    if not fits:
        given, expected = f"in_axes {axes!r:.60}", f"a tree that begins as {structure!r:.200}"
        raise ArgumentError(message("vmap", given, expected))
    spread = [_spread(a, c) for a, c in zip(parts, structure.children, strict=True)]
    return [axis for part in spread for axis in part]


def _count(tensors: list[Tensor], flags: list[bool]) -> int:
    sizes = {t.shape[0] for t, f in zip(tensors, flags, strict=True) if f}
    if len(sizes) != 1:
        given = f"mapped axes of sizes {sorted(sizes)}"
        raise ShapeError(message("vmap", given, "one size", "in_axes with at least one axis"))
    return sizes.pop()


def _one(tensor: Tensor, mapped: bool) -> Any:
    of = tensor.value.spec
    return spec(of.shape[1:], of.dtype, of.weak, of.grad) if mapped else of


def _called(function: Any, opened: list[Opened], leaves: tuple[Any, ...]) -> Any:
    """The function on one example of its arguments; what belongs into modules stands in them."""
    rest = iter(leaves)
    closed = [o.closed([next(rest) for _ in o.tensors]) for o in opened]
    standing = [s for _, more in closed for s in more]
    with substituted("vmap", standing) if standing else nullcontext():
        return function(*[argument for argument, _ in closed])


def _placed(result: Any, out_axes: Any) -> Any:
    """Results with the mapped axis where it was asked for."""

    def place(t: Any, axis: Any) -> Any:
        last = as_axis("vmap", axis, t.ndim) if type(t) is Tensor else 0
        return moves.moveaxis(t, 0, last) if last else t

    if isinstance(out_axes, (tuple, list)):
        if not isinstance(result, (tuple, list)) or len(result) != len(out_axes):
            raise ArgumentError(message("vmap", f"out_axes {out_axes!r:.60}", "one a result"))
        return tuple(
            [tree.map(lambda t, a=a: place(t, a), r) for r, a in zip(result, out_axes, strict=True)]
        )
    return tree.map(lambda t: place(t, out_axes), result)


# Random numbers.


def _states(traced: Traced, randomness: str) -> dict[int, int]:
    """Where among what was captured the state of each generator is, and how many draws it made.
    Nothing else may be assigned."""
    if not traced.written:
        return {}
    graph = flat(traced.graph, keeps=lambda e: e.primitive.name == ADVANCE)
    first = len(graph.inputs) - len(traced.captured)
    written = graph.outputs[len(graph.outputs) - len(traced.written) :]
    maker: dict[int, Step] = {}
    slot = graph.first_step_slot
    for step in graph.steps:
        for _ in step.entry.outs:
            maker[slot], slot = step, slot + 1
    found = {}
    for (handle, _), out in zip(traced.written, written, strict=True):
        draws = 0
        while out in maker and maker[out].entry.primitive.name == ADVANCE:
            out, draws = maker[out].slots[0], draws + 1
        is_state = first <= out < len(graph.inputs)
        if not is_state or traced.captured[out - first] is not handle.value:
            given, hint = "an assignment to a tensor from outside", "returning the new value"
            raise JitError(message("vmap", given, "a function without effects", hint))
        if randomness == "error":
            hint = 'randomness="different" (for each example) or "same"'
            raise JitError(message("vmap", "a draw of random numbers", "none", hint))
        found[out - first] = draws
    return found


def _returned(traced: Traced) -> Graph:
    """The graph without what it puts into handles."""
    graph, count = traced.graph, len(traced.written)
    if not count:
        return graph
    return Graph(graph.inputs, graph.steps, graph.outputs[:-count], graph.constants)


def _streams(state: Any, count: int) -> Any:
    """States of their own for so many examples: their keys are drawn from the state."""
    keys = apply(REGISTRY["random_bits"], (state,), shape=(count, 2))
    return apply(REGISTRY["concatenate"], (keys, zeros((count, 2), keys.value.spec)), axis=1)
