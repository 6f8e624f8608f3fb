"""Gradient clipping: all gradients in one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from proa.compile.find import default_device
from proa.dtypes import float32, float64, promote
from proa.errors import ArgumentError, DtypeError, GradientError, message
from proa.graph.build import Builder, current_sink, use_sink
from proa.graph.graph import Graph, Role
from proa.graph.spec import Spec, spec
from proa.ops import arithmetic as ar
from proa.ops import functions as fn
from proa.ops import operators as op
from proa.ops import reduce
from proa.ops.composite.common import real
from proa.ops.primitive import apply, cast_to, number_of
from proa.ops.structure import call
from proa.optim.group import NUMBER
from proa.optim.optimizer import inner_dtype
from proa.record.live import CAPTURE, NO_GRAD, thread, use_mode
from proa.tensor import Tensor, put, rebind

SMALL: Final = 1e-6


def clip_grad_norm_(
    parameters: Any, max_norm: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scales all gradients by min(1, max_norm / (norm + 1e-6)); returns their norm before.

    The norm is that of all gradients as one vector: (sum |g|^n)^(1 / n) for norm_type n, the
    largest |g| for "inf". Gradients that are empty are left out. `error_if_nonfinite` reads the
    norm, and raises before anything is changed.

    >>> import proa as pa
    >>> from proa import optim
    >>> w = pa.asarray([0.0, 0.0]).requires_grad_()
    >>> (w * pa.asarray([3.0, 4.0])).sum().backward()
    >>> optim.clip_grad_norm_([w], 1.0).item()
    5.0
    """
    name = "clip_grad_norm_"
    held = _gradients(name, parameters)
    kind = _norm_type(name, norm_type)
    limit = _limit(name, "max_norm", max_norm)
    if not held:
        return put(0.0, spec((), float32), thread.state.device or default_device())
    outs = _applied(_norm_graph(_specs(held), kind), limit, held)
    total = outs[0]
    if error_if_nonfinite:
        _refuse_nonfinite(name, total)
    for g, out in zip(held, outs[1:], strict=True):
        rebind(g, out.value)
    return total


def clip_grad_value_(parameters: Any, clip_value: Any) -> None:
    """Limits every element of all gradients to -clip_value <= g <= clip_value."""
    name = "clip_grad_value_"
    held = _gradients(name, parameters)
    limit = _limit(name, "clip_value", clip_value)
    if held:
        outs = _applied(_value_graph(_specs(held)), limit, held)
        for g, out in zip(held, outs, strict=True):
            rebind(g, out.value)


def _gradients(name: str, parameters: Any) -> list[Tensor]:
    """The gradients that are there."""
    if type(parameters) is Tensor:
        parameters = [parameters]
    if isinstance(parameters, (str, bytes, dict)) or not isinstance(parameters, Iterable):
        given = f"parameters of type {type(parameters).__name__}"
        raise DtypeError(message(name, given, "tensors", "model.parameters()"))
    found = {}
    for p in parameters:
        if type(p) is not Tensor:
            given = f"a parameter of type {type(p).__name__}"
            raise DtypeError(message(name, given, "a tensor", "model.parameters()"))
        if (g := p.grad) is not None:
            found[id(g)] = g
    return list(found.values())


def _norm_type(name: str, given: Any) -> float:
    if isinstance(given, str) and given == "inf":
        return float("inf")
    number = real(name, "norm_type", given)
    if not number > 0:
        raise ArgumentError(message(name, f"norm_type {given!r:.40}", 'a positive number or "inf"'))
    return number


def _limit(name: str, what: str, given: Any) -> Any:
    """The limit as an input of the program: another number is no other program."""
    if number_of(given) is None:
        if type(given) is Tensor and given.shape == () and given.dtype.kind in ("int", "float"):
            return op.astype(given.detach(), float64)
        raise DtypeError(message(name, f"{what} {given!r:.40}", "a number or a tensor of 0 axes"))
    return current_sink().number(real(name, what, given, 0.0), NUMBER)


def _specs(held: Sequence[Tensor]) -> tuple[Spec, ...]:
    return tuple([g.value.spec.plain for g in held])


def _applied(graph: Graph, limit: Any, held: Sequence[Tensor]) -> tuple[Tensor, ...]:
    with use_mode(NO_GRAD, True):
        outs = apply(call, [limit, *held], graph=graph)
    return outs if type(outs) is tuple else (outs,)


def _refuse_nonfinite(name: str, total: Tensor) -> None:
    if thread.state.mode & CAPTURE:
        given = "error_if_nonfinite=True inside jit"
        raise GradientError(
            message(name, given, "no reading while recording", "returning the norm")
        )
    if not bool(op.astype(fn.is_finite(total), bool)):
        given = f"gradients of norm {total.item()}"
        raise GradientError(message(name, given, "a finite norm", "error_if_nonfinite=False"))


def _built(specs: Sequence[Spec], body: Callable[[Any, list[Any]], list[Any]]) -> Graph:
    builder = Builder()
    with use_sink(builder):
        limit = builder.input(NUMBER, Role.SCALAR)
        outs = body(limit, [builder.input(s) for s in specs])
        return builder.graph([o.value for o in outs])


@lru_cache(maxsize=64)
def _norm_graph(specs: tuple[Spec, ...], kind: float) -> Graph:
    """The total norm, then each gradient scaled. Narrow gradients are widened, scaled, rounded."""
    wide = float32
    for s in specs:
        wide = promote(wide, inner_dtype(s.dtype))

    def body(limit: Any, given: list[Any]) -> list[Any]:
        inside = [cast_to(g, inner_dtype(g.spec.dtype)).value for g in given]
        parts = [cast_to(_part(g, kind), wide).value for g in inside if g.spec.size]
        total = _joined(parts, kind) if parts else cast_to(limit * 0.0, wide).value
        scale = limit / (cast_to(total, float64) + SMALL)
        scale = op.where(scale > 1.0, 1.0, scale)
        scaled = [g * cast_to(scale, g.spec.dtype) for g in inside]
        return [total, *[cast_to(g, s.dtype) for g, s in zip(scaled, specs, strict=True)]]

    return _built(specs, body)


def _part(g: Any, kind: float) -> Any:
    if kind == float("inf"):
        return reduce.max(fn.abs(g))
    if kind == 2.0:
        return reduce.sum(g * g)
    return reduce.sum(fn.abs(g) if kind == 1.0 else ar.pow(fn.abs(g), kind))


def _joined(parts: list[Any], kind: float) -> Any:
    total: Any = parts[0]
    for part in parts[1:]:
        total = ar.maximum(total, part) if kind == float("inf") else total + part
    if kind == 2.0:
        return fn.sqrt(total)
    return total if kind in (1.0, float("inf")) else ar.pow(total, 1.0 / kind)


@lru_cache(maxsize=64)
def _value_graph(specs: tuple[Spec, ...]) -> Graph:
    def body(limit: Any, given: list[Any]) -> list[Any]:
        found = []
        for g in given:
            high = cast_to(limit, g.spec.dtype).value
            g = ar.select(g < -high, -high, g)
            found.append(ar.select(high < g, high, g))
        return found

    return _built(specs, body)
