"""Conversion of 2-D convolutions to sparse matrices and back.

Positions are numbered in C order of (channels, height, width), as in torch.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.limits import MOST_NEURONS
from lbi.network.csr import CsrMatrix

Shape = tuple[int, ...]

STEPS = Rule("convolution", "strides and dilations of at least 1, padding of at least 0")
OUTPUT = Rule("convolution", f"an output of 1 to {MOST_NEURONS} neurons")


def image(shape: Shape) -> Shape:
    """A shape as that of an image.

    Args:
        shape: sizes of an input or a layer.

    Returns:
        (1, height, width), one channel, for two sizes; any other shape as it is.
    """
    return (1, *shape) if len(shape) == 2 else shape


class Convolution(NamedTuple):
    """A 2-D convolution; pairs are (height, width).

    Attributes:
        kernel: (n_out, n_in / groups, height, width).
        stride: (height, width).
        padding: (height, width), zeros on either side.
        dilation: (height, width).
        groups: number of groups of channels.
    """

    kernel: NDArray[Any]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def check(self, shape: Shape) -> None:
        """Check that an input of that shape (channels, height, width) has an output of bounded size.

        Args:
            shape: (channels, height, width) of the input.

        Raises:
            InputError: if it has not.
        """
        steps = f"stride {self.stride}, padding {self.padding}, dilation {self.dilation}"
        problems = Problems()
        moves = min(*self.stride, *self.dilation) >= 1 and min(self.padding) >= 0
        if STEPS.check(problems, moves, "convolution", steps):
            sizes = self.output_shape(shape)
            holds = min(sizes) >= 1 and prod(sizes) <= MOST_NEURONS
            OUTPUT.check(problems, holds, "convolution", f"{steps}, output {sizes}")
        problems.raise_as(InputError)

    def channels(self) -> NDArray[np.intp]:
        """(n_out, n_in / groups) the input channel of each kernel."""
        n_out, per_group = self.kernel.shape[:2]
        return np.arange(n_out)[:, None] // (n_out // self.groups) * per_group + np.arange(per_group)

    def output_shape(self, shape: Shape) -> tuple[int, int, int]:
        """(channels, height, width) of the output for an input of that shape.

        Args:
            shape: (channels, height, width) of the input.

        Returns:
            (channels, height, width).
        """
        size = [
            (shape[1 + k] + 2 * self.padding[k] - self.dilation[k] * (self.kernel.shape[2 + k] - 1) - 1)
            // self.stride[k]
            + 1
            for k in range(2)
        ]
        return self.kernel.shape[0], size[0], size[1]

    def sources(self, axis: int, outputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Input positions under the taps of the kernel along one axis; those outside the input are padding.

        Args:
            axis: 0 for the height, 1 for the width.
            outputs: (n,) output positions along the axis.

        Returns:
            (n, kernel size).
        """
        taps = np.arange(self.kernel.shape[2 + axis]) * self.dilation[axis]
        return outputs[:, None] * self.stride[axis] + taps - self.padding[axis]


def without_groups(kernel: NDArray[Any], groups: int) -> NDArray[Any]:
    """Kernels over all input channels, zero outside of their groups.

    Args:
        kernel: (n_out, n_in / groups, height, width).
        groups: groups of channels.

    Returns:
        (n_out, n_in, height, width).
    """
    n_out, per_group = kernel.shape[:2]
    whole = np.zeros((n_out, per_group * groups, *kernel.shape[2:]), dtype=kernel.dtype)
    first = np.arange(n_out)[:, None] // (n_out // groups) * per_group
    whole[np.arange(n_out)[:, None], first + np.arange(per_group)] = kernel
    return whole


def inexact_in_lava(convolution: Convolution, exponent: int = 0) -> str:
    """Why Lava's ``Conv`` would not give a convolution's sums; empty if it gives them.

    Source: lava-nc 0.10.0, ``lava/proc/conv``.

    Args:
        convolution: in integers.
        exponent: at least 0: its weights are shifted left by it.

    Returns:
        A clause that states the reason; empty if there is none.
    """
    reach = [
        step * (size - 1) + 1
        for step, size in zip(convolution.dilation, convolution.kernel.shape[2:], strict=True)
    ]
    steps = [*convolution.stride, *reach, *(2 * width for width in convolution.padding), convolution.groups]
    largest = int(np.abs(convolution.kernel.astype(np.int64)).sum(axis=(1, 2, 3)).max())
    if max(steps) > 127:
        return "Conv computes its steps in 8 bits"
    return "its sums may exceed 24 bits, where Conv wraps" if largest << exponent >= 1 << 23 else ""


