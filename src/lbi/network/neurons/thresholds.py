"""Thresholds of neurons that fire at them, not above: v ≥ θ is v > the number just below θ."""

from __future__ import annotations

import numpy as np


def met_at(threshold: float) -> float | None:
    """The number that a voltage has to reach, for a threshold that stands just below it: v > threshold is v ≥ number.

    Frameworks whose neurons fire at the threshold (spikingjelly, sinabs) give such thresholds. A number that is not written
    by people or held by float32 has none.

    Args:
        threshold: in weight units.

    Returns:
        The number; None for a threshold that voltages have to exceed.
    """
    above, single = float(np.nextafter(threshold, np.inf)), np.float32(threshold)
    if _is_round(above) and not _is_round(threshold):
        return above
    next_single = float(np.nextafter(single, np.float32(np.inf)))
    if float(single) == threshold and _is_written(next_single) and not _is_written(threshold):
        return next_single
    return None


def _is_round(value: float) -> bool:
    return float(np.float32(value)) == value or _is_written(value)


def _is_written(value: float) -> bool:
    return float(f"{value:.6g}") == value


def threshold_to_fixed(threshold: float, scale: float, whole: bool) -> int:
    """The mantissa of a threshold: the nearest, but one less where voltages of exactly that mantissa are to fire.

    Args:
        threshold: in weight units.
        scale: mantissa units per float unit.
        whole: True if voltages are whole mantissas; others come that close without reaching the threshold.

    Returns:
        The mantissa, not limited to the chip's range.
    """
    nearest = round(threshold * scale)
    return nearest - 1 if whole and nearest > 1 and met_at(threshold) is not None else nearest


def in_single(threshold: float) -> float:
    """A threshold for readers that take it as float32, without rounding it up to the number that fires.

    Args:
        threshold: in weight units.

    Returns:
        The threshold, or for one just below a number (``met_at``) the float32 just below it.
    """
    reached = met_at(threshold)
    return threshold if reached is None else float(np.nextafter(np.float32(reached), np.float32(0)))
