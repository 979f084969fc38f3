"""Counts of one configuration (dense or sparse) over a run, priced with every cost set of the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import CORE_EVENTS, MESSAGES, TRAFFIC_EVENTS
from lbi.chip.memory import DENSE
from lbi.chip.placement import Placement
from lbi.chip.profile import CostSet, HardwareProfile
from lbi.costing.costs import energy, energy_parts, price_lists, static_pj, step_times
from lbi.costing.counts import Batch, Loads, PlacedNetwork
from lbi.costing.result import CostBreakdown, Range, Series, hull
from lbi.network.activity import Activity
from lbi.network.graph import INPUT


class Counter:
    """Sums of one configuration's events over batches."""

    def __init__(self, network: PlacedNetwork, profile: HardwareProfile) -> None:
        self.network = network
        self.profile = profile
        self.exact_messages = True
        self.n_steps = 0  # timesteps of samples
        self.input_spikes = 0
        self.effective = 0
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
        self.n_steps += batch.shape[0] * batch.shape[1]
        self.input_spikes += int(batch.spikes[INPUT].sum())
        for projection in self.network.fixed.projections:
            per_source = batch.spikes[projection.source].sum(axis=(0, 1), dtype=np.int64)
            self.effective += int(per_source @ projection.weights.fan_out())
        for costs in self.profile.costs:
            self.times[costs.name].add(*step_times(costs, loads))

    def add_totals(self, activity: Activity) -> None:
        """Add a run with totals per population only; messages and times are bounds then.

        Args:
            activity: the run.
        """
        self.exact_messages = False
        whole, parts = _loads_by_population(self.network, activity)
        self._add(whole)
        self.n_steps += activity.n_samples * activity.n_steps
        self.input_spikes += int(activity.input_spikes.sum())
        self.effective += activity.n_synops
        for costs in self.profile.costs:
            low = np.max([step_times(costs, part)[0] for part in parts], axis=0)
            self.times[costs.name].add(low, step_times(costs, whole)[1])

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
    """Sum and maximum of the bounds over chip timesteps, in ns."""

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
        placed: False if the placement is only imagined, which has no times.

    Returns:
        Counts, energies (pJ) and times (ns) per timestep of a sample.
    """
    profile, placement = counter.profile, counter.network.placement
    n = max(counter.n_steps, 1)
    events = {event: float(values.sum()) / n for event, values in counter.series.items()}
    times = {name: times for name, times in counter.times.items() if placed}
    time = {name: Range(t.low / max(t.n, 1), t.high / max(t.n, 1)) for name, t in times.items()}
    per_step = {event: values / max(counter.n_samples, 1) for event, values in counter.series.items()}
    priced = [costs for costs in profile.costs if costs.energy]
    return CostBreakdown(
        placement=placement,
        fits=placed,
        events=events,
        synops_effective=counter.effective / n,
        exact_messages=counter.exact_messages,
        energy={costs.name: _priced(costs, events, counter.exact_messages) for costs in priced},
        parts={name: energy_parts(costs, events) for name, (_, costs) in price_lists(profile).items()},
        time=time,
        slowest_ns={name: Range(t.slowest_low, t.slowest_high) for name, t in times.items()},
        static=_static(profile, placement, hull(time)),
        scenarios=_scenarios(profile, events, counter.exact_messages),
        series=Series(
            per_step["synop_dense"] + per_step["synop_indexed"],
            {name: _energy_series(costs, per_step) for name, (_, costs) in price_lists(profile).items()},
        ),
        input_spikes=counter.input_spikes / n,
    )


def _priced(costs: CostSet, events: Mapping[str, float], exact: bool) -> Range:
    """Energy in pJ per timestep; if messages are only bounded, the range from none to all of them."""
    high = energy(costs, events) or 0.0
    if exact:
        return Range(high, high)
    return Range(energy(costs, {k: 0.0 if k in MESSAGES else v for k, v in events.items()}) or 0.0, high)


def _energy_series(costs: CostSet, per_step: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    n = next(iter(per_step.values())).size
    return np.array([energy(costs, {k: float(v[t]) for k, v in per_step.items()}) for t in range(n)])


def _static(profile: HardwareProfile, placement: Placement, time: Range | None) -> dict[str, Range]:
    """Static energy per timestep, power · time over the chips or cores used, reported separately."""
    if time is None:
        return {}
    static = {}
    for entry in profile.static:
        n = placement.n_cores if entry.power.unit == "mW/core" else placement.n_chips
        power = entry.power.number * n
        static[entry.name] = Range(static_pj(power, time.low), static_pj(power, time.high))
    return static


def _scenarios(profile: HardwareProfile, events: Mapping[str, float], exact: bool) -> dict[str, Range]:
    ranges = {}
    for scenario in profile.scenarios:
        if scenario.costs is not None:
            ranges[scenario.name] = _priced(scenario.costs, events, exact)
        elif scenario.energy_per_synop is not None:
            per_synop = scenario.energy_per_synop.numbers
            synops = events["synop_dense"] + events["synop_indexed"]
            ranges[scenario.name] = Range(synops * per_synop[0], synops * per_synop[-1])
    return ranges


def _loads_by_population(network: PlacedNetwork, activity: Activity) -> tuple[Loads, list[Loads]]:
    """All counts on one hypothetical core, and each population's spread evenly over its cores.

    The first bounds the busiest core from above, the second from below. Messages are bounded by one per
    event and core of the target.
    """
    fixed, placement = network.fixed, network.placement
    latency = {name: fixed.latency(name) for name in (INPUT, *activity.populations)}
    shape = (activity.n_samples, activity.n_steps + fixed.depth)
    whole = _empty(shape)
    parts = {name: _empty(shape) for name in activity.populations}
    n_chunks = {name: sum(chunk.population == name for chunk in placement.chunks) for name in parts}

    def add(event: str, name: str, at: int, values: NDArray[np.int64]) -> None:
        steps = slice(at, at + activity.n_steps)
        whole.cores[event][:, steps, 0] += values
        share = parts[name].cores[event]
        share[:, steps, 0] += values // n_chunks[name]

    for projection in fixed.projections:
        counts, at = activity.projections[projection.name], latency[projection.source]
        is_dense = placement.formats[projection.name] == DENSE
        fetched = counts.events * projection.weights.shape[0] if is_dense else counts.synops
        add("synop_dense" if is_dense else "synop_indexed", projection.target, at, fetched)
        messages = counts.events * n_chunks[projection.target]
        steps = slice(at, at + activity.n_steps)
        whole.cores["message_in"][:, steps, 0] += messages
        if projection.source == INPUT:
            whole.traffic["message_from_input"][:, steps] += messages
        else:
            whole.cores["message_out"][:, steps, 0] += messages
            whole.traffic["message_within_tile"][:, steps] += messages
    for population in fixed.populations:
        record, at = activity.populations[population.name], latency[population.name]
        add("update_active", population.name, at, record.active)
        add("update_inactive", population.name, at, population.n - record.active)
        add("spike", population.name, at, record.spikes)
    return whole, list(parts.values())


def _empty(shape: tuple[int, int]) -> Loads:
    return Loads(
        {event: np.zeros((*shape, 1), dtype=np.int64) for event in CORE_EVENTS},
        {event: np.zeros(shape, dtype=np.int64) for event in TRAFFIC_EVENTS},
    )
