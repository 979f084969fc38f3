"""Optimizer and density control of a run, from its configuration."""

from __future__ import annotations

from typing import Any

import torch

from lbi.costing.budget import Budget
from lbi.datasets.packed import Spikes
from lbi.train.layers.model import SpikingNetwork
from lbi.train.optim.choices import OPTIMIZERS
from lbi.train.optim.density import DensityController
from lbi.train.optim.masks import MaskControl
from lbi.train.optim.neuron_groups import set_prices
from lbi.train.optim.optimizers import param_groups
from lbi.train.optim.priced import PricedL1
from lbi.train.optim.regularizers import Regularizer
from lbi.train.optim.sparse_init import sparse_init_
from lbi.train.session.budget_control import BudgetController, hidden_groups
from lbi.train.session.config import TrainConfig
from lbi.train.session.schedule import settling_epoch


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
    if config.price_updates > 0:
        priced = PricedL1(config.lamda, **config.regularizer_options)
        optimizer = choice.of(param_groups(model, priced, per_layer=True), config)
        set_prices(hidden_groups(model), optimizer, 0.0)
        return optimizer
    regularizer = Regularizer.named(config.regularizer, config.lamda, config.regularizer_options)
    return choice.of(param_groups(model, regularizer), config)


def make_controller(
    config: TrainConfig, model: SpikingNetwork, optimizer: Any, n_batches: int, *, fresh: bool = True
) -> DensityController | MaskControl | None:
    """The control of the set of weights.

    Args:
        config: The run's options.
        model: The network to train; a method that starts sparse thins its weights out.
        optimizer: Its optimizer.
        n_batches: Optimizer steps per epoch.
        fresh: False for a trained network, whose weights a method that starts sparse takes as they are.

    Returns:
        Density control of a Bregman optimizer, masks of pruning and regrowth, or None for a dense network.
    """
    choice = OPTIMIZERS[config.optimizer]
    if choice.sparse:
        return DensityController(optimizer, config.density)
    if choice.masks is None:
        return None
    control = choice.masks(optimizer, model.weights(), config.density, n_batches * config.epochs, config)
    if fresh:
        control.begin(torch.Generator().manual_seed(config.seed))
    else:
        control.adopt()
    return control


def make_budget(config: TrainConfig, spikes: Spikes) -> BudgetController | None:
    """The control of the density by the budget; None without a budget.

    Args:
        config: The run's options.
        spikes: The training samples, (n_samples, n_steps, n_in).

    Returns:
        A new control; None without a budget.
    """
    budget = Budget.read(config.budget, config.chip)
    if budget is None:
        return None
    return BudgetController(
        budget,
        config.density,
        spikes,
        config.epochs,
        settling=settling_epoch(config),
        update_share=config.update_share,
        price_updates=config.price_updates,
    )
