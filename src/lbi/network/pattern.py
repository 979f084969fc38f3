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
from lbi.network.convolution import Convolution, expand, find, without_groups
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights

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
    """Number of synapses of the dense layer.

    Args:
        projection: the projection.

    Returns:
        The positions of the pattern; without one, those of the whole matrix.
    """
    return projection.weights.size if projection.pattern is None else projection.pattern.nnz


def n_weights(projection: Patterned) -> tuple[int, int]:
    """Number of nonzero weights and of all weights of the dense layer: of kernels their entries, else synapses.

    Args:
        projection: the projection.

    Returns:
        (nonzero, all).
    """
    weights, pattern = projection.weights, projection.pattern
    if isinstance(weights, ConvolutionWeights) and isinstance(pattern, ConvolutionWeights):
        return weights.n_parameters, pattern.n_parameters
    return weights.nnz, n_positions(projection)


def density(projection: Patterned) -> float:
    """Nonzero weights / weights of the dense layer (``n_weights``); 0 for a layer without weights.

    Args:
        projection: the projection.

    Returns:
        A fraction, 0 to 1.
    """
    n_active, n = n_weights(projection)
    return n_active / n if n else 0.0


def ones(matrix: Any) -> Any:
    """The pattern of weights: int8 ones where there is a value, in the form of the weights; None if that is everywhere.

    Args:
        matrix: ``Weights``, or a scipy sparse matrix of bools.

    Returns:
        ``Weights`` (n_target, n_source), or None.
    """
    if isinstance(matrix, ConvolutionWeights):
        return matrix.with_data(np.ones(matrix.n_parameters, dtype=np.int8))[0]
    found = matrix if isinstance(matrix, CsrMatrix) else CsrMatrix.from_scipy(matrix.astype(np.int8))
    if found.nnz == found.size:
        return None
    return CsrMatrix(np.ones(found.nnz, dtype=np.int8), found.indices, found.indptr, found.shape)


def without(pattern: Weights | None, other: Weights) -> Weights:
    """The positions of a pattern (None for all) at which other weights store nothing, as int8 ones.

    Args:
        pattern: ones at the layer's positions; None for all.
        other: the other weights; where they are kernels, the pattern has the same geometry.

    Returns:
        Ones at those positions, in kernels where both are, else as CSR.
    """
    if isinstance(pattern, ConvolutionWeights) and isinstance(other, ConvolutionWeights):
        kernel = ((pattern.kernel != 0) & (other.kernel == 0)).astype(np.int8)
        return ConvolutionWeights(pattern.convolution._replace(kernel=kernel), pattern.input_shape)
    n_rows, n_cols = other.shape
    all_places = np.arange(n_rows * n_cols) if pattern is None else _places(pattern.to_csr())
    left = np.setdiff1d(all_places, _places(other.to_csr()), assume_unique=True)
    rows, columns = np.divmod(left, max(n_cols, 1))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
    return CsrMatrix(np.ones(left.size, dtype=np.int8), columns, indptr, other.shape)


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
    n_outside = _n_outside(weights, pattern)
    PATTERN_HOLDS.check(problems, n_outside == 0, where, f"{n_outside} weights outside the pattern")


def _n_outside(weights: Weights, pattern: Weights) -> int:
    """Number of weights at no place of the pattern."""
    if (
        isinstance(weights, ConvolutionWeights)
        and isinstance(pattern, ConvolutionWeights)
        and weights.has_geometry_of(pattern)
    ):
        return int(np.count_nonzero((weights.kernel != 0) & (pattern.kernel == 0)))
    stored, held = _places(weights.to_csr()), _places(pattern.to_csr())
    return weights.nnz - int(np.count_nonzero(np.isin(stored, held)))


def _places(matrix: CsrMatrix) -> NDArray[np.int64]:
    return matrix.row_of().astype(np.int64) * matrix.shape[1] + matrix.indices


