"""The static bounds hold in every run and are tight where the arithmetic is simple."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_fixed import networks, spikes_for

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.network.neurons import FixedIntegrator
from lbi.simulation.bounds import state_bounds
from lbi.simulation.run import SaturationWarning, simulate


@pytest.mark.parametrize("bounded_steps", [False, True])
@given(data=st.data())
def test_no_run_leaves_the_bounds(bounded_steps, data):
    network = data.draw(networks(aligned=True))
    spikes = data.draw(spikes_for(network))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        activity = simulate(network, spikes, record=("u", "v"))
    bounds = state_bounds(network, spikes.shape[1] if bounded_steps else None)
    for name, bound in bounds.items():
        counts = activity.populations[name]
        assert counts.n_wraps == 0 or bound.may_wrap.any()
        assert counts.n_clips == 0 or bound.may_clip.any()
        for variable, (low, high), unknown in (
            ("u", bound.current, bound.may_wrap),
            ("v", bound.voltage, bound.may_wrap | bound.may_clip),
        ):
            values = activity.recorded[name, variable][:, :, ~unknown]
            assert (values >= low[~unknown]).all()
            assert (values <= high[~unknown]).all()


def network(weights, neuron, exponent=0):
    matrix = CsrMatrix.from_dense(np.array(weights, dtype=np.int16))
    population = FixedPopulation("a", (matrix.shape[0],), neuron)
    projection = FixedProjection("w", "input", "a", matrix, SignMode.MIXED, exponent)
    return FixedNetwork((matrix.shape[1],), (population,), (projection,), Readout.of(population), "loihi2")


def test_the_bound_is_the_geometric_series():
    # du + 1 = 1024: a quarter is lost per step, so a steady input of A << 6 adds up to 4 · (A << 6).
    chip = network([[10, 20, -6], [0, 0, -4]], FixedCubaLif(1023, 4096, 100, np.zeros(2)))
    bound = state_bounds(chip)["a"]
    np.testing.assert_array_equal(bound.current[1], [4 * (30 << 6), 0])
    np.testing.assert_array_equal(bound.current[0], [-4 * (6 << 6), -4 * (4 << 6)])
    np.testing.assert_array_equal(state_bounds(chip, 2)["a"].current[1], [2 * (30 << 6), 0])
    assert not bound.may_wrap.any()
    reached = simulate(chip, np.tile([1, 1, 0], (1, 60, 1)), record="u").recorded["a", "u"].max()
    assert 4 * (30 << 6) - 8 <= reached <= 4 * (30 << 6)


def test_what_can_wrap_is_said_to_and_does():
    # (254 · 128) << 6 = 2 080 768 a step, four of five make 2^23: the fifth channel is too much.
    neuron = FixedIntegrator(4095, 4096, np.zeros(2))
    chip = network([[254] * 5, [254] * 4 + [0]], neuron, exponent=7)
    assert state_bounds(chip)["a"].may_wrap.tolist() == [True, False]
    with pytest.warns(SaturationWarning, match="wrapped 3 times"):
        simulate(chip, np.ones((1, 4, 5), np.uint8))


def test_a_voltage_without_leak_is_bounded_by_the_length_of_the_sample():
    chip = network([[-2]], FixedCubaLif(4095, 0, 100, np.zeros(1)))
    assert state_bounds(chip)["a"].may_clip.all()
    assert not state_bounds(chip, 1000)["a"].may_clip.any()
    assert state_bounds(chip, 1000)["a"].voltage[0].tolist() == [-2 * 64 * 1000]
