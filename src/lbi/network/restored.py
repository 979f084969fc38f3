"""A compacted network with the shapes of the network as trained: removed neurons stand in it without synapses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.kept import Kept


def restored(fixed: FixedNetwork) -> FixedNetwork:
    """The network in the shapes as trained, for comparisons with the dense network.

    Removed neurons have neither synapses nor a bias: what theirs were is not kept.

    Args:
        fixed: the network.

    Returns:
        The network with all neurons that were trained; the same object if nothing was removed.
    """
    kept = {p.name: p.kept for p in fixed.populations if p.kept is not None}
    if not kept:
        return fixed
    return replace(
        fixed,
        populations=tuple(map(_population, fixed.populations)),
        projections=tuple(_projection(p, kept.get(p.source), kept.get(p.target)) for p in fixed.projections),
    )


def spread(values: NDArray[Any], kept: Kept | None) -> NDArray[Any]:
    """Values per neuron (..., n) in the numbering as trained, (..., n_trained), 0 for neurons that were removed.

    Args:
        values: (..., n), values of the neurons that were kept.
        kept: which neurons were kept; None for all.

    Returns:
        (..., n_trained) of the same type.
    """
    if kept is None:
        return values
    whole = np.zeros((*values.shape[:-1], kept.n), dtype=values.dtype)
    whole[..., kept.indices] = values
    return whole


def _population(population: FixedPopulation) -> FixedPopulation:
    kept = population.kept
    if kept is None:
        return population
    arrays = {name: spread(values, kept) for name, values in population.neuron.arrays().items()}
    return replace(population, shape=kept.shape, neuron=replace(population.neuron, **arrays), kept=None)


def _projection(projection: FixedProjection, source: Kept | None, target: Kept | None) -> FixedProjection:
    if source is None and target is None:
        return projection
    in_kernels = _kernels(projection.weights, source, target)
    if in_kernels is not None:
        return replace(projection, weights=in_kernels, pattern=None)
    weights = projection.weights.to_csr()
    fan_in, n_source = weights.fan_in(), weights.shape[1] if source is None else source.n
    indices = weights.indices if source is None else source.indices[weights.indices]
    counts = fan_in if target is None else spread(fan_in, target)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return replace(
        projection, weights=CsrMatrix(weights.data, indices, indptr, (counts.size, n_source)), pattern=None
    )


def _kernels(weights: Weights, source: Kept | None, target: Kept | None) -> ConvolutionWeights | None:
    """Kernels between all channels as trained, zero where one was removed; None for any other weights."""
    if not isinstance(weights, ConvolutionWeights):
        return None
    outs = _channels(weights.output_shape, target)
    ins = _channels(weights.input_shape, source)
    if outs is None or ins is None:
        return None
    own, per_group = weights.convolution, weights.kernel.shape[1]
    (n_out, rows), (n_in, columns) = outs, ins
    groups = 1 if own.groups == 1 else n_in // per_group
    kernel = np.zeros((n_out, n_in // groups, *weights.kernel.shape[2:]), dtype=weights.kernel.dtype)
    kernel[rows[:, None], columns[own.channels()] % (n_in // groups)] = weights.kernel
    return ConvolutionWeights(
        own._replace(kernel=kernel, groups=groups), (n_in, weights.input_shape[1], weights.input_shape[2])
    )


def _channels(shape: tuple[int, int, int], kept: Kept | None) -> tuple[int, NDArray[np.intp]] | None:
    """Number of channels as trained, and which of them those of the shape were; None if parts of channels were removed."""
    size = shape[1] * shape[2]
    if kept is None:
        return shape[0], np.arange(shape[0])
    first = kept.indices.reshape(-1, size)[:, 0].astype(np.intp)
    whole = np.array_equal(kept.indices, (first[:, None] + np.arange(size)).reshape(-1))
    return (kept.n // size, first // size) if whole and not np.any(first % size) else None
