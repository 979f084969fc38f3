"""snnTorch's neurons: Leaky, Synaptic, their recurrent forms RLeaky and RSynaptic, and Lapicque. Source: snnTorch 1.0.0.

    Leaky      mem ← β mem + input                       spike where mem > threshold
    Synaptic   syn ← α syn + input,  mem ← β mem + syn
    Lapicque   mem ← (1 − Δt/RC) mem + Δt/C input

``Leaky`` resets mem before it adds the next input; with ``reset_delay=True`` all others lose the input of that step. A reset
by subtraction takes the threshold from mem after that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lbi.errors import InputError, Problems, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch.layer import Layer, Neurons, Outputs, array, exceeded

RESETS = ("subtract", "zero", "none")
"""``reset_mechanism`` by number."""

CLASSES = ("Leaky", "Synaptic", "RLeaky", "RSynaptic", "Lapicque")
"""Supported classes; they return their spikes, and after them their states."""

RESET_NAME = Rule("reset-mechanism", "{state!r}, as its state says", "build it as it was trained")
NO_RESET = Rule(
    "no-reset",
    "'subtract' or 'zero'; 'none' in the last layer, if its voltage is what the model returns (output=True)",
    "train with one of them: the chip resets a neuron that spikes",
)
INHIBITION = Rule("inhibition", "none", "train without it")
STATE_QUANT = Rule("state-quant", "none", "train without it: lbi-export quantizes")
RESET_DELAY = Rule(
    "reset-delay",
    "True: snnTorch 1.0.0's RSynaptic does not reset the voltage with False",
    "build it with reset_delay=True; for a reset in the same step, use Synaptic with reset_delay=False and feed its"
    " spikes back through a torch.nn.Linear",
)

AT_ONCE = Rule(
    "reset-delay",
    "True for 'subtract': with False, a neuron above two thresholds is reset twice",
    "build it with reset_delay=True, the default",
)


NOT_A_NUMBER = Rule(
    "reset-mechanism",
    "'none' with an infinite threshold: 'subtract' takes 0 times infinity from the voltage, which is NaN",
    "build it with reset_mechanism='none'",
)


def read(module: Any, signal: Signal, layer: Layer) -> None:
    """Add the population of a snnTorch neuron.

    Args:
        module: the neuron module.
        signal: its input.
        layer: receives the population.
    """
    problems = Problems()
    reset = _reset_mechanism(module)
    RESET_NAME.check(
        problems,
        reset == module.reset_mechanism,
        layer.where,
        f"built with {module.reset_mechanism!r}",
        state=reset,
    )
    NO_RESET.check(problems, reset in RESETS, layer.where, f"reset_mechanism {reset!r}")
    INHIBITION.check(problems, not module.inhibition, layer.where, "lateral inhibition")
    STATE_QUANT.check(problems, not module.state_quant, layer.where, "quantized states")
    never = bool(np.any(np.isinf(array(module.threshold))))
    NOT_A_NUMBER.check(
        problems, not never or reset != "subtract", layer.where, "subtracts an infinite threshold"
    )
    integrates, recurrent = _integrates(module), hasattr(module, "recurrent")
    synaptic, circuit = hasattr(module, "alpha"), hasattr(module, "C")  # a circuit of R and C: Lapicque
    delayed = bool(getattr(module, "reset_delay", True))
    subtracts = reset == "subtract" and not integrates
    RESET_DELAY.check(
        problems,
        delayed or not (recurrent and synaptic),
        layer.where,
        "RSynaptic with reset_delay=False",
    )
    AT_ONCE.check(problems, delayed or not subtracts, layer.where, "subtracts with reset_delay=False")
    problems.raise_as(InputError)
    if recurrent:
        own = layer.own_spikes().scaled(array(module.graded_spikes_factor))
        signal = signal + layer.through(module.recurrent, own)
    beta = np.clip(array(module.beta), 0, 1)
    if circuit:
        beta = 1.0 - array(module.time_step) / (array(module.R) * array(module.C))
        signal = signal.scaled(array(module.time_step) / array(module.C))
    late = delayed and (synaptic or recurrent or circuit) and reset == "zero" and not integrates
    layer.neurons(
        signal,
        current_decay=1.0 - np.clip(array(module.alpha), 0, 1) if synaptic else 1.0,
        voltage_decay=1.0 - beta,
        threshold=np.inf if integrates else exceeded(module.threshold, module.spike_grad),
        refractory_period=1 if late else 0,
        subtracted=array(module.threshold) if subtracts else None,
    )


def split(module: Any, result: Any) -> Outputs:
    """Separate spikes and states; a neuron without reset is read by its last state, ``mem``.

    Args:
        module: the neuron module.
        result: what the module returned.

    Returns:
        The output and the states.
    """
    spikes, *rest = result if isinstance(result, tuple) else (result,)
    states = {name: getattr(module, name) for name in _state_names(module)}
    states |= dict(zip(states, rest, strict=False))
    if _integrates(module):
        name = "spikes" if _reset_mechanism(module) == "none" else "silence"
        return Outputs(states.pop("mem"), {name: spikes, **states})
    return Outputs(spikes, states)


def _state_names(module: Any) -> tuple[str, ...]:
    return ("syn", "mem") if hasattr(module, "alpha") else ("mem",)


def _reset(module: Any) -> None:
    for name in ("spk", *_state_names(module)):
        if hasattr(module, name):
            setattr(module, name, torch.zeros(0))


def _reset_mechanism(module: Any) -> str:
    """The name of the reset mechanism, which a saved state holds as a number."""
    number = int(module.reset_mechanism_val)
    return RESETS[number] if number in range(len(RESETS)) else f"number {number}"


def _integrates(module: Any) -> bool:
    """True if the neuron is never reset: without a reset mechanism, or with unreachable thresholds."""
    return _reset_mechanism(module) == "none" or bool(np.all(np.isinf(array(module.threshold))))


NEURONS = Neurons(
    read,
    split,
    time_axis=lambda module: None,
    reset=_reset,
    integrates=_integrates,
    gain=lambda module: array(module.graded_spikes_factor),
    instances=lambda module: type(module).instances,
)

MODULES = {"snntorch": dict.fromkeys(CLASSES, NEURONS)}
"""Module that users import from → class → its record."""
