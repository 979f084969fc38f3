"""Verification of what a model returns: every value of the population that is read stands where a reader expects it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, permutations
from operator import mul
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lbi.errors import InputError, Rule
from lbi.importers.torch.output import STEPS, Output
from lbi.importers.torch.weighted import Sums

ORDER = Rule(
    "readout",
    "each value at its sample, step and neuron",
    "return the tensor as it was stacked, or bring its dimensions into another order by permute and transpose: view and"
    " reshape cut it elsewhere",
)


def compare(output: Output | Sums, values: NDArray[Any], results: Sequence[Any], rounding: float) -> None:
    """Compare the output with the spikes or voltages of its population, or with the weighted sums that it adds up.

    Args:
        output: what the model returns.
        values: (samples, steps, n) of the population, in units of its spikes.
        results: what the calls of the model returned.
        rounding: relative difference that the order of summation can cause.

    Raises:
        InputError: unless it holds every step, or their sum or mean, or the last step, each value at its place.
    """
    values = np.pad(values, ((0, 0), (output.n_before, 0), (0, 0)))
    n_steps = values.shape[1]
    factors = {
        output.factor,
        output.factor * (output.n_steps + output.n_before) / n_steps,
    }  # a mean's factor is 1 / steps
    tensors = [tensor.double() for tensor in output.tensors(results)]
    if output.last:
        values = values[:, -1:]
    if output.maximum:
        values = values.max(axis=1, keepdims=True)
    size = max(1.0, float(np.abs(values).sum()))
    total, found = float(values.sum()), float(sum(tensor.sum() for tensor in tensors))
    if all(abs(found - total * factor) > rounding * factor * size for factor in factors):
        held = output.what if isinstance(output, Sums) else "spikes or voltages"
        text = f"sums to {found:g} where its {held} sum to {total * output.factor:g}, over {n_steps} steps"
        raise InputError(STEPS.broken("the model's output", text))
    if len({tensor.shape for tensor in tensors}) != 1:
        return
    whole = (tensors[0] if len(tensors) == 1 else torch.stack(tensors)).numpy()
    axes = {"samples": values.shape[:1], "steps": values.shape[1:2], "neurons": output.shape}
    given = values.reshape([size for sizes in axes.values() for size in sizes])
    if whole.size == values.size:
        pass
    elif whole.size * n_steps == values.size:
        given = given.sum(axis=1, keepdims=True)
        axes["steps"] = (1,)
    else:
        return
    if not any(_stands_as(whole, given * factor, axes, rounding) for factor in factors):
        text = f"of shape {whole.shape} holds the values of {axes['samples'][0]} samples at other places"
        raise InputError(ORDER.broken("the model's output", text))


def _stands_as(
    whole: NDArray[Any], given: NDArray[Any], axes: dict[str, tuple[int, ...]], rounding: float
) -> bool:
    """Whether an array holds the values in some order of the axes, and is cut between axes (or dimensions of neurons) only."""
    cuts = set(accumulate(whole.shape, mul))
    scale = max(1.0, float(np.abs(given).max(initial=0)))
    first = {"samples": [0], "steps": [1], "neurons": list(range(2, given.ndim))}
    for order in permutations(axes):
        if not cuts <= {1, *accumulate((size for axis in order for size in axes[axis]), mul)}:
            continue
        moved = given.transpose([dim for axis in order for dim in first[axis]])
        if np.all(np.abs(whole.reshape(-1) - moved.reshape(-1)) <= rounding * scale):
            return True
    return False
