"""The interface of a projection's weights, and their usual form: canonical compressed sparse rows.

The other form is ``lbi.network.convolution_weights.ConvolutionWeights``, kernels whose values many synapses share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.network.parts import Part
from lbi.network.values import read_only

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SHAPE = Rule("csr-shape", "two sizes of at least 0")
DTYPE = Rule("csr-dtype", "integers or floats")
RANK = Rule("csr-rank")
INDPTR = Rule("csr-indptr", "{n} rising entries from 0 to the number of values")
INDEX = Rule("csr-index", "0 to {most}")
ORDER = Rule("csr-order", fix="sum duplicates and sort (CsrMatrix.from_scipy does)")
FINITE = Rule("not-finite", "finite numbers")
STORED_ZERO = Rule("csr-stored-zero", "none", "drop them (CsrMatrix.from_scipy does)")
DENSE_RANK = Rule("csr-rank", "(n_out, n_in)")


class Weights(ABC):
    """Weights (n_target, n_source) of a projection; immutable, finite, without stored zeros."""

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, int]:
            """(n_target, n_source)."""

        @property
        def data(self) -> NDArray[Any]:
            """(n_parameters,) stored values: one per synapse of CSR, one per nonzero of a kernel."""

    @property
    @abstractmethod
    def nnz(self) -> int:
        """Number of synapses: pairs of neurons with a nonzero weight."""

    @property
    def n_parameters(self) -> int:
        """Number of stored values."""
        return int(self.data.size)

    @property
    def size(self) -> int:
        """Number of pairs of neurons, ``n_target · n_source``."""
        return self.shape[0] * self.shape[1]

    @property
    def density(self) -> float:
        """``nnz / size``; 0 for an empty matrix."""
        return self.nnz / self.size if self.size else 0.0

    @abstractmethod
    def fan_in(self) -> NDArray[np.int64]:
        """(n_target,) synapses per row."""

    @abstractmethod
    def fan_out(self) -> NDArray[np.int64]:
        """(n_source,) synapses per column."""

    @abstractmethod
    def sum_rows(self, values: ArrayLike, sources: ArrayLike | None = None) -> NDArray[np.float64]:
        """(n_target,) sum over each row's synapses of the value that stands in place of its weight.

        Args:
            values: (n_parameters,) in the order of ``data``.
            sources: (n_source,) True for the columns that count; None for all.

        Returns:
            The sums; exact for integers below 2^53.
        """

    @abstractmethod
    def sum_columns(self, values: ArrayLike, targets: ArrayLike | None = None) -> NDArray[np.float64]:
        """(n_source,) sum over each column's synapses of the value that stands in place of its weight.

        Args:
            values: (n_parameters,) in the order of ``data``.
            targets: (n_target,) True for the rows that count; None for all.

        Returns:
            The sums; exact for integers below 2^53.
        """

    def reaching(self, targets: ArrayLike) -> NDArray[np.bool_]:
        """(n_source,) True for sources with a synapse to one of these targets.

        Args:
            targets: (n_target,) bools.

        Returns:
            (n_source,) bools.
        """
        return self.sum_columns(np.ones(self.n_parameters), targets) > 0

    @abstractmethod
    def columns(self, start: int, stop: int) -> NDArray[np.int32]:
        """The sources of all synapses of rows ``start`` to ``stop`` − 1, row after row.

        Args:
            start: first row.
            stop: one past the last row.

        Returns:
            Column indices, rising within a row.
        """

    @abstractmethod
    def synapses_per_source(self, part: Part) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Sources (rising) with synapses onto a part of the target, and the number of synapses of each.

        Args:
            part: some target neurons.

        Returns:
            The sources and their numbers of synapses, both int32.
        """

    @abstractmethod
    def with_data(self, data: ArrayLike) -> tuple[Weights, NDArray[np.intp]]:
        """The same weights with new values, without their zeros, and the positions of the kept values.

        Args:
            data: (n_parameters,) values.

        Returns:
            The weights and the positions.
        """

    @abstractmethod
    def pattern(self) -> Weights | None:
        """Int8 ones where the form allows a weight, zero or not; None: everywhere."""

    @abstractmethod
    def to_csr(self) -> CsrMatrix:
        """The same weights as CSR, made on first use and kept."""

    def to_dense(self) -> NDArray[Any]:
        """The weights as a 2-D array of the same type."""
        return self.to_csr().to_dense()

    def to_scipy(self) -> csr_matrix:
        """A copy as ``scipy.sparse.csr_matrix`` (Lava does not accept ``csr_array``)."""
        from scipy.sparse import csr_matrix

        matrix = self.to_csr()
        index = np.int32 if matrix.nnz < 2**31 else np.int64
        return csr_matrix(
            (matrix.data.copy(), matrix.indices.astype(index), matrix.indptr.astype(index)), shape=self.shape
        )


