"""Counts of a run that recorded totals per population only: exact sums, and bounds of what depends on single neurons.

Synaptic operations, updates and spikes are sums, which the totals give exactly. Messages depend on which neurons spiked: with
E spikes of a source in a step, their messages lie between the sum of the E smallest and the sum of the E largest
counts per neuron, since no neuron spikes twice in a step. The counts per neuron are those of the placement, hops included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import CORE_EVENTS, MESSAGES, TRAFFIC_EVENTS
from lbi.chip.memory import DENSE, SHARED
from lbi.costing.counts import Loads, PlacedNetwork, Source, dense_synops
from lbi.network.activity import Activity
from lbi.network.fixed import FixedProjection
from lbi.network.graph import INPUT


def loads_by_population(
    network: PlacedNetwork, activity: Activity
) -> tuple[Loads, list[Loads], dict[str, int]]:
    """Bounds of a run's counts.

    Args:
        network: The placed network.
        activity: The run.

    Returns:
        All counts on one hypothetical core with the most messages possible, which bounds the busiest core from above; each
        population's counts spread evenly over its cores, which bound it from below; and the fewest messages of the run by event.
    """
    whole, parts = _sums(network, activity)
    least = dict.fromkeys(MESSAGES, 0)
    for source in network.sources:
        events = _events(source, activity)
        at = network.fixed.latency(source.name)
        steps = slice(at, at + activity.n_steps)
        for event, counts in _per_neuron(source).items():
            ordered = np.sort(counts)
            fewest = np.concatenate([[0], np.cumsum(ordered)])
            most = np.concatenate([[0], np.cumsum(ordered[::-1])])
            least[event] += int(fewest[events].sum())
            if event in CORE_EVENTS:
                whole.cores[event][:, steps, 0] += most[events]
            else:
                whole.traffic[event][:, steps] += most[events]
    return whole, parts, least


def fetched(network: PlacedNetwork, projection: FixedProjection, activity: Activity) -> NDArray[np.int64]:
    """Synapses of a projection that a run fetched.

    Args:
        network: The placed network.
        projection: One of its projections.
        activity: The run.

    Returns:
        (n_samples, n_steps) counts in the source's own time.
    """
    counts, kind = activity.projections[projection.name], network.placement.formats[projection.name]
    if kind == DENSE:
        return counts.events * projection.weights.shape[0]
    if kind == SHARED and int(network.fetched_per_spike[projection.name].sum()) > projection.weights.nnz:
        return dense_synops(projection, activity)[0]  # kernels are read with their zeros
    return counts.synops


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


def _sums(network: PlacedNetwork, activity: Activity) -> tuple[Loads, list[Loads]]:
    """All synaptic operations, updates and spikes on one core, and each population's spread evenly over its cores."""
    fixed, placement = network.fixed, network.placement
    latency = {name: fixed.latency(name) for name in (INPUT, *activity.populations)}
    shape = (activity.n_samples, activity.n_steps + fixed.depth)
    whole = _empty(shape)
    parts = {name: _empty(shape) for name in activity.populations}
    n_chunks = {name: sum(chunk.population == name for chunk in placement.chunks) for name in parts}

    def add(event: str, name: str, at: int, values: NDArray[np.int64]) -> None:
        steps = slice(at, at + activity.n_steps)
        whole.cores[event][:, steps, 0] += values
        parts[name].cores[event][:, steps, 0] += values // n_chunks[name]

    for projection in fixed.projections:
        at = latency[projection.source]
        event = "synop_dense" if placement.formats[projection.name] == DENSE else "synop_indexed"
        add(event, projection.target, at, fetched(network, projection, activity))
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
