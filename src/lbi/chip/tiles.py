"""Feature maps cut into tiles, blocks of channels times rectangles, that fit a core each.

A run of neurons of a feature map is a strip of one channel: it reads the inputs of its neighbourhood for that channel alone,
so the next channel on another core reads them again. A tile reads them once for all of its channels, with a halo as wide as
the kernel reaches beyond its border.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from math import prod

from lbi.network.parts import Box, MapShape

Counts = tuple[int, int, int]
"""Numbers of parts along the channels, the height and the width."""


def grid(shape: MapShape, counts: Counts) -> tuple[Box, ...]:
    """A feature map in equal tiles; sizes along an axis differ by at most one.

    Args:
        shape: (channels, height, width).
        counts: parts along each.

    Returns:
        The tiles, in C order.
    """
    bounds = [[n * i // k for i in range(k + 1)] for n, k in zip(shape, counts, strict=True)]
    spans = [list(pairwise(bound)) for bound in bounds]
    return tuple(Box(shape, *span) for span in product(*spans))


def fewest_tiles(
    shape: MapShape, most: float, fits: Callable[[Box], bool], axons: Callable[[Box], int]
) -> tuple[Box, ...] | None:
    """The grid of fewest equal tiles that all fit a core; of these, one whose middle tile has few input axons.

    A tile within one that fits need not fit: where rows are shared, a small tile can have more different rows.

    Args:
        shape: (channels, height, width).
        most: neurons of a core.
        fits: whether a tile fits a core.
        axons: input axons of a tile.

    Returns:
        The tiles; None if no grid fits.
    """
    best: tuple[int, int, Counts] | None = None
    largest = int(min(most, prod(shape)))
    for n_channels, n_rows in product(range(1, shape[0] + 1), range(1, shape[1] + 1)):
        limit = prod(shape) if best is None else best[0]
        # Of the narrowest tiles at least one has this many neurons per column.
        widest = largest // ((shape[0] // n_channels) * (shape[1] // n_rows))
        for n_columns in range(
            shape[2] // (widest + 1) + 1, min(shape[2], limit // (n_channels * n_rows)) + 1
        ):
            counts = (n_channels, n_rows, n_columns)
            middle = _middle(shape, counts)
            if middle.n > most or not fits(middle):
                continue
            found = (prod(counts), axons(middle), counts)
            # A tile at a border or of another phase of the stride may be larger than the middle one.
            if (best is None or found < best) and all(map(fits, grid(shape, counts))):
                best = found
                break
    return None if best is None else grid(shape, best[2])


def _middle(shape: MapShape, counts: Counts) -> Box:
    """A largest tile of a grid, inside it where it has an inside."""
    spans = []
    for n, k in zip(shape, counts, strict=True):
        bounds = [(n * i // k, n * (i + 1) // k) for i in range(k)]
        inner = bounds[1:-1] or bounds
        spans.append(max(inner[len(inner) // 2 :] + inner[: len(inner) // 2], key=lambda b: b[1] - b[0]))
    return Box(shape, *spans)
