"""Counts of one configuration (dense or sparse) over a run, priced with every cost set of the chip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import MESSAGES, TRAFFIC_EVENTS
from lbi.chip.placement import Placement
from lbi.chip.profile import CostSet, HardwareProfile
from lbi.costing.cores import CoreCounter
from lbi.costing.costs import energy, energy_parts, price_lists, static_pj, step_times
from lbi.costing.counts import Batch, Loads, PlacedNetwork
from lbi.costing.ranges import Range
from lbi.costing.result import CostBreakdown, Series
from lbi.costing.savings import NeuronCounter, savings
from lbi.costing.totals import loads_by_population
from lbi.network.activity import Activity
from lbi.network.graph import INPUT


class Counter:
    """Sums of one configuration's events over batches."""

    def __init__(self, network: PlacedNetwork, profile: HardwareProfile) -> None:
        self.network = network
        self.profile = profile
        self.least: dict[str, int] = {}  # fewest messages and synops by event, where they are only bounded
        self.most: dict[str, int] = {}  # most synops by event, where messages are only bounded
        self.exact_synops = True
        self.cores = CoreCounter(network.placement.n_cores, profile)
        self.neurons = NeuronCounter()
        self.n_steps = 0  # timesteps of samples
        self.input_spikes = 0
        self.effective = 0
        self.fetched = {projection.name: 0 for projection in network.fixed.projections}
        self.n_samples = 0
        self.series: dict[str, NDArray[np.float64]] = {}
        self.times = {costs.name: _Times() for costs in profile.costs}

    def add(self, batch: Batch) -> None:
        """Add a batch with all neurons' spikes, counted exactly per core.

        Args:
            batch: a batch of samples.
        """
        loads = self.network.count(batch)
        self._add(loads)
        streamed = loads.streamed(batch.shape[1])
        self.cores.add(streamed)
        self.neurons.add(batch)
        self.n_steps += batch.shape[0] * batch.shape[1]
        self.input_spikes += int(batch.spikes[INPUT].sum())
        for projection in self.network.fixed.projections:
            per_source = batch.spikes[projection.source].sum(axis=(0, 1), dtype=np.int64)
            self.effective += int(per_source @ projection.weights.fan_out())
            self.fetched[projection.name] += int(per_source @ self.network.fetched_per_spike[projection.name])
        for costs in self.profile.costs:
            self.times[costs.name].add(*step_times(costs, streamed))

    def add_totals(self, activity: Activity, uncertain: Collection[str] = ()) -> None:
        """Add a run with totals per population only; messages and times are bounds then.

        Args:
            activity: the run.
            uncertain: projections whose synaptic operations in it are those of the mean fan-out.
        """
        found = loads_by_population(self.network, activity, uncertain)
        for sums, counts in (
            (self.least, found.least),
            (self.most, found.most),
            (self.fetched, found.fetched),
        ):
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
        self.exact_synops &= found.exact_synops
        self._add(found.whole)
        n = activity.n_steps
        self.n_steps += activity.n_samples * activity.n_steps
        self.input_spikes += int(activity.input_spikes.sum())
        self.effective += activity.n_synops
        for costs in self.profile.costs:
            low = np.max([step_times(costs, part.streamed(n))[0] for part in found.parts], axis=0)
            self.times[costs.name].add(low, step_times(costs, found.busiest.streamed(n))[1])

    @property
    def exact_messages(self) -> bool:
        """False if messages are only bounded."""
        return not self.least

    def _add(self, loads: Loads) -> None:
        self.n_samples += loads.traffic[TRAFFIC_EVENTS[0]].shape[0]
        for event, values in loads.cores.items():
            self._extend(event, values.sum(axis=(0, 2)))
        for event, values in loads.traffic.items():
            self._extend(event, values.sum(axis=0))

    def _extend(self, event: str, values: NDArray[np.int64]) -> None:
        old = self.series.get(event, np.zeros(values.size))
        self.series[event] = old + values


