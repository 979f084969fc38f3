"""Compiled delivery of spikes through the kernels of a convolution: a spike adds to the targets in its receptive field.

The weights are those of the kernels, sorted by (input channel, tap), without zeros. ``words`` of a projection holds the
geometry (``GEOMETRY`` numbers), where the weights of each (input channel, tap) begin, and for each weight the first
target of its output channel. Cost per spike: the taps, and the synapses that exist.
"""

# numba types this code; mypy reports its casts as errors:
# mypy: disable-error-code="assignment, call-arg, import-untyped, var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution_weights import ConvolutionWeights
from lbi.system.numba_cache import inlined

GEOMETRY = 13
"""Numbers before the pointers: input (height, width), output (height, width), kernel, stride, padding, dilation, and where
the first targets begin."""


def stored_kernels(weights: ConvolutionWeights) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """The order of a convolution's weights in the simulator, and its words.

    Args:
        weights: the convolution.

    Returns:
        (n_parameters,) places in ``weights.data``, and the words.
    """
    own = weights.convolution
    n_out, per_group, height, width = own.kernel.shape
    out, channel, i, j = np.nonzero(own.kernel)
    channel = channel + out // (n_out // own.groups) * per_group
    tap = (channel * height + i) * width + j
    order = np.argsort(tap, kind="stable")
    pointers = np.concatenate(
        [[0], np.cumsum(np.bincount(tap, minlength=per_group * own.groups * height * width))]
    )
    _, out_height, out_width = weights.output_shape
    first = out[order] * out_height * out_width
    pairs = (weights.input_shape[1:], (out_height, out_width), (height, width), *own[1:4])
    geometry = [number for pair in pairs for number in pair] + [GEOMETRY + pointers.size]
    return order, np.concatenate([geometry, pointers, first]).astype(np.uint64)


@inlined
def add_kernels(goal: Any, words: Any, weights: Any, factor: Any, sources: Any, count: int) -> None:
    """Add the synapses of spiking sources to the sums of their targets.

    Args:
        goal: (n_target,) int32 sums.
        words: those of ``stored_kernels``.
        weights: (n_parameters,) mantissas without shared low zero bits.
        factor: int32 that each weight is multiplied by.
        sources: the sources that spike.
        count: their number.
    """
    height, width = np.int64(words[0]), np.int64(words[1])
    out_height, out_width = np.int64(words[2]), np.int64(words[3])
    taps_down, taps_across = np.int64(words[4]), np.int64(words[5])
    stride_down, stride_across = np.int64(words[6]), np.int64(words[7])
    above, before = np.int64(words[8]), np.int64(words[9])
    step_down, step_across = np.int64(words[10]), np.int64(words[11])
    first = np.uint64(words[12])  # where the first targets begin
    for e in range(count):
        source = np.int64(sources[e])
        channel = source // (height * width)
        place = source - channel * height * width
        row = place // width
        column = place - row * width
        for i in range(taps_down):
            down = row + above - i * step_down
            y = down // stride_down
            if down < 0 or y >= out_height or y * stride_down != down:
                continue
            for j in range(taps_across):
                across = column + before - j * step_across
                x = across // stride_across
                if across < 0 or x >= out_width or x * stride_across != across:
                    continue
                tap = np.uint64((channel * taps_down + i) * taps_across + j + GEOMETRY)
                target = np.uint64(y * out_width + x)
                for k in range(words[tap], words[tap + np.uint64(1)]):
                    at = words[first + k] + target
                    goal[at] += np.int32(np.int32(weights[k]) * factor)
