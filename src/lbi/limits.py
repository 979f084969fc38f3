"""What files of any size may claim, so that reading one needs no more memory than it is worth."""

from __future__ import annotations

FREE_ELEMENTS = 1 << 24
"""Numbers that a file of any size may claim: those that are all the same take no room in it."""

ELEMENTS_PER_BYTE = 64
"""Numbers that a file may claim for each of its bytes, beyond those."""


def most_elements(n_bytes: int) -> int:
    """The most numbers that a file of ``n_bytes`` may claim to hold, so that reading it needs no more memory."""
    return FREE_ELEMENTS + ELEMENTS_PER_BYTE * n_bytes


MOST_NEURONS = 1 << 22
"""Of an input or a layer whose size a file states beside its weights; four chips of Loihi 2 hold as many."""
