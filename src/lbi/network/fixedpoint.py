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
    """``x − 2^24`` above 2^23, ``x + 2^24`` at or below −2^23, otherwise ``x``; applied once, so 2^23 stays."""
    x = np.asarray(x, dtype=np.int32)
    wrapped = np.where(x > STATE_LIMIT, x - 2 * STATE_LIMIT, x)
    return np.where(wrapped <= -STATE_LIMIT, x + 2 * STATE_LIMIT, wrapped).astype(np.int32)


def clip24(x: ArrayLike) -> NDArray[np.int32]:
    """``x`` saturated to ±(2^23 − 1)."""
    return np.clip(np.asarray(x, dtype=np.int64), -STATE_LIMIT + 1, STATE_LIMIT - 1).astype(np.int32)


def shift(x: ArrayLike, exponent: int) -> NDArray[np.int32]:
    """``x << exponent`` if positive, else ``x >> −exponent`` (floor: −1 >> 1 is −1).

    The result keeps its low 32 bits, the width of Lava's message channels.
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
        """The nearest value of the format (ties to even multiples of the step), saturating."""
        on_grid = np.rint(np.asarray(x, dtype=np.float64) / self.step) * self.step
        return np.clip(on_grid, self.minimum, self.maximum).astype(np.int64)

    def holds(self, x: ArrayLike) -> NDArray[np.bool_]:
        """True where ``x`` is a value of the format."""
        x = np.asarray(x)
        return (x >= self.minimum) & (x <= self.maximum) & (x % self.step == 0)

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}" + (f" in steps of {self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class NumberFormats:
    """The integers that a chip can store, as limits for quantization."""

    decay: IntFormat
    threshold: IntFormat
    bias_mantissa: IntFormat
    bias_exponent: IntFormat
    weight_exponent: IntFormat
    delay: IntFormat
