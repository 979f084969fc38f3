"""Models whose Python code takes numbers of spikes: read if these are only counted, refused if anything depends on them."""

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


class Net(nn.Module):
    """Two layers over time, with ``between`` applied to the spikes of the first and the model."""

    def __init__(self, between):
        super().__init__()
        snn = peers.package("snntorch")
        torch.manual_seed(0)
        self.fc1, self.fc2 = peers.linear(12, 8, 4.0), peers.linear(8, 5, 4.0)
        self.l1, self.l2 = (snn.Leaky(beta=0.8, reset_mechanism="zero") for _ in "12")
        self.between, self.rates = between, []

    def forward(self, x):
        mem1, mem2, out = self.l1.init_leaky(), self.l2.init_leaky(), []
        for step in x:
            spikes, mem1 = self.l1(self.fc1(step), mem1)
            spikes, mem2 = self.l2(self.fc2(self.between(self, spikes)), mem2)
            out.append(spikes)
        return torch.stack(out), torch.tensor(self.rates)


def counted(net, spikes):
    net.rates.append(spikes.mean().item())
    return spikes


def warned(net, spikes):
    if float(spikes.sum()) < 0:
        net.alarm = True
    return spikes


@pytest.mark.parametrize("between", [counted, warned])
def test_numbers_that_are_only_counted_change_nothing(between, rng):
    model = Net(between)
    network = from_torch(model, (12,))
    spikes = (rng.random((3, 40, 12)) < 0.4).astype(np.uint8)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1))[0].transpose(0, 1).numpy()
    assert 0.05 < theirs.mean() < 0.9
    assert np.array_equal(oracle.simulate(network, spikes).output, theirs)


def above(net, spikes):
    return spikes * 0 if spikes.sum().item() > 7.5 else spikes


def scaled(net, spikes):
    return spikes * spikes.mean().item()


def odd(net, spikes):
    return spikes * 2 if int(spikes.sum()) % 2 else spikes


def later(net, spikes):
    net.rates.append(spikes.sum().item())
    return spikes * 0 if len(net.rates) > 1 and net.rates[-1] > net.rates[-2] + 7 else spikes


@pytest.mark.parametrize("between", [above, scaled, odd, later])
def test_numbers_that_something_depends_on_are_refused(between):
    with pytest.raises(
        InputError, match=r"item of spikes or currents cannot be followed.* fix: take numbers"
    ):
        from_torch(Net(between), (12,))


class Tutorial(nn.Module):
    """The network of lava-dl's tutorials, which returns the rates of its layers, too."""

    def __init__(self, counts):
        super().__init__()
        cuba = peers.package("lava.lib.dl.slayer").block.cuba
        neuron = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.05, "requires_grad": False}
        torch.manual_seed(1)
        self.blocks = nn.ModuleList(
            [cuba.Dense(neuron, 12, 16, weight_scale=4), cuba.Dense(neuron, 16, 5, weight_scale=4)]
        )
        self.counts = counts

    def forward(self, spike):
        count = []
        for block in self.blocks:
            spike = block(spike)
            if self.counts:
                count.append(torch.mean(spike).item())
            if self.counts == "stops" and count[-1] > 0.99:
                spike = spike * 0
        return spike, torch.FloatTensor(count).reshape((1, -1)).to(spike.device)


@pytest.mark.lava
def test_the_tutorials_of_slayer_count_their_spikes(rng):
    fixed, plain = (from_torch(Tutorial(counts), (12,)) for counts in ("counts", ""))
    spikes = (rng.random((3, 60, 12)) < 0.3).astype(np.uint8)
    model = Tutorial("")
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().permute(0, 2, 1))[0].permute(0, 2, 1).numpy()
    ours = oracle.simulate(fixed, spikes).output_spikes
    assert 0.01 < ours.mean() < 0.9
    assert np.array_equal(theirs[:, 2:], ours[:, :-2])  # one step late per block
    assert np.array_equal(ours, oracle.simulate(plain, spikes).output_spikes)


@pytest.mark.lava
def test_slayer_blocks_that_depend_on_a_number_are_refused():
    with pytest.raises(InputError, match="item of spikes"):
        from_torch(Tutorial("stops"), (12,))
