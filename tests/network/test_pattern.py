"""A projection's pattern is where the framework's own layer has weights, and what estimates call dense."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from lbi import CsrMatrix, FixedNetwork, Network, quantize
from lbi.chip.load import load_profile
from lbi.chip.memory import projection_bits, sizes
from lbi.costing.estimation import estimate
from lbi.errors import InputError
from lbi.files import network_h5
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.pattern import density, n_positions, ones, without
from lbi.quantization.to_floats import dequantize
from lbi.simulation.run import simulate

torch = pytest.importorskip("torch")

SHAPE = (4, 7, 6)
CONVOLUTIONS = {
    "plain": {"kernel": (3, 4, 3, 3)},
    "padding": {"kernel": (3, 4, 3, 3), "padding": 1},
    "stride": {"kernel": (2, 4, 3, 2), "stride": (2, 1), "padding": (1, 0)},
    "dilation": {"kernel": (2, 4, 2, 2), "dilation": (2, 3)},
    "groups": {"kernel": (4, 2, 3, 3), "groups": 2},
    "depthwise": {"kernel": (4, 1, 2, 2), "groups": 4},
    "one_by_one": {"kernel": (3, 4, 1, 1)},
}


def reached(layer) -> np.ndarray:
    """(n_out, n_in) where torch's own layer, all its weights above 0, takes an input to an output."""
    unit = torch.eye(int(np.prod(SHAPE))).reshape(-1, *SHAPE)
    return layer(unit).flatten(1).T.numpy() > 0


def through(signal: Signal) -> Network:
    """The signal into one population."""
    builder = Builder(SHAPE)
    builder.neurons("a", "a", signal, current_decay=1.0, voltage_decay=0.5, threshold=1.0)
    return builder.network()


def places(pattern: CsrMatrix | None, shape: tuple[int, int]) -> np.ndarray:
    return np.ones(shape, bool) if pattern is None else pattern.to_dense() == 1


def pruned(rng: np.random.Generator, shape: tuple[int, ...], kept: float) -> np.ndarray:
    """A kernel of which that share is kept; no kept weight is so small that it rounds to zero."""
    kernel = np.where(
        rng.random(shape) < kept, rng.choice([-0.5, 1.0], shape) * rng.uniform(0.5, 1.0, shape), 0.0
    )
    kernel.flat[0] = 1.0
    return kernel


@pytest.mark.parametrize("kept", [1.0, 0.2])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolutions_pattern_is_torchs(name, kept, rng):
    options = dict(CONVOLUTIONS[name])
    shape = options.pop("kernel")
    network = through(Signal.spikes("input", SHAPE).conv2d(pruned(rng, shape, kept), **options))
    (projection,) = network.projections
    filled = torch.ones(shape)
    expected = reached(lambda x: torch.nn.functional.conv2d(x, filled, **options))
    assert np.array_equal(places(projection.pattern, projection.weights.shape), expected)
    assert n_positions(projection) == expected.sum()
    if isinstance(projection.weights, ConvolutionWeights):  # counted by kernels
        n_active, n_weights = np.count_nonzero(projection.weights.kernel), filled.numel()
    else:
        n_active, n_weights = projection.weights.nnz, int(expected.sum())
    assert (network.n_active, network.n_weights) == (n_active, n_weights)
    assert density(projection) == n_active / n_weights
    if kept == 1.0:
        assert density(projection) == 1.0


def test_layers_on_the_way_multiply_their_patterns(rng):
    """Pooling, then a pruned convolution; the last row and column are never pooled. A linear layer behind sees the rest."""
    functional = torch.nn.functional
    pooled = Signal.spikes("input", SHAPE).pool2d(2, 2, mean=True)
    kernel = pruned(rng, (3, 4, 2, 2), 0.3)
    (projection,) = through(pooled.conv2d(kernel)).projections
    expected = reached(lambda x: functional.conv2d(functional.avg_pool2d(x, 2), torch.ones(3, 4, 2, 2)))
    assert np.array_equal(places(projection.pattern, projection.weights.shape), expected)
    weights = pruned(rng, (5, pooled.n), 0.1)
    (projection,) = through(pooled.reshaped((pooled.n,)).linear(weights)).projections
    expected = reached(lambda x: functional.avg_pool2d(x, 2).flatten(1) @ torch.ones(pooled.n, 5))
    assert np.array_equal(places(projection.pattern, projection.weights.shape), expected)


def test_a_linear_layer_has_weights_everywhere(rng):
    signal = Signal.spikes("input", SHAPE).flattened()
    (projection,) = through(signal.linear(pruned(rng, (9, signal.n), 0.05))).projections
    assert projection.pattern is None
    assert density(projection) == projection.weights.nnz / (9 * signal.n)


