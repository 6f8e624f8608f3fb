"""Control flow as operations: `cond`, `switch`, `while_loop`, `scan`, `fori_loop`, `map`.

Each traces the functions that it is given, makes operands of all that they read from outside, and
records one operation. The functions run in Python once for each call (under `jit`: once for each
recording), never once for each round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import proa.transforms.control as _rules  # control flow has its derivatives from here on
from proa import tree
from proa.capture.trace import Traced, trace
from proa.dtypes import bool_, default_float, iinfo, int32, int64, weak_dtype
from proa.errors import ArgumentError, DtypeError, ShapeError, message
from proa.graph.build import current_sink
from proa.graph.entry import intern_entry
from proa.graph.graph import Graph
from proa.graph.node import Value
from proa.graph.spec import Spec, spec
from proa.ops import control
from proa.ops.functions import cast
from proa.ops.primitive import REGISTRY, apply, as_number, number_of, value_of
from proa.record.live import NO_GRAD, thread
from proa.tensor import Tensor

Function = Callable[..., Any]


class Form(NamedTuple):
    """A tree without its tensors: its structure, and which leaves are None."""

    structure: tree.Structure
    nones: tuple[bool, ...]

    def filled(self, values: Sequence[Any]) -> Any:
        rest = iter(values)
        return tree.unflatten(self.structure, [None if n else next(rest) for n in self.nones])

    @property
    def size(self) -> int:
        """The number of tensors."""
        return len(self.nones) - sum(self.nones)

    def parts(self) -> list[Form]:
        """The form of each child of the tree's top."""
        found, nones = [], list(self.nones)
        for child in self.structure.children:
            found.append(Form(child, tuple(nones[: child.leaves])))
            del nones[: child.leaves]
        return found

    def leaves_of(self, given: Any) -> list[Any] | None:
        """What stands in the place of each tensor in a tree of the same structure; None if it has
        another."""
        leaves, structure = tree.flatten(given)
        if structure != self.structure:
            return None
        return [leaf for leaf, none in zip(leaves, self.nones, strict=True) if not none]

    @property
    def paths(self) -> list[str]:
        """Where each tensor stands, as Python writes it: `[0]['w']`."""
        found = tree.paths(self.structure)
        return [p for p, none in zip(found, self.nones, strict=True) if not none]


def taken(name: str, what: Any) -> tuple[list[Any], Form]:
    """The tensors of a tree; Python numbers become tensors of 0 axes, None stays None."""
    leaves, structure = tree.flatten(what)
    values = [_tensor(name, leaf) for leaf in leaves if leaf is not None]
    return values, Form(structure, tuple([leaf is None for leaf in leaves]))


def _tensor(name: str, leaf: Any) -> Any:
    """A tensor of its own dtype: what Python numbers alone have made takes the default."""
    number = number_of(leaf)
    if number is not None and not isinstance(leaf, np.generic):
        dtype = weak_dtype(number)
        return as_number(name, number, default_float() if dtype.is_float else dtype)
    value: Any = value_of(name, leaf)
    of = value.spec
    if of.weak:
        dtype = default_float() if of.dtype.is_float else of.dtype
        return apply(cast, (leaf,), dtype=dtype, weak=False)
    return leaf if isinstance(leaf, Tensor) else value


def specs_of(values: Sequence[Any]) -> list[Spec]:
    return [v.value.spec for v in values]


def need_function(name: str, what: str, function: Any) -> None:
    if not callable(function):
        raise DtypeError(message(name, f"{what} {function!r:.60}", "a function"))


def traced(
    name: str, function: Function, specs: Sequence[Spec], writes: bool = False
) -> tuple[Traced, Form]:  # fmt: skip
    """The graph of a function of tensors that returns a tree of tensors, and the tree's form."""
    forms = []

    def run(*given: Tensor) -> Any:
        values, form = taken(name, function(*given))
        forms.append(form)
        return tuple([v if type(v) is Tensor else Tensor(v.value) for v in values])

    # A carry may come onto the tape on its way, so all that can be differentiated may be.
    taped = [s.with_grad() if s.dtype.is_inexact else s for s in specs]
    found = trace(name, run, taped, writes)
    return found, forms[-1]


