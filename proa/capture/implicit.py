"""Linear functions and equations: transposes of one's own, and derivatives that follow from what a
result means, not from how it was found (`linear_solve`, `root`).

Each traces the functions that it is given, makes operands of all that they read from outside, and
records one operation; its rules are in `transforms/linear.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proa import tree
from proa.capture.control import (
    Form,
    joined,
    many,
    need_function,
    need_same,
    specs_of,
    taken,
    traced,
)
from proa.capture.trace import Traced
from proa.dtypes import dtype as as_dtype
from proa.errors import ArgumentError, DtypeError, message
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.spec import Spec, spec
from proa.ops.movement import zeros
from proa.ops.primitive import apply
from proa.ops.structure import call
from proa.tensor import Tensor
from proa.transforms import linear
from proa.transforms.jvp import push

Function = Callable[..., Any]


def _floats(name: str, what: str, values: Sequence[Any], form: Form) -> list[Spec]:
    """The specs of a tree of float tensors, of which there must be one."""
    specs = [s.plain for s in specs_of(values)]
    if not specs:
        raise ArgumentError(message(name, f"{what} without tensors", "at least one"))
    for of, path in zip(specs, form.paths, strict=True):
        if not of.dtype.is_inexact:
            raise DtypeError(message(name, f"{what}{path} of {of.dtype.name}", "a float dtype"))
    return specs


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [v if type(v) is Tensor else Tensor(v.value) for v in values]


def _like(name: str, what: str, function: Function, specs: Sequence[Spec], form: Form) -> Traced:
    """A function, traced, whose result is a tree like the one it is about."""
    found, result = traced(name, function, specs)
    given, count = found.graph.output_specs(), form.size
    need_same(name, what, given, [s.plain for s in specs[:count]], (result, form), "")
    return found


def _called(graph: Graph, constants: Sequence[Any], form: Form) -> Function:
    """A graph behind constants as a function of a tree."""

    def run(given: Any) -> Any:
        leaves, same = taken("call", given)
        need_same("call", "an argument", [s.plain for s in specs_of(leaves)],
                  graph.input_specs()[len(constants) :], (same, form), "")  # fmt: skip
        return form.filled(many(apply(call, [*constants, *leaves], graph=graph)))

    return run


def linear_call(
    fun: Function, fun_transpose: Function, residual_args: Any, linear_args: Any
) -> Any:
    """`fun(residual_args, linear_args)`, with a transpose of its own.

    Forward mode moves through `fun`; reverse mode uses `fun_transpose`, and where that is
    transposed `fun` again. By the residuals `fun` is differentiated as it is written.

    Arguments:
        fun: linear in its second argument. It may read tensors from outside.
        fun_transpose: a function of (residual_args, cotangent) that gives a tree like linear_args.
        residual_args, linear_args: trees of tensors, the latter of floats.

    Errors:
        GradientError: `fun` is not linear; the message names the line.
        ArgumentError: `fun_transpose` gives another form; the message names the leaf.

    >>> import proa as pa
    >>> half = lambda x: pa.linear_call(lambda r, x: x / r, lambda r, ct: ct / r, 2.0, x)
    >>> half(pa.asarray(3.0)).item(), pa.grad(half)(pa.asarray(3.0)).item()
    (1.5, 0.5)
    """
    name = "linear_call"
    need_function(name, "fun", fun)
    need_function(name, "fun_transpose", fun_transpose)
    residuals, residual_form = taken(name, residual_args)
    values, form = taken(name, linear_args)
    count, specs = len(residuals), _floats(name, "linear_args", values, form)
    fixed = [s.plain for s in specs_of(residuals)]

    def halves(function: Function, result: Form) -> Function:
        return lambda *t: function(residual_form.filled(t[:count]), result.filled(t[count:]))

    main, result = traced(name, halves(fun, form), [*fixed, *specs])
    outs = list(main.graph.output_specs())
    back, given = traced(name, halves(fun_transpose, result), [*fixed, *outs])
    need_same(name, "a transpose that gives", back.graph.output_specs(), specs, (given, form), "")
    captured, (graph, turned) = joined([main, back])
    first = len(captured) + count
    linear.need_linear(name, graph, first)
    operands = [*captured, *residuals, *values]
    found = apply(linear.linear_call, operands, graph=graph, back=turned, count=first)
    return result.filled(many(found))


def linear_transpose(fun: Function, *primals: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The transpose of a linear function: from a cotangent of its result to those of its arguments.

    Arguments:
        fun: linear in all of its arguments. It may read tensors from outside.
        primals: trees of tensors, arrays or specs like the arguments; only shapes and dtypes count.

    Errors:
        GradientError: `fun` is not linear; the message names the line.

    >>> import proa as pa
    >>> w = pa.asarray([[1.0, 2.0], [3.0, 4.0]])
    >>> turned = pa.linear_transpose(lambda x: w @ x, pa.zeros((2,)))
    >>> turned(pa.asarray([1.0, 0.0]))[0].tolist()
    [1.0, 2.0]
    """
    name = "linear_transpose"
    need_function(name, "fun", fun)
    forms = [taken(name, _described(p)) for p in primals]
    sizes = [len(values) for values, _ in forms]
    specs = [s for values, form in forms for s in _floats(name, "an argument", values, form)]

    def split(flat: Sequence[Any]) -> list[Any]:
        rest = iter(flat)
        return [
            form.filled([next(rest) for _ in range(n)])
            for n, (_, form) in zip(sizes, forms, strict=True)
        ]

    found, result = traced(name, lambda *t: fun(*split(t)), specs)
    captured, (graph,) = joined([found])
    linear.need_linear(name, graph, len(captured))
    turned = linear.transposed(graph, len(captured))

    def back(cotangent: Any) -> tuple[Any, ...]:
        leaves, same = taken(name, cotangent)
        need_same(name, "a cotangent", [s.plain for s in specs_of(leaves)], graph.output_specs(),
                  (same, result), "")  # fmt: skip
        return tuple(split(many(apply(call, [*captured, *leaves], graph=turned))))

    return back


