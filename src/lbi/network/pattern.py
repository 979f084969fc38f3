"""Patterns of weights: the positions at which a layer has weights, and so the dense layer for comparisons.

A linear layer has a weight from every source to every target. A convolution or pooling layer has one only at the
positions of its kernel; a projection stores these as a matrix of ones, its ``pattern``. *Dense* means all weights of
the pattern, including zeros; without a pattern, all weights. An unpruned convolution has density 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.limits import FREE_ELEMENTS
from lbi.network.convolution import Convolution, expand, find
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.kernels import ConvolutionWeights

PATTERN_SHAPE = Rule("pattern-shape", "{shape}, as the weights", "leave the pattern out, or build it again")
PATTERN_HOLDS = Rule(
    "pattern-weights",
    "every stored weight at a place of the pattern",
    "leave the pattern out, or build it again",
)
PATTERN_GEOMETRY = Rule(
    "pattern-geometry",
    "kernel (n_out, n_in, height, width), two strides and paddings, input_shape (n_in, height, width), all for"
    " weights {shape}",
    "export the model again",
)

GEOMETRY = ("kernel", "stride", "padding", "input_shape")
"""Entries by which a file stores the pattern of a convolution."""


class Patterned(Protocol):
    """Interface of an object with weights and a pattern: a projection in floats or integers."""

    @property
    def weights(self) -> Weights:
        """The stored weights, (n_target, n_source)."""

    @property
    def pattern(self) -> Weights | None:
        """Ones where the layer has weights, (n_target, n_source); None: everywhere."""


def n_positions(projection: Patterned) -> int:
    """Number of weights of the dense layer.

    Args:
        projection: the projection.

    Returns:
        The number.
    """
    return projection.weights.size if projection.pattern is None else projection.pattern.nnz


def density(projection: Patterned) -> float:
    """Nonzero weights / weights of the dense layer; 0 for a layer without weights.

    Args:
        projection: the projection.

    Returns:
        A fraction.
    """
    n = n_positions(projection)
    return projection.weights.nnz / n if n else 0.0


def ones(matrix: Any) -> CsrMatrix | None:
    """The pattern of a sparse matrix: ones where it stores a value; None if that is everywhere.

    Args:
        matrix: A scipy sparse matrix of bools, or a ``CsrMatrix``.

    Returns:
        int8 ones, (n_target, n_source).
    """
    found = matrix if isinstance(matrix, CsrMatrix) else CsrMatrix.from_scipy(matrix.astype(np.int8))
    if found.nnz == found.size:
        return None
    return CsrMatrix(np.ones(found.nnz, dtype=np.int8), found.indices, found.indptr, found.shape)


def without(pattern: CsrMatrix | None, other: CsrMatrix) -> CsrMatrix:
    """The positions of a pattern (None for all) at which another matrix stores nothing, as int8 ones.

    Args:
        pattern: ones at the layer's positions; None for all.
        other: the other matrix.

    Returns:
        The positions.
    """
    n_rows, n_cols = other.shape
    all_places = np.arange(n_rows * n_cols) if pattern is None else _places(pattern)
    places = np.setdiff1d(all_places, _places(other), assume_unique=True)
    rows, columns = np.divmod(places, max(n_cols, 1))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
    return CsrMatrix(np.ones(places.size, dtype=np.int8), columns, indptr, other.shape)


def check_pattern(projection: Patterned, where: str, problems: Problems) -> None:
    """Note a pattern whose shape differs from the weights, or that lacks the position of a weight.

    Args:
        projection: the projection.
        where: the projection, for messages.
        problems: receives what is wrong.
    """
    pattern, weights = projection.pattern, projection.weights
    if pattern is None or not PATTERN_SHAPE.check(
        problems, pattern.shape == weights.shape, where, f"{pattern.shape}", shape=weights.shape
    ):
        return
    own = weights.pattern()
    if isinstance(own, ConvolutionWeights) and own == pattern:
        return
    stored, places = _places(weights.to_csr()), _places(pattern.to_csr())
    n_outside = weights.nnz - int(np.count_nonzero(np.isin(stored, places)))
    PATTERN_HOLDS.check(problems, n_outside == 0, where, f"{n_outside} weights outside the pattern")


def _places(matrix: CsrMatrix) -> NDArray[np.int64]:
    return matrix.row_of().astype(np.int64) * matrix.shape[1] + matrix.indices


def as_attributes(
    pattern: CsrMatrix, before: tuple[int, ...], after: tuple[int, ...]
) -> dict[str, NDArray[Any]] | None:
    """The pattern as a convolution's geometry, from a layer of shape ``before`` to one of shape ``after``.

    Args:
        pattern: ones at the layer's positions; None for all.
        before: (channels, height, width) of the source.
        after: (channels, height, width) of the target.

    Returns:
        ``kernel``, uint8 ones and zeros (n_out, n_in, height, width), ``stride`` and ``padding`` (height, width),
        and ``input_shape`` (channels, height, width); None for a pattern that is not a convolution's.
    """
    found = find(pattern, before, after)
    if found is None:
        return None
    values = (found.kernel.astype(np.uint8), found.stride, found.padding, before)
    return dict(zip(GEOMETRY, map(np.asarray, values), strict=True))


def most_places(n_stored: int) -> int:
    """Number of positions that a geometry may describe for a number of stored weights, to bound memory.

    Args:
        n_stored: number of stored weights.

    Returns:
        The number.
    """
    return FREE_ELEMENTS + 1024 * n_stored


def from_geometry(geometry: Mapping[str, NDArray[Any]], shape: tuple[int, ...], n_stored: int) -> CsrMatrix:
    """The pattern (n_target, n_source) of that ``shape`` from a convolution's geometry.

    Args:
        geometry: Arrays by the names of ``GEOMETRY``.
        shape: (n_target, n_source) of the weights.
        n_stored: Stored weights, which bound the size of the pattern.

    Returns:
        The pattern.

    Raises:
        InputError: The geometry is not a convolution's, or has another shape.
    """
    kernel, stride, padding, before = (np.asarray(geometry[name]) for name in GEOMETRY)
    problems = Problems()
    sizes = [tuple(int(size) for size in values.reshape(-1)) for values in (stride, padding, before)]
    found = f"kernel {kernel.shape}, stride {sizes[0]}, padding {sizes[1]}, input_shape {sizes[2]}"
    matching = (
        kernel.ndim == 4
        and [len(values) for values in sizes] == [2, 2, 3]
        and sizes[2][0] == kernel.shape[1]
        and min(*kernel.shape, *sizes[2]) >= 1
        and prod(sizes[2]) == shape[1]
    )
    if PATTERN_GEOMETRY.check(problems, matching, "pattern", found, shape=shape):
        ones_at = (kernel != 0).astype(np.int8)
        convolution = Convolution(ones_at, (sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1]))
        convolution.check(sizes[2])
        _, height, width = convolution.output_shape(sizes[2])
        n_places = int(np.count_nonzero(ones_at)) * height * width
        fits = kernel.shape[0] * height * width == shape[0] and n_places <= most_places(n_stored)
        PATTERN_GEOMETRY.check(problems, fits, "pattern", found, shape=shape)
    problems.raise_as(InputError)
    return expand(convolution, sizes[2])
