"""The cost of feature maps: expected counts, energies and memory written as arithmetic.

Neurons relay, as in test_costs_by_hand.py: they spike in the step in which their weights sum to at least 2. Constants of Davies 2018:
synapse 23.6 pJ and 3.5 ns, active update 81 pJ, inactive 52 pJ, message within a tile 1.7 pJ.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import random_kernels
from support.handmade_networks import population, relay

from lbi import (
    CubaLif,
    FixedNetwork,
    FixedPopulation,
    FixedProjection,
    Network,
    Population,
    Projection,
    Readout,
    SignMode,
    load_profile,
    quantize,
)
from lbi.chip.profile import HardwareProfile, Quantity
from lbi.costing.counts import PlacedNetwork
from lbi.costing.estimation import estimate
from lbi.costing.report.figures import comparison, headline
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.parts import Box
from lbi.quantization.compaction import compact
from lbi.simulation.run import simulate

LOIHI1, LOIHI2 = load_profile("loihi1"), load_profile("loihi2")
SYNOP, ACTIVE, INACTIVE, MESSAGE, HOP_EW = 23.6, 81.0, 52.0, 1.7, 3.0


def maps(kernel, shape: tuple[int, int, int], places, **more) -> tuple[FixedNetwork, np.ndarray]:
    """Input → a, one convolution, read out itself; ``places`` are the input's (channel, row, column) that spike in each step."""
    options = {"stride": (1, 1), "padding": (0, 0)} | more
    weights = ConvolutionWeights(Convolution(np.asarray(kernel, dtype=np.int16), **options), shape)
    a = FixedPopulation("a", weights.output_shape, relay(weights.shape[0]), latency=1)
    fixed = FixedNetwork(
        shape,
        (a,),
        (FixedProjection("conv", "input", "a", weights, SignMode.MIXED),),
        Readout("a"),
        "loihi1",
    )
    spikes = np.zeros((1, len(places), *shape), dtype=np.uint8)
    for step, found in enumerate(places):
        for place in found:
            spikes[(0, step, *place)] = 1
    return fixed, spikes.reshape(1, len(places), -1)


def chip(compartments: int, base: HardwareProfile = LOIHI1) -> HardwareProfile:
    quantity = Quantity(compartments, "compartments", "test", "assumption")
    return dataclasses.replace(base, limits=dataclasses.replace(base.limits, compartments_per_core=quantity))


def unrolled(fixed: FixedNetwork) -> FixedNetwork:
    """The same network with CSR in place of kernels; dense stays the kernels' pattern."""
    projections = tuple(
        dataclasses.replace(
            p, weights=p.weights.to_csr(), pattern=None if p.pattern is None else p.pattern.to_csr()
        )
        for p in fixed.projections
    )
    return dataclasses.replace(fixed, projections=projections)


ONES = np.full((1, 1, 3, 3), 2)


def test_synops_are_those_that_exist_at_a_border():
    """4 × 4, padding 1: a corner reaches 2 × 2 outputs, an edge 2 × 3, an inner input 3 × 3: 4 + 6 + 9 SynOps."""
    fixed, spikes = maps(ONES, (1, 4, 4), [[(0, 0, 0)], [(0, 0, 1)], [(0, 1, 1)]], padding=(1, 1))
    result = estimate(fixed, spikes=spikes)
    assert result.sparse.synops_fetched * 3 == 4 + 6 + 9
    assert result.dense.synops_fetched * 3 == 4 + 6 + 9  # all weights of the kernel are there
    assert result.sparse.loads["synops"].peak.tolist() == [9]


def test_synops_are_those_that_exist_with_a_stride():
    """5 × 5, kernel 2 × 2, stride 2, no padding: 2 × 2 outputs of rows and columns 0 to 3; the last row and column reach none."""
    spike_at = [[(0, 0, 0)], [(0, 3, 2)], [(0, 4, 1)], [(0, 2, 4)]]
    fixed, spikes = maps(np.full((1, 1, 2, 2), 2), (1, 5, 5), spike_at, stride=(2, 2))
    result = estimate(fixed, spikes=spikes)
    assert result.sparse.synops_fetched * 4 == 1 + 1 + 0 + 0
    assert result.sparse.events["message_in"] * 4 == 2  # spikes that reach nothing are not sent


