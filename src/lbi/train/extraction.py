"""Weights of a trained layer as sparse matrices, with those of convolutions and pooling written out."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution import Convolution, expand
from lbi.train.layers.wiring import Shape, Wiring, as_image


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
    """The places where a layer has weights, as int8 ones like ``matrix_of``; None if it has them everywhere."""
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
