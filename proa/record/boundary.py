"""When pending work is dispatched: a read, the end of an optimiser's step, the next batch, sync."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import ref

from proa.compile.backend import Device
from proa.compile.find import backend, default_device
from proa.compile.memory import free_bytes
from proa.config import config
from proa.errors import DeviceError, JitError, Overwritten, message
from proa.graph.node import Node, Value, line_of
from proa.record.donation import again, donated, last_reads
from proa.record.family import family_of
from proa.record.key import Pending, check_there, graph_of, pending, reach, role_of
from proa.record.live import (
    CAPTURE,
    CHECK_EVERY,
    SPENT,
    State,
    live_handles,
    pending_values,
    supply,
    thread,
)
from proa.record.replay import Plan, cache, why_new
from proa.transforms.reverse import saving, saving_entry, without_saving


def read(value: Value) -> Any:
    """The buffer of a value; dispatches what is pending if it has none."""
    if value.buffer is None:
        compute((value,))
    return value.buffer


def sync() -> None:
    """Dispatches all pending work of this thread, and returns when it is done.

    >>> import proa as pa
    >>> x = pa.ones((2,)) + 1
    >>> pa.sync()
    """
    compute(())


def compute(wanted: Sequence[Value]) -> None:
    """Computes `wanted` and every live pending value of this thread, together.

    All or nothing: handles change only after the whole program has run. What failed stays
    pending and is tried again when it is read.
    """
    try:
        _compute(wanted)
    except Overwritten as error:
        again(error, _compute, wanted)


def _compute(wanted: Sequence[Value]) -> None:
    state = thread.state
    if state.mode & CAPTURE:
        state.capture.refuse_read(wanted)
    state.limit = CHECK_EVERY
    values = [v for v in wanted if v.buffer is None]
    for v in values:
        if v.node is None:
            raise JitError(message("read", "a value without contents", "a computed tensor"))
    values += pending_values(state)
    if not values:
        state.handles = []
        return
    try:
        _dispatch(values, state.device or default_device())
    except Exception:
        # Nothing has changed, and the tapes stay whole. Each value is tried again when it is read,
        # so that one which always fails does not stand in the way of the others. (After an
        # interruption all of it waits as before.)
        state.handles, state.spent = [], []
        raise
    state.handles = []
    forget_spent(state)


def forget_spent(state: State) -> None:
    """What a backward pass has consumed holds nothing any more."""
    spent, state.spent = state.spent, []
    for node in spent:
        node.inputs = ()
        node.saved = ()


def _split_by_device(values: list[Value], home: Device) -> list[tuple[Device, list[Value]]]:
    """Each node's device from its operands; a mixture names the operation and its line."""
    device_of: dict[Node, Device | None] = {}
    for n in reach(values):
        found: Device | None = None
        for v in n.inputs:
            if v.buffer is None:
                mine = device_of.get(v.node) if v.node is not None else None
            else:
                mine = getattr(v.buffer, "device", None)
            if mine is None:
                continue
            if found is not None and mine != found:
                given = f"tensors on {found} and {mine} at {line_of(n.where)}"
                hint = 'x.to("...") for one of them'
                raise DeviceError(message(n.entry.primitive.name, given, "one device", hint))
            found = mine
        device_of[n] = found
    groups: dict[Device, list[Value]] = {}
    for v in values:
        groups.setdefault(device_of[v.node] or home, []).append(v)
    return list(groups.items())


def _dispatch(values: list[Value], home: Device) -> None:
    """Computes values and, where a backward pass may follow, what it would have to repeat."""
    asked = values
    values, extra, is_taped = with_residuals(values)
    work = pending([*values, *extra])
    given = [leaf.buffer for leaf in work.leaves]
    devices = _devices(given)
    if len(devices) > 1:
        for device, group in _split_by_device(asked, home):
            _dispatch(group, device)
        return
    plan = find_plan(work, devices[0] if devices else home)
    last: Sequence[int] = ()
    if not is_taped and plan.overwrites:
        nodes = [*work.nodes, *thread.state.spent]
        last = last_reads(work.leaves, given, plan.overwrites, nodes)
    if not last:
        attach(values, extra, work, plan(given))
        return
    with donated(given, last) as donation:
        attach(values, extra, work, plan(given))
        plan.note(donation)


def with_residuals(values: list[Value]) -> tuple[list[Value], list[Value], bool]:
    """Values, and where a backward pass may follow also what it would have to repeat; what
    composites on its tape save for it; whether there is such a tape."""
    residuals = _residuals(values)
    if residuals is None:
        return values, [], False
    values = [*values, *residuals]
    saved = [n for n in reach(values) if n.entry.primitive is saving and not n.saved]
    return values, [Value(n, i, s) for n in saved for i, s in _extra(n)], True


