"""Small models of other frameworks with their own forward passes over time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]


class Peer(NamedTuple):
    """make(n_in, n_hidden, n_out) → model; run(model, spikes (samples, steps, n_in)) → its output."""

    make: Callable[[int, int, int], nn.Module]
    run: Run


def package(name: str) -> Any:
    """Import a peer, or skip; what it warns of at import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def linear(n_in: int, n_out: int, gain: float, bias: bool = False) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.normal_(layer.weight, gain / n_in, 2 * gain / n_in**0.5)
    return layer


def two_layers(
    neuron: Callable[[int], nn.Module],
    gain: float = 1.0,
    bias: bool = False,
    last: Callable[[int], nn.Module] | None = None,
):
    def make(n_in: int, n_hidden: int, n_out: int) -> nn.Module:
        return nn.Sequential(
            linear(n_in, n_hidden, gain, bias),
            neuron(n_hidden),
            linear(n_hidden, n_out, 2 * gain, bias),
            (last or neuron)(n_out),
        )

    return make


def run_stepwise(model: nn.Module, spikes: Tensor, step: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    outputs = []
    for t in range(spikes.shape[1]):
        signal = spikes[:, t]
        for module in model:
            signal = step(module, signal)
        outputs.append(signal)
    return torch.stack(outputs, dim=1)


def run_snntorch(model: nn.Module, spikes: Tensor) -> Tensor:
    for module in model:
        if hasattr(module, "reset_mem"):
            module.reset_mem()

    def step(module: nn.Module, signal: Tensor) -> Tensor:
        out = module(signal)
        return out[-1] if isinstance(out, tuple) else out  # with output=True the voltage comes last

    return run_stepwise(model, spikes, step)


def run_norse(model: nn.Module, spikes: Tensor) -> Tensor:
    states: dict[int, Any] = {}

    def step(module: nn.Module, signal: Tensor) -> Tensor:
        if type(module).__module__.startswith("torch.nn"):
            return module(signal)
        out, states[id(module)] = module(signal, states.get(id(module)))
        return out

    return run_stepwise(model, spikes, step)


def run_spikingjelly(model: nn.Module, spikes: Tensor) -> Tensor:
    package("spikingjelly.activation_based.functional").reset_net(model)

    def step(module: nn.Module, signal: Tensor) -> Tensor:
        out = module(signal)
        return module.v if getattr(module, "v_threshold", 0) == float("inf") else out

    return run_stepwise(model, spikes, step)


def run_sinabs(model: nn.Module, spikes: Tensor) -> Tensor:
    for module in model:
        if hasattr(module, "zero_grad") and hasattr(module, "reset_states"):
            module.reset_states()
    return model(spikes)


def snntorch(kind: str, **options: Any) -> Peer:
    snn = package("snntorch")

    def neuron(n: int) -> nn.Module:
        extra = {"linear_features": n} if kind.startswith("R") else {}
        return getattr(snn, kind)(reset_mechanism="zero", init_hidden=True, **options, **extra)

    return Peer(two_layers(neuron, bias=kind == "Leaky"), run_snntorch)


def norse(kind: str, **options: Any) -> Peer:
    module = package("norse.torch")
    threshold = torch.tensor(0.1)
    if kind == "LIFBoxCell":
        p = module.LIFBoxParameters(v_th=threshold)
    elif kind == "IAFCell":
        p = module.IAFParameters(v_th=torch.tensor(1.3), v_reset=torch.tensor(-0.2))
    else:
        p = package("norse.torch.functional.lif").LIFParameters(v_th=threshold, **options)
    return Peer(two_layers(lambda n: getattr(module, kind)(p), gain=1.5), run_norse)


def norse_recurrent() -> Peer:
    module = package("norse.torch")
    p = package("norse.torch.functional.lif").LIFParameters(v_th=torch.tensor(0.1))

    def make(n_in: int, n_hidden: int, n_out: int) -> nn.Module:
        return nn.Sequential(
            module.LIFRecurrentCell(n_in, n_hidden, p), linear(n_hidden, n_out, 3.0), module.LIFCell(p)
        )

    return Peer(make, run_norse)


def spikingjelly(kind: str, **options: Any) -> Peer:
    neuron = package("spikingjelly.activation_based.neuron")
    return Peer(two_layers(lambda n: getattr(neuron, kind)(**options), gain=2.0, bias=True), run_spikingjelly)


def sinabs(kind: str, **options: Any) -> Peer:
    layers, activation = package("sinabs.layers"), package("sinabs.activation")
    hard = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}
    return Peer(two_layers(lambda n: getattr(layers, kind)(**hard, **options)), run_sinabs)


def sinabs_recurrent() -> Peer:
    layers, activation = package("sinabs.layers"), package("sinabs.activation")

    def neuron(n: int) -> nn.Module:
        return layers.LIFRecurrent(
            tau_mem=torch.linspace(5.0, 20.0, 3).repeat(n)[:n] if n > 10 else 10.0,
            tau_syn=4.0,
            rec_connect=linear(n, n, 0.5),
            spike_fn=activation.SingleSpike,
            reset_fn=activation.MembraneReset(),
        )

    return Peer(two_layers(neuron, gain=2.5), run_sinabs)


