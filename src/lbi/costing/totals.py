"""Counts of a run that recorded totals per population only: exact sums, and bounds of what depends on single neurons.

Updates, spikes and synaptic operations on nonzero weights are sums, which the totals give exactly. Messages, and zeros that kernels are read with, depend on which neurons spiked: with
E spikes of a source in a step, their messages lie between the sum of the E smallest and the sum of the E largest
counts per neuron, since no neuron spikes twice in a step. The counts per neuron are those of the placement, hops included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import CORE_EVENTS, MESSAGES, TRAFFIC_EVENTS
from lbi.chip.memory import DENSE
from lbi.costing.counts import Loads, PlacedNetwork, Source, dense_synops
from lbi.network.activity import Activity
from lbi.network.fixed import FixedProjection
from lbi.network.graph import INPUT

SYNOPS = ("synop_dense", "synop_indexed")
"""Events of synaptic operations."""


@dataclass(frozen=True, eq=False)
class TotalBounds:
    """Bounds of a run's counts.

    Attributes:
        whole: all counts on one hypothetical core with the most messages possible; synaptic operations that are only
            bounded by the mean fan-out.
        busiest: the same with the most synaptic operations, which bounds the busiest core from above.
        parts: each population's counts spread evenly over its cores, which bound the busiest from below.
        least: the fewest messages and synaptic operations of the run by event.
        most: the most synaptic operations by event.
        fetched: projection → synaptic operations in ``whole``.
        exact_synops: False if any are only bounded.
    """

    whole: Loads
    busiest: Loads
    parts: list[Loads]
    least: dict[str, int]
    most: dict[str, int]
    fetched: dict[str, int]
    exact_synops: bool


def loads_by_population(
    network: PlacedNetwork, activity: Activity, uncertain: Collection[str] = ()
) -> TotalBounds:
    """Bounds of a run's counts.

    Args:
        network: The placed network.
        activity: The run.
        uncertain: Projections whose synaptic operations in the run are those of the mean fan-out.

    Returns:
        Counts per core and timestep, their least and most, and whether they are exact.
    """
    fetches = {p.name: _fetched(network, p, activity, p.name in uncertain) for p in network.fixed.projections}
    whole, parts = _sums(network, activity, fetches)
    busiest = Loads({event: values.copy() for event, values in whole.cores.items()}, whole.traffic)
    least, most = dict.fromkeys(MESSAGES, 0), dict.fromkeys(SYNOPS, 0)
    for p in network.fixed.projections:
        low, expected, high = fetches[p.name]
        event, at = _event(network, p), network.fixed.latency(p.source)
        busiest.cores[event][:, at : at + activity.n_steps, 0] += high - expected
        least[event] = least.get(event, 0) + int(low.sum())
        most[event] += int(high.sum())
    for source in network.sources:
        events = _events(source, activity)
        at = network.fixed.latency(source.name)
        steps = slice(at, at + activity.n_steps)
        for event, counts in _per_neuron(source).items():
            fewest, largest = extremes(counts, events)
            least[event] += int(fewest.sum())
            if event in CORE_EVENTS:
                whole.cores[event][:, steps, 0] += largest
                busiest.cores[event][:, steps, 0] += largest
            else:
                whole.traffic[event][:, steps] += largest
    exact = all(np.array_equal(low, high) for low, _, high in fetches.values())
    fetched = {name: int(expected.sum()) for name, (_, expected, _) in fetches.items()}
    return TotalBounds(whole, busiest, parts, least, most, fetched, exact)


def extremes(
    counts: NDArray[np.int64], events: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the greatest sum of ``counts`` over as many different neurons as there are ``events``.

    Args:
        counts: (n_source,) one per neuron.
        events: neurons that count, at most n_source; any shape.

    Returns:
        Two arrays of the shape of ``events``.
    """
    ordered = np.sort(counts)
    fewest = np.concatenate([[0], np.cumsum(ordered)])
    most = np.concatenate([[0], np.cumsum(ordered[::-1])])
    return fewest[events], most[events]


def _event(network: PlacedNetwork, projection: FixedProjection) -> str:
    return SYNOPS[network.placement.formats[projection.name] != DENSE]


def _fetched(
    network: PlacedNetwork, projection: FixedProjection, activity: Activity, uncertain: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(n_samples, n_steps) least, expected and most synapses that a run fetched of a projection, in the source's own time."""
    counts, per_spike = activity.projections[projection.name], network.fetched_per_spike[projection.name]
    if network.placement.formats[projection.name] == DENSE:
        exact = counts.events * projection.weights.shape[0]
        return exact, exact, exact
    with_zeros = int(per_spike.sum()) > projection.weights.nnz  # kernels are read with their zeros
    if not with_zeros and not uncertain:
        return counts.synops, counts.synops, counts.synops
    low, high = extremes(per_spike, counts.events)
    if not uncertain:
        low = np.maximum(low, counts.synops)
    expected = dense_synops(projection, activity)[0] if with_zeros else counts.synops
    return low, np.clip(expected, low, high), high


def _events(source: Source, activity: Activity) -> NDArray[np.int64]:
    """(n_samples, n_steps) spikes of a source in its own time."""
    if source.name == INPUT:
        return activity.input_spikes
    return activity.populations[source.name].spikes


def _per_neuron(source: Source) -> dict[str, NDArray[np.int64]]:
    """Message event → (n_source,) its count for one spike of each neuron."""

    def row_sums(matrix: Any) -> NDArray[np.int64]:
        return np.asarray(matrix.sum(axis=1), dtype=np.int64).ravel()

    counts = {"message_in": row_sums(source.reached)}
    if source.sent is not None:
        counts["message_out"] = row_sums(source.sent)
    traffic = source.traffic.toarray()
    return counts | {event: traffic[:, column] for column, event in enumerate(TRAFFIC_EVENTS)}


def _sums(
    network: PlacedNetwork, activity: Activity, fetches: Mapping[str, tuple[NDArray[np.int64], ...]]
) -> tuple[Loads, list[Loads]]:
    """All synaptic operations, updates and spikes on one core, and each population's spread evenly over its cores."""
    fixed, placement = network.fixed, network.placement
    latency = {name: fixed.latency(name) for name in (INPUT, *activity.populations)}
    shape = (activity.n_samples, activity.n_steps + fixed.depth)
    whole = _empty(shape)
    parts = {name: _empty(shape) for name in activity.populations}
    n_chunks = {name: sum(chunk.population == name for chunk in placement.chunks) for name in parts}

    def add(
        event: str, name: str, at: int, values: NDArray[np.int64], least: NDArray[np.int64] | None = None
    ) -> None:
        steps = slice(at, at + activity.n_steps)
        whole.cores[event][:, steps, 0] += values
        parts[name].cores[event][:, steps, 0] += (values if least is None else least) // n_chunks[name]

    for projection in fixed.projections:
        least, expected, _ = fetches[projection.name]
        at, event = latency[projection.source], _event(network, projection)
        add(event, projection.target, at, expected, least)
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
