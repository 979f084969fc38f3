"""The neurons of other frameworks: what each is in our equations, and how to drive a copy of it.

Ours: ``u ← (1 − current_decay) u + input``, ``v ← (1 − voltage_decay) v + u + bias``, a spike where v exceeds the
threshold, then v ← 0. A threshold that is infinite makes an integrator, which ends a model: its voltage is read. Read from snnTorch 1.0.0, norse 1.1.0, spikingjelly 0.0.0.0.14 and sinabs 3.1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lbi.errors import InputError, Problem, Problems
from lbi.importers.signal import Signal

if TYPE_CHECKING:
    from lbi.importers.torch.modules import Layer

Reader = Callable[[Any, Signal, "Layer"], Signal]
"""function of (module, what flows in, where it stands) that adds the population and gives its spikes"""

Driver = Callable[[Any, Tensor], Tensor]
"""function of (copy of the module in float64, input (samples, steps, …)) → its spikes (an integrator's voltages)"""

SOFT_RESET = "train with a hard reset: the chip subtracts a threshold only at the cost of a second neuron"


SNNTORCH_RESETS = ("subtract", "zero", "none")
"""Its ``reset_mechanism`` by number."""


def _snntorch(module: Any, signal: Signal, layer: Layer) -> Signal:
    """Leaky, Synaptic, and their recurrent forms RLeaky and RSynaptic."""
    problems = Problems()
    reset = _snntorch_reset(module)
    problems.check(
        reset == module.reset_mechanism,
        "reset-mechanism",
        layer.where,
        f"built with {module.reset_mechanism!r}",
        f"{reset!r}, as its state says",
        "build it as it was trained",
    )
    integrates = _snntorch_integrates(module)
    problems.check(
        reset == "zero" or integrates,
        "soft-reset",
        layer.where,
        f"reset_mechanism {reset!r}",
        "'zero'; 'none' with output=True in the last layer, whose voltage is read",
        SOFT_RESET,
    )
    problems.check(
        not module.inhibition, "inhibition", layer.where, "lateral inhibition", "none", "train without it"
    )
    problems.check(
        not module.state_quant,
        "state-quant",
        layer.where,
        "quantized states",
        "none",
        "train without it: lbi-export quantizes",
    )
    synaptic = hasattr(module, "alpha")
    recurrent = hasattr(module, "recurrent")
    # With its default reset_delay, all but Leaky zero the voltage a step late: that step's input is lost.
    late = bool(module.reset_delay) and (synaptic or recurrent) and not integrates
    if recurrent:
        problems.check(
            bool(module.reset_delay),
            "reset-delay",
            layer.where,
            "a recurrent neuron with reset_delay=False",
            "True: snnTorch 1.0.0 computes the other one wrongly",
            "build it with reset_delay=True",
        )
    problems.raise_as(InputError)
    if recurrent:
        signal = signal + _snntorch_feedback(module, signal, layer)
    spikes = layer.neurons(
        signal,
        current_decay=1.0 - np.clip(_array(module.alpha), 0, 1) if synaptic else 1.0,
        voltage_decay=1.0 - np.clip(_array(module.beta), 0, 1),
        threshold=np.inf if integrates else _array(module.threshold),
        refractory_period=1 if late else 0,
    )
    factor = _array(module.graded_spikes_factor)
    return spikes if np.all(factor == 1) else spikes.scaled(factor)


def _snntorch_reset(module: Any) -> str:
    """The name of its reset mechanism, whose number stands in a saved state."""
    number = int(module.reset_mechanism_val)
    return SNNTORCH_RESETS[number] if number in range(len(SNNTORCH_RESETS)) else f"number {number}"


def _snntorch_integrates(module: Any) -> bool:
    """True if it hands out its voltage, which its spikes do not change."""
    return _snntorch_reset(module) == "none" and bool(module.output)


def _snntorch_feedback(module: Any, signal: Signal, layer: Layer) -> Signal:
    from lbi.importers.torch.modules import weight_of

    spikes = layer.own_spikes(signal.shape)
    inner = module.recurrent
    if isinstance(inner, nn.Linear):
        bias = None if inner.bias is None else _array(inner.bias)
        return spikes.linear(weight_of(inner), bias, signal.shape)
    if hasattr(inner, "V"):
        return spikes.scaled(_array(inner.V))
    raise InputError(
        Problem("recurrence", layer.where, f"recurrent {type(inner).__name__}", "Linear, one-to-one")
    )


def _norse(module: Any, signal: Signal, layer: Layer) -> Signal:
    """LIFCell and LIF: i ← i + input, v ← v + dt/τ_mem (v_leak − v + i), then i ← i − dt/τ_syn i.

    LICell and LI are the same without a threshold.
    """
    p, dt = module.p, float(module.dt)
    _check_rest(layer, v_leak=p.v_leak, v_reset=getattr(p, "v_reset", 0.0))
    signal = _norse_input(module, signal, layer)
    beta = dt * _array(p.tau_mem_inv)
    return layer.neurons(
        signal.scaled(beta),
        current_decay=dt * _array(p.tau_syn_inv),
        voltage_decay=beta,
        threshold=_array(getattr(p, "v_th", np.inf)),
    )


def _norse_input(module: Any, signal: Signal, layer: Layer) -> Signal:
    """Recurrent cells bring their own input weights and the recurrence."""
    if not hasattr(module, "recurrent_weights"):
        return signal
    recurrent = _array(module.recurrent_weights)
    if not getattr(module, "autapses", False):
        recurrent = recurrent * (1 - np.eye(recurrent.shape[0]))
    forward = signal.linear(_array(module.input_weights))
    return forward + layer.own_spikes(forward.shape).linear(recurrent)


def _norse_box(module: Any, signal: Signal, layer: Layer) -> Signal:
    """LIFBoxCell and LIFBox, and without a threshold LIBoxCell and LIBox: v ← v + dt/τ_mem (v_leak − v + input)."""
    p, dt = module.p, float(module.dt)
    _check_rest(layer, v_leak=p.v_leak, v_reset=getattr(p, "v_reset", 0.0))
    beta = dt * _array(p.tau_mem_inv)
    return layer.neurons(
        signal.scaled(beta),
        current_decay=1.0,
        voltage_decay=beta,
        threshold=_array(getattr(p, "v_th", np.inf)),
    )


def _spikingjelly(module: Any, signal: Signal, layer: Layer) -> Signal:
    """LIFNode, ParametricLIFNode, IFNode: a spike at v ≥ threshold, that is above the number before it."""
    if module.v_reset is None:
        raise InputError(Problem("soft-reset", layer.where, "v_reset=None", "v_reset=0.0", SOFT_RESET))
    _check_rest(layer, v_reset=module.v_reset)
    decay = 0.0
    if hasattr(module, "w"):  # ParametricLIFNode
        decay = float(torch.sigmoid(module.w))
    elif hasattr(module, "tau"):
        decay = 1.0 / float(module.tau)
    if decay and module.decay_input:
        signal = signal.scaled(decay)
    return layer.neurons(
        signal, current_decay=1.0, voltage_decay=decay, threshold=_at_least(module.v_threshold)
    )


def _sinabs(module: Any, signal: Signal, layer: Layer) -> Signal:
    """LIF and IAF with SingleSpike and MembraneReset: decays exp(−1/τ), input also decays with τ_syn."""
    problems, where = Problems(), layer.where
    spike, reset = getattr(module.spike_fn, "__name__", repr(module.spike_fn)), type(module.reset_fn).__name__
    problems.check(
        spike == "SingleSpike",
        "several-spikes",
        where,
        f"spike_fn {spike}",
        "SingleSpike",
        "train with one spike per step: the chip sends no more",
    )
    problems.check(
        reset == "MembraneReset" and getattr(module.reset_fn, "reset_value", 1) == 0,
        "soft-reset",
        where,
        f"reset_fn {module.reset_fn}",
        "MembraneReset(0.0)",
        SOFT_RESET,
    )
    return _sinabs_membrane(module, signal, layer, _at_least(module.spike_threshold), problems)


def _sinabs_leak(module: Any, signal: Signal, layer: Layer) -> Signal:
    """ExpLeak: a LIF without threshold."""
    return _sinabs_membrane(module, signal, layer, np.inf, Problems())


def _sinabs_membrane(module: Any, signal: Signal, layer: Layer, threshold: Any, problems: Problems) -> Signal:
    problems.check(
        module.min_v_mem is None,
        "voltage-floor",
        layer.where,
        f"min_v_mem {module.min_v_mem}",
        "None",
        "train without a lower bound",
    )
    feedback = getattr(module, "rec_connect", None)
    if feedback is not None:
        problems.check(
            isinstance(feedback, nn.Linear) and feedback.bias is None,
            "recurrence",
            layer.where,
            f"rec_connect {feedback}",
            "nn.Linear without bias, which would enter from the second step on",
            "build it with bias=False",
        )
    problems.raise_as(InputError)
    if feedback is not None:
        from lbi.importers.torch.modules import weight_of

        signal = signal + layer.own_spikes(signal.shape).linear(weight_of(feedback), shape=signal.shape)
    mem = getattr(module, "alpha_mem_calculated", None)
    alpha_mem = np.ones(1) if mem is None else _array(mem)
    syn = getattr(module, "alpha_syn_calculated", None)
    if syn is not None:
        signal = signal.scaled(_array(syn))
    if mem is not None and module.norm_input:
        signal = signal.scaled(1.0 - alpha_mem)
    return layer.neurons(
        signal,
        current_decay=1.0 if syn is None else 1.0 - _array(syn),
        voltage_decay=1.0 - alpha_mem,
        threshold=threshold,
    )


READERS: dict[tuple[str, str], Reader] = {
    ("snntorch", "Leaky"): _snntorch,
    ("snntorch", "Synaptic"): _snntorch,
    ("snntorch", "RLeaky"): _snntorch,
    ("snntorch", "RSynaptic"): _snntorch,
    ("norse", "LIFBoxCell"): _norse_box,
    ("norse", "LIFBox"): _norse_box,
    ("norse", "LIFCell"): _norse,
    ("norse", "LIF"): _norse,
    ("norse", "LIFRecurrentCell"): _norse,
    ("norse", "LIFRecurrent"): _norse,
    ("spikingjelly", "LIFNode"): _spikingjelly,
    ("spikingjelly", "ParametricLIFNode"): _spikingjelly,
    ("spikingjelly", "IFNode"): _spikingjelly,
    ("norse", "LICell"): _norse,
    ("norse", "LI"): _norse,
    ("norse", "LIBoxCell"): _norse_box,
    ("norse", "LIBox"): _norse_box,
    ("sinabs", "ExpLeak"): _sinabs_leak,  # before LIF, which it derives from
    ("sinabs", "LIF"): _sinabs,
    ("sinabs", "IAF"): _sinabs,
}
"""(package, class) → reader."""


def _drive_snntorch(module: Any, currents: Tensor) -> Tensor:
    module.init_hidden = False
    for state in ("spk", "syn", "mem"):
        if hasattr(module, state):
            setattr(module, state, torch.zeros_like(currents[:, 0]))
    spikes = []
    for step in range(currents.shape[1]):
        out = module(currents[:, step])
        spikes.append(out[-1 if _snntorch_integrates(module) else 0])
        if hasattr(module, "spk"):
            module.spk = module.spk.to(currents.dtype)  # its surrogate gives float32
    outputs = torch.stack(spikes, dim=1)
    return outputs if _snntorch_integrates(module) else outputs / module.graded_spikes_factor


def _drive_norse(module: Any, currents: Tensor) -> Tensor:
    steps_first = currents.transpose(0, 1)
    if "Cell" not in type(module).__name__:
        return module(steps_first)[0].transpose(0, 1)
    spikes, state = [], None
    for current in steps_first:
        out, state = module(current, state)
        spikes.append(out)
    return torch.stack(spikes, dim=1)


def _drive_spikingjelly(module: Any, currents: Tensor) -> Tensor:
    module.reset()
    module.step_mode = "s"
    spikes, voltages = [], []
    for step in range(currents.shape[1]):
        spikes.append(module(currents[:, step]))
        voltages.append(module.v)
    return torch.stack(voltages if np.isinf(module.v_threshold) else spikes, dim=1)


def _drive_sinabs(module: Any, currents: Tensor) -> Tensor:
    module.reset_states()
    if hasattr(module, "rec_connect"):  # its surrogate gives float32
        module.rec_connect.register_forward_pre_hook(lambda _module, spikes: (spikes[0].to(currents.dtype),))
    for name, state in list(module.named_buffers()):
        setattr(module, name, torch.zeros((currents.shape[0], *currents.shape[2:]), dtype=state.dtype))
    if hasattr(module, "batch_size"):  # the Squeeze forms take (samples · steps, …)
        module.batch_size, module.num_timesteps = currents.shape[0], -1
        return module(currents.flatten(0, 1)).reshape(currents.shape)
    return module(currents)


DRIVERS: dict[str, Driver] = {
    "snntorch": _drive_snntorch,
    "norse": _drive_norse,
    "spikingjelly": _drive_spikingjelly,
    "sinabs": _drive_sinabs,
}
"""Package → driver."""


def _check_rest(layer: Layer, **voltages: Any) -> None:
    """The chip's neuron rests at 0 and is reset to 0."""
    problems = Problems()
    for name, value in voltages.items():
        values = _array(value)
        problems.check(
            not np.any(values),
            "rest-value",
            layer.where,
            f"{name} {values.min():g} to {values.max():g}",
            "0",
            "train with voltages measured from rest",
        )
    problems.raise_as(InputError)


def _at_least(threshold: Any) -> NDArray[np.float64]:
    """The float32 just below: v > this is v ≥ threshold, for any float32 v."""
    values = np.asarray(_array(threshold), dtype=np.float32)
    return np.where(np.isinf(values), values, np.nextafter(values, np.float32(0))).astype(np.float64)


def _array(values: Any) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
