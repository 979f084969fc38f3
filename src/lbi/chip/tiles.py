"""Feature maps cut into tiles, blocks of channels times rectangles, that fit a core each.

A run of neurons of a feature map is a strip of one channel: it reads the inputs of its neighbourhood for that channel alone,
so the next channel on another core reads them again. A tile reads them once for all of its channels, with a halo as wide as
the kernel reaches beyond its border.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, groupby, pairwise, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.parts import Box, MapShape, Span

Counts = tuple[int, int, int]
"""Numbers of parts along the channels, the height and the width."""

_BATCH = 4096
"""Up to so many numbers of tiles have their grids listed at a time."""

MOST_GROWN = 2000
"""Boxes around a neuron that are tried before every grid is."""


def grid(shape: MapShape, counts: Counts) -> tuple[Box, ...]:
    """A feature map in equal tiles; sizes along an axis differ by at most one.

    Args:
        shape: (channels, height, width).
        counts: parts along each.

    Returns:
        The tiles, in C order.
    """
    return tuple(_tiles(shape, counts))


def _tiles(shape: MapShape, counts: Counts) -> Iterator[Box]:
    bounds = [[n * i // k for i in range(k + 1)] for n, k in zip(shape, counts, strict=True)]
    spans = [list(pairwise(bound)) for bound in bounds]
    return (Box(shape, *span) for span in product(*spans))


def fewest_tiles(
    shape: MapShape, most: float, fits: Callable[[Box], bool], axons: Callable[[Box], int]
) -> tuple[Box, ...] | None:
    """The grid of fewest equal tiles that all fit a core; of these, one whose middle tile has few input axons.

    A tile within one that fits need not fit: where rows are shared, a small tile can have more different rows. So every
    grid of fewer tiles is tried, by rising number of tiles; most are refused by their middle tile.

    Args:
        shape: (channels, height, width).
        most: neurons of a core.
        fits: whether a tile fits a core; False for more than ``most`` neurons.
        axons: input axons of a tile.

    Returns:
        The tiles; None if no grid fits.
    """
    span = cache(_middle)

    def middle(counts: Counts) -> Box:
        return Box(shape, span(shape[0], counts[0]), span(shape[1], counts[1]), span(shape[2], counts[2]))

    for _, same in groupby(_grids(shape, int(min(most, prod(shape)))), key=prod):
        trials = [counts for counts in same if fits(middle(counts))]
        # A tile at a border or of another phase of the stride may be larger than the middle one.
        for counts in sorted(trials, key=lambda counts: (axons(middle(counts)), counts)):
            if all(map(fits, _tiles(shape, counts))):
                return grid(shape, counts)
    return None


def can_grow_to_fit(
    neuron: tuple[int, int, int], shape: MapShape, fits: Callable[[Box], bool], may: Callable[[Box], bool]
) -> bool:
    """False if no box that holds this neuron fits a core.

    Args:
        neuron: its channel, row and column.
        shape: (channels, height, width).
        fits: whether a box fits a core.
        may: False only if neither a box nor any box that holds it fits.

    Returns:
        False if none fits; True if one does, or if more than ``MOST_GROWN`` boxes may.
    """
    first = Box(shape, *((n, n + 1) for n in neuron))
    seen, todo = {first}, deque([first])
    while todo:
        box = todo.popleft()
        if not may(box):
            continue
        if fits(box) or len(seen) > MOST_GROWN:
            return True
        larger = set(_grown(box)) - seen
        seen |= larger
        todo.extend(sorted(larger, key=lambda box: (box.channels, box.rows, box.columns)))
    return False


def _grown(box: Box) -> Iterator[Box]:
    """The boxes with one more channel, row or column at either end."""
    spans = [box.channels, box.rows, box.columns]
    for axis, (start, stop) in enumerate(spans):
        for span in ((start - 1, stop), (start, stop + 1)):
            if span[0] >= 0 and span[1] <= box.shape[axis]:
                channels, rows, columns = (span if i == axis else spans[i] for i in range(3))
                yield Box(box.shape, channels, rows, columns)


def _grids(shape: MapShape, largest: int) -> Iterator[Counts]:
    """All grids without a tile of more than ``largest`` neurons, by rising number of tiles, then in order."""
    n_channels, n_rows, n_columns = shape
    last = -(-prod(shape) // largest) - 1
    while last < prod(shape):
        start, last = last + 1, last + min(_BATCH, 64 + last // 4)
        channels = np.arange(1, min(n_channels, last) + 1)
        index, rows = _ranges(np.ones_like(channels), np.minimum(n_rows, last // channels))
        channels = channels[index]
        # Columns of a tile that has the most channels and rows of its grid; at least one, or there is no such grid.
        widest = largest // (-(-n_channels // channels) * -(-n_rows // rows))
        least = np.where(widest > 0, -(-n_columns // np.maximum(widest, 1)), n_columns + 1)
        parts = channels * rows
        index, columns = _ranges(np.maximum(least, -(-start // parts)), np.minimum(n_columns, last // parts))
        found = np.stack([channels[index], rows[index], columns], axis=1)
        order = np.argsort(found.prod(axis=1), kind="stable")
        yield from map(tuple, found[order].tolist())


def _ranges(first: NDArray[Any], last: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """The numbers from each ``first`` to its ``last``, one range after the other, and the index of each number's range."""
    sizes = np.maximum(last - first + 1, 0)
    index = np.repeat(np.arange(sizes.size), sizes)
    before = np.cumsum(sizes) - sizes
    return index, first[index] + np.arange(index.size) - before[index]


def _middle(n: int, k: int) -> Span:
    """A largest of ``k`` equal parts of an axis, inside it where it has an inside."""
    inside = range(1, k - 1) if k > 2 else range(k)
    half = len(inside) // 2
    order = chain(inside[half:], inside[:half])
    bounds = ((n * i // k, n * (i + 1) // k) for i in order)
    largest = next((span for span in bounds if span[1] - span[0] > (n - 1) // k), None)
    i = inside[half]
    return largest or (n * i // k, n * (i + 1) // k)
