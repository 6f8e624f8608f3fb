"""Curves of a training run: a picture where matplotlib is installed, else plain characters."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

MARGIN = 8
SMOOTH = 40


def smooth(values: Sequence[float]) -> list[float]:
    """The mean over the last few values, at each place.

    Example:
        >>> smooth([1.0, 3.0])
        [1.0, 2.0]
    """
    window = max(2, len(values) // SMOOTH)
    found, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        found.append(total / min(i + 1, window))
    return found


def plain(values: Sequence[float], width: int = 60, height: int = 10) -> str:
    """Draw a curve with plain characters.

    Arguments:
        values: the curve, from left to right; what is not finite is left out.
        width: the number of columns, beside 8 for the scale.
        height: the number of lines.

    Example:
        >>> print(plain([3.0, 2.0, 1.0], width=3, height=3))
          3.00 |*
          2.00 | *
          1.00 |  *
    """
    columns = _columns([v for v in values if math.isfinite(v)], width)
    if not columns:
        return "(no curve)"
    low, high = min(columns), max(columns)
    span = high - low or 1.0
    rows = [round((high - v) / span * (height - 1)) for v in columns]
    lines = []
    for i in range(height):
        mark = high - span * i / max(1, height - 1)
        line = "".join("*" if row == i else " " for row in rows)
        lines.append(f"{mark:{MARGIN - 2}.2f} |{line}".rstrip())
    return "\n".join(lines)


def _columns(values: list[float], width: int) -> list[float]:
    """The mean of the values that fall into each column."""
    count = min(width, len(values))
    edges = [i * len(values) // count for i in range(count + 1)] if count else []
    return [sum(values[a:b]) / (b - a) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def picture(
    path: Path,
    title: str,
    training: Sequence[float],
    held_out: Mapping[int, float],
    levels: Mapping[str, float],
) -> bool:
    """Save the curves as a PNG; False where matplotlib is not installed.

    Arguments:
        path: the file to write.
        title: what stands above.
        training: a value for each step.
        held_out: values on held-out text, by the number of steps done.
        levels: horizontal lines to compare with, by name.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = range(1, len(training) + 1)
    axes.plot(steps, training, color="#b8cbe0", lw=0.8, label="training, each step")
    axes.plot(steps, smooth(training), color="#1f5a93", lw=1.6, label="training, smoothed")
    axes.plot(*zip(*held_out.items(), strict=True), "o-", color="#c4521a", ms=5, label="held out")
    for name, level in levels.items():
        axes.axhline(level, color="#555555", lw=1, ls="--", label=f"{name}: {level:.2f}")
    axes.set(title=title, xlabel="step", ylabel="bits per byte")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    # A reader of the folder never sees half a picture.
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=130)
    os.replace(part, path)
    return True
