"""Positions of cores on the chip's mesh of tiles, arranged so that communicating cores are close."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.profile import HardwareProfile


def slot_positions(profile: HardwareProfile, n: int) -> NDArray[np.int64]:
    """(n, 3) chip, column and row of the first ``n`` core slots, with tiles in boustrophedon order.

    Args:
        profile: the chip.
        n: number of cores.

    Returns:
        (n, 3) int64.
    """
    columns, rows, per_tile = (
        int(quantity.number)
        for quantity in (profile.mesh.columns, profile.mesh.rows, profile.mesh.cores_per_tile)
    )
    per_chip = int(profile.limits.cores_per_chip.number)
    slot = np.arange(n, dtype=np.int64)
    chip, within = np.divmod(slot, per_chip)
    tile = within // per_tile
    row, column = np.divmod(tile, columns)
    column = np.where(row % 2 == 0, column, columns - 1 - column)
    return np.stack([chip, column, np.minimum(row, rows - 1)], axis=1)


def hops(positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, n) hops east-west and (n, n) north-south between cores, XY routing; 0 between chips.

    Args:
        positions: (n, 3) chip, column and row of each core.

    Returns:
        Hops east-west and north-south.
    """
    same_chip = positions[:, None, 0] == positions[None, :, 0]
    distance = np.abs(positions[:, None, 1:] - positions[None, :, 1:]) * same_chip[..., None]
    return distance[..., 0], distance[..., 1]


def arrange(traffic: Any, positions: NDArray[np.int64], n_swaps: int = 1000) -> NDArray[np.int64]:
    """The slot of each core, improved by swapping pairs on the same chip while Σ traffic · hops falls.

    Each swap is the best available one, the first on ties.

    Args:
        traffic: CSR (n, n), symmetric, axons between cores.
        positions: (n, 3) positions of the slots.
        n_swaps: maximum number of swaps per chip.

    Returns:
        (n,) the slot of each core, a permutation.
    """
    slots = np.arange(positions.shape[0])
    for chip in np.unique(positions[:, 0]):
        cores = np.flatnonzero(positions[:, 0] == chip)
        east_west, north_south = hops(positions[cores])
        distance = (east_west + north_south).astype(np.float64)
        local = traffic[cores][:, cores].toarray().astype(np.float64)
        np.fill_diagonal(local, 0.0)
        order = np.arange(cores.size)
        for _ in range(n_swaps):
            now = distance[np.ix_(order, order)]
            moved = local @ now
            stay = np.diag(moved)
            change = moved + moved.T - stay[:, None] - stay[None, :] + 2.0 * local * now
            best = int(np.argmin(change))
            if change.flat[best] >= -1e-9:
                break
            i, j = divmod(best, cores.size)
            order[i], order[j] = order[j], order[i]
        slots[cores] = cores[order]
    return slots
