"""Convolutions run through their kernels, and unrolled, with the states and counts of the reference simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from support import random_kernels

from lbi.network.convolution_weights import ConvolutionWeights
from lbi.simulation import columns, oracle
from lbi.simulation.layout import plan, stored_bytes
from lbi.simulation.records import KERNELS
from lbi.simulation.run import SaturationWarning, simulate


@pytest.mark.parametrize("unrolled", [0, 1 << 22])
@pytest.mark.parametrize("number", range(20))
def test_kernels_equal_the_reference(number, unrolled, monkeypatch):
    network, spikes = random_kernels.make(0, number)
    monkeypatch.setattr(columns, "CACHED_BYTES", unrolled)
    if not unrolled:
        formats = plan(network).layout.format
        n_convolutions = sum(isinstance(p.weights, ConvolutionWeights) for p in network.projections)
        assert np.count_nonzero(formats == KERNELS) == n_convolutions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        found = simulate(network, spikes, record=["spikes", "u", "v", "active"])
    expected = oracle.simulate(network, spikes, record=["spikes", "u", "v", "active"])
    for key, trace in expected.recorded.items():
        np.testing.assert_array_equal(found.recorded[key], trace, err_msg=str(key))
    for name, counts in expected.projections.items():
        np.testing.assert_array_equal(found.projections[name].synops, counts.synops)


def test_memory_is_that_of_the_kernels_and_one_pointer_per_source(monkeypatch):
    monkeypatch.setattr(columns, "CACHED_BYTES", 0)  # as for a network that the caches do not hold
    rng = np.random.default_rng(0)
    weights = random_kernels.convolution(rng, (16, 128, 128))
    network, _ = random_kernels.make(0, 0)
    large = random_kernels.ConvolutionWeights(weights.convolution, (16, 128, 128))
    population = random_kernels.FixedPopulation(
        "maps", large.output_shape, random_kernels.neuron(rng, large.shape[0])
    )
    projection = random_kernels.FixedProjection("w", "input", "maps", large, random_kernels.SignMode.MIXED)
    readout = random_kernels.Readout("maps")
    network = random_kernels.FixedNetwork((16, 128, 128), (population,), (projection,), readout, "loihi2")
    layout = plan(network).layout
    n_taps = large.kernel.shape[2] * large.kernel.shape[3]
    assert stored_bytes(layout) <= 8 * (large.shape[1] + 16 * n_taps + 16) + 10 * large.n_parameters
