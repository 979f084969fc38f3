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
    """The grid of fewest equal tiles that all fit a core; of these, one with few input axons.

    Args:
        shape: (channels, height, width).
        most: neurons of a core.
        fits: whether a tile fits a core; a tile inside one that fits must fit.
        axons: input axons of a tile.

    Returns:
        The tiles; None if not even one neuron fits.
    """
    found: list[tuple[int, int, Counts]] = []
    best = prod(shape)
    for n_channels, n_rows in product(_counts(shape[0]), _counts(shape[1])):
        if n_channels * n_rows > best:
            continue
        n_columns = _fewest_columns(shape, (n_channels, n_rows), most, fits)
        if n_columns is not None and n_channels * n_rows * n_columns <= best:
            counts = (n_channels, n_rows, n_columns)
            best = prod(counts)
            found.append((best, axons(_middle(shape, counts)), counts))
    # A tile at a border or of another phase of the stride may be larger than the middle one: every tile is tried.
    for _, _, counts in sorted(found):
        tiles = grid(shape, counts)
        if all(map(fits, tiles)):
            return tiles
    single = grid(shape, shape)
    return single if all(map(fits, single)) else None


def _counts(n: int) -> list[int]:
    """The numbers of parts of ``n`` that make the largest part smaller, rising."""
    return sorted({-(-n // size) for size in range(1, n + 1)})


def _middle(shape: MapShape, counts: Counts) -> Box:
    """A largest tile of a grid, inside it where it has an inside."""
    spans = []
    for n, k in zip(shape, counts, strict=True):
        bounds = [(n * i // k, n * (i + 1) // k) for i in range(k)]
        inner = bounds[1:-1] or bounds
        spans.append(max(inner[len(inner) // 2 :] + inner[: len(inner) // 2], key=lambda b: b[1] - b[0]))
    return Box(shape, *spans)


def _fewest_columns(
    shape: MapShape, counts: tuple[int, int], most: float, fits: Callable[[Box], bool]
) -> int | None:
    """The fewest parts along the width at which the middle tile fits; None if it never does."""
    options = _counts(shape[2])
    other = -(-shape[0] // counts[0]) * -(-shape[1] // counts[1])
    low, high = 0, len(options) - 1
    while low < len(options) and other * -(-shape[2] // options[low]) > most:
        low += 1
    if low > high or not fits(_middle(shape, (*counts, options[high]))):
        return None
    while low < high:
        middle = (low + high) // 2
        if fits(_middle(shape, (*counts, options[middle]))):
            high = middle
        else:
            low = middle + 1
    return options[low]
