"""Weights of a trained layer as a projection holds them: kernels of a convolution, or a sparse matrix.

A convolution of sums over squares of k × k is one convolution: each weight repeated over a square, stride and padding k
times as large. A dense layer behind such sums is a matrix in which each weight is repeated. Rows and columns that pooling
leaves over must not count; where a convolution's border of zeros lies over them, it is written out as a matrix too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution import Convolution, expand
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.pattern import ones
from lbi.train.layers.wiring import Shape, Wiring, as_image

Block = tuple[Weights, Weights | None]
"""Weights and pattern of a projection; None for the weights' own pattern."""


def blocks(
    wiring: Wiring, weight: NDArray[Any], source: Shape, rows: Sequence[slice], columns: Sequence[slice]
) -> list[list[Block]]:
    """The weights between the parts of two layers.

    Args:
        wiring: The layer's.
        weight: Its weights, of ``wiring.weight_shape``.
        source: Shape of the layer before.
        rows: The neurons of each part of the layer; of a convolution, those of whole channels.
        columns: The neurons of each part of the layer before.

    Returns:
        For each part of the layer, and in it for each part of the layer before: weights and pattern.
    """
    if wiring.channels and not _reaches_what_is_left_over(wiring, source):
        whole, (_, height, width) = _composed(wiring, weight), as_image(source)
        outs = [_channels(part, prod(wiring.shape(source, 0)[1:])) for part in rows]
        ins = [_channels(part, height * width) for part in columns]
        return [[(_part(whole, i, j, (height, width)), None) for j in ins] for i in outs]
    matrix, pattern = matrix_of(wiring, weight, source), pattern_of(wiring, weight.shape, source)
    return [
        [
            (
                CsrMatrix.from_scipy(matrix[i, j]),
                None if pattern is None else ones(CsrMatrix.from_scipy(pattern[i, j])),
            )
            for j in columns
        ]
        for i in rows
    ]


def _reaches_what_is_left_over(wiring: Wiring, source: Shape) -> bool:
    """True if the border of zeros around the sums lies over rows or columns that pooling leaves over."""
    for size, n_sums in zip(as_image(source)[1:], wiring.pooled(source)[1:], strict=True):
        n_out = -(-n_sums // wiring.stride)
        end = (n_out - 1) * wiring.stride - wiring.padding + wiring.kernel
        if size % wiring.pool and end > n_sums:
            return True
    return False


def _composed(wiring: Wiring, weight: NDArray[Any]) -> Convolution:
    """The convolution of the source that is the layer's convolution of sums over squares."""
    k = wiring.pool
    kernel = weight.repeat(k, axis=2).repeat(k, axis=3)
    return Convolution(kernel, (wiring.stride * k,) * 2, (wiring.padding * k,) * 2)


def _channels(part: slice, per_channel: int) -> slice:
    return slice(part.start // per_channel, part.stop // per_channel)


def _part(whole: Convolution, outs: slice, ins: slice, size: tuple[int, int]) -> ConvolutionWeights:
    kernel = whole.kernel[outs, ins]
    return ConvolutionWeights(whole._replace(kernel=kernel), (kernel.shape[1], *size))


def matrix_of(wiring: Wiring, weight: NDArray[Any], source: Shape) -> Any:
    """The matrix that a layer's weights stand for.

    Args:
        wiring: The layer's.
        weight: Its weights, of ``wiring.weight_shape``.
        source: Shape of the layer before.

    Returns:
        A scipy CSR matrix (n, n_source) without zeros, each value one of ``weight``.
    """
    from scipy.sparse import csr_matrix

    if not wiring.channels:
        matrix = csr_matrix(weight)
    else:
        steps = (wiring.stride,) * 2, (wiring.padding,) * 2
        matrix = expand(Convolution(weight, *steps), wiring.pooled(source)).to_scipy()
    return matrix if wiring.pool == 1 else (matrix @ _pooling(wiring, source)).tocsr()


def pattern_of(wiring: Wiring, shape: Shape, source: Shape) -> Any | None:
    """The places where a layer has weights.

    Args:
        wiring: The layer's.
        shape: Shape of its weights, ``wiring.weight_shape``.
        source: Shape of the layer before.

    Returns:
        A scipy CSR matrix (n, n_source) of int8 ones; None if it has weights everywhere.
    """
    if wiring.is_plain:
        return None
    pattern = matrix_of(wiring, np.ones(shape, dtype=np.int8), source).astype(np.int8)
    return None if pattern.nnz == prod(pattern.shape) else pattern


def _pooling(wiring: Wiring, source: Shape) -> Any:
    """The sums over squares as a matrix (n_pooled, n_source) of ones."""
    from scipy.sparse import csr_matrix

    (channels, height, width), k = wiring.pooled(source), wiring.pool
    numbers = np.arange(prod(source)).reshape(as_image(source))[:, : height * k, : width * k]
    windows = numbers.reshape(channels, height, k, width, k).swapaxes(2, 3).reshape(-1)
    n = channels * height * width
    return csr_matrix(
        (np.ones(windows.size, np.int8), (np.repeat(np.arange(n), k * k), windows)), (n, prod(source))
    )
