"""The operations that an exported directory may hold: their names and parameters never change.

What stands here once is read for ever. Proa may call a parameter otherwise by now, but has it in
the same place; an operation whose meaning changes, or that gains a parameter, takes a new name
here. One that does not stand here is stored as the operations that it expands to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import proa.ops.composite  # what is known is what has been declared
import proa.ops.window  # noqa: F401
from proa.dtypes import Dtype
from proa.errors import ArgumentError, ExportError, message
from proa.graph.entry import intern_entry
from proa.graph.graph import Graph, graphs_in
from proa.graph.node import line_of
from proa.graph.spec import Spec
from proa.ops.expand import expanded_specs, flat
from proa.ops.primitive import REGISTRY, Primitive

VERSION: Final = 2  # of this list: one more with each name that is added
GIVEN: Final = {"bias", "mask", "p", "pos_weight", "smoothing", "state", "weight"}
WINDOW: Final = 1024  # places along one axis of a pooling's window
AXIS: Final = 2**20  # places along an axis that is pooled

# Parameters as Python would annotate them; `names` are strings, `pairs` pairs of ints.
OPERATIONS: Final = {
    "abs": "",
    "acos": "",
    "acosh": "",
    "adaptive_avg_pool": "output: ints",
    "adaptive_max_pool": "output: ints",
    "add": "",
    "and": "",
    "argmax": "axes: ints",
    "asin": "",
    "asinh": "",
    "atan": "",
    "atan2": "",
    "atanh": "",
    "attention": "causal: bool, given: names",
    "avg_pool": "kernel: ints, stride: ints, padding: ints, ceil: bool, include: bool",
    "batch_norm": "given: names",
    "batch_norm_fixed": "given: names",
    "batch_norm_running": "n: int",
    "binary_cross_entropy": "reduction: name",
    "binary_cross_entropy_with_logits": "reduction: name, given: names",
    "bitcast": "dtype: dtype",
    "branch": "graphs: graphs",
    "broadcast": "shape: ints, axes: ints",
    "call": "graph: graph",
    "cast": "dtype: dtype, weak: bool",
    "class_loss": "axis: int, given: names",
    "class_score": "axis: int",
    "concatenate": "axis: int",
    "conj": "",
    "conv": "strides: ints, padding: pairs, x_dilation: ints, w_dilation: ints, groups: int",
    "cos": "",
    "cosh": "",
    "cross_entropy": "reduction: name, given: names",
    "cross_entropy_probabilities": "reduction: name, given: names",
    "cumprod": "axis: int, reverse: bool",
    "cumsum": "axis: int, reverse: bool",
    "custom": "graph: graph, rule: graph, count: int",
    "div": "",
    "dot": "a: name, b: name, out: name",
    "dropout": "",
    "dynamic_slice": "axes: ints, sizes: ints, strides: ints",
    "dynamic_update": "axes: ints, strides: ints",
    "einsum": "equation: name",
    "elu": "",
    "embedding": "",
    "eq": "",
    "erf": "",
    "exp": "",
    "expm1": "",
    "flip": "axes: ints",
    "floor": "",
    "gather": "axes: ints, batch: int",
    "gelu": "approximate: name",
    "gelu_slope": "approximate: name",
    "group_norm": "groups: int, given: names",
    "huber_loss": "reduction: name",
    "imag": "",
    "iota": "shape: ints, axis: int, dtype: dtype",
    "is_finite": "",
    "keep": "number: int",
    "kl_div": "reduction: name, log_target: bool",
    "l1_loss": "reduction: name",
    "layer_norm": "length: int, given: names",
    "le": "",
    "leaky_relu": "",
    "linear": "given: names",
    "log": "",
    "log10": "",
    "log1p": "",
    "log2": "",
    "log_sigmoid": "",
    "log_softmax": "axes: ints",
    "logsumexp": "axes: ints, keepdims: bool",
    "loop": "condition: graph, body: graph",
    "lt": "",
    "max": "axes: ints",
    "max_pool": "kernel: ints, stride: ints, padding: ints, dilation: ints, ceil: bool",
    "maximum": "",
    "mean": "axes: ints, keepdims: bool",
    "min": "axes: ints",
    "minimum": "",
    "mse_loss": "reduction: name",
    "mul": "",
    "neg": "",
    "nll_loss": "reduction: name",
    "not": "",
    "one_hot": "classes: int, dtype: dtype",
    "or": "",
    "pad": "low: ints, high: ints, interior: ints",
    "permute": "axes: ints",
    "pow": "",
    "prod": "axes: ints",
    "random_advance": "",
    "random_bernoulli": "shape: ints",
    "random_bits": "shape: ints",
    "random_categorical": "axis: int",
    "random_integers": "shape: ints, dtype: dtype",
    "random_normal": "shape: ints, dtype: dtype",
    "random_permutation": "n: int",
    "random_uniform": "shape: ints, dtype: dtype",
    "real": "",
    "relu": "",
    "rem": "",
    "reshape": "shape: ints",
    "rms_norm": "length: int, given: names",
    "rsqrt": "",
    "scan": "body: graph, length: int, reverse: bool, constants: int, carry: int",
    "scatter": "axes: ints, batch: int, mode: name",
    "select": "",
    "shift_left": "",
    "shift_right": "",
    "sigmoid": "",
    "sign": "",
    "silu": "",
    "sin": "",
    "sinh": "",
    "slice": "starts: ints, stops: ints, strides: ints",
    "smooth_l1_loss": "reduction: name",
    "softmax": "axes: ints",
    "softplus": "",
    "sort": "axis: int",
    "sqrt": "",
    "std": "axes: ints, keepdims: bool",
    "sub": "",
    "sum": "axes: ints",
    "take": "axis: int",
    "take_along_axis": "axis: int",
    "tan": "",
    "tanh": "",
    "two_class_loss": "",
    "var": "axes: ints, keepdims: bool",
    "xor": "",
}
_POOLS: Final = ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool")
_PARAMS: Final = {
    name: dict([part.split(": ") for part in text.split(", ") if part])
    for name, text in OPERATIONS.items()
}


NAMES: Final = {name: tuple(kinds) for name, kinds in _PARAMS.items()}


def known() -> dict[str, Primitive]:
    """The operations that this Proa has, by the names that stand in files."""
    return {name: REGISTRY[name] for name in OPERATIONS}


def stable(graph: Graph) -> Graph:
    """The same function in operations that stand in the list, in graphs inside too."""
    found = flat(graph, merge=False, keeps=lambda entry: entry.primitive.name in OPERATIONS)
    steps = []
    for step in found.steps:
        entry = step.entry
        name = entry.primitive.name
        if name not in OPERATIONS:
            given = f"the operation {name} at {line_of(step.where)}"
            hint = "a function of Proa's own operations"
            raise ExportError(message("export", given, "one that files may hold", hint))
        if graphs_in(entry.params):
            params = _inside(entry.params)
            step = step._replace(
                entry=intern_entry(entry.primitive.table, entry.primitive, params, entry.ins)
            )
        steps.append(step)
    return Graph(found.inputs, tuple(steps), found.outputs, found.constants)


def _inside(value: Any) -> Any:
    if type(value) is Graph:
        return stable(value)
    return tuple([_inside(v) for v in value]) if type(value) is tuple else value


# What a file may ask for.


def check(primitive: Primitive, params: Sequence[Any], ins: Sequence[Spec]) -> None:
    """An error where parameters are not of their kinds, or graphs do not fit their operands; all
    else is said by the spec rule."""
    name = primitive.name
    for (key, kind), value in zip(_PARAMS[name].items(), params, strict=True):
        if not _KINDS[kind](value):
            given = f"{key} {value!r:.60}"
            raise ArgumentError(message(name, given, f"a parameter of the kind {kind}"))
    if name == "custom":
        graph, rule, count = params
        taken = len(graph.inputs)
        expected = (*ins[:taken], *graph.output_specs(), *ins[taken:])
        fits = tuple(ins[:taken]) == graph.input_specs() and 0 <= count <= taken
        if not fits or rule.input_specs() != expected or rule.output_specs() != tuple(ins[:count]):
            raise ArgumentError(message(name, f"operands {ins!r:.80}", "those of its graphs"))
    if callable(primitive.expand):  # its spec rule may trust what recorded it
        expanded_specs(primitive, tuple(ins), dict(zip(primitive.params, params, strict=True)))
    if name in _POOLS:  # their expansions have a step for each place in a window
        own = dict(zip(_PARAMS[name], params, strict=True))
        windows = list(own.get("kernel", ()))
        axes = [n for of in ins for n in of.shape[-len(params[0]) :]]
        if "output" in own:
            windows = [n // max(m, 1) for n, m in zip(axes, own["output"], strict=False)]
        steps = [*own.get("stride", ()), *own.get("dilation", ())]
        if min(steps, default=1) < 1 or max(windows, default=0) > WINDOW:
            raise ArgumentError(message(name, f"windows {windows!r:.60}", f"at most {WINDOW}"))
        if max(axes, default=0) > AXIS:
            raise ArgumentError(message(name, f"sizes {axes!r:.60}", f"at most {AXIS}"))


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is tuple and all([type(v) is kind for v in value])


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "int": lambda value: type(value) is int,
    "bool": lambda value: type(value) is bool,
    "name": lambda value: type(value) is str and len(value) <= 1000,
    "dtype": lambda value: type(value) is Dtype,
    "graph": lambda value: type(value) is Graph,
    "ints": _all(int),
    "names": lambda value: _all(str)(value) and set(value) <= GIVEN and len({*value}) == len(value),
    "graphs": _all(Graph),
    "pairs": lambda value: type(value) is tuple and all([_pair(v) for v in value]),
}


def _pair(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and all([type(n) is int for n in value])
