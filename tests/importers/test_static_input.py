"""Models with a time loop of their own over one static input: equal to their own forward."""

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


class Tutorial(nn.Module):
    """snnTorch's tutorial 5: the same sample in ``count`` steps, or in ``num_steps`` (without ``count``)."""

    def __init__(self, count):
        super().__init__()
        snn = peers.package("snntorch")
        self.count = count
        self.fc1, self.fc2 = peers.linear(16, 20, 2.0), peers.linear(20, 5, 3.0)
        self.lif1 = snn.Leaky(beta=0.9, reset_mechanism="zero")
        self.lif2 = snn.Leaky(beta=0.8, reset_mechanism="zero")

    def steps(self, x, n_steps):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        found = []
        for _ in range(n_steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            found.append(spk2)
        return torch.stack(found)


class Fixed(Tutorial):
    def forward(self, x):
        return self.steps(x, self.count)


class Given(Tutorial):
    def forward(self, x, num_steps=8):
        return self.steps(x, num_steps)


class OneMore(Tutorial):
    def forward(self, x, num_steps):
        return self.steps(x, num_steps + 1)


class Sliced(Tutorial):
    """Takes the first ``count`` steps of a longer input."""

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        found = []
        for step in range(self.count):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            found.append(spk2)
        return torch.stack(found)


def theirs(model, *args):
    with torch.no_grad():
        return model(*args).transpose(0, 1).numpy()


@pytest.mark.parametrize("count", [2, 6, 7, 25, 60])
def test_a_number_of_steps_of_the_models_own(count, rng):
    torch.manual_seed(count)
    model = Fixed(count)
    network = from_torch(model, (16,))
    x = (rng.random((6, 16)) < 0.3).astype(np.uint8)
    ours = oracle.simulate(network, np.repeat(x[:, None], count, axis=1)).output_spikes
    assert count < 6 or 0.01 < ours.mean() < 0.98
    assert np.array_equal(ours, theirs(model, torch.from_numpy(x).float()))


@pytest.mark.parametrize("n_steps", [5, 8, 50])
def test_an_argument_for_the_number_of_steps(n_steps, rng):
    torch.manual_seed(1)
    model = Given(None)
    network = from_torch(model, (16,))
    x = (rng.random((6, 16)) < 0.3).astype(np.uint8)
    ours = oracle.simulate(network, np.repeat(x[:, None], n_steps, axis=1)).output_spikes
    assert 0.01 < ours.mean() < 0.95
    assert np.array_equal(ours, theirs(model, torch.from_numpy(x).float(), n_steps))


@pytest.mark.parametrize("count", [6, 25])
def test_a_constant_number_of_steps_of_the_input(count, rng):
    torch.manual_seed(2)
    model = Sliced(count)
    network = from_torch(model, (16,))
    x = (rng.random((6, count, 16)) < 0.4).astype(np.uint8)
    ours = oracle.simulate(network, x).output_spikes
    assert 0.01 < ours.mean() < 0.95
    assert np.array_equal(ours, theirs(model, torch.from_numpy(x).float().transpose(0, 1)))


def test_a_number_of_steps_that_is_neither_is_refused():
    torch.manual_seed(3)
    with pytest.raises(InputError, match=r"lif1.*takes more than the 7 steps"):
        from_torch(OneMore(None), (16,))
