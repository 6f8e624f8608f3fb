"""Derivatives as people ask for them: `backward`, `grad`, `value_and_grad`, `vjp`, `jvp`.

Each reads the tape back and records one operation; nothing is differentiated step by step here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, final

from proa import tree
from proa.dtypes import default_float
from proa.errors import ArgumentError, DtypeError, GradientError, message
from proa.graph.build import current_sink
from proa.graph.entry import intern_entry
from proa.graph.node import Value
from proa.graph.spec import Spec, spec
from proa.ops import moves
from proa.ops import operators as op
from proa.ops.composite.common import real
from proa.ops.movement import reshape, zeros
from proa.ops.primitive import apply, number_of
from proa.record.live import CAPTURE, NO_GRAD, SPENT, Leaf, epoch, thread, use_mode
from proa.record.tape import Tape, record_backward, stops
from proa.shapes import as_list
from proa.substitution import Opened, substituted
from proa.tensor import READ_ONLY, Tensor, derived, handle, off_tape, rebind
from proa.transforms.jvp import forward
from proa.transforms.reverse import reverse


def backward(
    tensors: Sequence[Tensor],
    gradients: Sequence[Any],
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Adds the gradient of the tensors to `.grad` of every leaf that they were made from."""
    roots = [_root(t) for t in tensors]
    cts = [_cotangent(t, g) for t, g in zip(tensors, gradients, strict=True)]
    tape = Tape(roots, None)
    wanted = tuple([i for i, v in enumerate(tape.inputs) if v.leaf is not None and v.leaf.stops])
    with use_mode(NO_GRAD, not create_graph):
        for i, g in zip(wanted, _gradients(tape, cts, wanted), strict=True):
            if g is not None:
                leaf: Any = tape.inputs[i].leaf
                _accumulate(leaf, _hooked(leaf, g).value if leaf.hooks else g)
    if not (retain_graph or create_graph):
        _consume(tape, roots)


