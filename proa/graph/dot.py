"""A graph as a drawing, in the language of graphviz: steps in the boxes of their modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from proa.graph.graph import Graph, Step, graphs_in

HEAD = (
    "digraph {\n"
    '  node [shape=box, style="rounded,filled", fillcolor=white, fontname=Helvetica, fontsize=10]\n'
    "  edge [fontname=Helvetica, fontsize=8, color=gray40]\n"
    "  graph [fontname=Helvetica, fontsize=9, color=gray70, labeljust=l]\n"
)


def dot(graph: Graph, names: Sequence[str] = ()) -> str:
    """The drawing as text. `names`: those of the inputs; graphs inside are drawn beside, once."""
    drawing = _Drawing()
    drawing.graph(graph, list(names), "")
    return HEAD + "\n".join(drawing.lines) + "\n}\n"


@final
class _Drawing:
    __slots__ = ("lines", "known")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.known: dict[Graph, str] = {}

    def graph(self, graph: Graph, names: list[str], prefix: str) -> None:
        inner = [g for step in graph.steps for g in graphs_in(step.entry.params)]
        for one in inner:
            if one not in self.known:
                name = self.known[one] = f"g{len(self.known)}"
                self.lines.append(f"  subgraph cluster_{name} {{ label={_quoted(name)}")
                self.graph(one, [], f"{name}_")
                self.lines.append("  }")
        made = []
        names += [f"x{i}" for i in range(len(names), len(graph.inputs))]
        for i, given in enumerate(graph.inputs):
            made.append((f"{prefix}in{i}", given.spec))
            text = f"{names[i]}\n{given.spec}"
            shade = "lightyellow" if given.role.value == "data" else "lightgray"
            self._node(made[-1][0], text, f", shape=ellipse, fillcolor={shade}")
        for i, constant in enumerate(graph.constants):
            made.append((f"{prefix}c{i}", constant.spec))
            text = f"{constant.array}" if constant.spec.size == 1 else f"{constant.spec}"
            self._node(made[-1][0], text, ", shape=plaintext")
        places: dict[str, list[str]] = {}
        for i, step in enumerate(graph.steps):
            node = f"{prefix}s{i}"
            places.setdefault(step.scope, []).append(f"{node} [label={_quoted(self._text(step))}]")
            for slot in step.slots:
                source, of = made[slot]
                self.lines.append(f"  {source} -> {node} [label={_quoted(str(of))}]")
            made += [(node, of) for of in step.entry.outs]
        for i, slot in enumerate(graph.outputs):
            self._node(f"{prefix}out{i}", f"result {i}\n{made[slot][1]}", ", shape=ellipse")
            self.lines.append(f"  {made[slot][0]} -> {prefix}out{i}")
        self._boxes(places, prefix)

    def _boxes(self, places: dict[str, list[str]], prefix: str) -> None:
        """The steps of a module in one box."""
        for number, (scope, nodes) in enumerate(places.items()):
            if scope:
                label = _quoted(scope)
                self.lines.append(f"  subgraph cluster_{prefix}m{number} {{ label={label}")
            self.lines += [f"    {node}" for node in nodes]
            if scope:
                self.lines.append("  }")

    def _node(self, name: str, text: str, more: str = "") -> None:
        self.lines.append(f"  {name} [label={_quoted(text)}{more}]")

    def _text(self, step: Step) -> str:
        params = [f"{k}={self._param(v)}" for k, v in step.entry.named_params.items()]
        return "\n".join([step.entry.primitive.name, *params])

    def _param(self, value: Any) -> str:
        if type(value) is Graph:
            return self.known[value]
        if type(value) is tuple:
            return f"({', '.join([self._param(v) for v in value])})"
        return f"{value!r:.40}"


def _quoted(text: str) -> str:
    """A string of the language; a line break is centred."""
    safe = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{"".join([c if c.isprintable() else "?" for c in safe])}"'
