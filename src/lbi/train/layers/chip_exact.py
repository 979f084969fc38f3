"""Chip-exact training: the forward pass is the chip's integer arithmetic, the backward pass a surrogate.

The weights stay floats. Each forward pass rounds them to mantissas (straight-through: the gradient of the
rounded weight is used for the weight itself) and runs the chip's equations on them, so the spikes in training are
those of ``lbi.simulate`` and of Lava. All quantities are in mantissa units here: thresholds are ``vth``, states are
the chip's over 64, which floats hold exactly.
"""

from __future__ import annotations

import torch

from lbi.quantization.to_integers import quantize
from lbi.train.layers.mantissas import CHIP, mantissas
from lbi.train.layers.model import SpikingNetwork
from lbi.train.layers.scan import check_chip
from lbi.train.model_pt import network_of


@torch.no_grad()
def set_scales(model: SpikingNetwork) -> None:
    """Set every population's scale to that of ``lbi.quantize`` for the current model; weights can then reach ±254.

    Args:
        model: the network, changed in place.

    Raises:
        InputError: naming everything that the chip cannot hold.
        UsageError: for a neuron model without compiled kernels.
    """
    for layer in model.populations():
        check_chip(layer.neuron)
    leave_chip(model)
    fixed = quantize(network_of(model), CHIP)
    for layer in model.populations():
        scales = [fixed.population(name).scale for name in layer.config.parts]
        layer.scale.copy_(torch.tensor(scales, dtype=torch.float64, device=layer.scale.device))


@torch.no_grad()
def leave_chip(model: SpikingNetwork) -> None:
    """Return to training in floats.

    Args:
        model: the network, changed in place.
    """
    for layer in model.populations():
        layer.scale.zero_()


@torch.no_grad()
def snap(model: SpikingNetwork) -> None:
    """Round the weights to their mantissas, in float units, so that the file holds the chip's values.

    Args:
        model: the network, changed in place.
    """
    for layer in model.populations():
        scale = layer.scale[layer.part]
        for weight, rows in ((layer.weight, scale[:: layer.per_row]), (layer.recurrent, scale)):
            if weight is not None:
                by_row = rows.reshape(-1, *[1] * (weight.ndim - 1))
                weight.copy_(mantissas(weight, rows).double() / by_row)
