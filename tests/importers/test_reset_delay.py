"""The advice for neurons that reset one step late, which Lava has no process for: what it names is imported, and Lava runs it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lbi.exporters import lava
from support import peers
from torch import nn

import lbi
from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # snnTorch's own

N_IN, N_HIDDEN = 24, 16
KEPT = {"beta": 0.9, "reset_mechanism": "zero"}


class Net(nn.Module):
    """A recurrent hidden layer in a loop over time: a neuron of that class, or its spikes fed back through a Linear."""

    def __init__(self, kind, **options):
        super().__init__()
        snn = peers.package("snntorch")
        torch.manual_seed(0)
        self.inward, self.out = peers.linear(N_IN, N_HIDDEN, 2.0), peers.linear(N_HIDDEN, 4, 4.0)
        own = {"linear_features": N_HIDDEN} if kind.startswith("R") else {}
        alpha = {"alpha": 0.6} if "Synaptic" in kind else {}
        self.hidden = getattr(snn, kind)(**KEPT, **own, **alpha, **options)
        self.back = None if own else nn.Linear(N_HIDDEN, N_HIDDEN)
        self.last = snn.Leaky(**KEPT)

    def forward(self, x):
        spikes, outputs = torch.zeros(x.shape[1], N_HIDDEN), []
        states = [
            spikes.clone() for _ in self.hidden.reset_mem()
        ]  # the spikes are one of them in recurrent classes
        last = self.last.reset_mem()
        for current in x:
            entering = self.inward(current)
            if self.back is not None:
                entering = entering + self.back(spikes)
            spikes, *rest = self.hidden(entering, *states)
            states = rest if self.back is not None else [spikes, *rest]
            output, last = self.last(self.out(spikes), last)
            outputs.append(output)
        return torch.stack(outputs)


NAMED = {
    "RLeaky": lambda: Net("RLeaky", reset_delay=False),
    "Synaptic and a Linear": lambda: Net("Synaptic", reset_delay=False),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_the_advice_names_equals_snntorch_and_is_a_process_of_lavas(name, rng):
    model = NAMED[name]().eval()
    spikes = (rng.random((3, 30, N_IN)) < 0.2).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.95
    assert np.abs(theirs - ours).sum() == 0
    assert lava.check_network(lbi.quantize(network, "loihi2")) == []


@pytest.mark.parametrize("kind", ["RLeaky", "RSynaptic"])
def test_a_late_reset_is_imported_and_the_advice_names_what_is_tried_here(kind):
    fixed = lbi.quantize(from_torch(Net(kind).eval(), (N_IN,)), "loihi2")
    (problem,) = lava.check_network(fixed)
    for words in ("Synaptic and RLeaky with reset_delay=False", "for RSynaptic", "through a torch.nn.Linear"):
        assert words in problem.remedy


def test_rsynaptic_with_an_immediate_reset_is_refused_since_snntorch_does_not_reset_it():
    with pytest.raises(InputError, match=r"reset-delay: module 'hidden'.*fix:.*reset_delay=True; .*Synaptic"):
        from_torch(Net("RSynaptic", reset_delay=False).eval(), (N_IN,))
