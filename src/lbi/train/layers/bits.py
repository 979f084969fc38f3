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
    """Number of set bits.

    Args:
        typing_context: numba's.
        mask: a uint64.

    Returns:
        Signature and builder of a uint64.
    """

    def generate(context, builder, sig, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@njit(inline="always")
def mask_of(x, at, n):
    """The mask of up to 64 elements of an array, counted over all its axes.

    Args:
        x: C-contiguous.
        at: the first element.
        n: number of elements; more than 64 count as 64.

    Returns:
        uint64: bit i is set if element ``at`` + i is not 0.
    """
    if n >= BITS:
        return mask64(x, at)
    mask, flat = np.uint64(0), x.reshape(-1)
    for i in range(n):
        mask |= np.uint64(flat[at + i] != 0) << np.uint64(i)
    return mask


@njit(inline="always")
def write_bits(mask, first, found, count):
    """Write numbers of set bits to an array.

    Args:
        mask: uint64.
        first: number of the mask's lowest bit.
        found: int32, receives ``first`` plus the position of each set bit, rising, from ``count`` on.
        count: numbers in ``found`` before.

    Returns:
        The new count.
    """
    while mask != 0:
        found[count] = np.int32(first + np.int64(lowest_bit(mask)))
        count += 1
        mask &= mask - np.uint64(1)
    return count