@dataclass(frozen=True, eq=False)
class CsrMatrix(Weights):
    """A canonical CSR matrix ``(n_rows, n_cols)``: row ``i`` holds ``data[indptr[i]:indptr[i+1]]``.

    Canonical means: indices rise within each row, without duplicates or stored zeros; all values are finite.
    Rows are post-synaptic neurons, columns pre-synaptic ones.

    Attributes:
        data: (nnz,) float or int.
        indices: (nnz,) int32.
        indptr: (n_rows + 1,) int64.
        shape: (n_rows, n_cols).

    Raises:
        InputError: naming every broken rule.
    """

    data: NDArray[Any]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))
        for name, dtype in (("data", None), ("indices", np.int32), ("indptr", np.int64)):
            object.__setattr__(self, name, read_only(getattr(self, name), dtype, name))
        self._check()

    def _check(self) -> None:
        problems = Problems()
        rows, cols = self.shape
        data, indices, indptr = self.data, self.indices, self.indptr
        SHAPE.check(problems, rows >= 0 and cols >= 0, "shape", self.shape)
        DTYPE.check(problems, data.dtype.kind in "iuf", "data", f"type {data.dtype}")
        RANK.check(problems, data.ndim == indices.ndim == indptr.ndim == 1, "arrays", "not one-dimensional")
        problems.raise_as(InputError)
        rises = (
            indptr.size == rows + 1
            and indptr[0] == 0
            and indptr[-1] == data.size == indices.size
            and bool(np.all(np.diff(indptr) >= 0))
        )
        found = f"{indptr.size} entries over {data.size} values and {indices.size} indices"
        INDPTR.check(problems, rises, "indptr", found, n=rows + 1)
        problems.raise_as(InputError)
        if data.size:
            least, most = indices.min(), indices.max()
            INDEX.check(problems, least >= 0 and most < cols, "indices", f"{least} to {most}", most=cols - 1)
            within_row = np.ones(data.size, dtype=bool)
            starts = indptr[:-1]
            within_row[starts[starts < data.size]] = False
            rises = bool(np.all((np.diff(indices) > 0) | ~within_row[1:]))
            ORDER.check(problems, rises, "indices", "not strictly rising within a row")
            n_bad = int(np.count_nonzero(~np.isfinite(data)))
            FINITE.check(problems, n_bad == 0, "data", f"{n_bad} NaN or infinite values")
            n_zero = int(np.count_nonzero(data == 0))
            STORED_ZERO.check(problems, n_zero == 0, "data", f"{n_zero} stored zeros")
        problems.raise_as(InputError)

    @property
    def nnz(self) -> int:
        """Number of stored (nonzero) synapses."""
        return int(self.data.size)

    def row_of(self) -> NDArray[np.int32]:
        """(nnz,) row of each stored value."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.indptr))

    def fan_in(self) -> NDArray[np.int64]:
        """(n_rows,) stored synapses per row."""
        return np.diff(self.indptr)

    def fan_out(self) -> NDArray[np.int64]:
        """(n_cols,) stored synapses per column."""
        return np.bincount(self.indices, minlength=self.shape[1]).astype(np.int64)

    def sum_rows(self, values: ArrayLike, sources: ArrayLike | None = None) -> NDArray[np.float64]:
        """(n_rows,) sum over each row's synapses of the value that stands in place of its weight.

        Args:
            values: (nnz,) in the order of ``data``.
            sources: (n_cols,) True for the columns that count; None for all.

        Returns:
            The sums; exact for integers below 2^53.
        """
        chosen = np.asarray(values) if sources is None else values * np.asarray(sources)[self.indices]
        return np.bincount(self.row_of(), chosen, self.shape[0]).astype(np.float64)

    def sum_columns(self, values: ArrayLike, targets: ArrayLike | None = None) -> NDArray[np.float64]:
        """(n_cols,) sum over each column's synapses of the value that stands in place of its weight.

        Args:
            values: (nnz,) in the order of ``data``.
            targets: (n_rows,) True for the rows that count; None for all.

        Returns:
            The sums; exact for integers below 2^53.
        """
        chosen = np.asarray(values) if targets is None else values * np.asarray(targets)[self.row_of()]
        return np.bincount(self.indices, chosen, self.shape[1]).astype(np.float64)

    def columns(self, start: int, stop: int) -> NDArray[np.int32]:
        """The columns of all stored values of rows ``start`` to ``stop`` − 1, row after row.

        Args:
            start: first row.
            stop: one past the last row.

        Returns:
            Column indices, rising within a row.
        """
        return self.indices[self.indptr[start] : self.indptr[stop]]

    def synapses_per_source(self, part: Part) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Sources (rising) with synapses onto a part of the target, and the number of synapses of each.

        Args:
            part: some target neurons.

        Returns:
            The sources and their numbers of synapses, both int32.
        """
        parts = [self.columns(start, stop) for start, stop in part.runs]
        columns = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype=np.int32), *parts])
        if columns.size * 8 < self.shape[1]:
            sources, counts = np.unique(columns, return_counts=True)
        else:
            per_source = np.bincount(columns, minlength=1)
            sources = np.flatnonzero(per_source)
            counts = per_source[sources]
        return sources.astype(np.int32), counts.astype(np.int32)

    def pattern(self) -> None:
        """None: a weight may be anywhere."""
        return

    def to_csr(self) -> CsrMatrix:
        """The matrix itself."""
        return self

    def with_data(self, data: ArrayLike) -> tuple[CsrMatrix, NDArray[np.intp]]:
        """The same pattern with new values, without their zeros, and the positions of the kept entries.

        Args:
            data: (nnz,) values.

        Returns:
            The matrix and the positions.
        """
        values = np.asarray(data)
        kept = np.flatnonzero(values)
        if kept.size == values.size:
            return CsrMatrix(values, self.indices, self.indptr, self.shape), kept
        counts = np.bincount(self.row_of()[kept], minlength=self.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return CsrMatrix(*_given_away(values[kept], self.indices[kept], indptr), self.shape), kept

    @classmethod
    def from_dense(cls, dense: ArrayLike) -> CsrMatrix:
        """A matrix from a 2-D array; exact zeros are not stored.

        Args:
            dense: (n_rows, n_cols).

        Returns:
            The matrix, with values of the array's type.

        Raises:
            InputError: for another rank, and for NaN or infinite values.
        """
        dense = np.asarray(dense)
        if dense.ndim != 2:
            raise InputError(DENSE_RANK.broken("weights", f"{dense.ndim} dimensions"))
        rows, cols = np.nonzero(dense)
        counts = np.bincount(rows, minlength=dense.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        parts = _given_away(dense[rows, cols], cols.astype(np.int32), indptr)
        return cls(*parts, (dense.shape[0], dense.shape[1]))

    @classmethod
    def from_scipy(cls, matrix: Any) -> CsrMatrix:
        """A matrix from any scipy sparse matrix; duplicates are summed and stored zeros dropped.

        Args:
            matrix: the matrix.

        Returns:
            The matrix, sorted and without stored zeros.
        """
        csr = matrix.tocsr(copy=True)
        csr.sum_duplicates()
        csr.eliminate_zeros()
        return cls(*_given_away(csr.data, csr.indices, csr.indptr), csr.shape)

    def to_dense(self) -> NDArray[Any]:
        """The matrix as a 2-D array of the same type."""
        dense = np.zeros(self.shape, dtype=self.data.dtype)
        dense[self.row_of(), self.indices] = self.data
        return dense

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CsrMatrix):
            return NotImplemented
        return self.shape == other.shape and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("data", "indices", "indptr")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CsrMatrix({self.shape[0]}×{self.shape[1]}, nnz={self.nnz}, {self.data.dtype})"


Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def _given_away(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any]) -> Arrays:
    """New arrays, read-only from now on, so that a matrix takes them without a copy."""
    for array in (data, indices, indptr):
        array.flags.writeable = False
    return data, indices, indptr
