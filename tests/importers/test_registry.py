"""Every neuron class of the registry, built and run by its own framework, equals the network that is read from it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.importers import from_torch
from lbi.importers.torch import registry
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N, SAMPLES, STEPS = 12, 6, 3, 40

ROWS = {f"{module}.{name}": (module, name, neurons) for _, module, name, neurons in registry.rows()}


def arguments() -> dict:
    """Constructor arguments by their name, for those whose default is missing or is refused."""
    activation = peers.package("sinabs.activation")
    return {
        "alpha": 0.7,
        "beta": 0.9,
        "reset_mechanism": "zero",
        "init_hidden": True,
        "linear_features": N,
        "input_size": N,
        "hidden_size": N,
        "tau_mem": 10.0,
        "rec_connect": peers.linear(N, N, 0.5),
        "spike_fn": activation.SingleSpike,
        "reset_fn": activation.MembraneReset(),
        "batch_size": SAMPLES,
    }


def build(module: str, name: str) -> nn.Module:
    cls = getattr(peers.package(module), name)
    taken = set()
    for base in cls.__mro__:  # a class may pass its options on by **kwargs
        signature = inspect.signature(base.__init__).parameters
        taken |= set(signature)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values()):
            break
    return cls(**{key: value for key, value in arguments().items() if key in taken})


def own_output(layer: nn.Module, neuron: nn.Module, neurons, spikes: torch.Tensor) -> np.ndarray:
    """The output (samples, steps, n) of the framework's own calls."""
    axis, state, found = neurons.time_axis(neuron), None, []
    current = layer(spikes)
    if axis is not None:
        given = {0: current.transpose(0, 1), 1: current, -1: current.flatten(0, 1)}[axis]
        out = neuron(given)
        out = out[0] if isinstance(out, tuple) else out
        return (out.transpose(0, 1) if axis == 0 else out).reshape(SAMPLES, STEPS, N).numpy()
    for step in current.unbind(1):
        if neurons.keeps_state:
            out = neuron(step)
        else:
            out, state = neuron(step, state)
        found.append(out)
    return torch.stack(found, 1).numpy()


@pytest.mark.parametrize("name", ROWS)
def test_every_listed_class_equals_its_framework(name, rng):
    module, kind, neurons = ROWS[name]
    torch.manual_seed(1)
    layer, neuron = peers.linear(N_IN, N, 8.0), build(module, kind)
    assert registry.neurons_of(neuron) is neurons
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        theirs = own_output(layer, neuron, neurons, torch.from_numpy(spikes).float())
    chain = nn.Sequential
    if not neurons.keeps_state and neurons.time_axis(neuron) is None:  # torch's own would drop its state
        chain = peers.package("norse.torch").SequentialState
    network = from_torch(chain(layer, neuron), (N_IN,))
    ours = oracle.simulate(network, spikes).output
    assert np.ptp(theirs) > 0, "the neurons must be active for the comparison to say something"
    if neurons.integrates(neuron):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    else:
        assert np.array_equal(ours, theirs)
