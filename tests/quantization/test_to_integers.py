"""Quantization keeps zeros, proportions and timing, and names what the chip cannot hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.networks import random_network, random_spikes

from lbi import CsrMatrix, CubaLif, Network, Population, Projection, Readout, quantize
from lbi.chip.load import load_profile
from lbi.errors import InputError, UsageError
from lbi.network.fixedpoint import IntFormat
from lbi.network.neurons import AtrLif, Integrator, LifRefractory
from lbi.quantization.to_floats import dequantize
from lbi.simulation import oracle
from lbi.simulation.run import simulate


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from(["zero", "free"]))
def test_each_number_is_the_nearest_of_its_one_scale(seed, recurrent, exponents):
    network = random_network(np.random.default_rng(seed), recurrent=recurrent, bias=True)
    fixed = quantize(network, exponents=exponents)
    for population in fixed.populations:
        neuron, chip = network.population(population.name).neuron, population.neuron
        assert chip.du + 1 == round(neuron.current_decay * 4096)
        assert chip.dv == round(neuron.voltage_decay * 4096)
        assert abs(chip.vth - neuron.threshold * population.scale) <= 0.5
        step = 2**chip.bias_exp
        assert np.all(np.abs(chip.bias - neuron.bias * population.scale * 64) <= step / 2)
    for projection, trained in zip(fixed.projections, network.projections, strict=True):
        unit = 2.0**projection.weight_exp / fixed.population(projection.target).scale
        error = projection.weights.to_dense() * unit - trained.weights.to_dense()
        assert (
            np.abs(error).max(initial=0) <= unit * projection.sign_mode.lava_format.symmetric.step / 2 + 1e-12
        )
        assert projection.weights.nnz + projection.n_rounded_to_zero == trained.weights.nnz
        assert np.all(trained.weights.to_dense()[projection.weights.to_dense() != 0] != 0)
        assert exponents == "free" or projection.weight_exp == 0


def test_free_exponents_keep_more_of_a_small_projection(rng):
    network = random_network(rng, recurrent=True)
    small = tuple(
        replace(p, weights=p.weights.with_data(p.weights.data * 0.02)[0]) if p.source == p.target else p
        for p in network.projections
    )
    network = replace(network, projections=small)
    errors = {
        mode: {p.name: p.rms_error for p in quantize(network, exponents=mode).projections}
        for mode in ("zero", "free")
    }
    assert errors["free"]["layer1_rec"] < errors["zero"]["layer1_rec"] / 4


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_the_integer_network_does_what_the_float_one_does(rng, recurrent, skip):
    network = random_network(rng, (20, 30, 20, 5), recurrent=recurrent, skip=skip, bias=True)
    spikes = random_spikes(rng, 6, 40, 20)
    floats = oracle.simulate(network, spikes)
    integers = oracle.simulate(quantize(network), spikes)
    assert floats.n_spikes > 500
    # Rounding moves single spikes near the threshold; the counts of each sample stay together.
    assert abs(integers.n_spikes - floats.n_spikes) < 0.1 * floats.n_spikes
    agree = np.mean(integers.output_spikes == floats.output_spikes)
    assert agree > 0.85


@pytest.mark.parametrize("voltage_decay", [0.0, 0.05, 0.5])
def test_integrators_keep_their_voltages_in_proportion(rng, voltage_decay):
    weights = rng.normal(0.0, 1.0, (5, 40))
    bias = rng.normal(0.0, 0.1, 5)
    population = Population("a", (5,), Integrator(0.4, voltage_decay, bias))
    projection = Projection("w", "input", "a", CsrMatrix.from_dense(weights))
    network = Network((40,), (population,), (projection,), Readout("a", "membrane_max"))
    spikes = random_spikes(rng, 3, 100, 40)
    fixed = quantize(network)
    scale = fixed.populations[0].scale
    floats, integers = oracle.simulate(network, spikes).output, simulate(fixed, spikes).output
    assert np.abs(integers / (64 * scale) - floats).max() < 0.02 * np.abs(floats).max()
    assert np.abs(dequantize(fixed).populations[0].neuron.bias - bias).max() < 0.02 * np.abs(bias).max()


def test_an_integrator_that_much_drives_gets_a_smaller_scale():
    """All inputs in an eighth of the steps: the voltage must stay in range, and the mantissas small enough for it."""
    neuron, weights = Integrator(1.0, 0.0), CsrMatrix.from_dense(np.ones((1, 4000)))
    network = Network(
        (4000,),
        (Population("a", (1,), neuron),),
        (Projection("w", "input", "a", weights),),
        Readout("a", "membrane_mean"),
    )
    spikes = np.zeros((1, 256, 4000), np.uint8)
    spikes[:, ::8] = 1
    voltage = simulate(quantize(network), spikes).output[0, -1, 0]
    assert 2**21 < voltage < 2**23 - 1


def test_skip_connections_get_the_delay_that_keeps_their_meaning(rng):
    fixed = quantize(random_network(rng, (6, 5, 4, 3), skip=True))
    assert [p.latency for p in fixed.populations] == [1, 2, 3]
    assert {p.name: p.delay for p in fixed.projections}["skip"] == 2
    assert all(int(fixed.lag(projection)) == 0 for projection in fixed.projections)


def test_feedback_faster_than_the_chip_is_refused(rng):
    weights = CsrMatrix.from_dense(np.ones((3, 3)))
    populations = tuple(Population(name, (3,), CubaLif(0.5, 0.5, 1.0)) for name in ("a", "b", "c"))
    projections = (
        Projection("in", "input", "a", weights),
        Projection("ab", "a", "b", weights),
        Projection("bc", "b", "c", weights),
        Projection("back", "c", "a", weights),
    )
    network = Network((3,), populations, projections, Readout("c"))
    with pytest.raises(InputError, match=r"feedback-too-fast: projection 'back'.*at least 2"):
        quantize(network)
    slower = replace(network, projections=(*projections[:3], replace(projections[3], delay=2)))
    assert [int(quantize(slower).lag(p)) for p in quantize(slower).projections] == [0, 0, 0, 3]


def test_parameters_off_the_chip_are_all_named():
    profile = load_profile("loihi2")
    chip = replace(profile, formats=replace(profile.formats, decay=IntFormat(10, 4000)))
    weights = CsrMatrix.from_dense(np.ones((2, 2)))
    populations = (
        Population("a", (2,), CubaLif(0.0, 1.0, 1.0, bias=np.array([0.0, 1e6]))),
        Population("b", (2,), CubaLif(0.5, 0.5, 1.0)),
    )
    projections = (
        Projection("in", "input", "a", weights),
        Projection("ab", "a", "b", weights, delay=np.array([0, 0, 63, 1], dtype=np.uint8)),
    )
    with pytest.raises(InputError) as caught:
        quantize(Network((2,), populations, projections, Readout("b")), chip)
    codes = [problem.code for problem in caught.value.problems]
    assert codes == ["current-decay-range", "voltage-decay-range", "bias-range", "delay-range"]


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_a_voltage_without_memory_and_a_current_without_leak_take_the_nearest_that_the_chip_has(chip):
    fixed = quantize(one_neuron([1.0], CubaLif(0.0, 1.0, 1.0)), chip)
    neuron = fixed.populations[0].neuron
    assert (neuron.du, neuron.dv) == (0, 4095)
    (note,) = fixed.provenance["notes"]
    assert "'a'" in note
    assert "1/4096" in note
    assert "notes" not in quantize(one_neuron([1.0], CubaLif(0.1, 1.0, 1.0)), chip).provenance


def one_neuron(weights, neuron, **meta) -> Network:
    projection = Projection("w", "input", "a", CsrMatrix.from_dense(np.array([weights], dtype=float)))
    readout = Readout("a", "membrane_mean" if isinstance(neuron, Integrator) else "spike_count")
    return Network((len(weights),), (Population("a", (1,), neuron),), (projection,), readout, meta)


@pytest.mark.parametrize(
    "neuron", [CubaLif(0.5, 0.5, 1.0), LifRefractory(0.5, 0.5, 1.0), AtrLif(0.5, 0.5, 0.5, 0.5, 1.0, 0.5)]
)
@pytest.mark.parametrize("exponents", ["zero", "free"])
def test_a_threshold_that_rounds_to_zero_is_refused(neuron, exponents):
    """Scale 255 / 1000 or less: the chip's neuron would spike on any input above 0."""
    with pytest.raises(
        InputError,
        match=r"population 'a': threshold 1 beside weights of 1 to 1000 is 0\.2\d on the chip, which rounds to 0;"
        r".*larger threshold, or clip the weights into it to less than 510$",
    ):
        quantize(one_neuron([1000, 1], neuron), exponents=exponents)
    assert quantize(one_neuron([509, 1], CubaLif(0.5, 0.5, 1.0))).populations[0].neuron.vth == 1


