"""Exact counts of events on each core in each timestep, from the spikes of a run and a placement.

Events are named as costs are (docs/hardware.md). On the cores: ``synop_dense``, ``synop_indexed`` (entries
*fetched* in the stored format: a dense row is read whole, zeros too), ``update_active``,
``update_inactive``, ``spike``, ``message_out`` (a spike for each destination core), ``message_in``. Between them: ``message_within_tile``, ``hop_ew``, ``hop_ns``, ``message_off_chip``.

A spike's synapses are charged to the timestep in which it was sent: Loihi delivers all messages of a step
before the barrier that ends it. Samples follow one another without a pause (``Loads.streamed``). Input spikes come from outside the mesh: their messages arrive and are
counted, without hops and without a core that sends them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import CORE_EVENTS, TRAFFIC_EVENTS
from lbi.chip.memory import DENSE
from lbi.chip.placement import Placement
from lbi.network.activity import Activity
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.network.graph import INPUT
from lbi.network.kept import Kept


@dataclass(frozen=True, eq=False)
class Batch:
    """Spikes and active flags of some samples: population (or "input") → (n_samples, n_steps, n) uint8."""

    spikes: Mapping[str, NDArray[np.uint8]]
    active: Mapping[str, NDArray[np.uint8]]
    latency: Mapping[str, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_steps) of the samples' own time."""
        n_samples, n_steps, _ = self.spikes[INPUT].shape
        return n_samples, n_steps

    @property
    def n_chip_steps(self) -> int:
        """Timesteps per sample on the chip: its own and the depth of the pipeline."""
        return self.shape[1] + max(self.latency.values(), default=0)


