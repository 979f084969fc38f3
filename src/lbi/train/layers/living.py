"""The living weights of a matrix, those that are not 0, listed for the kernels; and the matrix in strips for dense tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lbi.train.layers.numba_bridge import arrays, load_kernels, run

MAX_DENSITY = 0.2
"""Fraction of living weights up to which they are listed: the product of dense rows breaks even above 0.25."""

WORTHWHILE = 1 << 14
"""Weights of a matrix from which listing the living ones pays."""


@dataclass(frozen=True)
class Living:
    """Living weights of a matrix (n_out, n_in).

    Attributes:
        matrix: the matrix.
        masks: (n_masks, n_out) uint64, where they are, for 64 sources each.
        totals: (n_masks,) int64, their number.
    """

    matrix: Tensor
    masks: np.ndarray
    totals: np.ndarray

    @property
    def density(self) -> float:
        """Living weights / weights."""
        return int(self.totals.sum()) / max(1, self.matrix.numel())

    @cached_property
    def lists(self) -> tuple[Tensor, Tensor, Tensor]:
        """By source: where the weights of each start (n_in + 1,) int64; their targets (n,) int32, ascending; the weights."""
        n = int(self.totals.sum())
        first_of = torch.zeros(self.matrix.shape[1] + 1, dtype=torch.int64)
        targets, values = torch.empty(n, dtype=torch.int32), self.matrix.new_empty(n)
        lists = arrays(first_of, targets, values)
        kernel = load_kernels("layers.living_kernels").list_living
        run(kernel, self.matrix.numel(), *arrays(self.matrix), self.masks, self.totals, *lists)
        return first_of, targets, values


def living_of(weight: Tensor) -> Living | None:
    """The living weights of a matrix on a CPU.

    Args:
        weight: (n_out, n_in).

    Returns:
        The living weights; None if the matrix is small or most of its weights are living.
    """
    if weight.numel() < WORTHWHILE:
        return None
    matrix = weight.detach().contiguous()
    n_masks = -(-weight.shape[1] // load_kernels().BITS)
    masks, totals = np.empty((n_masks, weight.shape[0]), np.uint64), np.empty(n_masks, np.int64)
    run(load_kernels("layers.living_kernels").mark_living, weight.numel(), *arrays(matrix), masks, totals)
    living = Living(matrix, masks, totals)
    return living if living.density <= MAX_DENSITY else None


def as_factor(matrix: Tensor, living: Living | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A matrix as ``lbi.train.layers.products`` takes it: in strips, or by its living entries.

    Args:
        matrix: (n_k, n).
        living: its living entries, those of the weights (n_out, n_in) = (n_k, n); None for strips.

    Returns:
        The strips (n_strips, n_k, width); then, of each column, the start of its entries (n + 1,) int64,
        their rows int32, and their values. What is not used is empty.
    """
    if living is None:
        none = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), matrix.new_empty(0)
        return panels(matrix, load_kernels("layers.tiles").PANEL // matrix.element_size()), *none
    return matrix.new_zeros(0, 0, 0), *living.lists


def panels(matrix: Tensor, width: int) -> Tensor:
    """A matrix in strips of columns, the last one filled up with 0.

    Args:
        matrix: (n_k, n).
        width: columns of a strip.

    Returns:
        (n_strips, n_k, width).
    """
    n_k, n = matrix.shape
    whole, n_strips = n // width, -(-n // width)
    strips = matrix.new_zeros(n_strips, n_k, width)
    strips[:whole] = matrix[:, : whole * width].reshape(n_k, whole, width).transpose(0, 1)
    if whole < n_strips:
        strips[whole, :, : n - whole * width] = matrix[:, whole * width :]
    return strips