def _backward(
    self: Tensor, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Adds the gradient of this tensor to `.grad` of every leaf that it was made from.

    `gradient` is the cotangent, of this shape (1 for a tensor of one element). The tape is
    consumed unless `retain_graph` or `create_graph`; the latter makes the gradients
    differentiable themselves.

    >>> import proa as pa
    >>> x = pa.asarray([1.0, 2.0]).requires_grad_()
    >>> (x * x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 4.0]
    """
    backward([self], [gradient], retain_graph, create_graph)


def _root(tensor: Tensor) -> Value:
    if not tensor.requires_grad:
        hint = "requires_grad_() of what it is made from, or leave pa.no_grad()"
        raise GradientError(message("backward", "a tensor off the tape", "one on the tape", hint))
    return tensor.value


def _cotangent(tensor: Tensor, given: Any) -> Value:
    of = tensor.value.spec.plain
    if given is None:
        if of.size != 1:
            hint = "loss.sum().backward() or backward(gradient)"
            raise GradientError(message("backward", f"shape {of.shape}", "one element", hint))
        one = _number(1.0, of)
        return moves.broadcast_to(one, of.shape).value if of.shape else one
    if type(given) is not Tensor or given.shape != of.shape or given.dtype is not of.dtype:
        text = repr(given.value.spec) if type(given) is Tensor else f"{type(given).__name__}"
        raise ArgumentError(message("backward", f"a gradient of {text}", f"{of}"))
    return given.value


def _number(number: float, like: Spec) -> Value:
    return current_sink().number(number, spec((), like.dtype))  # type: ignore[no-any-return]


def _gradients(tape: Tape, cts: Sequence[Value], wanted: tuple[int, ...]) -> Sequence[Any]:
    """One recorded operation; with hooks between, the sweep itself, so that Python runs there."""
    for v in tape.values:
        if v.leaf is not None and v.leaf.hooks and not v.leaf.stops:
            return _gradients_with_hooks(tape, cts, wanted)
    return record_backward(tape, cts, wanted)


def _gradients_with_hooks(tape: Tape, cts: Any, wanted: tuple[int, ...]) -> list[Any]:
    def watch(slot: int, ct: Any) -> Any:
        leaf = tape.values[slot].leaf
        return _hooked(leaf, ct) if leaf is not None and not leaf.stops else ct

    found = reverse(tape.graph, tape.inputs, cts, wanted, values=tape.values, watch=watch)
    return [None if found[i] is None else found[i].value for i in wanted]


def _as_tensor(found: Any) -> Any:
    return handle(found) if type(found) is Value else found


def _hooked(leaf: Leaf, ct: Any) -> Any:
    """The gradient after the hooks of its tensor, in the order in which they were added."""
    for hook in list(leaf.hooks):
        given = _as_tensor(ct)
        found = hook(given)
        ct = given if found is None else found
        if type(ct) is not Tensor or ct.shape != given.shape:
            raise GradientError(message("hook", f"a result {ct!r:.60}", "None or a tensor alike"))
    return ct


def _accumulate(leaf: Leaf, g: Value) -> None:
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.filled(leaf)
    if leaf.grad is None:
        leaf.grad = handle(g)
    else:
        rebind(leaf.grad, (leaf.grad + Tensor(g)).value if leaf.full else g)
    leaf.full = True


def _consume(tape: Tape, roots: Sequence[Value]) -> None:
    for node in tape.nodes:
        node.spent = True
    thread.state.spent += tape.nodes
    for root in roots:
        if root.buffer is not None and not stops(root):
            root.node, root.leaf = None, SPENT


@final
class Hook:
    """What `register_hook` returns: `remove()` takes the hook away."""

    __slots__ = ("leaf", "function")

    def __init__(self, leaf: Leaf, function: Any) -> None:
        self.leaf = leaf
        self.function = function

    def remove(self) -> None:
        if self.function in self.leaf.hooks:
            self.leaf.hooks.remove(self.function)
            epoch.advance()


def add_hook(tensor: Tensor, hook: Callable[[Tensor], Any]) -> Hook:
    """`hook(grad)` sees this tensor's gradient in each backward pass, and may replace it."""
    if not tensor.requires_grad:
        raise GradientError(message("register_hook", "a tensor off the tape", "one on the tape"))
    if not callable(hook):
        raise DtypeError(message("register_hook", f"{hook!r:.60}", "a function"))
    leaf = _leaf_of(tensor)
    leaf.hooks.append(hook)
    epoch.advance()
    return Hook(leaf, hook)


def retain_grad(tensor: Tensor) -> None:
    """Keeps the gradient of a tensor that is no leaf."""
    leaf = _leaf_of(tensor)
    if not leaf.stops:
        leaf.hooks.append(lambda g: _accumulate(leaf, g.value))


for _name, _method in {
    "backward": _backward, "register_hook": add_hook, "retain_grad": retain_grad,
}.items():  # fmt: skip
    setattr(Tensor, _name, _method)


def _leaf_of(tensor: Tensor) -> Leaf:
    """The record of a tensor's gradient and hooks, seen by its handle and by its value."""
    if tensor.leaf is None or tensor.leaf is READ_ONLY:
        tensor.leaf = Leaf(False)
    tensor.value.leaf = tensor.leaf
    return tensor.leaf


# Function transforms.


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns (f(...), gradient of f by the arguments `argnums`).

    f returns one number (a tensor of one element), or `(number, aux)` if `has_aux`. Arguments may
    be trees of tensors; the gradient has the same structure. A module among them counts as the
    dict of its float parameters by name (a tied one once), and so does its gradient; `.grad` has
    no part in it; buffers that the call assigns change as in any call. Keyword arguments are not
    differentiated. Nest for higher derivatives.

    >>> import proa as pa
    >>> value, slope = pa.value_and_grad(lambda x: (x ** 2).sum())(pa.asarray([1.0, 3.0]))
    >>> value.item(), slope.tolist()
    (10.0, [2.0, 6.0])
    """

    @wraps(function)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        run = _Run("grad", function, args, kwargs, argnums)
        out, aux = run.out if has_aux and isinstance(run.out, tuple) else (run.out, None)
        if type(out) is not Tensor or out.size != 1:
            shape = getattr(out, "shape", type(out).__name__)
            raise GradientError(
                message("grad", f"a result {shape}", "a tensor of one element", ".sum()")
            )
        gradients = run.pull([out], [_cotangent(out, None)])
        (value,) = run.detached([out])
        return ((value, aux) if has_aux else value), gradients

    return differentiated


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of f; `(gradient, aux)` if `has_aux`.

    >>> import proa as pa
    >>> pa.grad(pa.grad(lambda x: x ** 3))(pa.asarray(2.0)).item()
    12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    @wraps(function)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return differentiated


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """(f(*primals), a function from cotangents of the result to cotangents of the primals).

    >>> import proa as pa
    >>> y, pull = pa.vjp(lambda x: x * x, pa.asarray([1.0, 2.0]))
    >>> pull(pa.ones((2,)))[0].tolist()
    [2.0, 4.0]
    """
    run = _Run("vjp", function, primals, {}, tuple(range(len(primals))))
    outs, structure = tree.flatten(run.out)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        given, same = tree.flatten(cotangents)
        if same != structure:
            raise ArgumentError(message("vjp", f"cotangents {same}", f"the structure {structure}"))
        cts = [_cotangent(o, c) for o, c in zip(outs, given, strict=True)]
        return tuple(run.pull(outs, cts))

    return tree.unflatten(structure, run.detached(outs)), pull


def jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """(f(*primals), its derivative in the direction of the tangents): forward mode.

    The tangent of a module is a dict of tensors by name, of its float parameters.

    >>> import proa as pa
    >>> y, dy = pa.jvp(lambda x: x * x, (pa.asarray(3.0),), (pa.asarray(1.0),))
    >>> dy.item()
    6.0
    """
    primals, tangents = (
        as_list("jvp", what, given)
        for what, given in (("primals", primals), ("tangents", tangents))
    )
    if len(primals) != len(tangents):
        raise ArgumentError(message("jvp", f"{len(tangents)} tangents", f"{len(primals)}"))
    run = _Run("jvp", function, tuple(primals), {}, tuple(range(len(primals))))
    for primal, tangent, structure in zip(primals, tangents, run.structures, strict=True):
        if structure != tree.flatten(primal)[1] and structure != tree.flatten(tangent)[1]:
            expected = f"the parameters of the module by name: {structure!r:.200}"
            raise ArgumentError(message("jvp", f"a tangent {type(tangent).__name__}", expected))
    given = tree.flatten(tangents)[0]
    outs, structure = tree.flatten(run.out)
    moved = run.push(outs, given)
    return tree.unflatten(structure, run.detached(outs)), tree.unflatten(structure, moved)


def linearize(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(f(*primals), the function from tangents of the primals to the tangent of the result).

    f runs once; the function returned is linear, and may be called as often as one likes.

    >>> import proa as pa
    >>> y, push = pa.linearize(lambda x: x * x, pa.asarray(3.0))
    >>> y.item(), push(pa.asarray(1.0)).item(), push(pa.asarray(2.0)).item()
    (9.0, 6.0, 12.0)
    """
    run = _Run("linearize", function, primals, {}, tuple(range(len(primals))))
    outs, structure = tree.flatten(run.out)

    def push(*tangents: Any) -> Any:
        given, forms = [], []
        for tangent in tangents:
            leaves, form = tree.flatten(tangent)
            given += leaves
            forms.append(form)
        if forms != run.structures:
            expected = f"{len(run.structures)}, each like its primal"
            raise ArgumentError(message("linearize", f"tangents {forms!r:.200}", expected))
        return tree.unflatten(structure, run.push(outs, given))

    return tree.unflatten(structure, run.detached(outs)), push


@final
class _Run:
    """One run of a function on tracked copies of some arguments."""

    __slots__ = ("name", "structures", "targets", "single", "outer", "out")

    def __init__(self, name: str, function: Any, args: Any, kwargs: Any, argnums: Any) -> None:
        if not callable(function):
            raise DtypeError(message(name, f"{function!r:.60}", "a function"))
        self.name = name
        self.single = isinstance(argnums, int)
        numbers = [argnums] if self.single else as_list(name, "argnums", argnums)
        self.targets: list[Value] = []
        self.structures = []
        self.outer = False
        given = list(args)
        standing: list[Any] = []
        for i in numbers:
            if not isinstance(i, int) or not -len(args) <= i < len(args):
                raise ArgumentError(
                    message(name, f"argnums {argnums!r:.60}", f"positions of {len(args)} arguments")
                )
            opened = Opened(name, given[i])
            tensors = opened.tensors
            if opened.modules:  # its parameters are data here: `.grad` has no part in it
                tensors = [_off_leaf(t) for t in tensors]
            given[i], more = opened.closed([self._track(t) for t in tensors])
            standing += more
            self.structures.append(opened.structure)
        with use_mode(NO_GRAD, False), substituted(name, standing) if standing else nullcontext():
            self.out = function(*given, **kwargs)

    def _track(self, argument: Any) -> Tensor:
        """The argument as the end of a tape of its own."""
        tensor = _differentiable(self.name, argument)
        v = tensor.value
        if v.spec.grad:
            self.outer = True
            v = apply(reshape, (tensor,), shape=tensor.shape).value
            tensor = Tensor(v)
        target = derived(tensor, v.spec.with_grad())
        self.targets.append(target)
        return Tensor(target) if target.buffer is not None else handle(target)

    def _tape(self, outs: Sequence[Any]) -> Tape:
        for o in outs:
            if type(o) is not Tensor:
                raise GradientError(message(self.name, f"a result {type(o).__name__}", "tensors"))
        tape = Tape([o.value for o in outs], self.targets)
        own = set(self.targets)
        self.outer = self.outer or any(v.spec.grad and v not in own for v in tape.inputs)
        return tape

    def pull(self, outs: Sequence[Tensor], cts: Sequence[Value]) -> Any:
        tape = self._tape(outs)
        outer = self.outer or any(c.spec.grad for c in cts)
        with use_mode(NO_GRAD, not outer):
            number = {v: i for i, v in enumerate(tape.inputs)}
            known = [v for v in self.targets if v in number]
            found = _gradients(tape, cts, tuple([number[v] for v in known]))
            of = dict(zip(known, found, strict=True))
            filled = [_or_zeros(of.get(t), t) for t in self.targets]
        rest = iter(filled)
        trees = [tree.unflatten(s, [next(rest) for _ in range(s.leaves)]) for s in self.structures]
        return trees[0] if self.single else tuple(trees)

    def push(self, outs: Sequence[Tensor], tangents: Sequence[Any]) -> list[Any]:
        tape = self._tape(outs)
        if len(tangents) != len(self.targets):
            raise ArgumentError(message("jvp", f"{len(tangents)} tangents", f"{len(self.targets)}"))
        number = {v: i for i, v in enumerate(tape.inputs)}
        rows = [
            (number[v], _tangent(t, v))
            for v, t in zip(self.targets, tangents, strict=True)
            if v in number
        ]
        given = tuple([i for i, _ in rows])
        operands = (*tape.values, *[t for _, t in rows])
        outer = self.outer or any(t.spec.grad for _, t in rows)
        with use_mode(NO_GRAD, not outer):
            specs = tuple([v.spec for v in operands])
            entry = intern_entry(forward.table, forward, (tape.graph, given), specs)
            return list(current_sink().emit(entry, operands))

    def detached(self, outs: Sequence[Tensor]) -> list[Tensor]:
        """Results off this run's tape, unless an outer one wants them."""
        if self.outer:
            return list(outs)
        return [off_tape(o) for o in outs]


def _off_leaf(given: Any) -> Any:
    """A parameter that asks for a gradient of its own, as plain data."""
    leaf = type(given) is Tensor and stops(given.value)
    return off_tape(given) if leaf else given


def _or_zeros(found: Any, target: Value) -> Any:
    return _as_tensor(zeros(target.spec.shape, target.spec) if found is None else found)


def _differentiable(name: str, argument: Any) -> Tensor:
    if type(argument) is not Tensor:
        if number_of(argument) is None:
            given = f"an argument of type {type(argument).__name__}"
            raise DtypeError(message(name, given, "tensors"))
        number = real(name, "argument", argument)
        made: Tensor = op.astype(
            current_sink().constant(_array(number), _spec_of_float()), default_float()
        )
        return made
    if not argument.dtype.is_inexact:
        raise DtypeError(message(name, f"an argument of {argument.dtype.name}", "a float dtype"))
    return argument


def _array(number: Any) -> Any:
    import numpy as np

    with np.errstate(over="ignore"):
        return np.asarray(number, default_float().numpy)


def _spec_of_float() -> Spec:
    return spec((), default_float())


def _tangent(given: Any, target: Value) -> Value:
    tensor = given if type(given) is Tensor else _differentiable("jvp", given)
    if tensor.shape != target.spec.shape or tensor.dtype is not target.spec.dtype:
        raise ArgumentError(
            message("jvp", f"a tangent {tensor.value.spec.plain}", f"{target.spec.plain}")
        )
    return tensor.value
