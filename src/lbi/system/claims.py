"""Claims of compiled code: threads of one region take pieces of work from shared counters."""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_APART = 8
"""int64 numbers of a cache line, so that each thread's counter has a line of its own."""


@intrinsic
def _fetch_add(typing_context, counters, at):
    """``counters[at]``, increased by 1 in the same atomic operation; ``counters`` is a contiguous int64 array."""
    signature = types.int64(counters, types.int64)

    def generate(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        place = builder.gep(array.data, [args[1]])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return signature, generate


@njit(inline="always")
def claim(turns):
    """The number of the next piece of work, counted from 0.

    Args:
        turns: (1,) int64, shared by all threads; 0 at the start.

    Returns:
        The number, which no other thread gets.
    """
    return _fetch_add(turns, 0)


def turns_of_shares(n_threads):
    """Counters for ``claim_near``.

    Args:
        n_threads: threads that are to have a share of the pieces each.

    Returns:
        (n_threads, 8) int64 zeros.
    """
    return np.zeros((n_threads, _APART), np.int64)


@njit(inline="always")
def claim_near(turns, n, own):
    """The number of the next piece of a thread's own share; without one left, the next of another's.

    Threads that process the same memory again and again find it in their own core's caches.

    Args:
        turns: ``turns_of_shares``, shared by all threads; 0 at the start.
        n: number of pieces.
        own: number of the thread (``lbi.system.threads.number``).

    Returns:
        The number, which no other thread gets; −1 if none is left.
    """
    n_shares = len(turns)
    for k in range(n_shares):
        share = (own + k) % n_shares
        begin, end = share * n // n_shares, (share + 1) * n // n_shares
        piece = begin + _fetch_add(turns, share * _APART)
        if piece < end:
            return piece
    return -1
