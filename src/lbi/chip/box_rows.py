"""Rows of a convolution's synapses on a core that holds a box of its target: their bits and their number, without a list.

A search for tiles measures thousands of boxes. Sources under the same taps along both axes have as many synapses, so they
are counted together, and boxes whose sources lie under the same taps are counted once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.chip.memory import SHARED, entries, row_format, shared_bits
from lbi.chip.profile import MemoryLayout
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.fixed import FixedProjection
from lbi.network.parts import Box, Span
from lbi.network.window import reach, synapses_under, taps_onto


class _Reach(NamedTuple):
    """The sources of some outputs along one axis, by the taps that they lie under.

    Attributes:
        number: equal for as many outputs with the same sources but for their place.
        taps: (n, kernel size) True for the taps of each kind of source.
        times: (n,) sources of each kind.
    """

    number: int
    taps: NDArray[np.bool_]
    times: NDArray[np.int64]


class BoxRows:
    """Bits and numbers of rows on the cores of boxes, each kind of box counted once.

    Args:
        projection: a convolution.
        kind: "indexed" or "shared".
        layout: memory layout.
    """

    def __init__(self, projection: FixedProjection, kind: str, layout: MemoryLayout) -> None:
        weights = entries(projection, kind, layout)
        assert isinstance(weights, ConvolutionWeights)
        self.shape = weights.output_shape
        self._weights = weights
        self._projection = projection
        self._kind = kind
        self._layout = layout
        self._rows = row_format(projection, layout)
        self._reaches: tuple[dict[Span, _Reach], dict[Span, _Reach]] = ({}, {})
        self._numbers: dict[tuple[int, bytes, bytes], int] = {}
        self._found: dict[tuple[Span, int, int], tuple[int, int]] = {}

    def measure(self, box: Box) -> tuple[int, int]:
        """The rows on the core of a box.

        Args:
            box: a box of the target, of ``shape``.

        Returns:
            Bits of all rows; sources that have synapses onto the box.
        """
        down = self._reaches[0].get(box.rows) or self._reach(0, box.rows)
        across = self._reaches[1].get(box.columns) or self._reach(1, box.columns)
        key = (box.channels, down.number, across.number)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._count(box, down, across)
        return found

    def _reach(self, axis: int, outputs: Span) -> _Reach:
        weights = self._weights
        _, reached = reach(weights.convolution, weights.input_shape, axis, outputs)
        taps, times = np.unique(reached, axis=0, return_counts=True)
        key = (outputs[1] - outputs[0], taps.tobytes(), times.tobytes())
        number = self._numbers.setdefault(key, len(self._numbers))
        found = self._reaches[axis][outputs] = _Reach(number, taps, times)
        return found

    def _count(self, box: Box, down: _Reach, across: _Reach) -> tuple[int, int]:
        taps = taps_onto(self._weights.cumulated, box.channels)
        counts = synapses_under(taps, down.taps, across.taps)
        times = down.times[:, None] * across.times
        n_sources = int(((counts > 0) * times).sum())
        if self._kind == SHARED:
            return shared_bits(self._projection, box, self._layout), n_sources
        return self._rows.indexed_bits(counts, box.n, times), n_sources