def _described(given: Any) -> Any:
    """A tree with zeros where only a shape and a dtype are given."""

    def one(leaf: Any) -> Any:
        if type(leaf) is Tensor or not hasattr(leaf, "shape") or isinstance(leaf, np.ndarray):
            return leaf
        return zeros(leaf.shape, spec((), as_dtype(leaf.dtype)))

    return tree.map(one, given)


def linear_solve(
    matvec: Function, b: Any, solve: Function, transpose_solve: Function | None = None,
    symmetric: bool = False,
) -> Any:  # fmt: skip
    """x with `matvec(x) = b`, found by `solve`, and differentiated by what it means.

    However x is found (a direct method, iterations of any number): its derivative solves one more
    linear system, with the same matrix in forward mode, with its transpose in reverse mode. So
    there are derivatives of any order by b and by all that `matvec` reads.

    Arguments:
        matvec: a linear function from a tree like b to a tree like b. It may read tensors from
            outside.
        b: a tree of float tensors.
        solve: a function of (matvec, b) that gives x.
        transpose_solve: the same for the transpose, which it is given as its matvec; needed for
            reverse mode. A solver that uses no more than the matvec that it is given may be used
            for both.
        symmetric: the matrix is its own transpose; `solve` is used for both.

    Errors:
        GradientError: `matvec` is not linear (the message names the line); or reverse mode, and
            how to solve with the transpose is not known.
        ArgumentError: a result is not like b; the message names the leaf.

    >>> import proa as pa
    >>> a = pa.asarray([[2.0, 0.0], [0.0, 4.0]])
    >>> direct = lambda matvec, b: b / pa.asarray([2.0, 4.0])
    >>> x = lambda b: pa.linear_solve(lambda v: a @ v, b, direct, symmetric=True)
    >>> x(pa.ones((2,))).tolist(), pa.grad(lambda b: x(b).sum())(pa.ones((2,))).tolist()
    ([0.5, 0.25], [0.5, 0.25])
    """
    name = "linear_solve"
    for what, function in (("matvec", matvec), ("solve", solve)):
        need_function(name, what, function)
    if transpose_solve is not None:
        need_function(name, "transpose_solve", transpose_solve)
    values, form = taken(name, b)
    specs = _floats(name, "b", values, form)
    product = _like(name, "a product", lambda *t: matvec(form.filled(t)), specs, form)
    solution = _like(name, "a solution", lambda *t: solve(matvec, form.filled(t)), specs, form)
    traces = [product, solution]
    if transpose_solve is not None:
        constants, (graph,) = joined([product])
        linear.need_linear(name, graph, len(constants))
        vecmat = _called(linear.transposed(graph, len(constants)), _tensors(constants), form)
        turned = lambda *t: transpose_solve(vecmat, form.filled(t))  # noqa: E731
        traces.append(_like(name, "a solution", turned, specs, form))
    captured, graphs = joined(traces)
    linear.need_linear(name, graphs[0], len(captured))
    rest: tuple[Any, Any]
    if transpose_solve is not None:
        rest = (linear.transposed(graphs[0], len(captured)), graphs[2])
    else:
        rest = (graphs[0], graphs[1]) if symmetric else (None, None)
    params = {"matvec": graphs[0], "solve": graphs[1], "vecmat": rest[0], "back": rest[1]}
    return form.filled(many(apply(linear.linear_solve, [*captured, *values], **params)))


