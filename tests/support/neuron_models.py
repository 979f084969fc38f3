"""An example of every registered neuron model, made from its registry row alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lbi import CsrMatrix, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.network.neurons import MODELS, FixedParameters

VALUES = {"decay": 700, "threshold": 40, "bias_exponent": 1}
"""Chip format → a value inside it."""

SCALE = 50.0


def integers(name: str, n: int) -> FixedParameters:
    """The integer record of a model, with small biases."""
    values = {
        entry.name: VALUES.get(entry.chip_format, entry.low + 1)
        for entry in MODELS[name].integers.integers
        if entry.name != "bias_mant"
    }
    return MODELS[name].integers(**values, bias_mant=np.arange(n) % 3 - 1)


def network(name: str, seed: int = 0) -> tuple[FixedNetwork, np.ndarray]:
    """Twelve inputs, eight recurrent neurons of the model (if it spikes), and spikes (3, 20, 12) that excite them."""
    rng = np.random.default_rng(seed)
    n_in, n = 12, 8

    def projection(label: str, source: str, columns: int) -> FixedProjection:
        dense = 2 * rng.integers(-20, 41, (n, columns)) * (rng.random((n, columns)) < 0.6)
        weights = CsrMatrix.from_dense(dense.astype(np.int16))
        return FixedProjection(label, source, "p", weights, SignMode.MIXED)

    population = FixedPopulation("p", (n,), integers(name, n), SCALE, latency=1)
    projections = [projection("in", "input", n_in)]
    if MODELS[name].floats.spikes:
        projections.append(projection("back", "p", n))
    fixed = FixedNetwork((n_in,), (population,), tuple(projections), Readout.of(population), "loihi2")
    return fixed, (rng.random((3, 20, n_in)) < 0.3).astype(np.uint8)


def feed_forward(name: str) -> FixedNetwork:
    """The same network without recurrence."""
    fixed, _ = network(name)
    return replace(fixed, projections=fixed.projections[:1])


def weakly_driven(name: str) -> FixedNetwork:
    """The same neurons, each with one weak synapse: a voltage has to integrate to reach the threshold."""
    fixed = feed_forward(name)
    weights = CsrMatrix.from_dense(2 * np.eye(8, 12, dtype=np.int16))
    return replace(fixed, projections=(replace(fixed.projections[0], weights=weights),))
