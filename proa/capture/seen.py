"""What became of a jitted function: its graph, its programs, and why a new one was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, final

from proa.capture.paths import Case, Part, Path
from proa.capture.plan import Plan
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph
from proa.graph.node import line_of
from proa.graph.rewrite import splice


class Row(NamedTuple):
    """One path of one signature.

    `tests` are the tests of tensors on it, each with its outcome; `state` says whether it is
    replayed; `calls` how often it was. `kernels` is None where a backend has none or nothing is
    compiled yet. `peak_bytes` are those of live results, arguments and state not counted;
    `donated` counts the state whose memory the last call gave to results.
    """

    number: int
    signature: str
    tests: tuple[str, ...]
    state: str
    calls: int
    operations: int
    kernels: int | None
    peak_bytes: int
    donated: int
    device: str

    def __str__(self) -> str:
        kernels = "" if self.kernels is None else f" in {self.kernels} kernels"
        text = f"{self.state}, {self.calls} call{'s' if self.calls != 1 else ''}"
        if self.device:
            text += (f", {self.operations} operations{kernels}, at most {self.peak_bytes:,} bytes,"
                     f" {self.donated} donated, on {self.device}")  # fmt: skip
        return text


@final
class Programs:
    """The rows of a jitted function, as a list that prints as a table."""

    __slots__ = ("name", "rows")

    def __init__(self, name: str, rows: list[Row]) -> None:
        self.name = name
        self.rows = rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Row:
        return self.rows[i]

    def __repr__(self) -> str:
        lines, number = [f"[{self.name}] {len({r.number for r in self.rows})} signatures"], 0
        for row in self.rows:
            if row.number != number:
                number = row.number
                lines.append(f"{number:4d}  ({row.signature})")
            lines += [f"      if {test}" for test in row.tests]
            lines.append(f"      {row}")
        return "\n".join(lines)


def rows_of(number: int, case: Case) -> list[Row]:
    """The rows of a signature: one for each path, or one that says what it is."""
    found, signature = [], case.told.text if case.told is not None else ""
    for tests, plan in case.paths():
        parts = [part for part, _ in tests]
        words = tuple([f"{line_of(part.where)} is {outcome}" for part, outcome in tests])
        state = "replayed" if plan.confirmed else "recorded once"
        found.append(Row(number, signature, words, state, plan.calls, *_work(parts, plan)))
    if not found:
        state = f"runs without jit: {case.dynamic}" if case.dynamic else "not recorded yet"
        found = [Row(number, signature, (), state, case.calls, 0, None, 0, 0, "")]
    return found


def _work(parts: list[Part], plan: Plan) -> tuple[int, int | None, int, int, str]:
    """Operations, kernels, peak bytes, donated, device: of all parts together."""
    operations = kept = peak = donated = 0
    kernels: int | None = 0
    device = "no device"
    for bound in [*[p.bound for p in parts], plan]:
        if bound.plan is None:
            continue
        report = bound.plan.report
        operations += report["operations"]
        own = report.get("kernels")
        kernels = None if own is None or kernels is None else kernels + own
        peak = max(peak, kept + report["peak_bytes"])
        kept += sum(s.nbytes for s in bound.plan.graph.output_specs())
        device, donated = report["device"], bound.donated
    return operations, kernels, peak, donated, device


def graph_of(path: Path) -> Graph:
    """All that was recorded as one graph: with tests, the parts one after the other; what was
    tested comes after the results."""
    bounds = [*[p.bound for p in path.parts], path.plan]
    if len(bounds) == 1:
        plan = path.plan.plan
        return Graph((), (), ()) if plan is None else plan.graph
    builder = Builder()
    given: dict[Any, Any] = {}
    found: list[list[Any]] = []
    with use_sink(builder):
        for number, bound in enumerate(bounds):
            graph = None if bound.plan is None else bound.plan.graph
            operands = []
            for key, of in zip(bound.origins(number), graph.inputs if graph else (), strict=True):
                if key[0] == "part":
                    operands.append(found[key[1]][key[2]])
                    continue
                if key not in given:
                    given[key] = builder.input(of.spec, of.role)
                operands.append(given[key])
            found.append([] if graph is None else splice(builder, graph, operands))
        tested = [found[p.at[0]][p.at[1]] for p in path.parts if p.kind == "part"]
        last = [*found[-1], *[found[part][slot] for (part, slot), _ in path.plan.carried]]
        return builder.graph([*last, *tested])
