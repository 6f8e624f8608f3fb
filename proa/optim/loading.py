"""Loading an optimizer's state: all is checked first, and all that is wrong is said at once."""

from __future__ import annotations

from typing import Any

from proa.errors import ArgumentError, DtypeError, ProaError, message
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.ops import operators as op
from proa.ops.primitive import number_of
from proa.optim.group import COUNT, Group
from proa.optim.optimizer import IGNORED, STEP, Optimizer, inner_dtype
from proa.record.live import NO_GRAD, thread, use_mode
from proa.tensor import Tensor, derived, device_of, moved, put, rebind


def load(optimizer: Optimizer, given: Any) -> None:
    """Assigns numbers, flags and slots from a state_dict; nothing unless all of it fits."""
    problems: list[str] = []
    groups, state = _parts(optimizer, given)
    _check_groups(optimizer, groups, problems)
    rows = _checked_state(optimizer, state, problems) if not problems else []
    if problems:
        text = "; ".join(problems[:20]) + (
            f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        )
        raise ArgumentError(
            message(optimizer.name, f"a state_dict that does not fit: {text}", "its own layout")
        )
    before = [dict(g) for g in optimizer.param_groups]
    try:
        _assign_groups(optimizer, groups)
        for g in optimizer.param_groups:
            optimizer.check(g)
    except ProaError:
        _assign_groups(optimizer, before)
        raise
    _assign_slots(optimizer, rows)


def _parts(optimizer: Optimizer, given: Any) -> tuple[list[Any], dict[Any, Any]]:
    if not isinstance(given, dict) or "state" not in given or "param_groups" not in given:
        text = f"a state_dict {given!r:.60}"
        raise ArgumentError(message(optimizer.name, text, 'a dict with "state" and "param_groups"'))
    groups, state = given["param_groups"], given["state"]
    if not isinstance(groups, (list, tuple)) or not isinstance(state, dict):
        text = f'"param_groups" a {type(groups).__name__} and "state" a {type(state).__name__}'
        raise DtypeError(message(optimizer.name, text, "a list and a dict"))
    return list(groups), state


def _check_groups(optimizer: Optimizer, groups: list[Any], problems: list[str]) -> None:
    mine = optimizer.param_groups
    if len(groups) != len(mine):
        problems.append(f"{len(groups)} groups for {len(mine)}")
        return
    for i, (group, own) in enumerate(zip(groups, mine, strict=True)):
        if not isinstance(group, dict) or not isinstance(group.get("params"), (list, tuple)):
            problems.append(f'group {i} is no dict with a list "params"')
            continue
        if len(group["params"]) != len(own.params):
            problems.append(
                f"group {i} has {len(group['params'])} parameters for {len(own.params)}"
            )
        for name, value in group.items():
            problem = _option_problem(own, name, value)
            if problem:
                problems.append(f"group {i}: {problem}")


def _option_problem(group: Group, name: Any, value: Any) -> str:
    if name in group.numbers:
        held = group.numbers[name]
        values = value if name == "betas" else [value]
        if not isinstance(values, (list, tuple)) or len(values) != len(held):
            return f"{name} {value!r:.40} where {len(held)} numbers are expected"
        for v in values:
            number = number_of(v.item() if type(v) is Tensor and v.size == 1 else v)
            if (
                number is None
                or isinstance(number, (bool, complex))
                or not group.limits[name].allows(number)
            ):
                return f"{name} {value!r:.40} where {group.limits[name]}"
        return ""
    if name in group.flags:
        return (
            "" if type(value) is bool else f"{name} {value!r:.40} where True or False is expected"
        )
    plain = isinstance(value, (bool, int, float, str, type(None)))
    return "" if name == "params" or name in IGNORED or plain else f"unknown option {name!r:.40}"


def _checked_state(
    optimizer: Optimizer, state: dict[Any, Any], problems: list[str]
) -> list[tuple[int, int | None, dict[str, Tensor]]]:
    """For each parameter with a state: its number, its count, its slots as new tensors."""
    rows = []
    for key, given in state.items():
        if type(key) is not int or not 0 <= key < len(optimizer.params):
            problems.append(f"state of parameter {key!r:.40} of {len(optimizer.params)}")
        elif not isinstance(given, dict):
            problems.append(f"state {key} is a {type(given).__name__}")
        else:
            rows.append(_checked_row(optimizer, key, given, problems))
    return rows