def as_attributes(
    pattern: Weights, before: tuple[int, ...], after: tuple[int, ...]
) -> dict[str, NDArray[Any]] | None:
    """The pattern as a convolution's geometry, from a layer of shape ``before`` to one of shape ``after``.

    Args:
        pattern: ones at the layer's positions.
        before: (channels, height, width) of the source.
        after: (channels, height, width) of the target.

    Returns:
        ``kernel``, uint8 ones and zeros (n_out, n_in, height, width), ``stride`` and ``padding`` (height, width),
        and ``input_shape`` (channels, height, width); None for a pattern that is not a convolution's.
    """
    if isinstance(pattern, ConvolutionWeights):
        found, before = _without_steps(pattern.convolution), pattern.input_shape
    else:
        recognised = find(pattern.to_csr(), before, after)
        if recognised is None:
            return None
        found = recognised
    values = (found.kernel.astype(np.uint8), found.stride, found.padding, before)
    return dict(zip(GEOMETRY, map(np.asarray, values), strict=True))


def _without_steps(convolution: Convolution) -> Convolution:
    """The same convolution without groups and dilation: zeros of its kernel take their place."""
    down, across = convolution.dilation
    whole = np.zeros(_size_without_steps(convolution), dtype=convolution.kernel.dtype)
    whole[:, :, ::down, ::across] = without_groups(convolution.kernel, convolution.groups)
    return Convolution(whole, convolution.stride, convolution.padding)


def _size_without_steps(convolution: Convolution) -> tuple[int, ...]:
    """Shape of the kernel without groups and dilation."""
    n_out, per_group, *sizes = convolution.kernel.shape
    reach = (step * (size - 1) + 1 for step, size in zip(convolution.dilation, sizes, strict=True))
    return (n_out, per_group * convolution.groups, *reach)


def most_places(n_stored: int) -> int:
    """Number of positions that a geometry may describe for a number of stored weights, to bound memory.

    Args:
        n_stored: number of stored weights.

    Returns:
        FREE_ELEMENTS, and 1024 for each stored weight.
    """
    return FREE_ELEMENTS + 1024 * n_stored


def from_geometry(geometry: Mapping[str, NDArray[Any]], weights: Weights) -> Weights:
    """The pattern (n_target, n_source) of a projection's weights from a convolution's geometry.

    Args:
        geometry: Arrays by the names of ``GEOMETRY``.
        weights: The weights; their number bounds the size of the pattern.

    Returns:
        The pattern: in kernels where the weights are kernels of that geometry.

    Raises:
        InputError: The geometry is not a convolution's, or has another shape.
    """
    kernel, stride, padding, before = (np.asarray(geometry[name]) for name in GEOMETRY)
    shape, problems = weights.shape, Problems()
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
        own = _in_kernels(convolution, sizes[2], weights)
        if own is not None:
            return own
        _, height, width = convolution.output_shape(sizes[2])
        n_places = int(np.count_nonzero(ones_at)) * height * width
        fits = kernel.shape[0] * height * width == shape[0] and n_places <= most_places(weights.n_parameters)
        PATTERN_GEOMETRY.check(problems, fits, "pattern", found, shape=shape)
    problems.raise_as(InputError)
    return expand(convolution, sizes[2])


def _in_kernels(pattern: Convolution, before: tuple[int, ...], weights: Weights) -> ConvolutionWeights | None:
    """A pattern without groups and dilation in the form of kernels that have them; None if it is not of their geometry."""
    if not isinstance(weights, ConvolutionWeights) or weights.input_shape != before:
        return None
    own = weights.convolution
    steps = (pattern.stride, pattern.padding) == (own.stride, own.padding)
    if not steps or pattern.kernel.shape != _size_without_steps(own):
        return None
    outs = np.arange(own.kernel.shape[0])[:, None]
    kernel = pattern.kernel[outs, own.channels(), :: own.dilation[0], :: own.dilation[1]]
    if np.count_nonzero(kernel) != np.count_nonzero(pattern.kernel):
        return None
    return ConvolutionWeights(own._replace(kernel=kernel), weights.input_shape)