def test_dense_is_all_weights_of_the_kernel():
    """One of nine weights is left, the middle: 1 SynOp of an inner input instead of 9, and 1 output that spikes.

    Energy: one synapse; 16 neurons in 1 step: the target is active, 15 are inactive; the input's message.
    """
    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 1, 1] = 2
    fixed, spikes = maps(kernel, (1, 4, 4), [[(0, 1, 1)]], padding=(1, 1))
    result = estimate(fixed, spikes=spikes)
    assert (result.sparse.synops_fetched, result.dense.synops_fetched) == (1, 9)
    # 4 · 9 inside, 8 · 6 edges, 4 · 4 corners; 16 at the middle tap
    assert (result.n_weights, result.n_nonzero) == (4 * 9 + 8 * 6 + 4 * 4, 16)
    energy = result.sparse.energy["davies2018"]
    assert energy.high == pytest.approx(SYNOP + ACTIVE + 15 * INACTIVE + MESSAGE)


def test_shared_and_unrolled_memory_stand_side_by_side():
    """1 × 8 × 8, padding 1, 3 × 3: 9 distinct rows, eight of 128 bits and one of 192; unrolled 28 · 128 + 36 · 192.

    With the middle weight alone, every input is under it: one distinct row of 14 + 10 → 64 bits; unrolled 64 rows.
    """
    fixed, spikes = maps(ONES, (1, 8, 8), [[(0, 4, 4)]], padding=(1, 1))
    full = estimate(fixed, spikes=spikes)
    record = full.to_dict()
    assert record["sparse"]["synaptic_memory_bits"] == 8 * 128 + 192
    assert record["sparse"]["unrolled_memory_bits"] == 28 * 128 + 36 * 192
    (projection,) = record["projections"]
    assert (projection["format"], projection["bits"], projection["shared_bits"]) == ("shared", 1216, 1216)
    assert projection["unrolled_bits"] == projection["indexed_bits"] == 28 * 128 + 36 * 192
    layout = record["memory_layouts"]["loihi1"]
    assert (layout["sparse_bits"], layout["unrolled_bits"]) == (1216, 28 * 128 + 36 * 192)
    assert any("third-party" in note and "unrolled" in note for note in record["notes"])
    line = next(line for line in headline(full) if line.key == "unrolled")
    assert (line.dense, line.sparse) == ("10,496 (1.3 KiB)",) * 2

    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 1, 1] = 2
    thin, _ = maps(kernel, (1, 8, 8), [[]], padding=(1, 1))
    sparse = estimate(thin, spikes=spikes).to_dict()
    assert sparse["sparse"]["synaptic_memory_bits"] == 64
    assert sparse["sparse"]["unrolled_memory_bits"] == 64 * 64
    assert sparse["dense"]["synaptic_memory_bits"] == 1216
    json.dumps(sparse)


def test_the_comparison_names_synapses_not_weights():
    """Nine weights of one kernel make 4 · 9 + 8 · 6 + 4 · 4 synapses on 4 × 4 with padding 1."""
    fixed, spikes = maps(ONES, (1, 4, 4), [[(0, 1, 1)]], padding=(1, 1))
    label, n_synapses, *_ = comparison([estimate(fixed, spikes=spikes)] * 2)[0]
    assert (label, n_synapses) == ("nonzero synapses (convolutions unrolled)", str(4 * 9 + 8 * 6 + 4 * 4))


def test_a_network_without_convolutions_has_no_unrolled_line():
    from support.handmade_networks import two_layer_network

    fixed, spikes = two_layer_network()
    result = estimate(fixed, spikes=spikes)
    assert not result.shares_convolutions
    assert result.sparse.unrolled_bits == result.sparse.placement.synaptic_bits
    assert all(line.key != "unrolled" for line in headline(result))
    assert comparison([result, result])[0][0] == "nonzero synapses"


def test_shared_kernels_are_fetched_with_their_zeros():
    """Loihi 2, one of nine weights: an inner input reads 9 entries, of which one has an effect; without record a bound."""
    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 1, 1] = 2
    fixed, spikes = maps(kernel, (1, 4, 4), [[(0, 1, 1)]], padding=(1, 1))
    exact = estimate(fixed, spikes=spikes, chip=LOIHI2).sparse
    assert (exact.synops_fetched, exact.synops_effective) == (9, 1)
    assert exact.placement.synaptic_bits == 128  # one row: 9 · 8 + 10 = 82
    rough = estimate(fixed, simulate(fixed, spikes), chip=LOIHI2).sparse
    mean = (4 * 9 + 8 * 6 + 4 * 4) // 16
    assert rough.synops_fetched == mean


