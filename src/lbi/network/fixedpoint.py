"""The integer operations of Loihi's neuron as lava-nc 0.10.0 computes them (``fixed_pt`` models).

Every function works element-wise on integer arrays and is the definition for the rest of the package;
compiled kernels repeat the formulas and are tested against them. Source: lava-nc 0.10.0,
``lava/proc/lif/models.py`` (``AbstractPyLifModelFixed.subthr_dynamics``) and
``lava/proc/sparse/models.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DECAY_BITS = 12
"""Decays are fractions of 2**12: a factor ``(4096 - d) / 4096``."""

STATE_BITS = 24
"""Current and voltage are signed 24-bit."""

ACTIVATION_SHIFT = 6
"""Synaptic input and threshold are aligned to the state by a left shift of 6."""

STATE_LIMIT = 1 << (STATE_BITS - 1)


def decay(state: ArrayLike, d: int) -> NDArray[np.int32]:
    """``trunc0(state · (4096 − d) / 4096)``, truncation toward zero: the magnitude is shifted, the sign kept.

    The product needs 36 bits.

    Args:
        state: signed 24-bit.
        d: 0 to 4096.

    Returns:
        The decayed state, signed 24-bit.
    """
    product = np.asarray(state, dtype=np.int64) * ((1 << DECAY_BITS) - d)
    return (np.sign(product) * (np.abs(product) >> DECAY_BITS)).astype(np.int32)


def wrap24(x: ArrayLike) -> NDArray[np.int32]:
    """``x − 2^24`` above 2^23, ``x + 2^24`` at or below −2^23, otherwise ``x``; applied once, so 2^23 stays.

    Args:
        x: integers.

    Returns:
        int32 of the shape of ``x``: signed 24-bit integers, or 2^23.
    """
    x = np.asarray(x, dtype=np.int32)
    wrapped = np.where(x > STATE_LIMIT, x - 2 * STATE_LIMIT, x)
    return np.where(wrapped <= -STATE_LIMIT, x + 2 * STATE_LIMIT, wrapped).astype(np.int32)


def clip24(x: ArrayLike) -> NDArray[np.int32]:
    """``x`` saturated to ±(2^23 − 1).

    Args:
        x: integers.

    Returns:
        int32 of the shape of ``x``: signed 24-bit integers.
    """
    return np.clip(np.asarray(x, dtype=np.int64), -STATE_LIMIT + 1, STATE_LIMIT - 1).astype(np.int32)


def shift(x: ArrayLike, exponent: int) -> NDArray[np.int32]:
    """``x << exponent`` if positive, else ``x >> −exponent`` (floor: −1 >> 1 is −1).

    The result keeps its low 32 bits, the width of Lava's message channels.

    Args:
        x: integers.
        exponent: bits to the left; negative: to the right.

    Returns:
        int32 of the shape of ``x``.
    """
    wide = np.asarray(x, dtype=np.int64)
    shifted = wide << exponent if exponent > 0 else wide >> -exponent
    return shifted.astype(np.int32)


@dataclass(frozen=True)
class IntFormat:
    """A range of integers on a grid: ``minimum + k · step``, up to ``maximum``."""

    minimum: int
    maximum: int
    step: int = 1

    def round(self, x: ArrayLike) -> NDArray[np.int64]:
        """The nearest value of the format (ties to even multiples of the step), saturating.

        Args:
            x: numbers.

        Returns:
            Values of the format, of the shape of ``x``.
        """
        on_grid = np.rint(np.asarray(x, dtype=np.float64) / self.step) * self.step
        return np.clip(on_grid, self.minimum, self.maximum).astype(np.int64)

    def holds(self, x: ArrayLike) -> NDArray[np.bool_]:
        """True where ``x`` is a value of the format.

        Args:
            x: integers.

        Returns:
            One boolean per number, of the shape of ``x``.
        """
        x = np.asarray(x)
        return (x >= self.minimum) & (x <= self.maximum) & (x % self.step == 0)

    def within(self, other: IntFormat) -> bool:
        """Test for a format that another contains.

        Args:
            other: another format.

        Returns:
            True if every value of this format is one of the other.
        """
        inside = other.minimum <= self.minimum and self.maximum <= other.maximum
        return inside and all(value % other.step == 0 for value in (self.minimum, self.step))

    @property
    def symmetric(self) -> IntFormat:
        """The values whose negatives are also in the format; a format without both signs stays whole."""
        if not self.minimum < 0 < self.maximum:
            return self
        end = min(-self.minimum, self.maximum)
        return IntFormat(-end, end, self.step)

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}" + (f" in steps of {self.step}" if self.step > 1 else "")


LAVA_FORMATS = {
    "weight_exponent": IntFormat(-8, 7),
    "delay": IntFormat(0, 62),
    "weight_mixed": IntFormat(-256, 254, step=2),
    "weight_excitatory": IntFormat(0, 255),
    "weight_inhibitory": IntFormat(-255, 0),
}
"""The integers of a synapse that Lava computes with unchanged and that network.h5 holds; a chip's are parts of them.

Source: lava-nc 0.10.0, ``lava/utils/weightutils.py`` and ``lava/proc/dense/models.py``.
"""


@dataclass(frozen=True)
class NumberFormats:
    """The integers that a chip can store, as limits for quantization.

    Attributes:
        decay: 4096ths lost per step.
        threshold: mantissas.
        bias_mantissa: mantissas.
        bias_exponent: bits by which bias mantissas are shifted.
        weight_exponent: bits by which the sum of weight mantissas is shifted.
        delay: extra timesteps.
        weight_mixed: mantissas of projections with weights of both signs; Lava's if the chip's file has none.
        weight_excitatory: mantissas of projections without negative weights.
        weight_inhibitory: mantissas of projections without positive weights.
    """

    decay: IntFormat
    threshold: IntFormat
    bias_mantissa: IntFormat
    bias_exponent: IntFormat
    weight_exponent: IntFormat
    delay: IntFormat
    weight_mixed: IntFormat = LAVA_FORMATS["weight_mixed"]
    weight_excitatory: IntFormat = LAVA_FORMATS["weight_excitatory"]
    weight_inhibitory: IntFormat = LAVA_FORMATS["weight_inhibitory"]
