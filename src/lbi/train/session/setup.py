"""Optimizer and density control of a run, from its configuration."""

from __future__ import annotations

from typing import Any

import torch

from lbi.train.layers.model import SpikingNetwork
from lbi.train.optim.density import DensityController
from lbi.train.optim.optimizers import AdaBreg, LinBreg, param_groups
from lbi.train.optim.regularizers import L1
from lbi.train.optim.sparse_init import sparse_init_
from lbi.train.session.config import TrainConfig


def make_optimizer(
    config: TrainConfig, model: SpikingNetwork, *, fresh: bool = True
) -> torch.optim.Optimizer:
    """Adam (decoupled weight decay) on dense weights, or a Bregman optimizer; if ``fresh``, with weights sparsified."""
    if config.optimizer == "adam":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    if fresh:
        generator = torch.Generator().manual_seed(config.seed)
        sparse_init_(model, config.initial_density, generator)
    groups = param_groups(model, L1(config.lamda))
    options: dict[str, Any] = {"lr": config.lr, "delta": config.delta, "weight_decay": config.weight_decay}
    if config.optimizer == "linbreg":
        return LinBreg(groups, momentum=config.momentum, **options)
    return AdaBreg(groups, **options)


def make_controller(config: TrainConfig, optimizer: Any) -> DensityController | None:
    """The density control of a Bregman optimizer; None for Adam."""
    return None if config.optimizer == "adam" else DensityController(optimizer, config.density)
