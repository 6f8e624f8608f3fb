"""`export` and `load`: a function as a folder without Python, and the callable that comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, final

from proa.compile.find import backend, default_device
from proa.compile.find import device as as_device
from proa.errors import ArgumentError, FileError, ProaError, ShapeError, message
from proa.exports import folder as files
from proa.exports.operations import NAMES, check, known
from proa.exports.operations import VERSION as OPERATIONS_VERSION
from proa.exports.recording import recorded
from proa.exports.signature import (
    Form,
    FormReader,
    Signature,
    dims_of,
    is_name,
    written,
)  # fmt: skip
from proa.graph.graph import Graph, graphs_in
from proa.graph.node import Value
from proa.graph.spec import Spec
from proa.graph.spec import spec as interned
from proa.graph.store import dump, listed, restored
from proa.graph.store import load as load_graphs
from proa.graph.template import Polynomial, Sizes, Template
from proa.io import checkpoint
from proa.io.atomic import target_of
from proa.ops.primitive import apply
from proa.ops.structure import call
from proa.record.live import thread
from proa.shapes import MAX_SIZE, Dim
from proa.tensor import Tensor
from proa.version import __version__

MOST_DIMS: Final = 16
_FIELDS: Final = {
    "proa", "operations", "name", "positional", "arguments", "result", "dims", "weights", "graphs",
}  # fmt: skip


def export(
    function: Callable[..., Any], specs: Any, path: Any, *, sizes: Mapping[str, Any] | None = None
) -> None:
    """Writes a function of tensors into a folder that `pa.load` turns into a callable again, in a
    process without the function's code, for other sizes, on another backend.

    Arguments:
        function: a function, method or module. What it reads from outside becomes weights; state
            that it assigns is refused.
        specs: one for each argument, in a list, or by name in a dict: `pa.spec(shape, dtype)`, an
            example tensor, a tree of these; what else stands there is constant. A name in a shape
            is a size that may differ from call to call.
        path: the folder. An older export there is replaced, anything else is not.
        sizes: for names of sizes three examples or more, where small ones will not do.

    Errors:
        ExportError: state is assigned, or the operations are others at other sizes; names the line.
        JitError: a value is read as a Python number.

    >>> import proa as pa, tempfile
    >>> path = tempfile.mkdtemp() + "/twice"
    >>> pa.export(lambda x: x * 2.0, [pa.spec(("n",), pa.float32)], path)
    >>> pa.load(path)(pa.asarray([1.0, 2.0, 3.0])).tolist()
    [2.0, 4.0, 6.0]
    """
    files.refuse_others(target_of("export", path))
    found = recorded(function, specs, sizes or {})
    signature, template = found.signature, found.template
    arrays: dict[str, Any] = {}
    graphs = dump(template, arrays, found.points if template.dims else (), NAMES)
    texts = iter([i["spec"] for i in graphs[-1]["inputs"]])
    arguments = [{"name": name, "form": written(form, texts)} for name, form in signature.arguments]
    names: list[str] = []
    for weight in found.weights:
        name = f"weight:{len(names)}" if files.reserved(weight.name) else weight.name
        arrays[name] = Tensor(weight.value).numpy()
        names.append(name)
    columns = zip(*found.points, strict=True)
    body = {
        "proa": __version__,
        "operations": OPERATIONS_VERSION,
        "name": signature.name,
        "dims": {
            name: {"least": low, "most": high, "examples": list(column)}
            for (name, (low, high)), column in zip(signature.dims.items(), columns, strict=True)
        },
        "positional": signature.positional,
        "arguments": arguments,
        "result": written(signature.result, iter(_texts_of_outputs(graphs[-1]))),
        "weights": names,
        "graphs": graphs,
    }  # fmt: skip
    files.write(path, body, arrays)


def _texts_of_outputs(graph: Any) -> list[str]:
    texts = [row["spec"] for row in (*graph["inputs"], *graph["constants"])]
    texts += [text for step in graph["steps"] for text in step["results"]]
    return [texts[slot] for slot in graph["outputs"]]


@final
class Exported:
    """A function that `pa.export` wrote. Calling it checks the arguments, finds the sizes, and
    records one operation, so it can be jitted, mapped and differentiated like any other.

    Arguments:
        signature: names, shapes and dtypes of arguments and result; what each size may be.
        weights: the tensors that the function holds, by name.
    """

    __slots__ = ("signature", "weights", "template", "graphs", "version", "__weakref__")

    def __init__(
        self, signature: Signature, weights: dict[str, Tensor], template: Template, version: str
    ) -> None:
        self.signature = signature
        self.weights = weights
        self.template = template
        self.graphs: dict[Sizes, Graph] = {}
        self.version = version

    @property
    def inputs(self) -> dict[str, Spec]:
        """The tensors that a call takes, by where they stand."""
        return {
            path: of
            for name, form in self.signature.arguments
            for path, of in zip(form.paths(name), form.specs(), strict=True)
        }

    @property
    def outputs(self) -> dict[str, Any]:
        """The tensors that a call gives, by where they stand, in words."""
        form = self.signature.result
        return dict(zip(form.paths("result"), form.specs(), strict=True))

    def graph(self, **sizes: int) -> Graph:
        """The graph at these sizes: arguments, then weights."""
        dims = self.template.dims
        if set(sizes) != set(dims):
            given = f"the sizes {sorted(sizes)}"
            raise ArgumentError(message(self.signature.name, given, f"{sorted(dims)}"))
        return self._bound(tuple([sizes[d] for d in dims]))

    def _bound(self, sizes: Sizes) -> Graph:
        found = self.graphs.get(sizes)
        if found is None:
            try:
                found = self.template.bind(sizes)
                _check_all(found)
            except Exception as error:  # a spec rule at sizes that nobody has tried
                text = ", ".join(
                    [f"{d} = {n}" for d, n in zip(self.template.dims, sizes, strict=True)]
                )
                expected = f"sizes that all operations accept ({error})"
                raise ShapeError(message(self.signature.name, text, expected)) from error
            if len(self.graphs) >= 64:
                self.graphs.clear()
            self.graphs[sizes] = found
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tensors, sizes = self.signature.leaves(args, kwargs)
        graph = self._bound(tuple([sizes[d] for d in self.template.dims]))
        if not graph.outputs:
            return self.signature.result.filled(iter(()))
        outs = apply(call, [*tensors, *self.weights.values()], graph=graph)
        return self.signature.result.filled(iter(outs if isinstance(outs, tuple) else (outs,)))

    def __repr__(self) -> str:
        return f"<exported {self.signature!r}>"


def _check_all(graph: Graph) -> None:
    """What `check` says of the graphs that a bind has made."""
    stack, seen = [graph], {graph}
    while stack:
        for step in stack.pop().steps:
            check(step.entry.primitive, step.entry.params, step.entry.ins)
            fresh = [g for g in graphs_in(step.entry.params) if g not in seen]
            seen.update(fresh)
            stack += fresh


# Reading.


def load(path: Any, /, device: Any = None, *, check: bool = True, **objects: Any) -> Any:
    """What `pa.export` or `pa.save` wrote: a callable, or the tree of a checkpoint.

    Arguments:
        path: the folder. A damaged or hostile one raises FileError; nothing in it is executed.
        device: where the weights of an exported function are put; the default one if None.
        check: compare the digest of the weights, which reads them all.
        objects: of a checkpoint, what takes the state of that name.

    >>> import proa as pa, tempfile
    >>> path = tempfile.mkdtemp() + "/f"
    >>> pa.export(lambda x, y: (x @ y).sum(), [pa.ones((2, 3)), pa.ones((3, 2))], path)
    >>> f = pa.load(path)
    >>> f.inputs
    {'x': float32[2, 3], 'y': float32[3, 2]}
    >>> f(pa.ones((2, 3)), y=pa.ones((3, 2))).item()
    12.0
    """
    target = target_of("load", path)
    if not files.is_export(target):
        if device is not None:
            objects["device"] = device
        return checkpoint.load(path, **objects)
    if objects:
        given = f"{', '.join(objects)} for the exported function {target}"
        raise ArgumentError(message("load", given, "a checkpoint", "pa.load(path)"))
    home = as_device(device) if device is not None else thread.state.device or default_device()
    contents = files.read(target, check)
    try:
        return _exported(contents, home)
    except FileError:
        raise
    except RecursionError:
        raise files.refused(target, "trees that are nested too deep") from None
    except ProaError as error:
        raise files.refused(target, str(error)) from None


def _refused(given: str, expected: str = "an exported function") -> FileError:
    return FileError(message("load", given[:300], expected))


def _exported(contents: files.Contents, home: Any) -> Exported:
    body = contents.body
    if body.keys() != _FIELDS:
        raise _refused(f"the fields {sorted(body)!r:.200}", f"{sorted(_FIELDS)}")
    listed_in = body["operations"]
    if type(listed_in) is not int or not 1 <= listed_in <= OPERATIONS_VERSION:
        given = f"operations of version {listed_in!r:.40}"
        raise _refused(given, f"1 to {OPERATIONS_VERSION}, which this Proa knows")
    version = body["proa"]
    if type(version) is not str or len(version) > 100:
        raise _refused(f"proa {version!r:.60}", "the version that wrote it")
    limits, sample = _dims(body["dims"])
    weights, constants = _weights(body["weights"], contents.arrays)
    dims = tuple(limits)
    graph = load_graphs(body["graphs"], known(), constants, dims, sample, check, NAMES)
    if type(graph) is Template:
        template = graph
    elif dims:
        raise _refused(f"the dims {dims}, which no input has")
    else:
        template = Template(graph, (), (), {}, {}, {})
    signature, held = _signature(body, template, limits)
    if len(held) != len(weights):
        raise _refused(f"{len(weights)} weights", f"{len(held)}")
    made = {}
    for (name, array), of in zip(weights.items(), held, strict=True):
        fits = restored(array, of)
        if fits is None:
            raise _refused(f"the weight {name} of {array.dtype}{list(array.shape)}", f"{of}")
        made[name] = _put(fits, of, home)
    return Exported(signature, made, template, version)


def _dims(given: Any) -> tuple[dict[str, tuple[int, int | None]], Sizes]:
    """Bounds of the dims, and the size of each in the first recording."""
    if type(given) is not dict or len(given) > MOST_DIMS:
        raise _refused(f"dims {given!r:.60}", f"at most {MOST_DIMS}")
    limits: dict[str, tuple[int, int | None]] = {}
    sample: list[int] = []
    for name, row in given.items():
        if not is_name(name) or type(row) is not dict:
            raise _refused(f"the dim {name!r:.60}", "a name")
        rows: list[Any] = [row.get(k) for k in ("least", "most", "examples")]
        low, high, examples = rows
        ints = [low, *([] if high is None else [high])]
        ints += examples if type(examples) is list and 0 < len(examples) < 100 else [None]
        if row.keys() != {"least", "most", "examples"} or any(
            type(n) is not int or not 0 <= n < 2**40 for n in ints
        ):
            raise _refused(f"the dim {name} of {row!r:.100}", "its bounds and examples")
        if high is not None and high < low or any(n < low for n in examples):
            raise _refused(f"the dim {name} of {row!r:.100}", "examples within its bounds")
        limits[name] = (low, high)
        sample.append(examples[0])
    return limits, tuple(sample)


def _weights(names: Any, arrays: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of the weights, in the order of the inputs, and those of constants."""
    given = listed("weights", names, 1_000_000)
    if any(type(n) is not str or n.startswith("constant:") for n in given):
        raise _refused(f"weights {given!r:.60}", "their names")
    if len(set(given)) != len(given):
        raise _refused("a weight that is named twice")
    constants = {n: a for n, a in arrays.items() if n.startswith("constant:")}
    if set(given) | set(constants) != set(arrays):
        odd = sorted(set(given) ^ (set(arrays) - set(constants)))
        raise _refused(f"weights that are not on both lists: {odd!r:.100}", f"{files.WEIGHTS}")
    return {n: arrays[n] for n in given}, constants