def decays_per_neuron(framework: str) -> Peer:
    """A hidden layer whose neurons have one of three time constants, in turn."""
    snn, module = package("snntorch"), package("norse.torch")
    parameters = package("norse.torch.functional.lif").LIFParameters

    def in_turn(n: int, *values: float) -> Tensor:
        return torch.tensor(values).repeat(n)[:n] if n > 10 else torch.tensor(values[0])

    if framework == "snntorch":
        return Peer(
            two_layers(
                lambda n: snn.RLeaky(
                    beta=in_turn(n, 0.9, 0.5, 0.8),
                    reset_mechanism="zero",
                    init_hidden=True,
                    linear_features=n,
                )
            ),
            run_snntorch,
        )

    def cell(n: int) -> nn.Module:
        return module.LIFCell(parameters(tau_mem_inv=in_turn(n, 100.0, 50.0, 200.0), v_th=torch.tensor(0.1)))

    return Peer(two_layers(cell, gain=1.5), run_norse)


def read_by_voltage(framework: str, kind: str = "") -> Peer:
    """A spiking hidden layer, and an output that only integrates."""
    if framework == "snntorch":
        snn = package("snntorch")
        hidden = {"beta": 0.9, "reset_mechanism": "zero", "init_hidden": True}
        last = {"reset_mechanism": "none", "init_hidden": True, "output": True}
        readout = (
            (lambda n: snn.Leaky(beta=0.8, **last))
            if kind == "Leaky"
            else (lambda n: snn.Synaptic(alpha=0.7, beta=0.8, **last))
        )
        return Peer(two_layers(lambda n: snn.Leaky(**hidden), bias=True, last=readout), run_snntorch)
    if framework == "norse":
        module = package("norse.torch")
        p = package("norse.torch.functional.lif").LIFParameters(v_th=torch.tensor(0.1))
        box = module.LIFBoxParameters(v_th=torch.tensor(0.1))
        hidden = (lambda n: module.LIFBoxCell(box)) if "Box" in kind else (lambda n: module.LIFCell(p))
        return Peer(two_layers(hidden, gain=1.5, last=lambda n: getattr(module, kind)()), run_norse)
    if framework == "spikingjelly":
        neuron = package("spikingjelly.activation_based.neuron")
        return Peer(
            two_layers(
                lambda n: neuron.LIFNode(tau=3.0),
                gain=2.0,
                bias=True,
                last=lambda n: neuron.LIFNode(tau=4.0, v_threshold=float("inf")),
            ),
            run_spikingjelly,
        )
    layers, activation = package("sinabs.layers"), package("sinabs.activation")
    hard = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}
    return Peer(
        two_layers(
            lambda n: layers.LIF(tau_mem=10.0, norm_input=False, **hard),
            last=lambda n: layers.ExpLeak(tau_mem=10.0),
        ),
        run_sinabs,
    )


PEERS: dict[str, Callable[[], Peer]] = {
    "snntorch Leaky": lambda: snntorch("Leaky", beta=0.9),
    "snntorch Synaptic": lambda: snntorch("Synaptic", alpha=0.7, beta=0.9),
    "snntorch Synaptic, reset at once": lambda: snntorch("Synaptic", alpha=0.7, beta=0.9, reset_delay=False),
    "snntorch RLeaky": lambda: snntorch("RLeaky", beta=0.9),
    "snntorch RLeaky, reset at once": lambda: snntorch("RLeaky", beta=0.9, reset_delay=False),
    "snntorch RSynaptic": lambda: snntorch("RSynaptic", alpha=0.7, beta=0.9),
    "norse LIFCell": lambda: norse("LIFCell"),
    "norse LIFBoxCell": lambda: norse("LIFBoxCell"),
    "norse LIFRecurrentCell": norse_recurrent,
    "norse IAFCell": lambda: norse("IAFCell"),
    "spikingjelly LIFNode": lambda: spikingjelly("LIFNode", tau=3.0),
    "spikingjelly LIFNode, full input": lambda: spikingjelly("LIFNode", tau=3.0, decay_input=False),
    "spikingjelly ParametricLIFNode": lambda: spikingjelly("ParametricLIFNode", init_tau=2.5),
    "spikingjelly IFNode": lambda: spikingjelly("IFNode"),
    "sinabs LIF": lambda: sinabs("LIF", tau_mem=10.0, norm_input=False),
    "sinabs LIF, with synapse": lambda: sinabs("LIF", tau_mem=10.0, tau_syn=4.0, norm_input=False),
    "sinabs IAF": lambda: sinabs("IAF"),
    "sinabs LIFRecurrent, decays per neuron": sinabs_recurrent,
    "snntorch RLeaky, decays per neuron": lambda: decays_per_neuron("snntorch"),
    "norse LIFCell, decays per neuron": lambda: decays_per_neuron("norse"),
}
"""Name → maker, which skips if the package is absent."""

TRAINED = ("snntorch Leaky", "snntorch Synaptic", "norse LIFCell", "spikingjelly LIFNode", "sinabs LIF")
"""One or two of each framework, which the tests also train."""

READ_BY_VOLTAGE: dict[str, Callable[[], Peer]] = {
    "snntorch Leaky, voltage": lambda: read_by_voltage("snntorch", "Leaky"),
    "snntorch Synaptic, voltage": lambda: read_by_voltage("snntorch", "Synaptic"),
    "norse LICell": lambda: read_by_voltage("norse", "LICell"),
    "norse LIBoxCell": lambda: read_by_voltage("norse", "LIBoxCell"),
    "spikingjelly LIFNode, voltage": lambda: read_by_voltage("spikingjelly"),
    "sinabs ExpLeak": lambda: read_by_voltage("sinabs"),
}
"""Name of the output layer → maker of a model whose output is its voltage."""