def need_same(name: str, what: str, given: Sequence[Spec], expected: Sequence[Spec],
               forms: tuple[Form, Form], hint: str) -> None:  # fmt: skip
    """An error that names the first leaf that differs."""
    if forms[0] != forms[1]:
        text = f"{what} of the structure {forms[0].structure}"
        raise ArgumentError(message(name, text, f"{forms[1].structure}", hint))
    for path, a, b in zip(forms[0].paths, given, expected, strict=True):
        if a is not b.plain:
            raise ArgumentError(message(name, f"{what} {path or 'tensor'} of {a}", f"{b}", hint))


def joined(traces: Sequence[Traced]) -> tuple[list[Value], list[Graph]]:
    """All that was captured, and the graphs with it in front of their arguments."""
    number: dict[Value, int] = {}
    for t in traces:
        for v in t.captured:
            number.setdefault(v, len(number))
    graphs = []
    for t in traces:
        specs = t.graph.input_specs()[: len(t.graph.inputs) - len(t.captured)]
        at = [-1] * len(number) + list(range(len(specs)))
        for i, v in enumerate(t.captured, len(specs)):
            at[number[v]] = i
        inputs = [*[v.spec for v in number], *specs]
        graphs.append(_rules.rewired(t.graph, inputs, at))
    return list(number), graphs


def many(outs: Any) -> list[Any]:
    return list(outs) if isinstance(outs, tuple) else [outs]


# Branches.


def cond(pred: Any, true_fn: Function, false_fn: Function, *operands: Any) -> Any:
    """`true_fn(*operands) if pred else false_fn(*operands)`, decided where it is computed.

    Arguments:
        pred: a tensor of 0 axes or a number; all but zero is true.
        true_fn, false_fn: functions that return trees of the same structure, shapes and dtypes.
            They may read tensors from outside; they may assign none.
        operands: trees of tensors, given to the function that runs.

    Errors:
        ShapeError: `pred` has axes.
        ArgumentError: the two results differ; the message names the first leaf that does.
        JitError: a function reads a value as a Python number.

    >>> import proa as pa
    >>> f = lambda x: pa.cond(x > 0, lambda x: x * 2.0, lambda x: -x, x)
    >>> f(pa.asarray(3.0)).item(), pa.grad(f)(pa.asarray(-3.0)).item()
    (6.0, -1.0)
    """
    decides = _scalar("cond", "pred", pred)
    index = apply(
        cast, (apply(cast, (decides,), dtype=bool_, weak=False),), dtype=int32, weak=False
    )
    return _branched("cond", index, (false_fn, true_fn), operands)


def switch(index: Any, branches: Sequence[Function], *operands: Any) -> Any:
    """`branches[index](*operands)`, decided where it is computed.

    Arguments:
        index: an integer of 0 axes; one that lies outside is moved to the nearest.
        branches: functions that return trees of the same structure, shapes and dtypes.
        operands: trees of tensors, given to the function that runs.

    Errors:
        DtypeError: `index` is no integer.
        ArgumentError: there are no branches, or two results differ.

    >>> import proa as pa
    >>> f = lambda i: pa.switch(i, [lambda x: x, lambda x: -x, lambda x: x * x], pa.asarray(3.0))
    >>> [f(i).item() for i in (0, 1, 2, 7)]
    [3.0, -3.0, 9.0, 9.0]
    """
    if not isinstance(branches, (tuple, list)) or not branches:
        raise ArgumentError(message("switch", f"branches {branches!r:.60}", "a list of functions"))
    given = _scalar("switch", "index", index)
    if given.value.spec.dtype.kind != "int":
        raise DtypeError(
            message("switch", f"an index of {given.value.spec.dtype.name}", "integers")
        )
    of = given.value.spec.plain
    number, last = current_sink().number, min(len(branches) - 1, iinfo(of.dtype).max)
    given = REGISTRY["minimum"](REGISTRY["maximum"](given, number(0, of)), number(last, of))
    return _branched("switch", apply(cast, (given,), dtype=int32, weak=False), branches, operands)


