"""Exact counts of what happened on each core in each timestep, from the spikes of a run and a placement.

Events are named as costs are (docs/hardware.md). On the cores: ``synop_dense``, ``synop_indexed`` (entries
*fetched* in the stored format: a dense row is read whole, zeros too), ``update_active``,
``update_inactive``, ``spike``, ``message_out`` (a spike for each projection and destination core),
``message_in``. Between them: ``message_within_tile``, ``hop_ew``, ``hop_ns``, ``message_off_chip``.

A spike's synapses are charged to the timestep in which it was sent: Loihi delivers all messages of a step
before the barrier that ends it. Input spikes come from outside the mesh: their messages arrive and are
counted, without hops and without a core that sends them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.fixed import FixedNetwork, FixedProjection
from lbi.memory import DENSE
from lbi.network import INPUT
from lbi.placement import Placement

SYNAPSE_EVENTS = ("synop_dense", "synop_indexed", "message_in")
NEURON_EVENTS = ("update_active", "update_inactive", "spike", "message_out")
TRAFFIC_EVENTS = ("message_within_tile", "hop_ew", "hop_ns", "message_off_chip", "message_from_input")
CORE_EVENTS = SYNAPSE_EVENTS + NEURON_EVENTS


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
    """The batch in parts whose counts take at most about 200 MB."""
    per_sample = batch.n_chip_steps * n_cores * len(CORE_EVENTS) * 8
    n = max(1, int(200e6 // max(per_sample, 1)))
    for start in range(0, batch.shape[0], n):
        part = slice(start, start + n)
        yield Batch(
            {name: values[part] for name, values in batch.spikes.items()},
            {name: values[part] for name, values in batch.active.items()},
            batch.latency,
        )


@dataclass(frozen=True, eq=False)
class Loads:
    """cores: core event → (n_samples, n_chip_steps, n_cores) int64 · traffic: event → (n_samples, n_chip_steps)."""

    cores: dict[str, NDArray[np.int64]]
    traffic: dict[str, NDArray[np.int64]]


@dataclass(eq=False)
class _Route:
    """One projection on the cores: per source neuron, what a spike does."""

    projection: FixedProjection
    event: str
    fetched: Any  # (n_source, n_cores) synapses fetched per spike, sparse
    reached: Any  # (n_source, n_cores) 0 or 1, sparse
    traffic: NDArray[np.int64]  # (n_source, len(TRAFFIC_EVENTS))
    messages: NDArray[np.int64]  # (n_source,)
    source_core: NDArray[np.int32] | None = None


@dataclass(eq=False)
class Fabric:
    """A placed network, ready to count on: routes of all projections, cores of all neurons."""

    fixed: FixedNetwork
    placement: Placement
    routes: list[_Route] = field(default_factory=list)
    cores: dict[str, NDArray[np.int32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cores = {p.name: self.placement.core_of(p.name) for p in self.fixed.populations}
        self.routes = [self._route(projection) for projection in self.fixed.projections]

    def _route(self, projection: FixedProjection) -> _Route:
        from scipy.sparse import csr_matrix

        placement = self.placement
        n_source, n_cores = projection.weights.shape[1], placement.n_cores
        own = [i for i, chunk in enumerate(placement.chunks) if chunk.population == projection.target]
        if projection.name in placement.axons:
            table = placement.axons[projection.name]
            sources, synapses = table.sources, table.synapses.astype(np.int64)
            targets = placement.core_of_chunk[table.chunks]
        else:
            sources = np.repeat(np.arange(n_source), len(own))
            targets = np.tile(placement.core_of_chunk[own], n_source)
            synapses = np.tile(np.array([placement.chunks[i].n for i in own], dtype=np.int64), n_source)
        shape = (n_source, n_cores)
        traffic = np.zeros((n_source, len(TRAFFIC_EVENTS)), dtype=np.int64)
        source_core = None
        if projection.source == INPUT:
            np.add.at(traffic[:, TRAFFIC_EVENTS.index("message_from_input")], sources, 1)
        else:
            source_core = self.cores[projection.source]
            kinds = _traffic_kinds(placement.positions, source_core[sources], targets)
            for column, values in enumerate(kinds):
                np.add.at(traffic[:, column], sources, values)
        return _Route(
            projection,
            "synop_dense" if placement.formats[projection.name] == DENSE else "synop_indexed",
            fetched=csr_matrix((synapses, (sources, targets)), shape=shape),
            reached=csr_matrix((np.ones(sources.size, dtype=np.int64), (sources, targets)), shape=shape),
            traffic=traffic,
            messages=np.bincount(sources, minlength=n_source).astype(np.int64),
            source_core=source_core,
        )

    def count(self, batch: Batch) -> Loads:
        """Exact counts of a batch, per sample, chip timestep and core."""
        shape = (batch.shape[0], batch.n_chip_steps)
        loads = Loads(
            {event: np.zeros((*shape, self.placement.n_cores), dtype=np.int64) for event in CORE_EVENTS},
            {event: np.zeros(shape, dtype=np.int64) for event in TRAFFIC_EVENTS},
        )
        for route in self.routes:
            self._count_route(route, batch, loads)
        for population in self.fixed.populations:
            self._count_neurons(population.name, batch, loads)
        return loads

    def _count_route(self, route: _Route, batch: Batch, loads: Loads) -> None:
        from scipy.sparse import csr_matrix

        source = route.projection.source
        n_samples, n_steps = batch.shape
        events = batch.spikes[source].reshape(n_samples * n_steps, -1)
        spikes = csr_matrix(events != 0, dtype=np.int64)
        at = slice(batch.latency[source], batch.latency[source] + n_steps)

        def add(to: NDArray[np.int64], per_spike: Any) -> None:
            product = spikes @ per_spike
            dense = product.toarray() if hasattr(product, "toarray") else product
            to[:, at] += dense.reshape(n_samples, n_steps, *to.shape[2:])

        add(loads.cores[route.event], route.fetched)
        add(loads.cores["message_in"], route.reached)
        for column, event in enumerate(TRAFFIC_EVENTS):
            if route.traffic[:, column].any():
                add(loads.traffic[event], route.traffic[:, column])
        if route.source_core is not None:
            n_source = route.messages.size
            shape = (n_source, self.placement.n_cores)
            add(
                loads.cores["message_out"],
                csr_matrix((route.messages, (np.arange(n_source), route.source_core)), shape=shape),
            )

    def _count_neurons(self, name: str, batch: Batch, loads: Loads) -> None:
        n_steps = batch.shape[1]
        at = slice(batch.latency[name], batch.latency[name] + n_steps)
        for index, chunk in enumerate(self.placement.chunks):
            if chunk.population != name:
                continue
            core = self.placement.core_of_chunk[index]
            neurons = slice(chunk.start, chunk.stop)
            n_active = np.count_nonzero(batch.active[name][:, :, neurons], axis=2)
            loads.cores["update_active"][:, at, core] += n_active
            loads.cores["update_inactive"][:, at, core] += chunk.n - n_active
            loads.cores["spike"][:, at, core] += np.count_nonzero(batch.spikes[name][:, :, neurons], axis=2)


def _traffic_kinds(
    positions: NDArray[np.int64], source: NDArray[Any], target: NDArray[Any]
) -> tuple[NDArray[np.int64], ...]:
    """Per message, in the order of TRAFFIC_EVENTS up to "message_off_chip": within its tile, hops, off the chip."""
    here, there = positions[source], positions[target]
    same_chip = here[:, 0] == there[:, 0]
    east_west = np.abs(here[:, 1] - there[:, 1]) * same_chip
    north_south = np.abs(here[:, 2] - there[:, 2]) * same_chip
    within = same_chip & (east_west + north_south == 0)
    return within.astype(np.int64), east_west, north_south, (~same_chip).astype(np.int64)