@dataclass
class _Times:
    """Sum and maximum of the bounds over timesteps, in ns."""

    low: float = 0.0
    high: float = 0.0
    slowest_low: float = 0.0
    slowest_high: float = 0.0
    n: int = field(default=0)

    def add(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        self.low += float(low.sum())
        self.high += float(high.sum())
        self.slowest_low = max(self.slowest_low, float(low.max(initial=0.0)))
        self.slowest_high = max(self.slowest_high, float(high.max(initial=0.0)))
        self.n += low.size


def to_breakdown(counter: Counter, placed: bool) -> CostBreakdown:
    """The costs of what was counted.

    Args:
        counter: the counts.
        placed: False if the placement is only imagined, which has no times, and no messages: their energy is left out.

    Returns:
        Counts, energies (pJ) and times (ns) per timestep of a sample.
    """
    profile, placement = counter.profile, counter.network.placement
    n = max(counter.n_steps, 1)
    series = {event: values for event, values in counter.series.items() if placed or event not in MESSAGES}
    events = {event: float(values.sum()) / n for event, values in series.items()}
    times = {name: times for name, times in counter.times.items() if placed}
    time = {name: Range(t.low / max(t.n, 1), t.high / max(t.n, 1)) for name, t in times.items()}
    per_step = {event: values / max(counter.n_samples, 1) for event, values in series.items()}
    least, most = (
        {event: count / n for event, count in counts.items() if placed or event not in MESSAGES}
        for counts in (counter.least, counter.most)
    )
    low, high = {**events, **least}, {**events, **most}
    exact = counter.exact_messages
    priced = [costs for costs in profile.costs if costs.energy]
    return CostBreakdown(
        placement=placement,
        fits=placed,
        events=events,
        synops_effective=counter.effective / n,
        exact_messages=exact,
        exact_synops=counter.exact_synops,
        energy={costs.name: _priced(costs, low, high) for costs in priced},
        parts={name: energy_parts(costs, events) for name, (_, costs) in price_lists(profile).items()},
        time=time,
        slowest_ns={name: Range(t.slowest_low, t.slowest_high) for name, t in times.items()},
        static_by_cost_set=_static(profile, placement, time),
        scenarios=_scenarios(profile, low, high),
        series=Series(
            per_step["synop_dense"] + per_step["synop_indexed"],
            {name: _energy_series(costs, per_step) for name, (_, costs) in price_lists(profile).items()},
        ),
        input_spikes=counter.input_spikes / n,
        loads=counter.cores.loads(n) if exact and placed else {},
        bounds=counter.cores.bounds() if exact and placed else {},
        savings=savings(counter.network, profile, counter.neurons, events) if exact and placed else (),
    )


def _priced(costs: CostSet, low: Mapping[str, float], high: Mapping[str, float]) -> Range:
    """Energy in pJ per timestep, from the fewest events possible (where they are only bounded) to the most."""
    return Range(energy(costs, low) or 0.0, energy(costs, high) or 0.0)


def _energy_series(costs: CostSet, per_step: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    n = next(iter(per_step.values())).size
    return np.array([energy(costs, {k: float(v[t]) for k, v in per_step.items()}) for t in range(n)])


def _static(
    profile: HardwareProfile, placement: Placement, time: Mapping[str, Range]
) -> dict[str, dict[str, Range]]:
    """Static energy per timestep, power · time over the chips or cores used, by the cost set of the time."""
    if not time:
        return {}
    static = {}
    for entry in profile.static:
        n = placement.n_cores if entry.power.unit == "mW/core" else placement.n_chips
        power = entry.power.number * n
        static[entry.name] = {
            name: Range(static_pj(power, t.low), static_pj(power, t.high)) for name, t in time.items()
        }
    return static


def _scenarios(
    profile: HardwareProfile, low: Mapping[str, float], high: Mapping[str, float]
) -> dict[str, Range]:
    ranges = {}
    for scenario in profile.scenarios:
        if scenario.costs is not None:
            ranges[scenario.name] = _priced(scenario.costs, low, high)
        elif scenario.energy_per_synop is not None:
            per_synop = scenario.energy_per_synop.numbers
            least, most = (events["synop_dense"] + events["synop_indexed"] for events in (low, high))
            ranges[scenario.name] = Range(least * per_synop[0], most * per_synop[-1])
    return ranges
