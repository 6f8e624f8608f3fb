"""`checkpoint`: a function whose inside is computed again in the backward pass, not kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from proa.capture.control import taken, traced
from proa.errors import DtypeError, message
from proa.graph.build import current_sink
from proa.graph.rewrite import splice
from proa.ops.expand import composite
from proa.ops.primitive import apply
from proa.ops.structure import keep
from proa.transforms.reverse import reverse
from proa.transforms.vmap import batched_graph


def _expand(*operands: Any, graph: Any) -> tuple[Any, ...]:
    return tuple(splice(current_sink(), graph, operands))


def _pull(operands: Any, results: Any, cts: Any, graph: Any) -> list[Any]:
    """The graph once more on operands that are kept apart: equal steps are not merged with those
    of the forward pass."""
    again = [apply(keep, (o,), number=0) for o in operands]
    floats = [i for i, o in enumerate(operands) if o.value.spec.dtype.is_inexact]
    return reverse(graph, again, cts, floats)


def _batch(primitive: Any, operands: Any, flags: Any, params: dict[str, Any]) -> Any:
    count = next(o.value.spec.shape[0] for o, f in zip(operands, flags, strict=True) if f)
    return apply(primitive, operands, graph=batched_graph(params["graph"], tuple(flags), count))


again_ = composite(
    "checkpoint", _expand, params=("graph",), pullback=_pull, batch=_batch,
    doc="A function of which reverse mode keeps the operands alone.",
)  # fmt: skip


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of which reverse mode keeps only what it is given.

    Its inside is computed again in the backward pass: less memory, one more forward pass. Values
    have the same bits; so have gradients, but that those of an operand with several uses inside
    are added up inside first. The function takes and returns trees of tensors; it may read tensors
    from outside and assign none.

    Errors:
        DtypeError: `function` cannot be called, or an argument is no tensor or number.

    >>> import proa as pa
    >>> f = pa.checkpoint(lambda x: pa.sin(pa.sin(x)))
    >>> f"{pa.grad(f)(pa.asarray(0.5)).item():.4f}"
    '0.7786'
    """
    if not callable(function):
        raise DtypeError(message("checkpoint", f"{function!r:.60}", "a function"))

    @wraps(function)
    def run(*args: Any) -> Any:
        values, form = taken("checkpoint", args)
        specs = [v.value.spec for v in values]
        whole, result = traced("checkpoint", lambda *t: function(*form.filled(t)), specs)
        if not whole.graph.outputs:
            return result.filled(())
        outs = apply(again_, [*values, *whole.captured], graph=whole.graph)
        return result.filled(outs if isinstance(outs, tuple) else (outs,))

    return run
