"""Models that compute in half precision: imported without its rounding, which a note says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_OUT = 32, 16


class Net(nn.Module):
    """One layer over time; with ``inside``, under autocast to bfloat16, by a cast of its currents, or by neither."""

    def __init__(self, inside=""):
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.fc = inside, peers.linear(N_IN, N_OUT, 3.0)
        self.lif = peers.package("snntorch").Leaky(beta=0.9, reset_mechanism="zero")

    def forward(self, x):
        mem, outputs = self.lif.init_leaky(), []
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.inside == "autocast"):
            for now in x:
                current = self.fc(now)
                current = current.half().float() if self.inside == "cast" else current
                spikes, mem = self.lif(current, mem)
                outputs.append(spikes)
        return torch.stack(outputs)


def outputs(model):
    """The model's own, and those of its network."""
    spikes = (np.random.default_rng(0).random((8, 200, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    return theirs, oracle.simulate(network, spikes).output_spikes, network


@pytest.mark.parametrize(("inside", "named"), [("autocast", "bfloat16"), ("cast", "float16")])
def test_rounding_is_left_out_and_noted(inside, named):
    theirs, ours, network = outputs(Net(inside))
    assert 0 < np.abs(theirs - ours).mean() < 0.02, "ground truth: the model's own rounding shows"
    plain, _, _ = outputs(Net())
    assert np.abs(plain - ours).sum() == 0
    (note,) = network.meta["notes"]
    assert f"computes in {named} at {__file__}" in note


def test_weights_in_half_precision_are_noted():
    model = Net().to(torch.bfloat16)
    network = from_torch(model, (N_IN,))
    assert network.meta["notes"][0].startswith("the model computes in bfloat16; ")
    theirs, ours, wide = outputs(model.float())  # the same weights
    assert np.abs(theirs - ours).sum() == 0
    assert network.projections == wide.projections


def test_other_models_have_no_note():
    assert "notes" not in from_torch(Net().double(), (N_IN,)).meta
