"""A projection's weights as the simulator stores them: by source neuron, in the format that is fastest to add.

Weights are stored without the low zero bits that all mantissas of a projection share, so that mixed-sign weights
(even, −254 to 254) take one byte.

format      stored                                     ns per source that spikes (Zen 4)
DENSE       weight of every target neuron              0.02 per target (Zen 3, without AVX-512: 0.03; SPARSE there 10, and 0.6)
MASKED      weight per synapse, one bit per target     0.02 per target (with AVX-512 VBMI2)
SPARSE      weight and target index per synapse: uint16, or uint32 otherwise; with several delays the index is
            (lag − shortest lag) · n_target + row      10, and 0.35 per synapse
KERNELS     weight per nonzero of a convolution's
            kernels, and its geometry                  10, 3 per tap, and 1 per synapse

Only SPARSE holds several delays. An empty row follows the rows of the others, for the last of an odd number of spikes.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.simulation.records import DENSE, KERNELS, MASKED, PADDING, SPARSE, WORD

POPULATION_SIZE = Rule("population-size", f"fewer than {1 << 31}", "split the population")

BYTES_PER_SYNAPSE = 7
"""Bytes per stored synapse of the whole network up to which faster formats may take more memory than the smallest."""

TARGET_NS, SYNAPSE_NS, SOURCE_NS = 0.02, 0.35, 10.0
"""Measured time in ns of a target in a dense or masked row, of a synapse with an index, and beside these of its source."""


TAP_NS, SHARED_NS = 3.0, 1.0
"""Measured time in ns of a kernel's tap per spike, and of a synapse through kernels."""

CACHED_BYTES = 1 << 22
"""Bytes up to which a whole network, or a convolution that is stored unrolled, may take the fastest format: what a core's caches hold."""


class Columns(NamedTuple):
    """One projection's share of a Layout."""

    format: int
    shift: int
    lag: int
    n_lags: int
    pointers: NDArray[np.uint64]
    weights: NDArray[Any]
    indices: NDArray[Any]
    words: NDArray[np.uint64]


class Option(NamedTuple):
    """One format that a projection may be stored in, with its cost if every source spikes once."""

    ns: float
    n_bytes: int
    format: int


def stored_columns(fixed: FixedNetwork, projections: tuple[FixedProjection, ...]) -> list[Columns]:
    """The weights of all projections, each in its format.

    Args:
        fixed: The network.
        projections: Its projections, in the order of the result.

    Returns:
        One record per projection.

    Raises:
        InputError: If targets times delay steps of a projection exceed what an index holds.
    """
    formats = chosen_formats(fixed, projections)
    return [_columns(fixed, p, kind) for p, kind in zip(projections, formats, strict=True)]


def chosen_formats(fixed: FixedNetwork, projections: tuple[FixedProjection, ...]) -> list[int]:
    """The fastest format of each projection, of equals the smallest; smaller ones if the network would exceed its memory limit.

    Args:
        fixed: The network.
        projections: Its projections, in the order of the result.

    Returns:
        DENSE, MASKED, SPARSE or KERNELS for each projection.
    """
    options = [_options(fixed, projection) for projection in projections]
    chosen = [min(each) for each in options]
    limit = BYTES_PER_SYNAPSE * sum(projection.weights.nnz for projection in projections)
    excess = sum(option.n_bytes for option in chosen) - max(limit, CACHED_BYTES)
    while excess > 0:
        changes = [
            ((other.ns - now.ns) / (now.n_bytes - other.n_bytes), q, other)
            for q, (now, each) in enumerate(zip(chosen, options, strict=True))
            for other in each
            if other.n_bytes < now.n_bytes
        ]
        if not changes:
            break
        _, q, other = min(changes)
        excess -= chosen[q].n_bytes - other.n_bytes
        chosen[q] = other
    return [option.format for option in chosen]


def _options(fixed: FixedNetwork, projection: FixedProjection) -> list[Option]:
    if isinstance(projection.weights, ConvolutionWeights):
        kernels = _kernels_option(projection.weights)
        return [kernels, *(o for o in _matrix_options(fixed, projection) if o.n_bytes <= CACHED_BYTES)]
    return _matrix_options(fixed, projection)


def _kernels_option(weights: ConvolutionWeights) -> Option:
    """Storage as kernels: 10 bytes a weight, and pointers of 8 bytes by tap and by source."""
    n_source = weights.shape[1]
    n_taps = prod(weights.kernel.shape[2:])
    n_bytes = 10 * weights.n_parameters + 8 * (weights.input_shape[0] * n_taps + n_source)
    return Option(SHARED_NS * weights.nnz + (SOURCE_NS + TAP_NS * n_taps) * n_source, n_bytes, KERNELS)


