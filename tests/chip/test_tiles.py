"""Tiles of feature maps: hand-counted cuts, and the fewest tiles against every grid there is."""

from __future__ import annotations

import dataclasses
from itertools import combinations, pairwise, product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_kernels import convolution

from lbi import FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode, load_profile
from lbi.chip.memory import shared_bits
from lbi.chip.placement import place
from lbi.chip.profile import HardwareProfile, Quantity
from lbi.chip.tiles import can_grow_to_fit, fewest_tiles, grid
from lbi.errors import FitError
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.parts import Box, Run

LOIHI1 = load_profile("loihi1")


def maps(kernel: np.ndarray, shape: tuple[int, int, int], **more) -> FixedNetwork:
    """Input of a shape → a, one convolution."""
    options = {"stride": (1, 1), "padding": (0, 0)} | more
    weights = ConvolutionWeights(Convolution(np.asarray(kernel, dtype=np.int16), **options), shape)
    neuron = FixedCubaLif(409, 100, 100, np.zeros(weights.shape[0], np.int32))
    return FixedNetwork(
        shape,
        (FixedPopulation("a", weights.output_shape, neuron),),
        (FixedProjection("p", "input", "a", weights, SignMode.MIXED),),
        Readout("a"),
        "loihi1",
    )


def with_limits(compartments: int, inputs: int = 4096, bits: int = 1 << 20) -> HardwareProfile:
    def q(value: int) -> Quantity:
        return Quantity(value, "", "test", "assumption")

    limits = dataclasses.replace(
        LOIHI1.limits, compartments_per_core=q(compartments), input_axons_per_core=q(inputs)
    )
    layout = dataclasses.replace(LOIHI1.layout, capacity=q(bits))
    return dataclasses.replace(LOIHI1, limits=limits, memory=(layout,))


def test_a_map_is_cut_into_squares():
    """1 × 16 × 16, kernel 3 × 3, padding 1, 64 neurons a core: four tiles of 8 × 8 with 9 × 9 inputs each, 324 axons.

    Runs of 64 are four rows of 16, with 5 · 16, 6 · 16, 6 · 16 and 5 · 16 inputs: 352 axons.
    """
    placement = place(maps(np.full((1, 1, 3, 3), 2), (1, 16, 16), padding=(1, 1)), with_limits(64))
    boxes = {chunk.part for chunk in placement.chunks}
    assert boxes == {Box((1, 16, 16), (0, 1), (y, y + 8), (x, x + 8)) for y in (0, 8) for x in (0, 8)}
    assert placement.use["input_axons"].tolist() == [81] * 4


def test_channels_stay_together_where_they_read_the_same_inputs():
    """8 → 8 channels of 8 × 8, kernel 3 × 3, padding 1, 256 neurons a core, two cores' worth.

    By halves of the map: 8 · 5 · 8 = 320 inputs each. By channels (runs of 256 = 4 maps): all 512 inputs each.
    """
    placement = place(maps(np.full((8, 8, 3, 3), 2), (8, 8, 8), padding=(1, 1)), with_limits(256))
    assert placement.n_cores == 2
    assert placement.use["input_axons"].tolist() == [320, 320]
    assert {chunk.part.channels for chunk in placement.chunks} == {(0, 8)}


def test_pooling_keeps_its_channels_apart_without_a_halo():
    """8 channels of 8 × 8 pooled 2 × 2: 128 outputs on cores of 64; any cut has 256 inputs a core: runs stay."""
    kernel = np.full((8, 1, 2, 2), 64)
    placement = place(maps(kernel, (8, 8, 8), stride=(2, 2), groups=8), with_limits(64))
    assert {chunk.part for chunk in placement.chunks} == {Run(0, 64), Run(64, 128)}
    assert placement.use["input_axons"].tolist() == [256, 256]


