"""Chip-exact training: the forward pass is the chip's integer arithmetic, the backward pass a surrogate.

Weights stay floats underneath. Each forward pass rounds them to mantissas (straight-through: the gradient of the
rounded weight is taken for the weight's own) and runs the chip's equations on them, so the spikes in training are
those of ``lbi.simulate`` and of Lava. All quantities are in mantissa units here: thresholds are ``vth``, states are
the chip's over 64, which floats hold exactly.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lbi.errors import Problems
from lbi.network.fixed import SignMode
from lbi.network.fixedpoint import ACTIVATION_SHIFT

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats
    from lbi.train.layers.model import SpikingNetwork

CHIP = "loihi2"
"""The chip whose number formats are trained in (Loihi 1 has the same for weights, decays and biases)."""

GRID = SignMode.MIXED.weight_format
"""Mantissas of either sign: even, −254 to 254."""


def mantissas(weight: Tensor, scale: Tensor) -> Tensor:
    """Weights (n_out, n_in) as mantissas at scales (n_out,), straight-through; exact zeros stay zeros."""
    scaled = weight * scale.to(weight.dtype)[:, None]
    with torch.no_grad():
        exact = weight.double() * scale[:, None]  # rounds as lbi.quantize does, in double precision
        rounded = ((exact / GRID.step).round() * GRID.step).clamp(GRID.minimum, GRID.maximum)
        change = rounded.to(weight.dtype) - scaled
    straight = scaled + change
    # scaled + (rounded − scaled) need not be rounded to the last bit: put the whole number in.
    return straight + (rounded.to(weight.dtype) - straight).detach()


def chip_bias(bias: Tensor, scale: Tensor, part: Tensor) -> Tensor:
    """Biases (n,) in mantissa units, rounded as the neuron model does for the chip, part by part; straight-through."""
    from lbi.network.neurons import CubaLif

    scaled = bias * scale.to(bias.dtype)
    exact = torch.zeros_like(scaled)
    if bool((bias != 0).any()):
        for k in range(int(part.max()) + 1):
            mine = part == k
            values = bias.detach()[mine].double().cpu().numpy()
            neuron = CubaLif(1.0, 1.0, 1.0, values)
            fixed = neuron.to_fixed(float(scale[mine][0]), values.size, _formats(), "bias", Problems())
            exact[mine] = torch.from_numpy(fixed.bias / (1 << ACTIVATION_SHIFT)).to(bias.dtype)
    return scaled + (exact - scaled).detach()


@cache
def _formats() -> NumberFormats:
    from lbi.chip.load import load_profile

    return load_profile(CHIP).formats


@torch.no_grad()
def set_scales(model: SpikingNetwork, chip: str = CHIP) -> None:
    """Take every population's scale from ``lbi.quantize`` of the model as it is; its weights may then reach ±254.

    Raises InputError naming what the chip cannot hold.
    """
    from lbi.quantization.to_integers import quantize
    from lbi.train.model_pt import network_of

    leave_chip(model)
    fixed = quantize(network_of(model), chip)
    for layer in model.populations():
        layer.scale.copy_(torch.tensor([fixed.population(name).scale for name in layer.config.parts]))


@torch.no_grad()
def leave_chip(model: SpikingNetwork) -> None:
    """Train in floats from here on."""
    for layer in model.populations():
        layer.scale.zero_()


@torch.no_grad()
def snap(model: SpikingNetwork) -> None:
    """Put the weights on their mantissas, in float units: what the chip will hold is what the file shows."""
    for layer in model.populations():
        scale = layer.scale[layer.part]
        for weight in (layer.weight, layer.recurrent):
            if weight is not None:
                weight.copy_(mantissas(weight, scale).double() / scale[:, None])
