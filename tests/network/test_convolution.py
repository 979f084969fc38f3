"""Convolutions as matrices equal torch's results, and are recovered from the matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.random_convolutions import convolutions

from lbi.network.convolution import Convolution, expand, find
from lbi.network.csr import CsrMatrix


@given(convolutions())
def test_the_matrix_is_torchs_convolution(case):
    torch = pytest.importorskip("torch")
    conv, shape = case
    x = np.random.default_rng(0).integers(0, 5, shape)
    expected = torch.nn.functional.conv2d(
        torch.tensor(x[None], dtype=torch.float64),
        torch.tensor(conv.kernel, dtype=torch.float64),
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
    )
    assert conv.output_shape(shape) == expected.shape[1:]
    np.testing.assert_array_equal(expand(conv, shape).to_scipy() @ x.ravel(), expected.numpy().ravel())


@given(convolutions())
def test_what_is_found_expands_to_the_matrix(case):
    conv, shape = case
    matrix = expand(conv, shape)
    found = find(matrix, shape, conv.output_shape(shape))
    if (
        conv.padding == (0, 0) and matrix.nnz
    ):  # else the stride may not show: one tap may reach one place only
        assert found is not None
    if found is not None:
        assert found.output_shape(shape) == conv.output_shape(shape)
        assert expand(found, shape) == matrix


@given(convolutions(), st.data())
def test_what_differs_in_one_synapse_is_none_or_another(case, data):
    """One weight changed or dropped: no convolution any more, unless a kernel that reads each tap once."""
    conv, shape = case
    matrix = expand(conv, shape)
    assume(matrix.nnz > 0)
    values = matrix.data.copy()
    values[data.draw(st.integers(0, matrix.nnz - 1))] += data.draw(st.sampled_from([7, 0, -7]))
    dropped = matrix.with_data(np.where(np.arange(values.size) == values.size // 2, 0, values))[0]
    for other in (matrix.with_data(values)[0], dropped):
        found = find(other, shape, conv.output_shape(shape))
        assert found is None or expand(found, shape) == other


def test_a_dense_matrix_is_none(rng):
    matrix = CsrMatrix.from_dense(rng.normal(size=(2 * 5 * 5, 3 * 6 * 6)))
    assert find(matrix, (3, 6, 6), (2, 5, 5)) is None
    assert find(matrix, (108,), (50,)) is None


def test_stride_and_padding_come_out():
    kernel = np.arange(1, 19).reshape(2, 1, 3, 3)
    conv = Convolution(kernel, (2, 1), (1, 0))
    found = find(expand(conv, (1, 9, 8)), (1, 9, 8), conv.output_shape((1, 9, 8)))
    assert (found.stride, found.padding) == ((2, 1), (1, 0))
    np.testing.assert_array_equal(found.kernel, kernel)
