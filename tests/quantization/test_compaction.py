"""Compaction: outputs and states of what stays are the same, and each reason for a removal does what it says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from compaction_sweep import differing, make
from support.command import call

import lbi
from lbi.cli.export import main as lbi_export
from lbi.errors import InputError
from lbi.files import network_h5
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import MOST_SYNAPSES, ConvolutionWeights
from lbi.network.fixed import FixedPopulation, FixedProjection, SignMode, num_weight_bits
from lbi.network.kept import Kept
from lbi.network.neurons import FixedAtrLif, FixedCubaLif, FixedIntegrator, FixedLifRefractory
from lbi.network.pattern import n_weights
from lbi.network.restored import restored
from lbi.quantization.compaction import compaction
from lbi.simulation.bounds import may_fire
from lbi.simulation.run import SaturationWarning


def lif(n, vth=10, du=4095, dv=0, bias=None, bias_exp=0):
    return FixedCubaLif(du, dv, vth, np.zeros(n, np.int32) if bias is None else np.array(bias), bias_exp)


def projection(name, source, target, dense, **options):
    weights = lbi.CsrMatrix.from_dense(np.array(dense, dtype=np.int16))
    mode = SignMode.MIXED
    return FixedProjection(
        name, source, target, weights, mode, num_weight_bits=num_weight_bits(weights.data, mode), **options
    )


def network(hidden, first, second, *more, n_in=2, output=None):
    """Input → hidden → output, with further projections."""
    n_out, n = np.shape(second)
    populations = (
        FixedPopulation("hidden", (n,), hidden, latency=1),
        FixedPopulation("output", (n_out,), output or lif(n_out), latency=2),
    )
    projections = (
        projection("a", "input", "hidden", first),
        projection("b", "hidden", "output", second),
        *more,
    )
    return lbi.FixedNetwork((n_in,), populations, projections, lbi.Readout("output"), "loihi1")


@pytest.mark.parametrize("number", range(60))
def test_random_networks_do_the_same(number):
    fixed, spikes = make(2, number)
    assert differing(fixed, compaction(fixed), spikes) == 0


def test_each_reason_and_what_stays():
    # 0 stays; 1 has no input; 2 leads nowhere; 3 has input that cannot reach the threshold; 4 is driven by 1 only.
    first = [[20, 0], [0, 0], [20, 0], [0, 8], [0, 0]]
    again = np.zeros((5, 5), np.int16)
    again[4, 1] = 200
    recurrent = projection("r", "hidden", "hidden", again)
    fixed = network(lif(5, dv=4095), first, [[4, 4, 0, 4, 4]], recurrent)
    found = compaction(fixed)
    assert found.reasons["hidden"].tolist() == [0, 1, 2, 1, 1]
    assert found.removed("hidden") == {"silent": 3, "unreachable": 1, "constant": 0}
    small = found.network
    assert small.population("hidden").kept.indices.tolist() == [0]
    assert small.population("hidden").kept.shape == (5,)
    assert [p.weights.to_dense().tolist() for p in small.projections] == [[[20, 0]], [[4]], [[0]]]
    assert compaction(small).network is small


def test_a_threshold_is_reached_in_the_limit_or_not():
    """With weight 2 and du = 4095, dv = 2048 the voltage tends to 2 · 2 · 64 and never exceeds a threshold of 4."""
    for vth, fires in ((4, False), (3, True)):
        fixed = network(lif(1, vth=vth, dv=2048), [[2, 0]], [[4]])
        assert may_fire(fixed)["hidden"].tolist() == [fires]
        spikes = np.ones((1, 40, 2), np.uint8)
        assert lbi.simulate(fixed, spikes, record=("spikes",)).recorded["hidden", "spikes"].any() == fires


@pytest.mark.parametrize(
    ("neuron", "fires"),
    [
        (lif(1, vth=0), False),
        (FixedLifRefractory(4095, 0, 0, 3, np.zeros(1, np.int32)), False),
        (FixedAtrLif(4095, 0, 0, 0, 0, 0, np.zeros(1, np.int32)), True),  # fires at its threshold, which is 0
        (FixedAtrLif(4095, 0, 0, 0, 1, 0, np.zeros(1, np.int32)), False),
        (FixedIntegrator(4095, 0, np.full(1, 4000, np.int32)), False),
    ],
    ids=lambda value: getattr(value, "model", value),
)
def test_a_model_says_when_it_fires_on_its_own(neuron, fires):
    fixed = network(neuron, [[0, 0]], [[4]])
    run = lbi.simulate(fixed, np.ones((1, 20, 2), np.uint8), record=("spikes",))
    assert run.recorded["hidden", "spikes"].any() == fires
    assert may_fire(fixed)["hidden"].tolist() == [fires]


def test_inhibition_that_wraps_may_fire():
    """A current below −2^23 comes out positive: no bound from above holds."""
    heavy = [[-254] * 600]
    fixed = network(lif(1, du=0), heavy, [[4]], n_in=600)
    assert may_fire(fixed)["hidden"].tolist() == [True]
    with pytest.warns(SaturationWarning, match="wrapped"):
        run = lbi.simulate(fixed, np.ones((1, 20, 600), np.uint8), record=("spikes",))
    assert run.recorded["hidden", "spikes"].any()


def test_a_constant_sender_moves_into_the_bias():
    """Weight 6 at exponent 1 in every step is a bias of (6 << 1) << 6 = 768."""
    hidden = lif(2, bias=[11, 0], bias_exp=6)  # 11 · 64 > 10 · 64: fires in every step
    second = projection("b2", "hidden", "output", [[6, 0]], weight_exp=1)
    fixed = network(hidden, [[0, 0], [20, 0]], [[0, 8]], second, output=lif(1, vth=30, dv=400))
    found = compaction(fixed)
    assert found.removed("hidden") == {"silent": 0, "unreachable": 0, "constant": 1}
    assert found.network.population("output").neuron.bias.tolist() == [768]
    spikes = (np.random.default_rng(0).random((3, 50, 2)) < 0.3).astype(np.uint8)
    assert differing(fixed, found, spikes) == 0
    assert lbi.simulate(fixed, spikes).output_spikes.any()


@pytest.mark.parametrize(
    "change",
    [{"delay": 1}, {"weight_exp": -1}, {"du": 100}, {"bias": [3], "vth": 20}],
    ids=["later", "rounded", "remembered", "bias"],
)
def test_a_constant_sender_stays_where_the_sum_would_differ(change):
    options = {key: value for key, value in change.items() if key in ("delay", "weight_exp")}
    of_output = {"du": change.get("du", 4095), "vth": change.get("vth", 30), "dv": 400}
    bias = change.get("bias")
    second = projection("b2", "hidden", "output", [[254, 0]], **options)
    output = lif(1, **of_output, bias=bias)
    fixed = network(lif(2, bias=[11, 0], bias_exp=6), [[0, 0], [20, 0]], [[0, 8]], second, output=output)
    assert compaction(fixed).n_removed == 0


def test_a_population_without_use_keeps_one_bare_neuron():
    fixed = network(lif(3), [[20, 0], [20, 2], [4, 4]], [[0, 0, 0]])
    small = lbi.compact(fixed)
    assert small.population("hidden").n == 1
    assert [p.weights.nnz for p in small.projections] == [0, 0]
    assert lbi.compact(small) is small
    spikes = np.ones((1, 5, 2), np.uint8)
    assert not lbi.simulate(small, spikes).output_spikes.any()


def test_layers_with_a_pattern_stay_whole():
    fixed = network(lif(3), [[20, 0], [0, 0], [20, 0]], [[4, 4, 0]])
    ones = lbi.CsrMatrix.from_dense(np.array([[1, 1, 0]], np.int8))
    patterned = replace(fixed.projections[1], pattern=ones)
    assert lbi.compact(replace(fixed, projections=(fixed.projections[0], patterned))).n_neurons == 4


def maps(n_channels, size, latency, **options):
    """A population of feature maps size × size."""
    n = n_channels * size * size
    return FixedPopulation(f"maps{latency}", (n_channels, size, size), lif(n, **options), latency=latency)


def convolution(name, ends, kernel, shape, **options):
    kernel = np.array(kernel, dtype=np.int16)
    own = Convolution(kernel, (1, 1), (kernel.shape[2] // 2,) * 2, (1, 1), options.pop("groups", 1))
    return FixedProjection(name, *ends, ConvolutionWeights(own, shape), SignMode.MIXED, **options)


def feature_maps(first, second, dense, *, groups=1, **options):
    """Input 1 × 4 × 4 → maps1 → maps2 → output."""
    n_1, n_2 = len(first), len(second)
    output = FixedPopulation("output", (len(dense),), lif(len(dense)), latency=3)
    return lbi.FixedNetwork(
        (1, 4, 4),
        (maps(n_1, 4, 1, **options), maps(n_2, 4, 2), output),
        (
            convolution("a", ("input", "maps1"), first, (1, 4, 4)),
            convolution("b", ("maps1", "maps2"), second, (n_1, 4, 4), groups=groups),
            projection("c", "maps2", "output", dense),
        ),
        lbi.Readout("output"),
        "loihi1",
    )


def test_whole_channels_of_feature_maps_are_removed():
    first = np.full((4, 1, 3, 3), 20)
    first[1] = 0  # silent; channel 3 leads nowhere; in channel 2, corners get too little to fire, so it stays
    first[2] = [[0, 0, 0], [0, 0, 0], [0, 0, 12]]
    second = np.full((3, 4, 3, 3), 4)
    second[:, 3] = 0
    dense = np.zeros((2, 48), dtype=int)
    dense[:, 5] = 20  # channel 0 is read at one place only, channels 1 and 2 not at all
    fixed = feature_maps(first, second, dense)
    found = compaction(fixed)
    assert found.removed("maps1") == {"silent": 16, "unreachable": 16, "constant": 0}
    assert found.removed("maps2") == {"silent": 0, "unreachable": 32, "constant": 0}
    small = found.network
    assert [p.shape for p in small.populations] == [(2, 4, 4), (1, 4, 4), (2,)]
    assert small.population("maps1").kept.indices.tolist() == [*range(16), *range(32, 48)]
    assert small.projections[1].weights.kernel.tolist() == second[:1, [0, 2]].tolist()
    assert small.projections[2].weights.to_dense().tolist() == dense[:, :16].tolist()
    assert compaction(small).network is small
    spikes = (np.random.default_rng(0).random((3, 30, 16)) < 0.4).astype(np.uint8)
    assert differing(fixed, found, spikes) == 0
    assert lbi.simulate(small, spikes).output_spikes.any()
    for before, after in zip(fixed.projections, restored(small).projections, strict=True):
        assert (n_weights(after)[1], after.weights.shape) == (n_weights(before)[1], before.weights.shape)
        live = after.weights.to_dense() != 0
        assert np.array_equal(after.weights.to_dense()[live], before.weights.to_dense()[live])


def test_a_channel_that_always_fires_moves_into_the_biases_of_its_targets():
    """Borders of zeros: a place at the border loses fewer neighbours, and its bias is smaller."""
    first = np.full((2, 1, 1, 1), 20)
    first[1] = 0
    second = np.zeros((1, 2, 3, 3), dtype=int)
    second[0, 0, 1, 1], second[0, 1] = 20, 2
    fixed = feature_maps(first, second, np.full((1, 16), 20), bias=np.repeat([0, 11], 16), bias_exp=6)
    found = compaction(fixed)
    assert found.removed("maps1") == {"silent": 0, "unreachable": 0, "constant": 16}
    near = np.array([[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]])
    assert found.network.population("maps2").neuron.bias.tolist() == (near * 2 * 64).reshape(-1).tolist()
    spikes = (np.random.default_rng(0).random((3, 30, 16)) < 0.4).astype(np.uint8)
    assert differing(fixed, found, spikes) == 0


def test_groups_stay_or_go_on_both_sides():
    """Three channels apart: of the first nothing is read, the second gets nothing but may fire, the third is needed."""
    first, second = np.full((3, 1, 1, 1), 20), np.full((3, 1, 3, 3), 20)
    first[1] = 0
    dense = np.zeros((1, 48), dtype=int)
    dense[0, 16:] = 4
    bias = np.repeat([0, 1, 0], 16)
    fixed = feature_maps(first, second, dense, groups=3, bias=bias, bias_exp=6, dv=0)
    found = compaction(fixed)
    assert found.removed("maps1") == {"silent": 0, "unreachable": 16, "constant": 0}
    assert found.network.projections[1].weights.convolution.groups == 2
    assert restored(found.network).projections[1].weights.convolution.groups == 3
    alone = compaction(
        replace(
            fixed,
            projections=(
                *fixed.projections[:2],
                projection("c", "maps2", "output", dense * (np.arange(48) > 31)),
            ),
        )
    )
    # A single group left would no longer be told from a convolution without groups.
    assert [p.shape[0] for p in alone.network.populations[:2]] == [2, 2]


def test_large_feature_maps_are_compacted_in_their_kernels():
    """More synapses than can be unrolled: 5 × 5 kernels between 16 and 8 maps of 256 × 256."""
    rng = np.random.default_rng(0)
    first = rng.integers(1, 60, (16, 1, 1, 1)) * 2
    second = rng.integers(1, 60, (8, 16, 5, 5)) * 2
    first[4:8], second[:, 12:] = 0, 0
    populations = (maps(16, 256, 1), maps(8, 256, 2))
    fixed = lbi.FixedNetwork(
        (1, 256, 256),
        populations,
        (
            convolution("a", ("input", "maps1"), first, (1, 256, 256)),
            convolution("b", ("maps1", "maps2"), second, (16, 256, 256)),
        ),
        lbi.Readout("maps2"),
        "loihi2",
    )
    assert fixed.projections[1].weights.nnz > MOST_SYNAPSES
    found = compaction(fixed)
    assert found.removed("maps1") == {"silent": 4 * 65536, "unreachable": 4 * 65536, "constant": 0}
    assert found.network.projections[1].weights.kernel.shape == (8, 8, 5, 5)


def test_the_file_keeps_the_numbers_as_trained(tmp_path):
    fixed = network(lif(4), [[20, 0], [0, 0], [20, 0], [20, 20]], [[4, 4, 0, 4]])
    network_h5.save(lbi.compact(fixed), tmp_path / "small.h5")
    small = lbi.load(tmp_path / "small.h5")
    assert small.population("hidden").kept.indices.tolist() == [0, 3]
    whole = restored(small)
    assert whole.population("hidden").shape == (4,)
    assert [p.weights.to_dense().tolist() for p in whole.projections] == [
        [[20, 0], [0, 0], [0, 0], [20, 20]],
        [[4, 0, 0, 4]],
    ]


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        (Kept((4,), [0, 4]), "kept-index"),
        (Kept((4,), [3, 1]), "kept-index"),
        (Kept((4,), [1]), "kept-index"),
        (Kept((1 << 40,), [0, 1]), "kept-shape"),
        (Kept((), [0, 1]), "kept-shape"),
    ],
)
def test_a_wrong_record_is_refused(kept, code):
    fixed = network(lif(2), [[20, 0], [0, 20]], [[4, 4]])
    hidden = replace(fixed.populations[0], kept=kept)
    with pytest.raises(InputError, match=code):
        replace(fixed, populations=(hidden, fixed.populations[1]))


def test_the_export_says_what_went_and_keeps_the_dense_side(tmp_path):
    fixed = network(lif(4), [[20, 0], [0, 0], [20, 0], [20, 20]], [[4, 4, 0, 4]])
    network_h5.save(fixed, tmp_path / "net.h5")
    done = call(lbi_export, tmp_path / "net.h5", "--target", "loihi", "--json", "--chip", "loihi1")
    hidden, output = done.json["populations"]
    assert (hidden["shape"], hidden["n_trained"]) == ([2], 4)
    assert hidden["removed"] == {"silent": 1, "unreachable": 1, "constant": 0}
    assert output["removed"] == {"silent": 0, "unreachable": 0, "constant": 0}
    assert [p["n_dense"] for p in done.json["projections"]] == [8, 4]
    text = (tmp_path / "net.loihi" / "summary.txt").read_text()
    assert "removed, since they cannot change the output: 2 of 4 of hidden (1 silent, 1 unreachable)" in text
    report = json.loads((tmp_path / "net.loihi" / "report.json").read_text())
    assert report["populations"] == done.json["populations"]
    small = lbi.load(tmp_path / "net.loihi")
    spikes = (np.random.default_rng(0).random((3, 20, 2)) < 0.5).astype(np.uint8)
    assert np.array_equal(
        lbi.simulate(fixed, spikes).output_spikes, lbi.simulate(small, spikes).output_spikes
    )
    cost = lbi.estimate(small, spikes=spikes)
    assert (cost.dense.neuron_updates, cost.sparse.neuron_updates) == (5, 3)
    n_input = spikes.sum() / 60
    n_hidden = lbi.simulate(small, spikes, record=("spikes",)).recorded["hidden", "spikes"].sum() / 60
    synops = cost.dense.events["synop_dense"] + cost.dense.events["synop_indexed"]
    assert synops == pytest.approx(4 * n_input + 1 * n_hidden, rel=1e-12)
    assert any("were removed" in note for note in cost.notes())
    whole = call(lbi_export, tmp_path / "net.h5", "--target", "loihi", "--no-compact", "--force", "--json")
    assert whole.json["populations"][0]["shape"] == [4]
