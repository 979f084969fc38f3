"""Training with masks: the frame that gradual pruning, SET, RigL and DEEP R share.

A mask per weight tensor says which weights exist. All others are 0, and gradients do not move them. A method is a
subclass that changes the masks at some steps; everything else (holding zeros, Adam's moments, checkpoints) is here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbi.errors import Problems, Rule, UsageError

DISTRIBUTIONS = ("global", "uniform", "erdos_renyi")
"""How a density of the network is distributed over its layers, see ``layer_densities``."""

STATE = Rule(
    "controller-state",
    "masks of {n} weight tensors of the network's shapes",
    "continue with the network and optimizer that were saved",
)
PER_WEIGHT = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""Entries of an optimizer's state that belong to one weight each."""


class MaskControl(ABC):
    """Masks over the weights of a network, changed by a subclass as training goes on.

    Call ``before_step()`` when gradients are complete, and ``step()`` after the optimizer's step.

    Args:
        optimizer: the optimizer that moves the weights.
        weights: name → weight tensor.
        density: fraction of all weights to keep, in (0, 1].
        n_steps: optimizer steps of the run.
        options: the fields ``layer_densities``, ``prune_from``, ``shrink``, ``settle``, ``update_every``, ``drop``,
            ``rewiring_l1``, ``temperature`` and ``seed`` of ``lbi.train.session.config.TrainConfig``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor],
        density: float,
        n_steps: int,
        options: Any,
    ) -> None:
        self.optimizer = optimizer
        self.weights = list(weights.values())
        self.density = density
        self.n_steps = max(1, n_steps)
        self.options = options
        self.steps = 0
        self.settled = False
        self.masks = [torch.ones_like(weight, dtype=torch.bool) for weight in self.weights]
        distribution = options.layer_densities
        if distribution == "auto":
            distribution = self.default_distribution
        self.distribution = distribution
        self.densities = layer_densities(
            [tuple(weight.shape) for weight in self.weights], density, distribution
        )

    default_distribution = "erdos_renyi"

    def begin(self, generator: torch.Generator) -> None:
        """Prepare new weights for the method; a method that starts dense leaves them as they are.

        Args:
            generator: source of the method's random choices.
        """
        return

    def adopt(self) -> None:
        """Take the zeros of trained weights as absent."""
        self.masks = [weight.detach() != 0 for weight in self.weights]

    @abstractmethod
    def update(self) -> None:
        """Change masks before step ``self.steps + 1``, if it is time; gradients are still those of all weights."""

    def finish(self) -> None:
        """Bring the masks to their final density; a method that keeps it has nothing to do."""
        return

    @torch.no_grad()
    def before_step(self) -> None:
        """Change the masks if it is time, and remove the gradients of absent weights."""
        if not self.settled:
            self.update()
        for weight, mask in zip(self.weights, self.masks, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(mask)

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step, and hold absent weights at 0."""
        self.steps += 1
        self._hold()

    @torch.no_grad()
    def settle(self) -> None:
        """Reach the final density and change the masks no more."""
        self.finish()
        self.settled = True
        self._hold()

    def _hold(self) -> None:
        for weight, mask in zip(self.weights, self.masks, strict=True):
            weight.mul_(mask)

    def forget(self, weight: Tensor, where: Tensor) -> None:
        """Set the optimizer's moments of some weights to 0.

        Args:
            weight: the weight tensor.
            where: bool, of the weight's shape: the weights to forget.
        """
        for name in PER_WEIGHT:
            moment = self.optimizer.state.get(weight, {}).get(name)
            if moment is not None:
                moment.masked_fill_(where, 0.0)

    def random(self, purpose: int) -> torch.Generator:
        """A generator that depends on the run's seed and step alone, so that resumed and parallel runs agree.

        Args:
            purpose: number that separates uses within one step.

        Returns:
            A new generator on the CPU.
        """
        seed = np.random.SeedSequence([self.options.seed, purpose, self.steps]).generate_state(1, np.uint64)[
            0
        ]
        return torch.Generator().manual_seed(int(seed) >> 1)

    def state_dict(self) -> dict[str, Any]:
        """The state in plain types and bit-packed masks, loadable with ``weights_only=True``."""
        return {"steps": self.steps, "settled": self.settled, "masks": packed(self.masks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Args:
            state: what ``state_dict`` gave.

        Raises:
            UsageError: if it is that of another network.
        """
        self.masks = unpacked(state["masks"], self.weights, "masks")
        self.steps, self.settled = int(state["steps"]), bool(state["settled"])


def packed(masks: list[Tensor]) -> list[Tensor]:
    """Masks (bool, any shape) as uint8, eight entries a byte.

    Args:
        masks: bool, any shape.

    Returns:
        One tensor (n_bytes,) per mask; unused bits of the last byte are 0.
    """
    return [torch.from_numpy(np.packbits(mask.cpu().numpy())) for mask in masks]


def unpacked(found: list[Tensor], weights: list[Tensor], name: str) -> list[Tensor]:
    """The masks that ``packed`` gave, of the weights' shapes and on their devices.

    Args:
        found: packed masks.
        weights: the weight tensors that they belong to.
        name: what they are called in errors.

    Returns:
        One bool tensor per weight.

    Raises:
        UsageError: if they are those of other weights.
    """
    problems = Problems()
    sizes = [bits.numel() for bits in found]
    fits = sizes == [math.ceil(weight.numel() / 8) for weight in weights]
    STATE.check(problems, fits, name, f"{name} of {sizes} bytes", n=len(weights))
    problems.raise_as(UsageError)
    masks = []
    for bits, weight in zip(found, weights, strict=True):
        entries = np.unpackbits(bits.numpy(), count=weight.numel()).astype(bool)
        masks.append(torch.from_numpy(entries).reshape(weight.shape).to(weight.device))
    return masks


def begin_sparse(control: MaskControl, generator: torch.Generator) -> None:
    """Draw masks of the control's densities and thin the weights out, scaled so that inputs keep their variance.

    Args:
        control: receives the masks; its weights change in place.
        generator: source of the random choices, on the CPU.
    """
    with torch.no_grad():
        for i, (weight, density) in enumerate(zip(control.weights, control.densities, strict=True)):
            n_kept = math.floor(density * weight.numel())
            chosen = torch.randperm(weight.numel(), generator=generator)[:n_kept]
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[chosen] = True
            control.masks[i] = mask.reshape(weight.shape).to(weight.device)
            weight.mul_(control.masks[i]).mul_(density**-0.5)


def largest(scores: Tensor, n: int, among: Tensor | None = None) -> Tensor:
    """A mask (bool, of the scores' shape) of exactly ``n`` entries with the largest scores; ties go to lower indices.

    Args:
        scores: any shape.
        n: how many, at most as many as allowed.
        among: entries that are allowed; None for all.

    Returns:
        The mask, on the device of the scores.
    """
    flat = scores.reshape(-1)
    if among is not None:
        flat = torch.where(among.reshape(-1), flat, flat.new_full((), -math.inf))
    chosen = torch.zeros(flat.numel(), dtype=torch.bool, device=flat.device)
    chosen[torch.argsort(flat, descending=True, stable=True)[:n]] = True
    return chosen.reshape(scores.shape)


def layer_densities(shapes: list[tuple[int, ...]], density: float, distribution: str) -> list[float]:
    """The density of each layer such that all together have ``density``.

    "uniform" and "global" give every layer the same (with "global", pruning ranks all layers together instead).
    "erdos_renyi" gives a layer of n outputs and m inputs a density proportional to (n + m) / (n·m) (Mocanu et al.,
    Nature Communications 9, 2018, Eq. 3), a convolution the sum of its sizes over their product (ERK; Evci et al.,
    arXiv:1911.11134, Section 3), and at most 1.

    Args:
        shapes: shape of each weight tensor.
        density: fraction of all weights, in (0, 1].
        distribution: one of ``DISTRIBUTIONS``.

    Returns:
        A density per layer, in (0, 1].
    """
    if distribution != "erdos_renyi":
        return [density] * len(shapes)
    sizes = [math.prod(shape) for shape in shapes]
    shares = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    full: set[int] = set()
    while len(full) < len(shapes):
        left = density * sum(sizes) - sum(sizes[i] for i in full)
        scale = left / sum(shares[i] * sizes[i] for i in range(len(shapes)) if i not in full)
        over = {i for i in range(len(shapes)) if i not in full and scale * shares[i] > 1}
        if not over:
            return [1.0 if i in full else scale * shares[i] for i in range(len(shapes))]
        full |= over
    return [1.0] * len(shapes)
