"""Models that return more than one sequence: the layer that is read is the one to which all others lead."""

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
    """A hidden layer, and two layers that both take its spikes, of which ``output`` makes the result."""

    def __init__(self, output, reset="zero"):
        super().__init__()
        snn = peers.package("snntorch")
        torch.manual_seed(0)
        self.fc, self.main, self.side = (peers.linear(a, b, 4.0) for a, b in ((12, 8), (8, 5), (8, 3)))
        self.l1, self.l3 = (snn.Leaky(beta=0.8, reset_mechanism="zero") for _ in "13")
        self.l2, self.output = snn.Leaky(beta=0.8, reset_mechanism=reset), output

    def forward(self, x):
        mem1, mem2, mem3 = self.l1.init_leaky(), self.l2.init_leaky(), self.l3.init_leaky()
        found = {"hidden": [], "main": [], "voltage": [], "side": []}
        for current in x:
            hidden, mem1 = self.l1(self.fc(current), mem1)
            main, mem2 = self.l2(self.main(hidden), mem2)
            side, mem3 = self.l3(self.side(hidden), mem3)
            for name, value in (("hidden", hidden), ("main", main), ("voltage", mem2), ("side", side)):
                found[name].append(value)
        return self.output({name: torch.stack(values) for name, values in found.items()})


def compare(model, name, rng):
    """The network's output beside the part of the model's own that is expected to be read."""
    network = from_torch(model, (12,))
    spikes = (rng.random((3, 30, 12)) < 0.4).astype(np.uint8)
    model.output = lambda found: found[name]
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    ours = oracle.simulate(network, spikes).output
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * abs(theirs).max())  # theirs is in float32
    return network


@pytest.mark.parametrize(
    "names", [("main", "hidden"), ("hidden", "main"), ("main", "voltage"), ("main", "hidden", "voltage")]
)
@pytest.mark.parametrize("make", [list, tuple, dict])
def test_hidden_layers_beside_the_last_one(make, names, rng):
    def output(found):
        chosen = {name: found[name] for name in names}
        return chosen if make is dict else make(chosen.values())

    assert compare(Net(output), "main", rng).readout.kind == "spike_count"


@pytest.mark.parametrize("names", [("voltage", "hidden"), ("hidden", "voltage"), ("main", "voltage")])
def test_the_last_voltages_beside_spikes(names, rng):
    model = Net(lambda found: tuple(found[name] for name in names), reset="none")
    assert compare(model, "voltage", rng).readout.kind == "membrane_mean"


@pytest.mark.parametrize("reset", ["zero", "none"])
@pytest.mark.parametrize("names", [("main", "side"), ("side", "main"), ("hidden", "side", "main")])
def test_two_heads_are_refused_with_their_names(names, reset):
    name = {"zero": "main", "none": "voltage"}[reset]
    model = Net(lambda found: {key: found[name if key == "main" else key] for key in names}, reset)
    with pytest.raises(
        InputError,
        match=r"readout: the model's output: holds .*of module 'l[23]' and of module 'l[23]'; .*one",
    ):
        from_torch(model, (12,))


def test_spikes_that_are_multiplied_in_the_last_layer(rng):
    model = Net(lambda found: found["main"])
    model.l2.graded_spikes_factor.fill_(0.75)
    network = from_torch(model, (12,))
    spikes = (rng.random((3, 30, 12)) < 0.4).astype(np.uint8)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    assert theirs.any()
    assert np.array_equal(oracle.simulate(network, spikes).output_spikes * np.float32(0.75), theirs)
