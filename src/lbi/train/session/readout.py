"""Readout in training: scores for the loss, and the class of the deployed readout."""

from __future__ import annotations

import torch
from torch import Tensor

from lbi.train.layers.model import SpikingNetwork
from lbi.train.session.config import response_norm

Run = list[tuple[Tensor, Tensor]]
"""The result of ``SpikingNetwork.forward``: spikes and voltages of every population."""


def scores(model: SpikingNetwork, run: Run) -> Tensor:
    """Scores (n_samples, n_out): spike counts, or maximum, mean or last voltage in units of ``response_norm``.

    Args:
        model: the network.
        run: spikes and voltages of each population, each (n_samples, n_steps, n).

    Returns:
        (n_samples, n_out), differentiable in the spikes or voltages.
    """
    spikes, voltages = run[-1]
    if model.config.readout == "spike_count":
        return spikes.sum(1)
    layer = model.populations()[-1]
    unit = response_norm(layer.config.current_decay[0], layer.config.voltage_decay[0])
    if layer.on_chip:
        unit *= float(layer.scale[0])
    if model.config.readout == "membrane_last":
        return voltages[:, -1] / unit
    return (voltages.amax(1) if model.config.readout == "membrane_max" else voltages.mean(1)) / unit


@torch.no_grad()
def predict(model: SpikingNetwork, run: Run) -> Tensor:
    """(n_samples,) classes as ``lbi.Readout.classify``: the highest score, lowest index on ties, exactly.

    Args:
        model: the network.
        run: spikes and voltages of each population, each (n_samples, n_steps, n).

    Returns:
        (n_samples,) int64.
    """
    spikes, voltages = run[-1]
    if model.config.readout == "spike_count":
        return classify(spikes.sum(1))
    if model.config.readout == "membrane_max":
        return classify(voltages.amax(1))
    if model.config.readout == "membrane_last":
        return classify(voltages[:, -1])
    return classify(voltages.double().sum(1))  # of the chip's integers, in 64ths: without rounding


def classify(scores: Tensor) -> Tensor:
    """Classes (n_samples,) from scores (n_samples, n_out): the highest, lowest index on ties.

    Args:
        scores: (n_samples, n_out).

    Returns:
        (n_samples,) int64.
    """
    best = scores.max(dim=1, keepdim=True).values
    return (scores == best).to(torch.uint8).argmax(dim=1)
