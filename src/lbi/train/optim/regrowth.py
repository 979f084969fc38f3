"""Sparse training by removing small weights and growing as many elsewhere: SET and RigL.

SET: Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta, Nature Communications 9, 2383 (2018).
RigL: Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery", ICML 2020, arXiv:1911.11134.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lbi.train.optim.masks import MaskControl, begin_sparse, largest

GROWTH = 1
"""Purpose of the random numbers, see ``MaskControl.random``."""


class Regrowth(MaskControl):
    """A network that starts at its final density and exchanges weights every ``update_every`` steps."""

    def begin(self, generator: torch.Generator) -> None:
        """Draw the first masks."""
        begin_sparse(self, generator)

    def adopt(self) -> None:
        """Start from the largest weights of a trained network."""
        with torch.no_grad():
            for i, (weight, density) in enumerate(zip(self.weights, self.densities, strict=True)):
                alive = weight != 0
                self.masks[i] = largest(weight.abs(), math.floor(density * weight.numel()), alive) & alive
            self._hold()

    def is_due(self) -> bool:
        """Whether the masks change before the next step."""
        return self.steps > 0 and self.steps % self.options.update_every == 0


class RigL(Regrowth):
    """RigL (Evci et al., Algorithm 1): drop the smallest weights, grow those with the largest gradients.

    Every ΔT = ``update_every`` steps until T_end = (1 − ``settle``) of all steps, each layer exchanges
    k = α/2·(1 + cos(π·t/T_end)) of its weights, α = ``drop``. Weights that grow start at 0, and may be among those just
    dropped. Such a step changes the masks alone: weights do not move along their gradients.
    """

    def update(self) -> None:
        """Exchange weights if it is time."""
        if not self.is_due():
            return
        share = rigl_share(self.steps, (1 - self.options.settle) * self.n_steps, self.options.drop)
        for i, weight in enumerate(self.weights):
            gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
            self.masks[i], grown = rigl_exchange(weight, gradient, self.masks[i], share)
            weight.mul_(self.masks[i] & ~grown)
            self.forget(weight, grown)
            weight.grad = None  # Algorithm 1: either the masks or the weights change


class SparseEvolution(Regrowth):
    """SET (Mocanu et al., Methods): drop the weights nearest to 0 of either sign, grow as many at random.

    Every ``update_every`` steps each layer loses the fraction ζ = ``drop`` of its smallest positive and of its largest
    negative weights. As many new ones appear at random places that were free, with random values of the layer's
    initial scale.
    """

    def update(self) -> None:
        """Exchange weights if it is time."""
        if not self.is_due():
            return
        generator = self.random(GROWTH)
        for i, weight in enumerate(self.weights):
            kept = self.masks[i] & ~set_dropped(weight, self.masks[i], self.options.drop)
            n_new = int(self.masks[i].sum() - kept.sum())
            order = torch.rand(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
            grown = largest(order, n_new, ~self.masks[i])
            grown &= ~self.masks[i]  # fewer places than weights to grow: some stay as they were
            back = largest(weight.abs(), n_new - int(grown.sum()), self.masks[i] & ~kept)
            kept |= back & self.masks[i]
            scale = 1 / math.sqrt(max(1.0, self.densities[i] * weight.shape[1:].numel()))
            values = torch.randn(weight.shape, generator=generator).to(weight) * scale
            weight.copy_(torch.where(grown, values, weight * kept))
            self.masks[i] = kept | grown
            self.forget(weight, ~kept)


def rigl_share(step: int, end: float, alpha: float) -> float:
    """The fraction of a layer's weights that RigL exchanges, f(t) = α/2·(1 + cos(π·t/T_end)); 0 from T_end on.

    Args:
        step: t.
        end: T_end, in steps.
        alpha: α, in [0, 1).

    Returns:
        The fraction, in [0, 1).
    """
    return 0.0 if step >= end else alpha / 2 * (1 + math.cos(math.pi * step / end))


def rigl_exchange(weight: Tensor, gradient: Tensor, mask: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The masks of one update of RigL: drop k weights of least magnitude, grow k of largest gradient.

    Args:
        weight: any shape.
        gradient: gradient of all weights, absent ones included.
        mask: weights that exist.
        share: fraction of them to exchange; k is rounded down.

    Returns:
        The new mask, and the weights that are new in it.
    """
    n_alive = int(mask.sum())
    k = min(int(share * n_alive), mask.numel() - n_alive)
    kept = largest(weight.abs(), n_alive - k, mask)
    grown = largest(gradient.abs(), k, ~kept)
    return kept | grown, grown


def set_dropped(weight: Tensor, mask: Tensor, fraction: float) -> Tensor:
    """The weights that SET removes: the fraction of the positive ones nearest to 0, and of the negative ones.

    Args:
        weight: any shape.
        mask: weights that exist; those that are exactly 0 count as positive.
        fraction: ζ, in [0, 1); numbers are rounded down.

    Returns:
        Where weights are removed (bool).
    """
    dropped = torch.zeros_like(mask)
    for sign in (mask & (weight >= 0), mask & (weight < 0)):
        dropped |= largest(-weight.abs(), int(fraction * int(sign.sum())), sign)
    return dropped