def expand(convolution: Convolution, shape: Shape) -> CsrMatrix:
    """The matrix of a convolution of an input (channels, height, width), without zeros of the kernel.

    ``out[k, y, x] = Σ kernel[k, c, i, j] · in[c, y · stride + i · dilation − padding, …]``

    Args:
        convolution: the convolution.
        shape: (channels, height, width) of the input.

    Returns:
        (n_out, n_in) weights, both sides in C order.
    """
    from scipy.sparse import coo_matrix

    kernel = convolution.kernel
    n_out, height, width = convolution.output_shape(shape)
    taps, outs, ins = _geometry(convolution, shape, (height, width))
    per_group_out, per_group_in = n_out // convolution.groups, kernel.shape[1]
    values, rows, columns = [], [], []
    for k in range(n_out):
        begin = k // per_group_out * per_group_in
        weights = kernel[k].reshape(per_group_in, -1)[:, taps]  # (channels, taps at places)
        channel, place = np.nonzero(weights)
        values.append(weights[channel, place])
        rows.append(k * height * width + outs[place])
        columns.append((begin + channel) * shape[1] * shape[2] + ins[place])
    matrix = coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n_out * height * width, prod(shape)),
    )
    return CsrMatrix.from_scipy(matrix)


def _geometry(
    convolution: Convolution, shape: Shape, size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Every (kernel tap, output place, input place) of one channel that lies inside the input."""
    axes = []
    for k in range(2):
        source = convolution.sources(k, np.arange(size[k])).T
        tap, out = np.nonzero((source >= 0) & (source < shape[1 + k]))
        axes.append((tap, out, source[tap, out]))
    (tap_y, out_y, in_y), (tap_x, out_x, in_x) = axes
    taps = tap_y[:, None] * convolution.kernel.shape[3] + tap_x
    outs = out_y[:, None] * size[1] + out_x
    ins = in_y[:, None] * shape[2] + in_x
    return (taps.ravel().astype(np.int32), outs.ravel().astype(np.int32), ins.ravel().astype(np.int32))


def find(matrix: CsrMatrix, before: Shape, after: Shape) -> Convolution | None:
    """The convolution that a matrix is equal to, or None if there is none.

    Groups and dilation are represented by zeros of the kernel. ``expand`` of the result is ``matrix`` again.

    Args:
        matrix: (n_after, n_before).
        before: (channels, height, width) of the source.
        after: (channels, height, width) of the target.

    Returns:
        The convolution, or None.
    """
    if len(before) != 3 or len(after) != 3 or matrix.nnz == 0:
        return None
    outs = np.unravel_index(matrix.row_of(), after)
    ins = np.unravel_index(matrix.indices, before)
    vertical, horizontal = (_axis(outs[k], ins[k], before[k], after[k]) for k in (1, 2))
    if vertical is None or horizontal is None:
        return None
    (stride_y, padding_y, height), (stride_x, padding_x, width) = vertical, horizontal
    taps = (outs[0], ins[0], ins[1] - outs[1] * stride_y + padding_y, ins[2] - outs[2] * stride_x + padding_x)
    kernel = np.zeros((after[0], before[0], height, width), dtype=matrix.data.dtype)
    kernel[taps] = matrix.data
    found = Convolution(kernel, (stride_y, stride_x), (padding_y, padding_x))
    if not np.array_equal(kernel[taps], matrix.data):
        return None
    # All synapses belong to the convolution; they are equal if the convolution has no others.
    per_tap = np.bincount(_geometry(found, before, (after[1], after[2]))[0], minlength=height * width)
    n_synapses = int(np.count_nonzero(kernel, axis=(0, 1)).reshape(-1) @ per_tap)
    return found if n_synapses == matrix.nnz else None


def _axis(outs: NDArray[Any], ins: NDArray[Any], n_before: int, n_after: int) -> tuple[int, int, int] | None:
    """(stride, padding, size) along one axis of the smallest kernel that covers all pairs of positions."""
    pairs = np.zeros((n_after, n_before), dtype=bool)
    pairs[outs, ins] = True
    out, source = np.nonzero(pairs)
    spans = [np.ptp(source - out * stride) for stride in range(1, n_before + 1)]
    stride = int(np.argmin(spans)) + 1
    offsets = source - out * stride
    low, high = int(offsets.min()), int(offsets.max())
    for padding in range(max(0, -low), n_before + 1):
        longest = (
            n_before + 2 * padding - stride * (n_after - 1)
        )  # the largest size that gives n_after positions
        size = max(high + padding + 1, longest - stride + 1)
        if size <= longest:
            return stride, padding, size
    return None
