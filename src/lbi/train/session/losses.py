"""Additional loss terms: firing rates outside a range, and synaptic operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lbi.train.session.config import TrainConfig

if TYPE_CHECKING:
    from lbi.train.layers.model import SpikingNetwork


def activity_loss(model: SpikingNetwork, run: list[tuple[Tensor, Tensor]], config: TrainConfig) -> Tensor:
    """``activity`` · Σ over hidden populations of mean((rate_low − r)₊² + (r − rate_high)₊²) + ``synops`` · S.

    Here r (n,) is the mean number of spikes per step of each neuron over the batch, and S the synaptic operations of
    hidden spikes per sample and step on non-zero weights, relative to a dense network that always fires.

    Args:
        model: the network.
        run: spikes and voltages of each population, each (n_samples, n_steps, n).
        config: the options.

    Returns:
        The loss, 0-d.
    """
    total = run[-1][0].new_zeros(())
    if config.activity == 0 and config.synops == 0:
        return total
    layers = model.populations()
    cost, dense = total, torch.zeros((), dtype=torch.long, device=total.device)
    for layer, following, (spikes, _) in zip(layers[:-1], layers[1:], run[:-1], strict=True):
        rate = spikes.mean(dim=(0, 1))
        low, high = (config.rate_low - rate).clamp_min(0), (rate - config.rate_high).clamp_min(0)
        total = total + config.activity * (low.square() + high.square()).mean()
        fan_out = following.fan_out()
        dense = dense + following.fan_out(torch.ones_like(following.weight)).sum()
        if layer.recurrent is not None:
            fan_out = fan_out + (layer.recurrent != 0).sum(0)
            dense = dense + layer.recurrent.numel()
        cost = cost + (rate * fan_out.to(rate.dtype)).sum()
    return total + config.synops * cost / dense.clamp_min(1)
