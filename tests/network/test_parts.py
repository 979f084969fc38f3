"""Parts of feature maps, and what reaches them: against index arrays and the unrolled matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_kernels import convolution

from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.parts import Box, Run


def random_part(rng: np.random.Generator, shape: tuple[int, int, int]) -> Box | Run:
    if rng.random() < 0.5:
        start, stop = sorted(rng.integers(0, np.prod(shape) + 1, 2))
        return Run(int(start), int(stop))
    spans = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
    return Box(shape, *((int(first), int(last)) for first, last in spans))


@given(st.integers(0, 2**32 - 1))
def test_neurons_runs_and_boxes_are_the_same_neurons(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, 3))
    part = random_part(rng, shape)
    numbers = np.arange(np.prod(shape))
    if isinstance(part, Box):
        spans = (slice(*part.channels), slice(*part.rows), slice(*part.columns))
        expected = numbers.reshape(shape)[spans].ravel()
    else:
        expected = numbers[part.start : part.stop]
    assert part.n == expected.size
    assert numbers[part.neurons].tolist() == expected.tolist()
    assert [i for start, stop in part.runs for i in range(start, stop)] == expected.tolist()
    other = (1, int(np.prod(shape)), 1) if rng.random() < 0.5 else shape
    boxes = part.boxes(other)
    assert sorted(i for box in boxes for i in box.neurons.tolist()) == expected.tolist()
    assert all(box.shape == other for box in boxes)
    assert len(boxes) <= 5 or isinstance(part, Box)


def test_a_run_is_up_to_five_boxes():
    """Of 4 channels of 3 × 5: the rest of a row, a row to the end, a channel, a row, a part of a row."""
    boxes = Run(7, 38).boxes((4, 3, 5))
    spans = [(box.channels, box.rows, box.columns) for box in boxes]
    assert spans == [
        ((0, 1), (1, 2), (2, 5)),
        ((0, 1), (2, 3), (0, 5)),
        ((1, 2), (0, 3), (0, 5)),
        ((2, 3), (0, 1), (0, 5)),
        ((2, 3), (1, 2), (0, 3)),
    ]


@given(st.integers(0, 2**32 - 1))
def test_synapses_per_source_equal_the_unrolled_matrix(seed):
    rng = np.random.default_rng(seed)
    weights = convolution(rng, (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(3, 10, 2))))
    part = random_part(rng, weights.output_shape)
    rows = weights.to_csr().to_dense()[part.neurons] != 0
    expected = {j: int(n) for j, n in enumerate(rows.sum(axis=0)) if n}
    for form in (weights, weights.to_csr()):
        sources, counts = form.synapses_per_source(part)
        assert (sources.dtype, counts.dtype) == (np.int32, np.int32)
        assert dict(zip(sources.tolist(), counts.tolist(), strict=True)) == expected
        assert np.all(np.diff(sources) > 0)


@given(st.integers(0, 2**32 - 1))
def test_distinct_rows_are_those_that_differ_in_what_is_stored(seed):
    """On the unrolled matrix, with a weight of its own for every tap: a row is its weights and the distances between them."""
    rng = np.random.default_rng(seed)
    weights = convolution(rng, (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(3, 8, 2))))
    weights, _ = weights.with_data(np.arange(1, weights.n_parameters + 1))
    part = random_part(rng, weights.output_shape)
    box = part if isinstance(part, Box) else (part.boxes(weights.output_shape) or (None,))[0]
    if box is None:
        return
    rows = set()
    for column in weights.to_csr().to_dense()[box.neurons].T.tolist():
        stored = [(target, weight) for target, weight in enumerate(column) if weight]
        if stored:
            rows.add(tuple((target - stored[0][0], weight) for target, weight in stored))
    assert sorted(weights.window(box).distinct_rows().tolist()) == sorted(map(len, rows))


def test_large_kernels_have_more_taps_than_a_number_has_bits():
    """9 × 9 = 81 taps with weights at (0, 0) and (8, 8), 17 × 17 → 9 × 9: inputs under one of them, and (8, 8) under both."""
    kernel = np.zeros((1, 1, 9, 9), dtype=np.int16)
    kernel[0, 0, 0, 0], kernel[0, 0, 8, 8] = 2, 4
    weights = ConvolutionWeights(Convolution(kernel, (1, 1), (0, 0)), (1, 17, 17))
    assert sorted(weights.window(Box((1, 9, 9), (0, 1), (0, 9), (0, 9))).distinct_rows()) == [1, 1, 2]


def test_an_empty_run_reaches_nothing():
    weights = convolution(np.random.default_rng(0), (1, 5, 5))
    sources, counts = weights.synapses_per_source(Run(2, 2))
    assert sources.size == counts.size == 0


@pytest.mark.parametrize("size", [(3, 3), (1, 2)])
def test_rows_that_are_translations_have_equal_weights_at_equal_distances(size):
    """What sharing relies on: sources under the same taps differ by a translation only, on the unrolled matrix."""
    rng = np.random.default_rng(1)
    kernel = rng.integers(1, 100, (2, 1, *size))
    weights = ConvolutionWeights(Convolution(kernel, (1, 1), (1, 1)), (1, 6, 6))
    _, height, width = weights.output_shape
    columns = weights.to_csr().to_dense().T.reshape(6, 6, 2, height, width)
    inner = [columns[y, x] for y in (2, 3) for x in (2, 3)]
    shifted = [np.roll(row, (-(i // 2), -(i % 2)), (1, 2)) for i, row in enumerate(inner)]
    assert all(np.array_equal(row, shifted[0]) for row in shifted)