def _devices(buffers: Sequence[Any]) -> list[Device]:
    """The devices of buffers; numbers are at home on each."""
    found: list[Device] = []
    last: Device | None = None
    for b in buffers:
        device = getattr(b, "device", None)
        if device is not last and device is not None:
            last = device
            if device not in found:
                found.append(device)
    return found


def find_plan(
    work: Pending, device: Device, numerics: str = "strict",
    donated: frozenset[int] = frozenset(),
) -> Plan:  # fmt: skip
    """The plan of this structure on this device; made if it is new. `donated` inputs may be given
    away in each run: it is part of the structure where a backend must know it before."""
    if donated and not getattr(backend(device.backend), "donates", False):
        donated = frozenset()
    key = (device, numerics, donated, *work.key) if donated else (device, numerics, *work.key)
    plan = cache.find(key)
    if plan is None:
        check_there(work)
        family = None if donated else family_of(work, device, numerics)
        plan = family.plan(work) if family is not None else None
        if plan is not None:
            return cache.bind(key, plan)
        reason, where = why_new(work.nodes, list(cache.plans.values()))
        graph = graph_of(work, [role_of(v) for v in work.leaves])
        plan = cache.add(key, Plan(graph, device, reason, where, numerics, donated))
        if family is not None:
            family.add(work, plan)
    return plan


def _extra(node: Node) -> Iterable[tuple[int, Any]]:
    base = without_saving(node.entry)[0]
    return list(enumerate(node.entry.outs))[len(base.outs) :]


def _residuals(outputs: Sequence[Value]) -> list[Value] | None:
    """Values on the tape of a live, undifferentiated output that are dear to compute again;
    None where there is no such output.

    Composites on that tape are turned into their saving form.
    """
    stack = [
        v for v in outputs
        if v.spec.grad and not v.node.spent and (v.leaf is None or not v.leaf.stops)
    ]  # fmt: skip
    if not stack:
        return None
    seen = {v.node for v in stack}
    found: list[Value] = []
    while stack:
        value = stack.pop()
        node = value.node
        wanted = tuple([i for i, v in enumerate(node.inputs) if v.spec.grad])
        node.entry = saving_entry(node.entry, wanted)
        for v in node.inputs:
            if not v.is_pending:
                continue
            if v.node.entry.primitive.retained or v.node.entry.primitive.expand is not None:
                found.append(v)
            if v.spec.grad and v.node not in seen and not v.node.spent and not _stops(v):
                seen.add(v.node)
                stack.append(v)
    return found


def _stops(value: Value) -> bool:
    return value.leaf is not None and value.leaf.stops


def attach(
    values: Sequence[Value], extra: Sequence[Value], work: Pending, buffers: Sequence[Any]
) -> None:
    """Gives computed values their buffers; what no derivative needs any more is let go."""
    found = dict(zip(work.outs, buffers, strict=True))
    mine: dict[Node, list[Value]] = {}
    for v, slot in zip(extra, work.slots[len(values) :], strict=True):
        node, v.buffer = v.node, found[slot]
        mine.setdefault(node, []).append(v)
        v.node = None
    for node, group in mine.items():
        node.saved = tuple(group)
    for v, slot in zip(values, work.slots, strict=False):
        node = v.node
        if node is None:  # a value that was asked for twice
            continue
        v.buffer = found[slot]
        if not v.spec.grad or (v.leaf is not None and v.leaf.stops):
            v.node = None
        elif node.spent or _is_flat(node):
            v.node, v.leaf = None, SPENT


def _is_flat(node: Node) -> bool:
    """Whether nothing below a node can be differentiated any more."""
    return not any(
        v.spec.grad and v.leaf is not SPENT and (v.node is None or not v.node.spent)
        for v in node.inputs
    )


def overflow(state: State) -> None:
    """The budget, the last resort: dead handles are dropped first; if more operations wait than
    the limit, or what they hold is more than a quarter of free memory, they are computed."""
    handles = live_handles(state)
    state.handles = [ref(t) for t in handles]
    values = [t.value for t in handles if t.value.is_pending]
    nodes = reach(values)
    within = len(nodes) < config.node_limit and 4 * _held_bytes(nodes) < free_bytes()
    if within or state.mode & CAPTURE:
        room = config.node_limit - len(nodes)
        state.limit = len(handles) + max(CHECK_EVERY, min(len(nodes), room))
        return
    warnings.warn(
        f"[record] {len(nodes)} operations were pending at {line_of(nodes[-1].where)}, computed "
        "now; try pa.sync() in the loop",
        RuntimeWarning,
        stacklevel=3,
    )
    compute(())


def _held_bytes(nodes: Sequence[Node]) -> int:
    """What pending work keeps alive: the buffers that it reads."""
    leaves = {id(v.buffer): v.buffer for n in nodes for v in n.inputs if v.buffer is not None}
    return sum(getattr(b, "nbytes", 0) for b in leaves.values())


supply(overflow=overflow)