def test_a_halo_costs_messages():
    """8 × 8, padding 1, 3 × 3, four cores of 4 × 4 tiles. Inputs at the middle reach all four cores, a corner one, (0, 3) two.

    SynOps: 9 of (3, 3): 2 · 2 outputs of rows and columns 2–3, 2 · 1, 1 · 2 and 1 · 1; corner 4; (0, 3): 2 rows · (2 + 1).
    Messages: 4 + 1 + 2. Loads of a core in all steps: of the first 4 + 4 + 4, the second 2 + 2, the third 2, the last 1.
    """
    fixed, spikes = maps(ONES, (1, 8, 8), [[(0, 3, 3)], [(0, 0, 0)], [(0, 0, 3)]], padding=(1, 1))
    result = estimate(fixed, spikes=spikes, chip=chip(16)).sparse
    placement = result.placement
    assert placement.n_cores == 4
    assert result.events["message_in"] * 3 == 4 + 1 + 2
    assert placement.use["input_axons"].tolist() == [5 * 5] * 4
    core = dict(
        zip(((c.part.rows, c.part.columns) for c in placement.chunks), placement.core_of_chunk, strict=True)
    )
    low, high = (0, 4), (4, 8)
    order = [core[rows, columns] for rows in (low, high) for columns in (low, high)]
    synops = result.loads["synops"].mean[order] * 3
    assert synops.tolist() == pytest.approx([4 + 4 + 4, 2 + 2, 2, 1])
    assert result.loads["synops"].peak[order].tolist() == [4, 2, 2, 1]
    assert result.loads["updates"].mean.tolist() == [16] * 4


def test_the_busiest_tile_sets_the_time():
    """All spikes in the upper left corner tile: its core takes 9 SynOps · 3.5 ns a step, the others only updates."""
    fixed, spikes = maps(ONES, (1, 8, 8), [[(0, 1, 1)], [(0, 1, 1)]], padding=(1, 1))
    result = estimate(fixed, spikes=spikes, chip=chip(16)).sparse
    bound = result.bounds["davies2018"]
    first = next(i for i, c in enumerate(result.placement.chunks) if c.part.rows[0] == c.part.columns[0] == 0)
    assert bound.core == result.placement.core_of_chunk[first]
    # an input at (1, 1) reaches rows and columns 0–2, all in one tile
    assert bound.ns["synaptic operations"] == pytest.approx(9 * 3.5)


def test_a_pooled_map_is_billed_by_its_windows():
    """2 channels of 4 × 4 summed by 2 × 2: one SynOp per spike, 8 neurons; 2 spikes in one window, 1 in another channel."""
    kernel = np.full((2, 1, 2, 2), 2)
    places = [[(0, 0, 0), (0, 1, 1), (1, 3, 3)]]
    fixed, spikes = maps(kernel, (2, 4, 4), places, stride=(2, 2), groups=2)
    result = estimate(fixed, spikes=spikes).sparse
    assert result.synops_fetched == 3
    assert (result.events["update_active"], result.events["update_inactive"]) == (2, 6)
    assert result.energy["davies2018"].high == pytest.approx(
        3 * SYNOP + 2 * ACTIVE + 6 * INACTIVE + 3 * MESSAGE
    )
    assert result.placement.synaptic_bits == 2 * 4 * 64  # per channel one row of one synapse for each tap


def test_the_busiest_inputs_of_a_map_are_counted():
    """16 inputs and 16 neurons of a: 16 sources, since a is read out and sends nothing; the tenth is 2.

    The middle inputs (1, 1) and (2, 2) spike twice with 9 synapses, the corner once with 4: 36 of 40 SynOps.
    """
    places = [[(0, 1, 1), (0, 2, 2)], [(0, 1, 1), (0, 2, 2), (0, 0, 0)]]
    fixed, spikes = maps(ONES, (1, 4, 4), places, padding=(1, 1))
    result = estimate(fixed, spikes=spikes).sparse
    saving = next(s for s in result.savings if s.kind == "busy-sources")
    assert (saving.n, saving.of) == (2, 16)
    assert result.synops_fetched * 2 == 4 * 9 + 4
    total = result.energy["davies2018"].high * 2
    sanafe = result.energy["sanafe"].high * 2
    shares = [36 * SYNOP / total, 36 * 33.6 / sanafe]
    assert (saving.share.low, saving.share.high) == pytest.approx((min(shares), max(shares)))


