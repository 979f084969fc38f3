"""Augmentation of event data, as usual for spoken digits: shifts in time and over channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def augment(
    spikes: NDArray[np.uint8], channel_jitter: float, time_shift: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Samples shifted by random whole numbers of channels and steps; spikes that leave the frame are dropped.

    Args:
        spikes: (n_samples, n_steps, n_in).
        channel_jitter: standard deviation of the channel shift, in channels (Cramer et al., IEEE TNNLS
            33(7), 2022, Section IV-D, jitter by their σ too).
        time_shift: largest shift, in steps.
        rng: source of the shifts.

    Returns:
        The shifted spikes, of the same shape.
    """
    n_samples = spikes.shape[0]
    if channel_jitter == 0 and time_shift == 0:
        return spikes
    by_channel = np.rint(rng.normal(0.0, channel_jitter, n_samples)).astype(np.int64)
    by_step = rng.integers(-time_shift, time_shift + 1, n_samples)
    moved = np.zeros_like(spikes)
    for i in range(n_samples):
        to_t, from_t = _overlap(int(by_step[i]), spikes.shape[1])
        to_c, from_c = _overlap(int(by_channel[i]), spikes.shape[2])
        moved[i, to_t, to_c] = spikes[i, from_t, from_c]
    return moved


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where values land, and where they come from, when they move by ``shift``."""
    shift = max(-size, min(size, shift))
    return slice(max(0, shift), size + min(0, shift)), slice(max(0, -shift), size - max(0, shift))