def split(batch: Batch, n_cores: int) -> Iterator[Batch]:
    """The batch in parts whose counts take about 200 MB at most.

    Args:
        batch: a batch of samples.
        n_cores: cores of the placement.

    Yields:
        Batches of whole samples, in order.
    """
    per_sample = (batch.n_chip_steps + batch.shape[1]) * n_cores * len(CORE_EVENTS) * 8
    n = max(1, int(200e6 // max(per_sample, 1)))
    for start in range(0, batch.shape[0], n):
        part = slice(start, start + n)
        yield Batch(
            {name: values[part] for name, values in batch.spikes.items()},
            {name: values[part] for name, values in batch.active.items()},
            batch.latency,
        )


def dense_synops(
    projection: FixedProjection, activity: Activity, kept: Kept | None = None
) -> tuple[NDArray[np.int64], bool]:
    """Weights of the dense layer that a run's spikes reached.

    Args:
        projection: One of the network that ran.
        activity: The run; its record of the source's spikes tells which neurons spiked, where that matters.
        kept: Neurons of the source that ran, if the projection has the numbering as trained.

    Returns:
        (n_samples, n_steps) counts in the source's own time, and whether they are exact: without a record, a pattern
        of several fan-outs that is not the stored weights' own is counted by its mean fan-out, and by the stored
        weights that the spikes reached if these are more.
    """
    counts, pattern = activity.projections[projection.name], projection.pattern
    spikes = activity.recorded.get((projection.source, "spikes"))
    if pattern is None:
        return counts.events * projection.weights.shape[0], True
    if pattern.nnz == projection.weights.nnz:
        return counts.synops, True
    if spikes is not None:
        fan_out = pattern.fan_out() if kept is None else pattern.fan_out()[kept.indices]
        parts = [sample.astype(np.int64) @ fan_out for sample in spikes]  # one by one: eight bytes a neuron
        return np.array(parts, dtype=np.int64).reshape(counts.events.shape), True
    return np.maximum(counts.events * pattern.nnz // max(pattern.shape[1], 1), counts.synops), False


@dataclass(frozen=True, eq=False)
class Loads:
    """Counts of a batch.

    Attributes:
        cores: core event → (n_samples, n_chip_steps, n_cores) int64.
        traffic: event between cores → (n_samples, n_chip_steps) int64.
    """

    cores: dict[str, NDArray[np.int64]]
    traffic: dict[str, NDArray[np.int64]]

    def streamed(self, n_steps: int) -> Loads:
        """The counts of samples that follow one another, (n_samples, n_steps, …).

        The chip steps of a sample beyond its own number, in which later populations end it, are the first of the next
        sample, in which these do not work on that yet. The sample itself stands for the next. So every neuron is
        updated in every step, and all figures per timestep have the same number of steps.

        Args:
            n_steps: timesteps of a sample's own time.

        Returns:
            The counts with ``n_steps`` chip steps per sample, the later ones added to the first.
        """

        def fold(values: NDArray[np.int64]) -> NDArray[np.int64]:
            if values.shape[1] == n_steps:
                return values
            own = values[:, :n_steps].copy()
            for start in range(n_steps, values.shape[1], n_steps):
                late = values[:, start : start + n_steps]
                own[:, : late.shape[1]] += late
            return own

        return Loads(
            {event: fold(values) for event, values in self.cores.items()},
            {event: fold(values) for event, values in self.traffic.items()},
        )


@dataclass(eq=False)
class Source:
    """The effects on the cores of spikes of one population or of the input.

    Attributes:
        fetched: event → (n_source, n_cores) synapses fetched per spike.
        reached: (n_source, n_cores) 0 or 1.
        traffic: (n_source, len(TRAFFIC_EVENTS)).
        sent: (n_source, n_cores) messages from a neuron's core. All are CSR.
    """

    name: str
    fetched: dict[str, Any]
    reached: Any
    traffic: Any
    sent: Any | None


@dataclass(eq=False)
class PlacedNetwork:
    """A placed network, prepared for counting: the effects of each source's spikes, the neurons of each core."""

    fixed: FixedNetwork
    placement: Placement
    sources: list[Source] = field(default_factory=list)
    fetched_per_spike: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Projection → (n_source,) synapses that one spike of each source fetches, over all cores."""

    def __post_init__(self) -> None:
        names = dict.fromkeys(projection.source for projection in self.fixed.projections)
        self.sources = [self._source(name) for name in names]

    def _source(self, name: str) -> Source:
        from scipy.sparse import csr_matrix

        fetched: dict[str, Any] = {}
        for projection in self.fixed.projections:
            if projection.source == name:
                event, matrix = self._fetched(projection)
                fetched[event] = fetched[event] + matrix if event in fetched else matrix
        reached = sum(fetched.values()).tocsr().copy()
        reached.data[:] = 1
        n_source, n_cores = reached.shape
        targets = reached.indices
        sources = np.repeat(np.arange(n_source), np.diff(reached.indptr))
        traffic = np.zeros((n_source, len(TRAFFIC_EVENTS)), dtype=np.int64)
        sent = None
        if name == INPUT:
            np.add.at(traffic[:, TRAFFIC_EVENTS.index("message_from_input")], sources, 1)
        else:
            core = self.placement.core_of(name)
            kinds = _traffic_kinds(self.placement.positions, core[sources], targets)
            for column, values in enumerate(kinds):
                np.add.at(traffic[:, column], sources, values)
            n_messages = np.diff(reached.indptr).astype(np.int64)
            sent = csr_matrix((n_messages, (np.arange(n_source), core)), shape=(n_source, n_cores))
        return Source(name, fetched, reached, csr_matrix(traffic), sent)

    def _fetched(self, projection: FixedProjection) -> tuple[str, Any]:
        """The event, and CSR (n_source, n_cores): synapses of a projection fetched per spike."""
        from scipy.sparse import csr_matrix

        placement = self.placement
        n_source = projection.weights.shape[1]
        own = [i for i, chunk in enumerate(placement.chunks) if chunk.population == projection.target]
        if projection.name in placement.axons:
            table = placement.axons[projection.name]
            sources, synapses = table.sources, table.synapses.astype(np.int64)
            targets = placement.core_of_chunk[table.chunks]
        else:
            sources = np.repeat(np.arange(n_source), len(own))
            targets = np.tile(placement.core_of_chunk[own], n_source)
            synapses = np.tile(np.array([placement.chunks[i].n for i in own], dtype=np.int64), n_source)
        self.fetched_per_spike[projection.name] = np.bincount(sources, synapses, minlength=n_source).astype(
            np.int64
        )  # exact: far below 2^53
        event = "synop_dense" if placement.formats[projection.name] == DENSE else "synop_indexed"
        return event, csr_matrix((synapses, (sources, targets)), shape=(n_source, placement.n_cores))

    def count(self, batch: Batch) -> Loads:
        """Exact counts of a batch, per sample, chip timestep and core.

        Args:
            batch: a batch of samples.

        Returns:
            Counts per core, and of the traffic between cores.
        """
        shape = (batch.shape[0], batch.n_chip_steps)
        loads = Loads(
            {event: np.zeros((*shape, self.placement.n_cores), dtype=np.int64) for event in CORE_EVENTS},
            {event: np.zeros(shape, dtype=np.int64) for event in TRAFFIC_EVENTS},
        )
        for source in self.sources:
            self._count_source(source, batch, loads)
        for population in self.fixed.populations:
            self._count_neurons(population.name, batch, loads)
        return loads

    def _count_source(self, source: Source, batch: Batch, loads: Loads) -> None:
        from scipy.sparse import csr_matrix

        n_samples, n_steps = batch.shape
        events = batch.spikes[source.name].reshape(n_samples * n_steps, -1)
        spikes = csr_matrix(events != 0, dtype=np.int64)
        at = slice(batch.latency[source.name], batch.latency[source.name] + n_steps)

        def per_step(per_spike: Any) -> NDArray[np.int64]:
            return (spikes @ per_spike).toarray().reshape(n_samples, n_steps, -1)

        for event, matrix in source.fetched.items():
            loads.cores[event][:, at] += per_step(matrix)
        loads.cores["message_in"][:, at] += per_step(source.reached)
        if source.sent is not None:
            loads.cores["message_out"][:, at] += per_step(source.sent)
        traffic = per_step(source.traffic)
        for column, event in enumerate(TRAFFIC_EVENTS):
            loads.traffic[event][:, at] += traffic[:, :, column]

    def _count_neurons(self, name: str, batch: Batch, loads: Loads) -> None:
        n_steps = batch.shape[1]
        at = slice(batch.latency[name], batch.latency[name] + n_steps)
        for index, chunk in enumerate(self.placement.chunks):
            if chunk.population != name:
                continue
            core = self.placement.core_of_chunk[index]
            neurons = chunk.part.neurons
            n_active = np.count_nonzero(batch.active[name][:, :, neurons], axis=2)
            loads.cores["update_active"][:, at, core] += n_active
            loads.cores["update_inactive"][:, at, core] += chunk.n - n_active
            loads.cores["spike"][:, at, core] += np.count_nonzero(batch.spikes[name][:, :, neurons], axis=2)


def _traffic_kinds(
    positions: NDArray[np.int64], source: NDArray[Any], target: NDArray[Any]
) -> tuple[NDArray[np.int64], ...]:
    """Traffic counts per message, in the order of TRAFFIC_EVENTS up to "message_off_chip"."""
    here, there = positions[source], positions[target]
    same_chip = here[:, 0] == there[:, 0]
    east_west = np.abs(here[:, 1] - there[:, 1]) * same_chip
    north_south = np.abs(here[:, 2] - there[:, 2]) * same_chip
    within = same_chip & (east_west + north_south == 0)
    return within.astype(np.int64), east_west, north_south, (~same_chip).astype(np.int64)
