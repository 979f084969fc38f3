"""Weights and biases in the chip's mantissas with straight-through gradients, for chip-exact layers."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from lbi.chip.load import load_profile
from lbi.errors import Problems
from lbi.network.fixed import SignMode
from lbi.network.fixedpoint import ACTIVATION_SHIFT, NumberFormats
from lbi.network.neurons import CubaLif
from lbi.quantization.to_integers import weight_grid

CHIP = "loihi2"
"""The chip whose number formats are used (those of Loihi 1 are the same for weights, decays and biases)."""


def mantissas(weight: Tensor, scale: Tensor) -> Tensor:
    """Weights (n_out, …) as mantissas at scales (n_out,), straight-through; exact zeros stay zeros.

    Args:
        weight: (n_out, …) in float units.
        scale: (n_out,) mantissa units per float unit.

    Returns:
        (n_out, …) whole numbers of the weight's type.
    """
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    scaled = weight * scale.to(weight.dtype)
    grid = weight_grid(SignMode.MIXED, chip_formats())
    with torch.no_grad():
        exact = weight.double() * scale  # rounds as lbi.quantize does, in double precision
        rounded = ((exact / grid.step).round() * grid.step).clamp(grid.minimum, grid.maximum)
        change = rounded.to(weight.dtype) - scaled
    straight = scaled + change
    # scaled + (rounded − scaled) can differ from rounded in the last bit: use the integer itself.
    return straight + (rounded.to(weight.dtype) - straight).detach()


def chip_bias(bias: Tensor, scale: Tensor, part: Tensor) -> Tensor:
    """Biases (n,) in mantissa units, rounded as the neuron model does for the chip, part by part; straight-through.

    Args:
        bias: (n,) in float units.
        scale: (n,) mantissa units per float unit.
        part: (n,) part of each neuron.

    Returns:
        (n,) in mantissa units.
    """
    scaled = bias * scale.to(bias.dtype)
    exact = torch.zeros_like(scaled)
    if bool((bias != 0).any()):
        for k in range(int(part.max()) + 1):
            mine = part == k
            values = bias.detach()[mine].double().cpu().numpy()
            neuron = CubaLif(1.0, 1.0, 1.0, values)
            fixed = neuron.to_fixed(float(scale[mine][0]), values.size, chip_formats(), "bias", Problems())
            exact[mine] = torch.from_numpy(fixed.bias / (1 << ACTIVATION_SHIFT)).to(bias)
    return scaled + (exact - scaled).detach()


def trains_in(formats: NumberFormats) -> bool:
    """Test for number formats in which chip-exact training computes.

    Args:
        formats: of the chip.

    Returns:
        True if weights of both signs, decays, thresholds and biases are those of ``CHIP``.
    """
    names = ("weight_mixed", "weight_exponent", "decay", "threshold", "bias_mantissa", "bias_exponent")
    return all(getattr(formats, name) == getattr(chip_formats(), name) for name in names)


@cache
def chip_formats() -> NumberFormats:
    """The number formats of ``CHIP``."""
    return load_profile(CHIP).formats
