"""Derivatives of one's own: `custom_vjp`."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, final

from proa import dtypes, tree
from proa.capture.skeleton import Skeleton, roots
from proa.capture.trace import Traced, trace
from proa.errors import DtypeError, GradientError, message
from proa.graph.build import current_sink
from proa.graph.rewrite import splice
from proa.ops.expand import composite
from proa.ops.movement import zeros
from proa.ops.primitive import apply
from proa.tensor import Tensor


def _expand(*operands: Any, graph: Any, pull: Any, count: int) -> tuple[Any, ...]:
    return tuple(splice(current_sink(), graph, operands[: len(graph.inputs)]))


def _pull(operands: Any, results: Any, cts: Any, graph: Any, pull: Any, count: int) -> list[Any]:
    """Cotangents of the first `count` operands; what was captured from outside gets none.

    Operands: the arguments, what the function captured, what the rule captured.
    """
    given = [
        zeros(r.spec.shape, r.spec) if ct is None else ct
        for r, ct in zip(results, cts, strict=True)
    ]
    own = len(graph.inputs)
    found = splice(current_sink(), pull, [*operands[:own], *given, *operands[own:]])
    return [*found, *[None] * (len(operands) - count)]


custom = composite(
    "custom", _expand, params=("graph", "pull", "count"), pullback=_pull,
    doc="A function with a derivative of its own.",
)  # fmt: skip


@final
class custom_vjp:  # noqa: N801  (a decorator)
    """A function of tensors whose reverse-mode derivative is given.

    `forward(*args)` returns (result, residuals); `backward(residuals, cotangent)` returns one
    cotangent for each argument. Both run where a new structure is met, or where what they can
    reach has changed, not at each call.

    >>> import proa as pa
    >>> @pa.custom_vjp
    ... def f(x):
    ...     return x * x
    >>> f.defvjp(lambda x: (x * x, x), lambda x, ct: (3.0 * x * ct,))
    >>> pa.grad(f)(pa.asarray(2.0)).item()
    6.0
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise DtypeError(message("custom_vjp", f"{function!r:.60}", "a function"))
        self.function = function
        self.forward: Callable[..., Any] | None = None
        self.backward: Callable[..., Any] | None = None
        self.traces: dict[Any, tuple[Traced, Traced]] = {}
        self.skeleton = Skeleton(self._reached)
        update_wrapper(self, function, updated=())

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Gives the rule, before the function is used; given again, the new one holds."""
        self.forward, self.backward = forward, backward
        self.traces.clear()

    def _reached(self) -> list[Any]:
        return [*roots(self.function), *roots(self.forward), *roots(self.backward)]

    def __call__(self, *args: Any) -> Any:
        if self.forward is None or self.backward is None:
            raise GradientError(
                message("custom_vjp", "a function without a rule", "f.defvjp(forward, backward)")
            )
        leaves, structure = tree.flatten(args)
        for leaf in leaves:
            if type(leaf) is not Tensor:
                raise DtypeError(
                    message("custom_vjp", f"an argument {type(leaf).__name__}", "tensors")
                )
        main, pull = self._traced(leaves, structure)
        operands: list[Any] = [*leaves, *main.captured, *pull.captured]
        graph = main.graph
        outs = apply(custom, operands, graph=graph, pull=pull.graph, count=len(leaves))
        outs = list(outs) if isinstance(outs, tuple) else [outs]
        results = [outs.pop(0) if s is None else s for s in main.statics]
        return tree.unflatten(main.structure, results)

    def _traced(self, leaves: list[Any], structure: Any) -> tuple[Traced, Traced]:
        specs = [t.value.spec.plain for t in leaves]
        key = (structure, tuple(specs), self.skeleton.token(), dtypes.default_float())
        found = self.traces.get(key)
        # What was captured, numbers too, may be another at the next call: then trace again.
        if found is None or found[0].captured or found[1].captured:
            main = trace(
                "custom_vjp", lambda *t: self.function(*tree.unflatten(structure, t)), specs
            )
            outs = list(main.graph.output_specs())
            captured = [v.spec.plain for v in main.captured]
            pull = trace(
                "custom_vjp",
                self._pullback(structure, len(leaves), len(captured)),
                [*specs, *captured, *outs],
            )
            found = self.traces[key] = (main, pull)
        return found

    def _pullback(self, structure: Any, count: int, captured: int) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            out, residuals = self.forward(*tree.unflatten(structure, given[:count]))  # type: ignore[misc]
            cts = tree.unflatten(tree.flatten(out)[1], given[count + captured :])
            found = self.backward(residuals, cts)  # type: ignore[misc]
            flat = tree.flatten(tuple(found) if isinstance(found, (list, tuple)) else (found,))[0]
            if len(flat) != count:
                raise GradientError(message("custom_vjp", f"{len(flat)} cotangents", f"{count}"))
            return tuple([_checked(ct, of) for ct, of in zip(flat, given[:count], strict=True)])

        return run


def _checked(ct: Any, of: Tensor) -> Any:
    if ct is None:
        return zeros(of.shape, of.value.spec)
    if type(ct) is not Tensor or ct.shape != of.shape or ct.dtype is not of.dtype:
        given = repr(ct.value.spec) if type(ct) is Tensor else type(ct).__name__
        raise GradientError(message("custom_vjp", f"a cotangent {given}", f"{of.value.spec.plain}"))
    return ct
