"""Parts of a population: runs of consecutive neurons, and boxes of a feature map.

Neurons of a feature map are numbered in C order of (channels, height, width). Both kinds of part give their neurons as
runs, for weights stored by rows, and as boxes, for kernels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
"""First, and one past the last."""

MapShape = tuple[int, int, int]
"""(channels, height, width)."""


class Part(ABC):
    """Some neurons of a population."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of neurons."""

    @property
    @abstractmethod
    def neurons(self) -> slice | NDArray[np.int64]:
        """An index of the neurons, rising."""

    @property
    @abstractmethod
    def runs(self) -> tuple[Span, ...]:
        """The neurons as runs of consecutive ones, rising."""

    @abstractmethod
    def boxes(self, shape: MapShape) -> tuple[Box, ...]:
        """The neurons as boxes of a feature map.

        Args:
            shape: (channels, height, width) of the population.

        Returns:
            Boxes that together cover the neurons, without overlap.
        """


@dataclass(frozen=True)
class Run(Part):
    """Neurons ``start`` to ``stop`` − 1."""

    start: int
    stop: int

    @property
    def n(self) -> int:
        """Number of neurons."""
        return self.stop - self.start

    @property
    def neurons(self) -> slice:
        """A slice."""
        return slice(self.start, self.stop)

    @property
    def runs(self) -> tuple[Span, ...]:
        """The run itself."""
        return ((self.start, self.stop),)

    def boxes(self, shape: MapShape) -> tuple[Box, ...]:
        """The neurons as boxes: the rest of a row, full rows, full channels, full rows, the first part of a row.

        Args:
            shape: (channels, height, width) of the population.

        Returns:
            Up to five boxes without overlap.
        """
        return tuple(_boxes(self.start, self.stop, shape))


def _boxes(start: int, stop: int, shape: MapShape) -> Iterator[Box]:
    _, height, width = shape
    while start < stop:
        channel, place = divmod(start, height * width)
        row, column = divmod(place, width)
        left = stop - start
        if place == 0 and left >= height * width:
            box = Box(shape, (channel, channel + left // (height * width)), (0, height), (0, width))
        elif column == 0 and left >= width:
            rows = (row, row + min(height - row, left // width))
            box = Box(shape, (channel, channel + 1), rows, (0, width))
        else:
            columns = (column, column + min(width - column, left))
            box = Box(shape, (channel, channel + 1), (row, row + 1), columns)
        yield box
        start += box.n


@dataclass(frozen=True)
class Box(Part):
    """A block of channels times a rectangle of a feature map of that ``shape``."""

    shape: MapShape
    channels: Span
    rows: Span
    columns: Span

    @property
    def size(self) -> MapShape:
        """(channels, height, width) of the box."""
        spans = (self.channels, self.rows, self.columns)
        return spans[0][1] - spans[0][0], spans[1][1] - spans[1][0], spans[2][1] - spans[2][0]

    @property
    def n(self) -> int:
        """Number of neurons."""
        return prod(self.size)

    @property
    def neurons(self) -> NDArray[np.int64]:
        """(n,) indices, rising."""
        channels, rows, columns = (np.arange(*span) for span in (self.channels, self.rows, self.columns))
        _, height, width = self.shape
        return ((channels[:, None, None] * height + rows[:, None]) * width + columns).reshape(-1)

    @property
    def runs(self) -> tuple[Span, ...]:
        """One run per row, or per channel of full rows."""
        _, height, width = self.shape
        n_channels, n_rows, n_columns = self.size
        first = (self.channels[0] * height + self.rows[0]) * width + self.columns[0]
        if (n_rows, n_columns) == (height, width):
            return ((first, first + self.n),)
        starts = [first + channel * height * width for channel in range(n_channels)]
        if n_columns == width:
            return tuple((start, start + n_rows * width) for start in starts)
        starts = [start + row * width for start in starts for row in range(n_rows)]
        return tuple((start, start + n_columns) for start in starts)

    def boxes(self, shape: MapShape) -> tuple[Box, ...]:
        """The box itself, or its runs as boxes of a map of another shape.

        Args:
            shape: (channels, height, width) of the population.

        Returns:
            Boxes without overlap.
        """
        if shape == self.shape:
            return (self,)
        return tuple(box for start, stop in self.runs for box in _boxes(start, stop, shape))
