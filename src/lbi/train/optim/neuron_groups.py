"""Neurons as groups of weights: all that enters or leaves one, over every projection of its population.

A neuron costs an update in every timestep, with any number of weights. ``set_prices`` lets its weights pay for that: the fewer
they are, the higher their λ, so that the last ones go first and the neuron with them.

A neuron that no weight leaves or enters is removed from the network before it is deployed
(``lbi.quantization.compaction``). ``keep`` sets all but the n strongest groups to 0, as iterative hard thresholding does
with single coefficients (Blumensath, Davies, Appl. Comput. Harmon. Anal. 27(3), 2009, DOI 10.1016/j.acha.2009.04.002). A recurrent weight
is in the groups of both of its neurons. So this is not the nearest point with n non-zero groups, which would be a
combinatorial search, but its usual greedy approximation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lbi.train.optim.priced import PricedL1

MOMENTUM = ("exp_avg", "momentum_buffer")
"""Entries of an optimizer's state that would move a weight on after it was set to 0."""


@dataclass(frozen=True, eq=False)
class PopulationWeights:
    """The weights of a population's neurons.

    Attributes:
        rows: weights (n, n_source), of which neuron i is entered by row i.
        columns: weights (n_target, n), of which neuron i is left by column i; a recurrent one is in both.
    """

    rows: tuple[Tensor, ...]
    columns: tuple[Tensor, ...]

    def strengths(self) -> Tensor:
        """(n,) sum of the magnitudes of the weights that enter or leave each neuron; 0 without any of either."""
        enter = torch.stack([weight.detach().abs().sum(1) for weight in self.rows]).sum(0)
        leave = torch.stack([weight.detach().abs().sum(0) for weight in self.columns]).sum(0)
        return torch.where((enter > 0) & (leave > 0), enter + leave, torch.zeros_like(enter))


@torch.no_grad()
def keep(populations: Iterable[PopulationWeights], n: int, optimizer: torch.optim.Optimizer) -> int:
    """Set all weights of all but the strongest neurons to 0, with their duals and momentum; ties go to the lower index.

    A population keeps one neuron at least.

    Args:
        populations: the populations that compete.
        n: neurons to keep over all of them.
        optimizer: the optimizer of the weights.

    Returns:
        Number of neurons whose weights were not all 0 before, and are now.
    """
    populations = list(populations)
    strengths = [population.strengths() for population in populations]
    firsts = [int(strength.argmax()) for strength in strengths]
    ranked = [strength.clone() for strength in strengths]
    for strength, first in zip(ranked, firsts, strict=True):
        strength[first] = torch.inf
    order = torch.cat(ranked).argsort(descending=True, stable=True)
    dropped = torch.ones(order.numel(), dtype=torch.bool, device=order.device)
    dropped[order[: max(n, len(populations))]] = False
    parts = dropped.split([strength.numel() for strength in strengths])
    for population, part in zip(populations, parts, strict=True):
        for weight in population.rows:
            for tensor in _tensors(weight, optimizer):
                tensor[part] = 0
        for weight in population.columns:
            for tensor in _tensors(weight, optimizer):
                tensor[:, part] = 0
    return sum(int((part & (strength > 0)).sum()) for part, strength in zip(parts, strengths, strict=True))


HIGHEST_PRICE = 9.0
"""The most by which λ of a weight is multiplied."""


@torch.no_grad()
def set_prices(
    populations: Iterable[PopulationWeights], optimizer: torch.optim.Optimizer, update: float
) -> None:
    """Set the prices of all groups under a ``PricedL1`` by the present weights.

    The price of a neuron with n weights is 1 + update / n, at most ``HIGHEST_PRICE``. Weights keep their values; the dual of an
    absent one keeps its share of the threshold.

    Args:
        populations: the populations.
        optimizer: the optimizer of the weights, each in a group of its own.
        update: what a neuron's update costs, in weights.
    """
    rows: dict[Tensor, Tensor] = {}
    columns: dict[Tensor, Tensor] = {}
    for population in populations:
        alive = torch.stack([(weight != 0).sum(1) for weight in population.rows]).sum(0)
        alive += torch.stack([(weight != 0).sum(0) for weight in population.columns]).sum(0)
        price = (1 + update / alive.clamp(min=1)).clamp(max=HIGHEST_PRICE)
        rows |= dict.fromkeys(population.rows, price)
        columns |= dict.fromkeys(population.columns, price)
    for group in optimizer.param_groups:
        old = group["reg"]
        if not isinstance(old, PricedL1):
            continue
        (weight,) = group["params"]
        found = (prices[weight].tolist() if weight in prices else () for prices in (rows, columns))
        new = group["reg"] = old.with_prices(*found)
        dual = optimizer.state[weight].get("dual") if weight in optimizer.state else None
        if dual is not None:
            moved = dual + new.sub_grad(weight) - old.sub_grad(weight)
            dual.copy_(torch.where(weight != 0, moved, dual * (new.costs(weight) / old.costs(weight))))


def _tensors(weight: Tensor, optimizer: torch.optim.Optimizer) -> list[Any]:
    """A weight with its dual and momentum."""
    state = optimizer.state.get(weight, {})
    own = [state.get(name) for name in ("dual", *MOMENTUM)]
    return [weight, *(tensor for tensor in own if tensor is not None)]