def test_sums_join_patterns_and_parts_divide_them(rng):
    """A skip beside a convolution; neurons of two decays are two populations, each with its rows of the pattern."""
    spikes = Signal.spikes("input", SHAPE)
    signal = spikes.conv2d(pruned(rng, (4, 4, 3, 3), 0.2), padding=1) + spikes.scaled(0.5)
    builder = Builder(SHAPE)
    decays = np.where(np.arange(signal.n) % 3, 0.5, 0.25).reshape(SHAPE)
    builder.neurons("a", "a", signal, current_decay=1.0, voltage_decay=decays, threshold=1.0)
    signal = Signal.spikes("a", SHAPE).linear(np.ones((2, signal.n)))
    builder.neurons("b", "b", signal, current_decay=1.0, voltage_decay=0.5, threshold=1.0)
    network = builder.network()
    parts = [p for p in network.projections if p.source == "input"]
    assert len(parts) == 2
    filled = torch.ones(4, 4, 3, 3)
    expected = reached(lambda x: torch.nn.functional.conv2d(x, filled, padding=1))
    assert sum(map(n_positions, parts)) == expected.sum()
    rows = [np.flatnonzero(np.arange(decays.size) % 3 == 0), np.flatnonzero(np.arange(decays.size) % 3)]
    for part, chosen in zip(parts, rows, strict=True):
        assert np.array_equal(places(part.pattern, part.weights.shape), expected[chosen])


def integers(rng: np.random.Generator, kept: float) -> FixedNetwork:
    """A convolution, pruned or not, and a linear layer behind it."""
    builder = Builder(SHAPE)
    signal = Signal.spikes("input", SHAPE).conv2d(pruned(rng, (3, 4, 3, 3), kept), padding=1, stride=(2, 1))
    signal = builder.neurons("a", "a", signal, current_decay=1.0, voltage_decay=0.5, threshold=1.0)
    signal = signal.flattened().linear(pruned(rng, (5, signal.n), kept))
    builder.neurons("b", "b", signal, current_decay=1.0, voltage_decay=0.5, threshold=1.0)
    return quantize(builder.network())


def unrolled(fixed: FixedNetwork) -> FixedNetwork:
    """The convolution as a matrix with its pattern, as in networks that hold no kernels."""
    first = fixed.projections[0]
    assert first.pattern is not None
    first = replace(first, weights=first.weights.to_csr(), pattern=first.pattern.to_csr())
    return replace(fixed, projections=(first, fixed.projections[1]))


def test_files_keep_geometry_or_places(rng, tmp_path):
    fixed = unrolled(integers(rng, 0.3))
    path = tmp_path / "network.h5"
    network_h5.save(fixed, path)
    with h5py.File(path) as file:
        group = file["projections/input_to_a"]
        assert set(group["pattern"]) == {"kernel", "stride", "padding", "input_shape"}
        assert group["pattern/kernel"].shape == (3, 4, 3, 3)
        assert "pattern" not in file["projections/a_to_b"]
    again = network_h5.load(path)
    assert np.array_equal(again.projections[0].pattern.to_dense(), fixed.projections[0].pattern.to_dense())
    assert again.projections[1].pattern is None
    assert np.array_equal(
        dequantize(again).projections[0].pattern.to_dense(), fixed.projections[0].pattern.to_dense()
    )
    # Places that no kernel has: one is missing.
    pattern = fixed.projections[0].pattern
    unstored = np.flatnonzero(
        ~np.isin(pattern.to_dense() * np.arange(1, pattern.size + 1).reshape(pattern.shape), 0)
    )
    stored = np.flatnonzero(fixed.projections[0].weights.to_dense())
    gone = np.setdiff1d(unstored, stored)[0]
    removed = np.zeros(pattern.shape, np.int8)
    removed.flat[gone] = 1
    odd = replace(fixed.projections[0], pattern=without(pattern, CsrMatrix.from_dense(removed)))
    network_h5.save(replace(fixed, projections=(odd, fixed.projections[1])), path)
    with h5py.File(path) as file:
        assert set(file["projections/input_to_a/pattern"]) == {"indices", "indptr"}
    assert np.array_equal(network_h5.load(path).projections[0].pattern.to_dense(), odd.pattern.to_dense())
    with h5py.File(path, "r+") as file:  # as older versions write it
        del file.attrs["sha256"]
        del file["projections/input_to_a/pattern"]
    assert network_h5.load(path).projections[0].pattern is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel", np.ones((3, 4, 3), np.uint8)),
        ("kernel", np.ones((2, 4, 3, 3), np.uint8)),
        ("stride", np.array([0, 1])),
        ("padding", np.array([1])),
        ("input_shape", np.array([4, 7, 7])),
        ("input_shape", np.array([4, 0, 0])),
    ],
)
def test_a_damaged_geometry_is_refused(name, value, rng, tmp_path):
    path = tmp_path / "network.h5"
    network_h5.save(unrolled(integers(rng, 0.3)), path)
    with h5py.File(path, "r+") as file:
        group = file["projections/input_to_a/pattern"]
        del group[name]
        group[name] = value
    with pytest.raises(InputError, match=r"projections/input_to_a, (pattern|convolution)"):
        network_h5.load(path)


