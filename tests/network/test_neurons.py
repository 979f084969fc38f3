"""Every neuron model in integers: its registry row, its ranges, its file, and one spike by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lbi import CsrMatrix, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.chip.load import load_profile
from lbi.errors import InputError, Problems
from lbi.files import network_h5
from lbi.network.neurons import (
    FIXED_MODELS,
    FLOAT_MODELS,
    AtrLif,
    FixedAtrLif,
    FixedCubaLif,
    FixedIntegrator,
    FixedLifRefractory,
)
from lbi.simulation.run import simulate

BIAS = np.zeros(2, dtype=np.int32)

# A model, legal parameters, and for each parameter a value just outside its range.
TABLE = [
    (
        FixedCubaLif,
        {"du": 4095, "dv": 0, "vth": 9, "bias_exp": 0},
        {"du": -2, "dv": 4097, "vth": 131072, "bias_exp": 8},
    ),
    (FixedIntegrator, {"du": 4095, "dv": 0, "bias_exp": 0}, {"du": 4096, "dv": -1, "bias_exp": -1}),
    (
        FixedLifRefractory,
        {"du": 4095, "dv": 0, "vth": 9, "refractory_period": 2, "bias_exp": 0},
        {"du": -1, "dv": 4097, "vth": -1, "refractory_period": 0, "bias_exp": 8},
    ),
    (
        FixedAtrLif,
        {
            "delta_i": 4095,
            "delta_v": 4096,
            "delta_theta": 0,
            "delta_r": 2048,
            "theta_0": 10,
            "theta_step": 3,
            "bias_exp": 0,
        },
        {
            "delta_i": 4096,
            "delta_v": 4097,
            "delta_theta": -1,
            "delta_r": 4097,
            "theta_0": 131072,
            "theta_step": -1,
            "bias_exp": 8,
        },
    ),
]


def one_population(neuron) -> FixedNetwork:
    """Two channels, each on one neuron with weight 10."""
    weights = CsrMatrix.from_dense(np.diag([10, 10]).astype(np.int16))
    population = FixedPopulation("a", (2,), neuron)
    return FixedNetwork(
        (2,),
        (population,),
        (FixedProjection("w", "input", "a", weights, SignMode.MIXED),),
        Readout.of(population),
        "loihi2",
    )


def states(neuron, spikes, variable):
    return simulate(one_population(neuron), np.array([spikes], np.uint8), record=variable).recorded[
        "a", variable
    ][0]


def test_the_table_covers_the_registry():
    assert {model.model: model for model, _, _ in TABLE} == FIXED_MODELS


@pytest.mark.parametrize(("model", "legal", "outside"), TABLE)
def test_all_parameters_out_of_range_are_named_at_once(model, legal, outside):
    model(**legal, bias_mant=BIAS)
    with pytest.raises(InputError, match="bias_mant-range") as caught:
        model(**outside, bias_mant=np.array([0, 4096]))
    named = {problem.where for problem in caught.value.problems}
    assert named == {*outside, "bias_mant"}


@pytest.mark.parametrize(("model", "legal", "outside"), TABLE)
def test_a_network_of_each_model_comes_back_from_its_file(model, legal, outside, tmp_path):
    network = one_population(model(**legal, bias_mant=np.array([5, -7])))
    network_h5.save(network, tmp_path / "network.h5")
    neuron = network_h5.load(tmp_path / "network.h5").populations[0].neuron
    assert isinstance(neuron, model)
    assert {name: getattr(neuron, name) for name in legal} == legal
    assert neuron.bias_mant.tolist() == [5, -7]


@pytest.mark.parametrize(("model", "legal", "outside"), TABLE)
def test_states_start_at_rest_and_zero_input_leaves_them_there(model, legal, outside):
    neuron = model(**legal, bias_mant=BIAS)
    state = {name: np.zeros(2, dtype=np.int32) for name in neuron.state_variables}
    assert not neuron.step(state, np.zeros(2, dtype=np.int32)).any()
    assert not any(values.any() for values in state.values())


@pytest.mark.parametrize(("model", "legal", "outside"), TABLE)
def test_integers_come_back_from_the_floats_they_stand_for(model, legal, outside):
    neuron = model(**legal, bias_mant=np.array([5, -7]))
    formats, problems = load_profile("loihi2").formats, Problems()
    for scale in (1.0, 37.3):
        floats = neuron.to_float(scale)
        assert isinstance(floats, FLOAT_MODELS[model.model])
        again = floats.to_fixed(scale, 2, formats, "neuron", problems)
        for name in legal:
            assert getattr(again, name) == min(legal[name], 4095), name
        assert again.bias.tolist() == neuron.bias.tolist()


def test_an_adaptive_neuron_in_floats_does_what_its_integers_do():
    # Decays of quarters and states of few bits: nothing is truncated, so both are exact.
    fixed = FixedAtrLif(1023, 1024, 2048, 1024, 64, 16, np.array([0, 128]), 3)
    floats = fixed.to_float(64.0)
    assert (floats.threshold, floats.threshold_step, floats.current_decay) == (1.0, 0.25, 0.25)
    states = [
        {name: np.zeros(2, dtype) for name in fixed.state_variables} for dtype in (np.int32, np.float64)
    ]
    a = np.array([[256, 0], [0, 64], [128, 0], [256, 0], [512, 0], [0, 0]])
    for row in a:
        spikes = fixed.step(states[0], row), floats.step(states[1], row / 64)
        assert spikes[0].tolist() == spikes[1].tolist()
        for name in fixed.state_variables:
            np.testing.assert_allclose(states[0][name] / 4096, states[1][name], rtol=0, atol=6 / 4096)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ((0.5, 0.5, 1.5, 0.5, 1.0, 0.1), "threshold_decay"),
        ((0.5, 0.5, 0.5, -1.0, 1.0, 0.1), "refractory_decay"),
        ((0.5, 0.5, 0.5, 0.5, 0.0, 0.1), "threshold"),
        ((0.5, 0.5, 0.5, 0.5, 1.0, -0.1), "threshold_step"),
    ],
)
def test_an_adaptive_neuron_checks_itself(values, where):
    with pytest.raises(InputError, match="range") as caught:
        AtrLif(*values)
    assert [problem.where for problem in caught.value.problems] == [where]


def test_an_integrator_never_spikes_and_keeps_its_voltage():
    neuron = FixedIntegrator(4095, 0, BIAS)
    assert states(neuron, [[1, 0]] * 4, "v")[:, 0].tolist() == [0, 640, 1280, 1920]
    assert not states(neuron, [[1, 1]] * 50, "spikes").any()


def test_a_refractory_neuron_waits_out_its_period():
    # 10 > 9: it spikes on every input it sees, and sees none for two steps after a spike.
    neuron = FixedLifRefractory(4095, 0, 9, 2, BIAS)
    assert states(neuron, [[1, 0]] * 8, "spikes")[:, 0].tolist() == [0, 1, 0, 0, 1, 0, 0, 1]
    assert states(neuron, [[1, 0]] * 8, "wait")[:, 0].tolist() == [0, 2, 1, 0, 2, 1, 0, 2]


def test_an_adaptive_neuron_raises_its_threshold_and_refractoriness():
    # v = 640 reaches θ₀ = 640: r becomes 2 · 640, θ grows by 3 << 6; then r halves each step.
    neuron = FixedAtrLif(4095, 4096, 0, 2048, 10, 3, BIAS)
    assert states(neuron, [[1, 0]] * 4, "spikes")[:, 0].tolist() == [0, 1, 0, 0]
    assert states(neuron, [[1, 0]] * 4, "theta")[:, 0].tolist() == [0, 192, 192, 192]
    assert states(neuron, [[1, 0]] * 4, "r")[:, 0].tolist() == [0, 1280, 640, 320]