def test_tiles_that_need_fewer_cores_are_chosen_for_their_inputs():
    """16 → 1 channels of 4 × 16, kernel 3 × 3, padding 1; 16 neurons a core, 400 input axons.

    A row of 16 has 3 rows of inputs, 16 · 3 · 16 = 768: too many. 400 / 16 = 25 places: a row of at most 6 (3 · 8 = 24),
    a tile of 2 × 4 (4 · 6 = 24), 3 × 3 (25), at the upper border 2 rows fewer.
    Tiles of 4 × 3 at the full height: 4 · 5 = 20 places, 320 axons. 16 / 3 → 6 tiles, by 4: 4 · 6 = 24 places, 4 tiles.
    """
    placement = place(
        maps(np.full((1, 16, 3, 3), 2), (16, 4, 16), padding=(1, 1)), with_limits(16, inputs=400)
    )
    assert placement.n_cores == 4
    assert {chunk.part for chunk in placement.chunks} == {
        Box((1, 4, 16), (0, 1), (0, 4), (x, x + 4)) for x in (0, 4, 8, 12)
    }
    assert sorted(placement.use["input_axons"].tolist()) == [16 * 4 * 5] * 2 + [16 * 4 * 6] * 2


def test_a_neuron_that_fits_no_core_ends_the_search_for_tiles(monkeypatch):
    """Not one of the 262 144 grids is tried: kernels in a core's memory, state and axons only grow with a tile."""
    profile = load_profile("loihi2")
    memory = dataclasses.replace(profile.limits.core_memory, value=1000)
    profile = dataclasses.replace(profile, limits=dataclasses.replace(profile.limits, core_memory=memory))
    monkeypatch.setattr("lbi.chip.partition.fewest_tiles", None)
    fixed = maps(np.full((16, 2, 3, 3), 2), (2, 128, 128), padding=(1, 1))
    with pytest.raises(FitError, match=r"memory-bits-per-core: population 'a', neuron \d+: \d+ memory bits"):
        place(fixed, profile)


def test_more_neurons_than_a_system_holds_are_refused_before_they_are_cut(monkeypatch):
    """16 · 128 · 128 neurons, one a core: 262 144 cores of 128 a chip."""
    profile = load_profile("loihi2")
    one = dataclasses.replace(profile.limits.compartments_per_core, value=1)
    profile = dataclasses.replace(
        profile, limits=dataclasses.replace(profile.limits, compartments_per_core=one)
    )
    monkeypatch.setattr("lbi.chip.placement.Partition", None)
    monkeypatch.setattr("lbi.chip.placement.projection_bits", None)
    fixed = maps(np.full((16, 2, 3, 3), 2), (2, 128, 128), padding=(1, 1))
    with pytest.raises(FitError, match="chips: network: at least 262144 cores, that is 2048 chips"):
        place(fixed, profile)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_grid_holds_every_neuron_once(channels, height, width, seed):
    rng = np.random.default_rng(seed)
    counts = tuple(int(rng.integers(1, n + 1)) for n in (channels, height, width))
    tiles = grid((channels, height, width), counts)
    assert len(tiles) == np.prod(counts)
    numbers = np.concatenate([tile.neurons for tile in tiles])
    assert np.sort(numbers).tolist() == list(range(channels * height * width))
    for axis in range(3):
        sizes = {tile.size[axis] for tile in tiles}
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_grid_has_fewer_tiles(seed):
    """Every grid there is, every tile of it measured on the unrolled matrix."""
    rng = np.random.default_rng(seed)
    weights = convolution(rng, (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(3, 7, 2))))
    projection = FixedProjection("p", "input", "a", weights, SignMode.MIXED)
    matrix = weights.to_csr().to_dense() != 0
    shape = weights.output_shape
    most, most_axons = int(rng.integers(1, 40)), int(rng.integers(20, 120))
    most_bits = int(rng.integers(1_000, 20_000))

    def axons(box: Box) -> int:
        return int(matrix[box.neurons].any(axis=0).sum())

    def fits(box: Box) -> bool:
        bits = shared_bits(projection, box, LOIHI1.layout)
        return box.n <= most and axons(box) <= most_axons and bits <= most_bits

    found = fewest_tiles(shape, most, fits, axons)
    every = [grid(shape, counts) for counts in product(*(range(1, n + 1) for n in shape))]
    fitting = [tiles for tiles in every if all(map(fits, tiles))]
    assert (found is None) == (not fitting)
    if found is not None:
        assert all(map(fits, found))
        assert len(found) == min(len(tiles) for tiles in fitting)


