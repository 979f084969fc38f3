"""Cached dispatch of an optimizer step, rebuilt when parameters, gradients or options change.

Building a plan inspects the type, layout and state of every tensor; reusing one costs a few pointer comparisons.
The difference matters beside kernels that take well under a millisecond.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lbi.errors import require
from lbi.train import gpu
from lbi.train.optim import steps
from lbi.train.optim.slot import DUAL, PLAIN, SHRINK, Group, Slot, State

_WORTHWHILE = 1 << 15  # number of weights from which ``fused=None`` loads the compiled kernels


@dataclass(slots=True)
class _Part:
    """Slots processed by one call: by ``engine``'s kernel, or without an engine by torch's foreach operations.

    Attributes:
        engine: module with compiled kernels, or None.
        slots: the slots.
        recipes: one slot for each combination of group and step count.
        which: (n_slots,) recipe of each slot.
        geometry: the engine's description of the tensors' sizes.
        holds: whether the engine steps ``held`` of the slots alone.
    """

    engine: Any
    slots: list[Slot]
    recipes: list[Slot]
    which: np.ndarray
    geometry: Any
    holds: bool


class Plan:
    """The step ``kind`` ("adabreg", "linbreg", "proxsgd") on the parameters of all groups that have a gradient."""

    def __init__(self, kind: str, groups: list[Group], slots: list[Slot | None]) -> None:
        """Build the plan; ``slots`` holds one slot per parameter in order, None for parameters without a gradient."""
        self._kind = kind
        self._slots = slots
        self._signature = [_signature(group) for group in groups]
        self._parts = list(_parts(kind, [s for s in slots if s is not None]))

    def refresh(self, groups: list[Group], states: defaultdict[Tensor, State]) -> bool:
        """Use the current gradients; False if anything else has changed, so that a new plan is needed.

        Args:
            groups: the optimizer's groups.
            states: the optimizer's state.

        Returns:
            Whether the plan still holds.
        """
        if self._signature != [_signature(group) for group in groups]:
            return False
        slots = iter(self._slots)
        for group in groups:
            for p in group["params"]:
                known = next(slots)
                if known is None:
                    if p.grad is not None:
                        return False
                elif p is not known.tensors[0] or states.get(p) is not known.state or not known.refresh():
                    return False
        return True

    def holds(self, p: Tensor) -> bool:
        """Whether a step changes this parameter where it is held to only."""
        held = [
            member for part in self._parts if part.holds for member in part.slots if member.held is not None
        ]
        return any(p is member.tensors[0] for member in held)

    def run(self) -> None:
        """One step."""
        for part in self._parts:
            for member in part.slots:
                member.advance()
            if part.engine is None:
                steps.STEPS[self._kind](part.slots[0].group, part.slots)
            else:
                self._run_kernel(part)
            for member in part.slots:
                member.release()

    def _run_kernel(self, part: _Part) -> None:
        modes, scalars = zip(*(_recipe(recipe) for recipe in part.recipes), strict=True)
        tensors = [member.tensors for member in part.slots]
        given: list[Any] = [np.array(modes), np.array(scalars), part.which]
        if part.holds:
            given.append([member.held for member in part.slots])
        part.engine.run(self._kind, tensors, part.geometry, *given)
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
    found: dict[Any, list[Slot]] = {}
    for i, member in enumerate(slots):
        p, wanted = member.tensors[0], member.group.get("fused")
        engine = engines.get((wanted, p.device.type))
        if engine is not None and engine.fusable(member.tensors):
            key: Any = (engine, p.device, p.dtype)
        else:
            key = (None, i) if p.is_cpu else (None, id(member.group), p.device, p.dtype)
        found.setdefault(key, []).append(member)
    for (engine, *_), members in found.items():
        recipes: dict[Any, int] = {}
        which = [
            recipes.setdefault((id(member.group), member.state.get("step")), len(recipes))
            for member in members
        ]
        leaders = [members[which.index(i)] for i in range(len(recipes))]
        geometry = None if engine is None else engine.geometry([member.tensors[0] for member in members])
        holds = engine is not None and engine.HOLDS
        yield _Part(engine, members, leaders, np.array(which), geometry, holds)


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
