"""Source conversion: the Python control flow of a function as control flow of the graph.

`converted(f)` reads the source of f, rewrites it (`source`, `names`, `jumps`, `rewrite`), and
builds it on f's own cells and globals (`functions`). What was control flow calls helpers (`run`),
which ask at each run whether a condition is a recorded tensor: then both branches, or one round of
the loop, are recorded (`state`) and joined (`forms`, `branches`, `loops`). What is supported stands
in `docs/tour/11-conversion.md`.
"""

from __future__ import annotations

import proa.capture.convert.run as _run  # what converted functions call
from proa.capture.convert.functions import converted, of

__all__ = ["converted", "of"]
