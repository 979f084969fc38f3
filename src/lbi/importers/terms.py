"""Terms of signals: spikes of one source and delay through a sparse matrix, and the places where layers have weights."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix


class Term(NamedTuple):
    """Spikes of ``source``, ``delay`` steps late, through ``matrix`` (n, n_source).

    Attributes:
        pattern: (n, n_source), ones where the layers on the way have weights, zeros among them; None for everywhere.
    """

    source: str
    matrix: csr_matrix
    delay: int
    pattern: csr_matrix | None = None

    def through(self, matrix: csr_matrix, pattern: csr_matrix | None) -> Term:
        """The term behind a layer with weights ``matrix`` at the places of ``pattern`` (None: everywhere).

        Args:
            matrix: (n_out, n) weights.
            pattern: ones where the layer has weights; None for everywhere.

        Returns:
            The term.
        """
        n_source = self.matrix.shape[1]
        if self.pattern is None:  # all places that the layer reaches from anywhere
            reached = (
                None if pattern is None else _outer(np.diff(pattern.indptr) > 0, np.ones(n_source, bool))
            )
        elif pattern is None:
            reached = _outer(
                np.ones(matrix.shape[0], bool), np.bincount(self.pattern.indices, minlength=n_source)
            )
        else:
            reached = pattern @ self.pattern
        return self._replace(matrix=matrix @ self.matrix, pattern=marked(reached))

    def scaled(self, factors: NDArray[np.float64]) -> Term:
        """The term with each target's weights times its factor; zeros among them stay in ``pattern``.

        Args:
            factors: (n,).

        Returns:
            The term.
        """
        found = self.matrix.copy()
        found.data *= np.repeat(factors, np.diff(found.indptr))
        return _without_zeros(self._replace(matrix=found))

    def picked(self, rows: Any = slice(None), columns: Any = slice(None)) -> Term:
        """The term of some targets and sources only.

        Args:
            rows: indices of targets; None for all.
            columns: indices of sources; None for all.

        Returns:
            The term.
        """
        pattern = None if self.pattern is None else marked(self.pattern[rows][:, columns])
        return self._replace(matrix=self.matrix[rows][:, columns], pattern=pattern)


def merged(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Terms merged to one per source and delay, without stored zeros and empty terms.

    Args:
        terms: terms onto the same targets.

    Returns:
        The terms.
    """
    sums: dict[tuple[str, int], Term] = {}
    for term in terms:
        key = (term.source, term.delay)
        before = sums.get(key)
        if before is not None:
            pattern = union(before.pattern, term.pattern)
            term = term._replace(matrix=before.matrix + term.matrix, pattern=pattern)
        sums[key] = term
    return tuple(_without_zeros(term) for term in sums.values())


def _without_zeros(term: Term) -> Term:
    if np.all(term.matrix.data):
        return term
    matrix = term.matrix.copy()
    matrix.eliminate_zeros()
    return term._replace(matrix=matrix)


def union(one: csr_matrix | None, other: csr_matrix | None) -> csr_matrix | None:
    """The places of either pattern.

    Args:
        one: a pattern; None for everywhere.
        other: another of the same shape.

    Returns:
        The pattern; None for everywhere.
    """
    return None if one is None or other is None else marked(one + other)


def marked(pattern: csr_matrix | None) -> csr_matrix | None:
    """The places that a matrix stores, as bools, whose sums and products never cancel.

    Args:
        pattern: a matrix; None for everywhere.

    Returns:
        The places; None if they are all there are.
    """
    if pattern is None or pattern.nnz == prod(pattern.shape):
        return None
    stored = csr_matrix(pattern)
    ones = np.ones(stored.nnz, dtype=np.bool_)
    return csr_matrix((ones, stored.indices, stored.indptr), shape=stored.shape)


def _outer(rows: NDArray[Any], columns: NDArray[Any]) -> csr_matrix | None:
    """Ones at all places of the chosen rows and columns; None if all are chosen."""
    if np.all(rows) and np.all(columns):
        return None
    return csr_matrix(
        csr_matrix(rows.astype(np.bool_)[:, None]) @ csr_matrix(columns.astype(np.bool_)[None, :])
    )
