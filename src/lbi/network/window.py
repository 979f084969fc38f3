"""The inputs of a convolution that reach a box of its outputs, counted without unrolling.

Along each axis an input lies under some taps of the kernel for some outputs of the box. All counts are products of these
relations of the two axes with the nonzero weights of the kernel, since height and width are independent.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution import Convolution
from lbi.network.parts import Box, Span

EXACT_BITS = 52
"""Bits of a number that products of floats keep."""


class Window:
    """The inputs under the kernel of the outputs in a box.

    Args:
        convolution: the convolution.
        input_shape: its input, (channels, height, width).
        cumulated: (groups, outputs per group + 1, inputs per group, height, width) nonzero weights onto the outputs before
            each, as ``ConvolutionWeights.cumulated``.
        box: a box of its outputs.
    """

    def __init__(
        self,
        convolution: Convolution,
        input_shape: tuple[int, int, int],
        cumulated: NDArray[np.int64],
        box: Box,
    ) -> None:
        self._input_shape = input_shape
        self._cumulated = cumulated
        self._box = box
        self._axes = [
            reach(convolution, input_shape, axis, span) for axis, span in enumerate((box.rows, box.columns))
        ]

    @cached_property
    def _taps(self) -> NDArray[np.int64]:
        return taps_onto(self._cumulated, self._box.channels)

    def synapses(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Sources (rising) with synapses onto the box, and the synapses of each, both int32."""
        (top, down), (left, across) = self._axes
        counts = synapses_under(self._taps, down, across)
        channel, y, x = np.nonzero(counts)
        _, height, width = self._input_shape
        sources = (channel * height + (y + top)) * width + (x + left)
        return sources.astype(np.int32), counts[channel, y, x].astype(np.int32)

    def distinct_rows(self) -> NDArray[np.int64]:
        """The synapses of each row that is not a translation of another.

        Sources of one channel under the same taps with weights have the same weights onto outputs at the same distances:
        their rows of synapses are equal but for the place of the first output. Taps without a weight are not stored.
        """
        down, across = (np.unique(reached, axis=0) for _, reached in self._axes)
        counts = synapses_under(self._taps, down, across)
        taps = self._taps.reshape(len(self._taps), -1) > 0
        channel = np.broadcast_to(np.arange(len(taps))[:, None, None], counts.shape)
        keys = [channel.reshape(-1)]
        # Sets of taps as numbers, a bit for each tap with a weight.
        for start in range(0, taps.shape[1], EXACT_BITS):
            bits = np.zeros(taps.shape, dtype=np.int64)
            some = slice(start, start + EXACT_BITS)
            bits[:, some] = taps[:, some] << np.arange(taps[:, some].shape[1])
            keys.append(synapses_under(bits.reshape(self._taps.shape), down, across).reshape(-1))
        order = np.lexsort(keys)
        first = np.ones(order.size, dtype=bool)
        first[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
        distinct = counts.reshape(-1)[order[first]]
        return distinct[distinct > 0]


def reach(
    convolution: Convolution, input_shape: tuple[int, int, int], axis: int, outputs: Span
) -> tuple[int, NDArray[np.bool_]]:
    """The inputs under the kernel of some outputs along one axis.

    Args:
        convolution: the convolution.
        input_shape: its input, (channels, height, width).
        axis: 0 for the height, 1 for the width.
        outputs: output positions along the axis.

    Returns:
        The first input under the kernel, and (inputs from there on, kernel size) True where a tap reaches an output.
    """
    source = convolution.sources(axis, np.arange(*outputs))
    inside = (source >= 0) & (source < input_shape[1 + axis])
    n_taps = source.shape[1]
    if not inside.any():
        return 0, np.zeros((0, n_taps), dtype=bool)
    found = source[inside]
    first = int(found.min())
    reached = np.zeros((int(found.max()) - first + 1, n_taps), dtype=bool)
    reached[found - first, np.nonzero(inside)[1]] = True
    return first, reached


def taps_onto(cumulated: NDArray[np.int64], channels: Span) -> NDArray[np.int64]:
    """(n_in, height, width) nonzero weights onto some output channels, per input channel and tap.

    Args:
        cumulated: ``ConvolutionWeights.cumulated``.
        channels: output channels.

    Returns:
        (n_in, height, width) int64.
    """
    groups, per_group = cumulated.shape[0], cumulated.shape[1] - 1
    first, last = (np.clip(end - np.arange(groups) * per_group, 0, per_group) for end in channels)
    group = np.arange(groups)
    taps = cumulated[group, last] - cumulated[group, first]
    return taps.reshape(-1, *taps.shape[2:])


def synapses_under(
    taps: NDArray[np.int64], down: NDArray[np.bool_], across: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Synapses of inputs by the taps that they lie under.

    Args:
        taps: (n_in, height, width) weights, as ``taps_onto``, or other numbers of which all sums are below 2^53.
        down: (n_down, height) True for the taps along the height.
        across: (n_across, width) True for the taps along the width.

    Returns:
        (n_in, n_down, n_across) numbers of synapses.
    """
    inner = taps.astype(np.float64) @ across.T.astype(np.float64)
    return np.matmul(down.astype(np.float64), inner).astype(np.int64)  # exact: below 2^53
