"""norse's neurons: cells and layers over time, with and without recurrence. Source: norse 1.1.0.

    LIF           i ← i + input,  v ← v + dt/τ_mem (v_leak − v + i),  then i ← i − dt/τ_syn i;  spike where v > v_th
    LIFBoxCell    v ← v + dt/τ_mem (v_leak − v + input)
    LI, LIBoxCell the same without a threshold
    IAF           v ← v + input;  spike where v > v_th

A spike sets v to ``v_reset``, and v starts at ``v_leak`` (an IAF's at ``v_reset``): where they are equal, the voltage is measured from there.
The caller passes the state; ``Cell`` classes take one step, the others all steps, time first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lbi.importers.signal import Signal
from lbi.importers.torch.layer import Layer, Neurons, Outputs, array, check_rest


def read(module: Any, signal: Signal, layer: Layer) -> None:
    """Add the population of a LIF or LI.

    Args:
        module: the neuron module.
        signal: its input.
        layer: receives the population.
    """
    beta = _voltage_decay(module, layer)
    layer.neurons(
        _input(module, signal, layer).scaled(beta),
        current_decay=float(module.dt) * array(module.p.tau_syn_inv),
        voltage_decay=beta,
        threshold=_threshold(module),
    )


def read_box(module: Any, signal: Signal, layer: Layer) -> None:
    """Add the population of a LIFBoxCell or LIBoxCell, whose current has no memory.

    Args:
        module: the neuron module.
        signal: its input.
        layer: receives the population.
    """
    beta, threshold = _voltage_decay(module, layer), _threshold(module)
    layer.neurons(
        signal.scaled(beta),
        current_decay=1.0,
        voltage_decay=beta,
        threshold=threshold,
        subtracted=(1.0 - beta) * threshold if _subtracts(module) else None,
    )


def read_iaf(module: Any, signal: Signal, layer: Layer) -> None:
    """Add the population of an IAF, which has no leak: its voltage is measured from ``v_reset``.

    Args:
        module: the neuron module.
        signal: its input.
        layer: receives the population.
    """
    threshold = array(module.p.v_th) - array(module.p.v_reset)
    layer.neurons(signal, current_decay=1.0, voltage_decay=0.0, threshold=threshold)


def split(_module: Any, result: Any) -> Outputs:
    """(output, state): the output is spikes, or the voltage of an integrator.

    Args:
        result: what the module returned.

    Returns:
        The output and the state.
    """
    output, state = result
    return Outputs(output, {name: value for name, value in state._asdict().items() if name != "z"})


def _voltage_decay(module: Any, layer: Layer) -> Any:
    rests = {"v_leak": array(module.p.v_leak)}
    if hasattr(module.p, "v_reset") and not _subtracts(module):
        rests["v_reset"] = array(module.p.v_reset)
    if len(rests) == 1 or np.any(rests["v_leak"] != rests["v_reset"]):
        check_rest(layer, **rests)
    return float(module.dt) * array(module.p.tau_mem_inv)


def _threshold(module: Any) -> Any:
    """The threshold above the voltage at rest."""
    return array(getattr(module.p, "v_th", np.inf)) - array(module.p.v_leak)


def _subtracts(module: Any) -> bool:
    return getattr(getattr(module.p, "reset_method", None), "__name__", "") == "reset_subtract"


def _input(module: Any, signal: Signal, layer: Layer) -> Signal:
    """The input of the current: recurrent cells have their own input and recurrent weights."""
    if not hasattr(module, "recurrent_weights"):
        return signal
    forward = signal.linear(array(module.input_weights))
    return forward + layer.own_spikes().linear(array(module.recurrent_weights))


def _neurons(cell: bool, integrates: bool, reader: Callable[[Any, Signal, Layer], None] = read) -> Neurons:
    return Neurons(
        reader,
        split,
        time_axis=lambda module: None if cell else 0,
        reset=lambda module: None,
        keeps_state=False,
        integrates=lambda module: integrates,
    )


CLASSES = {
    "LIFCell": _neurons(cell=True, integrates=False),
    "LIF": _neurons(cell=False, integrates=False),
    "LIFRecurrentCell": _neurons(cell=True, integrates=False),
    "LIFRecurrent": _neurons(cell=False, integrates=False),
    "LIFBoxCell": _neurons(cell=True, integrates=False, reader=read_box),
    "IAFCell": _neurons(cell=True, integrates=False, reader=read_iaf),
    "IAF": _neurons(cell=False, integrates=False, reader=read_iaf),
    "LICell": _neurons(cell=True, integrates=True),
    "LI": _neurons(cell=False, integrates=True),
    "LIBoxCell": _neurons(cell=True, integrates=True, reader=read_box),
}

MODULES = {"norse.torch": CLASSES}
"""Module that users import from → class → its record."""