def test_compaction_takes_neurons_off_the_bill():
    """Input → a (3) → out; a1 has no input and a2 no way to the output: 4 updates become 2, the axon rows 4 become 2.

    One step, input 0 spikes: SynOps 1 + 1 (and a2's 1 before); out is active, a0 too. a2 sends no message: it reaches nothing.
    """
    from support.handmade_networks import projection

    fixed = FixedNetwork(
        (1,),
        (population("a", 3, latency=1), population("out", 1, latency=2)),
        (projection("input", "a", [[2], [0], [2]]), projection("a", "out", [[2, 2, 0]])),
        Readout("out"),
        "loihi1",
    )
    spikes = np.ones((1, 1, 1), dtype=np.uint8)
    before, after = estimate(fixed, spikes=spikes).sparse, estimate(compact(fixed), spikes=spikes).sparse
    assert (before.neuron_updates, after.neuron_updates) == (4, 2)
    assert (before.synops_fetched, after.synops_fetched) == (3, 2)
    drop = before.energy["davies2018"].high - after.energy["davies2018"].high
    assert drop == pytest.approx(SYNOP + ACTIVE + INACTIVE)  # a2's synapse and update, a1's update


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 60))
def test_maps_cost_what_their_unrolled_matrix_costs(seed, compartments):
    """SynOps, spikes, updates and messages of kernels in tiles are those of the CSR form, wherever that is placed.

    Loihi 1 reads no zeros, so the entries fetched are equal too, unless dense rows are cheaper for the CSR form.
    """
    fixed, spikes = random_kernels.make(seed, 1)
    profile = dataclasses.replace(chip(compartments), name="loihi1")
    profile = dataclasses.replace(profile, models=LOIHI2.models, formats=LOIHI2.formats)
    maps_, csr = (
        partial(estimate, network, spikes=spikes, chip=profile) for network in (fixed, unrolled(fixed))
    )
    kernels, matrix = maps_().sparse, csr().sparse
    assert kernels.synops_effective == matrix.synops_effective
    assert kernels.neuron_updates == matrix.neuron_updates
    assert kernels.events["spike"] == matrix.events["spike"]
    if (
        set(matrix.placement.formats.values())
        <= {"indexed"}
        >= set(kernels.placement.formats.values()) - {"shared"}
    ):
        assert kernels.synops_fetched == matrix.synops_fetched
    network = PlacedNetwork(fixed, kernels.placement)
    for projection in fixed.projections:
        if kernels.placement.formats[projection.name] == "shared":
            table = kernels.placement.axons[projection.name]
            fan_out = np.bincount(table.sources, table.synapses, projection.weights.shape[1])
            assert fan_out.tolist() == projection.weights.to_csr().fan_out().tolist()
    assert {source.name for source in network.sources} == {p.source for p in fixed.projections}


def test_the_tiles_of_a_bill_are_boxes():
    """What this file counts by hand is placed in tiles: 8 × 8 on cores of 16."""
    fixed, spikes = maps(ONES, (1, 8, 8), [[(0, 3, 3)]], padding=(1, 1))
    placement = estimate(fixed, spikes=spikes, chip=chip(16)).sparse.placement
    assert all(isinstance(chunk.part, Box) and chunk.n == 16 for chunk in placement.chunks)


def test_the_profiles_name_their_rule():
    """Every built-in chip that shares says so with a source and at most a third party's confidence."""
    found = {profile.name: profile.layout.shared for profile in (LOIHI1, LOIHI2)}
    assert found["loihi1"].confidence == "third-party"
    assert found["loihi2"].confidence == "assumption"
    docs = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text(encoding="utf-8")
    assert "what convolutions share" in docs


@pytest.mark.parametrize("recorded", [True, False])
def test_dense_counts_removed_channels_by_what_ran(recorded):
    """A silent channel of pruned maps is removed: it sent nothing, so the dense network reads what it read before."""
    rng = np.random.default_rng(0)
    source, populations, projections, shape = "input", [], [], (1, 7, 6)
    for name, sizes in (("a", (3, 1, 3, 3)), ("b", (4, 3, 3, 3))):
        kernel = rng.normal(1.0, 0.3, sizes) * (rng.random(sizes) < 0.5)
        if name == "a":
            kernel[1] = 0  # never fires
        weights = ConvolutionWeights(Convolution(kernel, (2, 1), (1, 1)), shape)
        shape = weights.output_shape
        populations.append(Population(name, shape, CubaLif(1.0, 0.5, 1.0)))
        projections.append(Projection(name, source, name, weights, pattern=weights.pattern()))
        source = name
    fixed = quantize(Network((1, 7, 6), tuple(populations), tuple(projections), Readout("b")))
    small = compact(fixed)
    assert small.populations[0].n * 3 == fixed.populations[0].n * 2
    spikes = (rng.random((3, 6, 42)) < 0.4).astype(np.uint8)
    found = []
    for network in (fixed, small):
        activity = simulate(network, spikes, record=("spikes", "active") if recorded else ())
        found.append(estimate(network, activity))
    whole, less = (one.to_dict()["projections"][1] for one in found)
    assert less["n_dense"] == whole["n_dense"]
    assert less["synops_dense_per_step"] == whole["synops_dense_per_step"] > 0
    assert found[1].dense.synops_fetched == found[0].dense.synops_fetched
