"""Simulation of networks with a neuron model that has no compiled kernel, by the models' plain step functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lbi.network.activity import Activity, PopulationActivity, ProjectionActivity
from lbi.network.fixed import FixedNetwork
from lbi.simulation import oracle
from lbi.simulation.records import Inputs

SAMPLES = 64
"""Number of samples that are run together, whose states are all kept."""


def run_slowly(
    fixed: FixedNetwork,
    inputs: Inputs,
    n_samples: int,
    pairs: set[tuple[str, str]],
    on_done: Callable[[int], None] | None,
) -> Activity:
    """The activity of a network, as ``lbi.simulate`` returns it; wraps and saturations are not counted.

    Args:
        fixed: The network.
        inputs: Its input spikes.
        n_samples: Number of samples in ``inputs``.
        pairs: (population, variable) of everything to record.
        on_done: Called with the number of samples completed since the last call; may be None.

    Returns:
        Counts, outputs and records, equal to those of compiled kernels for the same equations.
    """
    parts = []
    for begin in range(0, max(1, n_samples), SAMPLES):
        spikes = _dense(inputs, begin, min(begin + SAMPLES, n_samples), fixed.n_in)
        part = oracle.simulate(fixed, spikes, record={variable for _, variable in pairs})
        parts.append(replace(part, recorded={pair: part.recorded[pair] for pair in sorted(pairs)}))
        if on_done is not None:
            on_done(len(spikes))
    return _joined(parts)


def _dense(inputs: Inputs, begin: int, end: int, n_in: int) -> NDArray[np.uint8]:
    """Samples ``begin`` to ``end`` − 1 of the input as an array (n_samples, n_steps, n_in)."""
    if inputs.is_dense:
        return inputs.spikes[begin:end]
    dense = np.zeros((end - begin, inputs.n_steps, n_in), dtype=np.uint8)
    rows = dense.reshape(-1, n_in)
    pointers = inputs.pointers[begin * inputs.n_steps : end * inputs.n_steps + 1]
    row = np.repeat(np.arange(len(rows)), np.diff(pointers))
    rows[row, inputs.channels[pointers[0] : pointers[-1]]] = 1
    return dense


def _joined(parts: list[Activity]) -> Activity:
    first = parts[0]
    if len(parts) == 1:
        return first
    membranes = [part.output_membrane for part in parts if part.output_membrane is not None]
    return Activity(
        output_spikes=np.concatenate([part.output_spikes for part in parts]),
        input_spikes=np.concatenate([part.input_spikes for part in parts]),
        populations={
            name: PopulationActivity(
                np.concatenate([part.populations[name].spikes for part in parts]),
                np.concatenate([part.populations[name].active for part in parts]),
            )
            for name in first.populations
        },
        projections={
            name: ProjectionActivity(
                np.concatenate([part.projections[name].events for part in parts]),
                np.concatenate([part.projections[name].synops for part in parts]),
            )
            for name in first.projections
        },
        recorded={pair: np.concatenate([part.recorded[pair] for part in parts]) for pair in first.recorded},
        output_membrane=np.concatenate(membranes) if membranes else None,
    )
