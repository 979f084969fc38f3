"""The weights that Lava computes with when it runs a netx layer; they can differ from those in the file.

netx shifts a dense layer's matrix left as far as 8 bits allow and compensates with the exponent. Lava then
chooses the sign mode itself, clips, and drops low bits. Convolutions are not changed.
Source: lava-dl 0.6.0 ``netx/utils.py::optimize_weight_bits``, ``netx/blocks/process.py``; lava-nc 0.10.0
``utils/weightutils.py``, ``proc/dense/models.py``, ``proc/conv/{models,utils}.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.network.fixed import SignMode

Integers = NDArray[np.int64]

BIAS_EXPONENT = 6
"""Bias exponent that netx gives every neuron; the file holds only the mantissa."""

LONGEST_DELAY = 62
"""The longest delay; netx truncates longer ones."""

NEVER = 1 << 17
"""A threshold mantissa that no voltage exceeds: shifted by 6, it is one above the largest voltage."""


class Shifted(NamedTuple):
    """A dense layer's matrix as netx passes it to Lava."""

    weights: Integers
    weight_exp: int
    num_weight_bits: int


def shift_left(weights: Integers) -> Shifted | None:
    """The result of ``optimize_weight_bits``; None if it fails (all zero) or yields nothing (one sign, beyond 8 bits).

    Args:
        weights: the layer's matrix, integers.

    Returns:
        The matrix as passed on, its exponent and its bits.
    """
    largest, smallest = int(weights.max()), int(weights.min())
    if (largest > 254 and smallest < 0) or (smallest < -256 and largest > 0):
        weights = np.clip(weights, -256, 254)
        largest, smallest = int(weights.max()), int(weights.min())
    signed = 0
    if largest == smallest == 0:
        return None
    if largest < 0:
        scale = -256 / smallest
    elif smallest >= 0:
        scale = 255 / largest
    else:
        signed = 1
        scale = min(127 / largest if largest else np.inf, -128 / smallest)
    shift = int(np.floor(np.log2(scale))) + signed
    if shift < 0:
        return None
    spare = next((n for n in range(8, 0, -1) if not np.any(weights % (1 << n))), 0) - signed
    return Shifted(weights << shift, -shift, 8 - shift - spare)


def lava_reads(weights: Integers, num_weight_bits: int) -> tuple[Integers, SignMode]:
    """The matrix that a Lava synapse without a given sign mode computes with, and the mode it chooses.

    Args:
        weights: a synapse's matrix.
        num_weight_bits: its bits.

    Returns:
        The matrix and the sign mode.
    """
    if weights.min() >= 0:
        mode = SignMode.EXCITATORY
    elif weights.max() <= 0:
        mode = SignMode.INHIBITORY
    else:
        mode = SignMode.MIXED
    sign = -1 if mode is SignMode.INHIBITORY else 1
    clipped = np.clip(sign * weights, -256 if mode is SignMode.MIXED else 0, 255)
    cut = mode.n_cut(num_weight_bits)
    if cut < 0:  # in numpy a left shift by a negative count gives 0
        return np.zeros_like(weights), mode
    return sign * ((clipped >> cut) << cut), mode
