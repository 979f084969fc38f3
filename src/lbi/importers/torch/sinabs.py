"""sinabs's neurons: LIF, IAF, ExpLeak, their Squeeze forms and LIFRecurrent. Source: sinabs 3.1.3.

    i ← α_syn (i + input)   (without τ_syn: i = input);   v ← α_mem v + i   (norm_input: (1 − α_mem) i)

with α = exp(−1/τ), and a spike where v ≥ spike_threshold, which sets v to 0 or (MembraneSubtract) takes the threshold
from it. A call takes all steps, batch first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lbi.errors import InputError, Problems, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch.layer import Layer, Neurons, Outputs, array, just_below

SEVERAL_SPIKES = Rule(
    "several-spikes", "SingleSpike", "train with one spike per step: the chip sends no more"
)
RESET = Rule("reset", "MembraneReset(0.0) or MembraneSubtract", "train with one of them")
VOLTAGE_FLOOR = Rule("voltage-floor", "None", "train without a lower bound")
RECURRENCE = Rule("recurrence", "nn.Linear without bias", "build it with bias=False")


def read(module: Any, signal: Signal, layer: Layer) -> None:
    """Add the population of a LIF, IAF, ExpLeak or a recurrent LIF.

    Args:
        module: the neuron module.
        signal: its input.
        layer: receives the population.
    """
    problems, where = Problems(), layer.where
    if not _integrates(module):
        spike = getattr(module.spike_fn, "__name__", repr(module.spike_fn))
        hard = _reset_class(module) == "MembraneReset" and module.reset_fn.reset_value == 0
        SEVERAL_SPIKES.check(problems, spike == "SingleSpike", where, f"spike_fn {spike}")
        known = hard or _reset_class(module) == "MembraneSubtract"
        RESET.check(problems, known, where, f"reset_fn {module.reset_fn}")
    VOLTAGE_FLOOR.check(problems, module.min_v_mem is None, where, f"min_v_mem {module.min_v_mem}")
    problems.raise_as(InputError)
    if hasattr(module, "rec_connect"):
        feedback = layer.through(module.rec_connect, layer.own_spikes())
        RECURRENCE.check(
            problems, not np.any(feedback.constant), where, "rec_connect adds a bias from the second step on"
        )
        problems.raise_as(InputError)
        signal = signal + feedback
    _membrane(module, signal, layer)


def _membrane(module: Any, signal: Signal, layer: Layer) -> None:
    mem = getattr(module, "alpha_mem_calculated", None)
    syn = getattr(module, "alpha_syn_calculated", None)
    alpha_mem = np.ones(1) if mem is None else array(mem)
    if syn is not None:
        signal = signal.scaled(array(syn))
    if mem is not None and module.norm_input:
        signal = signal.scaled(1.0 - alpha_mem)
    layer.neurons(
        signal,
        current_decay=1.0 if syn is None else 1.0 - array(syn),
        voltage_decay=1.0 - alpha_mem,
        threshold=np.inf if _integrates(module) else just_below(module.spike_threshold),
        subtracted=_subtracted(module, alpha_mem),
    )


def _subtracted(module: Any, alpha_mem: Any) -> Any:
    """What is left in the next step of what a spike takes from the voltage; None for a reset to 0."""
    if _integrates(module) or _reset_class(module) != "MembraneSubtract":
        return None
    taken = module.reset_fn.subtract_value
    return alpha_mem * array(module.spike_threshold if taken is None else taken)


def _reset_class(module: Any) -> str:
    return type(module.reset_fn).__name__


def split(module: Any, result: Any) -> Outputs:
    """Separate the returned spikes (voltages of an ExpLeak) from the states, which are buffers.

    Args:
        module: the neuron module.
        result: what the module returned.

    Returns:
        The output and the states.
    """
    states = {name: getattr(module, name, None) for name in ("v_mem", "i_syn")}
    return Outputs(result, {name: state for name, state in states.items() if state is not None})


def _reset(module: Any) -> None:
    """Reset the state and the batch size: sinabs draws random states for a batch of another size."""
    for name in ("v_mem", "i_syn"):
        if getattr(module, name, None) is not None:
            setattr(module, name, torch.zeros(0))


def _integrates(module: Any) -> bool:
    return module.spike_fn is None


def _neurons(time_axis: int) -> Neurons:
    return Neurons(read, split, time_axis=lambda module: time_axis, reset=_reset, integrates=_integrates)


CLASSES = {
    **dict.fromkeys(("LIF", "IAF", "ExpLeak", "LIFRecurrent"), _neurons(1)),
    **dict.fromkeys(("LIFSqueeze", "IAFSqueeze", "ExpLeakSqueeze"), _neurons(-1)),
}

MODULES = {"sinabs.layers": CLASSES}
"""Module that users import from → class → its record."""
