"""DEEP R: connections of fixed sign that go dormant where they would change it, and wake at random.

Bellec, Kappel, Maass, Legenstein, "Deep Rewiring: Training very sparse deep networks", ICLR 2018, arXiv:1711.05136.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lbi.train.optim.masks import largest, packed, unpacked
from lbi.train.optim.regrowth import Regrowth

SIGNS, NOISE, WAKING = 2, 3, 4
"""Purposes of the random numbers, see ``MaskControl.random``."""


class DeepRewiring(Regrowth):
    """DEEP R (Bellec et al., Algorithm 1): after every step, exchange the connections whose weight would change its sign.

    Each connection k, dormant ones too, has a sign s_k that never changes, and w_k = s_k·θ_k. After the optimizer's step
    on the active ones, θ_k ← θ_k − η·α + √(2ηT)·ν_k with the learning rate η, α = ``rewiring_l1``, T = ``temperature`` and normal
    ν_k. Where θ_k < 0 the connection goes dormant, and as many dormant ones of the layer wake with θ = 0. The paper
    steps along plain gradients; here Adam chooses the direction, as for the other methods. In the last fraction
    ``settle`` of the run the set of connections is fixed, and their signs are free.
    """

    def begin(self, generator: torch.Generator) -> None:
        """Draw the first connections and all signs."""
        super().begin(generator)
        self._draw_signs()

    def adopt(self) -> None:
        """Start from the largest weights of a trained network, with their signs."""
        super().adopt()
        self._draw_signs()

    def _draw_signs(self) -> None:
        generator = self.random(SIGNS)
        self.positive = []
        for weight, mask in zip(self.weights, self.masks, strict=True):
            drawn = torch.rand(weight.shape, generator=generator).to(weight.device) < 0.5
            self.positive.append(torch.where(mask, weight.detach() >= 0, drawn))

    def update(self) -> None:
        """Nothing before a step: connections change after it."""

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step, let connections of the wrong sign go dormant, and wake as many others."""
        super().step()
        if not self.settled:
            rate = float(self.optimizer.param_groups[0]["lr"])
            noise, waking = self.random(NOISE), self.random(WAKING)
            for i in range(len(self.weights)):
                self._rewire(i, rate, noise, waking)

    def _rewire(self, i: int, rate: float, noise: torch.Generator, waking: torch.Generator) -> None:
        """Algorithm 1, from the regularization on, for one layer."""
        weight, mask = self.weights[i], self.masks[i]
        sign = self.positive[i].to(weight) * 2 - 1
        theta = sign * weight - rate * self.options.rewiring_l1
        if self.options.temperature > 0:
            drawn = torch.randn(weight.shape, generator=noise).to(weight)
            theta += math.sqrt(2 * rate * self.options.temperature) * drawn
        active = mask & (theta >= 0)
        order = torch.rand(weight.shape, generator=waking, dtype=torch.float64).to(weight.device)
        woken = largest(order, int(mask.sum() - active.sum()), ~active)
        weight.copy_(sign * theta * active)
        self.masks[i] = active | woken
        self.forget(weight, woken | ~self.masks[i])

    def state_dict(self) -> dict[str, Any]:
        """The state in plain types and bit-packed masks and signs."""
        return {**super().state_dict(), "positive": packed(self.positive)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            UsageError: if it is that of another network.
        """
        super().load_state_dict(state)
        self.positive = unpacked(state["positive"], self.weights, "signs")
