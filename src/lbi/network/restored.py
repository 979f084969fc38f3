"""A compacted network with the shapes of the network as trained: removed neurons stand in it without synapses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.kept import Kept


def restored(fixed: FixedNetwork) -> FixedNetwork:
    """The network in the shapes as trained, for comparisons with the dense network; itself if nothing was removed.

    Removed neurons have neither synapses nor a bias: what theirs were is not kept.
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
    """Values per neuron (..., n) in the numbering as trained, (..., n_trained), 0 for neurons that were removed."""
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
    weights = projection.weights.to_csr()
    fan_in, n_source = weights.fan_in(), weights.shape[1] if source is None else source.n
    indices = weights.indices if source is None else source.indices[weights.indices]
    counts = fan_in if target is None else spread(fan_in, target)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return replace(
        projection, weights=CsrMatrix(weights.data, indices, indptr, (counts.size, n_source)), pattern=None
    )
