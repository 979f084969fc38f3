"""Limits on the sizes that a file may claim, so that memory use stays in proportion to the file."""

from __future__ import annotations

FREE_ELEMENTS = 1 << 24
"""Array elements that any file may claim: constant arrays take no space in a compressed file."""

ELEMENTS_PER_BYTE = 64
"""Array elements that a file may claim per byte, in addition to FREE_ELEMENTS."""


def most_elements(n_bytes: int) -> int:
    """The number of array elements that a file of ``n_bytes`` bytes may claim to hold.

    Args:
        n_bytes: size of the file.

    Returns:
        FREE_ELEMENTS, and ELEMENTS_PER_BYTE for each byte.
    """
    return FREE_ELEMENTS + ELEMENTS_PER_BYTE * n_bytes


MOST_NEURONS = 1 << 22
"""Neurons of an input or layer whose size a file states apart from its weights."""
