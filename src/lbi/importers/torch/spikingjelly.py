"""spikingjelly's neurons: LIFNode, ParametricLIFNode, IFNode. Read from spikingjelly 0.0.0.0.14.

    v ← v + (input − v)/τ   (decay_input=False: v ← v − v/τ + input);  spike where v ≥ v_threshold

A spike sets v to ``v_reset``, at which it also starts and to which it decays; the voltage is measured from there. With
``v_reset=None`` v decays to 0 and a spike takes the threshold from it.
The state is in the module; ``step_mode`` determines whether a call is one step or all steps, time first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lbi.importers.signal import Signal
from lbi.importers.torch.layer import LAST, Layer, Neurons, Outputs, array, check_rest, exceeded


def read(module: Any, signal: Signal, layer: Layer) -> None:
    """Add the population of a LIFNode, ParametricLIFNode or IFNode.

    Args:
        module: the neuron module.
        signal: its input.
        layer: receives the population.
    """
    subtracts = module.v_reset is None
    rest = 0.0 if subtracts else float(module.v_reset)
    if _integrates(module):  # what is read is the voltage itself
        check_rest(layer, v_reset=rest)
    decay = 0.0
    if hasattr(module, "w"):  # ParametricLIFNode
        decay = float(torch.sigmoid(module.w))
    elif hasattr(module, "tau"):
        decay = 1.0 / float(module.tau)
    if decay and module.decay_input:
        signal = signal.scaled(decay)
    layer.neurons(
        signal,
        current_decay=1.0,
        voltage_decay=decay,
        threshold=exceeded(module.v_threshold, _fires(module)) - rest,
        subtracted=(1.0 - decay) * array(module.v_threshold)
        if subtracts and not _integrates(module)
        else None,
    )


def _fires(module: Any) -> Any:
    """What decides on spikes in evaluation: in version 0.0.0.0.14 IFNode and LIFNode ask no surrogate."""
    of_its_own = any(name.startswith("jit_eval_") for name in dir(type(module)))
    return (lambda over: over >= 0) if of_its_own else module.surrogate_function


def split(module: Any, result: Any) -> Outputs:
    """Separate the returned spikes from the voltage, an attribute (for all steps with ``store_v_seq``).

    Args:
        module: the neuron module.
        result: what the module returned.

    Returns:
        The output and the states.
    """
    voltage = getattr(module, "v_seq", None)
    voltage = module.v if voltage is None else voltage
    last = {} if voltage is module.v else {LAST: module.v}
    if _integrates(module):
        return Outputs(voltage, {"silence": result, **last})
    return Outputs(result, {"v": voltage, **last})


def _integrates(module: Any) -> bool:
    return bool(np.all(np.isinf(array(module.v_threshold))))


def _reset(module: Any) -> None:
    """Reset the state; a neuron that is read by its voltage keeps that of all steps, even if the model takes the last one."""
    module.reset()
    if _integrates(module) and module.step_mode == "m":
        module.store_v_seq = True


NEURONS = Neurons(
    read,
    split,
    time_axis=lambda module: 0 if module.step_mode == "m" else None,
    reset=_reset,
    integrates=_integrates,
)

MODULES = {
    "spikingjelly.activation_based.neuron": dict.fromkeys(("LIFNode", "ParametricLIFNode", "IFNode"), NEURONS)
}
"""Module that users import from → class → its record."""