def _matrix_options(fixed: FixedNetwork, projection: FixedProjection) -> list[Option]:
    matrix = projection.weights
    n_target, n_source = matrix.shape
    width = _width(matrix.data)[1].itemsize
    n_lags = _lags(fixed, projection)[1]
    index = 2 if n_lags == 1 and n_target <= 1 << 16 else 4
    options = [
        Option(SYNAPSE_NS * matrix.nnz + SOURCE_NS * n_source, matrix.nnz * (width + index), SPARSE),
    ]
    if n_lags == 1:
        n_words = -(-n_target // WORD)
        ns = TARGET_NS * n_words * WORD * n_source * width
        options.append(Option(ns, ((n_source + 1) * n_target + PADDING) * width, DENSE))
        if _has_vectors():
            n_bytes = (matrix.nnz + PADDING) * width + (n_source + 1) * n_words * 8
            options.append(Option(ns, n_bytes, MASKED))
    pointers = 8 * (n_source + 1)
    return [option._replace(n_bytes=option.n_bytes + pointers) for option in options]


def _has_vectors() -> bool:
    from lbi.simulation.vectors import has_vectors

    return has_vectors()


def _width(mantissas: NDArray[Any]) -> tuple[int, np.dtype[Any]]:
    """The number of low zero bits that all mantissas share, and the narrowest type for the remaining bits."""
    union = int(np.bitwise_or.reduce(mantissas, initial=0)) & 0xFFFF
    spare = (union & -union).bit_length() - 1 if union else 0
    peak = max(int(mantissas.max(initial=0)), -int(mantissas.min(initial=0))) >> spare
    return spare, np.dtype(np.int8 if peak <= 127 else np.int16)


def _lags(fixed: FixedNetwork, projection: FixedProjection) -> tuple[int, int]:
    """The shortest lag of a projection, and the number of steps up to the longest."""
    lags = np.asarray(fixed.lag(projection))
    return (int(lags.min()), int(np.ptp(lags)) + 1) if lags.size else (0, 1)


def _columns(fixed: FixedNetwork, projection: FixedProjection, kind: int) -> Columns:
    spare, narrow = _width(projection.weights.data)
    lag, n_lags = _lags(fixed, projection)
    shift = projection.weight_exp + spare
    pointers = np.concatenate([[0], np.cumsum(projection.weights.fan_out())]).astype(np.uint64)
    no_indices, no_words = np.zeros(0, dtype=np.uint16), np.zeros(0, dtype=np.uint64)
    if kind == KERNELS and isinstance(projection.weights, ConvolutionWeights):
        from lbi.simulation.convolution_kernels import stored_kernels

        order, words = stored_kernels(projection.weights)
        values = (projection.weights.data[order] >> spare).astype(narrow)
        return Columns(KERNELS, shift, lag, 1, pointers, values, no_indices, words)
    matrix = projection.weights.to_csr()
    n_target, n_source = matrix.shape
    values = (matrix.data >> spare).astype(narrow)
    if kind == DENSE:
        dense = np.zeros((n_source + 1) * n_target + PADDING, dtype=narrow)
        dense[: n_source * n_target].reshape(n_source, n_target)[matrix.indices, matrix.row_of()] = values
        return Columns(DENSE, shift, lag, 1, pointers, dense, no_indices, no_words)
    from lbi.simulation.transpose import transpose, write_masks

    wide = np.dtype(np.uint16 if n_lags == 1 and n_target <= 1 << 16 else np.uint32)
    _check_index(projection, n_target * n_lags)
    lags = np.asarray(fixed.lag(projection))
    offset = ((lags - lag) * n_target).astype(np.int32) if lags.ndim else np.zeros(1, dtype=np.int32)
    weights = np.zeros(matrix.nnz + (PADDING if kind == MASKED else 0), dtype=narrow)
    indices = np.empty(matrix.nnz, dtype=wide)
    transpose(matrix.indptr, matrix.indices, values, offset, pointers, weights, indices)
    if kind == MASKED:
        words = np.zeros((n_source + 1, -(-n_target // WORD)), dtype=np.uint64)
        write_masks(pointers, indices, words)
        return Columns(MASKED, shift, lag, 1, pointers, weights, no_indices, words.reshape(-1))
    return Columns(SPARSE, shift, lag, n_lags, pointers, weights, indices, no_words)


def _check_index(projection: FixedProjection, size: int) -> None:
    problems = Problems()
    POPULATION_SIZE.check(
        problems, size < 1 << 31, f"projection {projection.name!r}", f"{size} targets × delay steps"
    )
    problems.raise_as(InputError)
