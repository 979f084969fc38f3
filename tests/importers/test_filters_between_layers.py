"""A sum of all earlier spikes between two layers: imported where the steps of a trace hold it, otherwise refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.importers.torch import model as model_module
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # snnTorch's own

N_IN, N_HIDDEN, N_OUT, SAMPLES, STEPS = 8, 6, 4, 3, 150


@pytest.fixture(autouse=True)
def _short_traces(monkeypatch):
    """The longer traces take 40 steps instead of 128: as many as the comparison of several samples."""
    monkeypatch.setattr(model_module, "LATE_STEPS", (40,))


class Traces(nn.Module):
    """The second layer takes in traces of the spikes of the first."""

    def __init__(self, decay: float):
        super().__init__()
        snn, self.decay = peers.package("snntorch"), decay
        torch.manual_seed(0)
        self.fc1, self.fc2 = peers.linear(N_IN, N_HIDDEN, 3.0), peers.linear(N_HIDDEN, N_OUT, 1.0)
        self.l1, self.l2 = (snn.Leaky(beta=0.8, reset_mechanism="zero") for _ in "12")

    def forward(self, x):
        mem1, mem2, trace, spikes = self.l1.init_leaky(), self.l2.init_leaky(), 0.0, []
        for current in x:
            hidden, mem1 = self.l1(self.fc1(current), mem1)
            trace = self.decay * trace + hidden
            out, mem2 = self.l2(self.fc2(trace), mem2)
            spikes.append(out)
        return torch.stack(spikes)


def test_a_short_memory_is_as_many_delays(rng):
    model = Traces(0.25)
    network = from_torch(model, N_IN)
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.02 < theirs.mean() < 0.95
    assert np.array_equal(oracle.simulate(network, spikes).output, theirs)


def test_a_memory_beyond_the_trace_is_refused():
    """At 0.7 what a filter of 40 steps lacks is below a millionth: no spike of 120 more shows it, but the currents do."""
    with pytest.raises(
        InputError, match="not-as-it-runs: module 'l2': at step 6 a current into neuron 0 differs"
    ):
        from_torch(Traces(0.7), N_IN)
