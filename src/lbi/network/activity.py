"""Activity of a run: exact counts per sample, timestep, population and projection, and the output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class PopulationActivity:
    """Counts of one population, each (n_samples, n_steps) int64, steps in the population's own time.

    Attributes:
        spikes: spikes emitted.
        active: neurons updated with input, bias or nonzero state; all others are *inactive* updates.
        n_wraps: number of times a current wrapped.
        n_clips: number of times a voltage saturated.
    """

    spikes: NDArray[np.int64]
    active: NDArray[np.int64]
    n_wraps: int = 0
    n_clips: int = 0


@dataclass(frozen=True, eq=False)
class ProjectionActivity:
    """Counts of one projection, each (n_samples, n_steps) int64, steps in the *source's* own time.

    In a dense format every event reaches ``n_target`` synapses, so dense SynOps are events · n_target.

    Attributes:
        events: source spikes offered to the projection.
        synops: stored (nonzero) synapses that they reached.
    """

    events: NDArray[np.int64]
    synops: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Activity:
    """The record of ``lbi.simulate``: outputs aligned to the input, step for step.

    Attributes:
        output_spikes: (n_samples, n_steps, n_out) uint8, the readout population.
        output_membrane: its voltages after each step, int32 (float64 of a float network); None if spikes
            are read.
        populations: counts by name.
        projections: counts by name.
        input_spikes: (n_samples, n_steps) int64, input events.
        recorded: (population, variable) → (n_samples, n_steps, n): "spikes" uint8, "active" uint8,
            "u"/"v" int32.
    """

    output_spikes: NDArray[np.uint8]
    input_spikes: NDArray[np.int64]
    populations: Mapping[str, PopulationActivity]
    projections: Mapping[str, ProjectionActivity]
    recorded: Mapping[tuple[str, str], NDArray[Any]] = field(default_factory=dict)
    output_membrane: NDArray[Any] | None = None

    def __repr__(self) -> str:
        """Sizes and totals in place of the arrays."""
        return (
            f"Activity({self.n_samples} samples of {self.n_steps} steps, "
            f"{self.n_spikes:,} spikes, {self.n_synops:,} SynOps, output {self.output.shape})"
        )

    @property
    def output(self) -> NDArray[Any]:
        """(n_samples, n_steps, n_out) input of the readout: voltages of integrators, otherwise spikes."""
        return self.output_spikes if self.output_membrane is None else self.output_membrane

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.output_spikes.shape[0]

    @property
    def n_steps(self) -> int:
        """Timesteps per sample."""
        return self.output_spikes.shape[1]

    @property
    def n_synops(self) -> int:
        """Synaptic operations on stored synapses, over all samples, steps and projections."""
        return int(sum(projection.synops.sum() for projection in self.projections.values()))

    @property
    def n_spikes(self) -> int:
        """Spikes emitted by all populations, without the input."""
        return int(sum(population.spikes.sum() for population in self.populations.values()))
