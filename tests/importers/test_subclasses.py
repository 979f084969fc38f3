"""A class of one's own that derives from a known neuron: plain ones are that neuron, others are refused by what they override."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own

N_IN, N, SAMPLES, STEPS = 16, 10, 3, 40


class Noted:
    """A second base, as projects have them for logging."""

    def note(self) -> str:
        return "noted"


def leaky():
    class Leaky(Noted, peers.package("snntorch").Leaky):
        """The options of one project."""

        kind: str = "hidden"

        def __init__(self) -> None:
            super().__init__(beta=0.9, threshold=0.7, init_hidden=True, reset_mechanism="zero")

        def extra_repr(self) -> str:
            return self.note()

    return Leaky


def synaptic():
    class Current(peers.package("snntorch").Synaptic):
        def __init__(self) -> None:
            super().__init__(alpha=0.5, beta=0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    class Deeper(Current):
        pass

    return Deeper


def lif_node():
    class Node(peers.package("spikingjelly.activation_based.neuron").LIFNode):
        def __init__(self) -> None:
            super().__init__(tau=3.0, decay_input=False)

    return Node


PLAIN = [leaky, synaptic, lif_node]


@pytest.mark.parametrize("make", PLAIN)
def test_a_class_with_options_of_its_own_is_the_neuron_it_derives_from(make, rng):
    torch.manual_seed(0)
    cls = make()
    model = nn.Sequential(peers.linear(N_IN, N, 3.0), cls(), peers.linear(N, N, 3.0), cls())
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    x = torch.from_numpy(spikes).float()
    network = from_torch(model, N_IN)
    with torch.no_grad():
        theirs = torch.stack([model(x[:, step]) for step in range(STEPS)], 1).numpy()
    ours = oracle.simulate(network, spikes).output
    assert 0.02 < ours.mean() < 0.95
    assert np.count_nonzero(ours != theirs) == 0


@pytest.mark.parametrize("integrates", [False, True])
def test_sinabs(integrates, rng):
    layers, activation = peers.package("sinabs.layers"), peers.package("sinabs.activation")

    class Neuron(layers.LIF):
        def __init__(self) -> None:
            options = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}
            super().__init__(tau_mem=10.0, norm_input=False, **options)

    class Leak(layers.ExpLeak):
        pass

    torch.manual_seed(0)
    last = Leak(tau_mem=10.0) if integrates else Neuron()
    model = nn.Sequential(peers.linear(N_IN, N, 3.0), Neuron(), peers.linear(N, N, 3.0), last)
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(model, N_IN)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float()).numpy()
    ours = oracle.simulate(network, spikes).output
    assert network.readout.of_membrane == integrates
    assert ours.std() > 0.05
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 if integrates else 0)


def test_norse(rng):
    norse = peers.package("norse.torch")

    class Cell(norse.LIFCell):
        def __init__(self) -> None:
            super().__init__(p=norse.LIFParameters(v_th=torch.as_tensor(0.3)))

    torch.manual_seed(0)
    model = norse.SequentialState(peers.linear(N_IN, N, 6.0), Cell(), peers.linear(N, N, 6.0), Cell())
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(model, N_IN)
    state, theirs = None, []
    with torch.no_grad():
        for step in torch.from_numpy(spikes).float().unbind(1):
            output, state = model(step, state)
            theirs.append(output)
    ours = oracle.simulate(network, spikes).output
    assert 0.02 < ours.mean() < 0.95
    assert np.count_nonzero(ours != torch.stack(theirs, 1).numpy()) == 0


def test_what_a_class_overrides_is_named():
    base = peers.package("snntorch").Leaky

    class Twice(base):
        def fire(self, mem):
            return (mem > 2 * self.threshold).float()

    class Aside:
        def mem_reset(self, mem):
            return torch.zeros_like(mem)

    class Mixed(Aside, base):
        pass

    for cls, name in ((Twice, "fire"), (Mixed, "mem_reset")):
        model = nn.Sequential(nn.Linear(N_IN, N), cls(beta=0.9, init_hidden=True))
        with pytest.raises(InputError, match=f"{cls.__name__} overrides {name} of snntorch.Leaky: its gt"):
            from_torch(model, N_IN)


def test_what_an_object_replaces_is_found_by_running_it():
    class Replaced(peers.package("snntorch").Leaky):
        def __init__(self) -> None:
            super().__init__(beta=0.9, init_hidden=True)
            self.fire = lambda mem: (mem > 2 * self.threshold).float()

    with pytest.raises(InputError, match="not-as-it-runs: module '1': driven with random currents"):
        from_torch(nn.Sequential(nn.Linear(N_IN, N), Replaced()), N_IN)
