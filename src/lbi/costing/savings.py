"""What the next saving would be: shares of the dynamic energy that few neurons, few sources or stored zeros cause.

All shares are exact counts times costs, as ranges over the chip's price lists. They overlap: a saving of one lowers
the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.profile import HardwareProfile
from lbi.costing.costs import energy, energy_parts, price_lists
from lbi.costing.counts import Batch, PlacedNetwork
from lbi.costing.ranges import Range

RARELY = 0.001
"""Spikes per timestep below which a neuron counts as one that hardly fires."""

BUSY = 0.1
"""Share of the sources that is shown as the busiest."""

LEAST = 0.01
"""Savings of a smaller share are not shown."""


TEXTS = {
    "rare-neurons": "updates of {n:,} of {of:,} neurons that fire in under 0.1 % of the timesteps: remove them",
    "busy-sources": "synaptic operations of the {n:,} busiest of {of:,} sources: prune their weights, or let them fire less",
    "stored-zeros": "reading {n:,} of {of:,} weights that are zero, in rows stored dense: prune further, until indices are smaller",
}
"""Kind of saving → what it is, and what would save it."""

SILENT = "updates of {n:,} of {of:,} neurons that did not fire in {n_steps:,} timesteps: see in more samples whether they can be removed"
"""The text of rare neurons where a single spike is not rare: in a run of fewer than 1 / RARELY timesteps."""


@dataclass(frozen=True)
class Saving:
    """A share of the dynamic energy with one cause.

    Attributes:
        kind: key of ``TEXTS``.
        n: neurons, sources or weights that cause it.
        of: of how many.
        share: its share of the dynamic energy per timestep (0 to 1), over the price lists.
        n_steps: timesteps of all samples that were counted.
        what_if: the scenarios of the energy, where none of the chip is published; empty for the chip's own.
    """

    kind: str
    n: int
    of: int
    share: Range
    n_steps: int
    what_if: str = ""

    @property
    def text(self) -> str:
        """The saving as a sentence."""
        low, high = f"{100 * self.share.low:.0f}", f"{100 * self.share.high:.0f}"
        percent = low if low == high else f"{low}–{high}"
        energy = f"the dynamic energy ({self.what_if})" if self.what_if else "the dynamic energy"
        few = self.kind == "rare-neurons" and self.n_steps * RARELY < 1
        cause = (SILENT if few else TEXTS[self.kind]).format(n=self.n, of=self.of, n_steps=self.n_steps)
        return f"{percent} % of {energy} is {cause}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "n": self.n,
            "of": self.of,
            "share": self.share.to_dict(),
            "text": self.text,
        }


class NeuronCounter:
    """Spikes and active timesteps of every neuron over batches."""

    def __init__(self) -> None:
        self.spikes: dict[str, NDArray[np.int64]] = {}
        self.active: dict[str, NDArray[np.int64]] = {}
        self.n_steps = 0

    def add(self, batch: Batch) -> None:
        """Add a batch.

        Args:
            batch: spikes and active flags of some samples.
        """
        self.n_steps += batch.shape[0] * batch.shape[1]
        for sums, values in ((self.spikes, batch.spikes), (self.active, batch.active)):
            for name, flags in values.items():
                sums[name] = sums.get(name, 0) + flags.sum(axis=(0, 1), dtype=np.int64)


def savings(
    network: PlacedNetwork, profile: HardwareProfile, neurons: NeuronCounter, events: Mapping[str, float]
) -> tuple[Saving, ...]:
    """The shares of the dynamic energy that could be saved next, the greatest first.

    Args:
        network: The placed network.
        profile: The chip.
        neurons: What every neuron did.
        events: Event → count per timestep, of the whole network.

    Returns:
        The savings; none where the chip has no costs, or nothing was counted.
    """
    n_steps = max(neurons.n_steps, 1)
    labels = (label for label, _ in price_lists(profile).values())
    what_if = "" if profile.has_energy else "; ".join(labels)
    found = []
    for kind, n, of, counts in (
        ("rare-neurons", *_rare_neurons(network, neurons)),
        ("busy-sources", *_busy_sources(network, neurons)),
        ("stored-zeros", *_stored_zeros(network, neurons)),
    ):
        share = _share(profile, {event: count / n_steps for event, count in counts.items()}, events)
        if n and share is not None and share.high >= LEAST:
            found.append(Saving(kind, n, of, share, n_steps, what_if))
    return tuple(sorted(found, key=lambda saving: -saving.share.high))


def _share(profile: HardwareProfile, part: Mapping[str, float], whole: Mapping[str, float]) -> Range | None:
    """The part's share of the energy, over the price lists."""
    shares = []
    for _, costs in price_lists(profile).values():
        total = energy(costs, whole)
        if total:
            shares.append(sum(energy_parts(costs, part).values()) / total)
    return Range(min(shares), max(shares)) if shares else None


def _rare_neurons(network: PlacedNetwork, neurons: NeuronCounter) -> tuple[int, int, dict[str, float]]:
    """Updates of neurons that hardly fire; neurons that are read out are needed and left out."""
    counts = {"update_active": 0.0, "update_inactive": 0.0}
    n = of = 0
    for population in network.fixed.populations:
        of += population.n
        if population.name == network.fixed.readout.population or not population.neuron.spikes:
            continue
        rare = neurons.spikes[population.name] < RARELY * neurons.n_steps
        active = int(neurons.active[population.name][rare].sum())
        n += int(rare.sum())
        counts["update_active"] += active
        counts["update_inactive"] += int(rare.sum()) * neurons.n_steps - active
    return n, of, counts


def _busy_sources(network: PlacedNetwork, neurons: NeuronCounter) -> tuple[int, int, dict[str, float]]:
    """Synaptic operations of the tenth of the sources (neurons and input channels) that cause most of them."""
    per_source: dict[str, list[NDArray[np.float64]]] = {"synop_dense": [], "synop_indexed": []}
    for source in network.sources:
        spikes = neurons.spikes[source.name]
        for event, values in per_source.items():
            matrix: Any = source.fetched.get(event)
            values.append(
                np.zeros(spikes.size) if matrix is None else spikes * np.asarray(matrix.sum(axis=1)).ravel()
            )
    joined = {event: np.concatenate(values) for event, values in per_source.items() if values}
    if not joined:
        return 0, 0, {}
    total = np.sum(list(joined.values()), axis=0)
    n = int(np.ceil(BUSY * total.size))
    busiest = np.argsort(-total, kind="stable")[:n]
    return n, total.size, {event: float(values[busiest].sum()) for event, values in joined.items()}


def _stored_zeros(network: PlacedNetwork, neurons: NeuronCounter) -> tuple[int, int, dict[str, float]]:
    """Zero weights that are fetched with the rows of dense projections."""
    fixed, placement = network.fixed, network.placement
    n_zeros = n_stored = 0
    fetched = 0.0
    for projection in fixed.projections:
        weights = projection.weights
        if projection.name in placement.axons:
            continue
        zeros = weights.shape[0] - weights.fan_out()
        n_zeros += int(zeros.sum())
        n_stored += weights.shape[0] * weights.shape[1]
        fetched += float(neurons.spikes[projection.source] @ zeros)
    return n_zeros, n_stored, {"synop_dense": fetched}