def test_a_weight_outside_the_pattern_is_refused(rng):
    fixed = integers(rng, 0.3)
    first = fixed.projections[0]
    one = CsrMatrix.from_dense(np.eye(*first.weights.shape, dtype=np.int8))
    with pytest.raises(InputError, match=r"pattern-weights: projection 'input_to_a': \d+ weights outside"):
        replace(fixed, projections=(replace(first, pattern=one), fixed.projections[1]))
    small = CsrMatrix.from_dense(np.ones((2, 2), np.int8))
    with pytest.raises(InputError, match=r"pattern-shape: projection 'input_to_a': \(2, 2\)"):
        replace(fixed, projections=(replace(first, pattern=small), fixed.projections[1]))


def test_an_unpruned_network_saves_nothing(rng):
    """Every weight of both layers is there: dense and sparse are the same network on the chip."""
    fixed = integers(rng, 1.0)
    assert sum(p.n_rounded_to_zero for p in fixed.projections) == 0
    spikes = (rng.random((3, 10, fixed.n_in)) < 0.2).astype(np.uint8)
    record = estimate(fixed, spikes=spikes).to_dict()
    assert record["density"] == 1.0
    for key in ("synops_per_step", "synaptic_memory_bits", "n_cores", "spikes_per_step"):
        assert record["ratio"][key] == 1.0, key
    assert record["neurobench"]["ConnectionSparsity"] == 0.0
    assert record["neurobench"]["Dense"] == 10 * sum(p.weights.nnz for p in fixed.projections)


def test_a_pruned_convolutions_dense_is_counted_by_hand(rng):
    """SynOps: every spike times its place's share of the full kernel. Memory: as if every weight of it were stored."""
    fixed = integers(rng, 0.25)
    first = fixed.projections[0]
    spikes = (rng.random((3, 10, fixed.n_in)) < 0.2).astype(np.uint8)
    filled = torch.ones(3, 4, 3, 3)
    expected = reached(lambda x: torch.nn.functional.conv2d(x, filled, padding=1, stride=(2, 1)))
    synops = int(spikes.sum(axis=(0, 1), dtype=np.int64) @ expected.sum(axis=0))
    record = estimate(fixed, spikes=spikes).to_dict()
    figures = record["projections"][0]
    assert figures["n_dense"] == expected.sum()
    assert figures["synops_dense_per_step"] == pytest.approx(synops / 30)
    assert figures["density"] == first.weights.nnz / expected.sum()
    behind = record["projections"][1]
    assert behind["n_dense"] == 5 * fixed.populations[0].n
    total = figures["synops_dense_per_step"] + behind["events_per_step"] * 5
    assert record["dense"]["synops_per_step"] == pytest.approx(total)
    profile = load_profile("loihi2")
    full = Convolution(np.full((3, 4, 3, 3), 2, dtype=np.int16), (2, 1), (1, 1))
    stored = replace(first, weights=ConvolutionWeights(full, SHAPE), pattern=None)
    assert figures["dense_bits"] == projection_bits(stored, sizes(fixed), profile).bits


def test_the_dense_layer_never_fetches_less_than_the_sparse_one(rng):
    """All spikes are at the places of most weights, whose fan-out is above the mean."""
    fixed = integers(rng, 0.9)
    first = fixed.projections[0]
    spikes = np.zeros((1, 4, fixed.n_in), np.uint8)
    spikes[..., first.weights.fan_out() == first.weights.fan_out().max()] = 1
    assert first.weights.nnz < n_positions(first)
    figures = estimate(fixed, simulate(fixed, spikes)).projections[0]
    assert figures.synops_dense_per_step >= figures.synops_effective_per_step
    assert n_positions(first) / fixed.n_in * spikes.sum() / 4 < figures.synops_effective_per_step


def test_totals_alone_give_the_mean_fan_out_and_say_so(rng):
    fixed = integers(rng, 0.25)
    spikes = (rng.random((3, 10, fixed.n_in)) < 0.2).astype(np.uint8)
    result = estimate(fixed, simulate(fixed, spikes))
    first = fixed.projections[0]
    mean = n_positions(first) / fixed.n_in
    assert result.projections[0].synops_dense_per_step == pytest.approx(spikes.sum() / 30 * mean, rel=0.02)
    assert any("mean fan-out" in note for note in result.notes())
    exact = estimate(fixed, simulate(fixed, spikes, record=("spikes", "active")), spikes=spikes)
    assert not any("mean fan-out" in note for note in exact.notes())
    simulated = estimate(fixed, spikes=spikes).projections
    assert [p.to_dict() for p in exact.projections] == [p.to_dict() for p in simulated]
    worst = estimate(fixed)
    assert worst.projections[0].synops_dense_per_step == n_positions(first)


def test_ones_of_a_full_matrix_is_no_pattern():
    assert ones(CsrMatrix.from_dense(np.array([[3, 4]]))) is None
    assert ones(CsrMatrix.from_dense(np.array([[3, 0]]))).to_dense().tolist() == [[1, 0]]
