"""Convolutions over the steps of a sample: refused by that name, and imported in the form that the fix names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as users write it

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT, WINDOW = 12, 10, 6, 3


class Net(nn.Module):
    """Two layers of spikingjelly's neurons, all steps in a call; ``between`` is what the second takes in of (samples, n, steps)."""

    def __init__(self, between, window=WINDOW):
        super().__init__()
        neuron = peers.package("spikingjelly.activation_based.neuron")
        torch.manual_seed(0)
        self.fc, self.conv = peers.linear(N_IN, N_HIDDEN, 4.0), nn.Conv1d(N_HIDDEN, N_OUT, window)
        nn.init.normal_(self.conv.weight, 0.3, 0.8)
        self.first, self.second = (neuron.LIFNode(step_mode="m") for _ in range(2))
        self.between = between

    def forward(self, x):
        spikes = self.first(self.fc(x))
        return self.second(self.between(self, spikes.permute(1, 2, 0)).permute(2, 0, 1))


def causal(net, spikes):
    return net.conv(F.pad(spikes, (WINDOW - 1, 0)))


def taps(net, spikes):
    """The same in the form that the fix names: one Linear per step of the window."""
    total = 0
    for back in range(WINDOW):
        late = F.pad(spikes, (back, 0))[..., : spikes.shape[-1]]
        bias = net.conv.bias if back == 0 else None
        total = total + F.linear(late.transpose(1, 2), net.conv.weight[..., WINDOW - 1 - back], bias)
    return total.transpose(1, 2)


CONVOLVED = r"over-time: module 'conv': a convolution over time, with a window of 3 steps; allowed: .*one step at a time; fix: "
REFUSED = {
    "causal": (lambda: Net(causal), CONVOLVED + ".*synapses with delays"),
    "cut at the end": (
        lambda: Net(lambda net, spikes: F.conv1d(spikes, net.conv.weight, padding=2)[..., :-2]),
        "over-time: .*a convolution over time, with a window of 3 steps",
    ),
    "of both sides": (
        lambda: Net(lambda net, spikes: net.conv(F.pad(spikes, (1, 1)))),
        CONVOLVED,
    ),
    "fewer steps": (lambda: Net(lambda net, spikes: net.conv(spikes)), CONVOLVED),
    "one step": (
        lambda: Net(lambda net, spikes: net.conv(spikes), window=1),
        "over-time: .*with a window of 1 step; .*fix: use a Linear over the channels",
    ),
    "average": (
        lambda: Net(lambda net, spikes: F.avg_pool1d(F.pad(spikes, (2, 0)), WINDOW, 1)[:, :N_OUT]),
        "over-time: .*an average over time, with a window of 3 steps",
    ),
    "maximum": (
        lambda: Net(lambda net, spikes: F.max_pool1d(F.pad(spikes, (2, 0)), WINDOW, 1)[:, :N_OUT]),
        "over-time: .*a maximum over time, with a window of 3 steps; .*fix: take the maximum within a step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_window_over_steps_is_refused_as_that(name):
    make, text = REFUSED[name]
    with pytest.raises(InputError, match=text):
        from_torch(make(), N_IN)


def test_a_convolution_over_time_behind_the_last_spikes_is_refused_as_that():
    model = Net(causal)
    model.second = nn.Identity()
    with pytest.raises(InputError, match=CONVOLVED):
        from_torch(model, N_IN)


def test_what_the_fix_names_is_imported_with_delays(rng):
    network = from_torch(Net(taps), N_IN)
    assert sorted(p.max_delay for p in network.projections) == [0, *range(WINDOW)]
    spikes = (rng.random((4, 40, N_IN)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        theirs = Net(causal)(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.05 < theirs.mean() < 0.95
    assert np.array_equal(oracle.simulate(network, spikes).output_spikes, theirs)
