"""What each core does: per-core loads, and the core and resource that set the time of a timestep.

Time is set by the busiest core of each timestep, not by totals (Yik et al., arXiv:2511.21549; Timcheck et al.,
arXiv:2601.10035): a network with half the synaptic operations is no faster if they are spread unevenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import NEURON_EVENTS, SYNAPSE_EVENTS
from lbi.chip.profile import CostSet, HardwareProfile
from lbi.costing.counts import Loads

LOADS = {
    "synops": ("synop_dense", "synop_indexed"),
    "updates": ("update_active", "update_inactive"),
    "messages": ("message_in", "message_out"),
}
"""Load of a core → its events: the axes of the floorline model, beside memory."""

RESOURCES = {
    "synaptic operations": ("synop_dense", "synop_indexed"),
    "messages in": ("message_in",),
    "neuron updates": ("update_active", "update_inactive"),
    "spikes and messages out": ("spike", "message_out"),
}
"""Resource that takes a core's time → its events."""

BARRIER, FLOOR = "barrier", "step floor"
"""Resources of the whole chip: synchronization, and the shortest timestep."""


@dataclass(frozen=True, eq=False)
class CoreLoad:
    """One load of all cores.

    Attributes:
        mean: (n_cores,) per timestep of a sample.
        peak: (n_cores,) most in one timestep.
    """

    mean: NDArray[np.float64]
    peak: NDArray[np.int64]

    @property
    def busiest(self) -> int:
        """The core with the greatest mean."""
        return int(self.mean.argmax())

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON values."""
        return {
            "busiest": self.busiest,
            "max": float(self.mean.max()),
            "mean": float(self.mean.mean()),
            "total": float(self.mean.sum()),
            "peak": int(self.peak.max()),
        }


@dataclass(frozen=True, eq=False)
class TimeBound:
    """What sets the upper bound of the time per timestep, with one cost set.

    Attributes:
        core: the core that is busiest most often; None if no core works.
        share: timesteps in which it is the busiest, as a share of those in which a core works.
        ns: resource → mean ns per timestep on the busiest core; their sum is the upper bound.
    """

    core: int | None
    share: float
    ns: Mapping[str, float]

    @property
    def resource(self) -> str:
        """The resource that takes most of the time."""
        return max(self.ns, key=lambda name: self.ns[name])

    @property
    def core_resource(self) -> str | None:
        """The resource that takes most of the busiest core's own time; None if no core works."""
        own = {name: ns for name, ns in self.ns.items() if name in RESOURCES and ns > 0}
        return max(own, key=lambda name: own[name]) if own else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "core": self.core,
            "share_of_steps": self.share,
            "resource": self.resource,
            "core_resource": self.core_resource,
            "ns": dict(self.ns),
        }


@dataclass(eq=False)
class _Busiest:
    """Sums over timesteps for one cost set."""

    times: NDArray[np.int64]  # (n_cores,) timesteps in which each is the busiest
    ns: dict[str, float] = field(default_factory=dict)
    n: int = 0

    def add(self, costs: CostSet, loads: Loads) -> None:
        """Add the busiest core of every timestep, with the time that each resource takes on it.

        Args:
            costs: the cost set.
            loads: counts per sample, timestep and core.
        """
        price = {event: costs.time[event].number for event in SYNAPSE_EVENTS + NEURON_EVENTS}
        busy = np.zeros(loads.cores["spike"].shape)
        for event, ns in price.items():
            busy += ns * loads.cores[event]
        core = busy.argmax(axis=2)[:, :, None]
        most = np.take_along_axis(busy, core, axis=2)
        self.times += np.bincount(core[most > 0], minlength=self.times.size)
        for resource, events in RESOURCES.items():
            spent = sum(
                price[event] * float(np.take_along_axis(loads.cores[event], core, axis=2).sum())
                for event in events
            )
            self.ns[resource] = self.ns.get(resource, 0.0) + spent
        barrier = costs.time["barrier_high"].number
        wait = np.maximum(costs.time["step_floor"].number - barrier - most, 0.0)
        self.ns[BARRIER] = self.ns.get(BARRIER, 0.0) + barrier * most.size
        self.ns[FLOOR] = self.ns.get(FLOOR, 0.0) + float(wait.sum())
        self.n += most.size

    def bound(self) -> TimeBound:
        working = int(self.times.sum())
        core = int(self.times.argmax()) if working else None
        share = float(self.times.max()) / working if working else 0.0
        return TimeBound(core, share, {name: ns / max(self.n, 1) for name, ns in self.ns.items()})


class CoreCounter:
    """Sums and maxima of every core's loads over batches."""

    def __init__(self, n_cores: int, profile: HardwareProfile) -> None:
        self.profile = profile
        self.total = {name: np.zeros(n_cores, dtype=np.int64) for name in LOADS}
        self.peak = {name: np.zeros(n_cores, dtype=np.int64) for name in LOADS}
        self.busiest = {costs.name: _Busiest(np.zeros(n_cores, dtype=np.int64)) for costs in profile.costs}

    def add(self, loads: Loads) -> None:
        """Add the loads of a batch.

        Args:
            loads: counts per sample, timestep and core.
        """
        for name, events in LOADS.items():
            values = np.sum([loads.cores[event] for event in events], axis=0)
            self.total[name] += values.sum(axis=(0, 1))
            self.peak[name] = np.maximum(self.peak[name], values.max(axis=(0, 1), initial=0))
        for costs in self.profile.costs:
            self.busiest[costs.name].add(costs, loads)

    def loads(self, n_steps: int) -> dict[str, CoreLoad]:
        """Load → its use by the cores.

        Args:
            n_steps: timesteps of all samples, over which means are taken.

        Returns:
            One record for each of ``LOADS``.
        """
        return {name: CoreLoad(self.total[name] / max(n_steps, 1), self.peak[name]) for name in LOADS}

    def bounds(self) -> dict[str, TimeBound]:
        """Cost set → what sets the time.

        Returns:
            One record per cost set of the chip.
        """
        return {name: busiest.bound() for name, busiest in self.busiest.items()}
