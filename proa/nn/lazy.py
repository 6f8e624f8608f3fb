"""Models that are described and allocate nothing, until they are made: `lazy_init`, `materialize`.

Inside `lazy_init` the thread records apart from its queue. When the block ends each tensor that
was recorded in it lets go of its value and keeps a description: the recorded work that would
compute it. `materialize` records that work anew, as if the constructors ran now.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, final
from weakref import ref

from proa import tree
from proa.capture.trace import Capture
from proa.errors import ArgumentError, DtypeError, JitError, UnmadeError, message
from proa.graph.node import Value
from proa.graph.spec import UNMADE, spec
from proa.nn.module import Module
from proa.random import Generator, default_generator
from proa.record.boundary import sync
from proa.record.key import reach
from proa.record.live import CAPTURE, State, live_handles, thread, use_state
from proa.tensor import Tensor, rebind

NAME: Final = "lazy_init"


@final
class Description:
    """One block of `lazy_init`: the outer handles that it assigned to (the states of generators),
    with the value that each had before, and the one that it would have after."""

    __slots__ = ("capture", "assigned")

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.assigned = [(t, old, t.value) for t, old in capture.written()]


@final
class Unmade:
    """Stands where the buffer of a tensor will be: what would compute it."""

    __slots__ = ("description", "work", "handle")

    def __init__(self, description: Description, work: Value, handle: Tensor) -> None:
        self.description = description
        self.work = work
        self.handle = ref(handle)

    def host(self) -> NoReturn:
        """A read."""
        self.refuse("read")

    def refuse(self, op: str) -> NoReturn:
        """The error of whoever uses the tensor, by the name that a module has for it."""
        name = self._name()
        scope = thread.state.scope
        path = f"{scope}.{name}" if scope and name else name or scope
        given = f"`{path}`, which lazy_init described" if path else "a tensor of lazy_init"
        raise UnmadeError(message(op, given, "a made one", HINT))

    def _name(self) -> str:
        tensor = self.handle()
        for holder in gc.get_referrers(tensor) if tensor is not None else ():
            if type(holder) is dict:
                for key, held in list(holder.items()):
                    if held is tensor and type(key) is str:
                        return key
        return ""


HINT: Final = "pa.materialize(model), or model.load_state_dict(...)"


@contextmanager
def lazy_init() -> Iterator[None]:
    """Inside the block modules are described: shapes, dtypes, initialisation, no contents.

    A model of any size takes no memory for its parameters and no time to compute them.
    `num_parameters`, `nn.summary`, `repr` work; using a parameter raises by its name, until
    `pa.materialize(model)` makes it or `load_state_dict` gives it a value. No random number is
    drawn from any generator. Also a decorator: `@pa.lazy_init()`.

    Whatever is computed from tensors in the block is described too, and nothing can be read there
    (`nn.init.orthogonal_` reads). What was pending on this thread is computed first.

    Errors:
        JitError: something is read in the block, or it stands in a jitted function.

    >>> import proa as pa
    >>> from proa import nn
    >>> with pa.lazy_init():
    ...     layer = nn.Linear(50_000, 100_000)
    >>> layer.weight.shape, layer.num_parameters()
    ((100000, 50000), 5000100000)
    >>> "<UnmadeError>" in repr(layer.weight)
    True
    """
    outer = thread.state
    if outer.mode & CAPTURE:
        if outer.capture.name != NAME:
            raise JitError(message(NAME, "a function that is recorded", "it outside of jit"))
        yield
        return
    default_generator()
    sync()
    capture = Capture(NAME)
    state = State(outer.mode | CAPTURE, capture, outer)
    try:
        with use_state(state):
            yield
    finally:
        described = Description(capture)
        capture.restore()
        for tensor in live_handles(state):
            if tensor.value.is_pending:
                _unmake(tensor, described)


def _unmake(tensor: Tensor, described: Description) -> None:
    v = tensor.value
    of = spec(v.spec.shape, v.spec.dtype, v.spec.weak, False, UNMADE)
    of = of.with_grad() if v.leaf is not None and v.leaf.stops else of
    tensor.value = Value(None, 0, of, Unmade(described, v, tensor), v.leaf)


def unmade(tensor: Any) -> bool:
    """Whether a tensor is described only."""
    return type(tensor) is Tensor and type(tensor.value.buffer) is Unmade


def materialize(model: Any, seed: int | None = None, generator: Generator | None = None) -> Any:
    """Makes what `lazy_init` described: a module, or a tree of modules and tensors; returns it.

    Parameters, buffers and generators that are described get the values that the constructors
    would give them now; what has been made or loaded is left alone. Numbers are drawn from where
    the constructors draw them; `seed` or `generator` stand in for the default generator. So
    `materialize(model, seed=7)` equals a model made after `pa.manual_seed(7)`, bit by bit, where
    all of what the block described is made at once. Handles stay the same, so optimizers and ties
    keep working. The work is recorded, and done when it is needed, as with any constructor.

    Errors:
        ArgumentError: both `seed` and `generator`. DtypeError: something else than a module.

    >>> import proa as pa
    >>> from proa import nn
    >>> with pa.lazy_init():
    ...     layer = nn.Linear(3, 2)
    >>> _ = pa.manual_seed(7)
    >>> eager = nn.Linear(3, 2)
    >>> bool((pa.materialize(layer, seed=7).weight == eager.weight).all())
    True
    """
    if seed is not None and generator is not None:
        raise ArgumentError(message("materialize", "a seed and a generator", "one of them"))
    if generator is not None and type(generator) is not Generator:
        raise DtypeError(message("materialize", f"{generator!r:.60}", "a pa.Generator"))
    if thread.state.mode & CAPTURE:
        raise JitError(message("materialize", "a function that is recorded", "it outside"))
    source = Generator(seed) if seed is not None else generator or default_generator()
    groups: dict[Description, dict[int, Tensor]] = {}
    for leaf in tree.flatten(model)[0]:
        if type(leaf) is not Tensor and not isinstance(leaf, Module):
            raise DtypeError(message("materialize", f"{leaf!r:.60}", "modules and tensors"))
        for tensor in _tensors_of(leaf) if isinstance(leaf, Module) else [leaf]:
            if unmade(tensor):
                group = groups.setdefault(tensor.value.buffer.description, {})
                group[id(tensor)] = tensor
    for description, tensors in groups.items():
        _make(description, list(tensors.values()), source)
    return model


def _tensors_of(module: Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors and generators among the fields."""
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        for field in vars(part).values():
            if type(field) is Generator:
                yield field.state
            elif type(field) is Tensor:
                yield field


