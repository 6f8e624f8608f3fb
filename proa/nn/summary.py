"""`summary`: parameters, operations and memory by layer, from a recording; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, final

from proa import tree
from proa.capture.trace import record
from proa.compile.watch import operations_of
from proa.dtypes import Dtype
from proa.dtypes import dtype as as_dtype
from proa.errors import DtypeError, message
from proa.graph.entry import Entry
from proa.graph.node import Node, Value
from proa.graph.spec import Spec, spec
from proa.nn.module import Module
from proa.ops.expand import expansion
from proa.random import Generator, default_generator
from proa.shapes import as_shape
from proa.substitution import Substitution, named
from proa.tensor import Tensor, no_grad

_UNITS: Final = ("", "K", "M", "G", "T", "P")


@final
class Layer(NamedTuple):
    """One row: a module with all of its parts.

    Arguments:
        path, kind: its name, and its class; the whole model has the path "".
        depth: 0 for the whole model, 1 for its parts, ...
        shapes: of the tensors in its (last) result; empty if it was not called.
        parameters: how many numbers its parameters hold; a tied one counts once.
        operations: of its calls, in those of float32, a multiply-add being two.
        parameter_bytes: of parameters and buffers.
        result_bytes: of all results of recorded operations, which training may have to keep.
    """

    path: str
    kind: str
    depth: int
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    operations: float
    parameter_bytes: int
    result_bytes: int


@final
class Summary:
    """The rows of a summary. `print` it, or read `layers` and `total`."""

    __slots__ = ("layers", "shown_depth")

    def __init__(self, layers: list[Layer], shown_depth: int | None) -> None:
        self.layers = layers
        self.shown_depth = shown_depth

    @property
    def total(self) -> Layer:
        """The row of the whole model."""
        return self.layers[0]

    def __repr__(self) -> str:
        """A table, as wide as it needs."""
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        table.add_column("layer")
        table.add_column("result")
        for name in ("parameters", "operations", "weights", "results"):
            table.add_column(name, justify="right")
        most = self.shown_depth
        for x in [x for x in self.layers if most is None or x.depth <= most]:
            head = f"{x.path.rpartition('.')[2]}: {x.kind}" if x.path else x.kind
            shapes = " ".join(map(str, x.shapes))
            sizes = [f"{_short(n)}B" for n in (x.parameter_bytes, x.result_bytes)]
            numbers = (f"{x.parameters:,}", _short(x.operations).rstrip(), *sizes)
            table.add_row("  " * x.depth + head, shapes, *numbers)
        console = Console(width=400, color_system=None, markup=False, highlight=False)
        with console.capture() as text:
            console.print(table)
        return "\n".join(line.rstrip() for line in text.get().rstrip().split("\n"))


def _short(number: float) -> str:
    """In thousands, millions, ... with three digits."""
    size = float(number)
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    text = f"{size:.3g}" if size < 999.5 else f"{size:.0f}"
    return f"{text} {unit}"


def summary(model: Module, *inputs: Any, depth: int | None = None, **keywords: Any) -> Summary:
    """Parameters, operations and memory of a model by layer, for inputs of these shapes.

    One call is recorded and nothing computed, so that a model of `lazy_init` will do; state is
    not changed (running statistics, generators). The call is that of the model's mode, training
    or evaluation.

    Arguments:
        model: a module.
        inputs, keywords: its arguments. What has a shape and a dtype (a tensor, an array, a spec)
            or is a pair (shape, dtype) counts as a tensor; all else is given as it is.
        depth: how many levels of parts are shown; all if None.

    Errors:
        JitError: the model reads a value, such as for a Python `if`.

    >>> import proa as pa
    >>> from proa import nn
    >>> model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> nn.summary(model, ((32, 784), pa.float32))
    layer        result     parameters  operations  weights  results
    Sequential   (32, 10)       79,510      5.09 M   318 KB  26.9 KB
      0: Linear  (32, 100)      78,500      5.02 M   314 KB  12.8 KB
      1: ReLU    (32, 100)           0       6.4 K      0 B  12.8 KB
      2: Linear  (32, 10)        1,010      64.3 K  4.04 KB  1.28 KB
    """
    if not isinstance(model, Module):
        raise DtypeError(message("summary", f"{model!r:.60}", "a Module"))
    modules = list(model.named_modules())
    shapes: dict[int, tuple[tuple[int, ...], ...]] = {}

    def note(module: Module, args: Any, result: Any) -> None:
        found = [t.shape for t in tree.flatten(result)[0] if type(t) is Tensor]
        shapes[id(module)] = tuple(found)

    nodes = _recorded(model, modules, inputs, keywords, note)
    layers = []
    for path, module in modules:
        inside = [n for n in nodes if not path or f"{n.scope}.".startswith(f"{path}.")]
        held = named(module)
        layers.append(Layer(
            path, type(module).__name__, path.count(".") + 1 if path else 0,
            shapes.get(id(module), ()), module.num_parameters(),
            sum(_operations(n.entry) for n in inside), sum(t.nbytes for t in held.values()),
            sum(s.nbytes for n in inside for s in n.entry.outs),
        ))  # fmt: skip
    return Summary(layers, depth)


def _recorded(
    model: Module, modules: list[tuple[str, Module]], inputs: Any, keywords: Any,
    note: Callable[..., None],
) -> list[Node]:  # fmt: skip
    """What one call records, with placeholders for all that it is given and holds."""
    standing = {id(t): _placeholder(t.value.spec) for t in named(model).values()}
    args, kwargs = tuple([_opened(x) for x in inputs]), {k: _opened(x) for k, x in keywords.items()}
    fields = [x for _, module in modules for x in vars(module).values()]
    states = [g.state for g in (default_generator(), *fields) if type(g) is Generator]
    kept = [(state, state.value) for state in states]
    for state, value in kept:  # what is pending of them need not be computed
        state.value = _placeholder(value.spec).value
    hooks = [module.register_forward_hook(note) for _, module in modules]

    def call() -> Any:
        with no_grad(), Substitution("summary", model, standing):
            return model(*args, **kwargs)

    try:
        return record("summary", call).work.nodes
    finally:
        for hook in hooks:
            hook.remove()
        for state, value in reversed(kept):
            state.value = value


@final
class _Nothing:
    """Stands where a buffer would be."""

    __slots__ = ()


def _placeholder(of: Spec) -> Tensor:
    return Tensor(Value(None, 0, spec(of.shape, of.dtype), _Nothing()))


def _opened(given: Any) -> Any:
    """An argument with placeholders for its tensors."""
    if type(given) is tuple and len(given) == 2 and isinstance(given[0], (tuple, list)):
        try:
            return _placeholder(spec(as_shape("summary", given[0]), as_dtype(given[1])))
        except (DtypeError, TypeError, ValueError):
            pass
    leaves, structure = tree.flatten(given)
    return tree.unflatten(structure, [_leaf(x) for x in leaves])


def _leaf(given: Any) -> Any:
    shape, of = getattr(given, "shape", None), getattr(given, "dtype", None)
    if shape is None or of is None:
        return given
    return _placeholder(spec(as_shape("summary", shape), of if type(of) is Dtype else as_dtype(of)))


def _operations(entry: Entry) -> float:
    """Those of a composite are those of its parts."""
    return entry.once("operations", _counted)  # type: ignore[no-any-return]


def _counted(entry: Entry) -> float:
    graph = expansion(entry)
    if graph is None:
        return operations_of(entry)
    return sum(_operations(step.entry) for step in graph.steps)
