"""The trace: one CSV line per sample, timestep, and population or projection."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lbi.costing.counts import dense_synops
from lbi.network.activity import Activity
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import INPUT
from lbi.network.restored import restored
from lbi.system.atomic import atomic_write

COLUMNS = (
    "network",
    "sample",
    "step",
    "chip_step",
    "kind",
    "name",
    "spikes",
    "active_updates",
    "inactive_updates",
    "events",
    "synops_dense",
    "synops_sparse",
)
"""step: the population's or the source's own time · chip_step: step + its latency.
Populations fill spikes and updates, the input spikes, projections events and synaptic operations.
synops_dense: of the dense network as trained, which has the targets that were removed; synops_sparse: nonzero weights."""


class TraceWriter:
    """Writes traces of runs, part after part."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self._trained: dict[str, FixedNetwork] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> Iterator[TraceWriter | None]:
        """A writer to a new file, which appears when everything is written.

        Args:
            path: the CSV file; None for no trace.

        Yields:
            The writer, its header written; None without a path.
        """
        if path is None:
            yield None
            return
        with atomic_write(path) as new, new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            yield cls(writer)

    def add(self, network: str, fixed: FixedNetwork, start: int, activity: Activity) -> None:
        """Write the lines of a run.

        Args:
            network: the network's name, as in the first column.
            fixed: the network.
            start: number of the run's first sample.
            activity: counts of the run, per sample and timestep.
        """
        if network not in self._trained:
            self._trained[network] = restored(fixed)
        kept = {p.name: p.kept for p in fixed.populations}
        dense = {
            p.name: dense_synops(p, activity, kept.get(p.source))[0]
            for p in self._trained[network].projections
        }
        for sample in range(activity.n_samples):
            for step in range(activity.n_steps):
                at = (sample, step)
                here = (network, start + sample, step)
                self.row(*here, step, "population", INPUT, activity.input_spikes[at], "", "", "", "", "")
                for population in fixed.populations:
                    counts = activity.populations[population.name]
                    active = int(counts.active[at])
                    self.row(
                        *here,
                        step + population.latency,
                        "population",
                        population.name,
                        counts.spikes[at],
                        active,
                        population.n - active,
                        "",
                        "",
                        "",
                    )
                for projection in fixed.projections:
                    moved = activity.projections[projection.name]
                    events = int(moved.events[at])
                    self.row(
                        *here,
                        step + fixed.latency(projection.source),
                        "projection",
                        projection.name,
                        "",
                        "",
                        "",
                        events,
                        dense[projection.name][at],
                        moved.synops[at],
                    )

    def row(self, *values: Any) -> None:
        """Write one line.

        Args:
            *values: the values of ``COLUMNS``, in their order; empty texts where a column does not apply.
        """
        self.writer.writerow(values)
