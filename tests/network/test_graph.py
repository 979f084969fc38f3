"""The two network records check themselves and name all errors."""

from dataclasses import replace

import numpy as np
import pytest
from support.networks import random_network

from lbi import CsrMatrix, CubaLif, Network, Population, Projection, Readout, quantize
from lbi.errors import InputError
from lbi.network.fixed import FixedNetwork, SignMode, num_weight_bits
from lbi.network.neurons import Integrator

NEURON = CubaLif(0.5, 0.1, 1.0)


def test_reports_all_problems_in_one_pass():
    with pytest.raises(InputError) as caught:
        Network(
            (3,),
            (Population("a", (2,), NEURON), Population("a", (0,), NEURON), Population("b/c", (1,), NEURON)),
            (
                Projection("p", "input", "a", CsrMatrix.from_dense(np.ones((5, 3)))),
                Projection("p", "nowhere", "input", CsrMatrix.from_dense(np.ones((2, 2))), delay=-1),
            ),
            Readout("z", "telepathy"),
        )
    codes = {problem.code for problem in caught.value.problems}
    assert codes >= {
        "name-taken",
        "population-shape",
        "name",
        "unknown-population",
        "input-target",
        "delay-value",
        "readout-kind",
    }


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ((-0.1, 0.5, 1.0), "decay-range"),
        ((0.5, 1.1, 1.0), "decay-range"),
        ((0.5, float("nan"), 1.0), "decay-range"),
        ((0.5, 0.5, 0.0), "threshold-range"),
        ((0.5, 0.5, float("inf")), "threshold-range"),
        ((0.5, 0.5, 1.0, [np.nan]), "not-finite"),
    ],
)
def test_neuron_parameters_out_of_range(parameters, code):
    with pytest.raises(InputError, match=code):
        CubaLif(*parameters)


@pytest.mark.parametrize(
    ("neuron", "kind"), [(NEURON, "membrane_max"), (Integrator(0.5, 0.1), "spike_count")]
)
def test_spikes_are_counted_where_there_are_some_and_membranes_read_where_nothing_resets_them(neuron, kind):
    weights = CsrMatrix.from_dense(np.ones((2, 3)))
    with pytest.raises(
        InputError, match=rf"readout-kind: readout: '{kind}' of a population of '{neuron.model}'"
    ):
        Network(
            (3,),
            (Population("a", (2,), neuron),),
            (Projection("p", "input", "a", weights),),
            Readout("a", kind),
        )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("spike_count", [0, 1]), ("membrane_max", [1, 2]), ("membrane_mean", [0, 1]), ("membrane_last", [1, 2])],
)
@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_readouts_take_the_first_of_the_largest(kind, expected, dtype):
    output = np.array([[[5, 0, 0], [5, 9, 9]], [[-7, -2, -8], [-3, -2, -1]]], dtype=dtype)
    assert Readout("a", kind).classify(output).tolist() == expected


def test_fixed_network_refuses_weights_off_the_grid(rng):
    fixed = quantize(random_network(rng))
    projection = fixed.projections[0]
    odd, _ = projection.weights.with_data(projection.weights.data + 1)
    with pytest.raises(InputError, match="weights-range"):
        replace(fixed, projections=(replace(projection, weights=odd), *fixed.projections[1:]))


def test_fixed_network_refuses_a_spike_that_arrives_too_late(rng):
    fixed = quantize(random_network(rng))
    late = replace(fixed.populations[-1], latency=fixed.populations[-1].latency + 2)
    with pytest.raises(InputError, match="arrives 2 steps after it is due"):
        replace(fixed, populations=(*fixed.populations[:-1], late))


def test_raw_chip_time_is_latency_zero(rng):
    fixed = quantize(random_network(rng, recurrent=True))
    raw = replace(fixed, populations=tuple(replace(p, latency=0) for p in fixed.populations))
    assert isinstance(raw, FixedNetwork)
    assert {int(raw.lag(projection)) for projection in raw.projections} == {1}
    assert raw.depth == 0


@pytest.mark.parametrize(
    ("data", "mode", "bits"),
    [
        ([2, -4], SignMode.MIXED, 8),
        ([4, -8], SignMode.MIXED, 7),
        ([128, -128], SignMode.MIXED, 2),
        ([1, 255], SignMode.EXCITATORY, 8),
        ([128], SignMode.EXCITATORY, 1),
        ([-64, -128], SignMode.INHIBITORY, 2),
        ([], SignMode.MIXED, 1),
    ],
)
def test_num_weight_bits_survive_lavas_truncation(data, mode, bits):
    data = np.array(data, dtype=np.int16)
    assert num_weight_bits(data, mode) == bits
    cut = 8 - bits + (mode is SignMode.MIXED)  # lava-nc truncate_weights
    assert np.array_equal((np.abs(data) >> cut) << cut, np.abs(data))


def test_a_network_prints_its_graph_instead_of_its_arrays():
    first = np.array([[1.0, 0.0, -2.0], [0.0, 0.5, 0.0]])
    network = Network(
        (3,),
        (Population("hidden", (2,), NEURON), Population("out", (1,), NEURON)),
        (
            Projection("p", "input", "hidden", CsrMatrix.from_dense(first)),
            Projection("q", "hidden", "out", CsrMatrix.from_dense(np.ones((1, 2))), delay=np.array([0, 3])),
        ),
        Readout("out", "spike_count"),
    )
    assert repr(network).splitlines() == [
        "Network(",
        "  input (3,)",
        "  hidden (2,) cuba_lif ← input (3 of 6 weights)",
        "  out (1,) cuba_lif ← hidden (2 of 2 weights, delay up to 3)",
        "  spike_count of out",
        ")",
    ]
    assert repr(quantize(network, "loihi2")).startswith("FixedNetwork for loihi2(\n  input (3,)\n")


def test_a_network_without_populations_is_named():
    with pytest.raises(InputError, match="no-population: network: no population; allowed: at least one"):
        Network((4,), (), (), Readout("x"))


@pytest.mark.parametrize("shape", [(-8, -8), (64.0,), (0,), ("4",), 4, None])
def test_sizes_are_whole_numbers_of_at_least_1(shape):
    one = random_network(np.random.default_rng(0))
    with pytest.raises(InputError, match="input-shape: input: "):
        replace(one, input_shape=shape)
    first = replace(one.populations[0], shape=shape)
    with pytest.raises(InputError, match="population-shape: population "):
        replace(one, populations=(first, *one.populations[1:]))


def test_a_latency_is_whole():
    fixed = quantize(random_network(np.random.default_rng(0)))
    with pytest.raises(InputError, match=r"latency: population .*: 1\.5"):
        replace(fixed, populations=(replace(fixed.populations[0], latency=1.5), *fixed.populations[1:]))


def test_a_readout_of_unknown_kind_gives_no_class():
    with pytest.raises(InputError, match="readout-kind: readout: 'membran_max'"):
        Readout("o", "membran_max").classify(np.zeros((2, 3, 4)))