def _checked_row(
    optimizer: Optimizer, i: int, given: dict[Any, Any], problems: list[str]
) -> tuple[int, int | None, dict[str, Tensor]]:
    p = optimizer.params[i]
    of = spec(p.shape, inner_dtype(p.dtype))
    names = optimizer.possible_slots
    slots: dict[str, Tensor] = {}
    for name, value in given.items():
        if name == STEP or value is None:
            continue
        shape = getattr(value, "shape", None)
        if name not in names:
            problems.append(f"state {i}: unexpected slot {name!r:.40}")
        elif shape is None or tuple(shape) != of.shape:
            problems.append(f"state {i}: {name} of shape {shape}, the parameter has {of.shape}")
        else:
            slots[name] = _slot(value, of, p)
    return i, _count(given, i, bool(slots), optimizer, problems), slots


def _slot(value: Any, of: Any, p: Tensor) -> Tensor:
    """A tensor of its own with this value, where the parameter is."""
    device = device_of(p.value)
    if type(value) is not Tensor:
        return put(value, of, device)
    with use_mode(NO_GRAD, True):
        fresh = moved(op.astype(value.detach(), of.dtype), device)
    return Tensor(derived(fresh, of))


def _count(
    given: dict[Any, Any], i: int, has_slots: bool, optimizer: Optimizer, problems: list[str]
) -> int | None:
    """The number of steps; where the layout has none, any parameter with a slot has made one."""
    if STEP not in given:
        return 1 if has_slots else None
    step = given[STEP]
    number = number_of(step.item() if getattr(step, "size", None) == 1 else step)
    if (
        number is None
        or isinstance(number, (bool, complex))
        or number < 0
        or number != int(number)
        or number >= 2**53
    ):
        problems.append(f"state {i}: step {step!r:.40} where a count is expected")
        return None
    return int(number)


def _assign_groups(optimizer: Optimizer, groups: list[Any]) -> None:
    for group, own in zip(groups, optimizer.param_groups, strict=True):
        for name, value in group.items():
            if name != "params" and name not in IGNORED:
                own[name] = value


def _assign_slots(
    optimizer: Optimizer, rows: list[tuple[int, int | None, dict[str, Tensor]]]
) -> None:
    """Handles that exist are assigned into; counts are shared again by those that agree."""
    news = {i: (count, slots) for i, count, slots in rows}
    slots_of = optimizer._slots
    replaced = False
    for i, mine in enumerate(slots_of):
        count, slots = news.get(i, (None, {}))
        for name in [n for n in mine if n != STEP and n not in slots]:
            del mine[name]
            replaced = True
        for name, tensor in slots.items():
            if name in mine:
                rebind(mine[name], tensor.value)
            else:
                mine[name] = tensor
                if tensor.value.buffer is None:
                    _known(tensor)
                replaced = True
    replaced |= _assign_counts(slots_of, {i: count for i, (count, _) in news.items()})
    if replaced:
        optimizer._restructured()


def _known(tensor: Tensor) -> None:
    from weakref import ref

    thread.state.handles.append(ref(tensor))


def _assign_counts(slots_of: list[dict[str, Tensor]], counts: dict[int, int | None]) -> bool:
    """Sets the counts; true if a handle was replaced."""
    parts: dict[int, list[int]] = {}
    for i, mine in enumerate(slots_of):
        if STEP in mine:
            parts.setdefault(id(mine[STEP]), []).append(i)
    wanted = [counts.get(i) for i in range(len(slots_of))]
    fitting = all(len({wanted[i] for i in members}) == 1 for members in parts.values())
    missing = any(
        (n is None) != (STEP not in mine) for n, mine in zip(wanted, slots_of, strict=True)
    )
    if fitting and not missing:
        for members in parts.values():
            number = wanted[members[0]]
            assert number is not None
            rebind(slots_of[members[0]][STEP], Value(None, 0, COUNT, number))
        return False
    made: dict[int, Tensor] = {}
    for n, mine in zip(wanted, slots_of, strict=True):
        mine.pop(STEP, None)
        if n is not None:
            mine[STEP] = made.setdefault(n, Tensor(Value(None, 0, COUNT, n)))
    return True
