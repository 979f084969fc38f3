"""A convolution's matrix is recognised with its kernels, groups and dilation; other matrices stay as they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from support.random_convolutions import convolutions

from lbi.network.convolution import Convolution, expand
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix
from lbi.network.recognition import recognised


@given(convolutions())
def test_what_is_recognised_is_the_matrix(case):
    conv, shape = case
    stored = ConvolutionWeights(conv, shape)
    pattern = stored.pattern().to_csr()
    found, places = recognised(stored.to_csr(), pattern, shape, stored.output_shape)
    assert found.to_csr() == stored.to_csr()
    own = found.pattern() if places is None else places
    assert (own is None and pattern.nnz == pattern.size) or own.to_csr() == pattern


def test_groups_and_dilation_come_back(rng):
    kernel = rng.integers(1, 9, (6, 2, 3, 2)) * (rng.random((6, 2, 3, 2)) < 0.5)
    conv = Convolution(kernel, (1, 2), (2, 1), (2, 3), 3)
    stored = ConvolutionWeights(conv, (6, 12, 13))
    found, places = recognised(
        stored.to_csr(), stored.pattern().to_csr(), stored.input_shape, stored.output_shape
    )
    assert found == stored
    assert places is None


def test_a_pool_is_a_convolution_of_one_group_per_channel():
    conv = Convolution(np.full((4, 1, 2, 2), 0.25), (2, 2), (0, 0), groups=4)
    matrix = expand(conv, (4, 8, 8))
    pattern = CsrMatrix(np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr, matrix.shape)
    found, _ = recognised(matrix, pattern, (4, 8, 8), (4, 4, 4))
    assert found == ConvolutionWeights(conv, (4, 8, 8))


def test_a_matrix_that_shares_nothing_stays(rng):
    matrix = CsrMatrix.from_dense(rng.normal(size=(32, 32)) * (rng.random((32, 32)) < 0.2))
    ones = CsrMatrix(np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr, matrix.shape)
    found, places = recognised(matrix, ones, (2, 4, 4), (2, 4, 4))
    assert found is matrix
    assert places is ones
    assert recognised(matrix, None, (2, 4, 4), (2, 4, 4)) == (matrix, None)
