"""Laws of what an operation declares: shapes and dtypes, letters and costs, what is saved."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np

from proa.conformance.cases import Case
from proa.graph.entry import Entry
from proa.ops.expand import flat, nothing
from proa.transforms.reverse import pullback


def specs_hold(case: Case) -> list[str]:
    graph = flat(case.graph, keeps=nothing)
    slots = [np.asarray(a) for a in case.arrays] + [c.array for c in graph.constants]
    found = []
    with np.errstate(all="ignore"):
        for step in graph.steps:
            entry = step.entry
            outs = entry.primitive.meaning(*[slots[s] for s in step.slots], **entry.named_params)
            outs = outs if isinstance(outs, tuple) else (outs,)
            if len(outs) != len(entry.outs):
                return [f"{len(outs)} results, declared {len(entry.outs)}"]
            for out, of in zip(outs, entry.outs, strict=True):
                if not isinstance(out, (np.ndarray, np.generic)):
                    return [f"{entry}: a result of type {type(out).__name__}"]
                if (out.shape, out.dtype) != (of.shape, of.dtype.numpy):
                    found.append(f"{entry}: {out.dtype}{out.shape}, declared {of}")
            slots += outs
    return found


def factors_hold(case: Case) -> list[str]:
    entry = case.entry
    primitive, name = entry.primitive, entry.primitive.name
    found = []
    given = primitive.family.factors(name, entry.ins, **entry.named_params)
    letters = {c for axes in (*given.operands, *given.results) for c in axes if c is not None}
    if lost := [c for c in letters if c not in given.roles or c not in given.sizes]:
        found.append(f"letters {lost} without a role or a size")
    roles = {"pass", "sum", "max", "min", "whole", "window", "gathered"}
    if strange := set(given.roles.values()) - roles:
        found.append(f"roles {strange}")
    if len(given.operands) != len(entry.ins):
        found.append(f"{len(given.operands)} operands, given {len(entry.ins)}")
    for i, (axes, s) in enumerate(zip(given.operands, entry.ins, strict=False)):
        if len(axes) != s.ndim:
            found.append(f"operand {i}: {len(axes)} letters for {s.ndim} axes")
    shapes = [s.shape for s in entry.outs]
    if given.results and any(s not in shapes for s in given.result_shapes()):
        found.append(f"result shapes {given.result_shapes()}, declared {shapes}")
    reduced = {c for c, role in given.roles.items() if role in ("sum", "max", "min")}
    if hidden := reduced & {c for axes in given.results for c in axes}:
        found.append(f"reduced letters {hidden} in a result")
    if primitive.cost < 0 or given.iterations() < 0:
        found.append(f"cost {primitive.cost} of {given.iterations()} iterations")
    if all(s.size for s in (*entry.ins, *entry.outs)) and given.results:
        largest = max([s.size for s in entry.outs])
        addressed = any(
            given.roles[c] in ("gathered", "window") for axes in given.results for c in axes
        )
        if given.iterations() < largest and not addressed:
            found.append(f"{given.iterations()} iterations for {largest} results")
        if sum(s.nbytes for s in (*entry.ins, *entry.outs)) <= 0:
            found.append("no bytes")
    return found


# What is saved.


def saves_hold(cases: Sequence[Case]) -> list[str]:
    """Over all cases of a primitive that have elements: what is read is what is declared."""
    read: set[str] = set()
    declared: set[str] = set()
    for case in cases:
        if (
            case.floats
            and case.results
            and all(s.size for s in (*case.entry.ins, *case.entry.outs))
        ):
            mine, declared = saved_by_rule(case)
            read |= mine
    if read == declared:
        return []
    return [f"the pullback reads {sorted(read)}, `saves` says {sorted(declared)}"]


def saved_by_rule(case: Case) -> tuple[set[str], set[str]]:
    """(names that the derived pullback reads, names that `saves` gives)."""
    entry, wanted = case.entry, case.floats
    given = tuple([s.dtype.is_inexact for s in entry.outs])
    rule = pullback(entry, wanted, given)
    used = set(rule.graph.outputs)
    for step in rule.graph.steps:
        used.update(step.slots)
    names = declared_names(entry)
    fixed = len(entry.ins) + len(entry.outs)
    read = {name for name, slots in names.items() if any(s in used for s in slots if s < fixed)}
    return read, set(entry.primitive.saves.split())


def declared_names(entry: Entry) -> dict[str, tuple[int, ...]]:
    """Names that `saves` may use -> inputs of the pullback (operands, then results)."""
    primitive, n_in = entry.primitive, len(entry.ins)
    results = tuple(range(n_in, n_in + len(entry.outs)))
    rules = primitive.jvp if isinstance(primitive.jvp, tuple) else (primitive.jvp,)
    rule = next((r for r in rules if r is not None), None)
    if rule is not None:
        names = [
            p for p in inspect.signature(rule).parameters.values() if p.name not in primitive.params
        ]
        if (
            all(p.kind is not p.VAR_POSITIONAL for p in names)
            and len(names) == n_in + len(entry.outs) + 1
        ):
            return {p.name: (i,) for i, p in enumerate(names[:-1])}
    if isinstance(primitive.meaning, np.ufunc):
        return dict(zip("xyz"[:n_in], [(i,) for i in range(n_in)], strict=True)) | {"y": results}
    found: dict[str, tuple[int, ...]] = {}
    for i, p in enumerate(inspect.signature(primitive.meaning).parameters.values()):
        if p.kind is p.VAR_POSITIONAL:
            found[p.name] = tuple(range(i, n_in))
        elif p.name not in primitive.params and i < n_in:
            found[p.name] = (i,)
    return {"y": results} | found
