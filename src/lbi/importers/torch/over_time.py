"""Convolutions and pooling whose windows go over the steps of a sample, which no layer of a network does within a step."""

from __future__ import annotations

from typing import Any

import numpy as np

from lbi.errors import Problem, Rule
from lbi.importers.torch.shadow import LOST, STATIC, Shadow

WINDOWS = {
    "aten::convolution": "a convolution",
    "aten::avg_pool2d": "an average",
    "aten::max_pool2d_with_indices": "a maximum",
}
"""ATen's name → what it is; those of one dimension are lowered to these."""

OVER_TIME = Rule("over-time", "layers that take in one step at a time", "{fix}")
TAPS = (
    "in the loop over the steps, add up what each step of the window gives: a Linear of the spikes of this step, another one,"
    " without bias, of those of the step before, and so on, with zeros before the first step; these are imported as synapses with"
    " delays. Or leave memory to the neurons, by slower decays"
)
POINTWISE = (
    "use a Linear over the channels in its place: a window of one step is the same layer in every step"
)
MAXIMUM = "take the maximum within a step, and leave memory to the neurons, by slower decays"


def problem_of(shadow: Shadow, name: str, args: Any, where: str) -> Problem | None:
    """What is wrong with a convolution or pooling over the steps.

    Args:
        shadow: the numbers of all elements.
        name: the operation's name in ATen.
        args: its arguments.
        where: its place in the model.

    Returns:
        The problem; None for an operation within a step.
    """
    numbers = shadow.of(args[0]) if name in WINDOWS else None
    if numbers is None or numbers.dim() < 3:
        return None
    flat = numbers.numpy()
    steps = shadow.steps(flat.reshape(-1)).reshape(flat.shape)
    known = (flat > LOST) & (steps != STATIC)
    for axis in range(2, flat.ndim):
        first = np.where(known, steps, np.iinfo(np.int64).max).min(axis=axis)
        last = np.where(known, steps, -1).max(axis=axis)
        if np.any(last > first):
            sizes = args[1].shape[2:] if name == "aten::convolution" else args[1]
            size = int(sizes[(axis - flat.ndim) % len(sizes)])
            found = f"{WINDOWS[name]} over time, with a window of {size} step{'s' * (size > 1)}"
            fix = TAPS if name != "aten::max_pool2d_with_indices" else MAXIMUM
            return OVER_TIME.broken(where, found, fix=fix if size > 1 else POINTWISE)
    return None