def root(f: Function, x0: Any, solve: Function, tangent_solve: Function) -> Any:
    """x with `f(x) = 0`, found by `solve` from x0, and differentiated by what it means.

    By the implicit function theorem dx solves a linear system with the derivative of f at x; how x
    was found does not matter, nor does x0. There are derivatives of any order in both modes by all
    that f reads from outside.

    Arguments:
        f: a function from a tree like x0 to a tree like x0. It may read tensors from outside.
        x0: a tree of float tensors.
        solve: a function of (f, x0) that gives x: Newton's method, fixed-point iterations.
        tangent_solve: a function of (g, y) that gives v with `g(v) = y`, where g is linear: for a
            number `lambda g, y: y / g(pa.ones(()))`, else iterations such as conjugate gradients.
            It is used for the transpose too, so it may use no more than the g that it is given.

    Errors:
        ArgumentError: a result is not like x0; the message names the leaf.

    >>> import proa as pa
    >>> newton = lambda f, x: pa.fori_loop(0, 20, lambda _, x: x - f(x) / pa.grad(f)(x), x)
    >>> divide = lambda g, y: y / g(pa.ones(()))
    >>> sqrt = lambda a: pa.root(lambda x: x * x - a, pa.ones(()), newton, divide)
    >>> f"{sqrt(pa.asarray(4.0)).item():.3f} {pa.grad(sqrt)(pa.asarray(4.0)).item():.3f}"
    '2.000 0.250'
    """
    name = "root"
    for what, function in (("f", f), ("solve", solve), ("tangent_solve", tangent_solve)):
        need_function(name, what, function)
    values, form = taken(name, x0)
    specs, count = _floats(name, "x0", values, form), len(values)
    value = _like(name, "a value", lambda *t: f(form.filled(t)), specs, form)
    found = _like(name, "a root", lambda *t: solve(f, form.filled(t)), specs, form)
    constants, (graph,) = joined([value])
    fixed = _tensors(constants)
    traces = [value, found]
    for slope in (_slope(graph, len(fixed)), _turned(graph, len(fixed))):

        def one(*t: Any, slope: Graph = slope) -> Any:
            product = _called(slope, [*fixed, *t[:count]], form)
            return tangent_solve(product, form.filled(t[count:]))

        traces.append(_like(name, "a tangent", one, [*specs, *specs], form))
    captured, (whole, solving, tangent, back) = joined(traces)
    first = len(captured)
    params = {
        "function": whole, "solve": solving, "matvec": _slope(whole, first),
        "tangent": tangent, "vecmat": _turned(whole, first), "back": back,
    }  # fmt: skip
    return form.filled(many(apply(linear.root, [*captured, *values], **params)))


def _slope(graph: Graph, first: int) -> Graph:
    """(constants, x, v) -> the derivative of the graph by x, times v."""
    builder = Builder()
    specs = graph.input_specs()
    with use_sink(builder):
        inputs = [builder.input(s) for s in specs]
        moving = [builder.input(s) for s in specs[first:]]
        moved = push(graph, inputs, [*[None] * first, *moving])[1]
        outs = [spec(s.shape, s.dtype, s.weak) for s in graph.output_specs()]
        return builder.graph([v.value for v in linear.filled(moved, outs)])


def _turned(graph: Graph, first: int) -> Graph:
    """(constants, x, ct) -> ct times the derivative of the graph by x."""
    return linear.transposed(_slope(graph, first), len(graph.inputs))
