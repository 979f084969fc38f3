"""Compiled loops over the living weights of a matrix (n_out, n_in), those that are not 0 (numba).

``masks`` (n_masks, n_out) uint64 mark them, for 64 sources each. Spikes are given by source: ``starts`` and ``rows`` of
``lbi.train.layers.kernels.sort_events``, ``rows`` as uint16. For one target at a time, sums of all rows of a block lie in the first-level
cache, where the spikes of its sources are added one by one. Threads claim targets, so every sum runs in one order.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from lbi.simulation.bits import lowest_bit
from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.layers.bits import BITS, mask_of, n_bits, write_bits
from lbi.train.layers.kernels import transposed
from lbi.train.layers.tiles import gather_sum, scatter_add

TARGETS = 64
"""Targets that a thread claims at once: with fewer of them, a row of their gradients is too little of a memory page."""


@compiled(nogil=True)
def mark_living(weight, masks, totals, turns):
    """Masks of the weights that are not 0, and their number.

    Args:
        weight: (n_out, n_in).
        masks: (n_masks, n_out) uint64, for 64 sources each, written.
        totals: (n_masks,) int64, set bits of each row of masks, written.
        turns: counter of ``claim``.
    """
    n_out, n_in = weight.shape
    w = claim(turns)
    while w < totals.size:
        total = np.uint64(0)
        for n in range(n_out):
            mask = mask_of(weight, n * n_in + w * BITS, n_in - w * BITS)
            masks[w, n] = mask
            total += n_bits(mask)
        totals[w] = total
        w = claim(turns)


@compiled(nogil=True)
def list_living(weight, masks, totals, indptr, targets, values, turns):
    """The living weights by source.

    Args:
        weight: (n_out, n_in).
        masks: those of ``mark_living``.
        totals: those of ``mark_living``.
        indptr: (n_in + 1,) int64, where the weights of each source start, written; indptr[0] is 0 already.
        targets: int32 target of each weight, rising for each source, written.
        values: the weights, written.
        turns: counter of ``claim``.
    """
    n_out, n_in = weight.shape
    found = np.empty(BITS, np.int32)
    w = claim(turns)
    while w < totals.size:
        start = np.int64(0)
        for before in range(w):
            start += totals[before]
        counts = np.zeros(BITS, np.int64)
        for n in range(n_out):
            for m in range(write_bits(masks[w, n], 0, found, 0)):
                counts[found[m]] += 1
        at = np.empty(BITS, np.int64)
        for j in range(min(BITS, n_in - w * BITS)):
            at[j] = start
            start += counts[j]
            indptr[w * BITS + j + 1] = start
        for n in range(n_out):
            for m in range(write_bits(masks[w, n], 0, found, 0)):
                j = found[m]
                targets[at[j]] = n
                values[at[j]] = weight[n, w * BITS + j]
                at[j] += 1
        w = claim(turns)


@njit(inline="always")
def next_living(mask, w):
    """The next source of a mask.

    Args:
        mask: uint64, not 0.
        w: number of the mask.

    Returns:
        The source of the lowest set bit, and the mask without it.
    """
    return w * BITS + np.int64(lowest_bit(mask)), mask & (mask - np.uint64(1))


@compiled(nogil=True)
def living_product(starts, rows, n_block, masks, weight, out, turns):
    """out[r] = Σ w[:, j] over the sources j that spike in row r, ascending; threads claim targets of a block of rows.

    Args:
        starts: see ``sort_events``.
        rows: see ``sort_events``.
        n_block: rows of a block.
        masks: of the living weights.
        weight: (n_out, n_in).
        out: (n_rows, n_out), written.
        turns: counter of ``claim``.
    """
    n_rows, n_out = out.shape
    n_blocks = starts.shape[0]
    sums = np.empty((TARGETS, n_block), out.dtype)
    piece = claim(turns)
    while piece < n_blocks * ((n_out + TARGETS - 1) // TARGETS):
        block, low = piece % n_blocks, piece // n_blocks * TARGETS
        high, first = min(low + TARGETS, n_out), block * n_block
        for n in range(low, high):
            sums[n - low] = 0
            for w in range(masks.shape[0]):
                mask = masks[w, n]
                while mask != 0:
                    j, mask = next_living(mask, w)
                    scatter_add(
                        weight[n, j], rows, starts[block, j], starts[block, j + 1], sums, (n - low) * n_block
                    )
        n_here = min(n_block, n_rows - first)
        transposed(sums, 0, high - low, 0, n_here, out, first * n_out + low, n_out)
        piece = claim(turns)


@compiled(nogil=True)
def living_gradient(starts, rows, n_block, grad, n_steps, masks, out, turns):
    """out[n, j] = Σ grad[r, n] over the rows r in which source j spikes, for living weights; 0 elsewhere.

    Args:
        starts: see ``sort_events``.
        rows: see ``sort_events``.
        n_block: rows of a block.
        grad: (n_rows, n_out).
        n_steps: see ``event_weight_gradient``.
        masks: of the living weights.
        out: (n_out, n_in), written.
        turns: counter of ``claim``.
    """
    n_rows, n_out = grad.shape
    later = 1 if n_steps > 0 else 0
    given = np.empty((TARGETS, n_block), grad.dtype)
    low = claim(turns) * TARGETS
    while low < n_out:
        high = min(low + TARGETS, n_out)
        out[low:high] = 0
        for block in range(starts.shape[0]):
            first = block * n_block
            last = min(first + n_block, n_rows - later)
            transposed(grad, first + later, last + later, low, high, given, 0, n_block)
            if later:
                for r in range((first + n_steps) // n_steps * n_steps - first - 1, n_block, n_steps):
                    given[:, r] = 0
            for n in range(low, high):
                for w in range(masks.shape[0]):
                    mask = masks[w, n]
                    while mask != 0:
                        j, mask = next_living(mask, w)
                        out[n, j] += gather_sum(
                            given, (n - low) * n_block, rows, starts[block, j], starts[block, j + 1]
                        )
        low = claim(turns) * TARGETS
