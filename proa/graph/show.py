"""A graph as Python that runs: `x5 = sin(x2)  # float32[3]  file.py:12`.

`show` prints; `parse` reads the text back into an equal graph (structure, not lines).
"""

from __future__ import annotations

import ast
import keyword
from typing import Any

import numpy as np

from proa.dtypes import Dtype
from proa.dtypes import dtype as as_dtype
from proa.errors import FileError, message
from proa.graph.entry import intern_entry
from proa.graph.graph import Constant, Graph, Input, Role, Step, graphs_in
from proa.graph.node import line_of
from proa.graph.spec import Spec, spec
from proa.shapes import Dim


def show(graph: Graph, name: str = "graph") -> str:
    """The graph as a Python function; `call`s are functions of their own, printed first."""
    subs: dict[Graph, str] = {}
    text = _function(graph, name, subs)
    return text


Graph.__str__ = show  # type: ignore[assignment, method-assign]  # what `print` shows


def _function(graph: Graph, name: str, subs: dict[Graph, str]) -> str:
    before: list[str] = []
    for step in graph.steps:
        for inner in graphs_in(step.entry.params):
            if inner not in subs:
                subs[inner] = f"g{len(subs)}"
                before.append(_function(inner, subs[inner], subs))
    names = [f"x{i}" for i in range(len(graph.inputs))]
    head = [
        f"{n}: {_spec_text(i.spec)!r} = {i.role.value!r}"
        for n, i in zip(names, graph.inputs, strict=True)
    ]
    lines = [f"def {name}({', '.join(head)}):"]
    slot = len(graph.inputs)
    for c in graph.constants:
        lines.append(f"    x{slot} = constant({_array_text(c.array)}, {_spec_text(c.spec)!r})")
        slot += 1
    for step in graph.steps:
        outs = ", ".join(f"x{slot + i}" for i in range(len(step.entry.outs)))
        args = [f"x{s}" for s in step.slots]
        args += [f"{k}={_param_text(v, subs)}" for k, v in step.entry.named_params.items()]
        specs = ", ".join(map(repr, step.entry.outs))
        where = f"  {line_of(step.where)}" if step.where is not None else ""
        scope = f"  {step.scope}" if step.scope else ""
        lines.append(
            f"    {outs} = {_identifier(step.entry.primitive.name)}({', '.join(args)})"
            f"  # {specs}{scope}{where}"
        )
        slot += len(step.entry.outs)
    lines.append(f"    return ({''.join(f'x{o}, ' for o in graph.outputs)})")
    return "\n\n\n".join([*before, "\n".join(lines)])


def _identifier(name: str) -> str:
    """`and_` for the primitive `and`, which Python keeps for itself."""
    return f"{name}_" if keyword.iskeyword(name) else name


def _spec_text(of: Spec) -> str:
    sizes = ",".join(str(n) for n in of.shape)
    return f"{of.dtype.name}[{sizes}]" + (" weak" if of.weak else "")


def _array_text(array: Any) -> str:
    return repr(np.ascontiguousarray(array).tobytes())


def _param_text(value: Any, subs: dict[Graph, str]) -> str:
    if type(value) is Graph:
        return subs[value]
    if type(value) is Dtype:
        return f"dtype({value.name!r})"
    if type(value) is tuple:
        return "(" + "".join(_param_text(v, subs) + ", " for v in value) + ")"
    return repr(value)


def parse(text: str, primitives: dict[str, Any]) -> Graph:
    """The graph that `show` printed; runs no code of the text."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise FileError(
            message("parse", f"text that is not Python ({error})", "show(graph)")
        ) from None
    graphs: dict[str, Graph] = {}
    last = None
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            raise FileError(message("parse", "something beside functions", "show(graph)"))
        last = graphs[function.name] = _read_function(function, graphs, primitives)
    if last is None:
        raise FileError(message("parse", "no function", "show(graph)"))
    return last


def _read_function(function: ast.FunctionDef, graphs: dict[str, Graph], primitives: Any) -> Graph:
    slots: dict[str, int] = {}
    specs: list[Spec] = []
    inputs, constants, steps = [], [], []
    for argument, role in zip(function.args.args, function.args.defaults, strict=True):
        of = _read_spec(ast.literal_eval(argument.annotation))  # type: ignore[arg-type]
        inputs.append(Input(of, Role(ast.literal_eval(role))))
        slots[argument.arg] = len(specs)
        specs.append(of)
    for statement in function.body[:-1]:
        line: Any = statement
        target, made = line.targets[0], line.value
        targets: list[Any] = list(target.elts) if isinstance(target, ast.Tuple) else [target]
        names = [t.id for t in targets]
        if made.func.id == "constant":
            data, of = ast.literal_eval(made.args[0]), _read_spec(ast.literal_eval(made.args[1]))
            array = np.frombuffer(data, of.dtype.numpy).reshape(of.shape)
            constants.append(Constant(array, of))
            outs: tuple[Spec, ...] = (of,)
        else:
            primitive = primitives[made.func.id.removesuffix("_")]
            operands = tuple([slots[a.id] for a in made.args])
            params = {k.arg: _read_param(k.value, graphs) for k in made.keywords}
            given = tuple([params[p] for p in primitive.params])
            entry = intern_entry(
                primitive.table, primitive, given, tuple([specs[s] for s in operands])
            )
            steps.append(Step(entry, operands))
            outs = entry.outs
        for name, of in zip(names, outs, strict=True):
            slots[name] = len(specs)
            specs.append(of)
    last: Any = function.body[-1]
    final = last.value
    outputs = tuple([slots[e.id] for e in final.elts])
    return Graph(tuple(inputs), tuple(steps), outputs, tuple(constants))


def _read_spec(text: str) -> Spec:
    body, _, mark = text.partition(" ")
    name, _, sizes = body.rstrip("]").partition("[")
    shape: Any = tuple([int(n) if n.isdigit() else Dim(n) for n in sizes.split(",") if n])
    return spec(shape, as_dtype(name), mark == "weak")


def _read_param(node: ast.expr, graphs: dict[str, Graph]) -> Any:
    if isinstance(node, ast.Name):
        return graphs[node.id]
    if isinstance(node, ast.Call):
        return as_dtype(ast.literal_eval(node.args[0]))
    if isinstance(node, ast.Tuple):
        return tuple([_read_param(e, graphs) for e in node.elts])
    return ast.literal_eval(node)