def _scalar(name: str, what: str, given: Any) -> Any:
    found = _tensor(name, given)
    if found.value.spec.ndim:
        raise ShapeError(message(name, f"{what} of shape {found.value.spec.shape}", "0 axes"))
    return found


def _branched(name: str, index: Any, functions: Sequence[Function], operands: Any) -> Any:
    for function in functions:
        need_function(name, "a branch", function)
    values, form = taken(name, operands)
    specs = specs_of(values)
    rows = [traced(name, lambda *t, f=f: f(*form.filled(t)), specs) for f in functions]
    first, result = rows[-1]
    for row, other in rows:
        given, expected = row.graph.output_specs(), first.graph.output_specs()
        hint = "branches that return alike"
        need_same(name, "a result", given, expected, (other, result), hint)
    if not first.graph.outputs:
        return result.filled(())
    captured, graphs = joined([t for t, _ in rows])
    outs = apply(control.branch, [index, *captured, *values], graphs=tuple(graphs))
    return result.filled(many(outs))


# Loops.


def while_loop(
    cond_fn: Function, body_fn: Function, init: Any, max_steps: int | None = None
) -> Any:  # fmt: skip
    """Applies `body_fn` to a carry for as long as `cond_fn` of it is true.

    Has forward mode. Reverse mode needs to know how many steps there are at most: `max_steps`
    (then memory is kept for so many, and the loop ends there); or use `scan`.

    Arguments:
        cond_fn: a function from the carry to a bool of 0 axes.
        body_fn: a function from the carry to one of the same structure, shapes and dtypes.
        init: the carry before the first step, a tree of tensors and numbers.
        max_steps: after so many steps the carry is given as it is then.

    Errors:
        ArgumentError: the carry changes its form (the message names the leaf), or the condition
            is no bool of 0 axes.
        GradientError: reverse mode without `max_steps`.

    >>> import proa as pa
    >>> root = lambda a: pa.while_loop(
    ...     lambda x: pa.abs(x * x - a) > 1e-6, lambda x: 0.5 * (x + a / x), a, max_steps=50)
    >>> f"{root(pa.asarray(9.0)).item():.4f} {pa.grad(root)(pa.asarray(9.0)).item():.4f}"
    '3.0000 0.1667'
    """
    name = "while_loop"
    need_function(name, "cond_fn", cond_fn)
    need_function(name, "body_fn", body_fn)
    if max_steps is not None:
        return _bounded(cond_fn, body_fn, init, _count(name, "max_steps", max_steps))
    values, form = taken(name, init)
    specs = specs_of(values)
    goes, _ = traced(name, lambda *t: cond_fn(form.filled(t)), specs)
    _need_condition(name, goes.graph.output_specs())
    body = _step(name, lambda *t: body_fn(form.filled(t)), specs, form)
    if not values:
        raise ArgumentError(message(name, "a carry without tensors", "at least one"))
    captured, (condition, step) = joined([goes, body])
    return form.filled(
        many(apply(control.loop, [*captured, *values], condition=condition, body=step))
    )


def _need_condition(name: str, found: Sequence[Spec]) -> None:
    if tuple(found) != (spec((), bool_),):
        raise ArgumentError(message(name, f"a condition {tuple(found)}", "a bool of 0 axes"))


