"""`Optimizer`: parameter groups, slots made when first needed, and one node for a whole step.

Every number that may change (rates, decays, counts of steps) lives in a 0-d handle, float64 or
int64, so a schedule makes no new program and a jitted step follows it. What is static (flags such
as `nesterov`, which decays are zero, which parameters have a gradient) shapes the program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, NamedTuple, final

import numpy as np

from proa import dtypes
from proa.dtypes import Dtype, float64
from proa.errors import ArgumentError, DtypeError, JitError, message
from proa.graph.build import Builder, use_sink
from proa.graph.graph import Graph, Role
from proa.graph.node import Value
from proa.graph.spec import spec
from proa.ops import moves
from proa.ops.movement import concatenate, slice_, zeros
from proa.ops.primitive import apply, cast_to
from proa.ops.structure import call
from proa.optim.group import COUNT, Group, Limits, number_handle, read_number
from proa.record.boundary import compute
from proa.record.live import CAPTURE, NO_GRAD, epoch, thread, use_mode
from proa.tensor import (
    Tensor,
    copy_of,
    device_of,
    handle,
    moved,
    put,
    rebind,
    record_into,
    set_grad,
)

NARROW: Final = frozenset({dtypes.float16, dtypes.bfloat16})
STEP: Final = "step"
IGNORED: Final = frozenset(
    {"foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}
)
SMALL: Final = 2048  # elements
FEW: Final = 64  # small parameters of one kind
_KEPT_UPDATES: Final = 64

Scalars = dict[str, Any]  # a value is used with operators, which are attached to it


class _Update(NamedTuple):
    """The update of one structure: its graph, the handles that it reads, those that it assigns."""

    graph: Graph
    operands: list[Tensor]
    results: list[Tensor]


# The base of all optimizers.


class Optimizer(ABC):
    """What all optimizers share. A subclass states its numbers, its slots and its formula.

    params: tensors that require a gradient, or dicts `{"params": tensors, "lr": ..., ...}`.
    defaults: the numbers and flags of a group that does not give its own.

    A parameter without a gradient is skipped. The slots of a parameter (float32 for float16 and
    bfloat16 ones, whose update is computed in float32 and rounded once) are made in the first
    step that meets it. `step()` computes all that is pending, unless it is being recorded.
    """

    limits: ClassVar[dict[str, Limits]]
    always: ClassVar[frozenset[str]] = frozenset({"lr"})
    possible_slots: ClassVar[frozenset[str]]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.name = type(self).__name__
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.params: list[Tensor] = []
        self._owners: list[Group] = []
        self._slots: list[dict[str, Tensor]] = []
        self._known: set[int] = set()
        self._updates: dict[Any, _Update] = {}
        self._home: Any = None
        self._generation = 0
        for group in _groups_of(self.name, params):
            self.add_param_group(group)

    # What a subclass states.

    @abstractmethod
    def slot_names(self, group: Group) -> tuple[str, ...]:
        """Slots of each parameter of this group, in PyTorch's names."""

    @abstractmethod
    def counts_steps(self, group: Group) -> bool:
        """Whether the formula needs the number of steps."""

    @abstractmethod
    def scalars(self, group: Group, numbers: Scalars, count: Any) -> Scalars:
        """What the formula needs of the numbers, in float64: computed once, rounded once.

        `numbers` holds those that take part; `count` is the number of this step, from 1.
        """

    @abstractmethod
    def formula(self, group: Group, p: Any, g: Any, slots: Scalars, k: Scalars) -> Any:
        """The new parameter; replaces in `slots` what changes. `k` holds the scalars."""

    def check(self, group: Group) -> None:  # noqa: B027  (most need none)
        """Raises where the options of a group do not go together."""

    # Groups.

    def add_param_group(self, group: dict[str, Any]) -> None:
        """One more group: `{"params": tensors, "lr": ..., ...}`; what it lacks are the defaults."""
        if not isinstance(group, dict) or "params" not in group:
            given = f"a group {group!r:.60}"
            raise DtypeError(message(self.name, given, 'a dict with "params"'))
        params = _params_of(self.name, group["params"])
        own = {k: v for k, v in group.items() if k != "params"}
        unknown = [
            k for k in own if k not in self.defaults and k not in IGNORED and k != "initial_lr"
        ]
        if unknown:
            known = "options among " + ", ".join(self.defaults)
            raise ArgumentError(message(self.name, f"options {unknown}", known))
        seen = set(self._known)
        for p in params:
            if id(p) in seen:
                given = f"a parameter {p.value.spec.plain} twice"
                raise ArgumentError(message(self.name, given, "each parameter in one group, once"))
            seen.add(id(p))
        options = self.defaults | {k: v for k, v in own.items() if k not in IGNORED}
        made = Group(self.name, params, options, self.limits, self.always)
        self.check(made)
        self._known = seen
        self.param_groups.append(made)
        self.params += params
        self._owners += [made] * len(params)
        self._slots += [{} for _ in params]
        self._restructured()

    def _restructured(self) -> None:
        """Handles were replaced or added: what was recorded with the old ones is not used again."""
        self._updates.clear()
        self._generation += 1
        epoch.advance()

    def jit_fields(self) -> dict[str, Any]:
        """What is static about it: a jitted function is recorded anew when this changes."""
        groups = [(g.static(), tuple(g.params)) for g in self.param_groups]
        return {"class": self.name, "groups": tuple(groups), "generation": self._generation}

    # A step.

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Empties every gradient, or fills those that are there with zeros."""
        if set_to_none and not thread.state.mode & CAPTURE:
            for p in self.params:
                if p.leaf is not None:
                    p.leaf.full = False
            return
        with use_mode(NO_GRAD, True):
            for p in self.params:
                if p.leaf is None:
                    continue
                if set_to_none:
                    set_grad(p, None)
                elif p.grad is not None:
                    made = zeros(p.shape, p.value.spec)
                    set_grad(p, made if type(made) is Tensor else moves.reshape(Tensor(made), ()))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient, as one operation.

        `closure`, if given, is called first, with gradients on; its result is returned.
        """
        result = None
        if closure is not None:
            with use_mode(NO_GRAD, False):
                result = closure()
        state = thread.state
        capture = state.capture if state.mode & CAPTURE else None
        update = self._update(capture)
        if update is not None:
            with use_mode(NO_GRAD, True):
                record_into(update.results, call, update.operands, graph=update.graph)
        if capture is None:
            compute(())
        return result

    def _update(self, capture: Any) -> _Update | None:
        """The update of what has a gradient now; None if nothing has."""
        params = self.params
        leaves = [p.leaf for p in params]
        if capture is not None:
            for leaf in leaves:
                if leaf is not None:
                    capture.filled(leaf)
        full = tuple([leaf is not None and leaf.full for leaf in leaves])
        if True not in full:
            return None
        home = getattr(params[0].value.buffer, "device", None)
        if home is not None and home != self._home:
            self._move(home)
        key = (
            full,
            tuple([p.value.spec for p in params]),
            tuple([g.version for g in self.param_groups]),
        )
        update = self._updates.get(key)
        if update is None:
            going = [i for i, f in enumerate(full) if f]
            self._make_ready(going)
            if len(self._updates) >= _KEPT_UPDATES:
                self._updates.clear()
            update = self._updates[key] = self._build(going)
        return update

    def _move(self, home: Any) -> None:
        """Slots, counts and numbers follow the parameters to another device."""
        self._home = home
        tensors = [t for slots in self._slots for t in slots.values()]
        tensors += [h for g in self.param_groups for held in g.numbers.values() for h in held]
        for t in {id(t): t for t in tensors}.values():
            if getattr(t.value.buffer, "device", home) != home:
                rebind(t, moved(t, home).value)

    # What is made when it is first needed.

    def _make_ready(self, going: Sequence[int]) -> None:
        """Slots of parameters met for the first time. Parameters that have taken part in the same
        steps share one count; where only some of them go on, those get a count of their own."""
        fresh = number_handle(0, COUNT)
        for i in going:
            group, slots, p = self._owners[i], self._slots[i], self.params[i]
            for name in self.slot_names(group):
                if name not in slots:
                    of = spec(p.shape, inner_dtype(p.dtype))
                    slots[name] = put(np.zeros(of.shape, of.dtype.numpy), of, device_of(p.value))
            if self.counts_steps(group):
                slots.setdefault(STEP, fresh)
        parts: dict[int, list[int]] = {}
        for i, slots in enumerate(self._slots):
            if STEP in slots:
                parts.setdefault(id(slots[STEP]), []).append(i)
        chosen = set(going)
        for members in parts.values():
            mine = [i for i in members if i in chosen]
            if mine and len(mine) < len(members):
                self._split(mine)

    def _split(self, members: Sequence[int]) -> None:
        old = self._slots[members[0]][STEP].value
        if old.buffer is not None:
            own = Tensor(Value(None, 0, COUNT, old.buffer))
        elif thread.state.mode & CAPTURE:
            given = "a step for some of the parameters, after one for all, in one recording"
            hint = "one such step outside jit first"
            raise JitError(message(self.name, given, "steps for the same parameters", hint))
        else:
            own = handle(Value(old.node, old.index, COUNT))
        for i in members:
            self._slots[i][STEP] = own
        self._restructured()

    def _build(self, going: Sequence[int]) -> _Update:
        """The graph of this update. It reads numbers and counts, then the parameter, gradient and
        slots of each; it gives new counts, then the new parameter and slots of each."""
        builder = Builder()
        operands: list[Tensor] = []
        results: list[Tensor] = []
        outs: list[Value] = []

        def take(held: Tensor, role: Role) -> Value:
            operands.append(held)
            return builder.input(held.value.spec.plain, role)

        def give(held: Tensor, value: Any) -> None:
            results.append(held)
            outs.append(cast_to(value, held.value.spec.dtype).value)

        with use_sink(builder):
            shared = _Shared(self, take, give, [(self._owners[i], self._slots[i]) for i in going])
            for members in self._alike(going):
                self._advance(members, take, give, shared)
        return _Update(builder.graph(outs), operands, results)

    def _alike(self, going: Sequence[int]) -> list[list[int]]:
        """Many small parameters of one group, count and dtype are updated as one vector, element by
        element as alone: a step for each would take longer to compile than to run. Others are
        alone: then results lie where parameters and slots did."""
        found: dict[Any, list[int]] = {}
        for i in going:
            p, count = self.params[i], self._slots[i].get(STEP)
            small = (id(self._owners[i]), id(count), inner_dtype(p.dtype))
            found.setdefault(small if 0 < p.size <= SMALL else i, []).append(i)
        return [part for row in found.values()
                for part in ([row] if len(row) > FEW else [[i] for i in row])]  # fmt: skip

    def _advance(self, members: Sequence[int], take: Any, give: Any, shared: _Shared) -> None:
        """Emits the update of parameters that are alike."""
        first = members[0]
        group, inner = self._owners[first], inner_dtype(self.params[first].dtype)
        names = self.slot_names(group)
        rows: list[list[Any]] = []
        for i in members:
            p, held = self.params[i], self._slots[i]
            operands = [take(p, Role.PARAMETER), take(p.leaf.grad, Role.DATA)]  # type: ignore[union-attr]
            operands += [take(held[n], Role.SLOT) for n in names]
            rows.append([cast_to(v, inner).value for v in operands])
        value, g, *rest = [_joined(column) for column in zip(*rows, strict=True)]
        slots = dict(zip(names, rest, strict=True))
        k = shared.rounded(group, self._slots[first], inner)
        new = self.formula(group, value, -g if group.flags.get("maximize") else g, slots, k)
        parts = [_parted(v, rows) for v in (new, *[slots[n] for n in names])]
        for i, own in zip(members, zip(*parts, strict=True), strict=True):
            handles = (self.params[i], *[self._slots[i][n] for n in names])
            for held_one, part in zip(handles, own, strict=True):
                give(held_one, part)

    # What is stored.

    def state_dict(self) -> dict[str, Any]:
        """Numbers, flags and slots in PyTorch's layout; parameters are numbered in order.

        Tensors in it keep the values that they have now.
        """
        state: dict[int, dict[str, Any]] = {}
        for i, (group, slots) in enumerate(zip(self._owners, self._slots, strict=True)):
            row: dict[str, Any] = {
                n: copy_of(slots[n]) for n in self.slot_names(group) if n in slots
            }
            if row and self._shows_step():
                row = {STEP: int(read_number(slots[STEP])), **row}
            if row:
                state[i] = row
        groups, first = [], 0
        for group in self.param_groups:
            row = {k: v for k, v in group.items() if k != "params"}
            groups.append(row | {"params": list(range(first, first + len(group.params)))})
            first += len(group.params)
        return {"state": state, "param_groups": groups}

    def _shows_step(self) -> bool:
        """Whether PyTorch stores the number of steps."""
        return True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes numbers, flags and slots from `state_dict()` of this or PyTorch's class.

        Nothing is changed unless all of it fits; otherwise one error names all that does not.
        """
        from proa.optim.loading import load

        load(self, state_dict)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.param_groups))})"


@final
class _Shared:
    """Numbers of groups and counts in the graph; the scalars made of them, rounded once a dtype."""

    __slots__ = ("optimizer", "numbers", "counts", "made", "cast")

    def __init__(self, optimizer: Optimizer, take: Any, give: Any, rows: Any) -> None:
        self.optimizer = optimizer
        self.numbers: dict[int, Scalars] = {}
        self.counts: dict[int, Any] = {}
        self.made: dict[tuple[int, int], Scalars] = {}
        self.cast: dict[tuple[int, int, Dtype], Scalars] = {}
        for group, held in rows:
            if id(group) not in self.numbers:
                named = group.handles().items()
                self.numbers[id(group)] = {n: take(h, Role.SCALAR) for n, h in named}
            count = held.get(STEP)
            if count is not None and id(count) not in self.counts:
                new = take(count, Role.STATE) + 1
                self.counts[id(count)] = cast_to(new, float64).value
                give(count, new)

    def rounded(self, group: Group, held: dict[str, Tensor], dtype: Dtype) -> Scalars:
        count = held.get(STEP)
        key = (id(group), id(count))
        if key not in self.made:
            numbers = self.numbers[id(group)]
            self.made[key] = self.optimizer.scalars(group, numbers, self.counts.get(id(count)))
        full = (*key, dtype)
        if full not in self.cast:
            made = self.made[key].items()
            self.cast[full] = {n: cast_to(v, dtype).value for n, v in made}
        return self.cast[full]


def _joined(values: Sequence[Any]) -> Any:
    """Several values as one vector; one as it is."""
    if len(values) == 1:
        return values[0]
    flat = [moves.reshape(v, (-1,)) for v in values]
    return apply(concatenate, flat, axis=0).value


def _parted(value: Any, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """The parts of a vector that `_joined` made, in their shapes."""
    if len(rows) == 1:
        return [value]
    parts, start = [], 0
    for row in rows:
        of = row[0].spec
        part = apply(slice_, (value,), starts=(start,), stops=(start + of.size,), strides=(1,))
        parts.append(moves.reshape(part, of.shape))
        start += of.size
    return parts


def inner_dtype(dtype: Dtype) -> Dtype:
    """The dtype of slots, in which the update is computed."""
    return dtypes.float32 if dtype in NARROW else dtype


# Arguments.


def _groups_of(op_name: str, params: Any) -> list[dict[str, Any]]:
    given = _listed(op_name, params)
    if not given:
        raise ArgumentError(message(op_name, "no parameters", "at least one", "model.parameters()"))
    return given if isinstance(given[0], dict) else [{"params": given}]


def _listed(op_name: str, params: Any) -> list[Any]:
    if (
        type(params) is Tensor
        or isinstance(params, (str, bytes, dict))
        or not isinstance(params, Iterable)
    ):
        hint = "[p]" if type(params) is Tensor else "model.parameters()"
        given = f"`params` of type {type(params).__name__}"
        raise DtypeError(message(op_name, given, "an iterable of tensors or of dicts", hint))
    return list(params)


def _params_of(op_name: str, params: Any) -> list[Tensor]:
    found = [params] if type(params) is Tensor else _listed(op_name, params)
    for p in found:
        if type(p) is not Tensor:
            given = f"a parameter of type {type(p).__name__}"
            raise DtypeError(message(op_name, given, "a tensor", "model.parameters()"))
        if not p.dtype.is_float or p.dtype.is_storage:
            raise DtypeError(message(op_name, f"a parameter of {p.dtype.name}", "a float dtype"))
        if not p.is_leaf:
            given = f"a parameter {p.value.spec.plain} that is no leaf"
            raise ArgumentError(message(op_name, given, "a leaf", "x.detach().requires_grad_()"))
    return found
