"""The pipeline from a recorded graph to a Program, as data: an ordered list of named passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proa.compile.backend import Backend, Device
from proa.compile.program import Program
from proa.config import config
from proa.errors import ArgumentError, DeviceError, message
from proa.graph.graph import Graph
from proa.graph.node import line_of
from proa.graph.show import show
from proa.graph.verify import verify
from proa.ops.control import graphs_of, inside, is_control
from proa.ops.expand import flat
from proa.transforms.relax import relax
from proa.transforms.simplify import simplify

Stage = Callable[[Graph, Backend], Graph]


def _deep(stage: Stage) -> Stage:
    """The pass on a graph, then on the graphs that its control flow runs."""

    def run(graph: Graph, backend: Backend) -> Graph:
        return inside(stage(graph, backend), lambda inner: run(inner, backend))

    return run


STAGES: Final[list[tuple[str, Stage]]] = [
    ("expand", _deep(lambda graph, backend: flat(graph, keeps=backend.claims))),
    ("simplify", _deep(lambda graph, backend: simplify(graph))),
]
FAST: Final[list[tuple[str, Stage]]] = [
    *STAGES, ("relax", _deep(lambda graph, backend: relax(graph))),
]  # fmt: skip


def stages(numerics: str) -> list[tuple[str, Stage]]:
    return FAST if numerics == "fast" else STAGES


def lower(
    graph: Graph, backend: Backend, device: Device, numerics: str = "strict",
    donated: frozenset[int] = frozenset(),
) -> Program:  # fmt: skip
    """All passes in order; each is verified under test and printed when asked for."""
    _refuse_unknown(config.show, backend)
    for name, stage in stages(numerics):
        graph = stage(graph, backend)
        if config.verify:
            verify(graph)
        if name in config.show:
            print(f"# {name}\n{show(graph)}")
    _refuse_unclaimed(graph, backend)
    return Program(graph, device, donated, numerics)


def passes(backend: Backend, numerics: str = "strict") -> list[str]:
    """The names of all passes for a backend, in order: those above, then its own."""
    return [*[name for name, _ in stages(numerics)], *getattr(backend, "passes", ())]


def shown(
    name: str, graph: Graph, backend: Backend, device: Device, numerics: str = "strict"
) -> str:  # fmt: skip
    """What a pass makes of a recorded graph, as text."""
    known = passes(backend, numerics)
    if name not in known:
        raise ArgumentError(message("show", f"{name!r:.60}", "one of " + ", ".join(known)))
    for stage_name, stage in stages(numerics):
        graph = stage(graph, backend)
        if stage_name == name:
            return show(graph)
    chip: Any = backend
    text: str = chip.shown(name, Program(graph, device, numerics=numerics))
    return text


def _refuse_unknown(names: tuple[str, ...], backend: Backend) -> None:
    """PROA_SHOW asks for passes that a backend must have."""
    known = passes(backend, "fast")
    for name in names:
        if name not in known:
            given = f"PROA_SHOW={name:.60} on {backend.name}"
            raise ArgumentError(message("show", given, "one of " + ", ".join(known)))


def _refuse_unclaimed(graph: Graph, backend: Backend) -> None:
    for step in graph.steps:
        if is_control(step.entry):
            for inner in graphs_of(step.entry):
                _refuse_unclaimed(inner, backend)
        if not backend.claims(step.entry):
            name = step.entry.primitive.name
            given = f"{step.entry!r:.200} recorded at {line_of(step.where)}"
            hint = 'x.to("numpy")'
            raise DeviceError(
                message(name, given, f"an operation that {backend.name} claims", hint)
            )
