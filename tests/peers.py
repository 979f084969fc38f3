"""Small models of other frameworks: how each is built, and how its own forward pass runs over time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]


class Peer(NamedTuple):
    """make(n_in, n_hidden, n_out) → model; run(model, spikes (samples, steps, n_in)) → output spikes."""

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


def two_layers(neuron: Callable[[int], nn.Module], gain: float = 1.0, bias: bool = False):
    def make(n_in: int, n_hidden: int, n_out: int) -> nn.Module:
        return nn.Sequential(
            linear(n_in, n_hidden, gain, bias), neuron(n_hidden), linear(n_hidden, n_out, 2 * gain, bias), neuron(n_out)
        )  # fmt: skip

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
    return run_stepwise(model, spikes, lambda module, signal: module(signal))


def run_norse(model: nn.Module, spikes: Tensor) -> Tensor:
    states: dict[int, Any] = {}

    def step(module: nn.Module, signal: Tensor) -> Tensor:
        if isinstance(module, nn.Linear):
            return module(signal)
        out, states[id(module)] = module(signal, states.get(id(module)))
        return out

    return run_stepwise(model, spikes, step)


def run_spikingjelly(model: nn.Module, spikes: Tensor) -> Tensor:
    package("spikingjelly.activation_based.functional").reset_net(model)
    return run_stepwise(model, spikes, lambda module, signal: module(signal))


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


PEERS: dict[str, Callable[[], Peer]] = {
    "snntorch Leaky": lambda: snntorch("Leaky", beta=0.9),
    "snntorch Synaptic": lambda: snntorch("Synaptic", alpha=0.7, beta=0.9),
    "snntorch Synaptic, reset at once": lambda: snntorch("Synaptic", alpha=0.7, beta=0.9, reset_delay=False),
    "snntorch RLeaky": lambda: snntorch("RLeaky", beta=0.9),
    "snntorch RSynaptic": lambda: snntorch("RSynaptic", alpha=0.7, beta=0.9),
    "norse LIFCell": lambda: norse("LIFCell"),
    "norse LIFBoxCell": lambda: norse("LIFBoxCell"),
    "norse LIFRecurrentCell": norse_recurrent,
    "spikingjelly LIFNode": lambda: spikingjelly("LIFNode", tau=3.0),
    "spikingjelly LIFNode, full input": lambda: spikingjelly("LIFNode", tau=3.0, decay_input=False),
    "spikingjelly ParametricLIFNode": lambda: spikingjelly("ParametricLIFNode", init_tau=2.5),
    "spikingjelly IFNode": lambda: spikingjelly("IFNode"),
    "sinabs LIF": lambda: sinabs("LIF", tau_mem=10.0, norm_input=False),
    "sinabs LIF, with synapse": lambda: sinabs("LIF", tau_mem=10.0, tau_syn=4.0, norm_input=False),
    "sinabs IAF": lambda: sinabs("IAF"),
}
"""Name → maker, which skips if the package is absent."""

TRAINED = ("snntorch Leaky", "snntorch Synaptic", "norse LIFCell", "spikingjelly LIFNode", "sinabs LIF")
"""One or two of each framework, which the tests also train."""
