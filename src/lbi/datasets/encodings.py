"""Deterministic spike encodings of grey values x in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def latency(x: NDArray[np.float64], n_steps: int) -> NDArray[np.uint8]:
    """One spike per value above 0, at step ``round((1 − x)·(n_steps − 1))``: bright is early.

    Shapes: x (n_samples, n) → (n_samples, n_steps, n).

    Args:
        x: values in [0, 1].
        n_steps: timesteps.

    Returns:
        Zeros and ones.
    """
    when = np.rint((1.0 - x) * (n_steps - 1)).astype(np.int64)
    steps = np.arange(n_steps)[None, :, None]
    return ((when[:, None, :] == steps) & (x[:, None, :] > 0)).astype(np.uint8)


def rate(x: NDArray[np.float64], n_steps: int) -> NDArray[np.uint8]:
    """Evenly spaced spikes, ``floor(x·n_steps)`` of them: one whenever the running sum of x passes an integer.

    Shapes: x (n_samples, n) → (n_samples, n_steps, n).

    Args:
        x: values in [0, 1].
        n_steps: timesteps.

    Returns:
        Zeros and ones.
    """
    sums = np.floor(x[:, None, :] * np.arange(n_steps + 1)[None, :, None] + 1e-9)
    return (np.diff(sums, axis=1) > 0).astype(np.uint8)


def thermometer(x: NDArray[np.float64], n_levels: int) -> NDArray[np.uint8]:
    """Channel k of ``n_levels`` is 1 where ``x > (k + ½) / n_levels``: brighter means more channels.

    Shapes: x (...) → (..., n_levels).

    Args:
        x: values in [0, 1].
        n_levels: channels.

    Returns:
        Zeros and ones.
    """
    levels = (np.arange(n_levels) + 0.5) / n_levels
    return (x[..., None] > levels).astype(np.uint8)


def population(x: NDArray[np.float64], n_levels: int) -> NDArray[np.uint8]:
    """Exactly one of ``n_levels`` channels is 1, the one nearest to ``x·(n_levels − 1)`` (ties to even).

    Shapes: x (...) → (..., n_levels).

    Args:
        x: values in [0, 1].
        n_levels: channels.

    Returns:
        Zeros and ones.
    """
    nearest = np.rint(x * (n_levels - 1)).astype(np.int64)
    return (nearest[..., None] == np.arange(n_levels)).astype(np.uint8)


def on_off(x: NDArray[np.float64], n_levels: int) -> NDArray[np.uint8]:
    """Thermometer code and its complement: as many spikes for dark as for bright, half of the channels always.

    Shapes: x (...) → (..., 2·(n_levels // 2)). The first half is ``thermometer(x, n_levels // 2)``, the second is 1
    minus the first.

    Args:
        x: values in [0, 1].
        n_levels: channels, an even number.

    Returns:
        Zeros and ones.
    """
    on = thermometer(x, n_levels // 2)
    return np.concatenate([on, 1 - on], axis=-1)


IMAGE_CODES = {"latency": latency, "rate": rate}
"""Encodings of a whole image over ``n_steps``."""

VALUE_CODES = {"thermometer": thermometer, "population": population, "on_off": on_off}
"""Encodings of one value in one step over ``n_levels`` channels."""
