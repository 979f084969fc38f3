"""A last layer whose threshold is never reached: its voltage at the last step, or at all of them, as the model returns it."""

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

N_IN, N_HIDDEN, N_OUT, SAMPLES, STEPS = 12, 10, 5, 3, 30


class Jelly(nn.Module):
    """spikingjelly with all steps in a call; ``read`` takes what is returned from the last neurons and their spikes."""

    def __init__(self, read, store_v_seq=False):
        super().__init__()
        layer, neuron, functional = (
            peers.package(f"spikingjelly.activation_based.{name}")
            for name in ("layer", "neuron", "functional")
        )
        torch.manual_seed(0)
        last = neuron.LIFNode(tau=3.0, v_threshold=float("inf"), store_v_seq=store_v_seq)
        self.fc1, self.hidden = layer.Linear(N_IN, N_HIDDEN), neuron.LIFNode(tau=2.0)
        self.fc2, self.last, self.read = layer.Linear(N_HIDDEN, N_OUT), last, read
        nn.init.normal_(self.fc1.weight, 0.4, 0.8)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.read(self.last, self.last(self.fc2(self.hidden(self.fc1(x)))))


class Torch(nn.Module):
    """snnTorch with a loop over the steps; ``read`` takes what is returned from the last spikes and voltages."""

    def __init__(self, read, reset="zero"):
        super().__init__()
        last = {"threshold": float("inf"), "reset_mechanism": reset}
        leaky, self.read = peers.package("snntorch").Leaky, read
        torch.manual_seed(0)
        self.fc1, self.fc2 = peers.linear(N_IN, N_HIDDEN, 4.0), peers.linear(N_HIDDEN, N_OUT, 4.0)
        self.l1, self.l2 = leaky(beta=0.8, reset_mechanism="zero"), leaky(beta=0.8, **last)

    def forward(self, x):
        mem1, mem2, spikes, voltages = self.l1.init_leaky(), self.l2.init_leaky(), [], []
        for current in x:
            hidden, mem1 = self.l1(self.fc1(current), mem1)
            out, mem2 = self.l2(self.fc2(hidden), mem2)
            spikes.append(out)
            voltages.append(mem2)
        return self.read(torch.stack(spikes), torch.stack(voltages))


LAST, MEAN = ("membrane_last", lambda v: v[:, -1]), ("membrane_mean", lambda v: v.mean(1))
MODELS = {
    "spikingjelly, v": (lambda: Jelly(lambda last, spikes: last.v), LAST),
    "spikingjelly, v of kept voltages": (lambda: Jelly(lambda last, spikes: last.v, True), LAST),
    "spikingjelly, v beside spikes": (lambda: Jelly(lambda last, spikes: (last.v, spikes)), LAST),
    "spikingjelly, v_seq": (lambda: Jelly(lambda last, spikes: last.v_seq.mean(0), True), MEAN),
    "snnTorch, last beside spikes": (lambda: Torch(lambda spikes, mem: (mem[-1], spikes)), LAST),
    "snnTorch, mean beside spikes": (lambda: Torch(lambda spikes, mem: (mem.mean(0), spikes)), MEAN),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_readout_is_what_the_model_returns(name, rng):
    make, (kind, read) = MODELS[name]
    model = make()
    network = from_torch(model, N_IN)
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.4).astype(np.uint8)
    with torch.no_grad():
        result = model(torch.from_numpy(spikes).float().transpose(0, 1).contiguous())
    theirs = (result[0] if isinstance(result, tuple) else result).numpy()
    assert network.readout.kind == kind
    assert theirs.std() > 0.1
    np.testing.assert_allclose(read(oracle.simulate(network, spikes).output), theirs, rtol=0, atol=1e-4)


def test_snntorchs_reset_by_an_infinite_threshold_is_refused():
    def build():
        return Torch(lambda spikes, mem: mem, reset="subtract")

    with torch.no_grad():
        assert build()(torch.ones(2, 1, N_IN)).isnan().all()
    with pytest.raises(
        InputError, match=r"module 'l2': subtracts an infinite threshold; allowed: 'none' .*NaN; fix: "
    ):
        from_torch(build(), N_IN)


class Undefined(nn.Module):
    """0 / 0 in an operation that stands between the neurons."""

    def forward(self, x):
        return x * (torch.zeros(1) / torch.zeros(1))


def test_a_current_that_is_no_number_is_a_difference():
    leaky = peers.package("snntorch").Leaky
    model = nn.Sequential(nn.Linear(N_IN, N_OUT), Undefined(), leaky(beta=0.5, init_hidden=True))
    with pytest.raises(InputError, match=r"not-finite: module '2': takes in [0-9]+ NaN or infinite weights"):
        from_torch(model, N_IN)
