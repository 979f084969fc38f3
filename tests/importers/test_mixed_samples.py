"""Models whose samples depend on each other are refused under every calling convention; what is over neurons is imported."""

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

N_IN, N_HIDDEN, N_OUT = 16, 12, 8


class OverTime(nn.Module):
    """Two layers in a loop over ``axis``, or without one; ``changed`` changes the currents (samples, neurons) of a step."""

    def __init__(self, axis, changed=lambda current: current):
        super().__init__()
        torch.manual_seed(0)
        snn = peers.package("snntorch")
        self.axis, self.changed = axis, changed
        self.first, self.second = peers.linear(N_IN, N_HIDDEN, 3.0), peers.linear(N_HIDDEN, N_OUT, 3.0)
        self.hidden, self.out = (snn.Leaky(beta=0.9, reset_mechanism="zero") for _ in range(2))

    def step(self, x, mem1, mem2):
        spikes, mem1 = self.hidden(self.changed(self.first(x)), mem1)
        spikes, mem2 = self.out(self.second(spikes), mem2)
        return spikes, mem1, mem2

    def forward(self, x, mem1=None, mem2=None):
        mem1 = self.hidden.init_leaky() if mem1 is None else mem1
        mem2 = self.out.init_leaky() if mem2 is None else mem2
        if self.axis is None:
            return self.step(x, mem1, mem2)
        outputs = []
        for now in x.unbind(self.axis):
            spikes, mem1, mem2 = self.step(now, mem1, mem2)
            outputs.append(spikes)
        return torch.stack(outputs, dim=self.axis)


MIXING = {
    "mean subtracted": lambda c: c - 0.5 * c.mean(0, keepdim=True),
    "mean alone": lambda c: c - c.mean(0, keepdim=True) + 0.2,
    "mean of all": lambda c: c + 0.3 * c.mean(),
    "reversed": lambda c: c.flip(0),
    "shifted": lambda c: c + c.roll(1, 0),
    "the first": lambda c: c[:1].expand_as(c),
    "their number": lambda c: c / c.shape[0],
}


@pytest.mark.parametrize("axis", [0, 1, None], ids=["time first", "batch first", "per step"])
@pytest.mark.parametrize("name", MIXING)
def test_samples_that_depend_on_each_other(name, axis):
    model = OverTime(axis, MIXING[name])
    with torch.no_grad():
        x = (torch.rand(3, N_IN) < 0.5).float()
        mixed = model.changed(model.first(x))
        alone = torch.cat([model.changed(model.first(sample[None])) for sample in x])
    assert not torch.allclose(mixed, alone), "ground truth: a sample's current depends on the others"
    with pytest.raises(InputError, match="when other samples are in the batch") as caught:
        from_torch(model, (N_IN,))
    assert [problem.code for problem in caught.value.problems] == ["batch-mixed"]
    assert "mean(-1)" in str(caught.value)


@pytest.mark.parametrize("changed", [lambda c: c, lambda c: c - 0.5 * c.mean(-1, keepdim=True) + 0.1])
@pytest.mark.parametrize("alone", [False, True])
def test_a_mean_over_neurons_is_followed(changed, alone):
    model = OverTime(0, changed)
    spikes = (np.random.default_rng(0).random((4, 40, N_IN)) < 0.3).astype(np.uint8)
    x = torch.from_numpy(spikes).float()
    with torch.no_grad():
        theirs = (
            torch.stack([model(sample) for sample in x])
            if alone
            else model(x.transpose(0, 1)).transpose(0, 1)
        )
    ours = oracle.simulate(from_torch(model, (N_IN,)), spikes).output_spikes
    assert 0.05 < ours.mean() < 0.95
    assert np.abs(theirs.numpy() - ours).sum() == 0


def test_random_numbers_are_no_mixing():
    """Random currents after the steps of a trace differ from run to run, with any samples beside."""
    model = OverTime(0, lambda c: c + 3.0 * (torch.rand(c.shape[0], 1) < 0.02))
    with pytest.raises(InputError, match="random number"):
        from_torch(model, (N_IN,))
