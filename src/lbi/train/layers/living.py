"""The living weights of a matrix, those that are not 0, listed for the kernels; and the matrix in strips for dense tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lbi.train.layers.numba_bridge import VALUES_PER_THREAD, arrays, load_kernels, n_threads, run

MAX_DENSITY = 0.2
"""Fraction of living weights up to which they are listed: the product of dense rows breaks even above 0.25."""

WORTHWHILE = 1 << 14
"""Weights of a matrix from which listing the living ones pays."""


@dataclass(frozen=True)
class Living:
    """Living weights of a matrix (n_out, n_in), by source.

    Attributes:
        first_of: (n_in + 1,) int64, where the weights of each source start.
        targets: (n,) int32, ascending for each source.
        values: (n,) the weights.
        matrix: the matrix itself.
    """

    first_of: Tensor
    targets: Tensor
    values: Tensor
    matrix: Tensor

    @staticmethod
    def none(like: Tensor) -> Living:
        """Empty lists, of the type of ``like``."""
        first_of = torch.zeros(1, dtype=torch.int64)
        return Living(first_of, torch.zeros(0, dtype=torch.int32), like.new_empty(0), like.new_empty(0, 0))

    @property
    def lists(self) -> tuple[Tensor, Tensor, Tensor]:
        """The lists as the kernels take them."""
        return self.first_of, self.targets, self.values

    @property
    def density(self) -> float:
        """Living weights / weights."""
        return self.values.numel() / max(1, self.matrix.numel())

    def dense(self, values: Tensor) -> Tensor:
        """The matrix with ``values`` at the living weights, 0 elsewhere."""
        out = torch.empty_like(self.matrix)
        n_values = out.numel()
        run(load_kernels().scatter_living, n_values, *arrays(self.first_of, self.targets, values, out))
        return out

    def event_gradient(
        self, events: tuple[Tensor, Tensor], grad: Tensor, n_values: int, n_steps: int
    ) -> Tensor:
        """``grad.T @ rows`` at the living weights from the events of the rows; 0 elsewhere. ``n_steps``: see ``gradient``."""
        values = torch.empty_like(self.values)
        n = n_threads(n_values // VALUES_PER_THREAD)
        n_chunks = 1 if n == 1 else 2 * n  # each of them reads all events; the sums are the same
        steps = torch.linspace(0, self.values.numel(), n_chunks + 1).long()
        chunks = torch.searchsorted(self.first_of, steps)
        chunks[0], chunks[-1] = 0, self.matrix.shape[1]
        parts = arrays(self.first_of, self.targets, values, chunks)
        run(load_kernels().event_living_gradient, n_values, *arrays(*events, grad), n_steps, *parts)
        return self.dense(values)


def living_of(weight: Tensor) -> Living | None:
    """The living weights of a matrix (n_out, n_in) on a CPU, or None if it is small or most of them are living."""
    if weight.numel() < WORTHWHILE:
        return None
    kernels, matrix = load_kernels(), weight.detach().contiguous()
    n_masks = -(-weight.shape[1] // kernels.BITS)
    masks, totals = np.empty((n_masks, weight.shape[0]), np.uint64), np.empty(n_masks, np.int64)
    run(kernels.mark_living, weight.numel(), *arrays(matrix), masks, totals)
    n = int(totals.sum())
    if n > MAX_DENSITY * weight.numel():
        return None
    first_of = torch.zeros(weight.shape[1] + 1, dtype=torch.int64)
    targets, values = torch.empty(n, dtype=torch.int32), weight.new_empty(n)
    lists = arrays(first_of, targets, values)
    run(kernels.list_living, weight.numel(), *arrays(matrix), masks, totals, *lists)
    return Living(first_of, targets, values, matrix)


def as_factor(matrix: Tensor, living: Living | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A matrix (n_k, n) as ``lbi.train.layers.products`` takes it: in strips, or by its living entries if they are given."""
    if living is None:
        return panels(matrix, 128 // matrix.element_size()), *Living.none(matrix).lists
    return matrix.new_zeros(0, 0, 0), *living.lists


def panels(matrix: Tensor, width: int) -> Tensor:
    """A matrix (n_k, n) as (n_strips, n_k, width): strips of columns, the last one filled up with 0."""
    n_k, n = matrix.shape
    whole, n_strips = n // width, -(-n // width)
    strips = matrix.new_zeros(n_strips, n_k, width)
    strips[:whole] = matrix[:, : whole * width].reshape(n_k, whole, width).transpose(0, 1)
    if whole < n_strips:
        strips[whole, :, : n - whole * width] = matrix[:, whole * width :]
    return strips