def definition(shape, fits, axons):
    """The least (tiles, input axons of the middle tile, counts) of all grids whose tiles all fit, without any order of search."""

    def middle(counts):
        spans = []
        for n, k in zip(shape, counts, strict=True):
            bounds = list(pairwise(n * i // k for i in range(k + 1)))
            inner = bounds[1:-1] or bounds
            half = len(inner) // 2
            spans.append(max(inner[half:] + inner[:half], key=lambda span: span[1] - span[0]))
        return Box(shape, *spans)

    every = product(*(range(1, n + 1) for n in shape))
    found = [
        (prod(counts), axons(middle(counts)), counts)
        for counts in every
        if all(map(fits, grid(shape, counts)))
    ]
    return grid(shape, min(found)[2]) if found else None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_search_finds_what_the_definition_says(seed):
    """Any tile may fit or not, and tells nothing of those around it; few different numbers of axons, so that ties are frequent."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 5)), int(rng.integers(1, 10)), int(rng.integers(1, 10)))
    most, share = int(rng.integers(1, prod(shape) + 1)), rng.choice([0.5, 0.9, 0.99, 1.0])
    drawn: dict[Box, tuple[bool, int]] = {}

    def of(box: Box) -> tuple[bool, int]:
        if box not in drawn:
            drawn[box] = (box.n <= most and rng.random() < share, int(rng.integers(0, 3)))
        return drawn[box]

    def fits(box: Box) -> bool:
        return of(box)[0]

    def axons(box: Box) -> int:
        return of(box)[1]

    assert fewest_tiles(shape, most, fits, axons) == definition(shape, fits, axons)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_neuron_grows_into_every_box_that_may_fit(seed):
    """A bound that grows with a box, and boxes within it that fit or not at random."""
    rng = np.random.default_rng(seed)
    shape = (2, 4, 3)
    most, share = int(rng.integers(0, 12)), rng.choice([0.0, 0.02, 0.1])
    neuron = tuple(int(rng.integers(0, n)) for n in shape)
    around = [
        [span for span in combinations(range(n + 1), 2) if span[0] <= at < span[1]]
        for n, at in zip(shape, neuron, strict=True)
    ]
    boxes = {Box(shape, *spans): False for spans in product(*around)}
    boxes |= {box: bool(rng.random() < share) for box in boxes if box.n <= most}
    found = can_grow_to_fit(neuron, shape, boxes.__getitem__, lambda box: box.n <= most)
    assert found == any(boxes.values())


def test_shared_rows_of_a_neuron_that_fits_no_core_end_the_search_too(monkeypatch):
    """18 inputs · 64 + 18 rows of 64 + 192 bits of state = 2496; two neurons have 24 inputs, and with their rows no less."""
    loihi2 = load_profile("loihi2").limits
    memory = dataclasses.replace(loihi2.core_memory, value=2495)
    limits = dataclasses.replace(LOIHI1.limits, core_memory=memory, axon_entry=loihi2.axon_entry)
    monkeypatch.setattr("lbi.chip.partition.fewest_tiles", None)
    fixed = maps(np.full((16, 2, 3, 3), 2), (2, 128, 128), padding=(1, 1))
    with pytest.raises(FitError, match=r"neuron \d+: 2496 memory bits"):
        place(fixed, dataclasses.replace(LOIHI1, limits=limits))


def test_two_convolutions_from_one_source_are_cut_like_their_sum():
    """Kernels 3 × 3 and 1 × 1 from the same inputs: the input axons are those of the larger window, counted once."""
    one = maps(np.full((1, 1, 3, 3), 2), (1, 16, 16), padding=(1, 1))
    more = ConvolutionWeights(Convolution(np.full((1, 1, 1, 1), 2, np.int16), (1, 1), (0, 0)), (1, 16, 16))
    second = FixedProjection("q", "input", "a", more, SignMode.MIXED)
    two = dataclasses.replace(one, projections=(*one.projections, second))
    placements = [place(fixed, with_limits(64)) for fixed in (one, two)]
    assert placements[0].chunks == placements[1].chunks
    assert placements[1].use["input_axons"].tolist() == [81] * 4