def _step(name: str, function: Function, specs: Sequence[Spec], form: Form) -> Traced:
    """A body whose results are like the carry that it was given."""
    found, result = traced(name, function, specs)
    hint = "x.astype(...) in the body, or another init"
    given = found.graph.output_specs()
    need_same(name, "a carry that comes out with", given, specs, (result, form), hint)
    return found


def _bounded(cond_fn: Function, body_fn: Function, init: Any, steps: int) -> Any:
    """A scan of so many steps; once the condition is false the carry stands still."""

    def step(carry: Any, _: Any) -> Any:
        return cond(_decided(cond_fn(carry)), body_fn, lambda same: same, carry), None

    return _scanned("while_loop", step, init, None, steps, False)[0]


def _decided(found: Any) -> Any:
    value = _tensor("while_loop", found)
    _need_condition("while_loop", [value.value.spec.plain])
    return found


def scan(
    f: Function, init: Any, xs: Any, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Applies `carry, y = f(carry, x)` along the first axis of xs: (last carry, all y stacked).

    As one operation, in memory that does not grow with the steps but for what is stacked. In
    reverse mode the carry of each step is kept, and the step computed again on the way back.

    Arguments:
        f: a function from (carry, row of xs) to (carry, y). The carry keeps its structure, shapes
            and dtypes; y is any tree of tensors, or None.
        init: the carry before the first step, a tree of tensors and numbers.
        xs: a tree of tensors with the steps in front, or None.
        length: the number of steps; needed where xs has no tensors.
        reverse: begin at the last row. A y stands where its x does.

    Errors:
        ShapeError: xs differ in their first axis, have none, or have not `length` rows.
        ArgumentError: the carry changes its form (the message names the leaf), f returns no pair,
            or the number of steps is not known.

    >>> import proa as pa
    >>> total, sums = pa.scan(lambda c, x: (c + x, c + x), 0.0, pa.asarray([1.0, 2.0, 3.0]))
    >>> total.item(), sums.tolist()
    (6.0, [1.0, 3.0, 6.0])
    """
    need_function("scan", "f", f)
    if not isinstance(reverse, bool):
        raise ArgumentError(message("scan", f"reverse={reverse!r:.60}", "True or False"))
    return _scanned("scan", f, init, xs, length, reverse)


def _count(name: str, what: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ArgumentError(message(name, f"{what}={given!r:.60}", "an int of at least 0"))
    return given


def _length(name: str, given: Any, specs: Sequence[Spec], paths: Sequence[str]) -> int:
    """The number of steps, on which xs and `length` agree."""
    found = None if given is None else _count(name, "length", given)
    for of, path in zip(specs, paths, strict=True):
        if of.ndim == 0:
            raise ShapeError(message(name, f"xs{path} of 0 axes", "an axis of steps"))
        if found is None:
            found = of.shape[0]
        if of.shape[0] != found:
            raise ShapeError(message(name, f"xs{path} of shape {of.shape}", f"{found} rows"))
    if found is None:
        raise ArgumentError(message(name, "xs without tensors", "a number of steps", "length=..."))
    return found


def _scanned(
    name: str, f: Function, init: Any, xs: Any, length: Any, backwards: bool
) -> tuple[Any, Any]:  # fmt: skip
    values, form = taken(name, init)
    rows, row_form = taken(name, xs)
    specs, count = specs_of(values), len(values)
    steps = _length(name, length, specs_of(rows), row_form.paths)
    forms: list[Any] = []

    def pair(*given: Any) -> Any:
        found = f(form.filled(given[:count]), row_form.filled(given[count:]))
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise ArgumentError(message(name, f"a result {type(found).__name__}", "(carry, y)"))
        forms[:] = [taken(name, part) for part in found]
        return [v for part, _ in forms for v in part]

    whole, _ = traced(name, pair, [*specs, *[control.row_of(s) for s in specs_of(rows)]])
    (out, result), (_, ys) = forms
    hint = "x.astype(...) in f, or another init"
    given = whole.graph.output_specs()[: len(out)]
    need_same(name, "a carry that comes out with", given, specs, (result, form), hint)
    if not whole.graph.outputs:
        return form.filled(()), ys.filled(())
    captured, (body,) = joined([whole])
    operands = [*captured, *values, *rows]
    params = (body, steps, backwards, len(captured), count)
    outs = many(apply(control.scan, operands, **kept(params, operands)))
    return form.filled(outs[:count]), ys.filled(outs[count : len(whole.graph.outputs)])


def kept(params: tuple[Any, ...], operands: Sequence[Any]) -> dict[str, Any]:
    """The parameters; where a gradient is wanted, of a scan that keeps what reverse mode reads."""
    specs = [o.value.spec for o in operands]
    entry = intern_entry(control.scan.table, control.scan, params, tuple([s.plain for s in specs]))
    if any(s.grad for s in specs) and not thread.state.mode & NO_GRAD:
        entry = entry.once("keeping", _rules.keeping)
    return entry.named_params


def fori_loop(lower: Any, upper: Any, body_fun: Function, init_val: Any) -> Any:
    """Applies `value = body_fun(i, value)` for i from `lower` up to, without, `upper`.

    With Python numbers it is a `scan`, and has reverse mode; with tensors (and number arguments
    of a jitted function) a `while_loop`.

    Arguments:
        lower, upper: integers, or integer tensors of 0 axes.
        body_fun: a function from (i, value) to a value of the same structure, shapes and dtypes.
        init_val: the value before the first step, a tree of tensors and numbers.

    Errors:
        DtypeError: a bound is no integer.
        ArgumentError: the value changes its form; the message names the leaf.

    >>> import proa as pa
    >>> pa.fori_loop(0, 5, lambda i, x: x * 2.0 + i, 1.0).item()
    58.0
    """
    name = "fori_loop"
    need_function(name, "body_fun", body_fun)
    low, high = [_integer(name, n) for n in (lower, upper)]
    if type(low) is int and type(high) is int:
        steps = max(0, high - low)
        numbers = apply(REGISTRY["iota"], (), shape=(steps,), axis=0, dtype=int64)
        start = current_sink().number(low, spec((), int64))
        xs = REGISTRY["add"](numbers, start)
        return _scanned(name, lambda c, i: (body_fun(i, c), None), init_val, xs, steps, False)[0]
    like = next(n for n in (high, low) if type(n) is not int).value.spec.dtype
    first, last = [
        as_number(name, n, like) if type(n) is int else apply(cast, (n,), dtype=like, weak=False)
        for n in (low, high)
    ]
    last = Tensor(last.value)
    found = while_loop(
        lambda c: c[0] < last,
        lambda c: (c[0] + 1, body_fun(c[0], c[1])),
        (Tensor(first.value), init_val),
    )
    return found[1]


def _integer(name: str, given: Any) -> Any:
    """A Python int, or a tensor of 0 axes."""
    number = number_of(given)
    if number is None:
        number = _scalar(name, "a bound", given)
        kind = number.value.spec.dtype.kind
    else:
        kind = "int" if type(number) is int else type(number).__name__
    if kind != "int":
        raise DtypeError(message(name, f"a bound {given!r:.60}", "an integer"))
    return number


def map(f: Function, xs: Any) -> Any:
    """`f` of each row of xs, one after the other, stacked: `vmap` in the memory of one row.

    Arguments:
        f: a function from a row of xs to a tree of tensors.
        xs: a tree of tensors with the rows in front.

    Errors:
        ShapeError: xs differ in their first axis, or have none.
        ArgumentError: xs has no tensors.

    >>> import proa as pa
    >>> pa.map(lambda x: (x * x).sum(), pa.asarray([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [5.0, 25.0]
    """
    need_function("map", "f", f)
    return _scanned("map", lambda _, x: (None, f(x)), None, xs, None, False)[1]
