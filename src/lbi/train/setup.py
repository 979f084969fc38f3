"""Optimizer and density control of a run, from its configuration."""

from __future__ import annotations

from typing import Any

import torch

from lbi.train.config import TrainConfig
from lbi.train.model import SpikingNetwork


def make_optimizer(config: TrainConfig, model: SpikingNetwork) -> torch.optim.Optimizer:
    """Adam on dense weights, or a Bregman optimizer on weights that start almost empty."""
    from lbi.train.optimizers import AdaBreg, LinBreg, param_groups
    from lbi.train.regularizers import L1
    from lbi.train.sparse_init import sparse_init_

    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.lr)
    generator = torch.Generator().manual_seed(config.seed)
    sparse_init_(model, config.initial_density, generator)
    groups = param_groups(model, L1(0.4))
    if config.optimizer == "linbreg":
        return LinBreg(groups, lr=config.lr, delta=config.delta, momentum=config.momentum)
    return AdaBreg(groups, lr=config.lr, delta=config.delta)


def make_controller(config: TrainConfig, model: SpikingNetwork, optimizer: Any, n_steps: int) -> Any:
    """The density control of a Bregman optimizer; None for Adam."""
    return None
