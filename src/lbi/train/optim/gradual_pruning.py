"""Gradual magnitude pruning: the smallest weights leave along a cubic schedule.

Zhu & Gupta, "To prune, or not to prune", arXiv:1710.01878, Section 3.
"""

from __future__ import annotations

import math

import torch

from lbi.train.optim.masks import MaskControl, largest


def cubic_sparsity(step: int, first: int, last: int, final: float) -> float:
    """The sparsity s_t = s_f + (s_i − s_f)·(1 − (t − t₀)/(n·Δt))³ with s_i = 0 (Zhu & Gupta, Eq. 1).

    Args:
        step: t, optimizer steps done.
        first: t₀, the step at which pruning starts.
        last: t₀ + n·Δt, the step at which the final sparsity is reached.
        final: s_f, in [0, 1).

    Returns:
        The fraction of weights that are 0: 0 up to ``first``, ``final`` from ``last`` on.
    """
    left = 1 - min(1.0, max(0.0, (step - first) / max(1, last - first)))
    return final * (1 - left**3)


class GradualPruning(MaskControl):
    """Gradual magnitude pruning of a dense network, every ``update_every`` steps.

    Pruning goes from the share ``prune_from`` to the share ``shrink`` of all steps. Weights that are pruned stay 0. The
    paper ranks weights per layer ("uniform"); ranking those of all layers together ("global") is the default,
    since it is the stronger baseline at low densities.
    """

    default_distribution = "global"

    def update(self) -> None:
        """Prune to the sparsity of the schedule at multiples of ``update_every``."""
        if self.steps % self.options.update_every == 0:
            first, last = (
                int(share * self.n_steps) for share in (self.options.prune_from, self.options.shrink)
            )
            self._prune([cubic_sparsity(self.steps, first, last, 1 - density) for density in self.densities])

    def finish(self) -> None:
        """Prune to the final density."""
        self._prune([1 - density for density in self.densities])

    def _prune(self, sparsities: list[float]) -> None:
        """Keep the largest weights; each layer (or, with "global", the network) gets at least this sparsity."""
        if self.distribution == "global":
            every = torch.cat([weight.reshape(-1) for weight in self.weights]).abs()
            alive = torch.cat([mask.reshape(-1) for mask in self.masks])
            kept = largest(every, _n_kept(every.numel(), sparsities[0]), alive) & alive
            parts = kept.split([weight.numel() for weight in self.weights])
            self.masks = [
                part.reshape(weight.shape) for part, weight in zip(parts, self.weights, strict=True)
            ]
        else:
            self.masks = [
                largest(weight.abs(), _n_kept(weight.numel(), sparsity), mask) & mask
                for weight, sparsity, mask in zip(self.weights, sparsities, self.masks, strict=True)
            ]
        self._hold()


def _n_kept(n: int, sparsity: float) -> int:
    return math.floor(n * (1 - sparsity) + 1e-9)
