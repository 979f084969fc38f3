"""Parts of feature maps, and what reaches them: against index arrays and the unrolled matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_kernels import convolution

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
def test_distinct_rows_are_the_rows_of_a_channel_by_their_taps(seed):
    """Walks over every source and output in Python: a source's key is its channel and the taps over it."""
    rng = np.random.default_rng(seed)
    weights = convolution(rng, (int(rng.integers(1, 3)), *(int(n) for n in rng.integers(3, 8, 2))))
    part = random_part(rng, weights.output_shape)
    box = part if isinstance(part, Box) else (part.boxes(weights.output_shape) or (None,))[0]
    if box is None:
        return
    conv, kernel = weights.convolution, weights.kernel
    n_in, height, width = weights.input_shape
    per_out = kernel.shape[0] // conv.groups
    rows: dict[tuple, int] = {}
    for c in range(n_in):
        for y in range(height):
            for x in range(width):
                down, across = [], []
                for i in range(kernel.shape[2]):
                    out, rest = divmod(y + conv.padding[0] - i * conv.dilation[0], conv.stride[0])
                    down += [i] * (rest == 0 and box.rows[0] <= out < box.rows[1])
                for j in range(kernel.shape[3]):
                    out, rest = divmod(x + conv.padding[1] - j * conv.dilation[1], conv.stride[1])
                    across += [j] * (rest == 0 and box.columns[0] <= out < box.columns[1])
                group, within = divmod(c, kernel.shape[1])
                outs = [k for k in range(*box.channels) if k // per_out == group]
                n = sum(int(kernel[k, within, i, j] != 0) for k in outs for i in down for j in across)
                if n:
                    rows[c, tuple(down), tuple(across)] = n
    assert sorted(weights.window(box).distinct_rows().tolist()) == sorted(rows.values())


def test_an_empty_run_reaches_nothing():
    weights = convolution(np.random.default_rng(0), (1, 5, 5))
    sources, counts = weights.synapses_per_source(Run(2, 2))
    assert sources.size == counts.size == 0


@pytest.mark.parametrize("size", [(3, 3), (1, 2)])
def test_rows_that_are_translations_have_equal_weights_at_equal_distances(size):
    """What sharing relies on: sources under the same taps differ by a translation only, on the unrolled matrix."""
    from lbi.network.convolution import Convolution
    from lbi.network.kernels import ConvolutionWeights

    rng = np.random.default_rng(1)
    kernel = rng.integers(1, 100, (2, 1, *size))
    weights = ConvolutionWeights(Convolution(kernel, (1, 1), (1, 1)), (1, 6, 6))
    _, height, width = weights.output_shape
    columns = weights.to_csr().to_dense().T.reshape(6, 6, 2, height, width)
    inner = [columns[y, x] for y in (2, 3) for x in (2, 3)]
    shifted = [np.roll(row, (-(i // 2), -(i % 2)), (1, 2)) for i, row in enumerate(inner)]
    assert all(np.array_equal(row, shifted[0]) for row in shifted)
