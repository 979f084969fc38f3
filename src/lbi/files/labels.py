"""Checks of labels: one class from 0 per sample, in accordance with the spikes and the number of outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems, Rule

SHAPE = Rule("labels-shape", "integers ({n_samples},), one for each sample", "{fix}")
RANGE = Rule(
    "labels-value",
    "0 to {most}: one class per output",
    "number the classes from 0 (numpy.unique(labels, return_inverse=True)[1]), or leave labels out",
)

WIDE = Rule(
    "labels-value",
    "up to 2^63 − 1",
    "number the classes from 0 (numpy.unique(labels, return_inverse=True)[1])",
)

USUAL = "give a label per sample; samples are the first axis of spikes, steps the second"


def check_shape(labels: NDArray[Any], spikes: NDArray[Any], where: str, problems: Problems) -> bool:
    """Note labels that are not one integer per sample, with a fix for their form.

    Args:
        labels: as read.
        spikes: (n_samples, n_steps, …).
        where: the file and the name of the array.
        problems: receives the faults.

    Returns:
        True if they are integers, one per sample.
    """
    n_samples = spikes.shape[0] if spikes.ndim else 0
    if labels.dtype == np.uint64 and labels.size:
        WIDE.check(problems, int(labels.max()) < 1 << 63, where, f"up to {labels.max()}")
    return SHAPE.check(
        problems,
        labels.shape == (n_samples,) and labels.dtype.kind in "iu",
        where,
        f"{labels.dtype} {labels.shape}",
        n_samples=n_samples,
        fix=_fix(labels, spikes.shape),
    )


def _fix(labels: NDArray[Any], shape: tuple[int, ...]) -> str:
    if labels.ndim == 2 and labels.shape[0] in shape[:1] and labels.shape[1] > 1:
        return "one-hot rows are classes by labels.argmax(1)"
    if labels.ndim == 2 and 1 in labels.shape:
        return "one column is a row by labels.reshape(-1)"
    if labels.ndim == 1 and labels.shape[:1] != shape[:1] and labels.shape[0] in shape[1:2]:
        return "steps seem to be the first axis of spikes: spikes.swapaxes(0, 1)"
    if labels.shape == shape[:1] and labels.dtype.kind in "fb":
        return "whole numbers are integers by labels.astype(int)"
    if labels.dtype.kind in "US":
        return "names are classes by numpy.unique(labels, return_inverse=True)[1]"
    return USUAL


def check_range(labels: NDArray[Any], n_outputs: int, where: str, problems: Problems) -> bool:
    """Note labels without an output, with their number.

    Args:
        labels: integers.
        n_outputs: number of outputs, or of classes.
        where: the file and the name of the array.
        problems: receives the faults.

    Returns:
        True if every label is from 0 to ``n_outputs`` − 1.
    """
    outside = labels[(labels < 0) | (labels >= n_outputs)]
    values = np.unique(outside)
    shown = ", ".join(map(str, values[:5])) + (" …" if values.size > 5 else "")
    found = f"{outside.size} of {labels.size} labels are {shown}"
    return RANGE.check(problems, not outside.size, where, found, most=n_outputs - 1)
