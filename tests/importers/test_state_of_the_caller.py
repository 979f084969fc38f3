"""States that the caller does not pass on, or passes as something else: refused with what to pass."""

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

N_IN, N_OUT = 16, 12


class Cell(nn.Module):
    """One layer of norse, per step or in a loop over time, whose state is dropped."""

    def __init__(self, loop):
        super().__init__()
        torch.manual_seed(0)
        p = peers.package("norse.torch.functional.lif").LIFParameters(v_th=torch.tensor(0.1))
        self.loop, self.fc = loop, peers.linear(N_IN, N_OUT, 3.0)
        self.cell = peers.package("norse.torch").LIFCell(p)

    def forward(self, x):
        return (
            torch.stack([self.cell(self.fc(now))[0] for now in x]) if self.loop else self.cell(self.fc(x))[0]
        )


@pytest.mark.parametrize("loop", [True, False])
def test_a_cell_without_its_state(loop):
    model = Cell(loop)
    x = torch.ones(3, 1, N_IN)
    steps = model(x) if loop else torch.stack([model(now) for now in x])
    assert torch.equal(steps[0], steps[2]), "ground truth: no step knows of those before"
    with pytest.raises(
        InputError, match="state-dropped: module 'cell': starts from rest in every step"
    ) as caught:
        from_torch(model, (N_IN,))
    assert "output, state = cell(x, state)" in str(caught.value)


class Swapped(nn.Module):
    """snnTorch's (spk, mem), taken as (mem, spk)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = peers.linear(N_IN, N_OUT, 3.0), peers.package("snntorch").Leaky(beta=0.9)

    def forward(self, x):
        mem, outputs = self.lif.init_leaky(), []
        for now in x:
            mem, spikes = self.lif(self.fc(now), mem)
            outputs.append(spikes)
        return torch.stack(outputs)


def test_spikes_in_place_of_the_voltage():
    with pytest.raises(InputError, match="module 'lif': is handed its spikes as its state"):
        from_torch(Swapped(), (N_IN,))


class Recurrent(nn.Module):
    """snnTorch's RLeaky, whose state is its spikes and its voltage."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = peers.linear(N_IN, N_OUT, 3.0)
        self.lif = peers.package("snntorch").RLeaky(beta=0.9, linear_features=N_OUT, reset_mechanism="zero")

    def forward(self, x):
        (spikes, mem), outputs = self.lif.init_rleaky(), []
        for now in x:
            spikes, mem = self.lif(self.fc(now), spikes, mem)
            outputs.append(spikes)
        return torch.stack(outputs)


def test_spikes_among_the_states_are_passed_on():
    model = Recurrent()
    spikes = (np.random.default_rng(0).random((3, 40, N_IN)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    ours = oracle.simulate(from_torch(model, (N_IN,)), spikes).output_spikes
    assert 0.05 < ours.mean() < 0.95
    assert np.abs(theirs - ours).sum() == 0


class TwoStates(Cell):
    """Per step, with the states of two cells as arguments of their own, which come back as one tuple."""

    def __init__(self):
        super().__init__(loop=False)
        self.out, self.last = peers.linear(N_OUT, 4, 3.0), type(self.cell)(self.cell.p)

    def forward(self, x, first=None, second=None):
        spikes, first = self.cell(self.fc(x), first)
        spikes, second = self.last(self.out(spikes), second)
        return spikes, (first, second)


def test_states_that_come_back_as_one_tuple_go_to_their_arguments():
    model, states, outputs = TwoStates(), (None, None), []
    spikes = (np.random.default_rng(0).random((3, 40, N_IN)) < 0.3).astype(np.uint8)
    for now in torch.from_numpy(spikes).float().unbind(1):
        out, states = model(now, *states)
        outputs.append(out)
    theirs = torch.stack(outputs, dim=1).detach().numpy()
    ours = oracle.simulate(from_torch(model, (N_IN,)), spikes).output_spikes
    assert 0.05 < ours.mean() < 0.95
    assert np.abs(theirs - ours).sum() == 0


class Normalized(nn.Module):
    """One BatchNorm per step, as BNTT has it."""

    def __init__(self, n_steps):
        super().__init__()
        torch.manual_seed(0)
        self.norms = nn.ModuleList(nn.BatchNorm1d(N_OUT) for _ in range(n_steps))
        for norm in self.norms:
            norm.running_var.uniform_(0.5, 1.5)
        self.fc, self.lif = peers.linear(N_IN, N_OUT, 3.0), peers.package("snntorch").Leaky(beta=0.9)

    def forward(self, x):
        mem, outputs = self.lif.init_leaky(), []
        for now, norm in zip(x, self.norms, strict=False):
            spikes, mem = self.lif(norm(self.fc(now)), mem)
            outputs.append(spikes)
        return torch.stack(outputs)


def test_a_norm_for_each_step():
    with pytest.raises(InputError, match=r"changes-over-time: module 'lif'.*train with one for all steps"):
        from_torch(Normalized(6), (N_IN,))


def test_the_same_norm_in_each_step_is_one():
    model = Normalized(1).eval()
    model.norms.extend([model.norms[0]] * 200)
    assert from_torch(model, (N_IN,)).n_weights >= N_IN * N_OUT


@pytest.mark.parametrize("function", [torch.argmax, torch.softmax, torch.log_softmax])
def test_the_class_is_the_readouts(function):
    class Classes(Normalized):
        def forward(self, x):
            return function(super().forward(x).sum(0), -1)

    model = Classes(1)
    model.norms.extend([model.norms[0]] * 200)
    with pytest.raises(InputError, match="return what it is taken of: the readout gives the class"):
        from_torch(model, (N_IN,))
