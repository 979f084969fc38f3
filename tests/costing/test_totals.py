"""A run without spikes per neuron: figures of totals bound those counted spike by spike."""

from __future__ import annotations

import numpy as np
import pytest
from support.random_kernels import make

from lbi.costing.estimation import estimate
from lbi.simulation.run import simulate


@pytest.mark.parametrize("seed", range(12))
def test_energies_and_times_of_kernels_are_bounds(seed):
    """Kernels are read with their zeros, so that synaptic operations depend on which neurons spiked."""
    fixed, spikes = make(seed, seed)
    exact = estimate(fixed, spikes=spikes, chip="loihi2")
    rough = estimate(fixed, simulate(fixed, spikes), chip="loihi2")
    for side in ("dense", "sparse"):
        a, b = getattr(exact, side), getattr(rough, side)
        assert a.exact_synops
        for kind in ("time", "scenarios"):
            for name, found in getattr(a, kind).items():
                bound = getattr(b, kind)[name]
                assert bound.low <= found.low + 1e-6, (side, name)
                assert bound.high >= found.high - 1e-6, (side, name)
        if b.exact_synops:
            assert b.synops_fetched == a.synops_fetched
    noted = any("mean fan-out where kernels are read" in note for note in rough.notes())
    assert noted != rough.sparse.exact_synops
    fetched = sum(p.synops_fetched_per_step for p in rough.projections)
    assert fetched == pytest.approx(rough.sparse.synops_fetched)


def test_the_fewest_and_the_most_of_a_kernel_by_hand():
    """A 1 × 2 kernel over 1 × 3 inputs without padding: fan-outs 1, 2, 1. One spike a step: 1 to 2 SynOps, mean 4 / 3.

    The zero in the kernel is read too, so that the nonzero count does not tell. Sweep of 4 to 142 pJ each; no other
    synapses.
    """
    from support.handmade_networks import relay

    from lbi import FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
    from lbi.network.convolution import Convolution
    from lbi.network.convolution_weights import ConvolutionWeights

    kernel = np.array([[[[2, 0]]]], dtype=np.int16)
    weights = ConvolutionWeights(Convolution(kernel, (1, 1), (0, 0)), (1, 1, 3))
    fixed = FixedNetwork(
        (1, 1, 3),
        (FixedPopulation("a", (1, 1, 2), relay(2), latency=1),),
        (FixedProjection("w", "input", "a", weights, SignMode.EXCITATORY),),
        Readout("a"),
        "loihi2",
    )
    spikes = np.zeros((1, 3, 3), dtype=np.uint8)
    spikes[0, :, 0] = 1
    exact, rough = estimate(fixed, spikes=spikes).sparse, estimate(fixed, simulate(fixed, spikes)).sparse
    assert exact.placement.formats["w"] == "shared"
    assert exact.synops_fetched == 1
    assert not rough.exact_synops
    sweep = rough.scenarios["sensitivity"]
    assert (sweep.low, sweep.high) == pytest.approx((1 * 4, 2 * 142))
