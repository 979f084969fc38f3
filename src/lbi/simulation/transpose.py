"""Compiled conversion of CSR weights to columns by source."""

from __future__ import annotations

from typing import Any

import numpy as np

from lbi.system.numba_cache import compiled


@compiled(nogil=True)
def transpose(
    indptr: Any, columns: Any, values: Any, offset: Any, pointers: Any, weights: Any, indices: Any
) -> None:
    """Convert CSR to columns of target indices (row plus one offset, or one per synapse) and weights.

    Args:
        indptr: row pointers.
        columns: column of each synapse.
        values: weight of each synapse.
        offset: added to the row: one number, or one per synapse.
        pointers: column pointers of the result.
        weights: receives the weights.
        indices: receives the targets.
    """
    place = pointers[:-1].copy()
    step = 1 if offset.size > 1 else 0
    for row in range(indptr.size - 1):
        for k in range(indptr[row], indptr[row + 1]):
            at = place[columns[k]]
            place[columns[k]] = at + 1
            weights[at] = values[k]
            indices[at] = row + offset[k * step]


@compiled(nogil=True)
def write_masks(pointers: Any, indices: Any, words: Any) -> None:
    """Set one bit of a mask for each target of each source.

    Args:
        pointers: (n_source + 1,) where the targets of each source begin.
        indices: (nnz,) targets by source.
        words: (n_source, n_words) uint64 masks, 0 before; bit t % 64 of word t // 64 stands for target t.
    """
    for source in range(pointers.size - 1):
        for k in range(pointers[source], pointers[source + 1]):
            target = np.uint64(indices[k])
            words[source, target >> np.uint64(6)] |= np.uint64(1) << (target & np.uint64(63))
