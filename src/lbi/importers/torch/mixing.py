"""Models that mix the samples of a batch, so that a sample's spikes depend on those beside it.

Read without a batch dimension, such a model would do to neurons what it does to samples. So it is refused under the
calling convention with which its trace is complete, and no model is read as one of single samples that runs on several.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from lbi.errors import InputError, Rule
from lbi.importers.torch import proof, recording
from lbi.importers.torch.group import NotThisWay
from lbi.importers.torch.output import Output
from lbi.importers.torch.running import Sites
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.ways import Way, random_input
from lbi.importers.torch.weighted import Sums

MIXED = Rule(
    "batch-mixed",
    "samples that do not depend on each other",
    "take what forward does over the samples ({axis}) out of it: a mean, a sum, an order, a sample by its index, or their"
    " number; for what is meant over the neurons, count dimensions from the last one, such as mean(-1)",
)
AXES = {"all steps, time first": "dimension 1 of its input, 0 of a step"}

RATES = (0.4, 0.1, 0.7)
"""Spikes per step and channel of the samples that are compared."""


def check(
    model: nn.Module,
    places: Sites,
    tracing: Tracing,
    ways: tuple[Way, Way],
    shape: Sequence[int],
    n_steps: int,
    read: Output | Sums | None = None,
) -> None:
    """Compare runs of several samples together with runs of each alone.

    Args:
        model: the copy that ran.
        places: its neuron modules.
        tracing: the trace.
        ways: calling conventions of samples together, and of one alone.
        shape: shape of one sample at one step.
        n_steps: steps to compare.
        read: what the model's output holds; weighted sums are compared, too, in which neurons could take the place of samples.

    Raises:
        InputError: naming the first module and step that differ, or an output that holds something else. A model that fails, or is
            random, is none of this kind.
    """
    several, alone = ways[0], ways[1]._replace(one_by_one=True)
    spikes = random_input(tuple(shape), torch.tensor(RATES), n_steps, 4, several.static)
    try:
        together, again = (
            recording.record(model, places, tracing, several, spikes, seed=seed) for seed in (1, 2)
        )
        apart = recording.record(model, places, tracing, alone, spikes)
    except (NotThisWay, InputError):
        return
    if _first_step(together, again) is not None:
        return
    found = _first_step(together, apart)
    if found is not None:
        step, name = found
        where = next(group.where for group in tracing.groups if group.name == name)
        text = f"takes in something else at step {step} when other samples are in the batch"
        raise InputError(MIXED.broken(where, text, axis=AXES.get(several.name, "dimension 0 of its input")))
    if isinstance(read, Sums):
        proof.compare_sums(tracing, read, together, spikes)


def _first_step(one: recording.Recorded, other: recording.Recorded) -> tuple[int, str] | None:
    """The first step at which currents differ by more than rounding, and the population that they enter."""
    firsts = []
    for order, (name, currents) in enumerate(one.currents.items()):
        if currents.shape != other.currents[name].shape:
            return None
        size = max(1.0, float(np.abs(currents).max(initial=0)))
        off = np.abs(currents - other.currents[name]) > proof.ROUNDING * size
        firsts += [(int(step), order, name) for step in np.flatnonzero(off.any(axis=(0, 2)))[:1]]
    return (min(firsts)[0], min(firsts)[2]) if firsts else None
