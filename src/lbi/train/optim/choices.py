"""Optimizers that a training run can select by name, with their options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lbi.train.optim.deep_rewiring import DeepRewiring
from lbi.train.optim.gradual_pruning import GradualPruning
from lbi.train.optim.masks import MaskControl
from lbi.train.optim.optimizers import AdaBreg, LinBreg
from lbi.train.optim.regrowth import RigL, SparseEvolution


@dataclass(frozen=True)
class Choice:
    """An optimizer that can be selected by name.

    Attributes:
        make: Its class, called with parameter groups and options.
        options: Fields of ``lbi.train.session.config.TrainConfig`` that are its options of the same name.
        sparse: Whether it trains sparse weights, with a regularizer and density control.
        masks: For methods that keep masks over the weights of a dense optimizer, their control.
    """

    make: Callable[..., torch.optim.Optimizer]
    options: tuple[str, ...]
    sparse: bool = True
    masks: type[MaskControl] | None = None

    @property
    def dense(self) -> bool:
        """Whether it trains all weights, so that a density means nothing."""
        return not self.sparse and self.masks is None

    def of(self, groups: Any, config: Any) -> torch.optim.Optimizer:
        """The optimizer on parameters, with the options of a run.

        Args:
            groups: Parameters or parameter groups.
            config: A TrainConfig.

        Returns:
            A new optimizer with the options that this choice takes.
        """
        return self.make(groups, **{name: getattr(config, name) for name in self.options})


ADAM = ("lr", "weight_decay")

OPTIMIZERS: dict[str, Choice] = {
    "adam": Choice(torch.optim.AdamW, ADAM, sparse=False),
    "linbreg": Choice(LinBreg, ("lr", "delta", "weight_decay", "momentum")),
    "adabreg": Choice(AdaBreg, ("lr", "delta", "weight_decay")),
    "prune": Choice(torch.optim.AdamW, ADAM, sparse=False, masks=GradualPruning),
    "set": Choice(torch.optim.AdamW, ADAM, sparse=False, masks=SparseEvolution),
    "rigl": Choice(torch.optim.AdamW, ADAM, sparse=False, masks=RigL),
    "deepr": Choice(torch.optim.AdamW, ADAM, sparse=False, masks=DeepRewiring),
}
"""``--optimizer`` → the optimizer."""
