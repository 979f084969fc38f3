"""Recognition of a convolution in a sparse matrix; importers use it to keep kernels of layers of any class."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution import Convolution, Shape, find
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights


def recognised(
    matrix: CsrMatrix, pattern: CsrMatrix | None, before: Shape, after: Shape
) -> tuple[Weights, CsrMatrix | None]:
    """The weights as kernels where they are exactly those of a convolution that shares them, else as they are.

    A layer's pattern tells its kernel's places, and with them groups and dilation; zero weights would hide them.

    Args:
        matrix: (n_after, n_before) weights.
        pattern: ones where the layer has weights; None for everywhere, which is no convolution.
        before: (channels, height, width) of the source.
        after: (channels, height, width) of the target.

    Returns:
        The weights, and the pattern; None where it is the weights' own.
    """
    if pattern is None or matrix.nnz == 0:
        return matrix, pattern
    found = find(pattern, before, after)
    if found is None or found.output_shape(before) != after:
        return matrix, pattern
    outs = np.unravel_index(matrix.row_of(), after)
    ins = np.unravel_index(matrix.indices, before)
    taps = [ins[k] - outs[k] * found.stride[k - 1] + found.padding[k - 1] for k in (1, 2)]
    kernel = np.zeros(found.kernel.shape, dtype=matrix.data.dtype)
    kernel[outs[0], ins[0], taps[0], taps[1]] = matrix.data
    places = found.kernel != 0
    steps = _dilation(places, 2), _dilation(places, 3)
    groups = _groups(places.any(axis=(2, 3)))
    rows = np.arange(after[0]) // (after[0] // groups) * (before[0] // groups)
    channels = rows[:, None] + np.arange(before[0] // groups)

    def stored(values: NDArray[Any]) -> NDArray[Any]:
        spread = values[:, :, :: steps[0], :: steps[1]]
        return spread[np.arange(after[0])[:, None], channels]

    own = Convolution(stored(kernel), found.stride, found.padding, steps, groups)
    weights = ConvolutionWeights(own, (before[0], before[1], before[2]))
    if weights.shape != matrix.shape or weights.nnz != matrix.nnz or weights.n_parameters >= weights.nnz:
        return matrix, pattern
    if weights.to_csr() != matrix:
        return matrix, pattern
    return weights, None if np.all(stored(places)) else pattern


def _dilation(places: NDArray[np.bool_], axis: int) -> int:
    """The distance of the taps in use along an axis, where these are the first, the last and all in between."""
    used = np.flatnonzero(places.any(axis=tuple(k for k in range(4) if k != axis)))
    step = gcd(*map(int, np.diff(used))) if used.size > 1 else 1
    regular = used[0] == 0 and used[-1] == places.shape[axis] - 1
    return step if regular else 1


def _groups(connected: NDArray[np.bool_]) -> int:
    """The largest number of groups into which connected (n_out, n_in) channels fall."""
    n_out, n_in = connected.shape
    most = gcd(n_out, n_in)
    for groups in range(most, 1, -1):
        if most % groups == 0:
            own = np.arange(n_out)[:, None] * groups // n_out == np.arange(n_in) * groups // n_in
            if not np.any(connected & ~own):
                return groups
    return 1
