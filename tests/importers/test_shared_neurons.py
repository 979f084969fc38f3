"""One neuron module with several states, and states that the framework resets for all its modules at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own


class Shared(nn.Module):
    """Two layers with one neuron module, whose two states the forward holds."""

    def __init__(self, neuron, n_out, zeros):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = peers.linear(12, 8, 3.0), peers.linear(8, n_out, 4.0)
        self.lif, self.zeros = neuron, zeros

    def forward(self, x):
        first, second = self.zeros(self.lif, 8), self.zeros(self.lif, self.b.out_features)
        out = []
        for current in x:
            spikes, *first = self.lif(self.a(current), *first)
            spikes, *second = self.lif(self.b(spikes), *second)
            out.append(spikes)
        return torch.stack(out)


def leaky():
    return peers.package("snntorch").Leaky(beta=0.8, reset_mechanism="zero")


def synaptic():
    snn = peers.package("snntorch")
    return snn.Synaptic(alpha=0.6, beta=0.8, reset_mechanism="zero", reset_delay=False)


KINDS = {
    "initial states": (leaky, lambda lif, n: [lif.init_leaky()]),
    "initial states of a Synaptic": (synaptic, lambda lif, n: list(lif.init_synaptic())),
    "zeros": (leaky, lambda lif, n: [torch.zeros(1, n)]),
}


@pytest.mark.parametrize("n_out", [5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_each_state_of_one_module_is_a_population(kind, n_out, rng):
    neuron, zeros = KINDS[kind]
    network = from_torch(Shared(neuron(), n_out, zeros), (12,))
    spikes = (rng.random((3, 30, 12)) < 0.4).astype(np.uint8)
    x = torch.from_numpy(spikes).float()
    with torch.no_grad():
        theirs = torch.stack([Shared(neuron(), n_out, zeros)(sample[:, None])[:, 0] for sample in x])
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(ours, theirs.numpy())


class Resetting(nn.Module):
    """Neurons that hold their state, which ``forward`` resets with snnTorch's function."""

    def __init__(self, order, at=0):
        super().__init__()
        torch.manual_seed(0)
        snn = peers.package("snntorch")
        self.fc, self.order, self.at = peers.linear(12, 5, 4.0), order, at
        self.lif = snn.Leaky(beta=0.9, reset_mechanism="zero", init_hidden=True)
        self.reset = peers.package("snntorch.utils").reset

    def forward(self, x):
        out = []
        for step, current in enumerate(self.order(x)):
            if step == self.at:
                self.reset(self)
            out.append(self.lif(self.fc(current)))
        return torch.stack(out)


def test_a_reset_before_the_first_step_is_imported(rng):
    network, model = from_torch(Resetting(list), (12,)), Resetting(list)
    spikes = (rng.random((3, 30, 12)) < 0.4).astype(np.uint8)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.02 < theirs.mean() < 0.98
    assert np.array_equal(oracle.simulate(network, spikes).output_spikes, theirs)


@pytest.mark.parametrize("at", [3, 10])
def test_a_reset_within_a_sample_is_refused(at):
    with pytest.raises(InputError, match=r"not-as-it-runs.*reset their states between samples only"):
        from_torch(Resetting(list, at), (12,))


ORDERS = {
    "from the end": lambda x: x.flip(0),
    "every second": lambda x: x[::2],
    "the last one first": lambda x: x.roll(1, 0),
    "twice": lambda x: torch.cat([x, x]),
}


@pytest.mark.parametrize("at", [0, None], ids=["reset in forward", "reset outside"])
@pytest.mark.parametrize("order", ORDERS)
def test_another_order_of_steps_is_refused(order, at):
    """A sample of one step has no order: called once per step, the loop would seem to be another network."""
    with pytest.raises(InputError, match=r"^call: "):
        from_torch(Resetting(ORDERS[order], at), (12,))


def test_the_import_resets_no_other_neurons():
    snn = peers.package("snntorch")
    other = snn.Leaky(beta=0.9, init_hidden=True)
    other(torch.ones(1, 4))
    before, listed = other.mem, list(snn.Leaky.instances)
    from_torch(model := Resetting(list), (12,))
    assert other.mem is before
    assert [*listed, model.lif] == list(snn.Leaky.instances)
