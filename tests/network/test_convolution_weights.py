"""Weights in the form of kernels agree with the matrix of torch's convolution in every count and sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_convolutions import convolutions

from lbi.errors import InputError
from lbi.network.convolution import Convolution, expand
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix


@given(convolutions(), st.data())
def test_every_count_is_that_of_the_matrix(case, data):
    conv, shape = case
    weights, matrix = ConvolutionWeights(conv, shape), expand(conv, shape)
    assert weights.to_csr() == matrix
    assert (weights.shape, weights.nnz, weights.n_parameters) == (
        matrix.shape,
        matrix.nnz,
        np.count_nonzero(conv.kernel),
    )
    np.testing.assert_array_equal(weights.fan_in(), matrix.fan_in())
    np.testing.assert_array_equal(weights.fan_out(), matrix.fan_out())
    np.testing.assert_array_equal(weights.sum_rows(weights.data), matrix.to_dense().sum(axis=1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    targets, sources = (rng.random(n) < 0.5 for n in matrix.shape)
    dense = matrix.to_dense()
    for values in (weights, matrix):
        np.testing.assert_array_equal(values.sum_rows(values.data, sources), dense[:, sources].sum(axis=1))
        np.testing.assert_array_equal(values.sum_columns(values.data, targets), dense[targets].sum(axis=0))
        np.testing.assert_array_equal(values.sum_columns(values.data), dense.sum(axis=0))
        np.testing.assert_array_equal(values.reaching(targets), (dense[targets] != 0).any(axis=0))
    start = data.draw(st.integers(0, matrix.shape[0]))
    stop = data.draw(st.integers(start, matrix.shape[0]))
    np.testing.assert_array_equal(weights.columns(start, stop), matrix.columns(start, stop))


@given(convolutions(), st.integers(0, 2**32 - 1))
def test_new_values_and_the_pattern_are_those_of_the_matrix(case, seed):
    conv, shape = case
    weights = ConvolutionWeights(conv, shape)
    values = np.random.default_rng(seed).integers(-1, 2, weights.n_parameters)
    changed, kept = weights.with_data(values)
    kernel = np.zeros_like(conv.kernel)
    kernel[conv.kernel != 0] = values
    assert changed.to_csr() == expand(conv._replace(kernel=kernel), shape)
    np.testing.assert_array_equal(kept, np.flatnonzero(values))
    whole = expand(conv._replace(kernel=np.ones(conv.kernel.shape, dtype=np.int8)), shape)
    assert weights.pattern().to_csr() == whole
    assert weights == ConvolutionWeights(conv, shape) != changed or np.array_equal(kernel, conv.kernel)


@given(convolutions(), st.integers(0, 2**32 - 1))
def test_parts_are_those_of_the_matrix(case, seed):
    """Channels chosen on both sides; of a convolution with groups, whole groups."""
    conv, shape = case
    rng = np.random.default_rng(seed)
    n_out, n_in = conv.kernel.shape[0], shape[0]
    outs, ins = rng.random(n_out) < 0.7, rng.random(n_in) < 0.7
    if conv.groups > 1:
        chosen = rng.random(conv.groups) < 0.7
        outs, ins = chosen.repeat(n_out // conv.groups), chosen.repeat(n_in // conv.groups)
    if not (outs.any() and ins.any()):
        return
    weights = ConvolutionWeights(conv, shape)
    rows, columns = outs.repeat(weights.shape[0] // n_out), ins.repeat(weights.shape[1] // n_in)
    dense = weights.to_dense()
    np.testing.assert_array_equal(weights.of_channels(outs, ins).to_dense(), dense[rows][:, columns])
    restricted = weights.restricted(outs, ins).to_dense()
    np.testing.assert_array_equal(restricted, dense * rows[:, None] * columns)


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({"kernel": np.ones((2, 3, 2, 2))}, (2, 4, 4), "convolution-kernel"),
        ({"groups": 0}, (2, 4, 4), "convolution-kernel"),
        ({"groups": 3}, (6, 4, 4), "convolution-kernel"),
        ({}, (2, 1 << 11, 1 << 11), "convolution-kernel"),
        ({"kernel": np.full((2, 2, 2, 2), np.nan)}, (2, 4, 4), "not-finite"),
        ({"kernel": np.full((2, 2, 2, 2), "a")}, (2, 4, 4), "not-finite"),
        ({"stride": (0, 1)}, (2, 4, 4), "strides"),
        ({"padding": (1 << 40, 0)}, (2, 4, 4), "an output of 1 to"),
        ({"dilation": (9, 9)}, (2, 4, 4), "an output of 1 to"),
    ],
)
def test_what_is_no_convolution_is_refused(change, shape, message):
    conv = Convolution(np.ones((2, 2, 2, 2)), (1, 1), (0, 0))._replace(**change)
    with pytest.raises(InputError, match=message):
        ConvolutionWeights(conv, shape)


def test_too_many_synapses_are_not_unrolled():
    weights = ConvolutionWeights(Convolution(np.ones((16, 64, 3, 3)), (1, 1), (1, 1)), (64, 256, 256))
    assert weights.nnz == 16 * 64 * (3 * 256 - 2) ** 2
    with pytest.raises(InputError, match="unrolled-size"):
        weights.to_csr()


def test_the_kernels_are_a_copy_that_nothing_writes_to():
    kernel = np.ones((1, 1, 1, 1))
    weights = ConvolutionWeights(Convolution(kernel, (1, 1), (0, 0)), (1, 2, 2))
    kernel[:] = 2
    assert weights.to_csr() == CsrMatrix.from_dense(np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        weights.kernel[:] = 3