@pytest.mark.parametrize(
    ("weights", "neuron", "found"),
    [
        ([1e300, 1e300], CubaLif(0.5, 0.5, 1.0), ["a largest weight of 1e+300"]),
        ([-1e300, 1], Integrator(0.5, 0.5), ["a largest weight of 1e+300"]),
        ([1, 1], CubaLif(0.5, 0.5, 1.0, np.array([1e300])), ["a bias of 1e+300"]),
        ([1, 1], CubaLif(0.5, 0.5, 1e-310), ["threshold 1e-310"]),
        ([1, 1], AtrLif(0.5, 0.5, 0.5, 0.5, 1.0, 1e200), ["threshold_step 1e+200"]),
        ([1e-310, -1e-320], Integrator(0.5, 0.5), ["a largest weight of 1e-310"]),
        (
            [1e300, 1],
            CubaLif(0.5, 0.5, 1e300, np.array([-1e305])),
            ["a bias of 1e+305", "threshold 1e+300", "a largest weight of 1e+300"],
        ),
    ],
)
def test_magnitudes_that_floats_cannot_square_are_each_one_error(weights, neuron, found):
    """Warnings are errors here: none comes first."""
    with pytest.raises(InputError, match="float-range") as caught:
        quantize(one_neuron(weights, neuron))
    assert [problem.found for problem in caught.value.problems] == found


