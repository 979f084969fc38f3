"""The CSR record against scipy, and its refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from lbi import CsrMatrix
from lbi.errors import InputError

MATRICES = arrays(np.int16, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(-2, 2))


@given(MATRICES)
def test_round_trips_and_counts(dense):
    csr = CsrMatrix.from_dense(dense)
    assert np.array_equal(csr.to_dense(), dense)
    assert np.array_equal(csr.to_scipy().toarray(), dense)
    assert CsrMatrix.from_scipy(sparse.coo_matrix(dense)) == csr
    assert csr.nnz == np.count_nonzero(dense)
    assert csr.fan_in().tolist() == np.count_nonzero(dense, axis=1).tolist()
    assert csr.fan_out().tolist() == np.count_nonzero(dense, axis=0).tolist()


@given(MATRICES, st.integers(0, 3))
def test_new_values_drop_zeros(dense, lost):
    csr = CsrMatrix.from_dense(dense)
    values = csr.data.copy()
    values[:lost] = 0
    changed, kept = csr.with_data(values)
    expected = dense.copy()
    expected[csr.row_of()[:lost], csr.indices[:lost]] = 0
    assert np.array_equal(changed.to_dense(), expected)
    assert np.array_equal(csr.data[kept], changed.data)


def test_stored_zeros_and_duplicates_of_scipy_are_cleaned():
    messy = sparse.csr_matrix(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    assert CsrMatrix.from_scipy(messy) == CsrMatrix.from_dense([[0.0, 3.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("data", "indices", "indptr", "code"),
    [
        ([1.0, np.nan], [0, 1], [0, 1, 2], "not-finite"),
        ([1.0, 0.0], [0, 1], [0, 1, 2], "csr-stored-zero"),
        ([1.0, 1.0], [1, 0], [0, 2, 2], "csr-order"),
        ([1.0, 1.0], [1, 1], [0, 2, 2], "csr-order"),
        ([1.0, 1.0], [0, 3], [0, 1, 2], "csr-index"),
        ([1.0, 1.0], [0, -1], [0, 1, 2], "csr-index"),
        ([1.0, 1.0], [0, 1], [0, 2, 1], "csr-indptr"),
        ([1.0, 1.0], [0, 1], [0, 2], "csr-indptr"),
        ([1.0], [0, 1], [0, 1, 2], "csr-indptr"),
    ],
)
def test_refuses_what_is_not_canonical(data, indices, indptr, code):
    with pytest.raises(InputError, match=code):
        CsrMatrix(np.array(data), np.array(indices), np.array(indptr), (2, 2))


def test_arrays_cannot_be_written():
    csr = CsrMatrix.from_dense(np.eye(2))
    with pytest.raises(ValueError, match="read-only"):
        csr.data[0] = 5.0
