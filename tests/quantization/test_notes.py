"""Notes on what is another network on the chip: decays far off, and projections that are mostly rounded away."""

from __future__ import annotations

import numpy as np

import lbi
from lbi.network.csr import CsrMatrix
from lbi.network.graph import INPUT, Network, Population, Projection, Readout
from lbi.network.neurons import CubaLif


def notes_of(neuron: CubaLif, weights: np.ndarray) -> list[str]:
    network = Network(
        (weights.shape[1],),
        (Population("out", (weights.shape[0],), neuron),),
        (Projection("w", INPUT, "out", CsrMatrix.from_dense(weights)),),
        Readout("out"),
    )
    return list(lbi.quantize(network).provenance.get("notes", []))


def test_a_usual_network_has_none():
    weights = np.random.default_rng(0).normal(0.0, 0.5, (6, 8))
    assert notes_of(CubaLif(0.5, 0.1, 1.0), weights) == []


def test_weights_that_are_mostly_rounded_away():
    weights = np.full((4, 8), 1e-4)
    weights[0] = 1.0
    assert notes_of(CubaLif(0.5, 0.1, 1.0), weights) == [
        "projection 'w': 24 of 32 weights are rounded to zero on the chip"
    ]


def test_decays_below_what_the_chip_has():
    weights = np.random.default_rng(0).normal(0.0, 0.5, (6, 8))
    assert notes_of(CubaLif(5e-5, 1e-5, 1.0), weights) == [
        "population 'out': the current decay, 5e-05 per step, is 0.000244 on the chip",
        "population 'out': the voltage decay, 1e-05 per step, is 0 on the chip",
    ]
