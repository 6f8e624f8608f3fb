"""The pipeline from a recorded graph to a Program, as data: an ordered list of named passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proa.compile.backend import Backend, Device
from proa.compile.program import Program
from proa.config import config
from proa.graph.graph import Graph
from proa.graph.show import show
from proa.graph.verify import verify
from proa.ops.expand import flat
from proa.transforms.simplify import simplify

Stage = Callable[[Graph, Backend], Graph]

STAGES: Final[list[tuple[str, Stage]]] = [
    ("expand", lambda graph, backend: flat(graph, keeps=backend.claims)),
    ("simplify", lambda graph, backend: simplify(graph)),
]


def lower(graph: Graph, backend: Backend, device: Device) -> Program:
    """All passes in order; each is verified under test and printed when asked for."""
    for name, stage in STAGES:
        graph = stage(graph, backend)
        if config.verify:
            verify(graph)
        if name in config.show:
            print(f"# {name}\n{show(graph)}")
    return Program(graph, device)


def stage_names() -> list[Any]:
    return [name for name, _ in STAGES]