def _signature(
    body: dict[str, Any], template: Template, limits: Any
) -> tuple[Signature, list[Spec]]:  # fmt: skip
    """Names and forms, which must agree with the graph's inputs and outputs; what the weights
    are."""
    table = body["graphs"][-1]
    texts = [row["spec"] for row in table["inputs"]]
    specs = [_named(template, i) for i in range(len(texts))]
    reader = FormReader(iter(specs), iter(texts))
    arguments = {}
    for row in listed("arguments", body["arguments"], 10_000):
        if type(row) is not dict or row.keys() != {"name", "form"} or not is_name(row["name"]):
            raise _refused(f"an argument {row!r:.100}")
        if row["name"] in arguments:
            raise _refused(f"the argument {row['name']} twice")
        arguments[row["name"]] = reader.read(row["form"])
    _check_arguments(arguments, limits)
    held = list(reader.specs)
    if any(of.is_named for of in held):
        raise _refused("a weight whose shape depends on sizes")
    texts = _texts_of_outputs(table)
    reader = FormReader(iter(texts), iter(texts))
    result = reader.read(body["result"])
    if next(reader.specs, None) is not None:
        raise _refused("results of the graph that are not in the result")
    name, positional = body["name"], body["positional"]
    if type(name) is not str or not 0 < len(name) <= 200:
        raise _refused(f"the name {name!r:.60}")
    if type(positional) is not int or not 0 <= positional <= len(arguments):
        raise _refused(f"{positional!r:.60} positional arguments")
    return Signature(name, positional, tuple(arguments.items()), result, limits), held


