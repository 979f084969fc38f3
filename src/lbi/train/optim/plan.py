"""Cached dispatch of an optimizer step, rebuilt when parameters, gradients or options change.

Building a plan sorts the tensors by type, layout and path; reusing one compares what it relies on (``slot.Watch``).
The difference matters beside kernels that take well under a millisecond.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from torch import Tensor
from torch.autograd.graph import increment_version

from lbi.errors import require
from lbi.train import gpu
from lbi.train.optim import steps
from lbi.train.optim.slot import DUAL, PLAIN, SHRINK, Group, Slot, State, Watch

_WORTHWHILE = 1 << 15  # number of weights from which ``fused=None`` loads the compiled kernels


@dataclass(slots=True)
class _Part:
    """Slots processed by one call: by ``engine``'s kernel, or without an engine by torch's foreach operations.

    Attributes:
        engine: module with compiled kernels, or None.
        slots: the slots.
        members: number of each slot in the plan.
        recipes: one slot for each combination of group and step count.
        which: (n_slots,) recipe of each slot.
        geometry: the engine's description of the tensors' sizes.
        holds: whether the engine steps ``held`` of the slots alone.
        tensors: those of all slots, end to end, with θ in the places of gradients.
        places: which of them are gradients: their rows (slots) and columns.
    """

    engine: Any
    slots: list[Slot]
    members: list[int]
    recipes: list[Slot]
    which: np.ndarray
    geometry: Any
    holds: bool
    tensors: list[Tensor]
    places: tuple[list[int], list[int]]

    @property
    def params(self) -> list[Tensor]:
        """θ of all slots."""
        return self.tensors[:: len(self.tensors) // len(self.slots)]

    def addresses(self, gradients: list[Tensor]) -> np.ndarray:
        """(n_slots, n_tensors) addresses of the tensors, with these gradients."""
        table = np.fromiter(map(Tensor.data_ptr, self.tensors), np.int64, len(self.tensors))
        table = table.reshape(len(self.slots), -1)
        pointers = np.fromiter(map(Tensor.data_ptr, gradients), np.int64, len(gradients))
        table[self.places] = pointers[self.places[0]]
        return table


class Plan:
    """The step ``kind`` ("adabreg", "linbreg", "proxsgd") on the parameters of all groups that have a gradient."""

    def __init__(self, kind: str, groups: list[Group], slots: list[Slot | None]) -> None:
        """Build the plan; ``slots`` holds one slot per parameter in order, None for parameters without a gradient."""
        self._kind = kind
        self._has_gradient = [known is not None for known in slots]
        self._has_none = [known is None for known in slots]
        self._signature = [_signature(group) for group in groups]
        members = [known for known in slots if known is not None]
        self._watch = Watch(members)
        self._gradients: list[Tensor] = [member.tensors[1] for member in members]
        self._parts = list(_parts(kind, members))

    def refresh(self, groups: list[Group], states: Mapping[Tensor, State]) -> bool:
        """Use the current gradients; False if anything else has changed, so that a new plan is needed.

        Args:
            groups: the optimizer's groups.
            states: the optimizer's state.

        Returns:
            True if the plan still holds; its gradients are then the current ones.
        """
        if self._signature != [_signature(group) for group in groups]:
            return False
        params = [p for group in groups for p in group["params"]]
        if any(p.grad is not None for p in compress(params, self._has_none)):
            return False
        gradients = self._watch.gradients(list(compress(params, self._has_gradient)), states)
        self._gradients = gradients or []
        return gradients is not None

    def holds(self, p: Tensor) -> bool:
        """Test for a parameter that a step changes in a part of its elements only.

        Args:
            p: a parameter.

        Returns:
            True if a step changes only the elements that its slot's ``held`` marks.
        """
        held = [
            member for part in self._parts if part.holds for member in part.slots if member.held is not None
        ]
        return any(p is member.tensors[0] for member in held)

    def run(self) -> None:
        """One step, with the gradients of the last ``refresh``."""
        self._watch.advance()
        for part in self._parts:
            gradients = [self._gradients[i] for i in part.members]
            if part.engine is None:
                self._run_foreach(part.slots, gradients)
            else:
                self._run_kernel(part, gradients)
        self._gradients = []

    def _run_foreach(self, slots: list[Slot], gradients: list[Tensor]) -> None:
        for member, gradient in zip(slots, gradients, strict=True):
            member.put_for_gradient(gradient)
        steps.STEPS[self._kind](slots[0].group, slots)
        for member in slots:
            member.put_for_gradient(member.tensors[0])

    def _run_kernel(self, part: _Part, gradients: list[Tensor]) -> None:
        modes, scalars = zip(*(_recipe(recipe) for recipe in part.recipes), strict=True)
        given: list[Any] = [part.geometry, np.array(modes), np.array(scalars), part.which]
        if part.holds:
            given.append([member.held for member in part.slots])
        part.engine.run(self._kind, part.addresses(gradients), part.tensors[0], *given)
        increment_version(part.params)  # a graph that still needs the old weights must not use these
        if DUAL in modes:
            for member, i in zip(part.slots, part.which, strict=True):
                if modes[i] == DUAL:
                    steps.read_off(member.group, [member.tensors[0]], [member.tensors[-1]])


def _signature(group: Group) -> tuple[Any, ...]:
    """The options of a group that determine the tensors and the path of its step."""
    return (
        id(group),
        len(group["params"]),
        group["reg"] is None,
        group.get("momentum", 0) != 0,
        group.get("fused"),
    )


def _parts(kind: str, slots: list[Slot]) -> Iterable[_Part]:
    """One part per device and type for the kernels; all other slots go to foreach.

    On a CPU foreach gets tensors one by one, to stay within the caches; elsewhere a whole group.
    """
    engines = _engines(slots) if kind in {"adabreg", "linbreg"} else {}
    found: dict[Any, list[int]] = {}
    for i, member in enumerate(slots):
        p, wanted = member.tensors[0], member.group.get("fused")
        engine = engines.get((wanted, p.device.type))
        if engine is not None and engine.fusable(member.tensors):
            key: Any = (engine, p.device, p.dtype)
        else:
            key = (None, i) if p.is_cpu else (None, id(member.group), p.device, p.dtype)
        found.setdefault(key, []).append(i)
    for (engine, *_), numbers in found.items():
        members = [slots[i] for i in numbers]
        recipes: dict[Any, int] = {}
        which = [
            recipes.setdefault((id(member.group), member.state.get("step")), len(recipes))
            for member in members
        ]
        leaders = [members[which.index(i)] for i in range(len(recipes))]
        geometry = None if engine is None else engine.geometry([member.tensors[0] for member in members])
        holds = engine is not None and engine.HOLDS
        for member in members:
            member.put_for_gradient(member.tensors[0])
        tensors = [tensor for member in members for tensor in member.tensors]
        places = [(row, column) for row, member in enumerate(members) for column in member.gradient_places()]
        rows, columns = zip(*places, strict=True)
        yield _Part(
            engine,
            members,
            numbers,
            leaders,
            np.array(which),
            geometry,
            holds,
            tensors,
            (list(rows), list(columns)),
        )


def _engines(slots: list[Slot]) -> dict[tuple[bool | None, str], Any]:
    """The modules with compiled kernels, by a group's ``fused`` and a parameter's device."""
    engines: dict[tuple[bool | None, str], Any] = {}
    for member in slots:
        p, wanted = member.tensors[0], member.group["fused"]
        if p.is_cpu and (wanted or (wanted is None and _pays(slots))):
            require("numba", "train")
            from lbi.train.optim import fused_cpu

            engines[wanted, "cpu"] = fused_cpu
        elif p.is_cuda and (wanted or (wanted is None and gpu.allowed())):
            require("triton", "train")
            from lbi.train.optim import fused_cuda

            engines[wanted, "cuda"] = fused_cuda
    return engines


def _pays(slots: list[Slot]) -> bool:
    """True if ``fused=None`` selects the CPU kernels: numba is installed, and they are loaded or worth loading."""
    if "lbi.train.optim.fused_cpu" in sys.modules:
        return True
    n = sum(s.tensors[0].numel() for s in slots if s.group["fused"] is None and s.tensors[0].is_cpu)
    return n >= _WORTHWHILE and importlib.util.find_spec("numba") is not None


def _recipe(member: Slot) -> tuple[int, list[float]]:
    """The kernel mode and the scalars of a slot: δ, low, high, scale, lr·decay, and those of the method."""
    group = member.group
    reg, delta = group["reg"], float(group["delta"])
    shrinkage = None if reg is None else reg.shrinkage(delta)
    own = steps.scalars(group, member.state)
    if shrinkage is None:
        return PLAIN if reg is None else DUAL, [0.0] * 4 + own
    threshold, scale = shrinkage
    return SHRINK, [delta, -math.inf if reg.nonneg else -threshold, threshold, scale, *own]
