"""Optimizer and density control of a run, from its configuration."""

from __future__ import annotations

from typing import Any

import torch

from lbi.train.layers.model import SpikingNetwork
from lbi.train.optim.choices import OPTIMIZERS
from lbi.train.optim.density import DensityController
from lbi.train.optim.optimizers import param_groups
from lbi.train.optim.regularizers import Regularizer
from lbi.train.optim.sparse_init import sparse_init_
from lbi.train.session.config import TrainConfig


def make_optimizer(
    config: TrainConfig, model: SpikingNetwork, *, fresh: bool = True
) -> torch.optim.Optimizer:
    """The optimizer of a run.

    Args:
        config: The run's options.
        model: The network to train; with a sparse optimizer, its weights are thinned out to ``initial_density``.
        fresh: False to leave the weights as they are.

    Returns:
        Adam with decoupled weight decay on dense weights, or a Bregman optimizer under the regularizer.
    """
    choice = OPTIMIZERS[config.optimizer]
    if not choice.sparse:
        return choice.of(model.parameters(), config)
    if fresh:
        generator = torch.Generator().manual_seed(config.seed)
        sparse_init_(model, config.initial_density, generator)
    regularizer = Regularizer.named(config.regularizer, config.lamda, config.regularizer_options)
    return choice.of(param_groups(model, regularizer), config)


def make_controller(config: TrainConfig, optimizer: Any) -> DensityController | None:
    """The density control of a sparse optimizer; None for a dense one.

    Args:
        config: the options.
        optimizer: the optimizer.

    Returns:
        The controller.
    """
    return DensityController(optimizer, config.density) if OPTIMIZERS[config.optimizer].sparse else None
