"""A graph as text that can be stored: versioned JSON round the printed function."""

from __future__ import annotations

import json
from typing import Any, Final

from proa.errors import FileError, ProaError, message
from proa.graph.graph import Graph
from proa.graph.show import parse, show
from proa.graph.verify import verify

VERSION: Final = 1
LIMIT: Final = 64 << 20


def dump(graph: Graph) -> str:
    """The graph as JSON text; lines and module paths are kept as comments only."""
    return json.dumps({"proa_graph": VERSION, "function": show(graph)})


def load(text: str, primitives: dict[str, Any]) -> Graph:
    """The graph that `dump` wrote; runs no code, and verifies what it read."""
    if len(text) > LIMIT:
        raise FileError(message("load graph", f"{len(text)} characters", f"at most {LIMIT}"))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(
            message("load graph", f"text that is not JSON ({error})", "a stored graph")
        ) from None
    if not isinstance(found, dict) or found.get("proa_graph") != VERSION:
        raise FileError(message("load graph", "another kind of JSON", f"proa_graph {VERSION}"))
    if not isinstance(found.get("function"), str):
        raise FileError(message("load graph", "no function", "a stored graph"))
    try:
        graph = parse(found["function"], primitives)
        verify(graph)
    except FileError:
        raise
    except (ProaError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise FileError(
            message("load graph", f"a damaged function ({error})", "a stored graph")
        ) from None
    return graph