def _check_arguments(arguments: dict[str, Form], limits: Any) -> None:
    found = set(dims_of(arguments.values()))
    if found != set(limits):
        raise _refused(f"the dims {sorted(limits)}", f"those of the arguments: {sorted(found)}")


def _named(template: Template, number: int) -> Spec:
    """The spec of an input with its dims by name."""
    of = template.graph.inputs[number].spec
    shape = template.inputs.get(number, of.shape)
    if of.weak or any(n > MAX_SIZE for n in shape if type(n) is int):
        raise _refused(f"an input {of}")
    return interned(tuple([_dim(n, template.dims) for n in shape]), of.dtype)


def _dim(n: Any, dims: tuple[str, ...]) -> Any:
    if type(n) is not Polynomial:
        return n
    ((coefficient, powers),) = n.terms if len(n.terms) == 1 else ((0, (0,)),)
    if coefficient != 1 or sum(powers) != 1:
        raise _refused(f"an input with the size {n.text(dims)}", "a size that is a dim itself")
    return Dim(dims[powers.index(1)])


def _put(array: Any, of: Spec, home: Any) -> Tensor:
    """A weight on a device. What has the host's memory takes the file's own pages."""
    chip = backend(home.backend)
    return Tensor(Value(None, 0, of, getattr(chip, "adopt", chip.put)(array, of, home)))