def _make(description: Description, tensors: list[Tensor], source: Generator) -> None:
    """Records the work of these tensors on this thread; generators are left as it leaves them."""
    default = default_generator().state
    bound = [
        (source.state if handle is default else handle, first, last)
        for handle, first, last in description.assigned
    ]
    starts = {first: handle.value for handle, first, _ in bound}
    works = [t.value.buffer.work for t in tensors]
    lasts = [last for *_, last in bound if last.is_pending]
    found = _again([*works, *lasts], starts, description.capture)
    for handle, _, last in bound:
        if last in found:
            rebind(handle, found[last])
    for tensor, work in zip(tensors, works, strict=True):
        rebind(tensor, found[work])


def _again(wanted: list[Value], starts: dict[Value, Value], capture: Capture) -> dict[Any, Value]:
    """The values of recorded work that is recorded anew, with other values to start from."""
    state = thread.state
    made: dict[tuple[Any, int], Value] = {}

    def now(v: Value) -> Value:
        v = capture.source(v)
        return made[v.node, v.index] if v.is_pending else starts.get(v, v)

    outer = state.scope
    try:
        for node in reach(wanted):
            state.scope = node.scope
            inputs = tuple([now(v) for v in node.inputs])
            for i, value in enumerate(state.record(node.entry.plain, inputs)):
                made[node, i] = value
    finally:
        state.scope = outer
    return {v: now(v) for v in wanted}