@pytest.mark.parametrize("magnitude", [1e-29, 1e-9, 1e9, 1e29])
def test_a_networks_unit_does_not_matter(magnitude):
    neuron = CubaLif(0.5, 0.5, 1.5 * magnitude, np.array([0.25 * magnitude]))
    fixed = quantize(one_neuron([magnitude, -0.5 * magnitude], neuron))
    scale = fixed.populations[0].scale * magnitude
    assert fixed.populations[0].neuron.vth == round(1.5 * scale)
    assert fixed.projections[0].weights.data.tolist() == [2 * round(scale / 2), -2 * round(scale / 4)]
    assert abs(int(fixed.populations[0].neuron.bias[0]) - 16 * scale) <= 0.5


@pytest.mark.parametrize("scale", [0, -3.0, np.inf, np.nan, 1e300, "64", True, [1.0]])
def test_a_given_scale_must_be_a_number_in_range(scale):
    with pytest.raises(InputError, match=r"scale: population 'a', meta, scales: .*quantize then finds one"):
        quantize(one_neuron([1, 1], CubaLif(0.5, 0.5, 1.0), scales={"a": scale}))


def test_a_given_scale_that_would_clip_is_refused():
    with pytest.raises(InputError, match=r"scales: 200000; allowed: up to 131072, where the threshold fits"):
        quantize(one_neuron([0.01], CubaLif(0.5, 0.5, 1.0), scales={"a": 200000}))
    with pytest.raises(InputError, match=r"scales: 40000; allowed: up to 32768, where projection 'w' fits"):
        quantize(one_neuron([1.0], CubaLif(0.5, 0.5, 1.0), scales={"a": 40000}))
    with pytest.raises(InputError, match=r"meta, scales: list"):
        quantize(one_neuron([1.0], CubaLif(0.5, 0.5, 1.0), scales=[1.0]))
    kept = quantize(one_neuron([1.0], CubaLif(0.5, 0.5, 1.0), scales={"a": 131.0})).populations[0]
    assert (kept.scale, kept.neuron.vth) == (131.0, 131)


def test_unknown_chip_is_a_usage_error(rng):
    with pytest.raises(UsageError, match=r"unknown-chip: --chip: 'loihi9'; allowed: .*loihi1, loihi2"):
        quantize(random_network(rng), "loihi9")
