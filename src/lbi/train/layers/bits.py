"""Masks of the nonzero elements of arrays, for compiled kernels: 64 comparisons at once, then one step for each set bit."""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from lbi.simulation.bits import lowest_bit, mask64

BITS = 64
"""Elements of a mask."""


@intrinsic
def n_bits(typing_context, mask):
    """Number of set bits."""

    def generate(context, builder, sig, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@njit(inline="always")
def mask_of(x, at, n):
    """The mask of elements ``at`` to ``at`` + min(n, 64) − 1 of a C-contiguous array, counted over all its axes."""
    if n >= BITS:
        return mask64(x, at)
    mask, flat = np.uint64(0), x.reshape(-1)
    for i in range(n):
        mask |= np.uint64(flat[at + i] != 0) << np.uint64(i)
    return mask


@njit(inline="always")
def write_bits(mask, first, found, count):
    """Write ``first`` + the position of each set bit, ascending, to ``found`` from ``count`` on; returns the new count."""
    while mask != 0:
        found[count] = np.int32(first + np.int64(lowest_bit(mask)))
        count += 1
        mask &= mask - np.uint64(1)
    return count
